//! Every power cut of one installation: what each moment leaves on the disks, and what a machine makes of that.
//!
//! The oracle: a new system that is whole, the old one, or a refusal in plain words. Half a system is red, and one that
//! looks well is the worst of them. Pure; `bench/power_cuts` records and boots.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::{Outcome, Watched};
use super::power::{OLD, REFUSED};
use super::profile::Profile;

/// What a machine made of its disks after a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Became {
    /// The new system came up, and all that belongs to it is there.
    New,
    /// The old system came up.
    Old,
    /// It refused: nothing to boot, or a line that the profile names.
    Refused,
    /// The new system came up and is not whole: the silent half.
    Half,
    /// None of these: it crashed, hung, or asked.
    Broken,
    /// It was not seen: the runner failed.
    Unseen,
    /// It was not booted: the run was limited or stopped.
    NotTried,
}

impl Became {
    /// One letter, so that colour never carries a meaning alone.
    pub const fn letter(self) -> char {
        match self {
            Self::New => 'N',
            Self::Old => 'O',
            Self::Refused => 'R',
            Self::Half => 'H',
            Self::Broken => 'X',
            Self::Unseen => '?',
            Self::NotTried => '.',
        }
    }

    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::New => "new system",
            Self::Old => "old system",
            Self::Refused => "clean refusal",
            Self::Half => "silent half",
            Self::Broken => "broken",
            Self::Unseen => "not seen",
            Self::NotTried => "not booted",
        }
    }

    /// Whether an installer may leave this behind.
    pub const fn is_red(self) -> bool {
        matches!(self, Self::Half | Self::Broken)
    }
}

/// A moment in which the power could have gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CutAt {
    /// Its number, from 0 on.
    pub number: usize,
    /// When, in seconds since the installer was switched on; as exactly as the recording grew before the eyes of the runner.
    pub at_s: f64,
    /// After which phase.
    pub phase: String,
    /// The disk whose flush it is.
    pub disk: String,
    /// `start`, `flush`, `forced` (a write that was forced through) or `end`.
    pub moment: String,
    /// Writes and flushes of that disk up to then.
    pub entries: usize,
    /// Which state of the disks it leaves, in `states`.
    pub state: usize,
}

/// A state of all disks, and what a machine made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StateSeen {
    /// Its number: that of the first moment that leaves it.
    pub first: usize,
    /// How many moments leave it.
    pub moments: usize,
    /// What became of it.
    pub became: Became,
    /// The code of what happened, where it is one of the findings' codes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Why, for people.
    pub why: String,
    /// How long the machine was watched.
    pub seconds: f64,
    /// The transcript, where it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<String>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PowerCuts {
    /// The profile's name.
    pub profile: String,
    /// What chance was drawn from.
    pub seed: u32,
    /// How guests were run, and why.
    pub accel: String,
    /// By how much limits were stretched.
    pub stretch: f64,
    /// How long the recorded installation took, to its success marker and to its end.
    pub installed_s: (f64, f64),
    /// Bytes that were written.
    pub written: u64,
    /// The moments, in the order of time.
    pub cuts: Vec<CutAt>,
    /// The states.
    pub states: Vec<StateSeen>,
    /// Whether every state was booted and seen.
    pub complete: bool,
    /// What this does not cover, one sentence each.
    pub not_covered: Vec<String>,
    /// What is wrong, one sentence each; nothing where all is well.
    pub problems: Vec<String>,
}

impl PowerCuts {
    /// The states of a kind, and the moments that leave them.
    pub fn count(&self, became: Became) -> (usize, usize) {
        let states = self.states.iter().filter(|state| state.became == became);
        states.fold((0, 0), |(states, moments), state| (states + 1, moments + state.moments))
    }

    /// What a moment became.
    pub fn became(&self, cut: &CutAt) -> Became {
        self.states.get(cut.state).map_or(Became::Unseen, |state| state.became)
    }

