//! Seals as the server does: the real statement, the real signature, a key made for the test.

use assay_engine::{ReportFacts, Sealer};
use assay_model::event::Sealed;
use assay_model::report::Report;
use assay_model::{RunView, Sha256};
use assay_report::{PublicKey, SigningKey};
use serde_json::Value;

/// Signs with a key of its own.
pub struct TestSealer(SigningKey);

impl TestSealer {
    /// A sealer with a new key.
    pub fn generate() -> Self {
        Self(SigningKey::generate().expect("the system has random numbers"))
    }

    /// The key that its seals are checked with.
    pub fn public(&self) -> PublicKey {
        self.0.public()
    }
}

impl Sealer for TestSealer {
    fn seal(&self, run: &RunView, head: Sha256) -> Sealed {
        assay_report::attest::seal(run, head, &self.0)
    }

    fn check(&self, run: &RunView) -> Result<(), String> {
        assay_report::attest::check_seal(run, &[self.0.public()])
    }

    fn sign_permit(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign_permit(message)
    }

    fn reports(&self, facts: &ReportFacts) -> Vec<(String, Vec<u8>)> {
        let json = assay_report::json(&Report::of(&facts.run));
        vec![("report.json".to_owned(), json.into_bytes())]
    }
}

/// The statement in a seal, if the key made it.
pub(crate) fn statement(sealed: &Sealed, key: &PublicKey) -> Value {
    assay_report::attest::verify_envelope(&sealed.envelope, std::slice::from_ref(key))
        .expect("the seal is signed by the test's own key")
}
