//! ISO images of Debian's packages and of GRUB's and xorriso's tools, and what xorriso says of them.

use std::collections::BTreeSet;

use assay_media::{BootCode, Emulation, HeaderState, Iso, MediaError, Names, NodeKind, Platform, Scheme};

use crate::tools::{Bench, IPXE, MEMTEST, MIB, run, text};

#[test]
fn ipxe_boots_from_cd_and_from_a_stick_by_a_bios() {
    let iso = Iso::open(IPXE.as_ref()).expect("it opens");
    assert_eq!(iso.volume().id.as_deref(), Some("ISOIMAGE"));
    assert_eq!(iso.volume().bytes, 845 * 2048);
    let entries: Vec<_> = iso
        .boot_entries()
        .iter()
        .map(|entry| (entry.platform, entry.emulation, entry.block, entry.sectors, entry.problem.as_deref()))
        .collect();
    assert_eq!(
        entries,
        [(Platform::Bios, Emulation::None, 466, 4, None), (Platform::Efi, Emulation::None, 34, 1728, None)]
    );
    let booting = iso.booting().expect("judged");
    assert!(booting.cd_bios.works && booting.cd_uefi.works && booting.stick_bios.works, "{booting:?}");
    assert!(!booting.stick_uefi.works, "{booting:?}");
    assert_eq!(booting.stick_uefi.because, "no partition is an EFI system partition");
    assert_eq!(booting.boot_code, BootCode::Isolinux);
    assert_eq!(booting.cd_uefi.because, "/EFI/BOOT/bootx64.efi");
}

#[test]
fn memtest_has_a_diskette_in_its_catalogue_and_an_esp_behind_its_volume() {
    let iso = Iso::open(MEMTEST.as_ref()).expect("it opens");
    assert_eq!(iso.volume().id.as_deref(), Some("MT86PLUS_64"));
    assert_eq!(iso.table().scheme, Scheme::Mbr);
    let partitions = iso.table().partitions();
    assert_eq!(partitions.len(), 2);
    assert!(partitions[1].is_esp());
    assert_eq!((partitions[1].start, partitions[1].size), (3304 * 512, 4 * MIB));
    assert_eq!(iso.boot_entries()[0].emulation, Emulation::Floppy144);
    let booting = iso.booting().expect("judged");
    for way in [&booting.cd_bios, &booting.cd_uefi, &booting.stick_bios, &booting.stick_uefi] {
        assert!(way.works, "{booting:#?}");
    }
    let tree = iso.efi_tree(&iso.boot_entries()[1]).expect("a FAT file system");
    let listed = tree.walk().expect("walked").into_iter().map(|node| node.path).collect::<Vec<_>>();
    assert!(listed.iter().any(|path| path.eq_ignore_ascii_case("/EFI/BOOT/BOOTX64.EFI")), "{listed:?}");
}

#[test]
fn grubs_rescue_image_has_everything_at_once() {
    let bench = Bench::new();
    let iso = Iso::open(&bench.grub_rescue("rescue.iso")).expect("it opens");
    assert_eq!(iso.volume().names, Names::RockRidge);
    assert_eq!(iso.table().scheme, Scheme::Gpt);
    let gpt = iso.table().gpt.as_ref().expect("a GPT");
    assert!(matches!((&gpt.primary, &gpt.backup), (HeaderState::Sound { .. }, HeaderState::Sound { .. })));
    let booting = iso.booting().expect("judged");
    for way in [&booting.cd_bios, &booting.cd_uefi, &booting.stick_bios, &booting.stick_uefi] {
        assert!(way.works, "{booting:#?}");
    }
    assert_eq!(booting.boot_code, BootCode::Grub);
    assert_eq!(iso.read("/boot/grub/grub.cfg", 1024).expect("read"), b"set timeout=1\n");
    assert_eq!(iso.read("/A long name with blanks.txt", 1024).expect("read"), b"long\n");
    let kernels = iso.find("boot/**/*.mod").expect("found");
    assert!(kernels.len() > 100 && kernels.iter().all(|node| node.path.contains(".mod")));
    let named: Vec<_> = iso.find("grub.cfg").expect("found").into_iter().map(|node| node.path).collect();
    assert_eq!(named, ["/boot/grub/grub.cfg"]);
    assert!(iso.find("GRUB.CFG").expect("found").is_empty(), "Rock Ridge names differ by case");
}

