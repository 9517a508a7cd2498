//! The settings file, `notify.toml`: which sinks there are. Read whole or not at all; every mistake
//! is shown with its line, and the place in it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::email::{self, Email, Security};
use crate::event::EVENTS;
use crate::http::{Http, web_address};
use crate::matrix::Matrix;
use crate::ntfy::Ntfy;
use crate::secret::Secret;
use crate::sink::{Sink, Target};
use crate::template::Template;
use crate::webhook::{SigningKey, Webhook};

/// Longest name of a sink.
const MAX_NAME: usize = 64;

/// What the file says.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where people find the control plane; makes links.
    pub base_url: Option<String>,
    /// The receivers, in the file's order within each kind.
    pub sinks: Vec<Sink>,
}

/// Why the settings were not taken.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{line}:{column}: {message}\n{shown}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// Counts from 1, in characters.
        column: usize,
        /// What is wrong and what to write instead.
        message: String,
        /// The line with a mark under the place.
        shown: String,
    },
}

impl Settings {
    /// Reads a file. Paths in it are relative to its folder.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|why| SettingsError::File { path: path.to_owned(), why })?;
        Self::parse(&text, path)
    }

    /// Reads the text of the file at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let wrong = |problem: Wrong| problem.shown_in(text, path);
        let file: File = toml::from_str(text)
            .map_err(|e| wrong(Wrong { at: e.span().unwrap_or(0..0), message: e.message().to_owned() }))?;
        let base_url = match &file.base_url {
            Some(url) => Some(
                at(url, web_address(url.get_ref()))
                    .map(|url| url.as_str().trim_end_matches('/').to_owned())
                    .map_err(wrong)?,
            ),
            None => None,
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut sinks = Vec::new();
        for table in &file.webhook {
            sinks.push(webhook(table, folder).map_err(wrong)?);
        }
        for table in &file.ntfy {
            sinks.push(ntfy(table, folder).map_err(wrong)?);
        }
        for table in &file.email {
            sinks.push(email(table, folder).map_err(wrong)?);
        }
        for table in &file.matrix {
            sinks.push(matrix(table, folder).map_err(wrong)?);
        }
        let mut names = BTreeSet::new();
        for name in file.names() {
            if !names.insert(name.get_ref().as_str()) {
                return Err(wrong(error(
                    name,
                    "there is a sink of this name already; name each differently",
                )));
            }
        }
        Ok(Self { base_url, sinks })
    }
}

/// A table of a sink: its own keys, and those that every sink has.
macro_rules! sink_table {
    ($(#[$about:meta])* $name:ident { $($(#[$key_about:meta])* $key:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            name: Spanned<String>,
            events: Option<Vec<Spanned<String>>>,
            title: Option<Spanned<String>>,
            body: Option<Spanned<String>>,
            #[serde(default)]
            allow_internal: bool,
            ca_file: Option<Spanned<PathBuf>>,
            $($(#[$key_about])* $key: $type,)*
        }

        impl $name {
            fn common(&self) -> Common<'_> {
                Common {
                    name: &self.name,
                    events: self.events.as_deref(),
                    title: self.title.as_ref(),
                    body: self.body.as_ref(),
                    ca_file: self.ca_file.as_ref(),
                }
            }
        }
    };
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    base_url: Option<Spanned<String>>,
    #[serde(default)]
    webhook: Vec<WebhookTable>,
    #[serde(default)]
    ntfy: Vec<NtfyTable>,
    #[serde(default)]
    email: Vec<EmailTable>,
    #[serde(default)]
    matrix: Vec<MatrixTable>,
}

impl File {
    fn names(&self) -> impl Iterator<Item = &Spanned<String>> {
        let webhooks = self.webhook.iter().map(|table| &table.name);
        let topics = self.ntfy.iter().map(|table| &table.name);
        let mailboxes = self.email.iter().map(|table| &table.name);
        webhooks.chain(topics).chain(mailboxes).chain(self.matrix.iter().map(|table| &table.name))
    }
}

sink_table! {
    WebhookTable {
        url: Spanned<String>,
        secret: Option<Spanned<String>>,
        secret_file: Option<Spanned<PathBuf>>,
        #[serde(default)]
        deduplicates: bool,
    }
}

sink_table! {
    NtfyTable {
        server: Spanned<String>,
        topic: Spanned<String>,
        token: Option<Spanned<String>>,
        token_file: Option<Spanned<PathBuf>>,
    }
}

sink_table! {
    EmailTable {
        server: Spanned<String>,
        port: Option<u16>,
        #[serde(default)]
        tls: TlsWord,
        user: Option<Spanned<String>>,
        password: Option<Spanned<String>>,
        password_file: Option<Spanned<PathBuf>>,
        from: Spanned<String>,
        to: Spanned<Vec<Spanned<String>>>,
    }
}

sink_table! {
    MatrixTable {
        homeserver: Spanned<String>,
        room: Spanned<String>,
        token: Option<Spanned<String>>,
        token_file: Option<Spanned<PathBuf>>,
    }
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum TlsWord {
    #[default]
    Starttls,
    Tls,
    None,
}

/// What every sink has.
struct Common<'a> {
    name: &'a Spanned<String>,
    events: Option<&'a [Spanned<String>]>,
    title: Option<&'a Spanned<String>>,
    body: Option<&'a Spanned<String>>,
    ca_file: Option<&'a Spanned<PathBuf>>,
}

impl Common<'_> {
    fn sink(&self, target: Target) -> Result<Sink, Wrong> {
        let name = self.name.get_ref();
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) {
            return Err(error(self.name, "a name has letters, digits, `.`, `_` and `-`, at most 64"));
        }
        let events = self.events.map(wanted).transpose()?;
        let title = self.title.map(|t| template(t, events.as_deref())).transpose()?;
        let body = self.body.map(|t| template(t, events.as_deref())).transpose()?;
        Ok(Sink { name: name.clone(), events, title, body, target })
    }

    fn ca(&self, folder: &Path) -> Result<Option<Vec<u8>>, Wrong> {
        let Some(path) = self.ca_file else { return Ok(None) };
        let read = std::fs::read(folder.join(path.get_ref()));
        read.map(Some).map_err(|e| error(path, &format!("{}: {e}", path.get_ref().display())))
    }
}

