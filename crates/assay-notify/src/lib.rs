//! Notifications: an event goes to every sink that wants it.
//!
//! This crate words a notification ([`Notification`], [`About`]), reads the settings that say where
//! it goes ([`Settings`]), delivers it to one [`Sink`], and says what a failure means ([`Fate`]) and
//! when to try again ([`backoff`]). It remembers nothing: which deliveries there are, and that none
//! is made twice, is the outbox's business (`assay-store`).

mod address;
pub mod backoff;
mod email;
mod error;
mod event;
mod http;
mod matrix;
mod message;
mod news;
mod ntfy;
mod secret;
mod settings;
mod sink;
mod template;
mod webhook;

pub use error::{DeliveryError, Fate};
pub use event::{EVENTS, EventKind, Level};
pub use message::Message;
pub use news::{About, Notification, TEST_EVENT};
pub use settings::{Settings, SettingsError};
pub use sink::{Sink, SinkKind};
pub use webhook::signature;
