//! Network ports that are hardware.

use std::path::Path;

use assay_model::host::inventory::Nic;

use crate::Machine;
use crate::files::{attribute, entries, link_name, number, pci_address, text};
use crate::tools::Tools;

/// Kernel's numbers for link types that are ports of this kind: Ethernet and InfiniBand.
const PORT_TYPES: [u32; 2] = [1, 32];

pub(crate) async fn nics(machine: &Machine, tools: &Tools<'_>) -> Vec<Nic> {
    let mut nics = Vec::new();
    for (name, folder) in entries(&machine.path("sys/class/net")) {
        // Only hardware has a device behind it: no bridges, bonds, VLANs, tunnels.
        let Ok(device) = folder.join("device").canonicalize() else {
            continue;
        };
        if !number(&folder.join("type")).is_none_or(|kind: u32| PORT_TYPES.contains(&kind)) {
            continue;
        }
        let asked = ask(tools, &name).await;
        nics.push(Nic {
            mac: asked.permanent.or_else(|| address_in_sysfs(&folder)),
            driver: link_name(&folder.join("device/driver")),
            // -1 or an error where there is no link.
            speed_mbps: number::<i64>(&folder.join("speed"))
                .and_then(|mbps| u32::try_from(mbps).ok())
                .filter(|&mbps| mbps > 0),
            // An error where the port is down: then nothing is known of its link.
            carrier: number::<u8>(&folder.join("carrier")).map(|flag| flag == 1),
            pci: pci_address(&device),
            firmware: asked.firmware,
            name,
        });
    }
    nics
}

#[derive(Default)]
struct Asked {
    permanent: Option<String>,
    firmware: Option<String>,
}

async fn ask(tools: &Tools<'_>, name: &str) -> Asked {
    // A name that looks like an option is not passed on.
    if name.starts_with('-') {
        return Asked::default();
    }
    let permanent = tools.text("ethtool", &["-P", name]).await;
    let info = tools.text("ethtool", &["-i", name]).await;
    let line = |text: &Option<String>, prefix: &str| {
        let line = text.as_deref()?.lines().find_map(|line| line.trim().strip_prefix(prefix))?;
        crate::files::told(line)
    };
    Asked {
        permanent: line(&permanent, "Permanent address:").and_then(|mac| plain(&mac)),
        firmware: line(&info, "firmware-version:"),
    }
}

fn address_in_sysfs(folder: &Path) -> Option<String> {
    // A port that belongs to a bond shows the bond's address; its own stands beside.
    let own = attribute(&folder.join("bonding_slave/perm_hwaddr"));
    own.or_else(|| {
        // 0: the device's own; anything else was made up or set.
        let assigned: u8 = number(&folder.join("addr_assign_type")).unwrap_or(0);
        if assigned == 0 { text(&folder.join("address")) } else { None }
    })
    .and_then(|mac| plain(&mac))
}

/// Lower case with colons; `None` for what is no address, or one of zeros or ones only. InfiniBand's has 20 bytes.
fn plain(mac: &str) -> Option<String> {
    let mac = mac.trim().to_lowercase();
    let parts: Vec<&str> = mac.split(':').collect();
    let octets = parts.iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
    let says_something = parts.iter().any(|part| *part != "00") && parts.iter().any(|part| *part != "ff");
    (octets && matches!(parts.len(), 6 | 20) && says_something).then_some(mac)
}
