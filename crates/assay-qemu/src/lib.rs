//! The virtual machine driver: QEMU machines that look, boot and break like real ones.
//!
//! A [`Lab`] is a folder of machine files and a private network. Its machines are powered on and off like
//! hardware: they live on when the program that started them ends, keep their disks between power cycles, and
//! are found again by any other [`Lab`] on the same state folder. A machine file may name a fault; what was
//! ordered and what is really there are then two different [`Machine`]s, which is what a test of a test needs.
//!
//! Some faults are there from power-on (the machine file says so), others are made while the machine runs
//! ([`Injection`]): a disk begins to lie, a bit of memory sticks, a cable is pulled.
//!
//! This crate knows nothing of runs, stages or verdicts. Reading order: `machine` (what a machine is), `fault`
//! (how it breaks), `smbios` and `command` (how QEMU is told), `qmp` (how a running one is spoken to), `accel`
//! (with or without KVM), `network`, and `lab`, which puts them together.

mod accel;
mod bmc;
mod command;
mod contents;
mod disk;
mod error;
mod fault;
mod file;
mod guest;
mod inject;
mod lab;
mod machine;
mod memory;
mod network;
mod process;
mod qmp;
mod sensors;
mod smbios;
mod vm;

pub use accel::{Accel, AccelProbe};
pub use bmc::{Bmc, BmcAccess, BmcKind};
pub use command::{FirmwareFiles, VmFolder, arguments};
pub use contents::Contents;
pub use disk::{DiskRule, Struck, serve_disk};
pub use error::QemuError;
pub use fault::{DimmFault, DiskFault, Fault, NicFault, SmbiosFault};
pub use file::LabMachine;
pub use guest::{Console as GuestConsole, GUEST_CHANNEL, Guest, GuestDisk, GuestFolder, GuestSpec};
pub use inject::{Injected, Injection};
pub use lab::{Lab, LabConfig, Status};
pub use machine::{Dimm, Disk, DiskBus, Firmware, Machine, Nic, NicModel, PowerOn, Smbios, TestBench};
pub use network::{Network, NetworkConfig, tap_name};
pub use qmp::{Qmp, QmpEvent};
pub use smbios::{MemoryTable, memory_tables};
pub use vm::{
    Arch, Attempt, AttemptKind, GATE, Gate, MediumKind, PROGRESS_PORT, Pixels, ServedDisk, ShutdownLimits,
    ShutdownRung, Sleep, ToldPort, Vm, VmBus, VmDisk, VmEvent, VmFiles, VmFirmware, VmImage, VmMedium,
    VmNetwork, VmNic, VmSpec, egress, vga_font,
};
