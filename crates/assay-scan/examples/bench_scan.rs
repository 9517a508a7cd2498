//! Scans one loop device or file and prints the result as JSON: what `cargo xtask bench` measures, and what the tests
//! kill. It writes to nothing else, since it demands no identity but the one that it finds.
//!
//! `bench_scan PATH PLAN LEAVE [CHECKPOINT]`: PLAN is `two_pass`, `burn_in`, `sampled`, or `limit` for the device's own
//! speed; LEAVE is `zeroed` or `pattern`. With a checkpoint file it goes on from there, if the file exists, and
//! saves as often as it can; each save is a line on stderr with the bytes done.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use assay_scan::{Event, ExpectedIdentity, Job, Leave, Plan, Scannable, Seed, Target, limit_probe, scan};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (path, plan, leave, saved) = match &words[..] {
        [path, plan, leave] => (path, plan, leave, None),
        [path, plan, leave, saved] => (path, plan, leave, Some(PathBuf::from(saved))),
        _ => {
            return Err(
                "usage: bench_scan PATH two_pass|burn_in|sampled|limit zeroed|pattern [CHECKPOINT]".into()
            );
        }
    };
    let target = open(Path::new(path))?;
    let never = AtomicBool::new(false);
    if plan == "limit" {
        let limit = limit_probe(&target, Duration::from_millis(400), &never)?;
        println!("{}", serde_json::to_string(&limit)?);
        return Ok(());
    }
    let plan = match plan.as_str() {
        "two_pass" => Plan::TwoPass,
        "burn_in" => Plan::BurnIn,
        "sampled" => Plan::Sampled { regions: 64 },
        other => return Err(format!("there is no plan `{other}`").into()),
    };
    let leave = match leave.as_str() {
        "zeroed" => Leave::Zeroed,
        "pattern" => Leave::Pattern,
        other => return Err(format!("nothing can be left `{other}`").into()),
    };
    let resume = match saved.as_deref().map(fs::read) {
        Some(Ok(bytes)) => Some(serde_json::from_slice(&bytes)?),
        _ => None,
    };
    // The same data each time would let a broken device look sound: what it holds is already right.
    let mut job = Job::new(plan, leave, Seed(rand_seed()?));
    if let Some(checkpoint) = &resume {
        job = Job::of(checkpoint);
    }
    if saved.is_some() {
        job.options.checkpoint_every = Duration::ZERO;
    }
    let mut failed = None;
    let mut on_event = |event: Event<'_>| {
        if let (Event::Checkpoint(checkpoint), Some(path)) = (event, &saved)
            && let Err(problem) = save(path, &serde_json::to_vec(checkpoint), checkpoint.done())
        {
            failed = Some(problem);
        }
    };
    let result = scan(&target, &job, resume, &mut on_event, &never)?;
    if let Some(problem) = failed {
        return Err(problem);
    }
    let mut line = serde_json::to_value(&result)?;
    line["clean"] = json!(result.is_clean());
    line["covered_bytes"] = json!(result.covered_bytes());
    line["peak_rss_kib"] = peak_rss()?;
    println!("{line}");
    Ok(())
}

fn open(path: &Path) -> Result<Scannable> {
    let opened = Target::open(path, Path::new("/sys"))?;
    let identity = opened.identity().clone();
    let serial = identity.serial.unwrap_or_default();
    if !serial.starts_with("loop:") && !serial.starts_with("file:") {
        return Err(format!(
            "{} is a real disk; this program overwrites only loop devices and files",
            path.display()
        )
        .into());
    }
    Ok(opened.admit(&ExpectedIdentity { serial: Some(serial), wwn: None, bytes: identity.bytes })?)
}

/// Whole or not at all: the process may be killed in between.
fn save(path: &Path, json: &serde_json::Result<Vec<u8>>, done: u64) -> Result<()> {
    let json = json.as_ref().map_err(ToString::to_string)?;
    let next = path.with_extension("next");
    fs::write(&next, json)?;
    fs::rename(&next, path)?;
    writeln!(std::io::stderr(), "{done}")?;
    Ok(())
}

fn rand_seed() -> Result<u64> {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn peak_rss() -> Result<Value> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(json!(line.trim().trim_end_matches(" kB").parse::<u64>()?))
}
