//! The operators' API, version 1: below `/api/v1/`. Bearer token, or a browser's session.

use assay_model::host::order::RunOptions;
use assay_model::report::Report;
use assay_model::{Asked, DecisionKind, Mac, Micros, Pipeline, RunResult, RunState, StageName};
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
    /// Its labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
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
    /// What else is asked for: replaced parts, stages left out.
    #[serde(default)]
    pub options: RunOptions,
    /// Only these stages (and `Reporting`); all when empty. May name opt-in ones.
    #[serde(default)]
    pub only_stages: Vec<StageName>,
    /// Opt-in stages that are wanted beside the others: `Memtest86`.
    #[serde(default)]
    pub with_stages: Vec<StageName>,
}

/// `POST /api/v1/images/runs`: tests an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestImage {
    /// The image's file on the runner and its profile (`schemas/image-profile.schema.json`).
    pub spec: Value,
    /// The runner that has the file; any that can when none is named.
    #[serde(default)]
    pub runner: Option<String>,
    /// Codes of checks to switch off; for `assay prove`.
    #[serde(default)]
    pub muted: Vec<String>,
    /// The registered host that it is to be installed on, and how; a virtual machine of the runner's without.
    #[serde(default)]
    pub on: Option<OnHost>,
}

/// `POST /api/v1/recipes/runs`: tests a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestRecipe {
    /// The recipe's folder on the runner and its settings (`schemas/recipe-settings.schema.json`).
    pub spec: Value,
    /// The stages that are asked for; all that apply where none is named.
    #[serde(default)]
    pub only: Vec<String>,
    /// The runner that has the folder; any that can when none is named.
    #[serde(default)]
    pub runner: Option<String>,
    /// Codes of checks to switch off; for `assay prove`.
    #[serde(default)]
    pub muted: Vec<String>,
    /// On whose behalf: its place in the queue depends on it.
    #[serde(default, skip_serializing_if = "Asked::is_default")]
    pub asked: Asked,
}

/// A physical machine in place of a virtual one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnHost {
    /// The host's name.
    pub host: String,
    /// Longest time from power-on to enrolment of the live image, and to the medium, in seconds (default 600).
    pub boot_timeout_s: Option<u32>,
    /// Longest hold after a failure, in seconds (default seven days).
    pub hold_s: Option<u32>,
    /// Do not hold on failure.
    pub no_hold: bool,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its number.
    pub number: i64,
    /// UUIDv7.
    pub id: String,
    /// The name of the host or image.
    pub target: String,
    /// Which list of stages.
    pub pipeline: Pipeline,
    /// Whether the target is a registered host: of an image's run, the machine that it is installed on.
    #[serde(default)]
    pub on_host: bool,
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
    /// For a run in the queue: its place in the line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// For a run in the queue: in about how many seconds it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_in_s: Option<i64>,
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
    /// Why. Needed for a waiver and for a permit.
    #[serde(default)]
    pub why: String,
    /// For a permit: the serial numbers of the disks that may be erased with what they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serials: Vec<String>,
}

/// `GET /api/v1/hosts/{name}/gate?max_age_s=N&allow_waived=true&profile=quick`: may the machine go back to work?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// The host's name.
    pub host: String,
    /// Whether it may.
    pub open: bool,
    /// The run that speaks for it, or against it.
    pub run: Option<i64>,
    /// That run's profile.
    pub profile: Option<String>,
    /// When that run came to its end.
    pub completed_at: Option<Micros>,
    /// Why not; empty when it may.
    pub reasons: Vec<GateReason>,
}

/// One reason why a machine may not go back to work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateReason {
    /// Stable: `NeverVetted`, `BeingTested`, `Failed`, `NoVerdict`, `NotSealed`, `NotGenuine`, `ProfileTooLow`, `Waived`,
    /// `ChecksOff`, `StagesLeftOut`, `NotCompared`, `TooOld`, `PartsChanged`, `InventoryUnknown`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// `GET` and `POST /api/v1/hosts/{name}/adopt`: the spec that the machine's newest inventory comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// The run whose inventory it is.
    pub run: i64,
    /// The spec, as YAML.
    pub spec_yaml: String,
    /// Whether it is the registered one now.
    pub stored: bool,
}

/// `POST /api/v1/operators`: someone who may sign in. `PUT` is not needed: adding one again changes password and role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOperator {
    /// Letters, digits, `.`, `_`, `-`; at most 64.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// Their password; one is made and told once without it.
    #[serde(default)]
    pub password: Option<String>,
}

/// Someone who may sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorInfo {
    /// Their name.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// Told once, when it was made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
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
