//! The quarantine, applied to what came out: which failures it excuses, and which of its entries are good for nothing.

use assay_model::matrix::{CaseVerdict, Excuse, MatrixCase, QuarantineEntry, QuarantineState};
use assay_pipelines::image::profile::Quarantine;

/// A case with its values in the order of the axes.
pub(super) type Valued<'a> = (&'a mut MatrixCase, &'a [(String, String)]);

/// Excuses what is in quarantine on this day (`2026-12-31`, UTC), and says of each entry what became of it. `all` is every
/// case that the profile has, whether it was run or not.
pub(super) fn apply(
    entries: &[Quarantine],
    today: &str,
    cases: &mut [Valued<'_>],
    all: &[Vec<(String, String)>],
) -> Vec<QuarantineEntry> {
    for (case, values) in cases.iter_mut() {
        case.excused = None;
        let holds: Vec<_> = entries.iter().filter(|e| e.takes(values) && !e.is_over(today)).collect();
        if let Some(entry) = excusing(case, &holds) {
            case.excused = Some(excuse(entry));
        }
    }
    entries
        .iter()
        .map(|entry| {
            let meant: Vec<&Valued<'_>> = cases.iter().filter(|(_, values)| entry.takes(values)).collect();
            let failing = meant.iter().filter(|(case, _)| {
                let red: Vec<_> = case.tries.iter().filter(|one| one.is_red()).collect();
                is_red(case) && red.iter().any(|one| speaks_of(entry, &one.codes))
            });
            let failing: Vec<String> = failing.map(|(case, _)| case.name.clone()).collect();
            let run = meant
                .iter()
                .filter(|(case, _)| !matches!(case.verdict(), CaseVerdict::NotRun | CaseVerdict::NoVerdict));
            let expected = all.iter().filter(|values| entry.takes(values)).count();
            let (run, known) = (run.count(), expected > 0);
            let state = match (failing.is_empty(), entry.is_over(today)) {
                (false, true) => QuarantineState::Over,
                (false, false) => QuarantineState::Holds,
                (true, _) if !known => QuarantineState::NoSuchCase,
                (true, _) if run < expected => QuarantineState::NotAsked,
                (true, _) => QuarantineState::NotNeeded,
            };
            let cases = if failing.is_empty() {
                meant.iter().map(|(case, _)| case.name.clone()).collect()
            } else {
                failing
            };
            QuarantineEntry { what: entry.what(), excuse: excuse(entry), state, cases }
        })
        .collect()
}

/// The entry that excuses a case: every red try of it has to be known, and in each of them every critical finding. One
/// that is new beside a known one makes the case red.
fn excusing<'a>(case: &MatrixCase, holds: &[&'a Quarantine]) -> Option<&'a Quarantine> {
    if !is_red(case) {
        return None;
    }
    let mut red = case.tries.iter().filter(|one| one.is_red());
    let known = |codes: &[String]| {
        holds.iter().any(|entry| entry.finding.is_none())
            || (!codes.is_empty() && codes.iter().all(|code| holds.iter().any(|entry| entry.knows(code))))
    };
    if !red.all(|one| known(&one.codes)) {
        return None;
    }
    let said = case.tries.iter().rev().find(|one| one.is_red())?;
    holds.iter().find(|entry| speaks_of(entry, &said.codes)).copied()
}

fn speaks_of(entry: &Quarantine, codes: &[String]) -> bool {
    entry.finding.is_none() || codes.iter().any(|code| entry.knows(code))
}

fn is_red(case: &MatrixCase) -> bool {
    matches!(case.verdict(), CaseVerdict::Fail | CaseVerdict::Unverified | CaseVerdict::Flaky)
}

fn excuse(entry: &Quarantine) -> Excuse {
    Excuse { owner: entry.owner.clone(), until: entry.until.clone(), reason: entry.reason.clone() }
}

#[cfg(test)]
mod tests {
    use assay_model::Sha256;
    use assay_model::matrix::{MatrixTry, TryVerdict};

    use super::*;

    fn case(value: &str, tries: &[(TryVerdict, &[&str])]) -> (MatrixCase, Vec<(String, String)>) {
        let tries = tries.iter().zip(1..).map(|((verdict, codes), number)| MatrixTry {
            number,
            folder: String::new(),
            run: String::new(),
            verdict: *verdict,
            stage: None,
            codes: codes.iter().map(|code| (*code).to_owned()).collect(),
            message: String::new(),
            next_step: None,
            seconds: None,
            started_at: None,
            earlier: false,
            until: None,
            from_phase: None,
            muted: Vec::new(),
            unverified: 0,
        });
        let values = vec![("a".to_owned(), value.to_owned())];
        let case = MatrixCase {
            name: format!("a={value}"),
            values: values.iter().cloned().collect(),
            held_to: Sha256::ZERO,
            tries: tries.collect(),
            excused: None,
        };
        (case, values)
    }

