//! The permission to erase disks: for one host, these serials, one run, one try, and not for long.
//!
//! The control plane signs it when an attempt of `Storage` begins; the agent checks it against its own machine, its
//! run and its try before a disk is opened for writing, and again for each disk. `/dev/sdX` is nowhere in it.
//!
//! Whether anybody else counts on the machine's disks is asked right before ([`GuardAnswer`]). The answer travels in
//! the permit, signed: one that does not let the machine go names no disk at all.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::smart::same_identity;
use crate::{Micros, RunId};

/// What is permitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErasePermit {
    /// The registered host's name.
    pub host: String,
    /// The run.
    pub run: RunId,
    /// The fencing token of the try; another try needs another permit.
    pub generation: i64,
    /// Serial numbers or WWNs of the disks that may be erased while they hold nothing.
    pub disks: Vec<String>,
    /// Those of them that may be erased although they hold data, because an operator said so of each.
    pub with_data: Vec<String>,
    /// What the cluster said when the permit was made; `disks` is empty unless it lets the machine go.
    pub guard: GuardAnswer,
    /// When it ends, in server time.
    pub expires: Micros,
    /// Random, so that no two permits are the same.
    pub nonce: String,
}

impl ErasePermit {
    /// Whether the disk with this serial number or this WWN may be erased while it holds nothing.
    pub fn names(&self, serial: Option<&str>, wwn: Option<&str>) -> bool {
        self.guard.allows() && lists(&self.disks, serial, wwn)
    }

    /// Whether it may be erased although it holds data.
    pub fn names_with_data(&self, serial: Option<&str>, wwn: Option<&str>) -> bool {
        self.names(serial, wwn) && lists(&self.with_data, serial, wwn)
    }
}

fn lists(names: &[String], serial: Option<&str>, wwn: Option<&str>) -> bool {
    let told = [serial, wwn];
    told.iter().flatten().any(|told| names.iter().any(|name| same_identity(name, told)))
}

/// Whether the host's cluster counts on it, as asked right before a permit was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub enum GuardAnswer {
    /// The spec says nothing of a cluster: nobody was asked, and nothing is written.
    Undeclared,
    /// The spec declares that there is no cluster.
    NoCluster,
    /// The cluster answered, and does not know the node.
    NotMember {
        /// The node's name.
        node: String,
    },
    /// The cluster answered, knows the node, and sees it offline.
    Offline {
        /// The node's name.
        node: String,
    },
    /// The cluster sees the node online.
    Live {
        /// The node's name.
        node: String,
    },
    /// The cluster could not be asked, or what it said cannot be relied on.
    Unreachable {
        /// The node's name.
        node: String,
        /// Why, for people.
        why: String,
    },
}

impl GuardAnswer {
    /// Whether disks may be written after this answer.
    pub const fn allows(&self) -> bool {
        match self {
            Self::NoCluster | Self::NotMember { .. } | Self::Offline { .. } => true,
            Self::Undeclared | Self::Live { .. } | Self::Unreachable { .. } => false,
        }
    }
}

impl fmt::Display for GuardAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undeclared => f.write_str("the spec says nothing of a cluster"),
            Self::NoCluster => f.write_str("the spec declares that there is no cluster"),
            Self::NotMember { node } => write!(f, "the cluster does not know the node {node}"),
            Self::Offline { node } => write!(f, "the cluster sees the node {node} offline"),
            Self::Live { node } => write!(f, "the cluster sees the node {node} online"),
            Self::Unreachable { node, why } => {
                write!(f, "the cluster could not be asked about the node {node}: {why}")
            }
        }
    }
}

/// A permit with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedPermit {
    /// The permit's bytes, verbatim: what was signed.
    pub permit: String,
    /// Ed25519 over those bytes under the context `assay-erase-permit-v1\0`, in hexadecimal.
    pub signature: String,
}

/// What is put before the permit's bytes when they are signed, so that no other signature fits.
pub const CONTEXT: &[u8] = b"assay-erase-permit-v1\0";

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(guard: GuardAnswer) -> ErasePermit {
        ErasePermit {
            host: "web-3".to_owned(),
            run: RunId(uuid::Uuid::nil()),
            generation: 4,
            disks: vec!["S1".to_owned(), "5000c500a1b2c3d4".to_owned()],
            with_data: vec!["S1".to_owned(), "S9".to_owned()],
            guard,
            expires: Micros(1),
            nonce: "n".to_owned(),
        }
    }

    #[test]
    fn only_named_disks_may_be_erased_and_with_data_only_those_that_are_named_for_it() {
        let permit = permit(GuardAnswer::NoCluster);
        assert!(permit.names(Some("s1 "), None), "spelling does not matter");
        assert!(permit.names(None, Some("naa.5000c500a1b2c3d4")));
        assert!(
            !permit.names(Some("S2"), None) && !permit.names(None, None) && !permit.names(Some(""), Some(""))
        );
        assert!(permit.names_with_data(Some("S1"), None));
        assert!(!permit.names_with_data(None, Some("naa.5000c500a1b2c3d4")));
        assert!(!permit.names_with_data(Some("S9"), None), "with_data alone permits nothing");
    }

    #[test]
    fn an_answer_that_does_not_let_the_machine_go_permits_nothing() {
        let node = || "pve3".to_owned();
        let answers = [
            (GuardAnswer::Undeclared, false),
            (GuardAnswer::NoCluster, true),
            (GuardAnswer::NotMember { node: node() }, true),
            (GuardAnswer::Offline { node: node() }, true),
            (GuardAnswer::Live { node: node() }, false),
            (GuardAnswer::Unreachable { node: node(), why: "no route".to_owned() }, false),
        ];
        for (answer, allowed) in answers {
            assert_eq!(permit(answer.clone()).names(Some("S1"), None), allowed, "{answer}");
            assert_eq!(permit(answer.clone()).names_with_data(Some("S1"), None), allowed, "{answer}");
        }
    }

    #[test]
    fn a_permit_with_something_unknown_in_it_is_no_permit() {
        let mut value = serde_json::to_value(permit(GuardAnswer::NoCluster)).expect("plain");
        assert!(serde_json::from_value::<ErasePermit>(value.clone()).is_ok());
        value["all_disks"] = true.into();
        assert!(serde_json::from_value::<ErasePermit>(value).is_err());
    }
}
