//! What people see: the one owner of output.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::client::ClientError;

/// Sets up logging: daemons talk, commands are quiet unless asked.
pub(crate) fn logging(verbose: bool, daemon: bool) {
    let default = if verbose {
        "debug,hyper=info,sqlx=warn,rustls=info,reqwest=info,kube_client=warn"
    } else if daemon {
        "info,sqlx=warn,kube_client=off"
    } else {
        "warn,sqlx=error,kube_client=off"
    };
    let filter = EnvFilter::try_from_env("ASSAY_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Data for scripts: one JSON document, pretty on a terminal.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = if std::io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)?
    } else {
        serde_json::to_string(value)?
    };
    line(&text);
    Ok(())
}

/// One line of data on stdout. A reader that went away is no error worth a word.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// One line of talk on stderr.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Asks a person; without one at the terminal nobody has agreed.
pub(crate) fn agreed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        say(&format!("{question} nobody is here to ask; repeat it with --yes"));
        return Ok(false);
    }
    let _ = write!(std::io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// An error with its causes and, when there is one, what to do about it.
pub(crate) fn error(problem: &anyhow::Error) {
    say(&format!("error: {problem:#}"));
    if let Some(hint) = problem.downcast_ref::<ClientError>().and_then(ClientError::hint) {
        say(&format!("  hint: {hint}"));
    }
}

/// Rows under a header, columns as wide as they need to be.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let print = |cells: &[String]| {
        let padded: Vec<_> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}", w = *w)).collect();
        line(padded.join("  ").trim_end());
    };
    print(&header.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>());
    for row in rows {
        print(row);
    }
}
