//! Stands before the parser of terminal sequences and gives it only what it deals with well.
//!
//! Two things it does not. It collects string sequences (titles, hyperlinks) without bound and waits for their end for
//! ever, so that one lost byte on a serial line swallows the rest of the log. And at the end of a chunk, a character
//! that is cut in two costs `vte` 0.15 the one after it: `öxö`, cut after its first byte, becomes `öö`. So strings end
//! here, and characters are put together here.

use vte::{Parser, Perform};

/// The longest string sequence that is skipped, in bytes. It also ends at a line end.
pub(crate) const MAX_STRING: u16 = 4096;

/// What stands for bytes that are no UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

#[derive(Default)]
pub(crate) struct Guard {
    parser: Parser,
    state: State,
    /// The first bytes of a character whose rest has not come.
    partial: [u8; 4],
    partial_len: usize,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Ground,
    /// After an escape.
    Escape,
    /// In a string. `escape`: its last byte was one.
    String { len: u16, kind: u8, escape: bool },
}

impl Guard {
    /// Passes on what is not a string.
    pub(crate) fn feed(&mut self, bytes: &[u8], to: &mut impl Perform) {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            rest = match self.state {
                State::Ground => {
                    let end = rest.iter().position(|&byte| byte == 0x1b).unwrap_or(rest.len());
                    self.text(&rest[..end], to);
                    if end == rest.len() {
                        return;
                    }
                    self.end_partial(to);
                    self.state = State::Escape;
                    &rest[end + 1..]
                }
                State::Escape => {
                    self.escape(first, to);
                    &rest[1..]
                }
                State::String { len, kind, escape } => {
                    self.state = in_string(first, len, kind, escape);
                    // A line end belongs to the log; an escape that does not end the string begins something else.
                    let is_line_end = matches!(first, b'\r' | b'\n');
                    let is_ours = !is_line_end && (!escape || first == b'\\');
                    &rest[usize::from(is_ours)..]
                }
            };
        }
    }

    fn escape(&mut self, byte: u8, to: &mut impl Perform) {
        match byte {
            // Device control, start of string, screen's title, operating system command, privacy message,
            // application command.
            b'P' | b'X' | b'k' | b']' | b'^' | b'_' => {
                // Cancel: whatever sequence was open is over.
                self.parser.advance(to, &[0x18]);
                self.state = State::String { len: 0, kind: byte, escape: false };
            }
            0x1b => {}
            _ => {
                // What is no ASCII is no sequence; it may be the beginning of a character.
                self.state = State::Ground;
                if byte.is_ascii() {
                    self.parser.advance(to, &[0x1b, byte]);
                } else {
                    self.text(&[byte], to);
                }
            }
        }
    }

    /// Passes on whole characters; what cannot be one is replaced.
    fn text(&mut self, bytes: &[u8], to: &mut impl Perform) {
        let mut rest = bytes;
        while self.partial_len > 0 {
            let [first, after @ ..] = rest else { return };
            self.partial[self.partial_len] = *first;
            self.partial_len += 1;
            let partial = self.partial;
            let partial = &partial[..self.partial_len];
            match std::str::from_utf8(partial) {
                Ok(_) => {
                    self.parser.advance(to, partial);
                    self.partial_len = 0;
                    rest = after;
                }
                Err(error) if error.error_len().is_none() => rest = after,
                // The byte that came does not belong to the character before it.
                Err(_) => self.end_partial(to),
            }
        }
        loop {
            match std::str::from_utf8(rest) {
                Ok(_) => return self.parser.advance(to, rest),
                Err(error) => {
                    let (valid, invalid) = rest.split_at(error.valid_up_to());
                    self.parser.advance(to, valid);
                    let Some(len) = error.error_len() else {
                        self.partial[..invalid.len()].copy_from_slice(invalid);
                        self.partial_len = invalid.len();
                        return;
                    };
                    self.parser.advance(to, REPLACEMENT);
                    rest = &invalid[len..];
                }
            }
        }
    }

    /// The rest of a character will not come.
    fn end_partial(&mut self, to: &mut impl Perform) {
        if std::mem::take(&mut self.partial_len) > 0 {
            self.parser.advance(to, REPLACEMENT);
        }
    }
}

/// Where a byte in a string leads.
fn in_string(byte: u8, len: u16, kind: u8, escape: bool) -> State {
    match byte {
        b'\r' | b'\n' => State::Ground,
        b'\\' if escape => State::Ground,
        _ if escape => State::Escape,
        // Bell, cancel, substitute.
        0x07 | 0x18 | 0x1a => State::Ground,
        // Linux' own palette sequences have no terminator: `ESC ] R` and `ESC ] P` with seven digits.
        b'R' if kind == b']' && len == 0 => State::Ground,
        b'P' if kind == b']' && len == 0 => State::String { len: MAX_STRING - 7, kind, escape },
        _ if len + 1 >= MAX_STRING => State::Ground,
        _ => State::String { len: len + 1, kind, escape: byte == 0x1b },
    }
}
