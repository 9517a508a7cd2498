use super::*;
use crate::marker::MarkerKind;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn marker(name: &str, pattern: &str) -> Marker {
    Marker::new(name, pattern).unwrap()
}

fn console(markers: &[(&str, &str)]) -> Console {
    let markers = markers.iter().map(|(name, pattern)| marker(name, pattern)).collect();
    Console::new(Watch { markers, ..Watch::default() })
}

/// A sighting in a few words.
fn say(sighting: &Sighting) -> String {
    let at = sighting.at.as_millis();
    match &sighting.what {
        What::Marker { name, captures, marker } => {
            let fail = if *marker == MarkerKind::HardFail { "!" } else { "" };
            let captures: Vec<String> =
                captures.iter().map(|(name, text)| format!(" {name}={text}")).collect();
            format!("{at} {name}{fail}{}: {}", captures.concat(), sighting.text)
        }
        What::Rung { rung, boot } => format!("{at} {rung:?} of boot {boot}"),
        What::Failure { code, .. } => format!("{at} {code}"),
        What::StuckPrompt { prompt, prompt_kind } => format!("{at} stuck ({prompt_kind:?}): {prompt}"),
        What::IdleShell { prompt, prompt_kind } => format!("{at} idle ({prompt_kind:?}): {prompt}"),
        What::IdleLogin { prompt } => format!("{at} idle login: {prompt}"),
        What::Silent { since } => format!("{at} silent since {}", since.as_millis()),
    }
}

fn said(sightings: &[Sighting]) -> Vec<String> {
    sightings.iter().map(say).collect()
}

#[test]
fn a_marker_is_seen_once_at_the_chunk_that_completes_it() {
    let mut console = console(&[("name", r"generated: (\S+)"), ("login", r"^(?P<host>\S+) login: ")]);
    assert_eq!(said(&console.push(s(1), b"[iter-5.2.2]   gener")), [""; 0]);
    assert_eq!(said(&console.push(s(2), b"ated: node-5b")), [""; 0], "the name may go on");
    assert_eq!(said(&console.push(s(2), b"2dfa")), [""; 0]);
    assert_eq!(said(&console.push(s(3), b"\r")), [""; 0]);
    assert_eq!(
        said(&console.push(s(4), b"\n")),
        ["4000 name 1=node-5b2dfa: [iter-5.2.2]   generated: node-5b2dfa"]
    );
    assert_eq!(said(&console.push(s(5), b"node-5b2dfa log")), [""; 0]);
    assert_eq!(
        said(&console.push(s(6), b"in: ")),
        ["6000 login host=node-5b2dfa: node-5b2dfa login:", "6000 Login of boot 1"]
    );
    assert_eq!(said(&console.push(s(7), b"root\r\n")), [""; 0], "not again when the line ends");
}

#[test]
fn an_unfinished_line_settles() {
    let mut console = console(&[("choice", r"choice:$"), ("name", r"name (\S+)")]);
    assert_eq!(said(&console.push(s(1), b"choice:")), [""; 0]);
    assert_eq!(console.deadline(), Some(Duration::from_millis(1250)));
    assert_eq!(said(&console.tick(Duration::from_millis(1249))), [""; 0]);
    assert_eq!(said(&console.tick(Duration::from_millis(1250))), ["1250 choice: choice:"]);
    assert_eq!(said(&console.push(s(2), b"\r\nname no")), [""; 0]);
    assert_eq!(said(&console.tick(s(5))), [""; 0], "in the middle of a word nothing has settled");
    assert_eq!(said(&console.push(s(6), b"de-1\r\n")), ["6000 name 1=node-1: name node-1"]);
}

#[test]
fn kernel_messages_do_not_hide_markers_and_prompts_before_them_do_not_either() {
    let mut console = console(&[("done", "^Installation complete"), ("started", "^Foo started")]);
    let seen = console.push(s(1), b"Instal[   12.345678] usb 1-1: new device\r\nlation complete\r\n");
    assert_eq!(said(&seen), ["1000 Kernel of boot 1", "1000 done: Installation complete"]);
    let seen = console.push(s(2), b"node login: [   30.000000] random: crng init done\r\nFoo started\r\n");
    assert_eq!(said(&seen), ["2000 Login of boot 1", "2000 started: node login: Foo started"]);
    let texts: Vec<String> =
        console.take_lines().into_iter().map(|line| format!("{} {}", line.number, line.text)).collect();
    assert_eq!(
        texts,
        [
            "2 [   12.345678] usb 1-1: new device",
            "1 Installation complete",
            "4 [   30.000000] random: crng init done",
            "3 node login: Foo started",
        ]
    );
}

