//! Intake from machines: boot fetches, enrolments, evidence.
//!
//! What comes in here was written by a machine that nobody trusts yet. It is sized and typed
//! before it gets here; here it is fenced (which run, which boot, which try) and recorded.

use assay_model::event::Refusal;
use assay_model::host::order::StageInput;
use assay_model::host::permit::SignedPermit;
use assay_model::sensor::SensorBatch;
use assay_model::view::AttemptOutcome;
use assay_model::{
    EventBody, Finding, Mac, Micros, Owner, RunId, RunState, RunView, Severity, Sha256, StageName, sentence,
    text,
};
use assay_store::{BootTokenState, Changes, CheckpointRow, LogLine, SensorRow, StoreErrorKind, Write};

use crate::install::Served;
use crate::{Engine, EngineError, permits, secret};

/// The answer to a boot fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// Boot the live image with this token.
    Live {
        /// The one-time token, in clear: it is told here and nowhere else.
        token: String,
        /// The run's number.
        number: i64,
    },
    /// Boot memtest86+, drawing on this serial console (`ttyS0,115200`).
    Memtest {
        /// The console, as the host's `power` setting names it.
        console: Option<String>,
    },
    /// Go on to the medium under test: the firmware finds it after the network.
    Medium {
        /// Why, for the machine's console.
        reason: String,
    },
    /// Boot from the local disk.
    Local {
        /// Why, for the machine's console.
        reason: String,
    },
}

/// Who wants to enrol.
#[derive(Clone, Debug)]
pub struct Applicant {
    /// The token from the kernel command line.
    pub token: String,
    /// The secret it wants to use from now on.
    pub credential: String,
    /// Every Ethernet address it has.
    pub macs: Vec<Mac>,
    /// Its SMBIOS UUID.
    pub system_uuid: Option<String>,
    /// The agent's version.
    pub agent: String,
    /// What its clock says.
    pub clock: Micros,
}

/// What the agent is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Todo {
    /// Collect a stage.
    Stage {
        /// Which.
        stage: StageName,
        /// Which try.
        attempt: u32,
        /// Fencing token.
        generation: i64,
        /// Limit in seconds.
        timeout_s: u32,
    },
    /// Nothing now.
    Wait,
    /// Held for an operator.
    Hold {
        /// Why and until when.
        message: String,
    },
    /// Switch off.
    Shutdown {
        /// Why.
        reason: String,
    },
}

/// What the agent is to do, read off the run. Pure.
pub fn todo(run: &RunView) -> Todo {
    match run.state() {
        RunState::FailedHolding => Todo::Hold {
            message: format!(
                "run {} failed at {}; held for an operator until {}",
                run.created.number,
                run.failed_stage().unwrap_or("?"),
                run.hold_until.map_or_else(|| "?".to_owned(), Micros::rfc3339),
            ),
        },
        state if state.is_terminal() || state == RunState::Cancelling => {
            Todo::Shutdown { reason: format!("run {} is {state}", run.created.number) }
        }
        _ => match run.open_attempt() {
            Some((stage, attempt))
                if stage.plan.owner == Owner::Agent
                    && attempt.evidence.is_none()
                    && run.enrolled.as_ref().is_some_and(|e| e.generation < attempt.generation) =>
            {
                Todo::Stage {
                    stage: stage.plan.name.clone(),
                    attempt: attempt.attempt,
                    generation: attempt.generation,
                    timeout_s: stage.plan.timeout_s,
                }
            }
            _ => Todo::Wait,
        },
    }
}

impl Engine {
    /// What the collector of a stage is given for this try.
    pub async fn stage_input(
        &self,
        run: &RunView,
        stage: &StageName,
        generation: i64,
    ) -> Result<StageInput, EngineError> {
        Ok(StageInput {
            profile: run.created.profile.parse().unwrap_or_default(),
            replaced: run.created.options.replaced.clone(),
            iperf: run.iperf.clone(),
            permit: self.permit_for(run, stage, generation).await?,
            checkpoint: self.checkpoint_for(run, stage, generation).await?,
        })
    }

