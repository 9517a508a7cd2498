//! `bmc-secrets.toml`: the passwords of BMCs, on the runner's side and nowhere else.
//!
//! ```toml
//! [rack1]
//! user = "assay"
//! password = "…"                      # or password_file = "/etc/assay/rack1.password"
//! addresses = ["10.20.0.0/24", "bmc-web-3.example.org"]
//! ```
//!
//! The control plane knows the names of entries only. It does say which address a password is to be tried at, so an
//! entry names the addresses that it is for: whoever may register a host must not be able to have a password sent to
//! a machine of theirs. The file is read for each job: a corrected password counts at once.

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::PowerError;

/// A password. It does not print.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// Who a driver is to a BMC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// The file.
#[derive(Debug)]
pub struct Secrets {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    user: String,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    addresses: Vec<String>,
}

impl Secret {
    /// A password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

impl Secrets {
    /// Reads the file, which must be closed to others.
    ///
    /// # Errors
    /// [`PowerError::Secrets`].
    pub fn read(path: &Path) -> Result<Self, PowerError> {
        let bad = |problem: String| PowerError::Secrets { path: path.to_owned(), problem };
        let text = private_text(path).map_err(bad)?;
        // The parser quotes the line it stumbles over, and that may hold a password.
        let entries = toml::from_str(&text).map_err(|error| bad(without_quotes(&text, &error)))?;
        Ok(Self { path: path.to_owned(), entries })
    }

    /// The credential `name`, if it is for `address`.
    ///
    /// # Errors
    /// [`PowerError::Secrets`].
    pub fn credential(&self, name: &str, address: &str) -> Result<Credential, PowerError> {
        let bad = |problem: String| PowerError::Secrets { path: self.path.clone(), problem };
        let Some(entry) = self.entries.get(name) else {
            let known: Vec<_> = self.entries.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(bad(format!("there is no entry [{name}] (there are: {known}); add it")));
        };
        if !entry.addresses.iter().any(|pattern| covers(pattern, address)) {
            return Err(bad(format!(
                "[{name}] is not for {address}; add that to its `addresses` if the password may be sent there"
            )));
        }
        let password = match (&entry.password, &entry.password_file) {
            (Some(password), None) => password.clone(),
            (None, Some(file)) => {
                let text = private_text(file)
                    .map_err(|problem| PowerError::Secrets { path: file.clone(), problem })?;
                Secret(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            _ => return Err(bad(format!("[{name}] needs either `password` or `password_file`"))),
        };
        Ok(Credential { user: entry.user.clone(), password })
    }
}

/// Whether a pattern (an address, a network such as `10.20.0.0/24`, or a host name) covers an address or name.
fn covers(pattern: &str, address: &str) -> bool {
    if pattern.eq_ignore_ascii_case(address) {
        return true;
    }
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let (network, length) = match pattern.split_once('/') {
        Some((network, length)) => (network, length.parse::<u32>().ok()),
        None => (pattern, Some(128)),
    };
    match (network.parse::<IpAddr>(), address, length) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address), Some(length)) if pattern.contains('/') => {
            length <= 32 && same_prefix(network.to_bits().into(), address.to_bits().into(), 32, length)
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address), Some(length)) => {
            length <= 128 && same_prefix(network.to_bits(), address.to_bits(), 128, length)
        }
        _ => false,
    }
}

fn same_prefix(a: u128, b: u128, bits: u32, length: u32) -> bool {
    // A shift by all bits is no shift.
    length == 0 || (a ^ b) >> (bits - length) == 0
}

/// The text of a file that only its owner may read.
fn private_text(path: &Path) -> Result<String, String> {
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file on the runner; make it, closed to others \
             (mode 600), with an entry for this BMC"
            .to_owned(),
        _ => error.to_string(),
    };
    let facts = fs::metadata(path).map_err(missing)?;
    if facts.mode() & 0o077 != 0 {
        return Err(format!("others may read it; run `chmod 600 {}`", path.display()));
    }
    if facts.len() > 1024 * 1024 {
        return Err("is larger than 1 MiB; that is no file of passwords".to_owned());
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}

