//! `/batches`: many targets that are tested again, some at a time; what one would be, and how one stands.

use askama::Template;
use assay_api::again::{Batch, BatchRule, NewBatch, Plan, Target};
use assay_model::Micros;
use assay_model::host::order::Profile;
use assay_model::schedule::{Again, Limits, STOP_AFTER};
use assay_model::text::plural;
use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::format::{When, sentence};
use super::shell::{Badge, PageError, Shell, Signed, page as finished, see_other};
use crate::api;
use crate::error::ApiError;
use crate::state::App;

#[derive(Template)]
#[template(path = "batches.html")]
struct BatchesPage {
    shell: Shell,
    batches: Vec<Line>,
    profiles: [&'static str; 3],
}

#[derive(Template)]
#[template(path = "batch_plan.html")]
struct PlanPage {
    shell: Shell,
    does: String,
    limits: String,
    targets: Vec<PlannedLine>,
    count: String,
    /// Whether there is anything to begin.
    some: bool,
    form: FleetForm,
}

#[derive(Template)]
#[template(path = "batch.html", blocks = ["state"])]
struct BatchPage {
    shell: Shell,
    batch: Drawn,
}

/// A batch in a list.
struct Line {
    number: i64,
    badge: Badge,
    progress: String,
    does: String,
    asked_by: String,
    when: When,
}

/// A batch alone.
struct Drawn {
    number: i64,
    badge: Badge,
    does: String,
    limits: String,
    asked_by: String,
    schedule: Option<String>,
    when: When,
    progress: String,
    done: usize,
    all: usize,
    /// Why it is stopped, in a sentence.
    stopped: Option<String>,
    running: bool,
    targets: Vec<TargetLine>,
}

struct TargetLine {
    name: String,
    page: String,
    badge: Badge,
    run: Option<i64>,
    note: String,
}

struct PlannedLine {
    /// Its place in the order; empty for one that is left out.
    place: String,
    name: String,
    last: Option<When>,
    against: Option<String>,
}

/// What is to be vetted: as it is typed, and carried from the plan to its beginning.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FleetForm {
    labels: String,
    kinds: String,
    profile: String,
    at_most: String,
    stop_after: String,
}

#[derive(Deserialize)]
pub(super) struct RuleForm {
    /// `stop` or `resume`.
    rule: String,
    #[serde(default)]
    why: String,
}

pub(super) async fn page(State(app): State<App>, Signed(operator): Signed) -> Result<Response, PageError> {
    let now = app.engine.now();
    let batches = api::batches(&app, None, None).await?.into_iter().map(|batch| line(batch, now)).collect();
    let profiles = Profile::ALL.map(Profile::as_str);
    finished(&BatchesPage { shell: Shell::new(&operator, "schedules"), batches, profiles })
}

/// What a batch would be. It only looks, so it is asked for as a page.
pub(super) async fn plan(
    State(app): State<App>,
    Signed(operator): Signed,
    Query(form): Query<FleetForm>,
) -> Result<Response, PageError> {
    let plan = api::plan_batch(&app, &asked(&form)?).await?;
    finished(&planned(Shell::new(&operator, "schedules"), plan, form, app.engine.now()))
}

pub(super) async fn begin(
    State(app): State<App>,
    Signed(operator): Signed,
    Form(form): Form<FleetForm>,
) -> Result<Response, PageError> {
    let batch = api::begin_batch(&app, &operator, &asked(&form)?).await?;
    Ok(see_other(&format!("/batches/{}", batch.number)))
}

pub(super) async fn one(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(number): Path<i64>,
) -> Result<Response, PageError> {
    finished(&whole(&app, Shell::new(&operator, "schedules"), number).await?)
}

/// The part that changes, alone.
pub(super) async fn fragment(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(number): Path<i64>,
) -> Result<Response, PageError> {
    let whole = whole(&app, Shell::new(&operator, "schedules"), number).await?;
    finished(&whole.as_state())
}

pub(super) async fn rule(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(number): Path<i64>,
    Form(form): Form<RuleForm>,
) -> Result<Response, PageError> {
    let rule = match form.rule.as_str() {
        "stop" => BatchRule::Stop { why: form.why },
        "resume" => BatchRule::Resume,
        _ => return Err(ApiError::invalid("say stop or resume").into()),
    };
    api::rule_batch(&app, &operator, number, rule).await?;
    Ok(see_other(&format!("/batches/{number}")))
}

async fn whole(app: &App, shell: Shell, number: i64) -> Result<BatchPage, PageError> {
    Ok(BatchPage { shell, batch: draw(api::batch(app, number).await?, app.engine.now()) })
}

