//! Deploying a version of the recipe: anew, over the one before it, or the same once more.

use std::collections::BTreeMap;
use std::time::Duration;

use assay_model::Sha256;
use assay_recipe::customise::{HookName, OperationName};
use assay_recipe::env::EnvFile;
use assay_recipe::{Recipe, Stack};
use assay_swarm::{
    Allowed, Plan, PlanError, PlanOptions, Rules, Swarm, SwarmError, TaskState, needed_images, plan,
    read_files, refuse,
};
use serde_json::Value;

use super::sources::Version;
use super::{Budget, Phases, Tell, Test, Up, executables, outcome};
use crate::recipe::evidence::{Deployed, Outcome, Reached, ServiceSeen, Upgraded, Upgrades};

/// The app's service, on which Co-op Cloud's labels are.
const APP: &str = "app";

/// What a deployment is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Deploying {
    /// A stack that is not there.
    Anew(OperationName),
    /// Over what is there.
    InPlace {
        /// Whether the settings of upgraded apps hold.
        upgraded: bool,
    },
}

impl Deploying {
    /// Whether the settings of upgraded apps hold.
    const fn is_upgraded(self) -> bool {
        !matches!(self, Self::Anew(OperationName::Install) | Self::InPlace { upgraded: false })
    }
}

impl Test {
    /// Whether the first deployment is that of the release before, so that there is something to upgrade.
    pub(super) fn begins_at_base(&self) -> bool {
        let declared = super::declared_not_applicable(&super::super::upgrade::Upgrade, &self.spec).is_some();
        self.is_planned("Upgrade")
            && !declared
            && self.sources.as_ref().is_some_and(|found| found.base.is_some())
    }

    pub(super) async fn install(&mut self, tell: Tell<'_>) -> Result<Reached<Deployed>, String> {
        let at_base = self.begins_at_base();
        let sources = self.sources.as_ref().ok_or("the recipe was not read")?;
        let version = sources.base.clone().filter(|_| at_base).unwrap_or_else(|| sources.head.clone());
        if self.is_planned("Backup") {
            self.store = Some(super::data::NewStore::begin(self.folder.path()));
        }
        let mut deployed = self.deploy(&version, Deploying::Anew(OperationName::Install), tell).await?;
        if self.up.is_some() {
            deployed.ran.extend(self.tests_after(OperationName::Install).await?);
        } else {
            "Install did not come up".clone_into(&mut self.down_because);
        }
        Ok(Reached::Done(deployed))
    }

    /// From the release before, and then from each further one that is named.
    pub(super) async fn upgrade(&mut self, tell: Tell<'_>) -> Result<Reached<Upgrades>, String> {
        Ok(match self.upgrade_in_place(tell).await? {
            Reached::Done(first) => {
                let further = self.further_upgrades(tell).await?;
                Reached::Done(Upgrades { first, further })
            }
            Reached::NotReached { because } => Reached::NotReached { because },
            Reached::DoesNotApply { why } => Reached::DoesNotApply { why },
        })
    }

    /// The commit under test over what runs.
    pub(super) async fn upgrade_in_place(&mut self, tell: Tell<'_>) -> Result<Reached<Upgraded>, String> {
        let sources = self.sources.as_ref().ok_or("the recipe was not read")?;
        if sources.base.is_none() {
            return Ok(Reached::DoesNotApply { why: sources.no_base.clone() });
        }
        let head = sources.head.clone();
        if let Err(because) = self.standing() {
            return Ok(Reached::NotReached { because });
        }
        let ran =
            self.hook(HookName::PreUpgrade, Some(executables::pending(OperationName::Upgrade)), tell).await?;
        let mut upgraded = self.over(&head, true, tell).await?;
        upgraded.deployed.ran.splice(0..0, ran);
        if self.up.is_some() {
            let tests = self.tests_after(OperationName::Upgrade).await?;
            upgraded.deployed.ran.extend(tests);
        } else {
            "Upgrade did not come up".clone_into(&mut self.down_because);
        }
        Ok(Reached::Done(upgraded))
    }

