//! The status of an Argo CD `Application`: the part of it that a verdict depends on.
//!
//! Written by [`crate::Reconciler`] and read by [`crate::judge`], also from a real Argo CD. Field names and values are
//! those of `ApplicationStatus` in argo-cd `pkg/apis/application/v1alpha1/types.go`. Reading is lenient: unknown fields
//! are left out, missing ones empty, and an empty value is never a good one.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// `status` of an Application.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApplicationStatus {
    /// Whether the cluster has what the tree says.
    pub sync: SyncStatus,
    /// Whether what the cluster has works.
    pub health: Health,
    /// The last operation that was started, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_state: Option<OperationState>,
    /// Every object that the tree has or that is tracked.
    pub resources: Vec<ResourceStatus>,
    /// What is wrong or odd. Types that end in `Error` are errors.
    pub conditions: Vec<Condition>,
    /// When it was last reconciled (RFC 3339).
    pub reconciled_at: String,
}

/// `status.sync`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyncStatus {
    /// `Synced`, `OutOfSync` or `Unknown`.
    pub status: String,
    /// The commit that was compared; empty when the tree could not be read.
    pub revision: String,
    /// The commits, for an Application of several sources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<String>,
}

/// Health of an object or of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// `Healthy`, `Suspended`, `Progressing`, `Missing`, `Degraded` or `Unknown`.
    pub status: String,
    /// Why, where there is something to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// `status.operationState`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OperationState {
    /// `Running`, `Succeeded`, `Failed`, `Error` or `Terminating`.
    pub phase: String,
    /// What came of it.
    pub message: String,
    /// When it started (RFC 3339).
    pub started_at: String,
    /// When it ended (RFC 3339).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub finished_at: String,
    /// What was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_result: Option<SyncResult>,
}

/// `status.operationState.syncResult`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncResult {
    /// The commit that was applied.
    pub revision: String,
    /// The commits, for an Application of several sources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<String>,
    /// What came of each object.
    pub resources: Vec<ResourceResult>,
}

/// An entry of `status.operationState.syncResult.resources`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceResult {
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for what has none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `Synced`, `SyncFailed`, `Pruned` or `PruneSkipped`.
    pub status: String,
    /// What the API server said.
    pub message: String,
    /// `PreSync` for a namespace that was made, else `Sync`.
    pub sync_phase: String,
}

/// An entry of `status.resources`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceStatus {
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for what has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `Synced`, `OutOfSync` or `Unknown`.
    pub status: String,
    /// Its health; most kinds have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Whether it is tracked and no longer in the tree.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub requires_pruning: bool,
}

/// An entry of `status.conditions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Such as `ComparisonError`, `SyncError`, `OrphanedResourceWarning`, `RepeatedResourceWarning`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is wrong.
    pub message: String,
}

impl Condition {
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), message: message.into() }
    }
}

impl Health {
    pub(crate) fn new(status: &str, message: impl Into<String>) -> Self {
        Self { status: status.to_owned(), message: message.into() }
    }

    /// The worse of two, in Argo CD's order; an unknown word is as bad as `Unknown`.
    pub(crate) fn compare_badness(&self, other: &Self) -> Ordering {
        fn badness(status: &str) -> usize {
            ["Healthy", "Suspended", "Progressing", "Missing", "Degraded"]
                .iter()
                .position(|known| *known == status)
                .unwrap_or(usize::MAX)
        }
        badness(&self.status).cmp(&badness(&other.status))
    }
}
