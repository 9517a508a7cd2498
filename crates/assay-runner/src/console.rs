//! Reading the serial console of a machine that runs memtest86+.
//!
//! A lab machine's console is a file; a server's is carried by its BMC, and what it carried is kept in a file as well,
//! because memtest86+ draws its title once: a runner that was restarted reads again from the beginning. Reading ends
//! by itself: with what was asked for, with what is found, in silence, or when the time is over.

use std::io::{ErrorKind, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use assay_api::runner::{ConsoleOrder, ConsoleRead};
use assay_model::host::memtest::{MemtestEvidence, MemtestReader};
use assay_model::text::clean_to;
use assay_netboot::power::PowerDriver;
use assay_process::Terminal;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

/// Between two looks at a console that says nothing.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);
/// Before a connection that broke is made again.
pub(crate) const AGAIN: Duration = Duration::from_secs(5);
/// After the first error, more addresses are waited for.
const AFTER_ERROR: Duration = Duration::from_secs(20);
/// It redraws its clock every second, but for the moments in which all processors are at work on a large block.
const SILENCE: Duration = Duration::from_mins(10);
/// Problems that are told.
const MAX_PROBLEMS: usize = 8;
/// The longest console that is kept: redrawing every second for two weeks writes less.
const MAX_CAPTURE: u64 = 1 << 30;

/// Where a console comes from.
pub(crate) enum Source {
    /// A file that grows.
    Log { path: PathBuf, at: u64 },
    /// A BMC, with the file that keeps what it carried.
    Carried { driver: Box<PowerDriver>, kept: PathBuf, replayed: u64, line: Option<Box<Terminal>> },
}

/// How far a reading is, for those who look on.
#[derive(Default)]
pub(crate) struct Progress(Mutex<String>);

/// When a reading ends, by what was seen and when.
struct Listening<'a> {
    order: &'a ConsoleOrder,
    began: Instant,
    last_byte: Instant,
    first_error: Option<Instant>,
}

/// Why a reading ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// With what was asked for, or found.
    Said,
    /// The time was over.
    Late,
    /// Nothing was drawn any more.
    Silent,
}

impl Source {
    /// A file, from this place on.
    pub(crate) fn log(path: PathBuf, from: u64) -> Self {
        Self::Log { path, at: from }
    }

    /// What a BMC carries, kept in `kept`.
    pub(crate) fn carried(driver: PowerDriver, kept: &Path) -> Self {
        Self::Carried { driver: Box::new(driver), kept: kept.to_owned(), replayed: 0, line: None }
    }

    /// Some bytes; none when there are none now. Safe to ask again after an error.
    pub(crate) async fn read(&mut self, into: &mut Vec<u8>) -> Result<(), String> {
        into.clear();
        match self {
            Self::Log { path, at } => {
                let length = match tokio::fs::metadata(&*path).await {
                    Ok(known) => known.len(),
                    Err(e) if e.kind() == ErrorKind::NotFound => 0,
                    Err(e) => return Err(format!("{}: {e}", path.display())),
                };
                // A machine that was made anew has a new console.
                if length < *at {
                    *at = 0;
                }
                *at += read_from(path, *at, into).await?;
                Ok(())
            }
            Self::Carried { driver, kept, replayed, line } => {
                // First what an earlier runner heard of this boot.
                let Some(terminal) = line else {
                    let came = read_from(kept, *replayed, into).await?;
                    *replayed += came;
                    if came == 0 {
                        *line = Some(Box::new(driver.console().await.map_err(|e| e.to_string())?));
                    }
                    return Ok(());
                };
                let mut piece = [0; 4096];
                let came = match timeout(PAUSE, terminal.output.read(&mut piece)).await {
                    Err(_) => return Ok(()),
                    Ok(Ok(0) | Err(_)) => {
                        *line = None;
                        return Err("the BMC ended serial over LAN".to_owned());
                    }
                    Ok(Ok(came)) => came,
                };
                into.extend_from_slice(&piece[..came]);
                *replayed += keep(kept, into).await?;
                Ok(())
            }
        }
    }
}

impl Progress {
    /// The words of the moment.
    pub(crate) fn words(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, words: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }
}

