//! From evidence to a verdict: what stood in the way, what the disks could not do, and how much was proven.

use assay_model::host::order::Profile;
use assay_model::host::spec::{DiskSpec, HostSpec};
use assay_model::host::storage::{
    BadClass, Left, Refusal, RefusalKind, StorageDisk, StorageEvidence, Surface, SurfacePlan, SurfaceStop,
    name_of, wanted_disks,
};
use assay_model::text::{clean, clean_to, plural};
use assay_model::{Check, Coverage, Finding, Judgement, Severity, StageName, Verdict};

use super::speed::{Held, against_floors, against_siblings, floors, slow_zone};
use super::{NAME, least_sampled, plan_for};
use crate::JudgeInput;
use crate::host::consent;

/// Longest part of a sentence that the machine chose.
const MAX_DETAIL: usize = 400;
const GIB: f64 = 1_073_741_824.0;
const STALLS: &str =
    "Check its cable, backplane slot and power; if it stalls in another slot as well, replace it.";
const VANISHED: &str =
    "Reseat the disk and its cable and check its power; if it goes away in another slot as well, replace it.";

pub(super) fn judge(evidence: &StorageEvidence, input: &JudgeInput<'_>) -> Judgement {
    let wanted = wanted_disks(input.spec, input.replaced);
    let mut totals = Totals::default();
    let unnamed = input.spec.disks.len() - wanted.len();
    if unnamed > 0 {
        totals.unproven(format!(
            "{unnamed} disks of the spec have neither serial number nor WWN: they are never written to; name them in the spec"
        ));
    }
    totals.unverified.extend(evidence.problems.iter().map(|problem| clean(problem)));
    if wanted.is_empty() {
        return totals.without_disks(input.spec);
    }
    if totals.may_write(evidence, input.spec) {
        for wanted in &wanted {
            match evidence.disks.iter().find(|disk| disk.wanted == name_of(wanted)) {
                Some(disk) => totals.disk(disk, wanted, evidence, input),
                None => totals
                    .unproven(format!("disk {}: the evidence says nothing of it", clean(name_of(wanted)))),
            }
        }
    }
    totals.judgement(evidence.profile)
}

/// What all disks add up to.
#[derive(Default)]
struct Totals {
    checks: Vec<Check>,
    findings: Vec<Finding>,
    unverified: Vec<String>,
    /// Whether something is unproven that must be proven.
    blind: bool,
    covered: u64,
    total: u64,
    tested: usize,
}

/// The disk in findings: what is on its label, and where it is.
struct Named<'a> {
    label: String,
    name: String,
    wanted: &'a DiskSpec,
    artifacts: &'a [String],
}

impl<'a> Named<'a> {
    fn of(disk: &'a StorageDisk, wanted: &'a DiskSpec) -> Self {
        // What the spec says, so that an operator's permit can name it word for word.
        let name = clean(name_of(wanted));
        let mut more = Vec::new();
        if !disk.name.is_empty() {
            more.push(clean(&disk.name));
        }
        if let Some(bay) = &wanted.bay {
            more.push(format!("bay {}", clean(bay)));
        }
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
        Self { label: format!("disk {name}{more}"), name, wanted, artifacts: &disk.artifacts }
    }

    fn finding(&self, code: &str, severity: Severity, says: &str, next_step: &str) -> Finding {
        let message = format!("{}: {}", self.label, clean_to(says, MAX_DETAIL));
        let finding = Finding::new(code, severity, message, next_step);
        let finding = finding.part("disk", self.wanted.bay.as_deref(), Some(&self.name));
        self.artifacts.iter().fold(finding, |finding, artifact| finding.evidence(clean(artifact)))
    }
}

impl Totals {
    /// Something that had to be proven and was not.
    fn unproven(&mut self, sentence: String) {
        self.blind = true;
        self.unverified.push(sentence);
    }

