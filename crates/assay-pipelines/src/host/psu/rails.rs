//! One sensor: what it read, idle and under load, held to its own limits or to its nominal voltage.

use assay_model::host::psu::{Envelope, RailKind, RailSensor, RailSource};
use assay_model::host::spec::PsuLimits;
use assay_model::text::clean;
use assay_model::{Check, Finding, Severity, Verdict};

use super::ENOUGH_READINGS;

/// What one sensor comes to.
#[derive(Default)]
pub(super) struct RailReport {
    pub(super) check: Option<Check>,
    pub(super) finding: Option<Finding>,
    pub(super) unverified: Option<String>,
    /// Whether it belongs to what should be watched.
    pub(super) counts: bool,
    /// Whether it was.
    pub(super) covered: bool,
}

/// What a sensor may read.
struct Range {
    low: Option<f64>,
    high: Option<f64>,
    low_warning: Option<f64>,
    high_warning: Option<f64>,
    whose: &'static str,
}

pub(super) fn judge(sensor: &RailSensor, limits: &PsuLimits) -> RailReport {
    let both = both(&sensor.idle, &sensor.load);
    let (Some(min), Some(max)) = (both.min, both.max) else {
        return nothing_read(sensor);
    };
    let name = clean(&sensor.name);
    let unit = clean(&sensor.unit);
    let seen = format!(
        "{min:.2} to {max:.2} {unit}; {} readings idle, {} under load{}",
        sensor.idle.samples,
        sensor.load.samples,
        match both.missing {
            0 => String::new(),
            missing => format!(", {missing} missing"),
        }
    );
    let Some(range) = range(sensor, limits) else {
        return without_range(sensor, &name, seen, max);
    };
    let mut report = RailReport { counts: true, ..RailReport::default() };
    let stopped = sensor.kind == RailKind::Fan && max > 0.0 && min <= 0.0;
    let out = range.low.is_some_and(|low| min < low) || range.high.is_some_and(|high| max > high) || stopped;
    let near =
        range.low_warning.is_some_and(|low| min < low) || range.high_warning.is_some_and(|high| max > high);
    report.covered = sensor.load.samples >= ENOUGH_READINGS;
    let expected = range.words(&unit);
    report.check = Some(Check {
        name: format!("{} {name}", word(sensor.kind)),
        verdict: match (out, report.covered) {
            (true, _) => Verdict::Fail,
            (false, true) => Verdict::Pass,
            (false, false) => Verdict::Unverified,
        },
        expected: expected.clone(),
        seen: seen.clone(),
    });
    if out || near {
        report.finding = Some(finding(sensor, &name, &seen, &expected, out));
    } else if !report.covered {
        report.unverified =
            Some(format!("{} {name} was read {} times under load", word(sensor.kind), sensor.load.samples));
    }
    report
}

fn finding(sensor: &RailSensor, name: &str, seen: &str, expected: &str, out: bool) -> Finding {
    let severity = if out { Severity::Critical } else { Severity::Warning };
    let (code, part, next) = match sensor.kind {
        RailKind::Fan => {
            ("FanFailed", "fan", "See whether the fan turns and its plug is seated; clean it or replace it.")
        }
        _ => (
            "RailOutOfRange",
            "rail",
            "Swap the power supplies one at a time and measure again; if it stays, the board's own regulator is suspect.",
        ),
    };
    let message = format!("{} {name} read {seen}; {expected} is expected", word(sensor.kind));
    Finding::new(code, severity, message, next).part(part, Some(name), None)
}

fn nothing_read(sensor: &RailSensor) -> RailReport {
    let name = clean(&sensor.name);
    // A controller lists sensors of slots that hold nothing; they never had a reading.
    let missing = sensor.idle.missing + sensor.load.missing;
    let unverified = (missing > 0 && sensor.source == RailSource::Hwmon)
        .then(|| format!("{} {name} never answered", word(sensor.kind)));
    RailReport { counts: unverified.is_some(), unverified, ..RailReport::default() }
}

fn without_range(sensor: &RailSensor, name: &str, seen: String, max: f64) -> RailReport {
    let mut report = RailReport::default();
    match sensor.kind {
        RailKind::Fan if max <= 0.0 => {}
        RailKind::Voltage => {
            report.counts = true;
            report.unverified = Some(format!(
                "rail {name} was read ({seen}), but has neither limits nor a name that tells its nominal voltage"
            ));
        }
        // How much power is drawn is kept as a measurement; nothing is wrong with any amount.
        _ => {
            report.check = Some(Check {
                name: format!("{} {name}", word(sensor.kind)),
                verdict: Verdict::Skip,
                expected: "no limit".to_owned(),
                seen,
            });
        }
    }
    report
}

