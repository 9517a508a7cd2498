//! Makes traffic leave and enter through one port, and undoes that.
//!
//! A stage that is stopped half-way leaves its rule and table behind; both have fixed numbers, so the next
//! measurement removes them first.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use assay_model::host::order::ClientAddress;
use assay_model::text::clean_to;
use assay_process::Cmd;

use crate::Machine;
use crate::files::text;

/// Longest that `ip` is waited for.
const LIMIT: Duration = Duration::from_secs(10);
/// The routing table and the priority of the rule: nobody else's on the live image.
const TABLE: &str = "5201";

/// A port that is on.
pub(super) struct Path<'a> {
    machine: &'a Machine,
    name: String,
    /// Whether it was off before.
    pub(super) raised: bool,
}

impl<'a> Path<'a> {
    pub(super) async fn raise(machine: &'a Machine, name: &str) -> Result<Self, String> {
        if name.starts_with('-') || name.contains('/') {
            return Err(format!("a port named {} is not asked", clean_to(name, 32)));
        }
        let flags = text(&machine.path("sys/class/net").join(name).join("flags"))
            .and_then(|told| u32::from_str_radix(told.trim().trim_start_matches("0x"), 16).ok());
        // IFF_UP is the lowest bit.
        let up = flags.is_some_and(|flags| flags & 1 == 1);
        if !up {
            ip(machine, &["link", "set", "dev", name, "up"]).await?;
        }
        Ok(Self { machine, name: name.to_owned(), raised: !up })
    }

    /// Leaves the port as it was.
    pub(super) async fn lower(self) {
        if self.raised
            && let Err(problem) = ip(self.machine, &["link", "set", "dev", &self.name, "down"]).await
        {
            tracing::warn!(port = self.name, problem, "a port that was off could not be switched off again");
        }
    }
}

/// The way to a server through one port, and no other.
pub(super) struct Route<'a> {
    machine: &'a Machine,
    name: String,
    address: String,
    settings: BTreeMap<PathBuf, String>,
}

impl<'a> Route<'a> {
    pub(super) async fn make(
        machine: &'a Machine,
        name: &str,
        client: ClientAddress,
        server: IpAddr,
    ) -> Result<Self, String> {
        let most = if client.address.is_ipv4() { 32 } else { 128 };
        if client.prefix_len > most || client.address.is_ipv4() != server.is_ipv4() {
            return Err(format!(
                "{}/{} is no address for a client of {server}",
                client.address, client.prefix_len
            ));
        }
        let address = format!("{}/{}", client.address, client.prefix_len);
        forget(machine, server).await;
        let mut route =
            Self { machine, name: name.to_owned(), address: address.clone(), settings: BTreeMap::new() };
        if let Err(problem) = route.set_up(&address, client.address, server).await {
            route.remove().await;
            return Err(problem);
        }
        Ok(route)
    }

    async fn set_up(&mut self, address: &str, client: IpAddr, server: IpAddr) -> Result<(), String> {
        if server.is_ipv4() {
            for (setting, value) in [("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "2")] {
                self.set(&self.name.clone(), setting, value);
                // Of `all` and the port's own, the higher counts; other ports must keep quiet as well.
                self.set("all", setting, value);
            }
        }
        let (client, server) = (client.to_string(), server.to_string());
        let family = family(&server);
        let name = self.name.clone();
        // Without a route of its own: the network may be behind another port already.
        ip(self.machine, &["addr", "replace", address, "dev", &name, "noprefixroute"]).await?;
        let route = [family, "route", "replace", &server, "dev", &name, "src", &client, "table", TABLE];
        ip(self.machine, &route).await?;
        ip(self.machine, &[family, "rule", "add", "from", &client, "lookup", TABLE, "priority", TABLE]).await
    }

    pub(super) async fn remove(self) {
        let server: IpAddr = if self.address.contains(':') {
            IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
        };
        forget(self.machine, server).await;
        if let Err(problem) = ip(self.machine, &["addr", "del", &self.address, "dev", &self.name]).await {
            tracing::debug!(port = self.name, problem, "an address could not be taken off a port");
        }
        for (file, value) in &self.settings {
            if let Err(error) = fs::write(file, value) {
                tracing::debug!(%error, file = %file.display(), "a network setting could not be put back");
            }
        }
    }

    /// Best effort: a kernel without the setting does not need it.
    fn set(&mut self, port: &str, setting: &str, value: &str) {
        let file = self.machine.path("proc/sys/net/ipv4/conf").join(port).join(setting);
        let Some(before) = text(&file) else { return };
        match fs::write(&file, value) {
            Ok(()) => {
                self.settings.insert(file, before);
            }
            Err(error) => tracing::debug!(%error, port, setting, "a network setting could not be changed"),
        }
    }
}

/// Removes what a measurement that was stopped half-way left.
async fn forget(machine: &Machine, server: IpAddr) {
    let server = server.to_string();
    let family = family(&server);
    // One deletion takes one rule away; the error at the end is the wanted state.
    for _ in 0..64 {
        if ip(machine, &[family, "rule", "del", "priority", TABLE]).await.is_err() {
            break;
        }
    }
    let _ = ip(machine, &[family, "route", "flush", "table", TABLE]).await;
}

fn family(address: &str) -> &'static str {
    if address.contains(':') { "-6" } else { "-4" }
}

async fn ip(machine: &Machine, args: &[&str]) -> Result<(), String> {
    let command = Cmd::new(machine.tool("ip")).args(args.iter().copied()).timeout(LIMIT);
    let failed =
        |problem: assay_process::ProcessError| clean_to(&format!("ip {}: {problem}", args.join(" ")), 400);
    command.run_ok().await.map(drop).map_err(failed)
}
