//! Doing what [`crate::decide`] decided. Each act is one journal transaction, or work whose
//! repetition is harmless followed by one; a crash in between costs nothing but the work.

use assay_model::event::PowerAction;
use std::sync::Arc;

use assay_artifacts::Verified;
use assay_model::host::inventory::Inventory;
use assay_model::host::order::{Profile, Replacement};
use assay_model::host::parts::{PartId, parts};
use assay_model::host::spec::HostSpec;
use assay_model::state::FailedAt;
use assay_model::view::AttemptOutcome;
use assay_model::{
    Decision, DecisionKind, EventBody, Finding, Judgement, Micros, Owner, Pipeline, RunResult, RunState,
    RunView, Severity, Sha256, StageName, Verdict, journal,
};
use assay_pipelines::image::{self, ImageInput};
use assay_pipelines::recipe::{self, RecipeInput};
use assay_pipelines::{JudgeInput, SensorSummary, host};
use assay_store::{Bulk, Changes, RunFilter, Write};
use serde_json::{Value, json};

use crate::deaths;
use crate::decide::{Action, Death, News};
use crate::{Engine, EngineError, ReportFacts};

/// The code of a disk that holds data which nobody has given up: what a permit names disks of.
pub(crate) const UNEXPECTED_DATA: &str = "UnexpectedData";

/// The code of an empty disk that nobody has given up to an installer.
pub(crate) const ERASE_NOT_PERMITTED: &str = "EraseNotPermitted";

/// Most parts in two machines that are told: with more of them, both are the same machine.
const MAX_TWINS: usize = 16;

/// No limit, where the whole run is wanted.
const ALL: u32 = i32::MAX as u32;

impl Engine {
    /// Does one thing. The journal is re-read inside the transaction, so an action that no longer
    /// fits (somebody else was faster) is refused by the transition function and changes nothing.
    pub async fn act(&self, run: &RunView, action: Action) -> Result<(), EngineError> {
        let id = run.id;
        let one = |event: EventBody| Changes { events: vec![event], writes: Vec::new() };
        let changes = match action {
            Action::Wait { .. } => return Ok(()),
            Action::Admit { runner } => {
                let started = notify(run, "RunStarted", json!({ "runner": runner }));
                Changes { events: vec![EventBody::Admitted { runner }], writes: vec![started] }
            }
            Action::Power { action } => return self.request_power(run, action).await,
            Action::BootFailed { message } => boot_failed(run, message),
            Action::Start { index, attempt } => return self.start(run, index, attempt).await,
            Action::Collect => return self.collect_integrity(run).await,
            Action::Judge => return self.judge(run).await,
            Action::GiveUp { reason } => return self.close(run, Judgement::error(reason)).await,
            Action::Lose { reason } => return self.lose(run, reason).await,
            Action::Died { how } => return self.died(run, &how).await,
            Action::Tell { news } => return self.tell(run, news).await,
            Action::Suspect => {
                let last_seen = self.live.last_seen(id);
                let silent = notify(run, "MachineSuspect", json!({ "last_seen": last_seen }));
                Changes { events: vec![EventBody::AgentSuspect { last_seen }], writes: vec![silent] }
            }
            Action::Returned => one(EventBody::AgentReturned),
            Action::Bind => {
                self.live.set_bound(id, self.now());
                let events = self.bind(run).await?;
                Changes { events, writes: Vec::new() }
            }
            Action::Hold => self.hold(run),
            Action::ExpireHold => {
                let released = notify(run, "RunReleased", json!({ "why": "the hold ran out" }));
                Changes { events: vec![EventBody::HoldExpired], writes: vec![released] }
            }
            Action::Complete => {
                let result = run.aggregate();
                let body = json!({ "result": result, "overridden": run.overridden });
                let completed = notify(run, "RunCompleted", body);
                let events = vec![EventBody::RunCompleted { result }];
                Changes { events, writes: vec![completed] }
            }
            Action::ConfirmCancel { how } => one(EventBody::CancelConfirmed { how }),
            Action::Overtake { by } => overtaken(by),
            Action::Supersede { by } => one(EventBody::Superseded { by }),
            Action::Seal => return self.seal(run).await,
        };
        if changes.events.is_empty() && changes.writes.is_empty() {
            return Ok(());
        }
        self.transact(id, |_| Ok(changes)).await.map(drop)
    }

