//! What in a stack reaches out of its containers, held against what the trusted side allows for it.
//!
//! A recipe under test is not trusted. The daemon it runs in is a run's own, but it is root on the same kernel: a bind of `/`, an
//! added capability or a device is a way out. What is not allowed is refused before anything is deployed. Read from the Compose,
//! including what Swarm itself would ignore: it says what the author meant, and another engine may heed it.

use std::{fmt, path::Path};

use assay_recipe::compose::model::{Compose, MountSource, Object, Service};
use serde::{Deserialize, Serialize};

/// What the trusted side allows a recipe. Nothing, unless it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allowed {
    /// Paths of the node that may be mounted, with all that is below them.
    pub binds: Vec<AllowedBind>,
    /// Capabilities that may be added: `NET_ADMIN`.
    pub capabilities: Vec<String>,
    /// Keys that may be written although they open the container: `pid`, `devices`, `privileged`.
    pub host_reach: Vec<String>,
    /// Drivers of volumes, networks and logs besides those that stay on the node.
    pub drivers: Vec<String>,
    /// Networks of the daemon that may be joined: `host`.
    pub networks: Vec<String>,
}

/// A path of the node that may be mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedBind {
    /// The path, absolute, or relative to the recipe.
    pub path: String,
    /// Whether it may be written there as well.
    #[serde(default)]
    pub write: bool,
}

/// Something that reaches out of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Escape {
    /// Where it is written: `services.app.volumes`.
    pub path: String,
    /// Of what kind.
    pub kind: EscapeKind,
    /// What it is: the path, the capability, the key with its value.
    pub what: String,
}

/// How something reaches out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EscapeKind {
    /// A path of the node, to be read.
    BindRead,
    /// A path of the node, to be written.
    BindWrite,
    /// A socket of the node: whoever listens there does as it is told.
    Socket,
    /// A capability.
    Capability,
    /// A key such as `privileged` or `pid: host`.
    HostReach,
    /// A driver that reaches further than the node.
    Driver,
    /// A network of the daemon itself.
    HostNetwork,
    /// The content of a secret or config that is taken from outside of the recipe.
    OutsideFile,
}

impl fmt::Display for Escape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, kind, what } = self;
        let (says, allow) = match kind {
            EscapeKind::BindRead => ("reads the node's", "`binds`"),
            EscapeKind::BindWrite => ("writes to the node's", "`binds` with `write`"),
            EscapeKind::Socket => ("talks to whoever listens on the node's", "`binds` with `write`"),
            EscapeKind::Capability => ("adds the capability", "`capabilities`"),
            EscapeKind::HostReach => ("opens the container with", "`host_reach`"),
            EscapeKind::Driver => ("uses the driver", "`drivers`"),
            EscapeKind::HostNetwork => ("joins the node's network", "`networks`"),
            EscapeKind::OutsideFile => {
                let outside = "takes its content from outside of the recipe, from";
                return write!(formatter, "{path} {outside} `{what}`: put the file into the recipe");
            }
        };
        write!(formatter, "{path} {says} `{what}`: take it out, or let the trusted side allow it ({allow})")
    }
}

/// What a stack reaches out with and is not allowed to, in the order of the files.
pub fn refuse(compose: &Compose, allowed: &Allowed) -> Vec<Escape> {
    escapes(compose).into_iter().filter(|reach| !is_allowed(reach, allowed)).collect()
}

/// Everything with which a stack reaches out of its containers.
pub fn escapes(compose: &Compose) -> Vec<Escape> {
    let mut found = Vec::new();
    for (name, service) in &compose.services {
        of_service(name, service, &mut found);
    }
    for (name, volume) in &compose.volumes {
        let path = format!("volumes.{name}");
        driver(&format!("{path}.driver"), volume.driver.as_deref(), &["local"], &mut found);
        // The local driver mounts whatever it is told to: a folder of the node, a share, a device.
        let in_memory = volume.driver_opts.get("type").is_some_and(|kind| kind == "tmpfs");
        if let Some(device) = volume.driver_opts.get("device").filter(|_| !in_memory) {
            let options = volume.driver_opts.get("o").map_or("", String::as_str);
            let read_only = options.split(',').any(|option| option == "ro");
            bind(&format!("{path}.driver_opts.device"), device, read_only, &mut found);
        }
    }
    for (name, network) in &compose.networks {
        let path = format!("networks.{name}");
        driver(&format!("{path}.driver"), network.driver.as_deref(), &["overlay"], &mut found);
        let own_name = network.name.as_deref().unwrap_or(name);
        if network.external && matches!(own_name, "host" | "bridge") {
            let what = own_name.to_owned();
            found.push(Escape { path, kind: EscapeKind::HostNetwork, what });
        }
    }
    for (kind, objects) in [("secrets", &compose.secrets), ("configs", &compose.configs)] {
        for (name, object) in objects {
            outside_file(kind, name, object, &mut found);
        }
    }
    found
}

