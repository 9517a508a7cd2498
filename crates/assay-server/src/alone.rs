//! One control plane works on a database at a time. A data folder is locked by itself; a database that two folders name
//! is not, and two dispatchers that each hear half of the agents would give up each other's machines.
//!
//! The place is a row with an end. Whoever has it renews it; the same data folder may always have it again, so a
//! restart waits for nobody. Another folder is refused until the row has run out.

use std::io;
use std::path::Path;
use std::time::Duration;

use assay_engine::Engine;
use assay_model::{Micros, Sha256};
use tracing::warn;

use crate::secret_file::write_secret;

/// How long the place is kept without a word.
const TERM: Micros = Micros::seconds(45);
/// How often it is renewed: three tries before it runs out.
const RENEW: Duration = Duration::from_secs(15);

/// The place that this process has.
pub(crate) struct Place {
    holder: String,
}

/// Why it was not had.
#[derive(Debug)]
pub(crate) enum NotAlone {
    /// The file with our name.
    File(io::Error),
    /// The database.
    Store(assay_store::StoreError),
    /// Another one has it.
    Taken,
}

impl Place {
    /// Takes it.
    pub(crate) async fn take(engine: &Engine, data: &Path) -> Result<Self, NotAlone> {
        let place = Self { holder: name(data).map_err(NotAlone::File)? };
        match place.renew(engine).await {
            Ok(true) => Ok(place),
            Ok(false) => Err(NotAlone::Taken),
            Err(problem) => Err(NotAlone::Store(problem)),
        }
    }

    /// A short name of this control plane, for others to tell it from another one by.
    pub(crate) fn short_name(&self) -> String {
        Sha256::of(self.holder.as_bytes()).to_string()[..12].to_owned()
    }

    /// Keeps it until another one has it: after a pause so long that we were given up. Then this process must stop.
    pub(crate) async fn keep(&self, engine: &Engine) {
        loop {
            tokio::time::sleep(RENEW).await;
            match self.renew(engine).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(problem) => {
                    warn!(error = %problem, "the control plane's place could not be renewed; trying again");
                }
            }
        }
    }

    async fn renew(&self, engine: &Engine) -> Result<bool, assay_store::StoreError> {
        let now = engine.now();
        engine.store().control_plane_lease(&self.holder, now, now.plus(TERM)).await
    }
}

/// The data folder's own name, made once.
fn name(data: &Path) -> io::Result<String> {
    let path = data.join("server-id");
    match std::fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => Ok(name.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => {
            let name = crate::auth::secret();
            write_secret(&path, name.as_bytes())?;
            Ok(name)
        }
    }
}
