//! The operators' API, version 1: below `/api/v1/`. Bearer token, or a browser's session.

use assay_model::report::Report;
use assay_model::{DecisionKind, Mac, Micros, RunResult, RunState};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `POST /api/v1/hosts`: registers a host. `PUT /api/v1/hosts/{name}` replaces one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewHost {
    /// Letters, digits, `.`, `_`, `-`; at most 64.
    pub name: String,
    /// The addresses it may boot from.
    pub macs: Vec<Mac>,
    /// The expected spec, as YAML. Without one the first run only captures.
    #[serde(default)]
    pub spec_yaml: Option<String>,
    /// How it is switched on: `{"method": "manual"}` (default), `{"method": "lab", "machine": …}`.
    #[serde(default)]
    pub power: Option<Value>,
}

/// A registered host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The addresses it may boot from.
    pub macs: Vec<Mac>,
    /// The expected spec, as YAML.
    pub spec_yaml: Option<String>,
    /// How it is switched on.
    pub power: Value,
    /// When it was registered.
    pub created_at: Micros,
    /// Its latest run, if any.
    pub latest: Option<RunSummary>,
}

/// `POST /api/v1/hosts/{name}/vet`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vet {
    /// `quick`, `standard` (default) or `burnin`.
    pub profile: Option<String>,
    /// Longest time from power-on to enrolment, in seconds (default 600).
    pub boot_timeout_s: Option<u32>,
    /// Longest hold after a failure, in seconds (default seven days).
    pub hold_s: Option<u32>,
    /// Do not hold on failure.
    pub no_hold: bool,
    /// Codes of checks to switch off; for `assay prove`.
    pub muted: Vec<String>,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its number.
    pub number: i64,
    /// UUIDv7.
    pub id: String,
    /// The host's name.
    pub target: String,
    /// `host`.
    pub pipeline: String,
    /// `quick`, `standard` or `burnin`.
    pub profile: String,
    /// Where it is in its life.
    pub state: RunState,
    /// Its result, once there is one.
    pub result: Option<RunResult>,
    /// Whether anything was waived.
    pub overridden: bool,
    /// The stage that is running.
    pub stage: Option<String>,
    /// Where it failed.
    pub failed_stage: Option<String>,
    /// When it was asked for.
    pub created_at: Micros,
    /// When it ended.
    pub completed_at: Option<Micros>,
    /// For a run that waits: what for.
    pub waiting: Option<String>,
}

/// `GET /api/v1/runs/{number}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunDetail {
    /// As in lists.
    pub summary: RunSummary,
    /// The report as it stands now.
    pub report: Report,
    /// The journal's last event; follow `/events?after=` from here.
    pub seq: i64,
    /// Until when it is held.
    pub hold_until: Option<Micros>,
    /// What the agent said it is doing.
    pub step: Option<String>,
}

/// `POST /api/v1/runs/{number}/decisions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// What.
    pub kind: DecisionKind,
    /// Why. Needed for a waiver.
    #[serde(default)]
    pub why: String,
}

/// A machine that asked for a lease and is not registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownMac {
    /// Its address.
    pub mac: Mac,
    /// When it was first seen.
    pub first_seen: Micros,
    /// When it was last seen.
    pub last_seen: Micros,
    /// How often.
    pub count: i64,
    /// By which runner.
    pub runner: String,
}

/// A runner as the control plane knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When it last asked for work.
    pub last_seen: Micros,
    /// What is wrong with its netboot service, if anything.
    pub netboot_problem: Option<String>,
}
