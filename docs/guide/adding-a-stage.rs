//! The stage `TPM`: the machine has a TPM of version 2, which disk encryption and measured boot rely on.
//!
//! What can fail a machine here: a TPM that says it is older. What must never pass here: a TPM that does not say.

use assay_model::text::clean;
use assay_model::{Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict};
use serde::{Deserialize, Serialize};

use crate::{HostStage, JudgeInput};

/// The stage's name: stable, scripts match on it.
const NAME: &str = "TPM";
/// The oldest version that is good enough.
const MIN_VERSION: u32 = 2;

/// TPMs.
pub(crate) struct Tpm;

/// What the machine told. Unknown keys are passed over: a newer agent may tell more.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Evidence {
    /// Every TPM, by the kernel's name.
    tpms: Vec<Device>,
}

/// One TPM.
#[derive(Debug, Serialize, Deserialize)]
struct Device {
    /// `tpm0`.
    name: String,
    /// 1 or 2; none when it cannot be read.
    version: Option<u32>,
}

impl HostStage for Tpm {
    fn plan(&self) -> StagePlan {
        // Not required: many machines have none. `stages: {TPM: {required: true}}` in a spec asks for one.
        StagePlan { name: StageName::from(NAME), owner: Owner::Agent, required: false, timeout_s: 60 }
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        match serde_json::from_value::<Evidence>(input.evidence.clone()) {
            Ok(evidence) => judge(&evidence),
            Err(problem) => Judgement::error(format!(
                "the evidence of {NAME} cannot be read ({problem}); are agent and server of the same version?"
            )),
        }
    }

    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        context: &'a crate::CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<crate::Collected, crate::CollectError>> {
        Box::pin(async move {
            (context.progress)("asking the TPMs for their version");
            let failed = |problem: String| crate::CollectError { stage: StageName::from(NAME), problem };
            let evidence = Evidence { tpms: tpms(&context.machine.path("sys/class/tpm")) };
            let evidence = serde_json::to_value(evidence).map_err(|problem| failed(problem.to_string()))?;
            Ok(crate::Collected { evidence, artifacts: Vec::new() })
        })
    }
}

/// What the kernel lists. A machine without the folder has no TPM.
#[cfg(feature = "collect")]
fn tpms(folder: &std::path::Path) -> Vec<Device> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let device = |entry: std::fs::DirEntry| {
        let version = std::fs::read_to_string(entry.path().join("tpm_version_major"));
        let version = version.ok().and_then(|text| text.trim().parse().ok());
        Device { name: entry.file_name().to_string_lossy().into_owned(), version }
    };
    let mut tpms: Vec<Device> = entries.map(device).collect();
    tpms.sort_by(|one, other| one.name.cmp(&other.name));
    tpms
}

/// Evidence in, verdict out: no clock, no files, no network.
fn judge(evidence: &Evidence) -> Judgement {
    let (mut checks, mut findings, mut unverified) = (Vec::new(), Vec::new(), Vec::new());
    for tpm in &evidence.tpms {
        // What a machine says is shown to people: cleaned first.
        let name = clean(&tpm.name);
        let Some(version) = tpm.version else {
            unverified.push(format!("TPM {name} does not say its version"));
            continue;
        };
        let is_good = version >= MIN_VERSION;
        checks.push(Check {
            name: format!("TPM {name}: version"),
            verdict: if is_good { Verdict::Pass } else { Verdict::Fail },
            expected: format!("{MIN_VERSION} or later"),
            seen: version.to_string(),
        });
        if !is_good {
            let finding = Finding::new(
                "TpmTooOld",
                Severity::Critical,
                format!("TPM {name} is of version {version}, expected {MIN_VERSION} or later"),
                "Switch the TPM to version 2 in the firmware's settings, or replace the module.",
            );
            findings.push(finding.stage(&StageName::from(NAME)).part("tpm", Some(&name), None));
        }
    }
    let (read, all) = (checks.len() as u64, evidence.tpms.len() as u64);
    let coverage = vec![Coverage { what: "TPMs".to_owned(), covered: read, total: all }];
    let message = match findings.first() {
        Some(finding) => finding.message.clone(),
        None if all == 0 => "this machine has no TPM".to_owned(),
        None => format!("{read} of {all} TPMs told their version"),
    };
    let mut judgement = Judgement::from_evidence(checks, findings, coverage, unverified, message);
    if all == 0 {
        // Nothing to look at is not the same as not having looked.
        judgement.verdict = Verdict::Skip;
    } else if read < all && judgement.verdict == Verdict::Pass {
        // The verdict drawn from what is there can only be lowered by what is not.
        judgement.verdict = Verdict::Unverified;
    }
    judgement
}
