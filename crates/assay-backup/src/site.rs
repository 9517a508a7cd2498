//! Where a stack's data lies on this machine, and what of it the labels cover.
//!
//! Volumes of the local driver are folders below the daemon's; that is where backup-bot-two reads them, too. What lies elsewhere (a
//! volume of another driver, one with options that mount something) is not seen from here, and said not to be.

use std::path::{Path, PathBuf};

use assay_recipe::{
    compose::model::{Compose, MountSource},
    labels::{BackupPlan, LeftOut, Moment, Paths},
};
use assay_swarm::{Daemon, Swarm};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::folder;

/// A deployed stack, and where its volumes are.
#[derive(Clone, Debug)]
pub struct Site<'a> {
    /// The swarm that it runs in.
    pub swarm: &'a Swarm,
    /// Its name there.
    pub stack: &'a str,
    /// What it was deployed from.
    pub compose: &'a Compose,
    /// What its labels say of backup.
    pub plan: &'a BackupPlan,
    /// The daemon's folder of volumes: each is `NAME/_data` in it.
    pub volumes: PathBuf,
    /// A folder of the same file system, in which a restore is laid out before it is moved into place. It is made and removed.
    pub staging: PathBuf,
}

/// A volume, or a part of one, that is in no backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UncoveredVolume {
    /// Its name in the files; for an anonymous one, where it is mounted: `app:/cache`.
    pub volume: String,
    /// The path that a label names, if it is that path alone.
    pub path: Option<String>,
    /// Why.
    pub reason: NotCovered,
}

/// Why something is in no backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotCovered {
    /// No service switches backups on.
    NotSwitchedOn,
    /// A label leaves it out.
    ByLabel,
    /// The labels are of version 1, and none of their paths is in it.
    NoOldPath,
    /// It has no name that a label could give, and is gone with its container.
    Anonymous,
    /// Its driver, or what its options mount, is not a folder of this machine.
    OtherDriver,
    /// The label's path leads out of the volume, or names nothing.
    BadPath,
    /// Its name is none that Docker takes.
    BadName,
}

/// A volume that the labels cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    /// Its name in the files.
    pub volume: String,
    /// Where it is on this machine.
    pub root: PathBuf,
    /// What of it, relative to its root; the empty path is all of it.
    pub paths: Vec<String>,
}

impl<'a> Site<'a> {
    /// A stack in a daemon of a run's own.
    pub fn of(daemon: &'a Daemon, stack: &'a str, compose: &'a Compose, plan: &'a BackupPlan) -> Self {
        let data = daemon.folder().join("data");
        let staging = data.join("assay-restored");
        Self { swarm: daemon.swarm(), stack, compose, plan, volumes: data.join("volumes"), staging }
    }

    /// A stack in a daemon that others use, too, whose folder is `data`.
    pub fn shared(
        swarm: &'a Swarm,
        data: &Path,
        stack: &'a str,
        compose: &'a Compose,
        plan: &'a BackupPlan,
    ) -> Self {
        Self {
            swarm,
            stack,
            compose,
            plan,
            volumes: data.join("volumes"),
            staging: Self::staging_in(data, stack),
        }
    }

    /// The staging folder of a stack in a daemon that others use: whoever takes away what is left of a run looks there.
    pub fn staging_in(data: &Path, stack: &str) -> PathBuf {
        data.join(format!("assay-restored-{stack}"))
    }

    /// The full name of a service.
    pub fn service(&self, name: &str) -> String {
        format!("{}_{name}", self.stack)
    }

