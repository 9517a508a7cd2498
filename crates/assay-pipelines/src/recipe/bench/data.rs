//! What the app stores: witnesses in it, its backup, and the way back into a fresh stack. `assay_backup` does the work; here it is
//! put in its place between deployments, and told as evidence.

use std::path::Path;
use std::time::{Duration, Instant};

use assay_backup::{
    Backup, BackupFailure, BackupOptions, Comparison, Database, DatabaseKind as Kind, HookMoment, HookRun,
    Manifest, PlantedAt, Restore, RestoreFailure, RestoreOptions, RowsState, Setting, Store, UncoveredVolume,
    Witness, WitnessState as Seen, back_up, compare, detect, plant, restore,
};
use assay_model::text;
use assay_recipe::Stack;
use assay_recipe::customise::{HookName, OperationName};
use assay_recipe::labels::{BackupPlan, Paths};
use assay_recipe::settings::{DatabaseKind, Settings};
use assay_swarm::Rules;

use super::deploy::Deploying;
use super::sources::Version;
use super::{Budget, Phases, Tell, Test, executables, outcome};
use crate::recipe::evidence::{
    BackupTaken, LabelHook, NotPlanted, Reached, RestoreDone, Trouble, WitnessSeen, WitnessState, Witnesses,
};

/// The most of a hook's words that stand in evidence, in characters.
const WORDS: usize = 1000;
/// Files that differ and are named.
const DIFFERING: usize = 20;

/// What is known of the app's stores.
pub(super) struct Data {
    witness: Witness,
    databases: Vec<Database>,
    /// What the witnesses were planted by: the labels, or every volume.
    plan: BackupPlan,
    /// The repository and what is in it, once a backup was taken.
    taken: Option<(Store, Backup)>,
}

/// A repository that is being made: its key is made so that it cannot be guessed, which takes seconds that somebody else waits through
/// anyhow.
pub(super) struct NewStore(tokio::task::JoinHandle<Result<Store, String>>);

impl NewStore {
    /// Begins to make one in a run's folder.
    pub(super) fn begin(folder: &Path) -> Self {
        let folder = folder.join("restic");
        let made = async move { Store::create(&folder).await.map_err(|error| error.to_string()) };
        Self(tokio::spawn(made))
    }

