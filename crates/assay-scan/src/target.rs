//! Opening a device so that only the one that was meant can be written.
//!
//! A path is no identity: `/dev/sdb` may be another disk than a second ago. The device is opened once, exclusively;
//! who it is, is read for the open descriptor; and only [`Opened::admit`], given the identity that the caller
//! demands, makes a [`Scannable`], which is all that can be written to. Every pass uses that same descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, SeekFrom, major, minor};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Setter, ioctl, opcode};

use crate::identity::{ExpectedIdentity, Identity, IdentityError, Told};

/// Block size for regular files: what direct I/O on any file system here accepts.
const FILE_BLOCK: u32 = 4096;
const BLKZEROOUT: u32 = opcode::none(0x12, 127);
const BLKGETDISKSEQ: u32 = opcode::read::<u64>(0x12, 128);

/// A process that was killed holds its claim until the kernel has seen its last requests off.
const LET_GO: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The way to a device.
#[derive(Debug)]
pub enum Target {}

/// An open device whose identity nobody has checked yet: it can be looked at, not written.
#[derive(Debug)]
pub struct Opened {
    handle: Handle,
}

/// An open device that is the one that was demanded.
#[derive(Debug)]
pub struct Scannable {
    pub(crate) handle: Handle,
}

/// The one descriptor, and what was read for it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) file: File,
    pub(crate) identity: Identity,
    is_block: bool,
    /// The device's folder in sysfs, and the number that tells it from an earlier device of the same name.
    sysfs: Option<(PathBuf, Option<u64>)>,
}

/// A device could not be opened for scanning.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is neither.
    #[error("{path} is neither a block device nor a file; name the whole disk")]
    NotADevice {
        /// What was to be opened.
        path: PathBuf,
    },
    /// Mounted, part of an array, volume group or pool, or being scanned.
    #[error("{path} is in use (mounted, part of an array or pool, or being scanned); release it first")]
    Busy {
        /// What was to be opened.
        path: PathBuf,
    },
    /// A partition.
    #[error("{path} is a partition; name the whole disk")]
    Partition {
        /// What was to be opened.
        path: PathBuf,
    },
    /// The device does not let itself be written.
    #[error("{path} is read-only; look for a write-protect switch, or for a disk that has locked itself")]
    ReadOnly {
        /// What was to be opened.
        path: PathBuf,
    },
    /// Another device stands under that number than the one that was opened.
    #[error("{path} was exchanged while it was being opened; try again")]
    Exchanged {
        /// What was to be opened.
        path: PathBuf,
    },
    /// No room, or not whole blocks.
    #[error("{path} has {bytes} bytes, which is no number of whole blocks of {block}; check its connection")]
    Size {
        /// What was to be opened.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// Its logical block.
        block: u32,
    },
    /// The system refused.
    #[error("cannot open {path} for scanning: {problem}")]
    Io {
        /// What was to be opened.
        path: PathBuf,
        /// Why.
        #[source]
        problem: io::Error,
    },
}

impl Target {
    /// Opens a device exclusively and reads who it is. `sysroot` is where sysfs lies (`/sys`). Waits up to two seconds
    /// for one that is in use, so that a scan that was killed can be resumed at once.
    pub fn open(path: &Path, sysroot: &Path) -> Result<Opened, OpenError> {
        let io = |problem: io::Error| OpenError::Io { path: path.to_owned(), problem };
        // Opening something that is neither could wait forever (a pipe) or do something (a terminal).
        let kind = std::fs::metadata(path).map_err(io)?.file_type();
        if !kind.is_block_device() && !kind.is_file() {
            return Err(OpenError::NotADevice { path: path.to_owned() });
        }
        // On a block device O_EXCL claims it for us alone: refused while it is mounted or part of anything.
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = match claim(path, flags) {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::BUSY) => return Err(OpenError::Busy { path: path.to_owned() }),
            Err(Errno::ROFS) => return Err(OpenError::ReadOnly { path: path.to_owned() }),
            Err(other) => return Err(io(other.into())),
        };
        // From here on only the descriptor counts; what the path names may change.
        let metadata = file.metadata().map_err(io)?;
        if metadata.file_type().is_block_device() {
            block_device(path, file, metadata.rdev(), sysroot)
        } else if metadata.is_file() {
            regular_file(path, file, (metadata.dev(), metadata.ino()))
        } else {
            Err(OpenError::NotADevice { path: path.to_owned() })
        }
    }
}

impl Opened {
    /// Who the open device is.
    pub fn identity(&self) -> &Identity {
        &self.handle.identity
    }

    /// Lets it be written if it is the demanded one.
    pub fn admit(self, expected: &ExpectedIdentity) -> Result<Scannable, IdentityError> {
        self.handle.identity.check(expected)?;
        Ok(Scannable { handle: self.handle })
    }
}

