//! `Boot`, and what every stage has in common that watches a machine: `Install` and `Reboot` are held to the same rows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use assay_console::{Console, Rung, Watch, What, catalogue};
use assay_model::{Severity, Verdict};
use serde_json::Value;

use super::super::evidence::{Leak, Noted, Outcome, Watched};
use super::super::fixtures::{
    Row, Seen, a_guest_s_words_are_shown_clean, each_raises_its_own_code, hostile,
    nothing_is_missed_in_silence, on_the_page,
};
use super::super::outcome;
use super::super::profile::Profile;

const WATCHING: [&str; 3] = ["Boot", "Install", "Reboot"];

/// An end of a machine, by its code.
type Comes = fn(&str) -> Outcome;

/// What any machine can come to, by code.
const COMES_TO: [(&str, Comes); 9] = [
    ("FailMarker", failed),
    ("StuckPrompt", stalled),
    ("IdleShell", stalled),
    ("Silent", stalled),
    ("UnexpectedReset", ended),
    ("UnexpectedPowerOff", ended),
    ("GuestPanicked", ended),
    ("WatchdogFired", ended),
    ("PhaseTimedOut", timed_out),
];

fn failed(code: &str) -> Outcome {
    let (line, meaning) = ("it failed".into(), "What it means and what to do.".into());
    Outcome::Failed { code: code.into(), line, meaning }
}

fn stalled(code: &str) -> Outcome {
    Outcome::Stalled { code: code.into(), line: "Continue? [y/N]".into(), seconds: 20.0 }
}

fn ended(code: &str) -> Outcome {
    Outcome::Ended { code: code.into(), detail: "waiting for phase installed".into() }
}

fn timed_out(_: &str) -> Outcome {
    Outcome::TimedOut { waited_for: "phase installed".into(), limit_s: 180.0, line: "copying 40 %".into() }
}

/// The machine came to that before its last phase.
fn came_to(watched: &mut Watched, outcome: Outcome) {
    watched.outcome = outcome;
    watched.phases.pop();
}

fn noted(code: &str, allowed: bool) -> Noted {
    let meaning = "A unit or service failed.".to_owned();
    Noted { at_s: 8.0, code: code.into(), line: "[FAILED] Failed to start cron".into(), meaning, allowed }
}

#[test]
fn a_phase_that_was_late_on_an_overloaded_runner_is_that_runner_s_fault() {
    let judged = |code: &str, outcome: Comes, lost_s: f64| {
        let mut seen = Seen::good();
        came_to(seen.watched("Boot"), outcome(code));
        let mut evidence = seen.evidence("Boot");
        let lost = serde_json::json!({ "avg10": 90.0, "total_s": lost_s });
        evidence["pressure"] = serde_json::json!({ "seconds": 60.0, "cpu": { "some": lost, "full": lost } });
        let judgement = seen.judged_on("Boot", &evidence);
        (judgement.verdict, judgement.findings[0].code.clone())
    };
    let late = |lost_s| judged("PhaseTimedOut", timed_out, lost_s);
    assert_eq!(late(10.0), (Verdict::Fail, "PhaseTimedOut".to_owned()));
    assert_eq!(late(58.0), (Verdict::Error, "RunnerOverloaded".to_owned()));
    let said = judged("FailMarker", failed, 58.0);
    assert_eq!(said, (Verdict::Fail, "FailMarker".to_owned()), "what it says itself, it says");
}

#[test]
fn each_end_that_a_machine_can_come_to_has_its_code_in_every_stage() {
    for stage in WATCHING {
        for (code, outcome) in COMES_TO {
            let bend = |seen: &mut Seen| came_to(seen.watched(stage), outcome(code));
            each_raises_its_own_code(stage, &[(code, bend)]);
        }
        let leak = || Leak { secret: "/join-token".into(), place: "the screen".into() };
        let bend = |seen: &mut Seen| seen.watched(stage).leaks.push(leak());
        each_raises_its_own_code(stage, &[("SecretOnConsole", bend)]);
    }
    // `Silent` stands in the text of the page, not in its table.
    let mut known: BTreeSet<&str> = COMES_TO.iter().map(|(code, _)| *code).collect();
    known.remove("Silent");
    known.extend(["PhaseOutOfOrder", "SecretOnConsole"]);
    assert_eq!(known, on_the_page("A machine under watch").into_keys().collect());
}

