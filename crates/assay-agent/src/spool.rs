//! What has not been delivered yet: three lanes, each first in, first out.
//!
//! An item leaves its lane only when the control plane has acknowledged it (or refused it for good). Each is one
//! file, a JSON line that says what it is and then the body, written beside and renamed, so that a file that
//! exists is whole. The folder is a tmpfs in the live image: a crash of the agent loses nothing, a reboot loses all
//! of it, so nothing is ever synced to a disk. A lane that cannot write its file keeps the item in memory.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use assay_api::agent::{ArtifactQuery, Checkpoint};
use assay_model::StageName;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::Bounds;

/// Files of the spool that are not items.
const ACKED: &str = "acked";
const OWNER: &str = "owner";
const KERNEL: &str = "kernel";
const STAGES: &str = "stages";
const CHECKPOINT: &str = "checkpoint";

/// What an item is: the first line of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "snake_case")]
pub(crate) enum Header {
    /// The body is a [`assay_api::agent::Sensors`].
    Sensors,
    /// The body is a [`assay_api::agent::LogChunk`].
    Log,
    /// The body is the file.
    Artifact {
        /// What it is.
        query: ArtifactQuery,
    },
    /// The body is a [`assay_api::agent::StageResult`].
    Result {
        /// Which stage.
        stage: StageName,
        /// Which try.
        attempt: u32,
        /// Its fencing token.
        generation: i64,
    },
}

/// A try of a stage that this machine began, so that a restarted agent neither repeats what is finished nor
/// repeats for ever what ends the agent each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Try {
    pub(crate) stage: StageName,
    pub(crate) attempt: u32,
    pub(crate) starts: u32,
    pub(crate) done: bool,
}

/// An item, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Its number in the lane, from 1, without gaps.
    pub(crate) seq: i64,
    pub(crate) header: Header,
    pub(crate) body: Bytes,
}

/// The lane is full.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// All lanes.
pub(crate) struct Spool {
    dir: Option<PathBuf>,
    pub(crate) sensors: Lane,
    pub(crate) logs: Lane,
    /// Artifacts and results, in one order: a result never overtakes its artifacts.
    pub(crate) evidence: Lane,
}

/// One queue.
pub(crate) struct Lane {
    /// `sensors`, `logs` or `evidence`.
    pub(crate) name: &'static str,
    dir: Option<PathBuf>,
    bound: u64,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    last: i64,
    bytes: u64,
}

struct Waiting {
    seq: i64,
    size: u64,
    /// The whole item, where there is no folder or it could not be written.
    held: Option<Bytes>,
}

impl Spool {
    /// Opens the spool of an enrolment. What another enrolment left is removed: it would be taken for this one's.
    pub(crate) fn open(dir: Option<&Path>, owner: &str, bounds: Bounds) -> io::Result<Self> {
        if let Some(dir) = dir {
            fs::create_dir_all(dir)?;
            let mine = fs::read_to_string(dir.join(OWNER)).is_ok_and(|found| found == owner);
            if !mine {
                for name in ["sensors", "logs", "evidence", KERNEL, STAGES, CHECKPOINT] {
                    remove(&dir.join(name))?;
                }
                replace(&dir.join(OWNER), owner.as_bytes())?;
            }
        }
        let lane = |name, bound| Lane::open(name, dir.map(|dir| dir.join(name)), bound);
        Ok(Self {
            dir: dir.map(Path::to_owned),
            sensors: lane("sensors", bounds.sensors)?,
            logs: lane("logs", bounds.logs)?,
            evidence: lane("evidence", bounds.evidence)?,
        })
    }

    /// The number of the last kernel message that is in the spool or behind it.
    pub(crate) fn kernel_seq(&self) -> Option<u64> {
        self.recall(KERNEL)
    }

    pub(crate) fn set_kernel_seq(&self, seq: u64) {
        self.keep(KERNEL, &seq);
    }

    /// Which tries were begun, and how often each.
    pub(crate) fn stages(&self) -> Vec<Try> {
        self.recall(STAGES).unwrap_or_default()
    }

    pub(crate) fn set_stages(&self, tries: &[Try]) {
        self.keep(STAGES, &tries);
    }

    /// Where the last stage that saves checkpoints stands.
    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        self.recall(CHECKPOINT)
    }

    pub(crate) fn set_checkpoint(&self, checkpoint: &Checkpoint) {
        self.keep(CHECKPOINT, checkpoint);
    }

    fn recall<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.dir.as_ref()?.join(name)).ok()?).ok()
    }

    fn keep<T: Serialize>(&self, name: &str, value: &T) {
        let Some(dir) = &self.dir else { return };
        let content = serde_json::to_vec(value).expect("plain data");
        if let Err(error) = replace(&dir.join(name), &content) {
            tracing::warn!(%error, name, "the spool cannot be written; a restart of the agent would repeat work");
        }
    }

    /// How many items wait.
    pub(crate) fn len(&self) -> usize {
        [&self.sensors, &self.logs, &self.evidence].into_iter().map(Lane::len).sum()
    }

    /// Returns when nothing waits any more.
    pub(crate) async fn drained(&self) {
        for lane in [&self.sensors, &self.logs, &self.evidence] {
            lane.until(|inner| inner.waiting.is_empty().then_some(())).await;
        }
    }
}

