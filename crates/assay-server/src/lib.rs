//! The control plane over HTTP.
//!
//! Three listeners, so that who can reach what is plain: operators and runners (loopback unless
//! told otherwise), boot files over plain HTTP for firmware, and the agent protocol over TLS. It
//! runs without privileges; whatever needs them is a runner's work.

mod agent;
mod alone;
mod api;
mod auth;
mod badge;
mod boot;
mod error;
mod forges;
mod guard;
mod live_image;
mod memtest;
mod notify_settings;
mod outbox;
mod pages;
mod runner;
mod sealer;
mod secret_file;
mod shell;
mod start;
mod state;
mod tls;
mod wire;

pub use forges::ForgesError;
pub use guard::{ClusterTokens, ClusterTokensError, ProxmoxGuard};
pub use live_image::LiveImage;
pub use notify_settings::NotifySettingsError;
pub use start::{Addresses, Server, Settings, StartError};
pub use state::App;
