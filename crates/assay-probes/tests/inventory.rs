//! The inventory of captured machines (folders that look like one, with fake tools) and of the real machine that the
//! tests run on.

#[path = "inventory/captured.rs"]
mod captured;

use std::fs;

use assay_model::host::inventory::{Inventory, Transport};
use assay_model::host::spec::{HostSpec, diff};
use assay_probes::{Machine, facts, inventory};
use captured::{Captured, HBA, page_80, page_89};

/// One disk of every kind, a second path to one of them, and what is no disk.
fn machine_with_many_disks() -> Captured {
    let sata = format!("{HBA}/ata1/host0/target0:0:0/0:0:0:0");
    let sas = format!("{HBA}/host1/port-1:0/end_device-1:0/target1:0:0/1:0:0:0");
    let second_path = format!("{HBA}/host1/port-1:1/end_device-1:1/target1:0:1/1:0:1:0");
    let usb = "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0";
    let nvme = "pci0000:00/0000:00:01.0/0000:01:00.0/nvme/nvme0";
    Captured::new()
        .block("sda", &sata, 7_814_037_168, 1)
        .files(
            &format!("sys/devices/{sata}"),
            &[
                ("vendor", "ATA     "),
                ("model", "ST4000NM0035-1V4"),
                ("rev", "TN03"),
                ("wwid", "naa.5000c500a1b2c3d4\n"),
            ],
        )
        .file(&format!("sys/devices/{sata}/vpd_pg89"), page_89("ZC1AB2CD", "TN03", "ST4000NM0035-1V4107"))
        .file(&format!("sys/devices/{sata}/vpd_pg80"), page_80("      ZC1AB2CD"))
        .block("sdb", &sas, 1_172_123_568, 1)
        .files(
            &format!("sys/devices/{sas}"),
            &[
                ("vendor", "SEAGATE "),
                ("model", "ST600MM0009     "),
                ("rev", "N004"),
                ("wwid", "naa.5000c500aaaaaaaa\n"),
            ],
        )
        .file(&format!("sys/devices/{sas}/vpd_pg80"), page_80("W0M1X2Y3"))
        .block("sdc", &second_path, 1_172_123_568, 1)
        .files(
            &format!("sys/devices/{second_path}"),
            &[
                ("vendor", "SEAGATE "),
                ("model", "ST600MM0009     "),
                ("rev", "N004"),
                ("wwid", "naa.5000c500aaaaaaaa\n"),
            ],
        )
        .file(&format!("sys/devices/{second_path}/vpd_pg80"), page_80("W0M1X2Y3"))
        .block("sdd", usb, 60_000_000, 0)
        .files(
            &format!("sys/devices/{usb}"),
            &[("vendor", "SanDisk "), ("model", "Ultra Fit       "), ("rev", "1.00")],
        )
        .files(&format!("sys/devices/{usb}/block/sdd"), &[("dev", "8:48\n"), ("removable", "1\n")])
        .file("run/udev/data/b8:48", "S:disk/by-id/x\nE:ID_SERIAL_SHORT=4C530001\nE:ID_BUS=usb\n")
        .files(
            &format!("sys/devices/{nvme}"),
            &[
                ("serial", "S64GNE0R      \n"),
                ("model", "SAMSUNG MZQL2960HCJR                    \n"),
                ("firmware_rev", "GDC5602Q\n"),
            ],
        )
        .block("nvme0n1", nvme, 1_875_385_008, 0)
        .file(&format!("sys/devices/{nvme}/block/nvme0n1/wwid"), "eui.36344630529012340025384500000001\n")
        .block("nvme0n2", nvme, 1_000_000, 0)
        .file(&format!("sys/devices/{nvme}/block/nvme0n2/wwid"), "eui.36344630529012340025384500000002\n")
        .block("nvme0c0n1", nvme, 1_875_385_008, 0)
        .file(&format!("sys/devices/{nvme}/block/nvme0c0n1/hidden"), "1\n")
        .block("vda", "pci0000:00/0000:00:04.0/virtio1", 4_194_304, 1)
        .file("sys/devices/pci0000:00/0000:00:04.0/virtio1/block/vda/serial", "disk-one")
        .block("loop0", "virtual", 100, 0)
        .block("zram0", "virtual", 100, 0)
        .block("dm-0", "virtual", 100, 0)
        .block("sr0", &format!("{HBA}/ata2/host2/target2:0:0/2:0:0:0"), 100, 0)
        .block("sde", &format!("{HBA}/ata3/host3/target3:0:0/3:0:0:0"), 0, 1)
}