impl Lane {
    fn open(name: &'static str, dir: Option<PathBuf>, bound: u64) -> io::Result<Self> {
        let inner = match &dir {
            Some(dir) => {
                fs::create_dir_all(dir)?;
                load(dir)?
            }
            None => Inner::default(),
        };
        Ok(Self { name, dir, bound, inner: Mutex::new(inner), changed: Notify::new() })
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Adds an item whose body may name its number. Refused when the lane is full.
    pub(crate) fn append(&self, header: &Header, body: impl FnOnce(i64) -> Vec<u8>) -> Result<i64, Full> {
        self.push(header, body, self.bound)
    }

    /// Adds an item even to a full lane: for what must not be lost and is small.
    pub(crate) fn append_always(&self, header: &Header, body: Vec<u8>) -> i64 {
        self.push(header, |_| body, u64::MAX).unwrap_or_default()
    }

    fn push(&self, header: &Header, body: impl FnOnce(i64) -> Vec<u8>, bound: u64) -> Result<i64, Full> {
        let mut inner = self.lock();
        let seq = inner.last + 1;
        let mut content = serde_json::to_vec(header).expect("a header is plain data");
        content.push(b'\n');
        content.append(&mut body(seq));
        let size = content.len() as u64;
        if inner.bytes.saturating_add(size) > bound {
            return Err(Full);
        }
        let written = self.dir.as_ref().is_some_and(|dir| {
            replace(&item_path(dir, seq), &content)
                .inspect_err(
                    |error| tracing::warn!(%error, "the spool cannot be written; kept in memory only"),
                )
                .is_ok()
        });
        inner.waiting.push_back(Waiting { seq, size, held: (!written).then(|| content.into()) });
        inner.last = seq;
        inner.bytes += size;
        drop(inner);
        self.changed.notify_waiters();
        Ok(seq)
    }

    /// The oldest item, as soon as there is one. It stays until [`Lane::remove`].
    pub(crate) async fn front(&self) -> Item {
        loop {
            let (seq, held) =
                self.until(|inner| inner.waiting.front().map(|first| (first.seq, first.held.clone()))).await;
            let content = match (held, &self.dir) {
                (Some(content), _) => Ok(content),
                (None, Some(dir)) => fs::read(item_path(dir, seq)).map(Bytes::from),
                (None, None) => Err(io::Error::other("it was never kept")),
            };
            match content.and_then(|content| decode(seq, &content)) {
                Ok(item) => return item,
                Err(error) => {
                    tracing::error!(%error, seq, "an item of the spool cannot be read back and is given up");
                    self.remove(seq);
                }
            }
        }
    }

    /// Forgets an item that was acknowledged, or refused for good.
    pub(crate) fn remove(&self, seq: i64) {
        let mut inner = self.lock();
        let Some(place) = inner.waiting.iter().position(|waiting| waiting.seq == seq) else {
            return;
        };
        if let Some(dir) = &self.dir {
            // The number first: should the agent end here, the item is known to be done.
            let removed = replace(&dir.join(ACKED), seq.to_string().as_bytes())
                .and_then(|()| fs::remove_file(item_path(dir, seq)));
            if let Err(error) = removed {
                tracing::debug!(%error, seq, "an acknowledged item could not be removed from the spool");
            }
        }
        if let Some(gone) = inner.waiting.remove(place) {
            inner.bytes -= gone.size;
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Everything that waits, without its body: for finding out after a restart what was finished before.
    pub(crate) fn headers(&self) -> Vec<Header> {
        let inner = self.lock();
        let Some(dir) = &self.dir else {
            return Vec::new();
        };
        inner
            .waiting
            .iter()
            .filter_map(|waiting| {
                let content = fs::read(item_path(dir, waiting.seq)).ok()?;
                Some(decode(waiting.seq, &Bytes::from(content)).ok()?.header)
            })
            .collect()
    }

    async fn until<T>(&self, mut ready: impl FnMut(&Inner) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(value) = ready(&self.lock()) {
                return value;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a file so that it is there whole or not at all (a crash of this process; not of the machine).
pub(crate) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let beside = file.with_extension("part");
    fs::write(&beside, content)?;
    fs::rename(&beside, file)
}

fn load(dir: &Path) -> io::Result<Inner> {
    let acked: i64 =
        fs::read_to_string(dir.join(ACKED)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let mut found: Vec<Waiting> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(seq) = name.to_str().and_then(|name| name.strip_suffix(".item")?.parse::<i64>().ok()) else {
            continue;
        };
        if seq <= acked {
            fs::remove_file(entry.path())?;
        } else {
            found.push(Waiting { seq, size: entry.metadata()?.len(), held: None });
        }
    }
    found.sort_unstable_by_key(|waiting| waiting.seq);
    let bytes = found.iter().map(|waiting| waiting.size).sum();
    let last = found.last().map_or(acked, |waiting| waiting.seq);
    Ok(Inner { waiting: found.into(), last, bytes })
}

fn decode(seq: i64, content: &Bytes) -> io::Result<Item> {
    let end =
        content.iter().position(|byte| *byte == b'\n').ok_or_else(|| io::Error::other("it has no header"))?;
    let header = serde_json::from_slice(&content[..end])?;
    Ok(Item { seq, header, body: content.slice(end + 1..) })
}

fn item_path(dir: &Path, seq: i64) -> PathBuf {
    dir.join(format!("{seq:010}.item"))
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use futures::FutureExt as _;

    use super::{Full, Header, Lane, Spool};
    use crate::Bounds;

    fn body(seq: i64) -> Vec<u8> {
        format!("body\n{seq}").into_bytes()
    }

    async fn take(lane: &Lane) -> (i64, Vec<u8>) {
        let item = lane.front().await;
        lane.remove(item.seq);
        (item.seq, item.body.to_vec())
    }

    #[tokio::test]
    async fn items_come_out_in_order_and_stay_until_removed() {
        let dir = tempfile::tempdir().expect("folder");
        for dir in [None, Some(dir.path())] {
            let spool = Spool::open(dir, "run 1", Bounds::default()).expect("opens");
            let lane = &spool.sensors;
            assert!(lane.front().now_or_never().is_none(), "nothing waits");
            for seq in 1..=3 {
                assert_eq!(lane.append(&Header::Sensors, body), Ok(seq));
            }
            assert_eq!((lane.front().await.seq, lane.front().await.seq, spool.len()), (1, 1, 3));
            assert!(spool.drained().now_or_never().is_none());
            for seq in 1..=3 {
                assert_eq!(take(lane).await, (seq, body(seq)));
            }
            spool.drained().await;
            lane.remove(2);
            assert_eq!(lane.append(&Header::Sensors, body), Ok(4), "numbers are never given twice");
        }
    }

    #[tokio::test]
    async fn a_new_process_goes_on_where_the_old_one_ended() {
        let dir = tempfile::tempdir().expect("folder");
        let spool = Spool::open(Some(dir.path()), "run 1", Bounds::default()).expect("opens");
        for _ in 0..3 {
            spool.logs.append(&Header::Log, body).expect("room");
        }
        spool.logs.remove(1);
        drop(spool);
        // Killed between writing and renaming, and between the two steps of an acknowledgement.
        fs::write(dir.path().join("logs/0000000004.part"), "{\"it").expect("written");
        fs::write(dir.path().join("logs/acked"), "2").expect("written");
        let spool = Spool::open(Some(dir.path()), "run 1", Bounds::default()).expect("opens");
        assert_eq!(take(&spool.logs).await, (3, body(3)));
        drop(spool);
        let spool = Spool::open(Some(dir.path()), "run 1", Bounds::default()).expect("opens");
        assert_eq!(spool.logs.append(&Header::Log, body), Ok(4), "the count survives an empty lane");
    }

    #[tokio::test]
    async fn another_enrolments_items_are_not_sent() {
        let dir = tempfile::tempdir().expect("folder");
        let spool = Spool::open(Some(dir.path()), "run 1 boot 1", Bounds::default()).expect("opens");
        spool.logs.append(&Header::Log, body).expect("room");
        let spool = Spool::open(Some(dir.path()), "run 1 boot 2", Bounds::default()).expect("opens");
        assert_eq!((spool.len(), spool.logs.append(&Header::Log, body)), (0, Ok(1)));
    }

    #[tokio::test]
    async fn a_full_lane_refuses_without_spending_a_number() {
        let bounds = Bounds { sensors: 60, ..Bounds::default() };
        let spool = Spool::open(None, "run 1", bounds).expect("opens");
        assert_eq!(spool.sensors.append(&Header::Sensors, body), Ok(1));
        assert_eq!(spool.sensors.append(&Header::Sensors, body), Ok(2));
        assert_eq!(spool.sensors.append(&Header::Sensors, body), Err(Full));
        assert_eq!(spool.sensors.append_always(&Header::Sensors, body(3)), 3);
        for _ in 0..3 {
            take(&spool.sensors).await;
        }
        assert_eq!(spool.sensors.append(&Header::Sensors, body), Ok(4));
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_costs_no_item() {
        let dir = tempfile::tempdir().expect("folder");
        let spool = Spool::open(Some(dir.path()), "run 1", Bounds::default()).expect("opens");
        fs::remove_dir_all(dir.path().join("sensors")).expect("removed");
        assert_eq!(spool.sensors.append(&Header::Sensors, body), Ok(1));
        assert_eq!(take(&spool.sensors).await, (1, body(1)));
    }
}
