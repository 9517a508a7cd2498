//! Stacks: Compose turned into Swarm's objects as `docker stack deploy` does it, which is a client's work alone.
//!
//! [`plan()`] is the conversion, pure and complete; [`Swarm::deploy`](crate::Swarm::deploy) acts by it. What is sorted and how
//! names are made follows docker/cli (`cli/compose/convert`), since that is what makes a second deploy change nothing.

mod deploy;
mod files;
mod marked;
mod plan;
#[cfg(test)]
mod plan_tests;
mod service;
mod without_ipvs;

pub use deploy::{Deployed, DeployedService};
pub use files::{FileError, read_files};
pub use plan::{Plan, PlanError, PlanOptions, plan};
pub use without_ipvs::{Change, Endpoints};

/// The label that holds the name of the stack, on every object of it.
pub const NAMESPACE_LABEL: &str = "com.docker.stack.namespace";
/// The label of a service that holds its image as it was written, before a digest was put to it.
pub const IMAGE_LABEL: &str = "com.docker.stack.image";

/// The label that says which run made something, on everything that it makes in a swarm that others use, too.
pub const RUN_LABEL: &str = "assay.run";

/// The name of an object in a stack.
pub(crate) fn scoped(stack: &str, name: &str) -> String {
    format!("{stack}_{name}")
}
