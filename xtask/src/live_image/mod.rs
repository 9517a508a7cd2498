//! `cargo xtask live-image`: builds the netbooted system from the declarations in `live-image/`.
//!
//! Why a chore and not a shell script: the same inputs must give the same digest, the packages are locked like
//! crates are, and `--check` must be able to say no. The steps, in order: lock ([`lock`], [`resolve`]), packages
//! ([`fetch`]), installed base ([`base`]), root file system ([`assemble`], [`modules`]), `base.initrd` ([`cpio`]).
//! It is not a general image builder: one architecture, one distribution, one kind of output. The system that strangers'
//! recipes are tested in is of that kind, too: `cargo xtask guest-image` builds it from `guest-image/` ([`guest`]).

mod assemble;
mod base;
mod command;
mod config;
mod cpio;
mod elf;
mod fetch;
mod glob;
mod guest;
mod hardware;
mod lock;
mod manifest;
mod modules;
mod overlay;
mod resolve;
#[cfg(test)]
mod root_test;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

pub(crate) use guest::GuestImage;

use config::Image;
use lock::Lock;
use manifest::Manifest;

/// Builds the live image into target/live-image/ (vmlinuz, base.initrd, manifest.json, agent.initrd).
///
/// Nothing is rebuilt while the inputs are the same.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct LiveImage {
    /// Fail instead of resolving again when packages.lock is stale or names a version that mirrors dropped.
    #[arg(long, conflicts_with = "update_lock")]
    locked: bool,
    /// Resolve the packages anew and rewrite packages.lock before building.
    #[arg(long)]
    update_lock: bool,
    /// Build even though the inputs have not changed.
    #[arg(long)]
    force: bool,
    /// Check that the built image drives every device of hardware.toml; builds nothing.
    #[arg(long, conflicts_with_all = ["force", "update_lock", "agent", "overlay"])]
    check: bool,
    /// The agent to pack as agent.initrd (default: the debug build, where there is one).
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Pack a folder, laid out like the root (usr/lib/…), as the extra initrd NAME.initrd; may be repeated.
    #[arg(long, value_name = "NAME=FOLDER")]
    overlay: Vec<String>,
    /// Where the files go.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// The folders a build works with.
pub(crate) struct Paths {
    /// `live-image/` (or `guest-image/`) in the repository: the declarations.
    pub(crate) source: PathBuf,
    /// `target/live-image/` (or `target/guest-image/`): the results.
    pub(crate) out: PathBuf,
    /// Downloads and the installed base, kept between builds.
    pub(crate) cache: PathBuf,
    /// Scratch, rebuilt each time.
    pub(crate) work: PathBuf,
}

impl Paths {
    /// For the image of this name; `out` is where its files go instead of the target folder.
    fn new(name: &str, out: Option<PathBuf>) -> Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask must live one folder below the repository's root")?;
        let out = out.unwrap_or_else(|| repository.join("target").join(name));
        std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
        let out = std::fs::canonicalize(&out)?;
        Ok(Self { source: repository.join(name), cache: out.join("cache"), work: out.join("work"), out })
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.source.join("packages.lock")
    }
}

/// Builds the guest image.
pub(crate) fn run_guest(options: &GuestImage) -> Result<()> {
    guest::run(options)
}

/// Runs the chore.
pub(crate) fn run(options: &LiveImage) -> Result<()> {
    let paths = Paths::new("live-image", options.out.clone())?;
    if options.check {
        return hardware::check_image(&paths);
    }
    let image = Image::load(&paths.source)?;
    let manifest = build(options.how(), &paths, &image)?;
    pack_agent(options, &paths)?;
    for spec in &options.overlay {
        let (name, folder) =
            spec.split_once('=').with_context(|| format!("--overlay {spec}: write NAME=FOLDER"))?;
        if name.is_empty() || name.contains('/') || name == "base" {
            bail!("--overlay {spec}: {name:?} cannot name an initrd");
        }
        let out = paths.out.join(format!("{name}.initrd"));
        overlay::pack_overlay(&out, &overlay::entries_of(Path::new(folder))?)?;
        println!("{}", out.display());
    }
    println!("{} {}", manifest.digest, paths.out.display());
    Ok(())
}