    /// The permit to erase, for the one stage that does; the cluster is asked right before.
    async fn permit_for(
        &self,
        run: &RunView,
        stage: &StageName,
        generation: i64,
    ) -> Result<Option<SignedPermit>, EngineError> {
        if !permits::wants(stage) {
            return Ok(None);
        }
        let refused = |why: permits::NoPermit| EngineError::Refused(why.to_string());
        let spec = permits::spec_of(run).map_err(refused)?;
        let answer = permits::ask_cluster(&spec, self.guard.as_ref()).await;
        let permit = permits::mint(run, &spec, answer, generation, self.now(), secret()).map_err(refused)?;
        Ok(Some(permits::sign(&permit, |message| self.sealer.sign_permit(message))))
    }

    /// Where the last try of a stage stood, if it was lost and not judged: what was judged is behind the run, and a
    /// stage that an operator has run again begins anew.
    async fn checkpoint_for(
        &self,
        run: &RunView,
        stage: &StageName,
        generation: i64,
    ) -> Result<Option<serde_json::Value>, EngineError> {
        let Some(saved) = self.store.checkpoint(run.id, stage).await? else { return Ok(None) };
        let attempts = run.stages.iter().find(|s| s.plan.name == *stage).map_or(&[][..], |s| &s.attempts);
        let judged = attempts.iter().filter(|a| matches!(a.outcome, AttemptOutcome::Judged(_)));
        let behind = judged.map(|a| a.generation).max().unwrap_or(0);
        Ok((saved.generation > behind && saved.generation <= generation).then_some(saved.state))
    }

    /// A collector says where its stage stands. Refused unless it names the open try and its generation.
    pub async fn checkpoint(
        &self,
        run: RunId,
        stage: &StageName,
        attempt: u32,
        generation: i64,
        saved: serde_json::Value,
    ) -> Result<(), EngineError> {
        let view = self.view(run).await?;
        let open = view.open_attempt().is_some_and(|(s, a)| {
            s.plan.name == *stage
                && a.attempt == attempt
                && a.generation == generation
                && a.evidence.is_none()
        });
        let row = CheckpointRow { attempt, generation, saved_at: self.now(), state: saved };
        if !open || !self.store.checkpoint_put(run, stage, &row).await? {
            return Err(EngineError::Refused(format!(
                "try {attempt} of {stage} is over; its checkpoint is not wanted any more"
            )));
        }
        Ok(())
    }

    /// A machine fetched its boot script: mints a one-time token if it has an open run.
    pub async fn boot(&self, mac: Mac) -> Result<Boot, EngineError> {
        let local = |reason: &str| Ok(Boot::Local { reason: reason.to_owned() });
        let Some(host) = self.store.host_by_mac(mac).await? else {
            self.store.unknown_seen(&[mac], "boot fetch", self.now()).await?;
            return local("this machine is not registered with Assay");
        };
        let Some(run) = self.open_run_of(host.id).await? else {
            return local("no run is open for this machine");
        };
        if self.serve_other(run, mac).await? {
            let power = &self.view(run).await?.created.power;
            let console = power.get("console").and_then(serde_json::Value::as_str).map(str::to_owned);
            return Ok(Boot::Memtest { console });
        }
        match self.serve_medium(run, mac).await? {
            Some(Served::Medium(_)) => {
                let number = self.view(run).await?.created.number;
                return Ok(Boot::Medium {
                    reason: format!("run {number}: it goes on to the medium under test"),
                });
            }
            Some(Served::Local(reason)) => return Ok(Boot::Local { reason }),
            None => {}
        }
        let token = secret();
        let hash = Sha256::of(token.as_bytes());
        let expires = self.now().plus(self.tuning.boot_token);
        let committed = self
            .transact(run, |fresh| {
                if matches!(fresh.state(), RunState::Queued | RunState::Cancelling) {
                    return Err(EngineError::Refused("its run does not want it to boot now".to_owned()));
                }
                let boot = fresh.boots + 1;
                Ok(Changes {
                    events: vec![EventBody::BootServed { boot, mac }],
                    writes: vec![Write::MintBootToken { hash, boot, mac, expires }],
                })
            })
            .await;
        match committed {
            Ok(done) => Ok(Boot::Live { token, number: done.view.created.number }),
            Err(EngineError::Refused(why)) => Ok(Boot::Local { reason: why }),
            Err(EngineError::Illegal(why)) => Ok(Boot::Local { reason: why.to_string() }),
            Err(other) => Err(other),
        }
    }

