//! The engine on a bench: a real store in a temporary folder, a simulated clock, and nothing that
//! moves unless the test says so. No HTTP: an agent here is a few calls, said in the test's order.

use std::sync::Arc;

use assay_artifacts::Artifacts;
use assay_engine::agents::{Applicant, Boot, Todo, todo};
use assay_engine::requests::VetOptions;
use assay_engine::runners::{Order, Waiting, order};
use assay_engine::{Engine, EngineError, Tuning, dispatcher};
use assay_model::{
    Clock as _, Decision, DecisionKind, Event, HostId, Mac, Micros, RunId, RunView, Sha256, StageName,
    journal,
};
use assay_report::PublicKey;
use assay_store::{HostRow, OutboxRow, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::sealer::{TestSealer, statement};
use crate::{SimClock, canned, transcript};

/// The runner's name on the bench.
const RUNNER: &str = "bench";

/// An engine with one registered host and one runner that waits for work.
pub struct Bench {
    /// The time, for the test to move.
    pub clock: SimClock,
    /// The engine itself.
    pub engine: Engine,
    /// The registered host.
    pub host: HostRow,
    key: PublicKey,
    sealer: Arc<TestSealer>,
    runner: Option<Waiting>,
    folder: TempDir,
}

/// An agent that says exactly what the test tells it to say.
#[derive(Clone, Debug)]
pub struct ScriptedAgent {
    /// The run it enrolled into.
    pub run: RunId,
    /// Its bearer token.
    pub credential: String,
    /// The boot token that it spent.
    pub token: String,
}

impl Bench {
    /// A new bench. The host is `web-3`, with the canned spec.
    pub async fn new() -> Self {
        Self::with_spec(canned::SPEC).await
    }

    /// A new bench whose host has another spec.
    pub async fn with_spec(spec_yaml: &str) -> Self {
        let clock = SimClock::default();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sealer = Arc::new(TestSealer::generate());
        let engine = open(&folder, &clock, &sealer).await;
        let host = HostRow {
            id: HostId(uuid::Uuid::now_v7()),
            name: canned::HOST.to_owned(),
            macs: vec![canned::MAC],
            spec_yaml: spec_yaml.to_owned(),
            power: json!({ "method": "manual" }),
            created_at: clock.now(),
        };
        engine.store().host_put(&host).await.expect("the host is stored");
        let runner = Some(engine.waiting(RUNNER, &["manual".to_owned()]));
        Self { clock, engine, host, key: sealer.public(), sealer, runner, folder }
    }

    /// As if the server had been stopped and started again: everything that only lived in memory is
    /// gone, and the runner waits again.
    pub async fn restart(&mut self) {
        self.runner = None;
        self.engine.store().clone().close().await.expect("the store closes");
        self.engine = open(&self.folder, &self.clock, &self.sealer).await;
        self.runner = Some(self.engine.waiting(RUNNER, &["manual".to_owned()]));
    }

    /// The runner is gone, or back.
    pub fn runner_present(&mut self, present: bool) {
        self.runner = None;
        if present {
            self.runner = Some(self.engine.waiting(RUNNER, &["manual".to_owned()]));
        }
    }

    /// One turn of the dispatcher: until nothing is left to be done now.
    pub async fn turn(&self) {
        dispatcher::turn(&self.engine).await.expect("the dispatcher's turn");
    }

    /// Lets time pass, then a turn.
    pub async fn after(&self, seconds: i64) {
        self.clock.advance(Micros::seconds(seconds));
        self.turn().await;
    }

    /// How runs are asked for unless a test says otherwise.
    pub fn options() -> VetOptions {
        VetOptions {
            profile: "standard".to_owned(),
            boot_timeout_s: 600,
            hold_s: 86_400,
            holds: true,
            muted: Vec::new(),
            options: assay_model::host::order::RunOptions::default(),
            only: Vec::new(),
            with: Vec::new(),
            by: "mara".to_owned(),
        }
    }

    /// Asks for a run, and takes a turn.
    pub async fn vet(&self) -> RunId {
        self.vet_with(Self::options()).await
    }

    /// Asks for a run with other options, and takes a turn.
    pub async fn vet_with(&self, options: VetOptions) -> RunId {
        let run = self.engine.vet(&self.host, options).await.expect("the run is queued").id;
        self.turn().await;
        run
    }

    /// The run as it stands.
    pub async fn view(&self, run: RunId) -> Arc<RunView> {
        self.engine.view(run).await.expect("the run is there")
    }

    /// The runner does the power job that is due and says `ok`; what it was. A turn follows.
    pub async fn power(&self, run: RunId, ok: bool) -> Order {
        let order = order(&*self.view(run).await);
        if let Order::Power { job, .. } = &order {
            let message = if ok { "ForceRestart accepted" } else { "the BMC does not answer" };
            self.engine.power_done(run, job.clone(), ok, message).await.expect("the outcome is taken");
        }
        self.turn().await;
        order
    }

    /// The machine fetches its boot script; the token in it.
    pub async fn boot(&self) -> String {
        match self.engine.boot(canned::MAC).await.expect("an answer") {
            Boot::Live { token, .. } => token,
            Boot::Memtest { .. } => panic!("the machine was served memtest86+ in place of the live image"),
            Boot::Local { reason } | Boot::Medium { reason } => {
                panic!("the machine was told to boot locally: {reason}")
            }
        }
    }

    /// What a healthy machine says to enrol.
    pub fn applicant(&self, token: &str, credential: &str) -> Applicant {
        Applicant {
            token: token.to_owned(),
            credential: credential.to_owned(),
            macs: vec![canned::MAC, Mac([0x3c, 0xec, 0xef, 0x12, 0x34, 0x57])],
            system_uuid: Some("4c4c4544-0042".to_owned()),
            agent: "0.1.0".to_owned(),
            clock: self.clock.now(),
        }
    }

    /// The machine boots, its agent enrols and says that the machine kept no record of a crash. A turn follows.
    pub async fn enrol(&self) -> ScriptedAgent {
        self.enrol_telling(&[]).await
    }

    /// As [`Bench::enrol`], with what the machine kept of a crash: names and texts.
    pub async fn enrol_telling(&self, records: &[(&str, &str)]) -> ScriptedAgent {
        let agent = self.enrol_silently().await;
        let records = records.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        self.engine.post_mortem(agent.run, records).await.expect("it is taken");
        self.turn().await;
        agent
    }

    /// As [`Bench::enrol`], for another registered machine.
    pub async fn enrol_as(&self, mac: Mac) -> ScriptedAgent {
        let Boot::Live { token, .. } = self.engine.boot(mac).await.expect("an answer") else {
            panic!("{mac} was told to boot locally")
        };
        let credential = Sha256::of(token.as_bytes()).to_string();
        let applicant = Applicant { macs: vec![mac], ..self.applicant(&token, &credential) };
        let (run, _) = self.engine.hello(&applicant).await.expect("it may enrol");
        self.engine.post_mortem(run.id, Vec::new()).await.expect("it is taken");
        self.turn().await;
        ScriptedAgent { run: run.id, credential, token }
    }

    /// As [`Bench::enrol`], for an agent that says nothing of how the boot before it ended.
    pub async fn enrol_silently(&self) -> ScriptedAgent {
        let token = self.boot().await;
        let credential = Sha256::of(token.as_bytes()).to_string();
        let applicant = self.applicant(&token, &credential);
        let (run, _) = self.engine.hello(&applicant).await.expect("it may enrol");
        self.turn().await;
        ScriptedAgent { run: run.id, credential, token }
    }

    /// A run whose machine is switched on and enrolled; its first stage has begun.
    pub async fn running(&self) -> (RunId, ScriptedAgent) {
        self.running_with(Self::options()).await
    }

    /// As [`Bench::running`], with other options.
    pub async fn running_with(&self, options: VetOptions) -> (RunId, ScriptedAgent) {
        let run = self.vet_with(options).await;
        self.power(run, true).await;
        self.after(60).await;
        let agent = self.enrol().await;
        assert_eq!(agent.run, run, "the machine enrols into its own run");
        (run, agent)
    }

    /// The agent collects the stage that it is told to, with this evidence, and a turn follows.
    pub async fn collect(&self, agent: &ScriptedAgent, stage: &str, evidence: &Value) {
        let Todo::Stage { stage: told, attempt, generation, .. } = self.todo(agent).await else {
            panic!("the agent was not told to collect {stage}: {:?}", self.todo(agent).await);
        };
        assert_eq!(told, stage, "the agent is told another stage");
        self.clock.advance(Micros::seconds(2));
        self.result(agent, stage, attempt, generation, evidence).await.expect("the result is taken");
        self.turn().await;
    }

    /// The agent collects every stage up to and without `stage`, on a healthy machine; all for one that is not there.
    pub async fn up_to(&self, agent: &ScriptedAgent, stage: &str) {
        while let Todo::Stage { stage: told, .. } = self.todo(agent).await {
            if told == stage {
                return;
            }
            self.collect(agent, told.as_str(), &canned::evidence(told.as_str())).await;
        }
    }

    /// The same from `stage` on to the end.
    pub async fn from_on(&self, agent: &ScriptedAgent, stage: &str) {
        self.collect(agent, stage, &canned::evidence(stage)).await;
        self.rest(agent).await;
    }

    /// The agent collects what is left, on a healthy machine.
    pub async fn rest(&self, agent: &ScriptedAgent) {
        while let Todo::Stage { stage, .. } = self.todo(agent).await {
            self.collect(agent, stage.as_str(), &canned::evidence(stage.as_str())).await;
        }
    }

    /// Another engine over the same database that knows only a key of its own.
    pub fn with_another_key(&self) -> Engine {
        let (store, artifacts) = (self.engine.store().clone(), self.engine.artifacts().clone());
        let sealer = Arc::new(TestSealer::generate());
        Engine::new(store, artifacts, Arc::new(self.clock.clone()), sealer, Tuning::default())
    }

    /// The agent is heard; what it is to do.
    pub async fn todo(&self, agent: &ScriptedAgent) -> Todo {
        assert!(self.heard(agent).await, "the credential is good");
        todo(&*self.view(agent.run).await)
    }

    /// The agent says something; whether its credential is good. A turn follows.
    pub async fn heard(&self, agent: &ScriptedAgent) -> bool {
        let known = self.engine.agent(&agent.credential).await.expect("an answer").is_some();
        self.turn().await;
        known
    }

    /// A result as the agent sends it; whether it was late. No turn.
    pub async fn result(
        &self,
        agent: &ScriptedAgent,
        stage: &str,
        attempt: u32,
        generation: i64,
        evidence: &Value,
    ) -> Result<bool, EngineError> {
        let bytes = serde_json::to_vec(evidence).expect("plain data");
        self.engine.result(agent.run, StageName::from(stage), attempt, generation, bytes, None).await
    }

    /// An operator decides; a turn follows.
    pub async fn decide(&self, run: RunId, kind: DecisionKind, why: &str) -> Result<(), EngineError> {
        let decision = Decision { kind, by: "jonas".to_owned(), why: why.to_owned(), serials: Vec::new() };
        self.engine.decide(run, decision).await?;
        self.turn().await;
        Ok(())
    }

    /// The run's events.
    pub async fn events(&self, run: RunId) -> Vec<Event> {
        self.engine.store().events_after(run, 0, u32::MAX).await.expect("the events read")
    }

    /// The run's journal as readable lines.
    pub async fn lines(&self, run: RunId) -> Vec<String> {
        transcript::lines(&self.events(run).await)
    }

    /// The notifications about a run, oldest first.
    pub async fn outbox(&self, run: RunId) -> Vec<OutboxRow> {
        self.engine.store().outbox_of(run).await.expect("the outbox reads")
    }

    /// Which news there were about a run, in order. Simulated time often stands still between two of
    /// them; their ids end with the place in the journal that they belong to.
    pub async fn news(&self, run: RunId) -> Vec<String> {
        let mut rows = self.outbox(run).await;
        let place = |id: &str| id.rsplit(':').next().and_then(|seq| seq.parse::<i64>().ok());
        rows.sort_by_key(|row| (row.created_at, place(&row.outgoing.id)));
        rows.into_iter().map(|row| row.outgoing.event).collect()
    }

    /// What must hold of every journal, sealed or not: the chain verifies, folding it anew gives what
    /// the store says, and a seal says what the fold says. Returns the run.
    pub async fn check(&self, run: RunId) -> Arc<RunView> {
        let view = self.view(run).await;
        let stored = self.engine.store().journal(run).await.expect("the journal reads");
        journal::verify(run, Sha256::ZERO, &stored).expect("the chain is unbroken");
        let folded = RunView::fold(run, &self.events(run).await).expect("it is legal").expect("not empty");
        assert_eq!(folded, *view, "the stored view is the fold of the journal");
        if let Some(seal) = &view.seal {
            let signed = statement(seal, &self.key);
            let before = stored.len() - 2;
            assert_eq!(seal.head, stored[before].hash, "the seal covers all that came before it");
            assert_eq!((seal.result, seal.overridden), (view.result, view.overridden));
            let told = |path: &str| signed.pointer(path).cloned().unwrap_or(Value::Null);
            assert_eq!(told("/predicate/assay/result"), json!(view.result));
            assert_eq!(told("/predicate/assay/overridden"), json!(view.overridden));
            assert_eq!(told("/predicate/assay/state"), json!(view.state()));
            assert_eq!(told("/subject/0/digest/sha256"), json!(seal.head));
        }
        view
    }

    /// As [`Bench::check`], for a run that has come to its end; what its signed statement calls the result.
    pub async fn sealed(&self, run: RunId) -> (Arc<RunView>, String) {
        let view = self.check(run).await;
        let seal = view.seal.as_ref().expect("the run is sealed");
        let result = statement(seal, &self.key)["predicate"]["result"].as_str().expect("a word").to_owned();
        (view, result)
    }
}

async fn open(folder: &TempDir, clock: &SimClock, sealer: &Arc<TestSealer>) -> Engine {
    let path = folder.path();
    let store = Store::open(&format!("sqlite://{}/assay.db", path.display())).await.expect("the store opens");
    let artifacts = Artifacts::folder(path.join("artifacts")).expect("the artifact folder opens");
    Engine::new(store, artifacts, Arc::new(clock.clone()), Arc::clone(sealer) as _, Tuning::default())
}
