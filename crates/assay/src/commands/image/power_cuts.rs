//! `assay image power-cuts`: one installation, recorded write by write, and a machine booted from what every cut of power
//! in it would leave.
//!
//! No run and no server: this is not one verdict about an image but thousands of small ones about its installer, and it
//! takes the time that it takes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use assay_model::power_cuts::{Became, CutsVerdict, PowerCuts};
use assay_pipelines::image::bench::{Explore, Explored, explore};
use assay_pipelines::image::{ImageSpec, Profile};
use clap::Args;

use crate::commands::local::benches;
use crate::commands::told_to_stop;
use crate::exit::Exit;
use crate::ui;

/// The longest list on a terminal; the files have all.
const SHOWN: usize = 60;

#[derive(Args)]
pub(crate) struct Cuts {
    /// The image.
    image: PathBuf,
    /// Its profile: how the installation ends, and under [power-cut] what may be found after a cut.
    #[arg(long, short, value_name = "TOML")]
    profile: PathBuf,
    /// Boot so many different states at most: the first, the last, and evenly between. What was not booted is said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// How many machines run at once. In software emulation they take each other's time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,
    /// Another firmware than the profile's: bios, uefi or secure-boot.
    #[arg(long)]
    firmware: Option<String>,
    /// The folder for power-cuts.html, power-cuts.json and transcripts.
    #[arg(long, value_name = "FOLDER", default_value = "assay-power-cuts")]
    out: PathBuf,
    /// Where the recording and the disks lie meanwhile: some times what the installation writes [default: a temporary folder]
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,
    /// What chance is drawn from (hardware addresses).
    #[arg(long)]
    seed: Option<u32>,
    /// Print power-cuts.json on stdout.
    #[arg(long)]
    json: bool,
}

impl Cuts {
    pub(crate) async fn run(self) -> Result<Exit> {
        let spec = self.spec()?;
        let scratch;
        let work = if let Some(work) = &self.work {
            work.clone()
        } else {
            scratch =
                tempfile::Builder::new().prefix("assay-image-").tempdir().context("a scratch folder")?;
            scratch.path().to_owned()
        };
        let settings = benches(&work)?;
        let how = Explore { jobs: self.jobs as usize, limit: self.limit.map(|limit| limit as usize) };
        ui::say(&format!("power cuts of {} · seed {}", self.image.display(), spec.seed));
        let began = std::time::Instant::now();
        let progress = |step: &str| ui::say(&format!("{:7.1} s  {step}", began.elapsed().as_secs_f64()));
        let explored = match explore(&settings, &spec, &how, &progress, told_to_stop()).await {
            Ok(explored) => explored,
            // An installation that does not succeed is what `assay image test` is for.
            Err(why) => {
                ui::say(&format!("no result: {why}"));
                return Ok(Exit::NoResult);
            }
        };
        write(&explored, &self.out)?;
        if self.json {
            ui::json(&explored.cuts)?;
        } else {
            show(&explored.cuts);
        }
        ui::say(&format!("report: {}", self.out.join("power-cuts.html").display()));
        Ok(exit(explored.cuts.verdict()))
    }

    fn spec(&self) -> Result<ImageSpec> {
        let at = |path: &Path| path.display().to_string();
        let source = std::fs::read_to_string(&self.profile).with_context(|| at(&self.profile))?;
        let mut profile =
            Profile::from_toml(&source).map_err(|e| anyhow::anyhow!("{}:\n{e}", at(&self.profile)))?;
        if let Some(firmware) = &self.firmware {
            profile.machine.firmware = serde_json::from_value(serde_json::Value::String(firmware.clone()))
                .map_err(|_| anyhow::anyhow!("--firmware {firmware}: bios, uefi or secure-boot"))?;
        }
        profile.checked().map_err(|e| anyhow::anyhow!("{e}"))?;
        let image = std::path::absolute(&self.image).with_context(|| at(&self.image))?;
        anyhow::ensure!(image.is_file(), "{}: not a file", at(&self.image));
        let folder = std::path::absolute(&self.profile)?.parent().map(Path::to_owned).unwrap_or_default();
        let seed = self.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_fields().0);
        let cell = std::collections::BTreeMap::new();
        let on = None;
        Ok(ImageSpec {
            image,
            sha256: None,
            profile,
            folder,
            cell,
            on,
            main: false,
            from_phase: None,
            seed,
            source: None,
        })
    }
}

/// The page, the data and the transcripts.
fn write(explored: &Explored, folder: &Path) -> Result<()> {
    let files = folder.join("artifacts");
    std::fs::create_dir_all(&files).with_context(|| files.display().to_string())?;
    let mut json = serde_json::to_string_pretty(&explored.cuts)?;
    json.push('\n');
    let page = assay_report::power_cuts_html(&explored.cuts);
    for (name, text) in [("power-cuts.html", page), ("power-cuts.json", json)] {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    for (name, content) in &explored.artifacts {
        let path = files.join(name);
        std::fs::write(&path, content).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn show(cuts: &PowerCuts) {
    ui::line("");
    let stretches = cuts.stretches();
    let at = |number: usize| cuts.cuts.get(number).map_or(0.0, |cut| cut.at_s);
    let rows: Vec<_> = stretches
        .iter()
        .take(SHOWN)
        .map(|one| {
            let why = cuts.states.get(one.state).map_or("", |state| state.why.as_str());
            vec![
                format!("{:.1}–{:.1} s", at(one.first), at(one.last)),
                one.phase.clone(),
                format!("{} of {}", one.booted, one.moments),
                one.became.words().to_owned(),
                assay_model::text::clean_to(why, 100),
            ]
        })
        .collect();
    ui::table(&["CUT", "AFTER PHASE", "BOOTED", "LEAVES", "SEEN"], &rows);
    if stretches.len() > SHOWN {
        ui::line(&format!("and {} more stretches in the report", stretches.len() - SHOWN));
    }
    ui::line("");
    for became in Became::ALL {
        let (states, moments) = cuts.count(became);
        if states > 0 {
            let (states, moments) =
                (assay_model::text::plural(states, "state"), assay_model::text::plural(moments, "moment"));
            ui::line(&format!("{:<14} {states}, {moments}", became.words()));
        }
    }
    for problem in &cuts.problems {
        ui::line(&format!("  {}", assay_model::text::clean_to(problem, 400)));
    }
    for one in &cuts.not_covered {
        ui::line(&format!("not covered: {one}"));
    }
    ui::line(&format!("{}. {}", cuts.verdict().headline(), cuts.why()));
}

const fn exit(verdict: CutsVerdict) -> Exit {
    match verdict {
        CutsVerdict::Pass | CutsVerdict::PassInPart => Exit::Ok,
        CutsVerdict::Fail => Exit::Fail,
        CutsVerdict::NoResult => Exit::NoResult,
    }
}
