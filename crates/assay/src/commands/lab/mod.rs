//! `assay lab`: simulated machines, switched and looked at by hand.
//!
//! It works on the machines themselves and needs no server: what a runner's lab does is seen here too, because
//! both look at the same state folder.

mod console;
pub(crate) mod spec;

use std::path::PathBuf;

use anyhow::Result;
use assay_model::Micros;
use assay_qemu::{Accel, LabConfig, LabMachine, Status};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use crate::commands::up;
use crate::exit::Exit;
use crate::{place, ui};

/// The lab's network namespace unless told otherwise; the runner's default too.
const NETNS: &str = "assay-lab";

#[derive(Subcommand)]
pub(crate) enum Lab {
    /// The machines that there are
    List(Place),
    /// Bring the private network up, and say how machines will run
    Up(Place),
    /// Switch every machine off and remove the network
    Down(Place),
    /// What each machine is doing
    Status(Place),
    /// Switch a machine
    #[command(subcommand)]
    Power(Power),
    /// Print what a machine's serial port said, over all power cycles
    Console(Console),
    /// Write a machine's screen to a PNG file
    Screenshot(Screenshot),
    /// Print the expected spec of a machine as it was ordered (YAML), for `assay host add --spec`
    Spec(Named),
    /// Serve a machine's disk to QEMU. The lab starts it by itself.
    #[command(hide = true)]
    ServeDisk(ServeDisk),
}

#[derive(Subcommand)]
pub(crate) enum Power {
    /// Switch it on; one that is on already stays on
    On(Named),
    /// Pull the plug
    Off(Named),
    /// Off and on again, from cold
    Cycle(Named),
}

/// Where the lab is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// The folder with the machine files.
    #[arg(long, default_value = "lab/machines")]
    machines: PathBuf,
    /// The lab's state folder [default: the one of this machine's runner].
    #[arg(long)]
    state: Option<PathBuf>,
    /// The data folder of a server on this machine; its runner's lab is beside it.
    #[arg(long, env = "ASSAY_DATA", default_value_os_t = place::default_data())]
    data: PathBuf,
    /// The lab's network namespace.
    #[arg(long, default_value = NETNS)]
    netns: String,
    /// Print JSON on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Named {
    /// The machine's name.
    name: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub(crate) struct Console {
    /// The machine's name.
    name: String,
    /// Go on as the machine talks; stop with Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub(crate) struct Screenshot {
    /// The machine's name.
    name: String,
    /// Where to write the picture.
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub(crate) struct ServeDisk {
    /// The machine's state folder.
    folder: PathBuf,
    /// The disk's id.
    disk: String,
}

#[derive(Serialize)]
struct Line {
    name: String,
    #[serde(flatten)]
    status: Status,
}

impl Lab {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::List(place) => list(&place)?,
            Self::Up(place) => bring_up(&place).await?,
            Self::Down(place) => {
                place.open()?.down().await?;
                ui::say("every machine is off and the network is gone");
            }
            Self::Status(place) => status(&place).await?,
            Self::Power(power) => power.run().await?,
            Self::Console(console) => console::print(&console).await?,
            Self::Screenshot(shot) => {
                shot.place.open()?.screenshot(&shot.name, &shot.file).await?;
                ui::say(&shot.file.display().to_string());
            }
            // It answers until its machine is off, with threads of its own, and does nothing beside that.
            Self::ServeDisk(disk) => {
                assay_qemu::serve_disk(&assay_qemu::VmFolder::new(disk.folder), &disk.disk)?;
            }
            Self::Spec(named) => {
                let spec = spec::expected(&named.place.open()?.machine(&named.name)?.ordered);
                if named.place.json { ui::json(&spec)? } else { ui::line(spec.to_yaml().trim_end()) }
            }
        }
        Ok(Exit::Ok)
    }
}

impl Power {
    async fn run(self) -> Result<()> {
        let (Self::On(named) | Self::Off(named) | Self::Cycle(named)) = &self;
        let lab = named.place.open()?;
        let status = match &self {
            Self::On(_) => lab.power_on(&named.name).await?,
            Self::Cycle(_) => lab.power_cycle(&named.name).await?,
            Self::Off(_) => {
                lab.power_off(&named.name).await?;
                lab.status(&named.name).await?
            }
        };
        if named.place.json {
            ui::json(&Line { name: named.name.clone(), status })?;
        } else {
            ui::say(&format!("{} is {}", named.name, words(&status)));
        }
        Ok(())
    }
}

