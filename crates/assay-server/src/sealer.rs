//! What is done to a finished run: signed, and drawn up as report and bundle.

use std::sync::Arc;

use assay_engine::{ReportFacts, Sealer};
use assay_model::event::Sealed;
use assay_model::journal::StoredEvent;
use assay_model::report::Report;
use assay_model::{RunView, Sha256};
use assay_pipelines::recipe::over_time::{Change, SinceGreen};
use assay_report::{Bundle, Difference, Extras, GreenRun, Series, SigningKey};

/// Signs with the control plane's key.
pub(crate) struct ReportSealer {
    key: Arc<SigningKey>,
}

impl ReportSealer {
    pub(crate) const fn new(key: Arc<SigningKey>) -> Self {
        Self { key }
    }
}

impl Sealer for ReportSealer {
    fn seal(&self, run: &RunView, head: Sha256) -> Sealed {
        assay_report::attest::seal(run, head, &self.key)
    }

    fn check(&self, run: &RunView) -> Result<(), String> {
        assay_report::attest::check_seal(run, &[self.key.public()])
    }

    fn sign_permit(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign_permit(message)
    }

    fn reports(&self, facts: &ReportFacts) -> Vec<(String, Vec<u8>)> {
        let report = Report::of(&facts.run);
        let html = assay_report::html(&facts.run, &report, &extras(facts));
        let json = assay_report::json(&report);
        vec![("report.html".to_owned(), html.into_bytes()), ("report.json".to_owned(), json.into_bytes())]
    }
}

/// `report.html` of a run as it stands.
///
/// `linked`: whether somebody reads it here, where the pages are that it speaks of.
pub(crate) fn render_html(facts: &ReportFacts, linked: bool) -> String {
    let extras = Extras { linked, ..extras(facts) };
    assay_report::html(&facts.run, &Report::of(&facts.run), &extras)
}

/// Everything that `assay verify` needs, as a tar.
pub(crate) fn bundle(
    facts: &ReportFacts,
    journal: &[StoredEvent],
    addendum: &[StoredEvent],
    blobs: &mut assay_report::bundle::BlobSource<'_>,
    key: &SigningKey,
) -> Result<Vec<u8>, String> {
    let extras = extras(facts);
    let bundle = Bundle { run: facts.run.id, journal, addendum, extras: &extras, other_keys: &[] };
    let mut tar = Vec::new();
    assay_report::write_bundle(&bundle, blobs, key, &mut tar).map_err(|e| e.to_string())?;
    Ok(tar)
}

fn extras(facts: &ReportFacts) -> Extras {
    let began = facts.run.started_at.unwrap_or(facts.run.created_at);
    let mut series: Vec<Series> = Vec::new();
    for row in &facts.sensors {
        for (place, sensor) in row.batch.sensors.iter().enumerate() {
            let known = series.iter().position(|s| s.name == sensor.name).unwrap_or_else(|| {
                let (name, unit) = (sensor.name.clone(), sensor.unit.clone());
                series.push(Series { name, unit, points: Vec::new() });
                series.len() - 1
            });
            let points = row.batch.samples.iter().filter_map(|sample| {
                Some((sample.at.since(began).as_seconds(), sample.values.get(place).copied()??))
            });
            series[known].points.extend(points);
        }
    }
    Extras {
        inventory: facts.inventory.clone().and_then(|v| serde_json::from_value(v).ok()),
        series,
        events: facts.events.clone(),
        last_red: Vec::new(),
        pictures: facts.pictures.clone(),
        since_green: facts.since_green.as_ref().map(since_green),
        linked: false,
    }
}

/// What changed since green, for a page that knows nothing of pipelines.
fn since_green(since: &SinceGreen) -> assay_report::SinceGreen {
    let note = since
        .findings()
        .into_iter()
        .next()
        .map(|finding| format!("{}. {}", capitalised(&finding.message), finding.next_step));
    let SinceGreen::Compared { run, at, changes, unknown } = since else {
        return assay_report::SinceGreen { note, ..assay_report::SinceGreen::default() };
    };
    let difference = |change: &Change| Difference {
        aspect: change.aspect.as_str().to_owned(),
        what: change.values.as_ref().map_or_else(|| change.message.clone(), |values| values.of.clone()),
        values: change.values.as_ref().map(|values| (values.was.clone(), values.is.clone())),
        next_step: change.aspect.next_step().to_owned(),
    };
    assay_report::SinceGreen {
        green: Some(GreenRun { number: *run, at: at.clone() }),
        differences: changes.iter().map(difference).collect(),
        unknown: if changes.is_empty() { Vec::new() } else { unknown.clone() },
        note: note.filter(|_| changes.is_empty()),
    }
}

fn capitalised(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}
