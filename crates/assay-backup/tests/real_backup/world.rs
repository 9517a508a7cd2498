//! A daemon with an image, and what stacks are made of here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use assay_backup::{Backup, BackupOptions, HookRun, Site, Store, Witness, back_up};
use assay_process::{Cmd, find_program};
use assay_recipe::{
    compose::model::{Compose, Mount, MountSource, Service, Volume},
    labels::BackupPlan,
};
use assay_swarm::{
    ContainerCommand, Daemon, DaemonConfig, Deployed, Endpoints, ImageSettings, Outcome, PlanOptions, Rules,
    Swarm, plan,
};
use tempfile::TempDir;

/// The image of programs of this machine.
pub(crate) const TOOLS: &str = "tools:1";

const PROGRAMS: [&str; 12] =
    ["sh", "bash", "sleep", "cat", "ls", "rm", "mkdir", "ln", "gzip", "head", "sqlite3", "touch"];
/// What any stack in here gets.
const LIMIT: Duration = Duration::from_mins(2);

pub(crate) struct World {
    pub(crate) daemon: Daemon,
    folder: TempDir,
}

/// A stack that was deployed, and what its labels say.
pub(crate) struct Up {
    stack: String,
    compose: Compose,
    labels: BackupPlan,
    pub(crate) deployed: Deployed,
}

impl World {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = DaemonConfig { folder: folder.path().join("d"), log: folder.path().join("dockerd.log") };
        Self { daemon: Daemon::start(&config).await.unwrap(), folder }
    }

    /// With the image of programs of this machine.
    pub(crate) async fn with_tools() -> Self {
        let world = Self::start().await;
        let root = world.folder().join("root");
        tools(&root).await;
        world.import(&root, TOOLS, &ImageSettings::default()).await;
        world
    }

    pub(crate) async fn import(&self, root: &Path, reference: &str, settings: &ImageSettings) {
        self.swarm().images().import_tree(root, reference, settings).await.unwrap();
    }

    pub(crate) fn swarm(&self) -> &Swarm {
        self.daemon.swarm()
    }

    /// A folder for what a test wants to keep.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn store(&self) -> Store {
        Store::create(&self.folder().join("store")).await.unwrap()
    }

    /// Deploys a stack, which has to converge.
    pub(crate) async fn up(&self, stack: &str, compose: &Compose) -> Up {
        let endpoints = if self.daemon.ipvs() { Endpoints::AsWritten } else { Endpoints::WithoutIpvs };
        let (environment, files) = (BTreeMap::new(), BTreeMap::new());
        let options =
            PlanOptions { stack, environment: &environment, root: self.folder(), files: &files, endpoints };
        let deployed = self.swarm().deploy(&plan(compose, &options).unwrap()).await.unwrap();
        let up = Up {
            stack: stack.to_owned(),
            compose: compose.clone(),
            labels: BackupPlan::read(compose),
            deployed,
        };
        self.converged(&up).await;
        up
    }

    pub(crate) async fn converged(&self, up: &Up) {
        let rules = Rules { stable_for: Duration::from_secs(2), ..Rules::default() };
        let convergence = self.swarm().converge(&up.deployed, &rules, LIMIT).await.unwrap();
        eprintln!("{} converged after {:.1?}", up.stack, convergence.took);
        assert!(matches!(convergence.outcome, Outcome::Converged { .. }), "{convergence:#?}");
    }

    pub(crate) fn site<'a>(&'a self, up: &'a Up) -> Site<'a> {
        Site::of(&self.daemon, &up.stack, &up.compose, &up.labels)
    }

    /// Where a volume is on this machine.
    pub(crate) fn volume(&self, up: &Up, volume: &str) -> PathBuf {
        self.daemon.folder().join(format!("data/volumes/{}_{volume}/_data", up.stack))
    }

    /// What a line of shell says in a service's container. It has to end well.
    pub(crate) async fn says(&self, up: &Up, service: &str, line: &str) -> String {
        let service = format!("{}_{service}", up.stack);
        let container = self.swarm().container_of(&up.stack, &service).await.unwrap();
        let output = self.swarm().exec(&container, &ContainerCommand::shell(line), LIMIT).await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.exit_code, 0, "{line}: {stderr}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) async fn back_up(&self, up: &Up, store: &Store, witness: &Witness) -> Backup {
        self.back_up_again(up, store, witness, 0).await
    }

    pub(crate) async fn back_up_again(&self, up: &Up, store: &Store, witness: &Witness, n: u32) -> Backup {
        let options = BackupOptions { recaptures: n, ..BackupOptions::default() };
        let backup = back_up(&self.site(up), store, &witness.token, &options).await.unwrap();
        eprintln!(
            "backed up in {:.1?}: hashes {:.1?}, restic {:.1?}; {:?}",
            backup.took, backup.manifest_took, backup.snapshot_took, backup.snapshot
        );
        backup
    }
}

