//! The files behind a stack's secrets and configs.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use assay_recipe::compose::model::Compose;

/// Why a file of a recipe was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there, or is none.
    #[error("{kind} `{name}`: `{file}` cannot be read: {source}")]
    Unreadable {
        /// `secret` or `config`.
        kind: &'static str,
        /// Its key.
        name: String,
        /// As it is written.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is somewhere else.
    #[error("{kind} `{name}`: `{file}` is {path}, which is not in the recipe: put the file into the recipe", path = path.display())]
    Outside {
        /// `secret` or `config`.
        kind: &'static str,
        /// Its key.
        name: String,
        /// As it is written.
        file: String,
        /// What it is, with all links followed.
        path: PathBuf,
    },
}

/// Reads the files that the stack's own secrets and configs name, by the path as written. Whoever reads has more rights than the
/// recipe should, so what leads out of `root` is refused, by a link as well.
///
/// # Errors
/// [`FileError`]; the first one.
pub fn read_files(compose: &Compose, root: &Path) -> Result<BTreeMap<String, Vec<u8>>, FileError> {
    let mut files = BTreeMap::new();
    for (kind, objects) in [("secret", &compose.secrets), ("config", &compose.configs)] {
        for (name, object) in objects.iter().filter(|(_, object)| !object.external) {
            let Some(file) = &object.file else { continue };
            let unreadable =
                |source| FileError::Unreadable { kind, name: name.clone(), file: file.clone(), source };
            let root = root.canonicalize().map_err(unreadable)?;
            let path = root.join(file).canonicalize().map_err(unreadable)?;
            if !path.starts_with(&root) {
                return Err(FileError::Outside { kind, name: name.clone(), file: file.clone(), path });
            }
            files.insert(file.clone(), std::fs::read(&path).map_err(unreadable)?);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use assay_recipe::compose::model::{Compose, Object};

    use super::{FileError, read_files};

    fn with_config(file: &str) -> Compose {
        let mut compose = Compose::default();
        compose.configs.insert("app".to_owned(), Object { file: Some(file.to_owned()), ..Object::default() });
        compose
    }

    #[test]
    fn files_are_read_from_the_recipe_and_from_nowhere_else() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("recipe");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("app.conf"), "a=1\n").unwrap();
        std::fs::write(parent.path().join("secret"), "not yours").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("link.conf")).unwrap();

        let files = read_files(&with_config("./app.conf"), &root).unwrap();
        assert_eq!(files["./app.conf"], b"a=1\n");
        for outside in ["../secret", "link.conf", "/etc/passwd"] {
            let error = read_files(&with_config(outside), &root).unwrap_err();
            assert!(matches!(error, FileError::Outside { .. }), "{outside}: {error}");
        }
        let error = read_files(&with_config("none.conf"), &root).unwrap_err();
        assert!(error.to_string().starts_with("config `app`: `none.conf` cannot be read:"), "{error}");
    }
}
