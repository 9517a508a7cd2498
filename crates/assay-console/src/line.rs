//! One line of a console, as a person would have read it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The kernel's log: the line carries its time stamp or level. What a program writes to `/dev/kmsg` counts as well.
    Kernel,
    /// Everything else on the serial port: firmware, bootloader, programs; and a kernel that prints no time stamps.
    Serial,
    /// The screen.
    Screen,
}

/// One line of a clean transcript: no escape sequences, no carriage returns, kernel messages on lines of their own.
/// Blank lines are not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// Counts the lines of a console from 1, in the order in which they began. Lines come in the order in which they
    /// ended: a line that a kernel message cut in two comes after the message.
    pub number: u64,
    /// When the line ended: the time of the chunk that brought its line feed, in milliseconds since the machine's
    /// start.
    #[serde(rename = "at_ms", with = "crate::millis")]
    #[schemars(with = "u64")]
    pub at: Duration,
    /// The text without its line end and the spaces before that.
    pub text: String,
    /// Who wrote it.
    pub source: Source,
    /// The line went on past [`MAX_LINE`](crate::MAX_LINE) characters, and the next one is its rest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}
