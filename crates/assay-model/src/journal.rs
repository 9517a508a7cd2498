//! The hash chain: how stored events are bound to one another, and how an altered one is found.

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::{Micros, RunId, Sha256};

/// An event as it is stored and hashed: bytes, not meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Place in the chain, from 1.
    pub seq: i64,
    /// When it was committed.
    pub at: Micros,
    /// `kind@version`.
    pub kind: String,
    /// The body's bytes, verbatim.
    #[serde(with = "as_text")]
    pub body: Vec<u8>,
    /// The hash of the event before; zeros for the first.
    pub prev_hash: Sha256,
    /// Over everything above.
    pub hash: Sha256,
}

impl StoredEvent {
    /// Chains a new event to the one before.
    pub fn chain(run: RunId, seq: i64, at: Micros, kind: String, body: Vec<u8>, prev_hash: Sha256) -> Self {
        let hash = hash(run, seq, at, &kind, &body, prev_hash);
        Self { seq, at, kind, body, prev_hash, hash }
    }
}

/// SHA-256 over run (16 bytes), seq and time (8 bytes each, big-endian), kind and body (each with
/// its length before it, 8 bytes) and the previous hash.
pub fn hash(run: RunId, seq: i64, at: Micros, kind: &str, body: &[u8], prev: Sha256) -> Sha256 {
    let mut h = sha2::Sha256::new();
    h.update(run.0.as_bytes());
    h.update(seq.to_be_bytes());
    h.update(at.0.to_be_bytes());
    h.update((kind.len() as u64).to_be_bytes());
    h.update(kind.as_bytes());
    h.update((body.len() as u64).to_be_bytes());
    h.update(body);
    h.update(prev.0);
    Sha256(h.finalize().into())
}

/// What is wrong with a chain, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// A number is missing or out of order.
    #[error("event {expected} is missing: event {found} stands in its place")]
    Gap {
        /// The number that should be there.
        expected: i64,
        /// The number that is.
        found: i64,
    },
    /// An event does not name the one before it.
    #[error("event {seq} does not follow the event before it: one of the two was altered")]
    Unlinked {
        /// Which.
        seq: i64,
    },
    /// An event's bytes are not those that were hashed.
    #[error("event {seq} ({kind}) was altered: its bytes do not match its hash")]
    Altered {
        /// Which.
        seq: i64,
        /// Its kind as it stands now.
        kind: String,
    },
}

/// Checks a chain whose first event follows `before` (zeros at the beginning); returns its head.
pub fn verify(run: RunId, before: Sha256, events: &[StoredEvent]) -> Result<Sha256, BrokenChain> {
    let mut head = before;
    for (expected, event) in (1..).zip(events) {
        if event.seq != expected {
            return Err(BrokenChain::Gap { expected, found: event.seq });
        }
        if event.hash != hash(run, event.seq, event.at, &event.kind, &event.body, event.prev_hash) {
            return Err(BrokenChain::Altered { seq: event.seq, kind: event.kind.clone() });
        }
        if event.prev_hash != head {
            return Err(BrokenChain::Unlinked { seq: event.seq });
        }
        head = event.hash;
    }
    Ok(head)
}

mod as_text {
    //! Bodies are JSON text; a bundle keeps them readable and byte-exact.
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(body: &[u8], s: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(body).map_err(serde::ser::Error::custom)?;
        s.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        String::deserialize(d).map(String::into_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chain(run: RunId, bodies: &[&str]) -> Vec<StoredEvent> {
        let mut head = Sha256::ZERO;
        (1..)
            .zip(bodies)
            .map(|(seq, body)| {
                let e = StoredEvent::chain(
                    run,
                    seq,
                    Micros(seq * 10),
                    "K@1".into(),
                    body.as_bytes().to_vec(),
                    head,
                );
                head = e.hash;
                e
            })
            .collect()
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_found_and_named(which in 0_usize..4, byte in 0_usize..8, bit in 0_u8..8) {
            let run = RunId(uuid::Uuid::from_u128(7));
            let mut events = chain(run, &["{\"a\":11}", "{\"b\":22}", "{\"c\":33}", "{\"d\":44}"]);
            prop_assert!(verify(run, Sha256::ZERO, &events).is_ok());
            events[which].body[byte] ^= 1 << bit;
            let seq = i64::try_from(which).expect("small") + 1;
            prop_assert_eq!(
                verify(run, Sha256::ZERO, &events),
                Err(BrokenChain::Altered { seq, kind: "K@1".into() })
            );
        }
    }

    #[test]
    fn removed_swapped_and_rehashed_events_are_found() {
        let run = RunId(uuid::Uuid::from_u128(7));
        let whole = chain(run, &["1", "2", "3"]);
        let mut removed = whole.clone();
        removed.remove(1);
        assert_eq!(verify(run, Sha256::ZERO, &removed), Err(BrokenChain::Gap { expected: 2, found: 3 }));

        let mut rehashed = whole.clone();
        let forged = StoredEvent::chain(run, 2, Micros(20), "K@1".into(), b"9".to_vec(), whole[0].hash);
        rehashed[1] = forged;
        assert_eq!(verify(run, Sha256::ZERO, &rehashed), Err(BrokenChain::Unlinked { seq: 3 }));

        let other = RunId(uuid::Uuid::from_u128(8));
        assert!(verify(other, Sha256::ZERO, &whole).is_err(), "events of another run do not pass");
    }
}
