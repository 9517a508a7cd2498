//! What was seen on a console. It is evidence, so its form is a contract.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::Severity;
use crate::ladder::Rung;
use crate::line::Source;
use crate::marker::MarkerKind;
use crate::prompt::PromptKind;

/// Something that was seen, when, and the line that shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sighting {
    /// The time of the chunk that completed it, in milliseconds since the machine's start; for what is seen in quiet,
    /// the time at which it was noticed.
    #[serde(rename = "at_ms", with = "crate::millis")]
    #[schemars(with = "u64")]
    pub at: Duration,
    /// The [number](crate::Line::number) of the line; 0 for silence before the first line.
    pub line: u64,
    /// The line as it was then. Of an unfinished line, what had come of it.
    pub text: String,
    /// Who wrote the line.
    pub source: Source,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
}

/// The kinds of sightings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// An armed marker.
    Marker {
        /// The marker's name.
        name: String,
        /// Whether it is waited for or must not come.
        marker: MarkerKind,
        /// What its groups captured, by name or, without one, by number.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        captures: BTreeMap<String, String>,
    },
    /// The machine got higher in its boot, or begins another.
    Rung {
        /// How far it is.
        rung: Rung,
        /// Which boot this is, from 1. The next begins when firmware or a bootloader speaks again.
        boot: u32,
    },
    /// A pattern of the failure catalogue.
    Failure {
        /// Its code, such as `KernelPanic`.
        code: String,
        /// Whether it ends the phase.
        severity: Severity,
        /// What it means.
        meaning: String,
        /// What to do next.
        next_step: String,
        /// The version of the catalogue.
        catalogue: u32,
    },
    /// The machine waits for an answer that nobody gives.
    StuckPrompt {
        /// The prompt.
        prompt: String,
        /// What it asks for.
        prompt_kind: PromptKind,
    },
    /// The machine waits at a shell.
    IdleShell {
        /// The shell's prompt.
        prompt: String,
        /// Which shell.
        prompt_kind: PromptKind,
    },
    /// The machine waits at a login prompt. That may be where it should be.
    IdleLogin {
        /// The prompt.
        prompt: String,
    },
    /// Nothing came.
    Silent {
        /// The time of the last output, in milliseconds since the machine's start; 0 if there was none.
        #[serde(rename = "since_ms", with = "crate::millis")]
        #[schemars(with = "u64")]
        since: Duration,
    },
}

impl Sighting {
    /// It ends the phase: a hard failure marker or a failure that the machine does not come back from.
    pub fn is_fatal(&self) -> bool {
        match &self.what {
            What::Marker { marker, .. } => *marker == MarkerKind::HardFail,
            What::Failure { severity, .. } => *severity == Severity::Fatal,
            _ => false,
        }
    }
}
