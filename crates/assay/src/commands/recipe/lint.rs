//! `assay recipe lint`: what is wrong with a recipe, before anything is deployed.
//!
//! One line a finding, in the form that editors and CI jobs read (`file:line: …`). A rule that could not be checked is
//! told as such, and is no pass.

use std::path::PathBuf;

use anyhow::Result;
use assay_recipe::Recipe;
use assay_recipe::lint::{Finding, LintReport, RULES, RuleResult, Severity, Verdict, lint};
use clap::Args;

use crate::exit::Exit;
use crate::ui;

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Lint {
    /// The recipe's folder: a checkout, so that its releases can be looked at.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Warnings fail as well.
    #[arg(long)]
    strict: bool,
    /// Also print the rules that passed or do not apply.
    #[arg(long)]
    all: bool,
    /// Print the rules and read nothing.
    #[arg(long, conflicts_with_all = ["strict", "all"])]
    rules: bool,
    /// One JSON object to stdout.
    #[arg(long)]
    json: bool,
}

impl Lint {
    pub(crate) async fn run(self) -> Result<Exit> {
        if self.rules {
            return self.print_rules();
        }
        let recipe = Recipe::open(&self.folder)?;
        let report = lint(&recipe).await;
        if self.json {
            ui::json(&report)?;
        } else {
            self.print(&report);
        }
        Ok(exit(&report, self.strict))
    }

    fn print_rules(&self) -> Result<Exit> {
        if self.json {
            ui::json(&RULES)?;
            return Ok(Exit::Ok);
        }
        let rows: Vec<Vec<String>> = RULES
            .iter()
            .map(|rule| vec![rule.id.into(), word(rule.severity).into(), rule.title.into()])
            .collect();
        ui::table(&["RULE", "SEVERITY", "ASKS FOR"], &rows);
        Ok(Exit::Ok)
    }

    fn print(&self, report: &LintReport) {
        for result in &report.results {
            for finding in &result.findings {
                ui::line(&told(result, finding));
                ui::line(&format!("    {}", finding.next_step));
            }
        }
        for (verdict, reason, rules) in self.reasons(report) {
            ui::line(&format!("{} {}: {reason}", rules.join(", "), words(verdict)));
        }
        ui::say(&counts(report));
    }

    /// Why rules came to neither a pass nor a fail, or to less than a whole one; those with the same reason together.
    fn reasons<'r>(&self, report: &'r LintReport) -> Vec<(Verdict, &'r str, Vec<&'r str>)> {
        let mut told: Vec<(Verdict, &str, Vec<&str>)> = Vec::new();
        for result in &report.results {
            let wanted = match result.verdict {
                Verdict::Fail => result.reason.is_some(),
                Verdict::Unverified | Verdict::NotChecked => true,
                Verdict::Pass | Verdict::Skip => self.all,
            };
            if !wanted {
                continue;
            }
            let reason = result.reason.as_deref().unwrap_or(&result.title);
            match told.iter_mut().find(|(verdict, why, _)| (*verdict, *why) == (result.verdict, reason)) {
                Some((_, _, rules)) => rules.push(&result.rule),
                None => told.push((result.verdict, reason, vec![&result.rule])),
            }
        }
        told
    }
}

/// `compose.yml:12: error R011: … (services.app)`.
fn told(result: &RuleResult, finding: &Finding) -> String {
    let line = if finding.line == 0 { String::new() } else { format!("{}:", finding.line) };
    let path = if finding.path.is_empty() { String::new() } else { format!(" ({})", finding.path) };
    format!("{}:{line} {} {}: {}{path}", finding.file, word(result.severity), result.rule, finding.message)
}

