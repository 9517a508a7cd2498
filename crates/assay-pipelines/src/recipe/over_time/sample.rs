//! Results for tests: a green run, and one that is red somewhere.

use std::collections::BTreeMap;

use assay_model::recipe::{Ladder, Rung, RungResult, RungStatus};
use assay_model::{RunResult, RunState, Sha256, Verdict};

use super::results::{Configuration, Flags, Results, RunFacts, RunnerFacts, SCHEMA, StageResult, TestResult};
use crate::recipe::evidence::{Ground, ImageSeen, VersionSeen};
use crate::recipe::harness::Harness;
use crate::recipe::pressure::Pressure;

pub(super) fn image(reference: &str, id: &str) -> ImageSeen {
    ImageSeen {
        reference: reference.to_owned(),
        id: id.to_owned(),
        digests: Vec::new(),
        from: "archive".to_owned(),
        fetched: None,
    }
}

/// A green run with this number, a second after the one before it.
pub(super) fn green(number: i64) -> Results {
    let harness = Harness { version: "0.1.0".to_owned(), sha256: Some(Sha256::of(b"assay")) };
    let stage = |name: &str| StageResult {
        name: name.to_owned(),
        verdict: Some(Verdict::Pass),
        seconds: Some(3.0),
        message: format!("{name} is good"),
        codes: Vec::new(),
        phases: Vec::new(),
        pressure: Some(Pressure { seconds: 3.0, ..Pressure::default() }),
    };
    let version = |release: &str, digit: &str| VersionSeen {
        release: Some(release.to_owned()),
        commit: Some(digit.repeat(40)),
        changed: Vec::new(),
    };
    Results {
        schema: SCHEMA,
        run: RunFacts {
            id: format!("run-{number}"),
            number,
            state: RunState::Completed,
            result: Some(RunResult::Pass),
            overridden: false,
            failed_stage: None,
            created_at: format!("2026-01-02T00:00:{number:02}Z"),
            completed_at: Some(format!("2026-01-02T00:01:{number:02}Z")),
            seconds: Some(60.0),
            seed: 1,
        },
        recipe: "web".to_owned(),
        version: Some(version("1.1.0+1.27", "a")),
        base: Some(version("1.0.0+1.26", "0")),
        lane: "standard".to_owned(),
        spared: Vec::new(),
        ladder: ladder(&[]),
        flags: Flags { clean_teardown: Some(true), no_secret_leak: Some(true) },
        deploys: Some(1),
        stages: ["Lint", "Install", "Upgrade", "Custom", "Teardown"].map(stage).to_vec(),
        tests: vec![TestResult {
            name: "functional/a.sh".to_owned(),
            stage: "Custom".to_owned(),
            verdict: Verdict::Pass,
            seconds: 0.5,
        }],
        images: vec![image("nginx:1.27", &format!("sha256:{}", "11".repeat(32)))],
        runner: Some(RunnerFacts {
            name: Some("r1".to_owned()),
            harness: harness.clone(),
            ipvs: Some(true),
            ground: Ground::Own,
        }),
        harness,
        configuration: Configuration { sha256: Some(Sha256::of(b"tests")), ..Configuration::default() },
        invocation: vec!["assay".to_owned(), "recipe".to_owned(), "test".to_owned()],
        since_green: None,
    }
}

/// The same, red at a stage; what comes after it was not tried.
pub(super) fn red(number: i64, stage: &str, code: &str) -> Results {
    let mut results = green(number);
    results.run.result = Some(RunResult::Fail);
    results.run.failed_stage = Some(stage.to_owned());
    let failed = results.stages.iter().position(|found| found.name == stage).expect("a stage");
    results.stages[failed].verdict = Some(Verdict::Fail);
    results.stages[failed].codes = vec![code.to_owned()];
    if stage == "Custom" {
        results.tests[0].verdict = Verdict::Fail;
    } else if failed < 3 {
        results.tests.clear();
        for after in &mut results.stages[failed + 1..4] {
            after.verdict = Some(Verdict::Unverified);
        }
    }
    let rung = Rung::ALL.into_iter().find(|rung| rung.stages().contains(&stage));
    results.ladder = ladder(&rung.into_iter().collect::<Vec<_>>());
    results
}

/// All rungs hold but these.
pub(super) fn ladder(failed: &[Rung]) -> Ladder {
    let status = |rung: Rung| if failed.contains(&rung) { RungStatus::Fail } else { RungStatus::Pass };
    let rungs = Rung::ALL.map(|rung| RungResult { rung, status: status(rung), message: String::new() });
    Ladder::from_rungs(rungs.to_vec())
}

/// Many results by their recipes.
pub(super) fn named(all: impl IntoIterator<Item = (&'static str, Results)>) -> BTreeMap<String, Results> {
    all.into_iter()
        .map(|(name, results)| (name.to_owned(), Results { recipe: name.to_owned(), ..results }))
        .collect()
}
