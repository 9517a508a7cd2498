//! From a [`VmSpec`] to QEMU's arguments: pure, so that it can be read in a snapshot.
//!
//! The machine starts frozen (`-S`): nothing is printed before somebody listens. A reset ends it, paused, with the
//! reason in the event; who runs the test decides whether that was the end of a phase.

use std::path::{Path, PathBuf};

use super::spec::{Arch, Gate, MediumKind, VmBus, VmDisk, VmFirmware, VmImage, VmNetwork, VmNic, VmSpec};
use crate::Accel;

/// The address of the stand-in control plane on an isolated network.
pub const GATE: &str = "10.0.2.100";

/// The name of the out-of-band port in the guest: `/dev/virtio-ports/org.assay.progress.0`.
pub const PROGRESS_PORT: &str = "org.assay.progress.0";

/// Firmware images; Debian's places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FirmwareImages {
    pub(super) code: PathBuf,
    pub(super) vars: PathBuf,
    pub(super) package: &'static str,
}

/// The images for a machine with UEFI; none for one with BIOS.
pub(super) fn firmware_images(spec: &VmSpec) -> Option<FirmwareImages> {
    let of = |code: &str, vars: &str, package| {
        Some(FirmwareImages { code: PathBuf::from(code), vars: PathBuf::from(vars), package })
    };
    match (spec.arch, spec.firmware) {
        (Arch::X86_64, VmFirmware::Bios) => None,
        (Arch::X86_64, VmFirmware::Uefi) => {
            of("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf")
        }
        (Arch::X86_64, VmFirmware::UefiSecure) => {
            of("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd", "ovmf")
        }
        (Arch::Aarch64, VmFirmware::UefiSecure) => {
            of("/usr/share/AAVMF/AAVMF_CODE.ms.fd", "/usr/share/AAVMF/AAVMF_VARS.ms.fd", "qemu-efi-aarch64")
        }
        (Arch::Aarch64, _) => {
            of("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd", "qemu-efi-aarch64")
        }
    }
}

/// The files and sockets of one start of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// Sockets: a short path, since a socket's may have 107 characters.
    pub(super) sockets: PathBuf,
    /// What stays: the UEFI variables, captured packets.
    pub(super) folder: PathBuf,
}

impl Places {
    pub(super) fn qmp(&self) -> PathBuf {
        self.sockets.join("qmp")
    }
    pub(super) fn serial(&self) -> PathBuf {
        self.sockets.join("serial")
    }
    pub(super) fn progress(&self) -> PathBuf {
        self.sockets.join("progress")
    }
    pub(super) fn tpm(&self) -> PathBuf {
        self.sockets.join("tpm")
    }
    pub(super) fn screen(&self) -> PathBuf {
        self.sockets.join("screen")
    }
    pub(super) fn vars(&self) -> PathBuf {
        self.folder.join("vars.fd")
    }
    pub(super) fn packets(&self, nic: &str) -> PathBuf {
        self.folder.join(format!("packets-{nic}.pcap"))
    }
}

/// The arguments that start the machine, frozen. `resume` waits for a saved state instead of booting.
pub(super) fn arguments(spec: &VmSpec, places: &Places, accel: &Accel, resume: bool) -> Vec<String> {
    let mut list = Arguments::default();
    list.basics(spec, accel, resume);
    list.firmware(spec, places);
    list.channels(spec, places);
    if let Some(medium) = &spec.medium {
        let image = value(&medium.image);
        list.pair(
            "-blockdev",
            &format!(
                "driver=file,node-name=medium-file,filename={image},read-only={}",
                on(medium.kind == MediumKind::Cd)
            ),
        );
        list.pair(
            "-blockdev",
            &format!(
                "driver=raw,node-name=medium,file=medium-file,read-only={}",
                on(medium.kind == MediumKind::Cd)
            ),
        );
        match (medium.kind, spec.arch) {
            (MediumKind::Cd, Arch::X86_64) => {
                list.pair("-device", "ide-cd,id=cd,bus=ide.5,drive=medium,bootindex=0");
            }
            (MediumKind::Cd, Arch::Aarch64) => {
                list.pair("-device", "virtio-scsi-pci,id=cd-hba");
                list.pair("-device", "scsi-cd,id=cd,bus=cd-hba.0,drive=medium,bootindex=0");
            }
            (MediumKind::Usb, _) => {
                let serial = escape(&medium.serial);
                list.pair(
                    "-device",
                    &format!(
                        "usb-storage,id=stick,bus=usb.0,drive=medium,removable=on,serial={serial},bootindex=0"
                    ),
                );
            }
        }
    }
    let mut sata = 0;
    for (place, disk) in spec.disks.iter().enumerate() {
        list.disk(spec.arch, disk, place + 1, &mut sata);
    }
    for nic in &spec.nics {
        list.nic(nic, places);
    }
    list.list
}

