use std::fmt::Write as _;

use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn variables(pairs: &[(&str, &str)]) -> IndexMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn files(texts: &[(&str, &str)]) -> Vec<(String, String)> {
    texts.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
}

fn read(texts: &[(&str, &str)], pairs: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let variables = variables(pairs);
    let env_file = |name: &str| match name {
        "app.env" => Ok("FROM_FILE=1\nOVER=file\nDOMAIN=\n".to_owned()),
        _ => Err("there is no such file".to_owned()),
    };
    load(&Sources { files: files(texts), variables: &variables, env_file: &env_file })
}

/// As JSON, without what is empty; what has only short texts in it stands on one line.
fn brief(value: &impl serde::Serialize) -> String {
    fn without_nothing(value: Value) -> Option<Value> {
        match value {
            Value::Null | Value::Bool(false) => None,
            Value::Array(items) => {
                let items: Vec<Value> =
                    items.into_iter().map(|item| without_nothing(item).unwrap_or(Value::Null)).collect();
                (!items.is_empty()).then_some(Value::Array(items))
            }
            Value::Object(map) => {
                let map: serde_json::Map<_, _> =
                    map.into_iter().filter_map(|(key, value)| Some((key, without_nothing(value)?))).collect();
                (!map.is_empty()).then_some(Value::Object(map))
            }
            other => Some(other),
        }
    }
    fn lines(value: &Value, indent: usize, out: &mut String) {
        let Value::Object(map) = value else { return };
        for (key, value) in map {
            let line = value.to_string();
            out.push_str(&" ".repeat(indent));
            if value.is_object() && line.len() > 70 {
                writeln!(out, "{key}:").unwrap();
                lines(value, indent + 2, out);
            } else {
                writeln!(out, "{key}: {line}").unwrap();
            }
        }
    }
    let mut out = String::new();
    lines(&without_nothing(serde_json::to_value(value).unwrap()).unwrap_or(Value::Null), 0, &mut out);
    out
}

fn notes(loaded: &Loaded) -> String {
    let notes: Vec<String> = (loaded.compose.notes.iter())
        .map(|note| format!("{} {}: {:?}: {}\n", note.file, note.path, note.kind, note.message))
        .collect();
    notes.concat()
}

const EVERY_FORM: &str = r#"
version: "3.9"
x-check: &check
  test: curl -f http://localhost:8080/health || exit 1
  interval: 30s
  timeout: 10s
  retries: 5
  start_period: 1m30s
services:
  app:
    image: example/app:1.2.3
    entrypoint: [/entrypoint.sh]
    command: sh -c "serve --port 8080"
    env_file: app.env
    environment:
      - DOMAIN
      - OVER=here
      - NOWHERE
    labels: {a: b}
    healthcheck: *check
    networks: {proxy: , internal: {aliases: [web]}}
    ports:
      - 8080:80
      - {target: 64738, published: 64738, protocol: udp, mode: host}
    volumes:
      - data:/data:ro
      - {type: tmpfs, target: /tmp, tmpfs: {size: 67108864}}
    secrets:
      - db_password
      - {source: key, target: /etc/key, uid: "33", gid: '33', mode: 0400}
    configs:
      - {source: entrypoint, target: /entrypoint.sh, mode: 0555}
    extra_hosts: ["db.local:10.0.0.1"]
    stop_grace_period: 1m
    ulimits: {nofile: 65535, nproc: {soft: 10, hard: 20}}
    sysctls: {net.core.somaxconn: 1024}
    logging: {driver: json-file, options: {max-size: 10m}}
    init: true
    deploy:
      mode: replicated
      replicas: 2
      labels:
        - "traefik.enable=true"
        - "coop-cloud.${STACK_NAME}.version=1.0.0+1.2.3"
      update_config: {failure_action: rollback, order: start-first, delay: 5s, max_failure_ratio: 0.3}
      rollback_config: {order: start-first}
      restart_policy: {condition: on-failure, max_attempts: 3, delay: 60s}
      placement: {constraints: [node.role == manager], preferences: [{spread: node.labels.zone}]}
      resources: {limits: {cpus: "0.50", memory: 512M, pids: 100}}
      endpoint_mode: DNSRR
  job:
    image: example/app:1.2.3
    healthcheck: {disable: true}
    deploy: {mode: replicated-job, restart_policy: {condition: none}}
