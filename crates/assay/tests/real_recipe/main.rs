//! `assay recipe test` on real recipes, in real Docker daemons, as an author has it: without a server, from a checkout.
//!
//! Recipes are the canaries of `examples/recipes`, images are built from Debian packages once into the target folder. Each test has
//! a folder for everything that the command makes, and looks for what stays on the machine afterwards: processes, mounts,
//! control groups, files. Needs root and what `cargo xtask setup` installs.

mod asked;
mod bad;
mod ended;
mod good;
mod sandbox;
mod traces;
mod world;
