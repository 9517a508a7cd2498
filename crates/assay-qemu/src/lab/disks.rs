//! The disks of lab machines: their images, and the processes behind those that are served.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::Path,
    time::{Duration, Instant},
};

use assay_process::{Cmd, Detached};

use super::{QUIT_LIMIT, START_LIMIT};
use crate::{Contents, Machine, QemuError, VmFolder, disk::write_rules, error::io_error};

/// Starts the processes behind the served disks, with the rules that hold from power-on.
pub(super) async fn start(
    server_program: &[OsString],
    machine: &Machine,
    folder: &VmFolder,
) -> Result<(), QemuError> {
    for disk in machine.disks.iter().filter(|disk| disk.served) {
        let rules = folder.disk_rules(&disk.id);
        write_rules(&rules, &disk.rules).map_err(io_error("writing", rules))?;
        let Some((program, before)) = server_program.split_first() else {
            return Err(QemuError::NoDiskServer { disk: disk.id.clone() });
        };
        let command = Cmd::new(program).args(before).arg(folder.path()).arg(&disk.id);
        let server = command.spawn_detached(&folder.disk_log()).await?;
        let record = folder.disk_process(&disk.id);
        let text = serde_json::to_vec(&server).map_err(std::io::Error::other);
        text.and_then(|text| fs::write(&record, text)).map_err(io_error("writing", record))?;
        listening(&folder.disk_socket(&disk.id), &server, folder).await?;
    }
    Ok(())
}

/// Whole or not at all: a disk that is half made would look like one that was written to.
pub(super) async fn make(path: &Path, size: u64, contents: Option<Contents>) -> Result<(), QemuError> {
    let part = path.with_extension("part");
    File::create(&part).and_then(|file| file.set_len(size)).map_err(io_error("making", &part))?;
    if let Some(contents) = contents {
        contents.write_to(&part).await?;
    }
    fs::rename(&part, path).map_err(io_error("making", path))
}

/// Ends the processes behind served disks. They end by themselves when QEMU does, if it ever came.
pub(super) async fn stop(folder: &VmFolder) -> Result<(), QemuError> {
    let Ok(entries) = fs::read_dir(folder.path()) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "process") {
            continue;
        }
        let text = fs::read(&path).map_err(io_error("reading", &path))?;
        // One that was cut short names no process: we were killed before it was written.
        if let Ok(server) = serde_json::from_slice::<Detached>(&text) {
            server.stop(QUIT_LIMIT).await.map_err(io_error("stopping the process in", &path))?;
        }
        fs::remove_file(&path).map_err(io_error("removing", &path))?;
        let socket = path.with_extension("nbd");
        if socket.exists() {
            fs::remove_file(&socket).map_err(io_error("removing", &socket))?;
        }
    }
    Ok(())
}

/// Waits until a disk's process takes connections, without making one: it ends with its last client.
async fn listening(socket: &Path, server: &Detached, folder: &VmFolder) -> Result<(), QemuError> {
    let until = Instant::now() + START_LIMIT;
    while !socket.exists() {
        if !server.is_alive() || Instant::now() > until {
            let log = fs::read_to_string(folder.disk_log()).unwrap_or_default();
            let said = log.lines().last().unwrap_or("it said nothing").to_owned();
            return Err(QemuError::DiskServer { socket: socket.to_owned(), said });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
