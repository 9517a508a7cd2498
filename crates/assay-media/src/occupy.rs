//! Disks that already hold something: for installers that must notice, ask, or keep their hands off.
//!
//! Each occupant is written as its own tool would write it where that is a matter of bytes: the genuine superblock or
//! header with its genuine checksum, at its place, without root and without any tool. Two are whole file systems that can
//! be mounted and read (ext4, FAT); of the others there is what every tool looks at to know them, and a payload in the
//! middle that is recognised again. Sources stand with each format.

mod containers;
mod ext4;
mod filesystems;

use std::fs::File;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::bytes::put;
use crate::fat::{Format, format, put_files};
use crate::source::Overlay;
use crate::stage::derived;
use crate::table::{MbrSlot, NewPartition, Sector, TYPE_ESP, TYPE_LINUX, write_gpt, write_slot};
use crate::{Content, MediaError, SliceReader, probe, sparse};
pub(crate) use ext4::{NewFile, write_ext4};

const MIB: u64 = 1 << 20;
/// The smallest disk for any occupant, in bytes.
pub const SMALLEST: u64 = 16 * MIB;
/// The smallest disk for [`Occupant::PriorInstall`], in bytes.
pub const SMALLEST_INSTALL: u64 = 128 * MIB;
/// Bytes of the payload.
const PAYLOAD: usize = 64 << 10;

/// What a disk is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occupant {
    /// An ext4 file system with the payload as a file.
    Ext4,
    /// An XFS superblock (version 5).
    Xfs,
    /// A btrfs superblock.
    Btrfs,
    /// A FAT file system with the payload as a file.
    Vfat,
    /// An NTFS boot sector and the first records of its file table.
    Ntfs,
    /// An LVM2 physical volume that belongs to no group yet.
    LvmPv,
    /// A member of a Linux software RAID, metadata 1.2.
    MdMember,
    /// A LUKS2 container without a key.
    Luks,
    /// A member of a ZFS pool.
    Zfs,
    /// A Ceph BlueStore OSD.
    CephBluestore,
    /// Swap space.
    Swap,
    /// A GPT with one partition, and the payload in it without a mark.
    GptOnly,
    /// An MBR with one partition, and the payload in it without a mark.
    MbrOnly,
    /// The payload in the middle of the disk, and nothing else.
    RawData,
    /// What an installer left earlier: an EFI system partition `boot`, a root `nixos` and a data partition.
    PriorInstall,
}

impl Occupant {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Ext4,
        Self::Xfs,
        Self::Btrfs,
        Self::Vfat,
        Self::Ntfs,
        Self::LvmPv,
        Self::MdMember,
        Self::Luks,
        Self::Zfs,
        Self::CephBluestore,
        Self::Swap,
        Self::GptOnly,
        Self::MbrOnly,
        Self::RawData,
        Self::PriorInstall,
    ];

    /// The smallest disk that it fits on, in bytes.
    pub const fn smallest(self) -> u64 {
        match self {
            Self::PriorInstall => SMALLEST_INSTALL,
            // The room for keys that LUKS2 keeps free, and something behind it.
            Self::Luks => 2 * SMALLEST,
            // Smaller ones are none: ZFS's own limit (`SPA_MINDEVSIZE`), which libblkid knows.
            Self::Zfs => 4 * SMALLEST,
            _ => SMALLEST,
        }
    }
}

/// A disk that was occupied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Occupied {
    /// What it holds, as asked for.
    pub occupant: Occupant,
    /// What it holds, as found.
    pub content: Content,
    /// What somebody would miss.
    pub payload: Payload,
}

/// Recognisable bytes in a place that no metadata uses: text, so that a person who looks knows what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// Their SHA-256, hexadecimal.
    pub sha256: String,
}

impl Payload {
    /// Whether it is still there, every byte of it.
    ///
    /// # Errors
    /// [`MediaError::Io`]; a disk that became too small has it no longer.
    pub fn survives(&self, path: &Path) -> Result<bool, MediaError> {
        let disk = SliceReader::open(path)?;
        let mut bytes = vec![0; usize::try_from(self.bytes).unwrap_or_default().min(PAYLOAD)];
        match disk.read_exact_at(&mut bytes, self.offset) {
            Ok(()) => Ok(hex::encode(Sha256::digest(&bytes)) == self.sha256),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(MediaError::io("reading", path)(error)),
        }
    }
}

