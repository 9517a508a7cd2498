//! `/`: every machine at a glance, with what waits for an operator first.

use askama::Template;
use assay_api::operator::Host;
use assay_model::text::plural;
use assay_model::{Micros, RunState, RunView};
use axum::extract::State;
use axum::response::Response;

use super::format::{self, When};
use super::run_model;
use super::shell::{Badge, PageError, Shell, Signed, page as finished};
use crate::api::{detail, hosts_with_latest};
use crate::state::App;

/// A runner that has not asked for this long is not there: it polls every half minute.
const RUNNER_GONE: Micros = Micros::seconds(90);

#[derive(Template)]
#[template(path = "fleet.html", blocks = ["state"])]
struct FleetPage {
    shell: Shell,
    fleet: Fleet,
}

/// The fleet as it is shown.
pub(super) struct Fleet {
    pub(super) hosts: Vec<HostLine>,
    pub(super) queue: Vec<Queued>,
    pub(super) unknown: Vec<Unknown>,
    pub(super) runners: Vec<RunnerLine>,
    /// What keeps everything from working.
    pub(super) problems: Vec<String>,
    /// `2 need a decision · 3 running · 35 passed`.
    pub(super) counts: String,
    pub(super) waiting: usize,
}

/// A machine and its latest run.
pub(super) struct HostLine {
    pub(super) name: String,
    pub(super) badge: Badge,
    pub(super) run: Option<i64>,
    pub(super) profile: String,
    pub(super) when: Option<When>,
    /// What is going on or what went wrong.
    pub(super) detail: String,
    pub(super) next_step: String,
    rank: u8,
}

pub(super) struct Queued {
    pub(super) number: i64,
    pub(super) target: String,
    pub(super) why: String,
    pub(super) when: When,
    place: u32,
}

pub(super) struct Unknown {
    pub(super) mac: String,
    pub(super) last: When,
    pub(super) count: u64,
    pub(super) runner: String,
}

pub(super) struct RunnerLine {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) badge: Badge,
    pub(super) last: When,
    pub(super) problem: Option<String>,
}

pub(super) async fn page(State(app): State<App>, Signed(operator): Signed) -> Result<Response, PageError> {
    finished(&FleetPage { shell: Shell::new(&operator, "fleet"), fleet: gather(&app).await? })
}

/// The part that changes, alone.
pub(super) async fn fragment(
    State(app): State<App>,
    Signed(operator): Signed,
) -> Result<Response, PageError> {
    let whole = FleetPage { shell: Shell::new(&operator, "fleet"), fleet: gather(&app).await? };
    finished(&whole.as_state())
}

async fn gather(app: &App) -> Result<Fleet, PageError> {
    let now = app.engine.now();
    let mut hosts = Vec::new();
    let mut queue = Vec::new();
    for host in hosts_with_latest(app).await? {
        let run = match &host.latest {
            Some(latest) => Some(detail(app, latest.number).await?),
            None => None,
        };
        if let Some(run) = run.as_deref().filter(|r| r.state() == RunState::Queued) {
            queue.push(Queued {
                number: run.created.number,
                target: host.name.clone(),
                why: format::sentence(&app.engine.waiting_reason(run)),
                when: When::new(run.created_at, now),
                place: app.engine.place(run).and_then(|wait| wait.position).unwrap_or(u32::MAX),
            });
        }
        let step = run.as_ref().and_then(|r| app.engine.live().step(r.id));
        hosts.push(line(&host, run.as_deref(), step.as_deref(), now));
    }
    queue.sort_by_key(|q| (q.place, q.number));
    hosts.sort_by(|a, b| (a.rank, &a.name).cmp(&(b.rank, &b.name)));
    let runners: Vec<RunnerLine> =
        app.engine.store().runners().await?.into_iter().map(|r| runner(r, now)).collect();
    let unknown = app.engine.store().unknown_list().await?.into_iter().map(|u| Unknown {
        mac: u.mac.to_string(),
        last: When::new(u.last_seen, now),
        count: u.times,
        runner: u.runner,
    });
    Ok(Fleet {
        counts: counts(&hosts),
        waiting: hosts.iter().filter(|h| h.rank == 0).count(),
        problems: problems(app, &runners),
        unknown: unknown.collect(),
        hosts,
        queue,
        runners,
    })
}

