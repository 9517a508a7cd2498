//! Before a disk is written: which one it is, what stands in the way, and what it holds.
//!
//! Nothing here writes. [`survey`] reads sysfs and the mount table once and says of every disk why it must not be
//! touched; [`probe`] reads the disk itself. Neither decides: that is the collector's business, which holds the disk
//! open, exclusively, while it is being probed, so that what was probed is what is written.

mod in_use;
mod sample;
mod signatures;

use std::path::PathBuf;

use assay_model::host::inventory::{Disk, Transport};
use assay_model::host::smart::same_identity;
use assay_model::host::storage::{Refusal, RefusalKind, WipeProbe};

pub(crate) use sample::FIO_PATTERN;
pub use sample::ProbeError;

use crate::Machine;
use crate::files::{attribute, entries};

/// Bytes of each end of a disk that are read in full: what is known of a format stands there.
pub const END: u64 = 8 << 20;

/// How many samples are taken between the ends. Each lies at a random place in one of as many equal parts: what fills
/// two parts on end is always found, and what is strewn over a share `f` of the disk is missed with a probability of
/// at most (1 - f) to the power of the number of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thoroughness {
    /// 1,024 samples: a thousandth of the disk is missed with 36 %, a hundredth with 0.003 %. Ten seconds on a
    /// spinning disk.
    Quick,
    /// 4,096 samples: a thousandth of the disk is missed with 1.7 %, and never if it is one piece.
    Standard,
}

impl Thoroughness {
    /// The number of samples.
    pub const fn samples(self) -> u64 {
        match self {
            Self::Quick => 1024,
            Self::Standard => 4096,
        }
    }
}

/// A disk that may be the one that is meant.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Who it is.
    pub disk: Disk,
    /// Where it is opened.
    pub node: PathBuf,
    /// Its device number, `major:minor`.
    pub device: String,
    /// Whether it is a virtual machine's disk.
    pub is_virtual: bool,
    /// Why it must not be written to.
    pub refusals: Vec<Refusal>,
    /// What could not be found out about it.
    pub problems: Vec<String>,
}

/// All disks of the machine and what stands in the way of writing to each.
pub async fn survey(machine: &Machine, shared_nvme: bool) -> Vec<Candidate> {
    let mut problems = Vec::new();
    let disks = crate::block::disks(machine, &mut problems);
    let usage = in_use::Usage::read(machine);
    let mut candidates = Vec::new();
    for disk in disks {
        let folder = machine.path("sys/block").join(&disk.name);
        let mut candidate = Candidate {
            node: machine.path("dev").join(&disk.name),
            device: attribute(&folder.join("dev")).unwrap_or_default(),
            is_virtual: is_virtual(&disk),
            refusals: in_use::reasons(machine, &usage, &disk),
            problems: Vec::new(),
            disk,
        };
        if candidate.device.is_empty() {
            candidate.refuse(RefusalKind::Unreadable, "the kernel gives it no device number".to_owned());
        }
        if candidate.disk.transport == Transport::Nvme && !shared_nvme {
            in_use::nvme_sharing(machine, &mut candidate).await;
        }
        candidates.push(candidate);
    }
    candidates
}

/// The disks that have this serial number and this WWN, as far as each is given. More than one is a disk that is there
/// twice.
pub fn matching<'a>(
    candidates: &'a [Candidate],
    serial: Option<&str>,
    wwn: Option<&str>,
) -> Vec<&'a Candidate> {
    let same = |wanted: Option<&str>, told: Option<&String>| {
        wanted.is_none_or(|wanted| told.is_some_and(|told| same_identity(wanted, told)))
    };
    candidates
        .iter()
        .filter(|_| serial.is_some() || wwn.is_some())
        .filter(|c| same(serial, c.disk.serial.as_ref()) && same(wwn, c.disk.wwn.as_ref()))
        .collect()
}

/// Looks at what a disk holds. `resumed` says that a surface scan of it is being gone on with, whose patterns of one
/// byte are then no surprise; `seed` is random.
pub async fn probe(
    candidate: &Candidate,
    how: Thoroughness,
    resumed: bool,
    seed: u64,
) -> Result<WipeProbe, ProbeError> {
    let path = candidate.node.clone();
    let device = candidate.device.clone();
    let bytes = candidate.disk.size_bytes.unwrap_or_default();
    let name = path.display().to_string();
    tokio::task::spawn_blocking(move || sample::look(&path, &device, bytes, how, resumed, seed))
        .await
        .unwrap_or_else(|problem| {
            Err(ProbeError::Io { path: name, problem: std::io::Error::other(problem.to_string()) })
        })
}

impl Candidate {
    /// Whether the kernel still knows it. While somebody holds it open, its name is given to no other disk.
    pub fn is_there(&self, machine: &Machine) -> bool {
        machine.path("sys/block").join(&self.disk.name).exists()
    }

    fn refuse(&mut self, why: RefusalKind, detail: String) {
        self.refusals.push(Refusal { why, detail });
    }
}

/// Whether it is a virtual machine's disk: by how it is attached, or by what emulators call theirs.
fn is_virtual(disk: &Disk) -> bool {
    const MAKERS: [&str; 7] = ["QEMU", "VMware", "Msft", "VBOX", "XEN", "Virtual", "Google PersistentDisk"];
    let named =
        disk.model.as_deref().is_some_and(|model| MAKERS.iter().any(|maker| model.starts_with(maker)));
    disk.transport == Transport::Virtio || named
}

/// The partitions of a disk: names and device numbers.
fn partitions(machine: &Machine, disk: &str) -> Vec<(String, String)> {
    entries(&machine.path("sys/block").join(disk))
        .into_iter()
        .filter(|(_, path)| path.join("partition").exists())
        .map(|(name, path)| (name, attribute(&path.join("dev")).unwrap_or_default()))
        .collect()
}
