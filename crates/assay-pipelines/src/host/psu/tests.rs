//! Rails, fans and supplies, steady and failing.

use assay_model::host::psu::*;
use assay_model::host::spec::HostSpec;
use assay_model::{Judgement, Severity, Verdict};

use super::{Psu, rails};
use crate::{HostStage as _, JudgeInput};

fn envelope(values: &[f64]) -> Envelope {
    let mut envelope = Envelope::default();
    for value in values {
        envelope.add(Some(*value));
    }
    envelope
}

fn rail(name: &str, source: RailSource, limits: RailLimits, idle: &[f64], load: &[f64]) -> RailSensor {
    RailSensor {
        name: name.into(),
        source,
        kind: RailKind::Voltage,
        unit: "V".into(),
        limits,
        idle: envelope(idle),
        load: envelope(load),
    }
}

fn bmc_limits() -> RailLimits {
    RailLimits {
        low_critical: Some(11.4),
        low_warning: Some(11.58),
        high_warning: Some(12.42),
        high_critical: Some(12.6),
    }
}

fn fan(load: &[f64]) -> RailSensor {
    RailSensor {
        kind: RailKind::Fan,
        unit: "RPM".into(),
        ..rail("FAN2", RailSource::Hwmon, RailLimits::default(), &[6000.0], load)
    }
}

fn supply(state: &str) -> Supply {
    Supply { name: "PSU2".into(), states: vec![state.into()], samples: 10, missing: 0 }
}

fn good() -> PsuEvidence {
    PsuEvidence {
        idle_s: 20.0,
        load_s: 300.0,
        loads: vec![Load { what: "processors".into(), ran: true, detail: String::new() }],
        sensors: vec![
            rail("P12V", RailSource::Bmc, bmc_limits(), &[12.0, 12.0], &[11.9, 11.9, 12.0]),
            fan(&[6000.0, 6100.0, 6200.0]),
        ],
        supplies: vec![supply("Presence detected")],
        problems: Vec::new(),
    }
}

fn judge(change: impl FnOnce(&mut PsuEvidence)) -> Judgement {
    let mut evidence = good();
    change(&mut evidence);
    let evidence = serde_json::to_value(evidence).expect("plain data");
    Psu.judge(&JudgeInput::new(&HostSpec::default(), &evidence))
}

fn codes(judgement: &Judgement) -> Vec<(&str, Severity)> {
    judgement.findings.iter().map(|finding| (finding.code.as_str(), finding.severity)).collect()
}

#[test]
fn a_machine_whose_rails_hold_passes_and_says_how_often_each_was_read() {
    let judgement = judge(|_| ());
    assert_eq!(judgement.verdict, Verdict::Pass, "{judgement:?}");
    assert!(judgement.findings.is_empty() && judgement.unverified.is_empty(), "{judgement:?}");
    assert_eq!((judgement.coverage[0].covered, judgement.coverage[0].total), (3, 3));
    assert_eq!(judgement.checks[0].seen, "11.90 to 12.00 V; 2 readings idle, 3 under load");
}

