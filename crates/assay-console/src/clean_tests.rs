use super::*;

/// The lines that come of `bytes`, with who wrote them; the unfinished one in brackets.
fn lines(bytes: &[u8]) -> Vec<String> {
    let read = |chunk: usize| {
        let mut cleaner = Cleaner::default();
        let mut events = Vec::new();
        bytes.chunks(chunk).for_each(|bytes| cleaner.feed(bytes, &mut events));
        let mut lines: Vec<String> = events
            .into_iter()
            .filter_map(|event| match event {
                Event::Line(line) if line.source == Source::Kernel => {
                    Some(format!("K {}", line.text.trim_end()))
                }
                Event::Line(line) => Some(format!("- {}", line.text.trim_end())),
                Event::Version { .. } | Event::Interrupted { .. } => None,
            })
            .collect();
        let open = cleaner.open_text();
        if !open.is_empty() {
            lines.push(format!("[{open}]"));
        }
        lines
    };
    let whole = read(usize::MAX);
    for chunk in [1, 2, 3, 7] {
        assert_eq!(read(chunk), whole, "in chunks of {chunk}");
    }
    whole
}

#[test]
fn sequences_are_taken_away() {
    assert_eq!(
        lines(b"[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mx.service\x1b[0m.\r\n"),
        ["- [  OK  ] Started x.service."]
    );
    assert_eq!(lines(b"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1bPq#0\x1b\\c\r\n"), ["- abc"]);
    assert_eq!(lines(b"\x1b]P1ff0000a\x1b]Rb\r\n"), ["- ab"], "Linux' palette has no terminator");
    assert_eq!(lines(b"\x1b[?2004h\x1b(B\x1b[mroot@x:~# "), ["[root@x:~# ]"]);
    assert_eq!(lines(b"\x00a\x07b\x7f\x00c\r\n"), ["- abc"]);
    assert_eq!(lines("größe \u{9b}1m ok\r\n".as_bytes()), ["- größe 1m ok"]);
    // Cut within characters; vte 0.15 loses the `x` here.
    assert_eq!(lines("öxöyß€😀x€".as_bytes()), ["[öxöyß€😀x€]"]);
    assert_eq!(lines(b"\xf0\x9f\x98x\xe2\x82\x1b[mx"), ["[\u{fffd}x\u{fffd}x]"]);
    assert_eq!(lines(b"a\xff\xfeb\xc3\r\n"), ["- a\u{fffd}\u{fffd}b\u{fffd}"]);
    assert_eq!(lines(b"\x1b)0\x0elqk\x0f x \x1b(0q\x1b(B\r\n"), ["- ┌─┐ x ─"]);
}

#[test]
fn a_lost_terminator_does_not_swallow_the_log() {
    assert_eq!(lines(b"a\x1b]0;title\r\nInstallation complete\r\n"), ["- a", "- Installation complete"]);
    assert_eq!(lines(b"\x1b(0"), Vec::<String>::new());
    assert_eq!(lines(b"\x1b(0q\r\nq\r\n"), ["- ─", "- q"], "nor does a lost change of characters");
    let mut endless = b"\x1b]0;".to_vec();
    endless.resize(5000, b'x');
    let shown = lines(&endless)[0].len();
    assert!((900..910).contains(&shown), "{shown} of 5000: the string was skipped up to its limit");
}

#[test]
fn what_a_person_would_see() {
    assert_eq!(lines(b"  0%\r 50%\r100%\r\n"), ["- 100%"]);
    assert_eq!(lines(b"loading |\x08/\x08-\x08done\r\n"), ["- loading done"]);
    assert_eq!(lines(b"wait 5 s\r\x1b[Kstart\r\n"), ["- start"]);
    assert_eq!(lines(b"wait 5 s\x1b[2K\rgo\r\n"), ["- go"]);
    assert_eq!(lines(b"abc\x1b[2Dx\x1b[1Cy\r\n"), ["- axcy"]);
    assert_eq!(lines(b"abc\x1b[1Gx\x1b[6Gy\r\n"), ["- xbc  y"]);
    assert_eq!(lines(b"abcdef\x1b[4D\x1b[2P\x1b[1X\r\n"), ["- ab f"]);
    assert_eq!(lines(b"a\tb\r\tc\r\n"), ["- a       c"]);
    assert_eq!(lines(b"one\r\r\ntwo\n\n\nthree"), ["- one", "- two", "[three]"]);
}

/// SeaBIOS on a serial port places the cursor in the middle of a word (captured).
#[test]
fn placements_end_a_line_unless_they_stay_on_it() {
    assert_eq!(
        lines(b"\x1bc\x1b[2J\x1b[0mone\r\n\r\niPXE ISO boot imag\x1b[3;18H\x1b[3;19He\r\n"),
        ["- one", "- iPXE ISO boot image"]
    );
    // The EDK2 shell's countdown (captured), which stays on its line.
    assert_eq!(
        lines(b"x\r\n\x1b[07;01HESC in 5 s\x1b[07;01HESC in 4 s\r\n\x1b[08;01HShell> "),
        ["- x", "- ESC in 4 s", "[Shell> ]"]
    );
    // A dialog.
    assert_eq!(
        lines(b"\x1b[H\x1b[2J\x1b[5;10HInstall?\x1b[7;12H<Yes>\x1b[7;20H<No>\x1b[12;1H"),
        ["- Install?", "- <Yes>   <No>"]
    );
}

