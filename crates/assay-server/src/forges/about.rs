//! A run as its pull request is told of it: a pure fold, from a run's picture to the value that `assay_forge` words.

use assay_engine::queue::Wait;
use assay_forge::Login;
use assay_forge::comment::{About, Finished, Found, RunLink, SinceGreen, Standing, Step};
use assay_model::recipe::{Ladder, Rung};
use assay_model::{DecisionKind, Micros, Pipeline, RunState, RunView, Severity, Verdict};
use assay_pipelines::image::ImageSpec;
use assay_pipelines::recipe::over_time::changed::SinceGreen as Compared;
use assay_pipelines::recipe::{Isolation, RecipeSpec};

/// Findings that stand in a comment; the run's page has all.
const FINDINGS: usize = 25;

/// What is known of a run beside its journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    /// Which Assay this is.
    pub(super) instance: &'a str,
    /// What links begin with, where people can reach it.
    pub(super) base_url: Option<&'a str>,
    /// The pull request.
    pub(super) pull: u64,
    /// Who asked.
    pub(super) asked_by: Option<&'a Login>,
    /// The command.
    pub(super) asked: &'a str,
    /// Its place in the line, while it waits.
    pub(super) place: Option<&'a Wait>,
    /// Of a red run: what is different from the last green one.
    pub(super) since_green: Option<&'a Compared>,
    /// The newer run that took its place: number and commit.
    pub(super) newer: Option<(i64, &'a str)>,
    /// Sentences beside it.
    pub(super) notes: &'a [String],
    /// Now.
    pub(super) at: Micros,
}

/// What a pull request is told of a run.
pub(super) fn of_run(run: &RunView, around: &Around<'_>) -> About {
    About {
        instance: around.instance.to_owned(),
        number: around.pull,
        commit: commit(run).unwrap_or_default(),
        run: Some(link(around.base_url, run.created.number)),
        of: String::new(),
        asked_by: around.asked_by.cloned(),
        asked: around.asked.to_owned(),
        stage: standing(run, around),
        at: around.at,
        notes: from_fork(run).into_iter().chain(around.notes.iter().cloned()).collect(),
    }
}

/// Where a change comes from that nobody with a right to push has looked at, and what stands between it and the runner.
fn from_fork(run: &RunView) -> Option<String> {
    let spec =
        (run.created.pipeline == Pipeline::Recipe).then(|| RecipeSpec::of(&run.created.spec).ok())??;
    let fork = spec.source?.fork?;
    let how = match spec.isolation {
        Isolation::Machine => "in a virtual machine that is thrown away",
        Isolation::Namespaces => "as any other: forks are trusted here",
    };
    Some(format!("from a fork ({fork}), tested {how}"))
}

/// The commit under test.
pub(super) fn commit(run: &RunView) -> Option<String> {
    let spec = &run.created.spec;
    // An image was built from it, a recipe is it.
    spec.get("commit").or_else(|| spec.get("source")?.get("commit"))?.as_str().map(str::to_owned)
}

/// A run's number, with its page where people can reach it.
pub(super) fn link(base_url: Option<&str>, number: i64) -> RunLink {
    let page = base_url.map(|base| format!("{base}/runs/{number}"));
    RunLink { number: number.unsigned_abs(), page }
}

/// What the pull request changes of what it is tested with.
fn not_taken(run: &RunView) -> Option<Vec<String>> {
    match run.created.pipeline {
        Pipeline::Recipe => Some(RecipeSpec::of(&run.created.spec).ok()?.source?.not_taken),
        Pipeline::Image => Some(ImageSpec::of(&run.created.spec).ok()?.source?.not_taken),
        Pipeline::Host => None,
    }
}

fn standing(run: &RunView, around: &Around<'_>) -> Standing {
    match run.state() {
        RunState::Queued => Standing::Queued {
            position: around.place.and_then(|place| place.position),
            why: around.place.map_or_else(|| "it is about to begin".to_owned(), |place| place.reason.clone()),
            in_seconds: around.place.and_then(|place| place.starts_in).map(seconds),
        },
        RunState::Booting
        | RunState::Running
        | RunState::Failed
        | RunState::FailedHolding
        | RunState::Cancelling => running(run, around.at),
        RunState::Completed if run.result.is_none() => no_verdict(run),
        RunState::Completed | RunState::Released => Standing::Finished(Box::new(finished(run, around))),
        RunState::Superseded => Standing::Superseded {
            by: around.newer.map_or_else(|| "a newer commit".to_owned(), |(_, commit)| commit.to_owned()),
            run: around.newer.map(|(number, _)| link(around.base_url, number)),
        },
        RunState::Cancelled => Standing::Cancelled { by: cancelled_by(run) },
    }
}