/// What a form asks for.
fn asked(form: &FleetForm) -> Result<NewBatch, ApiError> {
    let profile = if form.profile.is_empty() { "standard" } else { &form.profile };
    let again = Again::Hosts {
        names: Vec::new(),
        labels: words(&form.labels),
        // A board's name has spaces in it.
        kinds: form
            .kinds
            .split(',')
            .map(str::trim)
            .filter(|kind| !kind.is_empty())
            .map(str::to_owned)
            .collect(),
        profile: profile
            .parse()
            .map_err(|e: assay_model::host::order::UnknownProfile| ApiError::invalid(e.to_string()))?,
    };
    let limits = Limits {
        at_most: number(&form.at_most, "how many at once")?.or(Some(1)),
        stop_after: number(&form.stop_after, "after how many failures")?.or(Some(STOP_AFTER)),
    };
    Ok(NewBatch { again, limits: Some(limits) })
}

/// Words between spaces or commas.
pub(super) fn words(text: &str) -> Vec<String> {
    let separate = |c: char| c == ',' || c.is_whitespace();
    text.split(separate).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A number that may be left empty.
pub(super) fn number(text: &str, what: &str) -> Result<Option<u32>, ApiError> {
    match text.trim() {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| ApiError::invalid(format!("{what} is a whole number from 1, or left empty"))),
    }
}

fn line(batch: Batch, now: Micros) -> Line {
    Line {
        badge: badge(&batch),
        number: batch.number,
        progress: batch.progress,
        does: batch.does,
        asked_by: batch.asked_by,
        when: When::new(batch.created_at, now),
    }
}

fn badge(batch: &Batch) -> Badge {
    match batch.state.as_str() {
        "stopped" => Badge::warning("Stopped"),
        "ended" if batch.counts.failed + batch.counts.no_verdict > 0 => Badge::bad("Ended, some failed"),
        "ended" => Badge::good("Ended"),
        _ if batch.counts.held > 0 => Badge::warning("Running, some held"),
        _ => Badge::active("Running"),
    }
}

fn draw(batch: Batch, now: Micros) -> Drawn {
    let badge = badge(&batch);
    let counts = batch.counts;
    let hosts = batch.again.is_hosts();
    let recipes = matches!(batch.again, Again::Recipes { .. });
    let page = |name: &str| {
        let pipeline = match (hosts, recipes) {
            (true, _) => assay_model::Pipeline::Host,
            (_, true) => assay_model::Pipeline::Recipe,
            _ => assay_model::Pipeline::Image,
        };
        super::format::target_page(hosts, pipeline, name)
    };
    let why = batch.why.filter(|why| !why.is_empty()).map(|why| format!(": {why}")).unwrap_or_default();
    let by =
        batch.stopped_by.map(|by| if by == "assay" { "by itself".to_owned() } else { format!("by {by}") });
    let stopped = by.map(|by| sentence(&format!("stopped {by}{why}")));
    Drawn {
        number: batch.number,
        badge,
        does: sentence(&batch.does),
        limits: batch.limits.told(),
        asked_by: batch.asked_by,
        schedule: batch.schedule,
        when: When::new(batch.created_at, now),
        progress: batch.progress,
        done: counts.passed + counts.failed + counts.no_verdict + counts.cancelled,
        all: counts.all,
        stopped,
        running: batch.state == "running",
        targets: batch.targets.into_iter().map(|target| target_line(page(&target.name), target)).collect(),
    }
}

fn target_line(page: String, target: Target) -> TargetLine {
    let badge = match target.stand.as_str() {
        "waits" => Badge::idle("Waits"),
        "left_out" => Badge::warning("Left out"),
        "under_way" => match target.stage.filter(|_| target.note.is_none()) {
            Some(stage) => Badge::active(format!("Under way, {stage}")),
            None => Badge::active("Under way"),
        },
        "held" => Badge::bad("Failed, held"),
        "passed" => Badge::good("Passed"),
        "failed" => Badge::bad("Failed"),
        "no_verdict" => Badge::warning("No verdict"),
        _ => Badge::idle("Cancelled"),
    };
    let note = target.note.as_deref().map(sentence).unwrap_or_default();
    TargetLine { name: target.name, page, badge, run: target.run, note }
}

fn planned(shell: Shell, plan: Plan, form: FleetForm, now: Micros) -> PlanPage {
    let mut place = 0;
    let mut left_out = 0;
    let mut targets = Vec::new();
    for target in plan.targets {
        if target.against.is_some() {
            left_out += 1;
        } else {
            place += 1;
        }
        targets.push(PlannedLine {
            place: if target.against.is_some() { "–".to_owned() } else { place.to_string() },
            name: target.name,
            last: target.last.map(|at| When::new(at, now)),
            against: target.against.as_deref().map(sentence),
        });
    }
    let rest = if left_out == 0 { String::new() } else { format!(", {left_out} left out") };
    PlanPage {
        shell,
        does: sentence(&plan.does),
        limits: plan.limits.told(),
        count: format!("{}{rest}", plural(place, "machine")),
        some: place > 0,
        targets,
        form,
    }
}

