//! What the driver tells of its GPUs, through its management library (NVML).
//!
//! Boards differ in what they can tell. What a board cannot tell is `None`; what it should tell and could not is a
//! sentence among the device's problems.

use std::ffi::OsStr;

use assay_model::host::gpu::{GpuDevice, GpuLoad, GpuReading, Throttle, ThrottleReason};
use assay_model::text::{clean, clean_to};
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, RetirementCause, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, Nvml};

use crate::kernel_address;

/// More GPUs than any machine has; a library that tells more is not believed.
const MAX_GPUS: u32 = 64;
/// Most problems kept for one GPU.
const MAX_PROBLEMS: usize = 20;
/// Remapped rows: corrected, uncorrected, pending, failed (`NVML_FI_DEV_REMAPPED_…`).
const REMAPPED: [u32; 4] = [142, 143, 144, 145];

const REASONS: [(ThrottleReasons, ThrottleReason); 5] = [
    (ThrottleReasons::HW_SLOWDOWN, ThrottleReason::HwSlowdown),
    (ThrottleReasons::HW_THERMAL_SLOWDOWN, ThrottleReason::HwThermal),
    (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, ThrottleReason::HwPowerBrake),
    (ThrottleReasons::SW_THERMAL_SLOWDOWN, ThrottleReason::SwThermal),
    (ThrottleReasons::SW_POWER_CAP, ThrottleReason::SwPowerCap),
];

/// The management library, loaded.
pub struct Management {
    nvml: Nvml,
}

/// The management library cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// It is not there.
    #[error(
        "the driver's management library cannot be loaded; add the driver's user-space libraries to the live image: {0}"
    )]
    Library(#[source] NvmlError),
    /// It is there and does not find a kernel driver that it gets on with.
    #[error(
        "the driver's management library cannot be initialised; load the kernel module of the same version: {0}"
    )]
    NoDriver(#[source] NvmlError),
    /// A GPU could not be asked.
    #[error("{what}: {source}")]
    Asking {
        /// What was asked.
        what: String,
        /// What the library said.
        source: NvmlError,
    },
}

impl Management {
    /// Loads and initialises it from the path or name `library`.
    pub fn load(library: &OsStr) -> Result<Self, ManagementError> {
        match Nvml::builder().lib_path(library).init() {
            Ok(nvml) => Ok(Self { nvml }),
            Err(problem @ (NvmlError::LibloadingError(_) | NvmlError::FailedToLoadSymbol(_))) => {
                Err(ManagementError::Library(problem))
            }
            Err(problem) => Err(ManagementError::NoDriver(problem)),
        }
    }

    /// The driver's version.
    pub fn driver_version(&self) -> Option<String> {
        self.nvml
            .sys_driver_version()
            .ok()
            .map(|version| clean(&version))
            .filter(|version| !version.is_empty())
    }

    /// Every GPU that the driver lists, with its identity and a first reading; and what went wrong with others.
    pub fn devices(&self) -> Result<(Vec<GpuDevice>, Vec<String>), ManagementError> {
        let count = self
            .nvml
            .device_count()
            .map_err(|source| ManagementError::Asking { what: "the number of GPUs".to_owned(), source })?;
        let mut problems = Vec::new();
        if count > MAX_GPUS {
            problems.push(format!("the driver tells of {count} GPUs; only {MAX_GPUS} are looked at"));
        }
        let mut devices = Vec::new();
        for index in 0..count.min(MAX_GPUS) {
            let described = self.nvml.device_by_index(index).and_then(|device| {
                let address = kernel_address(&clean(&device.pci_info()?.bus_id));
                Ok(describe(&device, address))
            });
            match described {
                Ok(device) => devices.push(device),
                Err(problem) => problems.push(format!("GPU number {index} of the driver: {problem}")),
            }
        }
        Ok((devices, problems))
    }

