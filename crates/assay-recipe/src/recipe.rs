//! A recipe as a folder: what is in it, and what it comes to as a stack.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use indexmap::IndexMap;
use serde::Serialize;

use crate::{
    abra_sh::AbraSh,
    compose::{self, Loaded, Sources, Unset, model::Compose},
    configs::{self, ConfigNeed},
    env::EnvFile,
    labels::{BackupPlan, CoopLabels},
    problem::{Problem, Problems, shown},
    readme::Metadata,
    secrets::{self, SecretNeed},
};

/// Longest file that is read, in bytes.
const LONGEST: u64 = 4 << 20;

/// A recipe.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Its folder.
    pub folder: PathBuf,
    /// Its name: that of the folder.
    pub name: String,
    /// Facts of its README; `None` without a README.
    pub metadata: Option<Metadata>,
    /// Its `compose*.yml`, by name, `compose.yml` first.
    pub compose_files: IndexMap<String, String>,
    /// Its `.env.sample`, or what is wrong with it; `None` without one.
    pub sample: Option<Result<EnvFile, Problems>>,
    /// Its `abra.sh`; `None` without one.
    pub abra_sh: Option<AbraSh>,
}

/// A folder that is no recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has no compose file.
    #[error("{} has no `compose.yml`, so it is no recipe; name the folder that has one", folder.display())]
    NoCompose {
        /// The folder.
        folder: PathBuf,
    },
    /// One of its files is not what an author writes.
    #[error("{} is not read: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
}

/// A recipe with an app's settings: what would be deployed.
#[derive(Clone, Debug, Serialize)]
pub struct Stack {
    /// Its name.
    pub name: String,
    /// Its compose files, in their order.
    pub files: Vec<String>,
    /// What they come to.
    pub compose: Compose,
    /// Variables that are not set and have no default: they became empty.
    pub unset: Vec<Unset>,
    /// Secrets that must be there before.
    pub secrets: Vec<SecretNeed>,
    /// Configs that it brings.
    pub configs: Vec<ConfigNeed>,
    /// Co-op Cloud's labels.
    pub labels: CoopLabels,
    /// What its labels say about backup.
    pub backup: BackupPlan,
}

