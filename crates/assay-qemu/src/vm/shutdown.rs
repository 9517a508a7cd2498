//! Switching a machine off, as gently as it lets us; and saying how gentle that was.
//!
//! A killed QEMU is a power cut: what the guest had not written is gone, and a test that looks at the disks afterwards
//! looks at the state after a crash. So the power button comes first, and the rung that was needed is evidence.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::run::{Vm, VmEvent};
use crate::QemuError;

/// What it took to switch a machine off, from the gentlest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// It had switched itself off.
    Already,
    /// The power button (ACPI): the guest shut down in good order.
    PowerButton,
    /// QEMU was asked to end: a power cut.
    Quit,
    /// QEMU was ended with SIGTERM, and SIGKILL after that.
    Signal,
}

/// How long each rung is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownLimits {
    /// For the guest to shut down after its power button was pressed.
    pub button: Duration,
    /// For QEMU to end when it is asked to.
    pub quit: Duration,
    /// For QEMU to end after SIGTERM and SIGKILL.
    pub signal: Duration,
}

impl Default for ShutdownLimits {
    fn default() -> Self {
        Self {
            button: Duration::from_mins(3),
            quit: Duration::from_secs(15),
            signal: Duration::from_secs(20),
        }
    }
}

impl Vm {
    /// Switches the machine off. Events that come meanwhile are handed to `see`: a guest says why it does not go.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU cannot even be killed.
    pub async fn shut_down(
        &mut self,
        limits: ShutdownLimits,
        mut see: impl FnMut(Duration, VmEvent),
    ) -> Result<Rung, QemuError> {
        if !self.is_alive() {
            return Ok(Rung::Already);
        }
        let already = self.qmp().query_status().await.is_ok_and(|state| state == "shutdown");
        if !already {
            self.qmp().system_powerdown().await?;
            let off = async {
                loop {
                    let (at, event) = self.next_event().await;
                    let over = match &event {
                        VmEvent::Monitor(event) => event.name == "SHUTDOWN",
                        VmEvent::Ended { .. } => true,
                        _ => false,
                    };
                    see(at, event);
                    if over {
                        return;
                    }
                }
            };
            if timeout(limits.button, off).await.is_err() {
                return self.force(limits).await;
            }
        }
        self.force(limits).await?;
        Ok(if already { Rung::Already } else { Rung::PowerButton })
    }

    async fn force(&mut self, limits: ShutdownLimits) -> Result<Rung, QemuError> {
        if self.qmp().quit().await.is_ok() && self.gone(limits.quit).await {
            return Ok(Rung::Quit);
        }
        self.terminate();
        if self.gone(limits.signal).await {
            return Ok(Rung::Signal);
        }
        Err(QemuError::Unkillable { machine: "under test".to_owned(), pid: 0, after: limits.signal })
    }
}
