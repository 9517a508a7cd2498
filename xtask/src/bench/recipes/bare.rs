//! What Assay costs beside what an operator types: `docker stack deploy` and a loop until the app is healthy and answers, in the
//! same daemon, with the same files and images.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Bench;
use crate::bench::{Figure, Goal, median};

/// Seconds over the bare way, from typing the command to the verdict about Install.
const OVERHEAD_S: f64 = 10.0;
/// How often a health loop asks.
const ASKS: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_mins(2);

pub(super) fn measure(bench: &Bench, rounds: usize) -> Result<Figure> {
    let (mut overhead, mut ours, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (assay, docker) = round(bench)?;
        overhead.push(assay - docker);
        ours.push(assay);
        bare.push(docker);
    }
    let (value, ours, bare) = (median(overhead), median(ours), median(bare));
    let goal = Goal::AtMost(OVERHEAD_S);
    Ok(Figure {
        name: "from the command to an installed recipe, over a bare deployment".to_owned(),
        value,
        unit: "s",
        peer: Some("docker stack deploy and a health loop, in the same daemon"),
        peer_value: Some(bare),
        ratio: Some(ours / bare),
        goal,
        ok: goal.is_met(value, None),
        command: String::new(),
        note: format!(
            "median of {rounds}; {ours:.1} s in all, with control plane, daemon, images, lint and the wait for stability"
        ),
    })
}

/// One installation by Assay, left up, and one beside it by hand: seconds of both.
fn round(bench: &Bench) -> Result<(f64, f64)> {
    let mut test = bench.command("static-site", "bare-out", &["--quick", "--keep"])?;
    let began = Instant::now();
    let mut child = test.spawn().context("cannot start assay")?;
    let lines = BufReader::new(child.stderr.take().context("its lines are not piped")?);
    let told = watched(lines, began).and_then(|(seconds, socket)| Ok((seconds, by_hand(bench, &socket)?)));
    let ended = end(&mut child);
    told.and_then(|seconds| ended.map(|()| seconds))
}

/// Reads what the command says until the stack is left up: when Install was judged, and where the daemon listens.
fn watched(lines: BufReader<ChildStderr>, began: Instant) -> Result<(f64, String)> {
    let (mut installed, mut socket, mut said) = (None, None, String::new());
    for line in lines.lines() {
        let line = line.context("what assay says")?;
        if line.contains("Install: pass") {
            installed = Some(began.elapsed().as_secs_f64());
        }
        if let Some((_, rest)) = line.split_once("docker -H unix://") {
            socket = rest.split_whitespace().next().map(str::to_owned);
        }
        if line.contains("the stack is up") {
            break;
        }
        said += &line;
        said.push('\n');
    }
    match (installed, socket) {
        (Some(installed), Some(socket)) => Ok((installed, socket)),
        _ => bail!("the stack was not left up:\n{said}"),
    }
}

/// What an operator does: deploys the same files under another name, and asks until it is healthy.
fn by_hand(bench: &Bench, socket: &str) -> Result<f64> {
    let host = format!("unix://{socket}");
    let docker = |arguments: &[&str]| {
        let mut docker = Command::new("docker");
        docker.args(["-H", &host]).args(arguments).stdin(Stdio::null());
        // What abra would export of the files.
        docker.envs([
            ("STACK_NAME", "bare"),
            ("DOMAIN", "bare.test"),
            ("EXTRA_DOMAINS", ""),
            ("LETS_ENCRYPT_ENV", ""),
        ]);
        docker.env("HTTPD_CONF_VERSION", "v1");
        docker
    };
    let files = bench.checkout("static-site")?.join("compose.yml");
    let began = Instant::now();
    let deployed = docker(&["stack", "deploy", "--compose-file"]).arg(files).arg("bare").output()?;
    if !deployed.status.success() {
        bail!("docker stack deploy: {}", String::from_utf8_lossy(&deployed.stderr));
    }
    let running = ["ps", "--filter", "label=com.docker.stack.namespace=bare", "--format", "{{.Status}}"];
    while began.elapsed() < LIMIT {
        let said = docker(&running).output()?;
        if String::from_utf8_lossy(&said.stdout).contains("(healthy)") {
            return Ok(began.elapsed().as_secs_f64());
        }
        std::thread::sleep(ASKS);
    }
    bail!("the bare stack was not healthy within {LIMIT:?}")
}

/// Ctrl-C, and the end: nobody reads its lines any more, and they are few.
fn end(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_none() {
        kill_process(Pid::from_child(child), Signal::INT)?;
    }
    child.wait()?;
    Ok(())
}
