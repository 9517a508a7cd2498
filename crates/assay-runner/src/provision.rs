//! The runner's foot in the provisioning network: dnsmasq for the machines with open runs, and
//! relays that bring them to the control plane.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use assay_api::runner::Seen;
use assay_model::{Mac, RunId};
use assay_netboot::{DEFAULT_TFTP_ROOT, Loaders, Netboot, NetbootConfig, NetbootError, NetbootEvent, Relay};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::client::Client;
use crate::{AGENT_PORT, BOOT_PORT, Network, RunnerError, Settings};

/// Sightings are told in bundles; trouble is told at once.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// How long a machine may keep its address.
const LEASE: Duration = Duration::from_hours(1);

/// What serves the provisioning network.
pub(crate) struct Provision {
    netboot: Mutex<Option<Netboot>>,
    allowed: Mutex<BTreeMap<RunId, Vec<Mac>>>,
    relays: Mutex<Vec<Relay>>,
    teller: JoinHandle<()>,
}

impl Provision {
    pub(crate) async fn start(
        settings: &Settings,
        network: &Network,
        client: Client,
    ) -> Result<Self, RunnerError> {
        let (interface, netns, address, prefix_len) = match network {
            Network::Interface { name, address, prefix_len } => (name.clone(), None, *address, *prefix_len),
            Network::Lab { netns, .. } => {
                let lab = assay_qemu::NetworkConfig::default();
                (lab.bridge, Some(netns.clone()), lab.address, lab.prefix_len)
            }
        };
        let (range_start, range_end) = range(address, prefix_len);
        let relay = |port, to| Relay::start(netns.as_deref(), SocketAddr::from((address, port)), to);
        let relays = vec![relay(BOOT_PORT, settings.boot).await?, relay(AGENT_PORT, settings.agents).await?];
        let config = NetbootConfig {
            interface,
            netns: netns.clone(),
            address,
            prefix_len,
            proxy: settings.proxy_dhcp,
            range_start,
            range_end,
            lease: LEASE,
            boot_url: format!("http://{address}:{BOOT_PORT}"),
            state_dir: settings.state_dir.join("netboot"),
            tftp_root: DEFAULT_TFTP_ROOT.into(),
            loaders: Loaders::default(),
            search_path: None,
        };
        let (netboot, events) = Netboot::start(config).await?;
        let teller = tokio::spawn(tell(settings.name.clone(), client, events));
        Ok(Self {
            netboot: Mutex::new(Some(netboot)),
            allowed: Mutex::new(BTreeMap::new()),
            relays: Mutex::new(relays),
            teller,
        })
    }

    /// Lets a run's machine boot. Returns once dnsmasq knows.
    pub(crate) async fn allow(&self, run: RunId, macs: Vec<Mac>) -> Result<(), NetbootError> {
        let mut allowed = self.allowed.lock().await;
        allowed.insert(run, macs);
        self.apply(&allowed).await
    }

    /// No longer lets a run's machine boot.
    pub(crate) async fn forbid(&self, run: RunId) -> Result<(), NetbootError> {
        let mut allowed = self.allowed.lock().await;
        allowed.remove(&run);
        self.apply(&allowed).await
    }

    pub(crate) async fn stop(&self) {
        self.teller.abort();
        if let Some(netboot) = self.netboot.lock().await.take() {
            netboot.stop().await;
        }
        for relay in self.relays.lock().await.drain(..) {
            relay.stop().await;
        }
    }

    async fn apply(&self, allowed: &BTreeMap<RunId, Vec<Mac>>) -> Result<(), NetbootError> {
        let macs: BTreeSet<Mac> = allowed.values().flatten().copied().collect();
        match &*self.netboot.lock().await {
            Some(netboot) => netboot.allow(&macs).await,
            None => Ok(()),
        }
    }
}

/// Tells the control plane who was seen and how netboot is.
async fn tell(runner: String, client: Client, mut events: mpsc::Receiver<NetbootEvent>) {
    let mut seen = Seen { runner, ..Seen::default() };
    let mut told_problem = None;
    let mut tick = tokio::time::interval(TELL_EVERY);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(NetbootEvent::Discover { mac }) => {
                    if !seen.macs.contains(&mac) {
                        seen.macs.push(mac);
                    }
                }
                Some(NetbootEvent::Died { message, restart_in, .. }) => {
                    warn!("dnsmasq died: {message}; starting it again in {restart_in:?}");
                    seen.netboot_problem = Some(format!("dnsmasq died: {message}"));
                    tick.reset_immediately();
                }
                Some(NetbootEvent::Ready) => {
                    info!("dnsmasq serves");
                    seen.netboot_problem = None;
                    tick.reset_immediately();
                }
                Some(_) => {}
                None => return,
            },
            _ = tick.tick() => {
                if seen.macs.is_empty() && told_problem == Some(seen.netboot_problem.clone()) {
                    continue;
                }
                // Not delivered: kept for the next round.
                if client.seen(&seen).await.is_ok() {
                    seen.macs.clear();
                    told_problem = Some(seen.netboot_problem.clone());
                }
            }
        }
    }
}

/// The first address that is leased.
pub(crate) fn leased_from(address: Ipv4Addr, prefix_len: u8) -> Ipv4Addr {
    range(address, prefix_len).0
}

/// Addresses to lease: the upper half of the network, away from where people put servers.
fn range(address: Ipv4Addr, prefix_len: u8) -> (Ipv4Addr, Ipv4Addr) {
    let host_bits = 32 - u32::from(prefix_len.clamp(8, 29));
    let size = 1_u32 << host_bits;
    let network = u32::from(address) & !(size - 1);
    let start = if size > 512 { network + size - 256 } else { network + size / 2 };
    (Ipv4Addr::from(start), Ipv4Addr::from(network + size - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_come_from_the_upper_half() {
        let text = |address: [u8; 4], prefix| {
            let (a, b) = range(Ipv4Addr::from(address), prefix);
            format!("{a} - {b}")
        };
        assert_eq!(text([10, 77, 0, 1], 24), "10.77.0.128 - 10.77.0.254");
        assert_eq!(text([192, 168, 4, 1], 22), "192.168.7.0 - 192.168.7.254");
        assert_eq!(text([10, 0, 0, 1], 29), "10.0.0.4 - 10.0.0.6");
    }
}
