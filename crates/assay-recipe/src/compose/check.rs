//! What is wrong with a stack as a whole, and makes `docker stack deploy` fail: everything at once.

use std::collections::BTreeMap;

use super::{
    Loaded,
    model::{Mode, MountSource, ObjectUse, Service},
};
use crate::problem::{Problem, shown};

/// Looks for services without an image, for names that are used and nowhere declared, and for ports that two services want.
pub fn check(loaded: &Loaded) -> Vec<Problem> {
    let mut problems = Vec::new();
    let compose = &loaded.compose;
    if compose.services.is_empty() {
        problems.push(loaded.problem("services", "there is no service; declare at least one"));
    }
    for (name, service) in &compose.services {
        let path = format!("services.{name}");
        if service.image.is_none() {
            let message = "it has no image; name one in `image`";
            problems.push(loaded.problem(&path, message));
        }
        undeclared(loaded, &path, service, &mut problems);
    }
    problems.extend(modes(loaded));
    problems.extend(clashes(loaded));
    problems
}

/// What a service names and the stack does not declare.
pub(crate) fn undeclared(loaded: &Loaded, path: &str, service: &Service, problems: &mut Vec<Problem>) {
    let compose = &loaded.compose;
    let mut missing = |section: &str, name: &str| {
        let message = format!(
            "`{0}` is not declared; add it to `{section}` at the top level of the same combination of files, or correct \
             the name",
            shown(name)
        );
        problems.push(loaded.problem(&format!("{path}.{section}.{name}"), message));
    };
    for ObjectUse { source, .. } in &service.secrets {
        if !compose.secrets.contains_key(source) {
            missing("secrets", source);
        }
    }
    for ObjectUse { source, .. } in &service.configs {
        if !compose.configs.contains_key(source) {
            missing("configs", source);
        }
    }
    for network in service.networks.keys() {
        if network != "default" && !compose.networks.contains_key(network) {
            missing("networks", network);
        }
    }
    for mount in &service.mounts {
        if let MountSource::Volume { name, .. } = &mount.source
            && !compose.volumes.contains_key(name)
        {
            missing("volumes", name);
        }
    }
}

/// Services that run once on every node, and say how many.
pub(crate) fn modes(loaded: &Loaded) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, service) in &loaded.compose.services {
        if service.deploy.replicas.is_some() && matches!(service.deploy.mode, Mode::Global | Mode::GlobalJob)
        {
            let message = "a global service runs once on every node; remove `replicas`, or the mode";
            problems.push(loaded.problem(&format!("services.{name}.deploy.replicas"), message));
        }
    }
    problems
}

/// Published ports that more than one service wants, or one twice.
pub(crate) fn clashes(loaded: &Loaded) -> Vec<Problem> {
    let mut wanted: BTreeMap<(u16, &str), Vec<&str>> = BTreeMap::new();
    for (name, service) in &loaded.compose.services {
        for port in &service.ports {
            if let Some(published) = port.published {
                wanted.entry((published, &port.protocol)).or_default().push(name);
            }
        }
    }
    let mut problems = Vec::new();
    for ((port, protocol), services) in wanted {
        if let [first, .., last] = services.as_slice() {
            let whose = if first == last { "twice here" } else { "by another service as well" };
            let message =
                format!("port {port}/{protocol} is published {whose} ({first}); give one of them another");
            problems.push(loaded.problem(&format!("services.{last}"), message));
        }
    }
    problems
}
