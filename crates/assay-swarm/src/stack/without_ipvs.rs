//! Stacks on kernels that cannot balance loads (IPVS).
//!
//! There, a service's own address takes connections and answers none, and a port published in ingress mode is refused. So names
//! are made to resolve to the tasks themselves, and ports are published on the node. It is decided before the first deploy and
//! not changed later: a service that is switched between the two loses its name for a while.

use std::fmt;

use bollard::models::{
    EndpointPortConfigPublishModeEnum, EndpointSpec, EndpointSpecModeEnum, ServiceSpec,
    ServiceSpecUpdateConfigOrderEnum,
};
use serde::Serialize;

/// Whether services have an address of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoints {
    /// As the files say; the kernel has IPVS.
    AsWritten,
    /// Names lead to tasks, ports to the node. What is changed for it is said: [`Change`].
    WithoutIpvs,
}

/// Something of a stack that is not as its files say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The service, as in the files.
    pub service: String,
    /// What: `deploy.endpoint_mode`.
    pub path: &'static str,
    /// What the files say.
    pub from: String,
    /// What it is.
    pub to: String,
    /// Why.
    pub why: &'static str,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, path, from, to, why } = self;
        write!(formatter, "{service}: {path} is {to} instead of {from}: {why}")
    }
}

/// Changes one service; says what was changed.
pub(super) fn without_ipvs(service: &str, spec: &mut ServiceSpec) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut change = |path, from: String, to: String, why| {
        changes.push(Change { service: service.to_owned(), path, from, to, why });
    };
    let replicas = spec
        .mode
        .as_ref()
        .and_then(|mode| mode.replicated.as_ref())
        .and_then(|replicated| replicated.replicas)
        .unwrap_or(1);
    let endpoint = spec.endpoint_spec.get_or_insert_with(EndpointSpec::default);
    if endpoint.mode != Some(EndpointSpecModeEnum::DNSRR) {
        endpoint.mode = Some(EndpointSpecModeEnum::DNSRR);
        let why = "the kernel has no IPVS, so a service's own address leads nowhere";
        change("deploy.endpoint_mode", "vip".to_owned(), "dnsrr".to_owned(), why);
    }
    let mut moved = false;
    for port in endpoint.ports.iter_mut().flatten() {
        if port.publish_mode == Some(EndpointPortConfigPublishModeEnum::HOST) {
            continue;
        }
        moved = true;
        port.publish_mode = Some(EndpointPortConfigPublishModeEnum::HOST);
        let target = port.target_port.unwrap_or_default();
        let why = "the kernel has no IPVS, so ingress leads nowhere";
        change("ports.mode", format!("ingress (port {target})"), "host".to_owned(), why);
        if replicas > 1
            && let Some(published) = port.published_port.take()
        {
            let why = "several tasks on one node cannot share a port";
            change("ports.published", published.to_string(), "any free port".to_owned(), why);
        }
    }
    if moved
        && let Some(update) = &mut spec.update_config
        && update.order == Some(ServiceSpecUpdateConfigOrderEnum::START_FIRST)
    {
        update.order = Some(ServiceSpecUpdateConfigOrderEnum::STOP_FIRST);
        let why = "the new task could not have the port while the old one holds it";
        change("deploy.update_config.order", "start-first".to_owned(), "stop-first".to_owned(), why);
    }
    changes
}
