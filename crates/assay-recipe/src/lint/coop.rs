//! R001 to R015: the rules of `abra recipe lint`.

use std::sync::LazyLock;

use regex::Regex;

use super::{Checked, facts::Facts};
use crate::{
    compose::Loaded,
    names::LONGEST_SECRET_KEY,
    problem::{Problem, shown},
    secrets::version_variable,
    yaml::{Node, Yaml, boolean},
};

const EXPECTED_VERSION: &str = "3.8";
/// Tags under which something else may be tomorrow.
const UNSTABLE: [&str; 9] =
    ["latest", "edge", "nightly", "unstable", "dev", "develop", "main", "master", "testing"];

/// `1`, `v1.2.3`, `15-alpine`, `2.4.1-fpm-bookworm`, `5.110.1_build2`.
static VERSION_LIKE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-zA-Z]{0,10}[-_.]?\d+(\.\d+)*([-_.+][A-Za-z0-9_.+-]*)?$")
        .expect("the pattern is constant")
});

pub(crate) fn r001(facts: &Facts<'_>) -> Checked {
    let mut found = Vec::new();
    for (file, yaml) in &facts.files {
        let Some(version) = yaml.get("version") else {
            found.push(Problem::new(file, 0, "version", "there is no version"));
            continue;
        };
        let message = match &version.node {
            Node::Scalar(scalar) if scalar.text != EXPECTED_VERSION => {
                format!("the version is `{}`", shown(&scalar.text))
            }
            Node::Scalar(scalar) if scalar.plain => {
                "without quotes the version is a number, and `docker stack deploy` wants a text".to_owned()
            }
            Node::Scalar(_) => continue,
            _ => format!("the version is {}", version.kind()),
        };
        found.push(Problem::new(file, version.line, "version", message));
    }
    facts.found(found)
}

pub(crate) fn r002(facts: &Facts<'_>) -> Checked {
    facts.in_views(|loaded| {
        let without = loaded.compose.services.iter().filter(|(_, service)| service.healthcheck.is_none());
        without
            .map(|(name, _)| {
                loaded.problem(&format!("services.{name}"), format!("`{name}` has no healthcheck"))
            })
            .collect()
    })
}

pub(crate) fn r003(facts: &Facts<'_>) -> Checked {
    images(facts, |image, tag| tag.is_none().then(|| format!("`{}` has no tag", shown(image))))
}

pub(crate) fn r004(facts: &Facts<'_>) -> Checked {
    images(facts, |image, tag| {
        UNSTABLE.contains(&tag?).then(|| format!("the tag of `{}` is moved to other images", shown(image)))
    })
}

pub(crate) fn r005(facts: &Facts<'_>) -> Checked {
    images(facts, |image, tag| {
        let tag = tag.filter(|tag| !UNSTABLE.contains(tag))?;
        (!VERSION_LIKE.is_match(tag)).then(|| format!("the tag of `{}` is no version", shown(image)))
    })
}

pub(crate) fn r006(_: &Facts<'_>) -> Checked {
    Checked::NotAsked("the catalogue is on the network, and nothing there is asked".to_owned())
}

pub(crate) fn r007(facts: &Facts<'_>) -> Checked {
    let found = match &facts.recipe.metadata {
        None => vec![Problem::new("README.md", 0, "", "there is no README.md")],
        Some(metadata) if !metadata.marked => {
            vec![Problem::new(
                "README.md",
                0,
                "",
                "there are no `<!-- metadata -->` and `<!-- endmetadata -->`",
            )]
        }
        Some(metadata) => {
            let missing = metadata.missing();
            missing
                .iter()
                .map(|key| Problem::new("README.md", 0, key, format!("`{key}` is not filled in")))
                .collect()
        }
    };
    Checked::Found(found)
}

pub(crate) fn r008(facts: &Facts<'_>) -> Checked {
    Checked::Found(match &facts.recipe.sample {
        None => vec![Problem::new(".env.sample", 0, "", "there is no `.env.sample`")],
        Some(Err(problems)) => problems.0.clone(),
        Some(Ok(_)) => Vec::new(),
    })
}

pub(crate) fn r009(facts: &Facts<'_>) -> Checked {
    facts.in_views(|loaded| {
        if loaded.compose.services.contains_key("app") {
            return Vec::new();
        }
        vec![loaded.problem("services", "no service is called `app`")]
    })
}

pub(crate) fn r010(facts: &Facts<'_>) -> Checked {
    if facts.recipe.sample.as_ref().is_none_or(Result::is_err) {
        let reason = "without an `.env.sample` it is not known whether the app is opened through traefik";
        return Checked::Unverified(reason.to_owned(), Vec::new());
    }
    if facts.sample.get("DOMAIN").is_none_or(str::is_empty) {
        return Checked::Skip(
            "`.env.sample` sets no DOMAIN, so the app is not opened through traefik".to_owned(),
        );
    }
    facts.in_views(|loaded| {
        let enabled = loaded.compose.services.values().any(|service| {
            service.deploy.labels.get("traefik.enable").is_some_and(|value| boolean(value) == Some(true))
        });
        if enabled {
            return Vec::new();
        }
        vec![loaded.problem("services.app", "no service has the deploy label `traefik.enable=true`")]
    })
}

