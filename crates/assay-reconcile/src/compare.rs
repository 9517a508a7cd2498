//! Expected against live objects, field by field.
//!
//! A server adds fields of its own to every object. They are left out by rule ([`Rules`]) and not because nobody looks:
//! whatever else is in one object and not in the other is a difference.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Code, Expected, ObjectKey};

/// One difference between what is expected and what is live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// [`Code::ObjectMissing`], [`Code::ObjectExtra`], [`Code::FieldPruned`] or [`Code::FieldDifferent`].
    pub code: Code,
    /// Which object.
    pub object: ObjectKey,
    /// Which field, as a JSON pointer (RFC 6901); empty for the object itself.
    pub pointer: String,
    /// What is expected there, if anything.
    pub expected: Option<Value>,
    /// What is live there, if anything.
    pub live: Option<Value>,
}

/// Which fields do not count. A rule is a JSON pointer and covers what is below it; `*` stands for one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    ignored: Vec<String>,
}

/// What an API server keeps in every object, by its API conventions ("Metadata", "Spec and Status"), and what
/// Argo CD and `kubectl apply` note down. A finalizer is a controller's note that it has work to do on deletion.
const MANAGED: [&str; 11] = [
    "/metadata/uid",
    "/metadata/resourceVersion",
    "/metadata/managedFields",
    "/metadata/creationTimestamp",
    "/metadata/generation",
    "/metadata/selfLink",
    "/metadata/finalizers",
    "/metadata/annotations/argocd.argoproj.io~1tracking-id",
    "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
    "/metadata/labels/app.kubernetes.io~1instance",
    "/status",
];

impl Default for Rules {
    /// Leaves out what the server and Argo CD manage, and nothing else.
    fn default() -> Self {
        Self { ignored: MANAGED.map(str::to_owned).to_vec() }
    }
}

impl Rules {
    /// Leaves out one more field and everything below it, such as one with a default in the schema.
    #[must_use]
    pub fn ignoring(mut self, pointer: &str) -> Self {
        self.ignored.push(pointer.to_owned());
        self
    }

    fn ignores(&self, pointer: &str) -> bool {
        self.ignored.iter().any(|rule| covers(rule, pointer))
    }
}

fn covers(rule: &str, pointer: &str) -> bool {
    let mut steps = pointer.split('/');
    rule.split('/').all(|wanted| steps.next().is_some_and(|step| wanted == "*" || wanted == step))
}

/// All differences, object by object. A field that is expected and absent is [`Code::FieldPruned`]: the object was
/// accepted, so either its schema does not know the field and the server dropped it without a word, or somebody took it
/// away; [`crate::pruned_fields`] asks the server which.
pub fn compare(expected: &Expected, live: &[Value], rules: &Rules) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut unmatched: BTreeMap<ObjectKey, &Value> =
        live.iter().map(|live| (ObjectKey::of(live), live)).collect();
    for object in &expected.objects {
        let key = ObjectKey::of(object);
        let placed = match key.namespace.as_str() {
            "" => ObjectKey { namespace: expected.namespace.clone(), ..key.clone() },
            _ => key.clone(),
        };
        // Without a namespace it is in the default one, or of a kind that has none.
        let found = unmatched.remove_entry(&placed).or_else(|| unmatched.remove_entry(&key));
        let Some((key, live)) = found else {
            differences.push(of_object(Code::ObjectMissing, placed));
            continue;
        };
        let mut object = object.clone();
        // The namespace is what the live one was found by.
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
            && !key.namespace.is_empty()
        {
            metadata.insert("namespace".to_owned(), key.namespace.clone().into());
        }
        Comparison { key: &key, rules, differences: &mut differences }.values("", &object, live);
    }
    differences.extend(unmatched.into_keys().map(|key| of_object(Code::ObjectExtra, key)));
    differences
}

fn of_object(code: Code, object: ObjectKey) -> Difference {
    Difference { code, object, pointer: String::new(), expected: None, live: None }
}