    /// Another reading of the GPU at this address.
    pub fn reading(&self, address: &str) -> Result<(GpuReading, Vec<String>), ManagementError> {
        let device = self.device(address)?;
        let mut asked = Asked::default();
        let reading = read(&device, &mut asked);
        Ok((reading, asked.problems))
    }

    /// Adds one sample of the GPU at this address to what was seen under load.
    pub fn sample(&self, address: &str, load: &mut GpuLoad) -> Result<(), ManagementError> {
        let device = self.device(address)?;
        let asking = |source| ManagementError::Asking { what: format!("GPU {address} under load"), source };
        let temperature = device.temperature(TemperatureSensor::Gpu).map_err(asking)?;
        load.samples += 1;
        load.temperature_max_c = load.temperature_max_c.max(Some(temperature));
        if let Some(watts) = device.power_usage().ok().map(watts) {
            load.power_max_w = Some(load.power_max_w.map_or(watts, |most| most.max(watts)));
        }
        if let Ok(clock) = device.clock_info(Clock::SM) {
            load.sm_clock_min_mhz = Some(load.sm_clock_min_mhz.map_or(clock, |least| least.min(clock)));
            load.sm_clock_max_mhz = load.sm_clock_max_mhz.max(Some(clock));
        }
        load.link_generation = load.link_generation.max(device.current_pcie_link_gen().ok());
        load.link_width = load.link_width.max(device.current_pcie_link_width().ok());
        if let Ok(reasons) = device.current_throttle_reasons() {
            for (bit, reason) in REASONS {
                if !reasons.contains(bit) {
                    continue;
                }
                match load.throttle.iter_mut().find(|known| known.reason == reason) {
                    Some(known) => known.samples += 1,
                    None => load.throttle.push(Throttle { reason, samples: 1 }),
                }
            }
        }
        Ok(())
    }

    fn device(&self, address: &str) -> Result<Device<'_>, ManagementError> {
        let asking = |source| ManagementError::Asking { what: format!("GPU {address}"), source };
        // By address, not by number: numbers move up when a GPU falls off the bus.
        self.nvml.device_by_pci_bus_id(address).map_err(asking)
    }
}

fn describe(device: &Device<'_>, address: String) -> GpuDevice {
    let mut asked = Asked::default();
    let text = |told: Option<String>| told.map(|text| clean(&text)).filter(|text| !text.is_empty());
    let mut described = GpuDevice {
        address,
        name: text(asked.told("its name", device.name())),
        uuid: text(asked.told("its UUID", device.uuid())),
        serial: text(asked.told("its serial number", device.serial())).filter(|serial| serial != "0"),
        vbios: text(asked.told("its firmware version", device.vbios_version())),
        cores: asked.told("its cores", device.num_cores()),
        memory_bus_bits: asked.told("its memory bus", device.memory_bus_width()),
        sm_clock_max_mhz: asked.told("its highest clock", device.max_clock_info(Clock::SM)),
        memory_clock_max_mhz: asked.told("its highest memory clock", device.max_clock_info(Clock::Memory)),
        memory_bytes: asked.told("its memory", device.memory_info()).map(|info| info.total),
        before: Some(read(device, &mut asked)),
        ..GpuDevice::default()
    };
    described.problems = asked.problems;
    described
}

