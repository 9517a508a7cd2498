//! Sends what the outbox holds: news is routed to the sinks that want it, and every sink is worked
//! off by a task of its own, so that one that is down or slow holds up no other.
//!
//! Claiming a delivery and making it are two steps with a commit in between, so a crash leaves a row
//! that says "sending"; such a row is shown as "unknown" and not sent again: better one notification
//! fewer than one twice. Only a sink that drops repeats is told again.

use std::sync::Arc;
use std::time::Duration;

use assay_engine::Engine;
use assay_notify::{About, Fate, Notification, Sink, backoff};
use assay_store::{Claimed, OutboxState, Outcome, StoreError};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::notify_settings::Sinks;

/// How often the outbox is looked at even when nothing was committed.
const EVERY: Duration = Duration::from_secs(5);
/// Most notifications read at once.
const PAGE: u32 = 100;
/// The key in a stored payload under which the run's facts at that moment are kept.
const ABOUT: &str = "about";

/// The tasks that send. Dropped, they stop at once, and what they were sending is in doubt.
pub(crate) struct Outbox {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Outbox {
    /// Starts them.
    pub(crate) fn start(engine: &Engine, sinks: &Arc<Sinks>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(run(engine.clone(), Arc::clone(sinks), stopped));
        Self { stop, tasks }
    }

    /// Begins nothing more and waits a while for what is being sent, so that it is not in doubt.
    pub(crate) async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, ended).await.is_err() {
            warn!("a notification was still being sent; whether it arrives is not known");
        }
    }
}

async fn run(engine: Engine, sinks: Arc<Sinks>, mut stopped: watch::Receiver<bool>) {
    let mut changes = engine.store().subscribe();
    recover(&engine, &sinks).await;
    let (routed, news) = watch::channel(());
    let mut workers = JoinSet::new();
    for index in 0..sinks.all.len() {
        workers.spawn(work(engine.clone(), Arc::clone(&sinks), index, news.clone(), stopped.clone()));
    }
    while !*stopped.borrow() {
        match route(&engine, &sinks).await {
            Ok(0) => {}
            Ok(_) => {
                routed.send_replace(());
            }
            Err(problem) => warn!(error = %problem, "the outbox could not be read; trying again"),
        }
        tokio::select! {
            _ = tokio::time::timeout(EVERY, changes.recv()) => {}
            _ = stopped.changed() => {}
        }
    }
    while workers.join_next().await.is_some() {}
}

/// What a crash interrupted.
async fn recover(engine: &Engine, sinks: &Sinks) {
    let known: Vec<_> = sinks.all.iter().map(|sink| (sink.name(), sink.drops_repeats())).collect();
    match engine.store().outbox_stuck(&known, engine.now()).await {
        Ok(shown) => {
            for lost in shown {
                warn!(
                    notification.id = lost.notification,
                    notification.sink = lost.sink,
                    notification.state = lost.state.as_str(),
                    "a notification is not sent: {}",
                    lost.message.unwrap_or_default()
                );
            }
        }
        Err(problem) => warn!(error = %problem, "the outbox could not be read"),
    }
}

/// Gives new notifications their sinks, and the facts of their run as they are now: a sink that is
/// down for a day is still told what was the case. Returns how many.
async fn route(engine: &Engine, sinks: &Sinks) -> Result<usize, StoreError> {
    let mut routed = 0;
    loop {
        let unrouted = engine.store().outbox_unrouted(PAGE).await?;
        for row in &unrouted {
            let news = &row.outgoing;
            let about = match engine.view(news.run).await {
                Ok(run) => About::of(&run, &news.event, &news.payload),
                // The news itself is whole; a run that cannot be read must not keep it back.
                Err(problem) => {
                    warn!(notification.id = news.id, error = %problem, "told without its run's findings");
                    About::default()
                }
            };
            let mut payload = news.payload.clone();
            if let (Value::Object(payload), Ok(about)) = (&mut payload, serde_json::to_value(about)) {
                payload.insert(ABOUT.to_owned(), about);
            }
            let wanting = sinks.wanting(&news.event);
            if engine.store().outbox_route(&news.id, &payload, &wanting, engine.now()).await? {
                routed += 1;
            }
        }
        if unrouted.len() < PAGE as usize {
            return Ok(routed);
        }
    }
}