#[derive(Default)]
struct Arguments {
    list: Vec<String>,
}

impl Arguments {
    fn basics(&mut self, spec: &VmSpec, accel: &Accel, resume: bool) {
        self.pair("-name", &format!("guest={}", escape(&spec.name)));
        self.list.push("-nodefaults".to_owned());
        self.list.push("-no-user-config".to_owned());
        let machine = match (spec.arch, spec.firmware) {
            (Arch::X86_64, VmFirmware::UefiSecure) => "q35,smm=on",
            // Not `smm=off`: then QEMU shows a black screen while there is text on it.
            (Arch::X86_64, _) => "q35",
            (Arch::Aarch64, _) => "virt,gic-version=max",
        };
        self.pair("-machine", machine);
        match accel {
            Accel::Kvm => {
                self.pair("-accel", "kvm");
                self.pair("-cpu", "host");
            }
            Accel::Tcg { .. } => {
                self.pair("-accel", "tcg,thread=multi");
                self.pair("-cpu", "max");
            }
        }
        self.pair("-smp", &spec.cpus.to_string());
        self.pair("-m", &format!("{}M", spec.memory_mib));
        if let Some(clock) = &spec.clock {
            self.pair("-rtc", &format!("base={clock},clock=vm"));
        }
        let uuid = spec.system_uuid;
        self.pair("-uuid", &uuid.to_string());
        self.pair("-smbios", &format!("type=1,manufacturer=Assay,product=Test machine,serial={uuid}"));
        self.pair("-boot", "menu=off,strict=on");
        self.pair("-action", "reboot=shutdown,shutdown=pause,panic=pause,watchdog=pause");
        self.list.push("-S".to_owned());
        if resume {
            self.pair("-incoming", "defer");
        }
    }

    fn firmware(&mut self, spec: &VmSpec, places: &Places) {
        if let Some(images) = firmware_images(spec) {
            if spec.firmware == VmFirmware::UefiSecure && spec.arch == Arch::X86_64 {
                self.pair("-global", "driver=cfi.pflash01,property=secure,value=on");
            }
            self.pair(
                "-drive",
                &format!("if=pflash,unit=0,format=raw,readonly=on,file={}", value(&images.code)),
            );
            self.pair("-drive", &format!("if=pflash,unit=1,format=raw,file={}", value(&places.vars())));
        }
        if spec.tpm {
            self.pair("-chardev", &format!("socket,id=tpm,path={}", value(&places.tpm())));
            self.pair("-tpmdev", "emulator,id=tpm0,chardev=tpm");
            let device =
                if spec.arch == Arch::X86_64 { "tpm-crb,tpmdev=tpm0" } else { "tpm-tis-device,tpmdev=tpm0" };
            self.pair("-device", device);
        }
    }

