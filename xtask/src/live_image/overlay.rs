//! Extra initrds: whatever they hold under `/overlay/` is laid over the live root before systemd starts. The agent
//! and driver overlays (NVIDIA) arrive this way, so that the base never has to be rebuilt for them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use walkdir::WalkDir;

use super::command::{output, tool};
use super::cpio::Writer;

/// What an overlay's member is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file's content.
    File(PathBuf),
    /// A symbolic link to this.
    Symlink(String),
}

/// (destination below the live root, source, mode)
pub(crate) type Entry = (String, Source, u32);

/// Packs an overlay; the same entries give the same bytes, whatever their order, dates and owners.
pub(crate) fn pack_overlay(out: &Path, entries: &[Entry]) -> Result<()> {
    let mut sorted = BTreeMap::new();
    for (destination, source, mode) in entries {
        let destination = accept(destination)?;
        if sorted.insert(destination.clone(), (source, mode & 0o7777)).is_some() {
            bail!("{destination} is in the overlay twice");
        }
    }
    let partial = out.with_extension("partial");
    let mut writer = Writer::create(&partial)?;
    let mut made = std::collections::BTreeSet::new();
    for (destination, (source, mode)) in sorted {
        let name = format!("overlay/{destination}");
        for (at, _) in name.match_indices('/') {
            if made.insert(name[..at].to_owned()) {
                writer.folder(&name[..at])?;
            }
        }
        match source {
            Source::File(path) => writer.file(&name, mode, path)?,
            Source::Symlink(target) => writer.symlink(&name, target)?,
        }
    }
    writer.end()?;
    writer.finish()?;
    fs::rename(&partial, out).with_context(|| format!("cannot write {}", out.display()))
}

/// The entries of a folder that is laid out like the root.
pub(crate) fn entries_of(folder: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for found in WalkDir::new(folder).sort_by_file_name() {
        let found = found.with_context(|| format!("cannot read {}", folder.display()))?;
        let kind = found.file_type();
        if kind.is_dir() {
            continue;
        }
        let path = found.path();
        let destination = path
            .strip_prefix(folder)?
            .to_str()
            .with_context(|| format!("{} is not UTF-8", path.display()))?;
        if kind.is_symlink() {
            let target = fs::read_link(path)?;
            let target = target.to_str().with_context(|| format!("{} is not UTF-8", target.display()))?;
            entries.push((destination.to_owned(), Source::Symlink(target.to_owned()), 0o777));
        } else if kind.is_file() {
            // Only "may it run" is taken over; a build machine's umask is not an input.
            let mode = if fs::metadata(path)?.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            entries.push((destination.to_owned(), Source::File(path.to_owned()), mode));
        } else {
            bail!("{} is neither file, folder nor link; an overlay holds nothing else", path.display());
        }
    }
    if entries.is_empty() {
        bail!("{} has no files to pack", folder.display());
    }
    Ok(entries)
}

/// Packs the agent, without its symbols: they are most of a debug build, and every boot would fetch them.
pub(crate) fn pack_agent(out: &Path, agent: &Path, work: &Path) -> Result<()> {
    let mut magic = [0; 4];
    let mut file =
        fs::File::open(agent).with_context(|| format!("cannot open the agent {}", agent.display()))?;
    let is_elf = std::io::Read::read_exact(&mut file, &mut magic).is_ok() && &magic == b"\x7fELF";
    let mut packed = agent.to_owned();
    if is_elf {
        fs::create_dir_all(work)?;
        packed = work.join("agent.stripped");
        output(tool("strip").arg("-o").arg(&packed).arg(agent))
            .context("binutils' strip is needed to pack the agent")?;
    }
    pack_overlay(out, &[("usr/lib/assay/assay-agent".to_owned(), Source::File(packed), 0o755)])
}

