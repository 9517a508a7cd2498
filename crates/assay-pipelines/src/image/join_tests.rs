//! `Join`: what was registered is held to the tree that it goes into, and registered is not joined.

use assay_model::{StageName, Verdict};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::STAGES;
use super::super::evidence::Registration;
use super::super::fixtures::{
    HOST, Row, Seen, a_guest_s_words_are_shown_clean, each_raises_its_own_code, nothing_is_missed_in_silence,
    the_page_has_them_all, walk, with,
};
use super::super::profile::{JoinBy, JoinExpect, JoinFault, JoinSpec};

const ROWS: &[Row] = &[
    ("NotRegistered", |seen| seen.joined.registrations.clear()),
    ("RegisteredTwice", |seen| seen.joined.registrations = vec![one(seen).clone(), one(seen).clone()]),
    ("RegisteredTooEarly", |seen| one(seen).at = 49.9),
    ("EmptyCommit", |seen| (one(seen).paths, one(seen).payload) = (Vec::new(), None)),
    ("OtherFilesTouched", |seen| one(seen).paths.push(("flake.lock".into(), "M".into()))),
    ("PayloadMisplaced", |seen| one(seen).paths[0].0 = "nodes/node-00a1b2.yaml".into()),
    ("NoPullRequest", |seen| one(seen).pull_request = false),
    ("OrphanBranch", |seen| seen.joined.orphans.push("register-node-00a1b2".into())),
    ("PayloadMissing", |seen| one(seen).payload = None),
    ("PayloadUnreadable", |seen| one(seen).payload = Some("name: [node".into())),
    ("PayloadInvalid", |seen| one(seen).schema_problems.push("/mac: 7 is not of type \"string\"".into())),
    ("PayloadFieldWrong", |seen| written(seen, "maintainer: operator", "maintainer: somebody")),
    ("PayloadTimeWrong", |seen| written(seen, "2026-01-02T03:04:30Z", "1970-01-01T00:00:12Z")),
    ("PayloadAddressWrong", |seen| written(seen, "52:54:00:00:00:07", "52:54:00:12:34:56")),
    ("SecretInPayload", |seen| one(seen).leaks.push("/join-token".into())),
    ("NotJoined", |seen| seen.joined.joins.clear()),
    ("DeregistrationFailed", |seen| out(seen).left.push("maintainers/operator/cluster-nodes".into())),
    ("RegisteredInSpite", |seen| join(seen).expect = JoinExpect::Refused),
];

fn one(seen: &mut Seen) -> &mut Registration {
    &mut seen.joined.registrations[0]
}

fn out(seen: &mut Seen) -> &mut super::super::evidence::Deregistered {
    seen.joined.deregistered.as_mut().expect("the round trip")
}

fn join(seen: &mut Seen) -> &mut JoinSpec {
    seen.profile.join.as_mut().expect("a profile that joins")
}

fn written(seen: &mut Seen, from: &str, to: &str) {
    let payload = one(seen).payload.as_mut().expect("the payload");
    assert!(payload.contains(from), "{payload}");
    *payload = payload.replace(from, to);
}

#[test]
fn each_fault_of_a_registration_has_its_code() {
    each_raises_its_own_code("Join", ROWS);
    the_page_has_them_all("Join", ROWS);
}

#[test]
fn a_registration_is_told_in_one_sentence() {
    let judgement = Seen::good().judged("Join");
    assert_eq!(
        judgement.message,
        "registered by git maintainers/operator/cluster-nodes/node-00a1b2/node.yaml, and has joined"
    );
    assert!(judgement.unverified.is_empty(), "{judgement:#?}");
}

#[test]
fn a_description_that_was_posted_is_held_to_the_same_payload() {
    let mut seen = Seen::good();
    join(&mut seen).by = JoinBy::Http;
    *one(&mut seen) =
        Registration { by: "http".into(), paths: Vec::new(), pull_request: false, ..one(&mut seen).clone() };
    seen.joined.deregistered = None;
    let judgement = seen.judged("Join");
    assert_eq!(judgement.verdict, Verdict::Pass, "{judgement:#?}");
    written(&mut seen, HOST, "node-00a1b3");
    assert_eq!(seen.judged("Join").findings[0].code, "PayloadFieldWrong");
}