    /// It, once it is made.
    async fn made(mut self) -> Result<Store, String> {
        (&mut self.0).await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl Drop for NewStore {
    fn drop(&mut self) {
        // Nobody wants it any more; the folder goes with the run.
        self.0.abort();
    }
}

impl Test {
    /// Plants witnesses into every store of the stack that is up.
    pub(super) async fn plant_witnesses(&mut self) -> Result<Witnesses, String> {
        let Some((stand, up)) = self.stand.as_ref().zip(self.up.as_ref()) else {
            return Ok(Witnesses::default());
        };
        let plan = every_volume(&up.stack);
        if let Err(why) = stand.volumes_can_be_read() {
            return Ok(none_planted(&plan, &why));
        }
        let databases = databases(&self.spec.settings, &up.stack);
        let site = stand.site(&up.stack.name, &up.stack.compose, &plan);
        let witness = plant(&site, &databases).await.map_err(|error| error.to_string())?;
        let told = witnesses(&witness);
        self.data = Some(Data { witness, databases, plan, taken: None });
        Ok(told)
    }

    /// Looks for the witnesses that were planted last.
    pub(super) async fn compare_witnesses(&mut self) -> Result<Vec<WitnessSeen>, String> {
        let Some((stand, up)) = self.stand.as_ref().zip(self.up.as_ref()) else { return Ok(Vec::new()) };
        let Some(data) = &self.data else { return Ok(Vec::new()) };
        let site = stand.site(&up.stack.name, &up.stack.compose, &data.plan);
        let none = nothing_taken();
        let backup = data.taken.as_ref().map_or(&none, |(_, backup)| backup);
        let compared = compare(&site, &data.witness, backup, &data.databases).await;
        let compared = compared.map_err(|error| error.to_string())?;
        Ok(compared_as(&compared, &data.witness, data.taken.is_some()))
    }

    pub(super) async fn backup(&mut self, tell: Tell<'_>) -> Result<Reached<BackupTaken>, String> {
        let plan = match self.standing() {
            Err(because) => return Ok(Reached::NotReached { because }),
            Ok((_, up)) => up.stack.backup.clone(),
        };
        if let Some(why) = not_backed_up(&self.spec.settings, &plan) {
            return Ok(Reached::DoesNotApply { why });
        }
        if let Err(because) = self.standing()?.0.volumes_can_be_read() {
            return Ok(Reached::NotReached { because });
        }
        let mut phases = Phases::default();
        let mut taken = BackupTaken::default();
        let op = Some(executables::pending(OperationName::Backup));
        taken.ran.extend(self.hook(HookName::PreBackup, op, tell).await?);
        tell("planting witnesses");
        let store = self.store.take().unwrap_or_else(|| NewStore::begin(self.folder.path()));
        let (stand, up) = self.standing()?;
        let databases = databases(&self.spec.settings, &up.stack);
        let site = stand.site(&up.stack.name, &up.stack.compose, &plan);
        let failed = |error: assay_backup::BackupError| error.to_string();
        let witness = phases.time("witnesses", plant(&site, &databases)).await.map_err(failed)?;
        taken.witnesses = witnesses(&witness);
        tell("backing up");
        let store = phases.time("repository", store.made()).await?;
        let recaptures = u32::from(self.spec.settings.backup.recaptures);
        let options = BackupOptions { recaptures, ..BackupOptions::default() };
        let backup = phases.time("backup", back_up(&site, &store, &up.stack.name, &options)).await;
        let backup = backup.map_err(failed)?;
        told_of(&mut taken, &backup);
        let log = serde_json::to_vec_pretty(&backup).unwrap_or_default();
        self.artifacts.push(("backup.json".to_owned(), log));
        self.data = Some(Data { witness, databases, plan, taken: Some((store, backup)) });
        let op = Some(executables::done(OperationName::Backup));
        if let Some(ran) = self.hook(HookName::BackupVerify, op, tell).await? {
            if !ran.succeeded() {
                let message = format!("{} says that the backup is not whole", ran.name);
                taken.troubles.push(Trouble { class: "backup_refused".to_owned(), message });
            }
            taken.ran.push(ran);
        }
        taken.ran.extend(self.tests_after(OperationName::Backup).await?);
        taken.phases = phases.0;
        Ok(Reached::Done(taken))
    }

    pub(super) async fn restore(&mut self, tell: Tell<'_>) -> Result<Reached<RestoreDone>, String> {
        let (plan, version) = match self.standing() {
            Err(because) => return Ok(Reached::NotReached { because }),
            Ok((_, up)) => {
                (up.stack.backup.clone(), Version { seen: up.version.clone(), folder: up.checkout.clone() })
            }
        };
        if let Some(why) = not_backed_up(&self.spec.settings, &plan) {
            return Ok(Reached::DoesNotApply { why });
        }
        let taken = self.data.as_ref().and_then(|data| data.taken.as_ref());
        if taken.is_none_or(|(_, backup)| backup.snapshot.is_none()) {
            return Ok(Reached::NotReached { because: "there is no backup to restore".to_owned() });
        }
        let mut phases = Phases::default();
        let op = Some(executables::pending(OperationName::Restore));
        let mut ran: Vec<_> = self.hook(HookName::PreRestore, op, tell).await?.into_iter().collect();
        tell("destroying the stack with its volumes");
        let (_, survived) = phases.time("destroy", self.destroy()).await?;
        // Secrets are the operator's, who has them still: they are put there anew with the stack.
        tell("deploying it anew");
        let fresh = self.deploy(&version, Deploying::Anew(OperationName::Restore), tell).await?;
        let mut done = RestoreDone {
            survived,
            fresh,
            there_before: Vec::new(),
            hooks: Vec::new(),
            stopped: Vec::new(),
            unproven: Vec::new(),
            troubles: Vec::new(),
            outcome: None,
            answered: None,
            compared: Vec::new(),
            differing: Vec::new(),
            ran: Vec::new(),
            phases: Vec::new(),
        };
        if self.up.is_none() {
            "the stack did not come up again for the restore".clone_into(&mut self.down_because);
            done.ran = ran;
            done.phases = phases.0;
            return Ok(Reached::Done(done));
        }
        // Services are ended for the restore, and their end is no death.
        self.mark = None;
        Box::pin(self.bring_back(&mut done, &mut phases, tell)).await?;
        self.take_mark().await;
        if self.up.is_some() {
            ran.extend(self.tests_after(OperationName::Restore).await?);
        }
        done.ran = ran;
        done.phases = phases.0;
        Ok(Reached::Done(done))
    }

    async fn bring_back(
        &mut self,
        done: &mut RestoreDone,
        phases: &mut Phases,
        tell: Tell<'_>,
    ) -> Result<(), String> {
        let failed = |error: assay_backup::BackupError| error.to_string();
        let (stand, up) = self.standing()?;
        let Some(data) = &self.data else { return Ok(()) };
        let Some((store, backup)) = &data.taken else { return Ok(()) };
        let site = stand.site(&up.stack.name, &up.stack.compose, &data.plan);
        // Taken before anything is stopped: what comes after is new, and watched for as long as a new deployment.
        let standing = stand.swarm().standing(&up.stack.name).await.map_err(|error| error.to_string())?;
        let fresh_since = Instant::now();
        tell("restoring");
        let options = RestoreOptions::default();
        let restored = restore(&site, store, backup, &data.witness, &data.databases, &options);
        let restored = phases.time("restore", restored).await.map_err(failed)?;
        restored_as(done, &restored);
        let log = serde_json::to_vec_pretty(&restored).unwrap_or_default();
        let budget = Budget::of(self.spec.settings.deploy.timeout);
        if restored.is_ok() {
            tell("waiting until every service is back and stays");
            let rules = Rules::default();
            // Those that were left running have shown for a while that they stay.
            let unchanged_for =
                rules.stable_for.saturating_sub(fresh_since.elapsed()).max(rules.unchanged_for);
            let rules = Rules { unchanged_for, ..rules };
            let converged = stand.swarm().converge(&standing, &rules, budget.left());
            let converged = phases.time("converge", converged).await.map_err(|error| error.to_string())?;
            let limit_s = self.spec.settings.deploy.timeout.as_secs_f64();
            done.outcome = Some(outcome::outcome(&converged, &up.stack.name, limit_s));
        }
        if let Some(face) = self.face(&up.stack) {
            tell("waiting for an answer");
            done.answered = Some(phases.time("answer", self.ask(stand, &up.stack, &face, budget)).await.0);
        }
        if restored.is_ok() {
            let compared = compare(&site, &data.witness, backup, &data.databases);
            let compared = phases.time("compare", compared).await.map_err(failed)?;
            done.compared = compared_as(&compared, &data.witness, true);
        }
        self.artifacts.push(("restore.json".to_owned(), log));
        Ok(())
    }
}

/// Why there is nothing to back up.
fn not_backed_up(settings: &Settings, plan: &BackupPlan) -> Option<String> {
    match settings.backup.capable {
        Some(false) => Some("assay.toml says that it is not backed up (backup.capable)".to_owned()),
        Some(true) => None,
        None if plan.is_on() => None,
        None => Some("no label of it switches backups on (backupbot.backup)".to_owned()),
    }
}

/// No witness anywhere, where the volumes of a shared swarm are not for this user.
fn none_planted(plan: &BackupPlan, why: &str) -> Witnesses {
    let not = |volume: &String| NotPlanted { what: place(volume, ""), why: why.to_owned(), expected: true };
    Witnesses {
        not_planted: plan.covered.iter().map(|(volume, _)| not(volume)).collect(),
        ..Witnesses::default()
    }
}

/// Every volume with a name, whatever the labels say of backups: an upgrade must not lose one.
fn every_volume(stack: &Stack) -> BackupPlan {
    let mut plan = stack.backup.clone();
    plan.left_out.clear();
    plan.covered = stack.compose.volumes.keys().map(|volume| (volume.clone(), Paths::All)).collect();
    plan
}

/// The databases of the settings, and those that their images' variables give away.
fn databases(settings: &Settings, stack: &Stack) -> Vec<Database> {
    let text = |value: &Option<String>| value.clone().map(Setting::Text);
    let mut all: Vec<Database> = settings
        .databases
        .iter()
        .map(|database| Database {
            service: database.service.clone(),
            kind: match database.kind {
                DatabaseKind::Postgres => Kind::PostgreSql,
                DatabaseKind::Mariadb => Kind::MariaDb,
                DatabaseKind::Sqlite => Kind::Sqlite,
            },
            user: text(&database.user),
            password: database.password_file.clone().map(Setting::File),
            database: text(if database.kind == DatabaseKind::Sqlite {
                &database.path
            } else {
                &database.database
            }),
        })
        .collect();
    for found in detect(&stack.compose) {
        if !all.iter().any(|known| known.service == found.service && known.kind == found.kind) {
            all.push(found);
        }
    }
    all
}

fn nothing_taken() -> Backup {
    Backup {
        captures: Vec::new(),
        snapshot: None,
        covered: Vec::new(),
        uncovered: Vec::new(),
        manifest: Manifest::default(),
        failures: Vec::new(),
        snapshot_took: Duration::ZERO,
        manifest_took: Duration::ZERO,
        took: Duration::ZERO,
    }
}

/// A path in a volume, for people.
fn place(volume: &str, path: &str) -> String {
    if path.is_empty() { format!("volume {volume}") } else { format!("volume {volume}: {path}") }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::PostgreSql => "PostgreSQL",
        Kind::MariaDb => "MariaDB",
        Kind::Sqlite => "SQLite",
    }
}

fn witnesses(witness: &Witness) -> Witnesses {
    let mut told = Witnesses::default();
    let not = |what: String, why: &str, expected| NotPlanted { what, why: why.to_owned(), expected };
    for planting in &witness.folders {
        let what = place(&planting.volume, &planting.path);
        match &planting.at {
            PlantedAt::Planted(_) => told.planted.push(what),
            PlantedAt::File => {
                told.not_planted.push(not(what, "it is a file, and told by its own bytes", false));
            }
            PlantedAt::NotThere => {
                told.not_planted.push(not(what, "nothing is there before the hooks", false));
            }
            PlantedAt::NoVolume => told.not_planted.push(not(what, "the volume is not there", true)),
            PlantedAt::Refused { why } => told.not_planted.push(not(what, why, true)),
        }
    }
    for rows in &witness.rows {
        let what = format!("rows in {} ({})", rows.service, kind(rows.kind));
        match &rows.state {
            RowsState::Planted => told.planted.push(what),
            RowsState::Unreachable { why } => told.not_planted.push(not(what, why, true)),
        }
    }
    told.not_planted.extend(witness.uncovered.iter().map(uncovered));
    told
}

fn uncovered(volume: &UncoveredVolume) -> NotPlanted {
    use assay_backup::NotCovered as N;
    let (why, expected) = match volume.reason {
        N::NotSwitchedOn => ("no service switches backups on", false),
        N::ByLabel => ("a label leaves it out", false),
        N::NoOldPath => ("the labels are of version 1, and none of their paths is in it", false),
        N::Anonymous => ("it has no name, and is gone with its container", false),
        N::OtherDriver => ("its driver keeps it elsewhere", true),
        N::BadPath => ("the label's path leads out of it, or names nothing", true),
        N::BadName => ("its name is none that Docker takes", true),
    };
    let what = place(&volume.volume, volume.path.as_deref().unwrap_or_default());
    NotPlanted { what, why: why.to_owned(), expected }
}

fn told_of(taken: &mut BackupTaken, backup: &Backup) {
    taken.covered = backup
        .covered
        .iter()
        .filter(|path| path.captured)
        .map(|path| place(&path.volume, &path.path))
        .collect();
    taken.left_out = backup.uncovered.iter().map(uncovered).collect();
    taken.captures = u32::try_from(backup.captures.len()).unwrap_or(u32::MAX);
    if let Some(capture) = backup.captures.last() {
        taken.hooks = capture.before.iter().chain(&capture.after).map(hook).collect();
        taken.dumps = capture
            .dumps
            .iter()
            .map(|dump| format!("{}: {}", place(&dump.volume, &dump.path), assay_model::bytes(dump.bytes)))
            .collect();
    }
    if let Some(snapshot) = &backup.snapshot {
        (taken.files, taken.bytes) = (snapshot.files, snapshot.bytes);
    }
    for failure in &backup.failures {
        let (class, message) = match failure {
            BackupFailure::HookFailed { service, moment, exit_code } => {
                ("backup_hook_failed", hook_failed(service, *moment, *exit_code))
            }
            BackupFailure::DumpRefused { dump, tries } => {
                let what = place(&dump.volume, &dump.path);
                let bytes = assay_model::bytes(dump.bytes);
                match &dump.state {
                    assay_backup::dump::DumpState::Empty => (
                        "dump_empty",
                        format!("{what}: the hook made an empty dump ({bytes}), {tries} times"),
                    ),
                    state => {
                        let state = serde_json::to_string(state).unwrap_or_default();
                        (
                            "dump_truncated",
                            format!("{what}: the dump is not whole ({bytes}): {state}, {tries} times"),
                        )
                    }
                }
            }
            BackupFailure::MissingPath { volume, path } => (
                "backup_path_missing",
                format!("{} is to be backed up and is not there", place(volume, path)),
            ),
            BackupFailure::RefusedPath { volume, path, why } => {
                ("backup_path_refused", format!("{}: {why}", place(volume, path)))
            }
            BackupFailure::NothingCovered => {
                ("backup_covers_nothing", "the labels cover nothing that is there".to_owned())
            }
        };
        taken.troubles.push(Trouble { class: class.to_owned(), message });
    }
}

fn hook_failed(service: &str, moment: HookMoment, exit_code: Option<i64>) -> String {
    let code =
        exit_code.map_or_else(|| "did not end by itself".to_owned(), |code| format!("ended with {code}"));
    format!("the {} hook of {service} {code}", moment_words(moment))
}

const fn moment_words(moment: HookMoment) -> &'static str {
    match moment {
        HookMoment::BeforeBackup => "backup pre",
        HookMoment::AfterBackup => "backup post",
        HookMoment::BeforeRestore => "restore pre",
        HookMoment::AfterRestore => "restore post",
    }
}

