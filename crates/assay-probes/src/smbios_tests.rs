//! Tables built by hand, whole and broken.

use proptest::prelude::*;

use super::*;

/// A structure: its formatted part after the header, and its strings.
fn structure(kind: u8, handle: u16, body: &[u8], strings: &[&str]) -> Vec<u8> {
    let mut bytes = vec![kind, u8::try_from(body.len() + 4).expect("short")];
    bytes.extend(handle.to_le_bytes());
    bytes.extend(body);
    for string in strings {
        bytes.extend(string.as_bytes());
        bytes.push(0);
    }
    bytes.push(0);
    if strings.is_empty() {
        bytes.push(0);
    }
    bytes
}

/// A type 17 with these widths and this size; its strings are locator, bank, maker, serial, part.
fn module(array: u16, widths: (u16, u16), size: u16, extended: u32, strings: &[&str]) -> Vec<u8> {
    let mut body = vec![0; 0x5c - 4];
    let mut put = |at: usize, value: &[u8]| body[at - 4..at - 4 + value.len()].copy_from_slice(value);
    put(0x4, &array.to_le_bytes());
    put(0x8, &widths.0.to_le_bytes());
    put(0xa, &widths.1.to_le_bytes());
    put(0xc, &size.to_le_bytes());
    put(0x10, &[1, 2]);
    put(0x12, &[0x1a]);
    put(0x15, &3200_u16.to_le_bytes());
    put(0x17, &[3, 4]);
    put(0x1a, &[5]);
    put(0x1c, &extended.to_le_bytes());
    put(0x20, &2933_u16.to_le_bytes());
    structure(17, 0x1100, &body, strings)
}

fn array_of(handle: u16, usage: u8, ecc: u8) -> Vec<u8> {
    structure(16, handle, &[3, usage, ecc, 0, 0, 0, 0, 0xfe, 0xff, 4, 0], &[])
}

const A1: [&str; 5] = ["DIMM_A1", "P0 CHANNEL A", "Samsung", " 4012AB99 ", "M393A8G40BB4-CWE"];

