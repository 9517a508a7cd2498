//! An operator's or a runner's HTTP client for tests: says what came back, retries only when told to.

use std::time::Duration;

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::PATIENCE;

/// The pause before a server that does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// Talks to one server with one token.
#[derive(Clone, Debug)]
pub struct Api {
    http: reqwest::Client,
    server: String,
    token: Option<String>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{}: {e}: {}", self.status, self.text))
    }

    /// The same, after checking the status.
    #[track_caller]
    #[must_use]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

impl Api {
    /// A client for `http://127.0.0.1:port`.
    pub fn new(server: &str, token: Option<&str>) -> Self {
        // Harmless when someone in this process has chosen a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            // A kept connection to a server that was killed in between would fail the next request.
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        Self { http, server: server.to_owned(), token: token.map(str::to_owned) }
    }

    /// A client for an `https://` address, whoever answers there: for misbehaving agents. The real
    /// agent pins the certificate.
    pub fn trusting(server: &str, token: Option<&str>) -> Self {
        let plain = Self::new(server, token);
        let http = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .danger_accept_invalid_certs(true)
            .build()
            .expect("a client");
        Self { http, ..plain }
    }

    /// The same with another token, or none.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// Sends a request once.
    ///
    /// # Errors
    /// Why no answer came.
    pub async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|e| e.to_string())?;
        let mut request = self.http.request(method, format!("{}{path}", self.server));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        // An answer that breaks off is no answer: whoever asked does not know what became of it.
        let text = response.text().await.map_err(|e| e.to_string())?;
        Ok(Answer { status, text })
    }

    /// Asks once; the server must answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None).await.unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// Says something once; the server must answer.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, Some(body)).await.unwrap_or_else(|e| panic!("POST {path}: {e}"))
    }

    /// Sends a request until an answer comes, as someone does whose server is being restarted.
    pub async fn insist(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let asking = async {
            loop {
                match self.send(method, path, body).await {
                    Ok(answer) => return answer,
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
        };
        let answered = tokio::time::timeout(PATIENCE, asking).await;
        answered.unwrap_or_else(|_| panic!("{method} {path}: no answer within {} s", PATIENCE.as_secs()))
    }

    /// Asks `path` until `wanted` finds what it wants in the answer.
    pub async fn until<T>(&self, path: &str, mut wanted: impl FnMut(&Answer) -> Option<T>) -> T {
        let mut last = None;
        let asking = async {
            loop {
                let answer = self.insist("GET", path, None).await;
                if let Some(found) = wanted(&answer) {
                    return found;
                }
                last = Some(answer);
                tokio::time::sleep(AGAIN).await;
            }
        };
        let Ok(found) = tokio::time::timeout(PATIENCE, asking).await else {
            panic!("{path} never said what was waited for: {last:#?}")
        };
        found
    }
}
