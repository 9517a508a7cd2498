//! Probe and judge together, with a driver without GPUs that is loaded as a real one is: each fault built into it must
//! come out as the finding that names it.

use std::fs;
use std::time::Duration;

use assay_gpu_fake::FakeDriver;
use assay_model::host::spec::{GpuSpec, HostSpec};
use assay_probes::Machine;
use assay_probes::gpu::{GpuOptions, gpu};

use super::*;

/// The verdict on two GPUs, both expected, whose driver has these faults.
async fn judged(faults: &str) -> (Verdict, Vec<String>) {
    let root = tempfile::tempdir().expect("a folder");
    for address in ["0000:01:00.0", "0000:c1:00.0"] {
        let folder = root.path().join("sys/bus/pci/devices").join(address);
        fs::create_dir_all(&folder).expect("made");
        for (name, text) in [("vendor", "0x10de"), ("device", "0x20f1"), ("class", "0x030200")] {
            fs::write(folder.join(name), text).expect("written");
        }
        std::os::unix::fs::symlink("../drivers/nvidia", folder.join("driver")).expect("linked");
    }
    fs::create_dir(root.path().join("dev")).expect("made");
    fs::write(root.path().join("dev/kmsg"), "6,1,1,-;booted\n").expect("written");
    let machine = Machine::captured(root.path(), Some(root.path().join("tools")));
    let fake = FakeDriver::with(faults).await;
    let mut options = GpuOptions::lasting(Duration::from_millis(200));
    (options.nvml, options.cuda) = (fake.nvml(), fake.cuda());
    options.work.stretch = Duration::ZERO;
    options.work.launch = Duration::from_nanos(1);
    options.work.chunk = 4 << 20;
    options.sample_every = Duration::from_millis(5);
    let asked = options.work.duration;
    let probe = gpu(&machine, &|_| (), options).await;
    let mut spec =
        HostSpec { gpus: vec![GpuSpec { id: "10de:20f1".to_owned(), count: 2 }], ..HostSpec::default() };
    // The processor of this machine calculates for the GPU: slower than the board that it plays.
    (spec.limits.gpu.compute_percent_min, spec.limits.gpu.bandwidth_percent_min) = (Some(0), Some(0));
    let judgement = judge(&probe.evidence, &spec, asked);
    let codes = judgement.findings.iter().map(|finding| {
        let part = finding.part.as_ref().and_then(|part| part.location.clone()).unwrap_or_default();
        format!("{} {} {part}", finding.severity, finding.code)
    });
    (judgement.verdict, codes.collect())
}

#[tokio::test]
async fn a_driver_without_faults_passes() {
    assert_eq!(judged("").await, (Verdict::Pass, vec![]));
}

#[tokio::test]
async fn every_fault_is_named_with_the_gpu_that_has_it() {
    for (faults, finding) in [
        ("1.stuck 1000000", "critical GpuMemoryMismatch 0000:c1:00.0"),
        ("0.math 5\n0.after 20", "critical GpuComputeMismatch 0000:01:00.0"),
        ("1.fail 214\n1.after 12", "critical GpuComputeFailed 0000:c1:00.0"),
        ("0.vu 0;1", "critical GpuEccUncorrected 0000:01:00.0"),
        ("1.rp 0;1", "critical GpuPagesPending 0000:c1:00.0"),
        ("0.temp 31;90", "critical GpuTooHot 0000:01:00.0"),
        ("0.throttle 1;0x80", "critical GpuThrottled 0000:01:00.0"),
        ("1.width 8", "critical GpuLinkDegraded 0000:c1:00.0"),
        ("0.gen 1;2", "critical GpuLinkDegraded 0000:01:00.0"),
        ("0.replays 0;500", "critical GpuLinkReplays 0000:01:00.0"),
        ("0.handle !15", "critical GpuUnusable 0000:01:00.0"),
        ("0.open !802", "critical GpuUntested 0000:01:00.0"),
    ] {
        assert_eq!(judged(faults).await, (Verdict::Fail, vec![finding.to_owned()]), "{faults}");
    }
}

#[tokio::test]
async fn a_driver_that_is_not_there_fails_both_expected_gpus() {
    let (verdict, findings) = judged("init !9").await;
    let expected =
        ["0000:01:00.0", "0000:c1:00.0"].map(|address| format!("critical GpuDriverMissing {address}"));
    assert_eq!((verdict, findings), (Verdict::Fail, expected.to_vec()));
}
