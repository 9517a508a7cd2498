//! Expected against seen: purely, so that the proof of the proofs needs no machine.

use assay_api::operator::RunDetail;
use assay_model::recipe::Ladder;
use assay_model::{Pipeline, RunResult, Severity};
use serde::Serialize;

use super::catalogue::{Conclusion, Expected, Kind, MadeBy, Proof};

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Seen {
    /// `pass`, `fail`, or `error` where there is no result.
    pub(super) verdict: &'static str,
    /// The stage that failed.
    pub(super) stage: Option<String>,
    /// The expected code where it was raised as critical, otherwise the first critical one.
    pub(super) code: Option<String>,
    /// All critical codes.
    pub(super) codes: Vec<String>,
    /// Codes of lesser findings.
    pub(super) lesser: Vec<String>,
    /// The run's number.
    pub(super) run: Option<i64>,
    /// One sentence: what the failed stage said, or why there is no verdict.
    pub(super) message: String,
    /// The stages that were judged.
    pub(super) judged: Vec<String>,
    /// What became of the control.
    pub(super) control: Option<Control>,
    /// What went wrong with making the fault, if something did.
    #[serde(skip)]
    pub(super) not_made: Vec<String>,
    /// Critical findings.
    #[serde(skip)]
    critical: Vec<Critical>,
}

/// A critical finding, as far as it is held against what is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Critical {
    stage: Option<String>,
    code: String,
    /// Serial number and place of the part that it blames.
    part: Vec<String>,
}

/// A control, as its entry's line has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Control {
    /// Its entry.
    pub(super) name: String,
    /// Whether it passed.
    pub(super) ok: bool,
}

/// One line of output.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) pipeline: Pipeline,
    pub(super) kind: Kind,
    pub(super) made_by: MadeBy,
    pub(super) expected: Expected,
    pub(super) seen: Seen,
    /// Seen as expected, and the control passed.
    pub(super) ok: bool,
    pub(super) seconds: f64,
    /// Of a recipe: its ladder, as it was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ladder: Option<String>,
    /// Why it is not ok.
    #[serde(skip)]
    pub(super) problems: Vec<String>,
}

impl Seen {
    /// What a finished run came to, for an entry that expects `code`.
    pub(super) fn of(detail: &RunDetail, code: Option<&str>) -> Self {
        let report = &detail.report;
        let of_severity = |critical: bool| {
            report.findings.iter().filter(move |f| (f.severity == Severity::Critical) == critical)
        };
        let critical: Vec<_> = of_severity(true)
            .map(|finding| Critical {
                stage: finding.stage.as_ref().map(|stage| stage.0.clone()),
                code: finding.code.clone(),
                part: finding
                    .part
                    .iter()
                    .flat_map(|part| [&part.serial, &part.location])
                    .flatten()
                    .cloned()
                    .collect(),
            })
            .collect();
        let codes = unique(critical.iter().map(|finding| finding.code.clone()));
        let expected = code.filter(|code| codes.iter().any(|seen| seen == code)).map(str::to_owned);
        let failed = detail.summary.failed_stage.clone();
        let verdict = match detail.summary.result {
            Some(RunResult::Pass) => "pass",
            Some(RunResult::Fail) => "fail",
            None => "error",
        };
        let of_stage = report.stages.iter().find(|stage| Some(&stage.name) == failed.as_ref());
        let first = report.findings.iter().find(|finding| finding.severity == Severity::Critical);
        let message = of_stage.map(|stage| &stage.message).or_else(|| first.map(|finding| &finding.message));
        Self {
            verdict,
            stage: failed,
            code: expected.or_else(|| codes.first().cloned()),
            codes,
            lesser: unique(of_severity(false).map(|finding| finding.code.clone())),
            run: Some(detail.summary.number),
            message: message.cloned().unwrap_or_else(|| format!("the run is {}", detail.summary.state)),
            judged: report
                .stages
                .iter()
                .filter(|stage| stage.verdict.is_some())
                .map(|stage| stage.name.clone())
                .collect(),
            control: None,
            not_made: Vec::new(),
            critical,
        }
    }

    /// There is no verdict, because of something on our side.
    pub(super) fn error(message: String) -> Self {
        Self { verdict: "error", message, ..Self::default() }
    }

    /// `fail at SMART: NvmeCriticalWarning`
    pub(super) fn words(&self) -> String {
        words(self.verdict, self.stage.as_deref(), self.code.as_deref())
    }

    fn raised(&self, stage: Option<&str>, code: &str) -> bool {
        // A finding about the run as a whole belongs to no stage; then its code alone decides.
        let here = |of: &Option<String>| of.is_none() || of.as_deref() == stage;
        self.critical.iter().any(|finding| finding.code == code && here(&finding.stage))
    }

    fn blamed(&self, code: &str, part: &str) -> bool {
        let names = |finding: &&Critical| finding.part.iter().any(|name| name.trim() == part);
        self.critical.iter().filter(names).any(|finding| finding.code == code)
    }
}

