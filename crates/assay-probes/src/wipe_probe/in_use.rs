//! Why a disk must not be written to, as the kernel knows it: mounts, swap, holders, and who else has a way to it.
//!
//! Where the kernel's own tables cannot be read, nothing is known, and nothing is written. A pool of ZFS has no entry in
//! any of them; it holds its disks exclusively, and opening one fails.

use std::path::Path;
use std::time::Duration;

use assay_model::host::inventory::{Disk, Transport};
use assay_model::host::storage::{Refusal, RefusalKind};
use assay_model::text::clean;
use assay_process::{Cmd, ProcessError};
use serde_json::Value;

use super::{Candidate, partitions};
use crate::Machine;
use crate::files::{attribute, entries, number, text};

/// Where a system runs from.
const BOOT_MOUNTS: [&str; 9] = [
    "/",
    "/boot",
    "/usr",
    "/run/live",
    "/lib/live",
    "/run/initramfs/live",
    "/run/archiso",
    "/cdrom",
    "/run/rootfsbase",
];
/// How long `nvme` may take.
const NVME_LIMIT: Duration = Duration::from_secs(20);

/// What is mounted and swapped to.
pub(super) struct Usage {
    /// `None` when the table cannot be read.
    mounts: Option<Vec<Mount>>,
    swaps: Option<Vec<String>>,
    /// Files and devices behind loop devices.
    loops: Vec<(String, String)>,
}

struct Mount {
    device: String,
    source: String,
    point: String,
}

impl Usage {
    pub(super) fn read(machine: &Machine) -> Self {
        let mounts = text(&machine.path("proc/self/mountinfo"))
            .filter(|table| !table.trim().is_empty())
            .map(|table| table.lines().filter_map(mount).collect());
        let swaps = text(&machine.path("proc/swaps")).map(|table| {
            let first_words = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
            first_words.map(str::to_owned).collect()
        });
        let loops = entries(&machine.path("sys/block"))
            .into_iter()
            .filter_map(|(name, path)| Some((name, text(&path.join("loop/backing_file"))?.trim().to_owned())))
            .collect();
        Self { mounts, swaps, loops }
    }
}

/// Every reason not to write to a disk that can be seen without opening it.
pub(super) fn reasons(machine: &Machine, usage: &Usage, disk: &Disk) -> Vec<Refusal> {
    let mut reasons = Vec::new();
    let mut add = |why: RefusalKind, detail: String| reasons.push(Refusal { why, detail: clean(&detail) });
    let folder = machine.path("sys/block").join(&disk.name);
    let mut parts = partitions(machine, &disk.name);
    parts.push((disk.name.clone(), attribute(&folder.join("dev")).unwrap_or_default()));

    match &usage.mounts {
        None => add(
            RefusalKind::InUse,
            "the table of mounts cannot be read, so nobody can say that it is not mounted".to_owned(),
        ),
        Some(mounts) => {
            let ours = |mount: &&Mount| {
                parts.iter().any(|(name, device)| {
                    (!device.is_empty() && mount.device == *device) || is_node(&mount.source, name)
                })
            };
            for mount in mounts.iter().filter(ours) {
                let boots = BOOT_MOUNTS.iter().any(|point| {
                    mount.point == *point || (*point != "/" && mount.point.starts_with(&format!("{point}/")))
                });
                let why = if boots { RefusalKind::BootMedium } else { RefusalKind::InUse };
                add(why, format!("{} is mounted at {}", mount.source, mount.point));
            }
        }
    }
    match &usage.swaps {
        None => add(
            RefusalKind::InUse,
            "the table of swap space cannot be read, so nobody can say that it is not swapped to".to_owned(),
        ),
        Some(swaps) => {
            for swap in swaps.iter().filter(|swap| parts.iter().any(|(name, _)| is_node(swap, name))) {
                add(RefusalKind::InUse, format!("{swap} is swap space in use"));
            }
        }
    }
    for (name, _) in &parts {
        let of_part =
            if *name == disk.name { folder.join("holders") } else { folder.join(name).join("holders") };
        for (holder, _) in entries(&of_part) {
            add(
                RefusalKind::InUse,
                format!("{name} is part of {holder}{}", kind_of_holder(machine, &holder)),
            );
        }
        for (device, file) in usage.loops.iter().filter(|(_, file)| is_node(file, name)) {
            add(RefusalKind::InUse, format!("{file} stands behind {device}"));
        }
    }
    if number::<u8>(&folder.join("removable")) != Some(0) {
        add(RefusalKind::Removable, "its medium can be taken out (a USB stick, a card)".to_owned());
    }
    if number::<u8>(&folder.join("ro")) != Some(0) {
        add(RefusalKind::ReadOnly, "the kernel says that it cannot be written".to_owned());
    }
    if let Some(network) = network(&folder, disk.transport) {
        add(
            RefusalKind::Shared,
            format!("it is attached through {network}: other machines may have a way to it"),
        );
    }
    if !disk.also.is_empty() {
        add(
            RefusalKind::Shared,
            format!("there is more than one way to it ({}, {})", disk.name, disk.also.join(", ")),
        );
    }
    reasons
}

