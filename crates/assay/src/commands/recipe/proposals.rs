//! `assay recipe proposals`: newer images than those that a recipe pins, and what its next release needs; data for bots.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use assay_pipelines::recipe::bench::whole_name;
use assay_recipe::Recipe;
use assay_recipe::proposals::{ImageProposal, Item, Known, Pinned, Proposals, State, Step, Task};
use assay_registry::{ImageCache, Reference};
use clap::Args;
use futures::StreamExt as _;

use crate::commands::registries::RegistryArgs;
use crate::exit::Exit;
use crate::ui;

/// What a registry may take for the tags of one image.
const LIMIT: Duration = Duration::from_mins(2);
/// Images that are asked about at once.
const AT_ONCE: usize = 4;

#[derive(Args)]
pub(crate) struct Propose {
    /// The recipe's folder: a checkout, so that its releases can be looked at.
    #[arg(default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    registries: RegistryArgs,
    /// One JSON object to stdout.
    #[arg(long)]
    json: bool,
}

impl Propose {
    pub(crate) async fn run(self) -> Result<Exit> {
        let recipe = Recipe::open(&self.folder)?;
        let known = Known::of(&recipe).await;
        let cache = self.registries.cache()?;
        let asked = known.pinned.iter().map(|pinned| tags(cache.as_ref(), pinned));
        let told: Vec<_> = futures::stream::iter(asked).buffered(AT_ONCE).collect().await;
        let proposals = known.proposals(told);
        if self.json {
            ui::json(&proposals)?;
        } else {
            print(&proposals);
        }
        // Whoever could not be asked leaves the question open.
        let open = proposals.images.iter().any(|image| image.problem.is_some());
        Ok(if open { Exit::NoResult } else { Exit::Ok })
    }
}

async fn tags(cache: Option<&ImageCache>, pinned: &Pinned) -> Result<Vec<String>, String> {
    // Told by whoever puts it together.
    if pinned.untagged().is_some() {
        return Ok(Vec::new());
    }
    let Some(cache) = cache else { return Err("no registry was asked (--no-registries)".to_owned()) };
    let name = whole_name(&format!("{}:{}", pinned.image, pinned.tag));
    let reference: Reference = name.parse().map_err(|error| format!("{error}"))?;
    ui::say(&format!("asking for the tags of {}", pinned.image));
    cache.tags(&reference, LIMIT).await.map_err(|error| error.to_string())
}

fn print(proposals: &Proposals) {
    let or = |version: &Option<String>, none: &str| version.clone().unwrap_or_else(|| none.to_owned());
    ui::line(&format!(
        "{}: its label says {}, the last release is {}",
        proposals.recipe,
        or(&proposals.version, "no version"),
        or(&proposals.last_release, "not known"),
    ));
    if !proposals.newer_releases.is_empty() {
        ui::line(&format!("what is checked out is behind {}", proposals.newer_releases.join(", ")));
    }
    let rows: Vec<Vec<String>> = proposals
        .images
        .iter()
        .flat_map(|image| {
            let row = |step: &str, tag: &str, next: &str| {
                vec![pinned_as(image), image.services.join(", "), step.into(), tag.into(), next.into()]
            };
            let next = image.next_versions.iter().map(String::as_str).chain(std::iter::repeat("-"));
            match &image.problem {
                Some(problem) => vec![row("?", problem, "-")],
                None if image.newer.is_empty() => vec![row("-", "nothing newer", "-")],
                None => image
                    .newer
                    .iter()
                    .zip(next)
                    .map(|(newer, next)| row(word(newer.step), &newer.tag, next))
                    .collect(),
            }
        })
        .collect();
    ui::table(&["IMAGE", "SERVICES", "STEP", "NEWER", "RECIPE THEN"], &rows);
    let state = |state| match state {
        State::Done => "done",
        State::Todo => "to do",
        State::Unknown => "not known",
    };
    let row = |item: &Item| vec![task(item.task).into(), state(item.state).into(), item.what.clone()];
    let rows: Vec<Vec<String>> = proposals.checklist.iter().map(row).collect();
    ui::table(&["NEXT RELEASE", "STATE", "WHAT"], &rows);
}

const fn task(task: Task) -> &'static str {
    match task {
        Task::VersionLabel => "version label",
        Task::ConfigVersions => "config versions",
        Task::ReleaseNotes => "release notes",
        Task::NewSettings => "new settings",
        Task::Lint => "lint",
        Task::AnnotatedTag => "annotated tag",
    }
}

/// An image as it is written; a digest by its beginning.
fn pinned_as(image: &ImageProposal) -> String {
    let tag = if image.tag.is_empty() { String::new() } else { format!(":{}", image.tag) };
    let digest = image.digest.as_deref().and_then(|digest| digest.get(..19));
    let digest = digest.map(|digest| format!("@{digest}…")).unwrap_or_default();
    format!("{}{tag}{digest}", image.image)
}

const fn word(step: Step) -> &'static str {
    match step {
        Step::Rebuild => "rebuild",
        Step::Patch => "patch",
        Step::Minor => "minor",
        Step::Major => "major",
    }
}
