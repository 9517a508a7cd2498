//! A machine that is kept as it is at the end of a phase, and woken again in another run.
//!
//! While it is frozen, its memory, its disks and what else it would find again are copied into a folder; then it goes
//! on. What was seen of it so far is kept with it, and so is what it had said and nobody had heard.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use assay_qemu::{QemuError, QmpEvent, VmEvent};
use assay_standin::StandIn;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::Machine;
use super::channels::Over;
use crate::image::bench::disks::sparse_copy;
use crate::image::evidence::Watched;

/// The machine's memory, in the folder.
pub(in crate::image::bench) const MEMORY: &str = "memory";
/// The stand-in control plane.
pub(in crate::image::bench) const CONTROL_PLANE: &str = "control-plane";
/// What was seen of the machine: pictures, and the serial port's bytes.
pub(in crate::image::bench) const SEEN: &str = "seen";

/// What is to be kept, and when.
#[derive(Clone, Debug)]
pub(in crate::image::bench) struct Keeping {
    /// At the end of this phase.
    pub(in crate::image::bench) phase: String,
    /// Where; it is made.
    pub(in crate::image::bench) folder: PathBuf,
    /// Files of the machine and what they are called there.
    pub(in crate::image::bench) files: Vec<(PathBuf, String)>,
    /// What else the machine would find again.
    pub(in crate::image::bench) standin: Option<Arc<StandIn>>,
}

impl Keeping {
    /// Copies everything but the machine's memory. The machine is frozen, or off.
    pub(in crate::image::bench) async fn copy(&self) -> Result<(), String> {
        let (folder, files) = (self.folder.clone(), self.files.clone());
        super::super::blocking(move || copy(&folder, &files)).await??;
        match &self.standin {
            Some(standin) => {
                standin.keep(&self.folder.join(CONTROL_PLANE)).await.map_err(|error| error.to_string())
            }
            None => Ok(()),
        }
    }
}

/// What was seen of a machine up to the moment in which it was kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::image::bench) struct Asleep {
    name: String,
    /// How long it had run, in seconds.
    age_s: f64,
    /// How long it had run when the stage began in which it was kept, in seconds.
    watching_s: f64,
    watched: Watched,
    done: BTreeSet<String>,
    written: u64,
    resets: u32,
    shots: u32,
    typed: u64,
    counted: BTreeMap<String, (u64, u64)>,
    texts: BTreeMap<String, String>,
    /// What it had said after the last finished line, by channel.
    unheard: Vec<(String, Vec<u8>)>,
    /// Names of pictures, in their order.
    pictures: Vec<String>,
}

impl Asleep {
    /// How long the machine had run.
    pub(in crate::image::bench) fn age(&self) -> Duration {
        Duration::try_from_secs_f64(self.age_s).unwrap_or_default()
    }
}

impl Machine {
    /// Keeps the machine where this is the phase to do so. Only a machine that cannot go on is an error: one that cannot
    /// be kept is none, and the run has to say so.
    pub(super) async fn keep_after(&mut self, phase: &str) -> Result<(), QemuError> {
        let Some(keeping) = self.keeping.take_if(|keeping| keeping.phase == phase) else { return Ok(()) };
        let began = Instant::now();
        let kept = self.keep(&keeping).await;
        self.vm.go_on().await?;
        let data = json!({ "phase": phase, "seconds": began.elapsed().as_secs_f64() });
        self.event(&QmpEvent { name: "ASSAY_KEPT".to_owned(), data });
        self.kept = Some(kept);
        Ok(())
    }

    async fn keep(&mut self, keeping: &Keeping) -> Result<Asleep, String> {
        let io = |error: std::io::Error| format!("{}: {error}", keeping.folder.display());
        std::fs::create_dir_all(keeping.folder.join(SEEN)).map_err(io)?;
        let age_s = self.vm.age().as_secs_f64();
        // The counters end with this process.
        self.written().await;
        self.vm.save(&keeping.folder.join(MEMORY)).await.map_err(|error| error.to_string())?;
        keeping.copy().await?;
        self.keep_lines();
        let mut pictures = Vec::new();
        for (name, content) in &self.artifacts {
            std::fs::write(keeping.folder.join(SEEN).join(name), content).map_err(io)?;
            pictures.push(name.clone());
        }
        std::fs::write(keeping.folder.join(SEEN).join("raw"), &self.raw).map_err(io)?;
        Ok(Asleep {
            name: self.name.clone(),
            age_s,
            watching_s: self.watching.unwrap_or_default().as_secs_f64(),
            watched: self.watched.clone(),
            done: self.done.clone(),
            written: self.written,
            resets: self.resets,
            shots: self.shots,
            typed: self.typed_before + self.vm.typed(),
            counted: self.counted.clone(),
            texts: self.texts.iter().map(|(over, text)| (over.name().to_owned(), text.clone())).collect(),
            unheard: self.unheard(),
            pictures,
        })
    }

    /// Lines that nobody has decided on yet, the beginnings of lines, and what came while the machine was frozen.
    fn unheard(&self) -> Vec<(String, Vec<u8>)> {
        let mut unheard: Vec<(String, Vec<u8>)> = Vec::new();
        for (over, sighting, _) in self.pending.iter().filter(|(over, ..)| *over != Over::Screen) {
            unheard.push((over.name().to_owned(), format!("{}\n", sighting.text).into_bytes()));
        }
        for (over, reader) in &self.readers {
            unheard.push((over.name().to_owned(), reader.open_text().into_bytes()));
        }
        for event in self.vm.unheard() {
            match event {
                VmEvent::Serial(bytes) => unheard.push((Over::Serial.name().to_owned(), bytes.clone())),
                VmEvent::Progress(bytes) => unheard.push((Over::Progress.name().to_owned(), bytes.clone())),
                _ => {}
            }
        }
        unheard.retain(|(_, bytes)| !bytes.is_empty());
        unheard
    }

    /// Makes this machine, which was woken a moment ago, the one that was kept in `folder`.
    pub(in crate::image::bench) fn was(&mut self, asleep: &Asleep, folder: &Path) -> Result<(), String> {
        self.name.clone_from(&asleep.name);
        self.watched = asleep.watched.clone();
        self.done.clone_from(&asleep.done);
        self.written = asleep.written;
        self.resets = asleep.resets;
        self.shots = asleep.shots;
        self.typed_before = asleep.typed;
        self.counted_before.clone_from(&asleep.counted);
        self.last_activity = asleep.age();
        self.watching = Duration::try_from_secs_f64(asleep.watching_s).ok();
        let seen = folder.join(SEEN);
        let read = |name: &str| {
            let path = seen.join(name);
            std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        self.raw = read("raw")?;
        for name in &asleep.pictures {
            self.artifacts.push((name.clone(), read(name)?));
        }
        for over in [Over::Serial, Over::Screen, Over::Progress] {
            if let Some(text) = asleep.texts.get(over.name()) {
                self.texts.insert(over, text.clone());
            }
        }
        for (channel, bytes) in &asleep.unheard {
            let over = if channel == Over::Serial.name() { Over::Serial } else { Over::Progress };
            self.heard(over, asleep.age(), bytes, Instant::now());
        }
        Ok(())
    }
}

fn copy(folder: &Path, files: &[(PathBuf, String)]) -> Result<(), String> {
    for (from, name) in files {
        let to = folder.join(name);
        let told = |error: std::io::Error| format!("{} to {}: {error}", from.display(), to.display());
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(told)?;
        }
        sparse_copy(from, &to).map_err(told)?;
    }
    Ok(())
}
