//! Console fonts: the glyphs by which a framebuffer console is read.
//!
//! Formats: PSF 1 and 2 as described by `kbd` (`psf.h`) and the Linux console tools; raw fonts are glyph after glyph,
//! row after row, each row padded to whole bytes, as in a VGA BIOS.

use std::collections::HashMap;

use crate::cp437::CP437;

/// Limits of what is taken for a font.
const MAX_GLYPHS: usize = 65_536;
const MAX_WIDTH: usize = 64;
const MAX_HEIGHT: usize = 128;

/// The glyphs of a console, all of one size.
#[derive(Clone, Debug)]
pub struct Font {
    width: usize,
    height: usize,
    /// The rows of a glyph, the leftmost pixel in the highest of `width` bits.
    glyphs: HashMap<Box<[u64]>, char>,
}

/// Why bytes are not a font.
#[derive(Debug, thiserror::Error)]
pub enum FontError {
    /// It is neither PSF 1 nor PSF 2.
    #[error("these bytes do not begin like a PSF font; unpack the file first if it is compressed")]
    NotPsf,
    /// It says more than it has.
    #[error(
        "the font says it has {expected} bytes of header and glyphs and has {actual}; take the whole file"
    )]
    TooShort {
        /// Bytes of header and glyphs.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// No console has glyphs of this size or number.
    #[error("{glyphs} glyphs of {width}×{height} are not a console font; check the file")]
    Size {
        /// How many.
        glyphs: usize,
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
    },
}

impl Font {
    /// Reads a font in PSF 1 or PSF 2. Without a Unicode table, its first 256 glyphs are those of code page 437.
    pub fn from_psf(bytes: &[u8]) -> Result<Self, FontError> {
        match bytes {
            [0x36, 0x04, mode, size, ..] => {
                let glyphs = if mode & 1 == 1 { 512 } else { 256 };
                let table = (mode & 0b110 != 0).then_some(Table::Psf1);
                Self::read(bytes, 4, glyphs, (8, usize::from(*size)), usize::from(*size), table)
            }
            [0x72, 0xb5, 0x4a, 0x86, header @ ..] => {
                let field = |index: usize| {
                    let field = header.get(index * 4..index * 4 + 4)?.try_into().ok()?;
                    usize::try_from(u32::from_le_bytes(field)).ok()
                };
                let fields = (field(1), field(2), field(3), field(4), field(5), field(6));
                let (Some(start), Some(flags), Some(glyphs), Some(size), Some(height), Some(width)) = fields
                else {
                    return Err(FontError::TooShort { expected: 32, actual: bytes.len() });
                };
                let table = (flags & 1 == 1).then_some(Table::Psf2);
                Self::read(bytes, start, glyphs, (width, height), size, table)
            }
            _ => Err(FontError::NotPsf),
        }
    }

    /// Takes 256 glyphs of code page 437 as they lie in a VGA BIOS or a raw font file: 8 pixels wide, one byte a
    /// row. The standard VGA font is 4096 bytes, 16 rows.
    pub fn from_vga(bytes: &[u8]) -> Result<Self, FontError> {
        let height = bytes.len() / 256;
        if height == 0 || !bytes.len().is_multiple_of(256) {
            return Err(FontError::Size { glyphs: 256, width: 8, height });
        }
        Self::read(bytes, 0, 256, (8, height), height, None)
    }

    /// The same font as a VGA shows it in text modes of 9 pixels: the ninth is blank, but of the line drawing
    /// characters, U+2500 to U+257F, it repeats the eighth.
    #[must_use]
    pub fn nine_wide(&self) -> Self {
        let wider = |rows: &[u64], c: char| {
            let repeats = ('\u{2500}'..='\u{257f}').contains(&c);
            let row = |row: &u64| row << 1 | if repeats { row & 1 } else { 0 };
            (rows.iter().map(row).collect(), c)
        };
        Self {
            width: (self.width + 1).min(MAX_WIDTH),
            height: self.height,
            glyphs: self.glyphs.iter().map(|(rows, c)| wider(rows, *c)).collect(),
        }
    }

