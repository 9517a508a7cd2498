//! A run that begins at a phase of an earlier one: what is kept there, under which key, and how it is taken up.
//!
//! Where the machine runs at the phase, its memory is kept with its disks, and it is woken in a fraction of a second.
//! QEMU moves no machine with an NVMe disk or a TPM: of those the disks are kept when the installation has ended, and the
//! machine boots from them. The evidence of the stages before is kept as well, and judged again: no stage passes without.
//!
//! The key is made of everything that what is kept depends on: the image, the profile without what only comes later, the
//! files that it names, the seed, the versions of Assay and QEMU. Anything else makes a snapshot of its own.
//!
//! For the machine no time has gone by meanwhile: the run's clock goes on from the moment in which it was kept.

mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use assay_media::prove::Fingerprint;
use assay_model::text::did_you_mean;
use assay_model::{Clock, Micros, RunId, Sha256};
use assay_qemu::{Accel, Vm, VmMedium};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::store::Store;
use super::digests::content_of;
use super::disks::Laid;
use super::install::Progress;
use super::machine::{Asleep, CONTROL_PLANE, Keeping, MEMORY, SEEN};
use super::{Brought, Test, blocking, medium_kind};
use crate::image::evidence::{Prepared, TakenUp};
use crate::image::profile::{MediumAs, Profile, Within};

/// What a snapshot looks like; another number is another key.
const VERSION: u32 = 1;
/// The folder of a run in which the rest of a snapshot is.
const KEPT: &str = "kept";
/// The operator's stick, in the folder of a run.
pub(super) const STICK: &str = "stick.img";
/// Packets of a machine from before it was kept.
const BEFORE: &str = "before-";

/// A snapshot that this run is to make.
#[derive(Clone, Debug)]
pub(super) struct Ordered {
    store: Store,
    key: Sha256,
    phase: String,
    /// Whether the machine's memory is kept, too; else its disks, once the installation has ended.
    running: bool,
}

/// A run at the moment in which its machine was kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    run: RunId,
    /// What the run's tokens are drawn from, and its beginning.
    drawn_from: (RunId, Micros),
    began: Micros,
    /// The run's own time.
    at: Micros,
    let_go_at: Micros,
    success_at: Option<f64>,
    /// The machine, where its memory was kept.
    asleep: Option<Asleep>,
    /// The stages that were over, with their evidence and the names of their files.
    past: Vec<(String, Value, Vec<String>)>,
}

/// Time that goes on where it was left.
struct Shifted {
    clock: Arc<dyn Clock>,
    by: Micros,
}

impl Clock for Shifted {
    fn now(&self) -> Micros {
        self.clock.now().since(self.by)
    }
}

impl Test {
    /// Takes the run up where a snapshot was made; where there is none, makes ready to make it. None when the run is to be
    /// done from its beginning.
    pub(super) async fn take_up(
        &mut self,
        image: Sha256,
        progress: Progress<'_>,
    ) -> Result<Option<Brought>, String> {
        let Some(phase) = self.spec.from_phase.clone() else { return Ok(None) };
        let store = Store::open(&self.settings.cache)?;
        let key = self.snapshot_key(image, &phase).await?;
        let laid = {
            let (store, into) = (store.clone(), self.folder.path().to_owned());
            blocking(move || store.lay::<State>(key, &into)).await?
        };
        let ordered = Ordered { store, key, phase, running: false };
        let phase = &ordered.phase;
        match laid {
            Ok(Some(state)) => return self.go_on_from(state, ordered, progress).await.map(Some),
            Ok(None) => progress(&format!("there is no snapshot of phase {phase} yet; this run makes one")),
            Err(problem) => {
                // What was laid before the damage was found must not be taken for this run's own.
                self.clear_folder()?;
                progress(&format!(
                    "the snapshot of phase {phase} cannot be used ({problem}); this run makes a new one"
                ));
            }
        }
        self.ordered = Some(ordered);
        Ok(None)
    }

    /// Once the machine is known: says how it will be kept.
    pub(super) fn order_snapshot(&mut self, progress: Progress<'_>) {
        let can_sleep = self.machine_spec(0, true).can_sleep();
        let Some(ordered) = &mut self.ordered else { return };
        ordered.running = can_sleep;
        let phase = self.spec.profile.phases.iter().find(|phase| phase.name == ordered.phase);
        let late = phase.is_some_and(|phase| phase.stage == Within::Reboot);
        if can_sleep {
            return;
        }
        let why = "QEMU cannot keep a running machine with an NVMe disk or a TPM";
        if late {
            progress(&format!("{why}: its disks are kept when the installation has ended"));
        } else {
            progress(&format!("{why}: no snapshot is made of phase {}", ordered.phase));
            self.ordered = None;
        }
    }

