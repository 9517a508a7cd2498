//! Whether a service will ever run, told from its attempts in seconds instead of from a deadline in minutes.
//!
//! "Restarted three times" is no such sign: a service that ends until its database answers does so by design. So what could heal
//! by itself is condemned only in a quiet world: nobody else in the stack is still on the way to run for the first time, and the
//! last attempts began after everybody else had got there and had stopped working on its own start (processor time tells). What cannot heal (an image that is not there, a mount that is none) is
//! condemned at its second failure.

use assay_model::Micros;
use serde::Serialize;

use crate::{Attempt, History, ObservedService, Restart, Rules, TaskState, UpdateState};

/// How long a task that ended for good may take to get a successor.
const SUCCESSOR: std::time::Duration = std::time::Duration::from_secs(3);
/// What the engine and its runtime say of what cannot be mounted.
const MOUNT: &[&str] = &[
    "invalid mount config",
    "invalid mount target",
    "error while mounting",
    "error mounting",
    "failed to mount",
    "bind source path",
    // A volume onto a file of the image.
    "is not directory",
];
/// A line longer than this is compared by its beginning. In characters.
const COMPARED: usize = 200;

/// A service that will not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Its full name.
    pub service: String,
    /// How it fails.
    pub class: FailureClass,
    /// One sentence for an operator.
    pub message: String,
    /// The attempts that it is told from, the oldest first.
    pub attempts: Vec<Attempt>,
}

/// How a service fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// It ends badly soon after its start, again and again.
    CrashLoop,
    /// It ends well and is started again, again and again: its restart policy does not fit it.
    CompletingLoop,
    /// It lives for a while and dies, again and again.
    SlowFlap,
    /// Its image is not there and cannot be got.
    MissingImage,
    /// What is to be mounted into it cannot be.
    BadMount,
    /// The node will not run it, for another reason.
    Rejected,
    /// Its health check fails.
    Unhealthy,
    /// No node would have it.
    Unschedulable,
    /// It ended badly and its policy does not start it again.
    NotRestarted,
    /// Its update was stopped or taken back, since new tasks failed.
    UpdatePaused,
}

/// What it takes to condemn a slot's attempts of one class.
struct Bar {
    /// So many attempts of it at the end of the slot's history.
    attempts: usize,
    /// So many of them in a quiet world.
    quiet: usize,
    /// Whether they must have ended alike.
    alike: bool,
}

/// Every service that will not run, in the order of the services.
pub(crate) fn failures(history: &History, rules: &Rules) -> Vec<Failure> {
    history.services().iter().filter_map(|service| failure(history, service, rules)).collect()
}

fn failure(history: &History, service: &ObservedService, rules: &Rules) -> Option<Failure> {
    paused(history, service)
        .or_else(|| not_restarted(history, service, rules))
        .or_else(|| unschedulable(history, service, rules))
        .or_else(|| loops(history, service, rules))
}

/// An update that was stopped. It stays so in Swarm's books until the next one, so only one that began with this deploy counts.
fn paused(history: &History, service: &ObservedService) -> Option<Failure> {
    let update = service.update.as_ref()?;
    let outcome = match update.state {
        UpdateState::Updating | UpdateState::Completed => return None,
        UpdateState::Paused => "was paused",
        UpdateState::RollbackStarted => "is being rolled back",
        UpdateState::RollbackPaused => "was being rolled back, and that was paused",
        UpdateState::RollbackCompleted => "was rolled back",
    };
    (!history.is_old_update(service)).then(|| Failure {
        service: service.name.clone(),
        class: FailureClass::UpdatePaused,
        message: format!("the update {outcome}: {}", update.message),
        attempts: history.attempts(service).into_values().flatten().collect(),
    })
}

