//! One simulated machine: what the agent on it says to the control plane, at the agent's own pace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_agent::BootSettings;
use assay_api::agent::{Command, Heartbeat, Hello, PROTOCOL, PostMortem, Sensors, StageResult, Welcome};
use assay_model::sensor::{SensorBatch, SensorInfo, SensorSample};
use assay_model::{Mac, Micros, RunId, StageName};
use assay_testkit::canned;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Fleet, Result, What};

/// The control plane asks for a beat and a reading this often.
const PERIOD: Duration = Duration::from_secs(5);
/// As long as the agent lets a question stay open.
const POLL_S: u64 = 20;
/// As the agent: longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pauses of the agent before it asks again for what it is doing already: doubling between these.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// The pause after a request that failed.
const FAILED: Duration = Duration::from_millis(200);
/// What a small server has: processors, disks, memory modules, fans.
const SENSORS: u16 = 12;
/// A machine in good order stays in this stage for as long as the load lasts.
const LONG_STAGE: &str = "CPUStress";

/// What one machine has sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) run: RunId,
    pub(crate) samples: u64,
}

/// An enrolled machine.
pub(crate) struct Machine {
    fleet: Arc<Fleet>,
    http: Client,
    base: String,
    credential: String,
    welcome: Welcome,
    /// Fails a comparison, and is held for an operator.
    wrong: bool,
    /// When the last request of any kind was begun.
    last_request: Mutex<Instant>,
    taken: AtomicU64,
    acknowledged: AtomicU64,
    cut: watch::Sender<bool>,
    /// Taken while a reading is on its way.
    delivering: AsyncMutex<()>,
}

impl Machine {
    /// What stands in the boot script, and the way from there to an enrolment.
    pub(crate) async fn enrol(fleet: &Arc<Fleet>, script: &str, mac: Mac) -> Result<Self> {
        let boot = BootSettings::from_cmdline(script)?;
        // Each machine has connections of its own. The real agent pins the certificate.
        let http = Client::builder().no_proxy().http1_only().danger_accept_invalid_certs(true).build()?;
        let base = format!("{}agent/v1", boot.url);
        let credential = format!("{:0>64}", mac.to_string().replace(':', ""));
        let hello = Hello {
            protocol: PROTOCOL,
            token: boot.token,
            credential: credential.clone(),
            macs: vec![mac],
            system_uuid: None,
            agent: "0.1.0".to_owned(),
            clock: Micros::default(),
        };
        let answer = http.post(format!("{base}/hello")).json(&hello).timeout(PATIENCE).send().await?;
        let welcome: Welcome = answer.error_for_status()?.json().await?;
        let machine = Self {
            fleet: Arc::clone(fleet),
            http,
            base,
            credential,
            wrong: welcome.number % 2 == 0,
            welcome,
            last_request: Mutex::new(Instant::now()),
            taken: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            cut: watch::Sender::new(false),
            delivering: AsyncMutex::default(),
        };
        machine.insist(None, "post-mortem", &PostMortem { records: Vec::new() }).await;
        Ok(machine)
    }

    /// The run's number.
    pub(crate) fn number(&self) -> i64 {
        self.welcome.number
    }

