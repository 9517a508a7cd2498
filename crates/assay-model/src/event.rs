//! What may happen to a run. A run *is* the list of these; everything else is a fold of it.
//!
//! A stored event is `kind@version` plus the bytes of its body, verbatim. Nothing is ever
//! re-serialised; a reader that meets an old version upcasts it in [`EventBody::decode`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::host::order::{IperfServer, RunOptions};
use crate::{
    Decision, Finding, Judgement, Mac, Micros, Pipeline, Priority, RunResult, Sha256, StageName, StagePlan,
    TargetId,
};

/// The version written by this code, for every kind.
const VERSION: u32 = 1;

/// What a run is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// Which: a registered host's id, or one made from an image's name.
    #[serde(alias = "host")]
    pub id: TargetId,
    /// Its name at the time.
    pub name: String,
}

/// Everything that a run was created with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunCreated {
    /// The run's integer number, as people say it.
    pub number: i64,
    /// Which list of stages.
    pub pipeline: Pipeline,
    /// `quick`, `standard` or `burnin`.
    pub profile: String,
    /// What is tested.
    pub target: Target,
    /// The plan.
    pub stages: Vec<StagePlan>,
    /// The expected spec, or the image and its profile: whole, as it was at creation.
    pub spec: Value,
    /// Where an image is tested on a registered host: that host's expected spec, as it was at creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Value>,
    /// The addresses that the machine may boot from.
    pub macs: Vec<Mac>,
    /// How the machine is switched on and off: a runner's power method and its settings.
    pub power: Value,
    /// Whether a failed run keeps its machine until someone decides.
    pub holds: bool,
    /// How long a hold lasts, in seconds.
    pub hold_s: u32,
    /// How long the machine may take from power-on to enrolment, in seconds.
    pub boot_timeout_s: u32,
    /// Who asked for it.
    pub requested_by: String,
    /// The version of Assay that runs it.
    pub harness: String,
    /// Codes of checks that are switched off for this run (`assay prove --mute`); a run with any
    /// says so on its report and can never gate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub muted: Vec<String>,
    /// What was asked for beyond the pipeline's defaults.
    #[serde(default, skip_serializing_if = "RunOptions::is_default")]
    pub options: RunOptions,
}

impl RunCreated {
    /// What the machine under test should be: the expected spec of the host that boots for this run, if one does.
    pub const fn host_spec(&self) -> Option<&Value> {
        match self.pipeline {
            Pipeline::Host => Some(&self.spec),
            Pipeline::Image => self.machine.as_ref(),
            Pipeline::Recipe => None,
        }
    }

    /// Whether nothing was spared: no check is switched off, no stage left out, and it was to begin at the beginning.
    pub const fn is_whole(&self) -> bool {
        self.muted.is_empty() && self.options.left_out.is_empty() && self.options.from_phase.is_none()
    }

    /// Whether it may be queued while its target is under test, and wait for that. Machines and what people ask for are
    /// refused instead: they should hear of it at once.
    pub const fn may_wait_for_its_target(&self) -> bool {
        !self.has_machine() && !matches!(self.options.asked.priority, Priority::Operator)
    }

    /// Whether a machine boots over the network for it, and is switched on and off. Otherwise the runner does the work
    /// itself, as the run's agent.
    pub const fn has_machine(&self) -> bool {
        self.host_spec().is_some()
    }
}

/// What the power driver is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PowerAction {
    /// Off if on, then on, booting from the network.
    Cycle,
    /// The medium under test is inserted; then as [`Self::Cycle`]. The firmware comes to it once the network tells it to
    /// go on.
    Medium,
    /// Off, at once.
    Off,
}

impl PowerAction {
    /// Whether the machine is switched on by it.
    pub const fn boots(self) -> bool {
        matches!(self, Self::Cycle | Self::Medium)
    }
}

/// One record that a machine kept of a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CrashRecord {
    /// Its name: `dmesg-erst-7000000000000001`.
    pub name: String,
    /// Its digest in the artifact store.
    pub digest: Sha256,
}

/// Why an enrolment was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The token had been exchanged before.
    TokenReused,
    /// A newer boot fetch has voided it.
    TokenVoided,
    /// It was minted too long ago.
    TokenExpired,
    /// It came from a machine that has none of the run's addresses.
    WrongMachine,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "body")]
