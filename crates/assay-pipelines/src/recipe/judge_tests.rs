//! What the judges say of evidence: as a reader of the report sees it.

use std::path::PathBuf;

use assay_model::{Judgement, Verdict};
use assay_recipe::customise::{Customisation, Manifest, Redactor};
use assay_recipe::lint::{Finding, LintReport, RuleResult, Severity, Verdict as Linting};
use assay_recipe::settings::Settings;
use serde::Serialize;
use serde_json::{Value, json};

use super::evidence::*;
use super::harness::Harness;
use super::{Asked, Isolation, RecipeInput, RecipeSpec, Source, plan, stage};

fn spec() -> RecipeSpec {
    RecipeSpec {
        name: "shop".to_owned(),
        folder: PathBuf::from("/recipes/shop"),
        commit: None,
        source: None,
        tests: None,
        settings: Settings::default(),
        manifest: Manifest::of(&Customisation::default(), &Redactor::default()),
        asked: Asked::default(),
        isolation: Isolation::default(),
        stages: Vec::new(),
        seed: 7,
        invocation: Vec::new(),
        harness: None,
    }
}

fn judged(name: &str, spec: &RecipeSpec, evidence: &impl Serialize) -> Judgement {
    let evidence = serde_json::to_value(evidence).expect("it serialises");
    stage(name).expect("a stage").judge(&RecipeInput::new(spec, &evidence, &[]))
}

/// The verdict with its sentence, failed checks, findings, and what was not verified.
fn told(judgement: &Judgement) -> String {
    let mut lines = vec![format!("{}: {}", judgement.verdict, judgement.message)];
    let failed = judgement.checks.iter().filter(|check| check.verdict == Verdict::Fail);
    lines.extend(
        failed.map(|check| format!("check {}: {} (expected {})", check.name, check.seen, check.expected)),
    );
    let findings = judgement.findings.iter();
    lines.extend(
        findings.map(|finding| format!("{} {}: {}", finding.severity, finding.code, finding.message)),
    );
    lines.extend(judgement.unverified.iter().map(|what| format!("not verified: {what}")));
    lines.join("\n")
}

fn release(tag: &str, commit: &str) -> VersionSeen {
    VersionSeen { release: Some(tag.to_owned()), commit: Some(commit.repeat(40)), changed: Vec::new() }
}

fn service(name: &str, task: &str, digest: &str) -> ServiceSeen {
    ServiceSeen {
        service: name.to_owned(),
        image: "shop/web:1".to_owned(),
        tasks: vec![task.to_owned()],
        digest: digest.to_owned(),
    }
}

fn deployed(outcome: Outcome) -> Deployed {
    Deployed {
        version: release("1.0.0+1", "a"),
        domain: "shop-000007.test".to_owned(),
        stack: "shop-000007_test".to_owned(),
        outcome,
        services: vec![service("app", "t1", "d1")],
        version_label: Some("1.0.0+1".to_owned()),
        commit_label: Some("aaaaaaaa".to_owned()),
        substituted: Vec::new(),
        remarks: Vec::new(),
        images: Vec::new(),
        answered: None,
        ran: Vec::new(),
        phases: vec![Phase { name: "converge".to_owned(), seconds: 9.5 }],
    }
}

fn up() -> Outcome {
    Outcome::Converged { still_running: Vec::new() }
}

fn answer(status: Option<u16>) -> Answered {
    Answered {
        url: "https://shop-000007.test/".to_owned(),
        requests: 3,
        after_s: 0.4,
        status,
        content_type: Some("text/html; charset=utf-8".to_owned()),
        body: "<h1>Shop</h1>".to_owned(),
        ..Answered::default()
    }
}

fn ran(name: &str, exit_code: Option<i32>) -> Ran {
    Ran {
        name: name.to_owned(),
        exit_code,
        problem: None,
        seconds: 1.0,
        last_words: "expected 3 entries\nsaw 2".to_owned(),
        log: format!("{}.log", name.replace('/', "-")),
    }
}

