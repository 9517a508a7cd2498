//! A disk or a raw image of one: its table, what each partition holds, and the trees in them.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::files::Tree;
use crate::source::Source as _;
use crate::table::{Entry, Table};
use crate::{Content, MediaError, SliceReader, probe};

/// An image of a disk, opened to be read.
pub struct Disk {
    path: PathBuf,
    file: SliceReader,
    table: Table,
    partitions: Vec<Partition>,
}

/// A partition and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// What the table says.
    pub entry: Entry,
    /// What it holds; nothing where it does not lie wholly on the disk.
    pub content: Option<Content>,
}

impl Disk {
    /// Opens a raw image (or a block device that may be read) and looks at its table and all its partitions.
    ///
    /// # Errors
    /// [`MediaError::Io`]; [`MediaError::Unsupported`] when it is an image in a format of its own (qcow2, VMDK, VHDX),
    /// whose bytes are not the disk's. Damage is told by [`Table::problems`] and by [`Partition::content`].
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        let file = SliceReader::open(path)?;
        refuse_formats(&file)?;
        let table = Table::detect(&file)?;
        let mut partitions = Vec::new();
        for entry in table.partitions() {
            let content = match file.slice(entry.start, entry.size) {
                Ok(part) => Some(probe(&part)?),
                Err(_) => None,
            };
            partitions.push(Partition { entry: entry.clone(), content });
        }
        Ok(Self { path: path.to_owned(), file, table, partitions })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.file.length()
    }

    /// Its partition table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The partitions of the table in force, in its order.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// What the disk as a whole holds.
    ///
    /// # Errors
    /// As [`probe()`].
    pub fn content(&self) -> Result<Content, MediaError> {
        probe(&self.file)
    }

    /// The first partition whose label is this one: the file system's, or else the table's.
    pub fn labelled(&self, label: &str) -> Option<&Partition> {
        let of_file_system = |partition: &&Partition| {
            let found = partition.content.as_ref().map(Content::found).unwrap_or_default();
            found.iter().any(|found| found.label.as_deref() == Some(label))
        };
        let of_table = |partition: &&Partition| partition.entry.label.as_deref() == Some(label);
        self.partitions.iter().find(of_file_system).or_else(|| self.partitions.iter().find(of_table))
    }

    /// The tree in a partition.
    ///
    /// # Errors
    /// [`MediaError::NoTree`] where it holds no file system that can be looked into; otherwise its damage.
    pub fn tree(&self, partition: &Partition) -> Result<Tree, MediaError> {
        Tree::open(&self.part(partition)?)
    }

    /// The tree of a disk that is one file system without a table.
    ///
    /// # Errors
    /// As [`Disk::tree`].
    pub fn whole_tree(&self) -> Result<Tree, MediaError> {
        Tree::open(&self.file)
    }

    /// A partition's bytes as a file.
    ///
    /// # Errors
    /// [`MediaError::Cut`] where it does not lie wholly on the disk.
    pub fn part(&self, partition: &Partition) -> Result<SliceReader, MediaError> {
        self.file.slice(partition.entry.start, partition.entry.size)
    }
}

/// What would otherwise pass for data that nothing explains.
fn refuse_formats(file: &SliceReader) -> Result<(), MediaError> {
    let formats = [(&b"QFI\xfb"[..], "qcow2"), (b"KDMV", "VMDK"), (b"vhdxfile", "VHDX")];
    let head = file.piece("the front of the disk", 0, file.length().min(8))?;
    match formats.iter().find(|(magic, _)| head.starts_with(magic)) {
        None => Ok(()),
        Some((_, name)) => Err(MediaError::Unsupported {
            what: "the image's format",
            why: format!("it is {name}; make a raw one of it with `qemu-img convert -O raw`"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::Disk;
    use crate::MediaError;
    use crate::samples::{Bench, MIB, poke};

    #[test]
    fn an_image_that_is_not_raw_is_refused_and_not_taken_for_data() {
        let bench = Bench::new();
        let disk = bench.gpt("disk", 16 * MIB);
        assert_eq!(Disk::open(&disk).expect("it opens").partitions().len(), 2);
        poke(&disk, 0, b"QFI\xfb\0\0\0\x03");
        let refused = Disk::open(&disk).map(|_| ()).expect_err("qcow2");
        assert!(matches!(refused, MediaError::Unsupported { .. }));
        assert!(refused.to_string().contains("qemu-img convert -O raw"), "{refused}");
        assert!(Disk::open(&bench.blank("tiny", 3)).is_ok());
    }

    #[test]
    fn a_partition_that_reaches_out_has_no_content_and_no_tree() {
        let bench = Bench::new();
        let disk = bench.gpt("disk", 16 * MIB);
        let file = std::fs::File::options().write(true).open(&disk).expect("it opens");
        file.set_len(5 * MIB + 100 * 512).expect("cut");
        let opened = Disk::open(&disk).expect("it opens");
        let contents: Vec<_> =
            opened.partitions().iter().map(|partition| partition.content.is_some()).collect();
        assert_eq!(contents, [true, false]);
        assert!(opened.tree(&opened.partitions()[0]).is_ok());
        assert!(matches!(opened.tree(&opened.partitions()[1]).map(|_| ()), Err(MediaError::Cut { .. })));
    }
}
