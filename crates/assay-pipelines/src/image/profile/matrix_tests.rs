//! Matrices as people write them: which cases come out, in which order, and what is refused.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Axis, AxisValue, CaseRules, Cover, Selection, choose, merge, named};
use crate::image::profile::{DiskRole, Firmware, InstallExpect, Profile};

const MATRIX: &str = r#"name = "small"

[machine]
cpus = 1

[[phase]]
name = "installed"
marker = "done"
timeout = "20m"

[[matrix]]
name = "firmware"

[[matrix.value]]
name = "bios"

[[matrix.value]]
name = "uefi"
differs = { machine = { firmware = "uefi" } }

[[matrix]]
name = "disks"

[[matrix.value]]
name = "one"

[[matrix.value]]
name = "two"

[[matrix.value.differs.machine.disk]]
name = "NV0"
bus = "nvme"
size = "8GiB"
expect = "boot"

[[matrix.value.differs.machine.disk]]
name = "USB0"
bus = "usb"
size = "1GiB"
expect = "untouched"
"#;

fn refused(profile: &str) -> String {
    match Profile::from_toml(profile) {
        Err(error) => error.to_string(),
        Ok(read) => panic!("it was read as {read:#?}"),
    }
}

fn names(profile: &Profile) -> Vec<String> {
    profile.cases().expect("cases").into_iter().map(|case| case.name).collect()
}

#[test]
fn each_value_is_tried_with_each_and_differs_in_what_it_says_alone() {
    let profile = Profile::from_toml(MATRIX).expect("a matrix");
    let cases = profile.cases().expect("cases");
    let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "firmware=bios,disks=one",
            "firmware=bios,disks=two",
            "firmware=uefi,disks=one",
            "firmware=uefi,disks=two"
        ]
    );
    let last = &cases[3].profile;
    assert_eq!((last.machine.firmware, last.machine.disks.len(), last.machine.cpus), (Firmware::Uefi, 2, 1));
    assert_eq!(last.machine.disks[1].expect, DiskRole::Untouched);
    assert!(last.matrix.is_empty(), "a case has no cases of its own");
    assert_eq!(cases[0].profile.machine.disks.len(), 0);
    assert_eq!(cases[3].cell().get("disks").map(String::as_str), Some("two"));
    assert_eq!(Profile::from_toml(&profile.to_toml()), Ok(profile));
}

#[test]
fn a_profile_without_axes_is_one_case_with_its_own_name() {
    let source = MATRIX.split("[[matrix]]").next().expect("the beginning");
    let profile = Profile::from_toml(source).expect("a profile");
    let cases = profile.cases().expect("one");
    assert_eq!((cases.len(), cases[0].name.as_str(), &cases[0].profile), (1, "small", &profile));
}

#[test]
fn what_is_left_out_is_left_out_and_only_what_is_named_is_run() {
    let without = format!("{MATRIX}\n[cases]\nexclude = [\"disks=two,firmware=bios\"]\n");
    let profile = Profile::from_toml(&without).expect("a matrix");
    assert_eq!(names(&profile).len(), 3);
    assert!(!names(&profile).contains(&"firmware=bios,disks=two".to_owned()));
    let only = format!("{MATRIX}\n[cases]\nonly = [\"firmware=uefi\"]\n");
    assert_eq!(
        names(&Profile::from_toml(&only).expect("a matrix")),
        ["firmware=uefi,disks=one", "firmware=uefi,disks=two"]
    );
    let none = refused(&format!("{MATRIX}\n[cases]\nexclude = [\"firmware=uefi\", \"firmware=bios\"]\n"));
    assert_eq!(none, "cases: no combination is left; look at `only` and `exclude`");
}

#[test]
fn cases_are_chosen_by_their_values() {
    let profile = Profile::from_toml(MATRIX).expect("a matrix");
    let select = |text: &str| {
        let wanted: Selection = text.parse().expect("a selection");
        profile.selected(&[wanted]).map(|cases| cases.len()).map_err(|error| error.to_string())
    };
    assert_eq!(select("firmware=uefi"), Ok(2));
    assert_eq!(select(" disks = two , firmware = uefi "), Ok(1));
    assert_eq!(profile.selected(&[]).expect("all").len(), 4);
    let wrong = select("firmware=uefy").expect_err("no such value");
    assert!(wrong.contains("has no value `uefy`; did you mean `uefi`?"), "{wrong}");
    let wrong = select("firmwar=uefi").expect_err("no such axis");
    assert!(wrong.contains("did you mean `firmware`?"), "{wrong}");
    for bad in ["", "uefi", "a=b,", "a=b,a=c", "=x"] {
        assert!(bad.parse::<Selection>().expect_err(bad).to_string().contains("AXIS=VALUE"), "{bad}");
    }
    // What was left out cannot be chosen either.
    let source = format!("{MATRIX}\n[cases]\nexclude = [\"disks=two\"]\n");
    let without = Profile::from_toml(&source).expect("a matrix");
    let problem = without.selected(&["disks=two".parse().expect("one")]).expect_err("left out");
    assert!(problem.to_string().contains("leaves this combination out"), "{problem}");
}

