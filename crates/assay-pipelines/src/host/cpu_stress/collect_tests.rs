//! The collector with tools that do what a test needs, on a captured machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use assay_model::host::order::StageInput;
use assay_model::host::spec::HostSpec;

use super::*;
use crate::testing::context;

const WORD: &str =
    r#"echo '{"begun":{"total":1000000000,"available":900000000,"reserve":70000000,"threads":2}}'"#;

fn report(mismatches: u32) -> String {
    format!(
        r#"{WORD}
echo '{{"report":{{"asked":622500000,"region":622500000,"locked":true,"written":1245000000,"verified":1245000000,"passes":2,"mismatches":{mismatches},"flips":[],"seconds":1.5,"stopped":false}}}}'"#
    )
}

const STRESS_NG: &str = r#"while [ "$1" != --yaml ]; do shift; done
printf -- '    - stressor: cpu\n      bogo-ops: 5\n    - stressor: vm\n      bogo-ops: 5\n' > "$2""#;

struct Captured {
    folder: tempfile::TempDir,
}

impl Captured {
    fn new(celsius: u32, memory: &str, stress_ng: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path();
        write(root, "proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 800000 kB\n");
        write(root, "sys/class/hwmon/hwmon0/name", "coretemp\n");
        write(root, "sys/class/hwmon/hwmon0/temp1_input", &format!("{}\n", celsius * 1000));
        for (tool, script) in [("assay-agent", memory), ("stress-ng", stress_ng)] {
            let file = write(root, &format!("tools/{tool}"), &format!("#!/bin/sh\n{script}\n"));
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        Self { folder }
    }

    async fn collect(&self) -> (CpuStressEvidence, Vec<String>) {
        let machine = Machine::captured(self.folder.path(), Some(self.folder.path().join("tools")));
        let (spec, input) =
            (HostSpec::default(), StageInput { profile: Profile::Quick, ..StageInput::default() });
        let told = Mutex::new(Vec::new());
        let progress = |step: &str| told.lock().expect("alive").push(step.to_owned());
        let context = CollectContext { input: &input, progress: &progress, ..context(&machine, &spec) };
        let collected = collect(&context).await.expect("collected");
        let told = told.into_inner().expect("alive");
        (serde_json::from_value(collected.evidence).expect("its own"), told)
    }
}

fn write(root: &Path, path: &str, content: &str) -> std::path::PathBuf {
    let file = root.join(path);
    fs::create_dir_all(file.parent().expect("has one")).expect("folder");
    fs::write(&file, content).expect("written");
    file
}

#[tokio::test]
async fn everything_is_done_in_turn_and_brought_back() {
    let (evidence, _) = Captured::new(50, &report(0), STRESS_NG).collect().await;
    assert_eq!((evidence.memory.ended, evidence.memory.covered()), (Ended::Finished, 622_500_000));
    assert_eq!((evidence.stress_ng.ended, evidence.stress_ng.work.len()), (Ended::Finished, 2));
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    let bytes = load_bytes(819_200_000, 25, 10, (processors / 2).clamp(1, MAX_WORKERS));
    let given = format!("--vm-bytes {bytes} ");
    assert!(evidence.stress_ng.command.contains(&given), "{}", evidence.stress_ng.command);
    assert_eq!(evidence.stressapptest.ended, Ended::NotStarted, "not in the profile quick");
    assert_eq!(evidence.temperatures[0].max, Some(50.0));
    assert_eq!((evidence.stopped, evidence.throttled), (None, None));
}

#[tokio::test]
async fn heat_stops_whatever_is_at_work_and_what_is_known_is_kept() {
    let hot = Captured::new(97, &report(0), "exec sleep 1000");
    let (evidence, told) = hot.collect().await;
    assert_eq!(evidence.stress_ng.ended, Ended::Stopped);
    assert_eq!(evidence.memory.ended, Ended::Finished);
    assert_eq!(evidence.temperatures[0].sustained, Some(97.0));
    let why = evidence.stopped.expect("said");
    assert!(
        why.contains("reached 97.0 °C") && told.last().is_some_and(|last| last.contains(&why)),
        "{told:?}"
    );
    assert!(evidence.seconds < 30.0);
}

#[tokio::test]
async fn broken_memory_ends_the_stage() {
    let (evidence, _) = Captured::new(50, &report(2), STRESS_NG).collect().await;
    assert_eq!((evidence.memory.mismatches, evidence.stress_ng.ended), (2, Ended::NotStarted));
    assert!(evidence.stopped.expect("said").contains("memory does not hold"));
}

#[test]
fn a_short_load_is_given_no_more_memory_than_it_gets_through() {
    const GIB: u64 = 1 << 30;
    assert_eq!(load_bytes(2048 * GIB, 25, 10, 32), 10 * 32 * (8 << 20), "large and short");
    assert_eq!(load_bytes(100 * GIB, 90, 86_400, 32), 100 * GIB / 100 * 90, "long enough for all of it");
    assert_eq!(load_bytes(0, 25, 10, 1), LEAST, "unknown");
}
