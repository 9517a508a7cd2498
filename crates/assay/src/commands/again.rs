//! What is tested again, and what holds it back: what schedules and batches are asked for with.

use anyhow::{Result, bail, ensure};
use assay_api::again::{Batch, NewBatch, Plan};
use assay_model::host::order::Profile;
use assay_model::schedule::{Again, Limits, STOP_AFTER};
use assay_model::text::plural;
use clap::Args;

use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

/// Which hosts, and how.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "fleet", multiple = true)]
pub(crate) struct Hosts {
    /// All registered machines.
    #[arg(long)]
    pub(crate) all: bool,
    /// Those with this label (`assay host label`); may be given more than once.
    #[arg(long = "label", value_name = "LABEL", value_delimiter = ',')]
    pub(crate) labels: Vec<String>,
    /// Those whose main board is called so, as `assay matrix --kind board` names it, or has this in its name; may be given more
    /// than once.
    #[arg(long = "kind", value_name = "BOARD")]
    pub(crate) kinds: Vec<String>,
}

/// What holds a batch back.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// Most targets under test at once, held ones among them [default: 1 where hosts are vetted; otherwise only the queue's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) at_most: Option<u32>,
    /// Begin nothing more after so many failures; 0 never stops [default: 2 where hosts are vetted; otherwise never]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) pause_on_failures: Option<u32>,
}

impl Hosts {
    /// Whether any of it was given.
    pub(crate) const fn is_given(&self) -> bool {
        self.all || !self.labels.is_empty() || !self.kinds.is_empty()
    }

    pub(crate) fn again(&self, names: Vec<String>, profile: &str) -> Result<Again> {
        ensure!(
            !self.all || (names.is_empty() && self.labels.is_empty() && self.kinds.is_empty()),
            "either all of them, or those that are named, labelled or of a kind"
        );
        let profile: Profile = profile.parse()?;
        Ok(Again::Hosts { names, labels: self.labels.clone(), kinds: self.kinds.clone(), profile })
    }
}

impl Bounds {
    pub(crate) fn limits(self, again: &Again) -> Limits {
        let stop_after = match (self.pause_on_failures, again.is_hosts()) {
            (Some(0), _) | (None, false) => None,
            (None, true) => Some(STOP_AFTER),
            (given, _) => given,
        };
        Limits { at_most: self.at_most.or_else(|| again.is_hosts().then_some(1)), stop_after }
    }
}

/// Says what is wrong with a command line.
pub(crate) fn usage(problem: &anyhow::Error) -> Exit {
    ui::error(problem);
    Exit::Usage
}

/// Prints the plan, and begins it unless it is a dry run.
pub(crate) async fn begin(remote: &Remote, again: Again, bounds: Bounds, dry_run: bool) -> Result<Exit> {
    let limits = bounds.limits(&again);
    let client = remote.client()?;
    let new = NewBatch { again, limits: Some(limits) };
    let plan: Plan = client.post("/api/v1/batches/plan", &new).await?;
    if dry_run && remote.json {
        ui::json(&plan)?;
        return Ok(Exit::Ok);
    }
    if !remote.json {
        for line in plan_lines(&plan) {
            ui::line(&line);
        }
    }
    if dry_run {
        ui::say("nothing was begun");
        return Ok(Exit::Ok);
    }
    let batch: Batch = client.post("/api/v1/batches", &new).await?;
    if remote.json {
        ui::json(&batch)?;
    } else {
        let n = batch.number;
        ui::say(&format!(
            "batch {n} has begun; follow it with `assay batch show {n}`, stop it with `assay batch stop {n}`"
        ));
    }
    Ok(Exit::Ok)
}

