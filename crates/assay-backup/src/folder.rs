//! Folders whose content is a stranger's, worked on by root: every path starts at an open folder, stays below it, and follows no
//! link. A container may change what lies there at any moment, so nothing is looked at by name and used by name afterwards.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fchmod, fchown, fstat, linkat,
        mkdirat, open, openat2, renameat, statat, unlinkat,
    },
    io::Errno,
    process::{Gid, Uid},
};
use sha2::{Digest, Sha256};

/// Folders in folders; deeper ones are refused. Each costs an open file.
const DEPTH: usize = 256;
/// Names read of one folder at a time.
const NAMES: usize = 200_000;

/// No way out, and no link on the way or at its end. (`O_NOFOLLOW` beside it would tell a link as "no folder".)
const BELOW: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file.
    File,
    /// A symbolic link.
    Link,
    /// A device, a socket, a pipe.
    Other,
    /// Nothing is there.
    Nothing,
}

/// What is seen while a folder is walked.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The folder that it is in.
    pub parent: &'a Folder,
    /// Its name in there.
    pub name: &'a [u8],
    /// Its path from where the walk began, bytes that are no text replaced.
    pub path: &'a str,
    /// What it is.
    pub kind: Kind,
    /// Its owner, mode, size and times.
    pub stat: &'a Stat,
}

/// How a walk ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Walked {
    /// By who was shown.
    Stopped,
    /// At its end; whether everything was shown.
    All(bool),
}

/// The hash of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// SHA-256 in hex digits.
    pub sha256: String,
    /// How many bytes that were.
    pub bytes: u64,
}

