//! Daemons that pull: through a window, what they are shown, and without a credential.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use assay_process::Cmd;
use assay_registry::{BringFailure, Brought, Credentials, Session};
use assay_swarm::{Daemon, DaemonConfig, ImageIdentity};
use tempfile::TempDir;

use crate::world::{PASSWORD, USER, Upstream, bring, files_with};

const LIMIT: Duration = Duration::from_mins(2);

struct World {
    daemon: Daemon,
    folder: TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = DaemonConfig { folder: folder.path().join("d"), log: folder.path().join("dockerd.log") };
        Self { daemon: Daemon::start(&config).await.unwrap(), folder }
    }

    /// Pulls an image through a window and calls it by its name.
    async fn pull(&self, session: &Session, image: &Brought) -> ImageIdentity {
        let listener = self.daemon.reach().unwrap().listen(0).await.unwrap();
        let address = listener.local_addr().unwrap();
        let window = session.window(listener);
        window.show(image);
        let images = self.daemon.swarm().images();
        let name = format!("{address}/{}", image.pull_as());
        images.pull(&name, LIMIT).await.unwrap();
        images.rename(&name, "shop/web:1").await.unwrap();
        assert_eq!(images.identity(&name).await.unwrap(), None, "it has one name");
        images.identity("shop/web:1").await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_second_daemon_gets_the_image_without_a_byte_from_outside() {
    let mut upstream = Upstream::start().await;
    upstream.push("shop/web:1", "for daemons").await;
    let folder = tempfile::tempdir().unwrap();
    let session = upstream.cache(folder.path()).open().await.unwrap();
    let image = bring(&session, "docker.io/shop/web:1").await.unwrap();
    let first = World::start().await;
    let in_first = first.pull(&session, &image).await;
    assert!(in_first.id.starts_with("sha256:"), "{in_first:?}");
    session.close().await;
    first.daemon.stop().await.unwrap();

    // Not even reachable.
    upstream.go_away().await;
    let session = upstream.cache(folder.path()).open().await.unwrap();
    let image = bring(&session, "docker.io/shop/web:1").await.unwrap();
    let second = World::start().await;
    assert_eq!(second.pull(&session, &image).await.id, in_first.id);
    assert_eq!(session.fetched().blob_bytes + session.fetched().manifest_bytes, 0);
    session.close().await;
    second.daemon.stop().await.unwrap();
}

#[tokio::test]
async fn through_the_window_there_is_what_was_shown_and_nothing_else() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let session = upstream.cache(folder.path()).open().await.unwrap();
    upstream.push("shop/web:1", "shown").await;
    upstream.push("shop/private:1", "another run's").await;
    let shown = bring(&session, "docker.io/shop/web:1").await.unwrap();
    let hidden = bring(&session, "docker.io/shop/private:1").await.unwrap();
    let world = World::start().await;
    let listener = world.daemon.reach().unwrap().listen(0).await.unwrap();
    let address = listener.local_addr().unwrap();
    let window = session.window(listener);
    window.show(&shown);

    let manifest = |image: &Brought| {
        let pull_as = image.pull_as();
        let (repository, digest) = pull_as.split_once('@').unwrap();
        format!("/v2/{repository}/manifests/{digest}")
    };
    let cases = [
        ("GET", manifest(&shown), "200"),
        ("GET", manifest(&hidden), "404"),
        ("GET", "/v2/docker.io/shop/web/tags/list".to_owned(), "404"),
        ("GET", "/v2/_catalog".to_owned(), "404"),
        ("DELETE", manifest(&shown), "405"),
        ("POST", "/v2/docker.io/shop/web/blobs/uploads/".to_owned(), "405"),
    ];
    for (method, path, expected) in cases {
        let curl = world.daemon.command_inside("curl");
        let accept = "Accept: application/vnd.docker.distribution.manifest.v2+json";
        let asked = curl
            .args([
                "--silent",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
                "-X",
                method,
                "-H",
                accept,
            ])
            .arg(format!("http://{address}{path}"));
        let status = String::from_utf8(asked.run_ok().await.unwrap().stdout).unwrap();
        assert_eq!(status, expected, "{method} {path}");
    }
    drop(window);
    session.close().await;
    world.daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_daemon_never_sees_the_login() {
    let upstream = Upstream::start_with(true, 0).await;
    upstream.push("shop/web:1", "private").await;
    let folder = tempfile::tempdir().unwrap();
    let stranger = upstream.cache(folder.path()).open().await.unwrap();
    let refused = bring(&stranger, "docker.io/shop/web:1").await.unwrap_err();
    assert_eq!(refused.class, BringFailure::Denied, "{refused}");
    assert!(refused.message.contains("--registry-auth"), "{refused}");
    stranger.close().await;

    let logins = tempfile::tempdir().unwrap();
    let credentials = credentials_in(logins.path()).await;
    let session = upstream.cache_with(folder.path(), credentials).open().await.unwrap();
    let image = bring(&session, "docker.io/shop/web:1").await.unwrap();
    let world = World::start().await;
    world.pull(&session, &image).await;
    let encoded = encoded().await;
    for secret in [PASSWORD, encoded.as_str()] {
        for place in [folder.path(), world.folder.path()] {
            let found = files_with(place, secret);
            assert!(found.is_empty(), "{found:?}");
        }
    }
    assert!(!format!("{session:?} {image:?}").contains(PASSWORD));
    session.close().await;
    world.daemon.stop().await.unwrap();
}

/// User and password as they stand in Docker's file.
async fn encoded() -> String {
    let made = Cmd::new("base64").arg("-w0").stdin(format!("{USER}:{PASSWORD}")).run_ok().await.unwrap();
    String::from_utf8(made.stdout).unwrap()
}

async fn credentials_in(folder: &Path) -> Credentials {
    let path = folder.join("config.json");
    let auth = encoded().await;
    let content = serde_json::json!({"auths": {"https://index.docker.io/v1/": {"auth": auth}}});
    std::fs::write(&path, content.to_string()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = Credentials::read(&path).unwrap_err().to_string();
    assert!(open.contains("chmod 600"), "{open}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Credentials::read(&path).unwrap()
}