    fn channels(&mut self, spec: &VmSpec, places: &Places) {
        let socket = |id: &str, path: &Path| format!("socket,id={id},path={}", value(path));
        self.pair("-chardev", &socket("qmp0", &places.qmp()));
        self.pair("-mon", "chardev=qmp0,mode=control");
        self.pair("-chardev", &socket("serial0", &places.serial()));
        self.pair("-serial", "chardev:serial0");
        self.pair("-chardev", &socket("progress0", &places.progress()));
        self.pair("-device", "virtio-serial-pci,id=ports");
        self.pair("-device", &format!("virtserialport,bus=ports.0,chardev=progress0,name={PROGRESS_PORT}"));
        self.pair("-display", "none");
        self.pair("-vnc", &format!("unix:{}", value(&places.screen())));
        match spec.arch {
            Arch::X86_64 => {
                self.pair("-vga", "std");
                self.pair("-device", "pvpanic");
            }
            Arch::Aarch64 => {
                self.pair("-device", "virtio-gpu-pci");
                self.pair("-device", "pvpanic-pci");
            }
        }
        self.pair("-device", "qemu-xhci,id=usb");
        self.pair("-device", "usb-kbd,bus=usb.0");
        self.pair("-device", "virtio-rng-pci");
        if spec.watchdog && spec.arch == Arch::X86_64 {
            self.pair("-device", "i6300esb");
        }
    }

    fn disk(&mut self, arch: Arch, disk: &VmDisk, bootindex: usize, sata: &mut u32) {
        let id = &disk.id;
        self.backend(disk);
        let sector = disk.sector;
        let blocks = format!("logical_block_size={sector},physical_block_size={sector}");
        let tail = format!("drive=disk-{id},serial={},bootindex={bootindex}", escape(&disk.serial));
        // An error is the guest's to see. QEMU would stop the machine when there is no room, and NVMe always tells.
        let tail = if disk.bus == VmBus::Nvme { tail } else { format!("{tail},werror=report,rerror=report") };
        let scsi = |list: &mut Self, rotates: bool| {
            let rotation = if rotates { ",rotation_rate=7200" } else { ",rotation_rate=1" };
            list.pair("-device", &format!("virtio-scsi-pci,id=hba-{id}"));
            let removable = on(disk.removable);
            list.pair(
                "-device",
                &format!("scsi-hd,id={id},bus=hba-{id}.0,{tail},{blocks}{rotation},removable={removable}"),
            );
        };
        match (disk.bus, arch) {
            (VmBus::Nvme, _) => self.pair("-device", &format!("nvme,id={id},{tail},{blocks}")),
            (VmBus::Sata, Arch::X86_64) => {
                let rotation = if disk.rotates { 7200 } else { 1 };
                self.pair(
                    "-device",
                    &format!("ide-hd,id={id},bus=ide.{sata},{tail},{blocks},rotation_rate={rotation}"),
                );
                *sata += 1;
            }
            (VmBus::Sata, Arch::Aarch64) | (VmBus::Scsi, _) => scsi(self, disk.rotates),
            (VmBus::Virtio, _) => self.pair("-device", &format!("virtio-blk-pci,id={id},{tail},{blocks}")),
            (VmBus::Usb, _) => {
                let removable = on(disk.removable);
                self.pair(
                    "-device",
                    &format!("usb-storage,id={id},bus=usb.0,{tail},{blocks},removable={removable}"),
                );
            }
        }
    }

    /// From the image up: the file, what goes wrong with it, what records it, the format.
    fn backend(&mut self, disk: &VmDisk) {
        let (id, only) = (&disk.id, on(disk.read_only));
        let mut top = format!("file-{id}");
        match &disk.image {
            VmImage::File(image) => {
                // Power cuts are about what had been flushed; everything else may trust the page cache.
                let cache = if disk.write_log.is_some() { "" } else { ",cache.no-flush=on" };
                let image = value(image);
                self.pair(
                    "-blockdev",
                    &format!(
                        "driver=file,node-name={top},filename={image},read-only={only},discard=unmap{cache}"
                    ),
                );
            }
            VmImage::Served(socket) => {
                let socket = value(socket);
                self.pair(
                    "-blockdev",
                    &format!(
                        "driver=nbd,node-name={top},server.type=unix,server.path={socket},read-only={only}"
                    ),
                );
            }
        }
        if let Some(most) = disk.bytes_per_second {
            self.pair("-object", &format!("throttle-group,id=slow-{id},x-bps-total={most}"));
            let throttle = format!("throttle,node-name=slowed-{id},throttle-group=slow-{id},file={top}");
            self.pair("-blockdev", &format!("driver={throttle},read-only={only}"));
            top = format!("slowed-{id}");
        }
        if let Some(log) = &disk.write_log {
            self.pair("-blockdev", &format!("driver=file,node-name=log-{id},filename={}", value(log)));
            self.pair(
                "-blockdev",
                &format!(
                    "driver=blklogwrites,node-name=logged-{id},file={top},log=log-{id},log-sector-size=512"
                ),
            );
            top = format!("logged-{id}");
        }
        self.pair("-blockdev", &format!("driver=raw,node-name=disk-{id},file={top},read-only={only}"));
    }

