//! The keys of `assay.toml`: one list, from which the loader's checks, the page of documentation and the schema are made.
//!
//! A new key is a field in [`super::Settings`] and a line here; a test fails while one of the two is missing. A key that goes
//! stays in the list as [`Status::Replaced`] for as long as files may have it.

use super::Rung;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// Its whole name: `http.path`; `databases[].kind` for a key of each table in a list.
    pub name: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// What counts without it, as TOML; empty where nothing does.
    pub default: &'static str,
    /// What it is for: a sentence without its full stop.
    pub doc: &'static str,
    /// The version of Assay that knew it first.
    pub since: &'static str,
    /// Whether it may be used.
    pub status: Status,
}

/// What may stand for a key's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A time between two, in seconds.
    Time(u64, u64),
    /// A whole number between two.
    Whole(u32, u32),
    /// `true` or `false`.
    Switch,
    /// Text of some form.
    Text(Form),
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A list of whole numbers between two, not empty.
    Wholes(u32, u32),
    /// A list of texts.
    Texts(Form),
    /// A table of texts; the first form is that of its names.
    TextTable(Form, Form),
    /// A table of whole numbers between two.
    WholeTable(Form, u32, u32),
    /// A table of texts whose names are some words.
    ChoiceTable(&'static [&'static str], Form),
}

/// What a text must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Anything, also nothing.
    Any,
    /// Anything but nothing.
    Filled,
    /// A path of a URL: begins with `/`.
    UrlPath,
    /// A path in a container: begins with `/`.
    ContainerPath,
    /// A variable's name.
    Variable,
    /// A name of compose: letters, digits, `.`, `_`, `-`.
    Name,
    /// A release: `1.2.0+3.1`.
    Release,
}

/// Whether a key may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It may.
    Current,
    /// It is needed in each table of its list.
    Required,
    /// It is read as another key, with a warning.
    Replaced {
        /// The version that replaced it.
        since: &'static str,
        /// The key that it is read as.
        by: &'static str,
    },
}

const RUNGS: &[&str] = &[
    Rung::Install.name(),
    Rung::Upgrade.name(),
    Rung::Backup.name(),
    Rung::Functional.name(),
    Rung::Lint.name(),
];

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc, since: "0.1", status: Status::Current }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: "", doc, since: "0.1", status: Status::Required }
}

