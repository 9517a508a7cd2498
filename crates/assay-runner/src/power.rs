//! Switching machines on and off, each job once.
//!
//! A job is written down before it is done and its outcome after. A runner that dies in between
//! does not switch again: it says that it does not know, and the control plane waits for the
//! machine to show up.
//!
//! How a machine is switched stands in its `power` setting; the passwords of BMCs stand in a file of the runner's,
//! `bmc-secrets.toml`, and the control plane knows their names only. A lab machine that has a BMC is switched
//! through it, as a real one would be.
//!
//! A medium under test is inserted as part of the job that boots from it, and ejected by one of its own. What is inserted
//! is the image that the run looked at, by its digest, and only what was inserted here is ejected here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use assay_api::runner::Medium;
use assay_model::RunId;
use assay_model::event::PowerAction;
use assay_netboot::power::{
    BootMode, Credential, IpmiSettings, Method, PowerDriver, PowerError, PowerSettings, Secret, Site,
};
use assay_pipelines::image::bench::Digests;
use assay_qemu::{Accel, BmcAccess, Firmware, Lab, LabConfig, QemuError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};

use crate::console::Source;
use crate::media::MediaServer;
use crate::{Network, RunnerError, Settings};

/// The passwords of BMCs, in the runner's folder.
const SECRETS: &str = "bmc-secrets.toml";
const NO_MEDIUM: &str = "no medium was named for this job; are runner and control plane of the same version?";
const NO_CONSOLE: &str = "the power method of this host does not reach the machine's serial console";

/// The power methods and the memory of what was done.
pub(crate) struct Power {
    lab: Option<Lab>,
    jobs: PathBuf,
    secrets: PathBuf,
    /// Where BMCs and sleeping network cards are reached from.
    site: Site,
    /// Where BMCs fetch media from; none in a lab, whose machines take files.
    media: Option<MediaServer>,
    digests: Digests,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) ok: bool,
    pub(crate) message: String,
}

