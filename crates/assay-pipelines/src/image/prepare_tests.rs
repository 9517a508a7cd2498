//! `Prepare`: what is wrong with a medium is said before anything boots from it.

use assay_model::Verdict;

use super::super::evidence::{FlashRun, TakenUp};
use super::super::fixtures::{
    Row, Seen, a_guest_s_words_are_shown_clean, each_raises_its_own_code, nothing_is_missed_in_silence,
    the_page_has_them_all,
};

const ROWS: &[Row] = &[
    ("MediumNotWritten", |seen| seen.prepared.problem = Some("the image is larger than the stick".into())),
    ("FlashToolFailed", |seen| flashed(seen, Some(1))),
    ("StagedFileLost", |seen| seen.prepared.staged[0].read_back = false),
];

fn flashed(seen: &mut Seen, code: Option<i32>) {
    seen.profile.medium.flash = vec!["./flash".into(), "{iso}".into(), "{stick}".into()];
    let said = "flash: no room on the stick".into();
    seen.prepared.flash = Some(FlashRun { command: "./flash small.iso stick.img".into(), code, said });
}

#[test]
fn each_fault_of_a_medium_has_its_code() {
    each_raises_its_own_code("Prepare", ROWS);
    the_page_has_them_all("Prepare", ROWS);
}

#[test]
fn what_was_made_is_told_in_one_sentence() {
    let judgement = Seen::good().judged("Prepare");
    assert_eq!(
        judgement.message,
        "flashed to a USB stick, files staged on its EFI partition of 34.0 MiB, 4 disks; guests run by software \
         emulation"
    );
    assert_eq!(judgement.coverage[0].to_string(), "1 of 1 staged files read back");
}

#[test]
fn the_operator_s_own_tool_may_end_well_badly_or_by_a_signal() {
    for (code, verdict) in [(Some(0), Verdict::Pass), (Some(1), Verdict::Fail), (None, Verdict::Fail)] {
        let mut seen = Seen::good();
        flashed(&mut seen, code);
        assert_eq!(seen.judged("Prepare").verdict, verdict, "{code:?}");
    }
}

#[test]
fn a_tool_that_was_not_run_and_a_file_that_was_not_looked_for_are_no_pass() {
    let mut seen = Seen::good();
    flashed(&mut seen, Some(0));
    seen.prepared.flash = None;
    assert_eq!(seen.judged("Prepare").verdict, Verdict::Error);

    let mut seen = Seen::good();
    seen.prepared.staged.clear();
    let judgement = seen.judged("Prepare");
    assert_eq!(judgement.verdict, Verdict::Error);
    assert!(judgement.message.contains("/join-token"), "{}", judgement.message);
}

#[test]
fn nothing_of_the_evidence_is_missed_in_silence() {
    nothing_is_missed_in_silence("Prepare", &["/stick_bytes", "/payload_ms", "/disks/*"]);
}

#[test]
fn words_of_tools_and_images_are_shown_clean() {
    a_guest_s_words_are_shown_clean("Prepare", |seen| flashed(seen, Some(1)));
    a_guest_s_words_are_shown_clean("Prepare", |seen| seen.prepared.problem = Some("no room".into()));
}

#[test]
fn what_an_earlier_run_did_is_said_in_each_stage_and_never_taken_for_this_one_s() {
    let mut seen = Seen::good();
    let stages = ["Prepare", "Inspect", "Boot", "Install"].map(str::to_owned).to_vec();
    seen.prepared.taken_up = Some(TakenUp {
        phase: "welcome".into(),
        run: "run-1".into(),
        at: "2026-11-22T05:00:00.000Z".into(),
        running: true,
        stages: stages.clone(),
        rest_of: Some("Reboot".into()),
    });
    for stage in stages {
        let judged = seen.judged(&stage);
        assert_eq!(judged.verdict, Verdict::Pass, "{stage}");
        assert!(judged.message.contains("not done again: snapshot of 2026-11-22"), "{}", judged.message);
        assert!(judged.unverified.iter().any(|what| what.contains("not done again")), "{stage}");
    }
    let rest = seen.judged("Reboot");
    assert!(rest.message.contains("from phase welcome on"), "{}", rest.message);
    let join = seen.judged("Join");
    assert!(
        !join.message.contains("snapshot") && join.unverified.is_empty(),
        "that was done: {}",
        join.message
    );
}
