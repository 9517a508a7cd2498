//! A terminal on a held machine, version 1: between the operator, the control plane and the agent.
//!
//! Two streams of bytes, both counted from 0: what is typed and what is shown. Whoever sends names the place at which
//! its bytes begin, whoever asks names the place from which it wants them; so everything may be said again, and
//! nothing arrives twice. The agent asks, here as everywhere: nothing is pushed to a machine. Bytes travel as base64.
//!
//! | who | what |
//! |---|---|
//! | operator | `POST /api/v1/hosts/{name}/shell` ([`OpenShell`] → [`ShellOpened`]) |
//! | operator | `POST /api/v1/shells/{id}/input` ([`Typed`] → [`Taken`]) |
//! | operator | `GET /api/v1/shells/{id}/output?after=N&wait_s=N` ([`Shown`]) |
//! | operator | `DELETE /api/v1/shells/{id}` |
//! | agent | `POST /agent/v1/shell/{id}/attach` ([`Attach`] → [`ShellOrder`]) |
//! | agent | `POST /agent/v1/shell/{id}/output` ([`Output`] → [`Taken`]) |
//! | agent | `GET /agent/v1/shell/{id}/input?worker=W&after=N&cols=N&rows=N&wait_s=N` ([`Input`]) |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most bytes in one message.
pub const MAX_BYTES: usize = 32 << 10;

/// Longest command, in bytes.
pub const MAX_COMMAND: usize = 16 << 10;

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermSize {
    /// Columns, at least 1.
    pub cols: u16,
    /// Rows, at least 1.
    pub rows: u16,
}

impl Default for TermSize {
    fn default() -> Self {
        Self { cols: 80, rows: 24 }
    }
}

/// Opens a terminal on a held machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenShell {
    /// Why; stands in the audit trail and in the transcript.
    pub reason: String,
    /// Run this and end, instead of a login shell.
    #[serde(default)]
    pub command: Option<String>,
    /// How large the operator's terminal is.
    #[serde(default)]
    pub size: TermSize,
    /// What kind of terminal it is (`TERM`): letters, digits, `.`, `_`, `+`, `-`.
    #[serde(default)]
    pub term: Option<String>,
}

/// It is open; the agent will take it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellOpened {
    /// Names it from now on.
    pub id: String,
    /// The held run.
    pub run: i64,
    /// The name of its transcript among the run's files.
    pub transcript: String,
}

/// What an operator types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Typed {
    /// The place of the first byte.
    pub at: u64,
    /// The bytes; may be none, to tell a new size.
    #[serde(default)]
    pub data: Bytes,
    /// How large the terminal is now.
    #[serde(default)]
    pub size: Option<TermSize>,
}

/// How far a stream was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The place behind the last byte that was taken. Less than was sent: send the rest again.
    pub next: u64,
}

/// What the machine shows, from the place that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The bytes; none when nothing came in time.
    pub data: Bytes,
    /// The place behind them.
    pub next: u64,
    /// Set once it has ended, its transcript is stored, and `data` is the last of it.
    pub ended: Option<ShellEnd>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellEnd {
    /// What the shell or the command ended with, if it ended by itself; 128 and the number for a signal.
    pub status: Option<u8>,
    /// Why, for people.
    pub why: String,
    /// Whether the transcript is among the run's files. If not, the control plane tries again when it is started.
    pub stored: bool,
}

/// An agent takes a session. One process of it may, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Names this process of the agent; random.
    pub worker: String,
}

/// What the agent is to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellOrder {
    /// This and nothing else; a login shell without.
    pub command: Option<String>,
    /// How large the terminal is.
    pub size: TermSize,
    /// What kind of terminal it is.
    pub term: String,
}

/// What the machine shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The process that took the session.
    pub worker: String,
    /// The place of the first byte.
    pub at: u64,
    /// The bytes.
    pub data: Bytes,
    /// Set with the last bytes, once the shell has ended.
    #[serde(default)]
    pub exit: Option<ShellExit>,
}

/// How the shell ended, as the agent saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellExit {
    /// Its status; 128 and the number for a signal.
    pub status: Option<u8>,
    /// Why there was no shell, if there was none.
    pub problem: Option<String>,
}

/// What was typed, from the place that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The bytes; none when nothing came in time.
    pub data: Bytes,
    /// How large the terminal is now.
    pub size: TermSize,
}

/// Bytes that are base64 in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Typed};

    #[test]
    fn bytes_travel_as_base64() {
        let typed = Typed { at: 3, data: Bytes(vec![0xff, 0x03]), size: None };
        let json = serde_json::to_string(&typed).expect("plain data");
        assert_eq!(json, r#"{"at":3,"data":"/wM=","size":null}"#);
        assert_eq!(serde_json::from_str::<Typed>(&json).expect("reads back"), typed);
        assert!(serde_json::from_str::<Typed>(r#"{"at":0,"data":"***"}"#).is_err());
        assert!(serde_json::from_str::<Typed>(r#"{"at":-1}"#).is_err());
    }
}
