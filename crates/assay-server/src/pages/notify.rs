//! `/notifications`: who is told what happens, whether they heard it, and a button to try them.

use askama::Template;
use assay_api::notify::{Notifications, NotifyTested, SinkStatus, TroubledDelivery};
use assay_model::Micros;
use axum::Form;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use super::format::{When, sentence};
use super::shell::{Badge, PageError, Shell, Signed, page as finished};
use crate::api;
use crate::state::App;

#[derive(Template)]
#[template(path = "notifications.html")]
struct NotifyPage {
    shell: Shell,
    file: String,
    file_exists: bool,
    base_url: Option<String>,
    sinks: Vec<SinkLine>,
    troubles: Vec<TroubleLine>,
    tested: Vec<TestLine>,
}

/// A sink in the list.
struct SinkLine {
    name: String,
    kind: String,
    place: String,
    events: String,
    badge: Badge,
    /// When it last took something.
    last: Option<When>,
    /// What went wrong since.
    problem: Option<(String, When)>,
    /// `2 waiting, 1 given up`; empty when nothing is.
    counts: String,
}

/// A delivery that did not just work.
struct TroubleLine {
    badge: Badge,
    sink: String,
    event: String,
    run: i64,
    what: String,
    when: When,
    next: Option<When>,
}

/// How a test went.
struct TestLine {
    sink: String,
    ok: bool,
    message: String,
}

#[derive(Deserialize)]
pub(super) struct TestForm {
    /// Empty for all.
    #[serde(default)]
    sink: String,
}

pub(super) async fn page(State(app): State<App>, Signed(operator): Signed) -> Result<Response, PageError> {
    let status = api::notifications(&app).await?;
    finished(&draw(Shell::new(&operator, "notifications"), status, Vec::new(), app.engine.now()))
}

pub(super) async fn test(
    State(app): State<App>,
    Signed(operator): Signed,
    Form(form): Form<TestForm>,
) -> Result<Response, PageError> {
    let sink = Some(form.sink.as_str()).filter(|name| !name.is_empty());
    let tested = api::test_sinks(&app, sink, &operator.name).await?;
    let status = api::notifications(&app).await?;
    finished(&draw(Shell::new(&operator, "notifications"), status, tested, app.engine.now()))
}

fn draw(shell: Shell, status: Notifications, tested: Vec<NotifyTested>, now: Micros) -> NotifyPage {
    NotifyPage {
        shell,
        file: status.file,
        file_exists: status.file_exists,
        base_url: status.base_url,
        sinks: status.sinks.into_iter().map(|sink| sink_line(sink, now)).collect(),
        troubles: status.troubles.into_iter().map(|trouble| trouble_line(trouble, now)).collect(),
        tested: tested
            .into_iter()
            .map(|t| TestLine { sink: t.sink, ok: t.ok, message: sentence(&t.message) })
            .collect(),
    }
}

fn sink_line(sink: SinkStatus, now: Micros) -> SinkLine {
    let counted = |n: u64, what: &str| (n > 0).then(|| format!("{n} {what}"));
    let counts = [
        counted(sink.pending, "waiting"),
        counted(sink.failed, "given up"),
        counted(sink.unknown, "in doubt"),
    ];
    SinkLine {
        badge: match (&sink.last_error, sink.last_success) {
            (Some(_), _) => Badge::warning("Does not take it"),
            (None, Some(_)) => Badge::good("Works"),
            (None, None) => Badge::idle("Not used yet"),
        },
        events: match &sink.events {
            None => "everything".to_owned(),
            Some(events) if events.is_empty() => "nothing".to_owned(),
            Some(events) => events.join(", "),
        },
        last: sink.last_success.map(|at| When::new(at, now)),
        problem: sink.last_error.map(|error| (sentence(&error.message), When::new(error.at, now))),
        counts: counts.into_iter().flatten().collect::<Vec<_>>().join(", "),
        name: sink.name,
        kind: sink.kind,
        place: sink.place,
    }
}

fn trouble_line(trouble: TroubledDelivery, now: Micros) -> TroubleLine {
    let tries = match trouble.attempts {
        1 => "1 try".to_owned(),
        tries => format!("{tries} tries"),
    };
    let said = trouble.message.as_deref().map_or_else(String::new, |said| format!(": {said}"));
    TroubleLine {
        badge: match trouble.state.as_str() {
            "pending" => Badge::active("Trying again"),
            "unknown" => Badge::warning("In doubt"),
            _ => Badge::warning("Given up"),
        },
        what: sentence(&format!("{tries}{said}")),
        when: When::new(trouble.at, now),
        next: trouble.next_try.map(|at| When::new(at, now)),
        sink: trouble.sink,
        event: trouble.event,
        run: trouble.run,
    }
}

#[cfg(test)]
mod tests {
    use assay_api::notify::SinkError;

    use super::*;

    fn sink() -> SinkStatus {
        SinkStatus {
            name: "ops".into(),
            kind: "webhook".into(),
            place: "hooks.example.net".into(),
            events: None,
            pending: 0,
            failed: 0,
            unknown: 0,
            last_success: None,
            last_error: None,
        }
    }

    #[test]
    fn a_sink_is_green_only_when_it_took_something_last() {
        let now = Micros::seconds(1000);
        let tone = |sink: SinkStatus| sink_line(sink, now).badge.tone;
        let error = || Some(SinkError { at: now, message: "no".into() });
        assert_eq!(tone(sink()), "idle");
        assert_eq!(tone(SinkStatus { last_success: Some(now), ..sink() }), "pass");
        assert_eq!(tone(SinkStatus { last_error: error(), ..sink() }), "warn");
        assert_eq!(tone(SinkStatus { last_success: Some(now), last_error: error(), ..sink() }), "warn");
    }

    #[test]
    fn counts_say_only_what_there_is() {
        let now = Micros::seconds(1000);
        assert_eq!(sink_line(sink(), now).counts, "");
        let busy = SinkStatus { pending: 2, unknown: 1, ..sink() };
        assert_eq!(sink_line(busy, now).counts, "2 waiting, 1 in doubt");
        let nothing = SinkStatus { events: Some(Vec::new()), ..sink() };
        assert_eq!(sink_line(nothing, now).events, "nothing");
    }

    #[test]
    fn what_a_sink_says_is_escaped() {
        let now = Micros::seconds(1000);
        let said = "answered 500: <script>alert(1)</script>".to_owned();
        let trouble = TroubledDelivery {
            sink: "ops".into(),
            event: "RunHeld".into(),
            run: 12,
            state: "pending".into(),
            attempts: 2,
            next_try: Some(Micros::seconds(1060)),
            at: now,
            message: Some(said.clone()),
        };
        let status = Notifications {
            file: "/data/notify.toml".into(),
            file_exists: true,
            base_url: None,
            sinks: vec![SinkStatus { last_error: Some(SinkError { at: now, message: said }), ..sink() }],
            troubles: vec![trouble],
        };
        let tested = vec![NotifyTested { sink: "ops".into(), ok: false, message: "<b>no</b>".into() }];
        let html = draw(Shell::bare(), status, tested, now).render().expect("renders");
        assert!(!html.contains("<script>alert") && !html.contains("<b>no"), "{html}");
        for wanted in ["/runs/12", "2 tries", "in 1 min", "&#60;b&#62;no"] {
            assert!(html.contains(wanted), "{wanted}: {html}");
        }
    }
}
