//! Sends what the outbox holds. Claiming a row and sending it are two steps with a commit in
//! between, so a crash leaves a row that says "sending"; such a row is never sent again but shown
//! as "unknown": better one notification fewer than one twice.

use std::sync::Arc;
use std::time::Duration;

use assay_engine::Engine;
use assay_notify::{Notification, Webhook};
use tracing::{info, warn};

/// How often the outbox is looked at even when nothing was committed.
const EVERY: Duration = Duration::from_secs(5);

/// Sends until the future is dropped. Without sinks the outbox only records.
pub(crate) async fn run(engine: Engine, sinks: Arc<Vec<Webhook>>) {
    let mut changes = engine.store().subscribe();
    match engine.store().outbox_stuck().await {
        Ok(stuck) => {
            for lost in stuck {
                warn!(
                    notification.id = lost.outgoing.id,
                    "a notification was being sent when the server died; it is not sent again"
                );
            }
        }
        Err(problem) => warn!(error = %problem, "the outbox could not be read"),
    }
    loop {
        loop {
            match send_one(&engine, &sinks).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(problem) => {
                    warn!(error = %problem, "the outbox could not be worked off; trying again");
                    break;
                }
            }
        }
        let _ = tokio::time::timeout(EVERY, changes.recv()).await;
    }
}

/// Sends the oldest pending notification; false when there is none.
async fn send_one(engine: &Engine, sinks: &[Webhook]) -> Result<bool, assay_store::StoreError> {
    let Some(out) = engine.store().outbox_claim(engine.now()).await? else { return Ok(false) };
    let notification = Notification { id: out.id.clone(), event: out.event.clone(), payload: out.payload };
    let mut problems = Vec::new();
    for sink in sinks {
        if let Err(problem) = sink.deliver(&notification).await {
            problems.push(problem.to_string());
        }
    }
    let message = match (sinks.is_empty(), problems.is_empty()) {
        (true, _) => "no receiver is configured".to_owned(),
        (false, true) => "delivered".to_owned(),
        (false, false) => problems.join("; "),
    };
    info!(notification.id = out.id, notification.event = out.event, "notification: {message}");
    engine.store().outbox_done(&out.id, problems.is_empty(), &message).await?;
    Ok(true)
}
