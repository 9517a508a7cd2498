//! Machines made of files: a folder that looks like `/` and one with fake tools.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use assay_model::host::inventory::Inventory;
use assay_probes::{Artifact, Machine, inventory};
use tempfile::TempDir;

/// A machine made of files.
pub(crate) struct Captured {
    pub(crate) folder: TempDir,
}

impl Captured {
    pub(crate) fn new() -> Self {
        let captured = Self { folder: tempfile::tempdir().expect("a folder") };
        fs::create_dir(captured.at("tools")).expect("a folder for tools");
        captured
            .file("proc/meminfo", "MemTotal:       65733944 kB\nMemFree: 1 kB\n")
            .file("proc/sys/kernel/osrelease", "6.1.0-49-amd64\n")
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let at = self.at(path);
        fs::create_dir_all(at.parent().expect("a parent")).expect("folders");
        fs::write(at, content).expect("written");
        self
    }

    pub(crate) fn files(self, folder: &str, files: &[(&str, &str)]) -> Self {
        files.iter().fold(self, |machine, (name, content)| machine.file(&format!("{folder}/{name}"), content))
    }

    /// A link at `path` to `target`, both below the root.
    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        let (at, target) = (self.at(path), self.at(target));
        fs::create_dir_all(at.parent().expect("a parent")).expect("folders");
        fs::create_dir_all(&target).expect("the target");
        symlink(target, at).expect("a link");
        self
    }

    /// A block device `name`, at `device` below `sys/devices`, of so many sectors, rotating or not.
    pub(crate) fn block(self, name: &str, device: &str, sectors: u64, rotational: u8) -> Self {
        let folder = format!("sys/devices/{device}/block/{name}");
        self.file(&format!("{folder}/size"), format!("{sectors}\n"))
            .file(&format!("{folder}/queue/rotational"), rotational.to_string())
            .file(&format!("{folder}/queue/logical_block_size"), "512\n")
            .file(&format!("{folder}/queue/physical_block_size"), "4096\n")
            .file(&format!("{folder}/removable"), "0\n")
            .link(&format!("sys/block/{name}"), &folder)
            .link(&format!("{folder}/device"), &format!("sys/devices/{device}"))
    }

    /// A program of that name that prints `output`.
    pub(crate) fn tool(self, name: &str, script: &str) -> Self {
        let path = format!("tools/{name}");
        let machine = self.file(&path, format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(machine.at(&path), fs::Permissions::from_mode(0o755)).expect("made executable");
        machine
    }

    pub(crate) async fn inventory(&self) -> (Inventory, Vec<Artifact>) {
        inventory(&Machine::captured(self.folder.path(), Some(self.at("tools")))).await
    }
}

pub(crate) const HBA: &str = "pci0000:00/0000:00:1c.0/0000:03:00.0";

pub(crate) fn page_80(serial: &str) -> Vec<u8> {
    let mut page = vec![0, 0x80, 0, u8::try_from(serial.len()).expect("short")];
    page.extend(serial.as_bytes());
    page
}

/// Page 0x89 with serial, firmware and model at their words of the IDENTIFY data, bytes swapped as on the wire.
pub(crate) fn page_89(serial: &str, firmware: &str, model: &str) -> Vec<u8> {
    let mut page = vec![0; 60 + 512];
    page[1] = 0x89;
    for (text, first, length) in [(serial, 20, 20), (firmware, 46, 8), (model, 54, 40)] {
        let padded = format!("{text:<length$}");
        for (index, pair) in padded.as_bytes().chunks(2).enumerate() {
            page[60 + first + index * 2] = pair[1];
            page[60 + first + index * 2 + 1] = pair[0];
        }
    }
    page
}
