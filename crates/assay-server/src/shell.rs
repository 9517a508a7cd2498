//! Terminals on held machines: who has one, until when, and where its transcript goes.
//!
//! A session lives in this process; its transcript lives in a file from its first moment. Whatever ends it (the
//! shell, the operator, the hold, the agent, the time), the transcript becomes one of the run's files, and the audit
//! trail says who had it, why, and how it ended. If this process is killed, the next one puts away what it finds.

mod cast;
mod machine;
mod session;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use assay_api::shell::TermSize;
use assay_engine::EngineError;
use assay_model::{Micros, RunId, RunState, RunView, Sha256};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, warn};

use self::cast::Cast;
use self::session::State;
use crate::state::App;
use crate::wire::wait_for_news;

pub(crate) use self::machine::routes as machine_routes;
pub(crate) use self::session::{When, check_size};

/// How often a session is looked after when nothing happens.
const TICK: Duration = Duration::from_secs(5);
/// An agent silent for so long is gone, and the shell with it.
const AGENT_GONE: Micros = Micros::seconds(60);
/// How long the end of a session is kept for the operator's program, and how long once it has heard it.
const KEEP: Duration = Duration::from_mins(1);
const KEEP_TOLD: Duration = Duration::from_secs(10);

/// All sessions of this control plane.
pub(crate) struct Shells {
    folder: PathBuf,
    open: watch::Sender<BTreeMap<String, Arc<Session>>>,
}

/// One session.
pub(crate) struct Session {
    /// What it is called.
    pub(crate) id: String,
    /// The held run.
    pub(crate) run: RunId,
    /// Its number.
    pub(crate) number: i64,
    /// The enrolment that the shell runs under; a newer boot has no such shell.
    generation: i64,
    /// Who opened it; nobody else sees it.
    pub(crate) by: String,
    /// The name of its transcript among the run's files.
    pub(crate) transcript: String,
    /// What the agent is to start.
    pub(crate) command: Option<String>,
    /// The kind of terminal.
    pub(crate) term: String,
    path: PathBuf,
    /// How it stands.
    pub(crate) state: watch::Sender<State>,
}

/// What a session is opened with.
pub(crate) struct Opening {
    pub(crate) id: String,
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) command: Option<String>,
    pub(crate) size: TermSize,
    pub(crate) term: String,
}

/// Why no session was opened.
pub(crate) enum NotOpened {
    /// Somebody has one on this machine.
    Taken { by: String },
    /// The transcript cannot be kept.
    Transcript(io::Error),
}

impl Shells {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("shells"), open: watch::Sender::new(BTreeMap::new()) }
    }

    /// The session with this name.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.open.borrow().get(id).cloned()
    }

    /// Tells when a session begins or ends.
    pub(crate) fn subscribe(&self) -> watch::Receiver<BTreeMap<String, Arc<Session>>> {
        self.open.subscribe()
    }

    /// The session that the run's agent is to have, and whether it is to be told at once.
    pub(crate) fn wanted(&self, run: RunId) -> Option<(String, bool)> {
        let open = self.open.borrow();
        let session =
            open.values().find(|session| session.run == run && !session.state.borrow().is_over())?;
        let is_news = session.state.borrow().is_news();
        Some((session.id.clone(), is_news))
    }

    /// Opens a session and begins its transcript. One at a time for each run.
    pub(crate) fn open(&self, run: &RunView, now: When, with: Opening) -> Result<Arc<Session>, NotOpened> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(NotOpened::Transcript)?;
        let mut opened = Err(NotOpened::Taken { by: String::new() });
        self.open.send_if_modified(|open| {
            let mut others = open.values().filter(|session| session.run == run.id);
            if let Some(other) = others.find(|session| !session.state.borrow().is_over()) {
                opened = Err(NotOpened::Taken { by: other.by.clone() });
                return false;
            }
            opened = self.begin(run, now, with).map(Arc::new).map_err(NotOpened::Transcript);
            if let Ok(session) = &opened {
                open.insert(session.id.clone(), Arc::clone(session));
            }
            opened.is_ok()
        });
        opened
    }

    fn begin(&self, run: &RunView, now: When, with: Opening) -> io::Result<Session> {
        let Opening { id, by, reason, command, size, term } = with;
        let host = &run.created.target.name;
        let about = json!({
            "title": format!("run {}, {host}: {by}: {reason}", run.created.number),
            "command": command,
            "env": { "TERM": term },
        });
        let mut count = run.artifacts.iter().filter(|a| is_transcript(&a.name)).count();
        // One that is not put away yet has its number already.
        let (path, cast, transcript) = loop {
            count += 1;
            let transcript = format!("shell-{count}.cast");
            let path = self.folder.join(format!("{}-{transcript}", run.id));
            match Cast::create(&path, now.clock, size, &about) {
                Ok(cast) => break (path, cast, transcript),
                Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => {}
                Err(problem) => return Err(problem),
            }
        };
        Ok(Session {
            id,
            run: run.id,
            number: run.created.number,
            generation: run.enrolled.as_ref().map_or(0, |e| e.generation),
            by,
            transcript,
            state: watch::Sender::new(State::new(now, size, command.is_some(), cast)),
            command,
            term,
            path,
        })
    }

    fn remove(&self, id: &str) {
        self.open.send_modify(|open| drop(open.remove(id)));
    }

    /// Wakes those who wait for what [`Shells::wanted`] says.
    pub(crate) fn touch(&self) {
        self.open.send_modify(|_| ());
    }
}

