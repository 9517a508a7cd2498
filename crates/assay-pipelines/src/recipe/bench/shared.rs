//! A run's place on a swarm that others use, too.
//!
//! A daemon of a run's own ends with it and takes everything along. Here nothing ends by itself, so it is written down what is the
//! run's: a label on everything, a claim in the swarm and a record in the run's folder. Whoever comes later takes away what belongs
//! to owners that are certainly dead, and nothing else.
//!
//! The network is this machine's. The proxy has a loopback address of the run's own there, so that runs do not meet; only where
//! containers have to reach it, for dependencies, it listens at the node's address, and one run at a time can have that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_backup::Site;
use assay_model::RunId;
use assay_recipe::compose::model::Compose;
use assay_swarm::{Claim, OwnerState, RUN_LABEL, SharedSwarm, ThingKind, TornDown};
use serde::{Deserialize, Serialize};

use super::front::Ports;
use super::{RUN, Tell};

/// What a run owns in a swarm, in its folder; locked by whoever performs the run.
const RECORD: &str = "shared.json";
/// How long everything of a run may take to go.
const GO: Duration = Duration::from_secs(30);
/// The longest record that is read, in bytes.
const LONGEST: u64 = 1 << 16;

/// A run's place.
pub(super) struct Shared {
    pub(super) swarm: SharedSwarm,
    /// Where the proxy listens, and hooks, tests and browsers find the app.
    pub(super) address: Ipv4Addr,
    pub(super) ports: Ports,
    run: String,
    stack: String,
    /// Held for as long as somebody works on the run.
    _record: File,
}

#[derive(Serialize, Deserialize)]
struct Record {
    socket: PathBuf,
    run: String,
    stack: String,
}

impl Shared {
    /// Takes away what dead owners left, and claims the name of the run's stack.
    pub(super) async fn begin(
        socket: &Path,
        run: RunId,
        stack: &str,
        folder: &Path,
        has_dependencies: bool,
        tell: Tell<'_>,
    ) -> Result<Self, String> {
        let swarm = SharedSwarm::open(socket).await.map_err(|error| error.to_string())?;
        for told in sweep_claims(&swarm).await? {
            match told {
                Ok(run) => tell(&format!("took away what {run} had left")),
                Err(why) => tell(&why),
            }
        }
        let (address, ports) =
            if has_dependencies { (swarm.address(), Ports::Usual) } else { (address_of(run), Ports::OrAny) };
        let record = Record { socket: socket.to_owned(), run: run.to_string(), stack: stack.to_owned() };
        // Written before anything is made.
        let locked = record.write(folder)?;
        let owner = swarm.owner().map_err(|error| error.to_string())?;
        let folder = folder.to_owned();
        let claim = Claim { run: record.run.clone(), stack: record.stack.clone(), owner, folder };
        if !swarm.claim(&claim).await.map_err(|error| error.to_string())? {
            return Err(format!(
                "another run has the stack {stack} on the shared swarm: give this one another --seed, or wait for that one"
            ));
        }
        let Record { run, stack, .. } = record;
        Ok(Self { swarm, address, ports, run, stack, _record: locked })
    }

    /// What everything is labelled with that the run makes.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(RUN_LABEL.to_owned(), self.run.clone())])
    }

    /// The run's id, as it stands in the label.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// What to do about a proxy that cannot listen.
    pub(super) fn why_not_listening(&self, why: String) -> String {
        match self.ports {
            Ports::OrAny => why,
            Ports::Usual => format!(
                "{why}: containers reach dependencies through the run's proxy, at the node's own address and the usual ports. Somebody \
                 has them: a web server, or another run with dependencies. Stop it, or test this recipe in a daemon of its own"
            ),
        }
    }

    /// Takes away everything of the run, the claim last.
    pub(super) async fn end(&self) -> Result<TornDown, String> {
        release(&self.swarm, &self.run, &self.stack).await
    }

    /// As [`Shared::end`], where something went wrong that matters more.
    pub(super) async fn give_up(&self) {
        if let Err(error) = self.end().await {
            tracing::warn!(%error, run = self.run, "a place on the shared swarm was not given back");
        }
    }
}

