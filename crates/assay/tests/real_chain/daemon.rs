//! One side of the product as a process of its own, to be killed and started again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_process::{Child, Cmd, Detached, Signal};
use tokio::sync::watch;

/// How long a side may take until it serves.
const READY: Duration = Duration::from_mins(1);
/// How long it may take to stop.
const GRACE: Duration = Duration::from_secs(15);

/// A process that says when it is ready.
pub(crate) struct Daemon {
    name: &'static str,
    command: Cmd,
    /// What its line says when it serves.
    ready: &'static str,
    child: Option<Child>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    pub(crate) fn new(name: &'static str, command: Cmd, ready: &'static str) -> Self {
        Self { name, command, ready, child: None, said: Arc::default() }
    }

    /// Starts it and waits for its word.
    pub(crate) async fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let mut child = self.command.spawn().await.unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let mut lines = child.take_lines().expect("nobody has them");
        let (ready, mut when_ready) = watch::channel(false);
        let (said, word) = (Arc::clone(&self.said), self.ready);
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                if line.text.contains(word) {
                    ready.send_replace(true);
                }
                said.lock().unwrap_or_else(PoisonError::into_inner).push(line.text);
            }
        });
        // Kept from here on, so that it is stopped whatever happens next.
        self.child = Some(child);
        let served = tokio::time::timeout(READY, when_ready.wait_for(|ready| *ready)).await;
        assert!(matches!(served, Ok(Ok(_))), "the {} did not become ready: {:#?}", self.name, self.said());
    }

    /// SIGKILL, as the kernel's out-of-memory killer sends it, and nothing to what it has started.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.signal(Signal::KILL).expect("it can be killed");
        child.wait_beside_lines().await.expect("its end is seen");
    }

    /// Stops it in good order, if it runs. Works without the runtime that started it.
    pub(crate) async fn stop(&mut self) {
        let Some(child) = self.child.take() else { return };
        if let Ok(process) = Detached::of(child.pid()) {
            process.stop(GRACE).await.unwrap_or_else(|e| panic!("{}: {e}", self.name));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").pid()
    }

    /// Everything that it said, over all its lives.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many of its lines say `text`.
    pub(crate) fn times_said(&self, text: &str) -> usize {
        self.said().iter().filter(|line| line.contains(text)).count()
    }
}
