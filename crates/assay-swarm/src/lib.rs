//! Drives Docker Swarm. Only this crate talks to Docker, and none of that library's types leave it.
//!
//! A [`Daemon`] is a Docker daemon with a swarm of its own for one run, and gone with it; its [`Swarm`] is the connection. A
//! [`SharedSwarm`] is one that others use, too, in which each run has claimed a name.
//! A Compose becomes a [`Plan`] ([`plan()`], pure), which [`Swarm::deploy`] acts by and [`Swarm::converge`] waits for. Whether a
//! stack has converged or never will is judged by pure functions over what was seen ([`judge`]); [`refuse()`] says what in a
//! stack reaches out of its containers, [`Swarm::census`] and [`Swarm::teardown`] what it leaves behind.
//!
//! This crate knows nothing of runs, stages or verdicts. Reading order: `daemon`, `stack`, `observe`, `history`, `converge`,
//! `crash`, `watch`.

mod addresses;
mod archives;
mod census;
mod client;
mod converge;
mod crash;
mod daemon;
mod deaths;
mod error;
mod evidence;
mod history;
mod images;
mod inside;
#[cfg(test)]
mod judge_tests;
mod logs;
mod moment;
mod observe;
mod refuse;
mod scale;
mod shared;
mod stack;
mod teardown;
mod watch;

pub use archives::{Archives, whole_name};
pub use census::{Census, Thing, ThingKind};
pub use client::{Ensured, Swarm};
pub use converge::{Judgement, Rules, Waiting, judge};
pub use crash::{Failure, FailureClass};
pub use daemon::{
    Daemon, DaemonConfig, DaemonTimings, ProgramLimits, Programs, Reach, Reached, StopTimings, Swept,
};
pub use deaths::{Death, Mark};
pub use error::SwarmError;
pub use evidence::{AttemptEvidence, Evidence, StackEvent};
pub use history::{Attempt, History};
pub use images::{
    ImageIdentity, ImageSettings, Images, NeededImage, PullError, PullFailure, Pulled, needed_images,
};
pub use inside::{CommandOutput, ContainerCommand, VolumeFiles};
pub use logs::LogLine;
pub use observe::{
    Observation, ObservedService, ObservedTask, ObservedUpdate, Restart, TaskState, UpdateState, Wants,
};
pub use refuse::{Allowed, AllowedBind, Escape, EscapeKind, escapes, refuse};
pub use scale::StoppedService;
pub use shared::{Claim, NotShareable, Owner, OwnerState, SharedSwarm};
pub use stack::{
    Change, Deployed, DeployedService, Endpoints, FileError, IMAGE_LABEL, NAMESPACE_LABEL, Plan, PlanError,
    PlanOptions, RUN_LABEL, plan, read_files,
};
pub use teardown::{Teardown, TornDown};
pub use watch::{Convergence, Outcome};
