//! `manifest.json`: what a build made and from which inputs. It decides whether anything has to be built at all,
//! and lets whoever serves the files check them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use super::Paths;
use super::command::{text, tool};
use super::fetch::sha256;
use super::lock::Lock;

/// The builder itself is an input: other code, other image.
const BUILDER: [&[u8]; 8] = [
    include_bytes!("assemble.rs"),
    include_bytes!("base.rs"),
    include_bytes!("command.rs"),
    include_bytes!("cpio.rs"),
    include_bytes!("elf.rs"),
    include_bytes!("glob.rs"),
    include_bytes!("modules.rs"),
    include_bytes!("resolve.rs"),
];

/// The file's content.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: u32,
    /// Digest of the files: the name of this image.
    pub(crate) digest: String,
    /// Kernel release.
    pub(crate) kernel: String,
    pub(crate) files: Vec<BuiltFile>,
    packages: usize,
    inputs_digest: String,
}

/// One file of the image.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BuiltFile {
    pub(crate) name: String,
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

impl Manifest {
    /// Describes built files.
    pub(crate) fn describe(
        folder: &Path,
        names: &[&str],
        kernel: &str,
        packages: usize,
        inputs_digest: String,
    ) -> Result<Self> {
        let mut files = Vec::new();
        let mut hash = Sha256::new();
        for name in names {
            let path = folder.join(name);
            let file = BuiltFile {
                name: (*name).to_owned(),
                sha256: sha256(&path)?,
                bytes: fs::metadata(&path)?.len(),
            };
            hash.update(format!("{} {}\n", file.sha256, file.name));
            files.push(file);
        }
        let digest = hex::encode(hash.finalize());
        Ok(Self { format: 1, digest, kernel: kernel.to_owned(), files, packages, inputs_digest })
    }

    /// Reads the manifest of the last build.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.json");
        let text = fs::read(&path)
            .with_context(|| format!("cannot read {}; run `cargo xtask live-image` first", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged; run `cargo xtask live-image --force`", path.display()))
    }

    /// Writes it; done last, so that a manifest never speaks of files that are not there.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let partial = folder.join("manifest.partial");
        fs::write(&partial, serde_json::to_string_pretty(self)? + "\n")?;
        fs::rename(&partial, folder.join("manifest.json")).context("cannot write manifest.json")
    }

    /// The last build's manifest, if it was made from these inputs and its files are still what they were.
    pub(crate) fn up_to_date(paths: &Paths, inputs_digest: &str) -> Option<Self> {
        let manifest = Self::load(&paths.out).ok()?;
        let intact =
            |file: &BuiltFile| sha256(&paths.out.join(&file.name)).is_ok_and(|digest| digest == file.sha256);
        (manifest.format == 1 && manifest.inputs_digest == inputs_digest && manifest.files.iter().all(intact))
            .then_some(manifest)
    }
}

/// Digest of everything that decides the image's bytes.
pub(crate) fn inputs_digest(paths: &Paths, lock: &Lock) -> Result<String> {
    let mut hash = Sha256::new();
    for source in BUILDER {
        hash.update(Sha256::digest(source));
    }
    for (program, argument) in [("mksquashfs", "-version"), ("mmdebstrap", "--version")] {
        let version = text(tool(program).arg(argument))?;
        hash.update(format!("{program} {}\n", version.lines().next().unwrap_or_default()));
    }
    hash.update(toml::to_string(lock)?);
    hash.update(declarations_digest(&paths.source)?);
    Ok(hex::encode(hash.finalize()))
}

/// Digest of the declarations in `live-image/`: names, the run bit, links, contents. Dates and owners do not count.
fn declarations_digest(source: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for top in ["image.toml", "initrd", "root"] {
        for found in WalkDir::new(source.join(top)).sort_by_file_name() {
            let found = found.with_context(|| format!("cannot read {}", source.join(top).display()))?;
            let path = found.path();
            let content = if found.path_is_symlink() {
                format!("link {}", fs::read_link(path)?.display())
            } else if found.file_type().is_dir() {
                "folder".to_owned()
            } else {
                let run = fs::metadata(path)?.permissions().mode() & 0o100;
                format!("file {run} {}", sha256(path)?)
            };
            hash.update(format!("{}\0{content}\n", path.strip_prefix(source)?.display()));
        }
    }
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(folder: &Path) -> Paths {
        let source = folder.join("live-image");
        fs::create_dir_all(source.join("initrd")).unwrap();
        fs::create_dir_all(source.join("root/etc")).unwrap();
        fs::write(source.join("image.toml"), "a = 1\n").unwrap();
        fs::write(source.join("initrd/init"), "#!/bin/sh\n").unwrap();
        fs::write(source.join("root/etc/hostname"), "assay\n").unwrap();
        let out = folder.join("out");
        fs::create_dir_all(&out).unwrap();
        Paths { source, cache: out.join("cache"), work: out.join("work"), out }
    }

    #[test]
    fn any_change_of_a_declaration_changes_the_inputs_digest_and_a_date_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let source = paths(folder.path()).source;
        let digest = || declarations_digest(&source).unwrap();
        let mut seen = vec![digest()];
        let hostname = source.join("root/etc/hostname");
        let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        fs::File::options().write(true).open(&hostname).unwrap().set_modified(later).unwrap();
        assert_eq!(digest(), seen[0]);

        fs::write(&hostname, "other\n").unwrap();
        seen.push(digest());
        fs::set_permissions(source.join("initrd/init"), fs::Permissions::from_mode(0o755)).unwrap();
        seen.push(digest());
        std::os::unix::fs::symlink("/dev/null", source.join("root/etc/x")).unwrap();
        seen.push(digest());
        fs::rename(&hostname, source.join("root/etc/name")).unwrap();
        seen.push(digest());
        fs::write(source.join("image.toml"), "a = 2\n").unwrap();
        seen.push(digest());
        let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
    }

    #[test]
    fn a_build_is_up_to_date_only_with_the_same_inputs_and_untouched_files() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        assert!(Manifest::up_to_date(&paths, "in").is_none());
        fs::write(paths.out.join("vmlinuz"), "kernel").unwrap();
        let manifest = Manifest::describe(&paths.out, &["vmlinuz"], "6.1", 3, "in".into()).unwrap();
        manifest.save(&paths.out).unwrap();
        assert_eq!(Manifest::up_to_date(&paths, "in").as_ref(), Some(&manifest));
        assert!(Manifest::up_to_date(&paths, "other").is_none());
        fs::write(paths.out.join("vmlinuz"), "Kernel").unwrap();
        assert!(Manifest::up_to_date(&paths, "in").is_none());
    }
}