networks:
  proxy: {external: true}
  internal: {ipam: {config: [{subnet: 10.1.0.0/24}]}}
volumes: {data: }
secrets:
  db_password: {external: true, name: "${STACK_NAME}_db_password_${SECRET_DB_PASSWORD_VERSION}"}
  key: {external: true, name: "${STACK_NAME}_key_v1"}
configs:
  entrypoint: {name: "${STACK_NAME}_entrypoint_v1", file: entrypoint.sh.tmpl, template_driver: golang}
"#;

#[test]
fn every_form_becomes_a_type() {
    let pairs = [("STACK_NAME", "a_b"), ("DOMAIN", "a.b"), ("SECRET_DB_PASSWORD_VERSION", "v3")];
    let loaded = read(&[("compose.yml", EVERY_FORM)], &pairs).unwrap();
    assert_snapshot!(notes(&loaded), @"compose.yml services.app.deploy.resources.limits.pids: Unsupported: `docker stack deploy` knows it from version 3.9 of the format on, and refuses it before");
    assert_eq!(check(&loaded), []);
    assert_snapshot!(brief(&loaded.compose.services["app"]), @r#"
    image: "example/app:1.2.3"
    entrypoint: ["/entrypoint.sh"]
    command: ["sh","-c","serve --port 8080"]
    environment: {"FROM_FILE":"1","OVER":"here","DOMAIN":"a.b"}
    labels: {"a":"b"}
    deploy:
      mode: "replicated"
      replicas: 2
      labels: {"traefik.enable":"true","coop-cloud.a_b.version":"1.0.0+1.2.3"}
      update:
        delay: {"secs":5,"nanos":0}
        failure_action: "rollback"
        max_failure_ratio: 0.3
        order: "start-first"
      rollback: {"order":"start-first"}
      restart_policy:
        condition: "on-failure"
        delay: {"secs":60,"nanos":0}
        max_attempts: 3
      placement:
        constraints: ["node.role == manager"]
        spread: ["node.labels.zone"]
        max_replicas_per_node: 0
      limits: {"nano_cpus":500000000,"memory":536870912,"pids":100}
      endpoint_mode: "dnsrr"
    healthcheck:
      test: ["CMD-SHELL","curl -f http://localhost:8080/health || exit 1"]
      interval: {"secs":30,"nanos":0}
      timeout: {"secs":10,"nanos":0}
      start_period: {"secs":90,"nanos":0}
      retries: 5
    networks: {"internal":{"aliases":["web"]}}
    ports: [{"target":80,"published":8080,"protocol":"tcp","mode":"ingress"},{"target":64738,"published":64738,"protocol":"udp","mode":"host"}]
    mounts: [{"source":{"volume":{"name":"data"}},"target":"/data","read_only":true},{"source":{"tmpfs":{"size":67108864}},"target":"/tmp"}]
    secrets: [{"source":"db_password"},{"source":"key","target":"/etc/key","uid":"33","gid":"33","mode":256}]
    configs: [{"source":"entrypoint","target":"/entrypoint.sh","mode":365}]
    extra_hosts: [["db.local","10.0.0.1"]]
    stop_grace_period: {"secs":60,"nanos":0}
    init: true
    sysctls: {"net.core.somaxconn":"1024"}
    ulimits: {"nofile":[65535,65535],"nproc":[10,20]}
    logging: {"driver":"json-file","options":{"max-size":"10m"}}
    "#);
    let mut rest = loaded.compose.clone();
    rest.services.shift_remove("app");
    assert_snapshot!(brief(&rest), @r#"
    version: "3.9"
    services:
      job:
        image: "example/app:1.2.3"
        deploy:
          mode: "replicated-job"
          restart_policy: {"condition":"none"}
          placement: {"max_replicas_per_node":0}
        healthcheck: {"test":["NONE"]}
    networks:
      proxy: {"name":"proxy","external":true}
      internal: {"subnets":["10.1.0.0/24"]}
    secrets:
      db_password: {"name":"a_b_db_password_v3","external":true}
      key: {"name":"a_b_key_v1","external":true}
    configs:
      entrypoint:
        name: "a_b_entrypoint_v1"
        file: "entrypoint.sh.tmpl"
        template_driver: "golang"
    notes: [{"path":"services.app.deploy.resources.limits.pids","file":"compose.yml","kind":"unsupported","message":"`docker stack deploy` knows it from version 3.9 of the format on, and refuses it before"}]
    "#);
    assert_eq!(
        loaded.written_names["secrets.db_password"],
        "${STACK_NAME}_db_password_${SECRET_DB_PASSWORD_VERSION}"
    );
}

#[test]
fn a_later_file_goes_over_an_earlier_one() {
    let base = r#"
version: "3.8"
services:
  app:
    image: example/app:1
    command: [serve]
    environment: {A: one, B: two, KEPT: "yes"}
    ports: ["80:80", "443:443"]
    volumes: ["data:/data", "cache:/cache"]
    secrets: [a, {source: b, mode: 0400}]
    networks: [internal]
    read_only: true
    cap_add: [NET_ADMIN]
    healthcheck: {test: [CMD, "true"], interval: 10s}
    logging: {driver: json-file, options: {max-size: 1m}}
    deploy: {mode: global, labels: [a=1, b=2], placement: {constraints: [one]}, limits_are_here: no}
volumes: {data: {driver: local}, cache: }
secrets: {a: {file: a}, b: {file: b}}
networks: {internal: {internal: true}}
"#;
    let over = r#"
version: "3.8"
services:
  app:
    image: example/app:2
    command: [serve, --more]
    environment: [B=three, C=four, "A="]
    ports: ["80:80", "8080:80"]
    volumes: ["other:/data"]
    secrets: [b, c]
    networks: {proxy: {aliases: [web]}}
    read_only: false
    cap_add: [SYS_TIME]
    healthcheck: {timeout: 5s}
    logging: {driver: syslog}
    deploy: {labels: {b: "3", c: "4"}, placement: {constraints: [two]}}
  db: {image: "example/db:1"}
volumes: {other: , data: {name: elsewhere}}
secrets: {c: {file: c}}
networks: {proxy: {external: true}}
"#;
    let loaded = read(&[("compose.yml", base), ("compose.more.yml", over)], &[]).unwrap();
    assert_eq!(check(&loaded), []);
    assert_snapshot!(brief(&loaded.compose), @r#"
    version: "3.8"
    services:
      app:
        image: "example/app:2"
        command: ["serve","--more"]
        environment: {"A":"one","B":"three","KEPT":"yes","C":"four"}
        deploy:
          mode: "global"
          labels: {"a":"1","b":"3","c":"4"}
          placement: {"constraints":["one","two"],"max_replicas_per_node":0}
        healthcheck:
          test: ["CMD","true"]
          interval: {"secs":10,"nanos":0}
          timeout: {"secs":5,"nanos":0}
        networks: {"proxy":{"aliases":["web"]}}
        ports: [{"target":80,"published":80,"protocol":"tcp","mode":"ingress"},{"target":443,"published":443,"protocol":"tcp","mode":"ingress"},{"target":80,"published":8080,"protocol":"tcp","mode":"ingress"}]
        mounts: [{"source":{"volume":{"name":"other"}},"target":"/data"},{"source":{"volume":{"name":"cache"}},"target":"/cache"}]
        secrets: [{"source":"a"},{"source":"b"},{"source":"c"}]
        read_only: true
        cap_add: ["NET_ADMIN","SYS_TIME"]
        logging: {"driver":"syslog"}
      db:
        image: "example/db:1"
        deploy: {"mode":"replicated","placement":{"max_replicas_per_node":0}}
    networks:
      internal: {"internal":true}
      proxy: {"name":"proxy","external":true}
    volumes: {"data":{"name":"elsewhere"}}
    secrets: {"a":{"file":"a"},"b":{"file":"b"},"c":{"file":"c"}}
    notes: [{"path":"services.app.deploy.limits_are_here","file":"compose.yml","kind":"unsupported","message":"this reader does not know `limits_are_here` and does not heed it; remove it, or name it `x-limits_are_here` if it is your own"}]
    "#);
    assert_eq!(loaded.place("services.app.secrets.b"), ("compose.more.yml", 10));
}

#[test]
fn what_is_not_heeded_is_noted() {
    let text = r#"
version: "3.8"
name: blog
x-mine: {anything: goes}
services:
  app:
    image: example/app:1
    container_name: app
    depends_on: [db]
    privileged: true
    network_mode: host
    devices: [/dev/dri, /dev/kvm]
    restart: unless-stopped
    oom_score_adj: 5
    ports: ["127.0.0.1:8080:80"]
    environment: {FLAG: true, MODE: 0755, RATE: 1.50, PORT: 80, QUOTED: "true", UNSET: $NOWHERE}
    configs: [{source: c, mode: 444}]
    group_add: ["44"]
    deploy:
      labels:
        coop-cloud.${STACK_NAME}.timeout: 300
      resources: {reservations: {devices: [{capabilities: [gpu]}]}}
configs: {c: {file: c, driver: x}}
volumes: {v: {external: {name: old}}}
"#;
    let loaded = read(&[("compose.yml", text)], &[("STACK_NAME", "a_b")]).unwrap();
    assert_eq!(loaded.unset[0].name, "NOWHERE");
    assert_eq!(loaded.unset[0].path, "services.app.environment.UNSET");
    assert_snapshot!(notes(&loaded), @r#"
    compose.yml services.app.deploy.labels.coop-cloud.${STACK_NAME}.timeout: Unsupported: variables are not filled in in keys; write the entry as an item of a list, `- "key=value"`
    compose.yml services.app.environment.FLAG: Unsupported: without quotes `true` is a boolean, which `docker stack deploy` refuses here; quote it
    compose.yml services.app.environment.MODE: Unsupported: without quotes `0755` is a number, of which `docker stack deploy` makes `493`; here it stays as written: quote it
    compose.yml services.app.environment.RATE: Unsupported: without quotes `1.50` is a number, of which `docker stack deploy` makes `1.5`; here it stays as written: quote it
    compose.yml services.app.ports[0]: IgnoredBySwarm: Swarm publishes on every address and ignores `127.0.0.1`; remove it
    compose.yml services.app.configs[0].mode: Unsupported: `444` without a zero is decimal, which is 0o674; write `0444` for octal
    compose.yml services.app.deploy.resources.reservations.devices: Unsupported: it is not heeded here: the service may start on a node without it
    compose.yml services.app.group_add: Unsupported: `docker stack deploy` has no `group_add` and refuses the file; it is heeded here
    compose.yml services.app.privileged: IgnoredBySwarm: Swarm ignores `privileged`; without it the service may not work, so ask for another way
    compose.yml services.app.network_mode: IgnoredBySwarm: Swarm ignores `network_mode`; without it the service may not work, so ask for another way
    compose.yml services.app.devices: IgnoredBySwarm: Swarm ignores `devices`; without it the service may not work, so ask for another way
    compose.yml services.app.depends_on: IgnoredBySwarm: Swarm starts services in no order; let the service wait for what it needs
    compose.yml services.app.container_name: Deprecated: Swarm names containers itself; remove it
    compose.yml services.app.oom_score_adj: Unsupported: this reader does not know `oom_score_adj` and does not heed it; remove it, or name it `x-oom_score_adj` if it is your own
    compose.yml volumes.v.external: Deprecated: write `external: true` and `name` beside it
    compose.yml configs.c.driver: Unsupported: its content cannot be taken from there; give it a `file`, or make it `external`
    compose.yml name: Unsupported: a stack is named when it is deployed, and `docker stack deploy` refuses `name`; remove it
    "#);
    assert_snapshot!(brief(&loaded.compose.services["app"].host_reach), @r#"
    privileged: "true"
    network_mode: "host"
    devices: "/dev/dri, /dev/kvm"
    "#);
    assert_eq!(loaded.compose.volumes["v"].name.as_deref(), Some("old"));
    assert_eq!(loaded.compose.notes_of(NoteKind::Deprecated).count(), 2);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = r#"
version: "3.8"
services:
  app:
    image: [not, a, text]
    mem_limit: 1G
    environment: just text
    command: it's
    env_file: [missing.env]
    healthcheck: {test: [curl, localhost], interval: 30, disable: maybe}
    ports: ["http:80", {published: 80}]
    volumes: ["data", {type: bind, target: /x}, {source: x}]
    secrets: [{target: x}]
    configs: [{source: c, mode: rw-r--r--}]
    ulimits: {nofile: many}
    deploy:
      mode: swarm
      replicas: -1
      resources: {limits: {memory: lots, cpus: all}}
      restart_policy: {condition: always}
  web: {environment: {A: "${NEEDED:?the address}", B: "$ 5"}}
  text: only
secrets: {nothing: {}, both: {external: true, file: x}}
volumes: {v: {external: true, driver: local}}
"#;
    let error = read(&[("compose.yml", text), ("compose.broken.yml", "a: [")], &[]).unwrap_err();
    assert_snapshot!(error, @r#"
    compose.yml:5: services.app.image: a list is not a text
    compose.yml:6: services.app.mem_limit: `docker stack deploy` refuses `mem_limit`: set `deploy.resources.limits.memory`
    compose.yml:7: services.app.environment: `just text` is not a map: write `key: value`, one a line
    compose.yml:8: services.app.command: `it's` is not a command: a quote is not closed, or a `\` ends it
    compose.yml:9: services.app.env_file: `missing.env` cannot be read: there is no such file
    compose.yml:10: services.app.healthcheck.test: a test begins with CMD, CMD-SHELL or NONE: write `["CMD", "curl", "-f", "…"]`
    compose.yml:10: services.app.healthcheck.interval: `30` is not a duration; write `1m30s`, `10s` or `500ms`
    compose.yml:10: services.app.healthcheck.disable: `maybe` is not true or false
    compose.yml:11: services.app.ports[0]: `http:80` is not a port; write `8080:80`, `8080-8085:80-85/udp`, or the long form with `target` and `published`
    compose.yml:11: services.app.ports[1]: it has no `target`: name the port inside of the container
    compose.yml:12: services.app.volumes[0]: `data` is not a mount; write `volume:/path`, `volume:/path:ro`, or the long form with `type`, `source`, `target`
    compose.yml:12: services.app.volumes[1]: a bind has a `source`: name the path on the node
    compose.yml:12: services.app.volumes[2]: it has no `type`: write `volume`, `bind` or `tmpfs`
    compose.yml:12: services.app.volumes[2]: it has no `target`: name the path inside of the container
    compose.yml:13: services.app.secrets[0]: it has no `source`: name the one that is meant
    compose.yml:14: services.app.configs[0].mode: `rw-r--r--` is not a mode in octal; write `0444`
    compose.yml:15: services.app.ulimits.nofile: `many` is not a whole number
    compose.yml:17: services.app.deploy.mode: `swarm` is not one of replicated, global, replicated-job, global-job
    compose.yml:18: services.app.deploy.replicas: `-1` is not a whole number, 0 or more
    compose.yml:19: services.app.deploy.resources.limits.cpus: `all` is not a number of processors; write `"0.5"`
    compose.yml:19: services.app.deploy.resources.limits.memory: `lots` is not a size; write `512M`, `1G` or a number of bytes
    compose.yml:20: services.app.deploy.restart_policy.condition: `always` is not one of none, on-failure, any
    compose.yml:21: services.web.environment.A: variable `NEEDED` must be set: the address
    compose.yml:21: services.web.environment.B: character 1: a `$` without the name of a variable; write `$$` for the character itself
    compose.yml:22: services.text: `only` is not a map: write `key: value`, one a line
    compose.yml:23: secrets.nothing: nothing says where its content comes from; give it a `file`, or write `external: true`
    compose.yml:23: secrets.both: it is external and has a `file`; remove one of the two
    compose.yml:24: volumes.v: it is external, so its driver, options and labels are somebody else's; remove them
    compose.broken.yml:1: this is no YAML that can be read: unclosed bracket '['
    "#);
}

#[test]
fn files_of_two_versions_are_refused() {
    let error = read(
        &[("compose.yml", "version: '3.8'\nservices: {}\n"), ("b.yml", "version: '3.9'\nservices: {}\n")],
        &[],
    )
    .unwrap_err();
    assert_snapshot!(error, @"b.yml:1: version: the files before it have version `3.8`, this one `3.9`, and `docker stack deploy` refuses to mix them; write the same in all");
    assert_snapshot!(read(&[], &[]).unwrap_err(), @"COMPOSE_FILE: no compose file was named; set COMPOSE_FILE to one, such as `compose.yml`");
    assert_snapshot!(read(&[("compose.yml", "")], &[]).unwrap_err(), @"compose.yml:1: a compose file is a map with `services`, and this is nothing");
}

#[test]
fn variables_cannot_make_a_file_too_long() {
    let long = "x".repeat(60_000);
    let items = vec!["$LONG$LONG"; 500].join(", ");
    let text = format!("services: {{app: {{cap_add: [{items}], dns: [\"{}\"]}}}}\n", "$LONG".repeat(20));
    let Problems(problems) = read(&[("compose.yml", &text)], &[("LONG", &long)]).unwrap_err();
    assert_eq!(problems.len(), 201);
    let told: Vec<String> = [0, 200].iter().map(|index: &usize| problems[*index].to_string()).collect();
    assert_snapshot!(told.join("\n"), @r"
    compose.yml: only the first 200 problems of this file are told; mend them first
    compose.yml:1: services.app.cap_add[339]: variables make the file too long to be read; shorten their values
    ");
    let text = format!("services: {{app: {{dns: [\"{}\"]}}}}\n", "$LONG".repeat(20));
    assert_snapshot!(read(&[("compose.yml", &text)], &[("LONG", &long)]).unwrap_err(), @"compose.yml:1: services.app.dns[0]: its variables make it longer than 262144 bytes; no text of a recipe needs that");
}

#[test]
fn what_is_used_must_be_declared() {
    let text = r#"
services:
  app:
    image: example/app:1
    secrets: [github_client_secret]
    configs: [conf]
    networks: [proxy, default]
    volumes: ["data:/data", "/anonymous"]
    ports: ["80:80", "80:8080", "53:53/udp"]
  web: {ports: ["80:80", "53:53/tcp"], deploy: {mode: global, replicas: 2}}
secrets: {oauth_client_secret: {external: true}}
"#;
    let loaded = read(&[("compose.yml", text)], &[]).unwrap();
    let problems = Problems(check(&loaded));
    assert_snapshot!(problems, @r"
    compose.yml:5: services.app.secrets.github_client_secret: `github_client_secret` is not declared; add it to `secrets` at the top level of the same combination of files, or correct the name
    compose.yml:6: services.app.configs.conf: `conf` is not declared; add it to `configs` at the top level of the same combination of files, or correct the name
    compose.yml:7: services.app.networks.proxy: `proxy` is not declared; add it to `networks` at the top level of the same combination of files, or correct the name
    compose.yml:8: services.app.volumes.data: `data` is not declared; add it to `volumes` at the top level of the same combination of files, or correct the name
    compose.yml:10: services.web: it has no image; name one in `image`
    compose.yml:10: services.web.deploy.replicas: a global service runs once on every node; remove `replicas`, or the mode
    compose.yml:10: services.web: port 80/tcp is published by another service as well (app); give one of them another
    ");
}

/// A file with some services of some fields, as an overlay would have them.
fn some_file() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        "[a-z]{1,4}".prop_map(|image| format!("image: {image}:1")),
        proptest::collection::vec("[A-C]=[a-z]{0,2}", 0..4)
            .prop_map(|vars| format!("environment: [{}]", vars.join(", "))),
        proptest::collection::vec("[a-c]:/[x-z]", 0..4)
            .prop_map(|mounts| format!("volumes: [{}]", mounts.join(", "))),
        proptest::collection::vec("[a-c]", 0..4)
            .prop_map(|secrets| format!("secrets: [{}]", secrets.join(", "))),
        proptest::collection::vec("8[0-9]:80", 0..4).prop_map(|ports| format!(
            "ports: [{}]",
            ports.iter().map(|port| format!("\"{port}\"")).collect::<Vec<_>>().join(", ")
        )),
    ];
    let service = ("[ab]", proptest::collection::vec(field, 0..5));
    proptest::collection::vec(service, 0..3).prop_map(|services| {
        let mut text = "services:\n".to_owned();
        let mut seen = Vec::new();
        for (name, fields) in services {
            if seen.contains(&name) {
                continue;
            }
            writeln!(text, "  {name}:").unwrap();
            let mut keys: Vec<&str> = Vec::new();
            for field in &fields {
                let key = field.split(':').next().unwrap();
                if !keys.contains(&key) {
                    keys.push(key);
                    writeln!(text, "    {field}").unwrap();
                }
            }
            seen.push(name);
        }
        text
    })
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(text in "(services|app|image|ports|volumes|deploy|[a-z:\\-\\[\\]{}&*<$\"' \n0-9]){0,60}") {
        if let Ok(loaded) = read(&[("compose.yml", &text)], &[]) {
            check(&loaded);
        }
    }

    #[test]
    fn merging_keeps_what_each_file_says(base in some_file(), over in some_file()) {
        let merged = read(&[("base.yml", &base), ("over.yml", &over)], &[]).unwrap().compose;
        let over = read(&[("over.yml", &over)], &[]).unwrap().compose;
        let base = read(&[("base.yml", &base)], &[]).unwrap().compose;
        for (name, service) in &over.services {
            let whole = &merged.services[name];
            let below = base.services.get(name);
            prop_assert_eq!(&whole.image, &service.image.clone().or_else(|| below.and_then(|below| below.image.clone())));
            for mount in service.mounts.iter().rev() {
                prop_assert!(whole.mounts.iter().any(|found| found.target == mount.target));
            }
            for used in &service.secrets {
                prop_assert_eq!(whole.secrets.iter().filter(|found| found.source == used.source).count() >= 1, true);
            }
            for port in &service.ports {
                prop_assert!(whole.ports.contains(port));
            }
        }
        for name in base.services.keys() {
            prop_assert!(merged.services.contains_key(name));
        }
    }

    #[test]
    fn an_empty_overlay_changes_nothing(base in some_file()) {
        let alone = read(&[("base.yml", &base)], &[]).unwrap().compose;
        let with_nothing = read(&[("base.yml", &base), ("over.yml", "services: {}\n")], &[]).unwrap().compose;
        prop_assert_eq!(alone, with_nothing);
    }
}
