//! The end: what the services said, the stack taken down piece by piece, the daemon ended, and a look at what stays.

use std::time::Duration;

use assay_swarm::{Census, Teardown, ThingKind};

use super::shared::Shared;
use super::stand::{On, Stand};
use super::{Phases, Tell, Test};
use crate::recipe::evidence::{Leak, TornDown};

/// How long a stack may take to go.
const LIMIT: Duration = Duration::from_mins(2);
/// The most that is kept of what the daemon said, in bytes.
const DAEMON_LOG: usize = 2 << 20;
/// Networks that a daemon makes for itself with the first stack.
const OWN: [&str; 3] = ["ingress", "docker_gwbridge", "proxy"];

impl Test {
    pub(super) async fn teardown(&mut self, tell: Tell<'_>) -> Result<TornDown, String> {
        let mut phases = Phases::default();
        let mut torn = TornDown {
            deploys: self.deploys,
            deploys_expected: self.deploys_expected,
            ..TornDown::default()
        };
        if self.stand.is_none() {
            return Ok(torn);
        }
        tell("reading what the services said");
        phases.time("logs", self.read_logs()).await?;
        self.note_deaths().await;
        if let Some(most) = self.refused_processes() {
            tell(&format!(
                "containers were refused processes: {most} of them, threads included, are what all of a run have together"
            ));
        }
        torn.leaks = std::mem::take(&mut self.leaks);
        torn.died = std::mem::take(&mut self.died);
        if self.spec.asked.keep && self.up.is_some() {
            torn.kept = self.stand.as_ref().map(|stand| stand.how_to_reach(&self.domain));
            torn.phases = phases.0;
            return Ok(torn);
        }
        tell("taking the stack down");
        let (removed, left) = phases.time("stack", self.destroy()).await?;
        (torn.removed, torn.left) = (removed, left);
        let (removed, left) = phases.time("dependencies", self.destroy_dependencies()).await?;
        torn.removed += removed;
        torn.left.extend(left);
        if self.is_shared() {
            torn.unclaimed = self.unclaimed().await?;
            torn.images_kept = self.brought.iter().cloned().collect();
        } else {
            tell("ending the daemon");
        }
        let residue = phases.time("daemon", self.put_away()).await;
        torn.residue = residue;
        torn.phases = phases.0;
        Ok(torn)
    }

    /// Takes the stack away with everything of it: how many things went, and what did not.
    pub(super) async fn destroy(&mut self) -> Result<(u64, Vec<String>), String> {
        self.note_deaths().await;
        (self.up, self.mark) = (None, None);
        let Some(stand) = &self.stand else { return Ok((0, Vec::new())) };
        let stack = assay_recipe::names::stack_name(&self.domain);
        // What an operator removes with the app: its volumes, and the secrets that were put there for it.
        let how = Teardown {
            kill: true,
            volumes: true,
            external: self.secrets.keys().cloned().collect(),
            limit: LIMIT,
        };
        let torn = stand.swarm().teardown(&stack, &how).await.map_err(|error| error.to_string())?;
        let after = stand.swarm().census().await.map_err(|error| error.to_string())?;
        let left = match &stand.on {
            On::Own(_) => {
                // Beyond what has the stack's name: the daemon is the run's alone, so whatever is new in it is of the recipe.
                let mut left: Vec<String> = torn.leaks.iter().map(ToString::to_string).collect();
                for thing in after.since(&stand.census) {
                    let own = thing.kind == ThingKind::Network && OWN.contains(&thing.name.as_str());
                    let words = thing.to_string();
                    if !own && thing.kind != ThingKind::Task && !left.contains(&words) {
                        left.push(words);
                    }
                }
                left
            }
            On::Shared(shared) => {
                // Others come and go there: the run's is what has its label, or is of its stack.
                let now = stand.swarm().now().await.map_err(|error| error.to_string())?;
                left_of(shared, stand, &stack, &after).iter().map(|thing| thing.told(now)).collect()
            }
        };
        Ok((torn.removed.len() as u64, left))
    }

    fn refused_processes(&self) -> Option<u64> {
        match &self.stand.as_ref()?.on {
            On::Own(daemon) => daemon.refused_processes(),
            On::Shared(_) => None,
        }
    }

