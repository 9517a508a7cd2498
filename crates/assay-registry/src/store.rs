//! The store behind the cache: Debian's `docker-registry`, started here, listening on a socket in the cache's own folder.
//!
//! A Unix socket and not a port: the folder is its owner's alone, so no other user of the machine reads private images out of it
//! or writes into it. One command at a time has a folder; another one waits for it, and processes of one command share it.
//! When the registry dies it is started again. When its owner dies, SIGKILL included, it is killed (`store.sh`).

use std::collections::VecDeque;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_process::{Child, Cmd, Output, find_program};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::CacheError;
use crate::locks::lock;
use crate::manifest::ACCEPT;
use crate::mend;
use crate::reference::Digest;

/// The longest path of a Unix socket, in bytes.
const SOCKET_PATH: usize = 107;
/// Until it serves. It takes a tenth of a second; the rest is for a busy machine.
const START: Duration = Duration::from_mins(1);
/// How long a request that failed waits for the next one to serve.
const START_AGAIN: Duration = Duration::from_secs(10);
/// What it may take to end.
const END: Duration = Duration::from_secs(5);
/// How often one that dies is started again.
const STARTS: u32 = 5;
/// Lines kept for the error message.
const LAST_WORDS: usize = 15;
/// The longest that nothing may come of an answer.
const SILENCE: Duration = Duration::from_mins(2);
/// The longest manifest, in bytes.
pub(crate) const MANIFEST: usize = 4 << 20;

const SCRIPT: &str = include_str!("store.sh");

/// The running store.
#[derive(Debug)]
pub(crate) struct Store {
    socket: PathBuf,
    http: reqwest::Client,
    state: watch::Receiver<State>,
    /// Dropped, it ends the store.
    stop: watch::Sender<()>,
    supervisor: JoinHandle<()>,
}

/// What the store is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It does not serve yet, or is started again.
    Starting,
    /// It serves.
    Serving {
        /// For the how manieth time, from 0.
        start: u32,
    },
    /// It ended, and is not started again.
    Ended {
        /// What happened.
        how: String,
        /// The end of what it said.
        last_words: String,
    },
}

impl Store {
    /// Starts it on a folder, as soon as nobody else has that.
    pub(crate) async fn start(folder: &Path) -> Result<Self, CacheError> {
        find_program("docker-registry")?;
        let socket = socket_in(folder);
        let length = socket.as_os_str().len();
        if length > SOCKET_PATH {
            return Err(CacheError::LongPath { path: socket, length, most: SOCKET_PATH });
        }
        let held = hold(folder).await?;
        let _ = fs::remove_file(&socket);
        let (told, state) = watch::channel(State::Starting);
        let (stop, stopping) = watch::channel(());
        let supervisor = tokio::spawn(supervise(folder.to_owned(), held, told, stopping));
        let http =
            reqwest::Client::builder().unix_socket(socket.clone()).no_proxy().read_timeout(SILENCE).build();
        let http = http.map_err(|error| answer("making a client", error.to_string()))?;
        let store = Self { socket, http, state, stop, supervisor };
        store.serving().await?;
        Ok(store)
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether it ended for good.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(*self.state.borrow(), State::Ended { .. })
    }

    /// Ends it and waits for that.
    pub(crate) async fn stop(self) {
        let Self { stop, supervisor, .. } = self;
        drop(stop);
        // Its end is all that is wanted.
        let _ = supervisor.await;
    }

    /// Waits until it serves.
    pub(crate) async fn serving(&self) -> Result<(), CacheError> {
        let mut state = self.state.clone();
        let settled = timeout(START, state.wait_for(|state| *state != State::Starting)).await;
        let ended = |how: &str| CacheError::Store { how: how.to_owned(), last_words: String::new() };
        match settled {
            Err(_) => Err(ended(&format!("did not serve within {START:?}"))),
            Ok(Err(_)) => Err(ended("is gone")),
            Ok(Ok(state)) => match &*state {
                State::Ended { how, last_words } => {
                    Err(CacheError::Store { how: how.clone(), last_words: last_words.clone() })
                }
                State::Starting | State::Serving { .. } => Ok(()),
            },
        }
    }

