//! Optional tools: asked with a time limit, kept raw, and named when they are not there.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use assay_model::host::inventory::Inventory;
use assay_model::text;
use assay_process::{Cmd, ProcessError};

use crate::Machine;

/// Longest that one tool is waited for; a management controller that does not answer is given up on after this.
const LIMIT: Duration = Duration::from_secs(20);
/// `lshw` on a large server needs most of a minute.
const LSHW_LIMIT: Duration = Duration::from_secs(90);
/// Most that is kept of one tool's output.
const MAX_OUTPUT: usize = 8 << 20;

/// The tools of one machine, and what asking them showed.
pub(crate) struct Tools<'a> {
    machine: &'a Machine,
    missing: Mutex<BTreeSet<String>>,
    problems: Mutex<Vec<String>>,
}

impl<'a> Tools<'a> {
    pub(crate) fn new(machine: &'a Machine) -> Self {
        Self { machine, missing: Mutex::default(), problems: Mutex::default() }
    }

    /// What a tool writes to standard output; `None` when it is not there, fails, or takes too long.
    pub(crate) async fn bytes(&self, tool: &str, args: &[&str]) -> Option<Vec<u8>> {
        let limit = if tool == "lshw" { LSHW_LIMIT } else { LIMIT };
        let command = Cmd::new(self.machine.tool(tool))
            .args(args.iter().copied())
            .timeout(limit)
            .max_output(MAX_OUTPUT);
        let problem = match command.run_ok().await {
            Ok(output) if !output.stdout_truncated => return Some(output.stdout),
            Ok(_) => format!(
                "{tool} {} wrote more than {MAX_OUTPUT} bytes; its output is not used",
                args.join(" ")
            ),
            Err(ProcessError::NotFound { .. }) => {
                self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(tool.to_owned());
                return None;
            }
            Err(error) => format!("{tool} {}: {error}", args.join(" ")),
        };
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).push(text::clean_to(&problem, 400));
        None
    }

    /// As [`Tools::bytes`], as text.
    pub(crate) async fn text(&self, tool: &str, args: &[&str]) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(tool, args).await?).into_owned())
    }

    /// Adds the tools that were not there, and what went wrong with others.
    pub(crate) fn finish_into(self, inventory: &mut Inventory) {
        inventory.tools_missing.extend(self.missing.into_inner().unwrap_or_else(PoisonError::into_inner));
        inventory.problems.extend(self.problems.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
}
