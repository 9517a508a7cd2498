//! Sensor readings: packed batches going in, batches and summaries coming out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use assay_model::sensor::{SensorBatch, SensorInfo};
use assay_model::{Micros, RunId};
use sea_orm::FromQueryResult;

use crate::Store;
use crate::bulk::{Bulk, NewRow, Payload};
use crate::db::{self, values};
use crate::error::{Doing as _, StoreError, StoreErrorKind};
use crate::packed;

const APPEND: &str = "store sensor readings";
const READ: &str = "read sensor readings";

/// A batch of readings and its place in its run.
#[derive(Clone, Debug, PartialEq)]
pub struct SensorRow {
    /// The run.
    pub run: RunId,
    /// Which boot of it.
    pub boot: u32,
    /// Counts within the boot.
    pub seq: i64,
    /// The earliest time in the batch; ignored when stored, told when read.
    pub from: Micros,
    /// The latest time in the batch; likewise.
    pub to: Micros,
    /// The readings.
    pub batch: SensorBatch,
}

/// What a sensor showed over a whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The sensor.
    pub sensor: SensorInfo,
    /// How often it was read.
    pub samples: u64,
    /// How often it should have been and was not.
    pub missing: u64,
    /// Lowest value; none when it was never read.
    pub min: Option<f64>,
    /// Highest value.
    pub max: Option<f64>,
}

impl Store {
    /// Stores a batch; resolves once it is committed. The same `(run, boot, seq)` is stored once.
    pub async fn sensors_append(&self, row: SensorRow) -> Result<(), StoreError> {
        let packed = packed::pack(row.batch)
            .map_err(|message| StoreError::new(APPEND, StoreErrorKind::Invalid(message)))?;
        let payload = Payload::Sensors(packed);
        self.shared.bulk.append(NewRow { run: row.run, boot: row.boot, seq: row.seq, payload }).await
    }

    /// A run's batches in the order of `(boot, seq)`, those after `after`, at most `limit`.
    /// Empty when retention has dropped them.
    pub async fn sensor_batches(
        &self,
        run: RunId,
        after: Option<(u32, i64)>,
        limit: u32,
    ) -> Result<Vec<SensorRow>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            boot: i64,
            seq: i64,
            body: Vec<u8>,
        }
        let Some(table) = self.bulk_table(run, Bulk::Sensors).await? else { return Ok(Vec::new()) };
        let (boot, seq) = after.map_or((-1, 0), |(boot, seq)| (i64::from(boot), seq));
        let sql = format!(
            "SELECT boot, seq, body FROM {table} WHERE run = $1 AND (boot > $2 OR (boot = $2 AND seq > $3))
                ORDER BY boot, seq LIMIT $4"
        );
        let values = values![run.0, boot, seq, i64::from(limit)];
        let rows: Vec<Row> = db::all(self.db().reader(), &sql, values).await.doing(READ)?;

        let mut sets = HashMap::new();
        let mut out = Vec::with_capacity(rows.len());
        for row in rows {
            let unreadable = || {
                StoreError::unreadable(
                    READ,
                    "sensor batch",
                    format!("run {run}, boot {}, {}", row.boot, row.seq),
                )
            };
            let set = packed::set_of(&row.body).ok_or_else(unreadable)?;
            let sensors = match sets.entry(set) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.sensor_set(set).await?),
            };
            let batch = packed::unpack(&row.body, sensors.clone()).ok_or_else(unreadable)?;
            let times = || batch.samples.iter().map(|sample| sample.at);
            out.push(SensorRow {
                run,
                boot: u32::try_from(row.boot).map_err(|_| unreadable())?,
                seq: row.seq,
                from: times().min().unwrap_or_default(),
                to: times().max().unwrap_or_default(),
                batch,
            });
        }
        Ok(out)
    }

    /// What each sensor of a run showed, in the order in which they were first told. Stays when
    /// retention drops the batches.
    pub async fn sensor_summaries(&self, run: RunId) -> Result<Vec<Summary>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            name: String,
            kind: String,
            unit: String,
            upper: Option<f64>,
            critical: Option<f64>,
            samples: i64,
            missing: i64,
            low: Option<f64>,
            high: Option<f64>,
        }
        let sql =
            "SELECT s.name AS name, s.kind AS kind, s.unit AS unit, s.upper AS upper, s.critical AS critical,
                CAST(SUM(r.samples) AS bigint) AS samples, CAST(SUM(r.missing) AS bigint) AS missing,
                MIN(r.low) AS low, MAX(r.high) AS high
            FROM sensors s JOIN rollups r ON r.run = s.run AND r.sensor = s.id WHERE s.run = $1
            GROUP BY s.id, s.name, s.kind, s.unit, s.upper, s.critical ORDER BY s.id";
        let rows: Vec<Row> =
            db::all(self.db().reader(), sql, values![run.0]).await.doing("sum up a run's sensors")?;
        let summary = |r: Row| Summary {
            sensor: SensorInfo {
                name: r.name,
                kind: r.kind,
                unit: r.unit,
                max: r.upper,
                critical: r.critical,
            },
            samples: r.samples as u64,
            missing: r.missing as u64,
            min: r.low,
            max: r.high,
        };
        Ok(rows.into_iter().map(summary).collect())
    }

    /// Drops the batches of runs created before the day of `at`; roll-ups stay. See
    /// [`Store::bulk_drop_before`].
    pub async fn measurements_drop_before(&self, at: Micros) -> Result<Vec<String>, StoreError> {
        self.bulk_drop_before(Bulk::Sensors, at).await
    }

    async fn sensor_set(&self, digest: assay_model::Sha256) -> Result<Vec<SensorInfo>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            body: Vec<u8>,
        }
        let sql = "SELECT body FROM sensor_sets WHERE digest = $1";
        let row: Option<Row> =
            db::one(self.db().reader(), sql, values![digest.0.to_vec()]).await.doing(READ)?;
        let unreadable =
            |why: String| StoreError::unreadable(READ, "list of sensors", format!("{digest}: {why}"));
        let body = row.ok_or_else(|| unreadable("it is missing".to_owned()))?.body;
        if assay_model::Sha256::of(&body) != digest {
            return Err(unreadable("its bytes do not match its digest".to_owned()));
        }
        serde_json::from_slice(&body).map_err(|e| unreadable(e.to_string()))
    }
}
