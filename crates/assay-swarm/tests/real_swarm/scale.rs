//! Services stop, all of what runs of them, and come back as they were.

use std::time::Duration;

use assay_recipe::compose::model::{Mode, Service};
use assay_swarm::{SwarmError, TaskState, Wants};

use crate::world::{World, service, stack};

#[tokio::test]
async fn a_service_stops_and_comes_back_as_it_was() {
    let world = World::start().await;
    let swarm = world.swarm();
    let mode = |mode, replicas| {
        let mut service = service("sleep 1000");
        service.deploy.mode = mode;
        service.deploy.replicas = replicas;
        service
    };
    // It does not care for SIGTERM, and would be killed after an hour.
    let mut stubborn = service("trap '' TERM; while :; do sleep 1000; done");
    stubborn.stop_grace_period = Some(Duration::from_hours(1));
    let mut job = service("true");
    job.deploy.mode = Mode::ReplicatedJob;
    let services: [(&'static str, Service); 4] = [
        ("app", mode(Mode::Replicated, Some(2))),
        ("everywhere", mode(Mode::Global, None)),
        ("job", job),
        ("stubborn", stubborn),
    ];
    let compose = stack(services);
    let deployed = world.deploy("s", &compose).await;
    world.converge(&deployed).await;
    let limit = Duration::from_mins(1);

    let app = swarm.stop_service("s", "s_app", limit).await.unwrap();
    let everywhere = swarm.stop_service("s", "s_everywhere", limit).await.unwrap();
    assert_eq!((app.replicas, everywhere.replicas), (Some(2), None));
    assert_eq!(running(&world).await, ["s_stubborn"]);
    let error = swarm.stop_service("s", "s_job", limit).await.unwrap_err();
    assert!(error.to_string().contains("it is a job, which ends by itself"), "{error}");
    let error = swarm.stop_service("s", "s_nobody", limit).await.unwrap_err();
    assert!(matches!(error, SwarmError::Missing { kind: "service", .. }), "{error}");
    let error = swarm.stop_service("s", "s_stubborn", Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, SwarmError::Timeout { .. }), "{error}");
    let observed = swarm.observe("s").await.unwrap();
    let stubborn = observed.services.iter().find(|service| service.name == "s_stubborn").unwrap();
    assert_eq!(stubborn.wants, Wants::Running(1));

    swarm.start_again(&app).await.unwrap();
    swarm.start_again(&everywhere).await.unwrap();
    world.converge(&deployed).await;
    assert_eq!(running(&world).await, ["s_app", "s_app", "s_everywhere", "s_stubborn"]);
    world.daemon.stop().await.unwrap();
}

/// The services of what runs, each as often as it does.
async fn running(world: &World) -> Vec<String> {
    let seen = world.swarm().observe("s").await.unwrap();
    let runs = seen.tasks.iter().filter(|task| task.state == TaskState::Running);
    let name = |id: &str| seen.services.iter().find(|service| service.id == id).unwrap().name.clone();
    let mut names: Vec<String> = runs.map(|task| name(&task.service)).collect();
    names.sort();
    // Of one that is told to stop and does not, the old task runs beside the new one.
    names.dedup_by(|a, b| a == b && a == "s_stubborn");
    names
}
