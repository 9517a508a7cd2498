//! A swarm that is there already, and that others use, too.
//!
//! Nothing of it is ended with a run, so every run says what is its own: a label on all that it makes ([`RUN_LABEL`]), and a claim, a
//! config that holds the name of the run's stack and says who owns it. Claims are how runs do not meet (Docker makes no two configs
//! of one name), and how somebody later finds what an owner left behind who was killed.

mod owner;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    models::{ConfigSpec, LocalNodeState},
    query_parameters::{InspectNetworkOptionsBuilder, ListConfigsOptionsBuilder},
};

pub use owner::{Owner, OwnerState};

use crate::{
    RUN_LABEL, Swarm, SwarmError, ThingKind,
    addresses::BRIDGE,
    client::{base64_of, hash_map},
    teardown::TornDown,
};

/// The oldest version of Docker's API that is spoken: Docker 20.10.
const OLDEST: (usize, usize) = (1, 41);
/// How a claim is called, before the stack's name.
const CLAIM: &str = "assay-run-";
/// The label that says which stack is claimed.
const STACK: &str = "assay.claim";
/// The label that says where the owner keeps what it needs for the run.
const FOLDER: &str = "assay.folder";
/// Put into every network namespace by the kernel if it can balance loads.
const IP_VS: &str = "/proc/net/ip_vs";

/// A swarm of others', on whose manager node this process is.
#[derive(Clone, Debug)]
pub struct SharedSwarm {
    swarm: Swarm,
    /// This node's id.
    node: String,
    /// How many nodes it has.
    nodes: i64,
    /// This node's address, at which containers reach it.
    address: Ipv4Addr,
    /// The daemon's folder.
    data: PathBuf,
    ipvs: bool,
    images: ImageIds,
}

/// What the id of an image is, which depends on where the daemon keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ImageIds {
    /// The digest of its configuration: Docker's own store.
    Configuration,
    /// The digest of its manifest: containerd's store.
    Manifest,
}

/// A run's claim on a stack's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The run's id.
    pub run: String,
    /// The name of its stack.
    pub stack: String,
    /// Who performs it.
    pub owner: Owner,
    /// Where that one keeps what it needs for the run.
    pub folder: PathBuf,
}

/// Why a swarm cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum NotShareable {
    /// There is no socket, or nobody behind it.
    #[error("no Docker daemon answers at {socket} ({why}): start one, or name its socket (--shared-swarm SOCKET)", socket = socket.display())]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
        /// What the operating system said.
        why: io::Error,
    },
    /// The socket is not for this user.
    #[error("user {uid} may not speak to the Docker daemon at {socket}: be root, or a member of the group that has the socket (`docker`)", socket = socket.display())]
    NotAllowed {
        /// The socket.
        socket: PathBuf,
        /// Who asked.
        uid: u32,
    },
    /// The daemon is of an old version.
    #[error("the Docker daemon at {socket} speaks version {}.{} of Docker's API, and {}.{} (Docker 20.10) is the oldest that will do: take a newer Docker", found.0, found.1, OLDEST.0, OLDEST.1, socket = socket.display())]
    TooOld {
        /// The socket.
        socket: PathBuf,
        /// What it speaks.
        found: (usize, usize),
    },
    /// The daemon is no swarm.
    #[error("the Docker daemon at {socket} is in no swarm ({state}): make it one with `docker swarm init`", socket = socket.display())]
    NoSwarm {
        /// The socket.
        socket: PathBuf,
        /// What it says of itself.
        state: String,
    },
    /// The swarm is locked.
    #[error("the swarm at {socket} is locked: `docker swarm unlock`", socket = socket.display())]
    Locked {
        /// The socket.
        socket: PathBuf,
    },
    /// The node is a worker.
    #[error("the node of {socket} is a worker of its swarm: run this on a manager, or make it one there (`docker node promote`)", socket = socket.display())]
    NotManager {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon's network is not ours.
    #[error("the Docker daemon at {socket} has another network than this process ({why}): run this on the node itself, outside of containers; daemons in a virtual machine or without root have a network of their own", socket = socket.display())]
    Elsewhere {
        /// The socket.
        socket: PathBuf,
        /// How that is known.
        why: String,
    },
    /// It does not answer as it should.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
}

