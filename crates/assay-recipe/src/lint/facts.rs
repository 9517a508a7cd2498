//! What rules look at: the recipe's files alone and in their combinations, and the release before.

use indexmap::IndexMap;

use crate::{
    abra_sh::AbraSh,
    compose::{self, Loaded, Sources},
    configs::digest,
    env::EnvFile,
    lint::Checked,
    names::LONGEST_STACK,
    problem::{Problem, Problems},
    recipe::{Recipe, is_compose_file},
    secrets::version_variable,
    versions::{Checkout, Releases, VersionsError},
    yaml::{self, Yaml},
};

/// Most combinations of compose files that are read; each is a stack of its own.
const MOST_COMBINATIONS: usize = 100;

/// Everything that is known before any rule is asked.
pub(crate) struct Facts<'a> {
    pub(crate) recipe: &'a Recipe,
    /// `.env.sample`; an empty one where there is none or it cannot be read.
    pub(crate) sample: EnvFile,
    /// Every compose file that can be parsed, alone, before variables are filled in.
    pub(crate) files: IndexMap<String, Yaml>,
    /// Every combination that can be read.
    pub(crate) views: Vec<View>,
    /// What cannot be read, once each.
    pub(crate) unreadable: Vec<Problem>,
    pub(crate) history: History,
}

/// What the checkout knows.
pub(crate) struct History {
    /// The tags, or why they are not known.
    pub(crate) releases: Result<Releases, String>,
    /// The release before, or why it is not known; `None` where this is the first.
    pub(crate) past: Result<Option<Past>, String>,
}

/// Some files together.
pub(crate) struct View {
    pub(crate) files: Vec<String>,
    pub(crate) loaded: Loaded,
}

/// What the release before had.
pub(crate) struct Past {
    pub(crate) tag: String,
    /// Configs and secrets with a file.
    pub(crate) contents: Vec<Content>,
    /// The names that its `.env.sample` sets.
    pub(crate) settings: Vec<String>,
}

/// A file that a config or a secret is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// `configs.key` or `secrets.key`.
    pub(crate) path: String,
    /// Its name at the engine, with the longest stack name.
    pub(crate) docker_name: String,
    pub(crate) file: String,
    pub(crate) digest: String,
    pub(crate) template_driver: Option<String>,
    pub(crate) version_variable: Option<String>,
}

impl<'a> Facts<'a> {
    pub(crate) fn gather(recipe: &'a Recipe, history: History) -> Self {
        let mut unreadable = Vec::new();
        let sample = match &recipe.sample {
            Some(Ok(sample)) => sample.clone(),
            Some(Err(problems)) => {
                unreadable.extend(problems.0.iter().cloned());
                EnvFile::default()
            }
            None => EnvFile::default(),
        };
        let mut files = IndexMap::new();
        for (name, text) in &recipe.compose_files {
            match yaml::parse(name, text) {
                Ok(yaml) => {
                    files.insert(name.clone(), yaml);
                }
                Err(problem) => unreadable.push(problem),
            }
        }
        let variables = recipe.variables(&sample.values_with_offered(), &longest_stack());
        let mut views = Vec::new();
        let mut all = combinations(&sample, recipe.compose_files.keys());
        if all.len() > MOST_COMBINATIONS {
            let message = format!(
                "{} combinations of compose files are offered, and {MOST_COMBINATIONS} were read; offer fewer",
                all.len()
            );
            unreadable.push(Problem::new(".env.sample", 0, "COMPOSE_FILE", message));
            all.truncate(MOST_COMBINATIONS);
        }
        for combination in all {
            match recipe.load(&combination, &variables) {
                Ok(loaded) => views.push(View { files: combination, loaded }),
                Err(problems) => unreadable.extend(problems.0),
            }
        }
        let mut once = Vec::new();
        for problem in unreadable {
            if !once.contains(&problem) {
                once.push(problem);
            }
        }
        Self { recipe, sample, files, views, unreadable: once, history }
    }

    /// A pass only where everything could be read.
    pub(crate) fn found(&self, found: Vec<Problem>) -> Checked {
        if self.unreadable.is_empty() {
            return Checked::Found(found);
        }
        let reason = "not everything could be read (A010 says what), so this speaks for the rest alone";
        Checked::Unverified(reason.to_owned(), found)
    }

    /// What a function finds in each combination.
    pub(crate) fn in_views(&self, look: impl Fn(&Loaded) -> Vec<Problem>) -> Checked {
        self.found(self.views.iter().flat_map(|view| look(&view.loaded)).collect())
    }

    /// Files of configs and secrets of all combinations.
    pub(crate) fn contents(&self) -> Vec<Content> {
        let mut contents = Vec::new();
        for view in &self.views {
            contents_of(&view.loaded, &|file| self.recipe.content(file).ok(), &mut contents);
        }
        contents
    }
}

