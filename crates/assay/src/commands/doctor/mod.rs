//! `assay doctor`: what works on this machine before anything starts.
//!
//! Nothing should fail late that could be known early. Facts are found here, all at once and by trying where
//! that is possible (a payload booted, a namespace made); what they mean is decided in [`verdict`].

mod verdict;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use assay_model::Sha256;
use assay_netboot::{DEFAULT_TFTP_ROOT, Loaders};
use assay_process::find_program;
use assay_qemu::{AccelProbe, FirmwareFiles, Lab, LabConfig};
use clap::Args;
use serde::Deserialize;

use self::verdict::{Image, Level, Line, PortUse, worst};
use crate::commands::guests::GuestArgs;
use crate::commands::prove;
use crate::exit::Exit;
use crate::place::{self, Addresses};
use crate::ui;

/// Where a server listens that is started without options: operators, firmware, agents.
const PORTS: [u16; 3] = [7300, 7301, 7302];

#[derive(Args)]
pub(crate) struct Doctor {
    /// The data folder that a server would use.
    #[arg(long, env = "ASSAY_DATA", default_value_os_t = place::default_data())]
    data: PathBuf,
    /// The folder with the live image [default: that of this machine's data folder, or else target/live-image].
    #[arg(long, env = "ASSAY_LIVE_IMAGE")]
    live_image: Option<PathBuf>,
    /// The folder with the guest image, for recipes that are tested in a virtual machine [default: that of this machine's data folder,
    /// or else target/guest-image].
    #[arg(long, value_name = "FOLDER", env = "ASSAY_GUEST_IMAGE")]
    guest_image: Option<PathBuf>,
    /// Look at a swarm, too, that recipes are to be tested in beside others. Without a value: /var/run/docker.sock.
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, default_missing_value = super::recipe::DOCKER)]
    shared_swarm: Option<PathBuf>,
    /// Print JSON on stdout.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) async fn run(self) -> Result<Exit> {
        let root = rustix::process::geteuid().is_root();
        let in_data = self.data.join("live-image");
        let named = self.live_image.clone().or_else(|| in_data.exists().then_some(in_data));
        let image_folder = prove::live_image(named);
        let shared = async {
            match &self.shared_swarm {
                Some(socket) => Some(assay_runner::can_share(socket).await),
                None => None,
            }
        };
        let (emulation, namespaces, image, ports, recipes, shared) = tokio::join!(
            emulation(),
            namespaces(root),
            blocking({
                let folder = image_folder.clone();
                move || read_image(&folder)
            }),
            ports(&self.data),
            assay_runner::try_recipes(),
            shared,
        );
        let firmware = FirmwareFiles::default();
        let loaders = Loaders::default();
        let tftp = Path::new(DEFAULT_TFTP_ROOT);
        // Real machines can be vetted without a lab, so what only the lab needs is a warning.
        let mut lines = vec![
            verdict::privileges(root),
            program("qemu-system-x86_64", Level::Warning),
            emulation?,
            verdict::files("UEFI firmware", &missing([firmware.code, firmware.vars]), "ovmf", Level::Warning),
            verdict::files(
                "network boot loaders",
                &missing([tftp.join(loaders.bios), tftp.join(loaders.uefi)]),
                "ipxe",
                Level::Problem,
            ),
            // Wanted by an opt-in stage only.
            verdict::files(
                "memory test",
                &missing(["/boot/memtest86+x64.bin", "/boot/memtest86+x64.efi"].map(PathBuf::from)),
                "memtest86+",
                Level::Warning,
            ),
            program("dnsmasq", Level::Problem),
            program("ip", Level::Problem),
            namespaces,
            program("setpriv", Level::Problem),
            verdict::recipes(recipes.as_ref()),
            // For recipes under test: what runs their hooks and tests, backups, and pictures of apps.
            program("bwrap", Level::Warning),
            program("restic", Level::Warning),
            program("chromium", Level::Warning),
            verdict::image(&image_folder, &image?),
            verdict::guests(GuestArgs::with(self.guest_image.clone()).settings(&self.data)?.check().as_ref()),
            verdict::data(&self.data, &room(&self.data)),
            verdict::ports(&ports),
        ];
        lines.extend(shared.map(|shared| verdict::shared_swarm(shared.as_ref())));
        if self.json {
            ui::json(&lines)?;
        } else {
            print(&lines);
        }
        Ok(if worst(&lines) == Level::Problem { Exit::Fail } else { Exit::Ok })
    }
}

fn print(lines: &[Line]) {
    for line in lines {
        let level = match line.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "PROBLEM",
        };
        ui::line(&format!("{level:<8} {:<20} {}", line.what, line.found));
        if let Some(todo) = &line.todo {
            ui::line(&format!("{:<8} {:<20} → {todo}", "", ""));
        }
    }
    let last = match worst(lines) {
        Level::Ok => "everything works",
        Level::Warning => "it works, with the limits above",
        Level::Problem => "something that is needed does not work; see above",
    };
    ui::say(last);
}

