//! Changes that the stand-in makes itself: the first commit, merges, removals, deletions. Plumbing only, so no work tree.

use std::fmt::Write as _;

use assay_model::Micros;
use assay_process::Cmd;

use super::{NONE, Repository, done, is_id, odd};
use crate::{Config, MergeKind, Refusal, StandInError};

/// Who makes a commit, and when.
#[derive(Clone, Debug)]
pub(crate) struct Author {
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) at: Micros,
}

impl Author {
    pub(crate) fn of(config: &Config) -> Self {
        Self { name: config.name.clone(), email: config.email.clone(), at: config.now() }
    }

    fn seconds(&self) -> i64 {
        self.at.0.div_euclid(1_000_000).max(0)
    }
}

impl Repository {
    pub(super) async fn seed(&self, config: &Config) -> Result<(), StandInError> {
        let author = Author::of(config);
        let mut stream = format!(
            "commit refs/heads/{}\ncommitter {} <{}> {} +0000\ndata 5\nSeed\n",
            self.default_branch,
            author.name,
            author.email,
            author.seconds()
        )
        .into_bytes();
        for (path, content) in &config.seed {
            let quoted = path.replace('\\', "\\\\").replace('"', "\\\"");
            stream.extend(format!("M 100644 inline \"{quoted}\"\ndata {}\n", content.len()).bytes());
            stream.extend(content);
            stream.push(b'\n');
        }
        let import =
            self.git().args(["fast-import", "--quiet", "--date-format=raw", "--force"]).stdin(stream);
        done("writing the first commit", import.run_ok().await)?;
        Ok(())
    }

    /// Merges `branch` into the default branch; returns the default branch's new commit.
    ///
    /// The caller holds [`Repository::change`].
    pub(crate) async fn merge(
        &self,
        branch: &str,
        title: &str,
        author: &Author,
    ) -> Result<(String, MergeKind), StandInError> {
        let doing = "merging a branch";
        let no_branch = || Refusal::NoBranch { branch: branch.to_owned() };
        let head = self.branch(branch).await?.ok_or_else(no_branch)?;
        let base_name = self.default_branch.clone();
        let base =
            self.branch(&base_name).await?.ok_or(StandInError::NoSuchRef { name: base_name.clone() })?;
        if self.ahead(&head, &base).await? == 0 {
            self.move_branch(&base_name, &head, &base).await?;
            return Ok((head, MergeKind::FastForward));
        }
        let merged = self.git().args(["merge-tree", "--write-tree", "--name-only", "-z", "--no-messages"]);
        let merged = done(doing, merged.args([base.as_str(), head.as_str()]).run().await)?;
        let said = merged.stdout_text();
        let mut words = said.split('\0').filter(|word| !word.is_empty());
        let tree = words.next().map(str::trim).unwrap_or_default().to_owned();
        match merged.code() {
            Some(0) if is_id(&tree) => {}
            Some(1) => {
                let paths = words.map(str::to_owned).collect();
                return Err(Refusal::Conflict { branch: branch.to_owned(), paths }.into());
            }
            _ => return Err(odd(doing, merged.last_words().as_bytes())),
        }
        let message = format!("Merge branch '{branch}'\n\n{title}\n");
        let commit = self.commit_tree(&tree, &[&base, &head], &message, author).await?;
        self.move_branch(&base_name, &commit, &base).await?;
        Ok((commit, MergeKind::MergeCommit))
    }

    /// Makes `branch`, which is the default branch without what is below `folder`; returns its commit and what is gone.
    ///
    /// The caller holds [`Repository::change`].
    pub(crate) async fn remove_below(
        &self,
        folder: &str,
        branch: &str,
        message: &str,
        author: &Author,
    ) -> Result<(String, Vec<String>), StandInError> {
        let doing = "taking files out of a tree";
        let base_name = self.default_branch.clone();
        let base = self.branch(&base_name).await?.ok_or(StandInError::NoSuchRef { name: base_name })?;
        let listed = self
            .run(doing, ["ls-tree", "-r", "-z", "--name-only", "--full-tree", &base, "--", folder])
            .await?;
        let gone: Vec<&[u8]> =
            listed.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()).collect();
        if gone.is_empty() {
            return Err(Refusal::NotRegistered { path: folder.to_owned() }.into());
        }
        let index = self.spool()?;
        // `git` wants to make the file itself.
        let index = index.into_temp_path();
        let _ = std::fs::remove_file(&index);
        let with_index = |cmd: Cmd| cmd.env("GIT_INDEX_FILE", &*index);
        done(doing, with_index(self.git()).args(["read-tree", base.as_str()]).run_ok().await)?;
        let removals: Vec<u8> =
            gone.iter().flat_map(|path| [format!("0 {NONE}\t").as_bytes(), path, b"\0"].concat()).collect();
        let update = with_index(self.git()).args(["update-index", "-z", "--index-info"]).stdin(removals);
        done(doing, update.run_ok().await)?;
        let tree = done(doing, with_index(self.git()).arg("write-tree").run_ok().await)?;
        let tree = tree.stdout_text().trim().to_owned();
        let commit = self.commit_tree(&tree, &[&base], message, author).await?;
        self.move_branch(branch, &commit, NONE).await?;
        let gone = gone.into_iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        Ok((commit, gone))
    }

    /// Deletes a branch; returns its commit, or `None` where there is none.
    ///
    /// The caller holds [`Repository::change`].
    pub(crate) async fn delete_branch(&self, branch: &str) -> Result<Option<String>, StandInError> {
        let Some(commit) = self.branch(branch).await? else {
            return Ok(None);
        };
        let reference = format!("refs/heads/{branch}");
        self.run("deleting a branch", ["update-ref", "-d", &reference, &commit]).await?;
        Ok(Some(commit))
    }

    /// Moves the default branch to a commit that is there already.
    pub(crate) async fn move_default(&self, to: &str) -> Result<(), StandInError> {
        let to = self.resolve(to).await?;
        let from = self.resolve(&self.default_branch).await?;
        self.move_branch(&self.default_branch, &to, &from).await
    }

    async fn move_branch(&self, branch: &str, to: &str, from: &str) -> Result<(), StandInError> {
        let reference = format!("refs/heads/{branch}");
        self.run("moving a branch", ["update-ref", &reference, to, from]).await?;
        Ok(())
    }

    async fn commit_tree(
        &self,
        tree: &str,
        parents: &[&str],
        message: &str,
        author: &Author,
    ) -> Result<String, StandInError> {
        let mut date = String::new();
        let _ = write!(date, "@{} +0000", author.seconds());
        let mut cmd = self.git().args(["commit-tree", tree]);
        for parent in parents {
            cmd = cmd.args(["-p", parent]);
        }
        for role in ["AUTHOR", "COMMITTER"] {
            cmd = cmd
                .env(format!("GIT_{role}_NAME"), &author.name)
                .env(format!("GIT_{role}_EMAIL"), &author.email)
                .env(format!("GIT_{role}_DATE"), &date);
        }
        let doing = "writing a commit";
        let made = done(doing, cmd.stdin(message).run_ok().await)?;
        let id = made.stdout_text().trim().to_owned();
        if is_id(&id) { Ok(id) } else { Err(odd(doing, &made.stdout)) }
    }
}
