//! What came through: every witness, exactly; every other file, as information, since apps change theirs.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Backup, BackupError, Database, Manifest, PlantedAt, PlantedEntry, PlantedFolder, Planting, RowsState,
    Site, Witness,
    folder::{self, Folder, Kind},
    rows::{self, DatabaseKind, Found},
    witness::blocking,
};

/// Changes of files told of, at most.
const CHANGES: usize = 200;

/// What came through a backup and a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// One for each covered path.
    pub witnesses: Vec<WitnessComparison>,
    /// One for each database.
    pub rows: Vec<RowsComparison>,
    /// Files that are as they were backed up.
    pub unchanged: u64,
    /// Files that are not, the first 200.
    pub changes: Vec<FileChange>,
    /// How many these are.
    pub change_count: u64,
    /// Why not all files were compared; empty where all were.
    pub capped: String,
    /// How long it took.
    pub took: Duration,
}

/// A covered path's witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WitnessComparison {
    /// The volume, by its name in the files.
    pub volume: String,
    /// The path in there; empty for all of it.
    pub path: String,
    /// What became of it.
    pub state: WitnessState,
}

/// What became of a witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum WitnessState {
    /// It is what it was: bytes, owners, modes, hard links.
    Same,
    /// It is not there.
    Missing,
    /// It is there, and not what it was.
    Altered {
        /// What differs, a sentence each.
        differences: Vec<String>,
    },
    /// None could be planted, since the path is a file (or was not there yet): it is told by its own bytes.
    File {
        /// Whether it is what was backed up. A hook may have removed it after the restore: [`crate::RestoredPath`] has what was
        /// there before that.
        same: bool,
    },
    /// None could be planted.
    NotPlanted {
        /// Why.
        why: String,
    },
}

/// A database's rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowsComparison {
    /// The service, by its name in the files.
    pub service: String,
    /// What it is.
    pub kind: DatabaseKind,
    /// Its name, as far as it is known.
    pub database: String,
    /// How many rows were planted.
    pub planted: u32,
    /// How many are there as they were.
    pub right: u32,
    /// How many rows with the token are there that were not planted so.
    pub wrong: u32,
    /// Why it cannot be told; empty where it can.
    pub unknown: String,
}

/// A file that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum FileChange {
    /// It is gone.
    Missing {
        /// The volume.
        volume: String,
        /// The path in there.
        path: String,
    },
    /// It was not there.
    New {
        /// The volume.
        volume: String,
        /// The path in there.
        path: String,
    },
    /// It has other bytes, another owner or mode.
    Changed {
        /// The volume.
        volume: String,
        /// The path in there.
        path: String,
    },
}

impl RowsComparison {
    /// Whether every row came through.
    pub fn is_same(&self) -> bool {
        self.unknown.is_empty() && self.right == self.planted && self.wrong == 0
    }
}

/// Compares a stack that was restored with what was planted and backed up.
///
/// # Errors
/// [`BackupError::Folder`] when a volume cannot be read; [`BackupError::Swarm`] when Docker cannot be asked.
pub async fn compare(
    site: &Site<'_>,
    witness: &Witness,
    backup: &Backup,
    databases: &[Database],
) -> Result<Comparison, BackupError> {
    let started = Instant::now();
    let covered = site.covered();
    let now = blocking(move || Manifest::read(&covered)).await?;
    let mut witnesses = Vec::new();
    for planting in &witness.folders {
        let (volume, path) = (planting.volume.clone(), planting.path.clone());
        let state = match site.root_of(&volume) {
            Ok(root) => witness_state(&root, planting, backup, &now)?,
            Err(_) => WitnessState::Missing,
        };
        witnesses.push(WitnessComparison { volume, path, state });
    }
    let mut rows = Vec::new();
    for planted in &witness.rows {
        let mut compared = RowsComparison {
            service: planted.service.clone(),
            kind: planted.kind,
            database: planted.database.clone(),
            planted: planted.count,
            right: 0,
            wrong: 0,
            unknown: String::new(),
        };
        match (&planted.state, planted.of(databases)) {
            (RowsState::Unreachable { why }, _) => compared.unknown = format!("nothing was planted: {why}"),
            (RowsState::Planted, None) => "its settings were not given".clone_into(&mut compared.unknown),
            (RowsState::Planted, Some(database)) => {
                match rows::find(site, database, &witness.token, planted.count).await? {
                    Found::Rows { right, wrong } => (compared.right, compared.wrong) = (right, wrong),
                    Found::Unreachable(why) => compared.unknown = why,
                }
            }
        }
        rows.push(compared);
    }
    let mut comparison = Comparison {
        witnesses,
        rows,
        unchanged: 0,
        changes: Vec::new(),
        change_count: 0,
        capped: String::new(),
        took: Duration::ZERO,
    };
    compare_files(&backup.manifest, &now, &mut comparison);
    comparison.took = started.elapsed();
    Ok(comparison)
}