/// Every key, table by table.
pub const KEYS: &[Key] = &[
    key(
        "deploy.timeout",
        Kind::Time(1, 6 * 3600),
        "\"10m\"",
        "The wait budget of one operation, from the deployment until the app has converged and answers; pulling images is not in it",
    ),
    key(
        "deploy.env",
        Kind::TextTable(Form::Variable, Form::Any),
        "{}",
        "Variables of the app, on top of `.env.sample`, in their order",
    ),
    key(
        "deploy.upgrade_env",
        Kind::TextTable(Form::Variable, Form::Any),
        "{}",
        "Variables on top of those, from the upgrade on",
    ),
    key(
        "deploy.tolerate_restarts",
        Kind::WholeTable(Form::Name, 1, 1000),
        "{}",
        "How many restarts of a service are no crash loop yet, by service: for one that waits for another by failing",
    ),
    key(
        "deploy.tolerate_until",
        Kind::TextTable(Form::Name, Form::Name),
        "{}",
        "The service that such a service waits for, by service: once that one has been ready, restarts are counted as anybody's",
    ),
    key(
        "deploy.secrets",
        Kind::TextTable(Form::Name, Form::Filled),
        "{}",
        "Secrets that cannot be generated, by their compose key: values that are good for tests and nothing else",
    ),
    key("http.path", Kind::Text(Form::UrlPath), "\"/\"", "The path that is asked for"),
    key(
        "http.status",
        Kind::Wholes(100, 599),
        "[200]",
        "Status codes that are an answer; redirects are not followed",
    ),
    key(
        "http.timeout",
        Kind::Time(1, 3600),
        "\"60s\"",
        "How long the answer may take to come after everything has converged",
    ),
    key("http.contains", Kind::Text(Form::Filled), "", "Text that the body has"),
    key(
        "http.content_type",
        Kind::Text(Form::Filled),
        "",
        "What `Content-Type` begins with, such as `\"text/html\"`",
    ),
    key("http.service", Kind::Text(Form::Name), "", "The service that answers; `app` without it"),
    key(
        "http.port",
        Kind::Whole(1, 65535),
        "",
        "Its port; that of traefik's label `loadbalancer.server.port` without it",
    ),
    key("http.none", Kind::Switch, "false", "It has no web face: nothing is asked"),
    key(
        "upgrade.from",
        Kind::Texts(Form::Release),
        "[]",
        "Releases that an upgrade is tested from, the first in place, each further one in a stack of its own; the one before without it",
    ),
    key(
        "backup.capable",
        Kind::Switch,
        "",
        "Whether it can be backed up; its backup labels say so without it",
    ),
    key(
        "backup.recaptures",
        Kind::Whole(0, 3),
        "0",
        "How often a backup is taken again that the hook `backup_verify` refused",
    ),
    required(
        "databases[].kind",
        Kind::Choice(&["postgres", "mariadb", "sqlite"]),
        "A database that a row is written into before the backup and looked for after the restore",
    ),
    required("databases[].service", Kind::Text(Form::Name), "The service whose container has it"),
    key(
        "databases[].user",
        Kind::Text(Form::Filled),
        "",
        "Who connects; `postgres` or `root` without it; not for SQLite",
    ),
    key(
        "databases[].database",
        Kind::Text(Form::Filled),
        "",
        "The database's name; the user's without it; not for SQLite",
    ),
    key(
        "databases[].password_file",
        Kind::Text(Form::ContainerPath),
        "",
        "The file in the container that has the password; not for SQLite",
    ),
    key(
        "databases[].path",
        Kind::Text(Form::ContainerPath),
        "",
        "The database's file in the container; for SQLite alone, which needs it",
    ),
    required(
        "dependencies[].name",
        Kind::Text(Form::Name),
        "What its credentials are found under in the context",
    ),
    key(
        "dependencies[].kind",
        Kind::Choice(&["cold", "warm"]),
        "\"cold\"",
        "`cold` is deployed for the run alone; `warm` is kept running, with a realm for each run",
    ),
    key(
        "dependencies[].recipe",
        Kind::Text(Form::Name),
        "",
        "The recipe that is deployed first, by its folder's name; this or `provider`",
    ),
    key(
        "dependencies[].provider",
        Kind::Choice(&["oidc"]),
        "",
        "A provider that Assay brings: `oidc` is OpenID Connect with one user; this or `recipe`",
    ),
    key(
        "dependencies[].env",
        Kind::TextTable(Form::Variable, Form::Any),
        "{}",
        "Variables of the app; `{issuer}` in a value is that credential of the dependency",
    ),
    key(
        "dependencies[].secrets",
        Kind::TextTable(Form::Name, Form::Filled),
        "{}",
        "Secrets of the app by their compose key; `{client_secret}` in a value is that credential of the dependency",
    ),
    key(
        "screenshot.path",
        Kind::Text(Form::UrlPath),
        "",
        "The path that is pictured; `http.path` without it",
    ),
    key(
        "expect.not_applicable",
        Kind::ChoiceTable(RUNGS, Form::Filled),
        "{}",
        "Rungs that do not apply to this recipe, each with the reason: `install`, `upgrade`, `backup`, `functional`, `lint`",
    ),
    key("stages.idempotence", Kind::Switch, "false", "Deploy the same again, which must change nothing"),
    key("stages.rollback", Kind::Switch, "false", "Go back to the version before, with the data"),
    key(
        "needs.mem_mib",
        Kind::Whole(16, 1 << 20),
        "",
        "Memory that a run takes, in MiB; the runner's estimate without it",
    ),
    key(
        "needs.cpu",
        Kind::Whole(1, 256),
        "",
        "Processors that a run takes; the runner's estimate without it",
    ),
    key(
        "needs.io",
        Kind::Whole(1, 10),
        "",
        "Share of the disk's work: 10 has the disk to itself; the runner's estimate without it",
    ),
];

impl Key {
    /// The table that it stands in: `http`, `databases`.
    pub fn table(&self) -> &'static str {
        let end = self.name.find(['.', '[']).unwrap_or(self.name.len());
        &self.name[..end]
    }

    /// Its name in its table: `path`.
    pub fn field(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, field)| field)
    }

    /// Whether it stands in each table of a list: `[[databases]]`.
    pub fn is_of_list(&self) -> bool {
        self.name.contains("[].")
    }
}

