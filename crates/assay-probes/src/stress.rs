//! Loads processors and memory with the tools that everybody knows, and says what came of it.
//!
//! Exit codes lie: `stress-ng` ends with 2 when the hardware failed and with 1 or 3 when it could not work itself, and
//! `stressapptest` says the same `FAIL` of both. So everything that tells them apart is kept, and nothing is judged
//! here. Each function writes what it knows into a place of the caller's as it goes, so that something is left when
//! the work is broken off (dropping the future stops the tool).

pub mod memory;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use assay_model::host::cpu_stress::{Ended, ToolRun, Work};
use assay_model::text::clean_to;
use assay_process::{Cmd, Output, ProcessError};
use assay_scan::memory::Meminfo;

use crate::Machine;
use crate::files::text;

/// For a tool to start, and to give its memory back at the end.
const SLACK: Duration = Duration::from_mins(2);
/// Most that is kept of a tool's output.
const MAX_OUTPUT: usize = 4 << 20;
/// Lines of complaint that are kept.
const MAX_COMPLAINTS: usize = 8;
const MAX_LINE: usize = 240;
/// More kinds of work than are asked for.
const MAX_KINDS: usize = 64;

/// What a tool is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// For how long.
    pub seconds: u32,
    /// With how much memory, in bytes.
    pub bytes: u64,
    /// How many processes work on memory, beside one for each processor.
    pub memory_workers: u32,
}

/// What the machine's kernel says of its memory.
pub fn meminfo(machine: &Machine) -> Option<Meminfo> {
    Meminfo::parse(&text(&machine.path("proc/meminfo"))?)
}

/// Every processor with every method there is, and memory beside it, all results verified. Returns what the tool
/// wrote.
pub async fn stress_ng(
    machine: &Machine,
    load: Load,
    progress: &(dyn Fn(&str) + Sync),
    into: &Mutex<ToolRun>,
) -> Vec<u8> {
    // The image's root may be read-only, and the tool wants a folder for its files.
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(problem) => {
            let mut run = locked(into);
            run.ended = Ended::Broken;
            run.complaints.push(format!("stress-ng: no folder could be made for its files: {problem}"));
            return Vec::new();
        }
    };
    let metrics = folder.path().join("metrics.yaml");
    let (time, bytes) = (format!("{}s", load.seconds), load.bytes.to_string());
    let workers = load.memory_workers.max(1).to_string();
    let command = Cmd::new(machine.tool("stress-ng"))
        .args(["--cpu", "0", "--cpu-method", "all"])
        // The size is for all workers together.
        .args(["--vm", &workers, "--vm-bytes", &bytes, "--vm-method", "all"])
        .args(["--verify", "--metrics", "--timeout", &time, "--yaml"])
        .arg(&metrics)
        .arg("--temp-path")
        .arg(folder.path());
    let Some(output) = run("stress-ng", command, load.seconds, progress, into).await else {
        return Vec::new();
    };
    let mut said = all_of(&output);
    let mut run = locked(into);
    run.complaints = complaints(&said, &["fail:", "error:", "abort", "unrecognized", "corrupt"]);
    run.out_of_memory = out_of_memory(&said);
    if let Some(metrics) = text(&metrics) {
        run.work = stress_ng_work(&metrics);
        said.push_str(&metrics);
    }
    said.into_bytes()
}

/// Memory copied and checked by many threads. Returns what the tool wrote.
pub async fn stressapptest(
    machine: &Machine,
    load: Load,
    progress: &(dyn Fn(&str) + Sync),
    into: &Mutex<ToolRun>,
) -> Vec<u8> {
    let (time, mib) = (load.seconds.to_string(), (load.bytes >> 20).max(1).to_string());
    let command = Cmd::new(machine.tool("stressapptest")).args(["-s", &time, "-M", &mib, "-W"]);
    let Some(output) = run("stressapptest", command, load.seconds, progress, into).await else {
        return Vec::new();
    };
    let said = all_of(&output);
    let mut run = locked(into);
    stressapptest_said(&said, &mut run);
    run.out_of_memory = out_of_memory(&said);
    said.into_bytes()
}

