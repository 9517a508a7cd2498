//! `assay gate`: may a machine go back to work? For hooks and scripts: the answer is the exit code.

use anyhow::Result;
use assay_api::operator::Gate as Answer;
use assay_model::host::order::{Profile, UnknownProfile};
use clap::{Args, Subcommand};

use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

#[derive(Subcommand)]
pub(crate) enum Gate {
    /// Exit 0 only on a fresh, signed pass of everything, for exactly this machine
    Host(HostGate),
}

#[derive(Args)]
pub(crate) struct HostGate {
    /// The host's name.
    name: String,
    /// How old the verdict may be: 36h, 7d, 90m, or seconds.
    #[arg(long, default_value = "7d", value_parser = age)]
    max_age: u32,
    /// Let a pass count for which an operator waived something.
    #[arg(long)]
    allow_waived: bool,
    /// The lightest profile that counts: quick, standard or burnin.
    #[arg(long, default_value = "standard", value_parser = profile)]
    profile: Profile,
    #[command(flatten)]
    remote: Remote,
}

impl Gate {
    pub(crate) async fn run(self) -> Result<Exit> {
        let Self::Host(HostGate { name, max_age, allow_waived, profile, remote }) = self;
        let path = format!(
            "/api/v1/hosts/{name}/gate?max_age_s={max_age}&allow_waived={allow_waived}&profile={profile}"
        );
        let answer: Answer = remote.client()?.get(&path).await?;
        if remote.json {
            ui::json(&answer)?;
        } else if answer.open {
            let run = answer.run.map(|run| format!(" (run {run})")).unwrap_or_default();
            ui::line(&format!("{name}: open{run}"));
        } else {
            ui::line(&format!("{name}: closed"));
            for reason in &answer.reasons {
                ui::line(&format!("  {}: {}", reason.code, reason.message));
            }
        }
        Ok(if answer.open { Exit::Ok } else { Exit::Fail })
    }
}

fn profile(text: &str) -> Result<Profile, UnknownProfile> {
    text.parse()
}

/// Reads a span of time in seconds.
fn age(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        other => return Err(format!("`{other}` is not a unit of time; use s, m, h or d")),
    };
    let number: u32 = digits.parse().map_err(|_| "write a number and a unit, such as 7d".to_owned())?;
    number
        .checked_mul(factor)
        .filter(|age| *age > 0)
        .ok_or_else(|| "that is no span of time to wait for".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time() {
        for (text, seconds) in [("7d", 604_800), ("36h", 129_600), ("90m", 5400), ("30s", 30), ("30", 30)] {
            assert_eq!(age(text), Ok(seconds));
        }
        for bad in ["", "d", "7w", "-1d", "0", "1.5h", "999999d", "7dd"] {
            assert!(age(bad).is_err(), "{bad}");
        }
    }
}
