//! What is different between a red run and the last green one: asked before anything is run again, since that would change the
//! answer. It says what differs and not which of it is to blame; where nothing does, chance or the time of day is.

use std::collections::BTreeMap;

use assay_model::{Finding, Severity, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::results::{Configuration, Results, SCHEMA};
use crate::recipe::evidence::{Ground, ImageSeen, VersionSeen};
use crate::recipe::harness::Harness;
use crate::recipe::pressure::Pressure;

/// The code of something that is different.
pub const CHANGED: &str = "ChangedSinceGreen";
/// The code of nothing being different.
pub const NOTHING: &str = "NothingChanged";
/// The code of a recipe that was never green, or not in a way that can be compared.
pub const NO_BASELINE: &str = "NoBaseline";

/// The code of an image that cannot be got.
pub(super) const MISSING: &str = "MissingImage";

/// Most differences that are told one by one.
const MOST: usize = 40;
/// The longest text of somebody else's in a sentence, in characters.
const LONGEST: usize = 120;

/// A red run beside the last green one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum SinceGreen {
    /// There is no green run of the whole before it.
    NeverGreen,
    /// There is one, in another form.
    OtherSchema {
        /// Its number.
        run: i64,
        /// The version of its results.
        schema: u32,
    },
    /// Both were compared.
    Compared {
        /// The green run's number.
        run: i64,
        /// RFC 3339, when it was asked for.
        at: String,
        /// What differs; nothing where nothing does.
        changes: Vec<Change>,
        /// What could not be compared, and why.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unknown: Vec<String>,
    },
}

/// Something that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What kind of thing.
    pub aspect: Aspect,
    /// One sentence, with both values.
    pub message: String,
    /// The same as a row of a table; none where one sentence says it all, and in runs from before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Values>,
}

/// Something that has a value in both runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Values {
    /// Of what.
    pub of: String,
    /// In the green run.
    pub was: String,
    /// In this one.
    pub is: String,
}

/// What may be different between two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// The same reference stands for other bytes, or there is another reference.
    Images,
    /// The recipe's commit.
    Commit,
    /// The release that it is upgraded from.
    Base,
    /// The build of Assay, of the control plane or of the runner.
    Harness,
    /// Settings, hooks, tests, the overlay.
    Configuration,
    /// What has to run before it.
    Dependencies,
    /// How short of everything the runner was.
    Pressure,
    /// Whether the runner's kernel has IPVS.
    Ipvs,
    /// Which runner it was.
    Runner,
    /// Whether it had a daemon of its own, or a swarm that others use.
    Ground,
}

impl Aspect {
    /// In a sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Commit => "commit",
            Self::Base => "base release",
            Self::Harness => "harness",
            Self::Configuration => "configuration",
            Self::Dependencies => "dependencies",
            Self::Pressure => "load on the runner",
            Self::Ipvs => "IPVS",
            Self::Runner => "runner",
            Self::Ground => "swarm",
        }
    }

    /// What to do about it.
    pub const fn next_step(self) -> &'static str {
        match self {
            Self::Images => {
                "Run the commit of the green run once more: if it is red now, the image is the reason and not the recipe."
            }
            Self::Commit => {
                "`assay ab` tests both commits with the same everything else, and says whether it is this."
            }
            Self::Base => {
                "An upgrade that begins elsewhere is another upgrade; name the earlier release in upgrade.from to compare."
            }
            Self::Harness => "`assay ab` tests with both builds of Assay, and says whether it is this.",
            Self::Configuration => {
                "Look at what was changed in the tests' folder; tests that changed with the recipe are no witness for it."
            }
            Self::Dependencies => "Look at what was changed in `dependencies` of assay.toml.",
            Self::Pressure => "Run it again when the runner has less to do.",
            Self::Ipvs => {
                "Without IPVS endpoints are deployed otherwise than written; run it on the same kind of runner to compare."
            }
            Self::Runner => "Run it on the runner of the green run to compare.",
            Self::Ground => {
                "On a shared swarm ports, networks and neighbours are others, and in a virtual machine kernel and speed; run it as \
                 the green run was (with or without --shared-swarm, --in-vm) to compare."
            }
        }
    }
}

