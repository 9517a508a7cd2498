//! `assay ab`: two builds of Assay at two commits of a recipe, to say whether the recipe, Assay, the world or chance is to blame.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use assay_model::Sha256;
use assay_pipelines::recipe::harness;
use assay_pipelines::recipe::over_time::Results;
use assay_pipelines::recipe::over_time::ab::{
    Answer, Cell, CellOutcome, Comparison, Table, Try, TryOutcome, wants_another,
};
use assay_recipe::versions::Checkout;
use clap::Args;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::children::{Asked, Child};
use crate::commands::out::write_json;
use crate::commands::told_to_stop;
use crate::exit::Exit;
use crate::ui;

#[derive(Args)]
pub(crate) struct Ab {
    /// The recipe's folder, a checkout.
    folder: PathBuf,
    /// A build of Assay, the old one first; give it twice.
    #[arg(long, value_name = "PROGRAM", required = true)]
    harness: Vec<PathBuf>,
    /// A commit, branch or tag of the recipe, the old one first; once or twice [default: the folder as it is]
    #[arg(long, value_name = "REVISION")]
    commit: Vec<String>,
    /// How often a cell that is not green is tried before it counts.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10))]
    tries: u32,
    /// What chance is drawn from, in every run.
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// The folder for everything that the runs leave.
    #[arg(long, value_name = "FOLDER", default_value = "assay-ab")]
    out: PathBuf,
    #[command(flatten)]
    asked: Asked,
    /// Print JSON on stdout.
    #[arg(long)]
    json: bool,
}

/// The file in the output folder with the answer, and what is printed as JSON.
const ANSWER: &str = "ab.json";

impl Ab {
    pub(crate) async fn run(self) -> Result<Exit> {
        ensure!(
            self.harness.len() == 2,
            "--harness is given twice: the old build of Assay, then the new one"
        );
        ensure!(self.commit.len() <= 2, "--commit is given at most twice: the old one, then the new one");
        let folder = self.folder.canonicalize().with_context(|| self.folder.display().to_string())?;
        let out = std::path::absolute(&self.out).with_context(|| self.out.display().to_string())?;
        let mut commits: Vec<Option<String>> = Vec::new();
        for revision in &self.commit {
            commits.push(Some(Checkout::open(&folder).await?.commit(revision).await?));
        }
        if commits.is_empty() {
            commits.push(None);
        }
        let mut builds = Vec::new();
        for program in &self.harness {
            let program = program.canonicalize().with_context(|| program.display().to_string())?;
            let digest = harness::digest(&program).with_context(|| program.display().to_string())?;
            builds.push((program, digest));
        }
        let (stop, stopping) = watch::channel(false);
        let work = self.cells(&folder, &out, &builds, &commits, &stopping);
        tokio::pin!(work);
        let cells = tokio::select! {
            done = &mut work => done?,
            () = told_to_stop() => {
                ui::say("stopping: the stacks are taken down");
                let _ = stop.send(true);
                // Every run puts away what it made before this ends.
                let _ = work.await;
                return Ok(Exit::NoResult);
            }
        };
        let at = |build: usize, commit: usize| {
            cells[build * commits.len() + commit.min(commits.len() - 1)].outcome
        };
        let table = Table { old_old: at(0, 0), old_new: at(0, 1), new_old: at(1, 0), new_new: at(1, 1) };
        let answer = Answer::of(table);
        let sentence = answer.sentence().to_owned();
        let told = Comparison { format: 1, recipe: folder.clone(), answer, sentence, table, cells };
        write_json(&out.join(ANSWER), &told)?;
        if self.json {
            ui::json(&told)?;
        } else {
            print(&told.cells, answer);
        }
        Ok(match answer {
            Answer::NothingRegressed => Exit::Ok,
            Answer::NoAnswer => Exit::NoResult,
            Answer::Flaky => Exit::Flaky,
            _ => Exit::Fail,
        })
    }

