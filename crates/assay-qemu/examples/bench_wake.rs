//! How long a machine takes to wake from a file: `bench_wake ISO MARKER FOLDER ROUNDS`.
//!
//! Boots the ISO with 2 processors and 2 GiB until its serial console has said MARKER, saves the machine, and wakes it ROUNDS
//! times, each time until it runs. Prints one JSON object: `value` (median of the waking, in seconds), `worst`,
//! `saving`, `mib` (what the file takes on its disk) and `accel`.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use assay_qemu::{
    AccelProbe, Arch, MediumKind, Vm, VmBus, VmDisk, VmEvent, VmFiles, VmFirmware, VmImage, VmMedium, VmSpec,
};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_mins(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let mut next = |what: &str| {
        args.next().ok_or_else(|| format!("usage: bench_wake ISO MARKER FOLDER ROUNDS; {what}?"))
    };
    let (iso, marker) = (PathBuf::from(next("ISO")?), next("MARKER")?.to_string_lossy().into_owned());
    let (folder, rounds) =
        (PathBuf::from(next("FOLDER")?), next("ROUNDS")?.to_string_lossy().parse::<usize>()?);
    let accel = AccelProbe::new(folder.join("accel.json")).accel().await?;
    let disk = folder.join("disk.raw");
    std::fs::File::create(&disk)?.set_len(4 << 30)?;
    let spec = spec(iso, disk);
    let files = VmFiles { folder: folder.join("vm") };
    let saved = folder.join("saved");

    let mut vm = Vm::start(&spec, &files, &accel).await?;
    vm.go().await?;
    timeout(LIMIT, heard(&mut vm, &marker)).await??;
    let saving = vm.save(&saved).await?.took.as_secs_f64();
    vm.cut_power().await?;

    let mut took = Vec::new();
    for _ in 0..rounds.max(1) {
        let (mut woken, sleep) = Vm::wake(&spec, &files, &accel, &saved, Duration::ZERO).await?;
        took.push(sleep.took.as_secs_f64());
        woken.cut_power().await?;
    }
    took.sort_by(f64::total_cmp);
    let result = serde_json::json!({
        "value": took[took.len() / 2],
        "worst": took[took.len() - 1],
        "saving": saving,
        "mib": std::fs::metadata(&saved)?.blocks() / 2048,
        "accel": format!("{accel:?}"),
    });
    println!("{result}");
    Ok(())
}

async fn heard(vm: &mut Vm, word: &str) -> Result<(), String> {
    let mut text = String::new();
    while !text.contains(word) {
        match vm.next_event().await.1 {
            VmEvent::Serial(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            VmEvent::Ended { said, .. } => return Err(format!("QEMU ended before `{word}`: {said}")),
            _ => {}
        }
    }
    Ok(())
}

fn spec(iso: PathBuf, disk: PathBuf) -> VmSpec {
    let disk = VmDisk {
        id: "d0".to_owned(),
        image: VmImage::File(disk),
        bus: VmBus::Virtio,
        serial: "D0".to_owned(),
        sector: 512,
        rotates: false,
        removable: false,
        read_only: false,
        bytes_per_second: None,
        write_log: None,
    };
    VmSpec {
        name: "bench".to_owned(),
        arch: Arch::X86_64,
        firmware: VmFirmware::Bios,
        tpm: false,
        cpus: 2,
        memory_mib: 2048,
        clock: None,
        system_uuid: uuid::Uuid::from_u128(7),
        medium: Some(VmMedium { image: iso, kind: MediumKind::Cd, serial: String::new() }),
        disks: vec![disk],
        nics: Vec::new(),
        watchdog: false,
    }
}