/// The plan, for people.
fn plan_lines(plan: &Plan) -> Vec<String> {
    let limits = plan.limits.told();
    let limits = if limits.is_empty() { String::new() } else { format!("; {limits}") };
    let mut lines = vec![format!("{}{limits}", plan.does)];
    let width = plan.targets.iter().map(|target| target.name.chars().count()).max().unwrap_or(0);
    let mut place = 0;
    for target in &plan.targets {
        lines.push(if let Some(why) = &target.against {
            format!("   -  {:<width$}  left out: {why}", target.name)
        } else {
            place += 1;
            let last =
                target.last.map_or_else(|| "never tested".to_owned(), |at| format!("last {}", at.rfc3339()));
            format!("{place:>4}  {:<width$}  {last}", target.name)
        });
    }
    let left_out = plan.targets.len() - place;
    let rest = if left_out == 0 { String::new() } else { format!(", {left_out} left out") };
    lines.push(format!("{}{rest}", plural(place, "target")));
    lines
}

/// A span of time as people write it: `90s`, `30m`, `12h`, `2d`, or `0`.
pub(crate) fn span(text: &str) -> Result<u32, String> {
    parse_span(text).map_err(|e| e.to_string())
}

fn parse_span(text: &str) -> Result<u32> {
    let (number, unit) = match text.char_indices().find(|(_, c)| !c.is_ascii_digit()) {
        Some((at, _)) => text.split_at(at),
        None => (text, ""),
    };
    let times = match unit {
        "" if number == "0" => 1,
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => bail!("write a number and s, m, h or d: 30m, 12h; or 0"),
    };
    let seconds = number.parse::<u32>().ok().and_then(|n| n.checked_mul(times));
    match seconds {
        Some(seconds) => Ok(seconds),
        None => bail!("write a number and s, m, h or d: 30m, 12h; or 0"),
    }
}

#[cfg(test)]
mod tests {
    use assay_api::again::Planned;
    use assay_model::Micros;

    use super::*;

    #[test]
    fn a_plan_names_the_order_and_what_is_left_out() {
        let planned = |name: &str, last, against: Option<&str>| Planned {
            name: name.to_owned(),
            last,
            against: against.map(str::to_owned),
        };
        let plan = Plan {
            does: "vet all hosts (standard)".to_owned(),
            limits: Limits { at_most: Some(1), stop_after: Some(2) },
            targets: vec![
                planned("db-10", None, None),
                planned("db-2", None, Some("the cluster sees the node db-2 online (NodeIsLiveMember)")),
                planned("web-3", Some(Micros::seconds(86_400)), None),
            ],
        };
        insta::assert_snapshot!(plan_lines(&plan).join("\n"), @"
        vet all hosts (standard); 1 at once, stops after 2 failures
           1  db-10  never tested
           -  db-2   left out: the cluster sees the node db-2 online (NodeIsLiveMember)
           2  web-3  last 1970-01-02T00:00:00.000Z
        2 targets, 1 left out
        ");
    }

    #[test]
    fn limits_are_those_of_machines_only_where_machines_are_vetted() {
        let hosts = Hosts::default().again(Vec::new(), "quick").expect("reads");
        let recipes = Again::Recipes { names: Vec::new(), folder: None };
        let told = |bounds: Bounds, again: &Again| bounds.limits(again).told();
        assert_eq!(told(Bounds::default(), &hosts), "1 at once, stops after 2 failures");
        assert_eq!(told(Bounds::default(), &recipes), "");
        let bounds = Bounds { at_most: Some(3), pause_on_failures: Some(0) };
        assert_eq!((told(bounds, &hosts), told(bounds, &recipes)), ("3 at once".into(), "3 at once".into()));
        let both = Hosts { all: true, labels: vec!["rack7".to_owned()], kinds: Vec::new() };
        assert!(both.again(Vec::new(), "standard").is_err());
        assert!(Hosts::default().again(Vec::new(), "thorough").is_err());
    }

    #[test]
    fn spans_are_read_and_mistakes_are_named() {
        let read = ["0", "90s", "30m", "12h", "2d"].map(|text| span(text).expect("reads"));
        assert_eq!(read, [0, 90, 1800, 43_200, 172_800]);
        for bad in ["", "5", "h", "-1h", "1w", "1.5h", "9999999999s", "99999999d"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
