//! The reconciler, the comparison and the oracle against a real Kubernetes API server.
//!
//! Not run by default, since the server has to be built first (`examples/images/kube-apiserver/build`, once). Then:
//! `cargo nextest run -p assay-reconcile --run-ignored all`. Each test starts a server of its own, which takes some seconds.

mod lifecycle;
mod live;
mod refusals;
mod server;
mod tracking;
mod world;