    /// Every build at every commit, so many at once as are allowed.
    async fn cells(
        &self,
        folder: &Path,
        out: &Path,
        builds: &[(PathBuf, Sha256)],
        commits: &[Option<String>],
        stopping: &watch::Receiver<bool>,
    ) -> Result<Vec<Cell>> {
        let slots = Arc::new(Semaphore::new(self.asked.at_once()));
        let mut running = JoinSet::new();
        for (build, (program, digest)) in builds.iter().enumerate() {
            for (place, commit) in commits.iter().enumerate() {
                let name =
                    format!("{}-build-{}-commit", ["old", "new"][build.min(1)], ["old", "new"][place.min(1)]);
                let (program, digest, commit) = (program.clone(), *digest, commit.clone());
                let (folder, out) = (folder.to_owned(), out.join(&name));
                let (asked, seed, most) = (self.asked.clone(), self.seed, self.tries);
                let (slots, mut stopping) = (Arc::clone(&slots), stopping.clone());
                let index = build * commits.len() + place;
                running.spawn(async move {
                    let mut tries: Vec<Try> = Vec::new();
                    let outcomes = |tries: &[Try]| tries.iter().map(|one| one.outcome).collect::<Vec<_>>();
                    while !*stopping.borrow() && wants_another(&outcomes(&tries), most) {
                        let _slot = slots.acquire().await.context("a slot")?;
                        let out = out.join(format!("try-{}", tries.len() + 1));
                        let child = Child {
                            program: program.clone(),
                            folder: folder.clone(),
                            commit: commit.clone(),
                            seed,
                            out: out.clone(),
                        };
                        let one = tried(out, asked.run(&child, &mut stopping).await?);
                        ui::say(&format!("{name}: {:?} {}", one.outcome, one.detail));
                        tries.push(one);
                    }
                    let outcome = CellOutcome::of(&outcomes(&tries));
                    let cell = Cell { harness: program, harness_sha256: digest, commit, outcome, tries };
                    anyhow::Ok((index, cell))
                });
            }
        }
        let mut cells = BTreeMap::new();
        while let Some(done) = running.join_next().await {
            let (index, cell) = done.context("a run")??;
            cells.insert(index, cell);
        }
        Ok(cells.into_values().collect())
    }
}

fn tried(folder: PathBuf, came: Result<Results, String>) -> Try {
    match came {
        Ok(results) => {
            let failed = results.code().map(|(stage, code)| format!("{code} at {stage}"));
            let error = || {
                let error =
                    results.stages.iter().find(|stage| stage.verdict == Some(assay_model::Verdict::Error));
                error.map_or_else(String::new, |stage| format!("{}: {}", stage.name, stage.message))
            };
            Try {
                folder,
                outcome: TryOutcome::of(&results),
                detail: failed.unwrap_or_else(error),
                images: results
                    .images
                    .iter()
                    .map(|image| (image.reference.clone(), image.id.clone()))
                    .collect(),
            }
        }
        Err(why) => Try { folder, outcome: TryOutcome::NoVerdict, detail: why, images: BTreeMap::new() },
    }
}

fn print(cells: &[Cell], answer: Answer) {
    ui::line(answer.sentence());
    ui::line("");
    let row = |cell: &Cell| {
        let details: Vec<&str> =
            cell.tries.iter().map(|one| one.detail.as_str()).filter(|told| !told.is_empty()).collect();
        vec![
            format!("{} ({})", cell.harness.display(), &cell.harness_sha256.to_string()[..12]),
            cell.commit
                .as_ref()
                .map_or_else(|| "the folder as it is".to_owned(), |commit| commit.chars().take(12).collect()),
            cell.outcome.as_str().to_owned(),
            cell.tries.len().to_string(),
            details.join(" / "),
        ]
    };
    ui::table(&["HARNESS", "COMMIT", "OUTCOME", "TRIES", "WHAT"], &cells.iter().map(row).collect::<Vec<_>>());
}
