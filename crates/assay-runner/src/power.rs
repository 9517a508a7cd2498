//! Switching machines on and off, each job once.
//!
//! A job is written down before it is done and its outcome after. A runner that dies in between
//! does not switch again: it says that it does not know, and the control plane waits for the
//! machine to show up.
//!
//! How a machine is switched stands in its `power` setting; the passwords of BMCs stand in a file of the runner's,
//! `bmc-secrets.toml`, and the control plane knows their names only. A lab machine that has a BMC is switched
//! through it, as a real one would be.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use assay_model::RunId;
use assay_model::event::PowerAction;
use assay_netboot::power::{
    BootMode, Credential, IpmiSettings, Method, PowerDriver, PowerError, PowerSettings, Secret, Site,
};
use assay_qemu::{BmcAccess, Firmware, Lab, LabConfig, QemuError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};

use crate::console::Source;
use crate::{Network, RunnerError, Settings};

/// The passwords of BMCs, in the runner's folder.
const SECRETS: &str = "bmc-secrets.toml";
const NO_CONSOLE: &str = "the power method of this host does not reach the machine's serial console";

/// The power methods and the memory of what was done.
pub(crate) struct Power {
    lab: Option<Lab>,
    jobs: PathBuf,
    secrets: PathBuf,
    /// Where BMCs and sleeping network cards are reached from.
    site: Site,
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
        Ok(Self { lab, jobs, secrets: settings.state_dir.join(SECRETS), site })
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

