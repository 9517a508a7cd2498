//! Who we are to registries: a file in the format of Docker's `config.json`, read once and never written anywhere.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The longest file that is read, in bytes.
const FILE: u64 = 1 << 20;

/// User names and passwords, by the names of registries. Printing them shows the names alone.
#[derive(Clone, Default)]
pub struct Credentials(BTreeMap<String, Login>);

/// A user and a password.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// Why a file with credentials does not serve. No credential is in the words.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("{path} has passwords and others may read it (mode {mode:o}): chmod 600 {path}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is none.
    #[error("{path} is not in the format of Docker's config.json: {why}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
}

impl Credentials {
    /// Reads a file that nobody but its owner can read.
    ///
    /// # Errors
    /// [`CredentialsError`]; for logins that a program would have to be asked for, as well.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let failed = |source| CredentialsError::File { path: path.to_owned(), source };
        let meta = path.metadata().map_err(failed)?;
        let mode = meta.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CredentialsError::Open { path: path.to_owned(), mode });
        }
        let format = |why: String| CredentialsError::Format { path: path.to_owned(), why };
        if meta.len() > FILE {
            return Err(format(format!("it is longer than {FILE} bytes")));
        }
        Self::parse(&std::fs::read(path).map_err(failed)?).map_err(format)
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        // What the parser says shows none of the text beside its place.
        let file: File = serde_json::from_slice(text)
            .map_err(|error| format!("line {}, column {}", error.line(), error.column()))?;
        let helper = file.creds_store.iter().chain(file.cred_helpers.values()).next();
        if let Some(helper) = helper {
            return Err(format!(
                "it leaves logins to the program docker-credential-{helper}, which is not asked; write them under \"auths\""
            ));
        }
        let logins = file.auths.into_iter().map(|(key, entry)| {
            let name = registry_of(&key);
            let login = entry.login().map_err(|why| format!("{name}: {why}"))?;
            Ok((name, login))
        });
        Ok(Self(logins.collect::<Result<_, String>>()?))
    }

    pub(crate) fn of(&self, registry: &str) -> Option<&Login> {
        self.0.get(registry)
    }
}

impl Entry {
    fn login(self) -> Result<Login, &'static str> {
        if self.identitytoken.is_some_and(|token| !token.is_empty()) {
            return Err("an identity token is not understood; use a user name and an access token");
        }
        if let (Some(user), Some(password)) = (self.username, self.password) {
            return Ok(Login { user, password });
        }
        let auth = self.auth.ok_or("there is neither \"auth\" nor \"username\" and \"password\"")?;
        let plain = STANDARD.decode(auth.trim()).ok().and_then(|plain| String::from_utf8(plain).ok());
        let plain = plain.ok_or("\"auth\" is not base64")?;
        let (user, password) = plain.split_once(':').ok_or("\"auth\" has no colon in it")?;
        Ok(Login { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Docker's own registry has an address of old times in that file.
fn registry_of(key: &str) -> String {
    let host = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host).to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::Credentials;

    #[test]
    fn logins_are_found_by_the_registry_s_name_and_never_shown() {
        let text = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6c2VjcmV0OndpdGg6Y29sb25z"},
            "ghcr.io": {"username": "you", "password": "hidden"}
        }}"#;
        let credentials = Credentials::parse(text).unwrap();
        let docker = credentials.of("docker.io").unwrap();
        assert_eq!((docker.user.as_str(), docker.password.as_str()), ("me", "secret:with:colons"));
        assert_eq!(credentials.of("ghcr.io").unwrap().password, "hidden");
        assert_eq!(format!("{credentials:?}"), r#"{"docker.io", "ghcr.io"}"#);
    }

    #[test]
    fn what_cannot_be_used_is_told_without_its_text() {
        for (text, expected) in [
            (r#"{"auths": {"a.io": {"auth": "c2VjcmV0"}}}"#, "a.io: \"auth\" has no colon in it"),
            (r#"{"auths": {"a.io": {"auth": "§"}}}"#, "a.io: \"auth\" is not base64"),
            (r#"{"auths": "secret"}"#, "line 1, column 18"),
            (
                r#"{"credsStore": "pass"}"#,
                "it leaves logins to the program docker-credential-pass, which is not asked; write them under \"auths\"",
            ),
        ] {
            assert_eq!(Credentials::parse(text.as_bytes()).unwrap_err(), expected);
        }
    }
}
