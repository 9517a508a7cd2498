//! Which files of a folder are put away: those that Git knows or would add, and never an operator's settings.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{LeftOut, NAMED, NotKept};
use crate::versions::{VersionsError, git};

/// The file that operators have their secrets in. It is in no history, or it is none of theirs.
const SETTINGS: &str = ".env";

/// How files of a folder are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rules<'a> {
    /// As the checkout does that the folder is in.
    Checkout,
    /// There is none: by the folder's own `.gitignore` files. An empty repository for it is made there.
    Folder(&'a Path),
}

/// Files of a folder, relative to it and in order.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) files: Vec<PathBuf>,
    pub(super) left_out: Vec<LeftOut>,
}

/// Sorts the files of a folder.
pub(super) async fn list(folder: &Path, rules: Rules<'_>) -> Result<Listed, NotKept> {
    let mut repository = Vec::new();
    if let Rules::Folder(scratch) = rules {
        let made = scratch.join("none.git");
        if !made.exists() {
            let at = made.display().to_string();
            answered(scratch, &["init", "--quiet", "--bare", "--template=", &at]).await?;
        }
        repository =
            vec![format!("--git-dir={}", made.display()), format!("--work-tree={}", folder.display())];
    }
    let listed = async |which: &[&str]| {
        let mut arguments: Vec<&str> = repository.iter().map(String::as_str).collect();
        arguments.extend(["ls-files", "-z"]);
        arguments.extend(which);
        answered(folder, &arguments).await
    };
    let committed = listed(&["--cached"]).await?;
    let others = listed(&["--others", "--exclude-standard"]).await?;
    let ignored = listed(&["--others", "--ignored", "--exclude-standard", "--directory"]).await?;
    let mut found = Listed::default();
    found.files.extend(committed);
    for path in others {
        if is_settings(&path) {
            found.left_out.push(LeftOut::settings(&path));
        } else {
            found.files.push(path);
        }
    }
    let more = ignored.len().saturating_sub(NAMED);
    found.left_out.extend(
        ignored
            .into_iter()
            .take(NAMED)
            .map(|path| LeftOut { path: path.display().to_string(), why: "Git ignores it".to_owned() }),
    );
    if more > 0 {
        found.left_out.push(LeftOut { path: format!("{more} more"), why: "Git ignores them".to_owned() });
    }
    found.files.sort();
    found.files.dedup();
    Ok(found)
}

/// Whether a folder's files are those of a checkout that it is in. One that is ignored there as a whole is not.
pub(super) async fn is_in_checkout(folder: &Path) -> Result<bool, NotKept> {
    let inside = git(folder, false).args(["rev-parse", "--is-inside-work-tree"]).run().await;
    if !inside.map_err(VersionsError::from)?.success() {
        return Ok(false);
    }
    let ignored = git(folder, false).args(["check-ignore", "--quiet", "."]).run().await;
    Ok(!ignored.map_err(VersionsError::from)?.success())
}

/// Whether a file that differs from its commit may be put away.
pub(super) fn is_settings(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == SETTINGS)
}

impl LeftOut {
    /// An operator's settings.
    pub(super) fn settings(path: &Path) -> Self {
        let why = "it is not committed, and operators have secrets in files of that name".to_owned();
        Self { path: path.display().to_string(), why }
    }
}

/// Paths, as `git` says them with `-z`.
async fn answered(folder: &Path, arguments: &[&str]) -> Result<Vec<PathBuf>, NotKept> {
    let output =
        git(folder, false).args(arguments.iter().copied()).run().await.map_err(VersionsError::from)?;
    if !output.success() || output.stdout_truncated {
        let said = if output.stdout_truncated {
            "it names more files than are read".to_owned()
        } else {
            output.last_words().lines().next().unwrap_or_default().to_owned()
        };
        return Err(VersionsError::Refused { command: arguments.join(" "), said }.into());
    }
    let paths = output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    Ok(paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect())
}