fn of_service(name: &str, service: &Service, found: &mut Vec<Escape>) {
    let at = |key: &str| format!("services.{name}.{key}");
    for (key, value) in &service.host_reach {
        let what = format!("{key}: {value}");
        found.push(Escape { path: at(key), kind: EscapeKind::HostReach, what });
    }
    for capability in &service.cap_add {
        let what = capability_name(capability);
        found.push(Escape { path: at("cap_add"), kind: EscapeKind::Capability, what });
    }
    for mount in &service.mounts {
        if let MountSource::Bind { path, .. } = &mount.source {
            bind(&at("volumes"), path, mount.read_only, found);
        }
    }
    if let Some(logging) = &service.logging {
        let stays = ["json-file", "local", "none"];
        driver(&at("logging.driver"), logging.driver.as_deref(), &stays, found);
    }
}

fn bind(at: &str, path: &str, read_only: bool, found: &mut Vec<Escape>) {
    let plain = plain(path);
    // Reading from a socket is talking to it: a read-only mount of it is no less.
    let extension = Path::new(&plain).extension().and_then(|extension| extension.to_str());
    let is_socket = matches!(extension, Some("sock" | "socket"));
    let kind = match (is_socket, read_only) {
        (true, _) => EscapeKind::Socket,
        (false, true) => EscapeKind::BindRead,
        (false, false) => EscapeKind::BindWrite,
    };
    found.push(Escape { path: at.to_owned(), kind, what: plain });
}

fn driver(at: &str, driver: Option<&str>, stays: &[&str], found: &mut Vec<Escape>) {
    if let Some(driver) = driver.filter(|driver| !driver.is_empty() && !stays.contains(driver)) {
        found.push(Escape { path: at.to_owned(), kind: EscapeKind::Driver, what: driver.to_owned() });
    }
}

fn outside_file(kind: &str, name: &str, object: &Object, found: &mut Vec<Escape>) {
    let Some(file) = object.file.as_deref().map(plain) else { return };
    if file.starts_with('/') || file == ".." || file.starts_with("../") || file.starts_with('~') {
        let path = format!("{kind}.{name}.file");
        found.push(Escape { path, kind: EscapeKind::OutsideFile, what: file });
    }
}

fn is_allowed(reach: &Escape, allowed: &Allowed) -> bool {
    let bound = |must_write: bool| {
        allowed.binds.iter().any(|bind| {
            // In whole components: `/srv/a` allows nothing of `/srv/ab`.
            (bind.write || !must_write) && Path::new(&reach.what).starts_with(plain(&bind.path))
        })
    };
    match reach.kind {
        EscapeKind::BindRead => bound(false),
        EscapeKind::BindWrite | EscapeKind::Socket => bound(true),
        EscapeKind::Capability => {
            allowed.capabilities.iter().any(|capability| capability_name(capability) == reach.what)
        }
        EscapeKind::HostReach => {
            let key = reach.what.split(':').next().unwrap_or_default();
            allowed.host_reach.iter().any(|allowed| allowed == key)
        }
        EscapeKind::Driver => allowed.drivers.contains(&reach.what),
        EscapeKind::HostNetwork => allowed.networks.contains(&reach.what),
        // The runner reads that file with its own rights; nobody can allow it.
        EscapeKind::OutsideFile => false,
    }
}

fn capability_name(name: &str) -> String {
    let name = name.to_uppercase();
    name.strip_prefix("CAP_").map_or(name.clone(), str::to_owned)
}

