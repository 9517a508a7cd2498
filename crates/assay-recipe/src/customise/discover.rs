//! Looks through a recipe's folder of tests: the one way to find out what a run is customised with.
//!
//! The folder is a stranger's. Links may lead anywhere in it and nowhere out of it, sizes and counts are bounded, and a file
//! that somebody meant to be run, and that could not be, is an error: a test that is passed over in silence looks like one
//! that passed.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use sha2::{Digest as _, Sha256};

use super::{
    Customisation, Executable, FOLDER, HookName, Ignored, OVERLAY, Options, Overlay, Placement,
    hooks::check_script,
};
use crate::{
    problem::{Problem, Problems, shown},
    settings::{self, LoadedSettings, Rung, did_you_mean, nearest},
    yaml,
};

/// Longest hook, test or overlay, in bytes.
const LONGEST: u64 = 4 << 20;
/// Most entries of one folder.
const MOST: usize = 1000;
/// The folder of hooks.
const HOOKS: &str = "hooks";

/// A folder of tests that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CustomiseError {
    /// It was named, and is not there.
    #[error("there is no folder {}; name the one that has the recipe's tests", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a link that leads out of the recipe.
    #[error("{} is a link that leads out of the recipe; put the tests into the recipe, or name their folder", folder.display())]
    Outside {
        /// The folder.
        folder: PathBuf,
    },
    /// Something in it is not right; all of it is told.
    #[error("the tests in {} are refused:\n{problems}", folder.display())]
    Refused {
        /// The folder.
        folder: PathBuf,
        /// What is not right.
        problems: Problems,
    },
}

impl Customisation {
    /// Looks at the folder of tests of a recipe: `tests/`, which a recipe need not have.
    ///
    /// # Errors
    /// [`CustomiseError`].
    pub fn of_recipe(recipe: &Path, options: Options) -> Result<Self, CustomiseError> {
        let folder = recipe.join(FOLDER);
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| CustomiseError::Read { path, source }
        };
        if folder.symlink_metadata().is_ok() {
            let root = recipe.canonicalize().map_err(unreadable(recipe))?;
            let found = folder.canonicalize().map_err(unreadable(&folder))?;
            if !found.starts_with(&root) {
                return Err(CustomiseError::Outside { folder });
            }
        }
        Self::discover(&folder, options)
    }

    /// Looks at a folder of tests, wherever it is. What is below it and no link out of it is trusted as much as the folder is.
    ///
    /// # Errors
    /// [`CustomiseError`]: among others everything in it that is not right, at once.
    pub fn discover(folder: &Path, options: Options) -> Result<Self, CustomiseError> {
        let unreadable = |source| CustomiseError::Read { path: folder.to_owned(), source };
        let root = match folder.canonicalize() {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return if options.required {
                    Err(CustomiseError::Missing { folder: folder.to_owned() })
                } else {
                    Ok(Self { options, ..Self::default() })
                };
            }
            Err(error) => return Err(unreadable(error)),
        };
        let mut search = Search {
            found: Self { folder: Some(root.clone()), options, ..Self::default() },
            root,
            problems: Vec::new(),
        };
        let names = search.names("").map_err(unreadable)?;
        for name in names {
            search.top(&name);
        }
        search.finish(folder)
    }
}

/// A hook or test that is not what it was when it was found.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{name}` is not what it was when the run began, so it is not started; keep hooks from writing to the folder of tests"
)]
pub struct Changed {
    /// Its path from the folder of tests.
    pub name: String,
}

impl Executable {
    /// Whether it is still what was found. To be asked right before it is started: a hook that ran meanwhile could have
    /// rewritten a test, and the manifest would name what did not run.
    ///
    /// # Errors
    /// [`Changed`], also where it cannot be read any more.
    pub fn check_unchanged(&self) -> Result<(), Changed> {
        let is_file =
            fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_file() && found.len() <= LONGEST);
        // A pipe in its place would be waited for.
        let bytes = if is_file { fs::read(&self.path).ok() } else { None };
        if bytes.is_some_and(|bytes| digest(&bytes) == self.sha256) {
            Ok(())
        } else {
            Err(Changed { name: self.name.clone() })
        }
    }
}

struct Search {
    root: PathBuf,
    found: Customisation,
    problems: Vec<Problem>,
}

/// A file of the folder that was read.
struct Content {
    path: PathBuf,
    bytes: Vec<u8>,
    is_executable: bool,
}

