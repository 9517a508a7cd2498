//! Making a run of one of a batch's targets.

use assay_model::host::order::{Profile, RunOptions};
use assay_model::schedule::Again;
use assay_model::{Asked, HostId, Pipeline, Priority};
use assay_pipelines::image::ImageSpec;
use assay_pipelines::recipe::{self, RecipeSpec};
use assay_store::{BatchItemRow, BatchRow};

use crate::images::ImageRequest;
use crate::recipes::RecipeRequest;
use crate::requests::{BOOT_TIMEOUT_S, HOLD_S, VetOptions};
use crate::{Engine, EngineError};

impl Engine {
    /// Begins one of a batch's targets, unless it has begun: doing it twice is harmless.
    pub(super) async fn begin(
        &self,
        batch: &BatchRow,
        again: &Again,
        item: &BatchItemRow,
    ) -> Result<(), EngineError> {
        if self.store.view(item.run_id).await?.is_some() {
            return Ok(());
        }
        let by = batch.asked_by.clone();
        let asked = Asked { priority: Priority::Schedule, pull_request: None };
        match again {
            Again::Hosts { profile, .. } => self.begin_host(item, *profile, by, asked).await,
            Again::Recipes { .. } => self.begin_recipe(item, by, asked).await,
            Again::Image { .. } => self.begin_image(item, by, asked).await,
        }
    }

    /// Right before a machine is switched off its cluster is asked, whatever it said when the batch was planned.
    async fn begin_host(
        &self,
        item: &BatchItemRow,
        profile: Profile,
        by: String,
        asked: Asked,
    ) -> Result<(), EngineError> {
        let hosts = self.store.hosts().await?;
        let host = hosts.into_iter().find(|host| host.id == HostId(item.target_id.0));
        let host = host.ok_or_else(|| EngineError::Refused("it is not registered any more".to_owned()))?;
        self.may_be_taken(&host).await.map_err(EngineError::Refused)?;
        let options = VetOptions {
            profile: profile.to_string(),
            boot_timeout_s: BOOT_TIMEOUT_S,
            hold_s: HOLD_S,
            holds: true,
            muted: Vec::new(),
            options: RunOptions { asked, ..RunOptions::default() },
            only: Vec::new(),
            with: Vec::new(),
            by,
        };
        self.vet_as(item.run_id, &host, options).await.map(drop)
    }

    /// As it was last asked for, of what is in its folder now, and whole.
    async fn begin_recipe(&self, item: &BatchItemRow, by: String, asked: Asked) -> Result<(), EngineError> {
        let Some(last) = self.template_of(Pipeline::Recipe, item.target_id).await? else {
            return Err(nothing_known());
        };
        let spec = RecipeSpec::of(&last.created.spec).map_err(EngineError::Invalid)?;
        let spec = RecipeSpec {
            commit: None,
            asked: recipe::Asked { quick: false, keep: false, skip_generic: false, ..spec.asked },
            stages: Vec::new(),
            seed: seed(item),
            invocation: Vec::new(),
            harness: None,
            ..spec
        };
        let runner = last.created.power.get("runner").and_then(|name| name.as_str()).map(str::to_owned);
        let request = RecipeRequest { spec, only: Vec::new(), runner, muted: Vec::new(), by, asked };
        self.test_recipe_as(item.run_id, request).await.map(drop)
    }

    /// As it was last asked for, of the file as it is now, and from its beginning.
    async fn begin_image(&self, item: &BatchItemRow, by: String, asked: Asked) -> Result<(), EngineError> {
        let Some(last) = self.template_of(Pipeline::Image, item.target_id).await? else {
            return Err(nothing_known());
        };
        let spec = ImageSpec::of(&last.created.spec).map_err(EngineError::Invalid)?;
        let spec = ImageSpec { sha256: None, from_phase: None, seed: seed(item), ..spec };
        let runner = last.created.power.get("runner").and_then(|name| name.as_str()).map(str::to_owned);
        let request = ImageRequest { spec, runner, muted: Vec::new(), by };
        self.test_image_as(item.run_id, request, asked).await.map(drop)
    }
}

/// What chance is drawn from: the run's own id, so a run that is begun again after a crash is the same run.
fn seed(item: &BatchItemRow) -> u32 {
    let [.., a, b, c] = *item.run_id.0.as_bytes();
    u32::from_be_bytes([0, a, b, c])
}

fn nothing_known() -> EngineError {
    EngineError::Refused("no run is known any more that says how it is tested".to_owned())
}
