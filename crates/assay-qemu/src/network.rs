//! The lab's private network: a namespace, a bridge with an address, and a tap per network card.
//!
//! Nothing in it touches the host's own network. Every step looks first and does only what is missing, so it can
//! be repeated after a kill at any point. What was made is recorded before it is made, and only that is removed.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use assay_model::Mac;
use assay_process::{Cmd, Output};
use serde::{Deserialize, Serialize};

use crate::{QemuError, error::io_error};

const LONGEST_NAME: usize = 15;

/// What the network is called and which address the host's side has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The namespace.
    pub netns: String,
    /// The bridge inside it.
    pub bridge: String,
    /// The bridge's address.
    pub address: Ipv4Addr,
    /// The network's prefix length.
    pub prefix_len: u8,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            netns: "assay-lab".to_owned(),
            bridge: "br0".to_owned(),
            address: Ipv4Addr::new(10, 77, 0, 1),
            prefix_len: 24,
        }
    }
}

/// The network, up or down.
#[derive(Debug, Clone)]
pub struct Network {
    config: NetworkConfig,
    record: PathBuf,
}

/// What we made, kept in the state folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    config: NetworkConfig,
    /// Whether the namespace is ours to remove.
    made_netns: bool,
    /// Whether the bridge is ours to remove.
    made_bridge: bool,
}

#[derive(Deserialize)]
struct Link {
    ifname: String,
    master: Option<String>,
}

/// The tap of a network card: `tap` and the twelve digits of its address, which is just short enough.
pub fn tap_name(mac: &Mac) -> String {
    format!("tap{}", mac.to_string().replace(':', ""))
}

impl Network {
    /// The network `config`; what is made of it is recorded in the file `record`.
    ///
    /// # Errors
    /// [`QemuError::Network`] when a name cannot be one.
    pub fn new(config: NetworkConfig, record: PathBuf) -> Result<Self, QemuError> {
        for name in [&config.netns, &config.bridge] {
            let fits = name.len() <= LONGEST_NAME
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
            if !fits {
                return problem(format!(
                    "`{name}` cannot be a name: at most {LONGEST_NAME} letters, digits, `-` and `_`"
                ));
            }
        }
        if !(8..=30).contains(&config.prefix_len) {
            return problem(format!("prefix length {} is not between 8 and 30", config.prefix_len));
        }
        Ok(Self { config, record })
    }

