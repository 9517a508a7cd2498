//! The OpenID Connect provider: a process of the runner's (`providers/oidc`), with a realm for each run.
//!
//! It has no network at all. People and apps come to it through a run's proxy and one socket, we through another one. It lives as
//! long as the connection that owns it, so nothing of it is left when this process is killed.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_process::{Child, Cmd, find_program};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rust_embed::Embed;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

/// What `cargo xtask providers` made.
#[derive(Embed)]
#[folder = "../../providers/oidc/dist"]
#[allow_missing = true]
struct Program;

/// Its file.
pub(super) const FILE: &str = "server.mjs";
/// The version of the package that it is made of.
const VERSION: &str = "version";
/// How long it may take to start.
const START: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// The most that is read of an answer, in bytes.
const LONGEST: usize = 1 << 20;
/// The longest path that a socket can have.
const SOCKET_PATH: usize = 107;
/// The last lines that are kept of what it said.
const LAST_WORDS: usize = 20;

/// A provider that runs, and answers.
pub(super) struct OidcProvider {
    version: String,
    app: PathBuf,
    admin: PathBuf,
    /// The connection that owns it.
    owned: Connection,
    /// Ends with this value, whatever became of the connection.
    child: tokio::sync::Mutex<Child>,
}

/// What a realm is made with: one issuer, one client, one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Realm {
    /// Its address, as the app sees it.
    pub(super) issuer: String,
    /// The app's, below which a browser may be sent back.
    pub(super) origin: String,
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) name: String,
    pub(super) email: String,
}

/// Why there is no provider, or it does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum OidcError {
    /// This program has none.
    #[error(
        "this build of Assay has no OpenID Connect provider: run `cargo xtask providers`, and build it again"
    )]
    NotBuilt,
    /// Its folder cannot be used.
    #[error("{}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    /// A socket in the folder would have too long a name.
    #[error("{} has {length} characters, and a socket's path has {SOCKET_PATH} at most; choose a shorter folder", path.display())]
    LongPath { path: PathBuf, length: usize },
    /// It cannot be started.
    #[error("the OpenID Connect provider cannot be started: {0}")]
    Process(#[from] assay_process::ProcessError),
    /// It gave up.
    #[error("the OpenID Connect provider {how}; it needs Node.js 18 or newer. It said: {last_words}")]
    Start { how: String, last_words: String },
    /// It does not answer as it should.
    #[error("the OpenID Connect provider does not answer as it should: {doing}: {why}")]
    Answer { doing: String, why: String },
}

/// A connection that is closed with this value.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A provider that can be unpacked.
#[derive(Clone)]
pub(super) struct Bundle {
    /// The version of the package that it is made of.
    pub(super) version: String,
    /// Its one file.
    pub(super) program: Cow<'static, [u8]>,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The program is a megabyte.
        f.debug_struct("Bundle").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Bundle {
    /// The one that this program brings.
    ///
    /// # Errors
    /// [`OidcError::NotBuilt`].
    pub(super) fn brought() -> Result<Self, OidcError> {
        let version = Program::get(VERSION).ok_or(OidcError::NotBuilt)?;
        let program = Program::get(FILE).ok_or(OidcError::NotBuilt)?.data;
        Ok(Self { version: String::from_utf8_lossy(&version.data).trim().to_owned(), program })
    }

    /// Writes it into a folder.
    ///
    /// # Errors
    /// [`OidcError::Folder`].
    pub(super) fn unpack(&self, folder: &Path) -> Result<(), OidcError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OidcError::Folder { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        // It is there whole or not at all.
        let (part, whole) = (folder.join("part"), folder.join(FILE));
        std::fs::write(&part, &self.program).map_err(failed(&part))?;
        std::fs::rename(&part, &whole).map_err(failed(&whole))
    }
}

impl OidcProvider {
    /// Starts the one in a folder, and makes sure that it does its work.
    ///
    /// # Errors
    /// [`OidcError`]; nothing runs then.
    pub(super) async fn start(folder: &Path) -> Result<Self, OidcError> {
        let (app, admin) = (folder.join("app.sock"), folder.join("admin.sock"));
        let length = admin.as_os_str().len();
        if length > SOCKET_PATH {
            return Err(OidcError::LongPath { path: admin, length });
        }
        let node = find_program("node")?;
        let command = Cmd::new("unshare")
            .args(["--net", "--"])
            .arg(node)
            .args([folder.join(FILE), app.clone(), admin.clone()])
            .cwd(folder)
            // What this process was told is not the provider's business.
            .env_clear()
            .env("HOME", folder)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin");
        let mut child = command.spawn().await?;
        until_ready(&mut child).await?;
        let (owned, version) = own(&admin).await?;
        let provider = Self { version, app, admin, owned, child: tokio::sync::Mutex::new(child) };
        provider.check().await?;
        Ok(provider)
    }

