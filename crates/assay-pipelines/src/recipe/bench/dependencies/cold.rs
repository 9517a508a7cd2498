//! Another recipe, deployed into the run's daemon before the one under test: its latest release, with secrets of its own, under a
//! name below the app's domain. It comes from a folder that whoever runs Assay has named, not from the recipe under test.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use assay_recipe::customise::{Customisation, Options};
use assay_recipe::env::EnvFile;
use assay_recipe::secrets::SecretValue;
use assay_recipe::settings::{Dependency, DependencyKind, Settings};
use assay_recipe::versions::Checkout;
use assay_recipe::{Recipe, Stack};
use assay_swarm::{Allowed, PlanOptions, Rules, Swarm, Teardown, needed_images, plan, read_files, refuse};

use super::super::ask::{address_of, face_of};
use super::super::front;
use super::super::{Test, outcome};
use super::{Behind, Held, Up};
use crate::recipe::evidence::Outcome;

/// Between two requests to an app that does not answer yet.
const AGAIN: Duration = Duration::from_millis(200);
/// Longest that one request may take.
const REQUEST: Duration = Duration::from_secs(20);
/// How long a stack may take to go.
const GO: Duration = Duration::from_mins(2);

/// Its stack.
pub(super) struct ColdStack {
    name: String,
    /// Secrets that were put there for it.
    external: Vec<String>,
}

impl ColdStack {
    /// Takes it away: how many things went, and what did not.
    pub(super) async fn destroy(&self, swarm: &Swarm) -> Result<(u64, Vec<String>), String> {
        let how = Teardown { kill: true, volumes: true, external: self.external.clone(), limit: GO };
        let torn = swarm.teardown(&self.name, &how).await.map_err(|error| error.to_string())?;
        Ok((torn.removed.len() as u64, torn.leaks.iter().map(ToString::to_string).collect()))
    }
}

