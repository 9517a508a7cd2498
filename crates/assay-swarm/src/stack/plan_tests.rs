use std::{collections::BTreeMap, path::Path, time::Duration};

use assay_recipe::compose::model::{
    Attachment, Compose, Deploy, Healthcheck, Mode, Mount, MountSource, Network, Object, ObjectUse, Port,
    RestartPolicy, Service, UpdatePolicy, Volume,
};
use indexmap::IndexMap;

use super::{Endpoints, Plan, PlanError, PlanOptions, plan};

fn planned(compose: &Compose, endpoints: Endpoints) -> Result<Plan, PlanError> {
    let environment = BTreeMap::from([("FROM_OUTSIDE".to_owned(), "yes".to_owned())]);
    let files = BTreeMap::from([("app.conf".to_owned(), b"a=1\n".to_vec())]);
    let root = Path::new("/srv/recipe");
    plan(compose, &PlanOptions { stack: "shop", environment: &environment, root, files: &files, endpoints })
}

fn map<V>(pairs: impl IntoIterator<Item = (&'static str, V)>) -> IndexMap<String, V> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn used(source: &str) -> ObjectUse {
    ObjectUse { source: source.to_owned(), target: None, uid: None, gid: None, mode: None }
}

fn small() -> Service {
    Service { image: Some("web:1".to_owned()), ..Service::default() }
}

/// One service with something of everything.
fn full() -> Compose {
    let volume = |name: &str| MountSource::Volume { name: name.to_owned(), nocopy: false };
    let mount = |source, target: &str| Mount { source, target: target.to_owned(), read_only: false };
    let app = Service {
        entrypoint: Some(words(&["/entry.sh"])),
        command: Some(words(&["serve"])),
        environment: map([
            ("Z", Some("last".to_owned())),
            ("FROM_OUTSIDE", None),
            ("UNKNOWN", None),
            ("A", Some("first".to_owned())),
        ]),
        labels: map([("backupbot.backup", "true".to_owned())]),
        deploy: Deploy {
            replicas: Some(2),
            labels: map([("traefik.enable", "true".to_owned())]),
            update: Some(UpdatePolicy {
                failure_action: Some("rollback".to_owned()),
                order: Some("start-first".to_owned()),
                ..UpdatePolicy::default()
            }),
            restart_policy: Some(RestartPolicy {
                condition: Some("on-failure".to_owned()),
                delay: Some(Duration::from_secs(2)),
                ..RestartPolicy::default()
            }),
            ..Deploy::default()
        },
        healthcheck: Some(Healthcheck {
            test: words(&["CMD", "true"]),
            interval: Some(Duration::from_millis(1500)),
            ..Healthcheck::default()
        }),
        networks: map([
            ("proxy", Attachment::default()),
            ("internal", Attachment { aliases: words(&["web"]) }),
        ]),
        ports: vec![Port {
            target: 80,
            published: Some(8080),
            protocol: "tcp".to_owned(),
            mode: "ingress".to_owned(),
        }],
        mounts: vec![
            mount(volume("data"), "/data"),
            mount(volume("theirs"), "/theirs"),
            mount(MountSource::Anonymous, "/cache"),
            mount(MountSource::Bind { path: "./conf".to_owned(), propagation: None }, "/conf"),
            mount(MountSource::Tmpfs { size: Some(1 << 20) }, "/run"),
        ],
        secrets: vec![used("password")],
        configs: vec![ObjectUse {
            target: Some("/etc/app.conf".to_owned()),
            mode: Some(0o555),
            ..used("conf")
        }],
        extra_hosts: vec![("old.example".to_owned(), "10.0.0.9".to_owned())],
        cap_drop: words(&["net_raw", "ALL"]),
        ..small()
    };
    let external = |name: &str| Object { name: Some(name.to_owned()), external: true, ..Object::default() };
    Compose {
        services: map([("app", app), ("plain", small())]),
        networks: map([
            ("proxy", Network { external: true, ..Network::default() }),
            ("internal", Network { internal: true, ..Network::default() }),
            ("unused", Network::default()),
        ]),
        volumes: map([
            ("data", Volume::default()),
            ("theirs", Volume { name: Some("elsewhere".to_owned()), external: true, ..Volume::default() }),
        ]),
        secrets: map([("password", external("shop_password_v1"))]),
        configs: map([(
            "conf",
            Object {
                name: Some("shop_conf_v2".to_owned()),
                file: Some("app.conf".to_owned()),
                template_driver: Some("golang".to_owned()),
                ..Object::default()
            },
        )]),
        ..Compose::default()
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is one picture of one stack")]
fn a_stack_is_told_to_docker_as_its_own_client_would() {
    let plan = planned(&full(), Endpoints::AsWritten).unwrap();
    assert!(plan.changes().is_empty());
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan.json()).unwrap(), @r#"
    {
      "configs": [
        {
          "Data": "sha256:fe3209d6d4f51935b391288a43df48d9ddece1a992597ae53387ca16611a9179",
          "Labels": {
            "com.docker.stack.namespace": "shop"
          },
          "Name": "shop_conf_v2",
          "Templating": {
            "Name": "golang"
          }
        }
      ],
      "external_configs": [],
      "external_networks": [
        "proxy"
      ],
      "external_secrets": [
        "shop_password_v1"
      ],
      "networks": [
        {
          "Driver": "overlay",
          "Labels": {
            "com.docker.stack.namespace": "shop"
          },
          "Name": "shop_default"
        },
        {
          "Driver": "overlay",
          "Internal": true,
          "Labels": {
            "com.docker.stack.namespace": "shop"
          },
          "Name": "shop_internal"
        }
      ],
      "secrets": [],
      "services": [
        {
          "EndpointSpec": {
            "Ports": [
              {
                "Protocol": "tcp",
                "PublishMode": "ingress",
                "PublishedPort": 8080,
                "TargetPort": 80
              }
            ]
          },
          "Labels": {
            "com.docker.stack.image": "web:1",
            "com.docker.stack.namespace": "shop",
            "traefik.enable": "true"
          },
          "Mode": {
            "Replicated": {
              "Replicas": 2
            }
          },
          "Name": "shop_app",
          "TaskTemplate": {
            "ContainerSpec": {
              "Args": [
                "serve"
              ],
              "CapabilityDrop": [
                "ALL",
                "CAP_NET_RAW"
              ],
              "Command": [
                "/entry.sh"
              ],
              "Configs": [
                {
                  "ConfigName": "shop_conf_v2",
                  "File": {
                    "GID": "0",
                    "Mode": 365,
                    "Name": "/etc/app.conf",
                    "UID": "0"
                  }
                }
              ],
              "Env": [
                "A=first",
                "FROM_OUTSIDE=yes",
                "UNKNOWN",
                "Z=last"
              ],
              "HealthCheck": {
                "Interval": 1500000000,
                "Test": [
                  "CMD",
                  "true"
                ]
              },
              "Hosts": [
                "10.0.0.9 old.example"
              ],
              "Image": "web:1",
              "Labels": {
                "backupbot.backup": "true",
                "com.docker.stack.namespace": "shop"
              },
              "Mounts": [
                {
                  "Source": "shop_data",
                  "Target": "/data",
                  "Type": "volume",
                  "VolumeOptions": {
                    "Labels": {
                      "com.docker.stack.namespace": "shop"
                    }
                  }
                },
                {
                  "Source": "elsewhere",
                  "Target": "/theirs",
                  "Type": "volume",
                  "VolumeOptions": {}
                },
                {
                  "Target": "/cache",
                  "Type": "volume"
                },
                {
                  "Source": "/srv/recipe/conf",
                  "Target": "/conf",
                  "Type": "bind"
                },
                {
                  "Target": "/run",
                  "TmpfsOptions": {
                    "SizeBytes": 1048576
                  },
                  "Type": "tmpfs"
                }
              ],
              "Secrets": [
                {
                  "File": {
                    "GID": "0",
                    "Mode": 292,
                    "Name": "password",
                    "UID": "0"
                  },
                  "SecretName": "shop_password_v1"
                }
              ]
            },
            "Networks": [
              {
                "Aliases": [
                  "app"
                ],
                "Target": "proxy"
              },
              {
                "Aliases": [
                  "web",
                  "app"
                ],
                "Target": "shop_internal"
              }
            ],
            "Placement": {},
            "Resources": {},
            "RestartPolicy": {
              "Condition": "on-failure",
              "Delay": 2000000000
            }
          },
          "UpdateConfig": {
            "FailureAction": "rollback",
            "Order": "start-first",
            "Parallelism": 1
          }
        },
        {
          "EndpointSpec": {},
          "Labels": {
            "com.docker.stack.image": "web:1",
            "com.docker.stack.namespace": "shop"
          },
          "Mode": {
            "Replicated": {
              "Replicas": 1
            }
          },
          "Name": "shop_plain",
          "TaskTemplate": {
            "ContainerSpec": {
              "Image": "web:1",
              "Labels": {
                "com.docker.stack.namespace": "shop"
              }
            },
            "Networks": [
              {
                "Aliases": [
                  "plain"
                ],
                "Target": "shop_default"
              }
            ],
            "Placement": {},
            "Resources": {}
          }
        }
      ],
      "stack": "shop"
    }
    "#);
}

#[test]
fn the_same_compose_is_the_same_plan_in_whatever_order_it_is_written() {
    let mut turned = full();
    let app = turned.services.get_mut("app").unwrap();
    app.environment.reverse();
    app.networks.reverse();
    app.cap_drop.reverse();
    turned.networks.reverse();
    let [one, other] = [full(), turned].map(|compose| planned(&compose, Endpoints::AsWritten).unwrap());
    assert_eq!(one, other);
}

#[test]
fn without_ipvs_what_is_changed_is_said() {
    let plan = planned(&full(), Endpoints::WithoutIpvs).unwrap();
    let changes: Vec<String> = plan.changes().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(changes.join("\n"), @r"
    app: deploy.endpoint_mode is dnsrr instead of vip: the kernel has no IPVS, so a service's own address leads nowhere
    app: ports.mode is host instead of ingress (port 80): the kernel has no IPVS, so ingress leads nowhere
    app: ports.published is any free port instead of 8080: several tasks on one node cannot share a port
    app: deploy.update_config.order is stop-first instead of start-first: the new task could not have the port while the old one holds it
    plain: deploy.endpoint_mode is dnsrr instead of vip: the kernel has no IPVS, so a service's own address leads nowhere
    ");
    insta::assert_snapshot!(plan.json()["services"][0]["EndpointSpec"].to_string(), @r#"
    {"Mode":"dnsrr","Ports":[{"Protocol":"tcp","PublishMode":"host","TargetPort":80}]}
    "#);
}

#[test]
fn modes_are_what_swarm_calls_them() {
    let mode = |mode, replicas| {
        let deploy = Deploy { mode, replicas, ..Deploy::default() };
        let compose =
            Compose { services: map([("app", Service { deploy, ..small() })]), ..Compose::default() };
        planned(&compose, Endpoints::AsWritten).map(|plan| plan.json()["services"][0]["Mode"].to_string())
    };
    assert_eq!(mode(Mode::Replicated, None).unwrap(), r#"{"Replicated":{"Replicas":1}}"#);
    assert_eq!(mode(Mode::Replicated, Some(0)).unwrap(), r#"{"Replicated":{"Replicas":0}}"#);
    assert_eq!(mode(Mode::Global, None).unwrap(), r#"{"Global":{}}"#);
    assert_eq!(
        mode(Mode::ReplicatedJob, Some(3)).unwrap(),
        r#"{"ReplicatedJob":{"MaxConcurrent":3,"TotalCompletions":3}}"#
    );
    assert_eq!(mode(Mode::GlobalJob, None).unwrap(), r#"{"GlobalJob":{}}"#);
    assert_eq!(
        mode(Mode::Global, Some(2)).unwrap_err().to_string(),
        "service `app`: `deploy.replicas: 2` means nothing to Swarm: a global service has one task a node; leave \
         `replicas` out"
    );
}

#[test]
fn the_old_restart_key_is_read_where_there_is_no_policy() {
    let policy = |restart: &str| {
        let service = Service { restart: Some(restart.to_owned()), ..small() };
        let compose = Compose { services: map([("app", service)]), ..Compose::default() };
        planned(&compose, Endpoints::AsWritten)
            .map(|plan| plan.json()["services"][0]["TaskTemplate"]["RestartPolicy"].to_string())
    };
    assert_eq!(policy("no").unwrap(), "null");
    assert_eq!(policy("unless-stopped").unwrap(), r#"{"Condition":"any"}"#);
    assert_eq!(policy("on-failure:5").unwrap(), r#"{"Condition":"on-failure","MaxAttempts":5}"#);
    let error = policy("sometimes").unwrap_err().to_string();
    assert!(error.ends_with("write no, always, unless-stopped, on-failure or on-failure:N"), "{error}");
}

#[test]
fn what_cannot_be_a_stack_is_said_with_what_to_do() {
    let of = |change: fn(&mut Compose)| {
        let mut compose = full();
        change(&mut compose);
        planned(&compose, Endpoints::AsWritten).unwrap_err().to_string()
    };
    let errors = [
        of(|compose| compose.services["app"].image = None),
        of(|compose| drop(compose.networks.shift_remove("internal"))),
        of(|compose| drop(compose.volumes.shift_remove("data"))),
        of(|compose| drop(compose.secrets.shift_remove("password"))),
        of(|compose| compose.configs["conf"].file = Some("gone.conf".to_owned())),
        of(|compose| compose.services["app"].deploy.endpoint_mode = Some("lvs".to_owned())),
        of(|compose| compose.services["app"].ports[0].mode = String::new()),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r"
    service `app` has no image: Swarm builds none, so give it `image:`
    service `app` uses network `internal`, which is not declared: add it to the top-level `networks:`
    service `app` uses volume `data`, which is not declared: add it to the top-level `volumes:`
    service `app` uses secret `password`, which is not declared: add it to the top-level `secrets:`
    config `conf` has no content: give it a `file:` that is in the recipe, or make it `external: true` (`gone.conf` was not given)
    service `app`: `deploy.endpoint_mode: lvs` means nothing to Swarm: write vip or dnsrr
    service `app`: `ports.mode: ` means nothing to Swarm: write ingress or host
    ");
}
