//! What an operator reads when a spec is wrong, and that what is written reads back.

use proptest::prelude::*;

use super::*;
use crate::host::inventory::{Bios, Cpu, Dimm, Disk, Inventory, Memory, Nic, System, Transport};
use crate::host::spec::{DiskClass, FieldSeverity};

fn refused(yaml: &str) -> String {
    HostSpec::from_yaml(yaml).expect_err("refused").message
}

#[test]
fn the_examples_are_valid() {
    for (name, yaml) in [
        ("server", include_str!("../../../../../examples/specs/server.yaml")),
        ("minimal", include_str!("../../../../../examples/specs/minimal.yaml")),
    ] {
        let spec = HostSpec::from_yaml(yaml).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!spec.disks.is_empty(), "{name}");
        assert_eq!(HostSpec::from_yaml(&spec.to_yaml()), Ok(spec), "{name}");
    }
    let server =
        HostSpec::from_yaml(include_str!("../../../../../examples/specs/server.yaml")).expect("valid");
    assert_eq!(
        (server.disks[0].class, server.limits.max_temp_c, server.limits.smart.percentage_used_warn),
        (Some(DiskClass::Nvme), 85, 70)
    );
    assert_eq!((server.limits.smart.percentage_used_fail, server.limits.smart.self_test), (100, true));
    assert!(server.stages.get("PSU").is_some_and(|rule| rule.required));
    assert_eq!(server.severity_of("system.bios_version"), FieldSeverity::Critical);
}

#[test]
fn the_schema_names_the_same_keys_and_forbids_others() {
    let schema = serde_json::to_value(schemars::schema_for!(HostSpec)).expect("a schema");
    assert_eq!(schema["additionalProperties"], false);
    let keys =
        schema["properties"].as_object().expect("properties").keys().cloned().collect::<Vec<_>>().join(", ");
    assert!(refused("format: 1\nx: 1\n").contains(&format!("known keys here: {keys}")), "{keys}");
    let inventory = serde_json::to_value(schemars::schema_for!(Inventory)).expect("a schema");
    assert!(inventory["$defs"]["Disk"]["properties"]["wwn"].is_object(), "{inventory}");
}

