//! What stands while a run's stack is up: a Docker daemon with a swarm, and the way in. The daemon is the run's own, or one that others
//! use, too ([`Shared`]); everything else of the bench need not know which.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use assay_backup::Site;
use assay_recipe::compose::model::Compose;
use assay_recipe::labels::BackupPlan;
use assay_swarm::{Census, Daemon, DaemonConfig, Endpoints, ImageIdentity, Plan, Programs, Reach, Swarm};

use super::front::{Front, Ports};
use super::machine::Patience;
use super::shared::{self, Shared};
use super::{Tell, Test, sandbox};
use crate::recipe::evidence::Ground;

/// A daemon, and the way in.
pub(super) struct Stand {
    pub(super) on: On,
    /// What the daemon had before anything was deployed.
    pub(super) census: Census,
    pub(super) front: Arc<Front>,
    pub(super) endpoints: Endpoints,
    /// Where hooks, tests and browsers run.
    pub(super) programs: Arc<Programs>,
}

/// Whose daemon it is.
pub(super) enum On {
    /// The run's, with a network of its own.
    Own(Box<Daemon>),
    /// Others', too; its network is the one that this process is in.
    Shared(Box<Shared>),
}

impl Stand {
    pub(super) fn swarm(&self) -> &Swarm {
        match &self.on {
            On::Own(daemon) => daemon.swarm(),
            On::Shared(shared) => shared.swarm.swarm(),
        }
    }

    /// Where the proxy listens.
    pub(super) fn address(&self) -> String {
        match &self.on {
            On::Own(daemon) => daemon.address().to_owned(),
            On::Shared(shared) => shared.address.to_string(),
        }
    }

    /// The way into the daemon's network.
    pub(super) fn reach(&self) -> Result<Reach, String> {
        match &self.on {
            On::Own(daemon) => daemon.reach().map_err(|error| error.to_string()),
            On::Shared(shared) => Ok(Reach::here(shared.address)),
        }
    }

    /// The way to where the daemon takes images from without TLS.
    pub(super) fn reach_for_images(&self) -> Result<Reach, String> {
        match &self.on {
            On::Own(_) => self.reach(),
            // Every daemon trusts its own loopback.
            On::Shared(_) => Ok(Reach::here(Ipv4Addr::LOCALHOST)),
        }
    }

    /// A port for a program that listens on the loopback of the daemon's network: this one, or a free one where others are there.
    pub(super) fn port_on_loopback(&self, port: u16) -> io::Result<u16> {
        match &self.on {
            On::Own(_) => Ok(port),
            On::Shared(_) => Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port()),
        }
    }

    /// A stack, and where its volumes are.
    pub(super) fn site<'a>(&'a self, stack: &'a str, compose: &'a Compose, plan: &'a BackupPlan) -> Site<'a> {
        match &self.on {
            On::Own(daemon) => Site::of(daemon, stack, compose, plan),
            On::Shared(shared) => {
                Site::shared(shared.swarm.swarm(), shared.swarm.data(), stack, compose, plan)
            }
        }
    }

    /// Whether this process may read the daemon's volumes; why not, for people.
    pub(super) fn volumes_can_be_read(&self) -> Result<(), String> {
        let On::Shared(shared) = &self.on else { return Ok(()) };
        let folder = shared.swarm.data().join("volumes");
        match std::fs::read_dir(&folder) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!(
                "the shared daemon's volumes cannot be read ({}: {error}), and witnesses and backups are made there: it takes root",
                folder.display()
            )),
        }
    }

    /// What everything is labelled with that is made for the run.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        match &self.on {
            On::Own(_) => BTreeMap::new(),
            On::Shared(shared) => shared.labels(),
        }
    }

    /// A plan as it is deployed here.
    pub(super) fn marked(&self, plan: Plan) -> Plan {
        match &self.on {
            On::Own(_) => plan,
            On::Shared(shared) => {
                let plan = plan.labelled(&shared.labels());
                match shared.swarm.one_of_several() {
                    Some(node) => plan.on_node(node),
                    None => plan,
                }
            }
        }
    }

    /// Makes a stack one that disturbs nobody here: what was changed, for people.
    ///
    /// # Errors
    /// What cannot be had here, line by line.
    pub(super) fn fit(&self, compose: &mut Compose, stack: &str) -> Result<Vec<String>, Vec<String>> {
        match &self.on {
            On::Own(_) => Ok(Vec::new()),
            On::Shared(_) => shared::fit(compose, stack),
        }
    }

    /// Whether an image that is there already is the one that an archive would bring.
    ///
    /// # Errors
    /// It is another one, for people.
    pub(super) fn is_as_archived(&self, there: &ImageIdentity, archived: Option<&str>) -> Result<(), String> {
        match (&self.on, archived) {
            (On::Shared(shared), Some(archived))
                if shared.swarm.has_ids_of_configurations() && there.id != archived =>
            {
                Err(format!(
                    "the shared daemon has another image under the name {} ({}) than the archive that was given ({archived}), and \
                     the name may be somebody's: take it away there (docker image rm), or leave the archive away",
                    there.reference, there.id
                ))
            }
            _ => Ok(()),
        }
    }

    /// How somebody on this machine gets to the app: two commands, on one line of a shell's.
    pub(super) fn how_to_reach(&self, domain: &str) -> String {
        let (inside, socket) = match &self.on {
            On::Own(daemon) => (format!("{} ", daemon.command_line_inside()), daemon.socket()),
            On::Shared(shared) => (String::new(), shared.swarm.swarm().socket().to_owned()),
        };
        let (port, address) = (self.front.port(), self.address());
        let authority = self.front.authority();
        format!(
            "{inside}curl -k --resolve {domain}:{port}:{address} https://{authority}/; docker -H unix://{} stack ls",
            socket.display(),
        )
    }
}

