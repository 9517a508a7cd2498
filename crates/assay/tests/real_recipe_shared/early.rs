//! What is wrong is said before anything is begun.

use assay_process::Cmd;

use crate::world::World;

#[tokio::test]
async fn a_swarm_that_will_not_do_is_told_with_what_to_do() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    let recipe = recipe.to_str().expect("text");
    let socket = world.swarm().socket().display().to_string();

    let doctor = world.assay(&["doctor", "--shared-swarm", &socket]).run().await.expect("it ran");
    let line = doctor.stdout_text().lines().find(|line| line.contains("shared swarm")).map(str::to_owned);
    let line = line.unwrap_or_else(|| panic!("{}", doctor.stdout_text()));
    assert!(line.contains("recipes can be deployed into it from here"), "{line}");

    let none = world.path("nobody.sock").display().to_string();
    let from_here = |socket: &str| {
        let words = ["recipe", "test", recipe, "--shared-swarm", socket];
        Cmd::new(env!("CARGO_BIN_EXE_assay")).args(words).env("TMPDIR", world.temporary())
    };
    let told = async |command: Cmd| {
        let output = command.run().await.expect("it ran");
        assert_ne!(output.code(), Some(0));
        output.stderr_text().into_owned()
    };
    let said = told(from_here(&none)).await;
    assert!(said.contains("no Docker daemon answers at") && said.contains("start one"), "{said}");
    // Its socket can be reached from everywhere, its network cannot.
    let said = told(from_here(&socket)).await;
    assert!(said.contains("has another network than this process"), "{said}");
    world.docker("swarm leave --force").await;
    let said = told(world.assay(&["recipe", "test", recipe, "--shared-swarm", &socket])).await;
    assert!(said.contains("is in no swarm") && said.contains("docker swarm init"), "{said}");
    world.end().await;
}
