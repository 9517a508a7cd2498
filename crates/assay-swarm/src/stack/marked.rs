//! A plan for a swarm that others use, too: everything says whose it is, and runs where its owner can reach it.

use std::collections::BTreeMap;

use super::Plan;
use crate::client::hash_map;

impl Plan {
    /// The same with more labels on everything that it makes: services, their containers and volumes, networks, secrets, configs.
    #[must_use]
    pub fn labelled(mut self, labels: &BTreeMap<String, String>) -> Self {
        for service in &mut self.services {
            service.labels.get_or_insert_default().extend(hash_map(labels));
            let container = service.task_template.as_mut().and_then(|task| task.container_spec.as_mut());
            let Some(container) = container else { continue };
            container.labels.get_or_insert_default().extend(hash_map(labels));
            let volumes =
                container.mounts.iter_mut().flatten().filter_map(|mount| mount.volume_options.as_mut());
            // One without labels is somebody else's.
            for own in volumes.filter_map(|volume| volume.labels.as_mut()) {
                own.extend(hash_map(labels));
            }
        }
        for network in &mut self.networks {
            network.labels.get_or_insert_default().extend(hash_map(labels));
        }
        for secret in &mut self.secrets {
            secret.labels.get_or_insert_default().extend(hash_map(labels));
        }
        for config in &mut self.configs {
            config.labels.get_or_insert_default().extend(hash_map(labels));
        }
        self
    }

    /// The same with every service on one node (by its id) alone.
    #[must_use]
    pub fn on_node(mut self, node: &str) -> Self {
        for task in self.services.iter_mut().filter_map(|service| service.task_template.as_mut()) {
            let placement = task.placement.get_or_insert_default();
            placement.constraints.get_or_insert_default().push(format!("node.id=={node}"));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use assay_recipe::compose::model::{Compose, Mount, MountSource, Network, Object, Service, Volume};

    use crate::{Endpoints, PlanOptions, plan};

    #[test]
    fn everything_that_a_plan_makes_says_whose_it_is_and_what_it_finds_does_not() {
        let mount = |name: &str| Mount {
            source: MountSource::Volume { name: name.to_owned(), nocopy: false },
            target: format!("/{name}"),
            read_only: false,
        };
        let mut compose = Compose::default();
        let mut app = Service { image: Some("web:1".to_owned()), ..Service::default() };
        app.mounts = vec![mount("data"), mount("theirs")];
        compose.services.insert("app".to_owned(), app);
        compose.networks.insert("default".to_owned(), Network::default());
        compose.volumes.insert("data".to_owned(), Volume::default());
        compose.volumes.insert("theirs".to_owned(), Volume { external: true, ..Volume::default() });
        let from_file = Object { file: Some("f".to_owned()), ..Object::default() };
        compose.configs.insert("c".to_owned(), from_file.clone());
        compose.secrets.insert("s".to_owned(), from_file);
        let (nothing, root) = (BTreeMap::new(), Path::new("/r"));
        let files = BTreeMap::from([("f".to_owned(), b"x".to_vec())]);
        let endpoints = Endpoints::AsWritten;
        let options = PlanOptions { stack: "abc", environment: &nothing, root, files: &files, endpoints };
        let labels = BTreeMap::from([("assay.run".to_owned(), "7".to_owned())]);
        let planned = plan(&compose, &options).unwrap().labelled(&labels).on_node("n1").json();
        let text = serde_json::to_string_pretty(&planned).unwrap();
        // Service, container, volume, network, config, secret.
        assert_eq!(text.matches(r#""assay.run": "7""#).count(), 6, "{text}");
        let service = &planned["services"][0];
        let mounts = service["TaskTemplate"]["ContainerSpec"]["Mounts"].as_array().unwrap();
        assert!(mounts[1]["VolumeOptions"]["Labels"].is_null(), "{text}");
        assert_eq!(service["TaskTemplate"]["Placement"]["Constraints"][0], "node.id==n1", "{text}");
    }
}
