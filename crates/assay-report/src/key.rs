//! The key that signs verdicts, and its public half.
//!
//! Ed25519 in the encodings that `openssl pkey` reads: PKCS#8 PEM for the private key, SPKI PEM for
//! the public one. Only the control plane holds the private key; no runner and no agent ever does.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use assay_model::Sha256;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, KeypairBytes,
};
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use rand::TryRngCore as _;

/// A key could not be made, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes for a signing key: {0}")]
    Random(#[from] rand::rand_core::OsError),
    /// The file system refused.
    #[error("cannot {doing} the signing key {}: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is no key.
    #[error(
        "{what} is not an Ed25519 {kind} key in PEM form ({detail}); restore it from a backup, or move it away to have a new one made"
    )]
    NotAKey {
        /// Where the text came from.
        what: String,
        /// `private` or `public`.
        kind: &'static str,
        /// What the decoder said.
        detail: String,
    },
}

/// The private key that seals runs.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(public {})", self.key_id())
    }
}

impl SigningKey {
    /// A new key from the operating system's random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        rand::rngs::OsRng.try_fill_bytes(&mut seed)?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// Reads the key from a file, or makes one there (mode 0600) when the file does not exist.
    ///
    /// Two processes that start at once end with the same key: the file appears whole or not at
    /// all, and the second one reads what the first one wrote.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let failed = |doing| move |source| KeyError::File { doing, path: path.to_owned(), source };
        match fs::read_to_string(path) {
            Ok(text) => return Self::from_pem(&text, &path.display().to_string()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("read")(e)),
        }
        let key = Self::generate()?;
        // Named after the key, so that no two starts, in one process or in two, share it.
        let fresh = path.with_extension(format!("new-{}", key.key_id()));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut file| {
                file.write_all(key.to_pem().as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::hard_link(&fresh, path));
        // The temporary name must go in either case; that it cannot is no reason to fail.
        let _ = fs::remove_file(&fresh);
        match written {
            Ok(()) => Ok(key),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let text = fs::read_to_string(path).map_err(failed("read"))?;
                Self::from_pem(&text, &path.display().to_string())
            }
            Err(e) => Err(failed("create")(e)),
        }
    }

    /// Reads PKCS#8 PEM; `what` names the source in an error.
    pub fn from_pem(text: &str, what: &str) -> Result<Self, KeyError> {
        ed25519_dalek::SigningKey::from_pkcs8_pem(text).map(Self).map_err(|e| KeyError::NotAKey {
            what: what.to_owned(),
            kind: "private",
            detail: e.to_string(),
        })
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Names the key; see [`PublicKey::key_id`].
    pub fn key_id(&self) -> String {
        self.public().key_id()
    }

    /// Signs a permit to erase disks: `message` is the permit's bytes after
    /// [`CONTEXT`](assay_model::host::permit::CONTEXT), so that what is signed here can never pass for a verdict.
    ///
    /// # Panics
    /// When the context is not there: a bug of the caller.
    pub fn sign_permit(&self, message: &[u8]) -> [u8; 64] {
        assert!(
            message.starts_with(assay_model::host::permit::CONTEXT),
            "a permit is signed under its context"
        );
        self.sign(message)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    fn to_pem(&self) -> impl std::ops::Deref<Target = String> {
        // Without the public half: version 1 of the format, which every tool reads.
        KeypairBytes { secret_key: self.0.to_bytes(), public_key: None }
            .to_pkcs8_pem(LineEnding::LF)
            .expect("an Ed25519 key always encodes")
    }
}

/// The public half: what a verifier needs to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads SPKI PEM; `what` names the source in an error.
    pub fn from_pem(text: &str, what: &str) -> Result<Self, KeyError> {
        VerifyingKey::from_public_key_pem(text).map(Self).map_err(|e| KeyError::NotAKey {
            what: what.to_owned(),
            kind: "public",
            detail: e.to_string(),
        })
    }

    /// SPKI PEM.
    pub fn to_pem(&self) -> String {
        self.0.to_public_key_pem(LineEnding::LF).expect("an Ed25519 key always encodes")
    }

    /// SHA-256 of the DER encoding (SPKI), in hex: what `openssl pkey -pubin -outform DER | sha256sum` prints.
    pub fn key_id(&self) -> String {
        let der = self.0.to_public_key_der().expect("an Ed25519 key always encodes");
        Sha256::of(der.as_bytes()).to_string()
    }

    /// The key's 32 bytes, in hex.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0.as_bytes())
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        // Strict: no second spelling of a signature and no weak key passes.
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}
