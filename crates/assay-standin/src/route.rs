//! From method and path to what is asked for. Pure, and the only place that reads a path.

use url::form_urlencoded;

use crate::RouteClass;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Git: which refs there are.
    GitRefs(Service),
    /// Git: the work itself.
    GitCall(Service),
    /// Git's old protocol, or a service that is not offered.
    GitOther,
    Root,
    User,
    Emails,
    Repository,
    Pulls,
    OpenPull,
    OnePull(u64),
    DeleteBranch(String),
    Version,
    DeviceCode,
    AccessToken,
    Nodes,
    Register,
    Replace(String),
    Deregister(String),
    Joined(String),
    Unknown,
}

/// A Git service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    UploadPack,
    ReceivePack,
}

/// Whose words an answer is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Git,
    Github,
    Gitea,
    Plain,
}

/// A request's place in the stand-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) ask: Ask,
    pub(crate) class: RouteClass,
    pub(crate) dialect: Dialect,
}

impl Service {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    const fn class(self) -> RouteClass {
        match self {
            Self::UploadPack => RouteClass::GitRead,
            Self::ReceivePack => RouteClass::GitPush,
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::UploadPack, Self::ReceivePack].into_iter().find(|service| service.name() == name)
    }
}

impl Route {
    /// Where `method` and `path` lead in the repository `owner`/`repository`.
    pub(crate) fn of(method: &str, path: &str, query: Option<&str>, owner: &str, repository: &str) -> Self {
        let decoded: Option<Vec<String>> =
            path.strip_prefix('/').unwrap_or(path).split('/').map(percent_decoded).collect();
        let Some(decoded) = decoded else {
            return Self::unknown(Dialect::Github);
        };
        let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let ours = |o: &str, r: &str| o == owner && r == repository;
        match parts.as_slice() {
            ["v1", rest @ ..] => Self::plain(method, rest),
            ["api", "v1", rest @ ..] => Self::gitea(method, rest, ours),
            ["api", "v3", rest @ ..] => Self::github(method, rest, ours),
            [o, r, rest @ ..] if ours(o, r.strip_suffix(".git").unwrap_or(r)) => {
                Self::git(method, rest, query)
            }
            rest => Self::github(method, rest, ours),
        }
    }

    /// Whether it is answered without a credential. Git's own rule (a public repository) is not here.
    pub(crate) fn is_open(&self) -> bool {
        matches!(
            self.ask,
            Ask::DeviceCode | Ask::AccessToken | Ask::Unknown | Ask::GitOther | Ask::Version | Ask::Root
        )
    }

    fn new(ask: Ask, class: RouteClass, dialect: Dialect) -> Self {
        Self { ask, class, dialect }
    }

    fn unknown(dialect: Dialect) -> Self {
        Self::new(Ask::Unknown, RouteClass::Unknown, dialect)
    }

    fn git(method: &str, rest: &[&str], query: Option<&str>) -> Self {
        let (ask, class) = match (method, rest) {
            ("GET", ["info", "refs"]) => {
                let asked = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
                    .find(|(key, _)| key == "service")
                    .and_then(|(_, value)| Service::named(&value));
                match asked {
                    Some(service) => (Ask::GitRefs(service), service.class()),
                    None => (Ask::GitOther, RouteClass::GitRead),
                }
            }
            ("POST", [name]) => match Service::named(name) {
                Some(service) => (Ask::GitCall(service), service.class()),
                None => return Self::unknown(Dialect::Git),
            },
            ("GET" | "HEAD", ["HEAD" | "objects" | "info", ..]) => (Ask::GitOther, RouteClass::GitRead),
            _ => return Self::unknown(Dialect::Git),
        };
        Self::new(ask, class, Dialect::Git)
    }

    fn github(method: &str, rest: &[&str], ours: impl Fn(&str, &str) -> bool) -> Self {
        let (ask, class) = match (method, rest) {
            ("GET", [] | [""]) => (Ask::Root, RouteClass::User),
            ("POST", ["login", "device", "code"]) => (Ask::DeviceCode, RouteClass::Login),
            ("POST", ["login", "oauth", "access_token"]) => (Ask::AccessToken, RouteClass::Login),
            ("DELETE", ["repos", o, r, "git", "refs", "heads", branch @ ..])
                if ours(o, r) && !branch.is_empty() =>
            {
                (Ask::DeleteBranch(branch.join("/")), RouteClass::Repository)
            }
            _ => return Self::shared(method, rest, ours, Dialect::Github),
        };
        Self::new(ask, class, Dialect::Github)
    }

    fn gitea(method: &str, rest: &[&str], ours: impl Fn(&str, &str) -> bool) -> Self {
        let (ask, class) = match (method, rest) {
            ("GET", ["version"]) => (Ask::Version, RouteClass::User),
            ("DELETE", ["repos", o, r, "branches", branch @ ..]) if ours(o, r) && !branch.is_empty() => {
                (Ask::DeleteBranch(branch.join("/")), RouteClass::Repository)
            }
            _ => return Self::shared(method, rest, ours, Dialect::Gitea),
        };
        Self::new(ask, class, Dialect::Gitea)
    }

