//! `assay up` is two sides: one without privileges that has the secrets, one with privileges that has none.

use std::fs;
use std::path::{Path, PathBuf};

use assay_process::{Cmd, Output};
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::stack::{PROGRAM, folder, machines, namespace, take_down, text};

/// A user that every Debian has.
const USER: &str = "daemon";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_has_no_privileges_and_the_runner_no_secrets() {
    let up = Up::start().await;
    let (data, state) = (up.dir.path().join("data"), up.dir.path().join("data-runner"));

    let [serve, runner] = ["serve", "runner"].map(|side| child(up.daemon.pid(), side));
    let (of_serve, of_runner) = (status(serve), status(runner));
    let uid = one_value(&of_serve, "Uid");
    assert_ne!(uid, "0", "the control plane runs as root");
    assert_eq!(one_value(&of_runner, "Uid"), "0");
    assert_ne!(one_value(&of_serve, "Gid"), "0");
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(one_value(&of_serve, set), "0000000000000000", "{set} of the control plane");
    }
    assert_eq!(one_value(&of_serve, "NoNewPrivs"), "1");

    let own = list_as(&uid, &data).await;
    assert!(
        own.success() && own.stdout_text().contains("signing-key.pem"),
        "the control plane's own folder: {own:?}"
    );
    let other = list_as(&uid, &state).await;
    assert!(!other.success(), "the control plane can look into the runner's folder: {}", other.stdout_text());

    let files = files(&state);
    assert!(!files.is_empty(), "the runner keeps nothing at all");
    for file in files {
        let bytes = fs::read(&file).expect("read");
        assert!(!bytes.starts_with(b"SQLite format 3"), "{} is a database", file.display());
        for secret in ["PRIVATE KEY", kept(&data, "cli.token").trim(), kept(&data, "runner.token").trim()] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds a secret", file.display());
        }
    }
    let open: Vec<_> = open_files(runner).into_iter().filter(|path| path.starts_with(&data)).collect();
    assert!(open.is_empty(), "the runner has files of the control plane open: {open:?}");
    assert!(open_files(serve).iter().any(|path| path.starts_with(&data)), "this would be seen");
}

/// `assay up`, taken down when dropped.
struct Up {
    daemon: Daemon,
    netns: String,
    dir: TempDir,
}

impl Up {
    async fn start() -> Self {
        assert!(rustix::process::geteuid().is_root(), "a runner needs root: run these tests with sudo");
        let dir = folder();
        let netns = namespace(dir.path());
        // The control plane's user may not be let into the folder that the program was built in.
        let program = dir.path().join("assay");
        fs::copy(PROGRAM, &program).expect("copied");
        let command = Cmd::new(program.as_os_str())
            .args(["up", "--user", USER, "--listen", "127.0.0.1:0", "--lab-netns", &netns, "--lab"])
            .arg(machines())
            .arg("--data")
            .arg(dir.path().join("data"));
        let mut up = Self { daemon: Daemon::new("stack", command, "ready: waiting for runs"), netns, dir };
        up.daemon.start().await;
        up
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let cleaned =
            take_down(&mut [&mut self.daemon], &self.dir.path().join("data-runner/lab"), &self.netns);
        assert!(failed || cleaned, "the test left something behind");
    }
}

/// The child of `parent` that runs this side.
fn child(parent: u32, side: &str) -> u32 {
    let pids = fs::read_dir("/proc")
        .expect("listed")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it = |pid: &u32| {
        let ours = fs::read_to_string(format!("/proc/{pid}/status"));
        let ours = ours.is_ok_and(|status| one_value(&status, "PPid") == parent.to_string());
        let said = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        ours && said.split(|byte| *byte == 0).nth(1) == Some(side.as_bytes())
    };
    pids.into_iter().find(is_it).unwrap_or_else(|| panic!("process {parent} has no child `{side}`"))
}

fn status(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs")
}

/// The value of a line of `/proc/PID/status`; where it has four (real, effective, saved, file system), they agree.
fn one_value(status: &str, name: &str) -> String {
    let values = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let mut values: Vec<_> =
        values.unwrap_or_else(|| panic!("no {name}: {status}")).split_whitespace().collect();
    values.dedup();
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values[0].to_owned()
}

/// `ls` by somebody else.
async fn list_as(uid: &str, path: &Path) -> Output {
    let command = Cmd::new("setpriv").args([
        "--reuid",
        uid,
        "--clear-groups",
        "--regid",
        uid,
        "--",
        "ls",
        "-A",
        &text(path),
    ]);
    command.run().await.expect("it runs")
}

fn kept(data: &Path, name: &str) -> String {
    fs::read_to_string(data.join(name)).expect("read")
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("listed").flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// What a process has open.
fn open_files(pid: u32) -> Vec<PathBuf> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}
