//! A small client for QEMU's monitor (QMP): JSON lines over a unix socket.
//!
//! Commands may overlap and are matched by id; events go to whoever subscribed. A monitor serves one client at a
//! time and lets others wait without a word, so everything here has a time limit.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex as AsyncMutex, broadcast, oneshot},
    task::JoinHandle,
    time::timeout,
};

use crate::QemuError;

const GREETING_LIMIT: Duration = Duration::from_secs(10);
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
const EVENT_BACKLOG: usize = 256;

/// An event of a running machine, such as `SHUTDOWN`, `RESET`, `STOP` or `DEVICE_DELETED`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QmpEvent {
    /// QEMU's name for it.
    pub name: String,
    /// What it carries; null for nothing.
    pub data: Value,
}

/// A connection to a machine's monitor. Dropping it frees the monitor for the next client.
#[derive(Debug)]
pub struct Qmp {
    path: PathBuf,
    writer: AsyncMutex<OwnedWriteHalf>,
    shared: Arc<Shared>,
    next_id: AtomicU64,
    reader: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// `None` once QEMU has hung up.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
    events: broadcast::Sender<QmpEvent>,
}

type Answer = Result<Value, Refusal>;

#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    class: String,
    description: String,
}

/// One line from QEMU.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    Greeting,
    Answer { id: Option<u64>, answer: Answer },
    Event(QmpEvent),
}

impl Qmp {
    /// Connects, reads the greeting and agrees on capabilities.
    ///
    /// # Errors
    /// [`QemuError`] when there is nobody, somebody else holds the monitor, or it does not speak QMP.
    pub async fn connect(path: &Path) -> Result<Self, QemuError> {
        let connect = UnixStream::connect(path);
        let stream =
            connect.await.map_err(|source| QemuError::QmpConnect { path: path.to_owned(), source })?;
        Self::over(stream, path).await
    }

