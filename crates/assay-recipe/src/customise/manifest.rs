//! What a run was customised with: printed when it begins, and embedded in what it reports.
//!
//! It is made from the very value that the run uses, so it cannot name a hook that did not run or miss a test that did.

use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Customisation, Executable, Ignored, Placement, Redactor};

/// The number of the manifest's form.
pub const FORMAT: u32 = 1;

/// What is said of a run without the generic checks.
pub const SKIP_GENERIC_WARNING: &str = "THE GENERIC CHECKS ARE OFF (ASSAY_SKIP_GENERIC=1). What passes here proves nothing about installing, upgrading, backing up or restoring; unset it for a result that counts.";

/// What a run was customised with. Secrets are redacted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Assay customisation manifest")]
pub struct Manifest {
    /// The number of this form: 1.
    pub format: u32,
    /// Settings that differ from the defaults, by their names.
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    pub settings: IndexMap<String, Value>,
    /// The compose overlay.
    pub overlay: Option<ManifestFile>,
    /// Hooks, by their names, in the order of a run.
    #[schemars(with = "std::collections::BTreeMap<String, ManifestFile>")]
    pub hooks: IndexMap<String, ManifestFile>,
    /// Tests that run, by their placement, in the order of a run.
    #[schemars(with = "std::collections::BTreeMap<String, Vec<ManifestFile>>")]
    pub tests: IndexMap<String, Vec<ManifestFile>>,
    /// Tests that would run if they were asked for.
    pub not_asked_for: Vec<String>,
    /// What is in the folder and is not used.
    pub ignored: Vec<Ignored>,
    /// Switches that are on: `extra`, `skip_generic`, `shared_swarm`, `in_vm`.
    pub switches: Vec<String>,
    /// What its reader should hear.
    pub warnings: Vec<String>,
}

/// A file, as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestFile {
    /// Its path from the folder of tests.
    pub name: String,
    /// SHA-256 of its content, in hex.
    pub sha256: String,
}

impl Manifest {
    /// Of what a run uses. `redactor` knows the run's secrets; those in the settings are known anyhow.
    pub fn of(customisation: &Customisation, redactor: &Redactor) -> Self {
        let settings = &customisation.settings.settings;
        let own = redactor.with(settings.deploy.secrets.values());
        let tests = Placement::ALL.into_iter().filter_map(|placement| {
            let files: Vec<_> =
                customisation.tests_at(placement).iter().map(|test| file(&own, test)).collect();
            (!files.is_empty()).then(|| (placement.name().to_owned(), files))
        });
        let options = customisation.options;
        let left_out = if options.extra { None } else { customisation.tests.get(&Placement::Extra) };
        let switches = [(options.extra, "extra"), (options.skip_generic, "skip_generic")];
        Self {
            format: FORMAT,
            settings: settings
                .changed()
                .iter()
                .map(|(name, value)| (name.clone(), own.named(name, value)))
                .collect(),
            overlay: customisation.overlay.as_ref().map(|overlay| ManifestFile {
                name: super::OVERLAY.to_owned(),
                sha256: overlay.sha256.clone(),
            }),
            hooks: customisation
                .hooks
                .iter()
                .map(|(name, hook)| (name.name().to_owned(), file(&own, hook)))
                .collect(),
            tests: tests.collect(),
            not_asked_for: left_out.into_iter().flatten().map(|test| own.text(&test.name)).collect(),
            ignored: customisation
                .ignored
                .iter()
                .map(|ignored| Ignored { name: own.text(&ignored.name), why: own.text(&ignored.why) })
                .collect(),
            switches: switches.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()).collect(),
            warnings: customisation.warnings().iter().map(|warning| own.text(warning)).collect(),
        }
    }
}

fn file(redactor: &Redactor, executable: &Executable) -> ManifestFile {
    ManifestFile { name: redactor.text(&executable.name), sha256: executable.sha256.clone() }
}

/// For people: one line for each thing, nothing for what is not there, and `no customisation` where nothing is.
impl fmt::Display for Manifest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.warnings.iter().flat_map(|warning| {
            // The loader shows the place under its words.
            let mut rows = warning.lines();
            let first = rows.next().map(|row| format!("WARNING  {row}"));
            first.into_iter().chain(rows.map(|row| format!("         {row}")))
        }));
        lines.extend(self.switches.iter().map(|switch| format!("switch   {switch}")));
        lines.extend(
            self.settings
                .iter()
                .map(|(name, value)| format!("setting  {name} = {}", crate::settings::inline(value))),
        );
        lines.extend(self.overlay.iter().map(|file| format!("overlay  {file}")));
        lines.extend(self.hooks.values().map(|file| format!("hook     {file}")));
        lines.extend(self.tests.values().flatten().map(|file| format!("test     {file}")));
        lines.extend(
            self.not_asked_for.iter().map(|name| format!("not run  {name}: ask for it with --extra")),
        );
        lines.extend(self.ignored.iter().map(|file| format!("ignored  {}: {}", file.name, file.why)));
        if lines.is_empty() {
            lines.push("no customisation".to_owned());
        }
        // What strangers wrote must not look like a line of ours.
        let clean = lines
            .iter()
            .map(|line| -> String { line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() });
        out.write_str(&clean.collect::<Vec<_>>().join("\n"))
    }
}

impl fmt::Display for ManifestFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} (sha256 {})", self.name, self.sha256.get(..12).unwrap_or(&self.sha256))
    }
}
