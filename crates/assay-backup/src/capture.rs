//! Makes a backup as the labels ask for it: hooks before, what they left looked at, restic, hooks after.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    BackupError, HookMoment, HookRun, Manifest, Site, Snapshot, Store, UncoveredVolume,
    dump::{self, DumpCheck, DumpKind, DumpState},
    folder::{Folder, Kind},
    hooks::run_hooks,
    manifest::{Stamps, stamps},
    site::Covered,
    store::Bound,
    witness::blocking,
};

/// Files that a hook left and that are told of, at most; those that are refused first.
const DUMPS: usize = 100;

/// How a backup is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupOptions {
    /// How often a capture that a check refuses is made again.
    pub recaptures: u32,
    /// What each hook may take.
    pub hook_limit: Duration,
    /// What restic may take.
    pub limit: Duration,
}

/// A backup, or how far it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Backup {
    /// Each try; the last one is what was backed up, if it was.
    pub captures: Vec<Capture>,
    /// What restic made; `None` when it did not come to that.
    pub snapshot: Option<Snapshot>,
    /// What the labels cover.
    pub covered: Vec<CoveredPath>,
    /// What they do not, and why.
    pub uncovered: Vec<UncoveredVolume>,
    /// The files of it, as they were beside the snapshot.
    pub manifest: Manifest,
    /// What is wrong with it; nothing where it is a backup.
    pub failures: Vec<BackupFailure>,
    /// How long restic took.
    pub snapshot_took: Duration,
    /// How long the hashes of the manifest took.
    pub manifest_took: Duration,
    /// How long all took.
    pub took: Duration,
}

/// One try: the hooks before, and what they left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capture {
    /// Hooks before.
    pub before: Vec<HookRun>,
    /// Files that they made or changed. At most 100.
    pub dumps: Vec<DumpCheck>,
    /// How many there were.
    pub dump_count: u64,
    /// Hooks after; they are run when one before has failed, too.
    pub after: Vec<HookRun>,
    /// How long looking at the files took.
    pub checked_took: Duration,
}

/// A path that the labels cover, as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CoveredPath {
    /// The volume, by its name in the files.
    pub volume: String,
    /// The path in there; empty for all of it.
    pub path: String,
    /// Whether it is in the snapshot. What is not is told as a failure.
    pub captured: bool,
}

/// What is wrong with a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "failure")]
pub enum BackupFailure {
    /// A hook failed; how is in the capture.
    HookFailed {
        /// The service.
        service: String,
        /// When.
        moment: HookMoment,
        /// How it ended, where it did.
        exit_code: Option<i64>,
    },
    /// A hook left a dump that is none, every time.
    DumpRefused {
        /// The file.
        dump: DumpCheck,
        /// How often it was made.
        tries: u32,
    },
    /// A covered path is not there, so nothing of it is in the backup.
    MissingPath {
        /// The volume.
        volume: String,
        /// The path; empty for the volume itself.
        path: String,
    },
    /// A covered path is a link or lies behind one, or is a device: what it leads to is not backed up.
    RefusedPath {
        /// The volume.
        volume: String,
        /// The path.
        path: String,
        /// What is in the way.
        why: String,
    },
    /// The labels cover nothing that is there.
    NothingCovered,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self { recaptures: 0, hook_limit: Duration::from_mins(10), limit: Duration::from_hours(1) }
    }
}

impl Backup {
    /// Whether it is one.
    pub fn is_ok(&self) -> bool {
        self.failures.is_empty() && self.snapshot.is_some()
    }
}

