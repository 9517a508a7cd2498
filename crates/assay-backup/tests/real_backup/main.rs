//! Stacks backed up and restored with real restic, in a real Docker daemon of their own.
//!
//! Needs root and Debian's `restic`, `docker.io`, `iptables`, `sqlite3` and `mmdebstrap`. The tree with PostgreSQL is installed once
//! into the target folder and kept there.

mod dumps;
mod mariadb;
mod postgresql;
mod store;
mod volumes;
mod world;