fn without_quotes(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    // So may the message, unless it is about a name.
    let about_names = ["unknown field", "missing field", "duplicate key"];
    let why = Some(error.message()).filter(|text| about_names.iter().any(|start| text.starts_with(start)));
    format!(
        "line {line} does not read{}; an entry is [name] with user, password (or password_file) and addresses",
        why.map_or_else(String::new, |why| format!(" ({why})"))
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

    use super::{Secret, Secrets, covers};

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bmc-secrets.toml");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        (folder, path)
    }

    const RACK: &str =
        "[rack1]\nuser = \"assay\"\npassword = \"hush\"\naddresses = [\"10.20.0.0/24\", \"bmc-3\"]\n";

    #[test]
    fn a_password_goes_where_its_entry_says_and_nowhere_else() {
        let (_folder, path) = file(RACK, 0o600);
        let secrets = Secrets::read(&path).expect("it reads");
        for address in ["10.20.0.31", "bmc-3", "BMC-3"] {
            let found = secrets.credential("rack1", address).expect("it is for it");
            assert_eq!((found.user.as_str(), &found.password), ("assay", &Secret::new("hush")));
        }
        for address in ["10.20.1.31", "evil.example.org", "fd00::1", ""] {
            let refused = secrets.credential("rack1", address).expect_err("it is not for it").to_string();
            assert!(refused.contains("is not for") && !refused.contains("hush"), "{refused}");
        }
        let unknown = secrets.credential("rack2", "bmc-3").expect_err("no entry").to_string();
        assert!(unknown.contains("no entry [rack2] (there are: rack1)"), "{unknown}");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        for mode in [0o640, 0o604, 0o644, 0o660] {
            let (_folder, path) = file(RACK, mode);
            let refused = Secrets::read(&path).expect_err("too open").to_string();
            assert!(refused.contains("chmod 600"), "{refused}");
        }
    }

    #[test]
    fn a_mistake_is_told_without_the_password() {
        for (text, line) in [
            (RACK.replace("user", "name"), "line 2"),
            (RACK.replace("\"hush\"", "hush"), "line 3"),
            (RACK.replace("password", "pasword"), "line 3"),
        ] {
            let (_folder, path) = file(&text, 0o600);
            let refused = Secrets::read(&path).expect_err("a mistake").to_string();
            assert!(refused.contains(line) && !refused.contains("hush"), "{refused}");
        }
        let (_folder, path) = file(RACK, 0o600);
        let shown = format!("{:?}", Secrets::read(&path).expect("it reads"));
        assert!(!shown.contains("hush"), "{shown}");
        let missing = Secrets::read(&path.with_extension("no")).expect_err("no file").to_string();
        assert!(missing.contains("mode 600"), "{missing}");
    }

    #[test]
    fn a_password_may_lie_in_a_file_of_its_own() {
        let (folder, path) = file("", 0o600);
        let own = folder.path().join("own");
        fs::write(&own, "with space \n").expect("written");
        let text = format!(
            "[a]\nuser = \"u\"\npassword_file = \"{}\"\naddresses = [\"::/0\"]\n[b]\nuser = \"u\"\naddresses = [\"::/0\"]\n",
            own.display()
        );
        fs::write(&path, text).expect("written");
        let secrets = Secrets::read(&path).expect("it reads");
        fs::set_permissions(&own, fs::Permissions::from_mode(0o644)).expect("a mode");
        assert!(secrets.credential("a", "fd00::1").is_err(), "others may read it");
        fs::set_permissions(&own, fs::Permissions::from_mode(0o400)).expect("a mode");
        let found = secrets.credential("a", "fd00::1").expect("closed");
        assert_eq!(found.password, Secret::new("with space "));
        assert!(secrets.credential("b", "fd00::1").is_err(), "an entry without a password");
    }

    #[test]
    fn networks_cover_what_is_in_them() {
        for (pattern, address, is) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("10.0.0.0/x", "10.0.0.0", false),
            ("fd00::/64", "fd00::1:2", true),
            ("fd00::/64", "fd01::1", false),
            ("fd00::0001", "fd00::1", true),
            ("example.org", "bmc.example.org", false),
        ] {
            assert_eq!(covers(pattern, address), is, "{pattern} {address}");
        }
    }
}