#[test]
fn the_tree_is_the_one_that_xorriso_lists() {
    let bench = Bench::new();
    let rescue = bench.grub_rescue("rescue.iso");
    for path in [text(&rescue), IPXE, MEMTEST] {
        let said = run("xorriso", &["-indev", path, "-find", "/", "-exec", "report_lba"]);
        let theirs: BTreeSet<(String, u64)> = said
            .lines()
            .filter_map(|line| {
                // File data lba:  0 ,  34 , 432 , 884736 , '/efi.img'
                let (front, name) = line.split_once('\'')?;
                let size = front.split(',').nth(3)?.trim().parse().ok()?;
                Some((name.trim_end_matches('\'').to_owned(), size))
            })
            .collect();
        // Where it has no file of its own, xorriso does not list the catalogue.
        let is_catalogue = |path: &str| path.starts_with("/boot.cat");
        let iso = Iso::open(path.as_ref()).expect("it opens");
        let files = iso.files().expect("walked");
        let ours: BTreeSet<_> = files
            .iter()
            .filter(|node| node.is_file() && !is_catalogue(&node.path))
            .map(|node| (node.path.clone(), node.size))
            .collect();
        assert!(!theirs.is_empty(), "{said}");
        let theirs: BTreeSet<_> = theirs.into_iter().filter(|(path, _)| !is_catalogue(path)).collect();
        let differing: Vec<_> = ours.symmetric_difference(&theirs).collect();
        assert!(differing.is_empty(), "{path}: {differing:?}");
    }
}

#[test]
fn names_links_owners_and_deep_folders_in_all_three_kinds_of_names() {
    let bench = Bench::new();
    let tree = bench.path("tree");
    let deep = tree.join("a/b/c/d/e/f/g/h/i/j");
    std::fs::create_dir_all(&deep).expect("folders");
    std::fs::write(deep.join("bottom"), "deep\n").expect("written");
    let long = format!("{}.txt", "n".repeat(180));
    std::fs::write(tree.join(&long), "long\n").expect("written");
    std::fs::write(tree.join("grün"), "unicode\n").expect("written");
    std::os::unix::fs::symlink("a/b/c/d/e/f/g/h/i/j/bottom", tree.join("link")).expect("linked");
    std::os::unix::fs::symlink("/../../a/./b/../../grün", tree.join("absolute")).expect("linked");
    std::os::unix::fs::symlink("round", tree.join("round")).expect("linked");
    std::fs::set_permissions(tree.join("grün"), std::os::unix::fs::PermissionsExt::from_mode(0o640))
        .expect("set");
    let make = |name: &str, options: &[&str]| {
        let path = bench.path(name);
        let mut args = vec!["-as", "mkisofs", "-quiet", "-V", "NAMES", "-o", text(&path)];
        args.extend(options);
        args.push(text(&tree));
        run("xorriso", &args);
        Iso::open(&path).expect("it opens")
    };
    // Deeper than the eight levels of ISO 9660: folders are moved away and named back by Rock Ridge.
    let rock = make("rock.iso", &["-R", "-D", "-iso-level", "3"]);
    assert_eq!(rock.volume().names, Names::RockRidge);
    assert_eq!(rock.read("/a/b/c/d/e/f/g/h/i/j/bottom", 99).expect("read"), b"deep\n");
    assert_eq!(rock.read("link", 99).expect("read"), b"deep\n");
    assert_eq!(rock.read("/absolute", 99).expect("read"), b"unicode\n");
    assert_eq!(rock.read(&long, 99).expect("read"), b"long\n");
    let node = rock.metadata("grün").expect("there");
    assert_eq!((node.mode, node.uid.is_some()), (Some(0o640), true));
    assert!(matches!(rock.read("round", 99), Err(MediaError::Damaged { .. })), "a link to itself");
    let links: Vec<_> =
        rock.files().expect("walked").into_iter().filter(|node| node.kind == NodeKind::Link).collect();
    assert_eq!(links.len(), 3);
    assert_eq!(links[1].target.as_deref(), Some("a/b/c/d/e/f/g/h/i/j/bottom"));
    assert!(!rock.exists("/nothing/here").expect("looked"));
    assert!(matches!(rock.read(&long, 4), Err(MediaError::TooMuch { found: 5, limit: 4, .. })));
    assert!(matches!(rock.read("/a", 99), Err(MediaError::WrongKind { .. })));

    let joliet = make("joliet.iso", &["-J", "-joliet-long", "--norock"]);
    assert_eq!(joliet.volume().names, Names::Joliet);
    assert_eq!(joliet.read("/GRÜN", 99).expect("read"), b"unicode\n", "Joliet names do not differ by case");

    let plain = make("plain.iso", &["--norock", "-iso-level", "1"]);
    assert_eq!(plain.volume().names, Names::Plain);
    assert_eq!(plain.read("/a/b/c/d/e/f/g/h/i/j/bottom", 99).expect("read"), b"deep\n");
}

