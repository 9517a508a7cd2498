//! File systems of the real tools, looked into.

use std::path::Path;

use crate::tools::{Bench, GIB, MIB, run, text};
use assay_media::{Disk, JournalState, MediaError, NodeKind, SliceReader, Tree};

fn tree(path: &Path) -> Tree {
    Tree::open(&SliceReader::open(path).expect("it opens")).expect("a tree")
}

#[test]
fn fat_of_mkfs_and_mtools_in_all_three_sizes() {
    let bench = Bench::new();
    let file = bench.path("a file");
    let data: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(&file, &data).expect("written");
    for (bits, size) in [("12", 4 * MIB), ("16", 32 * MIB), ("32", 300 * MIB)] {
        let image = bench.blank("fat", size);
        run("mkfs.vfat", &["-F", bits, "-n", "STICK", text(&image)]);
        run("mmd", &["-i", text(&image), "::/EFI", "::/EFI/Some Folder"]);
        run("mcopy", &["-i", text(&image), text(&file), "::/EFI/Some Folder/A Longer Name.conf"]);
        run("mcopy", &["-i", text(&image), text(&file), "::/EFI/SHORT.TXT"]);
        let tree = tree(&image);
        let paths: Vec<_> =
            tree.walk().expect("walked").into_iter().map(|node| (node.path, node.size)).collect();
        assert_eq!(
            paths,
            [
                ("/EFI".to_owned(), 0),
                ("/EFI/SHORT.TXT".to_owned(), 300_000),
                ("/EFI/Some Folder".to_owned(), 0),
                ("/EFI/Some Folder/A Longer Name.conf".to_owned(), 300_000),
            ],
            "FAT{bits}"
        );
        assert_eq!(tree.read("efi/some folder/a longer name.CONF", MIB).expect("read"), data);
        assert!(tree.exists("/EFI/Some Folder/ALONGE~1.CON").expect("looked"), "by its short name as well");
        assert!(matches!(tree.read("/EFI/SHORT.TXT", 1000), Err(MediaError::TooMuch { found: 300_000, .. })));
        assert!(!tree.exists("/EFI/SHORT.TXT/below").expect("looked"));
        let Tree::Fat(fat) = &tree else { panic!("FAT{bits}") };
        assert_eq!((fat.bits().to_string().as_str(), fat.label().as_deref()), (bits, Some("STICK")));
        let said = run("mdir", &["-i", text(&image), "::/"]);
        let line = said.lines().find(|line| line.contains("bytes free")).unwrap_or_default();
        let free: String = line.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(fat.free_bytes().expect("sound").to_string(), free, "{said}");
    }
}

#[test]
fn ext_of_mke2fs_with_links_owners_and_a_dirty_journal() {
    let bench = Bench::new();
    let folder = bench.path("root");
    std::fs::create_dir_all(folder.join("etc")).expect("folders");
    std::fs::write(folder.join("etc/hostname"), "node-123abc\n").expect("written");
    std::os::unix::fs::symlink("../etc/hostname", folder.join("etc/name")).expect("linked");
    std::os::unix::fs::symlink("/../../etc/hostname", folder.join("above")).expect("linked");
    std::os::unix::fs::symlink("/missing", folder.join("nowhere")).expect("linked");
    std::os::unix::fs::symlink("again", folder.join("again")).expect("linked");
    std::os::unix::fs::symlink("x".repeat(200), folder.join("long")).expect("linked");
    std::fs::set_permissions(
        folder.join("etc/hostname"),
        std::os::unix::fs::PermissionsExt::from_mode(0o640),
    )
    .expect("set");
    let big = std::fs::File::create(folder.join("sparse")).expect("a file");
    big.set_len(8 * GIB).expect("a size");
    for kind in ["ext2", "ext3", "ext4"] {
        let image = bench.blank("ext", 64 * MIB);
        run("mke2fs", &["-q", "-F", "-t", kind, "-d", text(&folder), "-E", "root_owner=7:8", text(&image)]);
        let tree = tree(&image);
        assert_eq!(tree.read("/etc/hostname", 99).expect("read"), b"node-123abc\n", "{kind}");
        assert_eq!(tree.read("etc/name", 99).expect("read"), b"node-123abc\n", "{kind}");
        assert_eq!(tree.read("/above", 99).expect("read"), b"node-123abc\n", "a link never leaves the tree");
        assert!(!tree.exists("/nowhere").expect("looked"));
        assert!(matches!(tree.metadata("/again"), Err(MediaError::Damaged { .. })), "a link to itself");
        assert!(matches!(tree.read("/sparse", MIB), Err(MediaError::TooMuch { .. })), "{kind}");
        assert!(matches!(tree.read("/etc", MIB), Err(MediaError::WrongKind { .. })));
        assert!(matches!(tree.list("/etc/hostname"), Err(MediaError::WrongKind { .. })));
        let node = tree.metadata("/etc/hostname").expect("there");
        assert_eq!((node.kind, node.size, node.mode), (NodeKind::File, 12, Some(0o640)));
        let root = tree.metadata("/").expect("there");
        assert_eq!((root.uid, root.gid), (Some(7), Some(8)));
        let links: Vec<_> =
            tree.list("/").expect("listed").into_iter().filter_map(|node| node.target).collect();
        assert!(links.contains(&"x".repeat(200)) && links.contains(&"/missing".to_owned()), "{links:?}");
        // A file that debugfs writes through the journal-less way is seen as well.
        let written = bench.path("note");
        std::fs::write(&written, "later\n").expect("written");
        run("debugfs", &["-w", "-R", &format!("write {} note", text(&written)), text(&image)]);
        assert_eq!(super::trees::tree(&image).read("/note", 99).expect("read"), b"later\n", "{kind}");
    }
}

