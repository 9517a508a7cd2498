//! Installer images: how fast a marker is acted upon, what watching costs beside bare QEMU, how fast a saved machine
//! wakes, what it saves to begin late, and how long the reference installer takes through all stages.

mod late;
mod os_autoinst;
mod reaction;
mod watching;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Figure, Folder, PROFILE, median, number};
use crate::{place, tool};

/// The line by which the reference installer's live system says that it is up.
const UP: &str = "[zeta-first-boot] started";
/// Seconds, in software emulation on two cores.
const WHOLE_S: f64 = 360.0;
/// Seconds.
const WAKE_S: f64 = 0.5;
/// A whole run takes minutes.
const WHOLE_ROUNDS: usize = 3;

pub(super) fn measure(folder: &Folder, rounds: u32) -> Result<Vec<Figure>> {
    let programs = Programs::build()?;
    let folder = folder.sub("images")?;
    let iso = folder.join("reference.iso");
    let mut build = Command::new(place::repository().join("examples/images/reference/build"));
    build.arg(&iso).stdout(Stdio::null());
    tool::run(build)?;
    let bench = Bench { assay: programs.assay, folder, iso };
    let mut figures = vec![
        reaction::measure(&bench)?,
        watching::measure(&bench, rounds)?,
        waking(&bench, &programs.wake, rounds)?,
    ];
    figures.push(late::measure(&bench)?);
    figures.extend(os_autoinst::measure(&bench, rounds)?);
    figures.push(whole(&bench)?);
    Ok(figures)
}

/// What the figures share.
struct Bench {
    assay: PathBuf,
    folder: PathBuf,
    iso: PathBuf,
}

/// One run of `assay image test`, finished.
struct Tested {
    report: Value,
    out: PathBuf,
}

impl Bench {
    /// Tests an image by this profile; an error unless it passes.
    fn test(&self, name: &str, iso: &Path, profile: &Path, more: &[&str]) -> Result<Tested> {
        let out = self.folder.join(name);
        let mut test = Command::new(&self.assay);
        test.args(["image", "test"]).arg(iso).arg("--profile").arg(profile).arg("--out").arg(&out).args(more);
        let output = test.stdin(Stdio::null()).output().context("cannot start assay")?;
        if !output.status.success() {
            bail!(
                "{} did not pass ({}):\n{}",
                tool::show(&test),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let report = fs::read_to_string(out.join("report.json")).context("the run left no report")?;
        Ok(Tested { report: serde_json::from_str(&report)?, out })
    }

    /// A profile, written to a file.
    fn profile(&self, name: &str, toml: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.toml"));
        fs::write(&path, toml).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Tested {
    /// Whether its machine ran in software emulation, as Prepare says.
    fn is_emulated(&self) -> bool {
        self.report["stages"][0]["message"].as_str().is_some_and(|said| said.contains("software emulation"))
    }

    /// The serial console of the machine in which the medium was: seconds since it was let go, and the line.
    fn serial(&self) -> Result<Vec<(f64, String)>> {
        let text =
            fs::read_to_string(self.out.join("artifacts/installer-serial.txt")).context("no transcript")?;
        Ok(text.lines().filter_map(stamped).collect())
    }
}

/// `   31.862 [zeta-first-boot] started`
fn stamped(line: &str) -> Option<(f64, String)> {
    let (seconds, line) = line.trim_start().split_once(' ')?;
    Some((seconds.parse().ok()?, line.to_owned()))
}

fn waking(bench: &Bench, program: &Path, rounds: u32) -> Result<Figure> {
    let folder = bench.folder.join("wake");
    fs::create_dir(&folder)?;
    let args = [bench.iso.clone().into(), UP.into(), folder.into(), rounds.to_string().into()];
    let said = super::measure(program, &args)?;
    let note = format!(
        "median of {rounds}, worst {:.2} s; {} MiB saved in {:.2} s",
        number(&said, "worst")?,
        said["mib"],
        number(&said, "saving")?
    );
    Ok(Figure::limit("saved machine to running", number(&said, "value")?, "s", WAKE_S, note))
}

/// The reference installer through all stages, Reconcile included.
fn whole(bench: &Bench) -> Result<Figure> {
    let profile = place::repository().join("examples/images/reference.toml");
    let mut seconds = Vec::new();
    let mut stages = String::new();
    for round in 0..WHOLE_ROUNDS {
        let began = std::time::Instant::now();
        let tested = bench.test(&format!("whole-{round}"), &bench.iso, &profile, &["--main"])?;
        seconds.push(began.elapsed().as_secs_f64());
        let all = tested.report["stages"].as_array().context("a report without stages")?;
        if let Some(missing) = all.iter().find(|stage| stage["verdict"] != "pass") {
            bail!("{} did not pass: {}", missing["name"], missing["message"]);
        }
        let took =
            |stage: &Value| Some(format!("{} {:.0} s", stage["name"].as_str()?, stage["seconds"].as_f64()?));
        stages = all.iter().filter_map(took).collect::<Vec<_>>().join(", ");
    }
    let note = format!("median of {WHOLE_ROUNDS}; the last: {stages}");
    Ok(Figure::limit("reference installer through all stages", median(seconds), "s", WHOLE_S, note))
}

/// What is measured, built.
struct Programs {
    assay: PathBuf,
    wake: PathBuf,
}

impl Programs {
    fn build() -> Result<Self> {
        let mut build = Command::new(place::cargo());
        build.args(["build", "--profile", PROFILE, "-p", "assay", "-p", "assay-qemu"]);
        build.args(["--bin", "assay", "--example", "bench_wake"]).current_dir(place::repository());
        eprintln!("bench: {}", tool::show(&build));
        tool::run(build)?;
        let results = place::debug_builds().with_file_name(PROFILE);
        Ok(Self { assay: results.join("assay"), wake: results.join("examples/bench_wake") })
    }
}

#[cfg(test)]
mod tests {
    use super::stamped;

    #[test]
    fn a_transcript_s_line_has_its_time_first() {
        let line = stamped("   31.862 [zeta-first-boot] started").expect("a time");
        assert_eq!(line, (31.862, "[zeta-first-boot] started".to_owned()));
        assert_eq!(stamped("no time here"), None);
    }
}
