//! Making the permission to erase disks: one for each try of `Storage` or `Clearance`, made when the try begins and good
//! for no other.
//!
//! Right before, the host's cluster is asked whether it still counts on the machine ([`ClusterGuard`]); its answer is
//! part of what is signed, and unless it lets the machine go the permit names no disk. Disks that hold data are named
//! only after an operator said so of each, since the stage last failed: what was said of one failure is not said of
//! the next.
//!
//! What it is not: it signs nothing itself and knows no HTTP. A [`crate::Sealer`] signs, the server asks the cluster.

use std::pin::Pin;

use assay_model::host::order::Profile;
use assay_model::host::permit::{CONTEXT, ErasePermit, GuardAnswer, SignedPermit};
use assay_model::host::smart::same_identity;
use assay_model::host::spec::{ClusterSpec, HostSpec, ProxmoxMember};
use assay_model::host::storage::{name_of, wanted_disks};
use assay_model::view::{AttemptOutcome, StageView};
use assay_model::{DecisionKind, Micros, RunState, RunView, StageName};
use assay_pipelines::host::{self, clearance};

/// The stage that erases by itself: it is held to the disks that the spec names.
pub const STAGE: &str = "Storage";

/// Whether a stage is given permits. [`clearance::NAME`] is asked before an installer erases, which is held to no spec:
/// there, an operator may give up any disk.
pub fn wants(stage: &StageName) -> bool {
    *stage == STAGE || *stage == clearance::NAME
}

/// How much longer than its try a permit is good: the machine may be slow to begin.
const AIR: Micros = Micros::seconds(600);

/// What a cluster says when it is asked, soon.
pub type Asked<'a> = Pin<Box<dyn Future<Output = GuardAnswer> + Send + 'a>>;

/// Asks a cluster whether it counts on one of its members.
pub trait ClusterGuard: Send + Sync {
    /// Asks; that it cannot be asked is an answer too.
    fn ask<'a>(&'a self, member: &'a ProxmoxMember) -> Asked<'a>;
}

/// A run for which no permit is made at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPermit {
    /// It is not running `Storage` under this fencing token.
    #[error(
        "run {run} is not in an open try of a stage that erases with generation {generation}; no permit is made"
    )]
    NotErasing {
        /// The run's number.
        run: i64,
        /// The token of the try that asked.
        generation: i64,
    },
    /// No person stands behind it.
    #[error("run {0} was not started by an operator; start it with `assay host vet`")]
    NobodyAsked(i64),
    /// Its spec is of another time.
    #[error("the spec of run {run} does not read ({problem}); start a new run")]
    Spec {
        /// The run's number.
        run: i64,
        /// What the reader said.
        problem: String,
    },
}

/// What the host's cluster says of it now.
pub async fn ask_cluster(spec: &HostSpec, guard: &dyn ClusterGuard) -> GuardAnswer {
    match &spec.cluster {
        None => GuardAnswer::Undeclared,
        Some(ClusterSpec::None) => GuardAnswer::NoCluster,
        Some(ClusterSpec::Proxmox(member)) => guard.ask(member).await,
    }
}

/// The spec that a run was started with.
pub fn spec_of(run: &RunView) -> Result<HostSpec, NoPermit> {
    serde_json::from_value(run.created.host_spec().unwrap_or(&run.created.spec).clone())
        .map_err(|problem| NoPermit::Spec { run: run.created.number, problem: problem.to_string() })
}

/// The permit for the open try that has this fencing token. `nonce` is fresh and random.
pub fn mint(
    run: &RunView,
    spec: &HostSpec,
    guard: GuardAnswer,
    generation: i64,
    now: Micros,
    nonce: String,
) -> Result<ErasePermit, NoPermit> {
    let number = run.created.number;
    let not_erasing = NoPermit::NotErasing { run: number, generation };
    let Some((stage, attempt)) = run.open_attempt().filter(|_| run.state() == RunState::Running) else {
        return Err(not_erasing);
    };
    if !wants(&stage.plan.name) || attempt.generation != generation {
        return Err(not_erasing);
    }
    if run.created.requested_by.trim().is_empty() {
        return Err(NoPermit::NobodyAsked(number));
    }
    let wanted = wanted_disks(spec, &run.created.options.replaced);
    let named = wanted.iter().map(|disk| name_of(disk).to_owned());
    let mut with_data = permitted_since_failure(run, stage);
    let beside = with_data.iter().filter(|_| stage.plan.name == clearance::NAME).cloned();
    let disks: Vec<String> = if guard.allows() { named.chain(beside).collect() } else { Vec::new() };
    with_data.retain(|serial| disks.iter().any(|disk| same_identity(disk, serial)));
    Ok(ErasePermit {
        host: run.created.target.name.clone(),
        run: run.id,
        generation,
        disks,
        with_data,
        guard,
        expires: now.plus(Micros::seconds(limit_s(run, spec, stage))).plus(AIR),
        nonce,
    })
}

/// Signs a permit. `sign` is given the whole message, context included.
pub fn sign(permit: &ErasePermit, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> SignedPermit {
    let permit = serde_json::to_string(permit).expect("a permit is plain data");
    let message = [CONTEXT, permit.as_bytes()].concat();
    SignedPermit { signature: hex::encode(sign(&message)), permit }
}

/// The disks of which an operator said, since the stage last failed, that they may be erased with what they hold.
fn permitted_since_failure(run: &RunView, stage: &StageView) -> Vec<String> {
    let judged =
        stage.attempts.iter().rev().find(|attempt| matches!(attempt.outcome, AttemptOutcome::Judged(_)));
    let Some(failed_at) = judged.and_then(|attempt| attempt.ended_at) else {
        return Vec::new();
    };
    run.decisions
        .iter()
        .filter(|made| made.at >= failed_at && made.decision.kind == DecisionKind::Permit)
        .filter(|made| made.stage.as_deref() == Some(stage.plan.name.as_str()))
        .flat_map(|made| made.decision.serials.iter().cloned())
        .collect()
}

fn limit_s(run: &RunView, spec: &HostSpec, stage: &StageView) -> i64 {
    let profile: Profile = run.created.profile.parse().unwrap_or_default();
    let planned = stage.plan.timeout_s;
    let asked =
        host::collected(stage.plan.name.as_str()).map_or(planned, |stage| stage.limit_s(spec, profile));
    i64::from(planned.max(asked))
}

#[cfg(test)]
#[path = "permits_tests.rs"]
mod tests;
