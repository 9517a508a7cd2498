//! `/queue`: what runs, what waits and why, what the runners have, and letting nothing start.

use askama::Template;
use assay_api::queue::{Queue, Rule, RunnerRoom, Running, Stopped, Waiting};
use assay_model::text::plural;
use assay_model::{Micros, Pipeline, Priority};
use axum::Form;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::format::{self, When, sentence};
use super::shell::{PageError, Shell, Signed, page as finished};
use crate::api;
use crate::state::App;

/// Waiting runs that are shown; the rest is counted.
const SHOWN: usize = 200;

#[derive(Template)]
#[template(path = "queue.html", blocks = ["state"])]
struct QueuePage {
    shell: Shell,
    queue: Drawn,
}

/// The queue as it is shown.
struct Drawn {
    /// `2 running · 5 waiting · at most 4 recipe at once`.
    counts: String,
    waiting_count: usize,
    /// Who stopped it, in a sentence.
    stopped: Option<(String, When)>,
    /// Whether nothing runs any more, so that Assay may be replaced.
    drained: bool,
    rooms: Vec<Room>,
    running: Vec<RunningLine>,
    waiting: Vec<WaitingLine>,
    /// How many more wait than are shown.
    more: usize,
}

/// A runner's slots.
struct Room {
    name: String,
    connected: bool,
    pools: Vec<PoolLine>,
}

/// A pool as a bar.
struct PoolLine {
    name: String,
    used: u64,
    /// None where the runner has not said; then there is no bar.
    capacity: Option<u64>,
    words: String,
}

struct RunningLine {
    number: i64,
    target: String,
    doing: String,
    since: When,
    runner: String,
    requester: String,
    holds: String,
    /// `about 3 min`, or that an operator decides.
    left: String,
}

struct WaitingLine {
    number: i64,
    target: String,
    position: String,
    class: &'static str,
    requester: String,
    why: String,
    when: When,
}

#[derive(Deserialize)]
pub(super) struct RuleForm {
    /// `pause`, `drain` or `resume`.
    rule: String,
    #[serde(default)]
    why: String,
}

pub(super) async fn page(State(app): State<App>, Signed(operator): Signed) -> Result<Response, PageError> {
    let queue = draw(api::queue(&app).await?, app.engine.now());
    finished(&QueuePage { shell: Shell::new(&operator, "queue"), queue })
}

/// The part that changes, alone.
pub(super) async fn fragment(
    State(app): State<App>,
    Signed(operator): Signed,
) -> Result<Response, PageError> {
    let queue = draw(api::queue(&app).await?, app.engine.now());
    let whole = QueuePage { shell: Shell::new(&operator, "queue"), queue };
    finished(&whole.as_state())
}

pub(super) async fn rule(
    State(app): State<App>,
    Signed(operator): Signed,
    Form(form): Form<RuleForm>,
) -> Result<Response, PageError> {
    let why = form.why;
    let rule = match form.rule.as_str() {
        "pause" => Rule::Pause { why },
        "drain" => Rule::Drain { why },
        "resume" => Rule::Resume,
        _ => return Err(crate::error::ApiError::invalid("say pause, drain or resume").into()),
    };
    api::rule_queue(&app, &operator, rule).await?;
    Ok(Redirect::to("/queue").into_response())
}

fn draw(queue: Queue, now: Micros) -> Drawn {
    let mut counts = vec![format!("{} running", queue.active), format!("{} waiting", queue.waiting.len())];
    let held = queue.running.iter().filter(|run| run.ends_in_s.is_none()).count();
    if held > 0 {
        counts.push(format!("{held} held for a decision"));
    }
    counts.extend(queue.limits.iter().map(|(pipeline, n)| format!("at most {} at once", of(*pipeline, *n))));
    let drained = queue.state == "draining" && queue.active == 0;
    Drawn {
        counts: counts.join(" · "),
        waiting_count: queue.waiting.len(),
        stopped: queue
            .stopped
            .map(|stop| (stopped(&stop, &queue.state, queue.active), When::new(stop.since, now))),
        drained,
        rooms: queue.runners.into_iter().map(room).collect(),
        running: queue.running.into_iter().map(|run| running(run, now)).collect(),
        more: queue.waiting.len().saturating_sub(SHOWN),
        waiting: queue.waiting.into_iter().take(SHOWN).map(|run| waiting(run, now)).collect(),
    }
}

fn stopped(stop: &Stopped, state: &str, active: usize) -> String {
    let why = if stop.why.is_empty() { String::new() } else { format!(" ({})", stop.why) };
    let by = &stop.by;
    match (state, active) {
        ("draining", 0) => {
            format!("Drained by {by}{why}: nothing runs, Assay may be stopped and replaced.")
        }
        ("draining", n) => {
            format!("Being drained by {by}{why}: nothing new starts; {} to wait for.", plural(n, "run"))
        }
        _ => format!("Paused by {by}{why}: nothing new starts, what runs goes on."),
    }
}

