//! Judging, over histories as they were seen with a real swarm: times are seconds, by its clock and ours alike.

use std::{collections::BTreeSet, time::Duration};

use assay_model::Micros;

use crate::{
    Deployed, DeployedService, FailureClass, History, Judgement, Observation, ObservedService, ObservedTask,
    ObservedUpdate, Restart, Rules, TaskState, TaskState::*, UpdateState, Wants, judge,
};

/// A stack under watch.
struct Seen {
    history: History,
    services: Vec<ObservedService>,
    tasks: Vec<ObservedTask>,
    rules: Rules,
}

impl Seen {
    /// A stack of services that want one running task each, deployed at 0 and updated before.
    fn stack(names: &[&str]) -> Self {
        let services = names.iter().map(|name| ObservedService {
            name: format!("s_{name}"),
            id: (*name).to_owned(),
            wants: Wants::Running(1),
            restart: Restart::Any,
            max_attempts: 0,
            health_interval: None,
            update: None,
        });
        let services: Vec<ObservedService> = services.collect();
        let deployed = services.iter().map(|service| DeployedService {
            name: service.name.clone(),
            id: service.id.clone(),
            created: true,
            update_before: Some(micros(-100.0)),
        });
        let deployed = Deployed {
            stack: "s".to_owned(),
            services: deployed.collect(),
            tasks_before: BTreeSet::from(["old".to_owned()]),
            warnings: Vec::new(),
        };
        Self { history: History::new(&deployed), services, tasks: Vec::new(), rules: Rules::default() }
    }

    fn service(&mut self, name: &str) -> &mut ObservedService {
        self.services.iter_mut().find(|service| service.id == name).unwrap()
    }

    /// A task comes to a state; a task that is not known is made.
    fn task(&mut self, id: &str, state: TaskState, at: f64) -> &mut ObservedTask {
        let known = self.tasks.iter().position(|task| task.id == id).unwrap_or_else(|| {
            let service = id.trim_end_matches(|c: char| c.is_ascii_digit());
            self.tasks.push(ObservedTask {
                id: id.to_owned(),
                service: service.to_owned(),
                slot: "1".to_owned(),
                created: micros(at),
                state,
                since: micros(at),
                desired: Running,
                up_to_date: true,
                error: String::new(),
                exit_code: None,
                container: None,
                iteration: 0,
            });
            self.tasks.len() - 1
        });
        let task = &mut self.tasks[known];
        (task.state, task.since) = (state, micros(at));
        task
    }

    /// A task ends with a code.
    fn fails(&mut self, id: &str, at: f64, code: i64) {
        let task = self.task(id, Failed, at);
        task.exit_code = Some(code);
        task.error = format!("task: non-zero exit ({code})");
        task.desired = Shutdown;
    }

    /// A task is refused by its node.
    fn rejected(&mut self, id: &str, at: f64, error: &str) {
        let task = self.task(id, Rejected, at);
        task.error = error.to_owned();
        task.desired = Shutdown;
    }

    fn look(&mut self, at: f64) -> Judgement {
        let observation = Observation { services: self.services.clone(), tasks: self.tasks.clone() };
        self.history.see(observation, Duration::from_secs_f64(at));
        judge(&self.history, &self.rules)
    }

    fn is_waited_for(&mut self, at: f64) -> Vec<String> {
        match self.look(at) {
            Judgement::Converging(waiting) => waiting
                .into_iter()
                .map(|waiting| format!("{}: {}", waiting.service, waiting.reason))
                .collect(),
            other => panic!("at {at}: {other:?}"),
        }
    }

    fn has_converged(&mut self, at: f64) {
        let judgement = self.look(at);
        assert!(matches!(judgement, Judgement::Converged { .. }), "at {at}: {judgement:?}");
    }

