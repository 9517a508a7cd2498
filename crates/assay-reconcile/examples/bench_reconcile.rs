//! How long an isolated reconciliation takes on this machine: the server's start, twenty new nodes, nothing new, one drift.
//!
//! `cargo run --release -p assay-reconcile --example bench_reconcile`. Needs a built API server and says so where there is none.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use assay_model::clock::{Clock, Micros};
use assay_reconcile::{
    ApiServer, Application, Expected, Reconciler, Rules, Tracking, Tree, compare, objects,
};

const APPLICATION: &str = include_str!("../../../examples/images/cluster-nodes/application.yaml");
const DEFINITION: &str = include_str!("../../../examples/images/cluster-nodes/clusternode-crd.yaml");
const NODE: (&str, &str) = ("zeta.lucent-financial-group.com/v1", "ClusterNode");
const NODES: usize = 20;
const ROUNDS: usize = 5;

/// The times are in the output, not in the status.
struct NoClock;

impl Clock for NoClock {
    fn now(&self) -> Micros {
        Micros(0)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ApiServer::find()?;
    let folder = std::env::temp_dir().join(format!("bench-reconcile-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let server = ApiServer::start(&files, &folder).await?;
    let timings = server.timings();
    println!("kube-apiserver {}", server.version().await?);
    println!("etcd serves after      {:>8.1?}", timings.etcd);
    println!("server listens after   {:>8.1?}", timings.serving);
    println!("server is ready after  {:>8.1?}", timings.ready);

    let with_definition =
        APPLICATION.replace("'**/cluster-nodes/**/*.yaml'", "'{crds/*.yaml,**/cluster-nodes/**/*.yaml}'");
    let application = Application::from_yaml(&with_definition)?;
    let mut reconciler =
        Reconciler::new(server.client(), application, Tracking::Annotation, Arc::new(NoClock));
    let mut tree =
        Tree::from([("maintainers/crds/clusternode.yaml".to_owned(), DEFINITION.as_bytes().to_vec())]);
    let first = timed(&mut reconciler, "0", &tree).await?;
    println!("definition, namespace  {first:>8.1?}");

    let mut revision = 0;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        for node in 0..NODES {
            let host = format!("node-{:06x}", round * NODES + node);
            let manifest = format!(
                "apiVersion: {}\nkind: {}\nmetadata: {{name: {host}}}\nspec: {{hostname: {host}, registration: {{maintainer: alice, timestamp: now}}}}\n",
                NODE.0, NODE.1
            );
            tree.insert(format!("maintainers/alice/cluster-nodes/{host}/node.yaml"), manifest.into_bytes());
        }
        revision += 1;
        rounds.push(timed(&mut reconciler, &revision.to_string(), &tree).await?);
    }
    println!("{NODES} more nodes, {ROUNDS} times: {rounds:.1?} (compare, apply all of the tree, compare)");
    let mut nothing = Vec::new();
    for _ in 0..ROUNDS {
        nothing.push(timed(&mut reconciler, &revision.to_string(), &tree).await?);
    }
    println!("{} nodes, nothing new:  {nothing:.1?}", NODES * ROUNDS);

    let started = Instant::now();
    let expected = Expected::render(&tree, "maintainers/*/cluster-nodes/*/node.yaml", "zeta-cluster")?;
    let live = objects(&server.client(), &[NODE], "zeta-cluster").await?;
    let differences = compare(&expected, &live, &Rules::default());
    println!("expected against live  {:>8.1?}, {} differences", started.elapsed(), differences.len());
    server.stop().await?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

async fn timed(
    reconciler: &mut Reconciler,
    revision: &str,
    tree: &Tree,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let started = Instant::now();
    let status = reconciler.reconcile(revision, tree).await?;
    if status.sync.status != "Synced" {
        return Err(format!("not synced: {status:?}").into());
    }
    Ok(started.elapsed())
}
