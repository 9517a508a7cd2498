//! A control plane and a runner for one command: the same as everywhere, in this process, on a scratch store.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use assay_engine::Tuning;
use assay_engine::clock::SystemClock;
use assay_pipelines::image::bench::Digests;
use assay_registry::ImageCache;
use assay_runner::{BenchSettings, MachineSettings, RecipeBenchSettings, Recipes, Warm};
use assay_server::{Server, Settings};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::place;

/// The runner's name, on a control plane that has no other.
const RUNNER: &str = "here";

/// Both, running; or a runner of our own beside a control plane that is elsewhere.
pub(crate) struct Local {
    pub(crate) client: Client,
    /// Our runner's name: runs are given to it, since it has the image.
    pub(crate) runner_name: String,
    stop: watch::Sender<bool>,
    server: Option<JoinHandle<std::io::Result<()>>>,
    runner: JoinHandle<Result<(), assay_runner::RunnerError>>,
}

/// A control plane elsewhere, which keeps the history.
#[derive(Clone, Debug)]
pub(crate) struct Elsewhere {
    /// For operators and runners: `http://…`.
    pub(crate) server: String,
    /// Where agents are served.
    pub(crate) agents: SocketAddr,
    /// An API token.
    pub(crate) token: String,
    /// The runners' join token.
    pub(crate) runner_token: String,
}

impl Local {
    /// Starts both on the folder `data`; `capacity` says how much is done at once.
    pub(crate) async fn start(data: &Path, capacity: &[assay_runner::Slots]) -> Result<Self> {
        Self::start_with(data, capacity, None, None, None).await
    }

    /// As [`Self::start`], with a cache that recipes' images come through, the socket of a swarm that recipes share, and machines for
    /// those of strangers.
    pub(crate) async fn start_with(
        data: &Path,
        capacity: &[assay_runner::Slots],
        images: Option<ImageCache>,
        shared_swarm: Option<PathBuf>,
        machines: Option<MachineSettings>,
    ) -> Result<Self> {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::open(Settings {
            data_dir: data.to_owned(),
            database: None,
            listen: anywhere,
            boot_listen: anywhere,
            agent_listen: anywhere,
            agent_port: assay_runner::AGENT_PORT,
            live_image: data.join("live-image"),
            notify: None,
            webhooks: Vec::new(),
            webhook_internal: false,
            public_badges: false,
            password: None,
            tuning: Tuning::default(),
        })
        .await?;
        let at = server.addresses()?;
        let url = format!("http://{}", at.operators);
        let client = Client::new(&url, &place::token(data, "cli")?)?;
        let (stop, stopping) = watch::channel(false);
        let settings = assay_runner::Settings {
            name: RUNNER.to_owned(),
            server: url,
            token: place::token(data, "runner")?,
            boot: at.boot,
            agents: at.agents,
            state_dir: data.join("runner"),
            network: None,
            benches: Some(benches(&data.join("runner"))?),
            recipes: Some(
                recipes(&data.join("runner"), &[], images, Warm::default(), shared_swarm)
                    .with_machines(machines),
            ),
            proxy_dhcp: false,
            iperf_port: assay_runner::IPERF_PORT,
            capacity: assay_runner::capacity(capacity).context("--capacity")?,
        };
        let server = Some(tokio::spawn(server.serve(told(stopping.clone()))));
        let runner_name = settings.name.clone();
        let runner = tokio::spawn(assay_runner::run(settings, told(stopping)));
        Ok(Self { client, runner_name, stop, server, runner })
    }

    /// Joins a control plane that is elsewhere as a runner of our own, for as long as this lives.
    pub(crate) fn join(there: &Elsewhere, folder: &Path, capacity: &[assay_runner::Slots]) -> Result<Self> {
        let client = Client::new(&there.server, &there.token)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let runner_name = format!("{host}-{}", std::process::id());
        let settings = assay_runner::Settings {
            name: runner_name.clone(),
            server: there.server.clone(),
            token: there.runner_token.clone(),
            // Nothing boots over a network from here.
            boot: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            agents: there.agents,
            state_dir: folder.join("runner"),
            network: None,
            benches: Some(benches(&folder.join("runner"))?),
            recipes: Some(recipes(&folder.join("runner"), &[], None, Warm::default(), None)),
            proxy_dhcp: false,
            iperf_port: assay_runner::IPERF_PORT,
            capacity: assay_runner::capacity(capacity).context("--capacity")?,
        };
        let (stop, stopping) = watch::channel(false);
        let runner = tokio::spawn(assay_runner::run(settings, told(stopping)));
        Ok(Self { client, runner_name, stop, server: None, runner })
    }

    /// Why one of the two ended by itself. Pending while both run.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        let server = async {
            match &mut self.server {
                Some(server) => server.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = server => match ended {
                Ok(Err(why)) => anyhow!(why).context("the control plane ended"),
                _ => anyhow!("the control plane ended by itself"),
            },
            ended = &mut self.runner => match ended {
                Ok(Err(why)) => anyhow!(why).context("the runner ended"),
                _ => anyhow!("the runner ended by itself"),
            },
        }
    }

    /// Stops the runner first, and with it every machine.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        // Whatever `ended` has seen the end of must not be asked again.
        if !self.runner.is_finished() {
            let _ = self.runner.await;
        }
        if let Some(server) = self.server.filter(|server| !server.is_finished()) {
            let _ = server.await;
        }
    }
}

/// What a runner on this machine tests images with.
pub(crate) fn benches(state: &Path) -> Result<BenchSettings> {
    let program = std::env::current_exe().context("finding this program")?;
    let name = program.to_str().context("this program's path is not text")?.to_owned();
    Ok(BenchSettings {
        folder: state.join("benches"),
        cache: cache()?,
        relay: vec![name, "relay".to_owned()],
        disk_server: [program.into_os_string(), OsString::from("lab"), OsString::from("serve-disk")].to_vec(),
        clock: Arc::new(SystemClock::default()),
        digests: Digests::default(),
    })
}

/// What a runner on this machine tests recipes with.
pub(crate) fn recipes(
    state: &Path,
    images: &[PathBuf],
    cache: Option<ImageCache>,
    warm: Warm,
    shared_swarm: Option<PathBuf>,
) -> Recipes {
    let (folder, images) = (state.join("swarms"), images.to_vec());
    let settings = RecipeBenchSettings { folder, images, cache, warm, shared_swarm, outside: None };
    Recipes::new(settings, Arc::new(SystemClock::default()))
}

/// Where the answer whether KVM works outlives a scratch store.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let folder = base.unwrap_or_else(std::env::temp_dir).join("assay");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

async fn told(mut stopping: watch::Receiver<bool>) {
    // A sender that is gone has nothing more to say: then it is over, too.
    let _ = stopping.wait_for(|stop| *stop).await;
}