/// Occupies a blank raw image. The same image and the same occupant give the same bytes.
///
/// # Errors
/// [`MediaError::Unsupported`] when the image is not blank, [`MediaError::TooSmall`] below [`Occupant::smallest`],
/// [`MediaError::ReadBack`] when what is found afterwards is not what was written.
pub fn occupy(path: &Path, occupant: Occupant) -> Result<Occupied, MediaError> {
    if occupant == Occupant::PriorInstall {
        return prior_install(path, "node-0a55a1", &[]);
    }
    let disk = blank(path, occupant)?;
    let identity = derived(&[b"occupant", format!("{occupant:?}").as_bytes(), &disk.length().to_le_bytes()]);
    let offset = write(&disk, occupant, identity).map_err(Trouble::explain(path))?;
    finish(path, &disk, occupant, offset)
}

/// Occupies a blank raw image with what the reference installer leaves: a GPT with an EFI system partition (FAT, `boot`),
/// a root (ext4, `nixos`) that knows the machine's name, and a data partition (ext4, `longhorn1`). `files` go to the root
/// as well.
///
/// The root has `/etc/hostname`, `/etc/cluster-node-id` and `/etc/os-release`; the payload is `/srv/data` on the data
/// partition. Nothing of it boots.
///
/// # Errors
/// As [`occupy`].
pub fn prior_install(path: &Path, hostname: &str, files: &[(&str, &[u8])]) -> Result<Occupied, MediaError> {
    let occupant = Occupant::PriorInstall;
    let disk = blank(path, occupant)?;
    let offset = install(&disk, hostname, files).map_err(Trouble::explain(path))?;
    finish(path, &disk, occupant, offset)
}

fn blank(path: &Path, occupant: Occupant) -> Result<SliceReader, MediaError> {
    let opened = File::options().read(true).write(true).open(path).and_then(SliceReader::whole);
    let disk = opened.map_err(MediaError::io("opening", path))?;
    let first = sparse::first_data(&disk).map_err(MediaError::io("reading", path))?.first;
    if let Some(first) = first {
        let why = format!("{} is not blank: byte {first} is not zero", path.display());
        return Err(MediaError::Unsupported { what: "occupying a disk that holds something", why });
    }
    let (bytes, needed) = (disk.length(), occupant.smallest());
    if bytes < needed || !bytes.is_multiple_of(4096) {
        let what = format!("{} (in whole blocks of 4096)", path.display());
        return Err(MediaError::TooSmall { what, bytes, needed });
    }
    Ok(disk)
}

