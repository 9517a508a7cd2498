//! Takes secrets out of what is printed, embedded or told: by the words of names, and by value.
//!
//! By words, not by parts of words: `KEYCLOAK_URL` is no key and is worth reading in a report, `apiKey` is one. By value,
//! because a secret does not stay in the variable that is named after it.

use serde_json::{Map, Value};

/// What stands in a secret's place.
pub const REDACTED: &str = "[redacted]";

/// Words that make a name that of a secret.
const WORDS: &[&str] = &[
    "accesskey",
    "apikey",
    "auth",
    "authtoken",
    "bearer",
    "cookie",
    "cookies",
    "cred",
    "credential",
    "credentials",
    "creds",
    "jwt",
    "key",
    "keys",
    "pass",
    "passphrase",
    "passphrases",
    "passwd",
    "password",
    "passwords",
    "pin",
    "privatekey",
    "psk",
    "pw",
    "pwd",
    "salt",
    "secret",
    "secretkey",
    "secrets",
    "token",
    "tokens",
];
/// Names of our own settings that have such a word and name a place.
const PLACES: [&str; 1] = ["password_file"];
/// Shorter values are taken out only where they are all of a text: `v1` or `no` is everywhere.
const SHORTEST: usize = 5;

/// Takes out secrets whose values are known, and whatever a name says is one.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that of a secret that has another in it nothing is left.
    values: Vec<String>,
}

impl Redactor {
    /// Knows these values as secrets. Empty ones are passed over.
    pub fn new<S: Into<String>>(values: impl IntoIterator<Item = S>) -> Self {
        let mut known: Vec<String> = Vec::new();
        for value in values {
            let value: String = value.into();
            // A value is often printed without the line break that its file ends with, or line by line.
            let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST);
            for part in std::iter::once(value.trim()).chain(lines) {
                known.extend([part.to_owned(), as_in_json(part), as_in_url(part)]);
            }
        }
        Self::of(known)
    }

    fn of(mut values: Vec<String>) -> Self {
        values.retain(|value| !value.is_empty());
        values.sort_by_key(|value| (std::cmp::Reverse(value.len()), value.clone()));
        values.dedup();
        Self { values }
    }

    /// Knows these as well.
    #[must_use]
    pub fn with<S: Into<String>>(&self, values: impl IntoIterator<Item = S>) -> Self {
        Self::of([self.values.clone(), Self::new(values).values].concat())
    }

    /// A text without the known secrets.
    pub fn text(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for value in &self.values {
            if value.len() >= SHORTEST {
                clean = clean.replace(value, REDACTED);
            } else if clean.trim() == value {
                REDACTED.clone_into(&mut clean);
            }
        }
        clean
    }

    /// A value without the known secrets, and without what stands under a secret's name, however deep. The shape stays: it
    /// says that something was set.
    pub fn json(&self, value: &Value) -> Value {
        self.under(value, false)
    }

    /// As [`Redactor::json`], for a value that stands under a name.
    pub fn named(&self, name: &str, value: &Value) -> Value {
        self.under(value, name.split('.').any(is_secret_name))
    }

    fn under(&self, value: &Value, secret: bool) -> Value {
        match value {
            Value::Null | Value::Bool(_) => value.clone(),
            Value::Number(number) if !secret => {
                let text = number.to_string();
                if self.text(&text) == text { value.clone() } else { Value::from(REDACTED) }
            }
            Value::String(text) if !secret => Value::from(self.text(text)),
            Value::String(text) if text.is_empty() => value.clone(),
            Value::Number(_) | Value::String(_) => Value::from(REDACTED),
            Value::Array(items) => items.iter().map(|item| self.under(item, secret)).collect(),
            Value::Object(entries) => {
                let entries = entries.iter().map(|(name, value)| {
                    (self.text(name), self.under(value, secret || is_secret_name(name)))
                });
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Redactor({} values)", self.values.len())
    }
}

/// Whether a name is that of a secret: one of its words is `key`, `password`, `token` and the like. Words end at anything
/// that is no letter, and where a small letter is followed by a capital: `db_password`, `apiKey`, `SECRET_X`.
pub fn is_secret_name(name: &str) -> bool {
    if PLACES.contains(&name) {
        return false;
    }
    words(name).iter().any(|word| WORDS.contains(&word.as_str()))
}

/// A value as it stands in JSON, without the quotes.
fn as_in_json(value: &str) -> String {
    let quoted = Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// A value as it stands in a URL: a password in the address of a database is written so.
fn as_in_url(value: &str) -> String {
    let of_byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(of_byte).collect()
}

fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let letters: Vec<char> = name.chars().collect();
    for (at, &letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| letters[at]);
        let after = letters.get(at + 1);
        // `apiKey` begins a word at `K`, and so does `APIKey`, whose capitals go on up to there.
        let hump = letter.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || (before.is_uppercase() && after.is_some_and(|after| after.is_lowercase()))
            });
        if hump || !letter.is_alphabetic() {
            words.push(String::new());
        }
        if let (true, Some(word)) = (letter.is_alphabetic(), words.last_mut()) {
            word.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_judged_by_their_words() {
        for name in [
            "db_password",
            "apiKey",
            "APIKey",
            "SECRET_X",
            "x-api-key",
            "token2",
            "KEY",
            "smtp.pass",
            "AWS_ACCESSKEY",
            "dbPassword",
            "OIDC_CLIENT_SECRET",
            "ADMIN_PW",
            "secrets",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "KEYCLOAK_URL",
            "MONKEY",
            "compass",
            "author",
            "TOKENIZER",
            "bypass_cache",
            "http.path",
            "SECRETARY",
            "password_file",
            "keyboard",
            "",
            "_",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn secrets_are_taken_out_by_name_and_by_value_however_deep() {
        let redactor =
            Redactor::new(["hunter2hunter2", "hunter2", "on", "", "line one\nline two\n", "quo\"te"]);
        let value = json!({
            "deploy.env": {
                "KEYCLOAK_URL": "https://sso.test",
                "DB_PASSWORD": "p",
                "SMTP_PASS": "",
                "DATABASE_URL": "postgres://app:hunter2hunter2@db/app",
                "LOGGING": "on",
                "MOTTO": "on and on",
            },
            "nested": [{ "apiKey": { "id": 7, "values": ["a", 1, true, null] } }],
            "hunter2": "line two is told",
            "number": 5,
        });
        insta::assert_json_snapshot!(redactor.json(&value), @r#"
        {
          "deploy.env": {
            "KEYCLOAK_URL": "https://sso.test",
            "DB_PASSWORD": "[redacted]",
            "SMTP_PASS": "",
            "DATABASE_URL": "postgres://app:[redacted]@db/app",
            "LOGGING": "[redacted]",
            "MOTTO": "on and on"
          },
          "nested": [
            {
              "apiKey": {
                "id": "[redacted]",
                "values": [
                  "[redacted]",
                  "[redacted]",
                  true,
                  null
                ]
              }
            }
          ],
          "[redacted]": "[redacted] is told",
          "number": 5
        }
        "#);
        assert_eq!(
            redactor.named("deploy.secrets", &json!({ "smtp": "p" })),
            json!({ "smtp": "[redacted]" })
        );
        assert_eq!(redactor.text(r#"{"a": "quo\"te"}"#), r#"{"a": "[redacted]"}"#);
        assert!(!format!("{redactor:?}").contains("hunter"));
        let redactor = Redactor::new(["p@ss/word"]);
        assert_eq!(redactor.text("postgres://app:p%40ss%2Fword@db/app"), "postgres://app:[redacted]@db/app");
    }
}
