//! What a stand-in is: whose repository, who is let in, where it listens, how far it lets itself be used.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use assay_model::{Clock, Micros};
use serde::{Deserialize, Serialize};

use crate::{Certificate, Effect, Fault, StandInError};

/// Shorter tokens would be found in half of all text when they are taken out of what is recorded.
const SHORTEST_TOKEN: usize = 8;
/// What a socket address has room for on Linux (`sun_path`, with its terminating zero).
const LONGEST_SOCKET_PATH: usize = 107;

/// Everything that [`StandIn::start`](crate::StandIn::start) needs. [`Config::new`] fills in what nobody has to choose.
#[derive(Clone)]
pub struct Config {
    /// Where times come from.
    pub clock: Arc<dyn Clock>,
    /// The owner of the repository: the first part of its path.
    pub owner: String,
    /// The repository's name, without `.git`.
    pub repository: String,
    /// The branch that registrations are merged into.
    pub default_branch: String,
    /// The operator's account: what `GET /user` says.
    pub login: String,
    /// The operator's name, also the author of the commits that the stand-in makes itself.
    pub name: String,
    /// The operator's e-mail address.
    pub email: String,
    /// Who is let in.
    pub tokens: Vec<Token>,
    /// Whether Git may read without a token, as from a public repository.
    pub public: bool,
    /// The first commit of the default branch: path → content.
    pub seed: BTreeMap<String, Vec<u8>>,
    /// The folder that another stand-in was [kept](crate::StandIn::keep) in: this one goes on from there, with its
    /// repository, its ledger and its certificate authority. `seed` is not looked at then.
    pub kept: Option<PathBuf>,
    /// Where it listens; at least one place.
    pub listen: Vec<Listen>,
    /// The host name that the forge believes to have: in the addresses of pages (`html_url`), always `https`.
    pub host: String,
    /// The names and addresses in the right certificate.
    pub tls_names: Vec<String>,
    /// Which pushes are taken.
    pub pushes: PushPolicy,
    /// How the device flow goes.
    pub device: DeviceFlow,
    /// What goes wrong from the start on.
    pub faults: Vec<Fault>,
    /// How far it lets itself be used.
    pub limits: Limits,
    /// The folder in which the private folder is made; the system's temporary folder unless set. Hooks have to be
    /// executable there.
    pub folder: Option<PathBuf>,
}

/// A secret that is accepted: as the password (or the user name) of Basic, after `Bearer` or after `token`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What the ledger calls it.
    pub label: String,
    /// The secret; at least 8 characters of printable ASCII. It is never recorded or shown.
    pub secret: String,
}

/// One place to listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listen {
    /// Plain HTTP on TCP; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// TLS on TCP; port 0 lets the kernel choose.
    TcpTls(SocketAddr),
    /// Plain HTTP on a Unix socket at this path, which must not exist yet.
    Unix(PathBuf),
    /// TLS on a Unix socket: for a relay of a machine's port 443.
    UnixTls(PathBuf),
}

/// Which pushes are taken. Whatever this says, a push that is not a fast-forward is refused, as are names outside of
/// `refs/heads/` and `refs/tags/` and the deletion of the default branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushPolicy {
    /// Whether the default branch may be pushed to; not, unless set.
    pub default_branch: bool,
    /// Whether branches that exist may be moved forward, as on a forge; they may, unless unset.
    pub existing: bool,
}

/// How the device flow (RFC 8628) goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceFlow {
    /// How many polls are answered `authorization_pending` or `slow_down` before the request counts as approved;
    /// without a number only [`StandIn::approve`](crate::StandIn::approve) approves.
    pub approve_after_polls: Option<u32>,
    /// The seconds to wait between polls; a poll that comes earlier is answered `slow_down`, which adds 5.
    pub interval_s: u32,
    /// The seconds after which a code has expired.
    pub expires_s: u32,
}

