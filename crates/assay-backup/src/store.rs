//! A restic repository in a folder: everything that restic keeps is in there, its cache and its password as well.
//!
//! Restic reads volumes whose content is a stranger's, as root and by path. It is therefore run in a root of its own
//! (`sandbox.sh`), in which there is nothing of this machine but its programs: a link that a container puts somewhere in the very
//! moment in which restic looks there leads nowhere. Paths in a snapshot are `/data/VOLUME/…`, with the volume's name in the
//! files, so that they are the same for every stack and machine.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use assay_process::{Cmd, Output, ProcessError, find_program};
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BackupError, folder};

const SANDBOX: &str = include_str!("sandbox.sh");
/// What each snapshot is made under, whatever this machine is called.
const HOST: &str = "assay";
/// Paths kept of what could not be read.
const UNREAD: usize = 50;
/// What restic may take for things that do not depend on how much there is.
const SHORT: Duration = Duration::from_mins(2);
const IS_NONE: &str = "holds no repository of ours: make one there with `Store::create`";

/// A repository. Nothing outside of its folder is written, but what is restored.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    restic: PathBuf,
}

/// A snapshot that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Its id, in hex digits.
    pub id: String,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that the repository grew by.
    pub added: u64,
    /// Paths that could not be read (the first 50): they vanished meanwhile, or something is wrong with them.
    pub unread: Vec<String>,
    /// How many these were.
    pub unread_count: u64,
}

/// What is in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreStats {
    /// Bytes of its data, each once.
    pub bytes: u64,
    /// In how many pieces.
    pub blobs: u64,
}

/// A folder that restic sees as `/data/NAME`.
#[derive(Clone, Debug)]
pub(crate) struct Bound<'a> {
    pub name: &'a str,
    pub path: &'a Path,
}

/// Whether restic may write to what it sees.
#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

impl Access {
    fn option(self) -> &'static str {
        match self {
            Self::Read => "ro",
            Self::Write => "rw",
        }
    }
}

