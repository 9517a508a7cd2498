//! Bytes in, lines out: takes terminal sequences away and kernel messages apart.
//!
//! `vte` reads the sequences, also ones that a chunk cuts in two. Two rows are written at the same time: the one
//! that programs write, and the kernel's message, which may come anywhere in it (see [`printk`]).
//! After the message the program's row goes on where it was.
//!
//! Sequences that place the cursor on another line of the terminal end the row: full-screen programs and firmware
//! menus have no line feeds. Where the terminal's line is known (after a reset or a placement), a placement on the
//! same line moves along the row only; SeaBIOS places the cursor in the middle of words.

use vte::{Params, Perform};

use crate::guard::Guard;
use crate::line::Source;
use crate::printk::{self, Offer, Stamp};
use crate::row::{MAX_LINE, Row};

/// What comes out.
pub(crate) enum Event {
    Line(Finished),
    /// What the programs' row held before part of it was overwritten.
    Version {
        number: u64,
        text: String,
    },
    /// What the programs' row held when a kernel message came into it.
    Interrupted {
        number: u64,
        text: String,
    },
}

/// A line that ended.
pub(crate) struct Finished {
    pub(crate) number: u64,
    /// With trailing spaces.
    pub(crate) text: String,
    pub(crate) source: Source,
    /// Columns written, trailing spaces included.
    pub(crate) columns: usize,
    /// Byte offsets at which kernel messages stood.
    pub(crate) splits: Vec<usize>,
    /// Where the kernel's message begins, in bytes; 0 for others.
    pub(crate) message: usize,
    pub(crate) cut: bool,
    /// It ended with a line feed, not because the cursor went elsewhere.
    pub(crate) fed: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Cleaner {
    guard: Guard,
    rows: Rows,
}

impl Cleaner {
    /// Takes bytes; what they ended or overwrote is handed to `events` in order.
    pub(crate) fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        std::mem::swap(events, &mut self.rows.events);
        self.guard.feed(bytes, &mut self.rows);
        std::mem::swap(events, &mut self.rows.events);
    }

    /// The programs' unfinished row.
    pub(crate) fn open(&self) -> &Row {
        &self.rows.user
    }

    /// The text of the programs' unfinished row, with what may still become a kernel's stamp.
    pub(crate) fn open_text(&self) -> String {
        let mut text = self.rows.user.text();
        if self.rows.kernel.is_empty() {
            text.push_str(self.rows.stamp.held());
        }
        text
    }
}

/// The two rows and what is needed to tell them apart.
#[derive(Default)]
struct Rows {
    user: Row,
    kernel: Row,
    /// In a kernel message: what comes is its text.
    in_kernel: bool,
    stamp: Stamp,
    /// A kernel message has just ended; a carriage return belongs to it (some consoles write line feed first).
    after_kernel: bool,
    /// The terminal's line, where it is known. Counted from 1.
    screen_line: Option<usize>,
    /// The terminal's column, counted from 0, at which the programs' row begins.
    origin: usize,
    /// Line drawing characters are selected as first and as second set; the second is in use.
    drawing: [bool; 2],
    shifted: bool,
    numbers: u64,
    events: Vec<Event>,
}

impl Rows {
    /// A character that is not part of a stamp.
    #[inline]
    fn write(&mut self, c: char) {
        if self.in_kernel {
            if self.kernel.is_full() {
                self.end_kernel(true);
                self.in_kernel = true;
            }
            if self.kernel.number == 0 {
                self.numbers += 1;
                self.kernel.number = self.numbers;
            }
            self.kernel.put(c);
            return;
        }
        if self.user.is_full() {
            self.end_user(true, true);
        }
        if self.user.number == 0 {
            self.numbers += 1;
            self.user.number = self.numbers;
        }
        if self.user.overwrites() {
            self.take_version();
        }
        self.user.put(c);
    }

    fn take_version(&mut self) {
        if let Some(text) = self.user.version() {
            self.events.push(Event::Version { number: self.user.number, text });
        }
    }

    /// What was held is text after all.
    fn release(&mut self) {
        if self.stamp.is_empty() {
            return;
        }
        for c in self.stamp.take().chars() {
            self.write(c);
        }
    }

    fn begin_kernel(&mut self) {
        let stamp = self.stamp.take();
        if self.in_kernel {
            self.end_kernel(false);
        } else {
            self.user.split();
            if !self.user.is_blank() && !self.user.is_edited() {
                self.events.push(Event::Interrupted { number: self.user.number, text: self.user.text() });
            }
        }
        self.in_kernel = true;
        for c in stamp.chars() {
            self.write(c);
        }
    }

    fn end_kernel(&mut self, cut: bool) {
        self.in_kernel = false;
        if self.kernel.is_empty() {
            return;
        }
        let text = self.kernel.text();
        let message = printk::message_offset(&text).unwrap_or(0);
        self.events.push(Event::Line(Finished {
            number: self.kernel.number,
            columns: self.kernel.cells().len(),
            text,
            source: Source::Kernel,
            splits: Vec::new(),
            message,
            cut,
            fed: !cut,
        }));
        self.kernel.clear();
    }

    fn end_user(&mut self, cut: bool, fed: bool) {
        if !self.user.is_blank() {
            let cells = self.user.cells();
            let splits = self.user.splits();
            let bytes = |at: &usize| cells[..*at].iter().map(|c| c.len_utf8()).sum();
            let splits = splits.iter().map(bytes).collect();
            self.events.push(Event::Line(Finished {
                number: self.user.number,
                text: self.user.text(),
                source: Source::Serial,
                columns: cells.len(),
                splits,
                message: 0,
                cut,
                fed,
            }));
        }
        self.user.clear();
        self.origin = 0;
    }