    /// What is to be kept of the machine that was just started.
    pub(super) fn keeping(&self) -> Result<Option<Keeping>, String> {
        let Some(ordered) = self.ordered.as_ref().filter(|ordered| ordered.running && self.machines == 0)
        else {
            return Ok(None);
        };
        self.to_keep(ordered).map(Some)
    }

    /// Keeps the disks of a machine that is off after its installation, where that is what was ordered.
    pub(super) async fn keep_disks(&mut self) -> Result<(), String> {
        let Some(ordered) = self.ordered.clone().filter(|ordered| !ordered.running && self.machines == 0)
        else {
            return Ok(());
        };
        let keeping = self.to_keep(&ordered)?;
        keeping.copy().await?;
        self.slept = Some(self.state(None));
        Ok(())
    }

    /// What was seen of the machine at the phase, where that was what was ordered.
    pub(super) fn slept(&mut self, progress: Progress<'_>) {
        match self.machine.as_mut().and_then(|machine| machine.kept.take()) {
            None => {}
            Some(Ok(asleep)) => self.slept = Some(self.state(Some(asleep))),
            Some(Err(problem)) => {
                self.ordered = None;
                progress(&format!("no snapshot was made: {problem}"));
            }
        }
    }

    /// Remembers a stage for the snapshot, and writes that where it is whole. A snapshot that cannot be written costs the
    /// next run time, and this one nothing.
    pub(super) async fn write_snapshot(&mut self, stage: &str, brought: &Brought, progress: Progress<'_>) {
        if self.ordered.is_none() {
            return;
        }
        let slept = self.slept.take();
        let running = slept.as_ref().is_some_and(|state| state.asleep.is_some());
        // A stage in which the machine was kept while it ran is not over in it.
        if !running {
            self.brought.push((stage.to_owned(), brought.clone()));
        }
        let Some(as_kept) = slept else { return };
        let Some(ordered) = self.ordered.take() else { return };
        let past = std::mem::take(&mut self.brought);
        let folder = self.path(KEPT);
        let written = blocking(move || write(&ordered, as_kept, past, &folder)).await.flatten();
        progress(&match written {
            Ok(bytes) => format!(
                "a snapshot was kept ({}); the next run goes on from there",
                assay_model::check::bytes(bytes)
            ),
            Err(problem) => format!("no snapshot was made: {problem}"),
        });
    }

    /// Wakes the machine that a snapshot holds, in place of switching one on.
    pub(super) async fn wake(&mut self, with_medium: bool) -> Result<Option<String>, String> {
        let Some((asleep, snapshot)) = self.asleep.take() else { return Ok(None) };
        let spec = self.machine_spec(self.machines, with_medium);
        let files = self.machine_files();
        let memory = self.path(KEPT).join(MEMORY);
        let woken = Vm::wake(&spec, &files, &self.accel, &memory, asleep.age()).await;
        let (vm, _) = match woken {
            Ok(woken) => woken,
            Err(problem) => {
                // The next try does it from the beginning.
                snapshot.store.forget(snapshot.key)?;
                return Err(format!("the machine of the snapshot cannot be woken: {problem}"));
            }
        };
        let command = vm.command().to_owned();
        let mut machine = self.watched(vm, "")?;
        machine.was(&asleep, &self.path(KEPT))?;
        self.machine = Some(machine);
        Ok(Some(command))
    }

