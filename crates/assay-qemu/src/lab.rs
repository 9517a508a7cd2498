//! The lab: machines that are switched on and off like real ones.
//!
//! A machine belongs to its state folder, not to the program that started it: it runs on when that program ends,
//! and any [`Lab`] on the same folder finds it. What is known about it is asked of QEMU and the kernel every
//! time; nothing is remembered that could be wrong after a crash.

mod bmc;
mod disks;
mod medium;
mod monitor;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use assay_model::Micros;
use assay_process::Cmd;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::{
    Accel, AccelProbe, Fault, Firmware, FirmwareFiles, LabMachine, Machine, Network, NetworkConfig,
    QemuError, Qmp, VmFolder, arguments, error::io_error, file::machine_names, process::VmProcess, sensors,
    smbios::memory_tables,
};

const START_LIMIT: Duration = Duration::from_mins(1);
const QUIT_LIMIT: Duration = Duration::from_secs(5);
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// `sun_path` holds 108 bytes, the last of them zero.
const LONGEST_SOCKET: usize = 107;

/// Where a lab keeps its things.
#[derive(Debug, Clone)]
pub struct LabConfig {
    /// Disks, logs, sockets. Made when missing; keep its path short, as sockets lie in it.
    pub state_dir: PathBuf,
    /// The machine files.
    pub machines_dir: PathBuf,
    /// The private network.
    pub network: NetworkConfig,
    /// UEFI firmware.
    pub firmware: FirmwareFiles,
    /// How machines run; `None` finds out and remembers.
    pub accel: Option<Accel>,
    /// The program, with its first arguments, that serves a disk when it is given the machine's state folder and
    /// the disk's id: [`crate::serve_disk`]. Ours is `assay lab serve-disk`.
    pub disk_server: Vec<OsString>,
    /// The program, with its first arguments, that a BMC switches its machine with. Ours is `assay lab`.
    pub bmc_switch: Vec<OsString>,
    /// More arguments for QEMU, for tests that boot a kernel without firmware and network.
    pub more_arguments: Vec<String>,
}

/// What a machine is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Status {
    /// Switched off.
    Off,
    /// Running.
    Running {
        /// QEMU's process.
        pid: u32,
        /// When it was switched on.
        since: Micros,
    },
    /// Frozen by the monitor.
    Paused {
        /// QEMU's process.
        pid: u32,
        /// When it was switched on.
        since: Micros,
    },
    /// Not running and not switched off either.
    Crashed {
        /// QEMU's process, if it is still there.
        pid: Option<u32>,
        /// What is known about it.
        reason: String,
    },
}

/// The machines of a folder on their network.
#[derive(Debug)]
pub struct Lab {
    config: LabConfig,
    network: Network,
    accel: OnceCell<Accel>,
}

impl LabConfig {
    /// The usual network, firmware and acceleration.
    pub fn new(state_dir: impl Into<PathBuf>, machines_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            machines_dir: machines_dir.into(),
            network: NetworkConfig::default(),
            firmware: FirmwareFiles::default(),
            accel: None,
            disk_server: own_disk_server(),
            bmc_switch: own_lab(),
            more_arguments: Vec::new(),
        }
    }
}

impl Lab {
    /// Opens a lab. Nothing is started.
    ///
    /// # Errors
    /// [`QemuError`] when the state folder cannot be made or a setting is impossible.
    pub fn open(mut config: LabConfig) -> Result<Self, QemuError> {
        // QEMU changes to `/` when it starts.
        config.state_dir = absolute(&config.state_dir)?;
        let machines = config.state_dir.join("machines");
        fs::create_dir_all(&machines).map_err(io_error("making", &machines))?;
        let network = Network::new(config.network.clone(), config.state_dir.join("network.json"))?;
        Ok(Self { config, network, accel: OnceCell::new() })
    }

    /// The network; [`Lab::power_on`] brings it up when needed.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// How machines run here.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU is missing or cannot run at all.
    pub async fn accel(&self) -> Result<&Accel, QemuError> {
        let found = self.accel.get_or_try_init(|| async {
            match &self.config.accel {
                Some(accel) => Ok(accel.clone()),
                None => AccelProbe::new(self.config.state_dir.join("accel.json")).accel().await,
            }
        });
        found.await
    }

