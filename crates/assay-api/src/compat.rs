//! Which image works on which machine, as operators and programs see it: `/api/v1/matrix`.

use assay_model::compat::{CellState, ComponentKind, DueReason, TrialVerdict};
use assay_model::{Micros, RunId, Sha256};
use serde::{Deserialize, Serialize};

/// `GET /api/v1/matrix?image=I&kind=K&component=TEXT&max_age_days=N`: components against images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatMatrix {
    /// Days after which evidence is stale.
    pub max_age_days: u32,
    /// The columns: by name, of each name the newest digest first.
    pub images: Vec<CompatImage>,
    /// How many more digests there are; `image` asks for them.
    pub images_left_out: usize,
    /// The rows: by kind and name.
    pub rows: Vec<CompatRow>,
    /// Registered hosts that are in no row, as it is not known what they are.
    pub untold: Vec<UntoldHost>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatImage {
    /// Its digest.
    pub sha256: Sha256,
    /// The profile's name; none where only a digest was asked for that nobody has read.
    pub name: Option<String>,
    /// Its volume id: often its version.
    pub volume: Option<String>,
    /// The first run that read it: what makes one image of a name newer than another.
    pub first_run: Option<i64>,
}

/// A component with a cell for each image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatRow {
    /// What kind of component; `machine` is a machine as a whole.
    pub kind: ComponentKind,
    /// Its name; of a machine the digest of its fingerprint.
    pub name: String,
    /// The same as people say it.
    pub label: String,
    /// The drivers that the live image had for it.
    pub drivers: Vec<String>,
    /// Registered hosts that have it, as they were last seen.
    pub hosts: Vec<String>,
    /// In the order of the images.
    pub cells: Vec<CompatCell>,
}

/// What is known of an image on a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatCell {
    /// What is known.
    pub state: CellState,
    /// Whether that is older than evidence counts.
    pub stale: bool,
    /// When the newest run that it rests on ended, in microseconds since 1970; none when it is unknown.
    pub at: Option<Micros>,
    /// That run.
    pub run: Option<i64>,
    /// How many whole days that is ago.
    pub age_days: Option<u32>,
    /// How many runs there are.
    pub runs: usize,
    /// The newest of them, newest first.
    pub evidence: Vec<CompatRun>,
}

/// A finished run over an image on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatRun {
    /// Its number.
    pub run: i64,
    /// Its id.
    pub id: RunId,
    /// How it came out for the image.
    pub verdict: TrialVerdict,
    /// When it ended, in microseconds since 1970.
    pub at: Micros,
    /// The host that it was on.
    pub host: String,
    /// The digest of that host's fingerprint then.
    pub machine: Sha256,
    /// Codes of its findings, the gravest first.
    pub codes: Vec<String>,
    /// How many things it names as not verified.
    pub unverified: u32,
}

/// A registered host of which it is not known what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UntoldHost {
    /// Its name.
    pub host: String,
    /// Why.
    pub why: String,
}

/// What may be concluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompatAnswer {
    /// It was seen to work on this kind of machine, lately, and never to fail.
    Works,
    /// It was seen to fail on this kind of machine, lately, and never to work.
    Fails,
    /// Anything else: never tried, no verdict, contradicting ones, or too old.
    NotKnown,
}

/// `GET /api/v1/matrix/check?host=H&image=I&max_age_days=N`: one image on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatCheck {
    /// The host.
    pub host: String,
    /// The run that saw it to be what it is.
    pub seen_in: i64,
    /// The digest of its fingerprint.
    pub machine: Sha256,
    /// Its board and processor.
    pub machine_label: String,
    /// The image.
    pub image: CompatImage,
    /// Days after which evidence is stale.
    pub max_age_days: u32,
    /// The answer.
    pub answer: CompatAnswer,
    /// The machine as a whole: what the answer rests on.
    pub cell: CompatCell,
    /// Its components, each on whatever machine; told to say where a failure is to be expected, and never an answer.
    pub parts: Vec<CompatPart>,
    /// The answer in a sentence.
    pub message: String,
    /// What to do next; none when there is nothing to do.
    pub next_step: Option<String>,
}

/// A component of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatPart {
    /// What kind of component.
    pub kind: ComponentKind,
    /// Its name.
    pub name: String,
    /// The same as people say it, with how many there are.
    pub label: String,
    /// What is known of the image on it.
    pub cell: CompatCell,
}

/// `GET /api/v1/matrix/due?max_age_days=N`: what is to be tested again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatDue {
    /// By image and machine.
    pub due: Vec<DueTest>,
    /// Registered hosts of which nothing can be said, as it is not known what they are.
    pub untold: Vec<UntoldHost>,
}

/// A test that is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueTest {
    /// Why.
    pub reason: DueReason,
    /// The image: the newest of its name.
    pub image: CompatImage,
    /// The digest of the machine's fingerprint.
    pub machine: Sha256,
    /// Hosts of that kind; a test on one of them is enough.
    pub hosts: Vec<String>,
    /// The newest run that it follows from.
    pub after: i64,
    /// What is gone and what has come, where the machine changed.
    pub changes: Vec<String>,
    /// Why, in a sentence.
    pub message: String,
    /// What to do.
    pub next_step: String,
}
