//! A matrix: every case of a profile, at once as far as this machine has room, and one report over all of them.
//!
//! All cases are queued with the one control plane at once; its queue admits each when a slot and its memory are free.
//! No try is silent: what was run again is counted, and what came out before stays in the report.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use assay_engine::clock::SystemClock;
use assay_model::matrix::{
    FORMAT, Matrix, MatrixAxis, MatrixCase, MatrixTry, QuarantineState, TryVerdict, Worst,
};
use assay_model::report::Report;
use assay_model::{Clock as _, Sha256};
use assay_pipelines::image::Profile;
use assay_pipelines::image::profile::Case;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::case::{self, Common, Held};
use super::earlier;
use super::known::{self, Valued};
use crate::client::Client;
use crate::commands::out;
use crate::exit::Exit;
use crate::ui;

/// The page in a matrix's folder.
const PAGE: &str = "matrix.html";

/// What is asked for.
pub(super) struct Asked<'a> {
    pub(super) common: Common,
    pub(super) profile: &'a Profile,
    /// The cases that are to be run.
    pub(super) cases: Vec<Case>,
    pub(super) retries: u32,
    /// The folder of an earlier matrix, what failed in which is run again.
    pub(super) rerun: Option<&'a Path>,
    pub(super) sha256: Sha256,
}

/// A matrix while it is run.
pub(super) struct Running<'a> {
    asked: Asked<'a>,
    began_at: String,
    /// Every case of the profile, whether it is asked for or not.
    all: Vec<Held>,
    tries: BTreeMap<String, Vec<MatrixTry>>,
}

impl<'a> Running<'a> {
    /// Takes up what an earlier matrix has, and finds out what is to be run.
    pub(super) fn new(asked: Asked<'a>) -> Result<Self> {
        let cases = asked.profile.cases().map_err(|error| anyhow::anyhow!("{error}"))?;
        let (folder, main) = (&asked.common.folder, asked.common.main);
        let from_phase = asked.common.from_phase.as_deref();
        // Now, since files may change while the cases are run.
        let held = cases.into_iter().map(|case| {
            let held_to = case::held_to(&case.profile, folder, main, from_phase)?;
            Ok((case, held_to))
        });
        let all: Vec<Held> = held.collect::<Result<_>>()?;
        let mut tries = BTreeMap::new();
        if let Some(from) = asked.rerun {
            let known = earlier::read(from, asked.sha256)?;
            tries = earlier::carried(&known, from, &asked.common.out, &all, &asked.common.muted);
        }
        let began_at = SystemClock::default().now().rfc3339();
        std::fs::create_dir_all(&asked.common.out).with_context(|| asked.common.out.display().to_string())?;
        Ok(Self { asked, began_at, all, tries })
    }

    /// Runs what is to be run; what is finished is known even if this is dropped in the middle.
    pub(super) async fn run(&mut self, client: &Client) -> Result<()> {
        let rerun = self.asked.rerun.is_some();
        let to_do: Vec<Case> =
            self.asked.cases.iter().filter(|case| !rerun || self.is_open(&case.name)).cloned().collect();
        ui::say(&format!(
            "{} of {} to run, {} at once at most",
            to_do.len(),
            assay_model::text::plural(self.all.len(), "case"),
            assay_model::text::plural(self.asked.common.jobs as usize, "machine"),
        ));
        let common = &self.asked.common;
        let mut running = FuturesUnordered::new();
        // One after the other: the queue takes them in this order.
        for case in &to_do {
            let before =
                self.tries.get(&case.name).and_then(|tries| tries.last()).map_or(0, |last| last.number);
            let summary = case::submit(client, common, case).await?;
            running.push(follow(client, common, case, summary, before + 1));
        }
        let mut left: BTreeMap<&str, u32> =
            to_do.iter().map(|case| (case.name.as_str(), self.asked.retries)).collect();
        while let Some((case, done)) = running.next().await {
            let (one, _) = done.with_context(|| format!("case {}", case.name))?;
            let (verdict, number) = (one.verdict, one.number);
            self.tries.entry(case.name.clone()).or_default().push(one);
            let Some(left) = left.get_mut(case.name.as_str()) else { continue };
            if verdict != TryVerdict::Pass && *left > 0 {
                *left -= 1;
                ui::say(&format!("{}  try {number}: {}; it is run again", case.name, verdict.as_str()));
                let summary = case::submit(client, common, case).await?;
                running.push(follow(client, common, case, summary, number + 1));
            }
        }
        Ok(())
    }