/// How far the stand-in lets itself be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections; one more is closed at once, and recorded.
    pub connections: usize,
    /// Bytes of a request's line and headers (at least 8192); noticeably more is answered 431, and so are more than 100
    /// headers.
    pub header_bytes: usize,
    /// Bytes of a request's body outside of pushes; more is answered 413.
    pub body_bytes: u64,
    /// Bytes of one push, kept in a temporary file; more is answered 413.
    pub push_bytes: u64,
    /// Bytes of all pushes together; the push that goes over is answered 507.
    pub all_push_bytes: u64,
    /// Seconds until a handshake or the headers of a request (the next one, too) have to be there.
    pub header_s: u32,
    /// Seconds to receive the body, and again to do the work. Slowness that was asked for does not count.
    pub request_s: u32,
    /// `git` processes serving requests at the same time; more requests wait.
    pub git_processes: usize,
    /// Bytes that the ledger may grow to, as JSON; what comes later is only counted ([`Ledger::left_out`](crate::Ledger)).
    pub ledger_bytes: usize,
    /// New commits described per pushed ref; the newest are kept.
    pub commits_per_push: usize,
    /// Changed files described per commit.
    pub files_per_commit: usize,
    /// The largest file that [`StandIn::read`](crate::StandIn::read) returns.
    pub file_bytes: usize,
}

impl Config {
    /// A private repository `fleet/cluster`, the branch `main`, one operator, nobody let in, plain HTTP on a free port of
    /// 127.0.0.1.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            owner: "fleet".into(),
            repository: "cluster".into(),
            default_branch: "main".into(),
            login: "operator".into(),
            name: "Operator".into(),
            email: "operator@forge.invalid".into(),
            tokens: Vec::new(),
            public: false,
            seed: BTreeMap::from([("README.md".into(), b"# Cluster\n".to_vec())]),
            kept: None,
            listen: vec![Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))],
            host: "forge.invalid".into(),
            tls_names: vec!["forge.invalid".into(), "localhost".into(), "127.0.0.1".into()],
            pushes: PushPolicy::default(),
            device: DeviceFlow::default(),
            faults: Vec::new(),
            limits: Limits::default(),
            folder: None,
        }
    }

    /// Lets somebody in.
    #[must_use]
    pub fn token(mut self, label: impl Into<String>, secret: impl Into<String>) -> Self {
        self.tokens.push(Token { label: label.into(), secret: secret.into() });
        self
    }

    /// Adds a file to the first commit.
    #[must_use]
    pub fn seed_file(mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.seed.insert(path.into(), content.into());
        self
    }

    /// Makes something go wrong from the start on.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Shows every client the wrong certificate.
    #[must_use]
    pub fn certificate(self, certificate: Certificate) -> Self {
        self.fault(Fault::always(crate::RouteClass::Any, Effect::WrongCertificate { certificate }))
    }

    pub(crate) fn check(&self) -> Result<(), StandInError> {
        let wrong =
            |field, value: &str, problem| StandInError::BadConfig { field, value: value.to_owned(), problem };
        for (field, value) in
            [("owner", &self.owner), ("repository", &self.repository), ("login", &self.login)]
        {
            if !is_name(value) || value.strip_suffix(".git").is_some() {
                return Err(wrong(
                    field,
                    value,
                    "use letters, digits, `-`, `_` and `.`, not at the beginning, and no `.git`",
                ));
            }
        }
        for (field, value) in [("name", &self.name), ("email", &self.email), ("host", &self.host)] {
            if value.is_empty() || value.chars().any(|c| c.is_control() || "<>".contains(c)) {
                return Err(wrong(
                    field,
                    value,
                    "must not be empty or hold control characters, `<` or `>`: it goes into commits",
                ));
            }
        }
        for (index, token) in self.tokens.iter().enumerate() {
            if !is_name(&token.label) || self.tokens[..index].iter().any(|other| other.label == token.label) {
                return Err(wrong(
                    "tokens",
                    &token.label,
                    "labels are names of their own: letters, digits, `-`, `_`, `.`",
                ));
            }
            if token.secret.len() < SHORTEST_TOKEN
                || !token.secret.bytes().all(|byte| byte.is_ascii_graphic())
            {
                return Err(wrong(
                    "tokens",
                    &token.label,
                    "this token's secret needs at least 8 characters of printable ASCII without spaces",
                ));
            }
        }
        if self.listen.is_empty() {
            return Err(wrong("listen", "", "name at least one place"));
        }
        for listen in &self.listen {
            if let Listen::Unix(path) | Listen::UnixTls(path) = listen
                && path.as_os_str().len() > LONGEST_SOCKET_PATH
            {
                return Err(wrong(
                    "listen",
                    &path.display().to_string(),
                    "a socket's path has at most 107 bytes",
                ));
            }
        }
        if let Some(path) = self.seed.keys().find(|path| !is_tree_path(path)) {
            return Err(wrong(
                "seed",
                path,
                "paths are relative, without `..`, `.git` or control characters",
            ));
        }
        if self.limits.header_bytes < 8192 {
            return Err(wrong(
                "limits.header_bytes",
                &self.limits.header_bytes.to_string(),
                "the least is 8192",
            ));
        }
        self.faults.iter().try_for_each(Fault::check)
    }

    pub(crate) fn now(&self) -> Micros {
        self.clock.now()
    }

    pub(crate) fn wants_tls(&self) -> bool {
        self.listen.iter().any(|listen| matches!(listen, Listen::TcpTls(_) | Listen::UnixTls(_)))
    }
}

