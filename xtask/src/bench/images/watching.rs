//! What it costs to watch a machine: the same medium to the same line, under Assay and under bare QEMU, in turns.
//!
//! Both machines have the same board, processors, memory and devices, and the same accelerator, which is the one that Assay
//! chose. Times count from the moment in which the machine is let go: under Assay its transcript has them, bare QEMU is
//! let go when it is started.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::super::{Figure, Goal, median};
use super::{Bench, UP};

/// At most 2 % slower.
const GOAL: Goal = Goal::RatioAtLeast(0.98);

pub(super) const PROFILE: &str = r#"name = "up"
[machine]
memory = "1GiB"
[[phase]]
name = "up"
stage = "boot"
marker = '\[zeta-first-boot\] started'
timeout = "10m"
"#;

pub(super) fn measure(bench: &Bench, rounds: u32) -> Result<Figure> {
    let profile = bench.profile("up", PROFILE)?;
    let (mut watched, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let tested = bench.test(&format!("up-{round}"), &bench.iso, &profile, &["--until", "Boot"])?;
        let ours =
            tested.serial()?.into_iter().find(|(_, line)| line.contains(UP)).context("it is not up")?.0;
        let theirs = alone(&bench.iso, &bench.folder.join("bare.raw"), !tested.is_emulated())?;
        watched.push(ours);
        bare.push(theirs);
        ratios.push(theirs / ours);
    }
    let ratio = median(ratios);
    Ok(Figure {
        name: "reference medium to its first line, watched".to_owned(),
        value: median(watched),
        unit: "s",
        peer: Some("bare QEMU"),
        peer_value: Some(median(bare)),
        ratio: Some(ratio),
        goal: GOAL,
        ok: GOAL.is_met(f64::NAN, Some(ratio)),
        command: String::new(),
        note: format!("medians of {rounds} rounds in turns"),
    })
}

/// Seconds until bare QEMU's machine says the line.
fn alone(iso: &Path, disk: &Path, kvm: bool) -> Result<f64> {
    // Blank again in each round.
    fs::File::create(disk).and_then(|file| file.set_len(8 << 30))?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-machine", "q35", "-smp", "2", "-m", "1024M"]);
    qemu.args(if kvm {
        ["-accel", "kvm", "-cpu", "host"]
    } else {
        ["-accel", "tcg,thread=multi", "-cpu", "max"]
    });
    qemu.args(["-display", "none", "-vga", "std", "-serial", "stdio", "-device", "virtio-rng-pci"]);
    // What a guest finds in Assay's machines. Somebody holds the port open: a guest waits five seconds at a closed one.
    qemu.args(["-device", "qemu-xhci,id=usb", "-device", "usb-kbd,bus=usb.0", "-device", "pvpanic"]);
    qemu.args(["-device", "virtio-serial-pci,id=ports", "-chardev", "file,id=nobody,path=/dev/null"]);
    qemu.args(["-device", "virtserialport,bus=ports.0,chardev=nobody,name=org.assay.progress.0"]);
    qemu.args(["-netdev", "user,id=net0,restrict=on", "-device", "virtio-net-pci,netdev=net0,romfile="]);
    qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,discard=unmap", disk.display()));
    qemu.arg("-drive").arg(format!("file={},media=cdrom,readonly=on", iso.display()));
    qemu.args(["-boot", "d"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let began = Instant::now();
    let mut machine = qemu.spawn().context("cannot start qemu-system-x86_64")?;
    let said = BufReader::new(machine.stdout.take().context("its serial port is not piped")?);
    let mut up = None;
    for line in said.split(b'\n') {
        if String::from_utf8_lossy(&line?).contains(UP) {
            up = Some(began.elapsed().as_secs_f64());
            break;
        }
    }
    machine.kill()?;
    machine.wait()?;
    match up {
        Some(seconds) => Ok(seconds),
        None => bail!("bare QEMU's machine ended before it said `{UP}`"),
    }
}
