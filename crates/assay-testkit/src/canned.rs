//! A healthy machine, as evidence: what its collectors would have brought back, and the spec that it
//! fits. Each piece passes its judge; a test breaks the one thing that it is about.

use assay_model::Mac;
use assay_model::host::counters::{
    CounterPair, Counters, KEY, KernelLog, MemoryErrors, NicCounters, PcieErrors,
};
use assay_model::host::cpu_stress::{CpuStressEvidence, Ended, MemoryTest, Temperature, ToolRun, Work};
use assay_model::host::inventory::{Cpu, Disk, Inventory, Memory, Nic, System};
use assay_model::host::memtest::MemtestEvidence;
use assay_model::host::network::{Link, NetworkEvidence, NicTest, Transfer};
use assay_model::host::permit::GuardAnswer;
use assay_model::host::psu::{Envelope, Load, PsuEvidence, RailKind, RailLimits, RailSensor, RailSource};
use assay_model::host::smart::{
    DiskClass, DiskCounters, DiskTemperature, NvmeCounters, SelfTest, SelfTestOutcome, SmartDisk,
    SmartEvidence, SmartReading, SmartSupport, SmartctlExit,
};
use assay_model::host::spec;
use assay_model::host::storage::{
    self, Left, PermitOutcome, RandomRate, RandomSpeed, Refusal, RefusalKind, StorageDisk, StorageEvidence,
    Surface, SurfacePlan, WipeProbe, ZoneRate, ZoneSpeed,
};
use serde::Serialize;
use serde_json::Value;

/// The name under which the canned host is registered.
pub const HOST: &str = "web-3";

/// The address that the machine boots from.
pub const MAC: Mac = Mac([0x3c, 0xec, 0xef, 0x12, 0x34, 0x56]);

/// What the machine should be.
pub const SPEC: &str =
    "format: 1\nsystem: {product: R650}\ndisks: [{serial: S1}, {serial: S2}]\ncluster: none\n";

/// What the machine is made of.
pub fn inventory() -> Inventory {
    let disk = |name: &str, serial: &str| Disk {
        name: name.into(),
        serial: Some(serial.into()),
        model: Some("MZQL2960".into()),
        size_bytes: Some(960_197_124_096),
        ..Disk::default()
    };
    Inventory {
        system: System { product: Some("R650".into()), serial: Some("7XK2M33".into()), ..System::default() },
        cpus: vec![Cpu { cores: Some(16), threads: Some(32), ..Cpu::default() }],
        memory: Memory { total_mib: Some(64_193), dimms: Vec::new() },
        disks: vec![disk("nvme0n1", "S1"), disk("nvme1n1", "S2")],
        nics: vec![Nic { name: "eno1".into(), mac: Some(MAC.to_string()), ..Nic::default() }],
        ..Inventory::default()
    }
}

/// The same machine with another disk in place of the second one.
pub fn swapped_disk() -> Inventory {
    let mut inventory = inventory();
    inventory.disks[1].serial = Some("OTHER".into());
    inventory
}

/// The health of both disks.
pub fn smart() -> SmartEvidence {
    SmartEvidence { disks: vec![nvme("nvme0n1", "S1"), nvme("nvme1n1", "S2")], ..SmartEvidence::default() }
}

/// All of its memory, and ten minutes of load.
pub fn cpu_stress() -> CpuStressEvidence {
    let mib = |count: u64| count << 20;
    let work = |name: &str, done: f64| Work { name: name.into(), done, per_second: done / 600.0 };
    let ran = |asked_s: u32, work: Vec<Work>| ToolRun {
        ended: Ended::Finished,
        asked_s,
        seconds: f64::from(asked_s) + 0.4,
        exit: Some(0),
        work,
        ..ToolRun::default()
    };
    let copied = ran(60, vec![work("memory copied, MiB", 920_000.0)]);
    CpuStressEvidence {
        processors: 32,
        memory: MemoryTest {
            ended: Ended::Finished,
            total: mib(64_193),
            available: mib(63_400),
            reserve: mib(705),
            asked: mib(62_695),
            region: mib(62_690),
            locked: true,
            threads: 32,
            patterns: vec!["address".into(), "inverse".into()],
            passes: 2,
            written: mib(125_380),
            verified: mib(125_380),
            seconds: 7.5,
            ..MemoryTest::default()
        },
        stress_ng: ran(600, vec![work("cpu", 1_890_000.0), work("vm", 94_000.0)]),
        stressapptest: ToolRun { passed: Some(true), errors: Some(0), ..copied },
        temperatures: vec![Temperature {
            sensor: "coretemp/Package id 0@coretemp.0".into(),
            samples: 668,
            max: Some(71.0),
            sustained: Some(71.0),
            last: Some(70.0),
            ..Temperature::default()
        }],
        throttled: Some(Vec::new()),
        stopped: None,
        seconds: 668.0,
    }
}

