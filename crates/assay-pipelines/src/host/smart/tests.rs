//! The judge on recorded `smartctl` output, red and green, and on every rule alone.

use assay_model::host::smart::{
    AtaCounters, DiskClass, DiskCounters, DiskTemperature, NvmeCounters, ScsiCounters, SelfTest,
    SelfTestOutcome, SmartReading, SmartSupport, SmartctlExit,
};
use assay_model::host::spec::{DiskSpec, HostSpec};
use serde_json::{Value, json};

use super::*;

fn disk(name: &str, serial: &str, class: DiskClass, counters: DiskCounters) -> SmartDisk {
    let reading = SmartReading {
        exit: SmartctlExit::of(0),
        passed: Some(true),
        temperature: DiskTemperature { current_c: Some(35), warning_c: None, critical_c: None },
        power_on_hours: Some(10),
        percentage_used: None,
        solid_state: None,
        error_log_entries: Some(0),
        self_test_failures: Some(0),
        counters: Some(counters),
        messages: Vec::new(),
    };
    SmartDisk {
        name: name.to_owned(),
        serial: Some(serial.to_owned()),
        wwn: None,
        model: None,
        class,
        support: SmartSupport::Available,
        before: Some(reading.clone()),
        after: Some(reading),
        self_test: SelfTest {
            supported: Some(true),
            outcome: SelfTestOutcome::Passed,
            seconds: Some(60),
            detail: "Completed without error".to_owned(),
        },
        artifacts: vec![format!("smart-{serial}.txt")],
        problems: Vec::new(),
    }
}

fn ata() -> SmartDisk {
    let counters = AtaCounters {
        reallocated: Some(0),
        spin_retry: Some(0),
        end_to_end: Some(0),
        reported_uncorrect: Some(0),
        command_timeout: Some(0),
        pending: Some(0),
        offline_uncorrectable: Some(0),
        crc: Some(0),
        ..AtaCounters::default()
    };
    disk("sda", "A1", DiskClass::Ata, DiskCounters::Ata(counters))
}

fn nvme() -> SmartDisk {
    let counters = NvmeCounters {
        critical_warning: Some(0),
        available_spare: Some(100),
        available_spare_threshold: Some(10),
        media_errors: Some(0),
        ..NvmeCounters::default()
    };
    disk("nvme0n1", "N1", DiskClass::Nvme, DiskCounters::Nvme(counters))
}

fn scsi() -> SmartDisk {
    let counters = ScsiCounters {
        grown_defects: Some(0),
        uncorrected_read: Some(0),
        uncorrected_write: Some(0),
        uncorrected_verify: Some(0),
        ..ScsiCounters::default()
    };
    disk("sdc", "S1", DiskClass::Scsi, DiskCounters::Scsi(counters))
}

/// Changes the latest reading; the one before stays.
fn now(mut disk: SmartDisk, change: impl FnOnce(&mut SmartReading)) -> SmartDisk {
    change(disk.after.as_mut().expect("it has one"));
    disk
}

/// Changes both readings: something that is so since before this run.
fn always(mut disk: SmartDisk, change: impl Fn(&mut SmartReading)) -> SmartDisk {
    change(disk.before.as_mut().expect("it has one"));
    change(disk.after.as_mut().expect("it has one"));
    disk
}

fn as_ata(reading: &mut SmartReading) -> &mut AtaCounters {
    match &mut reading.counters {
        Some(DiskCounters::Ata(counters)) => counters,
        other => panic!("not ATA: {other:?}"),
    }
}

fn as_nvme(reading: &mut SmartReading) -> &mut NvmeCounters {
    match &mut reading.counters {
        Some(DiskCounters::Nvme(counters)) => counters,
        other => panic!("not NVMe: {other:?}"),
    }
}

fn as_scsi(reading: &mut SmartReading) -> &mut ScsiCounters {
    match &mut reading.counters {
        Some(DiskCounters::Scsi(counters)) => counters,
        other => panic!("not SCSI: {other:?}"),
    }
}

fn expecting(serials: &[&str]) -> HostSpec {
    let named = |serial: &&str| DiskSpec { serial: Some((*serial).to_owned()), ..DiskSpec::default() };
    HostSpec { disks: serials.iter().map(named).collect(), ..HostSpec::default() }
}