struct Comparison<'a> {
    key: &'a ObjectKey,
    rules: &'a Rules,
    differences: &'a mut Vec<Difference>,
}

impl Comparison<'_> {
    fn values(&mut self, pointer: &str, expected: &Value, live: &Value) {
        if self.rules.ignores(pointer) {
            return;
        }
        match (expected, live) {
            (Value::Object(expected), Value::Object(live)) => self.maps(pointer, expected, live),
            (Value::Array(expected), Value::Array(live)) if expected.len() == live.len() => {
                for (index, (expected, live)) in expected.iter().zip(live).enumerate() {
                    self.values(&format!("{pointer}/{index}"), expected, live);
                }
            }
            _ if same(expected, live) => {}
            _ => self.push(Code::FieldDifferent, pointer, Some(expected), Some(live)),
        }
    }

    fn maps(&mut self, pointer: &str, expected: &Map<String, Value>, live: &Map<String, Value>) {
        for (name, expected) in expected {
            let pointer = step(pointer, name);
            match live.get(name) {
                Some(live) => self.values(&pointer, expected, live),
                // Applied, a null takes a field away.
                None if expected.is_null() || self.rules.ignores(&pointer) => {}
                None => self.push(Code::FieldPruned, &pointer, Some(expected), None),
            }
        }
        for (name, live) in live.iter().filter(|(name, _)| !expected.contains_key(*name)) {
            self.extra(&step(pointer, name), live);
        }
    }

    /// A field that only the live object has: what is in it counts, a map around nothing does not.
    fn extra(&mut self, pointer: &str, live: &Value) {
        match live {
            _ if self.rules.ignores(pointer) => {}
            Value::Object(map) => map.iter().for_each(|(name, live)| self.extra(&step(pointer, name), live)),
            _ => self.push(Code::FieldDifferent, pointer, None, Some(live)),
        }
    }

    fn push(&mut self, code: Code, pointer: &str, expected: Option<&Value>, live: Option<&Value>) {
        self.differences.push(Difference {
            code,
            object: self.key.clone(),
            pointer: pointer.to_owned(),
            expected: expected.cloned(),
            live: live.cloned(),
        });
    }
}

/// 1 and 1.0 are the same number; the server stores whole ones without a point.
fn same(expected: &Value, live: &Value) -> bool {
    match (expected.as_f64(), live.as_f64()) {
        (Some(a), Some(b)) if expected.is_f64() || live.is_f64() => a.total_cmp(&b).is_eq(),
        _ => expected == live,
    }
}

