//! One boot a state: a machine with these disks and without the medium, watched like any installed system.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_media::{Disk, Tree};
use assay_model::Sha256;
use assay_model::power_cuts::Became;
use assay_qemu::{Vm, VmFiles, VmImage};

use super::super::disks::look;
use super::super::machine::{Goal, Machine};
use super::super::{Test, blocking};
use super::recording::Recorded;
use crate::image::cuts::{Files, Found, bios_starts, judged};
use crate::image::evidence::DiskAfter;
use crate::image::power;
use crate::image::profile::{Firmware, MachineSpec, Span, Within};

/// How long a machine is watched whose firmware finds no code: it says so, or hangs, at once.
const NOTHING: Span = Span::seconds(20);
/// The largest file whose content is compared.
const MAX_FILE: u64 = 256 << 20;

/// A state to be booted.
pub(super) struct Job {
    pub(super) state: usize,
    pub(super) images: Vec<PathBuf>,
    pub(super) after_success: bool,
}

/// What became of it.
pub(super) struct Booted {
    pub(super) became: Became,
    pub(super) code: String,
    pub(super) why: String,
    pub(super) seconds: f64,
    pub(super) transcript: Option<(String, Vec<u8>)>,
}

/// What all boots share.
pub(super) struct Boots<'a> {
    test: &'a Test,
    recorded: &'a Recorded,
    whole: Files,
}

impl<'a> Boots<'a> {
    pub(super) fn new(test: &'a Test, recorded: &'a Recorded, whole: Files) -> Result<Self, String> {
        let names = recorded.logs.iter().map(|log| &log.disk);
        if names.clone().count() == 0 {
            return Err("the machine has no disk that can be written to".to_owned());
        }
        Ok(Self { test, recorded, whole })
    }

    /// Where a state's disks are.
    pub(super) fn folder(&self, state: usize) -> PathBuf {
        self.test.path(&format!("state-{state}"))
    }

    /// Boots it, and removes it.
    pub(super) async fn boot(&self, job: Job) -> Result<Booted, String> {
        let folder = self.folder(job.state);
        let booted = self.booted(&job, &folder).await;
        // A gigabyte that is not needed any more; what stays is removed with the whole folder.
        let _ = std::fs::remove_dir_all(&folder);
        booted
    }

    async fn booted(&self, job: &Job, folder: &Path) -> Result<Booted, String> {
        let profile = &self.test.spec.profile;
        let startable = nothing_to_start(&profile.machine, &job.images).is_none();
        let before = self.read(job).await?;
        let mut watched_for = profile.clone();
        if !startable {
            watched_for.reboot.timeout = NOTHING;
            watched_for.console.silence = NOTHING;
            watched_for.phases.retain(|phase| phase.stage != Within::Reboot);
        }
        let mut spec = self.test.machine_spec(0, false);
        for (log, image) in self.recorded.logs.iter().zip(&job.images) {
            if let Some(disk) = spec.disks.iter_mut().find(|disk| disk.id == log.disk) {
                disk.image = VmImage::File(image.clone());
            }
        }
        let files = VmFiles { folder: folder.join("machine") };
        let vars = self.test.path("machine-0").join("vars.fd");
        if vars.exists() {
            std::fs::create_dir_all(&files.folder)
                .and_then(|()| std::fs::copy(&vars, files.folder.join("vars.fd")))
                .map_err(|error| format!("{}: {error}", vars.display()))?;
        }
        let vm = Vm::start(&spec, &files, &self.test.accel).await.map_err(|error| error.to_string())?;
        let name = format!("cut-{:04}", job.state);
        let mut machine =
            Machine::new(vm, &watched_for, &name, &self.test.accel, self.test.stretch, &self.test.secrets)?;
        machine.after_cut = true;
        machine.vm.go().await.map_err(|error| error.to_string())?;
        let reboot = &watched_for.reboot;
        let goal = Goal {
            within: Within::Reboot,
            rung: Some((reboot.rung, reboot.timeout.0)),
            or_begun: &[],
            cut: None,
            progress: &|_| (),
        };
        let watched = machine.watch(goal).await;
        if watched.outcome == crate::image::evidence::Outcome::Reached {
            // What it says with its last line may still be on its way.
            machine.wait_for_off(Duration::from_millis(200)).await?;
        }
        machine.vm.cut_power().await.map_err(|error| error.to_string())?;
        let (disks, files) = before;
        let found = Found {
            startable,
            missing: power::missing(profile, &disks),
            files: &files,
            complete: &self.whole,
            after_success: job.after_success,
        };
        let (became, code, why) = judged(profile, &found, &watched);
        let keep = became.is_red() || became == Became::Unseen;
        let transcript = machine
            .transcripts()
            .into_iter()
            .find(|(name, _)| name.ends_with("-serial.txt"))
            .filter(|_| keep);
        Ok(Booted { became, code, why, seconds: watched.seconds, transcript })
    }

