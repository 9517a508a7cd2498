//! Stacks that have nothing to do with each other, in one daemon, at the same time.

use crate::{
    deploy::what_somebody_holds_on_to_is_a_leak, inside::commands_run_and_files_go_in_and_out,
    update::a_second_deploy_changes_nothing_and_an_update_replaces_what_changed, world::World,
};

#[tokio::test]
async fn stacks_are_deployed_again_entered_and_taken_down_beside_each_other() {
    let world = World::start().await;
    futures::join!(
        a_second_deploy_changes_nothing_and_an_update_replaces_what_changed(&world),
        commands_run_and_files_go_in_and_out(&world),
        what_somebody_holds_on_to_is_a_leak(&world),
    );
    world.daemon.stop().await.unwrap();
}
