//! A002 and on: what a deployment, an upgrade or a backup would stumble over.

use std::collections::BTreeSet;

use super::{
    Checked,
    coop::services,
    facts::{Facts, longest_stack},
};
use crate::{
    compose::{
        self, Loaded,
        model::{Mode, MountSource, Service},
    },
    labels::{BackupPlan, BackupProblem, CoopLabels},
    names::{LONGEST_OBJECT, LONGEST_SERVICE, LONGEST_STACK},
    problem::{Problem, shown},
    secrets,
    versions::Version,
};

/// Where `docker stack deploy` wants a duration.
const DURATIONS: [&[&str]; 10] = [
    &["healthcheck", "interval"],
    &["healthcheck", "timeout"],
    &["healthcheck", "start_period"],
    &["stop_grace_period"],
    &["deploy", "update_config", "delay"],
    &["deploy", "update_config", "monitor"],
    &["deploy", "rollback_config", "delay"],
    &["deploy", "rollback_config", "monitor"],
    &["deploy", "restart_policy", "delay"],
    &["deploy", "restart_policy", "window"],
];

/// A002.
pub(crate) fn undeclared(facts: &Facts<'_>) -> Checked {
    let mut found: Vec<Problem> = Vec::new();
    for view in &facts.views {
        for (name, service) in &view.loaded.compose.services {
            let mut problems = Vec::new();
            compose::undeclared(&view.loaded, &format!("services.{name}"), service, &mut problems);
            for mut problem in problems {
                // One combination that lacks it is enough to say.
                if found.iter().any(|known| known.path == problem.path) {
                    continue;
                }
                problem.message = format!("not declared in {}", view.files.join(":"));
                found.push(problem);
            }
        }
    }
    facts.found(found)
}

/// A003.
pub(crate) fn unused(facts: &Facts<'_>) -> Checked {
    let used: BTreeSet<String> = facts.views.iter().flat_map(|view| names_used(&view.loaded)).collect();
    facts.in_views(|loaded| {
        let compose = &loaded.compose;
        let declared = (compose.secrets.keys().map(|key| format!("secrets.{key}")))
            .chain(compose.configs.keys().map(|key| format!("configs.{key}")))
            .chain(compose.networks.keys().map(|key| format!("networks.{key}")))
            .chain(compose.volumes.keys().map(|key| format!("volumes.{key}")));
        let idle = declared.filter(|path| !used.contains(path) && path != "networks.default");
        idle.map(|path| loaded.problem(&path, "declared, and used by no service")).collect()
    })
}

fn names_used(loaded: &Loaded) -> Vec<String> {
    let mut used = Vec::new();
    for service in loaded.compose.services.values() {
        used.extend(service.secrets.iter().map(|used| format!("secrets.{}", used.source)));
        used.extend(service.configs.iter().map(|used| format!("configs.{}", used.source)));
        used.extend(service.networks.keys().map(|name| format!("networks.{name}")));
        for mount in &service.mounts {
            if let MountSource::Volume { name, .. } = &mount.source {
                used.push(format!("volumes.{name}"));
            }
        }
    }
    used
}

/// A004.
pub(crate) fn long_names(facts: &Facts<'_>) -> Checked {
    facts.in_views(|loaded| {
        let mut found = Vec::new();
        let mut look = |path: String, name: &str, limit: usize| {
            if name.len() > limit {
                let message = format!(
                    "its name has {} characters under a stack name of {LONGEST_STACK}, and the engine takes {limit}",
                    name.len()
                );
                found.push(loaded.problem(&path, message));
            }
        };
        let compose = &loaded.compose;
        for (section, objects) in [("secrets", &compose.secrets), ("configs", &compose.configs)] {
            for (key, object) in objects {
                let own = crate::names::of_stack(&longest_stack(), key);
                look(format!("{section}.{key}"), object.name.as_ref().unwrap_or(&own), LONGEST_OBJECT);
            }
        }
        for key in compose.services.keys() {
            let name = crate::names::of_stack(&longest_stack(), key);
            look(format!("services.{key}"), &name, LONGEST_SERVICE);
        }
        found
    })
}

