//! Collects `Boot`, `Install`, `Reboot` and `Identify`: one machine through its life, and the further ones.

use std::time::Duration;

use assay_qemu::{ShutdownLimits, ShutdownRung};

use super::machine::{Cut, Goal, Off};
use super::{Brought, Test, brought};
use crate::image::evidence::{
    Booted, Identified, Installed, OtherMachine, Outcome, PowerCut, Rebooted, Watched,
};
use crate::image::power;
use crate::image::profile::{Ends, Within};

pub(super) type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// An installation, with its transcripts.
pub(super) type Collected = (Installed, Vec<(String, Vec<u8>)>);

impl Test {
    pub(super) async fn boot(&mut self, progress: Progress<'_>) -> Result<Brought, String> {
        let command = self.switch_on("installer", true).await?;
        let watched = self.watch_boot(&[Within::Install], progress).await?;
        let failed = watched.outcome != Outcome::Reached;
        // Nothing is installed yet that a cut in power could hurt.
        let artifacts = if failed || self.ends_after_boot() { self.cut_off().await? } else { Vec::new() };
        brought(&Booted { watched, command }, artifacts)
    }

    /// Watches the machine, and remembers what the runner did to it.
    async fn watch(&mut self, goal: Goal<'_>) -> Result<Watched, String> {
        let watched = self.machine()?.watch(goal).await;
        if let Outcome::RunnerFault { why } = &watched.outcome {
            self.fault.get_or_insert_with(|| why.clone());
        }
        Ok(watched)
    }

    /// Nothing is installed: the machine is not needed any more.
    fn ends_after_boot(&self) -> bool {
        let installs = self.profile().phases.iter().any(|phase| phase.stage == Within::Install);
        !installs || self.profile().until.as_deref() == Some("Boot")
    }

    /// `or_begun` are the stages whose phases show that it has come up, where its rung was not recognised.
    pub(super) async fn watch_boot(
        &mut self,
        or_begun: &[Within],
        progress: Progress<'_>,
    ) -> Result<Watched, String> {
        let boot = self.profile().boot.clone();
        let goal = Goal {
            within: Within::Boot,
            rung: Some((boot.rung, boot.timeout.0)),
            or_begun,
            cut: None,
            progress,
        };
        self.watch(goal).await
    }

    pub(super) async fn install(&mut self, progress: Progress<'_>) -> Result<Brought, String> {
        let (installed, artifacts) = if self.profile().power_cut.cuts() {
            self.install_with_a_cut(progress).await?
        } else {
            self.watch_install(progress, true).await?
        };
        brought(&installed, artifacts)
    }

    /// The installation, its power cut in the middle, and what becomes of the machine when it is switched on again as it
    /// stood: with its medium, which the firmware tries first.
    async fn install_with_a_cut(&mut self, progress: Progress<'_>) -> Result<Collected, String> {
        let spec = self.profile().power_cut.clone();
        let success = self.profile().success_phase().map(|phase| phase.name.clone());
        let before = spec.before.clone().or(success).ok_or("there is no phase to cut before")?;
        let moment = spec.moment(self.spec.seed);
        if let Some(moment) = moment {
            let after = spec.after.as_deref().unwrap_or("the beginning");
            let (seconds, seed) = (moment.as_secs_f64(), self.spec.seed);
            progress(&format!("the power will be cut {seconds:.3} s after {after} (seed {seed})"));
        }
        let cut = Cut { after: spec.after, moment, before };
        let goal = Goal { within: Within::Install, rung: None, or_begun: &[], cut: Some(&cut), progress };
        let watched = self.watch(goal).await?;
        let machine = self.machine()?;
        if watched.outcome != Outcome::PowerCut {
            // It ended before its time: what it came to is judged like that of any other.
            return self.ended(watched, true, progress).await;
        }
        let at_s = machine.vm.age().as_secs_f64();
        let written = machine.written().await;
        let files = self.cut_off().await?;
        let mut artifacts: Vec<_> =
            files.into_iter().map(|(name, content)| (format!("before-the-cut-{name}"), content)).collect();
        progress(&format!("power cut after {at_s:.1} s; reading the disks as they stand"));
        let disks = self.read_disks(&written).await?;
        progress("switched on again");
        let drawn_s = moment.map(|moment| moment.as_secs_f64());
        let cut = PowerCut { seed: self.spec.seed, drawn_s, at_s, before: watched, disks };
        self.switch_on("installer", true).await?;
        self.machine()?.after_cut = true;
        // A medium may boot what it finds installed, instead of installing again.
        let booted = self.watch_boot(&[Within::Install, Within::Reboot], progress).await?;
        let (mut installed, files) = if booted.outcome == Outcome::Reached {
            let goal = Goal {
                within: Within::Install,
                rung: None,
                or_begun: &[Within::Reboot],
                cut: None,
                progress,
            };
            let watched = self.watch(goal).await?;
            self.ended(watched, true, progress).await?
        } else {
            self.ended(booted, true, progress).await?
        };
        artifacts.extend(files);
        self.refused = power::is_refusal(&installed.watched);
        installed.cut = Some(cut);
        Ok((installed, artifacts))
    }

