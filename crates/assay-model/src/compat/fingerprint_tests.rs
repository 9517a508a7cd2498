use proptest::prelude::*;

use super::*;
use crate::host::inventory::{Bios, Board, Cpu, Disk, Gpu, Nic, System};

fn pci(class: &str, id: &str, subsystem: Option<&str>, driver: Option<&str>) -> PciDevice {
    PciDevice {
        address: "0000:03:00.0".into(),
        vendor_device: id.into(),
        subsystem: subsystem.map(Into::into),
        class: class.into(),
        driver: driver.map(Into::into),
        ..PciDevice::default()
    }
}

/// A small server with everything that a fingerprint looks at, and everything that it must not.
fn server() -> Inventory {
    Inventory {
        system: System {
            manufacturer: Some("Acme".into()),
            product: Some("A1".into()),
            serial: Some("SN-1".into()),
            ..System::default()
        },
        board: Board {
            manufacturer: Some("Supermicro".into()),
            product: Some(" X11SSH-F  ".into()),
            version: Some("1.01".into()),
            serial: Some("BOARD-1".into()),
        },
        bios: Bios {
            vendor: Some("American Megatrends Inc.".into()),
            version: Some("2.3".into()),
            date: Some("06/11/2019".into()),
        },
        cpus: vec![Cpu { model: Some("Intel(R) Xeon(R) CPU E3-1230 v6 @ 3.50GHz".into()), ..Cpu::default() }],
        disks: vec![Disk { name: "nvme0n1".into(), serial: Some("DISK-1".into()), ..Disk::default() }],
        nics: vec![Nic { name: "eno1".into(), mac: Some("02:00:00:00:00:01".into()), ..Nic::default() }],
        pci: vec![
            pci("060000", "8086:5918", None, None),
            pci("020000", "8086:1533", Some("15D9:1533"), Some("igb")),
            pci("020000", "8086:1533", Some("15d9:1533"), Some("igb")),
            pci("010601", "8086:a102", Some("15d9:0884"), Some("ahci")),
            pci("010802", "144d:a808", Some("144d:a801"), Some("nvme")),
            pci("010000", "1af4:1042", None, Some("virtio-pci")),
        ],
        gpus: vec![Gpu {
            address: "0000:41:00.0".into(),
            vendor_device: "10DE:20b5".into(),
            driver: Some("nvidia".into()),
            ..Gpu::default()
        }],
        ..Inventory::default()
    }
}

#[test]
fn a_machine_is_named_by_what_decides_whether_an_image_comes_up() {
    let fingerprint = Fingerprint::of(&server()).expect("it tells enough");
    let told: Vec<_> = fingerprint
        .components
        .iter()
        .map(|c| format!("{} {} ×{} {}", c.kind, c.name, c.count, c.drivers.join(",")))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    board Supermicro / X11SSH-F / 1.01 ×1 
    firmware American Megatrends Inc. / 2.3 / 06/11/2019 ×1 
    processor Intel(R) Xeon(R) CPU E3-1230 v6 @ 3.50GHz ×1 
    network 8086:1533 [15d9:1533] ×2 igb
    storage 8086:a102 [15d9:0884] ×1 ahci
    gpu 10de:20b5 ×1 nvidia
    ");
    assert_eq!(fingerprint.name(), "Supermicro X11SSH-F 1.01, Intel(R) Xeon(R) CPU E3-1230 v6 @ 3.50GHz");
    // A stored name: another one makes every machine that was ever tried an unknown one.
    assert_eq!(
        fingerprint.digest().to_string(),
        "47809df784b419feb6dc6b0d75d3eae90894c0c1be29732322cf5934ba0edb5a"
    );
}