/// Starts a tool, tells how far it is, and notes how it ended.
async fn run(
    name: &str,
    command: Cmd,
    seconds: u32,
    progress: &(dyn Fn(&str) + Sync),
    into: &Mutex<ToolRun>,
) -> Option<Output> {
    let begun = Instant::now();
    {
        let mut run = locked(into);
        run.command = clean_to(&command.to_string(), 400);
        run.asked_s = seconds;
        // Until it says otherwise: this is what is left when the work is broken off.
        run.ended = Ended::Stopped;
    }
    let limit = Duration::from_secs(seconds.into()) + SLACK;
    let command = command.timeout(limit).max_output(MAX_OUTPUT);
    let ended = told(name, seconds, progress, command.run()).await;
    let mut run = locked(into);
    run.seconds = begun.elapsed().as_secs_f64();
    match ended {
        Ok(output) => {
            run.ended = Ended::Finished;
            run.exit = output.code();
            run.signal = output.signal();
            Some(output)
        }
        Err(problem) => {
            run.ended = match problem {
                ProcessError::NotFound { .. } => Ended::Missing,
                ProcessError::Timeout { .. } => Ended::Hung,
                _ => Ended::Broken,
            };
            run.complaints.push(clean_to(&problem.to_string(), MAX_LINE));
            None
        }
    }
}

/// Waits for `work` and says meanwhile how far it should be.
async fn told<T>(
    name: &str,
    seconds: u32,
    progress: &(dyn Fn(&str) + Sync),
    work: impl Future<Output = T>,
) -> T {
    let begun = Instant::now();
    let total = f64::from(seconds.max(1));
    progress(&format!("{name}: {} left", time_left(total)));
    let mut ticks = tokio::time::interval(every(seconds));
    ticks.tick().await;
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => {
                let gone = begun.elapsed().as_secs_f64().min(total);
                let percent = (gone * 100.0 / total) as u32;
                progress(&format!("{name}: {percent} %, {} left", time_left(total - gone)));
            }
        }
    }
}

/// Between two words of how far it is: a hundred in all, and none within five seconds of another.
fn every(seconds: u32) -> Duration {
    Duration::from_secs((u64::from(seconds) / 100).max(5))
}

/// `3 min`, `40 s`, `7 h`.
pub(crate) fn time_left(seconds: f64) -> String {
    match seconds.max(0.0) {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

fn all_of(output: &Output) -> String {
    format!("{}{}", output.stdout_text(), output.stderr_text())
}

/// The lines that say one of these.
fn complaints(said: &str, words: &[&str]) -> Vec<String> {
    let lines = said.lines().filter(|line| {
        let line = line.to_lowercase();
        words.iter().any(|word| line.contains(word))
    });
    lines.take(MAX_COMPLAINTS).map(|line| clean_to(line, MAX_LINE)).collect()
}

fn out_of_memory(said: &str) -> bool {
    let said = said.to_lowercase();
    ["oom killer", "out of memory", "out-of-memory"].iter().any(|sign| said.contains(sign))
}

/// Reads the metrics: a list with an item for each kind of work.
fn stress_ng_work(yaml: &str) -> Vec<Work> {
    let mut work: Vec<Work> = Vec::new();
    for line in yaml.lines() {
        let Some((name, value)) = line.trim().split_once(": ") else { continue };
        if name == "- stressor" && work.len() < MAX_KINDS {
            work.push(Work { name: clean_to(value, 40), ..Work::default() });
        }
        match (name, work.last_mut()) {
            ("bogo-ops", Some(work)) => work.done = number(value),
            ("bogo-ops-per-second-real-time", Some(work)) => work.per_second = number(value),
            _ => {}
        }
    }
    work
}

/// A number as a tool writes it; zero for anything else, which is never taken for work done.
fn number(text: &str) -> f64 {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite()).unwrap_or(0.0)
}

/// `Stats: Completed: 57884.00M in 5.04s 11484.20MB/s, with 0 hardware incidents, 0 errors` and
/// `Status: PASS - please verify no corrected errors`.
fn stressapptest_said(said: &str, run: &mut ToolRun) {
    for line in said.lines() {
        if let Some((_, done)) = line.split_once("Stats: Completed: ") {
            let words: Vec<&str> = done.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            let before = |word: &str| {
                let at = words.iter().position(|this| *this == word)?;
                words.get(at.checked_sub(1)?)?.parse::<u64>().ok()
            };
            run.errors =
                before("hardware").zip(before("errors")).map(|(incidents, errors)| incidents.max(errors));
            run.work = vec![Work {
                name: "memory copied, MiB".to_owned(),
                done: number(words.first().unwrap_or(&"").trim_end_matches('M')),
                per_second: number(words.get(3).unwrap_or(&"").trim_end_matches("MB/s")),
            }];
        } else if let Some((_, status)) = line.split_once("Status: ") {
            run.passed = Some(status.trim_start().starts_with("PASS"));
        }
    }
    run.complaints = complaints(said, &["hardware error", "error:", "report error", "status: fail", "fatal"]);
}

fn locked<T>(place: &Mutex<T>) -> MutexGuard<'_, T> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}