    /// The installation, to the machine's end. `looked_into` reads the disks afterwards.
    pub(super) async fn watch_install(
        &mut self,
        progress: Progress<'_>,
        looked_into: bool,
    ) -> Result<Collected, String> {
        let goal = Goal { within: Within::Install, rung: None, or_begun: &[], cut: None, progress };
        let watched = self.watch(goal).await?;
        self.ended(watched, looked_into, progress).await
    }

    /// From the last thing that was waited for to the machine's end, and what is on its disks then.
    async fn ended(
        &mut self,
        mut watched: Watched,
        looked_into: bool,
        progress: Progress<'_>,
    ) -> Result<Collected, String> {
        let spec = self.machine_spec(self.machines, true);
        let install = self.profile().install.clone();
        let machine = self.machine()?;
        let reached = watched.outcome == Outcome::Reached;
        let mut ended = "failed";
        if reached {
            progress("waiting for the machine to go off");
            let wait = if install.ends == Ends::StaysOn { Duration::from_secs(5) } else { install.timeout.0 };
            ended = match machine.wait_for_off(wait).await? {
                Some(Off::Reset) => "rebooted",
                Some(Off::PowerOff) => "powered-off",
                None => "stayed-on",
            };
            machine.after(&mut watched);
        }
        let written = machine.written().await;
        let failed = machine.failed().await;
        let lost = machine.lost.clone();
        let success = self.profile().success_phase().map(|phase| phase.name.clone());
        let seen = watched.phases.iter().find(|phase| Some(&phase.name) == success.as_ref());
        self.success_at = seen.map(|phase| super::seconds(self.began, self.let_go_at) + phase.at_s);
        let artifacts = if reached { self.switch_off().await? } else { self.cut_off().await? };
        let shutdown = self.shutdown.take().unwrap_or_default();
        progress("reading the disks");
        let disks = if looked_into { self.read_disks(&written).await? } else { Vec::new() };
        let installed = Installed {
            watched,
            ended: ended.to_owned(),
            shutdown,
            written: written.values().sum(),
            disks,
            egress: self.egress(&spec),
            disk_errors: failed.values().sum(),
            faults: self.faults(&failed, &lost)?,
            cut: None,
        };
        Ok((installed, artifacts))
    }

    pub(super) async fn reboot(&mut self, progress: Progress<'_>) -> Result<Brought, String> {
        let watched = self.first_boot(progress).await?;
        let spec = self.machine_spec(self.machines, false);
        self.watch_join(progress).await?;
        let artifacts = self.switch_off().await?;
        brought(&Rebooted { watched, egress: self.egress(&spec) }, artifacts)
    }

