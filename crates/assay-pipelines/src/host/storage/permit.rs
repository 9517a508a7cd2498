//! Whether a permit holds: signed by the control plane that this agent knows, for this host, this run and this try, in
//! time, and not used before.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use assay_model::Micros;
use assay_model::host::permit::{CONTEXT, ErasePermit, SignedPermit};
use ed25519_dalek::{Signature, VerifyingKey};

use crate::Place;

/// Longer than the permit of a machine with a hundred disks.
const MAX_PERMIT: usize = 64 << 10;
/// A shorter nonce could be met twice by chance.
const MIN_NONCE: usize = 16;

/// The permits that were used in this agent's life.
pub(crate) struct Spent(Mutex<BTreeSet<String>>);

impl Spent {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }

    /// Uses it, if it was not used before.
    fn spend(&self, nonce: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(nonce.to_owned())
    }
}

/// A permit does not hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PermitError {
    #[error("it is longer than any permit")]
    TooLong,
    #[error("this agent was given no key of the control plane to check it with")]
    NoKey,
    #[error("its signature is not the control plane's")]
    Signature,
    #[error("it does not read ({0})")]
    Shape(String),
    #[error("it is for run {0}, not for this one")]
    Run(String),
    #[error("it is for the host `{0}`, not for this one")]
    Host(String),
    #[error("it is for another try (generation {permit}; this one is {here})")]
    Generation { permit: i64, here: i64 },
    #[error("it ended at {}", .0.rfc3339())]
    Expired(Micros),
    #[error("it was used before")]
    Used,
}

/// Checks a permit at this server time and uses it up.
pub(crate) fn check(
    signed: &SignedPermit,
    place: &Place,
    now: Micros,
    spent: &Spent,
) -> Result<ErasePermit, PermitError> {
    if signed.permit.len() > MAX_PERMIT {
        return Err(PermitError::TooLong);
    }
    let key = bytes::<32>(&place.verify_key).and_then(|key| VerifyingKey::from_bytes(&key).ok());
    let key = key.ok_or(PermitError::NoKey)?;
    let signature = bytes::<64>(&signed.signature).ok_or(PermitError::Signature)?;
    let message = [CONTEXT, signed.permit.as_bytes()].concat();
    key.verify_strict(&message, &Signature::from_bytes(&signature)).map_err(|_| PermitError::Signature)?;
    let permit: ErasePermit =
        serde_json::from_str(&signed.permit).map_err(|problem| PermitError::Shape(problem.to_string()))?;
    if permit.run != place.run {
        return Err(PermitError::Run(permit.run.to_string()));
    }
    if permit.host != place.host {
        return Err(PermitError::Host(assay_model::text::clean(&permit.host)));
    }
    if permit.generation != place.generation {
        return Err(PermitError::Generation { permit: permit.generation, here: place.generation });
    }
    is_in_time(&permit, now)?;
    if permit.nonce.len() < MIN_NONCE || !spent.spend(&permit.nonce) {
        return Err(PermitError::Used);
    }
    Ok(permit)
}

