//! Which configs a stack brings, with their versions and what is in them.
//!
//! The engine never changes a config: a recipe gives it a version in its name, and an author who changes the file has to
//! raise the version. The digest of the content is kept, so that a forgotten one can be seen without deploying anything.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    compose::Loaded,
    problem::{Problem, shown},
    secrets::version_variable,
};

/// A config, or a secret whose value is in a file of the recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigNeed {
    /// Its key in the compose files.
    pub key: String,
    /// Its name at the engine.
    pub docker_name: String,
    /// The file, relative to the recipe; none where it is external.
    pub file: Option<String>,
    /// The variable that has its version.
    pub version_variable: Option<String>,
    /// The version, where a variable has it.
    pub version: Option<String>,
    /// What fills in its content: `golang`.
    pub template_driver: Option<String>,
    /// SHA-256 of the content, in hex; none where it is external or cannot be read.
    pub digest: Option<String>,
}

/// The configs of a stack, in the order of its files. `content` gives a file of the recipe, or says why not.
pub fn needed(
    loaded: &Loaded,
    stack: &str,
    content: &dyn Fn(&str) -> Result<Vec<u8>, String>,
    problems: &mut Vec<Problem>,
) -> Vec<ConfigNeed> {
    let mut needs = Vec::new();
    for (key, object) in &loaded.compose.configs {
        let docker_name = object.name.clone().unwrap_or_else(|| crate::names::of_stack(stack, key));
        let version_variable = version_variable(loaded, "configs", key);
        let in_name = || docker_name.rsplit_once('_').map(|(_, version)| version.to_owned());
        let version = version_variable.as_ref().and_then(|_| in_name()).filter(|version| !version.is_empty());
        let read = object.file.as_deref().filter(|_| !object.external).map(content);
        let digest = match read {
            Some(Ok(bytes)) => Some(digest(&bytes)),
            Some(Err(error)) => {
                let file = shown(object.file.as_deref().unwrap_or_default());
                let message = format!(
                    "its file `{file}` cannot be read: {error}; add it to the recipe, or correct the name"
                );
                problems.push(loaded.problem(&format!("configs.{key}"), message));
                None
            }
            None => None,
        };
        needs.push(ConfigNeed {
            key: key.clone(),
            docker_name,
            file: object.file.clone(),
            version_variable,
            version,
            template_driver: object.template_driver.clone(),
            digest,
        });
    }
    needs
}

/// SHA-256, in hex.
pub fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
