//! Hooks and tests: programs of the recipe's, run in the network of the run's daemon, with one JSON file to read.
//!
//! They see the app under its own domain, with a certificate that they can check, and nothing of the world outside: the network has
//! no way out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assay_process::{Cmd, Output, ProcessError};
use assay_recipe::customise::{
    Context, Executable, HookName, Operation, OperationName, OperationState, Paths, RecipeIdentity, context,
};

use super::dependencies::CA_VARIABLES;
use super::stand::Stand;
use super::{Tell, Test};
use crate::recipe::evidence::Ran;

/// Longest that a hook or a test may take.
const LIMIT: Duration = Duration::from_mins(15);
/// The most that is kept of what one says, in bytes.
const OUTPUT: usize = 4 << 20;
/// The most of it that stands in evidence, in bytes.
const LAST_WORDS: usize = 2000;
/// Gives the program the run's own names and no resolver: `$1` the hosts file, `$2` an empty file, then the program.
const NAMES: &str = r#"set -e
mount --bind "$1" /etc/hosts
if [ -e /etc/resolv.conf ]; then mount --bind "$2" /etc/resolv.conf; fi
shift 2
exec "$@""#;

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
        let work = self.work_folder(executable)?;
        let file =
            tempfile::Builder::new().prefix("context-").suffix(".json").tempfile_in(self.folder.path());
        let path = file.and_then(|file| file.into_temp_path().keep().map_err(Into::into));
        let path = path.map_err(|error: std::io::Error| format!("a file for the context: {error}"))?;
        std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let context = self.context(stand, op, &work);
        context.write(&path).map_err(|error| error.to_string())?;
        let command = self.inside(stand, &executable.path.display().to_string())?;
        let command = command.cwd(&work).env(context::VARIABLE, &path).timeout(LIMIT).max_output(OUTPUT);
        let began = Instant::now();
        let ended = command.run().await;
        let _ = std::fs::remove_file(&path);
        Ok(self.ran(&executable.name, began, ended))
    }

    /// What a program of this machine is started by, so that it sees the app as the world would.
    pub(super) fn inside(&self, stand: &Stand, program: &str) -> Result<Cmd, String> {
        let (hosts, nothing) = (self.folder.path().join("hosts"), self.folder.path().join("resolv.conf"));
        let names = format!("127.0.0.1 localhost\n{} {}\n", stand.address(), self.served().join(" "));
        let written = std::fs::write(&hosts, names).and_then(|()| std::fs::write(&nothing, ""));
        written.map_err(|error| format!("{}: {error}", hosts.display()))?;
        let ca = &stand.front.ca_file;
        let command = stand.command_inside("unshare");
        let command =
            command.args(["--mount", "--propagation", "private", "--", "/bin/sh", "-c", NAMES, "sh"]);
        // What the usual clients read the authority from.
        let command = CA_VARIABLES.into_iter().fold(command, |command, name| command.env(name, ca));
        Ok(command.arg(hosts).arg(nothing).arg(program))
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

    /// The recipe's checkout for the hook that prepares it, one folder for all others.
    fn work_folder(&self, executable: &Executable) -> Result<PathBuf, String> {
        let prepares = self.customisation.hook(HookName::InstallSteps) == Some(executable);
        let of_checkout = self.sources.as_ref().map(|sources| {
            let version = sources.base.as_ref().filter(|_| self.begins_at_base()).unwrap_or(&sources.head);
            version.folder.clone()
        });
        if let Some(folder) = of_checkout.filter(|_| prepares) {
            return Ok(folder);
        }
        let folder = self.folder.path().join("work");
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder)
    }

    fn ran(&mut self, name: &str, began: Instant, ended: Result<Output, ProcessError>) -> Ran {
        let seconds = began.elapsed().as_secs_f64();
        let (exit_code, problem, said) = match ended {
            Ok(output) => {
                let mut said = output.stdout_text().into_owned();
                said += &output.stderr_text();
                let problem = output.signal().map(|signal| format!("it was ended by signal {signal}"));
                (output.code(), problem, said)
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