    /// The same version once more.
    pub(super) async fn again(&mut self, tell: Tell<'_>) -> Result<Reached<Upgraded>, String> {
        let Some(version) = self.running_version() else {
            return Ok(Reached::NotReached { because: self.down_because.clone() });
        };
        let upgraded = self.up.as_ref().is_some_and(|up| up.upgraded);
        self.over(&version, upgraded, tell).await.map(Reached::Done)
    }

    /// Back to the release before.
    pub(super) async fn roll_back(&mut self, tell: Tell<'_>) -> Result<Reached<Upgraded>, String> {
        let sources = self.sources.as_ref().ok_or("the recipe was not read")?;
        let Some(base) = sources.base.clone() else {
            return Ok(Reached::DoesNotApply { why: sources.no_base.clone() });
        };
        if let Err(because) = self.standing() {
            return Ok(Reached::NotReached { because });
        }
        self.over(&base, false, tell).await.map(Reached::Done)
    }

    /// Deploys a version over the one that runs, with witnesses in its stores.
    async fn over(&mut self, version: &Version, upgraded: bool, tell: Tell<'_>) -> Result<Upgraded, String> {
        let Some(before) = &self.up else { return Err("nothing is up".to_owned()) };
        let (from, services) = (before.version.clone(), before.services.clone());
        let label_before = before.version_label.clone();
        tell("planting witnesses");
        let witnesses = self.plant_witnesses().await?;
        let deployed = self.deploy(version, Deploying::InPlace { upgraded }, tell).await?;
        let compared = if self.up.is_some() { self.compare_witnesses().await? } else { Vec::new() };
        Ok(Upgraded { from, before: services, label_before, deployed, witnesses, compared })
    }

    fn running_version(&self) -> Option<Version> {
        let up = self.up.as_ref()?;
        self.stand.as_ref()?;
        Some(Version { seen: up.version.clone(), folder: up.checkout.clone() })
    }

    /// Deploys a version and waits until it is what it is to be, and answers.
    pub(super) async fn deploy(
        &mut self,
        version: &Version,
        how: Deploying,
        tell: Tell<'_>,
    ) -> Result<Deployed, String> {
        let mut phases = Phases::default();
        let stack_name = assay_recipe::names::stack_name(&self.domain);
        let mut seen = Deployed {
            version: version.seen.clone(),
            domain: self.domain.clone(),
            stack: stack_name.clone(),
            outcome: Outcome::Invalid { problems: Vec::new() },
            services: Vec::new(),
            version_label: None,
            commit_label: None,
            substituted: Vec::new(),
            remarks: Vec::new(),
            images: Vec::new(),
            answered: None,
            ran: Vec::new(),
            phases: Vec::new(),
        };
        // What was up is being changed: until it has converged again, nothing is.
        self.note_deaths().await;
        (self.up, self.mark) = (None, None);
        let ended = Box::pin(self.deployed(&mut seen, &mut phases, version, how, tell)).await;
        seen.phases = phases.0;
        match ended {
            Ok(Some(up)) => {
                self.up = Some(up);
                self.take_mark().await;
                Ok(seen)
            }
            Ok(None) => Ok(seen),
            Err(why) => Err(why),
        }
    }

    /// The steps of it, in their order. None where the stack did not come up; then the outcome says why.
    async fn deployed(
        &mut self,
        seen: &mut Deployed,
        phases: &mut Phases,
        version: &Version,
        how: Deploying,
        tell: Tell<'_>,
    ) -> Result<Option<Up>, String> {
        let Some((stack, planned)) = self.prepared(seen, phases, version, how, tell).await? else {
            return Ok(None);
        };
        self.carried_out(seen, phases, (stack, &planned), how, tell).await.map(|stack| {
            stack.map(|stack| Up {
                version: version.seen.clone(),
                checkout: version.folder.clone(),
                stack,
                services: seen.services.clone(),
                version_label: seen.version_label.clone(),
                upgraded: how.is_upgraded(),
            })
        })
    }

