//! Recipes: how long whole runs take, what Assay costs beside a bare deployment, how soon a crash loop is told, whether an app
//! that waits is left in peace, and what stays of runners that were killed.
//!
//! Recipes are the canaries of `examples/recipes`. Everything is done by the command that authors have, `assay recipe test`; times
//! are those that they wait, from typing it to the verdict, with control plane, Docker daemon and images.

mod bare;
mod killed;
mod large;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Figure, Folder, Goal, PROFILE, median};
use crate::{place, tool};

/// Rounds of whole runs; the median counts.
const ROUNDS: usize = 3;
/// Seconds, end to end: an app without a database, and one with it.
const TRIVIAL_S: f64 = 30.0;
const DATABASE_S: f64 = 60.0;
/// Seconds from typing the command to the verdict about an app that will not run.
const CRASH_TYPICAL_S: f64 = 15.0;
const CRASH_WORST_S: f64 = 50.0;
/// Canaries that will never run, each in another way.
const CRASHES: [&str; 8] = [
    "crash-on-boot",
    "exit-0-loop",
    "slow-flap",
    "failing-one-shot",
    "unhealthy",
    "unhealthy-ends-well",
    "bad-mount",
    "unschedulable",
];
/// How often the app that waits for its database is installed; two at a time, since most of it is waiting.
const WAITS: usize = 20;
const WAITS_AT_ONCE: usize = 2;

pub(super) fn measure(folder: &Folder) -> Result<Vec<Figure>> {
    let bench = Bench::make(folder.sub("recipes")?)?;
    let trivial = told(whole(&bench, "trivial recipe, all stages", "static-site", TRIVIAL_S)?);
    let a_run_s = trivial.value;
    let mut figures =
        vec![trivial, told(whole(&bench, "database-backed recipe, all stages", "ledger", DATABASE_S)?)];
    figures.push(told(large::measure(&bench)?));
    figures.push(told(bare::measure(&bench, ROUNDS)?));
    figures.extend(crashes(&bench)?.map(told));
    figures.push(told(together(&bench, a_run_s)?));
    Ok(figures)
}

/// What has to come out well every time: counts, not times.
pub(super) fn endurance(folder: &Folder) -> Result<Vec<Figure>> {
    let bench = Bench::make(folder.sub("endurance")?)?;
    let waited = told(waits(&bench)?);
    let a_run_s = bench.test("static-site", "pass", &[])?.seconds;
    Ok(vec![waited, told(killed::measure(&bench, a_run_s)?)])
}

/// Says a figure as soon as it is known: all of them take a quarter of an hour.
fn told(figure: Figure) -> Figure {
    eprintln!("bench: {}: {:.1} {} ({})", figure.name, figure.value, figure.unit, figure.note);
    figure
}

/// What the figures share.
struct Bench {
    assay: PathBuf,
    folder: PathBuf,
    images: PathBuf,
}

/// A run that came to its end.
struct Tested {
    seconds: f64,
    report: Value,
}

impl Bench {
    fn make(folder: PathBuf) -> Result<Self> {
        if !place::is_root() {
            bail!("a Docker daemon of a run's own needs root: sudo -E cargo xtask bench --only recipes");
        }
        let mut build = Command::new(place::cargo());
        build.args(["build", "--profile", PROFILE, "-p", "assay", "--bin", "assay"]);
        build.current_dir(place::repository());
        eprintln!("bench: {}", tool::show(&build));
        tool::run(build)?;
        let images = folder.join("images");
        let mut build = Command::new(place::repository().join("examples/recipes/images/build"));
        build.arg("--out").arg(&images).stdout(Stdio::null());
        tool::run(build)?;
        let assay = place::debug_builds().with_file_name(PROFILE).join("assay");
        Ok(Self { assay, folder, images })
    }

    /// A canary's repository, made once.
    fn checkout(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        if !folder.exists() {
            let mut checkout = Command::new(place::repository().join("examples/recipes/checkout"));
            checkout.arg(name).arg(&folder).stdout(Stdio::null());
            tool::run(checkout)?;
        }
        Ok(folder)
    }

    /// `assay recipe test CANARY …`, with its evidence in the folder `out` of the bench's own.
    fn command(&self, name: &str, out: &str, more: &[&str]) -> Result<Command> {
        let mut test = Command::new(&self.assay);
        test.args(["recipe", "test"]).arg(self.checkout(name)?).arg("--images").arg(&self.images);
        test.arg("--out").arg(self.folder.join(out)).args(more);
        test.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(test)
    }

    /// Runs it to its verdict, which has to be this one.
    fn test(&self, name: &str, result: &str, more: &[&str]) -> Result<Tested> {
        let mut test = self.command(name, "out", &[&["--json"], more].concat())?;
        let began = Instant::now();
        let child = test.spawn().context("cannot start assay")?;
        finished(child, began, name, result)
    }
}

