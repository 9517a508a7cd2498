//! Looking for data that nothing announces: both ends of a disk in full, and a sample out of each of many equal parts
//! between them.
//!
//! Read past the cache, so that it is the disk that answers. What an earlier surface scan or `fio` of Assay left is
//! told apart from what somebody may miss: each of their sectors names itself.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use assay_model::host::storage::{RawData, WipeProbe};
use rustix::fs::{OFlags, major, minor};

use super::signatures::{self, Ends};
use super::{END, Thoroughness};

/// The unit in which data are looked for.
const SECTOR: usize = 512;
/// Alignment of direct reads: no disk has larger logical blocks.
const ALIGN: usize = 4096;
/// Bytes of one sample.
const SAMPLE: u64 = 64 << 10;
/// Bytes of one request where all is read.
const REQUEST: u64 = 1 << 20;
/// A disk of no more than this is read in full.
const SMALL: u64 = 512 << 20;
/// More bytes that cannot be read than this, and the disk cannot be said to be empty.
const MAX_UNREADABLE: u64 = 256 << 10;
/// Data are counted up to this; then it is clear that there are some.
const ENOUGH: u64 = 4 << 20;

/// What the surface scan puts into its sectors (see `assay-scan`, pattern.rs): a magic and a version, masked with what
/// follows 32 bytes later.
const SCAN_MAGIC: u64 = u64::from_le_bytes(*b"assayscn");
const SCAN_VERSION: u64 = 1;
/// What `fio` is told to write.
pub(crate) const FIO_PATTERN: [u8; 16] = *b"assay-fio-block!";

/// A disk could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The path does not lead to the disk any more.
    #[error(
        "{path} leads to device {found}, not to {wanted}: it is another disk now; take a fresh inventory"
    )]
    Another {
        /// The path.
        path: String,
        /// What it leads to.
        found: String,
        /// What it should lead to.
        wanted: String,
    },
    /// It was pulled out, or lost its power.
    #[error("{path} went away while it was looked at; reseat the disk and its cable and check its power")]
    Gone {
        /// The path.
        path: String,
    },
    /// So much of it is unreadable that nobody can say what it holds.
    #[error(
        "more than {MAX_UNREADABLE} bytes of {path} cannot be read, so that nobody can say what it holds; replace it"
    )]
    Unreadable {
        /// The path.
        path: String,
    },
    /// The system refused.
    #[error("cannot look at {path}: {problem}")]
    Io {
        /// The path.
        path: String,
        /// Why.
        #[source]
        problem: io::Error,
    },
}

/// Looks at a disk that has so many bytes and this device number (`8:16`). Blocking; a minute on a large disk.
pub(super) fn look(
    path: &Path,
    device: &str,
    bytes: u64,
    how: Thoroughness,
    resumed: bool,
    seed: u64,
) -> Result<WipeProbe, ProbeError> {
    let name = || path.display().to_string();
    let failed = |problem| ProbeError::Io { path: name(), problem };
    let flags = (OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).map_err(|error| failed(io::Error::other(error)))?;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let number = file.metadata().map_err(failed)?.rdev();
    let found = format!("{}:{}", major(number), minor(number));
    if found != device {
        return Err(ProbeError::Another { path: name(), found, wanted: device.to_owned() });
    }
    let mut probe = Probe {
        reader: Reader::new(file, bytes),
        result: WipeProbe { device_bytes: bytes, ..WipeProbe::default() },
        resumed,
    };
    let outcome = probe.run(how, seed);
    let unreadable = probe.result.unreadable_bytes > MAX_UNREADABLE;
    if (outcome.is_err() || unreadable) && is_gone(&probe.reader.file, bytes) {
        return Err(ProbeError::Gone { path: name() });
    }
    outcome.map_err(failed)?;
    probe.result.slowest_ms = u64::try_from(probe.reader.slowest.as_millis()).unwrap_or(u64::MAX);
    if unreadable {
        return Err(ProbeError::Unreadable { path: name() });
    }
    Ok(probe.result)
}

/// Whether the disk behind an open file has gone: the kernel then gives it the size 0, and reads find an end or fail as
/// if the medium were bad.
fn is_gone(mut file: &File, bytes: u64) -> bool {
    bytes > 0 && file.seek(SeekFrom::End(0)).is_ok_and(|size| size == 0)
}

