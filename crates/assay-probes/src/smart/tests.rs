//! The parser on recorded output; the probe with a fake `smartctl` that behaves as the real one did, and with the
//! real one.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use assay_model::host::smart::{AtaCounters, DiskCounters, DiskTemperature, NvmeCounters};
use tempfile::TempDir;

use super::*;

fn fixture(text: &str) -> Parsed {
    let json: Value = serde_json::from_str(text).expect("a fixture is JSON");
    let status = json.pointer("/smartctl/exit_status").and_then(Value::as_u64).expect("it has a status");
    parse::parse(&json, u8::try_from(status).expect("a byte"))
}

#[test]
fn a_healthy_ata_disk() {
    let parsed = fixture(include_str!("fixtures/ata-ok.json"));
    assert_eq!(parsed.wwn.as_deref(), Some("0x5000c500a1b2c3d4"));
    assert_eq!((parsed.self_test_supported, parsed.self_test_minutes), (Some(true), Some(1)));
    let expected = AtaCounters {
        reallocated: Some(0),
        spin_retry: Some(0),
        end_to_end: Some(0),
        reported_uncorrect: Some(0),
        command_timeout: Some(1), // 0x1_0001_0001 packed
        pending: Some(0),
        offline_uncorrectable: Some(0),
        crc: Some(0),
        failing_now: Vec::new(),
        failed_before: Vec::new(),
    };
    assert_eq!(parsed.reading.counters, Some(DiskCounters::Ata(expected)));
    // Not the 522125343 of attribute 190.
    let expected = DiskTemperature { current_c: Some(31), warning_c: Some(60), critical_c: Some(70) };
    assert_eq!(parsed.reading.temperature, expected);
    assert_eq!(parsed.reading.solid_state, Some(false));
    assert_eq!(parsed.reading.power_on_hours, Some(21873));
}

#[test]
fn a_failing_ata_disk() {
    let parsed = fixture(include_str!("fixtures/ata-failing.json"));
    let exit = parsed.reading.exit;
    assert!(exit.disk_failing && exit.prefail_now && exit.error_log && exit.self_test_log);
    assert_eq!(parsed.support, SmartSupport::Available, "a failing disk was read all the same");
    assert_eq!(parsed.reading.passed, Some(false));
    let Some(DiskCounters::Ata(ata)) = parsed.reading.counters else { panic!("ATA") };
    assert_eq!(ata.failing_now, ["Reallocated_Sector_Ct"]);
    assert_eq!(
        (ata.reallocated, ata.pending, ata.end_to_end, ata.crc),
        (Some(2040), Some(48), Some(2), Some(7))
    );
    assert_eq!((parsed.reading.error_log_entries, parsed.reading.self_test_failures), (Some(113), Some(3)));
}

#[test]
fn an_emulated_ata_disk_lacks_most_and_answers_bit_2() {
    let parsed = fixture(include_str!("fixtures/ata-qemu.json"));
    assert_eq!((parsed.class, parsed.support), (DiskClass::Ata, SmartSupport::Available));
    assert!(parsed.reading.exit.command_failed && parsed.reading.passed == Some(true));
    assert_eq!(parsed.reading.temperature.current_c, Some(31));
    assert_eq!((parsed.self_test_supported, parsed.self_test_minutes), (Some(true), Some(2)));
    let Some(DiskCounters::Ata(ata)) = parsed.reading.counters else { panic!("ATA") };
    assert_eq!((ata.reallocated, ata.pending, ata.crc), (Some(0), None, None));
}

#[test]
fn wear_of_a_sata_ssd_comes_from_its_statistics() {
    let parsed = fixture(include_str!("fixtures/ata-ssd-worn.json"));
    assert_eq!((parsed.reading.percentage_used, parsed.reading.solid_state), (Some(86), Some(true)));
    let Some(DiskCounters::Ata(ata)) = parsed.reading.counters else { panic!("ATA") };
    assert_eq!(ata.pending, None, "an attribute that the disk lacks is not 0");
}

