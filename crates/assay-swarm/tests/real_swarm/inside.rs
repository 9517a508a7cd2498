//! Commands in containers, files in and out of containers and volumes, images in and not there.

use std::{io::Read, time::Duration};

use assay_recipe::compose::model::{Compose, Mount, MountSource, Service, Volume};
use assay_swarm::{ContainerCommand, Daemon, PullFailure, SwarmError, Swept, needed_images};

use crate::world::{IMAGE, World, map, service};

pub(crate) async fn commands_run_and_files_go_in_and_out(world: &World) {
    let swarm = world.swarm();
    let source = MountSource::Volume { name: "data".to_owned(), nocopy: false };
    let mount = Mount { source, target: "/data".to_owned(), read_only: false };
    let compose = Compose {
        services: map([("app", Service { mounts: vec![mount], ..service("sleep 1000") })]),
        volumes: map([("data", Volume::default())]),
        ..Compose::default()
    };
    assert!(matches!(
        swarm.open_volume("in_data", IMAGE).await.unwrap_err(),
        SwarmError::Missing { kind: "volume", .. }
    ));
    world.up("in", &compose).await;
    let container = swarm.container_of("in", "in_app").await.unwrap();
    let limit = Duration::from_secs(20);

    let mut command = ContainerCommand::shell("cat > /data/note; echo $GREETING; echo oh >&2; exit 4");
    command.input = b"from outside\n".to_vec();
    command.environment = vec![("GREETING".to_owned(), "good day".to_owned())];
    let output = swarm.exec(&container, &command, limit).await.unwrap();
    assert_eq!(
        (output.exit_code, output.stdout.as_slice(), output.stderr.as_slice()),
        (4, &b"good day\n"[..], &b"oh\n"[..])
    );
    let slow = ContainerCommand::shell("sleep 1000");
    let error = swarm.exec(&container, &slow, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, SwarmError::Timeout { .. }), "{error}");
    let error = swarm.container_of("in", "in_nobody").await.unwrap_err();
    assert!(matches!(error, SwarmError::Missing { .. }), "{error}");

    // What the container wrote is in its volume; what is put there is in the container.
    let mut note = Vec::new();
    let bytes = swarm.copy_out(&container, "/data/note", &mut note).await.unwrap();
    assert_eq!((file_in(&note).as_str(), bytes), ("from outside\n", note.len() as u64));
    assert!(swarm.copy_out(&container, "/data/nothing", &mut note).await.unwrap_err().is_not_found());
    let files = swarm.open_volume("in_data", IMAGE).await.unwrap();
    let mut note = Vec::new();
    files.read("note", &mut note).await.unwrap();
    assert_eq!(file_in(&note), "from outside\n");
    files.write("", archive("restored", "from a backup\n")).await.unwrap();
    files.close().await.unwrap();
    let output = swarm.exec(&container, &ContainerCommand::shell("cat /data/restored"), limit).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "from a backup\n");
    swarm.copy_in(&container, "/tmp", archive("put", "put\n")).await.unwrap();
    let output = swarm.exec(&container, &ContainerCommand::shell("cat /tmp/put"), limit).await.unwrap();
    assert_eq!(output.exit_code, 0, "{output:?}");

    // Images: what is needed is there, another one is not to be had, and whose trouble that is, is known.
    let images = swarm.images();
    let needed = needed_images(&compose).unwrap();
    assert_eq!(images.missing(&needed).await.unwrap(), []);
    assert_eq!(images.identity("nothing:1").await.unwrap(), None);
    let error = images.pull("nowhere.invalid/nothing:1", Duration::from_secs(30)).await.unwrap_err();
    assert_eq!(error.class, PullFailure::Unreachable, "{error}");
}

#[tokio::test]
async fn an_image_goes_from_one_daemon_into_another() {
    let world = World::start().await;
    let archive = world.folder().join("tools.tar");
    let socket = format!("unix://{}", world.daemon.socket().display());
    let saved = assay_process::Cmd::new("docker")
        .args(["--host", &socket, "save", "--output"])
        .arg(&archive)
        .arg(IMAGE);
    saved.run_ok().await.unwrap();
    let identity = world.swarm().images().identity(IMAGE).await.unwrap();
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("d");
    let other = World::start_in(&folder).await;
    assert_eq!(other.swarm().images().load_archive(&archive).await.unwrap(), [IMAGE]);
    assert_eq!(other.swarm().images().identity(IMAGE).await.unwrap(), identity);
    world.daemon.stop().await.unwrap();
    // One that is not stopped in order ends all the same, and leaves what one leaves that was killed.
    drop(other);
    assert!(matches!(Daemon::sweep(&folder).await.unwrap(), Swept::Removed { .. }));
    assert!(!folder.exists());
}

fn archive(name: &str, content: &str) -> std::io::Cursor<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    std::io::Cursor::new(builder.into_inner().unwrap())
}

/// The one file of an archive.
fn file_in(archive: &[u8]) -> String {
    let mut archive = tar::Archive::new(archive);
    let mut content = String::new();
    archive.entries().unwrap().next().unwrap().unwrap().read_to_string(&mut content).unwrap();
    content
}
