//! `/api/v1/matrix`: which image works on which machine, what is to be tested again, and the answer to one question.

use assay_api::compat::{
    CompatAnswer, CompatCell, CompatCheck, CompatDue, CompatImage, CompatMatrix, CompatPart, CompatRow,
    CompatRun, DueTest, UntoldHost,
};
use assay_engine::compat::{Checked, Compat};
use assay_model::compat::{
    Cell, CellState, ComponentKind, Due, DueReason, Filter, Image, MAX_AGE_DAYS, Trial, days,
};
use assay_model::{Micros, Sha256, text};
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::hosts::find;
use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;

/// Runs that are told with a cell.
const EVIDENCE: usize = 10;
/// Most days that evidence may count: a century, which is for ever.
const MAX_DAYS: u32 = 36_500;
const DAY: i64 = 86_400 * 1_000_000;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/matrix", get(matrix))
        .route("/api/v1/matrix/check", get(check))
        .route("/api/v1/matrix/due", get(due))
}

/// What is asked of the grid.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) image: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) component: Option<String>,
    pub(crate) max_age_days: Option<String>,
}

impl Wanted {
    /// What was asked for, as it is asked for again: nothing for an empty field of a form.
    fn filter(&self) -> Result<Filter, ApiError> {
        let told = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let kind = told(&self.kind).map(|kind| kind.parse::<ComponentKind>()).transpose();
        let kind = kind.map_err(|e| ApiError::invalid(e.to_string()))?;
        Ok(Filter { image: told(&self.image), kind, component: told(&self.component) })
    }
}

/// The grid, as the pages and the API show it.
pub(crate) async fn compat_matrix(app: &App, wanted: &Wanted) -> Result<CompatMatrix, ApiError> {
    let (filter, max_age_days) = (wanted.filter()?, age(wanted.max_age_days.as_deref())?);
    let known = app.engine.compat().await?;
    let grid = known.grid(&filter, days(max_age_days));
    let row = |row: &assay_model::compat::Row<'_>| CompatRow {
        kind: row.kind,
        name: row.name.clone(),
        label: row.spoken.clone(),
        drivers: row.drivers.clone(),
        hosts: row.hosts.clone(),
        cells: row.cells.iter().map(|cell| wire(cell, known.now)).collect(),
    };
    Ok(CompatMatrix {
        max_age_days,
        rows: grid.rows.iter().map(row).collect(),
        images: grid.images.into_iter().map(named).collect(),
        images_left_out: grid.images_left_out,
        untold: untold(&known),
    })
}

async fn matrix(
    State(app): State<App>,
    _: Operator,
    Query(wanted): Query<Wanted>,
) -> Result<Json<CompatMatrix>, ApiError> {
    Ok(Json(compat_matrix(&app, &wanted).await?))
}

#[derive(Deserialize)]
struct Question {
    host: String,
    image: String,
    max_age_days: Option<String>,
}

async fn check(
    State(app): State<App>,
    _: Operator,
    Query(asked): Query<Question>,
) -> Result<Json<CompatCheck>, ApiError> {
    let host = find(&app, &asked.host).await?;
    let max_age_days = age(asked.max_age_days.as_deref())?;
    let known = app.engine.compat().await?;
    let checked = known.check(&host, &asked.image, days(max_age_days))?;
    Ok(Json(answer(host.name, &checked, known.now, max_age_days)))
}

#[derive(Deserialize)]
struct HowOld {
    max_age_days: Option<String>,
}

async fn due(
    State(app): State<App>,
    _: Operator,
    Query(asked): Query<HowOld>,
) -> Result<Json<CompatDue>, ApiError> {
    let max_age_days = age(asked.max_age_days.as_deref())?;
    let known = app.engine.compat().await?;
    let due = known.due(days(max_age_days)).into_iter().map(|due| due_test(due, &known)).collect();
    Ok(Json(CompatDue { due, untold: untold(&known) }))
}

/// A number of days; not written is the default.
fn age(text: Option<&str>) -> Result<u32, ApiError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(MAX_AGE_DAYS) };
    let days = text.parse().ok().filter(|days| (1..=MAX_DAYS).contains(days));
    days.ok_or_else(|| {
        ApiError::invalid(format!("max_age_days is a whole number of days, from 1 to {MAX_DAYS}"))
    })
}

fn answer(host: String, checked: &Checked<'_>, now: Micros, max_age_days: u32) -> CompatCheck {
    let cell = wire(&checked.cell, now);
    let image = match &checked.image {
        (_, Some(image)) => named(image.clone()),
        (sha256, None) => CompatImage { sha256: *sha256, name: None, volume: None, first_run: None },
    };
    let answer = concluded(&cell);
    let part = |(part, cell): &(&assay_model::compat::Component, Cell<'_>)| CompatPart {
        kind: part.kind,
        name: part.name.clone(),
        label: part.counted(),
        cell: wire(cell, now),
    };
    let what = called(&image);
    CompatCheck {
        message: message(&what, &host, &cell, max_age_days),
        next_step: next_step(answer, &what, &host, &cell),
        seen_in: checked.seen_in,
        machine: checked.machine.0,
        machine_label: checked.machine.1.name(),
        parts: checked.parts.iter().map(part).collect(),
        host,
        image,
        max_age_days,
        answer,
        cell,
    }
}

/// What may be relied on: neither a yes nor a no that is too old, and nothing that is not the same each time.
const fn concluded(cell: &CompatCell) -> CompatAnswer {
    match (cell.state, cell.stale) {
        (CellState::Works, false) => CompatAnswer::Works,
        (CellState::Fails, false) => CompatAnswer::Fails,
        _ => CompatAnswer::NotKnown,
    }
}

