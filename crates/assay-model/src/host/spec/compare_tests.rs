//! The table: one change to a machine or its spec, and what is said of it.

use super::*;
use crate::host::inventory::{Bios, Dimm, Disk, Memory, Nic, PciDevice, System, Transport};

fn machine() -> Inventory {
    let some = |text: &str| Some(text.to_owned());
    let dimm = |slot: &str, serial: &str| Dimm {
        locator: some(slot),
        size_mib: Some(16_384),
        manufacturer: some("Samsung"),
        part: some("M393"),
        serial: some(serial),
        ..Dimm::default()
    };
    let disk = |name: &str, serial: &str, wwn: &str, size: u64| Disk {
        name: name.into(),
        serial: some(serial),
        wwn: some(wwn),
        model: some("MZQL2960"),
        firmware: some("GDC5602Q"),
        size_bytes: Some(size),
        transport: Transport::Nvme,
        ..Disk::default()
    };
    let nic = |name: &str, mac: &str| Nic {
        name: name.into(),
        mac: some(mac),
        driver: some("ice"),
        speed_mbps: Some(25_000),
        carrier: Some(true),
        ..Nic::default()
    };
    let gpu = |address: &str| PciDevice {
        address: address.into(),
        vendor_device: "10de:20b5".into(),
        class: "030200".into(),
        ..PciDevice::default()
    };
    Inventory {
        system: System {
            manufacturer: some("Dell Inc."),
            product: some("PowerEdge R650"),
            serial: some("7XK2M33"),
            uuid: some("4c4c4544-0032-5810-804a-b4c04f333332"),
            asset_tag: some("rack-7"),
            ..System::default()
        },
        bios: Bios { version: some("2.19.1"), ..Bios::default() },
        cpus: (0..2)
            .map(|socket| Cpu {
                socket,
                model: some("Xeon Gold 6338"),
                cores: Some(32),
                threads: Some(64),
                microcode: some("0xd0003d1"),
                max_mhz: None,
            })
            .collect(),
        memory: Memory {
            total_mib: Some(64_100),
            dimms: ["A1", "A2", "B1", "B2"].iter().map(|slot| dimm(slot, &format!("D-{slot}"))).collect(),
        },
        disks: vec![
            disk("nvme0n1", "S1", "eui.0001", 960_197_124_096),
            disk("nvme1n1", "S2", "eui.0002", 960_197_124_096),
        ],
        nics: vec![nic("eno1", "3c:fd:fe:00:00:01"), nic("eno2", "3c:fd:fe:00:00:02")],
        pci: vec![gpu("0000:01:00.0"), gpu("0000:02:00.0")],
        gpus: ["0000:01:00.0", "0000:02:00.0"]
            .map(|address| crate::host::inventory::Gpu {
                address: address.into(),
                vendor_device: "10de:20b5".into(),
                ..Default::default()
            })
            .into(),
        ..Inventory::default()
    }
}

/// The captured spec against the machine after a change.
fn after(change: impl FnOnce(&mut Inventory)) -> Vec<String> {
    let spec = HostSpec::capture(&machine());
    let mut changed = machine();
    change(&mut changed);
    told(&spec, &changed)
}

/// A spec written by hand against the machine as it is.
fn with(yaml: &str) -> Vec<String> {
    told(&HostSpec::from_yaml(&format!("format: 1\n{yaml}")).expect("a spec"), &machine())
}

fn told(spec: &HostSpec, machine: &Inventory) -> Vec<String> {
    let comparison = compare(spec, machine);
    let diffs = comparison
        .diffs
        .iter()
        .map(|diff| format!("{} {} {} / {}", diff.severity, diff.code, diff.path, diff.message));
    diffs
        .chain(comparison.unread.iter().map(|unread| format!("unread {} ({})", unread.path, unread.severity)))
        .collect()
}

#[test]
fn the_machine_itself_agrees() {
    assert_eq!(after(|_| ()), [""; 0]);
}

