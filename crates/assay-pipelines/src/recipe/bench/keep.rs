//! The recipe's place in the evidence: what the run has read, in one file, so that the run can be done again where no folder of it is.

use std::path::PathBuf;

use assay_recipe::customise::FOLDER;
use assay_recipe::kept::{FILE, Parts, TestsAt, pack};
use serde_json::Value;

use super::{Tell, Test, json};
use crate::recipe::kept::{BESIDE, RecipeKept};

impl Test {
    /// Puts the recipe away as it was read. One that came as a bundle is in the evidence by that. Whatever keeps it from being put away
    /// is told, and nobody's fault.
    pub(super) async fn keep_recipe(&mut self, tell: Tell<'_>) {
        let Some(sources) = self.sources.as_ref().filter(|_| self.spec.source.is_none()) else { return };
        tell("putting the recipe away");
        let origin = &self.spec.folder;
        let own = origin.join(FOLDER);
        let is_own = self.spec.tests.as_ref().is_none_or(|tests| *tests == own);
        let (at, tests) = match &self.spec.tests {
            Some(tests) if !is_own => (TestsAt::Apart, tests.clone()),
            // A link leads to a folder elsewhere.
            _ if own.is_symlink() => (TestsAt::Apart, own),
            _ => (TestsAt::Recipe, own),
        };
        let wanted: Vec<&String> =
            self.spec.settings.dependencies.iter().filter_map(|needs| needs.recipe.as_ref()).collect();
        let others: Vec<(String, PathBuf)> = wanted
            .into_iter()
            .filter_map(|name| {
                let mut folders = self.spec.asked.recipes.iter().map(|folder| folder.join(name));
                Some((name.clone(), folders.find(|folder| folder.is_dir())?))
            })
            .collect();
        let seen = &sources.head.seen;
        let parts = Parts {
            name: &self.spec.name,
            folder: &sources.head.folder,
            origin,
            changed: seen.commit.is_some().then_some(&seen.changed),
            tests: tests.is_dir().then_some((at, &tests)),
            recipes: &others,
            scratch: self.folder.path(),
        };
        self.kept = Some(match pack(&parts).await {
            Ok(packed) => {
                let kept = RecipeKept {
                    bytes: packed.bytes.len() as u64,
                    left_out: packed.left_out,
                    why_not: String::new(),
                };
                (kept, Some(packed.bytes))
            }
            Err(why) => (RecipeKept { why_not: why.to_string(), ..RecipeKept::default() }, None),
        });
    }

    /// What is told of it beside the evidence of the stage in which it was put away, and the file.
    pub(super) fn take_kept(&mut self, evidence: &mut Value) -> Option<(String, Vec<u8>)> {
        let (kept, file) = self.kept.take()?;
        if let Some(beside) = evidence.as_object_mut() {
            beside.insert(BESIDE.to_owned(), json(&kept));
        }
        Some((FILE.to_owned(), file?))
    }
}