/// iPXE on SeaBIOS' serial console (captured): wrapped by hand at 80 columns.
#[test]
fn lines_that_are_wrapped_at_the_terminals_width() {
    let ipxe = b"\x1b[0;1miPXE 1.0.0+git-20190125.36a4c85-5.1\x1b[0m -- Open Source Network Boot Firmware -- \x1b[0;36mhttp\r\n://ipxe.org\r\n";
    let mut wrapped = console(&[("home", "https?://ipxe.org")]);
    assert_eq!(
        said(&wrapped.push(s(1), ipxe)).last().unwrap(),
        "1000 home: iPXE 1.0.0+git-20190125.36a4c85-5.1 -- Open Source Network Boot Firmware -- http://ipxe.org"
    );

    let full = format!("{:>80}\r\n", "an error in one line");
    let mut console = console(&[("both", "error.*fatal"), ("three", "abcdef")]);
    let seen = console.push(s(1), format!("{full}a fatal thing in another\r\n").as_bytes());
    assert_eq!(said(&seen), [""; 0], "two lines");
    let seen = console.push(s(2), format!("{:>80}\r\nc{:>79}\r\n", "ab", "").as_bytes());
    assert_eq!(said(&seen), [""; 0]);
    let seen = console.push(s(2), format!("{:>80}\r\ndef\r\n", "abc").as_bytes());
    assert_eq!(said(&seen).len(), 1);
    let seen = console.push(s(2), format!("{:>79}\r\ndef\r\n", "abc").as_bytes());
    assert_eq!(said(&seen), [""; 0], "not the width of the terminal");
}

#[test]
fn text_that_is_overwritten_counts_and_counts_once() {
    let mut console = console(&[("done", "100%"), ("half", " 50%")]);
    let mut seen = Vec::new();
    for percent in 0..=100 {
        seen.extend(console.push(s(1), format!("\rcopying {percent:3}%").as_bytes()));
    }
    seen.extend(console.push(s(2), b"\r\x1b[Kcopied.\r\n"));
    assert_eq!(said(&seen), ["1000 half: copying  50%", "2000 done: copying 100%"]);
}

#[test]
fn markers_are_armed_and_disarmed() {
    let mut console = console(&[("installed", "Installation complete")]);
    let seen = console.push(s(1), b"Installation complete\r\nRebooting\r\nnode login: ");
    assert_eq!(said(&seen), ["1000 installed: Installation complete", "1000 Login of boot 1"]);
    assert!(console.disarm("installed"));
    assert!(!console.disarm("installed"));
    // What came in the same chunk is found by looking back, what is older is not.
    let next = [marker("rebooting", "^Rebooting"), marker("installed again", "Installation")];
    assert_eq!(said(&console.arm_since(next, seen[0].line)), ["1000 rebooting: Rebooting"]);
    console.arm([marker("login", "login: ")]);
    assert_eq!(
        said(&console.push(s(2), b"\r\n")),
        ["2000 login: node login:"],
        "the line that was unfinished counts"
    );
    console.arm([Marker::hard_fail("bail", "^ERROR: ").unwrap()]);
    let seen = console.push(s(3), b"ERROR: disk too small\r\n");
    assert_eq!(said(&seen), ["3000 bail!: ERROR: disk too small"]);
    assert!(seen[0].is_fatal());
    console.disarm_all();
    assert_eq!(said(&console.push(s(4), b"ERROR: again\r\nRebooting\r\n")), [""; 0]);
}

#[test]
fn a_prompt_that_nobody_answers() {
    let watch = Watch { stuck_after: Some(s(30)), silent_after: Some(s(60)), ..Watch::default() };
    let mut console = Console::new(watch);
    assert_eq!(console.deadline(), Some(s(60)), "silent from the start");
    console.push(s(1), b"  1: Retry [*]  2: Change mirror\r\nPrompt: '?' for help, default=1> ");
    assert_eq!(said(&console.tick(s(2))), [""; 0]);
    assert_eq!(console.deadline(), Some(s(31)));
    // The kernel goes on talking.
    assert_eq!(
        said(&console.push(s(20), b"[   20.000000] random: crng init done\r\n")),
        ["20000 Kernel of boot 1"]
    );
    assert_eq!(console.deadline(), Some(s(31)));
    assert_eq!(said(&console.tick(s(31))), ["31000 stuck (Choice): Prompt: '?' for help, default=1>"]);
    assert_eq!(console.deadline(), Some(s(80)), "said once");
    assert_eq!(said(&console.tick(s(80))), ["80000 silent since 20000"]);
    assert_eq!(console.deadline(), None);
    // After more output it may be said again, also by the next push if nobody ticked.
    console.push(s(81), b"1\r\nroot@debian:~# ");
    assert_eq!(
        said(&console.push(s(300), b"\r\n")),
        ["300000 idle (Shell): root@debian:~#", "300000 silent since 81000"]
    );
}

#[test]
fn prompts_of_every_sort() {
    for (screen, expected) in [
        ("(initramfs) ", "31000 idle (RescueShell): (initramfs)"),
        ("Shell> ", "31000 idle (Firmware): Shell>"),
        ("node login: ", "31000 idle login: node login:"),
        ("Press any key to continue...\r\n", "31000 stuck (Key): Press any key to continue..."),
        ("Erase disk? [y/N] ", "31000 stuck (Confirm): Erase disk? [y/N]"),
        (
            "\x1b[5;3HWrite the changes to disks?\x1b[9;3H<Yes>     <No>\x1b[24;1H<Tab> moves; <Space> selects",
            "31000 stuck (Dialog): <Tab> moves; <Space> selects",
        ),
        ("# [   12.345678] usb 1-1: new\r\n", "31000 idle (Shell): #"),
    ] {
        let mut console = Console::new(Watch::default());
        console.push(s(1), screen.as_bytes());
        console.tick(s(2));
        assert_eq!(said(&console.tick(s(31))), [expected]);
        assert_eq!(said(&console.tick(s(1000))), [""; 0]);
    }
    let mut console = Console::new(Watch::default());
    console.push(s(1), b"Unpacking linux-image ... ");
    assert_eq!(said(&console.tick(s(1000))), [""; 0], "work is not a prompt");
    assert_eq!(console.deadline(), None);
}

