//! Throws away what nobody needs any more: old raw files, what sealed runs left in the database, and files that no run
//! speaks of.
//!
//! Raw files (`smart-<disk>.txt` …) take the room; journals, evidence and reports are small and stay for ever. Runs
//! that are open, held or pinned keep everything, and so does the last pass of each host: the gate and the next
//! repair compare with it. What is pruned is written into the run's addendum before it goes, so that `assay verify`
//! says "pruned" and never has to guess.

mod orphans;

use std::collections::{BTreeMap, BTreeSet};

use assay_model::{Micros, RunId, RunResult, RunView, Sha256, TargetId};
use assay_store::{RunFilter, RunRow, Swept};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::{Engine, EngineError};

/// The kind of the addendum that says what was pruned.
const PRUNED: &str = "ArtifactsPruned@1";
/// The kind of the addendum that says which report files there are.
const REPORTED: &str = "ReportStored@1";
/// Where the settings are kept.
const SETTING: &str = "janitor.retention";
/// Runs read at once.
const PAGE: u32 = 200;
/// Leases and tokens of a run that ended are of use for so long: a late machine still asks what to do.
const LEFTOVERS: Micros = Micros::seconds(24 * 3600);

/// What is kept. The defaults fit a small disk and a year of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Raw files of runs that ended this many days ago go; 0 keeps them for ever.
    pub max_age_days: u32,
    /// Raw files of all runs together take at most so many GiB; the oldest runs' go first. 0 is no limit.
    pub max_gib: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age_days: 365, max_gib: 50 }
    }
}

/// What was thrown away, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaned {
    /// Whether nothing was really done.
    pub dry_run: bool,
    /// The runs whose raw files went.
    pub pruned: Vec<PrunedRun>,
    /// Leases of runs that are over.
    pub leases: u64,
    /// Tokens and credentials of runs that are over.
    pub tokens: u64,
    /// Checkpoints of runs that are over.
    pub checkpoints: u64,
    /// Sessions of browsers that have ended.
    pub sessions: u64,
    /// Files that no run speaks of, a day old or older: left by a control plane that died.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
}

/// One run whose raw files went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunedRun {
    /// Its number.
    pub number: i64,
    /// Why: its age, or the room.
    pub why: String,
    /// How many files.
    pub files: usize,
    /// How many bytes, as far as no other run keeps the same file.
    pub bytes: u64,
}

/// What all runs keep.
#[derive(Default)]
struct Keeping {
    runs: Vec<RunId>,
    /// Files that must stay, and their sizes where they count.
    kept: BTreeMap<Sha256, u64>,
    /// Files that are named in a run, those that may go among them.
    named: BTreeSet<Sha256>,
}

/// A run's raw files that are still there, and nobody else's.
struct Prunable {
    row: RunRow,
    files: BTreeMap<Sha256, (String, u64)>,
}

impl Prunable {
    fn bytes(&self) -> u64 {
        self.files.values().map(|(_, bytes)| bytes).sum()
    }
}

impl Engine {
    /// What is kept.
    pub async fn retention(&self) -> Result<Retention, EngineError> {
        let Some(stored) = self.store.setting(SETTING).await? else { return Ok(Retention::default()) };
        serde_json::from_value(stored).map_err(|e| {
            EngineError::Invalid(format!("the retention settings do not read ({e}); set them again"))
        })
    }

    /// Changes what is kept.
    pub async fn set_retention(&self, retention: Retention) -> Result<(), EngineError> {
        Ok(self.store.set_setting(SETTING, &json!(retention)).await?)
    }

    /// Keeps a run's files whatever retention says, or no longer.
    pub async fn pin(&self, run: RunId, by: Option<&str>) -> Result<(), EngineError> {
        match by {
            Some(by) => self.store.pin(run, by, self.now()).await?,
            None => drop(self.store.unpin(run).await?),
        }
        Ok(())
    }

