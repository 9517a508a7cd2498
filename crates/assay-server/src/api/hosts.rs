//! `/api/v1/hosts`: registered machines.

use assay_api::again::Labels;
use assay_api::operator::{Adopted, Host, NewHost, RunSummary, Vet};
use assay_engine::requests::{BOOT_TIMEOUT_S, HOLD_S, VetOptions};
use assay_model::host::spec::HostSpec;
use assay_model::{Decision, DecisionKind, HostId};
use assay_netboot::power::Method;
use assay_store::{HostRow, RunFilter};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use super::runs::{row_summary, summary};
use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;
use crate::wire::JsonBody;

/// The stage that boots memtest86+.
const MEMTEST: &str = "Memtest86";
/// Longest spec taken, in bytes.
const MAX_SPEC: usize = 256 << 10;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/hosts", get(list).post(add))
        .route("/api/v1/hosts/{name}", get(show).put(replace).delete(remove))
        .route("/api/v1/hosts/{name}/vet", post(vet_host))
        .route("/api/v1/hosts/{name}/labels", put(label))
        .route("/api/v1/hosts/{name}/adopt", get(captured).post(adopt))
        .route("/api/v1/hosts/{name}/release", post(release))
}

/// Registers (or replaces) a host after checking everything that can be checked now.
pub(crate) async fn register(app: &App, new: NewHost, replace: bool) -> Result<Host, ApiError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if new.name.is_empty() || new.name.len() > 64 || !new.name.bytes().all(plain) {
        return Err(ApiError::invalid("a host's name has letters, digits, `.`, `_` and `-`, at most 64"));
    }
    if new.macs.is_empty() {
        return Err(ApiError::invalid("a host needs at least one MAC address to boot from"));
    }
    if let Some(yaml) = &new.spec_yaml {
        if yaml.len() > MAX_SPEC {
            return Err(ApiError::invalid(format!("the spec is larger than {} KiB", MAX_SPEC >> 10)));
        }
        HostSpec::from_yaml(yaml).map_err(|e| ApiError::invalid(e.to_string()))?;
    }
    let power = new.power.unwrap_or_else(|| json!({ "method": "manual" }));
    Method::read(&power).map_err(|problem| {
        ApiError::invalid(problem)
            .hint("docs/guide/power.md lists the settings; passwords stay with the runner")
    })?;
    let known = app.engine.store().host_by_name(&new.name).await?;
    if known.is_some() && !replace {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "exists",
            format!("{} is registered already", new.name),
        )
        .hint("use `assay host add --replace` to change it"));
    }
    let row = HostRow {
        id: known.as_ref().map_or_else(|| HostId(uuid::Uuid::now_v7()), |k| k.id),
        name: new.name,
        macs: new.macs,
        spec_yaml: new.spec_yaml.unwrap_or_default(),
        power,
        created_at: known.map_or(app.engine.now(), |k| k.created_at),
    };
    store_host(app, &row).await?;
    for mac in &row.macs {
        app.engine.store().unknown_forget(*mac).await?;
    }
    let labels = labels(app, row.id).await?;
    Ok(host(row, labels, None))
}

/// Queues a run.
pub(crate) async fn vet(app: &App, name: &str, vet: Vet, by: &str) -> Result<RunSummary, ApiError> {
    let row = find(app, name).await?;
    // It is needed only there, so it is asked for only there.
    if wants_memtest(&row, &vet)
        && let Some(problem) = crate::memtest::problem()
    {
        return Err(ApiError::invalid(problem));
    }
    let options = VetOptions {
        profile: vet.profile.unwrap_or_else(|| "standard".to_owned()),
        boot_timeout_s: vet.boot_timeout_s.unwrap_or(BOOT_TIMEOUT_S),
        hold_s: vet.hold_s.unwrap_or(HOLD_S),
        holds: !vet.no_hold,
        muted: vet.muted,
        options: vet.options,
        only: vet.only_stages,
        with: vet.with_stages,
        by: by.to_owned(),
    };
    let run = app.engine.vet(&row, options).await?;
    Ok(summary(app, &run))
}

fn wants_memtest(row: &HostRow, vet: &Vet) -> bool {
    let asked = vet.only_stages.iter().chain(&vet.with_stages).any(|stage| stage == MEMTEST);
    let by_spec = HostSpec::from_yaml(&row.spec_yaml).is_ok_and(|spec| spec.stages.contains_key(MEMTEST));
    asked || (by_spec && vet.only_stages.is_empty())
}

/// All hosts, each with its latest run.
pub(crate) async fn hosts_with_latest(app: &App) -> Result<Vec<Host>, ApiError> {
    let mut out = Vec::new();
    let mut labels = app.engine.store().host_labels().await?;
    for row in app.engine.store().hosts().await? {
        let latest = latest(app, row.id).await?;
        let labels = labels.remove(&row.id).unwrap_or_default().into_iter().collect();
        out.push(host(row, labels, latest));
    }
    Ok(out)
}

/// One host with its latest run.
pub(crate) async fn host_with_latest(app: &App, name: &str) -> Result<Host, ApiError> {
    let row = find(app, name).await?;
    let (labels, latest) = (labels(app, row.id).await?, latest(app, row.id).await?);
    Ok(host(row, labels, latest))
}