    /// Whether a case has not passed yet.
    fn is_open(&self, name: &str) -> bool {
        let last = self.tries.get(name).and_then(|tries| tries.last());
        last.is_none_or(|last| last.verdict != TryVerdict::Pass)
    }

    /// The matrix as it stands, with the quarantine applied.
    pub(super) fn matrix(&self) -> Matrix {
        let mut cases = Vec::new();
        for (case, held_to) in &self.all {
            cases.push(MatrixCase {
                name: case.name.clone(),
                values: case.cell(),
                held_to: *held_to,
                tries: self.tries.get(&case.name).cloned().unwrap_or_default(),
                excused: None,
            });
        }
        let values: Vec<_> = self.all.iter().map(|(case, _)| case.values.clone()).collect();
        let now = SystemClock::default().now().rfc3339();
        let today = now.get(..10).unwrap_or(&now);
        let mut of_each: Vec<Valued<'_>> =
            cases.iter_mut().zip(&self.all).map(|(case, (of, _))| (case, of.values.as_slice())).collect();
        let quarantine = known::apply(&self.asked.profile.quarantine, today, &mut of_each, &values);
        // What was not asked for is no gap in the answer, and stands in the report all the same where it has tries.
        let asked_for = |case: &MatrixCase| {
            !case.tries.is_empty() || self.asked.cases.iter().any(|asked| asked.name == case.name)
        };
        let not_asked = cases.iter().filter(|case| !asked_for(case)).map(|case| case.name.clone()).collect();
        cases.retain(asked_for);
        let axis = |axis: &assay_pipelines::image::profile::Axis| MatrixAxis {
            name: axis.name.clone(),
            values: axis.values.iter().map(|value| value.name.clone()).collect(),
        };
        let image = self.asked.common.image.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Matrix {
            format: FORMAT,
            name: self.asked.profile.name.clone(),
            image: assay_model::text::clean_to(&image, 200),
            sha256: self.asked.sha256,
            assay: env!("CARGO_PKG_VERSION").to_owned(),
            began_at: self.began_at.clone(),
            ended_at: now,
            axes: self.asked.profile.matrix.iter().map(axis).collect(),
            cases,
            not_asked,
            quarantine,
        }
    }
}

async fn follow<'a>(
    client: &'a Client,
    common: &'a Common,
    case: &'a Case,
    run: assay_api::operator::RunSummary,
    number: u32,
) -> (&'a Case, Result<(MatrixTry, Report)>) {
    (case, case::finish(client, common, case, &run, number).await)
}

