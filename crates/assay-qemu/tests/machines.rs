//! Machine files: what the shipped ones mean to QEMU, and how wrong ones are refused.

use std::{
    fs,
    path::{Path, PathBuf},
};

use assay_qemu::{
    Accel, DiskFault, Fault, FirmwareFiles, Injection, Lab, LabConfig, LabMachine, Machine, QemuError,
    VmFolder, arguments,
};

fn shipped() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../lab/machines")
}

fn emulated() -> Accel {
    Accel::Tcg { reason: "for the test".to_owned() }
}

fn command(machine: &LabMachine, accel: &Accel) -> String {
    command_with(machine, accel, None)
}

fn command_with(machine: &LabMachine, accel: &Accel, medium: Option<&Path>) -> String {
    let folder = VmFolder::new("/s");
    let list = arguments(&machine.name, &machine.actual, &folder, &FirmwareFiles::default(), accel, medium);
    list.join(" ").replace(" -", "\n-")
}

fn load(name: &str) -> LabMachine {
    LabMachine::load(&shipped(), name).expect("a shipped machine")
}

/// The lines of a machine's command that its healthy self does not have (`+`), and the other way round (`-`).
fn difference(name: &str) -> String {
    let machine = load(name);
    let healthy = machine.clone().with_fault(Fault::default()).expect("healthy");
    let [before, after] = [&healthy, &machine].map(|machine| command(machine, &emulated()));
    differing(&before, &after)
}

fn differing(before: &str, after: &str) -> String {
    let only = |sign: &str, these: &str, those: &str| -> Vec<String> {
        let new = these.lines().filter(|line| those.lines().all(|other| other != *line));
        new.map(|line| format!("{sign}{line}")).collect()
    };
    [only("-", before, after), only("+", after, before)].concat().join("\n")
}

