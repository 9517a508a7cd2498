//! Reads `assay.toml`. There is no other reader: what is accepted here is what counts, and what is not known is refused.
//!
//! Everything that is wrong is told at once, each with its line. Types and ranges come from the list of keys; what keys have
//! to do with each other is below.

use std::{collections::BTreeMap, ops::Range};

use serde_json::{Map, Value, json};
use toml::{
    Spanned,
    de::{DeArray, DeString, DeTable, DeValue},
};

use super::{
    DatabaseKind, FILE, Rung, Settings, duration,
    near::did_you_mean,
    place::Source,
    registry::{Form, KEYS, Key, Kind, Status},
};
use crate::{
    customise::redact::is_secret_name,
    problem::{Problem, Problems, shown},
};

/// Longest file that is read, in bytes.
pub const MAX_BYTES: usize = 256 << 10;
/// Most entries of one list or table.
const MOST: usize = 256;
/// Most problems that are told: a file that is no settings at all would be told line by line.
const MOST_TOLD: usize = 50;
/// Variables that each run sets for itself.
const OURS: [&str; 2] = ["DOMAIN", "STACK_NAME"];

/// Settings as they were read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadedSettings {
    /// The settings, with defaults for what was not written.
    pub settings: Settings,
    /// What was accepted and should be written in another way.
    pub warnings: Vec<Problem>,
}

impl LoadedSettings {
    /// Reads the text of an `assay.toml`.
    ///
    /// # Errors
    /// [`Problems`]: everything that is wrong, each with its line and a mark under the place.
    pub fn read(text: &str) -> Result<Self, Problems> {
        read(KEYS, FILE, text)
    }
}

/// As [`LoadedSettings::read`], by a list of keys.
pub(crate) fn read(keys: &[Key], file: &str, text: &str) -> Result<LoadedSettings, Problems> {
    if text.len() > MAX_BYTES {
        let message = format!("it has {} bytes, and at most {MAX_BYTES} are read; shorten it", text.len());
        return Err(Problem::new(file, 0, "", message).into());
    }
    let source = Source { file, text };
    let table = DeTable::parse(text)
        .map_err(|error| source.problem(&error.span().unwrap_or_default(), "", error.message().trim_end()))?;
    let mut reader =
        Reader { keys, source, problems: Vec::new(), warnings: Vec::new(), places: BTreeMap::new() };
    let json = reader.top(table.get_ref());
    if reader.problems.is_empty() {
        match serde_json::from_value::<Settings>(Value::Object(json)) {
            Ok(settings) => {
                reader.check(&settings);
                let Reader { mut problems, warnings, .. } = reader;
                problems.sort_by_key(|problem| problem.line);
                return Problems::or(problems, LoadedSettings { settings, warnings });
            }
            // The list of keys and the structs are held to each other by a test.
            Err(error) => {
                let message = format!("{error}; this is a mistake of Assay's, please report it");
                reader.problems.push(Problem::new(file, 0, "", message));
            }
        }
    }
    Err(Problems(reader.problems))
}

struct Reader<'s> {
    keys: &'s [Key],
    source: Source<'s>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Where each value stands, by its whole name.
    places: BTreeMap<String, Range<usize>>,
}

type Entry<'t, 's> = (&'t Spanned<DeString<'s>>, &'t Spanned<DeValue<'s>>);

impl<'s> Reader<'s> {
    fn top(&mut self, table: &DeTable<'s>) -> Map<String, Value> {
        let mut json = Map::new();
        for (name, value) in in_order(table) {
            let word = name.get_ref().as_ref();
            let Some(key) = self.keys.iter().find(|key| key.table() == word) else {
                self.unknown_table(word, &name.span());
                continue;
            };
            match (key.is_of_list(), value.get_ref()) {
                (false, DeValue::Table(fields)) => {
                    let fields = self.fields(word, fields);
                    json.insert(word.to_owned(), Value::Object(fields));
                }
                (true, DeValue::Array(items)) => {
                    let items = self.list(word, items);
                    json.insert(word.to_owned(), items);
                }
                (is_of_list, other) => {
                    let (wanted, form) = if is_of_list {
                        ("a list of tables", format!("[[{word}]]"))
                    } else {
                        ("a table", format!("[{word}]"))
                    };
                    let message = format!(
                        "expected {wanted}, found {}; write `{form}` and its keys below",
                        found(other)
                    );
                    self.wrong(&value.span(), word, &message);
                }
            }
        }
        json
    }