    /// Draws together what is wrong: red states, and an end that shows that nothing was shown.
    pub fn conclude(&mut self) {
        self.complete = self.states.iter().all(|s| !matches!(s.became, Became::Unseen | Became::NotTried));
        let mut problems = Vec::new();
        for state in self.states.iter().filter(|state| state.became.is_red()) {
            let Some(cut) = self.cuts.get(state.first) else { continue };
            problems.push(format!(
                "a cut after {:.1} s, after {}, leaves a system that is {}: {}",
                cut.at_s,
                cut.phase,
                state.became.words(),
                state.why
            ));
        }
        // Without a new system at the end nothing is known of those before it.
        match self.cuts.last().map(|cut| self.became(cut)) {
            Some(Became::New | Became::NotTried | Became::Half | Became::Broken) => {}
            Some(other) => problems.push(format!(
                "the finished installation did not come up as a new system ({}): nothing can be said of what comes before",
                other.words()
            )),
            None => problems.push("nothing was recorded".to_owned()),
        }
        self.problems = problems;
    }
}

/// The files of all volumes: disk, volume and path, with what tells their contents apart.
pub(crate) type Files = BTreeMap<String, String>;

/// What is known of the disks before they are booted.
pub(crate) struct Found<'a> {
    /// Whether the firmware finds code to start on any of them.
    pub(crate) startable: bool,
    /// What the profile wants there and is not.
    pub(crate) missing: Vec<String>,
    /// Files, where they can be read.
    pub(crate) files: &'a Files,
    /// The files as they were at the success marker.
    pub(crate) complete: &'a Files,
    /// Whether this is a moment after the success marker: then files may have changed since.
    pub(crate) after_success: bool,
}

/// What a machine made of its disks: the class, the code and why.
pub(crate) fn judged(profile: &Profile, found: &Found<'_>, watched: &Watched) -> (Became, String, String) {
    let said = |class: Became, code: &str, why: String| (class, code.to_owned(), why);
    match &watched.outcome {
        Outcome::RunnerFault { why } => return said(Became::Unseen, "", why.clone()),
        Outcome::PowerCut => return said(Became::Unseen, "", "its power was cut meanwhile".to_owned()),
        Outcome::Reached => {}
        Outcome::Failed { code, line, .. } if code == OLD => {
            return said(Became::Old, "", super::outcome::line(line));
        }
        Outcome::Failed { code, line, .. } if code == REFUSED || refuses(profile, line) => {
            return said(Became::Refused, "", super::outcome::line(line));
        }
        Outcome::Failed { code, line, .. } if code == "NoBootableDevice" || code == "EfiShell" => {
            return said(Became::Refused, code, super::outcome::line(line));
        }
        _ if !found.startable => {
            return said(
                Became::Refused,
                "",
                "there is nothing on the disks that the firmware could start".to_owned(),
            );
        }
        _ => {
            let finding = super::outcome::outcome(watched);
            let (code, why) = finding.map(|finding| (finding.code, finding.message)).unwrap_or_default();
            return (Became::Broken, code, why);
        }
    }
    let mut lacking = found.missing.clone();
    for (file, content) in found.complete {
        match found.files.get(file) {
            Some(now) if now == content || found.after_success => {}
            Some(_) => lacking.push(format!("{file} (other than it became)")),
            None => lacking.push(file.clone()),
        }
    }
    if lacking.is_empty() {
        let files = found.complete.len();
        return said(Became::New, "", format!("it came up, and all of its {files} files are there"));
    }
    let shown = lacking.iter().take(3).map(|file| assay_model::text::clean_to(file, 80)).collect::<Vec<_>>();
    let more = lacking.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    said(
        Became::Half,
        "HalfInstalled",
        format!("it came up, and there is missing: {}{more}", shown.join(", ")),
    )
}

fn refuses(profile: &Profile, line: &str) -> bool {
    profile.power_cut.refuses.iter().any(|one| regex::Regex::new(one).is_ok_and(|one| one.is_match(line)))
}

/// Which of so many states are booted when no more than `limit` may be: the first, the last, and evenly between.
pub(crate) fn chosen(states: usize, limit: Option<usize>) -> Vec<usize> {
    match limit {
        Some(limit) if limit < states => match limit {
            0 => Vec::new(),
            1 => vec![states - 1],
            _ => (0..limit).map(|place| place * (states - 1) / (limit - 1)).collect(),
        },
        _ => (0..states).collect(),
    }
}

/// When the log of a disk had grown to this length: `grown` are seconds and lengths, both rising.
pub(crate) fn when(grown: &[(f64, u64)], length: u64) -> f64 {
    let at = grown.partition_point(|(_, seen)| *seen < length);
    grown.get(at).or(grown.last()).map_or(0.0, |(seconds, _)| *seconds)
}

#[cfg(test)]
#[path = "cuts_tests.rs"]
mod tests;
