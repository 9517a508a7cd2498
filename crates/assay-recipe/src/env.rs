//! An app's `.env`, and the `.env.sample` that it is made from.
//!
//! The format is that of Docker's env files with what shells have on top: quotes, comments behind a value, and variables
//! of earlier lines (`COMPOSE_FILE="$COMPOSE_FILE:compose.postgres.yml"`). A comment behind a value may carry modifiers
//! (`SECRET_DB_VERSION=v1 # length=64`). A setting that is commented out is one that the author offers: it is kept apart.
//! No command is ever run: `$(…)` and backquotes are text.

use indexmap::IndexMap;
use serde::Serialize;

use crate::{
    interpolate::{InterpolateError, begins_name, in_name, interpolate},
    problem::{Problem, Problems, shown},
};

/// The variable that names the compose files, parted by colons.
pub const COMPOSE_FILE: &str = "COMPOSE_FILE";

/// Longest file, and longest value, in bytes. Lines can double the value of earlier ones.
const LONGEST_FILE: usize = 1 << 20;
const LONGEST_VALUE: usize = 64 << 10;

/// A file of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EnvFile {
    /// Its name, for messages.
    pub file: String,
    /// What is set, in order; a name may come more than once, and the last one counts.
    pub settings: Vec<Setting>,
    /// What is offered: settings that are commented out. Their values are not filled in.
    pub offered: Vec<Setting>,
    /// Variables that were used and not set on an earlier line, with the line: they became empty.
    pub unset: Vec<(String, u32)>,
}

/// One line that sets something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The variable.
    pub name: String,
    /// Its value, with earlier variables filled in; of an offered one, as written without its quotes.
    pub value: String,
    /// Line, from 1.
    pub line: u32,
    /// What stands behind `#` on the same line.
    pub comment: Option<String>,
    /// `key=value` words of that comment: `length`, `charset`, `generate`.
    pub modifiers: IndexMap<String, String>,
    #[serde(skip)]
    raw: Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Raw {
    text: String,
    quote: Quote,
}

