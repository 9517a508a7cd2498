//! Sensors on a captured tree that is laid out like the real one, and on this machine's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

type Files = &'static [(&'static str, &'static str)];

/// A server: CPU chip, NVMe, super I/O with fans and rails, ACPI power meter below `device/`, thermal zones.
fn server() -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let chips: [(&str, &str, Files); 5] = [
        (
            "devices/platform/coretemp.0",
            "hwmon0",
            &[
                ("name", "coretemp"),
                ("temp1_label", "Package id 0"),
                ("temp1_input", "45000"),
                ("temp1_max", "84000"),
                ("temp1_crit", "100000"),
                ("temp2_label", "Core 0"),
                ("temp2_input", "43000"),
                ("temp3_label", "Core 0"),
                ("temp3_input", "44000"),
            ],
        ),
        (
            "devices/pci0000:00/0000:01:00.0/nvme/nvme0",
            "hwmon1",
            &[
                ("name", "nvme"),
                ("temp1_label", "Composite"),
                ("temp1_input", "38850"),
                ("temp1_crit", "84850"),
            ],
        ),
        (
            "devices/platform/nct6775.656",
            "hwmon2",
            &[
                ("name", "nct6798"),
                ("fan1_input", "1180"),
                ("in1_input", "12096"),
                ("in1_max", "13200"),
                ("temp7_input", "-128000"),
                ("temp8_input", "40000"),
                ("temp8_fault", "1"),
                ("in1_label", "+12V"),
            ],
        ),
        ("devices/LNXSYSTM:00/ACPI000D:00", "hwmon3", &[]),
        ("devices/virtual/thermal/thermal_zone0", "hwmon4", &[("name", "acpitz"), ("temp1_input", "27800")]),
    ];
    for (device, number, files) in chips {
        let folder = root.path().join("sys").join(device).join("hwmon").join(number);
        put_all(&folder, files);
        symlink(root.path().join("sys").join(device), folder.join("device")).expect("a link");
        link(&root, &format!("class/hwmon/{number}"), &folder);
    }
    let meter = root.path().join("sys/devices/LNXSYSTM:00/ACPI000D:00");
    put_all(&meter, &[("hid", "ACPI000D"), ("power1_average", "180000000"), ("power1_max", "950000000")]);
    // The kernel's PCI device above the NVMe controller is what keeps its place.
    let controller = root.path().join("sys/devices/pci0000:00/0000:01:00.0");
    symlink(&controller, controller.join("nvme/nvme0/device")).expect("a link");
    for (number, kind, millis) in [(0, "acpitz", "27800"), (1, "x86_pkg_temp", "46000")] {
        let zone = root.path().join(format!("sys/devices/virtual/thermal/thermal_zone{number}"));
        let trip = [("trip_point_0_type", "critical"), ("trip_point_0_temp", "105000")];
        put_all(&zone, &[("type", kind), ("temp", millis)]);
        put_all(&zone, &trip);
        link(&root, &format!("class/thermal/thermal_zone{number}"), &zone);
    }
    root
}

fn put_all(folder: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(folder).expect("a folder");
    for (name, value) in files {
        fs::write(folder.join(name), format!("{value}\n")).expect("a file");
    }
}

fn link(root: &TempDir, from: &str, to: &Path) {
    let from = root.path().join("sys").join(from);
    fs::create_dir_all(from.parent().expect("has one")).expect("a folder");
    symlink(to, from).expect("a link");
}

fn machine(root: &TempDir) -> Machine {
    Machine::captured(root.path(), None)
}

fn value_of(hwmon: &Hwmon, values: &[Option<f64>], name: &str) -> Option<f64> {
    let index =
        hwmon.infos().iter().position(|info| info.name == name).unwrap_or_else(|| panic!("no sensor {name}"));
    values[index]
}

#[tokio::test]
async fn a_server_told_by_chip_label_and_device() {
    let root = server();
    let mut hwmon = Hwmon::discover(&machine(&root)).await;
    let values = hwmon.read().await;
    let table: Vec<String> = hwmon
        .infos()
        .iter()
        .zip(&values)
        .map(|(i, v)| format!("{} | {} | {v:?} {} | {:?} {:?}", i.name, i.kind, i.unit, i.max, i.critical))
        .collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    ACPI000D/power1@ACPI000D:00 | psu | Some(180.0) W | Some(950.0) None
    acpitz/temp1@virtual:acpitz | thermal | Some(27.8) °C | None None
    coretemp/Core 0 (temp3)@coretemp.0 | thermal | Some(44.0) °C | None None
    coretemp/Core 0@coretemp.0 | thermal | Some(43.0) °C | None None
    coretemp/Package id 0@coretemp.0 | thermal | Some(45.0) °C | Some(84.0) Some(100.0)
    nct6798/+12V@nct6775.656 | psu | Some(12.096) V | Some(13.2) None
    nct6798/fan1@nct6775.656 | fan | Some(1180.0) RPM | None None
    nct6798/temp7@nct6775.656 | thermal | None °C | None None
    nct6798/temp8@nct6775.656 | thermal | None °C | None None
    nvme/Composite@0000:01:00.0 | thermal | Some(38.85) °C | None Some(84.85)
    x86_pkg_temp/zone@virtual:x86_pkg_temp | thermal | Some(46.0) °C | None Some(105.0)
    "#);
}

