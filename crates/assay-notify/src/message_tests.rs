//! The words, for each kind of news.

use assay_model::{Finding, Micros, RunResult, Severity};
use serde_json::{Value, json};

use super::*;
use crate::news::About;

fn news(event: &str, payload: Value) -> Notification {
    let mut all = json!({ "run": 12, "host": "web-3" });
    if let (Value::Object(all), Value::Object(more)) = (&mut all, payload) {
        all.extend(more);
    }
    Notification {
        id: "r:E:1".into(),
        event: event.into(),
        at: Micros::seconds(1_795_253_400),
        payload: all,
        about: About { profile: Some("standard".into()), ..About::default() },
        base_url: Some("https://assay.example.net/".into()),
    }
}

fn dimm() -> Finding {
    Finding::new("DimmMissing", Severity::Critical, "slot DIMM_B1 is empty", "Reseat the module in DIMM_B1.")
        .part("dimm", Some("DIMM_B1"), None)
}

#[test]
fn a_held_run_is_one_sentence_to_act_on_then_the_findings_then_the_link() {
    let mut held = news("RunHeld", json!({ "hold_until": 1_795_339_800_000_000_i64 }));
    held.about.stage = Some("SpecValidate".into());
    held.about.findings = vec![dimm()];
    held.about.more_findings = 2;
    let message = Message::of(&held);
    assert_eq!(message.title, "web-3: failed at SpecValidate, held for a decision");
    assert_eq!(
        message.body,
        "web-3 failed run 12 at SpecValidate [DimmMissing] and is held until 2026-11-22 09:30 UTC: \
         Reseat the module in DIMM_B1; then retry, waive or abandon.\n\
         • critical DimmMissing (dimm DIMM_B1): slot DIMM_B1 is empty → Reseat the module in DIMM_B1.\n\
         … and 2 more\n\
         https://assay.example.net/runs/12"
    );
    assert_eq!(message.level, Level::Urgent);
}

#[test]
fn a_machine_that_could_not_be_tested_is_not_said_to_have_failed() {
    for event in ["RunHeld", "StageFailed", "RunReleased"] {
        let mut held = news(event, json!({}));
        held.about.stage = Some("Storage".into());
        held.about.reason = Some("the runner lost its network.".into());
        for (verdict, words) in [
            (Verdict::Error, "web-3 could not be tested in run 12 at Storage"),
            (Verdict::Unverified, "web-3 was not verified in run 12 at Storage"),
            (Verdict::Fail, "web-3 failed run 12 at Storage"),
        ] {
            held.about.verdict = Some(verdict);
            let message = Message::of(&held);
            assert!(message.body.starts_with(words), "{event}: {}", message.body);
            assert!(
                verdict == Verdict::Fail || !message.title.contains("failed"),
                "{event}: {}",
                message.title
            );
            if event != "RunReleased" {
                assert!(
                    message.body.contains(": the runner lost its network; then retry"),
                    "{}",
                    message.body
                );
            }
        }
    }
}

/// What is changed about a run that passed.
type Change = fn(&mut About);

/// The words for a pass with the facts about it changed.
fn passed(change: impl FnOnce(&mut About)) -> Message {
    let mut done = news("RunCompleted", json!({}));
    done.about.result = Some(RunResult::Pass);
    change(&mut done.about);
    Message::of(&done)
}

