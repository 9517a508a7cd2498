//! An upstream registry on this machine's loopback, images to fill it with, and a cache before it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_process::{Child, Cmd};
use assay_registry::{
    BringError, Brought, CacheSettings, Credentials, ImageCache, Reference, Registries, Session,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// What bringing any image in here may take.
const LIMIT: Duration = Duration::from_mins(2);
/// Bytes of a layer: enough to be told from everything around it.
pub(crate) const LAYER: usize = 2 << 20;

pub(crate) const USER: &str = "cache-user";
pub(crate) const PASSWORD: &str = "not-for-daemons-4711";

/// A registry that the world would be.
pub(crate) struct Upstream {
    folder: TempDir,
    child: Child,
    pub(crate) port: u16,
    login: bool,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        Self::start_with(false, 0).await
    }

    pub(crate) async fn start_with(login: bool, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (child, port) = Self::run(folder.path(), login, port).await;
        Self { folder, child, port, login }
    }

    async fn run(folder: &Path, login: bool, port: u16) -> (Child, u16) {
        let mut settings = serde_json::json!({
            "version": "0.1",
            "log": {"accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": folder.join("store")}, "delete": {"enabled": true}},
            "http": {"addr": format!("127.0.0.1:{port}")},
        });
        if login {
            let passwords = folder.join("htpasswd");
            let made = Cmd::new("htpasswd").args(["-Bbn", USER, PASSWORD]).run_ok().await.unwrap();
            std::fs::write(&passwords, made.stdout).unwrap();
            settings["auth"] = serde_json::json!({"htpasswd": {"realm": "test", "path": passwords}});
        }
        let path = folder.join("settings.json");
        std::fs::write(&path, settings.to_string()).unwrap();
        let mut child = Cmd::new("docker-registry").arg("serve").arg(path).spawn().await.unwrap();
        let port = loop {
            let line = child.next_line().await.expect("the upstream registry serves").text;
            if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                break rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
            }
        };
        (child, port)
    }

    /// Puts an image with this text in it there.
    pub(crate) async fn push(&self, name: &str, text: &str) {
        let archive = self.folder.path().join("image.tar");
        write_archive(&archive, text);
        let to = format!("docker://127.0.0.1:{}/{name}", self.port);
        let mut copy = Cmd::new("skopeo").args(["--insecure-policy", "copy", "--dest-tls-verify=false"]);
        if self.login {
            copy = copy.arg("--dest-creds").arg(format!("{USER}:{PASSWORD}"));
        }
        copy.arg(format!("docker-archive:{}", archive.display())).arg(to).run_ok().await.unwrap();
    }

    /// Ends it; what it has stays for [`Self::come_back`].
    pub(crate) async fn go_away(&mut self) {
        self.child.stop(Duration::from_secs(5)).await.unwrap();
    }

    pub(crate) async fn come_back(&mut self) {
        (self.child, self.port) = Self::run(self.folder.path(), self.login, self.port).await;
    }

    /// A cache in this folder, for which this is `docker.io`.
    pub(crate) fn cache(&self, folder: &Path) -> ImageCache {
        self.cache_with(folder, Credentials::default())
    }

    pub(crate) fn cache_with(&self, folder: &Path, credentials: Credentials) -> ImageCache {
        let mut registries = Registries::default();
        registries.add(&format!("docker.io=http://127.0.0.1:{}", self.port)).unwrap();
        ImageCache::new(CacheSettings { folder: folder.to_owned(), registries, credentials }).unwrap()
    }
}

pub(crate) async fn bring(session: &Session, name: &str) -> Result<Brought, BringError> {
    let reference: Reference = name.parse().unwrap();
    session.bring(&reference, LIMIT).await
}

/// The files below a folder that have this text in them.
pub(crate) fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    let files = files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    let has = |path: &PathBuf| {
        std::fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    files.filter(has).collect()
}

/// An archive as `docker save` writes it, with one layer that does not get smaller when it is packed.
fn write_archive(path: &Path, text: &str) {
    let mut noise = Vec::with_capacity(LAYER + 32);
    let mut block = Sha256::digest(text);
    while noise.len() < LAYER {
        noise.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    let mut layer = tar::Builder::new(Vec::new());
    add(&mut layer, "text", text.as_bytes());
    add(&mut layer, "noise", &noise);
    let layer = layer.into_inner().unwrap();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Cmd": ["/text"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))]},
        "history": [{"created": "2024-01-01T00:00:00Z"}],
    });
    let config = config.to_string();
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let table = serde_json::json!([{"Config": config_name, "RepoTags": ["any:1"], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    add(&mut archive, &config_name, config.as_bytes());
    add(&mut archive, "layer.tar", &layer);
    add(&mut archive, "manifest.json", table.to_string().as_bytes());
    archive.finish().unwrap();
}

fn add<W: std::io::Write>(builder: &mut tar::Builder<W>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
}
