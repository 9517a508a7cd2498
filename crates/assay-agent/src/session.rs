//! Becoming someone: `/hello`, and what of it survives a crash of the agent.
//!
//! The boot token works once, for the secret that the agent thought up. So that a restarted agent can go on, that
//! secret is kept in a file that only root can read, on a tmpfs: memory, gone with the power. It is written before
//! it is first said, so that a lost answer can be asked for again. Beside it lies a marker when the enrolment has
//! come to its end, so that an agent that is started again does not ask again.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use assay_api::agent::{Hello, PROTOCOL, Welcome};
use assay_model::Sha256;
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::client::{Answer, Client};
use crate::clock::{self, ServerClock};
use crate::console::Console;
use crate::{Collector, Enrolled, ExitReason, Settings};

const CREDENTIAL: &str = "credential";
const ENDED: &str = "ended";

/// An enrolment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) clock: ServerClock,
    pub(crate) welcome: Welcome,
}

/// What is kept across a restart of the agent.
#[derive(Serialize, Deserialize)]
pub(crate) struct Pass {
    /// Digest of the boot token that it belongs to: a new boot has a new one.
    token: Sha256,
    /// The agent's secret, 64 hex digits.
    pub(crate) credential: String,
    /// Once enrolled.
    session: Option<Session>,
}

impl Session {
    /// What the spool's items belong to.
    pub(crate) fn owner(&self) -> String {
        let Welcome { run, boot, generation, .. } = &self.welcome;
        format!("run {run} boot {boot} generation {generation}")
    }
}

/// Whether this boot's enrolment came to its end before.
pub(crate) fn has_ended(settings: &Settings) -> bool {
    let Some(dir) = &settings.run_dir else {
        return false;
    };
    fs::read_to_string(dir.join(ENDED)).is_ok_and(|token| token == token_digest(settings).to_string())
}

/// Remembers that this boot's enrolment came to its end.
pub(crate) fn set_ended(settings: &Settings, console: &Console) {
    let Some(dir) = &settings.run_dir else { return };
    let token = token_digest(settings).to_string();
    if let Err(error) =
        fs::create_dir_all(dir).and_then(|()| write_secret(&dir.join(ENDED), token.as_bytes()))
    {
        console.say(&format!("{} cannot be written: {error}", dir.join(ENDED).display()));
    }
}

/// The secret of this boot: an earlier agent's, or a fresh one.
pub(crate) fn pass(settings: &Settings, console: &Console) -> Result<Pass, String> {
    if let Some(pass) = load(settings) {
        return Ok(pass);
    }
    let pass = Pass { token: token_digest(settings), credential: secret()?, session: None };
    save(settings, console, &pass);
    Ok(pass)
}

/// An enrolment that needs no hello.
pub(crate) fn handed_over(settings: &Settings, enrolled: Enrolled) -> Pass {
    let Enrolled { credential, welcome } = enrolled;
    let clock = ServerClock::set(welcome.server_time, clock::since_boot());
    Pass { token: token_digest(settings), credential, session: Some(Session { clock, welcome }) }
}

/// 32 random bytes as 64 hex digits.
pub(crate) fn secret() -> Result<String, String> {
    let mut secret = [0; 32];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut secret).map_err(|_| "the kernel gives no random numbers for a credential".to_owned())?;
    Ok(secret.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}

/// Takes up the enrolment of an agent that ended before this one, or enrols, however long that takes.
pub(crate) async fn enrol(
    settings: &Settings,
    client: &Client,
    pass: Pass,
    collector: &dyn Collector,
    console: &Console,
) -> Result<Session, ExitReason> {
    if let Some(session) = pass.session {
        let Welcome { number, host, .. } = &session.welcome;
        console.say(&format!("working on run {number} ({host})"));
        return Ok(session);
    }
    console.say(&format!("asking {} what to do", settings.boot.url));
    let mut backoff = Backoff::new(settings.pacing);
    loop {
        let identity = collector.identity().await;
        let hello = Hello {
            protocol: PROTOCOL,
            token: settings.boot.token.clone(),
            credential: pass.credential.clone(),
            macs: identity.macs,
            system_uuid: identity.system_uuid,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            clock: settings.machine_clock.now(),
        };
        match client.hello(&hello).await {
            Answer::Done(welcome) => {
                let clock = ServerClock::set(welcome.server_time, clock::since_boot());
                console.working("hello");
                console.say(&format!("enrolled as run {} (host {})", welcome.number, welcome.host));
                let session = Session { clock, welcome };
                save(settings, console, &Pass { session: Some(session.clone()), ..pass });
                return Ok(session);
            }
            Answer::Again(why) => console.failing("hello", &why),
            Answer::Refused(why) | Answer::TooLarge(why) | Answer::Void(why) => {
                console.say(&format!("this machine may not enrol: {why}"));
                set_ended(settings, console);
                return Err(ExitReason::Refused(why));
            }
        }
        backoff.pause().await;
    }
}

fn load(settings: &Settings) -> Option<Pass> {
    let content = fs::read(settings.run_dir.as_ref()?.join(CREDENTIAL)).ok()?;
    let pass: Pass = serde_json::from_slice(&content).ok()?;
    (pass.token == token_digest(settings)).then_some(pass)
}

fn save(settings: &Settings, console: &Console, pass: &Pass) {
    let Some(dir) = &settings.run_dir else { return };
    let file = dir.join(CREDENTIAL);
    let content = serde_json::to_vec(pass).expect("plain data");
    if let Err(error) = fs::create_dir_all(dir).and_then(|()| write_secret(&file, &content)) {
        console.say(&format!(
            "{} cannot be written, a crash of the agent would end the run: {error}",
            file.display()
        ));
    }
}

fn token_digest(settings: &Settings) -> Sha256 {
    Sha256::of(settings.boot.token.as_bytes())
}

fn write_secret(file: &Path, content: &[u8]) -> io::Result<()> {
    let beside = file.with_extension("part");
    // An old one may have other permissions, and the mode below counts only for a new file.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?.write_all(content)?;
    fs::rename(&beside, file)
}
