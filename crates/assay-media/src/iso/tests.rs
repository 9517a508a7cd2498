use super::{Iso, Names, Platform, matches};
use crate::bytes::put;
use crate::samples::{Bench, Sample, in_many_ways};
use crate::{MediaError, NodeKind};

#[test]
fn an_image_by_hand_is_read_whole() {
    let bench = Bench::new();
    let iso = Iso::open(&bench.file("iso", &Sample::new().bytes)).expect("it opens");
    assert_eq!((iso.volume().id.as_deref(), iso.volume().names), (Some("SAMPLE"), Names::RockRidge));
    assert_eq!(iso.volume().made.as_deref(), Some("2026-07-31 12:00:00.00"));
    let files: Vec<_> = iso
        .files()
        .expect("walked")
        .into_iter()
        .map(|node| (node.path, node.kind, node.size, node.mode))
        .collect();
    assert_eq!(
        files,
        [
            ("/Long Name.txt".to_owned(), NodeKind::File, 2055, Some(0o644)),
            ("/folder".to_owned(), NodeKind::Folder, 0, Some(0o755)),
            ("/folder/inner.txt".to_owned(), NodeKind::File, 6, Some(0o644)),
            ("/link".to_owned(), NodeKind::Link, 0, Some(0o777)),
        ]
    );
    assert_eq!(iso.read("link", 99).expect("read"), b"inner\n");
    let long = iso.read("/Long Name.txt", 9999).expect("read");
    assert_eq!((&long[..6], &long[2048..]), (&b"inner\n"[..], &b"inner\n "[..]), "both pieces");
    let platforms: Vec<_> =
        iso.boot_entries().iter().map(|entry| (entry.platform, entry.problem.as_deref())).collect();
    assert_eq!(platforms, [(Platform::Bios, None), (Platform::Efi, None)]);
    assert_eq!(iso.boot_entries()[1].loaders, ["/EFI/BOOT/BOOTX64.EFI"]);
    let booting = iso.booting().expect("judged");
    assert!(booting.cd_bios.works && booting.cd_uefi.works, "{booting:?}");
    assert_eq!(booting.stick_bios.because, "the first sector is not a boot sector");
    assert_eq!(booting.stick_uefi.because, "there is no partition table");
}

/// Opens a sample after a change.
fn changed(change: impl FnOnce(&mut Sample)) -> Result<Iso, MediaError> {
    let bench = Bench::new();
    let mut sample = Sample::new();
    change(&mut sample);
    Iso::open(&bench.file("iso", &sample.bytes))
}

fn words<T>(result: Result<T, MediaError>) -> String {
    result.map(|_| ()).expect_err("it is damaged").to_string()
}

#[test]
fn folders_in_circles_are_damage_and_not_a_loop() {
    let iso = changed(|sample| {
        // The folder's place is the root's.
        let at = sample.record_of(Sample::ROOT, b"FOLDER");
        put(&mut sample.bytes, at + 2, &[Sample::ROOT as u8]);
    });
    let iso = iso.expect("it opens");
    assert_eq!(
        words(iso.files()),
        "the ISO 9660 tree is damaged: `/folder` is in the place of another folder"
    );
    // Asked for by name it is as deep as the name.
    assert!(iso.exists("/folder/folder/folder/link").is_ok());
}

#[test]
fn a_moved_folder_is_found_where_it_was_and_one_that_leads_up_is_damage() {
    let moved = |to: u64| {
        changed(|sample| {
            // The record of the file becomes a placeholder with the place of a folder.
            let at = sample.record_of(Sample::FOLDER, b"INNER.TXT;1");
            let link = [&b"CL\x0c\x01"[..], &(to as u32).to_le_bytes(), &(to as u32).to_be_bytes()].concat();
            let px = sample.bytes[at..at + 200].windows(2).position(|part| part == b"PX").expect("modes");
            put(&mut sample.bytes, at + px, &link);
        })
        .expect("it opens")
    };
    let up = moved(Sample::ROOT);
    assert!(up.metadata("/folder/inner.txt").expect("there").is_folder());
    assert!(words(up.files()).contains("is in the place of another folder"));
}

#[test]
fn each_contradiction_is_told_apart() {
    let cut = words(changed(|sample| sample.bytes.truncate(25 * 2048)));
    assert!(cut.contains("is cut off: its volume has 1097728 bytes and the file 51200"), "{cut}");
    let none = words(changed(|sample| put(&mut sample.bytes, 16 * 2048 + 1, b"XX001")));
    assert!(none.contains("block 16 holds no volume descriptor"), "{none}");
    let sizes = words(changed(|sample| put(&mut sample.bytes, 16 * 2048 + 84, &[9, 9, 9, 9])));
    assert!(sizes.contains("read the other way round"), "{sizes}");
    let blocks = words(changed(|sample| put(&mut sample.bytes, 16 * 2048 + 128, &[0, 2, 2, 0])));
    assert!(blocks.contains("blocks of 512 bytes"), "{blocks}");
    let root = words(changed(|sample| put(&mut sample.bytes, 16 * 2048 + 158, &[0xff; 4])));
    assert!(root.contains("a folder of the ISO image needs 2048 bytes"), "{root}");
    let huge = words(changed(|sample| put(&mut sample.bytes, 16 * 2048 + 166, &[0xff; 4])));
    assert!(huge.contains("a folder has 4294967295, more than the limit"), "{huge}");
    let record = changed(|sample| {
        let at = sample.record_of(Sample::FOLDER, b"INNER.TXT;1");
        sample.bytes[at + 32] = 250;
    });
    assert!(words(record.expect("it opens").files()).contains("has a name of 250"));
    let name = changed(|sample| {
        let at = sample.record_of(Sample::FOLDER, b"INNER.TXT;1");
        let within =
            sample.bytes[at..at + 200].windows(9).position(|part| part == b"inner.txt").expect("the name");
        put(&mut sample.bytes, at + within, b"../../etc");
    });
    assert!(words(name.expect("it opens").files()).contains("a file is called \"../../etc\""));
    let file = changed(|sample| {
        let at = sample.record_of(Sample::FOLDER, b"INNER.TXT;1");
        put(&mut sample.bytes, at + 10, &[0xff; 3]);
    });
    let file = file.expect("it opens");
    assert!(words(file.read("/folder/inner.txt", u64::MAX)).contains("cut off or damaged"));
    assert!(words(file.read("/folder/inner.txt", 1000)).contains("more than the limit of 1000"));
}

