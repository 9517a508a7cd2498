//! A webhook: JSON by POST, signed when there is a secret.
//!
//! The signature is the one of <https://www.standardwebhooks.com>, so receivers in any language
//! have a library for it: HMAC-SHA256 over `id.timestamp.body`. The timestamp is the try's, not the
//! event's, so a receiver can refuse what is older than some minutes, and with the id it can drop
//! a repeat: a recorded request is worth nothing later.

use assay_model::Micros;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use reqwest::header::CONTENT_TYPE;
use sha2::Sha256;
use url::Url;

use crate::error::DeliveryError;
use crate::http::Http;
use crate::message::Message;
use crate::news::Notification;

/// Marks a secret as base64, as the standard wants it.
const PREFIX: &str = "whsec_";
/// Fewer bytes can be guessed.
const SHORTEST_KEY: usize = 24;

/// Where to, and how it is signed.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) url: Url,
    pub(crate) http: Http,
    pub(crate) key: Option<SigningKey>,
    /// The receiver drops what it has had, by `Idempotency-Key` or `webhook-id`.
    pub(crate) deduplicates: bool,
}

/// The shared secret's bytes.
#[derive(Clone)]
pub(crate) struct SigningKey(Vec<u8>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    pub(crate) fn read(secret: &str) -> Result<Self, String> {
        let bytes = match secret.strip_prefix(PREFIX) {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| {
                format!("what follows `{PREFIX}` is no base64; take the secret over unchanged")
            })?,
            None => secret.as_bytes().to_vec(),
        };
        if bytes.len() < SHORTEST_KEY {
            return Err(format!(
                "a secret of {} bytes can be guessed; take at least {SHORTEST_KEY}, for instance from `openssl rand -hex 32`",
                bytes.len()
            ));
        }
        Ok(Self(bytes))
    }
}

impl Webhook {
    pub(crate) async fn deliver(
        &self,
        news: &Notification,
        message: &Message,
        now: Micros,
    ) -> Result<String, DeliveryError> {
        let body = news.wire(message).to_string();
        let timestamp = now.0.div_euclid(1_000_000);
        let mut request = self
            .http
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", &news.id)
            .header("webhook-id", &news.id)
            .header("webhook-timestamp", timestamp.to_string());
        if let Some(key) = &self.key {
            let signed = signature(&key.0, &news.id, timestamp, body.as_bytes());
            request = request.header("webhook-signature", signed);
        }
        self.http.send(request.body(body)).await.map(|_| "accepted".to_owned())
    }
}

/// The header `webhook-signature`: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
pub fn signature(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the standard's own specification.
    #[test]
    fn the_signature_is_the_standards() {
        let key = SigningKey::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("valid");
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&key.0, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn weak_and_broken_secrets_are_refused() {
        assert!(SigningKey::read("hunter2").expect_err("short").contains("7 bytes"));
        assert!(SigningKey::read("whsec_not base64!").is_err());
        assert!(SigningKey::read("whsec_aHVudGVyMg==").is_err(), "short when decoded");
        assert!(SigningKey::read(&"0123456789abcdef".repeat(4)).is_ok());
        assert_eq!(format!("{:?}", SigningKey::read(&"x".repeat(32)).expect("valid")), "SigningKey(…)");
    }
}
