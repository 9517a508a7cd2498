//! Outages: the control plane goes away, comes back, breaks connections, says no; no reading is lost or doubled.

use std::sync::Arc;

use assay_agent::{Agent, ExitReason};

use crate::machine::{Canned, Said, hurried};
use crate::plane::{Fault, Plane, State};
use crate::{Running, shutdown, stage};

/// Every batch once, in order; every reading once, in order.
fn whole(state: &State) -> u64 {
    let seqs: Vec<i64> = state.sensors.iter().map(|sensors| sensors.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>());
    let samples: Vec<_> = state.sensors.iter().flat_map(|sensors| &sensors.batch.samples).collect();
    let readings: Vec<Option<f64>> = samples.iter().map(|sample| sample.values[0]).collect();
    assert_eq!(readings, (1..=readings.len()).map(|count| Some(count as f64)).collect::<Vec<_>>());
    assert!(samples.is_sorted_by_key(|sample| sample.at));
    assert!(samples.iter().all(|sample| sample.values[1].is_none()), "the dead sensor stays in its place");
    let chunks: Vec<i64> = state.logs.iter().map(|chunk| chunk.seq).collect();
    assert_eq!(chunks, (1..=chunks.len() as i64).collect::<Vec<_>>());
    readings.len() as u64
}

/// Waits until the machine was read so many times more: what goes on while nobody listens.
async fn read_on(agent: &Running, more: u64) {
    let mut readings = agent.machine.readings.subscribe();
    let goal = *readings.borrow() + more;
    readings.wait_for(|count| *count >= goal).await.expect("the machine stays");
}

#[tokio::test]
async fn no_reading_is_lost_or_doubled_whatever_the_control_plane_does() {
    let mut plane = Plane::start().await;
    let dir = tempfile::tempdir().expect("folder");
    for dir in [None, Some(dir.path())] {
        *plane.state() = State::default();
        let agent = Running::start(&plane, dir);
        plane.until("readings flow", |state| state.sensors.len() >= 3).await;
        plane.pause().await;
        read_on(&agent, 20).await;
        plane.state().fault(
            "sensor",
            &[
                Fault::TakeAndBreak,
                Fault::Refuse(503, "starting"),
                Fault::Break,
                Fault::TakeAndBreak,
                Fault::Refuse(404, "not_found"),
                Fault::Refuse(500, "internal"),
            ],
        );
        plane.state().fault("log", &[Fault::Break, Fault::TakeAndBreak, Fault::Refuse(502, "gateway")]);
        plane.resume().await;
        let before = plane.state().sensors.len();
        plane.until("the backlog and more", |state| state.sensors.len() > before + 25).await;
        plane.pause().await;
        read_on(&agent, 5).await;
        plane.resume().await;
        plane.command(shutdown());
        let machine = Arc::clone(&agent.machine);
        let (reason, said) = agent.end().await;
        assert_eq!(reason, ExitReason::PoweredOff);
        // The last reading may have been under way when the machine was told to go.
        let made = *machine.readings.borrow();
        let delivered = whole(&plane.state());
        assert!(delivered == made || delivered + 1 == made, "{delivered} of {made}");
        assert!(said.iter().any(|line| line.contains("cannot be reached: Connection refused")), "{said:#?}");
    }
}

#[tokio::test]
async fn readings_before_the_enrolment_are_delivered_with_their_time() {
    let mut plane = Plane::start().await;
    plane.pause().await;
    let agent = Running::start(&plane, None);
    read_on(&agent, 3).await;
    plane.resume().await;
    plane.until("readings", |state| state.sensors.len() >= 2).await;
    let first = plane.state().sensors[0].clone();
    assert!(first.batch.samples.len() >= 3, "{first:?}");
    assert!(first.batch.samples[0].at < crate::plane::SERVER_TIME, "before the hello");
    plane.command(shutdown());
    assert_eq!(agent.end().await.0, ExitReason::PoweredOff);
    whole(&plane.state());
}

#[tokio::test]
async fn a_lost_answer_to_the_hello_is_asked_for_again() {
    let plane = Plane::start().await;
    plane.state().fault("hello", &[Fault::TakeAndBreak, Fault::Refuse(503, "starting")]);
    let agent = Running::start(&plane, None);
    plane.until("enrolled", |state| !state.beats.is_empty()).await;
    plane.command(shutdown());
    assert_eq!(agent.end().await.0, ExitReason::PoweredOff);
    let state = plane.state();
    assert_eq!((state.hellos.len(), state.unauthorised), (2, 0));
    assert_eq!(state.hellos[0].credential, state.hellos[1].credential);
}

