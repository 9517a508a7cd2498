//! The loop: re-read, decide, act, again. One of it runs per control plane.
//!
//! It is woken by commits (to be quick) and once a second (to be right). Nothing is kept between
//! turns: what a crash interrupts is seen by the next turn of the next process.

use std::time::Duration;

use assay_model::{Micros, RunId, RunView};
use tracing::{error, info, warn};

use assay_store::RunFilter;

use crate::decide::{Action, Snapshot, decide};
use crate::{Engine, EngineError};

/// How often everything is looked at even when nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// Most actions taken for one run before the others get their turn.
const BURST: usize = 32;

/// How many of the newest runs are looked at after a start for a report that is missing.
const RECENT: u32 = 50;

/// Moves all runs until the future is dropped.
pub async fn run(engine: Engine) {
    if let Err(problem) = recover(&engine).await {
        error!(error = %problem, "recovery of finished runs failed; their reports are rendered on demand");
    }
    loop {
        if let Err(problem) = turn(&engine).await {
            error!(error = %problem, "a turn of the dispatcher failed; trying again in a second");
        }
        let _ = tokio::time::timeout(TICK, engine.wake.notified()).await;
    }
}

/// One turn over all open runs.
pub async fn turn(engine: &Engine) -> Result<(), EngineError> {
    engine.live.prune(engine.now());
    let leases = engine.store.leases().await?;
    for id in engine.store.open_runs().await? {
        let lease = leases.iter().find(|l| l.run == id).map(|l| l.expires);
        if let Err(problem) = advance(engine, id, lease).await {
            match problem {
                // Somebody was faster; the next turn sees the new state.
                EngineError::Refused(_) | EngineError::Illegal(_) => engine.wake.notify_one(),
                other => warn!(run.id = %id, error = %other, "a run could not be moved; trying again"),
            }
        }
    }
    Ok(())
}

/// Acts on one run until there is nothing to do now.
async fn advance(engine: &Engine, id: RunId, lease: Option<Micros>) -> Result<(), EngineError> {
    for _ in 0..BURST {
        let run = engine.view(id).await?;
        match engine.next(&run, lease) {
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
    fn next(&self, run: &RunView, lease: Option<Micros>) -> Action {
        let now = self.now();
        let last_seen = self.live.last_seen(run.id);
        let granted = last_seen.plus(self.tuning.lease).max(lease.unwrap_or_default());
        let runner = self.runner_for(run);
        let snapshot = Snapshot {
            run,
            last_seen,
            heard: self.live.was_heard(run.id),
            lease_until: granted.max(self.live.started().plus(self.tuning.lease)),
            off: self.live.is_off(run.id),
            runner: runner.as_deref(),
            bound_at: self.live.bound_at(run.id).unwrap_or(run.started_at.unwrap_or(now)),
            tuning: self.tuning,
        };
        decide(&snapshot, now)
    }

    fn runner_for(&self, run: &RunView) -> Option<String> {
        let method = run.created.power.get("method").and_then(|m| m.as_str()).unwrap_or("manual");
        let waiting = self.live.waiting_runners();
        waiting.into_iter().find(|(_, can)| can.contains(method)).map(|(name, _)| name)
    }

    /// Why a queued run waits, for people.
    pub fn waiting_reason(&self, run: &RunView) -> String {
        let method = run.created.power.get("method").and_then(|m| m.as_str()).unwrap_or("manual");
        let waiting = self.live.waiting_runners();
        if waiting.is_empty() {
            "no runner is connected; start one with `assay runner`".to_owned()
        } else if self.runner_for(run).is_none() {
            format!("no connected runner can switch power by `{method}`")
        } else {
            "about to start".to_owned()
        }
    }
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
