//! Acting by a plan: networks, secrets, configs, services. Each act is safe to repeat.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use assay_model::Micros;
use bollard::{
    models::{ConfigSpec, SecretSpec, Service, ServiceSpec},
    query_parameters::{
        ListConfigsOptionsBuilder, ListServicesOptionsBuilder, UpdateConfigOptionsBuilder,
        UpdateSecretOptionsBuilder, UpdateServiceOptionsBuilder,
    },
};

use super::{IMAGE_LABEL, NAMESPACE_LABEL, Plan};
use crate::{Swarm, SwarmError, moment::moment};

/// Networks that every daemon has and no swarm makes.
const PREDEFINED: [&str; 3] = ["host", "bridge", "none"];

/// What a deploy did, and what its convergence is measured from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// The stack.
    pub stack: String,
    /// Its services.
    pub services: Vec<DeployedService>,
    /// Tasks that were there before. What became of them is not this deploy's doing.
    pub tasks_before: BTreeSet<String>,
    /// What Docker remarked on.
    pub warnings: Vec<String>,
}

/// One service, as it was deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployedService {
    /// Its full name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Whether it is new.
    pub created: bool,
    /// When the last update before this deploy began, by the swarm's clock. A status of that one says nothing of this one.
    pub update_before: Option<Micros>,
}

impl Swarm {
    /// Makes the swarm have what the plan says. Services that the plan no longer has are left alone.
    ///
    /// # Errors
    /// [`SwarmError::Missing`] for what somebody else should have made; [`SwarmError::Docker`] otherwise. What was made until then
    /// stays.
    pub async fn deploy(&self, plan: &Plan) -> Result<Deployed, SwarmError> {
        let tasks_before = self.task_ids().await?;
        self.make_networks(plan).await?;
        let secrets = self.make_secrets(plan).await?;
        let configs = self.make_configs(plan).await?;
        let present = self.services_of(plan.stack()).await?;
        let mut services = Vec::new();
        let mut warnings = Vec::new();
        for spec in &plan.services {
            let spec = with_ids(spec.clone(), &secrets, &configs);
            let name = spec.name.clone().unwrap_or_default();
            let current = present.iter().find(|service| name_of(service) == Some(name.as_str()));
            let created = current.is_none();
            let update_before = current
                .and_then(|current| current.update_status.as_ref())
                .and_then(|status| moment(status.started_at.as_ref()));
            let (id, said) = if let Some(current) = current {
                (current.id.clone().unwrap_or_default(), self.update(current, spec).await?)
            } else {
                let made = self.docker.create_service(spec, None).await;
                let made = made.map_err(SwarmError::docker(format!("creating service `{name}`")))?;
                (made.id.unwrap_or_default(), made.warnings)
            };
            warnings.extend(said.into_iter().flatten());
            services.push(DeployedService { name, id, created, update_before });
        }
        Ok(Deployed { stack: plan.stack.clone(), services, tasks_before, warnings })
    }

    /// A stack as it stands now, as if it had just been deployed: to wait for it again after something was done to it. What became
    /// of its tasks until now does not count.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn standing(&self, stack: &str) -> Result<Deployed, SwarmError> {
        let tasks_before = self.task_ids().await?;
        let services = self.services_of(stack).await?.into_iter().map(|service| DeployedService {
            name: name_of(&service).unwrap_or_default().to_owned(),
            id: service.id.unwrap_or_default(),
            created: false,
            update_before: None,
        });
        let services = services.collect();
        Ok(Deployed { stack: stack.to_owned(), services, tasks_before, warnings: Vec::new() })
    }

    /// The services of a stack.
    pub(crate) async fn services_of(&self, stack: &str) -> Result<Vec<Service>, SwarmError> {
        let filters = HashMap::from([("label", vec![format!("{NAMESPACE_LABEL}={stack}")])]);
        let options = ListServicesOptionsBuilder::default().filters(&filters).status(true).build();
        self.docker.list_services(Some(options)).await.map_err(SwarmError::docker("listing services"))
    }

    async fn make_networks(&self, plan: &Plan) -> Result<(), SwarmError> {
        for name in &plan.external_networks {
            if PREDEFINED.contains(&name.as_str())
                || self.network_scope(name).await?.as_deref() == Some("swarm")
            {
                continue;
            }
            return Err(SwarmError::Missing {
                kind: "network",
                name: name.clone(),
                hint: "it is declared external, so it has to be made (an overlay) before the stack is deployed",
            });
        }
        for request in &plan.networks {
            if self.network_scope(&request.name).await?.is_none() {
                self.create_network(request.clone()).await?;
            }
        }
        Ok(())
    }

    /// The ids of all secrets that the plan names.
    async fn make_secrets(&self, plan: &Plan) -> Result<BTreeMap<String, String>, SwarmError> {
        let present = self.secret_ids().await?;
        require(&plan.external_secrets, &present, "secret")?;
        for spec in &plan.secrets {
            self.make_secret(spec, &present).await?;
        }
        if plan.secrets.is_empty() { Ok(present) } else { self.secret_ids().await }
    }

    async fn make_secret(
        &self,
        spec: &SecretSpec,
        present: &BTreeMap<String, String>,
    ) -> Result<(), SwarmError> {
        let name = spec.name.clone().unwrap_or_default();
        let doing = |what| format!("{what} secret `{name}`");
        let Some(id) = present.get(&name) else {
            let made = self.docker.create_secret(spec.clone()).await;
            return made.map(drop).map_err(SwarmError::docker(doing("creating")));
        };
        let current = self.docker.inspect_secret(id).await.map_err(SwarmError::docker(doing("reading")))?;
        let version = current.version.and_then(|version| version.index).unwrap_or_default();
        let options = UpdateSecretOptionsBuilder::default().version(version as i64).build();
        let updated = self.docker.update_secret(id, spec.clone(), options).await;
        updated.map_err(SwarmError::docker(doing("updating")))
    }

    async fn make_configs(&self, plan: &Plan) -> Result<BTreeMap<String, String>, SwarmError> {
        let present = self.config_ids().await?;
        require(&plan.external_configs, &present, "config")?;
        for spec in &plan.configs {
            self.make_config(spec, &present).await?;
        }
        if plan.configs.is_empty() { Ok(present) } else { self.config_ids().await }
    }

    async fn make_config(
        &self,
        spec: &ConfigSpec,
        present: &BTreeMap<String, String>,
    ) -> Result<(), SwarmError> {
        let name = spec.name.clone().unwrap_or_default();
        let doing = |what| format!("{what} config `{name}`");
        let Some(id) = present.get(&name) else {
            let made = self.docker.create_config(spec.clone()).await;
            return made.map(drop).map_err(SwarmError::docker(doing("creating")));
        };
        let current = self.docker.inspect_config(id).await.map_err(SwarmError::docker(doing("reading")))?;
        let version = current.version.and_then(|version| version.index).unwrap_or_default();
        let options = UpdateConfigOptionsBuilder::default().version(version as i64).build();
        let updated = self.docker.update_config(id, spec.clone(), options).await;
        updated.map_err(SwarmError::docker(doing("updating")))
    }

    async fn config_ids(&self) -> Result<BTreeMap<String, String>, SwarmError> {
        let options = ListConfigsOptionsBuilder::default().build();
        let configs =
            self.docker.list_configs(Some(options)).await.map_err(SwarmError::docker("listing configs"))?;
        Ok(configs.into_iter().filter_map(|config| Some((config.spec?.name?, config.id?))).collect())
    }

    async fn update(&self, current: &Service, spec: ServiceSpec) -> Result<Option<Vec<String>>, SwarmError> {
        let name = spec.name.clone().unwrap_or_default();
        let id = current.id.clone().unwrap_or_default();
        let version = current.version.as_ref().and_then(|version| version.index).unwrap_or_default();
        let options = UpdateServiceOptionsBuilder::default().version(version as i32).build();
        let spec = with_kept(spec, current.spec.as_ref());
        let updated = self.docker.update_service(&id, spec, options, None).await;
        let doing = format!("updating service `{name}`");
        Ok(updated.map_err(SwarmError::docker(doing))?.warnings)
    }
}

