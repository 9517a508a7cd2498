//! What the runner brings of each stage: facts with their times, without a verdict.
//!
//! Names, lines and pages are the app's own words: untrusted text, cut to a sensible length.

use assay_recipe::lint::LintReport;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::harness::Harness;

/// The evidence of a stage, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "how", content = "what", rename_all = "snake_case")]
pub enum Reached<E> {
    /// It was done.
    Done(E),
    /// It could not be begun, since something before it had not worked.
    NotReached {
        /// What, as one sentence.
        because: String,
    },
    /// There is nothing to do for this recipe.
    DoesNotApply {
        /// Why, as one sentence.
        why: String,
    },
}

/// What a runner says of itself beside the evidence of each stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunnerSeen {
    /// Its build of Assay.
    pub harness: Harness,
    /// Whether its kernel has IPVS; none while no daemon was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipvs: Option<bool>,
    /// What stacks are deployed into.
    #[serde(default)]
    pub ground: Ground,
}

/// What a run's stacks are deployed into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// A Docker daemon of the run's own, with a network of its own, gone with it.
    #[default]
    Own,
    /// A swarm that others use, too, in the runner's network.
    Shared,
    /// As `own`, inside of a virtual machine that is the run's own and is thrown away with it.
    Machine,
}

impl Ground {
    /// In a sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "a daemon of the run's own",
            Self::Shared => "a shared swarm",
            Self::Machine => "a daemon in a virtual machine of the run's own",
        }
    }
}

/// A version of the recipe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionSeen {
    /// The release that it is, where a tag says so: `1.4.0+2.5.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Its commit, in full; none where the recipe is no checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Files that differ from the commit: then what is tested is in no history.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
}

impl VersionSeen {
    /// As people name it: the release, or the commit's first eight digits; `+U` for changed files, as `abra` has it.
    pub fn name(&self) -> String {
        let short = |commit: &String| commit.chars().take(8).collect::<String>();
        let name = self.release.clone().or_else(|| self.commit.as_ref().map(short));
        let name = name.unwrap_or_else(|| "the folder as it is".to_owned());
        if self.changed.is_empty() { name } else { format!("{name}+U") }
    }
}

/// A part of a stage, and how long it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Phase {
    /// What was done: `images`, `converge` …
    pub name: String,
    /// For how long, in seconds.
    pub seconds: f64,
}

/// Evidence of `Lint`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Linted {
    /// What is under test.
    pub version: VersionSeen,
    /// The releases that it is upgraded from, the one that is installed first.
    pub bases: Vec<VersionSeen>,
    /// What the rules said; none where the folder does not read as a recipe.
    pub report: Option<LintReport>,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Digest of the tests' folder as the runner found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests_digest: Option<String>,
}

/// Evidence of a stage that deploys: `Install`, `Upgrade`, `Idempotence`, `Rollback`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deployed {
    /// What was deployed.
    pub version: VersionSeen,
    /// The app's domain, and the name of its stack.
    pub domain: String,
    /// The stack.
    pub stack: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The stack's services as they are after it.
    pub services: Vec<ServiceSeen>,
    /// The recipe's version as the swarm says it of the running app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_label: Option<String>,
    /// The commit as the swarm says it of the running app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_label: Option<String>,
    /// What was deployed otherwise than written, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub substituted: Vec<String>,
    /// Keys that Swarm ignores, and variables without a value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// The images, whatever they are called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageSeen>,
    /// What it answers; none where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answered>,
    /// Hooks and tests that were run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ran: Vec<Ran>,
    /// Where the time went.
    pub phases: Vec<Phase>,
}

/// How a deployment ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Outcome {
    /// Everything is what it is to be.
    Converged {
        /// Services that are to end some day and still run.
        still_running: Vec<String>,
    },
    /// The files come to no stack.
    Invalid {
        /// What is wrong with them.
        problems: Vec<String>,
    },
    /// The stack reaches out of its containers, and nobody allowed it to.
    Refused {
        /// With what.
        escapes: Vec<String>,
    },
    /// The registry has no such image, or not for us.
    NoImages {
        /// Which, and what was said.
        images: Vec<String>,
    },
    /// Something that it depends on did not come up.
    DependencyFailed {
        /// Which.
        dependency: String,
        /// Why.
        message: String,
    },
    /// A hook that has to succeed first did not.
    HookFailed {
        /// Which.
        hook: String,
    },
    /// Docker would not have it.
    Rejected {
        /// What it said.
        message: String,
    },
    /// Services will not become what they are to be.
    Failed {
        /// Which.
        failures: Vec<ServiceFailure>,
    },
    /// Neither in the time that it was given.
    TimedOut {
        /// What was waited for.
        waiting: Vec<String>,
        /// For how long, in seconds.
        limit_s: f64,
    },
}

