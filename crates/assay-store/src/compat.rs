//! What kinds of machines runs were on, and what finished runs say about images on them.
//!
//! The kind of machine stands in the evidence of a stage, so it is written with that stage's verdict; what the run says is
//! a fold of its journal ([`compat::outcome`]) like every other row of it.

use assay_model::compat::{self, Fingerprint, Image, Lacking, Outcome, Trial};
use assay_model::{Micros, Pipeline, RunId, Sha256, TargetId};
use sea_orm::{DatabaseTransaction, DbErr, FromQueryResult};
use uuid::Uuid;

use crate::Store;
use crate::db::{self, Batch, execute, printable, values};
use crate::error::{Doing as _, StoreError};
use crate::journal::digest;

const LIST: &str = "list what images were tried on";
const PUT: &str = "store what kind of machine a run is on";

/// What kind of machine a run is on, or what the machine does not tell.
pub type MachineSeen = Result<Fingerprint, Lacking>;

/// What a target was last seen to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSeen {
    /// Which target.
    pub target: TargetId,
    /// In which run.
    pub run: i64,
    /// What kind of machine; or what it does not tell, in words.
    pub machine: Result<Fingerprint, String>,
}

impl Store {
    /// Every trial of an image on a machine, newest first.
    pub async fn trials(&self) -> Result<Vec<Trial>, StoreError> {
        let sql = "SELECT r.id, r.number, r.target_id, r.target, m.fingerprint, i.digest, i.volume,
                t.image, t.verdict, t.ended_at, t.codes, t.unverified
            FROM image_trials t JOIN runs r ON r.id = t.run JOIN run_machines m ON m.run = t.run
                JOIN image_runs i ON i.run = t.run
            WHERE m.fingerprint IS NOT NULL ORDER BY t.ended_at DESC, r.number DESC";
        let rows: Vec<TrialRow> = db::all(self.db().reader(), sql, values![]).await.doing(LIST)?;
        rows.into_iter().map(TrialRow::decode).collect()
    }

    /// Every kind of machine that an image was tried on, by digest.
    pub async fn machines_tried(&self) -> Result<Vec<(Sha256, Fingerprint)>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            fingerprint: Vec<u8>,
            body: String,
        }
        let sql = "SELECT fingerprint, body FROM machines WHERE fingerprint IN (
                SELECT m.fingerprint FROM run_machines m JOIN image_trials t ON t.run = m.run)
            ORDER BY fingerprint";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![]).await.doing(LIST)?;
        rows.into_iter().map(|row| Ok((digest(LIST, &row.fingerprint)?, fingerprint(&row.body)?))).collect()
    }

    /// What every target was last seen to be, of those that any run has seen.
    pub async fn machines_last_seen(&self) -> Result<Vec<LastSeen>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            target_id: Uuid,
            number: i64,
            body: Option<String>,
            lacking: Option<String>,
        }
        let sql = "SELECT target_id, number, body, lacking FROM (
                SELECT r.target_id, r.number, k.body, m.lacking,
                    ROW_NUMBER() OVER (PARTITION BY r.target_id ORDER BY r.number DESC) AS place
                FROM run_machines m JOIN runs r ON r.id = m.run LEFT JOIN machines k ON k.fingerprint = m.fingerprint
            ) AS latest WHERE place = 1 ORDER BY number";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![]).await.doing(LIST)?;
        rows.into_iter()
            .map(|row| {
                let machine = match row.body {
                    Some(body) => Ok(fingerprint(&body)?),
                    None => Err(row.lacking.unwrap_or_default()),
                };
                Ok(LastSeen { target: TargetId(row.target_id), run: row.number, machine })
            })
            .collect()
    }

    /// Every image that virtual machines have tried, with the first run that read it, oldest first. Those that machines
    /// have tried are in the trials.
    pub async fn images_on_virtual_machines(&self) -> Result<Vec<Image>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            target_id: Uuid,
            target: String,
            number: i64,
            digest: Vec<u8>,
            volume: Option<String>,
        }
        let sql = "SELECT r.target_id, r.target, MIN(r.number) AS number, i.digest, MAX(i.volume) AS volume
            FROM image_runs i JOIN runs r ON r.id = i.run WHERE r.pipeline = 'image'
            GROUP BY r.target_id, r.target, i.digest ORDER BY number";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![]).await.doing(LIST)?;
        let mut out = Vec::new();
        for row in rows {
            // A run on a machine has that machine as its target, and its name is no image's.
            if TargetId::named(Pipeline::Image, &row.target).0 != row.target_id {
                continue;
            }
            // What follows the name is a cell of a matrix of virtual machines: `my[firmware=uefi]`.
            let name = row.target.split('[').next().unwrap_or_default().to_owned();
            out.push(Image { digest: digest(LIST, &row.digest)?, name, volume: row.volume, run: row.number });
        }
        Ok(out)
    }
}

