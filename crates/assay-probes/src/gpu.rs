//! Asks every GPU for its health and puts all of them to work at once: before, during, after.
//!
//! Nothing is loaded where the PCI bus shows no GPU of a maker whose driver is spoken to here. The driver's libraries
//! are called on threads of their own, each with a limit: a sick GPU may never answer, and must keep neither the other
//! GPUs nor the agent. What the numbers mean is not decided here.

mod burn;
mod kernel_log;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use assay_gpu::{Beat, CUDA_LIBRARY, Cuda, Management, NVML_LIBRARY, WorkOptions, work};
use assay_model::host::gpu::{BusGpu, GpuDevice, GpuEvidence, GpuLoad, GpuWork, WorkEnd};
use assay_model::text::clean_to;
use futures::future::join_all;
use tokio::sync::oneshot;

use crate::Machine;

/// How the GPUs are asked and worked.
#[derive(Clone, Debug)]
pub struct GpuOptions {
    /// The management library, a path or a name.
    pub nvml: OsString,
    /// The compute library, a path or a name.
    pub cuda: OsString,
    /// The load.
    pub work: WorkOptions,
    /// How long a call into the driver may take: initialising eight GPUs takes most of a minute.
    pub answer: Duration,
    /// How long a GPU at work may give no sign of life before it counts as hung.
    pub silence: Duration,
    /// Between two samples.
    pub sample_every: Duration,
    /// How long `gpu-burn` runs where it is present.
    pub burn: Duration,
}

impl GpuOptions {
    /// The driver's libraries where it installs them, and a load of this length.
    pub fn lasting(duration: Duration) -> Self {
        Self {
            nvml: NVML_LIBRARY.into(),
            cuda: CUDA_LIBRARY.into(),
            work: WorkOptions { duration, ..WorkOptions::default() },
            answer: Duration::from_secs(150),
            silence: Duration::from_secs(90),
            sample_every: Duration::from_secs(1),
            burn: (duration / 4).clamp(Duration::from_secs(10), Duration::from_mins(5)),
        }
    }
}

/// What the probe brings back.
#[derive(Clone, Debug, Default)]
pub struct GpuProbe {
    /// What the judge reads.
    pub evidence: GpuEvidence,
    /// Raw output: `gpu-burn.txt`, `gpu-kernel-log.txt`.
    pub artifacts: Vec<(String, Vec<u8>)>,
}

/// Reads and works all GPUs.
pub async fn gpu(machine: &Machine, progress: &(dyn Fn(&str) + Sync), options: GpuOptions) -> GpuProbe {
    let mut probe = GpuProbe::default();
    let evidence = &mut probe.evidence;
    evidence.asked_seconds = options.work.duration.as_secs();
    evidence.bus = on_the_bus(machine, &mut evidence.problems);
    if !evidence.bus.iter().any(BusGpu::is_nvidia) {
        progress("no GPU whose driver is spoken to here is on the PCI bus");
        return probe;
    }
    progress(&format!("{} GPUs on the PCI bus", evidence.bus.len()));
    let seen_before = kernel_log::read(machine).ok().and_then(|log| log.last);

    drive(evidence, progress, &options).await;
    if evidence.gpus.iter().any(|gpu| gpu.work.as_ref().is_some_and(|work| work.end == WorkEnd::Hung)) {
        evidence.problems.push("gpu-burn was not started, because a GPU no longer answers".to_owned());
    } else if evidence.driver.cuda {
        let (burn, output) = burn::run(machine, options.burn, progress).await;
        evidence.burn = burn;
        probe.artifacts.extend(output.map(|output| ("gpu-burn.txt".to_owned(), output)));
    }

    let after = on_the_bus(machine, &mut Vec::new());
    for gpu in &mut evidence.bus {
        gpu.there_after = after.iter().any(|still| still.address == gpu.address);
    }
    match kernel_log::read(machine) {
        Ok(log) => {
            evidence.kernel_log_read = true;
            evidence.xids = kernel_log::xids(&log.text, seen_before);
            let (lines, raw) = kernel_log::complaints(&log.text);
            evidence.problems.extend(lines);
            probe.artifacts.extend(raw.map(|raw| ("gpu-kernel-log.txt".to_owned(), raw)));
        }
        Err(problem) => evidence.problems.push(clean_to(
            &format!(
                "the kernel's log cannot be read, so no error report of the driver can be known: {problem}"
            ),
            300,
        )),
    }
    probe
}

