//! `assay forge`: which repositories are listened to, what was asked there, and whether the tokens do.

use anyhow::Result;
use assay_api::forges::{Checked, Forges};
use clap::{Args, Subcommand};

use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

#[derive(Subcommand)]
pub(crate) enum Forge {
    /// The forges that are listened to, and what was asked in pull requests lately
    List(List),
    /// Ask a forge what our token may do; nothing is written there
    Check(Check),
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Check {
    /// The forge's name in forges.toml.
    name: String,
    #[command(flatten)]
    remote: Remote,
}

impl Forge {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::List(List { remote }) => {
                let forges: Forges = remote.client()?.get("/api/v1/forges").await?;
                if remote.json {
                    ui::json(&forges)?;
                } else {
                    ui::line(&told(&forges));
                }
                Ok(Exit::Ok)
            }
            Self::Check(Check { name, remote }) => {
                let path = format!("/api/v1/forges/{name}/check");
                let checked: Checked = remote.client()?.post(&path, &()).await?;
                if remote.json {
                    ui::json(&checked)?;
                } else {
                    for tried in &checked.tried {
                        let sign = if tried.ok { "ok  " } else { "FAIL" };
                        ui::line(&format!("{sign}  {}: {}", tried.what, tried.message));
                    }
                }
                Ok(if checked.tried.iter().all(|tried| tried.ok) { Exit::Ok } else { Exit::Fail })
            }
        }
    }
}

fn told(all: &Forges) -> String {
    if all.forges.is_empty() {
        return "no forge is set up; write forges.toml into the data folder and start the control plane again"
            .to_owned();
    }
    let mut lines = Vec::new();
    for forge in &all.forges {
        let (calls, budget) = forge.calls_per_hour;
        let (hot, quiet) = forge.every_s;
        lines.push(format!("{} ({}) {}", forge.name, forge.kind, forge.address));
        lines.push(format!("  listens to   {}", forge.repositories.join(", ")));
        lines.push(format!("  who may ask  {}", forge.who_may));
        lines.push(format!("  asks         every {hot} s to {quiet} s, {calls} an hour of {budget}"));
        for image in &forge.images {
            lines.push(format!("  a push asks  for image {image}"));
        }
        for trouble in &forge.troubles {
            lines.push(format!("  TROUBLE      {}", trouble.message));
        }
    }
    if !all.asked.is_empty() {
        lines.push(String::new());
    }
    for asked in &all.asked {
        let who = asked.author.as_deref().unwrap_or("somebody who is gone");
        let outcome = asked.outcome.as_deref().unwrap_or("being looked at");
        lines.push(format!(
            "{}  {}#{}  {who}: {}  → {outcome}",
            asked.heard_at.rfc3339(),
            asked.repository,
            asked.pull,
            asked.said
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use assay_api::forges::{Asked, Forge as Shown, Trouble};
    use assay_model::Micros;

    use super::*;

    #[test]
    fn it_says_what_is_listened_to_and_what_was_asked() {
        let forge = Shown {
            name: "coop".to_owned(),
            kind: "forgejo".to_owned(),
            address: "https://git.example.org".to_owned(),
            repositories: vec!["apps/wiki".to_owned(), "apps/shop".to_owned()],
            who_may: "members of apps".to_owned(),
            trusted: None,
            webhooks: "none".to_owned(),
            every_s: (30, 30),
            calls_per_hour: (240, 7200),
            asked_last_hour: (120, 120),
            troubles: vec![Trouble {
                repository: None,
                message: "git.example.org cannot be reached".to_owned(),
                since: Micros(0),
            }],
            images: vec!["node of infra/images".to_owned()],
        };
        let asked = Asked {
            forge: "coop".to_owned(),
            repository: "apps/wiki".to_owned(),
            pull: 12,
            page: None,
            author: Some("alice".to_owned()),
            said: "!testme --quick".to_owned(),
            heard_at: Micros::seconds(1_795_363_200),
            outcome: Some("run 41".to_owned()),
            tries: 0,
            run: Some(41),
        };
        insta::assert_snapshot!(told(&Forges { forges: vec![forge], asked: vec![asked] }), @"
        coop (forgejo) https://git.example.org
          listens to   apps/wiki, apps/shop
          who may ask  members of apps
          asks         every 30 s to 30 s, 240 an hour of 7200
          a push asks  for image node of infra/images
          TROUBLE      git.example.org cannot be reached

        2026-11-22T16:00:00.000Z  apps/wiki#12  alice: !testme --quick  → run 41
        ");
        assert!(told(&Forges::default()).starts_with("no forge is set up"));
    }
}
