use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::{NodeKind, Tree, parts};
use crate::fat::{Fat, put_files};
use crate::occupy::{NewFile, write_ext4};
use crate::samples::{Bench, MIB, in_many_ways, open, peek, poke};
use crate::source::Overlay;
use crate::{FatTree, MediaError, SliceReader};

fn tree(path: &std::path::Path) -> Tree {
    Tree::open(&SliceReader::open(path).expect("it opens")).expect("a tree")
}

#[test]
fn a_fat_tree_is_listed_and_read() {
    let bench = Bench::new();
    for (bits, bytes) in [(12, 4 * MIB), (16, 20 * MIB), (32, 520 * MIB)] {
        let tree = tree(&bench.fat("fat", bytes));
        let found: Vec<_> =
            tree.walk().expect("walked").into_iter().map(|node| (node.path, node.kind, node.size)).collect();
        let wanted = [
            ("/EFI", NodeKind::Folder, 0),
            ("/EFI/BOOT", NodeKind::Folder, 0),
            ("/EFI/BOOT/BOOTX64.EFI", NodeKind::File, 9000),
            ("/EFI/a name that is longer than thirteen.conf", NodeKind::File, 10),
            ("/empty", NodeKind::File, 0),
            ("/grün", NodeKind::File, 7),
        ];
        assert_eq!(found, wanted.map(|(path, kind, size)| (path.to_owned(), kind, size)));
        assert_eq!(tree.read("efi/boot/bootx64.efi", 9000).expect("read"), [0x4d; 9000]);
        assert_eq!(tree.read("/GRÜN", 99).expect("read"), b"leaves\n");
        assert_eq!(tree.read("/empty", 0).expect("read"), b"");
        assert!(matches!(
            tree.read("/EFI/BOOT/BOOTX64.EFI", 8999),
            Err(MediaError::TooMuch { found: 9000, .. })
        ));
        assert!(matches!(tree.read("/EFI", 99), Err(MediaError::WrongKind { .. })));
        assert!(matches!(tree.list("/empty"), Err(MediaError::WrongKind { .. })));
        assert!(matches!(tree.list("/nothing"), Err(MediaError::NotFound { .. })));
        let Tree::Fat(fat) = tree else { panic!("FAT") };
        assert_eq!(
            (fat.bits(), fat.label().as_deref(), fat.serial().as_str()),
            (bits, Some("STICK"), "1234-ABCD")
        );
    }
}

/// Where the chain of a file begins: its first cluster, read from the root folder of a FAT12 volume made here.
fn first_cluster(path: &std::path::Path, short: &[u8; 11]) -> (u64, u16) {
    let bytes = std::fs::read(path).expect("read");
    let at = bytes.windows(11).position(|part| part == short).expect("the entry");
    (at as u64, u16::from_le_bytes([bytes[at + 26], bytes[at + 27]]))
}

#[test]
fn chains_in_circles_short_ones_and_shared_ones_are_damage() {
    let bench = Bench::new();
    let path = bench.fat("fat", 20 * MIB);
    let boot = peek(&path, 0, 512);
    let sector = u64::from(u16::from_le_bytes([boot[14], boot[15]])) * 512;
    let (entry, first) = first_cluster(&path, b"BOOTX64 EFI");
    let (entry_of_other, other) = first_cluster(&path, b"GR_N~1     ");
    let words = |change: (u64, [u8; 2])| {
        let old = peek(&path, change.0, 2);
        poke(&path, change.0, &change.1);
        let tree = tree(&path);
        let read = tree.read("/EFI/BOOT/BOOTX64.EFI", MIB);
        let Tree::Fat(fat) = &tree else { panic!("FAT") };
        let checked = fat.free_bytes();
        // What is damaged is not written to.
        let refused = put_files(&Overlay::over(open(&path)), &[("/new", b"x")]);
        poke(&path, change.0, &old);
        assert!(refused.is_err() && checked.is_err(), "{refused:?} {checked:?}");
        (
            read.map(|read| read.len()).map_err(|error| error.to_string()),
            checked.expect_err("damaged").to_string(),
        )
    };
    let at = |cluster: u16| sector + u64::from(cluster) * 2;
    let (read, checked) = words((at(first + 1), first.to_le_bytes()));
    assert!(read.is_err_and(|why| why.contains("or a loop")) && checked.contains("or a loop"));
    let (read, _) = words((at(first), [0xff, 0xff]));
    assert!(read.is_err_and(|why| why.contains("9000 bytes and 1 clusters")));
    let (read, _) = words((at(first), [0xf0, 0xfe]));
    assert!(read.is_err_and(|why| why.contains("does not exist")));
    let (_, checked) = words((at(first + 4), other.to_le_bytes()));
    assert!(checked.contains("is longer than its chain"), "{checked}");
    let last =
        (first..first + 100).find(|cluster| peek(&path, at(*cluster), 2) == [0xff, 0xff]).expect("an end");
    let (read, checked) = words((entry_of_other + 26, last.to_le_bytes()));
    assert!(read.is_ok() && checked.contains("belongs to two files"), "{checked}");
    let (read, _) = words((entry + 30, [0xff, 0x7f]));
    assert!(read.is_err_and(|why| why.contains("more than the limit")), "a size of two gigabytes");
    // A folder that is its own subfolder.
    let (folder, _) = first_cluster(&path, b"BOOT       ");
    let (_, parent) = first_cluster(&path, b"EFI        ");
    poke(&path, folder + 26, &parent.to_le_bytes());
    let looped = tree(&path);
    assert!(matches!(looped.walk(), Err(MediaError::TooMuch { .. })));
    let Tree::Fat(fat) = &looped else { panic!("FAT") };
    assert!(fat.free_bytes().is_err());
}

