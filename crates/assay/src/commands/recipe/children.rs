//! Runs of `assay recipe test` by a program that is named: this build or another one. What `assay ab` and `assay sweep` are made of.
//!
//! A build under comparison is a process of its own and is known by its file's digest: nothing of this program's is in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use assay_model::text;
use assay_pipelines::recipe::over_time::{Results, SCHEMA};
use assay_process::{Cmd, Stream};
use clap::Args;
use tokio::sync::watch;

/// How long a run may take to put away what it made, once it is told to stop.
const PUT_AWAY: Duration = Duration::from_mins(3);
/// Lines of what a run said that are kept to explain it.
const WORDS: usize = 12;
/// Largest file of results that is read.
const LARGEST: u64 = 16 << 20;

/// What is handed on to every run.
#[derive(Args, Clone, Debug)]
pub(crate) struct Asked {
    /// A folder with images as archives (`docker save`); may be given more than once.
    #[arg(long, value_name = "FOLDER", env = "ASSAY_IMAGES", value_delimiter = ':')]
    images: Vec<PathBuf>,
    /// The folder with its tests and assay.toml [default: `tests` in the recipe]
    #[arg(long, value_name = "FOLDER")]
    tests: Option<PathBuf>,
    /// Only install it and run its tests: no upgrade, no backup.
    #[arg(long)]
    quick: bool,
    /// Only these stages; Install and Teardown are always done.
    #[arg(long, value_name = "STAGE,…", value_delimiter = ',')]
    stages: Vec<String>,
    /// What the recipe may reach outside of its containers (TOML).
    #[arg(long, value_name = "TOML")]
    allow: Option<PathBuf>,
    /// At most so many runs at once [default: half of the processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: Option<u16>,
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    /// The build of Assay.
    pub(crate) program: PathBuf,
    /// The recipe's folder.
    pub(crate) folder: PathBuf,
    /// The commit; the folder as it is without one.
    pub(crate) commit: Option<String>,
    /// What chance is drawn from.
    pub(crate) seed: u32,
    /// Where everything of it is kept.
    pub(crate) out: PathBuf,
}

impl Asked {
    /// How much is done at once.
    pub(crate) fn at_once(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.jobs.map_or((processors / 2).max(1), usize::from)
    }

    fn command(&self, child: &Child) -> Cmd {
        let mut cmd = Cmd::new(&child.program).args(["recipe", "test"]).arg(&child.folder);
        cmd = cmd.arg("--out").arg(&child.out).arg("--seed").arg(child.seed.to_string());
        if let Some(commit) = &child.commit {
            cmd = cmd.arg("--commit").arg(commit);
        }
        for images in &self.images {
            cmd = cmd.arg("--images").arg(images);
        }
        if let Some(tests) = &self.tests {
            cmd = cmd.arg("--tests").arg(tests);
        }
        if self.quick {
            cmd = cmd.arg("--quick");
        }
        if !self.stages.is_empty() {
            cmd = cmd.arg("--stages").arg(self.stages.join(","));
        }
        if let Some(allow) = &self.allow {
            cmd = cmd.arg("--allow").arg(allow);
        }
        cmd
    }

    /// Runs it to its end. The inner error says why there are no results: that is the run's, not ours.
    ///
    /// Told to stop, it lets the run put away what it made: a daemon, a stack.
    pub(crate) async fn run(
        &self,
        child: &Child,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Result<Results, String>> {
        let results = child.out.join("results.json");
        std::fs::create_dir_all(&child.out).with_context(|| child.out.display().to_string())?;
        // What an earlier run left there is not this one's.
        match std::fs::remove_file(&results) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| results.display().to_string());
            }
            _ => {}
        }
        let mut running = self.command(child).spawn().await?;
        let mut words: Vec<String> = Vec::new();
        loop {
            tokio::select! {
                line = running.next_line() => match line {
                    Some(line) if line.stream == Stream::Stderr => {
                        words.push(text::clean_to(&line.text, 300));
                        if words.len() > WORDS {
                            words.remove(0);
                        }
                    }
                    Some(_) => {}
                    None => break,
                },
                () = told(stop) => {
                    running.stop(PUT_AWAY).await?;
                    return Ok(Err("stopped before its end".to_owned()));
                }
            }
        }
        let status = running.wait().await?;
        std::fs::write(child.out.join("said.txt"), words.join("\n"))
            .with_context(|| child.out.display().to_string())?;
        let why = |problem: String| {
            format!("{problem} ({status}); it said: {}", words.last().map_or("nothing", String::as_str))
        };
        Ok(read(&results).map_err(why))
    }
}

/// Resolves when runs are to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody is left who could say so.
        std::future::pending::<()>().await;
    }
}

/// Reads results that any build may have written.
fn read(path: &Path) -> Result<Results, String> {
    let size = std::fs::metadata(path).map_err(|_| {
        "no results.json: the run did not come to an end, or this build is from before it".to_owned()
    })?;
    if size.len() > LARGEST {
        return Err(format!("{} is larger than {LARGEST} bytes", path.display()));
    }
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let schema = value["schema"].as_u64();
    if schema != Some(u64::from(SCHEMA)) {
        return Err(format!("its results have schema version {schema:?}, and this Assay compares {SCHEMA}"));
    }
    serde_json::from_value(value).map_err(|error| format!("{}: {error}", path.display()))
}
