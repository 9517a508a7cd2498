//! Stacks that never become what they are to be, and those that only look so: each is told for what it is.

use std::time::Duration;

use assay_recipe::compose::model::{Healthcheck, Mode, Mount, MountSource, Service, Volume};
use assay_swarm::{Failure, FailureClass, Outcome, Rules};

use crate::world::{World, map, restarted, service, stack, word};

/// Idle, the slowest takes half of this; a deadline would take twenty minutes.
const AT_MOST: Duration = Duration::from_secs(90);

#[tokio::test]
async fn stacks_are_told_for_what_they_are() {
    let world = World::start().await;
    // All at once: each of them waits most of the time.
    futures::join!(
        every_way_to_fail_is_told_for_what_it_is(&world),
        what_only_looks_like_failing_is_left_to_become_well(&world),
        what_takes_too_long_is_told_with_what_it_waits_for(&world),
    );
    world.daemon.stop().await.unwrap();
}

async fn every_way_to_fail_is_told_for_what_it_is(world: &World) {
    let good = || service("sleep 1000");
    let missing = Service { image: Some("nowhere.invalid/nothing:1".to_owned()), ..good() };
    let mut nowhere = good();
    nowhere.deploy.placement.constraints = vec!["node.labels.gpu == yes".to_owned()];
    let bind = MountSource::Bind { path: "/no/such/folder".to_owned(), propagation: None };
    let bad_mount = Service {
        mounts: vec![Mount { source: bind, target: "/mnt".to_owned(), read_only: false }],
        ..good()
    };
    let unhealthy = Service { healthcheck: Some(check("false", 1)), ..good() };
    let cases = [
        ("crash", service("echo the database is not there >&2; exit 3"), FailureClass::CrashLoop),
        ("endless", service("echo done"), FailureClass::CompletingLoop),
        ("flap", service("sleep 6; exit 1"), FailureClass::SlowFlap),
        ("noimage", missing, FailureClass::MissingImage),
        ("nomount", bad_mount, FailureClass::BadMount),
        ("sick", unhealthy, FailureClass::Unhealthy),
        ("nonode", nowhere, FailureClass::Unschedulable),
        ("once", restarted("none", service("exit 7")), FailureClass::NotRestarted),
    ];
    let mut waiting = Vec::new();
    for (name, bad, class) in cases {
        // Each beside one that is well: a stack is more than its worst service.
        let deployed = world.deploy(name, &stack([("good", good()), ("bad", bad)])).await;
        waiting.push(async move {
            let convergence = world.converge(&deployed).await;
            (name, class, convergence)
        });
    }
    for (name, class, convergence) in futures::future::join_all(waiting).await {
        let Outcome::Failed(failures) = &convergence.outcome else { panic!("{name}: {convergence:#?}") };
        let [Failure { service, class: told, message, .. }] = failures.as_slice() else {
            panic!("{failures:#?}")
        };
        eprintln!("{name}: {told:?} after {:.1?}: {message}", convergence.took);
        assert_eq!((service.as_str(), *told), (format!("{name}_bad").as_str(), class), "{message}");
        assert!(convergence.took < AT_MOST, "{name} took {:?}", convergence.took);
        let evidence = &convergence.evidence;
        if name == "crash" {
            let bad: Vec<_> =
                evidence.attempts.iter().filter(|attempt| attempt.exit_code == Some(3)).collect();
            assert!(bad.len() >= 3, "{:#?}", evidence.attempts);
            assert!(bad.iter().all(|attempt| attempt.output == "the database is not there\n"), "{bad:#?}");
            let died =
                evidence.events.iter().filter(|event| event.action == "die" && event.exit_code == Some(3));
            assert!(died.count() >= 3, "{:#?}", evidence.events);
            assert!(message.contains("exit code 3 (its last words: the database is not there)"), "{message}");
        }
    }
    // What is frozen is not what is taken down: all of it is still there.
    assert_eq!(world.swarm().observe("crash").await.unwrap().services.len(), 2);
}