    fn has_failed(&mut self, at: f64) -> (FailureClass, String) {
        match self.look(at) {
            Judgement::Failed(failures) => {
                assert_eq!(failures.len(), 1, "{failures:#?}");
                (failures[0].class, failures[0].message.clone())
            }
            other => panic!("at {at}: {other:?}"),
        }
    }
}

fn micros(seconds: f64) -> Micros {
    Micros((seconds * 1e6) as i64)
}

#[test]
fn a_stack_converges_when_everything_has_been_as_it_should_be_for_a_while() {
    let mut seen = Seen::stack(&["app", "db"]);
    assert_eq!(
        seen.is_waited_for(0.1),
        ["s_app: 0 of 1 run (no task yet)", "s_db: 0 of 1 run (no task yet)"]
    );
    seen.task("app1", Preparing, 0.2);
    seen.task("db1", Running, 1.6);
    assert_eq!(
        seen.is_waited_for(1.7),
        ["s_app: 0 of 1 run (preparing)", "s_db: it has been as it is for 0.0ns of 8.0s"]
    );
    seen.task("app1", Running, 2.6);
    assert_eq!(seen.is_waited_for(2.7).len(), 2);
    assert_eq!(seen.is_waited_for(9.9), ["s_app: it has been as it is for 7.2s of 8.0s"]);
    seen.has_converged(10.8);
}

#[test]
fn in_the_first_moments_of_an_update_the_old_task_is_no_proof() {
    let mut seen = Seen::stack(&["app"]);
    seen.task("old", Running, 0.0).service = "app".to_owned();
    seen.task("old", Running, 0.0).up_to_date = false;
    assert_eq!(seen.is_waited_for(0.1), ["s_app: 0 of 1 run (no task yet)"]);
    seen.service("app").update = Some(ObservedUpdate {
        state: UpdateState::Updating,
        started: Some(micros(0.1)),
        message: String::new(),
    });
    seen.task("app2", Running, 3.4);
    assert_eq!(seen.is_waited_for(3.5), ["s_app: its update is under way"]);
    seen.service("app").update.as_mut().unwrap().state = UpdateState::Completed;
    // The swarm has watched the new task for five seconds by then; those count.
    assert_eq!(seen.is_waited_for(8.6), ["s_app: it has been as it is for 5.1s of 8.0s"]);
    seen.has_converged(11.6);
}

#[test]
fn a_service_that_somebody_took_away_is_waited_for() {
    let mut seen = Seen::stack(&["app", "db"]);
    seen.task("app1", Running, 1.0);
    seen.services.pop();
    seen.is_waited_for(1.1);
    assert_eq!(seen.is_waited_for(20.0), ["s_db: it is not there"]);
}

#[test]
fn what_was_there_before_and_stays_has_converged_soon() {
    let mut seen = Seen::stack(&["app"]);
    seen.task("old", Running, -60.0).service = "app".to_owned();
    assert_eq!(seen.is_waited_for(0.1), ["s_app: it has been as it is for 0.0ns of 2.0s"]);
    seen.has_converged(2.2);
}

#[test]
fn an_update_that_was_paused_is_a_failure_if_it_is_this_one() {
    let mut seen = Seen::stack(&["app"]);
    seen.task("app1", Running, 0.0);
    let paused = |started| {
        Some(ObservedUpdate {
            state: UpdateState::Paused,
            started: Some(micros(started)),
            message: "update paused due to failure or early termination of task app2".to_owned(),
        })
    };
    seen.service("app").update = paused(-100.0);
    seen.look(0.1);
    seen.has_converged(8.2);
    seen.service("app").update = paused(0.1);
    let (class, message) = seen.has_failed(8.3);
    assert_eq!(class, FailureClass::UpdatePaused);
    assert_eq!(
        message,
        "the update was paused: update paused due to failure or early termination of task app2"
    );
}

