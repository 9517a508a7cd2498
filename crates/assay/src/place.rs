//! Where things are: the data folder, and through it the server's address and the local token.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// The file in the data folder that says where the server listens.
const ADDRESSES: &str = "addresses.json";

/// The data folder unless told otherwise: the system's for root, the user's for everyone else.
pub(crate) fn default_data() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/lib/assay".into();
    }
    let home = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|h| Path::new(&h).join(".local/share")));
    home.unwrap_or_else(|| ".".into()).join("assay")
}

/// Where a server of this data folder listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) operators: std::net::SocketAddr,
    pub(crate) boot: std::net::SocketAddr,
    pub(crate) agents: std::net::SocketAddr,
}

impl Addresses {
    pub(crate) fn write(&self, data: &Path) -> Result<()> {
        let path = data.join(ADDRESSES);
        std::fs::write(&path, serde_json::to_vec(self)?).with_context(|| path.display().to_string())
    }

    pub(crate) fn read(data: &Path) -> Result<Self> {
        let path = data.join(ADDRESSES);
        let text = std::fs::read(&path).with_context(|| {
            format!(
                "{}: has a server been started with this data folder? (--data, ASSAY_DATA)",
                path.display()
            )
        })?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }
}

/// A token that the server left in its data folder.
pub(crate) fn token(data: &Path, name: &str) -> Result<String> {
    let path = data.join(format!("{name}.token"));
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("{}: no token here; pass one with --token or ASSAY_TOKEN", path.display())
    })?;
    Ok(text.trim().to_owned())
}
