//! The oracle of power cuts, on evidence that is bent in one place each.

use super::*;
use crate::image::fixtures::Seen;

fn files(names: &[(&str, &str)]) -> Files {
    names.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

fn became(watched: &Watched, now: &Files, bend: impl FnOnce(&mut Found<'_>)) -> (Became, String, String) {
    let complete = files(&[("NV0/root/boot/vmlinuz", "k"), ("NV0/root/etc/hostname", "h")]);
    let mut found =
        Found { startable: true, missing: Vec::new(), files: now, complete: &complete, after_success: false };
    bend(&mut found);
    let mut profile = Seen::good().profile;
    profile.power_cut.refuses = vec!["^grub>".to_owned()];
    judged(&profile, &found, watched)
}

fn failed(code: &str, line: &str) -> Watched {
    let mut watched = Seen::good().rebooted.watched;
    watched.outcome = Outcome::Failed { code: code.into(), line: line.into(), meaning: "look".into() };
    watched
}

#[test]
fn a_system_that_came_up_is_new_only_when_all_of_it_is_there() {
    let up = Seen::good().rebooted.watched;
    let whole =
        files(&[("NV0/root/boot/vmlinuz", "k"), ("NV0/root/etc/hostname", "h"), ("NV0/root/more", "m")]);
    assert_eq!(became(&up, &whole, |_| ()).0, Became::New);
    let (class, code, why) = became(&up, &files(&[("NV0/root/boot/vmlinuz", "k")]), |_| ());
    assert_eq!((class, code.as_str()), (Became::Half, "HalfInstalled"));
    assert!(why.ends_with("there is missing: NV0/root/etc/hostname"), "{why}");
    let torn = files(&[("NV0/root/boot/vmlinuz", "k"), ("NV0/root/etc/hostname", "")]);
    assert_eq!(became(&up, &torn, |_| ()).0, Became::Half, "a file that is not yet what it became");
    assert_eq!(became(&up, &torn, |found| found.after_success = true).0, Became::New, "changed since");
    assert_eq!(became(&up, &whole, |found| found.missing = vec!["longhorn2 on SSD0".into()]).0, Became::Half);
}

#[test]
fn what_a_machine_says_is_held_to_the_oracle() {
    let none = Files::new();
    let rows = [
        (failed("NoBootableDevice", "No bootable device."), Became::Refused),
        (failed("EfiShell", "Shell>"), Became::Refused),
        (failed("Refused", "[zeta-init] failed: no file system"), Became::Refused),
        (failed("GrubShell", "grub> "), Became::Refused),
        (failed("OldSystem", "Welcome to the old one"), Became::Old),
        (failed("GrubRescue", "grub rescue>"), Became::Broken),
        (failed("KernelPanic", "Kernel panic - not syncing"), Became::Broken),
    ];
    for (watched, wanted) in rows {
        let (class, _, why) = became(&watched, &none, |_| ());
        assert_eq!(class, wanted, "{:?}", watched.outcome);
        assert!(!why.is_empty());
    }
    let mut hangs = Seen::good().rebooted.watched;
    hangs.outcome = Outcome::Stalled { code: "Silent".into(), line: "GRUB".into(), seconds: 30.0 };
    assert_eq!(became(&hangs, &none, |_| ()).0, Became::Broken, "a hang is no refusal");
    assert_eq!(
        became(&hangs, &none, |found| found.startable = false).0,
        Became::Refused,
        "nothing was started"
    );
    hangs.outcome = Outcome::RunnerFault { why: "QEMU ended".into() };
    assert_eq!(became(&hangs, &none, |_| ()).0, Became::Unseen);
}

#[test]
fn a_bios_starts_the_first_disk_with_a_signature_and_no_other() {
    let sector = |code: u8, signed: bool| {
        let mut sector = [0; 512];
        sector[0] = code;
        // A partition table is no code.
        sector[446] = 0x80;
        sector[510..].copy_from_slice(if signed { &[0x55, 0xaa] } else { &[0, 0] });
        sector
    };
    let (boots, table, stick, blank) = (sector(0xeb, true), sector(0, true), sector(0xeb, true), [0; 512]);
    assert!(bios_starts(&[boots, blank]) && bios_starts(&[blank, stick]));
    assert!(!bios_starts(&[table, stick]), "it never gets to the stick");
    assert!(!bios_starts(&[blank, sector(0xeb, false)]) && !bios_starts(&[]));
}

#[test]
fn a_limit_takes_the_first_the_last_and_evenly_between() {
    assert_eq!(chosen(5, None), [0, 1, 2, 3, 4]);
    assert_eq!(chosen(5, Some(9)), [0, 1, 2, 3, 4]);
    assert_eq!(chosen(9, Some(3)), [0, 4, 8]);
    assert_eq!(chosen(9, Some(1)), [8], "the finished one, without which nothing is shown");
    assert!(chosen(9, Some(0)).is_empty() && chosen(0, None).is_empty());
}

#[test]
fn a_moment_is_that_in_which_the_log_had_grown_to_it() {
    let grown = [(0.5, 512), (2.0, 4096), (3.0, 8192)];
    let seen: Vec<_> = [0, 512, 513, 8192, 9000].map(|length| when(&grown, length)).into();
    assert_eq!(seen, [0.5, 0.5, 2.0, 3.0, 3.0]);
    assert!(when(&[], 7).abs() < f64::EPSILON);
}