async fn what_only_looks_like_failing_is_left_to_become_well(world: &World) {
    // The database needs its time, and says so by its health; the app ends until it is there.
    let shared = || Mount {
        source: MountSource::Volume { name: "shared".to_owned(), nocopy: false },
        target: "/shared".to_owned(),
        read_only: false,
    };
    let app = Service {
        mounts: vec![shared()],
        ..service("test -e /shared/ready || { echo no database yet; exit 1; }; sleep 1000")
    };
    let slow = Service {
        mounts: vec![shared()],
        healthcheck: Some(check("test -e /shared/ready", 60)),
        ..service("sleep 18; echo yes > /shared/ready; sleep 1000")
    };
    let mut waiter = stack([("app", app), ("db", slow)]);
    waiter.volumes = map([("shared", Volume::default())]);
    // The same without a health check: it runs at once, and only its work shows that it is not ready.
    let app = Service {
        mounts: vec![shared()],
        ..service("test -e /shared/ready || { echo no database yet; exit 1; }; sleep 1000")
    };
    let work = "while ((SECONDS < 20)); do for i in {1..20000}; do :; done; sleep 0.1; done";
    let busy = Service {
        mounts: vec![shared()],
        ..service(&format!("{work}; echo yes > /shared/ready; sleep 1000"))
    };
    let mut ghost = stack([("app", app), ("db", busy)]);
    ghost.volumes = map([("shared", Volume::default())]);
    // One that ends well and is not to be started again, and one that is to only if it ends badly.
    let mut job = restarted("on-failure", service("sleep 1; echo counted"));
    job.deploy.mode = Mode::ReplicatedJob;
    let mut everywhere = service("sleep 1000");
    everywhere.deploy.mode = Mode::Global;
    let migrations = stack([
        ("app", service("sleep 1000")),
        ("migrate", restarted("none", service("sleep 1; echo migrated"))),
        ("seed", restarted("on-failure", service("exit 0"))),
        ("job", job),
        ("everywhere", everywhere),
    ]);
    let mut none = service("sleep 1000");
    none.deploy.replicas = Some(0);
    let idle = stack([("app", none)]);

    let deployed = [
        world.deploy("waiter", &waiter).await,
        world.deploy("migrations", &migrations).await,
        world.deploy("idle", &idle).await,
        world.deploy("ghost", &ghost).await,
    ];
    let all = futures::future::join_all(deployed.iter().map(|deployed| world.converge(deployed))).await;
    for convergence in &all {
        assert_eq!(word(&convergence.outcome), "converged", "{convergence:#?}");
    }
    for waiter in [&all[0], &all[3]] {
        let attempts = &waiter.evidence.attempts;
        assert!(
            attempts.len() >= 3,
            "the app should have failed until the database was there: {attempts:#?}"
        );
    }
    assert!(all[2].took < Duration::from_secs(5), "{:?}", all[2].took);
}

async fn what_takes_too_long_is_told_with_what_it_waits_for(world: &World) {
    let slow = Service { healthcheck: Some(check("false", 1000)), ..service("sleep 1000") };
    let deployed = world.deploy("slow", &stack([("app", slow)])).await;
    // Long enough to be started beside all the others.
    let limit = Duration::from_secs(30);
    let convergence = world.swarm().converge(&deployed, &Rules::default(), limit).await.unwrap();
    let Outcome::TimedOut(waiting) = &convergence.outcome else { panic!("{convergence:#?}") };
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].service, "slow_app");
    assert_eq!(waiting[0].reason, "0 of 1 run (starting)");
    // It lives, and was asked all the same.
    assert_eq!(convergence.evidence.attempts.len(), 1);
}

/// A check each second that may fail so often.
fn check(line: &str, retries: i64) -> Healthcheck {
    Healthcheck {
        test: ["CMD-SHELL", line].map(str::to_owned).to_vec(),
        interval: Some(Duration::from_secs(1)),
        timeout: Some(Duration::from_secs(2)),
        start_period: None,
        retries: Some(retries),
    }
}