/// Works one sink off.
async fn work(
    engine: Engine,
    sinks: Arc<Sinks>,
    index: usize,
    mut news: watch::Receiver<()>,
    mut stopped: watch::Receiver<bool>,
) {
    let (sink, base_url) = (&sinks.all[index], sinks.base_url.as_deref());
    while !*stopped.borrow() {
        news.borrow_and_update();
        match send_one(&engine, sink, base_url).await {
            Ok(Some(_)) => continue,
            Ok(None) => {}
            Err(problem) => warn!(
                notification.sink = sink.name(),
                error = %problem,
                "the outbox could not be worked off; trying again"
            ),
        }
        tokio::select! {
            _ = tokio::time::timeout(EVERY, news.changed()) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// Makes the sink's delivery that is due longest; `None` when none is due.
async fn send_one(
    engine: &Engine,
    sink: &Sink,
    base_url: Option<&str>,
) -> Result<Option<OutboxState>, StoreError> {
    let Some(claimed) = engine.store().outbox_claim(sink.name(), engine.now()).await? else {
        return Ok(None);
    };
    let id = claimed.outgoing.id.clone();
    let (created_at, attempts) = (claimed.created_at, claimed.attempts);
    let news = notification(claimed, base_url);
    let told = sink.deliver(&news, engine.now()).await;
    let now = engine.now();
    let (outcome, message) = match told {
        Ok(said) => (Outcome::Sent, said),
        Err(problem) => match sink.fate(&problem) {
            Fate::Never => (Outcome::Failed, problem.to_string()),
            Fate::Unclear => {
                (Outcome::Unknown, format!("{problem}; it may have arrived, and is not sent again"))
            }
            Fate::Later { after } => match backoff::next_try(attempts, created_at, now, after) {
                Some(at) => (Outcome::Retry(at), problem.to_string()),
                None => (Outcome::Failed, format!("given up after three days: {problem}")),
            },
        },
    };
    let state = state_after(outcome);
    let line = format!("notification {}: {message}", state.as_str());
    if state == OutboxState::Sent {
        info!(
            notification.id = id,
            notification.sink = sink.name(),
            notification.attempts = attempts,
            "{line}"
        );
    } else {
        warn!(
            notification.id = id,
            notification.sink = sink.name(),
            notification.attempts = attempts,
            "{line}"
        );
    }
    // What was done has to be written down, or it is in doubt at the next start.
    while let Err(problem) = engine.store().outbox_done(&id, sink.name(), outcome, &message, now).await {
        warn!(notification.id = id, error = %problem, "what became of a notification could not be stored; trying again");
        tokio::time::sleep(EVERY).await;
    }
    Ok(Some(state))
}

const fn state_after(outcome: Outcome) -> OutboxState {
    match outcome {
        Outcome::Sent => OutboxState::Sent,
        Outcome::Retry(_) => OutboxState::Pending,
        Outcome::Failed => OutboxState::Failed,
        Outcome::Unknown => OutboxState::Unknown,
    }
}

fn notification(claimed: Claimed, base_url: Option<&str>) -> Notification {
    let mut payload = claimed.outgoing.payload;
    let about = payload.as_object_mut().and_then(|payload| payload.remove(ABOUT));
    Notification {
        id: claimed.outgoing.id,
        event: claimed.outgoing.event,
        at: claimed.created_at,
        payload,
        about: about.and_then(|about| serde_json::from_value(about).ok()).unwrap_or_default(),
        base_url: base_url.map(str::to_owned),
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