impl Test {
    /// What its stacks are deployed into.
    pub(super) fn ground(&self) -> Ground {
        match (&self.settings.outside, &self.settings.shared_swarm) {
            (Some(_), _) => Ground::Machine,
            (None, Some(_)) => Ground::Shared,
            (None, None) => Ground::Own,
        }
    }

    /// How patient it is.
    pub(super) fn patience(&self) -> Patience {
        if self.settings.outside.is_some() { Patience::here() } else { Patience::Usual }
    }

    /// Starts a daemon, or takes a place on the one that is shared, where none is there yet.
    pub(super) async fn stand_up(&mut self, tell: Tell<'_>) -> Result<(), String> {
        if self.stand.is_some() {
            return Ok(());
        }
        let stand = if let Some(socket) = self.settings.shared_swarm.clone() {
            tell("taking a place on the shared swarm");
            self.stand_on(&socket, tell).await?
        } else {
            tell("starting a Docker daemon of the run's own");
            self.stand_alone().await?
        };
        for what in stand.programs.unlimited() {
            tell(&format!(
                "hooks and tests are not limited in {what} here: there is no control group or disk for it"
            ));
        }
        self.ipvs = Some(stand.endpoints == Endpoints::AsWritten);
        self.stand = Some(stand);
        Ok(())
    }

    async fn stand_alone(&self) -> Result<Stand, String> {
        let config =
            DaemonConfig { folder: self.daemon_folder(), log: self.folder.path().join("dockerd.log") };
        let daemon = Daemon::start(&config).await.map_err(|error| error.to_string())?;
        let reach = daemon.reach().map_err(|error| error.to_string())?;
        let census = daemon.swarm().census().await.map_err(|error| error.to_string())?;
        let programs = daemon.programs(sandbox::LIMITS).await.map_err(|error| error.to_string())?;
        let front = Front::start(reach, Ports::Usual, &self.domain, self.folder.path()).await?;
        let endpoints = endpoints(daemon.ipvs());
        Ok(Stand { on: On::Own(Box::new(daemon)), census, front, endpoints, programs: programs.into() })
    }

    async fn stand_on(&self, socket: &Path, tell: Tell<'_>) -> Result<Stand, String> {
        let stack = assay_recipe::names::stack_name(&self.domain);
        let has_dependencies = !self.spec.settings.dependencies.is_empty();
        let programs =
            Programs::here(self.folder.path(), sandbox::LIMITS).map_err(|error| error.to_string())?;
        let shared =
            Shared::begin(socket, self.run, &stack, self.folder.path(), has_dependencies, tell).await?;
        let standing = async {
            let census = shared.swarm.swarm().census().await.map_err(|error| error.to_string())?;
            let taken: Vec<String> =
                census.of_stack(&stack).things().take(3).map(ToString::to_string).collect();
            if !taken.is_empty() {
                return Err(format!(
                    "the shared swarm has things of a stack {stack} already ({}…), and nobody has claimed that name: take them away, \
                     or give the run another --seed",
                    taken.join(", ")
                ));
            }
            let reach = Reach::here(shared.address);
            let front = Front::start(reach, shared.ports, &self.domain, self.folder.path()).await;
            let front = front.map_err(|why| shared.why_not_listening(why))?;
            Ok((census, front))
        };
        match standing.await {
            Ok((census, front)) => {
                let endpoints = endpoints(shared.swarm.ipvs());
                Ok(Stand {
                    on: On::Shared(Box::new(shared)),
                    census,
                    front,
                    endpoints,
                    programs: programs.into(),
                })
            }
            Err(why) => {
                // Nothing was made but the claim.
                shared.give_up().await;
                Err(why)
            }
        }
    }

    fn daemon_folder(&self) -> PathBuf {
        daemon_in(self.folder.path())
    }
}

const fn endpoints(ipvs: bool) -> Endpoints {
    if ipvs { Endpoints::AsWritten } else { Endpoints::WithoutIpvs }
}

/// Where the daemon is in a run's folder. A short name: there is a socket below it.
pub(super) fn daemon_in(run: &Path) -> PathBuf {
    run.join("d")
}
