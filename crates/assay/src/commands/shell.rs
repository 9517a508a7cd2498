//! `assay host shell`: a terminal on a held machine, through the control plane and the machine's agent. Recorded.
//!
//! What may go wrong here is small and annoying: a terminal left in raw mode, a program that cannot be left because
//! the other side is gone. So the terminal is restored by a guard, whatever ends us, and `~.` never leaves this side.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use assay_api::shell::{Bytes, MAX_BYTES, OpenShell, ShellEnd, ShellOpened, Shown, Taken, TermSize, Typed};
use clap::Args;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::client::{Client, ClientError};
use crate::commands::{Remote, told_to_stop};
use crate::exit::Exit;
use crate::ui;

/// How long the server may be away before we give up, in the middle of a session.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the server may keep a question open, in seconds; and when we ask again all the same.
const POLL_S: u64 = 20;
const POLL_LIMIT: Duration = Duration::from_secs(POLL_S + 15);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(250);
/// Of a command's output, `--json` shows so much; the transcript has all.
const MAX_JSON_OUTPUT: usize = 8 << 20;
/// What a shell says of a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;
const HELP: &str = "\r\n~.  close the session\r\n~~  type a tilde\r\n~?  this\r\n";

#[derive(Args)]
pub(crate) struct Shell {
    /// The held machine.
    name: String,
    /// Why; stands in the audit trail and in the transcript. Asked for when it is not given.
    #[arg(long)]
    reason: Option<String>,
    /// Run this instead of a shell, print what it says, and end with its exit code.
    #[arg(long, requires = "reason")]
    command: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Shell {
    pub(crate) async fn run(self) -> Result<Exit> {
        let client = self.remote.client()?;
        if let Some(command) = self.command {
            let reason = self.reason.unwrap_or_default();
            let size = TermSize::default();
            let wanted = OpenShell { reason, command: Some(command), size, term: Some("dumb".to_owned()) };
            let session = Session::open(client, &self.name, &wanted).await?;
            return session.run_command(self.remote.json).await;
        }
        if self.remote.json {
            bail!("--json prints a command's output; give one with --command");
        }
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            bail!("there is no terminal here; run something with --command \"…\" --reason \"…\"");
        }
        let reason = match self.reason {
            Some(reason) => reason,
            None => ask_why()?,
        };
        let wanted = OpenShell { reason, command: None, size: own_size(), term: std::env::var("TERM").ok() };
        let session = Session::open(client, &self.name, &wanted).await?;
        ui::say(&format!(
            "a terminal on {}, held by run {}; all that is typed and shown is recorded. `~.` on a new line closes it",
            self.name, session.opened.run
        ));
        session.interact().await
    }
}

/// An open session, seen from here.
struct Session {
    client: Client,
    opened: ShellOpened,
}

impl Session {
    async fn open(client: Client, host: &str, wanted: &OpenShell) -> Result<Self> {
        let opened = client.post(&format!("/api/v1/hosts/{host}/shell"), wanted).await?;
        Ok(Self { client, opened })
    }

    async fn run_command(self, as_json: bool) -> Result<Exit> {
        let mut kept = Vec::new();
        let mut all = 0;
        let take = |bytes: &[u8]| {
            all += bytes.len();
            if as_json {
                let room = MAX_JSON_OUTPUT.saturating_sub(kept.len());
                kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
                return Ok(());
            }
            show(bytes)
        };
        let end = tokio::select! {
            end = self.shown(take) => end?,
            () = told_to_stop() => {
                self.close().await;
                return Ok(Exit::Command(INTERRUPTED));
            }
        };
        if as_json {
            ui::json(&json!({
                "run": self.opened.run,
                "transcript": self.opened.transcript,
                "status": end.status,
                "why": end.why,
                "output": String::from_utf8_lossy(&kept),
                "truncated": all > kept.len(),
            }))?;
        }
        Ok(self.ended(&end))
    }

    async fn interact(self) -> Result<Exit> {
        let raw = Raw::enter()?;
        let end = tokio::select! {
            end = self.shown(show) => Some(end),
            typed = self.typed() => typed.err().map(Err),
            () = told_to_stop() => None,
        };
        drop(raw);
        match end {
            Some(Ok(end)) => return Ok(self.ended(&end)),
            Some(Err(problem)) => {
                self.close().await;
                return Err(problem);
            }
            None => self.close().await,
        }
        ui::say("\nclosed");
        Ok(Exit::Ok)
    }

    /// Says how it ended, and with what we do.
    fn ended(&self, end: &ShellEnd) -> Exit {
        let ShellOpened { run, transcript, .. } = &self.opened;
        if end.status.is_none() {
            ui::say(&format!("the session has ended: {}", end.why));
        }
        if end.stored {
            ui::say(&format!("its transcript is {transcript} of run {run}"));
        } else {
            ui::say(
                "its transcript could not be stored; the server keeps it and tries again when it is started",
            );
        }
        end.status.map_or(Exit::Error, Exit::Command)
    }

