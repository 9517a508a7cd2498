//! The loop: re-read, decide, act, again. One of it runs per control plane.
//!
//! It is woken by commits (to be quick) and once a second (to be right). Nothing is kept between
//! turns: what a crash interrupts is seen by the next turn of the next process.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use assay_model::{EventBody, Finding, Micros, RunId, RunState, RunView, Severity};
use assay_store::{Changes, RunFilter};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::decide::{Action, NETWORK, Snapshot, decide};
use crate::line::Line;
use crate::queue::{Cause, Place};
use crate::{Engine, EngineError, janitor};

/// How often everything is looked at even when nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// How often the janitor comes.
const CLEAN_EVERY: Duration = Duration::from_hours(24);

/// Most actions taken for one run before the others get their turn.
const BURST: usize = 32;

/// How many of the newest runs are looked at after a start for a report that is missing.
const RECENT: u32 = 50;

/// The code of what is told of a run that another version of Assay has begun.
const OTHER_HARNESS: &str = "HarnessChanged";

/// Moves all runs until the future is dropped.
pub async fn run(engine: Engine) {
    if let Err(problem) = recover(&engine).await {
        error!(error = %problem, "recovery of finished runs failed; their reports are rendered on demand");
    }
    if let Err(problem) = name_older_runs(&engine, env!("CARGO_PKG_VERSION")).await {
        error!(error = %problem, "open runs could not be read; trying again in a second");
    }
    // Dropped with this future, and with it what it is doing.
    let mut janitor = JoinSet::new();
    janitor.spawn({
        let engine = engine.clone();
        async move {
            loop {
                tokio::time::sleep(CLEAN_EVERY).await;
                janitor::clean_up(&engine).await;
            }
        }
    });
    janitor.spawn({
        let engine = engine.clone();
        async move {
            if let Err(problem) = engine.read_older_recipe_runs().await {
                warn!(error = %problem, "what earlier runs over recipes came to is not on the dashboard; the next start tries again");
            }
        }
    });
    loop {
        if let Err(problem) = turn(&engine).await {
            error!(error = %problem, "a turn of the dispatcher failed; trying again in a second");
        }
        let _ = tokio::time::timeout(TICK, engine.wake.notified()).await;
    }
}

/// One turn over all open runs.
pub async fn turn(engine: &Engine) -> Result<(), EngineError> {
    let open = engine.store.open_views().await?;
    let ids: Vec<RunId> = open.iter().map(|run| run.id).collect();
    engine.live.prune(engine.now(), &ids);
    let leases = engine.store.leases().await?.into_iter().map(|lease| (lease.run, lease.expires)).collect();
    let Line { places, superseded } = engine.line_up(&open).await?;
    engine.tell_who_measures(&open);
    let around = Around { leases, places, superseded };
    for run in &open {
        // Most of them wait. What is to be done about the others is decided once more, on their newest state.
        if matches!(engine.next(run, &around, &open), Action::Wait { .. }) {
            continue;
        }
        let id = run.id;
        if let Err(problem) = advance(engine, id, &around).await {
            match problem {
                // Somebody was faster; the next turn sees the new state.
                EngineError::Refused(_) | EngineError::Illegal(_) => engine.wake.notify_one(),
                other => warn!(run.id = %id, error = %other, "a run could not be moved; trying again"),
            }
        }
    }
    Ok(())
}

/// What a turn looks at once for all runs.
struct Around {
    leases: HashMap<RunId, Micros>,
    places: BTreeMap<RunId, Place>,
    superseded: BTreeMap<RunId, i64>,
}

/// Acts on one run until there is nothing to do now.
async fn advance(engine: &Engine, id: RunId, around: &Around) -> Result<(), EngineError> {
    for _ in 0..BURST {
        let run = engine.view(id).await?;
        let open = if about_to_measure_network(&run) { engine.store.open_views().await? } else { Vec::new() };
        match engine.next(&run, around, &open) {
            Action::Wait { .. } => return Ok(()),
            action => {
                log(&run, &action);
                engine.act(&run, action).await?;
            }
        }
    }
    engine.wake.notify_one();
    Ok(())
}

