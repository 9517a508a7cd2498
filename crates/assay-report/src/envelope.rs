//! DSSE envelopes: a payload, its type, and a signature over both.
//!
//! The format is the one of <https://github.com/secure-systems-lab/dsse>; the signed bytes are its
//! pre-authentication encoding, so that a payload cannot be passed off as one of another type.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::key::{PublicKey, SigningKey};

/// Why an envelope does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is not an envelope.
    #[error("this is not a DSSE envelope: {0}")]
    Shape(String),
    /// It carries something else.
    #[error("the envelope carries `{found}`, not `{expected}`")]
    Type {
        /// What it should carry.
        expected: String,
        /// What it says it carries.
        found: String,
    },
    /// No acceptable key made any of its signatures.
    #[error("it is signed by key {}, which is not among the accepted keys ({}); get the signer's public key from a source you trust", found.join(", "), accepted.join(", "))]
    WrongKey {
        /// The key ids it names.
        found: Vec<String>,
        /// The key ids that were accepted.
        accepted: Vec<String>,
    },
    /// The key is right and the signature is not.
    #[error(
        "the signature does not fit: the payload or the signature was altered after key {key_id} signed it"
    )]
    BadSignature {
        /// Whose signature it should be.
        key_id: String,
    },
}

/// A payload whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The signed bytes.
    pub payload: Vec<u8>,
    /// The key that signed them.
    pub key_id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

/// Signs a payload.
pub fn sign(payload_type: &str, payload: &[u8], key: &SigningKey) -> Value {
    let envelope = Envelope {
        payload_type: payload_type.to_owned(),
        payload: STANDARD.encode(payload),
        signatures: vec![EnvelopeSignature {
            keyid: key.key_id(),
            sig: STANDARD.encode(key.sign(&pre_authentication_encoding(payload_type, payload))),
        }],
    };
    serde_json::to_value(envelope).expect("an envelope is made of strings")
}

/// Checks the signature against the accepted keys and returns the payload.
pub fn open(envelope: &Value, payload_type: &str, accepted: &[PublicKey]) -> Result<Opened, EnvelopeError> {
    let envelope: Envelope =
        serde_json::from_value(envelope.clone()).map_err(|e| EnvelopeError::Shape(e.to_string()))?;
    if envelope.payload_type != payload_type {
        return Err(EnvelopeError::Type { expected: payload_type.to_owned(), found: envelope.payload_type });
    }
    let payload = decode("payload", &envelope.payload)?;
    let message = pre_authentication_encoding(payload_type, &payload);
    let mut tried = None;
    for signature in &envelope.signatures {
        let Some(key) = accepted.iter().find(|k| k.key_id() == signature.keyid) else { continue };
        let bytes: [u8; 64] = decode("signature", &signature.sig)?
            .try_into()
            .map_err(|_| EnvelopeError::Shape("a signature is not 64 bytes long".to_owned()))?;
        if key.verifies(&message, &bytes) {
            return Ok(Opened { payload, key_id: signature.keyid.clone() });
        }
        tried = Some(signature.keyid.clone());
    }
    Err(match tried {
        Some(key_id) => EnvelopeError::BadSignature { key_id },
        None => EnvelopeError::WrongKey {
            found: envelope.signatures.into_iter().map(|s| s.keyid).collect(),
            accepted: accepted.iter().map(PublicKey::key_id).collect(),
        },
    })
}

/// The ids of the keys that an envelope says it is signed by; unverified.
pub fn claimed_key_ids(envelope: &Value) -> Vec<String> {
    let signatures = envelope.get("signatures").and_then(Value::as_array);
    signatures
        .into_iter()
        .flatten()
        .filter_map(|s| s.get("keyid").and_then(Value::as_str).map(str::to_owned))
        .collect()
}

fn decode(what: &str, text: &str) -> Result<Vec<u8>, EnvelopeError> {
    STANDARD.decode(text).map_err(|e| EnvelopeError::Shape(format!("its {what} is not base64: {e}")))
}

fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_bytes_are_those_of_the_dsse_specification() {
        // The example in the specification's protocol.md.
        let pae = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(pae, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn an_envelope_opens_only_with_its_key_its_type_and_its_bytes() {
        let key = SigningKey::generate().expect("random");
        let other = SigningKey::generate().expect("random");
        let envelope = sign("application/x", b"payload", &key);
        let opened = open(&envelope, "application/x", &[other.public(), key.public()]).expect("holds");
        assert_eq!((opened.payload.as_slice(), opened.key_id), (&b"payload"[..], key.key_id()));
        assert_eq!(claimed_key_ids(&envelope), [key.key_id()]);

        let wrong = open(&envelope, "application/x", &[other.public()]).expect_err("wrong key");
        assert_eq!(
            wrong,
            EnvelopeError::WrongKey { found: vec![key.key_id()], accepted: vec![other.key_id()] }
        );
        assert!(matches!(open(&envelope, "application/y", &[key.public()]), Err(EnvelopeError::Type { .. })));

        let mut altered = envelope.clone();
        altered["payload"] = STANDARD.encode("Payload").into();
        assert_eq!(
            open(&altered, "application/x", &[key.public()]),
            Err(EnvelopeError::BadSignature { key_id: key.key_id() })
        );
        let mut impostor = sign("application/x", b"payload", &other);
        impostor["signatures"][0]["keyid"] = key.key_id().into();
        assert_eq!(
            open(&impostor, "application/x", &[key.public()]),
            Err(EnvelopeError::BadSignature { key_id: key.key_id() })
        );
        let mut unsigned = envelope;
        unsigned["signatures"] = Value::Array(Vec::new());
        assert!(open(&unsigned, "application/x", &[key.public()]).is_err());
        assert!(open(&Value::Null, "application/x", &[key.public()]).is_err());
    }
}