/// Backs up what the labels cover. What is wrong with it is in what it returns.
///
/// # Errors
/// [`BackupError`]: this machine's trouble, restic's or Docker's.
pub async fn back_up(
    site: &Site<'_>,
    store: &Store,
    tag: &str,
    options: &BackupOptions,
) -> Result<Backup, BackupError> {
    let started = Instant::now();
    let covered = site.covered();
    let mut backup = Backup {
        captures: Vec::new(),
        snapshot: None,
        covered: Vec::new(),
        uncovered: site.uncovered(),
        manifest: Manifest::default(),
        failures: Vec::new(),
        snapshot_took: Duration::ZERO,
        manifest_took: Duration::ZERO,
        took: Duration::ZERO,
    };
    for tries in 1..=options.recaptures.saturating_add(1) {
        let mut capture = capture(site, &covered, options).await?;
        backup.failures = failures_of(&capture, tries);
        let dumps_alone = backup.failures.iter().all(|why| matches!(why, BackupFailure::DumpRefused { .. }));
        let again = !backup.failures.is_empty() && dumps_alone && tries <= options.recaptures;
        if backup.failures.is_empty() {
            let taken = take(site, store, tag, &covered, options, &mut backup).await;
            // Hooks after come whatever became of it: a database may be waiting for its lock to be let go.
            capture.after = run_hooks(site, HookMoment::AfterBackup, options.hook_limit).await?;
            taken?;
        } else {
            capture.after = run_hooks(site, HookMoment::AfterBackup, options.hook_limit).await?;
        }
        backup.failures.extend(failed_hook(&capture.after));
        backup.captures.push(capture);
        if !again {
            break;
        }
    }
    backup.took = started.elapsed();
    Ok(backup)
}

/// The hooks before, and what they left.
async fn capture(
    site: &Site<'_>,
    covered: &[Covered],
    options: &BackupOptions,
) -> Result<Capture, BackupError> {
    let hooked = site.plan.hooks.iter().any(|hook| hook.moment == assay_recipe::labels::Moment::BeforeBackup);
    let mut capture = Capture {
        before: Vec::new(),
        dumps: Vec::new(),
        dump_count: 0,
        after: Vec::new(),
        checked_took: Duration::ZERO,
    };
    // Files that nobody's hook made are nobody's dumps.
    if !hooked {
        return Ok(capture);
    }
    let looked = Instant::now();
    let of_before = covered.to_vec();
    let before = blocking(move || stamps(&of_before)).await?;
    capture.checked_took = looked.elapsed();
    capture.before = run_hooks(site, HookMoment::BeforeBackup, options.hook_limit).await?;
    let looked = Instant::now();
    let of_after = covered.to_vec();
    let mut dumps = blocking(move || look_at_dumps(&of_after, &before)).await?;
    capture.dump_count = dumps.len() as u64;
    dumps.sort_by_key(|dump| !dump.state.is_refused());
    dumps.truncate(DUMPS);
    capture.dumps = dumps;
    capture.checked_took += looked.elapsed();
    Ok(capture)
}

/// Looks at every file that is new or changed.
fn look_at_dumps(covered: &[Covered], before: &Stamps) -> Result<Vec<DumpCheck>, BackupError> {
    let mut dumps = Vec::new();
    for ((volume, path), stamp) in stamps(covered)? {
        let key = (volume, path);
        let earlier = before.get(&key);
        if earlier == Some(&stamp) {
            continue;
        }
        let (volume, path) = key;
        let Some(of_volume) = covered.iter().find(|covered| covered.volume == volume) else { continue };
        let opened = Folder::open(&of_volume.root).and_then(|root| root.file(&path));
        // Gone, or another thing, by now: whoever needs it will miss it in the snapshot.
        let Ok(mut file) = opened else { continue };
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        let Ok((kind, within, state)) = dump::judge(&mut file) else { continue };
        let named = of_volume.paths.contains(&path);
        let state = match (kind, state) {
            // An app writes empty files and databases all the time; a hook's are named by a label, or by what they are called.
            (DumpKind::Empty | DumpKind::Unknown, DumpState::Empty) if !named && !is_called_a_dump(&path) => {
                DumpState::NotJudged
            }
            (DumpKind::SqliteFile, _) if earlier.is_some() && !named => DumpState::NotJudged,
            (_, state) => state,
        };
        dumps.push(DumpCheck { volume, path, kind, within, bytes, state });
    }
    Ok(dumps)
}

