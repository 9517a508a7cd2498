//! What the temperatures of a whole run mean.
//!
//! Sensors are read from boot to shutdown, beside all stages. Their highest values are held to the host's own limit
//! (`max_temp_c`) and to what each chip says of itself: its maximum, and 10 °C below its critical point.

use assay_model::host::spec::HostSpec;
use assay_model::{Check, Coverage, Finding, Severity, Verdict};

use crate::SensorSummary;

/// A chip at its critical point shuts the machine down: this far below it is already too hot.
const BELOW_CRITICAL_C: f64 = 10.0;
/// Chips' limits outside of this are defaults of registers, not limits.
const PLAUSIBLE_C: std::ops::RangeInclusive<f64> = 30.0..=200.0;
/// One or two lost readings are a busy bus; more are a sensor that does not work.
const LOST_READINGS: u64 = 3;

/// The verdict on all temperatures, to be merged into a stage's judgement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThermalJudgement {
    /// One per thermal sensor that was read.
    pub checks: Vec<Check>,
    /// Sensors that were too hot or stopped answering.
    pub findings: Vec<Finding>,
    /// Thermal sensors read, of those found.
    pub coverage: Vec<Coverage>,
    /// What the temperatures cannot speak for.
    pub unverified: Vec<String>,
}

/// Judges the sensors of a run. Pure.
pub fn judge_thermal(sensors: &[SensorSummary], spec: &HostSpec) -> ThermalJudgement {
    let mut judgement = ThermalJudgement::default();
    let (mut read, mut found) = (0, 0);
    for summary in sensors {
        let name = assay_model::text::clean(&summary.sensor.name);
        if summary.samples > 0 && summary.missing >= LOST_READINGS {
            judgement.findings.push(lost(&name, summary));
        }
        if summary.sensor.kind != "thermal" {
            continue;
        }
        found += 1;
        if summary.samples == 0 || !summary.max.is_finite() {
            continue;
        }
        read += 1;
        let (limit, whose) = limit_of(summary, spec);
        let hot = summary.max > limit;
        judgement.checks.push(Check {
            name: format!("temperature {name}"),
            verdict: if hot { Verdict::Fail } else { Verdict::Pass },
            expected: format!("at most {limit:.1} °C, {whose}"),
            seen: format!("{:.1} °C at most in {} readings", summary.max, summary.samples),
        });
        if hot {
            judgement.findings.push(too_hot(&name, summary, limit, whose));
        }
    }
    if found > 0 {
        judgement.coverage.push(Coverage { what: "thermal sensors".to_owned(), covered: read, total: found });
    }
    if read == 0 {
        let why = if found == 0 {
            "the machine shows no thermal sensor"
        } else {
            "no thermal sensor could be read"
        };
        judgement.unverified.push(format!("temperatures were not verified: {why}"));
    }
    judgement
}

/// The lowest of the limits that there are.
fn limit_of(summary: &SensorSummary, spec: &HostSpec) -> (f64, &'static str) {
    let plausible = |limit: Option<f64>| limit.filter(|celsius| PLAUSIBLE_C.contains(celsius));
    let critical = plausible(summary.sensor.critical);
    // Some chips set their maximum at or above their critical point; then the critical point counts.
    let own_max = plausible(summary.sensor.max).filter(|max| critical.is_none_or(|critical| *max < critical));
    let mut lowest = (f64::from(spec.limits.max_temp_c), "the host's max_temp_c");
    let others = [
        (critical.map(|critical| critical - BELOW_CRITICAL_C), "10 °C below the chip's critical point"),
        (own_max, "the chip's own maximum"),
    ];
    for (limit, whose) in others {
        if let Some(limit) = limit.filter(|limit| *limit < lowest.0) {
            lowest = (limit, whose);
        }
    }
    lowest
}

fn too_hot(name: &str, summary: &SensorSummary, limit: f64, whose: &str) -> Finding {
    Finding::new(
        "TemperatureLimit",
        Severity::Critical,
        format!("sensor {name} reached {:.1} °C; at most {limit:.1} °C is allowed ({whose})", summary.max),
        "Check fans, heat sink and thermal paste of the part behind this sensor, and the inlet temperature.",
    )
    .part("sensor", Some(name), None)
}

