//! Whether anybody may write to this machine's disks at all: the permit holds, and the cluster lets the machine go.
//!
//! Asked before a surface scan and before an installer is let loose, in the same words.

use assay_model::host::permit::GuardAnswer;
use assay_model::host::spec::{ClusterSpec, HostSpec};
use assay_model::host::storage::PermitOutcome;
use assay_model::text::{clean, clean_to};
use assay_model::{Finding, Severity};

/// Longest part of a sentence that the machine chose.
const MAX_DETAIL: usize = 400;

/// Nothing may be written.
pub(super) struct Refused {
    /// Why, with the next step.
    pub(super) finding: Finding,
    /// What was asked, what was expected, what was seen; none where nobody could answer.
    pub(super) answered: Option<(&'static str, &'static str, String)>,
}

/// What stands against it, if anything does. What is undeclared or could not be asked is no "no", but no "yes" either.
pub(super) fn refusal(permit: &PermitOutcome, spec: &HostSpec) -> Option<Refused> {
    let Some(cluster) = &spec.cluster else {
        let message =
            "the spec does not say whether the host belongs to a cluster, so no disk was written to";
        let next_step = "Add `cluster: none` to the spec if nobody counts on its disks, or the cluster's address, and vet the host again.";
        return Some(unanswered("ClusterUndeclared", message, next_step));
    };
    let guard = match permit {
        PermitOutcome::Missing => return Some(invalid("no erase permit came with this try")),
        PermitOutcome::Invalid { why } => {
            return Some(invalid(&format!("the erase permit does not hold: {}", clean_to(why, MAX_DETAIL))));
        }
        PermitOutcome::Valid { guard } => guard,
    };
    let asked = matches!(cluster, ClusterSpec::Proxmox(_));
    match guard {
        GuardAnswer::Live { node } => {
            let message =
                format!("the cluster sees the node {} online, so no disk was written to", clean(node));
            let next_step = "Take the node out of the cluster, or shut its system down and see that the cluster shows it offline, then retry.";
            let finding = Finding::new("NodeIsLiveMember", Severity::Critical, message, next_step);
            let answered = Some(("cluster", "node not online", "node online".to_owned()));
            Some(Refused { finding: finding.part("system", None, None), answered })
        }
        GuardAnswer::Unreachable { node, why } => {
            let message = format!(
                "the cluster could not be asked about the node {} ({}), so no disk was written to",
                clean(node),
                clean_to(why, MAX_DETAIL)
            );
            let next_step = "See that the address in the spec leads to another member of the cluster, that the token is valid and that the cluster has quorum, then retry.";
            Some(unanswered("ClusterGuardUnreachable", &message, next_step))
        }
        GuardAnswer::NoCluster if !asked => None,
        GuardAnswer::NotMember { .. } | GuardAnswer::Offline { .. } if asked => None,
        other => {
            Some(invalid(&format!("the erase permit does not fit the spec: {}", clean(&other.to_string()))))
        }
    }
}

fn unanswered(code: &str, message: &str, next_step: &str) -> Refused {
    let finding = Finding::new(code, Severity::Warning, message, next_step).part("system", None, None);
    Refused { finding, answered: None }
}

fn invalid(message: &str) -> Refused {
    let next_step = "Retry the stage; if it stays, see that machine and control plane have the same version and that nobody else answers on the provisioning network.";
    let finding = Finding::new(
        "PermitInvalid",
        Severity::Critical,
        format!("{message}; nothing was written"),
        next_step,
    );
    let answered = Some(("erase permit", "valid", message.to_owned()));
    Refused { finding: finding.part("system", None, None), answered }
}
