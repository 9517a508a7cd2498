//! Disks, matched by serial number and world-wide name, never by kernel name. First each entry of the spec finds its
//! disk, then the fields of the pair are compared; what remains on either side is missing or unexpected.

use super::{Blame, Comparer, part, path, same_text};
use crate::host::inventory::Disk;
use crate::host::spec::{DiskClass, DiskSpec};

pub(super) fn disks(comparer: &mut Comparer<'_>, disks: &[Disk]) {
    let spec = comparer.spec;
    let (pairs, mut extra) = match_disks(&spec.disks, disks);
    // Sticks, cards and a management controller's virtual media come and go.
    extra.retain(|disk| disk.removable != Some(true));
    let mut unpaired = extra.clone();
    for (want, have) in spec.disks.iter().zip(&pairs) {
        let path = path("disks", &disk_key(&spec.disks, want));
        let expected = describe_disk_spec(want);
        if let Some(have) = have {
            comparer.agree(&path, expected, describe_disk(have));
            disk(comparer, &path, want, have);
            continue;
        }
        let bay = want.bay.as_deref().map_or(String::new(), |bay| format!(" in bay {bay}"));
        let (message, next_step) = match take_likely_replacement(want, &mut unpaired) {
            Some(new) => (
                format!(
                    "disk {expected} is gone; disk {} is there instead, which the spec does not list",
                    describe_disk(new)
                ),
                format!(
                    "If the disk was swapped on purpose, replace {} by {} in the spec; otherwise put the old disk back{bay}.",
                    id_of(want.serial.as_deref(), want.wwn.as_deref()),
                    id_of(new.serial.as_deref(), new.wwn.as_deref()),
                ),
            ),
            None if want.serial.is_none() && want.wwn.is_none() => (
                format!("no disk is left that is {expected}"),
                format!(
                    "Fit a disk that is {expected}, or check the cabling of one that is there and not seen."
                ),
            ),
            None => (
                format!("disk {expected} is gone"),
                format!(
                    "Check the disk{bay}, its cabling and its controller's view of it, then retry this stage."
                ),
            ),
        };
        let blame = Blame {
            code: "DiskMissing",
            part: Some(part("disk", want.bay.as_deref(), want.serial.as_deref().or(want.wwn.as_deref()))),
            next_step,
        };
        comparer.differ(&path, &expected, "no such disk", Some(message), blame);
    }
    if spec.disks.is_empty() {
        return;
    }
    if extra.is_empty() {
        comparer.agree("disks.unexpected", "no other disk", "none");
    }
    for disk in extra {
        let seen = describe_disk(disk);
        let key = disk.serial.as_deref().or(disk.wwn.as_deref()).unwrap_or(&disk.name);
        let blame = Blame {
            code: "DiskUnexpected",
            part: Some(part("disk", Some(&disk.name), disk.serial.as_deref().or(disk.wwn.as_deref()))),
            next_step: "Add the disk to the spec if it is meant to stay, otherwise take it out; it is not tested and never written to until then.".into(),
        };
        let message = format!("disk {seen} is there and the spec does not list it");
        comparer.differ(&path("disks.unexpected", key), "no other disk", &seen, Some(message), blame);
    }
}

/// Whether a disk is the one that an entry means.
type Fits<'f> = &'f dyn Fn(&DiskSpec, &Disk) -> bool;

/// For each entry of the spec its disk, and the disks that no entry stands for. Entries with an identity choose first,
/// the closest fit first: namespaces of one NVMe disk share its serial number and differ in their WWN.
fn match_disks<'d>(specs: &[DiskSpec], disks: &'d [Disk]) -> (Vec<Option<&'d Disk>>, Vec<&'d Disk>) {
    let serial = |want: &DiskSpec, disk: &Disk| matches!((&want.serial, &disk.serial), (Some(a), Some(b)) if same_text(a, b));
    let wwn =
        |want: &DiskSpec, disk: &Disk| matches!((&want.wwn, &disk.wwn), (Some(a), Some(b)) if same_wwn(a, b));
    let tiers: [Fits<'_>; 4] = [
        &|want, disk| serial(want, disk) && wwn(want, disk),
        &|want, disk| wwn(want, disk),
        &|want, disk| serial(want, disk),
        &|want, disk| want.serial.is_none() && want.wwn.is_none() && fits_description(want, disk),
    ];
    let mut free: Vec<&Disk> = disks.iter().collect();
    // Where any disk that fits will do, the smallest does: larger ones may be needed for stricter entries.
    free.sort_by_key(|disk| (disk.size_bytes, &disk.name));
    let mut pairs = vec![None; specs.len()];
    for fits in tiers {
        for (want, pair) in specs.iter().zip(&mut pairs).filter(|(_, pair)| pair.is_none()) {
            *pair = free.iter().position(|disk| fits(want, disk)).map(|index| free.remove(index));
        }
    }
    free.sort_by(|a, b| a.name.cmp(&b.name));
    (pairs, free)
}

fn fits_description(want: &DiskSpec, disk: &Disk) -> bool {
    want.model.as_ref().is_none_or(|want| disk.model.as_ref().is_some_and(|have| same_text(want, have)))
        && want.class.is_none_or(|want| DiskClass::of(disk) == Some(want))
        && want.size_bytes.is_none_or(|want| disk.size_bytes == Some(want))
        && want
            .min_size_gb
            .is_none_or(|want| disk.size_bytes.is_some_and(|have| have / 1_000_000_000 >= want))
}

