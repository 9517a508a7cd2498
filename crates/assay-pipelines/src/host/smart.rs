//! The stage `SMART`: every disk is asked for its health, before and after a short self-test.
//!
//! What can fail a machine here: a disk that says so itself, a counter beyond its limit, a counter that grows while
//! we look, a self-test that fails, an expected disk that is not there. What must never pass here: an expected disk
//! that cannot be asked. That is `unverified`, and the stage with it.

mod disk;
#[cfg(test)]
mod tests;

use assay_model::host::smart::{SelfTestOutcome, SmartDisk, SmartEvidence, SmartSupport, same_identity};
use assay_model::host::spec::{DiskSpec, HostSpec};
use assay_model::text::clean;
use assay_model::{Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict};

use self::disk::DiskReport;
use crate::{HostStage, JudgeInput};

/// The stage's name.
pub(crate) const NAME: &str = "SMART";

/// Disk health.
pub(crate) struct Smart;

impl HostStage for Smart {
    fn plan(&self) -> StagePlan {
        // Reading twice at 90 s, and a self-test of at most 10 minutes, all disks at once; then some air.
        StagePlan { name: StageName::from(NAME), owner: Owner::Agent, required: true, timeout_s: 1800 }
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        super::judged(NAME, input, |evidence: &SmartEvidence| judge(evidence, input))
    }

    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        context: &'a crate::CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<crate::Collected, crate::CollectError>> {
        Box::pin(collect(context))
    }
}

#[cfg(feature = "collect")]
async fn collect(context: &crate::CollectContext<'_>) -> Result<crate::Collected, crate::CollectError> {
    use assay_probes::smart::{SmartOptions, smart_with};

    let failed = |problem: String| crate::CollectError { stage: StageName::from(NAME), problem };
    let expected: Vec<String> = context
        .spec
        .disks
        .iter()
        .filter_map(|disk| disk.serial.clone().or_else(|| disk.wwn.clone()))
        .collect();
    let options = SmartOptions { self_test: context.spec.limits.smart.self_test, ..SmartOptions::default() };
    let probe = smart_with(context.machine, &expected, context.progress, options)
        .await
        .map_err(|problem| failed(problem.to_string()))?;
    let evidence = serde_json::to_value(&probe.evidence).map_err(|problem| failed(problem.to_string()))?;
    Ok(crate::Collected { evidence, artifacts: probe.artifacts })
}

fn judge(evidence: &SmartEvidence, input: &JudgeInput<'_>) -> Judgement {
    let spec = input.spec;
    let mut totals = Totals::default();
    // A disk that the spec describes without naming it could be any of them: then all of them count.
    let any_may_be_meant = spec.disks.iter().any(|disk| disk.serial.is_none() && disk.wwn.is_none());
    for disk in &evidence.disks {
        let meant = spec.disks.iter().find(|wanted| is_it(disk, wanted));
        let report = DiskReport::of(disk, meant, &spec.limits.smart);
        totals.add(disk, report, meant.is_some() || any_may_be_meant);
    }
    for wanted in &spec.disks {
        let named = wanted.serial.as_ref().or(wanted.wwn.as_ref());
        if let Some(named) = named.filter(|_| !evidence.disks.iter().any(|disk| is_it(disk, wanted))) {
            totals.absent(named, wanted, &evidence.disks);
        }
    }
    totals.fewer_than_described(evidence, spec);
    totals.unverified.extend(evidence.problems.iter().map(|problem| clean(problem)));
    totals.judgement()
}

fn is_it(disk: &SmartDisk, wanted: &DiskSpec) -> bool {
    let same = |told: &Option<String>, wanted: &Option<String>| {
        told.as_ref().zip(wanted.as_ref()).is_some_and(|(told, wanted)| same_identity(told, wanted))
    };
    same(&disk.serial, &wanted.serial) || same(&disk.wwn, &wanted.wwn)
}

/// What all disks add up to.
#[derive(Default)]
struct Totals {
    checks: Vec<Check>,
    findings: Vec<Finding>,
    unverified: Vec<String>,
    /// Disks whose health was read.
    read: u64,
    /// Disks whose health should have been read.
    asked: u64,
    /// Expected disks whose health could not be read.
    blind: u64,
    /// Disks that have no health data by construction.
    without: u64,
    self_tests: (u64, u64),
}

impl Totals {
    fn add(&mut self, disk: &SmartDisk, report: DiskReport, expected: bool) {
        if disk.support == SmartSupport::Virtual {
            self.without += 1;
        } else {
            self.asked += 1;
        }
        if report.read {
            self.read += 1;
            if disk.self_test.supported != Some(false) {
                self.self_tests.1 += 1;
                self.self_tests.0 += u64::from(disk.self_test.outcome == SelfTestOutcome::Passed);
            }
        } else if disk.support != SmartSupport::Virtual {
            self.unreadable(disk, &report, expected);
        }
        self.checks.extend(report.checks);
        self.findings.extend(report.findings);
        self.unverified.extend(report.unverified);
    }

