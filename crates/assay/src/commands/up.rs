//! `assay up`: control plane and runner on one machine, by one command.
//!
//! The two stay two: the control plane runs as a user of its own and holds keys and data, the
//! runner runs as root and holds neither. If one of them ends, the other is stopped too.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use assay_process::{Child, Cmd, Line};
use clap::Args;

use crate::commands::told_to_stop;
use crate::exit::Exit;
use crate::{place, ui};

/// How long the control plane may take to be ready.
const READY: Duration = Duration::from_secs(30);
/// How long either side may take to stop.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Args, Clone, Debug)]
pub(crate) struct Up {
    /// Where everything is kept.
    #[arg(long, env = "ASSAY_DATA", default_value_os_t = place::default_data())]
    pub(crate) data: PathBuf,
    /// Serve simulated machines: a folder with machine files.
    #[arg(long, conflicts_with = "interface")]
    pub(crate) lab: Option<PathBuf>,
    /// The lab's network namespace.
    #[arg(long, default_value = "assay-lab", requires = "lab")]
    pub(crate) lab_netns: String,
    /// The network interface of the provisioning network; it must belong to Assay alone.
    #[arg(long, requires = "address")]
    pub(crate) interface: Option<String>,
    /// Our address on it, with its prefix: 10.77.0.1/24.
    #[arg(long)]
    pub(crate) address: Option<String>,
    /// Another DHCP server gives addresses on that network: only say to machines with an open run what to boot.
    #[arg(long, requires = "interface")]
    pub(crate) proxy_dhcp: bool,
    /// The folder with the live image [default: `live-image` in the data folder].
    #[arg(long, env = "ASSAY_LIVE_IMAGE")]
    pub(crate) live_image: Option<PathBuf>,
    /// The control plane's user; made when it is missing.
    #[arg(long, default_value = "assay")]
    pub(crate) user: String,
    /// Where operators are served.
    #[arg(long, default_value = "127.0.0.1:7300")]
    pub(crate) listen: std::net::SocketAddr,
    /// More for `assay serve`: `--serve-arg=--webhook=https://…`; may be given more than once.
    #[arg(long)]
    pub(crate) serve_arg: Vec<String>,
    /// The runner's room for runs: netboot=N machines under test at once [default: 16], mem_mib=N, cpu=N, io=N; may
    /// be given more than once.
    #[arg(long, value_name = "POOL=N")]
    pub(crate) capacity: Vec<assay_runner::Slots>,
    /// Where the two sides' words go; to our own stderr without it.
    #[arg(skip)]
    pub(crate) log: Option<PathBuf>,
}

/// Both sides, running.
pub(crate) struct Stack {
    serve: Child,
    runner: Child,
}

impl Up {
    pub(crate) async fn run(self) -> Result<Exit> {
        let mut stack = Stack::start(&self).await?;
        ui::say("ready; stop with Ctrl-C");
        let why = tokio::select! {
            () = told_to_stop() => None,
            who = stack.ended() => Some(who),
        };
        stack.stop().await;
        match why {
            None => Ok(Exit::Ok),
            Some(who) => bail!("the {who} ended by itself; its last words stand above"),
        }
    }
}

impl Stack {
    /// Starts both and returns when the control plane serves.
    pub(crate) async fn start(up: &Up) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!(
                "`assay up` needs root for the runner; start `assay serve` as yourself and `assay runner` as root, or use sudo"
            );
        }
        assay_runner::capacity(&up.capacity).context("--capacity")?;
        let program = std::env::current_exe().context("finding this program")?;
        let (uid, gid) = ensure_user(&up.user).await?;
        own(&up.data, uid, gid)?;
        let image = up.live_image.clone().unwrap_or_else(|| up.data.join("live-image"));

        let mut serve = as_user(&up.user)
            .arg(&program)
            .args(["serve", "--listen", &up.listen.to_string(), "--boot-listen", "127.0.0.1:0"])
            .args(["--agent-listen", "127.0.0.1:0"])
            .arg("--data")
            .arg(&up.data)
            .arg("--live-image")
            .arg(&image)
            .args(up.serve_arg.iter().map(String::as_str))
            .spawn()
            .await?;
        let talk = Talk::open(up.log.as_deref())?;
        if let Err(problem) = ready(&mut serve, &talk).await {
            let _ = serve.stop(GRACE).await;
            return Err(problem);
        }
        echo(&mut serve, "serve ", &talk);

        let mut runner = dying_with_us();
        runner = runner.arg(&program).args(["runner", "--data"]).arg(&up.data);
        runner = runner.arg("--state").arg(runner_state(&up.data));
        if let Some(lab) = &up.lab {
            runner = runner.arg("--lab").arg(lab).args(["--lab-netns", &up.lab_netns]);
        }
        if let (Some(interface), Some(address)) = (&up.interface, &up.address) {
            runner = runner.args(["--interface", interface, "--address", address]);
            if up.proxy_dhcp {
                runner = runner.arg("--proxy-dhcp");
            }
        }
        for assay_runner::Slots { pool, slots } in &up.capacity {
            runner = runner.arg("--capacity").arg(format!("{pool}={slots}"));
        }
        let mut runner = runner.spawn().await?;
        echo(&mut runner, "runner", &talk);
        Ok(Self { serve, runner })
    }

    /// Resolves with the name of the side that ends by itself.
    pub(crate) async fn ended(&mut self) -> &'static str {
        tokio::select! {
            _ = self.serve.wait_beside_lines() => "control plane",
            _ = self.runner.wait_beside_lines() => "runner",
        }
    }

    /// Stops both, the runner first: it still has something to tell.
    pub(crate) async fn stop(mut self) {
        for child in [&mut self.runner, &mut self.serve] {
            if let Err(problem) = child.stop(GRACE).await {
                ui::say(&format!("stopping: {problem}"));
            }
        }
    }
}

