//! What a test leaves behind: a folder with the report, the evidence and JUnit, and annotations where a forge shows them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use assay_api::operator::RunDetail;
use assay_model::report::Report;
use assay_model::{Pipeline, Severity};

use crate::client::Client;
use crate::ui;

/// Fetches everything of a finished run into `folder`.
pub(crate) async fn keep(client: &Client, number: i64, folder: &Path) -> Result<RunDetail> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let detail: RunDetail = client.get(&format!("/api/v1/runs/{number}")).await?;
    for (path, name) in
        [("report.html", "report.html"), ("report.json", "report.json"), ("bundle", "bundle.tar")]
    {
        fetch(client, &format!("/api/v1/runs/{number}/{path}"), &folder.join(name)).await?;
    }
    if detail.summary.pipeline == Pipeline::Recipe {
        fetch(client, &format!("/api/v1/runs/{number}/results.json"), &folder.join("results.json")).await?;
    }
    let files = folder.join("artifacts");
    std::fs::create_dir_all(&files).with_context(|| files.display().to_string())?;
    for artifact in &detail.report.artifacts {
        // Names were made harmless when the files were taken in.
        fetch(
            client,
            &format!("/api/v1/runs/{number}/artifacts/{}", artifact.name),
            &files.join(&artifact.name),
        )
        .await?;
    }
    Ok(detail)
}

async fn fetch(client: &Client, path: &str, to: &Path) -> Result<()> {
    let bytes = client.open(path).await?.bytes().await?;
    std::fs::write(to, &bytes).with_context(|| to.display().to_string())
}

/// Writes a file for programs, which people can read as well.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

/// Writes all runs as one JUnit file.
pub(crate) fn junit(path: &PathBuf, reports: &[Report]) -> Result<()> {
    let text = assay_report::junit(reports);
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

/// Says what is wrong where GitHub's and Forgejo's actions show it beside the change.
pub(crate) fn annotate(report: &Report) {
    if std::env::var_os("GITHUB_ACTIONS").is_none() && std::env::var_os("FORGEJO_ACTIONS").is_none() {
        return;
    }
    for finding in &report.findings {
        let level = match finding.severity {
            Severity::Critical => "error",
            Severity::Warning => "warning",
            Severity::Info => "notice",
        };
        let stage = finding.stage.as_ref().map_or("run", |stage| stage.as_str());
        let title = property(&format!("{} at {stage}", finding.code));
        ui::line(&format!(
            "::{level} title={title}::{}",
            value(&format!("{} {}", finding.message, finding.next_step))
        ));
    }
}

/// Escapes as the runners of both forges want it, or a guest's words could be commands.
fn value(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    value(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::{property, value};

    #[test]
    fn a_guest_s_words_are_no_commands_to_the_forge() {
        assert_eq!(value("a\n::error::b 5%"), "a%0A::error::b 5%25");
        assert_eq!(property("A: b, c"), "A%3A b%2C c");
    }
}
