//! Collects `Prepare`: writes the medium, lays out the disks, and finds out how fast guests are here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use assay_media::MediaError;
use assay_media::stage::{BackupPlace, Stick, append_esp, stage_files};
use assay_model::Sha256;
use assay_process::Cmd;
use assay_qemu::{AccelProbe, DiskRule, GATE, Gate, ServedDisk, VmFolder, VmMedium};
use assay_standin::{Certificate, Config, Effect, Fault, Listen, RouteClass, StandIn};

use super::snapshot::STICK;
use super::{Brought, Test, blocking, brought, medium_kind};
use crate::image::evidence::{FlashRun, Prepared, Staged};
use crate::image::profile::{DiskFault, JoinFault, JoinSpec, MediumAs};

/// The smallest stick that is made when the profile names no size.
const SMALLEST_STICK: u64 = 1 << 30;
/// The EFI system partition that is added where the image has none with room.
const ADDED_ESP: u64 = 64 << 20;
/// How long the operator's own tool may take.
const FLASH_LIMIT: Duration = Duration::from_mins(30);
/// The sector that disk rules count in, in bytes.
const SECTOR: u64 = 512;
/// The most files that a repository begins with.
const MAX_TREE: usize = 2_000;

impl Test {
    pub(super) async fn prepare(&mut self, progress: &(dyn Fn(&str) + Sync)) -> Result<Brought, String> {
        std::fs::create_dir_all(&self.settings.cache)
            .map_err(|error| format!("{}: {error}", self.settings.cache.display()))?;
        let probe = AccelProbe::new(self.settings.cache.join("accel.json"));
        self.accel = probe.accel().await.map_err(|error| error.to_string())?;
        let payload = probe.time(&self.accel).await.map_err(|error| error.to_string())?;
        let payload_ms = u64::try_from(payload.as_millis()).unwrap_or(u64::MAX);
        if let Some(calibrated) = self.profile().calibrated_ms.filter(|ms| *ms > 0) {
            /// More than that, and a hang would be waited for all day.
            const MOST: f64 = 20.0;
            self.stretch = (payload_ms as f64 / calibrated as f64).clamp(1.0, MOST);
        }
        progress(&format!("guests run by {}", self.accel_words()));

        readable(&self.spec.image)?;
        let image = self.settings.digests.of(&self.spec.image).await?;
        if let Some(wanted) = self.spec.sha256.filter(|wanted| *wanted != image.sha256) {
            return Err(format!(
                "{} on the runner's machine is another image than the one that was to be tested (SHA-256 {}, not \
                 {wanted}); copy it there again",
                self.spec.image.display(),
                image.sha256
            ));
        }
        if let Some(brought) = self.take_up(image.sha256, progress).await? {
            return Ok(brought);
        }
        if let Some(join) = self.profile().join.clone() {
            self.stand_in(&join, None).await?;
        }
        let mut prepared = Prepared {
            bytes: image.bytes,
            sha256: image.sha256,
            medium: String::new(),
            stick_bytes: None,
            flash: None,
            staged: Vec::new(),
            problem: None,
            accel: self.accel_words(),
            payload_ms: Some(payload_ms),
            disks: Vec::new(),
            taken_up: None,
        };
        match self.profile().medium.kind {
            MediumAs::Cd => {
                "as a CD".clone_into(&mut prepared.medium);
                let image = self.spec.image.clone();
                self.medium =
                    Some(VmMedium { image, kind: medium_kind(MediumAs::Cd), serial: String::new() });
            }
            MediumAs::Usb => self.write_stick(&mut prepared, progress).await?,
        }
        prepared.disks = self.lay_out(0).await?;
        self.order_snapshot(progress);
        brought(&prepared, Vec::new())
    }

