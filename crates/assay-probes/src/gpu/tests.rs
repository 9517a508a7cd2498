//! The probe on a captured bus and kernel log, with a driver without GPUs that is loaded as a real one is.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Mutex;

use assay_gpu_fake::FakeDriver;
use assay_model::host::gpu::{BurnGpu, GpuBurn, ThrottleReason};
use tempfile::TempDir;

use super::*;

const A100: (&str, &str, Option<&str>) = ("0000:01:00.0", "0x20f1", Some("nvidia"));
const OTHER: (&str, &str, Option<&str>) = ("0000:c1:00.0", "0x20f1", Some("nvidia"));

/// A machine with these GPUs on its bus, and a folder for tools.
fn machine(gpus: &[(&str, &str, Option<&str>)], log: &str) -> (TempDir, Machine) {
    let root = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("inside")).expect("made");
        fs::write(path, text).expect("written");
    };
    write("sys/bus/pci/devices/0000:00:00.0/vendor", "0x8086\n");
    write("sys/bus/pci/devices/0000:00:00.0/device", "0x1237\n");
    write("sys/bus/pci/devices/0000:00:00.0/class", "0x060000\n");
    for (address, device, driver) in gpus {
        let folder = format!("sys/bus/pci/devices/{address}");
        write(&format!("{folder}/vendor"), "0x10de\n");
        write(&format!("{folder}/device"), device);
        write(&format!("{folder}/class"), "0x030200\n");
        if let Some(driver) = driver {
            symlink(format!("../drivers/{driver}"), root.path().join(&folder).join("driver"))
                .expect("linked");
        }
    }
    write("dev/kmsg", log);
    fs::create_dir(root.path().join("tools")).expect("made");
    let machine = Machine::captured(root.path(), Some(root.path().join("tools")));
    (root, machine)
}

fn tool(root: &TempDir, name: &str, script: &str) {
    let path = root.path().join("tools").join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
}

/// A load long enough to be sampled several times, in small pieces.
fn options(fake: &FakeDriver) -> GpuOptions {
    GpuOptions {
        nvml: fake.nvml(),
        cuda: fake.cuda(),
        work: WorkOptions {
            duration: Duration::from_millis(300),
            stretch: Duration::ZERO,
            launch: Duration::from_nanos(1),
            chunk: 4 << 20,
        },
        sample_every: Duration::from_millis(5),
        ..GpuOptions::lasting(Duration::from_secs(20))
    }
}

async fn probed(machine: &Machine, options: GpuOptions) -> (GpuProbe, Vec<String>) {
    let said = Mutex::new(Vec::new());
    let progress = |step: &str| said.lock().expect("one at a time").push(step.to_owned());
    let probe = gpu(machine, &progress, options).await;
    (probe, said.into_inner().expect("one at a time"))
}

#[tokio::test]
async fn two_healthy_gpus_are_read_worked_sampled_and_read_again() {
    let fake = FakeDriver::with("").await;
    let (_root, machine) = machine(&[A100, OTHER], "6,1,100,-;booted\n");
    let (probe, said) = probed(&machine, options(&fake)).await;
    let evidence = probe.evidence;
    assert_eq!(evidence.problems, Vec::<String>::new());
    assert!(evidence.driver.nvml && evidence.driver.cuda && evidence.kernel_log_read);
    assert_eq!(evidence.driver.version.as_deref(), Some("550.54.15"));
    assert_eq!(evidence.driver.cuda_version.as_deref(), Some("12.4"));
    let bus: Vec<_> =
        evidence.bus.iter().map(|gpu| (gpu.address.as_str(), gpu.class.as_str(), gpu.there_after)).collect();
    assert_eq!(bus, [(A100.0, "030200", true), (OTHER.0, "030200", true)]);
    assert_eq!(evidence.gpus.len(), 2);
    for gpu in &evidence.gpus {
        assert_eq!(gpu.problems, Vec::<String>::new());
        let work = gpu.work.as_ref().expect("worked");
        assert_eq!((work.end, work.problem.as_deref()), (WorkEnd::Finished, None));
        assert!(work.passes >= 1 && work.verified_bytes == 14 << 20, "{work:?}");
        assert!(gpu.load.samples > 1, "{:?}", gpu.load);
        assert_eq!((gpu.load.temperature_max_c, gpu.load.link_generation), (Some(58), Some(4)), "under load");
        assert!(gpu.load.throttle.iter().any(|seen| seen.reason == ThrottleReason::SwPowerCap));
        let temperatures = (
            gpu.before.as_ref().and_then(|reading| reading.temperature_c),
            gpu.after.as_ref().and_then(|reading| reading.temperature_c),
        );
        assert_eq!(temperatures, (Some(31), Some(58)));
    }
    assert_eq!((evidence.burn, evidence.xids), (None, Vec::new()));
    assert!(
        said.iter().any(|step| step.contains("GPU 0000:c1:00.0: ") && step.contains("MiB verified")),
        "{said:?}"
    );
}

