//! What a machine reports over its network: one line a connection, as FAI tells its monitor how far it is.
//!
//! Each connection to the port comes here through the relay. Its line becomes one event, whole, whatever the virtio port or
//! another connection says meanwhile; then the connection is closed, which is what the sender waits for.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::run::VmEvent;

/// The most bytes that one connection may say.
const LONGEST: usize = 4096;
/// How long it may take for that.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are read at a time; more wait.
const AT_A_TIME: usize = 16;

/// Takes connections until nobody wants the events any more.
pub(super) async fn listen(listener: UnixListener, to: mpsc::Sender<(Instant, VmEvent)>) {
    let mut readers = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        if readers.len() == AT_A_TIME {
            readers.join_next().await;
        }
        while readers.try_join_next().is_some() {}
        if to.is_closed() {
            return;
        }
        let to = to.clone();
        readers.spawn(async move {
            let Some(lines) = said(stream).await else { return };
            let _ = to.send((Instant::now(), VmEvent::Progress(lines))).await;
        });
    }
}

/// What a connection says up to the end of its line, with that end; what comes in the same piece counts as well. Nothing where
/// nothing was said.
async fn said(mut stream: UnixStream) -> Option<Vec<u8>> {
    let mut lines = Vec::new();
    let reading = async {
        let mut piece = [0; LONGEST];
        while lines.len() < LONGEST && !lines.contains(&b'\n') {
            match stream.read(&mut piece[..LONGEST - lines.len()]).await {
                Ok(count @ 1..) => lines.extend_from_slice(&piece[..count]),
                _ => break,
            }
        }
    };
    // Who hangs on without a word has said what it has said.
    let _ = timeout(PATIENCE, reading).await;
    if lines.last().is_some_and(|last| *last != b'\n') {
        lines.push(b'\n');
    }
    (!lines.is_empty()).then_some(lines)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    struct Port {
        path: std::path::PathBuf,
        events: mpsc::Receiver<(Instant, VmEvent)>,
        _folder: tempfile::TempDir,
    }

    impl Port {
        fn open() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("told");
            let (sender, events) = mpsc::channel(8);
            tokio::spawn(listen(UnixListener::bind(&path).unwrap(), sender));
            Self { path, events, _folder: folder }
        }

        async fn connect(&self) -> UnixStream {
            UnixStream::connect(&self.path).await.unwrap()
        }

        async fn next(&mut self) -> String {
            match self.events.recv().await {
                Some((_, VmEvent::Progress(line))) => String::from_utf8_lossy(&line).into_owned(),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_line_is_one_event_and_ends_its_connection() {
        let mut port = Port::open();
        let mut first = port.connect().await;
        let mut second = port.connect().await;
        first.write_all(b"node TASKBEGIN part").await.unwrap();
        second.write_all(b"node HOOK updatebase\n").await.unwrap();
        assert_eq!(port.next().await, "node HOOK updatebase\n", "not in the middle of the other's");
        // The sender is not kept waiting: the connection is closed although it has not closed its side.
        assert_eq!(second.read(&mut [0; 8]).await.unwrap(), 0);
        first.write_all(b"ition\n").await.unwrap();
        assert_eq!(port.next().await, "node TASKBEGIN partition\n");
    }

    #[tokio::test]
    async fn whoever_hangs_up_early_says_nothing_or_what_it_has_said() {
        let mut port = Port::open();
        drop(port.connect().await);
        let mut stream = port.connect().await;
        stream.write_all(b"node check").await.unwrap();
        drop(stream);
        assert_eq!(port.next().await, "node check\n", "the first one was none");
        let mut endless = port.connect().await;
        // It is hung up on in the middle.
        let _ = endless.write_all(&[b'x'; 3 * LONGEST]).await;
        assert_eq!(port.next().await.len(), LONGEST + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn many_silent_connections_do_not_shut_the_others_out() {
        let mut port = Port::open();
        let mut silent = Vec::new();
        for _ in 0..AT_A_TIME + 2 {
            silent.push(port.connect().await);
        }
        let mut stream = port.connect().await;
        stream.write_all(b"node TASKEND partition 0\n").await.unwrap();
        assert_eq!(port.next().await, "node TASKEND partition 0\n");
    }
}