#[test]
fn a_server_is_read_field_by_field() {
    let mut uuid_body = vec![1, 2, 0, 3];
    uuid_body.extend([
        0x44, 0x45, 0x4c, 0x4c, 0x32, 0x00, 0x10, 0x58, 0x80, 0x4a, 0xb4, 0xc0, 0x4f, 0x33, 0x33, 0x32,
    ]);
    uuid_body.extend([6, 4, 0]);
    let tables = [
        structure(0, 0, &[1, 2, 0, 0xf0, 3], &["Dell Inc.", "2.19.1", "06/07/2024"]),
        structure(1, 1, &uuid_body, &["Dell Inc.", "PowerEdge R650", "7XK2M33", "SKU=0A6B"]),
        structure(2, 2, &[1, 2, 3, 4], &["Dell Inc.", "0JPR1K", "A02", ".7XK2M33.CN."]),
        structure(3, 3, &[1, 0x97, 0, 0, 2], &["Dell Inc.", "rack-7"]),
        array_of(0x1000, 3, 6),
        module(0x1000, (72, 64), 0x7fff, 65536, &A1),
        structure(38, 0x2600, &[1, 0x20, 0x20, 0xff], &[]),
        structure(127, 0x7f00, &[], &[]),
    ]
    .concat();
    let found = parse(b"_SM3_\0\x18\x03\x03", &tables);
    insta::assert_debug_snapshot!(found, @r#"
    Smbios {
        system: System {
            manufacturer: Some(
                "Dell Inc.",
            ),
            product: Some(
                "PowerEdge R650",
            ),
            serial: Some(
                "7XK2M33",
            ),
            uuid: Some(
                "4c4c4544-0032-5810-804a-b4c04f333332",
            ),
            sku: Some(
                "SKU=0A6B",
            ),
            asset_tag: Some(
                "rack-7",
            ),
            chassis: Some(
                "Rack Mount Chassis",
            ),
        },
        board: Board {
            manufacturer: Some(
                "Dell Inc.",
            ),
            product: Some(
                "0JPR1K",
            ),
            version: Some(
                "A02",
            ),
            serial: Some(
                ".7XK2M33.CN.",
            ),
        },
        bios: Bios {
            vendor: Some(
                "Dell Inc.",
            ),
            version: Some(
                "2.19.1",
            ),
            date: Some(
                "06/07/2024",
            ),
        },
        dimms: [
            Dimm {
                locator: Some(
                    "DIMM_A1",
                ),
                bank: Some(
                    "P0 CHANNEL A",
                ),
                size_mib: Some(
                    65536,
                ),
                manufacturer: Some(
                    "Samsung",
                ),
                part: Some(
                    "M393A8G40BB4-CWE",
                ),
                serial: Some(
                    "4012AB99",
                ),
                speed_mts: Some(
                    2933,
                ),
                kind: Some(
                    "DDR4",
                ),
                ecc: Some(
                    true,
                ),
            },
        ],
        bmc: true,
        problem: None,
    }
    "#);
    let old = parse(b"_SM_\0\0\x02\x05", &tables);
    assert_eq!(
        old.system.uuid.as_deref(),
        Some("44454c4c-3200-1058-804a-b4c04f333332"),
        "big-endian before 2.6"
    );
}

#[test]
fn sizes_in_their_four_spellings() {
    let size = |size, extended| parse(b"", &module(0, (64, 64), size, extended, &A1)).dimms[0].size_mib;
    assert_eq!(size(0, 0), Some(0), "empty");
    assert_eq!(size(8192, 0), Some(8192));
    assert_eq!(size(0x7fff, 0x8002_0000), Some(0x2_0000), "extended, its reserved bit ignored");
    assert_eq!(size(0x8000 | 2048, 0), Some(2), "in KiB");
    assert_eq!(size(0xffff, 0), None, "unknown");
}

#[test]
fn an_empty_slot_keeps_its_place_and_tells_no_module() {
    let tables = module(0, (0xffff, 0xffff), 0, 0, &["DIMM_B2", "BANK 3", "NO DIMM", "NO DIMM", "NO DIMM"]);
    let dimm = &parse(b"", &tables).dimms[0];
    assert_eq!((dimm.locator.as_deref(), dimm.size_mib), (Some("DIMM_B2"), Some(0)));
    assert_eq!((&dimm.manufacturer, &dimm.serial, &dimm.part, dimm.speed_mts), (&None, &None, &None, None));
}

#[test]
fn placeholders_are_not_serial_numbers() {
    let tables = module(
        0,
        (64, 64),
        4096,
        0,
        &["DIMM 0", "Not Specified", "Not Specified", "00000000", "To Be Filled By O.E.M."],
    );
    let dimm = &parse(b"", &tables).dimms[0];
    assert_eq!((&dimm.manufacturer, &dimm.serial, &dimm.part), (&None, &None, &None));
    assert_eq!(dimm.ecc, Some(false));
}

#[test]
fn only_arrays_of_main_memory_hold_modules_and_tell_their_error_correction() {
    let flash = ["SYSTEM ROM", "", "", "", ""].map(|s| if s.is_empty() { "x" } else { s });
    let tables = [
        array_of(0x1000, 3, 6),
        array_of(0x1001, 5, 3),
        module(0x1000, (0xffff, 0xffff), 4096, 0, &A1),
        module(0x1001, (8, 8), 32, 0, &flash),
        module(0xeeee, (0, 0), 2048, 0, &["ELSEWHERE"]),
    ]
    .concat();
    let dimms = parse(b"", &tables).dimms;
    let seen: Vec<_> = dimms.iter().map(|d| (d.locator.as_deref().unwrap_or(""), d.ecc)).collect();
    assert_eq!(seen, [("DIMM_A1", Some(true)), ("ELSEWHERE", None)]);
}

#[test]
fn broken_tables_end_with_a_reason_and_keep_what_came_before() {
    let whole = structure(1, 1, &[1, 0, 0, 0], &["ACME"]);
    let with = |tail: &[u8]| parse(b"", &[&whole, tail].concat());
    for (tail, reason) in [
        (&[4, 3, 0, 0, 0, 0][..], "is shorter than its header"),
        (&[4, 200, 0, 0, 0, 0], "runs past the end"),
        (&[4, 4, 0, 0, b'x', 0], "has strings without an end"),
        (&[4, 4], "left over"),
    ] {
        let found = with(tail);
        assert_eq!(found.system.manufacturer.as_deref(), Some("ACME"));
        assert!(
            found.problem.as_deref().is_some_and(|problem| problem.contains(reason)),
            "{:?}",
            found.problem
        );
    }
    assert_eq!(with(&[0; 64]).problem, None, "padding in place of the end marker");
    assert_eq!(
        with(&[127, 4, 0, 0, 0, 0, 9, 9, 9]).problem,
        None,
        "what follows the end marker does not count"
    );
}

#[test]
fn hostile_strings_are_defused() {
    let tables = structure(1, 1, &[1, 2, 0, 0], &["\u{1b}[2J\u{202e}evil", &"A".repeat(10_000)]);
    let system = parse(b"", &tables).system;
    assert_eq!(system.manufacturer.as_deref(), Some("\u{fffd}[2J\u{fffd}evil"));
    assert_eq!(system.product.map(|p| p.chars().count()), Some(257));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(entry_point in prop::collection::vec(any::<u8>(), 0..32), tables in prop::collection::vec(any::<u8>(), 0..2048)) {
        parse(&entry_point, &tables);
    }

    #[test]
    fn damaged_tables_never_panic(at in 0_usize..400, value: u8, cut in 0_usize..400) {
        let mut tables = [array_of(0x1000, 3, 6), module(0x1000, (72, 64), 0x7fff, 65536, &A1), structure(1, 1, &[1, 2, 0, 3], &["a", "b"])].concat();
        let at = at % tables.len();
        tables[at] = value;
        tables.truncate(cut.max(1));
        let found = parse(b"_SM3_\0\x18\x03\x03", &tables);
        prop_assert!(found.dimms.len() <= 400);
    }
}
