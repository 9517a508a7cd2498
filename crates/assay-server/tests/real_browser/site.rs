//! A real server over a filled store, behind a cable.

use std::net::{Ipv4Addr, SocketAddr};

use assay_engine::Engine;
use assay_model::RunId;
use assay_model::event::EventBody;
use assay_store::Changes;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cable::Cable;
use crate::common::open;

/// Everything that a browser may look at, and what stands behind it.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) cable: Cable,
    pub(crate) setup_code: Option<String>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
    _data: tempfile::TempDir,
}

impl Site {
    /// A server whose store was filled before anything in it could move.
    pub(crate) async fn start<T>(password: Option<&str>, fill: impl AsyncFnOnce(&Engine) -> T) -> (Self, T) {
        let data = tempfile::tempdir().expect("a folder");
        let server = open(data.path(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), password).await;
        let cable = Cable::to(server.addresses().expect("bound").operators).await;
        let engine = server.app().engine.clone();
        let setup_code = server.setup_code().await;
        let filled = fill(&engine).await;
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(async { drop(stopped.await) }));
        (Self { engine, cable, setup_code, stop, serving, _data: data }, filled)
    }

    /// The address of a page, as the browser sees it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.cable.near)
    }

    /// What happens now in a run, all at once: the dispatcher sees nothing half done.
    pub(crate) async fn now(&self, run: RunId, events: Vec<EventBody>) {
        let changes = Changes { events, writes: Vec::new() };
        let done = self.engine.store().transact(run, self.engine.now(), |_| Ok::<_, String>(changes)).await;
        done.expect("may happen");
    }

    /// Source and text of every log line in the store, in its order.
    pub(crate) async fn log(&self, run: RunId) -> Vec<String> {
        let chunks = self.engine.store().log_after(run, 0, 10_000).await.expect("reads");
        chunks.iter().flat_map(|c| &c.lines).map(|l| format!("{}: {}", l.source, l.text)).collect()
    }

    /// Every reading in the store, oldest first: microseconds and the values to three places.
    pub(crate) async fn readings(&self, run: RunId) -> Vec<String> {
        let batches = self.engine.store().sensor_batches(run, None, 10_000).await.expect("reads");
        let mut samples: Vec<_> = batches.iter().flat_map(|b| &b.batch.samples).collect();
        samples.sort_by_key(|s| s.at);
        let value = |v: &Option<f64>| v.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"));
        let line = |values: &[Option<f64>]| values.iter().map(value).collect::<Vec<_>>().join(" ");
        samples.iter().map(|s| format!("{} {}", s.at.0, line(&s.values))).collect()
    }

    /// Stops the server; a failure of its own is a failure of the test.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.serving.await.expect("no panic").expect("stops");
    }
}