    /// All machines, by name.
    ///
    /// # Errors
    /// [`QemuError`] when a file is wrong, or two machines share an address on the network.
    pub fn list(&self) -> Result<Vec<LabMachine>, QemuError> {
        let names = machine_names(&self.config.machines_dir)?;
        let machines = names.iter().map(|name| self.machine(name)).collect::<Result<Vec<_>, _>>()?;
        let mut owners = BTreeMap::new();
        for machine in &machines {
            for nic in machine.ordered.nics.iter().chain(&machine.actual.nics) {
                let owner = owners.entry(nic.mac).or_insert(&machine.name);
                if *owner != &machine.name {
                    return Err(QemuError::Invalid {
                        machine: machine.name.clone(),
                        field: format!("nics.{}", nic.id),
                        problem: format!(
                            "{} belongs to `{owner}` too; give each file a unit of its own",
                            nic.mac
                        ),
                    });
                }
            }
        }
        Ok(machines)
    }

    /// One machine.
    ///
    /// # Errors
    /// [`QemuError`] when there is no such file or it is wrong.
    pub fn machine(&self, name: &str) -> Result<LabMachine, QemuError> {
        LabMachine::load(&self.config.machines_dir, name)
    }

    /// Switches a machine on. One that is on already stays as it is.
    ///
    /// # Errors
    /// [`QemuError`] when it cannot be built or QEMU refuses it.
    pub async fn power_on(&self, name: &str) -> Result<Status, QemuError> {
        let machine = self.machine(name)?;
        self.switch_on(name, &machine.actual).await
    }

    /// As [`Lab::power_on`], with `fault` in place of the file's own.
    ///
    /// # Errors
    /// As [`Lab::power_on`].
    pub async fn power_on_with(&self, name: &str, fault: Fault) -> Result<Status, QemuError> {
        let machine = self.machine(name)?.with_fault(fault)?;
        self.switch_on(name, &machine.actual).await
    }

    /// Pulls the plug. Does nothing to a machine that is off.
    ///
    /// # Errors
    /// [`QemuError`] when its process cannot be ended.
    pub async fn power_off(&self, name: &str) -> Result<(), QemuError> {
        let folder = self.known_folder(name)?;
        if !folder.path().exists() {
            return Ok(());
        }
        let _lock = lock(&folder).await?;
        switch_off(name, &folder).await
    }

    /// Off and on again, from cold.
    ///
    /// # Errors
    /// As [`Lab::power_off`] and [`Lab::power_on`].
    pub async fn power_cycle(&self, name: &str) -> Result<Status, QemuError> {
        self.power_off(name).await?;
        self.power_on(name).await
    }

    /// What a machine is doing.
    ///
    /// # Errors
    /// [`QemuError`] when there is no such machine or its monitor does not answer.
    pub async fn status(&self, name: &str) -> Result<Status, QemuError> {
        let folder = self.known_folder(name)?;
        if !folder.path().exists() {
            return Ok(Status::Off);
        }
        let _lock = lock(&folder).await?;
        status(&folder).await
    }

    /// Waits until a machine has switched itself off (or has died); says whether that came within `limit`.
    ///
    /// # Errors
    /// [`QemuError`] when there is no such machine.
    pub async fn wait_off(&self, name: &str, limit: Duration) -> Result<bool, QemuError> {
        let folder = self.known_folder(name)?;
        match VmProcess::find(&folder.pid()) {
            None => Ok(true),
            Some(process) => {
                process.ended(limit).await.map_err(io_error("waiting for the process in", folder.pid()))
            }
        }
    }

    /// Throws a machine's disks and UEFI variables away. The next power-on makes empty ones.
    ///
    /// # Errors
    /// [`QemuError::WrongState`] when it is not off.
    pub async fn reset_disks(&self, name: &str) -> Result<(), QemuError> {
        let folder = self.known_folder(name)?;
        if !folder.path().exists() {
            return Ok(());
        }
        let _lock = lock(&folder).await?;
        if VmProcess::find(&folder.pid()).is_some() {
            return Err(QemuError::WrongState {
                machine: name.to_owned(),
                state: "on",
                hint: "power it off before its disks are reset",
            });
        }
        let entries = fs::read_dir(folder.path()).map_err(io_error("listing", folder.path()))?;
        for entry in entries {
            let path = entry.map_err(io_error("listing", folder.path()))?.path();
            if path == folder.vars() || path == folder.crash_store() || folder.is_disk(&path) {
                fs::remove_file(&path).map_err(io_error("removing", &path))?;
            }
        }
        Ok(())
    }

