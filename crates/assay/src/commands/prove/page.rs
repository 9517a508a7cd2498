//! The catalogue as a table: on the terminal at the end of a run, and in the reference page.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::catalogue::{Conclusion, Entry, Kind, MadeBy, Selection};
use super::verdict::Line;

const BEGIN: &str = "<!-- catalogue: written by `assay prove host --write-page` -->";
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

/// Puts the table into the page, between its marks. Without lines, what was seen is left as unknown.
pub(super) fn write(page: &Path, selection: &Selection<'_>, lines: &[Line]) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let text = filled(&text, &table(selection, lines))
        .with_context(|| format!("{}: there is no `{BEGIN}` … `{END}` to write between", page.display()))?;
    std::fs::write(page, text).with_context(|| page.display().to_string())
}

fn filled(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

fn table(selection: &Selection<'_>, lines: &[Line]) -> String {
    let mut entries: Vec<_> = selection.machines().collect();
    entries.sort_by_key(|entry| &entry.name);
    let mut out = "| entry | what it is | made by | expected | control | last seen | seconds |\n|---|---|---|---|---|---|---|\n".to_owned();
    for entry in entries {
        let line = lines.iter().find(|line| line.name == entry.name);
        let seen = match line {
            None => "–".to_owned(),
            Some(line) if line.ok => "as expected".to_owned(),
            Some(line) => format!("**{}**", line.seen.words()),
        };
        let seconds = line.map_or_else(|| "–".to_owned(), |line| format!("{:.0}", line.seconds));
        let _ = writeln!(out, "{} {seen} | {seconds} |", row(entry));
    }
    out
}

/// The part of a row that the entry's file alone decides.
pub(super) fn row(entry: &Entry) -> String {
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
        let page = format!("# Head\n\n{BEGIN}\nold\n{END}\n\ntail\n");
        let new = filled(&page, "| a |\n").expect("it has marks");
        assert_eq!(new, format!("# Head\n\n{BEGIN}\n| a |\n{END}\n\ntail\n"));
        assert_eq!(filled(&new, "| a |\n").as_deref(), Some(new.as_str()), "twice is once");
        assert_eq!(filled("no marks", "x"), None);
    }
}