impl SinceGreen {
    /// Compares a run with the last green one before it.
    pub fn of(green: Option<&Results>, now: &Results) -> Self {
        let Some(green) = green else { return Self::NeverGreen };
        if green.schema != now.schema || green.schema != SCHEMA {
            return Self::OtherSchema { run: green.run.number, schema: green.schema };
        }
        let mut told = Told::default();
        images(&mut told, green, now);
        versions(&mut told, green, now);
        harness(&mut told, green, now);
        configuration(&mut told, &green.configuration, &now.configuration);
        runner(&mut told, green, now);
        pressure(&mut told, green, now);
        let Told { mut changes, unknown } = told;
        let more = changes.len().saturating_sub(MOST);
        if more > 0 {
            let aspect = changes[MOST].aspect;
            changes.truncate(MOST);
            changes.push(Change {
                aspect,
                message: format!("{more} more things are different"),
                values: None,
            });
        }
        Self::Compared { run: green.run.number, at: green.run.created_at.clone(), changes, unknown }
    }

    /// What is different, of this kind.
    pub fn changes(&self, aspect: Aspect) -> impl Iterator<Item = &Change> {
        let changes = match self {
            Self::Compared { changes, .. } => changes.as_slice(),
            Self::NeverGreen | Self::OtherSchema { .. } => &[],
        };
        changes.iter().filter(move |change| change.aspect == aspect)
    }

    /// As findings of the run: worth knowing, and judging nothing.
    pub fn findings(&self) -> Vec<Finding> {
        let info =
            |code: &str, message: String, next: &str| Finding::new(code, Severity::Info, message, next);
        match self {
            Self::NeverGreen => vec![info(
                NO_BASELINE,
                "no earlier run of the whole recipe was green here, so there is nothing to compare this one with".to_owned(),
                "The first green run in the standard lane, of a commit and with nothing left out, is what later ones are compared with.",
            )],
            Self::OtherSchema { run, schema } => vec![info(
                NO_BASELINE,
                format!("the last green run is {run}; its results have schema version {schema} and these {SCHEMA}, so they are not compared"),
                "Run the recipe at a commit that was green once with this Assay; later runs are compared with that.",
            )],
            Self::Compared { run, at, changes, unknown } => {
                let day = at.get(..10).unwrap_or(at);
                let beside = if unknown.is_empty() { String::new() } else { format!(" (not compared: {})", unknown.join("; ")) };
                if changes.is_empty() {
                    return vec![info(
                        NOTHING,
                        format!("nothing that is looked at differs from the last green run ({run}, {day}){beside}"),
                        "Chance or time is left: run it again before anything is changed, and see `assay recipe flakes`.",
                    )];
                }
                let told = |change: &Change| {
                    let message = format!("{} (the last green run is {run}, {day}){beside}", change.message);
                    info(CHANGED, message, change.aspect.next_step())
                };
                changes.iter().map(told).collect()
            }
        }
    }
}

#[derive(Default)]
struct Told {
    changes: Vec<Change>,
    unknown: Vec<String>,
}

impl Told {
    fn change(&mut self, aspect: Aspect, message: impl Into<String>) {
        self.changes.push(Change { aspect, message: message.into(), values: None });
    }

    /// Something that is this now and was that, in a sentence of its own.
    fn between(&mut self, aspect: Aspect, of: String, was: String, is: String, message: Option<String>) {
        let message = message.unwrap_or_else(|| format!("{of}: {is}, was {was}"));
        self.changes.push(Change { aspect, message, values: Some(Values { of, was, is }) });
    }

    fn unknown(&mut self, why: impl Into<String>) {
        self.unknown.push(why.into());
    }

    /// Says that two values differ, where they do.
    fn differ<T: PartialEq>(
        &mut self,
        aspect: Aspect,
        what: &str,
        was: &T,
        is: &T,
        name: impl Fn(&T) -> String,
    ) {
        if was != is {
            self.between(aspect, what.to_owned(), name(was), name(is), None);
        }
    }
}

