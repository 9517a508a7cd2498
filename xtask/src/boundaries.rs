//! `cargo xtask boundaries`: no crate depends on one that it must not know.
//!
//! cargo-deny's `wrappers` (in `deny.toml`) say who may name a crate directly. They do not see a crate that comes in
//! through a third one, and "the agent reaches no store, however indirectly" is what an operator relies on. Hence
//! this walk over the whole graph. Dev-dependencies count for direct rules only: they are in no shipped program.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::place;

/// What sits on the far side of a trust boundary must not carry what the near side guards.
const UNREACHABLE: [(&str, &[&str], &str); 4] = [
    ("assay-agent", CONTROL_PLANE, "the machine under test holds no store, engine or server"),
    ("assay-runner", CONTROL_PLANE, "the privileged side holds no store, engine or server"),
    ("assay-probes", CONTROL_PLANE, "it runs on the machine under test"),
    (
        "assay-model",
        &["tokio", "futures", "reqwest", "rustix", "socket2", "mio"],
        "the vocabulary does no I/O and is not async",
    ),
];
const CONTROL_PLANE: &[&str] = &["assay-store", "assay-engine", "assay-server", "sea-orm", "sqlx", "axum"];

/// Crates that may know only these of ours.
const KNOWS_ONLY: [(&str, &[&str], &str); 19] = [
    ("assay-model", &[], "everything else builds on it"),
    ("assay-process", &[], "every driver builds on it"),
    ("assay-api", &["assay-model"], "wire types are not storage types"),
    ("assay-scan", &[], "it is given a device, and knows nothing of runs or specs"),
    ("assay-gpu", &["assay-model"], "it reads and works an accelerator, and judges nothing"),
    ("assay-console", &[], "it reads what a machine says, and is told what to look for"),
    ("assay-media", &[], "it reads and writes images, and judges nothing"),
    ("assay-standin", DRIVER, "a stand-in does not know what a run is"),
    ("assay-reconcile", DRIVER, "a driver does not know what a run is"),
    ("assay-netboot", DRIVER, "a driver does not know what a run is"),
    ("assay-qemu", DRIVER, "a driver does not know what a run is"),
    ("assay-recipe", &["assay-process"], "it reads what a recipe says, and deploys nothing"),
    ("assay-swarm", SWARM, "a driver does not know what a run is"),
    (
        "assay-registry",
        &["assay-process"],
        "it asks registries and keeps images, and knows neither daemons nor runs",
    ),
    ("assay-backup", BACKUP, "it backs up and restores a stack, and judges nothing"),
    ("assay-report", &["assay-model"], "reports are folds of finished data"),
    ("assay-notify", &["assay-model"], "it sends finished data"),
    ("assay-forge", &["assay-model"], "it asks forges and words answers, and stores nothing"),
    ("assay-store", &["assay-model"], "it stores, and decides nothing"),
];
const DRIVER: &[&str] = &["assay-model", "assay-process"];
/// It deploys what a recipe's files come to.
const SWARM: &[&str] = &["assay-model", "assay-process", "assay-recipe"];
/// It works on a stack that somebody else deployed.
const BACKUP: &[&str] = &["assay-process", "assay-recipe", "assay-swarm"];

/// Crates of others that only these of ours may name.
const NAMED_ONLY_BY: [(&str, &[&str]); 11] = [
    ("io-uring", &["assay-scan"]),
    ("nvml-wrapper", &["assay-gpu"]),
    ("lettre", &["assay-notify"]),
    ("sea-orm", &["assay-store"]),
    ("sea-orm-migration", &["assay-store"]),
    ("sqlx", &["assay-store"]),
    ("axum", &["assay-server"]),
    ("axum-server", &["assay-server"]),
    ("tower-http", &["assay-server"]),
    ("bollard", &["assay-swarm"]),
    ("process-wrap", &["assay-process"]),
];

/// Asks cargo for the graph and checks it.
pub(crate) fn run() -> Result<()> {
    let output = Command::new(place::cargo())
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(place::repository())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    let graph = Graph::read(&output.stdout)?;
    let broken = graph.broken();
    if broken.is_empty() {
        eprintln!("boundaries: {} crates of ours keep to theirs", graph.ours.len());
        return Ok(());
    }
    bail!("{} boundaries are broken:\n  {}", broken.len(), broken.join("\n  "))
}

/// Who depends on whom, by package id.
struct Graph {
    names: BTreeMap<String, String>,
    ours: BTreeSet<String>,
    edges: BTreeMap<String, Vec<Edge>>,
}

struct Edge {
    to: String,
    only_for_tests: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

impl Graph {
    fn read(json: &[u8]) -> Result<Self> {
        let metadata: Metadata = serde_json::from_slice(json).context("cargo metadata does not read")?;
        let edge = |dep: Dep| Edge {
            only_for_tests: dep.dep_kinds.iter().all(|kind| kind.kind.as_deref() == Some("dev")),
            to: dep.pkg,
        };
        Ok(Self {
            names: metadata.packages.into_iter().map(|package| (package.id, package.name)).collect(),
            ours: metadata.workspace_members,
            edges: metadata
                .resolve
                .nodes
                .into_iter()
                .map(|node| (node.id, node.deps.into_iter().map(edge).collect()))
                .collect(),
        })
    }