/// The runner failed, not the change.
fn no_verdict(run: &RunView) -> Standing {
    let failed = run.stages.iter().find(|stage| stage.verdict() == Some(Verdict::Error));
    let what = failed.and_then(|stage| Some(format!("{}: {}", stage.plan.name, stage.judgement()?.message)));
    Standing::Error {
        what: what.unwrap_or_else(|| "the run came to no verdict".to_owned()),
        next_step: "The run's page has what the runner said.".to_owned(),
        is_retried: false,
    }
}

/// Whoever said so in the pull request; an operator is not named there.
fn cancelled_by(run: &RunView) -> Option<Login> {
    let cancel = run.decisions.iter().rfind(|made| made.decision.kind == DecisionKind::Cancel)?;
    cancel.decision.by.split_once('@')?.0.parse().ok()
}

fn running(run: &RunView, now: Micros) -> Standing {
    let of = run.stages.len();
    let place = run.status.stage.min(of.saturating_sub(1));
    let stage = match run.current_stage() {
        Some(_) if run.state() == RunState::Booting => "getting ready".to_owned(),
        Some(stage) => stage.plan.name.0.clone(),
        None => "drawing up the report".to_owned(),
    };
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Standing::Running {
        stage,
        place: (count(place + 1), count(of)),
        steps: steps(run),
        for_seconds: run.started_at.map_or(0, |at| seconds(now.since(at))),
    }
}

fn steps(run: &RunView) -> Vec<Step> {
    let told = run.stages.iter().filter_map(|stage| {
        let verdict = stage.verdict()?;
        let message = stage.judgement().map(|judged| judged.message.clone()).unwrap_or_default();
        Some(Step {
            name: stage.plan.name.0.clone(),
            verdict,
            seconds: stage.seconds().map(|took| took.round().max(0.0) as u64),
            // What passed says so by its sign.
            note: if verdict == Verdict::Pass { String::new() } else { message },
        })
    });
    told.collect()
}

fn finished(run: &RunView, around: &Around<'_>) -> Finished {
    let mut found = run.findings();
    found.retain(|finding| finding.severity >= Severity::Warning);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let more_findings = found.len().saturating_sub(FINDINGS);
    let findings = found.into_iter().take(FINDINGS).map(|finding| Found {
        severity: finding.severity,
        code: finding.code,
        part: finding.part.map(|part| part.to_string()).unwrap_or_default(),
        message: finding.message,
        next_step: finding.next_step,
    });
    let level = (run.created.pipeline == Pipeline::Recipe)
        .then(|| (Ladder::of(run).level, u8::try_from(Rung::ALL.len()).unwrap_or(u8::MAX)));
    let number = run.created.number;
    let page = |path: &str| around.base_url.map(|base| format!("{base}{path}"));
    let links = [
        ("Report", page(&format!("/api/v1/runs/{number}/report.html?linked=true"))),
        ("Evidence", page(&format!("/api/v1/runs/{number}/bundle"))),
        ("History", page(&format!("/{}s/{}", run.created.pipeline.as_str(), run.created.target.name))),
    ];
    let ended = run.completed_at.unwrap_or(around.at);
    Finished {
        result: run.result,
        level,
        is_quick: run.created.profile == "quick",
        is_overridden: run.overridden,
        seconds: run.started_at.map_or(0, |at| seconds(ended.since(at))),
        steps: steps(run),
        findings: findings.collect(),
        more_findings,
        unverified: run.unverified(),
        flagged: not_taken(run).unwrap_or_default(),
        since_green: around
            .since_green
            .map_or(SinceGreen::NotTold, |since| since_green(since, around.base_url)),
        last_words: String::new(),
        links: links.into_iter().filter_map(|(words, to)| Some((words, to?))).collect(),
        head: run.seal.as_ref().map(|seal| seal.head.to_string()),
    }
}

fn since_green(since: &Compared, base_url: Option<&str>) -> SinceGreen {
    match since {
        Compared::NeverGreen => SinceGreen::NeverGreen,
        Compared::OtherSchema { run, .. } => SinceGreen::Changed {
            run: link(base_url, *run),
            what: vec!["its results have another form, and were not compared".to_owned()],
        },
        Compared::Compared { run, changes, .. } if changes.is_empty() => {
            SinceGreen::Nothing { run: link(base_url, *run) }
        }
        Compared::Compared { run, changes, .. } => SinceGreen::Changed {
            run: link(base_url, *run),
            what: changes
                .iter()
                .map(|change| format!("{}: {}", change.aspect.as_str(), change.message))
                .collect(),
        },
    }
}

fn seconds(span: Micros) -> u64 {
    u64::try_from(span.0 / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
#[path = "about_tests.rs"]
mod tests;