/// Whether a permit still holds at this server time.
pub(crate) fn is_in_time(permit: &ErasePermit, now: Micros) -> Result<(), PermitError> {
    if now >= permit.expires { Err(PermitError::Expired(permit.expires)) } else { Ok(()) }
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
pub(crate) mod testing {
    use assay_model::host::permit::GuardAnswer;
    use assay_model::{Micros, RunId};
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    pub(crate) fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    pub(crate) fn place() -> Place {
        Place {
            run: RunId(uuid::Uuid::from_u128(5)),
            host: "web-3".to_owned(),
            generation: 4,
            verify_key: hex::encode(key().verifying_key().as_bytes()),
            now: Micros::seconds(1000),
        }
    }

    pub(crate) fn permit(disks: &[&str], with_data: &[&str], nonce: &str) -> ErasePermit {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        ErasePermit {
            host: "web-3".to_owned(),
            run: place().run,
            generation: 4,
            disks: own(disks),
            with_data: own(with_data),
            guard: GuardAnswer::NoCluster,
            expires: Micros::seconds(2000),
            nonce: format!("0123456789abcdef-{nonce}"),
        }
    }

    pub(crate) fn signed(permit: &ErasePermit, key: &SigningKey) -> SignedPermit {
        let permit = serde_json::to_string(permit).expect("plain");
        let message = [CONTEXT, permit.as_bytes()].concat();
        SignedPermit { signature: hex::encode(key.sign(&message).to_bytes()), permit }
    }
}

#[cfg(test)]
mod tests {
    use assay_model::RunId;
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::testing::{key, permit, place, signed};
    use super::*;

    fn said(signed: &SignedPermit) -> Result<ErasePermit, PermitError> {
        check(signed, &place(), place().now, &Spent::new())
    }

    fn changed(change: impl FnOnce(&mut ErasePermit)) -> Result<ErasePermit, PermitError> {
        let mut permit = permit(&["S1"], &[], "a");
        change(&mut permit);
        said(&signed(&permit, &key()))
    }

    #[test]
    fn a_permit_for_this_run_host_and_try_holds_once() {
        let good = signed(&permit(&["S1"], &[], "a"), &key());
        let spent = Spent::new();
        assert!(check(&good, &place(), place().now, &spent).is_ok());
        assert_eq!(check(&good, &place(), place().now, &spent), Err(PermitError::Used));
        let next = signed(&permit(&["S1"], &[], "b"), &key());
        assert!(check(&next, &place(), place().now, &spent).is_ok());
    }

    #[test]
    fn whatever_is_off_the_permit_does_not_hold() {
        let other = RunId(uuid::Uuid::from_u128(6));
        assert_eq!(changed(|p| p.run = other), Err(PermitError::Run(other.to_string())));
        assert_eq!(changed(|p| p.host = "web-4".to_owned()), Err(PermitError::Host("web-4".to_owned())));
        assert_eq!(changed(|p| p.generation = 3), Err(PermitError::Generation { permit: 3, here: 4 }));
        assert_eq!(changed(|p| p.generation = 5), Err(PermitError::Generation { permit: 5, here: 4 }));
        let now = place().now;
        assert_eq!(changed(|p| p.expires = now), Err(PermitError::Expired(now)));
        assert_eq!(changed(|p| p.nonce = "short".to_owned()), Err(PermitError::Used));
    }

    #[test]
    fn only_the_control_planes_signature_over_exactly_these_bytes_counts() {
        let good = signed(&permit(&["S1"], &[], "a"), &key());
        let foreign = signed(&permit(&["S1"], &[], "a"), &SigningKey::from_bytes(&[8; 32]));
        assert_eq!(said(&foreign), Err(PermitError::Signature));
        let altered = SignedPermit { permit: good.permit.replace("S1", "S2"), ..good.clone() };
        assert_eq!(said(&altered), Err(PermitError::Signature));
        for signature in ["", "zz", &good.signature[2..], &"0".repeat(128)] {
            let broken = SignedPermit { signature: signature.to_owned(), ..good.clone() };
            assert_eq!(said(&broken), Err(PermitError::Signature));
        }
        // Signed by the right key for another purpose.
        let bare = hex::encode(key().sign(good.permit.as_bytes()).to_bytes());
        assert_eq!(said(&SignedPermit { signature: bare, ..good.clone() }), Err(PermitError::Signature));
        let keyless = Place { verify_key: String::new(), ..place() };
        assert_eq!(check(&good, &keyless, place().now, &Spent::new()), Err(PermitError::NoKey));
    }

    #[test]
    fn what_is_signed_and_is_no_permit_does_not_hold() {
        let sign = |text: &str| {
            let message = [CONTEXT, text.as_bytes()].concat();
            SignedPermit { permit: text.to_owned(), signature: hex::encode(key().sign(&message).to_bytes()) }
        };
        assert!(matches!(said(&sign("{}")), Err(PermitError::Shape(_))));
        assert_eq!(said(&sign(&" ".repeat(MAX_PERMIT + 1))), Err(PermitError::TooLong));
    }
}
