//! What the three HTTP sinks have in common: a client that goes only where it may, follows no
//! redirect, uses no proxy, and says what an answer means.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use assay_model::text::clean_to;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, RequestBuilder, Response};
use url::{Host, Url};

use crate::address::{Blocked, Guard, is_internal};
use crate::error::DeliveryError;

/// A receiver that does not answer within this time has not been told, as far as we know.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an answer is read.
const MAX_ANSWER: usize = 4096;
/// How much of it is shown.
const MAX_SAID: usize = 160;

/// A client for one receiver.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    pub(crate) client: Client,
    host: String,
    /// The address in the URL itself, which no resolver ever sees, when it is refused.
    refused: Option<IpAddr>,
}

impl Http {
    /// `ca` are PEM certificates that are trusted beside the system's.
    pub(crate) fn new(url: &Url, allow_internal: bool, ca: Option<&[u8]>) -> Result<Self, String> {
        // Harmless when the program has chosen its provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .timeout(TIMEOUT)
            .user_agent(concat!("assay/", env!("CARGO_PKG_VERSION")))
            // A redirect could lead inside after the address was checked; so could a proxy, which
            // resolves names by itself.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Guard { allow_internal }));
        if let Some(pem) = ca {
            let certificates = Certificate::from_pem_bundle(pem).map_err(|e| e.to_string())?;
            if certificates.is_empty() {
                return Err("there is no PEM certificate in it".to_owned());
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) | None => None,
        };
        Ok(Self {
            client: builder.build().map_err(|e| innermost(&e))?,
            host: url.host_str().unwrap_or("?").to_owned(),
            refused: literal.filter(|ip| !allow_internal && is_internal(*ip)),
        })
    }

    /// Sends a request; returns the answer's beginning when it was accepted.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<String, DeliveryError> {
        let host = self.host.clone();
        if let Some(ip) = self.refused {
            return Err(DeliveryError::Internal { host, ip });
        }
        let answer = request.send().await.map_err(|e| self.unsent(&e))?;
        let status = answer.status();
        let after = retry_after(answer.headers());
        // What was accepted stays accepted, even if the rest of the answer never comes.
        let said = beginning(answer).await;
        if status.is_success() {
            return Ok(said);
        }
        let said = clean_to(&said, MAX_SAID);
        let said = if said.is_empty() { said } else { format!(": {said}") };
        Err(DeliveryError::Refused { host, status: status.as_u16(), said, after })
    }

    fn unsent(&self, e: &reqwest::Error) -> DeliveryError {
        let mut cause = e.source();
        while let Some(inner) = cause {
            if let Some(Blocked(ours)) = inner.downcast_ref() {
                return ours.clone();
            }
            cause = inner.source();
        }
        let host = self.host.clone();
        let why = if e.is_timeout() {
            format!("no answer within {} s", TIMEOUT.as_secs())
        } else {
            clean_to(&innermost(e), MAX_SAID)
        };
        if e.is_connect() || e.is_builder() {
            DeliveryError::Unreachable { host, why }
        } else {
            DeliveryError::Cut { host, why }
        }
    }
}

/// Checks an address from the settings.
pub(crate) fn web_address(text: &str) -> Result<Url, String> {
    let bad = || "this is no web address; write http://… or https://…".to_owned();
    let url: Url = text.parse().map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(bad());
    }
    Ok(url)
}

/// The innermost reason is the one that helps: "connection refused", not "error sending request".
fn innermost(e: &dyn std::error::Error) -> String {
    let mut cause = e;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

async fn beginning(mut answer: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= MAX_ANSWER {
            bytes.truncate(MAX_ANSWER);
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `Retry-After` in seconds; its other form, a date, is rare and left to our own pauses.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for good in ["https://example.net/hook", "http://10.0.0.1:8080/", "http://[::1]/x"] {
            assert!(web_address(good).is_ok(), "{good}");
        }
        for bad in ["", "nonsense", "ftp://example.net", "file:///etc/passwd", "https://", "/hook"] {
            assert!(web_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pause_is_read_in_seconds() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, "125".parse().expect("valid"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(125)));
        headers.insert(RETRY_AFTER, "Wed, 21 Oct 2026 07:28:00 GMT".parse().expect("valid"));
        assert_eq!(retry_after(&headers), None);
    }
}