    /// A manifest, where it is there.
    pub(crate) async fn manifest(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>, CacheError> {
        let path = format!("{repository}/manifests/{digest}");
        let doing = || format!("reading {path}");
        let response =
            self.ask(|| self.request(Method::GET, &path).header(header::ACCEPT, ACCEPT), doing()).await?;
        match response.status() {
            StatusCode::OK => {
                let bytes = response.bytes().await.map_err(|error| answer(doing(), words(error)))?;
                // Bytes that are others are as good as none: they are fetched once more.
                Ok((Digest::of(&bytes) == *digest).then(|| bytes.to_vec()))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refused(doing(), response).await),
        }
    }

    /// Whether a blob is there.
    pub(crate) async fn has_blob(&self, repository: &str, digest: &Digest) -> Result<bool, CacheError> {
        let path = format!("{repository}/blobs/{digest}");
        let doing = || format!("looking for {path}");
        let response = self.ask(|| self.request(Method::HEAD, &path), doing()).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refused(doing(), response).await),
        }
    }

    /// Keeps a blob. The store itself refuses bytes that do not have the digest.
    pub(crate) async fn put_blob(
        &self,
        repository: &str,
        digest: &Digest,
        body: reqwest::Body,
    ) -> Result<(), CacheError> {
        let doing = || format!("keeping {repository}/blobs/{digest}");
        let uploads = format!("{repository}/blobs/uploads/");
        let opened = self.ask(|| self.request(Method::POST, &uploads), doing()).await?;
        if opened.status() != StatusCode::ACCEPTED {
            return Err(refused(doing(), opened).await);
        }
        let location = opened.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| answer(doing(), "it says no place for it".to_owned()))?;
        // It may be whole, or a path; the host in it means nothing here.
        let base = url::Url::parse(BASE).and_then(|base| base.join(location));
        let mut url = base.map_err(|error| answer(doing(), error.to_string()))?;
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        let put = self.http.put(url).header(header::CONTENT_TYPE, "application/octet-stream").body(body);
        let done = put.send().await.map_err(|error| answer(doing(), words(error)))?;
        if done.status() == StatusCode::CREATED { Ok(()) } else { Err(refused(doing(), done).await) }
    }

    /// Keeps a manifest, after everything that it names.
    pub(crate) async fn put_manifest(
        &self,
        repository: &str,
        digest: &Digest,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), CacheError> {
        let path = format!("{repository}/manifests/{digest}");
        let doing = format!("keeping {path}");
        let request =
            || self.request(Method::PUT, &path).header(header::CONTENT_TYPE, media_type).body(bytes.to_vec());
        let response = self.ask(request, doing.clone()).await?;
        if response.status() == StatusCode::CREATED { Ok(()) } else { Err(refused(doing, response).await) }
    }

    /// Lets go of a manifest; what it alone names goes when the store is swept.
    pub(crate) async fn delete_manifest(&self, repository: &str, digest: &Digest) -> Result<(), CacheError> {
        let path = format!("{repository}/manifests/{digest}");
        let doing = format!("letting go of {path}");
        let response = self.ask(|| self.request(Method::DELETE, &path), doing.clone()).await?;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::NOT_FOUND => Ok(()),
            _ => Err(refused(doing, response).await),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{BASE}/v2/{path}"))
    }

    /// Asks, and once more where the store died meanwhile and was started again.
    async fn ask(&self, request: impl Fn() -> RequestBuilder, doing: String) -> Result<Response, CacheError> {
        let serving = self.state.borrow().clone();
        match request().send().await {
            Ok(response) => Ok(response),
            Err(error) if error.is_timeout() => Err(answer(doing, words(error))),
            Err(_) => {
                // Its end may be seen here before it is known of.
                let mut state = self.state.clone();
                let another = |state: &State| *state != serving && *state != State::Starting;
                let _ = timeout(START_AGAIN, state.wait_for(another)).await;
                self.serving().await?;
                request().send().await.map_err(|error| answer(doing, words(error)))
            }
        }
    }
}

/// Nobody resolves this name: requests go through the socket.
const BASE: &str = "http://store";

/// What says that a folder is ours.
#[derive(Debug)]
struct Held {
    /// Between commands.
    _folder: File,
    /// Waited for by the script.
    _owner: File,
}

/// Takes a folder over: alone, mended where its last owner died, and with a sign that it is in use.
async fn hold(folder: &Path) -> Result<Held, CacheError> {
    fs::create_dir_all(folder).map_err(CacheError::folder("making", folder))?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))
        .map_err(CacheError::folder("closing", folder))?;
    let between_commands = lock(&folder.join("lock")).await?;
    // The registry of an owner that was killed may be about to die.
    drop(lock(&alive_in(folder)).await?);
    let running = running_in(folder);
    if running.exists() {
        let storage = storage_in(folder);
        let mended = tokio::task::spawn_blocking(move || mend::mend(&storage)).await;
        let removed = mended.unwrap_or_else(|panic| {
            Err(CacheError::folder("mending", folder)(std::io::Error::other(panic)))
        })?;
        tracing::info!(
            cache.removed = removed,
            "the cache of images was not closed properly; it was looked through"
        );
    }
    // A new file each time: the script of an earlier owner waits for the old one.
    let owner = owner_in(folder);
    let _ = fs::remove_file(&owner);
    let file = lock(&owner).await?;
    write_private(&settings_in(folder), settings(folder).to_string().as_bytes())?;
    fs::write(&running, "").map_err(CacheError::folder("writing", running))?;
    Ok(Held { _folder: between_commands, _owner: file })
}