impl SharedSwarm {
    /// Connects to the daemon behind `socket`, and sees that its swarm can be used from here. Changes nothing.
    ///
    /// # Errors
    /// [`NotShareable`]: the first thing that is wrong, and what to do about it.
    pub async fn open(socket: &Path) -> Result<Self, NotShareable> {
        let at = || socket.to_owned();
        if let Err(why) = tokio::net::UnixStream::connect(socket).await {
            return Err(match why.kind() {
                io::ErrorKind::PermissionDenied => {
                    NotShareable::NotAllowed { socket: at(), uid: rustix::process::geteuid().as_raw() }
                }
                _ => NotShareable::NoDaemon { socket: at(), why },
            });
        }
        let swarm = Swarm::connect(socket).await?;
        let spoken = swarm.docker.client_version();
        let found = (spoken.major_version, spoken.minor_version);
        if found < OLDEST {
            return Err(NotShareable::TooOld { socket: at(), found });
        }
        let asked = swarm.docker.info().await;
        let info = asked.map_err(SwarmError::docker("asking the daemon who it is"))?;
        let node = info.swarm.unwrap_or_default();
        standing(node.local_node_state, node.control_available, socket)?;
        // The bridge may be made with the first stack only; containers reach the node at its own address as well.
        let address = match swarm.gateway().await? {
            Some(gateway) => Some(gateway),
            None => node.node_addr.as_deref().and_then(|address| address.parse().ok()),
        };
        let address = address.ok_or_else(|| NotShareable::Elsewhere {
            socket: at(),
            why: "its node has no IPv4 address".to_owned(),
        })?;
        // Whoever can listen there is on the node.
        if let Err(why) = TcpListener::bind((address, 0)) {
            let why = format!("{address}, which is its node's, is not here: {why}");
            return Err(NotShareable::Elsewhere { socket: at(), why });
        }
        Ok(Self {
            swarm,
            node: node.node_id.unwrap_or_default(),
            nodes: node.nodes.unwrap_or(1),
            address,
            data: info.docker_root_dir.unwrap_or_else(|| "/var/lib/docker".to_owned()).into(),
            ipvs: Path::new(IP_VS).exists(),
            images: image_ids(info.driver_status.unwrap_or_default()),
        })
    }

    /// The connection.
    pub fn swarm(&self) -> &Swarm {
        &self.swarm
    }

    /// This node's id, where the swarm has others as well: what cannot be reached from here must not run there.
    pub fn one_of_several(&self) -> Option<&str> {
        (self.nodes > 1).then_some(self.node.as_str())
    }

    /// The node's address at which its containers reach it.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The daemon's folder; volumes are in it. This process may not be allowed to read it.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Whether the kernel can balance loads (IPVS); see [`crate::Endpoints::WithoutIpvs`].
    pub fn ipvs(&self) -> bool {
        self.ipvs
    }

    /// Whether the id of an image is the digest of its configuration, as archives have it.
    pub fn has_ids_of_configurations(&self) -> bool {
        self.images == ImageIds::Configuration
    }

    /// This process, as the owner of what it makes here.
    ///
    /// # Errors
    /// [`SwarmError::Folder`]: `/proc` does not read.
    pub fn owner(&self) -> Result<Owner, SwarmError> {
        Owner::here(&self.node).map_err(SwarmError::folder("reading", "/proc/self"))
    }

