//! Keys on disk and the statement they sign.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::common;
use assay_model::event::Sealed;
use assay_model::{EventBody, Sha256};
use assay_report::{SigningKey, attest};

#[test]
fn a_key_is_made_once_kept_private_and_read_back() {
    let scratch = tempfile::tempdir().expect("scratch");
    let path = scratch.path().join("signing.pem");
    let made = SigningKey::load_or_create(&path).expect("made");
    let read = SigningKey::load_or_create(&path).expect("read");
    assert_eq!(made.key_id(), read.key_id());
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(scratch.path()).expect("a folder").count(), 1, "nothing else is left behind");
    let pem = fs::read_to_string(&path).expect("text");
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert!(!format!("{made:?}").contains(pem.lines().nth(1).expect("a line")), "debug output has no secret");

    fs::write(&path, "not a key").expect("written");
    let error = SigningKey::load_or_create(&path).expect_err("refused").to_string();
    assert!(error.contains("signing.pem") && error.contains("restore it from a backup"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("text"), "not a key", "never overwritten");
}

#[test]
fn many_starts_at_once_end_with_one_key() {
    let scratch = tempfile::tempdir().expect("scratch");
    let path = scratch.path().join("signing.pem");
    let ids: std::collections::BTreeSet<_> = std::thread::scope(|s| {
        let threads: Vec<_> =
            (0..8).map(|_| s.spawn(|| SigningKey::load_or_create(&path).expect("a key").key_id())).collect();
        threads.into_iter().map(|t| t.join().expect("no panic")).collect()
    });
    assert_eq!(ids.len(), 1);
}

#[test]
fn the_statement_is_in_totos_and_says_no_more_than_the_run() {
    let key = SigningKey::generate().expect("random");
    let mut told = Vec::new();
    for story in [
        common::passed(&key),
        common::overridden(&key),
        common::cancelled(&key),
        common::muted(&key),
        common::begun_late(&key),
    ] {
        let Some(EventBody::Sealed(seal)) = story.events().pop().map(|e| e.body) else {
            panic!("not sealed")
        };
        let Sealed { head, envelope, .. } = *seal;
        let s = attest::verify_envelope(&envelope, &[key.public()]).expect("signed");
        assert_eq!(s["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(s["predicateType"], "https://in-toto.io/attestation/test-result/v0.1");
        assert_eq!(s["subject"][0]["digest"]["sha256"], head.to_string());
        assert_ne!(head, Sha256::ZERO);
        let p = &s["predicate"];
        told.push(format!(
            "{} {} passed {} warned {} failed {}",
            s["subject"][0]["name"], p["result"], p["passedTests"], p["warnedTests"], p["failedTests"]
        ));
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    "assay-run-41" "PASSED" passed ["Inventory","SpecValidate","SMART","CPUStress"] warned ["Network"] failed []
    "assay-run-42" "WARNED" passed ["Inventory","SMART","CPUStress","Network"] warned ["SpecValidate"] failed []
    "assay-run-44" "FAILED" passed [] warned [] failed []
    "assay-run-45" "WARNED" passed ["Inventory"] warned [] failed []
    "assay-run-47" "WARNED" passed ["Inventory"] warned [] failed []
    "#);
}
