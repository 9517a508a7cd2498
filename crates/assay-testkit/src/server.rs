//! The real `assay serve` in a process of its own, to be killed and started again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_process::{Child, Cmd, Signal};
use tokio::sync::watch;

use crate::{Api, PATIENCE};

/// The ports that one server keeps over all its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// For operators and runners.
    pub operators: u16,
    /// For firmware.
    pub boot: u16,
    /// For agents.
    pub agents: u16,
}

/// Three free ports below the range from which the system takes the ports of outgoing connections:
/// while a server is dead, nobody must get one of its ports by chance.
pub fn free_ports() -> Ports {
    let mut held = Vec::new();
    // A UUIDv7's last bytes are random, and tests run beside each other.
    let seed = uuid::Uuid::now_v7().as_u128();
    for step in 0_u128..4000 {
        let port = 12_000 + u16::try_from((seed.wrapping_add(step * 7)) % 20_000).expect("below 20000");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
        if let [(operators, _), (boot, _), (agents, _)] = held.as_slice() {
            return Ports { operators: *operators, boot: *boot, agents: *agents };
        }
    }
    panic!("no three local ports are free");
}

/// A server with its data folder, its ports and its arguments; running or not.
pub struct ServerProcess {
    /// Where it listens.
    pub ports: Ports,
    /// Its data folder.
    pub data: PathBuf,
    program: PathBuf,
    args: Vec<String>,
    child: Option<Child>,
    said: Arc<Mutex<Vec<String>>>,
}

impl ServerProcess {
    /// A server that is not started yet. `program` is the `assay` binary.
    pub fn new(program: impl Into<PathBuf>, data: impl Into<PathBuf>, ports: Ports) -> Self {
        let (program, data) = (program.into(), data.into());
        let args = vec![
            "serve".to_owned(),
            "--data".to_owned(),
            data.display().to_string(),
            "--listen".to_owned(),
            format!("127.0.0.1:{}", ports.operators),
            "--boot-listen".to_owned(),
            format!("127.0.0.1:{}", ports.boot),
            "--agent-listen".to_owned(),
            format!("127.0.0.1:{}", ports.agents),
            "--agent-port".to_owned(),
            ports.agents.to_string(),
        ];
        Self { ports, data, program, args, child: None, said: Arc::default() }
    }

    /// Adds arguments for every start from now on.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Tells agents to come by another port: a proxy's.
    #[must_use]
    pub fn agents_come_by(mut self, port: u16) -> Self {
        let name = self.args.iter().position(|arg| arg == "--agent-port").expect("always there");
        self.args[name + 1] = port.to_string();
        self
    }

    /// Puts a live image there that firmware can be sent to; its files are empty, since the fake
    /// machines run the agent without a kernel.
    pub fn fake_live_image(&self) {
        let dir = self.data.join("live-image");
        std::fs::create_dir_all(&dir).expect("a folder");
        let names = ["vmlinuz", "base.initrd", "agent.initrd"];
        let files: Vec<_> = names.iter().map(|name| serde_json::json!({ "name": name })).collect();
        for name in names {
            std::fs::write(dir.join(name), name).expect("written");
        }
        let manifest = serde_json::json!({ "format": 1, "files": files });
        std::fs::write(dir.join("manifest.json"), manifest.to_string()).expect("written");
    }

    /// Starts it and waits until it says that it is ready. It may die before: then this is its end.
    pub async fn try_start(&mut self, env: &[(&str, &str)]) -> Result<(), ExitStatus> {
        assert!(self.child.is_none(), "it runs already");
        let mut command =
            Cmd::new(self.program.as_os_str()).args(self.args.clone()).env("RUST_BACKTRACE", "1");
        for (name, value) in env {
            command = command.env(*name, *value);
        }
        let mut child = command.spawn().await.expect("the server's program starts");
        let (ready, mut when_ready) = watch::channel(false);
        let mut lines = child.take_lines().expect("nobody has them");
        let said = Arc::clone(&self.said);
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                if line.text.starts_with("ready ") {
                    ready.send_replace(true);
                }
                said.lock().unwrap_or_else(PoisonError::into_inner).push(line.text);
            }
        });
        let started = tokio::time::timeout(PATIENCE, when_ready.wait_for(|ready| *ready)).await;
        let Ok(started) = started else {
            panic!("the server is not ready after {} s: {:#?}", PATIENCE.as_secs(), self.said())
        };
        if started.is_err() {
            // Its output has ended without the word.
            return Err(child.wait_beside_lines().await.expect("its end is seen"));
        }
        self.child = Some(child);
        Ok(())
    }

    /// Starts it; it must come up.
    pub async fn start(&mut self, env: &[(&str, &str)]) {
        if let Err(status) = self.try_start(env).await {
            panic!("the server ended at once ({status}): {:#?}", self.said());
        }
    }

    /// Kills it with SIGKILL, as a power cut would.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.signal(Signal::KILL).expect("it can be killed");
        child.wait_beside_lines().await.expect("its end is seen");
    }

    /// Resolves when it has died by itself. Safe to cancel.
    pub async fn died(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = child.wait_beside_lines().await.expect("its end is seen");
        self.child = None;
        status
    }

    /// Stops it in good order.
    pub async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.stop(Duration::from_secs(10)).await.expect("it stops");
        }
    }

    /// Everything that it said on stdout and stderr, over all its lives.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").pid()
    }

    /// The memory that it has touched at most, in KiB, as the kernel counts it.
    pub fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts");
        line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
    }

    /// Where operators are served.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.operators)
    }

    /// A client with the command line's token.
    pub fn api(&self) -> Api {
        Api::new(&self.url(), Some(&self.cli_token()))
    }

    /// The command line's token.
    pub fn cli_token(&self) -> String {
        token(&self.data, "cli")
    }

    /// The runners' join token.
    pub fn join_token(&self) -> String {
        token(&self.data, "runner")
    }

    /// The URL of its database.
    pub fn database(&self) -> String {
        format!("sqlite://{}/assay.db", self.data.display())
    }
}

fn token(data: &Path, name: &str) -> String {
    let path = data.join(format!("{name}.token"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}