    /// The version of the package.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Where people and apps come to.
    pub(super) fn socket(&self) -> &Path {
        &self.app
    }

    /// Whether it still does its work: a realm can be made, says who it is, and goes.
    ///
    /// # Errors
    /// [`OidcError::Answer`].
    pub(super) async fn check(&self) -> Result<(), OidcError> {
        const ID: &str = "health";
        let word = || "health".to_owned();
        let realm = Realm {
            issuer: format!("https://provider.test/{ID}"),
            origin: "https://app.test".to_owned(),
            client_id: word(),
            client_secret: word(),
            username: word(),
            password: word(),
            name: word(),
            email: "health@example.com".to_owned(),
        };
        self.make(ID, &realm).await?;
        let discovered = self.discover(ID, &realm).await;
        self.remove(ID).await?;
        discovered
    }

    /// Makes a realm.
    ///
    /// # Errors
    /// [`OidcError::Answer`].
    pub(super) async fn make(&self, id: &str, realm: &Realm) -> Result<(), OidcError> {
        let doing = format!("making the realm {id}");
        let body = serde_json::to_vec(realm).unwrap_or_default();
        let (status, body) = ask(&self.admin, Method::PUT, &format!("/realms/{id}"), body, &doing).await?;
        expect(status, StatusCode::CREATED, &body, &doing)
    }

    /// Takes a realm away: what happened in it, line by line.
    ///
    /// # Errors
    /// [`OidcError::Answer`].
    pub(super) async fn remove(&self, id: &str) -> Result<Vec<String>, OidcError> {
        #[derive(Deserialize)]
        struct Removed {
            log: Vec<String>,
        }
        let doing = format!("removing the realm {id}");
        let (status, body) =
            ask(&self.admin, Method::DELETE, &format!("/realms/{id}"), Vec::new(), &doing).await?;
        expect(status, StatusCode::OK, &body, &doing)?;
        let removed: Removed = serde_json::from_slice(&body)
            .map_err(|error| OidcError::Answer { doing, why: error.to_string() })?;
        Ok(removed.log)
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`OidcError::Process`].
    pub(super) async fn stop(&self) -> Result<(), OidcError> {
        // It ends with its owner; the grace is for that.
        self.owned.0.abort();
        self.child.lock().await.stop(Duration::from_secs(2)).await?;
        Ok(())
    }

