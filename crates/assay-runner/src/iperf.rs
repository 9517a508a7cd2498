//! Network speed servers: supervised `iperf3` on the provisioning network, a few for each run.
//!
//! `iperf3` serves one client at a time and turns others away, so a run has servers of its own, one for each expected
//! port, on ports from `iperf_port` upwards. With each goes an address that the client's port may take meanwhile: it
//! comes from below the range that is leased, where nothing else is on a network that belongs to Assay. A server that
//! dies is started again; all of a run's servers stop with the run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use assay_model::RunId;
use assay_model::host::order::{ClientAddress, IperfServer};
use assay_process::{Child, Cmd};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::provision::leased_from;
use crate::{Network, Settings};

/// Ports that are tried for one server, and servers that all runs together may have.
const PORTS: u16 = 512;
/// A server that does not say by then that it listens will not.
const READY: Duration = Duration::from_secs(5);
/// Before a server that died is started again.
const AGAIN: Duration = Duration::from_secs(1);
/// For a server to end by itself.
const GRACE: Duration = Duration::from_secs(1);
/// A client that sends nothing for so long, in milliseconds, is gone, and the server is free for the next.
const SILENT_CLIENT_MS: &str = "15000";

/// All speed servers of this runner.
pub(crate) struct SpeedServers {
    address: Ipv4Addr,
    prefix_len: u8,
    netns: Option<String>,
    first_port: u16,
    /// Addresses that clients may be given; none beside somebody else's DHCP server.
    clients: Vec<Ipv4Addr>,
    link_mbps: Option<u32>,
    open: Mutex<BTreeMap<RunId, Vec<Server>>>,
}

struct Server {
    told: IperfServer,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl SpeedServers {
    pub(crate) fn new(settings: &Settings, network: &Network) -> Self {
        let (interface, netns, address, prefix_len) = match network {
            Network::Interface { name, address, prefix_len } => {
                (Some(name.clone()), None, *address, *prefix_len)
            }
            Network::Lab { netns, .. } => {
                let lab = assay_qemu::NetworkConfig::default();
                (None, Some(netns.clone()), lab.address, lab.prefix_len)
            }
        };
        Self {
            address,
            prefix_len,
            netns,
            first_port: settings.iperf_port,
            clients: if settings.proxy_dhcp { Vec::new() } else { below_leases(address, prefix_len) },
            link_mbps: interface.and_then(|name| link_speed(&name)),
            open: Mutex::new(BTreeMap::new()),
        }
    }

    /// Servers for a run; the same ones when it has them already. Fewer than wanted when there is no room.
    pub(crate) async fn open(&self, run: RunId, wanted: u32) -> Vec<IperfServer> {
        let mut open = self.open.lock().await;
        if !open.contains_key(&run) {
            let mut servers = Vec::new();
            for _ in 0..wanted.clamp(1, 64) {
                let all = open.values().flatten().chain(&servers);
                let Some(server) = self.start(all.map(|server| &server.told)).await else { break };
                servers.push(server);
            }
            info!(run = %run, "{} network speed servers stand ready", servers.len());
            open.insert(run, servers);
        }
        open[&run].iter().map(|server| server.told.clone()).collect()
    }

    /// Stops a run's servers.
    pub(crate) async fn close(&self, run: RunId) {
        let servers = self.open.lock().await.remove(&run);
        stop(servers.into_iter().flatten()).await;
    }

    /// Stops all servers.
    pub(crate) async fn close_all(&self) {
        let all = std::mem::take(&mut *self.open.lock().await);
        stop(all.into_values().flatten()).await;
    }

    async fn start(&self, taken: impl Iterator<Item = &IperfServer>) -> Option<Server> {
        let (mut ports, mut clients) = (BTreeSet::new(), BTreeSet::new());
        for server in taken {
            ports.insert(server.port);
            clients.extend(server.client.map(|client| client.address));
        }
        let client = self
            .clients
            .iter()
            .map(|address| IpAddr::V4(*address))
            .find(|address| !clients.contains(address));
        let mut why = "every port is taken".to_owned();
        for port in (self.first_port..=u16::MAX).take(PORTS.into()).filter(|port| !ports.contains(port)) {
            let command = self.command(port);
            match listening(&command).await {
                Ok(child) => {
                    let told = IperfServer {
                        address: self.address.into(),
                        port,
                        client: client.map(|address| ClientAddress { address, prefix_len: self.prefix_len }),
                        link_mbps: self.link_mbps,
                    };
                    let (stop, stopped) = watch::channel(false);
                    let task = tokio::spawn(supervise(command, child, port, stopped));
                    return Some(Server { told, stop, task });
                }
                Err(NotListening::Taken) => {}
                Err(NotListening::Failed(problem)) => {
                    why = problem;
                    break;
                }
            }
        }
        warn!("a network speed server cannot be started: {why}");
        None
    }

    fn command(&self, port: u16) -> Cmd {
        Cmd::new("iperf3")
            .args(["-s", "-B", &self.address.to_string(), "-p", &port.to_string()])
            // Without it, what it says stays in its buffer.
            .args(["--forceflush", "--rcv-timeout", SILENT_CLIENT_MS])
            .netns(self.netns.as_deref())
    }
}

enum NotListening {
    /// Somebody else has the port.
    Taken,
    /// It will not do better on another port.
    Failed(String),
}

/// Starts a server and waits until it says that it listens.
async fn listening(command: &Cmd) -> Result<Child, NotListening> {
    let failed = |problem: String| NotListening::Failed(problem);
    let mut child = command.spawn().await.map_err(|problem| failed(problem.to_string()))?;
    let mut said = String::new();
    let ready = async {
        while let Some(line) = child.next_line().await {
            if line.text.contains("Server listening") {
                return true;
            }
            // The reason, and after it that it ends.
            if line.text.contains("error") || said.is_empty() {
                said = line.text;
            }
        }
        false
    };
    match timeout(READY, ready).await {
        Ok(true) => {
            // What it says of its tests is nobody's concern; a receiver that is gone keeps it from blocking.
            drop(child.take_lines());
            Ok(child)
        }
        Ok(false) if said.contains("in use") => Err(NotListening::Taken),
        Ok(false) => Err(failed(format!("iperf3 ended: {said}"))),
        Err(_) => Err(failed(format!("iperf3 did not listen within {} s", READY.as_secs()))),
    }
}

/// Keeps one server up until it is told to stop.
async fn supervise(command: Cmd, mut child: Child, port: u16, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = child.wait() => {}
            () = told_to_stop(&mut stopped) => {
                if let Err(problem) = child.stop(GRACE).await {
                    warn!("the network speed server on port {port} cannot be stopped: {problem}");
                }
                return;
            }
        }
        warn!("the network speed server on port {port} died; starting it again");
        child = loop {
            tokio::select! {
                () = sleep(AGAIN) => {}
                () = told_to_stop(&mut stopped) => return,
            }
            match listening(&command).await {
                Ok(child) => break child,
                Err(NotListening::Taken) => warn!("port {port} is taken by somebody else"),
                Err(NotListening::Failed(problem)) => warn!("the speed server on port {port}: {problem}"),
            }
        };
    }
}