#[test]
fn memory() {
    let cases: [(&str, Vec<String>); 8] = [
        (
            "an empty slot",
            after(|m| {
                m.memory.dimms[1] = Dimm { locator: Some("A2".into()), size_mib: Some(0), ..Dimm::default() }
            }),
        ),
        ("a slot that is gone", after(|m| drop(m.memory.dimms.remove(1)))),
        (
            "two modules changed places",
            after(|m| {
                m.memory.dimms[0].serial = Some("D-A2".into());
                m.memory.dimms[1].serial = Some("D-A1".into());
            }),
        ),
        ("a module moved to a new slot", after(|m| m.memory.dimms[0].locator = Some("C1".into()))),
        ("another part", after(|m| m.memory.dimms[2].part = Some("HMA8".into()))),
        (
            "smaller, and the firmware is silent on a serial number",
            after(|m| {
                m.memory.dimms[3].size_mib = Some(8192);
                m.memory.dimms[3].serial = None;
            }),
        ),
        ("switched off by the firmware, still listed", after(|m| m.memory.total_mib = Some(48_000))),
        ("no slots listed at all", after(|m| m.memory.dimms.clear())),
    ];
    insta::assert_snapshot!(table(&cases), @r"
    an empty slot
      critical DimmMissing memory.dimms[A2] / memory module 16384 MiB, M393, serial D-A2 is missing in slot A2
      critical MemoryTotal memory.total_mib / memory.total_mib: expected 65536 MiB, seen 49152 MiB installed, 64100 MiB usable
    a slot that is gone
      critical DimmMissing memory.dimms[A2] / memory module 16384 MiB, M393, serial D-A2 is missing in slot A2
      critical MemoryTotal memory.total_mib / memory.total_mib: expected 65536 MiB, seen 49152 MiB installed, 64100 MiB usable
    two modules changed places
      critical DimmMismatch memory.dimms[A1].serial / memory.dimms[A1].serial: expected D-A1, seen D-A2
      critical DimmMismatch memory.dimms[A2].serial / memory.dimms[A2].serial: expected D-A2, seen D-A1
    a module moved to a new slot
      critical DimmMissing memory.dimms[A1] / memory module 16384 MiB, M393, serial D-A1 is missing in slot A1; it sits in slot C1
      warning DimmUnexpected memory.dimms.unexpected[C1] / memory module 16384 MiB, M393, serial D-A1, slot C1 is there and the spec does not list it
    another part
      warning DimmMismatch memory.dimms[B1].part / memory.dimms[B1].part: expected M393, seen HMA8
    smaller, and the firmware is silent on a serial number
      critical DimmMismatch memory.dimms[B2].size_mib / memory.dimms[B2].size_mib: expected 16384, seen 8192
      critical MemoryTotal memory.total_mib / memory.total_mib: expected 65536 MiB, seen 57344 MiB installed, 64100 MiB usable
      unread memory.dimms[B2].serial (critical)
    switched off by the firmware, still listed
      critical MemoryTotal memory.total_mib / memory.total_mib: expected 65536 MiB, seen 65536 MiB installed, 48000 MiB usable
    no slots listed at all
      unread memory.dimms[A1] (critical)
      unread memory.dimms[A2] (critical)
      unread memory.dimms[B1] (critical)
      unread memory.dimms[B2] (critical)
    ");
}

#[test]
fn disks() {
    let cases: [(&str, Vec<String>); 8] = [
        (
            "swapped",
            after(|m| {
                m.disks[1].serial = Some("NEW7".into());
                m.disks[1].wwn = Some("eui.0777".into());
            }),
        ),
        ("gone", after(|m| drop(m.disks.pop()))),
        (
            "one more",
            after(|m| {
                m.disks.push(Disk { name: "sda".into(), ..Disk::default() });
            }),
        ),
        (
            "renamed by the kernel, in another order",
            after(|m| {
                m.disks.reverse();
                m.disks[0].name = "nvme0n1".into();
                m.disks[1].name = "nvme1n1".into();
            }),
        ),
        ("a cloned serial number", after(|m| m.disks[1].wwn = Some("eui.0999".into()))),
        (
            "firmware and size",
            after(|m| {
                m.disks[0].firmware = Some("GDC5702Q".into());
                m.disks[0].size_bytes = Some(960_000_000_000);
            }),
        ),
        (
            "any two that fit, the larger entry first",
            with("disks: [{class: nvme, min_size_gb: 900}, {class: nvme}]"),
        ),
        (
            "any three that fit",
            with("disks: [{class: nvme}, {class: nvme}, {class: hdd, min_size_gb: 4000}]"),
        ),
    ];
    insta::assert_snapshot!(table(&cases), @r"
    swapped
      critical DiskMissing disks[S2] / disk serial S2 (MZQL2960, 960 GB) is gone; disk serial NEW7 (MZQL2960, 960 GB, nvme1n1) is there instead, which the spec does not list
      warning DiskUnexpected disks.unexpected[NEW7] / disk serial NEW7 (MZQL2960, 960 GB, nvme1n1) is there and the spec does not list it
    gone
      critical DiskMissing disks[S2] / disk serial S2 (MZQL2960, 960 GB) is gone
    one more
      warning DiskUnexpected disks.unexpected[sda] / disk without a serial number (sda) is there and the spec does not list it
    renamed by the kernel, in another order
      agrees
    a cloned serial number
      critical DiskMismatch disks[S2].wwn / disks[S2].wwn: expected eui.0002, seen eui.0999
    firmware and size
      critical DiskMismatch disks[S1].size_bytes / disks[S1].size_bytes: expected 960197124096, seen 960000000000
      warning FirmwareDiffers disks[S1].firmware / disks[S1].firmware: expected GDC5602Q, seen GDC5702Q
    any two that fit, the larger entry first
      agrees
    any three that fit
      critical DiskMissing disks[hdd, at least 4000 GB] / no disk is left that is hdd, at least 4000 GB
    ");
}

#[test]
fn everything_else() {
    let cases: [(&str, Vec<String>); 10] = [
        (
            "another machine",
            after(|m| {
                m.system.serial = Some("OTHER".into());
                m.system.uuid = None;
            }),
        ),
        (
            "a newer BIOS, a new label",
            after(|m| {
                m.bios.version = Some("2.20.0".into());
                m.system.asset_tag = Some("rack-9".into());
            }),
        ),
        ("a processor gone", after(|m| drop(m.cpus.pop()))),
        ("mixed processors", after(|m| m.cpus[1].model = Some("Xeon Gold 6330".into()))),
        ("a port gone, another there", after(|m| m.nics[1].mac = Some("3c:fd:fe:00:00:99".into()))),
        (
            "a slow link, and none",
            after(|m| {
                m.nics[0].speed_mbps = Some(10_000);
                m.nics[1].speed_mbps = None;
                m.nics[1].carrier = Some(false);
            }),
        ),
        (
            "a port that is down",
            after(|m| {
                m.nics[0].speed_mbps = None;
                m.nics[0].carrier = None;
            }),
        ),
        ("an accelerator gone", after(|m| drop(m.pci.pop()))),
        ("a card that was never there", with("pci: [{id: '8086:10d3'}]")),
        (
            "spelling does not matter",
            with(
                "system: {manufacturer: 'dell  inc.'}\nnics: [{mac: 3C-FD-FE-00-00-01}, {driver: ice}]\ndisks: [{wwn: '0x0001'}, {serial: s2}]",
            ),
        ),
    ];
    insta::assert_snapshot!(table(&cases), @r"
    another machine
      critical SystemMismatch system.serial / system.serial: expected 7XK2M33, seen OTHER
      unread system.uuid (critical)
    a newer BIOS, a new label
      info SystemMismatch system.asset_tag / system.asset_tag: expected rack-7, seen rack-9
      warning FirmwareDiffers system.bios_version / system.bios_version: expected 2.19.1, seen 2.20.0
    a processor gone
      critical CpuMismatch cpu.sockets / cpu.sockets: expected 2, seen 1
      critical CpuMismatch cpu.cores / cpu.cores: expected 64, seen 32
      critical CpuMismatch cpu.threads / cpu.threads: expected 128, seen 64
    mixed processors
      critical CpuMismatch cpu.model / cpu.model: expected Xeon Gold 6338, seen Xeon Gold 6338 + Xeon Gold 6330
    a port gone, another there
      critical NicMissing nics[3c:fd:fe:00:00:02] / network port 3c:fd:fe:00:00:02 is missing
      info NicUnexpected nics.unexpected[3c:fd:fe:00:00:99] / network port 3c:fd:fe:00:00:99 (eno2) is there and the spec does not list it
    a slow link, and none
      critical NicMismatch nics[3c:fd:fe:00:00:01].min_speed_mbps / nics[3c:fd:fe:00:00:01].min_speed_mbps: expected 25000, seen 10000
      critical NicMismatch nics[3c:fd:fe:00:00:02].min_speed_mbps / nics[3c:fd:fe:00:00:02].min_speed_mbps: expected 25000, seen no link
    a port that is down
      unread nics[3c:fd:fe:00:00:01].min_speed_mbps (critical)
    an accelerator gone
      critical GpuMissing gpus[10de:20b5] / accelerator 10de:20b5: at least 2 expected, 1 seen
    a card that was never there
      critical PciMissing pci[8086:10d3] / PCI device 8086:10d3: at least 1 expected, 0 seen
    spelling does not matter
      agrees
    ");
}

#[test]
fn total_memory_is_installed_memory_less_what_the_kernel_keeps() {
    let judged = |want: u64, installed: Option<u64>, usable: u64| {
        let dimms = installed.map(|size| Dimm { size_mib: Some(size), ..Dimm::default() });
        let inventory = Inventory {
            memory: Memory { total_mib: Some(usable), dimms: dimms.into_iter().collect() },
            ..Inventory::default()
        };
        let spec = HostSpec {
            memory: crate::host::spec::MemorySpec { total_mib: Some(want), dimms: Vec::new() },
            ..HostSpec::default()
        };
        diff(&spec, &inventory).is_empty()
    };
    assert!(judged(2048, Some(2048), 1960), "a small machine");
    assert!(judged(524_288, Some(524_288), 515_000), "a large one");
    assert!(judged(2048, None, 1960), "without SMBIOS");
    assert!(judged(1960, None, 1962), "captured under another kernel");
    assert!(!judged(524_288, Some(524_288), 458_752), "a module is switched off");
    assert!(!judged(4096, Some(2048), 1960), "half of it is missing");
    assert!(!judged(2048, Some(4096), 4000), "more than expected");
    assert!(!judged(2048, None, 4000), "more than expected, without SMBIOS");
    assert!(!judged(u64::MAX, Some(1), 1), "no overflow");
}

#[test]
fn one_part_never_stands_for_two_entries() {
    let spec = HostSpec::from_yaml("format: 1\ndisks: [{serial: S1}, {wwn: eui.0001}]").expect("a spec");
    let codes: Vec<_> = diff(&spec, &machine()).into_iter().map(|diff| (diff.code, diff.path)).collect();
    assert_eq!(
        codes,
        [
            ("DiskMissing".to_owned(), "disks[S1]".to_owned()),
            ("DiskUnexpected".to_owned(), "disks.unexpected[S2]".to_owned())
        ]
    );
}

fn table(cases: &[(&str, Vec<String>)]) -> String {
    cases
        .iter()
        .map(|(name, told)| {
            format!("{name}\n  {}", if told.is_empty() { "agrees".into() } else { told.join("\n  ") })
        })
        .collect::<Vec<_>>()
        .join("\n")
}
