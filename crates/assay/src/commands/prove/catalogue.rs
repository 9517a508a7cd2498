//! The proof catalogue: what is broken on purpose, and what must be seen then. One TOML file an entry.
//!
//! An entry that expects something impossible would be red for ever, and one that expects too little green for
//! ever, so a file is held against what the pipeline's judges can say before any machine is started.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use assay_model::Pipeline;
use assay_model::host::order::Profile;
use assay_model::host::spec::{FieldPattern, FieldSeverity, HostSpec, Limits};
use assay_qemu::Injection;
use serde::{Deserialize, Serialize};

use super::codes::{can_be_muted, can_raise, check_stage, is_known};

/// The stages that every run needs: what a machine is, whether it is the right one, and the report.
const ALWAYS: [&str; 3] = ["Inventory", "SpecValidate", "Reporting"];
/// The stage that needs none of them but the report: it boots something else, on a machine so small that it is done
/// within minutes, and that is too small for the live image.
const ALONE: &str = "Memtest86";

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Something is broken and must be found.
    Fault,
    /// Looks odd and must pass, or looks fine and must fail.
    Canary,
    /// In good order. The control of others.
    Healthy,
}

/// Where the fault is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum MadeBy {
    /// By the machine itself: everything from its hardware on is real.
    Device,
    /// By a stand-in at the world's edge, such as a tool that lies.
    Edge,
}

/// What a run concludes, as far as an entry can expect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Conclusion {
    /// The run passes.
    Pass,
    /// The run fails.
    Fail,
}

/// What must be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    /// The run's result.
    pub(super) verdict: Conclusion,
    /// The stage that fails.
    #[serde(default)]
    pub(super) stage: Option<String>,
    /// The critical finding's code.
    #[serde(default)]
    pub(super) code: Option<String>,
    /// Codes that must be raised too, however severe.
    #[serde(default, skip_serializing)]
    pub(super) beside: Vec<String>,
    /// Serial numbers (or places) of the parts that the code must blame, each of them.
    #[serde(default, skip_serializing)]
    pub(super) parts: Vec<String>,
}

/// A fault that is made while the machine runs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Inject {
    /// When.
    pub(super) when: When,
    /// What. It refuses keys that it does not know, for both.
    #[serde(flatten)]
    pub(super) fault: Injection,
}

/// A moment of a run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    /// Once this stage has begun.
    pub(super) stage: String,
    /// And once a line of its progress holds this.
    #[serde(default)]
    pub(super) says: Option<String>,
    /// So many seconds later.
    #[serde(default)]
    pub(super) after_s: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    description: String,
    pipeline: Pipeline,
    kind: Kind,
    made_by: MadeBy,
    machine: String,
    #[serde(default)]
    control: Option<String>,
    #[serde(default)]
    spec: Option<String>,
    #[serde(default)]
    limits: Option<Limits>,
    #[serde(default)]
    severity: BTreeMap<FieldPattern, FieldSeverity>,
    #[serde(default)]
    profile: Profile,
    #[serde(default)]
    stages: Vec<String>,
    #[serde(default)]
    inject: Vec<Inject>,
    #[serde(default)]
    smoke: bool,
    expected: Expected,
}

/// What every proof has, whichever pipeline it is about.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    /// The file's name without `.toml`; also the host's name while it is proven.
    pub(super) name: String,
    /// One line for lists.
    pub(super) description: String,
    /// Which pipeline.
    pub(super) pipeline: Pipeline,
    /// What it is.
    pub(super) kind: Kind,
    /// Where the fault is made.
    pub(super) made_by: MadeBy,
    /// The healthy entry that must pass in the same invocation.
    pub(super) control: Option<String>,
    /// Whether it belongs to the short run.
    pub(super) smoke: bool,
    /// What must be seen.
    pub(super) expected: Expected,
}

impl Proof {
    /// Refuses one that could never come out, or always does. `can_raise` knows which stage says what.
    pub(super) fn check(&self, can_raise: fn(&str, &str) -> Result<()>) -> Result<()> {
        let expected = &self.expected;
        match (self.kind, &self.control) {
            (Kind::Healthy, Some(_)) => bail!("a healthy entry is a control and has none; remove `control`"),
            (Kind::Fault | Kind::Canary, None) => {
                bail!("name the healthy entry of the same machine as `control`")
            }
            _ => {}
        }
        match (expected.verdict, &expected.stage, &expected.code) {
            // A canary may be odd in a way that is told and forgiven.
            (Conclusion::Pass, None, None) if expected.parts.is_empty() => {
                ensure!(self.kind != Kind::Fault, "a fault must expect `verdict = \"fail\"`");
                ensure!(
                    self.kind == Kind::Canary || expected.beside.is_empty(),
                    "a healthy machine has no codes beside its pass"
                );
                ensure!(
                    expected.beside.iter().all(|code| is_known(code)),
                    "`beside` names a code that is not known"
                );
            }
            (Conclusion::Pass, ..) => bail!("a pass has no stage, code or parts"),
            (Conclusion::Fail, Some(stage), Some(code)) => {
                ensure!(self.kind != Kind::Healthy, "a healthy entry must expect `verdict = \"pass\"`");
                can_raise(stage, code)?;
                for code in &expected.beside {
                    // A recipe's run goes on after a failed stage: another one may have its say, too.
                    if self.pipeline == Pipeline::Recipe {
                        ensure!(is_known(code), "`{code}`, which is expected beside, is not known");
                    } else {
                        can_raise(stage, code)?;
                    }
                }
            }
            (Conclusion::Fail, ..) => {
                bail!("a fail needs `stage` and `code`: red for any reason proves nothing")
            }
        }
        Ok(())
    }
}

