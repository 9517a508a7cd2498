//! File locks that are waited for without asking again and again.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::thread;

use tokio::sync::oneshot;

use crate::CacheError;

/// The lock of a file, which is made where there is none. It is let go of when the file is closed, however its holder ends.
///
/// # Errors
/// [`CacheError::Folder`].
pub(crate) async fn lock(path: &Path) -> Result<File, CacheError> {
    let failed = |source| CacheError::Folder { doing: "locking", path: path.to_owned(), source };
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
        Err(TryLockError::WouldBlock) => {}
    }
    tracing::info!(lock.path = %path.display(), "another command uses the cache of images; waiting for it");
    let (sender, receiver) = oneshot::channel();
    // A thread of its own: one of the runtime's would keep the program from ending.
    let waiting = thread::Builder::new().name("image-cache-lock".to_owned()).spawn(move || {
        let locked = file.lock().map(|()| file);
        // Where nobody waits any more, the file is closed, and the lock free.
        let _ = sender.send(locked);
    });
    waiting.map_err(failed)?;
    let locked =
        receiver.await.unwrap_or_else(|_| Err(io::Error::other("the thread that waited for it ended")));
    locked.map_err(failed)
}