    /// Whether anything could be written at all, and if not, why not.
    fn may_write(&mut self, evidence: &StorageEvidence, spec: &HostSpec) -> bool {
        let Some(refused) = consent::refusal(&evidence.permit, spec) else { return true };
        match refused.answered {
            Some((what, expected, seen)) => self.fail(what, expected, &seen),
            None if spec.cluster.is_none() => {
                self.unproven("no disk was tested: the spec does not declare a cluster".to_owned());
            }
            None => self.unproven("no disk was tested: the cluster could not be asked".to_owned()),
        }
        self.findings.push(refused.finding);
        false
    }

    fn fail(&mut self, name: &str, expected: &str, seen: &str) {
        self.checks.push(Check {
            name: name.to_owned(),
            verdict: Verdict::Fail,
            expected: expected.to_owned(),
            seen: clean_to(seen, MAX_DETAIL),
        });
    }

    fn disk(
        &mut self,
        disk: &StorageDisk,
        wanted: &DiskSpec,
        evidence: &StorageEvidence,
        input: &JudgeInput<'_>,
    ) {
        let named = Named::of(disk, wanted);
        self.unverified
            .extend(disk.problems.iter().map(|problem| format!("{}: {}", named.label, clean(problem))));
        for refusal in &disk.refusals {
            let finding = refused(&named, refusal);
            self.fail(&format!("{}: may be written", named.label), "yes", &refusal.detail);
            self.findings.push(finding);
        }
        // The look before anything is written reads as well, and what happens only once may happen then.
        let slowest = disk.probe.as_ref().map_or(0, |probe| probe.slowest_ms);
        let stall_s = input.spec.limits.storage.stall_s;
        if slowest > u64::from(stall_s) * 1000 {
            let says = format!(
                "a request took longer than {stall_s} s while it was looked at: {:.1} s",
                slowest as f64 / 1000.0
            );
            self.fail(&format!("{}: answers", named.label), &format!("within {stall_s} s"), &says);
            self.findings.push(named.finding("DiskStalled", Severity::Critical, &says, STALLS));
        }
        self.total = self.total.saturating_add(disk.size_bytes.unwrap_or_default());
        let Some(surface) = &disk.surface else {
            if disk.refusals.is_empty() {
                let why = if evidence.written {
                    "nothing says why"
                } else {
                    "something stands in the way of another disk"
                };
                self.unproven(format!("{} was not tested: {why}", named.label));
            }
            return;
        };
        self.surface(&named, disk, surface, input);
        self.speed(&named, disk, &evidence.disks, input);
        if disk.left == Some(Left::Unknown) {
            self.unverified
                .push(format!("{}: what is on it now is not known; it was to be left empty", named.label));
        }
    }

