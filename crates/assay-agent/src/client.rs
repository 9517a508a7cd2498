//! One request at a time to the control plane, and what its answer means for the item that was sent.

use std::sync::Arc;
use std::time::Duration;

use assay_api::Problem;
use assay_api::agent::{ArtifactQuery, Command, Heartbeat, HeartbeatAck, Hello, Welcome};
use assay_model::text;
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::tls::Pinned;
use crate::{BootSettings, Pacing};

/// A large body is given this much time more for each MiB.
const PER_MIB: Duration = Duration::from_secs(2);

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    /// Taken.
    Done(T),
    /// Not now: unreachable, reset, overloaded, restarting. The same may be sent again.
    Again(String),
    /// Never: it would be refused again. The message says why.
    Refused(String),
    /// As refused, because of its size.
    TooLarge(String),
    /// The credential counts no more: a newer boot of this machine has enrolled.
    Void(String),
}

/// Speaks to one control plane.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    pinned: Arc<Pinned>,
    request: Duration,
    credential: String,
}

impl Client {
    pub(crate) fn new(boot: &BootSettings, pacing: &Pacing, credential: String) -> Result<Self, String> {
        let pinned = Pinned::new(boot.fingerprint);
        let tls = pinned.client_config().map_err(|error| error.to_string())?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            // A control plane that lost its power does not close its connections.
            .tcp_keepalive(Duration::from_secs(10))
            .tcp_keepalive_interval(Duration::from_secs(5))
            .tcp_keepalive_retries(3)
            .user_agent(concat!("assay-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { http, base: boot.url.clone(), pinned, request: pacing.request, credential })
    }

    pub(crate) async fn hello(&self, hello: &Hello) -> Answer<Welcome> {
        let request = self.http.post(self.url("hello")).json(hello);
        json(self.exchange(request, self.request, true).await)
    }

    pub(crate) async fn next(&self, wait_s: u32) -> Answer<Command> {
        self.poll("next", &[("wait_s", wait_s.to_string())], wait_s).await
    }

    /// Asks for news that may be `wait_s` seconds in coming.
    pub(crate) async fn poll<T: DeserializeOwned>(
        &self,
        what: &str,
        query: &[(&str, String)],
        wait_s: u32,
    ) -> Answer<T> {
        let limit = self.request + Duration::from_secs(wait_s.into());
        let mut url = self.url(what);
        url.query_pairs_mut().extend_pairs(query);
        json(self.send(self.authorised(self.http.get(url)), limit).await)
    }

    pub(crate) async fn heartbeat(&self, beat: &Heartbeat) -> Answer<HeartbeatAck> {
        json(self.send(self.post("heartbeat").json(beat), self.request).await)
    }

    /// A body that is JSON already: what lies in the spool is sent byte for byte the same each time.
    pub(crate) async fn post_json<T: DeserializeOwned>(&self, what: &str, body: Bytes) -> Answer<T> {
        let limit = self.limit_for(body.len());
        json(self.send(self.post(what).header(CONTENT_TYPE, "application/json").body(body), limit).await)
    }

    /// As [`Self::post_json`], where the answer says nothing.
    pub(crate) async fn post_empty(&self, what: &str, body: Bytes) -> Answer<()> {
        let limit = self.limit_for(body.len());
        let request = self.post(what).header(CONTENT_TYPE, "application/json").body(body);
        self.send(request, limit).await.map(drop)
    }

    pub(crate) async fn put_json(&self, what: &str, body: Bytes) -> Answer<()> {
        let limit = self.limit_for(body.len());
        let request = self.http.put(self.url(what)).header(CONTENT_TYPE, "application/json").body(body);
        self.send(self.authorised(request), limit).await.map(drop)
    }

    pub(crate) async fn artifact(&self, query: &ArtifactQuery, body: Bytes) -> Answer<()> {
        let limit = self.limit_for(body.len());
        let ArtifactQuery { stage, attempt, name, sha256 } = query;
        let mut url = self.url("artifact");
        url.query_pairs_mut()
            .append_pair("stage", stage.as_str())
            .append_pair("attempt", &attempt.to_string())
            .append_pair("name", name)
            .append_pair("sha256", &sha256.to_string());
        let request = self.http.put(url).header(CONTENT_TYPE, "application/octet-stream").body(body);
        self.send(self.authorised(request), limit).await.map(drop)
    }

    pub(crate) async fn off(&self) -> Answer<()> {
        self.send(self.post("off"), self.request).await.map(drop)
    }

    fn url(&self, what: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}agent/v1/{what}", self.base.path()));
        url
    }

    fn post(&self, what: &str) -> RequestBuilder {
        self.authorised(self.http.post(self.url(what)))
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(&self.credential)
    }

    fn limit_for(&self, bytes: usize) -> Duration {
        self.request + PER_MIB * u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
    }

    async fn send(&self, request: RequestBuilder, limit: Duration) -> Answer<Bytes> {
        self.exchange(request, limit, false).await
    }

    async fn exchange(&self, request: RequestBuilder, limit: Duration, hello: bool) -> Answer<Bytes> {
        let response = match request.timeout(limit).send().await {
            Ok(response) => response,
            Err(error) => return Answer::Again(self.explain(&error)),
        };
        let status = response.status();
        let body = match response.bytes().await {
            Ok(body) => body,
            // The answer was cut off. Whether it was taken is unknown, so it is sent again.
            Err(error) => return Answer::Again(self.explain(&error)),
        };
        if status.is_success() {
            return Answer::Done(body);
        }
        let message = problem(status, &body);
        match status {
            StatusCode::UNAUTHORIZED => Answer::Void(message),
            StatusCode::PAYLOAD_TOO_LARGE => Answer::TooLarge(message),
            // Of all that is asked for, only a token can be one that the control plane never knew.
            StatusCode::NOT_FOUND if hello => Answer::Refused(message),
            _ if is_final(status) => Answer::Refused(message),
            _ => Answer::Again(format!("the control plane at {} answers {message}", self.place())),
        }
    }

    /// In words that name the next thing to look at, and that stay the same while the trouble stays the same.
    fn explain(&self, error: &reqwest::Error) -> String {
        let place = self.place();
        if let (true, Some(stranger)) = (error.is_connect(), self.pinned.stranger()) {
            return format!(
                "NOT the expected control plane at {place}: its certificate is sha256:{stranger}, the kernel command \
                 line demands another (assay.fp). Nothing was sent. Boot this machine anew, or find out who answers there"
            );
        }
        if error.is_timeout() {
            return format!("the control plane at {place} does not answer in time");
        }
        let mut root: &dyn std::error::Error = error;
        while let Some(source) = root.source() {
            root = source;
        }
        let problem = if error.is_connect() { "cannot be reached" } else { "broke off" };
        format!("the control plane at {place} {problem}: {root}")
    }

    fn place(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        format!("{host}:{}", self.base.port_or_known_default().unwrap_or_default())
    }
}

/// A refusal that more tries will not change. The rest (not found while a server comes up, too many requests,
/// anything of the server's own) may be over soon.
fn is_final(status: StatusCode) -> bool {
    use StatusCode as S;
    matches!(status, S::BAD_REQUEST | S::FORBIDDEN | S::CONFLICT | S::GONE | S::UNPROCESSABLE_ENTITY)
}

fn problem(status: StatusCode, body: &[u8]) -> String {
    let said = serde_json::from_slice::<Problem>(body).map(|problem| match problem.hint {
        Some(hint) => format!("{} ({}; {hint})", problem.message, problem.code),
        None => format!("{} ({})", problem.message, problem.code),
    });
    text::clean_to(&said.unwrap_or_else(|_| status.to_string()), 1000)
}

fn json<T: DeserializeOwned>(answer: Answer<Bytes>) -> Answer<T> {
    let parsed = answer.map(|body| serde_json::from_slice(&body));
    match parsed {
        Answer::Done(Err(error)) => Answer::Again(format!(
            "the control plane's answer is not understood ({error}); are it and the live image of one version?"
        )),
        Answer::Done(Ok(value)) => Answer::Done(value),
        Answer::Again(why) => Answer::Again(why),
        Answer::Refused(why) => Answer::Refused(why),
        Answer::TooLarge(why) => Answer::TooLarge(why),
        Answer::Void(why) => Answer::Void(why),
    }
}

impl<T> Answer<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Done(value) => Answer::Done(change(value)),
            Self::Again(why) => Answer::Again(why),
            Self::Refused(why) => Answer::Refused(why),
            Self::TooLarge(why) => Answer::TooLarge(why),
            Self::Void(why) => Answer::Void(why),
        }
    }
}
