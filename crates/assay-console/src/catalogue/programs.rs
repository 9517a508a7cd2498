//! Failures that programs report: systemd, package managers, installers, language runtimes.

use super::Writer::{Any, Programs};
use super::{Pattern, Rung};

pub(super) static PATTERNS: &[Pattern] = &[
    Pattern::fatal("InitFrozen", Any, &[r"^(?:systemd\[1\]: )?Freezing execution\.$", r"^\[!{6}\] "]).says(
        "systemd, the first program, crashed or could not start, and stands still.",
        "See the line before it; often the root file system or a mount under /sys or /run is missing.",
        "systemd src/core/crash-handler.c",
    ),
    Pattern::suspicious("DependencyFailed", Any, &[r"^(?:\[DEPEND\]|systemd\[1\]:) Dependency failed for "])
        .from(Rung::Kernel)
        .says(
            "A unit was not started because one that it needs failed.",
            "See the unit that failed before it.",
            "systemd src/core/job.c",
        ),
    Pattern::suspicious("FailedUnit", Any, &[
        r"^(?:\[FAILED\]|systemd\[1\]:) Failed to (?:start|mount|listen on|activate|set up) ",
        r"^systemd\[1\]: \S+: Failed with result '",
        r"^(?:\* )?ERROR: \S+ failed to start$",
    ])
    .from(Rung::Kernel)
    .says(
        "A unit or service failed.",
        "See its own messages: journalctl -u with its name.",
        "systemd src/core/job.c, OpenRC",
    ),
    Pattern::suspicious("DeviceTimeout", Any, &[
        r"^\[ TIME \] Timed out waiting for device ",
        r"^systemd\[1\]: \S+\.device: Job \S+/start timed out\.",
    ])
    .says(
        "A disk or partition that the system is configured for did not come.",
        "Check /etc/fstab and crypttab against the disk's labels and UUIDs.",
        "systemd",
    ),
    Pattern::suspicious("OrderingCycle", Any, &[
        r"^systemd\[1\]: \S+: (?:Found ordering cycle|Ordering cycle found)",
        r"^\[ SKIP \] Ordering cycle found, skipping ",
    ])
    .says(
        "Units wait for each other in a circle; systemd drops one of them, and which one may change.",
        "Break the circle that it prints.",
        "kola, systemd src/core/transaction.c",
    ),
    Pattern::suspicious("GeneratorFailed", Any, &[
        r"/system-generators/\S+ (?:failed with exit status|terminated by signal|failed due to unknown reason)",
    ])
    .says(
        "A systemd generator failed, so units may be missing.",
        "Run the generator by hand on the system.",
        "kola, systemd src/shared/exec-util.c",
    ),
    Pattern::suspicious("InitrdCleanupKilled", Any, &[
        r"initrd-cleanup\.service: Main process exited, code=killed, status=15/TERM",
    ])
    .says(
        "The hand-over from the initramfs to the system was cut short.",
        "A known race of systemd: update it, or give the machine more time.",
        "kola (coreos/bugs#2526)",
    ),
    Pattern::suspicious("IgnitionFetchRace", Any, &[
        r"^ignition\[[0-9]+\]: failed to fetch config: context canceled",
    ])
    .says(
        "Ignition gave up on fetching its configuration.",
        "Check the address of the configuration and the network.",
        "kola (coreos/bugs#2435)",
    ),
    Pattern::suspicious("NoSpaceLeft", Any, &[r": No space left on device(?: \(os error 28\)|[)'.\x22]*)?$"]).says(
        "A file system is full.",
        "Give the disk or, for a live system, the memory more room; see which path could not be written.",
        "libc",
    ),
    Pattern::suspicious("CoreDump", Any, &[
        r"\(core dumped\)\s*$",
        r"^systemd-coredump\[[0-9]+\]: (?:\[🡕\] )?Process [0-9]+ \(.*\) of user [0-9]+ dumped core",
    ])
    .says(
        "A program crashed.",
        "See which program; its core file is in coredumpctl.",
        "kola, shells, systemd-coredump",
    ),
    Pattern::suspicious("GoPanic", Programs, &[
        r"^panic: runtime error: ",
        r"^goroutine [0-9]+ (?:gp=\S+ m=\S+ (?:mp=\S+ )?)?\[[a-z ]+(?:, [^]]+)?\]:$",
        r"^fatal error: all goroutines are asleep",
    ])
    .says("A Go program crashed.", "See its trace.", "kola (made narrower), Go runtime"),
    Pattern::suspicious("RustPanic", Programs, &[r"^thread '[^']*' (?:\([0-9]+\) )?panicked at "]).says(
        "A Rust program crashed.",
        "See the message and place.",
        "Rust std::panicking",
    ),
    Pattern::suspicious("PythonTraceback", Programs, &[r"^Traceback \(most recent call last\):$"]).says(
        "A Python program ended with an exception.",
        "See the last line of the trace.",
        "CPython",
    ),
    Pattern::suspicious("PackageFailed", Programs, &[
        r"^dpkg: error processing (?:package|archive) ",
        r"^E: (?:Sub-process \S+ returned an error code|Failed to fetch|Unable to (?:locate package|fetch some archives|correct problems))",
        r"^(?:Error: Transaction test error|error: failed to commit transaction)",
    ])
    .says(
        "A package was not fetched or not installed.",
        "See the package that it names; check the mirror and the network.",
        "dpkg, apt, dnf, pacman",
    ),
    Pattern::suspicious("InstallerDownloadFailed", Programs, &[
        r"^(?:\[!+\] )?(?:Downloading a file failed|Bad archive mirror|Failed to (?:retrieve|download) (?:the preconfiguration file|installer components?))",
    ])
    .says(
        "Debian's installer did not get a file that it needs, and asks what to do.",
        "Check the mirror, or the address of the preconfiguration file.",
        "debian-installer, own runs",
    ),
    Pattern::suspicious("InstallStepFailed", Programs, &[
        r"^(?:\[!+\] )?(?:Installation step failed|An installation step failed)",
        r"^FATAL ERROR \(?[0-9]*\)?.*FAI|^ERROR in task \S+, code: [0-9]+",
        r"^error: (?:builder for|build of|Cannot build) '/nix/store/\S+\.drv'",
    ])
    .says(
        "The installer says that a step failed.",
        "See the messages of that step before it.",
        "debian-installer, FAI, Nix",
    ),
    Pattern::suspicious("BootloaderInstallFailed", Programs, &[
        r"^grub-install: error: ",
        r"^(?:Unable to install GRUB in |Executing 'grub-install \S+' failed)",
        r"^Failed to (?:install|copy) (?:the )?(?:boot ?loader|systemd-boot)",
    ])
    .says(
        "The bootloader was not installed, so the disk will not boot.",
        "Check the target disk, the ESP, and whether the machine booted as the installer expects (BIOS or UEFI).",
        "GRUB, debian-installer, bootctl",
    ),
];
