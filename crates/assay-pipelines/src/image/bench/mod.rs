//! The bench: where the runner collects what the image pipeline judges.
//!
//! One [`Bench`] serves one run. It keeps what lives from stage to stage: the medium, the disks, the stand-in control
//! plane, and the machine, which boots in one stage and installs in the next. A bench that is new in the middle of a
//! run (the runner was restarted) goes through the stages before it once more; their evidence was judged already.

mod digests;
mod disks;
mod inspect;
mod install;
mod join;
mod look;
mod machine;
pub mod metal;
mod power_cuts;
mod prepare;
mod reconcile;
mod secrets;
mod sightings;
mod snapshot;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use assay_model::{Clock, Micros, RunId, Sha256, StageName};
use assay_qemu::{
    Accel, Arch, Gate, MediumKind, ToldPort, Vm, VmBus, VmDisk, VmFiles, VmFirmware, VmImage, VmMedium,
    VmNetwork, VmNic, VmSpec,
};
use assay_standin::StandIn;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;

pub use self::digests::{Digests, ImageDigest, content_of};
use self::disks::Laid;
pub use self::look::look;
use self::machine::{Asleep, Machine};
use self::reconcile::Revisions;
use self::secrets::Secrets;
use self::snapshot::{Ordered, State};
use super::evidence::Joined;
use super::profile::{Architecture, Bus, Connection, Firmware, MediumAs, Profile};
use super::{ImageSpec, STAGES};
use crate::recipe::bench::Meanwhile;

pub use self::power_cuts::{Explore, Explored, explore};

/// What a bench needs of the runner.
#[derive(Clone)]
pub struct BenchSettings {
    /// Where it keeps its work; a folder of its own is made and removed there.
    pub folder: PathBuf,
    /// What outlives runs: the answer whether KVM works.
    pub cache: PathBuf,
    /// The command that connects a unix socket (its last argument) to its standard input and output.
    pub relay: Vec<String>,
    /// The command that serves a disk that fails on demand (folder and disk are its last arguments).
    pub disk_server: Vec<OsString>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Digests of images that were computed already.
    pub digests: Digests,
}

impl std::fmt::Debug for BenchSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BenchSettings").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What a stage's collector brings back.
#[derive(Clone, Debug, Default)]
pub struct Brought {
    /// The evidence that the judge reads.
    pub evidence: Value,
    /// Transcripts, pictures and other files, by name.
    pub artifacts: Vec<(String, Vec<u8>)>,
}

/// What a machine's clock is set to, in shape.
const CLOCK: &str = "1970-01-01T00:00:00";
/// How often a run is begun anew where its machine fell to a fault of the runner: as often as lost attempts are taken
/// up again. The last time the evidence is kept as it is.
const BEGUN_ANEW: u32 = 2;

/// Serves one run.
pub struct Bench {
    settings: BenchSettings,
    held: Mutex<Held>,
}

/// What stands on a bench.
#[derive(Default)]
struct Held {
    test: Option<Test>,
    /// How often that run was begun anew.
    anew: u32,
}

impl Bench {
    /// A bench on which nothing stands yet.
    pub fn new(settings: BenchSettings) -> Self {
        Self { settings, held: Mutex::default() }
    }

