//! The real machine: its network addresses, its sensors, and the host pipeline's collectors.

use std::fs;
use std::time::Instant;

use assay_api::agent::PostMortemRecord;
use assay_model::host::counters::{CounterPair, KEY};
use assay_model::host::spec::HostSpec;
use assay_model::{Mac, text};
use assay_pipelines::{CollectContext, host};
use assay_probes::hwmon::Hwmon;
use assay_probes::{Machine, counters};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::{Collector, Evidence, Identity, Readings, Task};

/// Drivers appear while a machine comes up: sensors are looked for again at each of the first readings. A short run
/// may have no others.
const COMING_UP: u32 = 12;
/// A card may be reset under load: later, sensors are looked for again after this many readings.
const REDISCOVER_EVERY: u32 = 6;

/// ARPHRD_ETHER, as `/sys/class/net/*/type` has it.
const ETHERNET: &str = "1";

/// The collector that reads a machine: this one, or a captured one.
pub struct MachineCollector {
    machine: Machine,
    sensors: Mutex<Sidecar>,
}

#[derive(Default)]
struct Sidecar {
    hwmon: Option<Hwmon>,
    readings: u32,
}

impl MachineCollector {
    /// Reads the machine given.
    pub fn new(machine: Machine) -> Self {
        Self { machine, sensors: Mutex::default() }
    }

    fn read_identity(&self) -> Identity {
        let mut macs: Vec<Mac> = fs::read_dir(self.machine.path("sys/class/net"))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|card| read_word(&card.path().join("type")).as_deref() == Some(ETHERNET))
            .filter_map(|card| read_word(&card.path().join("address"))?.parse().ok())
            .filter(|mac: &Mac| mac.is_unicast())
            .collect();
        macs.sort_unstable();
        macs.dedup();
        Identity { macs, system_uuid: read_word(&self.machine.path("sys/class/dmi/id/product_uuid")) }
    }

    async fn read_sensors(&self) -> Readings {
        let mut sidecar = self.sensors.lock().await;
        sidecar.readings = sidecar.readings.wrapping_add(1);
        let again = sidecar.readings <= COMING_UP || sidecar.readings.is_multiple_of(REDISCOVER_EVERY);
        let hwmon = match &mut sidecar.hwmon {
            Some(hwmon) => {
                if again {
                    hwmon.rediscover().await;
                }
                hwmon
            }
            none => none.insert(Hwmon::discover(&self.machine).await),
        };
        let values = hwmon.read().await;
        Readings { sensors: hwmon.infos(), values }
    }

    async fn collect_stage(&self, task: Task<'_>) -> Result<Evidence, String> {
        let name = task.stage;
        let stage = host::collected(name.as_str()).ok_or_else(|| {
            format!(
                "this agent ({}) does not know the stage {name}; build the live image from the control plane's version",
                env!("CARGO_PKG_VERSION")
            )
        })?;
        let spec: HostSpec = serde_json::from_value(task.spec.clone())
            .map_err(|error| format!("the expected spec cannot be read by this agent: {error}"))?;
        let context = CollectContext {
            machine: &self.machine,
            spec: &spec,
            input: task.input,
            place: task.place,
            progress: &task.progress,
            save: &task.save,
        };
        counters::watch_machine_checks(&self.machine);
        let (started, before) = (Instant::now(), counters::counters(&self.machine, None).await);
        let collected = stage.collect(&context).await.map_err(|error| error.problem)?;
        let after = counters::counters(&self.machine, Some(&before)).await;
        let pair = CounterPair { before, after, seconds: started.elapsed().as_secs() };
        let evidence = with_counters(collected.evidence, &pair)?;
        Ok(Evidence { evidence, artifacts: collected.artifacts })
    }
}

/// Puts the counters beside what the stage brought back.
fn with_counters(mut evidence: Value, pair: &CounterPair) -> Result<Value, String> {
    if let Value::Object(map) = &mut evidence {
        let pair = serde_json::to_value(pair).map_err(|error| format!("counters: {error}"))?;
        map.insert(KEY.to_owned(), pair);
    }
    Ok(evidence)
}

impl Collector for MachineCollector {
    fn identity(&self) -> BoxFuture<'_, Identity> {
        async { self.read_identity() }.boxed()
    }

    fn sensors(&self) -> BoxFuture<'_, Readings> {
        self.read_sensors().boxed()
    }

    fn collect<'a>(&'a self, task: Task<'a>) -> BoxFuture<'a, Result<Evidence, String>> {
        self.collect_stage(task).boxed()
    }

    fn post_mortem(&self) -> Vec<PostMortemRecord> {
        let Ok(entries) = fs::read_dir(self.machine.path(PSTORE)) else { return Vec::new() };
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let read = |file: &std::path::PathBuf| {
            let content = fs::read(file).ok()?;
            let kept = &content[..content.len().min(MAX_RECORD)];
            let name = text::clean(file.file_name()?.to_str()?);
            Some(PostMortemRecord { name, text: String::from_utf8_lossy(kept).into_owned() })
        };
        files.iter().filter_map(read).take(MAX_RECORDS).collect()
    }

    fn forget_post_mortem(&self, records: &[PostMortemRecord]) {
        for record in records {
            // Removing the file erases the record from the firmware's store.
            if let Err(error) = fs::remove_file(self.machine.path(PSTORE).join(&record.name)) {
                tracing::warn!(%error, record.name, "a crash record cannot be removed; it will be told again");
            }
        }
    }
}

