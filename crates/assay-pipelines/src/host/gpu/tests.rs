//! The judge on every rule alone, red and green, and on the whole.

use assay_model::host::gpu::{
    BurnGpu, GpuDriver, GpuLoad, GpuReading, GpuWork, Throttle, ThrottleReason, WorkEnd, Xid,
};
use assay_model::host::spec::GpuSpec;
use serde_json::{Value, json};

use super::*;

const ADDRESS: &str = "0000:01:00.0";

fn judge(evidence: &GpuEvidence, spec: &HostSpec) -> Judgement {
    super::judge(evidence, spec, Duration::from_mins(2))
}

fn bus(address: &str, id: &str, driver: Option<&str>) -> BusGpu {
    BusGpu {
        address: address.to_owned(),
        vendor_device: id.to_owned(),
        class: "030200".to_owned(),
        driver: driver.map(str::to_owned),
        there_after: true,
    }
}

fn reading() -> GpuReading {
    GpuReading {
        ecc: Some(true),
        ecc_corrected: Some(0),
        ecc_uncorrected: Some(0),
        ecc_corrected_ever: Some(0),
        ecc_uncorrected_ever: Some(0),
        rows_remapped_corrected: Some(0),
        rows_remapped_uncorrected: Some(0),
        rows_pending: Some(false),
        row_remap_failed: Some(false),
        temperature_c: Some(40),
        slowdown_c: Some(89),
        shutdown_c: Some(94),
        link_generation: Some(1),
        link_width: Some(16),
        link_generation_max: Some(4),
        link_width_max: Some(16),
        link_replays: Some(3),
        ..GpuReading::default()
    }
}

/// Somewhat below what is possible: 19,491 GFLOP/s and 1555 GB/s.
fn work() -> GpuWork {
    GpuWork {
        control: true,
        memory_bytes: 39 << 30,
        verified_bytes: 39 << 30,
        passes: 12,
        compute_launches: 400,
        host_samples: 9000,
        gflops: Some(18_000.0),
        memory_gb_s: Some(1300.0),
        bus_gb_s: Some(12.0),
        seconds: 120.0,
        end: WorkEnd::Finished,
        ..GpuWork::default()
    }
}

fn gpu() -> GpuDevice {
    GpuDevice {
        address: ADDRESS.to_owned(),
        name: Some("A100".to_owned()),
        serial: Some("1560".to_owned()),
        cores: Some(6912),
        memory_bus_bits: Some(5120),
        sm_clock_max_mhz: Some(1410),
        memory_clock_max_mhz: Some(1215),
        memory_bytes: Some(40 << 30),
        before: Some(reading()),
        after: Some(reading()),
        load: GpuLoad {
            samples: 100,
            temperature_max_c: Some(70),
            link_generation: Some(4),
            link_width: Some(16),
            throttle: vec![Throttle { reason: ThrottleReason::SwPowerCap, samples: 90 }],
            ..GpuLoad::default()
        },
        work: Some(work()),
        ..GpuDevice::default()
    }
}

fn healthy() -> GpuEvidence {
    GpuEvidence {
        bus: vec![bus(ADDRESS, "10de:20f1", Some("nvidia"))],
        driver: GpuDriver { nvml: true, cuda: true, ..GpuDriver::default() },
        gpus: vec![gpu()],
        kernel_log_read: true,
        asked_seconds: 120,
        ..GpuEvidence::default()
    }
}

fn expecting(count: u32) -> HostSpec {
    HostSpec { gpus: vec![GpuSpec { id: "10DE:20f1".to_owned(), count }], ..HostSpec::default() }
}

/// Verdict and the codes with their severities, in order.
fn seen(judgement: &Judgement) -> (Verdict, Vec<String>) {
    let codes = judgement.findings.iter().map(|finding| format!("{} {}", finding.severity, finding.code));
    (judgement.verdict, codes.collect())
}

/// What the healthy GPU is judged as with one thing changed, without and with it expected.
fn with(change: impl Fn(&mut GpuDevice)) -> [(Verdict, Vec<String>); 2] {
    let mut evidence = healthy();
    change(&mut evidence.gpus[0]);
    [HostSpec::default(), expecting(1)].map(|spec| seen(&judge(&evidence, &spec)))
}

