//! `volumes` of a service: `data:/var/lib/x:ro`, and the long form.

use super::{
    model::{Mount, MountSource, NoteKind},
    read::{At, Reader},
};

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
const WANTED: &str =
    "a mount; write `volume:/path`, `volume:/path:ro`, or the long form with `type`, `source`, `target`";

/// Reads the list.
pub(crate) fn read(reader: &mut Reader<'_>, at: At) -> Vec<Mount> {
    let path = at.path.clone();
    let mut mounts = Vec::new();
    for item in reader.items(at) {
        let line = item.yaml.line;
        let mount = match item.yaml.text() {
            Some(text) => {
                let found = short(text);
                if found.is_none() {
                    reader.wrong(&item, WANTED);
                }
                found.map(|(mount, ignored)| {
                    if let MountSource::Volume { name, .. } = &mount.source
                        && name.len() == 1
                    {
                        let message = "`docker stack deploy` takes one letter for a drive; give the volume a longer name";
                        reader.note(&item.path, NoteKind::Unsupported, message);
                    }
                    for option in ignored {
                        let message = format!("Swarm ignores the option `{option}`; remove it");
                        reader.note(&item.path, NoteKind::IgnoredBySwarm, message);
                    }
                    mount
                })
            }
            None => long(reader, item),
        };
        let Some(mount) = mount else { continue };
        if let MountSource::Volume { name, .. } = &mount.source {
            reader.mark(format!("{path}.{name}"), line);
        }
        mounts.push(mount);
    }
    mounts
}

/// The mount, and its options that have no effect.
fn short(text: &str) -> Option<(Mount, Vec<String>)> {
    let mut parts = text.split(':');
    let (source, target, options) = match (parts.next()?, parts.next(), parts.next(), parts.next()) {
        (target, None, ..) => (None, target, ""),
        (source, Some(target), options, None) => (Some(source), target, options.unwrap_or_default()),
        _ => return None,
    };
    if !target.starts_with('/') || source == Some("") {
        return None;
    }
    let (mut read_only, mut nocopy, mut propagation, mut ignored) = (false, false, None, Vec::new());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "nocopy" => nocopy = true,
            option if PROPAGATIONS.contains(&option) => propagation = Some(option.to_owned()),
            // `z`, `cached` and the like; Docker passes over what it does not know, too.
            other => ignored.push(other.to_owned()),
        }
    }
    let source = match source {
        None => MountSource::Anonymous,
        Some(path) if path.starts_with(['.', '/', '~']) => {
            MountSource::Bind { path: path.to_owned(), propagation }
        }
        Some(name) => {
            ignored.extend(propagation);
            MountSource::Volume { name: name.to_owned(), nocopy }
        }
    };
    Some((Mount { source, target: target.to_owned(), read_only }, ignored))
}

fn long(reader: &mut Reader<'_>, at: At) -> Option<Mount> {
    let line = at.yaml.line;
    let mut fields = reader.fields(at)?;
    let path = fields.path.clone();
    let kind = if let Some(at) = fields.take("type") {
        reader.one_of(&at, &["volume", "bind", "tmpfs"])
    } else {
        reader.problem(line, &path, "it has no `type`: write `volume`, `bind` or `tmpfs`");
        None
    };
    let source = fields.take("source").and_then(|at| reader.text(&at));
    let target = fields.take("target").and_then(|at| reader.text(&at));
    let read_only = fields.take("read_only").and_then(|at| reader.boolean(&at)).unwrap_or_default();
    let (mut nocopy, mut propagation, mut size) = (false, None, None);
    if let Some(mut below) = fields.take("volume").and_then(|at| reader.fields(at)) {
        nocopy = below.take("nocopy").and_then(|at| reader.boolean(&at)).unwrap_or_default();
        reader.leftovers(below);
    }
    if let Some(mut below) = fields.take("bind").and_then(|at| reader.fields(at)) {
        propagation = below.take("propagation").and_then(|at| reader.one_of(&at, &PROPAGATIONS));
        reader.leftovers(below);
    }
    if let Some(mut below) = fields.take("tmpfs").and_then(|at| reader.fields(at)) {
        if let Some(at) = below.take("size") {
            size = reader.bytes(&at);
            if at.yaml.text().and_then(crate::yaml::integer).is_none() {
                let message = "`docker stack deploy` wants the number of bytes here";
                reader.note(&at.path, NoteKind::Unsupported, message);
            }
        }
        reader.leftovers(below);
    }
    if let Some(at) = fields.take("consistency") {
        reader.note(&at.path, NoteKind::IgnoredBySwarm, "Swarm ignores it; remove it");
    }
    reader.leftovers(fields);
    let Some(target) = target else {
        reader.problem(line, &path, "it has no `target`: name the path inside of the container");
        return None;
    };
    let source = match (kind?.as_str(), source) {
        ("bind", Some(path)) => MountSource::Bind { path, propagation },
        ("bind", None) => {
            reader.problem(line, &path, "a bind has a `source`: name the path on the node");
            return None;
        }
        ("tmpfs", None) => MountSource::Tmpfs { size },
        ("tmpfs", Some(_)) => {
            reader.problem(line, &path, "a tmpfs has no `source`; remove it");
            return None;
        }
        (_, Some(name)) => MountSource::Volume { name, nocopy },
        (_, None) => MountSource::Anonymous,
    };
    Some(Mount { source, target, read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        let Some((mount, ignored)) = short(text) else { return "refused".to_owned() };
        let source = match mount.source {
            MountSource::Volume { name, nocopy: true } => format!("volume {name} nocopy"),
            MountSource::Volume { name, .. } => format!("volume {name}"),
            MountSource::Bind { path, propagation } => {
                format!("bind {path} {}", propagation.unwrap_or_default())
            }
            MountSource::Anonymous => "anonymous".to_owned(),
            MountSource::Tmpfs { .. } => "tmpfs".to_owned(),
        };
        let read_only = if mount.read_only { " ro" } else { "" };
        format!("{} at {}{read_only} {}", source.trim(), mount.target, ignored.join(",")).trim().to_owned()
    }

    #[test]
    fn short_forms() {
        assert_eq!(show("data:/var/lib/x"), "volume data at /var/lib/x");
        assert_eq!(show("data:/x:ro,nocopy"), "volume data nocopy at /x ro");
        assert_eq!(
            show("/var/run/docker.sock:/var/run/docker.sock:ro"),
            "bind /var/run/docker.sock at /var/run/docker.sock ro"
        );
        assert_eq!(show("./conf:/etc/x:rshared,z"), "bind ./conf rshared at /etc/x z");
        assert_eq!(show("/cache"), "anonymous at /cache");
        for text in ["", "data", "data:x", "data:/x:rw:ro", ":/x"] {
            assert_eq!(show(text), "refused", "{text}");
        }
    }
}
