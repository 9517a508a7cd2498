//! Brings a backup into a stack that was deployed anew and has nothing of it.
//!
//! Restic lays everything out in a folder that only it writes to; from there it is moved into the volumes, from open folder to
//! open folder. A link that somebody put into the fresh volume leads nothing astray that way. Programs that have files of a
//! covered volume open are stopped meanwhile; those with hooks for a restore are left running, since the hooks run in them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use assay_recipe::{compose::model::Mode, labels::Moment};
use assay_swarm::StoppedService;
use futures::future::join_all;
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Backup, BackupError, CoveredPath, Database, HookMoment, HookRun, Manifest, PlantedAt, Site, Store,
    Witness,
    folder::{self, Folder, Kind, is_there},
    hooks::run_hooks,
    manifest::FileRecord,
    rows::{self, Found},
    site::Covered,
    witness::{blocking, tree_name},
};

/// Paths told of that are not what they were.
const DIFFERING: usize = 50;

/// How often something is put in place that somebody else writes to.
const TRIES: u32 = 5;

/// How a restore is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOptions {
    /// What each hook may take.
    pub hook_limit: Duration,
    /// What stopping one service may take.
    pub stop_limit: Duration,
    /// What restic may take.
    pub limit: Duration,
}

/// A restore, or how far it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restore {
    /// Hooks before.
    pub before: Vec<HookRun>,
    /// Services that were stopped for it, and brought back.
    pub stopped: Vec<Stopped>,
    /// Services that mount covered volumes and were left running: they have hooks for a restore, or are jobs.
    pub left_running: Vec<String>,
    /// What was restored, and whether the files were what they are to be before any hook touched them.
    pub paths: Vec<RestoredPath>,
    /// Hooks after.
    pub after: Vec<HookRun>,
    /// Databases that could not be asked whether they have the witness already, and why.
    pub unproven: Vec<String>,
    /// What is wrong with it; nothing where all was restored.
    pub failures: Vec<RestoreFailure>,
    /// How long restic took.
    pub restic_took: Duration,
    /// How long moving into place took.
    pub placed_took: Duration,
    /// How long comparing with the backup's manifest took.
    pub checked_took: Duration,
    /// How long all took.
    pub took: Duration,
}

/// A service that was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stopped {
    /// Its name in the files.
    pub service: String,
    /// How many tasks it was to have, and has again; `None` for one a node.
    pub replicas: Option<u64>,
    /// How long it took to stop.
    pub took: Duration,
}

/// A covered path after the restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoredPath {
    /// The volume, by its name in the files.
    pub volume: String,
    /// The path in there; empty for all of it.
    pub path: String,
    /// Files of it that are as the backup's manifest has them.
    pub same: u64,
    /// Files of it that are not: missing, other bytes, another owner or mode. The first 50. A file that a running program wrote
    /// to while it was backed up may be among them.
    pub differing: Vec<String>,
    /// How many these are.
    pub differing_count: u64,
}

/// What is wrong with a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "failure")]
pub enum RestoreFailure {
    /// The stack has the witness before anything was restored: it is not a fresh one, and nothing would be proven.
    WitnessAlreadyThere {
        /// Where: a path in a volume, or a database.
        place: String,
    },
    /// There is no snapshot to restore.
    NoSnapshot,
    /// A hook failed; how is beside it.
    HookFailed {
        /// The service.
        service: String,
        /// When.
        moment: HookMoment,
        /// How it ended, where it did.
        exit_code: Option<i64>,
    },
    /// The fresh stack does not have the volume.
    NoVolume {
        /// The volume.
        volume: String,
    },
    /// The snapshot does not have what was backed up.
    NotInSnapshot {
        /// The volume.
        volume: String,
        /// The path.
        path: String,
    },
    /// A program that was left running for its hooks writes into the path faster than it can be put in place.
    WrittenMeanwhile {
        /// The volume.
        volume: String,
        /// The path; empty for all of it.
        path: String,
    },
    /// In the fresh volume a link, or a file, is where a folder is to be.
    RefusedPath {
        /// The volume.
        volume: String,
        /// The path.
        path: String,
    },
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            hook_limit: Duration::from_mins(10),
            stop_limit: Duration::from_mins(2),
            limit: Duration::from_hours(1),
        }
    }
}

