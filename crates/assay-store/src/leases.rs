//! Leases: who may act on a run, and until when. Every write names its generation; a stale one is refused.

use assay_model::{Micros, RunId};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::Store;
use crate::db::{self, execute, values};
use crate::error::{Doing as _, StoreError};

/// A lease as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// The run.
    pub run: RunId,
    /// Fencing token.
    pub generation: i64,
    /// Who holds it.
    pub holder: String,
    /// When it ends unless renewed.
    pub expires: Micros,
}

impl Store {
    /// Takes a run's lease. False, and nothing changes, when a newer generation holds it.
    pub async fn lease_put(
        &self,
        run: RunId,
        generation: i64,
        holder: &str,
        expires: Micros,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO leases (run, generation, holder, expires) VALUES ($1, $2, $3, $4)
            ON CONFLICT (run) DO UPDATE SET generation = excluded.generation, holder = excluded.holder,
                expires = excluded.expires
            WHERE leases.generation <= excluded.generation";
        let values = values![run.0, generation, holder, expires.0];
        Ok(execute(self.db().writer(), sql, values).await.doing("take a lease")? == 1)
    }

    /// Extends a lease; never shortens it. False, and nothing changes, when another generation holds it.
    pub async fn lease_renew(
        &self,
        run: RunId,
        generation: i64,
        expires: Micros,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE leases SET expires = CASE WHEN expires > $3 THEN expires ELSE $3 END
            WHERE run = $1 AND generation = $2";
        Ok(execute(self.db().writer(), sql, values![run.0, generation, expires.0])
            .await
            .doing("renew a lease")?
            == 1)
    }

    /// Gives a lease back. False when another generation holds it.
    pub async fn lease_drop(&self, run: RunId, generation: i64) -> Result<bool, StoreError> {
        let sql = "DELETE FROM leases WHERE run = $1 AND generation = $2";
        Ok(execute(self.db().writer(), sql, values![run.0, generation]).await.doing("give a lease back")?
            == 1)
    }

    /// Takes, or keeps, the place of the one control plane that works on this database. False, and nothing changes,
    /// while another one has it.
    pub async fn control_plane_lease(
        &self,
        holder: &str,
        now: Micros,
        expires: Micros,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO control_plane (one, holder, expires) VALUES (1, $1, $3)
            ON CONFLICT (one) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
            WHERE control_plane.holder = excluded.holder OR control_plane.expires <= $2";
        let values = values![holder, now.0, expires.0];
        Ok(execute(self.db().writer(), sql, values).await.doing("take the control plane's lease")? == 1)
    }

    /// Every lease, the one that ends first at the front.
    pub async fn leases(&self) -> Result<Vec<LeaseRow>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            run: Uuid,
            generation: i64,
            holder: String,
            expires: i64,
        }
        let sql = "SELECT run, generation, holder, expires FROM leases ORDER BY expires, run";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![]).await.doing("list leases")?;
        let lease = |r: Row| LeaseRow {
            run: RunId(r.run),
            generation: r.generation,
            holder: r.holder,
            expires: Micros(r.expires),
        };
        Ok(rows.into_iter().map(lease).collect())
    }
}
