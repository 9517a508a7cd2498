//! The BMCs of a lab's machines as processes: started once, found again, stopped with the lab.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use assay_process::{Cmd, Detached};

use super::{Lab, absolute, lock};
use crate::{
    Bmc, BmcAccess, Machine, QemuError, VmFolder,
    bmc::{SWITCH, commands, configuration, reading_problem, script},
    error::io_error,
};

const START_LIMIT: Duration = Duration::from_secs(10);
const STOP_GRACE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// The files of one BMC, in its machine's state folder.
struct Files(PathBuf);

impl Lab {
    /// How a machine's BMC is reached; it is started if it does not run. `None` for a machine that has none.
    ///
    /// # Errors
    /// [`QemuError`] when there is no such machine, or its BMC does not start.
    pub async fn bmc(&self, name: &str) -> Result<Option<BmcAccess>, QemuError> {
        let machine = self.machine(name)?.actual;
        let Some(bmc) = &machine.bmc else { return Ok(None) };
        let folder = self.vm_folder(name);
        fs::create_dir_all(folder.path()).map_err(io_error("making", folder.path()))?;
        let _lock = lock(&folder).await?;
        self.network.up().await?;
        self.ensure_bmc(name, bmc, &folder).await?;
        Ok(Some(bmc.access(self.config.network.address)))
    }

    /// What a sensor of a machine's BMC reads from now on, until the machine is switched on the next time:
    /// millivolts, revolutions per minute, degrees Celsius, or bits (1 present, 2 failed, 4 will fail, 8 no input).
    ///
    /// # Errors
    /// [`QemuError::Invalid`] when the machine has no BMC, or it has no such sensor.
    pub fn set_bmc_sensor(&self, name: &str, sensor: &str, value: u32) -> Result<(), QemuError> {
        let invalid = |problem: String| QemuError::Invalid {
            machine: name.to_owned(),
            field: format!("bmc.{sensor}"),
            problem,
        };
        if self.machine(name)?.actual.bmc.is_none() {
            return Err(invalid("the machine has no BMC; say bmc = \"ipmi\" in its file".to_owned()));
        }
        if let Some(problem) = reading_problem(sensor, value) {
            return Err(invalid(problem));
        }
        Files::of(&self.vm_folder(name)).write_reading(sensor, value)
    }

    /// For a machine that is about to be switched on: its BMC runs, and its sensors read what they should.
    pub(super) async fn attach_bmc(
        &self,
        name: &str,
        machine: &Machine,
        folder: &VmFolder,
    ) -> Result<(), QemuError> {
        let Some(bmc) = &machine.bmc else { return Ok(()) };
        let files = Files::of(folder);
        fs::create_dir_all(files.sensors()).map_err(io_error("making", files.sensors()))?;
        for (sensor, value) in bmc.readings() {
            files.write_reading(sensor, value)?;
        }
        self.ensure_bmc(name, bmc, folder).await
    }

    async fn ensure_bmc(&self, name: &str, bmc: &Bmc, folder: &VmFolder) -> Result<(), QemuError> {
        let files = Files::of(folder);
        fs::create_dir_all(files.sensors()).map_err(io_error("making", files.sensors()))?;
        self.write_script(name, folder, &files)?;
        if files.process().is_some_and(|process| process.is_alive()) {
            return Ok(());
        }
        for (sensor, value) in bmc.readings() {
            if !files.sensors().join(sensor).exists() {
                files.write_reading(sensor, value)?;
            }
        }
        // It would add its sensors to those that it remembers. What it has logged stays, as with a real one.
        let remembered = files.0.join("ipmi_sim").join(name).join("sdr.20.main");
        if remembered.exists() {
            fs::remove_file(&remembered).map_err(io_error("removing", remembered))?;
        }
        let address = self.config.network.address;
        write(&files.conf(), &configuration(name, bmc, address, &files.script()))?;
        write(&files.commands(), &commands(&files.sensors()))?;
        fs::write(files.log(), "").map_err(io_error("writing", files.log()))?;
        let process = Cmd::new("ipmi_sim")
            .args(["-n", "-c"])
            .arg(files.conf())
            .arg("-f")
            .arg(files.commands())
            .arg("-s")
            .arg(&files.0)
            .netns(Some(&self.config.network.netns))
            .spawn_detached(&files.log())
            .await?;
        let record = serde_json::to_string(&process).map_err(std::io::Error::other);
        let record = record.map_err(io_error("writing", files.record()))?;
        write(&files.record(), &record)?;
        self.until_it_listens(name, bmc, process, &files).await?;
        tracing::info!(machine.name = name, bmc.port = bmc.port(), "a lab machine's BMC was started");
        Ok(())
    }