    /// Throws away what nobody needs any more; `dry_run` only says what that would be.
    pub async fn clean(&self, dry_run: bool) -> Result<Cleaned, EngineError> {
        let retention = self.retention().await?;
        let now = self.now();
        let before = Micros(now.0 - LEFTOVERS.0.max(self.tuning.credential.0));
        let Swept { leases, tokens, checkpoints, sessions } = self.store.sweep(before, now, dry_run).await?;
        let mut cleaned = Cleaned { dry_run, leases, tokens, checkpoints, sessions, ..Cleaned::default() };
        let (prunable, keeping) = self.prunable().await?;
        (cleaned.orphans, cleaned.orphan_bytes) =
            self.sweep_orphans(&keeping.runs, &keeping.named, before, dry_run).await?;
        let kept_bytes = keeping.kept.values().sum();
        for (run, why) in chosen(prunable, kept_bytes, retention, now) {
            cleaned.pruned.push(PrunedRun {
                number: run.row.number,
                why: why.clone(),
                files: run.files.len(),
                bytes: run.bytes(),
            });
            if !dry_run {
                self.prune(&run, &why).await?;
            }
        }
        Ok(cleaned)
    }

    /// The runs whose raw files may go, oldest first; and what must stay.
    async fn prunable(&self) -> Result<(Vec<Prunable>, Keeping), EngineError> {
        let pinned: BTreeSet<RunId> = self.store.pins().await?.into_iter().map(|pin| pin.run).collect();
        let mut last_pass: BTreeSet<TargetId> = BTreeSet::new();
        let (mut candidates, mut keeping) = (Vec::new(), Keeping::default());
        let mut before_number = None;
        loop {
            let rows = self
                .store
                .list_runs(RunFilter { limit: PAGE, before_number, ..RunFilter::default() })
                .await?;
            let Some(last) = rows.last() else { break };
            before_number = Some(last.number);
            for row in rows {
                let view = self.view(row.id).await?;
                let is_last_pass = row.result == Some(RunResult::Pass) && last_pass.insert(row.target_id);
                // Whatever becomes of the raw files: what was judged stays, so that it can be judged again.
                keeping.kept.extend(evidence(&view).map(|digest| (digest, 0)));
                keeping.runs.push(row.id);
                keeping.named.extend(evidence(&view).chain(view.artifacts.iter().map(|a| a.digest)));
                let files = view.artifacts.iter().map(|a| (a.digest, (a.name.clone(), a.bytes)));
                if row.sealed && !is_last_pass && !pinned.contains(&row.id) {
                    candidates.push(Prunable { row, files: files.collect() });
                } else {
                    keeping.kept.extend(files.map(|(digest, (_, bytes))| (digest, bytes)));
                }
            }
        }
        candidates.reverse();
        let mut prunable = Vec::new();
        for mut run in candidates {
            run.files.retain(|digest, _| !keeping.kept.contains_key(digest));
            let mut gone = Vec::new();
            for digest in run.files.keys() {
                if !self.artifacts.exists(*digest).await? {
                    gone.push(*digest);
                }
            }
            run.files.retain(|digest, _| !gone.contains(digest));
            if !run.files.is_empty() {
                prunable.push(run);
            }
        }
        Ok((prunable, keeping))
    }

    /// Writes down what goes, then lets it go. Interrupted, it is finished the next time.
    async fn prune(&self, run: &Prunable, why: &str) -> Result<(), EngineError> {
        let id = run.row.id;
        let addenda = self.store.addenda(id).await?;
        let bodies = |kind: &str| {
            let of_kind = addenda.iter().filter(|entry| entry.kind == kind).map(|entry| entry.body.clone());
            of_kind.filter_map(|body| serde_json::from_slice::<Value>(&body).ok()).collect::<Vec<_>>()
        };
        let written: BTreeSet<String> = bodies(PRUNED)
            .iter()
            .filter_map(|body| body["files"].as_object())
            .flat_map(|files| files.keys().cloned())
            .collect();
        let fresh: serde_json::Map<String, Value> = run
            .files
            .iter()
            .map(|(digest, (name, _))| (digest.to_string(), json!(name)))
            .filter(|(digest, _)| !written.contains(digest))
            .collect();
        if !fresh.is_empty() {
            let body = json!({ "why": why, "files": fresh });
            self.store.addendum(id, self.now(), PRUNED, &body).await?;
        }
        // The run's folder holds the same bytes under names that people look for; its report stays.
        self.artifacts.unlink_run(run.row.number).await?;
        for digest in run.files.keys() {
            self.artifacts.remove(*digest).await?;
        }
        let reports: Vec<BTreeMap<String, Sha256>> =
            bodies(REPORTED).into_iter().filter_map(|body| serde_json::from_value(body).ok()).collect();
        for (name, digest) in reports.into_iter().flatten() {
            if self.artifacts.exists(digest).await? {
                self.artifacts.link_run(run.row.number, &name, digest).await?;
            }
        }
        Ok(())
    }
}