/// The runner's folder beside a data folder: the control plane cannot write to it.
pub(crate) fn runner_state(data: &Path) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push("-runner");
    data.with_file_name(name)
}

/// A child that gets SIGTERM when we die without a word.
fn dying_with_us() -> Cmd {
    Cmd::new("setpriv").args(["--pdeathsig", "TERM", "--"])
}

fn as_user(user: &str) -> Cmd {
    Cmd::new("setpriv").args([
        "--pdeathsig",
        "TERM",
        "--reuid",
        user,
        "--regid",
        user,
        "--clear-groups",
        "--no-new-privs",
        "--",
    ])
}

/// Waits for the line that says that the control plane serves.
async fn ready(serve: &mut Child, talk: &Talk) -> Result<()> {
    let wait = async {
        while let Some(Line { text, .. }) = serve.next_line().await {
            talk.say(&format!("serve   {text}"));
            if text.starts_with("ready ") {
                return Ok(());
            }
        }
        bail!("the control plane did not start; its words stand above")
    };
    tokio::time::timeout(READY, wait).await.context("the control plane was not ready in time")?
}

fn echo(child: &mut Child, who: &'static str, talk: &Talk) {
    let Some(mut lines) = child.take_lines() else { return };
    let talk = talk.clone();
    tokio::spawn(async move {
        while let Some(Line { text, .. }) = lines.recv().await {
            talk.say(&format!("{who}  {text}"));
        }
    });
}

/// Where the two sides' words go.
#[derive(Clone)]
struct Talk(Option<Arc<File>>);

impl Talk {
    fn open(log: Option<&Path>) -> Result<Self> {
        let Some(path) = log else { return Ok(Self(None)) };
        let file = File::options().create(true).append(true).open(path);
        Ok(Self(Some(Arc::new(file.with_context(|| path.display().to_string())?))))
    }

    fn say(&self, line: &str) {
        match &self.0 {
            None => ui::say(line),
            // A log that cannot be written is no reason to stop the two.
            Some(log) => drop(writeln!(&**log, "{line}")),
        }
    }
}

/// The control plane's user, made when missing.
async fn ensure_user(user: &str) -> Result<(u32, u32)> {
    if Cmd::new("id").args(["-u", user]).run().await?.success() {
        return ids(user).await;
    }
    Cmd::new("useradd")
        .args([
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/usr/sbin/nologin",
            user,
        ])
        .run_ok()
        .await
        .with_context(|| format!("making the user `{user}` for the control plane"))?;
    ids(user).await
}

async fn ids(user: &str) -> Result<(u32, u32)> {
    let id = async |flag: &str| -> Result<u32> {
        Ok(Cmd::new("id").args([flag, user]).run_ok().await?.stdout_text().trim().parse()?)
    };
    Ok((id("-u").await?, id("-g").await?))
}

/// Makes the data folder, private to the control plane. Only the folder itself changes hands:
/// what is in it was made by its owner.
fn own(data: &Path, uid: u32, gid: u32) -> Result<()> {
    std::fs::create_dir_all(data).with_context(|| data.display().to_string())?;
    chown(data, Some(uid), Some(gid)).with_context(|| data.display().to_string())?;
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(data, private).with_context(|| data.display().to_string())
}