/// A service that will not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceFailure {
    /// Its name in the files.
    pub service: String,
    /// How it fails: `crash_loop`, `slow_flap` …
    pub class: String,
    /// One sentence.
    pub message: String,
    /// The end of what its last attempt said.
    pub last_words: String,
}

/// A service after a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceSeen {
    /// Its name in the files.
    pub service: String,
    /// The image as it is written.
    pub image: String,
    /// The tasks that run it.
    pub tasks: Vec<String>,
    /// A digest over everything that the swarm was told about it, without what Assay adds.
    pub digest: String,
}

/// An image that was deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageSeen {
    /// As it is written.
    pub reference: String,
    /// The digest of its configuration: the same bytes, the same id.
    pub id: String,
    /// Its digests in registries: `docker.io/library/nginx@sha256:…`. Empty for one from an archive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<String>,
    /// Where it came from: `archive`, `registry`, `there already`, or the cache alone and why.
    pub from: String,
    /// What it took to get it; for one that came from a registry or its cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<ImageFetched>,
}

/// What it took to get an image from its registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageFetched {
    /// Everything that it is made of, in bytes.
    pub bytes: u64,
    /// Layers and configurations that came from outside, in bytes; 0 for one that the cache had.
    pub blob_bytes: u64,
    /// Manifests that came from outside, in bytes.
    pub manifest_bytes: u64,
    /// Requests to the registry, those without a body as well.
    pub requests: u64,
    /// How long it took until the cache had it, in milliseconds.
    pub registry_ms: u64,
    /// How long it took until the daemon had it, in milliseconds.
    pub all_ms: u64,
}

/// What the app said to a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answered {
    /// The address that was asked.
    pub url: String,
    /// How often, until it was as expected or the time was over.
    pub requests: u32,
    /// How long after the stack had converged, in seconds.
    pub after_s: f64,
    /// The status of the last answer; none where nobody answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Its content type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The beginning of its body, as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Whether the body contained what the settings ask for; none where they ask for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contained: Option<bool>,
    /// Why there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A hook or a test that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ran {
    /// Its file below the tests' folder: `functional/login.py`.
    pub name: String,
    /// How it ended; none where it did not in its time, or could not be started.
    pub exit_code: Option<i32>,
    /// Why there is no exit code, or which limit it reached where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The end of what it said.
    pub last_words: String,
    /// The artifact that has everything that it said.
    pub log: String,
}

impl Ran {
    /// Whether it did what it was to do.
    pub fn succeeded(&self) -> bool {
        self.exit_code == Some(0)
    }
}

/// Evidence of `Idempotence` and `Rollback`, and of each upgrade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Upgraded {
    /// What ran before.
    pub from: VersionSeen,
    /// The services before.
    pub before: Vec<ServiceSeen>,
    /// The version label before.
    pub label_before: Option<String>,
    /// The deployment.
    pub deployed: Deployed,
    /// The witnesses that were planted before it.
    #[serde(default)]
    pub witnesses: Witnesses,
    /// What became of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<WitnessSeen>,
}

/// Evidence of `Upgrade`: from the release that was installed, and from each further one that the settings name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Upgrades {
    /// The one in place, which the stages after it go on with.
    #[serde(flatten)]
    pub first: Upgraded,
    /// The others, each in a stack of its own that is gone by now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<UpgradedFrom>,
}

/// An upgrade from a further release, in a stack of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradedFrom {
    /// The release.
    pub from: VersionSeen,
    /// How it was installed.
    pub installed: Deployed,
    /// The upgrade; none where the release did not come up.
    pub upgraded: Option<Upgraded>,
    /// What would not go of its stack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    /// What is left of its daemon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residue: Vec<String>,
    /// How long all of it took, in seconds.
    pub seconds: f64,
}

/// What was put into an app's stores, so that it can be looked for afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Witnesses {
    /// Where: `volume data`, `rows in db (postgres)`.
    pub planted: Vec<String>,
    /// What has none, and why.
    pub not_planted: Vec<NotPlanted>,
}

/// A store without a witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotPlanted {
    /// Which.
    pub what: String,
    /// Why.
    pub why: String,
    /// Whether it should have had one: then something is not verified.
    pub expected: bool,
}

/// A witness, looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WitnessSeen {
    /// Which.
    pub what: String,
    /// What became of it.
    pub state: WitnessState,
    /// What differs, in a few words.
    pub detail: String,
}

/// What became of a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WitnessState {
    /// It is as it was.
    Same,
    /// It is gone.
    Missing,
    /// It is another.
    Altered,
    /// It could not be looked for.
    Unknown,
}

/// Something that went wrong with a backup or a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trouble {
    /// Its class: `backup_hook_failed`, `dump_empty`, `dump_truncated` …
    pub class: String,
    /// One sentence.
    pub message: String,
}

