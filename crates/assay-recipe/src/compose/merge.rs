//! Puts a later file over an earlier one, as `docker stack deploy` does.
//!
//! Its rules (docker/cli, `compose/loader`): services are merged field by field, where what the later file leaves empty,
//! false or 0 changes nothing; maps by key; lists are appended, except `entrypoint` and `command`, which are replaced, mounts,
//! which are merged by target, secrets and configs by source, and equal ports, which count once. Networks, volumes, secrets
//! and configs of the top level are replaced whole.

use indexmap::IndexMap;

use super::{
    Layer,
    model::{
        Deploy, Healthcheck, Logging, Mount, Note, NoteKind, ObjectUse, Placement, Resources, RestartPolicy,
        Service, UpdatePolicy,
    },
};

/// Puts `over` over `base`.
pub(crate) fn merge(base: &mut Layer, over: Layer) {
    let compose = over.compose;
    base.compose.version = base.compose.version.take().or(compose.version);
    base.compose.notes.extend(compose.notes);
    for (name, service) in compose.services {
        let mode_given = over.modes_given.contains(&name);
        if mode_given {
            base.modes_given.insert(name.clone());
        }
        match base.compose.services.get_mut(&name) {
            Some(below) => {
                if let Some(note) = twice_tested(&name, &over.file, below, &service) {
                    base.compose.notes.push(note);
                }
                merge_service(below, service, mode_given);
            }
            None => {
                base.compose.services.insert(name, service);
            }
        }
    }
    base.compose.networks.extend(compose.networks);
    base.compose.volumes.extend(compose.volumes);
    base.compose.secrets.extend(compose.secrets);
    base.compose.configs.extend(compose.configs);
    base.places.extend(over.places);
    base.written_names.extend(over.written_names);
    base.unset.extend(over.unset);
}

/// Docker appends a later healthcheck's `test` to the earlier one, which nobody means.
fn twice_tested(name: &str, file: &str, below: &Service, over: &Service) -> Option<Note> {
    let tested = |service: &Service| service.healthcheck.as_ref().is_some_and(|check| !check.test.is_empty());
    (tested(below) && tested(over)).then(|| Note {
        path: format!("services.{name}.healthcheck.test"),
        file: file.to_owned(),
        kind: NoteKind::Unsupported,
        message: if over.healthcheck.as_ref().is_some_and(|check| check.test == ["NONE"]) {
            "an earlier file has a test, and `docker stack deploy` cannot switch it off from here; remove it there"
        } else {
            "an earlier file has a test as well, and `docker stack deploy` puts this one behind it as further arguments; \
             keep it in one file"
        }
        .to_owned(),
    })
}

fn merge_service(below: &mut Service, over: Service, mode_given: bool) {
    replace(&mut below.image, over.image);
    replace(&mut below.entrypoint, over.entrypoint);
    replace(&mut below.command, over.command);
    for (name, value) in over.environment {
        let empty = value.as_ref().is_none_or(String::is_empty);
        if !empty || !below.environment.contains_key(&name) {
            below.environment.insert(name, value);
        }
    }
    below.labels.extend(over.labels);
    merge_deploy(&mut below.deploy, over.deploy, mode_given);
    replace(&mut below.restart, over.restart);
    merge_healthcheck(&mut below.healthcheck, over.healthcheck);
    for (name, attachment) in over.networks {
        let entry = below.networks.entry(name).or_default();
        if !attachment.aliases.is_empty() {
            *entry = attachment;
        }
    }
    for port in over.ports {
        if !below.ports.contains(&port) {
            below.ports.push(port);
        }
    }
    merge_mounts(&mut below.mounts, over.mounts);
    merge_uses(&mut below.secrets, over.secrets);
    merge_uses(&mut below.configs, over.configs);
    below.extra_hosts.extend(over.extra_hosts);
    replace(&mut below.hostname, over.hostname);
    below.dns.extend(over.dns);
    below.dns_search.extend(over.dns_search);
    below.dns_opt.extend(over.dns_opt);
    replace(&mut below.user, over.user);
    below.group_add.extend(over.group_add);
    replace(&mut below.working_dir, over.working_dir);
    replace(&mut below.stop_signal, over.stop_signal);
    replace(&mut below.stop_grace_period, over.stop_grace_period);
    below.read_only |= over.read_only;
    replace(&mut below.init, over.init);
    below.tty |= over.tty;
    below.stdin_open |= over.stdin_open;
    below.cap_add.extend(over.cap_add);
    below.cap_drop.extend(over.cap_drop);
    below.sysctls.extend(over.sysctls);
    below.ulimits.extend(over.ulimits);
    merge_logging(&mut below.logging, over.logging);
    below.host_reach.extend(over.host_reach);
}

