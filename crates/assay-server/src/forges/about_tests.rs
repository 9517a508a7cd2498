//! What a pull request is told of a run at every point of its life, as its reader sees it.

use assay_forge::comment::render;
use assay_model::event::{RunCreated, Sealed, Target};
use assay_model::host::order::RunOptions;
use assay_model::{
    Decision, Event, EventBody, Finding, Judgement, Owner, RunId, RunResult, Sha256, StagePlan, TargetId,
};
use serde_json::json;

use super::*;

/// A run over the recipe `wiki`, some seconds after another thing happened to it.
struct Story {
    run: RunView,
    at: Micros,
}

const STAGES: [&str; 3] = ["Lint", "Install", "Reporting"];

impl Story {
    fn begin() -> Self {
        let at = Micros::seconds(1_795_363_200);
        let plan = |name: &str| StagePlan {
            name: name.into(),
            owner: if name == "Reporting" { Owner::Orchestrator } else { Owner::Agent },
            required: name != "Lint",
            timeout_s: 600,
        };
        let created = RunCreated {
            number: 41,
            pipeline: Pipeline::Recipe,
            profile: "standard".to_owned(),
            target: Target { id: TargetId::named(Pipeline::Recipe, "wiki"), name: "wiki".to_owned() },
            stages: STAGES.into_iter().map(plan).collect(),
            spec: json!({ "commit": "5".repeat(40) }),
            machine: None,
            macs: Vec::new(),
            power: json!({ "method": "swarm" }),
            holds: false,
            hold_s: 0,
            boot_timeout_s: 0,
            requested_by: "alice@coop".to_owned(),
            harness: "0.1.0".to_owned(),
            muted: Vec::new(),
            options: RunOptions::default(),
        };
        let event = Event { seq: 1, at, body: EventBody::RunCreated(Box::new(created)) };
        let id = RunId(uuid::Uuid::from_u128(7));
        Self { run: RunView::begin(id, &event).expect("it begins"), at }
    }

    fn then(mut self, seconds: i64, body: EventBody) -> Self {
        self.at = self.at.plus(Micros::seconds(seconds));
        self.run.apply(&Event { seq: self.run.seq + 1, at: self.at, body }).expect("it may happen");
        self
    }

    fn admitted(self) -> Self {
        let enrolled = EventBody::Enrolled {
            boot: 1,
            mac: None,
            system_uuid: None,
            agent: "0.1.0".to_owned(),
            clock_skew_us: 0,
            generation: 1,
        };
        self.then(5, EventBody::Admitted { runner: "attic".to_owned() }).then(1, enrolled)
    }

    fn stage(self, index: usize, judgement: Judgement) -> Self {
        let name = STAGES[index];
        let generation = 2 + i64::try_from(index).expect("few");
        let required = name != "Lint";
        self.then(0, EventBody::StageStarted { stage: name.into(), index, attempt: 1, generation })
            .then(12, EventBody::StageJudged { stage: name.into(), index, attempt: 1, required, judgement })
    }

    fn told(&self, around: &Around<'_>) -> String {
        render(&of_run(&self.run, &Around { at: self.at, ..*around }))
    }
}

fn around(asked_by: &Login) -> Around<'_> {
    Around {
        instance: "abc",
        base_url: Some("https://assay.example.org"),
        pull: 12,
        asked_by: Some(asked_by),
        asked: "!testme",
        place: None,
        since_green: None,
        newer: None,
        notes: &[],
        at: Micros(0),
    }
}

fn pass(message: &str) -> Judgement {
    Judgement { verdict: Verdict::Pass, ..Judgement::error(message) }
}

