//! Measures network ports with `iperf3`, one after the other, each with traffic that provably went through it.
//!
//! Several ports of a machine on one network share a routing table, and Linux answers for any address on any port.
//! So each port gets, for its measurement only, an address of its own (out of a range that the runner keeps free), a
//! routing table that knows nothing but the way to the server through this port, and ARP that answers for its own
//! addresses alone. The port's own byte counters say afterwards whether the traffic went through it.
//!
//! The tool's exit status says nothing: with `-J` it is 0 even when the server refused. Its `error` key decides.

mod parse;
mod path;
#[cfg(test)]
mod tests;

use std::time::Duration;

use assay_model::host::counters::NicCounters;
use assay_model::host::network::{NicTest, Obstacle, Transfer};
use assay_model::host::order::IperfServer;
use assay_model::text::clean_to;
use assay_process::{Cmd, ProcessError};
use tokio::time::{Instant, sleep};

use self::parse::Answer;
use self::path::Path;
use crate::files::{attribute, entries, link_name, number, pci_address, text};
use crate::{Machine, counters, ethtool};

/// How a measurement is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Seconds counted in each direction.
    pub seconds: u32,
    /// How long a port that was off is waited for: negotiation takes seconds, a switch with spanning tree 30.
    pub link_wait: Duration,
    /// How long the server is tried to be reached for.
    pub reach_wait: Duration,
    /// How long a server that is busy or refuses is asked again.
    pub server_wait: Duration,
    /// Between two looks.
    pub poll: Duration,
}

impl Plan {
    /// The usual patience.
    pub const fn lasting(seconds: u32) -> Self {
        Self {
            seconds,
            link_wait: Duration::from_secs(15),
            reach_wait: Duration::from_secs(45),
            server_wait: Duration::from_secs(20),
            poll: Duration::from_millis(250),
        }
    }
}

/// Seconds that are not counted: TCP finds its speed in them.
const WARM_UP_S: u32 = 1;
/// For connecting once.
const CONNECT: Duration = Duration::from_secs(4);
/// On top of the measurement itself.
const SLACK: Duration = Duration::from_secs(20);
/// Some drivers bring their counters up to date every two seconds.
const COUNTERS_LAG: Duration = Duration::from_secs(3);

/// Measures one port. Of `test`, who the port is must be filled in; the rest is filled here. Returns raw files by
/// their names.
pub async fn measure(
    machine: &Machine,
    test: &mut NicTest,
    servers: &[IperfServer],
    link_only: bool,
    plan: Plan,
    progress: &(dyn Fn(&str) + Sync),
) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let name = test.name.clone();
    progress(&format!("{name}: waiting for a link"));
    let path = match Path::raise(machine, &name).await {
        Ok(path) => path,
        Err(problem) => {
            test.obstacle = Some(Obstacle::Tool(problem));
            return files;
        }
    };
    test.raised = path.raised;
    let waited = Instant::now();
    if !wait_for_link(machine, &name, plan).await {
        test.waited_s = waited.elapsed().as_secs_f64();
        test.obstacle = Some(Obstacle::NoLink);
        path.lower().await;
        return files;
    }
    test.waited_s = waited.elapsed().as_secs_f64();
    test.link = Some(ethtool::link(machine, &name).await);
    if link_only {
        test.obstacle = Some(Obstacle::LinkOnly);
    } else if servers.is_empty() {
        test.obstacle = Some(Obstacle::NoServer("the runner offered no speed server".to_owned()));
    } else {
        transfer_both(machine, test, servers, plan, progress, &mut files).await;
    }
    path.lower().await;
    files
}

/// All ports that are hardware, each ready to be measured.
pub async fn ports(machine: &Machine) -> Vec<NicTest> {
    let mut ports = Vec::new();
    for (name, folder) in entries(&machine.path("sys/class/net")) {
        let Ok(device) = folder.join("device").canonicalize() else { continue };
        // Ethernet; InfiniBand has speed servers of another kind.
        if number::<u32>(&folder.join("type")).is_some_and(|kind| kind != 1) {
            continue;
        }
        let permanent = ethtool::permanent_address(machine, &name).await;
        ports.push(NicTest {
            mac: permanent.or_else(|| attribute(&folder.join("address")).map(|mac| mac.to_lowercase())),
            pci: pci_address(&device),
            driver: link_name(&folder.join("device/driver")),
            name,
            ..NicTest::default()
        });
    }
    ports
}

async fn transfer_both(
    machine: &Machine,
    test: &mut NicTest,
    servers: &[IperfServer],
    plan: Plan,
    progress: &(dyn Fn(&str) + Sync),
    files: &mut Vec<(String, Vec<u8>)>,
) {
    let folder = machine.path("sys/class/net").join(&test.name);
    let before = counters_of(&folder, &test.name);
    // The address of the port is that of its first server; the other servers are tried when that one is busy.
    let Some(client) = servers.iter().find_map(|server| server.client) else {
        test.obstacle = Some(Obstacle::NoServer("the runner has no free address for this port".to_owned()));
        return;
    };
    for reverse in [false, true] {
        let way = if reverse { "from the runner" } else { "to the runner" };
        progress(&format!("{}: {} s {way}", test.name, plan.seconds));
        let route = match path::Route::make(machine, &test.name, client, servers[0].address).await {
            Ok(route) => route,
            Err(problem) => {
                test.obstacle = Some(Obstacle::Tool(problem));
                break;
            }
        };
        let outcome = attempt(machine, test, servers, client.address, reverse, plan).await;
        route.remove().await;
        match outcome {
            Ok((server, transfer, raw)) => {
                test.server = Some(server);
                let file = format!("iperf-{}{}.json", test.name, if reverse { "-reverse" } else { "" });
                test.artifacts.push(file.clone());
                files.push((file, raw));
                *(if reverse { &mut test.received } else { &mut test.sent }) = Some(transfer);
            }
            Err((obstacle, raw)) => {
                if let Some(raw) = raw {
                    let file = format!("iperf-{}-failed.json", test.name);
                    test.artifacts.push(file.clone());
                    files.push((file, raw));
                }
                test.obstacle = Some(obstacle);
                break;
            }
        }
    }
    let after = counters_of(&folder, &test.name);
    test.flaps =
        before.carrier_changes.zip(after.carrier_changes).map(|(before, after)| after.saturating_sub(before));
    let grown = |(name, after): (&String, &u64)| {
        let by = after.saturating_sub(before.errors.get(name).copied().unwrap_or(0));
        (by > 0).then(|| (name.clone(), by))
    };
    test.errors = after.errors.iter().filter_map(grown).collect();
}