#[test]
fn moved_folders_of_genisoimages_kind_are_in_their_places() {
    let bench = Bench::new();
    let tree = bench.path("tree");
    let deep = tree.join("a/b/c/d/e/f/g/h/i/j");
    std::fs::create_dir_all(&deep).expect("folders");
    std::fs::write(deep.join("bottom"), "deep\n").expect("written");
    let path = bench.path("moved.iso");
    // xorriso moves folders only when it is told where to.
    let options = [
        "-rr_reloc_dir",
        "rr_moved",
        "-compliance",
        "deep_paths_off",
        "-outdev",
        text(&path),
        "-map",
        text(&tree),
        "/",
    ];
    run("xorriso", &options);
    let iso = Iso::open(&path).expect("it opens");
    assert_eq!(iso.read("/a/b/c/d/e/f/g/h/i/j/bottom", 99).expect("read"), b"deep\n");
    let paths: Vec<_> = iso.files().expect("walked").into_iter().map(|node| node.path).collect();
    assert_eq!(paths.iter().filter(|path| path.ends_with("bottom")).count(), 1, "{paths:?}");
}

#[test]
fn what_is_cut_off_or_no_iso_says_so() {
    let bench = Bench::new();
    let whole = std::fs::read(IPXE).expect("read");
    let cut = bench.path("cut.iso");
    std::fs::write(&cut, &whole[..1_500_000]).expect("written");
    match Iso::open(&cut) {
        Err(error @ MediaError::IsoTruncated { declared: 1_730_560, found: 1_500_000, .. }) => {
            assert!(error.to_string().contains("download it again"), "{error}");
        }
        other => panic!("{:?}", other.map(|iso| iso.volume().clone())),
    }
    let blank = bench.blank("blank", MIB);
    assert!(matches!(Iso::open(&blank), Err(MediaError::NotIso { .. })));
    let small = bench.blank("small", 100);
    assert!(matches!(Iso::open(&small), Err(MediaError::NotIso { .. })));
    assert!(matches!(Iso::open(&bench.path("nothing")), Err(MediaError::Io { .. })));
    assert!(matches!(Iso::open(bench.path("").as_path()), Err(MediaError::Io { .. })), "a folder");

    // The volume is whole, and what lies behind it is not: the EFI image that the catalogue points to.
    let whole = std::fs::read(MEMTEST).expect("read");
    std::fs::write(&cut, &whole[..826 * 2048 + 4096]).expect("written");
    let iso = Iso::open(&cut).expect("the volume is whole");
    let entry = &iso.boot_entries()[1];
    assert!(
        entry.problem.as_deref().is_some_and(|problem| problem.contains("the file ends at 1695744")),
        "{entry:?}"
    );
    let booting = iso.booting().expect("judged");
    assert!(booting.cd_bios.works && !booting.cd_uefi.works && !booting.stick_uefi.works, "{booting:#?}");
    assert!(iso.efi_tree(entry).is_err());
}

#[test]
fn an_iso_without_boot_records_boots_from_nothing() {
    let bench = Bench::new();
    let tree = bench.path("tree");
    std::fs::create_dir_all(&tree).expect("a folder");
    std::fs::write(tree.join("file"), "data").expect("written");
    let path = bench.path("data.iso");
    run("xorriso", &["-as", "mkisofs", "-quiet", "-R", "-V", "DATA", "-o", text(&path), text(&tree)]);
    let facts = Iso::open(&path).expect("it opens").facts().expect("read");
    let ways = [
        &facts.booting.cd_bios,
        &facts.booting.cd_uefi,
        &facts.booting.stick_bios,
        &facts.booting.stick_uefi,
    ];
    assert!(ways.iter().all(|way| !way.works), "{facts:#?}");
    assert_eq!(facts.booting.cd_bios.because, "there is no boot catalogue");
    assert_eq!(facts.table.scheme, Scheme::None);
    assert!(facts.volume.made.is_some(), "{facts:#?}");
}
