//! What was observed and what to do about it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::StageName;

/// How bad an observation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; changes nothing.
    Info,
    /// Should be looked at; does not fail a stage by itself.
    Warning,
    /// Fails the stage that found it.
    Critical,
}

impl Severity {
    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The part a finding blames, named as someone with a screwdriver would look for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// What kind of thing: `dimm`, `disk`, `nic`, `cpu`, `sensor`, `system` …
    pub kind: String,
    /// Where it sits: slot, bay, bus address or interface name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Its serial number, when it has told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if let Some(location) = &self.location {
            write!(f, " {location}")?;
        }
        if let Some(serial) = &self.serial {
            write!(f, " (serial {serial})")?;
        }
        Ok(())
    }
}

/// One observation: a stable code, the part it blames, the evidence, and the next step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Stable, in CamelCase, listed in `docs/reference/findings.md`; what `--mute` names.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// The stage that found it; absent for findings about the run itself.
    #[serde(default)]
    pub stage: Option<StageName>,
    /// What to look at in the machine.
    #[serde(default)]
    pub part: Option<Part>,
    /// What was expected and what was seen, in one sentence. May contain text that the machine
    /// under test chose: escape it wherever it is shown.
    pub message: String,
    /// What the operator should do, in one sentence.
    pub next_step: String,
    /// Names of the artifacts that show it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

impl Finding {
    /// A finding with the parts that every finding has.
    pub fn new(
        code: &str,
        severity: Severity,
        message: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        Self {
            code: code.to_owned(),
            severity,
            stage: None,
            part: None,
            message: message.into(),
            next_step: next_step.into(),
            evidence: Vec::new(),
        }
    }

    /// Blames a part.
    #[must_use]
    pub fn part(mut self, kind: &str, location: Option<&str>, serial: Option<&str>) -> Self {
        self.part = Some(Part {
            kind: kind.to_owned(),
            location: location.map(str::to_owned),
            serial: serial.map(str::to_owned),
        });
        self
    }

    /// Points to an artifact that shows it.
    #[must_use]
    pub fn evidence(mut self, artifact: impl Into<String>) -> Self {
        self.evidence.push(artifact.into());
        self
    }

    /// Says which stage found it.
    #[must_use]
    pub fn stage(mut self, stage: &StageName) -> Self {
        self.stage = Some(stage.clone());
        self
    }
}
