//! The signed statement of a run's verdict: an in-toto Statement with the test-result predicate in
//! a DSSE envelope. Its subject is the journal itself, named by the hash of its last event, so
//! that whoever trusts the statement can check everything behind it.

use assay_model::event::Sealed;
use assay_model::{RunResult, RunView, Sha256, Verdict};
use serde_json::{Value, json};

use crate::envelope::{self, EnvelopeError};
use crate::key::{PublicKey, SigningKey};

/// What the envelope carries.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The statement's own type.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// What it says about its subject.
pub const PREDICATE_TYPE: &str = "https://in-toto.io/attestation/test-result/v0.1";

/// Seals a finished run: signs the statement over the journal's head.
///
/// `view` is the fold of the journal up to `head`; the result goes in as the body of
/// `EventBody::Sealed`.
pub fn seal(view: &RunView, head: Sha256, key: &SigningKey) -> Sealed {
    let payload = serde_json::to_vec(&statement(view, head)).expect("a statement is plain JSON");
    Sealed {
        head,
        result: view.result,
        overridden: view.overridden,
        envelope: envelope::sign(PAYLOAD_TYPE, &payload, key),
    }
}

/// The statement about a run whose journal has this head.
///
/// `result` is `PASSED` only for a pass in which nothing was waived, no check was switched off and no stage left out;
/// such a pass is `WARNED`. Everything else, a run without a result included, is `FAILED`: the
/// predicate has no fourth word, and what did not pass must not be taken for a pass. `assay` beside
/// it keeps the exact state and result.
pub fn statement(view: &RunView, head: Sha256) -> Value {
    let created = &view.created;
    let spec = serde_json::to_vec(&created.spec).expect("a spec is plain JSON");
    let (passed, warned, failed) = stages(view);
    let mut statement = json!({
        "_type": STATEMENT_TYPE,
        "subject": [{
            "name": format!("assay-run-{}", created.number),
            "digest": {"sha256": head},
        }],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": result(view),
            "configuration": [
                {"name": "expected-spec", "digest": {"sha256": Sha256::of(&spec)}},
                {"name": "assay", "annotations": {"version": created.harness, "profile": created.profile}},
            ],
            "passedTests": passed,
            "warnedTests": warned,
            "failedTests": failed,
            "assay": {
                "run": view.id,
                "number": created.number,
                "pipeline": created.pipeline,
                "profile": created.profile,
                "host": created.target.id,
                "target": created.target.name,
                "state": view.state(),
                "result": view.result,
                "overridden": view.overridden,
                "failedStage": view.failed_stage(),
                "muted": created.muted,
            },
        },
    });
    if !created.options.left_out.is_empty() {
        statement["predicate"]["assay"]["leftOut"] = json!(created.options.left_out);
    }
    if let Some(phase) = &created.options.from_phase {
        statement["predicate"]["assay"]["fromPhase"] = json!(phase);
    }
    statement
}

/// Checks an attestation against the accepted keys; returns the statement in it.
pub fn verify_envelope(envelope: &Value, accepted: &[PublicKey]) -> Result<Value, EnvelopeError> {
    let opened = envelope::open(envelope, PAYLOAD_TYPE, accepted)?;
    let statement: Value = serde_json::from_slice(&opened.payload)
        .map_err(|e| EnvelopeError::Shape(format!("its payload is not JSON: {e}")))?;
    let found = statement.get("_type").and_then(Value::as_str).unwrap_or("no type");
    if found != STATEMENT_TYPE {
        return Err(EnvelopeError::Type { expected: STATEMENT_TYPE.to_owned(), found: found.to_owned() });
    }
    Ok(statement)
}

/// Whether a sealed run's attestation is by an accepted key and says what the run's journal says; what is wrong
/// otherwise. A run that is not sealed has nothing to check.
pub fn check_seal(view: &RunView, accepted: &[PublicKey]) -> Result<(), String> {
    let Some(seal) = &view.seal else { return Ok(()) };
    let signed = verify_envelope(&seal.envelope, accepted).map_err(|e| e.to_string())?;
    let differing = differences(&signed, view, seal.head);
    if differing.is_empty() {
        return Ok(());
    }
    Err(format!("the signed statement and the journal differ in {}", differing.join(", ")))
}

/// Where a signed statement and the run that its journal tells of differ: the JSON pointers of the
/// fields. Empty when they agree.
pub(crate) fn differences(signed: &Value, view: &RunView, head: Sha256) -> Vec<&'static str> {
    const COMPARED: [&str; 8] = [
        "/subject",
        "/predicateType",
        "/predicate/result",
        "/predicate/configuration",
        "/predicate/passedTests",
        "/predicate/warnedTests",
        "/predicate/failedTests",
        "/predicate/assay",
    ];
    let told = statement(view, head);
    COMPARED.into_iter().filter(|path| signed.pointer(path) != told.pointer(path)).collect()
}

fn result(view: &RunView) -> &'static str {
    match view.result {
        Some(RunResult::Pass) if view.overridden || !view.created.is_whole() => "WARNED",
        Some(RunResult::Pass) => "PASSED",
        Some(RunResult::Fail) | None => "FAILED",
    }
}

/// The stages that passed; those to look at twice (waived, or optional and not verified); those
/// that failed. Skipped ones and those that were never reached are in none of them.
fn stages(view: &RunView) -> (Vec<&str>, Vec<&str>, Vec<&str>) {
    let (mut passed, mut warned, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for stage in &view.stages {
        let name = stage.plan.name.as_str();
        let Some(verdict) = stage.verdict() else { continue };
        match verdict {
            _ if stage.waived => warned.push(name),
            Verdict::Pass => passed.push(name),
            v if v.blocks(stage.plan.required) => failed.push(name),
            Verdict::Unverified => warned.push(name),
            Verdict::Skip | Verdict::Fail | Verdict::Error => {}
        }
    }
    (passed, warned, failed)
}
