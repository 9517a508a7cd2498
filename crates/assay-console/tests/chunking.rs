//! Any bytes, cut anywhere: no panic, and the same lines and sightings.

use std::sync::LazyLock;
use std::time::Duration;

use assay_console::{Console, Marker, Screen, ScreenReader, Sighting, Watch, What};
use proptest::prelude::*;

static MARKERS: LazyLock<Vec<Marker>> = LazyLock::new(|| {
    let patterns = [
        ("complete", "Installation complete"),
        ("login", r"^(?P<host>\S+) login: "),
        ("name", r"name (\S+)"),
        ("optional", "a( b)?( c)?"),
        ("anywhere", "x.*y"),
        ("end", "done$"),
        ("word", r"\bok\b"),
        ("prompt", "login:"),
        ("any", "[^a-z]+z"),
    ];
    patterns.iter().map(|(name, pattern)| Marker::new(*name, pattern).unwrap()).collect()
});

fn markers() -> Vec<Marker> {
    MARKERS.clone()
}

/// Lines and sightings without the times and without what was there of a line.
fn read(chunks: &[&[u8]]) -> (Vec<(u64, String)>, Vec<What>) {
    let mut console = Console::new(Watch { markers: markers(), ..Watch::default() });
    let mut seen: Vec<Sighting> =
        chunks.iter().flat_map(|chunk| console.push(Duration::ZERO, chunk)).collect();
    // The last line ends, so that what a chunk's end left open is decided.
    seen.extend(console.push(Duration::ZERO, b"\r\n\r\n"));
    let mut lines: Vec<(u64, String)> =
        console.take_lines().into_iter().map(|line| (line.number, line.text)).collect();
    lines.extend(console.tail(1).into_iter().map(|line| (line.number, line.text)));
    let mut what: Vec<What> = seen.into_iter().map(|sighting| sighting.what).collect();
    // Several markers of one line come in the order of their completion.
    what.sort_by_key(|what| format!("{what:?}"));
    (lines, what)
}

fn cut<'b>(bytes: &'b [u8], cuts: &[prop::sample::Index]) -> Vec<&'b [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Consoles' own sort of bytes.
fn console_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "Installation complete", "node-1 login: ", "name node-5b2dfa", "a b c", "x", "y", "done", "ok", " ", "Last login: now",
            "[   12.345678] usb 1-1: new device\r\n", "[    0.000000][    T1] Linux version 6.6", "<6>[    1.000000] ", "[    1", "<4>",
            "\r\n", "\n", "\r", "\x08", "\t", "\x1b[K", "\x1b[2K", "\x1b[1;31m", "\x1b[5;10H", "\x1b[3D", "\x1b[2C", "\x1b[2P", "\x1b[H\x1b[2J",
            "\x1bc", "\x1b]0;title\x07", "\x1b]8;;x\x1b\\", "\x1bP1$r\x1b\\", "\x1b(0", "\x1b(B", "\x0e", "\x0f", "größe", "─",
            "reboot: Restarting system", "SeaBIOS (version 1)", "(initramfs) ", "grub> ", "[  OK  ] Started x",
            "Kernel panic - not syncing: x", "0123456789012345678901234567890123456789012345678901234567890123456789012345678",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
        1 => "[ -~]{0,12}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cuts_make_no_difference(bytes in console_bytes(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let whole = read(&[&bytes]);
        prop_assert_eq!(&read(&cut(&bytes, &cuts)), &whole);
        prop_assert_eq!(&read(&bytes.chunks(1).collect::<Vec<_>>()), &whole);
    }

    #[test]
    fn any_bytes_at_all(bytes in prop::collection::vec(any::<u8>(), 0..400), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        prop_assert_eq!(read(&cut(&bytes, &cuts)), read(&[&bytes]));
    }

    #[test]
    fn times_and_ticks_never_panic_and_deadlines_pass(steps in prop::collection::vec((console_bytes(), 0u64..200, any::<bool>()), 0..6)) {
        let watch = Watch { markers: markers(), silent_after: Some(Duration::from_secs(50)), ..Watch::default() };
        let mut console = Console::new(watch);
        for (bytes, seconds, ticks) in steps {
            console.push(Duration::from_secs(seconds), &bytes);
            let mut ticked = 0;
            while let Some(deadline) = console.deadline().filter(|_| ticks) {
                console.tick(deadline);
                ticked += 1;
                prop_assert!(ticked <= 3, "each thing is due once");
            }
        }
    }

    #[test]
    fn any_screens(screens in prop::collection::vec(prop::collection::vec("[ -~]{0,10}", 0..6), 0..12)) {
        let mut reader = ScreenReader::new(Watch { markers: markers(), ..Watch::default() });
        for (second, rows) in (0..).zip(&screens) {
            let screen = Screen::from_rows(10, rows.iter().map(String::as_str));
            reader.push(Duration::from_secs(second * 20), &screen);
            prop_assert!(reader.push(Duration::from_secs(second * 20), &screen).is_empty(), "a still screen");
        }
    }
}
