//! A certificate authority for one stand-in, the certificate it gives, and the wrong ones.
//!
//! All of them are made at the start, so that showing a wrong one costs nothing when it is asked for.

use std::{collections::HashMap, fmt, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde::{Deserialize, Serialize};

use crate::{Certificate, StandInError};

/// A name that no test connects to (RFC 2606).
const OTHER_NAME: &str = "other.invalid";

/// Configurations to serve with; without a kind, the right one.
#[derive(Debug)]
pub(crate) struct Tls {
    authority: Authority,
    configs: HashMap<Option<Certificate>, Arc<ServerConfig>>,
}

/// A certificate authority, as PEM.
#[derive(Serialize, Deserialize)]
pub(crate) struct Authority {
    certificate: String,
    key: String,
}

impl Tls {
    /// With an authority that was kept of another stand-in, or a new one.
    pub(crate) fn new(names: &[String], kept: Option<Authority>) -> Result<Self, StandInError> {
        make(names, kept).map_err(|problem| StandInError::Tls { problem })
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.authority.certificate
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn config(&self, wrong: Option<Certificate>) -> Arc<ServerConfig> {
        Arc::clone(&self.configs[&wrong])
    }
}

/// Its key is nobody's business.
impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

fn make(names: &[String], kept: Option<Authority>) -> Result<Tls, String> {
    let authority = match kept {
        Some(kept) => kept,
        None => new_authority("Assay stand-in")?,
    };
    let trusted = issuer(&authority, "Assay stand-in")?;
    let other = issuer(&new_authority("Somebody else")?, "Somebody else")?;
    let elsewhere = [OTHER_NAME.to_owned()];
    let mut configs = HashMap::new();
    for (kind, issuer, names, expired) in [
        (None, &trusted, names, false),
        (Some(Certificate::OtherName), &trusted, elsewhere.as_slice(), false),
        (Some(Certificate::Expired), &trusted, names, true),
        (Some(Certificate::OtherAuthority), &other, names, false),
    ] {
        configs.insert(kind, Arc::new(server_config(issuer, names, expired)?));
    }
    Ok(Tls { authority, configs })
}

fn new_authority(name: &str) -> Result<Authority, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = authority_params(name)?.self_signed(&key).map_err(|error| error.to_string())?.pem();
    Ok(Authority { certificate, key: key.serialize_pem() })
}

/// Signs in an authority's name.
fn issuer(authority: &Authority, name: &str) -> Result<Issuer<'static, KeyPair>, String> {
    let key = KeyPair::from_pem(&authority.key).map_err(|error| error.to_string())?;
    Ok(Issuer::new(authority_params(name)?, key))
}

fn authority_params(name: &str) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::new(Vec::new()).map_err(|error| error.to_string())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn server_config(
    issuer: &Issuer<'_, KeyPair>,
    names: &[String],
    expired: bool,
) -> Result<ServerConfig, String> {
    let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
    let first = names.first().ok_or("there has to be at least one name")?;
    params.distinguished_name.push(DnType::CommonName, first.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Wide on purpose: machines under test may have any clock. An expired certificate is expired for all of them.
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = if expired { date_time_ymd(2001, 1, 1) } else { date_time_ymd(2100, 1, 1) };
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = params.signed_by(&key, issuer).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // Named here, not taken from the process: this is a library, and must not depend on who was first to install one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
