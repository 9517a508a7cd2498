//! What the caller waits for: a name and a regular expression.

use std::collections::BTreeMap;

use regex::{Captures, Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::streamed::Automaton;

/// Bytes that a compiled marker may have.
const SIZE: usize = 1 << 20;

/// What seeing a marker means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarkerKind {
    /// It is waited for.
    #[default]
    Expected,
    /// It must not come: seeing it ends the phase.
    HardFail,
}

/// A name and a regular expression with numbered or named captures.
///
/// It is matched on each line of its own: the line as it is clean of sequences and kernel messages, the parts of a line
/// that kernel messages cut, what was visible before it was overwritten, and the unfinished last line. It is seen at
/// most once in a line. `^` and `$` are the line's.
///
/// **Wrapped lines.** A line of exactly [`Watch::wrap_columns`](crate::Watch::wrap_columns) columns may go on in the
/// next one; SeaBIOS, GRUB and EDK2 wrap that way. A match across the two counts only if the joint falls in a part of
/// the pattern that nothing else would match: `Installation complete` is found when wrapped anywhere, `error.*fatal`
/// is not found in an 80 column line with `error` before one with `fatal`, and `^(\S+) login:` is not found if the
/// joint falls into the name, because `\S+` would have taken any other text there as well.
#[derive(Clone, Debug)]
pub struct Marker {
    name: String,
    kind: MarkerKind,
    regex: Regex,
    pub(crate) automaton: Option<Automaton>,
}

/// Why a marker cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// The regular expression is not one.
    #[error("the marker `{name}` is not a regular expression; correct its pattern: {source}")]
    Pattern {
        /// The marker's name.
        name: String,
        /// What is wrong, with the place.
        source: Box<regex::Error>,
    },
    /// The regular expression matches the empty text, so every line.
    #[error("the marker `{name}` matches every line, also an empty one; let its pattern ask for some text")]
    MatchesNothing {
        /// The marker's name.
        name: String,
    },
}

impl Marker {
    /// A marker that is waited for.
    pub fn new(name: impl Into<String>, pattern: &str) -> Result<Self, MarkerError> {
        let name = name.into();
        let regex = match RegexBuilder::new(pattern).size_limit(SIZE).build() {
            Ok(regex) => regex,
            Err(source) => return Err(MarkerError::Pattern { name, source: Box::new(source) }),
        };
        if regex.is_match("") {
            return Err(MarkerError::MatchesNothing { name });
        }
        Ok(Self { name, kind: MarkerKind::Expected, regex, automaton: Automaton::new(pattern) })
    }

    /// A marker that must not come.
    pub fn hard_fail(name: impl Into<String>, pattern: &str) -> Result<Self, MarkerError> {
        Ok(Self { kind: MarkerKind::HardFail, ..Self::new(name, pattern)? })
    }

    /// The name that its sightings carry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What seeing it means.
    pub fn kind(&self) -> MarkerKind {
        self.kind
    }

    /// The regular expression as it was given.
    pub fn pattern(&self) -> &str {
        self.regex.as_str()
    }

    /// The captures of its first match in `text`.
    pub(crate) fn find(&self, text: &str) -> Option<BTreeMap<String, String>> {
        self.regex.captures(text).map(|captures| self.named(&captures))
    }

    /// The captures of its first match in an unfinished `text` that more text is unlikely to change: it ends before
    /// the end of the text, or the text does not end in the middle of a word.
    pub(crate) fn find_settled(&self, text: &str) -> Option<BTreeMap<String, String>> {
        let captures = self.regex.captures(text)?;
        let end = captures.get(0)?.end();
        let mid_word = text.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
        (end < text.len() || !mid_word).then(|| self.named(&captures))
    }

    /// The captures of its first match across byte `joint` of `joined`, where the joint falls in a part of the pattern
    /// that asks for just this text.
    pub(crate) fn find_across(&self, joined: &str, joint: usize) -> Option<BTreeMap<String, String>> {
        let captures = self.regex.captures_iter(joined).find(|captures| {
            captures.get(0).is_some_and(|found| found.start() < joint && found.end() > joint)
        })?;
        // If the pattern matches across anything that is put into the joint, it says nothing about the joint.
        for foreign in ["\u{e000}", " \u{e000} ", "x0"] {
            let torn = format!("{}{foreign}{}", &joined[..joint], &joined[joint..]);
            let over = |found: regex::Match<'_>| found.start() < joint && found.end() > joint + foreign.len();
            if self.regex.find_iter(&torn).any(over) {
                return None;
            }
        }
        Some(self.named(&captures))
    }

    fn named(&self, captures: &Captures<'_>) -> BTreeMap<String, String> {
        let names = self.regex.capture_names().enumerate().skip(1);
        names
            .filter_map(|(index, name)| {
                let text = captures.get(index)?.as_str().to_owned();
                Some((name.map_or_else(|| index.to_string(), str::to_owned), text))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captures(marker: &Marker, text: &str) -> Vec<(String, String)> {
        marker.find(text).unwrap().into_iter().collect()
    }

    #[test]
    fn captures_by_name_or_number() {
        let marker = Marker::new("host", r"^(?P<host>\S+) login: *(\w+)?").unwrap();
        assert_eq!(
            captures(&marker, "node-1 login: root"),
            [("2".into(), "root".into()), ("host".into(), "node-1".into())]
        );
        assert_eq!(captures(&marker, "node-1 login:"), [("host".into(), "node-1".into())]);
        assert_eq!(marker.find("login: root"), None);
    }

    #[test]
    fn a_pattern_that_is_none_says_where() {
        let error = Marker::new("m", "(a").unwrap_err().to_string();
        assert!(
            error.starts_with("the marker `m` is not a regular expression; correct its pattern"),
            "{error}"
        );
        assert!(Marker::new("m", "a*").unwrap_err().to_string().contains("matches every line"));
        assert!(Marker::new("m", r"\w{5000}{5000}").is_err(), "too large");
    }

    #[test]
    fn a_wrap_counts_only_where_the_pattern_asks_for_just_this_text() {
        let across = |pattern: &str, left: &str, right: &str| {
            Marker::new("m", pattern).unwrap().find_across(&format!("{left}{right}"), left.len()).is_some()
        };
        assert!(across("Installation complete", "xx Installation com", "plete"));
        assert!(across("Installation complete", "xx Installation ", "complete"));
        assert!(across(r"node-[0-9a-f]{6}", "node-5b", "2dfa"));
        assert!(
            !across("error.*fatal", "an error in one", "a fatal line"),
            "`.*` would match anything there"
        );
        assert!(!across(r"^(\S+) login:", "my-", "host login:"), "`\\S+` would match anything there");
        assert!(across(r"^(\S+) login:", "my-host log", "in:"));
        assert!(!across("complete", "Installation complete", "and more"), "not across");
    }
}