fn verdict_on(disks: Vec<SmartDisk>, spec: &HostSpec) -> Judgement {
    let evidence = SmartEvidence { disks, ..SmartEvidence::default() };
    let evidence = serde_json::to_value(evidence).expect("plain data");
    let judgement = Smart.judge(&JudgeInput::new(spec, &evidence));
    let critical = judgement.findings.iter().any(|f| f.severity == Severity::Critical);
    let failed = judgement.checks.iter().any(|c| c.verdict == Verdict::Fail);
    assert_eq!(critical, failed, "a failed check has a critical finding beside it: {judgement:#?}");
    assert_eq!(
        critical,
        judgement.verdict == Verdict::Fail,
        "a critical finding fails alone: {judgement:#?}"
    );
    judgement
}

/// Code and severity of every finding.
fn codes(judgement: &Judgement) -> Vec<(String, Severity)> {
    judgement.findings.iter().map(|f| (f.code.clone(), f.severity)).collect()
}

#[test]
fn healthy_disks_of_all_classes_pass() {
    let judgement = verdict_on(vec![ata(), nvme(), scsi()], &expecting(&["A1", "n1", "S1"]));
    assert_eq!(judgement.verdict, Verdict::Pass, "{judgement:#?}");
    assert!(judgement.findings.is_empty(), "{judgement:#?}");
    assert!(judgement.unverified.is_empty());
    assert_eq!(judgement.message, "3 of 3 disks read, none is failing");
    assert_eq!((judgement.coverage[0].covered, judgement.coverage[0].total), (3, 3));
    assert_eq!((judgement.coverage[1].covered, judgement.coverage[1].total), (3, 3));
}

#[test]
fn every_rule_goes_red_alone_and_blames_the_disk() {
    let failed_self_test = SelfTest {
        supported: Some(true),
        outcome: SelfTestOutcome::Failed,
        seconds: Some(9),
        detail: "Completed: read failure".to_owned(),
    };
    let cases: Vec<(&str, SmartDisk)> = vec![
        ("SmartHealthFailed", always(ata(), |r| r.passed = Some(false))),
        ("SmartHealthFailed", always(ata(), |r| r.exit = SmartctlExit::of(8))),
        ("SmartHealthFailed", now(scsi(), |r| as_scsi(r).ie_asc = Some(0x5d))),
        ("SmartPrefailAttribute", now(ata(), |r| r.exit = SmartctlExit::of(16))),
        ("NvmeCriticalWarning", now(nvme(), |r| as_nvme(r).critical_warning = Some(4))),
        ("NvmeCriticalWarning", now(nvme(), |r| as_nvme(r).critical_warning = Some(0x80))),
        ("ReallocatedSectors", always(ata(), |r| as_ata(r).reallocated = Some(1))),
        ("PendingSectors", always(ata(), |r| as_ata(r).pending = Some(1))),
        ("UncorrectableSectors", always(ata(), |r| as_ata(r).reported_uncorrect = Some(1))),
        ("UncorrectableSectors", always(ata(), |r| as_ata(r).offline_uncorrectable = Some(1))),
        ("UncorrectableSectors", always(scsi(), |r| as_scsi(r).uncorrected_read = Some(1))),
        ("UncorrectableSectors", always(scsi(), |r| as_scsi(r).uncorrected_write = Some(1))),
        ("UncorrectableSectors", always(scsi(), |r| as_scsi(r).uncorrected_verify = Some(1))),
        ("EndToEndErrors", always(ata(), |r| as_ata(r).end_to_end = Some(1))),
        ("MediaErrors", always(nvme(), |r| as_nvme(r).media_errors = Some(1))),
        ("SpareBelowThreshold", now(nvme(), |r| as_nvme(r).available_spare = Some(9))),
        ("WearExceeded", always(nvme(), |r| r.percentage_used = Some(100))),
        ("GrownDefects", always(scsi(), |r| as_scsi(r).grown_defects = Some(1))),
        ("SelfTestFailed", SmartDisk { self_test: failed_self_test, ..ata() }),
        ("DiskTooHot", now(nvme(), |r| r.temperature.current_c = Some(70))),
    ];
    for (code, disk) in cases {
        let (name, serial) = (disk.name.clone(), disk.serial.clone().expect("it has one"));
        // A healthy neighbour must not be blamed.
        let judgement = verdict_on(vec![disk, self::healthy_neighbour()], &expecting(&[&serial, "OK"]));
        assert_eq!(codes(&judgement), [(code.to_owned(), Severity::Critical)], "{judgement:#?}");
        let finding = &judgement.findings[0];
        let part = finding.part.as_ref().expect("it blames one");
        assert_eq!(
            (part.serial.as_deref(), part.location.as_deref()),
            (Some(serial.as_str()), Some(name.as_str()))
        );
        assert_eq!(finding.evidence, [format!("smart-{serial}.txt")], "{code}");
        assert!(finding.message.contains(&serial) && !finding.next_step.is_empty(), "{finding:?}");
        assert_eq!(judgement.mute(&[code.to_owned()]).verdict, Verdict::Pass, "{code} muted");
    }
}

