//! `Inventory`: what the machine is made of. Everything later builds on it, so a pass needs positive evidence that it
//! was really read: who the machine is, a processor, its memory, and something to store to or talk through.

use assay_model::host::inventory::Inventory as Facts;
use assay_model::text::plural;
use assay_model::{Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict};

use crate::{HostStage, JudgeInput};

pub(super) const NAME: &str = "Inventory";
/// Where the parsed inventory is kept.
const ARTIFACT: &str = "inventory.json";

/// The stage.
pub(super) struct Inventory;

impl HostStage for Inventory {
    fn plan(&self) -> StagePlan {
        // `lshw` takes most of a minute on large servers, BMCs answer slowly.
        StagePlan { name: StageName::from(NAME), owner: Owner::Agent, required: true, timeout_s: 300 }
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        match Facts::from_evidence(input.evidence) {
            Ok(facts) => judge(&facts),
            Err(problem) => Judgement::error(problem.to_string()),
        }
    }

    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        context: &'a crate::CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<crate::Collected, crate::CollectError>> {
        Box::pin(async move {
            (context.progress)("waiting for drivers and disks");
            assay_probes::settle(context.machine, context.spec.disks.len()).await;
            (context.progress)("reading the hardware");
            let (facts, artifacts) = assay_probes::inventory(context.machine).await;
            let evidence = serde_json::to_value(&facts).map_err(|problem| crate::CollectError {
                stage: NAME.into(),
                problem: format!("the inventory cannot be written down: {problem}"),
            })?;
            Ok(crate::Collected { evidence, artifacts })
        })
    }
}

fn judge(facts: &Facts) -> Judgement {
    let checks = checks(facts);
    let missing: Vec<String> = checks
        .iter()
        .filter(|check| check.verdict != Verdict::Pass)
        .map(|check| check.name.clone())
        .collect();
    let unverified: Vec<String> =
        missing.iter().map(|name| format!("{name}: not read; see {ARTIFACT} for the reason")).collect();
    let message = if missing.is_empty() {
        summary(facts)
    } else {
        format!("could not be read: {}", missing.join(", "))
    };
    let mut judgement =
        Judgement::from_evidence(checks, findings(facts), coverage(facts), unverified, message);
    if !missing.is_empty() && judgement.verdict == Verdict::Pass {
        judgement.verdict = Verdict::Unverified;
    }
    judgement
}

/// What must have been read. Not read is unverified, not failed: that the machine lacks it is for the spec to say.
fn checks(facts: &Facts) -> Vec<Check> {
    let system = &facts.system;
    let identity = [&system.product, &system.serial, &system.uuid, &facts.board.product, &facts.board.serial];
    let identity: Vec<&str> = identity.into_iter().flatten().map(String::as_str).collect();
    let threads = facts.threads().map(|threads| format!("{} sockets, {threads} threads", facts.cpus.len()));
    let memory = facts.memory.total_mib.filter(|&mib| mib > 0).map(|mib| format!("{mib} MiB"));
    let devices =
        Some(format!("{}, {}", plural(facts.disks.len(), "disk"), plural(facts.nics.len(), "network port")))
            .filter(|_| facts.disks.len() + facts.nics.len() > 0);
    [
        (
            "identity of the machine",
            "a product, serial number or UUID",
            identity.first().map(|_| identity.join(", ")),
        ),
        ("processors", "at least one", threads),
        ("memory", "its total", memory),
        ("disks and network ports", "at least one", devices),
    ]
    .into_iter()
    .map(|(name, expected, seen)| Check {
        name: name.into(),
        verdict: if seen.is_some() { Verdict::Pass } else { Verdict::Unverified },
        expected: expected.into(),
        seen: seen.unwrap_or_else(|| "nothing".into()),
    })
    .collect()
}

fn summary(facts: &Facts) -> String {
    let name = facts.system.product.as_deref().or(facts.board.product.as_deref()).unwrap_or("machine");
    let gib = facts.memory.total_mib.unwrap_or(0) as f64 / 1024.0;
    format!(
        "{name}: {}, {gib:.1} GiB, {}, {}",
        plural(facts.cpus.len(), "CPU"),
        plural(facts.disks.len(), "disk"),
        plural(facts.nics.len(), "network port")
    )
}

fn coverage(facts: &Facts) -> Vec<Coverage> {
    let modules: Vec<_> = facts.memory.dimms.iter().filter(|dimm| dimm.size_mib != Some(0)).collect();
    let count = |what: &str, covered: usize, total: usize| Coverage {
        what: what.into(),
        covered: covered as u64,
        total: total as u64,
    };
    [
        count(
            "disks with a serial number or WWN",
            facts.disks.iter().filter(|d| d.serial.is_some() || d.wwn.is_some()).count(),
            facts.disks.len(),
        ),
        count(
            "network ports with a permanent address",
            facts.nics.iter().filter(|nic| nic.mac.is_some()).count(),
            facts.nics.len(),
        ),
        count(
            "memory modules with a serial number",
            modules.iter().filter(|dimm| dimm.serial.is_some()).count(),
            modules.len(),
        ),
    ]
    .into_iter()
    .filter(|coverage| coverage.total > 0)
    .collect()
}

fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for device in &facts.driverless {
        let message = format!(
            "PCI device {} at {} (class {}) has no driver",
            device.vendor_device, device.address, device.class
        );
        let next_step = "Add its driver and firmware to the live image, or replace the card: what has no driver is not tested.";
        findings.push(
            Finding::new("DriverMissing", Severity::Warning, message, next_step)
                .part("pci", Some(&device.address), None)
                .evidence(ARTIFACT),
        );
    }
    for disk in &facts.disks {
        let wrong = match disk.size_bytes {
            None => "does not tell its size",
            Some(0) => "says that it has no sectors",
            Some(_) => continue,
        };
        let message = format!("disk {} {wrong}", disk.serial.as_deref().unwrap_or(&disk.name));
        let next_step = "Reseat the disk and look at its controller's log: it did not start up.";
        findings.push(
            Finding::new("SizeImplausible", Severity::Warning, message, next_step)
                .part("disk", Some(&disk.name), disk.serial.as_deref())
                .evidence(ARTIFACT),
        );
    }
    if let (Some(installed), Some(usable)) = (facts.memory.installed_mib(), facts.memory.total_mib) {
        // Firmware keeps some for itself, never a quarter; and nobody can use more than there is.
        if usable > installed || usable < installed / 4 * 3 {
            let message = format!("{installed} MiB of memory are installed, {usable} MiB are usable");
            let next_step = "Look in the firmware setup and event log for memory that was switched off, mirrored or spared.";
            findings.push(
                Finding::new("SizeImplausible", Severity::Warning, message, next_step)
                    .part("memory", None, None)
                    .evidence(ARTIFACT),
            );
        }
    }
    if !facts.tools_missing.is_empty() {
        let message = format!("optional tools are not there: {}", facts.tools_missing.join(", "));
        let next_step = "Add them to the live image if what they tell matters; nothing else depends on them.";
        findings.push(Finding::new("ToolMissing", Severity::Info, message, next_step).evidence(ARTIFACT));
    }
    for problem in &facts.problems {
        let next_step =
            "Harmless unless the missing facts matter; the raw output beside the inventory shows more.";
        findings.push(Finding::new("ProbeProblem", Severity::Info, problem, next_step).evidence(ARTIFACT));
    }
    let stage = StageName::from(NAME);
    findings.into_iter().map(|finding| finding.stage(&stage)).collect()
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
