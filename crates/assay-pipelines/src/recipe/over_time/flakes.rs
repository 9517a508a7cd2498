//! The flake ledger: the same commit with the same everything came out differently. A fold over a recipe's runs.
//!
//! A test or a stage is flaky only where nothing that is looked at explains the difference: another commit, build of Assay,
//! configuration or image is a reason, and runs that differ in one are never held against each other.

use std::collections::BTreeMap;

use assay_model::{Sha256, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::changed::MISSING;
use super::results::Results;

/// Something that passed and failed under the same circumstances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flake {
    /// The recipe.
    pub recipe: String,
    /// A stage by its name, or a hook or test by its file.
    pub what: String,
    /// The commit.
    pub commit: String,
    /// How often it passed.
    pub passed: u32,
    /// How often it failed.
    pub failed: u32,
    /// RFC 3339, the first of these runs.
    pub first: String,
    /// RFC 3339, the last one.
    pub last: String,
    /// RFC 3339, when it failed last.
    pub last_failed: String,
    /// The runs in which it failed, oldest first.
    pub failed_runs: Vec<i64>,
    /// The codes of its failures, each once.
    pub codes: Vec<String>,
}

/// What is the same in two runs that may be held against each other, but for their images.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Circumstances<'a> {
    recipe: &'a str,
    commit: &'a str,
    harness: Sha256,
    runner: Option<Sha256>,
    configuration: Sha256,
    lane: &'a str,
    /// Whoever mutes a check or leaves stages out asks for something else.
    spared: &'a [String],
}

/// Runs under the same circumstances, and the images that any of them had.
struct Group<'a> {
    images: BTreeMap<&'a str, &'a str>,
    runs: Vec<&'a Results>,
}

/// What is flaky in these runs, what failed last first. Their order does not matter.
pub fn flakes(runs: &[Results]) -> Vec<Flake> {
    let mut sorted: Vec<&Results> = runs.iter().collect();
    sorted.sort_by_key(|run| run.run.number);
    let mut groups: BTreeMap<Circumstances<'_>, Vec<Group<'_>>> = BTreeMap::new();
    for run in sorted {
        let Some(circumstances) = Circumstances::of(run) else { continue };
        put(groups.entry(circumstances).or_default(), run);
    }
    let mut found: Vec<Flake> = groups.values().flatten().flat_map(|group| of_group(&group.runs)).collect();
    found.sort_by(|one, other| (&other.last_failed, &one.what).cmp(&(&one.last_failed, &other.what)));
    found
}

impl<'a> Circumstances<'a> {
    /// None where something of it is not known: then nothing can be said.
    fn of(run: &'a Results) -> Option<Self> {
        let version = run.version.as_ref().filter(|version| version.changed.is_empty())?;
        // An image that is not to be had is a reason of its own.
        if run.stages.iter().any(|stage| stage.codes.iter().any(|code| code == MISSING)) {
            return None;
        }
        Some(Self {
            recipe: &run.recipe,
            commit: version.commit.as_deref()?,
            harness: run.harness.sha256?,
            runner: run.runner.as_ref().and_then(|runner| runner.harness.sha256),
            configuration: run.configuration.sha256?,
            lane: &run.lane,
            spared: &run.spared,
        })
    }
}

/// A run that failed before it had all of its images is like any whose images do not contradict its own.
fn put<'a>(groups: &mut Vec<Group<'a>>, run: &'a Results) {
    let images: BTreeMap<&str, &str> =
        run.images.iter().map(|image| (image.reference.as_str(), image.id.as_str())).collect();
    let fits = |group: &Group<'_>| {
        images.iter().all(|(name, id)| group.images.get(name).is_none_or(|known| known == id))
    };
    match groups.iter_mut().rev().find(|group| fits(group)) {
        Some(group) => {
            group.images.extend(images);
            group.runs.push(run);
        }
        None => groups.push(Group { images, runs: vec![run] }),
    }
}