#[test]
fn one_shots_jobs_and_services_with_nothing_to_run_converge_without_delay() {
    let mut seen = Seen::stack(&["once", "careful", "none", "job"]);
    seen.service("once").restart = Restart::None;
    seen.service("careful").restart = Restart::OnFailure;
    seen.service("none").wants = Wants::Running(0);
    seen.service("job").wants = Wants::Completed { tasks: 1, iteration: 7 };
    seen.task("once1", Complete, 1.0).desired = Shutdown;
    seen.task("careful1", Complete, 1.0).desired = Shutdown;
    seen.task("job1", Complete, 1.0).iteration = 6;
    assert_eq!(seen.is_waited_for(1.1), ["s_job: 0 of 1 have completed"]);
    seen.task("job2", Complete, 1.2).iteration = 7;
    seen.has_converged(1.3);
}

#[test]
fn a_service_that_is_to_end_and_still_runs_is_as_good_as_can_be_told_and_said() {
    let mut seen = Seen::stack(&["once"]);
    seen.service("once").restart = Restart::None;
    seen.task("once1", Running, 1.0);
    seen.look(1.1);
    assert_eq!(seen.look(9.2), Judgement::Converged { still_running: vec!["s_once".to_owned()] });
}

#[test]
fn a_one_shot_that_failed_has_failed() {
    let mut seen = Seen::stack(&["once", "db"]);
    seen.service("once").restart = Restart::None;
    seen.task("db1", Starting, 1.0);
    seen.fails("once1", 1.0, 7);
    seen.look(1.1);
    seen.history.hear("once1", "no such table");
    let (class, message) = seen.has_failed(1.2);
    assert_eq!(class, FailureClass::NotRestarted);
    assert_eq!(message, "it ended with exit code 7 (its last words: no such table) and is not started again");
}

#[test]
fn attempts_that_are_used_up_are_used_up() {
    let mut seen = Seen::stack(&["app"]);
    (seen.service("app").restart, seen.service("app").max_attempts) = (Restart::OnFailure, 1);
    seen.fails("app1", 1.0, 1);
    seen.task("app2", Ready, 1.1);
    seen.look(1.2);
    seen.fails("app2", 7.0, 2);
    seen.is_waited_for(7.1);
    let (class, _) = seen.has_failed(10.2);
    assert_eq!(class, FailureClass::NotRestarted);
}

#[test]
fn a_crash_loop_is_certain_at_the_third_equal_failure() {
    let mut seen = Seen::stack(&["app", "db"]);
    seen.task("db1", Running, 1.9);
    for (n, at) in [(1, 2.43), (2, 8.48), (3, 14.62)] {
        seen.fails(&format!("app{n}"), at, 1);
        seen.task(&format!("app{}", n + 1), Ready, at + 0.1);
        if n < 3 {
            seen.is_waited_for(at + 0.1);
            let words = format!("2026-11-22T08:00:{at} connection 4{n} refused");
            seen.history.hear(&format!("app{n}"), &words);
        }
    }
    seen.history.hear("app3", "2026-11-22T08:00:14 connection 43 refused");
    let (class, message) = seen.has_failed(14.7);
    assert_eq!(class, FailureClass::CrashLoop);
    assert_eq!(
        message,
        "3 attempts, and the last one ended with exit code 1 (its last words: 2026-11-22T08:00:14 connection \
         43 refused)"
    );
}

#[test]
fn attempts_that_end_differently_are_getting_somewhere_until_there_are_too_many() {
    let mut seen = Seen::stack(&["app"]);
    for n in 1..=8 {
        let at = 2.4 + 6.0 * f64::from(n);
        seen.fails(&format!("app{n}"), at, i64::from(n));
        seen.task(&format!("app{}", n + 1), Ready, at);
        if n < 8 {
            seen.is_waited_for(at + 0.1);
        }
    }
    assert_eq!(seen.has_failed(60.0).0, FailureClass::CrashLoop);
}

