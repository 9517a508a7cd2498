//! Tags that follow one another: `1.25.3-alpine` is followed by `1.25.4-alpine`, not by `1.26.0`, `1.26-alpine` or `mainline`.
//!
//! A registry's tags have no order and no rules; what a maintainer pins has a shape, and newer is what has the same shape and
//! higher numbers.

use std::cmp::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Words of tags that are no releases yet.
const NOT_YET: [&str; 9] = ["rc", "beta", "alpha", "dev", "pre", "preview", "nightly", "snapshot", "test"];

/// How far a tag is from the one that is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The same version, built anew: only what stands behind it differs (`-alpine3.18`, `-alpine3.19`).
    Rebuild,
    /// The third number or a later one is higher.
    Patch,
    /// The second number is higher.
    Minor,
    /// The first number is higher.
    Major,
}

/// The newest of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Newer {
    /// How far it is.
    pub step: Step,
    /// The tag.
    pub tag: String,
}

/// A tag taken apart: `v1.25.3-alpine3.18`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape<'a> {
    /// What stands before the numbers: `v`.
    prefix: &'a str,
    /// The numbers: 1, 25, 3.
    numbers: Vec<u64>,
    /// What stands behind them: `-alpine3.18`.
    suffix: &'a str,
}

/// The newest tag of each step among those that follow the pinned one; none where the pinned one has no numbers.
pub fn newer<'t>(pinned: &str, tags: impl IntoIterator<Item = &'t str>) -> Option<Vec<Newer>> {
    let from = Shape::of(pinned)?;
    let mut best: Vec<(Step, Shape<'t>, &'t str)> = Vec::new();
    for tag in tags {
        let Some(shape) = Shape::of(tag) else { continue };
        let Some(step) = shape.follows(&from) else { continue };
        match best.iter_mut().find(|(known, ..)| *known == step) {
            Some(known) if shape.order(&known.1) == Ordering::Greater => *known = (step, shape, tag),
            Some(_) => {}
            None => best.push((step, shape, tag)),
        }
    }
    best.sort_by_key(|(step, ..)| *step);
    Some(best.into_iter().map(|(step, _, tag)| Newer { step, tag: tag.to_owned() }).collect())
}

impl<'a> Shape<'a> {
    fn of(tag: &'a str) -> Option<Self> {
        let begin = tag.find(|letter: char| letter.is_ascii_digit())?;
        let (prefix, rest) = tag.split_at(begin);
        let mut numbers = Vec::new();
        let mut at = 0;
        loop {
            let digits = rest[at..].bytes().take_while(u8::is_ascii_digit).count();
            // A commit's hash or a moment that is longer than any version is none.
            numbers.push(rest[at..at + digits].parse::<u64>().ok()?);
            at += digits;
            let goes_on = rest[at..]
                .strip_prefix('.')
                .is_some_and(|next| next.starts_with(|l: char| l.is_ascii_digit()));
            if !goes_on {
                break;
            }
            at += 1;
        }
        let suffix = &rest[at..];
        // `3f2a9c1` begins with a digit and is a commit.
        if suffix.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && prefix.is_empty()
            && numbers.len() == 1
        {
            return None;
        }
        Some(Self { prefix, numbers, suffix })
    }

    /// How far this one is ahead of another; none where it is not, or is another kind of tag.
    fn follows(&self, from: &Self) -> Option<Step> {
        let alike = self.prefix == from.prefix
            && self.numbers.len() == from.numbers.len()
            && kind(self.suffix) == kind(from.suffix);
        let not_yet = |shape: &Self| {
            let words = shape.suffix.split(|letter: char| !letter.is_ascii_alphabetic());
            words.into_iter().any(|word| NOT_YET.contains(&word.to_ascii_lowercase().as_str()))
        };
        if !alike || (not_yet(self) && !not_yet(from)) || self.order(from) != Ordering::Greater {
            return None;
        }
        let first = self.numbers.iter().zip(&from.numbers).position(|(own, other)| own != other);
        Some(match first {
            None => Step::Rebuild,
            Some(0) => Step::Major,
            Some(1) => Step::Minor,
            Some(_) => Step::Patch,
        })
    }

    fn order(&self, other: &Self) -> Ordering {
        let suffix = || crate::versions::naturally(Some(self.suffix), Some(other.suffix));
        self.numbers.cmp(&other.numbers).then_with(suffix)
    }
}

/// A suffix without its numbers: `-alpine3.18` and `-alpine3.19` are one kind.
fn kind(suffix: &str) -> String {
    suffix.chars().filter(|letter| !letter.is_ascii_digit() && *letter != '.').collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(pinned: &str, tags: &[&str]) -> String {
        match newer(pinned, tags.iter().copied()) {
            None => "no version".to_owned(),
            Some(found) => {
                let each = found.iter().map(|newer| format!("{:?} {}", newer.step, newer.tag));
                each.collect::<Vec<_>>().join(", ")
            }
        }
    }

    #[test]
    fn the_newest_of_each_step_with_the_same_shape() {
        let tags = [
            "latest",
            "1",
            "1.25",
            "1.25.3",
            "1.25.4",
            "1.25.10",
            "1.26.0",
            "1.27.1",
            "2.0.0",
            "2.0.0-rc.1",
            "3.0.0-beta",
            "1.25.4-alpine",
            "1.25.4-alpine3.19",
            "v9.0.0",
            "mainline",
            "stable-perl",
            "3f2a9c1",
            "20991231235959999999",
        ];
        assert_eq!(told("1.25.3", &tags), "Patch 1.25.10, Minor 1.27.1, Major 2.0.0");
        assert_eq!(told("1.25.3-alpine3.18", &tags), "Patch 1.25.4-alpine3.19");
        assert_eq!(told("1.25.4-alpine3.18", &tags), "Rebuild 1.25.4-alpine3.19");
        assert_eq!(told("2.0.0-rc.0", &tags), "Rebuild 2.0.0-rc.1");
        assert_eq!(told("9.9.9", &tags), "");
        assert_eq!(told("latest", &tags), "no version");
    }

    #[test]
    fn words_of_a_suffix_tell_kinds_apart() {
        let tags =
            ["16-alpine", "16-bookworm", "17-alpine", "17", "v2.3.4-social-amd64", "v2.4.0-flavour-amd64"];
        assert_eq!(told("15-alpine", &tags), "Major 17-alpine");
        assert_eq!(told("15", &tags), "Major 17");
        assert_eq!(told("v2.3.3-social-amd64", &tags), "Patch v2.3.4-social-amd64");
        assert_eq!(
            told("2024.1.3", &["2024.1.4", "2024.2.0", "2025.1.0"]),
            "Patch 2024.1.4, Minor 2024.2.0, Major 2025.1.0"
        );
    }

    proptest! {
        #[test]
        fn no_tag_makes_it_panic(pinned in "[A-Za-z0-9_.-]{0,30}", tags in prop::collection::vec("[A-Za-z0-9_.-]{0,30}", 0..8)) {
            let found = newer(&pinned, tags.iter().map(String::as_str)).unwrap_or_default();
            prop_assert!(found.iter().all(|newer| newer.tag != pinned));
        }
    }
}