    /// Claims a stack's name. False where somebody has it.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn claim(&self, claim: &Claim) -> Result<bool, SwarmError> {
        let mut labels = hash_map(&claim.owner.labels());
        labels.insert(RUN_LABEL.to_owned(), claim.run.clone());
        labels.insert(STACK.to_owned(), claim.stack.clone());
        labels.insert(FOLDER.to_owned(), claim.folder.to_string_lossy().into_owned());
        let spec = ConfigSpec {
            name: Some(claim_of(&claim.stack)),
            labels: Some(labels),
            data: Some(base64_of(b"A run of Assay's has this stack's name.\n")),
            ..ConfigSpec::default()
        };
        let made = self.swarm.docker.create_config(spec).await;
        match made.map_err(SwarmError::docker(format!("claiming the name {}", claim.stack))) {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All claims, of whomever. A config that only looks like one is none.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn claims(&self) -> Result<Vec<Claim>, SwarmError> {
        let filters = HashMap::from([("label", vec![STACK])]);
        let options = ListConfigsOptionsBuilder::default().filters(&filters).build();
        let configs = self.swarm.docker.list_configs(Some(options)).await;
        let configs = configs.map_err(SwarmError::docker("listing claims"))?;
        let claims = configs.into_iter().filter_map(|config| {
            let spec = config.spec?;
            let labels: BTreeMap<String, String> = spec.labels?.into_iter().collect();
            let claim = claim_from(&labels)?;
            (spec.name? == claim_of(&claim.stack)).then_some(claim)
        });
        Ok(claims.collect())
    }

    /// Whether a claim's owner is still there, as far as can be told from here.
    ///
    /// # Errors
    /// [`SwarmError::Folder`]: `/proc` does not read.
    pub fn state(&self, claim: &Claim) -> Result<OwnerState, SwarmError> {
        Ok(claim.owner.state(&self.owner()?, owner::started))
    }

    /// Takes away everything that a run made, in order, and its claim with the last of it. While something stays, so does the claim:
    /// whoever comes later tries again. Safe to repeat.
    ///
    /// # Errors
    /// [`SwarmError::Docker`]. That something would not go is no error but a leak.
    pub async fn release(&self, run: &str, stack: &str, limit: Duration) -> Result<TornDown, SwarmError> {
        let own = claim_of(stack);
        let torn = self
            .swarm
            .take_down(true, limit, |census| {
                let of_run = census.of_run(run);
                let is_claim = |thing: &crate::Thing| thing.kind == ThingKind::Config && thing.name == own;
                of_run.things().filter(|thing| !is_claim(thing)).cloned().collect()
            })
            .await?;
        if torn.leaks.is_empty() {
            self.swarm.remove_config(&own).await?;
        }
        Ok(torn)
    }
}

impl Swarm {
    /// The node's address on its bridge.
    async fn gateway(&self) -> Result<Option<Ipv4Addr>, SwarmError> {
        let options = InspectNetworkOptionsBuilder::default().build();
        let network = match self.docker.inspect_network(BRIDGE, Some(options)).await {
            Ok(network) => network,
            Err(error) => match SwarmError::docker(format!("looking at network `{BRIDGE}`"))(error) {
                error if error.is_not_found() => return Ok(None),
                error => return Err(error),
            },
        };
        let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let gateways = configs.into_iter().filter_map(|config| config.gateway);
        // `172.18.0.1`, or with the length of its prefix.
        let mut parsed = gateways.filter_map(|gateway| gateway.split('/').next()?.parse().ok());
        Ok(parsed.next())
    }
}

/// Whether a node that says this of itself can be asked to deploy something.
fn standing(
    state: Option<LocalNodeState>,
    is_manager: Option<bool>,
    socket: &Path,
) -> Result<(), NotShareable> {
    let socket = socket.to_owned();
    match state {
        Some(LocalNodeState::ACTIVE) if is_manager == Some(true) => Ok(()),
        Some(LocalNodeState::ACTIVE) => Err(NotShareable::NotManager { socket }),
        Some(LocalNodeState::LOCKED) => Err(NotShareable::Locked { socket }),
        other => {
            let state = other.map_or_else(|| "unknown".to_owned(), |state| state.to_string());
            let state = if state.is_empty() { "inactive".to_owned() } else { state };
            Err(NotShareable::NoSwarm { socket, state })
        }
    }
}

fn image_ids(status: Vec<Vec<String>>) -> ImageIds {
    let mut words = status.into_iter().flatten();
    if words.any(|word| word.starts_with("io.containerd.snapshotter")) {
        ImageIds::Manifest
    } else {
        ImageIds::Configuration
    }
}

/// What a claim is called. No stack's things are called so: it is not below the stack's name, and goes last.
fn claim_of(stack: &str) -> String {
    format!("{CLAIM}{stack}")
}

fn claim_from(labels: &BTreeMap<String, String>) -> Option<Claim> {
    let label = |name: &str| labels.get(name).cloned();
    Some(Claim {
        run: label(RUN_LABEL)?,
        stack: label(STACK)?,
        owner: Owner::of_labels(label)?,
        folder: label(FOLDER)?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_no_manager_of_a_swarm_is_told_what_it_lacks() {
        let told = |state, manager| match standing(state, manager, Path::new("/run/d.sock")) {
            Ok(()) => "yes".to_owned(),
            Err(why) => why.to_string(),
        };
        let cases = [
            (Some(LocalNodeState::ACTIVE), Some(true)),
            (Some(LocalNodeState::ACTIVE), Some(false)),
            (Some(LocalNodeState::INACTIVE), Some(false)),
            (Some(LocalNodeState::PENDING), None),
            (Some(LocalNodeState::LOCKED), None),
            (None, None),
        ];
        let told: Vec<String> = cases.into_iter().map(|(state, manager)| told(state, manager)).collect();
        insta::assert_snapshot!(told.join("\n"), @"
        yes
        the node of /run/d.sock is a worker of its swarm: run this on a manager, or make it one there (`docker node promote`)
        the Docker daemon at /run/d.sock is in no swarm (inactive): make it one with `docker swarm init`
        the Docker daemon at /run/d.sock is in no swarm (pending): make it one with `docker swarm init`
        the swarm at /run/d.sock is locked: `docker swarm unlock`
        the Docker daemon at /run/d.sock is in no swarm (unknown): make it one with `docker swarm init`
        ");
    }

    #[tokio::test]
    async fn a_socket_without_a_daemon_is_told_before_anything_else() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let error = SharedSwarm::open(&socket).await.unwrap_err();
        let told = error.to_string().replace(&socket.display().to_string(), "SOCKET");
        insta::assert_snapshot!(told, @"no Docker daemon answers at SOCKET (No such file or directory (os error 2)): start one, or name its socket (--shared-swarm SOCKET)");
    }

    #[test]
    fn a_claim_is_its_labels_and_nothing_is_made_of_half_of_them() {
        let owner = Owner {
            node: "n".to_owned(),
            boot: "b".to_owned(),
            namespace: "p".to_owned(),
            pid: 1,
            started: 2,
        };
        let mut labels = owner.labels();
        for (name, value) in [(RUN_LABEL, "r"), (STACK, "abc"), (FOLDER, "/f")] {
            assert_eq!(claim_from(&labels), None);
            labels.insert(name.to_owned(), value.to_owned());
        }
        let folder = PathBuf::from("/f");
        let claim = Claim { run: "r".to_owned(), stack: "abc".to_owned(), owner, folder };
        assert_eq!(claim_from(&labels), Some(claim));
    }
}