fn step(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Rules, compare};
    use crate::{Code, Expected};

    #[expect(clippy::needless_pass_by_value, reason = "reads better at the call")]
    fn node(spec: Value) -> Value {
        json!({"apiVersion": "zeta.example/v1", "kind": "ClusterNode", "metadata": {"name": "a"}, "spec": spec})
    }

    /// As an API server shows it.
    fn live(spec: Value) -> Value {
        let mut live = node(spec);
        live["metadata"] = json!({
            "name": "a", "namespace": "zeta-cluster", "uid": "7", "resourceVersion": "12", "generation": 2,
            "creationTimestamp": "2025-01-01T00:00:00Z", "managedFields": [{"manager": "argocd-controller"}],
            "annotations": {"argocd.argoproj.io/tracking-id": "nodes:zeta.example/ClusterNode:zeta-cluster/a"},
            "labels": {"app.kubernetes.io/instance": "nodes"}, "finalizers": ["zeta.example/drain"],
        });
        live["status"] = json!({"phase": "Ready"});
        live
    }

    fn differences(expected: &[Value], live: &[Value]) -> Vec<(Code, String)> {
        let expected = Expected { objects: expected.to_vec(), namespace: "zeta-cluster".to_owned() };
        let differences = compare(&expected, live, &Rules::default());
        differences.into_iter().map(|difference| (difference.code, difference.pointer)).collect()
    }

    #[test]
    fn what_the_server_manages_is_no_difference() {
        let spec = json!({"hostname": "a", "cores": 8, "load": 1.0, "roles": ["x"]});
        let served = json!({"hostname": "a", "cores": 8, "load": 1, "roles": ["x"]});
        assert_eq!(differences(&[node(spec)], &[live(served)]), []);
    }

    #[test]
    fn every_other_difference_is_named() {
        let at = |code, pointer: &str| (code, pointer.to_owned());
        let spec = json!({"hardware": {"network": {"ip": "10.0.0.1", "mac": "52:54:00:12:34:56"}, "cpu": "x"}, "roles": ["a", "b"], "gone": null});
        for (change, expected) in [
            (
                json!({"hardware": {"network": {}, "cpu": "x"}, "roles": ["a", "b"]}),
                vec![
                    at(Code::FieldPruned, "/spec/hardware/network/ip"),
                    at(Code::FieldPruned, "/spec/hardware/network/mac"),
                ],
            ),
            (
                json!({"hardware": {"cpu": "x"}, "roles": ["a", "b"]}),
                vec![at(Code::FieldPruned, "/spec/hardware/network")],
            ),
            (
                json!({"hardware": {"network": {"ip": "10.0.0.2", "mac": "52:54:00:12:34:56"}, "cpu": "x"}, "roles": ["a"]}),
                vec![
                    at(Code::FieldDifferent, "/spec/hardware/network/ip"),
                    at(Code::FieldDifferent, "/spec/roles"),
                ],
            ),
            (
                json!({"hardware": {"network": {"ip": "10.0.0.1", "mac": "52:54:00:12:34:56"}, "cpu": "x"}, "roles": ["b", "a"], "new/field": {"x": {}, "y": 1}}),
                vec![
                    at(Code::FieldDifferent, "/spec/roles/0"),
                    at(Code::FieldDifferent, "/spec/roles/1"),
                    at(Code::FieldDifferent, "/spec/new~1field/y"),
                ],
            ),
        ] {
            assert_eq!(differences(&[node(spec.clone())], &[live(change)]), expected);
        }
    }

    #[test]
    fn somebody_elses_label_is_a_difference() {
        let mut labelled = live(json!({}));
        labelled["metadata"]["labels"]["team"] = json!("x");
        assert_eq!(
            differences(&[node(json!({}))], &[labelled]),
            [(Code::FieldDifferent, "/metadata/labels/team".to_owned())]
        );
    }

    #[test]
    fn missing_extra_and_misplaced_objects() {
        let mut elsewhere = live(json!({}));
        elsewhere["metadata"]["namespace"] = json!("default");
        let nothing = String::new;
        assert_eq!(
            differences(&[node(json!({}))], &[elsewhere]),
            [(Code::ObjectMissing, nothing()), (Code::ObjectExtra, nothing())]
        );
        assert_eq!(differences(&[], &[live(json!({}))]), [(Code::ObjectExtra, nothing())]);
        let expected = Expected { objects: vec![node(json!({}))], namespace: "zeta-cluster".to_owned() };
        let missing = compare(&expected, &[], &Rules::default());
        assert_eq!(missing[0].object.to_string(), "ClusterNode.zeta.example zeta-cluster/a");
    }

    #[test]
    fn a_kind_without_namespaces_is_found_without_one() {
        let definition = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}});
        assert_eq!(differences(std::slice::from_ref(&definition), std::slice::from_ref(&definition)), []);
    }

    #[test]
    fn rules_can_be_added() {
        let expected =
            Expected { objects: vec![node(json!({"a": [{"x": 1}]}))], namespace: "zeta-cluster".to_owned() };
        let served = [live(json!({"a": [{"x": 1, "default": 2}]}))];
        assert_eq!(compare(&expected, &served, &Rules::default()).len(), 1);
        assert_eq!(compare(&expected, &served, &Rules::default().ignoring("/spec/a/*/default")).len(), 0);
        assert_eq!(compare(&expected, &served, &Rules::default().ignoring("/spec/a/*/def")).len(), 1);
    }
}