#[test]
fn a_journal_that_was_not_written_back_is_replayed_or_said_to_be_left_out() {
    let bench = Bench::new();
    let folder = bench.path("root");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("file"), "before\n").expect("written");
    for (kind, options) in [("ext4", "jo -c"), ("ext4", "jo"), ("ext3", "jo")] {
        let image = bench.blank("ext", 64 * MIB);
        run("mke2fs", &["-q", "-F", "-t", kind, "-d", text(&folder), text(&image)]);
        let Tree::Ext4(clean) = tree(&image) else { panic!("{kind}") };
        assert_eq!(*clean.journal(), JournalState::Clean);
        // The block of the file's data, rewritten in the journal only.
        let block = run("debugfs", &["-R", "blocks /file", text(&image)]).trim().to_owned();
        let size: usize = run("dumpe2fs", &["-h", text(&image)])
            .lines()
            .find_map(|line| {
                line.strip_prefix("Block size:").map(|size| size.trim().parse().expect("a number"))
            })
            .expect("a size");
        let (after, script) = (bench.path("after"), bench.path("script"));
        let mut bytes = b"behind\n".to_vec();
        bytes.resize(size, 0);
        std::fs::write(&after, bytes).expect("written");
        std::fs::write(&script, format!("{options}\njw -b {block} {}\njc\n", text(&after))).expect("written");
        run("debugfs", &["-w", "-f", text(&script), text(&image)]);
        let said = run("dumpe2fs", &["-h", text(&image)]);
        assert!(said.contains("needs_recovery"), "{said}");
        let dirty = tree(&image);
        let content = dirty.read("/file", 99).expect("read");
        let Tree::Ext4(dirty) = dirty else { panic!("{kind}") };
        match dirty.journal() {
            JournalState::Replayed => assert_eq!((content, options), (b"behind\n".to_vec(), "jo -c")),
            JournalState::LeftOut { why } => {
                assert_eq!((content, options), (b"before\n".to_vec(), "jo"));
                assert!(why.contains("journal"), "{why}");
            }
            JournalState::Clean => panic!("it is dirty"),
        }
    }
}

#[test]
fn a_disk_with_a_table_and_file_systems_in_it() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 512 * MIB);
    run(
        "sgdisk",
        &["-n", "1:0:+64M", "-t", "1:ef00", "-n", "2:0:+128M", "-c", "2:root", "-n", "3:0:+64M", text(&disk)],
    );
    let opened = Disk::open(&disk).expect("it opens");
    let places: Vec<_> = opened.partitions().iter().map(|partition| partition.entry.start).collect();
    assert!(
        opened
            .partitions()
            .iter()
            .all(|partition| partition.content.as_ref().is_some_and(assay_media::Content::is_blank))
    );
    run(
        "mkfs.vfat",
        &["-F", "16", "--offset", &(places[0] / 512).to_string(), "-n", "BOOT", text(&disk), "65536"],
    );
    run(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            "nixos",
            "-E",
            &format!("offset={}", places[1]),
            text(&disk),
            "128M",
        ],
    );
    let opened = Disk::open(&disk).expect("it opens");
    let root = opened.labelled("nixos").expect("by the file system's label");
    assert_eq!(root.entry.number, 2);
    assert_eq!(opened.labelled("root").expect("by the table's label").entry.number, 2);
    let names: Vec<_> = opened
        .tree(root)
        .expect("a tree")
        .list("/")
        .expect("listed")
        .into_iter()
        .map(|node| node.path)
        .collect();
    assert_eq!(names, ["/lost+found"]);
    assert!(
        opened
            .tree(opened.labelled("BOOT").expect("there"))
            .expect("a tree")
            .list("/")
            .expect("listed")
            .is_empty()
    );
    match opened.tree(&opened.partitions()[2]) {
        Err(error @ MediaError::NoTree { .. }) => {
            assert!(error.to_string().contains("all 67108864 bytes are zero"), "{error}");
        }
        _ => panic!("nothing is there"),
    }
    assert!(opened.whole_tree().is_err());
}
