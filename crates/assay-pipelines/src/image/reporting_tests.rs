//! `Reporting`: a run whose record is not whole proves nothing.

use assay_model::Verdict;
use serde_json::json;

use super::super::fixtures::{Row, Seen, each_raises_its_own_code};

const ROWS: &[Row] = &[
    ("ChainBroken", |seen| seen.record["chain_ok"] = json!(false)),
    ("ArtifactMissing", |seen| seen.record["missing_artifacts"] = json!(["installer-serial.txt"])),
    ("ArtifactAltered", |seen| seen.record["altered_artifacts"] = json!(["control-plane.json"])),
];

#[test]
fn each_fault_of_a_record_has_its_code() {
    each_raises_its_own_code("Reporting", ROWS);
}

#[test]
fn a_record_of_nothing_is_no_pass() {
    let mut seen = Seen::good();
    seen.record["events"] = json!(0);
    assert_eq!(seen.judged("Reporting").verdict, Verdict::Fail);
    seen.record = json!({});
    assert_eq!(seen.judged("Reporting").verdict, Verdict::Error);
}