    /// Everything before the swarm is told: hooks, files, images, secrets. None where something of it does not hold.
    async fn prepared(
        &mut self,
        seen: &mut Deployed,
        phases: &mut Phases,
        version: &Version,
        how: Deploying,
        tell: Tell<'_>,
    ) -> Result<Option<(Stack, Plan)>, String> {
        phases.time("daemon", self.stand_up(tell)).await?;
        if let Err(failed) = self.provide(phases, tell).await? {
            seen.outcome = Outcome::DependencyFailed { dependency: failed.dependency, message: failed.why };
            return Ok(None);
        }
        seen.substituted.extend(self.dependencies.remarks().iter().cloned());
        if how == Deploying::Anew(OperationName::Install) {
            let ran = self.hook(HookName::InstallSteps, None, tell).await?;
            if !succeeded(seen, ran) {
                return Ok(None);
            }
        }
        self.copy_overlay(&version.folder)?;
        let upgraded = how.is_upgraded();
        let mut stack = match self.stack_of(version, upgraded) {
            Ok(stack) => stack,
            Err(problems) => {
                seen.outcome = Outcome::Invalid { problems };
                return Ok(None);
            }
        };
        seen.remarks
            .extend(stack.compose.notes.iter().map(|note| format!("{}: {}", note.file, note.message)));
        let services: Vec<&str> = stack.compose.services.keys().map(String::as_str).collect();
        let secrets: Vec<&str> = stack.compose.secrets.keys().map(String::as_str).collect();
        let unknown = self.spec.settings.unknown_names(&services, &secrets);
        seen.remarks.extend(unknown.iter().map(ToString::to_string));
        let unset = stack
            .unset
            .iter()
            .map(|unset| format!("{}:{}: {} has no value", unset.file, unset.line, unset.name));
        seen.remarks.extend(unset);
        let allowed: Allowed = match &self.spec.asked.allowed {
            Value::Null => Allowed::default(),
            allowed => serde_json::from_value(allowed.clone())
                .map_err(|error| format!("what the recipe is allowed does not read: {error}"))?,
        };
        let escapes = refuse(&stack.compose, &allowed);
        if !escapes.is_empty() {
            seen.outcome = Outcome::Refused { escapes: escapes.iter().map(ToString::to_string).collect() };
            return Ok(None);
        }
        seen.substituted.extend(self.patience().with_health(&mut stack.compose));
        let stand = self.stand.as_ref().ok_or("there is no daemon")?;
        match stand.fit(&mut stack.compose, &stack.name) {
            Ok(told) => seen.substituted.extend(told),
            Err(escapes) => {
                seen.outcome = Outcome::Refused { escapes };
                return Ok(None);
            }
        }
        if how == Deploying::Anew(OperationName::Install) {
            let op = Some(executables::pending(OperationName::Install));
            let ran = self.hook(HookName::PreInstall, op, tell).await?;
            if !succeeded(seen, ran) {
                return Ok(None);
            }
        }
        let needed = match needed_images(&stack.compose) {
            Ok(needed) => needed,
            Err(error) => {
                seen.outcome = Outcome::Invalid { problems: vec![error.to_string()] };
                return Ok(None);
            }
        };
        tell("images");
        let images = match phases.time("images", self.bring_images(&needed)).await? {
            Ok(images) => images,
            Err(images) => {
                seen.outcome = Outcome::NoImages { images };
                return Ok(None);
            }
        };
        seen.images.clone_from(&images.seen);
        let mut files = match read_files(&stack.compose, &version.folder) {
            Ok(files) => files,
            Err(error) => {
                seen.outcome = Outcome::Invalid { problems: vec![error.to_string()] };
                return Ok(None);
            }
        };
        seen.substituted.extend(self.lead_to_dependencies(&mut stack.compose, &mut files)?);
        if let Err(problems) = self.make_secrets(&stack) {
            seen.outcome = Outcome::Invalid { problems };
            return Ok(None);
        }
        let stand = self.stand.as_ref().ok_or("there is no daemon")?;
        let environment = BTreeMap::new();
        let options = PlanOptions {
            stack: &stack.name,
            environment: &environment,
            root: &version.folder,
            files: &files,
            endpoints: stand.endpoints,
        };
        let planned = match plan(&images.renamed(&stack.compose), &options) {
            Ok(planned) => stand.marked(planned),
            Err(error) => {
                seen.outcome = Outcome::Invalid { problems: vec![error.to_string()] };
                return Ok(None);
            }
        };
        seen.substituted.extend(planned.changes().iter().map(ToString::to_string).chain(images.told()));
        Ok(Some((stack, planned)))
    }

