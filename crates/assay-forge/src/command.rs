//! What a comment asks for.
//!
//! A command is the first line of a comment and begins at its first character: no space, quote, list, code or HTML comment
//! before it. So a text that speaks *about* the command, or quotes somebody who gave it, asks for nothing. The words are
//! exact: ASCII, in lower case. What begins with `!testme` and is no command gets one answer that says what is wrong;
//! anything else gets none.

use assay_model::text::{clean_to, did_you_mean};
use serde::{Deserialize, Serialize};

const WORD: &str = "!testme";
/// Longest line that is read, in bytes.
const LONGEST_LINE: usize = 300;
const MOST_STAGES: usize = 16;
const OPTIONS: [&str; 4] = ["--quick", "--extra", "--stages", "cancel"];

/// What a comment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Nothing of us.
    Nothing,
    /// A command.
    Command(Command),
    /// It was meant for us, and is not understood.
    Misunderstood(Misunderstood),
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Test the pull request's head.
    Test(Wanted),
    /// Stop what is under way or waiting for this pull request.
    Cancel,
}

/// How it is to be tested.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// A short run, in the quick lane; it does not gate.
    pub quick: bool,
    /// With the tests that are only run when asked for.
    pub extra: bool,
    /// Only these stages, in the order given; empty for all.
    pub stages: Vec<String>,
}

/// Why a command was not understood: text of ours, with the writer's words cleaned, bounded and in quotation marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misunderstood {
    /// One sentence.
    pub why: String,
}

impl Command {
    /// As somebody would write it.
    pub fn line(&self) -> String {
        match self {
            Self::Cancel => format!("{WORD} cancel"),
            Self::Test(wanted) => {
                let mut line = WORD.to_owned();
                if wanted.quick {
                    line.push_str(" --quick");
                }
                if wanted.extra {
                    line.push_str(" --extra");
                }
                if !wanted.stages.is_empty() {
                    line.push_str(" --stages ");
                    line.push_str(&wanted.stages.join(","));
                }
                line
            }
        }
    }
}

/// Reads a comment's text. `stages` are the names that `--stages` may have.
pub fn parse(body: &str, stages: &[&str]) -> Parsed {
    let Some(rest) = body.strip_prefix(WORD) else { return Parsed::Nothing };
    let line = rest.split(['\n', '\r']).next().unwrap_or_default();
    match read(line, stages) {
        Ok(command) => Parsed::Command(command),
        Err(why) => Parsed::Misunderstood(Misunderstood { why }),
    }
}

fn read(line: &str, stages: &[&str]) -> Result<Command, String> {
    if line.len() > LONGEST_LINE {
        return Err(format!(
            "the line is longer than {LONGEST_LINE} bytes; put what is not a command on the next line"
        ));
    }
    if let Some(odd) = line.chars().find(|c| !c.is_ascii_graphic() && !matches!(c, ' ' | '\t')) {
        let kind = if odd.is_control() || is_invisible(odd) {
            "an invisible character in the line"
        } else {
            "a character in the line that no command has"
        };
        return Err(format!("there is {kind} (U+{:04X}); type it anew", odd as u32));
    }
    if !line.is_empty() && !line.starts_with([' ', '\t']) {
        let word: String = line.chars().take_while(|c| !c.is_ascii_whitespace()).collect();
        return Err(format!(
            "{} is no command; write `{WORD}`, with a space before what follows",
            quoted(&format!("{WORD}{word}"))
        ));
    }
    let mut words = line.split_ascii_whitespace().peekable();
    let mut wanted = Wanted::default();
    let mut is_cancel = false;
    let mut count = 0;
    while let Some(word) = words.next() {
        count += 1;
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        match (name, value) {
            ("--quick", None) if !wanted.quick => wanted.quick = true,
            ("--extra", None) if !wanted.extra => wanted.extra = true,
            ("cancel", None) if !is_cancel => is_cancel = true,
            ("--stages", value) if wanted.stages.is_empty() => {
                let list = value.or_else(|| words.next()).unwrap_or_default();
                wanted.stages = list_of(list, stages)?;
            }
            ("--quick" | "--extra" | "cancel" | "--stages", None) => {
                return Err(format!("{} is there twice", quoted(word)));
            }
            ("--quick" | "--extra" | "cancel", Some(_)) => return Err(format!("`{name}` takes no value")),
            _ => {
                let hint = match did_you_mean(name, &OPTIONS) {
                    hint if hint.is_empty() => "; there are --quick, --extra, --stages and cancel".to_owned(),
                    hint => hint,
                };
                return Err(format!("{} means nothing here{hint}", quoted(word)));
            }
        }
    }
    if is_cancel && count > 1 {
        return Err("`cancel` stands alone; a comment of its own says what to test instead".to_owned());
    }
    if wanted.quick && !wanted.stages.is_empty() {
        return Err("`--quick` is a selection of its own; leave out `--stages`, or `--quick`".to_owned());
    }
    Ok(if is_cancel { Command::Cancel } else { Command::Test(wanted) })
}

