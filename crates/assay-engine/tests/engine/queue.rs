//! More runs than slots: they go one after the other, and each says why it waits.

use assay_engine::live::Offer;
use assay_model::{DecisionKind, HostId, Mac, RunId, RunState};
use assay_store::HostRow;
use assay_testkit::Bench;
use serde_json::json;

async fn another(bench: &Bench, n: u8) -> RunId {
    let host = HostRow {
        id: HostId(uuid::Uuid::now_v7()),
        name: format!("db-{n}"),
        macs: vec![Mac([2, 0, 0, 0, 1, n])],
        spec_yaml: String::new(),
        power: json!({ "method": "manual" }),
        created_at: bench.engine.now(),
    };
    bench.engine.store().host_put(&host).await.expect("stored");
    bench.engine.vet(&host, Bench::options()).await.expect("queued").id
}

#[tokio::test]
async fn runs_take_their_turn() {
    let mut bench = Bench::new().await;
    bench.runner_present(false);
    let offer = Offer { power: ["manual".to_owned()].into(), capacity: [("netboot".to_owned(), 1)].into() };
    let _runner = bench.engine.offering("small", offer);
    let first = bench.vet().await;
    let (second, third) = (another(&bench, 1).await, another(&bench, 2).await);
    bench.turn().await;
    assert_eq!(bench.view(first).await.state(), RunState::Booting);
    let why = async |run| bench.engine.waits_for(&*bench.view(run).await);
    assert_eq!(why(first).await, None);
    assert_eq!(
        why(second).await.as_deref(),
        Some("1st in line; needs 1 netboot, 0 free; behind run 1 (web-3, Booting)")
    );
    assert_eq!(
        why(third).await.as_deref(),
        Some("2nd in line; needs 1 netboot, 0 free; behind run 2 (db-1, waits, too)")
    );
    // A held machine keeps no slot: nobody waits behind a decision.
    bench.power(first, false).await;
    assert_eq!(bench.view(first).await.state(), RunState::FailedHolding);
    bench.turn().await;
    assert_eq!(bench.view(second).await.state(), RunState::Booting);
    assert_eq!(bench.view(third).await.state(), RunState::Queued);
    bench.decide(second, DecisionKind::Cancel, "").await.expect("booting");
    bench.power(second, true).await;
    bench.turn().await;
    assert_eq!(bench.view(third).await.state(), RunState::Booting);
    assert_eq!(why(third).await, None);
}

#[tokio::test]
async fn a_hold_is_told_of_before_it_ends_and_a_stuck_run_too_each_once() {
    let mut bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &crate::wrong_disk()).await;
    bench.after(86_400 - 3601).await;
    assert!(!bench.news(run).await.contains(&"HoldExpiring".to_owned()));
    for _ in 0..3 {
        bench.after(1).await;
    }
    bench.restart().await;
    bench.after(20).await;
    let news = bench.news(run).await;
    assert_eq!(news.iter().filter(|n| *n == "HoldExpiring").count(), 1, "{news:?}");

    let mut bench = Bench::new().await;
    bench.runner_present(false);
    let run = bench.vet().await;
    bench.after(3600).await;
    bench.restart().await;
    bench.runner_present(false);
    bench.after(3600).await;
    assert_eq!(bench.news(run).await, ["RunStale"]);
}

#[tokio::test]
async fn a_part_in_two_machines_is_found() {
    use assay_model::{RunId, StageName};
    use assay_testkit::canned;

    let bench = Bench::new().await;
    let (_, agent) = bench.running().await;
    bench.up_to(&agent, "SMART").await;
    let second = another(&bench, 1).await;
    bench.turn().await;
    bench.power(second, true).await;
    bench.clock.advance(assay_model::Micros::seconds(60));
    let agent = bench.enrol_as(Mac([2, 0, 0, 0, 1, 1])).await;
    let open = async |run: RunId| {
        let view = bench.view(run).await;
        view.open_attempt()
            .map(|(stage, a)| (stage.plan.name.clone(), a.attempt, a.generation))
            .expect("open")
    };
    let (stage, attempt, generation) = open(second).await;
    assert_eq!(stage, StageName::from("Inventory"));
    let mut inventory = canned::inventory();
    inventory.disks[0].serial = Some("OTHER".to_owned());
    inventory.nics[0].mac = Some("02:00:00:00:01:01".to_owned());
    let evidence = serde_json::to_value(inventory).expect("plain");
    bench.result(&agent, "Inventory", attempt, generation, &evidence).await.expect("taken");
    bench.turn().await;
    let view = bench.check(second).await;
    let found: Vec<_> = view.findings().into_iter().filter(|f| f.code == "PartSeenTwice").collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].message, "disk S2 was found in web-3 as well (run 1)");
}
