use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::event::{RunCreated, Target};
use crate::host::order::RunOptions;
use crate::{Decision, DecisionKind, Event, EventBody, Finding, Judgement, StageName, StagePlan};

const STAGES: [(&str, Owner); 6] = [
    ("Prepare", Owner::Runner),
    ("Inventory", Owner::Agent),
    ("Clearance", Owner::Agent),
    ("Boot", Owner::Runner),
    ("Install", Owner::Runner),
    ("Reporting", Owner::Orchestrator),
];

fn created() -> RunCreated {
    let plan = |(name, owner): (&str, Owner)| StagePlan {
        name: StageName::from(name),
        owner,
        required: name != "Install",
        timeout_s: 60,
    };
    RunCreated {
        number: 7,
        pipeline: Pipeline::Image,
        profile: "standard".to_owned(),
        target: Target { id: TargetId(Uuid::from_u128(1)), name: "web-3".to_owned() },
        stages: STAGES.into_iter().map(plan).collect(),
        spec: json!({ "image": "/my.iso", "profile": { "name": "my-installer" } }),
        machine: Some(json!({ "format": 1 })),
        macs: Vec::new(),
        power: json!({}),
        holds: true,
        hold_s: 60,
        boot_timeout_s: 60,
        requested_by: "mara".to_owned(),
        harness: "0".to_owned(),
        muted: Vec::new(),
        options: RunOptions::default(),
    }
}

/// A run that is being told, a second for each event.
struct Story(RunView);

impl Story {
    fn of(created: RunCreated) -> Self {
        let first = Event { seq: 1, at: Micros(0), body: EventBody::RunCreated(Box::new(created)) };
        let run = RunView::begin(RunId(Uuid::from_u128(9)), &first).expect("it begins");
        Self(run).then(EventBody::Admitted { runner: "r1".to_owned() })
    }

    fn then(mut self, body: EventBody) -> Self {
        let seq = self.0.seq + 1;
        self.0.apply(&Event { seq, at: Micros::seconds(seq), body }).expect("may happen");
        self
    }

    /// The next stage comes out like this.
    fn stage(self, verdict: Verdict, codes: &[(&str, Severity)]) -> Self {
        let index = self.0.status.stage;
        let attempt = self.0.stages[index].attempts.len() as u32 + 1;
        let StagePlan { name, required, .. } = self.0.stages[index].plan.clone();
        let findings = codes.iter().map(|(code, severity)| Finding::new(code, *severity, "m", "n")).collect();
        let judgement = Judgement { verdict, findings, ..Judgement::error("as told") };
        self.then(EventBody::StageStarted { stage: name.clone(), index, attempt, generation: 1 })
            .then(EventBody::StageJudged { stage: name, index, attempt, required, judgement })
    }

    /// So many stages pass.
    fn passes(self, count: usize) -> Self {
        (0..count).fold(self, |story, _| story.stage(Verdict::Pass, &[]))
    }

    fn held(self) -> Self {
        self.then(EventBody::Held { until: Micros(0) })
    }

    fn decided(self, kind: DecisionKind) -> Self {
        let decision =
            Decision { kind, by: "mara".to_owned(), why: "because".to_owned(), serials: Vec::new() };
        self.then(EventBody::Decided { decision })
    }

    fn completed(self) -> Self {
        let result = self.0.aggregate();
        self.then(EventBody::RunCompleted { result })
    }

    fn says(&self) -> Option<TrialVerdict> {
        outcome(&self.0).map(|outcome| outcome.verdict)
    }
}

fn run() -> Story {
    Story::of(created())
}

const BROKEN: [(&str, Severity); 4] = [
    ("SlowBoot", Severity::Warning),
    ("KernelPanic", Severity::Critical),
    ("KernelPanic", Severity::Critical),
    ("Chatty", Severity::Info),
];

#[test]
fn a_whole_pass_is_a_pass() {
    let story = run().passes(6).completed();
    let told = outcome(&story.0).expect("it says something");
    assert_eq!((told.image.as_str(), told.verdict, told.unverified), ("my-installer", TrialVerdict::Pass, 0));
    assert_eq!((told.at, told.codes), (story.0.at, Vec::<String>::new()));
    // An optional stage may be skipped.
    let skipped = run().passes(4).stage(Verdict::Skip, &[]).passes(1).completed();
    assert_eq!(skipped.says(), Some(TrialVerdict::Pass));
}