#[test]
fn who_waits_for_a_database_is_not_condemned_before_it_and_has_a_chance_after_it() {
    let mut seen = Seen::stack(&["app", "db"]);
    // Its health check passes at 60 s.
    seen.task("db1", Starting, 1.0);
    let mut n = 0;
    let mut fail = |seen: &mut Seen, at: f64| {
        n += 1;
        seen.fails(&format!("app{n}"), at, 1);
        seen.task(&format!("app{}", n + 1), Ready, at);
    };
    for at in (0..10).map(|attempt| 2.0 + 6.0 * f64::from(attempt)) {
        fail(&mut seen, at);
        seen.is_waited_for(at + 0.1);
    }
    seen.task("db1", Running, 60.0);
    seen.is_waited_for(60.1);
    // By then it is past all numbers, and would be condemned at its next failure; it runs instead.
    seen.task("app11", Running, 62.0);
    seen.is_waited_for(62.1);
    seen.has_converged(70.2);
}

#[test]
fn who_waits_for_a_database_without_a_health_check_is_not_condemned_while_that_works_on_its_start() {
    let mut seen = Seen::stack(&["app", "db"]);
    seen.task("db1", Running, 1.0);
    for (n, at) in [(1, 2.0), (2, 8.0), (3, 14.0), (4, 20.0), (5, 26.0)] {
        seen.fails(&format!("app{n}"), at, 1);
        seen.task(&format!("app{}", n + 1), Ready, at);
        seen.look(at);
        seen.history.work("db1", micros(at));
        seen.is_waited_for(at + 0.1);
    }
    // It has done its work at 27 s; two more attempts are to show what that has changed.
    seen.history.work("db1", micros(27.0));
    seen.fails("app6", 32.0, 1);
    seen.is_waited_for(32.1);
    seen.fails("app7", 38.0, 1);
    assert_eq!(seen.has_failed(38.1).0, FailureClass::CrashLoop);
}

#[test]
fn what_is_ended_for_its_health_has_not_done_its_work_however_politely_it_ends() {
    for restart in [Restart::None, Restart::OnFailure] {
        let mut seen = Seen::stack(&["app"]);
        seen.service("app").restart = restart;
        seen.task("app1", Running, 1.0);
        seen.look(1.1);
        seen.history.sicken("app1");
        seen.task("app1", Complete, 9.0).exit_code = Some(0);
        let (class, message) = seen.has_failed(9.1);
        assert_eq!(class, FailureClass::Unhealthy, "{message}");
    }
}

#[test]
fn who_works_all_its_life_protects_nobody_for_ever() {
    let mut seen = Seen::stack(&["app", "worker"]);
    seen.task("worker1", Running, 1.0);
    for n in 1..=22 {
        let at = 6.0 * f64::from(n);
        seen.fails(&format!("app{n}"), at, 1);
        seen.look(at);
        seen.history.work("worker1", micros(at));
        // Two minutes after its start what it does is its life.
        if n < 22 {
            seen.is_waited_for(at);
        }
    }
    assert_eq!(seen.has_failed(132.1).0, FailureClass::CrashLoop);
}

#[test]
fn what_goes_on_failing_after_its_database_has_come_is_condemned() {
    let mut seen = Seen::stack(&["app", "db"]);
    seen.task("db1", Starting, 1.0);
    for (n, at) in [(1, 2.0), (2, 8.0), (3, 14.0), (4, 20.0)] {
        seen.fails(&format!("app{n}"), at, 1);
        seen.task(&format!("app{}", n + 1), Ready, at);
        if n == 3 {
            seen.task("db1", Running, 16.0);
        }
        seen.is_waited_for(at + 0.1);
    }
    seen.fails("app5", 26.0, 1);
    assert_eq!(seen.has_failed(26.1).0, FailureClass::CrashLoop);
}

