//! What was in the covered volumes when they were backed up: every file with the hash of its bytes, as many as there is room for.

use std::collections::BTreeMap;

use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    BackupError,
    folder::{self, Folder, Kind, Seen},
    site::Covered,
};

/// Files kept of a manifest.
const FILES: usize = 20_000;
/// Bytes hashed for one.
const BYTES: u64 = 4 << 30;
/// Bytes of paths kept of one. A path can be 64 KiB long.
const PATHS: usize = 4 << 20;
/// The same, while it is only seen what a hook changed.
const STAMP_PATHS: usize = 128 << 20;
/// Files looked at to see what a hook changed.
const STAMPS: usize = 500_000;

/// Files of covered volumes, by volume and path, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// The files.
    pub files: Vec<FileRecord>,
    /// Their bytes.
    pub bytes: u64,
    /// Why there are more files than these; empty where these are all.
    pub capped: String,
}

/// A file, or a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileRecord {
    /// The volume, by its name in the files.
    pub volume: String,
    /// Its path in there.
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 of them in hex digits; empty for a link.
    pub sha256: String,
    /// Permission bits, as a number.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// By what it is seen that a file is another one, or has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    bytes: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// By volume and path.
pub(crate) type Stamps = BTreeMap<(String, String), Stamp>;

impl Manifest {
    /// Hashes what is covered. Blocks: it reads everything.
    pub(crate) fn read(covered: &[Covered]) -> Result<Self, BackupError> {
        let mut manifest = Self::default();
        let mut paths = 0;
        let all = for_each(covered, &mut |volume, seen| {
            paths += volume.len() + seen.path.len();
            if manifest.files.len() == FILES || paths > PATHS {
                manifest.capped = format!("only the first {} files were hashed", manifest.files.len());
                return Ok(false);
            }
            let mut record = FileRecord {
                volume: volume.to_owned(),
                path: seen.path.to_owned(),
                bytes: seen.stat.st_size.unsigned_abs(),
                sha256: String::new(),
                mode: seen.stat.st_mode & 0o7777,
                uid: seen.stat.st_uid,
                gid: seen.stat.st_gid,
            };
            if seen.kind == Kind::File {
                let room = BYTES.saturating_sub(manifest.bytes);
                if record.bytes > room {
                    manifest.capped = format!("only the first {} GiB were hashed", BYTES >> 30);
                    return Ok(false);
                }
                // It may be gone, or another thing, by now; then it is not in the manifest.
                let Ok(mut file) = seen.open() else { return Ok(true) };
                let Ok(hashed) = folder::hash(&mut file, room) else { return Ok(true) };
                record.bytes = hashed.bytes;
                record.sha256 = hashed.sha256;
                manifest.bytes += hashed.bytes;
            } else if seen.kind != Kind::Link {
                return Ok(true);
            }
            manifest.files.push(record);
            Ok(true)
        })?;
        if !all && manifest.capped.is_empty() {
            "some folders lie too deep in each other, or have too much in them"
                .clone_into(&mut manifest.capped);
        }
        manifest.files.sort_by(|a, b| (&a.volume, &a.path).cmp(&(&b.volume, &b.path)));
        Ok(manifest)
    }

    /// The record of a file.
    pub fn get(&self, volume: &str, path: &str) -> Option<&FileRecord> {
        let wanted = (volume, path);
        let at = self.files.binary_search_by(|file| (file.volume.as_str(), file.path.as_str()).cmp(&wanted));
        at.ok().and_then(|at| self.files.get(at))
    }
}

/// The stamps of all files that are covered. Blocks.
pub(crate) fn stamps(covered: &[Covered]) -> Result<Stamps, BackupError> {
    let mut stamps = Stamps::new();
    let mut paths = 0;
    for_each(covered, &mut |volume, seen| {
        if seen.kind == Kind::File {
            let stat = seen.stat;
            let stamp = Stamp {
                inode: stat.st_ino,
                bytes: stat.st_size,
                modified: (stat.st_mtime, stat.st_mtime_nsec as i64),
                changed: (stat.st_ctime, stat.st_ctime_nsec as i64),
            };
            paths += volume.len() + seen.path.len();
            stamps.insert((volume.to_owned(), seen.path.to_owned()), stamp);
        }
        Ok(stamps.len() < STAMPS && paths < STAMP_PATHS)
    })?;
    Ok(stamps)
}

/// Visits everything below the covered paths, the path itself where it is a file. Whether that was everything.
fn for_each(
    covered: &[Covered],
    visit: &mut impl FnMut(&str, &Seen<'_>) -> Result<bool, Errno>,
) -> Result<bool, BackupError> {
    let mut all = true;
    for Covered { volume, root, paths } in covered {
        let top = match Folder::open(root) {
            Err(Errno::NOENT) => continue,
            other => other.map_err(BackupError::system("opening", root.as_path()))?,
        };
        for path in paths {
            let failed = |path: &str| BackupError::system("walking", folder::shown(root, path));
            match top.look(path) {
                Ok((Kind::Folder, _)) => {
                    let inner = top.folder(path).map_err(failed(path))?;
                    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
                    all &= inner
                        .walk::<Errno>(&mut |seen| {
                            let path = format!("{prefix}{}", seen.path);
                            visit(volume, &Seen { path: &path, ..*seen })
                        })
                        .map_err(failed(path))?;
                }
                Ok((kind, Some(stat))) => {
                    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                    let parent = top.folder(parent).map_err(failed(path))?;
                    let seen = Seen { parent: &parent, name: name.as_bytes(), path, kind, stat: &stat };
                    all &= visit(volume, &seen).map_err(failed(path))?;
                }
                // Nothing, or a link in the way: what is behind it is not covered, and whoever backs up says so.
                Ok((_, None)) | Err(Errno::LOOP | Errno::XDEV) => {}
                Err(errno) => return Err(failed(path)(errno)),
            }
        }
    }
    Ok(all)
}