fn both(verdict: Verdict, codes: &[&str]) -> [(Verdict, Vec<String>); 2] {
    let one = (verdict, codes.iter().map(|&code| code.to_owned()).collect::<Vec<_>>());
    [one.clone(), one]
}

#[test]
fn a_healthy_gpu_passes_with_its_coverage() {
    for spec in [HostSpec::default(), expecting(1)] {
        let judgement = judge(&healthy(), &spec);
        assert_eq!(seen(&judgement), (Verdict::Pass, vec![]), "{:?}", judgement.checks);
        assert_eq!(judgement.unverified, Vec::<String>::new());
        assert_eq!(judgement.message, "1 of 1 GPUs verified over 39.0 GiB of their memory, none is failing");
        let covered: Vec<_> = judgement.coverage.iter().map(|part| (part.covered, part.total)).collect();
        assert_eq!(covered, [(1, 1), (39 << 30, 40 << 30)]);
        assert!(judgement.checks.iter().all(|check| check.verdict == Verdict::Pass));
    }
}

#[test]
fn without_a_gpu_there_is_nothing_to_do_unless_one_is_expected() {
    let nothing = GpuEvidence::default();
    let judgement = judge(&nothing, &HostSpec::default());
    assert_eq!(seen(&judgement), (Verdict::Skip, vec![]));
    assert_eq!(judgement.message, "no GPU is here and none is expected");
    let judgement = judge(&nothing, &expecting(1));
    assert_eq!(seen(&judgement), (Verdict::Fail, vec!["critical GpuAbsent".to_owned()]));
    let judgement = judge(&healthy(), &expecting(2));
    assert_eq!(seen(&judgement), (Verdict::Fail, vec!["critical GpuAbsent".to_owned()]));
    assert_eq!(judgement.message, "at least 2 GPUs 10DE:20f1 are expected and 1 are on the PCI bus");
    let unread = GpuEvidence { problems: vec!["the PCI bus cannot be read".to_owned()], ..nothing };
    assert_eq!(judge(&unread, &HostSpec::default()).verdict, Verdict::Unverified, "blind is not empty");
}

#[test]
fn a_gpu_without_its_driver_is_unverified_and_fails_where_it_is_expected() {
    for driver in [None, Some("nouveau"), Some("nvidia")] {
        let evidence = GpuEvidence {
            bus: vec![bus(ADDRESS, "10de:20f1", driver)],
            kernel_log_read: true,
            ..GpuEvidence::default()
        };
        let judgement = judge(&evidence, &HostSpec::default());
        assert_eq!(
            seen(&judgement),
            (Verdict::Unverified, vec!["warning GpuDriverMissing".to_owned()]),
            "{driver:?}"
        );
        assert_eq!(judgement.unverified.len(), 1, "{driver:?}");
        let judgement = judge(&evidence, &expecting(1));
        assert_eq!(
            seen(&judgement),
            (Verdict::Fail, vec!["critical GpuDriverMissing".to_owned()]),
            "{driver:?}"
        );
        assert_eq!(
            judgement.findings[0].part.as_ref().and_then(|part| part.location.as_deref()),
            Some(ADDRESS)
        );
    }
}

#[test]
fn a_gpu_that_its_driver_does_not_list_or_that_vanished_fails_even_unexpected() {
    let mut evidence = healthy();
    evidence.gpus.clear();
    assert_eq!(
        seen(&judge(&evidence, &HostSpec::default())),
        (Verdict::Fail, vec!["critical GpuUnusable".to_owned()])
    );
    let mut evidence = healthy();
    evidence.bus[0].there_after = false;
    assert_eq!(
        seen(&judge(&evidence, &HostSpec::default())),
        (Verdict::Fail, vec!["critical GpuLost".to_owned()])
    );
}

