//! What is read and what work finds, against a driver without GPUs that is loaded as a real one is.

use std::time::Duration;

use assay_gpu::{Beat, Cuda, Management, ManagementError, WorkOptions, word, work};
use assay_gpu_fake::FakeDriver;
use assay_model::host::gpu::{GpuLoad, GpuWork, Throttle, ThrottleReason, WorkEnd};

const FIRST: &str = "0000:01:00.0";
const SECOND: &str = "0000:c1:00.0";

/// One pass, small pieces, the shortest launches.
fn options() -> WorkOptions {
    WorkOptions {
        duration: Duration::ZERO,
        stretch: Duration::ZERO,
        launch: Duration::from_nanos(1),
        chunk: 4 << 20,
    }
}

async fn worked(address: &str, changes: &str) -> GpuWork {
    let fake = FakeDriver::with(changes).await;
    let cuda = Cuda::load(&fake.cuda()).expect("loads");
    work(&cuda, address, &options(), &Beat::default())
}

#[tokio::test]
async fn a_healthy_board_tells_everything() {
    let fake = FakeDriver::with("").await;
    let management = Management::load(&fake.nvml()).expect("loads");
    assert_eq!(management.driver_version().as_deref(), Some("550.54.15"));
    let (devices, problems) = management.devices().expect("listed");
    assert_eq!(problems, Vec::<String>::new());
    let told: Vec<_> = devices.iter().map(|gpu| (gpu.address.as_str(), gpu.serial.as_deref())).collect();
    assert_eq!(told, [(FIRST, Some("156012100")), (SECOND, Some("156012101"))]);
    let first = &devices[0];
    assert_eq!(first.problems, Vec::<String>::new());
    assert_eq!((first.cores, first.memory_bus_bits), (Some(6912), Some(5120)));
    assert_eq!((first.sm_clock_max_mhz, first.memory_clock_max_mhz), (Some(1410), Some(1215)));
    assert_eq!(first.memory_bytes, Some(16 << 20));
    let reading = first.before.as_ref().expect("read");
    assert_eq!(
        (reading.ecc, reading.ecc_uncorrected, reading.ecc_corrected_ever),
        (Some(true), Some(0), Some(0))
    );
    assert_eq!((reading.rows_pending, reading.row_remap_failed), (Some(false), Some(false)));
    assert_eq!(
        (reading.pages_retired, reading.pages_pending),
        (None, None),
        "this board remaps rows instead"
    );
    assert_eq!(
        (reading.temperature_c, reading.slowdown_c, reading.shutdown_c),
        (Some(31), Some(89), Some(94))
    );
    assert_eq!((reading.power_w, reading.power_limit_w), (Some(34.0), Some(250.0)));
    assert_eq!((reading.link_generation, reading.link_generation_max), (Some(1), Some(4)), "idle");
    assert_eq!((reading.link_width, reading.link_width_max), (Some(16), Some(16)));
    assert_eq!((reading.link_replays, reading.persistence), (Some(0), Some(true)));
}

#[tokio::test]
async fn errors_are_read_where_the_driver_keeps_them() {
    let fake = FakeDriver::with(
        "0.vc 7\n0.vu 2\n0.ac 70\n0.au 3\n0.rc 4\n0.ru 5\n0.rp 1\n0.rf 1\n1.retired 3\n1.pending 1\n-1.rc\n-1.ru\n-1.rp\n-1.rf",
    )
    .await;
    let management = Management::load(&fake.nvml()).expect("loads");
    let (first, problems) = management.reading(FIRST).expect("read");
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!((first.ecc_corrected, first.ecc_uncorrected), (Some(7), Some(2)));
    assert_eq!((first.ecc_corrected_ever, first.ecc_uncorrected_ever), (Some(70), Some(3)));
    assert_eq!((first.rows_remapped_corrected, first.rows_remapped_uncorrected), (Some(4), Some(5)));
    assert_eq!((first.rows_pending, first.row_remap_failed), (Some(true), Some(true)));
    let (second, _) = management.reading(SECOND).expect("read");
    assert_eq!((second.pages_retired, second.pages_pending), (Some(3), Some(true)));
    assert_eq!(second.rows_pending, None);
}

