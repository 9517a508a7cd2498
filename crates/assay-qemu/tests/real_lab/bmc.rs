//! The BMC of a lab machine: the real `ipmi_sim` switches the real QEMU, asked by the real `ipmitool`.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use assay_process::{Cmd, Output};
use assay_qemu::{Accel, BmcAccess, Lab, LabConfig, QemuError, Status};
use tokio::time::timeout;

use crate::{
    bench::{Bench, shipped_machines},
    faults::disk_server,
    guest::{Guest, pack_initrd, shell_lab},
};

const SOON: Duration = Duration::from_mins(1);

/// The shipped healthy machine, with a BMC.
fn machines() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let base = fs::read_to_string(shipped_machines().join("healthy-bios.toml")).expect("read");
    fs::write(folder.path().join("web.toml"), base.replacen("cpus = ", "bmc = \"ipmi\"\ncpus = ", 1))
        .expect("written");
    let sick = "base = \"web\"\nunit = \"1f\"\ndescription = \"12 V sags\"\n[fault.bmc]\nP12V = 11280\n";
    fs::write(folder.path().join("sick.toml"), sick).expect("written");
    folder
}

/// A lab whose BMCs switch through this test program.
fn lab(bench: &Bench, machines: &Path) -> Lab {
    let switch = bench.state.path().join("switch.sh");
    let own = std::env::current_exe().expect("this test");
    let script = format!(
        "#!/bin/sh\nASSAY_TEST_DO=$2 ASSAY_TEST_NAME=$3 ASSAY_TEST_MACHINES=$5 ASSAY_TEST_STATE=$7 \
         ASSAY_TEST_NETNS=$9 exec '{}' --ignored --exact bmc::the_program_that_the_bmc_switches_with\n",
        own.display()
    );
    fs::write(&switch, script).expect("written");
    fs::set_permissions(&switch, fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut config = LabConfig::new(bench.state.path(), machines);
    config.network.netns.clone_from(&bench.netns);
    config.accel = Some(Accel::Tcg { reason: "for the test".to_owned() });
    config.bmc_switch = vec![switch.into_os_string()];
    Lab::open(config).expect("opened")
}

/// Not a test: what `assay lab power` is in the product.
#[tokio::test]
#[ignore = "run by a BMC"]
async fn the_program_that_the_bmc_switches_with() {
    let variable = |name: &str| std::env::var(name).expect("set by the script");
    let mut config = LabConfig::new(variable("ASSAY_TEST_STATE"), variable("ASSAY_TEST_MACHINES"));
    config.network.netns = variable("ASSAY_TEST_NETNS");
    config.accel = Some(Accel::Tcg { reason: "for the test".to_owned() });
    config.bmc_switch = vec![config.state_dir.join("switch.sh").into_os_string()];
    let lab = Lab::open(config).expect("opened");
    let name = variable("ASSAY_TEST_NAME");
    match variable("ASSAY_TEST_DO").as_str() {
        "on" => drop(lab.power_on(&name).await.expect("on")),
        "off" => lab.power_off(&name).await.expect("off"),
        "cycle" => drop(lab.power_cycle(&name).await.expect("cycled")),
        other => panic!("`{other}` is not what a BMC asks for"),
    }
}

async fn ipmi(bench: &Bench, bmc: &BmcAccess, order: &str) -> Output {
    let suite = bmc.cipher_suite.to_string();
    Cmd::new("ipmitool")
        .args(["-I", "lanplus", "-E", "-H", &bmc.address.to_string(), "-p", &bmc.port.to_string()])
        .args(["-U", bmc.user, "-C", &suite])
        .args(order.split(' '))
        .env("IPMI_PASSWORD", bmc.password)
        .netns(Some(&bench.netns))
        .timeout(SOON)
        .run_ok()
        .await
        .expect("ipmitool")
}

/// Asks until the answer contains `wanted`.
async fn until(bench: &Bench, bmc: &BmcAccess, order: &str, wanted: &str) -> String {
    let asking = async {
        loop {
            let text = ipmi(bench, bmc, order).await.stdout_text().into_owned();
            if text.contains(wanted) {
                return text;
            }
        }
    };
    timeout(SOON, asking).await.unwrap_or_else(|_| panic!("`{order}` never said `{wanted}`"))
}

#[tokio::test]
async fn chassis_power_is_the_machines_power() {
    let bench = Bench::new("aqb-");
    let machines = machines();
    let lab = lab(&bench, machines.path());
    let bmc = lab.bmc("web").await.expect("it starts").expect("it has one");
    assert_eq!(bmc.port, 6201);
    assert_eq!(lab.bmc("web").await.expect("it runs"), Some(bmc.clone()));
    until(&bench, &bmc, "chassis power status", "is off").await;

    ipmi(&bench, &bmc, "chassis bootdev pxe").await;
    until(&bench, &bmc, "chassis bootparam get 5", "Force PXE").await;
    ipmi(&bench, &bmc, "chassis power on").await;
    until(&bench, &bmc, "chassis power status", "is on").await;
    let Status::Running { pid, .. } = lab.status("web").await.expect("a status") else { panic!("not on") };
    let again = async {
        ipmi(&bench, &bmc, "chassis power cycle").await;
        loop {
            match lab.status("web").await.expect("a status") {
                Status::Running { pid: now, .. } if now != pid => return,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    timeout(SOON, again).await.expect("it was cycled");
    ipmi(&bench, &bmc, "chassis power off").await;
    until(&bench, &bmc, "chassis power status", "is off").await;
    assert_eq!(lab.status("web").await.expect("a status"), Status::Off);

    // Switched without the BMC, which sees it.
    lab.power_on("web").await.expect("on");
    until(&bench, &bmc, "chassis power status", "is on").await;
    lab.down().await.expect("down");
    let dead =
        Cmd::new("ipmitool").args(["-I", "lanplus", "-H", "10.77.0.1", "-p", "6201", "-U", "x", "-P", "x"]);
    assert!(!dead.args(["-N", "1", "-R", "1", "chassis", "status"]).run().await.expect("it runs").success());
}

#[tokio::test]
async fn sensors_read_what_the_fault_and_the_hand_say() {
    let bench = Bench::new("aqc-");
    let machines = machines();
    let lab = lab(&bench, machines.path());
    let bmc = lab.bmc("sick").await.expect("it starts").expect("it has one");
    assert_eq!(bmc.port, 6231);
    let text = until(&bench, &bmc, "sdr elist", "11.28 Volts").await;
    for line in [
        "P12V             | 01h | lcr |  7.1 | 11.28 Volts",
        "P5V              | 02h | ok  |  7.1 | 5 Volts",
        "P3V3             | 03h | ok  |  7.1 | 3.30 Volts",
        "FAN1             | 04h | ok  |  7.1 | 6000 RPM",
        "INLET            | 06h | ok  |  7.1 | 24 degrees C",
        "PSU1             | 08h | ok  | 10.1 | Presence detected",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    until(&bench, &bmc, "sel elist", "Lower Critical going low").await;
    lab.set_bmc_sensor("sick", "PSU2", 3).expect("set");
    lab.set_bmc_sensor("sick", "FAN2", 0).expect("set");
    lab.set_bmc_sensor("sick", "P12V", 12_000).expect("set");
    until(&bench, &bmc, "sdr elist", "Presence detected, Failure detected").await;
    until(&bench, &bmc, "sdr elist", "FAN2             | 05h | lnr |  7.1 | 0 RPM").await;
    until(&bench, &bmc, "sdr elist", "P12V             | 01h | ok  |  7.1 | 12 Volts").await;
    let events = ipmi(&bench, &bmc, "sel elist").await.stdout_text().into_owned();
    assert!(!events.contains("PSU1"), "a power supply that was there from the start is no event:\n{events}");
    for (sensor, value) in [("P24V", 1), ("FAN1", 1_000_000)] {
        let refused = lab.set_bmc_sensor("sick", sensor, value);
        assert!(matches!(refused, Err(QemuError::Invalid { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_killed_bmc_is_started_again_and_a_port_that_is_taken_is_told() {
    let bench = Bench::new("aqd-");
    let machines = machines();
    let lab = lab(&bench, machines.path());
    let bmc = lab.bmc("web").await.expect("it starts").expect("it has one");
    let record = bench.state.path().join("machines/web/bmc/process.json");
    let process: assay_process::Detached =
        serde_json::from_slice(&fs::read(&record).expect("a record")).expect("it reads");
    Cmd::new("kill").args(["-9", &process.pid.to_string()]).run_ok().await.expect("killed");
    timeout(SOON, async {
        while process.is_alive() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it dies");
    assert_eq!(lab.bmc("web").await.expect("it starts again"), Some(bmc.clone()));
    let text = until(&bench, &bmc, "sdr elist", "12 Volts").await;
    assert_eq!(text.matches("P12V").count(), 1, "sensors are there once after a restart:\n{text}");

    let clash = fs::read_to_string(machines.path().join("web.toml")).expect("read");
    fs::write(machines.path().join("clash.toml"), clash).expect("written");
    let error = lab.bmc("clash").await.expect_err("the port is taken");
    assert!(matches!(error, QemuError::BmcFailed { .. }), "{error}");
    assert!(error.to_string().contains("UDP port 6201"), "{error}");
    // No machine without a BMC has one.
    fs::copy(shipped_machines().join("healthy-uefi.toml"), machines.path().join("healthy-uefi.toml"))
        .expect("copied");
    fs::copy(shipped_machines().join("healthy-bios.toml"), machines.path().join("healthy-bios.toml"))
        .expect("copied");
    assert_eq!(lab.bmc("healthy-uefi").await.expect("a machine"), None);
    assert!(lab.set_bmc_sensor("healthy-uefi", "P12V", 0).is_err());
}

/// The machine's own end: what a host's operating system sees of its BMC.
#[tokio::test]
async fn a_machine_reads_its_bmc_over_kcs() {
    const NAME: &str = "healthy-bmc";
    let bench = Bench::new("aqe-");
    pack_initrd(bench.state.path()).await;
    let lab = shell_lab(bench.state.path(), &bench.netns, disk_server());
    lab.power_on(NAME).await.expect("switched on");
    let mut guest = Guest::of(&lab, NAME).await;
    guest.ok("modprobe -a ipmi_si ipmi_devintf").await;
    let text = guest.ok("ipmitool sdr elist").await;
    assert!(text.contains("P12V             | 01h | ok  |  7.1 | 12 Volts"), "{text}");
    assert!(text.contains("PSU2             | 09h | ok  | 10.1 | Presence detected"), "{text}");
    lab.set_bmc_sensor(NAME, "P12V", 10_900).expect("set");
    lab.set_bmc_sensor(NAME, "FAN1", 300).expect("set");
    // The guest looks until it sees it, and is stopped by the test's own limit.
    let seen = guest.ok("until ipmitool sdr elist | grep -E 'P12V .* lcr .* 10.92 Volts'; do :; done").await;
    assert!(seen.contains("P12V"), "{seen}");
    let seen = guest.ok("until ipmitool sdr elist | grep -E 'FAN1 .* lnr .* 300 RPM'; do :; done").await;
    assert!(seen.contains("FAN1"), "{seen}");
    let log = guest.ok("ipmitool sel elist").await;
    assert!(log.contains("Voltage P12V | Lower Critical going low"), "{log}");

    // The BMC is asked over the network while the machine is asking it, too.
    let bmc = lab.bmc(NAME).await.expect("it runs").expect("it has one");
    until(&bench, &bmc, "chassis power status", "is on").await;
    lab.power_off(NAME).await.expect("off");
    until(&bench, &bmc, "chassis power status", "is off").await;
    // Switched on again, it is as it should be.
    lab.power_on(NAME).await.expect("on");
    until(&bench, &bmc, "sdr elist", "P12V             | 01h | ok  |  7.1 | 12 Volts").await;
}
