//! Bad days with real machines: the whole chain, as an operator has it.
//!
//! Firmware, DHCP, iPXE, the live image, the agent, the runner, the control plane and the command line are all the
//! real thing here; only the machine is simulated. Each test has a data folder, ports and a network namespace of its
//! own and removes them, also when it panics. Needs root, `qemu-system-x86_64` and a built live image, and says so.
//!
//! What it is not: the place for precise moments. That a crash between two given commits does no harm is tested
//! beside the server with kill points; here it is tested that the parts fit together when things go wrong.

mod daemon;
mod held;
mod install;
mod journal;
mod kills;
mod memtest;
mod netboot;
mod network;
mod reboot;
mod sides;
mod stack;
mod strangers;