#[tokio::test]
async fn a_board_that_knows_little_is_not_a_board_without_errors() {
    let fake =
        FakeDriver::with("-0.ecc\n-0.serial\n-0.rc\n-0.ru\n-0.rp\n-0.rf\n-0.slowdown\n0.power !999").await;
    let management = Management::load(&fake.nvml()).expect("loads");
    let (devices, _) = management.devices().expect("listed");
    let reading = devices[0].before.as_ref().expect("read");
    assert_eq!(devices[0].serial, None);
    assert_eq!((reading.ecc, reading.ecc_uncorrected, reading.rows_pending), (None, None, None));
    assert_eq!((reading.slowdown_c, reading.power_w), (None, None));
    assert_eq!(devices[0].problems.len(), 1, "an unknown error is told: {:?}", devices[0].problems);
    assert!(devices[0].problems[0].starts_with("its power could not be read"), "{:?}", devices[0].problems);
}

#[tokio::test]
async fn a_missing_driver_says_which_half_is_missing() {
    let nowhere = std::ffi::OsString::from("/nowhere/libnvidia-ml.so.1");
    let missing = Management::load(&nowhere).err().expect("refused");
    assert!(matches!(missing, ManagementError::Library(_)), "{missing}");
    let fake = FakeDriver::with("init !9\ncuda !100").await;
    let unloaded = Management::load(&fake.nvml()).err().expect("refused");
    assert!(matches!(unloaded, ManagementError::NoDriver(_)), "{unloaded}");
    let refused = Cuda::load(&fake.cuda()).err().expect("refused").to_string();
    assert_eq!(refused, "cuInit failed: CUDA_ERROR_NO_DEVICE (100)");
    // A library that is not this library is not called.
    let other = Cuda::load(&fake.nvml()).err().expect("refused").to_string();
    assert!(other.contains("cannot be loaded"), "{other}");
}

#[tokio::test]
async fn a_lost_gpu_is_named_and_the_others_are_read() {
    let fake = FakeDriver::with("0.handle !15").await;
    let management = Management::load(&fake.nvml()).expect("loads");
    let (devices, problems) = management.devices().expect("listed");
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].address, SECOND);
    assert!(problems[0].contains("fell off the bus"), "{problems:?}");
    assert!(management.reading(FIRST).is_err());
    let mut load = GpuLoad::default();
    assert!(management.sample(FIRST, &mut load).is_err());
    assert_eq!(load.samples, 0);
}

#[tokio::test]
async fn samples_keep_the_extremes_and_count_the_reasons() {
    let fake = FakeDriver::with("0.throttle 0x48").await;
    let management = Management::load(&fake.nvml()).expect("loads");
    let mut load = GpuLoad::default();
    management.sample(FIRST, &mut load).expect("sampled");
    fake.change("0.throttle 0x40\n0.temp 91\n0.sm 600\n0.gen 3\n0.width 8").expect("written");
    management.sample(FIRST, &mut load).expect("sampled");
    assert_eq!((load.samples, load.temperature_max_c), (2, Some(91)));
    assert_eq!((load.sm_clock_min_mhz, load.sm_clock_max_mhz), (Some(210), Some(600)));
    assert_eq!((load.link_generation, load.link_width), (Some(3), Some(16)));
    let reason = |reason, samples| Throttle { reason, samples };
    assert_eq!(load.throttle, [reason(ThrottleReason::HwSlowdown, 1), reason(ThrottleReason::HwThermal, 2)]);
}

#[tokio::test]
async fn work_on_a_healthy_gpu_verifies_nearly_all_of_its_memory() {
    let done = worked(SECOND, "").await;
    assert_eq!((done.end, done.problem.as_deref()), (WorkEnd::Finished, None));
    assert!(done.control);
    assert_eq!(done.passes, 1);
    assert_eq!(done.memory_bytes, done.verified_bytes);
    assert_eq!(done.verified_bytes, 14 << 20, "of 16,000,000 bytes, in MiB, with some left to the driver");
    assert_eq!((done.memory_errors, done.compute_errors), (0, 0));
    assert!(done.compute_launches >= 8, "float and integer, twice each, in both halves of the pass");
    assert!(done.host_samples > 1000, "{}", done.host_samples);
    assert!(done.gflops.is_some_and(|rate| rate > 0.0), "{:?}", done.gflops);
    assert!(done.memory_gb_s.is_some_and(|rate| rate > 0.0) && done.bus_gb_s.is_some_and(|rate| rate > 0.0));
    assert_eq!(done.mismatches, Vec::<String>::new());
}

