//! Power jobs: done once, remembered, and told in plain words.

use super::*;
use assay_model::RunId;
use serde_json::json;

fn power(dir: &Path) -> Power {
    let jobs = dir.join("jobs");
    fs::create_dir_all(&jobs).expect("made");
    let secrets = dir.join(SECRETS);
    Power { lab: None, jobs, secrets, site: Site::default(), media: None, digests: Digests::default() }
}

fn run() -> RunId {
    "01900000-0000-7000-8000-000000000001".parse().expect("valid")
}

#[tokio::test]
async fn a_job_is_done_once_and_its_outcome_told_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let power = power(dir.path());
    let first = power.once(run(), "1-power-1", &json!({"method": "manual"}), PowerAction::Cycle, None).await;
    assert!(first.ok);
    // The same job with settings that would fail: nothing is done, the first outcome is told.
    let again = power.once(run(), "1-power-1", &json!({"method": "lab"}), PowerAction::Cycle, None).await;
    assert_eq!(again, first);
    power.forget(run());
    let anew = power.once(run(), "1-power-1", &json!({"method": "nonsense"}), PowerAction::Cycle, None).await;
    assert!(!anew.ok);
}

#[tokio::test]
async fn an_interrupted_job_is_not_done_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let power = power(dir.path());
    write(&power.job_file(run(), "1-power-1"), &BEGUN).expect("written");
    let outcome =
        power.once(run(), "1-power-1", &json!({"method": "manual"}), PowerAction::Cycle, None).await;
    assert!(outcome.message.contains("not known"), "{}", outcome.message);
}

#[tokio::test]
async fn a_machine_that_cannot_be_switched_says_why() {
    let dir = tempfile::tempdir().expect("tempdir");
    let power = power(dir.path());
    let mut said = Vec::new();
    for (job, settings, action) in [
        ("1", json!({"method": "manual"}), PowerAction::Off),
        ("2", json!({"method": "lab", "machine": "healthy-bios"}), PowerAction::Cycle),
        ("3", json!({"method": "wol", "mac": "0c:c4:7a:12:34:56"}), PowerAction::Off),
        ("4", json!({"method": "ipmi", "address": "10.0.0.1", "credential": "rack1"}), PowerAction::Cycle),
        ("5", json!({"method": "ipmi", "address": "10.0.0.1"}), PowerAction::Cycle),
        ("6", json!({"method": "pigeon"}), PowerAction::Cycle),
    ] {
        let outcome = power.once(run(), job, &settings, action, None).await;
        assert!(!outcome.ok, "{settings}");
        said.push(outcome.message);
    }
    let expected = [
        "this machine is switched by hand",
        "this runner has no lab",
        "Wake-on-LAN can only switch on",
        "bmc-secrets.toml: there is no such file on the runner",
        "missing field `credential`",
        "need a `method`",
    ];
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.contains(expected), "{said}");
    }
}

const LAB: &str = "healthy-bios";

/// A runner with the lab's machine files, where nothing is switched on.
fn lab_power(dir: &Path) -> (Power, Value, Medium) {
    let machines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/machines");
    let lab = Lab::open(LabConfig::new(dir.join("lab"), machines)).expect("a lab");
    let image = dir.join("small.iso");
    fs::write(&image, "an image").expect("written");
    let medium = Medium { image, sha256: assay_model::Sha256::of(b"an image"), bytes: 8 };
    let power = Power { lab: Some(lab), ..power(dir) };
    (power, json!({"method": "lab", "machine": LAB}), medium)
}

fn inserted(power: &Power) -> Option<PathBuf> {
    power.lab.as_ref().expect("a lab").medium(LAB).expect("a machine")
}

#[tokio::test]
async fn only_the_image_that_the_run_looked_at_is_inserted() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (power, settings, medium) = lab_power(dir.path());
    let other = Medium { sha256: assay_model::Sha256::of(b"another"), ..medium.clone() };
    let outcome = power.once(run(), "1", &settings, PowerAction::Medium, Some(&other)).await;
    assert!(!outcome.ok && outcome.message.contains("another image by now"), "{}", outcome.message);
    // What was asked for is known after a restart, whatever came of it, until it is seen to be out.
    let (restarted, _, _) = lab_power(dir.path());
    assert_eq!(restarted.inserted(run()), Some(("1".to_owned(), other.clone())));
    assert!(restarted.eject(run(), "1", &settings, &other).await.ok);
    assert_eq!(power.inserted(run()), None);
    let none = power.once(run(), "2", &settings, PowerAction::Medium, None).await;
    assert!(!none.ok && none.message.contains("no medium was named"), "{}", none.message);
    let by_hand =
        power.once(run(), "3", &json!({"method": "manual"}), PowerAction::Medium, Some(&medium)).await;
    assert!(!by_hand.ok && by_hand.message.contains("nobody can insert a medium"), "{}", by_hand.message);
    assert_eq!(inserted(&power), None);
}

#[tokio::test]
async fn an_interrupted_insertion_is_looked_at_and_not_repeated() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (power, settings, medium) = lab_power(dir.path());
    let again = async |job: &str| {
        write(&power.job_file(run(), job), &BEGUN).expect("written");
        power.once(run(), job, &settings, PowerAction::Medium, Some(&medium)).await
    };
    let outcome = again("1").await;
    assert!(!outcome.ok && outcome.message.contains("it is not in; try again"), "{}", outcome.message);
    assert_eq!(inserted(&power), None);
    let lab = power.lab.as_ref().expect("a lab");
    lab.insert_medium(LAB, &medium.image).await.expect("in");
    let outcome = again("2").await;
    assert!(outcome.ok && outcome.message.contains("the medium is in"), "{}", outcome.message);
}

#[tokio::test]
async fn what_was_inserted_here_is_ejected_and_nothing_else() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (power, settings, medium) = lab_power(dir.path());
    let lab = power.lab.as_ref().expect("a lab");
    let theirs = dir.path().join("theirs.iso");
    fs::write(&theirs, "another image").expect("written");
    lab.insert_medium(LAB, &theirs).await.expect("in");
    let outcome = power.eject(run(), "1", &settings, &medium).await;
    assert!(outcome.ok && outcome.message.contains("is not in the drive"), "{}", outcome.message);
    assert_eq!(inserted(&power), Some(theirs));
    lab.eject_medium(LAB).await.expect("out");

    lab.insert_medium(LAB, &medium.image).await.expect("in");
    let outcome = power.eject(run(), "2", &settings, &medium).await;
    assert!(outcome.ok && outcome.message.contains("is ejected"), "{}", outcome.message);
    assert_eq!(inserted(&power), None);
    // Told again, also when it could not be done any more.
    assert_eq!(power.eject(run(), "2", &json!({"method": "manual"}), &medium).await, outcome);
    assert!(!power.eject(run(), "3", &json!({"method": "manual"}), &medium).await.ok);
}