fn message(image: &str, host: &str, cell: &CompatCell, max_age_days: u32) -> String {
    let run = cell.run.map(|run| format!("run {run}, {}", ago(cell.age_days))).unwrap_or_default();
    let codes = cell.evidence.iter().find(|run| Some(run.run) == cell.run).map(|run| run.codes.join(", "));
    let codes = codes.filter(|codes| !codes.is_empty()).map(|codes| format!(": {codes}")).unwrap_or_default();
    let old = if cell.stale { format!("; that is more than {max_age_days} days") } else { String::new() };
    match cell.state {
        CellState::Works => {
            let works = if cell.stale { "worked" } else { "works" };
            format!("{image} {works} on this kind of machine ({run}{old})")
        }
        CellState::Fails => {
            let fails = if cell.stale { "failed" } else { "fails" };
            format!("{image} {fails} on this kind of machine ({run}{codes}{old})")
        }
        CellState::Mixed => {
            let runs = text::plural(cell.runs, "run");
            format!("{image} has passed and failed on this kind of machine ({runs}; last {run}{codes})")
        }
        CellState::Unverified => {
            format!("{image} was tried on this kind of machine, and came to no verdict ({run}{codes})")
        }
        CellState::Unknown => format!("{image} was never tried on a machine of {host}'s kind"),
    }
}

fn next_step(answer: CompatAnswer, image: &str, host: &str, cell: &CompatCell) -> Option<String> {
    let test = format!("assay image test FILE --profile PROFILE --on {host}");
    let run = cell.run.map(|run| format!("/runs/{run}")).unwrap_or_default();
    match (answer, cell.state) {
        (CompatAnswer::Works, _) => None,
        (CompatAnswer::Fails, _) => Some(format!(
            "Read what run {} found ({run}), and try another image.",
            cell.run.unwrap_or_default()
        )),
        (CompatAnswer::NotKnown, CellState::Mixed) => Some(format!(
            "Compare the runs that passed with those that failed. More runs do not decide about these bytes; a newer image \
             begins anew: `{test}`."
        )),
        (CompatAnswer::NotKnown, _) => {
            Some(format!("Test {image} there (an installer writes to the host's disks): `{test}`."))
        }
    }
}

fn due_test(due: Due, known: &Compat) -> DueTest {
    let image = named(due.image);
    let (what, hosts) = (called(&image), due.hosts.join(" or "));
    let changes = match (due.reason, known.machine(due.machine), known.machine(due.after_machine)) {
        (DueReason::MachineChanged, Some(now), Some(before)) => now.changes_since(before),
        _ => Vec::new(),
    };
    let age = u32::try_from(known.now.since(due.after_at).0.max(0) / DAY).unwrap_or(u32::MAX);
    let message = match due.reason {
        DueReason::MachineChanged => {
            let told = if changes.is_empty() { String::new() } else { format!(": {}", changes.join(", ")) };
            format!("{hosts} changed since {what} was last tried there (run {}){told}", due.after)
        }
        DueReason::ImageChanged => {
            format!("{what} is newer than what was last tried on {hosts} (run {})", due.after)
        }
        DueReason::Stale => format!("{what} worked on {hosts} {} (run {})", ago(Some(age)), due.after),
    };
    let host = due.hosts.first().map(String::as_str).unwrap_or_default();
    DueTest {
        reason: due.reason,
        next_step: format!("assay image test FILE --profile PROFILE --on {host}"),
        machine: due.machine,
        after: due.after,
        hosts: due.hosts,
        image,
        changes,
        message,
    }
}

fn wire(cell: &Cell<'_>, now: Micros) -> CompatCell {
    let run = |trial: &&Trial| CompatRun {
        run: trial.number,
        id: trial.run,
        verdict: trial.outcome.verdict,
        at: trial.outcome.at,
        host: trial.host_name.clone(),
        machine: trial.machine,
        codes: trial.outcome.codes.clone(),
        unverified: trial.outcome.unverified,
    };
    CompatCell {
        state: cell.state,
        stale: cell.stale,
        at: cell.at,
        run: cell.newest().map(|trial| trial.number),
        age_days: cell.at.map(|at| u32::try_from(now.since(at).0.max(0) / DAY).unwrap_or(u32::MAX)),
        runs: cell.evidence.len(),
        evidence: cell.evidence.iter().take(EVIDENCE).map(run).collect(),
    }
}

fn named(image: Image) -> CompatImage {
    CompatImage {
        sha256: image.digest,
        name: Some(image.name),
        volume: image.volume,
        first_run: Some(image.run),
    }
}

/// `my-installer (1f2e3d4c5b6a)`.
fn called(image: &CompatImage) -> String {
    let digest = short(image.sha256);
    image.name.as_ref().map_or_else(|| digest.clone(), |name| format!("{name} ({digest})"))
}

/// The beginning of a digest: enough to tell images apart.
fn short(digest: Sha256) -> String {
    digest.to_string().chars().take(12).collect()
}

fn ago(days: Option<u32>) -> String {
    match days {
        None | Some(0) => "today".to_owned(),
        Some(days) => format!("{} ago", text::plural(days as usize, "day")),
    }
}

fn untold(known: &Compat) -> Vec<UntoldHost> {
    let one = |(host, why): (&String, &String)| UntoldHost { host: host.clone(), why: why.clone() };
    known.untold.iter().map(one).collect()
}

#[cfg(test)]
#[path = "compat_tests.rs"]
mod tests;
