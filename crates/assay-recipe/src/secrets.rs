//! Which secrets a stack needs before it can start, and values for them.
//!
//! A recipe declares a secret as external, with a name of three parts: `${STACK_NAME}_db_password_${SECRET_DB_PASSWORD_VERSION}`.
//! The variable of its version is set in `.env`, where a comment says what its value is like (`# length=64 charset=hex`).

use std::fmt;

use rand::Rng as _;
use serde::Serialize;

use crate::{
    compose::Loaded,
    env::EnvFile,
    interpolate::variables,
    problem::{Problem, shown},
};

/// Longest value that is made, in characters. Docker takes 500 KiB; nobody means more than this.
const LONGEST: usize = 4096;
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &str = "0123456789";
/// What can stand in a URL's password, in a shell's double quotes and in YAML without harm.
const SAFE_SPECIAL: &str = "%^&*_-+=";
const SPECIAL: &str = "!@#$%^&*()_-+={}[]:;<>,.?/~|";
/// A passphrase is so many groups of so many letters: 30 letters, 141 bits.
const GROUPS: usize = 6;
const GROUP: usize = 5;

/// A secret that must be there before the stack is deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretNeed {
    /// Its key in the compose files.
    pub key: String,
    /// Its name at the engine: `<stack>_<key>_<version>`.
    pub docker_name: String,
    /// The variable that has its version.
    pub version_variable: Option<String>,
    /// The version.
    pub version: Option<String>,
    /// What its value is like.
    pub kind: SecretKind,
    /// Whether a value may be made up; `generate=false` says that only an operator has it.
    pub generate: bool,
}

/// What a value is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretKind {
    /// So many characters of a set.
    Password {
        /// How many.
        length: usize,
        /// Of which.
        charset: Charset,
    },
    /// Six groups of five lower-case letters, joined by `-`.
    Passphrase,
}

/// Sets of characters, by the names that `charset=` has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Charset {
    /// Letters and digits.
    #[default]
    Default,
    /// `0` to `9` and `a` to `f`.
    Hex,
    /// Letters, digits and the special characters that need no quoting.
    SafeSpecial,
    /// Letters, digits and all special characters.
    Special,
}

/// A value. It is not shown by `Debug`, so that no log has it by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    /// The value itself, for whoever hands it to the engine.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SecretValue {
    /// A value that somebody gave.
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SecretValue({} characters)", self.0.chars().count())
    }
}

impl SecretNeed {
    /// Makes up a value, from the system's generator; `None` where only an operator has it.
    pub fn make(&self) -> Option<SecretValue> {
        self.generate.then(|| self.kind.make())
    }
}

impl SecretKind {
    /// Makes up a value.
    pub fn make(self) -> SecretValue {
        SecretValue(match self {
            Self::Password { length, charset } => pick(&charset.characters(), length),
            Self::Passphrase => {
                let letters: Vec<char> = LOWER.chars().collect();
                (0..GROUPS).map(|_| pick(&letters, GROUP)).collect::<Vec<_>>().join("-")
            }
        })
    }
}

impl Charset {
    /// By its name in `charset=`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "default" => Self::Default,
            "hex" => Self::Hex,
            "safespecial" | "default,safespecial" => Self::SafeSpecial,
            "special" | "default,special" => Self::Special,
            _ => return None,
        })
    }

    fn characters(self) -> Vec<char> {
        let parts: &[&str] = match self {
            Self::Default => &[LOWER, UPPER, DIGITS],
            Self::Hex => &[DIGITS, "abcdef"],
            Self::SafeSpecial => &[LOWER, UPPER, DIGITS, SAFE_SPECIAL],
            Self::Special => &[LOWER, UPPER, DIGITS, SPECIAL],
        };
        parts.iter().flat_map(|part| part.chars()).collect()
    }
}

/// The secrets that a stack needs, in the order of its files. A secret with a `file` brings its value itself and is none.
///
/// What cannot be read of a modifier goes to `problems`.
pub fn needed(loaded: &Loaded, env: &EnvFile, problems: &mut Vec<Problem>) -> Vec<SecretNeed> {
    let mut needs = Vec::new();
    for (key, object) in &loaded.compose.secrets {
        if !object.external {
            continue;
        }
        let docker_name = object.name.clone().unwrap_or_else(|| key.clone());
        let version_variable = version_variable(loaded, "secrets", key);
        let setting = version_variable.as_deref().and_then(|name| env.setting(name));
        let offered = || {
            let name = version_variable.as_deref()?;
            env.offered.iter().find(|setting| setting.name == name)
        };
        // Where `.env` does not say it, a default in the compose file may, and the name ends with it.
        let set = setting.map(|setting| setting.value.clone());
        let in_name = || docker_name.rsplit_once('_').map(|(_, version)| version.to_owned());
        let version = version_variable
            .as_ref()
            .and_then(|_| set.or_else(in_name))
            .filter(|version| !version.is_empty());
        let (mut kind, mut generate) = (SecretKind::Passphrase, true);
        if let Some(setting) = setting.or_else(offered) {
            let mut problem = |what: &str, value: &str, wanted: &str| {
                let message = format!("`{what}={}` is not {wanted}", shown(value));
                problems.push(Problem::new(&env.file, setting.line, &setting.name, message));
            };
            for (key, value) in &setting.modifiers {
                if !["length", "charset", "generate"].contains(&key.as_str()) {
                    problem(key, value, "known; write length=, charset= or generate=");
                }
            }
            let mut charset = Charset::Default;
            if let Some(name) = setting.modifiers.get("charset") {
                match Charset::named(name) {
                    Some(known) => charset = known,
                    None => problem("charset", name, "one of default, hex, safespecial, special"),
                }
            }
            if let Some(length) = setting.modifiers.get("length") {
                match length.parse() {
                    Ok(length) if (1..=LONGEST).contains(&length) => {
                        kind = SecretKind::Password { length, charset }
                    }
                    _ => problem("length", length, "a number of characters from 1 to 4096"),
                }
            }
            if let (Some(name), None) = (setting.modifiers.get("charset"), setting.modifiers.get("length")) {
                problem("charset", name, "heeded without `length=`: without one a passphrase is made");
            }
            match setting.modifiers.get("generate").map(String::as_str) {
                None | Some("true") => {}
                Some("false") => generate = false,
                Some(other) => problem("generate", other, "true or false"),
            }
        }
        needs.push(SecretNeed { key: key.clone(), docker_name, version_variable, version, kind, generate });
    }
    needs
}

