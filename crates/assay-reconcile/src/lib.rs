//! Holds a tree of manifests against a Kubernetes API server.
mod glob;
pub use glob::{Glob, GlobError};
