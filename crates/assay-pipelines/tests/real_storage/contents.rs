//! Everything that somebody may miss halts the stage, and nothing of it changes, until a permit names the disk for it.

use std::path::Path;

use assay_model::Verdict;
use assay_model::host::spec::LeaveOnDisks;
use assay_model::host::storage::{RefusalKind, WipeProbe};

use crate::bench::{Bench, Disk, SIZE, tool};

/// Puts something on an image, and says by what words it must be recognised.
async fn halts(what: &str, image: &str, bench: &Bench) -> Disk {
    let disk = Disk::of(bench.root.path().join(image)).await;
    bench.plug("sda", "S1", &disk);
    let before = disk.digest();
    let outcome = bench.run().await;
    assert_eq!(
        (outcome.judgement.verdict, outcome.codes()),
        (Verdict::Fail, vec!["UnexpectedData"]),
        "{what}"
    );
    assert_eq!(outcome.refusals(), [RefusalKind::HoldsData], "{what}");
    let message = &outcome.judgement.message;
    assert!(message.contains(what) && message.contains("disk S1 (sda)"), "{what}: {message}");
    assert_eq!(disk.digest(), before, "{what}: not one byte may change");
    disk
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.expect("S1");
    bench.allow(&["S1"], &[]);
    bench
}

fn empty(bench: &Bench) -> std::path::PathBuf {
    let image = bench.root.path().join("image");
    std::fs::File::create(&image).expect("an image").set_len(SIZE).expect("its size");
    image
}

#[tokio::test]
async fn file_systems_and_containers_made_by_their_own_tools() {
    let luks = ["luksFormat", "--batch-mode", "--key-file", "/proc/self/exe", "--keyfile-size", "32"];
    let cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    let luks1 = [&luks[..], &cheap, &["--type", "luks1"]].concat();
    let luks2 = [&luks[..], &cheap, &["--type", "luks2"]].concat();
    let cases: [(&str, &str, &[&str]); 11] = [
        ("ext2 file system", "mkfs.ext2", &["-q", "-F"]),
        ("ext3 file system", "mkfs.ext3", &["-q", "-F"]),
        ("ext4 file system `home`", "mkfs.ext4", &["-q", "-F", "-L", "home"]),
        ("XFS file system", "mkfs.xfs", &["-q", "-f", "--unsupported"]),
        ("btrfs file system", "mkfs.btrfs", &["-q", "-f", "--mixed"]),
        ("NTFS file system", "mkntfs", &["-q", "-Q", "-F"]),
        ("swap space", "mkswap", &["-q"]),
        ("GPT partition table", "sgdisk", &["--new=1:2048:+4M"]),
        ("LUKS1 container", "cryptsetup", &luks1),
        ("LUKS2 container", "cryptsetup", &luks2),
        ("LVM2 physical volume", "pvcreate", &[]),
    ];
    for (what, program, args) in cases {
        let mut bench = bench();
        let image = empty(&bench);
        match program {
            "pvcreate" => physical_volume(&image).await,
            _ => tool(program, args, &image).await,
        }
        halts(what, "image", &bench).await;
        // A permit for another disk's data is none for this one's.
        bench.allow(&["S1"], &["S2"]);
        let disk = halts(what, "image", &bench).await;
        // And this is how it may go.
        bench.spec.limits.storage.leave = LeaveOnDisks::Zeroed;
        bench.allow(&["S1"], &["S1"]);
        let erased = bench.run().await;
        assert!(erased.evidence.written && erased.evidence.disks[0].data_permitted, "{what}");
        assert!(
            erased.evidence.disks[0].probe.as_ref().is_some_and(WipeProbe::holds_data),
            "{what}: recorded"
        );
        drop(disk);
    }
}

async fn physical_volume(image: &Path) {
    let disk = Disk::of(image.to_owned()).await;
    let node = disk.node.display();
    let only = format!("devices{{filter=[\"a|^{node}$|\",\"r|.*|\"] use_devicesfile=0}}");
    tool("pvcreate", &["--yes", "--config", &only], &disk.node).await;
}

#[tokio::test]
async fn an_array_member_and_what_only_magic_can_make_here() {
    let md = 0xa92b_4efc_u32.to_le_bytes();
    let uberblock = 0x00ba_b10c_u64.to_le_bytes();
    let cases: [(&str, u64, &[u8]); 9] = [
        ("MBR partition table", 446, &mbr()),
        ("Linux RAID (md) member, metadata 0.90", SIZE - (64 << 10), &md),
        ("Linux RAID (md) member, metadata 1.0", SIZE - (8 << 10), &md),
        ("Linux RAID (md) member, metadata 1.1", 0, &md),
        ("Linux RAID (md) member, metadata 1.2", 4096, &md),
        ("ZFS pool member", SIZE - (256 << 10) + (128 << 10), &uberblock),
        ("ZFS pool member", 128 << 10, &uberblock),
        ("Ceph BlueStore OSD", 0, b"bluestore block device\n"),
        ("VMFS volume", 1 << 20, &[0x0d, 0xd0, 0x01, 0xc0]),
    ];
    for (what, offset, magic) in cases {
        let bench = bench();
        let disk = Disk::of(empty(&bench)).await;
        disk.put(offset, magic);
        drop(disk);
        halts(what, "image", &bench).await;
    }
}

/// One Linux partition, as the last 66 bytes of the first sector.
fn mbr() -> [u8; 66] {
    let mut table = [0; 66];
    table[4] = 0x83;
    table[8..16].copy_from_slice(&[0, 8, 0, 0, 0, 64, 0, 0]);
    table[64..].copy_from_slice(&[0x55, 0xaa]);
    table
}

#[tokio::test]
async fn a_table_of_which_only_the_backup_is_left() {
    let bench = bench();
    let image = empty(&bench);
    tool("sgdisk", &["--new=1:2048:+4M"], &image).await;
    let disk = Disk::of(image).await;
    // The protective MBR, the header, and the table of 128 entries.
    disk.put(0, &vec![0; 34 * 512]);
    drop(disk);
    halts("GPT partition table (backup header)", "image", &bench).await;
}

#[tokio::test]
async fn one_byte_anywhere_that_nothing_explains() {
    for offset in [0, 511, 513, 8 << 20, (SIZE / 2) + 77, SIZE - (8 << 20) - 1, SIZE - 4097, SIZE - 1] {
        let bench = bench();
        let disk = Disk::of(empty(&bench)).await;
        disk.put(offset, &[1]);
        drop(disk);
        halts(&format!("data that is not zero, first seen at byte {}", offset / 512 * 512), "image", &bench)
            .await;
    }
}
