//! The stage `CPUStress`: memory written and verified as a whole, processors and memory under load with every result
//! verified, and heat watched all the while.
//!
//! A timed stress is no test of all the memory, so the verdict hangs on coverage: bytes written *and* verified, of
//! those that the kernel could give. An exit code is no verdict either: a tool that could not work is an error of the
//! runner's, and only what is known to be the hardware fails the machine. Too hot, and everything stops at once.

#[cfg(feature = "collect")]
mod collect;
mod memory;
#[cfg(test)]
mod tests;
mod tools;

use assay_model::host::cpu_stress::{CpuStressEvidence, Ended, Temperature, Throttled};
use assay_model::host::inventory::Inventory;
use assay_model::host::order::Profile;
use assay_model::host::spec::HostSpec;
use assay_model::text::clean;
use assay_model::{Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict};

use crate::{HostStage, JudgeInput};

/// The stage's name.
pub(crate) const NAME: &str = "CPUStress";

/// More sensors than any machine has.
const MAX_SENSORS: usize = 1024;
/// Processors and cores that are named when they slowed down.
const MAX_NAMED: usize = 8;
/// Tools that start and end, and memory that is given back.
const AIR_S: u32 = 600;

/// Processors and memory.
pub(crate) struct CpuStress;

impl HostStage for CpuStress {
    fn plan(&self) -> StagePlan {
        let timeout_s = self.limit_s(&HostSpec::default(), Profile::Standard);
        StagePlan { name: StageName::from(NAME), owner: Owner::Agent, required: true, timeout_s }
    }

    fn limit_s(&self, spec: &HostSpec, profile: Profile) -> u32 {
        let amount = Amount::of(spec, profile);
        let all = [amount.load_s, amount.copy_s, amount.memory_limit_s, AIR_S];
        all.into_iter().fold(0, u32::saturating_add)
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        super::judged(NAME, input, |evidence: &CpuStressEvidence| judge(evidence, input))
    }

    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        context: &'a crate::CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<crate::Collected, crate::CollectError>> {
        Box::pin(collect::collect(context))
    }
}

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amount {
    /// Seconds of `stress-ng`.
    load_s: u32,
    /// Of the memory that there is, in percent, for `stress-ng`.
    load_percent: u32,
    /// Seconds of `stressapptest`; 0 for none.
    copy_s: u32,
    /// How often the memory test goes through its patterns.
    rounds: u32,
    /// What the memory test asks for, in percent of what the kernel can give.
    ask_percent: u32,
    /// What must have been written and verified, in percent of the same.
    floor_percent: u32,
    /// No new pass over memory begins after this many seconds; 0 for no limit.
    memory_at_most_s: u32,
    /// The memory test is given up on after this many seconds.
    memory_limit_s: u32,
}

impl Amount {
    fn of(spec: &HostSpec, profile: Profile) -> Self {
        let (cpu, memory) = (&spec.limits.cpu, &spec.limits.memory);
        let mut amount = match profile {
            // Half of the memory is demanded and more is asked for: a machine's own noise must not fail it.
            Profile::Quick => Self {
                load_s: 10,
                load_percent: 25,
                copy_s: 0,
                rounds: 1,
                ask_percent: 75,
                floor_percent: 50,
                memory_at_most_s: 10,
                memory_limit_s: 900,
            },
            Profile::Standard => Self {
                load_s: 600,
                load_percent: 90,
                copy_s: 60,
                rounds: 1,
                ask_percent: 100,
                floor_percent: 95,
                memory_at_most_s: 0,
                memory_limit_s: 2 * 3600,
            },
            Profile::Burnin => Self {
                load_s: 86_400,
                load_percent: 90,
                copy_s: 3600,
                rounds: 20,
                ask_percent: 100,
                floor_percent: 95,
                memory_at_most_s: 0,
                memory_limit_s: 24 * 3600,
            },
        };
        if let Some(percent) = memory.percent_min {
            amount.floor_percent = percent.clamp(1, 100);
            amount.ask_percent = amount.ask_percent.max(percent.saturating_add(5).min(100));
        }
        amount.rounds = memory.rounds.unwrap_or(amount.rounds).clamp(1, 1000);
        amount.load_s = cpu.load_seconds.unwrap_or(amount.load_s).clamp(5, 604_800);
        if cpu.stressapptest_required && amount.copy_s == 0 {
            amount.copy_s = 10;
        }
        amount
    }
}

/// What is said on the way to a verdict.
#[derive(Default)]
struct Said {
    checks: Vec<Check>,
    findings: Vec<Finding>,
    coverage: Vec<Coverage>,
    unverified: Vec<String>,
    /// Something that a pass needs is not there: its sentence stands in `unverified`.
    incomplete: bool,
    /// What the runner's side could not do, although it should have.
    errors: Vec<String>,
}

impl Said {
    fn lacks(&mut self, sentence: String) {
        self.incomplete = true;
        self.unverified.push(sentence);
    }

    fn check(&mut self, name: impl Into<String>, verdict: Verdict, expected: String, seen: String) {
        self.checks.push(Check { name: name.into(), verdict, expected, seen });
    }
}

