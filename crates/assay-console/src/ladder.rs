//! How far a machine is in its boot, from what its firmware, bootloader, kernel and programs print.
//!
//! The steps were taken from own captures (SeaBIOS 1.16, OVMF 2022.11, iPXE, ISOLINUX 6.04, Debian 12) and from the
//! programs' sources. A healthy boot prints alarming things on the way: SeaBIOS says `Boot failed:` and EDK2
//! `failed to load` for each device that is not the one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a machine is in its boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// SeaBIOS, OVMF, U-Boot: it looks for something to boot.
    Firmware,
    /// GRUB, systemd-boot, SYSLINUX, iPXE: something was found.
    Bootloader,
    /// The kernel or its EFI stub runs.
    Kernel,
    /// The first program runs, in an initramfs or in the system.
    Userspace,
    /// A login prompt, or an automatic login.
    Login,
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Firmware => "firmware",
            Self::Bootloader => "bootloader",
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
            Self::Login => "login",
        })
    }
}

/// Who has to have written a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The kernel. From a kernel without time stamps, any line until one comes with a stamp.
    Kernel,
    /// Anything but the kernel.
    Programs,
    Any,
}

/// A pattern that shows a rung.
pub(crate) struct Step {
    pub(crate) rung: Rung,
    /// Only this program prints it, and only when it starts: after a higher rung it means another boot.
    pub(crate) begins: bool,
    pub(crate) writer: Writer,
    /// Seen in an unfinished line as well.
    pub(crate) unfinished: bool,
    pub(crate) regex: &'static str,
}

const fn step(rung: Rung, writer: Writer, regex: &'static str) -> Step {
    Step { rung, begins: false, writer, unfinished: false, regex }
}

const fn begins(rung: Rung, regex: &'static str) -> Step {
    Step { rung, begins: true, writer: Writer::Programs, unfinished: false, regex }
}

/// `^` is the beginning of the message: after the kernel's stamp, after leading spaces of others.
pub(crate) static STEPS: &[Step] = {
    use Rung::{Bootloader, Firmware, Kernel, Login, Userspace};
    use Writer::{Any, Programs};
    &[
        begins(Firmware, r"^SeaBIOS \(version "),
        begins(Firmware, r"^BdsDxe: (?:loading|starting|failed to (?:load|start)) Boot[0-9A-F]{4} "),
        begins(Firmware, r"^UEFI firmware \(version "),
        begins(Firmware, r"^U-Boot (?:SPL )?20[0-9]{2}\.[0-9]{2}"),
        step(Firmware, Programs, r"^NOTICE:  BL[123]"),
        step(Firmware, Programs, r"^(?:iPXE|gPXE) \((?:https?://|PCI )"),
        step(Firmware, Programs, r"^Booting from (?:Hard Disk|DVD/CD|Floppy|ROM|[0-9a-fA-F:]+)"),
        step(Firmware, Programs, r"^>>(?:Start|Checking) (?:PXE|HTTP|Media)"),
        step(Firmware, Programs, r"^UEFI Interactive Shell v"),
        begins(Bootloader, r"^GNU GRUB  version "),
        begins(Bootloader, r"^GRUB loading"),
        begins(Bootloader, r"^Welcome to GRUB!"),
        begins(Bootloader, r"^(?:ISO|SYS|PXE|EXT)LINUX [0-9]+\.[0-9]+"),
        step(Bootloader, Programs, r"^Booting [`'].+'"),
        step(Bootloader, Programs, r"^Loading Linux .*\.\.\."),
        step(
            Bootloader,
            Programs,
            r"^Loading (?:initial ramdisk|\S*(?:vmlinuz|bzImage|linux|initrd|ipxe)\S*) ?\.\.\.",
        ),
        step(Bootloader, Programs, r"^systemd-boot [0-9]"),
        step(Bootloader, Programs, r"^Boot in [0-9]+ ?s(?:ec)?\."),
        step(Bootloader, Programs, r"^iPXE \S+ -- Open Source Network Boot Firmware"),
        step(Bootloader, Programs, r"^Hit any key to stop autoboot"),
        step(Kernel, Any, r"^EFI stub: "),
        step(Kernel, Any, r"^(?:Uncompressing|Decompressing) Linux\.\.\."),
        step(Kernel, Any, r"^Starting kernel \.\.\."),
        step(Kernel, Any, r"^Linux version [0-9]+\.[0-9]+"),
        step(Kernel, Any, r"^Booting Linux on physical CPU 0x"),
        step(Userspace, Any, r"^Run \S+ as init process"),
        step(Userspace, Any, r"^[a-z][a-z0-9_.@()-]{2,}\[[1-9][0-9]*\]: "),
        step(Userspace, Any, r"^dracut: "),
        step(Userspace, Programs, r"^Loading, please wait\.\.\."),
        step(Userspace, Programs, r"^Begin: (?:Loading|Running|Mounting|Waiting|Will|Retrying) "),
        step(Userspace, Programs, r"^Starting (?:version [0-9]|systemd-udevd version )"),
        step(Userspace, Programs, r"^\[ {1,2}(?:OK|ok) {1,2}\] "),
        step(Userspace, Programs, r"^\* .* \[ ok \]"),
        step(Userspace, Programs, r"^OpenRC [0-9]"),
        step(Userspace, Programs, r"^INIT: version "),
        step(Userspace, Programs, r"^<<< NixOS Stage [12] >>>"),
        step(Userspace, Programs, r"^Welcome to [^!]*[ 0-9][^!]*!$"),
        step(
            Userspace,
            Programs,
            r"^(?:starting pid [0-9]+, tty|Please press Enter to activate this console)",
        ),
        Step {
            rung: Login,
            begins: false,
            writer: Programs,
            unfinished: true,
            // Further text is the echo of a name, or of an automatic login. `Last login: …` is put aside in `judge`.
            regex: r"^(?:[A-Za-z0-9][A-Za-z0-9._-]* )?login:(?: |$)",
        },
    ]
};