    async fn request_power(&self, run: &RunView, action: PowerAction) -> Result<(), EngineError> {
        // An installer is let loose by this: everything that allows it is looked at once more.
        if action == PowerAction::Medium
            && let Err(refused) = self.ask_again(run).await
        {
            return self.close(run, *refused).await;
        }
        self.live.set_off(run.id, false);
        let (known, seq) = (run.power.len(), run.seq);
        self.transact(run.id, |fresh| {
            if fresh.power.len() != known {
                return Err(EngineError::Refused("power was requested meanwhile".to_owned()));
            }
            if action == PowerAction::Medium && fresh.seq != seq {
                return Err(EngineError::Refused("news came in since the machine was cleared".to_owned()));
            }
            let job = format!("{}-power-{}", fresh.created.number, known + 1);
            let events = vec![EventBody::PowerRequested { job, action }];
            Ok(Changes { events, writes: Vec::new() })
        })
        .await
        .map(drop)
    }

    async fn start(&self, run: &RunView, index: usize, attempt: u32) -> Result<(), EngineError> {
        let stage = run.stages[index].plan.name.clone();
        let generation = run.generation + 1;
        let events = vec![EventBody::StageStarted { stage, index, attempt, generation }];
        self.transact(run.id, |_| Ok(Changes { events, writes: Vec::new() })).await?;
        let until = self.now().plus(self.tuning.lease);
        self.store.lease_put(run.id, generation, "agent", until).await?;
        Ok(())
    }

    async fn lose(&self, run: &RunView, reason: String) -> Result<(), EngineError> {
        let Some((stage, attempt)) = run.open_attempt() else { return Ok(()) };
        let (stage, attempt) = (stage.plan.name.clone(), attempt.attempt);
        let mut events = self.bind(run).await?;
        events.push(EventBody::AttemptLost { stage, attempt, reason });
        let known = run.seq;
        self.transact(run.id, |fresh| unmoved(fresh, known, Changes { events, writes: Vec::new() }))
            .await
            .map(drop)
    }

    async fn died(&self, run: &RunView, how: &Death) -> Result<(), EngineError> {
        let Some((stage, attempt)) = run.open_attempt() else { return Ok(()) };
        let judgement = deaths::judgement(run, stage, attempt, how);
        self.close(run, judgement).await
    }

    /// Tells people, once: a notification with a known name is stored once, even when a restart has forgotten it.
    async fn tell(&self, run: &RunView, news: News) -> Result<(), EngineError> {
        let (event, payload) = match news {
            News::HoldExpiring { until } => {
                ("HoldExpiring", json!({ "failed_stage": run.failed_stage(), "hold_until": until }))
            }
            News::RunStale { since } => ("RunStale", json!({ "state": run.state(), "since": since })),
        };
        let key = news.key();
        let mut write = notify(run, event, payload);
        if let Write::Notify { id, .. } = &mut write {
            *id = format!("{}:{key}", run.id);
        }
        self.transact(run.id, |_| Ok(Changes { events: Vec::new(), writes: vec![write] })).await?;
        self.live.set_told(run.id, key);
        Ok(())
    }

