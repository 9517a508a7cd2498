//! The machine's disks: laid out before, read from outside afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use assay_media::occupy::{Occupant, occupy};
use assay_media::prove::{Fingerprint, compare};
use assay_media::{Content, Disk, Scheme, Tree};
use assay_qemu::ServedDisk;

use super::Test;
use crate::image::evidence::{DiskAfter, DiskBefore, FaultSeen, FileSeen, Volume};
use crate::image::profile::{ContentSpec, DiskHolds, DiskSpec, Firmware};

/// The largest file that is compared.
const MAX_FILE: u64 = 64 << 10;

/// A disk, as it was laid out.
pub(super) struct Laid {
    pub(super) spec: DiskSpec,
    pub(super) image: PathBuf,
    pub(super) before: Fingerprint,
    /// What it held, where it held anything: to say what changed.
    pub(super) pristine: Option<PathBuf>,
    /// The process behind it, where it fails on demand.
    pub(super) served: Option<Arc<ServedDisk>>,
}

impl Laid {
    /// Where its writes are recorded.
    pub(super) fn write_log(&self) -> PathBuf {
        self.image.with_extension("writes")
    }
}

impl Test {
    /// Makes the disks of a machine that has none yet.
    pub(super) async fn lay_out(&mut self, number: u32) -> Result<Vec<DiskBefore>, String> {
        let folder = self.path(&format!("disks-{number}"));
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let specs = self.profile().machine.all_disks();
        let (mut laid, mut told) = (Vec::new(), Vec::new());
        for spec in specs {
            let made = {
                let (folder, spec) = (folder.clone(), spec.clone());
                super::blocking(move || make(&folder, &spec)).await?
            };
            let (image, before, pristine, holds) =
                made.map_err(|error| format!("disk {}: {error}", spec.name))?;
            let content = before.content.clone();
            told.push(DiskBefore { name: spec.name.clone(), bytes: spec.size.0, content, holds });
            laid.push(Laid { spec, image, before, pristine, served: None });
        }
        self.disks = laid;
        Ok(told)
    }

    /// What became of the faults that were ordered, of a machine that is off. `failed` counts requests, and `lost` are
    /// the disks that the guest lost, as QEMU told.
    pub(super) fn faults(
        &self,
        failed: &std::collections::BTreeMap<String, u64>,
        lost: &std::collections::BTreeSet<String>,
    ) -> Result<Vec<FaultSeen>, String> {
        let mut seen = Vec::new();
        for laid in &self.disks {
            let Some(served) = &laid.served else { continue };
            let struck = served.struck().map_err(|error| error.to_string())?;
            let disk = laid.spec.name.clone();
            let told = failed.get(&disk).copied().unwrap_or(0);
            seen.push(FaultSeen { answered: struck.all(), told, gone: lost.contains(&disk), disk });
        }
        Ok(seen)
    }

    /// Reads the disks of a machine that is off. `written` counts bytes, as QEMU told.
    pub(super) async fn read_disks(
        &self,
        written: &std::collections::BTreeMap<String, u64>,
    ) -> Result<Vec<DiskAfter>, String> {
        let contents = self.profile().identify.as_ref().map(|i| i.contents.clone()).unwrap_or_default();
        let firmware = self.profile().machine.firmware;
        let mut after = Vec::new();
        for laid in &self.disks {
            let wanted: Vec<_> =
                contents.iter().filter(|content| content.disk == laid.spec.expect).cloned().collect();
            let (name, image, before, pristine) =
                (laid.spec.name.clone(), laid.image.clone(), laid.before.clone(), laid.pristine.clone());
            let bytes = written.get(&name).copied().unwrap_or(0);
            let read = super::blocking(move || {
                look(&name, &image, &before, pristine.as_deref(), &wanted, firmware, bytes)
            })
            .await?;
            after.push(read.map_err(|error| format!("disk {}: {error}", laid.spec.name))?);
        }
        Ok(after)
    }
}

type Made = (PathBuf, Fingerprint, Option<PathBuf>, String);

fn make(folder: &Path, spec: &DiskSpec) -> Result<Made, String> {
    let image = folder.join(format!("disk-{}.raw", spec.name));
    let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
    file.set_len(spec.size.0).map_err(|error| error.to_string())?;
    drop(file);
    let Some(occupant) = occupant(spec.holds) else {
        let before = Fingerprint::quick(&image).map_err(|error| error.to_string())?;
        return Ok((image, before, None, "nothing".to_owned()));
    };
    let occupied = occupy(&image, occupant).map_err(|error| error.to_string())?;
    let before = Fingerprint::quick(&image).map_err(|error| error.to_string())?;
    let pristine = folder.join(format!("disk-{}.before", spec.name));
    sparse_copy(&image, &pristine).map_err(|error| error.to_string())?;
    Ok((image, before, Some(pristine), words(&occupied.content)))
}

const fn occupant(holds: DiskHolds) -> Option<Occupant> {
    Some(match holds {
        DiskHolds::Blank => return None,
        DiskHolds::Ext4 => Occupant::Ext4,
        DiskHolds::Xfs => Occupant::Xfs,
        DiskHolds::Btrfs => Occupant::Btrfs,
        DiskHolds::Vfat => Occupant::Vfat,
        DiskHolds::Ntfs => Occupant::Ntfs,
        DiskHolds::Lvm => Occupant::LvmPv,
        DiskHolds::Md => Occupant::MdMember,
        DiskHolds::Luks => Occupant::Luks,
        DiskHolds::Zfs => Occupant::Zfs,
        DiskHolds::Ceph => Occupant::CephBluestore,
        DiskHolds::Swap => Occupant::Swap,
        DiskHolds::Gpt => Occupant::GptOnly,
        DiskHolds::Mbr => Occupant::MbrOnly,
        DiskHolds::Raw => Occupant::RawData,
        DiskHolds::PriorInstall => Occupant::PriorInstall,
    })
}

