//! What hooks and tests would need and a machine for strangers' recipes has not: a browser, Node.js, pytest, whatever else their first
//! lines name. Its image is small. What cannot be done there is not held against the recipe: it is told before anything is deployed, and
//! stays unverified.
//!
//! Elsewhere nobody looks: a runner is set up by somebody who can install what its recipes need.

use std::collections::BTreeMap;
use std::path::Path;

use assay_process::{Cmd, SANDBOX_PATH, find_program};
use assay_recipe::customise::{Executable, HookName, OperationName, Placement};
use assay_recipe::settings::Provider;

use super::{Tell, Test};

/// What is missing, by what needs it.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Why a stage cannot be begun.
    stages: BTreeMap<&'static str, String>,
    /// Why a test cannot be run.
    tests: BTreeMap<String, String>,
    browser: Option<String>,
}

/// The hooks that a stage cannot do without, and the operation that tests of its own follow.
const STAGES: [(&str, &[HookName], OperationName); 4] = [
    ("Install", &[HookName::InstallSteps, HookName::PreInstall, HookName::Ready], OperationName::Install),
    ("Upgrade", &[HookName::PreUpgrade], OperationName::Upgrade),
    ("Backup", &[HookName::PreBackup, HookName::BackupVerify], OperationName::Backup),
    ("Restore", &[HookName::PreRestore], OperationName::Restore),
];

impl Missing {
    /// Why a stage cannot be begun here.
    pub(super) fn of_stage(&self, stage: &str) -> Option<String> {
        self.stages.get(stage).cloned()
    }

    /// Why a test cannot be run here.
    pub(super) fn of_test(&self, placement: Placement, name: &str) -> Option<String> {
        let browser = self.browser.as_ref().filter(|_| placement == Placement::Browser);
        browser.or_else(|| self.tests.get(name)).cloned()
    }

    /// Every gap once, in words.
    fn told(&self) -> Vec<String> {
        let stages = self.stages.iter().map(|(stage, why)| format!("{stage} cannot be done: {why}"));
        let tests = self.tests.iter().map(|(name, why)| format!("{name} cannot be run: {why}"));
        let browser = self.browser.iter().map(|why| format!("tests in browser/ cannot be run: {why}"));
        stages.chain(tests).chain(browser).collect()
    }
}

impl Test {
    /// Looks what is missing, where this is a machine for strangers' recipes, and says it.
    pub(super) async fn look_for_programs(&mut self, tell: Tell<'_>) {
        if self.settings.outside.is_none() {
            return;
        }
        let mut missing = Missing::default();
        if self.is_of_a_provider() && find_program("node").is_err() {
            let why = "single sign-on is provided by a program for Node.js (`node`), which machines for strangers' recipes have not";
            missing.stages.insert("Install", why.to_owned());
        }
        for (stage, hooks, operation) in STAGES {
            let hooks = hooks.iter().filter_map(|hook| self.customisation.hook(*hook));
            let tests = self.customisation.tests_at(Placement::After(operation));
            for executable in hooks.chain(tests) {
                if let Some(why) = missing_for(executable).await {
                    missing.stages.entry(stage).or_insert_with(|| format!("{}: {why}", executable.name));
                }
            }
        }
        for placement in [Placement::Functional, Placement::Browser, Placement::Extra] {
            for test in self.customisation.tests_at(placement) {
                if let Some(why) = missing_for(test).await {
                    missing.tests.insert(test.name.clone(), why);
                }
            }
        }
        let browser_tests = !self.customisation.tests_at(Placement::Browser).is_empty();
        if browser_tests && ["chromedriver", "chromium"].iter().any(|name| find_program(name).is_err()) {
            missing.browser = Some("machines for strangers' recipes have no browser".to_owned());
        }
        // In one line: of what comes at once the runner outside passes on the first.
        let told = missing.told();
        if !told.is_empty() {
            tell(&told.join("; "));
        }
        self.missing = missing;
    }

    fn is_of_a_provider(&self) -> bool {
        let dependencies = &self.spec.settings.dependencies;
        dependencies.iter().any(|dependency| dependency.provider == Some(Provider::Oidc))
    }
}

/// What runs it and is not here; none where it can be run.
async fn missing_for(executable: &Executable) -> Option<String> {
    let Needed { program, module } = needed(&executable.interpreter)?;
    let is_there = if program.starts_with('/') {
        Path::new(program).exists()
    } else {
        SANDBOX_PATH.split(':').any(|folder| Path::new(folder).join(program).exists())
    };
    if !is_there {
        return Some(format!("`{program}` runs it, which machines for strangers' recipes have not"));
    }
    let module = module?;
    // Looked for, and not loaded; nothing of the recipe's is on the way.
    let look = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)";
    let found = Cmd::new(program).args(["-I", "-c", look, module]).run().await;
    let is_there = found.is_ok_and(|ended| ended.success());
    (!is_there).then(|| {
        format!("the Python module `{module}` runs it, which machines for strangers' recipes have not")
    })
}

/// What the first line of a script names.
#[derive(Debug, PartialEq, Eq)]
struct Needed<'a> {
    program: &'a str,
    /// Of Python's, where one runs it.
    module: Option<&'a str>,
}

/// Reads it. None where nothing is named that could be looked for.
fn needed(interpreter: &str) -> Option<Needed<'_>> {
    let mut words = interpreter.split_whitespace();
    let mut program = words.next()?;
    if program.ends_with("/env") {
        program = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    }
    let name = program.rsplit('/').next().unwrap_or(program);
    let module = words.skip_while(|word| *word != "-m").nth(1).filter(|_| name.starts_with("python"));
    // One of a package is where the package is.
    let module = module.and_then(|module| module.split('.').next());
    let plain = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    Some(Needed { program, module: module.filter(plain) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_a_script_is_in_its_first_line() {
        let told = |line: &str| {
            let Needed { program, module } = needed(line).unwrap();
            format!("{program} {}", module.unwrap_or("-"))
        };
        for (line, expected) in [
            ("/bin/sh", "/bin/sh -"),
            ("/bin/sh -eu", "/bin/sh -"),
            ("/usr/bin/env node", "node -"),
            ("/usr/bin/env -S A=b python3 -m pytest -p pytest_assay", "python3 pytest"),
            ("/usr/bin/env -S python3 -m coverage.run", "python3 coverage"),
            ("/usr/bin/env -S perl -m pytest", "perl -"),
            ("/usr/bin/python3 -m ../x", "/usr/bin/python3 -"),
        ] {
            assert_eq!(told(line), expected, "{line}");
        }
        assert_eq!(needed("/usr/bin/env"), None);
    }

    #[tokio::test]
    async fn what_is_not_there_is_named() {
        let of = async |interpreter: &str| {
            let executable = Executable {
                name: "functional/look".to_owned(),
                path: "/nowhere".into(),
                interpreter: interpreter.to_owned(),
                format: 1,
                sha256: String::new(),
            };
            missing_for(&executable).await.unwrap_or_default()
        };
        assert_eq!(of("/bin/sh").await, "");
        assert_eq!(of("/usr/bin/env -S python3 -m json.tool").await, "");
        assert!(of("/usr/bin/env -S python3 -m no_such_module").await.contains("`no_such_module` runs it"));
        assert!(of("/usr/bin/env no-such-program").await.starts_with("`no-such-program` runs it"));
        assert!(of("/opt/no/such").await.starts_with("`/opt/no/such` runs it"));
    }
}