/// A hook of the backup labels, run in its container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LabelHook {
    /// The service.
    pub service: String,
    /// When: `backup pre`, `restore post`.
    pub moment: String,
    /// The command as the label has it.
    pub command: String,
    /// How it ended; none where it did not, or could not be started.
    pub exit_code: Option<i64>,
    /// The end of what it said.
    pub last_words: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Evidence of `Backup`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackupTaken {
    /// What was put into the stores before.
    pub witnesses: Witnesses,
    /// What is in the backup: `volume data`, `volume db: backup.sql`.
    pub covered: Vec<String>,
    /// What is not, and why.
    pub left_out: Vec<NotPlanted>,
    /// The hooks of the labels.
    pub hooks: Vec<LabelHook>,
    /// Dumps that the hooks made, and what they look like.
    pub dumps: Vec<String>,
    /// Files in the snapshot, and their bytes.
    pub files: u64,
    /// Bytes in the snapshot.
    pub bytes: u64,
    /// How often it was taken until it was whole.
    pub captures: u32,
    /// What went wrong; nothing where it is whole.
    pub troubles: Vec<Trouble>,
    /// Hooks and tests of the tests' folder.
    pub ran: Vec<Ran>,
    /// Where the time went.
    pub phases: Vec<Phase>,
}

/// Evidence of `Restore`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreDone {
    /// What was still there of the stack after it had been destroyed, volumes included: nothing, or nothing is proven.
    pub survived: Vec<String>,
    /// The stack that was deployed anew.
    pub fresh: Deployed,
    /// Witnesses that the fresh stack had before anything was restored: none, or nothing is proven.
    pub there_before: Vec<String>,
    /// The hooks of the labels.
    pub hooks: Vec<LabelHook>,
    /// What was stopped while its volumes were written, and started again.
    pub stopped: Vec<String>,
    /// What could not be asked whether it was empty before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unproven: Vec<String>,
    /// What went wrong.
    pub troubles: Vec<Trouble>,
    /// How the stack came to rest after it; none where it was not got to.
    pub outcome: Option<Outcome>,
    /// What it answers after it.
    pub answered: Option<Answered>,
    /// What became of the witnesses.
    pub compared: Vec<WitnessSeen>,
    /// Files that differ from those at the time of the backup: apps change theirs, so it is told and not judged.
    pub differing: Vec<String>,
    /// Hooks and tests of the tests' folder.
    pub ran: Vec<Ran>,
    /// Where the time went.
    pub phases: Vec<Phase>,
}

/// Evidence of `Custom`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tested {
    /// The tests that were found, by their files.
    pub found: Vec<String>,
    /// Those that were run.
    pub ran: Vec<Ran>,
    /// Tests that were not asked for (`extra/` without `--extra`).
    pub left_out: Vec<String>,
    /// Tests that could not be run where this was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_run: Vec<NotRun>,
    /// The picture of the app, or why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screenshot: Option<Screenshot>,
    /// Where the time went.
    pub phases: Vec<Phase>,
}

/// A test that could not be run where this was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotRun {
    /// By its file.
    pub name: String,
    /// Why, as half a sentence.
    pub why: String,
}

/// A picture of the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Screenshot {
    /// It was taken.
    Taken {
        /// The artifact.
        artifact: String,
    },
    /// It was not.
    Missing {
        /// Why.
        why: String,
    },
}

/// Evidence of `Teardown`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TornDown {
    /// How to reach the stack, where it was left up for a look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// What was there and was taken away.
    pub removed: u64,
    /// What would not go, or is there and was not before.
    pub left: Vec<String>,
    /// What is left of the daemon of the run, where it had one of its own.
    pub residue: Vec<String>,
    /// Images that the run brought into a shared swarm, and that stay there for the next one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images_kept: Vec<String>,
    /// What is new in a shared swarm since the run began, and says neither whose it is nor what it is called after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unclaimed: Vec<String>,
    /// Secrets that were seen where they should not be.
    pub leaks: Vec<Leak>,
    /// What ended by itself while the stack was up, and should not have. Ten at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub died: Vec<Died>,
    /// How often a stack was deployed in this run.
    pub deploys: u32,
    /// How often it may have been: once, once for each cold dependency, once more for a restore, and the same again for each further
    /// release that an upgrade is tested from.
    pub deploys_expected: u32,
    /// Where the time went.
    pub phases: Vec<Phase>,
}

/// A task that ended by itself after its stack had come up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Died {
    /// The service, as the files call it.
    pub service: String,
    /// The stage in which it was noticed.
    pub during: String,
    /// With which code its process ended, if one ran.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for its memory.
    pub oom_killed: bool,
    /// What the swarm says of it.
    pub error: String,
    /// The last line that it wrote.
    pub last_words: String,
}

/// A secret where it should not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leak {
    /// Its key in the files.
    pub secret: String,
    /// Where it was seen: `log of service app`, `page /`.
    pub place: String,
}
