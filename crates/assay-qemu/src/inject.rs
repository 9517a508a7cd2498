//! Faults that are made while a machine runs.
//!
//! What is here happens to the machine from outside, as it would to a real one, and nothing in the guest helps.
//! Some of it is over at once, some lasts as long as somebody holds the [`Injected`]: a bit that sticks, a cable
//! that goes in and out.

use std::time::Duration;

use assay_process::Cmd;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    DiskBus, DiskRule, Lab, Machine, QemuError, Qmp,
    bmc::reading_problem,
    command::root_port,
    disk::write_rules,
    error::io_error,
    memory::{GuestMemory, StuckBits},
    network::tap_name,
    sensors::{self, Readings},
};

const TC_LIMIT: Duration = Duration::from_secs(20);
/// Bank 4, valid, a corrected memory read error with an address.
const CORRECTED: &str = "mce 0 4 0x8c00004000010091 0x0 0x12345000 0x8c";
/// The same bank, uncorrected with the processor's context lost: Linux panics.
const FATAL: &str = "mce 0 4 0xbd000000000000c0 0x5 0x40000000 0x8c";

/// Something that happens to a running machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum Injection {
    /// A served disk obeys these rules from now on, in place of those before. None make it well again.
    Disk {
        /// The disk.
        disk: String,
        /// The rules.
        rules: Vec<DiskRule>,
    },
    /// A disk or a card is pulled out. SATA disks cannot be.
    Pull {
        /// Its id.
        part: String,
    },
    /// An NVMe disk begins to warn in its health log.
    NvmeWarning {
        /// The disk.
        disk: String,
        /// The bits of the critical-warning byte.
        bits: u8,
    },
    /// Bits of memory stick at 1 where a memory test is at work. Lasts while it is held.
    StuckBits {
        /// How many.
        bits: usize,
    },
    /// A processor reports a machine check.
    MachineCheck {
        /// Whether the machine cannot survive it.
        fatal: bool,
        /// How many times.
        #[serde(default = "once")]
        times: u32,
    },
    /// The PCIe link of a card or disk reports errors.
    PcieError {
        /// Whose link.
        part: String,
        /// Whether they could be corrected (receiver errors), or not (completion timeouts).
        corrected: bool,
        /// How many.
        #[serde(default = "once")]
        times: u32,
    },
    /// A cable is pulled out or plugged in.
    Link {
        /// The network card.
        nic: String,
        /// Plugged in.
        up: bool,
    },
    /// A cable is loose: the link goes down and up again. Lasts while it is held.
    Flap {
        /// The network card.
        nic: String,
        /// How often.
        times: u32,
        /// How long it is down, and then up, in milliseconds.
        ms: u64,
    },
    /// What the machine is sent by its switch is slow or gets lost.
    Impair {
        /// The network card.
        nic: String,
        /// At most this much, in Mb/s.
        #[serde(default)]
        rate_mbit: Option<u32>,
        /// One packet in so many is lost: a power of two up to 256. Not beside a rate.
        #[serde(default)]
        loses_one_in: Option<u16>,
    },
    /// The sensors show something else.
    Sensors {
        /// Temperature in °C.
        celsius: u32,
        /// Power in watts.
        watts: u32,
    },
    /// A sensor of its BMC reads something else.
    BmcSensor {
        /// The sensor, such as `P12V` or `FAN1`.
        sensor: String,
        /// Millivolts, revolutions per minute, degrees Celsius, or bits.
        value: u32,
    },
    /// It resets by itself.
    Reset,
    /// It hangs.
    Freeze,
    /// Its power fails.
    PowerCut,
}

/// A fault that was made. What lasts of it ends when this is dropped.
#[derive(Debug)]
pub struct Injected {
    bits: Option<StuckBits>,
    task: Option<JoinHandle<()>>,
}

