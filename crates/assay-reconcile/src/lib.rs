//! Holds a tree of manifests against a Kubernetes API server.
//!
//! The image pipeline's Reconcile stage asks whether a merged registration becomes an object in the cluster, the right one,
//! and whether a removed one goes away. A crate of its own because it is the only place that speaks to Kubernetes. It
//! knows nothing of runs or stages. Two tiers use the same parts:
//!
//! - *live*: a cluster with Argo CD. [`LiveApplication`] reads, refreshes and waits for the Application.
//! - *isolated*: a real API server on this machine ([`ApiServer`]), and [`Reconciler`], which applies a [`Tree`] by the
//!   rules of Argo CD and writes the status that Argo CD would write.
//!
//! In both, [`Expected::render`] says what should be there, independently of who applies it; [`compare()`] says what
//! differs in the live objects; and [`judge`], a pure function, makes a [`Verdict`] of it all.
//!
//! "As Argo CD does" is said with the page of its documentation or the function of its code where it matters; read were
//! the 2.x and 3.x series of argo-cd, with its gitops-engine.

#![cfg_attr(
    not(feature = "cluster"),
    expect(dead_code, reason = "what the reconciler alone uses is compiled, and tested, without it, too")
)]

#[cfg(feature = "cluster")]
mod api_server;
mod application;
#[cfg(feature = "cluster")]
mod cluster;
mod compare;
#[cfg(feature = "cluster")]
mod define;
mod expected;
mod glob;
mod health;
#[cfg(feature = "cluster")]
mod live;
mod object;
mod oracle;
mod plan;
#[cfg(feature = "cluster")]
mod reconciler;
mod source;
pub mod status;
mod tracking;

#[cfg(feature = "cluster")]
pub use api_server::{ApiServer, ApiServerError, ApiServerFiles, Timings};
pub use application::{Application, ApplicationError, Automated};
pub use compare::{Difference, Rules, compare};
#[cfg(feature = "cluster")]
pub use define::{DefineError, define};
pub use expected::{Expected, ExpectedError};
pub use glob::{Glob, GlobError};
#[cfg(feature = "cluster")]
pub use live::{LiveApplication, LiveError, Refresh, Waited, connect, objects, pruned_fields, version};
pub use object::ObjectKey;
pub use oracle::{Code, Expectation, Observation, Operation, Reason, Verdict, judge};
#[cfg(feature = "cluster")]
pub use reconciler::{ReconcileError, Reconciler};
pub use source::{Manifest, Source, SourceError, Tree};
pub use tracking::{INSTANCE_LABEL, TRACKING_ANNOTATION, Tracking};