/// What images are is their id: the digest of their configuration. Digests in registries come and go with where they are from.
fn images(told: &mut Told, green: &Results, now: &Results) {
    let (was, is): (&[ImageSeen], &[ImageSeen]) = (&green.images, &now.images);
    let missing = |stage: &&super::results::StageResult| stage.codes.iter().any(|code| code == MISSING);
    if let Some(stage) = now.stages.iter().find(missing) {
        // Images are brought all or none, so which one it was is in the stage's sentence.
        let words = clean(&stage.message);
        told.change(Aspect::Images, format!("an image is not to be had, and all were: {words}"));
        return;
    }
    if was.is_empty() || is.is_empty() {
        if was.len() != is.len() {
            told.unknown("the images, since one of the runs did not come to them");
        }
        return;
    }
    for now in is {
        let reference = clean(&now.reference);
        match was.iter().find(|was| was.reference == now.reference) {
            Some(before) if before.id != now.id => {
                let (is, was) = (short(&now.id), short(&before.id));
                let message = format!("the tag {reference} was moved: it is {is} now, and was {was}");
                told.between(Aspect::Images, reference, was, is, Some(message));
            }
            Some(_) => {}
            None => {
                let is = short(&now.id);
                let message = format!("another image: {reference} ({is})");
                told.between(Aspect::Images, reference, "not deployed".to_owned(), is, Some(message));
            }
        }
    }
    for gone in was.iter().filter(|was| !is.iter().any(|now| now.reference == was.reference)) {
        let (reference, is) = (clean(&gone.reference), "not deployed".to_owned());
        let message = format!("an image is not deployed any more: {reference}");
        told.between(Aspect::Images, reference, short(&gone.id), is, Some(message));
    }
}

fn versions(told: &mut Told, green: &Results, now: &Results) {
    match (&green.version, &now.version) {
        (Some(was), Some(is)) if was != is => {
            let of = "the recipe's commit".to_owned();
            told.between(Aspect::Commit, of, with_changes(was), with_changes(is), None);
        }
        (Some(_), Some(_)) => {}
        _ => told.unknown("the commit, since it was not read"),
    }
    let name = |version: &Option<VersionSeen>| version.as_ref().map_or_else(|| "none".to_owned(), commit);
    if now.version.is_some() {
        told.differ(Aspect::Base, "the release that is installed first", &green.base, &now.base, name);
    }
}

fn harness(told: &mut Told, green: &Results, now: &Results) {
    if green.harness.sha256.is_none() || now.harness.sha256.is_none() {
        told.unknown("the build of Assay, since a digest of it is missing");
        if green.harness.version == now.harness.version {
            return;
        }
    }
    told.differ(Aspect::Harness, "Assay", &green.harness, &now.harness, Harness::name);
    if let (Some(was), Some(is)) = (&green.runner, &now.runner) {
        // Control plane and runner are mostly one program.
        let own = was.harness == green.harness && is.harness == now.harness;
        if !own {
            told.differ(Aspect::Harness, "the runner's Assay", &was.harness, &is.harness, |harness| {
                harness.name()
            });
        }
    }
}

fn configuration(told: &mut Told, was: &Configuration, is: &Configuration) {
    let default = || "the default".to_owned();
    each(&was.settings, &is.settings, |name, was, is| {
        let aspect =
            if name.starts_with("dependencies") { Aspect::Dependencies } else { Aspect::Configuration };
        let words =
            |value: Option<&serde_json::Value>| value.map_or_else(default, |value| clean(&value.to_string()));
        told.between(aspect, format!("the setting {}", clean(name)), words(was), words(is), None);
    });
    each(&was.files, &is.files, |name, was, is| {
        let words = match (was, is) {
            (None, _) => "is new",
            (_, None) => "is gone",
            _ => "is another one",
        };
        told.change(Aspect::Configuration, format!("{} in the tests' folder {words}", clean(name)));
    });
    each(&was.asked, &is.asked, |name, was, is| {
        let words = |value: Option<&serde_json::Value>| {
            value.map_or_else(|| "not asked for".to_owned(), |value| clean(&value.to_string()))
        };
        let of = format!("asked for, {}", clean(name));
        told.between(Aspect::Configuration, of, words(was), words(is), None);
    });
}

