//! A run as its page shows it: a pure fold of the run's picture and of what is known right now.

use assay_model::event::Event;
use assay_model::host::clearance;
use assay_model::text::plural;
use assay_model::{DecisionKind, Finding, Micros, RunState, RunView, Severity};

use super::format::{self, When};
use super::shell::{Badge, RunFacts, Spared};
use super::stage_model::{Around, StageModel};

/// The codes of disks that a permit may name.
const PERMITTED: [&str; 2] = ["UnexpectedData", "EraseNotPermitted"];

/// What is known about a run right now and is not in its journal.
#[derive(Clone, Debug, Default)]
pub(super) struct Now {
    pub(super) at: Micros,
    /// What the agent said it is doing.
    pub(super) step: Option<String>,
    /// Why a queued run waits.
    pub(super) waiting: Option<String>,
}

/// The part of a run's page that changes while the run goes on.
pub(super) struct RunModel {
    pub(super) number: i64,
    pub(super) target: String,
    /// Its own page, and what leads to it.
    pub(super) target_page: String,
    pub(super) kind: &'static str,
    pub(super) badge: Badge,
    /// One sentence under the badge: what is going on, or what to do.
    pub(super) headline: String,
    pub(super) open: bool,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) started: Option<When>,
    /// Since when it runs, in milliseconds of the epoch, while it does.
    pub(super) since_ms: Option<i64>,
    pub(super) took: Option<String>,
    pub(super) suspect: Option<String>,
    pub(super) boot: Vec<BootStep>,
    pub(super) decide: Option<DecidePanel>,
    pub(super) can_cancel: bool,
    pub(super) decisions: Vec<DecisionModel>,
    pub(super) findings: Vec<FindingModel>,
    pub(super) stages: Vec<StageModel>,
    pub(super) unverified: Vec<String>,
    pub(super) artifacts: Vec<ArtifactModel>,
    pub(super) journal: Vec<JournalLine>,
    /// Events before those shown.
    pub(super) journal_before: i64,
    pub(super) sealed: bool,
}

/// One mark of the way from the queue to the first stage.
pub(super) struct BootStep {
    pub(super) done: bool,
    pub(super) bad: bool,
    pub(super) label: String,
    pub(super) detail: String,
}

/// What an operator may decide about a held run.
pub(super) struct DecidePanel {
    /// Where it failed.
    pub(super) stage: String,
    /// Names the panel: another failure is another panel, so half-typed reasons never move over.
    pub(super) id: String,
    pub(super) until: Option<When>,
    pub(super) can_waive: bool,
    /// The stage that a retry begins with, where that is another one.
    pub(super) again: Option<String>,
    /// Whether it is an installer that would erase what is permitted.
    pub(super) for_installer: bool,
    /// The disks with data at which the run stopped, as their findings name them: a permit may name these.
    pub(super) with_data: Vec<String>,
}

pub(super) struct DecisionModel {
    pub(super) when: When,
    pub(super) text: String,
    pub(super) why: String,
}

pub(super) struct FindingModel {
    pub(super) badge: Badge,
    pub(super) code: String,
    pub(super) stage: String,
    pub(super) part: Option<String>,
    pub(super) message: String,
    pub(super) next_step: String,
    /// Files that show it, and whether they were kept.
    pub(super) evidence: Vec<(String, bool)>,
}

pub(super) struct ArtifactModel {
    pub(super) name: String,
    pub(super) stage: String,
    pub(super) size: String,
    pub(super) digest: String,
    pub(super) late: bool,
}

pub(super) struct JournalLine {
    pub(super) seq: i64,
    pub(super) when: When,
    pub(super) text: String,
    pub(super) quiet: bool,
}

/// What a run's badge depends on.
pub(super) fn facts(run: &RunView) -> RunFacts<'_> {
    RunFacts {
        state: run.state(),
        result: run.result,
        overridden: run.overridden,
        spared: Spared {
            muted: !run.created.muted.is_empty(),
            left_out: !run.created.options.left_out.is_empty(),
            begun_late: run.created.options.from_phase.is_some(),
        },
        profile: &run.created.profile,
        stage: run.current_stage().map(|s| s.plan.name.as_str()),
    }
}

/// The finding that an operator should read first.
pub(super) fn worst(run: &RunView) -> Option<Finding> {
    let mut findings = run.findings();
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    findings.into_iter().next().filter(|f| f.severity >= Severity::Warning)
}