    /// Passes on what the machine shows, to its end.
    async fn shown(&self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<ShellEnd> {
        let mut after = 0;
        loop {
            let path = format!("/api/v1/shells/{}/output?after={after}&wait_s={POLL_S}", self.opened.id);
            let shown: Shown = patient(async || self.client.get(&path).await).await?;
            take(&shown.data.0)?;
            after = shown.next;
            if let Some(end) = shown.ended {
                return Ok(end);
            }
        }
    }

    /// Sends what is typed, until the operator wants to leave.
    async fn typed(&self) -> Result<()> {
        let mut keys = keyboard();
        let mut resized = signal(SignalKind::window_change())?;
        let mut escapes = Escapes::default();
        let mut at = 0;
        loop {
            let (data, size, leave) = tokio::select! {
                keys = keys.recv() => {
                    // The terminal is gone: nobody is there to type.
                    let Some(keys) = keys else { return Ok(()) };
                    let Heard { data, help, leave } = escapes.hear(&keys);
                    if help {
                        show(HELP.as_bytes())?;
                    }
                    (data, None, leave)
                }
                _ = resized.recv() => (Vec::new(), Some(own_size()), false),
            };
            if !data.is_empty() || size.is_some() {
                at = self.send(at, &data, size).await?;
            }
            if leave {
                return Ok(());
            }
        }
    }

    async fn send(&self, from: u64, data: &[u8], size: Option<TermSize>) -> Result<u64> {
        let path = format!("/api/v1/shells/{}/input", self.opened.id);
        let end = from + data.len() as u64;
        let mut at = from;
        loop {
            let typed = Typed { at, data: Bytes(data[(at - from) as usize..].to_vec()), size };
            let taken: Result<Taken> = patient(async || self.client.post(&path, &typed).await).await;
            match taken {
                Ok(taken) if (at..end).contains(&taken.next) => {
                    // The machine does not read; what is typed waits here.
                    at = taken.next;
                    sleep(AGAIN).await;
                }
                Ok(_) => return Ok(end),
                // It is over: how, is told where output comes from.
                Err(problem) if is_over(&problem) => std::future::pending().await,
                Err(problem) => return Err(problem),
            }
        }
    }

    /// Closes the session. If the server cannot be told, it closes it by itself after a minute.
    async fn close(&self) {
        let path = format!("/api/v1/shells/{}", self.opened.id);
        let _ = timeout(Duration::from_secs(5), self.client.delete(&path)).await;
    }
}

/// Asks until there is an answer; a server that is away may come back.
async fn patient<T>(mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        let answer = timeout(POLL_LIMIT, ask()).await;
        match answer {
            Ok(Err(problem)) if is_away(&problem) && started.elapsed() < PATIENCE => {}
            Ok(answer) => return answer,
            Err(_) if started.elapsed() < 2 * POLL_LIMIT => {}
            Err(_) => bail!("the server does not answer any more"),
        }
        sleep(AGAIN).await;
    }
}

fn is_away(problem: &anyhow::Error) -> bool {
    matches!(problem.downcast_ref(), Some(ClientError::Away { .. }))
}

fn is_over(problem: &anyhow::Error) -> bool {
    matches!(problem.downcast_ref(), Some(ClientError::Refused { status, .. }) if status.as_u16() == 410)
}

fn show(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

fn ask_why() -> Result<String> {
    let _ = write!(std::io::stderr().lock(), "why? (stands in the audit trail) ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

fn own_size() -> TermSize {
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => TermSize { cols: size.ws_col, rows: size.ws_row },
        _ => TermSize::default(),
    }
}

/// What is typed, in pieces. Read on a thread that nobody waits for: a read of a terminal cannot be given up.
fn keyboard() -> mpsc::Receiver<Vec<u8>> {
    let (sender, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = vec![0; MAX_BYTES];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut buffer) {
            if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    keys
}

/// The terminal in raw mode: every key goes to the machine. Dropping it restores what was.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What is for us of what is typed: a tilde at the beginning of a line, as with ssh.
#[derive(Debug)]
struct Escapes {
    line_begins: bool,
    tilde: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    /// For the machine.
    data: Vec<u8>,
    help: bool,
    leave: bool,
}

impl Default for Escapes {
    fn default() -> Self {
        Self { line_begins: true, tilde: false }
    }
}

impl Escapes {
    fn hear(&mut self, keys: &[u8]) -> Heard {
        let mut heard = Heard::default();
        for key in keys {
            if std::mem::take(&mut self.tilde) {
                match key {
                    b'.' => {
                        heard.leave = true;
                        return heard;
                    }
                    b'?' => {
                        heard.help = true;
                        self.line_begins = true;
                        continue;
                    }
                    b'~' => {}
                    _ => heard.data.push(b'~'),
                }
            } else if self.line_begins && *key == b'~' {
                self.tilde = true;
                continue;
            }
            heard.data.push(*key);
            self.line_begins = matches!(key, b'\r' | b'\n');
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::{Escapes, Heard};

    #[test]
    fn a_tilde_at_the_beginning_of_a_line_is_ours() {
        let typed = |pieces: &[&str]| {
            let mut escapes = Escapes::default();
            let mut all = Heard::default();
            for piece in pieces {
                let heard = escapes.hear(piece.as_bytes());
                all.data.extend(heard.data);
                all.help |= heard.help;
                all.leave |= heard.leave;
            }
            (String::from_utf8(all.data).expect("text"), all.help, all.leave)
        };
        let only = |text: &str| (text.to_owned(), false, false);
        assert_eq!(typed(&["ls ~\r"]), only("ls ~\r"));
        assert_eq!(typed(&["a~."]), only("a~."), "not at the beginning");
        assert_eq!(typed(&["~."]), (String::new(), false, true));
        assert_eq!(typed(&["ls\r", "~", "."]), ("ls\r".to_owned(), false, true), "key by key");
        assert_eq!(typed(&["ls\r~.rest"]), ("ls\r".to_owned(), false, true));
        assert_eq!(typed(&["~~/x\r"]), only("~/x\r"));
        assert_eq!(typed(&["~/x\r"]), only("~/x\r"), "a home folder is none of ours");
        assert_eq!(typed(&["~?~."]), (String::new(), true, true));
        assert_eq!(typed(&["~\r~."]), ("~\r".to_owned(), false, true));
    }
}
