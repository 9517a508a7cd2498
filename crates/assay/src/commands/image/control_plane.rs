//! `assay image control-plane`: the stand-in alone, for machines that are booted by hand.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use assay_engine::clock::SystemClock;
use assay_standin::{Config, Fault, Listen, StandIn};
use clap::Args;

use crate::commands::told_to_stop;
use crate::exit::Exit;
use crate::ui;

#[derive(Args)]
pub(crate) struct ControlPlane {
    /// Where it listens, plain HTTP.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Where it listens, TLS; its authority's certificate is printed.
    #[arg(long)]
    listen_tls: Option<SocketAddr>,
    /// Owner and name of the repository.
    #[arg(long, default_value = "operator/cluster")]
    repository: String,
    /// The operator's login.
    #[arg(long, default_value = "operator")]
    operator: String,
    /// A token that is let in; one is drawn and printed without it.
    #[arg(long, env = "ASSAY_STANDIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Something that goes wrong, as JSON: '{"route": "pull", "effect": {"status": {"code": 500}}, "times": 2}'; may be
    /// given more than once.
    #[arg(long, value_name = "JSON")]
    fault: Vec<String>,
    /// Print each event as JSON on stdout.
    #[arg(long)]
    json: bool,
}

impl ControlPlane {
    pub(crate) async fn run(self) -> Result<Exit> {
        let (owner, repository) = self
            .repository
            .split_once('/')
            .context("--repository is OWNER/NAME, such as operator/cluster")?;
        let drawn = uuid::Uuid::new_v4().simple().to_string();
        let token = self.token.clone().unwrap_or(drawn);
        let mut config = Config::new(Arc::new(SystemClock::default())).token("node", &token);
        config.owner = owner.to_owned();
        config.repository = repository.to_owned();
        config.login = self.operator.clone();
        config.listen =
            std::iter::once(Listen::Tcp(self.listen)).chain(self.listen_tls.map(Listen::TcpTls)).collect();
        for fault in &self.fault {
            let fault: Fault = serde_json::from_str(fault).with_context(|| format!("--fault {fault}"))?;
            config.faults.push(fault);
        }
        let standin = StandIn::start(config).await?;
        let url = standin.url().unwrap_or_default();
        ui::say(&format!("control plane at {url}, repository {url}{}", standin.git_path()));
        if let (Some(url), Some(ca)) = (standin.tls_url(), standin.ca_pem()) {
            ui::say(&format!("and at {url}, by this authority:\n{}", ca.trim_end()));
        }
        if self.token.is_none() {
            ui::say(&format!("token: {token}"));
        }
        ui::say("stop with Ctrl-C");
        let mut events = standin.events();
        let mut stop = std::pin::pin!(told_to_stop());
        loop {
            tokio::select! {
                () = &mut stop => break,
                event = events.recv() => match event {
                    Ok(event) if self.json => ui::line(&serde_json::to_string(&event)?),
                    Ok(event) => ui::line(&words(&event)),
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(lost)) => {
                        ui::say(&format!("{lost} events came too fast to be shown; they are in the ledger"));
                    }
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
                },
            }
        }
        let ledger = standin.stop().await;
        ui::say(&format!(
            "{} requests, {} pushes, {} pull requests, {} registrations, {} joins",
            ledger.requests.len(),
            ledger.pushes.len(),
            ledger.pulls.len(),
            ledger.registrations.len(),
            ledger.joins.len()
        ));
        Ok(Exit::Ok)
    }
}

fn words(event: &assay_standin::Event) -> String {
    use assay_standin::Event as E;
    let clean = |text: &str| assay_model::text::clean(text);
    match event {
        E::Request(r) => {
            let status = r.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            format!("{} {} → {status}", clean(&r.method), clean(&r.path))
        }
        E::Push(p) => format!("push {} {:?}: {} commits", clean(&p.reference), p.kind, p.commits.len()),
        E::PullOpened(p) => format!(
            "pull request {}: {} ({} into {})",
            p.number,
            clean(&p.title),
            clean(&p.head),
            clean(&p.base)
        ),
        E::PullEnded { number, state } => format!("pull request {number}: {state:?}"),
        E::Registered(r) => format!("registered: {}", clean(&r.name)),
        E::Joined(j) => format!("joined: {}", clean(&j.name)),
        E::Deleted(d) => format!("deleted: {d:?}"),
        E::Login(l) => format!("login: {l:?}"),
        E::Fault(f) => format!("fault: {f:?}"),
        E::Trouble(t) => format!("trouble: {t:?}"),
    }
}