#[tokio::test]
async fn without_a_gpu_nothing_is_loaded() {
    let fake = FakeDriver::with("").await;
    let (_root, machine) = machine(&[], "");
    let mut options = options(&fake);
    // Neither of these can be loaded: it would be told.
    (options.nvml, options.cuda) = ("/nowhere/1".into(), "/nowhere/2".into());
    let (probe, _) = probed(&machine, options).await;
    assert_eq!(probe.evidence, GpuEvidence { asked_seconds: 0, ..GpuEvidence::default() });
    assert!(probe.artifacts.is_empty());
}

#[tokio::test]
async fn a_gpu_without_its_driver_is_seen_on_the_bus() {
    let fake = FakeDriver::with("init !9").await;
    let (_root, machine) = machine(&[("0000:01:00.0", "0x20f1", None)], "");
    let (probe, _) = probed(&machine, options(&fake)).await;
    let evidence = probe.evidence;
    assert_eq!((evidence.bus.len(), evidence.bus[0].driver.as_deref()), (1, None));
    assert_eq!((evidence.driver.nvml, evidence.driver.cuda, evidence.gpus.len()), (false, false, 0));
    let problem = evidence.driver.nvml_problem.expect("told");
    assert!(problem.contains("cannot be initialised"), "{problem}");
}

#[tokio::test]
async fn without_the_compute_library_the_rest_is_read() {
    let fake = FakeDriver::with("cuda !802").await;
    let (_root, machine) = machine(&[A100], "");
    let (probe, _) = probed(&machine, options(&fake)).await;
    let evidence = probe.evidence;
    let problem = evidence.driver.cuda_problem.expect("told");
    assert_eq!(problem, "cuInit failed: CUDA_ERROR_SYSTEM_NOT_READY (802)");
    assert!(evidence.gpus[0].after.is_some() && evidence.gpus[0].work.is_none());
}

#[tokio::test]
async fn a_gpu_that_hangs_is_given_up_on_and_the_other_goes_on() {
    let fake = FakeDriver::with("1.hang 1\n1.after 12").await;
    let (root, machine) = machine(&[A100, OTHER], "");
    tool(&root, "gpu_burn", "echo must not run");
    let options = GpuOptions { silence: Duration::from_millis(900), ..options(&fake) };
    let (probe, _) = probed(&machine, options).await;
    let ends: Vec<_> = probe.evidence.gpus.iter().map(|gpu| gpu.work.as_ref().map(|work| work.end)).collect();
    assert_eq!(ends, [Some(WorkEnd::Finished), Some(WorkEnd::Hung)]);
    let problem = probe.evidence.gpus[1].work.as_ref().and_then(|work| work.problem.clone()).expect("told");
    assert!(problem.starts_with("no answer for 0.9 s, at: pass 1"), "{problem}");
    assert_eq!(probe.evidence.burn, None);
    assert!(probe.evidence.problems.iter().any(|told| told.starts_with("gpu-burn was not started")));
}

#[tokio::test]
async fn what_the_kernel_logged_is_kept() {
    let log = "4,10,1,-;NVRM: Xid (PCI:0000:01:00): 48, pid='<unknown>', name=<unknown>, DBE (double bit error)\n\
               4,11,2,-;NVRM: GPU 0000:c1:00.0: RmInitAdapter failed! (0x26:0x56:1474)\n";
    let fake = FakeDriver::with("").await;
    let (_root, machine) = machine(&[A100], log);
    let (probe, _) = probed(&machine, options(&fake)).await;
    let xid = &probe.evidence.xids[0];
    assert_eq!((xid.address.as_str(), xid.number, xid.during), ("0000:01:00", 48, false));
    assert!(xid.is_about(A100.0) && xid.text.contains("double bit error"));
    assert_eq!(
        probe.evidence.problems,
        ["the kernel's log: NVRM: GPU 0000:c1:00.0: RmInitAdapter failed! (0x26:0x56:1474)"]
    );
    let (name, raw) = &probe.artifacts[0];
    assert_eq!((name.as_str(), raw.as_slice()), ("gpu-kernel-log.txt", log.as_bytes()));
}