    /// Switches off every machine of the state folder, also those whose file is gone, and removes the network.
    ///
    /// # Errors
    /// The first [`QemuError`], after everything else was tried.
    pub async fn down(&self) -> Result<(), QemuError> {
        let machines = self.config.state_dir.join("machines");
        let entries = fs::read_dir(&machines).map_err(io_error("listing", &machines))?;
        let mut result = Ok(());
        for entry in entries {
            let path = entry.map_err(io_error("listing", &machines))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let folder = VmFolder::new(path);
            // A BMC first, or it might switch its machine on again.
            result = result.and(bmc::stop_bmc(&folder).await);
            let off = async {
                let _lock = lock(&folder).await?;
                switch_off(&name, &folder).await
            };
            result = result.and(off.await);
        }
        // Taps in use cannot be removed, and a machine that stayed must not lose its cable silently.
        result?;
        self.network.down().await
    }

    /// Everything that the machine's serial port said, over all power cycles. The file may not exist yet.
    ///
    /// # Errors
    /// [`QemuError`] when there is no such machine.
    pub fn console_log(&self, name: &str) -> Result<PathBuf, QemuError> {
        Ok(self.known_folder(name)?.console())
    }

    /// The state folder of a machine, with its disks and its serial socket.
    ///
    /// # Errors
    /// [`QemuError`] when there is no such machine.
    pub fn folder(&self, name: &str) -> Result<VmFolder, QemuError> {
        self.known_folder(name)
    }

    /// Writes what is on the machine's screen to `file` as a PNG image.
    ///
    /// # Errors
    /// [`QemuError`] when it is not on or QEMU cannot write there.
    pub async fn screenshot(&self, name: &str, file: &Path) -> Result<(), QemuError> {
        let file = absolute(file)?;
        let folder = self.known_folder(name)?;
        Self::must_be_on(name, &folder)?;
        let _lock = lock(&folder).await?;
        Qmp::connect(&folder.control()).await?.screendump(&file).await?;
        let mut head = [0; 8];
        let read = File::open(&file).and_then(|mut image| image.read_exact(&mut head));
        if read.is_err() || head != *b"\x89PNG\r\n\x1a\n" {
            return Err(QemuError::NoScreenshot { path: file });
        }
        Ok(())
    }

    /// A monitor of the machine. It serves one holder at a time, whom the lab's own doings do not disturb.
    ///
    /// # Errors
    /// [`QemuError`] when the machine is not on or another holds the monitor.
    pub async fn qmp(&self, name: &str) -> Result<Qmp, QemuError> {
        let folder = self.known_folder(name)?;
        Self::must_be_on(name, &folder)?;
        Qmp::connect(&folder.qmp()).await
    }

