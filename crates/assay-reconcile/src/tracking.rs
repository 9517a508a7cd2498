//! How an object is known to belong to an Application (Argo CD user guide, page "Resource Tracking").
//!
//! Without a mark nothing could be pruned: an object that is no longer in the tree can only be told from somebody else's by
//! what it says about itself.

use serde_json::Value;

use crate::object::{ObjectKey, annotation, is_definition, set_metadata};

/// The label of [`Tracking::Label`].
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// The annotation of [`Tracking::Annotation`].
pub const TRACKING_ANNOTATION: &str = "argocd.argoproj.io/tracking-id";

/// Where the mark is: `application.resourceTrackingMethod` of Argo CD's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// An annotation with the Application and the object's own key (`APP:GROUP/KIND:NAMESPACE/NAME`), so that a copy is not
    /// taken for the original. The default since Argo CD 3.
    #[default]
    Annotation,
    /// A label with the Application's name. The default before. Tools that copy labels make their objects look tracked.
    Label,
}

impl Tracking {
    /// Marks an object of the tree. Definitions of custom resources are not marked, hence never pruned: with them would
    /// go every object of their kind.
    pub(crate) fn mark(self, object: &mut Value, application: &str) {
        if is_definition(object) {
            return;
        }
        match self {
            Self::Label => set_metadata(object, "labels", INSTANCE_LABEL, application),
            Self::Annotation => {
                let id = tracking_id(application, &ObjectKey::of(object));
                set_metadata(object, "annotations", TRACKING_ANNOTATION, &id);
            }
        }
    }

    /// Which Application a live object belongs to.
    pub(crate) fn owner(self, object: &Value) -> Option<&str> {
        match self {
            Self::Label => object.get("metadata")?.get("labels")?.get(INSTANCE_LABEL)?.as_str(),
            Self::Annotation => {
                let id = annotation(object, TRACKING_ANNOTATION)?;
                let (application, _) = id.split_once(':')?;
                (tracking_id(application, &ObjectKey::of(object)) == id).then_some(application)
            }
        }
    }
}

fn tracking_id(application: &str, key: &ObjectKey) -> String {
    format!("{application}:{}/{}:{}/{}", key.group, key.kind, key.namespace, key.name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Tracking;

    #[test]
    fn a_marked_object_is_owned_and_its_copy_is_not() {
        let node = || json!({"apiVersion": "zeta.example/v1", "kind": "ClusterNode", "metadata": {"name": "a", "namespace": "n"}});
        let mut marked = node();
        Tracking::Annotation.mark(&mut marked, "nodes");
        assert_eq!(
            marked["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"],
            "nodes:zeta.example/ClusterNode:n/a"
        );
        assert_eq!(Tracking::Annotation.owner(&marked), Some("nodes"));
        assert_eq!(Tracking::Label.owner(&marked), None);
        marked["metadata"]["name"] = json!("b");
        assert_eq!(Tracking::Annotation.owner(&marked), None);
        assert_eq!(Tracking::Annotation.owner(&node()), None);

        let mut labelled = node();
        Tracking::Label.mark(&mut labelled, "nodes");
        labelled["metadata"]["name"] = json!("b");
        assert_eq!(Tracking::Label.owner(&labelled), Some("nodes"), "a label cannot tell a copy");
    }

    #[test]
    fn definitions_are_never_marked() {
        let mut definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a"}});
        let before = definition.clone();
        for tracking in [Tracking::Annotation, Tracking::Label] {
            tracking.mark(&mut definition, "nodes");
            assert_eq!(definition, before);
        }
    }
}
