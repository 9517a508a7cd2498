//! What the machine's counters say of the time in which a stage ran, merged into that stage's judgement.
//!
//! The agent reads the counters before and after every stage and puts both readings beside the stage's evidence. A
//! critical change fails a stage that passed by itself. What the machine does not tell is unknown: said once, with
//! the first stage, and never taken for zero.

mod kernel;
#[cfg(test)]
mod tests;

use assay_model::host::counters::{CounterPair, KEY, NicCounters};
use assay_model::host::inventory::Inventory;
use assay_model::host::order::PartKind;
use assay_model::host::spec::{CounterLimits, HostSpec};
use assay_model::text::clean;
use assay_model::{Check, Coverage, Finding, Judgement, Owner, Severity, StagePlan, Verdict};

use crate::JudgeInput;

/// Findings of one kind that are told one by one; a machine that reports thousands is told of as such.
const MAX_OF_A_KIND: usize = 16;

/// Adds what the counters say to what the stage said.
pub(super) fn merge(judgement: &mut Judgement, plan: &StagePlan, input: &JudgeInput<'_>) {
    if plan.owner != Owner::Agent {
        return;
    }
    let first = plan.name == super::inventory::NAME;
    let Some(value) = input.evidence.get(KEY) else {
        // Nothing came at all: then the stage's own verdict says why.
        if first && !input.evidence.is_null() {
            judgement.unverified.push("the machine's error counters were not read by this agent".to_owned());
        }
        return;
    };
    let pair: CounterPair = match serde_json::from_value(value.clone()) {
        Ok(pair) => pair,
        Err(problem) => {
            judgement.unverified.push(format!(
                "the machine's error counters cannot be read ({problem}); are agent and server of the same version?"
            ));
            return;
        }
    };
    let mut said = Said { findings: Vec::new(), stage: judgement };
    said.all(&pair, input.spec, &Modules::of(input));
    let findings = said.findings;
    let unknown = unknown(&pair);
    if first {
        judgement.unverified.extend(unknown.iter().map(|what| (*what).to_owned()));
        judgement.coverage.push(Coverage {
            what: "kinds of error counters".to_owned(),
            covered: KINDS.saturating_sub(unknown.len() as u64),
            total: KINDS,
        });
    }
    let problems = pair.before.problems.iter().chain(&pair.after.problems);
    let mut problems: Vec<String> = problems.map(|problem| clean(problem)).collect();
    problems.dedup();
    judgement.unverified.extend(problems.into_iter().take(MAX_OF_A_KIND));
    if findings.iter().any(|finding| finding.severity == Severity::Critical) {
        // An error says that the stage could not be run: that stands, with the findings beside it.
        if judgement.verdict != Verdict::Error {
            judgement.message = match judgement.verdict {
                Verdict::Fail => judgement.message.clone(),
                _ => format!("{}; but the machine's error counters grew meanwhile", judgement.message),
            };
            judgement.verdict = Verdict::Fail;
        }
    }
    for finding in &findings {
        let failed = finding.severity == Severity::Critical;
        judgement.checks.push(Check {
            name: format!("counters: {}", finding.code),
            verdict: if failed { Verdict::Fail } else { Verdict::Pass },
            expected: "no growth beyond the limits during the stage".to_owned(),
            seen: finding.message.clone(),
        });
    }
    judgement.findings.extend(findings);
}

/// Memory, machine checks, PCI Express, network ports, kernel messages.
const KINDS: u64 = 5;

fn unknown(pair: &CounterPair) -> Vec<&'static str> {
    let mut unknown = Vec::new();
    if pair.after.memory.is_none() {
        unknown.push(
            "memory errors are not counted: no EDAC driver is bound to this machine's memory controller",
        );
    }
    if pair.after.machine_checks.is_none() {
        unknown.push("machine checks are not counted: the kernel shows none in /proc/interrupts");
    }
    if pair.after.pcie.is_empty() {
        unknown.push("PCI Express errors are not counted: no device shows error reporting (AER)");
    }
    if pair.after.nics.is_empty() {
        unknown.push("network errors are not counted: no hardware port is there");
    }
    if pair.before.kernel.is_none() || pair.after.kernel.is_none() {
        unknown.push("the kernel's messages could not be read");
    }
    unknown
}