fn not_restarted(history: &History, service: &ObservedService, rules: &Rules) -> Option<Failure> {
    let attempts = history.attempts(service);
    for (slot, newest) in history.newest(service) {
        let ended = matches!(newest.task.state, TaskState::Failed | TaskState::Rejected);
        let Some(of_slot) = attempts.get(slot).filter(|_| ended) else { continue };
        let given_up = match service.restart {
            Restart::None => true,
            // It ended well as far as the swarm knows: see `History::sicken`.
            Restart::OnFailure if newest.task.exit_code == Some(0) => true,
            Restart::OnFailure | Restart::Any => {
                let allowed = usize::try_from(service.max_attempts).unwrap_or(usize::MAX);
                allowed > 0 && of_slot.len() > allowed && history.steady_for(service) >= SUCCESSOR
            }
        };
        if given_up {
            let last = of_slot.last()?;
            // Why it failed says more than that it was the last time.
            let class = match class_of(last, rules) {
                why @ (FailureClass::MissingImage
                | FailureClass::BadMount
                | FailureClass::Rejected
                | FailureClass::Unhealthy) => why,
                _ => FailureClass::NotRestarted,
            };
            return Some(Failure {
                service: service.name.clone(),
                class,
                message: format!("it {} and is not started again", ending(last)),
                attempts: of_slot.clone(),
            });
        }
    }
    None
}

fn unschedulable(history: &History, service: &ObservedService, rules: &Rules) -> Option<Failure> {
    if others_advance(history, service) {
        return None;
    }
    let newest = history.newest(service);
    let waits = newest.values().find(|seen| {
        seen.no_node.is_some_and(|since| history.at().saturating_sub(since) >= rules.unschedulable_for)
    })?;
    Some(Failure {
        service: service.name.clone(),
        class: FailureClass::Unschedulable,
        message: format!("no node would have it: {}", waits.task.error),
        attempts: Vec::new(),
    })
}

fn loops(history: &History, service: &ObservedService, rules: &Rules) -> Option<Failure> {
    let attempts = history.attempts(service);
    attempts.into_values().find_map(|slot| looping(history, service, rules, slot))
}

fn looping(
    history: &History,
    service: &ObservedService,
    rules: &Rules,
    slot: Vec<Attempt>,
) -> Option<Failure> {
    let class = class_of(slot.last()?, rules);
    let bar = bar(class, rules);
    // Attempts of one class at the end; what was before may have been another trouble.
    let of_class = slot.iter().rev().take_while(|attempt| class_of(attempt, rules) == class).count();
    let last = &slot[slot.len() - of_class..];
    let newest = &last[last.len().saturating_sub(bar.attempts)..];
    let enough = newest.len() >= bar.attempts && (!bar.alike || alike(newest));
    // However different they are: so many are no coincidence.
    let endless = slot.len() >= rules.most_restarts;
    if !enough && !endless {
        return None;
    }
    if bar.quiet > 0 {
        let tolerated = tolerated(history, service, rules);
        let quiet = quiet_attempts(history, service, &slot);
        if others_advance(history, service) || slot.len() < tolerated || quiet < bar.quiet {
            return None;
        }
    }
    let message = message(class, &slot);
    Some(Failure { service: service.name.clone(), class, message, attempts: slot })
}

fn class_of(attempt: &Attempt, rules: &Rules) -> FailureClass {
    let says = |parts: &[&str]| parts.iter().any(|part| attempt.error.contains(part));
    if attempt.state == TaskState::Complete {
        FailureClass::CompletingLoop
    } else if says(&["unhealthy container"]) {
        FailureClass::Unhealthy
    } else if says(&["No such image", "manifest unknown", "pull access denied", "manifest for"]) {
        FailureClass::MissingImage
    } else if says(MOUNT) {
        FailureClass::BadMount
    } else if attempt.state == TaskState::Rejected {
        FailureClass::Rejected
    } else if attempt.lived() >= rules.slow_life {
        FailureClass::SlowFlap
    } else {
        FailureClass::CrashLoop
    }
}