fn range(sensor: &RailSensor, limits: &PsuLimits) -> Option<Range> {
    let own = sensor.limits;
    let any = own.low_critical.or(own.low_warning).or(own.high_warning).or(own.high_critical).is_some();
    match sensor.kind {
        // Controllers are set up by the maker of the board; their limits are right.
        _ if any && sensor.source == RailSource::Bmc => Some(Range {
            low: own.low_critical,
            high: own.high_critical,
            low_warning: own.low_warning,
            high_warning: own.high_warning,
            whose: "the sensor's own limits",
        }),
        RailKind::Voltage => nominal(&sensor.name)
            .map(|nominal| {
                let by = nominal.abs() * f64::from(limits.tolerance_percent) / 100.0;
                Range {
                    low: Some(nominal - by),
                    high: Some(nominal + by),
                    low_warning: None,
                    high_warning: None,
                    whose: "nominal voltage",
                }
            })
            .or_else(|| chip_range(sensor)),
        // A fan that turned and then stood still, whatever its limits.
        RailKind::Fan
            if sensor.idle.max.is_some_and(|rpm| rpm > 0.0)
                || sensor.load.max.is_some_and(|rpm| rpm > 0.0) =>
        {
            Some(Range {
                low: Some(f64::MIN_POSITIVE),
                high: None,
                low_warning: None,
                high_warning: None,
                whose: "it turned",
            })
        }
        _ => None,
    }
}

/// A chip's registers hold whatever the firmware left in them. They count as limits only where the chip's own idle
/// reading is inside of them.
fn chip_range(sensor: &RailSensor) -> Option<Range> {
    let own = sensor.limits;
    let low = own.low_critical.or(own.low_warning);
    let high = own.high_critical.or(own.high_warning);
    let (idle_min, idle_max) = (sensor.idle.min?, sensor.idle.max?);
    let sane = low.zip(high).is_some_and(|(low, high)| low < high && idle_min >= low && idle_max <= high);
    sane.then_some(Range { low, high, low_warning: None, high_warning: None, whose: "the chip's own limits" })
}

impl Range {
    fn words(&self, unit: &str) -> String {
        let range = match (self.low.or(self.low_warning), self.high.or(self.high_warning)) {
            (Some(low), Some(high)) => format!("{low:.2} to {high:.2} {unit}"),
            (Some(low), None) if low < 0.01 && low > 0.0 => "turning all the time".to_owned(),
            (Some(low), None) => format!("at least {low:.2} {unit}"),
            (None, Some(high)) => format!("at most {high:.2} {unit}"),
            (None, None) => "no limit".to_owned(),
        };
        format!("{range} ({})", self.whose)
    }
}

/// The voltage that a rail's name tells: `+12V`, `P12V`, `12VSB`, `P3V3`, `+3.3V`, `5V`. A number of a channel
/// (`in12`) or a battery tells none.
pub(super) fn nominal(name: &str) -> Option<f64> {
    // `chip/label@device`: the label counts.
    let label = name.rsplit_once('/').map_or(name, |(_, label)| label);
    let label = label.split_once('@').map_or(label, |(label, _)| label);
    label.split(|c: char| c.is_whitespace() || matches!(c, '_' | '(' | ')' | ':')).find_map(word_of)
}

fn word_of(word: &str) -> Option<f64> {
    let upper = word.to_uppercase();
    if upper.starts_with('-') {
        return None;
    }
    let digits = upper.trim_start_matches(['+', 'P']);
    let (whole, after) = digits.split_once('V')?;
    let rest: &str = after.trim_end_matches(|c: char| !c.is_ascii_digit());
    let standby_or_nothing = matches!(after, "" | "SB" | "STBY" | "_AUX" | "AUX");
    let volts: f64 = if standby_or_nothing {
        whole.parse().ok()?
    } else if !rest.is_empty() && rest.len() == after.len() && whole.bytes().all(|b| b.is_ascii_digit()) {
        format!("{whole}.{rest}").parse().ok()?
    } else {
        return None;
    };
    [12.0, 5.0, 3.3].into_iter().find(|nominal: &f64| (nominal - volts).abs() < 0.05)
}

fn word(kind: RailKind) -> &'static str {
    match kind {
        RailKind::Voltage => "rail",
        RailKind::Fan => "fan",
        RailKind::Power => "power",
        RailKind::Other => "sensor",
    }
}

fn both(idle: &Envelope, load: &Envelope) -> Envelope {
    let least = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let most = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    };
    Envelope {
        samples: idle.samples.saturating_add(load.samples),
        missing: idle.missing.saturating_add(load.missing),
        min: least(idle.min, load.min),
        max: most(idle.max, load.max),
        mean: None,
    }
}
