//! Reads text out of a picture of a console, by exact comparison with the glyphs of its font.

use crate::font::Font;

/// A picture of a screen, such as the emulator's screen dump: three bytes a pixel (red, green, blue), row after row.
#[derive(Clone, Debug)]
pub struct Pixels {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// Why bytes are not a picture.
#[derive(Debug, thiserror::Error)]
#[error(
    "a picture of {width}×{height} has three bytes a pixel, and these are {actual}; convert it to 8 bit RGB"
)]
pub struct PixelsError {
    width: usize,
    height: usize,
    actual: usize,
}

/// What a cell with one colour, so without a glyph, is.
const BLANK: char = ' ';

type Colour = [u8; 3];

impl Pixels {
    /// Takes `rgb`, which has three bytes for each of `width` × `height` pixels.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self, PixelsError> {
        let expected = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if expected != Some(rgb.len()) {
            return Err(PixelsError { width, height, actual: rgb.len() });
        }
        Ok(Self { width, height, rgb })
    }

    fn at(&self, x: usize, y: usize) -> Colour {
        let at = (y * self.width + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }
}

/// The columns and the rows of text.
pub(crate) fn read(pixels: &Pixels, font: &Font) -> (usize, Vec<String>) {
    let here = Grid::new(pixels, font, 0, 0).read();
    if here.unknown == 0 || here.known > here.unknown * 20 {
        return (here.columns, here.rows);
    }
    // A firmware's console stands in the middle of the screen; the lines that its first text begins at are tried.
    let mut best = here;
    for y in 0..font.height().min(pixels.height) {
        for x in 0..font.width().min(pixels.width) {
            let grid = Grid::new(pixels, font, x, y);
            if grid.sample() > best.known / 8 {
                let read = grid.read();
                if read.known > best.known {
                    best = read;
                }
            }
        }
    }
    (best.columns, best.rows)
}

struct Read {
    columns: usize,
    rows: Vec<String>,
    /// Cells with a glyph, and cells with something else.
    known: usize,
    unknown: usize,
}

struct Grid<'a> {
    pixels: &'a Pixels,
    font: &'a Font,
    x: usize,
    y: usize,
    columns: usize,
    rows: usize,
}

impl<'a> Grid<'a> {
    fn new(pixels: &'a Pixels, font: &'a Font, x: usize, y: usize) -> Self {
        let columns = (pixels.width.saturating_sub(x)) / font.width();
        let rows = (pixels.height.saturating_sub(y)) / font.height();
        Self { pixels, font, x, y, columns, rows }
    }

    fn read(&self) -> Read {
        let mut read =
            Read { columns: self.columns, rows: Vec::with_capacity(self.rows), known: 0, unknown: 0 };
        for row in 0..self.rows {
            let text = (0..self.columns).map(|column| {
                let c = self.cell(column, row);
                match c {
                    Some(BLANK) => {}
                    Some(_) => read.known += 1,
                    None => read.unknown += 1,
                }
                c.unwrap_or(char::REPLACEMENT_CHARACTER)
            });
            let text = text.collect();
            read.rows.push(text);
        }
        read
    }

    /// How many of every eighth cell hold a glyph.
    fn sample(&self) -> usize {
        let cells = (0..self.columns * self.rows).step_by(8);
        cells
            .filter(|cell| !matches!(self.cell(cell % self.columns, cell / self.columns), None | Some(BLANK)))
            .count()
    }

    /// The character of a cell; `None` if it is no glyph of the font in two colours.
    fn cell(&self, column: usize, row: usize) -> Option<char> {
        let (x, y) = (self.x + column * self.font.width(), self.y + row * self.font.height());
        let first = self.pixels.at(x, y);
        let mut second: Option<Colour> = None;
        let mut rows = Vec::with_capacity(self.font.height());
        for line in y..y + self.font.height() {
            let mut bits = 0u64;
            for at in x..x + self.font.width() {
                let colour = self.pixels.at(at, line);
                bits <<= 1;
                if colour != first {
                    if second.is_some_and(|second| second != colour) {
                        return None;
                    }
                    second = Some(colour);
                    bits |= 1;
                }
            }
            rows.push(bits);
        }
        if second.is_none() {
            return Some(BLANK);
        }
        // The corner belongs to the background nearly always; where it does not, the glyph is the other colour.
        self.font.character(&rows).or_else(|| {
            let mask = u64::MAX >> (64 - self.font.width());
            for bits in &mut rows {
                *bits = !*bits & mask;
            }
            self.font.character(&rows)
        })
    }
}

#[cfg(test)]
#[path = "pixels_tests.rs"]
mod tests;
