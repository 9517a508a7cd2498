//! The stage `PSU`: rails, fans and supplies while processors, disks and network are busy at once.
//!
//! Optional unless the spec requires it: many machines show no rail to their operating system. What was read, how
//! often, and between which values, is kept for each sensor; a machine that shows nothing is `unverified`, and never
//! passes for having had nothing to complain of. Disks are only read.

#[cfg(feature = "collect")]
mod load;
mod rails;
#[cfg(test)]
mod tests;

use assay_model::host::order::Profile;
use assay_model::host::psu::{PsuEvidence, RailKind, Supply};
use assay_model::host::spec::{HostSpec, PsuLimits};
use assay_model::text::clean;
use assay_model::{Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict};

use crate::{HostStage, JudgeInput};

/// The stage's name.
pub(crate) const NAME: &str = "PSU";

/// More sensors than any machine has.
const MAX_SENSORS: usize = 1024;
/// Readings under load that make a sensor count as watched.
const ENOUGH_READINGS: u64 = 3;
/// Time for the first and the last readings, which a slow controller makes long.
const BESIDE_S: u32 = 300;

/// Power.
pub(crate) struct Psu;

impl HostStage for Psu {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from(NAME), owner: Owner::Agent, required: false, timeout_s: 900 }
    }

    fn limit_s(&self, spec: &HostSpec, profile: Profile) -> u32 {
        let (idle, load) = seconds(spec, profile);
        idle.saturating_add(load).saturating_add(BESIDE_S)
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        super::judged(NAME, input, |evidence: &PsuEvidence| {
            judge(evidence, &input.spec.limits.psu, seconds(input.spec, input.profile).1)
        })
    }

    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        context: &'a crate::CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<crate::Collected, crate::CollectError>> {
        Box::pin(load::collect(context))
    }
}

/// Seconds idle and under load.
fn seconds(spec: &HostSpec, profile: Profile) -> (u32, u32) {
    let (idle, load) = match profile {
        Profile::Quick => (8, 30),
        Profile::Standard => (20, 300),
        Profile::Burnin => (60, 3600),
    };
    let load = spec.limits.psu.load_seconds.unwrap_or(load).clamp(5, 86_400);
    (idle.min(load), load)
}

/// `asked_s`: for how long the machine was to be under load, in seconds.
fn judge(evidence: &PsuEvidence, limits: &PsuLimits, asked_s: u32) -> Judgement {
    let (mut checks, mut findings, mut unverified) = (Vec::new(), Vec::new(), Vec::new());
    let mut coverage = Vec::new();
    let (mut covered, mut total) = (0, 0);
    for sensor in evidence.sensors.iter().take(MAX_SENSORS) {
        if !matches!(sensor.kind, RailKind::Voltage | RailKind::Fan | RailKind::Power) {
            continue;
        }
        let report = rails::judge(sensor, limits);
        // A fan header with nothing on it, or a reading without a limit, is no gap.
        if report.counts {
            total += 1;
            covered += u64::from(report.covered);
        }
        checks.extend(report.check);
        findings.extend(report.finding);
        unverified.extend(report.unverified);
    }
    for supply in evidence.supplies.iter().take(64) {
        total += 1;
        covered += u64::from(supply.samples >= ENOUGH_READINGS);
        judge_supply(supply, &mut checks, &mut findings, &mut unverified);
    }
    if let Some(wanted) = limits.supplies_min {
        enough_supplies(evidence, wanted, &mut checks, &mut findings);
    }
    let mut loaded = true;
    for load in evidence.loads.iter().take(16) {
        if !load.ran {
            // Without processors under load nothing was tried; the other loads only add to it.
            loaded &= load.what != "processors";
            unverified.push(format!("{} were not under load: {}", clean(&load.what), clean(&load.detail)));
        }
    }
    if !evidence.loads.iter().any(|load| load.what == "processors") {
        loaded = false;
        unverified.push("nothing says that the processors were under load".to_owned());
    }
    if !super::lasted(evidence.load_s, f64::from(asked_s)) {
        loaded = false;
        unverified.push(format!("the load lasted {:.0} s; {asked_s} s were asked for", evidence.load_s));
    }
    unverified.extend(evidence.problems.iter().take(64).map(|problem| clean(problem)));
    coverage.push(Coverage { what: "rails, fans and supplies read under load".to_owned(), covered, total });
    let message = format!(
        "{covered} of {total} rails, fans and supplies were watched through {:.0} s of load",
        evidence.load_s
    );
    if total == 0 {
        unverified.push(
            "this machine shows no rail, fan or supply: neither hwmon nor a management controller".to_owned(),
        );
    }
    let mut judgement = Judgement::from_evidence(checks, findings, coverage, unverified, message);
    if judgement.verdict == Verdict::Pass && (covered == 0 || !loaded) {
        judgement.verdict = Verdict::Unverified;
    }
    judgement
}

