//! Images that pull requests ask for by what they touch: `[[forge.image]]`.
//!
//! A push says nothing but which files are other than before, so each entry says which files belong to an image, which profile the
//! image is held to, and where the medium of a commit is found once somebody's CI has built it. Nothing here builds one: a build
//! runs the pull request's own code, and CI has a place for that.

use std::path::{Path, PathBuf};

use assay_model::Micros;
use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use toml::Spanned;

use super::{Wrong, at, error};
use crate::name::RepoName;

/// What stands for the commit in the medium's path.
const COMMIT: &str = "{commit}";
/// So long is waited for a commit's medium, unless the settings say otherwise: a build and the queue before it.
const USUAL_WITHIN_S: u32 = 2 * 3600;
/// A day, and no longer: a build that takes more has failed.
const LONGEST_WITHIN_S: u32 = 24 * 3600;
/// Longest name, and most patterns and images of one forge: all of them stand in one comment.
const MAX_NAME: usize = 40;
const MOST_PATTERNS: usize = 64;
const MOST_IMAGES: usize = 16;

/// An image that a pull request asks for when it touches its sources.
#[derive(Clone, Debug)]
pub struct ImageTrigger {
    /// What it is called in comments and statuses.
    pub name: String,
    /// Where its sources are.
    pub repository: RepoName,
    /// What it is held to: a file of the repository, taken from the trusted branch.
    pub profile: String,
    /// The case of the profile's matrix, where it has one: `firmware=uefi,disks=two`.
    pub case: Option<String>,
    /// The folder that files named in the profile are relative to, on the runner.
    pub folder: Option<PathBuf>,
    /// The runner that tests it; the forge's, or any that can, without it.
    pub runner: Option<String>,
    /// So long is waited for a commit's medium.
    pub within: Micros,
    paths: Vec<GlobMatcher>,
    medium: String,
}

impl ImageTrigger {
    /// Whether any of these files belongs to it. Paths are the repository's, with `/`.
    pub fn is_touched_by(&self, changed: &[String]) -> bool {
        changed.iter().any(|path| self.paths.iter().any(|pattern| pattern.is_match(path)))
    }

    /// The medium that was built from a commit: the same path for the control plane, which waits for it, and the runner.
    pub fn medium(&self, commit: &str) -> PathBuf {
        PathBuf::from(self.medium.replace(COMMIT, commit))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageTable {
    name: Spanned<String>,
    repository: Spanned<String>,
    profile: Spanned<String>,
    paths: Spanned<Vec<Spanned<String>>>,
    medium: Spanned<String>,
    case: Option<String>,
    folder: Option<Spanned<PathBuf>>,
    runner: Option<String>,
    within_s: Option<Spanned<u32>>,
}

/// Reads all of a forge's.
pub(super) fn read(
    tables: Vec<ImageTable>,
    listened_to: impl Fn(&RepoName) -> bool,
) -> Result<Vec<ImageTrigger>, Wrong> {
    let mut images: Vec<ImageTrigger> = Vec::new();
    for table in tables {
        let place = table.name.clone();
        let image = table.read(&listened_to)?;
        if images.iter().any(|other| other.name == image.name) {
            return Err(error(&place, "there is an image of this name already; name each differently"));
        }
        if images.len() == MOST_IMAGES {
            return Err(error(&place, "a forge has at most 16 images"));
        }
        images.push(image);
    }
    Ok(images)
}

impl ImageTable {
    fn read(self, listened_to: &impl Fn(&RepoName) -> bool) -> Result<ImageTrigger, Wrong> {
        let name = self.name.get_ref();
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) {
            return Err(error(
                &self.name,
                "an image's name has letters, digits, `-`, `_` and `.`, at most 40",
            ));
        }
        let repository: RepoName = at(&self.repository, self.repository.get_ref().parse())?;
        if !listened_to(&repository) {
            let message = "nobody listens there; name it under `repositories` as well";
            return Err(error(&self.repository, message));
        }
        if !is_inside(self.profile.get_ref()) {
            let message = "a profile is a file of the repository: write its path from there, such as images/my/profile.toml";
            return Err(error(&self.profile, message));
        }
        let patterns = self.paths.get_ref();
        if patterns.is_empty() || patterns.len() > MOST_PATTERNS {
            return Err(error(&self.paths, "name 1 to 64 patterns, such as \"images/my/**\""));
        }
        let built = patterns.iter().map(|pattern| at(pattern, matcher(pattern.get_ref())));
        let paths: Result<Vec<GlobMatcher>, Wrong> = built.collect();
        let medium = self.medium.get_ref();
        if !Path::new(medium).is_absolute() || !medium.contains(COMMIT) || medium.contains('\0') {
            let message = "where the medium of a commit is: a whole path with {commit} in it, such as /srv/media/my-{commit}.iso";
            return Err(error(&self.medium, message));
        }
        if let Some(folder) = self.folder.as_ref().filter(|folder| !folder.get_ref().is_absolute()) {
            return Err(error(folder, "a folder on the runner is a whole path"));
        }
        let within = match &self.within_s {
            None => USUAL_WITHIN_S,
            Some(seconds) if (1..=LONGEST_WITHIN_S).contains(seconds.get_ref()) => *seconds.get_ref(),
            Some(seconds) => return Err(error(seconds, "between 1 and 86400 seconds")),
        };
        Ok(ImageTrigger {
            paths: paths?,
            medium: medium.clone(),
            name: self.name.into_inner(),
            repository,
            profile: self.profile.into_inner(),
            case: self.case,
            folder: self.folder.map(Spanned::into_inner),
            runner: self.runner,
            within: Micros::seconds(i64::from(within)),
        })
    }
}

/// `*` stays within a folder, `**` does not, as in .gitignore.
fn matcher(pattern: &str) -> Result<GlobMatcher, String> {
    if pattern.starts_with('/') {
        return Err("patterns begin at the repository's root, without a `/`".to_owned());
    }
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|problem| problem.to_string())
}

fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 300
        && !path.contains(['\\', '\0', '\n', ':'])
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use assay_model::Micros;

    use super::super::Settings;

    const WHOLE: &str = r#"[[forge]]
name = "coop"
kind = "forgejo"
address = "https://git.example.org"
token_file = "token"
repositories = ["infra/images"]
authors = { members = true }

[[forge.image]]
name = "node"
repository = "infra/images"
profile = "node/profile.toml"
paths = ["node/**", "shared/*.sh"]
medium = "/srv/media/node-{commit}.iso"
runner = "bench1"
"#;

    fn parse(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("token"), "0123456789abcdef\n").expect("written");
        let told = Settings::parse(text, &folder.path().join("forges.toml"));
        told.map_err(|e| e.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn an_image_says_what_belongs_to_it_and_where_its_medium_is() {
        let settings = parse(WHOLE).expect("valid");
        let [node] = &settings.forges[0].images[..] else { panic!("one image") };
        let touched = |path: &str| node.is_touched_by(&["README.md".to_owned(), path.to_owned()]);
        assert!(touched("node/installer/main.sh") && touched("shared/disks.sh"));
        assert!(!touched("shared/more/disks.sh"), "`*` stays within a folder");
        assert!(!touched("nodes/x") && !touched("docs/node/x"));
        assert!(!node.is_touched_by(&[]));
        assert_eq!(node.medium("c0ffee"), Path::new("/srv/media/node-c0ffee.iso"));
        assert_eq!(node.within, Micros::seconds(7200));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let wrong = |from: &str, to: &str| {
            let text = WHOLE.replacen(from, to, 1);
            assert_ne!(text, WHOLE, "{from}");
            parse(&text).expect_err(to).lines().next().unwrap_or_default().to_owned()
        };
        let lines = [
            wrong("name = \"node\"", "name = \"the node\""),
            wrong("repository = \"infra/images\"", "repository = \"infra/other\""),
            wrong("node/profile.toml", "../profile.toml"),
            wrong("[\"node/**\", \"shared/*.sh\"]", "[]"),
            wrong("node/**", "node/[**"),
            wrong("node/**", "/node/**"),
            wrong("node-{commit}.iso", "node.iso"),
            wrong("/srv/media/", "media/"),
            wrong("runner = \"bench1\"", "within_s = 0"),
            wrong("runner = \"bench1\"", "folder = \"images\""),
            parse(&format!("{WHOLE}{}", &WHOLE[WHOLE.find("[[forge.image]]").expect("there")..]))
                .expect_err("twice")
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r#"
        forges.toml:10:8: an image's name has letters, digits, `-`, `_` and `.`, at most 40
        forges.toml:11:14: nobody listens there; name it under `repositories` as well
        forges.toml:12:11: a profile is a file of the repository: write its path from there, such as images/my/profile.toml
        forges.toml:13:9: name 1 to 64 patterns, such as "images/my/**"
        forges.toml:13:10: error parsing glob 'node/[**': unclosed character class; missing ']'
        forges.toml:13:10: patterns begin at the repository's root, without a `/`
        forges.toml:14:10: where the medium of a commit is: a whole path with {commit} in it, such as /srv/media/my-{commit}.iso
        forges.toml:14:10: where the medium of a commit is: a whole path with {commit} in it, such as /srv/media/my-{commit}.iso
        forges.toml:15:12: between 1 and 86400 seconds
        forges.toml:15:10: a folder on the runner is a whole path
        forges.toml:17:8: there is an image of this name already; name each differently
        "#);
    }
}