fn of_group(runs: &[&Results]) -> Vec<Flake> {
    let mut names: Vec<&str> = Vec::new();
    let names_of = |run: &Results| -> Vec<String> {
        let stages = run.stages.iter().map(|stage| stage.name.clone());
        stages.chain(run.tests.iter().map(|test| test.name.clone())).collect()
    };
    let spelled: Vec<String> = runs.iter().flat_map(|run| names_of(run)).collect();
    for name in &spelled {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.into_iter().filter_map(|name| of_name(runs, name)).collect()
}

fn of_name(runs: &[&Results], name: &str) -> Option<Flake> {
    let with = |verdict: Verdict| -> Vec<&&Results> {
        runs.iter().filter(|run| run.outcome(name) == Some(verdict)).collect()
    };
    let (passed, failed) = (with(Verdict::Pass), with(Verdict::Fail));
    let (Some(last_failed), false) = (failed.last(), passed.is_empty()) else { return None };
    let mut dates: Vec<&String> = passed.iter().chain(&failed).map(|run| &run.run.created_at).collect();
    dates.sort_unstable();
    let mut codes: Vec<String> = Vec::new();
    for code in failed
        .iter()
        .flat_map(|run| &run.stages)
        .filter(|stage| stage.name == name)
        .flat_map(|stage| &stage.codes)
    {
        if !codes.contains(code) {
            codes.push(code.clone());
        }
    }
    Some(Flake {
        recipe: last_failed.recipe.clone(),
        what: name.to_owned(),
        commit: last_failed.version.as_ref().and_then(|version| version.commit.clone()).unwrap_or_default(),
        passed: u32::try_from(passed.len()).unwrap_or(u32::MAX),
        failed: u32::try_from(failed.len()).unwrap_or(u32::MAX),
        first: dates.first().map(|date| (*date).clone()).unwrap_or_default(),
        last: dates.last().map(|date| (*date).clone()).unwrap_or_default(),
        last_failed: last_failed.run.created_at.clone(),
        failed_runs: failed.iter().map(|run| run.run.number).collect(),
        codes,
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::{green, red};
    use super::*;

    fn told(runs: &[Results]) -> Vec<String> {
        let line = |flake: &Flake| {
            format!(
                "{} {}/{} {:?} {:?}",
                flake.what,
                flake.failed,
                flake.failed + flake.passed,
                flake.failed_runs,
                flake.codes
            )
        };
        flakes(runs).iter().map(line).collect()
    }

    #[test]
    fn the_same_commit_that_passes_and_fails_is_flaky_whatever_the_order() {
        let runs = [green(1), red(2, "Custom", "TestFailed"), green(3), red(4, "Custom", "TestFailed")];
        assert_eq!(told(&runs), [r#"Custom 2/4 [2, 4] ["TestFailed"]"#, r"functional/a.sh 2/4 [2, 4] []"]);
        let mut other_way = runs.to_vec();
        other_way.reverse();
        assert_eq!(told(&other_way), told(&runs));
        let flake = &flakes(&runs)[0];
        assert_eq!(
            (flake.first.as_str(), flake.last_failed.as_str()),
            ("2026-01-02T00:00:01Z", "2026-01-02T00:00:04Z")
        );
    }

    #[test]
    fn what_has_a_reason_is_no_flake() {
        type Change = fn(&mut Results);
        let was = green(1);
        let red = red(2, "Custom", "TestFailed");
        assert_eq!(told(&[was.clone(), red.clone()]).len(), 2, "with nothing different it is one");
        let reasons: [Change; 7] = [
            |now| now.images[0].id = "sha256:ffff".to_owned(),
            |now| now.version.as_mut().unwrap().commit = Some("b".repeat(40)),
            |now| now.version.as_mut().unwrap().changed = vec!["compose.yml".to_owned()],
            |now| now.harness.sha256 = Some(Sha256::of(b"another")),
            |now| now.harness.sha256 = None,
            |now| now.configuration.sha256 = Some(Sha256::of(b"another")),
            |now| now.spared = vec!["checks switched off: A".to_owned()],
        ];
        for reason in reasons {
            let mut now = red.clone();
            reason(&mut now);
            assert_eq!(told(&[was.clone(), now]), Vec::<String>::new());
        }
    }

    #[test]
    fn a_run_that_failed_before_its_images_is_held_against_those_that_had_them() {
        let missing = Results { images: Vec::new(), ..red(3, "Install", MISSING) };
        assert!(flakes(&[green(1), missing]).is_empty());
        let early = Results { images: Vec::new(), ..red(2, "Install", "NotConverged") };
        assert_eq!(told(&[green(1), early]), [r#"Install 1/2 [2] ["NotConverged"]"#]);
    }

    #[test]
    fn a_runner_error_is_no_outcome() {
        let mut error = green(2);
        error.stages[1].verdict = Some(Verdict::Error);
        assert!(flakes(&[green(1), error]).is_empty());
    }
}
