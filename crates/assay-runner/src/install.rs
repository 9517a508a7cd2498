//! Following an installation on a machine: its console is read through all stages in one go, and each stage's evidence is
//! handed over when the control plane has come as far.
//!
//! The medium goes out with the installer's own word that it is done, and in any case when nobody waits for it any more:
//! a medium that stays in would be installed from again.

use std::collections::BTreeMap;
use std::time::Duration;

use assay_api::runner::{Grant, InstallOrder, LookOrder, Order, StageRead, Try};
use assay_model::StageName;
use assay_pipelines::image::ImageSpec;
use assay_pipelines::image::bench::{Brought, Digests, look};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::client::{Client, ClientError};

/// How often it is asked beside the reading what is waited for.
const LOOK_UP: Duration = Duration::from_secs(2);
/// Pause after the control plane could not be reached.
const AWAY: Duration = Duration::from_secs(1);

/// What came of each stage so far, or why nothing could.
pub(crate) type Told = (StageName, Result<Brought, String>);

/// Looks at the image for a stage that needs no machine.
pub(crate) async fn look_at(client: &Client, digests: &Digests, grant: &Grant, order: &LookOrder) {
    let stage = &order.open.stage;
    info!(run.number = grant.number, "looking at the image for {stage} (try {})", order.open.attempt);
    let brought = match ImageSpec::of(&order.spec) {
        Ok(spec) => look(&spec, stage.as_str(), digests).await,
        Err(problem) => Err(problem),
    };
    hand_over(client, grant, &order.open, &brought).await;
}

/// Follows one session until the last of its stages was handed over, or until nobody waits for it any more. `reading` is
/// the console being read; it says what came of each stage through `told`. Says whether the session is over; it is not where
/// the run was given anew, and whoever has it now goes on with it.
pub(crate) async fn follow(
    client: &Client,
    grant: &Grant,
    first: &InstallOrder,
    mut told: mpsc::Receiver<Told>,
    reading: impl Future<Output = Result<(), String>>,
    progress: impl Fn() -> String,
) -> bool {
    let mut reading = std::pin::pin!(reading);
    let mut over: Option<String> = None;
    let mut brought: BTreeMap<StageName, Result<Brought, String>> = BTreeMap::new();
    let mut now = first.clone();
    let (mut said, mut tick) = (String::new(), tokio::time::interval(LOOK_UP));
    loop {
        if let Some(open) = &now.open {
            // What was read is over, and this stage is not in it: nobody will bring it any more.
            let nothing = over.clone().map(Err);
            if let Some(came) = brought.get(&open.stage).cloned().or(nothing)
                && hand_over(client, grant, open, &came).await
                && first.stages.last() == Some(&open.stage)
            {
                return true;
            }
        }
        tokio::select! {
            Some((stage, came)) = told.recv() => {
                brought.insert(stage, came);
            }
            ended = &mut reading, if over.is_none() => {
                // What it has told last may still be on its way.
                while let Ok((stage, came)) = told.try_recv() {
                    brought.insert(stage, came);
                }
                over = Some(match ended {
                    Ok(()) => "the reading of the console ended before this stage".to_owned(),
                    Err(problem) => problem,
                });
            }
            _ = tick.tick() => {}
        }
        let words = progress();
        if words != said && client.step(&grant.token, words.clone()).await.is_ok() {
            said = words;
        }
        match client.next(&grant.token).await {
            Ok(Order::Install(order)) if order.job == first.job => now = order,
            // Not reached: it may still want what is read here.
            Err(ClientError::Away(_)) => {}
            Ok(_) => return true,
            Err(problem @ ClientError::Refused { .. }) => return !problem.is_void(),
        }
    }
}

/// Whether the control plane has taken it. Not told: the order comes again.
async fn hand_over(client: &Client, grant: &Grant, open: &Try, came: &Result<Brought, String>) -> bool {
    let (evidence, problem, files) = match came {
        Ok(brought) => (brought.evidence.clone(), None, brought.artifacts.clone()),
        Err(problem) => (serde_json::Value::Null, Some(problem.clone()), Vec::new()),
    };
    let texts = files.into_iter().map(|(name, bytes)| (name, String::from_utf8_lossy(&bytes).into_owned()));
    let Try { stage, attempt, generation, .. } = open.clone();
    let read = StageRead { stage, attempt, generation, evidence, problem, texts: texts.collect() };
    if let Err(problem) = client.evidence(&grant.token, &read).await {
        warn!(run.number = grant.number, "{problem}");
        tokio::time::sleep(AWAY).await;
        return false;
    }
    true
}