/// Where the kernel shows what the firmware kept of a crash.
const PSTORE: &str = "sys/fs/pstore";
/// Bytes taken of one record.
const MAX_RECORD: usize = 64 << 10;
/// Records taken.
const MAX_RECORDS: usize = 32;

fn read_word(file: &std::path::Path) -> Option<String> {
    let word = text::clean(&fs::read_to_string(file).ok()?);
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use assay_model::host::spec::HostSpec;
    use assay_probes::Machine;
    use serde_json::json;

    use super::MachineCollector;
    use crate::{Collector as _, Task};
    use assay_model::host::order::StageInput;
    use assay_model::{Micros, RunId, StageName};
    use assay_pipelines::Place;
    use serde_json::Value;

    fn task<'a>(stage: &'a StageName, spec: &'a Value) -> Task<'a> {
        let place = Place {
            run: RunId(uuid::Uuid::nil()),
            host: "web-3".to_owned(),
            generation: 1,
            verify_key: String::new(),
            now: Micros(0),
        };
        let (input, place) = (Box::leak(Box::default()) as &StageInput, Box::leak(Box::new(place)));
        Task { stage, spec, input, place, progress: &|_| (), save: &|_| () }
    }

    #[tokio::test]
    async fn what_the_machine_kept_of_a_crash_is_told_and_forgotten() {
        let root = tempfile::tempdir().expect("folder");
        let collector = MachineCollector::new(Machine::captured(root.path(), None));
        assert!(collector.post_mortem().is_empty(), "no pstore");
        write(root.path(), "sys/fs/pstore/dmesg-erst-1", "Kernel panic - not syncing: Fatal machine check");
        let told = collector.post_mortem();
        assert_eq!(told.len(), 1);
        assert!(told[0].text.contains("Fatal machine check") && told[0].name == "dmesg-erst-1");
        collector.forget_post_mortem(&told);
        assert!(collector.post_mortem().is_empty());
    }

    fn write(root: &Path, path: &str, content: &str) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().expect("has a parent")).expect("folder");
        fs::write(file, content).expect("written");
    }

    #[tokio::test]
    async fn a_machine_is_known_by_its_ethernet_cards_and_its_uuid() {
        let root = tempfile::tempdir().expect("folder");
        write(root.path(), "sys/class/net/lo/type", "772\n");
        write(root.path(), "sys/class/net/lo/address", "00:00:00:00:00:00\n");
        write(root.path(), "sys/class/net/eno2/type", "1\n");
        write(root.path(), "sys/class/net/eno2/address", "52:54:00:00:00:02\n");
        write(root.path(), "sys/class/net/eno1/type", "1\n");
        write(root.path(), "sys/class/net/eno1/address", "52:54:00:00:00:01\n");
        write(root.path(), "sys/class/net/ib0/type", "32\n");
        write(root.path(), "sys/class/net/ib0/address", "80:00:02:08\n");
        write(root.path(), "sys/class/dmi/id/product_uuid", "4c4c4544-0042\n");
        let seen = MachineCollector::new(Machine::captured(root.path(), None)).identity().await;
        let macs: Vec<String> = seen.macs.iter().map(ToString::to_string).collect();
        assert_eq!(macs, ["52:54:00:00:00:01", "52:54:00:00:00:02"]);
        assert_eq!(seen.system_uuid.as_deref(), Some("4c4c4544-0042"));
    }

    #[tokio::test]
    async fn a_machine_that_tells_nothing_is_not_an_error() {
        let root = tempfile::tempdir().expect("folder");
        let collector = MachineCollector::new(Machine::captured(root.path(), None));
        assert_eq!(collector.identity().await, crate::Identity::default());
        assert_eq!(collector.sensors().await, crate::Readings::default());
    }

    #[tokio::test]
    async fn a_stage_or_a_spec_that_is_not_understood_is_a_problem_that_says_so() {
        let root = tempfile::tempdir().expect("folder");
        let collector = MachineCollector::new(Machine::captured(root.path(), None));
        let spec = serde_json::to_value(HostSpec::default()).expect("plain data");
        let unknown = collector.collect(task(&"Telepathy".into(), &spec)).await.expect_err("no such stage");
        assert!(unknown.contains("does not know the stage Telepathy"), "{unknown}");
        let spec = json!({"format": "eleven"});
        let unreadable = collector.collect(task(&"Inventory".into(), &spec)).await.expect_err("no such spec");
        assert!(unreadable.contains("the expected spec cannot be read"), "{unreadable}");
    }
}
