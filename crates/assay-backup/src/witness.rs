//! Plants what nobody else knows into everything that the labels cover, so that what comes back can be told from what was there.
//!
//! In each covered folder a small tree under a name of its own: a file, one in a nested folder, a hard link, owners and modes
//! that nobody has by chance. Where a label covers a file (a dump that a hook makes), nothing can be planted: the file itself is
//! looked at, and rows in the database ([`crate::Database`]) go with it.

use std::{io::Write, time::Duration};

use rand::RngCore;
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    BackupError, Database, RowsState, Site, UncoveredVolume,
    folder::{self, Folder, Kind, own},
    rows::{self, DatabaseKind},
    site::Covered,
};

/// What the name of each planted tree begins with.
pub const RESERVED: &str = ".assay-witness-";
/// Rows planted in each database.
const ROWS: u32 = 100;

/// Everything that was planted, and what could not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Witness {
    /// What no other witness has: 32 hex digits.
    pub token: String,
    /// One for each covered volume, or each path of it that a label names.
    pub folders: Vec<Planting>,
    /// One for each database that was named or found.
    pub rows: Vec<PlantedRows>,
    /// What is in no backup, and why.
    pub uncovered: Vec<UncoveredVolume>,
    /// How long it took.
    pub took: Duration,
}

/// A covered path, and what was done there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Planting {
    /// The volume, by its name in the files.
    pub volume: String,
    /// The path in there; empty for all of it.
    pub path: String,
    /// What was done.
    pub at: PlantedAt,
}

/// What was done at a covered path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum PlantedAt {
    /// A tree was planted.
    Planted(PlantedFolder),
    /// It is a file: looked at instead.
    File,
    /// Nothing is there yet: a hook may make it.
    NotThere,
    /// The volume is not there.
    NoVolume,
    /// It is a link, or lies behind one, or is a device: nothing is planted through it.
    Refused {
        /// What is in the way.
        why: String,
    },
}

/// A planted tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlantedFolder {
    /// Its name, in the covered path.
    pub name: String,
    /// What is in it, and itself first, under the empty path.
    pub entries: Vec<PlantedEntry>,
}

/// A file or folder of a planted tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlantedEntry {
    /// Its path in the tree.
    pub path: String,
    /// SHA-256 of its bytes in hex digits; `None` for a folder.
    pub sha256: Option<String>,
    /// Its bytes.
    pub bytes: u64,
    /// Permission bits, as a number.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The entry of which this is another name.
    pub same_file_as: Option<String>,
}

/// Rows that were planted in a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlantedRows {
    /// The service, by its name in the files.
    pub service: String,
    /// What it is.
    pub kind: DatabaseKind,
    /// Its name, as far as it is known; for SQLite its path in the container.
    pub database: String,
    /// Whether the labels promise anything of it: its service has a hook before a backup, or mounts a covered volume. Rows of
    /// another one (a cache, say) may be lost without any promise being broken.
    pub promised: bool,
    /// How many rows.
    pub count: u32,
    /// Whether they are in.
    pub state: RowsState,
    /// How long it took.
    pub took: Duration,
}

impl Witness {
    /// Whether anything was planted at all; without, a restore proves nothing.
    pub fn is_any(&self) -> bool {
        self.folders.iter().any(|planting| matches!(planting.at, PlantedAt::Planted(_)))
            || self.rows.iter().any(|rows| rows.state == RowsState::Planted)
    }
}

/// Plants a witness into every covered volume of a running stack, and rows into these databases. What could not be planted is in
/// what it returns.
///
/// # Errors
/// [`BackupError::Folder`] when a volume cannot be written; [`BackupError::Swarm`] when Docker cannot be asked.
pub async fn plant(site: &Site<'_>, databases: &[Database]) -> Result<Witness, BackupError> {
    let started = std::time::Instant::now();
    let mut random = [0; 16];
    rand::rng().fill_bytes(&mut random);
    let token = hex::encode(random);
    let (covered, of_token) = (site.covered(), token.clone());
    let folders = blocking(move || {
        let mut folders = Vec::new();
        for Covered { volume, root, paths } in &covered {
            for path in paths {
                let at = plant_at(root, path, &of_token)?;
                folders.push(Planting { volume: volume.clone(), path: path.clone(), at });
            }
        }
        Ok(folders)
    })
    .await?;
    let mut planted = Vec::new();
    for database in databases {
        let started = std::time::Instant::now();
        let state = rows::plant(site, database, &token, ROWS).await?;
        planted.push(PlantedRows {
            service: database.service.clone(),
            kind: database.kind,
            database: database.label(),
            promised: site.promises(&database.service),
            count: ROWS,
            state,
            took: started.elapsed(),
        });
    }
    let uncovered = site.uncovered();
    Ok(Witness { token, folders, rows: planted, uncovered, took: started.elapsed() })
}