fn list_of(list: &str, known: &[&str]) -> Result<Vec<String>, String> {
    let mut stages: Vec<String> = Vec::new();
    if list.is_empty() || list.starts_with("--") {
        return Err(format!("`--stages` wants names, with commas and no spaces: {}", known.join(",")));
    }
    for name in list.split(',') {
        if name.is_empty() {
            return Err("there is nothing between two commas of `--stages`; leave one out".to_owned());
        }
        if !known.contains(&name) {
            let hint = match did_you_mean(name, known) {
                hint if hint.is_empty() => format!("; there are {}", known.join(",")),
                hint => hint,
            };
            return Err(format!("{} is no stage{hint}", quoted(name)));
        }
        if stages.iter().any(|had| had == name) {
            return Err(format!("`{name}` is there twice"));
        }
        stages.push(name.to_owned());
    }
    if stages.len() > MOST_STAGES {
        return Err(format!("these are more than {MOST_STAGES} stages; leave `--stages` out for all"));
    }
    Ok(stages)
}

/// The line is graphic ASCII by now; only the mark that encloses it has to go.
fn quoted(word: &str) -> String {
    format!("`{}`", clean_to(&word.replace('`', "'"), 40))
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{ad}' | '\u{180e}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{3000}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAGES: [&str; 8] =
        ["lint", "install", "upgrade", "backup", "restore", "custom", "teardown", "reporting"];

    fn said(body: &str) -> String {
        match parse(body, &STAGES) {
            Parsed::Nothing => "-".to_owned(),
            Parsed::Command(command) => command.line(),
            Parsed::Misunderstood(Misunderstood { why }) => format!("? {why}"),
        }
    }

    #[test]
    fn a_command_is_the_first_line() {
        let lines: Vec<String> = [
            "!testme",
            "!testme\r\n",
            "!testme  \t",
            "!testme\nplease, since the base image moved",
            "!testme --quick --extra",
            "!testme   --extra --stages lint,install",
            "!testme --stages=upgrade --extra\n!testme cancel",
            "!testme cancel",
        ]
        .iter()
        .map(|body| said(body))
        .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        !testme
        !testme
        !testme
        !testme
        !testme --quick --extra
        !testme --extra --stages lint,install
        !testme --extra --stages upgrade
        !testme cancel
        ");
    }

    #[test]
    fn speaking_of_it_asks_for_nothing() {
        for body in [
            "",
            "please !testme",
            " !testme",
            "    !testme",
            "\n!testme",
            "> !testme",
            "- !testme",
            "`!testme`",
            "```\n!testme\n```",
            "<!-- -->!testme",
            "<!--\n!testme\n-->",
            "**!testme**",
            "\\!testme",
            "\u{feff}!testme",
            "\u{200b}!testme",
            "!\u{200b}testme",
            "!t\u{435}stme",
            "\u{ff01}testme",
            "!Testme",
            "!TESTME",
            "! testme",
            "!test me",
            "!test",
        ] {
            assert_eq!(parse(body, &STAGES), Parsed::Nothing, "{body:?}");
        }
    }

    #[test]
    fn what_was_meant_for_us_is_answered_once_and_says_what_to_write() {
        let lines: Vec<String> = [
            "!testmexyz",
            "!testme!",
            "!testme foo",
            "!testme --quik",
            "!testme --quick --quick",
            "!testme --quick=yes",
            "!testme --quick --stages lint",
            "!testme cancel --quick",
            "!testme --stages",
            "!testme --stages --extra",
            "!testme --stages instal",
            "!testme --stages lint,,install",
            "!testme --stages lint,lint",
            "!testme --stages x`@all`",
            "!testme\u{200b}",
            "!testme --quick\u{a0}",
            "!testme caf\u{e9}",
            "!testme <!-- cancel -->",
            "!testme cancel please",
        ]
        .iter()
        .map(|body| said(body))
        .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        ? `!testmexyz` is no command; write `!testme`, with a space before what follows
        ? `!testme!` is no command; write `!testme`, with a space before what follows
        ? `foo` means nothing here; there are --quick, --extra, --stages and cancel
        ? `--quik` means nothing here; did you mean `--quick`?
        ? `--quick` is there twice
        ? `--quick` takes no value
        ? `--quick` is a selection of its own; leave out `--stages`, or `--quick`
        ? `cancel` stands alone; a comment of its own says what to test instead
        ? `--stages` wants names, with commas and no spaces: lint,install,upgrade,backup,restore,custom,teardown,reporting
        ? `--stages` wants names, with commas and no spaces: lint,install,upgrade,backup,restore,custom,teardown,reporting
        ? `instal` is no stage; did you mean `install`?
        ? there is nothing between two commas of `--stages`; leave one out
        ? `lint` is there twice
        ? `x'@all'` is no stage; there are lint,install,upgrade,backup,restore,custom,teardown,reporting
        ? there is an invisible character in the line (U+200B); type it anew
        ? there is an invisible character in the line (U+00A0); type it anew
        ? there is a character in the line that no command has (U+00E9); type it anew
        ? `<!--` means nothing here; there are --quick, --extra, --stages and cancel
        ? `please` means nothing here; there are --quick, --extra, --stages and cancel
        ");
        assert!(said(&format!("!testme {}", "x".repeat(400))).starts_with("? the line is longer"));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_nothing_but_the_word_at_the_start_counts(body in any::<String>()) {
            let parsed = parse(&body, &STAGES);
            prop_assert_eq!(parsed == Parsed::Nothing, !body.starts_with(WORD));
        }

        #[test]
        fn whatever_follows_the_word_is_bounded_and_quoted(rest in "[ \\PC\u{200b}\t`@#<>|]{0,400}") {
            if let Parsed::Misunderstood(Misunderstood { why }) = parse(&format!("!testme{rest}"), &STAGES) {
                prop_assert!(why.len() < 300, "{}", why);
                prop_assert_eq!(why.matches('`').count() % 2, 0, "{}", why);
                prop_assert!(why.replace('…', "").is_ascii(), "{}", why);
            }
        }

        #[test]
        fn a_command_reads_back_as_itself(quick in any::<bool>(), extra in any::<bool>(), picked in proptest::sample::subsequence(STAGES.to_vec(), 0..8)) {
            let stages: Vec<String> = if quick { Vec::new() } else { picked.iter().map(|&s| s.to_owned()).collect() };
            let command = Command::Test(Wanted { quick, extra, stages });
            prop_assert_eq!(parse(&command.line(), &STAGES), Parsed::Command(command));
        }
    }
}
