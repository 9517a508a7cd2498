//! A TPM 2.0 for a machine: `swtpm`, one process a machine, its state in the machine's folder.

use std::time::Duration;

use assay_process::{Child, Cmd};

use super::command::Places;
use crate::QemuError;
use crate::error::io_error;

const START_LIMIT: Duration = Duration::from_secs(10);

/// Starts it and returns once it listens.
pub(super) async fn start(places: &Places) -> Result<Child, QemuError> {
    let state = places.folder.join("tpm");
    std::fs::create_dir_all(&state).map_err(io_error("making", &state))?;
    let socket = places.tpm();
    let mut child = Cmd::new("swtpm")
        .args(["socket", "--tpm2", "--tpmstate"])
        .arg(format!("dir={}", state.display()))
        .arg("--ctrl")
        .arg(format!("type=unixio,path={}", socket.display()))
        .args(["--log", "level=1"])
        .spawn()
        .await?;
    // It says nothing when it is ready, so the socket is looked for; a few milliseconds, once per machine.
    let listening = async {
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ready = tokio::time::timeout(START_LIMIT, listening) => {
            if ready.is_ok() {
                return Ok(child);
            }
        }
        _ = child.wait_beside_lines() => {}
    }
    let mut said = String::new();
    while let Ok(Some(line)) = tokio::time::timeout(Duration::from_secs(1), child.next_line()).await {
        said = line.text;
    }
    Err(QemuError::Tpm { said })
}
