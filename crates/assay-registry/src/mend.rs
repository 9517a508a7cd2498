//! After an owner that died in the middle: what the store had half written is found and removed, to be fetched again.
//!
//! Layers are moved into place when they are whole. Manifests and the small files that point to blobs are written in place, so
//! one of those may be cut short; the store would give it out for ever.

use std::fs;
use std::path::Path;

use walkdir::WalkDir;

use crate::CacheError;
use crate::reference::Digest;
use crate::store::MANIFEST;

/// Looks through a storage; says how many files were removed.
pub(crate) fn mend(storage: &Path) -> Result<usize, CacheError> {
    let mut removed = 0;
    for entry in WalkDir::new(storage).follow_links(false) {
        // A storage that nobody has used yet is none.
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let is_sound = if !entry.file_type().is_file() {
            true
        } else if name == "link" {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            Digest::parse(&text).is_some()
        } else if name == "data" && !entry.path().components().any(|part| part.as_os_str() == "_uploads") {
            is_whole(entry.path()).map_err(CacheError::folder("reading", entry.path()))?
        } else {
            true
        };
        if !is_sound {
            fs::remove_file(entry.path()).map_err(CacheError::folder("removing", entry.path()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a blob has the digest that its folder is called by. Long ones were moved into place whole.
fn is_whole(data: &Path) -> std::io::Result<bool> {
    if data.metadata()?.len() > MANIFEST as u64 {
        return Ok(true);
    }
    let folder = data.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let Some(expected) = folder.and_then(|digits| Digest::parse(&format!("sha256:{digits}"))) else {
        return Ok(true);
    };
    Ok(Digest::of(&fs::read(data)?) == expected)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::mend;
    use crate::reference::Digest;

    #[test]
    fn what_is_cut_short_goes_and_the_rest_stays() {
        let storage = tempfile::tempdir().unwrap();
        let digits = |text: &str| Digest::of(text.as_bytes()).as_str()[7..].to_owned();
        let put = |path: String, content: &str| {
            let path = storage.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            path
        };
        let whole = put(format!("blobs/sha256/aa/{}/data", digits("whole")), "whole");
        let cut = put(format!("blobs/sha256/bb/{}/data", digits("cut short")), "cut");
        let link = put("r/_layers/sha256/1/link".to_owned(), Digest::of(b"x").as_str());
        let cut_link = put("r/_layers/sha256/2/link".to_owned(), "sha256:0");
        let upload = put("r/_uploads/3/data".to_owned(), "anything");
        assert_eq!(mend(storage.path()).unwrap(), 2);
        assert_eq!(
            [whole, cut, link, cut_link, upload].map(|path| path.exists()),
            [true, false, true, false, true]
        );
        assert_eq!(mend(&storage.path().join("none")).unwrap(), 0);
    }
}
