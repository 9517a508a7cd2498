//! The memory test in a process of its own, and the words that it says to the agent that started it.
//!
//! Of its own, so that the kernel takes memory away from the test and not from the agent. The process is the agent's
//! own program with another option; it gets its order as one argument and says one JSON object a line.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use assay_model::host::cpu_stress::{BitError, Ended, MemoryTest};
use assay_model::text::clean_to;
use assay_process::{Cmd, ProcessError, Stream};
pub use assay_scan::memory::MemoryPattern;
use assay_scan::memory::{Flip, Meminfo, MemoryPlan, MemoryProgress, MemoryReport, test_memory};
use serde::{Deserialize, Serialize};

use super::{locked, time_left};
use crate::Machine;

/// The option of the agent's program that makes it the memory test.
pub const OPTION: &str = "--memory-test";
/// Left to everybody else, beside one part in a hundred.
const RESERVE: u64 = 64 << 20;
/// As the kernel counts: the first to go when memory is short.
const GOES_FIRST: &str = "900";
/// Between two words of how far it is.
const EVERY: Duration = Duration::from_secs(5);
/// Complaints on standard error that are kept.
const MAX_SAID: usize = 300;

/// What the process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryOrder {
    /// How much to ask for, in percent of what the kernel can give.
    pub percent: u32,
    /// What to write, one pass each.
    pub patterns: Vec<MemoryPattern>,
    /// How often to go through them.
    pub rounds: u32,
    /// No new pass begins after this.
    pub at_most: Option<Duration>,
}

/// What the process says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    /// First: how much there is, what stays free, and who works.
    Begun { total: u64, available: u64, reserve: u64, threads: u32 },
    /// Now and then.
    Progress(MemoryProgress),
    /// A word that was wrong.
    Flip(Flip),
    /// Last.
    Report(MemoryReport),
    /// Instead of a report.
    Problem(String),
}

/// What stays free on a machine with this much memory: for page tables, the kernel's own needs, and the agent.
pub fn reserve(total: u64) -> u64 {
    RESERVE + total / 100
}

/// The process itself. Returns its exit code.
pub fn child(order: &str, out: &Mutex<impl Write + Send>) -> u8 {
    // Nothing is lost where the kernel does not allow it: it is then as likely to go as anybody.
    let _refused = fs::write("/proc/self/oom_score_adj", GOES_FIRST);
    let say = |word: &Word| {
        let mut line = serde_json::to_vec(word).unwrap_or_default();
        line.push(b'\n');
        let mut out = locked(out);
        // Nobody may be listening any more: then this process is about to be stopped.
        let _unheard = out.write_all(&line).and_then(|()| out.flush());
    };
    match perform(order, &say) {
        Ok(mut report) => {
            // One a line: a line has a length that is sure to arrive whole.
            for flip in std::mem::take(&mut report.flips) {
                say(&Word::Flip(flip));
            }
            say(&Word::Report(report));
            0
        }
        Err(problem) => {
            say(&Word::Problem(problem));
            1
        }
    }
}

fn perform(order: &str, say: &(dyn Fn(&Word) + Sync)) -> Result<MemoryReport, String> {
    let order: MemoryOrder =
        serde_json::from_str(order).map_err(|problem| format!("the order cannot be read: {problem}"))?;
    let meminfo = Meminfo::read().map_err(|problem| format!("/proc/meminfo: {problem}"))?;
    let reserve = reserve(meminfo.total);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (total, available) = (meminfo.total, meminfo.available);
    say(&Word::Begun { total, available, reserve, threads: threads as u32 });
    let usable = available.saturating_sub(reserve);
    let plan = MemoryPlan {
        bytes: (u128::from(usable) * u128::from(order.percent.min(100)) / 100) as u64,
        reserve,
        threads,
        patterns: order.patterns,
        rounds: order.rounds,
        at_most: order.at_most,
        // Broken memory is broken: nothing gets truer by breaking more.
        until_wrong: true,
    };
    test_memory(&plan, &|progress| say(&Word::Progress(progress)), &AtomicBool::new(false))
        .map_err(|problem| problem.to_string())
}

