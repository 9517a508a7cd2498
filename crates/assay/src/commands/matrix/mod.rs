//! `assay matrix`: which image works on which machine. `check` and `due` answer by their exit codes, for scripts that
//! provision and for CI.

mod paths;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use assay_api::compat::{CompatAnswer, CompatCell, CompatCheck, CompatDue, CompatMatrix, UntoldHost};
use assay_model::Sha256;
use assay_model::compat::{ComponentKind, MAX_AGE_DAYS, UnknownKind};
use clap::{Args, Subcommand};

use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

/// Enough of a digest to tell images and machines apart.
const SHORT: usize = 12;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Matrix {
    #[command(subcommand)]
    question: Option<Question>,
    /// Only this image: its name, its SHA-256, or the beginning of that.
    #[arg(long)]
    image: Option<String>,
    /// Only components with this in their names; of whole machines also in their hosts' names.
    #[arg(long, value_name = "TEXT")]
    component: Option<String>,
    /// Only this kind: machine, board, firmware, processor, network, storage or gpu.
    #[arg(long, value_parser = kind)]
    kind: Option<ComponentKind>,
    #[command(flatten)]
    age: Age,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Subcommand)]
enum Question {
    /// Exit 0 only when this image was seen to work on this kind of machine lately, and never to fail
    Check(Check),
    /// Exit 1 when something is to be tested again, and say what and where
    Due(Due),
}

#[derive(Args)]
struct Check {
    /// The host's name.
    #[arg(long)]
    host: String,
    /// The image: its name in the profile, its SHA-256, or the beginning of that.
    #[arg(long, value_name = "DIGEST-OR-NAME")]
    image: String,
    #[command(flatten)]
    age: Age,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
struct Due {
    /// Ask instead whether any of these changed files decides what the image does on hardware. Needs no server.
    #[arg(long, value_name = "PATH", num_args = 0..)]
    changed: Option<Vec<String>>,
    /// The file that names such paths.
    #[arg(long, value_name = "FILE", default_value = paths::FILE, requires = "changed")]
    paths: PathBuf,
    #[command(flatten)]
    age: Age,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Clone, Copy)]
struct Age {
    /// Days after which evidence is stale.
    #[arg(long, value_name = "DAYS", default_value_t = MAX_AGE_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    max_age: u32,
}

impl Matrix {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self.question {
            None => show(self).await,
            Some(Question::Check(check)) => check.run().await,
            Some(Question::Due(due)) => due.run().await,
        }
    }
}