pub enum EventBody {
    /// The run exists and waits.
    RunCreated(Box<RunCreated>),
    /// A runner took it; the machine is about to be booted.
    Admitted {
        /// The runner's name.
        runner: String,
    },
    /// The runner was asked to switch power. Written before it is asked.
    PowerRequested {
        /// Names the request; the runner does each once.
        job: String,
        /// What it is to do.
        action: PowerAction,
    },
    /// What became of a power request.
    PowerDone {
        /// Which request.
        job: String,
        /// Whether the driver reports success.
        ok: bool,
        /// What it said.
        message: String,
    },
    /// The runner says which services stand ready for this run.
    ServicesReady {
        /// Network speed servers.
        iperf: Vec<IperfServer>,
    },
    /// A registered machine fetched its boot script; this minted its one-time token.
    BootServed {
        /// Counts the boots of this run, from 1.
        boot: u32,
        /// Who fetched it.
        mac: Mac,
    },
    /// A registered machine fetched memtest86+ in place of the live image.
    MemtestServed {
        /// The stage that wants it.
        stage: StageName,
        /// Which try.
        attempt: u32,
        /// Who fetched it.
        mac: Mac,
    },
    /// A registered machine asked what to boot and was told to go on to the medium under test.
    MediumServed {
        /// The stage that wants it.
        stage: StageName,
        /// Which try.
        attempt: u32,
        /// Who asked.
        mac: Mac,
    },
    /// The agent exchanged its token for a credential; where no machine boots, the runner took up its work.
    Enrolled {
        /// Which boot; or how often a runner has taken it up.
        boot: u32,
        /// The address it booted from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<Mac>,
        /// The machine's SMBIOS UUID, as told.
        system_uuid: Option<String>,
        /// The agent's version.
        agent: String,
        /// The machine's own clock minus the server's, in microseconds.
        clock_skew_us: i64,
        /// Fencing token: what names an older one is refused.
        generation: i64,
    },
    /// What the machine kept of its last moments before this boot was told, be it nothing.
    PostMortem {
        /// Which boot told it.
        boot: u32,
        /// The records, each stored as an artifact; empty when the machine kept none.
        records: Vec<CrashRecord>,
        /// The line that says most: a panic, a machine check. None without records.
        cause: Option<String>,
    },
    /// Someone tried to enrol and was turned away.
    EnrolmentRefused {
        /// Why.
        reason: Refusal,
        /// What was told of the machine.
        detail: String,
    },
    /// The machine did not come up in time.
    BootFailed {
        /// What was seen and what was not.
        message: String,
    },
    /// An attempt of a stage began.
    StageStarted {
        /// Which stage.
        stage: StageName,
        /// Its place in the plan, from 0.
        index: usize,
        /// Which try, from 1.
        attempt: u32,
        /// Fencing token of the attempt.
        generation: i64,
    },
    /// An attempt ended without evidence; the stage is tried again.
    AttemptLost {
        /// Which stage.
        stage: StageName,
        /// Which try.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// A collector's evidence arrived and is stored.
    EvidenceReceived {
        /// Which stage.
        stage: StageName,
        /// Which try.
        attempt: u32,
        /// The evidence's digest in the artifact store.
        digest: Sha256,
        /// What the collector said if it could not do its work.
        problem: Option<String>,
        /// Whether it came after its attempt was closed; then it changes nothing.
        late: bool,
    },
    /// A file was stored.
    ArtifactStored {
        /// The stage and attempt it belongs to, if any.
        stage: Option<StageName>,
        /// Which try; 0 without a stage.
        attempt: u32,
        /// `inventory.json`, `smart-<disk>.txt` …
        name: String,
        /// Its digest: the blob's name.
        digest: Sha256,
        /// Its size.
        bytes: u64,
        /// Whether it came after its attempt was closed.
        late: bool,
    },
    /// Bulk rows that live outside the chain, bound to it by their digest.
    BulkSealed {
        /// `sensors` or `log`.
        what: String,
        /// First row covered.
        from: i64,
        /// Last row covered.
        to: i64,
        /// How many rows.
        rows: u64,
        /// SHA-256 over the rows' stored bytes, in order.
        digest: Sha256,
    },
    /// A stage was judged; its attempt is closed.
    StageJudged {
        /// Which stage.
        stage: StageName,
        /// Its place in the plan.
        index: usize,
        /// Which try.
        attempt: u32,
        /// Whether the plan requires it.
        required: bool,
        /// What came out.
        judgement: Judgement,
    },
    /// An observation about the run itself.
    FindingRaised {
        /// The observation.
        finding: Finding,
    },
    /// Nothing was heard from the agent for too long.
    AgentSuspect {
        /// When it was last heard.
        last_seen: Micros,
    },
    /// It is heard again.
    AgentReturned,
    /// The failed run keeps its machine for an operator.
    Held {
        /// Until when.
        until: Micros,
    },
    /// An operator decided.
    Decided {
        /// Who, what, why.
        decision: Decision,
    },
    /// Nobody decided in time; the machine is released.
    HoldExpired,
    /// All stages are behind the run, or it failed and does not hold.
    RunCompleted {
        /// The result; none after a runner error.
        result: Option<RunResult>,
    },
    /// The machine is confirmed off, or was never on: the cancellation is complete.
    CancelConfirmed {
        /// How it was confirmed.
        how: String,
    },
    /// A newer run takes this one's place.
    Superseded {
        /// The newer run's number.
        by: i64,
    },
    /// The verdict is final and signed. The last event of the chain.
    Sealed(Box<Sealed>),
}

/// The seal: a signature over the head of the chain and the verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sealed {
    /// Hash of the last event before this one.
    pub head: Sha256,
    /// The result.
    pub result: Option<RunResult>,
    /// Whether anything was waived.
    pub overridden: bool,
    /// The DSSE envelope over the in-toto statement.
    pub envelope: Value,
}

