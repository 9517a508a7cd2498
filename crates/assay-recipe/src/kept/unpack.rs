//! Takes a recipe out of its file again. The file may be a stranger's: nothing is written outside of the folder that was named, through
//! no link, and not into a history.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use super::{
    CHANGED, FORMAT, HISTORY, History, LeftOut, MANIFEST, MOST, Manifest, RECIPE, RECIPES, TESTS, TestsAt,
};
use crate::versions::{Checkout, VersionsError};

/// A recipe that was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The recipe's folder, as it was when it was read.
    pub folder: PathBuf,
    /// The folder of its tests, where that was not in the recipe's own.
    pub tests: Option<PathBuf>,
    /// The folder with the recipes that it depends on, each under its name.
    pub recipes: Option<PathBuf>,
    /// What was read then and is not here.
    pub left_out: Vec<LeftOut>,
}

/// The file is none, or not one that is read here.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It was made otherwise.
    #[error("the recipe in the evidence does not read: {0}")]
    Form(String),
    /// A name in it leads elsewhere.
    #[error("the recipe in the evidence has `{0}`, which leads out of it; nothing is done with it")]
    LeadsOut(String),
    /// The folder cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `git` does not take the history.
    #[error("the history of the recipe in the evidence: {0}")]
    Git(#[from] VersionsError),
}

/// Takes a recipe out of its file into a folder, which must be empty.
///
/// # Errors
/// [`UnpackError`]. What was written until then stays.
pub async fn unpack(bytes: &[u8], folder: &Path) -> Result<Unpacked, UnpackError> {
    let (manifest, mut entries) = read(bytes)?;
    let name = Path::new(&manifest.name);
    let recipe = folder.join(RECIPE).join(safe(name)?);
    if manifest.name.starts_with('-') || name.components().count() != 1 {
        return Err(UnpackError::LeadsOut(manifest.name));
    }
    make(&recipe)?;
    if let Some(history) = &manifest.history {
        unbundle(&mut entries, Path::new(RECIPE), history, &recipe, folder).await?;
        for gone in &history.gone {
            let gone = Path::new(gone);
            remove(&at(&recipe, safe(gone)?)?)?;
        }
    }
    let own_tests = recipe.join(TESTS);
    let tests = match manifest.tests {
        None => None,
        Some(TestsAt::Apart) => Some(folder.join(TESTS)),
        Some(TestsAt::Recipe) => {
            remove(&own_tests)?;
            None
        }
    };
    place(&entries, &Path::new(RECIPE).join(CHANGED), &recipe)?;
    if manifest.tests.is_some() {
        let to = tests.as_ref().unwrap_or(&own_tests);
        make(to)?;
        place(&entries, Path::new(TESTS), to)?;
    }
    for other in &manifest.recipes {
        let name = Path::new(&other.name);
        let from = Path::new(RECIPES).join(safe(name)?);
        if name.components().count() != 1 || other.name.starts_with('-') {
            return Err(UnpackError::LeadsOut(other.name.clone()));
        }
        let to = folder.join(&from);
        make(&to)?;
        unbundle(&mut entries, &from, &other.history, &to, folder).await?;
    }
    let recipes = (!manifest.recipes.is_empty()).then(|| folder.join(RECIPES));
    Ok(Unpacked { folder: recipe, tests, recipes, left_out: manifest.left_out })
}

enum Entry {
    File { bytes: Vec<u8>, executable: bool },
    Link(PathBuf),
}

type Entries = BTreeMap<PathBuf, Entry>;

fn read(bytes: &[u8]) -> Result<(Manifest, Entries), UnpackError> {
    let form = |error: &dyn std::fmt::Display| UnpackError::Form(error.to_string());
    if bytes.len() as u64 > MOST {
        return Err(UnpackError::Form(format!("it has more than {} MiB", MOST >> 20)));
    }
    let mut archive = tar::Archive::new(bytes);
    let mut entries = Entries::new();
    for entry in archive.entries().map_err(|error| form(&error))? {
        let mut entry = entry.map_err(|error| form(&error))?;
        let name = entry.path().map_err(|error| form(&error))?.into_owned();
        safe(&name)?;
        let content = match entry.header().entry_type() {
            tar::EntryType::Regular => {
                let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(|error| form(&error))?;
                Entry::File { bytes, executable }
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name().map_err(|error| form(&error))?;
                Entry::Link(target.ok_or_else(|| form(&"a link without an end"))?.into_owned())
            }
            other => return Err(form(&format!("{} is a {other:?}", name.display()))),
        };
        entries.insert(name, content);
    }
    let Some(Entry::File { bytes, .. }) = entries.remove(Path::new(MANIFEST)) else {
        return Err(form(&format!("it has no {MANIFEST}")));
    };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| form(&error))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if format != Some(u64::from(FORMAT)) {
        return Err(form(&format!(
            "its form is {}, and this program reads {FORMAT}; use the one that made it",
            format.map_or_else(|| "not said".to_owned(), |format| format.to_string())
        )));
    }
    Ok((serde_json::from_value(value).map_err(|error| form(&error))?, entries))
}

