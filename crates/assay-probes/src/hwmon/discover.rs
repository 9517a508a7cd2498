//! Finds sensors in sysfs and gives them names that survive a reboot.
//!
//! Files sit in `hwmonN/` or, for the ACPI power meter and some old drivers, in `hwmonN/device/`, where `hwmonN`
//! then may have no file `name`.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use assay_model::sensor::SensorInfo;
use assay_model::text::{clean, clean_to};

use super::{Source, number};
use crate::Machine;

/// More sensors than any machine has; what is beyond is left out.
const MAX_SENSORS: usize = 1024;

/// One family of hwmon files.
struct Family {
    prefix: &'static str,
    value: &'static [&'static str],
    kind: &'static str,
    unit: &'static str,
    divisor: f64,
    plausible: (f64, f64),
}

const FAMILIES: [Family; 4] = [
    // -128 °C and 255 °C are what chips show for a diode that is not there.
    Family {
        prefix: "temp",
        value: &["input"],
        kind: "thermal",
        unit: "°C",
        divisor: 1e3,
        plausible: (-100.0, 250.0),
    },
    Family {
        prefix: "fan",
        value: &["input"],
        kind: "fan",
        unit: "RPM",
        divisor: 1.0,
        plausible: (0.0, 1e6),
    },
    Family { prefix: "in", value: &["input"], kind: "psu", unit: "V", divisor: 1e3, plausible: (-1e3, 1e3) },
    Family {
        prefix: "power",
        value: &["average", "input"],
        kind: "psu",
        unit: "W",
        divisor: 1e6,
        plausible: (0.0, 1e6),
    },
];

/// All sensors of a machine, in the order of their names.
pub(super) fn discover(machine: &Machine) -> Vec<(SensorInfo, Source)> {
    let mut found = BTreeMap::new();
    let mut covered = HashSet::new();
    for chip in children(&machine.path("sys/class/hwmon"), "hwmon") {
        chip_sensors(&chip, &mut found);
        covered.extend(covered_zone(&chip));
    }
    for zone in children(&machine.path("sys/class/thermal"), "thermal_zone") {
        if !covered.contains(&resolved(&zone)) {
            zone_sensor(&zone, &mut found);
        }
    }
    found.into_values().take(MAX_SENSORS).collect()
}

type Found = BTreeMap<String, (SensorInfo, Source)>;

fn chip_sensors(chip: &Path, found: &mut Found) {
    let device_folder = chip.join("device");
    let name = text(&chip.join("name"))
        .or_else(|| text(&device_folder.join("name")))
        .or_else(|| text(&device_folder.join("hid")))
        .unwrap_or_else(|| driver_of(&device_folder).unwrap_or_else(|| "unnamed".to_owned()));
    let device = device_of(chip, &device_folder);
    for folder in [chip, &device_folder] {
        for family in &FAMILIES {
            for channel in channels(folder, family) {
                channel_sensor(folder, &channel, family, (&name, &device), found);
            }
        }
    }
}

fn channel_sensor(folder: &Path, channel: &Channel, family: &Family, chip: (&str, &str), found: &mut Found) {
    let part = |suffix: &str| folder.join(format!("{}{}_{suffix}", family.prefix, channel.number));
    let label = text(&part("label")).unwrap_or_else(|| format!("{}{}", family.prefix, channel.number));
    let limit = |suffix: &str| {
        let value = number(&part(suffix))? / family.divisor;
        // Chips without limits show 0 or the highest number that they can.
        (value > 0.0 && value < family.plausible.1).then_some(value)
    };
    let info = SensorInfo {
        name: unique_name(chip.0, &label, chip.1, family, channel.number, found),
        kind: family.kind.to_owned(),
        unit: family.unit.to_owned(),
        max: limit("max"),
        critical: limit("crit"),
    };
    let source = Source {
        file: channel.file.clone(),
        divisor: family.divisor,
        plausible: family.plausible,
        fault: Some(part("fault")).filter(|file| file.exists()),
    };
    // The same file can be visible in both folders: then its name is taken already, by itself.
    if !found.values().any(|(_, known)| resolved(&known.file) == resolved(&source.file)) {
        found.insert(info.name.clone(), (info, source));
    }
}