#[test]
fn a_boot_catalogue_that_cannot_be_used_says_why() {
    let catalogue = Sample::CATALOGUE as usize * 2048;
    let problem = |change: &dyn Fn(&mut Sample)| {
        let iso = changed(change).expect("it opens all the same");
        let booting = iso.booting().expect("judged");
        (iso.catalogue_problem().map(str::to_owned), booting.cd_bios, booting.cd_uefi)
    };
    let (why, bios, uefi) = problem(&|sample| sample.bytes[catalogue + 5] ^= 1);
    assert_eq!(why.as_deref(), Some("the El Torito boot catalogue is damaged: its checksum does not fit"));
    assert!(!bios.works && !uefi.works && bios.because.contains("checksum"));
    let (why, ..) = problem(&|sample| put(&mut sample.bytes, 17 * 2048 + 71, &[0xff; 4]));
    assert!(why.is_some_and(|why| why.contains("cut off")), "the catalogue lies behind the end");
    // An entry behind the end.
    let (why, bios, uefi) = problem(&|sample| put(&mut sample.bytes, catalogue + 104, &[0xff, 0xff]));
    assert_eq!((why, bios.works, uefi.works), (None, true, false));
    assert!(uefi.because.contains("and the file ends at"), "{}", uefi.because);
    let (_, bios, _) = problem(&|sample| sample.bytes[catalogue + 32] = 0);
    assert_eq!(bios.because, "it is not marked bootable");
    let (_, bios, _) = problem(&|sample| put(&mut sample.bytes, catalogue + 38, &[0, 0]));
    assert_eq!(bios.because, "it loads no sectors");
    let (_, _, uefi) = problem(&|sample| sample.bytes[catalogue + 65] = 0);
    assert_eq!(uefi.because, "the boot catalogue has no entry for Efi");
    let (_, _, uefi) = problem(&|sample| put(&mut sample.bytes, Sample::EFI as usize * 2048 + 11, &[0, 0]));
    assert!(uefi.because.contains("it holds no FAT file system"), "{}", uefi.because);
    // A section that announces more entries than there are.
    let (why, ..) = problem(&|sample| put(&mut sample.bytes, catalogue + 66, &[0xff, 0xff]));
    assert_eq!(why, None);
}

#[test]
fn the_count_of_a_large_efi_image_is_taken_from_its_file_system() {
    let iso = changed(|sample| put(&mut sample.bytes, Sample::CATALOGUE as usize * 2048 + 102, &[0, 0]));
    let iso = iso.expect("it opens");
    let entry = &iso.boot_entries()[1];
    assert_eq!((entry.sectors, entry.bytes, entry.problem.as_deref()), (0, 1 << 20, None));
    assert!(iso.efi_tree(entry).expect("a tree").exists("/empty").expect("looked"));
}

#[test]
fn patterns_mean_what_they_mean_in_a_shell() {
    let is = |pattern: &str, path: &str| {
        let split = |text: &'static str| text.split('/').collect::<Vec<_>>();
        let (pattern, path) = (pattern.to_owned().leak(), path.to_owned().leak());
        matches(&split(pattern), &split(path))
    };
    for (pattern, path) in [
        ("boot/*.cfg", "boot/grub.cfg"),
        ("**/*.cfg", "boot/grub.cfg"),
        ("**/*.cfg", "grub.cfg"),
        ("a/**/z", "a/z"),
        ("a/**/z", "a/b/c/z"),
        ("**", "anything/at/all"),
        ("gr?b*", "grub"),
        ("*a*b*c", "xxaxxbxxc"),
    ] {
        assert!(is(pattern, path), "{pattern} {path}");
    }
    for (pattern, path) in
        [("*.cfg", "boot/grub.cfg"), ("a/**/z", "a/b"), ("gr?b", "grb"), ("", "a"), ("a", "a/b")]
    {
        assert!(!is(pattern, path), "{pattern} {path}");
    }
    let started = std::time::Instant::now();
    assert!(!is(&"*a".repeat(2000), &"a".repeat(1999)));
    assert!(started.elapsed().as_secs() < 5, "no pattern takes for ever");
}

#[test]
fn damaged_images_never_panic() {
    let bench = Bench::new();
    let path = bench.file("iso", &Sample::new().bytes);
    in_many_ways(&path, 1500, |path| {
        let Ok(iso) = Iso::open(path) else { return };
        drop(iso.booting());
        drop(iso.find("**/*.txt"));
        for node in iso.files().unwrap_or_default() {
            drop(iso.read(&node.path, 1 << 20));
        }
        for entry in iso.boot_entries() {
            if let Ok(tree) = iso.efi_tree(entry) {
                drop(tree.walk());
            }
        }
    });
}
