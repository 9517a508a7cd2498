//! From a [`GuestSpec`] to what starts it: pure, so that it can be read in a snapshot.

use std::path::{Path, PathBuf};

use assay_process::{Cmd, Sandbox};

use super::{CHANNEL, GUEST_CHANNEL, GuestDisk, GuestSpec, OWNER};
use crate::Accel;

/// Waits for the owner's end.
const AROUND: &str = include_str!("around.sh");
/// Where the guest's folder is for QEMU.
const FOLDER: &str = "/guest";
/// Where the files are that it only reads.
const FILES: &str = "/files";

/// What starts QEMU in namespaces of its own and in a sandbox.
pub(super) fn around(spec: &GuestSpec, folder: &Path, accel: &Accel) -> Cmd {
    let mut sandbox = Sandbox::new().write(folder, FOLDER);
    for (path, at) in read_only(spec) {
        sandbox = sandbox.read(path, at);
    }
    if *accel == Accel::Kvm {
        sandbox = sandbox.device("/dev/kvm");
    }
    let around =
        ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "/bin/sh", "-c"];
    let around = around.map(std::ffi::OsString::from).into_iter();
    let around = around.chain([AROUND.into(), "assay-guest".into(), folder.join(OWNER).into_os_string()]);
    sandbox.command("qemu-system-x86_64").args(arguments(spec, accel)).started_by("unshare", around)
}

/// The files that it only reads, each at a place of its own.
fn read_only(spec: &GuestSpec) -> Vec<(PathBuf, String)> {
    let disks = spec.disks.iter().enumerate().filter_map(|(place, disk)| match disk {
        GuestDisk::Read(path) => Some((path.clone(), format!("{FILES}/disk{place}"))),
        GuestDisk::Scratch(_) => None,
    });
    let boot = [(&spec.kernel, "kernel"), (&spec.initrd, "initrd")];
    boot.into_iter().map(|(path, name)| (path.clone(), format!("{FILES}/{name}"))).chain(disks).collect()
}

/// QEMU's arguments; paths are those in the sandbox.
fn arguments(spec: &GuestSpec, accel: &Accel) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    let mut pair = |option: &str, value: String| list.extend([option.to_owned(), value]);
    pair("-name", format!("guest={}", spec.name.replace(',', ",,")));
    pair("-machine", "q35,usb=off,vmport=off".to_owned());
    let (accel, cpu) = match accel {
        Accel::Kvm => ("kvm", "host"),
        Accel::Tcg { .. } => ("tcg,thread=multi", "max"),
    };
    pair("-accel", accel.to_owned());
    pair("-cpu", cpu.to_owned());
    pair("-smp", spec.cpus.to_string());
    pair("-m", format!("{}M", spec.memory_mib));
    // What it does not need to do for a guest, it cannot be brought to do by one.
    pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".to_owned());
    pair("-kernel", format!("{FILES}/kernel"));
    pair("-initrd", format!("{FILES}/initrd"));
    // A kernel that panics ends, and QEMU with it.
    pair("-append", format!("console=ttyS0 panic=-1 {}", spec.arguments).trim_end().to_owned());
    pair("-display", "none".to_owned());
    pair("-chardev", "stdio,id=console,signal=off".to_owned());
    pair("-serial", "chardev:console".to_owned());
    pair("-device", "virtio-serial-pci,max_ports=2".to_owned());
    pair("-chardev", format!("socket,id=channel,path={FOLDER}/{CHANNEL}"));
    pair("-device", format!("virtserialport,chardev=channel,name={GUEST_CHANNEL}"));
    pair("-device", "virtio-rng-pci".to_owned());
    pair("-nic", "none".to_owned());
    for (place, disk) in spec.disks.iter().enumerate() {
        let backend = match disk {
            GuestDisk::Read(_) => format!("filename={FILES}/disk{place},read-only=on,locking=off"),
            GuestDisk::Scratch(name) => {
                format!("filename={FOLDER}/{},discard=unmap,cache.no-flush=on", name.replace(',', ",,"))
            }
        };
        let only = if matches!(disk, GuestDisk::Read(_)) { ",read-only=on" } else { ",discard=unmap" };
        pair("-blockdev", format!("driver=file,node-name=file{place},{backend}"));
        pair("-blockdev", format!("driver=raw,node-name=disk{place},file=file{place}{only}"));
        // Where there is no room on this machine, the guest is told, and not stopped.
        pair("-device", format!("virtio-blk-pci,drive=disk{place},werror=report,rerror=report"));
    }
    list.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> GuestSpec {
        GuestSpec {
            name: "run, 7".to_owned(),
            kernel: "/srv/image/vmlinuz".into(),
            initrd: "/srv/image/base.initrd".into(),
            arguments: "quiet".to_owned(),
            cpus: 2,
            memory_mib: 2048,
            disks: vec![GuestDisk::Read("/srv/inputs.tar".into()), GuestDisk::Scratch("scratch.raw".into())],
        }
    }

    fn emulated() -> Accel {
        Accel::Tcg { reason: String::new() }
    }

    #[test]
    fn a_guest_has_disks_a_channel_and_no_network() {
        let line = arguments(&spec(), &emulated()).join(" ");
        insta::assert_snapshot!(line.replace(" -", "\n-"), @"
        -name guest=run,, 7
        -machine q35,usb=off,vmport=off
        -accel tcg,thread=multi
        -cpu max
        -smp 2
        -m 2048M
        -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
        -kernel /files/kernel
        -initrd /files/initrd
        -append console=ttyS0 panic=-1 quiet
        -display none
        -chardev stdio,id=console,signal=off
        -serial chardev:console
        -device virtio-serial-pci,max_ports=2
        -chardev socket,id=channel,path=/guest/channel
        -device virtserialport,chardev=channel,name=org.assay.guest.0
        -device virtio-rng-pci
        -nic none
        -blockdev driver=file,node-name=file0,filename=/files/disk0,read-only=on,locking=off
        -blockdev driver=raw,node-name=disk0,file=file0,read-only=on
        -device virtio-blk-pci,drive=disk0,werror=report,rerror=report
        -blockdev driver=file,node-name=file1,filename=/guest/scratch.raw,discard=unmap,cache.no-flush=on
        -blockdev driver=raw,node-name=disk1,file=file1,discard=unmap
        -device virtio-blk-pci,drive=disk1,werror=report,rerror=report
        -nodefaults
        -no-user-config
        -no-reboot
        ");
    }

    #[test]
    fn qemu_sees_its_own_files_and_is_in_namespaces_of_its_own() {
        let line = around(&spec(), Path::new("/srv/machines/run-a"), &emulated()).to_string();
        assert!(
            line.starts_with("unshare --net --mount --pid --fork --kill-child --mount-proc -- /bin/sh -c ")
        );
        assert!(
            line.contains("--bind /srv/machines/run-a /guest")
                && line.contains("--ro-bind /srv/inputs.tar /files/disk0")
        );
        assert!(!line.contains("/dev/kvm"), "it is not used");
        let with = around(&spec(), Path::new("/srv/machines/run-a"), &Accel::Kvm).to_string();
        assert!(with.contains("--dev-bind /dev/kvm /dev/kvm") && with.contains("-accel kvm"));
    }
}