    /// The swarm is told, and waited for, and the app is asked. None where it did not come up.
    async fn carried_out(
        &mut self,
        seen: &mut Deployed,
        phases: &mut Phases,
        (stack, planned): (Stack, &Plan),
        how: Deploying,
        tell: Tell<'_>,
    ) -> Result<Option<Stack>, String> {
        let digests = digests(&planned.json());
        let budget = Budget::of(self.spec.settings.deploy.timeout);
        tell("deploying");
        let deployed = phases.time("deploy", self.put_in_place(planned)).await;
        let deployed = match deployed {
            Ok(deployed) => deployed,
            Err(error) if is_of_the_recipe(&error) => {
                seen.outcome = Outcome::Rejected { message: error.to_string() };
                return Ok(None);
            }
            Err(error) => return Err(error.to_string()),
        };
        // Counted by what the swarm did, and expected by what was to be done.
        if deployed.services.iter().all(|service| service.created) {
            self.deploys += 1;
        }
        if matches!(how, Deploying::Anew(_)) {
            self.deploys_expected += 1;
        }
        tell("waiting until every service is as the files say");
        let settings = &self.spec.settings.deploy;
        let tolerated = settings.tolerate_restarts.iter();
        let until = settings.tolerate_until.iter();
        let rules = Rules {
            tolerated: tolerated.map(|(service, most)| (service.clone(), *most as usize)).collect(),
            tolerated_until: until.map(|(service, until)| (service.clone(), until.clone())).collect(),
            ..rules_of(how)
        };
        let stand = self.stand.as_ref().ok_or("there is no daemon")?;
        let (swarm, limit) = (stand.swarm(), budget.left());
        let converged = phases.time("converge", swarm.converge(&deployed, &rules, limit)).await;
        let converged = converged.map_err(|error| error.to_string())?;
        // The rest of the time was making sure that it stays.
        let settled = converged.settled.map(|settled| settled.as_secs_f64());
        phases.0.extend(
            settled.map(|seconds| super::Phase { name: "of which until all ran".to_owned(), seconds }),
        );
        let limit_s = self.spec.settings.deploy.timeout.as_secs_f64();
        seen.outcome = outcome::outcome(&converged, &stack.name, limit_s);
        self.artifacts
            .extend(outcome::attempts(&converged.evidence).map(|log| ("attempts.txt".to_owned(), log)));
        self.read_back(seen, &stack, &digests).await?;
        if !matches!(seen.outcome, Outcome::Converged { .. }) {
            return Ok(None);
        }
        self.look(seen, phases, &stack, budget, tell).await?;
        Ok(Some(stack))
    }

