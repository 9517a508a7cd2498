//! What all connections of one stand-in share.

use std::{
    fs,
    os::unix::fs::FileTypeExt as _,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use assay_model::Micros;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Event, FaultId, FaultUse, RouteClass, api::Devices, auth::Tokens, book::Book, fault::Faults,
    git::Repository, tls::Tls, workspace::Workspace,
};

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) repository: Repository,
    pub(crate) book: Book,
    pub(crate) tokens: Tokens,
    pub(crate) faults: Faults,
    pub(crate) devices: Devices,
    pub(crate) tls: Option<Tls>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) connections: Semaphore,
    pub(crate) pushed_bytes: AtomicU64,
    pub(crate) next_request: AtomicU64,
    /// Socket files to remove at the end.
    pub(crate) sockets: Mutex<Vec<PathBuf>>,
    pub(crate) workspace: Workspace,
}

impl State {
    pub(crate) fn now(&self) -> Micros {
        self.config.now()
    }

    pub(crate) fn request_id(&self) -> u64 {
        self.next_request.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn struck(&self, (id, effect): (FaultId, crate::Effect), route: RouteClass, request: u64) {
        self.book.record(Event::Fault(FaultUse { at: self.now(), id, effect, route, request }));
    }

    /// Removes what is on disk. Nothing happens the second time.
    pub(crate) fn clean(&self) {
        for socket in self.sockets.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Somebody may have put something else there since.
            if fs::symlink_metadata(&socket).is_ok_and(|meta| meta.file_type().is_socket()) {
                let _ = fs::remove_file(&socket);
            }
        }
        self.workspace.remove();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.clean();
    }
}
