//! Adding a stage is one file and one line: the guide's example, compiled as it stands there, and run.
//!
//! The example says `crate::` as a stage inside this crate does; here that is this file.

use assay_model::host::spec::HostSpec;
use assay_model::{Judgement, Verdict};
use assay_pipelines::host::{self, STAGES};
#[cfg(feature = "collect")]
use assay_pipelines::{CollectContext, CollectError, Collected};
use assay_pipelines::{HostStage, JudgeInput};
use serde_json::{Value, json};

#[path = "../../../docs/guide/adding-a-stage.rs"]
mod tpm;

/// The example's line, at its place.
const ADDED: &dyn HostStage = &tpm::Tpm;

fn judged(evidence: &Value) -> Judgement {
    host::judge(ADDED, &JudgeInput::new(&HostSpec::default(), evidence))
}

#[test]
fn the_guide_shows_the_file_that_is_tested_here() {
    let guide = include_str!("../../../docs/guide/adding-a-stage.md");
    let file = include_str!("../../../docs/guide/adding-a-stage.rs");
    let shown = guide.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(shown, Some(file), "copy one into the other");
    assert!(guide.contains("    &tpm::Tpm,\n"), "and the line");
}

#[test]
fn the_list_takes_it_as_it_takes_the_others() {
    let (last, before) = STAGES.split_last().expect("there are stages");
    let with_it: Vec<&dyn HostStage> = before.iter().copied().chain([ADDED, *last]).collect();
    let names: Vec<_> = with_it.iter().map(|stage| stage.plan().name.0).collect();
    let mut different = names.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), names.len(), "each has a name of its own: {names:?}");
    assert_eq!(names[names.len() - 2..], ["TPM", "Reporting"]);
    // What holds for every stage in the list holds for it.
    for stage in with_it {
        let plan = stage.plan();
        assert!(plan.timeout_s > 0, "{}", plan.name);
        let broken = host::judge(stage, &JudgeInput::new(&HostSpec::default(), &json!("no evidence")));
        assert_ne!(broken.verdict, Verdict::Pass, "{}: what cannot be read is no pass", plan.name);
    }
}

#[test]
fn its_judge_goes_red_and_green_and_never_green_without_coverage() {
    let tpm = |name: &str, version: Value| json!({ "name": name, "version": version });
    let cases = [
        (json!([tpm("tpm0", json!(2))]), Verdict::Pass, (1, 1)),
        (json!([tpm("tpm0", json!(1))]), Verdict::Fail, (1, 1)),
        (json!([tpm("tpm0", json!(2)), tpm("tpm1", json!(1))]), Verdict::Fail, (2, 2)),
        (json!([tpm("tpm0", Value::Null)]), Verdict::Unverified, (0, 1)),
        (json!([tpm("tpm0", json!(2)), tpm("tpm1", Value::Null)]), Verdict::Unverified, (1, 2)),
        (json!([]), Verdict::Skip, (0, 0)),
    ];
    for (tpms, verdict, (covered, total)) in cases {
        let judgement = judged(&json!({ "tpms": tpms, "from_a_newer_agent": 1 }));
        assert_eq!(judgement.verdict, verdict, "{tpms}: {judgement:?}");
        let coverage =
            judgement.coverage.iter().find(|coverage| coverage.what == "TPMs").expect("it is counted");
        assert_eq!((coverage.covered, coverage.total), (covered, total), "{tpms}");
    }
    let red = judged(&json!({ "tpms": [tpm("tpm\u{1b}[0", json!(1))] }));
    let finding = &red.findings[0];
    assert_eq!(
        (finding.code.as_str(), finding.stage.as_ref().map(assay_model::StageName::as_str)),
        ("TpmTooOld", Some("TPM"))
    );
    assert!(
        finding.message.contains("version 1") && !finding.message.contains('\u{1b}'),
        "{}",
        finding.message
    );
    assert_eq!(judged(&json!({ "tpms": 3 })).verdict, Verdict::Error);
}

#[cfg(feature = "collect")]
#[tokio::test]
async fn its_collector_brings_back_what_its_judge_reads() {
    use assay_model::host::order::StageInput;
    use assay_model::{Micros, RunId};
    use assay_probes::Machine;

    let folder = tempfile::tempdir().expect("a folder");
    let machine = Machine::captured(folder.path(), None);
    let (spec, input) = (HostSpec::default(), StageInput::default());
    let place = assay_pipelines::Place {
        run: RunId(uuid::Uuid::nil()),
        host: "web-3".to_owned(),
        generation: 1,
        verify_key: String::new(),
        now: Micros(0),
    };
    let said = std::sync::Mutex::new(Vec::new());
    let progress = |step: &str| said.lock().expect("nobody panicked").push(step.to_owned());
    let context = CollectContext {
        machine: &machine,
        spec: &spec,
        input: &input,
        place: &place,
        progress: &progress,
        save: &|_| (),
    };
    let collected = ADDED.collect(&context).await.expect("it collects");
    assert_eq!(judged(&collected.evidence).verdict, Verdict::Skip, "a machine without one");

    for (name, version) in [("tpm0", "2\n"), ("tpm1", "1\n"), ("tpm2", "garbage")] {
        let tpm = folder.path().join("sys/class/tpm").join(name);
        std::fs::create_dir_all(&tpm).expect("a folder");
        std::fs::write(tpm.join("tpm_version_major"), version).expect("written");
    }
    let collected = ADDED.collect(&context).await.expect("it collects");
    let judgement = judged(&collected.evidence);
    assert_eq!(judgement.verdict, Verdict::Fail, "{judgement:?}");
    assert_eq!(judgement.message, "TPM tpm1 is of version 1, expected 2 or later");
    assert_eq!(judgement.unverified.iter().filter(|line| line.contains("tpm2")).count(), 1, "{judgement:?}");
    assert_eq!(said.lock().expect("nobody panicked").len(), 2);
}
