//! What the tests share: a clock, a stand-in, a machine with `git`, an HTTP client.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use assay_model::{Clock, Micros};
use assay_process::{Cmd, Output};
use assay_standin::{Config, Ledger, StandIn};
use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a busy machine, short enough for a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The token that the tests' stand-in accepts, under the label `installer`.
pub(crate) const TOKEN: &str = "installer-s3cret-token";

/// Starts on a day in 2027 and goes on from there.
struct TestClock(Instant);

impl Clock for TestClock {
    fn now(&self) -> Micros {
        let gone = i64::try_from(self.0.elapsed().as_micros()).expect("a short test");
        Micros::seconds(1_803_000_000).plus(Micros(gone))
    }
}

pub(crate) fn config() -> Config {
    Config::new(Arc::new(TestClock(Instant::now()))).token("installer", TOKEN)
}

pub(crate) async fn stand_in() -> StandIn {
    start(config()).await
}

pub(crate) async fn start(config: Config) -> StandIn {
    StandIn::start(config).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Everything that the ledger holds, as text: to look for what must not be in it.
pub(crate) fn text_of(ledger: &Ledger) -> String {
    serde_json::to_string(ledger).expect("a ledger serialises")
}

/// A machine with `git` and a home of its own.
pub(crate) struct Machine {
    home: TempDir,
}

/// How a `git` command ended.
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) text: String,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { home: TempDir::new().expect("a folder") }
    }

    /// The address of the repository with a token in it.
    pub(crate) fn address(standin: &StandIn, token: &str) -> String {
        let url = standin.url().expect("a plain address");
        format!("{}{}", url.replace("http://", &format!("http://x-token:{token}@")), standin.git_path())
    }

    /// A machine that has cloned the repository into `cluster`, as the installer does.
    pub(crate) async fn cloned(standin: &StandIn) -> Self {
        let machine = Self::new();
        let address = Self::address(standin, TOKEN);
        machine.git(&["clone", "--quiet", "--depth", "1", &address, "cluster"]).await;
        machine
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.home.path().join("cluster")
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let file = self.tree().join(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, content).expect("written");
    }

    /// Runs `git`, in the clone once there is one; returns what it said on both streams.
    pub(crate) async fn try_git(&self, args: &[&str]) -> Said {
        let output = self.command(args).run().await.expect("git runs");
        let text = format!("{}{}", output.stdout_text(), output.stderr_text());
        Said { ok: output.success(), text }
    }

    /// As [`Machine::try_git`], for what has to work.
    pub(crate) async fn git(&self, args: &[&str]) -> String {
        let said = self.try_git(args).await;
        assert!(said.ok, "git {args:?}: {}", said.text);
        said.text
    }

    pub(crate) fn command(&self, args: &[&str]) -> Cmd {
        let folder = if self.tree().exists() { self.tree() } else { self.home.path().to_path_buf() };
        Cmd::new("git")
            .args(args.iter().copied())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("a PATH"))
            .env("HOME", self.home.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_AUTHOR_NAME", "Ada")
            .env("GIT_AUTHOR_EMAIL", "ada@forge.invalid")
            .env("GIT_AUTHOR_DATE", "1803000001 +0100")
            .env("GIT_COMMITTER_NAME", "node-1a2b3c")
            .env("GIT_COMMITTER_EMAIL", "root@node-1a2b3c")
            .env("GIT_COMMITTER_DATE", "1803000002 +0000")
            .cwd(folder)
            .timeout(PATIENCE)
    }

    /// Commits one file on a new branch and pushes it.
    pub(crate) async fn push_new(&self, branch: &str, path: &str, content: &str) -> Said {
        self.git(&["checkout", "--quiet", "-B", branch]).await;
        self.write(path, content);
        self.git(&["add", "--all"]).await;
        self.git(&["commit", "--quiet", "--message", &format!("add {path}")]).await;
        self.try_git(&["push", "--set-upstream", "origin", branch]).await
    }

    /// The commit that the clone is at.
    pub(crate) async fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).await.trim().to_owned()
    }
}

/// An HTTP client that knows the token.
pub(crate) struct Http {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Heard {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

impl Http {
    pub(crate) fn of(standin: &StandIn) -> Self {
        Self::with(reqwest::Client::builder(), standin.url().expect("a plain address"))
    }

    pub(crate) fn with(builder: reqwest::ClientBuilder, url: String) -> Self {
        // The first one wins, and all are the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = builder.no_proxy().timeout(PATIENCE).user_agent("node/1").build().expect("a client");
        Self { client, url, token: Some(TOKEN.into()) }
    }

    pub(crate) fn token(mut self, token: Option<&str>) -> Self {
        self.token = token.map(str::to_owned);
        self
    }

    pub(crate) fn request(&self, line: &str) -> reqwest::RequestBuilder {
        let (method, path) = line.split_once(' ').expect("METHOD PATH");
        let method = method.parse().expect("a method");
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn try_send(
        &self,
        line: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Heard, reqwest::Error> {
        heard(self.request(line).body(body).send().await?).await
    }

    pub(crate) async fn send(&self, line: &str, body: impl Into<reqwest::Body>) -> Heard {
        self.try_send(line, body).await.unwrap_or_else(|error| panic!("{line}: {error:?}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Heard {
        self.send(&format!("GET {path}"), "").await
    }
}

pub(crate) async fn heard(response: reqwest::Response) -> Result<Heard, reqwest::Error> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Heard { status, headers, text: response.text().await? })
}

/// All that an error says, down to its cause.
pub(crate) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Processes whose working directory is in `folder`: those that the stand-in has started.
pub(crate) fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").expect("proc");
    let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok());
    links.map(|link| link.to_string_lossy().into_owned()).filter(|link| link.starts_with(&folder)).collect()
}

/// Runs a command that has to work.
pub(crate) async fn ran(cmd: Cmd) -> Output {
    cmd.run_ok().await.unwrap_or_else(|error| panic!("{error}"))
}
