//! The runner: the side of Assay that needs privileges.
//!
//! It asks the control plane for runs, lets their machines netboot, and switches their power. It
//! has one foot in the provisioning network ([`provision`]: dnsmasq, and relays to the control
//! plane) and knows how to switch machines ([`power`]). It keeps one token per run while the run
//! lasts, no database, no signing key, and it judges nothing.

mod as_agent;
mod capacity;
mod client;
mod console;
mod images;
mod install;
mod iperf;
mod leftovers;
mod media;
mod metal;
mod power;
mod provision;
mod recipes;
mod work;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use assay_netboot::{NetbootError, RelayError};
use assay_qemu::QemuError;

pub use assay_pipelines::image::bench::BenchSettings;
pub use assay_pipelines::recipe::bench::{
    BOOT, CPUS, DISK_MIB, MEMORY_MIB, MachineSettings, RecipeBenchSettings, Warm, serve_inside,
};
pub use capacity::{BadSlots, Slots, capacity};
pub use recipes::{Recipes, can_share, can_test_recipes, try_recipes};

use crate::client::Client;
use crate::iperf::SpeedServers;
use crate::power::Power;
use crate::provision::Provision;

/// The port on the provisioning network under which firmware finds boot scripts.
pub const BOOT_PORT: u16 = 8080;
/// The port on the provisioning network under which agents find the control plane.
pub const AGENT_PORT: u16 = 8443;

/// How a runner is to be run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name: unique and stable, since runs stay with their runner over restarts.
    pub name: String,
    /// The control plane for runners: `http://127.0.0.1:7300`.
    pub server: String,
    /// The join token.
    pub token: String,
    /// Where the control plane serves boot files.
    pub boot: SocketAddr,
    /// Where the control plane serves agents.
    pub agents: SocketAddr,
    /// A folder of its own.
    pub state_dir: PathBuf,
    /// The provisioning network; none for a runner that boots no machines.
    pub network: Option<Network>,
    /// What it tests images with; none for a runner that tests none.
    pub benches: Option<BenchSettings>,
    /// What it tests recipes with; none for a runner that tests none.
    pub recipes: Option<Recipes>,
    /// Another DHCP server gives addresses there; ours only says what to boot.
    pub proxy_dhcp: bool,
    /// The first port for network speed servers.
    pub iperf_port: u16,
    /// Slots by pool; where it is silent, the control plane's defaults hold.
    pub capacity: std::collections::BTreeMap<String, u64>,
}

/// The first port for network speed servers where none is set: `iperf3`'s own.
pub const IPERF_PORT: u16 = 5201;

/// The network that machines boot from.
#[derive(Clone, Debug)]
pub enum Network {
    /// A network interface of this host that belongs to Assay.
    Interface {
        /// Its name.
        name: String,
        /// Our address on it.
        address: Ipv4Addr,
        /// The prefix length.
        prefix_len: u8,
    },
    /// Simulated machines on a private network.
    Lab {
        /// The folder with the machine files.
        machines: PathBuf,
        /// The lab's state folder.
        state: PathBuf,
        /// The network namespace.
        netns: String,
    },
}

/// Why the runner did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// Netboot.
    #[error(transparent)]
    Netboot(#[from] NetbootError),
    /// The relays.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] QemuError),
    /// Its folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The control plane does not want it.
    #[error("{0}")]
    Server(String),
}

/// Works until `stop` resolves, then takes down what it brought up. Machines stay as they are:
/// a runner that ends says nothing about the machine on the bench.
pub async fn run(settings: Settings, stop: impl Future<Output = ()> + Send) -> Result<(), RunnerError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    private_folder(&settings.state_dir)
        .map_err(|source| RunnerError::File { path: settings.state_dir.clone(), source })?;
    let power = Power::open(&settings)?;
    let client = Client::new(&settings.server, &settings.token)?;
    power.bring_up().await?;
    if let Some(benches) = &settings.benches {
        leftovers::clear(&benches.folder).await;
    }
    if let Some(recipes) = &settings.recipes {
        recipes.clear().await;
    }
    let machines = match &settings.network {
        None => None,
        Some(network) => Some(Arc::new(Machines {
            provision: Provision::start(&settings, network, client.clone()).await?,
            speed: SpeedServers::new(&settings, network),
            power,
        })),
    };
    tracing::info!(runner.name = settings.name, "ready: waiting for runs from {}", settings.server);
    tokio::select! {
        ended = work::claim_forever(&settings, &client, machines.as_ref()) => ended?,
        () = stop => {}
    }
    if let Some(recipes) = &settings.recipes {
        recipes.clear().await;
    }
    if let Some(machines) = machines {
        machines.speed.close_all().await;
        machines.provision.stop().await;
    }
    Ok(())
}

/// What a runner needs that boots machines.
pub(crate) struct Machines {
    pub(crate) provision: Provision,
    pub(crate) power: Power,
    pub(crate) speed: SpeedServers,
}

/// The disks and consoles of machines are nobody else's business, the control plane's least of all.
fn private_folder(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}