#[test]
fn nvme_with_and_without_a_critical_warning() {
    let parsed = fixture(include_str!("fixtures/nvme-ok.json"));
    assert_eq!((parsed.class, parsed.self_test_supported), (DiskClass::Nvme, Some(true)));
    assert_eq!(
        (parsed.reading.temperature.warning_c, parsed.reading.temperature.critical_c),
        (Some(80), Some(83))
    );
    let parsed = fixture(include_str!("fixtures/nvme-qemu-critical-warning.json"));
    assert_eq!(parsed.self_test_supported, Some(false), "told in text only");
    assert_eq!((parsed.reading.passed, parsed.reading.exit.status), (Some(false), 8));
    let expected = NvmeCounters {
        critical_warning: Some(5),
        available_spare: Some(0),
        available_spare_threshold: Some(0),
        media_errors: Some(0),
        unsafe_shutdowns: Some(0),
        warning_temp_minutes: Some(0),
        critical_temp_minutes: Some(0),
    };
    assert_eq!(parsed.reading.counters, Some(DiskCounters::Nvme(expected)));
}

#[test]
fn scsi_failure_prediction_and_text_only_numbers() {
    let parsed = fixture(include_str!("fixtures/scsi-ie-5d.json"));
    let Some(DiskCounters::Scsi(scsi)) = parsed.reading.counters else { panic!("SCSI") };
    assert_eq!((scsi.ie_asc, scsi.ie_ascq), (Some(0x5d), Some(0xff)));
    assert_eq!((scsi.grown_defects, scsi.non_medium), (Some(17), Some(12)));
    assert_eq!(parsed.wwn.as_deref(), Some("0x5000c500a1b2c3d4"));
}

#[test]
fn a_sleeping_disk_and_one_without_health_data() {
    let asleep = fixture(include_str!("fixtures/ata-asleep.json"));
    assert_eq!(asleep.support, SmartSupport::Unreadable);
    assert_eq!(asleep.reading.messages, ["Device is in STANDBY mode, exit(2)"]);
    assert_eq!(fixture(include_str!("fixtures/scsi-unsupported.json")).support, SmartSupport::Unsupported);
    let nothing = parse::parse(&serde_json::json!({"device": {"protocol": "ATA"}}), 0);
    assert_eq!(nothing.support, SmartSupport::Unreadable, "exit 0 and no data is not health");
    let hostile = parse::parse(&serde_json::json!(["x", {"smart_status": "yes"}]), 0);
    assert_eq!((hostile.class, hostile.support), (DiskClass::Unknown, SmartSupport::Unreadable));
}

/// A machine with a fake `smartctl`: a shell script that is given the case of each disk.
struct Fake {
    root: TempDir,
}

impl Fake {
    /// `disks`: kernel name, and shell code that answers for it. `$1` is `-x`, `-t`, `-l` or `-X`.
    fn new(disks: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let mut cases = String::new();
        for (name, code) in disks {
            fs::create_dir_all(root.path().join("sys/block").join(name)).expect("a folder");
            writeln!(cases, "*/dev/{name}) {code} ;;").expect("memory");
        }
        fs::create_dir_all(root.path().join("bin")).expect("a folder");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/smart/fixtures");
        let script = format!(
            "#!/bin/sh\nstate={root}\nfixtures={fixtures}\n\
             answer() {{ cat \"$fixtures/$1.json\"; exit \"${{2:-0}}\"; }}\n\
             say() {{ printf '%s\\n' \"$1\"; exit \"${{2:-0}}\"; }}\n\
             for last; do :; done\n\
             case \"$*\" in *--version*) say '{{\"smartctl\": {{\"version\": [7, 4]}}}}' ;; esac\n\
             set -- \"$2\"\n\
             [ \"$1\" = -c ] && set -- -l\n\
             case \"$last\" in\n{cases}esac\nexit 99\n",
            root = root.path().display(),
            fixtures = fixtures.display(),
        );
        let path = root.path().join("bin/smartctl");
        fs::write(&path, script).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        Self { root }
    }

    async fn probe(&self, expected: &[&str]) -> (SmartProbe, Vec<String>) {
        self.probe_with(expected, Duration::from_mins(1)).await
    }

    async fn probe_with(&self, expected: &[&str], self_test_cap: Duration) -> (SmartProbe, Vec<String>) {
        let machine = Machine::captured(self.root.path(), Some(self.root.path().join("bin")));
        let said = Mutex::new(Vec::new());
        let progress = |line: &str| said.lock().expect("not poisoned").push(line.to_owned());
        let expected: Vec<String> = expected.iter().map(|&serial| serial.to_owned()).collect();
        let options = SmartOptions {
            command: Duration::from_secs(3),
            self_test: true,
            poll: Duration::from_millis(5),
            self_test_cap,
        };
        let probe = smart_with(&machine, &expected, &progress, options).await.expect("smartctl is there");
        (probe, said.into_inner().expect("not poisoned"))
    }
}

