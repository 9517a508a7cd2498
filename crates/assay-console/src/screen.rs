//! The text on a screen at one moment.

use crate::cp437::CP437;
use crate::font::Font;
use crate::pixels::{self, Pixels};

/// The most columns and rows that are taken: twice what a 4K screen has with an 8×8 font.
const MAX_SIDE: usize = 2048;

/// The text on a screen at one moment, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    columns: usize,
    /// Without trailing spaces.
    rows: Vec<String>,
}

/// Why bytes are not a screen.
#[derive(Debug, thiserror::Error)]
pub enum ScreenError {
    /// There are fewer bytes than cells.
    #[error(
        "a text screen of {columns}×{rows} has {expected} bytes and these are {actual}; read the buffer whole"
    )]
    TooShort {
        /// Cells in a row.
        columns: usize,
        /// Rows.
        rows: usize,
        /// Bytes that it has, two a cell.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// No screen has this size.
    #[error(
        "{columns}×{rows} is no size of a text screen; give the columns and rows of the mode, such as 80×25"
    )]
    Size {
        /// Cells in a row.
        columns: usize,
        /// Rows.
        rows: usize,
    },
}

impl Screen {
    /// Decodes a PC's text buffer, as it lies at 0xB8000: for each cell a character of code page 437 and an attribute.
    /// Bytes beyond the screen are ignored.
    pub fn from_vga_text(buffer: &[u8], columns: usize, rows: usize) -> Result<Self, ScreenError> {
        if !(1..=MAX_SIDE).contains(&columns) || !(1..=MAX_SIDE).contains(&rows) {
            return Err(ScreenError::Size { columns, rows });
        }
        let expected = columns * rows * 2;
        let Some(buffer) = buffer.get(..expected) else {
            return Err(ScreenError::TooShort { columns, rows, expected, actual: buffer.len() });
        };
        let text =
            |row: &[u8]| row.chunks_exact(2).map(|cell| CP437[usize::from(cell[0])]).collect::<String>();
        Ok(Self::new(columns, buffer.chunks_exact(columns * 2).map(text)))
    }

    /// Reads a framebuffer console by its font, exactly: a cell is a character only if each of its pixels is, in two
    /// colours, the glyph's. Cells that are no glyph, a logo or a cursor, are U+FFFD. The grid's origin is searched
    /// for where the upper left corner does not fit.
    pub fn from_pixels(pixels: &Pixels, font: &Font) -> Self {
        let (columns, rows) = pixels::read(pixels, font);
        Self::new(columns, rows.into_iter())
    }

    /// A screen of these rows.
    pub fn from_rows<'a>(columns: usize, rows: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(columns, rows.into_iter().map(str::to_owned))
    }

    fn new(columns: usize, rows: impl Iterator<Item = String>) -> Self {
        let rows = rows
            .map(|mut row| {
                row.truncate(row.trim_end_matches([' ', '\0']).len());
                row
            })
            .collect();
        Self { columns, rows }
    }

    /// Cells in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The rows, without their trailing spaces.
    pub fn rows(&self) -> &[String] {
        &self.rows
    }

    /// The lines: a row that fills the whole width goes on in the next, unless it ends in line drawing, as frames do that
    /// are as wide as the screen. Blank rows at the end are left out.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut goes_on = false;
        for row in &self.rows {
            match lines.last_mut() {
                Some(line) if goes_on => line.push_str(row),
                _ => lines.push(row.clone()),
            }
            let is_drawn = row.ends_with(|c: char| ('\u{2500}'..='\u{259f}').contains(&c));
            goes_on = row.chars().count() >= self.columns && !is_drawn;
        }
        while lines.last().is_some_and(|line| line.trim().is_empty()) {
            lines.pop();
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vga(columns: usize, rows: &[&[u8]]) -> Vec<u8> {
        let cells = |row: &&[u8]| {
            let mut row = row.to_vec();
            row.resize(columns, b' ');
            row.into_iter().flat_map(|byte| [byte, 0x07]).collect::<Vec<_>>()
        };
        rows.iter().flat_map(cells).collect()
    }

    #[test]
    fn the_text_buffer_of_a_pc() {
        let buffer = vga(20, &[b"Debian GNU/Linux 12", b"", b"\xda\xc4\xc4\xbf \x81ber", b"node login:"]);
        let screen = Screen::from_vga_text(&buffer, 20, 4).unwrap();
        assert_eq!(screen.rows(), ["Debian GNU/Linux 12", "", "┌──┐ über", "node login:"]);
        let error = Screen::from_vga_text(&buffer, 20, 5).unwrap_err().to_string();
        assert_eq!(error, "a text screen of 20×5 has 200 bytes and these are 160; read the buffer whole");
        assert!(Screen::from_vga_text(&buffer, 0, 5).is_err());
        assert!(Screen::from_vga_text(&buffer, usize::MAX, 2).is_err());
    }

    #[test]
    fn a_full_row_goes_on_in_the_next() {
        let screen = Screen::from_rows(10, ["Installati", "on complet", "e", "next", "", ""]);
        assert_eq!(screen.lines(), ["Installation complete", "next"]);
        // memtest86+ divides its screen with lines from edge to edge.
        let screen = Screen::from_rows(10, ["─────┬────", "CPU: │ Tim", "e:", "│ a frame │"]);
        assert_eq!(screen.lines(), ["─────┬────", "CPU: │ Time:", "│ a frame │"]);
    }
}
