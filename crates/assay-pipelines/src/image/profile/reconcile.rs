//! What becomes of a registration in a cluster: who applies it, and when that is asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Span, is_default};

/// What becomes of a merged registration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReconcileSpec {
    /// The Argo CD Application that applies registrations, as YAML, relative to the profile. Its source (path, include,
    /// exclude), its namespace and its policy are what counts; the repository in it is not asked.
    pub application: String,
    /// Who applies them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on: Cluster,
    /// In which runs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when: When,
    /// Whether a run without a cluster to ask has failed. Without it, the run says that nothing was verified here.
    #[serde(default, skip_serializing_if = "is_default")]
    pub required: bool,
    /// Manifests that the cluster has before any registration (definitions of kinds, mostly), relative to the profile.
    /// Isolated clusters only: a live one has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub definitions: Vec<String>,
    /// Fields that may differ between a registration and its object, as JSON Pointers; `*` stands for one step. Fields
    /// with a default in the definition, mostly. What servers and Argo CD manage themselves never counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// How long the cluster may take after a change of the tree.
    #[serde(default = "minutes")]
    pub within: Span,
    /// The kubeconfig of a live cluster, relative to the profile; without it, the one that `kubectl` would use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// Where a live cluster fetches the repository from: an address and port of the runner, on which it is then served
    /// (`192.0.2.7:8418`). The Application's `repoURL` is `http://ADDRESS/OWNER/NAME.git`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serve: Option<std::net::SocketAddr>,
}

/// Who applies registrations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cluster {
    /// A Kubernetes API server that the runner starts for it, and a reconciler with Argo CD's rules.
    #[default]
    Isolated,
    /// A cluster with Argo CD.
    Live,
}

/// In which runs a slow stage is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// In all.
    #[default]
    Always,
    /// In those of the main branch (`assay image test --main`).
    Main,
}

const fn minutes() -> Span {
    Span::seconds(300)
}
