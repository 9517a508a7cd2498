//! Images for tests, made without any tool, and ways to damage them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use uuid::Uuid;

use crate::SliceReader;
use crate::bytes::put;
use crate::fat::{Format, format, put_files};
use crate::source::Overlay;
use crate::table::{NewPartition, Sector, TYPE_ESP, TYPE_LINUX, write_gpt};

pub(crate) const MIB: u64 = 1 << 20;

/// A folder of images.
pub(crate) struct Bench {
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("a folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn blank(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).expect("a file").set_len(bytes).expect("a size");
        path
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }

    /// A FAT file system with a few files, short names and long ones.
    pub(crate) fn fat(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.blank(name, bytes);
        fill_fat(&open(&path));
        path
    }

    /// A disk with an EFI system partition (FAT, 4 MiB from 1 MiB on) and a Linux partition behind it.
    pub(crate) fn gpt(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.blank(name, bytes);
        let disk = open(&path);
        let part = |kind, label: &str, first: u64, last: u64| NewPartition {
            kind,
            guid: Uuid::from_u128(u128::from(first)),
            label: label.to_owned(),
            first,
            last,
        };
        let parts = [part(TYPE_ESP, "boot", 2048, 10_239), part(TYPE_LINUX, "root", 10_240, 12_287)];
        write_gpt(&disk, Sector::B512, Uuid::from_u128(7), &parts).expect("written");
        fill_fat(&disk.slice(MIB, 4 * MIB).expect("within"));
        path
    }
}

fn fill_fat(part: &SliceReader) {
    let volume = Overlay::over(part.clone());
    format(&volume, &Format { sector: 512, label: "STICK", serial: 0x1234_abcd, start: part.start() })
        .expect("formatted");
    let files: [(&str, &[u8]); 4] = [
        ("/EFI/BOOT/BOOTX64.EFI", &[0x4d; 9000]),
        ("/EFI/a name that is longer than thirteen.conf", b"timeout 5\n"),
        ("/empty", b""),
        ("/grün", b"leaves\n"),
    ];
    put_files(&volume, &files).expect("put");
    volume.commit().expect("written");
}

pub(crate) fn open(path: &Path) -> SliceReader {
    let file = File::options().read(true).write(true).open(path).expect("it opens");
    SliceReader::whole(file).expect("a size")
}

/// Changes bytes of an image.
pub(crate) fn poke(path: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(path).expect("it opens").write_all_at(bytes, at).expect("written");
}

pub(crate) fn peek(path: &Path, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open(path).expect("it opens").read_exact_at(&mut bytes, at).expect("read");
    bytes
}

/// Changes one bit.
pub(crate) fn flip(path: &Path, at: u64) {
    poke(path, at, &[peek(path, at, 1)[0] ^ 1]);
}

/// An ISO 9660 image by hand: Rock Ridge, an El Torito catalogue with a BIOS and an EFI entry, and these places.
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
}

impl Sample {
    pub(crate) const CATALOGUE: u64 = 19;
    pub(crate) const ROOT: u64 = 20;
    pub(crate) const FOLDER: u64 = 21;
    pub(crate) const FILE: u64 = 22;
    pub(crate) const BIOS: u64 = 23;
    pub(crate) const EFI: u64 = 24;

    /// Its root has `folder/` with `inner.txt` in it, `Long Name.txt` in two pieces, and `link` to `folder/inner.txt`.
    pub(crate) fn new() -> Self {
        let bench = Bench::new();
        let efi = std::fs::read(bench.fat("efi", MIB)).expect("read");
        let blocks = Self::EFI + efi.len() as u64 / 2048;
        let mut bytes = vec![0; blocks as usize * 2048];
        let mut block = |number: u64, raw: &[u8]| put(&mut bytes, number as usize * 2048, raw);

        let mut volume = vec![0; 2048];
        put(&mut volume, 0, b"\x01CD001\x01");
        put(&mut volume, 8, &[b' '; 64]);
        put(&mut volume, 40, b"SAMPLE");
        put(&mut volume, 80, &both32(blocks as u32));
        put(&mut volume, 128, &[0, 8, 8, 0]);
        put(&mut volume, 156, &record(b"\0", Self::ROOT, 2048, 2, &[]));
        put(&mut volume, 813, b"2026073112000000");
        block(16, &volume);
        let mut boot = vec![0; 2048];
        put(&mut boot, 0, b"\0CD001\x01EL TORITO SPECIFICATION");
        put(&mut boot, 71, &(Self::CATALOGUE as u32).to_le_bytes());
        block(17, &boot);
        block(18, b"\xffCD001\x01");

        let mut catalogue = vec![0; 160];
        put(&mut catalogue, 0, &[1, 0]);
        put(&mut catalogue, 28, &[0xaa, 0x55, 0x55, 0xaa]);
        put(&mut catalogue, 32, &[0x88, 0, 0, 0, 0, 0, 4, 0, Self::BIOS as u8]);
        put(&mut catalogue, 64, &[0x91, 0xef, 1, 0]);
        let sectors = (efi.len() / 512) as u16;
        put(&mut catalogue, 96, &[0x88, 0, 0, 0, 0, 0]);
        put(&mut catalogue, 102, &sectors.to_le_bytes());
        put(&mut catalogue, 104, &[Self::EFI as u8]);
        block(Self::CATALOGUE, &catalogue);

        let dot = [&b"SP\x07\x01\xbe\xef\0"[..], &posix(0o04_0755)].concat();
        let file = posix(0o10_0644);
        let root = [
            record(b"\0", Self::ROOT, 2048, 2, &dot),
            record(b"\x01", Self::ROOT, 2048, 2, &[]),
            record(b"FOLDER", Self::FOLDER, 2048, 2, &[&name(b"folder")[..], &posix(0o04_0755)].concat()),
            record(b"LINK.;1", 0, 0, 0, &[&name(b"link")[..], &posix(0o12_0777), LINK].concat()),
            record(b"LONG.TXT;1", Self::FILE, 2048, 0x80, &[&name(b"Long Name.txt")[..], &file].concat()),
            record(b"LONG.TXT;1", Self::FILE, 7, 0, &[&name(b"Long Name.txt")[..], &file].concat()),
        ];
        block(Self::ROOT, &root.concat());
        let folder = [
            record(b"\0", Self::FOLDER, 2048, 2, &[]),
            record(b"\x01", Self::ROOT, 2048, 2, &[]),
            record(b"INNER.TXT;1", Self::FILE, 6, 0, &[&name(b"inner.txt")[..], &file].concat()),
        ];
        block(Self::FOLDER, &folder.concat());
        block(Self::FILE, b"inner\n of a file");
        block(Self::BIOS, b"\xeb\xfe");
        block(Self::EFI, &efi);
        Self { bytes }
    }

