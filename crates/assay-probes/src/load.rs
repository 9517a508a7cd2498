//! Loads a machine's processors, disks and network at once, without changing anything on it.
//!
//! Each load is a tool with a time of its own; what it says is for people. Disks are only read, which `fio` is told
//! twice: by the kind of work and by `--readonly`.

use std::time::Duration;

use assay_model::host::order::IperfServer;
use assay_model::text::clean_to;
use assay_process::Cmd;

use crate::Machine;
use crate::files::{entries, number};

/// For a tool to start and end.
const SLACK: Duration = Duration::from_secs(30);
/// More disks than that are not needed to load a power supply.
const MAX_DISKS: usize = 64;

/// Waits: the same clock for all who read beside a load.
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Every processor at its hottest.
///
/// # Errors
/// Why it did not run to its end.
pub async fn processors(machine: &Machine, seconds: u32) -> Result<String, String> {
    let time = format!("{seconds}s");
    // The image's root may be read-only; the tool wants a folder for its files.
    let folder = std::env::temp_dir();
    let args = ["--cpu", "0", "--cpu-method", "fft", "--timeout", &time, "--temp-path"];
    let command = Cmd::new(machine.tool("stress-ng")).args(args).arg(folder);
    run(command, seconds).await.map(|()| format!("stress-ng on every processor for {seconds} s"))
}

/// Every disk read from one end, around and around.
///
/// # Errors
/// Why it did not run to its end.
pub async fn disks(machine: &Machine, seconds: u32) -> Result<String, String> {
    let disks = whole_disks(machine);
    if disks.is_empty() {
        return Err("the machine has no disk".to_owned());
    }
    let runtime = format!("--runtime={seconds}");
    let mut command = Cmd::new(machine.tool("fio")).args([
        "--readonly",
        "--rw=read",
        "--direct=1",
        "--bs=1M",
        "--ioengine=psync",
        "--time_based",
        &runtime,
        "--output=/dev/null",
    ]);
    for disk in &disks {
        command = command
            .arg(format!("--name={disk}"))
            .arg(format!("--filename={}", machine.path("dev").join(disk).display()));
    }
    run(command, seconds).await.map(|()| format!("{} disks read for {seconds} s", disks.len()))
}

/// Data sent to the runner.
///
/// # Errors
/// Why it did not run to its end.
pub async fn network(
    machine: &Machine,
    server: Option<&IperfServer>,
    seconds: u32,
) -> Result<String, String> {
    let Some(server) = server else { return Err("the runner offered no speed server".to_owned()) };
    let (address, port, time) = (server.address.to_string(), server.port.to_string(), seconds.to_string());
    let command = Cmd::new(machine.tool("iperf3")).args([
        "-c",
        &address,
        "-p",
        &port,
        "-t",
        &time,
        "--connect-timeout",
        "5000",
        "-J",
    ]);
    let output =
        bounded(command, seconds).run_ok().await.map_err(|problem| clean_to(&problem.to_string(), 300))?;
    // The exit status is 0 whatever happened.
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|problem| format!("iperf3 wrote no JSON: {problem}"))?;
    match json.get("error").and_then(serde_json::Value::as_str) {
        Some(error) => Err(clean_to(&format!("iperf3: {error}"), 300)),
        None => Ok(format!("data sent to the runner for {seconds} s")),
    }
}

/// Hardware, whole, with a medium in it, and not a drive for discs. Paths to one NVMe namespace are hidden devices behind
/// the one that counts, and cannot be opened.
fn whole_disks(machine: &Machine) -> Vec<String> {
    let all = entries(&machine.path("sys/block")).into_iter();
    all.filter(|(name, folder)| {
        folder.join("device").exists()
            && !name.starts_with("sr")
            && !name.contains(['/', '='])
            && number::<u8>(&folder.join("hidden")) != Some(1)
            && number::<u64>(&folder.join("size")).is_some_and(|sectors| sectors > 0)
    })
    .map(|(name, _)| name)
    .take(MAX_DISKS)
    .collect()
}

async fn run(command: Cmd, seconds: u32) -> Result<(), String> {
    let ran = bounded(command, seconds).run_ok().await;
    ran.map(drop).map_err(|problem| clean_to(&problem.to_string(), 300))
}

fn bounded(command: Cmd, seconds: u32) -> Cmd {
    command.timeout(Duration::from_secs(seconds.into()) + SLACK).max_output(8 << 20)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn disks_are_only_read_and_only_hardware() {
        let root = tempfile::tempdir().expect("folder");
        for (disk, size, device) in
            [("nvme0n1", "100", true), ("loop0", "100", false), ("sr0", "4", true), ("sda", "0", true)]
        {
            let folder = root.path().join("sys/block").join(disk);
            fs::create_dir_all(if device { folder.join("device") } else { folder.clone() }).expect("folder");
            fs::write(folder.join("size"), size).expect("written");
        }
        let path = root.path().join("sys/block/nvme0c0n1");
        fs::create_dir_all(path.join("device")).expect("folder");
        fs::write(path.join("size"), "100").expect("written");
        fs::write(path.join("hidden"), "1").expect("written");
        let tools = root.path().join("tools");
        fs::create_dir_all(&tools).expect("folder");
        let fio = tools.join("fio");
        let seen = root.path().join("seen");
        fs::write(&fio, format!("#!/bin/sh\necho \"$@\" > {}\n", seen.display())).expect("written");
        fs::set_permissions(&fio, fs::Permissions::from_mode(0o755)).expect("executable");
        let machine = Machine::captured(root.path(), Some(tools));
        disks(&machine, 5).await.expect("ran");
        let args = fs::read_to_string(seen).expect("called");
        assert!(args.starts_with("--readonly --rw=read --direct=1 "), "{args}");
        assert!(
            args.contains("dev/nvme0n1")
                && !args.contains("nvme0c0n1")
                && !args.contains("loop0")
                && !args.contains("sr0")
                && !args.contains("sda"),
            "{args}"
        );
        assert!(processors(&machine, 5).await.expect_err("no stress-ng").contains("stress-ng"));
        assert!(network(&machine, None, 5).await.is_err());
    }
}
