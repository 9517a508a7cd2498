//! The parts of a machine that have an identity of their own: what is counted on when a machine is said to be the
//! same as before, or the same but for one disk.

use super::inventory::{Dimm, Inventory};
use super::order::{PartKind, Replacement};
use super::smart::same_identity;
use super::spec::HostSpec;

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartId {
    /// What kind of part.
    pub kind: PartKind,
    /// Its serial number, WWN or hardware address: any of them names it. Never empty.
    pub ids: Vec<String>,
    /// Where it sits, for people.
    pub place: Option<String>,
}

impl PartId {
    /// Whether it goes by this name.
    pub fn is(&self, id: &str) -> bool {
        self.ids.iter().any(|own| same_identity(own, id))
    }

    /// The name that people use.
    pub fn name(&self) -> &str {
        self.ids.first().map_or("", String::as_str)
    }
}

/// Every part that tells who it is, except removable media.
pub fn parts(inventory: &Inventory) -> Vec<PartId> {
    let part = |kind, ids: Vec<Option<&String>>, place: Option<&String>| {
        let told = |id: &&String| !id.trim().is_empty();
        let ids: Vec<String> = ids.into_iter().flatten().filter(told).cloned().collect();
        (!ids.is_empty()).then(|| PartId { kind, ids, place: place.cloned() })
    };
    let disks = inventory.disks.iter().filter(|disk| disk.removable != Some(true));
    let disks = disks.map(|d| part(PartKind::Disk, vec![d.serial.as_ref(), d.wwn.as_ref()], Some(&d.name)));
    let populated = inventory.memory.dimms.iter().filter(|dimm| dimm.size_mib != Some(0));
    let dimms = populated.filter(|dimm| is_told(dimm));
    let dimms = dimms.map(|d| part(PartKind::Dimm, vec![d.serial.as_ref()], d.locator.as_ref()));
    let nics = inventory.nics.iter().map(|n| part(PartKind::Nic, vec![n.mac.as_ref()], Some(&n.name)));
    let board = part(PartKind::Board, vec![inventory.board.serial.as_ref()], None);
    disks.chain(dimms).chain(nics).chain([board]).flatten().collect()
}

/// Firmware fills the field of a module that tells no serial number with anything.
fn is_told(dimm: &Dimm) -> bool {
    let serial = dimm.serial.as_deref().unwrap_or_default().trim();
    let filler = ["unknown", "not specified", "no dimm", "none", "n/a"];
    !serial.chars().all(|c| matches!(c, '0' | 'F' | 'f')) && !filler.contains(&serial.to_lowercase().as_str())
}

/// The parts of the first list that are not in the second.
pub fn missing<'a>(from: &'a [PartId], of: &[PartId]) -> Vec<&'a PartId> {
    let there = |part: &PartId| of.iter().any(|o| o.kind == part.kind && part.ids.iter().any(|id| o.is(id)));
    from.iter().filter(|part| !there(part)).collect()
}

/// Reads a spec as if it named the new parts already: a spec that was written before a repair must not fail on the
/// repair. Returns the replacements of parts that it named by their old names.
pub fn read_as_replaced<'a>(spec: &mut HostSpec, replaced: &'a [Replacement]) -> Vec<&'a Replacement> {
    replaced.iter().filter(|part| substitute(spec, part)).collect()
}

