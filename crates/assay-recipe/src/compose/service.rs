//! One entry of `services`.

use indexmap::IndexMap;

use super::{
    deploy,
    model::{Attachment, Healthcheck, Logging, NoteKind, ObjectUse, Service},
    mounts, ports,
    read::{At, Fields, Reader},
};
use crate::{env, problem::shown, yaml::Node};

/// Compose has these and Swarm does nothing with them.
const IGNORED: [&str; 15] = [
    "build",
    "cgroupns_mode",
    "depends_on",
    "domainname",
    "external_links",
    "links",
    "mac_address",
    "oom_kill_disable",
    "platform",
    "profiles",
    "pull_policy",
    "runtime",
    "scale",
    "shm_size",
    "tmpfs",
];
/// What the old format had.
const DEPRECATED: [(&str, &str); 2] = [
    ("container_name", "Swarm names containers itself; remove it"),
    ("expose", "services of one network reach every port of each other; remove it"),
];
/// What `docker stack deploy` refuses, and what takes its place.
const FORBIDDEN: [(&str, &str); 9] = [
    ("extends", "write the service out, or share its parts by anchors"),
    ("volume_driver", "give the driver to the volume, below the top level's `volumes`"),
    ("volumes_from", "declare a volume below the top level's `volumes`, and mount it in both"),
    ("cpu_quota", "set `deploy.resources.limits.cpus`"),
    ("cpu_shares", "set `deploy.resources.limits.cpus`"),
    ("cpuset", "set `deploy.resources.limits.cpus`"),
    ("mem_limit", "set `deploy.resources.limits.memory`"),
    ("mem_reservation", "set `deploy.resources.reservations.memory`"),
    ("memswap_limit", "set `deploy.resources.limits.memory`"),
];
/// What would reach out of the container.
const REACH: [&str; 8] =
    ["privileged", "network_mode", "pid", "ipc", "devices", "cgroup_parent", "security_opt", "userns_mode"];

/// A service as one file has it, and whether that file says its mode.
pub(crate) struct Read {
    pub(crate) service: Service,
    pub(crate) mode_given: bool,
}

/// Where the texts of `env_file` come from.
pub(crate) type EnvFiles<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Reads one service.
pub(crate) fn read(reader: &mut Reader<'_>, at: At, env_files: EnvFiles<'_>) -> Option<Read> {
    let mut fields = reader.fields(at)?;
    reader.mark(fields.path.clone(), fields.line);
    let f = &mut fields;
    let mut service = Service {
        image: f.take("image").and_then(|at| reader.text(&at)).filter(|image| !image.is_empty()),
        entrypoint: f.take("entrypoint").and_then(|at| reader.command(at)).filter(|words| !words.is_empty()),
        command: f.take("command").and_then(|at| reader.command(at)).filter(|words| !words.is_empty()),
        environment: environment(reader, f, env_files),
        labels: f.take("labels").map(|at| reader.labels(at)).unwrap_or_default(),
        restart: f.take("restart").and_then(|at| restart(reader, &at)),
        healthcheck: f.take("healthcheck").and_then(|at| healthcheck(reader, at)),
        networks: f.take("networks").map(|at| networks(reader, at)).unwrap_or_default(),
        ports: f.take("ports").map(|at| ports::read(reader, at)).unwrap_or_default(),
        mounts: f.take("volumes").map(|at| mounts::read(reader, at)).unwrap_or_default(),
        secrets: f.take("secrets").map(|at| object_uses(reader, at)).unwrap_or_default(),
        configs: f.take("configs").map(|at| object_uses(reader, at)).unwrap_or_default(),
        extra_hosts: f.take("extra_hosts").map(|at| extra_hosts(reader, at)).unwrap_or_default(),
        hostname: f.take("hostname").and_then(|at| reader.text(&at)),
        dns: f.take("dns").map(|at| reader.text_or_texts(at)).unwrap_or_default(),
        dns_search: f.take("dns_search").map(|at| reader.text_or_texts(at)).unwrap_or_default(),
        user: f.take("user").and_then(|at| reader.text(&at)),
        working_dir: f.take("working_dir").and_then(|at| reader.text(&at)),
        stop_signal: f.take("stop_signal").and_then(|at| reader.text(&at)),
        stop_grace_period: f.take("stop_grace_period").and_then(|at| reader.duration(&at)),
        read_only: f.take("read_only").and_then(|at| reader.boolean(&at)).unwrap_or_default(),
        init: f.take("init").and_then(|at| reader.boolean(&at)),
        tty: f.take("tty").and_then(|at| reader.boolean(&at)).unwrap_or_default(),
        stdin_open: f.take("stdin_open").and_then(|at| reader.boolean(&at)).unwrap_or_default(),
        cap_add: f.take("cap_add").map(|at| reader.texts(at)).unwrap_or_default(),
        cap_drop: f.take("cap_drop").map(|at| reader.texts(at)).unwrap_or_default(),
        sysctls: f.take("sysctls").map(|at| reader.labels(at)).unwrap_or_default(),
        ulimits: f.take("ulimits").map(|at| ulimits(reader, at)).unwrap_or_default(),
        logging: f.take("logging").and_then(|at| logging(reader, at)),
        ..Service::default()
    };
    let mut mode_given = false;
    if let Some(at) = f.take("deploy") {
        (service.deploy, mode_given) = deploy::read(reader, at);
    }
    if let Some(at) = refused_by_docker(reader, f, "group_add") {
        service.group_add = reader.texts(at);
    }
    if let Some(at) = refused_by_docker(reader, f, "dns_opt") {
        service.dns_opt = reader.text_or_texts(at);
    }
    not_heeded(reader, f, &mut service);
    reader.leftovers(fields);
    Some(Read { service, mode_given })
}

