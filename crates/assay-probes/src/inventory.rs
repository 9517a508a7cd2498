//! The inventory of a machine: every probe once, put together.

use assay_model::host::inventory::{Inventory, System};

use crate::files::{attribute, bytes, text};
use crate::tools::Tools;
use crate::{Machine, block, bmc, cpu, net, pci, smbios};

/// More than any firmware's tables; the specification's 32-bit length would allow 4 GiB.
const MAX_TABLES: u64 = 4 << 20;

/// A file to keep: its name and what is in it.
pub type Artifact = (String, Vec<u8>);

/// Reads all that the machine tells. Nothing that is missing is an error: it is `null`, and where something should have
/// been there, a sentence in `problems` or a name in `tools_missing`.
///
/// Artifacts: `inventory.json` and, where there, `smbios.bin`, `dmidecode.txt`, `lshw.json`, `lspci.txt`.
pub async fn inventory(machine: &Machine) -> (Inventory, Vec<Artifact>) {
    let tools = Tools::new(machine);
    let mut artifacts: Vec<Artifact> =
        raw_tables(machine).map(|raw| ("smbios.bin".to_owned(), raw)).into_iter().collect();
    let tables = !artifacts.is_empty();
    // Side by side: each takes seconds, and none needs another.
    let (mut inventory, lshw, dmidecode, lspci) = tokio::join!(
        read(machine, &tools),
        tools.bytes("lshw", &["-json", "-quiet"]),
        async {
            // Without tables it would only say so.
            if tables { tools.bytes("dmidecode", &[]).await } else { None }
        },
        tools.bytes("lspci", &["-vvnn"]),
    );
    for (name, raw) in [("lshw.json", lshw), ("dmidecode.txt", dmidecode), ("lspci.txt", lspci)] {
        artifacts.extend(raw.map(|raw| (name.to_owned(), raw)));
    }
    tools.finish_into(&mut inventory);
    match serde_json::to_vec_pretty(&inventory) {
        Ok(json) => artifacts.push(("inventory.json".to_owned(), json)),
        Err(error) => inventory.problems.push(format!("inventory.json could not be written: {error}")),
    }
    (inventory, artifacts)
}

/// The same without the raw output of slow tools: for a second look.
pub async fn facts(machine: &Machine) -> Inventory {
    let tools = Tools::new(machine);
    let mut inventory = read(machine, &tools).await;
    tools.finish_into(&mut inventory);
    inventory
}

async fn read(machine: &Machine, tools: &Tools<'_>) -> Inventory {
    let mut problems = Vec::new();
    let tables = tables(machine);
    problems.extend(tables.as_ref().and_then(|tables| tables.problem.clone()));
    let announced = tables.as_ref().map(|tables| tables.bmc);
    let tables = tables.unwrap_or_default();

    let mut inventory = Inventory { kernel: cpu::kernel(machine), ..Inventory::default() };
    inventory.system = tables.system;
    inventory.board = tables.board;
    inventory.bios = tables.bios;
    fill_from_kernel(machine, &mut inventory);
    if inventory.system == System::default() {
        problems.push(
            "the machine does not say what it is: neither SMBIOS tables nor a device tree could be read"
                .to_owned(),
        );
    }
    inventory.cpus = cpu::cpus(machine, &mut problems);
    inventory.memory.total_mib = cpu::usable_memory_mib(machine, &mut problems);
    inventory.memory.dimms = tables.dimms;
    inventory.disks = block::disks(machine, &mut problems);
    let bus = pci::bus(machine, &mut problems);
    (inventory.pci, inventory.gpus, inventory.driverless) = (bus.devices, bus.gpus, bus.driverless);
    (inventory.nics, inventory.bmc) =
        tokio::join!(net::nics(machine, tools), bmc::bmc(machine, tools, announced, &mut problems));
    inventory.problems = problems;
    inventory
}

fn tables(machine: &Machine) -> Option<smbios::Smbios> {
    let entry_point =
        bytes(&machine.path("sys/firmware/dmi/tables/smbios_entry_point"), 4096).unwrap_or_default();
    Some(smbios::parse(&entry_point, &raw_tables(machine)?))
}

fn raw_tables(machine: &Machine) -> Option<Vec<u8>> {
    bytes(&machine.path("sys/firmware/dmi/tables/DMI"), MAX_TABLES)
}

/// What the tables did not tell, the kernel may: its own reading of them (which outlives a table that only root may
/// read), or a device tree.
fn fill_from_kernel(machine: &Machine, inventory: &mut Inventory) {
    let id = |name: &str| attribute(&machine.path("sys/class/dmi/id").join(name));
    let tree = |name: &str| {
        text(&machine.path("proc/device-tree").join(name))
            .and_then(|raw| crate::files::told(raw.trim_end_matches('\0')))
    };
    let fill = |field: &mut Option<String>, source: &dyn Fn() -> Option<String>| {
        if field.is_none() {
            *field = source();
        }
    };
    let system = &mut inventory.system;
    fill(&mut system.manufacturer, &|| id("sys_vendor"));
    fill(&mut system.product, &|| id("product_name").or_else(|| tree("model")));
    fill(&mut system.serial, &|| id("product_serial").or_else(|| tree("serial-number")));
    fill(&mut system.uuid, &|| id("product_uuid").map(|uuid| uuid.to_lowercase()));
    fill(&mut system.sku, &|| id("product_sku"));
    fill(&mut system.asset_tag, &|| id("chassis_asset_tag"));
    fill(&mut inventory.board.manufacturer, &|| id("board_vendor"));
    fill(&mut inventory.board.product, &|| id("board_name"));
    fill(&mut inventory.board.version, &|| id("board_version"));
    fill(&mut inventory.board.serial, &|| id("board_serial"));
    fill(&mut inventory.bios.vendor, &|| id("bios_vendor"));
    fill(&mut inventory.bios.version, &|| id("bios_version"));
    fill(&mut inventory.bios.date, &|| id("bios_date"));
}