impl Kind {
    /// For people: `time`, `list of numbers`.
    pub fn words(self) -> String {
        match self {
            Self::Time(..) => "time".to_owned(),
            Self::Whole(least, most) => format!("number, {least} to {most}"),
            Self::Switch => "switch".to_owned(),
            Self::Text(form) => form.words().to_owned(),
            Self::Choice(words) => {
                words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(" or ")
            }
            Self::Wholes(least, most) => format!("list of numbers, {least} to {most}"),
            Self::Texts(Form::Release) => "list of releases".to_owned(),
            Self::Texts(_) => "list of texts".to_owned(),
            Self::TextTable(..) | Self::ChoiceTable(..) => "table of texts".to_owned(),
            Self::WholeTable(_, least, most) => format!("table of numbers, {least} to {most}"),
        }
    }

    /// What was expected, with an example: for an error.
    pub(crate) fn wanted(self) -> String {
        match self {
            Self::Time(..) => "a time such as \"90s\", \"10m\" or \"1h 30m\"".to_owned(),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::Switch => "true or false, without quotes".to_owned(),
            Self::Text(form) => form.wanted().to_owned(),
            Self::Choice(words) => {
                words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
            }
            Self::Wholes(least, most) => {
                format!("a list of whole numbers from {least} to {most}, such as [{least}]")
            }
            Self::Texts(form) => format!("a list, each item {}", form.wanted()),
            Self::TextTable(..) => "a table of texts, such as { NAME = \"value\" }".to_owned(),
            Self::ChoiceTable(words, _) => format!("a table of texts, such as {{ {} = \"why\" }}", words[0]),
            Self::WholeTable(_, least, most) => {
                format!("a table of whole numbers from {least} to {most}, such as {{ app = {most} }}")
            }
        }
    }
}

impl Form {
    const fn words(self) -> &'static str {
        match self {
            Self::Any | Self::Filled => "text",
            Self::UrlPath | Self::ContainerPath => "path",
            Self::Variable | Self::Name => "name",
            Self::Release => "release",
        }
    }

    pub(crate) const fn wanted(self) -> &'static str {
        match self {
            Self::Any => "text in quotes",
            Self::Filled => "text in quotes that is not empty",
            Self::UrlPath => "a path such as \"/health\", without spaces",
            Self::ContainerPath => "a path such as \"/run/secrets/db_password\", without `..`",
            Self::Variable => "a variable's name: letters, digits and `_`, no digit first",
            Self::Name => "a name of letters, digits, `.`, `_` and `-`, a letter or digit first",
            Self::Release => "a release such as \"1.2.0+3.1\"",
        }
    }

    /// Whether a text has this form. No text here has control characters other than line breaks and tabs.
    pub(crate) fn fits(self, text: &str) -> bool {
        let plain = |c: char| !c.is_control() && !c.is_whitespace();
        match self {
            Self::Any => !text.contains('\0'),
            Self::Filled => !text.trim().is_empty() && !text.contains('\0'),
            Self::UrlPath => text.starts_with('/') && text.chars().all(plain),
            Self::ContainerPath => {
                text.starts_with('/')
                    && text.chars().all(|c| !c.is_control())
                    && !text.split('/').any(|part| part == "..")
            }
            Self::Variable => {
                text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                    && text.starts_with(|c: char| !c.is_ascii_digit())
            }
            Self::Name => {
                text.len() <= 128
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
                    && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            }
            Self::Release => crate::versions::Version::parse(text).is_ok(),
        }
    }

    /// The form as a regular expression of JSON Schema, where one says it.
    pub(crate) const fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::Filled => Some("\\S"),
            Self::UrlPath => Some("^/\\S*$"),
            Self::ContainerPath => Some("^/"),
            Self::Variable => Some("^[A-Za-z_][A-Za-z0-9_]*$"),
            Self::Name => Some("^[A-Za-z0-9][A-Za-z0-9._-]*$"),
            Self::Release => Some("^[0-9]+\\.[0-9]+\\.[0-9]+(\\+.+)?$"),
        }
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
