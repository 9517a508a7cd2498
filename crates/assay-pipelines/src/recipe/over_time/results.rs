//! `results.json`: what one run over a recipe came to, with everything that another run has to share to be comparable.
//!
//! A fold of the run and its evidence: nothing is stored that the journal does not say. Baselines, what changed since green, the
//! flake ledger, sweeps and A/B are in turn pure functions over lists of these.

use std::collections::BTreeMap;

use assay_model::recipe::Ladder;
use assay_model::view::StageView;
use assay_model::{Pipeline, RunResult, RunState, RunView, Severity, Sha256, StageName, Verdict, text};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::changed::SinceGreen;
use crate::recipe::RecipeSpec;
use crate::recipe::evidence::{
    BackupTaken, Deployed, Ground, ImageSeen, Linted, Phase, Ran, Reached, RestoreDone, RunnerSeen, Tested,
    TornDown, Upgraded, UpgradedFrom, Upgrades, VersionSeen,
};
use crate::recipe::harness::Harness;
use crate::recipe::pressure::Pressure;

/// The version of this form. Results of different ones are not compared: the same word may mean something else.
pub const SCHEMA: u32 = 1;

/// The lane whose green runs are baselines.
pub const STANDARD: &str = "standard";

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Assay recipe results")]
pub struct Results {
    /// The version of this form: 1.
    pub schema: u32,
    /// The run.
    pub run: RunFacts,
    /// The recipe's name.
    pub recipe: String,
    /// The version under test; none where the run did not get to read it.
    pub version: Option<VersionSeen>,
    /// The release that was installed first; none where there is none before it.
    pub base: Option<VersionSeen>,
    /// `standard` or `quick`.
    pub lane: String,
    /// Why the run speaks for less than the whole, one reason each; nothing where it speaks for it all.
    pub spared: Vec<String>,
    /// The rungs, and the level that they add up to.
    pub ladder: Ladder,
    /// What holds beside the rungs.
    pub flags: Flags,
    /// How often a stack was deployed; none where that was not counted.
    pub deploys: Option<u32>,
    /// The stages in their order.
    pub stages: Vec<StageResult>,
    /// The hooks and tests that really ran, in their order.
    pub tests: Vec<TestResult>,
    /// The images that were deployed, by their references.
    pub images: Vec<ImageSeen>,
    /// The build of Assay that decided.
    pub harness: Harness,
    /// The runner that did the work; none where none came to tell.
    pub runner: Option<RunnerFacts>,
    /// How the tests were customised.
    pub configuration: Configuration,
    /// The command line as it was asked, without secrets.
    pub invocation: Vec<String>,
    /// Of a red run: what is different from the last green one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_green: Option<SinceGreen>,
}

/// The run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunFacts {
    /// UUIDv7.
    pub id: String,
    /// The number people use.
    pub number: i64,
    /// Where it is in its life.
    pub state: RunState,
    /// The result; null while it is open, and after a runner error.
    pub result: Option<RunResult>,
    /// Whether anything was ever waived.
    pub overridden: bool,
    /// Where it failed.
    pub failed_stage: Option<String>,
    /// RFC 3339, when it was asked for.
    pub created_at: String,
    /// RFC 3339, when it ended.
    pub completed_at: Option<String>,
    /// From the moment in which a runner took it, in seconds.
    pub seconds: Option<f64>,
    /// What chance was drawn from.
    pub seed: u32,
}

/// What holds beside the rungs; none where it was not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flags {
    /// Nothing of the stack stayed.
    pub clean_teardown: Option<bool>,
    /// No secret was seen where it should not be.
    pub no_secret_leak: Option<bool>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageResult {
    /// Its name.
    pub name: String,
    /// How it came out; none where it was never judged.
    pub verdict: Option<Verdict>,
    /// How long its latest try took, in seconds.
    pub seconds: Option<f64>,
    /// One sentence.
    pub message: String,
    /// The codes of what was found, without what is only worth knowing.
    pub codes: Vec<String>,
    /// Where the time went.
    pub phases: Vec<Phase>,
    /// How short of everything the runner was meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// A hook or a test that ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TestResult {
    /// Its file below the tests' folder.
    pub name: String,
    /// The stage in which it ran.
    pub stage: String,
    /// `pass` or `fail`.
    pub verdict: Verdict,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// The runner that did the work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunnerFacts {
    /// Its name at the control plane.
    pub name: Option<String>,
    /// Its build of Assay.
    pub harness: Harness,
    /// Whether its kernel has IPVS, so that endpoints are as written; none where no daemon was started.
    pub ipvs: Option<bool>,
    /// What the stacks were deployed into.
    #[serde(default)]
    pub ground: Ground,
}