impl Folder {
    /// Opens a folder of this machine's own by its path; its last part may not be a link.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { fd: open(path, flags, Mode::empty())? })
    }

    /// Opens a folder below it. The empty path is itself.
    ///
    /// # Errors
    /// `ELOOP` where a part is a link, `EXDEV` where it leads out.
    pub fn folder(&self, path: &str) -> Result<Self, Errno> {
        let fd = self.open_below(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Opens a file below it for reading. Pipes and devices are opened by nobody: they may block or answer.
    ///
    /// # Errors
    /// `EINVAL` when it is no plain file; as [`Folder::folder`].
    pub fn file(&self, path: &str) -> Result<File, Errno> {
        let fd = self.open_below(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        Ok(File::from(fd))
    }

    /// Makes a file that must not be there yet, for writing.
    ///
    /// # Errors
    /// `EEXIST`; as [`Folder::folder`].
    pub fn new_file(&self, path: &str, mode: u32) -> Result<File, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.open_below(path, flags, Mode::from_raw_mode(mode)).map(File::from)
    }

    /// Makes a folder that must not be there yet, directly in this one.
    ///
    /// # Errors
    /// `EEXIST`, and what else the operating system said.
    pub fn new_folder(&self, name: &str, mode: u32) -> Result<Self, Errno> {
        mkdirat(&self.fd, name, Mode::from_raw_mode(mode))?;
        self.folder(name)
    }

    /// Gives an entry of this folder a second name in another one.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn link(&self, name: &str, to: &Self, as_name: &str) -> Result<(), Errno> {
        linkat(&self.fd, name, &to.fd, as_name, AtFlags::empty())
    }

    /// Moves an entry of this folder into another one of the same file system, where nothing may have its name but a file or
    /// an empty folder.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn move_to(&self, name: &[u8], to: &Self) -> Result<(), Errno> {
        renameat(&self.fd, name, &to.fd, name)
    }

    /// Owner, mode, size and times of the folder itself.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn stat(&self) -> Result<Stat, Errno> {
        fstat(&self.fd)
    }

    /// What is at a path below it (the empty one is itself), and its owner, mode, size and times. A link is looked at, not through; one in the middle is
    /// an error.
    ///
    /// # Errors
    /// As [`Folder::folder`]. That there is nothing is not an error.
    pub fn look(&self, path: &str) -> Result<(Kind, Option<Stat>), Errno> {
        if path.is_empty() {
            return Ok((Kind::Folder, Some(self.stat()?)));
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = match self.folder(parent) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok((Kind::Nothing, None)),
            other => other?,
        };
        match statat(&parent.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok((kind_of(&stat), Some(stat))),
            Err(Errno::NOENT) => Ok((Kind::Nothing, None)),
            Err(errno) => Err(errno),
        }
    }

    /// Makes its owner and mode those of another one.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn become_like(&self, stat: &Stat) -> Result<(), Errno> {
        own(self, stat.st_uid, stat.st_gid, stat.st_mode)
    }

    /// The names in it, unsorted, at most 200,000 of them.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = Vec::new();
        let entries = match Dir::read_from(&self.fd) {
            // Somebody removed it since it was opened.
            Err(Errno::NOENT) => return Ok(names),
            other => other?,
        };
        for entry in entries {
            let name = entry?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            names.push(name);
            if names.len() == NAMES {
                break;
            }
        }
        Ok(names)
    }

    /// Removes an entry and everything below it. That there is none is not an error.
    ///
    /// # Errors
    /// `ELOOP` where folders lie too deep in each other; what else the operating system said.
    pub fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        self.remove_at(name, 0)
    }

    /// Removes everything in it.
    ///
    /// # Errors
    /// As [`Folder::remove`].
    pub fn empty(&self) -> Result<(), Errno> {
        self.empty_at(0)
    }

    fn empty_at(&self, depth: usize) -> Result<(), Errno> {
        loop {
            let names = self.names()?;
            names.iter().try_for_each(|name| self.remove_at(name, depth))?;
            if names.len() < NAMES {
                return Ok(());
            }
        }
    }

    fn remove_at(&self, name: &[u8], depth: usize) -> Result<(), Errno> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(errno),
        }
        if depth == DEPTH {
            return Err(Errno::LOOP);
        }
        self.child(name)?.empty_at(depth + 1)?;
        unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
    }

    /// Walks everything below it, names sorted, each folder before what is in it. `visit` says whether to go on. Whether the walk
    /// saw everything: folders that lie too deep in each other or have too much in them are not seen whole.
    ///
    /// # Errors
    /// What the operating system said; what `visit` said.
    pub fn walk<E: From<Errno>>(
        &self,
        visit: &mut impl FnMut(&Seen<'_>) -> Result<bool, E>,
    ) -> Result<bool, E> {
        Ok(self.walk_at("", 0, visit)? == Walked::All(true))
    }

    fn walk_at<E: From<Errno>>(
        &self,
        path: &str,
        depth: usize,
        visit: &mut impl FnMut(&Seen<'_>) -> Result<bool, E>,
    ) -> Result<Walked, E> {
        let mut names = self.names()?;
        let mut all = names.len() < NAMES;
        names.sort_unstable();
        for name in &names {
            let stat = match statat(&self.fd, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            let text = String::from_utf8_lossy(name);
            let path = if path.is_empty() { text.into_owned() } else { format!("{path}/{text}") };
            let kind = kind_of(&stat);
            if !visit(&Seen { parent: self, name, path: &path, kind, stat: &stat })? {
                return Ok(Walked::Stopped);
            }
            if kind != Kind::Folder {
                continue;
            }
            if depth == DEPTH {
                all = false;
                continue;
            }
            // Another thing by now: what it was is not there to be seen.
            let inner = match self.child(name) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                other => other?,
            };
            match inner.walk_at(&path, depth + 1, visit)? {
                Walked::Stopped => return Ok(Walked::Stopped),
                Walked::All(inner) => all &= inner,
            }
        }
        Ok(Walked::All(all))
    }

    fn child(&self, name: &[u8]) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: openat2(&self.fd, name, flags, Mode::empty(), BELOW)? })
    }

    fn open_below(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { "." } else { path };
        openat2(&self.fd, path, flags | OFlags::CLOEXEC, mode, BELOW)
    }
}

impl Seen<'_> {
    /// Opens it, if it is a file, for reading.
    ///
    /// # Errors
    /// As [`Folder::file`]; it may be another thing by now.
    pub fn open(&self) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat2(&self.parent.fd, self.name, flags, Mode::empty(), BELOW)?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        Ok(File::from(fd))
    }
}