/// What the controller says of a supply that does not work.
const BROKEN: [&str; 5] =
    ["failure detected", "ac lost", "input lost", "configuration error", "config error"];
/// What it says of one that may stop working, or of a pair that is not one any more.
const WORRYING: [&str; 4] = ["predictive failure", "redundancy lost", "redundancy degraded", "non-redundant"];

/// Whether a state says one of these. `Predictive failure` is not `failure detected`.
fn says(state: &str, words: &[&str]) -> bool {
    let lower = state.to_lowercase();
    words.iter().any(|word| lower.contains(word))
}

fn judge_supply(
    supply: &Supply,
    checks: &mut Vec<Check>,
    findings: &mut Vec<Finding>,
    unverified: &mut Vec<String>,
) {
    let name = clean(&supply.name);
    let states: Vec<String> = supply.states.iter().take(8).map(|state| clean(state)).collect();
    let seen = format!("{} in {} readings", states.join("; "), supply.samples);
    if supply.samples == 0 {
        unverified.push(format!("power supply {name} could not be read"));
        return;
    }
    let broken = states.iter().any(|state| says(state, &BROKEN));
    let worrying = states.iter().any(|state| says(state, &WORRYING));
    let told = states.iter().any(|state| says(state, &["presence detected", "fully redundant", "ok"]));
    let verdict = if broken {
        Verdict::Fail
    } else if told {
        Verdict::Pass
    } else {
        Verdict::Unverified
    };
    checks.push(Check {
        name: format!("power supply {name}"),
        verdict,
        expected: "present, no failure".to_owned(),
        seen: seen.clone(),
    });
    if broken || worrying {
        let severity = if broken { Severity::Critical } else { Severity::Warning };
        let next = "See whether its cable is plugged in and its light is green; if so, replace the supply.";
        findings.push(
            Finding::new("PsuFailed", severity, format!("power supply {name} reports: {seen}"), next).part(
                "psu",
                Some(&name),
                None,
            ),
        );
    } else if !told {
        unverified.push(format!("power supply {name} says nothing that tells whether it works: {seen}"));
    }
}

fn enough_supplies(
    evidence: &PsuEvidence,
    wanted: u32,
    checks: &mut Vec<Check>,
    findings: &mut Vec<Finding>,
) {
    let well = evidence
        .supplies
        .iter()
        .filter(|supply| !supply.states.is_empty())
        .filter(|supply| {
            supply.states.iter().all(|state| says(state, &["presence detected"]) && !says(state, &BROKEN))
        })
        .count();
    let enough = well as u64 >= u64::from(wanted);
    let known = !evidence.supplies.is_empty();
    checks.push(Check {
        name: "working power supplies".to_owned(),
        verdict: match (enough, known) {
            (true, _) => Verdict::Pass,
            (false, true) => Verdict::Fail,
            (false, false) => Verdict::Unverified,
        },
        expected: format!("at least {wanted}"),
        seen: if known { well.to_string() } else { "the machine tells nothing of its supplies".to_owned() },
    });
    if !enough && known {
        let next = "See that every supply is seated and plugged in; replace the one without a green light.";
        findings.push(
            Finding::new(
                "PsuFailed",
                Severity::Critical,
                format!("{well} power supplies work, {wanted} are expected"),
                next,
            )
            .part("psu", None, None),
        );
    }
}
