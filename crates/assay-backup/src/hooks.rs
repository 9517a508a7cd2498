//! Hooks: what the labels have run in containers around a backup or a restore.

use std::time::Duration;

use assay_recipe::labels::{Hook, Moment};
use assay_swarm::{ContainerCommand, SwarmError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BackupError, Site, store::readable};

/// Characters kept of each stream: the last ones.
const OUTPUT: usize = 16 << 10;
/// Characters kept of why it did not end.
pub(crate) const TROUBLE: usize = 2000;

/// A hook that was run, or could not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookRun {
    /// In which service's container, by its name in the files.
    pub service: String,
    /// When.
    pub moment: HookMoment,
    /// What, as the label has it.
    pub command: String,
    /// How it ended; `None` when it did not end, or never began.
    pub exit_code: Option<i64>,
    /// The end of what it wrote: 16 KiB at most.
    pub stdout: String,
    /// The end of what it complained of: 16 KiB at most.
    pub stderr: String,
    /// Why it did not end or begin; empty where it did both.
    pub trouble: String,
    /// How long it took.
    pub took: Duration,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HookMoment {
    /// `backupbot.backup.pre-hook`.
    BeforeBackup,
    /// `backupbot.backup.post-hook`.
    AfterBackup,
    /// `backupbot.restore.pre-hook`.
    BeforeRestore,
    /// `backupbot.restore.post-hook`.
    AfterRestore,
}

impl HookRun {
    /// Whether it ended well.
    pub fn is_ok(&self) -> bool {
        self.exit_code == Some(0)
    }
}

impl HookMoment {
    fn label(self) -> Moment {
        match self {
            Self::BeforeBackup => Moment::BeforeBackup,
            Self::AfterBackup => Moment::AfterBackup,
            Self::BeforeRestore => Moment::BeforeRestore,
            Self::AfterRestore => Moment::AfterRestore,
        }
    }
}

/// Runs all hooks of a moment in the order of their services, and stops at the first that fails.
///
/// # Errors
/// [`BackupError::Swarm`] when Docker cannot be asked at all. That a hook fails is in what it returns.
pub(crate) async fn run_hooks(
    site: &Site<'_>,
    moment: HookMoment,
    limit: Duration,
) -> Result<Vec<HookRun>, BackupError> {
    let mut runs: Vec<HookRun> = Vec::new();
    for hook in site.plan.hooks.iter().filter(|hook| hook.moment == moment.label()) {
        let run = run_hook(site, hook, moment, limit).await?;
        let failed = !run.is_ok();
        runs.push(run);
        if failed {
            break;
        }
    }
    Ok(runs)
}

async fn run_hook(
    site: &Site<'_>,
    hook: &Hook,
    moment: HookMoment,
    limit: Duration,
) -> Result<HookRun, BackupError> {
    let started = std::time::Instant::now();
    let mut run = HookRun {
        service: hook.service.clone(),
        moment,
        command: hook.command.clone(),
        exit_code: None,
        stdout: String::new(),
        stderr: String::new(),
        trouble: String::new(),
        took: Duration::ZERO,
    };
    let ended = async {
        let container = site.swarm.container_of(site.stack, &site.service(&hook.service)).await?;
        site.swarm.exec(&container, &ContainerCommand::shell(&hook.command), limit).await
    };
    match ended.await {
        Ok(output) => {
            run.exit_code = Some(output.exit_code);
            run.stdout = end_of(&output.stdout);
            run.stderr = end_of(&output.stderr);
        }
        // Its container is not there, went away below it, or has no shell: the recipe's. That nobody answers is ours.
        Err(error @ (SwarmError::Missing { .. } | SwarmError::Timeout { .. })) => {
            run.trouble = error.to_string();
        }
        Err(error @ SwarmError::Docker { status: Some(_), .. }) => run.trouble = error.to_string(),
        Err(SwarmError::Docker { status: None, doing, message, hint })
            if message.contains("before it did") =>
        {
            run.trouble = format!("{doing}: {message}{hint}");
        }
        Err(error) => return Err(error.into()),
    }
    run.trouble = readable(&run.trouble, TROUBLE);
    run.took = started.elapsed();
    Ok(run)
}

/// The end of an output as text that does nothing to a terminal.
pub(crate) fn end_of(output: &[u8]) -> String {
    let from = output.len().saturating_sub(OUTPUT);
    readable(&String::from_utf8_lossy(&output[from..]), OUTPUT)
}
