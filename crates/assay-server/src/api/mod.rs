//! The operators' API: one file per resource; `assay_api::operator` is the contract.

mod again;
mod audit;
mod compat;
mod dashboard;
mod feed;
mod forges;
mod gate;
mod hosts;
mod images;
mod janitor;
mod key;
mod live;
mod network;
mod notify;
mod operators;
mod queue;
mod recipes;
mod runs;
mod shell;
mod tokens;

use axum::Router;

use crate::state::App;

pub(crate) use runs::{decided, detail, summary};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .merge(key::routes())
        .merge(audit::routes())
        .merge(again::routes())
        .merge(tokens::routes())
        .merge(operators::routes())
        .merge(hosts::routes())
        .merge(images::routes())
        .merge(recipes::routes())
        .merge(dashboard::routes())
        .merge(compat::routes())
        .merge(gate::routes())
        .merge(janitor::routes())
        .merge(runs::routes())
        .merge(queue::routes())
        .merge(feed::routes())
        .merge(forges::routes())
        .merge(shell::routes())
        .merge(live::routes())
        .merge(network::routes())
        .merge(notify::routes())
}

pub(crate) use again::{
    batch, batches, begin_batch, plan as plan_batch, put_schedule, remove_schedule, rule_batch,
    rule_schedule, schedule, schedules,
};
pub(crate) use compat::{Wanted as CompatWanted, compat_matrix};
pub(crate) use dashboard::{EACH, Wanted as WantedWeek, board_run, dashboard, digest, standing};
pub(crate) use feed::opens as opens_feed;
pub(crate) use hosts::{host_with_latest, hosts_with_latest, register, remove_host, vet};
pub(crate) use images::{history as image_history, images};
pub(crate) use notify::{status as notifications, test as test_sinks};
pub(crate) use queue::{queue, rule as rule_queue};
pub(crate) use recipes::{history as recipe_history, recipes};