#[tokio::test]
async fn disks_of_every_kind_appear_once_with_their_identity() {
    let machine = machine_with_many_disks();
    let (found, _) = machine.inventory().await;
    let seen: Vec<String> = found
        .disks
        .iter()
        .map(|d| {
            let text = |field: &Option<String>| field.clone().unwrap_or_else(|| "-".into());
            let pci = text(&d.pci_path);
            let also = d.also.join(",");
            format!(
                "{} [{also}] {:?} {} | {} | {} | {} | {pci}",
                d.name,
                d.transport,
                text(&d.model),
                text(&d.serial),
                text(&d.firmware),
                text(&d.wwn)
            )
        })
        .collect();
    insta::assert_snapshot!(seen.join("\n"), @r"
    nvme0n1 [] Nvme SAMSUNG MZQL2960HCJR | S64GNE0R | GDC5602Q | eui.36344630529012340025384500000001 | 0000:01:00.0
    nvme0n2 [] Nvme SAMSUNG MZQL2960HCJR | S64GNE0R | GDC5602Q | eui.36344630529012340025384500000002 | 0000:01:00.0
    sda [] Sata ST4000NM0035-1V4107 | ZC1AB2CD | TN03 | naa.5000c500a1b2c3d4 | 0000:03:00.0
    sdb [sdc] Sas SEAGATE ST600MM0009 | W0M1X2Y3 | N004 | naa.5000c500aaaaaaaa | 0000:03:00.0
    sdd [] Usb SanDisk Ultra Fit | 4C530001 | 1.00 | - | 0000:00:14.0
    sde [] Sata - | - | - | - | 0000:03:00.0
    vda [] Virtio - | disk-one | - | - | 0000:00:04.0
    ");
    let sda = found.disks.iter().find(|disk| disk.name == "sda").expect("sda");
    assert_eq!(
        (sda.size_bytes, sda.logical_sector, sda.physical_sector),
        (Some(4_000_787_030_016), Some(512), Some(4096))
    );
    assert_eq!((sda.rotational, sda.removable), (Some(true), Some(false)));
    let said: Vec<_> = found.problems.iter().filter(|problem| problem.contains("disk")).collect();
    assert_eq!(said, ["disk sde says that it has no sectors: it did not start up, or it is not ready"]);
}

#[tokio::test]
async fn a_usb_disk_without_pages_has_the_serial_number_of_its_bridge() {
    let bridge = "pci0000:00/0000:00:14.0/usb2/2-1";
    let (found, _) = Captured::new()
        .files(&format!("sys/devices/{bridge}"), &[("idVendor", "46f4\n"), ("serial", "USB1\n")])
        .block("sda", &format!("{bridge}/2-1:1.0/host6/target6:0:0/6:0:0:0"), 1000, 0)
        .inventory()
        .await;
    assert_eq!(found.disks[0].serial.as_deref(), Some("USB1"));
}

#[tokio::test]
async fn two_disks_with_the_same_bogus_serial_stay_two() {
    let machine = ["0", "1"].iter().zip(["sda", "sdb"]).fold(Captured::new(), |machine, (port, name)| {
        let device =
            format!("pci0000:00/0000:00:14.0/usb2/2-{port}/host{port}/target{port}:0:0/{port}:0:0:0");
        machine
            .block(name, &device, 1000, 0)
            .file(&format!("sys/devices/{device}/vpd_pg80"), page_80("DD56419883891"))
    });
    let (found, _) = machine.inventory().await;
    assert_eq!(found.disks.len(), 2, "{:?}", found.disks);
}

#[tokio::test]
async fn network_ports_are_hardware_with_their_permanent_address() {
    let port = "sys/devices/pci0000:00/0000:00:02.0/0000:04:00.0";
    let virtio = "sys/devices/pci0000:00/0000:00:03.0/virtio0";
    let machine = Captured::new()
        .files(
            &format!("{port}/net/eno1"),
            &[
                ("address", "aa:bb:cc:00:00:01\n"),
                ("type", "1\n"),
                ("speed", "10000\n"),
                ("carrier", "1\n"),
                ("addr_assign_type", "3\n"),
            ],
        )
        .link(&format!("{port}/net/eno1/device"), port)
        .link("sys/class/net/eno1", &format!("{port}/net/eno1"))
        .link(&format!("{port}/driver"), "sys/bus/pci/drivers/ixgbe")
        .files(
            &format!("{virtio}/net/eth0"),
            &[
                ("address", "52:54:00:12:34:56\n"),
                ("type", "1\n"),
                ("speed", "-1\n"),
                ("addr_assign_type", "0\n"),
            ],
        )
        .link(&format!("{virtio}/net/eth0/device"), virtio)
        .link("sys/class/net/eth0", &format!("{virtio}/net/eth0"))
        .link(&format!("{virtio}/driver"), "sys/bus/virtio/drivers/virtio_net")
        .files("sys/devices/virtual/net/lo", &[("address", "00:00:00:00:00:00\n"), ("type", "772\n")])
        .link("sys/class/net/lo", "sys/devices/virtual/net/lo")
        .link("sys/class/net/br0", "sys/devices/virtual/net/br0")
        .tool(
            "ethtool",
            r#"[ "$2" = eno1 ] || exit 1
case $1 in
-P) echo "Permanent address: 3C:FD:FE:00:00:01" ;;
-i) printf 'driver: ixgbe\nversion: 6.1\nfirmware-version: 0x800009fa, 1.2028.0\n' ;;
esac"#,
        );
    let (found, _) = machine.inventory().await;
    let seen: Vec<_> = found
        .nics
        .iter()
        .map(|n| {
            (
                n.name.as_str(),
                n.mac.as_deref(),
                n.driver.as_deref(),
                n.speed_mbps,
                n.carrier,
                n.pci.as_deref(),
                n.firmware.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (
                "eno1",
                Some("3c:fd:fe:00:00:01"),
                Some("ixgbe"),
                Some(10000),
                Some(true),
                Some("0000:04:00.0"),
                Some("0x800009fa, 1.2028.0")
            ),
            ("eth0", Some("52:54:00:12:34:56"), Some("virtio_net"), None, None, Some("0000:00:03.0"), None),
        ]
    );
}

