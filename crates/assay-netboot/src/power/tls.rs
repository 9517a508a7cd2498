//! Whom a Redfish connection trusts: one pinned certificate, anybody, or whom the system trusts.
//!
//! BMCs show certificates that they made themselves, for names that nobody uses, valid since 1970. What can be said
//! for sure is that it is the same one as last time.

use std::sync::{Arc, Mutex, PoisonError};

use assay_model::Sha256;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Takes the expected certificate, or any where none is expected; remembers what was shown.
#[derive(Debug)]
pub(super) struct Shown {
    expected: Option<Sha256>,
    seen: Mutex<Option<Sha256>>,
    provider: Arc<CryptoProvider>,
}

impl Shown {
    pub(super) fn new(expected: Option<Sha256>) -> Arc<Self> {
        Arc::new(Self { expected, seen: Mutex::new(None), provider: Arc::new(ring::default_provider()) })
    }

    /// The digest of the certificate that was refused.
    pub(super) fn stranger(&self) -> Option<Sha256> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.filter(|seen| self.expected.is_some_and(|expected| expected != *seen))
    }

    pub(super) fn client_config(self: &Arc<Self>) -> Result<ClientConfig, Error> {
        Ok(ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Self>::clone(self))
            .with_no_client_auth())
    }
}

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen = Sha256::of(end_entity);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        if self.expected.is_none_or(|expected| expected == seen) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
