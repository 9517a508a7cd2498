//! `power-cuts.json`, format 1: every moment of one installation in which the power could have gone, and what a machine
//! made of what it left on the disks.
//!
//! A new system that is whole, the old one and a refusal in plain words are right. Half a system is red, and what was
//! not booted or not seen is no pass.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Sha256, text};

/// The format written by this code.
pub const FORMAT: u32 = 1;

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
    /// All of them, as a report lists them.
    pub const ALL: [Self; 7] =
        [Self::New, Self::Old, Self::Refused, Self::Half, Self::Broken, Self::Unseen, Self::NotTried];

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

    /// Whether no installer may leave this behind.
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
#[schemars(title = "Assay power cuts")]
pub struct PowerCuts {
    /// `1`.
    pub format: u32,
    /// The profile's name.
    pub profile: String,
    /// The image's file name.
    pub image: String,
    /// The image's digest.
    pub sha256: Sha256,
    /// The version of Assay that wrote this.
    pub assay: String,
    /// What chance was drawn from.
    pub seed: u32,
    /// How guests were run, and why.
    pub accel: String,
    /// By how much limits were stretched.
    pub stretch: f64,
    /// When the marker of success came in the recorded installation, in seconds since the machine was switched on.
    pub success_s: f64,
    /// When it had ended.
    pub ended_s: f64,
    /// Bytes that were written.
    pub written: u64,
    /// The moments, in the order of time.
    pub cuts: Vec<CutAt>,
    /// The states.
    pub states: Vec<StateSeen>,
    /// So many states were to be booted at most; all of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
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
                "{} (the first after {:.1} s, after {}): {}: {}",
                text::plural(state.moments, "moment"),
                cut.at_s,
                cut.phase,
                state.became.words(),
                state.why
            ));
        }
        // Without a new system at the end nothing is known of those before it.
        match self.cuts.last().map(|cut| self.became(cut)) {
            Some(Became::Old | Became::Refused) => problems.push(
                "the finished installation did not come up as a new system: nothing can be said of what comes before"
                    .to_owned(),
            ),
            Some(_) => {}
            None => problems.push("nothing was recorded".to_owned()),
        }
        self.problems = problems;
    }

    /// The moments, drawn together: those of one phase that follow each other and came to the same are one stretch. Those
    /// that were not booted end none.
    pub fn stretches(&self) -> Vec<Stretch> {
        let mut all: Vec<Stretch> = Vec::new();
        for cut in &self.cuts {
            let became = self.became(cut);
            let tried = usize::from(became != Became::NotTried);
            let last = all.last_mut().filter(|last| {
                let same = last.became == became || tried == 0 || last.became == Became::NotTried;
                last.phase == cut.phase && same
            });
            if let Some(last) = last {
                last.last = cut.number;
                last.moments += 1;
                last.booted += tried;
                if last.became == Became::NotTried {
                    (last.became, last.state) = (became, cut.state);
                }
            } else {
                all.push(Stretch {
                    first: cut.number,
                    last: cut.number,
                    moments: 1,
                    booted: tried,
                    phase: cut.phase.clone(),
                    became,
                    state: cut.state,
                });
            }
        }
        all
    }

    /// How many states were booted.
    pub fn booted(&self) -> usize {
        self.states.iter().filter(|state| state.became != Became::NotTried).count()
    }

    /// One sentence behind the verdict.
    pub fn why(&self) -> String {
        let states = text::plural(self.states.len(), "different state");
        match self.verdict() {
            CutsVerdict::Pass => format!(
                "Each of {} leaves a new system that is whole, the old one, or a refusal; all {states} were booted.",
                text::plural(self.cuts.len(), "moment")
            ),
            CutsVerdict::PassInPart => format!(
                "What was booted is right: {} of {states}. The others were not asked for, and nothing is known of them.",
                self.booted()
            ),
            CutsVerdict::Fail => self.problems.first().cloned().unwrap_or_default(),
            CutsVerdict::NoResult => {
                let (unseen, _) = self.count(Became::Unseen);
                format!(
                    "Not everything that was asked for was seen: {} of {states} were booted, and of {unseen} the runner saw \
                     nothing.",
                    self.booted()
                )
            }
        }
    }

    /// The verdict.
    pub fn verdict(&self) -> CutsVerdict {
        let seen = |became: Became| self.states.iter().any(|state| state.became == became);
        let asked = self.limit.map_or(self.states.len(), |limit| limit.min(self.states.len()));
        if !self.problems.is_empty() {
            CutsVerdict::Fail
        } else if seen(Became::Unseen) || self.booted() < asked {
            CutsVerdict::NoResult
        } else if self.complete {
            CutsVerdict::Pass
        } else {
            CutsVerdict::PassInPart
        }
    }
}

/// Moments of one phase that follow each other and came to the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The number of the first.
    pub first: usize,
    /// The number of the last.
    pub last: usize,
    /// How many.
    pub moments: usize,
    /// How many of them leave a state that was booted.
    pub booted: usize,
    /// After which phase.
    pub phase: String,
    /// What they became.
    pub became: Became,
    /// The first state that was booted, in `states`.
    pub state: usize,
}

/// What is to be said of all cuts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutsVerdict {
    /// Every moment leaves something that is right.
    Pass,
    /// So does every one that was booted, and no more were asked for.
    PassInPart,
    /// A moment leaves something that is not.
    Fail,
    /// It was stopped, or the runner failed.
    NoResult,
}