/// A005.
pub(crate) fn port_clashes(facts: &Facts<'_>) -> Checked {
    facts.in_views(compose::clashes)
}

/// A006.
pub(crate) fn backup_switches(facts: &Facts<'_>) -> Checked {
    facts.in_views(|loaded| {
        of_backup(loaded, |problem| match problem {
            BackupProblem::SeveralSwitches { services } => {
                let last = services.last().cloned().unwrap_or_default();
                Some((last, format!("`backupbot.backup` is on for {}", services.join(", "))))
            }
            _ => None,
        })
    })
}

/// A007.
pub(crate) fn backup_volumes(facts: &Facts<'_>) -> Checked {
    let known: BTreeSet<&String> =
        facts.views.iter().flat_map(|view| view.loaded.compose.volumes.keys()).collect();
    facts.in_views(|loaded| {
        of_backup(loaded, |problem| match problem {
            // An overlay may bring the volume that a label of `compose.yml` is about.
            BackupProblem::NoSuchVolume { service, volume } if !known.contains(volume) => {
                let volume = shown(volume);
                Some((
                    service.clone(),
                    format!("a label is about the volume `{volume}`, which no file declares"),
                ))
            }
            _ => None,
        })
    })
}

/// A008.
pub(crate) fn backup_labels(facts: &Facts<'_>) -> Checked {
    facts.in_views(|loaded| {
        of_backup(loaded, |problem| match problem {
            BackupProblem::Unreadable { service, label, value } => {
                let message = format!("the label `{}` with `{}` means nothing", shown(label), shown(value));
                Some((service.clone(), message))
            }
            BackupProblem::HooksWithoutSwitch { services } => {
                let message = "there are hooks, and no service has `backupbot.backup`, so they never run";
                Some((services.first().cloned().unwrap_or_default(), message.to_owned()))
            }
            _ => None,
        })
    })
}

fn of_backup(loaded: &Loaded, look: impl Fn(&BackupProblem) -> Option<(String, String)>) -> Vec<Problem> {
    let plan = BackupPlan::read(&loaded.compose);
    let found = plan.problems.iter().filter_map(look);
    found
        .map(|(service, message)| loaded.problem(&format!("services.{service}.deploy.labels"), message))
        .collect()
}

/// Whether a service is a job: it does its work and ends.
fn ends(service: &Service) -> bool {
    let policy = service.deploy.restart_policy.as_ref().and_then(|policy| policy.condition.as_deref());
    matches!(service.deploy.mode, Mode::ReplicatedJob | Mode::GlobalJob) || policy == Some("none")
}

/// A009.
pub(crate) fn empty_healthchecks(facts: &Facts<'_>) -> Checked {
    facts.in_views(|loaded| {
        let mut found = Vec::new();
        for (name, service) in &loaded.compose.services {
            let Some(check) = &service.healthcheck else { continue };
            // What is to end is not there to be asked.
            if ends(service) {
                continue;
            }
            let words: Vec<&str> = check.test.iter().map(String::as_str).collect();
            let message = match words.as_slice() {
                ["NONE"] => "the healthcheck is switched off",
                [] => "the healthcheck has no test, and whether the image has one is not known here",
                ["CMD", "true" | "/bin/true"] | ["CMD-SHELL", "true" | ":" | "exit 0"] => {
                    "the healthcheck can never fail"
                }
                _ => continue,
            };
            found.push(loaded.problem(&format!("services.{name}"), message));
        }
        found
    })
}

/// A010.
pub(crate) fn unreadable(facts: &Facts<'_>) -> Checked {
    Checked::Found(facts.unreadable.clone())
}

/// A011.
pub(crate) fn missing_files(facts: &Facts<'_>) -> Checked {
    facts.in_views(|loaded| {
        let mut found = Vec::new();
        let compose = &loaded.compose;
        for (section, objects) in [("secrets", &compose.secrets), ("configs", &compose.configs)] {
            for (key, object) in objects {
                let Some(file) = object.file.as_ref().filter(|_| !object.external) else { continue };
                if let Err(why) = facts.recipe.content(file) {
                    let message = format!("`{}` cannot be read: {why}", shown(file));
                    found.push(loaded.problem(&format!("{section}.{key}"), message));
                }
            }
        }
        found
    })
}

