//! Exports a run as a bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use assay_model::event::BadEvent;
use assay_model::journal::StoredEvent;
use assay_model::report::Report;
use assay_model::{Event, EventBody, IllegalEvent, RunView, Sha256};

use super::{
    ADDENDUM, ARTIFACTS, BlobSource, Bundle, FORMAT, JOURNAL, KEYS, MANIFEST, MANIFEST_TYPE, Manifest,
    REPORT_HTML, REPORT_JSON, RUN, RunFile, canonical,
};
use crate::key::SigningKey;
use crate::{Extras, envelope};

/// The bundle was not written. What is there of it is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system, or the source of blobs, refused.
    #[error("cannot write {what}: {source}")]
    Io {
        /// Which part of the bundle.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A stored event does not read.
    #[error("event {seq} of the journal does not read: {source}")]
    Event {
        /// Which.
        seq: i64,
        /// Why.
        source: BadEvent,
    },
    /// The journal breaks the rules of its own state machine.
    #[error("the journal does not fold: {0}")]
    Fold(#[from] IllegalEvent),
    /// There is nothing to export.
    #[error("the journal is empty: the run does not exist yet")]
    Empty,
    /// The store holds other bytes than the journal says.
    #[error(
        "{what}: the store holds bytes with digest {found}, the journal says {expected}; restore the blob from a backup before exporting"
    )]
    Corrupt {
        /// What the blob is.
        what: String,
        /// The digest in the journal.
        expected: Sha256,
        /// The digest of what the store gave.
        found: Sha256,
    },
}

/// Writes the bundle as a tar. The same run gives the same bytes.
pub fn write_bundle(
    bundle: &Bundle<'_>,
    blobs: &mut BlobSource<'_>,
    key: &SigningKey,
    out: impl Write,
) -> Result<(), WriteError> {
    let (view, events) = fold(bundle)?;
    let root = format!("assay-run-{}/", view.created.number);
    let mtime = u64::try_from(view.at.0 / 1_000_000).unwrap_or(0);
    let mut tar = tar::Builder::new(out);
    emit(bundle, &view, events, blobs, key, &mut |name, bytes| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(mtime);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, format!("{root}{name}"), bytes)
    })?;
    let finish = |mut out: _| -> io::Result<()> { Write::flush(&mut out) };
    tar.into_inner()
        .and_then(finish)
        .map_err(|source| WriteError::Io { what: "the end of the tar".into(), source })
}

/// Writes the bundle as a folder, which must not exist yet.
pub fn write_folder(
    bundle: &Bundle<'_>,
    blobs: &mut BlobSource<'_>,
    key: &SigningKey,
    folder: &Path,
) -> Result<(), WriteError> {
    let (view, events) = fold(bundle)?;
    let failed = |path: PathBuf| move |source| WriteError::Io { what: path.display().to_string(), source };
    fs::create_dir(folder).map_err(failed(folder.to_owned()))?;
    let artifacts = folder.join(ARTIFACTS);
    fs::create_dir(&artifacts).map_err(failed(artifacts))?;
    emit(bundle, &view, events, blobs, key, &mut |name, bytes| fs::write(folder.join(name), bytes))
}

/// The digests that a journal names, each with what it is for people, in order of first mention.
pub(super) fn blobs_named(events: &[Event]) -> Vec<(Sha256, String, i64)> {
    let mut seen = BTreeSet::new();
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ArtifactStored { name, digest, .. } => {
                Some((*digest, format!("artifact {name}"), event.seq))
            }
            EventBody::EvidenceReceived { stage, attempt, digest, .. } => {
                Some((*digest, format!("evidence of {stage}, attempt {attempt}"), event.seq))
            }
            _ => None,
        })
        .filter(|(digest, ..)| seen.insert(*digest))
        .collect()
}

/// Decodes a journal.
pub(super) fn decode(journal: &[StoredEvent]) -> Result<Vec<Event>, (i64, BadEvent)> {
    journal
        .iter()
        .map(|e| {
            let body = EventBody::decode(&e.kind, &e.body).map_err(|source| (e.seq, source))?;
            Ok(Event { seq: e.seq, at: e.at, body })
        })
        .collect()
}

type Sink<'a> = dyn FnMut(&str, &[u8]) -> io::Result<()> + 'a;

fn fold(bundle: &Bundle<'_>) -> Result<(RunView, Vec<Event>), WriteError> {
    let events = decode(bundle.journal).map_err(|(seq, source)| WriteError::Event { seq, source })?;
    let view = RunView::fold(bundle.run, &events)?.ok_or(WriteError::Empty)?;
    Ok((view, events))
}

fn emit(
    bundle: &Bundle<'_>,
    view: &RunView,
    events: Vec<Event>,
    blobs: &mut BlobSource<'_>,
    key: &SigningKey,
    sink: &mut Sink<'_>,
) -> Result<(), WriteError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| WriteError::Io { what, source }
    };
    let mut files = BTreeMap::new();
    let mut put = |name: &str, bytes: &[u8]| {
        files.insert(name.to_owned(), Sha256::of(bytes));
        sink(name, bytes).map_err(failed(name))
    };

    let number = view.created.number;
    put(RUN, &canonical(&RunFile { format: FORMAT, run: bundle.run, number }))?;
    put(JOURNAL, &lines(bundle.journal).map_err(failed(JOURNAL))?)?;
    put(ADDENDUM, &lines(bundle.addendum).map_err(failed(ADDENDUM))?)?;
    let mut keys = key.public().to_pem();
    for other in bundle.other_keys.iter().filter(|k| **k != key.public()) {
        keys.push_str(&other.to_pem());
    }
    put(KEYS, keys.as_bytes())?;
    for (expected, what, _) in blobs_named(&events) {
        let Some(bytes) = blobs(&expected).map_err(failed(&what))? else { continue };
        let found = Sha256::of(&bytes);
        if found != expected {
            return Err(WriteError::Corrupt { what, expected, found });
        }
        put(&format!("{ARTIFACTS}{expected}"), &bytes)?;
    }
    let report = Report::of(view);
    put(REPORT_JSON, crate::json(&report).as_bytes())?;
    let filled;
    let extras = if bundle.extras.events.is_empty() {
        filled = Extras { events, ..bundle.extras.clone() };
        &filled
    } else {
        bundle.extras
    };
    put(REPORT_HTML, crate::html(view, &report, extras).as_bytes())?;

    let manifest = canonical(&Manifest { format: FORMAT, run: bundle.run, number, files });
    let signed = canonical(&envelope::sign(MANIFEST_TYPE, &manifest, key));
    sink(MANIFEST, &signed).map_err(failed(MANIFEST))
}

fn lines(events: &[StoredEvent]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    for event in events {
        serde_json::to_writer(&mut out, event)?;
        out.push(b'\n');
    }
    Ok(out)
}