    async fn until_it_listens(
        &self,
        name: &str,
        bmc: &Bmc,
        process: Detached,
        files: &Files,
    ) -> Result<(), QemuError> {
        let until = Instant::now() + START_LIMIT;
        loop {
            let ready =
                has_port(process.pid, "udp", bmc.port()) && has_port(process.pid, "tcp", bmc.guest_port());
            if ready {
                return Ok(());
            }
            let alive = process.is_alive();
            if !alive || Instant::now() > until {
                let _ = process.stop(STOP_GRACE).await; // It is of no use either way.
                let log = fs::read_to_string(files.log()).unwrap_or_default();
                let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
                let ports = format!("UDP port {} and TCP port {}", bmc.port(), bmc.guest_port());
                return Err(QemuError::BmcFailed { machine: name.to_owned(), ports, said: last.to_owned() });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn write_script(&self, name: &str, folder: &VmFolder, files: &Files) -> Result<(), QemuError> {
        let machines = absolute(&self.config.machines_dir)?;
        let word = |path: &Path| path.display().to_string();
        let mut switch: Vec<String> =
            self.config.bmc_switch.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        switch.extend(["power".to_owned(), SWITCH.to_owned(), name.to_owned()]);
        switch.extend(["--machines".to_owned(), word(&machines), "--state".to_owned()]);
        switch.extend([word(&self.config.state_dir), "--netns".to_owned()]);
        switch.push(self.config.network.netns.clone());
        let script_file = files.script();
        if word(&script_file).contains(['"', '\'', '\n']) {
            return Err(QemuError::BmcFailed {
                machine: name.to_owned(),
                ports: "nothing".to_owned(),
                said: "the path of the state folder has quotes in it; choose another".to_owned(),
            });
        }
        let text = script(name, &folder.pid(), &files.boot(), &files.log(), &switch);
        let part = script_file.with_extension("new");
        write(&part, &text)?;
        fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).map_err(io_error("marking", &part))?;
        fs::rename(&part, &script_file).map_err(io_error("writing", script_file))
    }
}

/// Stops the BMC of the machine in `folder`, if there is one.
pub(super) async fn stop_bmc(folder: &VmFolder) -> Result<(), QemuError> {
    let files = Files::of(folder);
    let Some(process) = files.process() else { return Ok(()) };
    process.stop(STOP_GRACE).await.map_err(io_error("stopping the process in", files.record()))?;
    fs::remove_file(files.record()).map_err(io_error("removing", files.record()))
}

impl Files {
    fn of(folder: &VmFolder) -> Self {
        Self(folder.path().join("bmc"))
    }

    fn conf(&self) -> PathBuf {
        self.0.join("lan.conf")
    }

    fn commands(&self) -> PathBuf {
        self.0.join("commands")
    }

    fn script(&self) -> PathBuf {
        self.0.join("chassis")
    }

    fn boot(&self) -> PathBuf {
        self.0.join("boot")
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    fn record(&self) -> PathBuf {
        self.0.join("process.json")
    }

    fn sensors(&self) -> PathBuf {
        self.0.join("sensors")
    }

    fn process(&self) -> Option<Detached> {
        serde_json::from_slice(&fs::read(self.record()).ok()?).ok()
    }

    /// In one piece: it is read four times a second.
    fn write_reading(&self, sensor: &str, value: u32) -> Result<(), QemuError> {
        let path = self.sensors().join(sensor);
        let part = self.0.join(format!("{sensor}.new"));
        write(&part, &format!("{value}\n"))?;
        fs::rename(&part, &path).map_err(io_error("writing", path))
    }
}

/// Whether the process itself has a port open, by the kernel's own tables. Another's socket on that port is not ours.
fn has_port(pid: u32, protocol: &str, port: u16) -> bool {
    let Ok(table) = fs::read_to_string(format!("/proc/{pid}/net/{protocol}")) else { return false };
    let local = format!(":{port:04X}");
    let sockets = table.lines().filter_map(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        words.get(1)?.ends_with(&local).then(|| words.get(9).map(|inode| format!("socket:[{inode}]")))?
    });
    let sockets: Vec<_> = sockets.collect();
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

fn write(path: &Path, text: &str) -> Result<(), QemuError> {
    fs::write(path, text).map_err(io_error("writing", path))
}