    async fn first_boot(&mut self, progress: Progress<'_>) -> Result<Watched, String> {
        self.switch_on("installed", false).await?;
        let reboot = self.profile().reboot.clone();
        let goal = Goal {
            within: Within::Reboot,
            rung: Some((reboot.rung, reboot.timeout.0)),
            or_begun: &[],
            cut: None,
            progress,
        };
        let mut watched = self.watch(goal).await?;
        self.up_at = Some(self.settings.clock.now());
        if watched.outcome == Outcome::Reached {
            // What a banner says may come in the same moment as its prompt.
            let machine = self.machine()?;
            machine.wait_for_off(Duration::from_millis(500)).await?;
            machine.shoot("login").await;
            machine.after(&mut watched);
        }
        Ok(watched)
    }

    /// Cuts the machine's power and takes its transcripts.
    pub(super) async fn cut_off(&mut self) -> Result<Vec<(String, Vec<u8>)>, String> {
        if let Some(machine) = &mut self.machine {
            machine.vm.cut_power().await.map_err(|error| error.to_string())?;
        }
        self.switch_off().await
    }

    /// Switches the machine off, as gently as it lets us, and takes its transcripts.
    async fn switch_off(&mut self) -> Result<Vec<(String, Vec<u8>)>, String> {
        let Some(mut machine) = self.machine.take() else { return Ok(Vec::new()) };
        let limits = ShutdownLimits {
            button: Duration::from_secs(30).mul_f64(self.stretch),
            ..ShutdownLimits::default()
        };
        let limits =
            if machine.off.is_some() { ShutdownLimits { button: Duration::ZERO, ..limits } } else { limits };
        let rung = machine.vm.shut_down(limits, |_, _| ()).await.map_err(|error| error.to_string())?;
        let words = match rung {
            ShutdownRung::Already => "it had gone off by itself",
            ShutdownRung::PowerButton => "the power button",
            ShutdownRung::Quit => "its power was cut: it did not heed the power button",
            ShutdownRung::Signal => "QEMU had to be killed",
        };
        self.shutdown = Some(words.to_owned());
        Ok(machine.transcripts())
    }

    pub(super) async fn identify(&mut self, progress: Progress<'_>) -> Result<Brought, String> {
        let Some(identify) = self.profile().identify.clone() else { return Ok(Brought::default()) };
        let mut identified = Identified::default();
        let mut artifacts = Vec::new();
        if identify.stable_on_repair {
            progress("installing over the installation");
            let (machine, files) = self.once_more("repair", progress).await?;
            artifacts.extend(files);
            identified.repaired = Some(machine);
        }
        for number in 1..identify.machines {
            progress(&format!("installing machine {} of {}", number + 1, identify.machines));
            self.machines += 1;
            self.lay_out(self.machines).await?;
            let (machine, files) = self.once_more(&format!("machine-{}", number + 1), progress).await?;
            artifacts.extend(files);
            identified.others.push(machine);
        }
        brought(&identified, artifacts)
    }

    /// A whole installation and first boot, on the disks as they are.
    async fn once_more(
        &mut self,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<(OtherMachine, Vec<(String, Vec<u8>)>), String> {
        let mut files = Vec::new();
        let mut named = |more: Vec<(String, Vec<u8>)>| {
            files.extend(more.into_iter().map(|(file, content)| (format!("{name}-{file}"), content)));
        };
        self.switch_on("installer", true).await?;
        let booted = self.watch_boot(&[Within::Install], progress).await?;
        if booted.outcome != Outcome::Reached {
            named(self.cut_off().await?);
            return Ok((OtherMachine { install: booted, reboot: None }, files));
        }
        let (installed, more) = self.watch_install(progress, false).await?;
        named(more);
        let mut machine = OtherMachine { install: installed.watched, reboot: None };
        if machine.install.outcome == Outcome::Reached {
            machine.reboot = Some(self.first_boot(progress).await?);
            named(self.switch_off().await?);
        }
        Ok((machine, files))
    }
}
