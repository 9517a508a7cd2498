//! Two consoles, recorded from memtest86+ 6.10 in a simulated machine: one sound, one with two bits that stick. Both
//! are cut in their middle, between two redraws.

use super::*;

const PASS: &[u8] = include_bytes!("console-pass.txt");
const FAIL: &[u8] = include_bytes!("console-fail.txt");

fn read(pieces: &[&[u8]]) -> MemtestEvidence {
    let mut reader = MemtestReader::default();
    for piece in pieces {
        reader.push(piece);
    }
    // What the next redraw would do.
    reader.push(b"\x1b[1;1H");
    reader.evidence().clone()
}

#[test]
fn a_sound_machine_completes_its_pass() {
    let seen = read(&[PASS]);
    assert_eq!(seen.version.as_deref(), Some("Memtest86+ v6.10"));
    assert_eq!(seen.memory.as_deref(), Some("47MB"));
    assert_eq!((seen.passes, seen.errors, seen.faults.len()), (1, 0, 0));
    assert_eq!(seen.status.as_deref(), Some("Pass"));
    assert!(seen.time.as_deref().is_some_and(|time| time.starts_with("0:06:")), "{seen:?}");
}

#[test]
fn before_its_end_nothing_is_completed() {
    let end = PASS.windows(7).position(|window| window == b"Pass:  ").expect("drawn") + 2000;
    let seen = read(&[&PASS[..end]]);
    assert_eq!((seen.passes, seen.status.as_deref()), (0, Some("Testing")));
}

#[test]
fn bits_that_stick_are_counted_and_each_address_is_named_once() {
    let seen = read(&[FAIL]);
    assert_eq!((seen.passes, seen.errors, seen.status.as_deref()), (0, 10, Some("Failed!")));
    let first =
        MemtestFault { pass: 0, test: 2, address: 0x150_0000, expected: 0x150_0000, found: 0x1150_0000 };
    let second =
        MemtestFault { address: 0x1a0_0040, expected: 0x1a0_0040, found: 0x1000_01a0_0040, ..first.clone() };
    assert_eq!(seen.faults, [first, second]);
}

#[test]
fn it_does_not_matter_how_the_line_cut_what_was_written() {
    let bytes: Vec<&[u8]> = FAIL.chunks(1).collect();
    assert_eq!(read(&bytes), read(&[FAIL]));
    let odd: Vec<&[u8]> = PASS.chunks(7).collect();
    assert_eq!(read(&odd), read(&[PASS]));
}

#[test]
fn another_program_s_console_is_no_memory_test() {
    for console in [
        b"".as_slice(),
        b"SeaBIOS (version 1.16)\r\niPXE 1.21\r\nPass: 7 Errors: 0\r\n",
        b"\x1b[9;1HPass:  3        Errors: 0 \x1b[1;1H",
        b"\x1b[999;999Hx\x1b[0;0H\x1b[;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;H\x1b\x1b[[\xff\xfe\x1b]0;title\x07",
    ] {
        assert_eq!(read(&[console]), MemtestEvidence::default());
    }
}

#[test]
fn no_more_faults_are_kept_than_are_of_use() {
    let mut console = b"\x1b[1;1H      Memtest86+ v6.10".to_vec();
    for address in 0..200_u64 {
        console.extend(
            format!("\x1b[13;1H  0      0    2   {address:012x} (21MB)    {:016x}  {:016x}     ", 1, 3)
                .bytes(),
        );
    }
    let seen = read(&[&console]);
    assert_eq!(seen.faults.len(), MAX_FAULTS);
    assert_eq!(seen.faults[63].address, 63);
}

/// What a redraw of the whole screen writes when the test begins, and what it writes every second.
fn begins() -> Vec<u8> {
    b"\x1b[2J\x1b[1;1H      Memtest86+ v6.10      | QEMU\x1b[8;1HCPU: 2 Cores | Time:           Status: Testing \
      \x1b[9;1HUsing: All | Pass:  0        Errors: 0   \x1b[10;1H"
        .to_vec()
}

fn ticks(time: &str, passes: u64) -> Vec<u8> {
    format!("\x1b[8;1HCPU: 2 Cores | Time:  {time}  Status: Testing \x1b[9;1HUsing: All | Pass:  {passes}        Errors: 0   \x1b[2;35H")
        .into_bytes()
}

#[test]
fn a_machine_that_resets_under_it_is_noticed() {
    let (began, late, early) = (begins(), ticks("1:00:22", 3), ticks("0:00:03", 0));
    let reset = read(&[&began, &late, b"\r\nSeaBIOS\r\niPXE\r\n", &began, &early]);
    assert_eq!((reset.restarts, reset.passes), (1, 0), "{reset:?}");
    let twice = read(&[&began, &late, &began, &late, &began, &early]);
    assert_eq!(twice.restarts, 1, "a clock that is where it was is no reset");
    let garbled = read(&[&began, &late, &ticks("0:00:23", 3), &ticks("1:00:24", 3)]);
    assert_eq!((garbled.restarts, garbled.passes), (0, 3), "a digit that got lost is no reset");
    for time in ["", "1:2", "a:b:c", "1:2:3:4", "99999999999999999999:0:0"] {
        assert_eq!(seconds(time), None, "{time}");
    }
    assert_eq!(seconds("1:02:03"), Some(3723));
}

#[test]
fn what_came_before_is_kept_for_people_and_the_screen_after_it() {
    let mut reader = MemtestReader::default();
    reader
        .push(b"SeaBIOS (version 1.16)\r\n\x1b[1;1HiPXE 1.21\x1b[2;1H\x1b[31mhttp://10.77.0.1/boot\x07\r\n");
    assert_eq!(reader.transcript(), "SeaBIOS (version 1.16)\niPXE 1.21\nhttp://10.77.0.1/boot");
    reader.push(FAIL);
    let text = reader.transcript();
    assert!(text.starts_with("SeaBIOS"), "{text}");
    assert!(text.contains("Errors: 10") && text.contains("0000100001a00040"), "{text}");
    assert!(!text.contains('\x1b') && text.len() < MAX_BEFORE + 25 * 81);
    let mut flood = MemtestReader::default();
    flood.push(&vec![b'x'; 100_000]);
    assert_eq!(flood.transcript().len(), MAX_BEFORE);
}
