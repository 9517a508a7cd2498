//! `assay schedule`: what is tested again by itself, and when.

use std::path::PathBuf;

use anyhow::{Result, bail};
use assay_api::again::{NewSchedule, Schedule as Shown, ScheduleRule, Time};
use assay_model::schedule::{Again, Limits};
use clap::{Args, Subcommand};

use crate::commands::Remote;
use crate::commands::again::{Bounds, Hosts, span, usage};
use crate::exit::Exit;
use crate::ui;

#[derive(Subcommand)]
pub(crate) enum Schedule {
    /// Vet hosts, test recipes or test an image at set times
    Add(Box<Add>),
    /// All schedules, and when each begins next
    List(List),
    /// One schedule: its next times, and what became of the last ones
    Show(Named),
    /// Let it rest
    Pause(Named),
    /// Let it go on; what its rest left out stays left out
    Resume(Named),
    /// Do now what it does, out of turn
    Run(Named),
    /// Forget it; its batches and runs stay
    Remove(Named),
}

#[derive(Args)]
pub(crate) struct Add {
    /// Its name; its runs are asked for by `schedule NAME`.
    name: String,
    /// When: minute, hour, day of the month, month, day of the week. `0 3 * * 1-5` is every weekday at three.
    #[arg(long, value_name = "PATTERN")]
    cron: String,
    /// The time zone that this is read in, such as Europe/Berlin.
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// How long after its time it is caught up with, once, after nobody was there: 90s, 30m, 12h, 2d, or 0.
    #[arg(long, value_name = "SPAN", default_value = "12h", value_parser = span)]
    catch_up: u32,
    /// Over how long schedules of one time are spread.
    #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = span)]
    spread: u32,
    #[command(flatten)]
    what: What,
    /// Where hosts are vetted: quick, standard or burnin.
    #[arg(long, default_value = "standard")]
    profile: String,
    #[command(flatten)]
    bounds: Bounds,
    /// Change one that is there already.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    remote: Remote,
}

/// What is tested: hosts, recipes or an image.
#[derive(Args)]
struct What {
    #[command(flatten)]
    hosts: Hosts,
    /// Vet this host; may be given more than once.
    #[arg(long = "host", value_name = "NAME", value_delimiter = ',')]
    names: Vec<String>,
    /// Test every recipe that was ever tested there, each as it was last asked for.
    #[arg(long)]
    all_recipes: bool,
    /// Test this recipe as it was last asked for; may be given more than once.
    #[arg(long = "recipe", value_name = "NAME", value_delimiter = ',')]
    recipes: Vec<String>,
    /// Only recipes whose folder lies in this one, on the runner.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Test this image as it was last asked for: the name in its profile.
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Named {
    /// Its name.
    name: String,
    #[command(flatten)]
    remote: Remote,
}

impl Schedule {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::Add(add) => add.run().await,
            Self::List(List { remote }) => {
                let schedules: Vec<Shown> = remote.client()?.get("/api/v1/schedules").await?;
                if remote.json {
                    ui::json(&schedules)?;
                    return Ok(Exit::Ok);
                }
                if schedules.is_empty() {
                    ui::say(
                        "there is no schedule; add one with `assay schedule add nightly --cron '0 3 * * *' --all-recipes`",
                    );
                    return Ok(Exit::Ok);
                }
                let rows: Vec<_> = schedules.iter().map(row).collect();
                ui::table(&["SCHEDULE", "WHEN", "WHAT", "NEXT", "LAST"], &rows);
                Ok(Exit::Ok)
            }
            Self::Show(Named { name, remote }) => {
                let schedule: Shown = remote.client()?.get(&path(&name)).await?;
                print(&schedule, remote.json)
            }
            Self::Pause(named) => named.rule(&ScheduleRule::Pause).await,
            Self::Resume(named) => named.rule(&ScheduleRule::Resume).await,
            Self::Run(named) => named.rule(&ScheduleRule::Run).await,
            Self::Remove(Named { name, remote }) => {
                remote.client()?.delete(&path(&name)).await?;
                ui::say(&format!("{name} is forgotten; its batches and runs stay"));
                Ok(Exit::Ok)
            }
        }
    }
}

