//! Forges: Forgejo (and Gitea, which it comes from) and GitHub. Who asks for a run in a pull request, and how that pull
//! request is told what came of it.
//!
//! Three things happen here, apart from each other. *Asking* a forge: a [`Forge`] with two clients, [`Forgejo`] and
//! [`GitHub`]; one call, one answer, one typed error, nothing remembered but counts. *Deciding*: when to ask again
//! ([`poll`]), what a delivery is worth ([`hook`]), what a comment asks for ([`command`]), whether its author may
//! ([`authors`]); pure, on values that can be stored. *Wording*: the one comment per pull request ([`comment`]) and the
//! commit status ([`status`]), pure functions of plain structs.
//!
//! Which forges there are is read from a settings file ([`Settings`]).
//!
//! What it is not: it has no store and no clock. Whoever uses it keeps [`poll::PollState`] and what came out of it in one
//! transaction; then nothing is missed and nothing is done twice.

pub mod authors;
mod client;
pub mod command;
pub mod comment;
mod common;
mod error;
mod forge;
mod forgejo;
mod github;
pub mod hook;
mod markdown;
mod name;
pub mod poll;
pub mod put;
mod secret;
mod seen;
mod settings;
pub mod status;
mod time;
mod what;
mod wire;

pub use client::{Limits, Meter, Rate};
pub use error::{Advice, Doing, ForgeError};
pub use forge::{Asking, Forge, ForgeKind};
pub use forgejo::Forgejo;
pub use github::GitHub;
pub use name::{Login, Name, RepoName, WrongName};
pub use secret::Secret;
pub use seen::{Novelty, Seen};
pub use settings::{ForgeSettings, Forks, ImageTrigger, Settings, SettingsError, WebhookSettings};
pub use what::{
    ChangedFiles, Comment, Heard, HookKept, HookWanted, Membership, Posted, Pull, PullState, Resume, Since,
};
