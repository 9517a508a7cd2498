//! `--check`: does the built image drive the hardware of `hardware.toml`? It looks at the shipped file itself, the
//! way the machine will: PCI id → `modules.alias` → module → the firmware that the module asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use walkdir::WalkDir;

use super::Paths;
use super::command::{output, tool};
use super::manifest::Manifest;
use super::modules::{Modules, name_of};
use super::{cpio, glob};

/// `hardware.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hardware {
    format: u32,
    #[serde(rename = "device")]
    devices: Vec<Device>,
    #[serde(default, rename = "processor")]
    processors: Vec<Processor>,
    #[serde(default)]
    firmware_exception: Vec<FirmwareException>,
}

/// A device that the image must drive.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Device {
    name: String,
    /// `vendor:device`, hexadecimal.
    id: String,
    /// `vendor:device` of the subsystem, where the driver's alias names it.
    subsystem: Option<String>,
    /// PCI class, subclass and interface, six hexadecimal digits.
    class: String,
    module: String,
}

/// A processor that the image must have sensors or a memory controller driver for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Processor {
    name: String,
    /// As in `/sys/devices/system/cpu/modalias`, features cut to those that matter.
    modalias: String,
    module: String,
}

/// Firmware that a module names and does without.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirmwareException {
    module: String,
    /// A pattern.
    file: String,
    reason: String,
}

/// What the image has.
struct Facts {
    /// (pattern, module)
    aliases: Vec<(String, String)>,
    /// Module → firmware that it names.
    modules: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
    firmware: BTreeSet<String>,
}

/// Checks the built image against `hardware.toml`.
pub(crate) fn check_image(paths: &Paths) -> Result<()> {
    let path = paths.source.join("hardware.toml");
    let hardware: Hardware = toml::from_str(&fs::read_to_string(&path)?)
        .with_context(|| format!("{} is not right", path.display()))?;
    let facts = Facts::of_image(paths)?;
    let problems = problems(&hardware, &facts);
    if problems.is_empty() {
        println!(
            "{} devices and {} processors: each has its driver and its firmware in the image",
            hardware.devices.len(),
            hardware.processors.len()
        );
        return Ok(());
    }
    bail!("{} problems:\n  {}", problems.len(), problems.join("\n  "))
}

impl Facts {
    /// Reads them out of the squashfs inside `base.initrd`.
    fn of_image(paths: &Paths) -> Result<Self> {
        let manifest = Manifest::load(&paths.out)?;
        let initrd = paths.out.join("base.initrd");
        let members = cpio::list(&initrd)?;
        let squashfs = members
            .iter()
            .find(|member| member.name == "root.squashfs")
            .with_context(|| format!("{} holds no root.squashfs", initrd.display()))?;
        let folder = paths.work.join("check");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&paths.work)?;
        output(
            tool("unsquashfs")
                .args([
                    "-quiet",
                    "-no-progress",
                    "-no-xattrs",
                    "-offset",
                    &squashfs.offset.to_string(),
                    "-dest",
                ])
                .arg(&folder)
                .arg(&initrd)
                .args(["usr/lib/modules", "usr/lib/firmware"]),
        )?;
        let facts = Self::of_folder(
            &folder.join("usr/lib/modules").join(&manifest.kernel),
            &folder.join("usr/lib/firmware"),
        );
        fs::remove_dir_all(&folder)?;
        facts
    }

    fn of_folder(modules: &Path, firmware: &Path) -> Result<Self> {
        let index = |name: &str| {
            fs::read_to_string(modules.join(name)).with_context(|| format!("the image has no {name}"))
        };
        let aliases = index("modules.alias")?
            .lines()
            .filter_map(|line| {
                let (pattern, module) = line.strip_prefix("alias ")?.rsplit_once(' ')?;
                Some((pattern.to_owned(), module.to_owned()))
            })
            .collect();
        let builtin = index("modules.builtin")?.lines().map(name_of).collect();
        let mut present = BTreeSet::new();
        for found in WalkDir::new(firmware) {
            let found = found.context("the image has no firmware")?;
            // Follows links: one that points to nothing is not firmware.
            if found.path().is_file() {
                present.insert(found.path().strip_prefix(firmware)?.to_string_lossy().into_owned());
            }
        }
        Ok(Self { aliases, modules: Modules::read(modules)?.firmware_by_name(), builtin, firmware: present })
    }
}

