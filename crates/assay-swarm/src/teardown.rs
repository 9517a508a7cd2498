//! Takes a stack, or all of a run, down in order and says what would not go.
//!
//! For a stack in a daemon of its own this is a test of the stack; the daemon's end removes whatever is left. Removal is asked
//! for at once and happens later, so what needs the last one gone (networks, then volumes) waits for its events.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bollard::query_parameters::{
    EventsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use futures::StreamExt;
use serde::Serialize;

use crate::{Census, Swarm, SwarmError, Thing, ThingKind};

/// Without an event, another look after so long.
const LOOK: Duration = Duration::from_secs(1);

/// How a stack is taken down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Teardown {
    /// Whether containers are killed at once. Otherwise they are asked to stop, and have their grace period (10 s by default).
    pub kill: bool,
    /// Whether volumes go, too. `docker stack rm` leaves them.
    pub volumes: bool,
    /// Secrets and configs that were put there for the stack from outside; by name.
    pub external: Vec<String>,
    /// How long all of it may take.
    pub limit: Duration,
}

/// What became of a stack that was taken down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TornDown {
    /// How long it took.
    pub took: Duration,
    /// How long until its containers were gone.
    pub containers_gone: Duration,
    /// What was asked to go.
    pub removed: Vec<Thing>,
    /// What is still there and should not be.
    pub leaks: Vec<Thing>,
}

impl Swarm {
    /// Takes a stack down: services, then containers, networks, configs, secrets, volumes. Safe to repeat.
    ///
    /// # Errors
    /// [`SwarmError::Docker`]. That something would not go is no error but a leak.
    pub async fn teardown(&self, stack: &str, how: &Teardown) -> Result<TornDown, SwarmError> {
        self.take_down(how.kill, how.limit, |census| {
            let of_stack = census.of_stack(stack);
            let wanted = |thing: &&Thing| match thing.kind {
                ThingKind::Volume => how.volumes && of_stack.has(thing),
                ThingKind::Secret | ThingKind::Config => {
                    of_stack.has(thing) || how.external.contains(&thing.name)
                }
                _ => of_stack.has(thing),
            };
            census.things().filter(wanted).cloned().collect()
        })
        .await
    }

    /// Takes down everything that a choice of the census names, in order. What is chosen is asked anew with every look.
    pub(crate) async fn take_down(
        &self,
        kill: bool,
        limit: Duration,
        choice: impl Fn(&Census) -> Vec<Thing>,
    ) -> Result<TornDown, SwarmError> {
        let started = Instant::now();
        let filters = HashMap::from([("type", vec!["container", "network", "volume"])]);
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        let mut events = self.docker.events(Some(options)).boxed();
        let all = choice(&self.census().await?);
        for thing in all.iter().filter(|thing| thing.kind == ThingKind::Service) {
            self.remove(thing).await?;
        }
        let mut containers_gone = None;
        loop {
            let left = choice(&self.census().await?);
            let containers: Vec<&Thing> =
                left.iter().filter(|thing| thing.kind == ThingKind::Container).collect();
            if containers.is_empty() {
                containers_gone.get_or_insert_with(|| started.elapsed());
                for thing in &left {
                    self.remove(thing).await?;
                }
            } else if kill {
                for container in containers {
                    self.end(container).await;
                }
            }
            let over = started.elapsed() >= limit;
            if left.is_empty() || over {
                // Looked at once more: the last removals may have succeeded.
                let leaks = choice(&self.census().await?);
                let took = started.elapsed();
                return Ok(TornDown {
                    took,
                    containers_gone: containers_gone.unwrap_or(took),
                    removed: all,
                    leaks,
                });
            }
            // A broken stream of events is no reason to stop: there is always the next look.
            let _ = tokio::time::timeout(LOOK, events.next()).await;
        }
    }

    /// Takes a config away by its name.
    pub(crate) async fn remove_config(&self, name: &str) -> Result<(), SwarmError> {
        let doing = SwarmError::docker(format!("removing config {name}"));
        match self.docker.delete_config(name).await.map_err(doing) {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// Asks for one thing to go. That it is gone, or still used, is not said: the next look tells.
    async fn remove(&self, thing: &Thing) -> Result<(), SwarmError> {
        let docker = &self.docker;
        let removed = match thing.kind {
            ThingKind::Service => docker.delete_service(&thing.id).await,
            ThingKind::Network => docker.remove_network(&thing.id).await,
            ThingKind::Config => docker.delete_config(&thing.id).await,
            ThingKind::Secret => docker.delete_secret(&thing.id).await,
            ThingKind::Volume => {
                let options = RemoveVolumeOptionsBuilder::default().build();
                docker.remove_volume(&thing.name, Some(options)).await
            }
            // They go with their services.
            ThingKind::Task | ThingKind::Container => Ok(()),
        };
        match removed.map_err(SwarmError::docker(format!("removing {thing}"))) {
            Err(error @ SwarmError::Docker { .. }) if error.status().is_some() => {
                tracing::debug!(%error, "not yet gone");
                Ok(())
            }
            other => other,
        }
    }

    /// Kills a container and takes it away, with the volumes that have no name. The swarm is about to: there may be none any more.
    async fn end(&self, container: &Thing) {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        if let Err(error) = self.docker.remove_container(&container.id, Some(options)).await {
            tracing::debug!(%error, container = %container.name, "not removed");
        }
    }
}