    fn surface(&mut self, named: &Named<'_>, disk: &StorageDisk, surface: &Surface, input: &JudgeInput<'_>) {
        let label = &named.label;
        let before = self.findings.len();
        self.findings.extend(bad_sectors(named, surface));
        self.findings.extend(ended_early(named, surface));
        if surface.stalls > 0 && surface.stopped != Some(SurfaceStop::Hung) {
            let says = format!(
                "{} requests took longer than {} s, the longest {:.1} s",
                surface.stalls, input.spec.limits.storage.stall_s, surface.longest_request_s
            );
            self.findings.push(named.finding("DiskStalled", Severity::Critical, &says, STALLS));
        }
        if surface.recovered > 0 {
            let says =
                format!("{} requests failed and went well when they were tried again", surface.recovered);
            let next_step =
                "Reseat the disk and its cable, and look at its health data; replace it if it happens again.";
            self.findings.push(named.finding("DiskUnstable", Severity::Warning, &says, next_step));
        }
        let failed = self.findings[before..].iter().any(|finding| finding.severity == Severity::Critical);

        // What the profile asks for, whatever the agent says that it planned.
        let size = disk.size_bytes.unwrap_or(surface.device_bytes).max(surface.device_bytes);
        let asked = match plan_for(input.profile, disk.replaced) {
            SurfacePlan::Sampled => {
                surface.planned_bytes.max(least_sampled(size, &input.spec.limits.storage))
            }
            SurfacePlan::Full | SurfacePlan::BurnIn => size,
        };
        let plan_fits = rank(surface.plan) >= rank(plan_for(input.profile, disk.replaced));
        let whole = asked > 0 && plan_fits && surface.covered_bytes >= asked;
        let verdict = match (failed, whole && surface.stopped.is_none()) {
            (true, _) => Verdict::Fail,
            (false, true) => Verdict::Pass,
            (false, false) => Verdict::Unverified,
        };
        self.checks.push(Check {
            name: format!("{label}: surface"),
            verdict,
            expected: format!("{} written and read back right{}", gib(asked), patterns(surface.plan)),
            seen: format!("{} in {:.0} s", gib(surface.covered_bytes), surface.seconds),
        });
        self.covered = self.covered.saturating_add(surface.covered_bytes.min(size));
        self.tested += usize::from(verdict == Verdict::Pass);
        if verdict == Verdict::Unverified {
            let why = surface.impossible.as_deref().map(|why| format!(": {}", clean_to(why, MAX_DETAIL)));
            self.unproven(format!(
                "{label}: only {} of {} were written and read back{}",
                gib(surface.covered_bytes),
                gib(asked),
                why.unwrap_or_default()
            ));
        }
    }

    fn speed(&mut self, named: &Named<'_>, disk: &StorageDisk, all: &[StorageDisk], input: &JudgeInput<'_>) {
        let limits = &input.spec.limits.storage;
        let Some(surface) = disk.surface.as_ref().filter(|s| s.stopped.is_none() && s.impossible.is_none())
        else {
            return;
        };
        let mut held = against_floors(floors(limits, disk), disk);
        held.extend(against_siblings(disk, all, limits.sibling_percent_min));
        let slow: Vec<&Held> = held.iter().filter(|held| !held.holds).collect();
        if !slow.is_empty() {
            let said: Vec<String> = slow
                .iter()
                .map(|held| format!("{}: {}, {} expected", held.what, held.seen, held.expected))
                .collect();
            let next_step = "Compare with its data sheet: replace it if it should be faster, or set the floors for its class in the spec.";
            self.findings.push(named.finding("DiskSlow", Severity::Critical, &said.join("; "), next_step));
        }
        self.checks.extend(held.into_iter().map(|held| Check {
            name: format!("{}: {}", named.label, held.what),
            verdict: if held.holds { Verdict::Pass } else { Verdict::Fail },
            expected: held.expected,
            seen: held.seen,
        }));
        let random = disk.speed.as_ref();
        let errors = random.map(|speed| speed.errors.as_slice()).unwrap_or_default();
        for error in errors {
            self.unverified.push(format!("{}: random access: {}", named.label, clean(error)));
        }
        if random.is_none_or(|speed| speed.read.is_none() || speed.write.is_none()) {
            self.unproven(format!("{}: its random access was not measured", named.label));
        }
        self.zones(named, surface, limits.zone_percent_min);
    }

    fn zones(&mut self, named: &Named<'_>, surface: &Surface, percent: u32) {
        if percent == 0 {
            return;
        }
        let Ok(slow) = slow_zone(surface, percent) else { return };
        self.checks.push(Check {
            name: format!("{}: slowest zone", named.label),
            verdict: if slow.is_some() { Verdict::Fail } else { Verdict::Pass },
            expected: format!("at least {percent} % of the zones around it"),
            seen: slow.as_ref().map_or_else(
                || "no zone is slower".to_owned(),
                |slow| format!("{:.1} MB/s beside {:.1} MB/s", slow.mb_s, slow.neighbours_mb_s),
            ),
        });
        let Some(slow) = slow else { return };
        let says = format!(
            "the zone from {} on ({} long) reads at {:.1} MB/s, those around it at {:.1} MB/s",
            gib(slow.offset),
            gib(slow.length),
            slow.mb_s,
            slow.neighbours_mb_s
        );
        let next_step = "Replace it: a zone that needs retries today loses sectors tomorrow.";
        self.findings.push(named.finding("ZoneSlow", Severity::Critical, &says, next_step));
    }