fn substitute(spec: &mut HostSpec, part: &Replacement) -> bool {
    let is_old = |id: &Option<String>| id.as_deref().is_some_and(|id| same_identity(id, &part.old));
    let new = || Some(part.new.trim().to_owned());
    match part.kind {
        PartKind::Disk => {
            let Some(disk) = spec.disks.iter_mut().find(|d| is_old(&d.serial) || is_old(&d.wwn)) else {
                return false;
            };
            // What was not named is the old disk's too, and the new one has its own.
            (disk.serial, disk.wwn) = if is_old(&disk.serial) { (new(), None) } else { (None, new()) };
            true
        }
        PartKind::Dimm => {
            let dimm = spec.memory.dimms.iter_mut().find(|d| is_old(&d.serial));
            dimm.map(|dimm| dimm.serial = new()).is_some()
        }
        PartKind::Nic => {
            let nic = spec.nics.iter_mut().find(|n| is_old(&n.mac));
            nic.map(|nic| nic.mac = new().map(|mac| mac.to_lowercase())).is_some()
        }
        PartKind::Board if is_old(&spec.system.serial) => {
            spec.system.serial = new();
            spec.system.uuid = None;
            true
        }
        PartKind::Board | PartKind::Psu => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_that_names_the_old_part_is_read_as_naming_the_new_one() {
        let yaml = "format: 1\nsystem: {serial: B1, uuid: 4c4c4544-0042-3510-8052-b4c04f4d4d33}\n\
            memory: {dimms: [{locator: A1, serial: M1}]}\n\
            disks: [{serial: S1, wwn: '0x5000c500a1b2c3d4', model: X}, {serial: S2}]\n\
            nics: [{mac: '02:00:00:00:00:01'}]\n";
        let mut spec = HostSpec::from_yaml(yaml).expect("a spec");
        let swap = |kind, old: &str, new: &str| Replacement { kind, old: old.into(), new: new.into() };
        let replaced = [
            swap(PartKind::Disk, "naa.5000C500A1B2C3D4", "0x5000c500ffffffff"),
            swap(PartKind::Disk, "s2", "S9"),
            swap(PartKind::Dimm, "M1", "M9"),
            swap(PartKind::Nic, "02:00:00:00:00:01", "02:00:00:00:00:0A"),
            swap(PartKind::Board, "B1", "B9"),
            swap(PartKind::Dimm, "M7", "M8"),
            swap(PartKind::Psu, "P1", "P2"),
        ];
        let named = read_as_replaced(&mut spec, &replaced);
        assert_eq!(named, replaced[..5].iter().collect::<Vec<_>>());
        let disks: Vec<_> = spec.disks.iter().map(|d| (d.serial.as_deref(), d.wwn.as_deref())).collect();
        assert_eq!(disks, [(None, Some("0x5000c500ffffffff")), (Some("S9"), None)]);
        assert_eq!(spec.disks[0].model.as_deref(), Some("X"), "the kind of disk is still expected");
        assert_eq!(spec.memory.dimms[0].serial.as_deref(), Some("M9"));
        assert_eq!(spec.nics[0].mac.as_deref(), Some("02:00:00:00:00:0a"));
        assert_eq!((spec.system.serial.as_deref(), spec.system.uuid), (Some("B9"), None));
    }
    use crate::host::inventory::{Disk, Memory, Nic};

    #[test]
    fn parts_are_known_by_any_of_their_names() {
        let disk = |serial: Option<&str>, wwn: Option<&str>| Disk {
            name: "sda".into(),
            serial: serial.map(Into::into),
            wwn: wwn.map(Into::into),
            ..Disk::default()
        };
        let dimm = |serial: &str, size| Dimm {
            serial: Some(serial.into()),
            size_mib: Some(size),
            ..Dimm::default()
        };
        let machine = |disks, dimms| Inventory {
            disks,
            memory: Memory { total_mib: None, dimms },
            nics: vec![Nic { name: "eno1".into(), mac: Some("02:00:00:00:00:01".into()), ..Nic::default() }],
            ..Inventory::default()
        };
        let one = parts(&machine(
            vec![disk(Some("S1"), Some("naa.5000C500A1B2C3D4")), disk(None, None)],
            vec![dimm("A1", 8192), dimm("00000000", 8192), dimm("Not Specified", 8192), dimm("B1", 0)],
        ));
        let names: Vec<_> = one.iter().map(|p| (p.kind.as_str(), p.name())).collect();
        assert_eq!(names, [("disk", "S1"), ("dimm", "A1"), ("nic", "02:00:00:00:00:01")]);
        let other = parts(&machine(vec![disk(None, Some("0x5000c500a1b2c3d4"))], vec![dimm("A2", 8192)]));
        assert_eq!(missing(&one, &other).iter().map(|p| p.name()).collect::<Vec<_>>(), ["A1"]);
        assert_eq!(missing(&other, &one).iter().map(|p| p.name()).collect::<Vec<_>>(), ["A2"]);
    }

    #[test]
    fn a_stick_is_no_part_of_the_machine() {
        let stick = Disk { serial: Some("U1".into()), removable: Some(true), ..Disk::default() };
        assert_eq!(parts(&Inventory { disks: vec![stick], ..Inventory::default() }), []);
    }
}
