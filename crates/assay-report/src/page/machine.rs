//! The machine's identity and its parts, for the page: what is on the label of the thing on the bench.

use assay_model::host::inventory::{Inventory, Transport};
use assay_model::recipe::{Ladder, Rung};
use assay_model::{Pipeline, RunView};
use serde_json::Value;

use super::{Fact, Text};
use crate::words::size;

/// A table of parts.
pub(super) struct Parts {
    pub(super) title: &'static str,
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Text>>,
}

/// Who this machine is.
pub(super) fn facts(view: &RunView, inventory: Option<&Inventory>) -> Vec<Fact> {
    if view.created.pipeline == Pipeline::Recipe {
        return recipe_facts(view);
    }
    if !view.created.has_machine() {
        return image_facts(view);
    }
    let mut facts = installed_facts(view);
    facts.extend(vec![Fact::new("Host", &view.created.target.name)]);
    if let Some(i) = inventory {
        facts.extend(
            [
                Fact::maybe("System", join([&i.system.manufacturer, &i.system.product])),
                Fact::maybe("Serial number", i.system.serial.clone()),
                Fact::maybe("UUID", i.system.uuid.clone()),
                Fact::maybe("Asset tag", i.system.asset_tag.clone()),
                Fact::maybe("Board", join([&i.board.manufacturer, &i.board.product])),
                Fact::maybe("Board serial", i.board.serial.clone()),
                Fact::maybe("Firmware", join([&i.bios.vendor, &i.bios.version])),
                Fact::maybe("Processors", processors(i)),
                Fact::maybe("Memory", i.memory.installed_mib().or(i.memory.total_mib).map(gib)),
                Fact::maybe("BMC", i.bmc.firmware.clone()),
            ]
            .into_iter()
            .flatten(),
        );
    }
    let macs: Vec<_> = view.created.macs.iter().map(ToString::to_string).collect();
    if !macs.is_empty() {
        facts.push(Fact::new(if macs.len() == 1 { "MAC" } else { "MACs" }, &macs.join(", ")));
    }
    facts
}