    fn line_feed(&mut self) {
        self.release();
        // Sets of characters do not outlive a line here: one lost byte must not garble the rest of the log.
        self.drawing = [false; 2];
        self.shifted = false;
        self.screen_line = self.screen_line.map(|line| line + 1);
        if self.in_kernel {
            self.end_kernel(false);
            self.after_kernel = true;
        } else {
            self.end_user(false, true);
        }
    }

    /// The cursor goes to another line of the terminal.
    fn leave(&mut self) {
        self.release();
        if self.in_kernel {
            self.end_kernel(false);
        }
        self.end_user(false, false);
    }

    fn place(&mut self, line: usize, column: usize) {
        self.release();
        if self.in_kernel || self.screen_line != Some(line) || column - 1 < self.origin {
            self.leave();
            self.screen_line = Some(line);
            self.origin = column - 1;
        } else {
            self.user.move_to(column - 1 - self.origin);
        }
    }

    fn is_drawing(&self) -> bool {
        self.drawing[usize::from(self.shifted)]
    }
}

impl Perform for Rows {
    #[inline]
    fn print(&mut self, c: char) {
        let start = !self.in_kernel && self.user.is_empty();
        self.after_kernel = false;
        match self.stamp.offer(c, start) {
            Offer::Held => {}
            Offer::Stamp => self.begin_kernel(),
            Offer::Plain => {
                if !self.stamp.is_empty() {
                    self.release();
                    // The character that ended one candidate may begin the next.
                    if matches!(self.stamp.offer(c, false), Offer::Held) {
                        return;
                    }
                }
                let c = if self.is_drawing() && !self.in_kernel { drawn(c) } else { c };
                // The replacement of a C1 control or a deleted character is nothing to see.
                if !c.is_control() {
                    self.write(c);
                }
            }
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' | 0x0b | 0x0c => self.line_feed(),
            b'\r' => {
                self.release();
                if !self.in_kernel && !std::mem::take(&mut self.after_kernel) {
                    self.user.move_to(0);
                }
            }
            0x08 => {
                self.release();
                if !self.in_kernel {
                    self.user.move_to(self.user.column().saturating_sub(1));
                }
            }
            b'\t' => {
                self.release();
                if self.in_kernel {
                    self.write(' ');
                } else if self.user.overwrites() {
                    self.user.move_to((self.user.column() / 8 + 1) * 8);
                } else {
                    for _ in 0..8 - self.user.column() % 8 {
                        self.write(' ');
                    }
                }
            }
            0x0e => self.shifted = true,
            0x0f => self.shifted = false,
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _ignore: bool, action: char) {
        let first = params.iter().next().and_then(|param| param.first()).copied().unwrap_or(0);
        let count = usize::from(first.max(1));
        let private = !intermediates.is_empty();
        match action {
            // Colours are most of what comes.
            'm' => {}
            'H' | 'f' => {
                let column = params.iter().nth(1).and_then(|param| param.first()).copied().unwrap_or(0);
                self.place(count, usize::from(column.max(1)));
            }
            'A' | 'B' | 'E' | 'F' | 'd' | 'e' | 'L' | 'M' | 'S' | 'T' => {
                self.leave();
                self.screen_line = None;
            }
            // The other screen, of full-screen programs.
            'h' | 'l' if private && first == 1049 => self.leave(),
            'J' if first >= 2 => self.leave(),
            _ if self.in_kernel || private => {}
            'G' | '`' | 'C' | 'a' | 'D' => {
                self.release();
                let column = match action {
                    'G' | '`' => (count - 1).saturating_sub(self.origin),
                    'D' => self.user.column().saturating_sub(count),
                    _ => self.user.column() + count,
                };
                self.user.move_to(column);
            }
            'J' | 'K' | 'X' | 'P' => {
                self.release();
                let column = self.user.column();
                if self.user.is_empty()
                    || (!self.user.overwrites() && (first == 0 || matches!(action, 'X' | 'P')))
                {
                    return;
                }
                // As if the cursor had just come: what is erased was visible.
                if first >= 1 {
                    self.user.move_to(column);
                }
                self.take_version();
                match (action, first) {
                    ('X', _) => self.user.blank(count),
                    ('P', _) => self.user.delete(count),
                    (_, 0) => self.user.erase_to_end(),
                    (_, 1) => self.user.erase_to_start(),
                    _ => {
                        self.user.move_to(0);
                        self.user.blank(MAX_LINE);
                        self.user.move_to(column);
                    }
                }
            }
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _ignore: bool, byte: u8) {
        match (intermediates, byte) {
            ([b'('], set) => self.drawing[0] = set == b'0',
            ([b')'], set) => self.drawing[1] = set == b'0',
            // Index and next line.
            ([], b'D' | b'E') => self.line_feed(),
            // Reverse index, restore cursor.
            ([], b'M' | b'8') => {
                self.leave();
                self.screen_line = None;
            }
            // Reset.
            ([], b'c') => {
                self.leave();
                self.screen_line = Some(1);
            }
            _ => {}
        }
    }
}

/// The line drawing characters of the VT100, `` ` `` to `~`.
fn drawn(c: char) -> char {
    const DRAWN: [char; 31] = [
        '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─', '⎼', '⎽',
        '├', '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
    ];
    (c as usize).checked_sub('`' as usize).and_then(|index| DRAWN.get(index)).copied().unwrap_or(c)
}

#[cfg(test)]
#[path = "clean_tests.rs"]
mod tests;
