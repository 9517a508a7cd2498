//! `assay recipe test --shared-swarm`: recipes in a swarm that is there already, beside a neighbour's stacks.
//!
//! The machine's own daemon is played by one in namespaces of its own, and the command runs inside of its network: to the command
//! that is a node with a swarm. Needs root and what `cargo xtask setup` installs.

mod early;
mod killed;
mod leaves;
mod passes;
mod world;
