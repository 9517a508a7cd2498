//! Puts a recipe away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use super::list::{Rules, is_in_checkout, is_settings, list};
use super::{
    CHANGED, FILES, FORMAT, HISTORY, History, LeftOut, MANIFEST, MOST, Manifest, NotKept, Other, RECIPE,
    RECIPES, TESTS, TestsAt,
};
use crate::versions::Checkout;

/// What a run has read.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The recipe's name.
    pub name: &'a str,
    /// The version under test, in a folder that nobody else changes: a checkout of the commit with what differs from it, or a copy of a
    /// folder without history.
    pub folder: &'a Path,
    /// The folder that it was taken from: what is ignored is said there.
    pub origin: &'a Path,
    /// Paths that differ from the commit that is checked out; none for a folder without history.
    pub changed: Option<&'a [String]>,
    /// The folder with its tests.
    pub tests: Option<(TestsAt, &'a Path)>,
    /// Checkouts of the recipes that it depends on, by their names; their releases are read.
    pub recipes: &'a [(String, PathBuf)],
    /// A folder for what is needed meanwhile, outside of all of these.
    pub scratch: &'a Path,
}

/// A recipe that was put away.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The file.
    pub bytes: Vec<u8>,
    /// What was read and is not in it.
    pub left_out: Vec<LeftOut>,
}

/// Puts a recipe into one file.
///
/// # Errors
/// [`NotKept`]: it is too large, or something of it cannot be read.
pub async fn pack(parts: &Parts<'_>) -> Result<Packed, NotKept> {
    let mut packing = Packing::default();
    // Tests of the recipe's own are told by themselves, as they lay there.
    let apart = parts.tests.filter(|(at, _)| *at == TestsAt::Recipe).map(|_| Path::new(TESTS));
    let history = if let Some(changed) = parts.changed {
        Some(packing.checkout(parts, changed, apart).await?)
    } else {
        packing.folder(parts, apart).await?;
        None
    };
    if let Some((_, folder)) = parts.tests {
        let listed = list(folder, rules(folder, parts.scratch).await?).await?;
        packing.all(folder, &listed.files, Path::new(TESTS))?;
        packing.left_out.extend(
            listed
                .left_out
                .into_iter()
                .map(|left| LeftOut { path: format!("{TESTS}/{}", left.path), why: left.why }),
        );
    }
    let mut recipes = Vec::new();
    for (name, folder) in parts.recipes {
        let to = Path::new(RECIPES).join(name);
        let what = format!("the recipe {name}, which it depends on,");
        let history = packing.history(folder, &to, parts.scratch, &what).await?;
        recipes.push(Other { name: name.clone(), history });
    }
    let manifest = Manifest {
        format: FORMAT,
        name: parts.name.to_owned(),
        history,
        tests: parts.tests.map(|(at, _)| at),
        recipes,
        left_out: packing.left_out,
    };
    let bytes = written(&manifest, &packing.entries)
        .map_err(|source| NotKept::Io { path: super::FILE.into(), source })?;
    if bytes.len() as u64 > MOST {
        return Err(too_many_bytes("the recipe", bytes.len() as u64));
    }
    Ok(Packed { bytes, left_out: manifest.left_out })
}

/// What goes in, by name.
#[derive(Debug)]
enum Entry {
    File { bytes: Vec<u8>, executable: bool },
    Link(PathBuf),
}

#[derive(Debug, Default)]
struct Packing {
    entries: BTreeMap<PathBuf, Entry>,
    bytes: u64,
    left_out: Vec<LeftOut>,
}

impl Packing {
    /// A checkout: its history, and what differs from the commit.
    async fn checkout(
        &mut self,
        parts: &Parts<'_>,
        changed: &[String],
        apart: Option<&Path>,
    ) -> Result<History, NotKept> {
        let recipe = Path::new(RECIPE);
        let mut history = self.history(parts.folder, recipe, parts.scratch, "the recipe").await?;
        let committed = committed(parts.folder).await?;
        for path in changed.iter().map(Path::new) {
            if !path.components().all(|part| matches!(part, Component::Normal(_))) {
                continue;
            }
            let name = path.components().as_path();
            if apart.is_some_and(|apart| name.starts_with(apart)) {
                continue;
            }
            if is_settings(name) && !committed.contains(name) {
                self.left_out.push(LeftOut::settings(name));
                continue;
            }
            // What became a folder was something else before.
            if self.any(&parts.folder.join(name), &recipe.join(CHANGED).join(name))? != Some(true) {
                history.gone.push(name.display().to_string());
            }
        }
        Ok(history)
    }

    /// A folder without history: its files.
    async fn folder(&mut self, parts: &Parts<'_>, apart: Option<&Path>) -> Result<(), NotKept> {
        let is_apart = |path: &Path| apart.is_some_and(|apart| path.starts_with(apart));
        let listed = list(parts.origin, rules(parts.origin, parts.scratch).await?).await?;
        let files = listed.files.iter().filter(|path| !is_apart(path));
        self.all(parts.folder, files, &Path::new(RECIPE).join(CHANGED))?;
        self.left_out.extend(listed.left_out.into_iter().filter(|left| !is_apart(Path::new(&left.path))));
        Ok(())
    }