/// Reads whole blocks past the cache.
struct Reader {
    file: File,
    bytes: u64,
    memory: Vec<u8>,
    start: usize,
    /// The slowest request but the first, which may have had to wake the disk.
    slowest: Duration,
    awake: bool,
}

impl Reader {
    fn new(file: File, bytes: u64) -> Self {
        let memory = vec![0; REQUEST as usize + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN);
        Self { file, bytes, memory, start, slowest: Duration::ZERO, awake: false }
    }

    /// Up to a request's bytes from an aligned offset on.
    fn read(&mut self, offset: u64, length: u64) -> io::Result<&[u8]> {
        let length = length.min(REQUEST).min(self.bytes.saturating_sub(offset)) as usize;
        let buffer = &mut self.memory[self.start..self.start + length];
        let began = Instant::now();
        let read = self.file.read_exact_at(buffer, offset);
        if self.awake {
            self.slowest = self.slowest.max(began.elapsed());
        }
        self.awake = true;
        read.map(|()| &*buffer)
    }
}

struct Probe {
    reader: Reader,
    result: WipeProbe,
    resumed: bool,
}

impl Probe {
    fn run(&mut self, how: Thoroughness, seed: u64) -> io::Result<()> {
        let bytes = self.reader.bytes;
        let end = END.min(bytes);
        let head = self.region(0, end)?;
        // From a request's boundary on, so that every request is aligned.
        let tail_at = (bytes - end) / ALIGN as u64 * ALIGN as u64;
        let tail = self.region(tail_at.max(end), bytes)?;
        let whole_tail = if tail_at >= end { tail } else { [&head[tail_at as usize..], &tail].concat() };
        let ends = Ends { head: &head, tail: &whole_tail, size: bytes };
        let own = |offset: u64| {
            let sector = offset / SECTOR as u64 * SECTOR as u64;
            ends.at(sector, SECTOR).is_some_and(|bytes| is_own(bytes, sector, self.resumed))
        };
        let found = signatures::find(&ends);
        self.result.signatures = found.into_iter().filter(|signature| !own(signature.offset)).collect();

        let (from, to) = (end, tail_at.max(end));
        if bytes <= SMALL {
            let mut offset = from;
            while offset < to && !self.is_enough() {
                self.piece(offset, REQUEST.min(to - offset))?;
                offset += REQUEST;
            }
            return Ok(());
        }
        let samples = how.samples();
        self.result.samples = samples;
        let mut random = seed;
        for number in 0..samples {
            if self.is_enough() {
                break;
            }
            let edge = |n: u64| from + (u128::from(to - from) * u128::from(n) / u128::from(samples)) as u64;
            let room = (edge(number + 1) - edge(number)).saturating_sub(SAMPLE);
            random = next_random(random);
            let offset = edge(number) + if room == 0 { 0 } else { random % room };
            self.piece(offset / ALIGN as u64 * ALIGN as u64, SAMPLE)?;
        }
        Ok(())
    }

    fn is_enough(&self) -> bool {
        self.result.data.is_some_and(|data| data.bytes >= ENOUGH)
            || self.result.unreadable_bytes > MAX_UNREADABLE
    }

    /// All bytes of a region, unreadable ones as zeros.
    fn region(&mut self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut offset = from;
        while offset < to {
            let length = REQUEST.min(to - offset);
            all.extend(self.piece(offset, length)?);
            offset += length;
        }
        Ok(all)
    }

    /// Reads and examines; what cannot be read is tried again in blocks and counted.
    fn piece(&mut self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        match self.reader.read(offset, length) {
            Ok(bytes) => {
                let bytes = bytes.to_vec();
                self.examine(offset, &bytes);
                Ok(bytes)
            }
            Err(problem) if is_medium(&problem) => self.in_blocks(offset, length),
            Err(problem) => Err(problem),
        }
    }

    fn in_blocks(&mut self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        for at in (offset..offset + length).step_by(ALIGN) {
            let block = (ALIGN as u64).min(offset + length - at);
            let read = if self.result.unreadable_bytes > MAX_UNREADABLE {
                // It is said to be unreadable already; every further try costs seconds of the disk's own retries.
                Err(io::Error::other("not tried"))
            } else {
                self.reader.read(at, block).map(<[u8]>::to_vec)
            };
            match read {
                Ok(bytes) => {
                    self.examine(at, &bytes);
                    all.extend(bytes);
                }
                Err(problem) if is_medium(&problem) || self.result.unreadable_bytes > MAX_UNREADABLE => {
                    self.result.unreadable_bytes += block;
                    all.resize(all.len() + block as usize, 0);
                }
                Err(problem) => return Err(problem),
            }
        }
        Ok(all)
    }