/// Two channels of one chip can carry the same label; the second then also carries its channel.
fn unique_name(
    chip: &str,
    label: &str,
    device: &str,
    family: &Family,
    channel: u32,
    found: &Found,
) -> String {
    let name = format!("{chip}/{label}@{device}");
    if !found.contains_key(&name) {
        return name;
    }
    format!("{chip}/{label} ({}{channel})@{device}", family.prefix)
}

fn zone_sensor(zone: &Path, found: &mut Found) {
    let file = zone.join("temp");
    if !file.exists() {
        return;
    }
    let kind = text(&zone.join("type")).unwrap_or_else(|| "unnamed".to_owned());
    let device = device_of(zone, &zone.join("device"));
    let celsius = |value: f64| value / 1e3;
    let trip = |wanted: &str| {
        (0..16).find_map(|index| {
            let told = text(&zone.join(format!("trip_point_{index}_type")))?;
            let value = number(&zone.join(format!("trip_point_{index}_temp"))).map(celsius)?;
            (told == wanted && value > 0.0 && value < 250.0).then_some(value)
        })
    };
    let mut name = format!("{kind}/zone@{device}");
    if found.contains_key(&name) {
        let number = zone.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name = format!("{kind}/{number}@{device}");
    }
    let info = SensorInfo {
        name: name.clone(),
        kind: "thermal".to_owned(),
        unit: "°C".to_owned(),
        max: trip("hot"),
        critical: trip("critical"),
    };
    found.insert(name, (info, Source { file, divisor: 1e3, plausible: (-100.0, 250.0), fault: None }));
}

struct Channel {
    number: u32,
    file: PathBuf,
}

/// `temp1_input`, `temp2_input` … of a folder; where a family has several kinds of value, the first there counts.
fn channels(folder: &Path, family: &Family) -> Vec<Channel> {
    let mut numbers: Vec<u32> =
        names(folder).iter().filter_map(|name| channel_number(name, family)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let file_of = |number: u32| {
        let candidates =
            family.value.iter().map(|value| folder.join(format!("{}{number}_{value}", family.prefix)));
        candidates.into_iter().find(|file| file.exists()).map(|file| Channel { number, file })
    };
    numbers.into_iter().filter_map(file_of).collect()
}

fn channel_number(name: &str, family: &Family) -> Option<u32> {
    let (number, value) = name.strip_prefix(family.prefix)?.split_once('_')?;
    if family.value.contains(&value) { number.parse().ok() } else { None }
}

/// A thermal zone that registered a hwmon chip of its own is read there and not twice.
fn covered_zone(chip: &Path) -> Option<PathBuf> {
    let device = resolved(&chip.join("device"));
    let is_zone = device.file_name().is_some_and(|name| name.to_string_lossy().starts_with("thermal_zone"));
    is_zone.then_some(device)
}

/// A stable name of the device behind a chip: its bus address (`0000:00:18.3`, `LNXTHERM:00`, `coretemp.0`).
fn device_of(chip: &Path, device: &Path) -> String {
    let target = resolved(device);
    let own = target.file_name().map(|name| name.to_string_lossy().into_owned());
    // A chip that hangs below a thermal zone or an NVMe controller has a number there too; the device
    // above it is what stays.
    let numbered =
        |name: &str| ["thermal_zone", "nvme", "hwmon"].iter().any(|prefix| is_numbered(name, prefix));
    match own.filter(|_| device.exists()) {
        Some(name) if numbered(&name) => {
            let above = resolved(&device.join("device"));
            let above = if device.join("device").exists() { above.file_name() } else { None };
            let kind = || text(&device.join("type")).map(|kind| format!("virtual:{kind}"));
            above.map(|name| clean_to(&name.to_string_lossy(), 96)).or_else(kind).unwrap_or(name)
        }
        Some(name) => clean_to(&name, 96),
        None => {
            let kind = text(&chip.join("type")).or_else(|| text(&chip.join("name")));
            kind.map_or_else(|| "virtual".to_owned(), |kind| format!("virtual:{kind}"))
        }
    }
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

fn driver_of(device: &Path) -> Option<String> {
    let driver = fs::read_link(device.join("driver")).ok()?;
    Some(clean(&driver.file_name()?.to_string_lossy()))
}

fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut numbers: Vec<u32> =
        names(folder).iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.into_iter().map(|number| folder.join(format!("{prefix}{number}"))).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|raw| clean_to(&raw, 96)).filter(|text| !text.is_empty())
}
