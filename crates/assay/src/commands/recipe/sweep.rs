//! `assay sweep`: many recipes, held against what was known of them before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use assay_pipelines::recipe::harness::Harness;
use assay_pipelines::recipe::over_time::SCHEMA;
use assay_pipelines::recipe::over_time::sweep::{
    Baseline, Reconciliation, Row, Standing, Swept, next, reconcile,
};
use clap::Args;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::children::{Asked, Child};
use crate::commands::out::write_json;
use crate::commands::told_to_stop;
use crate::exit::Exit;
use crate::ui;

/// The file in the output folder that the next sweep is held against.
const NEXT: &str = "baseline.json";
/// The file beside it with the table, and what is printed as JSON.
const TABLE: &str = "sweep.json";

#[derive(Args)]
pub(crate) struct Sweep {
    /// The recipes' folders.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// The baseline.json of an earlier sweep; without one everything is new.
    #[arg(long, value_name = "JSON")]
    against: Option<PathBuf>,
    /// The folder for everything that the runs leave, and for the next baseline.json.
    #[arg(long, value_name = "FOLDER", default_value = "assay-sweep")]
    out: PathBuf,
    /// What chance is drawn from, in every run.
    #[arg(long, default_value_t = 1)]
    seed: u32,
    #[command(flatten)]
    asked: Asked,
    /// Print JSON on stdout.
    #[arg(long)]
    json: bool,
}

impl Sweep {
    pub(crate) async fn run(self) -> Result<Exit> {
        let baseline = self.against.as_deref().map(read).transpose()?.unwrap_or_default();
        let mut folders: BTreeMap<String, PathBuf> = BTreeMap::new();
        for folder in &self.folders {
            let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let twice = folders.insert(name.clone(), folder);
            ensure!(
                twice.is_none(),
                "two folders have the name {name}: a recipe is known by it, so sweep them apart"
            );
        }
        let out = std::path::absolute(&self.out).with_context(|| self.out.display().to_string())?;
        let harness = tokio::task::spawn_blocking(Harness::running).await?;
        let (stop, stopping) = watch::channel(false);
        let work = self.sweep(&folders, &out, &stopping);
        tokio::pin!(work);
        let swept = tokio::select! {
            done = &mut work => done?,
            () = told_to_stop() => {
                ui::say("stopping: the stacks are taken down; no baseline is written");
                let _ = stop.send(true);
                // Every run puts away what it made before this ends.
                let _ = work.await;
                return Ok(Exit::NoResult);
            }
        };
        let rows = reconcile(&baseline, &swept);
        let path = out.join(NEXT);
        write_json(&path, &next(&baseline, &swept, harness))?;
        let count = |standing| rows.iter().filter(|row| row.standing == standing).count();
        let counts: BTreeMap<String, usize> =
            Standing::ALL.into_iter().map(|one| (one.as_str().to_owned(), count(one))).collect();
        let worse = rows.iter().any(|row| row.standing == Standing::Worse);
        let unknown = rows.iter().any(|row| row.standing == Standing::Unknown);
        let told = Reconciliation { format: 1, counts, rows, next: path };
        write_json(&out.join(TABLE), &told)?;
        if self.json {
            ui::json(&told)?;
        } else {
            print(&told.rows, &told.counts);
            ui::say(&format!("the next sweep: `assay sweep --against {}`", told.next.display()));
        }
        Ok(match (worse, unknown) {
            (true, _) => Exit::Fail,
            (false, true) => Exit::NoResult,
            (false, false) => Exit::Ok,
        })
    }

    async fn sweep(
        &self,
        folders: &BTreeMap<String, PathBuf>,
        out: &Path,
        stopping: &watch::Receiver<bool>,
    ) -> Result<BTreeMap<String, Swept>> {
        let program = std::env::current_exe().context("this program's own path")?;
        let slots = Arc::new(Semaphore::new(self.asked.at_once()));
        let mut running = JoinSet::new();
        for (name, folder) in folders {
            let child = Child {
                program: program.clone(),
                folder: folder.clone(),
                commit: None,
                seed: self.seed,
                out: out.join("recipes").join(name),
            };
            let (name, asked) = (name.clone(), self.asked.clone());
            let (slots, mut stopping) = (Arc::clone(&slots), stopping.clone());
            running.spawn(async move {
                let _slot = slots.acquire().await.context("a slot")?;
                let came = if *stopping.borrow() {
                    Err("stopped before it began".to_owned())
                } else {
                    asked.run(&child, &mut stopping).await?
                };
                let swept = match came {
                    Ok(results) => {
                        let result = results.run.result.map_or("no verdict", assay_model::RunResult::as_str);
                        ui::say(&format!("{name}: {result}, {}", results.ladder.line()));
                        Swept::Results(Box::new(results))
                    }
                    Err(why) => {
                        ui::say(&format!("{name}: {why}"));
                        Swept::Nothing { why }
                    }
                };
                anyhow::Ok((name, swept))
            });
        }
        let mut swept = BTreeMap::new();
        while let Some(done) = running.join_next().await {
            let (name, one) = done.context("a run")??;
            swept.insert(name, one);
        }
        Ok(swept)
    }
}

fn read(path: &Path) -> Result<Baseline> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    let value: serde_json::Value =
        serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    let schema = &value["schema"];
    ensure!(
        *schema == SCHEMA,
        "{}: its results have schema version {schema}, and this Assay compares {SCHEMA}; sweep without --against to begin anew",
        path.display()
    );
    serde_json::from_value(value).with_context(|| path.display().to_string())
}

fn print(rows: &[Row], counts: &BTreeMap<String, usize>) {
    let level = |level: Option<u8>| level.map_or_else(|| "-".to_owned(), |level| level.to_string());
    let row = |row: &Row| {
        let rungs: Vec<String> =
            row.rungs.iter().map(|(rung, was, is)| format!("{rung} {was} -> {is}")).collect();
        vec![
            row.standing.as_str().to_owned(),
            row.recipe.clone(),
            format!("{} -> {}", level(row.level.0), level(row.level.1)),
            rungs.join(", "),
            row.detail.clone(),
        ]
    };
    ui::table(&["STANDING", "RECIPE", "LEVEL", "RUNGS", "WHAT"], &rows.iter().map(row).collect::<Vec<_>>());
    for row in rows.iter().filter(|row| row.standing == Standing::Worse) {
        for finding in row.since.iter().flat_map(assay_pipelines::recipe::over_time::SinceGreen::findings) {
            ui::line(&format!("{}: {}", row.recipe, finding.message));
        }
    }
    let told: Vec<String> = Standing::ALL
        .into_iter()
        .filter_map(|standing| Some((counts.get(standing.as_str())?, standing.as_str())))
        .filter(|(count, _)| **count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    ui::line(&told.join(", "));
}