/// An event with its place and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Place in the run's journal, from 1.
    pub seq: i64,
    /// When it was committed.
    pub at: Micros,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// Stored bytes that do not read as an event.
#[derive(Debug, thiserror::Error)]
pub enum BadEvent {
    /// The kind has no `@version`, or a version newer than this program.
    #[error("event kind `{0}` is unknown here; was it written by a newer Assay?")]
    Kind(String),
    /// The body does not fit its kind.
    #[error("the body of a `{kind}` event does not read: {source}")]
    Body {
        /// The stored kind.
        kind: String,
        /// What serde says.
        source: serde_json::Error,
    },
}

impl EventBody {
    /// The stored form: `kind@version` and the bytes to hash and keep.
    pub fn encode(&self) -> (String, Vec<u8>) {
        let Ok(Value::Object(mut tagged)) = serde_json::to_value(self) else {
            unreachable!("an adjacently tagged enum serialises to an object");
        };
        let kind = tagged.get("kind").and_then(Value::as_str).unwrap_or_default();
        let kind = format!("{kind}@{VERSION}");
        let body = tagged.remove("body").unwrap_or(Value::Null);
        (kind, body.to_string().into_bytes())
    }

    /// Reads the stored form back.
    pub fn decode(kind: &str, body: &[u8]) -> Result<Self, BadEvent> {
        let Some((name, "1")) = kind.split_once('@') else {
            return Err(BadEvent::Kind(kind.to_owned()));
        };
        let wrap = |source| BadEvent::Body { kind: kind.to_owned(), source };
        let body: Value = serde_json::from_slice(body).map_err(wrap)?;
        let mut tagged = serde_json::Map::new();
        tagged.insert("kind".to_owned(), name.into());
        if !body.is_null() {
            tagged.insert("body".to_owned(), body);
        }
        serde_json::from_value(Value::Object(tagged)).map_err(wrap)
    }

    /// The kind without its version.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RunCreated(_) => "RunCreated",
            Self::Admitted { .. } => "Admitted",
            Self::PowerRequested { .. } => "PowerRequested",
            Self::PowerDone { .. } => "PowerDone",
            Self::ServicesReady { .. } => "ServicesReady",
            Self::BootServed { .. } => "BootServed",
            Self::MemtestServed { .. } => "MemtestServed",
            Self::MediumServed { .. } => "MediumServed",
            Self::Enrolled { .. } => "Enrolled",
            Self::PostMortem { .. } => "PostMortem",
            Self::EnrolmentRefused { .. } => "EnrolmentRefused",
            Self::BootFailed { .. } => "BootFailed",
            Self::StageStarted { .. } => "StageStarted",
            Self::AttemptLost { .. } => "AttemptLost",
            Self::EvidenceReceived { .. } => "EvidenceReceived",
            Self::ArtifactStored { .. } => "ArtifactStored",
            Self::BulkSealed { .. } => "BulkSealed",
            Self::StageJudged { .. } => "StageJudged",
            Self::FindingRaised { .. } => "FindingRaised",
            Self::AgentSuspect { .. } => "AgentSuspect",
            Self::AgentReturned => "AgentReturned",
            Self::Held { .. } => "Held",
            Self::Decided { .. } => "Decided",
            Self::HoldExpired => "HoldExpired",
            Self::RunCompleted { .. } => "RunCompleted",
            Self::CancelConfirmed { .. } => "CancelConfirmed",
            Self::Superseded { .. } => "Superseded",
            Self::Sealed(_) => "Sealed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;

    #[test]
    fn the_stored_form_reads_back_and_is_stable() {
        let finding = Finding::new("DimmMissing", Severity::Critical, "slot A2 is empty", "seat it");
        let events = [
            EventBody::AgentReturned,
            EventBody::Admitted { runner: "r1".into() },
            EventBody::FindingRaised { finding },
        ];
        let stored: Vec<_> = events.iter().map(EventBody::encode).collect();
        assert_eq!(stored[0], ("AgentReturned@1".to_owned(), b"null".to_vec()));
        assert_eq!(stored[1], ("Admitted@1".to_owned(), br#"{"runner":"r1"}"#.to_vec()));
        for (event, (kind, body)) in events.iter().zip(&stored) {
            assert_eq!(&EventBody::decode(kind, body).expect("reads back"), event);
            assert!(kind.starts_with(event.kind()));
        }
    }

    #[test]
    fn unknown_kinds_and_broken_bodies_are_named() {
        let newer = EventBody::decode("Admitted@9", b"{}").expect_err("newer");
        assert!(newer.to_string().contains("Admitted@9"));
        assert!(EventBody::decode("Admitted@1", b"{\"runner\":1}").is_err());
        assert!(EventBody::decode("Admitted", b"{}").is_err());
    }
}