fn hook(run: &HookRun) -> LabelHook {
    let said = [&run.stdout, &run.stderr, &run.trouble].map(|part| part.trim()).join("\n");
    let kept: Vec<char> = said.trim().chars().rev().take(WORDS).collect();
    LabelHook {
        service: run.service.clone(),
        moment: moment_words(run.moment).to_owned(),
        command: text::clean_to(&run.command, WORDS),
        exit_code: run.exit_code.filter(|_| run.trouble.is_empty()),
        last_words: kept.into_iter().rev().collect(),
        seconds: run.took.as_secs_f64(),
    }
}

fn restored_as(done: &mut RestoreDone, restored: &Restore) {
    done.hooks = restored.before.iter().chain(&restored.after).map(hook).collect();
    done.unproven.clone_from(&restored.unproven);
    done.stopped = restored.stopped.iter().map(|stopped| stopped.service.clone()).collect();
    let differing = restored
        .paths
        .iter()
        .flat_map(|path| path.differing.iter().map(|file| place(&path.volume, file)).take(DIFFERING));
    done.differing = differing.take(DIFFERING).collect();
    if restored.left_running.is_empty() {
        // Nobody was there who could have changed them since.
        for file in std::mem::take(&mut done.differing) {
            let message = format!("{file} is not what was backed up, right after it was restored");
            done.troubles.push(Trouble { class: "restore_differs".to_owned(), message });
        }
    }
    for failure in &restored.failures {
        let (class, message) = match failure {
            RestoreFailure::WitnessAlreadyThere { place } => {
                done.there_before.push(place.clone());
                continue;
            }
            RestoreFailure::NoSnapshot => ("restore_without_backup", "there is no snapshot".to_owned()),
            RestoreFailure::HookFailed { service, moment, exit_code } => {
                ("restore_hook_failed", hook_failed(service, *moment, *exit_code))
            }
            RestoreFailure::NoVolume { volume } => {
                ("restore_volume_missing", format!("the fresh stack has no volume {volume}"))
            }
            RestoreFailure::NotInSnapshot { volume, path } => {
                ("restore_path_missing", format!("{} is not in the backup", place(volume, path)))
            }
            RestoreFailure::WrittenMeanwhile { volume, path } => (
                "restore_written_meanwhile",
                format!("{} was written while it was restored", place(volume, path)),
            ),
            RestoreFailure::RefusedPath { volume, path } => {
                ("restore_path_refused", format!("{}: a link is in the way", place(volume, path)))
            }
        };
        done.troubles.push(Trouble { class: class.to_owned(), message });
    }
}