#[test]
fn slips_of_the_pen_are_told_with_their_case() {
    let wrong = refused(&MATRIX.replace("firmware = \"uefi\" }", "firmwar = \"uefi\" }"));
    assert!(wrong.starts_with("case firmware=uefi,disks=one: unknown field `firmwar`"), "{wrong}");
    assert!(wrong.contains("did you mean `firmware`?"), "{wrong}");
    let wrong = refused(&MATRIX.replace("bus = \"nvme\"", "bus = \"nvmee\""));
    assert!(wrong.contains("did you mean `nvme`?"), "{wrong}");
    let wrong = refused(&MATRIX.replace("name = \"two\"", "name = \"one\""));
    assert!(wrong.contains("two values have this name"), "{wrong}");
    let wrong = refused(&MATRIX.replace("name = \"disks\"", "name = \"firmware\""));
    assert!(wrong.contains("two axes have this name"), "{wrong}");
    let wrong = refused(&MATRIX.replace("name = \"disks\"", "name = \"di sks\""));
    assert!(wrong.contains("letters, digits"), "{wrong}");
    let wrong = refused(&MATRIX.replace("{ machine = { firmware = \"uefi\" } }", "{ name = \"other\" }"));
    assert!(wrong.contains("differs.name: that is the same for all cases"), "{wrong}");
    let wrong = refused(&format!("{MATRIX}\n[cases]\nexclude = [\"firmware=uefi2\"]\n"));
    assert!(wrong.contains("cases.exclude = \"firmware=uefi2\""), "{wrong}");
    let wrong = refused(&format!("{MATRIX}\n[cases]\ncover = \"pair\"\n"));
    assert!(wrong.contains("did you mean `pairs`?"), "{wrong}");
    let source = MATRIX.split("[[matrix]]").next().expect("the beginning");
    let wrong = refused(&format!("{source}\n[cases]\ncover = \"pairs\"\n"));
    assert!(wrong.contains("no axes to combine"), "{wrong}");
}

#[test]
fn two_axes_may_not_set_the_same_key() {
    let wrong = refused(&MATRIX.replace("machine = { firmware = \"uefi\" }", "machine = { disk = [] }"));
    assert!(wrong.contains("\"firmware\" and \"disks\" both set machine.disk"), "{wrong}");
    // Also where one sets a table that the other sets a key of.
    let wrong = refused(&MATRIX.replace("machine = { firmware = \"uefi\" }", "machine = \"none\""));
    assert!(wrong.contains("both set machine"), "{wrong}");
}

#[test]
fn too_many_cases_are_refused_before_any_is_made() {
    let axis = |name: String| Axis {
        name,
        values: (0..64).map(|n| AxisValue { name: format!("v{n}"), differs: Map::new() }).collect(),
    };
    let rules = CaseRules::default();
    let problem = choose(&[axis("a".into()), axis("b".into())], &rules).expect_err("4096").to_string();
    assert!(problem.contains("4096 cases; at most 256 are run"), "{problem}");
    let many: Vec<_> = (0..8).map(|n| axis(format!("a{n}"))).collect();
    let problem = choose(&many, &rules).expect_err("64^8").to_string();
    assert!(problem.contains("more than 20000 combinations"), "{problem}");
}

#[test]
fn the_example_of_disk_choice_is_fourteen_cases_six_of_which_are_to_be_refused() {
    let source = include_str!("../../../../../examples/images/disk-choice.toml");
    let profile = Profile::from_toml(source).expect("the example");
    let cases = profile.cases().expect("its cases");
    let refused = cases
        .iter()
        .filter(|case| case.profile.install.expect == InstallExpect::Refused)
        .map(|case| &case.values[0].1);
    let refused: BTreeSet<&String> = refused.collect();
    assert_eq!((cases.len(), refused.len()), (14, 6), "{refused:?}");
    let spared = cases.iter().filter(|case| case.profile.install.expect == InstallExpect::Refused);
    let mut spared = spared.flat_map(|case| &case.profile.machine.disks);
    assert!(spared.all(|disk| disk.expect == DiskRole::Untouched), "a refusal spares every disk");
    assert_eq!(cases[0].name, "disks=nvme-ssd-hdd,firmware=bios");
    assert_eq!(Profile::from_toml(&profile.to_toml()), Ok(profile));
}

