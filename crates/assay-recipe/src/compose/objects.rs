//! What stands beside the services: networks, volumes, secrets, configs.

use indexmap::IndexMap;

use super::{
    model::{Network, NoteKind, Object, Volume},
    read::{At, Fields, Reader},
};
use crate::yaml::Node;

pub(crate) fn networks(reader: &mut Reader<'_>, at: At) -> IndexMap<String, Network> {
    let mut networks = IndexMap::new();
    for (key, at) in reader.entries(at) {
        reader.mark(at.path.clone(), at.yaml.line);
        let Some(mut fields) = reader.fields(at) else { continue };
        let (external, name) = external_and_name(reader, &mut fields, &key);
        let f = &mut fields;
        let network = Network {
            name,
            external,
            driver: f.take("driver").and_then(|at| reader.text(&at)),
            driver_opts: f.take("driver_opts").map(|at| reader.labels(at)).unwrap_or_default(),
            internal: f.take("internal").and_then(|at| reader.boolean(&at)).unwrap_or_default(),
            attachable: f.take("attachable").and_then(|at| reader.boolean(&at)).unwrap_or_default(),
            labels: f.take("labels").map(|at| reader.labels(at)).unwrap_or_default(),
            subnets: f.take("ipam").map(|at| subnets(reader, at)).unwrap_or_default(),
        };
        reader.leftovers(fields);
        networks.insert(key, network);
    }
    networks
}

pub(crate) fn volumes(reader: &mut Reader<'_>, at: At) -> IndexMap<String, Volume> {
    let mut volumes = IndexMap::new();
    for (key, at) in reader.entries(at) {
        reader.mark(at.path.clone(), at.yaml.line);
        let Some(mut fields) = reader.fields(at) else { continue };
        let (external, name) = external_and_name(reader, &mut fields, &key);
        let f = &mut fields;
        let volume = Volume {
            name,
            external,
            driver: f.take("driver").and_then(|at| reader.text(&at)),
            driver_opts: f.take("driver_opts").map(|at| reader.labels(at)).unwrap_or_default(),
            labels: f.take("labels").map(|at| reader.labels(at)).unwrap_or_default(),
        };
        if external
            && (volume.driver.is_some() || !volume.driver_opts.is_empty() || !volume.labels.is_empty())
        {
            let message =
                "it is external, so its driver, options and labels are somebody else's; remove them";
            reader.problem(fields.line, &fields.path, message);
        }
        reader.leftovers(fields);
        volumes.insert(key, volume);
    }
    volumes
}

/// Secrets or configs.
pub(crate) fn objects(reader: &mut Reader<'_>, at: At) -> IndexMap<String, Object> {
    let mut objects = IndexMap::new();
    for (key, at) in reader.entries(at) {
        reader.mark(at.path.clone(), at.yaml.line);
        let Some(mut fields) = reader.fields(at) else { continue };
        let (external, name) = external_and_name(reader, &mut fields, &key);
        let f = &mut fields;
        let object = Object {
            name,
            external,
            file: f.take("file").and_then(|at| reader.text(&at)).filter(|file| !file.is_empty()),
            template_driver: f.take("template_driver").and_then(|at| reader.text(&at)),
            labels: f.take("labels").map(|at| reader.labels(at)).unwrap_or_default(),
        };
        for key in ["driver", "driver_opts", "content", "environment"] {
            if let Some(at) = f.take(key) {
                let message =
                    "its content cannot be taken from there; give it a `file`, or make it `external`";
                reader.note(&at.path, NoteKind::Unsupported, message);
            }
        }
        match (&object.file, external) {
            (Some(_), true) => {
                let message = "it is external and has a `file`; remove one of the two";
                reader.problem(fields.line, &fields.path, message);
            }
            (None, false) => {
                let message =
                    "nothing says where its content comes from; give it a `file`, or write `external: true`";
                reader.problem(fields.line, &fields.path, message);
            }
            _ => {}
        }
        reader.leftovers(fields);
        objects.insert(key, object);
    }
    objects
}

/// `external: true` with `name`, or the old `external: {name: …}`. What is external and has no name is called by its key.
fn external_and_name(reader: &mut Reader<'_>, fields: &mut Fields, key: &str) -> (bool, Option<String>) {
    let mut name = fields.take("name").and_then(|at| reader.text(&at)).filter(|name| !name.is_empty());
    let mut external = false;
    if let Some(at) = fields.take("external") {
        if matches!(at.yaml.node, Node::Map(_)) {
            external = true;
            let (path, line) = (at.path.clone(), at.yaml.line);
            if let Some(mut below) = reader.fields(at) {
                if let Some(old) = below.take("name").and_then(|at| reader.text(&at)) {
                    if name.is_some() {
                        reader.problem(
                            line,
                            &path,
                            "it is named twice; keep `name` and write `external: true`",
                        );
                    }
                    let message = "write `external: true` and `name` beside it";
                    reader.note(&path, NoteKind::Deprecated, message);
                    name.get_or_insert(old);
                }
                reader.leftovers(below);
            }
        } else {
            external = reader.boolean(&at).unwrap_or_default();
        }
    }
    if external {
        name.get_or_insert_with(|| key.to_owned());
    }
    (external, name)
}

fn subnets(reader: &mut Reader<'_>, at: At) -> Vec<String> {
    let mut subnets = Vec::new();
    let Some(mut fields) = reader.fields(at) else { return subnets };
    if let Some(at) = fields.take("driver")
        && reader.text(&at).is_some_and(|driver| driver != "default")
    {
        reader.note(
            &at.path,
            NoteKind::Unsupported,
            "addresses are managed by the engine's default driver here",
        );
    }
    if let Some(at) = fields.take("config") {
        for item in reader.items(at) {
            let Some(mut fields) = reader.fields(item) else { continue };
            subnets.extend(fields.take("subnet").and_then(|at| reader.text(&at)));
            reader.leftovers(fields);
        }
    }
    reader.leftovers(fields);
    subnets
}
