//! `Inspect`: an image that cannot boot, or holds what it must not, is told before a machine is switched on.

use assay_model::Verdict;

use super::super::fixtures::{
    Row, Seen, a_guest_s_words_are_shown_clean, each_raises_its_own_code, nothing_is_missed_in_silence,
    the_page_has_them_all,
};
use super::super::profile::{Firmware, MediumAs, Size};

const ROWS: &[Row] = &[
    ("ImageUnreadable", |seen| seen.inspected.problem = Some("no volume descriptor".into())),
    ("ImageTruncated", |seen| seen.inspected.said_bytes += 2048),
    ("NotBootable", |seen| seen.inspected.stick_bios = false),
    ("VolumeIdWrong", |seen| seen.inspected.volume_id = "SMALL_INSTALLER_2".into()),
    ("ImageTooLarge", |seen| seen.profile.inspect.max_size = Some(Size((34 << 20) - 1))),
    ("RequiredFileMissing", |seen| seen.inspected.required.clear()),
    ("ForbiddenFile", |seen| seen.inspected.forbidden.push("/root/id_ed25519".into())),
];

#[test]
fn each_fault_of_an_image_has_its_code() {
    each_raises_its_own_code("Inspect", ROWS);
    the_page_has_them_all("Inspect", ROWS);
}

#[test]
fn an_image_is_told_in_one_sentence() {
    let judgement = Seen::good().judged("Inspect");
    assert_eq!(judgement.message, "`SMALL_INSTALLER`, 34.0 MiB, 40 files, boots BIOS and UEFI");
    assert_eq!(judgement.coverage[0].to_string(), "1 of 1 required files");
}

#[test]
fn a_file_that_is_there_and_empty_is_not_there() {
    let mut seen = Seen::good();
    seen.inspected.empty.push("/live/system.squashfs".into());
    let judgement = seen.judged("Inspect");
    assert_eq!(judgement.findings[0].message, "required /live/*.squashfs: /live/system.squashfs, empty");
    seen.inspected.required.values_mut().for_each(|found| found.push("/live/second.squashfs".into()));
    assert_eq!(seen.judged("Inspect").verdict, Verdict::Pass, "one of them holds something");
}

#[test]
fn a_cd_boots_by_its_catalogue_and_a_stick_by_its_partitions() {
    let stick_alone: fn(&mut Seen) = |seen| seen.inspected.entries.clear();
    let cd_alone: fn(&mut Seen) =
        |seen| (seen.inspected.stick_bios, seen.inspected.stick_uefi) = (false, false);
    let marked_useless: fn(&mut Seen) = |seen| seen.inspected.entries[0].usable = false;
    let rows = [
        (MediumAs::Usb, Firmware::Bios, stick_alone, Verdict::Pass),
        (MediumAs::Cd, Firmware::Bios, stick_alone, Verdict::Fail),
        (MediumAs::Usb, Firmware::Uefi, cd_alone, Verdict::Fail),
        (MediumAs::Cd, Firmware::Uefi, cd_alone, Verdict::Pass),
        (MediumAs::Cd, Firmware::Bios, marked_useless, Verdict::Fail),
        (MediumAs::Cd, Firmware::SecureBoot, marked_useless, Verdict::Pass),
    ];
    for (medium, firmware, bend, verdict) in rows {
        let mut seen = Seen::good();
        seen.profile.medium.kind = medium;
        seen.profile.machine.firmware = firmware;
        bend(&mut seen);
        let judgement = seen.judged("Inspect");
        assert_eq!(judgement.verdict, verdict, "{medium:?} {firmware:?}: {judgement:#?}");
    }
}

#[test]
fn every_firmware_that_is_named_is_asked_for() {
    let mut seen = Seen::good();
    seen.profile.inspect.boots = vec![Firmware::Bios, Firmware::Uefi];
    assert_eq!(seen.judged("Inspect").verdict, Verdict::Pass);
    seen.inspected.stick_uefi = false;
    let judgement = seen.judged("Inspect");
    assert_eq!(judgement.findings[0].message, "nothing for UEFI to boot: nothing to boot from a stick");
}

#[test]
fn nothing_of_the_evidence_is_missed_in_silence() {
    // A stick is not booted by the catalogue, and a BIOS does not look for what UEFI boots.
    nothing_is_missed_in_silence("Inspect", &["/problem", "/entries/*"]);
}

#[test]
fn an_image_s_own_words_are_shown_clean() {
    a_guest_s_words_are_shown_clean("Inspect", |seen| {
        seen.profile.medium.kind = MediumAs::Cd;
        seen.inspected.forbidden.push("/root/id_ed25519".into());
        seen.inspected.empty.push("/live/system.squashfs".into());
    });
    a_guest_s_words_are_shown_clean("Inspect", |seen| seen.inspected.problem = Some("no descriptor".into()));
}
