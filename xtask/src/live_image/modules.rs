//! Chooses the kernel modules and the firmware that travel. Every kept module brings what it depends on and the
//! firmware it names, and nothing else does: that is what keeps 400 MiB of drivers small enough to netboot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use walkdir::WalkDir;

use super::config::ModuleRules;
use super::elf;

/// The modules of a kernel, by name as `modprobe` knows it (with `_`).
pub(crate) struct Modules {
    by_name: BTreeMap<String, Module>,
}

/// One module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// Below `lib/modules/VERSION/`.
    pub(crate) path: String,
    /// Hard dependencies, then soft ones.
    pub(crate) depends: Vec<String>,
    pub(crate) soft_depends: Vec<String>,
    pub(crate) firmware: Vec<String>,
}

impl Modules {
    /// Reads every module below `lib/modules/VERSION`.
    pub(crate) fn read(version_folder: &Path) -> Result<Self> {
        let mut by_name = BTreeMap::new();
        for found in WalkDir::new(version_folder.join("kernel")).sort_by_file_name() {
            let found = found.context("the kernel package has no modules")?;
            if found.path().extension().is_none_or(|extension| extension != "ko") {
                continue;
            }
            let path = found.path().strip_prefix(version_folder)?.to_string_lossy().into_owned();
            let info =
                elf::modinfo(&fs::read(found.path())?).with_context(|| format!("{path} cannot be read"))?;
            by_name.insert(name_of(&path), Module::from_info(path, &info));
        }
        if by_name.is_empty() {
            bail!("{} has no modules; are they compressed in this kernel?", version_folder.display());
        }
        Ok(Self { by_name })
    }

    /// What firmware each module names.
    pub(crate) fn firmware_by_name(self) -> BTreeMap<String, Vec<String>> {
        self.by_name.into_iter().map(|(name, module)| (name, module.firmware)).collect()
    }

    /// The modules that the rules keep, with all they depend on.
    pub(crate) fn select(&self, rules: &ModuleRules) -> Result<Vec<&Module>> {
        self.every_rule_counts(rules)?;
        let mut wanted: Vec<&str> = self
            .by_name
            .iter()
            .filter(|(_, module)| kept(rules, &module.path))
            .map(|(name, _)| name.as_str())
            .collect();
        wanted.extend(rules.initrd.iter().map(String::as_str));
        let mut selected = BTreeSet::new();
        while let Some(name) = wanted.pop() {
            // A name without a module is built into the kernel.
            if let Some(module) = self.by_name.get(name)
                && selected.insert(name)
            {
                wanted.extend(module.depends.iter().chain(&module.soft_depends).map(String::as_str));
            }
        }
        Ok(selected.iter().map(|name| &self.by_name[*name]).collect())
    }

    /// The named modules and what they need, in the order in which they load.
    pub(crate) fn load_order(&self, names: &[String]) -> Vec<&Module> {
        let mut order = Vec::new();
        for name in names {
            self.push_with_dependencies(name, &mut order);
        }
        order
    }

    fn push_with_dependencies<'a>(&'a self, name: &str, order: &mut Vec<&'a Module>) {
        let Some(module) = self.by_name.get(name) else {
            return;
        };
        if order.iter().any(|loaded| loaded.path == module.path) {
            return;
        }
        for dependency in &module.depends {
            self.push_with_dependencies(dependency, order);
        }
        order.push(module);
    }

    /// A rule that matches nothing is a typing mistake, or a driver that moved: either would change the image silently.
    fn every_rule_counts(&self, rules: &ModuleRules) -> Result<()> {
        let idle: Vec<&str> = rules
            .keep
            .iter()
            .chain(&rules.drop)
            .filter(|rule| !self.by_name.values().any(|module| below(rule, &module.path)))
            .map(String::as_str)
            .collect();
        if !idle.is_empty() {
            bail!(
                "image.toml: this kernel has no module below these; correct or remove the rules: {}",
                idle.join(", ")
            );
        }
        Ok(())
    }
}

impl Module {
    pub(crate) fn from_info(path: String, info: &[(String, String)]) -> Self {
        let mut module = Self { path, depends: Vec::new(), soft_depends: Vec::new(), firmware: Vec::new() };
        for (key, value) in info {
            match key.as_str() {
                "depends" => {
                    module.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(underscored));
                }
                "softdep" => {
                    let names = value.split_whitespace().filter(|word| !word.ends_with(':'));
                    module.soft_depends.extend(names.map(underscored));
                }
                "firmware" => module.firmware.push(value.clone()),
                _ => {}
            }
        }
        module
    }
}

/// Copies the firmware that these modules name; returns what they name and no package has, as (module, file).
pub(crate) fn copy_firmware(
    modules: &[&Module],
    also: &[String],
    from: &[PathBuf],
    to: &Path,
) -> Result<Vec<(String, String)>> {
    let mut absent = Vec::new();
    for module in modules {
        for name in &module.firmware {
            if !copy_one(name, from, to)? {
                absent.push((name_of(&module.path), name.clone()));
            }
        }
    }
    for name in also {
        if !copy_one(name, from, to)? {
            bail!("image.toml: no locked package has the firmware {name}");
        }
    }
    Ok(absent)
}

