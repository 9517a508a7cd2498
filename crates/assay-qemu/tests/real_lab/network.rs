//! The private network: there before, half made, removed by somebody else.

use std::{fs, path::Path};

use assay_process::Cmd;
use assay_qemu::{Lab, LabConfig, NetworkConfig, QemuError, tap_name};

use crate::bench::Bench;

#[tokio::test]
async fn a_network_that_was_there_before_stays() {
    let bench = Bench::new("aq6-");
    Cmd::new("ip").args(["netns", "add", &bench.netns]).run_ok().await.expect("made");
    let lab = bench.lab();
    lab.network().up().await.expect("up");
    lab.network().up().await.expect("up is up");
    let mac = lab.machine("healthy-bios").expect("a machine").actual.nics[0].mac;
    lab.network().tap_up(&mac).await.expect("a tap");
    lab.network().tap_up(&mac).await.expect("the same tap");
    let links = bench.links().await;
    assert!(links.contains("br0") && links.contains(&tap_name(&mac)), "{links}");
    lab.network().down().await.expect("down");
    let links = bench.links().await;
    assert!(!links.contains("br0") && !links.contains("tap"), "{links}");
    assert!(bench.netns_exists(), "it was not ours to remove");
    Cmd::new("ip").args(["netns", "delete", &bench.netns]).run_ok().await.expect("removed");
}

#[tokio::test]
async fn a_half_made_network_is_completed() {
    let bench = Bench::new("aq7-");
    let lab = bench.lab();
    lab.network().up().await.expect("up");
    // Killed before the bridge was made.
    Cmd::new("ip").args(["-netns", &bench.netns, "link", "delete", "br0"]).run_ok().await.expect("removed");
    lab.network().up().await.expect("completed");
    assert!(bench.links().await.contains("br0"));
    // Killed between the name and the namespace: a plain file is left.
    Cmd::new("ip").args(["netns", "delete", &bench.netns]).run_ok().await.expect("removed");
    fs::write(Path::new("/run/netns").join(&bench.netns), "").expect("written");
    lab.network().up().await.expect("completed");
    assert!(bench.links().await.contains("br0"));
    // Somebody removed it all.
    Cmd::new("ip").args(["netns", "delete", &bench.netns]).run_ok().await.expect("removed");
    lab.network().down().await.expect("down");
    assert!(!bench.netns_exists());
}

#[test]
fn impossible_networks_are_refused() {
    let state = tempfile::tempdir().expect("a folder");
    for netns in ["", "a-name-of-sixteen", "../etc", "-x"] {
        let mut config = LabConfig::new(state.path(), state.path());
        config.network = NetworkConfig { netns: netns.to_owned(), ..NetworkConfig::default() };
        assert!(matches!(Lab::open(config), Err(QemuError::Network { .. })), "{netns}");
    }
}
