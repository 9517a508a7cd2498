//! Every rule of [`decide`], on both sides of every limit. A run is told as a list of events and
//! folded; what else there is to know is in the snapshot beside it.

use assay_model::{
    Decision, DecisionKind, Event, EventBody, Judgement, Mac, Owner, RunId, RunResult, Sha256, StageName,
    StagePlan, Verdict,
};

use super::*;
use story::{LATER, START, Story, booting, held, queued, queued_with, reporting, running, switched_on};

#[path = "decide_tests_story.rs"]
mod story;

fn wait(story: &Story, after_s: i64) -> Action {
    Action::Wait { until: Some(Micros::seconds(story.now + after_s)) }
}

#[test]
fn a_queued_run_waits_for_a_runner_that_can_do_it() {
    let mut story = queued().told_everything();
    assert_eq!(story.decides(0), Action::Admit { runner: "rack-2".to_owned() });
    story.runner = None;
    assert_eq!(story.decides(100_000), Action::Wait { until: None });
}

#[test]
fn power_is_asked_for_once() {
    assert_eq!(booting().decides(0), Action::Power { action: PowerAction::Cycle });
    let asked = booting().power(PowerAction::Cycle);
    assert_eq!(asked.decides(0), wait(&asked, 600));
    let done = switched_on();
    assert_eq!(done.decides(0), wait(&done, 599), "counted from the request, a second ago");
}

#[test]
fn the_boot_timeout() {
    let silent = booting().power(PowerAction::Cycle);
    assert_eq!(silent.just_before(600), wait(&silent, 600));
    let message = |story: &Story| match story.decides(600) {
        Action::BootFailed { message } => message,
        other => panic!("{other:?}"),
    };
    let said = "No agent enrolled within 600 s (the runner never said what became of the power request; it never asked for its boot script)";
    assert_eq!(message(&silent), said);
    assert!(
        message(&switched_on()).contains("(power: said the BMC; it never asked"),
        "{}",
        message(&switched_on())
    );
    let fetched = switched_on().then(10, EventBody::BootServed { boot: 1, mac: Mac([2, 0, 0, 0, 0, 1]) });
    assert!(message(&fetched).contains("it fetched its boot script, and then"), "{}", message(&fetched));
}

#[test]
fn power_that_fails_is_a_failed_boot_at_once() {
    let failed = booting().power(PowerAction::Cycle).power_done(false);
    let message = "The machine could not be switched on: said the BMC".to_owned();
    assert_eq!(failed.decides(0), Action::BootFailed { message });
}

#[test]
fn the_first_stage_begins_with_the_enrolment() {
    let enrolled = switched_on().enrolled();
    assert_eq!(enrolled.decides(0), Action::Start { index: 0, attempt: 1 });
}

#[test]
fn evidence_is_judged_and_the_next_stage_begins() {
    assert_eq!(running().evidence(0, 1).decides(0), Action::Judge);
    assert_eq!(
        running().evidence(0, 1).judged(0, Verdict::Pass).decides(0),
        Action::Start { index: 1, attempt: 1 }
    );
    let story = reporting();
    assert_eq!(story.decides(0), Action::Start { index: 2, attempt: 1 });
    assert_eq!(story.started_stage(2, 1).decides(0), Action::Collect);
    let all = reporting().started_stage(2, 1).evidence(2, 1).judged(2, Verdict::Pass);
    assert_eq!(all.decides(0), Action::Complete);
}

#[test]
fn the_orchestrator_s_stage_needs_no_machine() {
    let story = reporting().suspect();
    assert_eq!(story.decides(100_000), Action::Start { index: 2, attempt: 1 });
}

#[test]
fn silence_is_suspect_in_time_to_be_shown_at_fifteen_seconds_and_told_once() {
    let story = running();
    assert_eq!(story.just_before(13), wait(&story, 120));
    assert_eq!(story.decides(13), Action::Suspect);
    let suspect = story.suspect();
    assert_eq!(suspect.decides(1), wait(&suspect, 105));
    let mut back = running().suspect();
    back.last_seen = Some(back.now + 1);
    assert_eq!(back.decides(1), Action::Returned);
    // A held machine is watched, too.
    assert_eq!(held().decides(15), Action::Suspect);
}

