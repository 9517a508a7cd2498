//! Writes and reads the "newc" archives that the kernel unpacks as initrds. Own code because what matters here is
//! exactly what archivers do not promise: the same bytes every time, and where a member's data begins.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

const MAGIC: &[u8; 6] = b"070701";
const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// An archive being written. Every member belongs to root and is dated 1970.
pub(crate) struct Writer {
    out: BufWriter<File>,
    at: u64,
    inode: u32,
}

impl Writer {
    /// Starts a file.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { out: BufWriter::new(file), at: 0, inode: 0 })
    }

    /// Adds a folder.
    pub(crate) fn folder(&mut self, name: &str) -> Result<()> {
        self.header(name, S_IFDIR | 0o755, 0)
    }

    /// Adds a file from memory.
    pub(crate) fn bytes(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.header(name, S_IFREG | mode, content.len() as u64)?;
        self.put(content)?;
        self.pad()
    }

    /// Adds a file from disk.
    pub(crate) fn file(&mut self, name: &str, mode: u32, source: &Path) -> Result<()> {
        let mut file = File::open(source).with_context(|| format!("cannot open {}", source.display()))?;
        let length = file.metadata()?.len();
        self.header(name, S_IFREG | mode, length)?;
        let copied = io::copy(&mut (&mut file).take(length), &mut self.out)?;
        if copied != length {
            bail!("{} shrank while it was packed", source.display());
        }
        self.at += copied;
        self.pad()
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, name: &str, target: &str) -> Result<()> {
        self.header(name, S_IFLNK | 0o777, target.len() as u64)?;
        self.put(target.as_bytes())?;
        self.pad()
    }

    /// Ends this archive; another may follow in the same file, as the kernel allows.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.inode = 0;
        self.header(TRAILER, 0, 0)?;
        // A block boundary: boot loaders and the microcode loader expect members of a chain to be aligned.
        let padding = (512 - self.at % 512) % 512;
        self.put(&vec![0; padding as usize])
    }

    /// Writes everything out.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        Ok(())
    }

    fn header(&mut self, name: &str, mode: u32, length: u64) -> Result<()> {
        let length = u32::try_from(length)
            .with_context(|| format!("{name} is over 4 GiB, more than an initrd can hold"))?;
        let inode = if name == TRAILER { 0 } else { self.inode + 1 };
        self.inode = inode;
        let links = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
        let fields = [inode, mode, 0, 0, links, 0, length, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.put(MAGIC)?;
        for field in fields {
            self.put(format!("{field:08X}").as_bytes())?;
        }
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()
    }

    fn pad(&mut self) -> Result<()> {
        let padding = (4 - self.at % 4) % 4;
        self.put(&[0; 3][..padding as usize])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// A member of a read archive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) mode: u32,
    /// Where the data begins in the file.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// Lists the members of a file that may hold several uncompressed archives, one after the other.
pub(crate) fn list(path: &Path) -> Result<Vec<Member>> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let end = file.metadata()?.len();
    let mut members = Vec::new();
    let mut at = 0;
    while at + HEADER as u64 <= end {
        let mut header = [0; HEADER];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut header)?;
        if header[..4] == [0; 4] {
            at += 4;
            continue;
        }
        if &header[..6] != MAGIC {
            bail!("{} is damaged: no archive header at byte {at}", path.display());
        }
        let field = |index: usize| {
            let digits = std::str::from_utf8(&header[6 + index * 8..14 + index * 8]).unwrap_or("?");
            u64::from_str_radix(digits, 16)
                .with_context(|| format!("{} is damaged at byte {at}", path.display()))
        };
        let (mode, bytes, name_length) = (field(1)?, field(6)?, field(11)?);
        if name_length == 0 || name_length > 4096 {
            bail!("{} is damaged: a name of {name_length} bytes at byte {at}", path.display());
        }
        let mut name = vec![0; name_length as usize];
        file.read_exact(&mut name)?;
        name.pop();
        let offset = (at + HEADER as u64 + name_length).next_multiple_of(4);
        if offset + bytes > end {
            bail!("{} is cut short", path.display());
        }
        let name = String::from_utf8(name)
            .with_context(|| format!("{}: a name that is not text", path.display()))?;
        if name != TRAILER {
            members.push(Member { name, mode: mode as u32, offset, bytes });
        }
        at = (offset + bytes).next_multiple_of(4);
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_is_listed_and_the_offsets_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.cpio");
        let mut writer = Writer::create(&path).unwrap();
        writer.folder("a").unwrap();
        writer.bytes("a/b", 0o644, b"hello").unwrap();
        writer.end().unwrap();
        writer.symlink("c", "a/b").unwrap();
        writer.end().unwrap();
        writer.finish().unwrap();
        let members = list(&path).unwrap();
        let names: Vec<_> =
            members.iter().map(|m| (m.name.as_str(), format!("{:o}", m.mode), m.bytes)).collect();
        assert_eq!(names, [("a", "40755".into(), 0), ("a/b", "100644".into(), 5), ("c", "120777".into(), 3)]);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len() % 512, 0);
        let at = members[1].offset as usize;
        assert_eq!(&bytes[at..at + 5], b"hello");
    }

    #[test]
    fn a_damaged_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.cpio");
        let mut writer = Writer::create(&path).unwrap();
        writer.bytes("a", 0o644, &[1; 4096]).unwrap();
        writer.end().unwrap();
        writer.finish().unwrap();
        let good = fs::read(&path).unwrap();
        fs::write(&path, &good[..2000]).unwrap();
        assert!(list(&path).unwrap_err().to_string().contains("cut short"));
        let mut bad = good.clone();
        bad[0] = b'x';
        fs::write(&path, &bad).unwrap();
        assert!(list(&path).unwrap_err().to_string().contains("no archive header at byte 0"));
    }

    #[test]
    fn the_standard_archiver_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.cpio");
        let mut writer = Writer::create(&path).unwrap();
        writer.folder("x").unwrap();
        writer.bytes("x/y", 0o755, b"12345").unwrap();
        writer.symlink("x/z", "y").unwrap();
        writer.end().unwrap();
        writer.finish().unwrap();
        let listed = std::process::Command::new("cpio")
            .args(["--list", "--quiet", "--verbose", "--numeric-uid-gid"])
            .stdin(File::open(&path).unwrap())
            .output()
            .unwrap();
        assert!(listed.status.success(), "{listed:?}");
        let text = String::from_utf8(listed.stdout).unwrap();
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "drwxr-xr-x 2 0 0 0 Jan 1 1970 x",
                "-rwxr-xr-x 1 0 0 5 Jan 1 1970 x/y",
                "lrwxrwxrwx 1 0 0 1 Jan 1 1970 x/z -> y"
            ]
        );
    }
}