impl Injected {
    /// Whether the fault has happened; one that waits for its moment may not have.
    pub fn happened(&self) -> bool {
        self.bits.as_ref().is_none_or(|bits| bits.count() > 0)
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Injection {
    /// Refuses what cannot happen to `machine`, which is called `name`.
    ///
    /// # Errors
    /// [`QemuError::Invalid`], saying what the machine lacks.
    pub fn check(&self, name: &str, machine: &Machine) -> Result<(), QemuError> {
        self.problem(machine).map_or(Ok(()), |problem| {
            let field = format!("inject.{}", self.word());
            Err(QemuError::Invalid { machine: name.to_owned(), field, problem })
        })
    }

    fn problem(&self, machine: &Machine) -> Option<String> {
        let disk = |id: &String| machine.disks.iter().find(|disk| disk.id == *id);
        let nic = |id: &String| machine.nics.iter().any(|nic| nic.id == *id);
        let no_disk = |id: &String| format!("there is no disk `{id}`");
        let no_nic = |id: &String| format!("there is no network card `{id}`");
        match self {
            Self::Disk { disk: id, rules } => match disk(id) {
                None => Some(no_disk(id)),
                Some(disk) if !disk.served => Some(format!("disk `{id}` needs served = true")),
                Some(disk) => rules.iter().find_map(|rule| rule.problem(disk.size_mib)),
            },
            Self::Pull { part } => match disk(part) {
                Some(disk) if disk.bus == DiskBus::Sata => {
                    Some("QEMU's SATA disks cannot be pulled; choose scsi, nvme or virtio".to_owned())
                }
                None if !nic(part) => Some(format!("there is no disk or network card `{part}`")),
                _ => None,
            },
            Self::NvmeWarning { disk: id, bits } => match disk(id) {
                None => Some(no_disk(id)),
                Some(disk) if disk.bus != DiskBus::Nvme => Some(format!("disk `{id}` is not NVMe")),
                Some(_) => (!(1..=0x3f).contains(bits)).then(|| "bits must be between 1 and 63".to_owned()),
            },
            Self::StuckBits { bits } => {
                (*bits == 0).then(|| "bits must be at least 1".to_owned()).or_else(|| {
                    (!machine.bench.memory).then(|| "the machine needs bench.memory = true".to_owned())
                })
            }
            Self::Sensors { .. } => {
                (!machine.bench.sensors).then(|| "the machine needs bench.sensors = true".to_owned())
            }
            Self::MachineCheck { times, .. } => (*times == 0).then(|| "times must be at least 1".to_owned()),
            Self::PcieError { part, times, .. } => match root_port(machine, part) {
                None => Some(format!("`{part}` is no network card or disk with a PCIe link of its own")),
                Some(_) => (*times == 0).then(|| "times must be at least 1".to_owned()),
            },
            Self::Link { nic: id, .. } => (!nic(id)).then(|| no_nic(id)),
            Self::Flap { nic: id, times, ms } => (!nic(id))
                .then(|| no_nic(id))
                .or_else(|| (*times == 0 || *ms == 0).then(|| "times and ms must be at least 1".to_owned())),
            Self::Impair { nic: id, rate_mbit, loses_one_in } => {
                (!nic(id)).then(|| no_nic(id)).or_else(|| {
                    let fits = match (rate_mbit, loses_one_in) {
                        (Some(rate), None) => *rate > 0,
                        (None, Some(one_in)) => one_in.is_power_of_two() && *one_in <= 256,
                        _ => false,
                    };
                    (!fits).then(|| {
                        "say either a rate_mbit of at least 1, or loses_one_in, a power of two up to 256"
                            .to_owned()
                    })
                })
            }
            Self::BmcSensor { sensor, value } => match machine.bmc {
                None => Some("the machine needs bmc = \"ipmi\"".to_owned()),
                Some(_) => reading_problem(sensor, *value),
            },
            Self::Reset | Self::Freeze | Self::PowerCut => None,
        }
    }

    /// The spelling in files.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "disk",
            Self::Pull { .. } => "pull",
            Self::NvmeWarning { .. } => "nvme_warning",
            Self::StuckBits { .. } => "stuck_bits",
            Self::MachineCheck { .. } => "machine_check",
            Self::PcieError { .. } => "pcie_error",
            Self::Link { .. } => "link",
            Self::Flap { .. } => "flap",
            Self::Impair { .. } => "impair",
            Self::Sensors { .. } => "sensors",
            Self::BmcSensor { .. } => "bmc_sensor",
            Self::Reset => "reset",
            Self::Freeze => "freeze",
            Self::PowerCut => "power_cut",
        }
    }
}