/// What Swarm could do, and `docker stack deploy` has no key for.
fn refused_by_docker(reader: &mut Reader<'_>, fields: &mut Fields, key: &str) -> Option<At> {
    let at = fields.take(key)?;
    let message = format!("`docker stack deploy` has no `{key}` and refuses the file; it is heeded here");
    reader.note(&at.path, NoteKind::Unsupported, message);
    Some(at)
}

fn not_heeded(reader: &mut Reader<'_>, fields: &mut Fields, service: &mut Service) {
    for key in REACH {
        let Some(at) = fields.take(key) else { continue };
        service.host_reach.insert(key.to_owned(), written(&at));
        let message =
            format!("Swarm ignores `{key}`; without it the service may not work, so ask for another way");
        reader.note(&at.path, NoteKind::IgnoredBySwarm, message);
    }
    for key in IGNORED {
        if let Some(at) = fields.take(key) {
            let message = match key {
                "depends_on" => "Swarm starts services in no order; let the service wait for what it needs",
                "build" => "Swarm builds nothing; publish the image and name it in `image`",
                "tmpfs" => "Swarm ignores it; write a volume with `type: tmpfs`",
                _ => "Swarm ignores it; remove it",
            };
            reader.note(&at.path, NoteKind::IgnoredBySwarm, message);
        }
    }
    for (key, instead) in DEPRECATED {
        if let Some(at) = fields.take(key) {
            reader.note(&at.path, NoteKind::Deprecated, instead);
        }
    }
    for (key, instead) in FORBIDDEN {
        if let Some(at) = fields.take(key) {
            let message = format!("`docker stack deploy` refuses `{key}`: {instead}");
            reader.problem(at.yaml.line, &at.path, message);
        }
    }
}