#[tokio::test]
async fn a_sensor_that_dies_drops_out_and_the_others_go_on() {
    let root = server();
    let mut hwmon = Hwmon::discover(&machine(&root)).await;
    let package = "coretemp/Package id 0@coretemp.0";
    let values = hwmon.read().await;
    assert_eq!(value_of(&hwmon, &values, package), Some(45.0));
    let file = root.path().join("sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_input");
    fs::remove_file(&file).expect("it was there");
    let values = hwmon.read().await;
    assert_eq!(value_of(&hwmon, &values, package), None);
    assert_eq!(value_of(&hwmon, &values, "coretemp/Core 0@coretemp.0"), Some(43.0));
    fs::write(&file, "nonsense").expect("a file");
    let values = hwmon.read().await;
    assert_eq!(value_of(&hwmon, &values, package), None);
    fs::write(&file, "51000").expect("a file");
    let values = hwmon.read().await;
    assert_eq!(value_of(&hwmon, &values, package), Some(51.0), "it came back");
}

#[tokio::test]
async fn a_sensor_that_hangs_is_left_out_and_asked_again_only_after_it_returned() {
    let root = server();
    let mut hwmon = Hwmon::with_limit(&machine(&root), Duration::from_millis(50)).await;
    // Opening a pipe without a writer blocks, as reading a sick BMC's sensor does.
    let pipe = root.path().join("sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_input");
    fs::remove_file(&pipe).expect("it was there");
    let made = assay_process::Cmd::new("mkfifo").arg(&pipe).run_ok().await;
    made.expect("mkfifo");
    let package = "coretemp/Package id 0@coretemp.0";
    for round in 0..3 {
        let values = hwmon.read().await;
        assert_eq!(value_of(&hwmon, &values, package), None, "round {round}");
        assert_eq!(value_of(&hwmon, &values, "coretemp/Core 0@coretemp.0"), Some(43.0), "round {round}");
        assert_eq!(
            values.iter().flatten().count(),
            values.len() - 3,
            "round {round}: two more were never there"
        );
    }
    let returned = hwmon.sensors.iter().find_map(|sensor| sensor.hanging.clone()).expect("one hangs");
    fs::write(&pipe, "47000\n").expect("somebody reads");
    while !returned.load(Ordering::Acquire) {
        tokio::task::yield_now().await;
    }
    fs::remove_file(&pipe).expect("it was there");
    fs::write(&pipe, "48000\n").expect("a file");
    let values = hwmon.read().await;
    assert_eq!(value_of(&hwmon, &values, package), Some(48.0));
}

#[tokio::test]
async fn a_sensor_that_appears_is_added_and_one_that_moves_keeps_its_place() {
    let root = server();
    let mut hwmon = Hwmon::discover(&machine(&root)).await;
    let before = hwmon.infos();
    let old = root.path().join("sys/class/hwmon/hwmon0");
    fs::rename(&old, root.path().join("sys/class/hwmon/hwmon9")).expect("renumbered");
    let folder = root.path().join("sys/devices/platform/jc42.1");
    put_all(&folder.join("hwmon/hwmon0"), &[("name", "jc42"), ("temp1_input", "31000")]);
    symlink(&folder, folder.join("hwmon/hwmon0/device")).expect("a link");
    link(&root, "class/hwmon/hwmon0", &folder.join("hwmon/hwmon0"));
    assert_eq!(hwmon.rediscover().await, 1);
    assert_eq!(hwmon.infos()[..before.len()], before[..]);
    let values = hwmon.read().await;
    assert_eq!(value_of(&hwmon, &values, "jc42/temp1@jc42.1"), Some(31.0));
    assert_eq!(value_of(&hwmon, &values, "coretemp/Package id 0@coretemp.0"), Some(45.0));
    assert_eq!(hwmon.rediscover().await, 0);
}

#[tokio::test]
async fn a_machine_without_sensors_has_none() {
    let root = tempfile::tempdir().expect("a folder");
    let mut hwmon = Hwmon::discover(&machine(&root)).await;
    assert!(hwmon.infos().is_empty());
    assert!(hwmon.read().await.is_empty());
}

#[tokio::test]
async fn this_machine_gives_one_plausible_value_or_none_per_sensor() {
    let mut hwmon = Hwmon::discover(&Machine::this()).await;
    let (infos, values) = (hwmon.infos(), hwmon.read().await);
    assert_eq!(infos.len(), values.len());
    let names: HashSet<&str> = infos.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names.len(), infos.len(), "names are unique: {infos:?}");
    for (info, value) in infos.iter().zip(values) {
        if info.kind == "thermal" {
            assert!(value.is_none_or(|celsius| (-100.0..=250.0).contains(&celsius)), "{info:?}: {value:?}");
        }
    }
}
