//! The evidence of the stage `GPU`: what the bus, the driver, the kernel's log and our own work on each accelerator told.
//!
//! A value that was not told is `None`, never 0: the difference is what keeps a silent GPU from passing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The evidence of one attempt of the stage `GPU`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuEvidence {
    /// Every accelerator on the PCI bus, in the order of their addresses. Always told: nothing here is not nothing there.
    pub bus: Vec<BusGpu>,
    /// The driver's own libraries.
    #[serde(default)]
    pub driver: GpuDriver,
    /// What the driver lists, in its order.
    #[serde(default)]
    pub gpus: Vec<GpuDevice>,
    /// Whether the kernel's log could be read; without it no `Xid` can be known.
    #[serde(default)]
    pub kernel_log_read: bool,
    /// Errors that the driver wrote to the kernel's log since boot.
    #[serde(default)]
    pub xids: Vec<Xid>,
    /// The tool `gpu-burn`, where it is present.
    #[serde(default)]
    pub burn: Option<GpuBurn>,
    /// How long the load was to last, in seconds.
    #[serde(default)]
    pub asked_seconds: u64,
    /// What went wrong and belongs to no GPU.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// An accelerator as the PCI bus shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BusGpu {
    /// PCI address: `0000:01:00.0`.
    pub address: String,
    /// Vendor and device: `10de:20b5`.
    pub vendor_device: String,
    /// PCI class, six digits: `030200`.
    pub class: String,
    /// The kernel driver that is bound to it.
    pub driver: Option<String>,
    /// Whether it is there still after the load.
    pub there_after: bool,
}

impl BusGpu {
    /// Whether its maker is NVIDIA, the one whose driver is spoken to here.
    pub fn is_nvidia(&self) -> bool {
        self.vendor_device.starts_with("10de:")
    }
}

/// What came of loading the driver's libraries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GpuDriver {
    /// Whether the management library (NVML) answered.
    pub nvml: bool,
    /// Why it did not.
    pub nvml_problem: Option<String>,
    /// The driver's version, such as `550.54.15`.
    pub version: Option<String>,
    /// Whether the compute library (CUDA) answered.
    pub cuda: bool,
    /// Why it did not.
    pub cuda_problem: Option<String>,
    /// Version of the compute interface, such as `12.4`.
    pub cuda_version: Option<String>,
}

/// One GPU as its driver shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GpuDevice {
    /// PCI address, spelt as the kernel does.
    pub address: String,
    /// Product name.
    pub name: Option<String>,
    /// The driver's identity for it: `GPU-…`.
    pub uuid: Option<String>,
    /// Serial number of the board; consumer boards tell none.
    pub serial: Option<String>,
    /// Version of its firmware.
    pub vbios: Option<String>,
    /// Cores that calculate with 32-bit floating point.
    pub cores: Option<u32>,
    /// Width of its memory's bus, in bits.
    pub memory_bus_bits: Option<u32>,
    /// Highest clock of the cores, in MHz.
    pub sm_clock_max_mhz: Option<u32>,
    /// Highest clock of the memory, in MHz; data moves twice a cycle.
    pub memory_clock_max_mhz: Option<u32>,
    /// Device memory, in bytes, with what the driver keeps for itself.
    pub memory_bytes: Option<u64>,
    /// The reading before the load.
    pub before: Option<GpuReading>,
    /// The reading after the load.
    pub after: Option<GpuReading>,
    /// What was sampled during the load.
    pub load: GpuLoad,
    /// The load itself; `None` where none could be started.
    pub work: Option<GpuWork>,
    /// What went wrong with this GPU.
    pub problems: Vec<String>,
}

impl GpuDevice {
    /// The latest reading.
    pub fn latest(&self) -> Option<&GpuReading> {
        self.after.as_ref().or(self.before.as_ref())
    }
}

