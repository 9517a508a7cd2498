//! JUnit: what CI systems show of a run. A suite per run, a case per stage; skipped and unverified are not passed.

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