/// The one port, at line rate in both directions.
pub fn network() -> NetworkEvidence {
    let bytes = 1_764_000_000;
    let way = Transfer {
        bits_per_second: 941e6,
        bytes,
        seconds: 15.0,
        retransmits: Some(3),
        segment: Some(1448),
        total_bytes: bytes,
        port_bytes: Some(bytes + bytes / 16),
        cpu_here: Some(12.0),
        cpu_there: Some(15.0),
    };
    let nic = NicTest {
        name: "eno1".into(),
        mac: Some(MAC.to_string()),
        link: Some(Link { speed_mbps: Some(1000), full_duplex: Some(true), max_mbps: Some(1000) }),
        sent: Some(way.clone()),
        received: Some(way),
        flaps: Some(0),
        ..NicTest::default()
    };
    NetworkEvidence { nics: vec![nic], servers: 1, ..NetworkEvidence::default() }
}

/// One rail, steady under load.
pub fn psu() -> PsuEvidence {
    let envelope = |mean, samples| Envelope {
        samples,
        missing: 0,
        min: Some(mean - 0.02),
        max: Some(mean + 0.02),
        mean: Some(mean),
    };
    let rail = RailSensor {
        name: "P12V".into(),
        source: RailSource::Bmc,
        kind: RailKind::Voltage,
        unit: "V".into(),
        limits: RailLimits { low_critical: Some(11.4), high_critical: Some(12.6), ..RailLimits::default() },
        idle: envelope(12.06, 20),
        load: envelope(11.98, 280),
    };
    let load = Load { what: "processors".into(), ran: true, detail: "stress-ng".into() };
    PsuEvidence {
        idle_s: 20.0,
        load_s: 300.0,
        loads: vec![load],
        sensors: vec![rail],
        ..PsuEvidence::default()
    }
}

/// Counters that stand still.
pub fn counters() -> CounterPair {
    let reading = Counters {
        memory: Some(vec![MemoryErrors { id: "mc0".into(), ..MemoryErrors::default() }]),
        machine_checks: Some(0),
        pcie: vec![PcieErrors { address: "0000:00:1c.0".into(), ..PcieErrors::default() }],
        nics: vec![NicCounters { name: "eno1".into(), ..NicCounters::default() }],
        kernel: Some(KernelLog::default()),
        ..Counters::default()
    };
    CounterPair { before: reading.clone(), after: reading, seconds: 1 }
}

/// The evidence of a stage on the healthy machine. Stages that need none get `null`.
pub fn evidence(stage: &str) -> Value {
    let plain = "canned evidence is plain data";
    let evidence = match stage {
        "Inventory" | "SpecValidate" => serde_json::to_value(inventory()).expect(plain),
        "CPUStress" => serde_json::to_value(cpu_stress()).expect(plain),
        "SMART" => serde_json::to_value(smart()).expect(plain),
        "Storage" => serde_json::to_value(storage()).expect(plain),
        "Network" => serde_json::to_value(network()).expect(plain),
        "GPU" => serde_json::json!({ "bus": [] }),
        "Memtest86" => serde_json::to_value(memtest()).expect(plain),
        "PSU" => serde_json::to_value(psu()).expect(plain),
        _ => Value::Null,
    };
    with_counters(&evidence)
}

/// Evidence with counters that stand still beside it, as every stage brings them.
pub fn with_counters<T: Serialize>(evidence: &T) -> Value {
    let plain = "canned evidence is plain data";
    let mut evidence = serde_json::to_value(evidence).expect(plain);
    if let Value::Object(map) = &mut evidence {
        map.insert(KEY.to_owned(), serde_json::to_value(counters()).expect(plain));
    }
    evidence
}

