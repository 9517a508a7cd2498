//! Reads a recipe for what will go wrong with it, without deploying anything.
//!
//! R001 to R015 are the rules of `abra recipe lint`, by its numbers; A001 and on are ours, mostly things that a deployment
//! or an upgrade is certain to stumble over. Every `compose*.yml` is read, alone and in each combination that `.env.sample`
//! sets or offers. What could not be read or asked is never a pass: a rule says `unverified` or `not_checked`, and why.

mod coop;
mod drift;
pub(crate) mod facts;
mod own;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{problem::Problem, recipe::Recipe};
use facts::Facts;

/// A rule.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rule {
    /// Its id: `R001` as `abra` numbers them, `A001` for ours.
    pub id: &'static str,
    /// How bad a finding is.
    pub severity: Severity,
    /// What it asks for.
    pub title: &'static str,
    /// What to do about a finding.
    pub next_step: &'static str,
    #[serde(skip)]
    check: fn(&Facts<'_>) -> Checked,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth mending.
    Warning,
    /// Something will not work.
    Error,
}

/// What a rule came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything was read, and nothing was found.
    Pass,
    /// Something was found.
    Fail,
    /// It does not apply, for the reason given.
    Skip,
    /// It would need something outside of the recipe, which is not asked here.
    NotChecked,
    /// It should have been checked and could not be, for the reason given.
    Unverified,
}

/// A rule's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleResult {
    /// The rule.
    pub rule: String,
    /// What it asks for.
    pub title: String,
    /// How bad a finding is.
    pub severity: Severity,
    /// What it came to.
    pub verdict: Verdict,
    /// Why it is neither a pass nor a fail.
    pub reason: Option<String>,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// Something that a rule found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// Line, from 1; 0 when it concerns the whole.
    pub line: u32,
    /// Where in the file's structure.
    pub path: String,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub next_step: String,
}

/// A lint's results, one for each rule, in the order of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LintReport {
    /// The recipe.
    pub recipe: String,
    /// The results.
    pub results: Vec<RuleResult>,
}

impl LintReport {
    /// Results of one verdict.
    pub fn with(&self, verdict: Verdict) -> impl Iterator<Item = &RuleResult> {
        self.results.iter().filter(move |result| result.verdict == verdict)
    }

    /// Whether a rule of severity `error` found something.
    pub fn has_errors(&self) -> bool {
        self.with(Verdict::Fail).any(|result| result.severity == Severity::Error)
    }
}

/// What a rule's function says.
pub(crate) enum Checked {
    /// What it found; nothing is a pass, where everything could be read.
    Found(Vec<Problem>),
    /// It does not apply.
    Skip(String),
    /// It needs something that is not asked here.
    NotAsked(String),
    /// Could not be checked; findings so far count.
    Unverified(String, Vec<Problem>),
}