#[tokio::test]
async fn the_bus_its_accelerators_and_what_has_no_driver() {
    let device = |machine: Captured, address: &str, id: (&str, &str), class: &str, driver: Option<&str>| {
        let folder = format!("sys/devices/pci0000:00/{address}");
        let machine = machine
            .files(
                &folder,
                &[
                    ("vendor", id.0),
                    ("device", id.1),
                    ("class", class),
                    ("subsystem_vendor", "0x0000\n"),
                    ("subsystem_device", "0x0000\n"),
                ],
            )
            .link(&format!("sys/bus/pci/devices/{address}"), &folder);
        match driver {
            Some(driver) => {
                machine.link(&format!("{folder}/driver"), &format!("sys/bus/pci/drivers/{driver}"))
            }
            None => machine,
        }
    };
    let machine = Captured::new();
    let machine = device(machine, "0000:00:00.0", ("0x8086\n", "0x1237\n"), "0x060000\n", None);
    let machine = device(machine, "0000:01:00.0", ("0x10de\n", "0x20b5\n"), "0x030200\n", None);
    let machine = device(machine, "0000:02:00.0", ("0x1a03\n", "0x2000\n"), "0x030000\n", None);
    let machine = device(machine, "0000:03:00.0", ("0x8086\n", "0x10d3\n"), "0x020000\n", Some("e1000e"))
        .files(
            "sys/devices/pci0000:00/0000:03:00.0",
            &[
                ("current_link_speed", "2.5 GT/s PCIe\n"),
                ("current_link_width", "1\n"),
                ("max_link_speed", "Unknown\n"),
                ("max_link_width", "255\n"),
            ],
        );
    let machine = device(machine, "0000:04:00.0", ("0x14e4\n", "0x1750\n"), "0x020000\n", None);
    let machine = device(machine, "0000:04:00.1", ("0x14e4\n", "0x1806\n"), "0x020000\n", None)
        .link("sys/devices/pci0000:00/0000:04:00.1/physfn", "sys/devices/pci0000:00/0000:04:00.0");
    let (found, _) = machine.inventory().await;
    assert_eq!(found.pci.len(), 6);
    let nic = &found.pci[3];
    assert_eq!(
        (nic.vendor_device.as_str(), nic.class.as_str(), nic.driver.as_deref()),
        ("8086:10d3", "020000", Some("e1000e"))
    );
    assert_eq!(
        (nic.link_speed.as_deref(), nic.link_width, &nic.link_speed_max, nic.link_width_max),
        (Some("2.5 GT/s PCIe"), Some(1), &None, None)
    );
    assert_eq!(found.gpus.iter().map(|gpu| gpu.address.as_str()).collect::<Vec<_>>(), ["0000:01:00.0"]);
    let driverless: Vec<_> = found.driverless.iter().map(|device| device.address.as_str()).collect();
    assert_eq!(
        driverless,
        ["0000:01:00.0", "0000:04:00.0"],
        "neither the host bridge, nor the console, nor a virtual function"
    );
}

