//! A run told as a list of events, for the tests of [`decide`](super::super::decide): builders that read like a story.

use assay_model::event::{CrashRecord, RunCreated, Target};

use super::*;

/// The server's start, and the run's creation.
pub(super) const START: i64 = 1_000_000;
/// Later than anything here: what happened then, happened a moment ago at any time.
pub(super) const LATER: i64 = 1_000_000_000;

/// A journal in the making, and what is known beside it.
pub(super) struct Story {
    pub(super) view: RunView,
    pub(super) now: i64,
    pub(super) started: i64,
    pub(super) last_seen: Option<i64>,
    pub(super) bound_at: i64,
    pub(super) off: bool,
    pub(super) runner: Option<&'static str>,
    pub(super) network_busy: Option<i64>,
    pub(super) told: BTreeSet<String>,
    pub(super) step_since: i64,
}

/// A run in the queue. Two stages for the agent (400 s each), one for the orchestrator.
pub(super) fn queued() -> Story {
    queued_with(true)
}

pub(super) fn queued_with(holds: bool) -> Story {
    let plan =
        |name: &str, owner| StagePlan { name: StageName::from(name), owner, required: true, timeout_s: 400 };
    let created = RunCreated {
        number: 7,
        pipeline: assay_model::Pipeline::Host,
        profile: "standard".into(),
        target: Target { id: assay_model::TargetId(uuid::Uuid::from_u128(1)), name: "web-3".into() },
        stages: vec![
            plan("Inventory", Owner::Agent),
            plan("SMART", Owner::Agent),
            plan("Reporting", Owner::Orchestrator),
        ],
        spec: serde_json::json!({}),
        macs: vec![Mac([2, 0, 0, 0, 0, 1])],
        power: serde_json::json!({}),
        holds,
        hold_s: 3600,
        boot_timeout_s: 600,
        requested_by: "mara".into(),
        machine: None,
        harness: "0.1.0".into(),
        muted: Vec::new(),
        options: assay_model::host::order::RunOptions::default(),
    };
    let first = Event { seq: 1, at: Micros::seconds(START), body: EventBody::RunCreated(Box::new(created)) };
    let view = RunView::begin(RunId(uuid::Uuid::from_u128(7)), &first).expect("a beginning");
    Story {
        view,
        now: START,
        started: START,
        last_seen: None,
        bound_at: LATER,
        off: false,
        runner: Some("rack-2"),
        network_busy: None,
        told: BTreeSet::new(),
        step_since: LATER,
    }
}

pub(super) fn booting() -> Story {
    queued().then(1, EventBody::Admitted { runner: "rack-2".into() })
}

pub(super) fn switched_on() -> Story {
    booting().power(PowerAction::Cycle).power_done(true)
}

/// Enrolled and heard a moment ago; the first stage is open.
pub(super) fn running() -> Story {
    switched_on().enrolled().started_stage(0, 1)
}

/// The last stage is open.
pub(super) fn reporting() -> Story {
    running()
        .evidence(0, 1)
        .judged(0, Verdict::Pass)
        .started_stage(1, 1)
        .evidence(1, 1)
        .judged(1, Verdict::Pass)
}

pub(super) fn held() -> Story {
    let story = running().evidence(0, 1).judged(0, Verdict::Fail);
    let until = Micros::seconds(story.now + 3600);
    story.then(0, EventBody::Held { until })
}

impl Story {
    pub(super) fn then(mut self, after_s: i64, body: EventBody) -> Self {
        self.now += after_s;
        let event = Event { seq: self.view.seq + 1, at: Micros::seconds(self.now), body };
        self.view.apply(&event).expect("a legal story");
        self
    }

    pub(super) fn power(self, action: PowerAction) -> Self {
        let job = format!("7-power-{}", self.view.power.len() + 1);
        self.then(1, EventBody::PowerRequested { job, action })
    }

    pub(super) fn power_done(self, ok: bool) -> Self {
        let job = self.view.power.last().expect("asked").job.clone();
        self.then(1, EventBody::PowerDone { job, ok, message: "said the BMC".into() })
    }

    pub(super) fn enrolled(self) -> Self {
        let boot = self.view.boots + 1;
        let (mac, generation) = (Mac([2, 0, 0, 0, 0, 1]), self.view.generation + 1);
        let enrolled = EventBody::Enrolled {
            boot,
            mac: Some(mac),
            system_uuid: None,
            agent: "0".into(),
            clock_skew_us: 0,
            generation,
        };
        let mut story = self.then(60, EventBody::BootServed { boot, mac }).then(30, enrolled);
        story.last_seen = Some(story.now);
        story
    }

