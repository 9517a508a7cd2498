//! What the labels of a stack say: Co-op Cloud's own, and those of its backup.
//!
//! Backups follow the specification of backup-bot-two: `backupbot.backup` on exactly one service switches them on, and then
//! every volume is in them; a volume can be left out, or limited to paths; hooks may be on any service and run inside of it.

use indexmap::IndexMap;
use serde::Serialize;

use crate::{
    compose::model::{Compose, MountSource},
    yaml::boolean,
};

const BACKUP: &str = "backupbot.backup";

/// Co-op Cloud's labels of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CoopLabels {
    /// `version`: of the recipe.
    pub version: Option<String>,
    /// `timeout`: how long a deployment may take to converge, in seconds.
    pub timeout: Option<u64>,
    /// `chaos`: whether what was deployed is no release.
    pub chaos: Option<bool>,
    /// `chaos-version`: the commit that was deployed, with `+U` where files were changed.
    pub chaos_version: Option<String>,
    /// `recipe`: its name.
    pub recipe: Option<String>,
    /// `autoupdate`: whether it may be.
    pub autoupdate: Option<bool>,
    /// What else begins as these do, by its last part; also values that are none.
    pub other: IndexMap<String, String>,
}

/// What the labels say about backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackupPlan {
    /// Services with `backupbot.backup` at true. The specification allows exactly one.
    pub switched_on: Vec<String>,
    /// Volumes of the stack that are in the backup: all of each, or only these paths below it.
    pub covered: IndexMap<String, Paths>,
    /// Volumes of the stack that are not, and why.
    pub left_out: IndexMap<String, LeftOut>,
    /// Paths inside of containers (version 1 of the labels).
    pub old_paths: Vec<OldPath>,
    /// What is run around it.
    pub hooks: Vec<Hook>,
    /// What is wrong with the labels.
    pub problems: Vec<BackupProblem>,
}

/// How much of a volume is in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Paths {
    /// All of it.
    All,
    /// These, relative to its root.
    Only(Vec<String>),
}

/// Why a volume is in no backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// No service switches backups on.
    NotSwitchedOn,
    /// A label says so.
    ByLabel,
    /// The stack's labels are of version 1, which names paths, and none of them is in it.
    NoOldPath,
}

/// A path of version 1 of the labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OldPath {
    /// The service.
    pub service: String,
    /// A path in its container.
    pub path: String,
}

/// A command that is run in a container around a backup or a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// In which service's container.
    pub service: String,
    /// When.
    pub moment: Moment,
    /// What.
    pub command: String,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// `backupbot.backup.pre-hook`.
    BeforeBackup,
    /// `backupbot.backup.post-hook`.
    AfterBackup,
    /// `backupbot.restore.pre-hook`.
    BeforeRestore,
    /// `backupbot.restore.post-hook`.
    AfterRestore,
}

/// What is wrong with a backup's labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "problem")]
pub enum BackupProblem {
    /// More than one service switches it on.
    SeveralSwitches {
        /// All of them.
        services: Vec<String>,
    },
    /// A label names a volume that the stack does not have.
    NoSuchVolume {
        /// The service with the label.
        service: String,
        /// The volume.
        volume: String,
    },
    /// A label is unknown, or its value cannot be read.
    Unreadable {
        /// The service with the label.
        service: String,
        /// The label.
        label: String,
        /// Its value.
        value: String,
    },
    /// Hooks are there, and nothing switches backups on.
    HooksWithoutSwitch {
        /// The services with hooks.
        services: Vec<String>,
    },
}

impl CoopLabels {
    /// Reads them from the service called `app`.
    pub fn read(compose: &Compose, stack: &str) -> Self {
        let mut read = Self::default();
        let Some(app) = compose.services.get("app") else { return read };
        let prefix = format!("coop-cloud.{stack}.");
        for (label, value) in &app.deploy.labels {
            let Some(name) = label.strip_prefix(&prefix) else { continue };
            let (said, truth) = (Some(value.clone()), boolean(value));
            match name {
                "version" => read.version = said,
                "chaos-version" => read.chaos_version = said,
                "recipe" => read.recipe = said,
                "timeout" if value.parse::<u64>().is_ok() => read.timeout = value.parse().ok(),
                "chaos" if truth.is_some() => read.chaos = truth,
                "autoupdate" if truth.is_some() => read.autoupdate = truth,
                _ => {
                    read.other.insert(name.to_owned(), value.clone());
                }
            }
        }
        read
    }
}

impl BackupPlan {
    /// Reads it from the labels of all services.
    pub fn read(compose: &Compose) -> Self {
        let mut plan = Self::default();
        let mut limits: IndexMap<String, Paths> = IndexMap::new();
        let mut excluded: Vec<String> = Vec::new();
        for (service, written) in &compose.services {
            for (label, value) in &written.deploy.labels {
                let Some(rest) = label.strip_prefix("backupbot.") else { continue };
                plan.label(compose, service, rest, value, &mut limits, &mut excluded);
            }
        }
        plan.volumes(compose, &limits, &excluded);
        if plan.switched_on.len() > 1 {
            plan.problems.push(BackupProblem::SeveralSwitches { services: plan.switched_on.clone() });
        }
        if plan.switched_on.is_empty() && !plan.hooks.is_empty() && !switched_off(compose) {
            let mut services: Vec<String> = plan.hooks.iter().map(|hook| hook.service.clone()).collect();
            services.dedup();
            plan.problems.push(BackupProblem::HooksWithoutSwitch { services });
        }
        plan
    }

