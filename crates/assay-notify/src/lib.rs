//! Notifications: an event goes to every sink.
//!
//! This crate delivers; it remembers nothing. Which notifications there are, and that none is
//! sent twice, is the outbox's business (`assay-store`). The only sink so far is a webhook.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use url::{Host, Url};

/// A receiver that does not answer within this time has not been told.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Something to tell.
#[derive(Clone, Debug, Serialize)]
pub struct Notification {
    /// Unique; also sent as the header `Idempotency-Key`.
    pub id: String,
    /// `RunStarted`, `SpecMismatch`, `RunHeld`, `RunCompleted` …
    pub event: String,
    /// The event's facts; always with `run` and `host`.
    pub payload: Value,
}

/// Where notifications go: an HTTP endpoint that takes a JSON POST.
#[derive(Clone, Debug)]
pub struct Webhook {
    url: Url,
    client: reqwest::Client,
    allow_internal: bool,
}

/// Why a sink could not be set up or told.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The address does not read.
    #[error("`{url}` is not a web address (http:// or https://)")]
    BadUrl {
        /// What was given.
        url: String,
    },
    /// The address is one of our own network.
    #[error("{host} is an internal address; allow it with --webhook-allow-internal if that is meant")]
    Internal {
        /// The host.
        host: String,
    },
    /// The receiver could not be reached or did not answer in time.
    #[error("{host} could not be reached: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// What the client says.
        why: String,
    },
    /// The receiver refused.
    #[error("{host} answered {status}")]
    Refused {
        /// The host.
        host: String,
        /// The HTTP status.
        status: u16,
    },
}

impl Webhook {
    /// A webhook sink. Internal addresses (loopback, private, link-local) must be allowed.
    pub fn new(url: &str, allow_internal: bool) -> Result<Self, NotifyError> {
        let bad = || NotifyError::BadUrl { url: url.chars().take(200).collect() };
        let url: Url = url.parse().map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(bad());
        }
        // Harmless when the program has chosen its provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A redirect could lead inside after the address was checked.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| NotifyError::Unreachable { host: host_of(&url), why: e.to_string() })?;
        Ok(Self { url, client, allow_internal })
    }

    /// Delivers one notification.
    pub async fn deliver(&self, notification: &Notification) -> Result<(), NotifyError> {
        let host = host_of(&self.url);
        let unreachable = |why: String| NotifyError::Unreachable { host: host.clone(), why };
        if !self.allow_internal && self.is_internal().await.map_err(|e| unreachable(e.to_string()))? {
            return Err(NotifyError::Internal { host });
        }
        let answer = self
            .client
            .post(self.url.clone())
            .header("Idempotency-Key", &notification.id)
            .json(notification)
            .send()
            .await
            .map_err(|e| unreachable(e.without_url().to_string()))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(NotifyError::Refused { host, status: answer.status().as_u16() })
        }
    }

    async fn is_internal(&self) -> std::io::Result<bool> {
        let port = self.url.port_or_known_default().unwrap_or(80);
        Ok(match self.url.host() {
            Some(Host::Ipv4(ip)) => internal(ip.into()),
            Some(Host::Ipv6(ip)) => internal(ip.into()),
            Some(Host::Domain(name)) => {
                tokio::net::lookup_host((name, port)).await?.any(|addr| internal(addr.ip()))
            }
            None => true,
        })
    }
}

fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or("?").to_owned()
}

fn internal(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
        }
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wiremock::matchers::{body_partial_json, header, method};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    fn held() -> Notification {
        Notification {
            id: "r1:RunHeld:7".into(),
            event: "RunHeld".into(),
            payload: serde_json::json!({"run": 1, "host": "web-3"}),
        }
    }

    #[tokio::test]
    async fn a_webhook_is_told_once_with_its_key() {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(header("Idempotency-Key", "r1:RunHeld:7"))
            .and(body_partial_json(serde_json::json!({"event": "RunHeld", "payload": {"run": 1}})))
            .respond_with(ResponseTemplate::new(200))
            .expect(1)
            .mount(&server)
            .await;
        let hook = Webhook::new(&server.uri(), true).expect("valid");
        hook.deliver(&held()).await.expect("delivered");
    }

    #[tokio::test]
    async fn refusals_and_internal_addresses_are_named() {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(ResponseTemplate::new(500)).mount(&server).await;
        let hook = Webhook::new(&server.uri(), true).expect("valid");
        assert!(matches!(hook.deliver(&held()).await, Err(NotifyError::Refused { status: 500, .. })));

        for url in [
            server.uri(),
            "http://localhost:1/".into(),
            "http://[::1]:1/".into(),
            "http://10.0.0.1/".into(),
            "http://[::ffff:127.0.0.1]:1/".into(),
        ] {
            let hook = Webhook::new(&url, false).expect("valid");
            assert!(matches!(hook.deliver(&held()).await, Err(NotifyError::Internal { .. })), "{url}");
        }
        assert!(Webhook::new("file:///etc/passwd", true).is_err());
        assert!(Webhook::new("nonsense", true).is_err());
    }
}