#[test]
fn kernel_messages_are_taken_out_of_lines() {
    assert_eq!(
        lines(b"Instal[   12.345678] usb 1-1: new high-speed USB device\r\nlation complete\r\n"),
        ["K [   12.345678] usb 1-1: new high-speed USB device", "- Installation complete"]
    );
    // olafkfreund/nixarchy#834, where a test waited ten minutes beside its prompt.
    assert_eq!(
        lines(
            b"Please enter pas[    2.948528] scsi 1:0:0:0: CD-ROM            QEMU     QEMU DVD-ROM     2.5+ PQ: 0 ANSI: 5\r\n\
              sphrase for disk disk-main-root (cryptroot): (press TAB for no echo) "
        ),
        [
            "K [    2.948528] scsi 1:0:0:0: CD-ROM            QEMU     QEMU DVD-ROM     2.5+ PQ: 0 ANSI: 5",
            "[Please enter passphrase for disk disk-main-root (cryptroot): (press TAB for no echo) ]"
        ]
    );
    // qualcomm-linux/meta-qcom#2250, the signals of a test laboratory.
    assert_eq!(
        lines(b"<[  238.027544] read descriptors\r\nLAVA_SIGNAL_STARTRUN 12_Partition 222099_1.1.3.49>\r\n"),
        ["K [  238.027544] read descriptors", "- <LAVA_SIGNAL_STARTRUN 12_Partition 222099_1.1.3.49>"]
    );
    assert_eq!(
        lines(b"<LAVA_SIGNAL_STARTRUN 0_qcom-nex[   62.537423][  T123] fastrpc: Error\r\n[   62.537424][   C0] again\r\nt 1>\r\n"),
        ["K [   62.537423][  T123] fastrpc: Error", "K [   62.537424][   C0] again", "- <LAVA_SIGNAL_STARTRUN 0_qcom-next 1>"]
    );
}

#[test]
fn kernel_messages_at_every_place_of_a_line() {
    let line = "[  OK  ] Reached <b> [x";
    for at in 0..=line.len() {
        for end in ["\r\n", "\n", "\n\r"] {
            let text = format!("{}<6>[    5.123456] usb: new{end}{}\r\nnext\r\n", &line[..at], &line[at..]);
            let expected =
                ["K <6>[    5.123456] usb: new".to_owned(), format!("- {line}"), "- next".to_owned()];
            assert_eq!(lines(text.as_bytes()), expected, "at {at} with {end:?}");
        }
    }
    assert_eq!(
        lines(b"foo\r[    5.123456] bar\r\n\nnext\r\n"),
        ["K [    5.123456] bar", "- foo", "- next"],
        "in the line end"
    );
    assert_eq!(
        lines(b"[    5.123456] cut of[    6.123456] whole\r\n"),
        ["K [    5.123456] cut of", "K [    6.123456] whole"]
    );
    assert_eq!(lines(b"<4>old kernel\r\na <4>b\r\n"), ["K <4>old kernel", "- a <4>b"]);
}

#[test]
fn what_only_looks_like_a_stamp_stays() {
    for line in [
        "[1/4] Fetching [   12.3456] x [[   1",
        "<html>[ 12.345678]</html>",
        "a[    1.234567]b",
        "[[[[[<1<2>3[    ",
    ] {
        assert_eq!(lines(format!("{line}\r\n").as_bytes()), [format!("- {}", line.trim_end())]);
    }
    assert_eq!(lines(b"Continue? ["), ["[Continue? []"], "what may become one is part of a prompt");
}

#[test]
fn endless_lines_are_cut() {
    let mut cleaner = Cleaner::default();
    let mut events = Vec::new();
    for _ in 0..10 {
        cleaner.feed(&[b'x'; 1000], &mut events);
    }
    cleaner.feed(b"\r\n[    1.000000] ", &mut events);
    cleaner.feed(&[b'k'; 5000], &mut events);
    let cut: Vec<(usize, bool)> = events
        .iter()
        .filter_map(|event| match event {
            Event::Line(line) => Some((line.text.len(), line.cut)),
            Event::Version { .. } | Event::Interrupted { .. } => None,
        })
        .collect();
    assert_eq!(cut, [(4096, true), (4096, true), (1808, false), (4096, true)]);
}

#[test]
fn what_is_overwritten_was_visible() {
    let mut cleaner = Cleaner::default();
    let mut events = Vec::new();
    cleaner.feed(b"Installation complete\rReboot in 5 s\x1b[K\r\n", &mut events);
    let texts: Vec<String> = events
        .into_iter()
        .map(|event| match event {
            Event::Version { text, .. } => format!("version {text}"),
            Event::Interrupted { text, .. } => format!("interrupted {text}"),
            Event::Line(line) => format!("line {}", line.text),
        })
        .collect();
    assert_eq!(texts, ["version Installation complete", "line Reboot in 5 s"], "and nothing half-way");
}
