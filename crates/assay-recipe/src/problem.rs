//! What is wrong in a recipe, and where: one type for every reader here, so that all of it can be shown at once.

use std::fmt;

use serde::Serialize;

/// Something that is wrong. `message` says what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, as the recipe names it.
    pub file: String,
    /// Line, from 1; 0 when it concerns the whole.
    pub line: u32,
    /// Where in the file's structure: `services.app.ports[0]`, or the name of a variable. Empty for the whole.
    pub path: String,
    /// What is wrong, and the next step.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(file: &str, line: u32, path: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, path: path.to_owned(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.file)?;
        if self.line > 0 {
            write!(out, ":{}", self.line)?;
        }
        if !self.path.is_empty() {
            write!(out, ": {}", self.path)?;
        }
        write!(out, ": {}", self.message)
    }
}

/// Everything that is wrong, one a line. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// `Ok` where there is none.
    pub(crate) fn or<T>(problems: Vec<Problem>, value: T) -> Result<T, Self> {
        if problems.is_empty() { Ok(value) } else { Err(Self(problems)) }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// `text` for a message: one line, bounded.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > 120 {
        short.push('…');
    }
    short
}
