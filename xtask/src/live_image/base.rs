//! The installed base: mmdebstrap run over a local archive that holds exactly the locked packages. Kept as a tar
//! in the cache, because installing takes most of a build's time and seldom changes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::Paths;
use super::command::{output, text, tool};
use super::config::Image;
use super::fetch;
use super::lock::{Lock, Usage};
use super::resolve::placeholder_control;

/// The name under which mmdebstrap knows this release.
const SUITE: &str = "bookworm";

/// The tar of the installed base, from the cache or newly built.
pub(crate) fn installed_base(paths: &Paths, lock: &Lock, image: &Image, force: bool) -> Result<PathBuf> {
    let tar = paths.cache.join(format!("base-{}.tar", &key(lock, image)[..16]));
    if tar.exists() && !force {
        return Ok(tar);
    }
    let archive = paths.work.join("archive");
    write_archive(paths, lock, image, &archive)?;
    eprintln!("live-image: installing {} packages (a minute or two)", lock.used(Usage::Install).count());
    let mut names: Vec<&str> = lock.used(Usage::Install).map(|package| package.name.as_str()).collect();
    names.extend(image.packages.placeholders.iter().map(String::as_str));
    // A partial file must never look like a finished one: mmdebstrap picks the format from the ending.
    let partial = paths.cache.join("base-partial.tar");
    output(
        tool("mmdebstrap")
            .args(["--variant=essential", "--format=tar", "--architectures=amd64"])
            .arg("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr")
            .args(["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io"])
            .arg(format!("--include={}", names.join(",")))
            .arg(SUITE)
            .arg(&partial)
            .arg(format!("deb [trusted=yes] copy://{} ./", archive.display())),
    )
    .context("mmdebstrap could not install the locked packages")?;
    fs::rename(&partial, &tar)?;
    fs::remove_dir_all(&archive)?;
    remove_other_bases(paths, &tar)?;
    Ok(tar)
}

/// Fails unless the root has exactly the locked packages: a resolver that chose otherwise would break the promise
/// that the lock names everything.
pub(crate) fn verify_installed(root: &Path, lock: &Lock, image: &Image) -> Result<()> {
    let status = fs::read_to_string(root.join("var/lib/dpkg/status"))?;
    let installed = installed_of(&status);
    let mut expected: BTreeSet<(String, String)> =
        lock.used(Usage::Install).map(|package| (package.name.clone(), package.version.clone())).collect();
    expected.extend(image.packages.placeholders.iter().map(|name| (name.clone(), "99".to_owned())));
    if installed == expected {
        return Ok(());
    }
    let extra: Vec<_> = installed.difference(&expected).collect();
    let absent: Vec<_> = expected.difference(&installed).collect();
    bail!(
        "the installed packages are not the locked ones; extra: {extra:?}; absent or not configured: {absent:?}"
    )
}

/// Name and version of every fully installed package in a dpkg status file.
fn installed_of(status: &str) -> BTreeSet<(String, String)> {
    let mut installed = BTreeSet::new();
    for stanza in status.split("\n\n") {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("Status:") == Some("install ok installed")
            && let (Some(name), Some(version)) = (field("Package:"), field("Version:"))
        {
            installed.insert((name.to_owned(), version.to_owned()));
        }
    }
    installed
}

/// A flat archive: links to the cached packages and an index written from their own control files.
fn write_archive(paths: &Paths, lock: &Lock, image: &Image, archive: &Path) -> Result<()> {
    if archive.exists() {
        fs::remove_dir_all(archive)?;
    }
    fs::create_dir_all(archive)?;
    let mut index = String::new();
    for package in lock.used(Usage::Install) {
        let cached = fetch::folder(paths).join(package.file());
        let file = archive.join(package.file());
        fs::hard_link(&cached, &file).or_else(|_| fs::copy(&cached, &file).map(drop))?;
        index_entry(&mut index, &file, &package.file())?;
    }
    for name in &image.packages.placeholders {
        let folder = archive.join(name);
        fs::create_dir_all(folder.join("DEBIAN"))?;
        // dpkg-deb refuses what a strict umask leaves behind.
        for made in [folder.clone(), folder.join("DEBIAN")] {
            fs::set_permissions(made, fs::Permissions::from_mode(0o755))?;
        }
        fs::write(folder.join("DEBIAN/control"), placeholder_control(name))?;
        let file = format!("{name}.deb");
        output(
            tool("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&folder).arg(archive.join(&file)),
        )?;
        index_entry(&mut index, &archive.join(&file), &file)?;
    }
    let digest = hex::encode(Sha256::digest(&index));
    // mmdebstrap picks the essential packages by the suite that they come from, so the archive must name it.
    let release = format!(
        "Suite: {SUITE}\nCodename: {SUITE}\nArchitectures: amd64 all\nSHA256:\n {digest} {} Packages\n",
        index.len()
    );
    fs::write(archive.join("Packages"), index)?;
    fs::write(archive.join("Release"), release)?;
    Ok(())
}

fn index_entry(index: &mut String, deb: &Path, file: &str) -> Result<()> {
    let control = text(tool("dpkg-deb").arg("--field").arg(deb))?;
    let (bytes, sha256) = (fs::metadata(deb)?.len(), fetch::sha256(deb)?);
    write!(index, "{}\nFilename: ./{file}\nSize: {bytes}\nSHA256: {sha256}\n\n", control.trim_end())?;
    Ok(())
}

/// What the base depends on: the installed packages and this file.
fn key(lock: &Lock, image: &Image) -> String {
    let mut hash = Sha256::new();
    hash.update(include_bytes!("base.rs"));
    for package in lock.used(Usage::Install) {
        hash.update(format!("{} {}\n", package.name, package.sha256));
    }
    hash.update(image.packages.placeholders.join(" "));
    hex::encode(hash.finalize())
}

fn remove_other_bases(paths: &Paths, keep: &Path) -> Result<()> {
    for entry in fs::read_dir(&paths.cache)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("base-") && path != keep {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::lock::tests::package;
    use super::*;

    fn status(name: &str, version: &str, state: &str) -> String {
        format!("Package: {name}\nStatus: install ok {state}\nVersion: {version}\n\n")
    }

    #[test]
    fn only_exactly_the_locked_packages_will_do() {
        let image: Image = toml::from_str(include_str!("../../../live-image/image.toml")).unwrap();
        let lock = Lock::new("d".into(), vec![package("bash"), package("sed")]).unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
        let stand_ins: String =
            image.packages.placeholders.iter().map(|name| status(name, "99", "installed")).collect();
        let check = |text: String| {
            fs::write(root.path().join("var/lib/dpkg/status"), stand_ins.clone() + &text).unwrap();
            verify_installed(root.path(), &lock, &image).map_err(|error| error.to_string())
        };
        let both = status("bash", "1.0-1", "installed") + &status("sed", "1.0-1", "installed");
        assert_eq!(check(both.clone()), Ok(()));
        assert!(check(both + &status("apt", "2", "installed")).unwrap_err().contains("apt"));
        let newer = status("bash", "1.0-2", "installed") + &status("sed", "1.0-1", "installed");
        assert!(check(newer).unwrap_err().contains("1.0-2"));
        let half = status("bash", "1.0-1", "installed") + &status("sed", "1.0-1", "half-configured");
        assert!(check(half).unwrap_err().contains("sed"));
    }
}