impl EnvFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Problems`]: every line that is neither a setting nor a comment, with its number.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        if text.len() > LONGEST_FILE {
            let message = format!("it has {} bytes; at most {LONGEST_FILE} are read: shorten it", text.len());
            return Err(Problem::new(file, 0, "", message).into());
        }
        let mut read = Self { file: file.to_owned(), ..Self::default() };
        let mut problems = Vec::new();
        let mut values: IndexMap<String, String> = IndexMap::new();
        let mut lines = Lines::new(text);
        while let Some((line, number)) = lines.next() {
            let line = line.trim();
            if let Some(comment) = line.strip_prefix('#') {
                read.offered.extend(offered(comment.trim_start_matches('#').trim(), number));
                continue;
            }
            if line.is_empty() {
                continue;
            }
            match setting(line, number, &mut lines) {
                Err(message) => problems.push(Problem::new(file, number, "", message)),
                Ok(mut setting) => match expand(&setting.raw, &values) {
                    Err(message) => problems.push(Problem::new(file, number, &setting.name, message)),
                    Ok((value, unset)) => {
                        read.unset.extend(unset.into_iter().map(|name| (name, number)));
                        values.insert(setting.name.clone(), value.clone());
                        setting.value = value;
                        read.settings.push(setting);
                    }
                },
            }
        }
        Problems::or(problems, read)
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.setting(name).map(|setting| setting.value.as_str())
    }

    /// The line that counts for a variable.
    pub fn setting(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().rev().find(|setting| setting.name == name)
    }

    /// Gives a variable a value, as whoever deploys an app does; what is said of it in a comment stays.
    pub fn set(&mut self, name: &str, value: &str) {
        let raw = Raw { text: value.to_owned(), quote: Quote::Single };
        if let Some(setting) = self.settings.iter_mut().rev().find(|setting| setting.name == name) {
            (setting.value, setting.raw) = (value.to_owned(), raw);
            return;
        }
        // One that is offered brings what is said of it.
        let offered = self.offered.iter().find(|setting| setting.name == name);
        let (comment, modifiers) =
            offered.map(|setting| (setting.comment.clone(), setting.modifiers.clone())).unwrap_or_default();
        let (name, value) = (name.to_owned(), value.to_owned());
        self.settings.push(Setting { name, value, line: 0, comment, modifiers, raw });
    }

    /// All values, each name once, in the order of their first lines.
    pub fn values(&self) -> IndexMap<String, String> {
        self.settings.iter().map(|setting| (setting.name.clone(), setting.value.clone())).collect()
    }

    /// The compose files, in their order: `compose.yml` unless `COMPOSE_FILE` says otherwise.
    pub fn compose_files(&self) -> Vec<String> {
        files_of(self.get(COMPOSE_FILE).unwrap_or_default())
    }

    /// Every combination of compose files that the file has or offers: first what is set, then that with each of the
    /// offered settings of `COMPOSE_FILE`. Each once.
    pub fn combinations(&self) -> Vec<Vec<String>> {
        let mut combinations = vec![self.compose_files()];
        let mut values = self.values();
        values.entry(COMPOSE_FILE.to_owned()).or_insert_with(|| "compose.yml".to_owned());
        for setting in self.offered.iter().filter(|setting| setting.name == COMPOSE_FILE) {
            let Ok((value, _)) = expand(&setting.raw, &values) else { continue };
            let files = files_of(&value);
            if !combinations.contains(&files) {
                combinations.push(files);
            }
        }
        combinations
    }

    /// Values for trying a combination: what is set, and what is offered where nothing is set.
    pub fn values_with_offered(&self) -> IndexMap<String, String> {
        let mut values = self.values();
        for setting in &self.offered {
            if setting.name != COMPOSE_FILE && !values.contains_key(&setting.name) {
                let value =
                    expand(&setting.raw, &values).map_or_else(|_| setting.value.clone(), |(value, _)| value);
                values.insert(setting.name.clone(), value);
            }
        }
        values
    }
}

/// Reads a file that `env_file` names, as Docker does: no quotes, no comments behind values, no variables. A name alone takes
/// its value from whoever deploys.
///
/// # Errors
/// [`Problems`]: every line whose name has a space in it or is missing.
pub fn docker_env_file(file: &str, text: &str) -> Result<Vec<(String, Option<String>)>, Problems> {
    let mut settings = Vec::new();
    let mut problems = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line.trim_end(), None),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            let message = format!("`{}` is not the name of a variable; write `NAME=value`", shown(name));
            problems.push(Problem::new(file, number, "", message));
        } else {
            settings.push((name.to_owned(), value));
        }
    }
    Problems::or(problems, settings)
}

/// Lines with their numbers; a quoted value may take more of them.
struct Lines<'a> {
    rest: std::iter::Zip<std::str::Lines<'a>, std::ops::RangeFrom<u32>>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text).lines().zip(1..) }
    }

    fn next(&mut self) -> Option<(&'a str, u32)> {
        self.rest.next()
    }
}

fn files_of(value: &str) -> Vec<String> {
    let files: Vec<String> =
        value.split(':').map(str::trim).filter(|file| !file.is_empty()).map(str::to_owned).collect();
    if files.is_empty() { vec!["compose.yml".to_owned()] } else { files }
}

/// A setting in a comment; prose that happens to have `=` in it is none.
fn offered(text: &str, line: u32) -> Option<Setting> {
    let name = text.split_once('=')?.0;
    let looks_like_one = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    if !looks_like_one {
        return None;
    }
    setting(text, line, &mut Lines::new("")).ok()
}

fn setting(text: &str, line: u32, lines: &mut Lines<'_>) -> Result<Setting, String> {
    let text = text.strip_prefix("export ").map_or(text, str::trim_start);
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!("`{}` sets nothing; write `NAME=value`, or `#` before a comment", shown(text)));
    };
    let name = name.trim_end();
    if !name.starts_with(begins_name) || !name.chars().all(|c| in_name(c) || matches!(c, '.' | '-')) {
        return Err(format!("`{}` is not the name of a variable; use letters, digits and `_`", shown(name)));
    }
    let (raw, behind) = value_of(value.trim_start(), lines)?;
    let comment = comment(name, &behind)?;
    let modifiers = comment.as_deref().map(modifiers).unwrap_or_default();
    Ok(Setting { name: name.to_owned(), value: raw.text.clone(), line, comment, modifiers, raw })
}

