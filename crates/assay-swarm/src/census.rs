//! Everything that a daemon has, counted before and after, so that what is left behind has a name.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use assay_model::Micros;
use bollard::query_parameters::{
    ListConfigsOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
    ListSecretsOptionsBuilder, ListServicesOptionsBuilder, ListVolumesOptionsBuilder,
};
use serde::Serialize;

use crate::{NAMESPACE_LABEL, RUN_LABEL, Swarm, SwarmError, moment::moment};

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
    /// The stack that it is labelled with; a volume without a name has that of the container that mounts it.
    pub stack: Option<String>,
    /// The run that it is labelled with ([`RUN_LABEL`]); of a volume without a name as above.
    pub run: Option<String>,
    /// When it was made, by the daemon's clock.
    pub created: Option<Micros>,
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
    /// Whether it belongs to a stack: by its label, or, where it has none, by its name. A name alone may lie: what is called
    /// `shop_eu_key` may be of the stack `shop_eu`, not of `shop`; [`Census::of_stack`] knows both.
    pub fn belongs_to(&self, stack: &str) -> bool {
        match &self.stack {
            Some(own) => own == stack,
            None => self.name.strip_prefix(stack).is_some_and(|rest| rest.starts_with(['_', '.'])),
        }
    }

    /// As people read it, with its age where that is known: `volume shop_data (34 s old)`.
    pub fn told(&self, now: Option<Micros>) -> String {
        match now.zip(self.created) {
            Some((now, created)) => {
                let seconds = now.0.saturating_sub(created.0).max(0) / 1_000_000;
                format!("{self} ({seconds} s old)")
            }
            None => self.to_string(),
        }
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

    /// What belongs to a stack. What has a name alone belongs to the stack with the longest name that fits.
    #[must_use]
    pub fn of_stack(&self, stack: &str) -> Self {
        let known: BTreeSet<&str> = self.things.iter().filter_map(|thing| thing.stack.as_deref()).collect();
        let closer = |thing: &Thing| {
            thing.stack.is_none()
                && known.iter().any(|other| other.len() > stack.len() && thing.belongs_to(other))
        };
        let own = self.things.iter().filter(|thing| thing.belongs_to(stack) && !closer(thing));
        Self::of(own.cloned())
    }

    /// What a run made, by its label, and everything of the stacks that have it.
    #[must_use]
    pub fn of_run(&self, run: &str) -> Self {
        let labelled: Vec<&Thing> =
            self.things.iter().filter(|thing| thing.run.as_deref() == Some(run)).collect();
        let stacks: BTreeSet<&str> = labelled.iter().filter_map(|thing| thing.stack.as_deref()).collect();
        let of_stacks = stacks.iter().flat_map(|stack| self.of_stack(stack).things);
        // A label of another run says more than a name.
        let own = of_stacks.filter(|thing| thing.run.as_deref().is_none_or(|own| own == run));
        Self::of(labelled.into_iter().cloned().chain(own))
    }

    /// The stacks that something here is labelled with.
    pub fn stacks(&self) -> impl Iterator<Item = &str> {
        let all: BTreeSet<&str> = self.things.iter().filter_map(|thing| thing.stack.as_deref()).collect();
        all.into_iter()
    }

    /// Whether it has this thing, as it is.
    pub fn has(&self, thing: &Thing) -> bool {
        self.things.contains(thing)
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
        let mut add = |kind, name: Option<String>, id: Option<String>, made: Made<'_>| {
            let id = id.or_else(|| name.clone()).unwrap_or_default();
            let name = name.unwrap_or_else(|| id.clone());
            let label = |name: &str| made.labels.and_then(|labels| labels.get(name)).cloned();
            let (stack, run) = (label(NAMESPACE_LABEL), label(RUN_LABEL));
            things.insert(Thing { kind, name, id, stack, run, created: made.at });
        };
        let failed = |what: &str| SwarmError::docker(format!("counting {what}"));
        let services = self.docker.list_services(Some(ListServicesOptionsBuilder::default().build())).await;
        let services = services.map_err(failed("services"))?;
        for service in &services {
            let spec = service.spec.as_ref();
            let made =
                Made::new(spec.and_then(|spec| spec.labels.as_ref()), moment(service.created_at.as_ref()));
            add(ThingKind::Service, spec.and_then(|spec| spec.name.clone()), service.id.clone(), made);
        }
        for task in self.tasks_by(&[]).await? {
            // A task has no name and no label; its service has both, or had.
            let service = services.iter().find(|service| service.id == task.service_id);
            let spec = service.and_then(|service| service.spec.as_ref());
            let id = task.id.unwrap_or_default();
            let name = spec.and_then(|spec| spec.name.as_ref()).map(|name| format!("{name}.{id}"));
            let template = task.spec.as_ref().and_then(|spec| spec.container_spec.as_ref());
            let labels = template.and_then(|container| container.labels.as_ref());
            add(ThingKind::Task, name, Some(id), Made::new(labels, moment(task.created_at.as_ref())));
        }
        let all = ListContainersOptionsBuilder::default().all(true).build();
        let mut mounted: HashMap<String, HashMap<String, String>> = HashMap::new();
        for container in self.docker.list_containers(Some(all)).await.map_err(failed("containers"))? {
            let name = container.names.into_iter().flatten().next();
            let name = name.map(|name| name.trim_start_matches('/').to_owned());
            let at = container.created.map(|seconds| Micros(seconds.saturating_mul(1_000_000)));
            let made = Made::new(container.labels.as_ref(), at);
            add(ThingKind::Container, name, container.id, made);
            let labels = container.labels.unwrap_or_default();
            let nameless = container.mounts.into_iter().flatten().filter_map(|mount| mount.name);
            mounted.extend(nameless.filter(|name| is_nameless(name)).map(|name| (name, labels.clone())));
        }
        let all = ListNetworksOptionsBuilder::default().build();
        for network in self.docker.list_networks(Some(all)).await.map_err(failed("networks"))? {
            let made = Made::new(network.labels.as_ref(), moment(network.created.as_ref()));
            add(ThingKind::Network, network.name, network.id, made);
        }
        let all = ListConfigsOptionsBuilder::default().build();
        for config in self.docker.list_configs(Some(all)).await.map_err(failed("configs"))? {
            let spec = config.spec.unwrap_or_default();
            let made = Made::new(spec.labels.as_ref(), moment(config.created_at.as_ref()));
            add(ThingKind::Config, spec.name, config.id, made);
        }
        let all = ListSecretsOptionsBuilder::default().build();
        for secret in self.docker.list_secrets(Some(all)).await.map_err(failed("secrets"))? {
            let spec = secret.spec.unwrap_or_default();
            let made = Made::new(spec.labels.as_ref(), moment(secret.created_at.as_ref()));
            add(ThingKind::Secret, spec.name, secret.id, made);
        }
        let all = ListVolumesOptionsBuilder::default().build();
        let volumes = self.docker.list_volumes(Some(all)).await.map_err(failed("volumes"))?;
        for volume in volumes.volumes.unwrap_or_default() {
            let labels = mounted.get(&volume.name).unwrap_or(&volume.labels);
            let made = Made::new(Some(labels), moment(volume.created_at.as_ref()));
            add(ThingKind::Volume, Some(volume.name.clone()), None, made);
        }
        Ok(Census { things })
    }

    /// What time it is for the daemon; none where it does not say.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn now(&self) -> Result<Option<Micros>, SwarmError> {
        let info = self.docker.info().await.map_err(SwarmError::docker("asking for the time"))?;
        Ok(moment(info.system_time.as_ref()))
    }
}

