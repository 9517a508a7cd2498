//! A runner that speaks the real protocol to the real server and whose machines are tasks: switching
//! one on boots the real agent on a [`CannedMachine`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use assay_agent::{Agent, ExitReason};
use assay_api::runner::{ConsoleOrder, ConsoleRead, Grant, Order};
use assay_model::event::PowerAction;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::machine::hurried;
use crate::{Api, CannedMachine, PATIENCE, Ports, Said, canned};

/// The pause before a server that does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(15);

/// Works until it is dropped.
pub struct FakeRunner {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    server: String,
    join: Api,
    ports: Ports,
    machine: Arc<CannedMachine>,
    jobs: Mutex<BTreeMap<String, Job>>,
    /// The machine that is on, if one is.
    power: tokio::sync::Mutex<JoinSet<()>>,
    ends: watch::Sender<Vec<ExitReason>>,
    said: Said,
}

/// What became of a power job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Job {
    /// The server has acknowledged the outcome.
    acknowledged: bool,
    /// It was ordered once more after that.
    ordered_again: bool,
}

impl FakeRunner {
    /// A runner for one machine. Agents reach the server on `agents`, which may be a proxy's port.
    pub fn start(url: &str, join_token: &str, ports: Ports, machine: Arc<CannedMachine>) -> Self {
        let shared = Arc::new(Shared {
            server: url.to_owned(),
            join: Api::new(url, Some(join_token)),
            ports,
            machine,
            jobs: Mutex::default(),
            power: tokio::sync::Mutex::default(),
            ends: watch::Sender::new(Vec::new()),
            said: Said::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(claim_forever(Arc::clone(&shared)));
        Self { shared, _tasks: tasks }
    }

    /// The power jobs that were done, each once.
    pub fn jobs(&self) -> Vec<String> {
        self.shared.jobs().keys().cloned().collect()
    }

    /// The jobs that the server ordered again after it had acknowledged their outcome.
    pub fn ordered_again(&self) -> Vec<String> {
        self.shared.jobs().iter().filter(|(_, job)| job.ordered_again).map(|(name, _)| name.clone()).collect()
    }

    /// What the machine's agents said.
    pub fn said(&self) -> Vec<String> {
        self.shared.said.lines()
    }

    /// Waits until an agent has ended; how all of them ended so far.
    pub async fn machine_ended(&self) -> Vec<ExitReason> {
        let mut ends = self.shared.ends.subscribe();
        let ended = tokio::time::timeout(PATIENCE, ends.wait_for(|ends| !ends.is_empty())).await;
        match ended {
            Ok(Ok(ends)) => ends.clone(),
            _ => panic!("the machine never went off: {:#?}", self.said()),
        }
    }

    /// Cuts the machine's power, without a word to anyone.
    pub async fn cut_power(&self) {
        self.shared.power.lock().await.shutdown().await;
    }

    /// Switches the machine on by hand: it boots from the network, as its firmware is set up to.
    pub async fn press_button(&self) {
        switch_on(&self.shared).await;
    }
}

impl Shared {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn claim_forever(shared: Arc<Shared>) {
    let mut work = JoinSet::new();
    let holding = Arc::new(Mutex::new(Vec::new()));
    loop {
        let held = holding.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let claim = json!({ "name": "bench", "version": "0.1.0", "holding": held, "power": ["manual"] });
        match shared.join.send("POST", "/runner/v1/claim?wait_s=5", Some(&claim)).await {
            Ok(answer) if answer.status == 200 => {
                let grant: Grant = answer.json();
                holding.lock().unwrap_or_else(PoisonError::into_inner).push(grant.run);
                let (shared, holding) = (Arc::clone(&shared), Arc::clone(&holding));
                work.spawn(async move {
                    let run = grant.run;
                    work_on(&shared, grant).await;
                    holding.lock().unwrap_or_else(PoisonError::into_inner).retain(|held| *held != run);
                });
            }
            Ok(answer) if answer.status == 204 => {}
            Ok(_) | Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Does what is to be done for a run, until it is over or its token is void.
async fn work_on(shared: &Arc<Shared>, grant: Grant) {
    let api = Api::new(&shared.server, Some(&grant.token));
    loop {
        let order = match api.send("GET", "/runner/v1/next?wait_s=5", None).await {
            Ok(answer) if answer.status == 200 => answer.json::<Order>(),
            Ok(answer) if answer.status == 401 => return,
            Ok(_) | Err(_) => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        match order {
            Order::End => return,
            Order::Wait => {}
            // Its machine has neither disk nor medium.
            Order::Look(_) | Order::Install(_) => tokio::time::sleep(AGAIN).await,
            Order::Read(ConsoleOrder { stage, attempt, generation, .. }) => {
                let evidence = canned::memtest();
                let read =
                    ConsoleRead { stage, attempt, generation, evidence, text: "Memtest86+ v6.10".to_owned() };
                let read = serde_json::to_value(read).expect("plain data");
                if api.insist("POST", "/runner/v1/console", Some(&read)).await.status == 401 {
                    return;
                }
            }
            Order::Power { job, action, .. } => {
                do_once(shared, &job, action).await;
                let done = json!({ "job": job, "ok": true, "message": "switched" });
                match api.insist("POST", "/runner/v1/done", Some(&done)).await.status {
                    401 => return,
                    204 => shared.jobs().entry(job).or_default().acknowledged = true,
                    _ => tokio::time::sleep(AGAIN).await,
                }
            }
        }
    }
}

/// As the real runner: a job that was done is not done again, its outcome is told again.
async fn do_once(shared: &Arc<Shared>, job: &str, action: PowerAction) {
    {
        let mut jobs = shared.jobs();
        if let Some(known) = jobs.get_mut(job) {
            known.ordered_again |= known.acknowledged;
            return;
        }
        jobs.insert(job.to_owned(), Job::default());
    }
    match action {
        PowerAction::Off => shared.power.lock().await.shutdown().await,
        PowerAction::Cycle | PowerAction::Medium => switch_on(shared).await,
    }
}

async fn switch_on(shared: &Arc<Shared>) {
    let mut power = shared.power.lock().await;
    power.shutdown().await;
    let shared = Arc::clone(shared);
    power.spawn(async move {
        let settings = loop {
            // Firmware asks until somebody answers; a machine that is to boot locally has no disk here.
            if let Some(script) = fetch_script(&shared).await
                && let Ok(settings) = hurried(&script, None, &shared.said)
            {
                break settings;
            }
            tokio::time::sleep(AGAIN).await;
        };
        let reason = Agent::run(settings, Arc::clone(&shared.machine) as _).await;
        shared.ends.send_modify(|ends| ends.push(reason));
    });
}

async fn fetch_script(shared: &Shared) -> Option<String> {
    let firmware = Api::new(&format!("http://127.0.0.1:{}", shared.ports.boot), None);
    let path = format!("/boot/{}.ipxe", shared.machine.mac());
    let answer = firmware.send("GET", &path, None).await.ok()?;
    (answer.status == 200).then_some(answer.text)
}