/// The unlisted disk that probably came in place of a missing one. An entry without an identity has none: any disk that
/// fits it would have been found.
fn take_likely_replacement<'d>(want: &DiskSpec, unpaired: &mut Vec<&'d Disk>) -> Option<&'d Disk> {
    if want.serial.is_none() && want.wwn.is_none() {
        return None;
    }
    let same_model =
        |disk: &&Disk| matches!((&want.model, &disk.model), (Some(a), Some(b)) if same_text(a, b));
    let same_kind = |disk: &&Disk| fits_description(&DiskSpec { model: None, ..want.clone() }, disk);
    let index = unpaired
        .iter()
        .position(same_model)
        .or_else(|| unpaired.iter().position(same_kind))
        .or_else(|| (!unpaired.is_empty()).then_some(0))?;
    Some(unpaired.remove(index))
}

fn disk(comparer: &mut Comparer<'_>, path: &str, want: &DiskSpec, have: &Disk) {
    let blame = Blame {
        code: "DiskMismatch",
        part: Some(part(
            "disk",
            want.bay.as_deref().or(Some(&have.name)),
            have.serial.as_deref().or(have.wwn.as_deref()),
        )),
        next_step: "Compare the disk's label with the spec: replace the disk, or correct the spec.".into(),
    };
    let firmware = Blame {
        code: "FirmwareDiffers",
        next_step: "Flash the disk firmware that the spec names, or put the new revision into the spec once it is accepted.".into(),
        ..blame.clone()
    };
    // What the disk was found by is counted once, as its presence.
    let found_by_serial = matches!((&want.serial, &have.serial), (Some(a), Some(b)) if same_text(a, b));
    if !found_by_serial {
        comparer.text(&format!("{path}.serial"), want.serial.as_ref(), have.serial.as_ref(), blame.clone());
    }
    if want.serial.is_some() {
        let wwn = (want.wwn.as_deref(), have.wwn.as_deref());
        comparer.field(&format!("{path}.wwn"), wwn.0, wwn.1, |a, b| same_wwn(a, b), blame.clone());
    }
    comparer.text(&format!("{path}.model"), want.model.as_ref(), have.model.as_ref(), blame.clone());
    let gb = have.size_bytes.map(|bytes| bytes / 1_000_000_000);
    comparer.field(
        &format!("{path}.min_size_gb"),
        want.min_size_gb,
        gb,
        |least, have| have >= least,
        blame.clone(),
    );
    comparer.field(
        &format!("{path}.size_bytes"),
        want.size_bytes,
        have.size_bytes,
        |a, b| a == b,
        blame.clone(),
    );
    let class = (want.class.map(DiskClass::as_str), DiskClass::of(have).map(DiskClass::as_str));
    comparer.field(&format!("{path}.class"), class.0, class.1, |a, b| a == b, blame);
    comparer.text(&format!("{path}.firmware"), want.firmware.as_ref(), have.firmware.as_ref(), firmware);
}

fn disk_key(specs: &[DiskSpec], want: &DiskSpec) -> String {
    // Namespaces of one NVMe disk share its serial number.
    let shared = specs.iter().filter(|other| other.serial == want.serial).count() > 1;
    let serial = want.serial.clone().filter(|_| !shared || want.wwn.is_none());
    serial
        .or_else(|| want.wwn.clone())
        .or_else(|| want.model.clone())
        .unwrap_or_else(|| describe_disk_spec(want))
}

fn id_of(serial: Option<&str>, wwn: Option<&str>) -> String {
    match (serial, wwn) {
        (Some(serial), _) => format!("serial {serial}"),
        (None, Some(wwn)) => format!("WWN {wwn}"),
        (None, None) => "its entry".into(),
    }
}

fn describe_disk_spec(want: &DiskSpec) -> String {
    let mut facts = Vec::new();
    facts.extend(want.model.clone());
    facts.extend(want.class.map(|class| class.as_str().to_owned()).filter(|_| want.model.is_none()));
    facts.extend(want.size_bytes.map(size));
    facts.extend(want.min_size_gb.map(|gb| format!("at least {gb} GB")));
    facts.extend(want.bay.as_ref().map(|bay| format!("bay {bay}")));
    if want.serial.is_none() && want.wwn.is_none() {
        return facts.join(", ");
    }
    named(want.serial.as_deref(), want.wwn.as_deref(), &facts)
}

fn describe_disk(have: &Disk) -> String {
    let mut facts = Vec::new();
    facts.extend(have.model.clone());
    facts.extend(have.size_bytes.map(size));
    facts.push(have.name.clone());
    named(have.serial.as_deref(), have.wwn.as_deref(), &facts)
}

/// As disks are sold: in decimal units.
fn size(bytes: u64) -> String {
    match bytes / 1_000_000_000 {
        0 => format!("{} MB", bytes / 1_000_000),
        gb => format!("{gb} GB"),
    }
}

fn named(serial: Option<&str>, wwn: Option<&str>, facts: &[String]) -> String {
    let id = serial.map(|serial| format!("serial {serial}")).or_else(|| wwn.map(|wwn| format!("WWN {wwn}")));
    match id {
        Some(id) if facts.is_empty() => id,
        Some(id) => format!("{id} ({})", facts.join(", ")),
        None => format!("without a serial number ({})", facts.join(", ")),
    }
}

/// Equal but for the way they are written: `naa.5000…`, `0x5000…`, `wwn-0x5000…` and `5000…` are one name.
fn same_wwn(a: &str, b: &str) -> bool {
    fn plain(wwn: &str) -> String {
        let mut rest = wwn.trim().to_lowercase();
        for prefix in ["wwn-", "naa.", "eui.", "uuid.", "nvme.", "0x"] {
            if let Some(stripped) = rest.strip_prefix(prefix) {
                rest = stripped.to_owned();
            }
        }
        rest.split_whitespace().collect::<Vec<_>>().join(" ").replace('-', "")
    }
    plain(a) == plain(b)
}
