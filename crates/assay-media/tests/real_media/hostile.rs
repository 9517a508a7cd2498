//! Damaged images of the real tools: whatever is wrong with them, it is told, and nothing panics, loops or fills memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use assay_media::stage::{append_esp, stage_files};
use assay_media::{Disk, Iso, SliceReader, Tree, probe};

use crate::tools::{Bench, IPXE, MEMTEST, MIB, run, text};

/// Damages an image, lets `look` look, and repairs it, as often as asked. The damage is in stretches that hold
/// something, and each round can be repeated from its number.
fn in_many_ways(path: &Path, rounds: u64, look: impl Fn(&Path)) {
    let file = File::options().read(true).write(true).open(path).expect("it opens");
    let bytes = std::fs::read(path).expect("read");
    let held: Vec<u64> = (0_u64..)
        .step_by(32)
        .zip(bytes.chunks(32))
        .filter(|(_, part)| part.iter().any(|byte| *byte != 0))
        .map(|(at, _)| at)
        .collect();
    // Most metadata stand in front: half of the damage goes there.
    let front = held.len().min(4096);
    for round in 0..rounds {
        let mut state = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % limit as u64) as usize
        };
        let mut undo = Vec::new();
        for _ in 0..=below(4) {
            let places = if below(2) == 0 { &held[..front] } else { &held[..] };
            let at = places[below(places.len())] as usize + below(32);
            let length = [1, 2, 4][below(3)].min(bytes.len() - at);
            let value = [0, 0xff, 0x01, 0x80, below(256) as u8][below(5)];
            file.write_all_at(&vec![value; length], at as u64).expect("written");
            undo.push((at, length));
        }
        let started = Instant::now();
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(path)));
        assert!(looked.is_ok(), "round {round} panicked; changed: {undo:?}");
        assert!(
            started.elapsed().as_secs() < 20,
            "round {round} took {:?}; changed: {undo:?}",
            started.elapsed()
        );
        for (at, length) in undo {
            file.write_all_at(&bytes[at..at + length], at as u64).expect("repaired");
        }
    }
}

fn look_at_iso(path: &Path) {
    let Ok(iso) = Iso::open(path) else { return };
    drop(iso.facts());
    for node in iso.files().unwrap_or_default() {
        drop(iso.read(&node.path, 64 << 10));
    }
}

fn look_at_disk(path: &Path) {
    drop(probe(&SliceReader::open(path).expect("it opens")));
    let Ok(disk) = Disk::open(path) else { return };
    for partition in disk.partitions() {
        if let Ok(tree) = disk.tree(partition) {
            look_into(&tree);
        }
    }
    if let Ok(tree) = disk.whole_tree() {
        look_into(&tree);
    }
}

fn look_into(tree: &Tree) {
    for node in tree.walk().unwrap_or_default() {
        drop(tree.read(&node.path, MIB));
        drop(tree.metadata(&node.path));
    }
}

fn copy(bench: &Bench, from: &Path) -> std::path::PathBuf {
    let path = bench.path("copy");
    std::fs::copy(from, &path).expect("copied");
    path
}

#[test]
fn isos_of_debians_packages_and_of_xorriso() {
    let bench = Bench::new();
    in_many_ways(&copy(&bench, IPXE.as_ref()), 500, look_at_iso);
    in_many_ways(&copy(&bench, MEMTEST.as_ref()), 300, look_at_iso);
    let tree = bench.path("tree");
    std::fs::create_dir_all(tree.join("a/b/c")).expect("folders");
    std::fs::write(tree.join("a/b/c/file"), "data").expect("written");
    std::os::unix::fs::symlink("a/b/c/file", tree.join(format!("link {}", "x".repeat(200)))).expect("linked");
    for options in [&["-R"][..], &["-J", "--norock"]] {
        let iso = bench.path("image.iso");
        let args = [&["-as", "mkisofs", "-quiet", "-o", text(&iso)], options, &[text(&tree)]].concat();
        run("xorriso", &args);
        in_many_ways(&iso, 600, look_at_iso);
    }
}

#[test]
fn file_systems_of_mkfs() {
    let bench = Bench::new();
    let folder = bench.path("root");
    std::fs::create_dir_all(folder.join("etc/deep")).expect("folders");
    for number in 0..20 {
        std::fs::write(folder.join(format!("etc/file {number}")), vec![1; number * 500]).expect("written");
    }
    std::os::unix::fs::symlink("x/".repeat(100), folder.join("long")).expect("linked");
    std::os::unix::fs::symlink("etc/deep", folder.join("short")).expect("linked");
    // Without checksums damage gets further in.
    for (kind, options) in [("ext4", "^metadata_csum"), ("ext4", "metadata_csum"), ("ext2", "^has_journal")] {
        let image = bench.blank("ext", 12 * MIB);
        run(
            "mke2fs",
            &["-q", "-F", "-t", kind, "-O", options, "-b", "1024", "-d", text(&folder), text(&image)],
        );
        in_many_ways(&image, 120, look_at_disk);
    }
    for (bits, size) in [("12", 2 * MIB), ("16", 9 * MIB), ("32", 34 * MIB)] {
        let image = bench.blank("fat", size);
        run("mkfs.vfat", &["-F", bits, "-s", "1", text(&image)]);
        run("mcopy", &["-s", "-i", text(&image), text(&folder.join("etc")), "::/"]);
        in_many_ways(&image, 100, look_at_disk);
    }
}

#[test]
fn a_journal_that_is_to_be_replayed() {
    let bench = Bench::new();
    let image = bench.blank("ext", 12 * MIB);
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "1024", text(&image)]);
    let (script, noise) = (bench.path("script"), bench.path("noise"));
    std::fs::write(&noise, vec![3; 1024]).expect("written");
    std::fs::write(&script, format!("jo -c\njw -b 3000,3001 -r 3002 {}\njc\n", text(&noise)))
        .expect("written");
    run("debugfs", &["-w", "-f", text(&script), text(&image)]);
    in_many_ways(&image, 400, look_at_disk);
}

#[test]
fn tables_with_file_systems_behind_them() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 16 * MIB);
    run("sgdisk", &["-n", "1:0:+4M", "-t", "1:ef00", "-n", "2:0:+4M", text(&disk)]);
    run("mkfs.vfat", &["-F", "12", "--offset", "2048", text(&disk), "4096"]);
    in_many_ways(&disk, 500, look_at_disk);
    let whole = std::fs::read(&disk).expect("read");
    in_many_ways(&disk, 60, |path| {
        drop(stage_files(path, &[("/folder/file", &[1; 5000])]));
        drop(append_esp(path, 2 * MIB, "MORE", &[("/file", b"x")]));
        std::fs::write(path, &whole).expect("restored");
    });
}