/// Goes through what is not the same in two tables.
fn each<T: PartialEq>(
    was: &BTreeMap<String, T>,
    is: &BTreeMap<String, T>,
    mut other: impl FnMut(&str, Option<&T>, Option<&T>),
) {
    let mut names: Vec<&String> = was.keys().chain(is.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (before, after) = (was.get(name), is.get(name));
        if before != after {
            other(name, before, after);
        }
    }
}

fn runner(told: &mut Told, green: &Results, now: &Results) {
    let (Some(was), Some(is)) = (&green.runner, &now.runner) else {
        told.unknown("the runner, since one of them did not say who it is");
        return;
    };
    let name = |name: &Option<String>| name.as_deref().map_or_else(|| "one without a name".to_owned(), clean);
    told.differ(Aspect::Runner, "the runner", &was.name, &is.name, name);
    // Before anything was deployed nobody says into what.
    if was.ipvs.is_some() && is.ipvs.is_some() {
        let words = |ground: &Ground| ground.as_str().to_owned();
        told.differ(Aspect::Ground, "what it is deployed into", &was.ground, &is.ground, words);
    }
    match (was.ipvs, is.ipvs) {
        (Some(was), Some(is)) => {
            let words = |has: &bool| if *has { "there" } else { "not there" }.to_owned();
            told.differ(Aspect::Ipvs, "IPVS in the runner's kernel", &was, &is, words);
        }
        _ => told.unknown("IPVS, since no daemon was started in one of the runs"),
    }
}

/// Only a runner that is overloaded now and was not: loads are never the same.
fn pressure(told: &mut Told, green: &Results, now: &Results) {
    let overload = |results: &Results| {
        let told = |stage: &super::results::StageResult| {
            let why = stage.pressure.as_ref().and_then(Pressure::overload)?;
            Some(format!("{}: {why}", stage.name))
        };
        results.stages.iter().find_map(told)
    };
    if let (None, Some(why)) = (overload(green), overload(now)) {
        told.change(Aspect::Pressure, format!("the runner is overloaded, and was not: {why}"));
    }
    if now.stages.iter().all(|stage| stage.pressure.is_none()) {
        told.unknown("the load on the runner, since its kernel does not tell");
    }
}

/// A version, and what differs from its commit.
fn with_changes(version: &VersionSeen) -> String {
    let changed: Vec<String> = version.changed.iter().take(5).map(|file| clean(file)).collect();
    let beside = match version.changed.len() {
        0 => String::new(),
        count => format!(" with {count} changed files ({})", changed.join(", ")),
    };
    format!("{}{beside}", commit(version))
}

/// A version with its commit, since a release alone may be tagged anew.
fn commit(version: &VersionSeen) -> String {
    let short: Option<String> = version.commit.as_ref().map(|commit| commit.chars().take(12).collect());
    match (&version.release, short) {
        (Some(release), Some(commit)) => format!("{} ({})", clean(release), clean(&commit)),
        (None, Some(commit)) => clean(&commit),
        _ => clean(&version.name()),
    }
}

fn clean(words: &str) -> String {
    text::clean_to(words, LONGEST)
}

