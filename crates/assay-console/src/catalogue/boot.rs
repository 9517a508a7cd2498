//! Failures before the kernel, and of the initramfs.

use super::Writer::{Any, Programs};
use super::{Pattern, Rung};

pub(super) static PATTERNS: &[Pattern] = &[
    Pattern::fatal("NoBootableDevice", Programs, &[
        r"^No bootable device\.?$",
        r"^FATAL: No bootable medium found! System halted\.",
        r"^BdsDxe: No bootable option or device was found\.",
        r"^(?:Missing operating system|Operating system not found|Non-System disk or disk error)",
    ])
    .until(Rung::Bootloader)
    .says(
        "The firmware tried every device and none boots.",
        "Check that the medium is attached and first in the boot order, and that it boots on this firmware (BIOS or UEFI).",
        "SeaBIOS src/boot.c, EDK2 BdsDxe, VirtualBox, boot sectors",
    ),
    Pattern::fatal("EfiShell", Programs, &[r"^UEFI Interactive Shell v[0-9]", r"^(?:EFI )?Shell>"])
        .unfinished()
        .until(Rung::Bootloader)
        .says(
            "The firmware found nothing to boot and opened its shell.",
            "Check that the medium has \\EFI\\BOOT\\BOOTX64.EFI (or the architecture's name) on a FAT partition that the firmware can see.",
            "EDK2 ShellPkg, own captures",
        ),
    Pattern::fatal("FirmwareException", Programs, &[
        r"^!!!! (?:X64|IA32) Exception Type - ",
        r"^Synchronous Exception at 0x[0-9A-F]+",
    ])
    .says(
        "The firmware or a boot program crashed.",
        "Check the EFI program on the medium, and that the firmware image fits the machine type.",
        "EDK2 CpuExceptionHandlerLib, own captures",
    ),
    Pattern::fatal("SecureBootViolation", Any, &[
        r"^error: (?:bad shim signature|.*has invalid signature|verification requested but nobody cares)",
        r"^(?:Verification failed|Verifiying image failed): \(0x1A\) Security Violation",
        r"^Something has gone (?:seriously )?wrong: SBAT self-check failed: Security Policy Violation",
        r"^BdsDxe: failed to (?:load|start) Boot[0-9A-F]{4} .*: (?:Access Denied|Security Violation)",
    ])
    .until(Rung::Bootloader)
    .says(
        "Secure Boot refused something that is not signed by a key it knows.",
        "Check which program was refused and the keys in the firmware's variables; sign the image, or test without Secure Boot.",
        "shim, GRUB shim_lock, EDK2 BdsDxe",
    ),
    Pattern::fatal("GrubRescue", Programs, &[r"^Entering rescue mode\.\.\.", r"^grub rescue>"])
        .unfinished()
        .until(Rung::Bootloader)
        .says(
            "GRUB's core does not find its modules.",
            "Check that /boot/grub is on the disk and partition that grub-install wrote into the core image.",
            "GRUB kern/main.c, kern/rescue_reader.c",
        ),
    Pattern::fatal("GrubShell", Programs, &[r"^Minimal BASH-like line editing is supported\.", r"^grub>"])
        .unfinished()
        .until(Rung::Bootloader)
        .says(
            "GRUB found no configuration and opened its command line.",
            "Check that grub.cfg is where GRUB's prefix points to.",
            "GRUB normal/main.c",
        ),
    Pattern::fatal("GrubNoKernel", Programs, &[r"^error: (?:\S+:[0-9]+: ?)?you need to load the kernel first\."]).says(
        "GRUB did not load the kernel of the entry it boots.",
        "See the error before it: the kernel's file is missing or cannot be read.",
        "GRUB loader/i386/linux.c",
    ),
    Pattern::suspicious("GrubError", Programs, &[
        r"^error: (?:\S+:[0-9]+: ?)?(?:file `.*' not found|no such (?:device|partition|disk)|unknown filesystem|disk `.*' not found|attempt to read or write outside of|failure reading sector|invalid (?:magic number|arch-independent ELF magic|environment block)|symbol `.*' not found|out of memory|premature end of file)",
        r"(?:alloc|free) magic (?:is )?broken",
    ])
    .until(Rung::Bootloader)
    .says(
        "GRUB could not read something.",
        "Check the file or device that it names; the boot may go on with another entry.",
        "GRUB sources, kola (GRUB memory corruption)",
    ),
    Pattern::fatal("SyslinuxFailed", Programs, &[
        r"^(?:Failed to load|Could not find kernel image:) ",
        r"^No DEFAULT or UI configuration directive found!",
        r"^(?:isolinux|SYSLINUX|ISOLINUX|EXTLINUX)\S*: (?:Disk error|Image checksum error|No such drive|Failed to load)",
    ])
    .until(Rung::Bootloader)
    .says(
        "SYSLINUX did not find its files, its configuration or the kernel.",
        "Check the paths in isolinux.cfg or syslinux.cfg, and that ldlinux.c32 is of the same version.",
        "SYSLINUX core/",
    ),
    Pattern::suspicious("NetworkBootFailed", Programs, &[
        r"^(?:No more network devices|Nothing to boot: )",
        r"^PXE-E[0-9A-F]{2}: ",
        r"^>>(?:Start|Checking) .*: (?:No Response|Time ?out|Not Found)",
    ])
    .until(Rung::Bootloader)
    .says(
        "A network boot got no answer or no file. Other boot devices may follow.",
        "If the machine should boot from the network, check the DHCP answer and the boot file.",
        "iPXE, EDK2 PxeBc, own captures",
    ),
    Pattern::suspicious("EfiStubError", Any, &[r"^EFI stub: ERROR: "]).says(
        "The kernel's EFI stub met an error.",
        "See its text; a missing initrd shows up here first.",
        "Linux drivers/firmware/efi/libstub",
    ),
    Pattern::fatal("KernelImageCorrupt", Any, &[r"^-- System halted$"]).says(
        "The kernel could not unpack itself.",
        "Check the kernel's file on the medium against its checksum, and the machine's memory.",
        "Linux arch/x86/boot/compressed/error.c",
    ),
    Pattern::suspicious("InitramfsUnpackFailed", Any, &[r"^Initramfs unpacking failed: "]).says(
        "The kernel could not unpack the initramfs or a part of it.",
        "Check the initramfs file, its compression against the kernel's configuration, and the size of the memory.",
        "Linux init/initramfs.c",
    ),
    Pattern::fatal("InitNotFound", Any, &[
        r"^No working init found\.",
        r"^Failed to execute /\S*init \(error -[0-9]+\)$",
        r"^Requested init \S+ failed \(error -[0-9]+\)\.",
    ])
    .says(
        "The kernel found no program to start.",
        "Check that the initramfs or root file system has /init or /sbin/init for this architecture, with its libraries.",
        "Linux init/main.c",
    ),
    Pattern::fatal("RootMountFailed", Any, &[
        r"^VFS: (?:Unable to mount root fs|Cannot open root device)",
        r"^Gave up waiting for root (?:file system )?device",
        r"^ALERT!  ?\S+ does not exist\.",
        r"^mount: mounting \S+ on /(?:root|sysroot|mnt-root) failed: ",
        r"^An error occurred in stage [12] of the boot process",
    ])
    .says(
        "The root file system was not found or not mounted.",
        "Check root= on the kernel's command line, the disk's labels and UUIDs, and that the initramfs has the drivers.",
        "Linux init/do_mounts.c, initramfs-tools, NixOS stage-1-init.sh",
    ),
    Pattern::fatal("LiveMediumNotFound", Any, &[
        r"^(?:Unable to find a (?:live file system|medium containing a live file system)|Unable to find a medium)",
        r"^(?:dracut-initqueue\[[0-9]+\]: )?Warning: /dev/(?:disk/by-label/|mapper/live-rw|root)\S* does not exist$",
    ])
    .says(
        "The initramfs does not find the live system's medium.",
        "Check the medium's label against the command line, and that the initramfs has the driver of its controller.",
        "live-boot, dracut dmsquash-live",
    ),
    Pattern::fatal("InitramfsShell", Programs, &[
        r"^\(initramfs\)",
        r"^Dropping to (?:a shell!|debug shell\.|an initramfs shell)",
    ])
    .unfinished()
    .says(
        "The initramfs gave up and opened a shell.",
        "See the lines before it for what it was waiting for.",
        "initramfs-tools scripts/functions",
    ),
    Pattern::fatal("DracutFatal", Any, &[
        r"^dracut(?:-\w+)?(?:\[[0-9]+\])?: (?:Refusing to continue|FATAL: )",
        r"^(?:dracut-emergency\[[0-9]+\]: )?Warning: dracut: FATAL: ",
        r"^Generating \S*/run/initramfs/rdsosreport\.txt",
    ])
    .says(
        "dracut gave up on the boot.",
        "See the report that it wrote, /run/initramfs/rdsosreport.txt, and the lines before.",
        "kola, dracut",
    ),
    Pattern::suspicious("DracutTimeout", Any, &[
        r"^(?:dracut-initqueue\[[0-9]+\]: )?Warning: dracut-initqueue: ?(?:timeout|starting timeout scripts)",
    ])
    .says(
        "dracut waits for a device that does not come.",
        "See which device it waits for; after some minutes it gives up.",
        "dracut dracut-initqueue.sh",
    ),
    Pattern::fatal("EmergencyMode", Any, &[
        r"^You are in emergency mode",
        r"^(?:Press Enter for (?:emergency shell|maintenance)|Entering emergency mode\.)",
        r"(?:Starting|Started) (?:\S*emergency\.service - )?Emergency Shell|Reached target (?:\S*emergency\.target - )?Emergency Mode",
    ])
    .says(
        "systemd could not finish the boot and opened the emergency shell.",
        "See which mount or unit failed before it: usually a file system in /etc/fstab that is not there.",
        "kola, systemd",
    ),
    Pattern::fatal("RescueMode", Any, &[
        r"^You are in rescue mode",
        r"Reached target (?:\S*rescue\.target - )?Rescue Mode",
    ])
    .says(
        "The system started in rescue mode.",
        "Check the command line for `single`, `rescue` or systemd.unit=rescue.target.",
        "systemd",
    ),
    Pattern::fatal("MediaCheckFailed", Any, &[
        r"^The media check is complete, the result is: FAIL",
        r"^(?:md5|sha256)sum: WARNING: [0-9]+ computed checksums? did NOT match",
    ])
    .says(
        "The medium's own check found that its content is not what it was made of.",
        "Build or download the image again and compare its checksum.",
        "dracut checkisomd5, casper-md5check, coreutils",
    ),
];
