use super::*;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn reader(markers: &[(&str, &str)]) -> ScreenReader {
    let markers = markers.iter().map(|(name, pattern)| Marker::new(*name, pattern).unwrap()).collect();
    ScreenReader::new(Watch { markers, stuck_after: Some(s(30)), ..Watch::default() })
}

fn names(sightings: &[Sighting]) -> Vec<String> {
    let name = |sighting: &Sighting| match &sighting.what {
        What::Marker { name, .. } => name.clone(),
        What::Rung { rung, .. } => format!("{rung:?}"),
        What::Failure { code, .. } => code.clone(),
        What::StuckPrompt { prompt, .. } => format!("stuck: {prompt}"),
        What::IdleShell { prompt, .. } => format!("idle: {prompt}"),
        What::IdleLogin { prompt } => format!("login: {prompt}"),
        What::Silent { .. } => "silent".to_owned(),
    };
    sightings.iter().map(name).collect()
}

fn screen(rows: &[&str]) -> Screen {
    Screen::from_rows(40, rows.iter().copied())
}

#[test]
fn a_still_line_is_seen_once_and_so_is_one_that_scrolls() {
    let mut reader = reader(&[("done", "done"), ("step", r"^step (\d+)")]);
    let first = screen(&["step 1", "all done", "step 2", "working"]);
    assert_eq!(names(&reader.push(s(1), &first)), ["step", "done", "step"]);
    assert_eq!(names(&reader.push(s(2), &first)), [""; 0]);
    assert_eq!(
        names(&reader.push(s(3), &screen(&["all done", "step 2", "working", "step 3", "x"]))),
        ["step"]
    );
    assert_eq!(
        names(&reader.push(s(4), &screen(&["step 3", "x", "all done", "y"]))),
        ["done"],
        "another line of the same text"
    );
    // The screen is cleared and drawn anew with a line that stood there before.
    assert_eq!(names(&reader.push(s(5), &screen(&["", "x", "", "step 4", "y"]))), ["step"]);
    let texts: Vec<String> = reader.take_lines().into_iter().map(|line| line.text).collect();
    assert_eq!(texts, ["step 1", "all done", "step 2", "working", "step 3", "x", "all done", "step 4"]);
}

#[test]
fn the_last_line_grows() {
    let mut reader = reader(&[("name", r"name (\S+)"), ("login", "login:")]);
    assert_eq!(names(&reader.push(s(1), &screen(&["Welcome", "name no"]))), [""; 0]);
    assert_eq!(
        names(&reader.push(s(2), &screen(&["Welcome", "name node-1", "node-1 login:"]))),
        ["name", "login"]
    );
    assert_eq!(
        names(&reader.push(s(3), &screen(&["Welcome", "name node-1", "node-1 login: root", "Password:"]))),
        ["Login"]
    );
    assert_eq!(names(&reader.tick(s(60))), ["stuck: Password:"]);
    assert_eq!(reader.deadline(), None);
    assert_eq!(reader.tail(1)[0].text, "Password:");
}

#[test]
fn a_counter_is_one_line() {
    let mut reader = reader(&[("copying", "Copying files")]);
    let seen: Vec<String> = (0..=100)
        .flat_map(|percent| {
            let bar = format!("Copying files: {percent} %");
            names(&reader.push(s(percent), &screen(&["Install", &bar, "", "Esc cancels"])))
        })
        .collect();
    assert_eq!(seen, ["copying"]);
}

#[test]
fn full_rows_go_on_in_the_next() {
    let mut reader = reader(&[("done", "Installation complete")]);
    let rows = ["[    1.204711] systemd[1]: Installation c", "omplete", ""];
    let seen = reader.push(s(1), &Screen::from_rows(41, rows));
    assert_eq!(names(&seen), ["done", "Kernel", "Userspace"]);
    assert_eq!(seen[0].text, "[    1.204711] systemd[1]: Installation complete");
    assert_eq!(seen[0].source, Source::Screen);
    // Its first row scrolls away: what is left is no other line.
    reader.push(s(2), &Screen::from_rows(41, [rows[0], rows[1], "next"]));
    assert_eq!(names(&reader.push(s(3), &Screen::from_rows(41, ["omplete", "next", "last"]))), [""; 0]);
    let texts: Vec<String> = reader.take_lines().into_iter().map(|line| line.text).collect();
    assert_eq!(texts, [seen[0].text.as_str(), "next"]);
}

