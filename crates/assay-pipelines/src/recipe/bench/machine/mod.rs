//! Testing a stranger's recipe: in a virtual machine that is thrown away.
//!
//! A daemon of a run's own has namespaces, and it is root on the runner's kernel: good against mistakes, and not against somebody who
//! looks for a way out. So what strangers send is tested by a bench inside of a machine. The runner stays the run's agent: it asks the
//! machine for the evidence of one stage after the other over one channel, and passes it on under its own name. The machine has no
//! network card, no credential of the control plane's, no registry's, and no folder of the runner's. It gets copies of the recipe, the
//! program, and images that it asks for by name ([`images`]).
//!
//! Whatever is wrong with the machine (it does not boot, dies, says nothing any more, is full) is the runner's trouble, told with the
//! last lines of its console: an `error`, never a verdict about the recipe.

mod images;
mod inputs;
mod inside;
mod patience;
mod session;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use assay_model::{RunId, StageName};
use assay_process::find_program;
use assay_qemu::{AccelProbe, Guest, GuestFolder};
use serde::Deserialize;
use tokio::sync::Mutex;

use self::images::Shelf;
use self::session::Session;
use super::{Brought, Bundles, RecipeBenchSettings, RecipeSpec, STAGES, given_up};

pub use self::inside::serve as serve_inside;
pub(super) use self::patience::Patience;
pub use self::wire::WantedImage;

/// How a run's folder begins.
const RUN: &str = "run-";

/// The machines that a runner tests strangers' recipes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSettings {
    /// The folder with the guest image: `vmlinuz`, `base.initrd`, `manifest.json`.
    pub image: PathBuf,
    /// Where each has a folder of its own while it runs. A short path: a socket lies below it.
    pub folder: PathBuf,
    /// The program that works in there: this one. It runs on the image's system, so it must not ask for a newer C library than that has.
    pub program: PathBuf,
    /// Where the answer is kept whether guests run on the processor.
    pub accel: PathBuf,
    /// Processors.
    pub cpus: u16,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The disk for images, volumes and everything else, in MiB. It takes that much room on this machine only where it is written.
    pub disk_mib: u64,
    /// How long it may take to boot.
    pub boot: Duration,
}

/// Processors of a machine where nothing else is said.
pub const CPUS: u16 = 2;
/// Its memory in MiB; the control plane counts with as much.
pub const MEMORY_MIB: u32 = 3072;
/// Its disk in MiB.
pub const DISK_MIB: u64 = 16 << 10;
/// How long it may take to boot: half a minute in software emulation; the rest is for a busy machine.
pub const BOOT: Duration = Duration::from_mins(10);

#[derive(Deserialize)]
struct Manifest {
    digest: String,
    files: Vec<ManifestFile>,
}

#[derive(Deserialize)]
struct ManifestFile {
    name: String,
    bytes: u64,
}

impl MachineSettings {
    /// Whether such a machine could be started here: root, QEMU, a sandbox for it, the image. Cheap, and changes nothing. Says which
    /// image it is, by the first digits of its digest.
    ///
    /// # Errors
    /// The first thing that is missing, and what to do about it.
    pub fn check(&self) -> Result<String, String> {
        for program in ["qemu-system-x86_64", "bwrap", "unshare", "flock"] {
            find_program(program).map_err(|error| error.to_string())?;
        }
        if !rustix::process::geteuid().is_root() {
            return Err(
                "machines for strangers' recipes are started in namespaces of their own, which takes root"
                    .to_owned(),
            );
        }
        let failed = |why: String| {
            format!(
                "the guest image in {}: {why}; build it with `cargo xtask guest-image`, or name its folder with --guest-image",
                self.image.display()
            )
        };
        let text =
            std::fs::read(self.image.join("manifest.json")).map_err(|error| failed(error.to_string()))?;
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        for name in ["vmlinuz", "base.initrd"] {
            let listed = manifest.files.iter().find(|file| file.name == name);
            let length = std::fs::metadata(self.image.join(name)).map(|found| found.len());
            match (listed, length) {
                (Some(listed), Ok(length)) if listed.bytes == length => {}
                (_, Err(error)) => return Err(failed(format!("{name}: {error}"))),
                _ => return Err(failed(format!("{name} is not the file that its manifest names"))),
            }
        }
        Ok(manifest.digest.chars().take(12).collect())
    }
}

/// Serves one run, in a machine of its own.
pub struct MachineBench {
    settings: MachineSettings,
    /// Where images come from.
    beside: RecipeBenchSettings,
    /// Where recipes come from that come as bundles.
    bundles: Option<Arc<dyn Bundles>>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    session: Option<(RunId, Session)>,
    /// The stage in which the runner failed last, by its place, and why.
    failed: Option<(usize, String)>,
    /// What a machine had too little of, for the run and in the stage that it was used up in.
    exhausted: Option<(RunId, usize, String)>,
}

impl MachineBench {
    /// A bench whose machine is not started yet; images and bundles come from where those of other runs do.
    pub fn new(
        settings: MachineSettings,
        beside: RecipeBenchSettings,
        bundles: Option<Arc<dyn Bundles>>,
    ) -> Self {
        Self { settings, beside, bundles, held: Mutex::default() }
    }

