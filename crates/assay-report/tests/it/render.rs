//! Writes the pages where `ASSAY_REPORT_PAGES` says, for a person to look at; always checks that they render.

use crate::common;
use assay_model::report::Report;
use assay_report::{SigningKey, html};

#[test]
fn every_kind_of_run_renders() {
    let key = SigningKey::generate().expect("random");
    let folder = std::env::var_os("ASSAY_REPORT_PAGES").map(std::path::PathBuf::from);
    let stories = [
        ("passed", common::passed(&key)),
        ("held", common::held()),
        ("overridden", common::overridden(&key)),
        ("cancelled", common::cancelled(&key)),
        ("muted", common::muted(&key)),
    ];
    for (name, story) in stories {
        let view = story.view();
        let page = html(&view, &Report::of(&view), &common::extras(&story));
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"), "{name}");
        if let Some(folder) = &folder {
            std::fs::write(folder.join(format!("{name}.html")), &page).expect("the folder is writable");
        }
    }
}