/// `2 errors, 1 warning; 14 rules passed, 3 do not apply, 2 were not checked here, 1 could not be checked`.
fn counts(report: &LintReport) -> String {
    let found = |severity: Severity| -> usize {
        report.results.iter().filter(|r| r.severity == severity).map(|r| r.findings.len()).sum()
    };
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let of = |verdict: Verdict| report.with(verdict).count();
    format!(
        "{}: {}, {}; {} passed, {} without anything to look at, {} not checked here, {} that could not be checked",
        report.recipe,
        plural(found(Severity::Error), "error"),
        plural(found(Severity::Warning), "warning"),
        plural(of(Verdict::Pass), "rule"),
        of(Verdict::Skip),
        of(Verdict::NotChecked),
        of(Verdict::Unverified),
    )
}

/// A rule of severity error that could not be checked leaves the question open.
fn exit(report: &LintReport, strict: bool) -> Exit {
    let counts = |result: &&RuleResult| strict || result.severity == Severity::Error;
    if report.with(Verdict::Fail).any(|result| counts(&result)) {
        return Exit::Fail;
    }
    if report.with(Verdict::Unverified).any(|result| counts(&result)) {
        return Exit::NoResult;
    }
    Exit::Ok
}

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

const fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "passed",
        Verdict::Fail => "failed, not checked as a whole",
        Verdict::Skip => "does not apply",
        Verdict::NotChecked => "not checked here",
        Verdict::Unverified => "could not be checked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(severity: Severity, verdict: Verdict) -> RuleResult {
        RuleResult {
            rule: "R011".to_owned(),
            title: "all services have images".to_owned(),
            severity,
            verdict,
            reason: None,
            findings: Vec::new(),
        }
    }

    #[test]
    fn what_could_not_be_checked_is_no_pass() {
        let of = |results: &[(Severity, Verdict)]| LintReport {
            recipe: "x".to_owned(),
            results: results.iter().map(|(severity, verdict)| result(*severity, *verdict)).collect(),
        };
        let (error, warning) = (Severity::Error, Severity::Warning);
        for (results, usual, strict) in [
            (&[(error, Verdict::Pass), (warning, Verdict::Skip)][..], Exit::Ok, Exit::Ok),
            (&[(error, Verdict::NotChecked)], Exit::Ok, Exit::Ok),
            (&[(warning, Verdict::Fail)], Exit::Ok, Exit::Fail),
            (&[(warning, Verdict::Unverified)], Exit::Ok, Exit::NoResult),
            (&[(error, Verdict::Unverified)], Exit::NoResult, Exit::NoResult),
            (&[(error, Verdict::Unverified), (error, Verdict::Fail)], Exit::Fail, Exit::Fail),
        ] {
            let report = of(results);
            assert_eq!((exit(&report, false), exit(&report, true)), (usual, strict), "{results:?}");
        }
    }

    #[test]
    fn rules_with_one_reason_share_a_line() {
        let with = |rule: &str, verdict: Verdict, reason: Option<&str>| RuleResult {
            rule: rule.to_owned(),
            reason: reason.map(str::to_owned),
            ..result(Severity::Error, verdict)
        };
        let report = LintReport {
            recipe: "x".to_owned(),
            results: vec![
                with("R001", Verdict::Unverified, Some("it does not read")),
                with("R002", Verdict::Fail, None),
                with("R003", Verdict::Unverified, Some("it does not read")),
                with("R004", Verdict::Skip, Some("nothing to look at")),
            ],
        };
        let lint = Lint { folder: PathBuf::new(), strict: false, all: false, rules: false, json: false };
        assert_eq!(lint.reasons(&report), [(Verdict::Unverified, "it does not read", vec!["R001", "R003"])]);
        let all = Lint { all: true, ..lint };
        assert_eq!(all.reasons(&report).len(), 2);
    }

    #[test]
    fn a_finding_is_a_line_that_editors_read() {
        let mut finding = Finding {
            file: "compose.yml".to_owned(),
            line: 12,
            path: "services.app".to_owned(),
            message: "no image".to_owned(),
            next_step: "name one".to_owned(),
        };
        let result = result(Severity::Error, Verdict::Fail);
        assert_eq!(told(&result, &finding), "compose.yml:12: error R011: no image (services.app)");
        (finding.line, finding.path) = (0, String::new());
        assert_eq!(told(&result, &finding), "compose.yml: error R011: no image");
    }
}
