//! The machines' runner: it takes every run, and switching a machine on is starting its tasks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_api::runner::{Claim, Done, Grant, Order};
use assay_model::RunId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::machine::Machine;
use crate::{Fleet, Result};

/// How many machines may be between power and enrolment at once: nobody switches a thousand on in one second.
const BOOTING: usize = 32;
/// As long as the real runner asks.
const WAIT_S: u32 = 25;
/// The pause after a request that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Works until it is dropped.
pub(crate) struct Runner {
    machines: Arc<Mutex<Vec<Arc<Machine>>>>,
    _claiming: JoinSet<()>,
}

struct Work {
    fleet: Arc<Fleet>,
    machines: Arc<Mutex<Vec<Arc<Machine>>>>,
    booting: Semaphore,
}

impl Runner {
    /// A runner that has room for all of them.
    pub(crate) fn start(fleet: &Arc<Fleet>, join_token: &str, slots: usize) -> Self {
        let machines = Arc::default();
        let booting = Semaphore::new(BOOTING);
        let work = Arc::new(Work { fleet: Arc::clone(fleet), machines: Arc::clone(&machines), booting });
        let mut claiming = JoinSet::new();
        claiming.spawn(claim_forever(work, join_token.to_owned(), slots));
        Self { machines, _claiming: claiming }
    }

    /// The machines that have enrolled.
    pub(crate) fn machines(&self) -> Vec<Arc<Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn claim_forever(work: Arc<Work>, join_token: String, slots: usize) {
    let mut holding: Vec<RunId> = Vec::new();
    let mut following = JoinSet::new();
    loop {
        let claim = Claim {
            name: "bench".to_owned(),
            version: "0.1.0".to_owned(),
            holding: holding.clone(),
            power: vec!["manual".to_owned()],
            capacity: [("netboot".to_owned(), slots as u64)].into(),
        };
        let url = format!("{}/runner/v1/claim?wait_s={WAIT_S}", work.fleet.operators_url);
        match work.fleet.http.post(url).bearer_auth(&join_token).json(&claim).send().await {
            Ok(answer) if answer.status() == 200 => match answer.json::<Grant>().await {
                Ok(grant) => {
                    holding.push(grant.run);
                    following.spawn(follow(Arc::clone(&work), grant));
                }
                Err(problem) => eprintln!("bench: a grant does not read: {problem}"),
            },
            Ok(answer) if answer.status() == 204 => {}
            Ok(answer) => {
                eprintln!("bench: the claim was answered {}", answer.status());
                tokio::time::sleep(AGAIN).await;
            }
            Err(problem) => {
                eprintln!("bench: the claim failed: {problem}");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Asks for a run's orders as long as it lasts, as the real runner does.
async fn follow(work: Arc<Work>, grant: Grant) {
    let mut on = JoinSet::new();
    loop {
        match next(&work.fleet, &grant.token).await {
            Ok(Order::Wait) => {}
            Ok(Order::Read(_) | Order::Look(_) | Order::Install(_)) => {
                eprintln!("bench: {} has no console that could be read, and no medium", grant.host);
                tokio::time::sleep(AGAIN).await;
            }
            Ok(Order::End) => return,
            Ok(Order::Power { job, .. }) => {
                if let Err(problem) = switch(&work, &grant, job, &mut on).await {
                    eprintln!("bench: {} did not boot: {problem}", grant.host);
                    tokio::time::sleep(AGAIN).await;
                }
            }
            Err(problem) => {
                eprintln!("bench: no order for {}: {problem}", grant.host);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn next(fleet: &Fleet, token: &str) -> Result<Order> {
    let url = format!("{}/runner/v1/next?wait_s={WAIT_S}", fleet.operators_url);
    Ok(fleet.http.get(url).bearer_auth(token).send().await?.error_for_status()?.json().await?)
}

async fn switch(work: &Arc<Work>, grant: &Grant, job: String, on: &mut JoinSet<()>) -> Result<()> {
    let _slot = work.booting.acquire().await?;
    let url = format!("{}/runner/v1/done", work.fleet.operators_url);
    let done = Done { job, ok: true, message: "switched on".to_owned() };
    work.fleet.http.post(url).bearer_auth(&grant.token).json(&done).send().await?.error_for_status()?;

    let mac = *grant.macs.first().ok_or("a machine without an address")?;
    let url = format!("{}/boot/{mac}.ipxe", work.fleet.boot_url);
    let script = work.fleet.http.get(url).send().await?.error_for_status()?.text().await?;
    let machine = Arc::new(Machine::enrol(&work.fleet, &script, mac).await?);
    work.machines.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&machine));
    on.spawn(async move { machine.live().await });
    Ok(())
}
