//! A real Kubernetes API server with its own etcd, on this machine, for as long as its handle lives.
//!
//! A mock would agree with whatever is sent to it. What breaks in practice (a schema that prunes, a rejected field, a missing
//! definition) is decided inside of this program, so the isolated tier of the Reconcile stage runs it. There is no
//! controller manager, scheduler or kubelet behind it: nothing is garbage-collected, a deleted namespace stays
//! `Terminating`, and no workload ever runs.
//!
//! Its address is a free port of 127.0.0.1; its certificate is its own and pinned by the client; its one user is an administrator
//! with a random token. etcd has no port at all, but a socket in a folder that only this user can enter.

use std::{
    fmt,
    io::Write,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use assay_process::Cmd;
use kube::{
    Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
    core::Request,
};

use self::supervised::{Supervised, Waited};

mod find;
mod supervised;

pub use find::ApiServerFiles;

/// How long each of the two may take until it serves. Idle, both together take 3 to 6 s; the rest is for a busy machine.
const START: Duration = Duration::from_secs(90);
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Between two questions whether a server that serves is ready. There is nothing to wait on instead.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// A request without an answer for this long is an error; a watch without an event is started again.
const SILENCE: Duration = Duration::from_mins(1);
/// A free port can be taken by somebody else before the server has it.
const PORTS: usize = 3;

/// A running API server. Dropping it kills the server and its etcd; [`ApiServer::stop`] ends them in order.
pub struct ApiServer {
    // Dropped in this order.
    server: Supervised,
    etcd: Supervised,
    client: Client,
    kubeconfig: Kubeconfig,
    kubeconfig_file: PathBuf,
    timings: Timings,
}

/// How long the start took, from the first process on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Until etcd served.
    pub etcd: Duration,
    /// Until the API server listened.
    pub serving: Duration,
    /// Until it called itself ready.
    pub ready: Duration,
}