#[test]
fn each_failure_of_the_catalogue_is_told_by_its_own_code_and_is_on_the_page() {
    let rows: Vec<Row<_>> = catalogue::patterns()
        .map(|pattern| {
            (pattern.code, |seen: &mut Seen| came_to(&mut seen.booted.watched, failed(pattern.code)))
        })
        .collect();
    assert!(rows.len() > 50, "{}", rows.len());
    each_raises_its_own_code("Boot", &rows);

    let severity = |pattern: &catalogue::Pattern| match pattern.severity {
        catalogue::Severity::Starved => "error",
        catalogue::Severity::Fatal => "critical",
        catalogue::Severity::Suspicious => "warning",
    };
    // `Segfault` stands in the text of the page, not in its table.
    let told = catalogue::patterns().filter(|pattern| pattern.code != "Segfault");
    let told: BTreeMap<&str, &str> = told.map(|pattern| (pattern.code, severity(pattern))).collect();
    assert_eq!(told, on_the_page("What consoles tell"));
}

#[test]
fn what_is_only_suspicious_is_told_and_fails_nothing() {
    for stage in WATCHING {
        let mut seen = Seen::good();
        seen.watched(stage).noted = vec![noted("FailedUnit", false), noted("KernelOops", true)];
        let judgement = seen.judged(stage);
        assert_eq!(judgement.verdict, Verdict::Pass, "{judgement:#?}");
        let told: Vec<_> = judgement.findings.iter().map(|f| (f.code.as_str(), f.severity)).collect();
        assert_eq!(told, [("FailedUnit", Severity::Warning), ("KernelOops", Severity::Info)]);
        assert!(judgement.findings[0].next_step.contains("console.allow"), "{judgement:#?}");
        assert!(
            !judgement.message.contains("FAILED"),
            "a healthy stage is told as one: {}",
            judgement.message
        );
    }
}

#[test]
fn what_comes_thousands_of_times_is_told_twenty_times() {
    let mut seen = Seen::good();
    seen.booted.watched.noted = vec![noted("FailedUnit", false); 5000];
    assert_eq!(seen.judged("Boot").findings.len(), 20);
}

#[test]
fn a_machine_that_got_there_without_its_phases_or_its_rung_did_not() {
    for stage in WATCHING {
        let mut seen = Seen::good();
        seen.watched(stage).phases.pop();
        assert_eq!(seen.judged(stage).verdict, Verdict::Fail, "{stage} without its last phase");
    }
    let mut seen = Seen::good();
    seen.booted.watched.rungs.retain(|seen| seen.rung < Rung::Userspace);
    let judgement = seen.judged("Boot");
    assert_eq!(judgement.verdict, Verdict::Fail, "{judgement:#?}");
    let ladder = judgement.checks.iter().find(|check| check.name == "boot ladder").expect("the ladder");
    assert_eq!(ladder.expected, "userspace or higher");
    assert_eq!(ladder.seen, "firmware after 0.3 s: SeaBIOS (version 1.16.2)");
}

#[test]
fn a_phase_of_the_installed_system_shows_user_space_and_no_login() {
    let mut seen = Seen::good();
    seen.rebooted.watched.rungs.clear();
    assert_eq!(seen.judged("Reboot").verdict, Verdict::Fail, "a login prompt is asked for");
    seen.profile.reboot.rung = Rung::Userspace;
    assert_eq!(seen.judged("Reboot").verdict, Verdict::Pass, "its marker came from there");
    seen.rebooted.watched.phases.clear();
    seen.profile.phases.retain(|phase| phase.name != "welcome");
    assert_eq!(seen.judged("Reboot").verdict, Verdict::Fail, "nothing came from there");
}

#[test]
fn a_fault_of_the_runner_is_an_error_and_no_finding() {
    for stage in WATCHING {
        let mut seen = Seen::good();
        let why = "QEMU ended with a signal: out of memory".to_owned();
        seen.watched(stage).outcome = Outcome::RunnerFault { why: why.clone() };
        let judgement = seen.judged(stage);
        assert_eq!((judgement.verdict, judgement.message.as_str()), (Verdict::Error, why.as_str()));
        assert!(judgement.findings.is_empty(), "{judgement:#?}");
    }
}