    fn without_disks(self, spec: &HostSpec) -> Judgement {
        let (verdict, message) = if spec.disks.is_empty() {
            (Verdict::Skip, "the spec lists no disks, so none was written to")
        } else {
            (Verdict::Unverified, "the spec names no disk by serial number or WWN, so none was written to")
        };
        Judgement {
            verdict,
            message: message.to_owned(),
            checks: Vec::new(),
            findings: Vec::new(),
            coverage: Vec::new(),
            unverified: self.unverified,
        }
    }

    fn judgement(mut self, profile: Profile) -> Judgement {
        for finding in &mut self.findings {
            finding.stage = Some(StageName::from(NAME));
        }
        let message = self.message();
        let what = match profile {
            Profile::Quick => "bytes of disks, written and read back (profile quick: samples)",
            Profile::Standard | Profile::Burnin => "bytes of disks, written and read back",
        };
        let coverage = vec![Coverage { what: what.to_owned(), covered: self.covered, total: self.total }];
        let mut judgement =
            Judgement::from_evidence(self.checks, self.findings, coverage, self.unverified, message);
        if judgement.verdict == Verdict::Pass && (self.blind || self.tested == 0) {
            judgement.verdict = Verdict::Unverified;
        }
        judgement
    }

    fn message(&self) -> String {
        let critical: Vec<&Finding> =
            self.findings.iter().filter(|finding| finding.severity == Severity::Critical).collect();
        match critical.as_slice() {
            [first] => first.message.clone(),
            [first, rest @ ..] => format!("{} (and {} more)", first.message, rest.len()),
            [] => match self.findings.iter().find(|finding| self.blind && finding.part.is_some()) {
                Some(first) => first.message.clone(),
                None if self.blind => self.unverified.first().cloned().unwrap_or_default(),
                None => {
                    let disks = plural(self.tested, "disk");
                    format!("{disks} written and read back, {} in all", gib(self.covered))
                }
            },
        }
    }
}

const fn rank(plan: SurfacePlan) -> u8 {
    match plan {
        SurfacePlan::Sampled => 0,
        SurfacePlan::Full => 1,
        SurfacePlan::BurnIn => 2,
    }
}

const fn patterns(plan: SurfacePlan) -> &'static str {
    match plan {
        SurfacePlan::Sampled => " (samples)",
        SurfacePlan::Full => "",
        SurfacePlan::BurnIn => " with six patterns",
    }
}

fn refused(named: &Named<'_>, refusal: &Refusal) -> Finding {
    let (code, next_step) = match refusal.why {
        RefusalKind::Absent => (
            "DiskAbsent",
            "Reseat the disk and its cable, see whether the controller lists it, or correct the expected spec.",
        ),
        RefusalKind::InUse => (
            "DiskInUse",
            "Find out what uses it; release it, or take the disk out of the spec if it must not be tested.",
        ),
        RefusalKind::BootMedium => (
            "BootMedium",
            "Take the disk out of the spec: the machine runs from it; boot the live image from the network instead.",
        ),
        RefusalKind::Removable => (
            "DiskRemovable",
            "Take the disk out of the spec: media that can be taken out are never written to.",
        ),
        RefusalKind::ReadOnly => (
            "DiskReadOnly",
            "Look for a write-protect switch; a disk that has locked itself must be replaced.",
        ),
        RefusalKind::Shared => (
            "DiskShared",
            "Unmap it from this machine or take it out of the spec: only disks that no other machine can reach are written to.",
        ),
        RefusalKind::Swapped => (
            "DiskSwapped",
            "Find out who changed disks while the machine was being vetted, then retry with a fresh inventory.",
        ),
        RefusalKind::NotPermitted => (
            "PermitInvalid",
            "Retry the stage; if it stays, compare the serial number in the spec with the disk's label.",
        ),
        RefusalKind::HoldsData => (
            "UnexpectedData",
            "Save what is needed; if it may be erased, permit it with the disk's serial number, and the stage runs again.",
        ),
        RefusalKind::Unreadable => (
            "SurfaceUnreadable",
            "Reseat the disk and its cable, and retry; replace it if it cannot be read again.",
        ),
        RefusalKind::Vanished => ("DiskVanished", VANISHED),
    };
    let says = match refusal.why {
        RefusalKind::HoldsData => format!("it holds data: {}; nothing was written", refusal.detail),
        _ => format!("{}; nothing was written", refusal.detail),
    };
    named.finding(code, Severity::Critical, &says, next_step)
}

