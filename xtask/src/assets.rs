//! What browsers load: htmx and uPlot from npm, beside our own style and script, in `assets/dist`.
//!
//! Nothing of others is kept in the tree and nothing is fetched at run time: the lock file pins versions and
//! digests, npm fetches them, and the server embeds what lies in `dist`. The stamp there names the inputs that
//! it was made from, so a second call has nothing to do. Run this before the server is built.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sha2::{Digest as _, Sha256};

/// What `dist` is made from; a change to any of them makes it again.
const INPUTS: [&str; 5] = ["package.json", "package-lock.json", ".npmrc", "app.css", "app.js"];

/// What goes into `dist`, and under which name. Licences go along, since their texts ask for it.
const COPIES: [(&str, &str); 7] = [
    ("node_modules/htmx.org/dist/htmx.min.js", "htmx.js"),
    ("node_modules/htmx.org/LICENSE", "htmx.LICENSE.txt"),
    ("node_modules/uplot/dist/uPlot.iife.min.js", "uplot.js"),
    ("node_modules/uplot/dist/uPlot.min.css", "uplot.css"),
    ("node_modules/uplot/LICENSE", "uplot.LICENSE.txt"),
    ("app.css", "app.css"),
    ("app.js", "app.js"),
];

/// Names the inputs that `dist` was made from.
const STAMP: &str = ".inputs";

#[derive(Args)]
pub(crate) struct Assets {
    /// Makes `assets/dist` again even if nothing has changed.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(options: &Assets) -> Result<()> {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets");
    let _lock = lock(&assets)?;
    let inputs = inputs_digest(&assets)?;
    if !options.force && is_current(&assets, &inputs) {
        eprintln!("assets: up to date");
        return Ok(());
    }
    install(&assets)?;
    let dist = copy(&assets, &inputs)?;
    eprintln!("assets: {} files in {}", COPIES.len(), dist.display());
    Ok(())
}

/// Two at the same time would pull the packages away under each other's feet: the second one waits, and then
/// finds everything done.
fn lock(assets: &Path) -> Result<File> {
    let dist = assets.join("dist");
    std::fs::create_dir_all(&dist).with_context(|| format!("cannot create {}", dist.display()))?;
    let lock = File::create(dist.join(".lock")).context("cannot create the lock file")?;
    lock.lock().context("cannot lock assets/dist")?;
    Ok(lock)
}

fn inputs_digest(assets: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    for name in INPUTS {
        let path = assets.join(name);
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(&bytes);
    }
    // A change to what is copied is a change, too.
    digest.update(format!("{COPIES:?}"));
    Ok(hex::encode(digest.finalize()))
}

fn is_current(assets: &Path, inputs: &str) -> bool {
    let dist = assets.join("dist");
    std::fs::read_to_string(dist.join(STAMP)).is_ok_and(|stamp| stamp == inputs)
        && COPIES.iter().all(|(_, name)| dist.join(name).is_file())
}

fn install(assets: &Path) -> Result<()> {
    let npm = Command::new("npm").arg("ci").arg("--ignore-scripts").current_dir(assets).output();
    let output = match npm {
        Ok(output) => output,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            bail!(
                "npm is not installed; it fetches htmx and uPlot. Install Node.js (Debian: `apt install npm`) and try again"
            )
        }
        Err(e) => return Err(e).context("cannot start npm"),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`npm ci` in {} failed ({}):\n{}", assets.display(), output.status, said.trim_end());
    }
    Ok(())
}

fn copy(assets: &Path, inputs: &str) -> Result<PathBuf> {
    let dist = assets.join("dist");
    // The stamp goes first and comes last: an interrupted copy is never taken for a whole one.
    match std::fs::remove_file(dist.join(STAMP)) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            return Err(e).context("cannot remove the old stamp");
        }
        _ => {}
    }
    std::fs::create_dir_all(&dist).with_context(|| format!("cannot create {}", dist.display()))?;
    for (from, to) in COPIES {
        std::fs::copy(assets.join(from), dist.join(to))
            .with_context(|| format!("cannot copy {from}; does the package still have it?"))?;
    }
    std::fs::write(dist.join(STAMP), inputs).context("cannot write the stamp")?;
    Ok(dist)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("tempdir");
        for name in INPUTS.into_iter().chain(COPIES.map(|(from, _)| from)) {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("create");
            std::fs::write(path, name).expect("write");
        }
        dir
    }

    #[test]
    fn dist_is_current_until_an_input_changes_or_a_file_goes_missing() {
        let dir = tree();
        let inputs = inputs_digest(dir.path()).expect("reads");
        assert!(!is_current(dir.path(), &inputs), "there is no dist yet");
        copy(dir.path(), &inputs).expect("copies");
        assert!(is_current(dir.path(), &inputs));

        std::fs::remove_file(dir.path().join("dist/htmx.js")).expect("remove");
        assert!(!is_current(dir.path(), &inputs), "a file is missing");
        copy(dir.path(), &inputs).expect("copies");

        std::fs::write(dir.path().join("app.css"), "changed").expect("write");
        assert!(!is_current(dir.path(), &inputs_digest(dir.path()).expect("reads")));
    }

    #[test]
    fn the_second_one_waits_for_the_first() {
        let dir = tree();
        let first = lock(dir.path()).expect("locks");
        let other = File::open(dir.path().join("dist/.lock")).expect("is there");
        assert!(matches!(other.try_lock(), Err(std::fs::TryLockError::WouldBlock)));
        drop(first);
        assert!(other.try_lock().is_ok());
    }

    #[test]
    fn a_package_without_its_file_is_named_and_leaves_no_stamp() {
        let dir = tree();
        let inputs = inputs_digest(dir.path()).expect("reads");
        copy(dir.path(), &inputs).expect("copies");
        std::fs::remove_file(dir.path().join("node_modules/uplot/LICENSE")).expect("remove");
        let problem = format!("{:#}", copy(dir.path(), &inputs).expect_err("cannot copy"));
        assert!(problem.contains("node_modules/uplot/LICENSE"), "{problem}");
        assert!(!is_current(dir.path(), &inputs));
    }
}