fn healthy_neighbour() -> SmartDisk {
    SmartDisk { name: "nvme9n1".to_owned(), serial: Some("OK".to_owned()), artifacts: Vec::new(), ..nvme() }
}

#[test]
fn what_warns_or_informs_fails_nothing() {
    use Severity::{Info, Warning};
    let stuck =
        |outcome| SelfTest { supported: Some(true), outcome, seconds: None, detail: "why".to_owned() };
    let cases: Vec<(&str, Severity, SmartDisk)> = vec![
        ("WearHigh", Warning, always(nvme(), |r| r.percentage_used = Some(80))),
        ("CrcErrors", Warning, always(ata(), |r| as_ata(r).crc = Some(7))),
        ("CrcErrors", Warning, now(ata(), |r| as_ata(r).crc = Some(7))),
        ("SpinRetries", Warning, always(ata(), |r| as_ata(r).spin_retry = Some(1))),
        ("CommandTimeouts", Info, always(ata(), |r| as_ata(r).command_timeout = Some(3))),
        ("CommandTimeouts", Warning, now(ata(), |r| as_ata(r).command_timeout = Some(3))),
        ("NonMediumErrors", Info, always(scsi(), |r| as_scsi(r).non_medium = Some(12))),
        ("SmartCommandFailed", Warning, now(ata(), |r| r.exit = SmartctlExit::of(4))),
        ("SmartAttributeBefore", Warning, now(ata(), |r| r.exit = SmartctlExit::of(32))),
        ("ErrorLogHistory", Info, always(ata(), |r| r.error_log_entries = Some(5))),
        ("ErrorLogHistory", Info, now(ata(), |r| r.exit = SmartctlExit::of(64))),
        ("ErrorLogGrew", Warning, now(nvme(), |r| r.error_log_entries = Some(5))),
        ("SelfTestFailedBefore", Warning, now(ata(), |r| r.exit = SmartctlExit::of(128))),
        ("DiskTooHot", Warning, now(nvme(), |r| r.temperature.current_c = Some(60))),
        (
            "SelfTestNotRun",
            Info,
            SmartDisk { self_test: SelfTest::not_run(Some(false), "not offered"), ..nvme() },
        ),
        ("SelfTestNotRun", Warning, SmartDisk { self_test: stuck(SelfTestOutcome::NotStarted), ..nvme() }),
        ("SelfTestNotRun", Warning, SmartDisk { self_test: stuck(SelfTestOutcome::TimedOut), ..nvme() }),
        ("SelfTestNotRun", Warning, SmartDisk { self_test: stuck(SelfTestOutcome::Aborted), ..nvme() }),
    ];
    for (code, severity, disk) in cases {
        let serial = disk.serial.clone().expect("it has one");
        let judgement = verdict_on(vec![disk], &expecting(&[&serial]));
        assert_eq!(codes(&judgement), [(code.to_owned(), severity)], "{judgement:#?}");
        assert_eq!(judgement.verdict, Verdict::Pass, "{code}");
        let incomplete = code == "SelfTestNotRun" && severity == Warning;
        assert_eq!(judgement.unverified.len(), usize::from(incomplete), "{code}: {:?}", judgement.unverified);
    }
}

#[test]
fn limits_come_from_the_spec_and_growth_fails_below_them() {
    let mut spec = expecting(&["A1"]);
    spec.limits.smart.reallocated_max = 10;
    let with = |before, after| {
        let mut disk = always(ata(), |r| as_ata(r).reallocated = Some(before));
        disk = now(disk, |r| as_ata(r).reallocated = Some(after));
        verdict_on(vec![disk], &spec)
    };
    assert_eq!(with(10, 10).verdict, Verdict::Pass);
    assert_eq!(with(11, 11).verdict, Verdict::Fail);
    let grown = with(3, 5);
    assert_eq!(grown.verdict, Verdict::Fail);
    assert!(grown.message.contains("5, 2 of them during this stage"), "{}", grown.message);

    spec.limits.smart.temperature_max_c = Some(45);
    let at =
        |celsius| verdict_on(vec![now(ata(), |r| r.temperature.current_c = Some(celsius))], &spec).verdict;
    assert_eq!((at(45), at(46)), (Verdict::Pass, Verdict::Fail));
}