#[test]
fn a_panic_is_the_last_line_of_a_screen() {
    let mut reader = reader(&[]);
    let rows = ["[    5.812345] Kernel panic - not syncing: VFS", "[    5.813001] CPU: 0 PID: 1 Comm: init"];
    assert_eq!(names(&reader.push(s(1), &Screen::from_rows(80, rows))), ["Kernel", "KernelPanic"]);
    let rows = [rows[0], rows[1], "[    5.814212] ---[ end Kernel panic - not syncing: VFS ]---"];
    assert_eq!(names(&reader.push(s(2), &Screen::from_rows(80, rows))), ["KernelPanic"]);
    assert_eq!(reader.failures()["KernelPanic"], 2);
    // Without time stamps, the line counts once it stands still.
    let mut reader = super::tests::reader(&[]);
    assert_eq!(names(&reader.push(s(1), &screen(&["No bootable device."]))), [""; 0]);
    assert_eq!(names(&reader.tick(s(2))), ["NoBootableDevice"]);
}

#[test]
fn prompts_and_dialogs() {
    let mut reader = reader(&[]);
    reader.push(
        s(1),
        &screen(&["", "   Write the changes to disks?", "", "   <Yes>       <No>", "", "  F1 for help"]),
    );
    assert_eq!(names(&reader.tick(s(31))), ["stuck: <Yes>       <No>"]);
    assert_eq!(names(&reader.tick(s(310))), [""; 0]);
    reader.push(s(311), &screen(&["BusyBox v1.35.0", "(initramfs)"]));
    assert_eq!(names(&reader.tick(s(400))), ["InitramfsShell", "idle: (initramfs)"]);
}

#[test]
fn any_screens_at_all() {
    let mut reader = reader(&[("x", "x")]);
    for rows in [&[][..], &["", ""], &["x"], &["x", "x", "x"], &["x"], &["", "x"], &[], &["xx", ""]] {
        reader.push(s(1), &screen(rows));
    }
    assert!(reader.tail(10).len() == 1);
}

#[test]
fn a_window_is_told_by_what_it_asks_and_work_in_one_is_not_a_prompt() {
    let keys = "<Tab> moves; <Space> selects; <Enter> activates buttons";
    let mut reader = reader(&[]);
    let rows = [
        "┌──────┤ [!] Configure the network ├──────┐",
        "│ Name server addresses:                  │",
        "│ _______________________________________ │",
        "│   <Go Back>                <Continue>   │",
        "└─────────────────────────────────────────┘",
        "",
        keys,
    ];
    reader.push(s(1), &Screen::from_rows(80, rows));
    assert_eq!(
        names(&reader.tick(s(31))),
        ["stuck: [!] Configure the network: Name server addresses: <Go Back> <Continue>"]
    );
    let rows = [
        "┌────┤ Loading additional components ├────┐",
        "│ ██████████                         23%  │",
        "│ Retrieving partman-auto                 │",
        "└─────────────────────────────────────────┘",
        "",
        keys,
    ];
    reader.push(s(40), &Screen::from_rows(80, rows));
    assert_eq!(names(&reader.tick(s(100))), [""; 0]);
}

#[test]
fn a_cursor_that_blinks_does_not_keep_a_prompt_from_standing_still() {
    let mut reader = reader(&[]);
    // Every other second it is drawn: a line below a blank, which no font has.
    let shown = ["Erase all disks? [y/N] ", "Erase all disks? [y/N] \u{fffd}"];
    let mut seen = Vec::new();
    for second in 1..40 {
        seen.extend(names(&reader.push(s(second), &Screen::from_rows(80, [shown[second as usize % 2]]))));
    }
    assert_eq!(seen, ["stuck: Erase all disks? [y/N]"]);
    reader.push(s(31), &Screen::from_rows(80, ["Erase all disks? [y/N] y", "\u{fffd}"]));
    assert_eq!(reader.tail(5).len(), 1, "a cursor is no line");
    // Two cells that cannot be read are a text that cannot be read.
    reader.push(s(32), &Screen::from_rows(80, ["Erase all disks? [y/N] y", "\u{fffd}\u{fffd}"]));
    assert_eq!(reader.tail(1)[0].text, "\u{fffd}\u{fffd}");
}

#[test]
fn a_boot_menu_without_buttons_is_a_prompt_all_the_same() {
    let rows = [
        "                  GNU GRUB  version 2.06",
        " ┌────────────────────────────────────────┐",
        " │*Install                                │",
        " └────────────────────────────────────────┘",
        "  Use the ↑ and ↓ keys to select which entry is highlighted.",
    ];
    let mut reader = reader(&[]);
    reader.push(s(1), &Screen::from_rows(80, rows));
    let seen = names(&reader.tick(s(31)));
    assert_eq!(seen, ["stuck: Use the ↑ and ↓ keys to select which entry is highlighted."]);
}
