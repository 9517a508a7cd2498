//! Does the work of `CPUStress` on the machine, and stops all of it when the machine gets too hot.
//!
//! Memory first: it is the quickest to fail and the worst to go on with. Broken memory ends the stage there, as a
//! machine that forgets what it was told should be asked for as little as possible.

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use assay_model::StageName;
use assay_model::host::cpu_stress::{CpuStressEvidence, Ended, MemoryTest, Temperature, ToolRun};
use assay_model::host::order::Profile;
use assay_probes::Machine;
use assay_probes::hwmon::Hwmon;
use assay_probes::stress::memory::{MemoryOrder, MemoryPattern};
use assay_probes::stress::{self, Load};
use assay_probes::throttle::ThrottleCounts;
use futures::future::{Either, select};

use super::{Amount, NAME};
use crate::{CollectContext, CollectError, Collected};

/// Between two readings of the temperatures.
const EVERY: Duration = Duration::from_secs(1);
/// The share of memory for `stressapptest`, which takes all of it at once.
const COPY_PERCENT: u64 = 80;
/// Least memory for a tool.
const LEAST: u64 = 16 << 20;
/// Most processes that work on memory.
const MAX_WORKERS: u32 = 32;
/// A load of fewer seconds has no time to get through much memory,
const SHORT_S: u32 = 60;
/// but through so much a second and worker it gets in any case, on slow and busy machines too.
const PER_SECOND: u64 = 8 << 20;

/// What is known so far; all of it survives a stop.
#[derive(Default)]
struct Places {
    memory: Mutex<MemoryTest>,
    stress_ng: Mutex<ToolRun>,
    stressapptest: Mutex<ToolRun>,
    artifacts: Mutex<Vec<(String, Vec<u8>)>>,
}

pub(super) async fn collect(context: &CollectContext<'_>) -> Result<Collected, CollectError> {
    let begun = Instant::now();
    let amount = Amount::of(context.spec, context.input.profile);
    let before = ThrottleCounts::read(context.machine);
    let mut watch = Watch::new(context.machine, f64::from(context.spec.limits.max_temp_c)).await;
    let places = Places::default();
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    // Read once before anything is done: what is over within moments has a temperature, too.
    let stopped = match watch.too_hot().await {
        Some(why) => Some(why),
        None => first_of(work(context, amount, processors, &places), watch.until_too_hot()).await,
    };
    if let Some(why) = &stopped {
        (context.progress)(&format!("stopped: {why}"));
    }
    let after = ThrottleCounts::read(context.machine);
    let evidence = CpuStressEvidence {
        processors,
        memory: taken(places.memory),
        stress_ng: taken(places.stress_ng),
        stressapptest: taken(places.stressapptest),
        temperatures: watch.temperatures,
        throttled: before.zip(after).map(|(before, after)| after.since(&before)),
        stopped,
        seconds: begun.elapsed().as_secs_f64(),
    };
    let evidence = serde_json::to_value(&evidence)
        .map_err(|problem| CollectError { stage: StageName::from(NAME), problem: problem.to_string() })?;
    Ok(Collected { evidence, artifacts: taken(places.artifacts) })
}

/// Waits for the work, or for the reason to drop it, which stops whatever it started.
async fn first_of(
    work: impl Future<Output = Option<String>>,
    reason: impl Future<Output = String>,
) -> Option<String> {
    match select(pin!(work), pin!(reason)).await {
        Either::Left((stopped, _)) => stopped,
        Either::Right((why, _)) => Some(why),
    }
}

