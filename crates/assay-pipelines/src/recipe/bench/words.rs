//! What a stage brings, in words that may go into a journal: no secret of the run's, and no folder of this runner's.

use assay_recipe::customise::Redactor;
use serde_json::Value;

use super::{Brought, Test};

impl Test {
    /// What is brought of a stage, without the values of the run's secrets: wherever an app has printed one, it must not come into a
    /// journal that nobody can change any more. That it was seen is told by then.
    pub(super) fn without_secrets(&mut self, mut evidence: Value) -> Brought {
        let own = self.secrets.values().map(|(_, value)| value.expose());
        let redactor = Redactor::new(own.chain(self.dependencies.secrets().map(|(_, value)| value)));
        let places = self.places();
        each_text(&mut evidence, &|text| of_the_recipe(&redactor.text(text), &places));
        let artifacts = std::mem::take(&mut self.artifacts).into_iter().map(|(name, bytes)| {
            // A picture is no text.
            match String::from_utf8(bytes) {
                Ok(text) => (name, of_the_recipe(&redactor.text(&text), &places).into_bytes()),
                Err(other) => (name, other.into_bytes()),
            }
        });
        Brought { evidence, artifacts: artifacts.collect() }
    }

    /// The folders of what is tested, and what each is to people.
    fn places(&self) -> Vec<(String, String)> {
        let versions = self
            .sources
            .iter()
            .flat_map(|sources| std::iter::once(&sources.head).chain(&sources.base).chain(&sources.further));
        let mut places: Vec<(String, String)> =
            versions.map(|version| (version.folder.display().to_string(), "the recipe".to_owned())).collect();
        places.extend(self.spec.settings.dependencies.iter().map(|dependency| {
            let folder = self.folder.path().join(format!("dependency-{}", dependency.name));
            (folder.display().to_string(), format!("the recipe of {}", dependency.name))
        }));
        // The longest first: the name of one may be the beginning of another's.
        places.sort_by_key(|(folder, _)| std::cmp::Reverse(folder.len()));
        places
    }
}

/// Puts every text in a value another way.
fn each_text(value: &mut Value, told: &impl Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = told(text),
        Value::Array(items) => items.iter_mut().for_each(|item| each_text(item, told)),
        Value::Object(entries) => entries.values_mut().for_each(|entry| each_text(entry, told)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text with files named as they are in the recipe: where this runner keeps them for a while is of no use to anybody.
fn of_the_recipe(text: &str, places: &[(String, String)]) -> String {
    places.iter().fold(text.to_owned(), |text, (folder, name)| {
        // A file in it first, since that begins with the folder's own name.
        if text.contains(folder) {
            text.replace(&format!("{folder}/"), "").replace(folder, name)
        } else {
            text
        }
    })
}

#[cfg(test)]
mod tests {
    use super::of_the_recipe;

    #[test]
    fn files_are_named_as_they_are_in_the_recipe() {
        let places = [("/t/run-a/base-1-10", "the recipe"), ("/t/run-a/base-1-1", "the recipe")];
        let places = places.map(|(folder, name)| (folder.to_owned(), name.to_owned()));
        for (text, told) in [
            ("/t/run-a/base-1-1 has no `compose.yml`", "the recipe has no `compose.yml`"),
            ("/t/run-a/base-1-10/abra.sh:3: a quote is open", "abra.sh:3: a quote is open"),
            ("`/t/run-a/base-1-1/a` and /t/run-a/base-1-1/b/c", "`a` and b/c"),
            ("/t/run-a/d/docker.sock", "/t/run-a/d/docker.sock"),
        ] {
            assert_eq!(of_the_recipe(text, &places), told);
        }
    }
}
