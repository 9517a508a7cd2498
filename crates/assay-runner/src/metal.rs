//! Following an installation on a physical machine: its console is read in a task of its own, and what is to be done or
//! was brought comes out as [`News`].
//!
//! A runner that was restarted follows anew from what the console has said since the machine was switched on. What was
//! brought before is brought again, and a medium that was ejected is ejected already.

use std::time::Duration;

use assay_pipelines::image::bench::metal::{Installation, News};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::console::{AGAIN, PAUSE, Source};

/// News that may wait to be taken. Whoever does not take them for long slows the reading down, and loses nothing.
const WAITING: usize = 256;

/// A machine that is followed. Nobody follows it any more once this is dropped.
pub(crate) struct Followed {
    news: mpsc::Receiver<News>,
    ejected: mpsc::Sender<Result<(), String>>,
    reading: JoinHandle<()>,
}

/// Follows an installation on its console; `opened` is the console, or why there is none.
pub(crate) fn follow(opened: Result<Source, String>, installation: Installation) -> Followed {
    let (tell, news) = mpsc::channel(WAITING);
    let (ejected, answers) = mpsc::channel(1);
    let reading = Reading { installation, began: Instant::now(), tell, answers };
    Followed { news, ejected, reading: tokio::spawn(reading.read(opened)) }
}

impl Followed {
    /// The next news; [`News::Over`] is the last. May be dropped and called again. After [`News::Eject`],
    /// [`Followed::ejected`] must be called before anything else comes.
    pub(crate) async fn next(&mut self) -> News {
        self.news.recv().await.unwrap_or(News::Over)
    }

    /// What became of ejecting the medium.
    pub(crate) async fn ejected(&self, outcome: Result<(), String>) {
        // Nobody asks any more when the reading is over.
        let _ = self.ejected.send(outcome).await;
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

struct Reading {
    installation: Installation,
    began: Instant,
    tell: mpsc::Sender<News>,
    answers: mpsc::Receiver<Result<(), String>>,
}

impl Reading {
    async fn read(mut self, opened: Result<Source, String>) {
        let mut source = match opened {
            Ok(source) => source,
            Err(why) => {
                let news = self.installation.give_up(self.now(), &why);
                self.told(news).await;
                return;
            }
        };
        let mut bytes = Vec::new();
        let mut known = String::new();
        while !self.installation.is_over() {
            let news = match source.read(&mut bytes).await {
                Ok(()) if bytes.is_empty() => {
                    let due = self.installation.deadline().saturating_sub(self.now());
                    sleep(due.clamp(Duration::from_millis(10), PAUSE)).await;
                    let now = self.now();
                    self.installation.tick(now)
                }
                Ok(()) => {
                    let now = self.now();
                    self.installation.heard(now, &bytes)
                }
                Err(problem) => {
                    if problem != known {
                        warn!("a machine's console cannot be read: {problem}; trying again");
                        known.clone_from(&problem);
                    }
                    let now = self.now();
                    let news = self.installation.lost(now, &problem);
                    if news.is_empty() {
                        sleep(AGAIN).await;
                    }
                    news
                }
            };
            if !self.told(news).await {
                return;
            }
        }
    }

    /// Whether anybody still listens.
    async fn told(&mut self, mut news: Vec<News>) -> bool {
        while !news.is_empty() {
            let mut more = Vec::new();
            for one in news {
                let eject = one == News::Eject;
                if self.tell.send(one).await.is_err() {
                    return false;
                }
                if eject {
                    let Some(outcome) = self.answers.recv().await else { return false };
                    let now = self.now();
                    more.extend(self.installation.ejected(now, outcome));
                }
            }
            news = more;
        }
        true
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
#[path = "metal_tests.rs"]
mod tests;