/// A path that stays where it is put, and is in no history.
fn safe(path: &Path) -> Result<&Path, UnpackError> {
    let plain = |part: Component<'_>| match part {
        Component::Normal(name) => !name.eq_ignore_ascii_case(".git"),
        _ => false,
    };
    let is_safe = path.components().next().is_some() && path.components().all(plain);
    if is_safe { Ok(path) } else { Err(UnpackError::LeadsOut(path.display().to_string())) }
}

async fn unbundle(
    entries: &mut Entries,
    from: &Path,
    history: &History,
    to: &Path,
    scratch: &Path,
) -> Result<(), UnpackError> {
    let Some(Entry::File { bytes, .. }) = entries.remove(&from.join(HISTORY)) else {
        return Err(UnpackError::Form(format!("it has no {}", from.join(HISTORY).display())));
    };
    let bundle = scratch.join(HISTORY);
    let failed = |source| UnpackError::Io { path: bundle.clone(), source };
    fs::write(&bundle, bytes).map_err(failed)?;
    Checkout::of_history(&bundle, &history.commit, &history.shallow, to).await?;
    fs::remove_file(&bundle).map_err(failed)
}

/// Writes what is below a name; links at last, so that nothing is written through one.
fn place(entries: &Entries, below: &Path, to: &Path) -> Result<(), UnpackError> {
    let found = entries.iter().filter_map(|(name, entry)| Some((name.strip_prefix(below).ok()?, entry)));
    let (files, links): (Vec<_>, Vec<_>) = found.partition(|(_, entry)| matches!(entry, Entry::File { .. }));
    for (name, entry) in files.into_iter().chain(links) {
        let path = at(to, name)?;
        remove(&path)?;
        let failed = |source| UnpackError::Io { path: path.clone(), source };
        match entry {
            Entry::File { bytes, executable } => {
                fs::write(&path, bytes).map_err(failed)?;
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(failed)?;
            }
            Entry::Link(target) => std::os::unix::fs::symlink(target, &path).map_err(failed)?,
        }
    }
    Ok(())
}

/// Where a path is below a folder; the folders on the way are made, and none of them is a link.
fn at(folder: &Path, path: &Path) -> Result<PathBuf, UnpackError> {
    let mut here = folder.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        here.push(part);
        match here.symlink_metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(UnpackError::LeadsOut(path.display().to_string())),
            Err(_) => make(&here)?,
        }
    }
    Ok(folder.join(path))
}

/// Takes away what is there, whatever it is; no link is followed.
fn remove(path: &Path) -> Result<(), UnpackError> {
    let gone = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    gone.map_err(|source| UnpackError::Io { path: path.to_owned(), source })
}

fn make(folder: &Path) -> Result<(), UnpackError> {
    fs::create_dir_all(folder).map_err(|source| UnpackError::Io { path: folder.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a manifest and one more entry.
    fn file(manifest: &str, name: &str, link: Option<&str>) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(manifest.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, MANIFEST, manifest.as_bytes()).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        // A name as a stranger would write it, which the builder would refuse.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(target) = link {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name_literal(target).unwrap();
        }
        header.set_cksum();
        tar.append(&header, std::io::empty()).unwrap();
        tar.into_inner().unwrap()
    }

    #[tokio::test]
    async fn nothing_of_a_stranger_s_is_written_elsewhere() {
        let plain = r#"{"format": 1, "name": "shop"}"#;
        for (manifest, name, link, told) in [
            (plain, "../x", None, "`../x`, which leads out of it"),
            (plain, "/x", None, "`/x`, which leads out of it"),
            (plain, "recipe/files/.GIT/config", None, "`recipe/files/.GIT/config`, which leads out of it"),
            (r#"{"format": 1, "name": "../shop"}"#, "x", None, "`../shop`, which leads out of it"),
            (r#"{"format": 1, "name": "a/b"}"#, "x", None, "`a/b`, which leads out of it"),
            (r#"{"format": 2, "name": "shop"}"#, "x", None, "its form is 2, and this program reads 1"),
            (r#"{"format": 1}"#, "x", None, "missing field `name`"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let error = unpack(&file(manifest, name, link), folder.path()).await.unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
        let error = unpack(b"none", Path::new("/nowhere")).await.unwrap_err();
        assert!(error.to_string().contains("does not read"), "{error}");
    }

    #[test]
    fn a_link_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (to, elsewhere) = (folder.path().join("to"), folder.path().join("elsewhere"));
        fs::create_dir(&to).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, to.join("link")).unwrap();
        let file = |text: &str| Entry::File { bytes: text.into(), executable: false };
        let entries = Entries::from([(PathBuf::from("files/link/x"), file("x"))]);
        assert!(matches!(place(&entries, Path::new("files"), &to), Err(UnpackError::LeadsOut(_))));
        let entries = Entries::from([(PathBuf::from("files/link"), file("now a file"))]);
        place(&entries, Path::new("files"), &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("link")).unwrap(), "now a file");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}
