//! `deploy` of a service.

use super::{
    model::{Deploy, Mode, NoteKind, Placement, Resources, RestartPolicy, UpdatePolicy},
    read::{At, Reader},
    units,
};
use crate::yaml::Node;

/// Reads it; the second says whether the mode was given.
pub(crate) fn read(reader: &mut Reader<'_>, at: At) -> (Deploy, bool) {
    let mut deploy = Deploy::default();
    let mut mode_given = false;
    let Some(mut fields) = reader.fields(at) else { return (deploy, false) };
    let f = &mut fields;
    if let Some(at) = f.take("mode")
        && let Some(mode) = reader.one_of(&at, &["replicated", "global", "replicated-job", "global-job"])
    {
        mode_given = true;
        deploy.mode = match mode.as_str() {
            "global" => Mode::Global,
            "replicated-job" => Mode::ReplicatedJob,
            "global-job" => Mode::GlobalJob,
            _ => Mode::Replicated,
        };
    }
    if let Some(at) = f.take("replicas") {
        deploy.replicas = reader.count(&at);
        reader.mark(at.path, at.yaml.line);
    }
    if let Some(at) = f.take("labels") {
        reader.mark(at.path.clone(), at.yaml.line);
        deploy.labels = reader.labels(at);
    }
    deploy.update = f.take("update_config").and_then(|at| update(reader, at));
    deploy.rollback = f.take("rollback_config").and_then(|at| update(reader, at));
    deploy.restart_policy = f.take("restart_policy").and_then(|at| restart_policy(reader, at));
    if let Some(at) = f.take("placement") {
        deploy.placement = placement(reader, at);
    }
    if let Some(at) = f.take("resources")
        && let Some(mut fields) = reader.fields(at)
    {
        deploy.limits = fields.take("limits").map(|at| resources(reader, at)).unwrap_or_default();
        deploy.reservations = fields.take("reservations").map(|at| resources(reader, at)).unwrap_or_default();
        reader.leftovers(fields);
    }
    deploy.endpoint_mode = f.take("endpoint_mode").and_then(|at| {
        let mode = reader.text(&at)?.to_lowercase();
        if matches!(mode.as_str(), "vip" | "dnsrr") {
            return Some(mode);
        }
        reader.wrong(&at, "one of vip, dnsrr");
        None
    });
    reader.leftovers(fields);
    (deploy, mode_given)
}

fn update(reader: &mut Reader<'_>, at: At) -> Option<UpdatePolicy> {
    let mut fields = reader.fields(at)?;
    let f = &mut fields;
    let actions = ["pause", "continue", "rollback"];
    let policy = UpdatePolicy {
        parallelism: f.take("parallelism").and_then(|at| reader.count(&at)),
        delay: f.take("delay").and_then(|at| reader.duration(&at)),
        failure_action: f.take("failure_action").and_then(|at| reader.one_of(&at, &actions)),
        monitor: f.take("monitor").and_then(|at| reader.duration(&at)),
        max_failure_ratio: f.take("max_failure_ratio").and_then(|at| ratio(reader, &at)),
        order: f.take("order").and_then(|at| reader.one_of(&at, &["stop-first", "start-first"])),
    };
    reader.leftovers(fields);
    Some(policy)
}

fn ratio(reader: &mut Reader<'_>, at: &At) -> Option<f64> {
    let found = at.yaml.text().and_then(|text| text.parse().ok()).filter(|ratio| (0.0..=1.0).contains(ratio));
    if found.is_none() {
        reader.wrong(at, "a share from 0 to 1");
    }
    found
}

fn restart_policy(reader: &mut Reader<'_>, at: At) -> Option<RestartPolicy> {
    let mut fields = reader.fields(at)?;
    let f = &mut fields;
    let policy = RestartPolicy {
        condition: f.take("condition").and_then(|at| reader.one_of(&at, &["none", "on-failure", "any"])),
        delay: f.take("delay").and_then(|at| reader.duration(&at)),
        max_attempts: f.take("max_attempts").and_then(|at| reader.count(&at)),
        window: f.take("window").and_then(|at| reader.duration(&at)),
    };
    reader.leftovers(fields);
    Some(policy)
}

fn placement(reader: &mut Reader<'_>, at: At) -> Placement {
    let mut placement = Placement::default();
    let Some(mut fields) = reader.fields(at) else { return placement };
    placement.constraints = fields.take("constraints").map(|at| reader.texts(at)).unwrap_or_default();
    if let Some(at) = fields.take("preferences") {
        for item in reader.items(at) {
            let Some(mut fields) = reader.fields(item) else { continue };
            placement.spread.extend(fields.take("spread").and_then(|at| reader.text(&at)));
            reader.leftovers(fields);
        }
    }
    if let Some(at) = fields.take("max_replicas_per_node") {
        placement.max_replicas_per_node = reader.count(&at).unwrap_or_default();
    }
    reader.leftovers(fields);
    placement
}

fn resources(reader: &mut Reader<'_>, at: At) -> Resources {
    let mut resources = Resources::default();
    let Some(mut fields) = reader.fields(at) else { return resources };
    if let Some(at) = fields.take("cpus") {
        resources.nano_cpus = at.yaml.text().and_then(units::nano_cpus);
        if resources.nano_cpus.is_none() {
            reader.wrong(&at, "a number of processors; write `\"0.5\"`");
        } else if matches!(&at.yaml.node, Node::Scalar(scalar) if scalar.plain) {
            reader.note(
                &at.path,
                NoteKind::Unsupported,
                "`docker stack deploy` wants a text here; write it in quotes",
            );
        }
    }
    resources.memory = fields.take("memory").and_then(|at| reader.bytes(&at));
    if let Some(at) = fields.take("pids") {
        resources.pids = reader.integer(&at);
        let message =
            "`docker stack deploy` knows it from version 3.9 of the format on, and refuses it before";
        reader.note(&at.path, NoteKind::Unsupported, message);
    }
    for key in ["generic_resources", "devices"] {
        if let Some(at) = fields.take(key) {
            let message = "it is not heeded here: the service may start on a node without it";
            reader.note(&at.path, NoteKind::Unsupported, message);
        }
    }
    reader.leftovers(fields);
    resources
}
