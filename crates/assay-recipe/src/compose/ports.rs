//! `ports` of a service: `8080:80/udp`, ranges, and the long form.

use super::{
    model::{NoteKind, Port},
    read::{At, Reader},
};

/// Most ports of one range.
const LONGEST_RANGE: u16 = 1000;
const WANTED: &str =
    "a port; write `8080:80`, `8080-8085:80-85/udp`, or the long form with `target` and `published`";

/// Reads the list.
pub(crate) fn read(reader: &mut Reader<'_>, at: At) -> Vec<Port> {
    let mut ports = Vec::new();
    for item in reader.items(at) {
        if let Some(text) = item.yaml.text() {
            match short(text) {
                Some(Short { ports: found, address }) => {
                    if let Some(address) = address {
                        let message =
                            format!("Swarm publishes on every address and ignores `{address}`; remove it");
                        reader.note(&item.path, NoteKind::IgnoredBySwarm, message);
                    }
                    ports.extend(found);
                }
                None => reader.wrong(&item, WANTED),
            }
        } else {
            ports.extend(long(reader, item));
        }
    }
    ports
}

#[derive(Debug, PartialEq, Eq)]
struct Short {
    ports: Vec<Port>,
    address: Option<String>,
}

fn short(text: &str) -> Option<Short> {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let (outside, target) = match rest.rsplit_once(':') {
        Some((outside, target)) => (Some(outside), target),
        None => (None, rest),
    };
    let targets = range(target)?;
    let (address, published) = match outside {
        None => (None, None),
        Some(outside) => match outside.rsplit_once(':') {
            Some((address, published)) => (Some(address.to_owned()), Some(published)),
            None => (None, Some(outside)),
        },
    };
    let published = match published {
        // 0 is any free one as well.
        None | Some("" | "0") => None,
        Some(published) => Some(range(published)?),
    };
    let port = |target, published| Port {
        target,
        published,
        protocol: protocol.clone(),
        mode: "ingress".to_owned(),
    };
    let ports = match published {
        None => targets.map(|target| port(target, None)).collect(),
        Some(published) if published.len() == targets.len() => {
            targets.zip(published).map(|(target, published)| port(target, Some(published))).collect()
        }
        Some(published) if targets.len() == 1 => {
            published.map(|published| port(*targets.start(), Some(published))).collect()
        }
        Some(_) => return None,
    };
    Some(Short { ports, address })
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last && last - first < LONGEST_RANGE).then_some(first..=last)
}

fn long(reader: &mut Reader<'_>, at: At) -> Option<Port> {
    let line = at.yaml.line;
    let mut fields = reader.fields(at)?;
    let target = fields.take("target").and_then(|at| port(reader, &at));
    let published = fields.take("published").and_then(|at| port(reader, &at));
    let protocol = fields.take("protocol").and_then(|at| reader.one_of(&at, &["tcp", "udp", "sctp"]));
    let mode = fields.take("mode").and_then(|at| reader.one_of(&at, &["ingress", "host"]));
    for key in ["host_ip", "name", "app_protocol"] {
        if let Some(at) = fields.take(key) {
            reader.note(&at.path, NoteKind::IgnoredBySwarm, "Swarm ignores it; remove it");
        }
    }
    if target.is_none() {
        reader.problem(line, &fields.path, "it has no `target`: name the port inside of the container");
    }
    reader.leftovers(fields);
    Some(Port {
        target: target?,
        published,
        protocol: protocol.unwrap_or_else(|| "tcp".to_owned()),
        mode: mode.unwrap_or_else(|| "ingress".to_owned()),
    })
}

fn port(reader: &mut Reader<'_>, at: &At) -> Option<u16> {
    let found = at.yaml.text().and_then(|text| text.trim().parse().ok()).filter(|port| *port > 0);
    if found.is_none() {
        reader.wrong(at, "the number of a port, 1 to 65535");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        let Some(short) = short(text) else { return "refused".to_owned() };
        let mut said: Vec<String> = short
            .ports
            .iter()
            .map(|port| match port.published {
                Some(published) => format!("{published}->{}/{}", port.target, port.protocol),
                None => format!("any->{}/{}", port.target, port.protocol),
            })
            .collect();
        said.extend(short.address.map(|address| format!("on {address}")));
        said.join(" ")
    }

    #[test]
    fn short_forms() {
        assert_eq!(show("80"), "any->80/tcp");
        assert_eq!(show("8080:80"), "8080->80/tcp");
        assert_eq!(show("64738:64738/udp"), "64738->64738/udp");
        assert_eq!(show("8000-8002:80-82"), "8000->80/tcp 8001->81/tcp 8002->82/tcp");
        assert_eq!(show("8000-8001:80"), "8000->80/tcp 8001->80/tcp");
        assert_eq!(show("0:80"), "any->80/tcp");
        assert_eq!(show("127.0.0.1:8080:80"), "8080->80/tcp on 127.0.0.1");
        assert_eq!(show("[::1]:8080:80"), "8080->80/tcp on [::1]");
        assert_eq!(show("127.0.0.1::80"), "any->80/tcp on 127.0.0.1");
        for text in
            ["", "x", "80:", "70000:80", "80:0", "80/icmp", "8000-8005:80-81", "9-8:1-2", "1-65535:1-65535"]
        {
            assert_eq!(show(text), "refused", "{text}");
        }
    }
}