fn program(name: &'static str, level: Level) -> Line {
    verdict::program(name, find_program(name).as_ref(), level)
}

fn missing(files: [PathBuf; 2]) -> Vec<PathBuf> {
    files.into_iter().filter(|file| !file.exists()).collect()
}

/// Boots a payload. The answer is not kept: a doctor that remembers is no doctor.
async fn emulation() -> Result<Line> {
    let folder = tempfile::tempdir().context("making a scratch folder")?;
    let accel = AccelProbe::new(folder.path().join("accel.json")).accel().await;
    if let Ok(assay_qemu::Accel::Tcg { .. }) = &accel {
        // Without a usable device nothing was booted yet; whether emulation works is still open.
        let probe =
            AccelProbe { kvm_device: "/dev/null".into(), ..AccelProbe::new(folder.path().join("tcg.json")) };
        if let Err(error @ (assay_qemu::QemuError::NoEmulation { .. } | assay_qemu::QemuError::Process(_))) =
            probe.probe().await
        {
            return Ok(verdict::emulation(Err(&error)));
        }
    }
    Ok(verdict::emulation(accel.as_ref()))
}

/// Makes a lab's network and removes it.
async fn namespaces(root: bool) -> Line {
    if !root {
        return verdict::namespaces(None);
    }
    verdict::namespaces(Some(try_network().await.map_err(|error| format!("{error:#}"))))
}

async fn try_network() -> Result<()> {
    let folder = tempfile::tempdir().context("making a scratch folder")?;
    let mut config = LabConfig::new(folder.path().join("lab"), folder.path());
    config.network.netns = format!("assay-d{}", std::process::id());
    let lab = Lab::open(config)?;
    let network = lab.network();
    let made = async {
        network.up().await?;
        network.tap_up(&"52:54:00:00:00:01".parse().context("an address")?).await?;
        anyhow::Ok(())
    };
    let made = made.await;
    let removed = network.down().await;
    made?;
    Ok(removed?)
}

#[derive(Deserialize)]
struct Manifest {
    digest: String,
    kernel: String,
    files: Vec<ManifestFile>,
}

#[derive(Deserialize)]
struct ManifestFile {
    name: String,
    sha256: String,
    bytes: u64,
}

fn read_image(folder: &Path) -> Result<Image, String> {
    let path = folder.join("manifest.json");
    let text = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let files: BTreeMap<_, _> = manifest.files.iter().map(|file| (file.name.as_str(), file)).collect();
    // What the control plane itself would refuse; the agent's overlay lies beside the image proper.
    let mut wrong: Vec<_> =
        assay_server::LiveImage::open(folder).problem().map(str::to_owned).into_iter().collect();
    let mut private = Vec::new();
    for path in std::iter::once(path.clone()).chain(files.keys().map(|name| folder.join(name))) {
        if std::fs::metadata(&path).is_ok_and(|found| found.permissions().mode() & 0o004 == 0) {
            private.push(path.display().to_string());
        }
    }
    for file in files.values() {
        if let Some(why) = differs(&folder.join(&file.name), file) {
            wrong.push(format!("{} {why}", file.name));
        }
    }
    Ok(Image { digest: manifest.digest, kernel: manifest.kernel, wrong, private })
}

/// Why a file is not what the manifest says.
fn differs(path: &Path, file: &ManifestFile) -> Option<String> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) => return Some(format!("cannot be read: {e}")),
    };
    if bytes.len() as u64 != file.bytes {
        return Some(format!("has {} bytes and not {}", bytes.len(), file.bytes));
    }
    (Sha256::of(&bytes).to_string() != file.sha256)
        .then(|| "is not the file that the manifest names".to_owned())
}

/// The space for ordinary users where the data folder is or would be, after writing there.
fn room(data: &Path) -> io::Result<u64> {
    let data = std::path::absolute(data)?;
    let there = data.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    // A file without a name: gone by itself.
    tempfile::tempfile_in(there)?;
    let found = rustix::fs::statvfs(there)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

async fn ports(data: &Path) -> Vec<(u16, PortUse)> {
    let ours: Vec<u16> = match Addresses::read(data) {
        Ok(at) if answers(at.operators).await => vec![at.operators.port(), at.boot.port(), at.agents.port()],
        // Addresses that a server left behind when it ended.
        _ => Vec::new(),
    };
    let look = |port| match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => PortUse::Free,
        Err(_) if ours.contains(&port) => PortUse::Ours,
        Err(_) => PortUse::Taken,
    };
    PORTS.into_iter().map(|port| (port, look(port))).collect()
}

async fn answers(server: std::net::SocketAddr) -> bool {
    let limit = std::time::Duration::from_secs(2);
    matches!(tokio::time::timeout(limit, tokio::net::TcpStream::connect(server)).await, Ok(Ok(_)))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
