//! The one installation, with every write to its disks recorded.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use assay_media::writelog::WriteLog;
use assay_model::Sha256;
use rustix::fs::inotify;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::disks::Laid;
use super::super::install::Progress;
use super::super::{Test, blocking};
use crate::image::evidence::{Outcome, Prepared};
use crate::image::outcome;
use crate::image::profile::{DiskFault, Within};

/// A recorded installation.
pub(super) struct Recorded {
    /// The image's digest.
    pub(super) image: Sha256,
    /// Of each disk that can be written to.
    pub(super) logs: Vec<Logged>,
    /// When the marker of success came, in seconds since the machine was let go.
    pub(super) success_s: Option<f64>,
    /// When the machine had ended.
    pub(super) ended_s: f64,
    /// Bytes that were written.
    pub(super) written: u64,
    /// The ends of the phases.
    phases: Vec<(f64, String)>,
    /// Transcripts.
    pub(super) artifacts: Vec<(String, Vec<u8>)>,
}

/// A disk's recording.
pub(super) struct Logged {
    pub(super) disk: String,
    /// The disk before.
    pub(super) base: PathBuf,
    pub(super) log: WriteLog,
    /// When the log had which length.
    pub(super) grown: Vec<(f64, u64)>,
}

impl Recorded {
    /// The phase that was the last one to end by then.
    pub(super) fn phase_at(&self, at_s: f64) -> String {
        let ended = self.phases.iter().rev().find(|(end, _)| *end <= at_s);
        ended.map_or_else(|| "the beginning".to_owned(), |(_, name)| name.clone())
    }
}

/// Installs once.
pub(super) async fn record(test: &mut Test, progress: Progress<'_>) -> Result<Recorded, String> {
    let faulty = test.spec.profile.machine.all_disks().into_iter().find(|disk| disk.fault.is_some());
    if let Some(disk) = faulty {
        let fault = match disk.fault {
            Some(DiskFault::Pulled { .. }) => "pulled",
            _ => "faulty",
        };
        return Err(format!(
            "disk {} is {fault}: power cuts are of an installation that succeeds",
            disk.name
        ));
    }
    let prepared = test.prepare(progress).await?;
    let prepared: Prepared = serde_json::from_value(prepared.evidence).map_err(|error| error.to_string())?;
    for laid in &test.disks {
        let log = laid.write_log();
        std::fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    }
    progress("installing, with every write recorded");
    let logs: Vec<PathBuf> =
        test.disks.iter().filter(|laid| !laid.spec.read_only).map(Laid::write_log).collect();
    let growth = Growth::watch(logs)?;
    test.switch_on("installer", true).await?;
    let born = test.machine()?.vm.born();
    let booted = test.watch_boot(&[Within::Install], progress).await?;
    if booted.outcome != Outcome::Reached {
        test.cut_off().await?;
        let why = outcome::outcome(&booted).map(|finding| finding.message).unwrap_or_default();
        return Err(format!("the medium does not come up, so there is nothing to record: {why}"));
    }
    let (installed, artifacts) = test.watch_install(progress, false).await?;
    let ended_s = born.elapsed().as_secs_f64();
    let grown = growth.end(born);
    if installed.watched.outcome != Outcome::Reached {
        let why = outcome::outcome(&installed.watched).map(|finding| finding.message).unwrap_or_default();
        return Err(format!("the installation does not succeed, so there is nothing to record: {why}"));
    }
    let success = test.spec.profile.success_phase().map(|phase| phase.name.clone());
    let seen = installed.watched.phases.iter().find(|phase| Some(&phase.name) == success.as_ref());
    let mut logs = Vec::new();
    let writable = test.disks.iter().filter(|laid| !laid.spec.read_only);
    for (laid, grown) in writable.zip(grown) {
        let (path, size, pristine) = (laid.write_log(), laid.spec.size.0, laid.pristine.clone());
        let empty = laid.image.with_extension("empty");
        let read = blocking(move || {
            let base = match pristine {
                Some(before) => before,
                None => blank(&empty, size)?,
            };
            let log = WriteLog::read(&path, size).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, String>((base, log))
        });
        let (base, log) = read.await?.map_err(|error| format!("disk {}: {error}", laid.spec.name))?;
        logs.push(Logged { disk: laid.spec.name.clone(), base, log, grown });
    }
    let held: u64 = logs.iter().map(|disk: &Logged| disk.log.written()).sum();
    if held < installed.written {
        return Err(format!(
            "{held} of {} bytes that were written are in the recording: it is not whole",
            installed.written
        ));
    }
    Ok(Recorded {
        image: prepared.sha256,
        logs,
        success_s: seen.map(|phase| phase.at_s),
        ended_s,
        written: installed.written,
        phases: installed.watched.phases.iter().map(|phase| (phase.at_s, phase.name.clone())).collect(),
        artifacts,
    })
}

fn blank(path: &Path, size: u64) -> Result<PathBuf, String> {
    let made = std::fs::File::create(path).and_then(|file| file.set_len(size));
    made.map(|()| path.to_owned()).map_err(|error| format!("{}: {error}", path.display()))
}

type Grown = Arc<Mutex<Vec<Vec<(Instant, u64)>>>>;

/// Takes down when each log had which length: the kernel tells of each write.
struct Growth {
    grown: Grown,
    task: JoinHandle<()>,
}

impl Growth {
    fn watch(logs: Vec<PathBuf>) -> Result<Self, String> {
        let failed = |error: rustix::io::Errno| format!("watching how the recording grows: {error}");
        let kernel = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC);
        let kernel = kernel.map_err(failed)?;
        for log in &logs {
            inotify::add_watch(&kernel, log, inotify::WatchFlags::MODIFY).map_err(failed)?;
        }
        // No pipe, and read like one.
        let kernel = pipe::Receiver::from_owned_fd_unchecked(kernel)
            .map_err(|error| format!("watching how the recording grows: {error}"))?;
        let grown: Grown = Arc::new(Mutex::new(vec![Vec::new(); logs.len()]));
        let kept = Arc::clone(&grown);
        let task = tokio::spawn(async move {
            let mut news = vec![0_u8; 16 << 10];
            while kernel.readable().await.is_ok() {
                // What the news are does not matter: all logs are looked at.
                while kernel.try_read(&mut news).is_ok_and(|count| count > 0) {}
                let now = Instant::now();
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                for (log, seen) in logs.iter().zip(kept.iter_mut()) {
                    let length = std::fs::metadata(log).map_or(0, |file| file.len());
                    if seen.last().is_none_or(|(_, last)| *last < length) {
                        seen.push((now, length));
                    }
                }
            }
        });
        Ok(Self { grown, task })
    }

    /// What was taken down, in seconds since this moment.
    fn end(self, since: Instant) -> Vec<Vec<(f64, u64)>> {
        self.task.abort();
        let grown = self.grown.lock().unwrap_or_else(PoisonError::into_inner);
        let told =
            |(at, length): &(Instant, u64)| (at.saturating_duration_since(since).as_secs_f64(), *length);
        grown.iter().map(|log| log.iter().map(told).collect()).collect()
    }
}