impl RunModel {
    pub(super) fn of(run: &RunView, now: &Now, events: &[Event]) -> Self {
        let state = run.state();
        let open = !state.is_terminal();
        let around = Around {
            now: now.at,
            open_run: open && state != RunState::Cancelling,
            step: now.step.as_deref(),
        };
        let running = open && state != RunState::FailedHolding;
        let end = run.completed_at.unwrap_or(now.at);
        Self {
            number: run.created.number,
            target: run.created.target.name.clone(),
            target_page: format::target_page(
                run.created.has_machine(),
                run.created.pipeline,
                &run.created.target.name,
            ),
            kind: run.created.pipeline.as_str(),
            badge: Badge::run(&facts(run)),
            headline: headline(run, now),
            open,
            facts: told_facts(run),
            started: run.started_at.map(|at| When::new(at, now.at)),
            since_ms: run.started_at.filter(|_| running).map(|at| at.0 / 1000),
            took: run.started_at.map(|at| format::duration(end.since(at).as_seconds())),
            suspect: run.suspect_since.filter(|_| open).map(|at| silent(run, now.at.since(at))),
            boot: boot(run),
            decide: decide(run, now.at),
            can_cancel: open && state != RunState::Cancelling,
            decisions: run.decisions.iter().map(|d| decision(d, now.at)).collect(),
            findings: findings(run),
            stages: run.stages.iter().map(|s| StageModel::of(s, around)).collect(),
            unverified: run.unverified(),
            artifacts: run.artifacts.iter().map(artifact).collect(),
            journal: events.iter().rev().map(|e| journal(e, now.at)).collect(),
            journal_before: events.first().map_or(0, |e| e.seq - 1),
            sealed: run.seal.is_some(),
        }
    }
}

fn silent(run: &RunView, span: Micros) -> String {
    let span = format::duration(span.as_seconds());
    if run.status.open {
        format!("Nothing was heard from the agent for {span}. If it stays so, its attempt is given up.")
    } else {
        format!("Nothing was heard from the agent for {span}; is the machine still on?")
    }
}

fn headline(run: &RunView, now: &Now) -> String {
    let at = run.failed_stage().unwrap_or("no stage");
    let next = || worst(run).map_or_else(String::new, |f| format!(" {}", f.next_step));
    match run.state() {
        RunState::Queued => {
            now.waiting.as_ref().map_or_else(|| "Waits.".to_owned(), |why| format!("Waits: {why}."))
        }
        RunState::Booting if run.enrolled.is_some() => {
            "The agent is there; the first stage is about to begin.".to_owned()
        }
        RunState::Booting if run.boots > 0 => {
            "The machine has fetched its boot script; waiting for its agent.".to_owned()
        }
        RunState::Booting => "Waiting for the machine to ask for its boot script.".to_owned(),
        // What the agent does within the stage stands there: this line is read out when it changes.
        RunState::Running => match run.current_stage() {
            Some(stage) if now.waiting.is_some() => {
                format!("{} waits: {}.", stage.plan.name, now.waiting.as_deref().unwrap_or_default())
            }
            Some(stage) => format!("{} is in progress.", stage.plan.name),
            None => "All stages are done; the report is being drawn up.".to_owned(),
        },
        RunState::Failed => format!("Failed at {at}."),
        RunState::FailedHolding => {
            format!("Failed at {at}. The machine is kept as it is until someone decides.{}", next())
        }
        RunState::Completed if run.overridden => {
            "An operator accepted a failure; see the decisions.".to_owned()
        }
        RunState::Completed => match run.result {
            Some(assay_model::RunResult::Pass) => match run.unverified().len() {
                0 => "Everything that was asked for was verified.".to_owned(),
                n => format!("Passed; {} not verified, listed below.", plural(n, "point")),
            },
            Some(assay_model::RunResult::Fail) => format!("Failed at {at}.{}", next()),
            None => {
                "The runner failed, not the machine: this run says nothing about it. Vet it again.".to_owned()
            }
        },
        RunState::Released => format!("Failed at {at}, and the machine was given back.{}", next()),
        RunState::Cancelling => "Cancelling: the machine is not yet confirmed off.".to_owned(),
        RunState::Cancelled => {
            "Cancelled by an operator; this run says nothing about the machine.".to_owned()
        }
        RunState::Superseded => match run.superseded_by {
            Some(by) => format!("Run {by} took its place."),
            None => "A newer run took its place.".to_owned(),
        },
    }
}

fn told_facts(run: &RunView) -> Vec<(&'static str, String)> {
    let mut out =
        vec![("Profile", run.created.profile.clone()), ("Asked for by", run.created.requested_by.clone())];
    out.extend(run.runner.clone().map(|r| ("Runner", r)));
    let agent = run.enrolled.as_ref().and_then(|e| Some(("Agent", format!("{} on {}", e.agent, e.mac?))));
    out.extend(agent);
    if run.boots > 1 {
        out.push(("Boots", run.boots.to_string()));
    }
    if !run.created.holds {
        out.push(("On failure", "does not hold".to_owned()));
    }
    if !run.created.muted.is_empty() {
        out.push(("Checks off", run.created.muted.join(", ")));
    }
    let left_out: Vec<&str> =
        run.created.options.left_out.iter().map(assay_model::StageName::as_str).collect();
    if !left_out.is_empty() {
        out.push(("Stages left out", left_out.join(", ")));
    }
    if let Some(phase) = &run.created.options.from_phase {
        out.push(("To go on from the phase", phase.clone()));
    }
    out
}