#[test]
fn two_of_a_kind_have_one_fingerprint() {
    let twin = |change: fn(&mut Inventory)| {
        let mut other = server();
        change(&mut other);
        let (a, b) = (Fingerprint::of(&server()), Fingerprint::of(&other));
        a.expect("enough").digest() == b.expect("enough").digest()
    };
    // Which one it is, where things sit, and what the live image made of it.
    assert!(twin(|m| m.board.serial = Some("BOARD-2".into())));
    assert!(twin(|m| m.system.serial = Some("SN-2".into())));
    assert!(twin(|m| m.nics[0].mac = Some("02:00:00:00:00:02".into())));
    assert!(twin(|m| m.disks.clear()));
    assert!(twin(|m| m.pci.retain(|d| !d.class.starts_with("0108"))), "an NVMe disk is a disk");
    assert!(twin(|m| m.pci.retain(|d| d.vendor_device != "1af4:1042")), "so is a virtio disk");
    assert!(twin(|m| m.pci[1].address = "0000:99:00.0".into()));
    assert!(twin(|m| m.pci[1].driver = None));
    assert!(twin(|m| m.pci.reverse()));
    // What makes it another kind.
    assert!(!twin(|m| m.board.version = Some("1.02".into())));
    assert!(!twin(|m| m.bios.version = Some("2.4".into())));
    assert!(!twin(|m| m.bios.date = None));
    assert!(!twin(|m| m.cpus[0].model = Some("Another".into())));
    assert!(!twin(|m| m.cpus.push(m.cpus[0].clone())));
    assert!(!twin(|m| m.pci[1].subsystem = None));
    assert!(!twin(|m| m.pci[3].vendor_device = "8086:a103".into()));
    assert!(!twin(|m| drop(m.pci.remove(1))), "one port instead of two");
    assert!(!twin(|m| m.gpus.clear()));
}

#[test]
fn a_machine_that_says_too_little_is_no_kind_of_machine() {
    let lacking = |change: fn(&mut Inventory)| {
        let mut machine = server();
        change(&mut machine);
        Fingerprint::of(&machine).map(|f| f.components[0].name.clone()).map_err(|e| e.to_string())
    };
    assert_eq!(lacking(|m| m.board = Board::default()), Ok("Acme / A1 / ?".into()));
    assert_eq!(
        lacking(|m| {
            m.board = Board { manufacturer: Some("Acme".into()), ..Board::default() };
            m.system = System::default();
        }),
        Err("the machine does not tell what board it has (SMBIOS)".into())
    );
    assert_eq!(
        lacking(|m| {
            m.cpus[0].model = Some("  ".into());
            m.pci.clear();
        }),
        Err("the machine does not tell what processor it has, nor what is on its PCI bus".into())
    );
    let flood = |m: &mut Inventory| {
        m.pci.extend((0..400).map(|n| pci("020000", &format!("8086:{n:04x}"), None, None)));
    };
    assert!(lacking(flood).expect_err("refused").contains("believable"));
    assert!(Fingerprint::of(&Inventory::default()).is_err());
}

#[test]
fn what_changed_is_said_part_by_part() {
    let before = Fingerprint::of(&server()).expect("enough");
    let mut machine = server();
    machine.bios.version = Some("2.4".into());
    machine.pci.remove(2);
    let after = Fingerprint::of(&machine).expect("enough");
    insta::assert_snapshot!(after.changes_since(&before).join("\n"), @r"
    firmware American Megatrends Inc. 2.3 06/11/2019 is gone
    network 2 × 8086:1533 [15d9:1533] is gone
    firmware American Megatrends Inc. 2.4 06/11/2019 is new
    network 8086:1533 [15d9:1533] is new
    ");
    assert_eq!(after.changes_since(&after), Vec::<String>::new());
}

#[test]
fn kinds_have_stable_spellings() {
    for kind in ComponentKind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
        assert_eq!(serde_json::to_value(kind).expect("plain"), kind.as_str());
    }
    assert!("disk".parse::<ComponentKind>().expect_err("never").to_string().contains("`disk`"));
}

proptest! {
    /// Fields cannot be moved from one to the next by what firmware writes into them.
    #[test]
    fn what_firmware_writes_cannot_pass_for_another_board(
        a in "[ab/ ?]{0,6}", b in "[ab/]{1,6}", c in "[ab/ ?]{0,6}",
        x in "[ab/ ?]{0,6}", y in "[ab/]{1,6}", z in "[ab/ ?]{0,6}",
    ) {
        let machine = |vendor: &str, product: &str, version: &str| {
            let board = Board {
                manufacturer: Some(vendor.to_owned()),
                product: Some(product.to_owned()),
                version: Some(version.to_owned()),
                serial: None,
            };
            Fingerprint::of(&Inventory { board, ..server() }).expect("enough").digest()
        };
        let same = |one: &str, other: &str| {
            // Not told, and told as a question mark, are the same; so is padding.
            let read = |text: &str| match plain(text).as_str() { "" => "?".to_owned(), told => told.to_owned() };
            read(one) == read(other)
        };
        prop_assert_eq!(machine(&a, &b, &c) == machine(&x, &y, &z), same(&a, &x) && same(&b, &y) && same(&c, &z));
    }
}
