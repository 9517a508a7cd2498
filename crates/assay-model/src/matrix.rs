//! `matrix.json`, format 1: one image in many cases, each case with every try that it was given.
//!
//! A case's verdict is a fold of its tries, and no try is ever dropped: a case that failed and then passed is `flaky`, and
//! a pass that speaks for less than the whole pipeline says so in its word.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Sha256;

/// The format written by this code.
pub const FORMAT: u32 = 1;

/// The whole matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Assay matrix report")]
pub struct Matrix {
    /// `1`.
    pub format: u32,
    /// The profile's name.
    pub name: String,
    /// The image's file name.
    pub image: String,
    /// Its digest: what is carried over from an earlier matrix was seen of these bytes.
    pub sha256: Sha256,
    /// The version of Assay that wrote this.
    pub assay: String,
    /// RFC 3339, when this matrix was begun.
    pub began_at: String,
    /// RFC 3339, when it was written.
    pub ended_at: String,
    /// The axes with their values, in the profile's order. None: the profile has no matrix.
    pub axes: Vec<MatrixAxis>,
    /// The cases, in the order of the axes.
    pub cases: Vec<MatrixCase>,
    /// Cases of the profile that were not asked for, and are not in this report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_asked: Vec<String>,
    /// The quarantine, entry by entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantine: Vec<QuarantineEntry>,
}

/// An axis, as `matrix.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MatrixAxis {
    /// Its name.
    pub name: String,
    /// Its values' names.
    pub values: Vec<String>,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MatrixCase {
    /// `firmware=uefi,disks=three`.
    pub name: String,
    /// Axis → value.
    pub values: BTreeMap<String, String>,
    /// Digest of what the image was held to, with the files that the profile names.
    pub held_to: Sha256,
    /// Every try, in order; none when it was not run.
    pub tries: Vec<MatrixTry>,
    /// The quarantine that its failure is in. It does not count for the exit code then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excused: Option<Excuse>,
}

/// One try of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MatrixTry {
    /// From 1.
    pub number: u32,
    /// Its folder, from the matrix's own: `cases/firmware=uefi/1`.
    pub folder: String,
    /// The run's id.
    pub run: String,
    /// What came out.
    pub verdict: TryVerdict,
    /// The stage where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Codes of its critical findings, the decisive one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<String>,
    /// One sentence.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// How long it took, from leaving the queue to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Whether it was taken over from an earlier matrix.
    #[serde(default)]
    pub earlier: bool,
    /// The last stage that was run, where later ones were left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The phase from which it was to go on, on a machine that an earlier run left there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_phase: Option<String>,
    /// Codes of checks that were switched off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub muted: Vec<String>,
    /// How many things were not verified beside the verdict.
    #[serde(default)]
    pub unverified: usize,
}

/// What came out of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TryVerdict {
    /// It passed.
    Pass,
    /// It failed.
    Fail,
    /// Something that was asked for could not be verified, which is no pass.
    Unverified,
    /// There is none: the runner failed, or it was stopped.
    NoVerdict,
}

/// What came out of a case, over all its tries; from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaseVerdict {
    /// It passed, and no try failed.
    Pass,
    /// It passed, after a try that did not: nothing was changed in between, so one of the two is wrong.
    Flaky,
    /// It was not run.
    NotRun,
    /// The runner failed, or it was stopped.
    NoVerdict,
    /// Something that was asked for could not be verified.
    Unverified,
    /// It failed.
    Fail,
}

/// A quarantine, as far as it excuses a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Excuse {
    /// Who looks after it.
    pub owner: String,
    /// The last day, UTC.
    pub until: String,
    /// Why it is not mended yet.
    pub reason: String,
}

/// An entry of the quarantine, and what it was good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuarantineEntry {
    /// What it speaks of: `IdleShell of firmware=uefi`.
    pub what: String,
    /// Who looks after it, until when, and why.
    #[serde(flatten)]
    pub excuse: Excuse,
    /// What became of it.
    pub state: QuarantineState,
    /// The cases that this is about.
    pub cases: Vec<String>,
}

/// What became of an entry of the quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineState {
    /// It excuses failures.
    Holds,
    /// Its day is over: the failures count again.
    Over,
    /// Nothing fails that it speaks of: take it out.
    NotNeeded,
    /// There is no such case: take it out.
    NoSuchCase,
    /// The cases that it speaks of were not all run, so nothing can be said.
    NotAsked,
}

/// The worst that is in a matrix, for an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Worst {
    /// Every case passed, or its failure is in quarantine.
    Pass,
    /// A case passed only after a try that did not.
    Flaky,
    /// A case has no verdict, or was not run.
    NoVerdict,
    /// A case failed, or could not be verified.
    Fail,
}