/// From the queue to the first stage, with the time each step took.
fn boot(run: &RunView) -> Vec<BootStep> {
    let began = run.booting_since.or(run.started_at);
    let after = |at: Option<Micros>| match (began, at) {
        (Some(began), Some(at)) if at >= began => {
            format!("after {}", format::duration(at.since(began).as_seconds()))
        }
        _ => String::new(),
    };
    let step = |label: &str, at: Option<Micros>| BootStep {
        done: at.is_some(),
        bad: false,
        label: label.to_owned(),
        detail: after(at),
    };
    let mut steps = vec![BootStep {
        done: run.started_at.is_some(),
        bad: false,
        label: "Taken by a runner".to_owned(),
        detail: run.started_at.map_or_else(String::new, |at| {
            format!("{} in the queue", format::duration(at.since(run.created_at).as_seconds()))
        }),
    }];
    // An image's machines are the runner's own: there is nothing to switch on and nobody who would have to come.
    if run.created.has_machine() {
        let power = run.power.iter().rfind(|p| p.action.boots());
        let (done, bad, detail) = match power.map(|p| &p.outcome) {
            None => (false, false, String::new()),
            Some(None) => (false, false, "asked".to_owned()),
            Some(Some((ok, message))) => (*ok, !*ok, message.clone()),
        };
        steps.push(BootStep { done, bad, label: "Power".to_owned(), detail });
        steps.push(step("Boot script fetched", run.boot_served_at));
        steps.push(step("Agent enrolled", run.enrolled.as_ref().map(|e| e.at)));
    }
    let first = run.stages.first().and_then(|s| s.attempts.first()).map(|a| a.started_at);
    steps.push(step("First stage", first));
    let never_came = run.failed_stage() == Some(assay_model::view::BOOT);
    if let Some(missing) = steps.iter_mut().find(|s| never_came && !s.done) {
        missing.bad = true;
    }
    steps
}

fn decide(run: &RunView, now: Micros) -> Option<DecidePanel> {
    if run.state() != RunState::FailedHolding {
        return None;
    }
    let stage = run.failed_stage()?.to_owned();
    let at_boot = stage == assay_model::view::BOOT;
    Some(DecidePanel {
        id: format!("decide-{stage}-{}", run.decisions.len()),
        until: run.hold_until.map(|until| When::new(until, now)),
        can_waive: !at_boot && stage != clearance::STAGE,
        again: again(run, &stage),
        for_installer: stage == clearance::STAGE,
        with_data: with_data(run, &stage),
        stage,
    })
}

/// The stage that a retry begins with, where that is not the one that failed.
fn again(run: &RunView, failed: &str) -> Option<String> {
    let back = run.status.back?;
    let failed = run.stages.iter().position(|stage| stage.plan.name == failed)?;
    let goes_back = (back.to + 1..=back.last).contains(&failed);
    run.stages.get(back.to).filter(|_| goes_back).map(|stage| stage.plan.name.0.clone())
}

fn with_data(run: &RunView, stage: &str) -> Vec<String> {
    let judgement = run.stages.iter().find(|s| s.plan.name == stage).and_then(|s| s.judgement());
    let findings = judgement.map_or(&[][..], |judgement| &judgement.findings);
    let stopped = findings.iter().filter(|finding| PERMITTED.contains(&finding.code.as_str()));
    stopped.filter_map(|finding| finding.part.as_ref().map(ToString::to_string)).collect()
}

fn decision(d: &assay_model::view::DecisionView, now: Micros) -> DecisionModel {
    let what = match d.decision.kind {
        DecisionKind::Retry => "ran it again".to_owned(),
        DecisionKind::Permit => {
            format!("permitted to erase {} and ran it again", d.decision.serials.join(", "))
        }
        DecisionKind::Waive => "waived the failure".to_owned(),
        DecisionKind::Abandon => "abandoned the run".to_owned(),
        DecisionKind::Cancel => "cancelled the run".to_owned(),
    };
    let stage = d.stage.as_ref().map_or_else(String::new, |s| format!(" at {s}"));
    DecisionModel {
        when: When::new(d.at, now),
        text: format!("{} {what}{stage}", d.decision.by),
        why: d.decision.why.clone(),
    }
}

fn findings(run: &RunView) -> Vec<FindingModel> {
    let mut all = run.findings();
    all.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let kept = |name: &str| run.artifacts.iter().any(|a| a.name == name);
    all.into_iter()
        .map(|f| FindingModel {
            badge: Badge::severity(f.severity),
            stage: f.stage.map_or_else(|| "run".to_owned(), |s| s.0),
            part: f.part.map(|p| p.to_string()),
            evidence: f.evidence.into_iter().map(|name| (name.clone(), kept(&name))).collect(),
            code: f.code,
            message: f.message,
            next_step: f.next_step,
        })
        .collect()
}

fn artifact(a: &assay_model::view::ArtifactView) -> ArtifactModel {
    ArtifactModel {
        name: a.name.clone(),
        stage: a.stage.as_ref().map_or_else(String::new, |s| s.0.clone()),
        size: assay_model::bytes(a.bytes),
        digest: a.digest.to_string(),
        late: a.late,
    }
}

fn journal(event: &Event, now: Micros) -> JournalLine {
    JournalLine {
        seq: event.seq,
        when: When::new(event.at, now),
        text: assay_model::sentence::of(&event.body),
        quiet: assay_model::sentence::is_quiet(&event.body),
    }
}