#[test]
fn a_restart_of_the_server_makes_nobody_heard() {
    let restarted = running().suspect().restarted();
    assert_eq!(restarted.decides(1), wait(&restarted, 120));
    assert_eq!(running().restarted().decides(15), Action::Suspect, "but silence counts from there");
}

const CYCLE: Action = Action::Power { action: PowerAction::Cycle };

#[test]
fn the_lease_ends_after_two_minutes_and_the_power_is_cycled_once() {
    let story = running().suspect();
    assert_eq!(story.just_before(105), wait(&story, 105));
    assert_eq!(story.decides(105), CYCLE);
    let asked = story.then(104, EventBody::AgentReturned).suspect_again().power(PowerAction::Cycle);
    assert_eq!(asked.decides(0), wait(&asked, 600), "the attempt stays open: it may be the network");
    assert_eq!(asked.just_before(600), wait(&asked, 600));
}

#[test]
fn never_within_one_lease_of_a_start() {
    let story = running().suspect().then(85, EventBody::AgentReturned).restarted().suspect();
    assert_eq!(story.just_before(105), wait(&story, 105), "the start was 15 s before the story's end");
    assert_eq!(story.decides(105), CYCLE);
}

/// Silent beyond the lease; its power was cycled.
fn silent() -> Story {
    running().suspect().power(PowerAction::Cycle)
}

#[test]
fn a_new_boot_after_our_power_cycle_is_a_hang() {
    let back = silent().power_done(true).enrolled();
    assert_eq!(back.decides(0), wait(&back, 10), "its agent tells first what the machine kept");
    assert_eq!(back.just_before(10), wait(&back, 10));
    assert_eq!(back.decides(10), Action::Died { how: Death::Hung }, "an agent that does not tell");
    assert_eq!(silent().enrolled().told_of_death(0).decides(0), Action::Died { how: Death::Hung });
    assert_eq!(
        silent().enrolled().told_of_death(2).decides(0),
        Action::Died { how: Death::Hung },
        "whatever it kept"
    );
}

#[test]
fn the_same_boot_after_our_power_cycle_goes_on() {
    let mut back = silent().power_done(false);
    back.last_seen = Some(back.now + 30);
    assert_eq!(back.decides(30), Action::Returned);
    let back = back.then(30, EventBody::AgentReturned).heard();
    assert_eq!(back.evidence(0, 1).decides(0), Action::Judge);
    // What it brings closes the stage; nobody cycles it again for the next one.
    let mut next = silent().power_done(false).then(30, EventBody::AgentReturned);
    next.last_seen = Some(next.now + 300);
    let next = next.evidence(0, 1).then(1, EventBody::AgentReturned).judged(0, Verdict::Pass);
    assert_eq!(next.decides(0), Action::Start { index: 1, attempt: 1 });
}

#[test]
fn silent_again_after_it_was_back_is_cycled_again() {
    let mut story = silent().power_done(false);
    story.last_seen = Some(story.now + 590);
    let story = story.then(600, EventBody::AgentReturned);
    // Its time is not yet over: a longer stage than the usual one here.
    let mut story = story;
    story.view.stages[0].plan.timeout_s = 100_000;
    assert!(matches!(story.decides(0), Action::Wait { .. }), "heard ten seconds ago");
    let last_seen = Micros::seconds(story.last_seen.expect("heard"));
    let story = story.then(10, EventBody::AgentSuspect { last_seen });
    assert_eq!(story.decides(110), CYCLE);
}