/// Starts on `-t`, is seen running once, then has a new entry with this result.
fn nvme_self_test(result: u8) -> String {
    format!(
        r#"case "$1" in
        -x) answer nvme-ok ;;
        -t) touch "$state/asked"; say '{{}}' ;;
        -l) if [ ! -e "$state/asked" ]; then say '{{"nvme_self_test_log": {{"table": []}}}}'; fi
            if [ ! -e "$state/seen" ]; then touch "$state/seen"; say '{{"nvme_self_test_log": {{"current_self_test_operation": {{"value": 1}}, "table": []}}}}'; fi
            say '{{"nvme_self_test_log": {{"current_self_test_operation": {{"value": 0}}, "table": [{{"self_test_result": {{"value": {result}, "string": "result {result}"}}}}]}}}}' ;;
        esac"#
    )
}

#[tokio::test]
async fn a_self_test_is_awaited_and_its_raw_output_kept() {
    let (probe, said) =
        Fake::new(&[("nvme0n1", &nvme_self_test(0))]).probe(&["s64gne0t700123", "GONE-1"]).await;
    let disk = &probe.evidence.disks[0];
    assert_eq!(disk.serial.as_deref(), Some("S64GNE0T700123"));
    assert_eq!(
        (disk.self_test.outcome, disk.self_test.detail.as_str()),
        (SelfTestOutcome::Passed, "result 0")
    );
    assert!(disk.before.is_some() && disk.after.is_some());
    assert_eq!(probe.evidence.expected_but_absent, ["GONE-1"]);
    assert_eq!(probe.evidence.smartctl_version.as_deref(), Some("7.4"));
    let names = ["smart-S64GNE0T700123.txt", "smart-S64GNE0T700123.json", "smart-S64GNE0T700123-before.json"];
    assert_eq!(disk.artifacts, names);
    let text = String::from_utf8_lossy(&probe.artifacts[0].1).into_owned();
    assert!(text.starts_with("smartctl 7.4 ") && text.contains("Self_Test"), "{text}");
    assert!(said.iter().any(|line| line.contains("short self-test, at most")), "{said:?}");
}

#[tokio::test]
async fn a_self_test_that_fails_or_never_starts_or_never_ends() {
    let (probe, _) = Fake::new(&[("nvme0n1", &nvme_self_test(7))]).probe(&[]).await;
    assert_eq!(probe.evidence.disks[0].self_test.outcome, SelfTestOutcome::Failed);

    // smartctl 7.3: exits 0 and starts nothing.
    let silent = r#"case "$1" in -x) answer nvme-ok ;; *) say '{}' ;; esac"#;
    let (probe, _) = Fake::new(&[("nvme0n1", silent)]).probe(&[]).await;
    assert_eq!(probe.evidence.disks[0].self_test.outcome, SelfTestOutcome::NotStarted);

    let refused = r#"case "$1" in -x) answer ata-ok ;; -t) say '{"smartctl": {"messages": [{"string": "no way"}]}}' 4 ;; *) say '{}' ;; esac"#;
    let (probe, _) = Fake::new(&[("sda", refused)]).probe(&[]).await;
    let test = &probe.evidence.disks[0].self_test;
    assert_eq!(test.outcome, SelfTestOutcome::NotStarted);
    assert!(test.detail.contains("no way"), "{test:?}");

    let endless = r#"case "$1" in -x) answer ata-ok ;; -t) touch "$state/asked"; say '{}' ;; -X) touch "$state/stopped"; say '{}' ;;
        *) [ -e "$state/asked" ] && say '{"ata_smart_data": {"self_test": {"status": {"value": 249}}}}'; say '{}' ;; esac"#;
    let fake = Fake::new(&[("sda", endless)]);
    let (probe, _) = fake.probe_with(&[], Duration::from_millis(300)).await;
    assert_eq!(probe.evidence.disks[0].self_test.outcome, SelfTestOutcome::TimedOut);
    assert!(fake.root.path().join("stopped").exists(), "it is told to stop");
}

