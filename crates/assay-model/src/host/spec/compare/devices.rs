//! Network ports, matched by their hardware address, and PCI devices, which are counted.

use super::{Blame, Comparer, part, path};
use crate::host::inventory::{Inventory, Nic};
use crate::host::spec::NicSpec;

pub(super) fn nics(comparer: &mut Comparer<'_>, nics: &[Nic]) {
    let spec = comparer.spec;
    let mut free: Vec<&Nic> = nics.iter().collect();
    let mut pairs = vec![None; spec.nics.len()];
    let by_mac =
        |want: &NicSpec, nic: &Nic| matches!((&want.mac, &nic.mac), (Some(a), Some(b)) if same_mac(a, b));
    let by_driver = |want: &NicSpec, nic: &Nic| want.mac.is_none() && want.driver == nic.driver;
    for fits in [&by_mac as &dyn Fn(&NicSpec, &Nic) -> bool, &by_driver] {
        for (want, pair) in spec.nics.iter().zip(&mut pairs).filter(|(_, pair)| pair.is_none()) {
            *pair = free.iter().position(|nic| fits(want, nic)).map(|index| free.remove(index));
        }
    }
    for (want, have) in spec.nics.iter().zip(pairs) {
        let key = want.mac.as_deref().or(want.driver.as_deref()).unwrap_or("any");
        let path = path("nics", key);
        let expected = want.mac.clone().unwrap_or_else(|| format!("a port with driver {key}"));
        if let Some(have) = have {
            comparer.agree(&path, expected, have.name.clone());
            nic(comparer, &path, want, have);
        } else {
            let blame = Blame {
                code: "NicMissing",
                part: Some(part("nic", None, want.mac.as_deref())),
                next_step: "Check that the card is seated and switched on in the firmware setup, and that the live image has its driver.".into(),
            };
            comparer.differ(
                &path,
                &expected,
                "no such port",
                Some(format!("network port {expected} is missing")),
                blame,
            );
        }
    }
    if spec.nics.is_empty() {
        return;
    }
    if free.is_empty() {
        comparer.agree("nics.unexpected", "no other port", "none");
    }
    for nic in free {
        let seen = format!("{} ({})", nic.mac.as_deref().unwrap_or("no address"), nic.name);
        let blame = Blame {
            code: "NicUnexpected",
            part: Some(part("nic", Some(&nic.name), nic.mac.as_deref())),
            next_step: "Add the port to the spec if it is meant to stay.".into(),
        };
        let message = format!("network port {seen} is there and the spec does not list it");
        comparer.differ(
            &path("nics.unexpected", nic.mac.as_deref().unwrap_or(&nic.name)),
            "no other port",
            &seen,
            Some(message),
            blame,
        );
    }
}

fn nic(comparer: &mut Comparer<'_>, path: &str, want: &NicSpec, have: &Nic) {
    let blame = Blame {
        code: "NicMismatch",
        part: Some(part("nic", Some(&have.name), have.mac.as_deref())),
        next_step: "Check the cable, the transceiver and the switch port, then retry this stage.".into(),
    };
    let driver = Blame {
        next_step: "Check that the right card is fitted and that the live image has its driver.".into(),
        ..blame.clone()
    };
    comparer.text(&format!("{path}.driver"), want.driver.as_ref(), have.driver.as_ref(), driver);
    let path = format!("{path}.min_speed_mbps");
    match want.min_speed_mbps {
        // A port that is up without a link is known to be too slow; one that is down tells nothing.
        Some(least) if have.carrier == Some(false) => {
            comparer.differ(&path, &least.to_string(), "no link", None, blame);
        }
        least => comparer.field(&path, least, have.speed_mbps, |least, have| have >= least, blame),
    }
}

pub(super) fn pci(comparer: &mut Comparer<'_>, inventory: &Inventory) {
    let spec = comparer.spec;
    let pci = spec.pci.iter().map(|pci| ("pci", "PciMissing", "PCI device", &pci.id, pci.count));
    let gpus = spec.gpus.iter().map(|gpu| ("gpus", "GpuMissing", "accelerator", &gpu.id, gpu.count));
    for (section, code, what, id, want) in pci.chain(gpus) {
        let have =
            inventory.pci.iter().filter(|device| device.vendor_device.eq_ignore_ascii_case(id)).count();
        let (path, expected, seen) = (path(section, id), format!("at least {want}"), have.to_string());
        if have as u64 >= u64::from(want) {
            comparer.agree(&path, expected, seen);
            continue;
        }
        let message = format!("{what} {id}: {expected} expected, {have} seen");
        let next_step = "Check that every card is seated and powered and that its slot is switched on in the firmware setup.".into();
        comparer.differ(
            &path,
            &expected,
            &seen,
            Some(message),
            Blame { code, part: Some(part("pci", Some(id), None)), next_step },
        );
    }
}

fn same_mac(a: &str, b: &str) -> bool {
    let digits = |mac: &str| mac.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_lowercase();
    digits(a) == digits(b)
}