type Failed = (Obstacle, Option<Vec<u8>>);

/// Tries until one server measured, or patience is over.
async fn attempt(
    machine: &Machine,
    test: &NicTest,
    servers: &[IperfServer],
    client: std::net::IpAddr,
    reverse: bool,
    plan: Plan,
) -> Result<(IperfServer, Transfer, Vec<u8>), Failed> {
    let started = Instant::now();
    let mut round = 0_usize;
    loop {
        let server = &servers[round % servers.len()];
        let folder = machine.path("sys/class/net").join(&test.name);
        let counted = if reverse { "statistics/rx_bytes" } else { "statistics/tx_bytes" };
        let before: Option<u64> = number(&folder.join(counted));
        let raw = iperf(machine, &test.name, server, client, reverse, plan)
            .await
            .map_err(|why| (Obstacle::Tool(why), None))?;
        let (obstacle, patience) = match parse::answer(&raw, reverse) {
            Answer::Measured(mut transfer) => {
                transfer.port_bytes = match before {
                    Some(before) => {
                        grown(&folder.join(counted), before, transfer.total_bytes, plan.poll).await
                    }
                    None => None,
                };
                return Ok((server.clone(), transfer, raw));
            }
            Answer::Unreachable(why) => (Obstacle::Unreachable(why), plan.reach_wait),
            Answer::Server(why) => (Obstacle::Server(why), plan.server_wait),
            Answer::Nonsense(why) => return Err((Obstacle::Tool(why), Some(raw))),
        };
        if started.elapsed() >= patience {
            return Err((obstacle, Some(raw)));
        }
        round += 1;
        sleep(plan.poll).await;
    }
}

async fn iperf(
    machine: &Machine,
    name: &str,
    server: &IperfServer,
    client: std::net::IpAddr,
    reverse: bool,
    plan: Plan,
) -> Result<Vec<u8>, String> {
    let (port, seconds) = (server.port.to_string(), plan.seconds.to_string());
    let (address, here) = (server.address.to_string(), client.to_string());
    let (warm_up, connect) = (WARM_UP_S.to_string(), CONNECT.as_millis().to_string());
    let mut args = vec![
        "-c",
        &address,
        "-p",
        &port,
        "-B",
        &here,
        "--bind-dev",
        name,
        "-t",
        &seconds,
        "-O",
        &warm_up,
        "-J",
        "--connect-timeout",
        &connect,
    ];
    if reverse {
        args.push("-R");
    }
    let limit = Duration::from_secs(u64::from(plan.seconds + WARM_UP_S)) + CONNECT + SLACK;
    let command = Cmd::new(machine.tool("iperf3")).args(args).timeout(limit).max_output(32 << 20);
    match command.run().await {
        Ok(output) if output.stdout_truncated => Err("iperf3 wrote more than 32 MiB".to_owned()),
        Ok(output) if output.stdout.is_empty() => {
            Err(clean_to(&format!("iperf3 wrote nothing: {}", output.last_words()), 400))
        }
        Ok(output) => Ok(output.stdout),
        // A connection that died half-way: the tool waits for ever.
        Err(ProcessError::Timeout { after, .. }) => Err(format!(
            "iperf3 did not end within {} s; data stopped flowing through {name}",
            after.as_secs()
        )),
        Err(problem) => Err(clean_to(&problem.to_string(), 400)),
    }
}

/// By how much the port's byte counter grew: read again until it is as much as it should be or the driver had its time.
async fn grown(file: &std::path::Path, before: u64, wanted: u64, poll: Duration) -> Option<u64> {
    let started = Instant::now();
    loop {
        let grown = number::<u64>(file)?.saturating_sub(before);
        if grown >= wanted || started.elapsed() >= COUNTERS_LAG {
            return Some(grown);
        }
        sleep(poll).await;
    }
}

fn counters_of(folder: &std::path::Path, name: &str) -> NicCounters {
    counters::nic(name.to_owned(), folder)
}

async fn wait_for_link(machine: &Machine, name: &str, plan: Plan) -> bool {
    let folder = machine.path("sys/class/net").join(name);
    let started = Instant::now();
    loop {
        let carrier = number::<u8>(&folder.join("carrier")) == Some(1);
        // Virtual ports say `unknown` for good.
        let state = text(&folder.join("operstate")).unwrap_or_default();
        if carrier && !matches!(state.trim(), "down" | "lowerlayerdown" | "dormant") {
            return true;
        }
        if started.elapsed() >= plan.link_wait {
            return false;
        }
        sleep(plan.poll).await;
    }
}
