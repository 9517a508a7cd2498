//! A recipe's runs over time: the control plane has the history, so it is what compares a red run with the last green one.
//!
//! There is no table of baselines. Which run is one follows from its journal and its evidence, so a baseline cannot be stale,
//! and nothing has to be kept in step. What boards show of finished runs is kept in rows, written with a run's seal: nothing
//! decides by them.

use assay_model::recipe::Ladder;
use assay_model::{Pipeline, RunResult, RunView, Severity, TargetId, Verdict, text};
use assay_pipelines::recipe::over_time::{Results, SinceGreen, kept};
use assay_store::{RecipeSeen, RecipeVersion, RunFilter, Write};
use serde_json::Value;

use crate::{Engine, EngineError};

/// Runs that are read from the list at once.
const PAGE: u32 = 100;

impl Engine {
    /// What a recipe's run came to, as far as it is known.
    ///
    /// # Errors
    /// It is no recipe's run, or what it was created with does not read.
    pub async fn recipe_results(&self, run: &RunView) -> Result<Results, EngineError> {
        Results::of(run, &self.evidence(run).await).map_err(EngineError::Invalid)
    }

    /// The run that runs of a recipe from `before` on are held against: the last green one of the whole, in the standard lane, of a
    /// commit that is in history.
    pub async fn recipe_baseline(
        &self,
        recipe: &str,
        before: Option<i64>,
    ) -> Result<Option<Results>, EngineError> {
        let mut before_number = before;
        loop {
            let filter = RunFilter {
                target: Some(TargetId::named(Pipeline::Recipe, recipe)),
                pipeline: Some(Pipeline::Recipe),
                before_number,
                limit: PAGE,
                ..RunFilter::default()
            };
            let rows = self.store.list_runs(filter).await?;
            for row in &rows {
                if row.result != Some(RunResult::Pass) || row.overridden {
                    continue;
                }
                let run = self.view(row.id).await?;
                if !run.created.is_whole() {
                    continue;
                }
                // One that this Assay cannot read any more is no baseline; the one before it may be.
                if let Ok(results) = self.recipe_results(&run).await
                    && results.is_baseline()
                {
                    return Ok(Some(results));
                }
            }
            match rows.last() {
                Some(last) if rows.len() == PAGE as usize => before_number = Some(last.number),
                _ => return Ok(None),
            }
        }
    }

    /// What is different since a recipe was green, where this run of it is red or came to no verdict so far.
    pub(crate) async fn since_green(&self, run: &RunView) -> Result<Option<SinceGreen>, EngineError> {
        if run.created.pipeline != Pipeline::Recipe {
            return Ok(None);
        }
        let bad = |verdict: Option<Verdict>| matches!(verdict, Some(Verdict::Fail | Verdict::Error));
        if !run.stages.iter().any(|stage| bad(stage.verdict())) {
            return Ok(None);
        }
        let now = match self.recipe_results(run).await {
            Ok(now) => now,
            // The verdict does not wait for it.
            Err(EngineError::Invalid(why)) => {
                tracing::warn!(
                    run.number = run.created.number,
                    "the run is not compared with a green one: {why}"
                );
                return Ok(None);
            }
            Err(other) => return Err(other),
        };
        let green = self.recipe_baseline(&run.created.target.name, Some(run.created.number)).await?;
        Ok(Some(SinceGreen::of(green.as_ref(), &now)))
    }

    /// What boards show of a run over a recipe that is over; none of another pipeline's.
    pub(crate) async fn recipe_seen(&self, run: &RunView) -> Option<Write> {
        if run.created.pipeline != Pipeline::Recipe {
            return None;
        }
        let (seen, results) = self.recipe_row(run).await;
        Some(Write::Recipe { seen: Box::new(seen), results })
    }

    /// Writes down what runs came to that an older version has sealed. Once, after an upgrade: the others have their rows.
    pub(crate) async fn read_older_recipe_runs(&self) -> Result<(), EngineError> {
        let (mut read, mut through): (usize, i64) = (0, 0);
        loop {
            // By their numbers: a page of runs that do not read must not hide the later ones.
            let runs = self.store.recipe_runs_without_row(through, PAGE).await?;
            let last = runs.len() < PAGE as usize;
            for (number, run) in runs {
                through = number;
                match self.view(run).await {
                    Ok(view) => {
                        let (seen, results) = self.recipe_row(&view).await;
                        self.store.put_recipe_run(run, &seen, results.as_ref()).await?;
                        read += 1;
                    }
                    // A journal that does not read any more is looked for when somebody asks for that run.
                    Err(problem) => {
                        tracing::warn!(run.id = %run, error = %problem, "a run is not on the dashboard");
                    }
                }
            }
            if last {
                break;
            }
        }
        if read > 0 {
            tracing::info!(
                runs = read,
                "what earlier runs over recipes came to was written down for the dashboard"
            );
        }
        Ok(())
    }

    async fn recipe_row(&self, run: &RunView) -> (RecipeSeen, Option<Value>) {
        // A run that does not read has its rungs all the same: they are in its journal.
        let results = self.recipe_results(run).await.ok();
        let version = results.as_ref().and_then(|results| results.version.as_ref());
        let version = version.filter(|version| version.release.is_some() || version.commit.is_some());
        let ladder = Ladder::of(run).rungs;
        let seen = RecipeSeen {
            rungs: ladder.iter().map(|rung| rung.status).collect(),
            messages: ladder.iter().map(|rung| text::clean(&rung.message)).collect(),
            code: failure_code(run),
            checks_off: !run.created.muted.is_empty(),
            stages_left_out: !run.created.options.left_out.is_empty(),
            version: version.map(|version| RecipeVersion {
                release: version.release.clone(),
                commit: version.commit.clone(),
                changed: !version.changed.is_empty(),
            }),
            baseline: run.created.is_whole() && results.as_ref().is_some_and(Results::is_baseline),
        };
        (seen, results.as_ref().and_then(kept::kept))
    }
}

/// The code that says most about why a run failed.
fn failure_code(run: &RunView) -> Option<String> {
    let failed = run.failed_stage()?;
    let mut findings = run.findings();
    findings.retain(|f| f.severity >= Severity::Warning && f.stage.as_ref().is_none_or(|s| s == failed));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings.into_iter().next().map(|finding| finding.code)
}