    async fn switch_on(&self, name: &str, machine: &Machine) -> Result<Status, QemuError> {
        let folder = self.vm_folder(name);
        fs::create_dir_all(folder.path()).map_err(io_error("making", folder.path()))?;
        for socket in [folder.qmp(), folder.control(), folder.serial()] {
            if socket.as_os_str().len() > LONGEST_SOCKET {
                return Err(QemuError::PathTooLong { path: socket, max: LONGEST_SOCKET });
            }
        }
        let _lock = lock(&folder).await?;
        if VmProcess::find(&folder.pid()).is_some() {
            return status(&folder).await;
        }
        disks::stop(&folder).await?;
        clear_remains(&folder)?;
        let accel = self.accel().await?;
        self.network.up().await?;
        for nic in &machine.nics {
            self.network.tap_up(&nic.mac).await?;
        }
        self.prepare(name, machine, &folder).await?;
        let medium = medium::of(name, &folder)?;
        let command = Cmd::new("qemu-system-x86_64")
            .args(arguments(name, machine, &folder, &self.config.firmware, accel, medium.as_deref()))
            .args(&self.config.more_arguments)
            .netns(Some(&self.config.network.netns))
            .timeout(START_LIMIT);
        fs::write(folder.command(), format!("{command}\n")).map_err(io_error("writing", folder.command()))?;
        self.attach_bmc(name, machine, &folder).await?;
        if let Err(error) = disks::start(&self.config.disk_server, machine, &folder).await {
            switch_off(name, &folder).await?;
            return Err(error);
        }
        // QEMU goes into the background by itself, once the machine stands or has failed to.
        let output = match command.run().await {
            Ok(output) => output,
            Err(error) => {
                // It may be in the background already and only be late.
                switch_off(name, &folder).await?;
                return Err(error.into());
            }
        };
        if !output.success() {
            disks::stop(&folder).await?;
            clear_remains(&folder)?;
            return Err(QemuError::StartFailed {
                machine: name.to_owned(),
                said: Some(output.last_words())
                    .filter(|words| !words.is_empty())
                    .or_else(|| last_words(&folder))
                    .unwrap_or_else(|| "it said nothing".to_owned()),
                command: folder.command(),
            });
        }
        tracing::info!(machine.name = name, "a lab machine was switched on");
        status(&folder).await
    }

    async fn prepare(&self, name: &str, machine: &Machine, folder: &VmFolder) -> Result<(), QemuError> {
        for table in memory_tables(&machine.dimms) {
            let path = folder.path().join(table.file_name);
            fs::write(&path, table.bytes).map_err(io_error("writing", &path))?;
        }
        if machine.bench.sensors {
            sensors::write_tables(folder).await?;
        }
        for disk in machine.disks.iter().filter(|disk| disk.path_to.is_none()) {
            let path = folder.disk(&disk.id);
            let want = disk.size_mib * 1024 * 1024;
            match fs::metadata(&path) {
                Ok(found) if found.len() != want => {
                    return Err(QemuError::DiskSize {
                        machine: name.to_owned(),
                        disk: disk.id.clone(),
                        want_mib: disk.size_mib,
                        have_bytes: found.len(),
                    });
                }
                Ok(_) => {}
                // Sparse: it takes room only as it is written.
                Err(_) => disks::make(&path, want, disk.contents).await?,
            }
        }
        if machine.firmware == Firmware::Uefi {
            let files = &self.config.firmware;
            for path in [&files.code, &files.vars] {
                if !path.exists() {
                    return Err(QemuError::NoFirmware { path: path.clone(), package: "ovmf" });
                }
            }
            if !folder.vars().exists() {
                fs::copy(&files.vars, folder.vars())
                    .map_err(io_error("copying the UEFI variables to", folder.vars()))?;
            }
        }
        // Only the last start's complaints explain the last start.
        fs::write(folder.log(), "").map_err(io_error("writing", folder.log()))
    }

    /// The monitor that the lab keeps for itself.
    pub(crate) async fn monitor(&self, name: &str) -> Result<monitor::Monitor, QemuError> {
        let folder = self.known_folder(name)?;
        Self::pid(name, &folder)?;
        let lock = lock(&folder).await?;
        Ok(monitor::Monitor::new(Qmp::connect(&folder.control()).await?, lock))
    }

    /// The process of a machine that is on.
    pub(crate) fn pid(name: &str, folder: &VmFolder) -> Result<u32, QemuError> {
        Self::must_be_on(name, folder)?;
        VmProcess::find(&folder.pid()).map(|process| process.pid()).ok_or_else(|| QemuError::WrongState {
            machine: name.to_owned(),
            state: "not on any more",
            hint: "power it on first",
        })
    }

    /// A machine is known by its file, or by what it left in the state folder.
    fn known_folder(&self, name: &str) -> Result<VmFolder, QemuError> {
        let folder = self.vm_folder(name);
        if crate::machine::id_problem(name).is_none() && folder.path().exists() {
            return Ok(folder);
        }
        self.machine(name)?;
        Ok(folder)
    }

    fn vm_folder(&self, name: &str) -> VmFolder {
        VmFolder::new(self.config.state_dir.join("machines").join(name))
    }

