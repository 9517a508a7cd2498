//! Failures that the kernel reports.

use super::Writer::{Any, Kernel};
use super::{Pattern, Rung};

pub(super) static PATTERNS: &[Pattern] = &[
    // Before `KernelPanic`, which the line is as well: whose fault it is comes first.
    Pattern::starved("TimerStarved", Kernel, &[
        r"^(?:---\[ end )?Kernel panic - not syncing: IO-APIC \+ timer doesn't work!",
        r"^(?:---\[ end )?Kernel panic - not syncing: timer doesn't work through Interrupt-remapped IO-APIC",
    ])
    .says(
        "The kernel waited for ten ticks of its timer, and too few came: an emulator that is not scheduled in time loses them.",
        "Run it again with less load on the host, or on one with KVM; where the machine is not emulated, see the panic.",
        "Linux arch/x86/kernel/apic/io_apic.c (check_timer, timer_irq_works), own capture",
    ),
    Pattern::fatal("KernelPanic", Kernel, &[r"^(?:---\[ end )?Kernel panic - not syncing"]).says(
        "The kernel stopped for good.",
        "Read the reason in the line and the trace before it.",
        "kola, Linux kernel/panic.c",
    ),
    Pattern::fatal("KernelOops", Kernel, &[
        r"^Oops: ",
        r"^BUG: (?:kernel NULL pointer dereference|unable to handle (?:page fault|kernel))",
        r"^Unable to handle kernel (?:NULL pointer dereference|paging request|access to|read from|write to|execute)",
        r"^Internal error: Oops",
        r"^general protection fault, (?:probably|maybe|kernel)",
    ])
    .says(
        "The kernel made an invalid access; from here on its state cannot be relied on.",
        "Report the trace with the kernel's version; try another kernel or without the module it names.",
        "kola, Linux arch/*/mm/fault.c",
    ),
    Pattern::fatal("KernelBug", Kernel, &[r"^kernel BUG at "]).says(
        "A check inside the kernel failed.",
        "Report the trace with the kernel's version.",
        "Linux lib/bug.c",
    ),
    Pattern::suspicious("KernelBugReport", Kernel, &[
        r"^BUG: (?:sleeping function called|scheduling while atomic|Bad page |Bad rss|workqueue lockup|KASAN|KFENCE|KMSAN|KCSAN|spinlock|using \S+ in preemptible|MAX_LOCK|stack guard page)",
        r"^UBSAN: ",
    ])
    .says(
        "The kernel found itself in a state that it should not be in, and goes on.",
        "Report the trace with the kernel's version.",
        "Linux kernel/sched/core.c, mm/, lib/ubsan.c",
    ),
    Pattern::suspicious("KernelWarning", Kernel, &[
        r"^WARNING: CPU: [0-9]+ PID: [0-9]+ at ",
        r"^WARNING: \S+:[0-9]+ at .*, CPU#[0-9]+",
    ])
    .says(
        "A check inside the kernel failed that it can live with.",
        "Compare with runs of an earlier kernel; report the trace if it is new.",
        "kola, Linux kernel/panic.c",
    ),
    Pattern::suspicious("SoftLockup", Kernel, &[r"^(?:watchdog: )?BUG: soft lockup - CPU#[0-9]+ stuck for "]).says(
        "A processor did not come to schedule for tens of seconds.",
        "On an emulated machine, the host is too slow or overloaded; on a real one, see the trace.",
        "Linux kernel/watchdog.c",
    ),
    Pattern::suspicious("HardLockup", Kernel, &[
        r"^(?:NMI watchdog: |watchdog: )(?:CPU[0-9]+: )?Watchdog detected hard LOCKUP",
    ])
    .says(
        "A processor did not even take interrupts for seconds.",
        "On an emulated machine, the host is overloaded; on a real one, see the trace.",
        "Linux kernel/watchdog.c",
    ),
    Pattern::suspicious("RcuStall", Kernel, &[
        r"^(?:rcu: )?INFO: \S+ (?:self-)?detected (?:expedited )?stalls? on ",
        r"^rcu: \S+ kthread (?:starved|timer wakeup didn't happen) for ",
    ])
    .says(
        "A processor did not come round for too long.",
        "On an emulated machine, the host is too slow or overloaded; on a real one, see the trace.",
        "Linux kernel/rcu/tree_stall.h",
    ),
    Pattern::suspicious("CpuStall", Kernel, &[
        r"^(?:smp: )?csd: Detected non-responsive CSD lock",
        r"^CPU[0-9]+ failed to report alive state",
        r"^(?:CPU[0-9]+: (?:failed to come online|failed to boot)|smpboot: do_boot_cpu failed)",
    ])
    .says(
        "A processor does not answer the others, or did not start.",
        "Check the number of processors of the machine against its host; on a real one, the processor and firmware.",
        "Linux kernel/smp.c, arch/*/kernel/smp*.c",
    ),
    Pattern::suspicious("HungTask", Kernel, &[
        r"^INFO: task .{1,40}:[0-9]+ (?:<\S+> )?blocked for more than [0-9]+ seconds",
    ])
    .says(
        "A program waits for input or output that does not complete.",
        "Check the disk that it waits for, and the host's load.",
        "Linux kernel/hung_task.c",
    ),
    Pattern::suspicious("OutOfMemory", Kernel, &[
        r"^.{1,40} invoked oom-killer: ",
        r"^(?:Memory cgroup out of memory|Out of memory): Killed process [0-9]+",
    ])
    .says(
        "Memory ran out and the kernel killed a program.",
        "Give the machine more memory, or find what took it: a live system keeps what is written in memory.",
        "kola, Linux mm/oom_kill.c",
    ),
    Pattern::suspicious("Segfault", Any, &[
        r"^[^ :]{1,40}\[[0-9]+\]: segfault at [0-9a-f]+ ip ",
        r"^traps: .{1,40}\[[0-9]+\] (?:general protection|trap |error)",
        r"(?:code=(?:dumped|killed), status|killed by signal \S* ?SEGV| status)=11/SEGV",
    ])
    .says(
        "A program crashed.",
        "See which program, and whether the processor model offers the instructions that it was built for.",
        "kola, Linux arch/x86/mm/fault.c, systemd",
    ),
    Pattern::suspicious("BlockIoError", Kernel, &[
        r"^(?:blk_update_request: |print_req_error: )?(?:I/O|critical (?:medium|target|nexus|space allocation)) error, dev (?:[a-eg-z]\S*|f[a-ce-z]\S*),? sector [0-9]+",
        r"^Buffer I/O error on dev(?:ice)? (?:[a-eg-z]\S*|f[a-ce-z]\S*), ",
        r"rejecting I/O to (?:offline|dead) device",
        r"^nvme nvme[0-9]+: I/O (?:tag )?[0-9]+ .*timeout, (?:aborting|reset controller|completion polled)",
        r"^nvme nvme[0-9]+: (?:controller is down; will reset|Removing after probe failure|Device not ready; aborting)",
    ])
    .says(
        "A disk did not read or write.",
        "Check the disk that it names; in an emulated machine, the host's file and free space.",
        "kola, Linux block/, fs/buffer.c, drivers/nvme",
    ),
    Pattern::suspicious("AtaError", Kernel, &[
        r"^ata[0-9]+(?:\.[0-9]+)?: (?:exception Emask 0x|failed command: |COMRESET failed|softreset failed)",
    ])
    .says(
        "A SATA command or link failed; the kernel tries again.",
        "Check the cable, the port and the disk's SMART log.",
        "Linux drivers/ata/libata-eh.c",
    ),
    Pattern::suspicious("FilesystemError", Kernel, &[
        r"^EXT[234]-fs error ",
        r"^EXT[234]-fs \([^)]+\): (?:Delayed block allocation failed|error loading journal|This should not happen!!|previous I/O error)",
        r"^XFS \([^)]+\): (?:Corruption |Metadata (?:corruption|CRC error|I/O [Ee]rror)|Internal error|log I/O error|Unmount and run xfs_repair)",
        r"^BTRFS (?:error|critical|: error)",
        r"^FAT-fs \([^)]+\): error",
        r"^(?:Aborting journal on device |JBD2: (?:Detected IO errors|Error -[0-9]+ ))",
    ])
    .says(
        "A file system is damaged, or its disk does not keep what was written.",
        "Check the disk, and whether the machine was cut off while it wrote.",
        "kola, Linux fs/",
    ),
    Pattern::suspicious("SquashfsError", Kernel, &[r"^SQUASHFS error: "]).says(
        "The compressed system on the medium cannot be read.",
        "Compare the medium's checksum with the image's; check the drive or stick.",
        "Linux fs/squashfs",
    ),
    Pattern::suspicious("ReadOnlyFilesystem", Any, &[
        r"Remounting filesystem read-only$",
        r"^[^ ].*: Read-only file system$",
    ])
    .says(
        "Something tried to write where nothing can be written, or a damaged file system was locked.",
        "If the kernel locked it, see the disk errors before; otherwise what wrote should write elsewhere.",
        "Linux fs/ext4/super.c, libc",
    ),
    Pattern::suspicious("RaidDegraded", Kernel, &[r"^md/raid\S*: (?:Disk failure on |not enough operational )"]).says(
        "A disk dropped out of a RAID.",
        "Check the disk that it names.",
        "Linux drivers/md",
    ),
    Pattern::suspicious("MachineCheck", Kernel, &[
        r"^(?:mce: )?\[Hardware Error\]: ",
        r"^mce: CPUs not responding to MCE broadcast",
    ])
    .says(
        "The hardware reported an error of its own.",
        "Read the bank and address; test the memory and the processor.",
        "Linux arch/x86/kernel/cpu/mce",
    ),
    Pattern::suspicious("PcieError", Kernel, &[
        r"^(?:pcieport|\S+) [0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]: (?:AER: .*(?:[Uu]ncorrect|Fatal)|PCIe Bus Error: severity=Uncorrect)",
    ])
    .says(
        "A PCIe link lost data that it could not repair.",
        "Check the card's seat, the slot and the riser.",
        "Linux drivers/pci/pcie/aer.c",
    ),
    Pattern::suspicious("WatchdogReset", Any, &[
        r"^softdog: Initiating (?:system reboot|panic)",
        r"^watchdog[0-9]+: pretimeout event",
        r"^systemd\[1\]: \S+: Watchdog timeout \(limit ",
    ])
    .says(
        "A watchdog acted: something stopped answering.",
        "See which watchdog and what was silent before it.",
        "Linux drivers/watchdog, systemd",
    ),
    Pattern::suspicious("TpmError", Kernel, &[
        r"^tpm tpm[0-9]+: A TPM error \(-?[0-9]+\) occurred ",
        r"^tpm_(?:tis|crb)\S* \S+: (?:Could not get TPM timeouts|probe with driver .* failed|can't request region|\[Firmware Bug\])",
    ])
    .says(
        "The TPM did not do what the kernel asked.",
        "If the image uses the TPM, check its state and version; otherwise the message has no effect.",
        "Linux drivers/char/tpm",
    ),
    Pattern::suspicious("ModuleVerification", Any, &[
        r"^\S+: module verification failed: signature and/or required key missing - tainting kernel",
        r"^(?:\S+: )?Loading of (?:unsigned module|module with .*) is rejected$",
        r"^Lockdown: \S+: unsigned module loading is restricted",
        r": Key was rejected by service$",
    ])
    .from(Rung::Kernel)
    .says(
        "A kernel module is not signed by a key that the kernel knows.",
        "Sign the module or enrol its key; under Secure Boot it is not loaded.",
        "Linux kernel/module/signing.c, kmod",
    ),
    Pattern::suspicious("FirmwareMissing", Kernel, &[
        r"^\S+ \S+: Direct firmware load for \S+ failed with error -2$",
    ])
    .says(
        "A device asked for a firmware file that the system does not have.",
        "Install the firmware package if the device is needed.",
        "Linux drivers/base/firmware_loader",
    ),
    Pattern::suspicious("NetworkStalled", Kernel, &[
        r"^NETDEV WATCHDOG: ",
        r"^(?:\S+ \S+ )?\S+: NETDEV WATCHDOG: ",
    ])
    .says(
        "A network card did not send for seconds.",
        "Check the driver and, in an emulated machine, the host's load.",
        "Linux net/sched/sch_generic.c",
    ),
];