    /// This font, and those glyphs of `other` that it does not have. Glyphs of another size are left out.
    #[must_use]
    pub(crate) fn and(mut self, other: &Self) -> Self {
        if (self.width, self.height) == (other.width, other.height) {
            for (rows, c) in &other.glyphs {
                self.glyphs.entry(rows.clone()).or_insert(*c);
            }
        }
        self
    }

    /// Glyphs of `width` by `height` pixels with their characters. The first of two that look alike counts.
    pub(crate) fn from_glyphs(
        width: usize,
        height: usize,
        glyphs: impl Iterator<Item = (Box<[u64]>, char)>,
    ) -> Self {
        let mut font = Self { width, height, glyphs: HashMap::new() };
        glyphs.for_each(|(rows, c)| {
            font.glyphs.entry(rows).or_insert(c);
        });
        font
    }

    /// Pixels in a glyph's row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of a glyph.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The character of a glyph.
    pub(crate) fn character(&self, rows: &[u64]) -> Option<char> {
        self.glyphs.get(rows).copied()
    }

    fn read(
        bytes: &[u8],
        start: usize,
        glyphs: usize,
        (width, height): (usize, usize),
        size: usize,
        table: Option<Table>,
    ) -> Result<Self, FontError> {
        let bytes_a_row = width.div_ceil(8);
        let possible = (1..=MAX_GLYPHS).contains(&glyphs)
            && (1..=MAX_WIDTH).contains(&width)
            && (1..=MAX_HEIGHT).contains(&height)
            && size == bytes_a_row * height;
        if !possible {
            return Err(FontError::Size { glyphs, width, height });
        }
        let end = start.saturating_add(glyphs * size);
        let Some(bitmaps) = bytes.get(start..end) else {
            return Err(FontError::TooShort { expected: end, actual: bytes.len() });
        };
        let characters: Vec<Option<char>> = match table {
            None => (0..glyphs).map(|index| CP437.get(index).copied()).collect(),
            Some(table) => table.read(&bytes[end..], glyphs),
        };
        let mut by_rows = HashMap::new();
        for (bitmap, c) in bitmaps.chunks_exact(size).zip(characters) {
            let row = |row: &[u8]| {
                row.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte)) >> (bytes_a_row * 8 - width)
            };
            let rows: Box<[u64]> = bitmap.chunks_exact(bytes_a_row).map(row).collect();
            // Of characters with one glyph, the one that people type.
            if let Some(c) = c {
                let kept = by_rows.entry(rows).or_insert(c);
                if c.is_ascii() && !kept.is_ascii() {
                    *kept = c;
                }
            }
        }
        Ok(Self { width, height, glyphs: by_rows })
    }
}

/// How the characters of the glyphs are listed.
#[derive(Clone, Copy)]
enum Table {
    /// 16 bit units; 0xFFFF ends a glyph's list, 0xFFFE begins sequences.
    Psf1,
    /// UTF-8; 0xFF ends a glyph's list, 0xFE begins sequences.
    Psf2,
}

impl Table {
    /// For each glyph the character that stands for it: of several, an ASCII one if there is one.
    fn read(self, bytes: &[u8], glyphs: usize) -> Vec<Option<char>> {
        let mut lists = match self {
            Self::Psf1 => {
                let units: Vec<u16> =
                    bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
                let list = |units: &[u16]| {
                    let single = units.split(|&unit| unit == 0xfffe).next().unwrap_or_default();
                    best(single.iter().filter_map(|&unit| char::from_u32(unit.into())))
                };
                units.split(|&unit| unit == 0xffff).map(list).take(glyphs).collect::<Vec<_>>()
            }
            Self::Psf2 => {
                let list = |bytes: &[u8]| {
                    let single = bytes.split(|&byte| byte == 0xfe).next().unwrap_or_default();
                    best(
                        String::from_utf8_lossy(single).chars().filter(|&c| c != char::REPLACEMENT_CHARACTER),
                    )
                };
                bytes.split(|&byte| byte == 0xff).map(list).take(glyphs).collect()
            }
        };
        lists.resize(glyphs, None);
        lists
    }
}

fn best(characters: impl Iterator<Item = char>) -> Option<char> {
    characters.reduce(|kept, c| if c.is_ascii() && !kept.is_ascii() { c } else { kept })
}

#[cfg(test)]
#[path = "font_tests.rs"]
mod tests;