fn lost(name: &str, summary: &SensorSummary) -> Finding {
    let all = summary.samples.saturating_add(summary.missing);
    Finding::new(
        "SensorLost",
        Severity::Warning,
        format!("sensor {name} did not answer {} of {all} times", summary.missing),
        "See whether the BMC or the chip behind this sensor still works.",
    )
    .part("sensor", Some(name), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_model::sensor::SensorInfo;

    fn sensor(max_seen: f64, max: Option<f64>, critical: Option<f64>) -> SensorSummary {
        let sensor = SensorInfo {
            name: "coretemp/Package id 0@coretemp.0".into(),
            kind: "thermal".into(),
            unit: "°C".into(),
            max,
            critical,
        };
        SensorSummary { sensor, samples: 240, missing: 0, min: 30.0, max: max_seen }
    }

    fn codes(judgement: &ThermalJudgement) -> Vec<(&str, Severity)> {
        judgement.findings.iter().map(|f| (f.code.as_str(), f.severity)).collect()
    }

    #[test]
    fn the_lowest_limit_counts() {
        let mut spec = HostSpec::default();
        spec.limits.max_temp_c = 90;
        let cases = [
            ("below all", sensor(79.0, Some(84.0), Some(100.0)), None),
            ("the chip's maximum", sensor(84.5, Some(84.0), Some(100.0)), Some("the chip's own maximum")),
            ("at the limit", sensor(84.0, Some(84.0), Some(100.0)), None),
            (
                "10 below critical",
                sensor(75.5, None, Some(85.0)),
                Some("10 °C below the chip's critical point"),
            ),
            ("the host's", sensor(90.5, None, None), Some("the host's max_temp_c")),
            (
                "the host's over a chip that allows more",
                sensor(91.0, Some(110.0), Some(120.0)),
                Some("the host's max_temp_c"),
            ),
            ("a maximum at the critical point", sensor(88.0, Some(100.0), Some(100.0)), None),
            ("register defaults are no limits", sensor(60.0, Some(0.0), Some(-273.0)), None),
        ];
        for (name, summary, whose) in cases {
            let judgement = judge_thermal(&[summary], &spec);
            assert_eq!(judgement.checks.len(), 1, "{name}");
            let expected =
                if whose.is_some() { vec![("TemperatureLimit", Severity::Critical)] } else { vec![] };
            assert_eq!(codes(&judgement), expected, "{name}: {:?}", judgement.checks);
            let verdict = if whose.is_some() { Verdict::Fail } else { Verdict::Pass };
            assert_eq!(judgement.checks[0].verdict, verdict, "{name}");
            if let Some(whose) = whose {
                assert!(judgement.findings[0].message.contains(whose), "{name}: {:?}", judgement.findings);
            }
        }
    }

    #[test]
    fn a_sensor_that_stops_answering_is_a_warning_and_one_that_never_did_is_coverage() {
        let stopped = SensorSummary { missing: 12, ..sensor(50.0, None, None) };
        let hiccup = SensorSummary { missing: 2, ..sensor(50.0, None, None) };
        let never = SensorSummary { samples: 0, missing: 240, ..sensor(f64::NEG_INFINITY, None, None) };
        let judgement = judge_thermal(&[stopped, hiccup, never.clone()], &HostSpec::default());
        assert_eq!(codes(&judgement), [("SensorLost", Severity::Warning)]);
        assert_eq!((judgement.coverage[0].covered, judgement.coverage[0].total), (2, 3));
        assert!(judgement.unverified.is_empty());

        let judgement = judge_thermal(&[never], &HostSpec::default());
        assert!(judgement.checks.is_empty() && judgement.findings.is_empty());
        assert_eq!(judgement.unverified, ["temperatures were not verified: no thermal sensor could be read"]);
    }

    #[test]
    fn no_thermal_sensor_is_said_and_other_kinds_do_not_count() {
        let mut fan = sensor(20_000.0, None, None);
        fan.sensor.kind = "fan".into();
        for sensors in [vec![], vec![fan]] {
            let judgement = judge_thermal(&sensors, &HostSpec::default());
            assert_eq!(
                judgement.unverified,
                ["temperatures were not verified: the machine shows no thermal sensor"]
            );
            assert!(judgement.checks.is_empty() && judgement.findings.is_empty());
        }
    }
}