    /// Judges the open attempt's evidence.
    async fn judge(&self, run: &RunView) -> Result<(), EngineError> {
        let Some((stage, attempt)) = run.open_attempt() else { return Ok(()) };
        let Some(evidence) = &attempt.evidence else { return Ok(()) };
        let name = stage.plan.name.as_str();
        let unknown = || Judgement::error(format!("this Assay knows no stage {name}"));
        // Who collects decides who judges: what the agent on a machine brings is about the machine, whatever the run is for.
        let of_machine = run.created.has_machine() && stage.plan.owner == Owner::Agent;
        let mut judgement = match (&evidence.problem, run.created.pipeline) {
            (Some(problem), _) => Judgement::error(problem.clone()),
            (None, pipeline) if of_machine || pipeline == Pipeline::Host => match host::collected(name) {
                None => unknown(),
                Some(judge) => {
                    let facts = self.facts(run, evidence.digest).await?;
                    unless_it_panics(|| host::judge(judge, &facts.input()))
                }
            },
            (None, Pipeline::Recipe) => match recipe::stage(name) {
                None => unknown(),
                Some(judge) => {
                    let spec = recipe::RecipeSpec::of(&run.created.spec).map_err(EngineError::Invalid)?;
                    let (earlier, evidence) = (self.earlier(run).await?, self.json(evidence.digest).await?);
                    unless_it_panics(|| judge.judge(&RecipeInput::new(&spec, &evidence, &earlier)))
                }
            },
            (None, _) => match image::stage(name) {
                None => unknown(),
                Some(judge) => {
                    let spec = image::ImageSpec::of(&run.created.spec).map_err(EngineError::Invalid)?;
                    let (earlier, evidence) = (self.earlier(run).await?, self.json(evidence.digest).await?);
                    unless_it_panics(|| image::judge(judge, &ImageInput::new(&spec, &evidence, &earlier)))
                }
            },
        };
        if of_machine && stage.plan.name == "Inventory" {
            judgement.findings.extend(self.twins(run, evidence.digest).await?);
        }
        let image = self.image_seen(run, name, evidence.digest).await?;
        let machine = self.machine_seen(run, name, evidence.digest).await?;
        let seen = image.into_iter().chain(machine).collect();
        self.close_with(run, judgement.mute(&run.created.muted), seen).await
    }

    /// Parts of this machine that another one under test claims as well: one of the two reads a wrong number, or both
    /// are connected to the same disk.
    async fn twins(&self, run: &RunView, evidence: Sha256) -> Result<Vec<Finding>, EngineError> {
        let Some(own) = self.parts(evidence).await? else { return Ok(Vec::new()) };
        let mut findings = Vec::new();
        for other in self.store.open_views().await? {
            if findings.len() >= MAX_TWINS {
                break;
            }
            let Some(digest) =
                inventory_of(&other).filter(|_| other.created.target.id != run.created.target.id)
            else {
                continue;
            };
            let Some(theirs) = self.parts(digest).await? else { continue };
            let shared = |part: &&PartId| {
                theirs.iter().any(|t| t.kind == part.kind && part.ids.iter().any(|id| t.is(id)))
            };
            for part in own.iter().filter(shared) {
                let kind = part.kind.as_str();
                let message = format!(
                    "{kind} {} was found in {} as well (run {})",
                    part.name(),
                    other.created.target.name,
                    other.created.number
                );
                let next = "Compare the labels of both machines: the number is misread, or one part is connected to both.";
                findings.push(Finding::new("PartSeenTwice", Severity::Warning, message, next).part(
                    kind,
                    part.place.as_deref(),
                    Some(part.name()),
                ));
            }
        }
        findings.truncate(MAX_TWINS);
        Ok(findings)
    }

    /// The parts in an inventory; none when it does not read. Each is read once: machines are compared with all others
    /// under test, and a thousand of them would read a million files.
    async fn parts(&self, inventory: Sha256) -> Result<Option<Arc<Vec<PartId>>>, EngineError> {
        if let Some(known) = self.live.parts(inventory) {
            return Ok(Some(known));
        }
        let Ok(read) = Inventory::from_evidence(&self.json(inventory).await?) else { return Ok(None) };
        let found = Arc::new(parts(&read));
        self.live.set_parts(inventory, Arc::clone(&found));
        Ok(Some(found))
    }

    async fn close(&self, run: &RunView, judgement: Judgement) -> Result<(), EngineError> {
        self.close_with(run, judgement, Vec::new()).await
    }

    async fn close_with(
        &self,
        run: &RunView,
        judgement: Judgement,
        mut writes: Vec<Write>,
    ) -> Result<(), EngineError> {
        let Some((stage, attempt)) = run.open_attempt() else { return Ok(()) };
        let plan = &stage.plan;
        let mut events = self.bind(run).await?;
        if judgement.verdict.blocks(plan.required) {
            writes.push(notify(
                run,
                failure_news(&judgement, &plan.name),
                failure_facts(&judgement, &plan.name),
            ));
        }
        events.push(EventBody::StageJudged {
            stage: plan.name.clone(),
            index: run.status.stage,
            attempt: attempt.attempt,
            required: plan.required,
            judgement,
        });
        let known = run.seq;
        self.transact(run.id, |fresh| unmoved(fresh, known, Changes { events, writes })).await.map(drop)
    }

