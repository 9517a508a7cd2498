//! Running tools, and the images that they make.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_process::{Cmd, Output};
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

pub(crate) const IPXE: &str = "/usr/lib/ipxe/ipxe.iso";
pub(crate) const MEMTEST: &str = "/usr/lib/memtest86+/memtest86+x64.iso";

/// Runs a tool to its end.
pub(crate) fn output(command: &Cmd) -> Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let command = command.clone().timeout(Duration::from_mins(2));
    runtime.block_on(command.run()).expect("the tool is installed and ends")
}

/// Runs a tool that must succeed; what it said.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = output(&Cmd::new(program).args(args.iter().copied()));
    assert!(output.success(), "{program} {args:?}: {}", output.last_words());
    output.stdout_text().into_owned()
}

/// A folder of images.
pub(crate) struct Bench {
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A sparse file of zeros.
    pub(crate) fn blank(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).expect("a file").set_len(bytes).expect("a size");
        path
    }

    /// An image that GRUB's own tool makes: GPT, MBR, El Torito for BIOS and UEFI, an Apple map.
    pub(crate) fn grub_rescue(&self, name: &str) -> PathBuf {
        let (tree, iso) = (self.path("grub-tree"), self.path(name));
        std::fs::create_dir_all(tree.join("boot/grub")).expect("a folder");
        std::fs::write(tree.join("boot/grub/grub.cfg"), "set timeout=1\n").expect("written");
        std::fs::write(tree.join("A long name with blanks.txt"), "long\n").expect("written");
        run("grub-mkrescue", &["-o", text(&iso), text(&tree)]);
        iso
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("paths here are UTF-8")
}

/// One value that `blkid -p` prints.
pub(crate) fn blkid(path: &Path, tag: &str) -> Option<String> {
    let command = Cmd::new("blkid").args(["-p", "-o", "value", "-s", tag, text(path)]);
    let said = output(&command).stdout_text().trim().to_owned();
    (!said.is_empty()).then_some(said)
}

/// The types that `wipefs` lists, in order and once each.
pub(crate) fn wipefs(path: &Path) -> Vec<String> {
    let said = run("wipefs", &["--noheadings", "--output", "TYPE", text(path)]);
    let mut types: Vec<_> =
        said.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    types.sort();
    types.dedup();
    types
}