#[test]
fn a_disk_s_own_temperature_limits_come_before_defaults() {
    let at = |celsius, warning_c, critical_c, solid_state| {
        let disk = now(ata(), |r| {
            r.temperature = DiskTemperature { current_c: Some(celsius), warning_c, critical_c };
            r.solid_state = solid_state;
        });
        codes(&verdict_on(vec![disk], &expecting(&["A1"]))).first().map(|(_, severity)| *severity)
    };
    assert_eq!(at(75, Some(80), Some(83), None), None);
    assert_eq!(at(81, Some(80), Some(83), None), Some(Severity::Warning));
    assert_eq!(at(83, Some(80), Some(83), None), Some(Severity::Critical));
    assert_eq!(at(59, None, None, Some(false)), Some(Severity::Warning), "spinning");
    assert_eq!(at(60, None, None, Some(false)), Some(Severity::Critical), "spinning");
    assert_eq!(at(60, None, None, Some(true)), Some(Severity::Warning), "solid state");
    assert_eq!(at(35, Some(0), Some(0), None), None, "0 is no limit");
}

#[test]
fn an_expected_disk_that_is_gone_is_critical() {
    let mut spec = expecting(&["A1", "GONE"]);
    spec.disks[1].bay = Some("bay 7".to_owned());
    let judgement = verdict_on(vec![ata()], &spec);
    assert_eq!(codes(&judgement), [("DiskAbsent".to_owned(), Severity::Critical)]);
    let part = judgement.findings[0].part.as_ref().expect("it blames one");
    assert_eq!((part.location.as_deref(), part.serial.as_deref()), (Some("bay 7"), Some("GONE")));
    assert_eq!((judgement.coverage[0].covered, judgement.coverage[0].total), (1, 2));
    let unnamed = |count| HostSpec { disks: vec![DiskSpec::default(); count], ..HostSpec::default() };
    assert_eq!(verdict_on(vec![ata()], &unnamed(1)).verdict, Verdict::Pass);
    let judgement = verdict_on(vec![ata()], &unnamed(2));
    assert_eq!(codes(&judgement), [("DiskAbsent".to_owned(), Severity::Critical)]);
    assert_eq!(verdict_on(Vec::new(), &unnamed(1)).verdict, Verdict::Fail);
    let by_wwn = DiskSpec { wwn: Some("naa.5000C500AA".to_owned()), ..DiskSpec::default() };
    let spec = HostSpec { disks: vec![by_wwn], ..HostSpec::default() };
    let disk = SmartDisk { wwn: Some("0x5000c500aa".to_owned()), ..ata() };
    assert_eq!(verdict_on(vec![disk], &spec).verdict, Verdict::Pass);
}

fn silent(support: SmartSupport) -> SmartDisk {
    SmartDisk {
        support,
        before: None,
        after: None,
        self_test: SelfTest::not_run(None, "it tells nothing"),
        problems: vec!["smartctl did not end within 90 s".to_owned()],
        ..ata()
    }
}

#[test]
fn an_expected_disk_that_cannot_be_asked_never_passes() {
    for support in [SmartSupport::Unreadable, SmartSupport::Unsupported] {
        let judgement = verdict_on(vec![silent(support), nvme()], &expecting(&["A1", "N1"]));
        assert_eq!(judgement.verdict, Verdict::Unverified, "beside a healthy one: {judgement:#?}");
        assert_eq!(codes(&judgement), [("SmartUnreadable".to_owned(), Severity::Warning)]);
        assert!(judgement.unverified[0].contains("did not end within 90 s"), "{:?}", judgement.unverified);
        assert_eq!((judgement.coverage[0].covered, judgement.coverage[0].total), (1, 2));
        assert_eq!(
            verdict_on(vec![silent(support)], &expecting(&["A1"])).verdict,
            Verdict::Unverified,
            "alone"
        );
    }
    // One that nobody expects is told, and the expected ones decide.
    let judgement = verdict_on(vec![silent(SmartSupport::Unreadable), nvme()], &expecting(&["N1"]));
    assert_eq!(judgement.verdict, Verdict::Pass);
    assert_eq!(codes(&judgement), [("SmartUnreadable".to_owned(), Severity::Info)]);
    assert_eq!(judgement.unverified.len(), 1);
    // A spec that expects a disk without naming it could mean this one.
    let unnamed = HostSpec { disks: vec![DiskSpec::default()], ..HostSpec::default() };
    let judgement = verdict_on(vec![silent(SmartSupport::Unreadable), nvme()], &unnamed);
    assert_eq!(judgement.verdict, Verdict::Unverified);
}