    /// What both forges name alike.
    fn shared(method: &str, rest: &[&str], ours: impl Fn(&str, &str) -> bool, dialect: Dialect) -> Self {
        let (ask, class) = match (method, rest) {
            ("GET", ["user"]) => (Ask::User, RouteClass::User),
            ("GET", ["user", "emails"]) => (Ask::Emails, RouteClass::User),
            ("GET", ["repos", o, r]) if ours(o, r) => (Ask::Repository, RouteClass::Repository),
            ("GET", ["repos", o, r, "pulls"]) if ours(o, r) => (Ask::Pulls, RouteClass::Pull),
            ("POST", ["repos", o, r, "pulls"]) if ours(o, r) => (Ask::OpenPull, RouteClass::Pull),
            ("GET", ["repos", o, r, "pulls", number]) if ours(o, r) => match number.parse() {
                Ok(number) => (Ask::OnePull(number), RouteClass::Pull),
                Err(_) => return Self::unknown(dialect),
            },
            _ => return Self::unknown(dialect),
        };
        Self::new(ask, class, dialect)
    }

    fn plain(method: &str, rest: &[&str]) -> Self {
        let (ask, class) = match (method, rest) {
            ("GET", ["nodes"]) => (Ask::Nodes, RouteClass::Register),
            ("POST", ["nodes"]) => (Ask::Register, RouteClass::Register),
            ("PUT", ["nodes", name]) => (Ask::Replace((*name).to_owned()), RouteClass::Register),
            ("DELETE", ["nodes", name]) => (Ask::Deregister((*name).to_owned()), RouteClass::Deregister),
            ("POST", ["nodes", name, "joined"]) => (Ask::Joined((*name).to_owned()), RouteClass::Join),
            _ => return Self::unknown(Dialect::Plain),
        };
        Self::new(ask, class, Dialect::Plain)
    }
}

/// One part of a path without its percent signs; `None` where that is no text. A slash that was written `%2F` stays in
/// its part, as in the name of a branch.
fn percent_decoded(part: &str) -> Option<String> {
    let bytes = part.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let digits = part.get(at + 1..at + 3)?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Ask, Dialect, Route, Service};
    use crate::RouteClass;

    fn route(line: &str) -> Route {
        let (method, target) = line.split_once(' ').expect("METHOD PATH");
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        Route::of(method, path, query, "fleet", "cluster")
    }

    #[test]
    fn every_documented_path_leads_where_it_says() {
        let push = Ask::GitRefs(Service::ReceivePack);
        for (line, ask, class, dialect) in [
            (
                "GET /fleet/cluster.git/info/refs?service=git-receive-pack",
                push,
                RouteClass::GitPush,
                Dialect::Git,
            ),
            (
                "POST /fleet/cluster/git-upload-pack",
                Ask::GitCall(Service::UploadPack),
                RouteClass::GitRead,
                Dialect::Git,
            ),
            ("GET /fleet/cluster.git/info/refs", Ask::GitOther, RouteClass::GitRead, Dialect::Git),
            ("GET /", Ask::Root, RouteClass::User, Dialect::Github),
            ("GET /api/v3/", Ask::Root, RouteClass::User, Dialect::Github),
            ("GET /user", Ask::User, RouteClass::User, Dialect::Github),
            ("GET /api/v1/user", Ask::User, RouteClass::User, Dialect::Gitea),
            ("POST /api/v3/repos/fleet/cluster/pulls", Ask::OpenPull, RouteClass::Pull, Dialect::Github),
            ("GET /api/v1/repos/fleet/cluster/pulls/7", Ask::OnePull(7), RouteClass::Pull, Dialect::Gitea),
            (
                "DELETE /repos/fleet/cluster/git/refs/heads/a/b",
                Ask::DeleteBranch("a/b".into()),
                RouteClass::Repository,
                Dialect::Github,
            ),
            (
                "DELETE /api/v1/repos/fleet/cluster/branches/a%2Fb%20c",
                Ask::DeleteBranch("a/b c".into()),
                RouteClass::Repository,
                Dialect::Gitea,
            ),
            ("POST /v1/nodes/node-1/joined", Ask::Joined("node-1".into()), RouteClass::Join, Dialect::Plain),
        ] {
            assert_eq!(route(line), Route { ask, class, dialect }, "{line}");
        }
        for line in [
            "POST /",
            "GET /repos/fleet/other",
            "GET /fleet/other.git/info/refs?service=git-upload-pack",
            "POST /fleet/cluster.git/git-upload-archive",
            "GET /repos/fleet/cluster/pulls/seven",
            "GET /user/%zz",
            "GET /user%",
            "GET /%00",
            "GET /%ff",
            "DELETE /repos/fleet/cluster/git/refs/heads",
            "PATCH /v1/nodes/x",
            "GET /fleet/cluster.git/../../etc/passwd",
        ] {
            assert_eq!(route(line).ask, Ask::Unknown, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(method in "[A-Z]{1,7}", path in "/(\\PC|%|/|\\.){0,60}", query in "\\PC{0,30}") {
            let _ = Route::of(&method, &path, Some(&query), "fleet", "cluster");
        }
    }
}