    /// What is on the disks before they are booted: what the profile asks for, and all files.
    async fn read(&self, job: &Job) -> Result<(Vec<DiskAfter>, Files), String> {
        let profile = &self.test.spec.profile;
        let contents =
            profile.identify.as_ref().map(|identify| identify.contents.clone()).unwrap_or_default();
        let names: Vec<String> = self.recorded.logs.iter().map(|log| log.disk.clone()).collect();
        let laid: Vec<_> = self
            .test
            .disks
            .iter()
            .filter(|laid| names.contains(&laid.spec.name))
            .map(|laid| (laid.spec.clone(), laid.before.clone(), laid.pristine.clone()))
            .collect();
        let firmware = profile.machine.firmware;
        let (images, changes) = (job.images.clone(), profile.power_cut.changes.clone());
        blocking(move || {
            let mut disks = Vec::new();
            for ((spec, before, pristine), image) in laid.iter().zip(&images) {
                let wanted: Vec<_> = contents.iter().filter(|c| c.disk == spec.expect).cloned().collect();
                disks.push(look(&spec.name, image, before, pristine.as_deref(), &wanted, firmware, 0)?);
            }
            Ok((disks, files(&names, &images, &changes)))
        })
        .await?
    }
}

/// The first sectors of disks from which a BIOS would start nothing.
/// Firmware with UEFI reads file systems, and everything there counts.
pub(super) fn nothing_to_start(machine: &MachineSpec, images: &[PathBuf]) -> Option<Vec<u8>> {
    if machine.firmware != Firmware::Bios {
        return None;
    }
    let mut sectors = Vec::new();
    for image in images {
        let mut sector = [0; 512];
        let file = std::fs::File::open(image).ok()?;
        file.read_exact_at(&mut sector, 0).ok()?;
        sectors.push(sector);
    }
    (!bios_starts(&sectors)).then(|| sectors.concat())
}

/// All files of all volumes that can be read, by disk, volume and path, with their digests; without those that the
/// profile says may differ.
pub(super) fn files(disks: &[String], images: &[PathBuf], may_differ: &[String]) -> Files {
    let free: Vec<_> = may_differ.iter().filter_map(|one| regex::Regex::new(one).ok()).collect();
    let mut all = BTreeMap::new();
    for (name, image) in disks.iter().zip(images) {
        let Ok(disk) = Disk::open(image) else { continue };
        for partition in disk.partitions() {
            let Ok(tree) = disk.tree(partition) else { continue };
            let number = partition.entry.number;
            add(&mut all, &format!("{name} partition {number}"), &tree, &free);
        }
        if disk.partitions().is_empty()
            && let Ok(tree) = disk.whole_tree()
        {
            add(&mut all, name, &tree, &free);
        }
    }
    all
}

fn add(all: &mut Files, volume: &str, tree: &Tree, free: &[regex::Regex]) {
    let Ok(nodes) = tree.walk() else { return };
    for node in nodes.into_iter().filter(assay_media::Node::is_file) {
        if free.iter().any(|free| free.is_match(&node.path)) {
            continue;
        }
        // What cannot be read is told apart from everything that can.
        let content = tree
            .read(&node.path, MAX_FILE)
            .map_or_else(|error| format!("cannot be read: {error}"), |bytes| Sha256::of(&bytes).to_string());
        all.insert(format!("{volume}: {}", node.path), content);
    }
}