#[test]
fn an_install_that_is_well_says_what_ran_and_what_it_answered() {
    let seen = Deployed { answered: Some(answer(Some(200))), ..deployed(up()) };
    insta::assert_snapshot!(told(&judged("Install", &spec(), &Reached::Done(seen))), @"pass: 1.0.0+1: 1 service up in 9.5 s, answers 200 0.4 s later");
}

#[test]
fn an_app_that_was_asked_nothing_is_said_to_be_one() {
    let judge = |spec: &RecipeSpec| judged("Install", spec, &Reached::Done(deployed(up())));
    let asked_nothing = judge(&spec());
    assert_eq!(asked_nothing.verdict, Verdict::Pass);
    assert!(asked_nothing.unverified[0].contains("was asked nothing"), "{:?}", asked_nothing.unverified);
    let mut faceless = spec();
    faceless.settings.http.none = true;
    assert_eq!(judge(&faceless).unverified, [""; 0]);
}

#[test]
fn each_way_to_fail_an_install_has_its_code() {
    let failure = |class: &str, message: &str| Outcome::Failed {
        failures: vec![ServiceFailure {
            service: "app".to_owned(),
            class: class.to_owned(),
            message: message.to_owned(),
            last_words: "boot\nno such table: users\n".to_owned(),
        }],
    };
    let outcomes = [
        failure("crash_loop", "3 attempts, and the last one ended with exit code 1"),
        failure("slow_flap", "2 times it ran for a while and then ended"),
        failure("unschedulable", "no suitable node"),
        Outcome::Invalid { problems: vec!["compose.yml:3: services.app: `imge` is not known".to_owned()] },
        Outcome::Refused { escapes: vec!["services.app.volumes reads the node's `/`".to_owned()] },
        Outcome::NoImages { images: vec!["shop/web:9: no such tag".to_owned()] },
        Outcome::Rejected { message: "only updates to Labels are allowed".to_owned() },
        Outcome::TimedOut { waiting: vec!["app: 0 of 1 run".to_owned()], limit_s: 600.0 },
    ];
    let all: Vec<String> = outcomes
        .into_iter()
        .map(|outcome| told(&judged("Install", &spec(), &Reached::Done(deployed(outcome)))))
        .collect();
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn an_answer_is_held_to_status_type_and_content() {
    let mut spec = spec();
    spec.settings.http.contains = Some("<h1>Shop".to_owned());
    spec.settings.http.content_type = Some("text/html".to_owned());
    let with = |answered: Answered| Deployed { answered: Some(answered), ..deployed(up()) };
    let judge = |answered| told(&judged("Install", &spec, &Reached::Done(with(answered))));
    let good = Answered { contained: Some(true), ..answer(Some(200)) };
    assert!(judge(good.clone()).starts_with("pass"), "{}", judge(good.clone()));
    let cases = [
        Answered { status: None, problem: Some("connection refused".to_owned()), ..good.clone() },
        Answered { status: Some(502), ..good.clone() },
        Answered { contained: Some(false), body: "It works!".to_owned(), ..good.clone() },
        Answered { content_type: Some("application/octet-stream".to_owned()), ..good },
    ];
    let all: Vec<String> = cases.into_iter().map(judge).collect();
    insta::assert_snapshot!(all.join("\n\n"));
}

fn upgraded() -> Upgraded {
    Upgraded {
        from: release("1.0.0+1", "a"),
        before: vec![service("app", "t1", "d1")],
        label_before: Some("1.0.0+1".to_owned()),
        deployed: Deployed {
            version: VersionSeen { release: None, commit: Some("b".repeat(40)), changed: Vec::new() },
            services: vec![service("app", "t2", "d2")],
            version_label: Some("1.1.0+2".to_owned()),
            commit_label: Some("bbbbbbbb".to_owned()),
            answered: Some(answer(Some(200))),
            ..deployed(up())
        },
        witnesses: Witnesses { planted: vec!["volume data".to_owned()], not_planted: Vec::new() },
        compared: vec![WitnessSeen {
            what: "volume data".to_owned(),
            state: WitnessState::Same,
            detail: String::new(),
        }],
    }
}

#[test]
fn an_upgrade_has_to_move_and_to_keep_what_was_stored() {
    let judge = |seen: Upgraded| told(&judged("Upgrade", &spec(), &Reached::Done(seen)));
    insta::assert_snapshot!(judge(upgraded()), @"pass: 1.0.0+1 → bbbbbbbb: 1 service up in 9.5 s, answers 200 0.4 s later");
    let taken_back = {
        let mut seen = upgraded();
        seen.deployed.commit_label = Some("aaaaaaaa".to_owned());
        seen.deployed.services = vec![service("app", "t1", "d2")];
        seen
    };
    let lost = {
        let mut seen = upgraded();
        seen.compared[0].state = WitnessState::Missing;
        seen
    };
    let not_raised = {
        let mut seen = upgraded();
        seen.deployed.version_label = seen.label_before.clone();
        seen
    };
    let nothing_to_move = {
        let mut seen = upgraded();
        seen.deployed.services = seen.before.clone();
        seen
    };
    let all = [taken_back, lost, not_raised, nothing_to_move].map(judge);
    insta::assert_snapshot!(all.join("\n\n"));
}

fn upgraded_from(tag: &str) -> UpgradedFrom {
    let from = release(tag, "9");
    UpgradedFrom {
        installed: Deployed { version: from.clone(), answered: Some(answer(Some(200))), ..deployed(up()) },
        upgraded: Some(Upgraded { from: from.clone(), ..upgraded() }),
        from,
        left: Vec::new(),
        residue: Vec::new(),
        seconds: 40.0,
    }
}

#[test]
fn an_upgrade_from_a_further_release_is_held_to_the_same_and_told_by_its_name() {
    let judge = |further: UpgradedFrom| {
        let further = vec![upgraded_from("0.9.0+1"), further];
        told(&judged("Upgrade", &spec(), &Reached::Done(Upgrades { first: upgraded(), further })))
    };
    let older = || upgraded_from("0.8.0+1");
    insta::assert_snapshot!(judge(older()), @"pass: 1.0.0+1 → bbbbbbbb: 1 service up in 9.5 s, answers 200 0.4 s later; from 0.9.0+1, 0.8.0+1 as well");
    let lost = {
        let mut seen = older();
        seen.upgraded.as_mut().expect("an upgrade").compared[0].state = WitnessState::Missing;
        seen
    };
    let stays = {
        let mut seen = older();
        seen.upgraded.as_mut().expect("an upgrade").deployed.commit_label = Some("99999999".to_owned());
        seen
    };
    let waiting = vec!["app: 0 of 1 run".to_owned()];
    let never_up = UpgradedFrom {
        installed: Deployed {
            version: release("0.8.0+1", "9"),
            ..deployed(Outcome::TimedOut { waiting, limit_s: 600.0 })
        },
        upgraded: None,
        ..older()
    };
    let leaves = UpgradedFrom { left: vec!["volume shop_extra".to_owned()], ..older() };
    insta::assert_snapshot!([lost, stays, never_up, leaves].map(judge).join("\n\n"));
}

#[test]
fn a_quick_run_says_which_upgrades_it_leaves_out() {
    let mut spec = spec();
    assert_eq!(spec.left_out_by_quick(), "a quick run: neither upgrade nor backup was tried");
    spec.settings.upgrade.from = vec!["1.0.0+1".to_owned(), "0.9.0+1".to_owned()];
    assert_eq!(
        spec.left_out_by_quick(),
        "a quick run: neither upgrade (from 1.0.0+1, 0.9.0+1) nor backup was tried"
    );
    let limit = |spec: &RecipeSpec| {
        let (stages, _) = plan(spec, &[]).expect("a plan");
        stages.iter().find(|stage| stage.name == *"Upgrade").expect("an upgrade").timeout_s
    };
    let both = limit(&spec);
    spec.settings.upgrade.from.pop();
    assert_eq!(both, 2 * limit(&spec), "each has its time");
}

#[test]
fn a_backup_is_as_whole_as_its_dumps() {
    let whole = BackupTaken {
        covered: vec!["volume db: backup.sql".to_owned()],
        left_out: vec![NotPlanted {
            what: "volume cache".to_owned(),
            why: "a label leaves it out".to_owned(),
            expected: false,
        }],
        hooks: vec![LabelHook {
            service: "db".to_owned(),
            moment: "backup pre".to_owned(),
            command: "/pg_backup.sh backup".to_owned(),
            exit_code: Some(0),
            last_words: String::new(),
            seconds: 0.3,
        }],
        files: 1,
        bytes: 20_480,
        captures: 1,
        ..BackupTaken::default()
    };
    let judge = |seen: BackupTaken| told(&judged("Backup", &spec(), &Reached::Done(seen)));
    insta::assert_snapshot!(judge(whole.clone()), @r"
    pass: 1 file, 20.0 KiB of volume db: backup.sql
    not verified: volume cache is in no backup: a label leaves it out
    ");
    let empty =
        Trouble { class: "dump_empty".to_owned(), message: "volume db: backup.sql is empty".to_owned() };
    let failed = {
        let mut seen = whole.clone();
        seen.troubles = vec![empty];
        seen.captures = 2;
        seen.hooks[0].exit_code = Some(1);
        seen
    };
    insta::assert_snapshot!(judge(failed));
}

#[test]
fn a_restore_proves_nothing_over_what_is_left() {
    let done = RestoreDone {
        survived: Vec::new(),
        fresh: deployed(up()),
        there_before: Vec::new(),
        hooks: Vec::new(),
        stopped: Vec::new(),
        unproven: Vec::new(),
        troubles: Vec::new(),
        outcome: Some(up()),
        answered: Some(answer(Some(200))),
        compared: upgraded().compared,
        differing: Vec::new(),
        ran: Vec::new(),
        phases: Vec::new(),
    };
    let judge = |seen: RestoreDone| told(&judged("Restore", &spec(), &Reached::Done(seen)));
    insta::assert_snapshot!(judge(done.clone()), @"pass: 1 of 1 witnesses came back into a fresh stack");
    let left = RestoreDone {
        survived: vec!["volume shop_data".to_owned()],
        there_before: vec!["volume data".to_owned()],
        ..done.clone()
    };
    let altered = {
        let mut seen = done.clone();
        seen.compared[0].state = WitnessState::Altered;
        "its mode is 644 and was 640".clone_into(&mut seen.compared[0].detail);
        seen
    };
    let not_up = RestoreDone {
        fresh: deployed(Outcome::TimedOut { waiting: vec!["app: 0 of 1 run".to_owned()], limit_s: 60.0 }),
        outcome: None,
        answered: None,
        compared: Vec::new(),
        ..done
    };
    insta::assert_snapshot!([left, altered, not_up].map(judge).join("\n\n"));
}

#[test]
fn each_test_is_a_check_by_its_name_and_one_that_did_not_run_is_no_pass() {
    let judge = |seen: Tested| told(&judged("Custom", &spec(), &Reached::Done(seen)));
    let found = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = [
        Tested {
            found: found(&["functional/a"]),
            ran: vec![ran("functional/a", Some(0))],
            ..Tested::default()
        },
        Tested {
            found: found(&["functional/a"]),
            ran: vec![ran("functional/a", Some(1))],
            ..Tested::default()
        },
        Tested { found: found(&["functional/a"]), ..Tested::default() },
        Tested::default(),
    ];
    insta::assert_snapshot!(all.map(judge).join("\n\n"));
}

#[test]
fn a_test_that_cannot_be_run_here_is_neither_pass_nor_fail() {
    let not_run = NotRun { name: "browser/login".to_owned(), why: "there is no browser".to_owned() };
    let seen = |exit_code| Tested {
        found: vec!["functional/a".to_owned(), not_run.name.clone()],
        ran: vec![ran("functional/a", Some(exit_code))],
        not_run: vec![not_run.clone()],
        ..Tested::default()
    };
    let judgement = judged("Custom", &spec(), &Reached::Done(seen(0)));
    assert_eq!(judgement.verdict, Verdict::Unverified);
    assert_eq!(judgement.message, "1 of 2 tests passed, 1 could not be run here");
    assert_eq!(judgement.unverified, ["test browser/login was not run: there is no browser"]);
    assert_eq!(judged("Custom", &spec(), &Reached::Done(seen(1))).verdict, Verdict::Fail);
}

#[test]
fn a_teardown_counts_what_stays_and_what_leaked() {
    let clean = TornDown { removed: 9, deploys: 2, deploys_expected: 2, ..TornDown::default() };
    let judge = |seen: TornDown| told(&judged("Teardown", &spec(), &Reached::Done(seen)));
    insta::assert_snapshot!(judge(clean.clone()), @"pass: 9 things of the stack taken away, nothing stays");
    let died = |during: &str| Died {
        service: "worker".to_owned(),
        during: during.to_owned(),
        exit_code: Some(3),
        oom_killed: false,
        error: "task: non-zero exit (3)".to_owned(),
        last_words: "the first job is more than I can do".to_owned(),
    };
    let leak = Leak { secret: "db_password".to_owned(), place: "log of service app".to_owned() };
    let all = [
        TornDown { left: vec!["volume shop_extra".to_owned()], ..clean.clone() },
        TornDown { leaks: vec![leak], ..clean.clone() },
        TornDown { deploys: 3, ..clean.clone() },
        TornDown { died: vec![died("Custom"), died("Backup")], ..clean.clone() },
        TornDown { died: vec![died("Backup")], ..clean.clone() },
        TornDown { died: vec![Died { exit_code: Some(0), ..died("Custom") }], ..clean.clone() },
        TornDown { kept: Some("curl here".to_owned()), ..clean },
    ];
    insta::assert_snapshot!(all.map(judge).join("\n\n"));
}

#[test]
fn a_change_of_tests_is_told_and_decides_nothing() {
    let rule = RuleResult {
        rule: "R001".to_owned(),
        title: "asks for something".to_owned(),
        severity: Severity::Error,
        verdict: Linting::Pass,
        reason: None,
        findings: Vec::new(),
    };
    let report = LintReport { recipe: "shop".to_owned(), results: vec![rule] };
    let linted = Linted {
        version: release("1.0.0+1", "a"),
        bases: Vec::new(),
        report: Some(report),
        problem: None,
        tests_digest: None,
    };
    let source = Source {
        bundle: assay_model::Sha256::of(b"bundle"),
        bytes: 6,
        of: "git.example.org/apps/shop#12".to_owned(),
        trusted: "b".repeat(40),
        trusted_ref: "main".to_owned(),
        not_taken: (1..=7).map(|n| format!("tests/functional/{n}.sh")).collect(),
        fork: None,
    };
    let changed = RecipeSpec { source: Some(source.clone()), ..spec() };
    insta::assert_snapshot!(told(&judged("Lint", &changed, &Reached::Done(linted.clone()))), @r"
    pass: 1 rules, no error
    warning ChangeOfTests: the change touches what it is tested by (tests/functional/1.sh, tests/functional/2.sh, tests/functional/3.sh, tests/functional/4.sh, tests/functional/5.sh, 2 more); main has decided
    ");
    let same = RecipeSpec { source: Some(Source { not_taken: Vec::new(), ..source }), ..spec() };
    assert_eq!(judged("Lint", &same, &Reached::Done(linted)).findings, []);
}

#[test]
fn lint_fails_by_errors_alone() {
    let rule = |id: &str, severity, verdict, found: usize| RuleResult {
        rule: id.to_owned(),
        title: "asks for something".to_owned(),
        severity,
        verdict,
        reason: Some("for a reason".to_owned()),
        findings: (0..found)
            .map(|line| Finding {
                file: "compose.yml".to_owned(),
                line: line as u32,
                path: "services.app".to_owned(),
                message: "it is not so".to_owned(),
                next_step: "make it so".to_owned(),
            })
            .collect(),
    };
    let judge = |results: Vec<RuleResult>| {
        let report = LintReport { recipe: "shop".to_owned(), results };
        let linted = Linted {
            version: release("1.0.0+1", "a"),
            bases: Vec::new(),
            report: Some(report),
            problem: None,
            tests_digest: None,
        };
        told(&judged("Lint", &spec(), &Reached::Done(linted)))
    };
    let warned = judge(vec![
        rule("R001", Severity::Warning, Linting::Fail, 1),
        rule("R002", Severity::Error, Linting::Pass, 0),
        rule("R003", Severity::Error, Linting::Skip, 0),
        rule("R004", Severity::Error, Linting::Unverified, 0),
    ]);
    let failed = judge(vec![rule("A001", Severity::Error, Linting::Fail, 2)]);
    insta::assert_snapshot!(format!("{warned}\n\n{failed}"));
}

#[test]
fn a_stage_without_evidence_says_why() {
    let not_reached: Reached<Deployed> =
        Reached::NotReached { because: "Install did not come up".to_owned() };
    let does_not_apply: Reached<Deployed> = Reached::DoesNotApply { why: "no release before it".to_owned() };
    let broken = json!({"how": "done", "what": 3});
    let all = [
        told(&judged("Upgrade", &spec(), &not_reached)),
        told(&judged("Upgrade", &spec(), &does_not_apply)),
        told(&judged("Upgrade", &spec(), &broken)),
        told(&judged("Idempotence", &spec(), &Value::Null)),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_was_not_tested_in_the_machine_that_was_asked_for_counts_for_nothing() {
    let in_vm = RecipeSpec { isolation: Isolation::Machine, ..spec() };
    let judge = |spec: &RecipeSpec, ground: Ground| {
        let runner = RunnerSeen { harness: Harness::default(), ipvs: None, ground };
        let mut evidence =
            serde_json::to_value(Reached::<()>::DoesNotApply { why: "no backup".to_owned() }).expect("JSON");
        evidence["runner"] = serde_json::to_value(runner).expect("JSON");
        told(&judged("Backup", spec, &evidence))
    };
    insta::assert_snapshot!(judge(&in_vm, Ground::Own), @"error: this was to be tested in a virtual machine, and was in a daemon of the run's own; upgrade the runner, and look at what was run there");
    assert_eq!(judge(&in_vm, Ground::Machine), "skip: no backup");
    // More than was asked for is fine.
    assert_eq!(judge(&spec(), Ground::Machine), "skip: no backup");
}

#[test]
fn a_spec_without_a_machine_is_written_as_before() {
    let written =
        |isolation: Isolation| serde_json::to_value(RecipeSpec { isolation, ..spec() }).expect("JSON");
    assert_eq!(written(Isolation::Namespaces).get("isolation"), None);
    assert_eq!(written(Isolation::Machine)["isolation"], "machine");
    let read = |value: &Value| RecipeSpec::of(value).expect("it reads").isolation;
    assert_eq!(read(&written(Isolation::Namespaces)), Isolation::Namespaces);
    assert_eq!(read(&written(Isolation::Machine)), Isolation::Machine);
}

#[test]
fn a_plan_has_what_was_asked_for_and_always_its_end() {
    let names = |spec: &RecipeSpec, only: &[&str]| {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        let (stages, left_out) = plan(spec, &only).expect("a plan");
        let stages: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
        let left_out: Vec<&str> = left_out.iter().map(assay_model::StageName::as_str).collect();
        format!("{} | left out: {}", stages.join(" "), left_out.join(" "))
    };
    let mut every = spec();
    every.settings.stages.idempotence = true;
    every.settings.stages.rollback = true;
    let mut quick = spec();
    quick.asked.quick = true;
    let all =
        [names(&spec(), &[]), names(&every, &[]), names(&quick, &[]), names(&spec(), &["Backup", "Restore"])];
    insta::assert_snapshot!(all.join("\n"));
    let refused = plan(&spec(), &["Bakcup".to_owned()]).expect_err("no such stage");
    assert!(refused.contains("did you mean `Backup`"), "{refused}");
}

#[test]
fn a_domain_is_short_and_nobody_s() {
    let named = |name: &str| RecipeSpec { name: name.to_owned(), ..spec() }.domain();
    assert_eq!(named("shop"), "shop-000007.test");
    assert_eq!(named("A very long-named_recipe"), "averylon-000007.test");
    assert_eq!(named("ключ"), "app-000007.test");
}
