//! `assay token`: API tokens of this machine's server, shown where they lie.

use anyhow::Result;
use clap::Subcommand;

use crate::commands::Remote;
use crate::exit::Exit;
use crate::{place, ui};

#[derive(Subcommand)]
pub(crate) enum Token {
    /// Print a token that the server left in its data folder
    Show {
        /// `cli` for the operators' API, `runner` for `assay runner` on another machine.
        #[arg(default_value = "cli")]
        name: String,
        /// The data folder of a server on this machine.
        #[arg(long, env = "ASSAY_DATA", default_value_os_t = place::default_data())]
        data: std::path::PathBuf,
    },
    /// Make a token for a script or a person; printed once
    Create {
        /// What it is for; stands beside its decisions.
        name: String,
        /// viewer (looks), operator (starts runs and decides) or admin (people and tokens, too).
        #[arg(long, default_value = "operator")]
        role: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Make a token void
    Revoke {
        /// Its name.
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
}

impl Token {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::Show { name, data } => ui::line(&place::token(&data, &name)?),
            Self::Create { name, role, remote } => {
                let body = serde_json::json!({ "name": name, "role": role });
                let made: serde_json::Value = remote.client()?.post("/api/v1/tokens", &body).await?;
                if remote.json {
                    ui::json(&made)?;
                } else {
                    ui::line(made["token"].as_str().unwrap_or_default());
                }
            }
            Self::Revoke { name, remote } => {
                remote.client()?.delete(&format!("/api/v1/tokens/{name}")).await?;
                ui::say(&format!("{name} is void"));
            }
        }
        Ok(Exit::Ok)
    }
}