impl MatrixCase {
    /// What came out, over all tries.
    pub fn verdict(&self) -> CaseVerdict {
        let Some(last) = self.tries.last() else { return CaseVerdict::NotRun };
        match last.verdict {
            // A runner that failed says nothing about the image, so a pass after it is one.
            TryVerdict::Pass if self.tries.iter().any(MatrixTry::is_red) => CaseVerdict::Flaky,
            TryVerdict::Pass => CaseVerdict::Pass,
            TryVerdict::Fail => CaseVerdict::Fail,
            TryVerdict::Unverified => CaseVerdict::Unverified,
            // What an earlier try found is not undone by a runner that failed after it.
            TryVerdict::NoVerdict => match self.tries.iter().rev().find(|one| one.is_red()) {
                Some(red) if red.verdict == TryVerdict::Unverified => CaseVerdict::Unverified,
                Some(_) => CaseVerdict::Fail,
                None => CaseVerdict::NoVerdict,
            },
        }
    }

    /// The try that the verdict rests on: the last one with a word about the image.
    pub fn decisive(&self) -> Option<&MatrixTry> {
        let said = self.tries.iter().rev().find(|one| one.verdict != TryVerdict::NoVerdict);
        said.or(self.tries.last())
    }

    /// The tries that did not pass, before the last one.
    pub fn failed_before(&self) -> impl Iterator<Item = &MatrixTry> {
        let last = self.tries.len().saturating_sub(1);
        self.tries[..last].iter().filter(|one| one.is_red())
    }

    /// The verdict in a word or two; a pass that speaks for less says so.
    pub fn word(&self) -> String {
        let verdict = self.verdict();
        let word = verdict.as_str();
        let Some(rests_on) =
            self.decisive().filter(|_| matches!(verdict, CaseVerdict::Pass | CaseVerdict::Flaky))
        else {
            return word.to_owned();
        };
        match rests_on.limits() {
            limits if limits.is_empty() => word.to_owned(),
            limits => format!("{word}, {}", limits.join(", ")),
        }
    }

    /// Whether it counts as red for the exit code.
    pub fn counts(&self) -> bool {
        self.excused.is_none()
    }
}

impl MatrixTry {
    /// Whether it said something against the image.
    pub const fn is_red(&self) -> bool {
        matches!(self.verdict, TryVerdict::Fail | TryVerdict::Unverified)
    }

    /// Why a pass of it speaks for less than the whole pipeline.
    pub fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        limits.extend(self.from_phase.as_ref().map(|phase| format!("from {phase} on alone")));
        limits.extend(self.until.as_ref().map(|stage| format!("up to {stage} alone")));
        if !self.muted.is_empty() {
            limits.push("checks muted".to_owned());
        }
        limits
    }
}

impl TryVerdict {
    /// As people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unverified => "unverified",
            Self::NoVerdict => "no verdict",
        }
    }
}

impl CaseVerdict {
    /// As people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Flaky => "flaky",
            Self::NotRun => "not run",
            Self::NoVerdict => "no verdict",
            Self::Unverified => "unverified",
            Self::Fail => "fail",
        }
    }
}

impl Matrix {
    /// The worst case, those in quarantine left out. One without cases proves nothing.
    pub fn worst(&self) -> Worst {
        let counted = self.cases.iter().filter(|case| case.counts());
        let worst = counted.map(|case| match case.verdict() {
            CaseVerdict::Pass => Worst::Pass,
            CaseVerdict::Flaky => Worst::Flaky,
            CaseVerdict::NotRun | CaseVerdict::NoVerdict => Worst::NoVerdict,
            CaseVerdict::Unverified | CaseVerdict::Fail => Worst::Fail,
        });
        if self.cases.is_empty() { Worst::NoVerdict } else { worst.max().unwrap_or(Worst::Pass) }
    }

    /// How many cases have each verdict, in the order in which people want to read them; excused ones are told apart.
    pub fn counts(&self) -> Vec<(CaseVerdict, bool, usize)> {
        let mut counts = Vec::new();
        for verdict in [
            CaseVerdict::Fail,
            CaseVerdict::Unverified,
            CaseVerdict::NoVerdict,
            CaseVerdict::NotRun,
            CaseVerdict::Flaky,
            CaseVerdict::Pass,
        ] {
            for excused in [false, true] {
                let of = |case: &&MatrixCase| case.verdict() == verdict && case.excused.is_some() == excused;
                let count = self.cases.iter().filter(of).count();
                if count > 0 {
                    counts.push((verdict, excused, count));
                }
            }
        }
        counts
    }

