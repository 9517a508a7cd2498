//! Moving into place, with links where a stranger would like them.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use super::{RestoreFailure, place_all};
use crate::site::Covered;

fn placed(place: &Path, path: &str) -> Vec<RestoreFailure> {
    let moves =
        [Covered { volume: "v".to_owned(), root: place.join("volume"), paths: vec![path.to_owned()] }];
    place_all(&moves, &place.join("staging")).unwrap()
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_whole_volume_becomes_what_was_backed_up() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    write(&at.join("staging/data/v/a/file"), "restored");
    std::fs::set_permissions(at.join("staging/data/v"), std::fs::Permissions::from_mode(0o2710)).unwrap();
    write(&at.join("volume/a/other"), "fresh");
    write(&at.join("host/keep"), "keep");
    symlink(at.join("host"), at.join("volume/link")).unwrap();
    assert_eq!(placed(at, ""), []);
    assert_eq!(std::fs::read_to_string(at.join("volume/a/file")).unwrap(), "restored");
    assert!(!at.join("volume/a/other").exists() && !at.join("volume/link").exists());
    assert!(at.join("host/keep").exists());
    assert_eq!(std::fs::metadata(at.join("volume")).unwrap().mode() & 0o7777, 0o2710);
}

#[test]
fn a_link_in_the_fresh_volume_leads_nothing_astray() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    write(&at.join("staging/data/v/a/file"), "restored");
    write(&at.join("staging/data/v/b/c/file"), "restored");
    write(&at.join("host/file"), "host");
    std::fs::create_dir(at.join("volume")).unwrap();
    // The path itself may be a link: it is replaced, and what it led to stays.
    symlink(at.join("host"), at.join("volume/a")).unwrap();
    assert_eq!(placed(at, "a"), []);
    assert!(std::fs::symlink_metadata(at.join("volume/a")).unwrap().is_dir());
    // One on the way is refused.
    symlink(at.join("host"), at.join("volume/b")).unwrap();
    let refused = RestoreFailure::RefusedPath { volume: "v".to_owned(), path: "b/c".to_owned() };
    assert_eq!(placed(at, "b/c"), [refused]);
    assert_eq!(std::fs::read_to_string(at.join("host/file")).unwrap(), "host");
    assert!(!at.join("host/c").exists());
}

#[test]
fn what_is_not_there_is_said() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    write(&at.join("staging/data/v/a/file"), "restored");
    assert_eq!(placed(at, "a"), [RestoreFailure::NoVolume { volume: "v".to_owned() }]);
    std::fs::create_dir(at.join("volume")).unwrap();
    let missing = RestoreFailure::NotInSnapshot { volume: "v".to_owned(), path: "x".to_owned() };
    assert_eq!(placed(at, "x"), [missing]);
}
