//! The hooks that a recipe can have, and whether a hook or test was written for the form in which it is called.
//!
//! Everything is called in one way: without arguments, with `$ASSAY_CONTEXT` naming a file. A script that expects its domain
//! as `$1` would run with an empty one and pass or fail for no reason of its own, so it is refused when it is found, with the
//! old form and the new one.

use serde::{Deserialize, Serialize};

use super::{OperationName, context::FORMAT, shell};
use crate::problem::shown;

/// The points at which a recipe's own code is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookName {
    /// Once, before the one deployment, in the run's checkout of the recipe.
    InstallSteps,
    /// Before the app is deployed for the first time.
    PreInstall,
    /// Before the upgrade: the place to leave data that has to survive it.
    PreUpgrade,
    /// Before the backup: the place to leave data that has to come back.
    PreBackup,
    /// Before the restore, while the old data is still there.
    PreRestore,
    /// Asked whether the app is ready, until it says 0 or the wait budget is used up.
    Ready,
    /// Asked whether a backup is whole; another status than 0 has it taken again, `backup.recaptures` times.
    BackupVerify,
    /// Takes the picture instead of Assay.
    Screenshot,
}

impl HookName {
    /// Every hook, in the order of a run.
    pub const ALL: [Self; 8] = [
        Self::InstallSteps,
        Self::PreInstall,
        Self::PreUpgrade,
        Self::PreBackup,
        Self::PreRestore,
        Self::Ready,
        Self::BackupVerify,
        Self::Screenshot,
    ];

    /// The hook that is called before an operation.
    pub const fn before(operation: OperationName) -> Self {
        match operation {
            OperationName::Install => Self::PreInstall,
            OperationName::Upgrade => Self::PreUpgrade,
            OperationName::Backup => Self::PreBackup,
            OperationName::Restore => Self::PreRestore,
        }
    }

    /// As its file is called, without an extension.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InstallSteps => "install_steps",
            Self::PreInstall => "pre_install",
            Self::PreUpgrade => "pre_upgrade",
            Self::PreBackup => "pre_backup",
            Self::PreRestore => "pre_restore",
            Self::Ready => "ready",
            Self::BackupVerify => "backup_verify",
            Self::Screenshot => "screenshot",
        }
    }
}

/// What a script's own text says about the form that it was written for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// What it is run by.
    pub(crate) interpreter: String,
    /// The form of the context.
    pub(crate) format: u32,
}

/// The mark in the comment at the top of a script.
const MARK: &str = "assay-context:";

/// Whether a hook or test can be called: it begins with `#!`, was written for this form of the context (the comment
/// `# assay-context: 1` at its top; without one it counts as written for it), and, as far as it is a shell's, takes no arguments.
///
/// What is wrong comes with its line; 0 is the whole.
pub(crate) fn check_script(bytes: &[u8]) -> Result<Script, (u32, String)> {
    let text = String::from_utf8_lossy(bytes);
    let Some(first) = text.strip_prefix("#!") else {
        let message = "it does not begin with `#!`, so nothing says what runs it; begin it with a line such as `#!/bin/sh` or `#!/usr/bin/env python3`";
        return Err((1, message.to_owned()));
    };
    let interpreter = first.lines().next().unwrap_or_default().trim();
    if interpreter.is_empty() {
        return Err((1, "nothing stands behind `#!`; name what runs it, such as `#!/bin/sh`".to_owned()));
    }
    if !interpreter.starts_with('/') {
        let message = format!(
            "`#!{}` is no whole path; write `#!/usr/bin/env {0}`, or the path of the program",
            shown(interpreter)
        );
        return Err((1, message));
    }
    // `lines` would take the carriage return off.
    if first.split('\n').next().is_some_and(|line| line.ends_with('\r')) {
        return Err((1, "its lines end with a carriage return, so the system looks for a program of that name; save it with Unix line ends".to_owned()));
    }
    let format = written_for(&text)?;
    if shell::is_shell(interpreter)
        && let Some((line, found)) = shell::arguments(&text)
    {
        return Err((line, old_form(&found)));
    }
    Ok(Script { interpreter: shown(interpreter), format })
}