/// Reads to the end. `opened` is the console, or why there is none.
pub(crate) async fn read(
    opened: Result<Source, String>,
    order: &ConsoleOrder,
    progress: &Progress,
) -> ConsoleRead {
    let mut reader = MemtestReader::default();
    let mut problems: Vec<String> = Vec::new();
    let began = Instant::now();
    let mut listening = Listening { order, began, last_byte: began, first_error: None };
    match opened {
        Err(problem) => problems.push(problem),
        Ok(mut source) => {
            let mut bytes = Vec::new();
            let ended = loop {
                match source.read(&mut bytes).await {
                    Ok(()) if bytes.is_empty() => sleep(PAUSE).await,
                    Ok(()) => reader.push(&bytes),
                    Err(problem) => {
                        if problems.last() != Some(&problem) {
                            warn!("a console cannot be read: {problem}; trying again");
                            problems.push(problem);
                        }
                        sleep(AGAIN).await;
                    }
                }
                progress.set(words(reader.evidence()));
                if let Some(ended) = listening.ended(reader.evidence(), !bytes.is_empty(), Instant::now()) {
                    break ended;
                }
            };
            // What kept it from being read for a while is no matter once it said everything.
            if ended == Ended::Said {
                problems.clear();
            }
            if ended == Ended::Silent {
                problems.push(silence(reader.evidence()));
            }
        }
    }
    problems.truncate(MAX_PROBLEMS);
    let evidence = MemtestEvidence {
        listened_s: began.elapsed().as_secs_f64(),
        passes_asked: order.passes.into(),
        problems: problems.iter().map(|problem| clean_to(problem, 300)).collect(),
        ..reader.evidence().clone()
    };
    let ConsoleOrder { stage, attempt, generation, .. } = order.clone();
    ConsoleRead { stage, attempt, generation, evidence, text: reader.transcript() }
}

impl Listening<'_> {
    fn ended(&mut self, seen: &MemtestEvidence, heard: bool, now: Instant) -> Option<Ended> {
        let since = |then: Instant| now.saturating_duration_since(then);
        if heard {
            self.last_byte = now;
        }
        if seen.errors > 0 || !seen.faults.is_empty() {
            self.first_error.get_or_insert(now);
        }
        let boot = Duration::from_secs(self.order.boot_s);
        let passed = seen.version.is_some() && seen.passes >= u64::from(self.order.passes.max(1));
        if passed || seen.restarts > 0 || self.first_error.is_some_and(|then| since(then) >= AFTER_ERROR) {
            Some(Ended::Said)
        } else if since(self.began) >= Duration::from_secs(self.order.listen_s)
            || (seen.version.is_none() && since(self.began) >= boot)
        {
            Some(Ended::Late)
        } else if seen.version.is_some() && since(self.last_byte) >= SILENCE {
            Some(Ended::Silent)
        } else {
            None
        }
    }
}

fn words(seen: &MemtestEvidence) -> String {
    let Some(version) = &seen.version else { return "waits for memtest86+ to begin".to_owned() };
    let time = seen.time.as_deref().unwrap_or("0:00:00");
    format!(
        "{version}: {} whole passes, {} % of the next, {} errors, {time}",
        seen.passes, seen.percent, seen.errors
    )
}

fn silence(seen: &MemtestEvidence) -> String {
    format!(
        "the console fell silent at {} ({} %, {} whole passes): the machine hung in the memory test, or the line was \
         lost; look at its screen, and suspect memory or processor if it stands still",
        seen.time.as_deref().unwrap_or("its beginning"),
        seen.percent,
        seen.passes
    )
}

/// What a file has from `at` on, and how much that is.
async fn read_from(path: &Path, at: u64, into: &mut Vec<u8>) -> Result<u64, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut file = match File::open(path).await {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(failed(e)),
    };
    file.seek(SeekFrom::Start(at)).await.map_err(failed)?;
    let came = file.take(64 << 10).read_to_end(into).await.map_err(failed)?;
    Ok(came as u64)
}

/// Keeps what a BMC carried, and says how much.
async fn keep(path: &Path, bytes: &[u8]) -> Result<u64, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut file = File::options().create(true).append(true).open(path).await.map_err(failed)?;
    if file.metadata().await.map_err(failed)?.len() < MAX_CAPTURE {
        file.write_all(bytes).await.map_err(failed)?;
        file.flush().await.map_err(failed)?;
    }
    Ok(bytes.len() as u64)
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
