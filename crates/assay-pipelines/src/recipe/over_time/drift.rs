//! Tags that were moved upstream: the same reference stood for other bytes than in the recipe's run before. Unlike what changed
//! since green, this is seen in green runs as well, where nobody asks for a reason.

use std::collections::BTreeMap;

use assay_model::text;

use super::results::Results;

/// The longest reference that is told, in characters.
const LONGEST: usize = 120;

/// A tag that was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The recipe that deploys it.
    pub recipe: String,
    /// The reference.
    pub reference: String,
    /// The beginning of the id that it had before.
    pub was: String,
    /// The beginning of the id that it has now.
    pub is: String,
    /// The run that saw it first.
    pub run: i64,
    /// Whether that run was red.
    pub red: bool,
}

/// The tags that were moved between these runs, oldest first. Their order does not matter.
pub fn moved(runs: &[Results]) -> Vec<Moved> {
    let mut sorted: Vec<&Results> = runs.iter().collect();
    sorted.sort_by_key(|run| run.run.number);
    let mut known: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut found = Vec::new();
    for run in sorted {
        // A digest in the reference cannot be moved.
        for image in run.images.iter().filter(|image| !image.reference.contains('@')) {
            let before = known.insert((&run.recipe, &image.reference), &image.id);
            if let Some(was) = before.filter(|was| *was != image.id) {
                found.push(Moved {
                    recipe: run.recipe.clone(),
                    reference: text::clean_to(&image.reference, LONGEST),
                    was: short(was),
                    is: short(&image.id),
                    run: run.run.number,
                    red: run.is_red(),
                });
            }
        }
    }
    found
}

/// Enough of a digest to tell images apart.
fn short(id: &str) -> String {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    text::clean_to(&digits.chars().take(12).collect::<String>(), LONGEST)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{green, red};
    use super::*;

    #[test]
    fn a_tag_is_moved_where_the_run_before_had_other_bytes_green_or_red() {
        let other = |mut run: Results| {
            run.images[0].id = format!("sha256:{}", "ab".repeat(32));
            run
        };
        let runs = [green(1), other(green(2)), other(green(3)), red(4, "Install", "CrashLoop")];
        let told = |runs: &[Results]| -> Vec<String> {
            let line = |m: &Moved| {
                format!("{} {} {}→{} in {} red {}", m.recipe, m.reference, m.was, m.is, m.run, m.red)
            };
            moved(runs).iter().map(line).collect()
        };
        assert_eq!(
            told(&runs),
            [
                "web nginx:1.27 111111111111→abababababab in 2 red false",
                "web nginx:1.27 abababababab→111111111111 in 4 red true",
            ]
        );
        let mut other_way = runs.to_vec();
        other_way.reverse();
        assert_eq!(told(&other_way), told(&runs));
        // Another recipe with the same tag is no witness.
        let elsewhere = Results { recipe: "wiki".to_owned(), ..other(green(2)) };
        assert!(moved(&[green(1), elsewhere]).is_empty());
        // A run that did not come to its images says nothing.
        let early = Results { images: Vec::new(), ..red(2, "Install", "NotConverged") };
        assert!(moved(&[green(1), early, green(3)]).is_empty());
    }
}