/// Why there is no API server.
#[derive(Debug, thiserror::Error)]
pub enum ApiServerError {
    /// A program is not there.
    #[error("{program} was not found: {hint}")]
    Missing {
        /// `kube-apiserver` or `etcd`.
        program: &'static str,
        /// What to do about it.
        hint: String,
    },
    /// The folder for its data cannot be used.
    #[error("{path} cannot be written: {source}; give the API server an empty folder of its own", path = path.display())]
    Folder {
        /// What was to be written.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// No key for service accounts could be made.
    #[error("no key could be made: {0}")]
    Key(#[from] rcgen::Error),
    /// One of the two could not be started or stopped.
    #[error(transparent)]
    Process(#[from] assay_process::ProcessError),
    /// One of the two ended, or did not serve in time.
    #[error("{program} {how}; its last words (all of them are in {log}):\n{last_words}", log = log.display())]
    Start {
        /// `kube-apiserver` or `etcd`.
        program: &'static str,
        /// What happened.
        how: String,
        /// Everything that it wrote.
        log: PathBuf,
        /// The end of it.
        last_words: String,
    },
    /// The client for it could not be made.
    #[error("no client could be made for the API server: {0}")]
    Client(String),
}

/// Without the token.
impl fmt::Debug for ApiServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kubeconfig_file, timings, .. } = self;
        formatter
            .debug_struct("ApiServer")
            .field("kubeconfig_file", kubeconfig_file)
            .field("timings", timings)
            .finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Where the two programs are; see [`ApiServerFiles::find`].
    ///
    /// # Errors
    /// [`ApiServerError::Missing`], which says what to do.
    pub fn find() -> Result<ApiServerFiles, ApiServerError> {
        ApiServerFiles::find()
    }

    /// Starts both and waits until the server is ready. `folder` is an empty one of its own; data, certificates and
    /// logs (`etcd.log`, `kube-apiserver.log`) stay there.
    ///
    /// # Errors
    /// [`ApiServerError`]; where a program gave up, with what it said.
    pub async fn start(files: &ApiServerFiles, folder: &Path) -> Result<Self, ApiServerError> {
        let started = Instant::now();
        let folder = std::path::absolute(folder).map_err(in_folder(folder))?;
        let etcd_folder = folder.join("etcd");
        std::fs::DirBuilder::new().mode(0o700).create(&etcd_folder).map_err(in_folder(&etcd_folder))?;
        let etcd = start_etcd(files, &folder, &etcd_folder).await?;
        let etcd_after = started.elapsed();

        let token = token();
        let keys = rcgen::KeyPair::generate()?;
        write_private(&folder.join("tokens"), &format!("{token},assay,assay,\"system:masters\"\n"))?;
        write_private(&folder.join("service-accounts.key"), &keys.serialize_pem())?;
        write_private(&folder.join("service-accounts.pub"), &keys.public_key_pem())?;

        let mut attempt = 1;
        let (server, port) = loop {
            let port = free_port().map_err(in_folder(&folder))?;
            match start_server(files, &folder, &etcd_folder, port).await {
                Ok(server) => break (server, port),
                Err(ApiServerError::Start { last_words, .. })
                    if attempt < PORTS && last_words.contains("address already in use") =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        let serving = started.elapsed();

        let yaml = kubeconfig_yaml(port, &folder.join("certs/apiserver.crt"), &token);
        let kubeconfig_file = folder.join("kubeconfig");
        write_private(&kubeconfig_file, &yaml)?;
        let kubeconfig =
            Kubeconfig::from_yaml(&yaml).map_err(|error| ApiServerError::Client(error.to_string()))?;
        let client = client_of(kubeconfig.clone()).await?;
        let timings = Timings { etcd: etcd_after, serving, ready: serving };
        let mut this = Self { server, etcd, client, kubeconfig, kubeconfig_file, timings };
        this.wait_until_ready().await?;
        this.timings.ready = started.elapsed();
        tracing::info!(port, ready_ms = this.timings.ready.as_millis(), "the API server is ready");
        Ok(this)
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// How other programs reach it, with all rights.
    pub fn kubeconfig(&self) -> &Kubeconfig {
        &self.kubeconfig
    }

    /// The same as a file, for `kubectl --kubeconfig`.
    pub fn kubeconfig_file(&self) -> &Path {
        &self.kubeconfig_file
    }

    /// How long the start took.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// The server's version, such as `v1.20.2`.
    ///
    /// # Errors
    /// [`ApiServerError::Client`].
    pub async fn version(&self) -> Result<String, ApiServerError> {
        let version = self.client.apiserver_version().await;
        version.map(|version| version.git_version).map_err(|error| ApiServerError::Client(error.to_string()))
    }

    /// Ends the server, then etcd.
    ///
    /// # Errors
    /// [`ApiServerError::Process`].
    pub async fn stop(mut self) -> Result<(), ApiServerError> {
        self.server.stop(GRACE).await?;
        self.etcd.stop(GRACE).await?;
        Ok(())
    }

    /// The server says by itself when it listens, but not when all of its parts have started.
    async fn wait_until_ready(&mut self) -> Result<(), ApiServerError> {
        let client = self.client.clone();
        let ready = async {
            loop {
                if let Ok(request) = Request::new("/readyz").list(&ListParams::default())
                    && client.request_text(request).await.is_ok_and(|answer| answer == "ok")
                {
                    return;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        match self.server.unless_it_ends(START, ready).await? {
            Waited::Done(()) => Ok(()),
            Waited::Not(how) => Err(self.server.failed(how)),
        }
    }
}

async fn start_etcd(
    files: &ApiServerFiles,
    folder: &Path,
    etcd_folder: &Path,
) -> Result<Supervised, ApiServerError> {
    // A socket's URL has the form of an address; etcd makes it a file of that name in its working directory.
    let command = Cmd::new(&files.etcd).cwd(etcd_folder).args([
        "--data-dir=data",
        "--unsafe-no-fsync",
        "--listen-client-urls=unix://localhost:1",
        "--advertise-client-urls=unix://localhost:1",
        "--listen-peer-urls=unix://localhost:2",
        "--initial-advertise-peer-urls=unix://localhost:2",
        "--initial-cluster=default=unix://localhost:2",
    ]);
    Supervised::start("etcd", &command, &folder.join("etcd.log"), "ready to serve client requests", START)
        .await
}

async fn start_server(
    files: &ApiServerFiles,
    folder: &Path,
    etcd_folder: &Path,
    port: u16,
) -> Result<Supervised, ApiServerError> {
    let path = |name: &str| folder.join(name).display().to_string();
    // In etcd's folder, because the socket's name is relative.
    let command = Cmd::new(&files.apiserver).cwd(etcd_folder).args([
        "--etcd-servers=unix://localhost:1".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        // It would refuse to publish a loopback address, once every ten seconds.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", path("certs")),
        format!("--token-auth-file={}", path("tokens")),
        "--authorization-mode=RBAC".to_owned(),
        "--anonymous-auth=false".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", path("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", path("service-accounts.key")),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        // It waits for accounts that only the controller manager makes.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--profiling=false".to_owned(),
    ]);
    Supervised::start(
        "kube-apiserver",
        &command,
        &folder.join("kube-apiserver.log"),
        "Serving securely on",
        START,
    )
    .await
}

async fn client_of(kubeconfig: Kubeconfig) -> Result<Client, ApiServerError> {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| ApiServerError::Client(error.to_string()))?;
    // The environment's proxy has no business on the loopback.
    config.proxy_url = None;
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|error| ApiServerError::Client(error.to_string()))
}

fn kubeconfig_yaml(port: u16, certificate: &Path, token: &str) -> String {
    // JSON is YAML, and quotes whatever the path has in it.
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "assay", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority": certificate,
        }}],
        "users": [{ "name": "assay", "user": { "token": token } }],
        "contexts": [{ "name": "assay", "context": { "cluster": "assay", "user": "assay" } }],
        "current-context": "assay",
    })
    .to_string()
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn token() -> String {
    rand::random::<[u8; 32]>().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn write_private(path: &Path, content: &str) -> Result<(), ApiServerError> {
    let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(content.as_bytes())).map_err(in_folder(path))
}

fn in_folder(path: &Path) -> impl Fn(std::io::Error) -> ApiServerError {
    move |source| ApiServerError::Folder { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::{ApiServer, ApiServerError, ApiServerFiles};

    fn script(folder: &std::path::Path, name: &str, text: &str) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_server_that_gives_up_is_an_error_with_its_own_words() {
        let folder = tempfile::tempdir().unwrap();
        let etcd = script(folder.path(), "etcd", "echo ready to serve client requests >&2; sleep 1000");
        let server = script(folder.path(), "kube-apiserver", "echo 'Error: no such flag' >&2; exit 3");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let error = ApiServer::start(&ApiServerFiles { apiserver: server, etcd }, &data).await.unwrap_err();
        let ApiServerError::Start { program, how, last_words, log } = error else { panic!("{error}") };
        assert_eq!((program, how.as_str()), ("kube-apiserver", "ended with exit status: 3 before it served"));
        assert_eq!(last_words, "Error: no such flag");
        assert_eq!(std::fs::read_to_string(log).unwrap(), "Error: no such flag\n");
    }

    #[tokio::test]
    async fn a_taken_port_is_tried_again_and_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let etcd = script(folder.path(), "etcd", "echo ready to serve client requests >&2; sleep 1000");
        let said = "failed to create listener: listen tcp 127.0.0.1:1: bind: address already in use";
        let server = script(folder.path(), "kube-apiserver", &format!("echo '{said}'; exit 1"));
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let error = ApiServer::start(&ApiServerFiles { apiserver: server, etcd }, &data).await.unwrap_err();
        assert!(error.to_string().contains("address already in use"), "{error}");
        let log = std::fs::read_to_string(data.join("kube-apiserver.log")).unwrap();
        assert_eq!(log.lines().count(), 3);
    }

    #[tokio::test]
    async fn a_folder_that_was_used_before_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etcd")).unwrap();
        let files = ApiServerFiles { apiserver: "/nowhere".into(), etcd: "/nowhere".into() };
        let error = ApiServer::start(&files, folder.path()).await.unwrap_err();
        assert!(matches!(error, ApiServerError::Folder { .. }), "{error}");
    }
}
