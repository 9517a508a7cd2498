//! Images from run to run: which tags mean something else now. Pure.
//!
//! A tag is a name that its owner may point elsewhere. A recipe that has not changed and fails today may run other bytes than it
//! ran yesterday, and that is what this says.

use std::fmt;

use super::evidence::ImageSeen;

/// A tag that was moved between two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedTag {
    /// The image as the files name it.
    pub reference: String,
    /// What it meant before: its digest in the registry, or its id where it came from an archive.
    pub from: String,
    /// What it means now.
    pub to: String,
    /// Whether the image for this machine is the same all the same: a list may change for other kinds of machines.
    pub is_same_here: bool,
}

impl fmt::Display for MovedTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reference, from, to, is_same_here } = self;
        write!(f, "the tag {reference} was moved from {from} to {to}")?;
        if *is_same_here { f.write_str(" (the image for this machine is the same)") } else { Ok(()) }
    }
}

/// The tags in both that mean something else now, in the order of `now`. Digests in a registry are compared where both runs know
/// them, and the images' own ids where one does not. A name with a digest cannot be moved.
pub fn moved_tags(before: &[ImageSeen], now: &[ImageSeen]) -> Vec<MovedTag> {
    let mut moved: Vec<MovedTag> = Vec::new();
    for image in now {
        let known = moved.iter().any(|moved| moved.reference == image.reference);
        let earlier = before.iter().find(|earlier| earlier.reference == image.reference);
        let Some(earlier) = earlier.filter(|_| !known && !image.reference.contains('@')) else { continue };
        let (was, is) = match (digests(earlier), digests(image)) {
            (was, is) if was.is_empty() || is.is_empty() => {
                (vec![earlier.id.as_str()], vec![image.id.as_str()])
            }
            both => both,
        };
        let (Some(from), Some(to)) = (was.first(), is.first()) else { continue };
        // One image may have several names in a registry; one in common is enough.
        if from.is_empty() || to.is_empty() || was.iter().any(|digest| is.contains(digest)) {
            continue;
        }
        moved.push(MovedTag {
            reference: image.reference.clone(),
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            is_same_here: !image.id.is_empty() && earlier.id == image.id,
        });
    }
    moved
}

/// Digests without the names before them: `docker.io/library/nginx@sha256:…`.
fn digests(image: &ImageSeen) -> Vec<&str> {
    image.digests.iter().map(|digest| digest.rsplit('@').next().unwrap_or(digest)).collect()
}

#[cfg(test)]
mod tests {
    use super::moved_tags;
    use crate::recipe::evidence::ImageSeen;

    fn image(reference: &str, id: &str, digests: &[&str]) -> ImageSeen {
        ImageSeen {
            reference: reference.to_owned(),
            id: id.to_owned(),
            digests: digests.iter().map(|digest| format!("docker.io/library/web@{digest}")).collect(),
            from: "registry".to_owned(),
            fetched: None,
        }
    }

    #[test]
    fn a_tag_that_means_something_else_is_named_and_nothing_else_is() {
        let cases: [(&str, ImageSeen, ImageSeen, &str); 9] = [
            ("same", image("web:1", "i1", &["d1"]), image("web:1", "i1", &["d1"]), ""),
            (
                "moved",
                image("web:1", "i1", &["d1"]),
                image("web:1", "i2", &["d2"]),
                "the tag web:1 was moved from d1 to d2",
            ),
            (
                "moved for other machines",
                image("web:1", "i1", &["d1"]),
                image("web:1", "i1", &["d2"]),
                "the tag web:1 was moved from d1 to d2 (the image for this machine is the same)",
            ),
            ("one digest in common", image("web:1", "i1", &["d1", "d2"]), image("web:1", "i1", &["d2"]), ""),
            (
                "another archive",
                image("web:1", "i1", &[]),
                image("web:1", "i2", &[]),
                "the tag web:1 was moved from i1 to i2",
            ),
            (
                "archive, then registry, same image",
                image("web:1", "i1", &[]),
                image("web:1", "i1", &["d1"]),
                "",
            ),
            (
                "archive, then registry",
                image("web:1", "i1", &[]),
                image("web:1", "i2", &["d1"]),
                "the tag web:1 was moved from i1 to i2",
            ),
            ("another name", image("web:1", "i1", &["d1"]), image("web:2", "i2", &["d2"]), ""),
            (
                "a digest cannot move",
                image("web@sha256:1", "i1", &["d1"]),
                image("web@sha256:1", "i2", &["d2"]),
                "",
            ),
        ];
        for (case, before, now, expected) in cases {
            let told: Vec<String> = moved_tags(&[before], &[now]).iter().map(ToString::to_string).collect();
            assert_eq!(told.join("\n"), expected, "{case}");
        }
    }

    #[test]
    fn a_tag_is_named_once_though_several_stages_saw_it() {
        let before = [image("web:1", "i1", &["d1"])];
        let now =
            [image("web:1", "i2", &["d2"]), image("web:1", "i2", &["d2"]), image("new:1", "i9", &["d9"])];
        assert_eq!(moved_tags(&before, &now).len(), 1);
    }
}
