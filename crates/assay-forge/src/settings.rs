//! The settings file, `forges.toml`: which forges, which repositories, who may ask. Read whole or not at all; every mistake
//! is shown with its line, and no line is shown, since one may hold a secret.

mod images;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use assay_model::Micros;
use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;
use url::Url;

use crate::authors::Rules;
use crate::client::Limits;
use crate::forge::{Forge, ForgeKind};
use crate::forgejo::Forgejo;
use crate::github::GitHub;
use crate::name::{Login, Name, RepoName};
use crate::poll::Budget;
use crate::secret::Secret;

pub use images::ImageTrigger;

/// Longest name of a forge.
const MAX_NAME: usize = 40;
/// Where GitHub is, unless the settings say otherwise.
const GITHUB: &str = "https://github.com";

/// What the file says.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where people find the control plane: what links begin with, without a slash at its end.
    pub base_url: Option<String>,
    /// The forges, in the file's order.
    pub forges: Vec<ForgeSettings>,
}

/// A forge and what is asked of it.
#[derive(Clone, Debug)]
pub struct ForgeSettings {
    /// What it is called here.
    pub name: String,
    /// Its dialect.
    pub kind: ForgeKind,
    /// Its address, without a slash at its end.
    pub address: String,
    /// The repositories that are listened to.
    pub repositories: BTreeSet<RepoName>,
    /// Who may ask for runs.
    pub authors: Rules,
    /// The branch that tests, hooks and settings are taken from; the repository's own first branch where none is named.
    pub trusted: Option<String>,
    /// What becomes of pull requests from forks.
    pub forks: Forks,
    /// Its webhooks, where deliveries are taken.
    pub webhook: Option<WebhookSettings>,
    /// How often it may be asked.
    pub budget: Budget,
    /// The runner that tests what it asks for; any that can when none is named.
    pub runner: Option<String>,
    /// What recipes may reach outside of their containers, by their names.
    pub allow: BTreeMap<String, Value>,
    /// Images that pull requests ask for by what they touch.
    pub images: Vec<ImageTrigger>,
    token: Secret,
    certificates: Option<Vec<u8>>,
}

/// What becomes of pull requests from forks: of code that nobody with a right to push has looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forks {
    /// They are tested in a virtual machine, by a runner that has one.
    #[default]
    Machine,
    /// They are not tested.
    Refuse,
    /// They are tested as any other.
    Trust,
}

/// Webhooks of a forge.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// What deliveries are signed with.
    pub secret: Secret,
    /// Whether they are registered at the forge by ourselves.
    pub register: bool,
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
    #[error("{}:{line}:{column}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// Counts from 1, in characters.
        column: usize,
        /// What is wrong and what to write instead.
        message: String,
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
        let wrong = |problem: Wrong| problem.placed(text, path);
        let file: File = toml::from_str(text)
            .map_err(|e| wrong(Wrong { at: e.span().unwrap_or(0..0), message: e.message().to_owned() }))?;
        let base_url = file.base_url.as_ref().map(web_address).transpose().map_err(wrong)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut forges: Vec<ForgeSettings> = Vec::new();
        for table in file.forge {
            let place = table.name.span();
            let forge = table.read(folder, base_url.is_some()).map_err(wrong)?;
            if forges.iter().any(|other| other.name == forge.name) {
                let message = "there is a forge of this name already; name each differently".to_owned();
                return Err(wrong(Wrong { at: place, message }));
            }
            forges.push(forge);
        }
        Ok(Self { base_url, forges })
    }
}

impl ForgeSettings {
    /// A client for it. The error says what is wrong with the settings.
    pub fn client(&self) -> Result<Arc<dyn Forge>, String> {
        let limits = Limits {
            register_webhooks: self.webhook.as_ref().is_some_and(|webhook| webhook.register),
            certificates: self.certificates.clone(),
            ..Limits::default()
        };
        let token = self.token.clone();
        Ok(match self.kind {
            ForgeKind::Forgejo => Arc::new(Forgejo::new(&self.address, token, limits)?),
            ForgeKind::GitHub => Arc::new(GitHub::new(&self.api(), token, limits)?),
        })
    }

    /// Where a repository is cloned from.
    pub fn clone_url(&self, repo: &RepoName) -> String {
        format!("{}/{repo}.git", self.address)
    }