/// How the tests were customised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Configuration {
    /// A digest over everything below.
    pub sha256: Option<Sha256>,
    /// Settings that differ from the defaults, by their names, without secrets. A secret that was changed is not seen.
    pub settings: BTreeMap<String, Value>,
    /// The digests of overlay, hooks and tests, by their names.
    pub files: BTreeMap<String, String>,
    /// What was asked for that changes what is tested: `extra`, a permission to reach out.
    pub asked: BTreeMap<String, Value>,
}

impl Results {
    /// Reads them from a recipe's run and the latest evidence of its stages, as far as they are known.
    ///
    /// # Errors
    /// It is no recipe's run, or what it was created with does not read.
    pub fn of(run: &RunView, evidence: &[(StageName, Value)]) -> Result<Self, String> {
        if run.created.pipeline != Pipeline::Recipe {
            return Err(format!("run {} is not about a recipe: it has no results.json", run.created.number));
        }
        let spec = RecipeSpec::of(&run.created.spec)?;
        let linted: Option<Linted> = done(evidence, "Lint");
        let installed: Option<Deployed> = done(evidence, "Install");
        let upgraded: Option<Upgraded> = done(evidence, "Upgrade");
        // A run without Lint is of what it brought up last.
        let version = linted.as_ref().map(|linted| linted.version.clone()).or_else(|| {
            let upgraded = upgraded.as_ref().map(|upgraded| upgraded.deployed.version.clone());
            upgraded.or_else(|| installed.as_ref().map(|installed| installed.version.clone()))
        });
        let base = match &linted {
            Some(linted) => linted.bases.first().cloned(),
            None => upgraded.as_ref().map(|upgraded| upgraded.from.clone()),
        };
        let torn: Option<TornDown> = done(evidence, "Teardown");
        let (images, tests) = ran(evidence);
        Ok(Self {
            schema: SCHEMA,
            run: facts(run, spec.seed),
            recipe: run.created.target.name.clone(),
            version,
            base,
            lane: run.created.profile.clone(),
            spared: spared(run, &spec),
            ladder: Ladder::of(run),
            flags: Flags {
                clean_teardown: torn
                    .as_ref()
                    .filter(|torn| torn.kept.is_none())
                    .map(|torn| torn.left.is_empty() && torn.residue.is_empty()),
                no_secret_leak: torn.as_ref().map(|torn| torn.leaks.is_empty()),
            },
            deploys: torn.map(|torn| torn.deploys),
            stages: run.stages.iter().map(|stage| stage_of(stage, evidence)).collect(),
            tests,
            images,
            runner: runner(evidence).map(|seen| RunnerFacts {
                name: run.runner.clone(),
                harness: seen.harness,
                ipvs: seen.ipvs,
                ground: seen.ground,
            }),
            configuration: Configuration::of(&spec),
            harness: spec
                .harness
                .unwrap_or_else(|| Harness { version: run.created.harness.clone(), sha256: None }),
            invocation: spec.invocation,
            since_green: since_green(evidence),
        })
    }

    /// Whether later runs are held against it: a green one of the whole, of a commit that is in history.
    pub fn is_baseline(&self) -> bool {
        self.schema == SCHEMA
            && self.run.result == Some(RunResult::Pass)
            && !self.run.overridden
            && self.lane == STANDARD
            && self.spared.is_empty()
            && self
                .version
                .as_ref()
                .is_some_and(|version| version.commit.is_some() && version.changed.is_empty())
    }

    /// Whether something is wrong with it, as far as its stages are judged. A runner error is neither red nor green.
    pub fn is_red(&self) -> bool {
        self.stages.iter().any(|stage| stage.verdict == Some(Verdict::Fail))
            || self.run.result == Some(RunResult::Fail)
    }

    /// How a stage or a test came out by its name, where it came to something.
    pub fn outcome(&self, name: &str) -> Option<Verdict> {
        let stage = self.stages.iter().find(|stage| stage.name == name).and_then(|stage| stage.verdict);
        stage.or_else(|| self.tests.iter().find(|test| test.name == name).map(|test| test.verdict))
    }

