//! The command line's side of the operators' API (`assay_api::operator`).

use std::time::Duration;

use assay_api::Problem;
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Talks to the control plane.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) server: String,
    token: String,
}

/// Why the server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Not reached.
    #[error("{server} cannot be reached: {why}")]
    Away { server: String, why: String },
    /// It said no.
    #[error("{}", problem.message)]
    Refused { status: StatusCode, problem: Problem },
}

impl ClientError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Away { .. } => {
                Some("start the server with `assay up` or `assay serve`, or name it with --server".into())
            }
            Self::Refused { problem, .. } => problem.hint.clone(),
        }
    }
}

impl Client {
    pub(crate) fn new(server: &str, token: &str) -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).build()?;
        Ok(Self { http, server: server.trim_end_matches('/').to_owned(), token: token.to_owned() })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.read(self.send(Method::GET, path, None::<&()>).await?).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.read(self.send(Method::POST, path, Some(body)).await?).await
    }

    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.read(self.send(Method::PUT, path, Some(body)).await?).await
    }

    /// Where the path says it all, in both directions.
    pub(crate) async fn put_nothing(&self, path: &str) -> anyhow::Result<()> {
        self.send(Method::PUT, path, None::<&()>).await.map(drop)
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(Method::DELETE, path, None::<&()>).await.map(drop)
    }

    /// The raw answer: files and event streams.
    pub(crate) async fn open(&self, path: &str) -> anyhow::Result<Response> {
        self.send(Method::GET, path, None::<&()>).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<Response> {
        let mut request =
            self.http.request(method, format!("{}{path}", self.server)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let away = |e: reqwest::Error| ClientError::Away { server: self.server.clone(), why: root_cause(&e) };
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let problem = answer.json::<Problem>().await.unwrap_or_else(|_| Problem {
            code: "http".into(),
            message: format!("the server answered {status}"),
            hint: None,
        });
        Err(ClientError::Refused { status, problem }.into())
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response) -> anyhow::Result<T> {
        Ok(answer
            .json()
            .await
            .map_err(|e| ClientError::Away { server: self.server.clone(), why: root_cause(&e) })?)
    }
}

/// The innermost reason is the one that helps: "connection refused", not "error sending request".
fn root_cause(e: &dyn std::error::Error) -> String {
    let mut cause = e;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