    fn unreadable(&mut self, disk: &SmartDisk, report: &DiskReport, expected: bool) {
        let label = &report.label;
        let why: Vec<String> = disk.problems.iter().map(|problem| clean(problem)).collect();
        let why = match disk.support {
            _ if !why.is_empty() => why.join("; "),
            SmartSupport::Unsupported => "it says that it has no health data".to_owned(),
            _ => "it told nothing that could be judged".to_owned(),
        };
        let sentence = format!("{label}: its health could not be read: {why}");
        let severity = if expected { Severity::Warning } else { Severity::Info };
        let next_step = "Run smartctl -x on it by hand; behind a RAID controller, set it to HBA mode or pass the disk through.";
        self.findings.push(report.blame(Finding::new(
            "SmartUnreadable",
            severity,
            sentence.clone(),
            next_step,
        )));
        if expected {
            self.blind += 1;
            self.checks.push(Check {
                name: format!("{label}: health"),
                verdict: Verdict::Unverified,
                expected: "readable".to_owned(),
                seen: why,
            });
        }
        self.unverified.push(sentence);
    }

    fn absent(&mut self, named: &str, wanted: &DiskSpec, disks: &[SmartDisk]) {
        self.asked += 1;
        let named = clean(named);
        let nameless = disks.iter().filter(|disk| disk.serial.is_none() && disk.wwn.is_none()).count();
        let hint = match nameless {
            0 => String::new(),
            count => format!("; {count} of the disks that were seen told neither serial nor WWN"),
        };
        self.checks.push(Check {
            name: format!("disk {named}: present"),
            verdict: Verdict::Fail,
            expected: "present".to_owned(),
            seen: "absent".to_owned(),
        });
        let finding = Finding::new(
            "DiskAbsent",
            Severity::Critical,
            format!("disk {named} is expected and was not seen among {} disks{hint}", disks.len()),
            "Reseat the disk and its cable, see whether the controller lists it, or correct the expected spec.",
        );
        self.findings.push(finding.part("disk", wanted.bay.as_deref(), Some(&named)));
    }

    /// Disks that the spec describes without naming them can only be counted.
    fn fewer_than_described(&mut self, evidence: &SmartEvidence, spec: &HostSpec) {
        let described =
            spec.disks.iter().filter(|wanted| wanted.serial.is_none() && wanted.wwn.is_none()).count();
        let named = |disk: &&SmartDisk| spec.disks.iter().any(|wanted| is_it(disk, wanted));
        let others = evidence.disks.iter().filter(|disk| !named(disk)).count();
        let Some(missing) = described.checked_sub(others).filter(|missing| *missing > 0) else { return };
        self.asked += missing as u64;
        self.checks.push(Check {
            name: "disks expected without serial or WWN: present".to_owned(),
            verdict: Verdict::Fail,
            expected: described.to_string(),
            seen: others.to_string(),
        });
        let message = format!(
            "{described} disks are expected without serial or WWN, and {others} such disks were seen"
        );
        let next_step =
            "Reseat the disks and their cables, see what the controller lists, or correct the expected spec.";
        let finding = Finding::new("DiskAbsent", Severity::Critical, message, next_step);
        self.findings.push(finding.part("disk", None, None));
    }

    fn judgement(mut self) -> Judgement {
        for finding in &mut self.findings {
            finding.stage = Some(StageName::from(NAME));
        }
        let message = self.message();
        let mut coverage = vec![Coverage { what: "disks".to_owned(), covered: self.read, total: self.asked }];
        if self.self_tests.1 > 0 {
            let (covered, total) = self.self_tests;
            coverage.push(Coverage { what: "disk self-tests".to_owned(), covered, total });
        }
        let mut judgement =
            Judgement::from_evidence(self.checks, self.findings, coverage, self.unverified, message);
        if judgement.verdict != Verdict::Fail {
            // The verdict drawn from what is there can only be lowered by what is not.
            if self.blind > 0 || (self.asked > 0 && self.read == 0) {
                judgement.verdict = Verdict::Unverified;
            } else if self.asked == 0 {
                judgement.verdict = Verdict::Skip;
            }
        }
        judgement
    }

    fn message(&self) -> String {
        let critical: Vec<&Finding> =
            self.findings.iter().filter(|finding| finding.severity == Severity::Critical).collect();
        match critical.as_slice() {
            [first] => return first.message.clone(),
            [first, rest @ ..] => return format!("{} (and {} more)", first.message, rest.len()),
            [] => {}
        }
        match (self.asked, self.read) {
            (0, _) if self.without == 1 => "no health data to read: the only disk is virtual".to_owned(),
            (0, _) if self.without > 0 => {
                format!("no health data to read: all {} disks are virtual", self.without)
            }
            (0, _) => "no disks are here and none are expected".to_owned(),
            (asked, read) if read == asked => format!("{read} of {asked} disks read, none is failing"),
            (asked, read) => format!("{read} of {asked} disks read; the rest could not be asked"),
        }
    }
}
