//! `abra.sh` of a recipe: which variables it exports, and which commands it offers.
//!
//! It is a shell script, and none of it is ever run. Exports of plain values are read; what would need a shell to know is
//! told as a [`ShellOnly`], so that nothing is guessed.

use std::sync::LazyLock;

use indexmap::{IndexMap, IndexSet};
use regex::Regex;
use serde::Serialize;

/// What the script says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AbraSh {
    /// Exported variables, the last value of each.
    pub exports: IndexMap<String, String>,
    /// Line of each export.
    pub lines: IndexMap<String, u32>,
    /// Names of its functions: what `abra app cmd` can call.
    pub functions: IndexSet<String>,
    /// Exports whose value only a shell could know.
    pub shell_only: Vec<ShellOnly>,
}

/// An export that is not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShellOnly {
    /// The variable, or the line where there is none.
    pub name: String,
    /// Line, from 1.
    pub line: u32,
    /// What stands there.
    pub text: String,
}

static FUNCTION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(?:function\s+([A-Za-z_][A-Za-z0-9_-]*)\s*(?:\(\s*\))?|([A-Za-z_][A-Za-z0-9_-]*)\s*\(\s*\))\s*\{?",
    )
    .expect("the pattern is constant")
});

impl AbraSh {
    /// Reads a script. There is nothing in one that makes this fail: what is not an export or a function is skipped.
    pub fn parse(text: &str) -> Self {
        let mut read = Self::default();
        for (line, number) in text.lines().zip(1..) {
            // Only the top level: inside of a function, a variable lives as long as the function runs.
            if line.starts_with([' ', '\t']) {
                continue;
            }
            if let Some(found) = FUNCTION.captures(line) {
                let name = found.get(1).or_else(|| found.get(2)).map_or("", |name| name.as_str());
                if !name.is_empty() {
                    read.functions.insert(name.to_owned());
                }
            } else if let Some(rest) = line.strip_prefix("export ") {
                read.export(rest, number);
            }
        }
        read
    }

    fn export(&mut self, text: &str, line: u32) {
        let mut rest = text.trim_start();
        while !rest.is_empty() && !rest.starts_with(['#', ';']) {
            let Some((name, value, behind)) = assignment(rest) else {
                let name = rest.split(['=', ' ']).next().unwrap_or_default().to_owned();
                self.shell_only.push(ShellOnly { name, line, text: text.trim().to_owned() });
                return;
            };
            self.exports.insert(name.to_owned(), value);
            self.lines.insert(name.to_owned(), line);
            rest = behind.trim_start();
        }
    }
}

/// `NAME=value` at the beginning of a text, where the value is plain, and what is behind it.
fn assignment(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let (value, behind) = match rest.chars().next() {
        Some('\'') => rest[1..].split_once('\'')?,
        Some('"') => {
            let (value, behind) = rest[1..].split_once('"')?;
            if value.contains(['$', '`', '\\']) {
                return None;
            }
            (value, behind)
        }
        _ => {
            let end = rest.find([' ', '\t', ';']).unwrap_or(rest.len());
            let (value, behind) = rest.split_at(end);
            if value.contains(['$', '`', '\\', '"', '\'', '(', ')', '|', '&', '<', '>', '*', '?', '~']) {
                return None;
            }
            (value, behind)
        }
    };
    // What touches the closing quote belongs to the value, and only a shell puts it together.
    (behind.is_empty() || behind.starts_with([' ', '\t', ';'])).then(|| (name, value.to_owned(), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_and_functions_are_read_and_nothing_is_run() {
        let read = AbraSh::parse(
            "#!/bin/bash\n\
             export APP_ENTRYPOINT_VERSION=v4\n\
             export PG_BACKUP_VERSION=\"v1\" # bumped\n\
             export A=1 B='two words'\n\
             export DYNAMIC=$(date +%s)\n\
             export OTHER=\"$A-x\"\n\
             export HALF='a'b\n\
             export EXISTING\n\
             NOT_EXPORTED=v9\n\
             _helper() {\n  export INSIDE=v1\n}\n\
             function set_admin {\n  touch /tmp/never\n}\n\
             function migrate() { :; }\n\
             backup-now () {\n}\n\
             if true; then echo; fi\n\
             export APP_ENTRYPOINT_VERSION=v5;\n",
        );
        insta::assert_snapshot!(serde_json::to_string_pretty(&read).unwrap(), @r#"
    {
      "exports": {
        "APP_ENTRYPOINT_VERSION": "v5",
        "PG_BACKUP_VERSION": "v1",
        "A": "1",
        "B": "two words"
      },
      "lines": {
        "APP_ENTRYPOINT_VERSION": 20,
        "PG_BACKUP_VERSION": 3,
        "A": 4,
        "B": 4
      },
      "functions": [
        "_helper",
        "set_admin",
        "migrate",
        "backup-now"
      ],
      "shell_only": [
        {
          "name": "DYNAMIC",
          "line": 5,
          "text": "DYNAMIC=$(date +%s)"
        },
        {
          "name": "OTHER",
          "line": 6,
          "text": "OTHER=\"$A-x\""
        },
        {
          "name": "HALF",
          "line": 7,
          "text": "HALF='a'b"
        },
        {
          "name": "EXISTING",
          "line": 8,
          "text": "EXISTING"
        }
      ]
    }
    "#);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(export |function |[a-zA-Z=\"'$(){}; \n#ü]){0,60}") {
            let _ = AbraSh::parse(&text);
        }
    }
}
