//! A thousand machines at once against one real `assay serve`, over TLS and HTTP on this machine.
//!
//! Run by `cargo xtask bench --only agents`, which knows the goals. Every machine is registered, booted and enrolled
//! as a real one is; from then on it beats every 5 s, sends a reading of twelve sensors every 5 s and asks what to
//! do, at the agent's own pace. Half of them are held for an operator (their questions stay open), half are in the
//! middle of a stage. In between, each machine asks for a page that is not there: what TLS, HTTP and this very
//! machine cost, in the same seconds. Load and server share the processors.
//!
//! What is counted as stored is read from the database after the server has stopped. A silent machine is one that is
//! cut off in the middle of everything; it counts as shown when its run's live stream says so.
//!
//! Prints one JSON object on stdout, latencies in milliseconds.

mod machine;
mod runner;

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use assay_api::operator::RunSummary;
use assay_model::Mac;
use assay_store::Store;
use assay_testkit::{Api, ServerProcess, canned, free_ports};
use futures::StreamExt as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::machine::{Machine, Sent, marked};
use crate::runner::Runner;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How long all machines together may take to be where they stay.
const SETTLE: Duration = Duration::from_mins(8);
/// Load before anything is measured.
const WARM_UP: Duration = Duration::from_secs(15);
/// How many machines fall silent.
const SILENT: usize = 10;
/// Longer than a silent machine may take to be shown.
const PATIENCE: Duration = Duration::from_mins(1);

/// What was asked, as far as its speed is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A heartbeat.
    Beat,
    /// A batch of readings; answered when it is committed.
    Sensors,
    /// What to do, answered at once.
    Next,
    /// A page that is not there.
    Nothing,
}

/// What all machines share.
struct Fleet {
    api: Api,
    /// For what has to be followed, or asked for often.
    http: reqwest::Client,
    operators_url: String,
    token: String,
    boot_url: String,
    measuring: AtomicBool,
    latencies: Mutex<Vec<(What, f64)>>,
    failed: AtomicUsize,
    /// Machines that are where they stay.
    settled: watch::Sender<usize>,
    /// No new readings from now on; those taken are still delivered.
    ending: watch::Sender<bool>,
}

