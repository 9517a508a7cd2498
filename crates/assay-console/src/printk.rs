//! Recognises the stamp that the Linux kernel puts before each line on a console.
//!
//! The shapes are those of `print_prefix` in the kernel's `kernel/printk/printk.c`: an optional level `<6>` (with
//! `console_msg_format=syslog`), the time `[%5lu.%06lu]`, and with `CONFIG_PRINTK_CALLER` the thread or processor,
//! `[T123]` or `[C0]`, padded with spaces:
//!
//! ```text
//! [   12.345678] usb 1-1: new high-speed USB device number 2
//! <6>[   12.345678] usb 1-1: new high-speed USB device number 2
//! [    0.000000][    T0] Linux version 6.6.0
//! [    0.000000] [      T0] Booting Linux on physical CPU 0x0000000000 [0x411fd070]
//! ```
//!
//! The kernel writes a whole line while programs' output waits in the port's buffer, so its line begins after any
//! character of theirs, and their text goes on after its line feed. Six decimals and a width of at least five before
//! the point are asked for: programs print times in brackets too, but not these.

/// More characters than a stamp can have: `<191>`, brackets, padded seconds, the point and six decimals.
const LONGEST: usize = 32;

/// Takes characters one by one and says when they have become a stamp.
#[derive(Default)]
pub(crate) struct Stamp {
    held: String,
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    None,
    Level(u8),
    /// After `<6>`.
    LevelEnd,
    /// In the part before the point: spaces, digits.
    Seconds(u8, u8),
    Decimals(u8),
    /// After the `]`.
    Closed,
}

/// What a character was.
pub(crate) enum Offer {
    /// Part of what may become a stamp; it is held.
    Held,
    /// With this character, which is part of it, the held text is a stamp.
    Stamp,
    /// Not part of one. What is held so far is plain text, and so may this character be.
    Plain,
}

impl Stamp {
    /// Takes the next character. `start`: nothing precedes the held text on its line.
    #[inline]
    pub(crate) fn offer(&mut self, c: char, start: bool) -> Offer {
        if self.state == State::None && c != '[' && c != '<' {
            return Offer::Plain;
        }
        self.step(c, start)
    }

    fn step(&mut self, c: char, start: bool) -> Offer {
        use State::{Closed, Decimals, Level, LevelEnd, None, Seconds};
        self.state = match (self.state, c) {
            (None, '<') => Level(0),
            (None | LevelEnd, '[') => Seconds(0, 0),
            (Level(digits @ 0..3), '0'..='9') => Level(digits + 1),
            (Level(1..), '>') => LevelEnd,
            // A level without a time, from a kernel with `printk.time=0`, is sure only where a line begins.
            (LevelEnd, _) if start => {
                self.held.push(c);
                return Offer::Stamp;
            }
            (Seconds(spaces @ 0..4, 0), ' ') => Seconds(spaces + 1, 0),
            (Seconds(spaces, digits @ 0..12), '0'..='9') => Seconds(spaces, digits + 1),
            (Seconds(spaces, digits @ 1..), '.') if spaces + digits == 5 || (spaces == 0 && digits > 5) => {
                Decimals(0)
            }
            (Decimals(count @ 0..6), '0'..='9') => Decimals(count + 1),
            (Decimals(6), ']') => Closed,
            (Closed, ' ' | '[') => {
                self.held.push(c);
                return Offer::Stamp;
            }
            _ => return Offer::Plain,
        };
        self.held.push(c);
        debug_assert!(self.held.len() <= LONGEST, "{}", self.held);
        Offer::Held
    }

    /// Whether anything is held.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The held text.
    pub(crate) fn held(&self) -> &str {
        &self.held
    }

    /// Hands the held text over and begins anew.
    pub(crate) fn take(&mut self) -> String {
        self.state = State::None;
        std::mem::take(&mut self.held)
    }
}

/// Where the message begins in a line that begins with a stamp: after the level, the time and the caller. `None` if
/// it does not begin with one.
pub(crate) fn message_offset(line: &str) -> Option<usize> {
    let mut stamp = Stamp::default();
    let mut end = None;
    for (at, c) in line.char_indices().take(LONGEST + 1) {
        match stamp.offer(c, true) {
            Offer::Held => {}
            // The last character is the space or the bracket after the stamp, or of a level the message's first.
            Offer::Stamp => {
                end = Some(at);
                break;
            }
            Offer::Plain => break,
        }
    }
    // A line's trailing spaces are gone, so an empty message ends with the bracket.
    let end = end
        .or_else(|| (stamp.state == State::Closed && stamp.held.len() == line.len()).then_some(line.len()))?;
    let rest = &line[end..];
    let after = rest.trim_start_matches(' ');
    let caller = caller_len(after);
    let message = &after[caller..];
    Some(
        line.len()
            - if caller > 0 { message.strip_prefix(' ').unwrap_or(message) } else { after_time(rest) }.len(),
    )
}

/// Without the one space that separates the time from the message; further ones are the message's own.
fn after_time(rest: &str) -> &str {
    rest.strip_prefix(' ').unwrap_or(rest)
}

/// The length of `[    T123]` or `[C0]` at the start of `text`; 0 if there is none.
fn caller_len(text: &str) -> usize {
    let Some(inner) = text.strip_prefix('[') else { return 0 };
    let Some(close) = inner.find(']').filter(|&close| close <= 16) else { return 0 };
    let name = inner[..close].trim_start_matches(' ');
    let is_caller = name
        .strip_prefix(['T', 'C'])
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    if is_caller { close + 2 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(line: &str) -> Option<&str> {
        message_offset(line).map(|at| &line[at..])
    }

    #[test]
    fn the_shapes_that_kernels_print() {
        assert_eq!(message("[   12.345678] usb 1-1: new"), Some("usb 1-1: new"));
        assert_eq!(message("[    0.000000]   DMA zone"), Some("  DMA zone"));
        assert_eq!(message("[123456.789012] late"), Some("late"));
        assert_eq!(message("<6>[    0.000000] Linux version 6.1"), Some("Linux version 6.1"));
        assert_eq!(message("<30>[    4.000001] systemd[1]: hello"), Some("systemd[1]: hello"));
        assert_eq!(message("[    0.000000][    T0] Linux version 6.6"), Some("Linux version 6.6"));
        assert_eq!(message("[    0.000000] [      T0] Booting Linux"), Some("Booting Linux"));
        assert_eq!(message("[    0.100000][   C12] smp: up"), Some("smp: up"));
        assert_eq!(message("<4>usb 1-1: no time stamp"), Some("usb 1-1: no time stamp"));
        assert_eq!(
            message("[    0.000000] [mem 0x1000-0x1fff] reserved"),
            Some("[mem 0x1000-0x1fff] reserved")
        );
        assert_eq!(message("[   12.345678]"), Some(""));
    }

    #[test]
    fn times_that_programs_print_are_not_stamps() {
        for line in [
            "[  OK  ] Started Network Name Resolution.",
            "[1.234567] short",
            "[   12.345] milliseconds",
            "[   12.3456789] too fine",
            "[  123.456789]no space",
            "[2026-11-21 20:45:42] iso",
            "[0000012.345678",
            "<html> [   12.345678] inside",
            "<1234>[   12.345678] no level",
            "[  12.345678] four wide",
        ] {
            assert_eq!(message(line), None, "{line}");
        }
    }
}