    /// Exchanges a boot token for a credential. Saying it again with the same secret is the same
    /// enrolment; anything else with a spent, voided or expired token is refused and found.
    pub async fn hello(&self, who: &Applicant) -> Result<(std::sync::Arc<RunView>, u32), EngineError> {
        let now = self.now();
        let hash = Sha256::of(who.token.as_bytes());
        let Some(token) = self.store.boot_token(hash).await? else {
            return Err(EngineError::NotFound("boot token like that".to_owned()));
        };
        let credential = Sha256::of(who.credential.as_bytes());
        if who.credential.len() < 32 {
            return Err(EngineError::Invalid("the credential is too short".to_owned()));
        }
        let run = self.view(token.run).await?;
        let refusal = match token.state {
            BootTokenState::Spent => {
                if self.store.agent_by_credential(credential).await?.map(|(id, _)| id) == Some(token.run) {
                    self.live.heard(token.run, now);
                    return Ok((run, token.boot));
                }
                Some(Refusal::TokenReused)
            }
            BootTokenState::Voided => Some(Refusal::TokenVoided),
            BootTokenState::Live if now > token.expires => Some(Refusal::TokenExpired),
            BootTokenState::Live if !who.macs.iter().any(|m| run.created.macs.contains(m)) => {
                Some(Refusal::WrongMachine)
            }
            BootTokenState::Live => None,
        };
        if let Some(reason) = refusal {
            self.refuse(&run, reason, who).await?;
            return Err(EngineError::Refused(sentence::refusal(reason).to_owned()));
        }
        self.live.heard(token.run, now);
        self.live.set_off(token.run, false);
        let committed = self
            .transact(token.run, |fresh| {
                let generation = fresh.generation + 1;
                let enrolled = EventBody::Enrolled {
                    boot: token.boot,
                    mac: Some(token.mac),
                    system_uuid: who.system_uuid.as_deref().map(text::clean),
                    agent: text::clean(&who.agent),
                    clock_skew_us: who.clock.since(now).0,
                    generation,
                };
                let skewed = clock_finding(who.clock.since(now));
                let events = std::iter::once(enrolled)
                    .chain(skewed.map(|finding| EventBody::FindingRaised { finding }))
                    .collect();
                let writes = vec![
                    Write::SpendBootToken { hash },
                    Write::AgentCredential { hash: credential, generation },
                ];
                Ok(Changes { events, writes })
            })
            .await
            .map_err(|e| match e {
                // Two hellos with one token raced, and this one lost.
                EngineError::Store(e) if matches!(e.kind, StoreErrorKind::Conflict(_)) => {
                    EngineError::Refused(sentence::refusal(Refusal::TokenReused).to_owned())
                }
                other => other,
            })?;
        let generation = committed.view.generation;
        self.store.lease_put(token.run, generation, "agent", now.plus(self.tuning.lease)).await?;
        Ok((committed.view, token.boot))
    }