/// Whether a name says that it is a dump.
fn is_called_a_dump(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default().to_lowercase();
    let ends = [
        ".sql", ".dump", ".dmp", ".gz", ".tgz", ".zst", ".xz", ".tar", ".bak", ".backup", ".pgdump",
        ".archive", ".json",
    ];
    ends.iter().any(|end| name.ends_with(end)) || name.contains("backup") || name.contains("dump")
}

fn failures_of(capture: &Capture, tries: u32) -> Vec<BackupFailure> {
    let mut failures: Vec<BackupFailure> = failed_hook(&capture.before).into_iter().collect();
    // What a hook that failed left needs no second reason.
    if failures.is_empty() {
        let refused = capture.dumps.iter().filter(|dump| dump.state.is_refused());
        failures.extend(refused.map(|dump| BackupFailure::DumpRefused { dump: dump.clone(), tries }));
    }
    failures
}

fn failed_hook(runs: &[HookRun]) -> Option<BackupFailure> {
    let failed = runs.iter().find(|run| !run.is_ok())?;
    let (service, moment) = (failed.service.clone(), failed.moment);
    Some(BackupFailure::HookFailed { service, moment, exit_code: failed.exit_code })
}

/// Takes the snapshot, and the hashes beside it.
async fn take(
    site: &Site<'_>,
    store: &Store,
    tag: &str,
    covered: &[Covered],
    options: &BackupOptions,
    backup: &mut Backup,
) -> Result<(), BackupError> {
    let mut paths = Vec::new();
    for Covered { volume, root, paths: of_volume } in covered {
        for path in of_volume {
            let failure = what_is_wrong(volume, root, path)?;
            let captured = failure.is_none();
            backup.failures.extend(failure);
            backup.covered.push(CoveredPath { volume: volume.clone(), path: path.clone(), captured });
            if captured {
                paths.push(if path.is_empty() { volume.clone() } else { format!("{volume}/{path}") });
            }
        }
    }
    if paths.is_empty() {
        backup.failures.push(BackupFailure::NothingCovered);
        return Ok(());
    }
    let started = Instant::now();
    let of_manifest = covered.to_vec();
    backup.manifest = blocking(move || Manifest::read(&of_manifest)).await?;
    backup.manifest_took = started.elapsed();
    let bound: Vec<Bound<'_>> = covered
        .iter()
        .filter(|covered| crate::folder::is_there(&covered.root))
        .map(|covered| Bound { name: &covered.volume, path: &covered.root })
        .collect();
    let started = Instant::now();
    let snapshot = store.back_up(&bound, &paths, tag, options.limit).await?;
    backup.snapshot_took = started.elapsed();
    tracing::info!(
        stack.name = site.stack,
        snapshot.files = snapshot.files,
        snapshot.bytes = snapshot.bytes,
        duration_ms = backup.snapshot_took.as_millis(),
        "the stack's covered volumes are in a snapshot"
    );
    backup.snapshot = Some(snapshot);
    Ok(())
}

/// Why a covered path cannot be in a snapshot.
fn what_is_wrong(
    volume: &str,
    root: &std::path::Path,
    path: &str,
) -> Result<Option<BackupFailure>, BackupError> {
    let missing = || BackupFailure::MissingPath { volume: volume.to_owned(), path: path.to_owned() };
    let refused = |why: &str| {
        let (volume, path, why) = (volume.to_owned(), path.to_owned(), why.to_owned());
        BackupFailure::RefusedPath { volume, path, why }
    };
    let top = match Folder::open(root) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(Some(missing())),
        Err(errno) => return Err(BackupError::system("opening", root)(errno)),
    };
    if path.is_empty() {
        return Ok(None);
    }
    Ok(match top.look(path) {
        Ok((Kind::Folder | Kind::File, _)) => None,
        Ok((Kind::Nothing, _)) => Some(missing()),
        Ok((Kind::Link, _)) | Err(Errno::LOOP | Errno::XDEV) => Some(refused("a link is in the way")),
        Ok((Kind::Other, _)) => Some(refused("it is neither a file nor a folder")),
        Err(errno) => return Err(BackupError::system("looking at", root.join(path))(errno)),
    })
}
