//! Testing images, with virtual machines of the runner's own.

use std::sync::Arc;

use assay_agent::{Collector, Evidence, Identity, Readings, Task};
use assay_api::runner::{AgentGrant, Grant};
use assay_pipelines::image::ImageSpec;
use assay_pipelines::image::bench::Bench;
use futures::future::BoxFuture;
use tracing::warn;

use crate::{Settings, as_agent};

/// The method by which a runner is known that can do it.
pub(crate) const METHOD: &str = "vm";

/// Works on a run until it is over or was given to somebody else.
pub(crate) async fn work(settings: &Settings, grant: &Grant, agent: &AgentGrant) {
    let Some(benches) = &settings.benches else {
        warn!(run.number = grant.number, "the run needs virtual machines, and this runner has none");
        return;
    };
    let collector = Arc::new(Images { bench: Bench::new(benches.clone()) });
    as_agent::work(settings, &benches.clock, grant, agent, collector).await;
}

struct Images {
    bench: Bench,
}

impl Collector for Images {
    fn identity(&self) -> BoxFuture<'_, Identity> {
        Box::pin(std::future::ready(Identity::default()))
    }

    fn sensors(&self) -> BoxFuture<'_, Readings> {
        Box::pin(std::future::ready(Readings::default()))
    }

    fn collect<'a>(&'a self, task: Task<'a>) -> BoxFuture<'a, Result<Evidence, String>> {
        Box::pin(async move {
            let spec = ImageSpec::of(task.spec)?;
            let brought = self.bench.collect(task.place.run, task.stage, &spec, &task.progress).await?;
            Ok(Evidence { evidence: brought.evidence, artifacts: brought.artifacts })
        })
    }
}