    /// Writes the stick as the operator does. What goes wrong with that is a fault of the image or the profile.
    async fn write_stick(
        &mut self,
        prepared: &mut Prepared,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), String> {
        let files = self.staged_files()?;
        for (path, content, secret) in &files {
            if *secret {
                self.secrets.add(path, content);
            }
        }
        let stick = self.path(STICK);
        let bytes = match self.profile().medium.size {
            Some(size) => size.0,
            None => (prepared.bytes * 2).max(SMALLEST_STICK).next_multiple_of(1 << 20),
        };
        prepared.stick_bytes = Some(bytes);
        "flashed to a USB stick".clone_into(&mut prepared.medium);
        if self.profile().medium.flash.is_empty() {
            progress("writing the stick");
            let (image, out, staged) = (self.spec.image.clone(), stick.clone(), files.clone());
            let written = blocking(move || write(&image, &out, bytes, &staged)).await?;
            match written {
                Ok(how) => prepared.medium = format!("flashed to a USB stick{how}"),
                Err(problem) => prepared.problem = Some(problem.to_string()),
            }
        } else {
            progress("the operator's tool writes the stick");
            prepared.flash = Some(self.flash(&stick, bytes, &files).await?);
        }
        let (image, wanted) = (stick.clone(), files.clone());
        let read_back = blocking(move || read_back(&image, &wanted)).await?;
        prepared.staged = files
            .iter()
            .zip(read_back)
            .map(|((path, content, secret), read_back)| Staged {
                path: path.clone(),
                bytes: content.len() as u64,
                secret: *secret,
                read_back,
            })
            .collect();
        self.medium =
            Some(VmMedium { image: stick, kind: medium_kind(MediumAs::Usb), serial: "INSTALLER".to_owned() });
        Ok(())
    }