#[test]
fn a_run_is_told_from_its_place_in_the_line_to_its_seal() {
    let alice: Login = "alice".parse().expect("a name");
    let around = around(&alice);
    let waiting = Story::begin();
    let wait = Wait {
        cause: assay_engine::queue::Cause::Slots,
        reason: "2nd in line; behind run 40 (shop, Upgrade, 50 s); about 2 min".to_owned(),
        position: Some(2),
        starts_in: Some(Micros::seconds(125)),
    };
    insta::assert_snapshot!(waiting.told(&Around { place: Some(&wait), ..around }), @"
    <!-- assay:abc:12 -->
    ### ⏳ queued · [run 41](https://assay.example.org/runs/41)

    Commit `5555555555555555555555555555555555555555`, asked: `!testme` by `alice`.

    Place 2 in line: `2nd in line; behind run 40 (shop, Upgrade, 50 s); about 2 min`; begins in about 2 m 5 s.

    <sub>Assay, 2026-11-22 16:00 UTC. Commands: `!testme`, `--quick`, `--extra`, `--stages a,b`, `!testme cancel`.</sub>
    ");
    let running = waiting.admitted().stage(0, pass("9 rules, no error"));
    insta::assert_snapshot!(running.told(&around), @"
    <!-- assay:abc:12 -->
    ### ▶️ running: `Install`, 2 of 3, for 13 s · [run 41](https://assay.example.org/runs/41)

    Commit `5555555555555555555555555555555555555555`, asked: `!testme` by `alice`.

    | | stage | took | |
    |---|---|---:|---|
    | ✅ pass | `Lint` | 12 s |  |

    <sub>Assay, 2026-11-22 16:00 UTC. Commands: `!testme`, `--quick`, `--extra`, `--stages a,b`, `!testme cancel`.</sub>
    ");
    let finding =
        Finding::new("CrashLoop", Severity::Critical, "app ended with 1, three times", "Read its log.")
            .part("service", None, None);
    let failed = Judgement {
        verdict: Verdict::Fail,
        findings: vec![finding],
        unverified: vec!["the page was not asked for".to_owned()],
        ..Judgement::error("app does not stay up")
    };
    let red = running.stage(1, failed).stage(2, pass("reported"));
    let red = red.then(1, EventBody::RunCompleted { result: Some(RunResult::Fail) });
    let sealed = Sealed {
        head: Sha256::of(b"head"),
        result: Some(RunResult::Fail),
        overridden: false,
        envelope: json!({}),
    };
    let red = red.then(1, EventBody::Sealed(Box::new(sealed)));
    let since = Compared::NeverGreen;
    insta::assert_snapshot!(red.told(&Around { since_green: Some(&since), ..around }), @"
    <!-- assay:abc:12 -->
    ### ❌ fail, level 0 of 5, in 38 s · [run 41](https://assay.example.org/runs/41)

    Commit `5555555555555555555555555555555555555555`, asked: `!testme` by `alice`.

    Sealed: `9f2e6d33a3717ee826353a404ba4618d1aeeb6879ad7936bce8ed5f46814924d`

    [Report](https://assay.example.org/api/v1/runs/41/report.html?linked=true) · [Evidence](https://assay.example.org/api/v1/runs/41/bundle) · [History](https://assay.example.org/recipes/wiki)

    | | stage | took | |
    |---|---|---:|---|
    | ✅ pass | `Lint` | 12 s |  |
    | ❌ fail | `Install` | 12 s | `app does not stay up` |
    | ✅ pass | `Reporting` | 12 s |  |

    **Findings:**

    - **critical** `CrashLoop` `service`: `app ended with 1, three times`
      → `Read its log.`

    **Not verified:**

    - `Install: the page was not asked for`

    **Since green:** this has never been green.

    <sub>Assay, 2026-11-22 16:00 UTC. Commands: `!testme`, `--quick`, `--extra`, `--stages a,b`, `!testme cancel`.</sub>
    ");
}

#[test]
fn a_run_that_was_stopped_says_by_whom() {
    let alice: Login = "alice".parse().expect("a name");
    let around = around(&alice);
    let cancel = |by: &str| {
        let decision = Decision {
            kind: DecisionKind::Cancel,
            by: by.to_owned(),
            why: String::new(),
            serials: Vec::new(),
        };
        Story::begin()
            .then(3, EventBody::Decided { decision })
            .then(0, EventBody::CancelConfirmed { how: "never begun".to_owned() })
    };
    let line =
        |story: &Story, around: &Around<'_>| story.told(around).lines().nth(1).unwrap_or_default().to_owned();
    let lines = [
        line(&cancel("alice@coop"), &around),
        line(&cancel("operator"), &around),
        line(
            &Story::begin().then(3, EventBody::Superseded { by: 42 }),
            &Around { newer: Some((42, "6666666666666666666666666666666666666666")), ..around },
        ),
        line(
            &Story::begin()
                .admitted()
                .stage(0, Judgement::error("the daemon did not start"))
                .stage(1, Judgement::error("the daemon did not start"))
                .stage(2, pass("reported"))
                .then(1, EventBody::RunCompleted { result: None }),
            &Around { base_url: None, ..around },
        ),
    ];
    insta::assert_snapshot!(lines.join("\n"), @"
    ### ⏹️ cancelled by `alice` · [run 41](https://assay.example.org/runs/41)
    ### ⏹️ cancelled by an operator · [run 41](https://assay.example.org/runs/41)
    ### ⏭️ superseded by `666666666666`, [run 42](https://assay.example.org/runs/42) · [run 41](https://assay.example.org/runs/41)
    ### ⚠️ error: Assay could not do its work; this says nothing about the change · run 41
    ");
}
