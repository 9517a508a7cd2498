//! From a machine to QEMU's arguments: pure, so that what a machine file means can be read in a snapshot.
//!
//! Every PCIe device hangs on a root port of its own, so that it can be pulled while the machine runs. Boot order
//! is by `bootindex` and strict: what has none is never booted.

use std::path::{Path, PathBuf};

use crate::{
    Accel, Disk, DiskBus, Firmware, Machine, Nic, NicModel, PowerOn, network::tap_name, smbios::memory_tables,
};

/// The files of one machine's state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmFolder(PathBuf);

impl VmFolder {
    /// The state folder `folder`; it must be absolute, as QEMU changes to `/` when it starts.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The monitor for callers.
    pub fn qmp(&self) -> PathBuf {
        self.0.join("qmp")
    }

    /// The monitor that the lab keeps for itself: a monitor serves one client at a time.
    pub fn control(&self) -> PathBuf {
        self.0.join("control")
    }

    /// The serial port as a socket, both ways.
    pub fn serial(&self) -> PathBuf {
        self.0.join("serial")
    }

    /// All that the serial port ever said, over power cycles.
    pub fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }

    /// What QEMU itself complained about.
    pub fn log(&self) -> PathBuf {
        self.0.join("qemu.log")
    }

    /// QEMU's process id. QEMU removes it when it ends in good order.
    pub fn pid(&self) -> PathBuf {
        self.0.join("pid")
    }

    /// The command that was last started, for people.
    pub fn command(&self) -> PathBuf {
        self.0.join("command.txt")
    }

    /// Held while the machine's state is changed.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The UEFI variables.
    pub fn vars(&self) -> PathBuf {
        self.0.join("vars.fd")
    }

    /// The image of a disk.
    pub fn disk(&self, id: &str) -> PathBuf {
        self.0.join(format!("disk-{id}.raw"))
    }

    /// Where the process behind a served disk listens.
    pub fn disk_socket(&self, id: &str) -> PathBuf {
        self.0.join(format!("disk-{id}.nbd"))
    }

    /// What a served disk does wrong.
    pub fn disk_rules(&self, id: &str) -> PathBuf {
        self.0.join(format!("disk-{id}.rules"))
    }

    /// A link to the image that is inserted; not there when none is.
    pub(crate) fn medium(&self) -> PathBuf {
        self.0.join("medium")
    }

    /// How many requests a served disk has answered with an error because its rules say so.
    pub(crate) fn disk_struck(&self, id: &str) -> PathBuf {
        self.0.join(format!("disk-{id}.struck"))
    }

    /// The process behind a served disk.
    pub(crate) fn disk_process(&self, id: &str) -> PathBuf {
        self.0.join(format!("disk-{id}.process"))
    }

    /// What the processes behind the served disks complained about.
    pub(crate) fn disk_log(&self) -> PathBuf {
        self.0.join("disks.log")
    }

    /// The crash records.
    pub(crate) fn crash_store(&self) -> PathBuf {
        self.0.join("erst.bin")
    }

    /// The ACPI table with the sensors, and the one with their readings.
    pub(crate) fn sensor_tables(&self) -> [PathBuf; 2] {
        ["sensors.aml", "readings.aml"].map(|name| self.0.join(name))
    }

    /// Whether `path` is the image of some disk.
    pub(crate) fn is_disk(&self, path: &Path) -> bool {
        let id = path.file_stem().and_then(|stem| stem.to_str()?.strip_prefix("disk-"));
        id.is_some_and(|id| self.disk(id) == path)
    }
}

/// Where UEFI firmware is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareFiles {
    /// The code, read only.
    pub code: PathBuf,
    /// The variables, copied for each machine.
    pub vars: PathBuf,
}

impl Default for FirmwareFiles {
    /// Debian's `ovmf`.
    fn default() -> Self {
        Self {
            code: PathBuf::from("/usr/share/OVMF/OVMF_CODE_4M.fd"),
            vars: PathBuf::from("/usr/share/OVMF/OVMF_VARS_4M.fd"),
        }
    }
}

/// The drive that a medium is in, and what stands for the medium that the machine was started with.
pub(crate) const MEDIUM_DRIVE: &str = "medium0";
pub(crate) const MEDIUM_NODE: &str = "medium-file";