/// Forgets a host, unless a run has it now.
pub(crate) async fn remove_host(app: &App, name: &str) -> Result<(), ApiError> {
    let row = find(app, name).await?;
    if app.engine.open_run_of(row.id).await?.is_some() {
        return Err(ApiError::new(StatusCode::CONFLICT, "busy", format!("{name} has an open run"))
            .hint("decide about the run first: `assay run list`"));
    }
    app.engine.store().host_remove(&row.name).await?;
    Ok(())
}

async fn list(State(app): State<App>, _: Operator) -> Result<Json<Vec<Host>>, ApiError> {
    Ok(Json(hosts_with_latest(&app).await?))
}

async fn add(
    State(app): State<App>,
    _: Operator,
    JsonBody(new): JsonBody<NewHost>,
) -> Result<(StatusCode, Json<Host>), ApiError> {
    Ok((StatusCode::CREATED, Json(register(&app, new, false).await?)))
}

async fn replace(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
    JsonBody(mut new): JsonBody<NewHost>,
) -> Result<Json<Host>, ApiError> {
    new.name = name;
    Ok(Json(register(&app, new, true).await?))
}

async fn show(State(app): State<App>, _: Operator, Path(name): Path<String>) -> Result<Json<Host>, ApiError> {
    Ok(Json(host_with_latest(&app, &name).await?))
}

async fn remove(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    remove_host(&app, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn vet_host(
    State(app): State<App>,
    operator: Operator,
    Path(name): Path<String>,
    JsonBody(options): JsonBody<Vet>,
) -> Result<(StatusCode, Json<RunSummary>), ApiError> {
    Ok((StatusCode::CREATED, Json(vet(&app, &name, options, &operator.name).await?)))
}

/// Replaces a host's labels.
async fn label(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
    JsonBody(asked): JsonBody<Labels>,
) -> Result<Json<Host>, ApiError> {
    let row = find(&app, &name).await?;
    app.engine.label_host(row.id, &asked.labels).await?;
    Ok(Json(host_with_latest(&app, &name).await?))
}

/// What the machine's newest inventory comes to as a spec; changes nothing.
async fn captured(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
) -> Result<Json<Adopted>, ApiError> {
    let row = find(&app, &name).await?;
    let (run, spec_yaml) = app.engine.capture(&row).await?;
    Ok(Json(Adopted { run, spec_yaml, stored: false }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Adopt {
    /// The run whose inventory was looked at: another one since then is no longer what was agreed to.
    run: i64,
}

/// Makes that spec the registered one.
async fn adopt(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
    JsonBody(agreed): JsonBody<Adopt>,
) -> Result<Json<Adopted>, ApiError> {
    let mut row = find(&app, &name).await?;
    let (run, spec_yaml) = app.engine.capture(&row).await?;
    if run != agreed.run {
        let message = format!("run {run} has seen the machine since; look at what it comes to now");
        return Err(ApiError::new(StatusCode::CONFLICT, "newer_inventory", message));
    }
    row.spec_yaml.clone_from(&spec_yaml);
    store_host(&app, &row).await?;
    Ok(Json(Adopted { run, spec_yaml, stored: true }))
}

async fn store_host(app: &App, row: &HostRow) -> Result<(), ApiError> {
    app.engine.store().host_put(row).await.map(drop).map_err(|e| match e {
        assay_store::HostError::MacTaken { mac, host } => {
            ApiError::new(StatusCode::CONFLICT, "mac_taken", format!("{mac} belongs to {host} already"))
        }
        assay_store::HostError::Store(store) => store.into(),
    })
}

#[derive(Deserialize)]
struct Release {
    #[serde(default)]
    why: String,
}

/// Gives a held machine back: the same as abandoning its run.
async fn release(
    State(app): State<App>,
    operator: Operator,
    Path(name): Path<String>,
    JsonBody(release): JsonBody<Release>,
) -> Result<Json<RunSummary>, ApiError> {
    let row = find(&app, &name).await?;
    let run = app
        .engine
        .open_run_of(row.id)
        .await?
        .ok_or_else(|| ApiError::not_found(format!("open run of {name}")))?;
    let decision =
        Decision { kind: DecisionKind::Abandon, by: operator.name, why: release.why, serials: Vec::new() };
    let view = app.engine.decide(run, decision).await?;
    Ok(Json(summary(&app, &view)))
}

pub(super) async fn find(app: &App, name: &str) -> Result<HostRow, ApiError> {
    app.engine.store().host_by_name(name).await?.ok_or_else(|| {
        ApiError::not_found(format!("host `{name}`"))
            .hint("see `assay host list`, or register it with `assay host add`")
    })
}

async fn latest(app: &App, host: HostId) -> Result<Option<RunSummary>, ApiError> {
    let filter = RunFilter { target: Some(host.into()), limit: 1, ..RunFilter::default() };
    let rows = app.engine.store().list_runs(filter).await?;
    Ok(rows.into_iter().next().map(|row| row_summary(row, None)))
}

async fn labels(app: &App, host: HostId) -> Result<Vec<String>, ApiError> {
    let labels = app.engine.store().host_labels().await?.remove(&host);
    Ok(labels.unwrap_or_default().into_iter().collect())
}

fn host(row: HostRow, labels: Vec<String>, latest: Option<RunSummary>) -> Host {
    Host {
        labels,
        name: row.name,
        macs: row.macs,
        spec_yaml: Some(row.spec_yaml).filter(|yaml| !yaml.trim().is_empty()),
        power: row.power,
        created_at: row.created_at,
        latest,
    }
}