/// Copies a firmware file, and where it is a link, what it points to.
fn copy_one(name: &str, from: &[PathBuf], to: &Path) -> Result<bool> {
    if name.split('/').any(|part| part == "..") {
        bail!("{name} is not a firmware name");
    }
    for folder in from {
        let source = folder.join(name);
        let Ok(kind) = fs::symlink_metadata(&source) else {
            continue;
        };
        let target = to.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        if fs::symlink_metadata(&target).is_ok() {
            return Ok(true);
        }
        if kind.is_symlink() {
            // Resolved by hand: the link may lead into another package's folder.
            let pointed =
                normalized(&Path::new(name).parent().unwrap_or(Path::new("")).join(fs::read_link(&source)?))?;
            if !copy_one(&pointed, from, to)? {
                return Ok(false);
            }
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
        } else {
            continue;
        }
        return Ok(true);
    }
    Ok(false)
}

fn normalized(path: &Path) -> Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.to_str().context("a firmware link that is not UTF-8")?.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().context("a firmware link leads out of the firmware folder")?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The name by which the kernel knows the module of a file.
pub(crate) fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    underscored(file.split(".ko").next().unwrap_or(file))
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

/// The longest matching prefix decides; without one, the module goes.
fn kept(rules: &ModuleRules, path: &str) -> bool {
    let longest = |list: &[String]| list.iter().filter(|rule| below(rule, path)).map(String::len).max();
    longest(&rules.keep) > longest(&rules.drop)
}

fn below(rule: &str, path: &str) -> bool {
    path.strip_prefix(rule).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::module as elf_module;
    use super::*;

    fn rules(keep: &[&str], drop: &[&str]) -> ModuleRules {
        let own = |list: &[&str]| list.iter().map(|rule| (*rule).to_owned()).collect();
        ModuleRules { keep: own(keep), drop: own(drop), initrd: vec!["loop".into()] }
    }

    fn kernel(folder: &Path) -> Modules {
        for (path, info) in [
            ("kernel/drivers/block/loop.ko", &["depends="][..]),
            (
                "kernel/drivers/net/tg3.ko",
                &["depends=ptp,libphy", "firmware=tigon/tg3.bin", "firmware=tigon/new.bin"],
            ),
            ("kernel/drivers/net/phy/libphy.ko", &["depends="]),
            ("kernel/drivers/ptp/ptp.ko", &["depends=pps-core"]),
            ("kernel/drivers/ptp/pps_core.ko", &[]),
            ("kernel/fs/btrfs/btrfs.ko", &["softdep=pre: crc32c-x post: sums"]),
            ("kernel/lib/crc32c-x.ko", &[]),
            ("kernel/sound/snd.ko", &["depends=soundcore", "firmware=snd.fw"]),
            ("kernel/sound/soundcore.ko", &[]),
        ] {
            let file = folder.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, elf_module(info)).unwrap();
        }
        Modules::read(folder).unwrap()
    }

    #[test]
    fn dependencies_come_along_even_from_dropped_folders() {
        let folder = tempfile::tempdir().unwrap();
        let modules = kernel(folder.path());
        let chosen = |keep: &[&str], drop: &[&str]| -> Vec<String> {
            modules.select(&rules(keep, drop)).unwrap().iter().map(|module| name_of(&module.path)).collect()
        };
        assert_eq!(
            chosen(&["kernel/drivers/net"], &["kernel/drivers/ptp"]),
            ["libphy", "loop", "pps_core", "ptp", "tg3"]
        );
        assert_eq!(chosen(&["kernel/fs/btrfs"], &[]), ["btrfs", "crc32c_x", "loop"]);
        assert_eq!(
            chosen(
                &["kernel", "kernel/sound/soundcore.ko"],
                &["kernel/sound", "kernel/fs", "kernel/drivers", "kernel/lib"]
            ),
            ["loop", "soundcore"]
        );
    }

    #[test]
    fn a_rule_that_matches_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = kernel(folder.path())
            .select(&rules(&["kernel"], &["kernel/drivers/ne"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("kernel/drivers/ne"), "{error}");
    }

    #[test]
    fn the_load_order_puts_dependencies_first_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let modules = kernel(folder.path());
        let order: Vec<String> =
            modules.load_order(&["tg3".into(), "ptp".into()]).iter().map(|m| name_of(&m.path)).collect();
        assert_eq!(order, ["pps_core", "ptp", "libphy", "tg3"]);
    }

    #[test]
    fn firmware_follows_the_module_through_links_and_what_is_absent_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let modules = kernel(folder.path());
        let selected = modules.select(&rules(&["kernel/drivers/net"], &[])).unwrap();
        let (one, two, to) = (folder.path().join("one"), folder.path().join("two"), folder.path().join("to"));
        for dir in [&one, &two] {
            fs::create_dir_all(dir.join("tigon")).unwrap();
        }
        fs::write(two.join("tg3-1.2.bin"), "fw").unwrap();
        fs::write(two.join("snd.fw"), "loud").unwrap();
        std::os::unix::fs::symlink("../tg3-1.2.bin", one.join("tigon/tg3.bin")).unwrap();
        let absent = copy_firmware(&selected, &[], &[one.clone(), two.clone()], &to).unwrap();
        assert_eq!(absent, [("tg3".to_owned(), "tigon/new.bin".to_owned())]);
        assert_eq!(fs::read_to_string(to.join("tigon/tg3.bin")).unwrap(), "fw");
        assert!(!to.join("snd.fw").exists());
        let error = copy_firmware(&selected, &["none.bin".into()], &[one, two], &to).unwrap_err().to_string();
        assert!(error.contains("none.bin"), "{error}");
    }
}