    fn nic(&mut self, nic: &VmNic, places: &Places) {
        let (id, mac, model) = (&nic.id, nic.mac, &nic.model);
        match &nic.network {
            VmNetwork::Isolated { gate } => {
                let mut net = format!("user,id=net-{id},restrict=on");
                if let Some(gate) = gate {
                    net.push_str(&forward(gate, &gate.plain, 80));
                    if let Some(tls) = &gate.tls {
                        net.push_str(&forward(gate, tls, 443));
                    }
                }
                self.pair("-netdev", &net);
            }
            VmNetwork::Open => self.pair("-netdev", &format!("user,id=net-{id}")),
            VmNetwork::Unplugged => {
                self.pair("-netdev", &format!("user,id=net-{id},restrict=on"));
            }
        }
        self.pair(
            "-object",
            &format!(
                "filter-dump,id=dump-{id},netdev=net-{id},file={},maxlen=2048",
                value(&places.packets(id))
            ),
        );
        if let Some(hold) = nic.hold {
            // Packets are let through together, once in so long: both ways, so a round trip takes about twice that.
            let micros = hold.as_micros();
            self.pair("-object", &format!("filter-buffer,id=hold-{id},netdev=net-{id},interval={micros}"));
        }
        self.pair("-device", &format!("{model},id={id},netdev=net-{id},mac={mac},romfile="));
    }

    fn pair(&mut self, option: &str, value: &str) {
        self.list.push(option.to_owned());
        self.list.push(value.to_owned());
    }
}

fn forward(gate: &Gate, socket: &Path, port: u16) -> String {
    let words: Vec<String> =
        gate.relay.iter().cloned().chain([socket.display().to_string()]).map(|word| quoted(&word)).collect();
    format!(",guestfwd=tcp:{GATE}:{port}-cmd:{}", escape(&words.join(" ")))
}

/// QEMU splits the relay's command like a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

const fn on(yes: bool) -> &'static str {
    if yes { "on" } else { "off" }
}

/// QEMU takes two commas for one in a value.
fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

