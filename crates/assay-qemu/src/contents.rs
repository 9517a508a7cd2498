//! What is on a disk before the machine is first switched on: data that somebody may miss.
//!
//! File systems and the like come from the tools that make them, as on a real disk. What no tool here can make
//! without a kernel module or a cluster (md, ZFS, Ceph) is written as the labels by which it is known.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    time::Duration,
};

use assay_process::Cmd;
use serde::{Deserialize, Serialize};

use crate::{QemuError, error::io_error};

const LIMIT: Duration = Duration::from_mins(2);
const MIB: u64 = 1024 * 1024;

/// What is on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contents {
    /// An ext4 file system.
    Ext4,
    /// An XFS file system.
    Xfs,
    /// A btrfs file system.
    Btrfs,
    /// An NTFS file system.
    Ntfs,
    /// A LUKS container.
    Luks,
    /// An LVM physical volume.
    Lvm,
    /// Swap space.
    Swap,
    /// A member of a Linux software RAID (metadata 1.2).
    Md,
    /// A member of a ZFS pool.
    Zfs,
    /// A Ceph BlueStore OSD.
    Ceph,
    /// A GPT partition table with one partition.
    Gpt,
    /// A GPT partition table of which only the backup at the disk's end is left.
    GptBackup,
    /// A DOS partition table with one partition.
    Mbr,
    /// Data that nothing identifies: a little of it, in the middle of the disk.
    Raw,
}

impl Contents {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Ext4,
        Self::Xfs,
        Self::Btrfs,
        Self::Ntfs,
        Self::Luks,
        Self::Lvm,
        Self::Swap,
        Self::Md,
        Self::Zfs,
        Self::Ceph,
        Self::Gpt,
        Self::GptBackup,
        Self::Mbr,
        Self::Raw,
    ];

    /// The smallest disk that it fits on, in MiB.
    pub(crate) const fn smallest_mib(self) -> u64 {
        match self {
            Self::Xfs | Self::Luks | Self::Btrfs => 32,
            _ => 8,
        }
    }

    /// Writes it to the empty image `path`.
    ///
    /// # Errors
    /// [`QemuError`] when a tool is missing or the image cannot be written.
    pub async fn write_to(self, path: &Path) -> Result<(), QemuError> {
        let make = |program: &str, options: &[&str]| Cmd::new(program).args(options).arg(path).timeout(LIMIT);
        match self {
            Self::Ext4 => run(make("mkfs.ext4", &["-q", "-F"])).await,
            // It thinks a disk of the lab too small for daily use, which is right.
            Self::Xfs => run(make("mkfs.xfs", &["-q", "-f", "--unsupported"])).await,
            Self::Btrfs => run(make("mkfs.btrfs", &["-q", "-f", "--mixed"])).await,
            Self::Ntfs => run(make("mkntfs", &["-q", "-Q", "-F"])).await,
            Self::Swap => run(make("mkswap", &["-q"])).await,
            Self::Luks => {
                let cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
                let format = Cmd::new("cryptsetup")
                    .args(["luksFormat", "--batch-mode", "--type", "luks2", "--key-file", "-"])
                    .args(cheap)
                    .arg(path)
                    .stdin("nobody will ever open this")
                    .timeout(LIMIT);
                run(format).await
            }
            Self::Lvm => physical_volume(path).await,
            Self::Gpt => run(make("sgdisk", &["--new=1:2048:+4M"])).await,
            Self::GptBackup => {
                run(make("sgdisk", &["--new=1:2048:+4M"])).await?;
                // The protective MBR, the header, and the table of 128 entries.
                by_hand(path, |image, _| image.write_all_at(&vec![0; 34 * 512], 0))
            }
            Self::Mbr => by_hand(path, |image, _| image.write_all_at(&mbr(), 0)),
            Self::Md => by_hand(path, |image, size| image.write_all_at(&md_superblock(size), 4096)),
            Self::Zfs => by_hand(path, zfs_labels),
            Self::Ceph => by_hand(path, |image, _| {
                let label = b"bluestore block device\n5e55a110-1ab0-4000-8000-00000000ceff\n";
                image.write_all_at(label, 0)
            }),
            Self::Raw => by_hand(path, |image, size| image.write_all_at(&noise(), size / 2)),
        }
    }
}

async fn run(command: Cmd) -> Result<(), QemuError> {
    command.run_ok().await?;
    Ok(())
}

