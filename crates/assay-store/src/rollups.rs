//! Readings summed up per sensor and minute, in the transaction that stores them.
//!
//! The raw blobs are for replaying and proving; charts, thresholds and the `measurements` view read
//! these, and retention leaves them.

use std::collections::{BTreeMap, HashMap, HashSet};

use assay_model::sensor::SensorInfo;
use assay_model::{RunId, Sha256};
use sea_orm::{DatabaseTransaction, FromQueryResult, Value};

use crate::db::{self, execute, printable, values};
use crate::error::{Doing as _, StoreError, StoreErrorKind};
use crate::packed::PackedBatch;

const WRITE: &str = "sum up sensor readings";
const MICROS_PER_MINUTE: i64 = 60 * 1_000_000;
/// A machine has dozens of sensors, a large server hundreds. More is a machine that makes them up.
const SENSORS_PER_RUN: usize = 4096;
/// Rows per statement. A few fixed sizes, so that each is prepared once and found again.
const ROWS: [usize; 4] = [128, 32, 8, 1];

/// The sensors that are known to be stored: their numbers within their run.
#[derive(Debug, Default)]
pub(crate) struct Dictionary {
    sensors: HashMap<RunId, HashMap<String, i64>>,
    sets: HashSet<Sha256>,
}

/// What a transaction added, to be learned once it is committed.
#[derive(Debug, Default)]
pub(crate) struct Learned(Dictionary);

impl Dictionary {
    /// Takes over what a committed transaction has added.
    pub(crate) fn learn(&mut self, learned: Learned) {
        self.sensors.extend(learned.0.sensors);
        self.sets.extend(learned.0.sets);
    }
}

/// Sums of a group of batches.
#[derive(Debug, Default)]
pub(crate) struct Rollups {
    // Ordered: two servers that lock the same rows lock them in the same order.
    sums: BTreeMap<RunId, BTreeMap<(String, i64), Sum>>,
    infos: BTreeMap<RunId, BTreeMap<String, SensorInfo>>,
    sets: BTreeMap<Sha256, Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    samples: i64,
    missing: i64,
    low: Option<f64>,
    high: Option<f64>,
    total: f64,
}

impl Sum {
    fn add(&mut self, value: Option<f64>) {
        let Some(value) = value.filter(|v| v.is_finite()) else {
            self.missing += 1;
            return;
        };
        self.samples += 1;
        self.total += value;
        self.low = Some(self.low.map_or(value, |low| low.min(value)));
        self.high = Some(self.high.map_or(value, |high| high.max(value)));
    }
}

impl Rollups {
    /// Adds a batch that is new.
    pub(crate) fn add(&mut self, run: RunId, packed: &PackedBatch) {
        self.sets.entry(packed.set).or_insert_with(|| packed.set_json.clone());
        let infos = self.infos.entry(run).or_default();
        let sums = self.sums.entry(run).or_default();
        for (index, sensor) in packed.batch.sensors.iter().enumerate() {
            let name = printable(&sensor.name);
            infos.entry(name.clone()).or_insert_with(|| sensor.clone());
            for sample in &packed.batch.samples {
                let minute = sample.at.0.div_euclid(MICROS_PER_MINUTE) * MICROS_PER_MINUTE;
                let value = sample.values.get(index).copied().flatten();
                sums.entry((name.clone(), minute)).or_default().add(value);
            }
        }
    }

    /// Writes the sums, and the sensors that are new.
    pub(crate) async fn write(
        self,
        tx: &DatabaseTransaction,
        known: &Dictionary,
    ) -> Result<Learned, StoreError> {
        let mut learned = Learned::default();
        for (set, json) in self.sets.iter().filter(|(set, _)| !known.sets.contains(*set)) {
            let sql =
                "INSERT INTO sensor_sets (digest, body) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING";
            execute(tx, sql, values![set.0.to_vec(), json.clone()]).await.doing(WRITE)?;
            learned.0.sets.insert(*set);
        }
        let mut rows = Vec::new();
        for (run, sums) in &self.sums {
            let infos = &self.infos[run];
            let numbers = match known.sensors.get(run) {
                Some(numbers) if infos.keys().all(|name| numbers.contains_key(name)) => numbers,
                _ => {
                    let numbers = number_sensors(tx, *run, infos).await?;
                    learned.0.sensors.entry(*run).or_insert(numbers)
                }
            };
            for ((name, minute), sum) in sums {
                rows.push((*run, numbers[name], *minute, *sum));
            }
        }
        let mut rest = rows.as_slice();
        for size in ROWS {
            while let Some((chunk, after)) = rest.split_at_checked(size) {
                upsert(tx, chunk).await?;
                rest = after;
            }
        }
        Ok(learned)
    }
}

