//! `docs/reference/findings.md` against the sources: it has every code that a judge or the engine can raise, and none
//! that nobody raises. Codes are found by their spelling: two humps or more, between quotes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where findings (and the gate's reasons) are made.
const MAKERS: [&str; 5] = [
    "crates/assay-pipelines/src",
    "crates/assay-console/src/catalogue",
    "crates/assay-engine/src",
    "crates/assay-model/src/host",
    "crates/assay-scan/src",
];

/// Strings of the same spelling that are no codes: a stage, types' names, keys of Docker's, what a power cut may leave,
/// databases, units.
const OTHERS: [&str; 11] = [
    "SpecValidate",
    "BenchSettings",
    "ContainerSpec",
    "TaskTemplate",
    "OldSystem",
    "PostgreSQL",
    "MariaDB",
    "KiB",
    "MiB",
    "GiB",
    "TiB",
];

#[test]
fn the_page_lists_every_code_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository");
    let events: BTreeSet<&str> = assay_notify::EVENTS.iter().map(|kind| kind.name).collect();
    let mut raised = BTreeSet::new();
    for file in MAKERS.iter().flat_map(|folder| sources(&root.join(folder))) {
        let text = fs::read_to_string(&file).expect("a source");
        raised.extend(quoted(product_part(&text), '"').map(str::to_owned));
    }
    // What the reconciler finds is an enum, whose variants are the codes.
    let oracle = fs::read_to_string(root.join("crates/assay-reconcile/src/oracle.rs")).expect("the oracle");
    let variants = oracle.split("pub enum Code {").nth(1).and_then(|rest| rest.split("\n}").next());
    let variants = variants.expect("its codes").lines().filter_map(|line| line.trim().strip_suffix(','));
    raised.extend(variants.map(str::to_owned));
    raised.extend(classes(root));
    // A failure that is told under its finding's own name stays a code.
    raised.retain(|code| !OTHERS.contains(&code.as_str()));
    raised.retain(|code| !events.contains(code.as_str()) || code == "UnexpectedData");
    assert!(raised.contains("DimmMissing") && raised.contains("TooOld") && raised.len() > 120, "{raised:?}");

    let page = fs::read_to_string(root.join("docs/reference/findings.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let listed: Vec<String> =
        rows.flat_map(|cell| cell.split("`, `")).map(|code| code.replace('`', "")).collect();
    let unique: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), unique.len(), "a code stands on the page twice");

    let missing: Vec<_> = raised.difference(&unique).collect();
    let stale: Vec<_> = unique.difference(&raised).collect();
    assert!(missing.is_empty(), "raised and not on docs/reference/findings.md: {missing:?}");
    assert!(stale.is_empty(), "on docs/reference/findings.md and raised by nobody: {stale:?}");
}

#[test]
fn every_row_says_what_to_do() {
    let page = include_str!("../../../docs/reference/findings.md");
    let (findings, _) = page.split_once("## The gate").expect("two parts");
    let mut rows = 0;
    for row in findings.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, severity, meaning, next] = cells[..] else { panic!("not four cells: {row}") };
        assert!(
            ["critical", "warning", "info", "error"].iter().any(|word| severity.starts_with(word)),
            "{row}"
        );
        assert!(meaning.len() > 5 && next.len() >= 4, "{row}");
        rows += 1;
    }
    assert!(rows > 80, "{rows}");
}

/// What becomes of a recipe's services, backups and restores has classes, which are spelled as codes when they are told.
fn classes(root: &Path) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("a source");
    let driver = read("crates/assay-swarm/src/crash.rs");
    let variants = driver.split("pub enum FailureClass {").nth(1).and_then(|rest| rest.split("\n}").next());
    let variants = variants.expect("its classes").lines().filter_map(|line| line.trim().strip_suffix(','));
    let mut codes: Vec<String> = variants.map(str::to_owned).collect();
    let bench = read("crates/assay-pipelines/src/recipe/bench/data.rs");
    let begins = |word: &&str| ["backup_", "dump_", "restore_"].iter().any(|begin| word.starts_with(begin));
    let plain = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let words = bench.split('"').filter(begins).filter(plain);
    codes.extend(words.map(|word| {
        let parts = word.split('_').map(|part| part[..1].to_uppercase() + &part[1..]);
        parts.collect::<String>()
    }));
    assert!(codes.len() > 15, "{codes:?}");
    codes
}

/// The sources below a folder that are no tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|kind| kind == "rs") && !name.contains("tests") {
            found.push(entry);
        }
    }
    found
}

/// A file without the tests at its end.
fn product_part(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// Every word of two humps or more between two of these marks.
fn quoted(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).filter(|word| {
        let humps = word.chars().filter(char::is_ascii_uppercase).count();
        let starts = word.starts_with(|c: char| c.is_ascii_uppercase());
        let continues = word.chars().nth(1).is_some_and(|c| c.is_ascii_lowercase());
        starts && continues && humps > 1 && word.chars().all(|c| c.is_ascii_alphanumeric())
    })
}