/// LVM takes block devices only, and must look at no other disk of this machine.
async fn physical_volume(path: &Path) -> Result<(), QemuError> {
    let device = Cmd::new("losetup").args(["--find", "--show"]).arg(path).timeout(LIMIT).run_ok().await?;
    let device = device.stdout_text().trim().to_owned();
    let only = format!("devices{{filter=[\"a|^{device}$|\",\"r|.*|\"] use_devicesfile=0}}");
    let made = Cmd::new("pvcreate").args(["--yes", "--config", &only, &device]).timeout(LIMIT).run_ok().await;
    Cmd::new("losetup").args(["--detach", &device]).timeout(LIMIT).run_ok().await?;
    made?;
    Ok(())
}

fn by_hand(path: &Path, write: impl FnOnce(&File, u64) -> io::Result<()>) -> Result<(), QemuError> {
    let written = || {
        let image = OpenOptions::new().write(true).open(path)?;
        write(&image, image.metadata()?.len())
    };
    written().map_err(io_error("writing", path))
}

/// One Linux partition from 1 MiB on.
fn mbr() -> [u8; 512] {
    let mut sector = [0; 512];
    sector[446 + 4] = 0x83;
    sector[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
    sector[446 + 12..446 + 16].copy_from_slice(&8192_u32.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// `struct mdp_superblock_1` of the kernel's `md_p.h`: a mirror of two, of which this is the first.
fn md_superblock(size: u64) -> Vec<u8> {
    const DEVICES: usize = 2;
    let mut block = vec![0; 256 + 2 * DEVICES];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let sectors = size / 512 - 2048;
    put(0, &0xa92b_4efc_u32.to_le_bytes());
    put(4, &1_u32.to_le_bytes());
    put(16, b"assay lab array!");
    put(32, b"lab:0");
    put(72, &1_u32.to_le_bytes());
    put(80, &sectors.to_le_bytes());
    put(92, &(DEVICES as u32).to_le_bytes());
    put(128, &2048_u64.to_le_bytes());
    put(136, &sectors.to_le_bytes());
    put(144, &8_u64.to_le_bytes());
    put(168, b"assay lab member");
    put(220, &(DEVICES as u32).to_le_bytes());
    put(258, &1_u16.to_le_bytes());
    // The sum of its 32-bit words, with the carries added again.
    let sum: u64 = block
        .chunks_exact(4)
        .map(|word| u64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]])))
        .sum();
    let checksum = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
    block[216..220].copy_from_slice(&checksum.to_le_bytes());
    block
}

/// The rings of überblocks in the four labels, two at each end.
fn zfs_labels(image: &File, size: u64) -> io::Result<()> {
    const LABEL: u64 = 256 * 1024;
    const RING: u64 = 128 * 1024;
    let size = size / LABEL * LABEL;
    for label in [0, LABEL, size - 2 * LABEL, size - LABEL] {
        for slot in 0..16_u64 {
            let mut block = Vec::new();
            for word in [0x00ba_b10c, 5000, 1000 + slot, 0x1234_5678_9abc_def0, 1_700_000_000] {
                block.extend(u64::to_le_bytes(word));
            }
            image.write_all_at(&block, label + RING + slot * 1024)?;
        }
    }
    Ok(())
}

/// A megabyte that looks like nothing.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(MIB as usize / 8).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_those_of_machine_files() {
        let words = Contents::ALL.map(|contents| serde_json::to_value(contents).expect("a word"));
        let all = [
            "ext4",
            "xfs",
            "btrfs",
            "ntfs",
            "luks",
            "lvm",
            "swap",
            "md",
            "zfs",
            "ceph",
            "gpt",
            "gpt-backup",
            "mbr",
            "raw",
        ];
        assert_eq!(words, all);
    }

    #[tokio::test]
    async fn what_is_written_by_hand_is_where_it_belongs() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk.raw");
        for (contents, at, bytes) in [
            (Contents::Mbr, 510, &[0x55, 0xaa][..]),
            (Contents::Md, 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
            (Contents::Zfs, 128 * 1024, &[0x0c, 0xb1, 0xba, 0]),
            (Contents::Ceph, 0, b"bluestore block device\n"),
        ] {
            File::create(&path).expect("made").set_len(8 * MIB).expect("sized");
            contents.write_to(&path).await.expect("written");
            let mut found = vec![0; bytes.len()];
            File::open(&path).expect("opened").read_exact_at(&mut found, at).expect("read");
            assert_eq!(found, bytes, "{contents:?}");
        }
        File::create(&path).expect("made").set_len(8 * MIB).expect("sized");
        Contents::Raw.write_to(&path).await.expect("written");
        let bytes = std::fs::read(&path).expect("read");
        assert!(bytes[..MIB as usize].iter().all(|byte| *byte == 0), "nothing at the front");
        let middle = &bytes[4 * MIB as usize..5 * MIB as usize];
        assert!(middle.chunks_exact(512).all(|sector| sector.iter().any(|byte| *byte != 0)), "noise");
    }
}
