//! Collects `Join`: what the stand-in control plane saw of the machine.

use assay_model::Micros;
use assay_standin::{Outcome, PushKind, StandIn};

use super::reconcile::Revisions;
use super::{Brought, Test, brought, seconds};
use crate::image::evidence::{Deregistered, Joined, Registration};
use crate::image::profile::{JoinBy, JoinSpec};

/// Zeros, as Git writes the commit that is none.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

impl Test {
    /// Waits beside the running machine until it has joined, where it is to; then takes down what was seen. Machines
    /// that are installed later for other reasons do not count.
    pub(super) async fn watch_join(&mut self, progress: &(dyn Fn(&str) + Sync)) -> Result<(), String> {
        let Some(join) = self.profile().join.clone() else { return Ok(()) };
        let (Some(standin), Some(machine)) = (&self.standin, &mut self.machine) else {
            return Err("there is no control plane".to_owned());
        };
        if join.joins {
            progress("waiting for the machine to join");
            let limit = join.within.0.mul_f64(self.stretch);
            // The machine is heard all the while, or it would have to wait for its console.
            tokio::select! {
                _ = standin.wait_for(limit, |ledger| (!ledger.joins.is_empty()).then_some(())) => {}
                gone = machine.wait_for_off(limit) => {
                    gone?;
                }
            }
        }
        self.joined = Some(self.seen(&join).await?);
        Ok(())
    }

    /// What was seen up to now.
    async fn seen(&self, join: &JoinSpec) -> Result<Joined, String> {
        let Some(standin) = &self.standin else { return Err("there is no control plane".to_owned()) };
        let ledger = standin.ledger();
        let at = |at: Micros| seconds(self.began, at);
        let mut registrations = Vec::new();
        match join.by {
            JoinBy::Git => {
                for push in ledger.pushes.iter().filter(|push| push.outcome == Outcome::Applied) {
                    if push.kind == PushKind::Delete || push.new == NO_COMMIT {
                        continue;
                    }
                    let branch =
                        push.reference.strip_prefix("refs/heads/").unwrap_or(&push.reference).to_owned();
                    let last = push.commits.last();
                    let paths: Vec<(String, String)> = push
                        .commits
                        .iter()
                        .flat_map(|commit| &commit.files)
                        .map(|file| (file.path.clone(), file.status.to_string()))
                        .collect();
                    let payload = match paths.iter().find(|(_, what)| what != "D") {
                        Some((path, _)) => {
                            standin.read(&push.new, path).await.map_err(|error| error.to_string())?
                        }
                        None => None,
                    };
                    let pull_request = ledger.pulls.iter().any(|pull| pull.head == branch);
                    registrations.push(Registration {
                        at: at(push.at),
                        by: "git".to_owned(),
                        branch,
                        author: last
                            .map(|c| format!("{} <{}>", c.author.name, c.author.email))
                            .unwrap_or_default(),
                        message: last.map(|c| c.message.clone()).unwrap_or_default(),
                        paths,
                        payload: payload.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
                        pull_request,
                        schema_problems: Vec::new(),
                        leaks: Vec::new(),
                    });
                }
            }
            JoinBy::Http => {
                for taken in &ledger.registrations {
                    registrations.push(Registration {
                        at: at(taken.at),
                        by: "http".to_owned(),
                        branch: String::new(),
                        author: String::new(),
                        message: String::new(),
                        paths: Vec::new(),
                        payload: Some(taken.text.clone()),
                        pull_request: false,
                        schema_problems: Vec::new(),
                        leaks: Vec::new(),
                    });
                }
            }
        }
        let schema = self.schema(join)?;
        for one in &mut registrations {
            let Some(payload) = &one.payload else { continue };
            one.leaks = self.secrets.within(payload.as_bytes());
            if let Some(schema) = &schema {
                one.schema_problems = against(schema, payload);
            }
        }
        let orphans = standin.orphans().await.map_err(|error| error.to_string())?;
        let spec = self.machine_spec(self.machines, false);
        Ok(Joined {
            registrations,
            joins: ledger.joins.iter().map(|join| (join.name.clone(), at(join.at))).collect(),
            orphans: orphans.into_iter().map(|orphan| orphan.branch).collect(),
            installed_at: None,
            up_at: self.up_at.map(at),
            deregistered: None,
            macs: spec.nics.iter().map(|nic| nic.mac.to_string()).collect(),
            began: self.began.rfc3339(),
            ended: self.settings.clock.now().rfc3339(),
            ledger: serde_json::to_value(&ledger).unwrap_or_default(),
        })
    }

    pub(super) async fn join(&mut self, progress: &(dyn Fn(&str) + Sync)) -> Result<Brought, String> {
        let Some(join) = self.profile().join.clone() else { return Ok(Brought::default()) };
        let Some(mut joined) = self.joined.clone() else {
            return Err("nothing was seen of the machine's registration".to_owned());
        };
        joined.installed_at = self.success_at;
        if let (Some(standin), Some(one), JoinBy::Git) =
            (&self.standin, joined.registrations.first(), join.by)
            && one.pull_request
        {
            progress("merging, and taking it out again");
            let (trip, revisions) = round_trip(standin, &join, &one.branch, one).await;
            joined.deregistered = Some(trip);
            self.revisions = revisions;
        }
        let ledger = serde_json::to_vec_pretty(&joined.ledger).unwrap_or_default();
        brought(&joined, vec![("control-plane.json".to_owned(), ledger)])
    }

    fn schema(&self, join: &JoinSpec) -> Result<Option<serde_json::Value>, String> {
        let Some(name) = &join.schema else { return Ok(None) };
        let path = self.spec.folder.join(name);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map(Some).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// Into the tree and out again; and the commits of both, where it came that far.
async fn round_trip(
    standin: &StandIn,
    join: &JoinSpec,
    branch: &str,
    one: &Registration,
) -> (Deregistered, Option<Revisions>) {
    let mut out = Deregistered { merged: false, left: Vec::new(), problem: None };
    let merged = match standin.merge(branch).await {
        Ok(merged) => merged.commit,
        Err(error) => {
            out.problem = Some(error.to_string());
            return (out, None);
        }
    };
    out.merged = true;
    let Some((path, _)) = one.paths.first() else { return (out, None) };
    // `maintainers/OPERATOR/cluster-nodes/HOST/node.yaml`: the host is the folder that the file is in.
    let host = path.rsplit('/').nth(1).unwrap_or_default().to_owned();
    let mut revisions = Revisions { host: host.clone(), merged, removed: None };
    match standin.deregister(&join.operator, &host).await {
        Ok(done) => revisions.removed = Some(done.merged.commit),
        Err(error) => out.problem = Some(error.to_string()),
    }
    if revisions.removed.is_some() {
        match standin.tree().await {
            Ok(files) => {
                let paths = files.into_iter().map(|file| file.path);
                out.left = paths.filter(|path| path.contains(&host)).collect();
            }
            Err(error) => out.problem = Some(error.to_string()),
        }
    }
    (out, Some(revisions))
}

/// Where a payload does not fit a schema.
fn against(schema: &serde_json::Value, payload: &str) -> Vec<String> {
    let Ok(value) = serde_saphyr::from_str::<serde_json::Value>(payload) else { return Vec::new() };
    match jsonschema::validator_for(schema) {
        Ok(validator) => validator
            .iter_errors(&value)
            .take(20)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect(),
        Err(error) => vec![format!("the schema cannot be used: {error}")],
    }
}