/// One proof of the host pipeline.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What every proof has.
    pub(super) proof: Proof,
    /// The lab machine.
    pub(super) machine: String,
    /// The expected spec (YAML); that of the machine as ordered without it.
    pub(super) spec: Option<String>,
    /// Other limits in that spec.
    pub(super) limits: Option<Limits>,
    /// Other severities in that spec.
    pub(super) severity: BTreeMap<FieldPattern, FieldSeverity>,
    /// How thorough the run is.
    pub(super) profile: Profile,
    /// Stages that it needs beyond those that the rest of the file names.
    pub(super) stages: Vec<String>,
    /// What is done to the machine while it runs.
    pub(super) inject: Vec<Inject>,
}

impl std::ops::Deref for Entry {
    type Target = Proof;

    fn deref(&self) -> &Proof {
        &self.proof
    }
}

/// All proofs, by name.
#[derive(Clone, Debug)]
pub(super) struct Catalogue {
    entries: BTreeMap<String, Entry>,
}

/// What is to be run: each machine once, and which of them were asked for.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    /// Healthy machines first: controls, whether asked for or not.
    pub(super) healthy: Vec<&'a Entry>,
    /// Everything else.
    pub(super) others: Vec<&'a Entry>,
    asked: Vec<&'a str>,
    /// By entry: the stages that its run needs; all of them where there is no set.
    stages: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl Catalogue {
    /// Reads and checks all entries of a folder.
    pub(super) fn load(folder: &Path) -> Result<Self> {
        let listing = std::fs::read_dir(folder).with_context(|| {
            format!("{}: name the folder of the catalogue with --faults", folder.display())
        })?;
        let mut entries = BTreeMap::new();
        for file in listing {
            let path = file.with_context(|| folder.display().to_string())?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".toml")) else {
                continue;
            };
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let entry = Entry::read(name, &text).with_context(|| path.display().to_string())?;
            entries.insert(name.to_owned(), entry);
        }
        ensure!(
            !entries.is_empty(),
            "{}: there is no entry here; an empty catalogue proves nothing",
            folder.display()
        );
        let catalogue = Self { entries };
        catalogue.check()?;
        Ok(catalogue)
    }

    /// All entries, by name.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The names of the entries of the short run.
    pub(super) fn smoke(&self) -> Vec<String> {
        self.entries().filter(|entry| entry.smoke).map(|entry| entry.name.clone()).collect()
    }

    /// The entries with these names (all without any), and their controls.
    pub(super) fn select<'a>(&'a self, only: &[String]) -> Result<Selection<'a>> {
        let asked: Vec<&Entry> = if only.is_empty() {
            self.entries.values().collect()
        } else {
            only.iter().map(|name| self.entry(name)).collect::<Result<_>>()?
        };
        let mut healthy = BTreeMap::new();
        let mut others = BTreeMap::new();
        let mut stages: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        // A healthy machine goes through all stages, unless its file names some.
        for entry in asked.iter().filter(|entry| entry.kind != Kind::Healthy || !entry.stages.is_empty()) {
            let needed = entry.needs();
            // A control is run once, with everything that those need whose control it is.
            let of_control = entry.control.iter().map(String::as_str).filter(|name| !asked_for(&asked, name));
            for name in of_control.chain([entry.name.as_str()]) {
                stages.entry(name).or_default().extend(&needed);
            }
        }
        for entry in &asked {
            let into = if entry.kind == Kind::Healthy { &mut healthy } else { &mut others };
            into.insert(entry.name.as_str(), *entry);
            if let Some(control) = &entry.control {
                healthy.insert(control.as_str(), self.entry(control)?);
            }
        }
        Ok(Selection {
            healthy: healthy.into_values().collect(),
            others: others.into_values().collect(),
            asked: asked.iter().map(|entry| entry.name.as_str()).collect(),
            stages,
        })
    }

    /// The codes that some entry expects, sorted: what `--mute` may name.
    pub(super) fn codes(&self) -> Vec<&str> {
        let mut codes: Vec<_> = self.entries().filter_map(|entry| entry.expected.code.as_deref()).collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    /// Refuses a code whose loss nothing could notice.
    pub(super) fn check_muted(&self, code: &str) -> Result<()> {
        let proven = self.codes();
        ensure!(
            can_be_muted(code),
            "`{code}` is what the engine itself sees; no check can be switched off for it"
        );
        if proven.contains(&code) {
            return Ok(());
        }
        let proven = proven.join(", ");
        if is_known(code) {
            bail!(
                "no entry of the catalogue expects `{code}`, so nothing could notice its loss; entries expect {proven}"
            );
        }
        bail!("there is no code `{code}`; entries of the catalogue expect {proven}")
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).with_context(|| {
            let known: Vec<_> = self.entries.keys().map(String::as_str).collect();
            format!("there is no entry `{name}`; there are {}", known.join(", "))
        })
    }

    /// What one file alone cannot show.
    fn check(&self) -> Result<()> {
        let mut machines = BTreeMap::new();
        for entry in self.entries() {
            if let Some(other) = machines.insert(&entry.machine, &entry.name) {
                bail!(
                    "`{}` and `{other}` use the same machine `{}`; give each a machine file with a unit of its own",
                    entry.name,
                    entry.machine
                );
            }
            if let Some(control) = &entry.control {
                let control =
                    self.entry(control).with_context(|| format!("the control of `{}`", entry.name))?;
                ensure!(
                    control.kind == Kind::Healthy,
                    "`{}` names `{}` as its control, which is not healthy",
                    entry.name,
                    control.name
                );
                ensure!(
                    control.profile == entry.profile,
                    "`{}` runs with profile {} and its control `{}` with {}; they must be the same",
                    entry.name,
                    entry.profile,
                    control.name,
                    control.profile
                );
            }
        }
        Ok(())
    }
}