/// Why a machine was not switched.
#[derive(Debug, thiserror::Error)]
enum SwitchError {
    #[error(transparent)]
    Driver(#[from] PowerError),
    #[error(transparent)]
    Lab(#[from] QemuError),
    #[error("{0}")]
    Cannot(&'static str),
    #[error("{0}")]
    Medium(String),
}

impl Power {
    pub(crate) fn open(settings: &Settings) -> Result<Self, RunnerError> {
        let lab = match &settings.network {
            Some(Network::Lab { machines, state, netns }) => {
                let mut config = LabConfig::new(state, machines);
                config.network.netns.clone_from(netns);
                Some(Lab::open(config)?)
            }
            Some(Network::Interface { .. }) | None => None,
        };
        let site = match &settings.network {
            Some(Network::Lab { .. }) | None => Site::default(),
            Some(Network::Interface { name, .. }) => Site { netns: None, interface: Some(name.clone()) },
        };
        let jobs = settings.state_dir.join("jobs");
        fs::create_dir_all(&jobs).map_err(|source| RunnerError::File { path: jobs.clone(), source })?;
        let media = match &settings.network {
            Some(Network::Interface { address, .. }) => Some(MediaServer::new(*address)),
            Some(Network::Lab { .. }) | None => None,
        };
        let secrets = settings.state_dir.join(SECRETS);
        Ok(Self { lab, jobs, secrets, site, media, digests: Digests::default() })
    }

    /// Brings up what machines are plugged into.
    pub(crate) async fn bring_up(&self) -> Result<(), RunnerError> {
        if let Some(lab) = &self.lab {
            lab.network().up().await?;
            let accel = lab.accel().await?;
            info!("lab machines run with {accel:?}");
        }
        Ok(())
    }

    /// The methods that work here.
    pub(crate) fn methods(&self) -> Vec<String> {
        // All of them: a tool that is missing is told by the run that needs it, and not by one that waits.
        let everywhere = ["manual", "ipmi", "redfish", "wol"];
        everywhere.into_iter().chain(self.lab.is_some().then_some("lab")).map(str::to_owned).collect()
    }

    /// Does a job unless it was done before; either way, says what became of it. `medium` is what
    /// [`PowerAction::Medium`] inserts.
    pub(crate) async fn once(
        &self,
        run: RunId,
        job: &str,
        power: &Value,
        action: PowerAction,
        medium: Option<&Medium>,
    ) -> Outcome {
        let path = self.job_file(run, job);
        match read(&path) {
            Ok(Memory::Done(outcome)) => return outcome,
            Ok(Memory::Begun) => {
                warn!(run.id = %run, power.job = job, "a power job was interrupted by a restart; it is not done again");
                return remember(&path, self.interrupted(power, action, medium).await);
            }
            Ok(Memory::Unknown) => {}
            Err(e) => return Outcome { ok: false, message: format!("{}: {e}", path.display()) },
        }
        if let Err(e) = write(&path, &BEGUN) {
            // Without the note, a crash could switch twice: rather not at all.
            return Outcome { ok: false, message: format!("{}: {e}", path.display()) };
        }
        // Known before it happens: a runner that dies in between takes it out all the same.
        let note = self.inserted_file(run);
        if let Some(medium) = medium
            && let Err(e) = write(&note, &(job, medium))
        {
            return remember(&path, Outcome { ok: false, message: format!("{}: {e}", note.display()) });
        }
        if action.boots() {
            self.mark_console(run, job, power);
        }
        let outcome = self.switch(power, action, medium).await;
        info!(run.id = %run, power.job = job, power.ok = outcome.ok, "power {action:?}: {}", outcome.message);
        remember(&path, outcome)
    }

    /// Takes a medium out again that `job` inserted. What was done is remembered; what failed may be tried again, and
    /// what is out already is no failure. Somebody else's medium stays where it is.
    pub(crate) async fn eject(&self, run: RunId, job: &str, power: &Value, medium: &Medium) -> Outcome {
        let path = self.job_file(run, &format!("{job}-eject"));
        if let Ok(Memory::Done(outcome)) = read(&path) {
            return outcome;
        }
        let outcome = self.without(power, medium).await;
        let (ok, message) = (outcome.ok, &outcome.message);
        info!(run.id = %run, power.job = job, power.ok = ok, "ejecting the medium: {message}");
        if !outcome.ok {
            return outcome;
        }
        if self.inserted(run).is_some_and(|(inserted_by, _)| inserted_by == job) {
            let _ = fs::remove_file(self.inserted_file(run));
        }
        remember(&path, outcome)
    }

    /// The medium that may be in the run's machine, and the job that put it there; also after a restart.
    pub(crate) fn inserted(&self, run: RunId) -> Option<(String, Medium)> {
        let note = fs::read(self.inserted_file(run)).ok()?;
        serde_json::from_slice(&note).ok()
    }

    /// Forgets a finished run's jobs.
    pub(crate) fn forget(&self, run: RunId) {
        let prefix = format!("{run}-");
        let Ok(entries) = fs::read_dir(&self.jobs) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// What is said of a job in whose middle the runner was restarted. Switched or not, a machine shows up or does not; a
    /// medium that is not in is not inserted a second time.
    async fn interrupted(&self, power: &Value, action: PowerAction, medium: Option<&Medium>) -> Outcome {
        let unknown = "the runner was restarted while it switched power; whether it happened is not known";
        let (PowerAction::Medium, Some(medium)) = (action, medium) else {
            return Outcome { ok: true, message: unknown.to_owned() };
        };
        match self.holds(power, medium).await {
            Ok(true) => Outcome { ok: true, message: format!("{unknown}; the medium is in") },
            Ok(false) => Outcome {
                ok: false,
                message: "the runner was restarted while it inserted the medium, and it is not in; try again"
                    .to_owned(),
            },
            Err(problem) => Outcome { ok: false, message: problem.to_string() },
        }
    }

    async fn switch(&self, power: &Value, action: PowerAction, medium: Option<&Medium>) -> Outcome {
        let method = match Method::read(power) {
            Ok(method) => method,
            Err(problem) => return Outcome { ok: false, message: problem },
        };
        let done = match method {
            Method::Manual => by_hand(action),
            Method::Lab { machine } => self.switch_lab(&machine, action, medium).await,
            Method::Driver(settings) => self.drive(&settings, action, medium).await,
        };
        told(done)
    }

    async fn switch_lab(
        &self,
        machine: &str,
        action: PowerAction,
        medium: Option<&Medium>,
    ) -> Result<String, SwitchError> {
        let lab = self.lab()?;
        let mut inserted = "";
        if action == PowerAction::Medium {
            let medium = medium.ok_or(SwitchError::Cannot(NO_MEDIUM))?;
            self.is_the_same(medium).await?;
            lab.insert_medium(machine, &medium.image).await?;
            inserted = ", the medium is in its drive";
        }
        if let Some(bmc) = lab.bmc(machine).await? {
            let driver = lab_driver(lab, machine, &bmc)?;
            let words = switched(driver, action).await?;
            return Ok(format!("lab machine {machine}: {words}{inserted}"));
        }
        let said = match action {
            PowerAction::Cycle | PowerAction::Medium => {
                lab.power_cycle(machine).await?;
                "switched on"
            }
            PowerAction::Off => {
                lab.power_off(machine).await?;
                "switched off"
            }
        };
        Ok(format!("lab machine {machine} {said}{inserted}"))
    }

    async fn drive(
        &self,
        settings: &PowerSettings,
        action: PowerAction,
        medium: Option<&Medium>,
    ) -> Result<String, SwitchError> {
        let driver = PowerDriver::open(settings, &self.secrets, &self.site)?;
        if action != PowerAction::Medium {
            return switched(driver, action).await;
        }
        let medium = medium.ok_or(SwitchError::Cannot(NO_MEDIUM))?;
        self.is_the_same(medium).await?;
        let done = driver.cycle_into(&self.media()?.show(medium).await.map_err(SwitchError::Medium)?).await;
        driver.close().await;
        Ok(done?.to_string())
    }

    /// Takes the medium out, if it is in.
    async fn without(&self, power: &Value, medium: &Medium) -> Outcome {
        let out = async {
            match Method::read(power).map_err(SwitchError::Medium)? {
                Method::Manual => Err(SwitchError::Cannot("this machine's medium is inserted by hand")),
                Method::Lab { machine } => {
                    let lab = self.lab()?;
                    if !self.holds_in_lab(&machine, medium)? {
                        return Ok(format!("the medium is not in the drive of lab machine {machine}"));
                    }
                    lab.eject_medium(&machine).await?;
                    Ok(format!("the medium of lab machine {machine} is ejected"))
                }
                Method::Driver(settings) => {
                    let driver = PowerDriver::open(&settings, &self.secrets, &self.site)?;
                    let done = driver
                        .eject_medium(&self.media()?.address(medium).map_err(SwitchError::Medium)?)
                        .await;
                    driver.close().await;
                    if done.is_ok() {
                        self.media()?.hide(medium);
                    }
                    Ok(done?.to_string())
                }
            }
        };
        told(out.await)
    }

    /// Whether the medium is in the machine.
    async fn holds(&self, power: &Value, medium: &Medium) -> Result<bool, SwitchError> {
        match Method::read(power).map_err(SwitchError::Medium)? {
            Method::Manual => Ok(false),
            Method::Lab { machine } => self.holds_in_lab(&machine, medium),
            Method::Driver(settings) => {
                let driver = PowerDriver::open(&settings, &self.secrets, &self.site)?;
                // A server that was restarted shows nothing yet, and the machine may be reading.
                let address = self.media()?.show(medium).await.map_err(SwitchError::Medium)?;
                let holds = driver.holds_medium(&address).await;
                driver.close().await;
                Ok(holds?)
            }
        }
    }

    fn holds_in_lab(&self, machine: &str, medium: &Medium) -> Result<bool, SwitchError> {
        let known = self.lab()?.medium(machine)?;
        // The lab keeps the file's real place.
        Ok(known.is_some_and(|known| {
            fs::canonicalize(&medium.image).map_or(known == medium.image, |own| own == known)
        }))
    }

    /// Whether the image is still the one that the run looked at.
    async fn is_the_same(&self, medium: &Medium) -> Result<(), SwitchError> {
        let now = self.digests.of(&medium.image).await.map_err(SwitchError::Medium)?;
        if (now.sha256, now.bytes) == (medium.sha256, medium.bytes) {
            return Ok(());
        }
        Err(SwitchError::Medium(format!(
            "{} is another image by now than the one that this run looked at (SHA-256 {} in place of {}); leave images \
             alone while they are tested, and start the run anew",
            medium.image.display(),
            now.sha256,
            medium.sha256
        )))
    }

    fn lab(&self) -> Result<&Lab, SwitchError> {
        self.lab.as_ref().ok_or(SwitchError::Cannot(
            "this runner has no lab; start it with --lab, or give the host another power method",
        ))
    }

    fn media(&self) -> Result<&MediaServer, SwitchError> {
        self.media.as_ref().ok_or(SwitchError::Cannot(
            "this runner has no network on which a BMC could fetch an image; start it with the provisioning interface",
        ))
    }

    fn job_file(&self, run: RunId, job: &str) -> PathBuf {
        let plain: String =
            job.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        self.jobs.join(format!("{run}-{plain}.json"))
    }

    /// The note of what may be in the run's machine.
    fn inserted_file(&self, run: RunId) -> PathBuf {
        self.job_file(run, "inserted")
    }

    /// Remembers where on a lab machine's console a job begins: what stands before it is about something else.
    fn mark_console(&self, run: RunId, job: &str, power: &Value) {
        let Some((path, _)) = self.lab_console(power) else { return };
        let from = fs::metadata(path).map_or(0, |known| known.len());
        let mark = self.job_file(run, job).with_extension("console");
        if let Err(e) = fs::write(&mark, from.to_string()) {
            warn!("{}: {e}; the console of this boot will not be read", mark.display());
        }
    }

    /// Opens the console of the machine from the moment on at which `job` switched it.
    pub(crate) async fn console(&self, run: RunId, job: &str, power: &Value) -> Result<Source, String> {
        let kept = self.job_file(run, job);
        if let Some((path, machine)) = self.lab_console(power) {
            let mark = kept.with_extension("console");
            let from = fs::read_to_string(&mark).ok().and_then(|from| from.parse().ok());
            let from = from.ok_or_else(|| {
                format!(
                    "{}: it is not known where on the console of {machine} this boot begins",
                    mark.display()
                )
            })?;
            return Ok(Source::log(path, from));
        }
        let driver = match (Method::read(power)?, &self.lab) {
            (Method::Driver(settings @ (PowerSettings::Ipmi(_) | PowerSettings::Redfish(_))), _) => {
                PowerDriver::open(&settings, &self.secrets, &self.site).map_err(SwitchError::from)
            }
            (Method::Lab { machine }, Some(lab)) => match lab.bmc(&machine).await {
                Ok(Some(bmc)) => lab_driver(lab, &machine, &bmc),
                Ok(None) => Err(SwitchError::Cannot(NO_CONSOLE)),
                Err(problem) => Err(problem.into()),
            },
            _ => Err(SwitchError::Cannot(NO_CONSOLE)),
        };
        let driver = driver.map_err(|problem| problem.to_string())?;
        Ok(Source::carried(driver, &kept.with_extension("capture")))
    }

    /// What kind of machine it is, for people, and whether its processors are emulated in software.
    pub(crate) async fn kind(&self, power: &Value) -> (String, bool) {
        match (Method::read(power), &self.lab) {
            (Ok(Method::Lab { machine }), Some(lab)) => {
                let emulated = matches!(lab.accel().await, Ok(Accel::Tcg { .. }));
                let how = if emulated { "emulated in software" } else { "by kvm" };
                (format!("lab machine {machine}, {how}"), emulated)
            }
            _ => ("a registered machine".to_owned(), false),
        }
    }

    /// Digests of images that were looked at before.
    pub(crate) fn digests(&self) -> &Digests {
        &self.digests
    }

    /// The log of a lab machine that has no BMC. One with a BMC is read as a real machine is.
    fn lab_console(&self, power: &Value) -> Option<(PathBuf, String)> {
        let Ok(Method::Lab { machine }) = Method::read(power) else { return None };
        let lab = self.lab.as_ref()?;
        let by_itself = lab.machine(&machine).is_ok_and(|known| known.actual.bmc.is_none());
        let path = lab.console_log(&machine).ok().filter(|_| by_itself)?;
        Some((path, machine))
    }
}

/// What became of it, for the journal.
fn told(done: Result<String, SwitchError>) -> Outcome {
    match done {
        Ok(message) => Outcome { ok: true, message },
        Err(problem) => {
            if let SwitchError::Driver(problem) = &problem {
                warn!(power.code = problem.code(), "a machine could not be switched");
            }
            Outcome { ok: false, message: problem.to_string() }
        }
    }
}

fn by_hand(action: PowerAction) -> Result<String, SwitchError> {
    match action {
        PowerAction::Medium => Err(SwitchError::Cannot(
            "nobody can insert a medium into a machine that is switched by hand; use a BMC with `redfish`",
        )),
        PowerAction::Cycle => Ok("switch the machine on by hand; it must boot from the network".to_owned()),
        PowerAction::Off => Err(SwitchError::Cannot("this machine is switched by hand")),
    }
}

async fn switched(driver: PowerDriver, action: PowerAction) -> Result<String, SwitchError> {
    let done = match action {
        // A lab machine's medium is in already, and its firmware comes to it after the network.
        PowerAction::Cycle | PowerAction::Medium => driver.cycle().await.map(|switched| switched.to_string()),
        PowerAction::Off => {
            let name = driver.to_string();
            driver.off().await.map(|took| format!("{name} switched off in {:.1} s", took.as_secs_f64()))
        }
    };
    driver.close().await;
    Ok(done?)
}

/// A lab machine's BMC is a real one to us, in the lab's network.
fn lab_driver(lab: &Lab, machine: &str, bmc: &BmcAccess) -> Result<PowerDriver, SwitchError> {
    let mut settings = IpmiSettings::new(bmc.address.to_string(), "lab");
    settings.port = bmc.port;
    settings.cipher_suite = Some(bmc.cipher_suite);
    settings.firmware = Some(match lab.machine(machine)?.actual.firmware {
        Firmware::Bios => BootMode::Bios,
        Firmware::Uefi => BootMode::Uefi,
    });
    let credential = Credential { user: bmc.user.to_owned(), password: Secret::new(bmc.password) };
    let site = Site { netns: Some(lab.network().config().netns.clone()), interface: None };
    Ok(PowerDriver::ipmi(settings, credential, &site)?)
}

/// What stands for a job that was begun.
const BEGUN: Option<Outcome> = None;

/// What is remembered of a job.
enum Memory {
    Unknown,
    Begun,
    Done(Outcome),
}

fn read(path: &Path) -> io::Result<Memory> {
    match fs::read(path) {
        Ok(bytes) => Ok(match serde_json::from_slice(&bytes) {
            Ok(Some(outcome)) => Memory::Done(outcome),
            _ => Memory::Begun,
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Memory::Unknown),
        Err(e) => Err(e),
    }
}

fn remember(path: &Path, outcome: Outcome) -> Outcome {
    if let Err(e) = write(path, &Some(&outcome)) {
        warn!("{}: {e}", path.display());
    }
    outcome
}

fn write(path: &Path, what: &impl Serialize) -> io::Result<()> {
    let part = path.with_extension("part");
    let file = fs::File::create(&part)?;
    serde_json::to_writer(&file, what)?;
    file.sync_all()?;
    fs::rename(&part, path)
}

#[cfg(test)]
#[path = "power_tests.rs"]
mod tests;