    pub(super) async fn discover(&self, id: &str, realm: &Realm) -> Result<(), OidcError> {
        #[derive(Deserialize)]
        struct Discovered {
            issuer: String,
        }
        let doing = "discovery";
        let path = format!("/{id}/.well-known/openid-configuration");
        let (status, body) = ask(&self.app, Method::GET, &path, Vec::new(), doing).await?;
        expect(status, StatusCode::OK, &body, doing)?;
        let issuer = serde_json::from_slice::<Discovered>(&body).map(|found| found.issuer);
        match issuer {
            Ok(issuer) if issuer == realm.issuer => Ok(()),
            Ok(other) => {
                Err(OidcError::Answer { doing: doing.to_owned(), why: format!("it says that it is {other}") })
            }
            Err(error) => Err(OidcError::Answer { doing: doing.to_owned(), why: error.to_string() }),
        }
    }
}

/// Waits until it says that it listens. Its output is read on, so that it is never held up.
async fn until_ready(child: &mut Child) -> Result<(), OidcError> {
    let last_words = Arc::new(Mutex::new(VecDeque::new()));
    let keep = |line: String, kept: &Mutex<VecDeque<String>>| {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LAST_WORDS {
            kept.pop_front();
        }
        kept.push_back(assay_model::text::clean_to(&line, 300));
    };
    let waited = tokio::time::timeout(START, async {
        while let Some(line) = child.next_line().await {
            if line.text.starts_with("ready ") {
                return true;
            }
            keep(line.text, &last_words);
        }
        false
    });
    let how = match waited.await {
        Ok(true) => {
            if let Some(mut lines) = child.take_lines() {
                tokio::spawn(async move { while lines.recv().await.is_some() {} });
            }
            return Ok(());
        }
        Ok(false) => match child.wait().await {
            Ok(status) => format!("ended ({status}) before it served"),
            Err(error) => format!("ended before it served ({error})"),
        },
        Err(_) => format!("did not serve within {START:?}"),
    };
    let last_words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
    let last_words: Vec<&str> = last_words.iter().map(String::as_str).collect();
    Err(OidcError::Start { how, last_words: last_words.join(" | ") })
}

/// Becomes the owner: the connection, and the version of what it leads to.
async fn own(admin: &Path) -> Result<(Connection, String), OidcError> {
    #[derive(Deserialize)]
    struct Owned {
        version: String,
    }
    let doing = "becoming its owner";
    let failed = |why: String| OidcError::Answer { doing: doing.to_owned(), why };
    let (mut answer, connection) = send(admin, Method::GET, "/owner", Vec::new(), doing).await?;
    // It says one line and goes on for ever.
    let first = tokio::time::timeout(ANSWER, answer.1.frame()).await;
    let first = first.map_err(|_| failed("it says nothing".to_owned()))?;
    let data = match first {
        Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        Some(Err(error)) => return Err(failed(error.to_string())),
        None => return Err(failed("it said nothing".to_owned())),
    };
    expect(answer.0, StatusCode::OK, &data, doing)?;
    let owned: Owned = serde_json::from_slice(&data).map_err(|error| failed(error.to_string()))?;
    // The body belongs to the connection: while nobody lets go of it, the connection stays.
    let held = tokio::spawn(async move {
        let (mut body, _connection) = (answer.1, connection);
        while body.frame().await.is_some() {}
    });
    Ok((Connection(held.abort_handle()), owned.version))
}

async fn ask(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
    doing: &str,
) -> Result<(StatusCode, Bytes), OidcError> {
    let failed = |why: String| OidcError::Answer { doing: doing.to_owned(), why };
    let asked = async {
        let ((status, body), _connection) = send(socket, method, path, body, doing).await?;
        let body = Limited::new(body, LONGEST).collect().await.map_err(|error| failed(error.to_string()))?;
        Ok((status, body.to_bytes()))
    };
    let asked = tokio::time::timeout(ANSWER, asked).await;
    asked.unwrap_or_else(|_| Err(failed(format!("no answer within {ANSWER:?}"))))
}

async fn send(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
    doing: &str,
) -> Result<((StatusCode, Incoming), Connection), OidcError> {
    let failed = |why: String| OidcError::Answer { doing: doing.to_owned(), why };
    let stream = UnixStream::connect(socket).await.map_err(|error| failed(error.to_string()))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(error.to_string()))?;
    let connection = Connection(tokio::spawn(connection).abort_handle());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "provider.test")
        .header("x-forwarded-proto", "https")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| failed(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
    let (head, body) = answer.into_parts();
    Ok(((head.status, body), connection))
}

fn expect(status: StatusCode, wanted: StatusCode, body: &[u8], doing: &str) -> Result<(), OidcError> {
    if status == wanted {
        return Ok(());
    }
    let said = assay_model::text::clean_to(&String::from_utf8_lossy(body), 300);
    Err(OidcError::Answer { doing: doing.to_owned(), why: format!("it answers {status}: {said}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the provider in the build there is nothing to be tried, and the error says what to do.
    #[tokio::test]
    async fn a_provider_answers_and_ends_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Bundle::brought();
        if let Err(error) = bundle.as_ref().map(drop) {
            insta::assert_snapshot!(error, @"this build of Assay has no OpenID Connect provider: run `cargo xtask providers`, and build it again");
            return;
        }
        if find_program("node").is_err() || !rustix::process::geteuid().is_root() {
            return;
        }
        let bundle = bundle.unwrap();
        bundle.unpack(folder.path()).unwrap();
        let provider = OidcProvider::start(folder.path()).await.unwrap();
        assert_eq!(provider.version(), bundle.version);
        let error = provider.remove("nobody").await.unwrap_err();
        insta::assert_snapshot!(error, @r#"the OpenID Connect provider does not answer as it should: removing the realm nobody: it answers 404 Not Found: {"error":"there is no such realm"}"#);
        // The connection that owns it goes, and it with that.
        provider.owned.0.abort();
        let ended = provider.child.lock().await.wait().await.unwrap();
        assert_eq!(ended.code(), Some(0));
    }

    #[tokio::test]
    async fn a_provider_that_gives_up_says_why() {
        if find_program("node").is_err() || !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "console.error('no luck today'); process.exit(7)").unwrap();
        let error = OidcProvider::start(folder.path()).await.map(drop).unwrap_err();
        insta::assert_snapshot!(error, @"the OpenID Connect provider ended (exit status: 7) before it served; it needs Node.js 18 or newer. It said: no luck today");
    }

    #[tokio::test]
    async fn a_folder_whose_sockets_would_have_too_long_a_name_is_refused() {
        let error =
            OidcProvider::start(Path::new(&format!("/{}", "x".repeat(120)))).await.map(drop).unwrap_err();
        assert!(error.to_string().ends_with("choose a shorter folder"), "{error}");
    }
}