pub(crate) fn r011(facts: &Facts<'_>) -> Checked {
    facts.in_views(|loaded| {
        let without = loaded.compose.services.iter().filter(|(_, service)| service.image.is_none());
        without
            .map(|(name, _)| loaded.problem(&format!("services.{name}"), format!("`{name}` has no image")))
            .collect()
    })
}

pub(crate) fn r012(facts: &Facts<'_>) -> Checked {
    let has_script = facts.recipe.abra_sh.is_some();
    let exports = facts.recipe.abra_sh.as_ref().map(|script| &script.exports);
    let shell_only = facts.recipe.abra_sh.as_ref().map_or(&[][..], |script| &script.shell_only);
    let mut not_known = None;
    let mut found = Vec::new();
    for view in &facts.views {
        for (key, object) in &view.loaded.compose.configs {
            if object.external {
                continue;
            }
            let path = format!("configs.{key}");
            let Some(variable) = version_variable(&view.loaded, "configs", key) else {
                let message = format!(
                    "the name of `{key}` has no version: write `name: ${{STACK_NAME}}_{key}_${{…_VERSION}}`"
                );
                found.push(view.loaded.problem(&path, message));
                continue;
            };
            if exports.is_some_and(|exports| exports.contains_key(&variable)) {
                continue;
            }
            if shell_only.iter().any(|export| export.name == variable) {
                not_known =
                    Some(format!("`{variable}` in `abra.sh` has a value that only a shell could know"));
                continue;
            }
            let why = if has_script { "`abra.sh` does not export it" } else { "there is no `abra.sh`" };
            found.push(view.loaded.problem(&path, format!("its version is `{variable}`, and {why}")));
        }
    }
    match not_known {
        Some(reason) => Checked::Unverified(reason, found),
        None => facts.found(found),
    }
}

pub(crate) fn r013(_: &Facts<'_>) -> Checked {
    Checked::NotAsked("the repository's server is on the network, and nothing there is asked".to_owned())
}

pub(crate) fn r014(facts: &Facts<'_>) -> Checked {
    match &facts.history.releases {
        Err(why) => Checked::Unverified(format!("the tags cannot be read: {why}"), Vec::new()),
        Ok(releases) => {
            let light = releases.releases.iter().filter(|release| !release.annotated);
            Checked::Found(
                light
                    .map(|release| {
                        let message = format!("the tag `{}` is lightweight", release.tag);
                        Problem::new(".git", 0, &format!("refs/tags/{}", release.tag), message)
                    })
                    .collect(),
            )
        }
    }
}

pub(crate) fn r015(facts: &Facts<'_>) -> Checked {
    facts.in_views(|loaded| {
        let long = loaded.compose.secrets.keys().filter(|key| key.len() > LONGEST_SECRET_KEY);
        long.map(|key| {
            let message = format!("`{}` has {} characters", shown(key), key.len());
            loaded.problem(&format!("secrets.{key}"), message)
        })
        .collect()
    })
}

fn images(facts: &Facts<'_>, look: impl Fn(&str, Option<&str>) -> Option<String>) -> Checked {
    facts.in_views(|loaded: &Loaded| {
        let mut found = Vec::new();
        for (name, service) in &loaded.compose.services {
            let Some(image) = &service.image else { continue };
            if let Some(message) = look(image, tag(image)) {
                found.push(loaded.problem(&format!("services.{name}"), message));
            }
        }
        found
    })
}

/// The tag of an image. One that is named by its digest alone can never become another, and has that for a tag.
fn tag(image: &str) -> Option<&str> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split_once(':').map(|(_, tag)| tag).filter(|tag| !tag.is_empty()).or(digest)
}

/// The text of a key, for rules that look at files as they are written.
pub(crate) fn services(yaml: &Yaml) -> impl Iterator<Item = (&String, &Yaml)> {
    yaml.get("services").into_iter().flat_map(Yaml::entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        assert_eq!(tag("nginx:1.27.2"), Some("1.27.2"));
        assert_eq!(tag("registry.example:5000/a/b"), None);
        assert_eq!(tag("registry.example:5000/a/b:v2"), Some("v2"));
        assert_eq!(tag("a@sha256:00"), Some("sha256:00"));
        for version in [
            "1",
            "v1.2.3",
            "15-alpine",
            "2.4.1-fpm-bookworm",
            "RELEASE.2024-01-01T00-00-00Z",
            "1.0.6-social-amd64",
            "pg15",
        ] {
            assert!(VERSION_LIKE.is_match(version), "{version}");
        }
        for other in ["alpine", "stable-perl", "bookworm", ""] {
            assert!(!VERSION_LIKE.is_match(other), "{other}");
        }
    }
}
