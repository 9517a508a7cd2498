//! A machine for the real agent: canned evidence and sensors that answer, in place of hardware.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_agent::{BootSettings, Bounds, Collector, Evidence, Identity, Pacing, Readings, Settings, Task};
use assay_model::host::order::StageInput;
use assay_model::host::permit::{ErasePermit, SignedPermit};
use assay_model::sensor::SensorInfo;
use assay_model::{Clock, Mac, Micros};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;

use crate::canned;

/// What came with one try of a stage.
#[derive(Clone, Debug)]
pub struct Given {
    /// What the control plane gave.
    pub input: StageInput,
    /// The try's fencing token.
    pub generation: i64,
    /// The host that the machine is told to be.
    pub host: String,
    /// The control plane's public key, in hexadecimal.
    pub verify_key: String,
}

/// A machine that answers the agent's questions from memory.
pub struct CannedMachine {
    macs: Vec<Mac>,
    /// What it brings back instead of the healthy machine's evidence.
    evidence: Mutex<BTreeMap<String, Value>>,
    readings: watch::Sender<u64>,
    collected: watch::Sender<Vec<String>>,
    /// What came with each try, by stage, in order.
    given: Mutex<Vec<(String, Given)>>,
    /// Serial numbers of disks that hold data which nobody has given up.
    with_data: Mutex<Vec<String>>,
    /// As long as this is `false`, collectors wait: a stage stays open while a test does something else.
    open: watch::Sender<bool>,
}

impl Default for CannedMachine {
    fn default() -> Self {
        Self::with_macs(vec![canned::MAC])
    }
}

impl CannedMachine {
    /// A healthy machine with these addresses.
    pub fn with_macs(macs: Vec<Mac>) -> Self {
        Self {
            macs,
            evidence: Mutex::default(),
            readings: watch::Sender::new(0),
            collected: watch::Sender::new(Vec::new()),
            given: Mutex::default(),
            with_data: Mutex::default(),
            open: watch::Sender::new(true),
        }
    }

    /// The address that it boots from.
    pub fn mac(&self) -> Mac {
        *self.macs.first().expect("a machine has an address")
    }

    /// From now on this stage's collector brings back this.
    pub fn brings(&self, stage: &str, evidence: Value) {
        let mut known = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(stage.to_owned(), evidence);
    }

    /// This disk holds data: `Storage` halts before it until a permit names it for that.
    pub fn disk_holds_data(&self, serial: &str) {
        self.with_data.lock().unwrap_or_else(PoisonError::into_inner).push(serial.to_owned());
    }

    /// What came with each try of a stage, in order.
    pub fn given(&self, stage: &str) -> Vec<Given> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.iter().filter(|(name, _)| name == stage).map(|(_, given)| given.clone()).collect()
    }

    /// What the scan brings back from a machine on which some disks hold data, under what it was permitted.
    fn storage(&self, permit: Option<&SignedPermit>) -> Option<Value> {
        let with_data = self.with_data.lock().unwrap_or_else(PoisonError::into_inner);
        if with_data.is_empty() {
            return None;
        }
        let permit: Option<ErasePermit> = permit.and_then(|signed| serde_json::from_str(&signed.permit).ok());
        let permitted = |serial: &String| {
            permit.as_ref().is_some_and(|permit| permit.names_with_data(Some(serial), None))
        };
        let refused: Vec<&str> =
            with_data.iter().filter(|serial| !permitted(serial)).map(String::as_str).collect();
        let given_up: Vec<&str> = with_data.iter().map(String::as_str).collect();
        Some(canned::with_counters(&canned::storage_with_data(&refused, &given_up)))
    }

    /// Lets collectors finish, or holds them up.
    pub fn collectors_finish(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// The stages that were collected, in order.
    pub fn collected(&self) -> Vec<String> {
        self.collected.borrow().clone()
    }

    /// How often the sensors were read.
    pub fn readings(&self) -> u64 {
        *self.readings.borrow()
    }

    /// Waits until the sensors were read `more` times from now.
    pub async fn readings_pass(&self, more: u64) {
        let goal = self.readings() + more;
        let mut seen = self.readings.subscribe();
        let came = tokio::time::timeout(crate::PATIENCE, seen.wait_for(|count| *count >= goal)).await;
        came.expect("the sensors are read on").expect("the machine lives");
    }
}