    /// The latest boot tells what the machine kept of a crash.
    pub(super) fn told_of_death(self, records: usize) -> Self {
        let boot = self.view.enrolled.as_ref().map_or(0, |e| e.boot);
        let record = |n: usize| CrashRecord { name: format!("crash-{n}"), digest: Sha256::ZERO };
        let records: Vec<_> = (0..records).map(record).collect();
        self.then(0, EventBody::PostMortem { boot, records, cause: None })
    }

    /// Everything that could be told by now was told.
    pub(super) fn told_everything(mut self) -> Self {
        let (until, made) = (self.view.hold_until, self.view.decisions.last().map(|d| d.at));
        self.told.extend(until.map(|until| News::HoldExpiring { until }.key()));
        let since = [Some(self.view.created_at), made].into_iter().flatten();
        self.told.extend(since.map(|since| News::RunStale { since }.key()));
        self
    }

    pub(super) fn muted(mut self, code: &str) -> Self {
        self.view.created.muted = vec![code.to_owned()];
        self
    }

    pub(super) fn name(&self, index: usize) -> StageName {
        self.view.stages[index].plan.name.clone()
    }

    pub(super) fn started_stage(self, index: usize, attempt: u32) -> Self {
        let (stage, generation) = (self.name(index), self.view.generation + 1);
        self.then(0, EventBody::StageStarted { stage, index, attempt, generation })
    }

    pub(super) fn evidence(self, index: usize, attempt: u32) -> Self {
        let stage = self.name(index);
        let digest = Sha256::ZERO;
        self.then(0, EventBody::EvidenceReceived { stage, attempt, digest, problem: None, late: false })
    }

    pub(super) fn judged(self, index: usize, verdict: Verdict) -> Self {
        let stage = self.name(index);
        let attempt = self.view.stages[index].attempts.len() as u32;
        let judgement = Judgement { verdict, ..Judgement::error("m") };
        self.then(0, EventBody::StageJudged { stage, index, attempt, required: true, judgement })
    }

    pub(super) fn lost(self) -> Self {
        let (stage, attempt) =
            self.view.open_attempt().map(|(s, a)| (s.plan.name.clone(), a.attempt)).expect("open");
        self.then(0, EventBody::AttemptLost { stage, attempt, reason: "r".into() })
    }

    pub(super) fn decided(self, after_s: i64, kind: DecisionKind) -> Self {
        self.then(
            after_s,
            EventBody::Decided {
                decision: Decision { kind, by: "mara".into(), why: "w".into(), serials: Vec::new() },
            },
        )
    }

    /// The agent is heard all the while.
    pub(super) fn heard(mut self) -> Self {
        self.last_seen = Some(LATER);
        self
    }

    /// The server was started so many seconds ago, as of the story's end, and has heard nobody since.
    pub(super) fn restarted(mut self) -> Self {
        self.started = self.now;
        self.last_seen = None;
        self
    }

    /// What is decided so many seconds after the story's end.
    pub(super) fn decides(&self, after_s: i64) -> Action {
        self.decides_at(Micros::seconds(self.now + after_s))
    }

    pub(super) fn decides_at(&self, now: Micros) -> Action {
        let tuning = Tuning::default();
        let started = Micros::seconds(self.started);
        let last_seen = self.last_seen.map_or(started, |s| Micros::seconds(s).min(now));
        let snapshot = Snapshot {
            run: &self.view,
            last_seen,
            heard: self.last_seen.is_some(),
            lease_until: last_seen.plus(tuning.lease).max(started.plus(tuning.lease)),
            off: self.off,
            runner: self.runner,
            in_line: false,
            superseded_by: None,
            network_busy: self.network_busy,
            told: &self.told,
            step_since: Micros::seconds(self.step_since),
            bound_at: Micros::seconds(self.bound_at),
            tuning,
        };
        decide(&snapshot, now)
    }

    /// The same, a microsecond before so many seconds after the story's end.
    pub(super) fn just_before(&self, after_s: i64) -> Action {
        self.decides_at(Micros(Micros::seconds(self.now + after_s).0 - 1))
    }

    pub(super) fn suspect_again(self) -> Self {
        let last_seen = Micros::seconds(self.last_seen.unwrap_or(self.started));
        self.then(1, EventBody::AgentSuspect { last_seen })
    }

    pub(super) fn suspect(self) -> Self {
        let last_seen = Micros::seconds(self.last_seen.unwrap_or(self.started));
        self.then(15, EventBody::AgentSuspect { last_seen })
    }
}
