//! The lab with the real QEMU and the real network stack. Needs root, as network namespaces do, and says so.

mod bench;
mod bmc;
mod contents;
mod faults;
mod firmware;
mod guest;
mod life;
mod medium;
mod network;
