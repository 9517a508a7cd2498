//! What a network port is linked at, and what it could be.

use std::time::Duration;

use assay_model::host::network::Link;
use assay_process::Cmd;

use crate::Machine;
use crate::files::{number, text};

/// Longest that the tool is waited for.
const LIMIT: Duration = Duration::from_secs(10);

/// A port's link. The kernel's files tell speed and duplex; only `ethtool` tells what the port supports.
pub async fn link(machine: &Machine, name: &str) -> Link {
    let folder = machine.path("sys/class/net").join(name);
    let duplex = text(&folder.join("duplex"));
    let mut link = Link {
        // -1 or an error where there is no link, and on virtual ports always.
        speed_mbps: number::<i64>(&folder.join("speed"))
            .and_then(|mbps| u32::try_from(mbps).ok())
            .filter(|mbps| *mbps > 0),
        full_duplex: duplex.and_then(|told| match told.trim() {
            "full" => Some(true),
            "half" => Some(false),
            _ => None,
        }),
        max_mbps: None,
    };
    // A name that looks like an option is not passed on.
    if !name.starts_with('-')
        && let Ok(output) =
            Cmd::new(machine.tool("ethtool")).arg(name).timeout(LIMIT).max_output(1 << 20).run_ok().await
    {
        link.max_mbps = fastest(&output.stdout_text());
    }
    link
}

/// The permanent hardware address, lower case; `None` when the driver does not tell or it is all zeros.
pub async fn permanent_address(machine: &Machine, name: &str) -> Option<String> {
    if name.starts_with('-') {
        return None;
    }
    let output = Cmd::new(machine.tool("ethtool")).args(["-P", name]).timeout(LIMIT).run_ok().await.ok()?;
    let told = output.stdout_text().lines().find_map(|line| {
        let mac = line.trim().strip_prefix("Permanent address:")?.trim().to_lowercase();
        mac.parse::<assay_model::Mac>().ok()
    })?;
    told.is_unicast().then(|| told.to_string())
}

/// The fastest of `Supported link modes`, in Mb/s. The list runs over lines; the next line with a colon ends it.
fn fastest(output: &str) -> Option<u32> {
    let mut inside = false;
    let mut best = None;
    for line in output.lines() {
        let modes = match line.split_once(':') {
            Some((key, modes)) => {
                inside = key.trim() == "Supported link modes";
                modes
            }
            None => line,
        };
        if inside {
            let speeds = modes.split_whitespace().filter_map(|mode| {
                let digits = mode.find("base").map(|end| &mode[..end])?;
                digits.parse::<u32>().ok()
            });
            best = best.max(speeds.max());
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPPER: &str = "Settings for eno1:\n\tSupported ports: [ TP ]\n\tSupported link modes:   10baseT/Half 10baseT/Full\n\t                        100baseT/Half 100baseT/Full\n\t                        1000baseT/Full\n\t                        10000baseT/Full\n\tSupported pause frame use: Symmetric\n\tAdvertised link modes:  100000baseSR4/Full\n\tSpeed: 1000Mb/s\n\tDuplex: Full\n\tLink detected: yes\n";

    #[test]
    fn the_fastest_supported_mode_counts_and_not_the_advertised_one() {
        assert_eq!(fastest(COPPER), Some(10_000));
    }

    #[test]
    fn what_tells_nothing_is_unknown() {
        assert_eq!(
            fastest("Settings for eth0:\n\tSupported link modes:   Not reported\n\tSpeed: Unknown!\n"),
            None
        );
        assert_eq!(fastest(""), None);
    }

    #[tokio::test]
    async fn a_virtual_port_has_no_speed_and_a_missing_tool_is_no_obstacle() {
        let root = tempfile::tempdir().expect("folder");
        let port = root.path().join("sys/class/net/eth0");
        std::fs::create_dir_all(&port).expect("folder");
        std::fs::write(port.join("speed"), "-1\n").expect("written");
        std::fs::write(port.join("duplex"), "unknown\n").expect("written");
        let machine = Machine::captured(root.path(), Some(root.path().join("no-tools")));
        assert_eq!(link(&machine, "eth0").await, Link::default());
        std::fs::write(port.join("speed"), "1000\n").expect("written");
        std::fs::write(port.join("duplex"), "half\n").expect("written");
        let seen = link(&machine, "eth0").await;
        assert_eq!((seen.speed_mbps, seen.full_duplex), (Some(1000), Some(false)));
    }
}