impl Restore {
    /// Whether all of it was done.
    pub fn is_ok(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Restores a backup into a stack that was deployed anew and has converged. Whoever called waits for it to converge again: services
/// were stopped. What is wrong with it is in what it returns.
///
/// # Errors
/// [`BackupError`]: this machine's trouble, restic's or Docker's. Stopped services were asked to come back then, too.
pub async fn restore(
    site: &Site<'_>,
    store: &Store,
    backup: &Backup,
    witness: &Witness,
    databases: &[Database],
    options: &RestoreOptions,
) -> Result<Restore, BackupError> {
    let started = Instant::now();
    let mut restore = Restore {
        before: Vec::new(),
        stopped: Vec::new(),
        left_running: Vec::new(),
        paths: Vec::new(),
        after: Vec::new(),
        unproven: Vec::new(),
        failures: Vec::new(),
        restic_took: Duration::ZERO,
        placed_took: Duration::ZERO,
        checked_took: Duration::ZERO,
        took: Duration::ZERO,
    };
    look_for_witness(site, witness, databases, &mut restore).await?;
    match &backup.snapshot {
        _ if !restore.is_ok() => {}
        None => restore.failures.push(RestoreFailure::NoSnapshot),
        Some(snapshot) => {
            restore.before = run_hooks(site, HookMoment::BeforeRestore, options.hook_limit).await?;
            restore.failures.extend(failed_hook(&restore.before));
            if restore.is_ok() {
                let mut stopped = Vec::new();
                let done =
                    with_stopped(site, store, backup, &snapshot.id, options, &mut stopped, &mut restore)
                        .await;
                // Whatever happened, and all of them: one that cannot be brought back is no reason to leave others.
                let mut back = Ok(());
                for service in &stopped {
                    back = back.and(site.swarm.start_again(service).await);
                }
                done?;
                back?;
            }
        }
    }
    restore.took = started.elapsed();
    Ok(restore)
}

/// Proves that the stack has nothing of the witness.
async fn look_for_witness(
    site: &Site<'_>,
    witness: &Witness,
    databases: &[Database],
    restore: &mut Restore,
) -> Result<(), BackupError> {
    let name = tree_name(&witness.token);
    for planting in &witness.folders {
        let Ok(root) = site.root_of(&planting.volume) else { continue };
        let Ok(top) = Folder::open(&root) else { continue };
        let path = if planting.path.is_empty() { name.clone() } else { format!("{}/{name}", planting.path) };
        if top.look(&path).is_ok_and(|(kind, _)| kind != Kind::Nothing) {
            let place = format!("{}/{path}", planting.volume);
            restore.failures.push(RestoreFailure::WitnessAlreadyThere { place });
        }
    }
    for (database, planted) in rows_of(witness, databases) {
        match rows::find(site, database, &witness.token, planted).await? {
            Found::Rows { right: 0, wrong: 0 } => {}
            Found::Rows { .. } => {
                let place = format!("{} {}", database.service, database.label());
                restore.failures.push(RestoreFailure::WitnessAlreadyThere { place });
            }
            Found::Unreachable(why) => restore.unproven.push(format!("{}: {why}", database.service)),
        }
    }
    Ok(())
}

/// The databases that have rows of the witness, and how many.
fn rows_of<'a>(witness: &'a Witness, databases: &'a [Database]) -> impl Iterator<Item = (&'a Database, u32)> {
    let planted = witness.rows.iter().filter(|rows| rows.state == rows::RowsState::Planted);
    planted.filter_map(|rows| Some((rows.of(databases)?, rows.count)))
}

async fn with_stopped(
    site: &Site<'_>,
    store: &Store,
    backup: &Backup,
    snapshot: &str,
    options: &RestoreOptions,
    stopped: &mut Vec<StoppedService>,
    restore: &mut Restore,
) -> Result<(), BackupError> {
    stop_users(site, backup, options, stopped, restore).await?;
    let staging = site.staging.clone();
    blocking(move || {
        // What a restore that was killed left.
        remove(&staging)?;
        std::fs::create_dir(&staging).map_err(BackupError::folder("making", staging))
    })
    .await?;
    let started = Instant::now();
    let laid_out = store.restore(snapshot, &site.staging, options.limit).await;
    restore.restic_took = started.elapsed();
    let mut placed = Ok(Vec::new());
    if laid_out.is_ok() {
        let started = Instant::now();
        let (moves, staging) = (moves(site, backup), site.staging.clone());
        placed = blocking(move || place_all(&moves, &staging)).await;
        restore.placed_took = started.elapsed();
    }
    let staging = site.staging.clone();
    let removed = blocking(move || remove(&staging)).await;
    laid_out?;
    restore.failures.extend(placed?);
    removed?;
    if !restore.is_ok() {
        return Ok(());
    }
    let started = Instant::now();
    let (covered, backed_up) = (site.covered(), backup.clone());
    restore.paths = blocking(move || check_paths(&covered, &backed_up)).await?;
    restore.checked_took = started.elapsed();
    restore.after = run_hooks(site, HookMoment::AfterRestore, options.hook_limit).await?;
    restore.failures.extend(failed_hook(&restore.after));
    Ok(())
}

/// Stops what has files of covered volumes open.
async fn stop_users(
    site: &Site<'_>,
    backup: &Backup,
    options: &RestoreOptions,
    stopped: &mut Vec<StoppedService>,
    restore: &mut Restore,
) -> Result<(), BackupError> {
    let captured: Vec<&str> =
        backup.covered.iter().filter(|path| path.captured).map(|path| path.volume.as_str()).collect();
    let mut to_stop = Vec::new();
    for (name, service) in &site.compose.services {
        if !captured.iter().any(|volume| site.mounted_by(volume).any(|(user, _)| user == name)) {
            continue;
        }
        let is_job = matches!(service.deploy.mode, Mode::ReplicatedJob | Mode::GlobalJob);
        if is_job || site.has_hook(name, &[Moment::BeforeRestore, Moment::AfterRestore]) {
            restore.left_running.push(name.clone());
        } else {
            to_stop.push(name);
        }
    }
    // All at once: each of them waits for its grace period, and the swarm for a while of its own.
    let stopping = to_stop.into_iter().map(async |name| {
        let started = Instant::now();
        let of_service = site.service(name);
        let of_service = site.swarm.stop_service(site.stack, &of_service, options.stop_limit);
        let of_service = Box::pin(of_service).await;
        (name.clone(), of_service, started.elapsed())
    });
    let mut failed = Ok(());
    for (service, of_service, took) in join_all(stopping).await {
        match of_service {
            Ok(of_service) => {
                restore.stopped.push(Stopped { service, replicas: of_service.replicas, took });
                stopped.push(of_service);
            }
            Err(error) => failed = failed.and(Err(error.into())),
        }
    }
    failed
}

/// Volume, path and where the volume is, of everything that is to be moved.
fn moves(site: &Site<'_>, backup: &Backup) -> Vec<Covered> {
    let captured = backup.covered.iter().filter(|path| path.captured);
    captured
        .filter_map(|CoveredPath { volume, path, .. }| {
            let root = site.root_of(volume).ok()?;
            Some(Covered { volume: volume.clone(), root, paths: vec![path.clone()] })
        })
        .collect()
}

fn place_all(moves: &[Covered], staging: &Path) -> Result<Vec<RestoreFailure>, BackupError> {
    let mut failures = Vec::new();
    for Covered { volume, root, paths } in moves {
        for path in paths {
            match place(&staging.join("data").join(volume), root, path) {
                Ok(()) => {}
                Err(Misplaced::NoVolume) => {
                    failures.push(RestoreFailure::NoVolume { volume: volume.clone() });
                }
                Err(Misplaced::NotInSnapshot) => {
                    let (volume, path) = (volume.clone(), path.clone());
                    failures.push(RestoreFailure::NotInSnapshot { volume, path });
                }
                Err(Misplaced::Link) => {
                    let (volume, path) = (volume.clone(), path.clone());
                    failures.push(RestoreFailure::RefusedPath { volume, path });
                }
                Err(Misplaced::Written) => {
                    let (volume, path) = (volume.clone(), path.clone());
                    failures.push(RestoreFailure::WrittenMeanwhile { volume, path });
                }
                Err(Misplaced::Failed(errno)) => {
                    let place = folder::shown(root, path);
                    return Err(BackupError::system("moving what was restored to", place)(errno));
                }
            }
        }
    }
    Ok(failures)
}

/// Why something was not moved.
enum Misplaced {
    NoVolume,
    NotInSnapshot,
    Link,
    Written,
    Failed(Errno),
}

impl From<Errno> for Misplaced {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::LOOP => Self::Link,
            Errno::NOTEMPTY | Errno::EXIST | Errno::ISDIR | Errno::NOTDIR => Self::Written,
            errno => Self::Failed(errno),
        }
    }
}