    /// Its host and port, for people: `git.example.org`.
    pub fn host(&self) -> String {
        let url: Option<Url> = self.address.parse().ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or(&self.name).to_owned();
        match url.and_then(|url| url.port()) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// What makes `git` show our token to this forge and to no other. It goes into the environment, where other users of the
    /// machine do not see it.
    pub fn git_environment(&self) -> Vec<(String, String)> {
        // Both take the token for the password, whoever the user is; GitHub's documentation names this one.
        let login =
            base64::prelude::BASE64_STANDARD.encode(format!("x-access-token:{}", self.token.reveal()));
        let mut settings =
            vec![(format!("http.{}/.extraHeader", self.address), format!("Authorization: Basic {login}"))];
        // Where it leads to is not followed: the token would go along.
        settings.push(("http.followRedirects".to_owned(), "false".to_owned()));
        let mut environment = vec![("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string())];
        for (place, (key, value)) in settings.into_iter().enumerate() {
            environment.push((format!("GIT_CONFIG_KEY_{place}"), key));
            environment.push((format!("GIT_CONFIG_VALUE_{place}"), value));
        }
        environment
    }

    /// The certificates that are trusted for it beside the system's, in PEM.
    pub fn certificates(&self) -> Option<&[u8]> {
        self.certificates.as_deref()
    }

    /// `text` without the token.
    pub fn scrub(&self, text: &str) -> String {
        self.token.scrub(text)
    }

    fn api(&self) -> String {
        if self.address == GITHUB {
            "https://api.github.com".to_owned()
        } else {
            format!("{}/api/v3", self.address)
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    base_url: Option<Spanned<String>>,
    #[serde(default)]
    forge: Vec<ForgeTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForgeTable {
    name: Spanned<String>,
    kind: ForgeKind,
    address: Option<Spanned<String>>,
    token_file: Spanned<PathBuf>,
    repositories: Spanned<Vec<Spanned<String>>>,
    authors: Spanned<AuthorsTable>,
    trusted: Option<Spanned<String>>,
    #[serde(default)]
    forks: Forks,
    webhook: Option<WebhookTable>,
    poll_s: Option<Spanned<u32>>,
    calls_per_hour: Option<Spanned<u32>>,
    ca_file: Option<Spanned<PathBuf>>,
    runner: Option<String>,
    #[serde(default)]
    allow: BTreeMap<String, toml::Value>,
    #[serde(default)]
    image: Vec<images::ImageTable>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AuthorsTable {
    people: Vec<Spanned<String>>,
    organisations: Vec<Spanned<String>>,
    teams: Vec<Spanned<String>>,
    members: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookTable {
    secret_file: Spanned<PathBuf>,
    #[serde(default)]
    register: Option<Spanned<bool>>,
}

impl ForgeTable {
    fn read(self, folder: &Path, has_base_url: bool) -> Result<ForgeSettings, Wrong> {
        let name = self.name.get_ref().clone();
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) {
            return Err(error(&self.name, "a forge's name has letters, digits and `-`, at most 40"));
        }
        let address = match (&self.address, self.kind) {
            (Some(address), _) => web_address(address)?,
            (None, ForgeKind::GitHub) => GITHUB.to_owned(),
            (None, ForgeKind::Forgejo) => {
                return Err(error(&self.name, "it needs its `address`, such as https://git.example.org"));
            }
        };
        let mut repositories = BTreeSet::new();
        for repo in self.repositories.get_ref() {
            let name: RepoName = at(repo, repo.get_ref().parse())?;
            if !repositories.insert(name) {
                return Err(error(repo, "it is there twice"));
            }
        }
        if repositories.is_empty() {
            return Err(error(
                &self.repositories,
                "name at least one repository: nothing is listened to otherwise",
            ));
        }
        let authors = self.authors.get_ref().rules()?;
        if authors.is_empty() {
            let message =
                "nobody may ask; name `people`, `organisations` or `teams`, or write `members = true`";
            return Err(error(&self.authors, message));
        }
        if let Some(trusted) = &self.trusted
            && !is_branch(trusted.get_ref())
        {
            return Err(error(trusted, "this is no branch's name"));
        }
        let webhook = match &self.webhook {
            None => None,
            Some(table) => {
                let register = table.register.as_ref().filter(|register| *register.get_ref());
                if let Some(register) = register.filter(|_| !has_base_url) {
                    let message = "a webhook needs an address to go to; write `base_url` at the file's top";
                    return Err(error(register, message));
                }
                Some(WebhookSettings {
                    secret: secret(&table.secret_file, folder)?,
                    register: register.is_some(),
                })
            }
        };
        let mut budget = Budget::usual(self.kind);
        if let Some(seconds) = &self.poll_s {
            if !(1..=3600).contains(seconds.get_ref()) {
                return Err(error(seconds, "between 1 and 3600 seconds"));
            }
            budget.shortest = Micros::seconds(i64::from(*seconds.get_ref()));
        }
        if let Some(calls) = &self.calls_per_hour {
            if *calls.get_ref() == 0 {
                return Err(error(calls, "at least one question per hour"));
            }
            budget.asked_per_hour = *calls.get_ref();
        }
        let images = images::read(self.image, |repo| repositories.contains(repo))?;
        let certificates = self.ca_file.as_ref().map(|file| bytes(file, folder)).transpose()?;
        let allow = self.allow.into_iter().map(|(recipe, what)| Ok((recipe, serde_json::to_value(what)?)));
        let allow: Result<_, serde_json::Error> = allow.collect();
        let settings = ForgeSettings {
            name,
            kind: self.kind,
            address,
            repositories,
            authors,
            trusted: self.trusted.map(Spanned::into_inner),
            forks: self.forks,
            webhook,
            budget,
            runner: self.runner,
            allow: allow.map_err(|e| error(&self.name, &format!("`allow` does not read: {e}")))?,
            images,
            token: secret(&self.token_file, folder)?,
            certificates,
        };
        // What is wrong with token or certificates is known before anything starts.
        match settings.client() {
            Ok(_) => Ok(settings),
            Err(message) => Err(error(&self.name, &message)),
        }
    }
}

impl AuthorsTable {
    fn rules(&self) -> Result<Rules, Wrong> {
        let people: Result<Vec<Login>, Wrong> =
            self.people.iter().map(|who| at(who, who.get_ref().parse())).collect();
        let organisations: Result<Vec<Name>, Wrong> =
            self.organisations.iter().map(|org| at(org, org.get_ref().parse())).collect();
        let team = |team: &Spanned<String>| {
            let (org, name) =
                team.get_ref().split_once('/').ok_or_else(|| error(team, "write ORGANISATION/TEAM"))?;
            Ok((at(team, org.parse())?, at(team, name.parse())?))
        };
        let teams: Result<Vec<(Name, Name)>, Wrong> = self.teams.iter().map(team).collect();
        Ok(Rules {
            people: people?,
            organisations: organisations?,
            teams: teams?,
            owners_members: self.members,
        })
    }
}

/// A web address without a slash at its end.
fn web_address(place: &Spanned<String>) -> Result<String, Wrong> {
    let url: Result<Url, _> = place.get_ref().parse();
    let plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    match url {
        Ok(url) if plain(&url) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        _ => Err(error(place, "this is no plain web address; write http://… or https://…, without a login")),
    }
}

/// What `git check-ref-format` would take, and less.
fn is_branch(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    !text.is_empty()
        && text.len() <= 200
        && text.bytes().all(fits)
        && !text.starts_with(['-', '/', '.'])
        && !text.ends_with(['/', '.'])
        && !text.contains("..")
        && !text.contains("//")
}

fn secret(file: &Spanned<PathBuf>, folder: &Path) -> Result<Secret, Wrong> {
    let text = String::from_utf8(bytes(file, folder)?).map_err(|_| error(file, "the file holds no text"))?;
    let secret = Secret::new(&text);
    if secret.reveal().is_empty() || secret.reveal().chars().any(char::is_control) {
        return Err(error(file, "a secret is one line of text, and not empty"));
    }
    Ok(secret)
}

fn bytes(file: &Spanned<PathBuf>, folder: &Path) -> Result<Vec<u8>, Wrong> {
    let path = folder.join(file.get_ref());
    std::fs::read(&path).map_err(|e| error(file, &format!("{}: {e}", path.display())))
}

/// A mistake and where it is, in bytes.
struct Wrong {
    at: Range<usize>,
    message: String,
}

fn error<T>(place: &Spanned<T>, message: &str) -> Wrong {
    Wrong { at: place.span(), message: message.to_owned() }
}

fn at<T, P, E: std::fmt::Display>(place: &Spanned<P>, result: Result<T, E>) -> Result<T, Wrong> {
    result.map_err(|problem| Wrong { at: place.span(), message: problem.to_string() })
}

impl Wrong {
    fn placed(self, text: &str, path: &Path) -> SettingsError {
        let start = text.floor_char_boundary(self.at.start.min(text.len()));
        let begin = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let (line, column) =
            (text[..start].matches('\n').count() + 1, text[begin..start].chars().count() + 1);
        SettingsError::Wrong { path: path.to_owned(), line, column, message: self.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
base_url = "https://assay.example.org/"

[[forge]]
name = "coop"
kind = "forgejo"
address = "https://git.example.org/"
token_file = "token"
repositories = ["apps/wiki", "apps/shop"]
trusted = "main"
runner = "attic"
poll_s = 10
authors = { people = ["alice"], organisations = ["coop"], teams = ["coop/testers"], members = true }
webhook = { secret_file = "hook", register = true }
[forge.allow.wiki]
capabilities = ["NET_ADMIN"]

[[forge]]
name = "github"
kind = "github"
token_file = "token"
repositories = ["coop/wiki"]
forks = "trust"
authors = { members = true }
"#;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("token"), "0123456789abcdef\n").expect("written");
        std::fs::write(folder.path().join("hook"), "fedcba9876543210fedcba\n").expect("written");
        folder
    }

    fn parse(text: &str, folder: &Path) -> Result<Settings, String> {
        let path = folder.join("forges.toml");
        Settings::parse(text, &path).map_err(|e| e.to_string().replace(&format!("{}/", folder.display()), ""))
    }

    #[test]
    fn a_file_says_which_forges_and_who_may_ask() {
        let folder = folder();
        let settings = parse(WHOLE, folder.path()).expect("valid");
        assert_eq!(settings.base_url.as_deref(), Some("https://assay.example.org"));
        let [coop, github] = &settings.forges[..] else { panic!("two forges") };
        let wiki: RepoName = "apps/wiki".parse().expect("a name");
        assert_eq!(coop.clone_url(&wiki), "https://git.example.org/apps/wiki.git");
        assert_eq!((coop.host().as_str(), coop.budget.shortest), ("git.example.org", Micros::seconds(10)));
        assert_eq!(
            coop.authors.who_may(&wiki),
            "members of apps, members of coop, members of coop/testers, one person on a list"
        );
        assert_eq!(coop.allow["wiki"]["capabilities"][0], "NET_ADMIN");
        assert!(coop.webhook.as_ref().expect("hooks").register);
        assert_eq!((github.address.as_str(), github.forks), (GITHUB, Forks::Trust));
        assert_eq!(github.api(), "https://api.github.com");
        assert!(!format!("{settings:?}").contains("0123456789abcdef"), "no secret is shown");
    }

    #[test]
    fn git_is_shown_the_token_for_this_forge_alone() {
        let folder = folder();
        let settings = parse(WHOLE, folder.path()).expect("valid");
        let environment = settings.forges[0].git_environment();
        let shown: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        GIT_CONFIG_COUNT=2
        GIT_CONFIG_KEY_0=http.https://git.example.org/.extraHeader
        GIT_CONFIG_VALUE_0=Authorization: Basic eC1hY2Nlc3MtdG9rZW46MDEyMzQ1Njc4OWFiY2RlZg==
        GIT_CONFIG_KEY_1=http.followRedirects
        GIT_CONFIG_VALUE_1=false
        ");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let folder = folder();
        let wrong = |from: &str, to: &str| {
            let text = WHOLE.replacen(from, to, 1);
            assert_ne!(text, WHOLE, "{from}");
            parse(&text, folder.path()).expect_err(to)
        };
        let lines = [
            wrong("kind = \"forgejo\"", "kind = \"gitlab\""),
            wrong("\"apps/wiki\"", "\"wiki\""),
            wrong("\"apps/shop\"", "\"apps/wiki\""),
            wrong("[\"apps/wiki\", \"apps/shop\"]", "[]"),
            wrong("https://git.example.org/", "https://me:secret@git.example.org/"),
            wrong("token_file = \"token\"", "token_file = \"other\""),
            wrong("{ members = true }", "{}"),
            wrong("poll_s = 10", "poll_s = 0"),
            wrong("trusted = \"main\"", "trusted = \"--all\""),
            wrong("name = \"github\"", "name = \"coop\""),
            wrong("base_url = \"https://assay.example.org/\"", ""),
            wrong("runner = \"attic\"", "runer = \"attic\""),
        ];
        let shown: Vec<String> =
            lines.iter().map(|line| line.lines().next().unwrap_or_default().to_owned()).collect();
        insta::assert_snapshot!(shown.join("\n"), @"
        forges.toml:6:8: unknown variant `gitlab`, expected `forgejo` or `github`
        forges.toml:9:17: `wiki` is no name of a repository; write OWNER/REPOSITORY, as in its address
        forges.toml:9:30: it is there twice
        forges.toml:9:16: name at least one repository: nothing is listened to otherwise
        forges.toml:7:11: this is no plain web address; write http://… or https://…, without a login
        forges.toml:8:14: other: No such file or directory (os error 2)
        forges.toml:24:11: nobody may ask; name `people`, `organisations` or `teams`, or write `members = true`
        forges.toml:12:10: between 1 and 3600 seconds
        forges.toml:10:11: this is no branch's name
        forges.toml:19:8: there is a forge of this name already; name each differently
        forges.toml:14:46: a webhook needs an address to go to; write `base_url` at the file's top
        forges.toml:11:1: unknown field `runer`, expected one of `name`, `kind`, `address`, `token_file`, `repositories`, `authors`, `trusted`, `forks`, `webhook`, `poll_s`, `calls_per_hour`, `ca_file`, `runner`, `allow`, `image`
        ");
    }
}
