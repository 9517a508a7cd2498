//! Machines that asked to boot and that nobody has registered: shown, so that registering is one click.

use assay_model::{Mac, Micros};
use sea_orm::FromQueryResult;

use crate::Store;
use crate::db::{self, execute, printable, values};
use crate::error::{Doing as _, StoreError};

const SEEN: &str = "note an unknown machine";
const LIST: &str = "list unknown machines";
/// Anyone on the provisioning network can make addresses up; only the latest are kept.
const KEPT: i64 = 1000;

/// An address that nobody has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRow {
    /// The address.
    pub mac: Mac,
    /// The runner that saw it last.
    pub runner: String,
    /// When it first asked.
    pub first_seen: Micros,
    /// When it last asked.
    pub last_seen: Micros,
    /// How often it was seen.
    pub times: u64,
}

impl Store {
    /// Notes that a runner saw these addresses ask for a boot.
    pub async fn unknown_seen(&self, macs: &[Mac], runner: &str, at: Micros) -> Result<(), StoreError> {
        // In one order everywhere, so that two servers cannot wait for each other's rows.
        let mut macs = macs.to_vec();
        macs.sort_unstable();
        let tx = self.db().begin(SEEN).await?;
        for mac in macs {
            let sql = "INSERT INTO unknown_machines (mac, runner, first_seen, last_seen, times)
                VALUES ($1, $2, $3, $3, 1)
                ON CONFLICT (mac) DO UPDATE SET runner = excluded.runner, last_seen = excluded.last_seen,
                    times = unknown_machines.times + 1";
            execute(&tx, sql, values![mac.to_string(), printable(runner), at.0]).await.doing(SEEN)?;
        }
        let sql = "DELETE FROM unknown_machines WHERE mac NOT IN
            (SELECT mac FROM unknown_machines ORDER BY last_seen DESC, mac LIMIT $1)";
        execute(&tx, sql, values![KEPT]).await.doing(SEEN)?;
        tx.commit().await.doing(SEEN)
    }

    /// Unknown machines, the one seen last at the front.
    pub async fn unknown_list(&self) -> Result<Vec<UnknownRow>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            mac: String,
            runner: String,
            first_seen: i64,
            last_seen: i64,
            times: i64,
        }
        let sql = "SELECT mac, runner, first_seen, last_seen, times FROM unknown_machines
            ORDER BY last_seen DESC, mac";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![]).await.doing(LIST)?;
        let decode = |r: Row| {
            Ok(UnknownRow {
                mac: r.mac.parse().map_err(|e| StoreError::unreadable(LIST, "unknown machine", e))?,
                runner: r.runner,
                first_seen: Micros(r.first_seen),
                last_seen: Micros(r.last_seen),
                times: r.times as u64,
            })
        };
        rows.into_iter().map(decode).collect()
    }

    /// Forgets an unknown machine. False when it was not listed.
    pub async fn unknown_forget(&self, mac: Mac) -> Result<bool, StoreError> {
        let sql = "DELETE FROM unknown_machines WHERE mac = $1";
        let removed = execute(self.db().writer(), sql, values![mac.to_string()]).await;
        Ok(removed.doing("forget an unknown machine")? == 1)
    }
}