/// A path without `.`, `..` and double slashes, as the kernel would take it if there are no links on the way. A `..` at the
/// beginning of a relative path stays: it leads out.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let absolute = path.starts_with('/');
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use assay_recipe::compose::model::{
        Compose, Logging, Mount, MountSource, Network, Object, Service, Volume,
    };
    use indexmap::IndexMap;

    use super::{Allowed, AllowedBind, plain, refuse};

    fn bind(path: &str, read_only: bool) -> Mount {
        let source = MountSource::Bind { path: path.to_owned(), propagation: None };
        Mount { source, target: "/mnt".to_owned(), read_only }
    }

    fn map<V>(pairs: impl IntoIterator<Item = (&'static str, V)>) -> IndexMap<String, V> {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn greedy() -> Compose {
        let text = |(key, value): (&'static str, &str)| (key, value.to_owned());
        let app = Service {
            cap_add: vec!["cap_net_admin".to_owned()],
            host_reach: map([("privileged", "true"), ("pid", "host")].map(text)),
            mounts: vec![
                bind("/etc/../etc/localtime", true),
                bind("/srv/data", false),
                bind("/var/run/docker.sock", true),
                bind("./config", false),
            ],
            logging: Some(Logging { driver: Some("syslog".to_owned()), options: IndexMap::new() }),
            ..Service::default()
        };
        let root = Volume {
            driver_opts: map([("type", "none"), ("o", "bind"), ("device", "/")].map(text)),
            ..Volume::default()
        };
        let host = Network { external: true, ..Network::default() };
        let shadow = Object { file: Some("conf/../../../etc/shadow".to_owned()), ..Object::default() };
        let inside = Object { file: Some("./conf/../app.conf".to_owned()), ..Object::default() };
        Compose {
            services: map([("app", app)]),
            volumes: map([("root", root)]),
            networks: map([("host", host)]),
            secrets: map([("pw", shadow)]),
            configs: map([("app", inside)]),
            ..Compose::default()
        }
    }

    #[test]
    fn everything_that_reaches_out_is_refused_and_said_with_what_would_allow_it() {
        let refused = refuse(&greedy(), &Allowed::default());
        let lines: Vec<String> = refused.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        services.app.privileged opens the container with `privileged: true`: take it out, or let the trusted side allow it (`host_reach`)
        services.app.pid opens the container with `pid: host`: take it out, or let the trusted side allow it (`host_reach`)
        services.app.cap_add adds the capability `NET_ADMIN`: take it out, or let the trusted side allow it (`capabilities`)
        services.app.volumes reads the node's `/etc/localtime`: take it out, or let the trusted side allow it (`binds`)
        services.app.volumes writes to the node's `/srv/data`: take it out, or let the trusted side allow it (`binds` with `write`)
        services.app.volumes talks to whoever listens on the node's `/var/run/docker.sock`: take it out, or let the trusted side allow it (`binds` with `write`)
        services.app.volumes writes to the node's `config`: take it out, or let the trusted side allow it (`binds` with `write`)
        services.app.logging.driver uses the driver `syslog`: take it out, or let the trusted side allow it (`drivers`)
        volumes.root.driver_opts.device writes to the node's `/`: take it out, or let the trusted side allow it (`binds` with `write`)
        networks.host joins the node's network `host`: take it out, or let the trusted side allow it (`networks`)
        secrets.pw.file takes its content from outside of the recipe, from `../../etc/shadow`: put the file into the recipe
        ");
    }

    #[test]
    fn what_the_trusted_side_allows_is_not_refused_and_nothing_beside_it() {
        let allow = |path: &str, write| AllowedBind { path: path.to_owned(), write };
        let allowed = Allowed {
            binds: vec![allow("/etc", false), allow("/srv/da", true), allow("config/", true)],
            capabilities: vec!["NET_ADMIN".to_owned()],
            host_reach: vec!["pid".to_owned()],
            drivers: vec!["syslog".to_owned()],
            networks: vec!["host".to_owned()],
        };
        let refused = refuse(&greedy(), &allowed);
        let what: Vec<&str> = refused.iter().map(|reach| reach.what.as_str()).collect();
        assert_eq!(what, ["privileged: true", "/srv/data", "/var/run/docker.sock", "/", "../../etc/shadow"]);
    }

    #[test]
    fn reading_is_not_writing() {
        let allowed =
            Allowed { binds: vec![AllowedBind { path: "/".to_owned(), write: false }], ..Allowed::default() };
        let refused = refuse(&greedy(), &allowed);
        let what: Vec<&str> = refused.iter().map(|reach| reach.what.as_str()).collect();
        assert!(what.contains(&"/srv/data") && what.contains(&"/var/run/docker.sock"), "{what:?}");
        assert!(!what.contains(&"/etc/localtime"), "{what:?}");
    }

    #[test]
    fn a_way_around_is_seen_through() {
        assert_eq!(plain("/srv//a/./../../etc"), "/etc");
        assert_eq!(plain("/../.."), "/");
        assert_eq!(plain("a/../.."), "..");
        assert_eq!(plain("./"), ".");
    }
}