#[tokio::test]
async fn sockets_are_counted_from_the_topology() {
    let mut machine = Captured::new().file("sys/devices/system/cpu/cpufreq/boost", "1");
    let mut cpuinfo = String::new();
    for index in 0..8 {
        let (socket, core) = (index / 4, (index % 4) / 2);
        cpuinfo.push_str("processor\t: ");
        cpuinfo.push_str(&index.to_string());
        cpuinfo.push_str("\nmodel name\t: AMD EPYC 7302P 16-Core Processor\nmicrocode\t: 0x830107b\n\n");
        machine = machine.files(
            &format!("sys/devices/system/cpu/cpu{index}"),
            &[
                ("topology/physical_package_id", &socket.to_string()),
                ("topology/core_id", &core.to_string()),
                ("cpufreq/cpuinfo_max_freq", "3000000\n"),
            ],
        );
    }
    let (found, _) = machine.file("proc/cpuinfo", cpuinfo).inventory().await;
    let seen: Vec<_> = found
        .cpus
        .iter()
        .map(|c| (c.socket, c.cores, c.threads, c.max_mhz, c.microcode.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [
            (0, Some(2), Some(4), Some(3000), Some("0x830107b")),
            (1, Some(2), Some(4), Some(3000), Some("0x830107b"))
        ]
    );
    assert_eq!(found.cpus[0].model.as_deref(), Some("AMD EPYC 7302P 16-Core Processor"));
    assert_eq!(found.memory.total_mib, Some(64193));
    assert_eq!(found.kernel.as_deref(), Some("6.1.0-49-amd64"));
}

#[tokio::test]
async fn a_management_controller_is_asked_and_raw_output_is_kept() {
    let machine = Captured::new()
        .file("dev/ipmi0", "")
        .tool("lspci", "echo 00:00.0 Host bridge")
        .tool("lshw", "echo broken >&2; exit 3")
        .tool("ipmitool", r#"echo "Unable to Get Channel Cipher Suites" >&2
case $1 in
mc) printf 'Device ID                 : 32\nFirmware Revision         : 2.34\n' ;;
lan) printf 'IP Address Source       : Static\nIP Address              : 10.0.0.9\nMAC Address             : AC:1F:6B:00:00:09\n' ;;
esac"#);
    let (found, artifacts) = machine.inventory().await;
    let bmc = &found.bmc;
    assert_eq!(
        (bmc.present, bmc.firmware.as_deref(), bmc.ip.as_deref(), bmc.mac.as_deref()),
        (Some(true), Some("2.34"), Some("10.0.0.9"), Some("ac:1f:6b:00:00:09"))
    );
    let names: Vec<_> = artifacts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["lspci.txt", "inventory.json"]);
    assert!(
        found
            .problems
            .iter()
            .any(|problem| problem.starts_with("lshw -json -quiet: ") && problem.contains("exit code 3")),
        "{:?}",
        found.problems
    );
    let kept: Inventory = serde_json::from_slice(&artifacts[1].1).expect("inventory.json reads back");
    assert_eq!(kept, found);
}