    /// Files of a folder.
    fn all<'f>(
        &mut self,
        folder: &Path,
        files: impl IntoIterator<Item = &'f PathBuf>,
        to: &Path,
    ) -> Result<(), NotKept> {
        for file in files {
            let from = folder.join(file);
            if from.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                let why = "it is a repository of its own".to_owned();
                self.left_out.push(LeftOut { path: file.display().to_string(), why });
                continue;
            }
            self.any(&from, &to.join(file))?;
        }
        Ok(())
    }

    /// A file, a link, or a folder with everything in it: whether it is a file or a link; none where there is nothing.
    fn any(&mut self, from: &Path, to: &Path) -> Result<Option<bool>, NotKept> {
        let failed = |source| NotKept::Io { path: from.to_owned(), source };
        let found = match from.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        if found.is_dir() {
            for entry in fs::read_dir(from).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                if name != ".git" && !is_settings(Path::new(&name)) {
                    self.any(&from.join(&name), &to.join(&name))?;
                }
            }
            return Ok(Some(false));
        }
        let entry = if found.is_symlink() {
            // As it is: whoever reads the recipe follows no link that leads out of it.
            Entry::Link(fs::read_link(from).map_err(failed)?)
        } else if found.is_file() {
            if self.bytes + found.len() > MOST {
                return Err(too_many_bytes("the recipe with its tests", self.bytes + found.len()));
            }
            Entry::File {
                bytes: fs::read(from).map_err(failed)?,
                executable: found.permissions().mode() & 0o100 != 0,
            }
        } else {
            // Sockets and the like are nothing that a recipe has.
            return Ok(Some(false));
        };
        self.add(to, entry)?;
        Ok(Some(true))
    }

    fn add(&mut self, name: &Path, entry: Entry) -> Result<(), NotKept> {
        if let Entry::File { bytes, .. } = &entry {
            self.bytes += bytes.len() as u64;
        }
        self.entries.insert(name.to_owned(), entry);
        if self.entries.len() > FILES {
            return Err(NotKept::TooMuch {
                what: "the recipe with its tests".to_owned(),
                amount: format!("has more than {FILES} files"),
                of_files: true,
            });
        }
        Ok(())
    }

    /// What is checked out, and all tags.
    async fn history(
        &mut self,
        folder: &Path,
        to: &Path,
        scratch: &Path,
        what: &str,
    ) -> Result<History, NotKept> {
        let checkout = Checkout::open(folder).await?;
        let (commit, shallow) = (checkout.head().await?, checkout.shallow().await?);
        // Before anything is written: what it takes in the repository is about what it takes in a bundle.
        let size = checkout.size_with_tags().await?;
        if self.bytes + size > MOST {
            return Err(too_many_bytes(&format!("{what} with its history"), size));
        }
        let bundle = scratch.join(HISTORY);
        checkout.bundle_with_tags(&bundle).await?;
        let failed = |source| NotKept::Io { path: bundle.clone(), source };
        let bytes = fs::read(&bundle).map_err(failed)?;
        fs::remove_file(&bundle).map_err(failed)?;
        self.add(&to.join(HISTORY), Entry::File { bytes, executable: false })?;
        Ok(History { commit, shallow, gone: Vec::new() })
    }
}

async fn rules<'s>(folder: &Path, scratch: &'s Path) -> Result<Rules<'s>, NotKept> {
    Ok(if is_in_checkout(folder).await? { Rules::Checkout } else { Rules::Folder(scratch) })
}

/// Paths that are in the commit.
async fn committed(folder: &Path) -> Result<BTreeSet<PathBuf>, NotKept> {
    let files = Checkout::open(folder).await?.files("HEAD").await?;
    Ok(files.into_iter().map(PathBuf::from).collect())
}

fn too_many_bytes(what: &str, bytes: u64) -> NotKept {
    let what = what.to_owned();
    NotKept::TooMuch { what, amount: format!("has {} MiB", bytes.div_ceil(1 << 20)), of_files: false }
}

/// The tar.
fn written(manifest: &Manifest, entries: &BTreeMap<PathBuf, Entry>) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut text = serde_json::to_vec_pretty(manifest).map_err(io::Error::other)?;
    text.push(b'\n');
    tar.append_data(&mut header(text.len() as u64, false), MANIFEST, &*text)?;
    for (name, entry) in entries {
        match entry {
            Entry::File { bytes, executable } => {
                tar.append_data(&mut header(bytes.len() as u64, *executable), name, &**bytes)?;
            }
            Entry::Link(target) => {
                let mut header = header(0, false);
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, name, target)?;
            }
        }
    }
    tar.into_inner()
}

/// Neither times nor owners: the same files, the same bytes.
fn header(bytes: u64, executable: bool) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(bytes);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header
}
