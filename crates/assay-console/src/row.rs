//! One line while it is being written: a row of cells with a cursor.
//!
//! Programs go back on their line: progress bars with a carriage return, spinners and iPXE's countdown with
//! backspaces, shells with cursor movements. What counts is what a person would see, so text overwrites text. What
//! is about to be overwritten was visible as well, and is handed out as a version of the line first.

/// The most characters of a line. A longer one is cut there into several, each marked [`Line::cut`](crate::Line::cut)
/// but the last. Binary rubbish on a serial port has no line feeds.
pub const MAX_LINE: usize = 4096;

/// How many kernel messages into one line are remembered by place; more are taken out all the same.
const MAX_SPLITS: usize = 16;

#[derive(Default)]
pub(crate) struct Row {
    /// Given when the first character comes; 0 before.
    pub(crate) number: u64,
    cells: Vec<char>,
    cursor: usize,
    /// Characters written since the last version was handed out.
    fresh: usize,
    edited: bool,
    /// The cursor was placed since the last character was written.
    moved: bool,
    splits: Vec<usize>,
}

impl Row {
    /// Writes a character where the cursor is. The caller has made sure that the row is not full, and has taken the
    /// version that this overwrites.
    #[inline]
    pub(crate) fn put(&mut self, c: char) {
        if self.cursor == self.cells.len() {
            self.cells.push(c);
        } else {
            self.put_inside(c);
        }
        self.cursor += 1;
        self.fresh += 1;
        self.moved = false;
    }

    fn put_inside(&mut self, c: char) {
        if self.cursor > self.cells.len() {
            self.cells.resize(self.cursor, ' ');
            self.cells.push(c);
        } else {
            self.cells[self.cursor] = c;
            self.edited = true;
        }
    }

    /// The next character overwrites another.
    #[inline]
    pub(crate) fn overwrites(&self) -> bool {
        self.cursor < self.cells.len()
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.cursor >= MAX_LINE
    }

    /// The text as it is now, where it is worth looking at before it changes: when the cursor went back, not while the
    /// new text is being written over the old. Always the first time, then after a quarter of the line was written anew, so
    /// that the work stays linear in what was written.
    pub(crate) fn version(&mut self) -> Option<String> {
        let due = !self.edited || self.fresh * 4 >= self.cells.len();
        if !self.moved || self.fresh == 0 || !due || self.is_blank() {
            return None;
        }
        self.fresh = 0;
        Some(self.text())
    }

    pub(crate) fn move_to(&mut self, column: usize) {
        self.cursor = column.min(MAX_LINE);
        self.moved = true;
    }

    pub(crate) fn column(&self) -> usize {
        self.cursor
    }

    /// Removes what stands from the cursor on.
    pub(crate) fn erase_to_end(&mut self) {
        if self.cursor < self.cells.len() {
            self.cells.truncate(self.cursor);
            self.edited();
        }
    }

    /// Kernel messages stood in what is left only.
    fn edited(&mut self) {
        self.edited = true;
        let len = self.cells.len();
        self.splits.retain(|&at| at <= len);
    }

    /// Blanks the cells before the cursor, and the one under it.
    pub(crate) fn erase_to_start(&mut self) {
        let end = (self.cursor + 1).min(self.cells.len());
        self.cells[..end].fill(' ');
        self.edited = true;
    }

    /// Blanks `count` cells from the cursor on.
    pub(crate) fn blank(&mut self, count: usize) {
        let len = self.cells.len();
        let start = self.cursor.min(len);
        self.cells[start..start.saturating_add(count).min(len)].fill(' ');
        self.edited = true;
    }

    /// Removes `count` cells from the cursor on; the rest moves up.
    pub(crate) fn delete(&mut self, count: usize) {
        let len = self.cells.len();
        let start = self.cursor.min(len);
        self.cells.drain(start..start.saturating_add(count).min(len));
        self.edited();
    }

    /// A kernel message stood here.
    pub(crate) fn split(&mut self) {
        if !self.cells.is_empty()
            && self.splits.len() < MAX_SPLITS
            && self.splits.last() != Some(&self.cells.len())
        {
            self.splits.push(self.cells.len());
        }
    }

    /// Character offsets at which kernel messages stood.
    pub(crate) fn splits(&self) -> &[usize] {
        &self.splits
    }

    pub(crate) fn cells(&self) -> &[char] {
        &self.cells
    }

    pub(crate) fn text(&self) -> String {
        self.cells.iter().collect()
    }

    /// Text was overwritten or erased, so the row is no longer just what was appended.
    pub(crate) fn is_edited(&self) -> bool {
        self.edited
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(crate) fn is_blank(&self) -> bool {
        self.cells.iter().all(|&c| c == ' ')
    }

    /// Empties the row; its memory stays for the next line.
    pub(crate) fn clear(&mut self) {
        self.number = 0;
        self.cells.clear();
        self.cursor = 0;
        self.fresh = 0;
        self.edited = false;
        self.moved = false;
        self.splits.clear();
    }
}
