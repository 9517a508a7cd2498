//! What a stack consists of, worked out from its Compose and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::Path,
};

use assay_recipe::compose::model::{Compose, Network, Object};
use bollard::models::{ConfigSpec, Driver, Ipam, IpamConfig, NetworkCreateRequest, SecretSpec, ServiceSpec};
use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use super::{
    NAMESPACE_LABEL, scoped,
    service::service_spec,
    without_ipvs::{Change, Endpoints, without_ipvs},
};
use crate::client::{base64_of, bytes_of};

/// What a plan depends on besides the Compose.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions<'a> {
    /// The name of the stack.
    pub stack: &'a str,
    /// Values of variables that a service names without a value. Any other such variable stays without one.
    pub environment: &'a BTreeMap<String, String>,
    /// The folder that relative paths of the node are relative to: the recipe's.
    pub root: &'a Path,
    /// The content of each file that a secret or config names, by the path as written; see [`crate::read_files`].
    pub files: &'a BTreeMap<String, Vec<u8>>,
    /// Whether services get an address of their own.
    pub endpoints: Endpoints,
}

/// The objects of a stack, in the order in which they are made: networks, secrets, configs, services.
#[derive(Clone, PartialEq)]
pub struct Plan {
    pub(crate) stack: String,
    pub(crate) networks: Vec<NetworkCreateRequest>,
    pub(crate) external_networks: Vec<String>,
    pub(crate) secrets: Vec<SecretSpec>,
    pub(crate) external_secrets: Vec<String>,
    pub(crate) configs: Vec<ConfigSpec>,
    pub(crate) external_configs: Vec<String>,
    pub(crate) services: Vec<ServiceSpec>,
    changes: Vec<Change>,
}

/// Why a Compose cannot become a stack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A service names nothing to run.
    #[error("service `{service}` has no image: Swarm builds none, so give it `image:`")]
    NoImage {
        /// The service.
        service: String,
    },
    /// A service uses what the stack does not declare.
    #[error(
        "service `{service}` uses {kind} `{name}`, which is not declared: add it to the top-level `{kind}s:`"
    )]
    Undeclared {
        /// The service.
        service: String,
        /// `network`, `volume`, `secret` or `config`.
        kind: &'static str,
        /// Its key.
        name: String,
    },
    /// A secret or config is neither external nor has it a file that is there.
    #[error(
        "{kind} `{name}` has no content: give it a `file:` that is in the recipe, or make it `external: true`{}",
        file.as_deref().map(|file| format!(" (`{file}` was not given)")).unwrap_or_default()
    )]
    NoContent {
        /// `secret` or `config`.
        kind: &'static str,
        /// Its key.
        name: String,
        /// The file it names.
        file: Option<String>,
    },
    /// A value means nothing to Swarm.
    #[error("service `{service}`: `{path}: {value}` means nothing to Swarm: {hint}")]
    Value {
        /// The service.
        service: String,
        /// Where: `deploy.update_config.order`.
        path: &'static str,
        /// What was written.
        value: String,
        /// What can be written there.
        hint: &'static str,
    },
}

/// Works out what the stack consists of. Only networks that a service is in are part of it.
///
/// # Errors
/// [`PlanError`]; the first one, in the order of the files.
pub fn plan(compose: &Compose, options: &PlanOptions<'_>) -> Result<Plan, PlanError> {
    let stack = options.stack;
    let mut services = Vec::new();
    let mut used = BTreeSet::new();
    for (name, service) in &compose.services {
        let spec = service_spec(compose, name, service, options)?;
        used.extend(service.networks.keys().cloned());
        if service.networks.is_empty() {
            used.insert("default".to_owned());
        }
        services.push(spec);
    }
    let changes = match options.endpoints {
        Endpoints::AsWritten => Vec::new(),
        Endpoints::WithoutIpvs => {
            let keys = compose.services.keys();
            keys.zip(&mut services).flat_map(|(key, spec)| without_ipvs(key, spec)).collect()
        }
    };
    let mut networks = Vec::new();
    let mut external_networks = Vec::new();
    for key in used {
        let default = Network::default();
        // `default` needs no declaration; any other was looked up with its service.
        let network = compose.networks.get(&key).unwrap_or(&default);
        if network.external {
            external_networks.push(network.name.clone().unwrap_or(key));
        } else {
            networks.push(network_request(stack, &key, network));
        }
    }
    let (secrets, external_secrets) = objects(stack, "secret", &compose.secrets, options.files)?;
    let (configs, external_configs) = objects(stack, "config", &compose.configs, options.files)?;
    let secrets = secrets.into_iter().map(Content::into_secret).collect();
    let configs = configs.into_iter().map(Content::into_config).collect();
    Ok(Plan {
        stack: stack.to_owned(),
        networks,
        external_networks,
        secrets,
        external_secrets,
        configs,
        external_configs,
        services,
        changes,
    })
}