    /// Sets everything as it was, and brings what `Prepare` had brought.
    async fn go_on_from(
        &mut self,
        state: State,
        snapshot: Ordered,
        progress: Progress<'_>,
    ) -> Result<Brought, String> {
        let clock = Arc::clone(&self.settings.clock);
        let by = clock.now().since(state.at);
        let taken_at = state.at.rfc3339();
        self.settings.clock = Arc::new(Shifted { clock, by });
        self.drawn_from = state.drawn_from;
        (self.began, self.let_go_at, self.success_at) = (state.began, state.let_go_at, state.success_at);
        let kept = self.path(KEPT);
        if let Some(join) = self.profile().join.clone() {
            self.stand_in(&join, Some(kept.join(CONTROL_PLANE))).await?;
        }
        for (path, content, secret) in self.staged_files()? {
            if secret {
                self.secrets.add(&path, &content);
            }
        }
        let (kind, image, serial) = match self.profile().medium.kind {
            MediumAs::Cd => (MediumAs::Cd, self.spec.image.clone(), ""),
            MediumAs::Usb => (MediumAs::Usb, self.path(STICK), "INSTALLER"),
        };
        self.medium = Some(VmMedium { image, kind: medium_kind(kind), serial: serial.to_owned() });
        self.disks = self.laid_before()?;
        let phase = self.profile().phases.iter().find(|known| known.name == snapshot.phase);
        let within = match phase.map(|phase| phase.stage) {
            Some(Within::Boot) => "Boot",
            Some(Within::Install) | None => "Install",
            Some(Within::Reboot) => "Reboot",
        };
        let stages: Vec<String> = state.past.iter().map(|(stage, ..)| stage.clone()).collect();
        for (stage, evidence, names) in state.past {
            let mut artifacts = Vec::new();
            for name in names {
                let path = kept.join(&stage).join(&name);
                let content = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                artifacts.push((name, content));
            }
            self.past.insert(stage, Brought { evidence, artifacts });
        }
        let from = TakenUp {
            phase: snapshot.phase.clone(),
            run: state.run.to_string(),
            at: taken_at,
            running: state.asleep.is_some(),
            stages,
            rest_of: state.asleep.is_some().then(|| within.to_owned()),
        };
        progress(&from.words());
        self.asleep = state.asleep.map(|asleep| (asleep, snapshot));
        self.is_taken_up = true;
        let mut brought = self.past.remove("Prepare").ok_or("the snapshot has no medium")?;
        let mut prepared: Prepared = serde_json::from_value(brought.evidence)
            .map_err(|error| format!("the snapshot does not read: {error}"))?;
        prepared.taken_up = Some(from);
        brought.evidence = serde_json::to_value(&prepared).map_err(|error| error.to_string())?;
        Ok(brought)
    }

    /// The disks of the snapshot, beside what they were when they were new.
    fn laid_before(&self) -> Result<Vec<Laid>, String> {
        let folder = self.path("disks-0");
        let mut laid = Vec::new();
        for spec in self.profile().machine.all_disks() {
            let told = |error: &dyn std::fmt::Display| format!("disk {}: {error}", spec.name);
            let image = folder.join(format!("disk-{}.raw", spec.name));
            let pristine =
                Some(folder.join(format!("disk-{}.before", spec.name))).filter(|path| path.exists());
            let before = if let Some(pristine) = &pristine {
                Fingerprint::quick(pristine).map_err(|error| told(&error))?
            } else {
                let blank = tempfile::NamedTempFile::new_in(&folder).map_err(|error| told(&error))?;
                blank.as_file().set_len(spec.size.0).map_err(|error| told(&error))?;
                Fingerprint::quick(blank.path()).map_err(|error| told(&error))?
            };
            laid.push(Laid { spec, image, before, pristine, served: None });
        }
        Ok(laid)
    }

    fn to_keep(&self, ordered: &Ordered) -> Result<Keeping, String> {
        let mut files = Vec::new();
        for laid in &self.disks {
            files.extend([Some(laid.image.clone()), laid.pristine.clone()].into_iter().flatten());
        }
        if self.profile().medium.kind == MediumAs::Usb {
            files.push(self.path(STICK));
        }
        let mut files: Vec<(PathBuf, String)> =
            files.into_iter().filter_map(|path| Some((path.clone(), self.name_in_run(&path)?))).collect();
        let mut open = vec![self.machine_files().folder];
        while let Some(folder) = open.pop() {
            let told = |error: std::io::Error| format!("{}: {error}", folder.display());
            for entry in std::fs::read_dir(&folder).map_err(told)? {
                let entry = entry.map_err(told)?;
                let (path, kind) = (entry.path(), entry.file_type().map_err(told)?);
                let name = entry.file_name().to_string_lossy().into_owned();
                if kind.is_dir() {
                    open.push(path);
                } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "pcap") {
                    // The machine's own are begun anew when it is woken. Of one that is off they are evidence already.
                    let before = path.with_file_name(format!("{BEFORE}{name}"));
                    files.extend(self.name_in_run(&before).filter(|_| ordered.running).map(|to| (path, to)));
                } else if kind.is_file() {
                    files.extend(self.name_in_run(&path).map(|to| (path, to)));
                }
            }
        }
        Ok(Keeping {
            phase: ordered.phase.clone(),
            folder: self.path(KEPT),
            files,
            standin: self.standin.clone(),
        })
    }

    /// What a file of the run is called from its folder: in a snapshot, and in the run that is taken up from it.
    fn name_in_run(&self, path: &Path) -> Option<String> {
        Some(path.strip_prefix(self.folder.path()).ok()?.to_string_lossy().into_owned())
    }

    fn state(&self, asleep: Option<Asleep>) -> State {
        State {
            run: self.run,
            drawn_from: self.drawn_from,
            began: self.began,
            at: self.settings.clock.now(),
            let_go_at: self.let_go_at,
            success_at: self.success_at,
            asleep,
            past: Vec::new(),
        }
    }

    async fn snapshot_key(&self, image: Sha256, phase: &str) -> Result<Sha256, String> {
        let mut files = BTreeMap::new();
        let later = |place: &str| place.starts_with("reconcile.") || place == "join.schema";
        for (place, name) in self.profile().named_files().into_iter().filter(|(place, _)| !later(place)) {
            let path = self.spec.folder.join(name);
            let content = content_of(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            files.insert(place, content);
        }
        let arch = self.machine_spec(0, true).arch;
        let accel = if matches!(self.accel, Accel::Kvm) { "kvm" } else { "tcg" };
        let all = json!({
            "version": VERSION,
            "assay": env!("CARGO_PKG_VERSION"),
            "qemu": Vm::version(arch).await.map_err(|error| error.to_string())?,
            "accel": accel,
            "image": image,
            "phase": phase,
            "profile": up_to(self.profile(), phase)?,
            "files": files,
            "seed": self.spec.seed,
        });
        Ok(Sha256::of(all.to_string().as_bytes()))
    }

    fn clear_folder(&self) -> Result<(), String> {
        let folder = self.folder.path();
        let told = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::remove_dir_all(folder).map_err(told)?;
        std::fs::create_dir(folder).map_err(told)
    }
}