    /// The run that a credential is good for. It outlives the run by a while, for evidence that was
    /// held up and so that the machine hears that it may switch off.
    pub async fn agent(&self, credential: &str) -> Result<Option<RunId>, EngineError> {
        let hash = Sha256::of(credential.as_bytes());
        let Some((run, generation)) = self.store.agent_by_credential(hash).await? else {
            return Ok(None);
        };
        let now = self.now();
        let over = self.view(run).await?.completed_at;
        if over.is_some_and(|at| now.since(at) > self.tuning.credential) {
            return Ok(None);
        }
        let heard_before = self.live.last_seen(run);
        self.live.heard(run, now);
        if now.since(heard_before) > Micros(self.tuning.lease.0 / 3) {
            self.store.lease_renew(run, generation, now.plus(self.tuning.lease)).await?;
        }
        if now.since(heard_before) >= self.tuning.suspect_after {
            self.wake.notify_one();
        }
        Ok(Some(run))
    }

    /// The agent says what it is doing.
    pub fn heartbeat(&self, run: RunId, step: Option<&str>) {
        self.live.set_step(run, step.map(text::clean), self.now());
    }

    /// The agent is about to switch its machine off.
    pub fn off(&self, run: RunId) {
        self.live.set_off(run, true);
        self.wake.notify_one();
    }

    /// Evidence of a try arrived. Kept in any case; counts only if its try is still open and it
    /// names the try's generation. Returns whether it was late.
    pub async fn result(
        &self,
        run: RunId,
        stage: StageName,
        attempt: u32,
        generation: i64,
        evidence: Vec<u8>,
        problem: Option<String>,
    ) -> Result<bool, EngineError> {
        let digest = self.artifacts.put(evidence).await?;
        let problem = problem.map(|p| text::clean_to(&p, 2000));
        let before = self.view(run).await?;
        if before.status.sealed {
            let body = serde_json::json!({ "stage": stage, "attempt": attempt, "digest": digest });
            self.store.addendum(run, self.now(), "LateEvidence@1", &body).await?;
            return Ok(true);
        }
        if self.came_late_before(&before, &stage, attempt, digest).await? {
            return Ok(true);
        }
        let mut late = true;
        self.transact(run, |fresh| {
            let known = fresh.stages.iter().find(|s| s.plan.name == stage);
            let Some(tried) = known.and_then(|s| s.attempts.iter().find(|a| a.attempt == attempt)) else {
                return Err(EngineError::Invalid(format!(
                    "run {} has no attempt {attempt} of {stage}",
                    fresh.created.number
                )));
            };
            if tried.evidence.as_ref().is_some_and(|e| e.digest == digest) {
                late = false;
                return Ok(Changes::default());
            }
            let open = fresh.open_attempt().is_some_and(|(s, a)| {
                s.plan.name == stage && a.attempt == attempt && a.generation == generation
            });
            late = !(open && tried.evidence.is_none());
            let event = EventBody::EvidenceReceived { stage: stage.clone(), attempt, digest, problem, late };
            Ok(Changes { events: vec![event], writes: Vec::new() })
        })
        .await?;
        Ok(late)
    }

    /// Whether this very evidence of a closed attempt is in the journal already: an answer was lost,
    /// and the agent says it again.
    async fn came_late_before(
        &self,
        run: &RunView,
        stage: &StageName,
        attempt: u32,
        digest: Sha256,
    ) -> Result<bool, EngineError> {
        if run.open_attempt().is_some_and(|(s, a)| s.plan.name == *stage && a.attempt == attempt) {
            return Ok(false);
        }
        let events = self.store.events_after(run.id, 0, u32::MAX).await?;
        Ok(events.iter().any(|e| match &e.body {
            EventBody::EvidenceReceived { stage: s, attempt: a, digest: d, late: true, .. } => {
                s == stage && *a == attempt && *d == digest
            }
            _ => false,
        }))
    }