/// An emulated machine whose host was busy elsewhere stopped in its first second. The image did nothing wrong.
#[test]
fn a_guest_that_was_given_no_time_is_a_fault_of_the_runner_where_it_is_emulated() {
    let said = "[    0.036000] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug and send a report.";
    let mut console = Console::new(Watch::default());
    let seen = console.push(Duration::from_secs(25), format!("{said}\r\n").as_bytes());
    let failures: Vec<_> = seen
        .into_iter()
        .filter_map(|sighting| match sighting.what {
            What::Failure { code, severity, next_step, .. } => Some((code, severity, next_step)),
            _ => None,
        })
        .collect();
    let [(code, severity, next_step), (panic, of_panic, _)] = &failures[..] else { panic!("{failures:#?}") };
    // Whose fault it is comes first: what a machine comes to is the first thing that ends it.
    assert_eq!((code.as_str(), *severity), ("TimerStarved", catalogue::Severity::Starved));
    assert_eq!((panic.as_str(), *of_panic), ("KernelPanic", catalogue::Severity::Fatal));
    assert_eq!(
        outcome::starved(false, code, said, next_step),
        None,
        "with KVM or on its own the panic counts"
    );
    for stage in WATCHING {
        let mut seen = Seen::good();
        let outcome = outcome::starved(true, code, said, next_step).expect("a fault of the runner");
        came_to(seen.watched(stage), outcome);
        let judgement = seen.judged(stage);
        assert_eq!((judgement.verdict, &judgement.findings), (Verdict::Error, &Vec::new()), "{judgement:#?}");
        let message = &judgement.message;
        assert!(message.contains("TimerStarved: [    0.036000] Kernel panic"), "{message}");
        assert!(message.contains("says nothing of the image. Run it again with less load"), "{message}");
    }
}

#[test]
fn the_sentence_of_a_stage_says_what_happened() {
    let mut seen = Seen::good();
    assert_eq!(seen.judged("Boot").message, "up after 30.0 s");
    assert_eq!(seen.judged("Reboot").message, "up after 30.0 s, from its disks alone");
    came_to(&mut seen.installed.watched, stalled("StuckPrompt"));
    assert_eq!(
        seen.judged("Install").message,
        "after phase partitioned the machine waits at a prompt for 20 s: Continue? [y/N]"
    );
    came_to(&mut seen.booted.watched, stalled("Silent"));
    assert_eq!(
        seen.judged("Boot").message,
        "before the first phase the machine says nothing any more for 20 s: Continue? [y/N]"
    );
}

#[test]
fn nothing_of_the_evidence_is_missed_in_silence() {
    let for_people = ["/rungs/*", "/written", "/lines/serial"];
    // The highest rung alone counts, and a phase of the installed system shows a rung by itself.
    nothing_is_missed_in_silence("Boot", &for_people);
    nothing_is_missed_in_silence("Reboot", &[&for_people[..], &["/names/*", "/names"]].concat());
}

#[test]
fn a_machine_s_words_are_shown_clean() {
    for stage in WATCHING {
        for (code, outcome) in COMES_TO {
            let outcome = match outcome(code) {
                Outcome::Failed { code, meaning, .. } => Outcome::Failed { code, meaning, line: hostile() },
                Outcome::Stalled { code, seconds, .. } => Outcome::Stalled { code, seconds, line: hostile() },
                Outcome::TimedOut { waited_for, limit_s, .. } => {
                    Outcome::TimedOut { waited_for, limit_s, line: hostile() }
                }
                Outcome::Ended { code, .. } => Outcome::Ended { code, detail: hostile() },
                other => other,
            };
            let mut seen = Seen::good();
            came_to(seen.watched(stage), outcome);
            let message = seen.judged(stage).message;
            assert!(!message.contains(char::is_control) && message.chars().count() < 400, "{message}");
        }
    }
    a_guest_s_words_are_shown_clean("Boot", |seen| {
        seen.booted.watched.noted.push(noted("FailedUnit", false));
    });
    a_guest_s_words_are_shown_clean("Reboot", |seen| {
        seen.rebooted.watched.noted.push(noted("SoftLockup", true));
    });
}

#[test]
fn a_stage_that_the_profile_does_not_ask_for_is_skipped_and_says_why() {
    let mut seen = Seen::good();
    seen.profile = Profile::from_toml("name = \"boots\"\n").expect("a profile");
    for (stage, why) in [
        ("Install", "the profile names no phase of an installation"),
        ("Reboot", "nothing is installed that could be booted"),
        ("Identify", "the profile says nothing of who the machine is ([identify])"),
        ("Join", "the profile says nothing of where the machine registers ([join])"),
    ] {
        for evidence in [Value::Null, seen.evidence(stage)] {
            let judgement = seen.judged_on(stage, &evidence);
            assert_eq!((judgement.verdict, judgement.message.as_str()), (Verdict::Skip, why));
        }
    }
    for stage in ["Prepare", "Inspect", "Boot", "Reporting"] {
        assert_eq!(
            seen.judged_on(stage, &Value::Null).verdict,
            Verdict::Error,
            "{stage} is always asked for"
        );
    }
}
