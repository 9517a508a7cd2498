//! One service of a stack.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use assay_recipe::compose::model::{
    Compose, Healthcheck, Mode, Mount, MountSource, ObjectUse, Resources, RestartPolicy, Service,
    UpdatePolicy,
};
use bollard::models::{
    EndpointPortConfig, EndpointPortConfigProtocolEnum, EndpointPortConfigPublishModeEnum, EndpointSpec,
    EndpointSpecModeEnum, HealthConfig, Limit, Mount as DockerMount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, NetworkAttachmentConfig, ResourceObject, ResourcesUlimits, ServiceSpec,
    ServiceSpecMode, ServiceSpecModeReplicated, ServiceSpecModeReplicatedJob, ServiceSpecRollbackConfig,
    ServiceSpecRollbackConfigFailureActionEnum, ServiceSpecRollbackConfigOrderEnum, ServiceSpecUpdateConfig,
    ServiceSpecUpdateConfigFailureActionEnum, ServiceSpecUpdateConfigOrderEnum, TaskSpec,
    TaskSpecContainerSpec, TaskSpecContainerSpecConfigs, TaskSpecContainerSpecDnsConfig,
    TaskSpecContainerSpecFile, TaskSpecContainerSpecFile1, TaskSpecContainerSpecSecrets, TaskSpecLogDriver,
    TaskSpecPlacement, TaskSpecPlacementPreferences, TaskSpecPlacementSpread, TaskSpecResources,
    TaskSpecRestartPolicy, TaskSpecRestartPolicyConditionEnum,
};
use indexmap::IndexMap;

use super::{
    IMAGE_LABEL,
    plan::{PlanError, PlanOptions, labels, name_of},
    scoped,
};

/// The permissions of a secret or config that says nothing of them.
const READABLE: u32 = 0o444;

pub(super) fn service_spec(
    compose: &Compose,
    key: &str,
    service: &Service,
    options: &PlanOptions<'_>,
) -> Result<ServiceSpec, PlanError> {
    let stack = options.stack;
    let convert = Convert { compose, key, service, options };
    let image = service.image.clone().ok_or_else(|| PlanError::NoImage { service: key.to_owned() })?;
    let deploy = &service.deploy;
    let mut service_labels = labels(stack, &deploy.labels);
    service_labels.insert(IMAGE_LABEL.to_owned(), image.clone());
    Ok(ServiceSpec {
        name: Some(scoped(stack, key)),
        labels: Some(service_labels),
        task_template: Some(TaskSpec {
            container_spec: Some(convert.container(image)?),
            resources: Some(TaskSpecResources {
                limits: limits(&deploy.limits),
                reservations: reservations(&deploy.reservations),
                ..TaskSpecResources::default()
            }),
            restart_policy: convert.restart_policy()?,
            placement: Some(convert.placement()),
            networks: Some(convert.networks()?),
            log_driver: service.logging.as_ref().map(|logging| TaskSpecLogDriver {
                name: logging.driver.clone(),
                options: some_map(&logging.options),
            }),
            ..TaskSpec::default()
        }),
        mode: Some(convert.mode()?),
        update_config: deploy.update.as_ref().map(|update| convert.update(update)).transpose()?,
        rollback_config: deploy.rollback.as_ref().map(|rollback| convert.rollback(rollback)).transpose()?,
        endpoint_spec: Some(convert.endpoint()?),
        ..ServiceSpec::default()
    })
}

struct Convert<'a> {
    compose: &'a Compose,
    key: &'a str,
    service: &'a Service,
    options: &'a PlanOptions<'a>,
}