/// Every rule, in the order of their ids.
pub const RULES: &[Rule] = &[
    rule(
        "R001",
        Severity::Warning,
        "compose files have the expected version",
        "write `version: \"3.8\"` in every compose file",
        coop::r001,
    ),
    rule(
        "R002",
        Severity::Warning,
        "every service has a healthcheck",
        "add a `healthcheck` to the service",
        coop::r002,
    ),
    rule("R003", Severity::Warning, "every image has a tag", "name the tag that was tested", coop::r003),
    rule(
        "R004",
        Severity::Warning,
        "no image has an unstable tag",
        "name a release instead of `latest`",
        coop::r004,
    ),
    rule(
        "R005",
        Severity::Warning,
        "tags look like versions",
        "use a tag such as `1.2.3` or `1.2-alpine`",
        coop::r005,
    ),
    rule(
        "R006",
        Severity::Warning,
        "a version is published in the catalogue",
        "publish a version of the recipe to the catalogue",
        coop::r006,
    ),
    rule(
        "R007",
        Severity::Warning,
        "the README's metadata is filled in",
        "fill in every fact between the metadata marks of README.md",
        coop::r007,
    ),
    rule(
        "R008",
        Severity::Error,
        "`.env.sample` is provided",
        "write an `.env.sample` with every setting that the recipe reads",
        coop::r008,
    ),
    rule("R009", Severity::Error, "one service is called `app`", "call the main service `app`", coop::r009),
    rule(
        "R010",
        Severity::Error,
        "traefik's routing is on",
        "add the deploy label `traefik.enable=true` to the service that people open",
        coop::r010,
    ),
    rule("R011", Severity::Error, "every service has an image", "name an image in the service", coop::r011),
    rule(
        "R012",
        Severity::Error,
        "versions of configs are in abra.sh",
        "export the config's version in `abra.sh`: `export X_VERSION=v1`",
        coop::r012,
    ),
    rule("R013", Severity::Warning, "the recipe has its repository", "upload the recipe", coop::r013),
    rule(
        "R014",
        Severity::Error,
        "releases are annotated tags",
        "delete the lightweight tag and make it anew with `git tag -a`",
        coop::r014,
    ),
    rule(
        "R015",
        Severity::Warning,
        "names of secrets are short",
        "shorten the name to 12 characters or fewer",
        coop::r015,
    ),
    rule(
        "A001",
        Severity::Error,
        "a config that changed has a new version",
        "raise the config's version in `abra.sh`; the engine refuses to change a config, so every upgrade would fail",
        drift::changed_configs,
    ),
    rule(
        "A002",
        Severity::Error,
        "what services name is declared",
        "declare it at the top level of the same files, or correct the name",
        own::undeclared,
    ),
    rule(
        "A003",
        Severity::Warning,
        "what is declared is used",
        "remove the declaration, or use it in a service",
        own::unused,
    ),
    rule(
        "A004",
        Severity::Error,
        "names fit for the longest stack name",
        "shorten the key, so that 45 characters of stack name fit before it",
        own::long_names,
    ),
    rule(
        "A005",
        Severity::Error,
        "no port is published twice",
        "give one of them another port, or take them apart into overlays that exclude each other",
        own::port_clashes,
    ),
    rule(
        "A006",
        Severity::Error,
        "one service switches backups on",
        "keep `backupbot.backup` on the main service alone",
        own::backup_switches,
    ),
    rule(
        "A007",
        Severity::Error,
        "backup labels name volumes of the stack",
        "correct the volume's name in the label, or remove the label",
        own::backup_volumes,
    ),
    rule(
        "A008",
        Severity::Warning,
        "backup labels mean something",
        "correct the label, or add `backupbot.backup=true` to the main service",
        own::backup_labels,
    ),
    rule(
        "A009",
        Severity::Warning,
        "healthchecks check something",
        "give the healthcheck a `test` that fails when the app does",
        own::empty_healthchecks,
    ),
    rule(
        "A010",
        Severity::Error,
        "every file and combination can be read",
        "mend what is said at the place",
        own::unreadable,
    ),
    rule(
        "A011",
        Severity::Error,
        "files of configs and secrets are there",
        "add the file to the recipe, or correct its name",
        own::missing_files,
    ),
    rule(
        "A012",
        Severity::Warning,
        "what is written has an effect on Swarm",
        "remove it, or do what is said at the place",
        own::without_effect,
    ),
    rule(
        "A013",
        Severity::Warning,
        "variables are in `.env.sample`",
        "add the variable to `.env.sample`, commented out where it is optional, or give it a default",
        own::unknown_variables,
    ),
    rule(
        "A014",
        Severity::Error,
        "durations have no variables",
        "write the duration itself: abra checks it before it fills in variables",
        own::variable_durations,
    ),
    rule(
        "A015",
        Severity::Error,
        "secrets have a version in `.env.sample`",
        "add `SECRET_NAME_VERSION=v1` to `.env.sample`, and name the secret `${STACK_NAME}_name_${SECRET_NAME_VERSION}`",
        own::secret_versions,
    ),
    rule(
        "A016",
        Severity::Error,
        "what is said of secrets can be read",
        "use `length=`, `charset=` and `generate=` as abra knows them",
        own::secret_modifiers,
    ),
    rule(
        "A017",
        Severity::Warning,
        "the app says its version",
        "add the deploy label `coop-cloud.${STACK_NAME}.version=1.0.0+upstream` to `app`",
        own::version_label,
    ),
    rule(
        "A018",
        Severity::Error,
        "what `deploy` says fits together",
        "remove `replicas`, or the mode",
        own::modes,
    ),
];

const fn rule(
    id: &'static str,
    severity: Severity,
    title: &'static str,
    next_step: &'static str,
    check: fn(&Facts<'_>) -> Checked,
) -> Rule {
    Rule { id, severity, title, next_step, check }
}

/// Reads a recipe by all rules. Its checkout is asked for tags and for the release before it; where it is none, the rules
/// that need one are unverified.
pub async fn lint(recipe: &Recipe) -> LintReport {
    report(recipe, facts::history(recipe).await)
}

/// As [`lint`], of the files alone: no checkout is asked, and the rules that need one are unverified.
pub fn lint_files(recipe: &Recipe) -> LintReport {
    let why = "only the files were read, and no checkout was asked";
    report(recipe, facts::History { releases: Err(why.to_owned()), past: Err(why.to_owned()) })
}

fn report(recipe: &Recipe, history: facts::History) -> LintReport {
    of(&Facts::gather(recipe, history))
}

/// Every rule over what is known.
pub(crate) fn of(facts: &Facts<'_>) -> LintReport {
    let results = RULES.iter().map(|rule| rule.apply(facts)).collect();
    LintReport { recipe: facts.recipe.name.clone(), results }
}

impl Rule {
    fn apply(&self, facts: &Facts<'_>) -> RuleResult {
        let (verdict, reason, found) = match (self.check)(facts) {
            Checked::Skip(reason) => (Verdict::Skip, Some(reason), Vec::new()),
            Checked::NotAsked(reason) => (Verdict::NotChecked, Some(reason), Vec::new()),
            Checked::Found(found) if found.is_empty() => (Verdict::Pass, None, found),
            Checked::Unverified(reason, found) if found.is_empty() => {
                (Verdict::Unverified, Some(reason), found)
            }
            Checked::Found(found) => (Verdict::Fail, None, found),
            Checked::Unverified(reason, found) => (Verdict::Fail, Some(reason), found),
        };
        // The same thing in several combinations is one finding, at its first place.
        let mut seen = BTreeSet::new();
        let mut findings = Vec::new();
        for Problem { file, line, path, message } in found {
            if path.is_empty() || seen.insert((path.clone(), message.clone())) {
                findings.push(Finding { file, line, path, message, next_step: self.next_step.to_owned() });
            }
        }
        findings.sort();
        findings.dedup();
        RuleResult {
            rule: self.id.to_owned(),
            title: self.title.to_owned(),
            severity: self.severity,
            verdict,
            reason,
            findings,
        }
    }
}
