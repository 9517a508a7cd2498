//! A recipe while it is written: deployed, changed, deployed again, with what its services say. Nothing here is judged and
//! nothing is kept, so nothing of it can ever count as a result.

use std::collections::BTreeMap;
use std::path::PathBuf;

use assay_model::RunId;
use assay_recipe::customise::OperationName;
use assay_swarm::LogLine;

use super::deploy::Deploying;
use super::{RecipeBenchSettings, Tell, Test};
use crate::recipe::RecipeSpec;
use crate::recipe::evidence::Deployed;

/// A stack that is worked on.
pub struct Dev {
    test: Test,
    /// Up to where each container's words were given out.
    heard: BTreeMap<String, String>,
}

impl Dev {
    /// Nothing is deployed yet.
    ///
    /// # Errors
    /// Why there can be none, for people.
    pub fn new(mut spec: RecipeSpec, settings: &RecipeBenchSettings) -> Result<Self, String> {
        spec.stages = vec!["Install".to_owned()];
        let test = Test::new(RunId(uuid::Uuid::new_v4()), &spec, settings)?;
        Ok(Self { test, heard: BTreeMap::new() })
    }

    /// Deploys the folder as it is now: anew the first time, then in place. How it ended is in the outcome.
    ///
    /// # Errors
    /// Why it could not be done at all.
    pub async fn deploy(&mut self, tell: Tell<'_>) -> Result<Deployed, String> {
        self.test.sources = None;
        self.test.artifacts.clear();
        self.test.fetch_sources(tell).await?;
        // The tests' folder says how; it may have been changed as well.
        self.test.spec.settings = self.test.customisation.settings.settings.clone();
        let head = self.test.sources.as_ref().map(|sources| sources.head.clone());
        let head = head.ok_or("the recipe was not read")?;
        let how = if self.test.stand.is_none() {
            Deploying::Anew(OperationName::Install)
        } else {
            Deploying::InPlace { upgraded: true }
        };
        self.test.deploy(&head, how, tell).await
    }

    /// What the services said since it was last asked.
    ///
    /// # Errors
    /// Why they could not be asked.
    pub async fn said(&mut self) -> Result<Vec<LogLine>, String> {
        let Some(stand) = &self.test.stand else { return Ok(Vec::new()) };
        let stack = assay_recipe::names::stack_name(&self.test.domain);
        let lines =
            stand.swarm().logs_after(&stack, &mut self.heard).await.map_err(|error| error.to_string())?;
        let shorten = |line: LogLine| LogLine { service: super::outcome::key(&stack, &line.service), ..line };
        Ok(lines.into_iter().map(shorten).collect())
    }

    /// How the app is reached from this machine, once there is one.
    pub fn how_to_reach(&self) -> Option<String> {
        Some(self.test.stand.as_ref()?.how_to_reach(&self.test.domain))
    }

    /// The folder that is deployed.
    pub fn folder(&self) -> PathBuf {
        self.test.spec.folder.clone()
    }

    /// Takes everything away; what stays of it.
    pub async fn stop(mut self) -> Vec<String> {
        self.test.put_away().await
    }
}