impl Test {
    /// Deploys it. The inner error is that recipe's; the outer one is the runner's.
    pub(super) async fn other_recipe(
        &mut self,
        recipe: &str,
        dependency: &Dependency,
        host: &str,
    ) -> Result<Result<Up, String>, String> {
        if dependency.kind == DependencyKind::Warm {
            return Ok(Err(
                "a recipe is not kept between runs; leave `kind = \"warm\"` to providers".to_owned()
            ));
        }
        let folder = self.folder.path().join(format!("dependency-{}", dependency.name));
        let (stack, settings) = match self.stack_at(recipe, host, &folder).await {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        match self.bring_up(stack, &settings, host, &folder).await? {
            Err(why) => Ok(Err(why)),
            Ok((stack, secrets)) => {
                let mut credentials: indexmap::IndexMap<String, String> =
                    [("domain", host.to_owned()), ("url", format!("https://{host}"))]
                        .map(|(name, value)| (name.to_owned(), value))
                        .into_iter()
                        .collect();
                for (key, value) in secrets {
                    // Where it is stays what it is, whatever a secret is called.
                    credentials.entry(key).or_insert(value);
                }
                Ok(Ok(Up {
                    name: dependency.name.clone(),
                    host: host.to_owned(),
                    credentials,
                    held: Held::Stack(stack),
                }))
            }
        }
    }

    /// The latest release's stack, and its own settings.
    async fn stack_at(&self, recipe: &str, host: &str, to: &Path) -> Result<(Stack, Settings), String> {
        let folders = &self.spec.asked.recipes;
        let Some(from) = folders.iter().map(|folder| folder.join(recipe)).find(|folder| folder.is_dir())
        else {
            let named: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
            let named = if named.is_empty() {
                "no folder with recipes was named".to_owned()
            } else {
                named.join(", ")
            };
            return Err(format!(
                "there is no recipe {recipe} ({named}); name the folder that has its checkout with --recipes"
            ));
        };
        let failed = |error: assay_recipe::versions::VersionsError| error.to_string();
        let checkout = Checkout::open(&from).await.map_err(failed)?;
        let latest = checkout.releases().await.map_err(failed)?.releases.pop();
        let Some(latest) = latest else {
            return Err(format!("the recipe {recipe} has no release; tag one, or fetch its tags"));
        };
        checkout.clone_at(&latest.commit, to).await.map_err(failed)?;
        let settings = Customisation::of_recipe(to, Options::default()).map_err(|error| error.to_string())?;
        let settings = settings.settings.settings;
        if !settings.dependencies.is_empty() {
            return Err(format!("the recipe {recipe} has dependencies itself, and those are not brought"));
        }
        let lines = |problems: &assay_recipe::Problems| {
            let lines: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
            format!("{recipe} {}: {}", latest.tag, lines.join("; "))
        };
        let recipe = Recipe::open(to).map_err(|error| error.to_string())?;
        let mut env = match &recipe.sample {
            Some(Ok(env)) => env.clone(),
            Some(Err(problems)) => return Err(lines(problems)),
            None => EnvFile::default(),
        };
        env.set("DOMAIN", host);
        env.set("LETS_ENCRYPT_ENV", "");
        for (name, value) in &settings.deploy.env {
            env.set(name, value);
        }
        let stack = recipe
            .stack(&env, &assay_recipe::names::stack_name(host))
            .map_err(|problems| lines(&problems))?;
        Ok((stack, settings))
    }

    /// Deploys it and waits until it answers: its stack, and its secrets by their keys.
    async fn bring_up(
        &mut self,
        mut stack: Stack,
        settings: &Settings,
        host: &str,
        folder: &Path,
    ) -> Result<Result<(ColdStack, Vec<(String, String)>), String>, String> {
        let escapes = refuse(&stack.compose, &Allowed::default());
        if let Some(escape) = escapes.first() {
            return Ok(Err(format!(
                "it reaches out of its containers, which a dependency may not: {escape}"
            )));
        }
        let stand = self.stand.as_ref().ok_or("there is no daemon")?;
        if let Err(refused) = stand.fit(&mut stack.compose, &stack.name) {
            return Ok(Err(refused.join("; ")));
        }
        let needed = match needed_images(&stack.compose) {
            Ok(needed) => needed,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if let Err(missing) = self.bring_images(&needed).await? {
            return Ok(Err(missing.join("; ")));
        }
        let mut files = match read_files(&stack.compose, folder) {
            Ok(files) => files,
            Err(error) => return Ok(Err(error.to_string())),
        };
        self.lead_to_dependencies(&mut stack.compose, &mut files)?;
        let mut secrets: BTreeMap<String, (String, SecretValue)> = BTreeMap::new();
        for need in &stack.secrets {
            let given = settings.deploy.secrets.get(&need.key).map(|value| value.as_str().into());
            let Some(value) = given.or_else(|| need.make()) else {
                return Ok(Err(format!(
                    "its secret {} is not generated, and its assay.toml has none",
                    need.key
                )));
            };
            secrets.insert(need.docker_name.clone(), (need.key.clone(), value));
        }
        let stand = self.stand.as_ref().ok_or("there is no daemon")?;
        let environment = BTreeMap::new();
        let options = PlanOptions {
            stack: &stack.name,
            environment: &environment,
            root: folder,
            files: &files,
            endpoints: stand.endpoints,
        };
        let planned = match plan(&stack.compose, &options) {
            Ok(planned) => stand.marked(planned),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let (swarm, labels) = (stand.swarm(), stand.labels());
        let failed = |error: assay_swarm::SwarmError| error.to_string();
        for network in planned.external_networks() {
            swarm.ensure_network(network, &labels).await.map_err(failed)?;
        }
        for name in planned.external_secrets() {
            if let Some((_, value)) = secrets.get(name) {
                swarm.put_secret(name, value.expose().as_bytes(), &labels).await.map_err(failed)?;
            }
        }
        let deployed = match swarm.deploy(&planned).await {
            Ok(deployed) => deployed,
            Err(error) => return Ok(Err(error.to_string())),
        };
        // Once for each; whether it was once is what the swarm says.
        self.deploys_expected += 1;
        if deployed.services.iter().all(|service| service.created) {
            self.deploys += 1;
        }
        let limit = settings.deploy.timeout;
        let began = Instant::now();
        let converged = swarm.converge(&deployed, &Rules::default(), limit).await.map_err(failed)?;
        let ended = outcome::outcome(&converged, &stack.name, limit.as_secs_f64());
        let problem = match not_up(&ended) {
            Some(why) => Some(why),
            None => answers(stand, &stack, settings, host, limit.saturating_sub(began.elapsed())).await.err(),
        };
        let deployed = ColdStack { name: stack.name, external: secrets.keys().cloned().collect() };
        if let Some(why) = problem {
            let log = outcome::attempts(&converged.evidence);
            self.artifacts.extend(log.map(|log| (format!("dependency-{host}.txt"), log)));
            // What it left would be taken for the recipe's.
            deployed.destroy(stand.swarm()).await?;
            return Ok(Err(why));
        }
        let by_key = secrets.into_values().map(|(key, value)| (key, value.expose().to_owned())).collect();
        Ok(Ok((deployed, by_key)))
    }
}

/// Tells the proxy where it is, and waits until it answers.
async fn answers(
    stand: &super::super::stand::Stand,
    stack: &Stack,
    settings: &Settings,
    host: &str,
    limit: Duration,
) -> Result<(), String> {
    let Some(face) = face_of(&settings.http, stack) else { return Ok(()) };
    let ip = address_of(stand.swarm(), &stack.name, &face).await?;
    stand.front.set_host(host, Some(Behind::Port(front::address(ip, face.port))));
    let (began, limit) = (Instant::now(), settings.http.timeout.min(limit));
    loop {
        let said = match stand.front.ask_at(host, &settings.http.path, REQUEST).await {
            Ok(page) if settings.http.status.contains(&page.status) => return Ok(()),
            Ok(page) => format!("it answers {}", page.status),
            Err(why) => why,
        };
        if began.elapsed() >= limit {
            return Err(format!(
                "it does not answer as it should within {:.0} s: {said}",
                limit.as_secs_f64()
            ));
        }
        // Nothing tells that an app has begun to answer but its answer.
        tokio::time::sleep(AGAIN).await;
    }
}

/// Why a stack is not up; none where it is.
fn not_up(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Converged { .. } => None,
        Outcome::Failed { failures } => {
            let failures: Vec<String> =
                failures.iter().map(|failure| format!("{}: {}", failure.service, failure.message)).collect();
            Some(failures.join("; "))
        }
        Outcome::TimedOut { waiting, limit_s } => {
            Some(format!("after {limit_s:.0} s: {}", waiting.join("; ")))
        }
        other => Some(format!("{other:?}")),
    }
}