#[cfg(test)]
mod tests {
    use assay_api::again::{Counts, Planned};

    use super::*;

    fn target(name: &str, stand: &str, run: Option<i64>, note: Option<&str>) -> Target {
        Target {
            name: name.to_owned(),
            stand: stand.to_owned(),
            run,
            state: None,
            stage: (stand == "under_way").then(|| "Storage".to_owned()),
            note: note.map(str::to_owned),
        }
    }

    fn batch() -> Batch {
        Batch {
            number: 3,
            does: "vet all hosts (standard)".to_owned(),
            again: asked(&FleetForm::default()).expect("reads").again,
            limits: Limits { at_most: Some(2), stop_after: Some(2) },
            asked_by: "mara".to_owned(),
            schedule: None,
            created_at: Micros::seconds(900),
            state: "running".to_owned(),
            stopped_by: None,
            why: None,
            since: Micros::seconds(900),
            progress: "1 of 4, 1 under way, 1 held, 1 left out".to_owned(),
            counts: Counts {
                all: 4,
                passed: 1,
                under_way: 1,
                held: 1,
                waiting: 1,
                left_out: 1,
                ..Counts::default()
            },
            targets: vec![
                target("db-1", "passed", Some(4), None),
                target("db-2", "held", Some(5), None),
                target("<b>db-3", "under_way", Some(6), None),
                target("db-4", "waits", None, None),
                target("db-5", "left_out", None, Some("the cluster sees the node <i>db-5</i> online")),
            ],
        }
    }

    fn html(batch: Batch) -> String {
        let batch = draw(batch, Micros::seconds(1000));
        BatchPage { shell: Shell::bare(), batch }.render().expect("renders")
    }

    #[test]
    fn a_batch_shows_how_far_it_is_and_why_a_machine_is_left_out() {
        let shown = html(batch());
        assert!(!shown.contains("<b>db-3") && !shown.contains("<i>db-5"), "{shown}");
        for wanted in [
            "Batch 3",
            "Vet all hosts (standard)",
            "2 at once, stops after 2 failures",
            "1 of 4, 1 under way, 1 held, 1 left out",
            "/runs/5",
            "Failed, held",
            "Under way, Storage",
            "/hosts/db-1",
            "online.",
            "value=\"stop\"",
        ] {
            assert!(shown.contains(wanted), "{wanted}: {shown}");
        }
        assert!(!shown.contains("value=\"resume\""), "{shown}");
        let stopped = Batch {
            state: "stopped".to_owned(),
            stopped_by: Some("assay".to_owned()),
            why: Some("2 failed: db-1 (run 4), db-2 (run 5)".to_owned()),
            ..batch()
        };
        let shown = html(stopped);
        assert!(shown.contains("Stopped by itself: 2 failed: db-1 (run 4), db-2 (run 5)"), "{shown}");
        assert!(shown.contains("value=\"resume\"") && !shown.contains("value=\"stop\""), "{shown}");
    }

    #[test]
    fn a_plan_is_begun_only_where_there_is_something_to_begin() {
        let one = |name: &str, against: Option<&str>| Planned {
            name: name.to_owned(),
            last: None,
            against: against.map(str::to_owned),
        };
        let page = |targets| {
            let limits = Limits { at_most: Some(1), stop_after: Some(2) };
            let plan = Plan { does: "vet all hosts (quick)".to_owned(), limits, targets };
            let form = FleetForm { labels: "rack7 \"x\"".to_owned(), ..FleetForm::default() };
            planned(Shell::bare(), plan, form, Micros::seconds(0)).render().expect("renders")
        };
        let both = page(vec![one("db-1", None), one("db-2", Some("it is in run 4 (Running)"))]);
        for wanted in
            ["1 machine, 1 left out", "Never", "It is in run 4 (Running)", "rack7 &#34;x&#34;", "Begin"]
        {
            assert!(both.contains(wanted), "{wanted}: {both}");
        }
        assert!(!page(vec![one("db-2", Some("x"))]).contains("Begin</button>"));
    }

    #[test]
    fn forms_are_read_as_people_fill_them_in() {
        let form = FleetForm {
            labels: " rack7, db\n".to_owned(),
            kinds: "Supermicro / X11, MZ32".to_owned(),
            profile: "quick".to_owned(),
            at_most: " 3 ".to_owned(),
            stop_after: String::new(),
        };
        let asked = asked(&form).expect("reads");
        assert_eq!(
            asked.again.told(),
            "vet those labelled rack7, those labelled db, those of kind Supermicro / X11, those of kind MZ32 (quick)"
        );
        assert_eq!(asked.limits, Some(Limits { at_most: Some(3), stop_after: Some(STOP_AFTER) }));
        assert!(super::asked(&FleetForm { at_most: "many".to_owned(), ..form.clone() }).is_err());
        assert!(super::asked(&FleetForm { profile: "deep".to_owned(), ..form }).is_err());
    }
}
