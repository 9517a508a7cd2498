//! A terminal for an operator, while the run is held: what they typed is fetched, what the machine shows is sent.
//!
//! The control plane names the session in its answer to `/next`, and takes it away there. This process takes a session
//! once, before it starts anything: an agent that was started anew is refused, and the session ends. The shell ends
//! with the session, whatever ends first: this agent, the hold, the operator's patience. Nothing is kept here; the
//! transcript is the control plane's.

use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use assay_api::shell::{Attach, Bytes, Input, MAX_BYTES, Output, ShellExit, ShellOrder, Taken, TermSize};
use assay_model::text;
use assay_process::{Cmd, Size, Terminal, TerminalInput, TerminalKind, TerminalOutput, TerminalProcess};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::agent::Context;
use crate::backoff::Backoff;
use crate::client::Answer;
use crate::session;

/// What may be a login shell, the best first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];
/// Where an operator finds what they need; a login shell's profile may change it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where terminals are described.
const TERMINFO: [&str; 3] = ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"];
/// What nearly every terminal understands.
const COMMON_TERM: &str = "xterm";
/// How long output is still read after the shell has ended, should something hold its terminal open.
const DRAIN: Duration = Duration::from_secs(1);

/// The session that this agent has, if any.
#[derive(Default)]
pub(crate) struct Shells {
    id: Option<String>,
    work: JoinSet<()>,
}

impl Shells {
    /// Makes true what the control plane says: this session, or none. Each is begun once.
    pub(crate) async fn follow(&mut self, context: &Arc<Context>, wanted: Option<&str>) {
        if self.id.as_deref() == wanted {
            return;
        }
        // Dropping the work kills the shell.
        self.work.shutdown().await;
        self.id = wanted.map(str::to_owned);
        if let Some(id) = self.id.clone() {
            self.work.spawn(serve(Arc::clone(context), id));
        }
    }
}

/// One session, seen by one process of the agent.
struct Link<'a> {
    context: &'a Context,
    id: &'a str,
    worker: String,
}

/// The session is over for us: the control plane says so.
struct Over(String);

async fn serve(context: Arc<Context>, id: String) {
    // The id goes into a path.
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        context.console.say("the control plane named a terminal session that cannot be one");
        return;
    }
    let Ok(worker) = session::secret() else { return };
    let link = Link { context: &context, id: &id, worker };
    let attach = Attach { worker: link.worker.clone() };
    let order: ShellOrder = match link.post("attach", &attach).await {
        Ok(order) => order,
        Err(Over(why)) => {
            context.console.say(&format!("the terminal session is not taken: {why}"));
            return;
        }
    };
    context.console.say("an operator has opened a terminal on this machine; it is recorded");
    let over = match open(&order).await {
        Ok(terminal) => link.carry(terminal, order.size).await,
        Err(problem) => link.say_end(0, ShellExit { status: None, problem: Some(problem) }).await,
    };
    match over {
        Ok(()) => context.console.say("the operator's terminal has ended"),
        Err(Over(why)) => context.console.say(&format!("the operator's terminal is closed: {why}")),
    }
}

async fn open(order: &ShellOrder) -> Result<Terminal, String> {
    let shell = SHELLS.into_iter().find(|shell| Path::new(shell).exists());
    let shell = shell.ok_or("this machine has neither bash nor sh")?;
    let home = if Path::new("/root").read_dir().is_ok() { "/root" } else { "/" };
    let mut command = Cmd::new(shell)
        .arg("-l")
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", home)
        .env("SHELL", shell)
        .env("USER", "root")
        .env("LOGNAME", "root")
        .env("TERM", term(&order.term))
        .cwd(home);
    let mut kind = TerminalKind::Interactive;
    if let Some(what) = &order.command {
        command = command.arg("-c").arg(what);
        kind = TerminalKind::Output;
    }
    command.spawn_terminal(size(order.size), kind).await.map_err(|problem| problem.to_string())
}

/// The operator's kind of terminal, or the commonest one where nothing here knows theirs.
fn term(asked: &str) -> &str {
    let folder = |name: &str| name.chars().next().map(|first| format!("{first}/{name}"));
    let known = |name: &str| {
        let Some(place) = folder(name) else { return false };
        !name.contains('/') && TERMINFO.iter().any(|root| Path::new(root).join(&place).exists())
    };
    if known(asked) || !known(COMMON_TERM) { asked } else { COMMON_TERM }
}

