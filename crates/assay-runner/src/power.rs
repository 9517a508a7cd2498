//! Switching machines on and off, each job once.
//!
//! A job is written down before it is done and its outcome after. A runner that dies in between
//! does not switch again: it says that it does not know, and the control plane waits for the
//! machine to show up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use assay_model::RunId;
use assay_model::event::PowerAction;
use assay_qemu::{Lab, LabConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};

use crate::{Network, RunnerError, Settings};

/// The power methods and the memory of what was done.
pub(crate) struct Power {
    lab: Option<Lab>,
    jobs: PathBuf,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) ok: bool,
    pub(crate) message: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
enum Method {
    /// A person does it.
    Manual,
    /// A simulated machine.
    Lab { machine: String },
}

impl Power {
    pub(crate) fn open(settings: &Settings) -> Result<Self, RunnerError> {
        let lab = match &settings.network {
            Network::Lab { machines, state, netns } => {
                let mut config = LabConfig::new(state, machines);
                config.network.netns.clone_from(netns);
                Some(Lab::open(config)?)
            }
            Network::Interface { .. } => None,
        };
        let jobs = settings.state_dir.join("jobs");
        fs::create_dir_all(&jobs).map_err(|source| RunnerError::File { path: jobs.clone(), source })?;
        Ok(Self { lab, jobs })
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
        let lab = self.lab.is_some().then(|| "lab".to_owned());
        std::iter::once("manual".to_owned()).chain(lab).collect()
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
        let fail = |message: String| Outcome { ok: false, message };
        let method = match serde_json::from_value::<Method>(power.clone()) {
            Ok(method) => method,
            Err(e) => return fail(format!("the power settings do not read: {e}")),
        };
        match (method, &self.lab) {
            (Method::Manual, _) => match action {
                PowerAction::Cycle => Outcome {
                    ok: true,
                    message: "switch the machine on by hand; it must boot from the network".to_owned(),
                },
                PowerAction::Off => fail("this machine is switched by hand".to_owned()),
            },
            (Method::Lab { .. }, None) => fail("this runner has no lab".to_owned()),
            (Method::Lab { machine }, Some(lab)) => {
                let (done, said) = match action {
                    PowerAction::Cycle => (lab.power_cycle(&machine).await.map(drop), "switched on"),
                    PowerAction::Off => (lab.power_off(&machine).await, "switched off"),
                };
                match done {
                    Ok(()) => Outcome { ok: true, message: format!("lab machine {machine} {said}") },
                    Err(e) => fail(e.to_string()),
                }
            }
        }
    }

    fn job_file(&self, run: RunId, job: &str) -> PathBuf {
        let plain: String =
            job.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        self.jobs.join(format!("{run}-{plain}.json"))
    }
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
        Power { lab: None, jobs }
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
}