fn value(path: &Path) -> String {
    escape(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use assay_model::Mac;

    use super::super::run::command_line;
    use super::super::spec::{
        Arch, Gate, MediumKind, VmBus, VmDisk, VmFirmware, VmImage, VmMedium, VmNetwork, VmNic, VmSpec,
    };
    use crate::Accel;

    fn disk(id: &str, bus: VmBus) -> VmDisk {
        VmDisk {
            id: id.to_owned(),
            image: VmImage::File(PathBuf::from(format!("/disks/{id},1.raw"))),
            bus,
            serial: id.to_owned(),
            sector: 512,
            rotates: false,
            removable: false,
            read_only: false,
            bytes_per_second: None,
            write_log: None,
        }
    }

    fn spec() -> VmSpec {
        let gate = Gate {
            plain: "/run/gate/plain".into(),
            tls: None,
            relay: vec!["/usr/bin/assay's".to_owned(), "relay".to_owned()],
        };
        VmSpec {
            name: "a, b".to_owned(),
            arch: Arch::X86_64,
            firmware: VmFirmware::Bios,
            tpm: false,
            cpus: 2,
            memory_mib: 1024,
            clock: Some("1970-01-01T00:00:00".to_owned()),
            system_uuid: uuid::Uuid::nil(),
            medium: Some(VmMedium {
                image: "/m.iso".into(),
                kind: MediumKind::Usb,
                serial: "STICK".to_owned(),
            }),
            disks: vec![disk("nv0", VmBus::Nvme), disk("sd0", VmBus::Sata), disk("sd1", VmBus::Sata)],
            nics: vec![VmNic {
                id: "nic0".to_owned(),
                mac: Mac([0x52, 0x54, 0, 0, 0, 1]),
                model: "virtio-net-pci".to_owned(),
                network: VmNetwork::Isolated { gate: Some(gate) },
                hold: None,
            }],
            watchdog: false,
        }
    }

    fn emulated() -> Accel {
        Accel::Tcg { reason: String::new() }
    }

    /// The values of an option, in order.
    fn values<'a>(line: &'a [String], option: &str) -> Vec<&'a str> {
        line.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].as_str()).collect()
    }

    #[test]
    fn a_machine_starts_frozen_and_tells_why_it_ends() {
        let line = command_line(&spec(), &emulated());
        assert!(line.contains(&"-S".to_owned()));
        assert_eq!(values(&line, "-action"), ["reboot=shutdown,shutdown=pause,panic=pause,watchdog=pause"]);
        assert_eq!(values(&line, "-name"), ["guest=a,, b"], "a comma is no separator");
        assert_eq!(values(&line, "-rtc"), ["base=1970-01-01T00:00:00,clock=vm"]);
        let sockets: Vec<_> = values(&line, "-chardev");
        assert!(
            sockets.iter().all(|socket| !socket.contains("server=on")),
            "QEMU connects to us: {sockets:?}"
        );
    }

    #[test]
    fn the_medium_boots_first_and_every_disk_has_its_place() {
        let line = command_line(&spec(), &emulated());
        let devices = values(&line, "-device");
        let booted: Vec<_> = devices.iter().filter(|device| device.contains("bootindex=")).collect();
        insta::assert_debug_snapshot!(booted, @r#"
        [
            "usb-storage,id=stick,bus=usb.0,drive=medium,removable=on,serial=STICK,bootindex=0",
            "nvme,id=nv0,drive=disk-nv0,serial=nv0,bootindex=1,logical_block_size=512,physical_block_size=512",
            "ide-hd,id=sd0,bus=ide.0,drive=disk-sd0,serial=sd0,bootindex=2,werror=report,rerror=report,logical_block_size=512,physical_block_size=512,rotation_rate=1",
            "ide-hd,id=sd1,bus=ide.1,drive=disk-sd1,serial=sd1,bootindex=3,werror=report,rerror=report,logical_block_size=512,physical_block_size=512,rotation_rate=1",
        ]
        "#);
        assert!(
            line.iter().any(|word| word.contains("filename=/disks/nv0,,1.raw")),
            "a comma in a path is doubled"
        );
    }

    #[test]
    fn what_is_isolated_has_no_way_out_but_the_gate() {
        let line = command_line(&spec(), &emulated());
        assert_eq!(
            values(&line, "-netdev"),
            [
                r"user,id=net-nic0,restrict=on,guestfwd=tcp:10.0.2.100:80-cmd:'/usr/bin/assay'\''s' 'relay' '/run/gate/plain'"
            ]
        );
    }

    #[test]
    fn secure_boot_keeps_its_variables_behind_smm() {
        let spec = VmSpec { firmware: VmFirmware::UefiSecure, ..spec() };
        let line = command_line(&spec, &emulated());
        assert_eq!(values(&line, "-machine"), ["q35,smm=on"]);
        assert!(values(&line, "-global").contains(&"driver=cfi.pflash01,property=secure,value=on"));
    }

    #[test]
    fn only_machines_without_nvme_and_tpm_can_sleep() {
        assert!(!spec().can_sleep());
        let movable = VmSpec { disks: vec![disk("sd0", VmBus::Sata)], ..spec() };
        assert!(movable.can_sleep());
        assert!(!VmSpec { tpm: true, ..movable }.can_sleep());
    }
}
