//! The catalogue as a table: on the terminal at the end of a run, and in the reference page.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use assay_model::Pipeline;

use super::catalogue::{Conclusion, Kind, MadeBy, Proof};
use super::verdict::Line;

/// The mark before a pipeline's table.
fn begin(pipeline: Pipeline) -> String {
    format!("<!-- catalogue: written by `assay prove {pipeline} --write-page` -->")
}
const END: &str = "<!-- catalogue: end -->";

/// What stands over the matrix.
pub(super) const HEADS: [&str; 5] = ["FAULT", "EXPECTED", "SEEN", "OK", "SECONDS"];

/// Every line that was seen, the ones that are not ok last, where they are read.
pub(super) fn matrix(lines: &[Line]) -> Vec<Vec<String>> {
    let row = |line: &Line| {
        vec![
            line.name.clone(),
            line.expected.words(),
            line.seen.words(),
            if line.ok { "ok" } else { "NO" }.to_owned(),
            format!("{:.0}", line.seconds),
        ]
    };
    let (good, bad): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.ok);
    good.into_iter().chain(bad).map(row).collect()
}

/// Puts the whole catalogue's table into the page, between its marks. Of entries that were not run now, what was seen
/// before is kept, as long as they are the same.
pub(super) fn write(page: &Path, pipeline: Pipeline, proofs: &[&Proof], lines: &[Line]) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let begin = begin(pipeline);
    let text = filled(&text, &begin, &table(proofs, &text, lines))
        .with_context(|| format!("{}: there is no `{begin}` … `{END}` to write between", page.display()))?;
    std::fs::write(page, text).with_context(|| page.display().to_string())
}

fn filled(text: &str, begin: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n{table}{END}{after}"))
}

fn table(proofs: &[&Proof], old: &str, lines: &[Line]) -> String {
    let mut out = "| entry | what it is | made by | expected | control | last seen | seconds |\n|---|---|---|---|---|---|---|\n".to_owned();
    for entry in proofs {
        let row = row(entry);
        let seen = match lines.iter().find(|line| line.name == entry.name) {
            Some(line) if line.ok => format!(" as expected | {:.0} |", line.seconds),
            Some(line) => format!(" **{}** | {:.0} |", line.seen.words(), line.seconds),
            None => seen_before(old, &row).unwrap_or(" – | – |").to_owned(),
        };
        let _ = writeln!(out, "{row}{seen}");
    }
    out
}

/// The rest of an old row that begins like this one.
fn seen_before<'a>(old: &'a str, row: &str) -> Option<&'a str> {
    old.lines().find_map(|line| line.strip_prefix(row))
}

/// The part of a row that the entry's file alone decides.
pub(super) fn row(entry: &Proof) -> String {
    let expected = match (entry.expected.verdict, &entry.expected.stage, &entry.expected.code) {
        (Conclusion::Fail, Some(stage), Some(code)) => format!("fail at {stage}: `{code}`"),
        _ => "pass".to_owned(),
    };
    let made_by = match (entry.kind, entry.made_by) {
        (Kind::Healthy, _) => "–",
        (_, MadeBy::Device) => "device",
        (_, MadeBy::Edge) => "edge",
    };
    let control = entry.control.as_ref().map_or_else(|| "–".to_owned(), |control| format!("`{control}`"));
    format!("| `{}` | {} | {made_by} | {expected} | {control} |", entry.name, entry.description)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_everything_but_its_table() {
        let (hosts, images) = (begin(Pipeline::Host), begin(Pipeline::Image));
        let page = format!("# Head\n\n{hosts}\nold\n{END}\n\n{images}\nother\n{END}\n\ntail\n");
        let new = filled(&page, &hosts, "| a |\n").expect("it has marks");
        assert_eq!(new, page.replace("old", "| a |"));
        assert_eq!(filled(&new, &hosts, "| a |\n").as_deref(), Some(new.as_str()), "twice is once");
        assert_eq!(filled(&page, &images, "| b |\n"), Some(page.replace("other", "| b |")));
        assert_eq!(filled("no marks", &hosts, "x"), None);
    }

    #[test]
    fn what_was_seen_before_is_kept_while_the_entry_is_the_same() {
        let old = "| `a` | text | device | pass | – | as expected | 50 |\n";
        assert_eq!(seen_before(old, "| `a` | text | device | pass | – |"), Some(" as expected | 50 |"));
        assert_eq!(seen_before(old, "| `a` | other text | device | pass | – |"), None);
    }
}
