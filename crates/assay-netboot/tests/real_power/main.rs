//! The power drivers against real peers: OpenIPMI's `ipmi_sim`, sushy-tools' Redfish emulator, and a cable that
//! listens for the packet that wakes. Needs root for the network namespaces.

mod bench;
mod ipmi;
mod redfish;
mod wol;
