//! Assay's vocabulary: pure data and pure functions.
//!
//! Everything that crosses a crate boundary is spelled here once: what a run is, which states it
//! can be in, what may happen to it ([`event`]), how the pieces fold into one picture ([`view`])
//! and how a verdict is reached ([`verdict`]). Nothing here does I/O, reads a clock or is async.

pub mod asked;
pub mod check;
pub mod clock;
pub mod compat;
pub mod decision;
pub mod digest;
pub mod event;
pub mod finding;
pub mod host;
pub mod ids;
pub mod journal;
pub mod mac;
pub mod matrix;
pub mod pipeline;
pub mod power_cuts;
pub mod recipe;
pub mod report;
pub mod schedule;
pub mod sensor;
pub mod sentence;
pub mod stage;
pub mod state;
pub mod text;
pub mod verdict;
pub mod view;

pub use asked::{Asked, Priority};
pub use check::{Check, Coverage, Judgement, bytes};
pub use clock::{Clock, Micros};
pub use decision::{Decision, DecisionKind};
pub use event::{Event, EventBody};
pub use finding::{Finding, Part, Severity};
pub use ids::{HostId, RunId, Sha256, TargetId};
pub use mac::Mac;
pub use pipeline::Pipeline;
pub use stage::{Owner, StageName, StagePlan};
pub use state::{IllegalEvent, RunState, Status};
pub use verdict::{RunResult, Verdict};
pub use view::RunView;
