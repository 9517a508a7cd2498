//! `assay host`: registered machines.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use assay_api::operator::{Host as HostInfo, NewHost, RunSummary, UnknownMac, Vet};
use assay_model::Mac;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::commands::{Remote, run};
use crate::exit::Exit;
use crate::ui;

#[derive(Subcommand)]
pub(crate) enum Host {
    /// Register a machine (or change it with --replace)
    Add(Add),
    /// All registered machines, each with its latest run
    List(List),
    /// One machine
    Show(Named),
    /// Vet a machine: boot it from the network and run the pipeline
    Vet(VetArgs),
    /// Give a held machine back (abandons its run)
    Release(Release),
    /// Unregister a machine
    Remove(Named),
}

#[derive(Args)]
pub(crate) struct Add {
    /// Its name.
    name: String,
    /// An Ethernet address it may boot from; may be given more than once.
    #[arg(long = "mac", required = true)]
    macs: Vec<Mac>,
    /// The expected spec, a YAML file. Write one from a good machine with `assay report RUN --format spec`.
    #[arg(long)]
    spec: Option<PathBuf>,
    /// How it is switched on: `manual`, or `lab:MACHINE` for a simulated one.
    #[arg(long, default_value = "manual")]
    power: String,
    /// Change a machine that is registered already.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct List {
    /// List the machines that asked for a lease and are not registered.
    #[arg(long)]
    unknown: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Named {
    /// Its name.
    name: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct VetArgs {
    /// Its name.
    name: String,
    /// quick, standard or burnin.
    #[arg(long, default_value = "standard")]
    profile: String,
    /// Longest time from power-on to enrolment, in seconds.
    #[arg(long)]
    boot_timeout: Option<u32>,
    /// Do not hold the machine on failure.
    #[arg(long)]
    no_hold: bool,
    /// Watch the run to its verdict.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Release {
    /// Its name.
    name: String,
    /// Why; stands in the journal and on the report.
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    remote: Remote,
}

impl Host {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::Add(add) => add.run().await,
            Self::List(list) => list.run().await,
            Self::Show(named) => named.show().await,
            Self::Vet(vet) => vet.run().await,
            Self::Release(release) => release.run().await,
            Self::Remove(named) => {
                named.remote.client()?.delete(&format!("/api/v1/hosts/{}", named.name)).await?;
                ui::say(&format!("{} is no longer registered", named.name));
                Ok(Exit::Ok)
            }
        }
    }
}

impl Add {
    async fn run(self) -> Result<Exit> {
        let spec_yaml = match &self.spec {
            Some(path) => Some(std::fs::read_to_string(path).with_context(|| path.display().to_string())?),
            None => None,
        };
        let power = match self.power.split_once(':') {
            Some((method @ "lab", machine)) => json!({ "method": method, "machine": machine }),
            _ => json!({ "method": self.power }),
        };
        let new = NewHost { name: self.name, macs: self.macs, spec_yaml, power: Some(power) };
        let client = self.remote.client()?;
        let host: HostInfo = if self.replace {
            client.put(&format!("/api/v1/hosts/{}", new.name), &new).await?
        } else {
            client.post("/api/v1/hosts", &new).await?
        };
        if self.remote.json {
            ui::json(&host)?;
        } else {
            ui::say(&format!("{} is registered; vet it with `assay host vet {}`", host.name, host.name));
        }
        Ok(Exit::Ok)
    }
}

impl List {
    async fn run(self) -> Result<Exit> {
        let client = self.remote.client()?;
        if self.unknown {
            let unknown: Vec<UnknownMac> = client.get("/api/v1/unknown").await?;
            if self.remote.json {
                ui::json(&unknown)?;
                return Ok(Exit::Ok);
            }
            let rows: Vec<_> = unknown
                .iter()
                .map(|u| {
                    vec![u.mac.to_string(), u.last_seen.rfc3339(), u.count.to_string(), u.runner.clone()]
                })
                .collect();
            ui::table(&["MAC", "LAST SEEN", "TIMES", "RUNNER"], &rows);
            return Ok(Exit::Ok);
        }
        let hosts: Vec<HostInfo> = client.get("/api/v1/hosts").await?;
        if self.remote.json {
            ui::json(&hosts)?;
            return Ok(Exit::Ok);
        }
        if hosts.is_empty() {
            ui::say(
                "no machine is registered; add one with `assay host add NAME --mac 52:54:00:12:34:56 --spec spec.yaml`",
            );
        }
        let rows: Vec<_> = hosts
            .iter()
            .map(|h| {
                let latest = h.latest.as_ref();
                vec![
                    h.name.clone(),
                    h.macs.first().map(ToString::to_string).unwrap_or_default(),
                    latest.map_or_else(|| "never vetted".to_owned(), run::verdict_words),
                    latest.map(|r| r.number.to_string()).unwrap_or_default(),
                ]
            })
            .collect();
        ui::table(&["HOST", "MAC", "VERDICT", "RUN"], &rows);
        Ok(Exit::Ok)
    }
}

impl Named {
    async fn show(self) -> Result<Exit> {
        let client = self.remote.client()?;
        let host: HostInfo = client.get(&format!("/api/v1/hosts/{}", self.name)).await?;
        let runs: Vec<RunSummary> = client.get(&format!("/api/v1/runs?host={}", self.name)).await?;
        if self.remote.json {
            ui::json(&json!({ "host": host, "runs": runs }))?;
            return Ok(Exit::Ok);
        }
        let macs: Vec<_> = host.macs.iter().map(ToString::to_string).collect();
        ui::line(&format!("{}\n  boots from  {}\n  power       {}", host.name, macs.join(", "), host.power));
        ui::line(&format!(
            "  spec        {}",
            if host.spec_yaml.is_some() { "yes" } else { "none: nothing is compared" }
        ));
        run::print_list(&runs);
        Ok(Exit::Ok)
    }
}

impl VetArgs {
    async fn run(self) -> Result<Exit> {
        let client = self.remote.client()?;
        let vet = Vet {
            profile: Some(self.profile),
            boot_timeout_s: self.boot_timeout,
            no_hold: self.no_hold,
            ..Vet::default()
        };
        let run: RunSummary = client.post(&format!("/api/v1/hosts/{}/vet", self.name), &vet).await?;
        if self.watch {
            return run::watch(&client, run.number, self.remote.json).await;
        }
        if self.remote.json {
            ui::json(&run)?;
        } else {
            let waiting = run.waiting.as_deref().map(|w| format!(" ({w})")).unwrap_or_default();
            ui::say(&format!(
                "run {n} is {s}{waiting}; follow it with `assay run watch {n}`",
                n = run.number,
                s = run.state
            ));
        }
        Ok(Exit::Ok)
    }
}

impl Release {
    async fn run(self) -> Result<Exit> {
        let path = format!("/api/v1/hosts/{}/release", self.name);
        let run: RunSummary = self.remote.client()?.post(&path, &json!({ "why": self.why })).await?;
        if self.remote.json {
            ui::json(&run)?;
        } else {
            ui::say(&format!("{} is released; run {} is {}", self.name, run.number, run.state));
        }
        Ok(Exit::Ok)
    }
}