#[tokio::test]
async fn an_agent_that_was_killed_goes_on_where_it_was() {
    let mut plane = Plane::start().await;
    let dir = tempfile::tempdir().expect("folder");
    let agent = Running::start(&plane, Some(dir.path()));
    plane.until("readings flow", |state| state.sensors.len() >= 2).await;
    // The result cannot be delivered, so it lies in the spool when the agent dies.
    plane.state().fault("result", &vec![Fault::Refuse(503, "starting"); 10_000]);
    plane.command(stage("Inventory", 1));
    plane.until("its files", |state| state.artifacts.len() == 2).await;
    plane.until("it was tried", |state| state.faults["result"].len() < 10_000).await;
    plane.pause().await;
    read_on(&agent, 4).await;
    agent.kill().await;
    plane.state().faults.clear();
    plane.resume().await;

    let again = Running::start(&plane, Some(dir.path()));
    plane.until("the result", |state| state.results.len() == 1).await;
    let polls = plane.state().polls;
    plane.until("the command was repeated", |state| state.polls > polls + 3).await;
    let before = plane.state().sensors.len();
    plane.until("more readings", |state| state.sensors.len() > before + 2).await;
    plane.command(shutdown());
    let machine = Arc::clone(&again.machine);
    let (reason, said) = again.end().await;
    assert_eq!(reason, ExitReason::PoweredOff);
    assert_eq!(machine.begun(), [""; 0], "nothing is collected twice");
    assert!(said[0].contains("working on run 12 (web-3)"), "{said:#?}");
    let state = plane.state();
    assert_eq!((state.hellos.len(), state.results.len()), (1, 1));
    let seqs: Vec<i64> = state.sensors.iter().map(|sensors| sensors.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>());
    let times: Vec<_> = state.sensors.iter().flat_map(|s| &s.batch.samples).map(|sample| sample.at).collect();
    assert!(times.is_sorted(), "one time over both lives");
}

#[tokio::test]
async fn a_try_that_ends_the_agent_each_time_is_given_up() {
    let plane = Plane::start().await;
    let dir = tempfile::tempdir().expect("folder");
    plane.command(stage("Hangs", 1));
    for life in 1..=3 {
        let agent = Running::start(&plane, Some(dir.path()));
        let beats = plane.state().beats.len();
        plane.until("busy", |state| state.beats[beats..].iter().any(|beat| beat.step.is_some())).await;
        assert_eq!(agent.machine.begun().len(), 1, "life {life}");
        agent.kill().await;
    }
    let agent = Running::start(&plane, Some(dir.path()));
    plane.until("a result", |state| state.results.len() == 1).await;
    assert!(agent.machine.begun().is_empty());
    let problem = plane.state().results[0].problem.clone().expect("says so");
    assert!(problem.starts_with("the agent ended 3 times while it collected this"), "{problem}");
    agent.kill().await;
}

#[tokio::test]
async fn a_full_spool_loses_the_newest_says_so_and_leaves_no_gap_in_the_numbers() {
    let mut plane = Plane::start().await;
    let (machine, said) = (Arc::new(Canned::default()), Said::default());
    let mut settings = hurried(&plane, None, &said);
    settings.bounds.sensors = 1000;
    let task = tokio::spawn(Agent::run(settings, Arc::clone(&machine) as _));
    let agent = Running { machine, said, task };
    plane.until("readings flow", |state| state.sensors.len() >= 2).await;
    plane.pause().await;
    read_on(&agent, 30).await;
    plane.resume().await;
    plane.until("it is said", |state| state.lines().iter().any(|line| line.contains("are kept again"))).await;
    let before = plane.state().sensors.len();
    plane.until("more readings", |state| state.sensors.len() > before + 2).await;
    plane.command(shutdown());
    let (reason, said) = agent.end().await;
    assert_eq!(reason, ExitReason::PoweredOff);
    for part in ["the spool for sensor readings is full", "sensor readings are kept again; "] {
        assert_eq!(said.iter().filter(|line| line.contains(part)).count(), 1, "{said:#?}");
    }
    let state = plane.state();
    let seqs: Vec<i64> = state.sensors.iter().map(|sensors| sensors.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>());
}
