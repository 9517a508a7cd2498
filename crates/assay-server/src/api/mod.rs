//! The operators' API: one file per resource; `assay_api::operator` is the contract.

mod hosts;
mod live;
mod network;
mod runs;

use axum::Router;

use crate::state::App;

pub(crate) use runs::{detail, evidence_bundle, summary};

pub(crate) fn routes() -> Router<App> {
    Router::new().merge(hosts::routes()).merge(runs::routes()).merge(live::routes()).merge(network::routes())
}

pub(crate) use hosts::{VetForm, hosts_with_latest, register, vet};