/// The scan of a machine some of whose disks hold data: halted while any of them is `refused`, whole
/// otherwise.
pub fn storage_with_data(refused: &[&str], with_data: &[&str]) -> StorageEvidence {
    let mut evidence = storage();
    for disk in &mut evidence.disks {
        let serial = disk.serial.as_deref().unwrap_or_default();
        disk.data_permitted = with_data.contains(&serial) && !refused.contains(&serial);
        if refused.contains(&serial) {
            let detail = "an XFS file system".to_owned();
            disk.refusals = vec![Refusal { why: RefusalKind::HoldsData, detail }];
        }
        if !refused.is_empty() {
            (disk.surface, disk.speed, disk.left) = (None, None, None);
            disk.artifacts.clear();
        }
    }
    evidence.written = refused.is_empty();
    evidence
}

/// What memtest86+ drew: one pass, no error.
pub fn memtest() -> MemtestEvidence {
    MemtestEvidence {
        version: Some("Memtest86+ v6.10".into()),
        memory: Some("63.9GB".into()),
        passes: 1,
        status: Some("Pass".into()),
        time: Some("1:02:03".into()),
        listened_s: 3780.0,
        passes_asked: 1,
        ..MemtestEvidence::default()
    }
}

/// What the surface scan found on both disks: nothing.
pub fn storage() -> StorageEvidence {
    StorageEvidence {
        format: storage::FORMAT,
        permit: PermitOutcome::Valid { guard: GuardAnswer::NoCluster },
        disks: vec![scanned("nvme0n1", "S1"), scanned("nvme1n1", "S2")],
        written: true,
        ..StorageEvidence::default()
    }
}

fn scanned(name: &str, serial: &str) -> StorageDisk {
    let bytes = 960_197_124_096;
    let rate = |mb_s: u64| ZoneRate {
        bytes: bytes / 64,
        bytes_per_second: mb_s * 1_000_000,
        p50_us: 5_000,
        max_us: 20_000,
        requests: 14_000,
    };
    let zone = |number: u64| ZoneSpeed {
        offset: number * (bytes / 64),
        length: bytes / 64,
        write: Some(rate(1_800)),
        read: Some(rate(3_100)),
    };
    let random = |iops: f64| RandomRate { iops, p99_us: 400, requests: 1_000_000, seconds: 15.0 };
    StorageDisk {
        wanted: serial.to_owned(),
        name: name.to_owned(),
        serial: Some(serial.to_owned()),
        model: Some("MZQL2960".to_owned()),
        size_bytes: Some(bytes),
        class: Some(spec::DiskClass::Nvme),
        probe: Some(WipeProbe { device_bytes: bytes, samples: 4096, ..WipeProbe::default() }),
        surface: Some(Surface {
            plan: SurfacePlan::BurnIn,
            device_bytes: bytes,
            planned_bytes: bytes,
            covered_bytes: bytes,
            written_bytes: bytes,
            verified_bytes: bytes,
            zones: (0..64).map(zone).collect(),
            seconds: 860.0,
            ..Surface::default()
        }),
        speed: Some(RandomSpeed {
            read: Some(random(400_000.0)),
            write: Some(random(90_000.0)),
            errors: Vec::new(),
        }),
        left: Some(Left::Zeroed),
        artifacts: vec![format!("surface-{serial}.json"), format!("fio-{serial}.json")],
        ..StorageDisk::default()
    }
}

fn nvme(name: &str, serial: &str) -> SmartDisk {
    let counters = NvmeCounters {
        critical_warning: Some(0),
        available_spare: Some(100),
        available_spare_threshold: Some(10),
        media_errors: Some(0),
        ..NvmeCounters::default()
    };
    let reading = SmartReading {
        exit: SmartctlExit::of(0),
        passed: Some(true),
        temperature: DiskTemperature { current_c: Some(35), warning_c: None, critical_c: None },
        power_on_hours: Some(10),
        percentage_used: Some(1),
        solid_state: Some(true),
        error_log_entries: Some(0),
        self_test_failures: Some(0),
        counters: Some(DiskCounters::Nvme(counters)),
        messages: Vec::new(),
    };
    SmartDisk {
        name: name.to_owned(),
        serial: Some(serial.to_owned()),
        wwn: None,
        model: Some("MZQL2960".to_owned()),
        class: DiskClass::Nvme,
        support: SmartSupport::Available,
        before: Some(reading.clone()),
        after: Some(reading),
        self_test: SelfTest {
            supported: Some(true),
            outcome: SelfTestOutcome::Passed,
            seconds: Some(60),
            detail: "Completed without error".to_owned(),
        },
        artifacts: vec![format!("smart-{serial}.txt")],
        problems: Vec::new(),
    }
}