#[test]
fn a_medium_is_in_a_usb_drive_and_boots_after_the_network_and_before_the_disks() {
    let image = Some(Path::new("/images/small, new.iso"));
    let bios = load("healthy-bios");
    let with = command_with(&bios, &emulated(), image);
    insta::assert_snapshot!(differing(&command(&bios, &emulated()), &with), @r"
    --device nvme,bus=port3,id=nvme0,serial=NV21014401,drive=disk-nvme0,bootindex=2
    --device ide-hd,id=sata0,bus=ide.0,serial=SA21017702,drive=disk-sata0,bootindex=3,wwn=5764824129537703937,rotation_rate=7200,model=ASSAY HDD 7K2
    --device virtio-blk-pci,bus=port4,id=vd0,serial=VD21010903,drive=disk-vd0,bootindex=4
    +-device nvme,bus=port3,id=nvme0,serial=NV21014401,drive=disk-nvme0,bootindex=3
    +-device ide-hd,id=sata0,bus=ide.0,serial=SA21017702,drive=disk-sata0,bootindex=4,wwn=5764824129537703937,rotation_rate=7200,model=ASSAY HDD 7K2
    +-device virtio-blk-pci,bus=port4,id=vd0,serial=VD21010903,drive=disk-vd0,bootindex=5
    +-blockdev driver=file,filename=/images/small,, new.iso,node-name=medium-file,read-only=on
    +-device pcie-root-port,id=port6,bus=pcie.0,chassis=6,slot=6
    +-device qemu-xhci,bus=port6,id=usb-medium
    +-device usb-bot,id=bot-medium,bus=usb-medium.0
    +-device scsi-cd,id=medium0,bus=bot-medium.0,scsi-id=0,lun=0,drive=medium-file,bootindex=2
    ");
    // Firmware of the other kind has the same drive.
    let drive = |command: &str| command.lines().find(|line| line.contains("scsi-cd")).map(str::to_owned);
    assert_eq!(drive(&command_with(&load("healthy-uefi"), &emulated(), image)), drive(&with));
}

#[tokio::test]
async fn a_medium_stays_in_until_it_is_ejected_and_nothing_takes_its_place() {
    let (state, images) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let [small, other] = ["small.iso", "other.iso"].map(|name| images.path().join(name));
    for image in [&small, &other] {
        fs::write(image, "an image").expect("written");
    }
    let lab = || Lab::open(LabConfig::new(state.path(), shipped())).expect("opened");
    assert_eq!(lab().medium("healthy-bios").expect("asked"), None);
    lab().insert_medium("healthy-bios", &small).await.expect("in");
    // Another program finds it, and inserting it once more changes nothing.
    assert_eq!(lab().medium("healthy-bios").expect("asked"), Some(small.clone()));
    lab().insert_medium("healthy-bios", &small).await.expect("in");
    let error = lab().insert_medium("healthy-bios", &other).await.expect_err("it is taken").to_string();
    assert!(error.contains("small.iso is in the drive; eject it first"), "{error}");
    assert_eq!(lab().medium("healthy-bios").expect("asked"), Some(small));
    assert_eq!(lab().medium("healthy-uefi").expect("asked"), None, "each machine has its own");
    for _ in 0..2 {
        lab().eject_medium("healthy-bios").await.expect("out");
        assert_eq!(lab().medium("healthy-bios").expect("asked"), None);
    }
    lab().insert_medium("healthy-bios", &other).await.expect("in");

    let nowhere = images.path().join("nowhere.iso");
    for bad in [nowhere.as_path(), images.path()] {
        let error = lab().insert_medium("healthy-uefi", bad).await.expect_err("no image").to_string();
        assert!(error.contains("there is no image"), "{error}");
    }
    assert!(lab().insert_medium("no-such-machine", &other).await.is_err());
}

#[test]
fn a_healthy_bios_machine() {
    insta::assert_snapshot!(command(&load("healthy-bios"), &emulated()), @r#"
    -name guest=healthy-bios
    -nodefaults
    -machine q35
    -accel tcg,thread=multi
    -cpu max
    -smp 2
    -m 2048M
    -display none
    -vga std
    -boot menu=off,strict=on
    -smbios type=0,vendor=Assay Lab,version=2.4.1
    -smbios type=1,manufacturer=Assay Lab,product=Sparrow 2100,serial=SPW21010007,uuid=5e55a110-1ab0-4000-8000-000000000001
    -smbios type=2,manufacturer=Assay Lab,product=Sparrow 2100,serial=MB21010031,asset=LAB-01
    -smbios type=3,manufacturer=Assay Lab,serial=SPW21010007,asset=LAB-01
    -smbios file=/s/smbios-16.bin
    -smbios file=/s/smbios-17-0.bin
    -smbios file=/s/smbios-17-1.bin
    -smbios file=/s/smbios-17-2.bin
    -smbios file=/s/smbios-17-3.bin
    -chardev socket,path=/s/serial,server=on,wait=off,id=serial0,logfile=/s/console.log,logappend=on
    -serial chardev:serial0
    -chardev socket,id=qmp0,path=/s/qmp,server=on,wait=off
    -mon chardev=qmp0,mode=control
    -chardev socket,id=control0,path=/s/control,server=on,wait=off
    -mon chardev=control0,mode=control
    -pidfile /s/pid
    -D /s/qemu.log
    -daemonize
    -netdev tap,id=net-lan0,ifname=tap525400a50100,script=no,downscript=no
    -device pcie-root-port,id=port1,bus=pcie.0,chassis=1,slot=1
    -device virtio-net-pci,bus=port1,id=lan0,netdev=net-lan0,mac=52:54:00:a5:01:00,speed=1000,duplex=full,bootindex=1
    -netdev tap,id=net-lan1,ifname=tap525400a50101,script=no,downscript=no
    -device pcie-root-port,id=port2,bus=pcie.0,chassis=2,slot=2
    -device e1000e,bus=port2,id=lan1,netdev=net-lan1,mac=52:54:00:a5:01:01,romfile=
    -blockdev driver=file,filename=/s/disk-nvme0.raw,discard=unmap,node-name=disk-nvme0
    -device pcie-root-port,id=port3,bus=pcie.0,chassis=3,slot=3
    -device nvme,bus=port3,id=nvme0,serial=NV21014401,drive=disk-nvme0,bootindex=2
    -blockdev driver=file,filename=/s/disk-sata0.raw,discard=unmap,node-name=disk-sata0
    -device ide-hd,id=sata0,bus=ide.0,serial=SA21017702,drive=disk-sata0,bootindex=3,wwn=5764824129537703937,rotation_rate=7200,model=ASSAY HDD 7K2
    -blockdev driver=file,filename=/s/disk-vd0.raw,discard=unmap,node-name=disk-vd0
    -device pcie-root-port,id=port4,bus=pcie.0,chassis=4,slot=4
    -device virtio-blk-pci,bus=port4,id=vd0,serial=VD21010903,drive=disk-vd0,bootindex=4
    -device pcie-root-port,id=port5,bus=pcie.0,chassis=5,slot=5
    -device virtio-rng-pci,bus=port5,id=rng0
    "#);
}

#[test]
fn a_healthy_uefi_machine_with_kvm() {
    let text = command(&load("healthy-uefi"), &Accel::Kvm);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| {
            ["-accel", "-cpu", "-drive"].iter().any(|option| line.starts_with(option))
                || line.contains("type=0,")
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    -accel kvm
    -cpu host
    -smbios type=0,vendor=Assay Lab,version=2.4.1,uefi=on
    -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd
    -drive if=pflash,format=raw,file=/s/vars.fd
    "#);
}

#[test]
fn the_faults_and_nothing_else() {
    insta::assert_snapshot!(difference("missing-dimm"), @r#"
    --m 2048M
    +-m 1024M
    "#);
    insta::assert_snapshot!(difference("swapped-disk"), @r#"
    --device ide-hd,id=sata0,bus=ide.0,serial=SA21127702,drive=disk-sata0,bootindex=3,wwn=5764824129537703954,rotation_rate=7200,model=ASSAY HDD 7K2
    +-device ide-hd,id=sata0,bus=ide.0,serial=SA9900006666,drive=disk-sata0,bootindex=3,wwn=5764824131119834726,rotation_rate=7200,model=ASSAY HDD 7K2
    "#);
    insta::assert_snapshot!(difference("clock-1970"), @"+-rtc base=1970-01-01T00:00:00,clock=vm");
    insta::assert_snapshot!(difference("failing-nvme"), @r#"
    --device nvme,bus=port3,id=nvme0,serial=NV21144401,drive=disk-nvme0,bootindex=2
    +-device nvme,bus=port3,id=nvme0,serial=NV21144401,drive=disk-nvme0,bootindex=2,smart_critical_warning=5
    "#);
    let both = load("missing-dimm-swapped-disk");
    assert_eq!((both.ordered.memory_mib(), both.actual.memory_mib()), (2048, 1024));
    assert_eq!(both.actual.dimms.len(), 4, "the empty slot is still a slot");
    assert_eq!(both.ordered.disks[1].serial, "SA21137702");
    assert_eq!(both.actual.disks[1].serial, "SA9900006667");
}

#[test]
fn broken_and_slow_disks() {
    let fault = DiskFault {
        unreadable_sectors: Some(vec![100, 2048]),
        iops_limit: Some(120),
        ..DiskFault::default()
    };
    let fault = Fault { disks: [("nvme0".to_owned(), fault)].into(), ..Fault::default() };
    let machine = load("healthy-bios").with_fault(fault).expect("it fits");
    let text = command(&machine, &emulated());
    let lines: Vec<_> = text.lines().filter(|line| line.contains("-nvme0")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    -blockdev driver=file,filename=/s/disk-nvme0.raw,discard=unmap,node-name=file-nvme0
    -blockdev driver=blkdebug,node-name=fast-nvme0,image=file-nvme0,inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5,inject-error.0.sector=100,inject-error.1.event=none,inject-error.1.iotype=read,inject-error.1.errno=5,inject-error.1.sector=2048
    -object throttle-group,id=limit-nvme0,x-iops-total=120
    -blockdev driver=throttle,node-name=disk-nvme0,throttle-group=limit-nvme0,file=fast-nvme0
    -device nvme,bus=port3,id=nvme0,serial=NV21014401,drive=disk-nvme0,bootindex=2
    "#);
}

#[test]
fn a_machine_on_the_test_bench() {
    let text = command(&load("healthy-bench"), &emulated());
    let lines: Vec<_> = text
        .lines()
        .filter(|line| ["memory-backend", "acpi", "-blockdev", "erst"].iter().any(|word| line.contains(word)))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
        -machine q35,memory-backend=ram0
        -object memory-backend-memfd,id=ram0,size=2048M,share=on
        -blockdev driver=nbd,server.type=unix,server.path=/s/disk-nvme0.nbd,node-name=disk-nvme0
        -blockdev driver=nbd,server.type=unix,server.path=/s/disk-scsi0.nbd,node-name=disk-scsi0
        -blockdev driver=nbd,server.type=unix,server.path=/s/disk-sata0.nbd,node-name=disk-sata0
        -acpitable file=/s/sensors.aml
        -acpitable file=/s/readings.aml
        -object memory-backend-file,id=erst0,size=64K,share=on,mem-path=/s/erst.bin
        -device acpi-erst,memdev=erst0
    ");
    insta::assert_snapshot!(difference("smart-worn"), @r#"+-smbios type=11,value=assay-edge=smart-worn"#);
    insta::assert_snapshot!(difference("two-paths"), @r#"
    --blockdev driver=nbd,server.type=unix,server.path=/s/disk-sata0.nbd,node-name=disk-sata0
    --device ide-hd,id=sata0,bus=ide.0,serial=SA11267703,drive=disk-sata0,bootindex=4,wwn=5764824129806204966,rotation_rate=1,model=ASSAY SSD 240
    +-blockdev driver=nbd,server.type=unix,server.path=/s/disk-scsi0.nbd,node-name=disk-sata0
    +-device ide-hd,id=sata0,bus=ide.0,serial=SC11265802,drive=disk-sata0,bootindex=4,wwn=5764824129806139430,rotation_rate=1,model=ASSAY SAS 10K
    "#);
}

#[test]
fn faults_that_cannot_be_made_are_refused() {
    let machine = load("healthy-bench").actual;
    let plain = load("healthy-bios").actual;
    let refused = |machine: &Machine, toml: &str| {
        let injection: Injection = toml::from_str(toml).expect("it reads");
        injection.check("m", machine).expect_err(toml).to_string()
    };
    let said = [
        refused(&plain, "what = 'disk'\ndisk = 'nvme0'\nrules = []"),
        refused(&machine, "what = 'disk'\ndisk = 'nvme9'\nrules = []"),
        refused(
            &machine,
            "what = 'disk'\ndisk = 'nvme0'\nrules = [{ what = 'unreadable', sector = 131072 }]",
        ),
        refused(&machine, "what = 'pull'\npart = 'sata0'"),
        refused(&machine, "what = 'pull'\npart = 'usb0'"),
        refused(&machine, "what = 'nvme_warning'\ndisk = 'scsi0'\nbits = 1"),
        refused(&plain, "what = 'stuck_bits'\nbits = 1"),
        refused(&plain, "what = 'sensors'\ncelsius = 1\nwatts = 1"),
        refused(&machine, "what = 'pcie_error'\npart = 'sata0'\ncorrected = true"),
        refused(&machine, "what = 'flap'\nnic = 'lan1'\ntimes = 0\nms = 1"),
        refused(&machine, "what = 'impair'\nnic = 'lan1'"),
        refused(&machine, "what = 'bmc_sensor'\nsensor = 'P12V'\nvalue = 1"),
    ];
    insta::assert_snapshot!(said.join("\n"), @r#"
    machine `m`, inject.disk: disk `nvme0` needs served = true
    machine `m`, inject.disk: there is no disk `nvme9`
    machine `m`, inject.disk: sectors 131072 and 1 on are not on a disk of 64 MiB
    machine `m`, inject.pull: QEMU's SATA disks cannot be pulled; choose scsi, nvme or virtio
    machine `m`, inject.pull: there is no disk or network card `usb0`
    machine `m`, inject.nvme_warning: disk `scsi0` is not NVMe
    machine `m`, inject.stuck_bits: the machine needs bench.memory = true
    machine `m`, inject.sensors: the machine needs bench.sensors = true
    machine `m`, inject.pcie_error: `sata0` is no network card or disk with a PCIe link of its own
    machine `m`, inject.flap: times and ms must be at least 1
    machine `m`, inject.impair: say either a rate_mbit of at least 1, or loses_one_in, a power of two up to 256
    machine `m`, inject.bmc_sensor: the machine needs bmc = "ipmi"
    "#);
}

#[test]
fn all_shipped_machines_can_run_at_once() {
    let state = tempfile::tempdir().expect("a folder");
    let lab = Lab::open(LabConfig::new(state.path(), shipped())).expect("opened");
    let machines = lab.list().expect("all files are right and no address is used twice");
    let names: Vec<_> = machines.iter().map(|machine| machine.name.as_str()).collect();
    assert!(
        names.is_sorted() && names.contains(&"clock-1970") && names.contains(&"healthy-bench"),
        "{names:?}"
    );
    for machine in &machines {
        // One that is neither is broken while it runs: the proof catalogue says how.
        assert!(machine.fault.is_none() || !machine.name.starts_with("healthy"), "{}", machine.name);
        assert_eq!(machine.fault.is_none(), machine.actual == machine.ordered, "{}", machine.name);
    }
    let mut uuids: Vec<_> = machines.iter().map(|machine| machine.actual.smbios.uuid).collect();
    uuids.sort();
    uuids.dedup();
    assert_eq!(uuids.len(), machines.len());
}

/// A folder with the healthy machine and a variation of it with `text`.
fn variation(text: &str) -> (tempfile::TempDir, Result<LabMachine, QemuError>) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(shipped().join("healthy-bios.toml"), folder.path().join("healthy-bios.toml")).expect("copied");
    fs::write(folder.path().join("odd.toml"), text).expect("written");
    let machine = LabMachine::load(folder.path(), "odd");
    (folder, machine)
}

fn refusal(text: &str) -> String {
    let (folder, machine) = variation(text);
    let error = machine.expect_err("refused").to_string();
    error.replace(&folder.path().display().to_string(), "DIR")
}

const HEAD: &str = "base = \"healthy-bios\"\nunit = \"aa\"\ndescription = \"odd\"\n";

#[test]
fn wrong_files_say_where_and_what() {
    insta::assert_snapshot!(refusal(&format!("{HEAD}[fault.dimms.DIMM_C1]\nmissing = true")), @r#"machine `odd`, fault.dimms.DIMM_C1: there is no such part; the machine has DIMM_A1, DIMM_A2, DIMM_B1, DIMM_B2"#);
    insta::assert_snapshot!(refusal(&format!("{HEAD}[fault.disks.nvme0]\nserail = \"X\"")), @r#"
    DIR/odd.toml: TOML parse error at line 5, column 1
      |
    5 | serail = "X"
      | ^^^^^^
    unknown field `serail`, expected one of `missing`, `serial`, `wwn`, `model`, `size_mib`, `smart_critical_warning`, `unreadable_sectors`, `iops_limit`, `contents`, `rules`, `path_to`
    "#);
    insta::assert_snapshot!(refusal(&format!("{HEAD}[fault.disks.nvme0]\n")), @r#"machine `odd`, fault.disks.nvme0: changes nothing; say what is different, such as missing = true or another serial"#);
    insta::assert_snapshot!(refusal(&format!("{HEAD}[fault.disks.nvme0]\nmodel = \"X\"")), @r#"machine `odd`, disks.nvme0.model: QEMU fixes the model of nvme and virtio disks; leave it out"#);
    insta::assert_snapshot!(refusal(&format!("{HEAD}[fault.nics.lan1]\nspeed = 100")), @r#"machine `odd`, nics.lan1: speed can be set on model = "virtio" only; the others always say 1000"#);
    insta::assert_snapshot!(refusal(&format!("{HEAD}[fault]\nrtc = \"1970\"")), @"machine `odd`, rtc: `1970` is not a date and time such as 1970-01-01T00:00:00");
    insta::assert_snapshot!(refusal(&HEAD.replace("\"aa\"", "\"AA\"")), @r#"
    DIR/odd.toml: TOML parse error at line 2, column 8
      |
    2 | unit = "AA"
      |        ^^^^
    `AA` must be two lower-case hexadecimal digits, such as "1f"
    "#);
    insta::assert_snapshot!(refusal(&HEAD.replace("healthy-bios", "healthy-bois")), @r#"there is no lab machine `healthy-bois` in DIR; did you mean `healthy-bios`?"#);
    insta::assert_snapshot!(refusal(&HEAD.replace("healthy-bios", "odd")), @r#"DIR/odd.toml: base `odd` has a base itself; name that one"#);
    insta::assert_snapshot!(refusal(&HEAD.replace("healthy-bios", "../healthy-bios")), @r#"machine `../healthy-bios`, name: `../healthy-bios` must begin with a lower-case letter and hold at most 40 of a-z, 0-9 and `-`"#);
}

#[test]
fn a_machine_without_memory_is_refused() {
    let text = format!("{HEAD}[fault.dimms.DIMM_A1]\nmissing = true\n[fault.dimms.DIMM_B1]\nmissing = true");
    insta::assert_snapshot!(refusal(&text), @r#"machine `odd`, dimms: the modules make 0 MiB; at least 64 MiB are needed"#);
}

#[test]
fn two_machines_with_one_unit_cannot_be_on_one_network() {
    let (folder, machine) = variation(&HEAD.replace("aa", "01"));
    machine.expect("alone it is fine");
    let state = tempfile::tempdir().expect("a folder");
    let lab = Lab::open(LabConfig::new(state.path(), folder.path())).expect("opened");
    insta::assert_snapshot!(lab.list().expect_err("refused"), @r#"machine `odd`, nics.lan0: 52:54:00:a5:01:00 belongs to `healthy-bios` too; give each file a unit of its own"#);
}