    /// Every broken rule, in words that show the way.
    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for id in &self.ours {
            let name = self.name(id);
            for (_, forbidden, why) in UNREACHABLE.iter().filter(|(who, ..)| *who == name) {
                for way in self.ways_to(id, forbidden) {
                    broken.push(format!("{}: {why}", way.join(" → ")));
                }
            }
            for (_, allowed, why) in KNOWS_ONLY.iter().filter(|(who, ..)| *who == name) {
                let shipped = self
                    .edges_of(id)
                    .iter()
                    .filter(|edge| !edge.only_for_tests && self.ours.contains(&edge.to));
                for other in shipped.map(|edge| self.name(&edge.to)).filter(|other| !allowed.contains(other))
                {
                    broken.push(format!("{name} → {other}: {why}"));
                }
            }
            for edge in self.edges_of(id) {
                let other = self.name(&edge.to);
                for (_, owners) in
                    NAMED_ONLY_BY.iter().filter(|(what, owners)| *what == other && !owners.contains(&name))
                {
                    broken.push(format!("{name} → {other}: only {} names it", owners.join(" and ")));
                }
            }
        }
        broken
    }

    /// The shortest way from a crate to each forbidden one that it reaches.
    fn ways_to<'a>(&'a self, from: &'a str, forbidden: &[&str]) -> Vec<Vec<&'a str>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut reached: Vec<&str> = vec![from];
        let mut ways = Vec::new();
        let mut next = 0;
        while let Some(&id) = reached.get(next) {
            next += 1;
            for edge in self.edges_of(id).iter().filter(|edge| !edge.only_for_tests) {
                if edge.to == from || came_from.contains_key(edge.to.as_str()) {
                    continue;
                }
                came_from.insert(&edge.to, id);
                reached.push(&edge.to);
                if forbidden.contains(&self.name(&edge.to)) {
                    let back = std::iter::successors(Some(edge.to.as_str()), |at| came_from.get(at).copied());
                    let mut way: Vec<&str> = back.map(|id| self.name(id)).collect();
                    way.reverse();
                    ways.push(way);
                }
            }
        }
        ways
    }

    fn edges_of(&self, id: &str) -> &[Edge] {
        self.edges.get(id).map_or(&[], Vec::as_slice)
    }

    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Made-up metadata: `("a", "b", None)` is "a depends on b", with `Some("dev")` for its tests only.
    fn graph(edges: &[(&str, &str, Option<&str>)]) -> Graph {
        let names: BTreeSet<&str> = edges.iter().flat_map(|(from, to, _)| [*from, *to]).collect();
        let deps = |of: &str| -> Vec<Value> {
            let dep = |(_, to, kind): &(&str, &str, Option<&str>)| json!({ "name": to, "pkg": format!("id of {to}"), "dep_kinds": [{ "kind": kind, "target": null }] });
            edges.iter().filter(|(from, ..)| *from == of).map(dep).collect()
        };
        let ours = names.iter().filter(|name| name.starts_with("assay"));
        let metadata = json!({
            "packages": names.iter().map(|name| json!({ "id": format!("id of {name}"), "name": name })).collect::<Vec<_>>(),
            "workspace_members": ours.map(|name| format!("id of {name}")).collect::<Vec<_>>(),
            "resolve": { "nodes": names.iter().map(|name| json!({ "id": format!("id of {name}"), "deps": deps(name) })).collect::<Vec<_>>() },
        });
        Graph::read(metadata.to_string().as_bytes()).expect("it reads")
    }

    #[test]
    fn the_agent_must_not_reach_the_store_however_indirectly() {
        let broken = graph(&[
            ("assay-agent", "assay-pipelines", None),
            ("assay-pipelines", "assay-testkit", None),
            ("assay-testkit", "assay-store", None),
        ])
        .broken();
        assert_eq!(
            broken,
            [
                "assay-agent → assay-pipelines → assay-testkit → assay-store: the machine under test holds no store, engine or server"
            ]
        );
    }

    #[test]
    fn the_runner_must_not_reach_engine_or_server_not_even_in_its_build_script() {
        let broken =
            graph(&[("assay-runner", "assay-engine", Some("build")), ("assay-runner", "assay-server", None)])
                .broken();
        assert_eq!(
            broken,
            [
                "assay-runner → assay-engine: the privileged side holds no store, engine or server",
                "assay-runner → assay-server: the privileged side holds no store, engine or server",
            ]
        );
    }

    #[test]
    fn what_only_tests_use_is_not_shipped() {
        assert_eq!(
            graph(&[
                ("assay-agent", "assay-store", Some("dev")),
                ("assay-qemu", "assay-server", Some("dev"))
            ])
            .broken(),
            [""; 0]
        );
    }

    #[test]
    fn a_driver_knows_model_and_process_only() {
        let broken = graph(&[
            ("assay-qemu", "assay-model", None),
            ("assay-qemu", "assay-process", None),
            ("assay-qemu", "tokio", None),
            ("assay-qemu", "assay-api", None),
        ])
        .broken();
        assert_eq!(broken, ["assay-qemu → assay-api: a driver does not know what a run is"]);
    }

    #[test]
    fn the_model_is_not_async_and_the_orm_has_one_owner() {
        let broken = graph(&[
            ("assay-model", "uuid", None),
            ("uuid", "tokio", None),
            ("assay-store", "sea-orm", None),
            ("assay-engine", "sea-orm", Some("dev")),
        ])
        .broken();
        assert_eq!(
            broken,
            [
                "assay-engine → sea-orm: only assay-store names it",
                "assay-model → uuid → tokio: the vocabulary does no I/O and is not async"
            ]
        );
    }

    #[test]
    fn this_workspace_is_known_by_its_names() {
        // A rule about a crate that was renamed would hold for ever and say nothing.
        let exists = |name: &&str| place::repository().join("crates").join(name).is_dir();
        let later = ["assay-swarm"];
        let named =
            UNREACHABLE.iter().chain(&KNOWS_ONLY).map(|(who, ..)| *who).filter(|name| !later.contains(name));
        let unknown: Vec<&str> = named.filter(|name| !exists(name)).collect();
        assert_eq!(unknown, [""; 0]);
    }
}