/// Writes the matrix into its folder, and as JUnit where that is asked for.
pub(super) fn write(matrix: &Matrix, folder: &Path, junit: Option<&std::path::PathBuf>) -> Result<()> {
    let mut pictures = BTreeMap::new();
    for case in &matrix.cases {
        let red = case.tries.iter().rev().find(|one| one.is_red());
        if let Some(png) = red.and_then(|one| case::last_picture(folder, one)) {
            pictures.insert(case.name.clone(), png);
        }
    }
    let page = folder.join(PAGE);
    std::fs::write(&page, assay_report::matrix_html(matrix, &pictures))
        .with_context(|| page.display().to_string())?;
    let path = folder.join(earlier::FILE);
    let mut text = serde_json::to_string_pretty(matrix)?;
    text.push('\n');
    // Whole or not at all: the next --rerun-failed reads it.
    let beside = folder.join(".matrix.json.new");
    std::fs::write(&beside, text).with_context(|| beside.display().to_string())?;
    std::fs::rename(&beside, &path).with_context(|| path.display().to_string())?;
    if let Some(path) = junit {
        let reports = reports(matrix, folder);
        let text = assay_report::junit_of_matrix(matrix, &reports);
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The report of each case's decisive try, by the case's name.
fn reports(matrix: &Matrix, folder: &Path) -> BTreeMap<String, Report> {
    let report = |one: &MatrixTry| -> Option<Report> {
        serde_json::from_slice(&std::fs::read(folder.join(&one.folder).join("report.json")).ok()?).ok()
    };
    let of = |case: &MatrixCase| Some((case.name.clone(), report(case.decisive()?)?));
    matrix.cases.iter().filter_map(of).collect()
}

/// Prints it for people, and says as annotations what is wrong.
pub(super) fn show(matrix: &Matrix, folder: &Path) {
    ui::line("");
    ui::line(&format!("{} · {} · {}", matrix.name, matrix.image, matrix.counts_in_words()));
    for line in super::grid::lines(matrix) {
        ui::line(&line);
    }
    if !matrix.not_asked.is_empty() {
        ui::line(&format!("  not asked for: {}", matrix.not_asked.join(", ")));
    }
    for case in &matrix.cases {
        for one in case.tries.iter().filter(|one| one.is_red()) {
            let again = if case.tries.len() > 1 { format!(", try {}", one.number) } else { String::new() };
            let code = one.codes.first().map(|code| format!(" {code}")).unwrap_or_default();
            let stage = one.stage.as_deref().unwrap_or("no stage");
            ui::line(&format!(
                "  {}{again}: {}{code} at {stage}: {}",
                case.name,
                one.verdict.as_str(),
                one.message
            ));
            if let Some(next) = &one.next_step {
                ui::line(&format!("           → {next}"));
            }
        }
        if let Some(excuse) = &case.excused {
            ui::line(&format!(
                "  {}: in quarantine until {}, {} looks after it: {}",
                case.name, excuse.until, excuse.owner, excuse.reason
            ));
        }
    }
    for entry in &matrix.quarantine {
        let cases = entry.cases.join(", ");
        let (until, owner) = (&entry.excuse.until, &entry.excuse.owner);
        match entry.state {
            QuarantineState::Over => ui::line(&format!(
                "  the quarantine of {} was over on {until} and its failures count again: {cases}; {owner} looks after it",
                entry.what
            )),
            QuarantineState::NotNeeded => {
                ui::line(&format!(
                    "  warning: the quarantine of {} ({owner}) is not needed: take it out",
                    entry.what
                ));
            }
            QuarantineState::NoSuchCase => ui::line(&format!(
                "  warning: the quarantine of {} ({owner}) speaks of no case that there is: take it out",
                entry.what
            )),
            QuarantineState::Holds | QuarantineState::NotAsked => {}
        }
    }
    ui::say(&format!("one page over all cases: {}", folder.join(PAGE).display()));
}

/// Annotations for a forge: of every case that counts.
pub(super) fn annotate(matrix: &Matrix, folder: &Path) {
    let reports = reports(matrix, folder);
    for case in matrix.cases.iter().filter(|case| case.counts()) {
        if let Some(report) = reports.get(&case.name) {
            out::annotate(report);
        }
    }
}

/// The exit code of a matrix.
pub(super) fn exit(matrix: &Matrix) -> Exit {
    match matrix.worst() {
        Worst::Pass => Exit::Ok,
        Worst::Flaky => Exit::Flaky,
        Worst::NoVerdict => Exit::NoResult,
        Worst::Fail => Exit::Fail,
    }
}