#[test]
fn a_machine_that_never_comes_back_has_failed_its_stage() {
    let said = |story: &Story| match story.decides(600) {
        Action::Died { how: Death::Gone { message } } => message,
        other => panic!("{other:?}"),
    };
    let start = "The machine fell silent and did not come back within 600 s";
    let never = "it never asked for its boot script)";
    assert_eq!(
        said(&silent()),
        format!("{start} (the runner never said what became of the power request; {never}")
    );
    let refused = silent().power_done(false);
    let message = match refused.decides(599) {
        Action::Died { how: Death::Gone { message } } => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(message, format!("{start} (its power could not be cycled: said the BMC; {never}"));
}

#[test]
fn a_reboot_that_nobody_here_asked_for_fails_the_stage() {
    let back = running().enrolled();
    assert_eq!(back.decides(0), wait(&back, 10));
    assert_eq!(back.decides(10), Action::Died { how: Death::Rebooted });
    assert_eq!(running().enrolled().told_of_death(0).decides(0), Action::Died { how: Death::Rebooted });
    assert_eq!(running().enrolled().told_of_death(1).decides(0), Action::Died { how: Death::Crashed });
    // What an earlier boot told is not about this death.
    let again = running().told_of_death(1).enrolled();
    assert_eq!(again.decides(0), wait(&again, 10));
    assert_eq!(again.decides(10), Action::Died { how: Death::Rebooted });
}

#[test]
fn a_muted_death_is_a_lost_try_and_mutes_no_other() {
    let lost = |code: &str| {
        let reason = format!("the machine rebooted in the middle of it ({code} is switched off)");
        Action::Lose { reason }
    };
    let crashed = || running().enrolled().told_of_death(1);
    let rebooted = || running().enrolled().told_of_death(0);
    let hung = || silent().enrolled().told_of_death(0);
    assert_eq!(crashed().muted("MachineCrashed").decides(0), lost("MachineCrashed"));
    assert_eq!(rebooted().muted("MachineRebooted").decides(0), lost("MachineRebooted"));
    assert_eq!(hung().muted("MachineHung").decides(0), lost("MachineHung"));
    assert_eq!(crashed().muted("MachineRebooted").decides(0), Action::Died { how: Death::Crashed });
    assert_eq!(hung().muted("MachineCrashed").decides(0), Action::Died { how: Death::Hung });
    assert_eq!(rebooted().muted("MachineHung").decides(0), Action::Died { how: Death::Rebooted });
    let again = rebooted().muted("MachineRebooted").lost();
    assert_eq!(again.decides(0), Action::Start { index: 0, attempt: 2 });
}

#[test]
fn a_hold_that_ends_soon_is_told_once() {
    let tell = |story: &Story| Action::Tell {
        news: News::HoldExpiring { until: story.view.hold_until.expect("held") },
    };
    let mut story = held().heard();
    assert_eq!(story.just_before(3240), wait(&story, 3600), "a hold of an hour is told of at nine tenths");
    assert_eq!(story.decides(3240), tell(&story));
    story.told.insert(format!("HoldExpiring:{}", story.view.hold_until.expect("held").0));
    assert_eq!(story.decides(3240), wait(&story, 3600));
    let mut long = held().heard();
    long.view.created.hold_s = 1_000_000;
    long.view.hold_until = Some(Micros::seconds(long.now + 1_000_000));
    assert_eq!(long.just_before(996_400), wait(&long, 1_000_000));
    assert_eq!(long.decides(996_400), tell(&long), "an hour before");
    assert_eq!(long.decides(1_000_000), Action::ExpireHold, "and it ends all the same");
}

#[test]
fn a_run_without_progress_is_told_once() {
    let stale = |since: i64| Action::Tell { news: News::RunStale { since: Micros::seconds(since) } };
    let mut waits = queued();
    waits.runner = None;
    assert_eq!(waits.just_before(3600), Action::Wait { until: None });
    assert_eq!(waits.decides(3600), stale(START));
    waits.told.insert(format!("RunStale:{}", Micros::seconds(START).0));
    assert_eq!(waits.decides(100_000), Action::Wait { until: None });

    let stopping = running().decided(1, DecisionKind::Cancel).power(PowerAction::Off);
    assert_eq!(stopping.decides(3599), stale(stopping.now - 1), "since it was asked for, a second before");

    let mut long = running().heard();
    long.view.stages[0].plan.timeout_s = 100_000;
    long.step_since = long.now + 5000;
    assert!(matches!(long.just_before(8600), Action::Wait { .. }), "it said something new at 5000 s");
    assert_eq!(long.decides(8600), stale(long.now + 5000));
    let mut short = running().heard();
    short.step_since = 0;
    assert!(matches!(short.decides(399), Action::Wait { .. }), "its time is nearly over anyway");
}

#[test]
fn one_network_stage_at_a_time_on_a_runner() {
    let mut story = switched_on().enrolled();
    story.view.stages[0].plan.name = NETWORK.into();
    story = story.then(0, EventBody::AgentReturned).started_stage(0, 1).then(0, EventBody::AgentReturned);
    let mut story = story.lost();
    assert_eq!(story.decides(0), Action::Start { index: 0, attempt: 2 });
    story.network_busy = Some(9);
    assert_eq!(story.decides(0), Action::Wait { until: None });
    story.view.stages[0].plan.name = "SMART".into();
    assert_eq!(story.decides(0), Action::Start { index: 0, attempt: 2 }, "only the wire is shared");
}

#[test]
fn a_stage_has_its_time_however_alive_the_agent_is() {
    let story = running().heard();
    assert!(
        matches!(story.just_before(400), Action::Wait { until: Some(at) } if at == Micros::seconds(story.now + 400))
    );
    let reason = "it did not end within 400 s".to_owned();
    assert_eq!(story.decides(400), Action::Lose { reason });
}

#[test]
fn evidence_that_came_in_time_is_judged_even_after_a_reboot() {
    assert_eq!(running().evidence(0, 1).enrolled().decides(0), Action::Judge);
}

#[test]
fn the_third_lost_try_is_given_up() {
    let again = |story: Story, attempt| story.lost().started_stage(0, attempt).heard();
    let second = again(running(), 2);
    assert!(matches!(second.decides(400), Action::Lose { .. }));
    let third = again(second, 3);
    let reason = "3 tries without evidence; the last: it did not end within 400 s".to_owned();
    assert_eq!(third.decides(400), Action::GiveUp { reason });
    // A decision gives it three new tries.
    let retried = third.judged(0, Verdict::Error);
    let until = Micros::seconds(retried.now + 3600);
    let retried = retried.then(0, EventBody::Held { until }).decided(5, DecisionKind::Retry);
    let fourth = retried.then(1, EventBody::AgentReturned).started_stage(0, 4).heard();
    assert!(matches!(fourth.decides(400), Action::Lose { .. }));
}

#[test]
fn bulk_rows_are_bound_every_minute() {
    let mut story = running().heard();
    story.bound_at = story.now;
    assert!(matches!(story.just_before(60), Action::Wait { .. }));
    assert_eq!(story.decides(60), Action::Bind);
}

#[test]
fn a_failed_run_holds_or_completes() {
    assert_eq!(running().evidence(0, 1).judged(0, Verdict::Fail).decides(0), Action::Hold);
    let story = queued_with(false).then(1, EventBody::Admitted { runner: "rack-2".into() });
    let story = story.power(PowerAction::Cycle).power_done(true).enrolled().started_stage(0, 1);
    assert_eq!(story.evidence(0, 1).judged(0, Verdict::Fail).decides(0), Action::Complete);
}

#[test]
fn a_hold_expires_to_the_second() {
    let story = held().heard().told_everything();
    assert_eq!(story.just_before(3600), wait(&story, 3600));
    assert_eq!(story.decides(3600), Action::ExpireHold);
}

#[test]
fn a_retry_after_a_failed_boot_asks_for_power_again() {
    let failed = switched_on().then(600, EventBody::BootFailed { message: "m".into() });
    let until = Micros::seconds(failed.now + 3600);
    let retried = failed.then(0, EventBody::Held { until }).decided(60, DecisionKind::Retry);
    assert_eq!(retried.decides(0), Action::Power { action: PowerAction::Cycle });
    let asked = retried.power(PowerAction::Cycle);
    assert_eq!(asked.decides(0), wait(&asked, 600));
    assert_eq!(asked.enrolled().decides(0), Action::Start { index: 0, attempt: 1 });
}

#[test]
fn a_retry_with_the_machine_on_begins_at_once() {
    let retried = held().decided(5, DecisionKind::Retry);
    assert_eq!(retried.decides(0), Action::Start { index: 0, attempt: 2 });
    let waived = held().decided(5, DecisionKind::Waive);
    assert_eq!(waived.decides(0), Action::Start { index: 1, attempt: 1 });
}

#[test]
fn a_retry_with_the_machine_off_asks_for_power_once() {
    let retried = held().suspect().decided(3000, DecisionKind::Retry);
    assert_eq!(retried.decides(0), Action::Power { action: PowerAction::Cycle });
    let asked = retried.power(PowerAction::Cycle);
    assert_eq!(asked.decides(0), wait(&asked, 600));
    assert_eq!(asked.enrolled().decides(0), Action::Start { index: 0, attempt: 2 });
}

#[test]
fn cancelling_ends_only_when_the_machine_is_known_to_be_off() {
    let confirmed = |how: &str| Action::ConfirmCancel { how: how.to_owned() };
    let never_on = booting().decided(1, DecisionKind::Cancel);
    assert_eq!(never_on.decides(0), confirmed("the machine was never switched on for this run"));

    let mut on = running().decided(1, DecisionKind::Cancel);
    assert_eq!(on.decides(0), Action::Power { action: PowerAction::Off });
    on.off = true;
    assert_eq!(on.decides(0), confirmed("the agent said that it is switching the machine off"));

    let asked = running().decided(1, DecisionKind::Cancel).power(PowerAction::Off).told_everything();
    assert_eq!(asked.decides(100_000), Action::Wait { until: None }, "no answer is no confirmation");
    assert_eq!(asked.power_done(true).decides(0), confirmed("power off: said the BMC"));

    let refused = running().decided(1, DecisionKind::Cancel).power(PowerAction::Off).power_done(false);
    assert_eq!(refused.just_before(117), wait(&refused, 117), "heard 3 s before the story's end");
    assert_eq!(
        refused.decides(117),
        confirmed("power could not be switched off from here; the agent is silent")
    );

    let nobody = switched_on().decided(1, DecisionKind::Cancel).power(PowerAction::Off).power_done(false);
    assert_eq!(
        nobody.decides(0),
        confirmed("nothing ever enrolled, and power could not be switched off from here")
    );
}

#[test]
fn an_end_is_sealed_once_and_then_left_alone() {
    let over = reporting().started_stage(2, 1).evidence(2, 1).judged(2, Verdict::Pass);
    let over = over.then(0, EventBody::RunCompleted { result: Some(RunResult::Pass) });
    assert_eq!(over.decides(0), Action::Seal);
    let envelope = serde_json::Value::Null;
    let result = Some(RunResult::Pass);
    let sealed = assay_model::event::Sealed { head: Sha256::ZERO, result, overridden: false, envelope };
    let sealed = over.then(0, EventBody::Sealed(Box::new(sealed)));
    assert_eq!(sealed.decides(100_000), Action::Wait { until: None });
}

#[test]
fn a_machine_from_which_no_agent_came_is_switched_off_before_the_seal() {
    let abandoned = |story: Story| {
        let failed = story.then(600, EventBody::BootFailed { message: "nothing came".into() });
        failed.then(0, EventBody::Held { until: Micros::seconds(LATER) }).decided(1, DecisionKind::Abandon)
    };
    let off = Action::Power { action: PowerAction::Off };
    assert_eq!(abandoned(switched_on()).decides(0), off);
    assert_eq!(abandoned(booting().power(PowerAction::Cycle)).decides(0), off, "it may be on");
    assert_eq!(
        abandoned(booting().power(PowerAction::Cycle).power_done(false)).decides(0),
        Action::Seal,
        "never on"
    );

    let asked = abandoned(switched_on()).power(PowerAction::Off);
    assert_eq!(asked.just_before(120), wait(&asked, 120));
    assert_eq!(asked.decides(120), Action::Seal, "no runner keeps a verdict from its seal");
    assert_eq!(
        abandoned(switched_on()).power(PowerAction::Off).power_done(false).decides(0),
        Action::Seal,
        "once"
    );
    assert_eq!(
        held().decided(1, DecisionKind::Abandon).decides(0),
        Action::Seal,
        "its agent switches it off"
    );
}
