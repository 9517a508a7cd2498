//! What is to be reconciled: an Argo CD `Application`, read from the manifest that a cluster would be given.
//!
//! The same file drives a real Argo CD and this crate's [`crate::Reconciler`]. What the reconciler does not do (Helm,
//! Kustomize, several sources, ignored differences …) is refused with its name, so that a test never runs against less
//! than what the file says.

use serde::Deserialize;

use crate::{Glob, GlobError, Source};

/// An Application of one directory source and one namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, where the Application itself is kept; `argocd` unless it says otherwise.
    pub namespace: String,
    /// `spec.source`.
    pub source: Source,
    /// `spec.destination.namespace`: where objects go that name none.
    pub destination: String,
    /// `spec.syncPolicy.automated`; without it nothing is ever applied.
    pub automated: Option<Automated>,
    /// `CreateNamespace=true` of `spec.syncPolicy.syncOptions`.
    pub create_namespace: bool,
}

/// What is done without being asked. Names and meaning are those of Argo CD's user guide, page "Automated Sync Policy".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Automated {
    /// Objects that are no longer in the tree are deleted.
    pub prune: bool,
    /// Live objects that were changed are put right. Without it a revision is applied once.
    pub self_heal: bool,
    /// Whether pruning may leave nothing. Without it the *last* registration is never pruned.
    pub allow_empty: bool,
}

/// Why an Application cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ApplicationError {
    /// The YAML is not an Application, or one with fields that are not supported here.
    #[error(
        "the Application is not understood, or uses what is not supported here (only directory sources are): {problem}"
    )]
    Manifest {
        /// What the parser says.
        problem: String,
    },
    /// Another object than an Application.
    #[error("`{kind}` of `{api_version}` is not an Application of argoproj.io/v1alpha1")]
    Kind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// A sync option that would change what happens and is not supported here.
    #[error(
        "the sync option `{option}` is not supported here; supported are CreateNamespace, ServerSideApply=true and ApplyOutOfSyncOnly"
    )]
    Option {
        /// The option.
        option: String,
    },
    /// A glob of the source.
    #[error(transparent)]
    Glob(#[from] GlobError),
}

impl Application {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ApplicationError`], also for what a real Argo CD would understand and this crate does not.
    pub fn from_yaml(yaml: &str) -> Result<Self, ApplicationError> {
        let written: Written = serde_saphyr::from_str(yaml)
            .map_err(|error| ApplicationError::Manifest { problem: error.to_string() })?;
        if (written.api_version.as_str(), written.kind.as_str()) != ("argoproj.io/v1alpha1", "Application") {
            return Err(ApplicationError::Kind { api_version: written.api_version, kind: written.kind });
        }
        let Spec { source, destination, sync_policy, .. } = written.spec;
        let SyncPolicy { automated, sync_options, .. } = sync_policy.unwrap_or_default();
        let mut create_namespace = false;
        for option in sync_options {
            match option.as_str() {
                "CreateNamespace=true" => create_namespace = true,
                "CreateNamespace=false" => create_namespace = false,
                // What is done anyway, or changes only what is sent and not what comes of it.
                "ServerSideApply=true" | "ApplyOutOfSyncOnly=true" | "ApplyOutOfSyncOnly=false" => {}
                _ => return Err(ApplicationError::Option { option }),
            }
        }
        let glob = |text: Option<String>| {
            text.filter(|text| !text.is_empty()).map(|text| Glob::new(&text)).transpose()
        };
        Ok(Self {
            name: written.metadata.name,
            namespace: written.metadata.namespace.unwrap_or_else(|| "argocd".to_owned()),
            source: Source {
                path: source.path,
                recurse: source.directory.recurse,
                include: glob(source.directory.include)?,
                exclude: glob(source.directory.exclude)?,
            },
            destination: destination.namespace,
            automated,
            create_namespace,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "fields that may be there and change nothing here; all others are refused")]
struct Spec {
    project: Option<String>,
    revision_history_limit: Option<u32>,
    info: Option<serde_json::Value>,
    source: WrittenSource,
    destination: Destination,
    sync_policy: Option<SyncPolicy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "which repository and revision is the caller's business: it brings the tree")]
struct WrittenSource {
    #[serde(rename = "repoURL")]
    repository: String,
    target_revision: Option<String>,
    path: String,
    // Not optional: without it Argo CD guesses from the files whether it is Helm or Kustomize.
    directory: Directory,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Directory {
    #[serde(default)]
    recurse: bool,
    include: Option<String>,
    exclude: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "which cluster is the caller's business: it brings the client")]
struct Destination {
    server: Option<String>,
    name: Option<String>,
    namespace: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct SyncPolicy {
    automated: Option<Automated>,
    sync_options: Vec<String>,
    // Retries happen within one operation: they change when, not what.
    #[serde(rename = "retry")]
    _retry: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::{Application, Automated};

    const CLUSTER_NODES: &str = include_str!("../../../examples/images/cluster-nodes/application.yaml");

    #[test]
    fn the_example_is_understood() {
        let application = Application::from_yaml(CLUSTER_NODES).unwrap();
        assert_eq!(application.name, "cluster-nodes-reconciler");
        assert_eq!(application.namespace, "argocd");
        assert_eq!(application.destination, "zeta-cluster");
        assert_eq!(application.source.path, "maintainers");
        assert!(application.source.recurse && application.create_namespace);
        assert_eq!(application.source.include.unwrap().as_str(), "**/cluster-nodes/**/*.yaml");
        assert_eq!(
            application.automated,
            Some(Automated { prune: true, self_heal: true, allow_empty: false })
        );
    }

    #[test]
    fn what_is_not_done_here_is_refused_by_name() {
        for (from, to, said) in [
            ("    directory:", "    helm: {}\n    directory:", "helm"),
            ("  destination:", "  ignoreDifferences: []\n  destination:", "ignoreDifferences"),
            ("CreateNamespace=true", "PruneLast=true", "PruneLast=true"),
            ("kind: Application", "kind: AppProject", "AppProject"),
            ("**/cluster-nodes/**/*.yaml", "{a", "is not closed"),
            ("recurse: true", "jsonnet: {}", "jsonnet"),
        ] {
            assert!(CLUSTER_NODES.contains(from), "{from}");
            let error = Application::from_yaml(&CLUSTER_NODES.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(said), "{from}: {error}");
        }
    }

    #[test]
    fn without_automation_nothing_is_automatic() {
        let yaml = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: a}\nspec:\n  source: {repoURL: r, path: p, directory: {}}\n  destination: {namespace: n}\n";
        let application = Application::from_yaml(yaml).unwrap();
        assert_eq!((application.automated, application.create_namespace), (None, false));
        assert_eq!(application.namespace, "argocd");
    }
}