impl Lab {
    /// Makes a fault on a running machine.
    ///
    /// # Errors
    /// [`QemuError`] when the machine is not on, cannot have that fault, or QEMU refuses it.
    pub async fn inject(&self, name: &str, injection: &Injection) -> Result<Injected, QemuError> {
        let machine = self.machine(name)?.actual;
        injection.check(name, &machine)?;
        let folder = self.folder(name)?;
        let pid = Self::pid(name, &folder)?;
        let mut injected = Injected { bits: None, task: None };
        match injection {
            Injection::Disk { disk, rules } => {
                let path = folder.disk_rules(disk);
                write_rules(&path, rules).map_err(io_error("writing", path))?;
            }
            Injection::Pull { part } => self.monitor(name).await?.device_del(part).await?,
            Injection::NvmeWarning { disk, bits } => {
                let path = format!("/machine/peripheral/{disk}");
                self.monitor(name).await?.qom_set(&path, "smart_critical_warning", json!(bits)).await?;
            }
            Injection::StuckBits { bits } => injected.bits = Some(memory(name, pid)?.stick(*bits)),
            Injection::MachineCheck { fatal, times } => {
                let line = if *fatal { FATAL } else { CORRECTED };
                let monitor = self.monitor(name).await?;
                for _ in 0..*times {
                    expect_words(&monitor, line, "").await?;
                }
            }
            Injection::PcieError { part, corrected, times } => {
                // Checked above.
                let port = root_port(&machine, part).unwrap_or_default();
                let line = if *corrected {
                    format!("pcie_aer_inject_error -c {port} 0x1")
                } else {
                    format!("pcie_aer_inject_error {port} 0x4000")
                };
                let monitor = self.monitor(name).await?;
                for _ in 0..*times {
                    expect_words(&monitor, &line, "OK").await?;
                }
            }
            Injection::Link { nic, up } => self.monitor(name).await?.set_link(nic, *up).await?,
            Injection::Flap { nic, times, ms } => {
                // A monitor of its own: the lab's is needed by others meanwhile.
                let monitor = self.qmp(name).await?;
                injected.task =
                    Some(tokio::spawn(flap(monitor, nic.clone(), *times, Duration::from_millis(*ms))));
            }
            Injection::Impair { nic, rate_mbit, loses_one_in } => {
                let mac = machine.nics.iter().find(|known| known.id == *nic).map(|nic| nic.mac);
                let tap = mac.map(|mac| tap_name(&mac)).unwrap_or_default();
                let netns = &self.network().config().netns;
                for line in impairment(&tap, *rate_mbit, *loses_one_in) {
                    let words = line.split(' ');
                    Cmd::new("tc").args(["-netns", netns]).args(words).timeout(TC_LIMIT).run_ok().await?;
                }
            }
            Injection::Sensors { celsius, watts } => {
                let readings = Readings { celsius: *celsius, watts: *watts };
                let memory = memory(name, pid)?;
                let set = tokio::task::spawn_blocking(move || sensors::set(&memory, readings)).await;
                let places = set.map_err(std::io::Error::other).and_then(|set| set);
                let places = places.map_err(io_error("writing the memory of", folder.path()))?;
                if places == 0 {
                    return Err(QemuError::WrongState {
                        machine: name.to_owned(),
                        state: "not far enough in its boot for its sensors to be there",
                        hint: "try again when its system runs",
                    });
                }
            }
            Injection::BmcSensor { sensor, value } => self.set_bmc_sensor(name, sensor, *value)?,
            Injection::Reset => self.monitor(name).await?.system_reset().await?,
            Injection::Freeze => self.monitor(name).await?.stop().await?,
            Injection::PowerCut => self.power_off(name).await?,
        }
        tracing::info!(machine.name = name, fault = injection.word(), "a fault was made on a lab machine");
        Ok(injected)
    }
}

/// The memory of a machine that shares it, which was checked.
fn memory(name: &str, pid: u32) -> Result<GuestMemory, QemuError> {
    let memory = GuestMemory::of(pid).map_err(io_error("looking at the files of", format!("/proc/{pid}")))?;
    memory.ok_or_else(|| QemuError::WrongState {
        machine: name.to_owned(),
        state: "on without shared memory",
        hint: "its file was changed since it was switched on; power-cycle it",
    })
}

/// Human monitor commands that fail say so in words and in no other way.
async fn expect_words(monitor: &Qmp, line: &str, begins: &str) -> Result<(), QemuError> {
    let said = monitor.human_monitor_command(line).await?;
    let fits = if begins.is_empty() { said.trim().is_empty() } else { said.trim_start().starts_with(begins) };
    if fits {
        return Ok(());
    }
    Err(QemuError::QmpGarbled { command: line.to_owned(), said: said.trim().to_owned() })
}

async fn flap(monitor: Qmp, nic: String, times: u32, pause: Duration) {
    for up in (0..times).flat_map(|_| [false, true]) {
        let arguments: Value = json!({"name": nic, "up": up});
        if monitor.execute("set_link", arguments).await.is_err() {
            // The machine is gone, and its cable with it.
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// The `tc` commands, with what is in every kernel. The module that loses packets is not, so those whose number (the low
/// byte of their IP identification) ends in ones go to a queue that holds none. Not in zeros: that is what the answers to a
/// connection's first packet have, and none could be made.
fn impairment(tap: &str, rate_mbit: Option<u32>, loses_one_in: Option<u16>) -> Vec<String> {
    let Some(one_in) = loses_one_in else {
        let rate = rate_mbit.unwrap_or(1);
        return vec![format!("qdisc replace dev {tap} root tbf rate {rate}mbit burst 64kbit latency 50ms")];
    };
    let mask = one_in.saturating_sub(1);
    vec![
        format!("qdisc replace dev {tap} root handle 1: htb default 10"),
        format!("class replace dev {tap} parent 1: classid 1:10 htb rate 100gbit quantum 60000"),
        format!("class replace dev {tap} parent 1: classid 1:20 htb rate 100gbit quantum 60000"),
        format!("qdisc replace dev {tap} parent 1:20 handle 20: pfifo limit 0"),
        format!(
            "filter replace dev {tap} parent 1: protocol ip prio 1 u32 match u8 {mask:#x} {mask:#x} at 5 flowid 1:20"
        ),
    ]
}

fn once() -> u32 {
    1
}