/// Starts the process and listens to it. What it said stands in `into` at any time; dropping the future stops it.
pub async fn test(
    machine: &Machine,
    order: &MemoryOrder,
    limit: Duration,
    progress: &(dyn Fn(&str) + Sync),
    into: &Mutex<MemoryTest>,
) {
    {
        let mut test = locked(into);
        let names = order.patterns.iter().map(|pattern| pattern.as_str().to_owned());
        let once: Vec<String> = names.collect();
        test.patterns = once.iter().cycle().take(once.len() * order.rounds as usize).cloned().collect();
        // Until it says otherwise: this is what is left when the work is broken off.
        test.ended = Ended::Stopped;
    }
    let outcome = tokio::time::timeout(limit, listen(machine, order, progress, into)).await;
    let (ended, detail) = match outcome {
        Ok(Ok(())) => (Ended::Finished, String::new()),
        Ok(Err((ended, why))) => (ended, why),
        Err(_) => (Ended::Hung, format!("it did not end within {} s", limit.as_secs())),
    };
    let mut test = locked(into);
    (test.ended, test.detail) = (ended, clean_to(&detail, 400));
}

async fn listen(
    machine: &Machine,
    order: &MemoryOrder,
    progress: &(dyn Fn(&str) + Sync),
    into: &Mutex<MemoryTest>,
) -> Result<(), (Ended, String)> {
    let broken = |why: String| (Ended::Broken, why);
    let order = serde_json::to_string(order).map_err(|problem| broken(problem.to_string()))?;
    let program = program(machine).map_err(broken)?;
    let command = Cmd::new(program).arg(OPTION).arg(order);
    let mut child = command.spawn().await.map_err(|problem| match problem {
        ProcessError::NotFound { .. } => (Ended::Missing, problem.to_string()),
        _ => (Ended::Broken, problem.to_string()),
    })?;
    let (mut reported, mut problem, mut said) = (false, None, String::new());
    let mut told: Option<Instant> = None;
    while let Some(line) = child.next_line().await {
        let word = match line.stream {
            Stream::Stdout => serde_json::from_str::<Word>(&line.text),
            Stream::Stderr => {
                said.push_str(&clean_to(&line.text, MAX_SAID.saturating_sub(said.len())));
                continue;
            }
        };
        match word {
            Ok(Word::Problem(why)) => problem = Some(why),
            // It says so every second, which is more than anybody reads.
            Ok(Word::Progress(at))
                if at.done < at.total && told.is_some_and(|told| told.elapsed() < EVERY) =>
            {
                take(Word::Progress(at), &|_| (), &mut locked(into));
            }
            Ok(Word::Progress(at)) => {
                told = Some(Instant::now());
                take(Word::Progress(at), progress, &mut locked(into));
            }
            Ok(word) => reported |= take(word, progress, &mut locked(into)),
            Err(why) => problem = Some(format!("it said something that is no word of its own: {why}")),
        }
    }
    let status = child.wait().await.map_err(|problem| broken(problem.to_string()))?;
    match problem {
        Some(why) => Err(broken(why)),
        None if reported && status.success() => Ok(()),
        None => {
            let said = if said.is_empty() { String::new() } else { format!("; its last words: {said}") };
            Err(broken(format!(
                "the process of the memory test ended before its report ({status}); the kernel may have taken its memory{said}"
            )))
        }
    }
}

/// Takes what the process says; true for the report.
fn take(word: Word, progress: &(dyn Fn(&str) + Sync), test: &mut MemoryTest) -> bool {
    match word {
        Word::Begun { total, available, reserve, threads } => {
            (test.total, test.available, test.reserve, test.threads) = (total, available, reserve, threads);
        }
        Word::Progress(at) => {
            // Counted by the report; until then, this is what there is.
            test.mismatches = test.mismatches.max(at.mismatches);
            let percent = at.done as f64 * 100.0 / at.total.max(1) as f64;
            let left = at.left_s.map(|left| format!(", {} left", time_left(left))).unwrap_or_default();
            let wrong = match at.mismatches {
                0 => String::new(),
                count => format!("; {count} words were wrong"),
            };
            progress(&format!("memory: {percent:.0} %{left}{wrong}"));
        }
        Word::Flip(flip) => {
            if test.flips.len() < 64 {
                let Flip { offset, physical, expected, seen, again, pass } = flip;
                test.flips.push(BitError { offset, physical, expected, seen, again, pass });
            }
        }
        Word::Report(report) => {
            test.asked = report.asked;
            test.region = report.region;
            test.locked = report.locked;
            test.passes = report.passes;
            test.written = report.written;
            test.verified = report.verified;
            test.mismatches = report.mismatches;
            test.seconds = report.seconds;
            return true;
        }
        Word::Problem(_) => {}
    }
    false
}

/// The agent's own program; in a captured machine, whatever stands in its folder of tools under that name.
fn program(machine: &Machine) -> Result<PathBuf, String> {
    let tool = machine.tool("assay-agent");
    if tool.components().count() > 1 {
        return Ok(tool);
    }
    std::env::current_exe().map_err(|problem| format!("the agent's program cannot be found: {problem}"))
}