/// What the kernel prints before it goes down; only then is another `Linux version` another boot and not an old log.
pub(crate) const GOING_DOWN: &str = r"^(?:reboot: |kexec(?:_core)?: Starting new kernel|Restarting system|sysrq: Resetting|Rebooting in [0-9]+ seconds)";

/// Where the machine is.
#[derive(Default)]
pub(crate) struct Ladder {
    rung: Option<Rung>,
    boot: u32,
    going_down: bool,
}

impl Ladder {
    pub(crate) fn rung(&self) -> Option<Rung> {
        self.rung
    }

    pub(crate) fn boot(&self) -> u32 {
        self.boot.max(1)
    }

    pub(crate) fn going_down(&mut self) {
        self.going_down = true;
    }

    /// What comes next belongs to another boot.
    pub(crate) fn restarted(&mut self) {
        if self.rung.take().is_some() {
            self.boot = self.boot() + 1;
        }
        self.going_down = false;
    }

    /// A line shows `rung`; true if that is news.
    pub(crate) fn climb(&mut self, rung: Rung, begins: bool) -> bool {
        let again = self.rung.is_some_and(|now| {
            now >= Rung::Kernel && rung < now && (begins || (self.going_down && rung <= Rung::Kernel))
        });
        // A kernel that follows a kernel, without anything between them on this console.
        let follows = self.going_down && rung == Rung::Kernel && self.rung == Some(Rung::Kernel);
        if again || follows {
            self.restarted();
        }
        if self.rung.is_some_and(|now| now >= rung) {
            return false;
        }
        self.boot = self.boot();
        self.rung = Some(rung);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_are_climbed_and_left_by_another_boot_only() {
        let mut ladder = Ladder::default();
        assert!(ladder.climb(Rung::Firmware, true));
        assert!(!ladder.climb(Rung::Firmware, true));
        assert!(ladder.climb(Rung::Userspace, false), "what the kernel prints may go elsewhere");
        assert!(!ladder.climb(Rung::Kernel, false), "an old log");
        assert_eq!((ladder.rung(), ladder.boot()), (Some(Rung::Userspace), 1));
        assert!(ladder.climb(Rung::Firmware, true));
        assert_eq!((ladder.rung(), ladder.boot()), (Some(Rung::Firmware), 2));
        assert!(ladder.climb(Rung::Kernel, false));
        ladder.going_down();
        assert!(ladder.climb(Rung::Kernel, false), "kexec, or a firmware that is silent here");
        assert_eq!(ladder.boot(), 3);
        ladder.restarted();
        ladder.restarted();
        assert_eq!((ladder.rung(), ladder.boot()), (None, 4));
    }
}
