//! `assay operator`: the people who may sign in, and what each may do.

use anyhow::Result;
use assay_api::operator::{NewOperator, OperatorInfo};
use clap::{Args, Subcommand};

use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

#[derive(Subcommand)]
pub(crate) enum Operator {
    /// Let someone sign in, or change what they may do; prints a new password once
    Add(Add),
    /// Everyone who may sign in
    List(List),
    /// Let someone no longer sign in
    Remove(Remove),
}

#[derive(Args)]
pub(crate) struct Add {
    /// The name they sign in with; stands beside their decisions.
    name: String,
    /// viewer (looks), operator (starts runs and decides) or admin (people and tokens, too).
    #[arg(long)]
    role: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Remove {
    /// Their name.
    name: String,
    #[command(flatten)]
    remote: Remote,
}

impl Operator {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::Add(Add { name, role, remote }) => {
                let new = NewOperator { name, role, password: None };
                let made: OperatorInfo = remote.client()?.post("/api/v1/operators", &new).await?;
                if remote.json {
                    ui::json(&made)?;
                } else {
                    ui::say(&format!(
                        "{} may sign in as {}; the password, told this once:",
                        made.name, made.role
                    ));
                    ui::line(made.password.as_deref().unwrap_or_default());
                }
            }
            Self::List(List { remote }) => {
                let all: Vec<OperatorInfo> = remote.client()?.get("/api/v1/operators").await?;
                if remote.json {
                    ui::json(&all)?;
                } else {
                    let rows: Vec<_> = all.into_iter().map(|o| vec![o.name, o.role]).collect();
                    ui::table(&["NAME", "ROLE"], &rows);
                }
            }
            Self::Remove(Remove { name, remote }) => {
                remote.client()?.delete(&format!("/api/v1/operators/{name}")).await?;
                ui::say(&format!("{name} may no longer sign in"));
            }
        }
        Ok(Exit::Ok)
    }
}
