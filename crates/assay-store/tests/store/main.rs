//! The store on SQLite and on PostgreSQL: every scenario runs on both, unchanged.
//!
//! PostgreSQL is the real one: a throw-away cluster in a temporary folder, reached over a Unix
//! socket, with a database per scenario.

mod access;
mod again;
mod boards;
mod bulk;
mod compat;
mod concurrency;
mod crash;
mod forge_images;
mod forges;
mod images;
mod journal;
mod migrations;
mod outbox;
mod postgres;
mod retention;
mod sample;

use assay_store::Store;

/// Runs scenarios on a new database each, on both kinds.
macro_rules! on_both {
    ($($file:ident :: $name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let folder = tempfile::tempdir().expect("a folder");
                let url = crate::sqlite_url(folder.path());
                crate::$file::$name(crate::open(&url).await, url).await;
            })*
        }

        /// One test for all: each test is a process of its own, and a cluster takes seconds.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn everything_on_postgres() {
            let cluster = crate::postgres::Cluster::start().await;
            $({
                let url = cluster.database(stringify!($name)).await;
                println!("{}", stringify!($name));
                let store = crate::open(&url).await;
                crate::$file::$name(store.clone(), url).await;
                store.close().await.expect("closes");
            })*
            cluster.stop().await;
        }
    };
}

on_both! {
    journal::a_run_from_creation_to_addendum,
    journal::what_may_not_happen_changes_nothing,
    journal::a_host_is_tested_once_at_a_time,
    journal::rows_follow_the_journal,
    journal::an_altered_journal_is_refused,
    concurrency::fifty_at_once_lose_nothing,
    concurrency::of_many_at_once_each_stands_for_itself,
    concurrency::a_caller_that_went_away_is_left_out,
    concurrency::two_stores_on_one_database_agree,
    access::tokens_open_once_and_only_while_live,
    access::leases_are_fenced,
    outbox::sinks_are_settled_once,
    outbox::a_sink_that_is_away_holds_up_no_other,
    outbox::notifications_leave_once,
    outbox::a_sink_that_was_taken_away_is_not_waited_for,
    access::hosts_own_their_addresses,
    access::people_and_programs,
    access::runners_unknown_machines_settings_and_audit,
    retention::the_newest_checkpoint_counts,
    retention::sealed_runs_leave_nothing_and_open_ones_keep_everything,
    retention::one_control_plane_at_a_time,
    retention::pins_are_kept_until_they_are_taken_out,
    bulk::readings_are_stored_once_and_summed_up,
    bulk::log_lines_have_a_stable_cursor,
    bulk::bulk_rows_are_bound_to_the_chain,
    bulk::a_bad_row_fails_alone,
    bulk::retention_drops_whole_days,
    images::names_stay_and_what_is_behind_them_changes,
    forge_images::a_commit_asks_once_and_a_newer_one_closes_it,
    forges::what_was_asked_is_answered_once,
    forges::a_pull_request_is_told_what_has_changed,
    compat::trials_follow_the_journal,
    compat::what_says_nothing_is_no_trial,
    compat::an_image_is_as_old_as_its_first_run,
    boards::a_recipe_and_what_its_runs_came_to,
    boards::a_week_is_told_as_it_stood,
    again::a_time_is_taken_once,
    again::a_batchs_targets_have_their_runs,
    again::labels_go_with_their_host,
    migrations::a_filled_database_is_carried_over,
    migrations::a_newer_database_is_refused,
}

pub(crate) fn sqlite_url(folder: &std::path::Path) -> String {
    format!("sqlite://{}/assay.db", folder.display())
}

pub(crate) async fn open(url: &str) -> Store {
    Store::open(url).await.expect("opens")
}
