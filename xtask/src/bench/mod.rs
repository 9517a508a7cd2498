//! `cargo xtask bench`: the speeds that Assay promises, measured on this machine and held against their goals.
//!
//! Each figure names its goal in code, so that a page of figures cannot drift away from what is promised. Where
//! another program does the same work, it is measured in the same run, in turns, and the ratio is what counts: it
//! says the same on a slow machine as on a fast one. What needs time alone (builds) is done before.

mod agents;
mod boot;
mod forges;
mod images;
mod memory;
mod quick;
mod recipes;
mod scan;
mod server;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use crate::{place, tool};

/// Release code without the long link-time optimisation; see the root `Cargo.toml`.
const PROFILE: &str = "bench-fast";

/// Whole runs take minutes each.
const QUICK_ROUNDS: usize = 3;

#[derive(Args)]
pub(crate) struct Bench {
    /// Measure only this; may be given more than once.
    #[arg(long, value_enum)]
    only: Vec<What>,
    /// Also boot simulated machines, test images and recipes, scan a disk, and listen to forges (needs root, the live image, and
    /// minutes).
    #[arg(long)]
    lab: bool,
    /// Write one JSON object per line to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rounds of whatever is measured in rounds; the median counts.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(7..))]
    rounds: u32,
    /// The folder to measure in; it says which disk.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Journal appends beside bare SQLite (goal: half of its rate).
    Journal,
    /// From the end of a stage to the start of the next (goal: p99 of 10 ms).
    Stages,
    /// Whose turn it is among ten thousand waiting runs (goal: 20 ms, and twice as many in little more than twice the time).
    Queue,
    /// From starting the server to its first page (goal: 150 ms).
    Server,
    /// A thousand simulated machines at one server, minutes (goals: p99 of 50 ms, no reading lost, a silent machine
    /// shown within 15 s).
    Agents,
    /// Pull requests over forges of this machine: a comment to its answer (goals: one poll and 2 s; 1 s by a delivery), and five
    /// hundred repositories on each of two forges (goals: within the forges' limits, none left alone). About 13 minutes.
    Forges,
    /// The memory test beside a plain copy.
    Memory,
    /// The surface scan beside fio, badblocks and nwipe, on a loop device.
    Scan,
    /// From power-on to the agent's enrolment, on simulated machines (goal: 45 s).
    Boot,
    /// Installer images: a marker to its answer (goal: p99 of 20 ms), watching beside bare QEMU (goal: 2 %), a saved
    /// machine to running (goal: 0.5 s), the reference installer through all stages (goal: 360 s).
    Images,
    /// App recipes: whole runs (goals: 30 s, 60 s with a database), beside a bare deployment (goal: 10 s over it), an app that
    /// will not run to its verdict (goals: 15 s, 50 s at worst). About 15 minutes.
    Recipes,
    /// App recipes, again and again: one that waits for its database is never condemned, and killed runners leave nothing.
    /// About 15 minutes.
    Endurance,
    /// From the request to the sealed verdict in the profile `quick`, on a simulated machine (goal: 480 s).
    Quick,
}

/// One measured speed, as it is written to the file.
#[derive(Clone, Debug, Serialize, PartialEq)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    peer: Option<&'static str>,
    peer_value: Option<f64>,
    ratio: Option<f64>,
    goal: Goal,
    ok: bool,
    command: String,
    /// What else was seen, for people.
    #[serde(skip)]
    note: String,
}

/// What is promised.
#[derive(Clone, Copy, Debug, Serialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Goal {
    /// The value is at most this.
    AtMost(f64),
    /// The ratio to the peer is at least this.
    RatioAtLeast(f64),
    /// None: for comparison, in the same run.
    None,
}

impl Figure {
    /// A value with an upper limit.
    fn limit(name: impl Into<String>, value: f64, unit: &'static str, at_most: f64, note: String) -> Self {
        let goal = Goal::AtMost(at_most);
        let (peer, peer_value, ratio) = (None, None, None);
        let (name, command) = (name.into(), String::new());
        Self { name, value, unit, peer, peer_value, ratio, goal, ok: goal.is_met(value, None), command, note }
    }
}

impl Goal {
    /// A number that could not be measured meets nothing.
    fn is_met(self, value: f64, ratio: Option<f64>) -> bool {
        match self {
            Self::AtMost(limit) => value.is_finite() && value <= limit,
            Self::RatioAtLeast(limit) => ratio.is_some_and(|ratio| ratio.is_finite() && ratio >= limit),
            Self::None => true,
        }
    }
}