fn bar(class: FailureClass, rules: &Rules) -> Bar {
    match class {
        FailureClass::MissingImage | FailureClass::BadMount | FailureClass::Rejected => {
            Bar { attempts: 2, quiet: 0, alike: false }
        }
        FailureClass::CompletingLoop => Bar { attempts: rules.restarts, quiet: 0, alike: false },
        FailureClass::SlowFlap => Bar { attempts: 2, quiet: 2, alike: true },
        FailureClass::Unhealthy => Bar { attempts: 2, quiet: 1, alike: true },
        _ => Bar { attempts: rules.restarts, quiet: 2, alike: true },
    }
}

/// Whether another service is still on the way to run for the first time: pulling, starting, or not healthy yet. One that has
/// failed already is not: two that wait for each other would wait for ever.
fn others_advance(history: &History, service: &ObservedService) -> bool {
    history.services().iter().filter(|other| other.id != service.id).any(|other| {
        let failed = !history.attempts(other).is_empty();
        let mut newest = history.newest(other).into_values();
        !failed
            && !history.was_ready(other)
            && newest.any(|seen| seen.task.state.is_coming() && seen.no_node.is_none())
    })
}

/// How many attempts began after every other service had made its last step forward, or had last been seen at work: a database
/// without a health check runs from its first moment on, whatever it still has to do.
fn quiet_attempts(history: &History, service: &ObservedService, attempts: &[Attempt]) -> usize {
    let last_step = history.last_step_of_others(service).unwrap_or(Micros(i64::MIN));
    attempts.iter().filter(|attempt| attempt.began > last_step).count()
}

/// How often a service may fail before it is looked at closer.
fn tolerated(history: &History, service: &ObservedService, rules: &Rules) -> usize {
    let waits_for = rules.tolerated_until.iter().filter(|(name, _)| is_called(service, name));
    let come = |until: &str| {
        history.services().iter().any(|other| is_called(other, until) && history.was_ready(other))
    };
    if waits_for.map(|(_, until)| until).any(|until| come(until)) {
        return 0;
    }
    let of_service = rules.tolerated.iter().filter(|(name, _)| is_called(service, name));
    of_service.map(|(_, most)| *most).max().unwrap_or_default()
}

/// Whether it has this name in the files; the full one has the stack's before it.
fn is_called(service: &ObservedService, name: &str) -> bool {
    service.name == name || service.name.strip_suffix(name).is_some_and(|stack| stack.ends_with('_'))
}

/// Whether they ended with the same code, for the same reason, with the same last words.
fn alike(attempts: &[Attempt]) -> bool {
    let signature = |attempt: &Attempt| {
        let words = attempt.last_words.as_deref().map(normalised);
        (attempt.state, attempt.exit_code, normalised(&attempt.error), words)
    };
    attempts.windows(2).all(|pair| signature(&pair[0]) == signature(&pair[1]))
}

/// A line without what differs from attempt to attempt: numbers, times, ids.
fn normalised(line: &str) -> String {
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        let counted = word.chars().any(|c| c.is_ascii_digit());
        words.push(if counted { "#" } else { word });
    }
    words.join(" ").chars().take(COMPARED).collect()
}

fn message(class: FailureClass, slot: &[Attempt]) -> String {
    let count = slot.len();
    let Some(last) = slot.last() else { return String::new() };
    let ending = ending(last);
    match class {
        FailureClass::CompletingLoop => format!(
            "it has completed {count} times and is started again each time: give a service that is to end \
             `restart_policy: condition: none` or `on-failure`"
        ),
        FailureClass::SlowFlap => {
            format!("{count} times it ran for a while and then ended; the last time it {ending}")
        }
        FailureClass::CrashLoop => format!("{count} attempts, and the last one {ending}"),
        _ => format!("{count} attempts failed: {}", last.error),
    }
}

fn ending(attempt: &Attempt) -> String {
    let code = match attempt.exit_code {
        Some(code) if attempt.state == TaskState::Failed && code != 0 => {
            format!("ended with exit code {code}")
        }
        _ => format!("failed ({})", attempt.error),
    };
    match attempt.last_words.as_deref().filter(|words| !words.is_empty()) {
        Some(words) => format!("{code} (its last words: {words})"),
        None => code,
    }
}