impl Scannable {
    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.handle.identity
    }
}

impl Handle {
    /// Zeroes whole blocks by the device's own command or, where it has none, by the kernel.
    pub(crate) fn zero(&self, offset: u64, length: u64) -> Result<(), Errno> {
        if !self.is_block {
            return Err(Errno::OPNOTSUPP);
        }
        #[expect(unsafe_code, reason = "an ioctl that no library wraps")]
        // SAFETY: BLKZEROOUT reads two 64-bit numbers, first byte and length, and keeps no address.
        unsafe {
            ioctl(&self.file, Setter::<BLKZEROOUT, [u64; 2]>::new([offset, length]))
        }
    }

    /// Whether the device that was opened is still there, with the size that it had.
    pub(crate) fn is_there(&self) -> bool {
        let present = self.sysfs.as_ref().is_none_or(|(folder, diskseq)| {
            folder.exists() && diskseq.is_none_or(|number| Told::read(folder).diskseq == Some(number))
        });
        present && size(&self.file).is_ok_and(|bytes| bytes == self.identity.bytes)
    }
}

fn claim(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let since = Instant::now();
    loop {
        match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::BUSY) if since.elapsed() < LET_GO => std::thread::sleep(LOOK_AGAIN),
            other => return other,
        }
    }
}

fn block_device(path: &Path, file: File, rdev: u64, sysroot: &Path) -> Result<Opened, OpenError> {
    let own = || path.to_owned();
    let io = |problem: io::Error| OpenError::Io { path: own(), problem };
    let folder = sysroot.join(format!("dev/block/{}:{}", major(rdev), minor(rdev)));
    let told = Told::read(&folder);
    let sequence = disk_sequence(&file);
    // The number of a disk that was pulled is given to the next one; its sequence number is not.
    if let (Some(open), Some(there)) = (sequence, told.diskseq)
        && open != there
    {
        return Err(OpenError::Exchanged { path: own() });
    }
    if told.is_partition {
        return Err(OpenError::Partition { path: own() });
    }
    if told.is_read_only {
        return Err(OpenError::ReadOnly { path: own() });
    }
    let bytes = size(&file).map_err(io)?;
    if told.bytes.is_some_and(|there| there != bytes) {
        return Err(OpenError::Exchanged { path: own() });
    }
    let logical_block = rustix::fs::ioctl_blksszget(&file).map_err(|errno| io(errno.into()))?;
    let physical_block = rustix::fs::ioctl_blkpbszget(&file).unwrap_or(logical_block);
    let file_name = || path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let identity = Identity {
        name: told.name.unwrap_or_else(file_name),
        serial: told.serial,
        wwn: told.wwn,
        model: told.model,
        bytes,
        logical_block,
        physical_block: physical_block.max(logical_block),
    };
    let sysfs = folder.exists().then_some((folder, told.diskseq));
    opened(path, Handle { file, identity, is_block: true, sysfs })
}

fn regular_file(path: &Path, file: File, numbers: (u64, u64)) -> Result<Opened, OpenError> {
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(OpenError::Busy { path: path.to_owned() }),
        Err(other) => return Err(OpenError::Io { path: path.to_owned(), problem: other.into() }),
    }
    let bytes = size(&file).map_err(|problem| OpenError::Io { path: path.to_owned(), problem })?;
    let identity = Identity {
        name: path.to_string_lossy().into_owned(),
        serial: Some(format!("file:{}:{}", numbers.0, numbers.1)),
        wwn: None,
        model: None,
        bytes,
        logical_block: FILE_BLOCK,
        physical_block: FILE_BLOCK,
    };
    opened(path, Handle { file, identity, is_block: false, sysfs: None })
}

fn opened(path: &Path, handle: Handle) -> Result<Opened, OpenError> {
    let (bytes, block) = (handle.identity.bytes, handle.identity.logical_block);
    if bytes == 0 || !bytes.is_multiple_of(u64::from(block.max(512))) {
        return Err(OpenError::Size { path: path.to_owned(), bytes, block });
    }
    Ok(Opened { handle })
}

/// The end of the device as the descriptor knows it, which is what BLKGETSIZE64 says as well.
fn size(file: &File) -> io::Result<u64> {
    Ok(rustix::fs::seek(file.as_fd(), SeekFrom::End(0))?)
}

/// The number of the disk behind the descriptor, which no other disk gets until the next boot; none before Linux 5.15.
fn disk_sequence(file: &File) -> Option<u64> {
    #[expect(unsafe_code, reason = "an ioctl that no library wraps")]
    // SAFETY: BLKGETDISKSEQ writes one 64-bit number and keeps no address.
    unsafe {
        ioctl(file, Getter::<BLKGETDISKSEQ, u64>::new()).ok()
    }
}