/// Whether an NVMe namespace says of itself that more than one controller may use it, or is used by several here.
pub(super) async fn nvme_sharing(machine: &Machine, candidate: &mut Candidate) {
    let device = machine.path("sys/block").join(&candidate.disk.name).join("device");
    let is_controller = |name: &str| {
        name.strip_prefix("nvme")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let controllers = entries(&device).into_iter().filter(|(name, _)| is_controller(name)).count();
    if controllers > 1 {
        let detail = format!("{controllers} controllers of this machine lead to it");
        candidate.refuse(RefusalKind::Shared, detail);
    }
    let command = Cmd::new(machine.tool("nvme"))
        .args(["id-ns", "--output-format=json"])
        .arg(candidate.node.as_os_str())
        .timeout(NVME_LIMIT)
        .max_output(1 << 20);
    let name = candidate.disk.name.clone();
    let unknown = match command.run_ok().await {
        Ok(output) => match sharing(&output.stdout) {
            Some(true) => {
                let detail = "it says that several controllers may use it (nmic): another machine may have a way to it";
                candidate.refuse(RefusalKind::Shared, detail.to_owned());
                return;
            }
            Some(false) => return,
            None => format!("{name}: nvme id-ns told nothing of who may use it"),
        },
        Err(ProcessError::NotFound { .. }) => {
            format!("{name}: whether other machines may use it is not known, as there is no tool `nvme`")
        }
        Err(problem) => format!("{name}: whether other machines may use it is not known: {problem}"),
    };
    candidate.problems.push(clean(&unknown));
}

/// Bit 0 of NMIC.
fn sharing(output: &[u8]) -> Option<bool> {
    let told: Value = serde_json::from_slice(output).ok()?;
    Some(told.get("nmic")?.as_u64()? & 1 == 1)
}

/// Which network a disk is behind, if it is behind one.
fn network(folder: &Path, transport: Transport) -> Option<&'static str> {
    match transport {
        Transport::Fc => return Some("Fibre Channel"),
        Transport::Iscsi => return Some("iSCSI"),
        _ => {}
    }
    let device = folder.join("device");
    let own = attribute(&device.join("transport"));
    let of_controllers =
        entries(&device).into_iter().filter_map(|(_, path)| attribute(&path.join("transport")));
    let fabric = own.into_iter().chain(of_controllers).find(|transport| transport != "pcie")?;
    match fabric.as_str() {
        "tcp" | "rdma" | "fc" | "loop" => Some("NVMe over a network"),
        _ => None,
    }
}

fn kind_of_holder(machine: &Machine, holder: &str) -> String {
    let folder = machine.path("sys/block").join(holder);
    let mapped = attribute(&folder.join("dm/name")).map(|name| format!(" ({name})"));
    mapped
        .or_else(|| attribute(&folder.join("md/level")).map(|level| format!(" (md {level})")))
        .unwrap_or_default()
}

/// One line of mountinfo: number, parent, device, root, mount point, options, …, `-`, type, source.
fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ');
    let device = fields.nth(2)?.to_owned();
    let point = unescape(fields.nth(1)?);
    Some(Mount { device, point, source: unescape(right.split(' ').nth(1)?) })
}