impl Add {
    async fn run(self) -> Result<Exit> {
        let again = match self.what.again(&self.profile) {
            Ok(again) => again,
            Err(problem) => return Ok(usage(&problem)),
        };
        let limits: Limits = self.bounds.limits(&again);
        let new = NewSchedule {
            name: self.name,
            cron: self.cron,
            zone: Some(self.zone),
            catch_up_s: Some(self.catch_up),
            spread_s: Some(self.spread),
            again,
            limits: Some(limits),
        };
        let client = self.remote.client()?;
        let schedule: Shown = if self.replace {
            client.put(&path(&new.name), &new).await?
        } else {
            client.post("/api/v1/schedules", &new).await?
        };
        print(&schedule, self.remote.json)
    }
}

impl What {
    fn again(&self, profile: &str) -> Result<Again> {
        let hosts = self.hosts.is_given() || !self.names.is_empty();
        let recipes = self.all_recipes || !self.recipes.is_empty();
        match (hosts, recipes, &self.image) {
            (true, false, None) if self.folder.is_none() => self.hosts.again(self.names.clone(), profile),
            (false, true, None) => {
                if self.all_recipes && !self.recipes.is_empty() {
                    bail!("either --all-recipes, or --recipe");
                }
                Ok(Again::Recipes { names: self.recipes.clone(), folder: self.folder.clone() })
            }
            (false, false, Some(name)) if self.folder.is_none() => Ok(Again::Image { name: name.clone() }),
            (_, false, _) if self.folder.is_some() => bail!("--folder goes with --all-recipes or --recipe"),
            (false, false, None) => {
                bail!(
                    "say what is tested: --all, --host, --label or --kind; --all-recipes or --recipe; or --image"
                )
            }
            _ => bail!("one schedule tests hosts, or recipes, or an image; write one for each"),
        }
    }
}

impl Named {
    async fn rule(self, rule: &ScheduleRule) -> Result<Exit> {
        let schedule: Shown = self.remote.client()?.post(&path(&self.name), rule).await?;
        print(&schedule, self.remote.json)
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/schedules/{name}")
}

fn row(schedule: &Shown) -> Vec<String> {
    let next = match (&schedule.problem, &schedule.paused, schedule.next.first()) {
        (Some(problem), ..) => problem.clone(),
        (None, Some(paused), _) => format!("paused by {}", paused.by),
        (None, None, Some(next)) => next.shown.clone(),
        (None, None, None) => "never".to_owned(),
    };
    vec![
        schedule.name.clone(),
        format!("{} {}", schedule.cron, schedule.zone),
        schedule.does.clone(),
        next,
        schedule.times.first().map_or_else(|| "never".to_owned(), time),
    ]
}

/// `batch 7: 12 of 40, 2 under way`.
fn time(time: &Time) -> String {
    match (time.batch, &time.progress) {
        (Some(batch), Some(progress)) => format!("batch {batch}: {progress}"),
        _ => time.note.clone(),
    }
}

fn print(schedule: &Shown, json: bool) -> Result<Exit> {
    if json {
        ui::json(schedule)?;
        return Ok(Exit::Ok);
    }
    for line in lines(schedule) {
        ui::line(&line);
    }
    Ok(Exit::Ok)
}

fn lines(schedule: &Shown) -> Vec<String> {
    let limits = schedule.limits.told();
    let limits = if limits.is_empty() { String::new() } else { format!("; {limits}") };
    let mut lines = vec![format!("schedule {}: {}{limits}", schedule.name, schedule.does)];
    if let Some(problem) = &schedule.problem {
        lines.push(format!("does nothing: {problem}"));
    }
    lines.push(format!("when    {} {}", schedule.cron, schedule.zone));
    if let Some(paused) = &schedule.paused {
        lines.push(format!("paused by {} since {}", paused.by, paused.since.rfc3339()));
    }
    for (place, next) in schedule.next.iter().enumerate() {
        let word = if place == 0 { "next" } else { "" };
        lines.push(format!("{word:<8}{}", next.shown));
    }
    for (place, one) in schedule.times.iter().enumerate() {
        let word = if place == 0 { "last" } else { "" };
        let kind = match (one.kind.as_str(), one.missed) {
            ("caught_up", 0) => " (caught up)".to_owned(),
            ("caught_up", n) => format!(" (caught up; {n} before it missed)"),
            ("missed", 0) => " (missed)".to_owned(),
            ("missed", n) => format!(" (missed, and {n} before it)"),
            ("asked", _) => " (out of turn)".to_owned(),
            _ => String::new(),
        };
        let batch = one.progress.as_ref().map(|_| format!("{}; ", time(one))).unwrap_or_default();
        lines.push(format!("{word:<8}{}{kind}: {batch}{}", one.due.rfc3339(), one.note));
    }
    lines
}

#[cfg(test)]
mod tests {
    use assay_api::again::{At, Paused};
    use assay_model::Micros;

