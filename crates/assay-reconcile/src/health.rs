//! The health of one live object, as far as an API server alone can tell.
//!
//! Argo CD judges some kinds by what their controllers report (its operator manual, page "Resource Health"); all others,
//! among them custom resources without a script of their own, have no health and do not count. Behind an isolated API
//! server no controllers run, so the health of a Deployment cannot come about: it is `Unknown`, which is never good.

use serde_json::Value;

use crate::{
    object::{group_and_version, is_definition, text},
    status::Health,
};

/// Kinds whose health Argo CD takes from their controllers.
const NEEDS_CONTROLLERS: [&str; 11] = [
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "Pod",
    "Job",
    "PersistentVolumeClaim",
    "Ingress",
    "HorizontalPodAutoscaler",
    "APIService",
    "Workflow",
];

/// The health of a live object; `None` for the kinds that have none.
pub(crate) fn of(object: &Value) -> Option<Health> {
    if !text(object, "/metadata/deletionTimestamp").is_empty() {
        return Some(Health::new("Progressing", "Pending deletion"));
    }
    if is_definition(object) {
        return Some(of_definition(object));
    }
    let kind = text(object, "/kind");
    if kind == "Service" && group_and_version(text(object, "/apiVersion")).0.is_empty() {
        let balanced = text(object, "/spec/type") == "LoadBalancer";
        return Some(if balanced { unknown(kind) } else { Health::new("Healthy", "") });
    }
    NEEDS_CONTROLLERS.contains(&kind).then(|| unknown(kind))
}

fn of_definition(definition: &Value) -> Health {
    let condition = |kind: &str| {
        let conditions = definition.pointer("/status/conditions").and_then(Value::as_array);
        conditions.into_iter().flatten().find(|condition| text(condition, "/type") == kind)
    };
    if let Some(names) = condition("NamesAccepted").filter(|names| text(names, "/status") == "False") {
        return Health::new("Degraded", text(names, "/message"));
    }
    match condition("Established").map(|established| text(established, "/status")) {
        Some("True") => Health::new("Healthy", "CRD is healthy"),
        _ => Health::new("Progressing", "CRD is not established"),
    }
}

fn unknown(kind: &str) -> Health {
    Health::new("Unknown", format!("the health of a {kind} comes from a controller, and none runs here"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::of;

    fn status(object: &Value) -> Option<String> {
        of(object).map(|health| health.status)
    }

    #[test]
    fn only_some_kinds_have_a_health() {
        assert_eq!(status(&json!({"apiVersion": "zeta.example/v1", "kind": "ClusterNode"})), None);
        assert_eq!(status(&json!({"apiVersion": "v1", "kind": "ConfigMap"})), None);
        assert_eq!(status(&json!({"apiVersion": "apps/v1", "kind": "Deployment"})).unwrap(), "Unknown");
        assert_eq!(status(&json!({"apiVersion": "v1", "kind": "Service"})).unwrap(), "Healthy");
        let leaving = json!({"kind": "ConfigMap", "metadata": {"deletionTimestamp": "2025-01-01T00:00:00Z"}});
        assert_eq!(status(&leaving).unwrap(), "Progressing");
    }

    #[test]
    fn a_definition_is_healthy_once_it_is_served() {
        let definition = |conditions: Value| json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "status": {"conditions": conditions}});
        assert_eq!(status(&definition(json!([]))).unwrap(), "Progressing");
        assert_eq!(
            status(&definition(json!([{"type": "Established", "status": "True"}]))).unwrap(),
            "Healthy"
        );
        let taken = json!([{"type": "Established", "status": "True"}, {"type": "NamesAccepted", "status": "False", "message": "taken"}]);
        assert_eq!(status(&definition(taken)).unwrap(), "Degraded");
    }
}
