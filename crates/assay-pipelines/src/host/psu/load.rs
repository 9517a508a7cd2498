//! Loads the machine and reads its sensors all along.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use assay_model::StageName;
use assay_model::host::psu::{Load, PsuEvidence, RailKind, RailLimits, RailSensor, RailSource, Supply};
use assay_model::text::clean_to;
use assay_probes::hwmon::Hwmon;
use assay_probes::{Machine, bmc_sensors, load as tools};
use futures::future::{Either, join3, select};

use super::{NAME, seconds};
use crate::{CollectContext, CollectError, Collected};

/// Between two readings of the chips; a controller takes as long as it takes.
const EVERY: Duration = Duration::from_secs(1);
/// Different states of one supply that are kept.
const MAX_STATES: usize = 8;

pub(super) async fn collect(context: &CollectContext<'_>) -> Result<Collected, CollectError> {
    let (idle, load) = seconds(context.spec, context.input.profile);
    let mut sampler = Sampler::new(context.machine).await;
    (context.progress)(&format!("reading rails and fans for {idle} s before the load"));
    let idle_s = sampler.during(Phase::Idle, tools::pause(Duration::from_secs(idle.into()))).await.1;
    (context.progress)(&format!("processors, disks and network under load for {load} s"));
    let server = context.input.iperf.first();
    let work = async {
        let (processors, disks, network) = join3(
            tools::processors(context.machine, load),
            tools::disks(context.machine, load),
            tools::network(context.machine, server, load),
        )
        .await;
        let all = [("processors", processors), ("disks", disks), ("network", network)];
        all.map(|(what, outcome)| {
            let (ran, detail) = match outcome {
                Ok(detail) => (true, detail),
                Err(why) => (false, why),
            };
            Load { what: what.to_owned(), ran, detail: clean_to(&detail, 400) }
        })
    };
    let (outcomes, load_s) = sampler.during(Phase::Load, work).await;
    let evidence = sampler.finish(context.machine, idle_s, load_s, outcomes.to_vec());
    let evidence = serde_json::to_value(&evidence)
        .map_err(|problem| CollectError { stage: StageName::from(NAME), problem: problem.to_string() })?;
    Ok(Collected { evidence, artifacts: Vec::new() })
}

#[derive(Clone, Copy)]
enum Phase {
    Idle,
    Load,
}

/// Chips and controller, read beside each other: the one is quick, the other slow.
struct Sampler<'a> {
    chips: Chips,
    controller: Controller<'a>,
}

impl<'a> Sampler<'a> {
    async fn new(machine: &'a Machine) -> Self {
        let hwmon = Hwmon::discover(machine).await;
        let low = hwmon.low_limits().await;
        let sensors = hwmon
            .infos()
            .into_iter()
            .zip(low)
            .map(|(info, (low_warning, low_critical))| RailSensor {
                kind: match (info.kind.as_str(), info.unit.as_str()) {
                    ("psu", "V") => RailKind::Voltage,
                    ("psu", "W") => RailKind::Power,
                    ("fan", _) => RailKind::Fan,
                    _ => RailKind::Other,
                },
                name: info.name,
                source: RailSource::Hwmon,
                unit: info.unit,
                limits: RailLimits {
                    low_critical,
                    low_warning,
                    high_warning: info.max,
                    high_critical: info.critical,
                },
                ..RailSensor::default()
            })
            .collect();
        let asked = bmc_sensors::present(machine).then_some(machine);
        Self { chips: Chips { hwmon, sensors }, controller: Controller::new(asked) }
    }

    /// Reads while the work goes on, and says how long that was.
    async fn during<T>(&mut self, phase: Phase, work: impl Future<Output = T>) -> (T, f64) {
        let started = Instant::now();
        let (chips, controller) = (pin!(self.chips.read(phase)), pin!(self.controller.read(phase)));
        match select(pin!(work), select(chips, controller)).await {
            Either::Left((done, _)) => (done, started.elapsed().as_secs_f64()),
            // Reading goes on until the work is done.
            Either::Right((Either::Left((never, _)) | Either::Right((never, _)), _)) => match never {},
        }
    }

    fn finish(self, machine: &Machine, idle_s: f64, load_s: f64, done: Vec<Load>) -> PsuEvidence {
        let mut sensors: Vec<RailSensor> =
            self.chips.sensors.into_iter().filter(|sensor| sensor.kind != RailKind::Other).collect();
        sensors.extend(self.controller.sensors.into_values());
        let mut problems: Vec<String> = self.controller.problems.into_iter().collect();
        if sensors.is_empty() && !bmc_sensors::present(machine) {
            problems.push("no chip with rails or fans is driven, and there is no /dev/ipmi0".to_owned());
        }
        let supplies = self.controller.supplies.into_values().collect();
        PsuEvidence { idle_s, load_s, loads: done, sensors, supplies, problems }
    }
}

struct Chips {
    hwmon: Hwmon,
    sensors: Vec<RailSensor>,
}

impl Chips {
    async fn read(&mut self, phase: Phase) -> std::convert::Infallible {
        loop {
            for (sensor, value) in self.sensors.iter_mut().zip(self.hwmon.read().await) {
                sensor.take(phase, value);
            }
            tools::pause(EVERY).await;
        }
    }
}

struct Controller<'a> {
    machine: Option<&'a Machine>,
    sensors: BTreeMap<String, RailSensor>,
    supplies: BTreeMap<String, Supply>,
    problems: std::collections::BTreeSet<String>,
}

impl<'a> Controller<'a> {
    fn new(machine: Option<&'a Machine>) -> Self {
        Self {
            machine,
            sensors: BTreeMap::new(),
            supplies: BTreeMap::new(),
            problems: std::collections::BTreeSet::new(),
        }
    }

    async fn read(&mut self, phase: Phase) -> std::convert::Infallible {
        let Some(machine) = self.machine else { return std::future::pending().await };
        loop {
            match bmc_sensors::sensors(machine).await {
                Ok(read) => self.take_sensors(phase, read),
                Err(problem) => {
                    self.sensors.values_mut().for_each(|sensor| sensor.take(phase, None));
                    self.problems.insert(problem);
                }
            }
            match bmc_sensors::supplies(machine).await {
                Ok(read) => self.take_supplies(read),
                Err(problem) => {
                    self.supplies.values_mut().for_each(|supply| supply.missing += 1);
                    self.problems.insert(problem);
                }
            }
            tools::pause(EVERY).await;
        }
    }

    fn take_sensors(&mut self, phase: Phase, read: Vec<bmc_sensors::BmcSensor>) {
        for told in read {
            let sensor = self.sensors.entry(told.name.clone()).or_insert_with(|| RailSensor {
                name: told.name,
                source: RailSource::Bmc,
                kind: told.kind,
                unit: told.unit,
                limits: told.limits,
                ..RailSensor::default()
            });
            sensor.take(phase, told.value);
        }
    }

    fn take_supplies(&mut self, read: Vec<(String, String)>) {
        for (name, state) in read {
            let supply =
                self.supplies.entry(name.clone()).or_insert_with(|| Supply { name, ..Supply::default() });
            supply.samples += 1;
            if !supply.states.contains(&state) && supply.states.len() < MAX_STATES {
                supply.states.push(state);
            }
        }
    }
}

trait Takes {
    fn take(&mut self, phase: Phase, value: Option<f64>);
}

impl Takes for RailSensor {
    fn take(&mut self, phase: Phase, value: Option<f64>) {
        match phase {
            Phase::Idle => self.idle.add(value),
            Phase::Load => self.load.add(value),
        }
    }
}
