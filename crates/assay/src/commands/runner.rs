//! `assay runner`: the privileged side.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use assay_runner::{Network, Settings, Slots, Warm};
use clap::Args;

use crate::commands::told_to_stop;
use crate::exit::Exit;
use crate::place;

#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Runner {
    /// Its name; runs stay with their runner over restarts [default: the host's name].
    #[arg(long)]
    name: Option<String>,
    /// The control plane [default: the server of the data folder].
    #[arg(long, env = "ASSAY_SERVER")]
    server: Option<String>,
    /// The join token [default: the one in the data folder].
    #[arg(long, env = "ASSAY_RUNNER_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Where the control plane serves firmware, if it is not on this machine.
    #[arg(long)]
    boot: Option<SocketAddr>,
    /// Where the control plane serves agents, if it is not on this machine.
    #[arg(long)]
    agents: Option<SocketAddr>,
    /// The data folder of a server on this machine.
    #[arg(long, env = "ASSAY_DATA", default_value_os_t = place::default_data())]
    data: PathBuf,
    /// A folder of the runner's own.
    #[arg(long, default_value = "/var/lib/assay-runner")]
    state: PathBuf,
    /// The network interface of the provisioning network; it must belong to Assay alone (but see
    /// --proxy-dhcp).
    #[arg(long, conflicts_with = "lab")]
    interface: Option<String>,
    /// Our address on it, with its prefix: 10.77.0.1/24.
    #[arg(long, requires = "interface")]
    address: Option<String>,
    /// Another DHCP server gives addresses on that network: only say to machines with an open run what to boot.
    #[arg(long, requires = "interface")]
    proxy_dhcp: bool,
    /// The first port for network speed servers (iperf3) on that network; runs take ports from there upwards.
    #[arg(long, default_value_t = assay_runner::IPERF_PORT)]
    iperf_port: u16,
    /// Room for runs: netboot=N machines under test at once [default: 16], mem_mib=N, cpu=N, io=N; may be given more
    /// than once.
    #[arg(long, value_name = "POOL=N")]
    capacity: Vec<Slots>,
    /// Test images on virtual machines of this host; alone, it needs neither root nor a network for machines.
    #[arg(long)]
    vm: bool,
    /// Test recipes, each in a Docker daemon of its own; needs root and no network for machines.
    #[arg(long)]
    swarm: bool,
    /// A folder with images as archives (`docker save`), for recipes under test; may be given more than once.
    #[arg(long, value_name = "FOLDER", requires = "swarm")]
    images: Vec<PathBuf>,
    /// Test recipes in the swarm of this machine's own Docker daemon, which others use, too, and not each in a daemon of its own:
    /// for recipes that are trusted, where images are too large to be brought for each run. Without a value: /var/run/docker.sock.
    #[arg(long, value_name = "SOCKET", requires = "swarm", num_args = 0..=1, default_missing_value = super::recipe::DOCKER)]
    shared_swarm: Option<PathBuf>,
    #[command(flatten)]
    registries: super::registries::RegistryArgs,
    #[command(flatten)]
    guests: super::guests::GuestArgs,
    /// Take a new major version of a provider over that recipes depend on and that is kept running between runs.
    #[arg(long, requires = "swarm")]
    major_upgrades: bool,
    /// Serve simulated machines instead: a folder with machine files.
    #[arg(long)]
    lab: Option<PathBuf>,
    /// The lab's network namespace.
    #[arg(long, default_value = "assay-lab", requires = "lab")]
    lab_netns: String,
}

impl Runner {
    pub(crate) async fn run(self) -> Result<Exit> {
        let network = self.network()?;
        if network.is_some() && !rustix::process::geteuid().is_root() {
            bail!(
                "a runner that boots machines needs root: it makes network namespaces and taps, and answers DHCP"
            );
        }
        let benches = if self.vm { Some(super::local::benches(&self.state)?) } else { None };
        anyhow::ensure!(
            self.swarm || !self.registries.are_given(),
            "what is said of registries is for --swarm"
        );
        let recipes = if self.swarm {
            let warm = Warm::new(self.major_upgrades);
            if let Some(socket) = &self.shared_swarm {
                assay_runner::can_share(socket).await.map_err(|why| anyhow::anyhow!("{why}"))?;
            }
            let (cache, shared) = (self.registries.cache()?, self.shared_swarm.clone());
            let machines = self.guests.settings_if_any(&self.state)?;
            Some(
                super::local::recipes(&self.state, &self.images, cache, warm, shared).with_machines(machines),
            )
        } else {
            None
        };
        let local = || place::Addresses::read(&self.data);
        let settings = Settings {
            name: self.name.clone().unwrap_or_else(host_name),
            server: match &self.server {
                Some(server) => server.clone(),
                None => format!("http://{}", local()?.operators),
            },
            token: match &self.token {
                Some(token) => token.clone(),
                None => place::token(&self.data, "runner")?,
            },
            boot: self.boot.map_or_else(|| local().map(|a| a.boot), Ok)?,
            agents: self.agents.map_or_else(|| local().map(|a| a.agents), Ok)?,
            state_dir: self.state.clone(),
            network,
            benches,
            recipes,
            proxy_dhcp: self.proxy_dhcp,
            iperf_port: self.iperf_port,
            capacity: assay_runner::capacity(&self.capacity).context("--capacity")?,
        };
        Box::pin(assay_runner::run(settings, told_to_stop())).await?;
        Ok(Exit::Ok)
    }

    fn network(&self) -> Result<Option<Network>> {
        if let Some(machines) = &self.lab {
            return Ok(Some(Network::Lab {
                machines: machines.clone(),
                state: self.state.join("lab"),
                netns: self.lab_netns.clone(),
            }));
        }
        let Some(name) = &self.interface else {
            if self.vm || self.swarm {
                return Ok(None);
            }
            bail!(
                "say which network machines boot from (--interface eth1 --address 10.77.0.1/24, or --lab lab/machines for simulated ones), or test images with --vm, or recipes with --swarm"
            );
        };
        let text = self.address.as_deref().context("--interface needs --address, such as 10.77.0.1/24")?;
        let (address, prefix_len) = text
            .split_once('/')
            .and_then(|(a, p)| {
                Some((a.parse::<Ipv4Addr>().ok()?, p.parse::<u8>().ok().filter(|p| (8..=29).contains(p))?))
            })
            .with_context(|| {
                format!("`{text}` is not an address with a prefix from 8 to 29, such as 10.77.0.1/24")
            })?;
        Ok(Some(Network::Interface { name: name.clone(), address, prefix_len }))
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