/// A service that runs a line of shell, with volumes (`data:/data`) and labels.
pub(crate) fn service(line: &str, mounts: &[(&str, &str)], labels: &[(&str, &str)]) -> Service {
    let mount = |(volume, target): &(&str, &str)| Mount {
        source: MountSource::Volume { name: (*volume).to_owned(), nocopy: false },
        target: (*target).to_owned(),
        read_only: false,
    };
    let mut service = Service {
        image: Some(TOOLS.to_owned()),
        entrypoint: Some(["sh", "-c"].map(str::to_owned).to_vec()),
        command: Some(vec![line.to_owned()]),
        mounts: mounts.iter().map(mount).collect(),
        // A shell is the first process and does not care for SIGTERM.
        stop_grace_period: Some(Duration::from_secs(1)),
        ..Service::default()
    };
    let label = |(name, value): &(&str, &str)| (format!("backupbot.{name}"), (*value).to_owned());
    service.deploy.labels = labels.iter().map(label).collect();
    service
}

/// A stack of services, with every volume that they mount.
pub(crate) fn stack(services: impl IntoIterator<Item = (&'static str, Service)>) -> Compose {
    let mut compose = Compose::default();
    for (name, service) in services {
        for mount in &service.mounts {
            if let MountSource::Volume { name, .. } = &mount.source {
                compose.volumes.insert(name.clone(), Volume::default());
            }
        }
        compose.services.insert(name.to_owned(), service);
    }
    compose
}

/// Hooks as a line each.
pub(crate) fn told(hooks: &[HookRun]) -> Vec<String> {
    let line = |hook: &HookRun| format!("{} {:?} {:?}", hook.service, hook.moment, hook.exit_code);
    hooks.iter().map(line).collect()
}

/// A Debian with these packages, installed once and kept.
pub(crate) async fn debian(name: &str, packages: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let tree = place.join(format!("backup-tree-{name}"));
    // Tests are processes of their own.
    let lock = std::fs::File::create(place.join(format!("backup-tree-{name}.lock"))).unwrap();
    tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    if tree.exists() {
        return tree;
    }
    let part = place.join(format!("backup-tree-{name}.part"));
    Cmd::new("rm").arg("-rf").arg(&part).run_ok().await.unwrap();
    let without = [
        "/usr/share/doc/*",
        "/usr/share/man/*",
        "/usr/share/locale/*",
        "/usr/share/info/*",
        "/usr/lib/*/libLLVM*",
        "/usr/lib/llvm*",
        "/usr/lib/postgresql/15/lib/bitcode/*",
    ];
    Cmd::new("mmdebstrap")
        .args(["--variant=minbase", "--aptopt=APT::Install-Recommends \"false\""])
        .args(without.map(|path| format!("--dpkgopt=path-exclude={path}")))
        .arg(format!("--include={packages}"))
        .arg("bookworm")
        .arg(&part)
        .timeout(Duration::from_mins(9))
        .run_ok()
        .await
        .unwrap();
    std::fs::rename(&part, &tree).unwrap();
    tree
}

/// A root file system with a few programs and the libraries that they want.
async fn tools(root: &Path) {
    for folder in ["bin", "tmp", "etc", "proc", "sys", "dev"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    for program in PROGRAMS {
        let path = find_program(program).unwrap();
        std::fs::copy(&path, root.join("bin").join(program)).unwrap();
        let listed = Cmd::new("ldd").arg(&path).run_ok().await.unwrap();
        let listed = listed.stdout_text().into_owned();
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from) {
            let inside = root.join(library.strip_prefix("/").unwrap());
            std::fs::create_dir_all(inside.parent().unwrap()).unwrap();
            std::fs::copy(&library, inside).unwrap();
        }
    }
}