/// Everything that is wrong, in words; empty when nothing is.
fn problems(hardware: &Hardware, facts: &Facts) -> Vec<String> {
    let mut problems = Vec::new();
    if hardware.format != 1 {
        problems.push(format!("hardware.toml: format {} is unknown here", hardware.format));
    }
    if hardware.devices.is_empty() {
        problems.push("hardware.toml lists no devices: there is nothing to check".to_owned());
    }
    let mut excused = vec![false; hardware.firmware_exception.len()];
    for device in &hardware.devices {
        let about = format!("{} ({})", device.name, device.id);
        match device.modalias() {
            Some(modalias) => {
                let part = Part { about, modalias, module: &device.module };
                problems.extend(part.problems(hardware, facts, &mut excused));
            }
            None => problems
                .push(format!("{about}: id, subsystem and class must be hexadecimal, vvvv:dddd and ccsspp")),
        }
    }
    for processor in &hardware.processors {
        let part = Part {
            about: processor.name.clone(),
            modalias: processor.modalias.clone(),
            module: &processor.module,
        };
        problems.extend(part.problems(hardware, facts, &mut excused));
    }
    for (exception, used) in hardware.firmware_exception.iter().zip(excused) {
        if !used || exception.reason.trim().is_empty() {
            let FirmwareException { module, file, .. } = exception;
            problems.push(format!("hardware.toml: the exception for {module} {file} excuses nothing or gives no reason; remove or complete it"));
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

/// A device or processor, as far as the kernel's lookup is concerned.
struct Part<'a> {
    about: String,
    modalias: String,
    module: &'a str,
}

impl Part<'_> {
    /// Follows the chain from alias to firmware; marks the exceptions that it needed.
    fn problems(&self, hardware: &Hardware, facts: &Facts, excused: &mut [bool]) -> Vec<String> {
        let Self { about, modalias, module } = self;
        let drivers: BTreeSet<&str> = facts
            .aliases
            .iter()
            .filter(|(pattern, _)| glob::matches(pattern, modalias))
            .map(|(_, module)| module.as_str())
            .collect();
        if !drivers.contains(module) {
            return vec![format!("{about}: {modalias} does not lead to {module} but to {drivers:?}")];
        }
        let Some(wanted) = facts.modules.get(*module) else {
            if facts.builtin.contains(*module) {
                return Vec::new();
            }
            return vec![format!("{about}: module {module} is named by an alias but is not in the image")];
        };
        let mut problems = Vec::new();
        for file in wanted.iter().filter(|file| !facts.firmware.contains(*file)) {
            let excuse = hardware
                .firmware_exception
                .iter()
                .position(|exception| exception.module == *module && glob::matches(&exception.file, file));
            match excuse {
                Some(index) => excused[index] = true,
                None => problems.push(format!(
                    "{about}: module {module} asks for firmware {file}, which is not in the image"
                )),
            }
        }
        problems
    }
}

impl Device {
    /// As the kernel would spell it.
    fn modalias(&self) -> Option<String> {
        let (vendor, device) = pair(&self.id)?;
        let (subvendor, subdevice) = match &self.subsystem {
            Some(subsystem) => pair(subsystem)?,
            None => (0, 0),
        };
        let class = u32::from_str_radix(&self.class, 16).ok().filter(|_| self.class.len() == 6)?;
        let (base, sub, interface) = (class >> 16, class >> 8 & 0xff, class & 0xff);
        Some(format!(
            "pci:v{vendor:08X}d{device:08X}sv{subvendor:08X}sd{subdevice:08X}bc{base:02X}sc{sub:02X}i{interface:02X}"
        ))
    }
}

fn pair(text: &str) -> Option<(u32, u32)> {
    let (vendor, device) = text.split_once(':')?;
    if vendor.len() != 4 || device.len() != 4 {
        return None;
    }
    Some((u32::from_str_radix(vendor, 16).ok()?, u32::from_str_radix(device, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::module as elf_module;
    use super::*;

    const DECLARED: &str = r#"
        format = 1
        [[device]]
        name = "BCM5720"
        id = "14e4:165f"
        class = "020000"
        module = "tg3"
        [[device]]
        name = "any NVMe"
        id = "144d:a808"
        class = "010802"
        module = "nvme"
        [[device]]
        name = "AHCI"
        id = "8086:a182"
        class = "010601"
        module = "ahci"
        [[firmware_exception]]
        module = "tg3"
        file = "tigon/tg35*.bin"
        reason = "only for cards that cannot be bought any more"
        [[processor]]
        name = "EPYC"
        modalias = "cpu:type:x86,ven0002fam0019mod0011:feature:,"
        module = "amd64_edac"
    "#;

    fn image(folder: &Path) {
        let modules = folder.join("modules");
        fs::create_dir_all(modules.join("kernel")).unwrap();
        fs::create_dir_all(folder.join("firmware/tigon")).unwrap();
        let info = ["firmware=tigon/tg3.bin", "firmware=tigon/tg357766.bin"];
        fs::write(modules.join("kernel/tg3.ko"), elf_module(&info)).unwrap();
        fs::write(modules.join("kernel/nvme.ko"), elf_module(&["depends="])).unwrap();
        fs::write(folder.join("firmware/tigon/tg3.bin"), "fw").unwrap();
        fs::write(
            modules.join("modules.builtin"),
            "kernel/drivers/ata/ahci.ko\nkernel/drivers/edac/amd64-edac.ko\n",
        )
        .unwrap();
        fs::write(
            modules.join("modules.alias"),
            "# Aliases\nalias pci:v000014E4d0000165Fsv*sd*bc*sc*i* tg3\nalias pci:v*d*sv*sd*bc01sc08i02* nvme\nalias pci:v*d*sv*sd*bc01sc06i01* ahci\nalias cpu:type:x86,ven0002fam0019mod*:feature:* amd64_edac\n",
        )
        .unwrap();
    }

    fn check(folder: &Path, declared: &str) -> Vec<String> {
        let facts = Facts::of_folder(&folder.join("modules"), &folder.join("firmware")).unwrap();
        problems(&toml::from_str(declared).unwrap(), &facts)
    }

    #[test]
    fn an_image_with_everything_passes() {
        let folder = tempfile::tempdir().unwrap();
        image(folder.path());
        assert_eq!(check(folder.path(), DECLARED), Vec::<String>::new());
    }

    #[test]
    fn each_missing_link_of_the_chain_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let red = |spoil: &dyn Fn(), said: &str| {
            image(at);
            spoil();
            let problems = check(at, DECLARED);
            assert!(problems.iter().any(|problem| problem.contains(said)), "{problems:?}");
        };
        red(
            &|| {
                let near_misses = "alias usb:v* tg3\nalias pci:v000014E4d0000165Esv*sd*bc*sc*i* tg3\n\
                    alias pci:v*d*sv*sd*bc01sc08i02* nvme\nalias pci:v*d*sv*sd*bc01sc06i01* ahci\n";
                fs::write(at.join("modules/modules.alias"), near_misses).unwrap();
            },
            "BCM5720 (14e4:165f)",
        );
        red(
            &|| fs::remove_file(at.join("modules/kernel/nvme.ko")).unwrap(),
            "any NVMe (144d:a808): module nvme is named",
        );
        red(&|| fs::write(at.join("modules/modules.builtin"), "").unwrap(), "AHCI");
        red(
            &|| fs::remove_file(at.join("firmware/tigon/tg3.bin")).unwrap(),
            "asks for firmware tigon/tg3.bin",
        );
        red(&|| fs::write(at.join("firmware/tigon/tg357766.bin"), "").unwrap(), "excuses nothing");
    }

    #[test]
    fn a_dangling_link_is_not_firmware() {
        let folder = tempfile::tempdir().unwrap();
        image(folder.path());
        let file = folder.path().join("firmware/tigon/tg3.bin");
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("gone.bin", &file).unwrap();
        assert!(check(folder.path(), DECLARED)[0].contains("tigon/tg3.bin"));
    }

    #[test]
    fn a_list_that_checks_nothing_or_cannot_be_read_is_red() {
        let folder = tempfile::tempdir().unwrap();
        image(folder.path());
        assert!(check(folder.path(), "format = 1\ndevice = []")[0].contains("nothing to check"));
        assert!(
            check(folder.path(), &DECLARED.replace("14e4:165f", "14e4-165f"))
                .iter()
                .any(|p| p.contains("hexadecimal"))
        );
        assert!(check(folder.path(), &DECLARED.replace("format = 1", "format = 2"))[0].contains("format 2"));
        assert!(toml::from_str::<Hardware>(&DECLARED.replace("class =", "clas =")).is_err());
    }

    #[test]
    fn the_committed_list_is_long_and_well_formed() {
        let hardware: Hardware = toml::from_str(include_str!("../../../live-image/hardware.toml")).unwrap();
        assert!(hardware.devices.len() >= 40);
        for device in &hardware.devices {
            assert!(device.modalias().is_some(), "{device:?}");
        }
    }
}