    fn is_shared(&self) -> bool {
        self.stand.as_ref().is_some_and(|stand| matches!(stand.on, On::Shared(_)))
    }

    /// What is new in a shared swarm, and neither of a stack nor of a run.
    async fn unclaimed(&self) -> Result<Vec<String>, String> {
        let Some(stand) = &self.stand else { return Ok(Vec::new()) };
        let after = stand.swarm().census().await.map_err(|error| error.to_string())?;
        let now = stand.swarm().now().await.map_err(|error| error.to_string())?;
        let new = after.since(&stand.census).into_iter().filter(|thing| {
            // A stack's secrets have no label where an operator puts them there.
            let of_a_stack = after.stacks().any(|stack| thing.belongs_to(stack));
            let counts = thing.kind != ThingKind::Task && thing.run.is_none() && !of_a_stack;
            counts && !(thing.kind == ThingKind::Network && OWN.contains(&thing.name.as_str()))
        });
        Ok(new.map(|thing| thing.told(now)).collect())
    }

    /// Ends the daemon; what stays of it.
    pub(super) async fn put_away(&mut self) -> Vec<String> {
        self.up = None;
        // Of tests that were broken off.
        self.stop_browser().await;
        let mut residue = self.release_dependencies().await;
        let Some(stand) = self.stand.take() else { return residue };
        stand.front.close();
        let super::stand::Stand { on, programs, .. } = stand;
        let groups = programs.end().await;
        residue.extend(groups.err().map(|error| error.to_string()));
        // It holds the daemon's namespaces open.
        drop(programs);
        let daemon = match on {
            On::Own(daemon) => daemon,
            On::Shared(shared) => {
                // What would not go was told where it was taken down.
                let ended = shared.end().await;
                residue.extend(
                    ended.err().map(|error| format!("what the run has in the shared swarm ({error})")),
                );
                return residue;
            }
        };
        let mut log = std::fs::read(daemon.log()).unwrap_or_default();
        // Its end says what went wrong.
        log.drain(..log.len().saturating_sub(DAEMON_LOG));
        self.artifacts.push(("dockerd.log".to_owned(), log));
        match daemon.stop().await {
            Ok(_) => {}
            Err(error) => residue.push(error.to_string()),
        }
        residue
    }

    /// Keeps what every service said, and looks for secrets in it.
    pub(super) async fn read_logs(&mut self) -> Result<(), String> {
        let Some(stand) = &self.stand else { return Ok(()) };
        let stack = assay_recipe::names::stack_name(&self.domain);
        let logs = stand.swarm().logs_of(&stack).await.map_err(|error| error.to_string())?;
        for (service, said) in logs {
            let service = super::outcome::key(&stack, &service);
            self.look_for_secrets(&said, &format!("log of service {service}"));
            self.artifacts.push((format!("logs-{service}.txt"), said.into_bytes()));
        }
        Ok(())
    }

    /// Notes secrets that stand in a text.
    pub(super) fn look_for_secrets(&mut self, text: &str, place: &str) {
        let own = self.secrets.values().map(|(key, value)| (key.clone(), value.expose()));
        // What was handed on as a secret of the app's is told by that name.
        let handed_on = |value: &str| self.secrets.values().any(|(_, own)| own.expose() == value);
        let given = self.dependencies.secrets().filter(|(_, value)| !handed_on(value));
        for (key, value) in own.chain(given) {
            // A short one stands in any text by chance.
            let known = self.leaks.iter().any(|leak| leak.secret == key && leak.place == place);
            if value.len() >= 8 && !known && text.contains(value) {
                self.leaks.push(Leak { secret: key, place: place.to_owned() });
            }
        }
    }
}

/// What is still there of a run on a shared swarm, dependencies and the claim excepted.
fn left_of(shared: &Shared, stand: &Stand, stack: &str, after: &Census) -> Vec<assay_swarm::Thing> {
    let (of_stack, of_run) = (after.of_stack(stack), after.of_run(shared.run()));
    let new = after.since(&stand.census).into_iter();
    new.filter(|thing| thing.kind != ThingKind::Task && (of_stack.has(thing) || of_run.has(thing))).collect()
}
