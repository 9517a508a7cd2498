//! The certificate that agents pin: made once, kept in the data folder.
//!
//! Agents check its SHA-256 and nothing else, so its dates and names are for people only.

use std::io;
use std::path::Path;

use assay_model::Sha256;

use crate::secret_file::write_secret;

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Identity {
    /// Reads the pair from a folder, or makes one.
    pub(crate) fn load_or_create(dir: &Path) -> io::Result<Self> {
        let (certificate, key) = (dir.join("agents.crt.der"), dir.join("agents.key.der"));
        if certificate.exists() && key.exists() {
            return Ok(Self { certificate: std::fs::read(certificate)?, key: std::fs::read(key)? });
        }
        std::fs::create_dir_all(dir)?;
        let made = rcgen::generate_simple_self_signed(vec!["assay".to_owned()]).map_err(io::Error::other)?;
        let identity = Self { certificate: made.cert.der().to_vec(), key: made.signing_key.serialize_der() };
        write_secret(&key, &identity.key)?;
        write_secret(&certificate, &identity.certificate)?;
        Ok(identity)
    }

    /// What goes onto the kernel command line.
    pub(crate) fn fingerprint(&self) -> Sha256 {
        Sha256::of(&self.certificate)
    }
}