/// The value, and what stands behind it.
fn value_of(text: &str, lines: &mut Lines<'_>) -> Result<(Raw, String), String> {
    let quote = match text.chars().next() {
        Some('\'') => Quote::Single,
        Some('"') => Quote::Double,
        _ => {
            // A `#` begins a comment only behind a space.
            let comment = text
                .char_indices()
                .zip(std::iter::once(' ').chain(text.chars()))
                .find(|((index, c), before)| *c == '#' && *index > 0 && before.is_whitespace())
                .map(|((index, _), _)| index);
            // `NAME= # comment`: the space before it was trimmed.
            let comment = if text.starts_with("# ") { Some(0) } else { comment };
            let (value, behind) = text.split_at(comment.unwrap_or(text.len()));
            return Ok((Raw { text: value.trim_end().to_owned(), quote: Quote::None }, behind.to_owned()));
        }
    };
    let end = if quote == Quote::Single { '\'' } else { '"' };
    let mut value = String::new();
    let mut current = text[1..].to_owned();
    loop {
        let mut escaped = false;
        for (index, c) in current.char_indices() {
            if escaped {
                escaped = false;
            } else if c == '\\' && quote == Quote::Double {
                escaped = true;
            } else if c == end {
                value.push_str(&current[..index]);
                return Ok((Raw { text: value, quote }, current[index + 1..].to_owned()));
            }
        }
        value.push_str(&current);
        value.push('\n');
        match lines.next() {
            Some((line, _)) => line.clone_into(&mut current),
            None => return Err(format!("a `{end}` is not closed; close it, or escape it")),
        }
    }
}

fn comment(name: &str, behind: &str) -> Result<Option<String>, String> {
    let behind = behind.trim();
    match behind.strip_prefix('#') {
        Some(comment) => Ok(Some(comment.trim().to_owned())),
        None if behind.is_empty() => Ok(None),
        None => {
            let behind = shown(behind);
            Err(format!(
                "`{behind}` stands behind the closing quote of `{name}`; put it inside, or `#` before it"
            ))
        }
    }
}

fn modifiers(comment: &str) -> IndexMap<String, String> {
    comment
        .split([' ', '\t', ','])
        .filter_map(|word| word.split_once('='))
        .filter(|(key, _)| !key.is_empty() && key.chars().all(in_name))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Fills in variables of earlier lines. A `$` that names none stays: passwords and patterns have them.
fn expand(raw: &Raw, values: &IndexMap<String, String>) -> Result<(String, Vec<String>), String> {
    if raw.quote == Quote::Single {
        return Ok((raw.text.clone(), Vec::new()));
    }
    let mut out = String::new();
    let mut unset = Vec::new();
    let characters: Vec<char> = raw.text.chars().collect();
    let mut index = 0;
    while let Some(&c) = characters.get(index) {
        if out.len() > LONGEST_VALUE {
            return Err(format!("its value is longer than {LONGEST_VALUE} bytes; does it repeat itself?"));
        }
        let next = characters.get(index + 1).copied();
        match (c, next) {
            ('\\', Some('$')) => {
                out.push('$');
                index += 2;
            }
            ('\\', Some(next)) if raw.quote == Quote::Double => {
                match next {
                    'n' => out.push('\n'),
                    'r' => out.push('\r'),
                    't' => out.push('\t'),
                    '"' | '\\' | '`' => out.push(next),
                    other => out.extend(['\\', other]),
                }
                index += 2;
            }
            ('$', Some('{')) => {
                let form: String = braced(&characters[index..]).iter().collect();
                let filled = interpolate(&form, &|name| values.get(name).cloned()).map_err(|error| match error {
                    InterpolateError::Required { .. } | InterpolateError::TooLong => error.to_string(),
                    _ => format!(
                        "`{}` cannot be read as a variable; write `${{NAME}}`, or put the value in single quotes",
                        shown(&form)
                    ),
                })?;
                out.push_str(&filled.text);
                unset.extend(filled.remarks.into_iter().filter_map(|remark| match remark {
                    crate::interpolate::Remark::Unset { name } => Some(name),
                    crate::interpolate::Remark::NotInStackDeploy { .. } => None,
                }));
                index += form.chars().count();
            }
            ('$', Some(next)) if begins_name(next) => {
                let name: String =
                    characters[index + 1..].iter().copied().take_while(|&c| in_name(c)).collect();
                index += 1 + name.len();
                match values.get(&name) {
                    Some(value) => out.push_str(value),
                    None => unset.push(name),
                }
            }
            _ => {
                out.push(c);
                index += 1;
            }
        }
    }
    Ok((out, unset))
}

/// The beginning of a text up to the brace that closes its first one; all of it where none does.
fn braced(text: &[char]) -> &[char] {
    let mut open = 0_usize;
    for (index, c) in text.iter().enumerate() {
        match c {
            '{' if index > 0 && text[index - 1] == '$' => open += 1,
            '}' => {
                open = open.saturating_sub(1);
                if open == 0 {
                    return &text[..=index];
                }
            }
            _ => {}
        }
    }
    text
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