/// One reading of a GPU's counters and limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GpuReading {
    /// Whether error correction is on; `None` on boards that have none.
    pub ecc: Option<bool>,
    /// Memory errors since the driver was loaded, corrected.
    pub ecc_corrected: Option<u64>,
    /// Memory errors since the driver was loaded, not corrected.
    pub ecc_uncorrected: Option<u64>,
    /// Memory errors in the board's whole life, corrected.
    pub ecc_corrected_ever: Option<u64>,
    /// Memory errors in the board's whole life, not corrected.
    pub ecc_uncorrected_ever: Option<u64>,
    /// Pages taken out of use (boards before 2020).
    pub pages_retired: Option<u64>,
    /// Whether pages wait for a restart to be taken out of use.
    pub pages_pending: Option<bool>,
    /// Rows replaced by spares after corrected errors (boards since 2020).
    pub rows_remapped_corrected: Option<u64>,
    /// Rows replaced by spares after errors that were not corrected.
    pub rows_remapped_uncorrected: Option<u64>,
    /// Whether rows wait for a restart to be replaced.
    pub rows_pending: Option<bool>,
    /// Whether a row could not be replaced.
    pub row_remap_failed: Option<bool>,
    /// Temperature, in °C.
    pub temperature_c: Option<u32>,
    /// Where the hardware halves its clocks, in °C.
    pub slowdown_c: Option<u32>,
    /// Where it switches itself off, in °C.
    pub shutdown_c: Option<u32>,
    /// Power, in W.
    pub power_w: Option<f64>,
    /// The limit on it, in W.
    pub power_limit_w: Option<f64>,
    /// PCI Express generation at this moment; idle GPUs lower it.
    pub link_generation: Option<u32>,
    /// PCI Express lanes at this moment.
    pub link_width: Option<u32>,
    /// The generation that GPU and slot can do.
    pub link_generation_max: Option<u32>,
    /// The lanes that GPU and slot can do.
    pub link_width_max: Option<u32>,
    /// Transfers repeated on the PCI Express link since the driver was loaded.
    pub link_replays: Option<u64>,
    /// Whether the driver keeps the GPU initialised while nobody uses it.
    pub persistence: Option<bool>,
}

/// What was sampled while the load ran: about once a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GpuLoad {
    /// How many samples there are.
    pub samples: u64,
    /// Hottest, in °C.
    pub temperature_max_c: Option<u32>,
    /// Most power, in W.
    pub power_max_w: Option<f64>,
    /// Lowest clock of the cores, in MHz.
    pub sm_clock_min_mhz: Option<u32>,
    /// Highest clock of the cores, in MHz.
    pub sm_clock_max_mhz: Option<u32>,
    /// Highest PCI Express generation seen.
    pub link_generation: Option<u32>,
    /// Highest PCI Express width seen.
    pub link_width: Option<u32>,
    /// Why clocks were held down, each with the number of samples that said so.
    pub throttle: Vec<Throttle>,
}

/// A reason for lowered clocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Throttle {
    /// Which.
    pub reason: ThrottleReason,
    /// In how many samples.
    pub samples: u64,
}

/// Why a GPU lowers its clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThrottleReason {
    /// The hardware halved the clocks, for one of the next two reasons or another; also seen briefly while clocks change.
    HwSlowdown,
    /// The hardware halved the clocks because it is too hot.
    HwThermal,
    /// The hardware halved the clocks because the power supply asked for it.
    HwPowerBrake,
    /// The driver lowers the clocks because it is too hot.
    SwThermal,
    /// The driver holds the power limit: usual under load.
    SwPowerCap,
}

impl ThrottleReason {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::HwSlowdown => "hardware slowdown",
            Self::HwThermal => "hardware slowdown by heat",
            Self::HwPowerBrake => "power brake",
            Self::SwThermal => "software slowdown by heat",
            Self::SwPowerCap => "power limit",
        }
    }
}

