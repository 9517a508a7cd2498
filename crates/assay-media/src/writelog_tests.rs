//! Logs as QEMU writes them, replayed; and logs that nobody should believe.

use std::path::Path;

use proptest::prelude::*;

use super::*;

const SECTOR: usize = 512;
const DISK: u64 = 64 << 10;

/// One entry: flags, first sector, sectors, and what every byte of its data is.
type Row = (u64, u64, u64, u8);

fn log(rows: &[Row]) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR];
    bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8..16].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&(rows.len() as u64).to_le_bytes());
    bytes[24..28].copy_from_slice(&(SECTOR as u32).to_le_bytes());
    for (flags, sector, sectors, fill) in rows {
        let mut head = vec![0; SECTOR];
        for (place, number) in [*sector, *sectors, *flags, 0].into_iter().enumerate() {
            head[place * 8..place * 8 + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes.extend(head);
        if flags & DISCARD == 0 {
            bytes.extend(vec![*fill; *sectors as usize * SECTOR]);
        }
    }
    bytes
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(log: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("log"), log).expect("written");
        for name in ["base", "image"] {
            File::create(folder.path().join(name)).expect("made").set_len(DISK).expect("sized");
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self) -> Result<WriteLog, MediaError> {
        WriteLog::read(&self.path("log"), DISK)
    }

    fn replay(&self) -> Replay {
        Replay::new(self.read().expect("a log"), &self.path("base"), &self.path("image")).expect("opened")
    }

    /// The first byte of each of the first sectors.
    fn sectors(&self) -> Vec<u8> {
        let image = std::fs::read(self.path("image")).expect("read");
        image.chunks(SECTOR).take(4).map(|sector| sector[0]).collect()
    }
}

#[test]
fn what_was_flushed_is_there_and_the_rest_is_not() {
    let bench = Bench::new(&log(&[
        (0, 0, 1, b'a'),
        (FLUSH, 0, 0, 0),
        (0, 1, 1, b'b'),
        (0, 0, 1, b'A'),
        (FLUSH, 0, 0, 0),
        (0, 3, 1, b'z'),
    ]));
    let log = bench.read().expect("a log");
    let boundaries = log.boundaries();
    let told: Vec<_> = boundaries.iter().map(|b| (b.moment, b.entries)).collect();
    assert_eq!(told, [(Moment::Start, 0), (Moment::Flush, 2), (Moment::Flush, 5), (Moment::End, 6)]);
    let mut replay = bench.replay();
    let seen: Vec<_> = boundaries
        .iter()
        .map(|boundary| {
            replay.to(boundary).expect("replayed");
            bench.sectors()
        })
        .collect();
    assert_eq!(seen, [[0, 0, 0, 0], [b'a', 0, 0, 0], [b'A', b'b', 0, 0], [b'A', b'b', 0, b'z']]);
    assert_eq!(boundaries[1].logged_by, 4 * 512, "superblock, an entry with a sector, a flush");
}

#[test]
fn a_write_that_was_forced_through_is_there_and_those_beside_it_are_not() {
    let bench =
        Bench::new(&log(&[(0, 0, 1, b'a'), (FUA, 1, 1, b'f'), (0, 1, 1, b'g'), (FUA | FLUSH, 2, 1, b'c')]));
    let mut replay = bench.replay();
    let boundaries = bench.read().expect("a log").boundaries();
    let seen: Vec<_> = boundaries
        .iter()
        .map(|boundary| {
            replay.to(boundary).expect("replayed");
            (boundary.moment, bench.sectors())
        })
        .collect();
    assert_eq!(seen[1], (Moment::Forced, vec![0, b'f', 0, 0]), "the write before it may be lost");
    assert_eq!(seen[2], (Moment::Flush, vec![b'a', b'g', b'c', 0]), "what came after it overwrites it");
}

#[test]
fn equal_disks_have_equal_names_however_they_came_about() {
    let bench = Bench::new(&log(&[
        (0, 0, 1, b'a'),
        (FLUSH, 0, 0, 0),
        (FLUSH, 0, 0, 0),
        (0, 0, 1, b'b'),
        (FLUSH, 0, 0, 0),
        (0, 0, 1, b'a'),
        (FLUSH, 0, 0, 0),
        (DISCARD, 0, 8, 0),
        (FLUSH, 0, 0, 0),
        (0, 16, 1, b'a'),
    ]));
    let mut replay = bench.replay();
    let boundaries = bench.read().expect("a log").boundaries();
    let names: Vec<_> = boundaries.iter().map(|b| replay.to(b).expect("replayed")).collect();
    let [start, first, again, other, back, discarded, elsewhere] = names.as_slice() else {
        panic!("{names:?}")
    };
    assert_eq!(first, again, "nothing was written between two flushes");
    assert_eq!(first, back);
    assert_eq!(start, discarded, "zeroes are what was there first");
    assert!(first != other && first != start && elsewhere != first, "{names:?}");
}

#[test]
fn a_log_that_nobody_should_believe_is_refused_with_the_reason() {
    let good = log(&[(0, 0, 1, b'a'), (FLUSH, 0, 0, 0)]);
    let bent = |at: usize, number: u64| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    for (bytes, says) in [
        (good[..100].to_vec(), "cut off"),
        (bent(0, 7), "does not begin with the superblock"),
        (bent(8, 2), "does not begin with the superblock"),
        (bent(16, u64::MAX), "do not fit"),
        (bent(16, 4), "cut off"),
        (bent(24, 0), "sectors of 0 bytes"),
        (bent(24, 513), "sectors of 513 bytes"),
        (bent(512, u64::MAX), "entry 0: behind the end of every disk"),
        (bent(512, 1 << 40), "entry 0: behind the end of the disk"),
        (bent(520, 129), "entry 0: behind the end of the disk"),
        (bent(520, 100), "entry 0: its data are cut off"),
        (bent(528, 64), "entry 0: unknown flags"),
        (good[..1024].to_vec(), "entry 0: its data are cut off"),
    ] {
        let said = Bench::new(&bytes).read().expect_err(says).to_string();
        assert!(said.contains(says), "{said} and not {says}");
    }
    let mut marked = log(&[(MARK, 0, 0, 0), (0, 0, 1, b'a')]);
    marked[512 + 24..512 + 32].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(Bench::new(&marked).read().is_err(), "a mark of any length");
    assert!(WriteLog::read(Path::new("/nonexistent"), DISK).is_err());
}

#[test]
fn a_disk_that_nothing_was_asked_of_has_a_log_without_a_byte() {
    let bench = Bench::new(&[]);
    let log = bench.read().expect("no entries");
    let told: Vec<_> = log.boundaries().iter().map(|b| (b.moment, b.entries)).collect();
    assert_eq!((told, log.written()), (vec![(Moment::Start, 0), (Moment::End, 0)], 0));
    bench.replay().to(&log.boundaries()[1]).expect("replayed");
    let busy =
        Bench::new(&self::log(&[(0, 0, 2, b'a'), (FLUSH, 0, 0, 0), (DISCARD, 0, 2, 0), (0, 0, 1, b'b')]));
    assert_eq!(busy.read().expect("a log").written(), 3 * 512);
}

#[test]
fn a_mark_is_passed_over() {
    let mut bytes = log(&[(MARK, 0, 0, 0), (0, 1, 1, b'a')]);
    let text = b"installed";
    bytes[512 + 24..512 + 32].copy_from_slice(&(text.len() as u64).to_le_bytes());
    let mut data = vec![0; SECTOR];
    data[..text.len()].copy_from_slice(text);
    bytes.splice(1024..1024, data);
    let bench = Bench::new(&bytes);
    bench.replay().to(bench.read().expect("a log").boundaries().last().expect("the end")).expect("replayed");
    assert_eq!(bench.sectors(), [0, b'a', 0, 0]);
}

proptest! {
    #[test]
    fn no_bytes_are_believed_without_a_look(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let _ = Bench::new(&bytes).read();
    }

    #[test]
    fn a_bent_log_is_read_or_refused(at in 0_usize..3072, number in any::<u64>()) {
        let mut bytes = log(&[(0, 0, 2, b'a'), (FLUSH, 0, 0, 0), (FUA, 4, 1, b'b')]);
        let end = (at + 8).min(bytes.len());
        let at = at.min(end);
        bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
        let bench = Bench::new(&bytes);
        if let Ok(log) = bench.read() {
            let mut replay = bench.replay();
            for boundary in log.boundaries() {
                replay.to(&boundary).expect("what was read can be replayed");
            }
        }
    }

    /// However the flushes fall, a disk at its end is what writing everything gives.
    #[test]
    fn the_end_is_everything(rows in proptest::collection::vec((0_u64..4, 0_u64..16, 0_u64..4, any::<u8>()), 0..20)) {
        let bench = Bench::new(&log(&rows));
        let mut replay = bench.replay();
        for boundary in bench.read().expect("a log").boundaries() {
            replay.to(&boundary).expect("replayed");
        }
        let mut disk = vec![0; DISK as usize];
        for (_, sector, sectors, fill) in &rows {
            disk[*sector as usize * SECTOR..(sector + sectors) as usize * SECTOR].fill(*fill);
        }
        prop_assert!(std::fs::read(bench.path("image")).expect("read") == disk);
    }
}
