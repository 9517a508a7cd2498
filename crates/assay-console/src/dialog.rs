//! What a window on a screen asks: newt (whiptail, Debian's installer), dialog, and what else draws a frame with buttons.
//!
//! The last line of such a screen says which keys there are, and its buttons say yes and no. To know where a machine
//! stands, one needs the title and the question.

use std::sync::LazyLock;

use regex::Regex;

/// The longest answer, in characters: what a finding has room for.
const LONGEST: usize = 190;

/// How long the last paragraph may be, in characters, to be kept whole: where there are several, it is the question itself.
const QUESTION: usize = 70;

/// How many frames of a screen are looked at: what a machine draws may be nothing but corners.
const MAX_FRAMES: usize = 64;

static BUTTON: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"<\s*[A-Za-z][A-Za-z ]{0,18}?\s*>|\[\s*(?:OK|Yes|No|Cancel|Continue|Go Back)\s*\]")
        .expect("the pattern is tested")
});

/// Windows with buttons, or at least windows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Windows {
    /// One asks: its title, its text, its buttons.
    Asks(String),
    /// There are windows, and none has buttons: a progress bar, or the text of a menu.
    Silent,
    /// There is no window.
    None,
}

/// A frame on the screen, by its corners.
struct Frame {
    top: usize,
    bottom: usize,
    left: usize,
    right: usize,
}

impl Frame {
    fn area(&self) -> usize {
        (self.bottom - self.top) * (self.right - self.left)
    }
}

/// Looks for windows in the rows of a screen. Of several with buttons, the smallest is the one in front: windows are put
/// onto larger ones, and what they cover has no corners any more.
pub(crate) fn windows(rows: &[&str]) -> Windows {
    let rows: Vec<Vec<char>> = rows.iter().map(|row| row.chars().collect()).collect();
    let mut frames: Vec<Frame> = Vec::new();
    for (top, row) in rows.iter().enumerate() {
        if frames.len() < MAX_FRAMES {
            frames.extend(frames_from(&rows, top, row));
        }
    }
    frames.truncate(MAX_FRAMES);
    frames.sort_by_key(Frame::area);
    match frames.iter().find_map(|frame| asks(&rows, frame)) {
        Some(asks) => Windows::Asks(asks),
        None if frames.is_empty() => Windows::None,
        None => Windows::Silent,
    }
}

/// The frames whose upper edge is in this row.
fn frames_from(rows: &[Vec<char>], top: usize, row: &[char]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut from = 0;
    while let Some(left) = row[from..].iter().position(|c| is_corner(*c, "┌╔╭")).map(|at| from + at) {
        from = left + 1;
        let Some(right) = row[from..].iter().position(|c| is_corner(*c, "┐╗╮")).map(|at| from + at)
        else {
            break;
        };
        let is_edge = |row: &&Vec<char>| {
            row.get(left).is_some_and(|c| is_corner(*c, "└╚╰"))
                && row.get(right).is_some_and(|c| is_corner(*c, "┘╝╯"))
        };
        if let Some(below) = rows[top + 1..].iter().position(|row| is_edge(&row)) {
            frames.push(Frame { top, bottom: top + 1 + below, left, right });
        }
        from = right + 1;
    }
    frames
}

fn is_corner(c: char, corners: &str) -> bool {
    corners.contains(c)
}

/// What is asked in a frame; `None` if it has no buttons.
fn asks(rows: &[Vec<char>], frame: &Frame) -> Option<String> {
    let inside = |row: &Vec<char>| -> String {
        let cells = row.iter().take(frame.right).skip(frame.left + 1);
        let text: String = cells.map(|&c| if is_drawn(c) { ' ' } else { c }).collect();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let title = inside(&rows[frame.top]);
    let mut paragraphs: Vec<String> = Vec::new();
    let mut buttons: Vec<String> = Vec::new();
    let mut begins = true;
    for row in &rows[frame.top + 1..frame.bottom] {
        let mut text = inside(row);
        if text.chars().all(|c| c == '_') {
            // A blank row, or a field that nothing was written into.
            begins = true;
            continue;
        }
        let found: Vec<String> = BUTTON.find_iter(&text).map(|button| button.as_str().to_owned()).collect();
        if !found.is_empty() && BUTTON.replace_all(&text, "").trim().is_empty() {
            buttons = found;
            continue;
        }
        text.truncate(text.trim_end_matches('_').trim_end().len());
        match paragraphs.last_mut() {
            Some(last) if !begins => {
                last.push(' ');
                last.push_str(&text);
            }
            _ => paragraphs.push(text),
        }
        begins = false;
    }
    (!buttons.is_empty()).then(|| told(&title, &paragraphs, &buttons.join(" ")))
}

/// Line drawing and shading, and cells that could not be read.
fn is_drawn(c: char) -> bool {
    ('\u{2500}'..='\u{259f}').contains(&c) || c == char::REPLACEMENT_CHARACTER
}

/// Title, text and buttons in one line. Where there is no room for all of the text, its beginning and its question.
pub(crate) fn told(title: &str, paragraphs: &[String], buttons: &str) -> String {
    let title = if title.is_empty() { String::new() } else { format!("{title}: ") };
    let text = paragraphs.join(" ");
    let room = LONGEST.saturating_sub(title.chars().count() + buttons.chars().count() + 1);
    let text = if text.chars().count() <= room {
        text
    } else {
        let is_question = |last: &&String| paragraphs.len() > 1 && last.chars().count() <= QUESTION;
        let last = paragraphs.last().filter(is_question);
        let question = last.map_or_else(String::new, |last| first(last, QUESTION.min(room / 2)));
        let beginning = first(&text, room.saturating_sub(question.chars().count() + 1));
        format!("{beginning} {question}")
    };
    format!("{title}{} {buttons}", text.trim_end()).trim().to_owned()
}

/// So many characters at most, with an ellipsis where some are missing.
fn first(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(characters.saturating_sub(1)).collect();
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

#[cfg(test)]
#[path = "dialog_tests.rs"]
mod tests;
