//! The catalogue that ships, and files that must be refused.

use std::path::PathBuf;

use assay_qemu::{LabMachine, Machine};

use super::*;
use crate::commands::prove::codes::CODES;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn catalogue() -> Catalogue {
    Catalogue::load(&repository().join("lab/faults")).expect("the catalogue is good")
}

const FAULT: &str = r#"
description = "One module is missing"
pipeline = "host"
kind = "fault"
made_by = "device"
machine = "missing-dimm"
control = "healthy-bios"
[expected]
verdict = "fail"
stage = "SpecValidate"
code = "DimmMissing"
"#;

fn refused(from: &str, to: &str) -> String {
    assert!(FAULT.contains(from), "{from}");
    format!("{:#}", Entry::read("x", &FAULT.replace(from, to)).expect_err("refused"))
}

#[test]
fn the_catalogue_parses_and_knows_its_codes() {
    let catalogue = catalogue();
    let names: Vec<_> = catalogue.entries().map(|entry| entry.name.as_str()).collect();
    assert!(
        names.is_sorted() && names.contains(&"healthy-bios") && names.contains(&"stuck-bits"),
        "{names:?}"
    );
    assert!(catalogue.codes().contains(&"DimmMissing"));
    let faults = |made_by| {
        let of_kind = |entry: &&Entry| entry.kind == Kind::Fault && entry.made_by == made_by;
        catalogue.entries().filter(of_kind).count()
    };
    // What the project promises at least.
    assert!(faults(MadeBy::Device) >= 20 && faults(MadeBy::Device) + faults(MadeBy::Edge) >= 28);
}

#[test]
fn every_stage_of_the_pipeline_has_codes() {
    for stage in assay_pipelines::host::STAGES {
        let name = stage.plan().name.0;
        assert!(check_stage(&name).is_ok(), "a stage without codes cannot be proven: {name}");
    }
    let known = assay_model::host::spec::STAGES;
    for (stage, codes) in CODES {
        assert!(known.contains(&stage), "{stage} is not in {known:?}");
        assert!(codes.is_sorted(), "{stage}");
    }
}

/// What two machines of the same base have in common: everything but their identity.
fn shape(machine: &Machine) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        machine.firmware,
        machine.cpus,
        machine.power_on,
        machine.smbios.product.clone(),
        machine.dimms.iter().map(|d| (d.locator.clone(), d.size_mib, d.part.clone())).collect::<Vec<_>>(),
        machine.disks.iter().map(|d| (d.id.clone(), d.bus, d.size_mib, d.model.clone())).collect::<Vec<_>>(),
        machine.nics.iter().map(|n| (n.id.clone(), n.model, n.speed, n.boot)).collect::<Vec<_>>(),
    )
}

#[test]
fn a_control_is_the_same_machine_without_the_fault() {
    let machines = repository().join("lab/machines");
    let catalogue = catalogue();
    for entry in catalogue.entries() {
        let machine = LabMachine::load(&machines, &entry.machine).expect("the machine is there");
        let broken = !machine.fault.is_none() || !entry.inject.is_empty();
        assert_eq!(broken, entry.kind != Kind::Healthy, "{}", entry.name);
        for inject in &entry.inject {
            inject.fault.check(&entry.machine, &machine.actual).expect("it can happen to this machine");
        }
        let stand_in = !machine.actual.oem_strings.is_empty();
        assert_eq!(stand_in, entry.made_by == MadeBy::Edge, "{}: a stand-in is not a device", entry.name);
        let disks = machine.ordered.disks.iter().map(|disk| disk.serial.clone());
        let parts: Vec<_> = disks.chain(machine.ordered.nics.iter().map(|nic| nic.mac.to_string())).collect();
        // Which GPU there is, only its stand-in knows.
        let blamed = entry.expected.parts.iter().filter(|_| entry.expected.stage.as_deref() != Some("GPU"));
        for part in blamed {
            assert!(parts.contains(part), "{}: {part} is not in {parts:?}", entry.name);
        }
        if let Some(control) = &entry.control {
            let control = catalogue.entry(control).expect("checked when loaded");
            let healthy = LabMachine::load(&machines, &control.machine).expect("the machine is there");
            assert_eq!(shape(&machine.ordered), shape(&healthy.actual), "{}", entry.name);
        }
    }
}

