//! The canaries that ship, and files that must be refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use assay_model::Check;

use super::*;
use crate::commands::prove::recipe_codes::{RECIPE_CODES, all};

/// Codes that no canary makes, and why. None of them can be muted, and the page of findings says the same.
const WITHOUT_ENTRY: &[(&str, &str)] = &[
    ("ArtifactAltered", "the store's fault, proven by the other pipelines' tests"),
    ("ArtifactMissing", "the store's fault, proven by the other pipelines' tests"),
    ("ChainBroken", "the store's fault, proven by the other pipelines' tests"),
    ("BackupPathRefused", "a judge's test; a link in a volume, which assay-backup's own tests make"),
    ("BackupRefused", "a judge's test; labels that the lint refuses first"),
    ("DeployCount", "a fault of Assay's own: a judge's test"),
    ("DeployRejected", "seen beside LintA001, which is the first to go red"),
    ("RedeployChanges", "opt-in, and no recipe of files alone differs from itself: a judge's test"),
    ("Rejected", "an engine's refusal of another kind than those that have canaries: the driver's tests"),
    ("RestoreDiffers", "a write in the very moment of the restore: assay-backup's tests"),
    ("RestoreWrittenMeanwhile", "a write in the very moment of the restore: assay-backup's tests"),
    ("RestoreNotFresh", "a fault of Assay's own: assay-backup's tests"),
    ("RestorePathMissing", "a judge's test; a snapshot lacks only what was not there to be taken"),
    ("RestorePathRefused", "a judge's test; a link in a fresh volume, which assay-backup's own tests make"),
    ("RestoreVolumeMissing", "a judge's test; both stacks are of the same files"),
    ("RestoreWithoutBackup", "a fault of Assay's own: a judge's test"),
    ("RollbackLostData", "opt-in: a judge's test"),
    ("RunnerResidue", "a fault of the runner's: the driver's tests"),
    ("StackInvalid", "seen beside NoRecipe, which is the first to go red"),
    ("TestNotRun", "a fault of Assay's own: a judge's test"),
    ("UpgradeDidNotMove", "an update that is taken back is UpdatePaused first: a judge's test"),
];
/// Findings that fail nothing.
const LESSER: [&str; 6] = [
    "BackupTakenAgain",
    "ChangeOfTests",
    "DeployedOtherwise",
    "FilesRemark",
    "RestoredFileDiffers",
    "VersionNotRaised",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn entries() -> BTreeMap<String, Entry> {
    load(&repository().join("examples/recipes")).expect("the catalogue is good")
}

#[test]
fn the_catalogue_is_good_and_has_what_is_promised() {
    let entries = entries();
    let count = |verdict| entries.values().filter(|entry| entry.expected.verdict == verdict).count();
    assert!(count(Conclusion::Fail) >= 15, "bad ones");
    assert!(count(Conclusion::Pass) >= 6, "good ones");
    assert!(entries.values().any(|entry| entry.smoke), "there is a short run");
    for stage in ["Lint", "Install", "Upgrade", "Backup", "Restore", "Custom", "Teardown"] {
        let proven = entries.values().any(|entry| entry.expected.stage.as_deref() == Some(stage));
        assert!(proven, "nothing goes red at {stage}");
    }
    let tested = entries.values().filter(|entry| entry.expected.verdict == Conclusion::Pass);
    for entry in tested {
        assert!(!entry.wanted.ran.is_empty(), "{} passes, and nothing of it has to run", entry.name);
    }
}

#[test]
fn every_critical_code_has_an_entry_or_a_reason_why_not() {
    let entries = entries();
    let expected: BTreeSet<&str> =
        entries.values().filter_map(|entry| entry.expected.code.as_deref()).collect();
    for code in all().into_iter().filter(|code| !LESSER.contains(code)) {
        let excused = WITHOUT_ENTRY.iter().any(|(without, _)| *without == code);
        assert!(excused != expected.contains(code), "{code}: it has an entry: {}", expected.contains(code));
    }
    assert!(
        WITHOUT_ENTRY.iter().all(|(code, _)| all().contains(code)),
        "a reason for a code that there is not"
    );
}

#[test]
fn every_stage_of_the_pipeline_has_codes() {
    let stages: Vec<String> =
        assay_pipelines::recipe::STAGES.iter().map(|stage| stage.plan().name.0).collect();
    assert_eq!(RECIPE_CODES.map(|(stage, _)| stage).to_vec(), stages);
    assert!(RECIPE_CODES.iter().all(|(_, codes)| codes.is_sorted()));
}

#[test]
fn the_reference_page_lists_every_entry_as_it_is() {
    let page =
        std::fs::read_to_string(repository().join("docs/reference/proof-catalogue.md")).expect("the page");
    for entry in entries().values() {
        let row = crate::commands::prove::page::row(entry);
        assert!(page.contains(&row), "docs/reference/proof-catalogue.md lacks the row\n{row}");
    }
}

#[test]
fn controls_come_along_and_come_first() {
    let entries = entries();
    let names = |only: &[&str]| -> Vec<Vec<String>> {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        let groups = select(&entries, &only).expect("they are there");
        groups.iter().map(|group| group.iter().map(|entry| entry.name.clone()).collect()).collect()
    };
    assert_eq!(
        names(&["crash-on-boot", "bad-mount"]),
        [vec!["static-site"], vec!["bad-mount", "crash-on-boot"]]
    );
    // A control may have one itself.
    assert_eq!(names(&["failing-one-shot"]), [["static-site"], ["one-shot"], ["failing-one-shot"]]);
    assert_eq!(names(&[]).concat().len(), entries.len(), "each once");
    let problem = select(&entries, &["crash-on-bot".to_owned()]).expect_err("there is none").to_string();
    assert!(problem.contains("did you mean `crash-on-boot`?"), "{problem}");
}

const BAD: &str = r#"
control = "good"
result = "fail"
level = 0
stage = "Install"
verdict = "fail"
code = "CrashLoop"
ran = []
[rungs]
install = "fail"
upgrade = "unver"
backup = "?"
functional = "unver"
lint = "pass"
"#;

fn read_text(text: &str) -> Result<Entry> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(EXPECT), text).expect("written");
    std::fs::write(folder.path().join("README.md"), "# It crashes\n\nAt once.\n").expect("written");
    read("bad", folder.path())
}