impl Place {
    /// The lab itself. Nothing is started.
    fn open(&self) -> Result<assay_qemu::Lab> {
        let state = self.state.clone().unwrap_or_else(|| up::runner_state(&self.data).join("lab"));
        let mut config = LabConfig::new(state, &self.machines);
        config.network.netns.clone_from(&self.netns);
        Ok(assay_qemu::Lab::open(config)?)
    }
}

fn list(place: &Place) -> Result<()> {
    let machines = place.open()?.list()?;
    if place.json {
        return ui::json(&machines);
    }
    ui::table(&["MACHINE", "FIRMWARE", "MEMORY", "DISKS", "BOOTS FROM", "WHAT IT IS"], &rows(&machines));
    Ok(())
}

fn rows(machines: &[LabMachine]) -> Vec<Vec<String>> {
    let row = |machine: &LabMachine| {
        let boots = machine.actual.nics.iter().find(|nic| nic.boot).map(|nic| nic.mac.to_string());
        vec![
            machine.name.clone(),
            format!("{:?}", machine.actual.firmware).to_uppercase(),
            format!("{} MiB", machine.actual.memory_mib()),
            machine.actual.disks.len().to_string(),
            boots.unwrap_or_default(),
            machine.description.clone(),
        ]
    };
    machines.iter().map(row).collect()
}

async fn bring_up(place: &Place) -> Result<()> {
    let lab = place.open()?;
    // A machine file that is wrong is better told now than at its first power-on.
    let machines = lab.list()?;
    lab.network().up().await?;
    let accel = lab.accel().await?;
    if place.json {
        return ui::json(
            &json!({ "network": lab.network().config(), "accel": accel, "machines": machines.len() }),
        );
    }
    let network = lab.network().config();
    ui::say(&format!(
        "{} is up with {}/{}; {} machines can be switched on",
        network.netns,
        network.address,
        network.prefix_len,
        machines.len()
    ));
    if let Accel::Tcg { reason } = accel {
        ui::say(&format!("they run in software emulation and are slow: {reason}"));
    }
    Ok(())
}

async fn status(place: &Place) -> Result<()> {
    let lab = place.open()?;
    let mut lines = Vec::new();
    for machine in lab.list()? {
        let status = lab.status(&machine.name).await?;
        lines.push(Line { name: machine.name, status });
    }
    if place.json {
        return ui::json(&lines);
    }
    let rows: Vec<_> = lines.iter().map(|line| vec![line.name.clone(), words(&line.status)]).collect();
    ui::table(&["MACHINE", "STATUS"], &rows);
    Ok(())
}

fn words(status: &Status) -> String {
    let since = |since: &Micros| since.rfc3339();
    match status {
        Status::Off => "off".to_owned(),
        Status::Running { pid, since: at } => format!("on since {} (process {pid})", since(at)),
        Status::Paused { pid, since: at } => format!("paused; on since {} (process {pid})", since(at)),
        Status::Crashed { pid: Some(pid), reason } => format!("crashed: {reason} (process {pid})"),
        Status::Crashed { pid: None, reason } => format!("crashed: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(state: PathBuf) -> Place {
        let machines = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/machines");
        Place {
            machines,
            state: Some(state),
            data: "/nonexistent".into(),
            netns: "assay-t-lab".into(),
            json: false,
        }
    }

    #[test]
    fn the_list_shows_what_is_there_and_not_what_was_ordered() {
        let folder = tempfile::tempdir().expect("a folder");
        let lab = place(folder.path().join("lab")).open().expect("opened");
        let rows = rows(&lab.list().expect("listed"));
        let memory = |name: &str| rows.iter().find(|row| row[0] == name).map(|row| row[2].clone());
        assert_eq!(memory("healthy-bios").as_deref(), Some("2048 MiB"));
        assert_eq!(memory("missing-dimm").as_deref(), Some("1024 MiB"));
    }

    #[tokio::test]
    async fn a_machine_that_was_never_on_is_off_and_one_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let lab = place(folder.path().join("lab")).open().expect("opened");
        assert_eq!(words(&lab.status("healthy-bios").await.expect("asked")), "off");
        let error = lab.machine("healthy-bio").expect_err("no such machine");
        assert!(error.to_string().contains("did you mean `healthy-bios`?"), "{error}");
    }

    #[test]
    fn a_crash_says_why() {
        let crashed = Status::Crashed { pid: None, reason: "QEMU ended with code 1".into() };
        assert_eq!(words(&crashed), "crashed: QEMU ended with code 1");
        let line = Line { name: "a".into(), status: crashed };
        let json = serde_json::to_value(line).expect("serialises");
        assert_eq!(
            json,
            json!({ "name": "a", "status": "crashed", "pid": null, "reason": "QEMU ended with code 1" })
        );
    }
}
