//! Which build of Assay it is: the version says little between two releases, the digest of the running program says it all.

use std::io::Read as _;
use std::path::Path;
use std::sync::OnceLock;

use assay_model::Sha256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A build of Assay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Harness {
    /// Its version.
    pub version: String,
    /// The digest of its program; none where that could not be read, and in journals from before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
}

impl Harness {
    /// The build that runs. The first call reads the whole program, which takes a while.
    pub fn running() -> Self {
        static DIGEST: OnceLock<Option<Sha256>> = OnceLock::new();
        // The link leads to the program that was started, even where another one lies in its place by now.
        let sha256 = *DIGEST.get_or_init(|| digest(Path::new("/proc/self/exe")).ok());
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), sha256 }
    }

    /// As people name it: the version, and the digest's first twelve digits.
    pub fn name(&self) -> String {
        match self.sha256 {
            Some(sha256) => format!("{} ({})", self.version, &sha256.to_string()[..12]),
            None => format!("{} (digest not known)", self.version),
        }
    }
}

/// The digest of a program's file.
///
/// # Errors
/// The file cannot be read.
pub fn digest(program: &Path) -> std::io::Result<Sha256> {
    let mut file = std::fs::File::open(program)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256(hasher.finalize().into())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_bytes() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let bytes = vec![7_u8; (1 << 20) + 3];
        std::fs::write(file.path(), &bytes).expect("written");
        assert_eq!(digest(file.path()).expect("read"), Sha256::of(&bytes));
        let running = Harness::running();
        let this = std::env::current_exe().expect("this test is a program");
        assert_eq!(running.sha256, Some(digest(&this).expect("read")));
        assert!(
            running.name().starts_with(&format!("{} (", env!("CARGO_PKG_VERSION"))),
            "{}",
            running.name()
        );
    }
}