#[test]
fn who_waits_for_somebody_who_waits_has_a_chance_after_each_step() {
    let mut seen = Seen::stack(&["app", "migrate", "db"]);
    seen.service("migrate").restart = Restart::OnFailure;
    seen.task("db1", Running, 10.0);
    for (n, at) in [(1, 2.0), (2, 8.0), (3, 14.0)] {
        seen.fails(&format!("app{n}"), at, 1);
        seen.task(&format!("app{}", n + 1), Ready, at);
        seen.is_waited_for(at + 0.1);
    }
    seen.task("migrate1", Running, 15.0);
    seen.is_waited_for(15.1);
    seen.fails("app4", 20.0, 1);
    seen.is_waited_for(20.1);
    seen.task("migrate1", Complete, 24.0);
    seen.is_waited_for(24.1);
    seen.fails("app5", 26.0, 1);
    seen.is_waited_for(26.1);
    seen.task("app6", Running, 32.0);
    seen.look(32.1);
    seen.has_converged(40.2);
}

#[test]
fn two_that_wait_for_each_other_are_both_condemned() {
    let mut seen = Seen::stack(&["app", "db"]);
    for (n, at) in [(1, 2.0), (2, 8.0), (3, 14.0)] {
        for name in ["app", "db"] {
            seen.fails(&format!("{name}{n}"), at, 1);
            seen.task(&format!("{name}{}", n + 1), Ready, at);
        }
    }
    let Judgement::Failed(failures) = seen.look(14.1) else { panic!("two crash loops") };
    let told: Vec<&str> = failures.iter().map(|failure| failure.service.as_str()).collect();
    assert_eq!(told, ["s_app", "s_db"]);
}

#[test]
fn a_service_that_is_known_to_fail_for_long_may() {
    let mut seen = Seen::stack(&["ghost", "db"]);
    seen.rules.tolerated.insert("ghost".to_owned(), 60);
    seen.task("db1", Running, 1.0);
    for n in 1..60 {
        seen.fails(&format!("ghost{n}"), 6.0 * f64::from(n), 1);
        seen.is_waited_for(6.0 * f64::from(n) + 0.1);
    }
    seen.fails("ghost60", 360.0, 1);
    assert_eq!(seen.has_failed(360.1).0, FailureClass::CrashLoop);
}

/// `db` is there from the first second on, `cache` after half a minute; `app` fails every six seconds and may do so sixty times.
/// When it is condemned, in seconds.
#[test]
fn failing_is_tolerated_until_the_service_has_come_that_is_waited_for() {
    let cases = [
        (None, 360.0),
        (Some("cache"), 42.0),
        // The full name of another, and one that nobody has.
        (Some("s_cache"), 42.0),
        (Some("queue"), 360.0),
        // It has come before the first failure: the ordinary rule.
        (Some("db"), 42.0),
    ];
    for (until, condemned) in cases {
        let mut seen = Seen::stack(&["app", "db", "cache"]);
        seen.rules.tolerated.insert("app".to_owned(), 60);
        seen.rules.tolerated_until.extend(until.map(|until| ("app".to_owned(), until.to_owned())));
        seen.task("db1", Running, 1.0);
        seen.task("cache1", Preparing, 1.0);
        let at = (1..=60).map(|n| (n, 6.0 * f64::from(n))).find(|(n, at)| {
            if *n == 6 {
                seen.task("cache1", Running, 31.0);
            }
            seen.fails(&format!("app{n}"), *at, 1);
            matches!(seen.look(at + 0.1), Judgement::Failed(_))
        });
        assert_eq!(at.map(|(_, at)| at), Some(condemned), "until {until:?}");
    }
}