#[test]
fn a_push_where_a_post_was_to_come_is_told() {
    let mut seen = Seen::good();
    *one(&mut seen) =
        Registration { by: "http".into(), paths: Vec::new(), pull_request: false, ..one(&mut seen).clone() };
    assert_eq!(seen.judged("Join").findings[0].code, "EmptyCommit", "nothing was pushed");
}

#[test]
fn a_machine_that_joins_late_before_its_installation_or_under_another_name_has_not_joined() {
    let rows: [(Verdict, Row); 6] = [
        (Verdict::Pass, ("in time", |seen| seen.joined.joins[0].1 = 140.0)),
        (Verdict::Pass, ("while it comes up", |seen| seen.joined.joins[0].1 = 75.0)),
        (Verdict::Fail, ("after the limit", |seen| seen.joined.joins[0].1 = 140.1)),
        (Verdict::Fail, ("by the installer's word", |seen| seen.joined.joins[0].1 = 49.0)),
        (Verdict::Fail, ("as another", |seen| seen.joined.joins[0].0 = "node-ffffff".into())),
        (Verdict::Pass, ("too early, and again", |seen| seen.joined.joins.insert(0, (HOST.into(), 1.0)))),
    ];
    for (verdict, (what, bend)) in rows {
        let mut seen = Seen::good();
        bend(&mut seen);
        let judgement = seen.judged("Join");
        assert_eq!(judgement.verdict, verdict, "{what}: {judgement:#?}");
    }
}

#[test]
fn a_machine_that_nobody_saw_come_up_may_have_joined_late() {
    let mut seen = Seen::good();
    seen.joined.up_at = None;
    let judgement = seen.judged("Join");
    assert_eq!(judgement.unverified, ["whether it joined in time: nobody saw the installed system come up"]);
}

#[test]
fn a_time_is_within_the_run_or_nearly() {
    for (time, verdict) in [
        ("2026-01-02T03:04:00Z", Verdict::Pass),
        ("2026-01-02T04:05:00+01:00", Verdict::Pass),
        ("2026-01-02T03:03:01Z", Verdict::Pass),
        ("2026-01-02T03:02:59Z", Verdict::Fail),
        ("2026-01-02T03:07:01Z", Verdict::Fail),
        ("yesterday", Verdict::Fail),
        ("", Verdict::Fail),
    ] {
        let mut seen = Seen::good();
        written(&mut seen, "2026-01-02T03:04:30Z", time);
        assert_eq!(seen.judged("Join").verdict, verdict, "{time}");
    }
}

#[test]
fn a_field_that_is_not_there_is_not_a_word_that_says_so() {
    let mut seen = Seen::good();
    join(&mut seen).fields.insert("/gpu".into(), "nothing".into());
    let judgement = seen.judged("Join");
    assert_eq!(judgement.verdict, Verdict::Fail, "{judgement:#?}");
    assert_eq!(judgement.message, "the payload says nothing at /gpu, and should say `nothing`");
}

#[test]
fn a_secret_is_found_whatever_file_brought_it() {
    let mut seen = Seen::good();
    // The token of the stand-in, by a settings file that nobody marked as a secret.
    seen.profile.medium.files[0].secret = false;
    one(&mut seen).leaks.push("the join token".into());
    let judgement = seen.judged("Join");
    assert_eq!(
        judgement.findings.first().map(|f| f.code.as_str()),
        Some("SecretInPayload"),
        "{judgement:#?}"
    );
}

#[test]
fn a_machine_whose_name_nobody_saw_is_held_to_the_name_in_its_path() {
    let nameless = |seen: &Seen| {
        let mut seen = seen.clone();
        seen.installed.watched.names.clear();
        seen.rebooted.watched.names.clear();
        seen.judged("Join")
    };
    let mut seen = Seen::good();
    let judgement = nameless(&seen);
    assert_eq!(judgement.verdict, Verdict::Pass, "{judgement:#?}");
    assert_eq!(
        judgement.unverified,
        ["whether it registered under its own name: no host name was seen"],
        "it is said that this was not seen"
    );
    written(&mut seen, HOST, "node-ffffff");
    assert_eq!(nameless(&seen).findings[0].code, "PayloadFieldWrong", "path and payload differ");
    written(&mut seen, "node-ffffff", "'{host}'");
    assert_eq!(nameless(&seen).verdict, Verdict::Fail, "a template that nobody filled");
    one(&mut seen).paths[0].0 = "maintainers/operator/cluster-nodes/a/b/node.yaml".into();
    assert_eq!(nameless(&seen).findings[0].code, "PayloadMisplaced", "a name is one folder");
}

