//! Where a container answers, seen from the daemon's own network.
//!
//! A container that may reach anything outside of its overlay networks has a foot in the node's bridge for it. There the node
//! reaches it directly, without a service's own address, which needs IPVS.

use std::net::Ipv4Addr;

use bollard::query_parameters::InspectNetworkOptionsBuilder;

use crate::{Swarm, SwarmError};

/// The node's bridge of a swarm.
pub(crate) const BRIDGE: &str = "docker_gwbridge";

impl Swarm {
    /// The address of a container (by its id) on the node's bridge; none where it has no foot there: only networks that are
    /// `internal`, or the host's own.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn address_of(&self, container: &str) -> Result<Option<Ipv4Addr>, SwarmError> {
        let options = InspectNetworkOptionsBuilder::default().build();
        let network = self.docker.inspect_network(BRIDGE, Some(options)).await;
        let network = network.map_err(SwarmError::docker(format!("looking at network `{BRIDGE}`")))?;
        let attached = network.containers.unwrap_or_default();
        let address = attached.get(container).and_then(|attached| attached.ipv4_address.as_deref());
        // `172.18.0.3/16`
        Ok(address.and_then(|address| address.split('/').next()?.parse().ok()))
    }
}