#[test]
fn a_gpu_of_another_maker_is_named_and_fails_only_where_it_is_expected() {
    let evidence =
        GpuEvidence { bus: vec![bus("0000:00:02.0", "8086:a780", Some("i915"))], ..GpuEvidence::default() };
    let judgement = judge(&evidence, &HostSpec::default());
    assert_eq!(seen(&judgement), (Verdict::Skip, vec![]));
    assert_eq!(
        judgement.unverified,
        ["GPU 0000:00:02.0 (8086:a780): there is no test for GPUs of this maker"]
    );
    let spec =
        HostSpec { gpus: vec![GpuSpec { id: "8086:a780".to_owned(), count: 1 }], ..HostSpec::default() };
    assert_eq!(seen(&judge(&evidence, &spec)), (Verdict::Fail, vec!["critical GpuUntested".to_owned()]));
    // Beside a GPU that is tested it takes nothing from that one's pass.
    let mut both = healthy();
    both.bus.extend(evidence.bus);
    assert_eq!(judge(&both, &expecting(1)).verdict, Verdict::Pass);
}

#[test]
fn work_that_was_not_verified_is_never_a_pass() {
    let changes: [fn(&mut GpuDevice); 9] = [
        |gpu| gpu.work = None,
        |gpu| gpu.work = Some(GpuWork { problem: Some("no room".to_owned()), ..GpuWork::default() }),
        |gpu| gpu.work = Some(GpuWork { control: false, ..work() }),
        |gpu| gpu.work = Some(GpuWork { passes: 0, ..work() }),
        |gpu| gpu.work = Some(GpuWork { compute_launches: 0, ..work() }),
        |gpu| gpu.work = Some(GpuWork { host_samples: 0, ..work() }),
        |gpu| gpu.work = Some(GpuWork { verified_bytes: 31 << 30, ..work() }),
        |gpu| gpu.memory_bytes = None,
        |gpu| gpu.memory_bytes = Some(0),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let [unexpected, expected] = with(change);
        assert_eq!(
            unexpected,
            (Verdict::Unverified, vec!["warning GpuUntested".to_owned()]),
            "change {number}"
        );
        assert_eq!(expected, (Verdict::Fail, vec!["critical GpuUntested".to_owned()]), "change {number}");
    }
    // One of two: the whole is not verified.
    let mut evidence = healthy();
    evidence.bus.push(bus("0000:c1:00.0", "10de:20f1", Some("nvidia")));
    evidence.gpus.push(GpuDevice { address: "0000:c1:00.0".to_owned(), work: None, ..gpu() });
    let judgement = judge(&evidence, &HostSpec::default());
    assert_eq!(judgement.verdict, Verdict::Unverified);
    assert_eq!(judgement.message, "1 of 2 GPUs verified; the rest could not be");
}

#[test]
fn wrong_results_and_broken_work_fail() {
    for (code, change) in [
        ("GpuMemoryMismatch", (|work| work.memory_errors = 1) as fn(&mut GpuWork)),
        ("GpuComputeMismatch", |work| work.compute_errors = 1),
        ("GpuComputeFailed", |work| work.end = WorkEnd::Failed),
        ("GpuHung", |work| work.end = WorkEnd::Hung),
    ] {
        let change = |gpu: &mut GpuDevice| gpu.work.iter_mut().for_each(change);
        assert_eq!(with(change), both(Verdict::Fail, &[&format!("critical {code}")]), "{code}");
    }
    let mut evidence = healthy();
    evidence.gpus[0].work = Some(GpuWork {
        end: WorkEnd::Failed,
        compute_errors: 7,
        mismatches: vec!["integers: \u{1b}[2J thread 5".to_owned()],
        problem: Some("cuLaunchKernel failed: CUDA_ERROR_LAUNCH_FAILED (719)".to_owned()),
        ..work()
    });
    let judgement = judge(&evidence, &HostSpec::default());
    let messages: Vec<_> = judgement.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "GPU 0000:01:00.0 (serial 1560) calculated wrongly 7 times: integers: \u{fffd}[2J thread 5",
            "GPU 0000:01:00.0 (serial 1560) failed at work: cuLaunchKernel failed: CUDA_ERROR_LAUNCH_FAILED (719)",
        ]
    );
    let part = judgement.findings[0].part.as_ref().expect("blamed");
    assert_eq!(
        (part.kind.as_str(), part.location.as_deref(), part.serial.as_deref()),
        ("gpu", Some(ADDRESS), Some("1560"))
    );
}

