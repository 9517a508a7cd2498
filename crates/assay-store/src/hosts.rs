//! Registered hosts and the addresses they may boot from. An address belongs to one host.

use assay_model::{HostId, Mac, Micros};
use sea_orm::{ConnectionTrait, FromQueryResult};
use serde_json::Value;
use uuid::Uuid;

use crate::Store;
use crate::db::{self, execute, for_update, values};
use crate::error::{Doing as _, StoreError};

const PUT: &str = "store a host";
const READ: &str = "read a host";

/// A registered host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// Its id; kept when the name is registered already.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// The addresses it may boot from, in the operator's order.
    pub macs: Vec<Mac>,
    /// The expected spec, as the operator wrote it.
    pub spec_yaml: String,
    /// How it is switched on and off.
    pub power: Value,
    /// When it was registered.
    pub created_at: Micros,
}

/// A host was not stored.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Another host has one of its addresses.
    #[error("{mac} belongs to host `{host}`; remove it there first, or check the address")]
    MacTaken {
        /// Which address.
        mac: Mac,
        /// Whose it is.
        host: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Registers a host, or replaces the addresses, spec and power settings of the one with this
    /// name. Returns its id, which is the old one where there was one.
    pub async fn host_put(&self, host: &HostRow) -> Result<HostId, HostError> {
        #[derive(FromQueryResult)]
        struct Id {
            id: Uuid,
        }
        let tx = self.db().begin(PUT).await?;
        let sql = "INSERT INTO hosts (id, name, spec_yaml, power, created_at) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (name) DO UPDATE SET spec_yaml = excluded.spec_yaml, power = excluded.power";
        let values = values![
            host.id.0,
            host.name.as_str(),
            host.spec_yaml.as_str(),
            host.power.to_string(),
            host.created_at.0,
        ];
        execute(&tx, sql, values).await.doing(PUT)?;
        let sql = for_update(
            &tx,
            "SELECT id FROM hosts WHERE name = $1",
            "SELECT id FROM hosts WHERE name = $1 FOR UPDATE",
        );
        let stored: Option<Id> = db::one(&tx, sql, values![host.name.as_str()]).await.doing(PUT)?;
        let id = stored.ok_or_else(|| StoreError::unreadable(PUT, "host", "it is gone again"))?.id;
        execute(&tx, "DELETE FROM host_macs WHERE host = $1", values![id]).await.doing(PUT)?;
        for (ordinal, mac) in (0_i64..).zip(&host.macs) {
            let sql =
                "INSERT INTO host_macs (mac, host, ordinal) VALUES ($1, $2, $3) ON CONFLICT (mac) DO NOTHING";
            let new = execute(&tx, sql, values![mac.to_string(), id, ordinal]).await.doing(PUT)?;
            if new == 0
                && let Some(owner) = owner_of(&tx, *mac).await?
                && owner != host.name
            {
                return Err(HostError::MacTaken { mac: *mac, host: owner });
            }
        }
        tx.commit().await.doing(PUT)?;
        Ok(HostId(id))
    }

    /// The host with this name.
    pub async fn host_by_name(&self, name: &str) -> Result<Option<HostRow>, StoreError> {
        let hosts = read(self.db().reader(), "WHERE h.name = $1", values![name]).await?;
        Ok(hosts.into_iter().next())
    }

    /// The host that may boot from this address.
    pub async fn host_by_mac(&self, mac: Mac) -> Result<Option<HostRow>, StoreError> {
        let which = "WHERE h.id = (SELECT host FROM host_macs WHERE mac = $1)";
        let hosts = read(self.db().reader(), which, values![mac.to_string()]).await?;
        Ok(hosts.into_iter().next())
    }

    /// Every host, by name.
    pub async fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        read(self.db().reader(), "", values![]).await
    }

    /// Forgets a host and its addresses; its runs stay. False when there is none of this name.
    pub async fn host_remove(&self, name: &str) -> Result<bool, StoreError> {
        let removed = execute(self.db().writer(), "DELETE FROM hosts WHERE name = $1", values![name]).await;
        Ok(removed.doing("remove a host")? == 1)
    }
}

async fn owner_of(db: &impl ConnectionTrait, mac: Mac) -> Result<Option<String>, StoreError> {
    #[derive(FromQueryResult)]
    struct Owner {
        name: String,
    }
    let sql = "SELECT h.name AS name FROM host_macs m JOIN hosts h ON h.id = m.host WHERE m.mac = $1";
    let owner: Option<Owner> = db::one(db, sql, values![mac.to_string()]).await.doing(PUT)?;
    Ok(owner.map(|o| o.name))
}

async fn read(
    db: &impl ConnectionTrait,
    which: &str,
    values: Vec<sea_orm::Value>,
) -> Result<Vec<HostRow>, StoreError> {
    #[derive(FromQueryResult)]
    struct Row {
        id: Uuid,
        name: String,
        spec_yaml: String,
        power: String,
        created_at: i64,
        mac: Option<String>,
    }
    let sql = format!(
        "SELECT h.id AS id, h.name AS name, h.spec_yaml AS spec_yaml, h.power AS power, h.created_at AS created_at,
            m.mac AS mac
        FROM hosts h LEFT JOIN host_macs m ON m.host = h.id {which} ORDER BY h.name, m.ordinal"
    );
    let rows: Vec<Row> = db::all(db, &sql, values).await.doing(READ)?;
    let mut hosts: Vec<HostRow> = Vec::new();
    for row in rows {
        let unreadable = |why: String| StoreError::unreadable(READ, "host", format!("`{}`: {why}", row.name));
        let mac: Option<Mac> = row
            .mac
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|e: assay_model::mac::BadMac| unreadable(e.to_string()))?;
        match hosts.last_mut().filter(|host| host.id.0 == row.id) {
            Some(host) => host.macs.extend(mac),
            None => hosts.push(HostRow {
                power: serde_json::from_str(&row.power).map_err(|e| unreadable(e.to_string()))?,
                id: HostId(row.id),
                name: row.name,
                macs: mac.into_iter().collect(),
                spec_yaml: row.spec_yaml,
                created_at: Micros(row.created_at),
            }),
        }
    }
    Ok(hosts)
}
