//! `/schedules`: what is tested again by itself, when it is next, and what became of its last times.

use askama::Template;
use assay_api::again::{NewSchedule, Schedule, ScheduleRule, Time};
use assay_model::Micros;
use assay_model::host::order::{Profile, UnknownProfile};
use assay_model::schedule::{Again, Limits};
use axum::Form;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;

use super::batches::{number, words};
use super::format::{When, sentence};
use super::shell::{Badge, PageError, Shell, Signed, page as finished, see_other};
use crate::api;
use crate::error::ApiError;
use crate::state::App;

#[derive(Template)]
#[template(path = "schedules.html")]
struct SchedulesPage {
    shell: Shell,
    schedules: Vec<Drawn>,
    profiles: [&'static str; 3],
}

#[derive(Template)]
#[template(path = "schedule.html")]
struct SchedulePage {
    shell: Shell,
    schedule: Drawn,
}

/// A schedule as it is shown.
struct Drawn {
    name: String,
    badge: Badge,
    problem: Option<String>,
    does: String,
    limits: String,
    when: String,
    created_by: String,
    created: When,
    resting: Option<String>,
    /// When it is next, by its own clocks, and how long that is.
    next: Vec<(String, When)>,
    times: Vec<TimeLine>,
}

struct TimeLine {
    badge: Badge,
    due: When,
    batch: Option<i64>,
    told: String,
}

/// A schedule as it is typed.
#[derive(Deserialize)]
pub(super) struct NewForm {
    name: String,
    cron: String,
    #[serde(default)]
    zone: String,
    /// `hosts`, `recipes` or `image`.
    what: String,
    #[serde(default)]
    names: String,
    #[serde(default)]
    labels: String,
    #[serde(default)]
    profile: String,
    #[serde(default)]
    at_most: String,
}

#[derive(Deserialize)]
pub(super) struct RuleForm {
    /// `pause`, `resume`, `run` or `remove`.
    rule: String,
}

pub(super) async fn page(State(app): State<App>, Signed(operator): Signed) -> Result<Response, PageError> {
    let now = app.engine.now();
    let schedules = api::schedules(&app).await?.into_iter().map(|one| draw(one, now)).collect();
    let profiles = Profile::ALL.map(Profile::as_str);
    finished(&SchedulesPage { shell: Shell::new(&operator, "schedules"), schedules, profiles })
}

pub(super) async fn add(
    State(app): State<App>,
    Signed(operator): Signed,
    Form(form): Form<NewForm>,
) -> Result<Response, PageError> {
    let schedule = api::put_schedule(&app, &operator, asked(form)?, false).await?;
    Ok(see_other(&format!("/schedules/{}", schedule.name)))
}

pub(super) async fn one(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(name): Path<String>,
) -> Result<Response, PageError> {
    let schedule = draw(api::schedule(&app, &name).await?, app.engine.now());
    finished(&SchedulePage { shell: Shell::new(&operator, "schedules"), schedule })
}

pub(super) async fn rule(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(name): Path<String>,
    Form(form): Form<RuleForm>,
) -> Result<Response, PageError> {
    let rule = match form.rule.as_str() {
        "pause" => ScheduleRule::Pause,
        "resume" => ScheduleRule::Resume,
        "run" => ScheduleRule::Run,
        "remove" => {
            api::remove_schedule(&app, &name).await?;
            return Ok(see_other("/schedules"));
        }
        _ => return Err(ApiError::invalid("say pause, resume, run or remove").into()),
    };
    let batch = api::rule_schedule(&app, &operator, &name, &rule).await?;
    Ok(see_other(&batch.map_or_else(|| format!("/schedules/{name}"), |number| format!("/batches/{number}"))))
}

fn asked(form: NewForm) -> Result<NewSchedule, ApiError> {
    let names = words(&form.names);
    let again = match form.what.as_str() {
        "hosts" => {
            let profile = if form.profile.is_empty() { "standard" } else { &form.profile };
            let profile = profile.parse().map_err(|e: UnknownProfile| ApiError::invalid(e.to_string()))?;
            Again::Hosts { names, labels: words(&form.labels), kinds: Vec::new(), profile }
        }
        "recipes" => Again::Recipes { names, folder: None },
        "image" => match <[String; 1]>::try_from(names) {
            Ok([name]) => Again::Image { name },
            Err(_) => return Err(ApiError::invalid("name one image; a schedule tests one")),
        },
        _ => return Err(ApiError::invalid("say hosts, recipes or image")),
    };
    let at_most = number(&form.at_most, "how many at once")?;
    // What is left empty is as usual for what is tested.
    let limits = at_most.map(|n| Limits {
        at_most: Some(n),
        stop_after: again.is_hosts().then_some(assay_model::schedule::STOP_AFTER),
    });
    let zone = Some(form.zone.trim().to_owned()).filter(|zone| !zone.is_empty());
    Ok(NewSchedule {
        name: form.name.trim().to_owned(),
        cron: form.cron,
        zone,
        catch_up_s: None,
        spread_s: None,
        again,
        limits,
    })
}

fn draw(schedule: Schedule, now: Micros) -> Drawn {
    let badge = match (&schedule.problem, &schedule.paused) {
        (Some(_), _) => Badge::bad("Does nothing"),
        (None, Some(_)) => Badge::idle("Paused"),
        (None, None) => Badge::good("On"),
    };
    Drawn {
        badge,
        problem: schedule.problem.as_deref().map(sentence),
        does: sentence(&schedule.does),
        limits: schedule.limits.told(),
        when: format!("{} {}", schedule.cron, schedule.zone),
        created_by: schedule.created_by,
        created: When::new(schedule.created_at, now),
        resting: schedule.paused.map(|paused| format!("Paused by {}", paused.by)),
        next: schedule.next.into_iter().map(|next| (next.shown, When::new(next.at, now))).collect(),
        times: schedule.times.into_iter().map(|time| time_line(time, now)).collect(),
        name: schedule.name,
    }
}

fn time_line(time: Time, now: Micros) -> TimeLine {
    let badge = match time.kind.as_str() {
        "missed" => Badge::warning("Missed"),
        "caught_up" => Badge::good("Caught up"),
        "asked" => Badge::good("Out of turn"),
        _ => Badge::good("In time"),
    };
    let before = if time.missed > 0 { format!("; {} before it missed", time.missed) } else { String::new() };
    let progress = time.progress.map(|progress| format!("{progress}; ")).unwrap_or_default();
    let told = sentence(&format!("{progress}{}{before}", time.note));
    TimeLine { badge, due: When::new(time.due, now), batch: time.batch, told }
}

#[cfg(test)]
mod tests {
    use assay_api::again::{At, Paused};