#[test]
fn counters_fail_by_what_they_say_and_by_what_they_grew() {
    type Change = fn(&mut GpuReading);
    let after: [(Change, Verdict, &[&str]); 12] = [
        (|now| now.ecc_uncorrected = Some(1), Verdict::Fail, &["critical GpuEccUncorrected"]),
        (|now| now.ecc_corrected = Some(1), Verdict::Pass, &["warning GpuEccCorrected"]),
        (|now| now.ecc_uncorrected_ever = Some(2), Verdict::Pass, &["warning GpuEccHistory"]),
        (|now| now.ecc = Some(false), Verdict::Pass, &["warning GpuEccOff"]),
        (|now| now.rows_pending = Some(true), Verdict::Fail, &["critical GpuPagesPending"]),
        (|now| now.pages_pending = Some(true), Verdict::Fail, &["critical GpuPagesPending"]),
        (|now| now.row_remap_failed = Some(true), Verdict::Fail, &["critical GpuRemapFailed"]),
        (|now| now.rows_remapped_uncorrected = Some(1), Verdict::Fail, &["critical GpuPagesRetired"]),
        (|now| now.link_replays = Some(83), Verdict::Pass, &[]),
        (|now| now.link_replays = Some(84), Verdict::Fail, &["critical GpuLinkReplays"]),
        // A counter that went back was reset: what it shows is new.
        (|now| now.link_replays = Some(2), Verdict::Pass, &[]),
        (|now| now.temperature_c = Some(89), Verdict::Fail, &["critical GpuTooHot"]),
    ];
    for (number, (change, verdict, codes)) in after.into_iter().enumerate() {
        let change = |gpu: &mut GpuDevice| gpu.after.iter_mut().for_each(change);
        assert_eq!(with(change), both(verdict, codes), "change {number}");
    }
    // The same before and after: history, not growth.
    let always =
        |change: Change| with(move |gpu| gpu.before.iter_mut().chain(&mut gpu.after).for_each(change));
    assert_eq!(
        always(|reading| reading.rows_remapped_uncorrected = Some(59)),
        both(Verdict::Pass, &["warning GpuPagesRetired"])
    );
    assert_eq!(
        always(|reading| reading.pages_retired = Some(60)),
        both(Verdict::Fail, &["critical GpuPagesRetired"])
    );
    assert_eq!(
        always(|reading| reading.ecc_uncorrected = Some(1)),
        both(Verdict::Fail, &["critical GpuEccUncorrected"])
    );
    assert_eq!(always(|reading| reading.ecc_corrected = Some(9)), both(Verdict::Pass, &[]));
}

#[test]
fn what_was_seen_under_load_counts() {
    let throttled = |reason, samples| with(move |gpu| gpu.load.throttle = vec![Throttle { reason, samples }]);
    for reason in [ThrottleReason::HwSlowdown, ThrottleReason::HwThermal, ThrottleReason::HwPowerBrake] {
        assert_eq!(throttled(reason, 1), both(Verdict::Pass, &["warning GpuThrottled"]), "{reason:?} once");
        assert_eq!(throttled(reason, 2), both(Verdict::Fail, &["critical GpuThrottled"]), "{reason:?} again");
    }
    let together = |general, particular| {
        with(move |gpu| {
            let seen = |reason, samples| Throttle { reason, samples };
            gpu.load.throttle =
                vec![seen(ThrottleReason::HwSlowdown, general), seen(ThrottleReason::HwThermal, particular)];
        })
    };
    assert_eq!(together(9, 9), both(Verdict::Fail, &["critical GpuThrottled"]), "one cause, told once");
    let two = ["critical GpuThrottled", "warning GpuThrottled"];
    assert_eq!(together(9, 1), both(Verdict::Fail, &two), "what is not explained is not hidden");
    assert_eq!(throttled(ThrottleReason::SwThermal, 50), both(Verdict::Pass, &["warning GpuThrottled"]));
    assert_eq!(throttled(ThrottleReason::SwPowerCap, 100), both(Verdict::Pass, &[]));
    assert_eq!(with(|gpu| gpu.load.temperature_max_c = Some(88)), both(Verdict::Pass, &[]));
    assert_eq!(
        with(|gpu| gpu.load.temperature_max_c = Some(89)),
        both(Verdict::Fail, &["critical GpuTooHot"])
    );
    assert_eq!(
        with(|gpu| gpu.load.link_generation = Some(3)),
        both(Verdict::Fail, &["critical GpuLinkDegraded"])
    );
    let narrow = |gpu: &mut GpuDevice| {
        gpu.load.link_width = Some(8);
        gpu.after.iter_mut().for_each(|now| now.link_width = Some(8));
    };
    assert_eq!(with(narrow), both(Verdict::Fail, &["critical GpuLinkDegraded"]));
}

