//! What the host pipeline talks about: inventories, expected specs, disk health.

pub mod inventory;
pub mod smart;
pub mod spec;