/// Enough of a digest to tell images apart.
fn short(id: &str) -> String {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    clean(&digits.chars().take(12).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::sample::{green, image};
    use super::*;
    use crate::recipe::pressure::{Lost, Stall};
    use assay_model::Sha256;

    fn aspects(since: &SinceGreen) -> Vec<Aspect> {
        match since {
            SinceGreen::Compared { changes, .. } => changes.iter().map(|change| change.aspect).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_thing_that_may_be_different_is_named_alone() {
        type Change = fn(&mut Results);
        let was = green(7);
        let cases: [(Aspect, Change); 13] = [
            (Aspect::Images, |now| {
                now.images.clear();
                now.stages[1].codes = vec![MISSING.to_owned()];
            }),
            (Aspect::Images, |now| now.images[0].id = "sha256:ffff".to_owned()),
            (Aspect::Images, |now| now.images.push(image("redis:7", "sha256:77"))),
            (Aspect::Commit, |now| now.version.as_mut().unwrap().commit = Some("b".repeat(40))),
            (Aspect::Commit, |now| now.version.as_mut().unwrap().changed = vec!["compose.yml".to_owned()]),
            (Aspect::Base, |now| now.base = None),
            (Aspect::Harness, |now| {
                now.harness.sha256 = Some(Sha256::of(b"another"));
                now.runner.as_mut().unwrap().harness = now.harness.clone();
            }),
            (Aspect::Configuration, |now| {
                now.configuration.files.insert("functional/a.sh".to_owned(), "00".to_owned());
            }),
            (Aspect::Dependencies, |now| {
                now.configuration.settings.insert("dependencies".to_owned(), serde_json::json!([]));
            }),
            (Aspect::Pressure, |now| {
                let cpu = Stall { some: Lost { avg10: 99.0, total_s: 9.5 }, ..Stall::default() };
                now.stages[1].pressure =
                    Some(Pressure { seconds: 10.0, cpu: Some(cpu), ..Pressure::default() });
            }),
            (Aspect::Ipvs, |now| now.runner.as_mut().unwrap().ipvs = Some(false)),
            (Aspect::Ground, |now| now.runner.as_mut().unwrap().ground = Ground::Shared),
            (Aspect::Runner, |now| now.runner.as_mut().unwrap().name = Some("other".to_owned())),
        ];
        for (aspect, change) in cases {
            let mut now = green(8);
            change(&mut now);
            assert_eq!(aspects(&SinceGreen::of(Some(&was), &now)), [aspect]);
        }
    }

    #[test]
    fn a_moved_tag_is_called_one() {
        let (was, mut now) = (green(7), green(8));
        now.images[0].id = format!("sha256:{}", "ab".repeat(32));
        now.images[0].digests.clear();
        let findings = SinceGreen::of(Some(&was), &now).findings();
        insta::assert_snapshot!(findings[0].message, @"the tag nginx:1.27 was moved: it is abababababab now, and was 111111111111 (the last green run is 7, 2026-01-02)");
        assert_eq!((findings.len(), findings[0].code.as_str()), (1, CHANGED));
    }

    #[test]
    fn where_nothing_differs_that_is_said_with_what_was_not_compared() {
        let (was, now) = (green(7), green(8));
        let told = SinceGreen::of(Some(&was), &now).findings();
        assert_eq!((told.len(), told[0].code.as_str(), told[0].severity), (1, NOTHING, Severity::Info));
        let early = Results { images: Vec::new(), runner: None, ..green(8) };
        let told = SinceGreen::of(Some(&was), &early).findings();
        insta::assert_snapshot!(told[0].message, @"nothing that is looked at differs from the last green run (7, 2026-01-02) (not compared: the images, since one of the runs did not come to them; the runner, since one of them did not say who it is)");
        let old = Harness { version: was.harness.version.clone(), sha256: None };
        let told = SinceGreen::of(Some(&Results { harness: old, ..was }), &now).findings();
        assert!(told[0].message.contains("a digest of it is missing"), "{}", told[0].message);
    }

    #[test]
    fn another_schema_and_no_green_run_are_said_and_not_compared() {
        let other = Results { schema: SCHEMA + 1, ..green(7) };
        assert_eq!(
            SinceGreen::of(Some(&other), &green(8)),
            SinceGreen::OtherSchema { run: 7, schema: SCHEMA + 1 }
        );
        assert_eq!(SinceGreen::of(None, &green(8)), SinceGreen::NeverGreen);
        for since in [SinceGreen::NeverGreen, SinceGreen::OtherSchema { run: 7, schema: 9 }] {
            assert_eq!(since.findings()[0].code, NO_BASELINE);
        }
    }

    #[test]
    fn a_flood_of_differences_is_counted_and_names_are_cleaned() {
        let (was, mut now) = (green(7), green(8));
        for number in 0..100 {
            now.configuration.files.insert(format!("\u{1b}[31mt{number}"), String::new());
        }
        let since = SinceGreen::of(Some(&was), &now);
        let findings = since.findings();
        assert_eq!(findings.len(), MOST + 1);
        assert!(findings[MOST].message.starts_with("60 more things"), "{}", findings[MOST].message);
        assert!(findings.iter().all(|finding| !finding.message.contains('\u{1b}')));
    }
}