/// A stack name as long as one can be.
pub(crate) fn longest_stack() -> String {
    "x".repeat(LONGEST_STACK)
}

/// Those that the sample sets or offers, and every other file over `compose.yml`.
fn combinations<'n>(sample: &EnvFile, files: impl Iterator<Item = &'n String>) -> Vec<Vec<String>> {
    let mut combinations = sample.combinations();
    for file in files {
        if !combinations.iter().flatten().any(|known| known == file) {
            combinations.push(if file == "compose.yml" {
                vec![file.clone()]
            } else {
                vec!["compose.yml".to_owned(), file.clone()]
            });
        }
    }
    combinations
}

/// Asks the checkout.
pub(crate) async fn history(recipe: &Recipe) -> History {
    let checkout = match Checkout::open(&recipe.folder).await {
        Ok(checkout) => checkout,
        Err(error) => return History { releases: Err(error.to_string()), past: Err(error.to_string()) },
    };
    let releases = checkout.releases().await.map_err(|error| error.to_string());
    let past = match checkout.previous("HEAD").await {
        Ok(None) => Ok(None),
        Ok(Some(release)) => past(&checkout, &release.tag).await.map(Some),
        Err(error) => Err(error.to_string()),
    };
    History { releases, past }
}

/// Reads the recipe as it was.
async fn past(checkout: &Checkout, tag: &str) -> Result<Past, String> {
    let told = |error: VersionsError| error.to_string();
    let commit = checkout.commit(&format!("refs/tags/{tag}")).await.map_err(told)?;
    let names = checkout.files(&commit).await.map_err(told)?;
    let mut texts: IndexMap<String, Vec<u8>> = IndexMap::new();
    for name in names
        .iter()
        .filter(|name| is_compose_file(name) || [".env.sample", "abra.sh"].contains(&name.as_str()))
    {
        texts.insert(name.clone(), checkout.blob(&commit, name).await.map_err(told)?);
    }
    let text = |name: &str| texts.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let unreadable = |problems: &Problems| format!("release {tag} cannot be read: {}", problems.0[0]);
    let sample = match text(".env.sample") {
        Some(text) => EnvFile::parse(".env.sample", &text).map_err(|problems| unreadable(&problems))?,
        None => EnvFile::default(),
    };
    let mut variables = sample.values_with_offered();
    if let Some(script) = text("abra.sh") {
        variables.extend(AbraSh::parse(&script).exports);
    }
    variables.insert("STACK_NAME".to_owned(), longest_stack());
    let mut views = Vec::new();
    let compose_files = texts.keys().filter(|name| is_compose_file(name));
    for combination in combinations(&sample, compose_files).into_iter().take(MOST_COMBINATIONS) {
        let files = combination.iter().filter_map(|name| Some((name.clone(), text(name)?))).collect();
        // What is in the environment changes no config.
        let sources = Sources { files, variables: &variables, env_file: &|_| Ok(String::new()) };
        views.push(compose::load(&sources).map_err(|problems| unreadable(&problems))?);
    }
    for loaded in &views {
        let objects = loaded.compose.configs.values().chain(loaded.compose.secrets.values());
        for file in objects.filter_map(|object| object.file.as_deref()).map(in_tree) {
            if names.iter().any(|name| name == file) && !texts.contains_key(file) {
                texts.insert(file.to_owned(), checkout.blob(&commit, file).await.map_err(told)?);
            }
        }
    }
    let mut contents = Vec::new();
    for loaded in &views {
        contents_of(loaded, &|file| texts.get(in_tree(file)).cloned(), &mut contents);
    }
    let settings = sample.settings.iter().map(|setting| setting.name.clone()).collect();
    Ok(Past { tag: tag.to_owned(), contents, settings })
}

/// The name that Git has for a file.
fn in_tree(file: &str) -> &str {
    file.strip_prefix("./").unwrap_or(file)
}

fn contents_of(loaded: &Loaded, content: &dyn Fn(&str) -> Option<Vec<u8>>, contents: &mut Vec<Content>) {
    for (section, objects) in [("configs", &loaded.compose.configs), ("secrets", &loaded.compose.secrets)] {
        for (key, object) in objects {
            let Some(file) = object.file.clone().filter(|_| !object.external) else { continue };
            let Some(bytes) = content(&file) else { continue };
            let own = crate::names::of_stack(&longest_stack(), key);
            let found = Content {
                path: format!("{section}.{key}"),
                docker_name: object.name.clone().unwrap_or(own),
                file,
                digest: digest(&bytes),
                template_driver: object.template_driver.clone(),
                version_variable: version_variable(loaded, section, key),
            };
            if !contents.contains(&found) {
                contents.push(found);
            }
        }
    }
}