#[test]
fn reports_are_found_in_every_spelling_and_new_ones_told_apart() {
    let log = "6,5,1,-;eth0: link up\n\
               4,8,1,-;NVRM: Xid (PCI:0000:C1:00): 79, pid=1, GPU has fallen off the bus.\n\
               4,9,1,-;NVRM: Xid (0000:01:00): 13, 0003 00000000\n\
               4,10,1,-;NVRM: Xid (PCI:0000:01:00): broken\n\
               NVRM: Xid (PCI:0000:01:00): 62, a line without a number\n\
               4,11,1,-;NVRM: Xid (PCI:0000:01:00): 63\n";
    let found: Vec<_> = kernel_log::xids(log, Some(8))
        .into_iter()
        .map(|xid| (xid.address, xid.number, xid.text, xid.during))
        .collect();
    let expected = [
        ("0000:c1:00", 79, "pid=1, GPU has fallen off the bus.", false),
        ("0000:01:00", 13, "0003 00000000", true),
        ("0000:01:00", 62, "a line without a number", true),
        ("0000:01:00", 63, "", true),
    ]
    .map(|(address, number, text, during)| (address.to_owned(), number, text.to_owned(), during));
    assert_eq!(found, expected);
    assert!(kernel_log::xids(log, None).iter().all(|xid| xid.during), "the stricter side");
}

#[test]
fn this_machines_own_log_is_read_without_waiting_for_more() {
    // Where it may not be read the probe says so; where it may, the read ends.
    match kernel_log::read(&Machine::this()) {
        Ok(log) => assert_eq!(log.last.is_some(), !log.text.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

const BURN_GOOD: &str = "GPU 0: NVIDIA A100 (UUID: GPU-1)\nGPU 1: NVIDIA A100 (UUID: GPU-2)\n\
    10.0%  proc'd: 100 (9000 Gflop/s) - 100 (9000 Gflop/s)   errors: 0 - 0   temps: 40 C - 41 C \r\
    100.0%  proc'd: 200 (9000 Gflop/s) - 200 (9000 Gflop/s)   errors: 0 - 0   temps: 60 C - 61 C \n\
    Killing processes.. done\n\nTested 2 GPUs:\n\tGPU 0: OK\n\tGPU 1: OK\n";

#[test]
fn gpu_burn_is_read_and_not_believed_by_its_status() {
    let gpu = |number, ok, errors| BurnGpu { number, ok, errors };
    let good = burn::parse(BURN_GOOD);
    assert_eq!(
        good,
        GpuBurn { gpus: vec![gpu(0, true, 0), gpu(1, true, 0)], finished: true, problems: vec![] }
    );
    let faulty = BURN_GOOD
        .replace("errors: 0 - 0   temps: 60", "errors: 0 - 417  (WARNING!)  temps: 60")
        .replace("GPU 1: OK", "GPU 1: FAULTY");
    let faulty = burn::parse(&faulty);
    assert_eq!((faulty.gpus, faulty.finished), (vec![gpu(0, true, 0), gpu(1, false, 417)], true));
    // It has printed OK after a failed start.
    let unstarted = "Couldn't init a GPU test: Error in load module (gpu_burn-drv.cpp:239): no file\n\
                     Tested 1 GPUs:\n\tGPU 0: OK\n";
    let unstarted = burn::parse(unstarted);
    assert!(!unstarted.finished && unstarted.problems.len() == 1, "{unstarted:?}");
    for cut in ["", "GPU 0: OK\n", "Tested 2 GPUs:\n\tGPU 0: OK\n", "Tested 0 GPUs:\n"] {
        assert!(!burn::parse(cut).finished, "{cut}");
    }
}

#[tokio::test]
async fn gpu_burn_is_run_where_it_is_present() {
    let fake = FakeDriver::with("").await;
    let (root, machine) = machine(&[A100], "");
    tool(
        &root,
        "gpu_burn",
        "test -x ./gpu_burn || echo Error: wrong folder; echo \"asked $1\"; printf 'Tested 1 GPUs:\\n\\tGPU 0: FAULTY\\n'; exit 0",
    );
    let (probe, _) = probed(&machine, options(&fake)).await;
    let burn = probe.evidence.burn.expect("run");
    assert_eq!(burn.gpus, [BurnGpu { number: 0, ok: false, errors: 0 }]);
    assert!(burn.finished, "{burn:?}");
    let output = String::from_utf8_lossy(&probe.artifacts[0].1).into_owned();
    assert!(output.starts_with("asked 10\n"), "{output}");
}

#[tokio::test]
async fn the_load_ends_when_nobody_waits_for_it() {
    let fake = FakeDriver::with("").await;
    let cuda = Cuda::load(&fake.cuda()).expect("loads");
    let beat = Arc::new(Beat::default());
    drop(StopWhenDropped(Arc::clone(&beat)));
    let done = work(&cuda, A100.0, &options(&fake).work, &beat);
    assert_eq!((done.end, done.passes), (WorkEnd::Failed, 0));
}
