//! The operators' API: one file per resource; `assay_api::operator` is the contract.

mod audit;
mod hosts;
mod key;
mod live;
mod network;
mod runs;
mod tokens;

use axum::Router;

use crate::state::App;

pub(crate) use runs::{detail, summary};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .merge(key::routes())
        .merge(audit::routes())
        .merge(tokens::routes())
        .merge(hosts::routes())
        .merge(runs::routes())
        .merge(live::routes())
        .merge(network::routes())
}

pub(crate) use hosts::{host_with_latest, hosts_with_latest, register, remove_host, vet};
