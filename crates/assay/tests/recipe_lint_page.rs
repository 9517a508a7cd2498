//! `docs/reference/recipe-lint.md` against the rules: it has each as it is, and no other.

use std::fs;
use std::path::Path;

use assay_recipe::lint::{RULES, Severity};

#[test]
fn the_page_lists_every_rule_as_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository");
    let page = fs::read_to_string(root.join("docs/reference/recipe-lint.md")).expect("the page");
    let rows: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| R") || line.starts_with("| A")).collect();
    let wanted: Vec<String> = RULES
        .iter()
        .map(|rule| {
            let severity = match rule.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            format!("| {} | {severity} | {} | {} |", rule.id, rule.title, rule.next_step)
        })
        .collect();
    assert_eq!(rows, wanted, "put these rows into the page:\n{}", wanted.join("\n"));
}
