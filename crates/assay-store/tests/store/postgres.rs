//! A real PostgreSQL for one test run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_process::Cmd;
use sea_orm::{ConnectionTrait as _, Database};

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A cluster in a temporary folder; no TCP port, so nothing else can meet it.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        // Short: a Unix socket's path has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").expect("a folder");
        if is_root() {
            Cmd::new("chown").arg("postgres").arg(folder.path()).run_ok().await.expect("given to postgres");
        }
        let cluster = Self { folder };
        let data = cluster.data().display().to_string();
        let initdb =
            as_postgres("initdb").args(["-D", data.as_str(), "-U", "postgres", "--auth=trust", "-N"]);
        initdb.args(["-E", "UTF8", "--locale=C.UTF-8"]).run_ok().await.expect("initdb");
        let options = format!(
            "-k {} -c listen_addresses='' -c fsync=off -c max_connections=60",
            cluster.path().display()
        );
        let log = cluster.path().join("log").display().to_string();
        let start =
            as_postgres("pg_ctl").args(["-D", data.as_str(), "-l", &log, "-o", &options, "-w", "start"]);
        start.timeout(Duration::from_mins(1)).run_ok().await.expect("postgres starts");
        cluster
    }

    /// A new database; returns its URL.
    pub(crate) async fn database(&self, name: &str) -> String {
        let admin = Database::connect(self.url("postgres")).await.expect("connects");
        admin.execute_unprepared(&format!("CREATE DATABASE \"{name}\"")).await.expect("created");
        admin.close().await.expect("closes");
        self.url(name)
    }

    pub(crate) async fn stop(self) {
        self.pg_ctl_stop().run_ok().await.expect("postgres stops");
        if is_root() {
            Cmd::new("chown").args(["-R", "root"]).arg(self.path()).run_ok().await.expect("taken back");
        }
    }

    fn url(&self, database: &str) -> String {
        let socket = self.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{socket}/{database}")
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn pg_ctl_stop(&self) -> Cmd {
        as_postgres("pg_ctl").arg("-D").arg(self.data()).args(["-m", "immediate", "-w", "stop"])
    }
}

impl Drop for Cluster {
    /// A failed scenario must not leave a server behind.
    fn drop(&mut self) {
        if !self.data().join("postmaster.pid").exists() {
            return;
        }
        let stop = self.pg_ctl_stop();
        let stopped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|r| r.block_on(stop.run_ok()))
        });
        if !matches!(stopped.join(), Ok(Ok(Ok(_)))) {
            eprintln!("the test's PostgreSQL in {} was not stopped", self.path().display());
        }
    }
}

/// PostgreSQL refuses to run as root.
fn as_postgres(tool: &str) -> Cmd {
    let tool = format!("{BIN}/{tool}");
    let cmd =
        if is_root() { Cmd::new("runuser").args(["-u", "postgres", "--"]).arg(tool) } else { Cmd::new(tool) };
    cmd.cwd("/").timeout(Duration::from_mins(2))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
