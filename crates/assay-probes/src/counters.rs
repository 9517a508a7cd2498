//! What a machine counts about itself, read around every stage: memory errors, machine checks, PCI Express errors,
//! throttling, network errors, the management controller's log, the kernel's messages.
//!
//! Nothing here is allowed to hold a stage up: files that hang and tools that hang are given up on, and said so.

mod kernel;
mod sysfs;
#[cfg(test)]
mod tests;

use std::thread;
use std::time::Duration;

use assay_model::host::counters::{BmcLog, Counters};
use tokio::sync::oneshot;
use tokio::time::timeout;

pub(crate) use self::sysfs::nic;
use crate::{Machine, bmc_sensors};

/// Longest that all files together may take. A sick device can block a read for ever.
const FILES_LIMIT: Duration = Duration::from_secs(15);

/// Reads everything. With `since`, the kernel's messages and the controller's records are those after that reading.
pub async fn counters(machine: &Machine, since: Option<&Counters>) -> Counters {
    let mut counters = from_files(machine, since).await;
    match bmc_sensors::log(machine, since.and_then(|before| before.bmc.as_ref())).await {
        Ok(log) => counters.bmc = log,
        Err(problem) => {
            // That there is a controller is known all the same: the last reading stands, so that nothing seems to
            // have begun anew.
            counters.bmc = since.and_then(|before| before.bmc.as_ref()).map(|log| BmcLog {
                last: log.last.clone(),
                new: Vec::new(),
                restarted: false,
            });
            counters.problems.push(problem);
        }
    }
    counters
}

/// Has corrected machine checks collected often enough that they are seen in the stage in which they happen: the
/// kernel otherwise asks processors that cannot interrupt for it every five minutes.
pub fn watch_machine_checks(machine: &Machine) {
    sysfs::watch_machine_checks(machine);
}

async fn from_files(machine: &Machine, since: Option<&Counters>) -> Counters {
    let last_message = since.and_then(|before| before.kernel.as_ref()).map(|log| log.last);
    let (told, answer) = oneshot::channel();
    let machine = machine.clone();
    // A thread of its own: the runtime would wait for its blocking threads when it ends.
    let started = thread::Builder::new().name("counters".to_owned()).spawn(move || {
        let mut counters = sysfs::read(&machine);
        counters.kernel = kernel::read(&machine, last_message);
        // Nobody may be waiting any more: then the reading is not wanted.
        let _ = told.send(counters);
    });
    let read = match started {
        Ok(_) => timeout(FILES_LIMIT, answer).await.ok().and_then(Result::ok),
        Err(_) => None,
    };
    read.unwrap_or_else(|| Counters {
        problems: vec![format!(
            "the machine's counters could not be read within {} s; a device hangs",
            FILES_LIMIT.as_secs()
        )],
        ..Counters::default()
    })
}
