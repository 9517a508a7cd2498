//! `assay serve`: the control plane.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use assay_engine::Tuning;
use assay_server::{Server, Settings};
use clap::Args;

use crate::commands::told_to_stop;
use crate::exit::Exit;
use crate::{place, ui};

#[derive(Args, Clone, Debug)]
pub(crate) struct Serve {
    /// Where everything is kept.
    #[arg(long, env = "ASSAY_DATA", default_value_os_t = place::default_data())]
    pub(crate) data: PathBuf,
    /// sqlite://… or postgres://…; SQLite in the data folder without it.
    #[arg(long, env = "ASSAY_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Where operators and runners are served.
    #[arg(long, default_value = "127.0.0.1:7300")]
    pub(crate) listen: SocketAddr,
    /// Where firmware is served (boot scripts, live image).
    #[arg(long, default_value = "127.0.0.1:7301")]
    pub(crate) boot_listen: SocketAddr,
    /// Where agents are served (TLS).
    #[arg(long, default_value = "127.0.0.1:7302")]
    pub(crate) agent_listen: SocketAddr,
    /// The port under which agents reach this server on the provisioning network.
    #[arg(long, default_value_t = assay_runner::AGENT_PORT)]
    agent_port: u16,
    /// The folder with the live image [default: `live-image` in the data folder].
    #[arg(long, env = "ASSAY_LIVE_IMAGE")]
    pub(crate) live_image: Option<PathBuf>,
    /// Who is told what happens: a settings file [default: `notify.toml` in the data folder, if there is one].
    #[arg(long, env = "ASSAY_NOTIFY")]
    notify: Option<PathBuf>,
    /// Where notifications are sent, too, as JSON by POST; may be given more than once.
    #[arg(long)]
    webhook: Vec<String>,
    /// Let --webhook name internal addresses.
    #[arg(long)]
    webhook_allow_internal: bool,
    /// Let everybody see badges (/badge/…), without signing in: for READMEs. They tell level, version, run and day.
    #[arg(long, env = "ASSAY_PUBLIC_BADGES")]
    public_badges: bool,
    /// The first operator's password, for unattended set-up.
    #[arg(long, env = "ASSAY_OPERATOR_PASSWORD", hide_env_values = true)]
    operator_password: Option<String>,
}

impl Serve {
    pub(crate) async fn run(self) -> Result<Exit> {
        if rustix::process::geteuid().is_root() {
            ui::say("note: the control plane needs no privileges; `assay up` starts it as a user of its own");
        }
        let live_image = self.live_image.unwrap_or_else(|| self.data.join("live-image"));
        let server = Server::open(Settings {
            data_dir: self.data.clone(),
            database: self.database,
            listen: self.listen,
            boot_listen: self.boot_listen,
            agent_listen: self.agent_listen,
            agent_port: self.agent_port,
            live_image,
            notify: self.notify,
            webhooks: self.webhook,
            webhook_internal: self.webhook_allow_internal,
            public_badges: self.public_badges,
            password: self.operator_password,
            tuning: Tuning::default(),
        })
        .await?;
        let at = server.addresses()?;
        place::Addresses { operators: at.operators, boot: at.boot, agents: at.agents }.write(&self.data)?;
        if let Some(problem) = server.image_problem() {
            ui::say(&format!("note: no machine can be booted yet: {problem}"));
        }
        if let Some(code) = server.setup_code().await {
            ui::say(&format!("first start: set a password at http://{}/setup?code={code}", at.operators));
        }
        ui::line(&format!("ready http://{}", at.operators));
        server.serve(told_to_stop()).await?;
        Ok(Exit::Ok)
    }
}