    /// Everything that goes on at once, until the machine is cut off.
    pub(crate) async fn live(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self).beat());
        tasks.spawn(Arc::clone(&self).read());
        tasks.spawn(Arc::clone(&self).ask_nothing());
        tasks.spawn(Arc::clone(&self).obey());
        let _ = self.cut.subscribe().wait_for(|cut| *cut).await;
        tasks.shutdown().await;
    }

    /// Takes the machine off the network, wherever it is.
    pub(crate) fn cut_off(&self) {
        self.cut.send_replace(true);
    }

    /// How long ago it began its last request.
    pub(crate) fn since_last_request(&self) -> Duration {
        self.last_request.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Waits until what it has read is delivered. Of a machine that was cut off, only what was acknowledged counts.
    pub(crate) async fn farewell(&self) -> Sent {
        let samples = if *self.cut.borrow() {
            self.acknowledged.load(Ordering::SeqCst)
        } else {
            let _last = self.delivering.lock().await;
            self.taken.load(Ordering::SeqCst)
        };
        Sent { run: self.welcome.run, samples }
    }

    async fn beat(self: Arc<Self>) {
        let mut due = self.first(0.0);
        loop {
            tokio::time::sleep_until(due).await;
            due += PERIOD;
            let beat = Heartbeat {
                stage: (!self.wrong).then(|| (StageName::from(LONG_STAGE), 1)),
                step: Some("loading the processors".to_owned()),
                uptime_s: 100,
                spooled: 0,
            };
            // A beat that did not get through is not repeated.
            let _ = self.send(What::Beat, self.http.post(self.url("heartbeat")).json(&beat)).await;
        }
    }

    async fn read(self: Arc<Self>) {
        let sensors: Vec<_> = (0..SENSORS).map(sensor).collect();
        let mut due = self.first(0.4);
        for seq in 1.. {
            tokio::time::sleep_until(due).await;
            due += PERIOD;
            let _delivering = self.delivering.lock().await;
            if *self.fleet.ending.borrow() {
                return;
            }
            let values = (0..SENSORS).map(|n| Some(40.0 + f64::from(n) + (seq % 50) as f64 / 10.0)).collect();
            let at = self.welcome.server_time.plus(Micros::seconds(5 * seq));
            let batch = SensorBatch { sensors: sensors.clone(), samples: vec![SensorSample { at, values }] };
            self.taken.fetch_add(1, Ordering::SeqCst);
            self.insist(Some(What::Sensors), "sensor", &Sensors { seq, batch }).await;
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What an answer costs that needs nothing.
    async fn ask_nothing(self: Arc<Self>) {
        let mut due = self.first(0.7);
        loop {
            tokio::time::sleep_until(due).await;
            due += PERIOD;
            let begun = Instant::now();
            let request = self.http.get(self.url("nothing")).timeout(PATIENCE);
            let Ok(answer) = request.send().await else { continue };
            if answer.bytes().await.is_ok() {
                self.fleet.note(What::Nothing, begun.elapsed());
            }
        }
    }

    /// As the agent: does a stage once, and goes on asking.
    async fn obey(self: Arc<Self>) {
        let mut last = None;
        let mut again = AGAIN[0];
        let mut settled = false;
        loop {
            let begun = Instant::now();
            let Ok(command) = self.next().await else {
                tokio::time::sleep(FAILED).await;
                continue;
            };
            let waited = begun.elapsed() >= AGAIN[0];
            let news = last.as_ref() != Some(&command);
            let there = match &command {
                Command::Stage { stage, .. } => stage.as_str() == LONG_STAGE,
                Command::Hold { .. } => true,
                Command::Wait | Command::Shutdown { .. } => false,
            };
            if there && !settled {
                settled = true;
                self.fleet.settled.send_modify(|settled| *settled += 1);
            }
            if let Command::Stage { stage, attempt, generation, .. } = &command
                && news
                && !there
            {
                let evidence = self.evidence(stage);
                let (stage, attempt, generation) = (stage.clone(), *attempt, *generation);
                let result = StageResult { stage, attempt, generation, evidence, problem: None };
                self.insist(None, "result", &result).await;
                again = AGAIN[0];
                last = Some(command);
                continue;
            }
            if news {
                again = AGAIN[0];
            }
            let open = waited && !matches!(command, Command::Stage { .. });
            last = Some(command);
            if !open {
                tokio::time::sleep(again).await;
                again = (again * 2).min(AGAIN[1]);
            }
        }
    }

    fn evidence(&self, stage: &StageName) -> Value {
        let evidence = if self.wrong && stage.as_str() == "SpecValidate" {
            serde_json::to_value(canned::swapped_disk()).unwrap_or_default()
        } else {
            canned::evidence(stage.as_str())
        };
        serde_json::from_str(&marked(&evidence.to_string(), &self.welcome.host)).unwrap_or_default()
    }

    async fn next(&self) -> Result<Command> {
        let request = self.http.get(format!("{}?wait_s={POLL_S}", self.url("next")));
        let begun = Instant::now();
        let limit = PATIENCE + Duration::from_secs(POLL_S);
        let body = self.exchange(request.timeout(limit)).await?;
        let command = serde_json::from_slice(&body)?;
        // What was kept open for news says nothing about speed.
        if matches!(command, Command::Stage { .. }) {
            self.fleet.note(What::Next, begun.elapsed());
        }
        Ok(command)
    }

    /// Says it until it is taken.
    async fn insist(&self, what: Option<What>, path: &str, body: &impl serde::Serialize) {
        loop {
            let request = self.http.post(self.url(path)).json(body).timeout(PATIENCE);
            let sent = match what {
                Some(what) => self.send(what, request).await,
                None => self.exchange(request).await.map(drop),
            };
            match sent {
                Ok(()) => return,
                Err(problem) => eprintln!("bench: machine {}: {path}: {problem}", self.number()),
            }
            tokio::time::sleep(FAILED).await;
        }
    }

    /// A request whose speed counts, however it ends.
    async fn send(&self, what: What, request: RequestBuilder) -> Result<()> {
        let begun = Instant::now();
        let sent = self.exchange(request.timeout(PATIENCE)).await;
        self.fleet.note(what, begun.elapsed());
        sent.map(drop)
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<Vec<u8>> {
        *self.last_request.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let failed = |why: String| {
            self.fleet.failed.fetch_add(1, Ordering::Relaxed);
            why
        };
        let answer =
            request.bearer_auth(&self.credential).send().await.map_err(|e| failed(format!("{e:?}")))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|e| failed(e.to_string()))?;
        if status != StatusCode::OK && status != StatusCode::NO_CONTENT {
            return Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body))).into());
        }
        Ok(body.to_vec())
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// Machines are spread over the period, and so is what one of them does.
    fn first(&self, place: f64) -> Instant {
        let spread = (self.number() as f64 * 0.618_034 + place).fract();
        Instant::now() + PERIOD.mul_f64(spread)
    }
}

/// The canned machine's parts under serial numbers of this machine's own: no two machines share a disk.
pub(crate) fn marked(canned: &str, host: &str) -> String {
    let mut out = canned.to_owned();
    for (serial, before, after) in
        ["S1", "S2", "OTHER", "7XK2M33"].into_iter().flat_map(|s| [(s, "\"", "\""), (s, "serial: ", "}")])
    {
        out = out.replace(&format!("{before}{serial}{after}"), &format!("{before}{serial}-{host}{after}"));
    }
    out.replace(&canned::MAC.to_string(), &format!("02:{}", host_mac(host)))
}

/// Five bytes that differ from machine to machine.
fn host_mac(host: &str) -> String {
    let digits: String = host.chars().filter(char::is_ascii_digit).collect();
    let padded = format!("{digits:0>10}");
    let pairs: Vec<&str> = (0..5).filter_map(|n| padded.get(n * 2..n * 2 + 2)).collect();
    pairs.join(":")
}

fn sensor(number: u16) -> SensorInfo {
    SensorInfo {
        name: format!("coretemp/Core {number}@coretemp.0"),
        kind: "thermal".to_owned(),
        unit: "°C".to_owned(),
        max: Some(95.0),
        critical: Some(105.0),
    }
}
