//! The stage `Inspect`: what the image is made of, before anything boots.

use assay_model::check::bytes;
use assay_model::{
    Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict, text,
};
use regex::Regex;

use super::evidence::Inspected;
use super::profile::{Firmware, MediumAs, Profile};
use super::{ImageInput, ImageStage, judged};

/// What the image is made of.
pub(crate) struct Inspect;

impl ImageStage for Inspect {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from("Inspect"), owner: Owner::Agent, required: true, timeout_s: 120 }
    }

    fn judge(&self, input: &ImageInput<'_>) -> Judgement {
        judged(self, input, |evidence: &Inspected| judge(input.profile(), evidence))
    }
}

fn judge(profile: &Profile, evidence: &Inspected) -> Judgement {
    let mut told = Told::default();
    if let Some(problem) = &evidence.problem {
        told.check("image", false, "readable", text::clean_to(problem, 300));
        told.find(
            "ImageUnreadable",
            text::clean_to(problem, 300),
            "Was it built and copied to its end? Compare its digest with the build's.",
        );
        let message = told.findings[0].message.clone();
        return Judgement::from_evidence(told.checks, told.findings, Vec::new(), Vec::new(), message);
    }
    let whole = evidence.said_bytes <= evidence.bytes;
    told.check("size", whole, format!("at least {}", bytes(evidence.said_bytes)), bytes(evidence.bytes));
    if !whole {
        let message = format!(
            "the image says that it has {}, and the file ends after {}",
            bytes(evidence.said_bytes),
            bytes(evidence.bytes)
        );
        told.find("ImageTruncated", message, "Build or copy it again; compare digests.");
    }
    boots(&mut told, profile, evidence);
    let inspect = &profile.inspect;
    if let Some(wanted) = &inspect.volume_id {
        let fits = Regex::new(wanted).is_ok_and(|wanted| wanted.is_match(&evidence.volume_id));
        told.check("volume id", fits, format!("`{}`", text::clean(wanted)), text::clean(&evidence.volume_id));
        if !fits {
            let message = format!("the volume id is `{}`", text::clean(&evidence.volume_id));
            told.find(
                "VolumeIdWrong",
                message,
                "Boot loaders and installers find their medium by it; set it in the build.",
            );
        }
    }
    if let Some(most) = inspect.max_size {
        let fits = evidence.bytes <= most.0;
        told.check("size budget", fits, format!("at most {most}"), bytes(evidence.bytes));
        if !fits {
            let message = format!("the image has {}, more than its budget of {most}", bytes(evidence.bytes));
            told.find(
                "ImageTooLarge",
                message,
                "Look at what came in since the last build, or raise inspect.max-size.",
            );
        }
    }
    for wanted in &inspect.required {
        let found = evidence.required.get(wanted).cloned().unwrap_or_default();
        let full = found.iter().any(|file| !evidence.empty.contains(file));
        let seen = match (found.first(), full) {
            (None, _) => "nothing".to_owned(),
            (Some(file), true) => text::clean(file),
            (Some(file), false) => format!("{}, empty", text::clean(file)),
        };
        told.check(&format!("file {}", text::clean(wanted)), full, "there, not empty", seen.clone());
        if !full {
            let message = format!("required {}: {seen}", text::clean(wanted));
            told.find("RequiredFileMissing", message, "Look whether the build moved or dropped it.");
        }
    }
    for file in &evidence.forbidden {
        told.check(&format!("file {}", text::clean(file)), false, "not there", "there");
        let message = format!("{} is on the image", text::clean(file));
        told.find("ForbiddenFile", message, "Whoever has the image has the file. Take it out of the build.");
    }
    let message = match told.findings.first() {
        Some(finding) => finding.message.clone(),
        None => format!(
            "`{}`, {}, {} files, boots {}",
            text::clean(&evidence.volume_id),
            bytes(evidence.bytes),
            evidence.files,
            evidence
                .entries
                .iter()
                .filter(|e| e.usable)
                .map(|e| e.firmware.as_str())
                .collect::<Vec<_>>()
                .join(" and "),
        ),
    };
    let coverage = vec![Coverage {
        what: "required files".to_owned(),
        covered: inspect
            .required
            .iter()
            .filter(|w| evidence.required.get(*w).is_some_and(|f| !f.is_empty()))
            .count() as u64,
        total: inspect.required.len() as u64,
    }];
    let coverage = coverage.into_iter().filter(|c| c.total > 0).collect();
    Judgement::from_evidence(told.checks, told.findings, coverage, Vec::new(), message)
}

/// Whether the firmware finds something to boot, on the medium that the profile makes of it.
fn boots(told: &mut Told, profile: &Profile, evidence: &Inspected) {
    let wanted = match profile.inspect.boots.as_slice() {
        [] => vec![profile.machine.firmware],
        named => named.to_vec(),
    };
    for firmware in wanted {
        let name = if firmware == Firmware::Bios { "BIOS" } else { "UEFI" };
        let (ok, seen) = match profile.medium.kind {
            MediumAs::Cd => {
                let entry = evidence.entries.iter().find(|entry| entry.firmware == name);
                let seen = entry.map_or_else(|| "no entry".to_owned(), |entry| text::clean(&entry.detail));
                (entry.is_some_and(|entry| entry.usable), seen)
            }
            MediumAs::Usb => {
                let ok = if firmware == Firmware::Bios { evidence.stick_bios } else { evidence.stick_uefi };
                (ok, if ok { "boots from a stick" } else { "nothing to boot from a stick" }.to_owned())
            }
        };
        told.check(&format!("boot entry for {name}"), ok, "there and usable", seen.clone());
        if !ok {
            told.find(
                "NotBootable",
                format!("nothing for {name} to boot: {seen}"),
                "Look at the build's El Torito entries (and, for sticks, its partition table): xorriso -indev IMAGE -report_el_torito plain",
            );
        }
    }
}

#[derive(Default)]
struct Told {
    checks: Vec<Check>,
    findings: Vec<Finding>,
}

impl Told {
    fn check(&mut self, name: &str, ok: bool, expected: impl Into<String>, seen: impl Into<String>) {
        let verdict = if ok { Verdict::Pass } else { Verdict::Fail };
        self.checks.push(Check {
            name: name.to_owned(),
            verdict,
            expected: expected.into(),
            seen: seen.into(),
        });
    }

    fn find(&mut self, code: &str, message: impl Into<String>, next: &str) {
        self.findings.push(Finding::new(code, Severity::Critical, message, next));
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