#[test]
fn a_machine_that_was_to_be_refused_has_to_have_asked() {
    let mut seen = Seen::good();
    join(&mut seen).expect = JoinExpect::Refused;
    join(&mut seen).faults = vec![JoinFault { on: "pull".into(), what: "500".into(), times: None }];
    seen.joined.registrations.clear();
    seen.joined.joins.clear();
    seen.joined.deregistered = None;
    seen.joined.ledger = json!({"requests": [{"id": 1}], "faults": [{"at": 1}]});
    let judgement = seen.judged("Join");
    assert_eq!(
        (judgement.verdict, judgement.message.as_str()),
        (Verdict::Pass, "nothing arrived, as expected")
    );

    for ledger in
        [json!({"requests": [], "faults": []}), json!({"requests": [{"id": 1}], "faults": []}), Value::Null]
    {
        seen.joined.ledger = ledger;
        let judgement = seen.judged("Join");
        assert_eq!(judgement.verdict, Verdict::Unverified, "nothing was refused: {judgement:#?}");
        assert!(!judgement.unverified.is_empty());
    }
    // Without a fault it is the machine's own credential that is to be refused: asking is enough.
    join(&mut seen).faults.clear();
    seen.joined.ledger = json!({"requests": [{"id": 1}], "faults": []});
    assert_eq!(seen.judged("Join").verdict, Verdict::Pass);
    seen.joined.orphans.push("register-node-00a1b2".into());
    assert_eq!(seen.judged("Join").findings[0].code, "OrphanBranch");
}

#[test]
fn nothing_of_the_evidence_is_missed_in_silence() {
    // The ledger counts where the machine was to be refused.
    let of_the_ledger = ["/ledger", "/requests", "/requests/*", "/id", "/path", "/faults"];
    let for_people = ["/branch", "/author", "/message"];
    nothing_is_missed_in_silence("Join", &[&of_the_ledger[..], &for_people].concat());
}

#[test]
fn what_a_machine_pushed_is_shown_clean() {
    a_guest_s_words_are_shown_clean("Join", |_| ());
    a_guest_s_words_are_shown_clean("Join", |seen| {
        seen.joined.orphans.push("register".into());
        one(seen).schema_problems.push("/mac: wrong".into());
        out(seen).problem = Some("the branch is gone".into());
        out(seen).left.push("maintainers".into());
    });
    a_guest_s_words_are_shown_clean("Join", |seen| one(seen).payload = Some("name: [".into()));
}

/// Any JSON: what a broken or hostile runner could send.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        prop::sample::select(vec!["reached", "runner_fault", "userspace", "gpt", "git", "http"])
            .prop_map(Value::from),
    ];
    let key = prop_oneof![
        "[a-z_]{1,12}",
        prop::sample::select(vec![
            "watched",
            "outcome",
            "how",
            "disks",
            "problem",
            "registrations",
            "others"
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_evidence_never_panics_a_judge_and_never_passes(evidence in anything(), earlier in anything()) {
        let seen = Seen::good();
        for stage in STAGES {
            let name = stage.plan().name;
            let before = ["Install", "Reboot"].map(|stage| (StageName::from(stage), earlier.clone()));
            let judgement = seen.judged_after(name.as_str(), &evidence, &before);
            prop_assert_ne!(judgement.verdict, Verdict::Pass, "{}: {:?}", name, evidence);
        }
    }

    #[test]
    fn good_evidence_with_anything_in_one_place_never_panics_a_judge(
        stage in 0..STAGES.len(), place in any::<prop::sample::Index>(), other in anything(),
    ) {
        let seen = Seen::good();
        let name = STAGES[stage].plan().name;
        let whole = seen.evidence(name.as_str());
        let mut places = Vec::new();
        walk(&whole, &mut String::new(), &mut places);
        let place: &String = place.get(&places);
        let bent = with(&whole, place, other);
        let judgement = seen.judged_on(name.as_str(), &bent);
        let failed = judgement.checks.iter().any(|check| check.verdict == Verdict::Fail);
        prop_assert!(!(failed && judgement.verdict == Verdict::Pass), "{:?}", judgement);
    }
}
