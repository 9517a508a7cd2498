//! What is done to a finished run: signed, and drawn up as report and bundle.

use std::sync::Arc;

use assay_engine::{ReportFacts, Sealer};
use assay_model::event::Sealed;
use assay_model::journal::StoredEvent;
use assay_model::report::Report;
use assay_model::{RunView, Sha256};
use assay_report::{Bundle, Extras, Series, SigningKey};

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
pub(crate) fn render_html(facts: &ReportFacts) -> String {
    assay_report::html(&facts.run, &Report::of(&facts.run), &extras(facts))
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
    }
}