/// Witnesses as they were found, after a restore or after something that was done in place. A backup promises less: what its
/// labels leave out need not come back.
fn compared_as(comparison: &Comparison, witness: &Witness, restored: bool) -> Vec<WitnessSeen> {
    let mut seen = Vec::new();
    for compared in &comparison.witnesses {
        let what = place(&compared.volume, &compared.path);
        let (state, detail) = match &compared.state {
            // Compared with a backup alone; a hook may have removed it once it was restored: rows tell, then.
            Seen::File { same } if !same || !restored => continue,
            Seen::NotPlanted { .. } => continue,
            Seen::Same | Seen::File { .. } => (WitnessState::Same, String::new()),
            Seen::Missing => (WitnessState::Missing, String::new()),
            Seen::Altered { differences } => (WitnessState::Altered, differences.join("; ")),
        };
        seen.push(WitnessSeen { what, state, detail });
    }
    for rows in &comparison.rows {
        let what = format!("rows in {} ({})", rows.service, kind(rows.kind));
        let detail = format!("{} of {} rows are there, {} are wrong", rows.right, rows.planted, rows.wrong);
        let planted =
            witness.rows.iter().find(|planted| planted.service == rows.service && planted.kind == rows.kind);
        if restored && planted.is_some_and(|planted| !planted.promised) {
            let detail = "no label backs its database up".to_owned();
            seen.push(WitnessSeen { what, state: WitnessState::Unknown, detail });
            continue;
        }
        let (state, detail) = match rows.unknown.as_str() {
            "" if rows.is_same() => (WitnessState::Same, detail),
            "" if rows.right == 0 && rows.wrong == 0 => (WitnessState::Missing, detail),
            "" => (WitnessState::Altered, detail),
            unknown => (WitnessState::Unknown, unknown.to_owned()),
        };
        seen.push(WitnessSeen { what, state, detail });
    }
    seen
}