#[test]
fn a_failure_from_boot_on_is_a_failure_however_the_run_ends() {
    let failed = || run().passes(3).stage(Verdict::Fail, &BROKEN).held();
    let released = failed().then(EventBody::HoldExpired);
    let told = outcome(&released.0).expect("it says something");
    assert_eq!(told.verdict, TrialVerdict::Fail);
    assert_eq!(told.codes, ["KernelPanic", "SlowBoot"], "the gravest first, each once");
    assert_eq!(failed().decided(DecisionKind::Abandon).says(), Some(TrialVerdict::Fail));
    // A waiver lets the run pass, and makes no image work.
    let waived = failed().decided(DecisionKind::Waive).passes(2).completed();
    assert_eq!(waived.0.result, Some(RunResult::Pass));
    assert_eq!(waived.says(), Some(TrialVerdict::Fail));
    // The next try counts in place of the one before it. It begins with the machine's clearance.
    let again = failed().decided(DecisionKind::Retry).passes(4).completed();
    assert_eq!(again.says(), Some(TrialVerdict::Pass));
}

#[test]
fn what_says_nothing_of_the_image_is_no_failure() {
    let cases = [
        (
            "the runner failed at Boot",
            run().passes(3).stage(Verdict::Error, &[]).held().then(EventBody::HoldExpired),
        ),
        (
            "the machine did not come back after Boot",
            run()
                .passes(4)
                .then(EventBody::FindingRaised {
                    finding: Finding::new("MachineDidNotReturn", Severity::Critical, "m", "n"),
                })
                .then(EventBody::BootFailed { message: "m".to_owned() })
                .held()
                .then(EventBody::HoldExpired),
        ),
        (
            "the evidence is not whole",
            run().passes(5).stage(Verdict::Fail, &[]).held().then(EventBody::HoldExpired),
        ),
        (
            "what came before it was waived",
            run().stage(Verdict::Fail, &[]).held().decided(DecisionKind::Waive).passes(5).completed(),
        ),
        (
            "checks were off",
            Story::of(RunCreated { muted: vec!["KernelPanic".into()], ..created() }).passes(6).completed(),
        ),
        (
            "stages were left out",
            Story::of(RunCreated {
                options: RunOptions { left_out: vec!["Join".into()], ..RunOptions::default() },
                ..created()
            })
            .passes(6)
            .completed(),
        ),
    ];
    for (what, story) in cases {
        assert_eq!(story.says(), Some(TrialVerdict::Unverified), "{what}");
    }
}

#[test]
fn a_run_that_never_booted_the_image_or_was_broken_off_says_nothing() {
    let off = EventBody::CancelConfirmed { how: "off".to_owned() };
    let cases = [
        ("it goes on", run().passes(5)),
        ("it is held", run().passes(3).stage(Verdict::Fail, &[]).held()),
        (
            "it was stopped at Clearance",
            run().passes(2).stage(Verdict::Fail, &[]).held().then(EventBody::HoldExpired),
        ),
        (
            "its live image never came up",
            run().then(EventBody::BootFailed { message: "m".to_owned() }).held().then(EventBody::HoldExpired),
        ),
        ("it was cancelled after Boot", run().passes(4).decided(DecisionKind::Cancel).then(off)),
        ("it was superseded", run().passes(4).then(EventBody::Superseded { by: 8 })),
        ("no machine", Story::of(RunCreated { machine: None, ..created() }).passes(6).completed()),
        ("no image", Story::of(RunCreated { pipeline: Pipeline::Host, ..created() }).passes(6).completed()),
        ("no name", Story::of(RunCreated { spec: json!({}), ..created() }).passes(6).completed()),
    ];
    for (what, story) in cases {
        assert_eq!(story.says(), None, "{what}");
    }
}

#[test]
fn a_flood_of_codes_is_bounded() {
    let codes: Vec<String> = (0..100).map(|n| format!("Code{n}\u{1b}")).collect();
    let told: Vec<_> = codes.iter().map(|code| (code.as_str(), Severity::Critical)).collect();
    let story = run().passes(3).stage(Verdict::Fail, &told).held().then(EventBody::HoldExpired);
    let codes = outcome(&story.0).expect("it says something").codes;
    assert_eq!((codes.len(), codes[0].as_str()), (16, "Code0\u{fffd}"));
}