/// The arguments that start `machine` as a daemon with its state in `folder`, with `medium` in a drive on USB.
///
/// The memory tables of the machine, the disks and the UEFI variables must have been written there.
pub fn arguments(
    name: &str,
    machine: &Machine,
    folder: &VmFolder,
    firmware: &FirmwareFiles,
    accel: &Accel,
    medium: Option<&Path>,
) -> Vec<String> {
    let mut command = Arguments::default();
    command.basics(name, machine, accel);
    command.identity(machine, folder);
    command.firmware(machine, folder, firmware);
    command.channels(machine, folder);
    let mut boot = BootOrder::default();
    for nic in &machine.nics {
        let index = (nic.boot && machine.power_on == PowerOn::Netboot).then(|| boot.next());
        command.nic(nic, index);
    }
    let medium = medium.map(|image| (image, boot.next()));
    let mut sata_port = 0;
    for disk in &machine.disks {
        command.disk(disk, folder, boot.next(), &mut sata_port);
    }
    command.port_device("virtio-rng-pci,id=rng0");
    command.bench(machine, folder);
    command.bmc(machine);
    if let Some((image, bootindex)) = medium {
        command.medium(image, bootindex);
    }
    command.list
}

/// The root port that a part hangs on; SATA disks hang on none.
pub(crate) fn root_port(machine: &Machine, part: &str) -> Option<String> {
    let nics = machine.nics.iter().map(|nic| nic.id.as_str());
    let disks = machine.disks.iter().filter(|disk| disk.bus != DiskBus::Sata).map(|disk| disk.id.as_str());
    let at = nics.chain(disks).position(|id| id == part)?;
    Some(format!("port{}", at + 1))
}

#[derive(Default)]
struct BootOrder(u32);

impl BootOrder {
    fn next(&mut self) -> u32 {
        self.0 += 1;
        self.0
    }
}

#[derive(Default)]
struct Arguments {
    list: Vec<String>,
    ports: u32,
}

impl Arguments {
    fn basics(&mut self, name: &str, machine: &Machine, accel: &Accel) {
        self.pair("-name", format!("guest={name}"));
        self.list.push("-nodefaults".to_owned());
        let shared = machine.bench.shares_memory();
        self.pair("-machine", if shared { "q35,memory-backend=ram0" } else { "q35" });
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
        self.pair("-smp", machine.cpus.to_string());
        self.pair("-m", format!("{}M", machine.memory_mib()));
        if shared {
            let size = machine.memory_mib();
            self.pair("-object", format!("memory-backend-memfd,id=ram0,size={size}M,share=on"));
        }
        if let Some(rtc) = &machine.rtc {
            // By the machine's own clock: what the host's does meanwhile is not its business.
            self.pair("-rtc", format!("base={rtc},clock=vm"));
        }
        self.pair("-display", "none");
        self.pair("-vga", "std");
        self.pair("-boot", "menu=off,strict=on");
    }

    fn identity(&mut self, machine: &Machine, folder: &VmFolder) {
        let id = &machine.smbios;
        let [maker, product, serial] = [&id.manufacturer, &id.product, &id.serial].map(|text| escape(text));
        let [bios, board, asset] =
            [&id.bios_version, &id.board_serial, &id.asset_tag].map(|text| escape(text));
        let uefi = if machine.firmware == Firmware::Uefi { ",uefi=on" } else { "" };
        self.pair("-smbios", format!("type=0,vendor={maker},version={bios}{uefi}"));
        self.pair(
            "-smbios",
            format!("type=1,manufacturer={maker},product={product},serial={serial},uuid={}", id.uuid),
        );
        self.pair(
            "-smbios",
            format!("type=2,manufacturer={maker},product={product},serial={board},asset={asset}"),
        );
        self.pair("-smbios", format!("type=3,manufacturer={maker},serial={serial},asset={asset}"));
        if !machine.oem_strings.is_empty() {
            let values: Vec<_> = machine.oem_strings.iter().map(|text| escape(text)).collect();
            self.pair("-smbios", format!("type=11,value={}", values.join(",value=")));
        }
        for table in memory_tables(&machine.dimms) {
            let path = folder.path().join(table.file_name);
            self.pair("-smbios", format!("file={}", escape_path(&path)));
        }
    }

    fn firmware(&mut self, machine: &Machine, folder: &VmFolder, files: &FirmwareFiles) {
        if machine.firmware == Firmware::Uefi {
            let [code, vars] = [&files.code, &folder.vars()].map(|path| escape_path(path));
            self.pair("-drive", format!("if=pflash,format=raw,readonly=on,file={code}"));
            self.pair("-drive", format!("if=pflash,format=raw,file={vars}"));
        }
    }