/// Which memory modules there are, and which were just replaced.
struct Modules {
    /// Slots of replaced modules; `None` for one whose slot the firmware does not tell.
    replaced: Vec<(String, Option<String>)>,
    slots: Vec<(String, Option<String>)>,
}

impl Modules {
    fn of(input: &JudgeInput<'_>) -> Self {
        let inventory = ["SpecValidate", "Inventory"]
            .iter()
            .find_map(|stage| Inventory::from_evidence(input.evidence_of(stage)?).ok())
            .unwrap_or_default();
        let slots: Vec<(String, Option<String>)> = inventory
            .memory
            .dimms
            .iter()
            .filter_map(|dimm| Some((dimm.locator.clone()?, dimm.serial.clone())))
            .collect();
        let slot_of = |serial: &str| {
            slots.iter().find(|(_, known)| known.as_deref() == Some(serial)).map(|(slot, _)| slot.clone())
        };
        let dimms = input.replaced.iter().filter(|part| part.kind == PartKind::Dimm);
        let replaced = dimms.map(|part| (part.new.clone(), slot_of(&part.new))).collect();
        Self { replaced, slots }
    }

    /// The slot that a label of the kernel means, if it says.
    fn slot(&self, label: Option<&str>) -> Option<&(String, Option<String>)> {
        let label = label?;
        self.slots.iter().find(|(slot, _)| slot == label)
    }

    /// Whether a counter may be that of a module that was just replaced. Where labels do not lead to slots, any may.
    fn may_be_replaced(&self, label: Option<&str>) -> bool {
        match self.slot(label) {
            Some((slot, _)) => self.replaced.iter().any(|(_, of)| of.as_ref().is_none_or(|of| of == slot)),
            None => !self.replaced.is_empty(),
        }
    }
}

struct Said<'a> {
    findings: Vec<Finding>,
    stage: &'a Judgement,
}