impl Limits {
    pub(crate) fn header_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.header_s))
    }

    pub(crate) fn request_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.request_s))
    }
}

impl Default for PushPolicy {
    fn default() -> Self {
        Self { default_branch: false, existing: true }
    }
}

impl Default for DeviceFlow {
    fn default() -> Self {
        Self { approve_after_polls: None, interval_s: 5, expires_s: 900 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            header_bytes: 32 * 1024,
            body_bytes: 256 * 1024,
            push_bytes: 64 * 1024 * 1024,
            all_push_bytes: 512 * 1024 * 1024,
            header_s: 15,
            request_s: 60,
            git_processes: 4,
            ledger_bytes: 64 * 1024 * 1024,
            commits_per_push: 100,
            files_per_commit: 1000,
            file_bytes: 16 * 1024 * 1024,
        }
    }
}

/// Without the secrets, and without the contents of the seed.
impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("repository", &format_args!("{}/{}", self.owner, self.repository))
            .field("default_branch", &self.default_branch)
            .field("login", &self.login)
            .field("tokens", &self.tokens)
            .field("listen", &self.listen)
            .field("faults", &self.faults)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Token").field("label", &self.label).finish_non_exhaustive()
    }
}

/// Letters, digits, `-`, `_` and `.`, beginning with a letter or digit; at most 100.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 100
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// A path that may stand in a Git tree.
pub(crate) fn is_tree_path(path: &str) -> bool {
    path.len() <= 4096
        && !path.chars().any(char::is_control)
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && !part.eq_ignore_ascii_case(".git"))
}

#[cfg(test)]
mod tests {
    use super::{is_name, is_tree_path};

    #[test]
    fn names_and_paths_that_would_lead_elsewhere_are_no_names_and_paths() {
        for good in ["fleet", "a.b-c_1", "7"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", "ä", &"x".repeat(101)] {
            assert!(!is_name(bad), "{bad}");
        }
        for good in
            ["README.md", "maintainers/ada/cluster-nodes/node-1/node.yaml", "with space", ".gitignore"]
        {
            assert!(is_tree_path(good), "{good}");
        }
        for bad in ["", "/etc", "a//b", "a/", "../x", "a/./b", ".git/config", "a/.GIT/x", "a\nb"] {
            assert!(!is_tree_path(bad), "{bad}");
        }
    }
}
