//! A recipe that comes as a Git bundle: the commit under test, the trusted commit, and all tags, named by one digest.
//!
//! The runner has no checkout of it and no token for its forge. What it unpacks is in the test's own folder and goes with it.
//! Tests, hooks and the overlay are taken from the trusted commit, whatever the commit under test holds.

use std::path::Path;
use std::sync::Arc;

use assay_recipe::customise::FOLDER;
use assay_recipe::versions::Checkout;
use futures::future::BoxFuture;

use super::{Tell, Test};
use crate::recipe::Source;

/// Who brings bundles.
pub trait Bundles: Send + Sync {
    /// Writes a bundle to a file that does not exist yet. It has the source's digest, or this is an error.
    ///
    /// # Errors
    /// Why it cannot be brought, for people.
    fn fetch<'a>(&'a self, source: &'a Source, to: &'a Path) -> BoxFuture<'a, Result<(), String>>;
}

/// The bundle's file in the test's folder, and the folders that it is unpacked to.
const BUNDLE: &str = "source.bundle";
const UNPACKED: &str = "source";
const TRUSTED: &str = "trusted";

impl Test {
    /// Brings and unpacks the recipe's bundle, once, where it comes as one: from then on it lies where any other recipe does.
    pub(super) async fn unpack_source(&mut self, tell: Tell<'_>) -> Result<(), String> {
        let Some(source) = self.spec.source.clone() else { return Ok(()) };
        let within = self.folder.path();
        let (bundle, unpacked, trusted) =
            (within.join(BUNDLE), within.join(UNPACKED).join(&self.spec.name), within.join(TRUSTED));
        if unpacked.is_dir() {
            return Ok(());
        }
        let Some(bundles) = self.bundles.as_ref().map(Arc::clone) else {
            return Err(
                "the recipe comes as a bundle, and nobody here brings bundles; is the runner older than the \
                        control plane?"
                    .to_owned(),
            );
        };
        tell("bringing the recipe");
        bundles.fetch(&source, &bundle).await?;
        let failed = |error: assay_recipe::versions::VersionsError| format!("the recipe's bundle: {error}");
        let checkout = Checkout::of_bundle(&bundle, &unpacked).await.map_err(failed)?;
        checkout.clone_at(&source.trusted, &trusted).await.map_err(failed)?;
        std::fs::remove_file(&bundle).map_err(|error| format!("{}: {error}", bundle.display()))?;
        let tests = trusted.join(FOLDER);
        self.spec.tests = tests.is_dir().then_some(tests);
        self.spec.folder = unpacked;
        Ok(())
    }
}