pub(crate) fn run(options: &Bench) -> Result<()> {
    let wanted = |what: What| match options.only.as_slice() {
        [] => {
            !matches!(
                what,
                What::Boot
                    | What::Forges
                    | What::Images
                    | What::Recipes
                    | What::Endurance
                    | What::Quick
                    | What::Scan
            ) || options.lab
        }
        only => only.contains(&what),
    };
    tool::end_with_children()?;
    let mut figures = Vec::new();
    if [What::Journal, What::Stages, What::Queue, What::Server, What::Agents, What::Forges]
        .into_iter()
        .any(wanted)
    {
        let bench = Programs::build()?;
        let folder = Folder::make(options.folder.as_deref())?;
        if wanted(What::Journal) {
            figures.extend(journal(&bench, &folder, options.rounds)?.map(|figure| ("journal", figure)));
        }
        if wanted(What::Stages) {
            figures.push(("stages", stages(&bench, &folder)?));
        }
        if wanted(What::Queue) {
            figures.extend(queue(&bench, options.rounds)?.map(|figure| ("queue", figure)));
        }
        if wanted(What::Server) {
            figures.push(("server", server::measure(&bench.assay, &folder.sub("server")?, options.rounds)?));
        }
        if wanted(What::Agents) {
            let measured = agents::figures(&bench.agents, &bench.assay, &folder.sub("agents")?)?;
            figures.extend(measured.into_iter().map(|figure| ("agents", figure)));
        }
        if wanted(What::Forges) {
            let measured =
                forges::figures(&bench.forges, &bench.assay, &folder.sub("forges")?, options.rounds)?;
            figures.extend(measured.into_iter().map(|figure| ("forges", figure)));
        }
    }
    if wanted(What::Memory) {
        figures.push(("memory", memory::measure(options.rounds)?));
    }
    if wanted(What::Scan) {
        let folder = Folder::make(options.folder.as_deref())?;
        figures.extend(scan::measure(&folder.0, options.rounds)?.into_iter().map(|figure| ("scan", figure)));
    }
    if wanted(What::Images) {
        let folder = Folder::make(options.folder.as_deref())?;
        let measured = images::measure(&folder, options.rounds)?;
        figures.extend(measured.into_iter().map(|figure| ("images", figure)));
    }
    if wanted(What::Recipes) {
        let folder = Folder::make(options.folder.as_deref())?;
        figures.extend(recipes::measure(&folder)?.into_iter().map(|figure| ("recipes", figure)));
    }
    if wanted(What::Endurance) {
        let folder = Folder::make(options.folder.as_deref())?;
        figures.extend(recipes::endurance(&folder)?.into_iter().map(|figure| ("endurance", figure)));
    }
    if wanted(What::Boot) {
        figures.extend(boot::measure()?.into_iter().map(|figure| ("boot", figure)));
    }
    if wanted(What::Quick) {
        figures.push(("quick", quick::measure(QUICK_ROUNDS)?));
    }
    let figures: Vec<Figure> = figures
        .into_iter()
        .map(|(only, figure)| Figure { command: format!("cargo xtask bench --only {only}"), ..figure })
        .collect();
    print!("{}", table(&figures));
    if let Some(path) = &options.json {
        fs::write(path, lines(&figures)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let missed: Vec<&str> = figures.iter().filter(|f| !f.ok).map(|f| f.name.as_str()).collect();
    if figures.is_empty() || !missed.is_empty() {
        bail!("{} of {} figures miss their goal: {}", missed.len(), figures.len(), missed.join(", "));
    }
    Ok(())
}

fn journal(bench: &Programs, folder: &Folder, rounds: u32) -> Result<[Figure; 2]> {
    let said =
        measure(&bench.journal, &[folder.sub("journal")?.as_os_str().to_owned(), rounds.to_string().into()])?;
    let figure = |way: &str, name: &str, goal: Goal| {
        let said = &said[way];
        let ratio = number(said, "ratio")?;
        Ok::<_, anyhow::Error>(Figure {
            name: name.into(),
            value: number(said, "value")?,
            unit: "1/s",
            peer: Some("bare SQLite inserts of the same rows, a commit each"),
            peer_value: Some(number(said, "peer_value")?),
            ratio: Some(ratio),
            goal,
            ok: goal.is_met(f64::NAN, Some(ratio)),
            command: String::new(),
            note: format!("median of {rounds} rounds, {} rows", said["rows"]),
        })
    };
    Ok([
        figure("together", "journal appends, 20 runs at once", Goal::RatioAtLeast(0.5))?,
        figure("alone", "journal appends, one after the other", Goal::None)?,
    ])
}

fn stages(bench: &Programs, folder: &Folder) -> Result<Figure> {
    let said = measure(&bench.stages, &[folder.sub("stages")?.as_os_str().to_owned(), "330".into()])?;
    let note = format!(
        "p50 {:.1} ms, worst {:.1} ms, {} samples",
        number(&said, "median")?,
        number(&said, "worst")?,
        said["samples"]
    );
    Ok(Figure::limit("stage end to next stage start, p99", number(&said, "value")?, "ms", 10.0, note))
}

fn queue(bench: &Programs, rounds: u32) -> Result<[Figure; 2]> {
    let said = measure(&bench.queue, &["bench".into(), rounds.to_string().into()])?;
    let of = |waiting: &str| number(&said["sizes"], waiting);
    let (half, whole) = (of("10000")?, of("20000")?);
    let note = format!(
        "median of {rounds}; {:.1} ms for 2,500 runs, {:.1} for 5,000, {whole:.1} for 20,000",
        of("2500")?,
        of("5000")?
    );
    Ok([
        Figure::limit("whose turn it is, 10,000 waiting runs", half, "ms", 20.0, note.clone()),
        Figure::limit("time for 20,000 waiting runs, of that for 10,000", whole / half, "times", 3.0, note),
    ])
}

/// Runs one measuring program; what it prints on stdout is its result.
fn measure(program: &Path, args: &[std::ffi::OsString]) -> Result<Value> {
    let output = Command::new(program)
        .args(args)
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("{} failed ({}); its words stand above", program.display(), output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{} printed no result", program.display()))
}

fn number(said: &Value, name: &str) -> Result<f64> {
    said[name].as_f64().with_context(|| format!("the result has no number `{name}`: {said}"))
}

/// What is measured, built.
struct Programs {
    assay: PathBuf,
    journal: PathBuf,
    stages: PathBuf,
    agents: PathBuf,
    forges: PathBuf,
    queue: PathBuf,
}

impl Programs {
    /// All at once: cargo would build the dependencies again for every other set of packages.
    fn build() -> Result<Self> {
        let mut build = Command::new(place::cargo());
        build
            .args(["build", "--profile", PROFILE, "-p", "assay", "-p", "assay-store", "-p", "assay-testkit"])
            .args([
                "--bin",
                "assay",
                "--example",
                "bench_journal",
                "--example",
                "bench_stages",
                "--example",
                "bench_agents",
                "--example",
                "bench_forges",
                "--example",
                "queue_simulator",
            ])
            .current_dir(place::repository());
        eprintln!("bench: {}", tool::show(&build));
        tool::run(build)?;
        let results = place::debug_builds().with_file_name(PROFILE);
        let example = |name: &str| results.join("examples").join(name);
        Ok(Self {
            assay: results.join("assay"),
            journal: example("bench_journal"),
            stages: example("bench_stages"),
            agents: example("bench_agents"),
            forges: example("bench_forges"),
            queue: example("queue_simulator"),
        })
    }
}

/// A folder that goes with its measurements.
struct Folder(PathBuf);

impl Folder {
    fn make(parent: Option<&Path>) -> Result<Self> {
        let parent = parent.map_or_else(|| place::repository().join("target"), Path::to_path_buf);
        let path = parent.join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    fn sub(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(problem) = fs::remove_dir_all(&self.0) {
            eprintln!("bench: cannot remove {}: {problem}", self.0.display());
        }
    }
}

/// The middle one; not a number when there is none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn lines(figures: &[Figure]) -> Result<String> {
    let mut out = String::new();
    for figure in figures {
        writeln!(out, "{}", serde_json::to_string(figure)?)?;
    }
    Ok(out)
}

fn table(figures: &[Figure]) -> String {
    let mut out = String::new();
    for figure in figures {
        let goal = match figure.goal {
            Goal::AtMost(limit) => format!("at most {limit} {}", figure.unit),
            Goal::RatioAtLeast(limit) => format!("ratio at least {limit}"),
            Goal::None => "none".to_owned(),
        };
        let _ = write!(
            out,
            "{:4} {}: {:.1} {}",
            if figure.ok { "ok" } else { "MISS" },
            figure.name,
            figure.value,
            figure.unit
        );
        if let (Some(peer), Some(value), Some(ratio)) = (figure.peer, figure.peer_value, figure.ratio) {
            let _ = write!(out, ", {peer} {value:.1}, ratio {ratio:.2}");
        }
        let _ = writeln!(out, " (goal: {goal}; {})", figure.note);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_missed_or_not_measured() {
        assert!(Goal::AtMost(10.0).is_met(10.0, None));
        assert!(!Goal::AtMost(10.0).is_met(10.1, None));
        assert!(!Goal::AtMost(10.0).is_met(f64::NAN, None));
        assert!(Goal::RatioAtLeast(0.5).is_met(1.0, Some(0.5)));
        assert!(!Goal::RatioAtLeast(0.5).is_met(1.0, Some(0.49)));
        assert!(!Goal::RatioAtLeast(0.5).is_met(1.0, Some(f64::NAN)));
        assert!(!Goal::RatioAtLeast(0.5).is_met(1.0, None));
    }

    #[test]
    fn the_middle_counts_and_none_is_no_number() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_figure_is_shown_and_written_with_its_goal() {
        let late = Figure::limit("cold start", 151.25, "ms", 150.0, "9 starts".into());
        let shown = table(std::slice::from_ref(&late));
        assert_eq!(shown, "MISS cold start: 151.2 ms (goal: at most 150 ms; 9 starts)\n");
        let written: Value = serde_json::from_str(&lines(&[late]).expect("plain data")).expect("one line");
        assert_eq!(written["goal"], serde_json::json!({ "at_most": 150.0 }));
        assert_eq!(written["ok"], false);
        let keys: Vec<_> = written.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["name", "value", "unit", "peer", "peer_value", "ratio", "goal", "ok", "command"]);
    }
}