impl Store {
    /// Makes a repository in a folder that is not there yet, with a password of its own that nobody has to know.
    ///
    /// # Errors
    /// [`BackupError::Process`] when restic is not installed; [`BackupError::Repository`] when something is there already.
    pub async fn create(folder: &Path) -> Result<Self, BackupError> {
        let this = Self::at(folder)?;
        std::fs::create_dir(&this.folder).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => BackupError::Repository {
                folder: this.folder.clone(),
                what: "is there already: open it with `Store::open`, or choose another folder",
            },
            _ => BackupError::Folder { doing: "making", path: this.folder.clone(), source },
        })?;
        if let Err(error) = this.fill().await {
            // Half a store would be taken for one. Why it could not be made matters more than what is left of it.
            let _ = std::fs::remove_dir_all(&this.folder);
            return Err(error);
        }
        Ok(this)
    }

    /// Opens one that is there.
    ///
    /// # Errors
    /// [`BackupError::Repository`] when there is none; [`BackupError::WrongPassword`].
    pub async fn open(folder: &Path) -> Result<Self, BackupError> {
        let this = Self::at(folder)?;
        if !folder::is_there(&this.folder.join("password")) {
            return Err(BackupError::Repository { folder: this.folder, what: IS_NONE });
        }
        this.snapshots().await?;
        Ok(this)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Restic's version, as it says it.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn version(&self) -> Result<String, BackupError> {
        Ok(Cmd::new(&self.restic)
            .arg("version")
            .timeout(SHORT)
            .run_ok()
            .await?
            .stdout_text()
            .trim()
            .to_owned())
    }

    /// The ids of all snapshots, the oldest first.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn snapshots(&self) -> Result<Vec<String>, BackupError> {
        let output = self.run("snapshots", &["snapshots", "--json"], Access::Read, &[], SHORT).await?;
        let listed: Vec<Value> = serde_json::from_slice(&output.stdout)
            .map_err(|error| BackupError::Unreadable { doing: "snapshots", what: error.to_string() })?;
        let id = |snapshot: &Value| snapshot.get("id").and_then(Value::as_str).map(str::to_owned);
        Ok(listed.iter().filter_map(id).collect())
    }

    /// Reads everything in it and checks that it is what was written.
    ///
    /// # Errors
    /// [`BackupError::Restic`] with restic's words when it is not.
    pub async fn check(&self, limit: Duration) -> Result<(), BackupError> {
        self.run("check", &["check", "--read-data"], Access::Read, &[], limit).await.map(drop)
    }

    /// How much is in it.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn stats(&self) -> Result<StoreStats, BackupError> {
        let arguments = ["stats", "--json", "--mode", "raw-data"];
        let output = self.run("stats", &arguments, Access::Read, &[], SHORT).await?;
        let told: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| BackupError::Unreadable { doing: "stats", what: error.to_string() })?;
        let number = |name| told.get(name).and_then(Value::as_u64).unwrap_or_default();
        Ok(StoreStats { bytes: number("total_size"), blobs: number("total_blob_count") })
    }

    /// Backs up paths of these folders: each is `NAME` or `NAME/PATH`.
    pub(crate) async fn back_up(
        &self,
        folders: &[Bound<'_>],
        paths: &[String],
        tag: &str,
        limit: Duration,
    ) -> Result<Snapshot, BackupError> {
        // `--force`: each snapshot reads everything; that a file looks unchanged is not taken for its word.
        let mut arguments: Vec<String> =
            ["backup", "--json", "--force", "--host", HOST, "--tag", tag, "--"].map(str::to_owned).to_vec();
        arguments.extend(paths.iter().map(|path| format!("/data/{path}")));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = self.run("backup", &arguments, Access::Read, folders, limit).await?;
        summary(&output)
    }

    /// Restores a snapshot below a folder of this machine, which has to be empty: what was `/data/NAME` is `data/NAME` in there.
    pub(crate) async fn restore(
        &self,
        snapshot: &str,
        into: &Path,
        limit: Duration,
    ) -> Result<(), BackupError> {
        let into = [Bound { name: "restored", path: into }];
        let arguments = ["restore", snapshot, "--target", "/data/restored"];
        let output = self.run("restore", &arguments, Access::Write, &into, limit).await?;
        // Versions before 0.17 end with 0 although a file could not be restored.
        let said = output.stderr_text();
        match said.lines().find(|line| line.starts_with("There were ") || line.starts_with("ignoring error"))
        {
            None => Ok(()),
            Some(line) => Err(BackupError::Restic {
                doing: "restore",
                how: "not all could be restored".to_owned(),
                said: shortened(line),
            }),
        }
    }

    async fn fill(&self) -> Result<(), BackupError> {
        for name in ["root", "tmp", "cache", "repository"] {
            let path = self.folder.join(name);
            std::fs::create_dir(&path).map_err(BackupError::folder("making", path.as_path()))?;
        }
        let only_ours = rustix::fs::Mode::from_raw_mode(0o700);
        rustix::fs::chmod(&self.folder, only_ours)
            .map_err(BackupError::system("protecting", self.folder.as_path()))?;
        let password: [u8; 32] = rand::rng().random();
        let opened = folder::Folder::open(&self.folder)
            .and_then(|folder| folder.new_file("password", 0o600))
            .map_err(BackupError::system("making", self.folder.join("password")))?;
        let written = (&opened).write_all(hex::encode(password).as_bytes());
        written.map_err(BackupError::folder("writing", self.folder.join("password")))?;
        self.run("init", &["init"], Access::Read, &[], SHORT).await.map(drop)
    }

    fn at(folder: &Path) -> Result<Self, BackupError> {
        let restic = find_program("restic").map_err(|error| match error {
            ProcessError::NotFound { program, .. } => ProcessError::NotFound {
                program,
                hint: "install it with `apt-get install restic`".to_owned(),
            },
            other => other,
        })?;
        let folder = std::path::absolute(folder).map_err(BackupError::folder("using", folder))?;
        Ok(Self { folder, restic })
    }

    /// Runs restic. A lock whose owner is dead (ours, of a run that was killed) is taken away, once.
    async fn run(
        &self,
        doing: &'static str,
        arguments: &[&str],
        access: Access,
        folders: &[Bound<'_>],
        limit: Duration,
    ) -> Result<Output, BackupError> {
        match self.run_once(doing, arguments, access, folders, limit).await {
            Err(BackupError::Locked { .. }) => {}
            other => return other,
        }
        self.run_once("unlock", &["unlock"], Access::Read, &[], SHORT).await?;
        self.run_once(doing, arguments, access, folders, limit).await
    }

    async fn run_once(
        &self,
        doing: &'static str,
        arguments: &[&str],
        access: Access,
        folders: &[Bound<'_>],
        limit: Duration,
    ) -> Result<Output, BackupError> {
        let mut command = Cmd::new("unshare")
            .args(["--mount", "--propagation", "private", "--", "/bin/sh", "-c", SANDBOX, "assay-restic"])
            .arg(self.folder.join("root"))
            .arg(&self.folder)
            .arg(&self.restic)
            .arg(access.option());
        for Bound { name, path } in folders {
            command = command.arg(*name).arg(*path);
        }
        let command = command
            .arg("--")
            .args(arguments.iter().copied())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/store/tmp")
            .env("TMPDIR", "/store/tmp")
            .env("RESTIC_CACHE_DIR", "/store/cache")
            .env("RESTIC_REPOSITORY", "/store/repository")
            .env("RESTIC_PASSWORD_FILE", "/store/password")
            // Progress is for people; each line of it is one more to read.
            .env("RESTIC_PROGRESS_FPS", "0.1")
            .timeout(limit);
        let output = command.run().await.map_err(|error| match error {
            ProcessError::Timeout { .. } => BackupError::Slow { doing, limit },
            other => BackupError::Process(other),
        })?;
        match output.code() {
            Some(0) => Ok(output),
            // What could be read is in the snapshot, and the summary was written.
            Some(3) if doing == "backup" => Ok(output),
            _ => Err(self.failure(doing, &output)),
        }
    }

    fn failure(&self, doing: &'static str, output: &Output) -> BackupError {
        let said = shortened(&output.last_words());
        let all = output.stderr_text();
        let says = |part: &str| all.contains(part);
        let folder = self.folder.clone();
        if says("wrong password or no key found") {
            return BackupError::WrongPassword { folder };
        }
        if says("no space left on device") || says("No space left on device") {
            return BackupError::NoSpace { doing, folder, said };
        }
        if says("repository is already locked") {
            return BackupError::Locked { folder, said };
        }
        if says("Is there a repository at the following location") || says("repository does not exist") {
            return BackupError::Repository { folder, what: IS_NONE };
        }
        let how = match (output.code(), output.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        };
        BackupError::Restic { doing, how, said }
    }
}

/// Reads what `restic backup --json` wrote, a message a line, errors among them on either stream.
fn summary(output: &Output) -> Result<Snapshot, BackupError> {
    let (stdout, stderr) = (output.stdout_text(), output.stderr_text());
    let mut found = None;
    let (mut unread, mut unread_count) = (Vec::new(), 0);
    let messages = stdout.lines().chain(stderr.lines()).filter_map(|line| serde_json::from_str(line).ok());
    for message in messages {
        let message: Value = message;
        match message.get("message_type").and_then(Value::as_str) {
            Some("summary") => found = Some(message),
            Some("error") => {
                unread_count += 1;
                let item = message.get("item").and_then(Value::as_str).unwrap_or("(not said)");
                if unread.len() < UNREAD {
                    unread.push(shortened(item.strip_prefix("/data/").unwrap_or(item)));
                }
            }
            _ => {}
        }
    }
    let missing = |what: &str| BackupError::Unreadable { doing: "backup", what: what.to_owned() };
    let found = found.ok_or_else(|| missing("no summary"))?;
    let number = |name| found.get(name).and_then(Value::as_u64).unwrap_or_default();
    let id = found.get("snapshot_id").and_then(Value::as_str).ok_or_else(|| missing("no snapshot_id"))?;
    Ok(Snapshot {
        id: id.to_owned(),
        files: number("total_files_processed"),
        bytes: number("total_bytes_processed"),
        added: number("data_added"),
        unread,
        unread_count,
    })
}

/// Some of a text, with nothing in it that a terminal heeds.
pub(crate) fn shortened(text: &str) -> String {
    readable(text, 400)
}

/// A text of strangers, at most so many characters of it.
pub(crate) fn readable(text: &str, most: usize) -> String {
    let hostile = |c: char| {
        c != '\n'
            && (c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'))
    };
    let mut kept: String = text
        .trim()
        .chars()
        .take(most)
        .map(|c| if hostile(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.trim().chars().nth(most).is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

    use assay_process::Output;

    use super::{readable, summary};

    /// What a backup wrote in which a file vanished, as it comes: errors on the other stream.
    fn output(stdout: &str, stderr: &str) -> Output {
        Output {
            status: ExitStatus::from_raw(3 << 8),
            stdout: stdout.as_bytes().to_vec(),
            stderr: stderr.as_bytes().to_vec(),
            stdout_truncated: false,
            stderr_truncated: false,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn what_could_not_be_read_is_told_beside_what_could() {
        let status = r#"{"message_type":"status","percent_done":0.5,"total_files":2}"#;
        let done = r#"{"message_type":"summary","files_new":1,"data_added":70,"total_files_processed":1,"total_bytes_processed":60,"snapshot_id":"ab12"}"#;
        let error = r#"{"message_type":"error","error":{"message":"gone"},"during":"archival","item":"/data/v/a\u001b[2Jb"}"#;
        let told = summary(&output(&format!("{status}\n{done}\n"), &format!("warning\n{error}\n"))).unwrap();
        assert_eq!((told.id.as_str(), told.files, told.bytes, told.added), ("ab12", 1, 60, 70));
        assert_eq!((told.unread, told.unread_count), (vec!["v/a\u{fffd}[2Jb".to_owned()], 1));
        let error = summary(&output(status, "")).unwrap_err().to_string();
        assert!(error.contains("said nothing that can be read (no summary)"), "{error}");
    }

    #[test]
    fn words_of_strangers_do_nothing_to_a_terminal_and_end() {
        assert_eq!(readable(" a\u{1b}b\u{202e}c\nd ", 6), "a\u{fffd}b\u{fffd}c\n…");
    }
}
