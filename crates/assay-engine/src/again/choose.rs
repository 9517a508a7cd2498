//! Which targets are tested again, in which order, and why some are not.
//!
//! What was not tested for longest comes first. A recipe or an image is tested as it was last asked for: the control plane does
//! not see the runner's folders, so the latest whole run that was for no pull request is what says where it is and how it is
//! customised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use assay_model::compat::ComponentKind;
use assay_model::host::spec::HostSpec;
use assay_model::schedule::Again;
use assay_model::text::{clean_to, did_you_mean};
use assay_model::{HostId, Micros, Pipeline, RunState, RunView, TargetId};
use assay_pipelines::host;
use assay_store::{HostRow, RunFilter, RunRow};
use tokio::task::JoinSet;

use crate::queue::waiting::QUICK;
use crate::{Engine, EngineError, permits};

/// Runs of a target among which the one is looked for that says how it is to be tested, and when it was last tested.
const LOOKED_AT: u32 = 30;
/// Clusters that are asked at once.
const ASKED_AT_ONCE: usize = 8;
/// Longest reason that is kept.
const MAX_WHY: usize = 400;

/// What was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The targets, in the order in which they will be tested, those that will not be among them.
    pub chosen: Vec<Chosen>,
    /// What was asked for by a name that there is not, each in a sentence.
    pub unknown: Vec<String>,
}

/// A target that is to be tested again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Which.
    pub id: TargetId,
    /// Its name.
    pub name: String,
    /// When it was last tested to a verdict.
    pub last: Option<Micros>,
    /// Why it will not be tested, if so.
    pub against: Option<String>,
}

impl Engine {
    /// The targets that are to be tested again. Clusters are asked about their members where `ask` says so; each is asked once
    /// more before its machine is switched off.
    pub async fn choose(&self, again: &Again, ask: bool) -> Result<Choice, EngineError> {
        let mut unknown = Vec::new();
        let mut chosen = match again {
            Again::Hosts { names, labels, kinds, .. } => {
                let hosts = self.hosts_of(names, labels, kinds, &mut unknown).await?;
                self.hosts_chosen(hosts, ask).await?
            }
            Again::Recipes { names, folder } => {
                let known = self.known_targets(Pipeline::Recipe).await?;
                for name in names {
                    if !known.contains_key(name.as_str()) {
                        let then = "have it tested once with `assay recipe test --server`";
                        unknown.push(there_is_no("recipe", name, known.keys(), then));
                    }
                }
                let wanted = known.into_iter().filter(|(name, _)| names.is_empty() || names.contains(name));
                let mut chosen = Vec::new();
                for (name, runs) in wanted {
                    let template = self.template(&runs).await?;
                    let place = template.as_ref().and_then(|run| run.created.spec["folder"].as_str());
                    if let Some(folder) = folder
                        && !place.is_some_and(|place| std::path::Path::new(place).starts_with(folder))
                    {
                        continue;
                    }
                    chosen.push(known_target(name, &runs, template.as_deref()));
                }
                chosen
            }
            Again::Image { name } => {
                let known = self.known_targets(Pipeline::Image).await?;
                if let Some(runs) = known.get(name) {
                    vec![known_target(name.clone(), runs, self.template(runs).await?.as_deref())]
                } else {
                    let then = "have it tested once with `assay image test --server`";
                    unknown.push(there_is_no("image", name, known.keys(), then));
                    Vec::new()
                }
            }
        };
        // What was never tested is what is known least.
        chosen.sort_by(|a, b| (a.last, &a.name).cmp(&(b.last, &b.name)));
        Ok(Choice { chosen, unknown })
    }

    /// The run of a target that says how it is to be tested again.
    pub(super) async fn template_of(
        &self,
        pipeline: Pipeline,
        target: TargetId,
    ) -> Result<Option<Arc<RunView>>, EngineError> {
        let filter = RunFilter {
            target: Some(target),
            pipeline: Some(pipeline),
            limit: LOOKED_AT,
            ..RunFilter::default()
        };
        let runs = self.store.list_runs(filter).await?;
        self.template(&runs).await
    }

    /// The runs of every target of a pipeline that is known by its name alone, the newest first.
    async fn known_targets(&self, pipeline: Pipeline) -> Result<BTreeMap<String, Vec<RunRow>>, EngineError> {
        let mut known: BTreeMap<String, Vec<RunRow>> = BTreeMap::new();
        for row in self.store.latest_runs(pipeline, LOOKED_AT).await? {
            // An image's run on a registered host has that host as its target.
            if row.target_id == TargetId::named(pipeline, &row.target) {
                known.entry(row.target.clone()).or_default().push(row);
            }
        }
        Ok(known)
    }

    /// The newest that was for no pull request and spared nothing; the newest for no pull request otherwise. What a pull request
    /// says of itself is not what its recipe is tested with afterwards.
    async fn template(&self, runs: &[RunRow]) -> Result<Option<Arc<RunView>>, EngineError> {
        let mut any = None;
        for row in runs {
            let run = self.view(row.id).await?;
            if run.created.options.asked.pull_request.is_some() {
                continue;
            }
            if run.created.is_whole() && run.created.profile != QUICK {
                return Ok(Some(run));
            }
            any.get_or_insert(run);
        }
        Ok(any)
    }

