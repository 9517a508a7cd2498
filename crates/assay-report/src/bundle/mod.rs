//! The bundle: one run with everything needed to check it, without us and without a network.
//!
//! A folder, or the same files in a tar below `assay-run-<number>/`:
//!
//! | file | what it is | what binds it |
//! |---|---|---|
//! | `run.json` | format, run id, number | the id is part of every event's hash |
//! | `journal.jsonl` | a stored event per line, bodies verbatim | the chain; the seal signs its head |
//! | `addendum.jsonl` | what came after the seal, chained to it | its own chain |
//! | `artifacts/<sha256>` | files and evidence | the digest in the journal |
//! | `report.json` | for programs | equal to the fold of the journal |
//! | `report.html` | for people | the manifest |
//! | `key.pub.pem` | the signers' public keys | compare with one you trust |
//! | `bundle.json` | the manifest: every file and its digest, signed when exported | its signature |
//!
//! Two signatures do two jobs. The seal inside the journal is the verdict's, made once. The
//! manifest's is the export's: it covers what is only derived (the report that people read) and
//! what only grows (the addendum), and it tells a file that was pruned before the export from one
//! that someone took away after it.

mod read;
mod verify;
mod write;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use assay_model::journal::StoredEvent;
use assay_model::{RunId, Sha256};
use serde::{Deserialize, Serialize};

use crate::Extras;
use crate::key::PublicKey;

pub use read::read_blob;
pub use verify::{Outcome, Verification, VerifyCheck, open_bundle, verify_bundle};
pub use write::{WriteError, write_bundle, write_folder};

/// The format that is written and read here.
pub const FORMAT: u32 = 1;

/// What the manifest's envelope carries.
pub const MANIFEST_TYPE: &str = "application/vnd.assay.bundle+json";

const RUN: &str = "run.json";
const JOURNAL: &str = "journal.jsonl";
const ADDENDUM: &str = "addendum.jsonl";
const REPORT_JSON: &str = "report.json";
const REPORT_HTML: &str = "report.html";
const KEYS: &str = "key.pub.pem";
const MANIFEST: &str = "bundle.json";
const ARTIFACTS: &str = "artifacts/";

/// What goes into a bundle.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'a> {
    /// The run.
    pub run: RunId,
    /// Its journal, whole.
    pub journal: &'a [StoredEvent],
    /// Its addendum: numbered from 1, chained to the journal's last hash.
    pub addendum: &'a [StoredEvent],
    /// What the report shows beyond the journal. An empty timeline is filled from the journal.
    pub extras: &'a Extras,
    /// Public keys that sealed this run and are not the exporting one (after a key change).
    pub other_keys: &'a [PublicKey],
}

/// Where blobs come from: the bytes of a digest, or none when they were pruned.
pub type BlobSource<'a> = dyn FnMut(&Sha256) -> io::Result<Option<Vec<u8>>> + 'a;

/// The bundle cannot be read at all. What is wrong *inside* it is a [`Verification`].
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system refused.
    #[error("cannot read {}: {source}; name a bundle folder or the .tar of one", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunFile {
    format: u32,
    run: RunId,
    number: i64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    run: RunId,
    number: i64,
    files: BTreeMap<String, Sha256>,
}

/// The one spelling of the small JSON files, so that even a changed space is a change.
fn canonical(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("plain data always encodes");
    text.push(b'\n');
    text
}