fn room(room: RunnerRoom) -> Room {
    let pools = room.pools.into_iter().map(|(name, slots)| {
        let short = name.strip_suffix("_mib");
        let amount = |n: u64| match short {
            Some(_) if n == 0 => "0".to_owned(),
            Some(_) if n >= 1024 && n.is_multiple_of(1024) => format!("{} GiB", n / 1024),
            Some(_) => format!("{n} MiB"),
            None => n.to_string(),
        };
        PoolLine {
            words: match slots.capacity {
                Some(all) => format!("{} of {}", amount(slots.used), amount(all)),
                None => format!("{} in use", amount(slots.used)),
            },
            used: slots.used,
            capacity: slots.capacity,
            name: short.unwrap_or(&name).to_owned(),
        }
    });
    Room { name: room.name, connected: room.connected, pools: pools.collect() }
}

fn running(run: Running, now: Micros) -> RunningLine {
    let holds: Vec<_> = run.needs.iter().map(|(pool, n)| format!("{n} {pool}")).collect();
    RunningLine {
        number: run.number,
        target: run.target,
        doing: run.doing,
        since: When::new(run.since, now),
        runner: run.runner,
        requester: run.requester,
        holds: holds.join(", "),
        left: match run.ends_in_s {
            Some(seconds) => format!("about {} left", format::duration(seconds as f64)),
            None => "held until somebody decides; takes no slot".to_owned(),
        },
    }
}

fn waiting(run: Waiting, now: Micros) -> WaitingLine {
    WaitingLine {
        number: run.number,
        target: run.target,
        position: run.position.map_or_else(|| "–".to_owned(), |n| n.to_string()),
        class: match run.priority {
            Priority::Operator => "operator",
            Priority::PullRequest => "pull request",
            Priority::Schedule => "schedule",
        },
        requester: run.requester,
        why: sentence(&run.reason),
        when: When::new(run.asked_at, now),
    }
}

fn of(pipeline: Pipeline, n: u32) -> String {
    plural(
        n as usize,
        match pipeline {
            Pipeline::Host => "machine",
            Pipeline::Image => "image",
            Pipeline::Recipe => "recipe",
        },
    )
}

#[cfg(test)]
mod tests {
    use assay_api::queue::Pool;

    use super::*;

    fn queue() -> Queue {
        let pools = [("mem_mib", 4096, Some(16_384)), ("swarm", 1, Some(2)), ("cpu", 1, None)];
        let pool =
            |(name, used, capacity): (&str, u64, Option<u64>)| (name.to_owned(), Pool { used, capacity });
        Queue {
            state: "open".to_owned(),
            stopped: None,
            limits: [(Pipeline::Recipe, 1)].into(),
            weights: std::collections::BTreeMap::new(),
            active: 1,
            runners: vec![RunnerRoom { name: "r1".into(), connected: true, pools: pools.map(pool).into() }],
            running: vec![Running {
                number: 41,
                target: "plausible".into(),
                pipeline: Pipeline::Recipe,
                runner: "r1".into(),
                doing: "Upgrade".into(),
                since: Micros::seconds(900),
                started_at: Micros::seconds(700),
                ends_in_s: Some(180),
                needs: [("swarm".to_owned(), 1)].into(),
                requester: "mara".into(),
            }],
            waiting: vec![Waiting {
                number: 42,
                target: "<b>wiki".into(),
                pipeline: Pipeline::Recipe,
                priority: Priority::PullRequest,
                requester: "ole<script>".into(),
                asked_at: Micros::seconds(940),
                needs: [("swarm".to_owned(), 1)].into(),
                cause: "slots".into(),
                reason: "1st in line; about 3 min".into(),
                position: Some(1),
                starts_in_s: Some(180),
            }],
        }
    }

    #[test]
    fn the_page_shows_pools_runs_and_reasons_and_escapes_names() {
        let drawn = draw(queue(), Micros::seconds(1000));
        let html = QueuePage { shell: Shell::bare(), queue: drawn }.render().expect("renders");
        assert!(!html.contains("<script>ole") && !html.contains("<b>wiki"), "{html}");
        for wanted in [
            "1 running · 1 waiting · at most 1 recipe at once",
            "4 GiB of 16 GiB",
            "max=\"16384\"",
            "1 in use",
            "/runs/41",
            "about 3 m",
            "1st in line; about 3 min.",
            "pull request",
            "value=\"pause\"",
        ] {
            assert!(html.contains(wanted), "{wanted}: {html}");
        }
        assert!(!html.contains("value=\"resume\""), "an open queue cannot be resumed");
    }

    #[test]
    fn a_stopped_queue_says_who_and_whether_it_is_drained() {
        let stop = Stopped { by: "mara".into(), why: "new switch".into(), since: Micros::seconds(10) };
        let mut paused = Queue { state: "paused".into(), stopped: Some(stop), ..queue() };
        let told = |queue: &Queue| {
            let drawn = draw(queue.clone(), Micros::seconds(1000));
            QueuePage { shell: Shell::bare(), queue: drawn }.render().expect("renders")
        };
        let html = told(&paused);
        assert!(html.contains("Paused by mara (new switch): nothing new starts"), "{html}");
        assert!(html.contains("value=\"resume\"") && !html.contains("value=\"pause\""), "{html}");
        paused.state = "draining".into();
        assert!(told(&paused).contains("1 run to wait for"), "{}", told(&paused));
        paused.active = 0;
        assert!(told(&paused).contains("Assay may be stopped and replaced"), "{}", told(&paused));
    }
}