async fn show(asked: Matrix) -> Result<Exit> {
    let kind = asked.kind.map(|kind| kind.as_str().to_owned());
    let path = query(
        "/api/v1/matrix",
        &[
            ("image", asked.image),
            ("kind", kind),
            ("component", asked.component),
            ("max_age_days", Some(asked.age.max_age.to_string())),
        ],
    )?;
    let matrix: CompatMatrix = asked.remote.client()?.get(&path).await?;
    if asked.remote.json {
        ui::json(&matrix)?;
        return Ok(Exit::Ok);
    }
    if matrix.images.is_empty() {
        ui::say(
            "no image was tried on a machine yet, or none that was asked for; have one tried with `assay image test \
             my.iso --profile my.toml --on HOST --server URL`",
        );
    }
    let columns: Vec<String> = matrix
        .images
        .iter()
        .map(|image| format!("{} {}", image.name.as_deref().unwrap_or_default(), short(image.sha256)))
        .collect();
    let header: Vec<&str> =
        ["KIND", "COMPONENT"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    let rows: Vec<Vec<String>> = matrix
        .rows
        .iter()
        .map(|row| {
            let hosts =
                if row.hosts.is_empty() { String::new() } else { format!(" ({})", row.hosts.join(", ")) };
            let label = match row.kind {
                ComponentKind::Machine => {
                    let digest: String = row.name.chars().take(SHORT).collect();
                    format!("{digest} {}{hosts}", row.label)
                }
                _ => row.label.clone(),
            };
            [row.kind.to_string(), label].into_iter().chain(row.cells.iter().map(words)).collect()
        })
        .collect();
    ui::table(&header, &rows);
    if matrix.images_left_out > 0 {
        ui::say(&format!(
            "{} earlier images are not shown; --image shows all of one",
            matrix.images_left_out
        ));
    }
    untold(&matrix.untold);
    Ok(Exit::Ok)
}

impl Check {
    async fn run(self) -> Result<Exit> {
        let path = query(
            "/api/v1/matrix/check",
            &[
                ("host", Some(self.host)),
                ("image", Some(self.image)),
                ("max_age_days", Some(self.age.max_age.to_string())),
            ],
        )?;
        let check: CompatCheck = self.remote.client()?.get(&path).await?;
        let exit = match check.answer {
            CompatAnswer::Works => Exit::Ok,
            CompatAnswer::Fails => Exit::Fail,
            CompatAnswer::NotKnown => Exit::NoResult,
        };
        if self.remote.json {
            ui::json(&check)?;
            return Ok(exit);
        }
        let answer = match check.answer {
            CompatAnswer::Works => "works",
            CompatAnswer::Fails => "fails",
            CompatAnswer::NotKnown => "not known",
        };
        ui::line(&format!("{}: {answer}", check.host));
        ui::line(&format!("  {}", check.message));
        ui::line(&format!(
            "  looked at: {} (fingerprint {}, as seen in run {})",
            check.machine_label,
            short(check.machine),
            check.seen_in
        ));
        // Where the machine as a whole tells too little, its components say where trouble is to be expected.
        if check.answer != CompatAnswer::Works {
            let row = |part: &assay_api::compat::CompatPart| {
                let runs: Vec<String> = part.cell.evidence.iter().map(|run| run.run.to_string()).collect();
                vec![part.kind.to_string(), part.label.clone(), words(&part.cell), runs.join(" ")]
            };
            ui::table(
                &["KIND", "COMPONENT", "ON ANY MACHINE", "RUNS"],
                &check.parts.iter().map(row).collect::<Vec<_>>(),
            );
        }
        if let Some(next) = &check.next_step {
            ui::line(&format!("next: {next}"));
        }
        Ok(exit)
    }
}

impl Due {
    async fn run(self) -> Result<Exit> {
        if let Some(changed) = &self.changed {
            return paths::run(&self.paths, changed, self.remote.json);
        }
        let path = query("/api/v1/matrix/due", &[("max_age_days", Some(self.age.max_age.to_string()))])?;
        let answer: CompatDue = self.remote.client()?.get(&path).await?;
        let exit = if answer.due.is_empty() { Exit::Ok } else { Exit::Fail };
        if self.remote.json {
            ui::json(&answer)?;
            return Ok(exit);
        }
        if answer.due.is_empty() {
            ui::line("nothing is due");
        }
        for due in &answer.due {
            ui::line(&format!("{}: {}", due.reason.as_str(), due.message));
            ui::line(&format!("  next: {}", due.next_step));
        }
        untold(&answer.untold);
        Ok(exit)
    }
}

fn untold(hosts: &[UntoldHost]) {
    for UntoldHost { host, why } in hosts {
        ui::say(&format!(
            "{host} is not in here: {why}; `assay host vet {host} --profile quick` takes an inventory"
        ));
    }
}

/// `works, 3 d old, run 12`.
fn words(cell: &CompatCell) -> String {
    let stale = if cell.stale { ", stale" } else { "" };
    let age = match cell.age_days {
        None => String::new(),
        Some(0) => ", today".to_owned(),
        Some(days) => format!(", {days} d old"),
    };
    let run = cell.run.map(|run| format!(", run {run}")).unwrap_or_default();
    format!("{}{stale}{age}{run}", cell.state)
}

fn short(digest: Sha256) -> String {
    digest.to_string().chars().take(SHORT).collect()
}

fn kind(text: &str) -> Result<ComponentKind, UnknownKind> {
    text.parse()
}

/// An address with what was asked for; names may hold anything.
fn query(path: &str, pairs: &[(&str, Option<String>)]) -> Result<String> {
    let mut url = reqwest::Url::parse("http://x/").context("an address")?;
    for (name, value) in pairs {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    Ok(format!("{path}?{}", url.query().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use assay_model::Micros;
    use assay_model::compat::CellState;

    use super::*;

    #[test]
    fn what_is_asked_for_survives_the_address() {
        let path = query("/m", &[("image", Some("a&b=c d".into())), ("kind", None), ("n", Some("1".into()))]);
        assert_eq!(path.expect("it can be written"), "/m?image=a%26b%3Dc+d&n=1");
    }

    #[test]
    fn a_cell_says_in_words_what_is_known_and_how_old_that_is() {
        let cell = |known, stale, age_days: Option<u32>| CompatCell {
            state: known,
            stale,
            at: Some(Micros(0)),
            run: age_days.map(|_| 12),
            age_days,
            runs: 1,
            evidence: Vec::new(),
        };
        assert_eq!(words(&cell(CellState::Works, false, Some(0))), "works, today, run 12");
        assert_eq!(words(&cell(CellState::Works, true, Some(95))), "works, stale, 95 d old, run 12");
        assert_eq!(words(&cell(CellState::Unknown, false, None)), "unknown");
    }
}
