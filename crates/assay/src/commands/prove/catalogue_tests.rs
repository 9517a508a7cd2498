//! The catalogue that ships, and files that must be refused.

use std::path::PathBuf;

use assay_qemu::{LabMachine, Machine};

use super::*;

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
    assert_eq!(names, ["failing-nvme", "healthy-bios", "healthy-uefi", "missing-dimm", "swapped-disk"]);
    assert_eq!(catalogue.codes(), ["DimmMissing", "DiskMissing", "NvmeCriticalWarning"]);
}

#[test]
fn every_stage_with_codes_is_in_the_pipeline() {
    let stages: Vec<_> = assay_pipelines::host::STAGES.into_iter().map(|stage| stage.plan().name.0).collect();
    for (stage, codes) in CODES {
        assert!(stages.iter().any(|known| known == stage), "{stage} is not in {stages:?}");
        assert!(codes.is_sorted(), "{stage}");
    }
    assert_eq!(stages.len(), CODES.len(), "a stage without codes cannot be proven: {stages:?}");
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
        assert_eq!(machine.fault.is_none(), entry.kind == Kind::Healthy, "{}", entry.name);
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
        let expected = match (&entry.expected.stage, &entry.expected.code) {
            (Some(stage), Some(code)) => format!("fail at {stage}: `{code}`"),
            _ => "pass".to_owned(),
        };
        let control = entry.control.as_ref().map_or_else(|| "–".to_owned(), |control| format!("`{control}`"));
        let row = format!("| `{}` | {} | {expected} | {control} |", entry.name, entry.description);
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
    write("healthy-bios.toml", &healthy.replace("missing-dimm", "healthy-bios"));
    assert_eq!(load(), Ok(()));
}

#[test]
fn each_control_is_run_once_and_is_not_asked_for_by_itself() {
    let catalogue = catalogue();
    let names = |entries: &[&Entry]| entries.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();
    let all = catalogue.select(&[]).expect("all");
    assert_eq!(names(&all.healthy), ["healthy-bios", "healthy-uefi"]);
    assert_eq!(names(&all.others), ["failing-nvme", "missing-dimm", "swapped-disk"]);
    assert!(all.healthy.iter().all(|entry| all.asked_for(entry)));

    let two = catalogue.select(&["missing-dimm".into(), "swapped-disk".into()]).expect("two");
    assert_eq!(names(&two.healthy), ["healthy-bios"]);
    assert!(!two.asked_for(two.healthy[0]) && two.asked_for(two.others[0]));

    let error = catalogue.select(&["missing".into()]).expect_err("no such entry").to_string();
    assert!(error.contains("there are failing-nvme, healthy-bios"), "{error}");
}

#[test]
fn only_a_code_whose_loss_can_be_noticed_may_be_muted() {
    let catalogue = catalogue();
    assert!(catalogue.check_muted("DimmMissing").is_ok());
    let said = |code: &str| catalogue.check_muted(code).expect_err("refused").to_string();
    assert_eq!(
        said("DimMissing"),
        "there is no code `DimMissing`; entries of the catalogue expect DimmMissing, DiskMissing, NvmeCriticalWarning"
    );
    assert!(said("MemoryTotal").contains("nothing could notice its loss"), "{}", said("MemoryTotal"));

    let one = catalogue.select(&["missing-dimm".into()]).expect("one");
    assert!(one.check_muted("DimmMissing").is_ok());
    assert!(one.check_muted("DiskMissing").is_err());
}
