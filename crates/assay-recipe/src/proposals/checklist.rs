//! What a release needs beside a new tag, and what of it is done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lint::facts::Facts;
use crate::lint::{self, Severity, Verdict};
use crate::versions::Version;

/// One thing that a release needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Item {
    /// What it is about.
    pub task: Task,
    /// Whether it is done.
    pub state: State,
    /// What was found, or what to do.
    pub what: String,
}

/// What a release needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// The label `coop-cloud.${STACK_NAME}.version` says the new version.
    VersionLabel,
    /// A config or secret whose file changed has a new version: the engine changes none that is there.
    ConfigVersions,
    /// `release/<version>` tells operators what to do.
    ReleaseNotes,
    /// Settings that operators have to make are named.
    NewSettings,
    /// The lint finds no error.
    Lint,
    /// The tag of the release is annotated; it is made after the merge.
    AnnotatedTag,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is.
    Done,
    /// It is not.
    Todo,
    /// It could not be told.
    Unknown,
}

pub(super) fn of(facts: &Facts<'_>, version: Option<&Version>, last: Option<&Version>) -> Vec<Item> {
    let report = lint::of(facts);
    vec![
        version_label(version, last),
        config_versions(&report),
        release_notes(facts, version, last),
        new_settings(facts),
        errors(&report),
        annotated_tag(version, last),
    ]
}

fn item(task: Task, state: State, what: impl Into<String>) -> Item {
    Item { task, state, what: what.into() }
}

fn version_label(version: Option<&Version>, last: Option<&Version>) -> Item {
    let told = |state, what: String| item(Task::VersionLabel, state, what);
    match (version, last) {
        (None, _) => told(
            State::Todo,
            "give `app` the label `coop-cloud.${STACK_NAME}.version=X.Y.Z+upstream`".to_owned(),
        ),
        (Some(version), None) => told(State::Unknown, format!("it says {version}, and no release is known")),
        (Some(version), Some(last)) if version > last => {
            told(State::Done, format!("it says {version}, after {last}"))
        }
        (Some(version), Some(last)) => {
            told(State::Todo, format!("it says {version}, and {last} is released; raise it with the change"))
        }
    }
}

fn config_versions(report: &lint::LintReport) -> Item {
    let told = |state, what: String| item(Task::ConfigVersions, state, what);
    let Some(result) = report.results.iter().find(|result| result.rule == "A001") else {
        return told(State::Unknown, "the rule A001 is not there".to_owned());
    };
    let findings = result.findings.iter().map(|finding| format!("{}: {}", finding.path, finding.message));
    match result.verdict {
        Verdict::Pass => told(State::Done, "every file that changed has a new version".to_owned()),
        Verdict::Fail => told(State::Todo, findings.collect::<Vec<_>>().join("; ")),
        Verdict::Skip | Verdict::NotChecked | Verdict::Unverified => {
            told(State::Unknown, result.reason.clone().unwrap_or_default())
        }
    }
}

fn release_notes(facts: &Facts<'_>, version: Option<&Version>, last: Option<&Version>) -> Item {
    let told = |state, what: String| item(Task::ReleaseNotes, state, what);
    match version.filter(|version| last.is_none_or(|last| *version > last)) {
        None => told(State::Todo, "write release/<version> with the new version".to_owned()),
        Some(version) => {
            let name = format!("release/{version}");
            match facts.recipe.content(&name) {
                Ok(bytes) if !bytes.trim_ascii().is_empty() => told(State::Done, format!("{name} is there")),
                _ => told(State::Todo, format!("write {name}: what changed, and what an operator has to do")),
            }
        }
    }
}

fn new_settings(facts: &Facts<'_>) -> Item {
    let told = |state, what: String| item(Task::NewSettings, state, what);
    match &facts.history.past {
        Err(why) => told(State::Unknown, format!("the release before cannot be read: {why}")),
        Ok(None) => told(State::Unknown, "there is no release before this".to_owned()),
        Ok(Some(past)) => {
            let new = facts.sample.settings.iter().filter(|setting| !past.settings.contains(&setting.name));
            let (mut named, mut empty): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
            for setting in new {
                if setting.value.is_empty() { &mut empty } else { &mut named }.push(&setting.name);
            }
            if !empty.is_empty() {
                let what = format!(
                    "operators of {} have to set {}: say so in the release notes, which makes it a major version",
                    past.tag,
                    empty.join(", ")
                );
                return told(State::Todo, what);
            }
            let what = if named.is_empty() {
                "none".to_owned()
            } else {
                format!("with defaults: {}", named.join(", "))
            };
            told(State::Done, what)
        }
    }
}

fn errors(report: &lint::LintReport) -> Item {
    let failed: Vec<&str> = report
        .with(Verdict::Fail)
        .filter(|result| result.severity == Severity::Error)
        .map(|result| result.rule.as_str())
        .collect();
    if failed.is_empty() {
        item(Task::Lint, State::Done, "no error")
    } else {
        item(Task::Lint, State::Todo, format!("`assay recipe lint` finds errors: {}", failed.join(", ")))
    }
}

fn annotated_tag(version: Option<&Version>, last: Option<&Version>) -> Item {
    let what = match version {
        Some(version) if last == Some(version) => {
            return item(Task::AnnotatedTag, State::Done, format!("{version} is released"));
        }
        Some(version) => format!("after the merge: git tag --annotate {version}"),
        None => "after the merge: git tag --annotate <version>".to_owned(),
    };
    item(Task::AnnotatedTag, State::Todo, what)
}