/// Our own load on one GPU: memory filled and read back, arithmetic done twice and compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GpuWork {
    /// Whether a wrong word planted on purpose was found, and only that one. Without it nothing below counts.
    pub control: bool,
    /// Bytes of device memory that were taken for the test.
    pub memory_bytes: u64,
    /// Bytes of it that were written and read back at least once, each with a pattern and its inverse.
    pub verified_bytes: u64,
    /// Whole passes over that memory, each with a pattern and its inverse.
    pub passes: u64,
    /// 64-bit words that did not read back as written, over all passes.
    pub memory_errors: u64,
    /// Threads whose arithmetic came out differently the second time, or differently from the processor's.
    pub compute_errors: u64,
    /// Launches of the arithmetic kernels that were verified.
    pub compute_launches: u64,
    /// Values that the processor calculated again and compared.
    pub host_samples: u64,
    /// The first mismatches, one sentence each.
    pub mismatches: Vec<String>,
    /// Arithmetic achieved in 32-bit floating point, in GFLOP/s.
    pub gflops: Option<f64>,
    /// Memory read and written by copies inside the device, in GB/s.
    pub memory_gb_s: Option<f64>,
    /// Host to device and back, in GB/s; for information, the host's memory is part of it.
    pub bus_gb_s: Option<f64>,
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// How it ended.
    pub end: WorkEnd,
    /// Why, where it did not finish.
    pub problem: Option<String>,
}

/// How the load on a GPU ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkEnd {
    /// It ran as long as it should and all that was started was verified.
    Finished,
    /// It could not be started: library, memory or kernel code; says nothing about the GPU.
    #[default]
    NotStarted,
    /// The GPU or its driver reported an error while it worked.
    Failed,
    /// The GPU stopped answering.
    Hung,
}

/// An error report of the driver in the kernel's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Xid {
    /// PCI address as the driver writes it, without the function: `0000:01:00`.
    pub address: String,
    /// The report's number.
    pub number: u32,
    /// The rest of the line.
    pub text: String,
    /// Whether it appeared during this stage.
    pub during: bool,
}

impl Xid {
    /// Whether it is about the GPU at this PCI address.
    pub fn is_about(&self, address: &str) -> bool {
        !self.address.is_empty()
            && address
                .strip_prefix(&self.address)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// What `gpu-burn` said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GpuBurn {
    /// What it said of each GPU, by its own number.
    pub gpus: Vec<BurnGpu>,
    /// Whether it ran to its end.
    pub finished: bool,
    /// What went wrong.
    pub problems: Vec<String>,
}

/// What `gpu-burn` said of one GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BurnGpu {
    /// Its own number for it; it names neither address nor serial.
    pub number: u32,
    /// Whether it calls it fault-free.
    pub ok: bool,
    /// Most errors that it counted in one report.
    pub errors: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_spelling_stays_and_unknown_keys_are_tolerated() {
        let text = serde_json::json!({
            "counters": {"anything": 1},
            "bus": [],
            "gpus": [{"address": "0000:01:00.0", "work": {"end": "hung"},
                      "load": {"throttle": [{"reason": "hw_power_brake", "samples": 2}]}}],
        });
        let evidence: GpuEvidence = serde_json::from_value(text).expect("tolerant");
        assert_eq!(evidence.gpus[0].work.as_ref().map(|work| work.end), Some(WorkEnd::Hung));
        assert_eq!(evidence.gpus[0].load.throttle[0].reason, ThrottleReason::HwPowerBrake);
        let again = serde_json::to_value(&evidence).expect("plain data");
        assert_eq!(serde_json::from_value::<GpuEvidence>(again).expect("what was written"), evidence);
        assert!(serde_json::from_str::<GpuEvidence>("{}").is_err(), "no evidence is not an empty machine");
    }

    #[test]
    fn a_load_that_says_nothing_was_not_started() {
        assert_eq!(GpuWork::default().end, WorkEnd::NotStarted);
        assert!(!GpuWork::default().control);
    }

    #[test]
    fn an_xid_belongs_to_one_gpu() {
        let xid = Xid { address: "0000:01:00".into(), number: 79, text: String::new(), during: true };
        assert!(xid.is_about("0000:01:00.0"));
        assert!(!xid.is_about("0000:01:001"));
        assert!(!xid.is_about("0000:81:00.0"));
        assert!(!Xid { address: String::new(), ..xid }.is_about("0000:01:00.0"));
    }
}