    /// The version under test, as people name it.
    pub fn version_name(&self) -> String {
        self.version.as_ref().map_or_else(|| "a version that was not read".to_owned(), VersionSeen::name)
    }

    /// The code that says most about why it failed, and where.
    pub fn code(&self) -> Option<(&str, &str)> {
        let failed = self.stages.iter().find(|stage| stage.verdict == Some(Verdict::Fail))?;
        Some((failed.name.as_str(), failed.codes.first().map_or("", String::as_str)))
    }
}

impl Configuration {
    fn of(spec: &RecipeSpec) -> Self {
        let manifest = &spec.manifest;
        let all =
            manifest.overlay.iter().chain(manifest.hooks.values()).chain(manifest.tests.values().flatten());
        let mut asked = BTreeMap::new();
        if spec.asked.extra {
            asked.insert("extra".to_owned(), Value::Bool(true));
        }
        if !spec.asked.allowed.is_null() {
            asked.insert("allowed".to_owned(), spec.asked.allowed.clone());
        }
        let mut configuration = Self {
            sha256: None,
            settings: manifest.settings.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            files: all.map(|file| (file.name.clone(), file.sha256.clone())).collect(),
            asked,
        };
        let text = serde_json::to_vec(&configuration).unwrap_or_default();
        configuration.sha256 = Some(Sha256::of(&text));
        configuration
    }
}

fn facts(run: &RunView, seed: u32) -> RunFacts {
    RunFacts {
        id: run.id.to_string(),
        number: run.created.number,
        state: run.state(),
        result: run.result,
        overridden: run.overridden,
        failed_stage: run.failed_stage().map(str::to_owned),
        created_at: run.created_at.rfc3339(),
        completed_at: run.completed_at.map(assay_model::Micros::rfc3339),
        seconds: run.started_at.zip(run.completed_at).map(|(began, ended)| ended.since(began).as_seconds()),
        seed,
    }
}

/// Why a run speaks for less than the whole.
fn spared(run: &RunView, spec: &RecipeSpec) -> Vec<String> {
    let mut told = Vec::new();
    if spec.asked.quick {
        told.push(text::clean(&spec.left_out_by_quick()));
    }
    let left_out = &run.created.options.left_out;
    if !left_out.is_empty() && !spec.asked.quick {
        let names: Vec<&str> = left_out.iter().map(StageName::as_str).collect();
        told.push(format!("stages left out by request: {}", names.join(", ")));
    }
    if !run.created.muted.is_empty() {
        told.push(format!("checks switched off: {}", text::clean(&run.created.muted.join(", "))));
    }
    if spec.asked.skip_generic {
        told.push("the checks that every recipe gets were off".to_owned());
    }
    if spec.asked.keep {
        told.push("the stack was left up: nobody knows what would stay of it".to_owned());
    }
    told
}

fn stage_of(stage: &StageView, evidence: &[(StageName, Value)]) -> StageResult {
    let judged = stage.judgement();
    let found = evidence.iter().find(|(name, _)| *name == stage.plan.name).map(|(_, value)| value);
    let mut codes: Vec<String> = Vec::new();
    let mut findings: Vec<_> = judged.map(|judged| judged.findings.iter().collect()).unwrap_or_default();
    findings.sort_by_key(|finding: &&assay_model::Finding| std::cmp::Reverse(finding.severity));
    for finding in findings {
        if finding.severity > Severity::Info && !codes.contains(&finding.code) {
            codes.push(finding.code.clone());
        }
    }
    StageResult {
        name: stage.plan.name.0.clone(),
        verdict: stage.verdict(),
        seconds: stage.seconds(),
        message: judged.map(|judged| judged.message.clone()).unwrap_or_default(),
        codes,
        phases: found.map(phases).unwrap_or_default(),
        pressure: found.and_then(pressure_of),
    }
}

/// The parts of a stage, a restore's deployment before the rest of it, and upgrades from further releases after it.
fn phases(evidence: &Value) -> Vec<Phase> {
    let places = ["/what/fresh/phases", "/what/deployed/phases", "/what/phases"];
    let lists = places.into_iter().filter_map(|place| evidence.pointer(place));
    let own = lists.filter_map(|list| serde_json::from_value::<Vec<Phase>>(list.clone()).ok()).flatten();
    let further = evidence.pointer("/what/further").and_then(Value::as_array).into_iter().flatten();
    let further = further.filter_map(|part| serde_json::from_value::<UpgradedFrom>(part.clone()).ok());
    let further = further.map(|part| Phase {
        name: text::clean(&format!("upgrade from {}", part.from.name())),
        seconds: part.seconds,
    });
    own.chain(further).collect()
}