    /// Collects a stage's evidence.
    ///
    /// # Errors
    /// Why the work could not be done at all, for people: a fault of the runner.
    pub async fn collect(
        &self,
        run: RunId,
        stage: &StageName,
        spec: &ImageSpec,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Brought, String> {
        let mut held = self.held.lock().await;
        let names: Vec<StageName> = STAGES.iter().map(|stage| stage.plan().name).collect();
        let Some(place) = names.iter().position(|name| name == stage) else {
            return Err(format!("this runner knows no stage {stage}"));
        };
        let known = held.test.as_ref().map(|test| test.run);
        if known != Some(run) {
            let anew = if known.is_some() { 0 } else { held.anew };
            *held = Held { test: Some(Test::new(run, spec, &self.settings)?), anew };
        }
        let before = if known == Some(run) { place } else { 0 };
        let test = held.test.as_mut().ok_or("there is no test")?;
        for earlier in &names[before..place] {
            progress(&format!("once more {earlier}, from the beginning"));
            test.stage(earlier, progress).await?;
        }
        let meanwhile = Meanwhile::begin();
        let mut brought = test.stage(stage, progress).await?;
        if let (Some(beside), Some(pressure)) = (brought.evidence.as_object_mut(), meanwhile.pressure()) {
            beside.insert("pressure".to_owned(), serde_json::to_value(pressure).unwrap_or_default());
        }
        let Some(why) = test.fault.take().filter(|_| held.anew < BEGUN_ANEW) else { return Ok(brought) };
        // The image had no part in it: a new machine, as if this one had never been.
        *held = Held { test: None, anew: held.anew + 1 };
        Err(why)
    }
}

/// One run's things.
struct Test {
    run: RunId,
    spec: ImageSpec,
    settings: BenchSettings,
    folder: tempfile::TempDir,
    /// What the machine's identity and tokens are drawn from: the run that they were made for, and its beginning.
    drawn_from: (RunId, Micros),
    began: Micros,
    accel: Accel,
    stretch: f64,
    medium: Option<VmMedium>,
    disks: Vec<Laid>,
    secrets: Secrets,
    standin: Option<Arc<StandIn>>,
    gate: Option<Gate>,
    machine: Option<Machine>,
    /// Counts machines: each has its own addresses.
    machines: u32,
    /// When the last machine was let go.
    let_go_at: Micros,
    /// When its marker of success was seen, in seconds since the run began.
    success_at: Option<f64>,
    up_at: Option<Micros>,
    joined: Option<Joined>,
    /// What the tree was with the machine in it, and after it was taken out again.
    revisions: Option<Revisions>,
    /// What it took to switch the last machine off.
    shutdown: Option<String>,
    /// Whether every write to the disks is recorded.
    recorded: bool,
    /// Whether what a power cut left was refused in plain words: then nothing is installed.
    refused: bool,
    /// What the runner did to a machine that was watched: QEMU ended, or its host gave it no time.
    fault: Option<String>,
    /// The folder of the gate's sockets.
    sockets: Option<PathBuf>,
    /// Whether the run goes on from a snapshot.
    is_taken_up: bool,
    /// The stages that were over in it.
    past: BTreeMap<String, Brought>,
    /// The machine that is to be woken.
    asleep: Option<(Asleep, Ordered)>,
    /// The snapshot that is to be made.
    ordered: Option<Ordered>,
    /// The stages that were over so far, for it.
    brought: Vec<(String, Brought)>,
    /// The run as it was when its machine was kept.
    slept: Option<State>,
}

impl Drop for Test {
    fn drop(&mut self) {
        if let Some(folder) = &self.sockets {
            // The stand-in removes its sockets; a folder that is gone already is what is wanted.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

impl Test {
    fn new(run: RunId, spec: &ImageSpec, settings: &BenchSettings) -> Result<Self, String> {
        std::fs::create_dir_all(&settings.folder)
            .map_err(|error| format!("{}: {error}", settings.folder.display()))?;
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&settings.folder);
        let folder = folder.map_err(|error| format!("{}: {error}", settings.folder.display()))?;
        let began = settings.clock.now();
        Ok(Self {
            run,
            spec: spec.clone(),
            settings: settings.clone(),
            folder,
            drawn_from: (run, began),
            began,
            accel: Accel::Tcg { reason: "not asked yet".to_owned() },
            stretch: 1.0,
            medium: None,
            disks: Vec::new(),
            secrets: Secrets::default(),
            standin: None,
            gate: None,
            machine: None,
            machines: 0,
            let_go_at: began,
            success_at: None,
            up_at: None,
            joined: None,
            revisions: None,
            shutdown: None,
            recorded: false,
            refused: false,
            fault: None,
            sockets: None,
            is_taken_up: false,
            past: BTreeMap::new(),
            asleep: None,
            ordered: None,
            brought: Vec::new(),
            slept: None,
        })
    }

    async fn stage(
        &mut self,
        stage: &StageName,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Brought, String> {
        let known =
            super::stage(stage.as_str()).ok_or_else(|| format!("this runner knows no stage {stage}"))?;
        if known.asked_for(&self.spec).is_err() {
            return Ok(Brought::default());
        }
        if let Some(past) = self.past.remove(stage.as_str()) {
            return Ok(past);
        }
        let brought = match stage.as_str() {
            "Prepare" => self.prepare(progress).await,
            "Inspect" => self.inspect().await,
            "Boot" => self.boot(progress).await,
            "Install" => self.install(progress).await,
            "Reboot" | "Identify" | "Join" | "Reconcile" if self.refused => Ok(Brought::default()),
            "Reboot" => self.reboot(progress).await,
            "Identify" => self.identify(progress).await,
            "Join" => self.join(progress).await,
            "Reconcile" => self.reconcile(progress).await,
            other => Err(format!("{other} is not collected by a runner")),
        }?;
        self.write_snapshot(stage.as_str(), &brought, progress).await;
        Ok(brought)
    }

    fn profile(&self) -> &Profile {
        &self.spec.profile
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How guests are run here, for people.
    fn accel_words(&self) -> String {
        machine::accel_words(&self.accel)
    }

    /// The machine of the profile, with its medium or from its disks alone.
    fn machine_spec(&self, number: u32, with_medium: bool) -> VmSpec {
        let machine = &self.profile().machine;
        let seed = self.spec.seed.wrapping_add(number.wrapping_mul(7919));
        let digest = Sha256::of(format!("{} {number}", self.drawn_from.0).as_bytes());
        let told = machine.progress_port.map(|port| ToldPort { port, relay: self.settings.relay.clone() });
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&digest.0[..16]);
        VmSpec {
            name: format!("assay-{}-{number}", self.profile().name),
            arch: match machine.arch {
                Architecture::X86_64 => Arch::X86_64,
                Architecture::Aarch64 => Arch::Aarch64,
            },
            firmware: match machine.firmware {
                Firmware::Bios => VmFirmware::Bios,
                Firmware::Uefi => VmFirmware::Uefi,
                Firmware::SecureBoot => VmFirmware::UefiSecure,
            },
            tpm: machine.tpm,
            cpus: machine.cpus,
            memory_mib: u32::try_from(machine.memory.mib()).unwrap_or(u32::MAX),
            clock: machine.clock.clone(),
            system_uuid: uuid::Builder::from_custom_bytes(uuid).into_uuid(),
            medium: if with_medium { self.medium.clone() } else { None },
            disks: self.disks.iter().map(|laid| disk(laid, self.recorded && with_medium)).collect(),
            nics: machine
                .all_nics(seed)
                .into_iter()
                .enumerate()
                .map(|(place, (mac, nic))| VmNic {
                    id: format!("nic{place}"),
                    mac,
                    model: nic.model,
                    network: match nic.network {
                        Connection::Isolated => {
                            VmNetwork::Isolated { gate: self.gate.clone(), told: told.clone() }
                        }
                        Connection::Open => VmNetwork::Open,
                        Connection::None => VmNetwork::Unplugged,
                    },
                    hold: nic.delay_ms.map(|ms| std::time::Duration::from_millis(ms.into())),
                })
                .collect(),
            watchdog: machine.watchdog,
        }
    }

    /// Starts the machine and has it watched from its first instruction on.
    async fn switch_on(&mut self, name: &str, with_medium: bool) -> Result<String, String> {
        if let Some(command) = self.wake(with_medium).await? {
            return Ok(command);
        }
        // What is wrong with a disk is wrong while it is installed onto.
        for laid in &mut self.disks {
            laid.served = None;
        }
        if with_medium {
            self.serve_faulty_disks().await?;
        }
        let mut spec = self.machine_spec(self.machines, with_medium);
        if self.is_taken_up && spec.clock.is_none() {
            // Its own time, and not ours.
            let now = self.settings.clock.now().rfc3339();
            spec.clock = now.get(..CLOCK.len()).map(str::to_owned);
        }
        let started = Vm::start(&spec, &self.machine_files(), &self.accel).await;
        let vm = started.map_err(|error| error.to_string())?;
        let command = vm.command().to_owned();
        let mut machine = self.watched(vm, name)?;
        machine.served = self
            .disks
            .iter()
            .filter_map(|laid| Some((laid.spec.name.clone(), Arc::clone(laid.served.as_ref()?))))
            .collect();
        machine.keeping = self.keeping()?;
        self.let_go_at = self.settings.clock.now();
        machine.vm.go().await.map_err(|error| error.to_string())?;
        self.machine = Some(machine);
        Ok(command)
    }

    fn watched(&self, vm: Vm, name: &str) -> Result<Machine, String> {
        Machine::new(vm, &self.spec.profile, name, &self.accel, self.stretch, &self.secrets)
    }

    /// Where the machine's own files are.
    fn machine_files(&self) -> VmFiles {
        VmFiles { folder: self.path(&format!("machine-{}", self.machines)) }
    }

    fn machine(&mut self) -> Result<&mut Machine, String> {
        self.machine.as_mut().ok_or_else(|| "no machine is switched on".to_owned())
    }

    /// What the machine tried on the network, for people.
    fn egress(&self, spec: &VmSpec) -> Vec<String> {
        let folder = self.machine_files().folder;
        let mut tried = Vec::new();
        for nic in &spec.nics {
            let packets = folder.join(format!("packets-{}.pcap", nic.id));
            let before = Some(snapshot::packets_before(&packets)).filter(|before| before.exists());
            for packets in before.iter().chain([&packets]) {
                match assay_qemu::egress(packets, nic.mac) {
                    Ok(attempts) => tried.extend(attempts.iter().map(told)),
                    Err(error) => tried.push(format!("{}: the packets could not be read: {error}", nic.id)),
                }
            }
        }
        tried
    }
}

fn told(attempt: &assay_qemu::Attempt) -> String {
    use assay_qemu::AttemptKind as K;
    let what = match &attempt.what {
        K::Dns { name, server } => format!("dns {} at {server}", assay_model::text::clean(name)),
        K::Tcp { to, port } => format!("tcp {to} port {port}"),
        K::Udp { to, port } => format!("udp {to} port {port}"),
    };
    let answered = if attempt.answered { "answered" } else { "no answer" };
    format!("{what}: {}, {answered}", assay_model::text::plural(attempt.packets as usize, "packet"))
}

fn disk(laid: &Laid, recorded: bool) -> VmDisk {
    let spec = &laid.spec;
    VmDisk {
        id: spec.name.clone(),
        image: match &laid.served {
            Some(served) => VmImage::Served(served.socket.clone()),
            None => VmImage::File(laid.image.clone()),
        },
        bus: match spec.bus {
            Bus::Virtio => VmBus::Virtio,
            Bus::Nvme => VmBus::Nvme,
            Bus::Sata => VmBus::Sata,
            Bus::Scsi => VmBus::Scsi,
            Bus::Usb => VmBus::Usb,
        },
        serial: spec.name.clone(),
        sector: spec.sector_size,
        rotates: spec.rotational,
        removable: spec.removable,
        read_only: spec.read_only,
        bytes_per_second: spec.speed.map(|speed| speed.0),
        write_log: (recorded && !spec.read_only).then(|| laid.write_log()),
    }
}

/// As what the profile has the medium connected.
const fn medium_kind(kind: MediumAs) -> MediumKind {
    match kind {
        MediumAs::Cd => MediumKind::Cd,
        MediumAs::Usb => MediumKind::Usb,
    }
}

/// Evidence and files of a stage.
fn brought(evidence: &impl Serialize, artifacts: Vec<(String, Vec<u8>)>) -> Result<Brought, String> {
    let evidence =
        serde_json::to_value(evidence).map_err(|e| format!("the evidence does not serialise: {e}"))?;
    Ok(Brought { evidence, artifacts })
}

/// Runs what blocks on files beside the rest.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("reading an image broke off: {error}"))
}

/// So many seconds between two moments.
fn seconds(from: Micros, to: Micros) -> f64 {
    to.since(from).as_seconds()
}