    fn examine(&mut self, offset: u64, bytes: &[u8]) {
        self.result.read_bytes += bytes.len() as u64;
        for (sector, at) in bytes.chunks(SECTOR).zip((offset..).step_by(SECTOR)) {
            if is_blank(sector) {
                continue;
            }
            if is_own(sector, at, self.resumed) {
                self.result.own_bytes += sector.len() as u64;
                continue;
            }
            let data = self.result.data.get_or_insert(RawData { offset: at, bytes: 0 });
            data.offset = data.offset.min(at);
            data.bytes += sector.len() as u64;
        }
    }
}

/// Zeros, or ones throughout: what erased flash reads as on some disks.
fn is_blank(sector: &[u8]) -> bool {
    let first = sector.first().copied().unwrap_or_default();
    matches!(first, 0 | 0xff) && sector.iter().all(|byte| *byte == first)
}

/// Whether a sector at this place is one that Assay wrote there. The patterns of one byte say nothing of themselves:
/// they count only on a disk whose scan is being gone on with.
fn is_own(sector: &[u8], at: u64, resumed: bool) -> bool {
    let word = |number: usize| {
        let bytes = sector.get(number * 8..number * 8 + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    let name = |number: usize| Some(word(number)? ^ word(number + 4)?);
    let is_scan = name(0) == Some(SCAN_MAGIC) && name(3) == Some(SCAN_VERSION) && name(1) == Some(at);
    let constant = |byte: u8| sector.iter().all(|other| *other == byte);
    is_scan
        || sector.chunks(FIO_PATTERN.len()).all(|part| part == FIO_PATTERN)
        || (resumed && (constant(0xaa) || constant(0x55)))
}

/// The medium does not give the bytes, as opposed to the disk being gone.
fn is_medium(problem: &io::Error) -> bool {
    use rustix::io::Errno;
    let medium = [Errno::IO, Errno::NODATA, Errno::ILSEQ, Errno::REMOTEIO, Errno::TIMEDOUT];
    medium.iter().any(|errno| problem.raw_os_error() == Some(errno.raw_os_error()))
}

/// SplitMix64.
fn next_random(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_is_zeros_or_erased_flash_and_nothing_else() {
        assert!(is_blank(&[0; 512]) && is_blank(&[0xff; 512]));
        assert!(!is_blank(&[0xaa; 512]));
        let mut sector = [0; 512];
        sector[511] = 1;
        assert!(!is_blank(&sector));
        let mut sector = [0xff; 512];
        sector[100] = 0;
        assert!(!is_blank(&sector));
    }

    #[test]
    fn a_disk_that_is_gone_is_not_a_bad_medium() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        let open = |size: u64| {
            let file = File::create(&path).expect("made");
            file.set_len(size).expect("sized");
            file
        };
        assert!(!is_gone(&open(4096), 4096), "it only cannot be read");
        assert!(is_gone(&open(0), 4096));
        assert!(!is_gone(&open(0), 0), "it never had a size");
    }

    #[test]
    fn a_sector_of_a_scan_is_known_only_in_its_own_place() {
        let mut sector = [0x5b_u8; 512];
        let place = 7_u64 << 30;
        for (number, word) in [SCAN_MAGIC, place, 0x1234, SCAN_VERSION].into_iter().enumerate() {
            let mask = u64::from_le_bytes([0x5b; 8]);
            sector[number * 8..][..8].copy_from_slice(&(word ^ mask).to_le_bytes());
        }
        assert!(is_own(&sector, place, false));
        assert!(!is_own(&sector, place + 512, false), "somebody copied it");
        let inverse: Vec<u8> = sector.iter().map(|byte| !byte).collect();
        assert!(is_own(&inverse, place, false));
        sector[3] ^= 1;
        assert!(!is_own(&sector, place, false));
        assert!(!is_own(&sector[..16], place, false), "too short to say");
    }

    #[test]
    fn what_fio_left_is_known_and_constants_only_on_a_resumed_disk() {
        let fio: Vec<u8> = FIO_PATTERN.iter().copied().cycle().take(512).collect();
        assert!(is_own(&fio, 0, false));
        assert!(!is_own(&[0xaa; 512], 0, false) && is_own(&[0xaa; 512], 0, true));
        assert!(!is_own(&[0x11; 512], 0, true));
    }
}