    /// Does a job unless it was done before; either way, says what became of it.
    pub(crate) async fn once(&self, run: RunId, job: &str, power: &Value, action: PowerAction) -> Outcome {
        let path = self.job_file(run, job);
        match read(&path) {
            Ok(Memory::Done(outcome)) => return outcome,
            Ok(Memory::Begun) => {
                warn!(run.id = %run, power.job = job, "a power job was interrupted by a restart; it is not done again");
                let message =
                    "the runner was restarted while it switched power; whether it happened is not known";
                return remember(&path, Outcome { ok: true, message: message.to_owned() });
            }
            Ok(Memory::Unknown) => {}
            Err(e) => return Outcome { ok: false, message: format!("{}: {e}", path.display()) },
        }
        if let Err(e) = write(&path, None) {
            // Without the note, a crash could switch twice: rather not at all.
            return Outcome { ok: false, message: format!("{}: {e}", path.display()) };
        }
        if action == PowerAction::Cycle {
            self.mark_console(run, job, power);
        }
        let outcome = self.switch(power, action).await;
        info!(run.id = %run, power.job = job, power.ok = outcome.ok, "power {action:?}: {}", outcome.message);
        remember(&path, outcome)
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

    async fn switch(&self, power: &Value, action: PowerAction) -> Outcome {
        let method = match Method::read(power) {
            Ok(method) => method,
            Err(problem) => return Outcome { ok: false, message: problem },
        };
        let done = match method {
            Method::Manual => by_hand(action),
            Method::Lab { machine } => self.switch_lab(&machine, action).await,
            Method::Driver(settings) => match PowerDriver::open(&settings, &self.secrets, &self.site) {
                Ok(driver) => drive(driver, action).await,
                Err(problem) => Err(problem.into()),
            },
        };
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

    async fn switch_lab(&self, machine: &str, action: PowerAction) -> Result<String, SwitchError> {
        let Some(lab) = &self.lab else {
            return Err(SwitchError::Cannot(
                "this runner has no lab; start it with --lab, or give the host another power method",
            ));
        };
        if let Some(bmc) = lab.bmc(machine).await? {
            let driver = lab_driver(lab, machine, &bmc)?;
            let words = drive(driver, action).await?;
            return Ok(format!("lab machine {machine}: {words}"));
        }
        let said = match action {
            PowerAction::Cycle => {
                lab.power_cycle(machine).await?;
                "switched on"
            }
            PowerAction::Off => {
                lab.power_off(machine).await?;
                "switched off"
            }
        };
        Ok(format!("lab machine {machine} {said}"))
    }

    fn job_file(&self, run: RunId, job: &str) -> PathBuf {
        let plain: String =
            job.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        self.jobs.join(format!("{run}-{plain}.json"))
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
            (Method::Driver(settings @ PowerSettings::Ipmi(_)), _) => {
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

    /// The log of a lab machine that has no BMC. One with a BMC is read as a real machine is.
    fn lab_console(&self, power: &Value) -> Option<(PathBuf, String)> {
        let Ok(Method::Lab { machine }) = Method::read(power) else { return None };
        let lab = self.lab.as_ref()?;
        let by_itself = lab.machine(&machine).is_ok_and(|known| known.actual.bmc.is_none());
        let path = lab.console_log(&machine).ok().filter(|_| by_itself)?;
        Some((path, machine))
    }
}

fn by_hand(action: PowerAction) -> Result<String, SwitchError> {
    match action {
        PowerAction::Cycle => Ok("switch the machine on by hand; it must boot from the network".to_owned()),
        PowerAction::Off => Err(SwitchError::Cannot("this machine is switched by hand")),
    }
}

async fn drive(driver: PowerDriver, action: PowerAction) -> Result<String, SwitchError> {
    let done = match action {
        PowerAction::Cycle => driver.cycle().await.map(|switched| switched.to_string()),
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
    if let Err(e) = write(path, Some(&outcome)) {
        warn!("{}: {e}", path.display());
    }
    outcome
}

fn write(path: &Path, outcome: Option<&Outcome>) -> io::Result<()> {
    let part = path.with_extension("part");
    let file = fs::File::create(&part)?;
    serde_json::to_writer(&file, &outcome)?;
    file.sync_all()?;
    fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_model::RunId;
    use serde_json::json;

    fn power(dir: &Path) -> Power {
        let jobs = dir.join("jobs");
        fs::create_dir_all(&jobs).expect("made");
        Power { lab: None, jobs, secrets: dir.join(SECRETS), site: Site::default() }
    }

    fn run() -> RunId {
        "01900000-0000-7000-8000-000000000001".parse().expect("valid")
    }

    #[tokio::test]
    async fn a_job_is_done_once_and_its_outcome_told_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let power = power(dir.path());
        let first = power.once(run(), "1-power-1", &json!({"method": "manual"}), PowerAction::Cycle).await;
        assert!(first.ok);
        // The same job with settings that would fail: nothing is done, the first outcome is told.
        let again = power.once(run(), "1-power-1", &json!({"method": "lab"}), PowerAction::Cycle).await;
        assert_eq!(again, first);
        power.forget(run());
        let anew = power.once(run(), "1-power-1", &json!({"method": "nonsense"}), PowerAction::Cycle).await;
        assert!(!anew.ok);
    }

    #[tokio::test]
    async fn an_interrupted_job_is_not_done_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let power = power(dir.path());
        write(&power.job_file(run(), "1-power-1"), None).expect("written");
        let outcome = power.once(run(), "1-power-1", &json!({"method": "manual"}), PowerAction::Cycle).await;
        assert!(outcome.message.contains("not known"), "{}", outcome.message);
    }

    #[tokio::test]
    async fn a_machine_that_cannot_be_switched_says_why() {
        let dir = tempfile::tempdir().expect("tempdir");
        let power = power(dir.path());
        let mut said = Vec::new();
        for (job, settings, action) in [
            ("1", json!({"method": "manual"}), PowerAction::Off),
            ("2", json!({"method": "lab", "machine": "healthy-bios"}), PowerAction::Cycle),
            ("3", json!({"method": "wol", "mac": "0c:c4:7a:12:34:56"}), PowerAction::Off),
            (
                "4",
                json!({"method": "ipmi", "address": "10.0.0.1", "credential": "rack1"}),
                PowerAction::Cycle,
            ),
            ("5", json!({"method": "ipmi", "address": "10.0.0.1"}), PowerAction::Cycle),
            ("6", json!({"method": "pigeon"}), PowerAction::Cycle),
        ] {
            let outcome = power.once(run(), job, &settings, action).await;
            assert!(!outcome.ok, "{settings}");
            said.push(outcome.message);
        }
        let expected = [
            "this machine is switched by hand",
            "this runner has no lab",
            "Wake-on-LAN can only switch on",
            "bmc-secrets.toml: there is no such file on the runner",
            "missing field `credential`",
            "need a `method`",
        ];
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.contains(expected), "{said}");
        }
    }
}
