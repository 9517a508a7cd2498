//! Stages: collected once, delivered until taken, never for longer than allowed.

use assay_agent::ExitReason;
use assay_api::agent::Command;
use assay_model::{Micros, Sha256};
use serde_json::{Value, json};

use crate::plane::{Fault, Plane, SERVER_TIME, Shown};
use crate::{Running, shutdown, stage};

#[tokio::test]
async fn a_run_from_enrolment_to_power_off() {
    for (from, until) in [(1970, 1971), (2099, 2100)] {
        let plane = Plane::showing(Shown::valid(from, until)).await;
        let agent = Running::start(&plane, None);
        plane.command(stage("Inventory", 1));
        plane.until("the result", |state| state.results.len() == 1).await;
        plane.command(Command::Hold { message: "smart failed".to_owned(), shell: None });
        plane.until("more polls", |state| state.polls > 4 && state.sensors.len() > 3).await;
        plane.command(shutdown());
        let (reason, said) = agent.end().await;
        assert_eq!(reason, ExitReason::PoweredOff);
        let state = plane.state();
        assert_eq!(
            said,
            [
                format!("assay: asking https://{}/ what to do", plane.address).as_str(),
                "assay: enrolled as run 12 (host web-3)",
                "assay: Inventory: started (try 1)",
                "assay: Inventory: reading SMBIOS",
                "assay: Inventory: collected",
                "assay: held: smart failed",
                "assay: switching off: the run is over",
            ]
        );
        assert_eq!(
            state.order,
            ["artifact inventory.json", "artifact smart-a_b.txt", "result Inventory 1", "off"]
        );
        let result = &state.results[0];
        assert_eq!((result.generation, &result.problem), (8, &None));
        assert_eq!(result.evidence, json!({"spec": {"format": 1}, "disks": 2}));
        let (query, body) = &state.artifacts[1];
        assert_eq!(
            *query,
            format!("stage=Inventory&attempt=1&name=smart-a_b.txt&sha256={}", Sha256::of(body))
        );
        assert_eq!(
            state.lines(),
            said.iter().map(|line| line.trim_start_matches("assay: ")).collect::<Vec<_>>()
        );

        // The machine says 1970 and the certificate says whatever it likes; every time is the server's.
        let hello = &state.hellos[0];
        assert_eq!((hello.clock, hello.token.as_str(), hello.credential.len()), (Micros(0), "once", 64));
        let times = state.sensors.iter().flat_map(|sensors| &sensors.batch.samples).map(|sample| sample.at);
        let times = times.chain(state.logs.iter().flat_map(|chunk| &chunk.lines).map(|line| line.at));
        for at in times {
            assert!(at.since(SERVER_TIME).as_seconds().abs() < 60.0, "{at:?}");
        }
    }
}

#[tokio::test]
async fn a_repeated_command_is_collected_once_even_after_its_result_was_taken() {
    let plane = Plane::start().await;
    let agent = Running::start(&plane, None);
    plane.command(stage("Inventory", 1));
    plane.until("the result", |state| state.results.len() == 1).await;
    let polls = plane.state().polls;
    plane.until("the command was repeated", |state| state.polls > polls + 4).await;
    plane.command(stage("Inventory", 2));
    plane.until("the next try", |state| state.results.len() == 2).await;
    plane.command(shutdown());
    assert_eq!(agent.machine.begun(), ["Inventory", "Inventory"]);
    assert_eq!(agent.end().await.0, ExitReason::PoweredOff);
    let attempts: Vec<u32> = plane.state().results.iter().map(|result| result.attempt).collect();
    assert_eq!(attempts, [1, 2]);
}

#[tokio::test]
async fn a_command_repeated_while_it_is_collected_changes_nothing() {
    let plane = Plane::start().await;
    let agent = Running::start(&plane, None);
    plane.command(stage("Hangs", 1));
    let busy = |state: &crate::plane::State| {
        let beat = state.beats.last();
        beat.is_some_and(|beat| {
            beat.stage == Some(("Hangs".into(), 1)) && beat.step.as_deref() == Some("reading SMBIOS")
        })
    };
    plane.until("a heartbeat tells the step", busy).await;
    let polls = plane.state().polls;
    plane.until("the command was repeated", |state| state.polls > polls + 4).await;
    assert_eq!((agent.machine.begun(), *agent.machine.stopped.borrow()), (vec!["Hangs".to_owned()], 0));
    // A new try takes the old one's place, and switching off stops it.
    plane.command(stage("Hangs", 2));
    agent.machine.stopped.subscribe().wait_for(|stopped| *stopped == 1).await.expect("stopped");
    plane
        .until("the new try", |state| {
            state.beats.last().is_some_and(|beat| beat.stage == Some(("Hangs".into(), 2)))
        })
        .await;
    plane.command(shutdown());
    let machine = std::sync::Arc::clone(&agent.machine);
    assert_eq!(agent.end().await.0, ExitReason::PoweredOff);
    assert_eq!((machine.begun().len(), *machine.stopped.borrow()), (2, 2));
    assert_eq!(plane.state().order, ["off"], "a stopped try has no result");
}

