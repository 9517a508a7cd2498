//! The weekly digest: the rows and journals that it is made of, brought together. What it says is [`assay_model::digest`].
//!
//! The number of questions does not depend on how many targets or runs there are, but for the runs that were going on at
//! the end of the week: of each of those its journal is read up to that moment.

use std::collections::BTreeSet;

use assay_model::digest::{Digest, Drift, Ended, Failure, Flaky, Input, LOOK_BACK, Standing, Waits, Week};
use assay_model::{Micros, RunId, RunState, RunView, text};
use assay_pipelines::recipe::over_time::{Results, drift, flakes, kept};
use assay_store::{EndedRun, RunRow, Standing as StandingRow};
use serde_json::Value;

use crate::queue::{Mode, Policy};
use crate::{Engine, EngineError};

/// Runs of recipes that are compared with each other: five weeks of more than a hundred a day.
const MOST_RESULTS: u32 = 4000;
/// Runs under way at one moment of which the journal is read.
const MOST_OPEN: u32 = 1000;
/// Events of a journal that are read.
const EVENTS: u32 = 100_000;

impl Engine {
    /// The digest of a week; the current one's is of what is known so far.
    ///
    /// # Errors
    /// The week has not begun.
    pub async fn digest(&self, week: Option<Week>) -> Result<Digest, EngineError> {
        let now = self.now();
        let week = week.unwrap_or_else(|| Week::of(now));
        if week.start() > now {
            return Err(EngineError::Invalid(format!("{week} has not begun; this is {}", Week::of(now))));
        }
        let (from, to) = (week.start(), week.end().min(now));
        let looked_from = Micros(from.0.saturating_sub(LOOK_BACK.0));
        let ended = self.store.runs_ended_between(looked_from, to).await?;
        let (before, after) = (self.store.standings(from).await?, self.store.standings(to).await?);
        let failed: Vec<RunId> =
            after.iter().filter(|row| row.red_since.is_some()).map(|row| row.run.id).collect();
        let codes = self.store.failure_codes(&failed).await?;
        let this_week: BTreeSet<i64> = ended
            .iter()
            .filter(|run| run.run.completed_at.is_some_and(|at| at >= from))
            .map(|run| run.run.number)
            .collect();
        let results = self.store.recipe_results(looked_from, to, MOST_RESULTS).await?;
        // What another version has written otherwise cannot be compared with.
        let results: Vec<Results> = results.iter().filter_map(kept::read).collect();
        Ok(Digest::of(Input {
            week,
            to,
            drifted: drifted(&results, &this_week),
            flaky: flaky(&results, &this_week),
            ended: ended.into_iter().filter_map(ended_run).collect(),
            before: before.into_iter().filter_map(|row| standing(row, None)).collect(),
            after: after
                .into_iter()
                .filter_map(|row| {
                    let code = codes.get(&row.run.id).cloned();
                    standing(row, code)
                })
                .collect(),
            waiting: self.waited(looked_from, to).await?,
        }))
    }

    /// What waited for an operator at a moment: held runs, and the queue where somebody has stopped it.
    async fn waited(&self, looked_from: Micros, to: Micros) -> Result<Vec<Waits>, EngineError> {
        let mut waiting = Vec::new();
        for run in self.store.runs_under_way_at(to, MOST_OPEN).await? {
            let events = self.store.events_after(run, 0, EVENTS).await?;
            let then = events.iter().take_while(|event| event.at < to);
            let run = RunView::fold(run, then)?;
            waiting.extend(run.as_ref().and_then(held));
        }
        let mut mode = Mode::Open;
        for entry in self.store.audit_between(looked_from, to).await? {
            // The rules as they were from then on stand beside each change of them.
            let Ok(body) = serde_json::from_slice::<Value>(&entry.body) else { continue };
            let of_queue = body["what"].as_str().is_some_and(|what| what.starts_with("queue"));
            if of_queue && let Ok(policy) = serde_json::from_value::<Policy>(body["detail"].clone()) {
                mode = policy.mode;
            }
        }
        if let Some(stop) = mode.stop() {
            waiting.push(Waits::Queue {
                draining: matches!(mode, Mode::Draining(_)),
                by: text::clean(&stop.by),
                why: stop.why.clone(),
                since: stop.since.rfc3339(),
            });
        }
        Ok(waiting)
    }
}

fn held(run: &RunView) -> Option<Waits> {
    (run.state() == RunState::FailedHolding).then(|| Waits::Held {
        pipeline: run.created.pipeline,
        target: text::clean(&run.created.target.name),
        run: run.created.number,
        stage: run.failed_stage().map(text::clean),
        until: run.hold_until.map(Micros::rfc3339),
    })
}

fn ended_run(run: EndedRun) -> Option<Ended> {
    let EndedRun { run, whole, pull_request } = run;
    Some(Ended {
        key: (run.pipeline, run.target_id),
        target: text::clean(&run.target),
        run: run.number,
        profile: run.profile,
        result: run.result,
        broken_off: matches!(run.state, RunState::Cancelled | RunState::Superseded),
        whole: whole && !run.overridden,
        of_pull_request: pull_request.is_some(),
        started_at: run.started_at,
        ended_at: run.completed_at?,
    })
}

fn standing(row: StandingRow, code: Option<String>) -> Option<Standing> {
    let StandingRow {
        run: RunRow { pipeline, target_id, target, number, completed_at, failed_stage, .. },
        red_since,
    } = row;
    Some(Standing {
        key: (pipeline, target_id),
        target: text::clean(&target),
        run: number,
        ended_at: completed_at?,
        failure: red_since.map(|(since_run, since)| Failure {
            stage: failed_stage.map(|stage| text::clean(&stage)),
            code,
            since_run,
            since,
        }),
    })
}

fn drifted(results: &[Results], this_week: &BTreeSet<i64>) -> Vec<Drift> {
    let moved = drift::moved(results).into_iter().filter(|moved| this_week.contains(&moved.run));
    let told = |moved: drift::Moved| Drift {
        recipe: text::clean(&moved.recipe),
        reference: moved.reference,
        was: moved.was,
        is: moved.is,
        run: moved.run,
        red: moved.red,
    };
    moved.map(told).collect()
}

/// What failed in this week. That it passes under the same circumstances may have been seen before.
fn flaky(results: &[Results], this_week: &BTreeSet<i64>) -> Vec<Flaky> {
    let told = |flake: flakes::Flake| {
        let run = flake.failed_runs.last().copied().filter(|run| this_week.contains(run))?;
        Some(Flaky {
            recipe: text::clean(&flake.recipe),
            what: text::clean_to(&flake.what, 120),
            commit: flake.commit,
            failed: flake.failed,
            passed: flake.passed,
            run,
            codes: flake.codes,
        })
    };
    flakes::flakes(results).into_iter().filter_map(told).collect()
}