/// Which recipe this is, and how its tests customise it.
fn recipe_facts(view: &RunView) -> Vec<Fact> {
    let spec = &view.created.spec;
    let text = |pointer: &str| spec.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let mut facts: Vec<Fact> = [
        Fact::maybe("Recipe", Some(view.created.target.name.clone())),
        Fact::maybe("Commit asked for", text("/commit")),
        Fact::maybe("Folder", text("/folder")),
        Fact::maybe("Tests", text("/tests")),
        Fact::maybe("Seed", spec.pointer("/seed").map(ToString::to_string)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let ladder = Ladder::of(view);
    facts.extend(
        ladder
            .rungs
            .iter()
            .map(|rung| Fact::new(rung_label(rung.rung), &format!("{}: {}", rung.status, rung.message))),
    );
    let settings = spec.pointer("/manifest/settings").and_then(Value::as_object);
    let settings: Vec<String> =
        settings.into_iter().flatten().map(|(name, value)| format!("{name} = {value}")).collect();
    facts.extend(Fact::maybe("Settings", Some(settings.join(", "))));
    let files = |pointer: &str| {
        let all = spec.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
        let names = all.flat_map(|(_, found)| match found {
            Value::Array(files) => files.clone(),
            file => vec![file.clone()],
        });
        let names: Vec<String> =
            names.filter_map(|file| Some(file.get("name")?.as_str()?.to_owned())).collect();
        names.join(", ")
    };
    facts.extend(Fact::maybe("Hooks", Some(files("/manifest/hooks"))));
    facts.extend(Fact::maybe("Own tests", Some(files("/manifest/tests"))));
    facts
}

const fn rung_label(rung: Rung) -> &'static str {
    match rung {
        Rung::Install => "1 Install",
        Rung::Upgrade => "2 Upgrade",
        Rung::Backup => "3 Backup",
        Rung::Functional => "4 Functional",
        Rung::Lint => "5 Lint",
    }
}

/// Which image was installed on a machine.
fn installed_facts(view: &RunView) -> Vec<Fact> {
    if view.created.pipeline != Pipeline::Image {
        return Vec::new();
    }
    let told = |pointer: &str| view.created.spec.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    [Fact::maybe("Image", told("/profile/name")), Fact::maybe("File", told("/image"))]
        .into_iter()
        .flatten()
        .collect()
}

/// Which image this is, and on what it was tested.
fn image_facts(view: &RunView) -> Vec<Fact> {
    let told = |pointer: &str| {
        view.created.spec.pointer(pointer).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    let disks = view.created.spec.pointer("/profile/machine/disk").and_then(Value::as_array).map(|disks| {
        let one = |disk: &Value| {
            let text = |key: &str| disk.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let bus = disk.get("bus").and_then(Value::as_str).unwrap_or("virtio");
            format!("{} ({bus}, {})", text("name"), text("size"))
        };
        disks.iter().map(one).collect::<Vec<_>>().join(", ")
    });
    let firmware = told("/profile/machine/firmware").unwrap_or_else(|| "bios".to_owned());
    let facts = [
        Fact::maybe("Image", Some(view.created.target.name.clone())),
        Fact::maybe("About", told("/profile/description")),
        Fact::maybe("File", told("/image")),
        Fact::maybe("Firmware", Some(firmware)),
        Fact::maybe("Medium", Some(told("/profile/medium/as").unwrap_or_else(|| "cd".to_owned()))),
        Fact::maybe("Disks", disks),
        Fact::maybe("Seed", told("/seed")),
    ];
    facts.into_iter().flatten().collect()
}

/// Its replaceable parts.
pub(super) fn parts(inventory: Option<&Inventory>) -> Vec<Parts> {
    let Some(i) = inventory else { return Vec::new() };
    let told = |t: &Option<String>| Text::new(t.as_deref().unwrap_or("not told"));
    let disks = i.disks.iter().map(|d| {
        vec![
            Text::new(&d.name),
            told(&d.serial),
            told(&d.model),
            told(&d.firmware),
            Text::new(&d.size_bytes.map_or_else(|| "not told".to_owned(), size)),
            Text::new(transport(d.transport)),
        ]
    });
    let dimms = i.memory.dimms.iter().map(|d| {
        vec![
            told(&d.locator),
            told(&d.serial),
            told(&d.part),
            Text::new(&d.size_mib.map_or_else(|| "empty".to_owned(), gib)),
            Text::new(&d.speed_mts.map_or_else(|| "not told".to_owned(), |s| format!("{s} MT/s"))),
        ]
    });
    let nics = i.nics.iter().map(|n| {
        vec![
            Text::new(&n.name),
            told(&n.mac),
            told(&n.driver),
            Text::new(&n.speed_mbps.map_or_else(|| "no link".to_owned(), |s| format!("{s} Mb/s"))),
        ]
    });
    [
        Parts {
            title: "Memory",
            columns: vec!["Slot", "Serial", "Part", "Size", "Speed"],
            rows: dimms.collect(),
        },
        Parts {
            title: "Disks",
            columns: vec!["Name", "Serial", "Model", "Firmware", "Size", "Bus"],
            rows: disks.collect(),
        },
        Parts {
            title: "Network ports",
            columns: vec!["Name", "MAC", "Driver", "Speed"],
            rows: nics.collect(),
        },
    ]
    .into_iter()
    .filter(|p| !p.rows.is_empty())
    .collect()
}

fn processors(i: &Inventory) -> Option<String> {
    let first = i.cpus.first()?;
    let model = first.model.as_deref().unwrap_or("model not told");
    Some(if i.cpus.len() > 1 { format!("{} × {model}", i.cpus.len()) } else { model.to_owned() })
}

fn join(parts: [&Option<String>; 2]) -> Option<String> {
    let there: Vec<_> = parts.into_iter().flatten().map(String::as_str).collect();
    (!there.is_empty()).then(|| there.join(" "))
}

fn gib(mib: u64) -> String {
    if mib.is_multiple_of(1024) { format!("{} GiB", mib / 1024) } else { format!("{mib} MiB") }
}

const fn transport(t: Transport) -> &'static str {
    match t {
        Transport::Nvme => "NVMe",
        Transport::Sata => "SATA",
        Transport::Sas => "SAS",
        Transport::Fc => "FC",
        Transport::Iscsi => "iSCSI",
        Transport::Usb => "USB",
        Transport::Virtio => "virtio",
        Transport::Mmc => "MMC",
        Transport::Scsi => "SCSI",
        Transport::Other => "other",
    }
}