    use super::*;

    fn schedule() -> Shown {
        let at = |hours: i64| At {
            at: Micros::seconds(hours * 3600),
            shown: format!("Thu 1 Jan {hours:02}:00:12 UTC"),
        };
        let time = |kind: &str, missed, batch: Option<i64>| Time {
            due: Micros::seconds(0),
            at: Micros::seconds(30),
            kind: kind.to_owned(),
            missed,
            batch,
            progress: batch.map(|_| "1 of 3, 1 under way".to_owned()),
            note: "3 targets".to_owned(),
        };
        Shown {
            name: "nightly".to_owned(),
            problem: None,
            cron: "0 3 * * *".to_owned(),
            zone: "Europe/Berlin".to_owned(),
            catch_up_s: 43_200,
            spread_s: 300,
            does: "test all known recipes".to_owned(),
            again: None,
            limits: Limits::default(),
            paused: None,
            created_by: "mara".to_owned(),
            created_at: Micros::seconds(0),
            next: vec![at(3), at(4)],
            times: vec![time("caught_up", 2, Some(7)), time("missed", 0, None)],
        }
    }

    #[test]
    fn a_schedule_says_when_it_is_next_and_what_became_of_its_last_times() {
        insta::assert_snapshot!(lines(&schedule()).join("\n"), @"
        schedule nightly: test all known recipes
        when    0 3 * * * Europe/Berlin
        next    Thu 1 Jan 03:00:12 UTC
                Thu 1 Jan 04:00:12 UTC
        last    1970-01-01T00:00:00.000Z (caught up; 2 before it missed): batch 7: 1 of 3, 1 under way; 3 targets
                1970-01-01T00:00:00.000Z (missed): 3 targets
        ");
        let paused = Paused { by: "mara".to_owned(), since: Micros::seconds(60) };
        let resting = Shown { paused: Some(paused), next: Vec::new(), times: Vec::new(), ..schedule() };
        assert_eq!(
            lines(&resting).last().map(String::as_str),
            Some("paused by mara since 1970-01-01T00:01:00.000Z")
        );
        assert_eq!(row(&resting)[3..], ["paused by mara", "never"]);
        assert_eq!(row(&schedule())[3..], ["Thu 1 Jan 03:00:12 UTC", "batch 7: 1 of 3, 1 under way"]);
    }

    #[test]
    fn one_schedule_tests_one_kind_of_thing() {
        let none = || What {
            hosts: Hosts::default(),
            names: Vec::new(),
            all_recipes: false,
            recipes: Vec::new(),
            folder: None,
            image: None,
        };
        let told = |what: What| what.again("quick").map(|again| again.told()).map_err(|e| e.to_string());
        let all = Hosts { all: true, ..Hosts::default() };
        assert_eq!(told(What { hosts: all.clone(), ..none() }), Ok("vet all hosts (quick)".to_owned()));
        assert_eq!(told(What { names: vec!["a".into()], ..none() }), Ok("vet a (quick)".to_owned()));
        let folder = Some(PathBuf::from("/r"));
        let recipes = What { all_recipes: true, folder: folder.clone(), ..none() };
        assert_eq!(told(recipes), Ok("test all known recipes in /r".to_owned()));
        assert_eq!(told(What { image: Some("node".into()), ..none() }), Ok("test image node".to_owned()));
        assert!(told(none()).expect_err("nothing").contains("say what is tested"));
        let both = What { hosts: all.clone(), all_recipes: true, ..none() };
        assert!(told(both).expect_err("two").contains("write one for each"));
        assert!(told(What { hosts: all, folder, ..none() }).expect_err("no recipes").contains("--folder"));
    }
}