/// The packets of a network card from before its machine was kept, beside those since.
pub(super) fn packets_before(packets: &Path) -> PathBuf {
    let name = packets.file_name().unwrap_or_default().to_string_lossy().into_owned();
    packets.with_file_name(format!("{BEFORE}{name}"))
}

/// Puts what a snapshot holds into its store; says how many bytes it takes.
fn write(
    ordered: &Ordered,
    mut state: State,
    past: Vec<(String, Brought)>,
    folder: &Path,
) -> Result<u64, String> {
    // As the run that takes it up will find it: its folder is the run's.
    let run = folder.parent().ok_or("a run has a folder")?;
    let whole = run.join("snapshot");
    let told = |error: std::io::Error| format!("{}: {error}", whole.display());
    std::fs::create_dir_all(&whole).map_err(told)?;
    for entry in std::fs::read_dir(folder).map_err(told)? {
        let entry = entry.map_err(told)?;
        let name = entry.file_name();
        let own = [MEMORY, CONTROL_PLANE, SEEN].iter().any(|known| name == *known);
        let to = if own { whole.join(KEPT).join(&name) } else { whole.join(&name) };
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(told)?;
        }
        std::fs::rename(entry.path(), to).map_err(told)?;
    }
    for (stage, brought) in past {
        let place = whole.join(KEPT).join(&stage);
        std::fs::create_dir_all(&place).map_err(told)?;
        let mut names = Vec::new();
        for (name, content) in brought.artifacts {
            std::fs::write(place.join(&name), content).map_err(told)?;
            names.push(name);
        }
        state.past.push((stage, brought.evidence, names));
    }
    let written = ordered.store.put(ordered.key, &whole, &state);
    let _ = std::fs::remove_dir_all(&whole);
    written
}

/// The profile without what only comes after a phase.
fn up_to(profile: &Profile, phase: &str) -> Result<Value, String> {
    let mut profile = profile.clone();
    let Some(place) = profile.phases.iter().position(|known| known.name == phase) else {
        let known: Vec<&str> = profile.phases.iter().map(|phase| phase.name.as_str()).collect();
        return Err(format!("the profile has no phase `{phase}`{}", did_you_mean(phase, &known)));
    };
    profile.phases.truncate(place + 1);
    (profile.reconcile, profile.until) = (None, None);
    profile.description.clear();
    let mut value = serde_json::to_value(&profile).map_err(|error| error.to_string())?;
    let mut without = |place: &str, keys: &[&str]| {
        if let Some(table) = value.pointer_mut(place).and_then(Value::as_object_mut) {
            table.retain(|key, _| !keys.contains(&key.as_str()));
        }
    };
    without("", &["matrix", "quarantine"]);
    without("/identify", &["hostname", "machines", "stable-on-repair"]);
    // What the control plane is depends on the rest.
    without("/join", &["fields", "times", "macs", "schema", "joins", "within", "expect", "path"]);
    Ok(value)
}