/// Throws away what nobody needs, once; problems are logged.
pub(crate) async fn clean_up(engine: &Engine) {
    match engine.clean(false).await {
        Ok(cleaned) if cleaned.pruned.is_empty() => {}
        Ok(cleaned) => {
            let bytes: u64 = cleaned.pruned.iter().map(|run| run.bytes).sum();
            info!(runs = cleaned.pruned.len(), bytes, "pruned the raw files of old runs");
        }
        Err(problem) => warn!(error = %problem, "the janitor could not clean up; it tries again tomorrow"),
    }
}

/// Which runs' files go, the oldest first, and why. Pure.
fn chosen(
    prunable: Vec<Prunable>,
    kept_bytes: u64,
    retention: Retention,
    now: Micros,
) -> Vec<(Prunable, String)> {
    let limit = match retention.max_gib {
        0 => u64::MAX,
        gib => u64::from(gib) << 30,
    };
    let mut total = prunable.iter().map(Prunable::bytes).fold(kept_bytes, u64::saturating_add);
    let oldest = match retention.max_age_days {
        0 => Micros(i64::MIN),
        days => Micros(now.0 - Micros::seconds(i64::from(days) * 86_400).0),
    };
    let mut out = Vec::new();
    for run in prunable {
        let ended = run.row.completed_at.unwrap_or(now);
        let why = if ended < oldest {
            format!("older than {} days", retention.max_age_days)
        } else if total > limit {
            format!("all files together were larger than {} GiB", retention.max_gib)
        } else {
            continue;
        };
        total = total.saturating_sub(run.bytes());
        out.push((run, why));
    }
    out
}

fn evidence(run: &RunView) -> impl Iterator<Item = Sha256> {
    run.stages.iter().flat_map(|stage| &stage.attempts).filter_map(|a| Some(a.evidence.as_ref()?.digest))
}

#[cfg(test)]
mod tests {
    use assay_model::RunState;

    use super::*;

    fn run(number: i64, ended_day: i64, gib: u64) -> Prunable {
        let id = RunId(uuid::Uuid::from_u128(number as u128));
        let at = Micros::seconds(ended_day * 86_400);
        let row = RunRow {
            number,
            id,
            target_id: TargetId(id.0),
            target: String::new(),
            pipeline: assay_model::Pipeline::Host,
            profile: String::new(),
            state: RunState::Completed,
            stage_index: 0,
            stage_name: None,
            result: None,
            overridden: false,
            failed_stage: None,
            created_at: at,
            started_at: None,
            completed_at: Some(at),
            sealed: true,
        };
        let digest = Sha256::of(&number.to_le_bytes());
        Prunable { row, files: [(digest, ("raw.txt".to_owned(), gib << 30))].into() }
    }

    fn numbers(runs: Vec<Prunable>, kept_gib: u64, retention: Retention, day: i64) -> Vec<(i64, String)> {
        let now = Micros::seconds(day * 86_400);
        let chosen = chosen(runs, kept_gib << 30, retention, now);
        chosen.into_iter().map(|(run, why)| (run.row.number, why)).collect()
    }

    #[test]
    fn age_and_room_take_the_oldest_first() {
        let runs = || vec![run(1, 10, 4), run(2, 20, 4), run(3, 30, 4)];
        let keep = |max_age_days, max_gib| Retention { max_age_days, max_gib };
        assert_eq!(numbers(runs(), 0, keep(0, 0), 100_000), []);
        assert_eq!(numbers(runs(), 0, keep(80, 0), 90), [], "to the second");
        assert_eq!(numbers(runs(), 0, keep(79, 0), 90), [(1, "older than 79 days".to_owned())]);
        assert_eq!(numbers(runs(), 0, keep(0, 12), 90), []);
        let room = "all files together were larger than 11 GiB".to_owned();
        assert_eq!(numbers(runs(), 0, keep(0, 11), 90), [(1, room)]);
        let kept: Vec<_> = numbers(runs(), 100, keep(0, 11), 90).into_iter().map(|(n, _)| n).collect();
        assert_eq!(kept, [1, 2, 3], "what must stay is not helped by that");
        let aged: Vec<_> = numbers(runs(), 0, keep(75, 5), 90).into_iter().map(|(n, _)| n).collect();
        assert_eq!(aged, [1, 2], "what age has taken makes room");
    }
}