/// The form that the comment at the top names.
fn written_for(text: &str) -> Result<u32, (u32, String)> {
    let mut at_top = true;
    let mut format = None;
    for (index, line) in text.lines().enumerate().skip(1) {
        let line = line.trim();
        let comment = ["#", "//", "--", ";"].iter().find_map(|mark| line.strip_prefix(mark));
        at_top &= line.is_empty() || comment.is_some();
        let Some(value) = comment
            .and_then(|comment| comment.trim_start_matches(['#', '/', '-', ';']).trim().strip_prefix(MARK))
        else {
            continue;
        };
        let number = index as u32 + 1;
        let value = value.trim();
        if !at_top {
            return Err((
                number,
                format!("`{MARK}` counts only in the comment at the top; move it there, or remove it"),
            ));
        }
        if format.is_some() {
            return Err((number, format!("`{MARK}` is there twice; keep one")));
        }
        if value != FORMAT.to_string() {
            let message = format!(
                "it was written for form `{}` of the context, and this version of Assay calls with form {FORMAT}\n    old: # {MARK} {}\n    new: # {MARK} {FORMAT}, after comparing what it reads with schemas/recipe-context.schema.json",
                shown(value),
                shown(value),
            );
            return Err((number, message));
        }
        format = Some(FORMAT);
    }
    Ok(format.unwrap_or(FORMAT))
}

fn old_form(found: &str) -> String {
    format!(
        "it takes arguments (`{found}`), and none are passed: everything is in the JSON file that $ASSAY_CONTEXT names\n    old: domain=$1\n    new: domain=$(jq -r .domain \"$ASSAY_CONTEXT\")\n    arguments of its own functions and those after `set --` are fine"
    )
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn refused(text: &str) -> String {
        let (line, message) = check_script(text.as_bytes()).unwrap_err();
        format!("{line}: {message}")
    }

    #[test]
    fn a_script_says_what_it_was_written_for() {
        let script =
            check_script(b"#!/usr/bin/env python3\n# Leaves a note.\n#\n# assay-context: 1\nimport json\n")
                .unwrap();
        assert_eq!(script, Script { interpreter: "/usr/bin/env python3".to_owned(), format: 1 });
        assert_eq!(check_script(b"#!/bin/sh\necho\n").unwrap().format, FORMAT);
        assert_eq!(
            check_script(b"#! /usr/bin/env node\n// assay-context: 1\nlet x = 1\n").unwrap().format,
            1
        );
    }

    #[test]
    fn another_form_is_refused_with_both_forms() {
        assert_snapshot!(refused("#!/bin/sh\n# assay-context: 2\n"), @"
        2: it was written for form `2` of the context, and this version of Assay calls with form 1
            old: # assay-context: 2
            new: # assay-context: 1, after comparing what it reads with schemas/recipe-context.schema.json
        ");
        assert!(refused("#!/bin/sh\n# assay-context: one\n").starts_with("2: it was written for form `one`"));
        assert_snapshot!(refused("#!/bin/sh\n# assay-context: 1\n# assay-context: 1\n"), @"3: `assay-context:` is there twice; keep one");
        assert_snapshot!(refused("#!/bin/sh\necho\n# assay-context: 1\n"), @"3: `assay-context:` counts only in the comment at the top; move it there, or remove it");
    }

    #[test]
    fn a_script_that_takes_arguments_is_refused_with_both_forms() {
        assert_snapshot!(refused("#!/bin/sh\nset -eu\ncurl \"https://$1/\"\n"), @r#"
        3: it takes arguments (`$1`), and none are passed: everything is in the JSON file that $ASSAY_CONTEXT names
            old: domain=$1
            new: domain=$(jq -r .domain "$ASSAY_CONTEXT")
            arguments of its own functions and those after `set --` are fine
        "#);
        // What is no shell's is not read for them.
        check_script(b"#!/usr/bin/env perl\nprint $1 if /(a)/;\n").unwrap();
    }

    #[test]
    fn what_cannot_be_started_is_refused() {
        assert!(refused("echo\n").starts_with("1: it does not begin with `#!`"));
        assert!(refused("\x7fELF").starts_with("1: it does not begin with `#!`"));
        assert_snapshot!(refused("#!python3\n"), @"1: `#!python3` is no whole path; write `#!/usr/bin/env python3`, or the path of the program");
        assert!(refused("#!\n").starts_with("1: nothing stands behind `#!`"));
        assert!(refused("#!/bin/sh\r\necho\r\n").starts_with("1: its lines end with a carriage return"));
    }
}
