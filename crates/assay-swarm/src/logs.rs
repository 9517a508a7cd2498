//! What the containers of a stack say, line by line, from where one last listened.

use std::collections::BTreeMap;

use assay_model::text::clean_to;
use bollard::{container::LogOutput, query_parameters::LogsOptionsBuilder};
use futures::StreamExt;

use crate::{Swarm, SwarmError};

/// Lines of one container in one answer.
const LINES: &str = "1000";
/// Characters of one line.
const LINE: usize = 4096;

/// A line of a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was said, as the engine has it (RFC 3339).
    pub at: String,
    /// The full name of the service.
    pub service: String,
    /// What was said; nothing in it does anything to a terminal.
    pub text: String,
}

impl Swarm {
    /// What the containers of a stack said since `heard`, which has the time of the last line of each and is moved on; in the
    /// order of time.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn logs_after(
        &self,
        stack: &str,
        heard: &mut BTreeMap<String, String>,
    ) -> Result<Vec<LogLine>, SwarmError> {
        let observed = self.observe(stack).await?;
        let mut lines = Vec::new();
        for task in &observed.tasks {
            let service = observed.services.iter().find(|service| service.id == task.service);
            let (Some(container), Some(service)) = (&task.container, service) else { continue };
            let options =
                LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true).tail(LINES);
            let mut stream = self.docker.logs(container, Some(options.build()));
            let last = heard.get(container).cloned().unwrap_or_default();
            // A container that is gone since the look has nothing more to say.
            while let Some(Ok(part)) = stream.next().await {
                let text = String::from_utf8_lossy(&LogOutput::into_bytes(part)).into_owned();
                let Some((at, said)) = text.split_once(' ') else { continue };
                if at <= last.as_str() {
                    continue;
                }
                heard.insert(container.clone(), at.to_owned());
                let text = clean_to(said.trim_end(), LINE);
                lines.push(LogLine { at: at.to_owned(), service: service.name.clone(), text });
            }
        }
        lines.sort_by(|one, other| one.at.cmp(&other.at));
        Ok(lines)
    }
}