/// Also when nobody is left who could tell.
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn stop(servers: impl Iterator<Item = Server>) {
    let tasks: Vec<_> = servers
        .map(|server| {
            server.stop.send_replace(true);
            server.task
        })
        .collect();
    for task in tasks {
        if let Err(problem) = task.await {
            warn!("a network speed server's keeper broke off: {problem}");
        }
    }
}

/// Addresses below the leased range, from the top, without the network's and our own: at most a quarter of the
/// network.
fn below_leases(address: Ipv4Addr, prefix_len: u8) -> Vec<Ipv4Addr> {
    let first_lease = u32::from(leased_from(address, prefix_len));
    let size = 1_u32 << (32 - u32::from(prefix_len.clamp(8, 29)));
    let network = u32::from(address) & !(size - 1);
    let count = (size / 4).clamp(1, 64);
    let from = first_lease.saturating_sub(count).max(network + 1);
    (from..first_lease).rev().map(Ipv4Addr::from).filter(|free| *free != address).collect()
}

/// `None` where there is no number: virtual interfaces, bridges without a port.
fn link_speed(interface: &str) -> Option<u32> {
    let file = Path::new("/sys/class/net").join(interface).join("speed");
    let told: i64 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    u32::try_from(told).ok().filter(|mbps| *mbps > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network::Interface { name: "lo".into(), address: Ipv4Addr::LOCALHOST, prefix_len: 24 }
    }

    fn settings(port: u16) -> Settings {
        Settings {
            name: "here".into(),
            server: "http://127.0.0.1:1".into(),
            token: String::new(),
            boot: ([127, 0, 0, 1], 1).into(),
            agents: ([127, 0, 0, 1], 1).into(),
            state_dir: "/nonexistent".into(),
            network: None,
            benches: None,
            recipes: None,
            proxy_dhcp: false,
            iperf_port: port,
            capacity: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn clients_get_addresses_that_nobody_leases() {
        let of = |address: [u8; 4], prefix| {
            let all = below_leases(address.into(), prefix);
            (all.first().map(ToString::to_string), all.last().map(ToString::to_string), all.len())
        };
        assert_eq!(of([10, 77, 0, 1], 24), (Some("10.77.0.127".into()), Some("10.77.0.64".into()), 64));
        assert_eq!(of([10, 77, 0, 100], 24).2, 63, "never our own");
        assert_eq!(of([10, 0, 0, 1], 29), (Some("10.0.0.3".into()), Some("10.0.0.2".into()), 2));
    }

    #[tokio::test]
    async fn a_run_has_servers_of_its_own_that_come_back_and_end_with_it() {
        let (one, two) = (RunId(uuid::Uuid::from_u128(1)), RunId(uuid::Uuid::from_u128(2)));
        // A port that somebody has: the next one is taken.
        let taken = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let servers = SpeedServers::new(&settings(port), &network());
        let first = servers.open(one, 2).await;
        assert_eq!(first.len(), 2, "iperf3 is installed");
        assert!(first.iter().all(|server| server.port > port));
        assert_eq!(servers.open(one, 2).await, first, "asked again, the same");
        let second = servers.open(two, 1).await;
        assert!(
            !first.iter().any(|server| server.port == second[0].port || server.client == second[0].client)
        );
        for server in first.iter().chain(&second) {
            tokio::net::TcpStream::connect((server.address, server.port)).await.expect("it listens");
        }
        servers.close(one).await;
        assert!(
            tokio::net::TcpStream::connect((first[0].address, first[0].port)).await.is_err(),
            "stopped with the run"
        );
        tokio::net::TcpStream::connect((second[0].address, second[0].port))
            .await
            .expect("the other run's stays");
        servers.close_all().await;
        assert!(tokio::net::TcpStream::connect((second[0].address, second[0].port)).await.is_err());
    }
}