    fn list(&mut self, table: &str, items: &DeArray<'s>) -> Value {
        let mut read = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{table}[{index}]");
            if index >= MOST {
                self.wrong(&item.span(), &path, &format!("at most {MOST} are read; shorten the list"));
                break;
            }
            let DeValue::Table(fields) = item.get_ref() else {
                let message = format!(
                    "expected a table; write `[[{table}]]` and its keys below, found {}",
                    found(item.get_ref())
                );
                self.wrong(&item.span(), &path, &message);
                continue;
            };
            let fields = self.fields(&path, fields);
            for key in self.keys.iter().filter(|key| key.table() == table && key.status == Status::Required) {
                if !fields.contains_key(key.field())
                    && !self.places.contains_key(&format!("{path}.{}", key.field()))
                {
                    let message = format!("`{}` is missing: {}", key.field(), key.kind.wanted());
                    self.wrong(&item.span(), &path, &message);
                }
            }
            self.places.insert(path, item.span());
            read.push(Value::Object(fields));
        }
        Value::Array(read)
    }

    /// The fields of a table called `path`: `http`, `databases[0]`.
    fn fields(&mut self, path: &str, fields: &DeTable<'s>) -> Map<String, Value> {
        let mut out = Map::new();
        let (table, _) = path.split_once('[').unwrap_or((path, ""));
        for (name, value) in in_order(fields) {
            let word = name.get_ref().as_ref();
            let Some(key) = self.keys.iter().find(|key| key.table() == table && key.field() == word) else {
                self.unknown_key(table, path, word, &name.span());
                continue;
            };
            let key = match key.status {
                Status::Replaced { since, by } => {
                    let now = self.keys.iter().find(|key| key.name == by && key.table() == table);
                    let Some(now) = now else {
                        self.wrong(&name.span(), path, "it is replaced by a key that does not exist; this is a mistake of Assay's, please report it");
                        continue;
                    };
                    let message = format!(
                        "`{}` is called `{by}` since {since}; it is read as that, write it so",
                        key.name
                    );
                    self.warnings.push(self.source.problem(
                        &name.span(),
                        &format!("{path}.{word}"),
                        &message,
                    ));
                    now
                }
                Status::Current | Status::Required => key,
            };
            let whole = format!("{path}.{}", key.field());
            if self.places.insert(whole.clone(), value.span()).is_some() {
                let message = format!("`{}` is there already, under its new or old name; keep one", key.name);
                self.wrong(&name.span(), &whole, &message);
            }
            if let Some(read) = self.value(key.kind, value, &whole) {
                out.insert(key.field().to_owned(), read);
            }
        }
        out
    }

    /// A value of some kind, as JSON. `None` is told.
    fn value(&mut self, kind: Kind, value: &Spanned<DeValue<'s>>, path: &str) -> Option<Value> {
        let given = value.get_ref();
        let read = match (kind, given) {
            (Kind::Time(least, most), _) => return self.time(least, most, value, path),
            (Kind::Switch, DeValue::Boolean(switch)) => Some(json!(switch)),
            (Kind::Whole(least, most), DeValue::Integer(_)) => whole(given, least, most).map(|n| json!(n)),
            (Kind::Text(form), DeValue::String(text)) => form.fits(text).then(|| json!(text)),
            (Kind::Choice(words), DeValue::String(text)) => {
                if !words.contains(&text.as_ref()) {
                    let hint = did_you_mean(text, words);
                    let message = format!("expected {}, found \"{}\"{hint}", kind.wanted(), shown(text));
                    self.wrong(&value.span(), path, &message);
                    return None;
                }
                Some(json!(text))
            }
            (Kind::Wholes(least, most), DeValue::Array(items)) if !items.is_empty() => {
                let one = Kind::Whole(least, most).wanted();
                Some(self.items(items, path, |item| whole(item, least, most).map(|n| json!(n)), &one))
            }
            (Kind::Texts(form), DeValue::Array(items)) => {
                let text =
                    |item: &DeValue<'_>| item.as_str().filter(|text| form.fits(text)).map(|text| json!(text));
                Some(self.items(items, path, text, form.wanted()))
            }
            (Kind::TextTable(..) | Kind::WholeTable(..) | Kind::ChoiceTable(..), DeValue::Table(entries)) => {
                return self.entries(kind, entries, path);
            }
            _ => None,
        };
        if read.is_none() {
            let message = format!("expected {}, found {}", kind.wanted(), told(given, path));
            self.wrong(&value.span(), path, &message);
        }
        read
    }

    fn time(&mut self, least: u64, most: u64, value: &Spanned<DeValue<'s>>, path: &str) -> Option<Value> {
        let read = match value.get_ref() {
            DeValue::String(text) => duration::parse(text).map_err(|error| error.to_string()),
            // Whoever writes a bare number means seconds, and older settings are written so.
            given @ DeValue::Integer(_) => whole(given, 0, u32::MAX)
                .map(|seconds| std::time::Duration::from_secs(seconds.into()))
                .ok_or_else(|| format!("found {}, which is no time", found(given))),
            other => Err(format!("expected {}, found {}", Kind::Time(least, most).wanted(), found(other))),
        };
        let in_range = |time: std::time::Duration| (least..=most).contains(&time.as_secs());
        match read {
            Ok(time) if in_range(time) => Some(json!(duration::format(time))),
            Ok(_) => {
                let of = |seconds| duration::format(std::time::Duration::from_secs(seconds));
                let message = format!("it may be {} to {}", of(least), of(most));
                self.wrong(&value.span(), path, &message);
                None
            }
            Err(message) => {
                self.wrong(&value.span(), path, &message);
                None
            }
        }
    }

    fn items(
        &mut self,
        items: &DeArray<'s>,
        path: &str,
        read: impl Fn(&DeValue<'_>) -> Option<Value>,
        wanted: &str,
    ) -> Value {
        let mut out = Vec::new();
        for (index, item) in items.iter().enumerate().take(MOST + 1) {
            if index == MOST {
                self.wrong(&item.span(), path, &format!("at most {MOST} are read; shorten the list"));
            } else if let Some(value) = read(item.get_ref()) {
                if out.contains(&value) {
                    self.wrong(&item.span(), &format!("{path}[{index}]"), "it is there twice; keep one");
                }
                out.push(value);
            } else {
                let message = format!("expected {wanted}, found {}", found(item.get_ref()));
                self.wrong(&item.span(), &format!("{path}[{index}]"), &message);
            }
        }
        Value::Array(out)
    }

    fn entries(&mut self, kind: Kind, entries: &DeTable<'s>, path: &str) -> Option<Value> {
        if entries.len() > MOST {
            let span = entries.keys().next().map(Spanned::span).unwrap_or_default();
            self.wrong(&span, path, &format!("at most {MOST} entries are read; shorten the table"));
            return None;
        }
        let mut out = Map::new();
        for (name, value) in in_order(entries) {
            let (word, given) = (name.get_ref().as_ref(), value.get_ref());
            let whole_path = format!("{path}.{}", shown(word));
            let bad_name = match kind {
                Kind::TextTable(form, _) | Kind::WholeTable(form, ..) if !form.fits(word) => {
                    Some(format!("`{}` is not {}", shown(word), form.wanted()))
                }
                Kind::ChoiceTable(words, _) if !words.contains(&word) => Some(format!(
                    "unknown `{}`; known are {}{}",
                    shown(word),
                    words.join(", "),
                    did_you_mean(word, words)
                )),
                _ => None,
            };
            if let Some(message) = bad_name {
                self.wrong(&name.span(), &whole_path, &message);
                continue;
            }
            let (read, wanted) = match kind {
                Kind::WholeTable(_, least, most) => {
                    (whole(given, least, most).map(|n| json!(n)), Kind::Whole(least, most).wanted())
                }
                Kind::TextTable(_, form) | Kind::ChoiceTable(_, form) => {
                    let text = given.as_str().filter(|text| form.fits(text)).map(|text| json!(text));
                    (text, form.wanted().to_owned())
                }
                // Only tables come here.
                _ => (None, kind.wanted()),
            };
            if let Some(value_read) = read {
                self.places.insert(whole_path, name.span());
                out.insert(word.to_owned(), value_read);
            } else {
                let hint = match (form_of(kind), given) {
                    (
                        Some(Form::Any | Form::Filled),
                        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_),
                    ) => "; put it in quotes",
                    _ => "",
                };
                let message = format!("expected {wanted}, found {}{hint}", told(given, &whole_path));
                self.wrong(&value.span(), &whole_path, &message);
            }
        }
        Some(Value::Object(out))
    }

    fn unknown_table(&mut self, word: &str, span: &Range<usize>) {
        let mut tables: Vec<&str> = self.keys.iter().map(Key::table).collect();
        tables.dedup();
        let homes: Vec<&str> =
            self.keys.iter().filter(|key| key.field() == word).map(|key| key.name).collect();
        let hint = if homes.is_empty() { did_you_mean(word, &tables) } else { meant(&homes) };
        let message = format!("unknown key `{}`; tables are {}{hint}", shown(word), tables.join(", "));
        self.wrong(span, "", &message);
    }

    fn unknown_key(&mut self, table: &str, path: &str, word: &str, span: &Range<usize>) {
        let here: Vec<&str> = (self.keys.iter())
            .filter(|key| key.table() == table && !matches!(key.status, Status::Replaced { .. }))
            .map(Key::field)
            .collect();
        let homes: Vec<&str> =
            self.keys.iter().filter(|key| key.field() == word).map(|key| key.name).collect();
        let hint = if homes.is_empty() { did_you_mean(word, &here) } else { meant(&homes) };
        let message = format!("unknown key `{}`; `{table}` has {}{hint}", shown(word), here.join(", "));
        self.wrong(span, path, &message);
    }

    fn wrong(&mut self, span: &Range<usize>, path: &str, message: &str) {
        if self.problems.len() == MOST_TOLD {
            self.problems.push(Problem::new(
                self.source.file,
                0,
                "",
                "there is more that is wrong; mend this first",
            ));
        }
        if self.problems.len() > MOST_TOLD {
            return;
        }
        self.problems.push(self.source.problem(span, path, message));
    }

    /// At a value that was written, or at the whole.
    fn wrong_at(&mut self, path: &str, message: &str) {
        match self.places.get(path).cloned() {
            Some(span) => self.wrong(&span, path, message),
            None => self.problems.push(Problem::new(self.source.file, 0, path, message)),
        }
    }

    /// What keys have to do with each other.
    fn check(&mut self, settings: &Settings) {
        for field in ["path", "status", "timeout", "contains", "content_type", "service", "port"] {
            let path = format!("http.{field}");
            if settings.http.none && self.places.contains_key(&path) {
                self.wrong_at(&path, "`http.none` says that nothing is asked; remove this or that");
            }
        }
        for (service, until) in &settings.deploy.tolerate_until {
            let path = format!("deploy.tolerate_until.{service}");
            if service == until {
                self.wrong_at(&path, "it waits for itself; name the service that it waits for");
            } else if !settings.deploy.tolerate_restarts.contains_key(service) {
                self.wrong_at(
                    &path,
                    "`deploy.tolerate_restarts` does not name it; say there how often it may fail until then",
                );
            }
        }
        if settings.http.none && settings.screenshot.path.is_some() {
            self.wrong_at(
                "screenshot.path",
                "`http.none` says that there is no web face; remove this or that",
            );
        }
        if settings.backup.capable == Some(true) && settings.expect.not_applicable.contains_key(&Rung::Backup)
        {
            let message = "`backup.capable` says that it can be backed up; remove this or that";
            self.wrong_at("expect.not_applicable.backup", message);
        }
        for table in ["deploy.env", "deploy.upgrade_env"] {
            for name in OURS {
                let message = format!("each run sets `{name}` for itself; remove it");
                if self.places.contains_key(&format!("{table}.{name}")) {
                    self.wrong_at(&format!("{table}.{name}"), &message);
                }
            }
        }
        self.check_databases(settings);
        self.check_dependencies(settings);
    }

    fn check_databases(&mut self, settings: &Settings) {
        for (index, database) in settings.databases.iter().enumerate() {
            let path = format!("databases[{index}]");
            if database.kind == DatabaseKind::Sqlite {
                if database.path.is_none() {
                    self.wrong_at(&path, "`path` is missing: the database's file in the container");
                }
                for field in ["user", "database", "password_file"] {
                    let whole = format!("{path}.{field}");
                    if self.places.contains_key(&whole) {
                        self.wrong_at(&whole, "SQLite has no such thing; remove it");
                    }
                }
            } else if database.path.is_some() {
                self.wrong_at(&format!("{path}.path"), "`path` is for SQLite alone; remove it");
            }
            if settings.databases[..index].contains(database) {
                self.wrong_at(&path, "this database is there twice; keep one");
            }
        }
    }

    fn check_dependencies(&mut self, settings: &Settings) {
        for (index, dependency) in settings.dependencies.iter().enumerate() {
            let path = format!("dependencies[{index}]");
            match (&dependency.recipe, &dependency.provider) {
                (Some(_), Some(_)) => {
                    self.wrong_at(&format!("{path}.provider"), "it has `recipe` and `provider`; keep one");
                }
                (None, None) => {
                    self.wrong_at(&path, "`recipe` or `provider` is missing: what is to be deployed first");
                }
                _ => {}
            }
            if settings.dependencies[..index].iter().any(|other| other.name == dependency.name) {
                self.wrong_at(
                    &format!("{path}.name"),
                    "another dependency has this name; give it one of its own",
                );
            }
            for name in OURS {
                let whole = format!("{path}.env.{name}");
                if self.places.contains_key(&whole) {
                    self.wrong_at(&whole, &format!("each run sets `{name}` for itself; remove it"));
                }
            }
        }
    }
}

/// Entries as they stand in the file; the parser sorts them by name.
fn in_order<'t, 's>(table: &'t DeTable<'s>) -> Vec<Entry<'t, 's>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn whole(value: &DeValue<'_>, least: u32, most: u32) -> Option<u32> {
    let DeValue::Integer(number) = value else { return None };
    let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
    u32::try_from(number).ok().filter(|number| (least..=most).contains(number))
}

const fn form_of(kind: Kind) -> Option<Form> {
    match kind {
        Kind::TextTable(_, form) | Kind::ChoiceTable(_, form) => Some(form),
        _ => None,
    }
}

/// What a value is, for people; what is a secret by its name is told by its type alone.
fn told(value: &DeValue<'_>, path: &str) -> String {
    if path.split('.').any(is_secret_name) { kind_of(value).to_owned() } else { found(value) }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a switch",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{}\"", shown(text)),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(switch) => format!("`{switch}`"),
        DeValue::Array(items) if items.is_empty() => "an empty list".to_owned(),
        other => kind_of(other).to_owned(),
    }
}

/// Where a key is that somebody wrote in the wrong table.
fn meant(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("; did you mean {}?", names.join(" or "))
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