    fn hold(&self, run: &RunView) -> Changes {
        let until = self.now().plus(Micros::seconds(i64::from(run.created.hold_s)));
        let body = json!({ "failed_stage": run.failed_stage(), "hold_until": until });
        Changes { events: vec![EventBody::Held { until }], writes: vec![notify(run, "RunHeld", body)] }
    }

    /// What the Reporting stage judges: whether the evidence is whole.
    async fn collect_integrity(&self, run: &RunView) -> Result<(), EngineError> {
        let Some((stage, attempt)) = run.open_attempt() else { return Ok(()) };
        let (stage, attempt) = (stage.plan.name.clone(), attempt.attempt);
        let events = self.store.journal(run.id).await?;
        let chain = journal::verify(run.id, Sha256::ZERO, &events);
        let (mut missing, mut altered) = (Vec::new(), Vec::new());
        for artifact in &run.artifacts {
            match self.artifacts.verify(artifact.digest).await? {
                Verified::Ok => {}
                Verified::Missing => missing.push(artifact.name.clone()),
                Verified::Altered => altered.push(artifact.name.clone()),
            }
        }
        let mut evidence = json!({
            "chain_ok": chain.is_ok(),
            "chain_problem": chain.err().map(|e| e.to_string()),
            "events": events.len(),
            "artifacts": run.artifacts.len(),
            "missing_artifacts": missing,
            "altered_artifacts": altered,
        });
        if let Some(since) = self.since_green(run).await? {
            evidence["since_green"] = json!(since);
        }
        let digest = self.artifacts.put(evidence.to_string().into_bytes()).await?;
        let event = EventBody::EvidenceReceived { stage, attempt, digest, problem: None, late: false };
        self.transact(run.id, |_| Ok(Changes { events: vec![event], writes: Vec::new() })).await.map(drop)
    }

    /// Binds what is left, signs, and stores the final report.
    async fn seal(&self, run: &RunView) -> Result<(), EngineError> {
        let bound = self.bind(run).await?;
        if !bound.is_empty() {
            // The head must be known before it is signed: bind first, seal on the next turn.
            let changes = Changes { events: bound, writes: Vec::new() };
            return self.transact(run.id, |_| Ok(changes)).await.map(drop);
        }
        let events = self.store.journal(run.id).await?;
        let head = events.last().map_or(Sha256::ZERO, |e| e.hash);
        let sealed = self.sealer.seal(run, head);
        let (known, writes) = (run.seq, self.recipe_seen(run).await.into_iter().collect());
        let committed = self
            .transact(run.id, |fresh| {
                if fresh.seq != known {
                    return Err(EngineError::Refused("news came in before the seal".to_owned()));
                }
                let events = vec![EventBody::Sealed(Box::new(sealed))];
                Ok(Changes { events, writes })
            })
            .await?;
        self.finish(&committed.view).await
    }

    /// Stores the reports of a sealed run and says so in its addendum. Safe to repeat.
    pub(crate) async fn finish(&self, run: &Arc<RunView>) -> Result<(), EngineError> {
        let facts = self.report_facts(run).await?;
        let mut stored = serde_json::Map::new();
        for (name, bytes) in self.sealer.reports(&facts) {
            let digest = self.artifacts.put(bytes).await?;
            self.artifacts.link_run(run.created.number, &name, digest).await?;
            stored.insert(name, digest.to_string().into());
        }
        self.store.addendum(run.id, self.now(), "ReportStored@1", &Value::Object(stored)).await?;
        Ok(())
    }

    /// Everything that a report on the run shows, as it stands now.
    pub async fn report_facts(&self, run: &Arc<RunView>) -> Result<ReportFacts, EngineError> {
        let inventory = match inventory_of(run) {
            Some(digest) => Some(self.json(digest).await?),
            None => None,
        };
        let reporting =
            match evidence_of(run, recipe::LAST).filter(|_| run.created.pipeline == Pipeline::Recipe) {
                Some(digest) => self.json(digest).await?,
                None => Value::Null,
            };
        Ok(ReportFacts {
            run: Arc::clone(run),
            since_green: serde_json::from_value(reporting["since_green"].clone()).ok(),
            events: self.store.events_after(run.id, 0, ALL).await?,
            sensors: self.store.sensor_batches(run.id, None, ALL).await?,
            inventory,
            pictures: self.pictures(run).await?,
        })
    }

