//! What stands while a run's stack is up: a Docker daemon with a swarm of its own, and the way in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use assay_swarm::{Census, Daemon, DaemonConfig, Endpoints, Programs, Swarm};

use super::front::Front;
use super::{Tell, Test, sandbox};

/// A daemon, and the way in.
pub(super) struct Stand {
    pub(super) daemon: Daemon,
    /// What the daemon had before anything was deployed.
    pub(super) census: Census,
    pub(super) front: Arc<Front>,
    pub(super) endpoints: Endpoints,
    /// Where hooks, tests and browsers run.
    pub(super) programs: Arc<Programs>,
}

impl Stand {
    pub(super) fn swarm(&self) -> &Swarm {
        self.daemon.swarm()
    }

    /// How somebody on this machine gets to the app: two commands, on one line of a shell's.
    pub(super) fn how_to_reach(&self, domain: &str) -> String {
        let docker = self.daemon.socket();
        let inside = self.daemon.command_line_inside();
        format!(
            "{inside} curl -k --resolve {domain}:443:{address} https://{domain}/; docker -H unix://{} stack ls",
            docker.display(),
            address = self.daemon.address(),
        )
    }
}

impl Test {
    /// Starts a daemon, where none runs yet.
    pub(super) async fn stand_up(&mut self, tell: Tell<'_>) -> Result<(), String> {
        if self.stand.is_some() {
            return Ok(());
        }
        tell("starting a Docker daemon of the run's own");
        let config =
            DaemonConfig { folder: self.daemon_folder(), log: self.folder.path().join("dockerd.log") };
        let daemon = Daemon::start(&config).await.map_err(|error| error.to_string())?;
        let reach = daemon.reach().map_err(|error| error.to_string())?;
        let census = daemon.swarm().census().await.map_err(|error| error.to_string())?;
        self.ipvs = Some(daemon.ipvs());
        let endpoints = if daemon.ipvs() { Endpoints::AsWritten } else { Endpoints::WithoutIpvs };
        let programs = daemon.programs(sandbox::LIMITS).await.map_err(|error| error.to_string())?;
        for what in programs.unlimited() {
            tell(&format!(
                "this kernel has no control group for {what}: hooks and tests are not limited in it"
            ));
        }
        let front = Front::start(reach, &self.domain, self.folder.path()).await?;
        self.stand = Some(Stand { daemon, census, front, endpoints, programs: programs.into() });
        Ok(())
    }

    fn daemon_folder(&self) -> PathBuf {
        daemon_in(self.folder.path())
    }
}

/// Where the daemon is in a run's folder. A short name: there is a socket below it.
pub(super) fn daemon_in(run: &Path) -> PathBuf {
    run.join("d")
}
