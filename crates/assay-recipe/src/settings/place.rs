//! Says where in the file something is wrong: the line itself, with a mark under the place.

use std::ops::Range;

use crate::{customise::redact, problem::Problem};

/// Longest part of a line that is shown, in characters.
const WIDEST: usize = 100;

/// A file that is read, for saying where in it something is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'s> {
    /// Its name, for people.
    pub(crate) file: &'s str,
    /// Its text.
    pub(crate) text: &'s str,
}

impl Source<'_> {
    /// Something wrong at a place, in bytes.
    pub(crate) fn problem(&self, span: &Range<usize>, path: &str, message: &str) -> Problem {
        let start = self.text.floor_char_boundary(span.start);
        let before = &self.text[..start];
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let shown = &self.text[line_start..line_end];
        let problem = |message| Problem::new(self.file, line as u32, path, message);
        // A value that is a secret by its name is not shown, wrong as it may be.
        if names_on(shown).chain(path.split('.')).any(redact::is_secret_name) {
            return problem(message.to_owned());
        }
        let column = self.text[line_start..start].chars().count();
        let end = self.text.floor_char_boundary(span.end.min(line_end)).max(start);
        let width = self.text[start..end].chars().count().max(1);
        // Of a long line, the part around the place.
        let skipped = if column + width > WIDEST { column.saturating_sub(20) } else { 0 };
        let part: String =
            shown.chars().skip(skipped).take(WIDEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let indent = " ".repeat(column - skipped);
        let mark = "^".repeat(width.min(WIDEST - (column - skipped).min(WIDEST - 1)));
        problem(format!("{message}\n{margin} |\n{number} | {}\n{margin} | {indent}{mark}", part.trim_end()))
    }
}

/// The names on a line that values are given to: `env = { A = "1", B = "2" }` has three.
fn names_on(line: &str) -> impl Iterator<Item = &str> {
    line.split('=')
        .map(|before| before.trim_end().rsplit([' ', '\t', ',', '{', '.']).next().unwrap_or_default())
}