    /// Where a name stands in a folder's block: the start of its record.
    pub(crate) fn record_of(&self, block: u64, name: &[u8]) -> usize {
        let at = block as usize * 2048;
        let within = self.bytes[at..at + 2048].windows(name.len()).position(|part| part == name);
        at + within.expect("the name") - 33
    }
}

/// The components of `folder/inner.txt`.
const LINK: &[u8] = b"SL\x18\x01\0\0\x06folder\0\x09inner.txt";

/// A number in both byte orders.
fn both32(value: u32) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

fn name(name: &[u8]) -> Vec<u8> {
    [&[b'N', b'M', name.len() as u8 + 5, 1, 0][..], name].concat()
}

fn posix(mode: u32) -> Vec<u8> {
    [&b"PX\x24\x01"[..], &both32(mode), &both32(1), &both32(1000), &both32(100)].concat()
}

fn record(name: &[u8], block: u64, length: u32, flags: u8, system_use: &[u8]) -> Vec<u8> {
    let padding = usize::from(name.len().is_multiple_of(2));
    let total = (33 + name.len() + padding + system_use.len()).next_multiple_of(2);
    let mut raw = vec![0; total];
    raw[0] = total as u8;
    put(&mut raw, 2, &both32(block as u32));
    put(&mut raw, 10, &both32(length));
    raw[25] = flags;
    put(&mut raw, 28, &[1, 0, 0, 1]);
    raw[32] = name.len() as u8;
    put(&mut raw, 33, name);
    put(&mut raw, 33 + name.len() + padding, system_use);
    raw
}

/// Damages an image in a new way in each round, lets `look` look at it, and repairs it again. A round that panics, takes
/// longer than ten seconds, or takes memory without bound fails the test; the round's number says how to repeat it.
pub(crate) fn in_many_ways(path: &Path, rounds: u64, look: impl Fn(&Path)) {
    let size = std::fs::metadata(path).expect("there").len();
    let places = places(path);
    for round in 0..rounds {
        let mut dice = Dice(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut undo = Vec::new();
        for _ in 0..=dice.below(4) {
            let at = places[dice.below(places.len() as u64) as usize] + dice.below(64);
            let length = [1, 1, 2, 4, 8][dice.below(5) as usize];
            if at + length as u64 > size {
                continue;
            }
            let old = peek(path, at, length);
            let new: Vec<u8> = match dice.below(6) {
                0 => vec![0; length],
                1 => vec![0xff; length],
                2 => old.iter().map(|byte| byte.wrapping_add(1)).collect(),
                3 => old.iter().map(|byte| byte ^ (1 << dice.below(8))).collect(),
                4 => old.iter().rev().copied().collect(),
                _ => old.iter().map(|_| dice.below(256) as u8).collect(),
            };
            poke(path, at, &new);
            undo.push((at, old));
        }
        let started = std::time::Instant::now();
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(path)));
        assert!(looked.is_ok(), "round {round} panicked; changed: {undo:?}");
        assert!(
            started.elapsed().as_secs() < 10,
            "round {round} took {:?}; changed: {undo:?}",
            started.elapsed()
        );
        for (at, old) in undo.into_iter().rev() {
            poke(path, at, &old);
        }
    }
}

/// Stretches of 64 bytes that hold anything: damage elsewhere is seldom seen.
fn places(path: &Path) -> Vec<u64> {
    let disk = open(path);
    let mut places = Vec::new();
    for extent in crate::sparse::extents(&disk) {
        let (from, to) = extent.expect("read");
        let bytes = peek(path, from, (to - from) as usize);
        let held = bytes.chunks(64).enumerate().filter(|(_, part)| part.iter().any(|byte| *byte != 0));
        places.extend(held.map(|(number, _)| from + number as u64 * 64));
    }
    places
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