/// How an image is to be built.
#[derive(Clone, Copy)]
struct How {
    /// Never touch the lock.
    locked: bool,
    /// Resolve anew.
    update_lock: bool,
    /// Also where nothing has changed.
    force: bool,
}

impl LiveImage {
    fn how(&self) -> How {
        How { locked: self.locked, update_lock: self.update_lock, force: self.force }
    }
}

fn build(options: How, paths: &Paths, image: &Image) -> Result<Manifest> {
    let mut lock = current_lock(options, paths, image)?;
    if !options.force
        && let Some(manifest) = Manifest::up_to_date(paths, &manifest::inputs_digest(paths, &lock)?)
    {
        eprintln!("live-image: up to date ({})", manifest.digest);
        return Ok(manifest);
    }
    let missing = fetch::fetch(paths, image, &lock)?;
    if !missing.is_empty() {
        let names = missing.join("\n  ");
        if options.locked {
            bail!(
                "the mirror no longer has these locked packages (Debian keeps only the newest):\n  {names}\n\
                 run `cargo xtask live-image --update-lock`, review the change to packages.lock and commit it, \
                 or point ASSAY_DEBIAN_MIRROR at a mirror that has them"
            );
        }
        eprintln!("live-image: WARNING: the mirror no longer has these locked packages:\n  {names}");
        eprintln!(
            "live-image: WARNING: resolving again and rewriting packages.lock: the image WILL differ. Commit the new lock."
        );
        lock = resolve::resolve(paths, image)?;
        lock.save(&paths.lock())?;
        let still = fetch::fetch(paths, image, &lock)?;
        if !still.is_empty() {
            bail!(
                "the mirror's index names packages that it does not have: {}; try again later",
                still.join(", ")
            );
        }
    }
    let base = base::installed_base(paths, &lock, image, options.force)?;
    assemble::assemble(paths, image, &lock, &base)
}

/// The lock to build from: the committed one, or a new one where that is asked for or cannot be avoided.
fn current_lock(options: How, paths: &Paths, image: &Image) -> Result<Lock> {
    let path = paths.lock();
    let wanted = image.packages_digest();
    if !options.update_lock && path.exists() {
        let lock = Lock::load(&path)?;
        if lock.declared == wanted {
            return Ok(lock);
        }
        if options.locked {
            bail!(
                "packages.lock does not belong to image.toml's [debian] and [packages]; run `cargo xtask live-image --update-lock`"
            );
        }
        eprintln!(
            "live-image: WARNING: image.toml's packages changed: resolving again and rewriting packages.lock. Commit it."
        );
    } else if options.locked {
        bail!("{} is missing; run `cargo xtask live-image --update-lock`", path.display());
    }
    let lock = resolve::resolve(paths, image)?;
    lock.save(&path)?;
    Ok(lock)
}

fn pack_agent(options: &LiveImage, paths: &Paths) -> Result<()> {
    let agent = options.agent.clone().unwrap_or_else(|| default_agent(paths));
    if options.agent.is_none() && !agent.exists() {
        eprintln!("live-image: no agent at {}; agent.initrd is not written (--agent PATH)", agent.display());
        return Ok(());
    }
    let out = paths.out.join("agent.initrd");
    overlay::pack_agent(&out, &agent, &paths.work)?;
    println!("{}", out.display());
    Ok(())
}

/// Where `cargo build` leaves the agent.
fn default_agent(paths: &Paths) -> PathBuf {
    let repository = paths.source.parent().unwrap_or(Path::new("."));
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository.join("target"), PathBuf::from)
        .join("debug/assay-agent")
}