#[test]
fn available_without_a_single_number_is_not_read() {
    let empty = |r: &mut SmartReading| {
        r.passed = None;
        r.counters = Some(DiskCounters::Ata(AtaCounters::default()));
    };
    let judgement = verdict_on(vec![always(ata(), empty)], &expecting(&["A1"]));
    assert_eq!(
        judgement.verdict,
        Verdict::Unverified,
        "temperature and self-test are not health: {judgement:#?}"
    );
    for status in [1, 2] {
        let judgement =
            verdict_on(vec![now(nvme(), |r| r.exit = SmartctlExit::of(status))], &expecting(&["N1"]));
        assert_eq!(judgement.verdict, Verdict::Unverified, "exit bit {status}");
    }
    let lying = SmartctlExit { status: 8, ..SmartctlExit::of(0) };
    let judgement = verdict_on(vec![now(ata(), |r| r.exit = lying)], &expecting(&["A1"]));
    assert_eq!(judgement.verdict, Verdict::Fail, "the byte counts, not the names beside it");
}

#[test]
fn a_disk_that_told_that_it_fails_before_it_fell_silent_fails() {
    let mut disk = always(ata(), |r| r.passed = Some(false));
    disk.support = SmartSupport::Unreadable;
    disk.after = None;
    let judgement = verdict_on(vec![disk], &expecting(&["A1"]));
    assert_eq!(judgement.verdict, Verdict::Fail);
    let well_before = SmartDisk { support: SmartSupport::Unreadable, after: None, ..ata() };
    assert_eq!(verdict_on(vec![well_before], &expecting(&["A1"])).verdict, Verdict::Unverified);
}

#[test]
fn virtual_disks_have_nothing_to_tell() {
    let virtio = || SmartDisk {
        name: "vda".to_owned(),
        class: DiskClass::Unknown,
        problems: Vec::new(),
        ..silent(SmartSupport::Virtual)
    };
    let judgement = verdict_on(vec![virtio()], &expecting(&["A1"]));
    assert_eq!(judgement.verdict, Verdict::Skip);
    assert_eq!(judgement.message, "no health data to read: the only disk is virtual");
    assert_eq!(verdict_on(vec![virtio(), nvme()], &expecting(&["A1", "N1"])).verdict, Verdict::Pass);
    let judgement = verdict_on(Vec::new(), &HostSpec::default());
    assert_eq!(
        (judgement.verdict, judgement.message.as_str()),
        (Verdict::Skip, "no disks are here and none are expected")
    );
    assert_eq!(verdict_on(Vec::new(), &expecting(&["A1"])).verdict, Verdict::Fail);
}

#[test]
fn evidence_that_does_not_fit_is_the_runner_s_failure() {
    for evidence in [json!({}), json!(null), json!({"disks": [{"name": "sda"}]}), json!({"disks": "none"})] {
        let spec = HostSpec::default();
        assert_eq!(Smart.judge(&JudgeInput::new(&spec, &evidence)).verdict, Verdict::Error, "{evidence}");
    }
}

#[test]
fn hostile_names_do_not_reach_a_terminal() {
    let disk =
        SmartDisk { serial: Some("X\u{1b}[2J".to_owned()), ..always(ata(), |r| r.passed = Some(false)) };
    let judgement = verdict_on(vec![disk], &HostSpec::default());
    assert!(!format!("{judgement:?}").contains("\\u{1b}"), "{judgement:?}");
}

/// Recorded output, through the parser that the probe uses, to a verdict.
fn recorded(text: &str) -> SmartDisk {
    let json: Value = serde_json::from_str(text).expect("a fixture is JSON");
    let status = json.pointer("/smartctl/exit_status").and_then(Value::as_u64).expect("it has a status");
    let parsed = assay_probes::smart::parse::parse(&json, u8::try_from(status).expect("a byte"));
    SmartDisk {
        name: "disk0".to_owned(),
        serial: parsed.serial,
        class: parsed.class,
        support: parsed.support,
        before: Some(parsed.reading.clone()),
        after: Some(parsed.reading),
        self_test: SelfTest::not_run(Some(false), "recorded"),
        ..ata()
    }
}