    fn entry(case: Option<&str>, finding: Option<&str>) -> Quarantine {
        Quarantine {
            case: case.map(|case| case.parse().expect("a selection")),
            finding: finding.map(str::to_owned),
            owner: "kim".to_owned(),
            until: "2026-12-31".to_owned(),
            reason: "known".to_owned(),
        }
    }

    const DAY: &str = "2026-12-31";

    /// Whether the first case is excused, and what became of the entries.
    fn seen(
        entries: &[Quarantine],
        today: &str,
        mut cases: Vec<(MatrixCase, Vec<(String, String)>)>,
    ) -> (bool, Vec<QuarantineState>) {
        let all: Vec<_> = cases.iter().map(|(_, values)| values.clone()).collect();
        let mut valued: Vec<Valued<'_>> =
            cases.iter_mut().map(|(case, values)| (case, values.as_slice())).collect();
        let states = apply(entries, today, &mut valued, &all).into_iter().map(|entry| entry.state).collect();
        (cases[0].0.excused.is_some(), states)
    }

    use QuarantineState::{Holds, NoSuchCase, NotAsked, NotNeeded, Over};
    use TryVerdict::{Fail, NoVerdict, Pass};

    #[test]
    fn a_known_failure_does_not_count_until_its_day_is_over() {
        let failing = || vec![case("x", &[(Fail, &["IdleShell"])])];
        for known in
            [entry(Some("a=x"), None), entry(None, Some("IdleShell")), entry(Some("a=x"), Some("IdleShell"))]
        {
            assert_eq!(seen(std::slice::from_ref(&known), DAY, failing()), (true, vec![Holds]), "{known:?}");
            assert_eq!(
                seen(std::slice::from_ref(&known), "2027-01-01", failing()),
                (false, vec![Over]),
                "{known:?}"
            );
        }
    }

    #[test]
    fn another_failure_counts_as_ever() {
        let known = [entry(Some("a=x"), Some("IdleShell"))];
        assert_eq!(seen(&known, DAY, vec![case("x", &[(Fail, &["KernelPanic"])])]), (false, vec![NotNeeded]));
        // Also beside the known one, and also in an earlier try.
        assert_eq!(
            seen(&known, DAY, vec![case("x", &[(Fail, &["IdleShell", "KernelPanic"])])]),
            (false, vec![Holds])
        );
        let tries: &[(_, &[&str])] = &[(Fail, &["KernelPanic"]), (Fail, &["IdleShell"])];
        assert_eq!(seen(&known, DAY, vec![case("x", tries)]), (false, vec![Holds]));
        // A failure without a finding is known by its case alone.
        assert!(!seen(&[entry(None, Some("IdleShell"))], DAY, vec![case("x", &[(Fail, &[])])]).0);
        assert_eq!(
            seen(&[entry(Some("a=x"), None)], DAY, vec![case("x", &[(Fail, &[])])]),
            (true, vec![Holds])
        );
    }

    #[test]
    fn what_is_good_for_nothing_is_told() {
        let known = [entry(Some("a=x"), None), entry(Some("a=gone"), None), entry(Some("b=x"), None)];
        let states = seen(&known, DAY, vec![case("x", &[(Pass, &[])])]).1;
        assert_eq!(states, [NotNeeded, NoSuchCase, NoSuchCase]);
        assert_eq!(seen(&known[..1], "2027-01-01", vec![case("x", &[(Pass, &[])])]).1, [NotNeeded]);
        // Of what was not run, nothing can be said.
        assert_eq!(seen(&known[..1], DAY, vec![case("x", &[])]).1, [NotAsked]);
        assert_eq!(seen(&known[..1], DAY, vec![case("x", &[(NoVerdict, &[])])]), (false, vec![NotAsked]));
    }

    #[test]
    fn one_that_comes_and_goes_is_what_a_quarantine_is_for() {
        let flaky = || vec![case("x", &[(Fail, &["IdleShell"]), (Pass, &[])])];
        assert_eq!(seen(&[entry(Some("a=x"), None)], DAY, flaky()), (true, vec![Holds]));
        assert_eq!(seen(&[entry(None, Some("KernelPanic"))], DAY, flaky()), (false, vec![NotNeeded]));
    }
}
