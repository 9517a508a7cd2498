//! The agent's command line: the real machine by default, a captured one for tests and simulations.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use assay_agent::{Agent, BootSettings, Bounds, ExitReason, MachineCollector, Pacing, Settings};
use assay_model::{Clock, Micros};
use assay_probes::Machine;
use assay_probes::stress::memory;

const USAGE: &str = "\
assay-agent: collects evidence on the machine under test and delivers it to the control plane

  --root DIR             read this captured machine instead of the one it runs on
  --tools DIR            look for tools in this folder only (with --root)
  --cmdline FILE         the kernel command line       [/proc/cmdline]
  --spool DIR            undelivered items             [/var/spool/assay]
  --run-dir DIR          the credential; on a tmpfs    [/run/assay]
  --poweroff-command C   what switches off, split at spaces; empty for none [systemctl poweroff]
  --memory-test ORDER    test memory and say what comes of it; started by the agent itself
  --version, --help

Exit codes: 0 the machine goes off; 1 failed, start again; 2 wrong use; 3 refused or replaced, do not start again.";

/// Wrong options, or a kernel command line without what is needed.
const WRONG_USE: u8 = 2;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Print(text)) => {
            return if writeln!(std::io::stdout(), "{text}").is_ok() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
        // A process of its own, so that the kernel takes memory away from it and not from the agent.
        Ok(Asked::MemoryTest(order)) => {
            return ExitCode::from(memory::child(&order, &Mutex::new(std::io::stdout())));
        }
        Err(problem) => {
            say(&format!("assay: {problem}\n{USAGE}"));
            return ExitCode::from(WRONG_USE);
        }
    };
    // Without a time: the machine's own is not to be trusted, and the journal has one.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .without_time()
        .init();
    let settings = match options.settings() {
        Ok(settings) => settings,
        Err(problem) => {
            say(&format!("assay: {problem}"));
            return ExitCode::from(WRONG_USE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("assay: no threads to run on: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let collector = Arc::new(MachineCollector::new(options.machine()));
    let reason = runtime.block_on(Agent::run(settings, collector));
    // A sensor that hangs in the kernel must not keep the agent.
    runtime.shutdown_background();
    if reason != ExitReason::AlreadyEnded {
        tracing::debug!(?reason, "the agent ends");
    }
    ExitCode::from(reason.code())
}

/// What the command line asks for.
enum Asked {
    Run(Options),
    Print(String),
    MemoryTest(String),
}

struct Options {
    root: Option<PathBuf>,
    tools: Option<PathBuf>,
    cmdline: PathBuf,
    spool: PathBuf,
    run_dir: PathBuf,
    poweroff: Vec<String>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
        let mut options = Self {
            root: None,
            tools: None,
            cmdline: "/proc/cmdline".into(),
            spool: "/var/spool/assay".into(),
            run_dir: "/run/assay".into(),
            poweroff: vec!["systemctl".to_owned(), "poweroff".to_owned()],
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--help" | "-h" => return Ok(Asked::Print(USAGE.to_owned())),
                "--version" | "-V" => {
                    return Ok(Asked::Print(concat!("assay-agent ", env!("CARGO_PKG_VERSION")).to_owned()));
                }
                memory::OPTION => return Ok(Asked::MemoryTest(value()?)),
                "--root" => options.root = Some(value()?.into()),
                "--tools" => options.tools = Some(value()?.into()),
                "--cmdline" => options.cmdline = value()?.into(),
                "--spool" => options.spool = value()?.into(),
                "--run-dir" => options.run_dir = value()?.into(),
                "--poweroff-command" => {
                    options.poweroff = value()?.split_whitespace().map(str::to_owned).collect();
                }
                _ => return Err(format!("`{arg}` is not an option")),
            }
        }
        if options.tools.is_some() && options.root.is_none() {
            return Err("--tools is for a captured machine: give --root as well".to_owned());
        }
        Ok(Asked::Run(options))
    }

    fn machine(&self) -> Machine {
        match &self.root {
            Some(root) => Machine::captured(root, self.tools.clone()),
            None => Machine::this(),
        }
    }

    fn settings(&self) -> Result<Settings, String> {
        let cmdline = std::fs::read_to_string(&self.cmdline)
            .map_err(|error| format!("{} cannot be read: {error}", self.cmdline.display()))?;
        let kmsg = self.machine().path("dev/kmsg");
        Ok(Settings {
            boot: BootSettings::from_cmdline(&cmdline).map_err(|error| error.to_string())?,
            spool: Some(self.spool.clone()),
            run_dir: Some(self.run_dir.clone()),
            kmsg: (self.root.is_none() || kmsg.exists()).then_some(kmsg),
            poweroff: self.poweroff.clone(),
            machine_clock: Arc::new(MachineClock),
            console: Arc::new(say),
            pacing: Pacing::default(),
            bounds: Bounds::default(),
        })
    }
}

/// The machine's own clock, which may be decades off.
struct MachineClock;

impl Clock for MachineClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this clock is told to the control plane, which compares it"
    )]
    fn now(&self) -> Micros {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }
}

/// For people. A console that is gone is no reason to stop.
fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}
