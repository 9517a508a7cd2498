//! What disks hold before a machine is switched on, as the tools see it that everybody uses.

use std::fs::File;

use assay_process::Cmd;
use assay_qemu::Contents;

#[tokio::test]
async fn the_usual_tools_know_what_is_on_a_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    for contents in Contents::ALL {
        let image = folder.path().join("disk.raw");
        File::create(&image).expect("made").set_len(64 << 20).expect("sized");
        contents.write_to(&image).await.unwrap_or_else(|error| panic!("{contents:?}: {error}"));
        assert_eq!(std::fs::metadata(&image).expect("there").len(), 64 << 20, "{contents:?}");
        let output = Cmd::new("wipefs").args(["--noheadings", "--output", "TYPE"]).arg(&image).run_ok().await;
        let found = output.expect("wipefs is installed").stdout_text().into_owned();
        let mut types: Vec<_> = found.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        types.sort_unstable();
        types.dedup();
        let expected: &[&str] = match contents {
            Contents::Ext4 => &["ext4"],
            Contents::Xfs => &["xfs"],
            Contents::Btrfs => &["btrfs"],
            // Its boot sector looks like a partition table as well.
            Contents::Ntfs => &["dos", "ntfs"],
            Contents::Luks => &["crypto_LUKS"],
            Contents::Lvm => &["LVM2_member"],
            Contents::Swap => &["swap"],
            Contents::Md => &["linux_raid_member"],
            Contents::Zfs => &["zfs_member"],
            Contents::Ceph => &["ceph_bluestore"],
            Contents::Gpt => &["PMBR", "gpt"],
            Contents::GptBackup => &["gpt"],
            Contents::Mbr => &["dos"],
            Contents::Raw => &[],
        };
        assert_eq!(types, expected, "{contents:?}");
    }
}