fn wanted(events: &[Spanned<String>]) -> Result<Vec<String>, Wrong> {
    for event in events {
        if !EVENTS.iter().any(|kind| kind.name == event.get_ref()) {
            let known = EVENTS.map(|kind| kind.name).join(", ");
            return Err(error(event, &format!("there is no event `{}`; there are {known}", event.get_ref())));
        }
    }
    Ok(events.iter().map(|event| event.get_ref().clone()).collect())
}

fn template(source: &Spanned<String>, events: Option<&[String]>) -> Result<Template, Wrong> {
    Template::new(source.get_ref(), events).map_err(|problem| {
        error(source, &format!("line {} of this template: {}", problem.line, problem.message))
    })
}

fn webhook(table: &WebhookTable, folder: &Path) -> Result<Sink, Wrong> {
    let common = table.common();
    let url = at(&table.url, web_address(table.url.get_ref()))?;
    let http = http(&common, &url, &table.url, table.allow_internal, folder)?;
    let secret = secret(table.secret.as_ref(), table.secret_file.as_ref(), folder)?;
    let key = match secret {
        Some((Secret(text), place)) => {
            Some(SigningKey::read(&text).map_err(|message| Wrong { at: place, message })?)
        }
        None => None,
    };
    common.sink(Target::Webhook(Webhook { url, http, key, deduplicates: table.deduplicates }))
}

fn ntfy(table: &NtfyTable, folder: &Path) -> Result<Sink, Wrong> {
    let common = table.common();
    let mut url = at(&table.server, web_address(table.server.get_ref()))?;
    let http = http(&common, &url, &table.server, table.allow_internal, folder)?;
    let topic = table.topic.get_ref();
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    if topic.is_empty() || topic.len() > 64 || !topic.bytes().all(fits) {
        return Err(error(&table.topic, "a topic has letters, digits, `_` and `-`, at most 64"));
    }
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(topic);
    }
    let token = secret(table.token.as_ref(), table.token_file.as_ref(), folder)?.map(|(token, _)| token);
    common.sink(Target::Ntfy(Ntfy { url, http, token }))
}

fn email(table: &EmailTable, folder: &Path) -> Result<Sink, Wrong> {
    let common = table.common();
    let host = table.server.get_ref().clone();
    let fits = |b: u8| b.is_ascii_alphanumeric() || b".-:".contains(&b);
    if host.is_empty() || !host.bytes().all(fits) {
        return Err(error(&table.server, "write the mail server's name alone, its port as `port = …`"));
    }
    let from = at(&table.from, email::mailbox(table.from.get_ref()))?;
    let to = table.to.get_ref().iter().map(|to| at(to, email::mailbox(to.get_ref())));
    let to = to.collect::<Result<Vec<_>, _>>()?;
    if to.is_empty() {
        return Err(error(&table.to, "nobody would get it; name at least one address"));
    }
    let password = secret(table.password.as_ref(), table.password_file.as_ref(), folder)?;
    let login = match (&table.user, password) {
        (Some(user), _) if table.tls == TlsWord::None => {
            return Err(error(
                user,
                "a password would travel in clear; write tls = \"starttls\" or tls = \"tls\"",
            ));
        }
        (Some(user), Some((password, _))) => Some((user.get_ref().clone(), password)),
        (Some(user), None) => return Err(error(user, "a user needs `password` or `password_file`")),
        (None, Some((_, place))) => {
            return Err(Wrong { at: place, message: "a password needs a `user`".to_owned() });
        }
        (None, None) => None,
    };
    let parameters = || -> Result<_, Wrong> {
        let ca = common.ca(folder)?;
        let place = common.ca_file.map_or_else(|| table.server.span(), Spanned::span);
        email::tls(&host, ca.as_deref()).map_err(|message| Wrong { at: place, message })
    };
    let (security, usual) = match table.tls {
        TlsWord::Starttls => (Security::Starttls(parameters()?), 587),
        TlsWord::Tls => (Security::Tls(parameters()?), 465),
        TlsWord::None => (Security::None, 25),
    };
    let port = table.port.unwrap_or(usual);
    let allow_internal = table.allow_internal;
    let email = Email { host: host.clone(), port, security, login, from, to, allow_internal };
    common.sink(Target::Email(Box::new(email)))
}

