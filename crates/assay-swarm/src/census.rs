//! Everything that a daemon has, counted before and after, so that what is left behind has a name.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use bollard::query_parameters::{
    ListConfigsOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
    ListSecretsOptionsBuilder, ListServicesOptionsBuilder, ListVolumesOptionsBuilder,
};
use serde::Serialize;

use crate::{NAMESPACE_LABEL, Swarm, SwarmError};

/// Networks that the engine makes for itself.
const ENGINE_S_OWN: [&str; 2] = ["docker_gwbridge", "ingress"];

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ThingKind {
    /// A service.
    Service,
    /// A task.
    Task,
    /// A container, running or not.
    Container,
    /// A network.
    Network,
    /// A config.
    Config,
    /// A secret.
    Secret,
    /// A volume.
    Volume,
}

/// One thing that a daemon has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Thing {
    /// What it is.
    pub kind: ThingKind,
    /// Its name; its id where it has none.
    pub name: String,
    /// Its id; its name where it has none.
    pub id: String,
    /// The stack that it is labelled with.
    pub stack: Option<String>,
}

/// All that a daemon has, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Census {
    things: BTreeSet<Thing>,
}

impl fmt::Display for Thing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", format!("{:?}", self.kind).to_lowercase(), self.name)
    }
}

impl Thing {
    /// Whether it belongs to a stack: by its label, or, since not everything has one, by its name.
    pub fn belongs_to(&self, stack: &str) -> bool {
        let by_name = self.name.strip_prefix(stack).is_some_and(|rest| rest.starts_with(['_', '.']));
        self.stack.as_deref() == Some(stack) || by_name
    }
}

impl Census {
    /// Counts what was handed in.
    pub fn of(things: impl IntoIterator<Item = Thing>) -> Self {
        Self { things: things.into_iter().collect() }
    }

    /// All of it.
    pub fn things(&self) -> impl Iterator<Item = &Thing> {
        self.things.iter()
    }

    /// What belongs to a stack.
    #[must_use]
    pub fn of_stack(&self, stack: &str) -> Self {
        Self::of(self.things.iter().filter(|thing| thing.belongs_to(stack)).cloned())
    }

    /// What is here and was not there `before`. A thing is known by kind and id: one that was made anew is another. What the
    /// engine makes for itself when it first needs it does not count.
    pub fn since(&self, before: &Self) -> Vec<Thing> {
        let known: BTreeSet<(ThingKind, &str)> =
            before.things.iter().map(|thing| (thing.kind, thing.id.as_str())).collect();
        let new = self.things.iter().filter(|thing| !known.contains(&(thing.kind, thing.id.as_str())));
        new.filter(|thing| !ENGINE_S_OWN.contains(&thing.name.as_str())).cloned().collect()
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> BTreeMap<ThingKind, usize> {
        let mut counts = BTreeMap::new();
        for thing in &self.things {
            *counts.entry(thing.kind).or_default() += 1;
        }
        counts
    }
}

impl Swarm {
    /// Counts everything that the daemon has.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn census(&self) -> Result<Census, SwarmError> {
        let mut things = BTreeSet::new();
        let mut add =
            |kind, name: Option<String>, id: Option<String>, labels: Option<&HashMap<String, String>>| {
                let id = id.or_else(|| name.clone()).unwrap_or_default();
                let stack = labels.and_then(|labels| labels.get(NAMESPACE_LABEL)).cloned();
                things.insert(Thing { kind, name: name.unwrap_or_else(|| id.clone()), id, stack });
            };
        let failed = |what: &str| SwarmError::docker(format!("counting {what}"));
        let services = self.docker.list_services(Some(ListServicesOptionsBuilder::default().build())).await;
        let services = services.map_err(failed("services"))?;
        for service in &services {
            let spec = service.spec.as_ref();
            let labels = spec.and_then(|spec| spec.labels.as_ref());
            add(ThingKind::Service, spec.and_then(|spec| spec.name.clone()), service.id.clone(), labels);
        }
        for task in self.tasks_by(&[]).await? {
            // A task has no name and no label; its service has both, or had.
            let service = services.iter().find(|service| service.id == task.service_id);
            let spec = service.and_then(|service| service.spec.as_ref());
            let id = task.id.unwrap_or_default();
            let name = spec.and_then(|spec| spec.name.as_ref()).map(|name| format!("{name}.{id}"));
            let template = task.spec.as_ref().and_then(|spec| spec.container_spec.as_ref());
            add(ThingKind::Task, name, Some(id), template.and_then(|container| container.labels.as_ref()));
        }
        let all = ListContainersOptionsBuilder::default().all(true).build();
        for container in self.docker.list_containers(Some(all)).await.map_err(failed("containers"))? {
            let name = container.names.into_iter().flatten().next();
            let name = name.map(|name| name.trim_start_matches('/').to_owned());
            add(ThingKind::Container, name, container.id, container.labels.as_ref());
        }
        let all = ListNetworksOptionsBuilder::default().build();
        for network in self.docker.list_networks(Some(all)).await.map_err(failed("networks"))? {
            add(ThingKind::Network, network.name, network.id, network.labels.as_ref());
        }
        let all = ListConfigsOptionsBuilder::default().build();
        for config in self.docker.list_configs(Some(all)).await.map_err(failed("configs"))? {
            let spec = config.spec.unwrap_or_default();
            add(ThingKind::Config, spec.name, config.id, spec.labels.as_ref());
        }
        let all = ListSecretsOptionsBuilder::default().build();
        for secret in self.docker.list_secrets(Some(all)).await.map_err(failed("secrets"))? {
            let spec = secret.spec.unwrap_or_default();
            add(ThingKind::Secret, spec.name, secret.id, spec.labels.as_ref());
        }
        let all = ListVolumesOptionsBuilder::default().build();
        let volumes = self.docker.list_volumes(Some(all)).await.map_err(failed("volumes"))?;
        for volume in volumes.volumes.unwrap_or_default() {
            add(ThingKind::Volume, Some(volume.name), None, Some(&volume.labels));
        }
        Ok(Census { things })
    }
}

#[cfg(test)]
mod tests {
    use super::{Census, Thing, ThingKind};

    fn thing(kind: ThingKind, name: &str, stack: Option<&str>) -> Thing {
        Thing { kind, name: name.to_owned(), id: format!("id of {name}"), stack: stack.map(str::to_owned) }
    }

    #[test]
    fn what_is_left_of_a_stack_is_found_by_label_or_name_and_not_its_neighbour_s() {
        let before = Census::of([thing(ThingKind::Network, "ingress", None)]);
        let after = Census::of([
            thing(ThingKind::Network, "ingress", None),
            thing(ThingKind::Network, "docker_gwbridge", None),
            thing(ThingKind::Volume, "shop_data", Some("shop")),
            thing(ThingKind::Secret, "shop_pw_v1", None),
            thing(ThingKind::Volume, "shopping_data", None),
            thing(ThingKind::Volume, "oddly-named", Some("shop")),
        ]);
        let told = |things: Vec<Thing>| things.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            told(after.since(&before)),
            ["secret shop_pw_v1", "volume oddly-named", "volume shop_data", "volume shopping_data"]
        );
        assert_eq!(
            told(after.of_stack("shop").since(&before)),
            ["secret shop_pw_v1", "volume oddly-named", "volume shop_data"]
        );
    }

    #[test]
    fn a_thing_that_was_made_anew_is_another_thing() {
        let old = thing(ThingKind::Volume, "data", None);
        let new = Thing { id: "another".to_owned(), ..old.clone() };
        assert_eq!(Census::of([new.clone()]).since(&Census::of([old])), [new]);
    }
}