    /// Whether backups are switched on.
    pub fn is_on(&self) -> bool {
        !self.switched_on.is_empty()
    }

    fn label(
        &mut self,
        compose: &Compose,
        service: &str,
        rest: &str,
        value: &str,
        limits: &mut IndexMap<String, Paths>,
        excluded: &mut Vec<String>,
    ) {
        let unreadable = || BackupProblem::Unreadable {
            service: service.to_owned(),
            label: format!("backupbot.{rest}"),
            value: value.to_owned(),
        };
        let mut hook = |moment| {
            if value.trim().is_empty() {
                self.problems.push(unreadable());
                return;
            }
            self.hooks.push(Hook { service: service.to_owned(), moment, command: value.to_owned() });
        };
        match rest {
            "backup" => match boolean(value) {
                Some(true) => self.switched_on.push(service.to_owned()),
                Some(false) => {}
                None => self.problems.push(unreadable()),
            },
            "backup.pre-hook" => hook(Moment::BeforeBackup),
            "backup.post-hook" => hook(Moment::AfterBackup),
            "restore.pre-hook" => hook(Moment::BeforeRestore),
            "restore.post-hook" | "restore" => match (rest, boolean(value)) {
                // Version 1 switched a restore on with it.
                ("restore", Some(_)) => {}
                ("restore", None) => self.problems.push(unreadable()),
                _ => hook(Moment::AfterRestore),
            },
            "backup.path" => {
                for path in list(value) {
                    self.old_paths.push(OldPath { service: service.to_owned(), path });
                }
            }
            _ => match rest.strip_prefix("backup.volumes.") {
                Some(of_volume) => {
                    let (volume, path) = match of_volume.strip_suffix(".path") {
                        Some(volume) => (volume, true),
                        None => (of_volume, false),
                    };
                    if !compose.volumes.contains_key(volume) {
                        let (service, volume) = (service.to_owned(), volume.to_owned());
                        self.problems.push(BackupProblem::NoSuchVolume { service, volume });
                        return;
                    }
                    match (path, boolean(value)) {
                        (true, _) => {
                            limits.insert(volume.to_owned(), Paths::Only(list(value)));
                        }
                        (false, Some(false)) => excluded.push(volume.to_owned()),
                        (false, Some(true)) => {}
                        (false, None) => self.problems.push(unreadable()),
                    }
                }
                None => self.problems.push(unreadable()),
            },
        }
    }

    fn volumes(&mut self, compose: &Compose, limits: &IndexMap<String, Paths>, excluded: &[String]) {
        for volume in compose.volumes.keys() {
            let mounted = compose
                .services
                .values()
                .flat_map(|service| &service.mounts)
                .any(|mount| matches!(&mount.source, MountSource::Volume { name, .. } if name == volume));
            // What no service mounts is never made.
            if !mounted {
                continue;
            }
            if self.switched_on.is_empty() {
                self.left_out.insert(volume.clone(), LeftOut::NotSwitchedOn);
            } else if excluded.contains(volume) {
                self.left_out.insert(volume.clone(), LeftOut::ByLabel);
            } else if self.old_paths.is_empty() {
                self.covered.insert(volume.clone(), limits.get(volume).cloned().unwrap_or(Paths::All));
            } else {
                match self.by_old_paths(compose, volume) {
                    Some(paths) => {
                        self.covered.insert(volume.clone(), paths);
                    }
                    None => {
                        self.left_out.insert(volume.clone(), LeftOut::NoOldPath);
                    }
                }
            }
        }
    }

    /// What of a volume the paths of version 1 reach, through the places where their services mount it.
    fn by_old_paths(&self, compose: &Compose, volume: &str) -> Option<Paths> {
        let mut only = Vec::new();
        for OldPath { service, path } in &self.old_paths {
            let mounts = compose.services.get(service).into_iter().flat_map(|service| &service.mounts);
            for mount in mounts {
                if !matches!(&mount.source, MountSource::Volume { name, .. } if name == volume) {
                    continue;
                }
                let (path, target) = (path.trim_end_matches('/'), mount.target.trim_end_matches('/'));
                if path == target || target.starts_with(&format!("{path}/")) {
                    return Some(Paths::All);
                }
                only.extend(path.strip_prefix(&format!("{target}/")).map(str::to_owned));
            }
        }
        (!only.is_empty()).then_some(Paths::Only(only))
    }
}

/// Whether a service says that it wants no backup; then hooks without one are no mistake.
fn switched_off(compose: &Compose) -> bool {
    let off = |value: &String| boolean(value) == Some(false);
    compose.services.values().any(|service| service.deploy.labels.get(BACKUP).is_some_and(off))
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
#[path = "labels_tests.rs"]
mod tests;
