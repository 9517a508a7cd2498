//! HTTP, as both forges want it: a client that goes only to its forge, follows no redirect (the token would go along),
//! reads bounded answers, counts what it asks, and says what a status means.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_model::Micros;
use assay_model::text::clean_to;
use reqwest::header::{AUTHORIZATION, DATE, ETAG, HeaderMap, IF_NONE_MATCH, RETRY_AFTER};
use reqwest::{Certificate, Client as Web, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::error::{Doing, ForgeError};
use crate::forge::ForgeKind;
use crate::secret::Secret;
use crate::time;

/// How much of a refusal is shown.
const MAX_SAID: usize = 160;
/// How much of a refusal is read.
const MAX_REFUSAL: usize = 4096;
/// After a refusal for too many requests that does not say for how long.
const QUIET: Duration = Duration::from_mins(1);
/// Longest time that a forge is believed when it wants to be left alone.
const LONGEST_QUIET: Duration = Duration::from_hours(2);

/// What a client may do, and with how much.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A forge that does not answer within this time has not answered.
    pub timeout: Duration,
    /// Largest answer that is read, in bytes.
    pub answer: usize,
    /// Pages that one call reads at most.
    pub pages: u32,
    /// Whether webhooks may be registered. Off, unless an operator says otherwise.
    pub register_webhooks: bool,
    /// PEM certificates that are trusted beside the system's.
    pub certificates: Option<Vec<u8>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
            answer: 16 * 1024 * 1024,
            pages: 20,
            register_webhooks: false,
            certificates: None,
        }
    }
}

/// What a forge says about how much may be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests per window.
    pub limit: u64,
    /// Requests left in this one.
    pub remaining: u64,
    /// How long this window lasts, counted from the answer.
    pub resets_in: Duration,
}

/// Counts since the client was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Requests.
    pub asked: u64,
    /// Those that the forge counts: all but "unchanged".
    pub counted: u64,
    /// What the forge said last.
    pub rate: Option<Rate>,
}

/// A client for one forge.
#[derive(Clone)]
pub(crate) struct Client {
    web: Web,
    base: Url,
    host: String,
    kind: ForgeKind,
    token: Secret,
    meter: Arc<Mutex<Meter>>,
    pub(crate) limits: Limits,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("host", &self.host).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A request that is being put together.
pub(crate) struct Request<'a> {
    client: &'a Client,
    doing: Doing,
    of: String,
    method: Method,
    url: Url,
    body: Option<Value>,
    etag: Option<&'a str>,
    leads_on: bool,
}

/// An answer that was not an error.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) etag: Option<String>,
    pub(crate) server_time: Option<Micros>,
    /// `X-Total-Count`.
    pub(crate) total: Option<u64>,
    pub(crate) body: Vec<u8>,
    host: String,
    doing: Doing,
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum NoReply {
    /// The answer is larger than [`Limits::answer`].
    TooLarge(ForgeError),
    /// Anything else.
    Error(ForgeError),
}

impl From<NoReply> for ForgeError {
    fn from(no: NoReply) -> Self {
        match no {
            NoReply::TooLarge(error) | NoReply::Error(error) => error,
        }
    }
}

impl Client {
    /// `base` ends with the API's own path. The error says what is wrong with it.
    pub(crate) fn new(kind: ForgeKind, base: &str, token: Secret, limits: Limits) -> Result<Self, String> {
        let mut base: Url =
            base.parse().map_err(|_| "this is no web address; write http://… or https://…".to_owned())?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err("this is no web address; write http://… or https://…".to_owned());
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err("a token does not belong into the address; give it on its own".to_owned());
        }
        base.set_query(None);
        base.set_fragment(None);
        if token.reveal().is_empty() || !token.reveal().bytes().all(|b| (0x21..0x7f).contains(&b)) {
            return Err("the token is empty, or has characters that no token has".to_owned());
        }
        // Harmless when the program has chosen its provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Web::builder()
            .timeout(limits.timeout)
            .user_agent(concat!("assay/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(pem) = &limits.certificates {
            let certificates = Certificate::from_pem_bundle(pem).map_err(|e| e.to_string())?;
            if certificates.is_empty() {
                return Err("there is no PEM certificate in it".to_owned());
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let web = builder.build().map_err(|e| innermost(&e))?;
        let host = base.host_str().unwrap_or("?").to_owned();
        Ok(Self { web, base, host, kind, token, meter: Arc::default(), limits })
    }

    pub(crate) fn meter(&self) -> Meter {
        *self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request to `segments` below the API's address; each is one segment, whatever is in it.
    pub(crate) fn request(
        &self,
        doing: Doing,
        of: &(impl ToString + ?Sized),
        method: Method,
        segments: &[&str],
    ) -> Request<'_> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        Request {
            client: self,
            doing,
            of: of.to_string(),
            method,
            url,
            body: None,
            etag: None,
            leads_on: false,
        }
    }

    pub(crate) fn get(&self, doing: Doing, of: &(impl ToString + ?Sized), segments: &[&str]) -> Request<'_> {
        self.request(doing, of, Method::GET, segments)
    }

