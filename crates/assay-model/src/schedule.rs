//! What is tested again without anybody asking each time: by a schedule, or as a batch over many targets.
//!
//! Plain data that operators write and that is kept as it was written. When a schedule's time comes, and which target of a
//! batch is next, is decided by the engine.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::order::Profile;
use crate::text::plural;

/// A schedule's name, and a label of a host: letters, digits and `.`, `_`, `-`; at most so many.
pub const MAX_NAME: usize = 64;
/// How long after its time a schedule is caught up with, unless it says otherwise: a night and a morning.
pub const CATCH_UP_S: u32 = 12 * 3600;
/// Over how long schedules of one time are spread, unless they say otherwise.
pub const SPREAD_S: u32 = 300;
/// After how many failures a batch stops by itself, unless it says otherwise.
pub const STOP_AFTER: u32 = 2;

/// What is tested again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum Again {
    /// Registered hosts are vetted: those that are named, have one of the labels, or are of one of the kinds; all of them
    /// where nothing is said.
    Hosts {
        /// By their names.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        names: Vec<String>,
        /// By a label: `rack7`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        labels: Vec<String>,
        /// By a part of what their main board is called, as the compatibility matrix names it: `X11SSH`. Case does not matter.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kinds: Vec<String>,
        /// How thoroughly.
        #[serde(default)]
        profile: Profile,
    },
    /// Recipes are tested, each as it was last asked for as a whole and for no pull request: the same folder, as it is by then.
    Recipes {
        /// By their names; all that were ever tested here where none is named.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        names: Vec<String>,
        /// Only those whose folder lies in this one, on the runner.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<PathBuf>,
    },
    /// An image is tested as it was last asked for: the same file, as it is by then, with the same profile.
    Image {
        /// By the name in its profile.
        name: String,
    },
}

impl Again {
    /// In words: `vet all hosts (standard)`.
    pub fn told(&self) -> String {
        match self {
            Self::Hosts { names, labels, kinds, profile } => {
                let mut which: Vec<String> = names.clone();
                which.extend(labels.iter().map(|label| format!("those labelled {label}")));
                which.extend(kinds.iter().map(|kind| format!("those of kind {kind}")));
                let which = if which.is_empty() { "all hosts".to_owned() } else { which.join(", ") };
                format!("vet {which} ({profile})")
            }
            Self::Recipes { names, folder } => {
                let which = match names.len() {
                    0 => "all known recipes".to_owned(),
                    1..=4 => format!(
                        "{} {}",
                        if names.len() == 1 { "recipe" } else { "recipes" },
                        names.join(", ")
                    ),
                    n => plural(n, "recipe"),
                };
                let place = folder.as_ref().map(|folder| format!(" in {}", folder.display()));
                format!("test {which}{}", place.unwrap_or_default())
            }
            Self::Image { name } => format!("test image {name}"),
        }
    }

    /// Whether machines are taken out of use for it.
    pub const fn is_hosts(&self) -> bool {
        matches!(self, Self::Hosts { .. })
    }
}

/// When a schedule's time comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Minute, hour, day of the month, month, day of the week: `0 3 * * 1-5`.
    pub cron: String,
    /// The time zone that this is read in: `Europe/Berlin`.
    pub zone: String,
    /// How long after its time it is caught up with, in seconds; later than that it is left out and said to be missed.
    pub catch_up_s: u32,
    /// Over how long schedules of one time are spread, in seconds. Each has a place of its own in it, which depends on its name.
    pub spread_s: u32,
}

/// What holds a batch back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most targets under test at once, those that are held for a decision among them; no limit but the queue's with none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u32>,
    /// After so many failures nothing more is begun; never with none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<u32>,
}

impl Limits {
    /// In words: `1 at once, stops after 2 failures`; empty without any.
    pub fn told(&self) -> String {
        let at_most = self.at_most.map(|n| format!("{n} at once"));
        let stop_after = self.stop_after.map(|n| format!("stops after {}", plural(n as usize, "failure")));
        at_most.into_iter().chain(stop_after).collect::<Vec<_>>().join(", ")
    }
}

/// Whether a text may be a schedule's name or a host's label.
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_tested_is_told_in_words_and_kept_as_it_was_written() {
        let cases = [
            (json!({"what": "hosts"}), "vet all hosts (standard)"),
            (
                json!({"what": "hosts", "names": ["db-1"], "labels": ["rack7"], "kinds": ["X11"], "profile": "quick"}),
                "vet db-1, those labelled rack7, those of kind X11 (quick)",
            ),
            (json!({"what": "recipes"}), "test all known recipes"),
            (json!({"what": "recipes", "names": ["wiki"]}), "test recipe wiki"),
            (
                json!({"what": "recipes", "names": ["a", "b", "c", "d", "e"], "folder": "/r"}),
                "test 5 recipes in /r",
            ),
            (json!({"what": "image", "name": "node"}), "test image node"),
        ];
        for (written, told) in cases {
            let again: Again = serde_json::from_value(written.clone()).expect("reads");
            assert_eq!(again.told(), told);
            let kept: Again = serde_json::from_value(json!(again)).expect("reads again");
            assert_eq!(kept, again);
        }
        for wrong in
            [json!({"what": "host"}), json!({"what": "hosts", "label": ["x"]}), json!({"what": "image"})]
        {
            assert!(serde_json::from_value::<Again>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_and_names() {
        assert_eq!(Limits::default().told(), "");
        let limits = Limits { at_most: Some(3), stop_after: Some(1) };
        assert_eq!(limits.told(), "3 at once, stops after 1 failure");
        assert!(
            is_name("nightly-1.b_2") && !is_name("") && !is_name("a b") && !is_name("../x") && !is_name("ü")
        );
        assert!(is_name(&"x".repeat(MAX_NAME)) && !is_name(&"x".repeat(MAX_NAME + 1)));
    }
}
