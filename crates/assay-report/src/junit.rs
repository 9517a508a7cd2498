//! JUnit: what CI systems show of a run. A suite per run, a case per stage; skipped and unverified are not passed.
//!
//! Of a matrix, a suite per case: what is in quarantine is skipped with its owner and day, and a case that passed only when
//! it was run again has a failure that says so.

use std::collections::BTreeMap;

use assay_model::matrix::{CaseVerdict, Matrix, MatrixCase};

use assay_model::report::{Report, ReportStage};
use assay_model::{Severity, Verdict};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite, XmlString};

/// All runs as one JUnit document.
pub fn junit(reports: &[Report]) -> String {
    let mut document = quick_junit::Report::new("assay");
    for report in reports {
        let mut suite = TestSuite::new(format!("{} {}", report.run.pipeline, report.run.target));
        for stage in &report.stages {
            suite.add_test_case(case(report, stage));
        }
        document.add_test_suite(suite);
    }
    document.to_string().unwrap_or_default()
}

/// A matrix as one JUnit document. `reports` has the report of each case's decisive try, by the case's name.
pub fn junit_of_matrix(matrix: &Matrix, reports: &BTreeMap<String, Report>) -> String {
    let mut document = quick_junit::Report::new("assay");
    for of in &matrix.cases {
        let mut suite = TestSuite::new(format!("image {}[{}]", matrix.name, of.name));
        if let Some(report) = reports.get(&of.name) {
            for stage in &report.stages {
                let mut test = case(report, stage);
                if let (Some(excuse), true) = (&of.excused, is_red(&test)) {
                    test.status = skipped(&format!(
                        "in quarantine until {}, {} looks after it: {} ({})",
                        excuse.until, excuse.owner, excuse.reason, stage.message
                    ));
                }
                suite.add_test_case(test);
            }
        }
        if let Some(status) = tries(of, reports.contains_key(&of.name)) {
            let mut test = TestCase::new("every try", status);
            test.set_classname(format!("image.{}[{}]", matrix.name, of.name));
            suite.add_test_case(test);
        }
        document.add_test_suite(suite);
    }
    document.to_string().unwrap_or_default()
}

fn is_red(test: &TestCase) -> bool {
    matches!(test.status, TestCaseStatus::NonSuccess { .. })
}

/// What the stages of the decisive try do not say: that there were others, or that there is none.
fn tries(case: &MatrixCase, has_report: bool) -> Option<TestCaseStatus> {
    let every: Vec<_> = case
        .tries
        .iter()
        .map(|one| {
            let code = one.codes.first().map(|code| format!(" {code}")).unwrap_or_default();
            format!("try {} {}{code}: {}", one.number, one.verdict.as_str(), one.message)
        })
        .collect();
    let every = every.join("; ");
    let (words, kind) = match case.verdict() {
        CaseVerdict::Pass if case.tries.len() < 2 => return None,
        CaseVerdict::Pass => return Some(TestCaseStatus::success()),
        CaseVerdict::Flaky => {
            (format!("flaky: it passed only when it was run again; {every}"), NonSuccessKind::Failure)
        }
        CaseVerdict::NotRun => ("not run".to_owned(), NonSuccessKind::Error),
        CaseVerdict::NoVerdict => (format!("no verdict; {every}"), NonSuccessKind::Error),
        // One try with a report says it all in its stages.
        CaseVerdict::Fail | CaseVerdict::Unverified if has_report && case.tries.len() < 2 => return None,
        CaseVerdict::Fail | CaseVerdict::Unverified => (every, NonSuccessKind::Failure),
    };
    if let Some(excuse) = &case.excused {
        return Some(skipped(&format!(
            "in quarantine until {}, {} looks after it: {} ({words})",
            excuse.until, excuse.owner, excuse.reason
        )));
    }
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(XmlString::new(words));
    Some(status)
}

fn case(report: &Report, stage: &ReportStage) -> TestCase {
    let status = match stage.verdict {
        Some(Verdict::Pass) => TestCaseStatus::success(),
        Some(Verdict::Skip) => skipped(&stage.message),
        Some(Verdict::Unverified) if !stage.required => skipped(&format!("unverified: {}", stage.message)),
        Some(Verdict::Error) => failed(NonSuccessKind::Error, report, stage),
        Some(Verdict::Fail | Verdict::Unverified) => failed(NonSuccessKind::Failure, report, stage),
        None => skipped("not reached"),
    };
    let mut case = TestCase::new(stage.name.clone(), status);
    case.set_classname(format!("{}.{}", report.run.pipeline, report.run.target));
    if let Some(seconds) = stage.seconds {
        case.set_time(std::time::Duration::from_secs_f64(seconds.max(0.0)));
    }
    case
}

fn skipped(why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(XmlString::new(why));
    status
}

fn failed(kind: NonSuccessKind, report: &Report, stage: &ReportStage) -> TestCaseStatus {
    let of_stage =
        |f: &&assay_model::Finding| f.stage.as_ref().is_some_and(|name| name.as_str() == stage.name);
    let findings: Vec<_> = report.findings.iter().filter(of_stage).collect();
    let mut status = TestCaseStatus::non_success(kind);
    if let Some(worst) = findings.iter().find(|f| f.severity == Severity::Critical) {
        status.set_type(worst.code.as_str());
    }
    status.set_message(XmlString::new(&stage.message));
    let lines: Vec<_> = findings
        .iter()
        .map(|f| format!("{} {}: {}\n  → {}", f.severity, f.code, f.message, f.next_step))
        .collect();
    status.set_description(lines.join("\n"));
    status
}