impl Session {
    /// Changes the session; whoever waits for it looks again.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut out = None;
        self.state.send_modify(|state| out = Some(change(state)));
        out.expect("the change was made")
    }

    /// Until the session is as `wanted`, or the deadline.
    pub(crate) async fn until(&self, deadline: Instant, wanted: impl FnMut(&State) -> bool) {
        let mut state = self.state.subscribe();
        let _ = tokio::time::timeout_at(deadline, state.wait_for(wanted)).await;
    }
}

/// The time.
pub(crate) fn now(app: &App) -> When {
    When { clock: app.engine.now(), mono: Instant::now() }
}

/// Looks after a session until it has ended and is put away.
pub(crate) async fn look_after(app: App, session: Arc<Session>) {
    let mut changes = app.engine.store().subscribe();
    while !session.state.borrow().is_over() {
        if let Some(why) = ended_by_others(&app, &session).await {
            session.with(|state| state.end(now(&app), &why));
            break;
        }
        let neglected = session.state.borrow().neglected(Instant::now());
        let again = match neglected {
            Ok(why) => {
                session.with(|state| state.end(now(&app), why));
                break;
            }
            Err(at) => at.min(Instant::now() + TICK),
        };
        tokio::select! {
            () = session.until(again, State::is_over) => {}
            () = wait_for_news(&mut changes, session.run, again) => {}
        }
    }
    // The agent learns of it with its next question.
    app.shared.shells.touch();
    let stored = put_away(&app, session.run, &session.transcript, &session.path, None).await;
    let (why, status) = {
        let state = session.state.borrow();
        (state.why().to_owned(), state.status())
    };
    let detail = json!({
        "run": session.number, "session": session.id, "why": why, "status": status, "transcript": session.transcript,
        "digest": stored,
    });
    if let Err(problem) =
        app.engine.store().audit(app.engine.now(), &session.by, "shell ended", &detail).await
    {
        error!(session.id, error = %problem, "the end of a terminal session could not be written to the audit trail");
    }
    session.with(|state| state.put_away(stored.is_some()));
    session.until(Instant::now() + KEEP, State::is_told).await;
    tokio::time::sleep(KEEP_TOLD).await;
    app.shared.shells.remove(&session.id);
}

/// Why there can be no session any more, whatever its two ends do.
async fn ended_by_others(app: &App, session: &Session) -> Option<String> {
    let run = match app.engine.view(session.run).await {
        Ok(run) => run,
        Err(problem) => return Some(format!("the run cannot be read: {problem}")),
    };
    if run.state() != RunState::FailedHolding {
        return Some(format!("the run is not held any more, it is {}", run.state()));
    }
    if run.enrolled.as_ref().map_or(0, |e| e.generation) != session.generation {
        return Some("the machine was booted anew".to_owned());
    }
    let silent = app.engine.now().since(app.engine.live().last_seen(session.run));
    (silent > AGENT_GONE).then(|| "the machine has not been heard for a minute".to_owned())
}

/// Makes a transcript one of the run's files. `mended` is why it ends where it ends, if nobody has written that.
/// On failure it stays where it is, for the next start.
async fn put_away(app: &App, run: RunId, name: &str, path: &Path, mended: Option<&str>) -> Option<Sha256> {
    let storing = async {
        let mut text = tokio::fs::read(path).await.map_err(|e| e.to_string())?;
        if let Some(why) = mended {
            cast::mend(&mut text, why);
        }
        let bytes = text.len() as u64;
        let digest = app.engine.artifacts().put(text).await.map_err(|e| e.to_string())?;
        let kept = app.engine.transcript(run, name, digest, bytes).await;
        kept.map_err(|e: EngineError| e.to_string())?;
        tokio::fs::remove_file(path).await.map_err(|e| e.to_string())?;
        Ok::<_, String>(digest)
    };
    match storing.await {
        Ok(digest) => Some(digest),
        Err(problem) => {
            error!(run.id = %run, "{} could not be put away and is tried again at the next start: {problem}", path.display());
            None
        }
    }
}

/// Puts away the transcripts of sessions that ended with an earlier control plane.
pub(crate) async fn recover(app: &App) {
    let Ok(entries) = std::fs::read_dir(&app.shared.shells.folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let Some((run, name)) = path.file_name().and_then(|name| name.to_str()).and_then(whose) else {
            warn!("{} is no transcript of a terminal session; it is left alone", path.display());
            continue;
        };
        let why = "the control plane ended here, and the session with it";
        let stored = put_away(app, run, name, &path, Some(why)).await;
        let detail: Value = json!({ "run": run, "why": why, "transcript": name, "digest": stored });
        if let Err(problem) =
            app.engine.store().audit(app.engine.now(), "assay", "shell ended", &detail).await
        {
            error!(error = %problem, "the end of a terminal session could not be written to the audit trail");
        }
    }
}

/// The run and the name of a transcript that is not put away.
fn whose(file: &str) -> Option<(RunId, &str)> {
    let (run, name) = (file.get(..36)?, file.get(36..)?.strip_prefix('-')?);
    Some((RunId(run.parse().ok()?), name)).filter(|(_, name)| is_transcript(name))
}

fn is_transcript(name: &str) -> bool {
    let number = name.strip_prefix("shell-").and_then(|rest| rest.strip_suffix(".cast"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_says_whose_it_is() {
        let id = uuid::Uuid::from_u128(7);
        assert_eq!(whose(&format!("{id}-shell-3.cast")), Some((RunId(id), "shell-3.cast")));
        for bad in ["", "shell-3.cast", &format!("{id}-shell-.cast"), &format!("{id}-shell-1.cast.tmp"), "ä"]
        {
            assert_eq!(whose(bad), None, "{bad}");
        }
    }
}
