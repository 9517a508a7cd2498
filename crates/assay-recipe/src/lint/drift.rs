//! Whether configs that changed since the release before have a new version.

use super::{
    Checked,
    facts::{Content, Facts},
};
use crate::problem::Problem;

/// A001.
pub(crate) fn changed_configs(facts: &Facts<'_>) -> Checked {
    let past = match &facts.history.past {
        Err(why) => {
            return Checked::Unverified(format!("the release before cannot be read: {why}"), Vec::new());
        }
        Ok(None) => return Checked::Skip("there is no release before this".to_owned()),
        Ok(Some(past)) => past,
    };
    let mut found = Vec::new();
    for now in facts.contents() {
        // Two overlays that exclude each other may give one name to two files: then one that did not change is enough.
        let same = |before: &&Content| before.docker_name == now.docker_name && before.path == now.path;
        let before = past.contents.iter().filter(same);
        if let Some(what) = before.map(|before| difference(before, &now)).min().flatten() {
            let version = match &now.version_variable {
                Some(variable) => format!("`{variable}` did not"),
                None => "its name has no version".to_owned(),
            };
            let message = format!("{what} since {}, and {version}", past.tag);
            found.push(Problem::new(&now.file, 0, &now.path, message));
        }
    }
    facts.found(found)
}

fn difference(before: &Content, now: &Content) -> Option<&'static str> {
    if before.digest != now.digest {
        return Some("the content changed");
    }
    (before.template_driver != now.template_driver).then_some("its `template_driver` changed")
}