#[test]
fn the_reference_page_lists_every_entry_as_it_is() {
    let page =
        std::fs::read_to_string(repository().join("docs/reference/proof-catalogue.md")).expect("the page");
    for entry in catalogue().entries() {
        let row = crate::commands::prove::page::row(entry);
        assert!(page.contains(&row), "docs/reference/proof-catalogue.md lacks the row\n{row}");
    }
}

#[test]
fn a_file_that_expects_the_impossible_or_too_little_is_refused() {
    assert!(Entry::read("x", FAULT).is_ok());
    for (from, to, says) in [
        ("\"DimmMissing\"", "\"DimMissing\"", "SpecValidate cannot raise `DimMissing`"),
        ("\"SpecValidate\"", "\"SMART\"", "SMART cannot raise `DimmMissing`"),
        ("\"SpecValidate\"", "\"Spec\"", "no stage `Spec`"),
        ("code = \"DimmMissing\"", "", "red for any reason proves nothing"),
        ("stage = \"SpecValidate\"", "", "red for any reason proves nothing"),
        ("verdict = \"fail\"", "verdict = \"pass\"", "a pass has no stage"),
        ("control = \"healthy-bios\"", "", "as `control`"),
        ("kind = \"fault\"", "kind = \"healthy\"", "has none"),
        ("description", "descripion", "unknown field"),
        ("machine =", "spec = 'format: 2'\nmachine =", "format 2 is not known"),
        ("code =", "beside = [\"Nonsense\"]\ncode =", "cannot raise `Nonsense`"),
        ("[expected]", "stages = [\"Storag\"]\n[expected]", "there is no stage `Storag`"),
        (
            "[expected]",
            "[[inject]]\nwhen = { stage = \"Boot\" }\nwhat = \"reset\"\n[expected]",
            "no stage `Boot`",
        ),
        (
            "[expected]",
            "[[inject]]\nwhen = { stage = \"SMART\" }\nwhat = \"rest\"\n[expected]",
            "unknown variant `rest`",
        ),
        (
            "[expected]",
            "[[inject]]\nwhen = { stage = \"SMART\" }\nwhat = \"pull\"\npart = \"a\"\nhard = true\n[expected]",
            "unknown field `hard`",
        ),
    ] {
        let said = refused(from, to);
        assert!(said.contains(says), "{to}: {said}");
    }
    let no_fault = "verdict = \"fail\"\nstage = \"SpecValidate\"\ncode = \"DimmMissing\"";
    assert!(refused(no_fault, "verdict = \"pass\"").contains("a fault must expect"));
}

#[test]
fn a_folder_is_checked_as_a_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = || Catalogue::load(folder.path()).map(|_| ()).map_err(|e| format!("{e:#}"));
    assert!(load().expect_err("empty").contains("proves nothing"));
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("a.toml", FAULT);
    assert!(load().expect_err("no control").contains("there is no entry `healthy-bios`"));
    write("healthy-bios.toml", &FAULT.replace("missing-dimm", "other"));
    assert!(load().expect_err("a fault as control").contains("which is not healthy"));
    let healthy = "description = 'a'\npipeline = 'host'\nkind = 'healthy'\nmade_by = 'device'\nmachine = 'missing-dimm'\n[expected]\nverdict = 'pass'\n";
    write("healthy-bios.toml", healthy);
    assert!(load().expect_err("one machine twice").contains("use the same machine"));
    write(
        "healthy-bios.toml",
        &healthy.replace("missing-dimm", "healthy-bios").replace("[exp", "profile = 'quick'\n[exp"),
    );
    assert!(load().expect_err("another profile").contains("they must be the same"));
    write("healthy-bios.toml", &healthy.replace("missing-dimm", "healthy-bios"));
    assert_eq!(load(), Ok(()));
}