/// Spaces and the like stand as three octal digits.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Whether a path names this block device.
fn is_node(path: &str, name: &str) -> bool {
    path.strip_prefix("/dev/").is_some_and(|node| node == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree {
        root: tempfile::TempDir,
        machine: Machine,
    }

    fn tree() -> Tree {
        let root = tempfile::tempdir().expect("a folder");
        let machine = Machine::captured(root.path(), Some(root.path().join("tools")));
        let tree = Tree { root, machine };
        tree.write("proc/self/mountinfo", "22 1 0:20 / /proc rw - proc proc rw\n");
        tree.write("proc/swaps", "Filename Type Size Used Priority\n");
        for (file, content) in [("dev", "8:0"), ("removable", "0"), ("ro", "0"), ("size", "2048")] {
            tree.write(&format!("sys/block/sda/{file}"), content);
        }
        tree.write("sys/block/sda/sda1/partition", "1");
        tree.write("sys/block/sda/sda1/dev", "8:1");
        tree
    }

    impl Tree {
        fn write(&self, path: &str, content: &str) {
            let file = self.root.path().join(path);
            std::fs::create_dir_all(file.parent().expect("has a parent")).expect("folder");
            std::fs::write(file, content).expect("written");
        }

        fn reasons(&self) -> Vec<RefusalKind> {
            self.reasons_of(Transport::Sata, &[])
        }

        fn reasons_of(&self, transport: Transport, also: &[&str]) -> Vec<RefusalKind> {
            let also = also.iter().map(|name| (*name).to_owned()).collect();
            let disk = Disk { name: "sda".to_owned(), removable: None, transport, also, ..Disk::default() };
            let usage = Usage::read(&self.machine);
            reasons(&self.machine, &usage, &disk).into_iter().map(|refusal| refusal.why).collect()
        }
    }

    #[test]
    fn a_disk_that_nobody_uses_has_no_reason_against_it() {
        assert!(tree().reasons().is_empty());
    }

    #[test]
    fn what_the_kernel_knows_is_a_reason() {
        use RefusalKind::{BootMedium, InUse, ReadOnly, Removable};
        let mounted = "22 1 0:20 / /proc rw - proc proc rw\n30 1 8:1 / /srv/a\\040b rw - ext4 /dev/sda1 rw\n";
        let root = "22 1 8:1 / / rw - ext4 /dev/root rw\n";
        let btrfs = "22 1 0:44 / /data rw - btrfs /dev/sda rw\n";
        let live = "22 1 8:0 / /run/live/medium ro - iso9660 /dev/sda ro\n";
        let cases = [
            ("proc/self/mountinfo", mounted, InUse),
            ("proc/self/mountinfo", btrfs, InUse),
            ("proc/self/mountinfo", root, BootMedium),
            ("proc/self/mountinfo", live, BootMedium),
            ("proc/swaps", "Filename\n/dev/sda1 partition 8 0 -2\n", InUse),
            ("sys/block/sda/holders/md0/x", "", InUse),
            ("sys/block/sda/sda1/holders/dm-3/x", "", InUse),
            ("sys/block/loop0/loop/backing_file", "/dev/sda1\n", InUse),
            ("sys/block/sda/removable", "1\n", Removable),
            ("sys/block/sda/ro", "1\n", ReadOnly),
        ];
        for (file, content, expected) in cases {
            let tree = tree();
            tree.write(file, content);
            assert_eq!(tree.reasons(), [expected], "{file}: {content}");
        }
    }

    #[test]
    fn others_are_not_taken_for_this_disk() {
        let tree = tree();
        tree.write(
            "proc/self/mountinfo",
            "30 1 8:16 / /a rw - ext4 /dev/sdb rw\n31 1 8:17 / /b rw - ext4 /dev/sda11 rw\n",
        );
        tree.write("proc/swaps", "Filename\n/dev/sdaa partition 8 0 -2\n");
        tree.write("sys/block/sdb/holders/md0/x", "");
        assert!(tree.reasons().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_a_reason() {
        for gone in ["proc/self/mountinfo", "proc/swaps"] {
            let tree = tree();
            std::fs::remove_file(tree.root.path().join(gone)).expect("removed");
            assert_eq!(tree.reasons(), [RefusalKind::InUse], "{gone}");
        }
        let tree = tree();
        std::fs::remove_file(tree.root.path().join("sys/block/sda/ro")).expect("removed");
        std::fs::remove_file(tree.root.path().join("sys/block/sda/removable")).expect("removed");
        assert_eq!(tree.reasons(), [RefusalKind::Removable, RefusalKind::ReadOnly]);
    }

    #[test]
    fn a_disk_that_others_may_reach_is_shared() {
        use RefusalKind::Shared;
        assert_eq!(tree().reasons_of(Transport::Fc, &[]), [Shared]);
        assert_eq!(tree().reasons_of(Transport::Iscsi, &[]), [Shared]);
        assert_eq!(tree().reasons_of(Transport::Sas, &["sdb"]), [Shared]);
        let tree = tree();
        tree.write("sys/block/sda/device/transport", "tcp\n");
        assert_eq!(tree.reasons_of(Transport::Nvme, &[]), [Shared]);
        tree.write("sys/block/sda/device/transport", "pcie\n");
        assert!(tree.reasons_of(Transport::Nvme, &[]).is_empty());
    }

    #[tokio::test]
    async fn a_namespace_says_itself_whether_it_is_shared() {
        use std::os::unix::fs::PermissionsExt as _;
        let tree = tree();
        let survey = async || super::super::survey(&tree.machine, false).await;
        tree.write("sys/block/nvme0n1/dev", "259:0");
        for (file, content) in [("removable", "0"), ("ro", "0"), ("size", "2048")] {
            tree.write(&format!("sys/block/nvme0n1/{file}"), content);
        }
        let found = survey().await;
        let nvme = &found[0];
        assert!(nvme.refusals.is_empty() && nvme.problems[0].contains("no tool `nvme`"), "{nvme:?}");
        for (nmic, refusals) in [("1", 1), ("0", 0), ("3", 1)] {
            let script =
                format!("#!/bin/sh\n[ \"$1\" = id-ns ] || exit 9\necho '{{\"nsze\":1,\"nmic\":{nmic}}}'\n");
            tree.write("tools/nvme", &script);
            let tool = tree.root.path().join("tools/nvme");
            std::fs::set_permissions(tool, std::fs::Permissions::from_mode(0o755)).expect("executable");
            let found = survey().await;
            assert_eq!(
                (found[0].refusals.len(), found[0].problems.len()),
                (refusals, 0),
                "{nmic}: {found:?}"
            );
        }
    }
}