#[test]
fn what_was_not_told_is_named_and_is_no_pass_of_its_own() {
    let mut evidence = healthy();
    evidence.kernel_log_read = false;
    let gpu = &mut evidence.gpus[0];
    gpu.load = GpuLoad::default();
    gpu.cores = None;
    for reading in gpu.before.iter_mut().chain(&mut gpu.after) {
        *reading = GpuReading { ecc: Some(true), ..GpuReading::default() };
    }
    let judgement = judge(&evidence, &HostSpec::default());
    // The work was verified, so the stage passes; everything that could not be judged stands beside it.
    assert_eq!(seen(&judgement), (Verdict::Pass, vec![]));
    let blind: Vec<_> = judgement
        .checks
        .iter()
        .filter(|check| check.verdict == Verdict::Unverified)
        .map(|check| check.name.rsplit(": ").next().unwrap_or_default())
        .collect();
    assert_eq!(
        blind,
        [
            "arithmetic",
            "uncorrected memory errors",
            "corrected memory errors",
            "memory taken out of use",
            "temperature under load",
            "throttling",
            "link width",
            "link generation",
            "link replays",
        ]
    );
    assert_eq!(
        judgement.unverified.len(),
        blind.len() + 1,
        "and the kernel's log: {:?}",
        judgement.unverified
    );
}

#[test]
fn a_floor_that_the_spec_sets_fails_and_the_usual_one_warns() {
    let slow = |gpu: &mut GpuDevice| {
        gpu.work.iter_mut().for_each(|work| (work.gflops, work.memory_gb_s) = (Some(9_000.0), Some(700.0)));
    };
    assert_eq!(with(slow), both(Verdict::Pass, &["warning GpuSlow", "warning GpuSlow"]));
    let mut evidence = healthy();
    slow(&mut evidence.gpus[0]);
    let mut spec = expecting(1);
    spec.limits.gpu.compute_percent_min = Some(40);
    spec.limits.gpu.bandwidth_percent_min = Some(60);
    let judgement = judge(&evidence, &spec);
    assert_eq!(seen(&judgement), (Verdict::Fail, vec!["critical GpuSlow".to_owned()]));
    assert_eq!(
        judgement.message,
        "GPU 0000:01:00.0 (serial 1560): memory throughput of 700 GB/s, 45 % of 1555; at least 60 % are expected"
    );
    evidence.gpus[0].work.iter_mut().for_each(|work| work.gflops = Some(f64::NAN));
    assert!(
        judge(&evidence, &spec).unverified.iter().any(|line| line.contains("arithmetic could not be judged"))
    );
}

#[test]
fn limits_of_the_spec_replace_the_boards_own() {
    let judged = |change: fn(&mut HostSpec)| {
        let mut spec = expecting(1);
        change(&mut spec);
        seen(&judge(&healthy(), &spec))
    };
    let failed = |code: &str| (Verdict::Fail, vec![format!("critical {code}")]);
    assert_eq!(judged(|spec| spec.limits.gpu.temperature_max_c = Some(69)), failed("GpuTooHot"));
    assert_eq!(judged(|spec| spec.limits.gpu.temperature_max_c = Some(70)), (Verdict::Pass, vec![]));
    assert_eq!(judged(|spec| spec.limits.gpu.memory_percent_min = 98), failed("GpuUntested"));
    assert_eq!(judged(|spec| spec.limits.gpu.link_generation_min = Some(5)), failed("GpuLinkDegraded"));
    assert_eq!(judged(|spec| spec.limits.gpu.link_width_min = Some(8)), (Verdict::Pass, vec![]));
}