    /// What is in no backup, and why: volumes, parts of them, and volumes without a name.
    pub fn uncovered(&self) -> Vec<UncoveredVolume> {
        let mut uncovered = Vec::new();
        for (volume, why) in &self.plan.left_out {
            let reason = match why {
                LeftOut::NotSwitchedOn => NotCovered::NotSwitchedOn,
                LeftOut::ByLabel => NotCovered::ByLabel,
                LeftOut::NoOldPath => NotCovered::NoOldPath,
            };
            uncovered.push(UncoveredVolume { volume: volume.clone(), path: None, reason });
        }
        for (volume, paths) in &self.plan.covered {
            if let Err(reason) = self.root_of(volume) {
                uncovered.push(UncoveredVolume { volume: volume.clone(), path: None, reason });
            } else if let Paths::Only(written) = paths {
                let bad = written.iter().filter(|path| folder::below(path).is_none());
                uncovered.extend(bad.map(|path| UncoveredVolume {
                    volume: volume.clone(),
                    path: Some(path.clone()),
                    reason: NotCovered::BadPath,
                }));
            }
        }
        for (name, service) in &self.compose.services {
            let anonymous = service.mounts.iter().filter(|mount| mount.source == MountSource::Anonymous);
            uncovered.extend(anonymous.map(|mount| UncoveredVolume {
                volume: format!("{name}:{}", mount.target),
                path: None,
                reason: NotCovered::Anonymous,
            }));
        }
        uncovered
    }

    /// What is in the backup.
    pub(crate) fn covered(&self) -> Vec<Covered> {
        let mut all = Vec::new();
        for (volume, paths) in &self.plan.covered {
            let Ok(root) = self.root_of(volume) else { continue };
            let paths = match paths {
                Paths::All => vec![String::new()],
                Paths::Only(written) => outermost(written.iter().filter_map(|path| folder::below(path))),
            };
            if !paths.is_empty() {
                all.push(Covered { volume: volume.clone(), root, paths });
            }
        }
        all
    }

    /// Services that mount a volume, and where.
    pub(crate) fn mounted_by<'b>(&'b self, volume: &'b str) -> impl Iterator<Item = (&'b str, &'b str)> + 'b {
        self.compose.services.iter().flat_map(move |(name, service)| {
            let of_volume = service.mounts.iter().filter(
                move |mount| matches!(&mount.source, MountSource::Volume { name, .. } if name == volume),
            );
            of_volume.map(move |mount| (name.as_str(), mount.target.as_str()))
        })
    }

    /// Whether a service has a hook of one of these moments.
    pub(crate) fn has_hook(&self, service: &str, moments: &[Moment]) -> bool {
        self.plan.hooks.iter().any(|hook| hook.service == service && moments.contains(&hook.moment))
    }

    /// Whether the labels have anything of a service backed up.
    pub(crate) fn promises(&self, service: &str) -> bool {
        let mounts = |covered: &Covered| self.mounted_by(&covered.volume).any(|(user, _)| user == service);
        self.has_hook(service, &[Moment::BeforeBackup]) || self.covered().iter().any(mounts)
    }

    /// Where a volume is on this machine, whether or not it is there yet.
    pub(crate) fn root_of(&self, volume: &str) -> Result<PathBuf, NotCovered> {
        let Some(written) = self.compose.volumes.get(volume) else { return Err(NotCovered::BadName) };
        let local = written.driver.as_deref().is_none_or(|driver| driver == "local");
        if !local || !written.driver_opts.is_empty() {
            return Err(NotCovered::OtherDriver);
        }
        let name = match (&written.name, written.external) {
            (Some(name), _) => name.clone(),
            (None, true) => volume.to_owned(),
            (None, false) => format!("{}_{volume}", self.stack),
        };
        if !is_name(&name) || !is_name(volume) {
            return Err(NotCovered::BadName);
        }
        Ok(self.volumes.join(name).join("_data"))
    }
}

/// Paths without those that lie in others of them: what is in a backup twice would be restored twice.
fn outermost(paths: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = paths.collect();
    all.sort();
    all.dedup();
    let within = |path: &str, outer: &String| Path::new(path).starts_with(outer) && path != outer;
    all.iter().filter(|path| !all.iter().any(|outer| within(path, outer))).cloned().collect()
}

/// Whether Docker takes it as a volume's name; then it is no path either.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && name.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::{is_name, outermost};

    #[test]
    fn a_path_within_another_is_in_the_backup_once() {
        let paths = ["b", "a/c", "a", "ab", "b"].map(str::to_owned);
        assert_eq!(outermost(paths.into_iter()), ["a", "ab", "b"]);
    }

    #[test]
    fn a_name_that_is_a_path_is_none() {
        assert!(is_name("shop_db-data.1"));
        assert!(!is_name("../etc") && !is_name("a/b") && !is_name(".hidden") && !is_name(""));
    }
}
