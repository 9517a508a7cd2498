//! Forges: `GET /api/v1/forges` shows what is listened to and what was asked lately; `POST /api/v1/forges/{name}/check` asks a
//! forge what our token may do.

use assay_model::Micros;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/forges`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forges {
    /// The forges in the settings.
    pub forges: Vec<Forge>,
    /// What was asked lately, newest first.
    pub asked: Vec<Asked>,
}

/// A forge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forge {
    /// Its name in the settings.
    pub name: String,
    /// `forgejo` or `github`.
    pub kind: String,
    /// Its address.
    pub address: String,
    /// What is listened to.
    pub repositories: Vec<String>,
    /// Who may ask, in words.
    pub who_may: String,
    /// The branch that tests are taken from; none for each repository's first.
    pub trusted: Option<String>,
    /// `none`, `taken` or `registered`.
    pub webhooks: String,
    /// A repository in which something was said lately is asked every so many seconds, the others every so many.
    pub every_s: (u32, u32),
    /// Questions per hour that this comes to, and what the budget allows.
    pub calls_per_hour: (u32, u32),
    /// Questions that were asked in the last hour, and those that the forge counts.
    pub asked_last_hour: (u64, u64),
    /// What does not work at present, in words with what to do.
    pub troubles: Vec<Trouble>,
    /// Images that pull requests ask for by what they touch, each with its repository, in words.
    #[serde(default)]
    pub images: Vec<String>,
}

/// Something that does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The repository; none for the whole forge.
    pub repository: Option<String>,
    /// What, and what to do.
    pub message: String,
    /// Since when.
    pub since: Micros,
}

/// A comment that asked for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The forge's name in the settings.
    pub forge: String,
    /// `OWNER/REPOSITORY`.
    pub repository: String,
    /// The pull request.
    pub pull: i64,
    /// Where people find it.
    pub page: Option<String>,
    /// Who wrote it; none when that account is gone.
    pub author: Option<String>,
    /// The command, or why it was not understood.
    pub said: String,
    /// When it was heard.
    pub heard_at: Micros,
    /// What became of it; none while that is open.
    pub outcome: Option<String>,
    /// How often an answer was tried in vain.
    pub tries: u32,
    /// Its run's number.
    pub run: Option<i64>,
}

/// `POST /api/v1/forges/{name}/check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Whose token it is; none where the forge does not say.
    pub token_of: Option<String>,
    /// What was tried, each with what came of it.
    pub tried: Vec<Tried>,
}

/// Something that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// What: `read comments of apps/wiki`.
    pub what: String,
    /// Whether it worked.
    pub ok: bool,
    /// What came of it, with what to do where it did not work.
    pub message: String,
}