impl Plan {
    /// The name of the stack.
    pub fn stack(&self) -> &str {
        &self.stack
    }

    /// What differs from the files as written.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Networks that must be there before: see [`crate::Swarm::ensure_network`].
    pub fn external_networks(&self) -> &[String] {
        &self.external_networks
    }

    /// Secrets that must be there before: see [`crate::Swarm::put_secret`].
    pub fn external_secrets(&self) -> &[String] {
        &self.external_secrets
    }

    /// The full names of its services.
    pub fn service_names(&self) -> Vec<&str> {
        self.services.iter().filter_map(|service| service.name.as_deref()).collect()
    }

    /// As Docker is told, with sorted keys. Instead of a config there is its SHA-256; instead of a secret nothing, since a short one
    /// could be guessed by that.
    pub fn json(&self) -> serde_json::Value {
        let secrets = self.secrets.iter().cloned().map(|mut spec| {
            spec.data = Some("(secret)".to_owned());
            spec
        });
        let configs = self.configs.iter().cloned().map(|mut spec| {
            let content = bytes_of(spec.data.as_deref().unwrap_or_default());
            spec.data = Some(format!("sha256:{}", hex::encode(Sha256::digest(content))));
            spec
        });
        sorted(serde_json::json!({
            "stack": self.stack,
            "networks": self.networks,
            "external_networks": self.external_networks,
            "secrets": secrets.collect::<Vec<_>>(),
            "external_secrets": self.external_secrets,
            "configs": configs.collect::<Vec<_>>(),
            "external_configs": self.external_configs,
            "services": self.services,
        }))
    }
}

/// Without what is secret.
impl fmt::Debug for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Plan").field(&self.json()).finish()
    }
}

/// The labels of an object of the stack.
pub(super) fn labels(stack: &str, own: &IndexMap<String, String>) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = own.clone().into_iter().collect();
    labels.insert(NAMESPACE_LABEL.to_owned(), stack.to_owned());
    labels
}

/// What an object of the stack is called in the swarm.
pub(super) fn name_of(stack: &str, key: &str, name: Option<&String>, external: bool) -> String {
    match name {
        Some(name) => name.clone(),
        None if external => key.to_owned(),
        None => scoped(stack, key),
    }
}

fn network_request(stack: &str, key: &str, network: &Network) -> NetworkCreateRequest {
    let subnets = network
        .subnets
        .iter()
        .map(|subnet| IpamConfig { subnet: Some(subnet.clone()), ..IpamConfig::default() });
    let ipam =
        (!network.subnets.is_empty()).then(|| Ipam { config: Some(subnets.collect()), ..Ipam::default() });
    NetworkCreateRequest {
        name: name_of(stack, key, network.name.as_ref(), false),
        driver: Some(network.driver.clone().unwrap_or_else(|| "overlay".to_owned())),
        internal: network.internal.then_some(true),
        attachable: network.attachable.then_some(true),
        ipam,
        options: (!network.driver_opts.is_empty()).then(|| network.driver_opts.clone().into_iter().collect()),
        labels: Some(labels(stack, &network.labels)),
        ..NetworkCreateRequest::default()
    }
}

/// What a secret and a config have in common.
struct Content {
    name: String,
    labels: HashMap<String, String>,
    data: String,
    templating: Option<Driver>,
}

impl Content {
    fn into_secret(self) -> SecretSpec {
        let Self { name, labels, data, templating } = self;
        SecretSpec { name: Some(name), labels: Some(labels), data: Some(data), templating, driver: None }
    }

    fn into_config(self) -> ConfigSpec {
        let Self { name, labels, data, templating } = self;
        ConfigSpec { name: Some(name), labels: Some(labels), data: Some(data), templating }
    }
}

/// Those of the stack with their content, and the names of those that are somebody else's.
fn objects(
    stack: &str,
    kind: &'static str,
    all: &IndexMap<String, Object>,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<(Vec<Content>, Vec<String>), PlanError> {
    let mut own = Vec::new();
    let mut external = Vec::new();
    for (key, object) in all {
        let name = name_of(stack, key, object.name.as_ref(), object.external);
        if object.external {
            external.push(name);
            continue;
        }
        let content = object
            .file
            .as_ref()
            .and_then(|file| files.get(file))
            .ok_or_else(|| PlanError::NoContent { kind, name: key.clone(), file: object.file.clone() })?;
        let templating = object.template_driver.clone().map(|name| Driver { name, options: None });
        own.push(Content {
            name,
            labels: labels(stack, &object.labels),
            data: base64_of(content),
            templating,
        });
    }
    own.sort_by(|one, other| one.name.cmp(&other.name));
    external.sort();
    Ok((own, external))
}

/// Objects with their keys in order, however deep: maps have none of their own.
fn sorted(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let map: BTreeMap<String, Value> = map.into_iter().collect();
            Value::Object(map.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
