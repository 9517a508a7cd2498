//! The machine's sensors: hwmon chips, ACPI power meters, thermal zones.
//!
//! Numbers like `hwmon3` change from boot to boot, so a sensor is known by its chip's name, its label and the
//! device it belongs to. A read can block for ever (a sick BMC behind a sensor driver), so every read happens on
//! a thread of its own with a time limit; a sensor that hangs is dropped and the others go on.

mod discover;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use assay_model::sensor::SensorInfo;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::Machine;

/// The longest that one sensor may take.
const READ_LIMIT: Duration = Duration::from_secs(2);

/// All sensors of a machine, found once and read many times.
#[derive(Debug)]
pub struct Hwmon {
    machine: Machine,
    limit: Duration,
    sensors: Vec<Sensor>,
}

#[derive(Debug)]
struct Sensor {
    info: SensorInfo,
    source: Source,
    /// Of a read that did not come back in time: set once it does. Until then the sensor is not asked again,
    /// because every further read would take a thread with it.
    hanging: Option<Arc<AtomicBool>>,
}

/// Where the value is read, and how.
#[derive(Clone, Debug, PartialEq)]
struct Source {
    file: PathBuf,
    /// Values are integers in thousandths or millionths of the unit.
    divisor: f64,
    /// A value outside of this is a chip's way to say that nothing is connected.
    plausible: (f64, f64),
    /// A file that holds 1 when the chip itself says that this reading is wrong.
    fault: Option<PathBuf>,
}

impl Hwmon {
    /// Finds the sensors of a machine. A machine without any gives an empty list.
    pub async fn discover(machine: &Machine) -> Self {
        Self::with_limit(machine, READ_LIMIT).await
    }

    /// As [`Hwmon::discover`], with a time limit of the caller's for each read.
    pub async fn with_limit(machine: &Machine, limit: Duration) -> Self {
        let mut hwmon = Self { machine: machine.clone(), limit, sensors: Vec::new() };
        hwmon.rediscover().await;
        hwmon
    }

    /// The sensors, in the order of [`Hwmon::read`]. Grows at its end; what is once in it stays in its place.
    pub fn infos(&self) -> Vec<SensorInfo> {
        self.sensors.iter().map(|sensor| sensor.info.clone()).collect()
    }

    /// Reads every sensor. `None` where a sensor is gone, says that it is faulty, or hangs.
    pub async fn read(&mut self) -> Vec<Option<f64>> {
        let mut values = vec![None; self.sensors.len()];
        for sensor in &mut self.sensors {
            if sensor.hanging.as_ref().is_some_and(|returned| returned.load(Ordering::Acquire)) {
                sensor.hanging = None;
            }
        }
        let answering = self.sensors.iter().enumerate().filter(|(_, sensor)| sensor.hanging.is_none());
        let mut waiting: VecDeque<Pending> =
            answering.map(|(index, sensor)| Pending::new(index, sensor)).collect();
        while !waiting.is_empty() {
            // One thread reads them all in a row. Where one hangs, the thread is left behind with it, and
            // another goes on with the rest.
            let mut readings = start_reading(waiting.iter().cloned().collect());
            while let Some(next) = waiting.pop_front() {
                let Ok(answer) = timeout(self.limit, readings.recv()).await else {
                    let sensor = &mut self.sensors[next.index];
                    tracing::warn!(sensor = %sensor.info.name, "a sensor does not answer and is left out until it does");
                    sensor.hanging = Some(next.returned);
                    break;
                };
                values[next.index] = answer.flatten();
            }
        }
        values
    }

    /// The lower limits that each chip gives its sensors (warning, critical), in the order of [`Hwmon::infos`]. Chips
    /// without such a limit show 0. None at all when a chip hangs.
    pub async fn low_limits(&self) -> Vec<(Option<f64>, Option<f64>)> {
        let sources: Vec<Source> = self.sensors.iter().map(|sensor| sensor.source.clone()).collect();
        let count = sources.len();
        let (told, limits) = oneshot::channel();
        let started = thread::Builder::new().name("sensors".to_owned()).spawn(move || {
            // Nobody may be waiting any more: then the limits are not wanted.
            let _ = told.send(sources.iter().map(Source::low_limits).collect::<Vec<_>>());
        });
        let read = timeout(self.limit.saturating_mul(5), limits).await;
        match (started, read) {
            (Ok(_), Ok(Ok(limits))) => limits,
            _ => vec![(None, None); count],
        }
    }

    /// Looks for sensors again: new ones are added at the end, and known ones that moved to another hwmon number
    /// are found there. Returns how many are new.
    pub async fn rediscover(&mut self) -> usize {
        let machine = self.machine.clone();
        let (told, listing) = oneshot::channel();
        // Listing reads labels and limits, which can hang like any other sensor file.
        let started = thread::Builder::new().name("sensors".to_owned()).spawn(move || {
            // Nobody may be waiting any more: then the list is not wanted.
            let _ = told.send(discover::discover(&machine));
        });
        let listed = timeout(self.limit.saturating_mul(5), listing).await;
        let (Ok(_), Ok(Ok(found))) = (started, listed) else {
            tracing::warn!(
                "the list of sensors could not be read in time; the sensors known before are kept"
            );
            return 0;
        };
        let mut known: HashSet<String> = self.sensors.iter().map(|sensor| sensor.info.name.clone()).collect();
        let before = self.sensors.len();
        for (info, source) in found {
            if known.insert(info.name.clone()) {
                self.sensors.push(Sensor { info, source, hanging: None });
            } else if let Some(sensor) = self.sensors.iter_mut().find(|sensor| sensor.info.name == info.name)
            {
                sensor.source = source;
            }
        }
        self.sensors.len() - before
    }
}

/// One read that is to be done.
#[derive(Clone)]
struct Pending {
    index: usize,
    source: Source,
    returned: Arc<AtomicBool>,
}

impl Pending {
    fn new(index: usize, sensor: &Sensor) -> Self {
        Self { index, source: sensor.source.clone(), returned: Arc::new(AtomicBool::new(false)) }
    }
}

/// Reads on a thread of its own, one value after the other. Not on the runtime's blocking threads: a runtime waits
/// for those when it ends, and a read that never returns would keep the program from ending.
fn start_reading(pending: Vec<Pending>) -> mpsc::UnboundedReceiver<Option<f64>> {
    let (told, readings) = mpsc::unbounded_channel();
    let started = thread::Builder::new().name("sensors".to_owned()).spawn(move || {
        for one in pending {
            let value = one.source.read();
            one.returned.store(true, Ordering::Release);
            if told.send(value).is_err() {
                return;
            }
        }
    });
    if let Err(problem) = started {
        tracing::warn!(%problem, "no thread for reading sensors could be started; they are left out this time");
    }
    readings
}

impl Source {
    fn low_limits(&self) -> (Option<f64>, Option<f64>) {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((channel, _)) = name.rsplit_once('_') else { return (None, None) };
        let limit = |suffix: &str| {
            let value = number(&self.file.with_file_name(format!("{channel}_{suffix}")))? / self.divisor;
            (value > 0.0).then_some(value)
        };
        (limit("min"), limit("lcrit"))
    }

    fn read(&self) -> Option<f64> {
        if self.fault.as_ref().and_then(|file| number(file)).is_some_and(|fault| fault != 0.0) {
            return None;
        }
        let value = number(&self.file)? / self.divisor;
        (self.plausible.0..=self.plausible.1).contains(&value).then_some(value)
    }
}

fn number(file: &Path) -> Option<f64> {
    fs::read_to_string(file).ok()?.trim().parse::<i64>().ok().map(|value| value as f64)
}