    fn must_be_on(name: &str, folder: &VmFolder) -> Result<(), QemuError> {
        match VmProcess::find(&folder.pid()) {
            Some(_) => Ok(()),
            None => Err(QemuError::WrongState {
                machine: name.to_owned(),
                state: "not on",
                hint: "power it on first",
            }),
        }
    }
}

fn own_disk_server() -> Vec<OsString> {
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("assay"));
    vec![own.into_os_string(), OsString::from("lab"), OsString::from("serve-disk")]
}

fn own_lab() -> Vec<OsString> {
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("assay"));
    vec![own.into_os_string(), OsString::from("lab")]
}

async fn status(folder: &VmFolder) -> Result<Status, QemuError> {
    let gone = || {
        // QEMU removes its pid file when it ends in good order, so a pid file without a process tells of a crash.
        if !folder.pid().exists() {
            return Status::Off;
        }
        let words = last_words(folder).map_or_else(String::new, |words| format!("; its last words: {words}"));
        let reason = format!("QEMU ended without shutting down{words}");
        Status::Crashed { pid: None, reason }
    };
    let Some(process) = VmProcess::find(&folder.pid()) else {
        return Ok(gone());
    };
    let pid = process.pid();
    let state = async { Qmp::connect(&folder.control()).await?.query_status().await };
    let state = match state.await {
        Ok(state) => state,
        // It ended while it was asked, and that is the answer.
        Err(_) if VmProcess::find(&folder.pid()).is_none() => return Ok(gone()),
        Err(error) => return Err(error),
    };
    let written = fs::metadata(folder.pid()).and_then(|file| file.modified());
    let since = match written {
        Ok(since) => micros(since),
        Err(_) if VmProcess::find(&folder.pid()).is_none() => return Ok(gone()),
        Err(source) => return Err(io_error("reading", folder.pid())(source)),
    };
    Ok(match state.as_str() {
        "running" => Status::Running { pid, since },
        "guest-panicked" | "internal-error" | "io-error" | "shutdown" => {
            Status::Crashed { pid: Some(pid), reason: format!("QEMU says {state}") }
        }
        _ => Status::Paused { pid, since },
    })
}

async fn switch_off(name: &str, folder: &VmFolder) -> Result<(), QemuError> {
    if let Some(process) = VmProcess::find(&folder.pid()) {
        let waiting = || io_error("waiting for the process in", folder.pid());
        let quit = async { Qmp::connect(&folder.control()).await?.quit().await };
        let asked = tokio::time::timeout(QUIT_LIMIT, quit).await;
        let left = matches!(asked, Ok(Ok(()))) && process.ended(QUIT_LIMIT).await.map_err(waiting())?;
        if !left {
            process.kill().map_err(io_error("killing the process in", folder.pid()))?;
            if !process.ended(KILL_LIMIT).await.map_err(waiting())? {
                return Err(QemuError::Unkillable {
                    machine: name.to_owned(),
                    pid: process.pid(),
                    after: KILL_LIMIT,
                });
            }
        }
        tracing::info!(machine.name = name, "a lab machine was switched off");
    }
    disks::stop(folder).await?;
    clear_remains(folder)
}

/// Removes what a QEMU that is gone has left.
fn clear_remains(folder: &VmFolder) -> Result<(), QemuError> {
    for path in [folder.pid(), folder.qmp(), folder.control(), folder.serial()] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error("removing", path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn last_words(folder: &VmFolder) -> Option<String> {
    let log = fs::read(folder.log()).ok()?;
    let text = String::from_utf8_lossy(&log);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(3)..];
    (!last.is_empty()).then(|| last.join(" / "))
}

fn micros(time: SystemTime) -> Micros {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH);
    Micros(since_epoch.map_or(0, |span| i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
}

/// Held while a machine is looked at or changed, against other programs too. Let go of when dropped.
async fn lock(folder: &VmFolder) -> Result<File, QemuError> {
    let path = folder.lock();
    let locking = io_error("locking", path.clone());
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::create(path)?;
        file.lock()?;
        Ok(file)
    });
    locked.await.map_err(std::io::Error::other).and_then(|locked| locked).map_err(locking)
}

fn absolute(path: &Path) -> Result<PathBuf, QemuError> {
    std::path::absolute(path).map_err(io_error("resolving", path))
}
