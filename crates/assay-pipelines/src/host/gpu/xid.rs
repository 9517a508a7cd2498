//! What the driver's error reports (`Xid`) mean.
//!
//! The numbers and their meaning are NVIDIA's (its Xid catalogue); the severity answers one question: can healthy
//! hardware cause this while the only program is ours? It was not compared with the catalogue line by line. A number
//! that is not listed is told as a warning, never dropped.

use std::collections::BTreeMap;

use assay_model::host::gpu::{GpuDevice, GpuEvidence, Xid};
use assay_model::text::clean;
use assay_model::{Check, Finding, Severity, Verdict};

/// Number, severity, what it means.
const KNOWN: [(u32, Severity, &str); 31] = [
    (13, Severity::Warning, "an exception of the compute engine"),
    (31, Severity::Warning, "a fault of its memory management"),
    (32, Severity::Warning, "a corrupted command stream; also a bad PCI Express link"),
    (38, Severity::Warning, "an error of its firmware"),
    (43, Severity::Warning, "it stopped a program's work"),
    (45, Severity::Info, "work was removed after another error"),
    (48, Severity::Critical, "a memory error that was not corrected"),
    (54, Severity::Critical, "its extra power cable is not connected"),
    (61, Severity::Critical, "its internal controller stopped"),
    (62, Severity::Critical, "its internal controller halted"),
    (63, Severity::Warning, "memory was taken out of use after errors"),
    (64, Severity::Critical, "memory could not be taken out of use after errors"),
    (69, Severity::Warning, "an error of the graphics engine"),
    (74, Severity::Critical, "an error of an NVLink"),
    (79, Severity::Critical, "it has fallen off the bus"),
    (92, Severity::Critical, "a high rate of corrected memory errors"),
    (94, Severity::Critical, "a memory error that was not corrected, contained to one program"),
    (95, Severity::Critical, "a memory error that was not corrected and not contained"),
    (109, Severity::Warning, "it took too long to change between programs"),
    (119, Severity::Critical, "its system processor does not answer"),
    (120, Severity::Critical, "its system processor failed"),
    (121, Severity::Warning, "an error of its link to the processor, corrected"),
    (140, Severity::Critical, "a memory error that it could not recover from"),
    (143, Severity::Critical, "it could not be initialised"),
    (144, Severity::Critical, "an error of an NVLink"),
    (145, Severity::Critical, "an error of an NVLink"),
    (146, Severity::Critical, "an error of an NVLink"),
    (147, Severity::Critical, "an error of an NVLink"),
    (148, Severity::Critical, "an error of an NVLink"),
    (149, Severity::Critical, "an error of an NVLink"),
    (150, Severity::Critical, "an error of an NVLink"),
];

/// A finding for each kind of report of each GPU, and one check over all.
pub(super) fn judge(evidence: &GpuEvidence) -> (Vec<Finding>, Option<Check>) {
    let mut kinds: BTreeMap<(&str, u32), Vec<&Xid>> = BTreeMap::new();
    for xid in &evidence.xids {
        kinds.entry((&xid.address, xid.number)).or_default().push(xid);
    }
    let findings: Vec<Finding> = kinds.values().filter_map(|kind| finding(kind, &evidence.gpus)).collect();
    let worst = findings.iter().map(|finding| finding.severity).max();
    let check = (evidence.kernel_log_read || worst.is_some()).then(|| Check {
        name: "error reports of the GPU driver (Xid)".to_owned(),
        verdict: if worst == Some(Severity::Critical) { Verdict::Fail } else { Verdict::Pass },
        expected: "none that blame the hardware".to_owned(),
        seen: match evidence.xids.len() {
            0 => "none".to_owned(),
            count => format!("{count}"),
        },
    });
    // A log without a report is worth a check only where there is a driver that would write one.
    (findings, check.filter(|_| evidence.driver.nvml || worst.is_some()))
}

fn finding(kind: &[&Xid], gpus: &[GpuDevice]) -> Option<Finding> {
    let first = kind.first()?;
    let known = KNOWN.iter().find(|(number, ..)| *number == first.number);
    let (severity, meaning) =
        known.map_or((Severity::Warning, "not known here"), |(_, severity, meaning)| (*severity, *meaning));
    let gpu = gpus.iter().find(|gpu| first.is_about(&gpu.address));
    let address = clean(gpu.map_or(first.address.as_str(), |gpu| gpu.address.as_str()));
    let during = kind.iter().filter(|xid| xid.during).count();
    let message = format!(
        "GPU {address}: Xid {}, {meaning}: {} since boot, {during} of them during this stage",
        first.number,
        kind.len()
    );
    let next = if severity == Severity::Critical {
        "Check the GPU's seat, power and cooling, and replace it if the report comes again."
    } else {
        "Look the number up in the maker's catalogue, and watch whether it comes again."
    };
    let serial = gpu.and_then(|gpu| gpu.serial.as_deref().map(clean));
    Some(
        Finding::new("GpuXid", severity, message, next)
            .part("gpu", Some(&address), serial.as_deref())
            .evidence("gpu-kernel-log.txt"),
    )
}