    /// `3 fail, 1 flaky, 8 pass`; those in quarantine are told apart.
    pub fn counts_in_words(&self) -> String {
        let words: Vec<_> = self
            .counts()
            .into_iter()
            .map(|(verdict, excused, count)| {
                format!("{count} {}{}", verdict.as_str(), if excused { " (in quarantine)" } else { "" })
            })
            .collect();
        if words.is_empty() { "no case".to_owned() } else { words.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(number: u32, verdict: TryVerdict) -> MatrixTry {
        MatrixTry {
            number,
            folder: format!("cases/a=b/{number}"),
            run: String::new(),
            verdict,
            stage: None,
            codes: Vec::new(),
            message: String::new(),
            next_step: None,
            seconds: None,
            started_at: None,
            earlier: false,
            until: None,
            from_phase: None,
            muted: Vec::new(),
            unverified: 0,
        }
    }

    fn case(verdicts: &[TryVerdict]) -> MatrixCase {
        let tries = verdicts.iter().zip(1..).map(|(verdict, number)| tried(number, *verdict)).collect();
        MatrixCase {
            name: "a=b".into(),
            values: BTreeMap::new(),
            held_to: Sha256::ZERO,
            tries,
            excused: None,
        }
    }

    fn matrix(cases: Vec<MatrixCase>) -> Matrix {
        Matrix {
            format: FORMAT,
            name: "small".into(),
            image: "small.iso".into(),
            sha256: Sha256::ZERO,
            assay: "0".into(),
            began_at: String::new(),
            ended_at: String::new(),
            axes: Vec::new(),
            cases,
            not_asked: Vec::new(),
            quarantine: Vec::new(),
        }
    }

    #[test]
    fn no_try_is_ever_forgotten() {
        use TryVerdict::{Fail, NoVerdict, Pass, Unverified};
        for (tries, verdict) in [
            (&[][..], CaseVerdict::NotRun),
            (&[Pass], CaseVerdict::Pass),
            (&[Fail], CaseVerdict::Fail),
            (&[Unverified], CaseVerdict::Unverified),
            (&[NoVerdict], CaseVerdict::NoVerdict),
            (&[Fail, Pass], CaseVerdict::Flaky),
            (&[Unverified, Pass], CaseVerdict::Flaky),
            (&[Fail, Pass, Pass], CaseVerdict::Flaky),
            (&[NoVerdict, Pass], CaseVerdict::Pass),
            (&[Fail, NoVerdict, Pass], CaseVerdict::Flaky),
            (&[Pass, Fail], CaseVerdict::Fail),
            (&[Fail, NoVerdict], CaseVerdict::Fail),
            (&[Unverified, NoVerdict], CaseVerdict::Unverified),
        ] {
            assert_eq!(case(tries).verdict(), verdict, "{tries:?}");
        }
    }

    #[test]
    fn a_pass_that_speaks_for_less_says_so() {
        let mut one = case(&[TryVerdict::Pass]);
        assert_eq!(one.word(), "pass");
        one.tries[0].from_phase = Some("welcome".into());
        assert_eq!(one.word(), "pass, from welcome on alone");
        one.tries[0].from_phase = None;
        one.tries[0].until = Some("Boot".into());
        assert_eq!(one.word(), "pass, up to Boot alone");
        one.tries[0].muted = vec!["IdleShell".into()];
        one.tries.insert(0, tried(1, TryVerdict::Fail));
        assert!(one.word().starts_with("flaky, ") && one.word().ends_with("checks muted"), "{}", one.word());
    }

    #[test]
    fn the_worst_case_counts_unless_it_is_in_quarantine() {
        use TryVerdict::{Fail, NoVerdict, Pass};
        assert_eq!(matrix(Vec::new()).worst(), Worst::NoVerdict, "nothing was proven");
        let mut all = matrix(vec![case(&[Pass])]);
        for (worse, worst) in [
            (&[Pass][..], Worst::Pass),
            (&[Fail, Pass], Worst::Flaky),
            (&[NoVerdict], Worst::NoVerdict),
            (&[Fail], Worst::Fail),
        ] {
            all.cases.push(case(worse));
            assert_eq!(all.worst(), worst);
        }
        assert_eq!(all.counts_in_words(), "1 fail, 1 no verdict, 1 flaky, 2 pass");
        let excuse = Excuse { owner: "kim".into(), until: "2026-12-31".into(), reason: "known".into() };
        all.cases[4].excused = Some(excuse);
        assert_eq!(all.worst(), Worst::NoVerdict);
        assert_eq!(all.counts_in_words(), "1 fail (in quarantine), 1 no verdict, 1 flaky, 2 pass");
    }
}
