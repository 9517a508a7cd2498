//! The lab with the real QEMU and the real network stack. Needs root, as network namespaces do, and says so.

mod bench;
mod firmware;
mod life;
mod network;
