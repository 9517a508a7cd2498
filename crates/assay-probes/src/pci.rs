//! PCI functions, the accelerators among them, and those that should have a driver and have none.

use assay_model::host::inventory::{Gpu, PciDevice};

use crate::Machine;
use crate::files::{attribute, entries, link_name, number, text};

/// Vendors of display controllers that compute; others (management controllers, virtual machines) only show a console.
const GPU_VENDORS: [&str; 3] = ["10de", "1002", "8086"];

/// What is on the bus.
#[derive(Debug, Default)]
pub(crate) struct Bus {
    pub(crate) devices: Vec<PciDevice>,
    pub(crate) gpus: Vec<Gpu>,
    pub(crate) driverless: Vec<PciDevice>,
}

pub(crate) fn bus(machine: &Machine, problems: &mut Vec<String>) -> Bus {
    let mut bus = Bus::default();
    for (address, folder) in entries(&machine.path("sys/bus/pci/devices")) {
        let pair =
            |vendor: &str, device: &str| Some(format!("{}:{}", hex(&folder, vendor)?, hex(&folder, device)?));
        let (Some(vendor_device), Some(class)) = (pair("vendor", "device"), hex(&folder, "class")) else {
            problems.push(format!("PCI device {address} does not tell its vendor, device and class"));
            continue;
        };
        let link = |name: &str| attribute(&folder.join(name)).filter(|speed| !speed.starts_with("Unknown"));
        // 0 and 255 are what a function without a link says.
        let width =
            |name: &str| number::<u32>(&folder.join(name)).filter(|&lanes| lanes != 0 && lanes != 255);
        let device = PciDevice {
            subsystem: pair("subsystem_vendor", "subsystem_device").filter(|pair| pair != "0000:0000"),
            driver: link_name(&folder.join("driver")),
            link_speed: link("current_link_speed"),
            link_width: width("current_link_width"),
            link_speed_max: link("max_link_speed"),
            link_width_max: width("max_link_width"),
            address,
            vendor_device,
            class,
        };
        if is_gpu(&device) {
            bus.gpus.push(Gpu {
                address: device.address.clone(),
                vendor_device: device.vendor_device.clone(),
                subsystem: device.subsystem.clone(),
                driver: device.driver.clone(),
            });
        }
        let virtual_function = folder.join("physfn").symlink_metadata().is_ok();
        if device.driver.is_none() && !virtual_function && needs_driver(&device) {
            bus.driverless.push(device.clone());
        }
        bus.devices.push(device);
    }
    bus
}

/// `0x8086` as `8086`, lower case.
fn hex(folder: &std::path::Path, name: &str) -> Option<String> {
    let raw = text(&folder.join(name))?;
    let digits = raw.trim().strip_prefix("0x")?.to_lowercase();
    (matches!(digits.len(), 4 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())).then_some(digits)
}

fn is_gpu(device: &PciDevice) -> bool {
    let compute_vendor = GPU_VENDORS.iter().any(|vendor| device.vendor_device.starts_with(vendor));
    // 3D controllers and processing accelerators; of the rest of class 03, those of vendors that compute.
    device.class.starts_with("0302")
        || device.class.starts_with("12")
        || (device.class.starts_with("03") && compute_vendor)
}

/// Storage, network, accelerators, USB / Fibre Channel / InfiniBand controllers, and PCI Express ports. Not host and ISA
/// bridges, memory controllers or plain consoles: they work without one, and naming them would cry wolf.
fn needs_driver(device: &PciDevice) -> bool {
    let class = |prefixes: &[&str]| prefixes.iter().any(|prefix| device.class.starts_with(prefix));
    let express_port = device.class.starts_with("0604") && device.link_speed_max.is_some();
    class(&["01", "02", "0c03", "0c04", "0c06"]) || is_gpu(device) || express_port
}
