//! `assay recipe list`, `assay recipe show`, `assay recipe flakes`: how recipes stand, and what they came to over time.

use anyhow::Result;
use assay_api::recipes::{GreenRun, Recipe, RecipeFlake, RecipeHistory, RecipeTest};
use assay_model::recipe::Rung;
use clap::Args;

use crate::commands::Remote;
use crate::commands::history::{self, Asked, segment, took};
use crate::exit::Exit;
use crate::ui;

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Show {
    #[command(flatten)]
    asked: Asked,
}

#[derive(Args)]
pub(crate) struct Flakes {
    /// Only of this recipe.
    name: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl List {
    pub(crate) async fn run(self) -> Result<Exit> {
        let recipes: Vec<Recipe> = self.remote.client()?.get("/api/v1/recipes").await?;
        if self.remote.json {
            ui::json(&recipes)?;
            return Ok(Exit::Ok);
        }
        if recipes.is_empty() {
            ui::say("no recipe was tested yet; have one tested with `assay recipe test FOLDER --server URL`");
        }
        let row = |recipe: &Recipe| {
            let latest = recipe.tests.first()?;
            let mut row = vec![recipe.name.clone(), verdict(latest), latest.ladder.level.to_string()];
            row.extend(rungs(latest));
            row.extend([
                latest.code.clone().unwrap_or_default(),
                latest.run.number.to_string(),
                took(latest.seconds),
                recipe.last_green.as_ref().map(green).unwrap_or_default(),
            ]);
            Some(row)
        };
        let rows: Vec<_> = recipes.iter().filter_map(row).collect();
        let mut header = vec!["RECIPE", "VERDICT", "LEVEL"];
        header.extend(RUNGS);
        header.extend(["CODE", "RUN", "TOOK", "LAST GREEN"]);
        ui::table(&header, &rows);
        Ok(Exit::Ok)
    }
}

impl Show {
    pub(crate) async fn run(self) -> Result<Exit> {
        let history: RecipeHistory = self.asked.history("recipes").await?;
        if self.asked.remote.json {
            ui::json(&history)?;
            return Ok(Exit::Ok);
        }
        ui::line(&history.name);
        let never = || "never as a whole".to_owned();
        ui::line(&format!("  last green  {}", history.last_green.as_ref().map_or_else(never, green)));
        let row = |test: &RecipeTest| {
            let mut row = vec![test.run.number.to_string(), verdict(test), test.ladder.level.to_string()];
            row.extend(rungs(test));
            row.extend([
                test.code.clone().unwrap_or_default(),
                test.version.clone().unwrap_or_default(),
                took(test.seconds),
                test.run.created_at.rfc3339(),
            ]);
            row
        };
        let rows: Vec<_> = history.tests.iter().map(row).collect();
        let mut header = vec!["RUN", "VERDICT", "LEVEL"];
        header.extend(RUNGS);
        header.extend(["CODE", "VERSION", "TOOK", "ASKED FOR"]);
        ui::table(&header, &rows);
        if let Some(latest) = history.tests.first().filter(|latest| !latest.since_green.is_empty()) {
            ui::line(&format!("run {} beside the last green one", latest.run.number));
            for line in &latest.since_green {
                ui::line(&format!("  {line}"));
            }
        }
        flakes(&history.flakes);
        if let Some(next) = history.next {
            ui::say(&format!("older runs: `assay recipe show {} --before {next}`", self.asked.name));
        }
        Ok(Exit::Ok)
    }
}

impl Flakes {
    pub(crate) async fn run(self) -> Result<Exit> {
        let client = self.remote.client()?;
        let names = if let Some(name) = self.name {
            vec![name]
        } else {
            let recipes: Vec<Recipe> = client.get("/api/v1/recipes").await?;
            recipes.into_iter().map(|recipe| recipe.name).collect()
        };
        let mut found: Vec<RecipeFlake> = Vec::new();
        for name in names {
            let history: RecipeHistory =
                client.get(&format!("/api/v1/recipes/{}?limit=1", segment(&name)?)).await?;
            found.extend(history.flakes);
        }
        found.sort_by(|one, other| other.last_failed.cmp(&one.last_failed));
        if self.remote.json {
            ui::json(&found)?;
            return Ok(Exit::Ok);
        }
        if found.is_empty() {
            ui::say(
                "no flakes: nothing passed and failed with the same commit, build of Assay, configuration and images",
            );
        }
        flakes(&found);
        Ok(Exit::Ok)
    }
}

const RUNGS: [&str; 5] = ["INSTALL", "UPGRADE", "BACKUP", "FUNCTIONAL", "LINT"];

fn rungs(test: &RecipeTest) -> impl Iterator<Item = String> + '_ {
    Rung::ALL.into_iter().map(|rung| test.ladder.status(rung).to_string())
}

fn flakes(found: &[RecipeFlake]) {
    let row = |flake: &RecipeFlake| {
        let runs: Vec<String> = flake.failed_runs.iter().map(ToString::to_string).collect();
        vec![
            flake.recipe.clone(),
            flake.what.clone(),
            format!("{} of {}", flake.failed, flake.failed + flake.passed),
            flake.codes.join(", "),
            flake.commit.chars().take(12).collect(),
            flake.first.clone(),
            flake.last_failed.clone(),
            runs.join(" "),
        ]
    };
    if !found.is_empty() {
        let rows: Vec<_> = found.iter().map(row).collect();
        ui::table(&["RECIPE", "FLAKE", "FAILED", "CODE", "COMMIT", "SINCE", "LAST FAILED", "IN RUNS"], &rows);
    }
}

fn green(green: &GreenRun) -> String {
    format!("run {} ({}, {})", green.number, green.at.get(..10).unwrap_or_default(), green.version)
}

fn verdict(test: &RecipeTest) -> String {
    let reservations = [(test.checks_off, "checks off"), (test.stages_left_out, "stages left out")];
    history::verdict(&test.run, &reservations)
}