    /// A file arrived and lies in the artifact store under `digest`.
    pub async fn artifact(
        &self,
        run: RunId,
        stage: StageName,
        attempt: u32,
        name: String,
        digest: Sha256,
        bytes: u64,
    ) -> Result<(), EngineError> {
        let view = self.view(run).await?;
        self.artifacts.link_run(view.created.number, &name, digest).await?;
        if view.status.sealed {
            let body =
                serde_json::json!({ "stage": stage, "attempt": attempt, "name": name, "digest": digest });
            return Ok(self.store.addendum(run, self.now(), "LateArtifact@1", &body).await?);
        }
        self.transact(run, |fresh| {
            let repeated = fresh.artifacts.iter().any(|a| {
                a.name == name
                    && a.digest == digest
                    && a.attempt == attempt
                    && a.stage.as_ref() == Some(&stage)
            });
            if repeated {
                return Ok(Changes::default());
            }
            let late =
                !fresh.open_attempt().is_some_and(|(s, a)| s.plan.name == stage && a.attempt == attempt);
            let stage = Some(stage);
            let event = EventBody::ArtifactStored { stage, attempt, name, digest, bytes, late };
            Ok(Changes { events: vec![event], writes: Vec::new() })
        })
        .await
        .map(drop)
    }

    /// A batch of readings arrived. Returns after it is committed.
    pub async fn sensors(&self, run: RunId, seq: i64, batch: SensorBatch) -> Result<(), EngineError> {
        let boot = self.view(run).await?.enrolled.as_ref().map_or(0, |e| e.boot);
        let at = |sample: Option<&assay_model::sensor::SensorSample>| sample.map_or(self.now(), |s| s.at);
        let (from, to) = (at(batch.samples.first()), at(batch.samples.last()));
        Ok(self.store.sensors_append(SensorRow { run, boot, seq, from, to, batch }).await?)
    }

    /// Log lines arrived. Returns after they are committed.
    pub async fn log(&self, run: RunId, seq: i64, lines: &[LogLine]) -> Result<(), EngineError> {
        let boot = self.view(run).await?.enrolled.as_ref().map_or(0, |e| e.boot);
        Ok(self.store.log_append(run, boot, seq, lines).await?)
    }

    async fn refuse(&self, run: &RunView, reason: Refusal, who: &Applicant) -> Result<(), EngineError> {
        if run.status.sealed
            || run.run_findings.iter().filter(|f| f.code == refusal_code(reason)).count() >= 3
        {
            return Ok(());
        }
        let macs: Vec<_> = who.macs.iter().take(8).map(ToString::to_string).collect();
        let detail = format!(
            "{} [{}] uuid {}",
            text::clean(&who.agent),
            macs.join(", "),
            who.system_uuid.as_deref().map_or_else(|| "unknown".to_owned(), text::clean),
        );
        let finding = Finding::new(
            refusal_code(reason),
            Severity::Warning,
            format!("An enrolment was refused: {}. It came from {detail}", sentence::refusal(reason)),
            "If nobody power-cycled the machine, find out who else is on the provisioning network.",
        );
        let events =
            vec![EventBody::EnrolmentRefused { reason, detail }, EventBody::FindingRaised { finding }];
        self.transact(run.id, |_| Ok(Changes { events, writes: Vec::new() })).await.map(drop)
    }
}

/// A clock that is a day off will bite whatever is installed next.
fn clock_finding(skew: Micros) -> Option<Finding> {
    const DAY: f64 = 86_400.0;
    let seconds = skew.as_seconds();
    (seconds.abs() > DAY).then(|| {
        Finding::new(
            "ClockSkewed",
            Severity::Warning,
            format!("The machine's clock is off by {:.0} days", seconds / DAY),
            "Set the clock in the firmware; if it is lost again without power, replace the CMOS battery.",
        )
        .part("system", Some("RTC"), None)
    })
}

const fn refusal_code(reason: Refusal) -> &'static str {
    match reason {
        Refusal::TokenReused => "TokenReused",
        Refusal::TokenVoided => "TokenVoided",
        Refusal::TokenExpired => "TokenExpired",
        Refusal::WrongMachine => "TokenWrongMachine",
    }
}
