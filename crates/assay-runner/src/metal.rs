//! Following an installation on a physical machine: its console is read in a task of its own, and what is to be done or
//! was brought comes out as [`News`].
//!
//! A runner that was restarted follows anew from what the console has said since the machine was switched on. What was
//! brought before is brought again, and a medium that was ejected is ejected already.

use std::time::Duration;

use assay_api::runner::{Grant, InstallOrder};
use assay_model::StageName;
use assay_model::event::PowerAction;
use assay_pipelines::image::ImageSpec;
use assay_pipelines::image::bench::Brought;
use assay_pipelines::image::bench::metal::{Following, Installation, News, StageBrought, followed};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::console::{AGAIN, PAUSE, Progress, Source};
use crate::install::Told;
use crate::power::Power;

/// News that may wait to be taken. Whoever does not take them for long slows the reading down, and loses nothing.
const WAITING: usize = 256;

/// Reads the console of an installation to its end. What came of each stage is told; the medium is ejected when the
/// installer has done its work and goes down. A machine whose medium stays in is switched off, before it installs once more.
///
/// # Errors
/// Why it cannot be followed at all.
pub(crate) async fn read(
    power: &Power,
    grant: &Grant,
    order: &InstallOrder,
    told: mpsc::Sender<Told>,
    progress: &Progress,
) -> Result<(), String> {
    let spec = ImageSpec::of(&order.spec)?;
    let (machine, emulated) = power.kind(&grant.power).await;
    let following = Following {
        stages: order.stages.iter().filter_map(|stage| followed(stage.as_str())).collect(),
        boot: Duration::from_secs(order.boot_s),
        stretch: 1.0,
        emulated,
        machine,
    };
    let installation = Installation::new(&spec.profile, following)?;
    let opened = power.console(grant.run, &order.job, &grant.power).await;
    let mut followed = follow(opened, installation);
    loop {
        match followed.next().await {
            News::Step(words) => progress.set(words),
            News::Eject => {
                let out = power.eject(grant.run, &order.job, &grant.power, &order.medium).await;
                if !out.ok {
                    warn!(
                        run.number = grant.number,
                        "the medium stays in, so the machine is switched off: {}", out.message
                    );
                    let job = format!("{}-stuck", order.job);
                    power.once(grant.run, &job, &grant.power, PowerAction::Off, None).await;
                }
                followed.ejected(if out.ok { Ok(()) } else { Err(out.message) }).await;
            }
            News::Brought(StageBrought { stage, evidence, texts }) => {
                let artifacts = texts.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
                let came = (StageName::from(stage), Ok(Brought { evidence, artifacts }));
                if told.send(came).await.is_err() {
                    return Ok(());
                }
            }
            News::Over => return Ok(()),
        }
    }
}

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