    fn channels(&mut self, machine: &Machine, folder: &VmFolder) {
        let [qmp, control, serial, console] =
            [folder.qmp(), folder.control(), folder.serial(), folder.console()]
                .map(|path| escape_path(&path));
        let (socket, log) =
            (format!("socket,path={serial},server=on,wait=off"), format!("logfile={console},logappend=on"));
        match &machine.bmc {
            None => self.pair("-chardev", format!("{socket},id=serial0,{log}")),
            // The BMC reads along. Only what joins both ends sees everything.
            Some(bmc) => {
                let port = bmc.serial_port();
                self.pair("-chardev", format!("{socket},id=serial-socket"));
                self.pair(
                    "-chardev",
                    format!("socket,host=127.0.0.1,port={port},server=on,wait=off,id=serial-bmc"),
                );
                let ends = "chardevs.0=serial-socket,chardevs.1=serial-bmc";
                self.pair("-chardev", format!("hub,id=serial0,{ends},{log}"));
            }
        }
        self.pair("-serial", "chardev:serial0");
        for (id, path) in [("qmp0", qmp), ("control0", control)] {
            self.pair("-chardev", format!("socket,id={id},path={path},server=on,wait=off"));
            self.pair("-mon", format!("chardev={id},mode=control"));
        }
        self.pair("-pidfile", folder.pid().display().to_string());
        self.pair("-D", folder.log().display().to_string());
        self.list.push("-daemonize".to_owned());
    }

    fn nic(&mut self, nic: &Nic, bootindex: Option<u32>) {
        let id = &nic.id;
        self.pair(
            "-netdev",
            format!("tap,id=net-{id},ifname={},script=no,downscript=no", tap_name(&nic.mac)),
        );
        let model = match nic.model {
            NicModel::Virtio => "virtio-net-pci",
            NicModel::E1000e => "e1000e",
            NicModel::Igb => "igb",
        };
        let speed = nic.speed.map_or_else(String::new, |speed| format!(",speed={speed},duplex=full"));
        // Without a ROM the firmware does not spend time on a card that it is not to boot from.
        let boot = bootindex.map_or_else(|| ",romfile=".to_owned(), |index| format!(",bootindex={index}"));
        let mac = nic.mac;
        self.port_device(&format!("{model},id={id},netdev=net-{id},mac={mac}{speed}{boot}"));
    }

    fn disk(&mut self, disk: &Disk, folder: &VmFolder, bootindex: u32, sata_port: &mut u32) {
        self.backend(disk, folder);
        let id = &disk.id;
        let tail = format!("serial={},drive=disk-{id},bootindex={bootindex}", escape(&disk.serial));
        match disk.bus {
            DiskBus::Nvme => {
                let warning = match disk.smart_critical_warning {
                    0 => String::new(),
                    bits => format!(",smart_critical_warning={bits}"),
                };
                if let Some(wwn) = disk.wwn_value() {
                    self.port_device(&format!("nvme,id={id},serial={}{warning}", escape(&disk.serial)));
                    let namespace = format!(
                        "nvme-ns,id={id}-1,bus={id},nsid=1,eui64={wwn},drive=disk-{id},bootindex={bootindex}"
                    );
                    self.pair("-device", namespace);
                } else {
                    self.port_device(&format!("nvme,id={id},{tail}{warning}"));
                }
            }
            DiskBus::Sata => {
                let port = *sata_port;
                *sata_port += 1;
                let model = disk
                    .model
                    .as_deref()
                    .map_or_else(String::new, |model| format!(",model={}", escape(model)));
                self.pair("-device", format!("ide-hd,id={id},bus=ide.{port},{tail}{}{model}", common(disk)));
            }
            DiskBus::Scsi => {
                let model = disk
                    .model
                    .as_deref()
                    .map_or_else(String::new, |model| format!(",product={}", escape(model)));
                self.port_device(&format!("virtio-scsi-pci,id=hba-{id}"));
                self.pair("-device", format!("scsi-hd,id={id},bus=hba-{id}.0,{tail}{}{model}", common(disk)));
            }
            DiskBus::Virtio => self.port_device(&format!("virtio-blk-pci,id={id},{tail}")),
        }
    }

