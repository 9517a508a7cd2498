//! The runner's cache of images.
//!
//! A run's Docker daemon begins empty and has no way out. What it needs is asked of registries here, on the runner's side, and
//! kept: a second run fetches no layer again, and a registry that is down or has had enough of us stops nobody. Credentials live
//! in here alone; a daemon sees a [`Window`] with the images that its run needs, and nothing else.
//!
//! [`ImageCache::open`] starts Debian's `docker-registry` as the store behind it. Its own proxy mode is not used, since the 2.8
//! that Debian has fetches each layer twice (once to pass on, once to keep) and keeps the second after it has answered, does not
//! start while the upstream is down, tells every trouble of an upstream as "unknown", and knows no basic authentication upstream.
//! So the store is a plain one, and [`Session::bring`] is what fills it: ask the upstream what a name means today, fetch what the
//! store does not have, count every byte.
//!
//! This crate knows nothing of Docker daemons, runs or recipes. Reading order: `cache`, `bring`, `upstream`, `store`, `window`.

mod archive;
mod bring;
mod cache;
mod credentials;
mod error;
mod locks;
mod manifest;
mod mend;
mod reference;
mod remembered;
mod store;
mod tags;
mod upstream;
mod window;

pub use bring::{Brought, Freshness};
pub use cache::{CacheSettings, ImageCache, Session};
pub use credentials::{Credentials, CredentialsError};
pub use error::{BringError, BringFailure, CacheError};
pub use reference::{BadReference, Reference};
pub use remembered::Kept;
pub use upstream::{Fetched, Registries};
pub use window::Window;