    /// That something is not there, in our words.
    pub(crate) fn missing(&self, doing: Doing, of: String, why: &str) -> ForgeError {
        ForgeError::NotFound { host: self.host.clone(), doing, of, said: format!(": {why}") }
    }

    /// That an answer makes no sense.
    pub(crate) fn odd(&self, doing: Doing, why: impl Into<String>) -> ForgeError {
        ForgeError::Unexpected { host: self.host.clone(), doing, why: why.into() }
    }

    fn count(&self, status: Option<StatusCode>, rate: Option<Rate>) {
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.asked += 1;
        if status != Some(StatusCode::NOT_MODIFIED) {
            meter.counted += 1;
        }
        if rate.is_some() {
            meter.rate = rate;
        }
    }

    fn unsent(&self, doing: Doing, e: &reqwest::Error) -> ForgeError {
        let host = self.host.clone();
        if e.is_timeout() && !e.is_connect() {
            return ForgeError::Slow { host, doing, seconds: self.limits.timeout.as_secs() };
        }
        let why = self.token.scrub(&clean_to(&innermost(e), MAX_SAID));
        if e.is_connect() || e.is_builder() {
            ForgeError::Unreachable { host, why }
        } else {
            ForgeError::Cut { host, doing, why }
        }
    }
}

impl<'a> Request<'a> {
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }

    pub(crate) fn json(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(crate) fn unless(mut self, etag: Option<&'a str>) -> Self {
        self.etag = etag;
        self
    }

    /// An answer that leads elsewhere is an answer; it is not followed.
    pub(crate) fn may_lead_on(mut self) -> Self {
        self.leads_on = true;
        self
    }

    /// Sends it. Success is a reply, and so is what was said to be one; anything else is an error. 404 is one, too.
    pub(crate) async fn send(self) -> Result<Reply, NoReply> {
        let client = self.client;
        let (scheme, accept) = match client.kind {
            ForgeKind::Forgejo => ("token", "application/json"),
            ForgeKind::GitHub => ("Bearer", "application/vnd.github+json"),
        };
        let mut request = client
            .web
            .request(self.method.clone(), self.url.clone())
            .header("accept", accept)
            .header(AUTHORIZATION, format!("{scheme} {}", client.token.reveal()));
        if client.kind == ForgeKind::GitHub {
            request = request.header("x-github-api-version", "2022-11-28");
        }
        if let Some(etag) = self.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(body) = &self.body {
            request = request.json(body);
        }
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            Err(e) => {
                client.count(None, None);
                return Err(NoReply::Error(client.unsent(self.doing, &e)));
            }
        };
        let status = answer.status();
        let headers = answer.headers().clone();
        let server_time = text(&headers, DATE.as_str()).and_then(time::read_http);
        let rate = rate(&headers, server_time);
        client.count(Some(status), rate);
        let is_reply = status.is_success()
            || (self.leads_on && matches!(status.as_u16(), 302 | 303))
            || (self.etag.is_some() && status == StatusCode::NOT_MODIFIED);
        let most = if is_reply { client.limits.answer } else { MAX_REFUSAL };
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                // The beginning of a refusal is enough.
                Err(_) if !is_reply => break,
                Err(e) => return Err(NoReply::Error(client.unsent(self.doing, &e))),
            }
            if body.len() > most {
                if is_reply {
                    let why = format!("an answer of more than {most} bytes");
                    return Err(NoReply::TooLarge(client.odd(self.doing, why)));
                }
                body.truncate(most);
                break;
            }
        }
        if !is_reply {
            return Err(NoReply::Error(self.refusal(status, &headers, rate, server_time, &body)));
        }
        Ok(Reply {
            status,
            etag: text(&headers, ETAG.as_str()).map(str::to_owned),
            server_time,
            total: text(&headers, "x-total-count").and_then(|n| n.trim().parse().ok()),
            body,
            host: client.host.clone(),
            doing: self.doing,
        })
    }

    /// Sends it, and reads JSON.
    pub(crate) async fn read<T: DeserializeOwned>(self) -> Result<T, ForgeError> {
        self.send().await?.read()
    }

    fn refusal(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        rate: Option<Rate>,
        server_time: Option<Micros>,
        body: &[u8],
    ) -> ForgeError {
        let (host, doing, of) = (self.client.host.clone(), self.doing, self.of.clone());
        let said = self.client.token.scrub(&said(body));
        let after = retry_after(headers, server_time);
        let is_spent = rate.is_some_and(|rate| rate.remaining == 0);
        match status.as_u16() {
            401 => ForgeError::Unauthorised { host, doing, said },
            429 => ForgeError::RateLimited { host, after: quiet(after, rate) },
            403 if after.is_some() || is_spent || said.contains("rate limit") => {
                ForgeError::RateLimited { host, after: quiet(after, rate) }
            }
            403 => ForgeError::Forbidden { host, doing, of, needs: doing.needs(self.client.kind), said },
            404 | 410 => ForgeError::NotFound { host, doing, of, said },
            300..=303 | 307 | 308 => ForgeError::Moved { host, of },
            409 | 423 => ForgeError::Conflict { host, doing, of, said },
            408 | 500..=599 => ForgeError::Unwell { host, doing, status: status.as_u16(), said, after },
            status => ForgeError::Refused { host, doing, of, status, said },
        }
    }
}