fn merge_deploy(below: &mut Deploy, over: Deploy, mode_given: bool) {
    if mode_given {
        below.mode = over.mode;
    }
    replace(&mut below.replicas, over.replicas);
    below.labels.extend(over.labels);
    merge_update(&mut below.update, over.update);
    merge_update(&mut below.rollback, over.rollback);
    merge_restart(&mut below.restart_policy, over.restart_policy);
    let Placement { constraints, spread, max_replicas_per_node } = over.placement;
    below.placement.constraints.extend(constraints);
    below.placement.spread.extend(spread);
    if max_replicas_per_node > 0 {
        below.placement.max_replicas_per_node = max_replicas_per_node;
    }
    merge_resources(&mut below.limits, &over.limits);
    merge_resources(&mut below.reservations, &over.reservations);
    replace(&mut below.endpoint_mode, over.endpoint_mode);
}

fn merge_update(below: &mut Option<UpdatePolicy>, over: Option<UpdatePolicy>) {
    let Some(over) = over else { return };
    let below = below.get_or_insert_default();
    replace(&mut below.parallelism, over.parallelism);
    replace_unless(&mut below.delay, over.delay, std::time::Duration::is_zero);
    replace(&mut below.failure_action, over.failure_action);
    replace_unless(&mut below.monitor, over.monitor, std::time::Duration::is_zero);
    replace_unless(&mut below.max_failure_ratio, over.max_failure_ratio, |ratio| *ratio == 0.0);
    replace(&mut below.order, over.order);
}

fn merge_restart(below: &mut Option<RestartPolicy>, over: Option<RestartPolicy>) {
    let Some(over) = over else { return };
    let below = below.get_or_insert_default();
    replace(&mut below.condition, over.condition);
    replace(&mut below.delay, over.delay);
    replace(&mut below.max_attempts, over.max_attempts);
    replace(&mut below.window, over.window);
}

fn merge_resources(below: &mut Resources, over: &Resources) {
    let given = |amount: Option<i64>| amount.filter(|amount| *amount != 0);
    replace(&mut below.nano_cpus, given(over.nano_cpus));
    replace(&mut below.memory, given(over.memory));
    replace(&mut below.pids, given(over.pids));
}

fn merge_healthcheck(below: &mut Option<Healthcheck>, over: Option<Healthcheck>) {
    let Some(over) = over else { return };
    let below = below.get_or_insert_default();
    if over.test == ["NONE"] {
        below.test = over.test;
    } else {
        below.test.extend(over.test);
    }
    replace(&mut below.interval, over.interval);
    replace(&mut below.timeout, over.timeout);
    replace(&mut below.start_period, over.start_period);
    replace(&mut below.retries, over.retries);
}

fn merge_mounts(below: &mut Vec<Mount>, over: Vec<Mount>) {
    for mount in over {
        match below.iter_mut().find(|known| known.target == mount.target) {
            Some(known) => *known = mount,
            None => below.push(mount),
        }
    }
}

fn merge_uses(below: &mut Vec<ObjectUse>, over: Vec<ObjectUse>) {
    for used in over {
        match below.iter_mut().find(|known| known.source == used.source) {
            Some(known) => *known = used,
            None => below.push(used),
        }
    }
}

/// Options are merged where the driver is the same or only one names it; another driver replaces all.
fn merge_logging(below: &mut Option<Logging>, over: Option<Logging>) {
    let Some(over) = over else { return };
    let known = below.get_or_insert_default();
    if known.driver.is_some() && over.driver.is_some() && known.driver != over.driver {
        *known = over;
        return;
    }
    replace(&mut known.driver, over.driver);
    known.options.extend(over.options);
}

fn replace<T>(below: &mut Option<T>, over: Option<T>) {
    if over.is_some() {
        *below = over;
    }
}

fn replace_unless<T>(below: &mut Option<T>, over: Option<T>, empty: impl Fn(&T) -> bool) {
    replace(below, over.filter(|value| !empty(value)));
}

/// One note of each kind at each place, the last.
pub(crate) fn once(notes: Vec<Note>) -> Vec<Note> {
    let mut last: IndexMap<(String, String), Note> = IndexMap::new();
    for note in notes {
        last.insert((note.path.clone(), note.message.clone()), note);
    }
    last.into_values().collect()
}
