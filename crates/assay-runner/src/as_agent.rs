//! Runs for which no machine boots: the runner is the run's agent itself.
//!
//! It speaks the agent protocol, enrolled with the grant; what a machine under test would collect, a bench does.

use std::sync::Arc;

use assay_agent::{
    Agent, BootSettings, Bounds, Collector, Enrolled, ExitReason, Pacing, Settings as AgentSettings,
};
use assay_api::runner::{AgentGrant, Grant};
use assay_model::Clock;
use tracing::{info, warn};

use crate::Settings;

/// Works on a run until it is over or was given to somebody else.
pub(crate) async fn work<C: Collector>(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    grant: &Grant,
    agent: &AgentGrant,
    collector: Arc<C>,
) {
    let url = format!("https://{}/", settings.agents);
    let Ok(url) = url.parse() else {
        warn!(run.number = grant.number, "`{url}` is not the address of a control plane");
        return;
    };
    let boot = BootSettings { url, token: agent.credential.clone(), fingerprint: agent.fingerprint };
    let number = grant.number;
    let settings = AgentSettings {
        boot,
        // A runner that dies in the middle takes its work with it: what it had not told is of no use.
        spool: None,
        run_dir: None,
        kmsg: None,
        poweroff: Vec::new(),
        machine_clock: Arc::clone(clock),
        console: Arc::new(move |line| info!(run.number = number, "{line}")),
        pacing: Pacing::default(),
        bounds: Bounds::default(),
    };
    let enrolled = Enrolled { credential: agent.credential.clone(), welcome: agent.welcome.clone() };
    match Agent::run_enrolled(settings, enrolled, collector).await {
        ExitReason::PoweredOff => info!(run.number = number, "run {number} is over"),
        other => warn!(run.number = number, "the work on run {number} ended: {other:?}"),
    }
}