fn matrix(table: &MatrixTable, folder: &Path) -> Result<Sink, Wrong> {
    let common = table.common();
    let homeserver = at(&table.homeserver, web_address(table.homeserver.get_ref()))?;
    let http = http(&common, &homeserver, &table.homeserver, table.allow_internal, folder)?;
    let room = table.room.get_ref();
    if !room.starts_with('!') || room.len() > 255 || room.chars().any(char::is_whitespace) {
        let message = "this is no room's id; take the one that begins with `!` from the room's settings";
        return Err(error(&table.room, message));
    }
    let Some((token, _)) = secret(table.token.as_ref(), table.token_file.as_ref(), folder)? else {
        return Err(error(&table.name, "a room needs `token` or `token_file`: an access token of the bot's"));
    };
    common.sink(Target::Matrix(Matrix { homeserver, room: room.clone(), token, http }))
}

fn http(
    common: &Common<'_>,
    url: &url::Url,
    place: &Spanned<String>,
    allow_internal: bool,
    folder: &Path,
) -> Result<Http, Wrong> {
    let ca = common.ca(folder)?;
    let place = common.ca_file.map_or_else(|| place.span(), Spanned::span);
    Http::new(url, allow_internal, ca.as_deref()).map_err(|message| Wrong { at: place, message })
}

/// A secret from the settings or from a file, and where it was named.
fn secret(
    inline: Option<&Spanned<String>>,
    file: Option<&Spanned<PathBuf>>,
    folder: &Path,
) -> Result<Option<(Secret, Range<usize>)>, Wrong> {
    let (text, place) = match (inline, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(file)) => {
            return Err(error(file, "give the secret itself or a file with it, not both"));
        }
        (Some(text), None) => (text.get_ref().clone(), text.span()),
        (None, Some(file)) => {
            let path = folder.join(file.get_ref());
            let text = std::fs::read_to_string(&path)
                .map_err(|e| error(file, &format!("{}: {e}", path.display())))?;
            (text, file.span())
        }
    };
    let text = text.trim().to_owned();
    if text.is_empty() || text.chars().any(char::is_control) {
        let message = "a secret is one line of text, and not empty".to_owned();
        return Err(Wrong { at: place, message });
    }
    Ok(Some((Secret(text), place)))
}

/// A mistake and where it is, in bytes.
struct Wrong {
    at: Range<usize>,
    message: String,
}

fn error<T>(place: &Spanned<T>, message: &str) -> Wrong {
    Wrong { at: place.span(), message: message.to_owned() }
}

fn at<T, P>(place: &Spanned<P>, result: Result<T, String>) -> Result<T, Wrong> {
    result.map_err(|message| Wrong { at: place.span(), message })
}

impl Wrong {
    fn shown_in(self, text: &str, path: &Path) -> SettingsError {
        let start = text.floor_char_boundary(self.at.start.min(text.len()));
        let begin = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let (line, column) =
            (text[..start].matches('\n').count() + 1, text[begin..start].chars().count() + 1);
        let stop = text.floor_char_boundary(self.at.end.clamp(start, end));
        let width = text[start..stop].chars().count().max(1);
        let margin = " ".repeat(line.to_string().len());
        // A secret could stand in the line: the place and the message say enough then.
        let source = &text[begin..end];
        let source = if holds_secret(source) { "(not shown: it may hold a secret)" } else { source };
        let mark = if source.starts_with('(') {
            String::new()
        } else {
            format!("\n{margin} | {}{}", " ".repeat(column - 1), "^".repeat(width))
        };
        let shown = format!("{margin} |\n{line} | {source}{mark}");
        SettingsError::Wrong { path: path.to_owned(), line, column, message: self.message, shown }
    }
}

fn holds_secret(line: &str) -> bool {
    let key = line.split('=').next().unwrap_or_default().trim();
    matches!(key, "secret" | "token" | "password" | "url")
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
