use crate::{Font, Pixels, Screen};

const INK: [u8; 3] = [170, 170, 170];
const PAPER: [u8; 3] = [0, 0, 0];

/// 8×16 glyphs that are unlike each other, with a blank corner as most have.
fn bitmap(number: u8, row: usize) -> u8 {
    match row {
        0 | 15 => 0,
        1..=8 => {
            if number >> (row - 1) & 1 == 1 {
                0b0111_1110
            } else {
                0b0100_0010
            }
        }
        _ => number & 0x7f,
    }
}

fn font() -> Font {
    let glyphs: Vec<u8> = (0..=255u8)
        .flat_map(|number| {
            (0..16).map(move |row| if number == b' ' || number == 0 { 0 } else { bitmap(number, row) })
        })
        .collect();
    Font::from_vga(&glyphs).unwrap()
}

/// Draws rows of text as a console does.
fn draw(
    width: usize,
    height: usize,
    origin: (usize, usize),
    text: &[&str],
    (ink, paper): ([u8; 3], [u8; 3]),
) -> Vec<u8> {
    let mut rgb: Vec<u8> = paper.iter().copied().cycle().take(width * height * 3).collect();
    for (row, line) in text.iter().enumerate() {
        for (column, byte) in line.bytes().enumerate().filter(|(_, byte)| *byte != b' ') {
            for y in 0..16 {
                for x in 0..8 {
                    if bitmap(byte, y) >> (7 - x) & 1 == 1 {
                        let at = ((origin.1 + row * 16 + y) * width + origin.0 + column * 8 + x) * 3;
                        rgb[at..at + 3].copy_from_slice(&ink);
                    }
                }
            }
        }
    }
    rgb
}

#[test]
fn a_console_is_read_exactly() {
    let text = ["Debian GNU/Linux 12 node tty1", "", "node login:"];
    for colours in [(INK, PAPER), (PAPER, INK), ([255, 85, 85], [0, 0, 170])] {
        let pixels = Pixels::new(320, 64, draw(320, 64, (0, 0), &text, colours)).unwrap();
        let screen = Screen::from_pixels(&pixels, &font());
        assert_eq!(screen.columns(), 40);
        assert_eq!(screen.rows(), [text[0], text[1], text[2], ""]);
    }
}

#[test]
fn a_pixel_off_is_no_character() {
    let mut rgb = draw(64, 16, (0, 0), &["login:"], (INK, PAPER));
    // One pixel of `g` in a third colour, and one of `n` that is not the glyph's.
    rgb[(5 * 64 + 2 * 8 + 4) * 3] ^= 1;
    let at = (14 * 64 + 4 * 8) * 3;
    rgb[at..at + 3].copy_from_slice(&INK);
    let screen = Screen::from_pixels(&Pixels::new(64, 16, rgb).unwrap(), &font());
    assert_eq!(screen.rows(), ["lo\u{fffd}i\u{fffd}:"]);
}

#[test]
fn a_firmwares_console_in_the_middle_is_found() {
    let text = ["BdsDxe: loading Boot0001", "BdsDxe: starting Boot0001", "Shell>"];
    let pixels = Pixels::new(245, 75, draw(245, 75, (21, 13), &text, (INK, PAPER))).unwrap();
    let screen = Screen::from_pixels(&pixels, &font());
    assert_eq!(screen.rows().iter().map(|row| row.trim()).collect::<Vec<_>>(), text);
}

#[test]
fn pictures_without_text() {
    for (width, height) in [(0, 0), (1, 1), (7, 15), (8, 16), (100, 100)] {
        let noise: Vec<u8> =
            (0..width * height * 3).map(|at: usize| (at.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
        let screen = Screen::from_pixels(&Pixels::new(width, height, noise).unwrap(), &font());
        assert!(screen.rows().iter().all(|row| row.chars().all(|c| c == char::REPLACEMENT_CHARACTER)));
    }
    let error = Pixels::new(10, 10, vec![0; 400]).unwrap_err().to_string();
    assert_eq!(
        error,
        "a picture of 10×10 has three bytes a pixel, and these are 400; convert it to 8 bit RGB"
    );
    assert!(Pixels::new(usize::MAX, 2, Vec::new()).is_err());
}