/// Sets the owner and then the mode, since a change of the owner takes set-user-id bits away.
///
/// # Errors
/// What the operating system said.
pub fn own(what: &impl AsFd, uid: u32, gid: u32, mode: u32) -> Result<(), Errno> {
    fchown(what, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fchmod(what, Mode::from_raw_mode(mode & 0o7777))
}

impl AsFd for Folder {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Hashes what is read, at most `most` bytes of it.
///
/// # Errors
/// What reading said.
pub fn hash(from: &mut impl Read, most: u64) -> io::Result<Hashed> {
    let mut hasher = Sha256::new();
    let bytes = io::copy(&mut from.take(most), &mut hasher)?;
    Ok(Hashed { sha256: hex::encode(hasher.finalize()), bytes })
}

/// A path below a volume's root as a label writes it, or `None` where it is none: it leads out, or is the root.
pub fn below(written: &str) -> Option<String> {
    let parts: Vec<&str> = written.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let fits = !parts.is_empty() && parts.len() <= DEPTH && written.len() < 4096;
    (fits && !parts.contains(&"..") && !written.contains('\0')).then(|| parts.join("/"))
}

/// Where something is that was opened, for messages.
pub(crate) fn shown(root: &Path, path: &str) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(path) }
}

/// Whether there is anything at a path of this machine; links count.
pub(crate) fn is_there(path: &Path) -> bool {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

fn kind_of(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Folder,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::symlink};

    use rustix::io::Errno;

    use super::{Folder, Kind, below};

    #[test]
    fn no_link_is_followed_out_of_a_folder_or_within_it() {
        let place = tempfile::tempdir().unwrap();
        let (volume, host) = (place.path().join("volume"), place.path().join("host"));
        std::fs::create_dir_all(volume.join("a")).unwrap();
        std::fs::create_dir(&host).unwrap();
        std::fs::write(host.join("secret"), "keep out").unwrap();
        symlink(&host, volume.join("out")).unwrap();
        symlink(host.join("secret"), volume.join("file")).unwrap();
        symlink("a", volume.join("within")).unwrap();
        let folder = Folder::open(&volume).unwrap();
        assert_eq!(folder.folder("out").unwrap_err(), Errno::LOOP);
        assert_eq!(folder.folder("within").unwrap_err(), Errno::LOOP);
        assert_eq!(folder.file("file").unwrap_err(), Errno::LOOP);
        assert_eq!(folder.file("out/secret").unwrap_err(), Errno::LOOP);
        assert_eq!(folder.file("../host/secret").unwrap_err(), Errno::XDEV);
        assert_eq!(folder.new_file("file", 0o600).unwrap_err(), Errno::EXIST);
        assert!(folder.new_file("out/new", 0o600).is_err());
        assert_eq!(folder.look("out").unwrap().0, Kind::Link);
        let mut seen = Vec::new();
        let all = folder.walk::<Errno>(&mut |entry| {
            seen.push(format!("{} {:?}", entry.path, entry.kind));
            Ok(true)
        });
        assert!(all.unwrap());
        assert_eq!(seen, ["a Folder", "file Link", "out Link", "within Link"]);

        // Removing takes the links, and nothing that they lead to.
        folder.empty().unwrap();
        assert_eq!(folder.names().unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(std::fs::read_to_string(host.join("secret")).unwrap(), "keep out");
    }

    #[test]
    fn a_tree_that_is_too_deep_is_not_walked_to_its_end() {
        let place = tempfile::tempdir().unwrap();
        let mut at = Folder::open(place.path()).unwrap();
        for _ in 0..super::DEPTH + 5 {
            at = at.new_folder("d", 0o700).unwrap();
        }
        at.new_file("bottom", 0o600).unwrap().write_all(b"x").unwrap();
        let folder = Folder::open(place.path()).unwrap();
        assert!(!folder.walk::<Errno>(&mut |_| Ok(true)).unwrap());
        assert_eq!(folder.empty().unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn a_folder_that_goes_away_meanwhile_is_empty() {
        let place = tempfile::tempdir().unwrap();
        let at = Folder::open(place.path()).unwrap();
        let gone = at.new_folder("gone", 0o700).unwrap();
        at.remove(b"gone").unwrap();
        assert_eq!(gone.names().unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let at = Folder::open(place.path()).unwrap();
        rustix::fs::mknodat(
            &at,
            "pipe",
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(at.file("pipe").unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn paths_of_labels_stay_below_their_volume() {
        assert_eq!(below("/a//b/./c/").as_deref(), Some("a/b/c"));
        for bad in ["", "/", ".", "..", "a/../../b", "a\0b"] {
            assert_eq!(below(bad), None, "{bad:?}");
        }
    }
}