impl Search {
    /// The names in a folder below the root, sorted. What has no readable name is told.
    fn names(&mut self, below: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(below))? {
            match entry?.file_name().into_string() {
                Ok(name) if name.chars().any(char::is_control) => {
                    let message = format!("the name `{}` has control characters; rename it", shown(&name));
                    self.wrong(below, message);
                }
                Ok(name) => names.push(name),
                Err(name) => {
                    let message =
                        format!("the name `{}` is not UTF-8; rename it", shown(&name.to_string_lossy()));
                    self.wrong(below, message);
                }
            }
            if names.len() > MOST {
                self.wrong(
                    below,
                    format!("it has more than {MOST} entries; at most that many are looked at"),
                );
                break;
            }
        }
        names.sort();
        names.truncate(MOST);
        Ok(names)
    }

    /// Something at the top.
    fn top(&mut self, name: &str) {
        let placement = Placement::ALL.into_iter().find(|placement| placement.name() == stem(name));
        match name {
            settings::FILE => self.settings(),
            OVERLAY => self.overlay(),
            HOOKS => self.hooks(),
            _ => match placement {
                Some(Placement::After(_)) => {
                    if let Some(test) = self.executable(name) {
                        self.found.tests.entry(placement.unwrap_or(Placement::Extra)).or_default().push(test);
                    }
                }
                Some(placement) if name == placement.name() => self.tests(placement),
                _ => self.ignore_top(name),
            },
        }
    }

    fn ignore_top(&mut self, name: &str) {
        let mut known = vec![settings::FILE, OVERLAY, HOOKS];
        known.extend(Placement::ALL.map(Placement::name));
        let near = nearest(name, &known).or_else(|| nearest(stem(name), &known));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let is_folder = self.root.join(name).is_dir();
        let why = if is_folder {
            format!("it is no folder that tests are looked for in{hint}")
        } else if stem(name).starts_with("test") || stem(name).ends_with("_test") {
            let hint = if hint.is_empty() { "; tests of the app belong into `functional/`" } else { &hint };
            format!("it stands at the top and is no `test_OPERATION`{hint}")
        } else {
            format!("it is no part of the tests{hint}")
        };
        self.ignore(name, why);
    }

    fn settings(&mut self) {
        let Some(content) = self.read(settings::FILE) else { return };
        let Ok(text) = String::from_utf8(content.bytes) else {
            return self.wrong(settings::FILE, "it is not UTF-8; save it as that");
        };
        match LoadedSettings::read(&text) {
            Ok(settings) => self.found.settings = settings,
            Err(problems) => self.problems.extend(problems.0),
        }
    }

    fn overlay(&mut self) {
        let Some(content) = self.read(OVERLAY) else { return };
        let sha256 = digest(&content.bytes);
        let Ok(text) = String::from_utf8(content.bytes) else {
            return self.wrong(OVERLAY, "it is not UTF-8; save it as that");
        };
        match yaml::parse(OVERLAY, &text) {
            Ok(yaml) if matches!(yaml.node, yaml::Node::Map(_)) => {
                self.found.overlay = Some(Overlay { path: content.path, text, sha256 });
            }
            Ok(yaml) => {
                let message = format!("a compose file is a map with `services`, and this is {}", yaml.kind());
                self.wrong(OVERLAY, message);
            }
            Err(problem) => self.problems.push(problem),
        }
    }

    fn hooks(&mut self) {
        let known = HookName::ALL.map(HookName::name);
        for name in self.folder(HOOKS) {
            let below = format!("{HOOKS}/{name}");
            if self.is_private(&below, &name) {
                continue;
            }
            let Some(hook) = HookName::ALL.into_iter().find(|hook| hook.name() == stem(&name)) else {
                let hint = did_you_mean(stem(&name), &known);
                let message = format!(
                    "no hook is called `{}`; hooks are {}, and what they share may be called `_{}`{hint}",
                    shown(stem(&name)),
                    known.join(", "),
                    shown(&name)
                );
                self.wrong(&below, message);
                continue;
            };
            let Some(found) = self.executable(&below) else { continue };
            if let Some(other) = self.found.hooks.get(&hook) {
                let message = format!("`{}` is this hook already; keep one", other.name);
                self.wrong(&below, message);
            } else {
                self.found.hooks.insert(hook, found);
            }
        }
        self.found.hooks.sort_keys();
    }

    fn tests(&mut self, placement: Placement) {
        let mut tests = Vec::new();
        for name in self.folder(placement.name()) {
            let below = format!("{}/{name}", placement.name());
            if self.is_private(&below, &name) {
                continue;
            }
            let Some(content) = self.read(&below) else { continue };
            // Data and helpers lie beside tests. Whatever looks like a test has to be one.
            let looks_like_one = stem(&name).starts_with("test_") || stem(&name).ends_with("_test");
            if content.is_executable || looks_like_one || content.bytes.starts_with(b"#!") {
                tests.extend(self.checked(&below, content));
            } else {
                self.ignore(
                    &below,
                    "it is not executable, and its name and first line are no test's".to_owned(),
                );
            }
        }
        if !tests.is_empty() {
            self.found.tests.insert(placement, tests);
        }
    }

    /// The names in one of the known folders, after it was seen to be one.
    fn folder(&mut self, name: &str) -> Vec<String> {
        if let Err(why) = self.resolve(name) {
            self.wrong(name, why);
            return Vec::new();
        }
        if !self.root.join(name).is_dir() {
            self.wrong(name, "it is no folder; rename it, or make it one");
            return Vec::new();
        }
        match self.names(name) {
            Ok(names) => names,
            Err(error) => {
                self.wrong(name, format!("it cannot be read: {error}"));
                Vec::new()
            }
        }
    }

    /// Whether something in a folder is none of ours: its name says so, or it is a folder.
    fn is_private(&mut self, below: &str, name: &str) -> bool {
        if name.starts_with(['_', '.']) {
            self.ignore(below, "its name begins with `_` or `.`".to_owned());
            return true;
        }
        let is_folder = self.root.join(below).is_dir();
        if is_folder {
            self.ignore(below, "it is a folder, and nothing is looked for any deeper".to_owned());
        }
        is_folder
    }

    fn executable(&mut self, name: &str) -> Option<Executable> {
        let content = self.read(name)?;
        self.checked(name, content)
    }

    fn checked(&mut self, name: &str, content: Content) -> Option<Executable> {
        if !content.is_executable {
            self.wrong(
                name,
                "it is not executable; run `chmod +x` on it and commit that (`git update-index --chmod=+x`)",
            );
            return None;
        }
        match check_script(&content.bytes) {
            Ok(script) => Some(Executable {
                name: name.to_owned(),
                path: content.path,
                interpreter: script.interpreter,
                format: script.format,
                sha256: digest(&content.bytes),
            }),
            Err((line, message)) => {
                self.problems.push(Problem::new(&shown(name), line, "", message));
                None
            }
        }
    }

    /// A file below the root; `None` is told.
    fn read(&mut self, name: &str) -> Option<Content> {
        let read = self.resolve(name).and_then(|path| {
            let found = fs::metadata(&path).map_err(|error| error.to_string())?;
            // Opening a pipe would wait for somebody to write to it.
            if !found.is_file() {
                return Err("it is no file; remove or rename it".to_owned());
            }
            if found.len() > LONGEST {
                return Err(format!("it has more than {LONGEST} bytes; shorten it"));
            }
            let bytes = fs::read(&path).map_err(|error| format!("it cannot be read: {error}"))?;
            Ok(Content { path, bytes, is_executable: found.permissions().mode() & 0o111 != 0 })
        });
        read.map_err(|why| self.wrong(name, why)).ok()
    }

    /// Where something is, with links resolved: below the root, or refused.
    fn resolve(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.root.join(name);
        let found = path.canonicalize().map_err(|error| {
            let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
            if is_link { "it is a link that leads nowhere; remove it".to_owned() } else { error.to_string() }
        })?;
        if found.starts_with(&self.root) {
            Ok(found)
        } else {
            Err("it is a link that leads out of the folder of tests; put the file itself there".to_owned())
        }
    }

    fn ignore(&mut self, name: &str, why: String) {
        self.found.ignored.push(Ignored { name: shown(name), why });
    }

    fn wrong(&mut self, name: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(&shown(name), 0, "", message));
    }

    /// What concerns several of its parts, and the end.
    fn finish(mut self, folder: &Path) -> Result<Customisation, CustomiseError> {
        let has_functional = [Placement::Functional, Placement::Browser]
            .iter()
            .any(|placement| self.found.tests.contains_key(placement));
        let settings = &self.found.settings.settings;
        let mut warnings = Vec::new();
        let mut warn = |path: &str, message: &str| {
            warnings.push(Problem::new(settings::FILE, 0, path, message));
        };
        if settings.backup.recaptures > 0 && !self.found.hooks.contains_key(&HookName::BackupVerify) {
            warn(
                "backup.recaptures",
                "nothing refuses a backup without the hook `backup_verify`, so none is taken again",
            );
        }
        if settings.expect.not_applicable.contains_key(&Rung::Functional) && has_functional {
            warn(
                "expect.not_applicable.functional",
                "there are functional tests all the same; they run, and the rung is theirs",
            );
        }
        if settings.http.none && self.found.hooks.contains_key(&HookName::Screenshot) {
            warn(
                "http.none",
                "there is a hook `screenshot` all the same; it is called, without a `base_url`",
            );
        }
        self.found.settings.warnings.extend(warnings);
        self.found.tests = sorted(std::mem::take(&mut self.found.tests));
        Problems::or(self.problems, self.found)
            .map_err(|problems| CustomiseError::Refused { folder: folder.to_owned(), problems })
    }
}

fn sorted(mut tests: IndexMap<Placement, Vec<Executable>>) -> IndexMap<Placement, Vec<Executable>> {
    tests.sort_keys();
    tests
}

/// The part of a name before its first dot.
fn stem(name: &str) -> &str {
    name.split_once('.').map_or(name, |(stem, _)| stem)
}

fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
