//! Git behind a repository: a bare one in the forge's folder, commits made by plumbing, `git http-backend` for clients.

use std::path::{Path, PathBuf};

use assay_process::Cmd;
use base64::Engine as _;
use hyper::body::Bytes;
use hyper::http::request::Parts;

use super::answer::Answer;
use super::{ForgeDouble, Shared};
use crate::PATIENCE;

/// The largest pack that a test fetches.
const LARGEST: usize = 64 * 1024 * 1024;

impl ForgeDouble {
    /// A repository with Git behind it; its branch `main` has these files. Returns that commit.
    pub async fn git_repository(&self, name: &str, files: &[(&str, &str)]) -> String {
        if !self.shared.world().repos.contains_key(name) {
            self.repository(name);
        }
        let folder = self.shared.folder_of(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        git(&self.shared, name, &["init", "--quiet", "--bare", "--initial-branch=main"], "").await;
        self.commit(name, "main", None, files).await
    }

    /// A repository with Git behind it that has the branches and tags of a checkout; the checked out commit is `main`. Returns
    /// that commit.
    pub async fn import(&self, name: &str, checkout: &Path) -> String {
        self.git_repository(name, &[]).await;
        let (shared, from) = (&self.shared, checkout.display().to_string());
        let fetch =
            ["fetch", "--quiet", "--no-tags", &from, "+HEAD:refs/heads/main", "+refs/tags/*:refs/tags/*"];
        git(shared, name, &fetch, "").await;
        git(shared, name, &["rev-parse", "main"], "").await
    }

    /// A commit on a branch: the files of `parent` (or of nothing) with these beside or over them.
    pub async fn commit(
        &self,
        name: &str,
        branch: &str,
        parent: Option<&str>,
        files: &[(&str, &str)],
    ) -> String {
        let shared = &self.shared;
        let index = ["read-tree", parent.unwrap_or("--empty")];
        git(shared, name, &index, "").await;
        for (path, content) in files {
            let blob = git(shared, name, &["hash-object", "-w", "--stdin"], content).await;
            git(
                shared,
                name,
                &["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{path}")],
                "",
            )
            .await;
        }
        let tree = git(shared, name, &["write-tree"], "").await;
        let mut args = vec!["commit-tree", "-m", "change", &tree];
        args.extend(parent.iter().flat_map(|parent| ["-p", parent]));
        let commit = git(shared, name, &args, "").await;
        git(shared, name, &["update-ref", &format!("refs/heads/{branch}"), &commit], "").await;
        commit
    }

    /// A pull request from a branch into `main`, as `git` sees it; `refs/pull/N/head` is made.
    pub async fn open_git_pull(&self, name: &str, author: &str, branch: &str) -> u64 {
        self.open_git_pull_from(name, name, author, branch).await
    }

    /// The same from a fork of this name, as the API tells it. Its commits lie in the repository itself.
    pub async fn open_git_pull_from(&self, name: &str, fork: &str, author: &str, branch: &str) -> u64 {
        let shared = &self.shared;
        let head = git(shared, name, &["rev-parse", branch], "").await;
        let base = git(shared, name, &["rev-parse", "main"], "").await;
        let changed =
            git(shared, name, &["diff", "--name-only", "--no-renames", &format!("{base}...{head}")], "")
                .await;
        let files = changed.lines().map(|path| (path.to_owned(), None)).collect();
        let number = shared.world().open_pull(name, fork, author, branch, &head, &base, files);
        git(shared, name, &["update-ref", &format!("refs/pull/{number}/head"), &head], "").await;
        number
    }

    /// A branch's commit becomes the head of a pull request.
    pub async fn push_git(&self, name: &str, number: u64, head: &str) {
        git(&self.shared, name, &["update-ref", &format!("refs/pull/{number}/head"), head], "").await;
        self.push(name, number, head);
    }
}

impl Shared {
    pub(super) fn folder_of(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.git"))
    }
}

/// One request to `git http-backend`. Fetching only: nobody pushes to the double.
pub(super) async fn serve(shared: &Shared, head: &Parts, body: &Bytes) -> Answer {
    let path = head.uri.path();
    let known = path.split_once(".git/").map(|(name, _)| name.trim_start_matches('/').to_owned());
    if !known.is_some_and(|name| !name.contains("..") && shared.folder_of(&name).is_dir()) {
        return Answer::refused(404, "Not Found");
    }
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let cmd = Cmd::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", shared.folder.path())
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", head.method.as_str())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(body.to_vec())
        .max_output(LARGEST)
        .timeout(PATIENCE);
    let output = cmd.run().await.expect("git http-backend runs");
    let said = &output.stdout;
    let end = said.windows(4).position(|window| window == b"\r\n\r\n").expect("headers");
    let mut answer = Answer { status: 200, headers: Vec::new(), body: said[end + 4..].to_vec() };
    for line in String::from_utf8_lossy(&said[..end]).lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        if name.eq_ignore_ascii_case("status") {
            answer.status = value.split(' ').next().and_then(|code| code.parse().ok()).expect("a status");
        } else {
            answer.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    answer
}

/// The token that a client of Git shows, as the password of whoever.
pub(super) fn token(head: &Parts) -> Option<String> {
    let login = head.headers.get("authorization")?.to_str().ok()?.strip_prefix("Basic ")?;
    let login = String::from_utf8(base64::prelude::BASE64_STANDARD.decode(login).ok()?).ok()?;
    Some(login.split_once(':')?.1.to_owned())
}

/// Runs `git` in a repository; what it says, without the line's end.
async fn git(shared: &Shared, name: &str, args: &[&str], input: &str) -> String {
    let folder = shared.folder_of(name);
    let output = Cmd::new("git")
        .arg("--git-dir")
        .arg(folder.as_os_str())
        .args(args.iter().copied())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_INDEX_FILE", folder.join("index-of-the-double"))
        .env("GIT_AUTHOR_NAME", "Somebody")
        .env("GIT_AUTHOR_EMAIL", "somebody@example.net")
        .env("GIT_COMMITTER_NAME", "Somebody")
        .env("GIT_COMMITTER_EMAIL", "somebody@example.net")
        .env("GIT_AUTHOR_DATE", "2026-11-21T09:30:00Z")
        .env("GIT_COMMITTER_DATE", "2026-11-21T09:30:00Z")
        .stdin(input.as_bytes().to_vec())
        .timeout(PATIENCE)
        .run_ok()
        .await
        .unwrap_or_else(|e| panic!("git {args:?}: {e}"));
    output.stdout_text().trim_end().to_owned()
}