/// Copies a sparse file without filling its holes.
pub(super) fn sparse_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
    const PIECE: usize = 1 << 20;
    let mut source = std::fs::File::open(from)?;
    let length = source.metadata()?.len();
    if rustix::fs::ioctl_ficlone(std::fs::File::create(to)?, &source).is_ok() {
        return Ok(());
    }
    let mut target = std::fs::File::create(to)?;
    target.set_len(length)?;
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < length {
        // Where no data follows, the rest is a hole.
        let Ok(data) = rustix::fs::seek(&source, rustix::fs::SeekFrom::Data(at)) else { break };
        let hole = rustix::fs::seek(&source, rustix::fs::SeekFrom::Hole(data))?;
        source.seek(SeekFrom::Start(data))?;
        target.seek(SeekFrom::Start(data))?;
        let mut left = hole - data;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            source.read_exact(&mut buffer[..piece])?;
            target.write_all(&buffer[..piece])?;
            left -= piece as u64;
        }
        at = hole;
    }
    Ok(())
}

pub(super) fn look(
    name: &str,
    image: &Path,
    before: &Fingerprint,
    pristine: Option<&Path>,
    wanted: &[ContentSpec],
    firmware: Firmware,
    written: u64,
) -> Result<DiskAfter, String> {
    let difference = compare(before, image, pristine).map_err(|error| error.to_string())?;
    let mut after = DiskAfter {
        name: name.to_owned(),
        changed: !difference.same,
        first_change: difference.first,
        changed_blocks: difference.blocks,
        written,
        table: "none".to_owned(),
        bootable: false,
        volumes: Vec::new(),
        problem: None,
    };
    // What cannot be read is said, and is no fault of ours: an installer may have left it so.
    let disk = match Disk::open(image) {
        Ok(disk) => disk,
        Err(error) => {
            after.problem = Some(error.to_string());
            return Ok(after);
        }
    };
    let table = disk.table();
    let scheme = match table.scheme {
        Scheme::None => "none",
        Scheme::Mbr => "mbr",
        Scheme::Gpt => "gpt",
        Scheme::ProtectiveOnly => "damaged gpt",
    };
    scheme.clone_into(&mut after.table);
    let esp = table.partitions().iter().any(|entry| entry.is_esp());
    after.bootable = match firmware {
        Firmware::Bios => table.mbr.as_ref().is_some_and(|mbr| mbr.has_boot_code),
        Firmware::Uefi | Firmware::SecureBoot => esp,
    };
    after.problem = table.problems.first().map(ToString::to_string);
    for partition in disk.partitions() {
        let (fs, fs_label) = partition.content.as_ref().map(kind).unwrap_or_default();
        let label = partition.entry.label.clone().unwrap_or_default();
        let mut volume = Volume {
            number: partition.entry.number,
            label,
            fs,
            fs_label,
            bytes: partition.entry.size,
            files: std::collections::BTreeMap::new(),
        };
        files(&mut volume, wanted, || disk.tree(partition).map_err(|error| error.to_string()));
        after.volumes.push(volume);
    }
    if after.volumes.is_empty() {
        let content = disk.content().map_err(|error| error.to_string())?;
        let (fs, fs_label) = kind(&content);
        let mut volume = Volume {
            number: 0,
            label: String::new(),
            fs,
            fs_label,
            bytes: disk.bytes(),
            files: std::collections::BTreeMap::new(),
        };
        files(&mut volume, wanted, || disk.whole_tree().map_err(|error| error.to_string()));
        after.volumes.push(volume);
    }
    Ok(after)
}

/// Looks for the files that the profile wants in a volume with this label.
fn files(volume: &mut Volume, wanted: &[ContentSpec], tree: impl FnOnce() -> Result<Tree, String>) {
    let wanted: Vec<_> =
        wanted.iter().filter(|w| w.label == volume.label || w.label == volume.fs_label).collect();
    let paths: Vec<&String> = wanted.iter().flat_map(|w| w.files.iter().chain(&w.hostname_in)).collect();
    if paths.is_empty() {
        return;
    }
    let Ok(tree) = tree() else { return };
    for path in paths {
        let there = tree.metadata(path).ok().filter(assay_media::Node::is_file);
        let compared = wanted.iter().any(|w| w.hostname_in.as_ref() == Some(path));
        let first_line = (there.is_some() && compared)
            .then(|| tree.read(path, MAX_FILE).ok())
            .flatten()
            .map(|bytes| String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned());
        volume.files.insert(path.clone(), FileSeen { bytes: there.map(|node| node.size), first_line });
    }
}

/// The file system and its label; or what else is there.
fn kind(content: &Content) -> (String, String) {
    match content.found().first() {
        Some(found) => {
            let name = found.kind.blkid().unwrap_or_else(|| found.kind.name());
            (name.to_owned(), found.label.clone().unwrap_or_default())
        }
        None if content.is_blank() => ("blank".to_owned(), String::new()),
        None => ("data".to_owned(), String::new()),
    }
}

fn words(content: &Content) -> String {
    let found: Vec<_> = content.found().iter().map(|found| found.kind.name()).collect();
    match found.as_slice() {
        [] if content.is_blank() => "nothing".to_owned(),
        [] => "data without a signature".to_owned(),
        found => found.join(", "),
    }
}
