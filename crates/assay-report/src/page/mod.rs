//! `report.html`: what an operator reads, prints and files.
//!
//! The template sees only [`Text`], which is cleaned of control and direction characters when it is
//! made and escaped when it is shown; a serial number cannot write on this page. There is no script
//! and nothing is fetched: the page's own content policy forbids both.

mod machine;
pub(crate) mod matrix;
pub(crate) mod power_cuts;
mod since;
mod timeline;

use std::cmp::Reverse;
use std::fmt;

use askama::Template;
use assay_model::report::{Report, ReportStage};
use assay_model::view::ArtifactView;
use assay_model::{EventBody, Finding, Micros, Part, RunView, Severity, Verdict};
use base64::Engine as _;

use crate::chart::{Chart, charts};
use crate::words::{self, Tone};
use crate::{Extras, envelope};

/// Renders the page.
pub(crate) fn render(view: &RunView, report: &Report, extras: &Extras) -> String {
    Page::of(view, report, extras).render().expect("writing to a string does not fail")
}

/// Text that is safe to lay out; the template escapes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Text(String);

impl Text {
    fn new(raw: &str) -> Self {
        Self(words::clean(raw))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A label and its value.
struct Fact {
    label: &'static str,
    value: Text,
}

impl Fact {
    fn new(label: &'static str, value: &str) -> Self {
        Self { label, value: Text::new(value) }
    }

    fn maybe(label: &'static str, value: Option<String>) -> Option<Self> {
        value.filter(|v| !v.trim().is_empty()).map(|v| Self::new(label, &v))
    }
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    number: i64,
    target: Text,
    headline: Text,
    why: Text,
    tone: &'static str,
    interim: Option<Text>,
    shouts: Vec<Text>,
    to_do: Vec<FindingRow>,
    failures: Vec<Failure>,
    unverified: Vec<Text>,
    since: Option<since::Since>,
    about: &'static str,
    machine: Vec<Fact>,
    parts: Vec<machine::Parts>,
    run: Vec<Fact>,
    stages: Vec<StageRow>,
    findings: Vec<FindingRow>,
    decisions: Vec<DecisionRow>,
    charts: Vec<ChartRow>,
    pictures: Vec<PictureRow>,
    artifacts: Vec<ArtifactRow>,
    proven: Vec<Fact2>,
    timeline: Vec<TimelineRow>,
    seal: Option<SealRow>,
}

/// A failed stage and what its verdict said, for the top of the page.
struct Failure {
    stage: Text,
    message: Text,
    waived: bool,
}

struct StageRow {
    name: Text,
    verdict: &'static str,
    class: &'static str,
    waived: bool,
    required: bool,
    attempt: u32,
    duration: String,
    coverage: Vec<Text>,
    message: Text,
    lost: Vec<Text>,
    checks: Vec<CheckRow>,
    failed_checks: usize,
    /// Whether its checks are shown without being asked for.
    open: bool,
}

struct CheckRow {
    name: Text,
    verdict: &'static str,
    expected: Text,
    seen: Text,
}

struct FindingRow {
    code: Text,
    severity: &'static str,
    stage: Text,
    part: Option<Text>,
    message: Text,
    next_step: Text,
    evidence: Vec<Text>,
    waived: bool,
}

struct DecisionRow {
    at: Text,
    kind: Text,
    stage: Option<Text>,
    by: Text,
    why: Text,
}

struct ChartRow {
    title: Text,
    unit: Text,
    chart: Chart,
    names: Vec<Text>,
    values: Vec<[Text; 4]>,
}

/// A picture of a screen.
struct PictureRow {
    name: Text,
    /// The PNG in base64: only letters, digits, `+`, `/` and `=`.
    data: String,
}

struct ArtifactRow {
    name: Text,
    stage: Text,
    size: String,
    digest: String,
    late: bool,
}

/// A label that someone else chose, and its value.
struct Fact2 {
    label: Text,
    value: Text,
}

struct TimelineRow {
    seq: i64,
    at: Text,
    after: String,
    text: Text,
}

struct SealRow {
    head: String,
    events: i64,
    key_id: Text,
}

impl Page {
    fn of(view: &RunView, report: &Report, extras: &Extras) -> Self {
        let said = words::verdict(view);
        let mut findings: Vec<_> = report.findings.iter().map(|f| (f.severity, finding(view, f))).collect();
        findings.sort_by_key(|(severity, _)| Reverse(*severity));
        let to_do = report.findings.iter().filter(|f| f.severity == Severity::Critical);
        Self {
            number: report.run.number,
            target: Text::new(&report.run.target),
            headline: Text::new(&said.headline),
            why: Text::new(&said.why),
            tone: match said.tone {
                Tone::Good => "good",
                Tone::Caution => "caution",
                Tone::Bad => "bad",
                Tone::Neutral => "neutral",
            },
            interim: interim(view),
            shouts: shouts(view),
            to_do: to_do.map(|f| finding(view, f)).collect(),
            failures: failures(view, report, extras),
            unverified: report.unverified.iter().map(|u| Text::new(u)).collect(),
            since: extras.since_green.as_ref().map(|since| since::Since::of(since, extras.linked)),
            about: words::about(view),
            machine: machine::facts(view, extras.inventory.as_ref()),
            parts: machine::parts(extras.inventory.as_ref()),
            run: run_facts(view, report),
            stages: report.stages.iter().map(stage).collect(),
            findings: findings.into_iter().map(|(_, row)| row).collect(),
            decisions: decisions(report),
            charts: charts(&extras.series).into_iter().map(chart_row).collect(),
            pictures: extras.pictures.iter().map(|(name, png)| picture(name, png)).collect(),
            artifacts: report.artifacts.iter().map(artifact).collect(),
            proven: extras
                .last_red
                .iter()
                .map(|r| Fact2 {
                    label: Text::new(&r.code),
                    value: Text::new(&r.at.map_or_else(|| "never seen red on this runner".to_owned(), at)),
                })
                .collect(),
            timeline: extras
                .events
                .iter()
                .map(|e| TimelineRow {
                    seq: e.seq,
                    at: Text::new(&at(e.at)),
                    after: words::span(e.at.since(view.created_at).as_seconds().max(0.0)),
                    text: Text::new(&timeline::tell(&e.body)),
                })
                .collect(),
            seal: view.seal.as_ref().map(|seal| SealRow {
                head: seal.head.to_string(),
                events: view.seq,
                key_id: Text::new(&envelope::claimed_key_ids(&seal.envelope).join(", ")),
            }),
        }
    }
}

fn picture(name: &str, png: &[u8]) -> PictureRow {
    PictureRow { name: Text::new(name), data: base64::engine::general_purpose::STANDARD.encode(png) }
}

fn interim(view: &RunView) -> Option<Text> {
    if view.seal.is_some() {
        return None;
    }
    let why = match view.hold_until {
        Some(until) => format!(
            "Interim report: the run is held until {} and its verdict is not sealed. What an operator decides may still change it.",
            at(until)
        ),
        None if view.state().is_terminal() => {
            "Interim report: the run is over, but its verdict is not sealed yet.".to_owned()
        }
        None => format!(
            "Interim report: the run is {} and its verdict is not sealed. It may still change.",
            view.state()
        ),
    };
    Some(Text::new(&why))
}

/// What must not be overlooked, in red words.
fn shouts(view: &RunView) -> Vec<Text> {
    let mut out = Vec::new();
    for d in view.decisions.iter().filter(|d| d.decision.kind == assay_model::DecisionKind::Waive) {
        let stage = d.stage.as_deref().unwrap_or("the run");
        out.push(Text::new(&format!("Overridden: {} waived {stage}: “{}”", d.decision.by, d.decision.why)));
    }
    if !view.created.muted.is_empty() {
        let codes = view.created.muted.join(", ");
        out.push(Text::new(&format!("Checks switched off: {codes}. This run {}.", words::counts_not(view))));
    }
    let left_out: Vec<&str> =
        view.created.options.left_out.iter().map(assay_model::StageName::as_str).collect();
    if !left_out.is_empty() {
        let names = left_out.join(", ");
        out.push(Text::new(&format!("Stages left out: {names}. This run {}.", words::counts_not(view))));
    }
    out
}

/// Stages that stopped the run or would have, and a boot that never came.
fn failures(view: &RunView, report: &Report, extras: &Extras) -> Vec<Failure> {
    let boot = extras.events.iter().rev().find_map(|e| match &e.body {
        EventBody::BootFailed { message } => Some(message),
        _ => None,
    });
    let boot = (view.failed_stage() == Some(assay_model::view::BOOT)).then(|| Failure {
        stage: Text::new(assay_model::view::BOOT),
        message: Text::new(boot.map_or("The machine did not come up in time.", String::as_str)),
        waived: false,
    });
    let stages = report.stages.iter().filter(|s| s.verdict.is_some_and(|v| v.blocks(s.required)));
    let stages = stages.map(|s| Failure {
        stage: Text::new(&s.name),
        message: Text::new(&s.message),
        waived: s.waived,
    });
    boot.into_iter().chain(stages).collect()
}

fn run_facts(view: &RunView, report: &Report) -> Vec<Fact> {
    let end = view.completed_at.unwrap_or(view.at);
    let took = view.started_at.map(|start| words::span(end.since(start).as_seconds().max(0.0)));
    let agent = view.enrolled.as_ref().map(|e| e.agent.clone());
    let mut facts = vec![
        Fact::new("Run", &format!("{} ({})", report.run.number, report.run.id)),
        Fact::new("Pipeline", &format!("{}, {} profile", report.run.pipeline, report.run.profile)),
        Fact::new("State", report.run.state.as_str()),
        Fact::new("Requested by", &view.created.requested_by),
    ];
    facts.extend(
        [
            Fact::maybe("Started", view.started_at.map(at)),
            Fact::maybe("Ended", view.completed_at.map(at)),
            Fact::maybe("Took", took),
            Fact::maybe("Runner", view.runner.clone()),
            Fact::maybe("Agent", agent),
            Fact::maybe("Boots", (view.boots > 0).then(|| view.boots.to_string())),
        ]
        .into_iter()
        .flatten(),
    );
    facts.push(Fact::new("Assay", &view.created.harness));
    facts
}

fn stage(s: &ReportStage) -> StageRow {
    let bad = s.verdict.is_some_and(|v| v.blocks(s.required));
    let failed_checks =
        s.checks.iter().filter(|c| matches!(c.verdict, Verdict::Fail | Verdict::Error)).count();
    StageRow {
        name: Text::new(&s.name),
        verdict: s.verdict.map_or(if s.attempt == 0 { "not run" } else { "open" }, word),
        class: match s.verdict {
            _ if s.waived => "caution",
            Some(Verdict::Pass) => "good",
            Some(_) if bad => "bad",
            Some(Verdict::Unverified) => "caution",
            Some(_) | None => "neutral",
        },
        waived: s.waived,
        required: s.required,
        attempt: s.attempt,
        duration: s.seconds.map_or_else(|| "–".to_owned(), words::span),
        coverage: s.coverage.iter().map(|c| Text::new(&c.to_string())).collect(),
        message: Text::new(&s.message),
        lost: s.lost_attempts.iter().map(|l| Text::new(l)).collect(),
        checks: s
            .checks
            .iter()
            .map(|c| CheckRow {
                name: Text::new(&c.name),
                verdict: word(c.verdict),
                expected: Text::new(&c.expected),
                seen: Text::new(&c.seen),
            })
            .collect(),
        failed_checks,
        open: bad || failed_checks > 0,
    }
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Skip => "skipped",
        Verdict::Unverified => "not verified",
        Verdict::Error => "ERROR",
    }
}

fn finding(view: &RunView, f: &Finding) -> FindingRow {
    let waived =
        f.stage.as_ref().is_some_and(|name| view.stages.iter().any(|s| s.waived && s.plan.name == *name));
    FindingRow {
        code: Text::new(&f.code),
        severity: f.severity.as_str(),
        stage: Text::new(f.stage.as_ref().map_or("the run itself", |s| s.as_str())),
        part: f.part.as_ref().map(part),
        message: Text::new(&f.message),
        next_step: Text::new(&f.next_step),
        evidence: f.evidence.iter().map(|e| Text::new(e)).collect(),
        waived,
    }
}

/// A part as the label on it says: `DIMM A2`, `Disk bay 3 (serial …)`.
fn part(part: &Part) -> Text {
    let kind = match part.kind.as_str() {
        "dimm" | "nic" | "cpu" | "gpu" | "psu" | "bmc" => part.kind.to_uppercase(),
        other => {
            let mut letters = other.chars();
            letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
        }
    };
    Text::new(&Part { kind, ..part.clone() }.to_string())
}

fn decisions(report: &Report) -> Vec<DecisionRow> {
    let row = |d: &assay_model::report::ReportDecision| DecisionRow {
        at: Text::new(&readable(&d.at)),
        kind: Text::new(&match d.disks.as_slice() {
            [] => d.kind.clone(),
            disks => format!("{} to erase {} at", d.kind, disks.join(", ")),
        }),
        stage: d.stage.as_deref().map(Text::new),
        by: Text::new(&d.by),
        why: Text::new(&d.why),
    };
    report.decisions.iter().map(row).collect()
}

fn chart_row(chart: Chart) -> ChartRow {
    let title = match chart.unit.as_str() {
        "°C" => "Temperatures",
        "V" => "Voltages",
        "RPM" => "Fans",
        "W" => "Power",
        _ => "Readings",
    };
    ChartRow {
        title: Text::new(title),
        unit: Text::new(&chart.unit),
        names: chart.lines.iter().map(|l| Text::new(&l.name)).collect(),
        values: chart
            .lines
            .iter()
            .map(|l| [&l.min, &l.max, &l.max_at, &l.last].map(|v| Text::new(v)))
            .collect(),
        chart,
    }
}

fn artifact(a: &ArtifactView) -> ArtifactRow {
    ArtifactRow {
        name: Text::new(&a.name),
        stage: Text::new(a.stage.as_ref().map_or("–", |s| s.as_str())),
        size: words::size(a.bytes),
        digest: a.digest.to_string(),
        late: a.late,
    }
}

/// A time as people write it: `2026-03-02 14:05:09 UTC`.
fn at(time: Micros) -> String {
    readable(&time.rfc3339())
}

fn readable(rfc3339: &str) -> String {
    match rfc3339.split_once('T') {
        Some((day, time)) => {
            format!("{day} {} UTC", time.split('.').next().unwrap_or(time).trim_end_matches('Z'))
        }
        None => rfc3339.to_owned(),
    }
}