/// Two kinds of failure in one place: those that have their words already, and the operating system's.
pub(crate) enum Trouble {
    Said(MediaError),
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<MediaError> for Trouble {
    fn from(error: MediaError) -> Self {
        Self::Said(error)
    }
}

impl Trouble {
    fn explain(path: &Path) -> impl FnOnce(Self) -> MediaError {
        move |trouble| match trouble {
            Self::Said(error) => error,
            Self::Io(error) => MediaError::io("writing to", path)(error),
        }
    }
}

/// Writes the occupant and its payload; where the payload is.
fn write(disk: &SliceReader, occupant: Occupant, identity: Uuid) -> Result<u64, Trouble> {
    let size = disk.length();
    // Far from both ends, where formats keep their metadata.
    let middle = size / 2 / MIB * MIB;
    let payload = payload(occupant);
    match occupant {
        Occupant::Ext4 => {
            let file = NewFile { path: "/data", mode: 0o644, bytes: &payload };
            return Ok(write_ext4(disk, "data", identity, &[file])?[0]);
        }
        Occupant::Vfat => {
            let volume = Overlay::over(disk.clone());
            let serial = crc32fast::hash(identity.as_bytes());
            format(&volume, &Format { sector: 512, label: "DATA", serial, start: 0 })?;
            put_files(&volume, &[("data.txt", &payload)])?;
            volume.commit()?;
            return find(disk, &payload);
        }
        Occupant::Xfs => filesystems::xfs(disk, identity)?,
        Occupant::Btrfs => filesystems::btrfs(disk, identity)?,
        Occupant::Ntfs => filesystems::ntfs(disk, identity)?,
        Occupant::Swap => filesystems::swap(disk, identity)?,
        Occupant::LvmPv => containers::lvm(disk, identity)?,
        Occupant::MdMember => containers::md(disk, identity)?,
        Occupant::Luks => containers::luks2(disk, identity)?,
        Occupant::Zfs => containers::zfs(disk, identity)?,
        Occupant::CephBluestore => containers::ceph(disk, identity)?,
        Occupant::GptOnly => {
            let last = size / 512 - 2048;
            let (guid, label) = (derived(&[identity.as_bytes()]), "data".to_owned());
            let partition = NewPartition { kind: TYPE_LINUX, guid, label, first: 2048, last };
            write_gpt(disk, Sector::B512, identity, &[partition])?;
        }
        Occupant::MbrOnly => {
            let mut sector = vec![0; 512];
            put(&mut sector, 440, &identity.as_bytes()[..4]);
            let count = u32::try_from(size / 512 - 2048).unwrap_or(u32::MAX);
            write_slot(&mut sector, 0, MbrSlot { active: true, kind: 0x83, start: 2048, count });
            disk.write_all_at(&sector, 0)?;
        }
        Occupant::RawData | Occupant::PriorInstall => {}
    }
    disk.write_all_at(&payload, middle)?;
    Ok(middle)
}

fn install(disk: &SliceReader, hostname: &str, files: &[(&str, &[u8])]) -> Result<u64, Trouble> {
    let size = disk.length();
    let identity = derived(&[b"prior install", hostname.as_bytes(), &size.to_le_bytes()]);
    let part = |number: u8| derived(&[identity.as_bytes(), &[number]]);
    // The reference has 1 GiB for the first and the last; a small disk an eighth of its own.
    let outer = (1024 * MIB).min(size / 8 / MIB * MIB);
    let data = (size - MIB) / MIB * MIB - outer;
    let cuts = [MIB, MIB + outer, data, data + outer];
    let labels = [(TYPE_ESP, "boot"), (TYPE_LINUX, "nixos"), (TYPE_LINUX, "longhorn1")];
    let partitions: Vec<_> = labels
        .iter()
        .zip(cuts.windows(2))
        .zip(1..)
        .map(|(((kind, label), cut), number)| NewPartition {
            kind: *kind,
            guid: part(number),
            label: (*label).to_owned(),
            first: cut[0] / 512,
            last: cut[1] / 512 - 1,
        })
        .collect();
    write_gpt(disk, Sector::B512, identity, &partitions)?;

    let volume = Overlay::over(disk.slice(cuts[0], outer)?);
    let serial = crc32fast::hash(identity.as_bytes());
    format(&volume, &Format { sector: 512, label: "boot", serial, start: cuts[0] })?;
    let entry = format!("title {hostname}\nlinux /EFI/nixos/kernel.efi\n");
    let entries: [(&str, &[u8]); 2] = [
        ("loader/loader.conf", b"timeout 5\ndefault nixos-generation-1.conf\n"),
        ("loader/entries/nixos-generation-1.conf", entry.as_bytes()),
    ];
    put_files(&volume, &entries)?;
    volume.commit()?;

    let name = format!("{hostname}\n");
    let own: [(&str, &[u8]); 3] = [
        ("/etc/hostname", name.as_bytes()),
        ("/etc/cluster-node-id", name.as_bytes()),
        ("/etc/os-release", b"NAME=NixOS\nID=nixos\nPRETTY_NAME=\"NixOS\"\n"),
    ];
    let root: Vec<_> =
        own.iter().chain(files).map(|(path, bytes)| NewFile { path, mode: 0o644, bytes }).collect();
    write_ext4(&disk.slice(cuts[1], cuts[2] - cuts[1])?, "nixos", part(8), &root)?;

    let payload = payload(Occupant::PriorInstall);
    let file = NewFile { path: "/srv/data", mode: 0o600, bytes: &payload };
    let places = write_ext4(&disk.slice(cuts[2], outer)?, "longhorn1", part(9), &[file])?;
    Ok(cuts[2] + places[0])
}

/// Lines of text, each with its number, so that no two sectors are the same.
fn payload(occupant: Occupant) -> Vec<u8> {
    let name = format!("{occupant:?}");
    let lines = (0..)
        .flat_map(|line| format!("assay {name} {line:06}: these bytes belong to somebody\n").into_bytes());
    lines.take(PAYLOAD).collect()
}

/// Where the payload lies in a file system that put it somewhere.
fn find(disk: &SliceReader, payload: &[u8]) -> Result<u64, Trouble> {
    for extent in sparse::extents(disk) {
        let (from, to) = extent?;
        let mut at = from.next_multiple_of(512);
        let mut sector = [0; 512];
        while at + 512 <= to {
            disk.read_exact_at(&mut sector, at)?;
            if sector[..] == payload[..512] {
                return Ok(at);
            }
            at += 512;
        }
    }
    let (place, why) = ("the disk".to_owned(), "the payload is not there".to_owned());
    Err(MediaError::ReadBack { place, why }.into())
}

fn finish(path: &Path, disk: &SliceReader, occupant: Occupant, offset: u64) -> Result<Occupied, MediaError> {
    disk.file().sync_data().map_err(MediaError::io("writing to", path))?;
    let content = probe(disk)?;
    let sha256 = hex::encode(Sha256::digest(payload(occupant)));
    let payload = Payload { offset, bytes: PAYLOAD as u64, sha256 };
    if content.is_blank() || !payload.survives(path)? {
        let (place, why) = (path.display().to_string(), "the payload is not in one piece".to_owned());
        return Err(MediaError::ReadBack { place, why });
    }
    Ok(Occupied { occupant, content, payload })
}

#[cfg(test)]
mod tests;