impl Engine {
    /// What is to be done about a run now. The lease's row counts too: another control plane may
    /// have heard the agent.
    fn next(&self, run: &RunView, around: &Around, open: &[Arc<RunView>]) -> Action {
        let now = self.now();
        let lease = around.leases.get(&run.id).copied();
        let last_seen = self.live.last_seen(run.id);
        let granted = last_seen.plus(self.tuning.lease).max(lease.unwrap_or_default());
        let runner = match around.places.get(&run.id) {
            Some(Place::Admit { runner }) => Some(runner.as_str()),
            _ => None,
        };
        let in_line =
            matches!(around.places.get(&run.id), Some(Place::Wait(wait)) if wait.cause != Cause::Runner);
        let told = self.live.told(run.id);
        let snapshot = Snapshot {
            run,
            last_seen,
            heard: self.live.was_heard(run.id),
            lease_until: granted.max(self.live.started().plus(self.tuning.lease)),
            off: self.live.is_off(run.id),
            runner,
            in_line,
            superseded_by: around.superseded.get(&run.id).copied(),
            network_busy: network_busy(run, open),
            told: &told,
            step_since: self.live.step_since(run.id),
            bound_at: self.live.bound_at(run.id).unwrap_or(run.started_at.unwrap_or(now)),
            tuning: self.tuning,
        };
        decide(&snapshot, now)
    }

    /// What runs wait for that have begun: one at a time measures its network on a runner.
    fn tell_who_measures(&self, open: &[Arc<RunView>]) {
        let busy = open.iter().filter_map(|run| Some((run.id, wire_is_taken(network_busy(run, open)?))));
        self.live.set_waits(busy.collect());
    }

    /// Why a run waits, for people: in the queue, or for the wire. None for one that does not.
    pub fn waits_for(&self, run: &RunView) -> Option<String> {
        match run.state() {
            RunState::Queued => Some(self.waiting_reason(run)),
            RunState::Running if !run.status.open => self.live.waits_for(run.id),
            _ => None,
        }
    }

    /// Why a queued run waits, for people.
    pub fn waiting_reason(&self, run: &RunView) -> String {
        self.place(run).map_or_else(|| "about to start".to_owned(), |wait| wait.reason)
    }
}

/// For a run that is about to begin its network stage: another on the same runner that has its own open. Two at
/// once would measure each other.
fn network_busy(run: &RunView, open: &[Arc<RunView>]) -> Option<i64> {
    if !about_to_measure_network(run) {
        return None;
    }
    let measures =
        |other: &RunView| other.open_attempt().is_some_and(|(stage, _)| stage.plan.name == NETWORK);
    open.iter()
        .find(|other| other.id != run.id && other.runner == run.runner && measures(other))
        .map(|other| other.created.number)
}

fn about_to_measure_network(run: &RunView) -> bool {
    let next = run.state() == RunState::Running && !run.status.open;
    next && run.current_stage().is_some_and(|stage| stage.plan.name == NETWORK)
}

fn wire_is_taken(by: i64) -> String {
    format!("run {by} on the same runner is measuring its network; one at a time")
}

/// A run goes on where a restart interrupted it, also when another version of Assay was started. Its evidence is then of two
/// versions, which draining the queue before the upgrade would have avoided: that stands in the run, once for each version.
///
/// # Errors
/// The store does not answer.
pub async fn name_older_runs(engine: &Engine, here: &str) -> Result<(), EngineError> {
    for run in engine.store.open_views().await? {
        let asked_under = run.created.harness.as_str();
        if run.state().is_terminal() || run.status.sealed || asked_under == here {
            continue;
        }
        let (severity, message, next) = if run.started_at.is_some() {
            let message = format!(
                "the run was begun by Assay {asked_under} and goes on with {here}: its evidence is of both"
            );
            let next = "Run it again for a verdict of one version; `assay queue drain --wait` before an upgrade lets runs end first.";
            (Severity::Warning, message, next)
        } else {
            let message = format!("the run was asked for under Assay {asked_under} and is done by {here}");
            (Severity::Info, message, "Nothing has to be done: all of its evidence is of one version.")
        };
        if run.run_findings.iter().any(|finding| finding.code == OTHER_HARNESS && finding.message == message)
        {
            continue;
        }
        warn!(run.number = run.created.number, "{message}");
        let finding = Finding::new(OTHER_HARNESS, severity, message, next);
        let events = vec![EventBody::FindingRaised { finding }];
        engine.transact(run.id, |_| Ok(Changes { events, writes: Vec::new() })).await?;
    }
    Ok(())
}

/// A crash between the seal and the stored report leaves a sealed run without one.
async fn recover(engine: &Engine) -> Result<(), EngineError> {
    let recent = RunFilter { limit: RECENT, ..RunFilter::default() };
    for row in engine.store.list_runs(recent).await? {
        if !row.sealed || !engine.store.addenda(row.id).await?.is_empty() {
            continue;
        }
        let run = engine.view(row.id).await?;
        info!(
            run.number = run.created.number,
            "storing the report of a run that was sealed before a restart"
        );
        engine.finish(&run).await?;
    }
    Ok(())
}

fn log(run: &RunView, action: &Action) {
    info!(
        run.number = run.created.number,
        run.state = %run.state(),
        run.result = crate::act::result_word(run.result),
        run.boot_failed = crate::act::failed_at_boot(run),
        at = %Micros::rfc3339(run.at),
        "next: {action:?}"
    );
}
