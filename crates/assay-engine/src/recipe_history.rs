//! A recipe's runs over time: the control plane has the history, so it is what compares a red run with the last green one.
//!
//! There is no table of baselines. Which run is one follows from its journal and its evidence, so a baseline cannot be stale,
//! and nothing has to be kept in step.

use assay_model::{Pipeline, RunResult, RunView, TargetId, Verdict};
use assay_pipelines::recipe::over_time::{Results, SinceGreen};
use assay_store::RunFilter;

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
}
