//! A swarm as a client: one connection to one daemon, and the objects that a stack expects from outside of it.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use bollard::{
    Docker,
    models::{NetworkCreateRequest, SecretSpec, SwarmInitRequest, SwarmSpec, SwarmSpecOrchestration},
    query_parameters::{ListNetworksOptionsBuilder, ListSecretsOptionsBuilder},
};

use crate::SwarmError;

/// The longest that the daemon may take to answer one request, in seconds.
const ANSWER: u64 = 120;
/// Where a swarm listens.
const SWARM_PORT: u16 = 2377;

/// A connection to a daemon that is, or is to be, a swarm's manager. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Swarm {
    pub(crate) docker: Docker,
    socket: Arc<Path>,
}

/// Whether something was made, or was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// It was made.
    Created,
    /// It was there, as wanted.
    Present,
    /// Another one was there and had to go.
    Replaced,
}

impl Swarm {
    /// Connects to the daemon behind `socket`, in the newest version of the API that both know.
    ///
    /// # Errors
    /// [`SwarmError::Docker`] when nobody answers there.
    pub async fn connect(socket: &Path) -> Result<Self, SwarmError> {
        let doing = || format!("connecting to {}", socket.display());
        let path = socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&path, ANSWER, bollard::API_DEFAULT_VERSION)
            .map_err(SwarmError::docker(doing()))?;
        let docker = docker.negotiate_version().await.map_err(SwarmError::docker(doing()))?;
        Ok(Self { docker, socket: Arc::from(socket) })
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The version of the engine, such as `20.10.24`.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn version(&self) -> Result<String, SwarmError> {
        let version = self.docker.version().await.map_err(SwarmError::docker("asking for the version"))?;
        Ok(version.version.unwrap_or_default())
    }

    /// Makes sure that there is an attachable overlay network of this name, for stacks that expect one (`proxy`).
    ///
    /// # Errors
    /// [`SwarmError::Docker`]; where there is a network of that name that is not the swarm's, as well.
    pub async fn ensure_network(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Ensured, SwarmError> {
        if self.network_scope(name).await?.as_deref() == Some("swarm") {
            return Ok(Ensured::Present);
        }
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("overlay".to_owned()),
            attachable: Some(true),
            labels: Some(hash_map(labels)),
            ..NetworkCreateRequest::default()
        };
        self.create_network(request).await?;
        Ok(Ensured::Created)
    }

    /// Puts a secret into the swarm. One that is there already is replaced only where nobody uses it, since a secret cannot
    /// be changed and its content cannot be read back.
    ///
    /// # Errors
    /// [`SwarmError::Docker`]; where a service uses the old one, as well.
    pub async fn put_secret(
        &self,
        name: &str,
        content: &[u8],
        labels: &BTreeMap<String, String>,
    ) -> Result<Ensured, SwarmError> {
        let doing = || format!("putting secret `{name}`");
        let there = self.secret_ids().await?.contains_key(name);
        if there {
            self.docker.delete_secret(name).await.map_err(SwarmError::docker(doing()))?;
        }
        let spec = SecretSpec {
            name: Some(name.to_owned()),
            labels: Some(hash_map(labels)),
            data: Some(base64_of(content)),
            ..SecretSpec::default()
        };
        self.docker.create_secret(spec).await.map_err(SwarmError::docker(doing()))?;
        Ok(if there { Ensured::Replaced } else { Ensured::Created })
    }

    /// Whether there is a secret of this name.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn has_secret(&self, name: &str) -> Result<bool, SwarmError> {
        Ok(self.secret_ids().await?.contains_key(name))
    }

    /// The labels of a service, by its full name; none where there is no such service.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn labels_of(&self, service: &str) -> Result<BTreeMap<String, String>, SwarmError> {
        match self.docker.inspect_service(service, None).await {
            Ok(found) => Ok(found.spec.and_then(|spec| spec.labels).into_iter().flatten().collect()),
            Err(error) => match SwarmError::docker(format!("looking at service `{service}`"))(error) {
                error if error.is_not_found() => Ok(BTreeMap::new()),
                error => Err(error),
            },
        }
    }

    /// Makes the daemon the only node of a new swarm.
    pub(crate) async fn init(&self, address: &str, task_history: i64) -> Result<(), SwarmError> {
        let spec = SwarmSpec {
            orchestration: Some(SwarmSpecOrchestration { task_history_retention_limit: Some(task_history) }),
            ..SwarmSpec::default()
        };
        let request = SwarmInitRequest {
            listen_addr: Some(format!("{address}:{SWARM_PORT}")),
            advertise_addr: Some(address.to_owned()),
            spec: Some(spec),
            ..SwarmInitRequest::default()
        };
        self.docker.init_swarm(request).await.map_err(SwarmError::docker("making a swarm"))?;
        Ok(())
    }

    /// The scope of the network of exactly this name; that of a swarm's where there are several.
    pub(crate) async fn network_scope(&self, name: &str) -> Result<Option<String>, SwarmError> {
        let filters = HashMap::from([("name", vec![name])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let networks =
            self.docker.list_networks(Some(options)).await.map_err(SwarmError::docker("listing networks"))?;
        // The filter matches parts of names, too.
        let named = networks.into_iter().filter(|network| network.name.as_deref() == Some(name));
        let mut scopes: Vec<String> = named.filter_map(|network| network.scope).collect();
        scopes.sort_by_key(|scope| scope != "swarm");
        Ok(scopes.into_iter().next())
    }

    pub(crate) async fn create_network(&self, request: NetworkCreateRequest) -> Result<(), SwarmError> {
        let doing = format!("creating network `{}`", request.name);
        self.docker.create_network(request).await.map_err(SwarmError::docker(doing))?;
        Ok(())
    }

    /// All secrets, name to id.
    pub(crate) async fn secret_ids(&self) -> Result<BTreeMap<String, String>, SwarmError> {
        let options = ListSecretsOptionsBuilder::default().build();
        let secrets =
            self.docker.list_secrets(Some(options)).await.map_err(SwarmError::docker("listing secrets"))?;
        Ok(secrets.into_iter().filter_map(|secret| Some((secret.spec?.name?, secret.id?))).collect())
    }
}

pub(crate) fn hash_map(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// How Docker wants the content of secrets and configs.
pub(crate) fn base64_of(content: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(content)
}

/// The content again. Only for what [`base64_of`] made.
pub(crate) fn bytes_of(text: &str) -> Vec<u8> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.decode(text).unwrap_or_default()
}
