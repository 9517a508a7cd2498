//! The stage `Clearance`: may an installer be let loose on this machine?
//!
//! It is not part of a vet. A run that boots an installer on a machine asks it right before, in the live image: an
//! installer writes to whatever disk its own rules choose, so *every* disk that can be written needs somebody's word
//! that it may be erased. The host's spec gives it for the disks that it names, as long as they hold nothing; an
//! operator gives it for each of the others, and for each that holds data, by serial number. The cluster is asked as it
//! is before a surface scan.
//!
//! Nothing is written here. What must never pass: a machine with a disk that nobody has spoken for, with one that could
//! not be looked at, or with one that the live image cannot see and the installer may.

#[cfg(feature = "collect")]
mod collect;
mod judge;

use assay_model::host::clearance::ClearanceEvidence;
use assay_model::{Judgement, Owner, StageName, StagePlan};

use crate::{HostStage, JudgeInput};

/// The stage's name.
pub const NAME: &str = assay_model::host::clearance::STAGE;

/// Reading samples of a hundred slow disks at once, and a cluster that answers late.
const LIMIT_S: u32 = 1800;

/// Disks that an installer may find.
pub(crate) struct Clearance;

impl HostStage for Clearance {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from(NAME), owner: Owner::Agent, required: true, timeout_s: LIMIT_S }
    }

    fn opt_in(&self) -> bool {
        true
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        super::judged(NAME, input, |evidence: &ClearanceEvidence| judge::judge(evidence, input))
    }

    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        context: &'a crate::CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<crate::Collected, crate::CollectError>> {
        Box::pin(collect::collect(context))
    }
}