#[test]
fn a_volume_that_is_larger_than_its_room_or_contradicts_itself_is_not_opened() {
    let bench = Bench::new();
    let path = bench.fat("fat", 20 * MIB);
    let whole = SliceReader::open(&path).expect("it opens");
    let cut = FatTree::open(&whole.slice(0, 19 * MIB).expect("within"));
    assert!(matches!(cut.map(|_| ()), Err(MediaError::Cut { .. })));
    for (at, bytes) in
        [(11, &[0, 0][..]), (13, &[3]), (14, &[0, 0]), (16, &[0]), (16, &[9]), (17, &[0, 0]), (22, &[1, 0])]
    {
        let old = peek(&path, at, bytes.len());
        poke(&path, at, bytes);
        let opened = FatTree::open(&whole).map(|_| ());
        assert!(
            matches!(opened, Err(MediaError::Damaged { .. } | MediaError::Cut { .. })),
            "{at}: {opened:?}"
        );
        poke(&path, at, &old);
    }
    assert!(FatTree::open(&whole).is_ok());
}

#[test]
fn many_files_grow_a_folder_and_are_found_again() {
    let bench = Bench::new();
    let path = bench.fat("fat", 20 * MIB);
    let names: Vec<_> = (0..100).map(|number| format!("/many/a name with the number {number}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    let volume = Overlay::over(open(&path));
    put_files(&volume, &files).expect("put");
    assert!(!tree(&path).exists("/many").expect("looked"), "only in memory yet");
    volume.commit().expect("written");
    let tree = tree(&path);
    assert_eq!(tree.list("/many").expect("listed").len(), 100);
    for name in &names {
        assert_eq!(tree.read(name, 99).expect("read"), name.as_bytes());
    }
    // Later ones of the same name win, and no cluster is lost.
    let volume = Overlay::over(open(&path));
    let before = Fat::open(volume.clone()).expect("sound").check().expect("sound");
    let twice: [(&str, &[u8]); 2] =
        [("/many/A NAME WITH THE NUMBER 7", &[1; 5000]), ("/many/a name with the number 7", b"last")];
    let after = put_files(&volume, &twice).expect("put");
    assert_eq!(after, before);
    volume.commit().expect("written");
    assert_eq!(self::tree(&path).read(&names[7], 99).expect("read"), b"last");
}

#[test]
fn an_ext4_tree_is_listed_and_read() {
    let bench = Bench::new();
    let path = bench.blank("ext4", 16 * MIB);
    let big = vec![7; 20_000];
    let files = [
        NewFile { path: "/etc/hostname", mode: 0o640, bytes: b"node-123abc\n" },
        NewFile { path: "/srv/deep/er/big", mode: 0o600, bytes: &big },
    ];
    let places = write_ext4(&open(&path), "root", Uuid::from_u128(3), &files).ok().expect("written");
    assert_eq!(peek(&path, places[1], 4), [7; 4]);
    let tree = tree(&path);
    let found: Vec<_> = tree.walk().expect("walked").into_iter().map(|node| node.path).collect();
    assert_eq!(
        found,
        ["/etc", "/etc/hostname", "/lost+found", "/srv", "/srv/deep", "/srv/deep/er", "/srv/deep/er/big"]
    );
    assert_eq!(tree.read("/srv/deep/../deep/er/big", 20_000).expect("read"), big);
    assert_eq!(tree.metadata("/etc/hostname").expect("there").mode, Some(0o640));
    assert_eq!(
        tree.read("/../../etc/hostname", 99).expect("read"),
        b"node-123abc\n",
        "above the root is the root"
    );
    assert!(!tree.exists("/etc/hostname/more").expect("looked"));
    let Tree::Ext4(tree) = tree else { panic!("ext4") };
    assert_eq!(tree.label().as_deref(), Some("root"));
}

#[test]
fn a_superblock_that_would_take_all_memory_is_refused() {
    let bench = Bench::new();
    let path = bench.blank("ext4", 16 * MIB);
    assert!(write_ext4(&open(&path), "root", Uuid::from_u128(3), &[]).is_ok());
    for (at, bytes) in [(4, u32::MAX), (336, 0x60), (32, 1), (32, 0), (24, 60), (56, 0), (88, 0x0001_0001)] {
        let old = peek(&path, 1024 + at, 4);
        poke(&path, 1024 + at, &bytes.to_le_bytes());
        let opened = super::Ext4Tree::open(&SliceReader::open(&path).expect("it opens")).map(|_| ());
        assert!(
            matches!(opened, Err(MediaError::Damaged { .. } | MediaError::Cut { .. })),
            "{at}: {opened:?}"
        );
        poke(&path, 1024 + at, &old);
    }
}

#[test]
fn paths_are_taken_apart_without_leaving_the_tree() {
    assert_eq!(parts("/a//b/./c/"), ["a", "b", "c"]);
    assert_eq!(parts("../../etc/../passwd"), ["passwd"]);
    assert_eq!(parts("/"), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is put is read again by the same names, and the volume stays sound; what cannot be put changes nothing.
    #[test]
    fn any_files_come_back_as_they_were(
        files in vec(("([a-zA-Z0-9äöüß ~_.+=-]{1,30}/){0,3}[a-zA-Z0-9äöüß ~_.+=-]{1,30}", 0_usize..6000), 1..12),
        bytes in prop::sample::select(&[MIB, 3 * MIB, 9 * MIB][..]),
    ) {
        let bench = Bench::new();
        let path = bench.fat("fat", bytes);
        let contents: Vec<_> = files.iter().map(|(name, length)| vec![name.len() as u8; *length]).collect();
        let asked: Vec<_> = files.iter().zip(&contents).map(|((name, _), content)| (name.as_str(), content.as_slice())).collect();
        let volume = Overlay::over(open(&path));
        match put_files(&volume, &asked) {
            Ok(free) => {
                volume.commit().expect("written");
                let tree = tree(&path);
                for (number, (name, content)) in asked.iter().enumerate() {
                    let later = asked[number + 1..].iter().any(|(other, _)| other.to_lowercase() == name.to_lowercase());
                    if !later {
                        prop_assert_eq!(&tree.read(name, MIB).expect("read"), content);
                    }
                }
                let Tree::Fat(fat) = tree else { panic!("FAT") };
                prop_assert_eq!(fat.free_bytes().expect("sound"), free);
            }
            Err(error) => prop_assert!(
                matches!(error, MediaError::BadName { .. } | MediaError::WrongKind { .. } | MediaError::FolderFull { .. }),
                "{error}"
            ),
        }
    }
}

fn look(path: &std::path::Path) {
    let part = open(path);
    let Ok(tree) = Tree::open(&part) else { return };
    for node in tree.walk().unwrap_or_default() {
        drop(tree.read(&node.path, MIB));
        drop(tree.metadata(&node.path));
    }
    if let Tree::Fat(fat) = &tree {
        drop((fat.label(), fat.free_bytes()));
        // And never written to unless it is sound, with a result that is sound as well.
        let volume = Overlay::over(part);
        drop(put_files(&volume, &[("/EFI/new folder/new", &[1; 3000]), ("/grün", b"")]));
    }
}

#[test]
fn damaged_fat_never_panics() {
    let bench = Bench::new();
    for bytes in [2 * MIB, 9 * MIB] {
        in_many_ways(&bench.fat("fat", bytes), 400, look);
    }
}

#[test]
fn damaged_ext4_never_panics() {
    let bench = Bench::new();
    let path = bench.blank("ext4", 16 * MIB);
    let files = [
        NewFile { path: "/etc/hostname", mode: 0o640, bytes: b"node-123abc\n" },
        NewFile { path: "/etc/os-release", mode: 0o644, bytes: b"ID=nixos\n" },
    ];
    assert!(write_ext4(&open(&path), "root", Uuid::from_u128(3), &files).is_ok());
    in_many_ways(&path, 1500, look);
}
