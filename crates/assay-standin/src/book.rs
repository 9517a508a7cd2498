//! Keeps the ledger: one place where an event is recorded, told to whoever listens, and counted where there is no room.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::{broadcast, watch},
    time::timeout,
};

use crate::{Event, Ledger, StandInError};

/// Events held for a listener that is slower than they come.
const EVENTS_HELD: usize = 1024;
/// Kept free of the ledger's room for what requests leave behind, so that a full ledger still says what was refused.
const RESERVE: usize = 16;

#[derive(Debug)]
pub(crate) struct Book {
    inner: Mutex<Inner>,
    room: usize,
    version: watch::Sender<u64>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    used: usize,
}

impl Book {
    pub(crate) fn new(room: usize, ledger: Ledger) -> Self {
        let used = size_of_json(&ledger);
        Self {
            inner: Mutex::new(Inner { ledger, used }),
            room,
            version: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS_HELD),
        }
    }

    /// Whether there is room for something of about `bytes` more that must not be lost once it is done.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let used = self.lock().used;
        used.saturating_add(bytes.saturating_mul(2)) <= self.room - self.room / RESERVE
    }

    pub(crate) fn record(&self, event: Event) {
        self.record_if(|_| Some(event));
    }

    /// Records what `decide` makes of the ledger, with nothing recorded in between; returns it.
    pub(crate) fn record_if(&self, decide: impl FnOnce(&Ledger) -> Option<Event>) -> Option<Event> {
        let mut inner = self.lock();
        let event = decide(&inner.ledger)?;
        let size = size_of_json(&event);
        if inner.used.saturating_add(size) <= self.room {
            inner.used += size;
            inner.ledger.apply(&event);
        } else {
            inner.ledger.left_out += 1;
        }
        // Told while the ledger is held, so that listeners hear in the ledger's order. Nobody listening is no error.
        let _ = self.events.send(event.clone());
        self.version.send_modify(|version| *version = version.wrapping_add(1));
        Some(event)
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(crate) fn with<T>(&self, read: impl FnOnce(&Ledger) -> T) -> T {
        read(&self.lock().ledger)
    }

    /// Waits until `look` finds what it looks for. It is called once now and once after each event.
    pub(crate) async fn wait_for<T>(
        &self,
        limit: Duration,
        mut look: impl FnMut(&Ledger) -> Option<T>,
    ) -> Result<T, StandInError> {
        let mut version = self.version.subscribe();
        let found = async {
            loop {
                version.borrow_and_update();
                if let Some(found) = self.with(&mut look) {
                    return found;
                }
                if version.changed().await.is_err() {
                    // The sender lives in `self`.
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(limit, found).await.map_err(|_| {
            self.with(|ledger| StandInError::Waited {
                limit,
                requests: ledger.requests.len(),
                pushes: ledger.pushes.len(),
            })
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The room that something takes, without writing it.
fn size_of_json(what: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Plain data always serialises; if it did not, it would take all the room.
    serde_json::to_writer(&mut count, what).map_or(usize::MAX, |()| count.0)
}
