//! The proof catalogue: what is broken on purpose, and what must be seen then. One TOML file an entry.
//!
//! An entry that expects something impossible would be red for ever, and one that expects too little green for
//! ever, so a file is held against what the pipeline's judges can say before any machine is started.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use assay_model::host::spec::HostSpec;
use serde::{Deserialize, Serialize};

/// Every code that a judge of the host pipeline can raise, by stage. `--mute` works on these; what the engine
/// itself raises (a machine that never boots) belongs to no check and cannot be switched off.
pub(super) const CODES: [(&str, &[&str]); 4] = [
    ("Inventory", &["DriverMissing", "ProbeProblem", "SizeImplausible", "ToolMissing"]),
    (
        "SpecValidate",
        &[
            "CpuMismatch",
            "DimmMismatch",
            "DimmMissing",
            "DimmUnexpected",
            "DiskMismatch",
            "DiskMissing",
            "DiskUnexpected",
            "FirmwareDiffers",
            "GpuMissing",
            "MemoryTotal",
            "NicMismatch",
            "NicMissing",
            "NicUnexpected",
            "PciMissing",
            "SystemMismatch",
        ],
    ),
    (
        "SMART",
        &[
            "CommandTimeouts",
            "CrcErrors",
            "DiskAbsent",
            "DiskTooHot",
            "EndToEndErrors",
            "ErrorLogGrew",
            "ErrorLogHistory",
            "GrownDefects",
            "MediaErrors",
            "NonMediumErrors",
            "NvmeCriticalWarning",
            "PendingSectors",
            "ReallocatedSectors",
            "SelfTestFailed",
            "SelfTestFailedBefore",
            "SelfTestNotRun",
            "SmartAttributeBefore",
            "SmartCommandFailed",
            "SmartHealthFailed",
            "SmartPrefailAttribute",
            "SmartUnreadable",
            "SpareBelowThreshold",
            "SpinRetries",
            "UncorrectableSectors",
            "WearExceeded",
            "WearHigh",
        ],
    ),
    ("Reporting", &["ArtifactAltered", "ArtifactMissing", "ChainBroken", "SensorLost", "TemperatureLimit"]),
];

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
    expected: Expected,
}

/// Which pipeline an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Pipeline {
    /// Machines.
    Host,
}

/// One proof.
#[derive(Clone, Debug)]
pub(super) struct Entry {
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
    /// The lab machine.
    pub(super) machine: String,
    /// The healthy entry that must pass in the same invocation.
    pub(super) control: Option<String>,
    /// The expected spec (YAML); that of the machine as ordered without it.
    pub(super) spec: Option<String>,
    /// What must be seen.
    pub(super) expected: Expected,
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

    /// The entries with these names (all without any), and their controls.
    pub(super) fn select<'a>(&'a self, only: &[String]) -> Result<Selection<'a>> {
        let asked: Vec<&Entry> = if only.is_empty() {
            self.entries.values().collect()
        } else {
            only.iter().map(|name| self.entry(name)).collect::<Result<_>>()?
        };
        let mut healthy = BTreeMap::new();
        let mut others = BTreeMap::new();
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
        if proven.contains(&code) {
            return Ok(());
        }
        let proven = proven.join(", ");
        if CODES.iter().any(|(_, codes)| codes.contains(&code)) {
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
            }
        }
        Ok(())
    }
}

impl Selection<'_> {
    /// Whether this entry was asked for, and is not only the control of another.
    pub(super) fn asked_for(&self, entry: &Entry) -> bool {
        self.asked.contains(&entry.name.as_str())
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
        let File { description, pipeline, kind, made_by, machine, control, spec, expected } =
            toml::from_str(text)?;
        let entry = Self {
            name: name.to_owned(),
            description,
            pipeline,
            kind,
            made_by,
            machine,
            control,
            spec,
            expected,
        };
        entry.check()?;
        Ok(entry)
    }

    fn check(&self) -> Result<()> {
        let expected = &self.expected;
        match (self.kind, &self.control) {
            (Kind::Healthy, Some(_)) => bail!("a healthy entry is a control and has none; remove `control`"),
            (Kind::Fault | Kind::Canary, None) => {
                bail!("name the healthy entry of the same machine as `control`")
            }
            _ => {}
        }
        match (expected.verdict, &expected.stage, &expected.code) {
            (Conclusion::Pass, None, None) if expected.beside.is_empty() => {
                ensure!(self.kind != Kind::Fault, "a fault must expect `verdict = \"fail\"`");
            }
            (Conclusion::Pass, ..) => bail!("a pass has no stage and no codes"),
            (Conclusion::Fail, Some(stage), Some(code)) => {
                ensure!(self.kind != Kind::Healthy, "a healthy entry must expect `verdict = \"pass\"`");
                for code in expected.beside.iter().chain([code]) {
                    can_raise(stage, code)?;
                }
            }
            (Conclusion::Fail, ..) => {
                bail!("a fail needs `stage` and `code`: red for any reason proves nothing")
            }
        }
        if let Some(spec) = &self.spec {
            HostSpec::from_yaml(spec).context("spec")?;
        }
        Ok(())
    }
}

fn can_raise(stage: &str, code: &str) -> Result<()> {
    let Some((_, codes)) = CODES.iter().find(|(name, _)| *name == stage) else {
        let stages: Vec<_> = CODES.iter().map(|(name, _)| *name).collect();
        bail!("no stage `{stage}` raises codes; there are {}", stages.join(", "));
    };
    ensure!(codes.contains(&code), "stage {stage} cannot raise `{code}`; it can raise {}", codes.join(", "));
    Ok(())
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