    /// Pictures of screens: as many as a report can carry.
    async fn pictures(&self, run: &RunView) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
        const MOST: usize = 60;
        const LARGEST: u64 = 512 << 10;
        let is_picture =
            |name: &str| std::path::Path::new(name).extension().is_some_and(|kind| kind == "png");
        let wanted = run.artifacts.iter().filter(|a| is_picture(&a.name) && a.bytes <= LARGEST).take(MOST);
        let mut pictures = Vec::new();
        for artifact in wanted {
            // One that is gone is named by the run's last stage.
            if let Ok(bytes) = self.artifacts.get(artifact.digest).await {
                pictures.push((artifact.name.clone(), bytes.to_vec()));
            }
        }
        Ok(pictures)
    }

    async fn bind(&self, run: &RunView) -> Result<Vec<EventBody>, EngineError> {
        let mut events = Vec::new();
        for what in Bulk::ALL {
            if let Some(rows) = self.store.bulk_unsealed(run.id, what).await? {
                events.push(EventBody::BulkSealed {
                    what: what.to_string(),
                    from: rows.from,
                    to: rows.to,
                    rows: rows.rows,
                    digest: rows.digest,
                });
            }
        }
        Ok(events)
    }

    /// The evidence of the stages that were judged so far, of each its latest.
    pub(crate) async fn earlier(&self, run: &RunView) -> Result<Vec<(StageName, Value)>, EngineError> {
        let mut earlier = Vec::new();
        for stage in &run.stages {
            let latest = stage.attempts.iter().rev().find_map(|a| match (&a.outcome, &a.evidence) {
                (AttemptOutcome::Judged(_), Some(evidence)) => Some(evidence.digest),
                _ => None,
            });
            if let Some(digest) = latest {
                earlier.push((stage.plan.name.clone(), self.json(digest).await?));
            }
        }
        Ok(earlier)
    }

    async fn facts(&self, run: &RunView, evidence: Sha256) -> Result<Facts, EngineError> {
        let earlier = self.earlier(run).await?;
        let sensors = self.store.sensor_summaries(run.id).await?;
        Ok(Facts {
            spec: serde_json::from_value(run.created.host_spec().unwrap_or(&run.created.spec).clone())
                .map_err(|e| EngineError::Invalid(format!("the run's spec does not read: {e}")))?,
            profile: run.created.profile.parse().unwrap_or_default(),
            replaced: run.created.options.replaced.clone(),
            before: self.last_passed(run).await?,
            evidence: self.json(evidence).await?,
            earlier,
            sensors: sensors
                .into_iter()
                // A sensor that never answered has no lowest and highest; it counts as missing only.
                .map(|s| SensorSummary {
                    samples: s.samples,
                    missing: s.missing,
                    min: s.min.unwrap_or(f64::NAN),
                    max: s.max.unwrap_or(f64::NAN),
                    sensor: s.sensor,
                })
                .collect(),
        })
    }

    /// The inventory of the last run that this run's host passed, where parts were replaced since.
    async fn last_passed(&self, run: &RunView) -> Result<Option<(i64, Value)>, EngineError> {
        if run.created.options.replaced.is_empty() {
            return Ok(None);
        }
        let (target, number) = (run.created.target.id, run.created.number);
        let filter = RunFilter {
            target: Some(target),
            pipeline: Some(Pipeline::Host),
            before_number: Some(number),
            limit: ALL,
            ..RunFilter::default()
        };
        for row in self.store.list_runs(filter).await? {
            if row.result != Some(RunResult::Pass) || row.overridden {
                continue;
            }
            let passed = self.view(row.id).await?;
            if let Some(digest) = inventory_of(&passed) {
                return Ok(Some((row.number, self.json(digest).await?)));
            }
        }
        Ok(None)
    }

    pub(crate) async fn json(&self, digest: Sha256) -> Result<Value, EngineError> {
        let bytes = self.artifacts.get(digest).await?;
        // Evidence was JSON when it was taken in; bytes that no longer read are judged as such.
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

/// A judge that stumbles says nothing about the target.
fn unless_it_panics(judge: impl FnOnce() -> Judgement) -> Judgement {
    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(judge));
    judged.unwrap_or_else(|_| Judgement::error("the judge stumbled over this evidence; please report it"))
}