    /// What it was made with.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Makes the namespace and the bridge, or what is missing of them.
    ///
    /// # Errors
    /// [`QemuError`] when not permitted, or when another network is recorded in this state folder.
    pub async fn up(&self) -> Result<(), QemuError> {
        let record = self.recorded()?;
        if let Some(other) = record.as_ref().filter(|record| record.config != self.config) {
            return problem(format!(
                "this state folder has the network `{}` up with other settings; take it down first",
                other.config.netns
            ));
        }
        let mut record = record.unwrap_or(Record {
            config: self.config.clone(),
            made_netns: !self.netns_named(),
            made_bridge: false,
        });
        self.write(&record)?;
        if !self.netns_named() {
            ip(&["netns", "add", &self.config.netns]).await?;
        } else if record.made_netns && !self.inside(&["link", "show", "lo"]).run().await?.success() {
            // The name is there and no namespace behind it: we were killed between the two.
            fs::remove_file(self.netns_file()).map_err(io_error("removing", self.netns_file()))?;
            ip(&["netns", "add", &self.config.netns]).await?;
        }
        let bridge = self.config.bridge.as_str();
        if !self.links().await?.iter().any(|link| link.ifname == bridge) {
            record.made_bridge = true;
            self.write(&record)?;
            // No learning delay: a machine asks for its address the moment that its link is up.
            self.inside(&["link", "add", bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0"])
                .run_ok()
                .await?;
        }
        let address = format!("{}/{}", self.config.address, self.config.prefix_len);
        self.inside(&["addr", "replace", &address, "dev", bridge]).run_ok().await?;
        for name in ["lo", bridge] {
            self.inside(&["link", "set", name, "up"]).run_ok().await?;
        }
        Ok(())
    }

    /// Makes the tap of a network card and puts it on the bridge.
    ///
    /// # Errors
    /// [`QemuError`] when the network is not up or not permitted.
    pub async fn tap_up(&self, mac: &Mac) -> Result<(), QemuError> {
        let name = tap_name(mac);
        if !self.links().await?.iter().any(|link| link.ifname == name) {
            self.inside(&["tuntap", "add", "dev", &name, "mode", "tap"]).run_ok().await?;
        }
        self.inside(&["link", "set", &name, "master", &self.config.bridge, "up"]).run_ok().await?;
        Ok(())
    }

    /// Removes everything that was made: taps, bridge, namespace. Repeating it is no error.
    ///
    /// # Errors
    /// [`QemuError`] when something cannot be removed; it can then be called again.
    pub async fn down(&self) -> Result<(), QemuError> {
        let Some(record) = self.recorded()? else {
            return Ok(());
        };
        let was = Self { config: record.config.clone(), record: self.record.clone() };
        if was.netns_named() {
            was.empty(&record).await?;
            if record.made_netns {
                ip(&["netns", "delete", &was.config.netns]).await?;
            }
        }
        fs::remove_file(&self.record).map_err(io_error("removing", &self.record))
    }

    /// Devices go one by one first: a namespace lives on, unnamed, as long as any process is in it.
    async fn empty(&self, record: &Record) -> Result<(), QemuError> {
        // A name without a namespace behind it holds no devices.
        let Ok(links) = self.links().await else {
            return Ok(());
        };
        let bridge = self.config.bridge.as_str();
        let is_tap = |link: &&Link| is_tap_name(&link.ifname) && link.master.as_deref() == Some(bridge);
        for tap in links.iter().filter(is_tap) {
            self.inside(&["link", "delete", &tap.ifname]).run_ok().await?;
        }
        if record.made_bridge && links.iter().any(|link| link.ifname == bridge) {
            self.inside(&["link", "delete", bridge]).run_ok().await?;
        }
        Ok(())
    }

    async fn links(&self) -> Result<Vec<Link>, QemuError> {
        let output = self.inside(&["-json", "link", "show"]).run_ok().await?;
        serde_json::from_slice(&output.stdout).map_err(|error| QemuError::Network {
            problem: format!("`ip -json link show` cannot be read: {error}"),
        })
    }

    fn inside(&self, arguments: &[&str]) -> Cmd {
        Cmd::new("ip").args(["-netns", &self.config.netns]).args(arguments)
    }

    fn netns_file(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.config.netns)
    }

    fn netns_named(&self) -> bool {
        self.netns_file().exists()
    }

    fn recorded(&self) -> Result<Option<Record>, QemuError> {
        if !self.record.exists() {
            return Ok(None);
        }
        let text = fs::read(&self.record).map_err(io_error("reading", &self.record))?;
        let record = serde_json::from_slice(&text).map_err(|error| QemuError::Network {
            problem: format!(
                "{} cannot be read ({error}); remove the namespace by hand and delete it",
                self.record.display()
            ),
        })?;
        Ok(Some(record))
    }

    fn write(&self, record: &Record) -> Result<(), QemuError> {
        let bytes = serde_json::to_vec_pretty(record).map_err(std::io::Error::other);
        let temporary = self.record.with_extension("new");
        bytes
            .and_then(|bytes| fs::write(&temporary, bytes))
            .and_then(|()| fs::rename(&temporary, &self.record))
            .map_err(io_error("writing", &self.record))
    }
}

fn is_tap_name(name: &str) -> bool {
    let digits = name.strip_prefix("tap").unwrap_or_default();
    digits.len() == 12 && digits.chars().all(|c| c.is_ascii_hexdigit())
}

async fn ip(arguments: &[&str]) -> Result<Output, QemuError> {
    Ok(Cmd::new("ip").args(arguments).run_ok().await?)
}

fn problem<T>(problem: String) -> Result<T, QemuError> {
    Err(QemuError::Network { problem })
}