/// Work on files, away from the threads that wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| {
        let source = std::io::Error::other(panic.to_string());
        Err(BackupError::Folder { doing: "working on", path: "the volumes".into(), source })
    })
}

/// The name of the planted tree of a token.
pub(crate) fn tree_name(token: &str) -> String {
    format!("{RESERVED}{token}")
}

fn plant_at(root: &std::path::Path, path: &str, token: &str) -> Result<PlantedAt, BackupError> {
    let failed = || BackupError::system("planting a witness in", folder::shown(root, path));
    let top = match Folder::open(root) {
        Err(Errno::NOENT) => return Ok(PlantedAt::NoVolume),
        other => other.map_err(failed())?,
    };
    let kind = match top.look(path) {
        Ok((kind, _)) => kind,
        Err(Errno::LOOP | Errno::XDEV) => Kind::Link,
        Err(errno) => return Err(failed()(errno)),
    };
    let why = match kind {
        Kind::Folder => match top.folder(path) {
            Ok(folder) => return plant_in(&folder, token).map(PlantedAt::Planted).map_err(failed()),
            Err(Errno::LOOP | Errno::XDEV) => "a link is in the way",
            Err(errno) => return Err(failed()(errno)),
        },
        Kind::File => return Ok(PlantedAt::File),
        Kind::Nothing => return Ok(PlantedAt::NotThere),
        Kind::Link => "a link is in the way",
        Kind::Other => "it is neither a file nor a folder",
    };
    Ok(PlantedAt::Refused { why: why.to_owned() })
}

fn plant_in(folder: &Folder, token: &str) -> Result<PlantedFolder, Errno> {
    let name = tree_name(token);
    let tree = folder.new_folder(&name, 0o700)?;
    let nested = tree.new_folder("nested", 0o700)?;
    let note = plant_file(&tree, "note", "note", 4_000, (12_001, 12_002, 0o640))?;
    let deep = plant_file(&nested, "deep", "nested/deep", 70_000, (12_003, 12_004, 0o604))?;
    tree.link("note", &nested, "twin")?;
    let twin = PlantedEntry {
        path: "nested/twin".to_owned(),
        same_file_as: Some("note".to_owned()),
        ..note.clone()
    };
    // Owners last: everything in them is there by now.
    let of_folder = |path: &str, (uid, gid, mode)| PlantedEntry {
        path: path.to_owned(),
        sha256: None,
        bytes: 0,
        mode,
        uid,
        gid,
        same_file_as: None,
    };
    own(&nested, 12_005, 12_006, 0o2751)?;
    own(&tree, 12_007, 12_008, 0o751)?;
    let (itself, nested) =
        (of_folder("", (12_007, 12_008, 0o751)), of_folder("nested", (12_005, 12_006, 0o2751)));
    Ok(PlantedFolder { name, entries: vec![itself, nested, deep, twin, note] })
}

fn plant_file(
    folder: &Folder,
    name: &str,
    path: &str,
    bytes: usize,
    (uid, gid, mode): (u32, u32, u32),
) -> Result<PlantedEntry, Errno> {
    let mut content = vec![0; bytes];
    rand::rng().fill_bytes(&mut content);
    let mut file = folder.new_file(name, 0o600)?;
    file.write_all(&content).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    own(&file, uid, gid, mode)?;
    let hashed = folder::hash(&mut content.as_slice(), u64::MAX).map_err(|_| Errno::IO)?;
    Ok(PlantedEntry {
        path: path.to_owned(),
        sha256: Some(hashed.sha256),
        bytes: hashed.bytes,
        mode,
        uid,
        gid,
        same_file_as: None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{PlantedAt, plant_at};

    #[test]
    fn nothing_is_planted_through_a_link() {
        let place = tempfile::tempdir().unwrap();
        let (volume, host) = (place.path().join("volume"), place.path().join("host"));
        std::fs::create_dir_all(&volume).unwrap();
        std::fs::create_dir_all(host.join("in")).unwrap();
        symlink(&host, volume.join("data")).unwrap();
        std::fs::write(volume.join("dump.sql"), "x").unwrap();
        let at = |path: &str| format!("{:?}", plant_at(&volume, path, "t").unwrap());
        assert_eq!(at("data"), "Refused { why: \"a link is in the way\" }");
        assert_eq!(at("data/in"), "Refused { why: \"a link is in the way\" }");
        assert_eq!(at("dump.sql"), "File");
        assert_eq!(at("later"), "NotThere");
        assert_eq!(plant_at(&place.path().join("none"), "", "t").unwrap(), PlantedAt::NoVolume);
        // The same name twice is an error, and whatever has it is not written to.
        symlink(&host, volume.join(".assay-witness-t")).unwrap();
        plant_at(&volume, "", "t").unwrap_err();
        assert_eq!(std::fs::read_dir(&host).unwrap().count(), 1);
    }
}
