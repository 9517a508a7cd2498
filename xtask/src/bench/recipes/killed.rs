//! What stays of a runner that was killed: after SIGKILL at moments that nobody chose, and the next start in the same folder.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{Bench, remove};
use crate::bench::Figure;

const TIMES: u32 = 20;
/// How long what ran may take to end by itself once its owner is gone.
const ENDS: Duration = Duration::from_secs(20);

/// Kills a run of `a_run_s` seconds again and again, and counts what is left in the end.
pub(super) fn measure(bench: &Bench, a_run_s: f64) -> Result<Figure> {
    let canary = "static-site";
    let data = bench.folder.join("killed");
    let data_there = data.display().to_string();
    let (mut left, mut slowest) = (Vec::new(), 0.0_f64);
    let groups = control_groups();
    for time in 1..=TIMES {
        // Spread evenly over the run, and hitting no stage by its name: multiples of the golden ratio.
        let moment = (f64::from(time) * 0.618_033_988_75).fract() * a_run_s;
        // A store of its own each time: a control plane would go on with the run that was killed.
        remove_store(&data)?;
        let mut run = bench
            .command(canary, "killed-out", &["--data", &data_there])?
            .spawn()
            .context("cannot start assay")?;
        std::thread::sleep(Duration::from_secs_f64(moment));
        run.kill()?;
        run.wait_with_output()?;
        let killed = Instant::now();
        while !processes(&data).is_empty() && killed.elapsed() < ENDS {
            std::thread::sleep(Duration::from_millis(50));
        }
        slowest = slowest.max(killed.elapsed().as_secs_f64());
        left.extend(processes(&data).into_iter().map(|process| format!("after {moment:.1} s: {process}")));
    }
    remove_store(&data)?;
    bench.test(canary, "pass", &["--data", &data_there, "--stages", "Lint"])?;
    left.extend(processes(&data));
    left.extend(mounts(&data)?);
    let folders = fs::read_dir(data.join("runner/swarms"))?.filter_map(Result::ok);
    left.extend(folders.map(|folder| folder.path().display().to_string()));
    // What others left before is theirs; whoever works beside this has processes in a new one.
    left.extend(control_groups().into_iter().filter(|group| !groups.contains(group) && is_empty(group)));
    for what in &left {
        eprintln!("bench: left behind: {what}");
    }
    remove(&data)?;
    let note = format!(
        "after {TIMES} SIGKILLs and one more start; all processes gone {slowest:.1} s after each at the latest"
    );
    #[expect(clippy::cast_precision_loss, reason = "a few at most")]
    let count = left.len() as f64;
    Ok(Figure::limit("left behind by killed runners", count, "things", 0.0, note))
}

/// Removes what the control plane keeps, and leaves what the runner left.
fn remove_store(data: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(data) else { return Ok(()) };
    for entry in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if entry.ends_with("runner") {
            continue;
        }
        if entry.is_dir() { remove(&entry)? } else { fs::remove_file(&entry)? }
    }
    Ok(())
}

/// Processes whose environment or command line names something below a folder.
fn processes(folder: &Path) -> Vec<String> {
    let name = folder.as_os_str().as_bytes();
    let names = |text: &[u8]| text.windows(name.len()).any(|window| window == name);
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let mut found = Vec::new();
    for process in entries.filter(|entry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit)) {
        let read = |file: &str| fs::read(process.path().join(file)).unwrap_or_default();
        let command = read("cmdline");
        if names(&command) || names(&read("environ")) {
            let words = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(format!("process {}: {words}", process.file_name().to_string_lossy()));
        }
    }
    found
}

fn mounts(folder: &Path) -> Result<Vec<String>> {
    let name = folder.display().to_string();
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table.lines().filter(|line| line.contains(&name)).map(str::to_owned).collect())
}

/// The control groups of runs' daemons, in every hierarchy.
fn control_groups() -> Vec<String> {
    let below = |folder: &Path| -> Vec<_> {
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let top = Path::new("/sys/fs/cgroup");
    let all = below(top).into_iter().flat_map(|path| below(&path).into_iter().chain([path]));
    let ours = all.filter(|path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"assay-")));
    ours.map(|path| path.display().to_string()).collect()
}

/// Whether no process is in a group, or in one below it.
fn is_empty(group: &str) -> bool {
    let mut folders = vec![Path::new(group).to_owned()];
    while let Some(folder) = folders.pop() {
        if !fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().is_empty() {
            return false;
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
        folders.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    true
}