    /// The machine's end of its BMC. It comes back if the BMC is restarted.
    fn bmc(&mut self, machine: &Machine) {
        let Some(bmc) = &machine.bmc else { return };
        let port = bmc.guest_port();
        self.pair("-chardev", format!("socket,id=kcs0,host=127.0.0.1,port={port},reconnect-ms=1000"));
        self.pair("-device", "ipmi-bmc-extern,id=bmc0,chardev=kcs0");
        self.pair("-device", "isa-ipmi-kcs,bmc=bmc0");
    }

    /// A drive as a BMC's virtual media are: on a USB controller of its own, which is there with them only.
    fn medium(&mut self, image: &Path, bootindex: u32) {
        let image = escape_path(image);
        self.pair("-blockdev", format!("driver=file,filename={image},node-name={MEDIUM_NODE},read-only=on"));
        self.port_device("qemu-xhci,id=usb-medium");
        self.pair("-device", "usb-bot,id=bot-medium,bus=usb-medium.0");
        self.pair(
            "-device",
            format!(
                "scsi-cd,id={MEDIUM_DRIVE},bus=bot-medium.0,scsi-id=0,lun=0,drive={MEDIUM_NODE},bootindex={bootindex}"
            ),
        );
    }

    /// What lets things be done to the machine while it runs.
    fn bench(&mut self, machine: &Machine, folder: &VmFolder) {
        if machine.bench.sensors {
            for table in folder.sensor_tables() {
                self.pair("-acpitable", format!("file={}", escape_path(&table)));
            }
        }
        if machine.bench.crash_store {
            let path = escape_path(&folder.crash_store());
            self.pair("-object", format!("memory-backend-file,id=erst0,size=64K,share=on,mem-path={path}"));
            self.pair("-device", "acpi-erst,memdev=erst0");
        }
    }

    /// The block nodes below a disk: the file or its server, then what breaks it, then what slows it down.
    fn backend(&mut self, disk: &Disk, folder: &VmFolder) {
        let id = &disk.id;
        let server = disk.path_to.as_ref().or_else(|| disk.served.then_some(id));
        let file = match server {
            None => format!("driver=file,filename={},discard=unmap", escape_path(&folder.disk(id))),
            Some(server) => {
                let socket = escape_path(&folder.disk_socket(server));
                format!("driver=nbd,server.type=unix,server.path={socket}")
            }
        };
        let broken = !disk.unreadable_sectors.is_empty();
        let base = if disk.iops_limit.is_some() { format!("fast-{id}") } else { format!("disk-{id}") };
        if broken {
            self.pair("-blockdev", format!("{file},node-name=file-{id}"));
            let node = format!("driver=blkdebug,node-name={base},image=file-{id}");
            let rules = disk.unreadable_sectors.iter().enumerate().map(|(at, sector)| {
                // `read_aio` never fires directly above a file; `none` with an I/O type does.
                let rule = format!("inject-error.{at}");
                format!("{rule}.event=none,{rule}.iotype=read,{rule}.errno=5,{rule}.sector={sector}")
            });
            let parts: Vec<_> = std::iter::once(node).chain(rules).collect();
            self.pair("-blockdev", parts.join(","));
        } else {
            self.pair("-blockdev", format!("{file},node-name={base}"));
        }
        if let Some(limit) = disk.iops_limit {
            self.pair("-object", format!("throttle-group,id=limit-{id},x-iops-total={limit}"));
            self.pair(
                "-blockdev",
                format!("driver=throttle,node-name=disk-{id},throttle-group=limit-{id},file={base}"),
            );
        }
    }

    /// A device on a PCIe root port of its own.
    fn port_device(&mut self, device: &str) {
        self.ports += 1;
        let port = self.ports;
        self.pair("-device", format!("pcie-root-port,id=port{port},bus=pcie.0,chassis={port},slot={port}"));
        let (model, rest) = device.split_once(',').unwrap_or((device, ""));
        self.pair("-device", format!("{model},bus=port{port},{rest}"));
    }

    fn pair(&mut self, option: &str, value: impl Into<String>) {
        self.list.push(option.to_owned());
        self.list.push(value.into());
    }
}

fn common(disk: &Disk) -> String {
    let wwn = disk.wwn_value().map_or_else(String::new, |wwn| format!(",wwn={wwn}"));
    // 1 is "does not rotate" in both ATA and SCSI.
    let rate = if disk.rotational { 7200 } else { 1 };
    format!("{wwn},rotation_rate={rate}")
}

/// A comma separates options; two are one in the value.
fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

fn escape_path(path: &Path) -> String {
    escape(&path.display().to_string())
}