impl Record {
    /// Writes it into a run's folder; the file is locked for as long as it is held.
    fn write(&self, folder: &Path) -> Result<File, String> {
        let path = folder.join(RECORD);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut file = File::create(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(file)
    }

    /// Reads it from a run's folder, with the file; none where there is none, or none that reads: then nothing was made yet.
    fn read(folder: &Path) -> Option<(Self, File)> {
        let file = File::open(folder.join(RECORD)).ok()?;
        let mut text = Vec::new();
        (&file).take(LONGEST).read_to_end(&mut text).ok()?;
        Some((serde_json::from_slice(&text).ok()?, file))
    }
}

/// Whether a run could be deployed into the swarm behind a socket; whether its kernel can balance loads (IPVS).
///
/// # Errors
/// The first thing that is missing, and what to do about it.
pub async fn check(socket: &Path) -> Result<bool, String> {
    SharedSwarm::open(socket).await.map(|swarm| swarm.ipvs()).map_err(|error| error.to_string())
}

/// Takes away what runs left in a shared swarm whose owners are certainly dead: each run, or why it did not go.
///
/// # Errors
/// The swarm cannot be asked.
pub async fn sweep(socket: &Path) -> Result<Vec<Result<String, String>>, String> {
    let swarm = SharedSwarm::open(socket).await.map_err(|error| error.to_string())?;
    sweep_claims(&swarm).await
}

async fn sweep_claims(swarm: &SharedSwarm) -> Result<Vec<Result<String, String>>, String> {
    let mut told = Vec::new();
    for claim in swarm.claims().await.map_err(|error| error.to_string())? {
        let state = swarm.state(&claim).map_err(|error| error.to_string())?;
        if state != OwnerState::Dead {
            continue;
        }
        let name = format!("the run {} (stack {})", claim.run, claim.stack);
        told.push(match release(swarm, &claim.run, &claim.stack).await {
            Err(error) => Err(format!("{name} was ended by force, and what it left stays: {error}")),
            Ok(torn) if !torn.leaks.is_empty() => {
                let leaks: Vec<String> = torn.leaks.iter().take(5).map(ToString::to_string).collect();
                Err(format!("{name} was ended by force, and some of it stays: {}", leaks.join(", ")))
            }
            Ok(_) => {
                remove_folder(&claim);
                Ok(name)
            }
        });
    }
    Ok(told)
}

/// Takes away a dead run's folder, if it is that run's by its own record.
fn remove_folder(claim: &Claim) {
    let named = claim.folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(RUN));
    let own = || Record::read(&claim.folder).is_some_and(|(record, _)| record.run == claim.run);
    if named
        && own()
        && let Err(error) = std::fs::remove_dir_all(&claim.folder)
    {
        tracing::warn!(%error, folder = %claim.folder.display(), "a dead run's folder was not removed");
    }
}

/// Takes away what the run of a folder left in a shared swarm. False where somebody still works on it.
pub(super) async fn sweep_recorded(folder: &Path) -> Result<bool, String> {
    let Some((record, file)) = Record::read(folder) else { return Ok(true) };
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Ok(false),
        Err(std::fs::TryLockError::Error(error)) => return Err(format!("{}: {error}", folder.display())),
    }
    let swarm = SharedSwarm::open(&record.socket).await.map_err(|error| error.to_string())?;
    let torn = release(&swarm, &record.run, &record.stack).await?;
    match torn.leaks.first() {
        None => Ok(true),
        Some(leak) => Err(format!("{leak} (of {}) is still in the shared swarm", record.stack)),
    }
}