/// The destination without a leading slash; refuses what would not land where it says.
fn accept(destination: &str) -> Result<String> {
    let trimmed = destination.trim_start_matches('/');
    let mut parts = trimmed.split('/');
    if trimmed.is_empty() || trimmed.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        bail!("{destination:?} is not a path below the root");
    }
    // In the live root these are links into /usr; a folder laid over a link would hide all of it.
    if let Some(top @ ("bin" | "sbin" | "lib" | "lib32" | "lib64" | "libx32")) = parts.next() {
        bail!("{destination}: /{top} is a link in the live image; write usr/{trimmed}");
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::cpio;
    use super::*;

    fn file(destination: &str, source: &Path) -> Entry {
        (destination.into(), Source::File(source.into()), 0o755)
    }

    #[test]
    fn the_same_entries_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&a, "one").unwrap();
        fs::write(&b, "two").unwrap();
        let link = ("usr/lib/l".to_owned(), Source::Symlink("a".into()), 0o777);
        let (first, second) = (folder.path().join("1"), folder.path().join("2"));
        pack_overlay(&first, &[file("/usr/lib/a", &a), file("etc/b", &b), link.clone()]).unwrap();
        // Another order, another date, another owner's mode bits beyond those asked for.
        let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        fs::File::options().write(true).open(&a).unwrap().set_modified(later).unwrap();
        pack_overlay(&second, &[link, file("etc/b", &b), file("usr/lib/a", &a)]).unwrap();
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
        let names: Vec<String> = cpio::list(&first).unwrap().into_iter().map(|member| member.name).collect();
        assert_eq!(
            names,
            [
                "overlay",
                "overlay/etc",
                "overlay/etc/b",
                "overlay/usr",
                "overlay/usr/lib",
                "overlay/usr/lib/a",
                "overlay/usr/lib/l"
            ]
        );
        fs::write(&b, "TWO").unwrap();
        pack_overlay(&second, &[file("etc/b", &b), file("usr/lib/a", &a)]).unwrap();
        assert_ne!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    }

    #[test]
    fn destinations_that_would_land_elsewhere_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let a = folder.path().join("a");
        fs::write(&a, "one").unwrap();
        let out = folder.path().join("out");
        for (destination, said) in [
            ("lib/modules/x", "usr/lib/modules/x"),
            ("../x", "below the root"),
            ("/", "below the root"),
            ("a//b", "below"),
        ] {
            let error = pack_overlay(&out, &[file(destination, &a)]).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert!(
            pack_overlay(&out, &[file("x", &a), file("/x", &a)]).unwrap_err().to_string().contains("twice")
        );
        assert!(!out.exists());
    }

    #[test]
    fn a_folder_is_taken_with_links_and_the_run_bit() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/tool"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("tool", root.join("usr/bin/alias")).unwrap();
        let entries = entries_of(&root).unwrap();
        assert_eq!(
            entries,
            [
                ("usr/bin/alias".into(), Source::Symlink("tool".into()), 0o777),
                ("usr/bin/tool".into(), Source::File(root.join("usr/bin/tool")), 0o755),
            ]
        );
        assert!(entries_of(&folder.path().join("none")).is_err());
    }

    #[test]
    fn an_agent_loses_its_symbols_and_a_script_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("agent.initrd");
        let script = folder.path().join("agent.sh");
        fs::write(&script, "#!/bin/sh\necho hi\n").unwrap();
        pack_agent(&out, &script, folder.path()).unwrap();
        assert!(fs::read(&out).unwrap().windows(7).any(|bytes| bytes == b"echo hi"));
        let this = std::env::current_exe().unwrap();
        pack_agent(&out, &this, folder.path()).unwrap();
        assert!(fs::metadata(&out).unwrap().len() < fs::metadata(&this).unwrap().len());
        let agent = cpio::list(&out).unwrap().pop().unwrap();
        assert_eq!((agent.name.as_str(), agent.mode), ("overlay/usr/lib/assay/assay-agent", 0o100_755));
    }
}