fn on_the_bus(machine: &Machine, problems: &mut Vec<String>) -> Vec<BusGpu> {
    let mut unrelated = Vec::new();
    let bus = crate::pci::bus(machine, &mut unrelated);
    if bus.devices.is_empty() {
        problems.push("the PCI bus cannot be read; is sysfs mounted?".to_owned());
    }
    let class = |address: &str| {
        let device = bus.devices.iter().find(|device| device.address == address);
        device.map(|device| device.class.clone()).unwrap_or_default()
    };
    bus.gpus
        .iter()
        .map(|gpu| BusGpu {
            address: gpu.address.clone(),
            vendor_device: gpu.vendor_device.clone(),
            class: class(&gpu.address),
            driver: gpu.driver.clone(),
            there_after: true,
        })
        .collect()
}

/// Loads the libraries, reads, works, reads again.
async fn drive(evidence: &mut GpuEvidence, progress: &(dyn Fn(&str) + Sync), options: &GpuOptions) {
    let path = options.nvml.clone();
    let loaded = answer(options.answer, "the management library", move || {
        let management = Management::load(&path).map_err(|problem| problem.to_string())?;
        let devices = management.devices().map_err(|problem| problem.to_string())?;
        Ok((Arc::new(management), devices))
    });
    let management = match loaded.await {
        Ok((management, (devices, problems))) => {
            evidence.driver.nvml = true;
            evidence.driver.version = management.driver_version();
            evidence.gpus = devices;
            evidence.problems.extend(problems.iter().map(|problem| clean_to(problem, 300)));
            management
        }
        Err(problem) => {
            evidence.driver.nvml_problem = Some(problem);
            return;
        }
    };
    progress(&format!("{} GPUs known to the driver", evidence.gpus.len()));
    let path = options.cuda.clone();
    let loaded = answer(options.answer, "the compute library", move || {
        let cuda = Cuda::load(&path).map_err(|problem| problem.to_string())?;
        let version = cuda.version().map_err(|problem| problem.to_string())?;
        Ok((cuda, version))
    });
    match loaded.await {
        Ok((cuda, version)) => {
            evidence.driver.cuda = true;
            evidence.driver.cuda_version = Some(version);
            load_all(evidence, &management, &cuda, progress, options).await;
        }
        Err(problem) => evidence.driver.cuda_problem = Some(problem),
    }
    let readings = evidence.gpus.iter().map(|gpu| {
        let (management, address) = (Arc::clone(&management), gpu.address.clone());
        answer(options.answer, "the last reading", move || {
            management.reading(&address).map_err(|problem| problem.to_string())
        })
    });
    let readings = join_all(readings).await;
    for (gpu, reading) in evidence.gpus.iter_mut().zip(readings) {
        match reading {
            Ok((reading, problems)) => {
                gpu.after = Some(reading);
                for problem in problems {
                    if !gpu.problems.contains(&problem) {
                        gpu.problems.push(problem);
                    }
                }
            }
            Err(problem) => gpu.problems.push(format!("not read after the load: {problem}")),
        }
    }
    // Closing the library is a call into the driver as well.
    let closed = answer(options.answer, "closing the management library", move || {
        drop(management);
        Ok(())
    });
    evidence.problems.extend(closed.await.err());
}

/// Puts all GPUs to work at once and samples them meanwhile.
async fn load_all(
    evidence: &mut GpuEvidence,
    management: &Arc<Management>,
    cuda: &Cuda,
    progress: &(dyn Fn(&str) + Sync),
    options: &GpuOptions,
) {
    let sampler = Sampler::start(management, &evidence.gpus, options.sample_every);
    let works = evidence.gpus.iter().map(|gpu| one(cuda, &gpu.address, progress, options));
    let works = join_all(works).await;
    let (loads, problems) = sampler.finish();
    for (((gpu, work), load), problem) in evidence.gpus.iter_mut().zip(works).zip(loads).zip(problems) {
        gpu.work = Some(work);
        gpu.load = load;
        gpu.problems.extend(problem);
    }
}

