//! `/api/v1/notify`: who is told what happens, how that is going, and a test.

use assay_api::notify::{Notifications, NotifyTest, NotifyTested, SinkError, SinkStatus, TroubledDelivery};
use assay_notify::Notification;
use assay_store::OutboxState;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::future::join_all;

use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;
use crate::wire::JsonBody;

/// Most troubled deliveries shown.
const TROUBLES: u32 = 50;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/v1/notify", get(show)).route("/api/v1/notify/test", post(send_test))
}

async fn show(State(app): State<App>, _: Operator) -> Result<Json<Notifications>, ApiError> {
    status(&app).await.map(Json)
}

async fn send_test(
    State(app): State<App>,
    operator: Operator,
    JsonBody(wanted): JsonBody<NotifyTest>,
) -> Result<Json<Vec<NotifyTested>>, ApiError> {
    test(&app, wanted.sink.as_deref(), &operator.name).await.map(Json)
}

/// The sinks and how they have been doing.
pub(crate) async fn status(app: &App) -> Result<Notifications, ApiError> {
    let (store, settings) = (app.engine.store(), &app.shared.sinks);
    let mut sinks = Vec::new();
    for sink in &settings.all {
        let tally = store.outbox_tally(sink.name()).await?;
        sinks.push(SinkStatus {
            name: sink.name().to_owned(),
            kind: sink.kind().to_string(),
            place: sink.place(),
            events: sink.events().map(<[String]>::to_vec),
            pending: tally.pending,
            failed: tally.failed,
            unknown: tally.unknown,
            last_success: tally.last_success,
            last_error: tally.last_error.map(|(at, message)| SinkError { at, message }),
        });
    }
    let troubles = store.outbox_troubles(TROUBLES).await?.into_iter().map(|delivery| TroubledDelivery {
        sink: delivery.sink,
        event: delivery.event,
        run: delivery.run_number,
        state: delivery.state.as_str().to_owned(),
        attempts: delivery.attempts,
        next_try: (delivery.state == OutboxState::Pending).then_some(delivery.due_at),
        at: delivery.changed_at,
        message: delivery.message,
    });
    Ok(Notifications {
        file: settings.file.display().to_string(),
        file_exists: settings.file_exists,
        base_url: settings.base_url.clone(),
        sinks,
        troubles: troubles.collect(),
    })
}

/// Sends a test to one sink or to all of them at once, and waits for what they say.
pub(crate) async fn test(
    app: &App,
    sink: Option<&str>,
    asked_by: &str,
) -> Result<Vec<NotifyTested>, ApiError> {
    let settings = &app.shared.sinks;
    let chosen: Vec<_> =
        settings.all.iter().filter(|known| sink.is_none_or(|name| known.name() == name)).collect();
    if chosen.is_empty() {
        return Err(match sink {
            Some(name) => ApiError::not_found(format!("sink `{}`", assay_model::text::clean(name)))
                .hint("`assay notify list` shows those that there are"),
            None => ApiError::invalid("nobody is told anything yet")
                .hint(format!("write {} and start the server again", settings.file.display())),
        });
    }
    let tests = chosen.into_iter().map(async |sink| {
        // A test that is asked for again is another one.
        let id = format!("test:{}", uuid::Uuid::now_v7());
        let now = app.engine.now();
        let news = Notification::test(id, now, asked_by, settings.base_url.clone());
        let told = sink.deliver(&news, now).await;
        let ok = told.is_ok();
        let message = told.unwrap_or_else(|problem| problem.to_string());
        NotifyTested { sink: sink.name().to_owned(), ok, message }
    });
    Ok(join_all(tests).await)
}