impl Convert<'_> {
    fn container(&self, image: String) -> Result<TaskSpecContainerSpec, PlanError> {
        let service = self.service;
        let hosts = service.extra_hosts.iter().map(|(name, address)| format!("{address} {name}"));
        Ok(TaskSpecContainerSpec {
            image: Some(image),
            labels: Some(labels(self.options.stack, &service.labels)),
            command: service.entrypoint.clone(),
            args: service.command.clone(),
            hostname: service.hostname.clone(),
            env: some_list(self.environment()),
            dir: service.working_dir.clone(),
            user: service.user.clone(),
            groups: some_list(service.group_add.clone()),
            tty: service.tty.then_some(true),
            open_stdin: service.stdin_open.then_some(true),
            read_only: service.read_only.then_some(true),
            mounts: some_list(self.mounts()?),
            stop_signal: service.stop_signal.clone(),
            stop_grace_period: nanoseconds(service.stop_grace_period),
            health_check: service.healthcheck.as_ref().map(health_check),
            hosts: some_list(hosts.collect()),
            dns_config: self.dns(),
            secrets: some_list(self.secrets()?),
            configs: some_list(self.configs()?),
            init: service.init,
            sysctls: some_map(&service.sysctls),
            capability_add: some_list(capabilities(&service.cap_add)),
            capability_drop: some_list(capabilities(&service.cap_drop)),
            ulimits: some_list(ulimits(&service.ulimits)),
            ..TaskSpecContainerSpec::default()
        })
    }

    fn environment(&self) -> Vec<String> {
        let pair = |(name, value): (&String, &Option<String>)| match value
            .as_ref()
            .or_else(|| self.options.environment.get(name))
        {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        };
        let mut pairs: Vec<String> = self.service.environment.iter().map(pair).collect();
        pairs.sort();
        pairs
    }

    fn networks(&self) -> Result<Vec<NetworkAttachmentConfig>, PlanError> {
        let compose = self.compose;
        let mut attachments = Vec::new();
        let implied =
            IndexMap::from([("default".to_owned(), assay_recipe::compose::model::Attachment::default())]);
        let networks = if self.service.networks.is_empty() { &implied } else { &self.service.networks };
        for (key, attachment) in networks {
            let network = compose.networks.get(key);
            if network.is_none() && key != "default" {
                return Err(self.undeclared("network", key));
            }
            let own_name = network.and_then(|network| network.name.as_ref());
            let external = network.is_some_and(|network| network.external);
            let mut aliases = attachment.aliases.clone();
            aliases.push(self.key.to_owned());
            attachments.push(NetworkAttachmentConfig {
                target: Some(name_of(self.options.stack, key, own_name, external)),
                aliases: Some(aliases),
                driver_opts: None,
            });
        }
        attachments.sort_by(|one, other| one.target.cmp(&other.target));
        Ok(attachments)
    }

    fn mounts(&self) -> Result<Vec<DockerMount>, PlanError> {
        self.service.mounts.iter().map(|mount| self.mount(mount)).collect()
    }

    fn mount(&self, mount: &Mount) -> Result<DockerMount, PlanError> {
        let stack = self.options.stack;
        let base = DockerMount {
            target: Some(mount.target.clone()),
            read_only: mount.read_only.then_some(true),
            ..DockerMount::default()
        };
        Ok(match &mount.source {
            MountSource::Anonymous => DockerMount { typ: Some(MountType::VOLUME), ..base },
            MountSource::Bind { path, propagation } => {
                let propagation = propagation.as_deref().map(|value| {
                    self.value(
                        "volumes.bind.propagation",
                        value,
                        "write private, shared, slave, and each with an r",
                    )
                });
                DockerMount {
                    typ: Some(MountType::BIND),
                    // An absolute path replaces the root; what is put together again has no `./` in it.
                    source: Some(
                        self.options.root.join(path).components().collect::<PathBuf>().display().to_string(),
                    ),
                    bind_options: propagation.transpose()?.map(
                        |propagation: MountBindOptionsPropagationEnum| MountBindOptions {
                            propagation: Some(propagation),
                            ..MountBindOptions::default()
                        },
                    ),
                    ..base
                }
            }
            MountSource::Tmpfs { size } => DockerMount {
                typ: Some(MountType::TMPFS),
                tmpfs_options: size
                    .map(|size| MountTmpfsOptions { size_bytes: Some(size), ..MountTmpfsOptions::default() }),
                ..base
            },
            MountSource::Volume { name, nocopy } => {
                let volume = self.compose.volumes.get(name).ok_or_else(|| self.undeclared("volume", name))?;
                let driver = (volume.driver.is_some() || !volume.driver_opts.is_empty()).then(|| {
                    MountVolumeOptionsDriverConfig {
                        name: volume.driver.clone(),
                        options: some_map(&volume.driver_opts),
                    }
                });
                let options = MountVolumeOptions {
                    no_copy: nocopy.then_some(true),
                    // What is somebody else's is not labelled as ours.
                    labels: (!volume.external).then(|| labels(stack, &volume.labels)),
                    driver_config: if volume.external { None } else { driver },
                    subpath: None,
                };
                DockerMount {
                    typ: Some(MountType::VOLUME),
                    source: Some(name_of(stack, name, volume.name.as_ref(), volume.external)),
                    volume_options: Some(options),
                    ..base
                }
            }
        })
    }

    /// By name; the ids are put to them when they are known.
    fn secrets(&self) -> Result<Vec<TaskSpecContainerSpecSecrets>, PlanError> {
        let convert = |used: &ObjectUse| {
            let object = self.compose.secrets.get(&used.source);
            let object = object.ok_or_else(|| self.undeclared("secret", &used.source))?;
            let name = name_of(self.options.stack, &used.source, object.name.as_ref(), object.external);
            let (target, uid, gid, mode) = file_of(used);
            Ok(TaskSpecContainerSpecSecrets {
                file: Some(TaskSpecContainerSpecFile { name: target, uid, gid, mode }),
                secret_id: None,
                secret_name: Some(name),
            })
        };
        let mut secrets = self.service.secrets.iter().map(convert).collect::<Result<Vec<_>, _>>()?;
        secrets.sort_by(|one, other| one.secret_name.cmp(&other.secret_name));
        Ok(secrets)
    }

    fn configs(&self) -> Result<Vec<TaskSpecContainerSpecConfigs>, PlanError> {
        let convert = |used: &ObjectUse| {
            let object = self.compose.configs.get(&used.source);
            let object = object.ok_or_else(|| self.undeclared("config", &used.source))?;
            let name = name_of(self.options.stack, &used.source, object.name.as_ref(), object.external);
            let (target, uid, gid, mode) = file_of(used);
            Ok(TaskSpecContainerSpecConfigs {
                file: Some(TaskSpecContainerSpecFile1 { name: target, uid, gid, mode }),
                runtime: None,
                config_id: None,
                config_name: Some(name),
            })
        };
        let mut configs = self.service.configs.iter().map(convert).collect::<Result<Vec<_>, _>>()?;
        configs.sort_by(|one, other| one.config_name.cmp(&other.config_name));
        Ok(configs)
    }

    fn dns(&self) -> Option<TaskSpecContainerSpecDnsConfig> {
        let Service { dns, dns_search, dns_opt, .. } = self.service;
        let any = !(dns.is_empty() && dns_search.is_empty() && dns_opt.is_empty());
        any.then(|| TaskSpecContainerSpecDnsConfig {
            nameservers: some_list(dns.clone()),
            search: some_list(dns_search.clone()),
            options: some_list(dns_opt.clone()),
        })
    }

    fn restart_policy(&self) -> Result<Option<TaskSpecRestartPolicy>, PlanError> {
        if let Some(policy) = &self.service.deploy.restart_policy {
            let RestartPolicy { condition, delay, max_attempts, window } = policy;
            let condition = condition.as_deref().map(|condition| {
                self.value("deploy.restart_policy.condition", condition, "write none, on-failure or any")
            });
            return Ok(Some(TaskSpecRestartPolicy {
                condition: condition.transpose()?,
                delay: nanoseconds(*delay),
                max_attempts: max_attempts.map(signed),
                window: nanoseconds(*window),
            }));
        }
        let Some(restart) = self.service.restart.as_deref() else { return Ok(None) };
        let (name, attempts) = restart.split_once(':').map_or((restart, None), |(name, n)| (name, Some(n)));
        let policy = |condition, max_attempts| {
            Some(TaskSpecRestartPolicy {
                condition: Some(condition),
                max_attempts,
                ..TaskSpecRestartPolicy::default()
            })
        };
        let max_attempts = attempts.map(str::parse::<i64>).transpose();
        match (name, max_attempts) {
            ("no" | "", Ok(None)) => Ok(None),
            ("always" | "unless-stopped", Ok(None)) => {
                Ok(policy(TaskSpecRestartPolicyConditionEnum::ANY, None))
            }
            ("on-failure", Ok(attempts)) => {
                Ok(policy(TaskSpecRestartPolicyConditionEnum::ON_FAILURE, attempts))
            }
            _ => Err(PlanError::Value {
                service: self.key.to_owned(),
                path: "restart",
                value: restart.to_owned(),
                hint: "write no, always, unless-stopped, on-failure or on-failure:N",
            }),
        }
    }

    fn placement(&self) -> TaskSpecPlacement {
        let placement = &self.service.deploy.placement;
        let spread = placement.spread.iter().map(|label| TaskSpecPlacementPreferences {
            spread: Some(TaskSpecPlacementSpread { spread_descriptor: Some(label.clone()) }),
        });
        TaskSpecPlacement {
            constraints: some_list(placement.constraints.clone()),
            preferences: some_list(spread.collect()),
            max_replicas: (placement.max_replicas_per_node > 0)
                .then(|| signed(placement.max_replicas_per_node)),
            platforms: None,
        }
    }

    #[expect(clippy::zero_sized_map_values, reason = "it is the library's way to say `{}`")]
    fn mode(&self) -> Result<ServiceSpecMode, PlanError> {
        let replicas = self.service.deploy.replicas;
        let count = signed(replicas.unwrap_or(1));
        let one_a_node = |value: &str| match replicas {
            None => Ok(HashMap::new()),
            Some(replicas) => Err(PlanError::Value {
                service: self.key.to_owned(),
                path: "deploy.replicas",
                value: replicas.to_string(),
                hint: if value == "global" {
                    "a global service has one task a node; leave `replicas` out"
                } else {
                    "a global job has one task a node; leave `replicas` out"
                },
            }),
        };
        let mut mode = ServiceSpecMode::default();
        match self.service.deploy.mode {
            Mode::Replicated => {
                mode.replicated = Some(ServiceSpecModeReplicated { replicas: Some(count) });
            }
            Mode::Global => mode.global = Some(one_a_node("global")?),
            Mode::ReplicatedJob => {
                mode.replicated_job = Some(ServiceSpecModeReplicatedJob {
                    max_concurrent: Some(count),
                    total_completions: Some(count),
                });
            }
            Mode::GlobalJob => mode.global_job = Some(one_a_node("global-job")?),
        }
        Ok(mode)
    }

    fn update(&self, policy: &UpdatePolicy) -> Result<ServiceSpecUpdateConfig, PlanError> {
        let action = policy.failure_action.as_deref().map(|action| {
            self.value::<ServiceSpecUpdateConfigFailureActionEnum>(
                "deploy.update_config.failure_action",
                action,
                "write pause, continue or rollback",
            )
        });
        let order = policy.order.as_deref().map(|order| {
            self.value::<ServiceSpecUpdateConfigOrderEnum>(
                "deploy.update_config.order",
                order,
                "write stop-first or start-first",
            )
        });
        Ok(ServiceSpecUpdateConfig {
            parallelism: Some(signed(policy.parallelism.unwrap_or(1))),
            delay: nanoseconds(policy.delay),
            failure_action: action.transpose()?,
            monitor: nanoseconds(policy.monitor),
            max_failure_ratio: policy.max_failure_ratio,
            order: order.transpose()?,
        })
    }

    fn rollback(&self, policy: &UpdatePolicy) -> Result<ServiceSpecRollbackConfig, PlanError> {
        let action = policy.failure_action.as_deref().map(|action| {
            self.value::<ServiceSpecRollbackConfigFailureActionEnum>(
                "deploy.rollback_config.failure_action",
                action,
                "write pause or continue",
            )
        });
        let order = policy.order.as_deref().map(|order| {
            self.value::<ServiceSpecRollbackConfigOrderEnum>(
                "deploy.rollback_config.order",
                order,
                "write stop-first or start-first",
            )
        });
        Ok(ServiceSpecRollbackConfig {
            parallelism: Some(signed(policy.parallelism.unwrap_or(1))),
            delay: nanoseconds(policy.delay),
            failure_action: action.transpose()?,
            monitor: nanoseconds(policy.monitor),
            max_failure_ratio: policy.max_failure_ratio,
            order: order.transpose()?,
        })
    }

    fn endpoint(&self) -> Result<EndpointSpec, PlanError> {
        let mode = self.service.deploy.endpoint_mode.as_deref();
        let mode = mode.map(|mode| {
            self.value::<EndpointSpecModeEnum>("deploy.endpoint_mode", mode, "write vip or dnsrr")
        });
        let mut ports = Vec::new();
        for port in &self.service.ports {
            ports.push(EndpointPortConfig {
                name: None,
                protocol: Some(self.value::<EndpointPortConfigProtocolEnum>(
                    "ports.protocol",
                    &port.protocol,
                    "write tcp, udp or sctp",
                )?),
                target_port: Some(i64::from(port.target)),
                published_port: port.published.map(i64::from),
                publish_mode: Some(self.value::<EndpointPortConfigPublishModeEnum>(
                    "ports.mode",
                    &port.mode,
                    "write ingress or host",
                )?),
            });
        }
        ports.sort_by_key(|port| (port.published_port, port.target_port));
        Ok(EndpointSpec { mode: mode.transpose()?, ports: some_list(ports) })
    }

    /// One of a few words.
    fn value<T: std::str::FromStr>(
        &self,
        path: &'static str,
        value: &str,
        hint: &'static str,
    ) -> Result<T, PlanError> {
        // The empty word is one of Docker's, for what is not set.
        let parsed = if value.is_empty() { None } else { value.to_lowercase().parse().ok() };
        parsed.ok_or_else(|| PlanError::Value {
            service: self.key.to_owned(),
            path,
            value: value.to_owned(),
            hint,
        })
    }

    fn undeclared(&self, kind: &'static str, name: &str) -> PlanError {
        PlanError::Undeclared { service: self.key.to_owned(), kind, name: name.to_owned() }
    }
}