/// One thing after the other; the reason why it ended early, where it did.
async fn work(
    context: &CollectContext<'_>,
    amount: Amount,
    processors: u32,
    places: &Places,
) -> Option<String> {
    let (machine, progress) = (context.machine, context.progress);
    let patterns = match context.input.profile {
        Profile::Burnin => MemoryPattern::ALL.to_vec(),
        Profile::Quick | Profile::Standard => MemoryPattern::BASIC.to_vec(),
    };
    let order = MemoryOrder {
        percent: amount.ask_percent,
        patterns,
        rounds: amount.rounds,
        at_most: (amount.memory_at_most_s > 0).then(|| Duration::from_secs(amount.memory_at_most_s.into())),
    };
    let limit = Duration::from_secs(amount.memory_limit_s.into());
    stress::memory::test(machine, &order, limit, progress, &places.memory).await;
    if peek(&places.memory, |test| test.mismatches > 0 && test.ended == Ended::Finished) {
        return Some("memory does not hold what is written to it; nothing else was tried".to_owned());
    }
    let workers = (processors / 2).clamp(1, MAX_WORKERS);
    let load = |seconds, percent: u64| {
        let available = stress::meminfo(machine).map_or(0, |meminfo| meminfo.available);
        Load { seconds, bytes: load_bytes(available, percent, seconds, workers), memory_workers: workers }
    };
    let said = stress::stress_ng(
        machine,
        load(amount.load_s, amount.load_percent.into()),
        progress,
        &places.stress_ng,
    )
    .await;
    keep(places, "stress-ng.txt", said);
    if amount.copy_s > 0 {
        let said = stress::stressapptest(
            machine,
            load(amount.copy_s, COPY_PERCENT),
            progress,
            &places.stressapptest,
        )
        .await;
        keep(places, "stressapptest.txt", said);
    }
    None
}

/// The memory that all workers of a tool use together: a share of what there is, and of a short load not so much that a
/// worker cannot get through its part in the time that it has.
fn load_bytes(available: u64, percent: u64, seconds: u32, workers: u32) -> u64 {
    let in_time = u64::from(seconds) * u64::from(workers) * PER_SECOND;
    let most = if seconds < SHORT_S { in_time } else { u64::MAX };
    (available / 100 * percent).min(most).max(LEAST)
}

fn keep(places: &Places, name: &str, said: Vec<u8>) {
    if !said.is_empty() {
        let mut artifacts = places.artifacts.lock().unwrap_or_else(PoisonError::into_inner);
        artifacts.push((name.to_owned(), said));
    }
}

fn taken<T>(place: Mutex<T>) -> T {
    place.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn peek<T>(place: &Mutex<T>, ask: impl FnOnce(&T) -> bool) -> bool {
    ask(&place.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The thermal sensors, and the limit that none may pass.
struct Watch {
    hwmon: Hwmon,
    /// Places of the thermal ones among all sensors.
    thermal: Vec<usize>,
    temperatures: Vec<Temperature>,
    limit: f64,
}

impl Watch {
    async fn new(machine: &Machine, limit: f64) -> Self {
        let hwmon = Hwmon::discover(machine).await;
        let infos = hwmon.infos();
        let thermal: Vec<usize> = (0..infos.len()).filter(|at| infos[*at].kind == "thermal").collect();
        let temperature =
            |at: &usize| Temperature { sensor: infos[*at].name.clone(), ..Temperature::default() };
        let temperatures = thermal.iter().map(temperature).collect();
        Self { hwmon, thermal, temperatures, limit }
    }

    /// Reads until one of them stays above the limit.
    async fn until_too_hot(&mut self) -> String {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Some(why) = self.too_hot().await {
                return why;
            }
        }
    }

    /// Reads all of them; which one has stayed above the limit.
    async fn too_hot(&mut self) -> Option<String> {
        let values = self.hwmon.read().await;
        for (temperature, at) in self.temperatures.iter_mut().zip(&self.thermal) {
            temperature.add(values.get(*at).copied().flatten());
            if let Some(hot) = temperature.sustained.filter(|value| *value > self.limit) {
                return Some(format!(
                    "sensor {} reached {hot:.1} °C, and at most {:.0} °C is allowed",
                    temperature.sensor, self.limit
                ));
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