impl CutsVerdict {
    /// In words that need no colour.
    pub const fn headline(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::PassInPart => "PASS – NOT THE WHOLE",
            Self::Fail => "FAIL",
            Self::NoResult => "NO RESULT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An installation with one moment for each kind, each a state of its own that another moment shares.
    fn all(kinds: &[Became], limit: Option<usize>) -> PowerCuts {
        let cut = |number: usize| CutAt {
            number,
            at_s: 10.0,
            phase: "partitioned".into(),
            disk: "NV0".into(),
            moment: "flush".into(),
            entries: number,
            state: number,
        };
        let state = |first, became: Became| StateSeen {
            first,
            moments: 2,
            became,
            code: String::new(),
            why: "so it was".into(),
            seconds: 1.0,
            transcript: None,
        };
        let mut cuts = PowerCuts {
            format: FORMAT,
            profile: "x".into(),
            image: "x.iso".into(),
            sha256: Sha256::of(b"x"),
            assay: "0.1.0".into(),
            seed: 1,
            accel: "kvm".into(),
            stretch: 1.0,
            success_s: 20.0,
            ended_s: 25.0,
            written: 1,
            cuts: (0..kinds.len()).map(cut).collect(),
            states: kinds.iter().enumerate().map(|(place, kind)| state(place, *kind)).collect(),
            limit,
            complete: false,
            not_covered: Vec::new(),
            problems: Vec::new(),
        };
        cuts.conclude();
        cuts
    }

    #[test]
    fn the_conclusion_names_each_red_state_and_needs_a_new_system_at_the_end() {
        let well = all(&[Became::Refused, Became::Old, Became::New], None);
        assert!(well.complete && well.problems.is_empty(), "{well:#?}");
        assert_eq!((well.count(Became::New), well.verdict()), ((1, 2), CutsVerdict::Pass));
        let half = all(&[Became::Refused, Became::Half, Became::New], None);
        assert_eq!(
            half.problems,
            ["2 moments (the first after 10.0 s, after partitioned): silent half: so it was"]
        );
        assert_eq!(half.verdict(), CutsVerdict::Fail);
        let never = all(&[Became::Refused, Became::Refused], None);
        assert!(never.problems[0].starts_with("the finished installation did not"), "{never:#?}");
        assert_eq!(all(&[], None).problems, ["nothing was recorded"]);
    }

    #[test]
    fn what_was_not_seen_is_no_pass() {
        let rows = [
            (vec![Became::Refused, Became::NotTried, Became::New], None, CutsVerdict::NoResult),
            (vec![Became::Refused, Became::NotTried, Became::New], Some(3), CutsVerdict::NoResult),
            (vec![Became::Refused, Became::NotTried, Became::New], Some(2), CutsVerdict::PassInPart),
            (vec![Became::Refused, Became::NotTried, Became::NotTried], Some(2), CutsVerdict::NoResult),
            (vec![Became::Refused, Became::New], Some(7), CutsVerdict::Pass),
            (vec![Became::Unseen, Became::New], None, CutsVerdict::NoResult),
            (vec![Became::Unseen, Became::NotTried, Became::New], Some(2), CutsVerdict::NoResult),
            (vec![Became::Broken, Became::Unseen, Became::New], None, CutsVerdict::Fail),
        ];
        for (kinds, limit, verdict) in rows {
            assert_eq!(all(&kinds, limit).verdict(), verdict, "{kinds:?} {limit:?}");
        }
    }

    #[test]
    fn moments_that_came_to_the_same_are_one_stretch_until_the_phase_ends() {
        use Became::{Half, New, NotTried, Refused};
        let mut cuts = all(&[NotTried, Refused, NotTried, Refused, Half, New, New], Some(5));
        for (number, cut) in cuts.cuts.iter_mut().enumerate() {
            cut.phase = if number < 6 { "partitioned" } else { "installed" }.into();
        }
        let told: Vec<_> = cuts
            .stretches()
            .into_iter()
            .map(|one| (one.first, one.last, one.moments, one.booted, one.became, one.state))
            .collect();
        assert_eq!(
            told,
            [(0, 3, 4, 2, Refused, 1), (4, 4, 1, 1, Half, 4), (5, 5, 1, 1, New, 5), (6, 6, 1, 1, New, 6)]
        );
        assert!(all(&[], None).stretches().is_empty());
    }

    #[test]
    fn each_verdict_says_what_it_rests_on() {
        let says = |kinds: &[Became], limit| {
            let cuts = all(kinds, limit);
            format!("{}. {}", cuts.verdict().headline(), cuts.why())
        };
        assert_eq!(
            says(&[Became::Refused, Became::New], None),
            "PASS. Each of 2 moments leaves a new system that is whole, the old one, or a refusal; all 2 different states \
             were booted."
        );
        assert_eq!(
            says(&[Became::Refused, Became::NotTried, Became::New], Some(2)),
            "PASS – NOT THE WHOLE. What was booted is right: 2 of 3 different states. The others were not asked for, and \
             nothing is known of them."
        );
        assert_eq!(
            says(&[Became::Half, Became::New], None),
            "FAIL. 2 moments (the first after 10.0 s, after partitioned): silent half: so it was"
        );
        assert_eq!(
            says(&[Became::Unseen, Became::NotTried, Became::New], None),
            "NO RESULT. Not everything that was asked for was seen: 2 of 3 different states were booted, and of 1 the \
             runner saw nothing."
        );
    }

    #[test]
    fn each_kind_has_a_letter_and_words_of_its_own() {
        let letters: std::collections::BTreeSet<_> = Became::ALL.map(Became::letter).into();
        let words: std::collections::BTreeSet<_> = Became::ALL.map(Became::words).into();
        assert_eq!((letters.len(), words.len()), (Became::ALL.len(), Became::ALL.len()));
    }
}
