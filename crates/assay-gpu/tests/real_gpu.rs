//! The same with a real GPU and its real driver. Ignored where there is none:
//! `cargo nextest run -p assay-gpu --run-ignored only --no-capture`.

use std::time::Duration;

use assay_gpu::{Beat, CUDA_LIBRARY, Cuda, Management, NVML_LIBRARY, WorkOptions, work};
use assay_model::host::gpu::{GpuLoad, WorkEnd};

#[test]
#[ignore = "needs an NVIDIA GPU with its driver"]
fn every_real_gpu_tells_works_and_verifies() {
    let management = Management::load(NVML_LIBRARY.as_ref()).expect("the driver is loaded");
    let cuda = Cuda::load(CUDA_LIBRARY.as_ref()).expect("the driver's compute library is there");
    let (devices, problems) = management.devices().expect("listed");
    assert!(!devices.is_empty() && problems.is_empty(), "{devices:?} {problems:?}");
    let addresses = cuda.addresses().expect("listed");
    let options = WorkOptions { duration: Duration::from_secs(20), ..WorkOptions::default() };
    for gpu in &devices {
        println!("{gpu:#?}");
        assert!(addresses.contains(&gpu.address), "{} is not among {addresses:?}", gpu.address);
        let beat = Beat::default();
        let mut load = GpuLoad::default();
        let done = std::thread::scope(|scope| {
            let worker = scope.spawn(|| work(&cuda, &gpu.address, &options, &beat));
            while !worker.is_finished() {
                management.sample(&gpu.address, &mut load).expect("sampled");
                std::thread::park_timeout(Duration::from_millis(500));
            }
            worker.join().expect("worked")
        });
        println!("{done:#?}\n{load:#?}");
        assert_eq!((done.end, done.problem.as_deref()), (WorkEnd::Finished, None));
        assert!(done.control && done.passes > 0);
        assert_eq!((done.memory_errors, done.compute_errors), (0, 0), "{:?}", done.mismatches);
        let total = gpu.memory_bytes.expect("told");
        assert!(done.verified_bytes > total / 100 * 80, "{} of {total}", done.verified_bytes);
        let share = |achieved: Option<f64>, possible: f64| achieved.expect("measured") / possible * 100.0;
        let hertz = |mhz: Option<u32>| f64::from(mhz.expect("told")) * 2.0 / 1e3;
        let compute = share(done.gflops, f64::from(gpu.cores.expect("told")) * hertz(gpu.sm_clock_max_mhz));
        let memory = share(
            done.memory_gb_s,
            f64::from(gpu.memory_bus_bits.expect("told")) / 8.0 * hertz(gpu.memory_clock_max_mhz),
        );
        println!(
            "{compute:.1} % of the possible arithmetic, {memory:.1} % of the possible memory throughput"
        );
        assert!((50.0..=105.0).contains(&compute) && (50.0..=105.0).contains(&memory));
    }
}