impl Link<'_> {
    /// Carries both streams until the shell ends or the control plane says that it is over.
    async fn carry(&self, terminal: Terminal, started_as: TermSize) -> Result<(), Over> {
        let Terminal { output, input, mut process } = terminal;
        let ended = tokio::select! {
            ended = self.shown(output, &mut process) => ended,
            over = self.typed(input, started_as) => Err(over),
        };
        if ended.is_err() {
            // As when a window is closed: editors save, shells write their history.
            if let Err(problem) = process.hang_up(DRAIN).await {
                self.context.console.say(&problem.to_string());
            }
        }
        ended
    }

    async fn shown(&self, mut output: TerminalOutput, process: &mut TerminalProcess) -> Result<(), Over> {
        let mut at = 0;
        let mut buffer = vec![0; MAX_BYTES];
        let status = loop {
            tokio::select! {
                biased;
                read = output.read(&mut buffer) => match read {
                    Ok(count @ 1..) => at = self.send(at, &buffer[..count]).await?,
                    // Nobody has the terminal any more, so the shell has ended or is about to.
                    Ok(0) | Err(_) => break process.wait().await,
                },
                status = process.wait() => break status,
            }
        };
        while let Ok(Ok(count @ 1..)) = timeout(DRAIN, output.read(&mut buffer)).await {
            at = self.send(at, &buffer[..count]).await?;
        }
        let exit = match status {
            Ok(status) => ShellExit { status: Some(code(status)), problem: None },
            Err(problem) => ShellExit { status: None, problem: Some(problem.to_string()) },
        };
        self.say_end(at, exit).await
    }

    /// Sends bytes until all are taken. While they are not, the shell has to wait: a flood stays on the machine.
    async fn send(&self, from: u64, bytes: &[u8]) -> Result<u64, Over> {
        let end = from + bytes.len() as u64;
        let mut at = from;
        while at < end {
            let rest = bytes[(at - from) as usize..].to_vec();
            let output = Output { worker: self.worker.clone(), at, data: Bytes(rest), exit: None };
            let taken: Taken = self.post("output", &output).await?;
            if taken.next < at || taken.next > end {
                return Err(Over(format!("the control plane took bytes up to {}, of {end}", taken.next)));
            }
            at = taken.next;
        }
        Ok(end)
    }

    async fn say_end(&self, at: u64, exit: ShellExit) -> Result<(), Over> {
        let exit = ShellExit { problem: exit.problem.map(|problem| text::clean_to(&problem, 1000)), ..exit };
        let output = Output { worker: self.worker.clone(), at, data: Bytes::default(), exit: Some(exit) };
        self.post::<Taken>("output", &output).await.map(drop)
    }

    /// Types what the operator typed. Returns only when the session is over.
    async fn typed(&self, mut input: TerminalInput, mut shown_as: TermSize) -> Over {
        let poll_s = self.context.settings.pacing.poll_s;
        let mut backoff = Backoff::new(self.context.settings.pacing);
        let mut at = 0_u64;
        loop {
            let what = format!("shell/{}/input", self.id);
            let query = [
                ("worker", self.worker.clone()),
                ("after", at.to_string()),
                ("cols", shown_as.cols.to_string()),
                ("rows", shown_as.rows.to_string()),
                ("wait_s", poll_s.to_string()),
            ];
            let Input { data, size: wanted } = match self.context.client.poll(&what, &query, poll_s).await {
                Answer::Done(input) => input,
                Answer::Again(why) => {
                    self.context.console.failing("shell", &why);
                    backoff.pause().await;
                    continue;
                }
                Answer::Refused(why) | Answer::TooLarge(why) | Answer::Void(why) => return Over(why),
            };
            self.context.console.working("shell");
            backoff.reset();
            if wanted != shown_as {
                // A shell that has just ended has no terminal; its end is on its way.
                let _ = input.resize(size(wanted));
                shown_as = wanted;
            }
            at += data.0.len() as u64;
            let _ = input.write_all(&data.0).await;
        }
    }

    /// Says something until it is taken, or the session is over.
    async fn post<T: DeserializeOwned>(&self, what: &str, body: &impl Serialize) -> Result<T, Over> {
        let path = format!("shell/{}/{what}", self.id);
        let body = bytes::Bytes::from(serde_json::to_vec(body).expect("plain data"));
        let mut backoff = Backoff::new(self.context.settings.pacing);
        loop {
            match self.context.client.post_json(&path, body.clone()).await {
                Answer::Done(answer) => {
                    self.context.console.working("shell");
                    return Ok(answer);
                }
                Answer::Again(why) => {
                    self.context.console.failing("shell", &why);
                    backoff.pause().await;
                }
                Answer::Refused(why) | Answer::TooLarge(why) | Answer::Void(why) => return Err(Over(why)),
            }
        }
    }
}

fn size(size: TermSize) -> Size {
    Size { cols: size.cols, rows: size.rows }
}

/// As a shell would say it.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;

    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::{code, term};

    #[test]
    fn a_terminal_that_nobody_here_knows_is_a_common_one() {
        assert_eq!(term("dumb"), "dumb");
        for strange in ["no-such-terminal", "../../etc/passwd", ""] {
            assert_eq!(term(strange), "xterm", "{strange}");
        }
    }

    #[test]
    fn a_status_is_said_as_a_shell_says_it() {
        assert_eq!(code(ExitStatus::from_raw(0)), 0);
        assert_eq!(code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(code(ExitStatus::from_raw(9)), 137, "SIGKILL");
    }
}