#[test]
fn the_drivers_error_reports_are_judged_by_their_number() {
    let judged = |number, address: &str, during| {
        let mut evidence = healthy();
        evidence.xids = vec![Xid { address: address.to_owned(), number, text: String::new(), during }; 3];
        judge(&evidence, &HostSpec::default())
    };
    for (number, verdict, severity) in [
        (79, Verdict::Fail, "critical"),
        (48, Verdict::Fail, "critical"),
        (31, Verdict::Pass, "warning"),
        (45, Verdict::Pass, "info"),
        (9999, Verdict::Pass, "warning"),
    ] {
        for during in [true, false] {
            let judgement = judged(number, "0000:01:00", during);
            assert_eq!(seen(&judgement), (verdict, vec![format!("{severity} GpuXid")]), "Xid {number}");
        }
    }
    let judgement = judged(79, "0000:01:00", true);
    let finding = &judgement.findings[0];
    assert_eq!(
        finding.message,
        "GPU 0000:01:00.0: Xid 79, it has fallen off the bus: 3 since boot, 3 of them during this stage"
    );
    assert_eq!(finding.part.as_ref().and_then(|part| part.serial.as_deref()), Some("1560"));
    let elsewhere = judged(79, "0000:c1:00", true);
    assert_eq!(
        elsewhere.findings[0].part.as_ref().and_then(|part| part.location.as_deref()),
        Some("0000:c1:00")
    );
}

#[test]
fn gpu_burn_is_heard_where_it_ran() {
    let judged = |burn: GpuBurn| {
        let mut evidence = healthy();
        evidence.burn = Some(burn);
        seen(&judge(&evidence, &HostSpec::default()))
    };
    let gpu = |ok, errors| vec![BurnGpu { number: 0, ok, errors }];
    let good = GpuBurn { gpus: gpu(true, 0), finished: true, problems: vec![] };
    assert_eq!(judged(good.clone()), (Verdict::Pass, vec![]));
    for gpus in [gpu(false, 0), gpu(true, 1)] {
        assert_eq!(
            judged(GpuBurn { gpus, ..good.clone() }),
            (Verdict::Fail, vec!["critical GpuBurnFaulty".to_owned()])
        );
    }
    let cut = GpuBurn { gpus: vec![], finished: false, problems: vec![] };
    assert_eq!(judged(cut), (Verdict::Pass, vec!["warning GpuBurnUnfinished".to_owned()]));
}

#[test]
fn work_that_ended_early_proves_nothing() {
    for (seconds, verdicts) in [
        (120.0, [Verdict::Pass, Verdict::Pass]),
        (108.0, [Verdict::Pass, Verdict::Pass]),
        (107.0, [Verdict::Unverified, Verdict::Fail]),
        (0.0, [Verdict::Unverified, Verdict::Fail]),
        (f64::NAN, [Verdict::Unverified, Verdict::Fail]),
    ] {
        let mut evidence = healthy();
        evidence.gpus[0].work.as_mut().expect("it worked").seconds = seconds;
        let judged = [HostSpec::default(), expecting(1)].map(|spec| judge(&evidence, &spec));
        assert_eq!(judged.each_ref().map(|judged| judged.verdict), verdicts, "{seconds} s");
        let told = judged[1].findings.iter().any(|finding| finding.code == "GpuUntested");
        assert_eq!(told, verdicts[1] == Verdict::Fail, "{seconds} s");
    }
}

#[test]
fn the_stage_reads_its_evidence_and_says_when_it_cannot() {
    let spec = HostSpec::default();
    let mut evidence = serde_json::to_value(healthy()).expect("plain data");
    evidence["counters"] = json!({"before": {}, "after": {}});
    assert_eq!(Gpu.judge(&JudgeInput::new(&spec, &evidence)).verdict, Verdict::Pass);
    for broken in [Value::Null, json!([]), json!({"gpus": "none"})] {
        assert_eq!(Gpu.judge(&JudgeInput::new(&spec, &broken)).verdict, Verdict::Error, "{broken}");
    }
    let findings = judge(&GpuEvidence::default(), &expecting(1)).findings;
    assert!(findings.iter().all(|finding| finding.stage.as_ref().is_some_and(|stage| stage == NAME)));
}

#[test]
fn time_limits_leave_room_for_what_is_done() {
    let limits = Profile::ALL.map(|profile| Gpu.limit_s(&HostSpec::default(), profile));
    assert_eq!(limits, [1520, 1620, 3300]);
    assert_eq!((Gpu.plan().name.as_str(), Gpu.plan().required), ("GPU", false));
}
