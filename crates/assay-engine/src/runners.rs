//! Intake from runners: claims, orders, outcomes.

use std::sync::Arc;

use assay_model::event::{PowerAction, RunCreated};
use assay_model::host::order::IperfServer;
use assay_model::{EventBody, RunId, RunState, RunView, Sha256, text};
use assay_store::{Changes, Write};

use crate::indoors;
use crate::install::{self, Following, Open};
use crate::live::Offer;
use crate::outside::{self, Reading};
use crate::{Engine, EngineError, secret};

/// What a runner is to do for a run. Pure, read off the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Switch power.
    Power {
        /// Names the job.
        job: String,
        /// What.
        action: PowerAction,
    },
    /// Read the machine's serial console.
    Read(Reading),
    /// Look at an image for a stage that needs no machine.
    Look(Open),
    /// Follow an installation on the machine.
    Install(Following),
    /// Nothing now.
    Wait,
    /// The run is over.
    End,
}

/// The runner's next order for a run.
pub fn order(run: &RunView) -> Order {
    if run.status.sealed {
        return Order::End;
    }
    // Only the latest request counts: an older one that was never answered is overtaken, and
    // switching a machine on that was just switched off for good would be worse than doing nothing.
    let latest = run.power.last().filter(|p| p.outcome.is_none());
    let over = run.state().is_terminal() || run.state() == RunState::Cancelling;
    match latest {
        Some(p) if p.action == PowerAction::Off || !over => {
            Order::Power { job: p.job.clone(), action: p.action }
        }
        _ => {
            let read = outside::reading(run).map(Order::Read);
            let look = || install::looking(run).map(Order::Look);
            let follow = || install::following(run).map(Order::Install);
            read.or_else(look).or_else(follow).unwrap_or(Order::Wait)
        }
    }
}

/// More speed servers than a run is given.
const MAX_SPEED_SERVERS: usize = 64;

/// How many network speed servers a run wants: one for each port that its spec expects, or that it is registered
/// with.
pub fn speed_servers(created: &RunCreated) -> u32 {
    let expected = created
        .host_spec()
        .and_then(|spec| spec.get("nics"))
        .and_then(|nics| nics.as_array())
        .map_or(0, Vec::len);
    let wanted = expected.max(created.macs.len()).clamp(1, MAX_SPEED_SERVERS);
    u32::try_from(wanted).unwrap_or(1)
}

/// A run, given to a runner.
pub struct Given {
    /// The run.
    pub run: Arc<RunView>,
    /// The token that the runner names it with; the one before is void.
    pub token: String,
    /// Where the runner does the work itself: the credential of the run's agent, which it is from now on.
    pub agent: Option<String>,
}

impl Engine {
    /// A run for this runner that it does not hold yet, with a fresh token; the token before it is
    /// void. `None` when there is nothing.
    pub async fn grant(&self, runner: &str, holding: &[RunId]) -> Result<Option<Given>, EngineError> {
        for run in self.store.open_views().await? {
            let id = run.id;
            let mine = run.runner.as_deref() == Some(runner) && run.state() != RunState::Queued;
            if !mine || holding.contains(&id) {
                continue;
            }
            if !run.created.has_machine() && run.state() == RunState::Cancelling {
                // Its runner asks for work and has not got it any more: nobody is left who could do anything in it.
                self.live.set_off(id, true);
                self.wake.notify_one();
                continue;
            }
            let token = secret();
            let given = Write::RunnerToken { hash: Sha256::of(token.as_bytes()), runner: runner.to_owned() };
            let mut agent = None;
            let committed = self
                .transact(id, |fresh| {
                    let mut changes = Changes::default();
                    // What is over, or about to be, needs nobody who works on it.
                    let over = fresh.state().is_terminal() || fresh.state() == RunState::Cancelling;
                    if !fresh.created.has_machine() && !over {
                        let (enrolled, credential) = indoors::take_up(fresh, runner);
                        (changes, agent) = (enrolled, Some(credential));
                    }
                    changes.writes.push(given);
                    Ok(changes)
                })
                .await?;
            if agent.is_some() {
                self.taken_up(&committed.view).await?;
            }
            return Ok(Some(Given { run: committed.view, token, agent }));
        }
        Ok(None)
    }

    /// Says that a runner waits for work; undone when the guard is dropped.
    pub fn waiting(&self, runner: &str, power: &[String]) -> Waiting {
        self.offering(runner, Offer { power: power.iter().cloned().collect(), ..Offer::default() })
    }

    /// As [`Self::waiting`], for a runner that declares its capacity, too.
    pub fn offering(&self, runner: &str, offer: Offer) -> Waiting {
        self.live.runner_waits(runner, offer);
        self.wake.notify_one();
        Waiting { engine: self.clone(), runner: runner.to_owned() }
    }

    /// The run that a runner's token is good for.
    pub async fn runner(&self, token: &str) -> Result<Option<RunId>, EngineError> {
        let found = self.store.runner_by_token(Sha256::of(token.as_bytes())).await?;
        Ok(found.map(|(run, _)| run))
    }

    /// What became of a power job. Said again, it changes nothing.
    pub async fn power_done(
        &self,
        run: RunId,
        job: String,
        ok: bool,
        message: &str,
    ) -> Result<(), EngineError> {
        let message = text::clean_to(message, 1000);
        self.transact(run, |fresh| match fresh.power.iter().find(|p| p.job == job) {
            None => Err(EngineError::NotFound(format!("power job {job}"))),
            Some(known) if known.outcome.is_some() || fresh.status.sealed => Ok(Changes::default()),
            Some(_) => {
                let events = vec![EventBody::PowerDone { job, ok, message }];
                Ok(Changes { events, writes: Vec::new() })
            }
        })
        .await
        .map(drop)
    }

    /// What stands ready for the run. Said again, it changes nothing; said otherwise, the last one counts.
    pub async fn services_ready(&self, run: RunId, mut iperf: Vec<IperfServer>) -> Result<(), EngineError> {
        iperf.truncate(MAX_SPEED_SERVERS);
        self.transact(run, |fresh| {
            if fresh.status.sealed || fresh.iperf == iperf {
                return Ok(Changes::default());
            }
            let events = vec![EventBody::ServicesReady { iperf }];
            Ok(Changes { events, writes: Vec::new() })
        })
        .await
        .map(drop)
    }
}

/// While this lives, the runner counts as waiting for work.
pub struct Waiting {
    engine: Engine,
    runner: String,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.engine.live.runner_left(&self.runner);
    }
}
