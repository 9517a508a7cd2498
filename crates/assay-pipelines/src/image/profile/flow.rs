//! What happens on a test machine, in order: phases, the lines that end them, and what is typed.

use assay_console::Rung;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Span, is_default};

/// One step that is waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Phase {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// The line (a regular expression) that ends it. Its groups are kept.
    pub marker: String,
    /// How long it may take, from the end of the one before it. Stretched on a runner that is slower than the one that
    /// times are given for; see `docs/guide/image-profiles.md`.
    pub timeout: Span,
    /// In which stage.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stage: Within,
    /// Where the marker is looked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub channel: Channel,
    /// Lines that end the run at once, as failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fail: Vec<String>,
    /// What is typed when the machine asks.
    #[serde(default, rename = "reply", skip_serializing_if = "Vec::is_empty")]
    pub replies: Vec<Reply>,
}

/// The stage that a phase belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Within {
    /// While the medium comes up.
    Boot,
    /// While it installs.
    #[default]
    Install,
    /// While the installed system comes up.
    Reboot,
}

/// Where a marker is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// On the serial console and on the screen.
    #[default]
    Any,
    /// On the serial console.
    Serial,
    /// On the screen.
    Screen,
    /// On the out-of-band port `org.assay.progress.0`, which kernel messages cannot reach.
    Progress,
}

/// What is typed when something is seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reply {
    /// The prompt, a regular expression.
    pub on: String,
    /// Text for the serial console; `\n` is the return key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Keys for the keyboard, by QEMU's names: `["y", "ret"]`, `["ctrl-alt-delete"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

/// What the machine does when its installation is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ends {
    /// It reboots or switches itself off; if it does neither in time, its power button is pressed.
    #[default]
    Any,
    /// It reboots.
    Reboot,
    /// It switches itself off.
    PowerOff,
    /// It stays on; its power button is pressed.
    StaysOn,
}

/// What is read off the console all the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ConsoleRules {
    /// Lines that end the run at once, as failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fail: Vec<String>,
    /// Codes of the failure catalogue that this image is known to print without harm.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// How long a prompt may stand unanswered.
    pub prompt: Span,
    /// How long nothing at all may be heard or seen.
    pub silence: Span,
    /// Lines that a secret would show in; beside the staged secrets themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

impl Default for ConsoleRules {
    fn default() -> Self {
        Self {
            fail: Vec::new(),
            allow: Vec::new(),
            prompt: Span::seconds(20),
            silence: Span::seconds(120),
            secrets: Vec::new(),
        }
    }
}

impl Within {
    /// The rung that a machine has reached that has printed a marker of such a phase.
    pub const fn implies(self) -> Rung {
        match self {
            Self::Boot => Rung::Firmware,
            Self::Install | Self::Reboot => Rung::Userspace,
        }
    }
}