#[test]
fn a_file_that_expects_the_impossible_or_too_little_is_refused() {
    let good = read_text(BAD).expect("it is good");
    assert_eq!(good.description, "It crashes");
    for (from, to, says) in [
        ("\"CrashLoop\"", "\"CrashLop\"", "stage Install cannot raise `CrashLop`"),
        ("\"CrashLoop\"", "\"LintA001\"", "stage Install cannot raise `LintA001`"),
        ("\"Install\"", "\"Instal\"", "no stage `Instal`"),
        ("code = \"CrashLoop\"", "", "red for any reason proves nothing"),
        ("verdict = \"fail\"", "", "with a fail, and only then"),
        ("control = \"good\"", "", "as `control`"),
        ("lint = \"pass\"", "", "[rungs] lacks `lint`"),
        ("backup = \"?\"", "backup = \"maybe\"", "maybe"),
        ("backup = \"?\"", "backup = \"unver\"\nhooks = \"pass\"", "hooks"),
        ("ran = []", "ran = []\nwarns = [\"Nonsense\"]", "`Nonsense`"),
        ("level = 0", "level = 0\nlevle = 1", "unknown field `levle`"),
    ] {
        assert!(BAD.contains(from), "{from}");
        let said = format!("{:#}", read_text(&BAD.replace(from, to)).expect_err(to));
        assert!(said.contains(says), "{to}: {said}");
    }
    let all_known = BAD.replace("\"?\"", "\"unver\"").replace("level = 0", "level = 2");
    let said = format!("{:#}", read_text(&all_known).expect_err("a level that does not follow"));
    assert!(said.contains("the rungs come to level 0, and `level` says 2"), "{said}");
}

/// A report with this ladder and these checks of the stage `Install`.
fn report(install: RungStatus, checks: &[(&str, &str)]) -> Report {
    let rungs = Rung::ALL.map(|rung| {
        let status = if rung == Rung::Install { install } else { RungStatus::Unver };
        serde_json::json!({ "rung": rung, "status": status, "message": "" })
    });
    let checks: Vec<Check> = checks
        .iter()
        .map(|(name, seen)| Check {
            name: (*name).to_owned(),
            verdict: Verdict::Pass,
            expected: String::new(),
            seen: (*seen).to_owned(),
        })
        .collect();
    serde_json::from_value(serde_json::json!({
        "format": 1,
        "run": {
            "id": "x", "number": 1, "pipeline": "recipe", "profile": "standard", "target": "bad", "state": "Completed",
            "result": "fail", "overridden": false, "failed_stage": "Install", "started_at": null, "completed_at": null,
        },
        "stages": [{
            "name": "Install", "verdict": "fail", "attempt": 1, "seconds": 1.0, "coverage": [], "required": true,
            "waived": false, "message": "", "checks": checks, "lost_attempts": [],
        }],
        "ladder": { "schema": 1, "level": 0, "rungs": rungs },
        "findings": [], "unverified": [], "decisions": [], "artifacts": [], "seal": null,
    }))
    .expect("a report")
}

#[test]
fn the_whole_ladder_and_the_tests_that_ran_are_compared() {
    let text = BAD
        .replace("ran = []", "ran = [\"hooks/pre_install\", \"functional/feed\"]")
        .replace("lint = \"pass\"", "lint = \"unver\"");
    let entry = read_text(&text).expect("it is good");
    let of = |report: &Report| entry.wanted.differences(&entry.expected, report);
    let ran = [
        ("hook or test hooks/pre_install", "exit code 0 after 0.1 s"),
        ("test functional/feed", "exit code 1 after 2.0 s"),
    ];
    assert_eq!(of(&report(RungStatus::Fail, &ran)), [""; 0], "a test that failed has run");
    assert_eq!(of(&report(RungStatus::Pass, &ran)), ["rung install: expected fail, seen pass"]);
    let not = [ran[0], ("test functional/feed", "it did not run")];
    assert_eq!(of(&report(RungStatus::Fail, &not)), ["functional/feed did not run"]);
    let other = [ran[0], ("test functional/feeds", "exit code 0 after 2.0 s")];
    assert_eq!(of(&report(RungStatus::Fail, &other)), ["functional/feed did not run"]);
}