#[test]
fn the_short_run_has_a_fault_of_each_kind_of_stage() {
    let catalogue = catalogue();
    let names = catalogue.smoke();
    let short = catalogue.select(&names).expect("they are there");
    assert!((10..=15).contains(&names.len()), "{names:?}");
    let asked: Vec<&Entry> = short.machines().filter(|entry| short.asked_for(entry)).collect();
    assert!(asked.iter().any(|entry| entry.kind == Kind::Healthy), "a false alarm counts as much as a miss");
    assert!(asked.iter().any(|entry| entry.made_by == MadeBy::Edge));
    for stage in ["SpecValidate", "SMART", "CPUStress", "Storage", "Network", "PSU"] {
        assert!(asked.iter().any(|entry| entry.expected.stage.as_deref() == Some(stage)), "{stage}");
    }
    let code = |code: &str| asked.iter().any(|entry| entry.expected.code.as_deref() == Some(code));
    assert!(code("MachineRebooted") && code("UnexpectedData"));
}

#[test]
fn what_is_called_too_slow_is_held_to_what_its_control_reaches() {
    let catalogue = catalogue();
    let limits = |entry: &Entry| {
        let machine =
            LabMachine::load(&repository().join("lab/machines"), &entry.machine).expect("a machine");
        entry.limits.clone().unwrap_or(crate::commands::lab::spec::expected(&machine.ordered).limits)
    };
    for code in ["DiskSlow", "ZoneSlow", "NetworkThroughputLow"] {
        let entry = catalogue.entries().find(|entry| entry.expected.code.as_deref() == Some(code));
        let entry = entry.expect("an entry");
        let control = catalogue.entry(entry.control.as_deref().expect("a fault")).expect("there");
        assert_eq!(limits(entry), limits(control), "{}", entry.name);
    }
}

#[test]
fn each_control_is_run_once_and_is_not_asked_for_by_itself() {
    let catalogue = catalogue();
    let names = |entries: &[&Entry]| entries.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();
    let all = catalogue.select(&[]).expect("all");
    assert_eq!(
        names(&all.healthy),
        [
            "healthy-bench",
            "healthy-bench-quick",
            "healthy-bios",
            "healthy-bmc",
            "healthy-gpu",
            "healthy-large",
            "healthy-memtest",
            "healthy-uefi"
        ]
    );
    assert_eq!(all.len(), catalogue.entries().count());
    assert!(all.healthy.iter().all(|entry| all.asked_for(entry)));
    // A healthy machine goes through all stages, unless its file names some.
    assert!(all.healthy.iter().all(|entry| all.only(entry).is_empty() == entry.stages.is_empty()));

    let two = catalogue.select(&["missing-dimm".into(), "swapped-disk".into()]).expect("two");
    assert_eq!(names(&two.healthy), ["healthy-bios"]);
    assert!(!two.asked_for(two.healthy[0]) && two.asked_for(two.others[0]));
    // Neither needs more than the spec, so their control needs no more either.
    for entry in two.machines() {
        assert_eq!(two.only(entry), ["Inventory", "Reporting", "SpecValidate"]);
    }
    let late = catalogue.select(&["panic".into(), "slow-network".into()]).expect("two");
    let control = late.only(late.healthy[0]);
    assert!(control.contains(&"CPUStress") && control.contains(&"Network") && !control.contains(&"Storage"));
    assert!(!late.only(late.others[0]).contains(&"Network"), "each leaves out what only the other needs");

    let error = catalogue.select(&["missing".into()]).expect_err("no such entry").to_string();
    assert!(error.contains("there are ") && error.contains("failing-nvme, fake-capacity"), "{error}");
}

#[test]
fn only_a_code_whose_loss_can_be_noticed_may_be_muted() {
    let catalogue = catalogue();
    assert!(catalogue.check_muted("DimmMissing").is_ok());
    let said = |code: &str| catalogue.check_muted(code).expect_err("refused").to_string();
    assert!(said("DimMissing").starts_with("there is no code `DimMissing`; entries of the catalogue expect"));
    assert!(said("MachineHung").contains("the engine itself sees"));
    assert!(said("MemoryTotal").contains("nothing could notice its loss"), "{}", said("MemoryTotal"));

    let one = catalogue.select(&["missing-dimm".into()]).expect("one");
    assert!(one.check_muted("DimmMissing").is_ok());
    assert!(one.check_muted("DiskMissing").is_err());
}