impl Collector for CannedMachine {
    fn identity(&self) -> BoxFuture<'_, Identity> {
        let identity = Identity { macs: self.macs.clone(), system_uuid: Some("4c4c4544-0042".to_owned()) };
        async { identity }.boxed()
    }

    fn sensors(&self) -> BoxFuture<'_, Readings> {
        self.readings.send_modify(|count| *count += 1);
        let count = *self.readings.borrow();
        let info = |name: &str| SensorInfo {
            name: name.to_owned(),
            kind: "thermal".to_owned(),
            unit: "°C".to_owned(),
            max: None,
            critical: None,
        };
        let sensors = vec![info("coretemp/Package id 0@coretemp.0"), info("nvme/Composite@nvme0")];
        // Always below any limit, and never the same twice in a row.
        let values = vec![Some(40.0 + (count % 100) as f64 / 10.0), Some(35.0)];
        async move { Readings { sensors, values } }.boxed()
    }

    fn collect<'a>(&'a self, task: Task<'a>) -> BoxFuture<'a, Result<Evidence, String>> {
        let Task { stage, progress, input, place, .. } = task;
        let given = Given {
            input: input.clone(),
            generation: place.generation,
            host: place.host.clone(),
            verify_key: place.verify_key.clone(),
        };
        self.given.lock().unwrap_or_else(PoisonError::into_inner).push((stage.to_string(), given));
        async move {
            progress("reading canned evidence");
            let mut open = self.open.subscribe();
            open.wait_for(|open| *open).await.map_err(|gone| gone.to_string())?;
            let evidence = {
                let known = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
                let brought = known.get(stage.as_str()).cloned();
                let scanned = (stage == "Storage").then(|| self.storage(input.permit.as_ref())).flatten();
                brought.or(scanned).unwrap_or_else(|| canned::evidence(stage.as_str()))
            };
            self.collected.send_modify(|list| list.push(stage.to_string()));
            let name = format!("{}.json", stage.as_str().to_lowercase());
            let raw = serde_json::to_vec(&evidence).map_err(|e| e.to_string())?;
            Ok(Evidence { evidence, artifacts: vec![(name, raw)] })
        }
        .boxed()
    }
}

/// Everything that an agent said on its console.
#[derive(Clone, Default, Debug)]
pub struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn push(&self, line: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
    }
}

/// A machine clock that shows the same time for ever, as after a dead battery.
struct Stopped(Micros);

impl Clock for Stopped {
    fn now(&self) -> Micros {
        self.0
    }
}

/// Settings of an agent in a hurry, booted by this kernel command line (or boot script).
///
/// # Errors
/// What the command line lacks.
pub fn hurried(cmdline: &str, dir: Option<&Path>, said: &Said) -> Result<Settings, String> {
    let said = said.clone();
    Ok(Settings {
        boot: BootSettings::from_cmdline(cmdline).map_err(|e| e.to_string())?,
        spool: dir.map(|dir| dir.join("spool")),
        run_dir: dir.map(|dir| dir.join("run")),
        kmsg: None,
        poweroff: Vec::new(),
        machine_clock: Arc::new(Stopped(Micros::seconds(1_795_253_400))),
        console: Arc::new(move |line: &str| said.push(line)),
        pacing: Pacing {
            first_retry: Duration::from_millis(10),
            last_retry: Duration::from_millis(50),
            // Sensors and heartbeats every 100 ms; a stage of 300 s has 6.
            second: Duration::from_millis(20),
            request: Duration::from_secs(10),
            poll_s: 20,
            again: Duration::from_millis(10),
            log_flush: Duration::from_millis(20),
            farewell: Duration::from_secs(20),
        },
        bounds: Bounds::default(),
    })
}
