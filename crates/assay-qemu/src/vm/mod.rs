//! A test's own virtual machine: driven over QEMU's monitor, watched over three channels.
//!
//! [`Vm::start`] brings a machine up frozen, with somebody on every channel, and lets it go with [`Vm::go`]: so
//! nothing that it says is missed. What happens then comes as [`VmEvent`]s with the time since it went: bytes of the
//! serial port, bytes of the out-of-band port, changes of the screen, events of the monitor, and its end. Nothing here
//! looks again and again; it is told. What any of it means is not this module's business.

mod command;
mod egress;
mod run;
mod screen;
mod served;
mod shutdown;
mod sleep;
mod spec;
mod told;
mod tpm;

pub use command::{GATE, PROGRESS_PORT};
pub use egress::{Attempt, AttemptKind, egress};
pub use run::{Vm, VmEvent, VmFiles};
pub use screen::{Pixels, vga_font};
pub use served::ServedDisk;
pub use shutdown::{Rung as ShutdownRung, ShutdownLimits};
pub use sleep::Sleep;
pub use spec::{
    Arch, Gate, MediumKind, ToldPort, VmBus, VmDisk, VmFirmware, VmImage, VmMedium, VmNetwork, VmNic, VmSpec,
};
