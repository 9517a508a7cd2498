//! A machine's running state in a file: saved at the end of a phase, woken again in a fraction of a second.
//!
//! QEMU migrates the machine to a file (`mapped-ram`: every page has its place, so only touched pages are written and
//! read). The disks are not in it: their images are copied beside it while the machine is frozen, so that what wakes
//! finds exactly the disks it fell asleep with.

use std::path::Path;
use std::time::Duration;

use assay_process::Cmd;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::run::{Vm, VmEvent, VmFiles};
use super::spec::{Arch, VmSpec};
use crate::{Accel, QemuError};

/// Writing 2 GiB of touched memory to a slow disk.
const MIGRATION_LIMIT: Duration = Duration::from_mins(5);
/// The pause before QEMU is asked again whether it has put everything away.
const AGAIN: Duration = Duration::from_millis(2);

/// What saving or waking took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sleep {
    /// From the command to its end.
    pub took: Duration,
}

impl Vm {
    /// Freezes the machine and writes its state to `file`. It stays frozen; the caller copies the disks, then lets it
    /// [go on](Vm::go_on) or switches it off. What it said meanwhile is not lost: it comes with the next events.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU cannot move this machine (an NVMe disk, a TPM) or cannot write the file.
    pub async fn save(&mut self, file: &Path) -> Result<Sleep, QemuError> {
        let began = Instant::now();
        self.qmp().stop().await?;
        self.frozen = Some(began);
        capabilities(self).await?;
        let uri = format!("file:{}", file.display());
        self.qmp().execute("migrate", json!({ "uri": uri })).await?;
        migrated(self).await?;
        finalised(self).await?;
        while let Some((at, event)) = self.received() {
            self.hold(at, event);
        }
        Ok(Sleep { took: began.elapsed() })
    }

    /// Lets a frozen machine go on. The time that it was frozen does not count.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU does not take the command.
    pub async fn go_on(&mut self) -> Result<(), QemuError> {
        if let Some(since) = self.frozen.take() {
            let frozen = since.elapsed();
            self.born += frozen;
            for (at, _) in &mut self.held {
                *at += frozen;
            }
        }
        self.qmp().cont().await
    }

    /// What a frozen machine had said and nobody has heard: bytes of its serial port, or of the out-of-band port.
    pub fn unheard(&self) -> impl Iterator<Item = &VmEvent> {
        self.held
            .iter()
            .map(|(_, event)| event)
            .filter(|event| matches!(event, VmEvent::Serial(_) | VmEvent::Progress(_)))
    }

    /// Starts a machine from a saved state; its disks are those that it was saved with. It runs when this returns, and
    /// its [age](Vm::age) goes on from `age`.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU does not come up or the file does not fit the machine.
    pub async fn wake(
        spec: &VmSpec,
        files: &VmFiles,
        accel: &Accel,
        file: &Path,
        age: Duration,
    ) -> Result<(Self, Sleep), QemuError> {
        let began = Instant::now();
        let mut vm = Self::launch(spec, files, accel, true).await?;
        capabilities(&vm).await?;
        let uri = format!("file:{}", file.display());
        vm.qmp().execute("migrate-incoming", json!({ "uri": uri })).await?;
        migrated(&mut vm).await?;
        vm.go().await?;
        vm.born = vm.born.checked_sub(age).unwrap_or(vm.born);
        Ok((vm, Sleep { took: began.elapsed() }))
    }

    /// QEMU's version: what one has saved, another need not understand.
    ///
    /// # Errors
    /// [`QemuError`] when there is no QEMU for this architecture.
    pub async fn version(arch: Arch) -> Result<String, QemuError> {
        let said = Cmd::new(arch.qemu()).arg("--version").run_ok().await?;
        Ok(said.stdout_text().lines().next().unwrap_or_default().to_owned())
    }

    /// Keeps what is no news of the saving itself.
    fn hold(&mut self, at: Instant, event: VmEvent) {
        let of_saving = matches!(&event, VmEvent::Monitor(news)
            if ["STOP", "MIGRATION", "MIGRATION_PASS"].contains(&news.name.as_str()));
        if !of_saving {
            self.held.push_back((at, event));
        }
    }
}

async fn capabilities(vm: &Vm) -> Result<(), QemuError> {
    let on = |name: &str| json!({ "capability": name, "state": true });
    let all = ["events", "mapped-ram", "multifd"].map(on);
    vm.qmp().execute("migrate-set-capabilities", json!({ "capabilities": all })).await.map(drop)
}

/// Waits until QEMU has put everything away after its migration. It tells of the end a moment before and lets nobody go on until
/// then; of that moment it tells nobody, so it is asked.
async fn finalised(vm: &Vm) -> Result<(), QemuError> {
    let over = async {
        while vm.qmp().query_status().await? == "finish-migrate" {
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    };
    timeout(MIGRATION_LIMIT, over).await.unwrap_or_else(|_| {
        Err(QemuError::QmpRefused {
            command: "migrate".to_owned(),
            class: "MigrationFailed".to_owned(),
            description: format!("not put away within {} s", MIGRATION_LIMIT.as_secs()),
        })
    })
}

/// Waits for the migration's end, told by its events.
async fn migrated(vm: &mut Vm) -> Result<(), QemuError> {
    let refused = |description: String| QemuError::QmpRefused {
        command: "migrate".to_owned(),
        class: "MigrationFailed".to_owned(),
        description,
    };
    let end = async {
        loop {
            let Some((at, event)) = vm.receive().await else {
                return Err(Some("QEMU's channels are closed".to_owned()));
            };
            match &event {
                VmEvent::Monitor(news) if news.name == "MIGRATION" => {
                    match news.data.get("status").and_then(Value::as_str) {
                        Some("completed") => return Ok(()),
                        Some("failed" | "cancelled") => return Err(None),
                        _ => {}
                    }
                }
                VmEvent::Ended { said, .. } => {
                    let said = said.clone();
                    vm.hold(at, event);
                    return Err(Some(said));
                }
                _ => vm.hold(at, event),
            }
        }
    };
    match timeout(MIGRATION_LIMIT, end).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Some(said))) => Err(refused(format!("QEMU ended: {said}"))),
        Ok(Err(None)) => {
            let state = vm.qmp().execute("query-migrate", Value::Null).await.unwrap_or_default();
            let why = state.get("error-desc").and_then(Value::as_str).unwrap_or("no reason was given");
            Err(refused(why.to_owned()))
        }
        Err(_) => Err(refused(format!("not done within {} s", MIGRATION_LIMIT.as_secs()))),
    }
}
