//! Transcripts of operators' terminals: what was done to a held machine belongs to its run.

use assay_model::{EventBody, RunId, Sha256};
use assay_store::Changes;
use serde_json::{Value, json};

use crate::{Engine, EngineError};

/// The kind of the addendum for a transcript that was finished after its run was sealed.
const TRANSCRIPT: &str = "ShellTranscript@1";

impl Engine {
    /// A transcript that lies in the artifact store becomes one of the run's files. Said again, it changes nothing.
    pub async fn transcript(
        &self,
        run: RunId,
        name: &str,
        digest: Sha256,
        bytes: u64,
    ) -> Result<(), EngineError> {
        let view = self.view(run).await?;
        self.artifacts.link_run(view.created.number, name, digest).await?;
        if view.status.sealed {
            return self.late_transcript(run, name, digest, bytes).await;
        }
        let stored = self
            .transact(run, |fresh| {
                if fresh.artifacts.iter().any(|a| a.name == name && a.digest == digest) {
                    return Ok(Changes::default());
                }
                let event = EventBody::ArtifactStored {
                    stage: None,
                    attempt: 0,
                    name: name.to_owned(),
                    digest,
                    bytes,
                    late: false,
                };
                Ok(Changes { events: vec![event], writes: Vec::new() })
            })
            .await;
        match stored {
            // The run was sealed in between.
            Err(EngineError::Illegal(_)) if self.view(run).await?.status.sealed => {
                self.late_transcript(run, name, digest, bytes).await
            }
            other => other.map(drop),
        }
    }

    /// The digest of a transcript that came after the seal.
    pub async fn late_transcript_digest(
        &self,
        run: RunId,
        name: &str,
    ) -> Result<Option<Sha256>, EngineError> {
        let addenda = self.store.addenda(run).await?;
        let of_kind = addenda.iter().filter(|entry| entry.kind == TRANSCRIPT);
        let bodies = of_kind.filter_map(|entry| serde_json::from_slice::<Value>(&entry.body).ok());
        let named = bodies.filter(|body| body["name"].as_str() == Some(name));
        Ok(named.filter_map(|body| body["digest"].as_str()?.parse().ok()).next_back())
    }

    async fn late_transcript(
        &self,
        run: RunId,
        name: &str,
        digest: Sha256,
        bytes: u64,
    ) -> Result<(), EngineError> {
        if self.late_transcript_digest(run, name).await? == Some(digest) {
            return Ok(());
        }
        let body = json!({ "name": name, "digest": digest, "bytes": bytes });
        Ok(self.store.addendum(run, self.now(), TRANSCRIPT, &body).await?)
    }
}
