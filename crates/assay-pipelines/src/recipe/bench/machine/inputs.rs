//! What a machine is given of the recipe: copies, on a disk that it can only read. The disk is a plain archive, so neither side needs
//! more than `tar` for it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::recipe::RecipeSpec;

/// Where the disk is unpacked in the machine.
pub(super) const INPUTS: &str = "/var/lib/assay/inputs";
/// A recipe that comes as one, on the disk.
pub(super) const BUNDLE: &str = "source.bundle";
/// The most that the copies may have together, in bytes.
const MOST: u64 = 2 << 30;
/// The most files.
const FILES: u64 = 200_000;

/// Writes the disk, and says what is tested as the machine sees it. A bundle goes in as it is: what a stranger has packed is
/// unpacked in there.
///
/// # Errors
/// Why it was not written, for people.
pub(super) fn write(spec: &RecipeSpec, bundle: Option<&Path>, disk: &Path) -> Result<RecipeSpec, String> {
    let failed = |error: io::Error| format!("copying the recipe for the machine: {error}");
    let mut packing =
        Packing { builder: tar::Builder::new(File::create(disk).map_err(failed)?), bytes: 0, files: 0 };
    // A link stays one, and leads wherever it leads in there.
    packing.builder.follow_symlinks(false);
    let mut inside = spec.clone();
    if let Some(bundle) = bundle {
        packing.count(bundle.metadata().map_err(failed)?.len()).map_err(failed)?;
        packing.builder.append_path_with_name(bundle, BUNDLE).map_err(failed)?;
    } else {
        inside.folder = packing.add(&spec.folder, "recipe").map_err(failed)?;
    }
    if let Some(tests) = spec.tests.as_ref().filter(|_| bundle.is_none()) {
        inside.tests = Some(match tests.strip_prefix(&spec.folder) {
            Ok(place) => inside.folder.join(place),
            Err(_) => packing.add(tests, "tests").map_err(failed)?,
        });
    }
    inside.asked.recipes.clear();
    let others: BTreeSet<&String> =
        spec.settings.dependencies.iter().filter_map(|dependency| dependency.recipe.as_ref()).collect();
    for recipe in others {
        let Some(from) = spec.asked.recipes.iter().map(|all| all.join(recipe)).find(|at| at.is_dir()) else {
            continue;
        };
        packing.add(&from, &format!("recipes/{recipe}")).map_err(failed)?;
    }
    if !spec.asked.recipes.is_empty() {
        inside.asked.recipes.push(Path::new(INPUTS).join("recipes"));
    }
    // Images are asked for one by one.
    inside.asked.images.clear();
    let mut file = packing.builder.into_inner().map_err(failed)?;
    file.flush().map_err(failed)?;
    Ok(inside)
}

struct Packing {
    builder: tar::Builder<File>,
    bytes: u64,
    files: u64,
}

impl Packing {
    /// A folder with everything in it; where it will be.
    fn add(&mut self, folder: &Path, name: &str) -> io::Result<PathBuf> {
        self.add_folder(folder, Path::new(name))?;
        Ok(Path::new(INPUTS).join(name))
    }

    fn add_folder(&mut self, folder: &Path, name: &Path) -> io::Result<()> {
        self.count(0)?;
        self.builder.append_path_with_name(folder, name)?;
        let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (kind, at, name) = (entry.file_type()?, entry.path(), name.join(entry.file_name()));
            if kind.is_dir() {
                self.add_folder(&at, &name)?;
            } else if kind.is_file() || kind.is_symlink() {
                self.count(entry.metadata()?.len())?;
                self.builder.append_path_with_name(&at, &name)?;
            }
            // Sockets and the like are nothing that a recipe has.
        }
        Ok(())
    }

    fn count(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes += bytes;
        self.files += 1;
        if self.bytes > MOST || self.files > FILES {
            return Err(io::Error::other(format!(
                "recipe, tests and dependencies have more than {} MiB or {FILES} files; leave away what is not theirs",
                MOST >> 20
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use assay_recipe::customise::{Customisation, Manifest, Redactor};
    use assay_recipe::settings::Settings;

    use super::*;
    use crate::recipe::{Asked, Isolation};

    fn spec(folder: &Path) -> RecipeSpec {
        RecipeSpec {
            name: "shop".to_owned(),
            folder: folder.to_owned(),
            commit: None,
            source: None,
            tests: None,
            settings: Settings::default(),
            manifest: Manifest::of(&Customisation::default(), &Redactor::default()),
            asked: Asked { images: vec!["/images".into()], ..Asked::default() },
            isolation: Isolation::Machine,
            stages: Vec::new(),
            seed: 7,
            invocation: Vec::new(),
            harness: None,
        }
    }

    #[test]
    fn a_machine_gets_copies_and_no_link_is_followed() {
        let all = tempfile::tempdir().unwrap();
        let (recipe, tests) = (all.path().join("shop"), all.path().join("trusted"));
        std::fs::create_dir_all(recipe.join("tests")).unwrap();
        std::fs::create_dir(&tests).unwrap();
        std::fs::write(recipe.join("compose.yml"), "services: {}\n").unwrap();
        std::fs::write(tests.join("assay.toml"), "").unwrap();
        std::os::unix::fs::symlink("/etc/shadow", recipe.join("link")).unwrap();
        let disk = all.path().join("inputs.tar");
        let mut spec = spec(&recipe);
        let inside = write(&spec, None, &disk).unwrap();
        assert_eq!(inside.folder, Path::new(INPUTS).join("recipe"));
        assert!(inside.tests.is_none() && inside.asked.images.is_empty());
        spec.tests = Some(recipe.join("tests"));
        assert_eq!(write(&spec, None, &disk).unwrap().tests, Some(Path::new(INPUTS).join("recipe/tests")));
        spec.tests = Some(tests);
        assert_eq!(write(&spec, None, &disk).unwrap().tests, Some(Path::new(INPUTS).join("tests")));
        let mut archive = tar::Archive::new(File::open(&disk).unwrap());
        let told = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let link =
                entry.link_name().unwrap().map(|to| format!(" → {}", to.display())).unwrap_or_default();
            format!("{}{link}", entry.path().unwrap().display())
        });
        let told: Vec<String> = told.collect();
        assert_eq!(
            told,
            [
                "recipe",
                "recipe/compose.yml",
                "recipe/link → /etc/shadow",
                "recipe/tests",
                "tests",
                "tests/assay.toml"
            ]
        );
    }

    #[test]
    fn a_bundle_goes_in_as_it_is() {
        let all = tempfile::tempdir().unwrap();
        let (bundle, disk) = (all.path().join(BUNDLE), all.path().join("inputs.tar"));
        std::fs::write(&bundle, "# v2 git bundle").unwrap();
        write(&spec(Path::new("/not/there")), Some(&bundle), &disk).unwrap();
        let mut archive = tar::Archive::new(File::open(&disk).unwrap());
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names, [Path::new(BUNDLE)]);
    }

    #[test]
    fn what_is_too_large_is_named() {
        let all = tempfile::tempdir().unwrap();
        File::create(all.path().join("big")).unwrap().set_len(MOST + 1).unwrap();
        let disk = tempfile::NamedTempFile::new().unwrap();
        let why = write(&spec(all.path()), None, disk.path()).unwrap_err();
        assert!(why.contains("more than 2048 MiB"), "{why}");
    }
}
