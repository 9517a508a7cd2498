//! A YAML file as a tree of values as they were written, with their places.
//!
//! Compose wants most values as text: `version: 3.80` is `3.80`, a mode `0444` is not the number 444, and whether `yes` is
//! a boolean depends on where it stands. So nothing is turned into a number or a boolean here; the reader of a field does.
//! The parser is serde-saphyr: it expands anchors and merge keys, and refuses duplicate keys, bombs of aliases and deep
//! nesting. It guesses types, so the text of what it took for a number is taken from the file again, by its place.

use std::fmt;

use indexmap::IndexMap;
use serde::{
    Deserialize,
    de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use crate::problem::{Problem, shown};

/// Longest file that is read, in bytes.
const LONGEST: usize = 1 << 20;
/// Deepest nesting; a compose file needs about eight levels.
const DEEPEST: usize = 48;
/// Values that aliases may be expanded to. A real recipe has a few hundred.
const EXPANDED: usize = 20_000;
/// Bytes of all texts, with those that aliases repeat.
const BYTES: usize = 4 << 20;
/// Longest key, in bytes: keys are put together to paths.
const LONGEST_KEY: usize = 256;

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Yaml {
    /// The value.
    pub node: Node,
    /// Line, from 1; where the value is defined, not where an alias names it.
    pub line: u32,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Nothing, `~` or `null`.
    Null,
    /// Anything that is neither a list nor a map.
    Scalar(Scalar),
    /// A list.
    List(Vec<Yaml>),
    /// A map, in the order written; merged keys come after those of the map itself.
    Map(IndexMap<String, Yaml>),
}

/// A text as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// Without quotes; folded and unescaped where it was quoted.
    pub text: String,
    /// Whether it stood without quotes, so that YAML could have taken it for a number or a boolean.
    pub plain: bool,
}

impl Yaml {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.node {
            Node::Null => "nothing",
            Node::Scalar(_) => "a text",
            Node::List(_) => "a list",
            Node::Map(_) => "a map",
        }
    }

    /// The value below a key, where this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.node {
            Node::Map(map) => map.get(key),
            _ => None,
        }
    }

    /// The text, where this is one.
    pub fn text(&self) -> Option<&str> {
        match &self.node {
            Node::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> impl Iterator<Item = (&String, &Self)> {
        let map = match &self.node {
            Node::Map(map) => Some(map),
            _ => None,
        };
        map.into_iter().flatten()
    }
}

/// Reads a file of one document.
///
/// # Errors
/// [`Problem`] with the place, where it is no YAML or more than a recipe needs.
pub fn parse(file: &str, text: &str) -> Result<Yaml, Problem> {
    if text.len() > LONGEST {
        let message = format!("it has {} bytes; at most {LONGEST} are read: shorten it", text.len());
        return Err(Problem::new(file, 0, "", message));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let raw: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options()).map_err(|error| explain(file, &error))?;
    Ok(written(text, raw))
}

/// What a plain text means as a boolean in YAML 1.1, which Docker reads.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Some(false),
        _ => None,
    }
}

/// What a plain text means as a whole number in YAML 1.1: `0444` and `0o444` are octal, `0x1f` hexadecimal.
pub fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.replace('_', "");
    let (radix, digits) = match digits.as_str() {
        "0" => (10, "0"),
        all if all.starts_with("0x") => (16, &all[2..]),
        all if all.starts_with("0o") => (8, &all[2..]),
        all if all.starts_with("0b") => (2, &all[2..]),
        all if all.starts_with('0') => (8, &all[1..]),
        all => (10, all),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

/// A value as the library gives it, before its text is taken from the file.
#[derive(Debug)]
enum Raw {
    Null,
    /// The library took it for a number or a boolean: how it would print it.
    Guessed(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(IndexMap<String, Spanned<Raw>>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Guessed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Guessed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Guessed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Guessed(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = IndexMap::new();
        while let Some((key, value)) = entries.next_entry::<String, Spanned<Raw>>()? {
            if key.len() > LONGEST_KEY {
                let message = format!("a key of {} characters; at most {LONGEST_KEY} are read", key.len());
                return Err(A::Error::custom(message));
            }
            if map.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("`{}` is given twice", shown(&key))));
            }
        }
        Ok(Raw::Map(map))
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        legacy_octal_numbers: false,
        with_snippet: false,
        ignore_binary_tag_for_string: true,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        budget: serde_saphyr::budget! {
            max_depth: DEEPEST,
            max_nodes: EXPANDED,
            max_events: 4 * EXPANDED,
            max_total_scalar_bytes: BYTES,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: EXPANDED,
        },
    }
}

fn written(source: &str, raw: Spanned<Raw>) -> Yaml {
    let span = raw.defined.span();
    let slice = || {
        let from = usize::try_from(span.byte_offset()?).ok()?;
        let length = usize::try_from(span.byte_len()?).ok()?;
        source.get(from..from.checked_add(length)?)
    };
    let node = match raw.value {
        Raw::Null => Node::Null,
        Raw::Guessed(printed) => {
            let text = slice().map(str::trim).filter(|text| !text.is_empty()).map_or(printed, str::to_owned);
            Node::Scalar(Scalar { text, plain: true })
        }
        Raw::Text(text) => {
            let plain = slice().is_some_and(|slice| slice.trim() == text);
            Node::Scalar(Scalar { text, plain })
        }
        Raw::List(items) => Node::List(items.into_iter().map(|item| written(source, item)).collect()),
        Raw::Map(entries) => {
            Node::Map(entries.into_iter().map(|(key, value)| (key, written(source, value))).collect())
        }
    };
    Yaml { node, line: u32::try_from(raw.defined.line()).unwrap_or(0) }
}

fn explain(file: &str, error: &serde_saphyr::Error) -> Problem {
    let error = error.without_snippet();
    let line = error.location().map_or(0, |location| u32::try_from(location.line()).unwrap_or(0));
    let said = match error {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
            let key = shown(key.as_deref().unwrap_or("this key"));
            format!("`{key}` is given twice in one map; keep one of them")
        }
        serde_saphyr::Error::Message { msg, .. } => shown(msg),
        serde_saphyr::Error::MultipleDocuments { .. } => {
            "there is a second document behind `---`; a compose file is one: split the file".to_owned()
        }
        other => {
            let said = other.to_string();
            let said = said.split(" at line ").next().unwrap_or_default();
            let said = shown(said.lines().next().unwrap_or_default().trim_end_matches(" (defined"));
            if ["budget breached", "alias replay", "recursion limit"]
                .iter()
                .any(|limit| said.starts_with(limit))
            {
                format!(
                    "it is longer or deeper, or repeats more, than any recipe: {said}; write it out plainly"
                )
            } else {
                format!("this is no YAML that can be read: {said}")
            }
        }
    };
    Problem::new(file, line, "", said)
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
