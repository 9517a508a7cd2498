//! A server process whose output is kept: all of it in a file, the end of it for the error message.

use std::{
    collections::VecDeque,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use assay_process::{Child, Cmd, Line};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{ApiServerError, in_folder};

/// Lines kept for the error message.
const LAST_WORDS: usize = 12;
/// The log ends here; a server that says more is in a loop. In bytes.
const LOG: usize = 64 << 20;

/// A process that was seen to serve.
#[derive(Debug)]
pub(super) struct Supervised {
    program: &'static str,
    child: Child,
    log: PathBuf,
    last_words: LastWords,
    reader: JoinHandle<()>,
}

/// Whether what was waited for came about, or how it did not.
pub(super) enum Waited<T> {
    Done(T),
    Not(String),
}

type LastWords = Arc<Mutex<VecDeque<String>>>;

impl Supervised {
    /// Starts a process and waits until one of its lines contains `marker`.
    pub(super) async fn start(
        program: &'static str,
        command: &Cmd,
        log: &Path,
        marker: &'static str,
        limit: Duration,
    ) -> Result<Self, ApiServerError> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).map_err(in_folder(log))?;
        let mut child = command.spawn().await?;
        let last_words = LastWords::default();
        let (seen, mut serves) = watch::channel(false);
        let reader = match child.take_lines() {
            Some(lines) => tokio::spawn(keep(lines, file, Arc::clone(&last_words), marker, seen)),
            None => tokio::spawn(async {}),
        };
        let mut this = Self { program, child, log: log.to_owned(), last_words, reader };
        let serving = async move { serves.wait_for(|seen| *seen).await.is_ok() };
        match this.unless_it_ends(limit, serving).await? {
            Waited::Done(true) => Ok(this),
            Waited::Done(false) => {
                // Its output is closed: it is ending.
                let how = this.how_it_ended().await?;
                Err(this.failed(how))
            }
            Waited::Not(how) => Err(this.failed(how)),
        }
    }

    /// Waits for something, but no longer than the process lives.
    pub(super) async fn unless_it_ends<T>(
        &mut self,
        limit: Duration,
        what: impl Future<Output = T>,
    ) -> Result<Waited<T>, ApiServerError> {
        tokio::select! {
            biased;
            value = what => Ok(Waited::Done(value)),
            how = self.how_it_ended() => Ok(Waited::Not(how?)),
            () = tokio::time::sleep(limit) => Ok(Waited::Not(format!("did not serve within {limit:?}"))),
        }
    }

    pub(super) fn failed(&self, how: String) -> ApiServerError {
        let kept = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let last_words = kept.iter().cloned().collect::<Vec<_>>().join("\n");
        ApiServerError::Start { program: self.program, how, log: self.log.clone(), last_words }
    }

    pub(super) async fn stop(&mut self, grace: Duration) -> Result<(), ApiServerError> {
        self.child.stop(grace).await?;
        Ok(())
    }

    /// Waits for its end and for all that it said until then.
    async fn how_it_ended(&mut self) -> Result<String, ApiServerError> {
        let status = self.child.wait_beside_lines().await?;
        // An error means that the reader was stopped: then there is nothing more to read, either.
        let _ = (&mut self.reader).await;
        Ok(format!("ended with {status} before it served"))
    }
}

async fn keep(
    mut lines: mpsc::Receiver<Line>,
    mut file: std::fs::File,
    last_words: LastWords,
    marker: &'static str,
    seen: watch::Sender<bool>,
) {
    let mut written = 0;
    while let Some(Line { text, .. }) = lines.recv().await {
        if written < LOG {
            written += text.len() + 1;
            // A full disk must not stop the server; its last words are kept in memory as well.
            let _ = writeln!(file, "{text}");
        }
        if text.contains(marker) {
            seen.send_replace(true);
        }
        let mut kept = last_words.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LAST_WORDS {
            kept.pop_front();
        }
        kept.push_back(text);
    }
}
