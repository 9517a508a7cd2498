//! Images as archives on this machine (`docker save`): which of them has which image.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Longest table of contents that is read, in bytes.
const MANIFEST: u64 = 1 << 20;

/// What archives have, by the whole name of the image.
#[derive(Clone, Debug, Default)]
pub struct Archives {
    images: BTreeMap<String, Archived>,
}

/// Where an image is, and what it is.
#[derive(Clone, Debug)]
struct Archived {
    archive: PathBuf,
    /// The digest of its configuration, in hex, where the table of contents names it so.
    id: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "RepoTags", default)]
    tags: Option<Vec<String>>,
    #[serde(rename = "Config", default)]
    config: Option<String>,
}

impl Entry {
    /// `<digest>.json`, or `blobs/sha256/<digest>`.
    fn id(&self) -> Option<String> {
        let name = self.config.as_deref()?.rsplit('/').next()?;
        let digits = name.strip_suffix(".json").unwrap_or(name);
        (digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .then(|| digits.to_owned())
    }
}

impl Archives {
    /// Reads the tables of contents of all archives (`*.tar`) in these folders; of two with one image the first has it.
    ///
    /// # Errors
    /// A folder or an archive that cannot be read, with its path.
    pub fn of(folders: &[PathBuf]) -> Result<Self, (PathBuf, io::Error)> {
        let mut images = BTreeMap::new();
        for folder in folders {
            let entries = std::fs::read_dir(folder).map_err(|error| (folder.clone(), error))?;
            let mut archives: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            archives.retain(|path| path.extension().is_some_and(|extension| extension == "tar"));
            archives.sort();
            for archive in archives {
                for entry in contents(&archive).map_err(|error| (archive.clone(), error))? {
                    let id = entry.id();
                    for tag in entry.tags.into_iter().flatten() {
                        let found = || Archived { archive: archive.clone(), id: id.clone() };
                        images.entry(whole_name(&tag)).or_insert_with(found);
                    }
                }
            }
        }
        Ok(Self { images })
    }

    /// The archive that has an image.
    pub fn find(&self, reference: &str) -> Option<&Path> {
        self.images.get(&whole_name(reference)).map(|found| found.archive.as_path())
    }

    /// The id of an image in its archive (`sha256:…`), where the archive says it.
    pub fn id(&self, reference: &str) -> Option<String> {
        let id = self.images.get(&whole_name(reference))?.id.as_ref()?;
        Some(format!("sha256:{id}"))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }
}

/// What an archive's table of contents says; nothing where it has none.
fn contents(archive: &Path) -> io::Result<Vec<Entry>> {
    let mut archive = tar::Archive::new(File::open(archive)?);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        // `docker save` writes it plainly; `tar -c .` puts the folder before it.
        let path = entry.path()?;
        if path.strip_prefix("./").unwrap_or(&path) == Path::new("manifest.json") {
            drop(path);
            let mut text = String::new();
            entry.take(MANIFEST).read_to_string(&mut text)?;
            return serde_json::from_str(&text).map_err(io::Error::other);
        }
    }
    Ok(Vec::new())
}

/// An image's name with everything that may be left out: `nginx` is `docker.io/library/nginx:latest`.
pub fn whole_name(reference: &str) -> String {
    let (first, rest) = reference.split_once('/').unwrap_or(("", reference));
    // As Docker tells a registry from a part of a path.
    let is_registry = first.contains(['.', ':']) || first == "localhost";
    let (registry, path) = match (is_registry, first) {
        (true, registry) => (registry, rest.to_owned()),
        (false, "") => ("docker.io", format!("library/{rest}")),
        (false, _) => ("docker.io", reference.to_owned()),
    };
    let has_tag = path.contains('@') || path.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag { format!("{registry}/{path}") } else { format!("{registry}/{path}:latest") }
}

#[cfg(test)]
mod tests {
    use super::{Archives, whole_name};

    #[test]
    fn names_are_made_whole_as_docker_does() {
        for (short, whole) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("bitnami/redis:7", "docker.io/bitnami/redis:7"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a:1", "localhost:5000/a:1"),
            ("ghcr.io/x/y@sha256:00", "ghcr.io/x/y@sha256:00"),
        ] {
            assert_eq!(whole_name(short), whole);
        }
    }

    #[test]
    fn an_archive_is_found_by_what_its_table_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(std::fs::File::create(folder.path().join("a.tar")).unwrap());
        let table = br#"[{"Config":"c.json","RepoTags":["shop/web:1.0"],"Layers":[]}]"#;
        for (name, content) in [("c.json", &b"{}"[..]), ("manifest.json", &table[..])] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content).unwrap();
        }
        builder.finish().unwrap();
        let archives = Archives::of(&[folder.path().to_owned()]).unwrap();
        assert!(archives.find("docker.io/shop/web:1.0").is_some());
        assert!(archives.find("shop/web:1.1").is_none());
    }
}
