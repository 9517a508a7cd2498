//! The runner's work: claim runs, follow each one's orders until it ends.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assay_api::runner::{Claim, ConsoleOrder, Done, Grant, InstallOrder, Order, Services};
use assay_model::event::PowerAction;
use assay_model::{Pipeline, RunId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::capacity::for_benches;
use crate::client::{Client, ClientError};
use crate::console::{self, Progress};
use crate::power::Power;
use crate::{Machines, RunnerError, Settings, images, install, metal, recipes};

/// Pause after the control plane could not be reached.
const AWAY: Duration = Duration::from_secs(1);
/// How often it is asked beside a reading whether anybody still waits for it.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Asks for runs for ever and works on each beside the others.
pub(crate) async fn claim_forever(
    settings: &Settings,
    client: &Client,
    machines: Option<&Arc<Machines>>,
) -> Result<(), RunnerError> {
    let mut power = machines.map_or_else(Vec::new, |machines| machines.power.methods());
    let mut capacity = settings.capacity.clone();
    let benches =
        [(settings.benches.is_some(), images::METHOD), (settings.recipes.is_some(), recipes::METHOD)];
    for (_, method) in benches.into_iter().filter(|(has, _)| *has) {
        power.push(method.to_owned());
        capacity = for_benches(&capacity);
    }
    if settings.recipes.as_ref().is_some_and(recipes::Recipes::has_machines) {
        power.push(recipes::MACHINE.to_owned());
    }
    let holding: Arc<Mutex<BTreeSet<RunId>>> = Arc::default();
    // Dropped with this future, and with it the machines that it has.
    let mut work = JoinSet::new();
    let mut was_away = false;
    loop {
        let claim = Claim {
            name: settings.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            holding: lock(&holding).iter().copied().collect(),
            power: power.clone(),
            capacity: capacity.clone(),
        };
        match client.claim(&claim).await {
            Ok(None) => was_away = false,
            Ok(Some(grant)) => {
                was_away = false;
                info!(run.number = grant.number, host = grant.host, "took run {}", grant.number);
                let run = grant.run;
                lock(&holding).insert(run);
                let (client, holding) = (client.clone(), Arc::clone(&holding));
                let (machines, settings) = (machines.cloned(), settings.clone());
                work.spawn(async move {
                    match (&grant.agent, &machines) {
                        (Some(agent), _) if grant.pipeline == Pipeline::Recipe => {
                            recipes::work(&settings, &client, &grant, agent).await;
                        }
                        (Some(agent), _) => images::work(&settings, &grant, agent).await,
                        (None, Some(machines)) => Box::pin(follow(&client, machines, grant)).await,
                        // What is being cancelled is given back without a word.
                        (None, None) if grant.pipeline == Pipeline::Recipe => {}
                        (None, None) => {
                            warn!(
                                run.number = grant.number,
                                "the run needs a machine, and none boots from here"
                            );
                            tokio::time::sleep(AWAY).await;
                        }
                    }
                    lock(&holding).remove(&run);
                });
                while work.try_join_next().is_some() {}
            }
            Err(ClientError::Away(why)) => {
                if !was_away {
                    warn!("{why}; trying again");
                }
                was_away = true;
                tokio::time::sleep(AWAY).await;
            }
            Err(refused @ ClientError::Refused { .. }) => {
                return Err(RunnerError::Server(format!(
                    "the control plane refuses this runner: {refused}; check --token"
                )));
            }
        }
    }
}

/// Follows one run's orders until it is over or its token is void.
async fn follow(client: &Client, machines: &Machines, grant: Grant) {
    let Machines { provision, power, speed } = machines;
    if let Err(problem) = provision.allow(grant.run, grant.macs.clone()).await {
        warn!(run.number = grant.number, "netboot cannot be opened for the run: {problem}");
    }
    let mut stays = String::new();
    let mut untold = Some(Services { iperf: speed.open(grant.run, grant.speed_servers).await });
    loop {
        // Not told: tried again with every order; a machine takes longer to boot than a control plane.
        if let Some(services) = &untold {
            match client.services(&grant.token, services).await {
                Err(ClientError::Away(_)) => {}
                Err(problem) if problem.is_void() => {}
                Err(problem) => {
                    warn!(run.number = grant.number, "the speed servers are not wanted: {problem}");
                    untold = None;
                }
                Ok(()) => untold = None,
            }
        }
        let order = client.next(&grant.token).await;
        // Nobody follows what was inserted, say because the machine could not be switched on: it would install by itself.
        if let Ok(order) = &order
            && !wants_medium(order)
            && let Some((job, medium)) = power.inserted(grant.run)
        {
            let out = power.eject(grant.run, &job, &grant.power, &medium).await;
            // Tried with every order, and said once.
            if !out.ok && out.message != stays {
                warn!(run.number = grant.number, "the medium may still be in the machine: {}", out.message);
                stays = out.message;
            }
        }
        match order {
            Ok(Order::Wait) => {}
            Ok(Order::End) => break,
            Ok(Order::Power { job, action, medium }) => {
                let outcome = power.once(grant.run, &job, &grant.power, action, medium.as_ref()).await;
                let done = Done { job, ok: outcome.ok, message: outcome.message };
                // Not told: the order comes again, and the remembered outcome is told then.
                if let Err(problem) = client.done(&grant.token, &done).await {
                    warn!(run.number = grant.number, "{problem}");
                    tokio::time::sleep(AWAY).await;
                }
            }
            Ok(Order::Read(order)) => listen(client, power, &grant, &order).await,
            Ok(Order::Look(order)) => install::look_at(client, power.digests(), &grant, &order).await,
            // Rare, and larger than all the others together.
            Ok(Order::Install(order)) => Box::pin(installation(client, power, &grant, &order)).await,
            Err(problem) if problem.is_void() => {
                info!(run.number = grant.number, "the run was given anew; this token is void");
                return;
            }
            Err(_) => tokio::time::sleep(AWAY).await,
        }
    }
    info!(run.number = grant.number, "run {} is over", grant.number);
    power.forget(grant.run);
    speed.close(grant.run).await;
    if let Err(problem) = provision.forbid(grant.run).await {
        warn!(run.number = grant.number, "netboot cannot be closed for the run: {problem}");
    }
}

/// Whether a medium stays in the machine for this.
const fn wants_medium(order: &Order) -> bool {
    matches!(order, Order::Power { action: PowerAction::Medium, .. } | Order::Install(_))
}

/// Follows an installation until nobody waits for it any more, and leaves no medium behind.
async fn installation(client: &Client, power: &Power, grant: &Grant, order: &InstallOrder) {
    info!(run.number = grant.number, "following the installation of {}", order.job);
    let progress = Progress::default();
    let (tell, told) = mpsc::channel(order.stages.len().max(1));
    let reading = metal::read(power, grant, order, tell, &progress);
    if !install::follow(client, grant, order, told, reading, || progress.words()).await {
        return;
    }
    let out = power.eject(grant.run, &order.job, &grant.power, &order.medium).await;
    if !out.ok {
        warn!(
            run.number = grant.number,
            "the medium stays in the machine; eject it by hand: {}", out.message
        );
    }
}

/// Reads a console until it has said what it has to say, or until nobody waits for it any more.
async fn listen(client: &Client, power: &Power, grant: &Grant, order: &ConsoleOrder) {
    info!(run.number = grant.number, "reading the console for {} (try {})", order.stage, order.attempt);
    let opened = power.console(grant.run, &order.job, &grant.power).await;
    let progress = Progress::default();
    let mut reading = std::pin::pin!(console::read(opened, order, &progress));
    let mut told = String::new();
    let mut tick = tokio::time::interval(LOOK_UP);
    let read = loop {
        tokio::select! {
            read = &mut reading => break read,
            _ = tick.tick() => {}
        }
        let words = progress.words();
        if words != told && client.step(&grant.token, words.clone()).await.is_ok() {
            told = words;
        }
        match client.next(&grant.token).await {
            Ok(Order::Read(now)) if now.attempt == order.attempt && now.stage == order.stage => {}
            // Not reached: it may still want what is read here.
            Err(ClientError::Away(_)) => {}
            Ok(_) | Err(ClientError::Refused { .. }) => return,
        }
    };
    // Not told: the order comes again, and what is on the console is read again from its beginning.
    if let Err(problem) = client.console(&grant.token, &read).await {
        warn!(run.number = grant.number, "{problem}");
        tokio::time::sleep(AWAY).await;
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