impl Reply {
    /// Whether it is what was there already.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.status == StatusCode::NOT_MODIFIED
    }

    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, ForgeError> {
        serde_json::from_slice(&self.body).map_err(|e| ForgeError::Unexpected {
            host: self.host.clone(),
            doing: self.doing,
            why: clean_to(&e.to_string(), MAX_SAID),
        })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What a refusal says: its JSON `message`, or its beginning.
fn said(body: &[u8]) -> String {
    let whole: Option<Value> = serde_json::from_slice(body).ok();
    let message = whole.as_ref().and_then(|value| value.get("message")).and_then(Value::as_str);
    let said = match message {
        Some(message) => clean_to(message, MAX_SAID),
        None => clean_to(&String::from_utf8_lossy(body), MAX_SAID),
    };
    if said.is_empty() { said } else { format!(": {said}") }
}

/// Both forms; a date counts from the forge's own clock.
fn retry_after(headers: &HeaderMap, server_time: Option<Micros>) -> Option<Duration> {
    let text = text(headers, RETRY_AFTER.as_str())?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let span = time::read_http(text)?.since(server_time?);
    Some(Duration::from_micros(u64::try_from(span.0).unwrap_or(0)))
}

fn rate(headers: &HeaderMap, server_time: Option<Micros>) -> Option<Rate> {
    let number = |name| text(headers, name)?.trim().parse::<u64>().ok();
    let reset = number("x-ratelimit-reset")?;
    // Seconds since the epoch by the forge's clock; without that clock, an hour is what windows last.
    let resets_in = server_time.map_or(3600, |now| {
        let now = u64::try_from(now.0.div_euclid(1_000_000)).unwrap_or(0);
        reset.saturating_sub(now)
    });
    Some(Rate {
        limit: number("x-ratelimit-limit")?,
        remaining: number("x-ratelimit-remaining")?,
        resets_in: Duration::from_secs(resets_in).min(LONGEST_QUIET),
    })
}

fn quiet(after: Option<Duration>, rate: Option<Rate>) -> Duration {
    let reset = rate.filter(|rate| rate.remaining == 0).map(|rate| rate.resets_in);
    after.or(reset).unwrap_or(QUIET).clamp(Duration::from_secs(1), LONGEST_QUIET)
}

/// The innermost reason is the one that helps: "connection refused", not "error sending request".
fn innermost(e: &dyn std::error::Error) -> String {
    let mut cause = e;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