#[tokio::test]
async fn a_disk_that_hangs_is_recorded_and_the_others_are_read() {
    let fake = Fake::new(&[
        ("nvme0n1", &nvme_self_test(0)),
        ("sda", "exec sleep 1000"),
        ("sdb", "say 'not JSON' 1"),
        ("sdc", "answer ata-asleep 2"),
        ("sdd", "answer scsi-ok 8"),
        ("vda", "exit 1"),
    ]);
    let (probe, _) = fake.probe(&[]).await;
    let told: Vec<String> = probe
        .evidence
        .disks
        .iter()
        .map(|d| format!("{} {:?} {:?} {}", d.name, d.support, d.self_test.outcome, d.problems.join("; ")))
        .map(|line| line.trim_end().to_owned())
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    nvme0n1 Available Passed
    sda Unreadable NotRun smartctl did not end within 3 s and was stopped
    sdb Unreadable NotRun smartctl exited with 1 and wrote no JSON (expected ident at line 1 column 2): not JSON
    sdc Unreadable NotRun Device is in STANDBY mode, exit(2)
    sdd Unreadable NotRun smartctl exited with 8 but reports 0
    vda Virtual NotRun
    ");
}

#[tokio::test]
async fn a_disk_that_falls_silent_during_the_stage_is_unreadable() {
    let code = r#"case "$1" in
        -x) if [ -e "$state/second" ]; then answer ata-asleep 2; fi; touch "$state/second"; answer ata-ok ;;
        *) say '{}' ;; esac"#;
    let (probe, _) = Fake::new(&[("sda", code)]).probe(&[]).await;
    let disk = &probe.evidence.disks[0];
    assert_eq!(disk.support, SmartSupport::Unreadable);
    assert_eq!(
        disk.problems,
        ["it answered before the self-test and no longer after it", "Device is in STANDBY mode, exit(2)"]
    );
}

#[tokio::test]
async fn without_smartctl_there_is_no_evidence() {
    let root = tempfile::tempdir().expect("a folder");
    let machine = Machine::captured(root.path(), Some(root.path().join("bin")));
    let problem = smart(&machine, &[], &|_| {}).await.expect_err("there is no smartctl");
    assert!(problem.to_string().contains("install smartmontools"), "{problem}");
}

#[tokio::test]
async fn the_real_smartctl_speaks_what_the_parser_reads() {
    let machine = Machine::this();
    let smartctl = Smartctl { machine: &machine, limit: Duration::from_secs(20) };
    let version = smartctl.cmd(&["--json", "--version"]).run_ok().await.expect("smartmontools is installed");
    let version = parse::version(&serde_json::from_slice(&version.stdout).expect("JSON"));
    assert!(version.is_some_and(|version| version.starts_with('7')));
    let scan = smartctl.cmd(&["--json", "--scan"]).run_ok().await.expect("it scans");
    assert!(serde_json::from_slice::<Value>(&scan.stdout).expect("JSON").get("smartctl").is_some());

    // A plain file is a device that it cannot identify: bit 0 and a message, and the text beside the JSON.
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(root.path().join("dev")).expect("a folder");
    fs::write(root.path().join("dev/sda"), [0; 4096]).expect("a file");
    let machine = Machine::captured(root.path(), None);
    let smartctl = Smartctl { machine: &machine, limit: Duration::from_secs(20) };
    let answer = smartctl.json("sda", &["--json=o", "-x"]).await.expect("it answers in JSON");
    let parsed = parse::parse(&answer.json, answer.status);
    assert_eq!(parsed.support, SmartSupport::Unreadable);
    assert!(parsed.reading.exit.command_line && !parsed.reading.messages.is_empty(), "{parsed:?}");
    assert!(parse::text_of(&answer.json).is_some_and(|text| text.contains("Unable to detect device type")));
}

#[tokio::test]
async fn the_disks_of_this_machine() {
    let probe =
        smart(&Machine::this(), &["no such disk".to_owned()], &|_| {}).await.expect("smartctl and sysfs");
    assert_eq!(probe.evidence.expected_but_absent, ["no such disk"]);
    for disk in probe.evidence.disks.iter().filter(|disk| disk.name.starts_with("vd")) {
        assert_eq!(disk.support, SmartSupport::Virtual, "{disk:?}");
    }
}

#[test]
fn file_names_are_plain() {
    assert_eq!(file_name("S3 /../x\u{1b}"), "S3__.._x_");
    assert_eq!(file_name(".."), "unnamed");
    assert_eq!(file_name(""), "unnamed");
}
