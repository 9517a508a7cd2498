//! Whether something died while the stack was up: between what was done to it, when nobody waits for it.

use super::Test;
use super::outcome::key;
use crate::recipe::evidence::Died;

/// The most that are told; an app that dies every second is told by ten of them.
const MOST: usize = 10;

impl Test {
    /// From here on, what ends by itself has died: the stack is up.
    pub(super) async fn take_mark(&mut self) {
        self.mark = None;
        let (Some(stand), Some(up)) = (&self.stand, &self.up) else { return };
        match stand.swarm().mark(&up.stack.name).await {
            Ok(mark) => self.mark = Some(mark),
            Err(error) => tracing::warn!(%error, "not watched for what dies from now on"),
        }
    }

    /// Takes down what has died since the mark, and goes on from there.
    pub(super) async fn note_deaths(&mut self) {
        let (Some(stand), Some(up), Some(mark)) = (&self.stand, &self.up, &self.mark) else { return };
        match stand.swarm().died_since(mark).await {
            Ok(deaths) if deaths.is_empty() => return,
            Ok(deaths) => {
                let room = MOST.saturating_sub(self.died.len());
                self.died.extend(deaths.into_iter().take(room).map(|death| Died {
                    service: key(&up.stack.name, &death.service),
                    during: self.during.clone(),
                    exit_code: death.exit_code,
                    oom_killed: death.oom_killed,
                    error: death.error,
                    last_words: death.last_words,
                }));
            }
            Err(error) => tracing::warn!(%error, "what died is not known"),
        }
        self.take_mark().await;
    }
}
