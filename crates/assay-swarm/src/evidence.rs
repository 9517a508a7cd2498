//! What is known of a stack's attempts, taken down while they can still be asked.

use std::collections::BTreeMap;

use assay_model::{
    Micros,
    text::{clean, clean_to},
};
use bollard::{
    container::LogOutput,
    models::EventMessage,
    query_parameters::{InspectContainerOptions, LogsOptionsBuilder},
};
use futures::StreamExt;
use serde::Serialize;

use crate::{NAMESPACE_LABEL, ObservedService, ObservedTask, Swarm, SwarmError, TaskState};

/// Lines kept of each attempt: the last ones.
const LINES: &str = "200";
/// Bytes kept of each attempt's output.
const BYTES: usize = 256 << 10;
/// Characters kept of each line.
const LINE: usize = 4096;
/// What one attempt's output may take to be read.
const READ: std::time::Duration = std::time::Duration::from_secs(5);

/// Everything that was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evidence {
    /// The services at the end.
    pub services: Vec<ObservedService>,
    /// Every task that was seen, the oldest first.
    pub tasks: Vec<ObservedTask>,
    /// What ended attempts left, and in the end those that lived.
    pub attempts: Vec<AttemptEvidence>,
    /// What happened, as Docker told it.
    pub events: Vec<StackEvent>,
}

/// What one attempt left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptEvidence {
    /// The task.
    pub task: String,
    /// The id of its service.
    pub service: String,
    /// Where it was.
    pub state: TaskState,
    /// What the swarm says of it.
    pub error: String,
    /// How its process ended, by the container.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for its memory.
    pub oom_killed: bool,
    /// When its container was started and when it ended, as Docker writes it.
    pub started: Option<String>,
    /// The same for its end.
    pub finished: Option<String>,
    /// The end of its output, both streams in their order.
    pub output: String,
    /// Why something of this is not known; empty where all is.
    pub unknown: String,
}

/// Something that happened to a container or a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StackEvent {
    /// When, by Docker's clock.
    pub at: Micros,
    /// What: `start`, `die`, `health_status: unhealthy`.
    pub action: String,
    /// The service's full name.
    pub service: String,
    /// The task, where it is a container's.
    pub task: Option<String>,
    /// How its process ended.
    pub exit_code: Option<i64>,
}

impl AttemptEvidence {
    /// The last line that it wrote, not too much of it; empty if it wrote none.
    pub fn last_words(&self) -> String {
        clean(self.output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default())
    }
}

impl Swarm {
    /// Asks after one attempt. What cannot be learnt is said in it.
    pub(crate) async fn attempt_evidence(&self, task: &ObservedTask) -> AttemptEvidence {
        let mut evidence = AttemptEvidence {
            task: task.id.clone(),
            service: task.service.clone(),
            state: task.state,
            error: task.error.clone(),
            exit_code: task.exit_code,
            oom_killed: false,
            started: None,
            finished: None,
            output: String::new(),
            unknown: String::new(),
        };
        let Some(container) = &task.container else {
            "there was no container".clone_into(&mut evidence.unknown);
            return evidence;
        };
        match self.docker.inspect_container(container, None::<InspectContainerOptions>).await {
            Ok(inspected) => {
                let state = inspected.state.unwrap_or_default();
                evidence.exit_code = state.exit_code.or(task.exit_code);
                evidence.oom_killed = state.oom_killed.unwrap_or_default();
                evidence.started = state.started_at;
                evidence.finished = state.finished_at;
            }
            Err(error) => evidence.unknown = format!("the container could not be asked: {error}"),
        }
        match tokio::time::timeout(READ, self.output_of(container)).await {
            Ok(Ok(output)) => evidence.output = output,
            Ok(Err(error)) => evidence.unknown = format!("its output could not be read: {error}"),
            Err(_) => evidence.unknown = format!("its output could not be read within {READ:?}"),
        }
        evidence
    }

    /// What every container of a stack has said that is still there, by the full name of its service; the end of it, where it
    /// said much.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn logs_of(&self, stack: &str) -> Result<BTreeMap<String, String>, SwarmError> {
        let mut logs: BTreeMap<String, String> = BTreeMap::new();
        let observed = self.observe(stack).await?;
        for task in &observed.tasks {
            let (Some(container), Some(service)) =
                (&task.container, observed.services.iter().find(|service| service.id == task.service))
            else {
                continue;
            };
            let said = match tokio::time::timeout(READ, self.output_of(container)).await {
                Ok(Ok(said)) => said,
                // It may have been removed since the look.
                Ok(Err(error)) => format!("(not read: {error})\n"),
                Err(_) => format!("(not read within {READ:?})\n"),
            };
            *logs.entry(service.name.clone()).or_default() += &said;
        }
        Ok(logs)
    }

    /// The end of a container's output.
    async fn output_of(&self, container: &str) -> Result<String, bollard::errors::Error> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(LINES).build();
        let mut stream = self.docker.logs(container, Some(options));
        let mut bytes = Vec::new();
        while let Some(part) = stream.next().await {
            bytes.extend_from_slice(part.map(LogOutput::into_bytes)?.as_ref());
            // Two hundred lines can be of any length.
            if bytes.len() > 2 * BYTES {
                bytes.drain(..bytes.len() - BYTES);
            }
        }
        let from = bytes.len().saturating_sub(BYTES);
        Ok(readable(&bytes[from..]))
    }
}

/// What a container wrote, as text that does nothing to a terminal.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(|line| clean_to(&line.replace('\t', "    "), LINE) + "\n");
    lines.collect()
}

/// An event of this stack; `None` for others', and for what happens all the time.
pub(crate) fn stack_event(event: EventMessage, stack: &str) -> Option<StackEvent> {
    let EventMessage { action, actor, time_nano, .. } = event;
    let action = action.filter(|action| !action.starts_with("exec_"))?;
    let attributes = actor?.attributes.unwrap_or_default();
    let attribute = |name: &str| attributes.get(name).cloned();
    let service = match attribute("com.docker.swarm.service.name") {
        Some(service) if attribute(NAMESPACE_LABEL).as_deref() == Some(stack) => service,
        Some(_) => return None,
        None => attribute("name").filter(|name| name.starts_with(&format!("{stack}_")))?,
    };
    Some(StackEvent {
        at: Micros(time_nano.unwrap_or_default() / 1000),
        action,
        service,
        task: attribute("com.docker.swarm.task.id"),
        exit_code: attribute("exitCode").and_then(|code| code.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn what_a_container_wrote_does_nothing_to_a_terminal() {
        assert_eq!(readable(b"one\n\x1b[2Jtwo\tthree\r\n\xff\n"), "one\n\u{fffd}[2Jtwo    three\n\u{fffd}\n");
    }
}