#[test]
fn a_spec_survives_json_where_it_is_stored() {
    let spec = HostSpec::from_yaml(include_str!("../../../../../examples/specs/server.yaml")).expect("valid");
    let json = serde_json::to_value(&spec).expect("serialises");
    assert_eq!(serde_json::from_value::<HostSpec>(json).expect("reads back"), spec);
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_one() {
    insta::assert_snapshot!(refused("format: 1\nsystem:\n  manufacturer: ACME\n  serail: X1\n"), @r"
    spec, line 4, column 3: unknown key `serail`; did you mean `serial`?
      |
    4 |   serail: X1
      |   ^
    known keys here: manufacturer, product, serial, uuid, asset_tag, bios_version
    ");
    insta::assert_snapshot!(refused("format: 1\ndisk:\n  - serial: X1\n"), @r"
        spec, line 2, column 1: unknown key `disk`; did you mean `disks`?
          |
        2 | disk:
          | ^
        known keys here: format, system, cpu, memory, disks, nics, pci, gpus, cluster, limits, severity, stages
    ");
    insta::assert_snapshot!(refused("format: 1\nlimits:\n  smart: {reallocated: 5}\n"), @r"
    spec, line 3, column 11: unknown key `reallocated`; did you mean `reallocated_max`?
      |
    3 |   smart: {reallocated: 5}
      |           ^
    known keys here: percentage_used_fail, percentage_used_warn, reallocated_max, pending_max, uncorrectable_max, media_errors_max, temperature_max_c, self_test
    ");
}

#[test]
fn wrong_values_say_what_was_expected() {
    insta::assert_snapshot!(refused("format: 1\nmemory:\n  total_mib: lots\n"), @r"
    spec, line 3, column 14: expected a whole number, 0 or more
      |
    3 |   total_mib: lots
      |              ^
    ");
    insta::assert_snapshot!(refused("format: 1\ncpu: {sockets: -1}\n"), @r"
    spec, line 2, column 16: expected a whole number, 0 or more
      |
    2 | cpu: {sockets: -1}
      |                ^
    ");
    insta::assert_snapshot!(refused("format: 1\ndisks:\n  - serial: X\n    class: nvm\n"), @r"
    spec, line 4, column 12: `nvm` is not known here; did you mean `nvme`?
      |
    4 |     class: nvm
      |            ^
    expected one of: nvme, ssd, hdd
    ");
    insta::assert_snapshot!(refused("format: 1\nmemory: 64\n"), @r"
    spec, line 2, column 9: expected keys with values (`key: value`)
      |
    2 | memory: 64
      |         ^
    ");
    insta::assert_snapshot!(refused("format: 1\nstages: {PSU: {required: maybe}}\n"), @r"
    spec, line 2, column 26: expected true or false
      |
    2 | stages: {PSU: {required: maybe}}
      |                          ^
    ");
    insta::assert_snapshot!(refused("format: 1\nsystem: {serial: ~}\ndisks: [{serial: [a]}]\n"), @r"
    spec, line 3, column 18: expected a text
      |
    3 | disks: [{serial: [a]}]
      |                  ^
    ");
    insta::assert_snapshot!(refused("format: 1\n\tsystem: {}\n"), @r"
    spec, line 1, column 9: while scanning a plain scalar, found a tab
      |
    1 | format: 1
      |         ^
    ");
    insta::assert_snapshot!(refused("format: 1\ndisks: S1\n"), @r"
    spec, line 2, column 8: expected a list
      |
    2 | disks: S1
      |        ^
    ");
}

#[test]
fn names_that_refer_to_nothing_are_refused_where_they_stand() {
    insta::assert_snapshot!(refused("format: 1\nseverity:\n  memory.dims: info\n"), @r"
    spec, line 3, column 3: `memory.dims` is not a field that is compared; did you mean `memory.dimms`?
      |
    3 |   memory.dims: info
      |   ^
    ");
    insta::assert_snapshot!(refused("format: 1\nseverity:\n  memory.dimms: fatal\n"), @r"
    spec, line 3, column 17: `fatal` is not known here
      |
    3 |   memory.dimms: fatal
      |                 ^
    expected one of: critical, warning, info, ignore
    ");
    insta::assert_snapshot!(refused("format: 1\nstages:\n  Smart: {required: false}\n"), @r"
    spec, line 3, column 3: there is no stage `Smart`; did you mean `SMART`?
      |
    3 |   Smart: {required: false}
      |   ^
    stages: Inventory, SpecValidate, SMART, CPUStress, Memtest86, Storage, Network, GPU, PSU, Reporting
    ");
}

#[test]
fn entries_that_name_nothing_or_the_same_thing_are_refused() {
    insta::assert_snapshot!(refused("format: 1\ndisks:\n  - serial: S1\n  - bay: '2'\n"), @r"
    spec, line 4, column 5: a disk needs its `serial` or `wwn`, or at least a `model`, `class`, `min_size_gb` or `size_bytes`
      |
    4 |   - bay: '2'
      |     ^
    ");
    insta::assert_snapshot!(refused("format: 1\ndisks:\n  - serial: S1\n  - serial: s1\n"), @r"
    spec, line 4, column 5: disk serial `s1` is listed twice
      |
    4 |   - serial: s1
      |     ^
    ");
    insta::assert_snapshot!(refused("format: 1\nmemory:\n  dimms:\n    - size_mib: 1024\n"), @r"
    spec, line 4, column 7: a memory module needs its `locator` (slot) or its `serial`
      |
    4 |     - size_mib: 1024
      |       ^
    ");
    insta::assert_snapshot!(refused("format: 1\nnics: [{mac: '52:54:00'}]\n"), @r"
    spec, line 2, column 8: `52:54:00` is not a hardware address such as `52:54:00:12:34:56`
      |
    2 | nics: [{mac: '52:54:00'}]
      |        ^
    ");
    insta::assert_snapshot!(refused("format: 1\npci: [{id: '8086'}]\n"), @r"
    spec, line 2, column 7: `8086` is not a PCI id: vendor and device in hex, such as `8086:10d3`
      |
    2 | pci: [{id: '8086'}]
      |       ^
    ");
    insta::assert_snapshot!(refused("format: 1\ngpus: [{id: '10de:20b5', count: 0}]\n"), @r"
    spec, line 2, column 8: `count` is how many there must be at least: 1 or more
      |
    2 | gpus: [{id: '10de:20b5', count: 0}]
      |        ^
    ");
}

#[test]
fn the_whole_file_can_be_wrong() {
    insta::assert_snapshot!(refused(""), @"spec, line 1, column 1: there is nothing here; a spec begins with `format: 1`");
    insta::assert_snapshot!(refused("system: {}\n"), @r"
    spec, line 1, column 1: `format` is missing; a spec begins with `format: 1`
      |
    1 | system: {}
      | ^
    ");
    insta::assert_snapshot!(refused("format: 2\n"), @r"
    spec, line 1, column 9: format 2 is not known here; write `format: 1`
      |
    1 | format: 2
      |         ^
    ");
    insta::assert_snapshot!(refused("format: 1\nformat: 1\n"), @r"
    spec, line 2, column 1: `format` is given twice
      |
    2 | format: 1
      | ^
    ");
    insta::assert_snapshot!(refused("format: 1\nsystem: {product: [\n"), @r"
    spec, line 2, column 19: expected a text
      |
    2 | system: {product: [
      |                   ^
    ");
    assert!(refused(&"#".repeat(MAX_BYTES + 1)).contains("bytes"));
}

#[test]
fn an_error_has_its_place_and_hostile_text_is_defused() {
    let error = HostSpec::from_yaml("format: 1\n\"\\e[2Jx\": 1\n").expect_err("refused");
    assert_eq!((error.line, error.column), (2, 1));
    assert!(!error.message.contains('\u{1b}'), "{:?}", error.message);
}

#[test]
fn sections_without_content_are_empty_and_numbers_can_be_serial_numbers() {
    let spec = HostSpec::from_yaml("format: 1\nsystem:\n  serial: 0012345\n  product: 1e3\ndisks:\n")
        .expect("a spec");
    assert_eq!(spec.system.serial.as_deref(), Some("0012345"));
    assert_eq!(spec.system.product.as_deref(), Some("1e3"));
    assert!(spec.disks.is_empty());
}

#[test]
fn a_captured_spec_reads_back_and_fits_its_machine() {
    let inventory = known_good("SN 1: #x".into());
    let spec = HostSpec::capture(&inventory);
    insta::assert_snapshot!(spec.to_yaml(), @r#"
    format: 1
    system:
      product: R650
      serial: "SN 1: #x"
      bios_version: "2.19.1"
    cpu:
      model: EPYC
      sockets: 1
      cores: 16
      threads: 32
    memory:
      total_mib: 32768
      dimms:
      - locator: A1
        size_mib: 16384
        serial: 0A
      - locator: B1
        size_mib: 16384
        serial: 0A
    disks:
    - serial: S1
      wwn: eui.01
      size_bytes: 960197124096
      class: nvme
    - serial: S1
      wwn: eui.02
      size_bytes: 960197124096
      class: nvme
    nics:
    - mac: 3c:fd:fe:00:00:01
      min_speed_mbps: 10000
    "#);
    assert_eq!(HostSpec::from_yaml(&spec.to_yaml()), Ok(spec.clone()));
    let comparison = crate::host::spec::compare(&spec, &inventory);
    assert!(comparison.diffs.is_empty() && comparison.unread.is_empty(), "{comparison:?}");
    assert!(comparison.agreed.len() > 20, "{comparison:?}");
}

fn known_good(serial: String) -> Inventory {
    let dimm = |slot: &str, size_mib| Dimm {
        locator: Some(slot.into()),
        size_mib: Some(size_mib),
        serial: Some("0A".into()),
        ..Dimm::default()
    };
    let disk = |name: &str, serial: &str, wwn: &str| Disk {
        name: name.into(),
        serial: Some(serial.into()),
        wwn: Some(wwn.into()),
        size_bytes: Some(960_197_124_096),
        transport: Transport::Nvme,
        ..Disk::default()
    };
    Inventory {
        system: System { product: Some("R650".into()), serial: Some(serial), ..System::default() },
        bios: Bios { version: Some("2.19.1".into()), ..Bios::default() },
        cpus: vec![Cpu { model: Some("EPYC".into()), cores: Some(16), threads: Some(32), ..Cpu::default() }],
        memory: Memory {
            total_mib: Some(31_800),
            dimms: vec![dimm("A1", 16_384), dimm("A2", 0), dimm("B1", 16_384)],
        },
        disks: vec![
            disk("nvme0n1", "S1", "eui.01"),
            disk("nvme0n2", "S1", "eui.02"),
            Disk {
                name: "sda".into(),
                removable: Some(true),
                model: Some("stick".into()),
                ..Disk::default()
            },
        ],
        nics: vec![Nic {
            name: "eno1".into(),
            mac: Some("3c:fd:fe:00:00:01".into()),
            speed_mbps: Some(10_000),
            ..Nic::default()
        }],
        ..Inventory::default()
    }
}

proptest! {
    #[test]
    fn any_text_of_a_machine_survives_capture_and_yaml(serial in "\\PC{1,40}") {
        let serial = text::clean(&serial);
        prop_assume!(!serial.is_empty());
        let spec = HostSpec::capture(&known_good(serial));
        prop_assert_eq!(HostSpec::from_yaml(&spec.to_yaml()), Ok(spec));
    }

    #[test]
    fn arbitrary_yaml_never_panics(yaml in "(format: 1\n)?(disks|nics|memory|severity|stages|system)?[:\\-\\[\\]{}, \nA-Za-z0-9#&*!|>'\"]{0,120}") {
        let _ = HostSpec::from_yaml(&yaml);
    }
}