#[test]
fn what_cannot_heal_is_certain_at_once_whatever_the_others_do() {
    let cases = [
        ("No such image: nowhere/nothing:1", FailureClass::MissingImage),
        (
            "invalid mount config for type \"bind\": bind source path does not exist: /no",
            FailureClass::BadMount,
        ),
        ("source /d/overlay2/0a/merged/srv/www/index.html is not directory", FailureClass::BadMount),
        ("the node does not like it", FailureClass::Rejected),
    ];
    for (error, class) in cases {
        let mut seen = Seen::stack(&["app", "db"]);
        seen.task("db1", Preparing, 0.5);
        seen.rejected("app1", 1.0, error);
        seen.is_waited_for(1.1);
        seen.rejected("app2", 6.0, error);
        assert_eq!(seen.has_failed(6.1), (class, format!("2 attempts failed: {error}")));
    }
}

#[test]
fn who_completes_again_and_again_is_told_what_to_write() {
    let mut seen = Seen::stack(&["app"]);
    for (n, at) in [(1, 2.4), (2, 8.5), (3, 14.6)] {
        seen.task(&format!("app{n}"), Complete, at).exit_code = Some(0);
    }
    let (class, message) = seen.has_failed(14.7);
    assert_eq!(class, FailureClass::CompletingLoop);
    assert!(message.contains("`restart_policy: condition: none`"), "{message}");
}

#[test]
fn who_lives_for_a_while_each_time_flaps_and_is_never_well_in_between() {
    let mut seen = Seen::stack(&["app"]);
    seen.task("app1", Running, 1.6);
    seen.is_waited_for(1.7);
    seen.is_waited_for(7.5);
    seen.fails("app1", 7.6, 1);
    seen.task("app2", Ready, 7.6);
    seen.is_waited_for(7.7);
    seen.task("app2", Running, 13.0);
    // It has to outlive its own deaths now: three times the six seconds.
    assert_eq!(seen.is_waited_for(13.1), ["s_app: it has been as it is for 0.0ns of 18.0s"]);
    seen.fails("app2", 19.0, 1);
    assert_eq!(seen.has_failed(19.1).0, FailureClass::SlowFlap);
}

#[test]
fn a_health_check_that_fails_twice_in_a_quiet_world_is_a_failure() {
    let mut seen = Seen::stack(&["app", "db"]);
    seen.task("db1", Starting, 1.0);
    for (n, at) in [(1, 4.0), (2, 12.0)] {
        seen.fails(&format!("app{n}"), at, 137);
        seen.task(&format!("app{n}"), Failed, at).error =
            "task: non-zero exit (137): dockerexec: unhealthy container".to_owned();
        seen.task(&format!("app{}", n + 1), Ready, at);
        seen.is_waited_for(at + 0.1);
    }
    seen.task("db1", Running, 14.0);
    seen.is_waited_for(14.1);
    seen.fails("app3", 20.0, 137);
    seen.task("app3", Failed, 20.0).error =
        "task: non-zero exit (137): dockerexec: unhealthy container".to_owned();
    assert_eq!(seen.has_failed(20.1).0, FailureClass::Unhealthy);
}

#[test]
fn who_finds_no_node_is_given_some_time_to() {
    let mut seen = Seen::stack(&["app"]);
    let error = "no suitable node (scheduling constraints not satisfied on 1 node)";
    seen.task("app1", Pending, 0.5).error = error.to_owned();
    seen.is_waited_for(0.6);
    seen.is_waited_for(8.0);
    assert_eq!(
        seen.has_failed(8.7),
        (FailureClass::Unschedulable, format!("no node would have it: {error}"))
    );
}

#[test]
fn what_the_swarm_forgets_is_still_counted_and_what_was_before_is_not() {
    let mut seen = Seen::stack(&["app"]);
    seen.task("old", Failed, 0.0).service = "app".to_owned();
    for (n, at) in [(1, 2.4), (2, 8.5)] {
        seen.fails(&format!("app{n}"), at, 1);
        seen.is_waited_for(at + 0.1);
    }
    seen.tasks.clear();
    seen.fails("app3", 14.6, 1);
    assert_eq!(seen.has_failed(14.7).0, FailureClass::CrashLoop);
}