fn bad_sectors(named: &Named<'_>, surface: &Surface) -> Vec<Finding> {
    let replace = "Replace the disk.";
    let kinds: [(BadClass, &str, u64, &str, &str); 5] = [
        (BadClass::Unreadable, "SurfaceUnreadable", surface.unreadable_bytes, "cannot be read", replace),
        (BadClass::Unwritable, "SurfaceUnwritable", surface.unwritable_bytes, "cannot be written", replace),
        (
            BadClass::Corrupt,
            "SurfaceCorrupt",
            surface.corrupt_bytes,
            "read back wrong, without any error being reported",
            "Replace the disk; if it happens with another one in the same slot, suspect cable, controller or memory.",
        ),
        (
            BadClass::Aliased,
            "SurfaceAliased",
            surface.aliased_bytes,
            "read back what was written to another place",
            "Replace the disk: it has less room than it claims, or writes to wrong places.",
        ),
        (
            BadClass::Stale,
            "SurfaceStale",
            surface.stale_bytes,
            "read back what was there before: a write that was acknowledged did not stay",
            "Replace the disk: it loses writes that it has acknowledged.",
        ),
    ];
    kinds
        .into_iter()
        .filter(|(.., bytes, _, _)| *bytes > 0)
        .map(|(class, code, bytes, what, next_step)| {
            let first = surface.bad.iter().find(|bad| bad.class == class);
            let place = first.map(|bad| {
                let other =
                    bad.other.map(|other| format!(" (holds the data of byte {other})")).unwrap_or_default();
                format!(", the first at byte {}{other}", bad.offset)
            });
            let hint = surface.capacity_hint.filter(|_| class == BadClass::Aliased);
            let hint =
                hint.map(|bytes| format!("; it seems to have room for {}", gib(bytes))).unwrap_or_default();
            let says = format!("{bytes} bytes {what}{}{hint}", place.unwrap_or_default());
            named.finding(code, Severity::Critical, &says, next_step)
        })
        .collect()
}

fn ended_early(named: &Named<'_>, surface: &Surface) -> Option<Finding> {
    let covered = gib(surface.covered_bytes);
    let (code, says, next_step) = match surface.stopped? {
        SurfaceStop::Gone => (
            "DiskVanished",
            format!("it went away while it was tested, after {} were written", gib(surface.written_bytes)),
            VANISHED,
        ),
        SurfaceStop::Hung => (
            "DiskStalled",
            format!("a request did not come back within {:.0} s", surface.longest_request_s),
            STALLS,
        ),
        SurfaceStop::FlushFailed => (
            "SurfaceUnwritable",
            format!("it took writes and could not put them on the medium; {covered} were proven"),
            "Replace the disk.",
        ),
        // What was found says it; the scan only did not go on.
        SurfaceStop::TooManyErrors | SurfaceStop::TooMuchWrong | SurfaceStop::Cancelled => return None,
    };
    Some(named.finding(code, Severity::Critical, &says, next_step))
}

fn gib(bytes: u64) -> String {
    let gib = bytes as f64 / GIB;
    if gib >= 10.0 { format!("{gib:.0} GiB") } else { format!("{gib:.2} GiB") }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
