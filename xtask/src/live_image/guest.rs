//! `cargo xtask guest-image`: the system of the virtual machines that strangers' recipes are tested in, by the live image's builder.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::config::Image;
use super::{How, Paths, build};

/// Builds the guest image into target/guest-image/ (vmlinuz, base.initrd, manifest.json).
///
/// Nothing is rebuilt while the inputs are the same.
#[derive(Args)]
pub(crate) struct GuestImage {
    /// Fail instead of resolving again when packages.lock is stale or names a version that mirrors dropped.
    #[arg(long, conflicts_with = "update_lock")]
    locked: bool,
    /// Resolve the packages anew and rewrite packages.lock before building.
    #[arg(long)]
    update_lock: bool,
    /// Build even though the inputs have not changed.
    #[arg(long)]
    force: bool,
    /// Where the files go.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Runs the chore.
pub(crate) fn run(options: &GuestImage) -> Result<()> {
    let paths = Paths::new("guest-image", options.out.clone())?;
    let image = Image::load(&paths.source)?;
    let how = How { locked: options.locked, update_lock: options.update_lock, force: options.force };
    let manifest = build(how, &paths, &image)?;
    println!("{} {}", manifest.digest, paths.out.display());
    Ok(())
}
