//! The runner's side of the runner protocol (`assay_api::runner`).

use std::path::Path;
use std::time::Duration;

use assay_api::Problem;
use assay_api::runner::{Claim, ConsoleRead, Done, Grant, Order, SOURCE, Seen, Services, StageRead, Step};
use assay_model::Sha256;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use sha2::Digest as _;
use tokio::io::AsyncWriteExt as _;

use crate::RunnerError;

/// How long the control plane may keep a question open.
const WAIT_S: u64 = 25;
/// Beyond that, the connection is taken for dead.
const TIMEOUT: Duration = Duration::from_secs(WAIT_S + 15);

/// Longest time that a recipe's bundle may take.
const BUNDLE: Duration = Duration::from_mins(10);

/// Talks to the control plane.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    server: String,
    join: String,
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Not reached, or the answer did not read: ask again.
    #[error("the control plane cannot be reached: {0}")]
    Away(String),
    /// It said no.
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
}

impl ClientError {
    /// Whether the token that was sent is no longer good.
    pub(crate) fn is_void(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::UNAUTHORIZED, .. })
    }
}

impl Client {
    pub(crate) fn new(server: &str, join: &str) -> Result<Self, RunnerError> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|e| RunnerError::Server(e.to_string()))?;
        Ok(Self { http, server: server.trim_end_matches('/').to_owned(), join: join.to_owned() })
    }

    /// Asks for a run.
    pub(crate) async fn claim(&self, claim: &Claim) -> Result<Option<Grant>, ClientError> {
        let url = format!("{}/runner/v1/claim?wait_s={WAIT_S}", self.server);
        let answer = send(self.http.post(url).bearer_auth(&self.join).json(claim)).await?;
        if answer.status() == StatusCode::NO_CONTENT { Ok(None) } else { read(answer).await.map(Some) }
    }

    /// Brings the bundle that a run's recipe comes as into a file. It has that digest and that size, or this is an error.
    pub(crate) async fn source(
        &self,
        token: &str,
        expected: (Sha256, u64),
        to: &Path,
    ) -> Result<(), ClientError> {
        let url = format!("{}{SOURCE}", self.server);
        let mut answer = send(self.http.get(url).timeout(BUNDLE).bearer_auth(token)).await?;
        let here = |error: std::io::Error| ClientError::Away(format!("{}: {error}", to.display()));
        let mut file = tokio::fs::File::create_new(to).await.map_err(here)?;
        let (mut hasher, mut bytes) = (sha2::Sha256::new(), 0_u64);
        while let Some(chunk) = answer.chunk().await.map_err(|e| ClientError::Away(e.to_string()))? {
            bytes = bytes.saturating_add(chunk.len() as u64);
            if bytes > expected.1 {
                break;
            }
            hasher.update(&chunk);
            file.write_all(&chunk).await.map_err(here)?;
        }
        file.flush().await.map_err(here)?;
        if (Sha256(hasher.finalize().into()), bytes) == expected {
            Ok(())
        } else {
            Err(ClientError::Away("the recipe's bundle is not what its digest says".to_owned()))
        }
    }

    /// Says what goes on on the network.
    pub(crate) async fn seen(&self, seen: &Seen) -> Result<(), ClientError> {
        let url = format!("{}/runner/v1/seen", self.server);
        send(self.http.post(url).bearer_auth(&self.join).json(seen)).await.map(drop)
    }

    /// Asks for the next order of a run.
    pub(crate) async fn next(&self, token: &str) -> Result<Order, ClientError> {
        let url = format!("{}/runner/v1/next?wait_s={WAIT_S}", self.server);
        read(send(self.http.get(url).bearer_auth(token)).await?).await
    }

    /// Says what became of a job.
    pub(crate) async fn done(&self, token: &str, done: &Done) -> Result<(), ClientError> {
        let url = format!("{}/runner/v1/done", self.server);
        send(self.http.post(url).bearer_auth(token).json(done)).await.map(drop)
    }

    /// Says what a console showed.
    pub(crate) async fn console(&self, token: &str, read: &ConsoleRead) -> Result<(), ClientError> {
        let url = format!("{}/runner/v1/console", self.server);
        send(self.http.post(url).bearer_auth(token).json(read)).await.map(drop)
    }

    /// Says what came of a stage.
    pub(crate) async fn evidence(&self, token: &str, read: &StageRead) -> Result<(), ClientError> {
        let url = format!("{}/runner/v1/evidence", self.server);
        send(self.http.post(url).bearer_auth(token).json(read)).await.map(drop)
    }

    /// Says how far the reading of a console is.
    pub(crate) async fn step(&self, token: &str, step: String) -> Result<(), ClientError> {
        let url = format!("{}/runner/v1/step", self.server);
        send(self.http.post(url).bearer_auth(token).json(&Step { step })).await.map(drop)
    }

    /// Says what stands ready for a run.
    pub(crate) async fn services(&self, token: &str, services: &Services) -> Result<(), ClientError> {
        let url = format!("{}/runner/v1/services", self.server);
        send(self.http.post(url).bearer_auth(token).json(services)).await.map(drop)
    }
}

async fn send(request: RequestBuilder) -> Result<Response, ClientError> {
    let answer = request.send().await.map_err(|e| ClientError::Away(e.to_string()))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let message = answer
        .json::<Problem>()
        .await
        .map_or_else(|_| format!("the control plane answered {status}"), |p| p.message);
    if status.is_server_error() {
        return Err(ClientError::Away(message));
    }
    Err(ClientError::Refused { status, message })
}

async fn read<T: DeserializeOwned>(answer: Response) -> Result<T, ClientError> {
    answer.json().await.map_err(|e| ClientError::Away(e.to_string()))
}
