//! The fonts that consoles are drawn with where nobody chose one. What is bundled and where it is from is in
//! `fonts/README.md`.

use std::sync::LazyLock;

use crate::font::{Font, FontError};

const WIDTH: usize = 8;
const HEIGHT: usize = 16;

/// Linux's framebuffer console, where it differs from the video BIOS.
const LINUX: &str = include_str!("../fonts/linux.hex");
/// Debian's installer, and Debian's console.
const FIXED: &str = include_str!("../fonts/fixed.hex");

static BUNDLED: LazyLock<Font> = LazyLock::new(|| {
    let glyphs = LINUX.lines().chain(FIXED.lines()).map(|line| glyph(line).expect("the fonts are tested"));
    Font::from_glyphs(WIDTH, HEIGHT, glyphs)
});

impl Font {
    /// What consoles with cells of 8 by 16 pixels are drawn with: `video_bios`, the 256 glyphs that text modes and
    /// boot loaders use, as [`Font::from_vga`] takes them; Linux's own font, which is not quite the same; and
    /// Debian's. One font for all of them does no harm, because no two of their glyphs look alike and mean different
    /// characters.
    ///
    /// # Errors
    /// [`FontError::Size`] if `video_bios` is not 4096 bytes.
    pub fn of_consoles(video_bios: &[u8]) -> Result<Self, FontError> {
        if video_bios.len() == 256 * HEIGHT {
            Ok(Self::from_vga(video_bios)?.and(&BUNDLED))
        } else {
            Err(FontError::Size { glyphs: 256, width: WIDTH, height: video_bios.len() / 256 })
        }
    }

    /// The bundled ones alone, for where no video BIOS is at hand. Most of Linux's font is missing then, since it
    /// shares those glyphs.
    pub fn bundled() -> Self {
        BUNDLED.clone()
    }
}

/// One line of a file: the rows of the glyph, and its character.
fn glyph(line: &str) -> Option<(Box<[u64]>, char)> {
    let (code, rows) = line.split_once(':')?;
    let c = char::from_u32(u32::from_str_radix(code, 16).ok()?)?;
    let row = |at: usize| u64::from_str_radix(rows.get(at * 2..at * 2 + 2)?, 16).ok();
    let rows: Box<[u64]> = (0..HEIGHT).map(row).collect::<Option<_>>()?;
    Some((rows, c))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn all() -> impl Iterator<Item = (Box<[u64]>, char)> {
        LINUX.lines().chain(FIXED.lines()).map(|line| glyph(line).unwrap_or_else(|| panic!("{line}")))
    }

    #[test]
    fn no_two_glyphs_look_alike_and_mean_different_characters() {
        let mut seen: HashMap<Box<[u64]>, char> = HashMap::new();
        for (rows, c) in all() {
            // Ink and paper are not known of a cell, so its negative must not be another character either.
            let negative: Box<[u64]> = rows.iter().map(|row| !row & 0xff).collect();
            for rows in [&rows, &negative] {
                assert!(seen.get(rows).is_none_or(|other| *other == c), "{c:?} {:?}", seen.get(rows));
            }
            assert!(rows.iter().any(|&row| row != 0), "{c:?}: a blank is no glyph");
            seen.insert(rows, c);
        }
        let fixed: Vec<char> = FIXED.lines().filter_map(glyph).map(|(_, c)| c).collect();
        assert!(('!'..='~').all(|c| fixed.contains(&c)), "all that is typed");
        assert!("┌─┐│└┘├┤▒█äÉ↑↓€".chars().all(|c| fixed.contains(&c)), "frames and western letters");
    }

    #[test]
    fn three_fonts_in_one() {
        // A video BIOS whose `A` is like no other.
        let mut bios = vec![0; 4096];
        bios[usize::from(b'A') * 16..][..16].copy_from_slice(&[0xaa; 16]);
        let font = Font::of_consoles(&bios).unwrap();
        assert_eq!(font.character(&[0xaa; 16]), Some('A'));
        let of =
            |file: &str, wanted: char| file.lines().filter_map(glyph).find(|(_, c)| *c == wanted).unwrap().0;
        assert_ne!(of(LINUX, 'w'), of(FIXED, 'w'));
        for file in [LINUX, FIXED] {
            assert_eq!(font.character(&of(file, 'w')), Some('w'));
            assert_eq!(Font::bundled().character(&of(file, 'w')), Some('w'));
        }
        let error = Font::of_consoles(&bios[1..]).unwrap_err().to_string();
        assert_eq!(error, "256 glyphs of 8×15 are not a console font; check the file");
    }
}
