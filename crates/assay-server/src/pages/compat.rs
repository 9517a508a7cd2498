//! `/matrix`: which image was seen to work on which hardware. Components by kind, against images.

use askama::Template;
use assay_api::compat::{CompatCell, CompatImage, CompatMatrix, CompatRow};
use assay_model::compat::ComponentKind;
use assay_model::{Pipeline, text};
use axum::extract::{Query, State};
use axum::response::Response;

use super::format;
use super::shell::{Badge, PageError, Shell, Signed, page as finished};
use crate::api::{self, CompatWanted};
use crate::state::App;

/// Hosts that are named beside a component.
const MAX_HOSTS: usize = 4;
/// Codes that are told with a cell.
const MAX_CODES: usize = 4;

#[derive(Template)]
#[template(path = "matrix.html")]
struct MatrixPage {
    shell: Shell,
    asked: Asked,
    kinds: Vec<(&'static str, &'static str, bool)>,
    max_age_days: u32,
    columns: Vec<Column>,
    groups: Vec<Group>,
    left_out: usize,
    untold: Vec<(String, String, String)>,
    filtered: bool,
}

/// What was typed, to be shown again.
struct Asked {
    image: String,
    component: String,
}

struct Column {
    name: String,
    digest: String,
    short: String,
    volume: String,
}

struct Group {
    title: &'static str,
    rows: Vec<Line>,
}

struct Line {
    label: String,
    /// What it takes to tell it from others, and its drivers.
    detail: String,
    hosts: Vec<(String, String)>,
    more_hosts: usize,
    cells: Vec<CellLine>,
}

struct CellLine {
    badge: Badge,
    /// The newest run that it rests on; none when it is unknown.
    run: Option<i64>,
    age: String,
    title: String,
    /// The column, where there is no heading over it.
    image: String,
}

pub(super) async fn page(
    State(app): State<App>,
    Signed(operator): Signed,
    Query(wanted): Query<CompatWanted>,
) -> Result<Response, PageError> {
    let found = api::compat_matrix(&app, &wanted).await?;
    finished(&drawn(Shell::new(&operator, "matrix"), &wanted, found))
}

fn drawn(shell: Shell, wanted: &CompatWanted, found: CompatMatrix) -> MatrixPage {
    let asked = |text: &Option<String>| text.clone().unwrap_or_default();
    let kind = asked(&wanted.kind);
    let columns: Vec<Column> = found.images.iter().map(column).collect();
    let group = |kind: ComponentKind| {
        let rows: Vec<Line> =
            found.rows.iter().filter(|row| row.kind == kind).map(|row| line(row, &columns)).collect();
        (!rows.is_empty()).then(|| Group { title: kind.title(), rows })
    };
    let host =
        |name: String, why: String| (name.clone(), format::target_page(true, Pipeline::Host, &name), why);
    MatrixPage {
        groups: ComponentKind::ALL.into_iter().filter_map(group).collect(),
        kinds: ComponentKind::ALL.into_iter().map(|k| (k.as_str(), k.title(), k.as_str() == kind)).collect(),
        filtered: [&wanted.image, &wanted.kind, &wanted.component]
            .into_iter()
            .any(|field| field.as_ref().is_some_and(|text| !text.trim().is_empty())),
        asked: Asked { image: asked(&wanted.image), component: asked(&wanted.component) },
        max_age_days: found.max_age_days,
        left_out: found.images_left_out,
        untold: found.untold.into_iter().map(|untold| host(untold.host, untold.why)).collect(),
        columns,
        shell,
    }
}

fn column(image: &CompatImage) -> Column {
    let digest = image.sha256.to_string();
    Column {
        name: image.name.clone().unwrap_or_default(),
        short: digest.chars().take(12).collect(),
        volume: image.volume.clone().unwrap_or_default(),
        digest,
    }
}

fn line(row: &CompatRow, columns: &[Column]) -> Line {
    let page = |host: &String| (host.clone(), format::target_page(true, Pipeline::Host, host));
    let mut detail = Vec::new();
    if row.kind == ComponentKind::Machine {
        detail.push(row.name.chars().take(12).collect());
    }
    if !row.drivers.is_empty() {
        detail.push(format!("driver {}", row.drivers.join(", ")));
    }
    Line {
        label: row.label.clone(),
        detail: detail.join(", "),
        hosts: row.hosts.iter().take(MAX_HOSTS).map(page).collect(),
        more_hosts: row.hosts.len().saturating_sub(MAX_HOSTS),
        cells: row.cells.iter().zip(columns).map(|(cell, column)| cell_line(cell, column)).collect(),
    }
}

fn cell_line(cell: &CompatCell, column: &Column) -> CellLine {
    let told = |run: &assay_api::compat::CompatRun| {
        let codes: Vec<_> = run.codes.iter().take(MAX_CODES).cloned().collect();
        let codes = if codes.is_empty() { String::new() } else { format!(" ({})", codes.join(", ")) };
        format!("run {} on {}: {}{codes}", run.run, run.host, run.verdict)
    };
    CellLine {
        badge: Badge::cell(cell.state, cell.stale),
        run: cell.run,
        age: match cell.age_days {
            None => String::new(),
            Some(0) => "today".to_owned(),
            Some(days) => format!("{} ago", text::plural(days as usize, "day")),
        },
        title: cell.evidence.iter().map(told).collect::<Vec<_>>().join("; "),
        image: format!("{} {}", column.name, column.short),
    }
}