    /// The same over a connection that is there already: one that QEMU made itself.
    ///
    /// # Errors
    /// [`QemuError`] when the other side does not speak QMP, or not in time.
    pub(crate) async fn over(stream: UnixStream, path: &Path) -> Result<Self, QemuError> {
        let connected = timeout(GREETING_LIMIT, greet(stream)).await;
        let (lines, writer) = connected
            .map_err(|_| QemuError::QmpTimeout { command: "greeting".to_owned(), after: GREETING_LIMIT })??;
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Some(HashMap::new())),
            events: broadcast::channel(EVENT_BACKLOG).0,
        });
        let reader = tokio::spawn(read(lines, Arc::clone(&shared)));
        let qmp = Self {
            path: path.to_owned(),
            writer: AsyncMutex::new(writer),
            shared,
            next_id: AtomicU64::new(1),
            reader,
        };
        qmp.execute("qmp_capabilities", Value::Null).await?;
        Ok(qmp)
    }

    /// Events from now on. A subscriber that falls far behind loses the oldest and is told so.
    pub fn events(&self) -> broadcast::Receiver<QmpEvent> {
        self.shared.events.subscribe()
    }

    /// Runs a command; `arguments` may be null.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU refuses it, has ended, or does not answer.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QemuError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let closed = || QemuError::QmpClosed { command: command.to_owned() };
        let (sender, receiver) = oneshot::channel();
        self.shared.register(id, sender).map_err(|()| closed())?;
        let sent = async {
            let line = request(id, command, &arguments);
            self.writer.lock().await.write_all(line.as_bytes()).await.map_err(|_| closed())?;
            receiver.await.map_err(|_| closed())
        };
        let answer = timeout(COMMAND_LIMIT, sent).await.map_err(|_| {
            self.shared.forget(id);
            QemuError::QmpTimeout { command: command.to_owned(), after: COMMAND_LIMIT }
        })??;
        answer.map_err(|refusal| QemuError::QmpRefused {
            command: command.to_owned(),
            class: refusal.class,
            description: refusal.description,
        })
    }

    /// QEMU's run state: `running`, `paused`, `guest-panicked`, `internal-error` …
    pub async fn query_status(&self) -> Result<String, QemuError> {
        let answer = self.execute("query-status", Value::Null).await?;
        let state = answer.get("status").and_then(Value::as_str).map(str::to_owned);
        state.ok_or_else(|| QemuError::QmpGarbled {
            command: "query-status".to_owned(),
            said: answer.to_string(),
        })
    }

    /// Presses the power button.
    pub async fn system_powerdown(&self) -> Result<(), QemuError> {
        self.plain("system_powerdown", Value::Null).await
    }

    /// Presses the reset button.
    pub async fn system_reset(&self) -> Result<(), QemuError> {
        self.plain("system_reset", Value::Null).await
    }

    /// Freezes the machine.
    pub async fn stop(&self) -> Result<(), QemuError> {
        self.plain("stop", Value::Null).await
    }

    /// Lets a frozen machine go on.
    pub async fn cont(&self) -> Result<(), QemuError> {
        self.plain("cont", Value::Null).await
    }

    /// Pulls the plug. QEMU may be gone before it has answered.
    pub async fn quit(&self) -> Result<(), QemuError> {
        match self.plain("quit", Value::Null).await {
            Err(QemuError::QmpClosed { .. }) => Ok(()),
            other => other,
        }
    }

    /// Changes a property of a running device; a device `nvme0` is `/machine/peripheral/nvme0`.
    pub async fn qom_set(&self, path: &str, property: &str, value: Value) -> Result<(), QemuError> {
        self.plain("qom-set", json!({"path": path, "property": property, "value": value})).await
    }

    /// Pulls a device. The `DEVICE_DELETED` event says when the guest has let go of it.
    pub async fn device_del(&self, id: &str) -> Result<(), QemuError> {
        self.plain("device_del", json!({"id": id})).await
    }

    /// Plugs or unplugs the cable of a network card.
    pub async fn set_link(&self, nic: &str, up: bool) -> Result<(), QemuError> {
        self.plain("set_link", json!({"name": nic, "up": up})).await
    }

    /// Writes the screen as a PNG image to `file`, which must be absolute.
    pub async fn screendump(&self, file: &Path) -> Result<(), QemuError> {
        self.plain("screendump", json!({"filename": file.display().to_string(), "format": "png"})).await
    }

    /// Runs a command of the human monitor, for what has no other form (`mce`, `pcie_aer_inject_error`).
    pub async fn human_monitor_command(&self, line: &str) -> Result<String, QemuError> {
        let answer = self.execute("human-monitor-command", json!({"command-line": line})).await?;
        answer
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| QemuError::QmpGarbled { command: line.to_owned(), said: answer.to_string() })
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn plain(&self, command: &str, arguments: Value) -> Result<(), QemuError> {
        self.execute(command, arguments).await.map(|_| ())
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Shared {
    fn register(&self, id: u64, sender: oneshot::Sender<Answer>) -> Result<(), ()> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut().ok_or(())?.insert(id, sender);
        Ok(())
    }

    fn forget(&self, id: u64) -> Option<oneshot::Sender<Answer>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.remove(&id)
    }

    fn hang_up(&self) {
        // Dropping the senders tells everyone who waits.
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

type Lines = tokio::io::Lines<BufReader<OwnedReadHalf>>;

async fn greet(stream: UnixStream) -> Result<(Lines, OwnedWriteHalf), QemuError> {
    let (read_half, writer) = stream.into_split();
    let mut lines = BufReader::new(read_half).lines();
    let first = lines
        .next_line()
        .await
        .ok()
        .flatten()
        .ok_or_else(|| QemuError::QmpClosed { command: "greeting".to_owned() })?;
    match parse(&first) {
        Some(Message::Greeting) => Ok((lines, writer)),
        _ => Err(QemuError::QmpGarbled { command: "greeting".to_owned(), said: first }),
    }
}

async fn read(mut lines: Lines, shared: Arc<Shared>) {
    while let Ok(Some(line)) = lines.next_line().await {
        match parse(&line) {
            Some(Message::Event(event)) => {
                // Nobody listening is no error.
                let _ = shared.events.send(event);
            }
            Some(Message::Answer { id: Some(id), answer }) => {
                if let Some(sender) = shared.forget(id) {
                    // The caller may have given up.
                    let _ = sender.send(answer);
                }
            }
            Some(Message::Answer { id: None, .. } | Message::Greeting) | None => {
                tracing::warn!(qmp.line = %line, "the QEMU monitor said something unexpected");
            }
        }
    }
    shared.hang_up();
}

fn request(id: u64, command: &str, arguments: &Value) -> String {
    let mut message = json!({"execute": command, "id": id});
    if !arguments.is_null() {
        message["arguments"] = arguments.clone();
    }
    format!("{message}\n")
}

fn parse(line: &str) -> Option<Message> {
    let value: Value = serde_json::from_str(line).ok()?;
    let id = value.get("id").and_then(Value::as_u64);
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    if value.get("QMP").is_some() {
        return Some(Message::Greeting);
    }
    if let Some(name) = text(&value, "event") {
        let data = value.get("data").cloned().unwrap_or(Value::Null);
        return Some(Message::Event(QmpEvent { name, data }));
    }
    if let Some(error) = value.get("error") {
        let answer = Err(Refusal { class: text(error, "class")?, description: text(error, "desc")? });
        return Some(Message::Answer { id, answer });
    }
    let answer = Ok(value.get("return")?.clone());
    Some(Message::Answer { id, answer })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use tokio::{io::AsyncWriteExt, net::UnixListener};

    use super::{Message, Qmp, QmpEvent, Refusal, parse, request};
    use crate::QemuError;

    #[test]
    fn requests_are_one_line_with_an_id() {
        assert_eq!(request(7, "stop", &Value::Null), "{\"execute\":\"stop\",\"id\":7}\n");
        let link = request(8, "set_link", &json!({"name": "a\nb", "up": false}));
        assert_eq!(link.matches('\n').count(), 1, "{link}");
        assert!(link.contains(r#""arguments":{"name":"a\nb","up":false}"#), "{link}");
    }

    #[test]
    fn what_qemu_says_is_told_apart() {
        assert_eq!(parse(r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#), Some(Message::Greeting));
        let answer = Ok(json!({"status": "running"}));
        assert_eq!(
            parse(r#"{"return": {"status": "running"}, "id": 3}"#),
            Some(Message::Answer { id: Some(3), answer })
        );
        let answer = Err(Refusal {
            class: "DeviceNotFound".to_owned(),
            description: "Device 'x' not found".to_owned(),
        });
        assert_eq!(
            parse(r#"{"id": 4, "error": {"class": "DeviceNotFound", "desc": "Device 'x' not found"}}"#),
            Some(Message::Answer { id: Some(4), answer })
        );
        assert_eq!(
            parse(r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#),
            Some(Message::Event(QmpEvent { name: "STOP".to_owned(), data: Value::Null }))
        );
        for garbage in ["", "{}", "SSH-2.0", r#"{"error": {}}"#] {
            assert_eq!(parse(garbage), None, "{garbage}");
        }
    }

    /// What becomes of a connection to something that says `words` and hangs up.
    async fn connect_to(words: &'static str) -> QemuError {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("qmp");
        let listener = UnixListener::bind(&path).expect("bound");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.write_all(words.as_bytes()).await.expect("written");
        });
        let error = Qmp::connect(&path).await.expect_err("that is no QEMU");
        server.await.expect("no panic");
        error
    }

    #[tokio::test]
    async fn what_is_not_qemu_is_said() {
        let garbled = connect_to("SSH-2.0-OpenSSH\n").await;
        assert!(matches!(garbled, QemuError::QmpGarbled { .. }), "{garbled}");
        let silent = connect_to("").await;
        assert!(matches!(silent, QemuError::QmpClosed { .. }), "{silent}");
        // It greets and ends before it answers the first command.
        let ended = connect_to("{\"QMP\": {}}\n").await;
        assert!(
            matches!(&ended, QemuError::QmpClosed { command } if command == "qmp_capabilities"),
            "{ended}"
        );
        let nobody = Qmp::connect(std::path::Path::new("/nowhere/qmp")).await.expect_err("nobody there");
        assert!(matches!(nobody, QemuError::QmpConnect { .. }), "{nobody}");
    }
}