#[tokio::test]
async fn files_and_results_are_sent_until_they_are_taken() {
    let plane = Plane::start().await;
    plane.state().fault("artifact", &[Fault::Break, Fault::Refuse(503, "overloaded"), Fault::TakeAndBreak]);
    plane
        .state()
        .fault("result", &[Fault::Refuse(500, "internal"), Fault::TakeAndBreak, Fault::Refuse(429, "slow")]);
    let agent = Running::start(&plane, None);
    plane.command(stage("Inventory", 1));
    plane.until("the result was taken twice", |state| state.results.len() == 2).await;
    plane.command(shutdown());
    let (reason, said) = agent.end().await;
    assert_eq!(reason, ExitReason::PoweredOff);
    let state = plane.state();
    assert_eq!(
        state.order,
        [
            "artifact inventory.json",
            "artifact inventory.json",
            "artifact smart-a_b.txt",
            "result Inventory 1",
            "result Inventory 1",
            "off"
        ]
    );
    assert_eq!(state.results[0], state.results[1]);
    assert!(
        said.iter().any(|line| line.contains("answers because the test says so (overloaded); trying again")),
        "{said:#?}"
    );
    assert!(said.iter().any(|line| line.contains("answers again after")), "{said:#?}");
}

#[tokio::test]
async fn what_is_refused_for_good_is_given_up_and_said() {
    let plane = Plane::start().await;
    plane.state().fault("artifact", &[Fault::Refuse(422, "invalid"), Fault::Refuse(413, "too_large")]);
    plane.state().fault("result", &[Fault::Refuse(413, "too_large")]);
    let agent = Running::start(&plane, None);
    plane.command(stage("Inventory", 1));
    plane.until("the result", |state| state.results.len() == 1).await;
    plane.command(stage("SMART", 1));
    plane.until("the next result", |state| state.results.len() == 2).await;
    plane.command(shutdown());
    let said = agent.end().await.1;
    let state = plane.state();
    assert_eq!(state.order[..2], ["result Inventory 1", "artifact inventory.json"]);
    let replaced = &state.results[0];
    assert_eq!(replaced.evidence, Value::Null);
    let problem = replaced.problem.as_deref().expect("says so");
    assert!(problem.starts_with("the evidence has ") && problem.contains("too_large"), "{problem}");
    assert_eq!(state.results[1].problem, None);
    for part in [
        "Inventory: the file inventory.json was refused",
        "Inventory: the file smart-a_b.txt (300000 bytes) is too large",
    ] {
        assert!(said.iter().any(|line| line.contains(part)), "{part}: {said:#?}");
        assert!(state.lines().iter().any(|line| line.contains(part)), "{part}");
    }
}

#[tokio::test]
async fn a_collector_that_cannot_do_its_work_is_a_result_that_says_why() {
    let plane = Plane::start().await;
    let agent = Running::start(&plane, None);
    for (name, timeout_s, expected) in [
        ("Fails", 500, "no smartctl here"),
        ("Panics", 500, "the collector broke off: "),
        ("Hangs", 1, "not finished after 1 s, stopped. It was at: reading SMBIOS."),
        ("Huge", 500, "the evidence has 9437"),
    ] {
        plane.command(Command::Stage {
            stage: name.into(),
            attempt: 1,
            generation: 8,
            timeout_s,
            input: Box::default(),
        });
        plane.until(name, |state| state.results.last().is_some_and(|result| result.stage == name)).await;
        let result = plane.state().results.last().expect("one").clone();
        assert!(result.problem.as_deref().is_some_and(|problem| problem.starts_with(expected)), "{result:?}");
        assert_eq!(result.evidence, Value::Null);
    }
    assert_eq!(*agent.machine.stopped.borrow(), 1);
    plane.command(shutdown());
    assert_eq!(agent.end().await.0, ExitReason::PoweredOff);
    assert_eq!(plane.state().results.len(), 4);
}
