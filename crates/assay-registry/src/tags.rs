//! Which tags a repository has. Asked of its registry each time; nothing of it is kept.

use std::time::Duration;

use crate::reference::Reference;
use crate::upstream::Upstream;
use crate::{BringError, BringFailure, ImageCache};

/// Tags that are read of one repository; the largest known ones have some ten thousand.
const MOST: usize = 50_000;

impl ImageCache {
    /// The tags of an image's repository, in the registry's order. The cache itself is neither opened nor changed.
    ///
    /// # Errors
    /// [`BringError`]; also where there are more tags than are read, since the newest may be among those that were not.
    pub async fn tags(&self, reference: &Reference, limit: Duration) -> Result<Vec<String>, BringError> {
        let failed = |class, message| BringError { reference: reference.to_string(), class, message };
        let settings = &self.inner.settings;
        let upstream = Upstream::of(reference, &settings.registries, &settings.credentials, &self.inner.http);
        let upstream = upstream.map_err(|trouble| failed(trouble.class, trouble.message))?;
        match tokio::time::timeout(limit, upstream.tags(MOST)).await {
            Err(_) => Err(failed(BringFailure::TimedOut, format!("its tags did not come within {limit:?}"))),
            Ok(Err(trouble)) => Err(failed(trouble.class, trouble.message)),
            Ok(Ok((_, true))) => Err(failed(
                BringFailure::Other,
                format!("it has more than {MOST} tags, and not all were read"),
            )),
            Ok(Ok((tags, false))) => Ok(tags),
        }
    }
}
