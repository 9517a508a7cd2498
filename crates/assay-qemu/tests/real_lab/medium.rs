//! A medium in a lab machine: what the firmware boots from, before and after it is ejected.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use assay_qemu::Lab;

use crate::{
    bench::{Bench, shipped_machines},
    guest::Guest,
};

const BLOCK: usize = 2048;

/// A program of 512 bytes for a boot sector at 0x7c00: it says `words` on the first serial port and does nothing more.
fn boot_sector(words: &str) -> Vec<u8> {
    let mut sector = vec![
        0xfc, 0x31, 0xc0, 0x8e, 0xd8, // cld; ds = 0
        0xbe, 0x16, 0x7c, // si = the words
        0xac, 0x84, 0xc0, // the next of them
        0x74, 0x06, // at the end: stop
        0xba, 0xf8, 0x03, 0xee, // out
        0xeb, 0xf5, // and on
        0xf4, 0xeb, 0xfd, // hlt, for ever
    ];
    sector.extend(words.bytes().chain([b'\n', 0]));
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

/// A CD with nothing but a boot sector, by the El Torito specification: a volume, a boot record, its catalogue.
fn cd(words: &str) -> Vec<u8> {
    let mut image = vec![0; 64 * BLOCK];
    let mut put = |block: usize, at: usize, bytes: &[u8]| {
        image[block * BLOCK + at..][..bytes.len()].copy_from_slice(bytes);
    };
    put(16, 0, b"\x01CD001\x01");
    put(17, 0, b"\x00CD001\x01EL TORITO SPECIFICATION");
    put(17, 0x47, &19_u32.to_le_bytes());
    put(18, 0, b"\xffCD001\x01");
    // The validation entry, whose words sum up to nothing, and the entry to boot: no emulation, one sector, block 20.
    put(19, 0, &[1]);
    put(19, 0x1c, &[0xaa, 0x55, 0x55, 0xaa]);
    put(19, 0x20, &[0x88]);
    put(19, 0x26, &1_u16.to_le_bytes());
    put(19, 0x28, &20_u32.to_le_bytes());
    put(20, 0, &boot_sector(words));
    image
}

/// Healthy machines that do not boot from the network.
fn machines() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let base = fs::read_to_string(shipped_machines().join("healthy-bios.toml")).expect("read");
    let base = base.replacen("power_on = \"netboot\"", "power_on = \"disk\"", 1);
    fs::write(folder.path().join("bios.toml"), &base).expect("written");
    let uefi = "base = \"bios\"\nunit = \"1e\"\ndescription = \"UEFI\"\nfirmware = \"uefi\"\n";
    fs::write(folder.path().join("uefi.toml"), uefi).expect("written");
    folder
}

fn image(folder: &Path, content: &[u8]) -> PathBuf {
    let path = folder.join("small.iso");
    fs::write(&path, content).expect("written");
    path
}

#[tokio::test]
async fn a_machine_boots_from_its_medium_and_from_its_disk_once_that_is_ejected() {
    let (bench, machines) = (Bench::new("aqm-"), machines());
    let lab = bench.lab_of(machines.path());
    let name = "bios";
    let small = image(machines.path(), &cd("this is the medium"));
    // Something to boot on a disk, which a power-on makes.
    lab.power_on(name).await.expect("on");
    lab.power_off(name).await.expect("off");
    let disk = lab.folder(name).expect("a folder").disk("nvme0");
    let mut disk = OpenOptions::new().write(true).open(disk).expect("a disk");
    disk.write_all(&boot_sector("this is the disk")).expect("written");
    drop(disk);

    lab.insert_medium(name, &small).await.expect("in");
    for _ in 0..2 {
        lab.power_cycle(name).await.expect("on");
        Guest::speaking(&lab, name).await.until("this is the medium").await;
    }
    let mut guest = Guest::speaking(&lab, name).await;
    // Another program ejects it, while the machine runs.
    bench.lab_of(machines.path()).eject_medium(name).await.expect("out");
    reset(&lab, name).await;
    guest.until("this is the disk").await;
    // The drive is there still, so it can be inserted while the machine runs, too.
    lab.insert_medium(name, &small).await.expect("in");
    reset(&lab, name).await;
    guest.until("this is the medium").await;
    lab.eject_medium(name).await.expect("out");
    lab.power_cycle(name).await.expect("on");
    Guest::speaking(&lab, name).await.until("this is the disk").await;
    // This one was switched on without a drive.
    lab.insert_medium(name, &small).await.expect("in");
    reset(&lab, name).await;
    Guest::speaking(&lab, name).await.until("this is the disk").await;
    lab.power_cycle(name).await.expect("on");
    Guest::speaking(&lab, name).await.until("this is the medium").await;

    lab.power_off(name).await.expect("off");
    fs::remove_file(&small).expect("removed");
    let error = lab.power_on(name).await.expect_err("it is gone").to_string();
    assert!(error.contains("is inserted and gone; eject it, or bring it back"), "{error}");
    lab.eject_medium(name).await.expect("out");
    lab.power_on(name).await.expect("on");
}

/// iPXE's own image says on the console of UEFI firmware, which is also on the serial port, that it runs.
#[tokio::test]
async fn a_machine_with_uefi_boots_from_its_medium() {
    let (bench, machines) = (Bench::new("aqn-"), machines());
    let lab = bench.lab_of(machines.path());
    let ipxe = Path::new("/usr/lib/ipxe/ipxe.iso");
    lab.insert_medium("uefi", ipxe).await.expect("Debian's ipxe is installed");
    lab.power_on("uefi").await.expect("on");
    Guest::speaking(&lab, "uefi").await.until("iPXE initialising devices").await;
}

async fn reset(lab: &Lab, name: &str) {
    lab.qmp(name).await.expect("a monitor").system_reset().await.expect("reset");
}