fn judge(evidence: &CpuStressEvidence, input: &JudgeInput<'_>) -> Judgement {
    let amount = Amount::of(input.spec, input.profile);
    let mut said = Said::default();
    memory::judge(&evidence.memory, amount, &modules(input), &mut said);
    tools::stress_ng(&evidence.stress_ng, amount, &mut said);
    tools::stressapptest(
        &evidence.stressapptest,
        amount,
        input.spec.limits.cpu.stressapptest_required,
        &mut said,
    );
    temperatures(&evidence.temperatures, input.spec.limits.max_temp_c, &mut said);
    throttled(evidence.throttled.as_deref(), input.spec.limits.cpu.throttled_max, &mut said);
    if let Some(why) = &evidence.stopped {
        said.lacks(format!("everything was stopped before its end: {}", clean(why)));
    }
    let message = message(evidence, &said);
    let Said { checks, findings, coverage, unverified, incomplete, errors } = said;
    let mut judgement = Judgement::from_evidence(checks, findings, coverage, unverified, message);
    if judgement.verdict != Verdict::Fail {
        if let Some(error) = errors.first() {
            judgement.verdict = Verdict::Error;
            judgement.message.clone_from(error);
        } else if incomplete {
            judgement.verdict = Verdict::Unverified;
        }
    }
    judgement.unverified.extend(errors);
    judgement
}

fn message(evidence: &CpuStressEvidence, said: &Said) -> String {
    let worst = said.findings.iter().find(|finding| finding.severity == Severity::Critical);
    if let Some(finding) = worst {
        return finding.message.clone();
    }
    let memory = &evidence.memory;
    let rate = (memory.written.saturating_add(memory.verified)) as f64 / memory.seconds.max(0.001) / 1e9;
    let load = match evidence.stress_ng.ended {
        Ended::Finished => format!("{:.0} s under load", evidence.stress_ng.seconds),
        _ => "no load".to_owned(),
    };
    format!(
        "{} of {} of memory written and verified in {} passes ({rate:.1} GB/s), {load}",
        memory::size(memory.covered()),
        memory::size(memory.total),
        memory.passes
    )
}

/// The memory modules, and the serial numbers of those that were just replaced.
struct Modules {
    present: Vec<(Option<String>, Option<String>)>,
    replaced: Vec<String>,
}

fn modules(input: &JudgeInput<'_>) -> Modules {
    let inventory = ["SpecValidate", "Inventory"]
        .iter()
        .find_map(|stage| Inventory::from_evidence(input.evidence_of(stage)?).ok())
        .unwrap_or_default();
    let present = inventory.memory.dimms.into_iter().filter(|dimm| dimm.size_mib != Some(0));
    let dimms = input.replaced.iter().filter(|part| part.kind == assay_model::host::order::PartKind::Dimm);
    Modules {
        present: present.map(|dimm| (dimm.locator, dimm.serial)).collect(),
        replaced: dimms.map(|part| clean(&part.new)).collect(),
    }
}

fn temperatures(sensors: &[Temperature], limit: u32, said: &mut Said) {
    let limit = f64::from(limit);
    let (mut read, mut found) = (0, 0);
    for sensor in sensors.iter().take(MAX_SENSORS) {
        found += 1;
        let name = clean(&sensor.sensor);
        let Some(highest) = sensor.max.filter(|max| max.is_finite()) else { continue };
        read += 1;
        // One reading alone can be a disturbed bus; two in a row are heat.
        let sustained = sensor.sustained.filter(|value| value.is_finite());
        let hot = sustained.filter(|value| *value > limit);
        said.check(
            format!("temperature {name} under load"),
            if hot.is_some() { Verdict::Fail } else { Verdict::Pass },
            format!("at most {limit:.0} °C"),
            format!("{highest:.1} °C at most in {} readings", sensor.samples),
        );
        if let Some(hot) = hot {
            let message = format!(
                "sensor {name} reached {hot:.1} °C under load; at most {limit:.0} °C is allowed (the host's max_temp_c)"
            );
            let next = "Check fans, heat sink and thermal paste of the part behind this sensor, and the inlet temperature.";
            said.findings.push(Finding::new("TemperatureLimit", Severity::Critical, message, next).part(
                "sensor",
                Some(&name),
                None,
            ));
        }
    }
    if found > 0 {
        let what = "thermal sensors read under load".to_owned();
        said.coverage.push(Coverage { what, covered: read, total: found });
    }
    if read == 0 {
        let why = if found == 0 {
            "the machine shows no thermal sensor"
        } else {
            "no thermal sensor could be read"
        };
        said.unverified.push(format!("temperatures under load were not verified: {why}"));
    }
}

fn throttled(throttled: Option<&[Throttled]>, most: Option<u64>, said: &mut Said) {
    let Some(throttled) = throttled else {
        let sentence = "whether processors slowed down for heat is not known: they do not count it";
        said.unverified.push(sentence.to_owned());
        return;
    };
    let worst = throttled.iter().map(|one| one.times).max().unwrap_or(0);
    let bad = most.is_some_and(|most| worst > most);
    let expected = most.map_or_else(|| "reported only".to_owned(), |most| format!("at most {most} times"));
    let verdict = if bad { Verdict::Fail } else { Verdict::Pass };
    said.check("processors slowed down for heat", verdict, expected, format!("{worst} times at most"));
    if worst == 0 {
        return;
    }
    let named: Vec<String> = throttled
        .iter()
        .filter(|one| one.times > 0)
        .take(MAX_NAMED)
        .map(|one| format!("{} {} times", clean(&one.what), one.times))
        .collect();
    let more = throttled.len().saturating_sub(named.len());
    let more = if more == 0 { String::new() } else { format!(" and {more} others") };
    let location = throttled.iter().max_by_key(|one| one.times).map(|one| clean(&one.what));
    said.findings.push(
        Finding::new(
            "CpuThrottled",
            if bad { Severity::Critical } else { Severity::Warning },
            format!("slowed down for heat under load: {}{more}", named.join(", ")),
            "Check fans, heat sinks and thermal paste, and the inlet temperature.",
        )
        .part("cpu", location.as_deref(), None),
    );
}
