//! What Assay brings for recipes under test to depend on: an OpenID Connect provider, from npm, in `providers/oidc/dist`.
//!
//! As with what browsers load: the lock file pins versions and digests, npm fetches, nothing of others is kept in the tree. It is
//! bundled into one file, which the runner's side embeds. Run this before that is built; without it everything builds as well, and
//! only a recipe with such a dependency notices.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What `dist` is made from.
const INPUTS: [&str; 6] =
    ["package.json", "package-lock.json", ".npmrc", "server.mjs", "runtime.mjs", "crypto.mjs"];
/// What is in it, the licences of what was bundled included, since their texts ask for it.
const FILES: [&str; 3] = ["server.mjs", "server.mjs.LEGAL.txt", "version"];
/// Names the inputs that it was made from.
const STAMP: &str = ".inputs";
/// The package's own modules are imported, and some of its dependencies ask for theirs in the old way.
const BANNER: &str = "--banner:js=import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";

#[derive(Args)]
pub(crate) struct Providers {
    /// Makes them again even if nothing has changed.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(options: &Providers) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../providers/oidc");
    let dist = folder.join("dist");
    std::fs::create_dir_all(&dist).with_context(|| dist.display().to_string())?;
    // Two at the same time would pull the packages away under each other's feet.
    let lock = std::fs::File::create(dist.join(".lock")).context("cannot create the lock file")?;
    lock.lock().context("cannot lock providers/oidc/dist")?;
    let inputs = inputs_digest(&folder)?;
    let stamp = dist.join(STAMP);
    let is_current = std::fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == inputs);
    if !options.force && is_current && FILES.iter().all(|name| dist.join(name).is_file()) {
        eprintln!("providers: up to date");
        return Ok(());
    }
    // The stamp goes first and comes last: half a bundle is never taken for a whole one.
    let _ = std::fs::remove_file(&stamp);
    let folder = folder.canonicalize().context("providers/oidc")?;
    start(Command::new("npm").args(["ci", "--ignore-scripts"]).current_dir(&folder), "npm ci")?;
    let bundle =
        ["--bundle", "--platform=node", "--target=node18", "--format=esm", "--legal-comments=linked"];
    // In place of `node:crypto` comes ours, that has what Node.js 18 lacks.
    let bundle = bundle.into_iter().chain(["--alias:node:crypto=./crypto.mjs", BANNER]);
    let mut esbuild = Command::new(folder.join("node_modules/.bin/esbuild"));
    esbuild.args(["server.mjs", "--outfile=dist/server.mjs", "--log-level=warning"]).args(bundle);
    start(esbuild.current_dir(&folder), "esbuild")?;
    let package = folder.join("node_modules/oidc-provider/package.json");
    let package: Value =
        serde_json::from_str(&std::fs::read_to_string(&package)?).context("the package's version")?;
    let version = package["version"].as_str().context("the package has no version")?;
    std::fs::write(dist.join("version"), version).context("cannot write the version")?;
    std::fs::write(&stamp, inputs).context("cannot write the stamp")?;
    eprintln!("providers: oidc-provider {version} in {}", dist.display());
    Ok(())
}

fn inputs_digest(folder: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    for name in INPUTS {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(&bytes);
    }
    digest.update(BANNER);
    Ok(hex::encode(digest.finalize()))
}

fn start(command: &mut Command, name: &str) -> Result<()> {
    let output = command.output().with_context(|| {
        format!(
            "cannot start {name}; install Node.js 18 or newer with npm (Debian: `apt install nodejs npm`)"
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{name} failed ({}):\n{}", output.status, said.trim_end())
}
