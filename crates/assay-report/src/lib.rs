//! A finished run as a document: `report.html`, `report.json`, the signed statement of its verdict,
//! and the bundle that a stranger can check without us.
//!
//! Everything here is a fold of a journal that someone else kept. This crate knows no store, no
//! engine and no network; it never decides a verdict, it only says again what the journal says,
//! and [`bundle`] finds out when somebody made it say something else.

pub mod attest;
pub mod bundle;
mod chart;
pub mod envelope;
mod junit;
pub mod key;
mod page;
mod words;

use std::collections::BTreeMap;

use assay_model::host::inventory::Inventory;
use assay_model::matrix::Matrix;
use assay_model::power_cuts::PowerCuts;
use assay_model::report::Report;
use assay_model::{Event, Micros, RunView};

pub use bundle::{Bundle, Verification, verify_bundle, write_bundle, write_folder};
pub use junit::{junit, junit_of_matrix};
pub use key::{PublicKey, SigningKey};

/// What a report shows beyond the fold of its journal. Everything is optional: a section without
/// data says so or is left out.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// The machine as its last inventory told it.
    pub inventory: Option<Inventory>,
    /// Readings over time: temperatures, voltages, fans.
    pub series: Vec<Series>,
    /// The journal, for the timeline.
    pub events: Vec<Event>,
    /// When each check was last seen red on this runner.
    pub last_red: Vec<LastRed>,
    /// Pictures of screens (PNG), by the artifacts' names, in their order.
    pub pictures: Vec<(String, Vec<u8>)>,
    /// How a red run over a recipe differs from the last green one.
    pub since_green: Option<SinceGreen>,
    /// Whether the page is shown by the control plane, so that its other pages can be linked to.
    pub linked: bool,
}

/// A red run beside the last green one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinceGreen {
    /// The green run; none where there is none to compare with.
    pub green: Option<GreenRun>,
    /// What differs.
    pub differences: Vec<Difference>,
    /// What could not be compared, and why.
    pub unknown: Vec<String>,
    /// What is to be said instead, where nothing differs or nothing was compared.
    pub note: Option<String>,
}

/// A run that was green.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GreenRun {
    /// Its number.
    pub number: i64,
    /// RFC 3339, when it was asked for.
    pub at: String,
}

/// Something that is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What kind of thing: `images`, `harness` …
    pub aspect: String,
    /// The thing, or the whole sentence where there are no values.
    pub what: String,
    /// What it was, and what it is.
    pub values: Option<(String, String)>,
    /// What to do about it.
    pub next_step: String,
}

/// One sensor's readings.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The sensor's stable name.
    pub name: String,
    /// Unit of the values: `°C`, `V`, `RPM`, `W`. Series of one unit share a chart.
    pub unit: String,
    /// Seconds since the run started, and the value; oldest first.
    pub points: Vec<(f64, f64)>,
}

/// A check and when it was last seen to catch its fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRed {
    /// The finding's code.
    pub code: String,
    /// When the proof catalogue last saw it; none when it never did.
    pub at: Option<Micros>,
}

/// `report.html`: one file, complete in itself, without script and without requests.
pub fn html(view: &RunView, report: &Report, extras: &Extras) -> String {
    page::render(view, report, extras)
}

/// `matrix.html`: all cases of a matrix, with the last picture of those that failed (PNG, by the case's name). One file
/// that links to the cases' reports beside it.
pub fn matrix_html(matrix: &Matrix, pictures: &BTreeMap<String, Vec<u8>>) -> String {
    page::matrix::render(matrix, pictures)
}

/// `power-cuts.html`: every moment of one installation in which the power could have gone. One file, which links to the
/// transcripts beside it (`artifacts/`).
pub fn power_cuts_html(cuts: &PowerCuts) -> String {
    page::power_cuts::render(cuts)
}

/// `report.json`: pretty, keys in the order of the contract, a newline at the end.
pub fn json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report)
        .expect("a report has only string keys and finite numbers or null");
    text.push('\n');
    text
}
