//! Daemons, stacks, failures and teardown with a real Docker daemon and its swarm.
//!
//! Needs root and Debian's `docker.io`, `iptables` and `busybox-static`. Each test has a daemon of its own, which takes about a
//! second; what can share one is one test, since stacks mostly wait.

mod daemon;
mod deploy;
mod failures;
mod greedy;
mod inside;
mod scale;
mod together;
mod update;
mod world;