#[test]
fn a_flood_of_failures_is_counted_and_not_repeated_without_end() {
    let mut console = console(&[]);
    let mut seen = 0;
    for n in 0..1000 {
        let line = format!("[   14.{n:06}] I/O error, dev sda, sector {n} op 0x0:(READ)\r\n");
        seen += console
            .push(s(1), line.as_bytes())
            .iter()
            .filter(|s| matches!(s.what, What::Failure { .. }))
            .count();
    }
    assert_eq!(seen, 16);
    assert_eq!(console.failures()["BlockIoError"], 1000);
    console.restarted();
    assert_eq!(console.boot(), 2);
    assert_eq!(console.rung(), None);
}

#[test]
fn the_tail_has_the_unfinished_line() {
    let mut console = console(&[]);
    console.push(s(1), b"one\r\ntwo\r\nthree");
    let texts = |lines: Vec<Line>| lines.into_iter().map(|line| line.text).collect::<Vec<_>>();
    assert_eq!(texts(console.tail(2)), ["two", "three"]);
    assert_eq!(texts(console.tail(0)), [""; 0]);
    assert_eq!(texts(console.take_lines()), ["one", "two"]);
    assert_eq!(texts(console.take_lines()), [""; 0]);
    assert_eq!(texts(console.tail(9)), ["one", "two", "three"]);
    assert_eq!(console.open_text(), "three");
    assert_eq!(console.lines_dropped(), 0);
}

#[test]
fn a_sighting_as_evidence() {
    let mut console = console(&[("login", r"^(?P<host>\S+) login: ")]);
    let seen = console.push(Duration::from_millis(1234), b"\r\nnode-5b2dfa login: ");
    insta::assert_json_snapshot!(seen[0], @r#"
    {
      "at_ms": 1234,
      "line": 1,
      "text": "node-5b2dfa login:",
      "source": "serial",
      "kind": "marker",
      "name": "login",
      "marker": "expected",
      "captures": {
        "host": "node-5b2dfa"
      }
    }
    "#);
    let text = serde_json::to_string(&seen).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Sighting>>(&text).unwrap(), seen);
    let schema = serde_json::to_value(schemars::schema_for!(Sighting)).unwrap();
    assert_eq!(schema["properties"]["at_ms"]["type"], "integer");
}

#[test]
fn a_prompt_of_debians_installer_is_told_by_its_question() {
    let mut console = Console::new(Watch { stuck_after: Some(s(20)), ..Watch::default() });
    let asked = "Configuring the network with DHCP  ... 4%... 100%\r\nConfigure the network\r\n---------------------\r\n\r\n\
                 The name servers are used to look up host names on the network. Please enter \r\nthe IP addresses (not host \
                 names) of up to 3 name servers, separated by spaces.\r\nName server addresses:\r\nPrompt: '?' for help, \
                 default=> ";
    console.push(s(1), asked.as_bytes());
    let stuck = |seen: Vec<Sighting>| match seen.into_iter().map(|sighting| sighting.what).next_back() {
        Some(What::StuckPrompt { prompt, .. }) => prompt,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        stuck(console.tick(s(30))),
        "Configure the network: The name servers are used to look up host names on the network. Please enter the IP addresses \
         (not host names)… Name server addresses: Prompt: '?' for help, default=>"
    );
    // As the installer writes it on a serial port, where it runs in a terminal multiplexer with a status line.
    let failed = include_bytes!("../tests/debian-installer-mirror.raw");
    console.push(s(40), failed);
    assert_eq!(
        stuck(console.tick(s(70))),
        "Choose a mirror of the Debian archive: !! ERROR: Bad archive mirror An error has been detected while trying to use the \
         specified Debian archive mirror. Possible r… [Press enter to continue]"
    );
}

#[test]
fn a_kernel_s_last_words_are_no_other_boot() {
    let mut console = Console::new(Watch::default());
    console.push(s(1), b"[    0.000000] Linux version 6.1.0\r\n[    2.000000] Run /init as init process\r\n");
    let last = b"[   38.305811] reboot: Restarting system\r\n[   38.309811] reboot: machine restart\r\n";
    assert!(console.push(s(40), last).is_empty());
    assert_eq!((console.boot(), console.rung()), (1, Some(Rung::Userspace)));
    console.push(s(50), b"[    0.000000] Linux version 6.1.0\r\n");
    assert_eq!((console.boot(), console.rung()), (2, Some(Rung::Kernel)));
}