    /// Collects a stage's evidence. The first stage starts the machine.
    ///
    /// # Errors
    /// Why the work could not be done at all, for people: a fault of the runner or of the machine. The next try begins anew.
    pub async fn collect(
        &self,
        run: RunId,
        stage: &StageName,
        spec: &RecipeSpec,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Brought, String> {
        let mut held = self.held.lock().await;
        let names = STAGES.iter().map(|stage| stage.plan().name);
        let Some(place) = names.clone().position(|name| name == *stage) else {
            return Err(format!("this runner knows no stage {stage}"));
        };
        if let Some((at, why)) = held.failed.as_ref().filter(|(at, _)| *at < place) {
            let failed = names.clone().nth(*at).map(|name| name.0).unwrap_or_default();
            return Ok(given_up(&failed, why, stage.as_str()));
        }
        if let Some((of, at, why)) = &held.exhausted
            && (*of, *at) == (run, place)
        {
            return Err(format!("not tried again, since another machine has as little: {why}"));
        }
        // Taken out while it works: work that is broken off takes the machine with it.
        let there = held.session.take().filter(|(of, _)| *of == run);
        let begun = match there {
            Some((_, session)) => Ok(session),
            None => self.begin(run, spec, progress).await,
        };
        let mut session = match begun {
            Ok(session) => session,
            Err(why) => {
                held.failed = Some((place, why.clone()));
                return Err(why);
            }
        };
        let collected = session.collect(run, stage, progress).await;
        match collected {
            Ok(brought) => {
                *held = Held { session: Some((run, session)), ..Held::default() };
                Ok(brought)
            }
            Err(broken) => {
                held.failed = Some((place, broken.why.clone()));
                held.exhausted = broken.exhausted.then(|| (run, place, broken.why.clone()));
                if broken.is_gone {
                    session.end().await;
                } else {
                    held.session = Some((run, session));
                }
                Err(broken.why)
            }
        }
    }

    /// Throws the machine away.
    pub async fn clear(&self) {
        let held = std::mem::take(&mut *self.held.lock().await);
        if let Some((_, session)) = held.session {
            session.end().await;
        }
    }

    async fn begin(
        &self,
        run: RunId,
        spec: &RecipeSpec,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Session, String> {
        self.settings.check()?;
        let failed = |error| format!("{}: {error}", self.settings.folder.display());
        std::fs::create_dir_all(&self.settings.folder).map_err(failed)?;
        let folder =
            tempfile::Builder::new().prefix(RUN).tempdir_in(&self.settings.folder).map_err(failed)?;
        // QEMU may still be ending in it when this is over: whoever sweeps sees that nobody owns it.
        let path = folder.keep();
        let owned = GuestFolder::take(&path).map_err(|error| error.to_string());
        let booted = match owned {
            Ok(owned) => self.boot(owned, run, spec, progress).await,
            Err(why) => Err(why),
        };
        if booted.is_err() {
            sweep_one(&path);
        }
        booted
    }

    async fn boot(
        &self,
        folder: GuestFolder,
        run: RunId,
        spec: &RecipeSpec,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Session, String> {
        let accel = AccelProbe::new(self.settings.accel.clone()).accel().await;
        let accel = accel.map_err(|error| error.to_string())?;
        let bundle = match (&spec.source, &self.bundles) {
            (None, _) => None,
            (Some(source), Some(bundles)) => {
                progress("bringing the recipe");
                let bundle = folder.path().join(inputs::BUNDLE);
                bundles.fetch(source, &bundle).await?;
                Some(bundle)
            }
            (Some(_), None) => {
                return Err("the recipe comes as a bundle, and nobody here brings bundles".to_owned());
            }
        };
        let images = Shelf::new(spec, &self.beside, folder.path(), self.settings.disk_mib << 20)?;
        Session::boot(&self.settings, &accel, run, (spec, bundle), folder, images, progress).await
    }
}

/// Takes away what machines left in their folder whose runner was killed: each folder that went, or why it did not.
pub fn sweep(folder: &Path) -> Vec<Result<PathBuf, String>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let runs = entries.filter_map(Result::ok);
    let runs = runs.filter(|run| run.file_name().to_string_lossy().starts_with(RUN));
    runs.filter_map(|run| match Guest::sweep(&run.path()) {
        Ok(true) => Some(Ok(run.path())),
        Ok(false) => None,
        Err(error) => Some(Err(error.to_string())),
    })
    .collect()
}

fn sweep_one(folder: &Path) {
    if let Err(error) = Guest::sweep(folder) {
        tracing::warn!(%error, "a machine's folder was not removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_not_there_or_not_whole_is_told() {
        if !rustix::process::geteuid().is_root() {
            // What is said then is another thing.
            return;
        }
        let image = tempfile::tempdir().unwrap();
        let settings = MachineSettings {
            image: image.path().to_owned(),
            folder: "/nowhere".into(),
            program: "/nowhere".into(),
            accel: "/nowhere".into(),
            cpus: CPUS,
            memory_mib: MEMORY_MIB,
            disk_mib: DISK_MIB,
            boot: BOOT,
        };
        let why = settings.check().unwrap_err();
        assert!(why.contains("cargo xtask guest-image"), "{why}");
        let manifest = r#"{"digest": "0123456789abcdef", "files": [{"name": "vmlinuz", "bytes": 3}, {"name": "base.initrd", "bytes": 4}]}"#;
        for (name, content) in [("manifest.json", manifest), ("vmlinuz", "abc"), ("base.initrd", "abcde")] {
            std::fs::write(image.path().join(name), content).unwrap();
        }
        let why = settings.check().unwrap_err();
        assert!(why.contains("base.initrd is not the file that its manifest names"), "{why}");
        std::fs::write(image.path().join("base.initrd"), "abcd").unwrap();
        assert_eq!(settings.check(), Ok("0123456789ab".to_owned()));
    }
}