/// What a judge of the host pipeline is shown, owned.
struct Facts {
    spec: HostSpec,
    evidence: Value,
    earlier: Vec<(StageName, Value)>,
    sensors: Vec<SensorSummary>,
    profile: Profile,
    replaced: Vec<Replacement>,
    before: Option<(i64, Value)>,
}

impl Facts {
    fn input(&self) -> JudgeInput<'_> {
        JudgeInput {
            spec: &self.spec,
            evidence: &self.evidence,
            earlier: &self.earlier,
            sensors: &self.sensors,
            profile: self.profile,
            replaced: &self.replaced,
            before: self.before.as_ref().map(|(run, value)| (*run, value)),
        }
    }
}

/// The newest inventory of a run: `SpecValidate` takes one of its own, after the first.
pub(crate) fn inventory_of(run: &RunView) -> Option<Sha256> {
    evidence_of(run, "SpecValidate").or_else(|| evidence_of(run, "Inventory"))
}

/// Where the latest evidence of a stage is.
fn evidence_of(run: &RunView, name: &str) -> Option<Sha256> {
    let stage = run.stages.iter().find(|s| s.plan.name == name)?;
    stage.attempts.iter().rev().find_map(|a| a.evidence.as_ref().map(|e| e.digest))
}

/// Under which name a stage's failure is told: each failure once, by the name that says most.
fn failure_news(judgement: &Judgement, stage: &StageName) -> &'static str {
    let found = |code: &str| judgement.findings.iter().any(|f| f.code == code);
    if found(UNEXPECTED_DATA) {
        UNEXPECTED_DATA
    } else if stage == "SpecValidate" && judgement.verdict == Verdict::Fail && !deaths::is_death(judgement) {
        "SpecMismatch"
    } else {
        "StageFailed"
    }
}

fn failure_facts(judgement: &Judgement, stage: &StageName) -> Value {
    let said: Vec<_> = judgement.findings.iter().map(|f| f.message.clone()).collect();
    json!({ "stage": stage, "verdict": judgement.verdict, "message": judgement.message, "findings": said })
}

/// The changes, unless news came in since they were decided on: evidence that arrives in the moment
/// in which its attempt is given up must not be lost.
fn unmoved(fresh: &RunView, known: i64, changes: Changes) -> Result<Changes, EngineError> {
    if fresh.seq == known {
        return Ok(changes);
    }
    Err(EngineError::Refused("news came in meanwhile".to_owned()))
}

/// The dispatcher's own decision: a later run of the same pull request makes this one pointless.
fn overtaken(by: i64) -> Changes {
    let decision = Decision {
        kind: DecisionKind::Cancel,
        by: "assay".to_owned(),
        why: format!("run {by} tests a newer commit of the same pull request"),
        serials: Vec::new(),
    };
    Changes { events: vec![EventBody::Decided { decision }], writes: Vec::new() }
}

fn boot_failed(run: &RunView, message: String) -> Changes {
    let came_back = run.state() == RunState::Running && run.enrolled.is_some();
    let finding = Finding::new(
        if came_back { "MachineDidNotReturn" } else { "MachineNeverBooted" },
        Severity::Critical,
        message.clone(),
        "Look at the machine's console: is it powered, is the registered port cabled, does it boot from the network first?",
    )
    .part("system", None, None);
    let body = json!({ "message": message });
    Changes {
        events: vec![EventBody::FindingRaised { finding }, EventBody::BootFailed { message }],
        writes: vec![notify(run, "BootFailed", body)],
    }
}

/// An outbox row; its id makes it unique per run, event and place in the journal.
pub(crate) fn notify(run: &RunView, event: &str, mut payload: Value) -> Write {
    payload["run"] = run.created.number.into();
    payload["host"] = run.created.target.name.clone().into();
    Write::Notify { id: format!("{}:{event}:{}", run.id, run.seq), event: event.to_owned(), payload }
}

/// The result to print beside a state, for logs.
pub(crate) fn result_word(result: Option<RunResult>) -> &'static str {
    result.map_or("none", RunResult::as_str)
}

/// Whether the failed run failed before any stage.
pub(crate) fn failed_at_boot(run: &RunView) -> bool {
    run.status.failed_at == Some(FailedAt::Boot)
}
