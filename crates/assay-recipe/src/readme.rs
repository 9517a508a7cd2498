//! The table of facts in a recipe's README, between `<!-- metadata -->` and `<!-- endmetadata -->`.

use indexmap::IndexMap;
use serde::Serialize;

/// What every recipe should fill in.
pub const KEYS: [&str; 8] =
    ["Category", "Status", "Image", "Healthcheck", "Backups", "Email", "Tests", "SSO"];

/// The facts, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// The recipe's title: the first heading.
    pub title: Option<String>,
    /// Facts by name, as written; `* **Status**: 4, stable` is `Status`.
    pub facts: IndexMap<String, String>,
    /// Whether the two marks are there.
    pub marked: bool,
}

impl Metadata {
    /// Reads a README.
    pub fn parse(text: &str) -> Self {
        let mut read = Self {
            title: text.lines().find_map(|line| line.strip_prefix("# ")).map(|title| title.trim().to_owned()),
            ..Self::default()
        };
        let Some((_, rest)) = text.split_once("<!-- metadata -->") else { return read };
        let Some((block, _)) = rest.split_once("<!-- endmetadata -->") else { return read };
        read.marked = true;
        for line in block.lines() {
            let Some(item) = line.trim_start().strip_prefix(['*', '-', '+']) else { continue };
            let Some((name, value)) = item.split_once(':') else { continue };
            let name = name.trim().trim_matches('*').trim();
            read.facts.insert(name.to_owned(), value.trim().trim_start_matches("**").trim().to_owned());
        }
        read
    }

    /// Facts that every recipe should have and this one leaves out or empty.
    pub fn missing(&self) -> Vec<&'static str> {
        let filled = |key: &str| self.facts.get(key).is_some_and(|value| !value.is_empty());
        KEYS.into_iter().filter(|key| !filled(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read() {
        let read = Metadata::parse(
            "# Ghost\n\n> A blog\n\n<!-- metadata -->\n\n* **Category**: Apps\n* **Status**: 4, stable\n\
             * **Image**: [`ghost`](https://hub.example/ghost), 4, upstream\n* **Healthcheck**: Yes\n* **Backups**:\n\
             * **Email:** Yes\n\n<!-- endmetadata -->\n\n* **Not**: this\n",
        );
        insta::assert_snapshot!(serde_json::to_string_pretty(&read).unwrap(), @r#"
    {
      "title": "Ghost",
      "facts": {
        "Category": "Apps",
        "Status": "4, stable",
        "Image": "[`ghost`](https://hub.example/ghost), 4, upstream",
        "Healthcheck": "Yes",
        "Backups": "",
        "Email": "Yes"
      },
      "marked": true
    }
    "#);
        assert_eq!(read.missing(), ["Backups", "Tests", "SSO"]);
        assert!(!Metadata::parse("# X\n<!-- metadata -->\n* **Status**: 1").marked);
    }
}