    /// The hosts that are named, labelled so or of such a kind; all where nothing is said.
    async fn hosts_of(
        &self,
        names: &[String],
        labels: &[String],
        kinds: &[String],
        unknown: &mut Vec<String>,
    ) -> Result<Vec<HostRow>, EngineError> {
        let hosts = self.store.hosts().await?;
        if names.is_empty() && labels.is_empty() && kinds.is_empty() {
            return Ok(hosts);
        }
        for name in names {
            if !hosts.iter().any(|host| host.name == *name) {
                let known = hosts.iter().map(|host| &host.name);
                unknown.push(there_is_no("host", name, known, "see `assay host list`"));
            }
        }
        let labelled = self.store.host_labels().await?;
        let all: BTreeSet<&String> = labelled.values().flatten().collect();
        for label in labels {
            if !all.contains(label) {
                let then = "give it to hosts with `assay host label`";
                unknown.push(there_is_no("label", label, all.iter().copied(), then));
            }
        }
        let boards = if kinds.is_empty() { BTreeMap::new() } else { self.boards().await? };
        for kind in kinds {
            if !boards.values().any(|board| is_of(board, kind)) {
                let then =
                    "a host's kind is its main board, as a run has seen it: `assay matrix --kind board`";
                unknown.push(there_is_no("kind of machine", kind, boards.values(), then));
            }
        }
        let wanted = |host: &HostRow| {
            names.contains(&host.name)
                || labelled.get(&host.id).is_some_and(|has| labels.iter().any(|label| has.contains(label)))
                || boards.get(&host.id).is_some_and(|board| kinds.iter().any(|kind| is_of(board, kind)))
        };
        Ok(hosts.into_iter().filter(wanted).collect())
    }

    /// What the main boards of hosts are called, of those that any run has seen.
    async fn boards(&self) -> Result<BTreeMap<HostId, String>, EngineError> {
        let mut boards = BTreeMap::new();
        for seen in self.store.machines_last_seen().await? {
            let Ok(machine) = seen.machine else { continue };
            let board =
                machine.components.into_iter().find(|component| component.kind == ComponentKind::Board);
            if let Some(board) = board {
                boards.insert(HostId(seen.target.0), board.name);
            }
        }
        Ok(boards)
    }

    async fn hosts_chosen(&self, hosts: Vec<HostRow>, ask: bool) -> Result<Vec<Chosen>, EngineError> {
        let refused = if ask { self.refused_by_clusters(&hosts).await } else { BTreeMap::new() };
        let mut chosen = Vec::new();
        for host in hosts {
            let target = host.id.into();
            let filter = RunFilter { target: Some(target), limit: LOOKED_AT, ..RunFilter::default() };
            let runs = self.store.list_runs(filter).await?;
            let open = runs.iter().find(|run| !run.state.is_terminal());
            let busy = open.map(|run| format!("it is in run {} ({})", run.number, run.state));
            let vets = runs.iter().filter(|run| run.pipeline == Pipeline::Host);
            let last = last_tested(vets);
            let against = busy.or_else(|| refused.get(&host.id).cloned());
            chosen.push(Chosen { id: target, name: host.name, last, against });
        }
        Ok(chosen)
    }

    /// The hosts that their clusters do not let go, each with the reason.
    async fn refused_by_clusters(&self, hosts: &[HostRow]) -> BTreeMap<HostId, String> {
        let mut asking = JoinSet::new();
        let mut left = hosts.iter();
        let mut refused = BTreeMap::new();
        loop {
            while asking.len() < ASKED_AT_ONCE
                && let Some(host) = left.next()
            {
                let (engine, host) = (self.clone(), host.clone());
                asking.spawn(async move { (host.id, engine.may_be_taken(&host).await) });
            }
            match asking.join_next().await {
                Some(Ok((host, Err(why)))) => drop(refused.insert(host, why)),
                // It cannot panic; if it did, the machine is asked about again before it is switched off.
                Some(Ok((_, Ok(()))) | Err(_)) => {}
                None => return refused,
            }
        }
    }

    /// Whether a machine may be switched off without anybody there to look: its spec declares that it belongs to no cluster, or
    /// its cluster does not count on it now.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn may_be_taken(&self, host: &HostRow) -> Result<(), String> {
        let spec = match host.spec_yaml.trim() {
            "" => HostSpec::default(),
            yaml => HostSpec::from_yaml(yaml).map_err(|e| {
                // The rest of it draws the place.
                let said = e.to_string();
                clean_to(
                    &format!("its spec does not read: {}", said.lines().next().unwrap_or_default()),
                    MAX_WHY,
                )
            })?,
        };
        let guard = permits::ask_cluster(&spec, self.guard.as_ref()).await;
        match host::stands_against(&spec, &guard) {
            None => Ok(()),
            Some(finding) => {
                Err(clean_to(&format!("{guard} ({}). {}", finding.code, finding.next_step), MAX_WHY))
            }
        }
    }
}

fn known_target(name: String, runs: &[RunRow], template: Option<&RunView>) -> Chosen {
    let only_pulls = "all that is known of it are runs for pull requests; have it tested once by yourself";
    Chosen {
        id: runs.first().map_or_else(|| TargetId::named(Pipeline::Recipe, &name), |run| run.target_id),
        last: last_tested(runs.iter()),
        against: template.is_none().then(|| only_pulls.to_owned()),
        name,
    }
}

/// When the latest of these that came to a verdict ended.
fn last_tested<'a>(runs: impl Iterator<Item = &'a RunRow>) -> Option<Micros> {
    runs.filter(|run| run.state == RunState::Completed && run.result.is_some())
        .find_map(|run| run.completed_at)
}

/// Whether a board is of a kind.
fn is_of(board: &str, kind: &str) -> bool {
    board.to_lowercase().contains(&kind.to_lowercase())
}

fn there_is_no<'a>(what: &str, word: &str, known: impl Iterator<Item = &'a String>, then: &str) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let meant = did_you_mean(word, &known);
    let then = if meant.is_empty() { format!("; {then}") } else { meant };
    format!("there is no {what} `{}`{then}", clean_to(word, 64))
}