impl Fleet {
    fn note(&self, what: What, took: Duration) {
        if self.measuring.load(Ordering::Relaxed) {
            let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
            latencies.push((what, took.as_secs_f64() * 1000.0));
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let usage = "say which assay, in which folder, how many machines, and how many seconds";
    let program = PathBuf::from(args.next().ok_or(usage)?);
    let folder = PathBuf::from(args.next().ok_or(usage)?);
    let mut number = || args.next().and_then(|n| n.into_string().ok()?.parse::<usize>().ok()).ok_or(usage);
    let (count, seconds) = (number()?, number()?);
    open_files_allowed()?;

    let ports = free_ports();
    let mut server = ServerProcess::new(program, folder.join("data"), ports)
        .args(["--operator-password", "correct horse battery staple"]);
    server.fake_live_image();
    server.start(&[]).await;
    let fleet = Arc::new(Fleet {
        api: server.api(),
        http: reqwest::Client::builder().no_proxy().build()?,
        operators_url: server.url(),
        token: server.cli_token(),
        boot_url: format!("http://127.0.0.1:{}", ports.boot),
        measuring: AtomicBool::new(false),
        latencies: Mutex::default(),
        failed: AtomicUsize::new(0),
        settled: watch::Sender::new(0),
        ending: watch::Sender::new(false),
    });

    let begun = Instant::now();
    register(&fleet, count).await?;
    eprintln!("bench: {count} machines registered after {:.0} s", begun.elapsed().as_secs_f64());
    let runner = Runner::start(&fleet, &server.join_token(), count);
    let mut settled = fleet.settled.subscribe();
    let all = settled.wait_for(|settled| *settled == count);
    if tokio::time::timeout(SETTLE, all).await.is_err() {
        let settled = *fleet.settled.borrow();
        return Err(
            format!("only {settled} of {count} machines came where they stay: {:#?}", server.said()).into()
        );
    }
    let settled_s = begun.elapsed().as_secs_f64();
    eprintln!("bench: all of them enrolled and at their place after {settled_s:.0} s");

    tokio::time::sleep(WARM_UP).await;
    let cpu = cpu_seconds(server.pid())?;
    fleet.measuring.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    fleet.measuring.store(false, Ordering::Relaxed);
    let cpu = (cpu_seconds(server.pid())? - cpu) / seconds as f64;
    let memory = server.peak_memory_kib() as f64 / 1024.0;

    let machines = runner.machines();
    let silent = silence(&fleet, &machines).await?;
    fleet.ending.send_replace(true);
    let mut sent = Vec::new();
    for machine in &machines {
        sent.push(machine.farewell().await);
    }
    drop(runner);
    server.stop().await;
    let stored = stored(&server.database(), &sent).await?;

    let latencies = std::mem::take(&mut *fleet.latencies.lock().unwrap_or_else(PoisonError::into_inner));
    let of = |wanted: &[What]| {
        let mut some: Vec<f64> =
            latencies.iter().filter(|(what, _)| wanted.contains(what)).map(|(_, took)| *took).collect();
        some.sort_by(f64::total_cmp);
        some
    };
    let at = |sorted: &[f64], share: f64| {
        sorted.get((sorted.len().saturating_sub(1) as f64 * share).round() as usize).copied()
    };
    let real = of(&[What::Beat, What::Sensors, What::Next]);
    let (sensors, nothing) = (of(&[What::Sensors]), of(&[What::Nothing]));
    println!(
        "{}",
        json!({
            "agents": count,
            "requests": real.len(),
            "per_second": real.len() as f64 / seconds as f64,
            "failed": fleet.failed.load(Ordering::Relaxed),
            "value": at(&real, 0.99), "median": at(&real, 0.5), "worst": at(&real, 1.0),
            "sensors_p99": at(&sensors, 0.99), "sensors_median": at(&sensors, 0.5),
            "nothing_p99": at(&nothing, 0.99), "nothing_median": at(&nothing, 0.5),
            "sent": sent.iter().map(|sent| sent.samples).sum::<u64>(),
            "stored": stored,
            "silent": silent.iter().copied().fold(f64::NAN, f64::max),
            "silent_least": silent.iter().copied().fold(f64::NAN, f64::min),
            "silent_machines": silent.len(),
            "server_cores": cpu, "server_mib": memory, "settled_s": settled_s,
        })
    );
    Ok(())
}

/// Registers the machines and asks for a run over each.
async fn register(fleet: &Arc<Fleet>, count: usize) -> Result<()> {
    let one = async |number: usize| {
        let name = format!("m{number:05}");
        let host = json!({ "name": name, "macs": [mac(number)], "spec_yaml": marked(canned::SPEC, &name) });
        let added = fleet.api.post("/api/v1/hosts", &host).await;
        if added.status != 201 {
            return Err(format!("{name} cannot be registered: {}", added.text));
        }
        let vet = json!({ "profile": "standard", "hold_s": 86_400 });
        let answer = fleet.api.post(&format!("/api/v1/hosts/{name}/vet"), &vet).await;
        if answer.status >= 300 {
            return Err(format!("{name} cannot be vetted: {}", answer.text));
        }
        Ok(answer.json::<RunSummary>().number)
    };
    let mut asked = futures::stream::iter(0..count).map(one).buffer_unordered(8);
    while let Some(number) = asked.next().await {
        number?;
    }
    Ok(())
}

/// A machine's address, made of its number.
fn mac(number: usize) -> Mac {
    let [.., high, middle, low] = number.to_be_bytes();
    Mac([0x02, 0xa5, 0x5a, high, middle, low])
}

/// Cuts some machines off, one after the other, and says how many seconds after its last request each was shown.
async fn silence(fleet: &Arc<Fleet>, machines: &[Arc<Machine>]) -> Result<Vec<f64>> {
    let step = (machines.len() / SILENT).max(1);
    let mut watching: JoinSet<Result<f64>> = JoinSet::new();
    for (place, machine) in machines.iter().step_by(step).take(SILENT).enumerate() {
        let (fleet, machine) = (Arc::clone(fleet), Arc::clone(machine));
        watching.spawn(async move {
            // Spread over a period of the heartbeat, and over that of the server's own looking around.
            tokio::time::sleep(Duration::from_millis(730 * place as u64)).await;
            let url = format!("{}/api/v1/runs/{}/live", fleet.operators_url, machine.number());
            let mut live = fleet.http.get(url).bearer_auth(&fleet.token).send().await?.error_for_status()?;
            machine.cut_off();
            let shown = async {
                let mut said = Vec::new();
                while let Some(piece) = live.chunk().await? {
                    said.extend_from_slice(&piece);
                    if String::from_utf8_lossy(&said).contains("AgentSuspect") {
                        return Ok(machine.since_last_request().as_secs_f64());
                    }
                }
                Err("a run's live stream has ended".into())
            };
            tokio::time::timeout(PATIENCE, shown).await.map_err(|_| "a silent machine was never shown")?
        });
    }
    let mut seconds = Vec::new();
    while let Some(one) = watching.join_next().await {
        seconds.push(one??);
    }
    Ok(seconds)
}

/// How many of the samples that were sent are in the database, each counted once.
async fn stored(database: &str, sent: &[Sent]) -> Result<u64> {
    let store = Store::open(database).await?;
    let mut stored = 0;
    for one in sent {
        let batches = store.sensor_batches(one.run, None, 100_000).await?;
        let expected = 1..=i64::try_from(batches.len())?;
        if !batches.iter().map(|row| row.seq).eq(expected) {
            return Err(format!("the batches of run {} are not numbered without gaps", one.run).into());
        }
        let samples: usize = batches.iter().map(|row| row.batch.samples.len()).sum();
        // A machine that was cut off does not know what became of its last one.
        stored += (samples as u64).min(one.samples);
    }
    store.close().await?;
    Ok(stored)
}

/// Seconds of processor time that a process has used.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').ok_or("no name in its stat")?.1;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // USER_HZ, which is 100 on every Linux that is in use.
    Ok(ticks as f64 / 100.0)
}

/// Each machine has connections of its own: more than a shell allows a program by default.
fn open_files_allowed() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