macro_rules! fixture {
    ($name:literal) => {
        recorded(include_str!(concat!("../../../../assay-probes/src/smart/fixtures/", $name, ".json")))
    };
}

#[test]
fn recorded_disks_get_the_verdicts_they_deserve() {
    let cases = [
        ("ATA ok", fixture!("ata-ok")),
        ("ATA failing", fixture!("ata-failing")),
        ("ATA SSD worn", fixture!("ata-ssd-worn")),
        ("NVMe ok", fixture!("nvme-ok")),
        ("QEMU ATA", fixture!("ata-qemu")),
        ("QEMU NVMe ok", fixture!("nvme-qemu-ok")),
        ("QEMU NVMe critical warning", fixture!("nvme-qemu-critical-warning")),
        ("SCSI ok", fixture!("scsi-ok")),
        ("SCSI IE 5d", fixture!("scsi-ie-5d")),
        ("ATA asleep", SmartDisk { serial: Some("ASLEEP".to_owned()), ..fixture!("ata-asleep") }),
        ("unsupported", fixture!("scsi-unsupported")),
    ];
    let told = cases.map(|(name, disk)| {
        let spec = expecting(&[disk.serial.as_deref().expect("it has one")]);
        let judgement = verdict_on(vec![disk], &spec);
        let codes: Vec<String> =
            codes(&judgement).iter().map(|(code, severity)| format!("{code}:{severity}")).collect();
        format!("{name}: {} [{}]", judgement.verdict, codes.join(" "))
    });
    insta::assert_snapshot!(told.join("\n"), @r"
    ATA ok: pass [CommandTimeouts:info SelfTestNotRun:info]
    ATA failing: fail [SmartHealthFailed:critical SmartPrefailAttribute:critical ReallocatedSectors:critical PendingSectors:critical UncorrectableSectors:critical UncorrectableSectors:critical EndToEndErrors:critical CrcErrors:warning ErrorLogHistory:info SelfTestFailedBefore:warning SelfTestNotRun:info]
    ATA SSD worn: pass [WearHigh:warning SelfTestNotRun:info]
    NVMe ok: pass [SelfTestNotRun:info]
    QEMU ATA: pass [SmartCommandFailed:warning SelfTestNotRun:info]
    QEMU NVMe ok: pass [SelfTestNotRun:info]
    QEMU NVMe critical warning: fail [NvmeCriticalWarning:critical SelfTestNotRun:info]
    SCSI ok: pass [NonMediumErrors:info SelfTestNotRun:info]
    SCSI IE 5d: fail [SmartHealthFailed:critical GrownDefects:critical NonMediumErrors:info SelfTestNotRun:info]
    ATA asleep: unverified [SmartUnreadable:warning]
    unsupported: unverified [SmartUnreadable:warning]
    ");
}

#[test]
fn the_lab_s_critical_warning_has_one_code_and_blames_one_of_two_equal_disks() {
    let disks = vec![fixture!("nvme-qemu-ok"), fixture!("nvme-qemu-critical-warning")];
    let judgement = verdict_on(disks, &expecting(&["NV1", "NV2"]));
    let critical: Vec<&Finding> =
        judgement.findings.iter().filter(|f| f.severity == Severity::Critical).collect();
    let [finding] = critical[..] else { panic!("one: {critical:#?}") };
    assert_eq!(finding.part.as_ref().and_then(|part| part.serial.as_deref()), Some("NV1"));
    assert_eq!(
        finding.message,
        "disk NV1 warns: spare below threshold, reliability degraded (critical warning 0x05)"
    );
    assert_eq!(
        judgement.mute(&["NvmeCriticalWarning".to_owned()]).verdict,
        Verdict::Pass,
        "no second code hides it"
    );
}

#[cfg(feature = "collect")]
#[test]
fn collecting_without_smartctl_is_no_evidence_at_all() {
    let nowhere = std::path::PathBuf::from("/nonexistent/root");
    let machine = assay_probes::Machine::captured(&nowhere, Some(nowhere.join("bin")));
    let spec = HostSpec::default();
    let context = crate::testing::context(&machine, &spec);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let problem = runtime.block_on(Smart.collect(&context)).expect_err("there is no smartctl");
    assert_eq!(problem.stage, NAME);
    assert!(problem.problem.contains("install smartmontools"), "{problem}");
}
