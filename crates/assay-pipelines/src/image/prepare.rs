//! The stage `Prepare`: the image becomes a medium, the way the operator makes one, and the machine's disks are laid out.

use assay_model::check::bytes;
use assay_model::{
    Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict, text,
};

use super::evidence::Prepared;
use super::profile::Profile;
use super::{ImageInput, ImageStage, judged};

/// The image becomes a medium.
pub(crate) struct Prepare;

impl ImageStage for Prepare {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from("Prepare"), owner: Owner::Agent, required: true, timeout_s: 120 }
    }

    fn judge(&self, input: &ImageInput<'_>) -> Judgement {
        judged(self, input, |evidence: &Prepared| {
            if let Some(silent) = not_told(input.profile(), evidence) {
                return Judgement::error(format!("the runner does not tell {silent}"));
            }
            let (mut checks, mut findings) = (Vec::new(), Vec::new());
            checks.push(Check {
                name: "medium".to_owned(),
                verdict: if evidence.problem.is_none() { Verdict::Pass } else { Verdict::Fail },
                expected: "written".to_owned(),
                seen: text::clean_to(evidence.problem.as_ref().unwrap_or(&evidence.medium), 600),
            });
            if let Some(from) = &evidence.taken_up {
                checks.push(Check {
                    name: "snapshot".to_owned(),
                    verdict: Verdict::Pass,
                    expected: "as asked for".to_owned(),
                    seen: text::clean_to(&from.words(), 600),
                });
            }
            if let Some(problem) = &evidence.problem {
                findings.push(Finding::new(
                    "MediumNotWritten",
                    Severity::Critical,
                    text::clean_to(problem, 600),
                    "Make the medium by hand in the same way; what fails here fails for the operator as well.",
                ));
            }
            if let Some(flash) = &evidence.flash {
                let ok = flash.code == Some(0);
                checks.push(Check {
                    name: "flash tool".to_owned(),
                    verdict: if ok { Verdict::Pass } else { Verdict::Fail },
                    expected: "exit code 0".to_owned(),
                    seen: flash
                        .code
                        .map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}")),
                });
                if !ok {
                    findings.push(Finding::new(
                        "FlashToolFailed",
                        Severity::Critical,
                        format!(
                            "{} failed: {}",
                            text::clean(&flash.command),
                            text::clean_to(&flash.said, 600)
                        ),
                        "Run the command by hand on a copy of the stick's image.",
                    ));
                }
            }
            for file in &evidence.staged {
                checks.push(Check {
                    name: format!("staged {}", text::clean(&file.path)),
                    verdict: if file.read_back { Verdict::Pass } else { Verdict::Fail },
                    expected: "reads back as written".to_owned(),
                    seen: if file.read_back {
                        format!("{} bytes", file.bytes)
                    } else {
                        "something else".to_owned()
                    },
                });
                if !file.read_back {
                    findings.push(Finding::new(
                        "StagedFileLost",
                        Severity::Critical,
                        format!(
                            "{} does not read back from the stick as it was written",
                            text::clean(&file.path)
                        ),
                        "Look whether the flash tool writes its own files over the staged ones.",
                    ));
                }
            }
            let message = if let Some(finding) = findings.first() {
                finding.message.clone()
            } else if input.spec.on.is_some() {
                format!("{} of {}", evidence.medium, bytes(evidence.bytes))
            } else {
                let accel = evidence.accel.split(':').next().unwrap_or_default();
                let disks = text::plural(evidence.disks.len(), "disk");
                format!("{} of {}, {disks}; guests run by {accel}", evidence.medium, bytes(evidence.bytes))
            };
            let staged = evidence.staged.len() as u64;
            let read = evidence.staged.iter().filter(|file| file.read_back).count() as u64;
            let coverage =
                vec![Coverage { what: "staged files read back".to_owned(), covered: read, total: staged }];
            let coverage = coverage.into_iter().filter(|c| c.total > 0).collect();
            Judgement::from_evidence(checks, findings, coverage, Vec::new(), message)
        })
    }
}

/// What the profile has done to the medium and the evidence says nothing of.
fn not_told(profile: &Profile, evidence: &Prepared) -> Option<String> {
    if evidence.problem.is_some() {
        return None;
    }
    if !profile.medium.flash.is_empty() && evidence.flash.is_none() {
        return Some("how the flash tool ended".to_owned());
    }
    let told = |path: &String| evidence.staged.iter().any(|file| file.path == *path);
    let untold = profile.medium.files.iter().find(|file| !told(&file.path))?;
    Some(format!("whether {} is on the stick", text::clean(&untold.path)))
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