impl Said<'_> {
    fn all(&mut self, pair: &CounterPair, spec: &HostSpec, modules: &Modules) {
        let limits = &spec.limits.counters;
        self.memory(pair, limits, modules);
        self.machine_checks(pair, limits);
        self.pcie(pair, limits);
        self.throttled(pair);
        self.nics(pair, limits, spec.limits.network.errors_max);
        self.bmc(pair);
        self.kernel(pair);
    }

    /// The stage may have seen the same thing more closely.
    fn told_by_stage(&self, codes: &[&str], location: Option<&str>) -> bool {
        self.stage.findings.iter().any(|finding| {
            // `eno1 (0000:03:00.0)`: the name stands first.
            let part = finding.part.as_ref().and_then(|part| part.location.as_deref()?.split(' ').next());
            codes.iter().any(|code| finding.code.contains(code)) && (location.is_none() || part == location)
        })
    }

    fn memory(&mut self, pair: &CounterPair, limits: &CounterLimits, modules: &Modules) {
        let (Some(before), Some(after)) = (&pair.before.memory, &pair.after.memory) else { return };
        let mut told = 0;
        for now in after {
            let Some(then) = before.iter().find(|then| then.id == now.id) else { continue };
            let corrected = now.corrected.saturating_sub(then.corrected);
            let uncorrected = now.uncorrected.saturating_sub(then.uncorrected);
            if corrected == 0 && uncorrected == 0 || told == MAX_OF_A_KIND {
                continue;
            }
            told += 1;
            let slot = modules.slot(now.label.as_deref());
            let name = clean(now.label.as_deref().unwrap_or(&now.id));
            let serial = slot.and_then(|(_, serial)| serial.clone());
            let mut push = |finding: Finding| {
                self.findings.push(finding.part("dimm", Some(&name), serial.as_deref()));
            };
            if uncorrected > 0 {
                push(Finding::new(
                    "MemoryUncorrected",
                    Severity::Critical,
                    format!("memory {name}: {uncorrected} uncorrected errors during this stage"),
                    "Replace the memory module, and clean its slot before the new one goes in.",
                ));
            }
            if corrected > 0 {
                let allowed = limits
                    .memory_corrected_max
                    .max((limits.memory_corrected_per_hour_max as f64 * pair.hours()) as u64);
                let replaced = modules.may_be_replaced(now.label.as_deref());
                let why = if replaced {
                    "none is allowed where memory was just replaced".to_owned()
                } else {
                    format!("at most {allowed} are allowed")
                };
                push(Finding::new(
                    "MemoryCorrected",
                    if replaced || corrected > allowed { Severity::Critical } else { Severity::Warning },
                    format!("memory {name}: {corrected} corrected errors during this stage; {why}"),
                    "Reseat the memory module; if it goes on in another slot, replace it, otherwise suspect slot and processor socket.",
                ));
            }
        }
    }

    fn machine_checks(&mut self, pair: &CounterPair, limits: &CounterLimits) {
        let lines = pair.after.kernel.as_ref().map_or(&[][..], |log| &log.lines);
        let seen = kernel::machine_checks(lines);
        let raised = pair
            .before
            .machine_checks
            .zip(pair.after.machine_checks)
            .map_or(0, |(before, after)| after.saturating_sub(before));
        let part = |finding: Finding| finding.part("cpu", seen.cpu.as_deref(), None);
        if seen.uncorrected > 0 || raised > 0 {
            let what =
                seen.example.clone().unwrap_or_else(|| format!("{raised} exceptions on all processors"));
            self.findings.push(part(Finding::new(
                "MachineCheckUncorrected",
                Severity::Critical,
                format!("the processor reported an uncorrected error during this stage: {what}"),
                "Read the bank and address in the kernel's messages to tell memory from processor, then replace that part.",
            )));
        }
        if seen.corrected > 0 {
            let most = limits.machine_checks_corrected_max;
            self.findings.push(part(Finding::new(
                "MachineCheckCorrected",
                if seen.corrected > most { Severity::Critical } else { Severity::Warning },
                format!(
                    "{} corrected machine checks during this stage, at most {most} allowed{}",
                    seen.corrected,
                    seen.example.as_ref().map(|line| format!(": {line}")).unwrap_or_default()
                ),
                "Reseat memory and processor; if it comes back, replace the part that bank and address point to.",
            )));
        }
    }

    fn pcie(&mut self, pair: &CounterPair, limits: &CounterLimits) {
        let mut told = 0;
        for now in &pair.after.pcie {
            let Some(then) = pair.before.pcie.iter().find(|then| then.address == now.address) else {
                continue;
            };
            let correctable = now.correctable.saturating_sub(then.correctable);
            let nonfatal = now.nonfatal.saturating_sub(then.nonfatal);
            let fatal = now.fatal.saturating_sub(then.fatal);
            if correctable == 0 && nonfatal == 0 && fatal == 0 || told == MAX_OF_A_KIND {
                continue;
            }
            told += 1;
            let bad = fatal > 0
                || nonfatal > limits.pcie_nonfatal_max
                || limits.pcie_correctable_max.is_some_and(|most| correctable > most);
            let address = clean(&now.address);
            let finding = Finding::new(
                "PcieErrors",
                if bad { Severity::Critical } else { Severity::Warning },
                format!(
                    "PCI device {address}: {correctable} correctable, {nonfatal} non-fatal and {fatal} fatal errors on its link during this stage"
                ),
                "Reseat the card and its riser, clean the contacts, and try the card in another slot.",
            );
            self.findings.push(finding.part("pci", Some(&address), None));
        }
    }

    fn throttled(&mut self, pair: &CounterPair) {
        let (Some(before), Some(after)) = (pair.before.throttled, pair.after.throttled) else { return };
        let by = after.saturating_sub(before);
        if by > 0 && !self.told_by_stage(&["Throttl"], None) {
            self.findings.push(
                Finding::new(
                    "CpuThrottled",
                    Severity::Warning,
                    format!("processors slowed themselves down for heat {by} times during this stage"),
                    "Check fans, heat sinks and thermal paste, and the inlet temperature.",
                )
                .part("cpu", None, None),
            );
        }
    }

    /// As many errors of a port as the spec tolerates under full load are none here.
    fn nics(&mut self, pair: &CounterPair, limits: &CounterLimits, tolerated: u64) {
        for now in pair.after.nics.iter().take(64) {
            let Some(then) =
                pair.before.nics.iter().find(|then| then.name == now.name && then.mac == now.mac)
            else {
                continue;
            };
            self.flaps(then, now, limits);
            let grown: Vec<String> = now
                .errors
                .iter()
                .filter_map(|(name, after)| {
                    let by = after.saturating_sub(then.errors.get(name).copied().unwrap_or(0));
                    (by > 0).then(|| format!("{} {by}", clean(name)))
                })
                .collect();
            let name = clean(&now.name);
            let sum: u64 = now
                .errors
                .iter()
                .map(|(name, after)| after.saturating_sub(then.errors.get(name).copied().unwrap_or(0)))
                .fold(0, u64::saturating_add);
            if sum <= tolerated || self.told_by_stage(&["NetworkErrors"], Some(&name)) {
                continue;
            }
            let bad = limits.nic_errors_max.is_some_and(|most| sum > most);
            let finding = Finding::new(
                "NicErrors",
                if bad { Severity::Critical } else { Severity::Warning },
                format!("network port {name} counted errors during this stage: {}", grown.join(", ")),
                "Replace the cable or transceiver and try another switch port; if it goes on, replace the card.",
            );
            self.findings.push(finding.part("nic", Some(&name), now.mac.as_deref()));
        }
    }

    fn flaps(&mut self, then: &NicCounters, now: &NicCounters, limits: &CounterLimits) {
        // A port that is off has no link to lose, and switching it on or off changes its link.
        let changes = then.carrier_changes.zip(now.carrier_changes);
        let Some((before, after)) = changes.filter(|_| then.up && now.up) else { return };
        let changes = after.saturating_sub(before);
        // Going and coming back are two changes; one that did not come back is lost.
        let flaps = changes.div_ceil(2);
        let name = clean(&now.name);
        if flaps <= limits.link_flaps_max || self.told_by_stage(&["LinkFlapped"], Some(&name)) {
            return;
        }
        // A link that only came up was being negotiated when the stage began.
        if then.carrier == Some(false) && changes == 1 {
            return;
        }
        let now_is = if now.carrier == Some(false) { ", and it is down now" } else { "" };
        let finding = Finding::new(
            "LinkFlapped",
            Severity::Critical,
            format!("the link of network port {name} went away {flaps} times during this stage{now_is}"),
            "Replace the cable or transceiver and try another switch port; if it goes on, replace the card.",
        );
        self.findings.push(finding.part("nic", Some(&name), now.mac.as_deref()));
    }

    fn bmc(&mut self, pair: &CounterPair) {
        let Some(log) = &pair.after.bmc else { return };
        for event in log.new.iter().take(MAX_OF_A_KIND) {
            let text = clean(&event.text);
            let severity = kernel::event_severity(&text);
            let finding = Finding::new(
                "BmcEventLogged",
                severity,
                format!(
                    "the management controller logged during this stage: {text} (record {})",
                    clean(&event.id)
                ),
                "Read the controller's event log (ipmitool sel elist) and look at the part that it names.",
            );
            self.findings.push(finding.part("bmc", None, None));
        }
        if log.restarted {
            self.findings.push(
                Finding::new(
                    "BmcLogRestarted",
                    Severity::Info,
                    "the management controller's event log was cleared, or filled up, during this stage",
                    "See who cleared the log; what it held before cannot be compared.",
                )
                .part("bmc", None, None),
            );
        }
    }

    fn kernel(&mut self, pair: &CounterPair) {
        let Some(log) = &pair.after.kernel else { return };
        // Machine checks have findings of their own.
        let other: Vec<_> = log.lines.iter().filter(|line| !kernel::is_machine_check(line)).collect();
        let Some(first) = other.first() else { return };
        let more = other.len() as u64 - 1 + log.left_out;
        let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        self.findings.push(
            Finding::new(
                "KernelErrors",
                Severity::Warning,
                format!("the kernel reported hardware trouble during this stage: {}{more}", clean(first)),
                "Read the kernel's messages in the run's log around this stage; they name the device.",
            )
            .part("system", None, None),
        );
    }
}