/// A012.
pub(crate) fn without_effect(facts: &Facts<'_>) -> Checked {
    facts.in_views(|loaded| {
        let notes = loaded.compose.notes.iter();
        notes
            .map(|note| {
                let (file, line) = loaded.place(&note.path);
                let line = if file == note.file { line } else { 0 };
                Problem::new(&note.file, line, &note.path, note.message.clone())
            })
            .collect()
    })
}

/// A013.
pub(crate) fn unknown_variables(facts: &Facts<'_>) -> Checked {
    if facts.recipe.sample.is_none() {
        return Checked::Unverified("there is no `.env.sample`".to_owned(), Vec::new());
    }
    let message = |name: &str| format!("`{}` is set nowhere and has no default", shown(name));
    let sample = &facts.sample;
    let mut found: Vec<Problem> = (sample.unset.iter())
        .map(|(name, line)| Problem::new(&sample.file, *line, name, message(name)))
        .collect();
    for unset in facts.views.iter().flat_map(|view| &view.loaded.unset) {
        found.push(Problem::new(&unset.file, unset.line, &unset.path, message(&unset.name)));
    }
    facts.found(found)
}

/// A014.
pub(crate) fn variable_durations(facts: &Facts<'_>) -> Checked {
    let mut found = Vec::new();
    for (file, yaml) in &facts.files {
        for (name, service) in services(yaml) {
            for path in DURATIONS {
                let value = path.iter().try_fold(service, |at, key| at.get(key));
                if let Some(value) = value
                    && value.text().is_some_and(|text| text.contains('$'))
                {
                    let message = format!(
                        "`{}` is refused before it is filled in",
                        shown(value.text().unwrap_or_default())
                    );
                    found.push(Problem::new(
                        file,
                        value.line,
                        &format!("services.{name}.{}", path.join(".")),
                        message,
                    ));
                }
            }
        }
    }
    facts.found(found)
}

/// A015.
pub(crate) fn secret_versions(facts: &Facts<'_>) -> Checked {
    let sample = &facts.sample;
    let known = |name: &str| {
        sample.setting(name).is_some() || sample.offered.iter().any(|setting| setting.name == name)
    };
    facts.in_views(|loaded| {
        let mut found = Vec::new();
        for (key, object) in loaded.compose.secrets.iter().filter(|(_, object)| object.external) {
            let path = format!("secrets.{key}");
            let message = match secrets::version_variable(loaded, "secrets", key) {
                None => format!(
                    "its name is `{}`, without a variable for its version",
                    shown(loaded.written_names.get(&path).or(object.name.as_ref()).unwrap_or(key))
                ),
                Some(variable) if !known(&variable) => format!("`{variable}` is not in `.env.sample`"),
                Some(_) => continue,
            };
            found.push(loaded.problem(&path, message));
        }
        found
    })
}

/// A016.
pub(crate) fn secret_modifiers(facts: &Facts<'_>) -> Checked {
    if facts.recipe.sample.is_none() {
        return Checked::Skip("there is no `.env.sample` that could say anything of them".to_owned());
    }
    facts.in_views(|loaded| {
        let mut problems = Vec::new();
        secrets::needed(loaded, &facts.sample, &mut problems);
        problems
    })
}

/// A017.
pub(crate) fn version_label(facts: &Facts<'_>) -> Checked {
    facts.in_views(|loaded| {
        let message = match CoopLabels::read(&loaded.compose, &longest_stack()).version {
            None => "there is no label with the version".to_owned(),
            Some(version) => match Version::parse(&version) {
                Ok(_) => return Vec::new(),
                Err(error) => error.to_string(),
            },
        };
        vec![loaded.problem("services.app", message)]
    })
}

/// A018.
pub(crate) fn modes(facts: &Facts<'_>) -> Checked {
    facts.in_views(compose::modes)
}