/// Moves one path from where restic laid it out into the volume, in place of what is there.
fn place(staged: &Path, root: &Path, path: &str) -> Result<(), Misplaced> {
    let staged = Folder::open(staged).map_err(|_| Misplaced::NotInSnapshot)?;
    let top = match Folder::open(root) {
        Err(Errno::NOENT) => return Err(Misplaced::NoVolume),
        other => other?,
    };
    if path.is_empty() {
        top.empty()?;
        for name in staged.names()? {
            move_over(&staged, &name, &top)?;
        }
        top.become_like(&staged.stat()?)?;
        return Ok(());
    }
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (mut from, mut to) = (staged, top);
    for part in parents.split('/').filter(|part| !part.is_empty()) {
        from = from.folder(part).map_err(|_| Misplaced::NotInSnapshot)?;
        to = match to.folder(part) {
            Err(Errno::NOENT) => {
                let made = to.new_folder(part, 0o700)?;
                made.become_like(&from.stat()?)?;
                made
            }
            // Something else has the name: a file, or (above) a link.
            Err(Errno::NOTDIR) => return Err(Misplaced::Link),
            other => other?,
        };
    }
    if from.look(name)?.0 == Kind::Nothing {
        return Err(Misplaced::NotInSnapshot);
    }
    move_over(&from, name.as_bytes(), &to)
}

