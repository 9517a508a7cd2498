//! Boots machines over the network: a supervised dnsmasq, the iPXE scripts that follow it, and a TCP relay for a
//! runner that stands with one foot in the provisioning network.
//!
//! The order of a boot: firmware asks by DHCP → dnsmasq gives everybody an address, and the name of a boot loader
//! only to a MAC that is [allowed](Netboot::allow) → the firmware loads iPXE by TFTP → iPXE asks by DHCP again and
//! is sent to `/boot/MAC.ipxe` over HTTP → the server renders [`script::boot_script`] or
//! [`script::local_boot_script`].
//!
//! What makes a machine boot at all is [`power`]: its BMC, or a packet that wakes it.
//!
//! This crate knows machines by their MAC and nothing of runs, stages or tokens.

mod dnsmasq;
mod error;
mod ipv6;
mod log;
mod netns;
pub mod power;
mod preflight;
mod relay;
pub mod script;
mod supervisor;

pub use dnsmasq::{DEFAULT_TFTP_ROOT, Loaders, NetbootConfig, render};
pub use error::NetbootError;
pub use relay::{Relay, RelayError};
pub use supervisor::{Netboot, NetbootEvent};
