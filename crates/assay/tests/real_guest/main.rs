//! `assay recipe test --in-vm`: what strangers send is tested in a virtual machine, and what gets out of its container there is in a
//! machine that has nothing.
//!
//! Needs root, the guest image (`cargo xtask guest-image`) and what `cargo xtask setup` installs. In software emulation a machine
//! takes half a minute to boot, so the tests are few.

mod escapes;
mod forks;
#[path = "../real_recipe/traces.rs"]
mod traces;
mod verdict;
mod world;
