//! The sensors, from the first moment to the last, whatever else goes on.
//!
//! Readings made before the enrolment are kept with the machine's monotonic time and go out with the first batch.

use std::sync::Arc;
use std::time::Duration;

use assay_api::agent::Sensors;
use assay_model::sensor::{SensorBatch, SensorInfo, SensorSample};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::agent::Context;
use crate::clock;
use crate::spool::Header;
use crate::{Collector, Pacing};

/// Until the control plane says otherwise.
const FIRST_PERIOD_S: u32 = 5;
/// Readings kept while nobody knows what time it is: more than a day of them. The oldest go first.
const MAX_PENDING: usize = 20_000;
/// Readings in one batch: bounds its size for a machine with hundreds of sensors.
const MAX_SAMPLES: usize = 200;

struct Reading {
    at: Duration,
    values: Vec<Option<f64>>,
}

/// Reads for ever; ends only when nobody can want the readings any more.
pub(crate) async fn watch_sensors(
    collector: Arc<dyn Collector>,
    pacing: Pacing,
    mut context: watch::Receiver<Option<Arc<Context>>>,
) {
    let mut pending: Vec<Reading> = Vec::new();
    let mut lost = 0;
    let mut due = Instant::now();
    loop {
        let at = clock::since_boot();
        let readings = collector.sensors().await;
        if !readings.sensors.is_empty() {
            if pending.len() == MAX_PENDING {
                pending.remove(0);
            }
            pending.push(Reading { at, values: readings.values });
        }
        let enrolled = context.borrow_and_update().clone();
        let period_s =
            enrolled.as_ref().map_or(FIRST_PERIOD_S, |context| context.session.welcome.sensor_s.max(1));
        if let Some(context) = &enrolled {
            lost = spool(context, &readings.sensors, &mut pending, lost);
        }
        // A reading that took long must not be followed by a hail of others.
        due = (due + pacing.second * period_s).max(Instant::now());
        tokio::select! {
            () = sleep_until(due) => {}
            changed = context.changed() => if changed.is_err() { return },
        }
    }
}

/// Moves the readings to the spool. Returns how many were lost so far because it is full.
fn spool(context: &Context, sensors: &[SensorInfo], pending: &mut Vec<Reading>, lost: u64) -> u64 {
    let clock = context.session.clock;
    let mut refused = 0;
    while !pending.is_empty() {
        let some = pending.len().min(MAX_SAMPLES);
        let samples: Vec<SensorSample> = pending
            .drain(..some)
            .map(|mut reading| {
                // The list grows at its end: what was not known yet was not read.
                reading.values.resize(sensors.len(), None);
                SensorSample { at: clock.at(reading.at), values: reading.values }
            })
            .collect();
        let body = |seq| {
            let batch = SensorBatch { sensors: sensors.to_vec(), samples };
            serde_json::to_vec(&Sensors { seq, batch }).expect("plain data")
        };
        if context.spool.sensors.append(&Header::Sensors, body).is_err() {
            refused += some as u64;
        }
    }
    match (lost, refused) {
        (0, 1..) => context.console.say("the spool for sensor readings is full; new readings are lost"),
        (1.., 0) => {
            context.console.say(&format!("sensor readings are kept again; {lost} were lost"));
            return 0;
        }
        _ => {}
    }
    lost + refused
}
