//! `assay host`: registered machines.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use assay_api::again::Labels;
use assay_api::operator::{Adopted, Host as HostInfo, NewHost, RunSummary, UnknownMac, Vet};
use assay_model::host::order::{PartKind, Replacement, RunOptions};
use assay_model::{Mac, StageName};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::commands::again::{self, Bounds, Hosts};
use crate::commands::{Remote, run, shell};
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
    /// Vet a machine: boot it from the network and run the pipeline. With --all, --label or --kind many, some at a time
    Vet(Box<VetArgs>),
    /// Give a machine labels, in place of those that it has
    Label(Label),
    /// Make what the machine was last seen to be its expected spec
    Adopt(Adopt),
    /// Open a terminal on a held machine; it is recorded
    Shell(shell::Shell),
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
    /// How it is switched: `manual`, `ipmi:ADDRESS`, `redfish:URL`, `wol:MAC`, or `lab:MACHINE` for a simulated one.
    #[arg(long, default_value = "manual")]
    power: String,
    /// The name of the BMC's password in the runner's bmc-secrets.toml.
    #[arg(long, value_name = "NAME")]
    power_credential: Option<String>,
    /// More about power: `firmware=uefi`, `port=6230`, `fingerprint=…`; see docs/guide/power.md. May be given more
    /// than once.
    #[arg(long, value_name = "KEY=VALUE")]
    power_set: Vec<String>,
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
pub(crate) struct Label {
    /// Its name.
    name: String,
    /// Letters, digits, `.`, `_` and `-`; none takes all of them away.
    labels: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct VetArgs {
    /// Its name.
    #[arg(required_unless_present = "fleet", conflicts_with = "fleet")]
    name: Option<String>,
    #[command(flatten)]
    fleet: Hosts,
    #[command(flatten)]
    bounds: Bounds,
    /// Of many: print which machines would be vetted in which order and which would not, and begin nothing.
    #[arg(long, requires = "fleet")]
    dry_run: bool,
    /// quick, standard or burnin.
    #[arg(long, default_value = "standard")]
    profile: String,
    /// Longest time from power-on to enrolment, in seconds.
    #[arg(long, conflicts_with = "fleet")]
    boot_timeout: Option<u32>,
    /// Do not hold the machine on failure.
    #[arg(long, conflicts_with = "fleet")]
    no_hold: bool,
    /// A part that was replaced: `disk:OLD=NEW` with serial numbers; also dimm, psu, board, and nic with hardware
    /// addresses. May be given more than once. The new part must be there, the old one gone, and all others as they
    /// were when the machine last passed.
    #[arg(long, value_name = "KIND:OLD=NEW", value_parser = replacement, conflicts_with = "fleet")]
    replaced: Vec<Replacement>,
    /// Only these stages (and Reporting); such a run can never open the gate.
    #[arg(long, value_name = "STAGE", value_delimiter = ',', conflicts_with = "fleet")]
    only_stages: Vec<String>,
    /// All stages but this one; may be given more than once. Such a run can never open the gate.
    #[arg(long, value_name = "STAGE", value_delimiter = ',', conflicts_with = "fleet")]
    without: Vec<String>,
    /// Also test the memory with memtest86+, booted in place of the live image (stage Memtest86). Takes hours on a
    /// large machine, and its serial console must be in reach (power method ipmi).
    #[arg(long, conflicts_with = "fleet")]
    with_memtest86: bool,
    /// Watch the run to its verdict.
    #[arg(long, conflicts_with = "fleet")]
    watch: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Adopt {
    /// Its name.
    name: String,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
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
            Self::Label(label) => label.run().await,
            Self::Adopt(adopt) => adopt.run().await,
            Self::Shell(shell) => shell.run().await,
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
        let power = power_settings(&self.power, self.power_credential.as_deref(), &self.power_set)?;
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

/// A host's `power` setting from what was typed, checked as the runner will check it.
fn power_settings(power: &str, credential: Option<&str>, set: &[String]) -> Result<Value> {
    let (method, place) = power.split_once(':').unwrap_or((power, ""));
    assay_netboot::power::typed(method, place, credential, set.iter().map(String::as_str))
        .map_err(|problem| anyhow!("{problem}"))
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
        if !host.labels.is_empty() {
            ui::line(&format!("  labels      {}", host.labels.join(", ")));
        }
        run::print_list(&runs);
        Ok(Exit::Ok)
    }
}

impl Label {
    async fn run(self) -> Result<Exit> {
        let path = format!("/api/v1/hosts/{}/labels", self.name);
        let host: HostInfo = self.remote.client()?.put(&path, &Labels { labels: self.labels }).await?;
        if self.remote.json {
            ui::json(&host)?;
        } else {
            let labels = if host.labels.is_empty() { "no labels".to_owned() } else { host.labels.join(", ") };
            ui::say(&format!("{}: {labels}", host.name));
        }
        Ok(Exit::Ok)
    }
}

impl VetArgs {
    async fn run(self) -> Result<Exit> {
        let Some(name) = self.name else {
            return match self.fleet.again(Vec::new(), &self.profile) {
                Ok(again) => again::begin(&self.remote, again, self.bounds, self.dry_run).await,
                Err(problem) => Ok(again::usage(&problem)),
            };
        };
        if self.bounds.at_most.is_some() || self.bounds.pause_on_failures.is_some() {
            let why = "--at-most and --pause-on-failures go with --all, --label or --kind";
            return Ok(again::usage(&anyhow!(why)));
        }
        let client = self.remote.client()?;
        let vet = Vet {
            profile: Some(self.profile),
            boot_timeout_s: self.boot_timeout,
            no_hold: self.no_hold,
            options: RunOptions {
                replaced: self.replaced,
                left_out: self.without.into_iter().map(StageName).collect(),
                ..RunOptions::default()
            },
            only_stages: self.only_stages.into_iter().map(StageName).collect(),
            with_stages: self.with_memtest86.then(|| StageName::from("Memtest86")).into_iter().collect(),
            ..Vet::default()
        };
        let run: RunSummary = client.post(&format!("/api/v1/hosts/{name}/vet"), &vet).await?;
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

impl Adopt {
    async fn run(self) -> Result<Exit> {
        let client = self.remote.client()?;
        let path = format!("/api/v1/hosts/{}/adopt", self.name);
        let found: Adopted = client.get(&path).await?;
        if !self.remote.json {
            ui::line(found.spec_yaml.trim_end());
        }
        ui::say(&format!("this is what {} was in run {}", self.name, found.run));
        if !self.yes && !ui::agreed("make it the expected spec?")? {
            ui::say("nothing was changed");
            return Ok(Exit::Fail);
        }
        let stored: Adopted = client.post(&path, &json!({ "run": found.run })).await?;
        if self.remote.json {
            ui::json(&stored)?;
        } else {
            ui::say(&format!("it is the expected spec of {} from its next run on", self.name));
        }
        Ok(Exit::Ok)
    }
}

/// Reads `disk:OLD=NEW`.
fn replacement(text: &str) -> Result<Replacement, String> {
    let expected = || "write KIND:OLD=NEW, such as disk:S1=S2".to_owned();
    let (kind, parts) = text.split_once(':').ok_or_else(expected)?;
    let kinds = [PartKind::Disk, PartKind::Dimm, PartKind::Nic, PartKind::Psu, PartKind::Board];
    let kind = kinds.into_iter().find(|known| known.as_str() == kind).ok_or_else(|| {
        format!("`{kind}` is not a kind of part; there are {}", kinds.map(PartKind::as_str).join(", "))
    })?;
    let (old, new) = parts.split_once('=').ok_or_else(expected)?;
    if old.trim().is_empty() || new.trim().is_empty() {
        return Err(expected());
    }
    Ok(Replacement { kind, old: old.trim().to_owned(), new: new.trim().to_owned() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_parts_are_read_and_mistakes_are_named() {
        let read = |text: &str| replacement(text).map(|r| (r.kind.as_str(), r.old, r.new));
        let pair = |kind, old: &str, new: &str| Ok((kind, old.to_owned(), new.to_owned()));
        assert_eq!(read("disk:S1=S2"), pair("disk", "S1", "S2"));
        assert_eq!(
            read("nic:02:00:00:00:00:01=02:00:00:00:00:02"),
            pair("nic", "02:00:00:00:00:01", "02:00:00:00:00:02")
        );
        for bad in ["", "disk", "disk:S1", "disk:=S2", "disk:S1=", "S1=S2"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("fan:1=2").expect_err("unknown").contains("disk, dimm, nic, psu, board"));
    }

    #[test]
    fn power_settings_are_read_as_the_runner_reads_them() {
        let set = |pairs: &[&str]| pairs.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>();
        let good =
            |power, credential, pairs: &[&str]| power_settings(power, credential, &set(pairs)).expect("good");
        assert_eq!(good("manual", None, &[]), json!({"method": "manual"}));
        assert_eq!(good("lab:healthy-bios", None, &[]), json!({"method": "lab", "machine": "healthy-bios"}));
        assert_eq!(
            good("ipmi:fd00::31", Some("rack1"), &["firmware=uefi", "port=6230"]),
            json!({"method": "ipmi", "address": "fd00::31", "credential": "rack1", "firmware": "uefi", "port": 6230})
        );
        assert_eq!(
            good("redfish:https://10.20.0.31", Some("rack1"), &["system=1", "timeout_s=300"]),
            json!({"method": "redfish", "url": "https://10.20.0.31", "credential": "rack1", "system": "1", "timeout_s": 300})
        );
        assert_eq!(
            good("wol:0c:c4:7a:12:34:56", None, &[]),
            json!({"method": "wol", "mac": "0c:c4:7a:12:34:56"})
        );
        let bad =
            |power, pairs: &[&str]| power_settings(power, None, &set(pairs)).expect_err("bad").to_string();
        assert!(bad("ipmi:10.20.0.31", &[]).contains("--power-credential"));
        assert!(
            bad("ipmi:10.20.0.31", &["credential=rack1", "password=x"]).contains("unknown field `password`")
        );
        assert!(bad("pigeon:x", &[]).contains("need a `method`"));
        assert!(bad("manual:x", &[]).contains("means nothing"));
        assert!(bad("manual", &["x"]).contains("is not KEY=VALUE"));
    }
}