#[test]
fn only_a_whole_pass_says_that_the_machine_can_be_used() {
    let whole = passed(|_| {});
    assert_eq!(whole.title, "web-3: passed (standard)");
    assert!(whole.body.starts_with("web-3 passed run 12 (standard): it can be used."), "{}", whole.body);
    let burnt_in = passed(|about| about.profile = Some("burnin".into()));
    assert!(burnt_in.body.starts_with("web-3 passed run 12 (burnin): it can be used."), "{}", burnt_in.body);
    let partly = passed(|about| about.unverified = vec!["PSU".into()]);
    assert!(partly.body.contains("it can be used; not verified: PSU."), "{}", partly.body);

    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let cases: [(Change, &str); 5] = [
        (|about| about.overridden = true, "but something was waived: read the report before you trust it."),
        (
            |about| about.muted = vec!["DimmMissing".into()],
            "but checks were switched off (DimmMissing): read",
        ),
        (|about| about.left_out = vec!["Storage".into()], "but stages were left out (Storage): read"),
        (
            |about| about.from_phase = Some("welcome".into()),
            "but it was to go on from the phase `welcome`: read",
        ),
        (
            |about| (about.overridden, about.left_out) = (true, vec!["Storage".into()]),
            "but something was waived and stages were left out (Storage): read",
        ),
    ];
    for (change, words) in cases {
        let message = passed(change);
        assert_eq!(message.title, "web-3: passed (standard), with reservations");
        assert!(message.body.contains(words) && !message.body.contains("can be used"), "{}", message.body);
    }
    let quick = passed(|about| about.profile = Some("quick".into()));
    assert_eq!(quick.title, "web-3: passed (quick)");
    assert!(
        quick.body.contains("run 12 (quick): short tests found nothing. Vet it with `standard`"),
        "{}",
        quick.body
    );
    for unknown in [None, Some("thorough".to_owned())] {
        assert!(!passed(|about| about.profile = unknown).body.contains("can be used"));
    }
    for result in [Some(RunResult::Fail), None] {
        let message = passed(|about| (about.result, about.left_out) = (result, own(&["Storage"])));
        assert!(!message.body.contains("can be used") && !message.title.contains("passed"), "{message:?}");
    }
}

#[test]
fn every_known_event_has_words_of_its_own_and_names_host_and_run() {
    for kind in crate::EVENTS {
        let message = Message::of(&news(kind.name, json!({})));
        assert!(
            message.body.contains("web-3") && message.body.contains("run 12"),
            "{}: {}",
            kind.name,
            message.body
        );
        assert!(!message.title.contains(kind.name), "{}: the title is the fallback's", kind.name);
        assert!(message.body.ends_with("\nhttps://assay.example.net/runs/12"), "{}", message.body);
    }
    let unknown = Message::of(&news("FromTheFuture", json!({})));
    assert_eq!(unknown.title, "web-3: FromTheFuture");
}

#[test]
fn a_test_says_that_it_is_one() {
    let test = Notification::test("test:1".into(), Micros::seconds(1), "ada", None);
    let message = Message::of(&test);
    assert_eq!(message.title, "Assay: a test");
    assert_eq!(message.body, "ada asked for this test; nothing happened to any machine.");
    assert_eq!(message.link, None);
}

#[test]
fn what_a_machine_says_is_defused_and_bounded() {
    let mut held = news("RunHeld", json!({}));
    let evil = format!("\u{1b}[2J<script>\u{202e}{}", "x".repeat(5000));
    held.about.findings = vec![Finding::new("X", Severity::Critical, evil.clone(), evil)];
    let message = Message::of(&held);
    assert!(message.body.chars().count() < 1500, "{}", message.body.len());
    assert!(!message.body.contains(['\u{1b}', '\u{202e}']));
    let html = message.html();
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"), "{html}");
    assert!(html.contains("<a href=\"https://assay.example.net/runs/12\">"), "{html}");
}

#[test]
fn other_words_replace_ours_and_empty_ones_do_not() {
    let mut message = Message::of(&news("RunStarted", json!({})));
    let ours = message.clone();
    message.reworded(Some("  \n "), Some(""));
    assert_eq!(message, ours);
    message.reworded(Some("one\ntwo\u{7}"), Some("a\nb"));
    assert_eq!((message.title.as_str(), message.body.as_str()), ("one two\u{fffd}", "a\nb"));
}

#[test]
fn a_batch_that_stopped_itself_is_named_with_what_failed_and_how_it_goes_on() {
    let payload = json!({ "batch": 3, "what": "vet all hosts (standard)", "why": "2 failed: web-2 (run 11), web-3 (run 12)" });
    let message = Message::of(&news("BatchStopped", payload));
    assert_eq!(message.title, "batch 3 has stopped itself");
    assert_eq!(
        message.body,
        "Batch 3 (vet all hosts (standard)) begins nothing more, 2 failed: web-2 (run 11), web-3 (run 12). The last was web-3 in \
         run 12: look at what failed, then `assay batch resume 3`.\nhttps://assay.example.net/batches/3"
    );
    assert_eq!(message.level, Level::Urgent);
}