/// One GPU at work on a thread of its own, watched.
async fn one(cuda: &Cuda, address: &str, progress: &(dyn Fn(&str) + Sync), options: &GpuOptions) -> GpuWork {
    let beat = Arc::new(Beat::default());
    let watched = StopWhenDropped(Arc::clone(&beat));
    let (told, mut answer) = oneshot::channel();
    let started = std::thread::Builder::new().name(format!("gpu {address}")).spawn({
        let (cuda, address, work_options) = (cuda.clone(), address.to_owned(), options.work);
        move || {
            // Nobody listens any more where the GPU was given up on.
            let _unheard = told.send(work(&cuda, &address, &work_options, &beat));
        }
    });
    if let Err(problem) = started {
        let problem = Some(format!("no thread could be started for it: {problem}"));
        return GpuWork { problem, ..GpuWork::default() };
    }
    let began = Instant::now();
    let (mut last, mut heard, mut step) = (0, Instant::now(), String::new());
    loop {
        let wait = options.sample_every.min(options.silence);
        match tokio::time::timeout(wait, &mut answer).await {
            Ok(Ok(work)) => {
                progress(&format!(
                    "GPU {address}: {} passes, {} MiB verified",
                    work.passes,
                    work.verified_bytes >> 20
                ));
                return work;
            }
            Ok(Err(_)) => {
                let problem =
                    Some("the thread that worked it broke off; this is a fault of the agent".to_owned());
                return GpuWork { problem, ..GpuWork::default() };
            }
            Err(_) => {}
        }
        let beat = &watched.0;
        if beat.count() != last {
            (last, heard) = (beat.count(), Instant::now());
        }
        if beat.step() != step {
            step = beat.step();
            progress(&format!("GPU {address}: {step}"));
        }
        if heard.elapsed() >= options.silence {
            return GpuWork {
                end: WorkEnd::Hung,
                seconds: began.elapsed().as_secs_f64(),
                problem: Some(format!("no answer for {} s, at: {step}", options.silence.as_secs_f64())),
                ..GpuWork::default()
            };
        }
    }
}

/// Work that nobody waits for any more ends soon.
struct StopWhenDropped(Arc<Beat>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

type Sampled = (GpuLoad, Option<String>);

/// Samples all GPUs on a thread of its own until it is told to stop.
struct Sampler {
    stop: Sender<()>,
    sampled: Arc<Mutex<Vec<Sampled>>>,
}

impl Sampler {
    fn start(management: &Arc<Management>, gpus: &[GpuDevice], every: Duration) -> Self {
        let sampled = Arc::new(Mutex::new(vec![Sampled::default(); gpus.len()]));
        let (stop, stopped) = channel();
        let addresses: Vec<String> = gpus.iter().map(|gpu| gpu.address.clone()).collect();
        let started = std::thread::Builder::new().name("gpu samples".to_owned()).spawn({
            let (management, sampled) = (Arc::clone(management), Arc::clone(&sampled));
            move || {
                // Dropping the sender ends it as well.
                while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    for (slot, address) in addresses.iter().enumerate() {
                        let mut load = locked(&sampled)[slot].0.clone();
                        // Not under the lock: the driver may not answer, and what was sampled is wanted then.
                        let problem = management.sample(address, &mut load).err();
                        let slot = &mut locked(&sampled)[slot];
                        slot.0 = load;
                        if let Some(problem) = problem {
                            slot.1.get_or_insert_with(|| clean_to(&problem.to_string(), 300));
                        }
                    }
                }
            }
        });
        if let Err(problem) = started {
            for slot in locked(&sampled).iter_mut() {
                slot.1 = Some(format!("no thread could be started to sample it: {problem}"));
            }
        }
        Self { stop, sampled }
    }

    /// What was sampled so far, without waiting for a driver that does not answer.
    fn finish(self) -> (Vec<GpuLoad>, Vec<Option<String>>) {
        // It has ended by itself where nobody receives.
        let _ended = self.stop.send(());
        locked(&self.sampled).clone().into_iter().unzip()
    }
}

fn locked(sampled: &Mutex<Vec<Sampled>>) -> std::sync::MutexGuard<'_, Vec<Sampled>> {
    sampled.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls into the driver on a thread of its own; after `limit` the thread is left behind.
async fn answer<T: Send + 'static>(
    limit: Duration,
    what: &str,
    call: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (told, answer) = oneshot::channel();
    let started = std::thread::Builder::new().name("gpu driver".to_owned()).spawn(move || {
        // Nobody listens any more after the limit.
        let _unheard = told.send(call());
    });
    started.map_err(|problem| format!("{what}: no thread could be started: {problem}"))?;
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(outcome)) => outcome.map_err(|problem| clean_to(&problem, 400)),
        Ok(Err(_)) => Err(format!("{what}: the call broke off; this is a fault of the agent")),
        Err(_) => Err(format!("{what}: no answer within {} s", limit.as_secs_f64())),
    }
}