    async fn flash(
        &self,
        stick: &Path,
        bytes: u64,
        files: &[(String, Vec<u8>, bool)],
    ) -> Result<FlashRun, String> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| format!("{}: {error}", path.display())
        };
        let made = std::fs::File::create(stick).map_err(io(stick))?;
        made.set_len(bytes).map_err(io(stick))?;
        let folder = self.path("staged");
        std::fs::create_dir_all(&folder).map_err(io(&folder))?;
        for (path, content, _) in files {
            let target = folder.join(path.trim_start_matches('/'));
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent).map_err(io(parent))?;
            }
            std::fs::write(&target, content).map_err(io(&target))?;
        }
        let variables = [
            ("{iso}", self.spec.image.display().to_string()),
            ("{stick}", stick.display().to_string()),
            ("{files}", folder.display().to_string()),
        ];
        let filled = |word: &String| {
            variables.iter().fold(word.clone(), |word, (key, value)| word.replace(key, value))
        };
        let words: Vec<String> = self.profile().medium.flash.iter().map(filled).collect();
        let [program, arguments @ ..] = words.as_slice() else {
            return Err("medium.flash names no program".to_owned());
        };
        let command = Cmd::new(program).args(arguments).cwd(&self.spec.folder).timeout(FLASH_LIMIT);
        let shown = command.to_string();
        match command.run().await {
            Ok(output) => Ok(FlashRun { command: shown, code: output.code(), said: output.last_words() }),
            Err(error) => Ok(FlashRun { command: shown, code: None, said: error.to_string() }),
        }
    }

    /// The staged files with what they hold, and whether each is a secret.
    pub(super) fn staged_files(&self) -> Result<Vec<(String, Vec<u8>, bool)>, String> {
        let variables = self.variables();
        let fill = |text: &str| {
            variables.iter().fold(text.to_owned(), |text, (key, value)| text.replace(key, value))
        };
        let mut files = Vec::new();
        for file in &self.profile().medium.files {
            let content = match (&file.content, &file.from) {
                (Some(content), _) => fill(content).into_bytes(),
                (None, Some(from)) => {
                    let path = self.spec.folder.join(from);
                    std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?
                }
                (None, None) => Vec::new(),
            };
            files.push((file.path.clone(), content, file.secret));
        }
        Ok(files)
    }

    /// What stands for what in a staged file.
    fn variables(&self) -> BTreeMap<&'static str, String> {
        let mut variables = BTreeMap::from([("{control-plane}", format!("http://{GATE}"))]);
        if let Some(join) = &self.profile().join {
            variables.insert("{operator}", join.operator.clone());
            variables.insert("{repository}", join.repository.clone());
            variables.insert("{control-plane-tls}", format!("https://{GATE}"));
        }
        if let Some(standin) = &self.standin {
            variables.insert("{ca}", standin.ca_pem().unwrap_or_default().to_owned());
        }
        variables.insert("{token}", self.token());
        variables
    }

    /// The token that machines of this run register with: drawn from the run, known to nobody else.
    fn token(&self) -> String {
        let (run, began) = self.drawn_from;
        Sha256::of(format!("{run} {} token", began.0).as_bytes()).to_string()[..40].to_owned()
    }

    /// Brings up the control plane that the machine finds at the gate's address: a new one, or the one that was kept in a
    /// folder.
    pub(super) async fn stand_in(&mut self, join: &JoinSpec, kept: Option<PathBuf>) -> Result<(), String> {
        let (owner, repository) = join.repository.split_once('/').unwrap_or(("operator", &join.repository));
        let sockets = tempfile::Builder::new().prefix("assay-gate-").tempdir();
        let sockets = sockets.map_err(|error| format!("a folder for sockets: {error}"))?.keep();
        let (plain, tls) = (sockets.join("plain"), sockets.join("tls"));
        let token = self.token();
        self.secrets.add("the join token", token.as_bytes());
        let mut config = Config::new(self.settings.clock.clone()).token("node", &token);
        config.kept = kept;
        config.owner = owner.to_owned();
        config.repository = repository.to_owned();
        config.login = join.operator.clone();
        config.listen = vec![Listen::Unix(plain.clone()), Listen::UnixTls(tls.clone())];
        if let Some(address) = self.profile().reconcile.as_ref().and_then(|reconcile| reconcile.serve) {
            // A cluster fetches from there, without a token.
            config.listen.push(Listen::Tcp(address));
            config.public = true;
        }
        if let Some(tree) = &join.tree {
            config.seed.extend(self.tree_before(tree)?);
        }
        config.tls_names = vec![GATE.to_owned(), "control-plane".to_owned()];
        for fault in &join.faults {
            config.faults.push(injected(fault)?);
        }
        let standin = StandIn::start(config).await.map_err(|error| error.to_string())?;
        self.gate = Some(Gate { plain, tls: Some(tls), relay: self.settings.relay.clone() });
        self.standin = Some(Arc::new(standin));
        self.sockets = Some(sockets);
        Ok(())
    }

    /// What is in the repository before the machine registers.
    fn tree_before(&self, name: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let root = self.spec.folder.join(name);
        let mut files = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let told = |error: std::io::Error| format!("{}: {error}", folder.display());
            for entry in std::fs::read_dir(&folder).map_err(told)? {
                let entry = entry.map_err(told)?;
                let (path, kind) = (entry.path(), entry.file_type().map_err(told)?);
                if kind.is_dir() {
                    folders.push(path);
                    continue;
                }
                // A link may lead anywhere.
                if !kind.is_file() {
                    continue;
                }
                if files.len() == MAX_TREE {
                    return Err(format!("{}: more than {MAX_TREE} files", root.display()));
                }
                let content = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                let place = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
                files.insert(place, content);
            }
        }
        Ok(files)
    }

    /// Puts a process behind each disk that fails on demand. It ends with its machine, so each machine gets its own.
    pub(super) async fn serve_faulty_disks(&mut self) -> Result<(), String> {
        for laid in &mut self.disks {
            let rules = match &laid.spec.fault {
                Some(DiskFault::WriteError { at }) => {
                    vec![DiskRule::Unwritable { sector: at.0 / SECTOR, count: 1 }]
                }
                Some(DiskFault::ReadError { at }) => {
                    vec![DiskRule::Unreadable { sector: at.0 / SECTOR, count: 1 }]
                }
                Some(DiskFault::Full { at }) => vec![DiskRule::Full { sector: at.0 / SECTOR }],
                // It is well until it is pulled.
                Some(DiskFault::Pulled { .. }) => Vec::new(),
                None => continue,
            };
            let folder = VmFolder::new(laid.image.parent().unwrap_or_else(|| Path::new("/")));
            let served =
                ServedDisk::start(&self.settings.disk_server, &folder, &laid.spec.name, &rules).await;
            laid.served = Some(Arc::new(served.map_err(|error| error.to_string())?));
        }
        Ok(())
    }
}