    /// What it answers, and what its own probe says.
    async fn look(
        &mut self,
        seen: &mut Deployed,
        phases: &mut Phases,
        stack: &Stack,
        budget: Budget,
        tell: Tell<'_>,
    ) -> Result<(), String> {
        let Some(stand) = &self.stand else { return Ok(()) };
        let face = self.face(stack);
        if let Some(face) = face.as_ref().filter(|_| self.spec.asked.skip_generic) {
            // Nobody asks here, and the recipe's own tests want to.
            if let Err(why) = Self::find_app(stand, &stack.name, face).await {
                seen.remarks.push(format!("its own tests do not reach the app: {why}"));
            }
        }
        if let Some(face) = face.filter(|_| !self.spec.asked.skip_generic) {
            tell("waiting for an answer");
            let (answered, page) = phases.time("answer", self.ask(stand, stack, &face, budget)).await;
            let place = format!("page {}", self.spec.settings.http.path);
            seen.answered = Some(answered);
            self.look_for_secrets(&page, &place);
        }
        if let Some(ready) = self.customisation.hook(HookName::Ready).cloned() {
            tell(&format!("hook {}", ready.name));
            let began = std::time::Instant::now();
            loop {
                let ran = self.run_executable(&ready, None).await?;
                if ran.succeeded() || budget.left().is_zero() {
                    phases.0.push(super::Phase { name: ready.name, seconds: began.elapsed().as_secs_f64() });
                    seen.ran.push(ran);
                    break;
                }
                // The hook is the only one who can tell.
                tokio::time::sleep(Duration::from_millis(500).min(budget.left())).await;
            }
        }
        Ok(())
    }