/// What is known of how something came to be.
struct Made<'a> {
    labels: Option<&'a HashMap<String, String>>,
    at: Option<Micros>,
}

impl<'a> Made<'a> {
    const fn new(labels: Option<&'a HashMap<String, String>>, at: Option<Micros>) -> Self {
        Self { labels, at }
    }
}

/// Whether a volume was given its name by the engine, since nobody gave it one.
fn is_nameless(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::{Census, Micros, Thing, ThingKind};

    fn thing(kind: ThingKind, name: &str, stack: Option<&str>) -> Thing {
        let stack = stack.map(str::to_owned);
        Thing { kind, name: name.to_owned(), id: format!("id of {name}"), stack, run: None, created: None }
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
    fn a_neighbour_whose_name_begins_alike_keeps_what_is_its() {
        let of_run = |thing: Thing, run: &str| Thing { run: Some(run.to_owned()), ..thing };
        let all = Census::of([
            of_run(thing(ThingKind::Service, "abc_web", Some("abc")), "1"),
            // Put there from outside, as an operator does it: no label at all.
            thing(ThingKind::Secret, "abc_key_v1", None),
            thing(ThingKind::Service, "abc_d_web", Some("abc_d")),
            thing(ThingKind::Secret, "abc_d_key_v1", None),
            of_run(thing(ThingKind::Secret, "abc_of_another_run", None), "2"),
        ]);
        let told = |census: &Census| census.things().map(|thing| thing.name.clone()).collect::<Vec<_>>();
        assert_eq!(told(&all.of_stack("abc_d")), ["abc_d_web", "abc_d_key_v1"]);
        assert_eq!(told(&all.of_run("1")), ["abc_web", "abc_key_v1"]);
        assert_eq!(told(&all.of_run("3")), [""; 0]);
    }

    #[test]
    fn a_thing_is_told_with_its_age() {
        let volume = Thing { created: Some(Micros(5_000_000)), ..thing(ThingKind::Volume, "abc_data", None) };
        assert_eq!(volume.told(Some(Micros(39_900_000))), "volume abc_data (34 s old)");
        assert_eq!(volume.told(None), "volume abc_data");
    }

    #[test]
    fn a_thing_that_was_made_anew_is_another_thing() {
        let old = thing(ThingKind::Volume, "data", None);
        let new = Thing { id: "another".to_owned(), ..old.clone() };
        assert_eq!(Census::of([new.clone()]).since(&Census::of([old])), [new]);
    }
}