#[test]
fn a_case_s_name_fits_a_folder() {
    let long = |letter: &str| letter.repeat(24);
    let axes: String = ["a", "b", "c", "d", "e"]
        .map(|letter| format!("[[matrix]]\nname = \"{0}\"\nvalue = [{{ name = \"{0}\" }}]\n", long(letter)))
        .concat();
    let source = MATRIX.split("[[matrix]]").next().expect("the beginning");
    let wrong = refused(&format!("{source}\n{axes}"));
    assert!(wrong.contains("a case's name has at most 200 letters"), "{wrong}");
    assert!(refused("name = \"..\"\n").contains("name = \"..\""));
}

#[test]
fn what_differs_is_merged_table_by_table() {
    let object = |value: Value| value.as_object().cloned().expect("an object");
    let mut base = object(json!({ "a": 1, "t": { "x": 1, "y": [1, 2] } }));
    merge(&mut base, &object(json!({ "b": 2, "t": { "y": [3] } })));
    assert_eq!(base, object(json!({ "a": 1, "b": 2, "t": { "x": 1, "y": [3] } })));
}

#[test]
fn a_quarantine_has_an_owner_a_day_and_a_reason() {
    let good = format!(
        "{MATRIX}\n[[quarantine]]\ncase = \"firmware=uefi\"\nfinding = \"IdleShell\"\nowner = \"kim\"\nuntil = \
         \"2026-12-31\"\nreason = \"waits for a fix of the firmware\"\n"
    );
    let profile = Profile::from_toml(&good).expect("a quarantine");
    let [entry] = profile.quarantine.as_slice() else { panic!("{profile:?}") };
    assert_eq!(entry.what(), "IdleShell of firmware=uefi");
    assert!(!entry.is_over("2026-12-31") && entry.is_over("2027-01-01"), "the last day is still one");
    assert!(entry.takes(&[("firmware".into(), "uefi".into())]) && !entry.takes(&[]));
    assert!(entry.knows("IdleShell") && !entry.knows("KernelPanic"));
    assert_eq!(Profile::from_toml(&profile.to_toml()), Ok(profile));
    for (from, to, says) in [
        ("2026-12-31", "31.12.2026", "a day such as"),
        ("2026-12-31", "2026-02-30", "a day such as"),
        ("owner = \"kim\"", "owner = \" \"", "somebody has to answer for it"),
        ("case = \"firmware=uefi\"\nfinding = \"IdleShell\"\n", "", "name a `case`, a `finding` or both"),
        ("finding", "findin", "did you mean `finding`?"),
    ] {
        let wrong = refused(&good.replace(from, to));
        assert!(wrong.contains(says), "{to}: {wrong}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn pairs_cover_every_pair_that_any_case_could_have(
        sizes in proptest::collection::vec(1_usize..5, 1..5),
        left_out in (0_usize..4, 0_usize..4),
    ) {
        let axes: Vec<Axis> = sizes.iter().enumerate().map(|(n, size)| Axis {
            name: format!("a{n}"),
            values: (0..*size).map(|v| AxisValue { name: format!("v{v}"), differs: Map::new() }).collect(),
        }).collect();
        let mut rules = CaseRules { cover: Cover::Pairs, ..CaseRules::default() };
        if axes.len() > 1 {
            rules.exclude.push(format!("a0=v{},a1=v{}", left_out.0, left_out.1).parse().expect("a selection"));
        }
        let Ok(all) = choose(&axes, &CaseRules { cover: Cover::All, ..rules.clone() }) else { return Ok(()) };
        let chosen = choose(&axes, &rules).expect("no more than all");
        let pairs = |cases: &[Vec<usize>]| -> BTreeSet<Vec<(String, String)>> {
            cases.iter().flat_map(|places| {
                let values = named(&axes, places);
                let mut pairs: Vec<Vec<(String, String)>> = values.iter().map(|one| vec![one.clone()]).collect();
                for (n, one) in values.iter().enumerate() {
                    pairs.extend(values[n + 1..].iter().map(|other| vec![one.clone(), other.clone()]));
                }
                pairs
            }).collect()
        };
        prop_assert_eq!(pairs(&chosen), pairs(&all));
        prop_assert!(chosen.len() <= all.len());
        prop_assert!(chosen.iter().all(|case| all.contains(case)), "nothing that is left out is run");
    }
}