    /// What would be deployed, or everything that is wrong with it.
    fn stack_of(&self, version: &Version, upgraded: bool) -> Result<Stack, Vec<String>> {
        let recipe = Recipe::open(&version.folder).map_err(|error| vec![error.to_string()])?;
        let lines = |problems: &assay_recipe::Problems| {
            problems.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let mut env = match &recipe.sample {
            Some(Ok(env)) => env.clone(),
            Some(Err(problems)) => return Err(lines(problems)),
            None => EnvFile::default(),
        };
        env.set("DOMAIN", &self.domain);
        // No certificate is asked for anywhere: the proxy has one.
        env.set("LETS_ENCRYPT_ENV", "");
        let deploy = &self.spec.settings.deploy;
        let later = deploy.upgrade_env.iter().filter(|_| upgraded);
        let (given, _) = self.given().map_err(|problem| vec![problem])?;
        for (name, value) in deploy.env.iter().chain(&given).chain(later) {
            env.set(name, value);
        }
        if self.customisation.overlay.is_some() {
            let mut files = env.compose_files();
            files.push(assay_recipe::customise::OVERLAY.to_owned());
            env.set("COMPOSE_FILE", &files.join(":"));
        }
        let stack_name = assay_recipe::names::stack_name(&self.domain);
        let mut stack = recipe.stack(&env, &stack_name).map_err(|problems| lines(&problems))?;
        if let Some(app) = stack.compose.services.get_mut(APP) {
            let mut label = |name: &str, value: String| {
                app.deploy.labels.insert(format!("coop-cloud.{stack_name}.{name}"), value);
            };
            label("recipe", self.spec.name.clone());
            label("chaos", "true".to_owned());
            if let Some(commit) = &version.seen.commit {
                let unstaged = if version.seen.changed.is_empty() { "" } else { "+U" };
                label("chaos-version", format!("{}{unstaged}", &commit[..commit.len().min(8)]));
            }
        }
        Ok(stack)
    }

    /// Makes up the secrets that are new.
    fn make_secrets(&mut self, stack: &Stack) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        let (_, from_dependencies) = self.given().map_err(|problem| vec![problem])?;
        for need in &stack.secrets {
            if self.secrets.contains_key(&need.docker_name) {
                continue;
            }
            let own = self.spec.settings.deploy.secrets.get(&need.key);
            let given = from_dependencies.get(&need.key).or(own);
            match given.map(|value| value.as_str().into()).or_else(|| need.make()) {
                Some(value) => {
                    self.secrets.insert(need.docker_name.clone(), (need.key.clone(), value));
                }
                None => problems.push(format!(
                    "the secret {} is not generated (generate=false); give it a value for tests under deploy.secrets in \
                     assay.toml",
                    need.key
                )),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    async fn put_in_place(&self, planned: &Plan) -> Result<assay_swarm::Deployed, SwarmError> {
        let Some(stand) = &self.stand else {
            return Err(SwarmError::Missing { kind: "daemon", name: String::new(), hint: "start one first" });
        };
        let (swarm, labels) = (stand.swarm(), stand.labels());
        for network in planned.external_networks() {
            swarm.ensure_network(network, &labels).await?;
        }
        for name in planned.external_secrets() {
            if let Some((_, value)) = self.secrets.get(name)
                && !swarm.has_secret(name).await?
            {
                swarm.put_secret(name, value.expose().as_bytes(), &labels).await?;
            }
        }
        swarm.deploy(planned).await
    }

    /// The stack as the swarm says that it is.
    async fn read_back(
        &self,
        seen: &mut Deployed,
        stack: &Stack,
        digests: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let Some(stand) = &self.stand else { return Ok(()) };
        let failed = |error: SwarmError| error.to_string();
        seen.services = services_of(stand.swarm(), stack, digests).await.map_err(failed)?;
        let app = format!("{}_{APP}", stack.name);
        let labels = stand.swarm().labels_of(&app).await.map_err(failed)?;
        let label = |name: &str| labels.get(&format!("coop-cloud.{}.{name}", stack.name)).cloned();
        seen.version_label = label("version");
        seen.commit_label = label("chaos-version");
        Ok(())
    }
}

/// How long a stack is watched. One that stood the same before, and is only to be restored into, has shown that it stays.
fn rules_of(how: Deploying) -> Rules {
    let rules = Rules::default();
    match how {
        Deploying::Anew(OperationName::Restore) => Rules { stable_for: rules.unchanged_for, ..rules },
        _ => rules,
    }
}

/// Takes a hook's outcome down; whether to go on.
fn succeeded(seen: &mut Deployed, ran: Option<crate::recipe::evidence::Ran>) -> bool {
    let Some(ran) = ran else { return true };
    let ok = ran.succeeded();
    if !ok {
        seen.outcome = Outcome::HookFailed { hook: ran.name.clone() };
    }
    seen.ran.push(ran);
    ok
}

/// The services with the tasks that run them.
pub(super) async fn services_of(
    swarm: &Swarm,
    stack: &Stack,
    digests: &BTreeMap<String, String>,
) -> Result<Vec<ServiceSeen>, SwarmError> {
    let observed = swarm.observe(&stack.name).await?;
    let services = stack.compose.services.iter().map(|(key, service)| {
        let name = format!("{}_{key}", stack.name);
        let id = observed.services.iter().find(|seen| seen.name == name).map(|seen| seen.id.clone());
        let mut tasks: Vec<String> = observed
            .tasks
            .iter()
            .filter(|task| Some(&task.service) == id.as_ref())
            .filter(|task| task.state == TaskState::Running && task.desired == TaskState::Running)
            .map(|task| task.id.clone())
            .collect();
        tasks.sort();
        ServiceSeen {
            service: key.clone(),
            image: service.image.clone().unwrap_or_default(),
            tasks,
            digest: digests.get(&name).cloned().unwrap_or_default(),
        }
    });
    Ok(services.collect())
}

/// Of each service a digest of what its containers are made from: where that differs, its tasks have to be replaced. Labels of the
/// service itself are not in it; changing them replaces nothing.
fn digests(planned: &Value) -> BTreeMap<String, String> {
    let services = planned["services"].as_array().into_iter().flatten();
    let digest = |service: &Value| {
        let name = service["Name"].as_str()?.to_owned();
        let made_from = &service["TaskTemplate"]["ContainerSpec"];
        Some((name, Sha256::of(made_from.to_string().as_bytes()).to_string()))
    };
    services.filter_map(digest).collect()
}

/// Whether Docker's answer is about what it was asked for, and not about itself.
fn is_of_the_recipe(error: &SwarmError) -> bool {
    match error {
        SwarmError::Plan(PlanError::NoImage { .. } | _) | SwarmError::Missing { .. } => true,
        other => other.status().is_some_and(|status| (400..500).contains(&status)),
    }
}