/// Waits for a run that was started with `--json`.
fn finished(child: Child, began: Instant, name: &str, result: &str) -> Result<Tested> {
    let output = child.wait_with_output().context("assay's end")?;
    let seconds = began.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("{name} left no report:\n{said}"))?;
    if report["run"]["result"] != result {
        bail!("{name} came to {} and not to {result}:\n{said}", report["run"]["result"]);
    }
    Ok(Tested { seconds, report })
}

/// `Install 7 s, Upgrade 12 s`: where the time went.
fn stages(report: &Value) -> String {
    let took =
        |stage: &Value| Some(format!("{} {:.0} s", stage["name"].as_str()?, stage["seconds"].as_f64()?));
    report["stages"].as_array().into_iter().flatten().filter_map(took).collect::<Vec<_>>().join(", ")
}

fn whole(bench: &Bench, what: &str, canary: &str, limit: f64) -> Result<Figure> {
    let mut seconds = Vec::new();
    let mut last = String::new();
    for _ in 0..ROUNDS {
        let tested = bench.test(canary, "pass", &[])?;
        seconds.push(tested.seconds);
        last = stages(&tested.report);
    }
    Ok(Figure::limit(what, median(seconds), "s", limit, format!("median of {ROUNDS}; the last: {last}")))
}

/// From typing the command to the verdict about Install; the wait for the end of the daemon is not in it.
fn crashes(bench: &Bench) -> Result<[Figure; 2]> {
    let mut took = Vec::new();
    for canary in CRASHES {
        let tested = bench.test(canary, "fail", &["--stages", "Lint"])?;
        let of = |name: &str| {
            let stages = tested.report["stages"].as_array().into_iter().flatten();
            stages
                .filter(|stage| stage["name"] == name)
                .find_map(|stage| stage["seconds"].as_f64())
                .unwrap_or(0.0)
        };
        took.push((canary, tested.seconds - of("Teardown") - of("Reporting")));
    }
    let words: Vec<String> =
        took.iter().map(|(canary, seconds)| format!("{canary} {seconds:.1} s")).collect();
    let seconds: Vec<f64> = took.iter().map(|(_, seconds)| *seconds).collect();
    let worst = seconds.iter().copied().fold(0.0, f64::max);
    let note = format!("median of {}: {}", CRASHES.len(), words.join(", "));
    let slowest = took.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or("none", |(canary, _)| canary);
    Ok([
        Figure::limit(
            "an app that will not run to its verdict, typically",
            median(seconds),
            "s",
            CRASH_TYPICAL_S,
            note,
        ),
        Figure::limit(
            "an app that will not run to its verdict, at worst",
            worst,
            "s",
            CRASH_WORST_S,
            slowest.to_owned(),
        ),
    ])
}

/// An app that dies until its database is there is none that crashes.
fn waits(bench: &Bench) -> Result<Figure> {
    let canary = "waits-for-database";
    let (mut condemned, mut seconds) = (0.0, Vec::new());
    for _ in 0..WAITS / WAITS_AT_ONCE {
        let began = Instant::now();
        let mut running = Vec::new();
        for place in 0..WAITS_AT_ONCE {
            let out = format!("waits-{place}");
            let mut test = bench.command(canary, &out, &["--json", "--stages", "Lint"])?;
            running.push(test.spawn().context("cannot start assay")?);
        }
        // All of them, also after one that was condemned: none may outlive the measurement.
        for ended in
            running.into_iter().map(|child| finished(child, began, canary, "pass")).collect::<Vec<_>>()
        {
            match ended {
                Ok(tested) => seconds.push(tested.seconds),
                Err(problem) => {
                    eprintln!("bench: {problem:#}");
                    condemned += 1.0;
                }
            }
        }
    }
    let note = format!("of {WAITS} installations, {WAITS_AT_ONCE} at a time, each {:.0} s", median(seconds));
    Ok(Figure::limit("an app that waits for its database is condemned", condemned, "times", 0.0, note))
}

/// Two whole runs at once; both have to pass.
fn together(bench: &Bench, alone_s: f64) -> Result<Figure> {
    let began = Instant::now();
    let canaries = ["static-site", "dangling-depends-on"];
    let mut running = Vec::new();
    for canary in canaries {
        // The same seed: the same names and addresses in both.
        let test = bench
            .command(canary, &format!("{canary}-out"), &["--json", "--seed", "7"])?
            .spawn()
            .context("cannot start assay")?;
        running.push((canary, test));
    }
    let ended: Vec<_> =
        running.into_iter().map(|(canary, child)| finished(child, began, canary, "pass")).collect();
    let mut slowest: f64 = 0.0;
    for tested in ended {
        slowest = slowest.max(tested?.seconds);
    }
    Ok(Figure {
        name: "two whole runs at once, both pass".to_owned(),
        value: slowest,
        unit: "s",
        peer: Some("one alone"),
        peer_value: Some(alone_s),
        ratio: Some(slowest / alone_s),
        goal: Goal::None,
        ok: true,
        command: String::new(),
        note: "the slower one; an error when one does not pass".to_owned(),
    })
}

/// Removes a folder of which nothing is kept.
fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}