impl<'a> Selection<'a> {
    /// Whether this entry was asked for, and is not only the control of another.
    pub(super) fn asked_for(&self, entry: &Entry) -> bool {
        self.asked.contains(&entry.name.as_str())
    }

    /// The only stages of an entry's run, in any order; none named for all of them. What an entry does not need would
    /// only cost time.
    pub(super) fn only(&self, entry: &Entry) -> Vec<&'a str> {
        let Some(needed) = self.stages.get(entry.name.as_str()) else { return Vec::new() };
        if needed.iter().eq([&ALONE]) {
            return vec![ALONE];
        }
        needed.iter().copied().chain(ALWAYS).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Every entry that will be run, controls first.
    pub(super) fn machines(&self) -> impl Iterator<Item = &Entry> {
        self.healthy.iter().chain(&self.others).copied()
    }

    /// How many machines will be run.
    pub(super) fn len(&self) -> usize {
        self.healthy.len() + self.others.len()
    }

    /// Refuses a selection in which nothing could notice the loss of `code`.
    pub(super) fn check_muted(&self, code: &str) -> Result<()> {
        let expects = |entry: &&Entry| entry.expected.code.as_deref() == Some(code);
        ensure!(
            self.others.iter().any(expects),
            "none of the chosen entries expects `{code}`; choose others with --only, or leave it out"
        );
        Ok(())
    }
}

impl Entry {
    fn read(name: &str, text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let proof = Proof {
            name: name.to_owned(),
            description: file.description,
            pipeline: file.pipeline,
            kind: file.kind,
            made_by: file.made_by,
            control: file.control,
            smoke: file.smoke,
            expected: file.expected,
        };
        let entry = Self {
            proof,
            machine: file.machine,
            spec: file.spec,
            limits: file.limits,
            severity: file.severity,
            profile: file.profile,
            stages: file.stages,
            inject: file.inject,
        };
        entry.check()?;
        Ok(entry)
    }

    fn check(&self) -> Result<()> {
        self.proof.check(can_raise)?;
        if let Some(spec) = &self.spec {
            HostSpec::from_yaml(spec).context("spec")?;
        }
        ensure!(
            self.kind != Kind::Healthy || self.inject.is_empty(),
            "nothing is done to a healthy machine; remove `inject`"
        );
        for stage in self.inject.iter().map(|inject| &inject.when.stage).chain(&self.stages) {
            check_stage(stage)?;
        }
        Ok(())
    }

    /// The stages that it cannot do without.
    fn needs(&self) -> BTreeSet<&str> {
        let named = self.inject.iter().map(|inject| &inject.when.stage).chain(&self.stages);
        named.chain(&self.expected.stage).map(String::as_str).collect()
    }
}

fn asked_for(asked: &[&Entry], name: &str) -> bool {
    asked.iter().any(|entry| entry.name == name)
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
