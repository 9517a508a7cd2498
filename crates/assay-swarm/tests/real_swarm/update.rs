//! Deploying again: what did not change stays, what did is replaced, and an update that fails is told at once.

use std::{collections::BTreeSet, time::Duration};

use assay_recipe::compose::model::Service;
use assay_swarm::{FailureClass, Outcome};

use crate::world::{IMAGE_2, World, service, stack, word};

pub(crate) async fn a_second_deploy_changes_nothing_and_an_update_replaces_what_changed(world: &World) {
    let app = service("sleep 1000");
    let compose = |app: Service| stack([("app", app), ("db", service("sleep 2000"))]);
    world.up("again", &compose(app.clone())).await;
    let first = tasks(world).await;
    assert_eq!(first.len(), 2);

    let again = world.up("again", &compose(app.clone())).await;
    assert_eq!(tasks(world).await, first, "a second deploy of the same made new tasks");
    assert!(again.evidence.attempts.is_empty());
    assert!(
        again.took < Duration::from_secs(6),
        "what stays as it is needs no proof of new tasks: {:?}",
        again.took
    );

    let newer = Service { image: Some(IMAGE_2.to_owned()), ..app };
    world.up("again", &compose(newer.clone())).await;
    let second = tasks(world).await;
    assert_eq!(second.intersection(&first).count(), 1, "only the database's task stays");
    assert_eq!(second.len(), 2);

    // The update fails, and is told; the old database is not touched.
    let broken = Service { command: Some(vec!["echo broken >&2; exit 9".to_owned()]), ..newer.clone() };
    let convergence = world.converge(&world.deploy("again", &compose(broken)).await).await;
    let Outcome::Failed(failures) = &convergence.outcome else { panic!("{convergence:#?}") };
    assert_eq!(failures.len(), 1);
    assert_eq!((failures[0].service.as_str(), failures[0].class), ("again_app", FailureClass::UpdatePaused));
    eprintln!("{} after {:.1?}", failures[0].message, convergence.took);
    let last = convergence.evidence.attempts.iter().find(|attempt| attempt.exit_code == Some(9));
    assert_eq!(last.expect("the failed attempt").output, "broken\n");

    // Back to what was good: what is left of the paused update is nobody's trouble.
    let back = world.up("again", &compose(newer)).await;
    assert_eq!(word(&back.outcome), "converged");
}

/// The tasks that run.
async fn tasks(world: &World) -> BTreeSet<String> {
    let observation = world.swarm().observe("again").await.unwrap();
    let running = observation.tasks.into_iter().filter(|task| task.state == assay_swarm::TaskState::Running);
    running.map(|task| task.id).collect()
}