/// Whoever asks may be on another machine, and have the image there.
pub(super) fn readable(image: &Path) -> Result<(), String> {
    match std::fs::File::open(image).and_then(|file| file.metadata()) {
        Ok(file) if file.is_file() => Ok(()),
        Ok(_) => Err(format!("{} on the runner's machine is not a file", image.display())),
        Err(why) => Err(format!(
            "the image cannot be read on the runner's machine: {}: {why}; put it there, or name the path that it has \
             there, or let the machine that has it be the runner (--agents, --runner-token)",
            image.display()
        )),
    }
}

/// What the profile calls a fault, as the stand-in knows it.
fn injected(fault: &JoinFault) -> Result<Fault, String> {
    let class = serde_json::from_value(serde_json::Value::String(fault.on.replace('-', "_")));
    let route: RouteClass =
        class.map_err(|_| format!("join.fault: there is no kind of request `{}`", fault.on))?;
    let effect = match fault.what.as_str() {
        "slow" => Effect::Slow { seconds: 5.0 },
        "drop" => Effect::DropAfterRequest,
        "drop-after-push" => Effect::DropAfterPush,
        "truncate" => Effect::TruncateBody,
        "reset" => Effect::Reset,
        "wrong-certificate" => Effect::WrongCertificate { certificate: Certificate::OtherName },
        "expired-certificate" => Effect::WrongCertificate { certificate: Certificate::Expired },
        "unknown-authority" => Effect::WrongCertificate { certificate: Certificate::OtherAuthority },
        status => {
            let code = status.parse().map_err(|_| format!("join.fault: `{status}` is no fault"))?;
            Effect::Status { code }
        }
    };
    Ok(Fault { route, effect, times: fault.times })
}

/// Writes a stick; says how the files got onto it.
fn write(
    image: &Path,
    out: &Path,
    bytes: u64,
    files: &[(String, Vec<u8>, bool)],
) -> Result<&'static str, MediaError> {
    Stick::write(image, out, bytes, BackupPlace::Move)?;
    if files.is_empty() {
        return Ok("");
    }
    let borrowed: Vec<(&str, &[u8])> =
        files.iter().map(|(path, content, _)| (path.as_str(), content.as_slice())).collect();
    match stage_files(out, &borrowed) {
        Ok(_) => Ok(", files staged on its EFI partition"),
        Err(MediaError::NoEsp { .. } | MediaError::Full { .. }) => {
            append_esp(out, ADDED_ESP, "ASSAY", &borrowed)?;
            Ok(", files staged on an EFI partition that was added")
        }
        Err(other) => Err(other),
    }
}

/// Whether each staged file reads back from the stick.
fn read_back(image: &Path, files: &[(String, Vec<u8>, bool)]) -> Vec<bool> {
    let Ok(disk) = assay_media::Disk::open(image) else { return vec![false; files.len()] };
    let trees: Vec<_> = disk
        .partitions()
        .iter()
        .filter(|partition| partition.entry.is_esp())
        .filter_map(|partition| disk.tree(partition).ok())
        .collect();
    let holds = |path: &str, content: &[u8]| {
        let limit = content.len() as u64 + 1;
        trees.iter().any(|tree| tree.read(path, limit).is_ok_and(|read| read == content))
    };
    files.iter().map(|(path, content, _)| holds(path, content)).collect()
}
