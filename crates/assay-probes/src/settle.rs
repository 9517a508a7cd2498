//! Waiting until the machine has found its own hardware.
//!
//! The agent starts as early as it can, and drivers are still loading then: controllers scan their
//! buses for seconds, disks spin up. An inventory taken too early would call good disks missing.

use std::time::Duration;

use assay_process::Cmd;

use crate::{Machine, block};

/// How long udev may take to work off its queue.
const UDEV: Duration = Duration::from_mins(1);
/// How often the disks are counted.
const POLL: Duration = Duration::from_millis(250);
/// Nothing new for this long means that what is there is all there is, if it is enough.
const QUIET: Duration = Duration::from_secs(1);
/// Disks that are expected and not there are waited for this long: a large disk spins up in about
/// half of it.
const LIMIT: Duration = Duration::from_secs(25);

/// Waits for udev, and then until no new disk appears and at least `expected` are there. A disk
/// that is still missing after 25 s is missing.
pub async fn settle(machine: &Machine, expected: usize) {
    // Without udev (a captured machine) there is nothing to settle.
    let udevadm = Cmd::new(machine.tool("udevadm")).args(["settle", "--timeout=50"]).timeout(UDEV);
    if udevadm.run().await.is_err() {
        return;
    }
    disks_settle(machine, expected).await;
}

async fn disks_settle(machine: &Machine, expected: usize) {
    let start = tokio::time::Instant::now();
    let (mut seen, mut since) = (disks(machine), start);
    while start.elapsed() < LIMIT {
        if since.elapsed() >= QUIET && seen.len() >= expected {
            return;
        }
        tokio::time::sleep(POLL).await;
        let now = disks(machine);
        if now != seen {
            (seen, since) = (now, tokio::time::Instant::now());
        }
    }
}

fn disks(machine: &Machine) -> Vec<String> {
    block::disks(machine, &mut Vec::new()).into_iter().map(|disk| disk.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plug(machine: &Machine, name: &str) {
        let folder = machine.path(format!("sys/block/{name}/device"));
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join("serial"), name).expect("written");
        std::fs::write(machine.path(format!("sys/block/{name}/size")), "1000").expect("written");
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_disk_is_waited_for_and_a_missing_one_not_for_ever() {
        let dir = tempfile::tempdir().expect("tempdir");
        let machine = Machine::captured(dir.path(), None);
        plug(&machine, "nvme0n1");
        let start = tokio::time::Instant::now();
        disks_settle(&machine, 1).await;
        assert!(start.elapsed() < LIMIT, "all there: {:?}", start.elapsed());

        let start = tokio::time::Instant::now();
        let late = async {
            tokio::time::sleep(Duration::from_secs(8)).await;
            plug(&machine, "nvme1n1");
        };
        tokio::join!(disks_settle(&machine, 2), late);
        let took = start.elapsed();
        assert!(took > Duration::from_secs(8) && took < Duration::from_secs(15), "late: {took:?}");

        let start = tokio::time::Instant::now();
        disks_settle(&machine, 3).await;
        assert!(start.elapsed() >= LIMIT, "missing: {:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_machine_without_udev_has_nothing_to_settle() {
        let dir = tempfile::tempdir().expect("tempdir");
        let machine = Machine::captured(dir.path(), Some(dir.path().to_owned()));
        let start = tokio::time::Instant::now();
        settle(&machine, 9).await;
        assert!(start.elapsed() < LIMIT);
    }
}