type FileOf = (Option<String>, Option<String>, Option<String>, Option<u32>);

fn file_of(used: &ObjectUse) -> FileOf {
    let or =
        |value: &Option<String>, default: &str| Some(value.clone().unwrap_or_else(|| default.to_owned()));
    let target = or(&used.target, &used.source);
    (target, or(&used.uid, "0"), or(&used.gid, "0"), Some(used.mode.unwrap_or(READABLE)))
}

fn health_check(health: &Healthcheck) -> HealthConfig {
    HealthConfig {
        test: some_list(health.test.clone()),
        interval: nanoseconds(health.interval),
        timeout: nanoseconds(health.timeout),
        retries: health.retries,
        start_period: nanoseconds(health.start_period),
        start_interval: None,
    }
}

fn limits(resources: &Resources) -> Option<Limit> {
    let Resources { nano_cpus, memory, pids } = resources.clone();
    (*resources != Resources::default()).then_some(Limit { nano_cpus, memory_bytes: memory, pids })
}

fn reservations(resources: &Resources) -> Option<ResourceObject> {
    let Resources { nano_cpus, memory, .. } = resources.clone();
    (nano_cpus.is_some() || memory.is_some()).then_some(ResourceObject {
        nano_cpus,
        memory_bytes: memory,
        generic_resources: None,
    })
}

/// As the engine spells them, so that the same ones are always the same list.
fn capabilities(names: &[String]) -> Vec<String> {
    let spelled = names.iter().map(|name| {
        let name = name.to_uppercase();
        if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    });
    let mut spelled: Vec<String> = spelled.collect();
    spelled.sort();
    spelled.dedup();
    spelled
}

fn ulimits(limits: &IndexMap<String, (i64, i64)>) -> Vec<ResourcesUlimits> {
    let convert = |(name, (soft, hard)): (&String, &(i64, i64))| ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(*soft),
        hard: Some(*hard),
    };
    let mut limits: Vec<ResourcesUlimits> = limits.iter().map(convert).collect();
    limits.sort_by(|one, other| one.name.cmp(&other.name));
    limits
}

fn nanoseconds(duration: Option<Duration>) -> Option<i64> {
    duration.map(|duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn some_list<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn some_map(map: &IndexMap<String, String>) -> Option<HashMap<String, String>> {
    (!map.is_empty()).then(|| map.clone().into_iter().collect())
}