#[tokio::test]
async fn a_stuck_bit_is_found_once_in_pattern_or_inverse() {
    // Word 1,000,000 lies in the second piece, far behind what the first control looks at.
    let done = worked(FIRST, "0.stuck 1000000").await;
    assert_eq!(done.end, WorkEnd::Finished);
    assert!(done.control);
    assert_eq!(done.memory_errors, 1, "a bit stuck at 0 shows where 1 was written: {:?}", done.mismatches);
    assert!(
        done.mismatches[0].contains("at byte 0x7a1200, bits 0x0000000000000020"),
        "{:?}",
        done.mismatches
    );
    assert!(done.mismatches[0].ends_with("read again, it is still wrong"), "{:?}", done.mismatches);
}

#[tokio::test]
async fn wrong_results_are_found() {
    for (fault, what) in [
        ("0.math 5\n0.after 20", "threads gave another result the second time, the first is thread 5"),
        ("0.both 1\n0.after 20", "the processor"),
    ] {
        let done = worked(FIRST, fault).await;
        assert_eq!(done.end, WorkEnd::Finished, "{fault}");
        assert!(done.compute_errors > 0, "{fault}");
        assert_eq!(done.memory_errors, 0, "{fault}");
        assert!(done.mismatches[0].contains(what), "{fault}: {:?}", done.mismatches);
    }
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_is_found() {
    for (fault, what) in
        [("0.copy 1", "memory: 1 words wrong"), ("0.across 1", "over the bus and back: 1 of")]
    {
        let done = worked(FIRST, fault).await;
        assert_eq!(done.end, WorkEnd::Finished, "{fault}");
        assert_eq!(done.memory_errors, 1, "{fault}: {:?}", done.mismatches);
        assert!(done.mismatches[0].contains(what), "{fault}: {:?}", done.mismatches);
    }
}

#[tokio::test]
async fn a_checker_that_does_not_see_proves_nothing() {
    // A word in which the bit that cannot be set should be set.
    let stuck = (0..64).find(|&index| word(index, 0xC0DE, 0) & 32 != 0).expect("half of them");
    let stuck = format!("0.stuck {stuck}");
    for (fault, problem) in [
        ("0.lie 1", "an error planted on purpose in memory was not found, or not it alone"),
        ("0.short 1", "an error planted on purpose in memory was not found, or not it alone"),
        (stuck.as_str(), "an error planted on purpose in memory was not found, or not it alone"),
        ("0.math 5", "an error planted on purpose in results was not found, or not it alone"),
    ] {
        let done = worked(FIRST, fault).await;
        assert_eq!((done.end, done.control, done.verified_bytes), (WorkEnd::Failed, false, 0), "{fault}");
        assert!(done.problem.as_deref().is_some_and(|told| told.starts_with(problem)), "{fault}: {done:?}");
    }
    let late = worked(FIRST, "0.short 1\n0.after 20").await;
    assert_eq!((late.end, late.verified_bytes), (WorkEnd::Failed, 0));
    assert!(
        late.problem.as_deref().is_some_and(|told| told.contains("words of memory were looked at")),
        "{late:?}"
    );
}

#[tokio::test]
async fn a_gpu_that_fails_under_load_is_not_one_that_could_not_be_started() {
    let broken = worked(FIRST, "0.fail 214\n0.after 12").await;
    assert_eq!((broken.end, broken.control, broken.verified_bytes), (WorkEnd::Failed, true, 0));
    let told = broken.problem.as_deref();
    assert_eq!(told, Some("cuLaunchKernel failed: CUDA_ERROR_ECC_UNCORRECTABLE (214)"));
    for fault in ["0.open !802", "0.translate !218", "0.free 100000", "0.threads 0"] {
        let done = worked(FIRST, fault).await;
        assert_eq!((done.end, done.verified_bytes), (WorkEnd::NotStarted, 0), "{fault}");
        assert!(done.problem.is_some(), "{fault}");
    }
    let absent = worked("0000:99:00.0", "").await;
    assert_eq!(absent.end, WorkEnd::NotStarted);
    assert!(absent.problem.is_some_and(|told| told.contains("no compute device at 0000:99:00.0")));
}

#[tokio::test]
async fn work_that_is_told_to_stop_stops_and_says_so() {
    let fake = FakeDriver::with("").await;
    let cuda = Cuda::load(&fake.cuda()).expect("loads");
    let beat = Beat::default();
    beat.stop();
    let done = work(&cuda, FIRST, &options(), &beat);
    assert_eq!((done.end, done.passes), (WorkEnd::Failed, 0));
    assert_eq!(done.problem.as_deref(), Some("stopped before the first pass was over"));
    assert!(beat.count() > 0, "each answer is a sign of life");
}
