//! A daemon with one small image, and what stacks are made of here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use assay_process::{Cmd, find_program};
use assay_recipe::compose::model::{Compose, RestartPolicy, Service};
use assay_swarm::{
    Convergence, Daemon, DaemonConfig, Deployed, Endpoints, ImageSettings, Outcome, Plan, PlanOptions, Rules,
    Swarm, plan,
};
use indexmap::IndexMap;
use tempfile::TempDir;

/// The one image. Its programs are this machine's own.
pub(crate) const IMAGE: &str = "tools:1";
/// The same under another name, for updates.
pub(crate) const IMAGE_2: &str = "tools:2";

const PROGRAMS: [&str; 7] = ["sh", "bash", "sleep", "cat", "ls", "rm", "busybox"];
/// What any stack in here gets.
const LIMIT: Duration = Duration::from_mins(2);

pub(crate) struct World {
    pub(crate) daemon: Daemon,
    folder: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_with(folder.path().join("d"), folder).await
    }

    /// Starts one in a folder that somebody else removes, with everything else beside it.
    pub(crate) async fn start_in(daemon: &Path) -> Self {
        Self::start_with(daemon.to_owned(), tempfile::tempdir_in(daemon.parent().unwrap()).unwrap()).await
    }

    async fn start_with(daemon: PathBuf, folder: TempDir) -> Self {
        let config = DaemonConfig { folder: daemon, log: folder.path().join("dockerd.log") };
        let daemon = Daemon::start(&config).await.unwrap();
        let this = Self { daemon, folder };
        this.import_images().await;
        this
    }

    pub(crate) fn swarm(&self) -> &Swarm {
        self.daemon.swarm()
    }

    /// A folder for what a test wants to keep.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn plan(&self, stack: &str, compose: &Compose) -> Plan {
        self.plan_with(stack, compose, &BTreeMap::new())
    }

    pub(crate) fn plan_with(
        &self,
        stack: &str,
        compose: &Compose,
        files: &BTreeMap<String, Vec<u8>>,
    ) -> Plan {
        let endpoints = if self.daemon.ipvs() { Endpoints::AsWritten } else { Endpoints::WithoutIpvs };
        let environment = BTreeMap::new();
        plan(
            compose,
            &PlanOptions { stack, environment: &environment, root: self.folder(), files, endpoints },
        )
        .unwrap()
    }

    pub(crate) async fn deploy(&self, stack: &str, compose: &Compose) -> Deployed {
        self.swarm().deploy(&self.plan(stack, compose)).await.unwrap()
    }

    pub(crate) async fn converge(&self, deployed: &Deployed) -> Convergence {
        let convergence = self.swarm().converge(deployed, &Rules::default(), LIMIT).await.unwrap();
        eprintln!(
            "{}: {} after {:.1?} (settled after {:.1?})",
            deployed.stack,
            word(&convergence.outcome),
            convergence.took,
            convergence.settled
        );
        convergence
    }

    /// Deploys and waits; the stack has to converge.
    pub(crate) async fn up(&self, stack: &str, compose: &Compose) -> Convergence {
        let convergence = self.converge(&self.deploy(stack, compose).await).await;
        assert_eq!(word(&convergence.outcome), "converged", "{convergence:#?}");
        convergence
    }

    async fn import_images(&self) {
        let root = self.folder.path().join("root");
        tree(&root).await;
        for reference in [IMAGE, IMAGE_2] {
            let image = self.swarm().images().import_tree(&root, reference, &ImageSettings::default()).await;
            assert!(image.unwrap().id.starts_with("sha256:"));
        }
    }
}

/// A service that runs a line of shell.
pub(crate) fn service(line: &str) -> Service {
    Service {
        image: Some(IMAGE.to_owned()),
        entrypoint: Some(["bash", "-c"].map(str::to_owned).to_vec()),
        command: Some(vec![line.to_owned()]),
        // A shell is the first process and does not care for SIGTERM.
        stop_grace_period: Some(Duration::from_secs(1)),
        ..Service::default()
    }
}

pub(crate) fn restarted(condition: &str, service: Service) -> Service {
    let policy = RestartPolicy { condition: Some(condition.to_owned()), ..RestartPolicy::default() };
    let mut service = service;
    service.deploy.restart_policy = Some(policy);
    service
}

pub(crate) fn stack(services: impl IntoIterator<Item = (&'static str, Service)>) -> Compose {
    Compose { services: map(services), ..Compose::default() }
}

pub(crate) fn map<V>(pairs: impl IntoIterator<Item = (&'static str, V)>) -> IndexMap<String, V> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

pub(crate) fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Converged { .. } => "converged",
        Outcome::Failed(_) => "failed",
        Outcome::TimedOut(_) => "timed out",
    }
}

/// A root file system with a few programs and the libraries that they want.
async fn tree(root: &Path) {
    for folder in ["bin", "tmp", "www", "etc", "proc", "sys", "dev"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("www/index.html"), "hello from the other one\n").unwrap();
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    for program in PROGRAMS {
        let path = find_program(program).unwrap();
        std::fs::copy(&path, root.join("bin").join(program)).unwrap();
        // One that is linked statically has none, and `ldd` says so with an error.
        let listed = Cmd::new("ldd").arg(&path).run().await.unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from) {
            let inside = root.join(library.strip_prefix("/").unwrap());
            std::fs::create_dir_all(inside.parent().unwrap()).unwrap();
            std::fs::copy(&library, inside).unwrap();
        }
    }
}
