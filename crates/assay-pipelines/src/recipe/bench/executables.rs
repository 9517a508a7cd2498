//! Hooks and tests: programs of the recipe's, run in a sandbox in the network of the run's daemon, with one JSON file to read.
//!
//! They see the app under its own domain, with a certificate that they can check, and nothing of the world outside: the network has
//! no way out, and of this machine there is little to see (`sandbox.rs`).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assay_process::{Output, ProcessError, Sandbox};
use assay_recipe::customise::{
    Context, Executable, HookName, Operation, OperationName, OperationState, Paths, RecipeIdentity, context,
};

use super::sandbox::{Copied, Sandboxed};
use super::stand::Stand;
use super::{Tell, Test};
use crate::recipe::evidence::Ran;

/// Longest that a hook or a test may take.
const LIMIT: Duration = Duration::from_mins(15);
/// The most that is kept of what one says, in bytes.
const OUTPUT: usize = 4 << 20;
/// The most of it that stands in evidence, in bytes.
const LAST_WORDS: usize = 2000;

/// An operation that is about to be performed.
pub(super) fn pending(name: OperationName) -> Operation {
    Operation { name, state: OperationState::Pending, facts: serde_json::Map::new() }
}

/// An operation that was performed.
pub(super) fn done(name: OperationName) -> Operation {
    Operation { name, state: OperationState::Done, facts: serde_json::Map::new() }
}

impl Test {
    /// Runs a hook, where there is one.
    pub(super) async fn hook(
        &mut self,
        name: HookName,
        op: Option<Operation>,
        tell: Tell<'_>,
    ) -> Result<Option<Ran>, String> {
        let Some(hook) = self.customisation.hook(name).cloned() else { return Ok(None) };
        tell(&format!("hook {}", hook.name));
        self.run_executable(&hook, op).await.map(Some)
    }

    /// Runs a hook or a test to its end.
    pub(super) async fn run_executable(
        &mut self,
        executable: &Executable,
        op: Option<Operation>,
    ) -> Result<Ran, String> {
        executable.check_unchanged().map_err(|error| error.to_string())?;
        let Some(stand) = &self.stand else { return Err("there is no daemon to run it beside".to_owned()) };
        let checkout = self.checkout_of(executable);
        let work = checkout.clone().unwrap_or_else(|| self.common_folder());
        let file =
            tempfile::Builder::new().prefix("context-").suffix(".json").tempfile_in(self.folder.path());
        let path = file.and_then(|file| file.into_temp_path().keep().map_err(Into::into));
        let path = path.map_err(|error: std::io::Error| format!("a file for the context: {error}"))?;
        std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let context = self.context(stand, op, &work);
        context.write(&path).map_err(|error| error.to_string())?;
        let told = |sandbox: Sandbox| sandbox.read(&path, &path).env(context::VARIABLE, &path);
        let mut sandboxed = self.sandboxed(stand)?.with(told);
        let copied = match &checkout {
            Some(checkout) => Some(Copied::of(checkout, stand).await?),
            None => None,
        };
        if let Some(copied) = &copied {
            sandboxed = sandboxed.with(|sandbox| copied.shown(sandbox));
        }
        let command = sandboxed.command(&executable.path).timeout(LIMIT).max_output(OUTPUT);
        let began = Instant::now();
        let ended = command.run().await;
        let _ = std::fs::remove_file(&path);
        let ran = self.ran(&executable.name, began, ended, &sandboxed);
        if let Some(copied) = copied.filter(|_| ran.succeeded()) {
            copied.put_back().await?;
        }
        Ok(ran)
    }

    fn context(&self, stand: &Stand, op: Option<Operation>, work: &Path) -> Context {
        let version = self.up.as_ref().map(|up| &up.version);
        let has_face = self.up.as_ref().is_some_and(|up| self.face(&up.stack).is_some());
        Context {
            format: context::FORMAT,
            recipe: RecipeIdentity {
                name: self.spec.name.clone(),
                version: version.and_then(|version| version.release.clone()),
                commit: version.and_then(|version| version.commit.clone()),
            },
            domain: self.domain.clone(),
            base_url: has_face.then(|| format!("https://{}", stand.front.authority())),
            stack: assay_recipe::names::stack_name(&self.domain),
            op,
            meta: self.spec.settings.clone(),
            deps: self.dependencies.credentials(),
            paths: Paths { work: work.to_owned(), ca_file: Some(stand.front.ca_file.clone()) },
            browser: self.browser.as_ref().map(super::browser::Browser::context),
        }
    }

    /// The recipe's checkout, for the hook that prepares it.
    fn checkout_of(&self, executable: &Executable) -> Option<PathBuf> {
        let prepares = self.customisation.hook(HookName::InstallSteps) == Some(executable);
        let sources = self.sources.as_ref().filter(|_| prepares)?;
        let version = sources.base.as_ref().filter(|_| self.begins_at_base()).unwrap_or(&sources.head);
        Some(version.folder.clone())
    }

    fn ran(
        &mut self,
        name: &str,
        began: Instant,
        ended: Result<Output, ProcessError>,
        sandboxed: &Sandboxed,
    ) -> Ran {
        let seconds = began.elapsed().as_secs_f64();
        let (exit_code, problem, said) = match ended {
            Ok(output) => {
                let mut said = output.stdout_text().into_owned();
                said += &output.stderr_text();
                let limit = || sandboxed.limit_reached(&said);
                let problem = match output.signal() {
                    Some(signal) => Some(format!("it was ended by signal {signal}")),
                    None if output.success() => None,
                    None => limit(),
                };
                (output.code(), problem, said)
            }
            Err(ProcessError::Timeout { after, stderr_tail, .. }) => {
                let minutes = after.as_secs() / 60;
                let problem = format!("it did not end within {minutes} minutes, and was stopped");
                (None, Some(problem), stderr_tail)
            }
            Err(error) => (None, Some(error.to_string()), String::new()),
        };
        let log = format!("{}.log", name.replace('/', "-"));
        let from = said.len().saturating_sub(LAST_WORDS);
        let from = (from..=said.len()).find(|at| said.is_char_boundary(*at)).unwrap_or(said.len());
        let last_words = said[from..].to_owned();
        self.artifacts.push((log.clone(), said.into_bytes()));
        Ran { name: name.to_owned(), exit_code, problem, seconds, last_words, log }
    }
}