/// The pressure that the runner put beside the evidence of a stage.
pub fn pressure_of(evidence: &Value) -> Option<Pressure> {
    serde_json::from_value(evidence.get("pressure")?.clone()).ok()
}

/// What the runner says of itself: the latest that knows most.
fn runner(evidence: &[(StageName, Value)]) -> Option<RunnerSeen> {
    let seen: Vec<RunnerSeen> = evidence
        .iter()
        .filter_map(|(_, value)| serde_json::from_value(value.get("runner")?.clone()).ok())
        .collect();
    seen.iter().find(|seen| seen.ipvs.is_some()).or_else(|| seen.last()).cloned()
}

/// Images and executables, in the order of the stages.
fn ran(evidence: &[(StageName, Value)]) -> (Vec<ImageSeen>, Vec<TestResult>) {
    let mut images: BTreeMap<String, ImageSeen> = BTreeMap::new();
    let mut tests = Vec::new();
    for (stage, value) in evidence {
        let (deployed, all): (Vec<Deployed>, Vec<Ran>) = match stage.as_str() {
            "Install" => read::<Deployed>(value).map(|seen| (None, seen.ran.clone(), Some(seen))).map(flat),
            "Upgrade" => read::<Upgrades>(value).map(upgrades),
            "Idempotence" | "Rollback" => read::<Upgraded>(value)
                .map(|seen| (None, seen.deployed.ran.clone(), Some(seen.deployed)))
                .map(flat),
            "Restore" => read::<RestoreDone>(value)
                .map(|seen| (Some(seen.fresh.ran.clone()), seen.ran, Some(seen.fresh)))
                .map(flat),
            "Backup" => read::<BackupTaken>(value).map(|seen| (None, seen.ran, None)).map(flat),
            "Custom" => read::<Tested>(value).map(|seen| (None, seen.ran, None)).map(flat),
            _ => None,
        }
        .unwrap_or_default();
        for image in deployed.into_iter().flat_map(|deployed| deployed.images) {
            images.entry(image.reference.clone()).or_insert(image);
        }
        tests.extend(all.into_iter().map(|ran| TestResult {
            verdict: if ran.succeeded() { Verdict::Pass } else { Verdict::Fail },
            name: ran.name,
            stage: stage.0.clone(),
            seconds: ran.seconds,
        }));
    }
    (images.into_values().collect(), tests)
}

/// What ran before, what ran then, and the deployment.
type Parts = (Option<Vec<Ran>>, Vec<Ran>, Option<Deployed>);

fn flat((before, then, deployed): Parts) -> (Vec<Deployed>, Vec<Ran>) {
    (deployed.into_iter().collect(), before.into_iter().flatten().chain(then).collect())
}

/// Deployments, and hooks and tests: those of a further release are told with its name, so that each has a history of its own.
fn upgrades(seen: Upgrades) -> (Vec<Deployed>, Vec<Ran>) {
    let mut ran = seen.first.deployed.ran.clone();
    let mut deployed = vec![seen.first.deployed];
    for further in seen.further {
        let name = text::clean(&further.from.name());
        let all =
            std::iter::once(further.installed).chain(further.upgraded.map(|upgraded| upgraded.deployed));
        for mut one in all {
            ran.extend(
                std::mem::take(&mut one.ran)
                    .into_iter()
                    .map(|ran| Ran { name: format!("{} (from {name})", ran.name), ..ran }),
            );
            deployed.push(one);
        }
    }
    (deployed, ran)
}

fn since_green(evidence: &[(StageName, Value)]) -> Option<SinceGreen> {
    let (_, reporting) = evidence.iter().find(|(name, _)| name == crate::recipe::LAST)?;
    serde_json::from_value(reporting.get("since_green")?.clone()).ok()
}

fn done<E: DeserializeOwned>(evidence: &[(StageName, Value)], stage: &str) -> Option<E> {
    read(evidence.iter().find(|(name, _)| name == stage).map(|(_, value)| value)?)
}

fn read<E: DeserializeOwned>(evidence: &Value) -> Option<E> {
    match serde_json::from_value(evidence.clone()) {
        Ok(Reached::Done(evidence)) => Some(evidence),
        _ => None,
    }
}
