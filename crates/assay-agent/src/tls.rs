//! Knowing the control plane by one certificate, and by nothing else.
//!
//! The provisioning network has no names and the machine may have no right date (a dead CMOS battery is no reason
//! to fail), so neither is looked at. What counts is the digest of the certificate, and that the other side proves
//! in the handshake that it holds that certificate's key. There is no way around it.

use std::sync::{Arc, Mutex, PoisonError};

use assay_model::Sha256;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// Accepts the one certificate, and remembers the last other one that was shown, for the console.
#[derive(Debug)]
pub(crate) struct Pinned {
    expected: Sha256,
    stranger: Mutex<Option<Sha256>>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    pub(crate) fn new(expected: Sha256) -> Arc<Self> {
        Arc::new(Self { expected, stranger: Mutex::new(None), provider: Arc::new(ring::default_provider()) })
    }

    /// The digest of the wrong certificate that was shown last; none once the right one was shown.
    pub(crate) fn stranger(&self) -> Option<Sha256> {
        *self.stranger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The TLS settings that use it.
    pub(crate) fn client_config(self: &Arc<Self>) -> Result<ClientConfig, Error> {
        Ok(ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Self>::clone(self))
            .with_no_client_auth())
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen = Sha256::of(end_entity);
        let right = seen == self.expected;
        *self.stranger.lock().unwrap_or_else(PoisonError::into_inner) = (!right).then_some(seen);
        if right {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