/// Numbers a run's sensors: those stored keep theirs, new ones get the next.
async fn number_sensors(
    tx: &DatabaseTransaction,
    run: RunId,
    infos: &BTreeMap<String, SensorInfo>,
) -> Result<HashMap<String, i64>, StoreError> {
    #[derive(FromQueryResult)]
    struct Row {
        id: i64,
        name: String,
    }
    let sql = "SELECT id, name FROM sensors WHERE run = $1";
    let stored: Vec<Row> = db::all(tx, sql, values![run.0]).await.doing(WRITE)?;
    let mut last = stored.iter().map(|row| row.id).max().unwrap_or(0);
    let mut numbers: HashMap<_, _> = stored.into_iter().map(|row| (row.name, row.id)).collect();
    for (name, info) in infos {
        if numbers.contains_key(name) {
            continue;
        }
        if numbers.len() >= SENSORS_PER_RUN {
            let message = format!("run {run} has named more than {SENSORS_PER_RUN} sensors");
            return Err(StoreError::new(WRITE, StoreErrorKind::Invalid(message)));
        }
        last += 1;
        let sql = "INSERT INTO sensors (run, id, name, kind, unit, upper, critical)
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let values = values![
            run.0,
            last,
            name.as_str(),
            printable(&info.kind),
            printable(&info.unit),
            info.max.filter(|v| v.is_finite()),
            info.critical.filter(|v| v.is_finite()),
        ];
        execute(tx, sql, values).await.doing(WRITE)?;
        numbers.insert(name.clone(), last);
    }
    Ok(numbers)
}

async fn upsert(tx: &DatabaseTransaction, rows: &[(RunId, i64, i64, Sum)]) -> Result<(), StoreError> {
    let mut sql =
        "INSERT INTO rollups (run, sensor, minute, samples, missing, low, high, total) VALUES ".to_owned();
    let mut values: Vec<Value> = Vec::with_capacity(rows.len() * 8);
    for (run, sensor, minute, sum) in rows {
        let first = values.len() + 1;
        let separator = if first == 1 { "(" } else { ", (" };
        sql.push_str(separator);
        for n in first..first + 8 {
            sql.push_str(if n == first { "$" } else { ", $" });
            sql.push_str(&n.to_string());
        }
        sql.push(')');
        values.extend(values![
            run.0,
            *sensor,
            *minute,
            sum.samples,
            sum.missing,
            sum.low,
            sum.high,
            sum.total
        ]);
    }
    // CASE instead of MIN/LEAST: one spelling for both databases, and NULL means "nothing read yet".
    sql.push_str(
        " ON CONFLICT (run, sensor, minute) DO UPDATE SET
            samples = rollups.samples + excluded.samples,
            missing = rollups.missing + excluded.missing,
            low = CASE WHEN rollups.low IS NULL OR excluded.low < rollups.low THEN excluded.low ELSE rollups.low END,
            high = CASE WHEN rollups.high IS NULL OR excluded.high > rollups.high THEN excluded.high
                ELSE rollups.high END,
            total = rollups.total + excluded.total",
    );
    execute(tx, &sql, values).await.doing(WRITE).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_counts_what_was_not_read_and_keeps_the_extremes() {
        let mut sum = Sum::default();
        for value in [None, Some(3.0), Some(f64::NAN), Some(-1.0), Some(2.0)] {
            sum.add(value);
        }
        assert_eq!(sum, Sum { samples: 3, missing: 2, low: Some(-1.0), high: Some(3.0), total: 4.0 });
    }
}
