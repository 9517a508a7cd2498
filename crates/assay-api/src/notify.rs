//! The operators' API on notifications: `GET /api/v1/notify`, `POST /api/v1/notify/test`.

use assay_model::Micros;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/notify`: who is told, and how that is going.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notifications {
    /// The settings file, on the control plane.
    pub file: String,
    /// Whether there is such a file.
    pub file_exists: bool,
    /// What links in messages begin with; without it they have none.
    pub base_url: Option<String>,
    /// The sinks that are set up.
    pub sinks: Vec<SinkStatus>,
    /// Deliveries that wait for another try, were given up, or are in doubt; newest first, at most 50.
    pub troubles: Vec<TroubledDelivery>,
}

/// A sink and how it has been doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Its name in the settings.
    pub name: String,
    /// `webhook`, `ntfy`, `email` or `matrix`.
    pub kind: String,
    /// Where it is, without anything secret.
    pub place: String,
    /// What it is told; absent for everything.
    pub events: Option<Vec<String>>,
    /// Deliveries that wait or are being made.
    pub pending: u64,
    /// Deliveries that were given up.
    pub failed: u64,
    /// Deliveries of which nobody knows whether they arrived.
    pub unknown: u64,
    /// When it last took one.
    pub last_success: Option<Micros>,
    /// What went wrong since then, if anything did.
    pub last_error: Option<SinkError>,
}

/// What a sink said, or why it said nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkError {
    /// When.
    pub at: Micros,
    /// What.
    pub message: String,
}

/// A delivery that did not just work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubledDelivery {
    /// The sink.
    pub sink: String,
    /// The kind of news.
    pub event: String,
    /// The run's number.
    pub run: i64,
    /// `pending`, `failed` or `unknown`.
    pub state: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again, while it is `pending`.
    pub next_try: Option<Micros>,
    /// When it last changed.
    pub at: Micros,
    /// What the sink said last.
    pub message: Option<String>,
}

/// `POST /api/v1/notify/test`: sends a test, which is not repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyTest {
    /// To which sink; to all without it.
    pub sink: Option<String>,
}

/// How a test went; one per sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyTested {
    /// The sink.
    pub sink: String,
    /// Whether it took the test.
    pub ok: bool,
    /// What it said, or what went wrong and what to do about it.
    pub message: String,
}
