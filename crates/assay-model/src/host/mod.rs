//! What the host pipeline talks about: inventories, expected specs, orders, and the evidence of its stages.

pub mod clearance;
pub mod counters;
pub mod cpu_stress;
pub mod gpu;
pub mod inventory;
pub mod memtest;
pub mod network;
pub mod order;
pub mod parts;
pub mod permit;
pub mod psu;
pub mod smart;
pub mod spec;
pub mod storage;