/// The variable in the name of a secret or a config that has its version: the last one.
pub(crate) fn version_variable(loaded: &Loaded, section: &str, key: &str) -> Option<String> {
    let written = loaded.written_names.get(&format!("{section}.{key}"))?;
    variables(written).into_iter().rfind(|name| name.ends_with("_VERSION"))
}

fn pick(characters: &[char], length: usize) -> String {
    let mut random = rand::rng();
    (0..length).map(|_| characters[random.random_range(0..characters.len())]).collect()
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::*;
    use crate::compose::{Sources, load};

    #[test]
    fn needs_are_read_from_both_files() {
        let env = EnvFile::parse(
            "app.env",
            "SECRET_A_VERSION=v1_2 # length=20 charset=hex\nSECRET_B_VERSION=v1 # lenght=20\n\
             SECRET_C_VERSION=v1 # charset=hex generate=no\n#SECRET_D_VERSION=v4 # generate=false\n",
        )
        .unwrap();
        let names = "secrets:\n  a: {external: true, name: \"s_a_${SECRET_A_VERSION}\"}\n  \
                     b: {external: true, name: \"s_b_${SECRET_B_VERSION}\"}\n  \
                     c: {external: true, name: \"s_c_${SECRET_C_VERSION}\"}\n  \
                     d: {external: true, name: \"s_d_${SECRET_D_VERSION:-v9}\"}\n  \
                     e: {external: true, name: somebodys}\n  f: {file: f}\n";
        let variables: IndexMap<String, String> = env.values();
        let files = vec![("compose.yml".to_owned(), names.to_owned())];
        let sources = Sources { files, variables: &variables, env_file: &|_| Ok(String::new()) };
        let loaded = load(&sources).unwrap();
        let mut problems = Vec::new();
        let needs = needed(&loaded, &env, &mut problems);
        let told: Vec<String> = (needs.iter())
            .map(|need| {
                let SecretNeed { key, docker_name, version, kind, generate, .. } = need;
                format!("{key} {docker_name} {version:?} {kind:?} {generate}")
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
    a s_a_v1_2 Some("v1_2") Password { length: 20, charset: Hex } true
    b s_b_v1 Some("v1") Passphrase true
    c s_c_v1 Some("v1") Passphrase true
    d s_d_v9 Some("v9") Passphrase false
    e somebodys None Passphrase true
    "#);
        insta::assert_snapshot!(crate::Problems(problems), @r"
    app.env:2: SECRET_B_VERSION: `lenght=20` is not known; write length=, charset= or generate=
    app.env:3: SECRET_C_VERSION: `charset=hex` is not heeded without `length=`: without one a passphrase is made
    app.env:3: SECRET_C_VERSION: `generate=no` is not true or false
    ");
    }

    #[test]
    fn values_are_like_what_was_asked_for() {
        for (charset, allowed) in [
            (Charset::Default, "letters and digits"),
            (Charset::Hex, "0123456789abcdef"),
            (Charset::SafeSpecial, SAFE_SPECIAL),
            (Charset::Special, SPECIAL),
        ] {
            let value = SecretKind::Password { length: 400, charset }.make();
            assert_eq!(value.expose().len(), 400);
            assert!(value.expose().chars().all(|c| charset.characters().contains(&c)), "{allowed}");
        }
        let phrase = SecretKind::Passphrase.make();
        let groups: Vec<&str> = phrase.expose().split('-').collect();
        assert_eq!(groups.len(), 6);
        assert!(groups.iter().all(|group| group.len() == 5 && group.chars().all(|c| c.is_ascii_lowercase())));
        assert_ne!(phrase, SecretKind::Passphrase.make());
        assert_eq!(format!("{phrase:?}"), "SecretValue(35 characters)");
    }

    #[test]
    fn sets_are_known_by_name() {
        assert_eq!(Charset::named("hex"), Some(Charset::Hex));
        assert_eq!(Charset::named("emoji"), None);
    }
}