#[tokio::test]
async fn an_empty_machine_says_what_is_missing_and_nothing_fails() {
    let machine = Captured { folder: tempfile::tempdir().expect("a folder") };
    fs::create_dir(machine.at("tools")).expect("a folder for tools");
    let (found, _) = machine.inventory().await;
    assert_eq!(found.tools_missing, ["lshw", "lspci"]);
    assert_eq!(found.bmc.present, None);
    insta::assert_snapshot!(found.problems.join("\n"), @r"
    the machine does not say what it is: neither SMBIOS tables nor a device tree could be read
    no processor could be read from proc/cpuinfo and sys/devices/system/cpu
    proc/meminfo does not tell the total of memory
    ");
}

/// SMBIOS tables of a machine with two slots, the second of them filled or not.
fn tables(second_is_there: bool) -> Vec<u8> {
    let mut tables = vec![1, 8, 1, 0, 1, 2, 0, 3];
    tables.extend(b"ACME\0Rocket\0SN-1\0\0");
    for (slot, filled) in [("DIMM_A1", true), ("DIMM_A2", second_is_there)] {
        let mut module = vec![0_u8; 0x22];
        module[..4].copy_from_slice(&[17, 0x22, 0x10, slot.as_bytes()[6]]);
        module[0x0c..0x0e].copy_from_slice(&if filled { 16_384_u16 } else { 0 }.to_le_bytes());
        module[0x10] = 1;
        module[0x18] = if filled { 2 } else { 0 };
        tables.extend(module);
        tables.extend(format!("{slot}\0SN-{slot}\0\0").bytes());
    }
    tables.extend([127, 4, 0, 0x7f, 0, 0]);
    tables
}

#[tokio::test]
async fn a_module_that_went_missing_is_named_by_its_slot_and_serial_number() {
    let before = Captured::new()
        .file("sys/firmware/dmi/tables/DMI", tables(true))
        .tool("dmidecode", "echo Handle 0x0001");
    let (good, artifacts) = before.inventory().await;
    assert_eq!(good.problems.iter().find(|problem| problem.contains("SMBIOS")), None);
    let kept: Vec<_> = artifacts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(kept, ["smbios.bin", "dmidecode.txt", "inventory.json"]);
    let spec = HostSpec::capture(&good);
    assert_eq!(spec.memory.total_mib, Some(32_768));

    let after = Captured::new().file("sys/firmware/dmi/tables/DMI", tables(false));
    let now = facts(&Machine::captured(after.folder.path(), Some(after.at("tools")))).await;
    let found: Vec<_> =
        diff(&spec, &now).into_iter().map(|diff| format!("{} {}", diff.code, diff.message)).collect();
    assert_eq!(found[0], "DimmMissing memory module 16384 MiB, serial SN-DIMM_A2 is missing in slot DIMM_A2");
    assert!(found[1].starts_with("MemoryTotal "), "{found:?}");
}

#[tokio::test]
async fn the_kernels_own_reading_fills_in_where_the_tables_cannot_be_read() {
    let machine = Captured::new().files(
        "sys/class/dmi/id",
        &[
            ("sys_vendor", "QEMU\n"),
            ("product_name", "Standard PC (Q35 + ICH9, 2009)\n"),
            ("product_serial", "To Be Filled By O.E.M.\n"),
            ("bios_version", "1.16.2\n"),
        ],
    );
    let (found, _) = machine.inventory().await;
    assert_eq!(found.system.manufacturer.as_deref(), Some("QEMU"));
    assert_eq!(found.system.serial, None);
    assert_eq!(found.bios.version.as_deref(), Some("1.16.2"));
}

#[tokio::test]
async fn this_very_machine() {
    let (found, artifacts) = inventory(&Machine::this()).await;
    assert!(!found.cpus.is_empty() && found.cpus.iter().all(|cpu| cpu.threads > Some(0)), "{:?}", found.cpus);
    assert!(found.memory.total_mib > Some(100), "{:?}", found.memory);
    assert!(found.kernel.is_some());
    for disk in &found.disks {
        assert!(!disk.name.starts_with("loop") && !disk.name.starts_with("zram"), "{disk:?}");
        assert!(
            disk.transport != Transport::Virtio || disk.name.starts_with("vd") || disk.name.starts_with("sd"),
            "{disk:?}"
        );
    }
    let json = &artifacts.iter().find(|(name, _)| name == "inventory.json").expect("inventory.json").1;
    assert_eq!(serde_json::from_slice::<Inventory>(json).expect("reads back"), found);
}