/// Keeps it running until nobody wants it any more.
async fn supervise(
    folder: PathBuf,
    held: Held,
    told: watch::Sender<State>,
    mut stopping: watch::Receiver<()>,
) {
    let mut last_words = VecDeque::new();
    let mut how = String::new();
    for start in 0..STARTS {
        let _ = fs::remove_file(socket_in(&folder));
        let mut child = match command(&folder).spawn().await {
            Ok(child) => child,
            Err(error) => {
                how = format!("could not be started: {error}");
                break;
            }
        };
        if start > 0 {
            tracing::warn!(
                store.pid = child.pid(),
                "the registry behind the cache of images {how}; it was started again"
            );
        }
        tokio::select! {
            ended = follow(&mut child, start, &told, &mut last_words) => how = ended,
            // There is nothing to be said: the other end is dropped.
            _ = stopping.changed() => {
                if child.stop(END).await.is_ok() {
                    let _ = fs::remove_file(running_in(&folder));
                }
                drop(held);
                return;
            }
        }
        told.send_replace(State::Starting);
    }
    let last_words = last_words.into_iter().collect::<Vec<_>>().join("\n");
    drop(held);
    told.send_replace(State::Ended { how, last_words });
}

/// Reads what it says until it ends; how it ended. The lines alone would not tell: who waits for the owner beside it has them open.
async fn follow(
    child: &mut Child,
    start: u32,
    told: &watch::Sender<State>,
    last_words: &mut VecDeque<String>,
) -> String {
    let Some(mut lines) = child.take_lines() else { return "has nobody who listens to it".to_owned() };
    let mut keep = |text: String| {
        // It says so itself, once.
        if text.contains("listening on ") {
            told.send_replace(State::Serving { start });
        }
        if last_words.len() == LAST_WORDS {
            last_words.pop_front();
        }
        last_words.push_back(text);
    };
    let ended = loop {
        tokio::select! {
            Some(line) = lines.recv() => keep(line.text),
            ended = child.wait_beside_lines() => break ended,
        }
    };
    while let Some(line) = lines.recv().await {
        keep(line.text);
    }
    match ended {
        Ok(status) => format!("ended ({status})"),
        Err(error) => format!("ended ({error})"),
    }
}

fn command(folder: &Path) -> Cmd {
    Cmd::new("sh")
        .args(["-c", SCRIPT, "assay-image-store"])
        .arg(owner_in(folder))
        .arg(alive_in(folder))
        .args(["docker-registry", "serve"])
        .arg(settings_in(folder))
        // Variables would change its settings, and what this process was told is not its business.
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

/// Removes what no manifest names any more. The store must not run.
pub(crate) async fn collect_garbage(folder: &Path) -> Result<(), CacheError> {
    let held = hold(folder).await?;
    let cmd = Cmd::new("docker-registry").args(["garbage-collect"]).arg(settings_in(folder)).env_clear();
    let swept: Output = cmd.env("PATH", "/usr/local/bin:/usr/bin:/bin").run_ok().await?;
    drop(swept);
    let running = running_in(folder);
    fs::remove_file(&running).map_err(CacheError::folder("removing", running))?;
    drop(held);
    Ok(())
}

/// Its settings. JSON is YAML.
fn settings(folder: &Path) -> serde_json::Value {
    json!({
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": true}},
        "storage": {
            "filesystem": {"rootdirectory": storage_in(folder)},
            "delete": {"enabled": true},
            // What was being written when its writer died.
            "maintenance": {"uploadpurging": {"enabled": true, "age": "24h", "interval": "24h", "dryrun": false}},
        },
        "http": {"net": "unix", "addr": socket_in(folder)},
    })
}

fn write_private(path: &Path, content: &[u8]) -> Result<(), CacheError> {
    let open = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(content)).map_err(CacheError::folder("writing", path))
}

pub(crate) fn storage_in(folder: &Path) -> PathBuf {
    folder.join("store")
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("registry.sock")
}

fn settings_in(folder: &Path) -> PathBuf {
    folder.join("registry.json")
}

fn owner_in(folder: &Path) -> PathBuf {
    folder.join("owner")
}

fn alive_in(folder: &Path) -> PathBuf {
    folder.join("alive")
}

fn running_in(folder: &Path) -> PathBuf {
    folder.join("running")
}

fn answer(doing: impl Into<String>, why: String) -> CacheError {
    CacheError::Answer { doing: doing.into(), why }
}

/// What it said beside its status, shortened.
async fn refused(doing: String, response: Response) -> CacheError {
    let status = response.status();
    let said = response.text().await.unwrap_or_default();
    answer(doing, format!("{status} {}", said.chars().take(500).collect::<String>()))
}

fn words(error: reqwest::Error) -> String {
    crate::upstream::words(error)
}
