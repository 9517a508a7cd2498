//! What a cluster has before anything is registered: definitions of kinds, mostly.

use std::sync::Arc;

use assay_model::Clock;
use kube::Client;

use crate::{Application, ReconcileError, Reconciler, Tracking, Tree};

/// An Application of a whole tree, in the default namespace.
const ALL: &str = "apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: definitions}
spec:
  source: {repoURL: none, path: '', directory: {recurse: true}}
  destination: {namespace: default}
  syncPolicy: {automated: {}}
";

/// Why a cluster does not have its definitions.
#[derive(Debug, thiserror::Error)]
pub enum DefineError {
    /// The cluster could not be asked.
    #[error(transparent)]
    Cluster(#[from] ReconcileError),
    /// It did not take them.
    #[error("the cluster does not take the definitions: {0}; try them with `kubectl apply`")]
    Refused(String),
}

/// Applies manifests as an administrator would, and waits until the cluster serves what they define.
///
/// # Errors
/// [`DefineError`].
pub async fn define(client: Client, manifests: &Tree, clock: Arc<dyn Clock>) -> Result<(), DefineError> {
    let application = Application::from_yaml(ALL).map_err(|error| DefineError::Refused(error.to_string()))?;
    let mut reconciler = Reconciler::new(client, application, Tracking::Annotation, clock);
    let status = reconciler.reconcile("definitions", manifests).await?;
    if status.sync.status == "Synced" && status.health.status == "Healthy" {
        return Ok(());
    }
    let conditions = status.conditions.iter().map(|condition| condition.message.clone());
    let operation = status.operation_state.iter().map(|operation| operation.message.clone());
    let said: Vec<String> = conditions.chain(operation).filter(|said| !said.is_empty()).collect();
    let state = format!("{}, {}", status.sync.status, status.health.status);
    Err(DefineError::Refused(if said.is_empty() { state } else { said.join("; ") }))
}