fn name_of(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.name.as_deref()
}

/// What an update keeps: how often the service was forced to restart, and the digest that its unchanged image came to.
fn with_kept(mut spec: ServiceSpec, current: Option<&ServiceSpec>) -> ServiceSpec {
    let Some(current) = current else { return spec };
    let label = |spec: &ServiceSpec| spec.labels.as_ref()?.get(IMAGE_LABEL).cloned();
    let same_image = label(&spec).is_some() && label(&spec) == label(current);
    if let (Some(task), Some(current)) = (&mut spec.task_template, &current.task_template) {
        task.force_update = current.force_update;
        if let (true, Some(container), Some(current)) =
            (same_image, &mut task.container_spec, &current.container_spec)
        {
            container.image.clone_from(&current.image);
        }
    }
    spec
}

/// Puts ids to the secrets and configs, which are known by now.
fn with_ids(
    mut spec: ServiceSpec,
    secrets: &BTreeMap<String, String>,
    configs: &BTreeMap<String, String>,
) -> ServiceSpec {
    let container = spec.task_template.as_mut().and_then(|task| task.container_spec.as_mut());
    if let Some(container) = container {
        for secret in container.secrets.iter_mut().flatten() {
            secret.secret_id = secret.secret_name.as_ref().and_then(|name| secrets.get(name)).cloned();
        }
        for config in container.configs.iter_mut().flatten() {
            config.config_id = config.config_name.as_ref().and_then(|name| configs.get(name)).cloned();
        }
    }
    spec
}

fn require(
    external: &[String],
    present: &BTreeMap<String, String>,
    kind: &'static str,
) -> Result<(), SwarmError> {
    match external.iter().find(|name| !present.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(SwarmError::Missing {
            kind,
            name: name.clone(),
            hint: "it is declared external, so it has to be put there before the stack is deployed",
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::{ServiceSpec, TaskSpec, TaskSpecContainerSpec};

    use super::{IMAGE_LABEL, with_kept};

    fn spec(written: &str, image: &str, force_update: Option<u64>) -> ServiceSpec {
        let container =
            TaskSpecContainerSpec { image: Some(image.to_owned()), ..TaskSpecContainerSpec::default() };
        ServiceSpec {
            labels: Some(HashMap::from([(IMAGE_LABEL.to_owned(), written.to_owned())])),
            task_template: Some(TaskSpec {
                container_spec: Some(container),
                force_update,
                ..TaskSpec::default()
            }),
            ..ServiceSpec::default()
        }
    }

    #[test]
    fn an_update_keeps_the_digest_of_an_unchanged_image_and_forgets_that_of_a_changed_one() {
        let current = spec("web:1", "web:1@sha256:aa", Some(3));
        assert_eq!(with_kept(spec("web:1", "web:1", None), Some(&current)), current);
        let next = with_kept(spec("web:2", "web:2", None), Some(&current));
        assert_eq!(next, spec("web:2", "web:2", Some(3)));
    }
}