impl Expected {
    /// `fail at SMART: NvmeCriticalWarning`
    pub(super) fn words(&self) -> String {
        words(self.verdict.as_str(), self.stage.as_deref(), self.code.as_deref())
    }

    /// Where `seen` is something else: one sentence each, none when it came out as expected.
    pub(super) fn differences(&self, seen: &Seen) -> Vec<String> {
        let mut out = Vec::new();
        if seen.verdict != self.verdict.as_str() {
            out.push(format!("expected {}, seen {}: {}", self.verdict.as_str(), seen.words(), seen.message));
        } else if seen.stage != self.stage {
            let stage = |stage: &Option<String>| stage.clone().unwrap_or_else(|| "no stage".to_owned());
            out.push(format!(
                "expected to fail at {}, failed at {}: {}",
                stage(&self.stage),
                stage(&seen.stage),
                seen.message
            ));
        }
        if let Some(code) = &self.code
            && !seen.raised(self.stage.as_deref(), code)
        {
            let codes = if seen.codes.is_empty() { "none".to_owned() } else { seen.codes.join(", ") };
            out.push(format!("`{code}` was not raised as critical; critical codes: {codes}"));
        }
        for part in &self.parts {
            let code = self.code.as_deref().unwrap_or_default();
            if seen.raised(self.stage.as_deref(), code) && !seen.blamed(code, part) {
                out.push(format!("no critical `{code}` blames {part}"));
            }
        }
        for code in &self.beside {
            if !seen.codes.contains(code) && !seen.lesser.contains(code) {
                out.push(format!("`{code}` was not raised beside it"));
            }
        }
        if self.verdict == Conclusion::Pass && !seen.codes.is_empty() {
            out.push(format!("critical findings on a machine in good order: {}", seen.codes.join(", ")));
        }
        out
    }
}

impl Conclusion {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

impl Line {
    /// The outcome of an entry. `control` is the outcome of its control, where it has one.
    pub(super) fn of(entry: &Proof, mut seen: Seen, seconds: f64, control: Option<&Self>) -> Self {
        let mut problems = seen.not_made.clone();
        problems.extend(entry.expected.differences(&seen));
        if let Some(name) = &entry.control {
            let ok = control.is_some_and(|line| line.name == *name && line.ok);
            if !ok {
                problems.push(format!("its control {name} did not pass, so this proves nothing"));
            }
            seen.control = Some(Control { name: name.clone(), ok });
        }
        Self {
            name: entry.name.clone(),
            pipeline: entry.pipeline,
            kind: entry.kind,
            made_by: entry.made_by,
            expected: entry.expected.clone(),
            seen,
            ok: problems.is_empty(),
            seconds,
            ladder: None,
            problems,
        }
    }

    /// With what is to be seen of a recipe's ladder and tests; each difference is a reason why it is not ok.
    pub(super) fn with_ladder(mut self, ladder: Option<&Ladder>, differences: Vec<String>) -> Self {
        self.ladder = ladder.map(Ladder::line);
        self.problems.extend(differences);
        self.ok = self.problems.is_empty();
        self
    }
}

/// With the check `code` switched off: why the catalogue cannot be said to notice its loss. Exactly the entries that
/// expect the code must fail, and for want of it: one that fails because its machine never booted shows nothing.
pub(super) fn unnoticed(lines: &[Line], code: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut noticed = 0;
    for line in lines {
        let name = &line.name;
        if line.expected.code.as_deref() != Some(code) {
            // What is expected beside another code is missed there, too.
            if !line.ok && !line.expected.beside.iter().any(|beside| beside == code) {
                out.push(format!("{name} does not need {code} and is not ok: {}", line.problems.join("; ")));
            }
            continue;
        }
        let reached = line.expected.stage.as_ref().is_some_and(|stage| line.seen.judged.contains(stage));
        let control = line.seen.control.as_ref().is_some_and(|control| control.ok);
        if line.ok || line.seen.codes.iter().any(|seen| seen == code) {
            out.push(format!("{name} came out as expected although {code} was switched off"));
        } else if !reached || !control {
            out.push(format!(
                "{name} failed for another reason than the loss of {code}: {}",
                line.problems.join("; ")
            ));
        } else {
            noticed += 1;
        }
    }
    if noticed == 0 && out.is_empty() {
        out.push(format!("no entry that was run expects {code}"));
    }
    out
}

fn words(verdict: &str, stage: Option<&str>, code: Option<&str>) -> String {
    let at = stage.map(|stage| format!(" at {stage}")).unwrap_or_default();
    let code = code.map(|code| format!(": {code}")).unwrap_or_default();
    format!("{verdict}{at}{code}")
}

fn unique(codes: impl Iterator<Item = String>) -> Vec<String> {
    let mut out = Vec::new();
    for code in codes {
        if !out.contains(&code) {
            out.push(code);
        }
    }
    out
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