    use super::*;

    fn schedule() -> Schedule {
        let at = |hours: i64| At {
            at: Micros::seconds(hours * 3600),
            shown: format!("Thu 1 Jan {hours:02}:00:12 UTC"),
        };
        let time = |kind: &str, batch: Option<i64>| Time {
            due: Micros::seconds(0),
            at: Micros::seconds(30),
            kind: kind.to_owned(),
            missed: 2,
            batch,
            progress: batch.map(|_| "1 of 3, 1 under way".to_owned()),
            note: "3 targets; there is no host `<b>x`".to_owned(),
        };
        Schedule {
            name: "nightly".to_owned(),
            problem: None,
            cron: "0 3 * * *".to_owned(),
            zone: "Europe/Berlin".to_owned(),
            catch_up_s: 43_200,
            spread_s: 300,
            does: "vet all hosts (standard)".to_owned(),
            again: None,
            limits: Limits { at_most: Some(1), stop_after: Some(2) },
            paused: None,
            created_by: "mara".to_owned(),
            created_at: Micros::seconds(0),
            next: vec![at(3), at(4)],
            times: vec![time("caught_up", Some(7)), time("missed", None)],
        }
    }

    fn html(schedule: Schedule) -> String {
        let schedule = draw(schedule, Micros::seconds(60));
        SchedulePage { shell: Shell::bare(), schedule }.render().expect("renders")
    }

    #[test]
    fn a_schedule_shows_when_it_is_next_and_what_became_of_its_times() {
        let shown = html(schedule());
        assert!(!shown.contains("<b>x"), "{shown}");
        for wanted in [
            "0 3 * * * Europe/Berlin",
            "Thu 1 Jan 03:00:12 UTC",
            "in 2 h",
            "/batches/7",
            "1 of 3, 1 under way",
            "2 before it missed",
            "Caught up",
            "1 at once, stops after 2 failures",
            "value=\"pause\"",
        ] {
            assert!(shown.contains(wanted), "{wanted}: {shown}");
        }
        let paused = Some(Paused { by: "mara".to_owned(), since: Micros::seconds(0) });
        let resting = html(Schedule { paused, next: Vec::new(), ..schedule() });
        assert!(resting.contains("Paused by mara") && resting.contains("value=\"resume\""), "{resting}");
        let broken = html(Schedule { problem: Some("there is no time zone `X`".to_owned()), ..schedule() });
        assert!(broken.contains("There is no time zone `X`."), "{broken}");
    }

    #[test]
    fn a_form_says_what_is_tested() {
        let form = |what: &str, names: &str, at_most: &str| NewForm {
            name: " nightly ".to_owned(),
            cron: "0 3 * * *".to_owned(),
            zone: String::new(),
            what: what.to_owned(),
            names: names.to_owned(),
            labels: String::new(),
            profile: String::new(),
            at_most: at_most.to_owned(),
        };
        let told = |form| asked(form).map(|new| (new.again.told(), new.limits.map(|limits| limits.told())));
        let hosts = told(form("hosts", "db-1 db-2", "3")).expect("reads");
        let limits = Some("3 at once, stops after 2 failures".to_owned());
        assert_eq!(hosts, ("vet db-1, db-2 (standard)".to_owned(), limits));
        assert_eq!(
            told(form("recipes", "", "")).expect("reads"),
            ("test all known recipes".to_owned(), None)
        );
        assert_eq!(told(form("image", "node", "")).expect("reads").0, "test image node");
        for wrong in
            [form("image", "", ""), form("image", "a b", ""), form("all", "", ""), form("hosts", "", "x")]
        {
            assert!(told(wrong).is_err());
        }
    }
}