fn read(device: &Device<'_>, asked: &mut Asked) -> GpuReading {
    let ecc = asked.told("ECC mode", device.is_ecc_enabled()).map(|mode| mode.currently_enabled);
    let mut errors = |kind, span| {
        // Without ECC the counters stand at 0 and say nothing.
        (ecc == Some(true))
            .then(|| asked.told("memory errors", device.total_ecc_errors(kind, span)))
            .flatten()
    };
    let ecc_corrected = errors(MemoryError::Corrected, EccCounter::Volatile);
    let ecc_uncorrected = errors(MemoryError::Uncorrected, EccCounter::Volatile);
    let ecc_corrected_ever = errors(MemoryError::Corrected, EccCounter::Aggregate);
    let ecc_uncorrected_ever = errors(MemoryError::Uncorrected, EccCounter::Aggregate);
    let [rows_corrected, rows_uncorrected, rows_pending, rows_failed] = remapped(device, asked);
    let mut celsius =
        |what, kind| asked.told(what, device.temperature_threshold(kind)).filter(|&degrees| degrees > 0);
    let slowdown_c = celsius("its slowdown temperature", TemperatureThreshold::Slowdown);
    let shutdown_c = celsius("its shutdown temperature", TemperatureThreshold::Shutdown);
    GpuReading {
        ecc,
        ecc_corrected,
        ecc_uncorrected,
        ecc_corrected_ever,
        ecc_uncorrected_ever,
        pages_retired: pages(device, asked),
        pages_pending: asked.told("pending pages", device.are_pages_pending_retired()),
        rows_remapped_corrected: rows_corrected,
        rows_remapped_uncorrected: rows_uncorrected,
        rows_pending: rows_pending.map(|rows| rows != 0),
        row_remap_failed: rows_failed.map(|rows| rows != 0),
        temperature_c: asked.told("its temperature", device.temperature(TemperatureSensor::Gpu)),
        slowdown_c,
        shutdown_c,
        power_w: asked.told("its power", device.power_usage()).map(watts),
        power_limit_w: asked.told("its power limit", device.enforced_power_limit()).map(watts),
        link_generation: asked.told("its link generation", device.current_pcie_link_gen()),
        link_width: asked.told("its link width", device.current_pcie_link_width()),
        link_generation_max: asked.told("its highest link generation", device.max_pcie_link_gen()),
        link_width_max: asked.told("its highest link width", device.max_pcie_link_width()),
        link_replays: asked.told("link replays", device.pcie_replay_counter()).map(u64::from),
        persistence: asked.told("persistence mode", device.is_in_persistent_mode()),
    }
}

fn pages(device: &Device<'_>, asked: &mut Asked) -> Option<u64> {
    let causes = [RetirementCause::MultipleSingleBitEccErrors, RetirementCause::DoubleBitEccError];
    causes.into_iter().try_fold(0, |sum, cause| {
        Some(sum + asked.told("retired pages", device.retired_pages(cause))?.len() as u64)
    })
}

fn remapped(device: &Device<'_>, asked: &mut Asked) -> [Option<u64>; 4] {
    let Some(values) = asked.told("remapped rows", device.field_values_for(&REMAPPED.map(FieldId))) else {
        return [None; 4];
    };
    let mut rows = [None; 4];
    for (row, value) in rows.iter_mut().zip(values) {
        *row = match asked.told("remapped rows", value.and_then(|sample| sample.value)) {
            Some(SampleValue::U32(count)) => Some(u64::from(count)),
            Some(SampleValue::U64(count)) => Some(count),
            Some(SampleValue::I64(count)) => u64::try_from(count).ok(),
            Some(SampleValue::F64(_)) | None => None,
        };
    }
    rows
}

fn watts(milliwatts: u32) -> f64 {
    f64::from(milliwatts) / 1000.0
}

/// Takes answers, and keeps the refusals that mean something.
#[derive(Default)]
struct Asked {
    problems: Vec<String>,
}

impl Asked {
    fn told<T>(&mut self, what: &str, answer: Result<T, NvmlError>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            // A board without it, or a driver from before it.
            Err(
                NvmlError::NotSupported
                | NvmlError::FailedToLoadSymbol(_)
                | NvmlError::NotFound
                | NvmlError::InvalidArg,
            ) => None,
            Err(problem) => {
                let sentence = clean_to(&format!("{what} could not be read: {problem}"), 300);
                if self.problems.len() < MAX_PROBLEMS && !self.problems.contains(&sentence) {
                    self.problems.push(sentence);
                }
                None
            }
        }
    }
}
