//! Testing images: the runner is the run's agent itself, with virtual machines of its own.
//!
//! It speaks the agent protocol, enrolled with the grant; what a machine under test would collect, a [`Bench`] does.

use std::sync::Arc;

use assay_agent::{
    Agent, BootSettings, Bounds, Collector, Enrolled, Evidence, ExitReason, Identity, Pacing, Readings,
    Settings as AgentSettings, Task,
};
use assay_api::runner::{AgentGrant, Grant};
use assay_pipelines::image::ImageSpec;
use assay_pipelines::image::bench::Bench;
use futures::future::BoxFuture;
use tracing::{info, warn};

use crate::Settings;

/// The method by which a runner is known that can do it.
pub(crate) const METHOD: &str = "vm";

/// Works on a run until it is over or was given to somebody else.
pub(crate) async fn work(settings: &Settings, grant: &Grant, agent: &AgentGrant) {
    let Some(benches) = &settings.benches else {
        warn!(run.number = grant.number, "the run needs virtual machines, and this runner has none");
        return;
    };
    let url = format!("https://{}/", settings.agents);
    let Ok(url) = url.parse() else {
        warn!(run.number = grant.number, "`{url}` is not the address of a control plane");
        return;
    };
    let boot = BootSettings { url, token: agent.credential.clone(), fingerprint: agent.fingerprint };
    let number = grant.number;
    let settings = AgentSettings {
        boot,
        // A runner that dies in the middle takes its machine with it: what it had not told is of no use.
        spool: None,
        run_dir: None,
        kmsg: None,
        poweroff: Vec::new(),
        machine_clock: Arc::clone(&benches.clock),
        console: Arc::new(move |line| info!(run.number = number, "{line}")),
        pacing: Pacing::default(),
        bounds: Bounds::default(),
    };
    let enrolled = Enrolled { credential: agent.credential.clone(), welcome: agent.welcome.clone() };
    let collector = Arc::new(Images { bench: Bench::new(benches.clone()) });
    match Agent::run_enrolled(settings, enrolled, collector).await {
        ExitReason::PoweredOff => info!(run.number = number, "run {number} is over"),
        other => warn!(run.number = number, "the work on run {number} ended: {other:?}"),
    }
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
