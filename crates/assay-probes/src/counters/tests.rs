//! Counters read from folders that look as a kernel's do.

use std::fs;
use std::path::Path;

use assay_model::host::counters::Counters;

use super::counters;
use crate::Machine;

fn write(root: &Path, path: &str, content: &str) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().expect("has a parent")).expect("folder");
    fs::write(file, content).expect("written");
}

fn server(root: &Path) -> Machine {
    for (path, content) in [
        ("sys/devices/system/edac/mc/mc0/ce_count", "3\n"),
        ("sys/devices/system/edac/mc/mc0/ue_count", "0\n"),
        ("sys/devices/system/edac/mc/mc0/mc_name", "Skylake Socket#0 IMC#0\n"),
        ("sys/devices/system/edac/mc/mc0/dimm0/dimm_ce_count", "2\n"),
        ("sys/devices/system/edac/mc/mc0/dimm0/dimm_ue_count", "0\n"),
        ("sys/devices/system/edac/mc/mc0/dimm0/dimm_label", "DIMM_A1\n"),
        ("sys/devices/system/edac/mc/power/control", "auto\n"),
        (
            "proc/interrupts",
            "            CPU0       CPU1\n MCE:          1          1   Machine check exceptions\n MCP:         77         77   Machine check polls\n",
        ),
        ("sys/bus/pci/devices/0000:00:1c.0/aer_dev_correctable", "RxErr 0\nBadTLP 4\nTOTAL_ERR_COR 4\n"),
        ("sys/bus/pci/devices/0000:00:1c.0/aer_dev_nonfatal", "Undefined 0\nTOTAL_ERR_NONFATAL 1\n"),
        ("sys/bus/pci/devices/0000:00:1c.0/aer_dev_fatal", "Undefined 0\nTOTAL_ERR_FATAL 0\n"),
        ("sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086\n"),
        ("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "2\n"),
        ("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", "5\n"),
        ("sys/devices/system/cpu/cpufreq/none", ""),
        ("sys/class/net/eno1/device/vendor", "0x8086\n"),
        ("sys/class/net/eno1/flags", "0x1003\n"),
        ("sys/class/net/eno1/address", "3C:EC:EF:12:34:56\n"),
        ("sys/class/net/eno1/carrier", "1\n"),
        ("sys/class/net/eno1/carrier_changes", "2\n"),
        ("sys/class/net/eno1/statistics/rx_crc_errors", "7\n"),
        ("sys/class/net/eno1/statistics/rx_dropped", "9\n"),
        ("sys/class/net/lo/address", "00:00:00:00:00:00\n"),
        ("dev/kmsg", KERNEL),
    ] {
        write(root, path, content);
    }
    Machine::captured(root, Some(root.join("tools")))
}

const KERNEL: &str =
    "6,100,1,-;Linux version 6.1\n3,101,2,-;blk_update_request: I/O error, dev sda, sector 8\n";

#[tokio::test]
async fn a_server_tells_all_its_counters() {
    let root = tempfile::tempdir().expect("folder");
    let read = counters(&server(root.path()), None).await;
    let memory = read.memory.expect("a driver");
    let told: Vec<_> = memory.iter().map(|m| (m.id.as_str(), m.label.as_deref(), m.corrected)).collect();
    // What the controller counted and no module did is the controller's own.
    assert_eq!(told, [("mc0/dimm0", Some("DIMM_A1"), 2), ("mc0", Some("Skylake Socket#0 IMC#0"), 1)]);
    assert_eq!(read.machine_checks, Some(2));
    assert_eq!(read.pcie.len(), 1);
    assert_eq!((read.pcie[0].correctable, read.pcie[0].nonfatal, read.pcie[0].fatal), (4, 1, 0));
    assert_eq!(read.throttled, Some(7));
    assert_eq!(read.nics.len(), 1, "the loopback is no hardware");
    let nic = &read.nics[0];
    assert!(nic.up && nic.carrier == Some(true) && nic.mac.as_deref() == Some("3c:ec:ef:12:34:56"));
    assert_eq!((nic.errors["rx_crc_errors"], nic.drops["rx_dropped"], nic.carrier_changes), (7, 9, Some(2)));
    let kernel = read.kernel.expect("a log");
    assert_eq!((kernel.last, kernel.lines.len()), (101, 0), "what was before is nobody's fault now");
    assert!(read.problems.is_empty(), "{:?}", read.problems);
}

#[tokio::test]
async fn only_the_kernels_own_messages_since_then_count() {
    let root = tempfile::tempdir().expect("folder");
    let machine = server(root.path());
    let before = counters(&machine, None).await;
    let more = "4,102,3,-;mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 4: 8c00004000010091\n\
                14,103,4,-;a program says: I/O error\n\
                6,104,5,-;pcieport 0000:00:1c.0: AER: enabled with IRQ 24\n\
                6,105,6,-;e1000e eno1: NIC Link is Up\n";
    write(root.path(), "dev/kmsg", &format!("{KERNEL}{more}"));
    let log = counters(&machine, Some(&before)).await.kernel.expect("a log");
    assert_eq!(log.last, 105);
    assert_eq!(log.lines, ["mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 4: 8c00004000010091"]);
}

#[tokio::test]
async fn an_edac_folder_without_a_controller_is_unknown_and_not_zero() {
    let root = tempfile::tempdir().expect("folder");
    fs::create_dir_all(root.path().join("sys/devices/system/edac/mc/power")).expect("folder");
    let read = counters(&Machine::captured(root.path(), None), None).await;
    assert_eq!(read, Counters { problems: read.problems.clone(), ..Counters::default() });
    assert_eq!(read.memory, None);
    assert_eq!(read.kernel, None);
}

#[test]
fn machine_checks_are_collected_often_enough_to_be_seen_in_their_stage() {
    let root = tempfile::tempdir().expect("folder");
    let file = "sys/devices/system/machinecheck/machinecheck0/check_interval";
    write(root.path(), file, "12c\n");
    let machine = Machine::captured(root.path(), None);
    super::watch_machine_checks(&machine);
    assert_eq!(fs::read_to_string(root.path().join(file)).expect("there"), "5");
    write(root.path(), file, "1\n");
    super::watch_machine_checks(&machine);
    assert_eq!(fs::read_to_string(root.path().join(file)).expect("there"), "1\n", "more often already");
}
