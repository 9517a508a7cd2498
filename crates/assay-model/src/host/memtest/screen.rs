//! As much of a terminal as memtest86+ uses: a screen of 80 by 25, a cursor that is put somewhere, and characters.

/// Rows of the screen.
pub(super) const ROWS: usize = 25;
const COLUMNS: usize = 80;
/// Longer than any sequence that moves a cursor.
const MAX_SEQUENCE: usize = 32;

/// What is shown.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    cells: Vec<[u8; COLUMNS]>,
    row: usize,
    column: usize,
    sequence: Option<Vec<u8>>,
}

impl Default for Screen {
    fn default() -> Self {
        Self { cells: vec![[b' '; COLUMNS]; ROWS], row: 0, column: 0, sequence: None }
    }
}

impl Screen {
    /// Takes one byte; true when the cursor was put somewhere else, and what stood there before is complete.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        if let Some(sequence) = &mut self.sequence {
            if byte == b'[' && sequence.is_empty() {
                sequence.push(byte);
                return false;
            }
            if sequence.is_empty() || sequence.len() >= MAX_SEQUENCE {
                // Not one that is known here.
                self.sequence = None;
                return false;
            }
            if (0x40..=0x7e).contains(&byte) {
                let sequence = self.sequence.take().unwrap_or_default();
                return self.perform(byte, sequence.get(1..).unwrap_or_default());
            }
            sequence.push(byte);
            return false;
        }
        match byte {
            0x1b => self.sequence = Some(Vec::new()),
            b'\r' => self.column = 0,
            b'\n' => self.row = (self.row + 1).min(ROWS - 1),
            0x08 => self.column = self.column.saturating_sub(1),
            0x20..=0x7e => self.put(byte),
            // Other bytes are characters of a set of the console's own; each takes a place.
            0x80.. => self.put(b'?'),
            _ => {}
        }
        false
    }

    /// The row that the cursor is in.
    pub(super) const fn place(&self) -> usize {
        self.row
    }

    /// Whether the next byte is a character, and not part of a sequence.
    pub(super) const fn is_plain(&self) -> bool {
        self.sequence.is_none()
    }

    /// A row as text.
    pub(super) fn row(&self, row: usize) -> String {
        self.cells.get(row).map(|cells| String::from_utf8_lossy(cells).into_owned()).unwrap_or_default()
    }

    fn put(&mut self, byte: u8) {
        if let Some(cell) = self.cells.get_mut(self.row).and_then(|row| row.get_mut(self.column)) {
            *cell = byte;
        }
        self.column = (self.column + 1).min(COLUMNS);
    }

    fn perform(&mut self, command: u8, arguments: &[u8]) -> bool {
        let numbers: Vec<usize> = arguments
            .split(|byte| *byte == b';')
            .map(|digits| {
                std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
            })
            .collect();
        let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
        match command {
            b'H' | b'f' => {
                self.row = number(0).clamp(1, ROWS) - 1;
                self.column = number(1).clamp(1, COLUMNS) - 1;
                true
            }
            b'J' if number(0) == 2 => {
                for row in &mut self.cells {
                    *row = [b' '; COLUMNS];
                }
                true
            }
            b'K' => {
                if let Some(row) = self.cells.get_mut(self.row) {
                    row[self.column.min(COLUMNS)..].fill(b' ');
                }
                false
            }
            // Colours, and whether there is a cursor.
            _ => false,
        }
    }
}