/// Said again by a later stage or a further try, the later one counts.
pub(crate) async fn put(tx: &DatabaseTransaction, run: RunId, seen: &MachineSeen) -> Result<(), StoreError> {
    let (fingerprint, lacking) = match seen {
        Ok(machine) => {
            let name = machine.digest().0.to_vec();
            let body = serde_json::to_string(machine).map_err(|e| DbErr::Json(e.to_string())).doing(PUT)?;
            // The same kind may be seen with other drivers, once the live image has them.
            let sql = "INSERT INTO machines (fingerprint, body) VALUES ($1, $2)
                ON CONFLICT (fingerprint) DO UPDATE SET body = excluded.body";
            execute(tx, sql, values![name.clone(), printable(&body)]).await.doing(PUT)?;
            (Some(name), None)
        }
        Err(lacking) => (None, Some(lacking.to_string())),
    };
    let sql = "INSERT INTO run_machines (run, fingerprint, lacking) VALUES ($1, $2, $3)
        ON CONFLICT (run) DO UPDATE SET fingerprint = excluded.fingerprint, lacking = excluded.lacking";
    execute(tx, sql, values![run.0, fingerprint, lacking]).await.doing(PUT).map(drop)
}

/// Adds what the run says about its image, if that is new.
pub(crate) fn update(
    batch: &mut Batch,
    before: Option<&Outcome>,
    run: RunId,
    after: Option<Outcome>,
) -> Result<(), DbErr> {
    let Some(outcome) = after.filter(|after| Some(after) != before) else { return Ok(()) };
    let codes = serde_json::to_string(&outcome.codes).map_err(|e| DbErr::Json(e.to_string()))?;
    let sql = "INSERT INTO image_trials (run, image, verdict, ended_at, codes, unverified)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (run) DO UPDATE SET image = excluded.image, verdict = excluded.verdict,
            ended_at = excluded.ended_at, codes = excluded.codes, unverified = excluded.unverified";
    let values = values![
        run.0,
        printable(&outcome.image),
        outcome.verdict.as_str(),
        outcome.at.0,
        printable(&codes),
        i64::from(outcome.unverified),
    ];
    batch.push(1, sql, values);
    Ok(())
}

#[derive(FromQueryResult)]
struct TrialRow {
    id: Uuid,
    number: i64,
    target_id: Uuid,
    target: String,
    fingerprint: Vec<u8>,
    digest: Vec<u8>,
    volume: Option<String>,
    image: String,
    verdict: String,
    ended_at: i64,
    codes: String,
    unverified: i64,
}

impl TrialRow {
    fn decode(self) -> Result<Trial, StoreError> {
        let unreadable =
            |why: String| StoreError::unreadable(LIST, "trial", format!("run {}: {why}", self.number));
        let verdict =
            self.verdict.parse().map_err(|e: compat::UnknownTrialVerdict| unreadable(e.to_string()))?;
        let codes = serde_json::from_str(&self.codes).map_err(|e| unreadable(e.to_string()))?;
        Ok(Trial {
            run: RunId(self.id),
            number: self.number,
            host: TargetId(self.target_id),
            host_name: self.target,
            machine: digest(LIST, &self.fingerprint)?,
            digest: digest(LIST, &self.digest)?,
            volume: self.volume,
            outcome: Outcome {
                image: self.image,
                verdict,
                at: Micros(self.ended_at),
                codes,
                unverified: u32::try_from(self.unverified.max(0)).unwrap_or(u32::MAX),
            },
        })
    }
}

fn fingerprint(body: &str) -> Result<Fingerprint, StoreError> {
    serde_json::from_str(body).map_err(|e| StoreError::unreadable(LIST, "machine", e))
}
