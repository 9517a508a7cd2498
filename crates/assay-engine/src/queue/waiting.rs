//! What waits for slots and what holds them, read off runs.

use std::collections::BTreeMap;

use assay_model::event::RunCreated;
use assay_model::{Micros, Pipeline, Priority, RunId, RunState, RunView, TargetId};

use super::{NETBOOT, Slots};

/// The profile whose runs use the quick lane.
pub const QUICK: &str = "quick";

/// What runs of recipes and images take of processors and disks where nothing is declared.
const ONE_EACH: [&str; 2] = ["cpu", "io"];
/// What a recipe's run takes of memory where nothing is declared: its daemon and a small app.
const RECIPE_MEM_MIB: u64 = 512;

/// A run that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which run.
    pub id: RunId,
    /// Its number.
    pub number: i64,
    /// What is tested.
    pub target: String,
    /// The same, as it is compared.
    pub target_id: TargetId,
    /// Which list of stages.
    pub pipeline: Pipeline,
    /// The power method that its runner must know.
    pub method: String,
    /// The one runner that can do it: it has what is tested.
    pub runner: Option<String>,
    /// What it needs while it runs.
    pub needs: Slots,
    /// Who asked for it.
    pub requester: String,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether it uses the quick lane.
    pub quick: bool,
    /// When it was asked for.
    pub asked_at: Micros,
    /// How long it is expected to run.
    pub expected: Micros,
}

/// A run that has begun and is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its number.
    pub number: i64,
    /// What is tested.
    pub target: String,
    /// The same, as it is compared: nobody else may test it meanwhile.
    pub target_id: TargetId,
    /// Which list of stages.
    pub pipeline: Pipeline,
    /// Where it is.
    pub runner: String,
    /// What it is doing, in a word.
    pub doing: String,
    /// Since when it has been doing that.
    pub since: Micros,
    /// What it holds; nothing while it is held for an operator, for nothing runs then.
    pub needs: Slots,
    /// Who asked for it.
    pub requester: String,
    /// How urgent it was.
    pub priority: Priority,
    /// Whether it uses the quick lane.
    pub quick: bool,
    /// When it began.
    pub started_at: Micros,
    /// How long it was expected to run.
    pub expected: Micros,
}

impl Waiting {
    /// A queued run, with how long it is expected to run.
    pub fn of(run: &RunView, expected: Micros) -> Self {
        Self {
            id: run.id,
            number: run.created.number,
            target: run.created.target.name.clone(),
            target_id: run.created.target.id,
            pipeline: run.created.pipeline,
            method: method(&run.created).to_owned(),
            runner: run.created.power.get("runner").and_then(|r| r.as_str()).map(str::to_owned),
            needs: needs(&run.created),
            requester: run.created.requested_by.clone(),
            priority: run.created.options.asked.priority,
            quick: run.created.profile == QUICK,
            asked_at: run.created_at,
            expected,
        }
    }
}

impl Holding {
    /// A run that keeps others from its target, and from slots unless it is held.
    pub fn of(run: &RunView, expected: Micros) -> Option<Self> {
        let state = run.state();
        if state == RunState::Queued || state.is_terminal() {
            return None;
        }
        let current = run.current_stage().filter(|_| state == RunState::Running);
        let begun = current.and_then(|stage| stage.latest()).map(|attempt| attempt.started_at);
        let held = state == RunState::FailedHolding;
        Some(Self {
            number: run.created.number,
            target: run.created.target.name.clone(),
            target_id: run.created.target.id,
            pipeline: run.created.pipeline,
            runner: run.runner.clone()?,
            doing: current.map_or_else(|| word(state), |stage| stage.plan.name.to_string()),
            since: begun.or(run.started_at).unwrap_or(run.created_at),
            needs: if held { Slots::new() } else { needs(&run.created) },
            requester: run.created.requested_by.clone(),
            priority: run.created.options.asked.priority,
            quick: run.created.profile == QUICK,
            started_at: run.started_at.unwrap_or(run.created_at),
            expected,
        })
    }
}

/// What a run does that is in no stage, in a word for people.
fn word(state: RunState) -> String {
    match state {
        RunState::FailedHolding => "held for an operator".to_owned(),
        RunState::Cancelling => "being cancelled".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

/// The power method that a run's runner must know.
pub(crate) fn method(created: &RunCreated) -> &str {
    created.power.get("method").and_then(|m| m.as_str()).unwrap_or("manual")
}

/// What a run takes while it runs: what its power settings declare, `{"needs": {"mem_mib": 4096}}`; for a machine that
/// boots one netboot slot; for what the runner does itself a processor and a tenth of the disks, and for a recipe a little
/// memory, unless it says otherwise.
pub(crate) fn needs(created: &RunCreated) -> Slots {
    let declared = created.power.get("needs").and_then(|needs| needs.as_object());
    let declared = declared.into_iter().flatten().filter_map(|(pool, n)| Some((pool.clone(), n.as_u64()?)));
    let mut needs: BTreeMap<_, _> = declared.collect();
    if created.has_machine() {
        needs.entry(NETBOOT.to_owned()).or_insert(1);
    } else {
        for pool in ONE_EACH {
            needs.entry(pool.to_owned()).or_insert(1);
        }
    }
    if created.pipeline == Pipeline::Recipe {
        needs.entry("mem_mib".to_owned()).or_insert(RECIPE_MEM_MIB);
    }
    needs.retain(|_, n| *n > 0);
    needs
}
