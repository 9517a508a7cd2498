//! A copy of a forge's repository: the control plane alone fetches, since it alone has the token. What a runner gets of it is a
//! bundle with two commits and the tags.
//!
//! What is fetched was written by strangers. Nothing of it is run: no hook, no filter, no submodule, no configuration of theirs;
//! and it is bounded in size and time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use assay_forge::{ForgeSettings, RepoName};
use assay_model::text::clean_to;
use assay_process::Cmd;
use assay_recipe::customise::FOLDER;
use tokio::sync::Mutex;

/// Longest time that a fetch may take.
const FETCH: Duration = Duration::from_mins(5);
/// Longest time for what needs no network.
const LOCAL: Duration = Duration::from_mins(1);
/// The largest file that may come of a fetch: a pack with all that is new. In bytes.
const LARGEST: u64 = 1 << 30;
/// Names of ours for what goes into a bundle.
const UNDER_TEST: &str = "refs/assay/under-test";
const TRUSTED: &str = "refs/assay/trusted";

/// A copy of a repository.
pub(super) struct Mirror {
    folder: PathBuf,
    url: String,
    environment: Vec<(String, String)>,
    scrub: ForgeSettings,
    alone: Arc<Mutex<()>>,
}

/// What a pull request's tests are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trusted {
    /// A branch.
    pub(super) name: String,
    /// Its commit, in full.
    pub(super) commit: String,
}

