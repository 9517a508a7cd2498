//! Permits that are off in any way: nothing is written, and it is said.

use assay_model::host::permit::{ErasePermit, GuardAnswer, SignedPermit};
use assay_model::host::storage::{PermitOutcome, RefusalKind};
use assay_model::{Micros, RunId, Verdict};
use ed25519_dalek::SigningKey;

use crate::bench::{Bench, Disk, key, signed};
use crate::{ready, refuses};

/// Runs the stage with this permit, which must not hold.
async fn is_invalid(bench: &mut Bench, disk: &Disk, permit: Option<SignedPermit>, why: &str) {
    (bench.allowed, bench.input.permit) = (None, permit);
    let before = disk.digest();
    let outcome = bench.run().await;
    assert_eq!((outcome.judgement.verdict, outcome.codes()), (Verdict::Fail, vec!["PermitInvalid"]), "{why}");
    assert!(outcome.judgement.message.contains(why), "{}", outcome.judgement.message);
    assert_eq!((disk.digest(), outcome.evidence.written), (before, false), "{why}: not one byte may change");
}

#[tokio::test]
async fn a_permit_that_is_off_in_any_way() {
    type Change = Box<dyn Fn(&mut ErasePermit)>;
    let (mut bench, disk) = ready().await;
    let good = bench.permit(&["S1".to_owned()], &[]);
    let stranger = RunId(uuid::Uuid::now_v7());
    let cases: [(&str, Change); 6] = [
        ("it is for run", Box::new(move |permit| permit.run = stranger)),
        ("it is for the host `web-4`", Box::new(|permit| permit.host = "web-4".to_owned())),
        ("it is for another try (generation 3", Box::new(|permit| permit.generation = 3)),
        ("it is for another try (generation 5", Box::new(|permit| permit.generation = 5)),
        ("it ended at", Box::new(|permit| permit.expires = Micros::seconds(1000))),
        ("it was used before", Box::new(|permit| permit.nonce.clear())),
    ];
    for (why, change) in cases {
        let mut permit = good.clone();
        change(&mut permit);
        let permit = signed(&permit, &key());
        is_invalid(&mut bench, &disk, Some(permit), why).await;
    }
    let sound = signed(&good, &key());
    let tampered = SignedPermit { permit: sound.permit.replace("\"S1\"", "\"S1\",\"S2\""), ..sound.clone() };
    is_invalid(&mut bench, &disk, Some(tampered), "signature").await;
    let foreign = signed(&good, &SigningKey::from_bytes(&[8; 32]));
    is_invalid(&mut bench, &disk, Some(foreign), "signature").await;
    is_invalid(&mut bench, &disk, None, "no erase permit").await;
    // Nothing was spent by all that: the good one still holds, and holds once.
    bench.input.permit = Some(sound.clone());
    assert!(bench.run().await.evidence.written);
    is_invalid(&mut bench, &disk, Some(sound), "it was used before").await;
}

#[tokio::test]
async fn a_permit_for_another_disk() {
    let (mut bench, disk) = ready().await;
    bench.allow(&["S2"], &["S1"]);
    refuses(&bench, &disk, RefusalKind::NotPermitted, "PermitInvalid").await;
}

#[tokio::test]
async fn a_cluster_that_does_not_let_the_machine_go() {
    let (mut bench, disk) = ready().await;
    let before = disk.digest();
    let node = || "pve3".to_owned();
    let own = ["S1".to_owned()];
    bench.allowed = None;
    for guard in [
        GuardAnswer::Live { node: node() },
        GuardAnswer::Unreachable { node: node(), why: "timed out".to_owned() },
        GuardAnswer::Undeclared,
    ] {
        // Even if the permit named the disk all the same.
        let permit = ErasePermit { guard: guard.clone(), ..bench.permit(&own, &own) };
        bench.input.permit = Some(signed(&permit, &key()));
        let outcome = bench.run().await;
        assert_ne!(outcome.judgement.verdict, Verdict::Pass, "{guard}");
        assert_eq!(outcome.evidence.permit, PermitOutcome::Valid { guard });
        assert_eq!((disk.digest(), outcome.evidence.written), (before, false));
    }
    // And a spec that says nothing of a cluster stops the agent by itself.
    bench.spec.cluster = None;
    bench.allow(&["S1"], &[]);
    let outcome = bench.run().await;
    assert_eq!(
        (outcome.judgement.verdict, outcome.codes()),
        (Verdict::Unverified, vec!["ClusterUndeclared"])
    );
    assert_eq!((disk.digest(), outcome.evidence.written), (before, false));
}