fn compare_files(then: &Manifest, now: &Manifest, comparison: &mut Comparison) {
    let capped = [&then.capped, &now.capped].into_iter().find(|why| !why.is_empty());
    comparison.capped = capped.cloned().unwrap_or_default();
    let mut changes = Vec::new();
    for file in &then.files {
        let (volume, path) = (file.volume.clone(), file.path.clone());
        match now.get(&file.volume, &file.path) {
            Some(found) if found == file => comparison.unchanged += 1,
            Some(_) => changes.push(FileChange::Changed { volume, path }),
            // It may lie behind the end of a manifest that was cut off.
            None if !now.capped.is_empty() => {}
            None => changes.push(FileChange::Missing { volume, path }),
        }
    }
    if then.capped.is_empty() {
        let new = now.files.iter().filter(|file| then.get(&file.volume, &file.path).is_none());
        changes
            .extend(new.map(|file| FileChange::New { volume: file.volume.clone(), path: file.path.clone() }));
    }
    comparison.change_count = changes.len() as u64;
    changes.truncate(CHANGES);
    comparison.changes = changes;
}

fn witness_state(
    root: &Path,
    planting: &Planting,
    backup: &Backup,
    now: &Manifest,
) -> Result<WitnessState, BackupError> {
    let Planting { volume, path, at } = planting;
    let not_planted = |why: &str| WitnessState::NotPlanted { why: why.to_owned() };
    let planted = match at {
        PlantedAt::Planted(planted) => planted,
        PlantedAt::File | PlantedAt::NotThere => {
            let Some(then) = backup.manifest.get(volume, path) else {
                return Ok(not_planted("it was no file when it was backed up"));
            };
            return Ok(WitnessState::File { same: now.get(volume, path) == Some(then) });
        }
        PlantedAt::NoVolume => return Ok(not_planted("the volume was not there")),
        PlantedAt::Refused { why } => return Ok(not_planted(why)),
    };
    let failed = || BackupError::system("looking for the witness in", folder::shown(root, path));
    let tree = if path.is_empty() { planted.name.clone() } else { format!("{path}/{}", planted.name) };
    let tree = match Folder::open(root).and_then(|top| top.folder(&tree)) {
        Ok(tree) => tree,
        Err(Errno::NOENT) => return Ok(WitnessState::Missing),
        Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => {
            let differences = vec!["it is no folder any more".to_owned()];
            return Ok(WitnessState::Altered { differences });
        }
        Err(errno) => return Err(failed()(errno)),
    };
    let differences = differences(&tree, planted).map_err(failed())?;
    Ok(if differences.is_empty() { WitnessState::Same } else { WitnessState::Altered { differences } })
}

fn differences(tree: &Folder, planted: &PlantedFolder) -> Result<Vec<String>, Errno> {
    let mut told = Vec::new();
    for entry in &planted.entries {
        difference(tree, entry, &mut told)?;
    }
    let mut more = 0_u64;
    tree.walk::<Errno>(&mut |seen| {
        more += u64::from(!planted.entries.iter().any(|entry| entry.path == seen.path));
        Ok(more < 1000)
    })?;
    if more > 0 {
        told.push(format!("there are {more} more in it"));
    }
    Ok(told)
}

fn difference(tree: &Folder, entry: &PlantedEntry, told: &mut Vec<String>) -> Result<(), Errno> {
    let name = if entry.path.is_empty() { "the folder itself" } else { entry.path.as_str() };
    let (kind, stat) = match tree.look(&entry.path) {
        Err(Errno::LOOP | Errno::XDEV) => (Kind::Link, None),
        other => other?,
    };
    let wanted = if entry.sha256.is_some() { Kind::File } else { Kind::Folder };
    let Some(stat) = stat.filter(|_| kind == wanted) else {
        told.push(if kind == Kind::Nothing {
            format!("{name} is missing")
        } else {
            format!("{name} is something else")
        });
        return Ok(());
    };
    let mode = stat.st_mode & 0o7777;
    if mode != entry.mode {
        told.push(format!("{name} has mode {mode:04o}, not {:04o}", entry.mode));
    }
    if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
        let (uid, gid) = (stat.st_uid, stat.st_gid);
        told.push(format!("{name} is owned by {uid}:{gid}, not {}:{}", entry.uid, entry.gid));
    }
    if let Some(sha256) = &entry.sha256 {
        let mut file = tree.file(&entry.path)?;
        // One byte more than there was tells a longer file.
        let hashed = folder::hash(&mut file, entry.bytes + 1).map_err(|_| Errno::IO)?;
        if hashed.bytes != entry.bytes {
            told.push(format!("{name} has {} bytes, not {}", stat.st_size, entry.bytes));
        } else if hashed.sha256 != *sha256 {
            told.push(format!("{name} has other bytes"));
        }
    }
    if let Some(first) = &entry.same_file_as {
        let of_first = tree.look(first)?.1.map(|stat| stat.st_ino);
        if of_first != Some(stat.st_ino) {
            told.push(format!("{name} is no hard link to {first} any more"));
        }
    }
    Ok(())
}