async fn release(swarm: &SharedSwarm, run: &str, stack: &str) -> Result<TornDown, String> {
    // A restore that was broken off in the middle leaves it.
    let staging = Site::staging_in(swarm.data(), stack);
    match std::fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::debug!(%error, folder = %staging.display(), "not removed");
        }
        _ => {}
    }
    swarm.release(run, stack, GO).await.map_err(|error| error.to_string())
}

/// An address on the loopback that no other run has.
fn address_of(run: RunId) -> Ipv4Addr {
    let [one, two, three, ..] = *run.0.as_bytes();
    // Neither 127.0.0.0/10, which people use, nor the ends of a network.
    Ipv4Addr::new(127, 64 + one % 64, two, 1 + three % 254)
}

/// Makes a stack one that disturbs nobody: ports and subnets are any free ones, and networks of others become the run's own. What was
/// changed is told.
///
/// # Errors
/// What would be somebody else's: everything whose name is not below the stack's.
pub(super) fn fit(compose: &mut Compose, stack: &str) -> Result<Vec<String>, Vec<String>> {
    let below = |name: &str| name.strip_prefix(stack).is_some_and(|rest| rest.starts_with('_'));
    let mut refused = Vec::new();
    let mut refuse = |kind: ThingKind, key: &str, name: Option<&String>, external: bool| {
        let called = match name {
            Some(name) => name.as_str(),
            None if external => key,
            None => return,
        };
        if !below(called) {
            let kind = format!("{kind:?}").to_lowercase();
            refused.push(format!(
                "{kind}s.{key}: `{called}` is a name that others in a shared swarm may have; call it `${{STACK_NAME}}_{key}`, or test it \
                 in a daemon of its own"
            ));
        }
    };
    for (key, volume) in &compose.volumes {
        refuse(ThingKind::Volume, key, volume.name.as_ref(), volume.external);
    }
    for (key, secret) in &compose.secrets {
        refuse(ThingKind::Secret, key, secret.name.as_ref(), secret.external);
    }
    for (key, config) in &compose.configs {
        refuse(ThingKind::Config, key, config.name.as_ref(), config.external);
    }
    for (key, network) in compose.networks.iter().filter(|(_, network)| !network.external) {
        refuse(ThingKind::Network, key, network.name.as_ref(), false);
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    let mut told = Vec::new();
    for (key, network) in &mut compose.networks {
        let called = network.name.as_deref().unwrap_or(key);
        if network.external && !PREDEFINED.contains(&called) && !below(called) {
            let own = format!("{stack}_{called}");
            told.push(format!(
                "network {key}: {own}, of the run's own, instead of {called}, which is others'"
            ));
            network.name = Some(own);
        }
        if !network.subnets.is_empty() {
            network.subnets.clear();
            told.push(format!("network {key}: any free subnet instead of its own, which others may have"));
        }
    }
    for (key, service) in &mut compose.services {
        for port in &mut service.ports {
            if let Some(published) = port.published.take() {
                told.push(format!(
                    "{key}: port {} is published at any free port instead of {published}, which others may have",
                    port.target
                ));
            }
        }
    }
    Ok(told)
}

/// Networks that every daemon has.
const PREDEFINED: [&str; 3] = ["host", "bridge", "none"];

#[cfg(test)]
mod tests {
    use assay_recipe::compose::model::{Network, Object, Port, Service, Volume};
    use indexmap::IndexMap;

    use super::*;

    fn named<T>(key: &str, value: T) -> IndexMap<String, T> {
        [(key.to_owned(), value)].into_iter().collect()
    }

    #[test]
    fn a_stack_gets_ports_networks_and_subnets_of_its_own() {
        let port =
            |published| Port { target: 80, published, protocol: "tcp".to_owned(), mode: "host".to_owned() };
        let ports = vec![port(Some(8080)), port(None)];
        let mut compose = Compose {
            services: named("app", Service { ports, ..Service::default() }),
            networks: [
                ("proxy".to_owned(), Network { external: true, ..Network::default() }),
                ("host".to_owned(), Network { external: true, ..Network::default() }),
                (
                    "inner".to_owned(),
                    Network { subnets: vec!["10.9.0.0/24".to_owned()], ..Network::default() },
                ),
            ]
            .into_iter()
            .collect(),
            volumes: named("data", Volume::default()),
            secrets: named(
                "key",
                Object { name: Some("abc_key_v1".to_owned()), external: true, ..Object::default() },
            ),
            ..Compose::default()
        };
        let told = fit(&mut compose, "abc").unwrap();
        insta::assert_snapshot!(told.join("\n"), @"
        network proxy: abc_proxy, of the run's own, instead of proxy, which is others'
        network inner: any free subnet instead of its own, which others may have
        app: port 80 is published at any free port instead of 8080, which others may have
        ");
        assert_eq!(compose.networks["proxy"].name.as_deref(), Some("abc_proxy"));
        assert!(compose.networks["proxy"].external && compose.networks["host"].name.is_none());
        assert!(compose.services["app"].ports.iter().all(|port| port.published.is_none()));
        // The same once more changes nothing.
        assert_eq!(fit(&mut compose, "abc").unwrap(), [""; 0]);
    }

    #[test]
    fn what_may_be_somebody_else_s_is_refused() {
        let own_name = |name: &str| Some(name.to_owned());
        let mut compose = Compose {
            volumes: [
                (
                    "cache".to_owned(),
                    Volume { external: true, name: own_name("site-cache"), ..Volume::default() },
                ),
                ("shared".to_owned(), Volume { external: true, ..Volume::default() }),
                ("fine".to_owned(), Volume { name: own_name("abc_fine"), ..Volume::default() }),
            ]
            .into_iter()
            .collect(),
            secrets: named("key", Object { external: true, ..Object::default() }),
            // Begins alike and is not below it.
            configs: named("conf", Object { name: own_name("abcd_conf"), ..Object::default() }),
            networks: named("net", Network { name: own_name("backbone"), ..Network::default() }),
            ..Compose::default()
        };
        let refused = fit(&mut compose, "abc").unwrap_err();
        insta::assert_snapshot!(refused.join("\n"), @"
        volumes.cache: `site-cache` is a name that others in a shared swarm may have; call it `${STACK_NAME}_cache`, or test it in a daemon of its own
        volumes.shared: `shared` is a name that others in a shared swarm may have; call it `${STACK_NAME}_shared`, or test it in a daemon of its own
        secrets.key: `key` is a name that others in a shared swarm may have; call it `${STACK_NAME}_key`, or test it in a daemon of its own
        configs.conf: `abcd_conf` is a name that others in a shared swarm may have; call it `${STACK_NAME}_conf`, or test it in a daemon of its own
        networks.net: `backbone` is a name that others in a shared swarm may have; call it `${STACK_NAME}_net`, or test it in a daemon of its own
        ");
    }

    #[test]
    fn runs_have_addresses_of_their_own_on_the_loopback() {
        let of = |first: u8| {
            let mut bytes = [0; 16];
            bytes[..3].copy_from_slice(&[first, 7, 255]);
            address_of(RunId(uuid::Uuid::from_bytes(bytes)))
        };
        assert_eq!(of(0).to_string(), "127.64.7.2");
        assert_eq!(of(255).to_string(), "127.127.7.2");
    }

    #[tokio::test]
    async fn a_record_is_somebody_s_while_it_is_held() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(sweep_recorded(folder.path()).await, Ok(true), "nothing was made");
        let socket = folder.path().join("docker.sock");
        let record = Record { socket, run: "r".to_owned(), stack: "abc".to_owned() };
        let held = record.write(folder.path()).unwrap();
        assert_eq!(sweep_recorded(folder.path()).await, Ok(false));
        drop(held);
        // Nobody's any more, so the swarm is asked; there is none behind this socket.
        let error = sweep_recorded(folder.path()).await.unwrap_err();
        assert!(error.contains("no Docker daemon answers"), "{error}");
    }
}
