//! What every handler is given.

use std::path::PathBuf;
use std::sync::Arc;

use assay_engine::Engine;
use assay_model::Sha256;
use assay_report::SigningKey;

use crate::live_image::LiveImage;

/// The control plane's shared state.
#[derive(Clone)]
pub struct App {
    /// Moves runs.
    pub engine: Engine,
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    /// The live image that machines boot.
    pub(crate) image: LiveImage,
    /// SHA-256 of the agents' TLS certificate: what agents pin.
    pub(crate) fingerprint: Sha256,
    /// The port under which agents reach us on the provisioning network.
    pub(crate) agent_port: u16,
    /// The code that lets someone set the first password; none once an operator exists.
    pub(crate) setup_code: tokio::sync::RwLock<Option<String>>,
    /// The verdicts' key.
    pub(crate) key: Arc<SigningKey>,
    /// Who is told what happens.
    pub(crate) sinks: Arc<crate::notify_settings::Sinks>,
    /// Who asks from pull requests.
    pub(crate) forges: crate::forges::Forges,
    /// Sign-in attempts, for the rate limit.
    pub(crate) attempts: crate::auth::Attempts,
    /// Whether everybody may see badges, without signing in.
    pub(crate) public_badges: bool,
    /// Operators' terminals on held machines.
    pub(crate) shells: crate::shell::Shells,
    /// Where everything is kept.
    #[expect(dead_code, reason = "read by later faces: backups and the janitor")]
    pub(crate) data_dir: PathBuf,
}