/// Something did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum MirrorError {
    /// `git` did not do what it was asked.
    #[error("the repository cannot be {doing}: {why}")]
    Git {
        /// `fetched`, `bundled` …
        doing: &'static str,
        /// What it said, without our token.
        why: String,
    },
    /// The settings name a branch that there is not.
    #[error("there is no branch `{0}` to take tests from; name another as `trusted` in forges.toml")]
    NoTrusted(String),
    /// The pull request's commit is not there.
    #[error("the forge shows no commits of pull request {0}; is it from a fork that is gone?")]
    NoHead(u64),
    /// The folder cannot be used.
    #[error("{}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Mirror {
    /// The copy of a repository below `root`; nothing is fetched yet. Who fetches holds `alone`.
    pub(super) fn new(root: &Path, forge: &ForgeSettings, repo: &RepoName, alone: Arc<Mutex<()>>) -> Self {
        let folder = root.join(&forge.name).join(format!("{repo}.git"));
        let mut environment = forge.git_environment();
        if forge.certificates().is_some() {
            environment.push(("GIT_SSL_CAINFO".to_owned(), certificates(root, forge).display().to_string()));
        }
        Self { folder, url: forge.clone_url(repo), environment, scrub: forge.clone(), alone }
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Brings branches, tags and a pull request's commits.
    pub(super) async fn fetch(&self, pull: u64) -> Result<(), MirrorError> {
        let doing = "fetched";
        self.make().await?;
        let _alone = self.alone.lock().await;
        // A forge that has no such pull request lets the fetch of all fail: what there is comes first.
        let heads = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        let of_pull = format!("+refs/pull/{pull}/head:refs/pull/{pull}/head");
        let mut fetch = vec![
            "fetch",
            "--quiet",
            "--prune",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--",
            &self.url,
        ];
        fetch.extend(heads);
        fetch.push(&of_pull);
        match self.git(doing, &fetch, FETCH).await {
            Err(MirrorError::Git { why, .. }) if why.contains("couldn't find remote ref") => {
                Err(MirrorError::NoHead(pull))
            }
            other => other.map(drop),
        }
    }

    /// A pull request's latest commit, as it was fetched.
    pub(super) async fn head(&self, pull: u64) -> Result<String, MirrorError> {
        let name = format!("refs/pull/{pull}/head^{{commit}}");
        self.commit(&name).await.map_err(|_| MirrorError::NoHead(pull))
    }

    /// What tests, hooks and settings are taken from: the branch that is named, or the repository's own first one.
    pub(super) async fn trusted(&self, wanted: Option<&str>) -> Result<Trusted, MirrorError> {
        let name = match wanted {
            Some(name) => name.to_owned(),
            None => self.first_branch().await?,
        };
        let commit = self.commit(&format!("refs/heads/{name}^{{commit}}")).await;
        commit.map_err(|_| MirrorError::NoTrusted(name.clone())).map(|commit| Trusted { name, commit })
    }

    /// The latest commits of all pull requests that the forge knows, also of those that are over; nothing is fetched.
    pub(super) async fn heads(&self) -> Result<Vec<(u64, String)>, MirrorError> {
        self.make().await?;
        let ask = ["ls-remote", "--quiet", "--", &self.url, "refs/pull/*/head"];
        let said = self.git("asked for its pull requests", &ask, FETCH).await?;
        let head = |line: &str| {
            let (commit, name) = line.split_once('\t')?;
            let number = name.strip_prefix("refs/pull/")?.strip_suffix("/head")?.parse().ok()?;
            commit.bytes().all(|b| b.is_ascii_hexdigit()).then(|| (number, commit.to_owned()))
        };
        Ok(said.lines().filter_map(head).filter(|(number, _)| *number > 0).collect())
    }

    /// Files that decide over the verdict and that a commit has changed since it left the trusted one.
    pub(super) async fn not_taken(&self, trusted: &str, head: &str) -> Result<Vec<String>, MirrorError> {
        self.changed(trusted, head, &[FOLDER]).await
    }

    /// Files that a commit has changed since it left another one: of these files and folders, or of all. Renamed ones with both names.
    pub(super) async fn changed(
        &self,
        since: &str,
        head: &str,
        among: &[&str],
    ) -> Result<Vec<String>, MirrorError> {
        let changed = |range: String| async move {
            let mut diff = vec![
                "diff",
                "--name-only",
                "-z",
                "--no-renames",
                "--no-ext-diff",
                "--no-textconv",
                &range,
                "--",
            ];
            diff.extend(among);
            self.git("compared", &diff, LOCAL).await
        };
        // Without a common commit everything is a change.
        let said = match changed(format!("{since}...{head}")).await {
            Ok(said) => said,
            Err(_) => changed(format!("{since}..{head}")).await?,
        };
        Ok(said.split('\0').filter(|path| !path.is_empty()).map(|path| clean_to(path, 300)).collect())
    }

    /// What a file held in a commit; none where there is no such file, or it is none.
    pub(super) async fn file(&self, commit: &str, path: &str) -> Result<Option<String>, MirrorError> {
        let listed = self.git("read", &["ls-tree", "-z", commit, "--", path], LOCAL).await?;
        let entry = listed.split('\0').next().unwrap_or_default();
        let words: Vec<&str> = entry.split([' ', '\t']).collect();
        let ["100644" | "100755", "blob", blob, ..] = words[..] else { return Ok(None) };
        self.git("read", &["cat-file", "blob", blob], LOCAL).await.map(Some)
    }

    /// Writes a bundle with both commits and all tags.
    pub(super) async fn bundle(&self, head: &str, trusted: &str, to: &Path) -> Result<(), MirrorError> {
        let doing = "bundled";
        for (name, commit) in [(UNDER_TEST, head), (TRUSTED, trusted)] {
            self.git(doing, &["update-ref", name, commit], LOCAL).await?;
        }
        let to = to.display().to_string();
        self.git(doing, &["bundle", "create", "--quiet", &to, UNDER_TEST, TRUSTED, "--tags"], FETCH)
            .await
            .map(drop)
    }

    /// The branch that the forge shows first.
    async fn first_branch(&self) -> Result<String, MirrorError> {
        let doing = "asked for its first branch";
        let said = self.git(doing, &["ls-remote", "--symref", "--", &self.url, "HEAD"], FETCH).await?;
        let first = said.lines().find_map(|line| line.strip_prefix("ref: refs/heads/")?.split('\t').next());
        first.map(str::to_owned).ok_or_else(|| MirrorError::Git {
            doing,
            why: "it has none; name a branch as `trusted` in forges.toml".to_owned(),
        })
    }

    /// An empty copy, where there is none yet.
    async fn make(&self) -> Result<(), MirrorError> {
        let _alone = self.alone.lock().await;
        if !self.folder.join("HEAD").exists() {
            let failed = |source| MirrorError::Folder { path: self.folder.clone(), source };
            std::fs::create_dir_all(&self.folder).map_err(failed)?;
            self.git("made", &["init", "--quiet", "--bare", "--template=", "."], LOCAL).await?;
        }
        Ok(())
    }

    async fn commit(&self, name: &str) -> Result<String, MirrorError> {
        let said =
            self.git("read", &["rev-parse", "--verify", "--quiet", "--end-of-options", name], LOCAL).await?;
        Ok(said.trim().to_owned())
    }

    async fn git(
        &self,
        doing: &'static str,
        arguments: &[&str],
        limit: Duration,
    ) -> Result<String, MirrorError> {
        let mut cmd = Cmd::new("prlimit")
            .arg(format!("--fsize={LARGEST}"))
            .arg("git")
            .args([
                "-c",
                "core.hooksPath=/dev/null",
                "-c",
                "core.fsmonitor=false",
                "-c",
                "gc.autoDetach=false",
            ])
            .args(["-c", "protocol.allow=never", "-c", "protocol.http.allow=always"])
            .args(["-c", "protocol.https.allow=always"])
            .args(arguments.iter().copied())
            .cwd(&self.folder)
            .env("GIT_DIR", &self.folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .timeout(limit);
        for (name, value) in &self.environment {
            cmd = cmd.env(name, value);
        }
        let failed = |why: String| MirrorError::Git { doing, why: clean_to(&self.scrub.scrub(&why), 300) };
        let output = cmd.run().await.map_err(|error| failed(error.to_string()))?;
        if output.success() {
            return Ok(output.stdout_text().into_owned());
        }
        let said = output.last_words();
        let line = said.lines().find(|line| line.starts_with("fatal: ")).or(said.lines().next());
        Err(failed(line.unwrap_or("git said nothing").trim_start_matches("fatal: ").to_owned()))
    }
}

/// Where a forge's own certificates lie for `git`.
pub(super) fn certificates(root: &Path, forge: &ForgeSettings) -> PathBuf {
    root.join(&forge.name).join("ca.pem")
}