/// What it is called, what changes, the verdict and what is found.
type Case = (&'static str, Box<dyn FnOnce(&mut PsuEvidence)>, Verdict, &'static [(&'static str, Severity)]);

#[test]
fn what_sags_stops_or_fails_is_found() {
    use Severity::{Critical, Warning};
    let cases: Vec<Case> = vec![
        (
            "sag under load",
            Box::new(|e| e.sensors[0].load.add(Some(11.28))),
            Verdict::Fail,
            &[("RailOutOfRange", Critical)],
        ),
        (
            "near",
            Box::new(|e| e.sensors[0].load.add(Some(11.5))),
            Verdict::Pass,
            &[("RailOutOfRange", Warning)],
        ),
        (
            "high idle",
            Box::new(|e| e.sensors[0].idle.add(Some(12.7))),
            Verdict::Fail,
            &[("RailOutOfRange", Critical)],
        ),
        (
            "fan stops",
            Box::new(|e| e.sensors[1].load.add(Some(0.0))),
            Verdict::Fail,
            &[("FanFailed", Critical)],
        ),
        (
            "supply fails",
            Box::new(|e| e.supplies = vec![supply("Presence detected, Failure detected")]),
            Verdict::Fail,
            &[("PsuFailed", Critical)],
        ),
        (
            "no input",
            Box::new(|e| e.supplies = vec![supply("Presence detected, Power Supply AC lost")]),
            Verdict::Fail,
            &[("PsuFailed", Critical)],
        ),
        (
            "may fail",
            Box::new(|e| e.supplies = vec![supply("Presence detected, Predictive failure")]),
            Verdict::Pass,
            &[("PsuFailed", Warning)],
        ),
        (
            "no controller's limits",
            Box::new(|e| {
                e.sensors[0] = rail(
                    "nct6775/+12V@isa",
                    RailSource::Hwmon,
                    RailLimits::default(),
                    &[12.0],
                    &[11.9, 11.3, 11.9],
                );
            }),
            Verdict::Fail,
            &[("RailOutOfRange", Critical)],
        ),
        (
            "chip's own limits",
            Box::new(|e| {
                e.sensors[0] = rail(
                    "lm80/in2@1-0028",
                    RailSource::Hwmon,
                    RailLimits { low_warning: Some(2.4), high_warning: Some(2.6), ..RailLimits::default() },
                    &[2.5],
                    &[2.5, 2.7, 2.5],
                );
            }),
            Verdict::Fail,
            &[("RailOutOfRange", Critical)],
        ),
    ];
    for (name, change, verdict, expected) in cases {
        let judgement = judge(change);
        assert_eq!(codes(&judgement), expected, "{name}");
        assert_eq!(judgement.verdict, verdict, "{name}: {judgement:?}");
    }
}

#[test]
fn what_was_not_watched_under_load_is_never_a_pass() {
    type Change = Box<dyn FnOnce(&mut PsuEvidence)>;
    let cases: Vec<(&str, Change)> = vec![
        (
            "nothing there",
            Box::new(|e| {
                e.sensors.clear();
                e.supplies.clear();
            }),
        ),
        ("no load", Box::new(|e| e.loads[0].ran = false)),
        ("loads not told", Box::new(|e| e.loads.clear())),
        (
            "read once only",
            Box::new(|e| {
                e.sensors.truncate(1);
                e.supplies.clear();
                e.sensors[0].load = envelope(&[12.0]);
            }),
        ),
        (
            "a chip with garbage limits",
            Box::new(|e| {
                e.supplies.clear();
                e.sensors = vec![rail(
                    "x/in0@isa",
                    RailSource::Hwmon,
                    RailLimits { low_warning: Some(2.9), high_warning: Some(3.0), ..RailLimits::default() },
                    &[1.2],
                    &[1.2, 1.2, 1.2],
                )];
            }),
        ),
    ];
    for (name, change) in cases {
        let judgement = judge(change);
        assert_eq!(judgement.verdict, Verdict::Unverified, "{name}: {judgement:?}");
        assert!(!judgement.unverified.is_empty(), "{name}");
    }
}

#[test]
fn the_number_of_working_supplies_can_be_demanded() {
    let with = |wanted: u32, supplies: Vec<Supply>| {
        let mut spec = HostSpec::default();
        spec.limits.psu.supplies_min = Some(wanted);
        let evidence = serde_json::to_value(PsuEvidence { supplies, ..good() }).expect("plain data");
        Psu.judge(&JudgeInput::new(&spec, &evidence)).verdict
    };
    assert_eq!(with(1, vec![supply("Presence detected")]), Verdict::Pass);
    assert_eq!(with(2, vec![supply("Presence detected")]), Verdict::Fail);
}

#[test]
fn a_name_tells_a_nominal_voltage_or_none() {
    for (name, volts) in [
        ("P12V", Some(12.0)),
        ("+12V", Some(12.0)),
        ("nct6775/+3.3V@isa-0290", Some(3.3)),
        ("P3V3", Some(3.3)),
        ("P5VSB", Some(5.0)),
        ("+5VSB", Some(5.0)),
        ("12V Rail", Some(12.0)),
        ("-12V", None),
        ("in12", None),
        ("lm80/in5@i2c-5V", None),
        ("VBAT", None),
        ("P1V8", None),
        ("Vcore", None),
    ] {
        assert_eq!(rails::nominal(name), volts, "{name}");
    }
}

#[test]
fn a_load_that_ended_early_proves_nothing() {
    assert_eq!(judge(|_| ()).verdict, Verdict::Pass);
    for short in [0.0, 200.0, f64::NAN] {
        let judgement = judge(|evidence| evidence.load_s = short);
        assert_ne!(judgement.verdict, Verdict::Pass, "{short} s");
    }
    let burnin = serde_json::to_value(good()).expect("plain data");
    let spec = HostSpec::default();
    let input =
        JudgeInput { profile: assay_model::host::order::Profile::Burnin, ..JudgeInput::new(&spec, &burnin) };
    assert_eq!(Psu.judge(&input).verdict, Verdict::Unverified, "what is enough for one is not for all");
}
