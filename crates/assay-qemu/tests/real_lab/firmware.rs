//! What the machine's own firmware makes of it: it asks the network for an address, and its tables say what the
//! machine file says, read by the real `dmidecode` out of the machine's memory.

use std::{fs, path::Path, time::Duration};

use assay_process::{Child, Cmd};
use assay_qemu::Qmp;

use crate::bench::Bench;

const BOOT_LIMIT: Duration = Duration::from_mins(2);
const ENTRY_POINT_LEN: usize = 31;

#[tokio::test]
async fn a_bios_machine_asks_for_an_address_and_its_tables_show_the_missing_dimm() {
    let bench = Bench::new("aq8-");
    let lab = bench.lab();
    let name = "missing-dimm-swapped-disk";
    lab.network().up().await.expect("up");
    let mut dhcp = dhcp_server(&bench).await;
    lab.power_on(name).await.expect("switched on");
    // The tables are written before anything is booted.
    wait_for_offer(&mut dhcp).await;
    let monitor = lab.qmp(name).await.expect("a monitor");
    let dump = smbios_dump(&monitor, bench.state.path()).await;
    let text = |option: &'static str, kind: &'static str| dmidecode(&dump, option, kind);

    insta::assert_snapshot!(text("--type", "16").await, @r#"
    Physical Memory Array
      Location: System Board Or Motherboard
      Use: System Memory
      Error Correction Type: None
      Maximum Capacity: 4 GB
      Number Of Devices: 4
    "#);
    insta::assert_snapshot!(text("--type", "17").await, @r#"
    Memory Device
      Total Width: 64 bits
      Data Width: 64 bits
      Size: 1 GB
      Form Factor: DIMM
      Set: None
      Locator: DIMM_A1
      Bank Locator: CHANNEL A
      Type: DDR4
      Type Detail: Synchronous
      Speed: 3200 MT/s
      Manufacturer: Micron
      Serial Number: F1A01301
      Asset Tag: Not Specified
      Part Number: MTA9ASF1G72PZ-3G2
      Rank: 1
      Configured Memory Speed: 3200 MT/s
      Minimum Voltage: 1.2 V
      Maximum Voltage: 1.2 V
      Configured Voltage: 1.2 V

    Memory Device
      Total Width: Unknown
      Data Width: Unknown
      Size: No Module Installed
      Form Factor: DIMM
      Set: None
      Locator: DIMM_A2
      Bank Locator: CHANNEL A
      Type: Unknown
      Type Detail: Unknown

    Memory Device
      Total Width: Unknown
      Data Width: Unknown
      Size: No Module Installed
      Form Factor: DIMM
      Set: None
      Locator: DIMM_B1
      Bank Locator: CHANNEL B
      Type: Unknown
      Type Detail: Unknown

    Memory Device
      Total Width: Unknown
      Data Width: Unknown
      Size: No Module Installed
      Form Factor: DIMM
      Set: None
      Locator: DIMM_B2
      Bank Locator: CHANNEL B
      Type: Unknown
      Type Detail: Unknown
    "#);
    insta::assert_snapshot!(text("--string", "system-serial-number").await, @r#"SPW21130007"#);
    insta::assert_snapshot!(text("--string", "system-uuid").await, @r#"5e55a110-1ab0-4000-8000-000000000013"#);
    insta::assert_snapshot!(text("--string", "bios-version").await, @r#"2.4.1"#);
    insta::assert_snapshot!(text("--string", "baseboard-serial-number").await, @r#"MB21130031"#);
    insta::assert_snapshot!(text("--string", "chassis-asset-tag").await, @r#"LAB-13"#);
    dhcp.stop(Duration::from_secs(2)).await.expect("stopped");
}

#[tokio::test]
async fn a_uefi_machine_asks_for_an_address() {
    let bench = Bench::new("aq9-");
    let lab = bench.lab();
    lab.network().up().await.expect("up");
    let mut dhcp = dhcp_server(&bench).await;
    lab.power_on("healthy-uefi").await.expect("switched on");
    wait_for_offer(&mut dhcp).await;
    dhcp.stop(Duration::from_secs(2)).await.expect("stopped");
}

/// A DHCP server of another make than the product's, only to see that somebody asks.
async fn dhcp_server(bench: &Bench) -> Child {
    let folder = bench.state.path();
    let config = folder.join("udhcpd.conf");
    let lease_file = folder.join("leases");
    fs::write(&lease_file, "").expect("written");
    let text = format!(
        "start 10.77.0.10\nend 10.77.0.20\ninterface br0\nlease_file {}\npidfile {}\n",
        lease_file.display(),
        folder.join("udhcpd.pid").display()
    );
    fs::write(&config, text).expect("written");
    let command = Cmd::new("busybox").args(["udhcpd", "-f"]).arg(config).netns(Some(&bench.netns));
    command.spawn().await.expect("busybox is installed")
}

async fn wait_for_offer(dhcp: &mut Child) {
    let offered = async {
        while let Some(line) = dhcp.next_line().await {
            if line.text.contains("sending OFFER") {
                return true;
            }
        }
        false
    };
    let offered = tokio::time::timeout(BOOT_LIMIT, offered).await;
    assert!(offered.expect("the machine asks in time"), "the DHCP server ended");
}

/// The machine's SMBIOS tables in the form that `dmidecode --from-dump` reads: the entry point, pointing at
/// offset 32, and the tables there.
async fn smbios_dump(monitor: &Qmp, folder: &Path) -> std::path::PathBuf {
    let rom = memory(monitor, folder, 0xf0000, 0x10000).await;
    let at = (0..rom.len() - ENTRY_POINT_LEN)
        .step_by(16)
        .find(|at| &rom[*at..at + 4] == b"_SM_" && &rom[at + 16..at + 21] == b"_DMI_")
        .expect("an entry point");
    let mut entry = rom[at..at + ENTRY_POINT_LEN].to_vec();
    let length = u16::from_le_bytes([entry[0x16], entry[0x17]]);
    let address = u32::from_le_bytes([entry[0x18], entry[0x19], entry[0x1a], entry[0x1b]]);
    let tables = memory(monitor, folder, address, length.into()).await;
    entry[0x18..0x1c].copy_from_slice(&32_u32.to_le_bytes());
    // Both checksums make their bytes add up to zero.
    for (checksum, from) in [(0x15, 0x10), (0x04, 0)] {
        entry[checksum] = 0;
        let sum = entry[from..].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        entry[checksum] = sum.wrapping_neg();
    }
    entry.resize(32, 0);
    entry.extend(tables);
    let dump = folder.join("dump.bin");
    fs::write(&dump, entry).expect("written");
    dump
}

async fn memory(monitor: &Qmp, folder: &Path, address: u32, length: u32) -> Vec<u8> {
    let file = folder.join("memory");
    let line = format!("pmemsave {address:#x} {length:#x} \"{}\"", file.display());
    assert_eq!(monitor.human_monitor_command(&line).await.expect("saved"), "");
    fs::read(file).expect("read")
}

async fn dmidecode(dump: &Path, option: &str, what: &str) -> String {
    let output = Cmd::new("dmidecode")
        .args(["--quiet", option, what, "--from-dump"])
        .arg(dump)
        .run_ok()
        .await
        .expect("dmidecode is installed");
    let text = output.stdout_text().replace('\t', "  ");
    text.trim().to_owned()
}
