//! A canned machine under test, and the settings of an agent that is in a hurry.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assay_agent::{BootSettings, Bounds, Collector, Evidence, Identity, Pacing, Readings, Settings, Task};
use assay_model::sensor::SensorInfo;
use assay_model::{Clock, Mac, Micros};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::watch;

use crate::plane::Plane;

/// A machine whose one sensor counts its readings, so that a lost or doubled one shows.
#[derive(Default)]
pub(crate) struct Canned {
    pub(crate) readings: watch::Sender<u64>,
    /// Stages begun, in order.
    pub(crate) begun: Mutex<Vec<String>>,
    /// How many collectors were stopped before their end.
    pub(crate) stopped: watch::Sender<usize>,
}

impl Canned {
    pub(crate) fn begun(&self) -> Vec<String> {
        self.begun.lock().expect("fine").clone()
    }
}

struct Stopped<'a>(&'a watch::Sender<usize>);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count += 1);
    }
}

impl Collector for Canned {
    fn identity(&self) -> BoxFuture<'_, Identity> {
        let identity =
            Identity { macs: vec![Mac([0x52, 0x54, 0, 0, 0, 1])], system_uuid: Some("4c4c".to_owned()) };
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
        let sensors = vec![info("counter"), info("dead")];
        async move { Readings { sensors, values: vec![Some(count as f64), None] } }.boxed()
    }

    fn collect<'a>(&'a self, task: Task<'a>) -> BoxFuture<'a, Result<Evidence, String>> {
        let Task { stage, spec, progress, .. } = task;
        async move {
            self.begun.lock().expect("fine").push(stage.to_string());
            progress("reading SMBIOS");
            match stage.as_str() {
                "Hangs" => {
                    let _stopped = Stopped(&self.stopped);
                    std::future::pending().await
                }
                "Panics" => panic!("a bug in a collector"),
                "Fails" => Err("no smartctl here".to_owned()),
                "Huge" => Ok(Evidence { evidence: json!("x".repeat(9 << 20)), artifacts: Vec::new() }),
                _ => Ok(Evidence {
                    evidence: json!({"spec": spec, "disks": 2}),
                    artifacts: vec![
                        ("inventory.json".to_owned(), b"{}".to_vec()),
                        ("smart-a b.txt".to_owned(), vec![b'x'; 300_000]),
                    ],
                }),
            }
        }
        .boxed()
    }
}

/// The machine's battery is dead.
struct NewYear1970;

impl Clock for NewYear1970 {
    fn now(&self) -> Micros {
        Micros(0)
    }
}

/// Everything that an agent said on its console.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().expect("fine").clone()
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(part)).count()
    }
}

pub(crate) fn boot_line(plane: &Plane) -> String {
    format!(
        "quiet assay.url=https://{} assay.token=once assay.fp=sha256:{}\n",
        plane.address, plane.fingerprint
    )
}

pub(crate) fn hurried(plane: &Plane, dir: Option<&Path>, said: &Said) -> Settings {
    let said = said.clone();
    Settings {
        boot: BootSettings::from_cmdline(&boot_line(plane)).expect("complete"),
        spool: dir.map(|dir| dir.join("spool")),
        run_dir: dir.map(|dir| dir.join("run")),
        kmsg: None,
        poweroff: Vec::new(),
        machine_clock: Arc::new(NewYear1970),
        console: Arc::new(move |line: &str| said.0.lock().expect("fine").push(line.to_owned())),
        pacing: Pacing {
            first_retry: Duration::from_millis(5),
            last_retry: Duration::from_millis(40),
            second: Duration::from_millis(20),
            request: Duration::from_secs(10),
            poll_s: 1,
            again: Duration::from_millis(10),
            log_flush: Duration::from_millis(5),
            farewell: Duration::from_secs(10),
        },
        bounds: Bounds::default(),
    }
}
