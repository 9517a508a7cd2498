//! From the swarm driver's words to evidence.

use std::fmt::Write as _;

use assay_model::text;
use assay_swarm::{Convergence, Evidence, Failure, Outcome as Swarms};

use crate::recipe::evidence::{Outcome, ServiceFailure};

/// The longest text of an app's own that is kept in evidence, in characters; artifacts have the rest.
const WORDS: usize = 2000;

/// How waiting for a stack ended. `limit_s` is what it was given.
pub(super) fn outcome(convergence: &Convergence, stack: &str, limit_s: f64) -> Outcome {
    match &convergence.outcome {
        Swarms::Converged { still_running } => {
            let still_running = still_running.iter().map(|name| key(stack, name)).collect();
            Outcome::Converged { still_running }
        }
        Swarms::Failed(failures) => {
            let failures = failures.iter().map(|failure| failed(failure, stack, &convergence.evidence));
            Outcome::Failed { failures: failures.collect() }
        }
        Swarms::TimedOut(waiting) => {
            let told = |waiting: &assay_swarm::Waiting| {
                format!("{}: {}", key(stack, &waiting.service), waiting.reason)
            };
            Outcome::TimedOut { waiting: waiting.iter().map(told).collect(), limit_s }
        }
    }
}

fn failed(failure: &Failure, stack: &str, evidence: &Evidence) -> ServiceFailure {
    let last = failure.attempts.last();
    let attempt = last.and_then(|last| evidence.attempts.iter().find(|attempt| attempt.task == last.task));
    let words = attempt.map(|attempt| attempt.output.as_str()).unwrap_or_default();
    let words: String = words.chars().rev().take(WORDS).collect::<Vec<_>>().into_iter().rev().collect();
    ServiceFailure {
        service: key(stack, &failure.service),
        class: serde_json::to_value(failure.class)
            .ok()
            .and_then(|class| class.as_str().map(str::to_owned))
            .unwrap_or_default(),
        message: text::clean_to(&failure.message, WORDS),
        last_words: words,
    }
}

/// A service's name in the files, from its full one.
pub(super) fn key(stack: &str, service: &str) -> String {
    service.strip_prefix(stack).and_then(|rest| rest.strip_prefix('_')).unwrap_or(service).to_owned()
}

/// Everything that the attempts said, as a log to be kept.
pub(super) fn attempts(evidence: &Evidence) -> Option<Vec<u8>> {
    if evidence.attempts.is_empty() {
        return None;
    }
    let mut text = String::new();
    for attempt in &evidence.attempts {
        let code = attempt.exit_code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        let killed = if attempt.oom_killed { ", killed for memory" } else { "" };
        let _ = write!(
            text,
            "== {} task {} ({:?}, exit code {code}{killed}, {} to {}) {}\n{}\n",
            attempt.service,
            attempt.task,
            attempt.state,
            attempt.started.as_deref().unwrap_or("?"),
            attempt.finished.as_deref().unwrap_or("?"),
            attempt.error,
            attempt.output,
        );
    }
    Some(text.into_bytes())
}