/// Moves an entry in place of whatever has its name. A program that runs on may make that again in between, so it is tried a
/// few times.
fn move_over(from: &Folder, name: &[u8], to: &Folder) -> Result<(), Misplaced> {
    let mut tries = 0;
    loop {
        tries += 1;
        match to.remove(name).and_then(|()| from.move_to(name, to)).map_err(Misplaced::from) {
            Err(Misplaced::Written) if tries < TRIES => {}
            other => return other,
        }
    }
}

/// Compares what is there now with what was backed up.
fn check_paths(covered: &[Covered], backup: &Backup) -> Result<Vec<RestoredPath>, BackupError> {
    let now = Manifest::read(covered)?;
    let mut paths = Vec::new();
    for CoveredPath { volume, path, captured } in &backup.covered {
        if !captured {
            continue;
        }
        let mut restored = RestoredPath {
            volume: volume.clone(),
            path: path.clone(),
            same: 0,
            differing: Vec::new(),
            differing_count: 0,
        };
        let within = |file: &&FileRecord| {
            file.volume == *volume && (path.is_empty() || Path::new(&file.path).starts_with(path))
        };
        for file in backup.manifest.files.iter().filter(within) {
            match now.get(volume, &file.path) {
                Some(found) if found == file => restored.same += 1,
                // It may lie behind the end of a manifest that was cut off.
                None if !now.capped.is_empty() => {}
                _ => {
                    restored.differing_count += 1;
                    if restored.differing.len() < DIFFERING {
                        restored.differing.push(file.path.clone());
                    }
                }
            }
        }
        paths.push(restored);
    }
    Ok(paths)
}

/// Removes a folder of our own with everything in it.
fn remove(folder: &Path) -> Result<(), BackupError> {
    if !is_there(folder) {
        return Ok(());
    }
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(()) };
    Folder::open(parent)
        .and_then(|parent| parent.remove(name.as_encoded_bytes()))
        .map_err(BackupError::system("removing", folder))
}

fn failed_hook(runs: &[HookRun]) -> Option<RestoreFailure> {
    let failed = runs.iter().find(|run| !run.is_ok())?;
    let (service, moment) = (failed.service.clone(), failed.moment);
    Some(RestoreFailure::HookFailed { service, moment, exit_code: failed.exit_code })
}

impl crate::PlantedRows {
    /// The database that these rows were planted in.
    pub(crate) fn of<'a>(&self, databases: &'a [Database]) -> Option<&'a Database> {
        databases.iter().find(|database| {
            database.service == self.service
                && database.kind == self.kind
                && database.label() == self.database
        })
    }
}

impl crate::Planting {
    /// Whether a tree was planted there.
    pub fn is_planted(&self) -> bool {
        matches!(self.at, PlantedAt::Planted(_))
    }
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