fn problems(app: &App, runners: &[RunnerLine]) -> Vec<String> {
    let image = app.shared.image.problem().map(|why| format!("Machines cannot be booted: {why}"));
    let none = "No runner is connected, so nothing can be booted. Start one with `assay runner`.".to_owned();
    let none = (!runners.iter().any(|r| r.badge.tone != "idle")).then_some(none);
    let netboot =
        runners.iter().filter_map(|r| Some(format!("Netboot on {}: {}", r.name, r.problem.as_ref()?)));
    image.into_iter().chain(none).chain(netboot).collect()
}

/// A machine's line, drawn from its latest run.
fn line(host: &Host, run: Option<&RunView>, step: Option<&str>, now: Micros) -> HostLine {
    let Some(run) = run else {
        return HostLine {
            name: host.name.clone(),
            badge: Badge::idle("Never vetted"),
            run: None,
            profile: String::new(),
            when: None,
            detail: String::new(),
            next_step: String::new(),
            rank: 4,
        };
    };
    let badge = Badge::run(&run_model::facts(run));
    let worst = run_model::worst(run);
    let stage = run.failed_stage().map(|s| format!("at {s}"));
    let bad = badge.tone == "fail";
    let detail = match run.state() {
        RunState::Running | RunState::Booting if run.suspect_since.is_some() => {
            "the agent has fallen silent".to_owned()
        }
        RunState::Running => step.map(str::to_owned).unwrap_or_default(),
        _ if bad => match &worst {
            Some(f) => stage.map_or_else(|| f.message.clone(), |s| format!("{s}: {}", f.message)),
            None => stage.unwrap_or_default(),
        },
        RunState::Completed if badge.tone != "idle" => match run.unverified().len() {
            0 => String::new(),
            n => format!("{} not verified", plural(n, "point")),
        },
        _ => String::new(),
    };
    HostLine {
        name: host.name.clone(),
        run: Some(run.created.number),
        profile: run.created.profile.clone(),
        when: Some(When::new(run.completed_at.unwrap_or(run.created_at), now)),
        detail,
        next_step: worst.filter(|_| bad).map(|f| f.next_step).unwrap_or_default(),
        rank: rank(run.state(), badge.tone),
        badge,
    }
}

/// What needs eyes comes first.
fn rank(state: RunState, tone: &str) -> u8 {
    match state {
        RunState::FailedHolding => 0,
        RunState::Booting | RunState::Running | RunState::Cancelling => 2,
        RunState::Queued => 3,
        _ if tone == "fail" => 1,
        _ if tone == "pass" => 6,
        _ => 5,
    }
}

fn counts(hosts: &[HostLine]) -> String {
    let of = |rank: u8| hosts.iter().filter(|h| h.rank == rank).count();
    let words = [
        (of(0), "waiting for a decision"),
        (of(1), "failed"),
        (of(2), "running"),
        (of(3), "queued"),
        (of(4), "never vetted"),
        (of(5), "without a clean verdict"),
        (of(6), "passed"),
    ];
    let told: Vec<String> =
        words.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    told.join(" · ")
}

fn runner(row: assay_store::RunnerRow, now: Micros) -> RunnerLine {
    let badge = if now.since(row.last_seen) > RUNNER_GONE {
        Badge::idle("Gone")
    } else if row.problem.is_some() {
        Badge::warning("Netboot down")
    } else {
        Badge::good("Connected")
    };
    RunnerLine {
        name: row.name,
        version: row.version,
        badge,
        last: When::new(row.last_seen, now),
        problem: row.problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_an_operator_comes_first_and_what_passed_last() {
        assert_eq!(rank(RunState::FailedHolding, "fail"), 0);
        assert!(rank(RunState::Released, "fail") < rank(RunState::Running, "active"));
        assert!(rank(RunState::Completed, "warn") < rank(RunState::Completed, "pass"));
    }

    #[test]
    fn a_silent_runner_is_gone_and_a_broken_one_says_so() {
        let now = Micros::seconds(1000);
        let row = |seen, problem: Option<&str>| assay_store::RunnerRow {
            name: "r1".into(),
            version: "1".into(),
            problem: problem.map(str::to_owned),
            first_seen: Micros::seconds(1),
            last_seen: Micros::seconds(seen),
        };
        assert_eq!(runner(row(990, None), now).badge.tone, "pass");
        assert_eq!(runner(row(990, Some("port 67 is taken")), now).badge.tone, "warn");
        assert_eq!(runner(row(100, None), now).badge.word, "Gone");
    }
}