/// A value on one line, as it was written.
fn written(at: &At) -> String {
    fn walk(yaml: &crate::yaml::Yaml) -> String {
        match &yaml.node {
            Node::Null => String::new(),
            Node::Scalar(scalar) => scalar.text.clone(),
            Node::List(items) => items.iter().map(walk).collect::<Vec<_>>().join(", "),
            Node::Map(map) => map
                .iter()
                .map(|(key, value)| format!("{key}: {}", walk(value)))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
    walk(&at.yaml)
}

/// `env_file` first, `environment` over it. What is empty there and set in the app's environment is taken from it.
fn environment(
    reader: &mut Reader<'_>,
    fields: &mut Fields,
    env_files: EnvFiles<'_>,
) -> IndexMap<String, Option<String>> {
    let mut all = IndexMap::new();
    if let Some(at) = fields.take("env_file") {
        let (line, path) = (at.yaml.line, at.path.clone());
        for name in reader.text_or_texts(at) {
            let read = env_files(&name)
                .and_then(|text| env::docker_env_file(&name, &text).map_err(|problems| problems.to_string()));
            match read {
                Ok(settings) => all.extend(settings),
                Err(error) => {
                    let message = format!("`{}` cannot be read: {}", shown(&name), shown(&error));
                    reader.problem(line, &path, message);
                }
            }
        }
    }
    if let Some(at) = fields.take("environment") {
        all.extend(reader.mapping(at));
    }
    for (name, value) in &mut all {
        if value.as_ref().is_none_or(String::is_empty)
            && let Some(given) = reader.variables.get(name)
        {
            *value = Some(given.clone());
        }
    }
    all
}

fn restart(reader: &mut Reader<'_>, at: &At) -> Option<String> {
    let text = reader.text(at)?;
    let known = ["no", "always", "unless-stopped", "on-failure"];
    let (policy, attempts) = text.split_once(':').unwrap_or((&text, "0"));
    if known.contains(&policy) && attempts.parse::<u32>().is_ok() {
        return Some(text);
    }
    reader.wrong(at, "a restart policy: no, always, unless-stopped or on-failure[:attempts]");
    None
}

fn healthcheck(reader: &mut Reader<'_>, at: At) -> Option<Healthcheck> {
    let mut fields = reader.fields(at)?;
    let f = &mut fields;
    let mut check = Healthcheck::default();
    if let Some(at) = f.take("test") {
        check.test = health_test(reader, at);
    }
    check.interval = f.take("interval").and_then(|at| reader.duration(&at));
    check.timeout = f.take("timeout").and_then(|at| reader.duration(&at));
    check.start_period = f.take("start_period").and_then(|at| reader.duration(&at));
    check.retries = f.take("retries").and_then(|at| reader.integer(&at));
    if let Some(at) = f.take("disable")
        && reader.boolean(&at) == Some(true)
    {
        if !check.test.is_empty() && check.test != ["NONE"] {
            reader.problem(at.yaml.line, &at.path, "there is a `test` as well; remove one of the two");
        }
        check.test = vec!["NONE".to_owned()];
    }
    if let Some(at) = f.take("start_interval") {
        reader.note(&at.path, NoteKind::Unsupported, "only newer engines know it; it is not heeded here");
    }
    reader.leftovers(fields);
    Some(check)
}

fn health_test(reader: &mut Reader<'_>, at: At) -> Vec<String> {
    if let Some(text) = at.yaml.text() {
        if text == "NONE" {
            let message =
                "as a text this is a command called NONE; write `disable: true` to switch the check off";
            reader.note(&at.path, NoteKind::Unsupported, message);
        }
        return vec!["CMD-SHELL".to_owned(), text.to_owned()];
    }
    let line = at.yaml.line;
    let path = at.path.clone();
    let test = reader.texts(at);
    match test.first().map(String::as_str) {
        Some("CMD" | "CMD-SHELL") if test.len() > 1 => {}
        Some("NONE") if test.len() == 1 => {}
        _ => {
            let message =
                "a test begins with CMD, CMD-SHELL or NONE: write `[\"CMD\", \"curl\", \"-f\", \"…\"]`";
            reader.problem(line, &path, message);
        }
    }
    test
}

fn networks(reader: &mut Reader<'_>, at: At) -> IndexMap<String, Attachment> {
    let mut networks = IndexMap::new();
    let path = at.path.clone();
    if matches!(at.yaml.node, Node::List(_)) {
        for item in reader.items(at) {
            let Some(name) = reader.text(&item) else { continue };
            reader.mark(format!("{path}.{name}"), item.yaml.line);
            networks.insert(name, Attachment::default());
        }
        return networks;
    }
    for (name, at) in reader.entries(at) {
        reader.mark(at.path.clone(), at.yaml.line);
        let Some(mut fields) = reader.fields(at) else { continue };
        let aliases = fields.take("aliases").map(|at| reader.texts(at)).unwrap_or_default();
        for key in ["ipv4_address", "ipv6_address", "link_local_ips", "priority", "mac_address"] {
            if let Some(at) = fields.take(key) {
                let message = "Swarm gives addresses itself and ignores it; remove it";
                reader.note(&at.path, NoteKind::IgnoredBySwarm, message);
            }
        }
        reader.leftovers(fields);
        networks.insert(name, Attachment { aliases });
    }
    networks
}

fn object_uses(reader: &mut Reader<'_>, at: At) -> Vec<ObjectUse> {
    let path = at.path.clone();
    let mut uses = Vec::new();
    for item in reader.items(at) {
        let line = item.yaml.line;
        let found = if let Some(source) = item.yaml.text() {
            ObjectUse { source: source.to_owned(), target: None, uid: None, gid: None, mode: None }
        } else {
            let Some(mut fields) = reader.fields(item) else { continue };
            let Some(source) = fields.take("source").and_then(|at| reader.text(&at)) else {
                reader.problem(line, &fields.path, "it has no `source`: name the one that is meant");
                continue;
            };
            let target = fields.take("target").and_then(|at| reader.text(&at));
            let uid = fields.take("uid").and_then(|at| reader.text(&at));
            let gid = fields.take("gid").and_then(|at| reader.text(&at));
            let mode = fields.take("mode").and_then(|at| permissions(reader, &at));
            reader.leftovers(fields);
            ObjectUse { source, target, uid, gid, mode }
        };
        reader.mark(format!("{path}.{}", found.source), line);
        uses.push(found);
    }
    uses
}

/// `0444` is octal, however it is quoted. A number without its zero is the decimal one, which nobody means.
fn permissions(reader: &mut Reader<'_>, at: &At) -> Option<u32> {
    let number = at.yaml.text().and_then(|text| crate::yaml::integer(text.trim()));
    let Some(mode) = number.and_then(|mode| u32::try_from(mode).ok()).filter(|mode| *mode <= 0o7777) else {
        reader.wrong(at, "a mode in octal; write `0444`");
        return None;
    };
    let text = at.yaml.text().unwrap_or_default().trim();
    if !text.starts_with('0') && mode > 7 {
        let message = format!(
            "`{0}` without a zero is decimal, which is {mode:#o}; write `0{0}` for octal",
            shown(text)
        );
        reader.note(&at.path, NoteKind::Unsupported, message);
    }
    Some(mode)
}

fn extra_hosts(reader: &mut Reader<'_>, at: At) -> Vec<(String, String)> {
    let mut hosts = Vec::new();
    if matches!(at.yaml.node, Node::Map(_)) {
        for (name, address) in reader.entries(at) {
            hosts.extend(reader.text(&address).map(|address| (name, address)));
        }
        return hosts;
    }
    for item in reader.items(at) {
        let Some(text) = reader.text(&item) else { continue };
        match text.split_once([':', '=']) {
            Some((name, address)) if !name.is_empty() && !address.is_empty() => {
                hosts.push((name.trim().to_owned(), address.trim().to_owned()));
            }
            _ => reader.wrong(&item, "a host; write `name:address`"),
        }
    }
    hosts
}

fn ulimits(reader: &mut Reader<'_>, at: At) -> IndexMap<String, (i64, i64)> {
    let mut limits = IndexMap::new();
    for (name, at) in reader.entries(at) {
        if at.yaml.text().is_some() {
            limits.extend(reader.integer(&at).map(|limit| (name, (limit, limit))));
            continue;
        }
        let line = at.yaml.line;
        let Some(mut fields) = reader.fields(at) else { continue };
        let soft = fields.take("soft").and_then(|at| reader.integer(&at));
        let hard = fields.take("hard").and_then(|at| reader.integer(&at));
        match (soft, hard) {
            (Some(soft), Some(hard)) => {
                limits.insert(name, (soft, hard));
            }
            _ => reader.problem(line, &fields.path, "a limit has both `soft` and `hard`, or is one number"),
        }
        reader.leftovers(fields);
    }
    limits
}

fn logging(reader: &mut Reader<'_>, at: At) -> Option<Logging> {
    let mut fields = reader.fields(at)?;
    let driver = fields.take("driver").and_then(|at| reader.text(&at));
    let options = fields.take("options").map(|at| reader.labels(at)).unwrap_or_default();
    reader.leftovers(fields);
    Some(Logging { driver, options })
}
