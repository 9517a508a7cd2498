//! Disks that lie: what a disk does wrong, as data, and the server that does it.
//!
//! QEMU itself can make a sector unreadable and a disk slow, from power-on. It cannot lose a write, answer with
//! other bytes than were stored, be smaller than it says, or begin to do any of this while the machine runs. So a
//! disk marked `served` is not a file to QEMU but a network block device of a process of ours, which reads and
//! writes the image and obeys the rules in a file beside it. The guest's whole stack, controller and driver
//! included, is the real one.

mod protocol;
mod rule;
mod server;
mod struck;

pub use rule::DiskRule;
pub(crate) use rule::{MediumError, Rules, write_rules};
pub use server::serve_disk;
pub use struck::Struck;