impl Recipe {
    /// Reads a recipe's folder. Whatever is wrong inside of a file is told by [`Recipe::stack`] and by the lint.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn open(folder: &Path) -> Result<Self, RecipeError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| RecipeError::Read { path, source }
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
            let entry = entry.map_err(unreadable(folder))?;
            names.extend(entry.file_name().into_string());
        }
        names.retain(|name| is_compose_file(name));
        // `compose.yml` sorts before its overlays by itself only as long as no name is in capitals.
        names.sort_by_key(|name| (name != "compose.yml", name.clone()));
        if names.first().is_none_or(|name| name != "compose.yml") {
            return Err(RecipeError::NoCompose { folder: folder.to_owned() });
        }
        let root = folder.canonicalize().map_err(unreadable(folder))?;
        let text = |name: &str| -> Result<Option<String>, RecipeError> {
            let told = |why| RecipeError::File { path: folder.join(name), why };
            let Some(bytes) = read_below(&root, name).map_err(told)? else { return Ok(None) };
            String::from_utf8(bytes)
                .map(Some)
                .map_err(|_| told("it is not UTF-8; save it as that".to_owned()))
        };
        let mut compose_files = IndexMap::new();
        for name in names {
            let found = text(&name)?.unwrap_or_default();
            compose_files.insert(name, found);
        }
        Ok(Self {
            folder: folder.to_owned(),
            name: root.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            metadata: text("README.md")?.as_deref().map(Metadata::parse),
            compose_files,
            sample: text(".env.sample")?.map(|text| EnvFile::parse(".env.sample", &text)),
            abra_sh: text("abra.sh")?.as_deref().map(AbraSh::parse),
        })
    }

    /// What would be deployed under a name with an app's settings.
    ///
    /// # Errors
    /// [`Problems`]: everything that is wrong in the files, with each other, and with what they name.
    pub fn stack(&self, env: &EnvFile, stack_name: &str) -> Result<Stack, Problems> {
        let files = env.compose_files();
        let variables = self.variables(&env.values(), stack_name);
        let loaded = self.load(&files, &variables)?;
        let mut problems = compose::check(&loaded);
        let secrets = secrets::needed(&loaded, env, &mut problems);
        let configs = configs::needed(&loaded, stack_name, &|name| self.content(name), &mut problems);
        for (key, object) in &loaded.compose.secrets {
            if let Some(Err(why)) = object.file.as_deref().map(|file| self.content(file)) {
                let message =
                    format!("its file cannot be read: {why}; add it to the recipe, or make it external");
                problems.push(loaded.problem(&format!("secrets.{key}"), message));
            }
        }
        for (what, key, name) in secrets
            .iter()
            .map(|need| ("secrets", &need.key, &need.docker_name))
            .chain(configs.iter().map(|need| ("configs", &need.key, &need.docker_name)))
        {
            if let Some(why) = crate::names::refused_object_name(name) {
                let message = format!("the engine refuses the name `{}`: {why}", shown(name));
                problems.push(loaded.problem(&format!("{what}.{key}"), message));
            }
        }
        let labels = CoopLabels::read(&loaded.compose, stack_name);
        let backup = BackupPlan::read(&loaded.compose);
        let Loaded { compose, unset, .. } = loaded;
        let stack =
            Stack { name: stack_name.to_owned(), files, compose, unset, secrets, configs, labels, backup };
        Problems::or(problems, stack)
    }

    /// What variables stand for: the app's settings, the exports of `abra.sh`, and the stack's name, each over the one
    /// before.
    pub fn variables(
        &self,
        settings: &IndexMap<String, String>,
        stack_name: &str,
    ) -> IndexMap<String, String> {
        let mut variables = settings.clone();
        if let Some(script) = &self.abra_sh {
            variables.extend(script.exports.clone());
        }
        variables.insert("STACK_NAME".to_owned(), stack_name.to_owned());
        variables
    }

    /// Reads and merges some of the recipe's compose files.
    ///
    /// # Errors
    /// [`Problems`]: what is wrong in them, or which are missing.
    pub fn load(&self, files: &[String], variables: &IndexMap<String, String>) -> Result<Loaded, Problems> {
        let mut texts = Vec::new();
        let mut problems = Vec::new();
        for name in files {
            match self.compose_files.get(name) {
                Some(text) => texts.push((name.clone(), text.clone())),
                None => match self.text(name) {
                    Ok(text) => texts.push((name.clone(), text)),
                    Err(error) => {
                        let message = format!(
                            "`{}` is no file of the recipe ({error}); it has {}",
                            shown(name),
                            self.compose_files.keys().cloned().collect::<Vec<_>>().join(", ")
                        );
                        problems.push(Problem::new("COMPOSE_FILE", 0, "", message));
                    }
                },
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        compose::load(&Sources { files: texts, variables, env_file: &|name| self.text(name) })
    }

    fn text(&self, name: &str) -> Result<String, String> {
        String::from_utf8(self.content(name)?).map_err(|_| "it is not UTF-8".to_owned())
    }

    /// A file of the recipe; only files below its folder are.
    ///
    /// # Errors
    /// Why it cannot be read, in a few words.
    pub fn content(&self, name: &str) -> Result<Vec<u8>, String> {
        let root = self.folder.canonicalize().map_err(|error| error.to_string())?;
        read_below(&root, name)?.ok_or_else(|| "there is no such file".to_owned())
    }
}

/// A file below a folder; `None` where there is none. Links are followed as long as they stay below it: a recipe is a
/// stranger's, and what a link leads to could be told in an error.
fn read_below(root: &Path, name: &str) -> Result<Option<Vec<u8>>, String> {
    let relative = Path::new(name);
    if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err("it is outside of the recipe".to_owned());
    }
    let path = match root.join(relative).canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if !path.starts_with(root) {
        return Err("it is a link that leads out of the recipe".to_owned());
    }
    let found = fs::metadata(&path).map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is no file".to_owned());
    }
    if found.len() > LONGEST {
        return Err(format!("it has more than {LONGEST} bytes; shorten it"));
    }
    fs::read(&path).map(Some).map_err(|error| error.to_string())
}

/// `compose.yml`, `compose.<feature>.yml`.
pub(crate) fn is_compose_file(name: &str) -> bool {
    name.strip_suffix(".yml").is_some_and(|stem| stem == "compose" || stem.starts_with("compose."))
}
