//! A provider that is kept running between the runs of one runner: started when a run needs it, ended when none has for a while.
//!
//! Its owner is the runner, which holds a lock on its folder. Each run has a realm of its own in it. A newer version is taken over
//! only once it has shown that it works, and the one before is kept until then; a new major version is not taken by itself.
//! [`decide`] says what is to be done, [`Warm`] does it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};

use super::oidc::{self, Bundle, OidcError, OidcProvider, Realm};

/// How long nobody may need it until it is ended.
const IDLE: Duration = Duration::from_mins(10);

/// What is known when something is to be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// Whether a run needs it now.
    needed: bool,
    running: Option<Running>,
    /// The version that this program brings.
    brought: String,
    /// The version that worked last.
    good: Option<String>,
    /// The version that was tried and did not work.
    refused: Option<String>,
    /// Whether a new major version may be taken over.
    majors: bool,
}

/// One that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Running {
    version: String,
    /// Whether it still answers.
    healthy: bool,
    realms: usize,
    idle: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    /// The one that runs is right.
    Use,
    /// Start this version, which there is no reason to doubt, or no other one of.
    Start {
        version: String,
        /// Why it is not the one that this program brings.
        because: Option<Kept>,
    },
    /// Start a newer version; where it does not work, go back.
    Upgrade {
        from: String,
        to: String,
    },
    /// End the one that runs.
    Stop,
}

/// Why an older version is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// The newer one did not work.
    NotHealthy,
    /// The newer one is of another major version, and nobody said that this is all right.
    Major,
}

fn decide(seen: &Seen) -> Action {
    if let Some(running) = &seen.running {
        return match (running.healthy, seen.needed) {
            // What is in it is lost already. The next look starts another.
            (false, _) => Action::Stop,
            (true, true) => Action::Use,
            (true, false) if running.realms == 0 && running.idle >= IDLE => Action::Stop,
            (true, false) => Action::Nothing,
        };
    }
    if !seen.needed {
        return Action::Nothing;
    }
    let start = |version: &str, because| Action::Start { version: version.to_owned(), because };
    let Some(good) = seen.good.as_ref().filter(|good| **good != seen.brought) else {
        return start(&seen.brought, None);
    };
    if seen.refused.as_ref() == Some(&seen.brought) {
        start(good, Some(Kept::NotHealthy))
    } else if major(good) != major(&seen.brought) && !seen.majors {
        start(good, Some(Kept::Major))
    } else {
        Action::Upgrade { from: good.clone(), to: seen.brought.clone() }
    }
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or_default()
}

/// The providers that a runner keeps. Clones share them. Nothing runs until something is needed.
#[derive(Clone, Debug, Default)]
pub struct Warm {
    majors: bool,
    /// Another provider than the one that this program brings; tests have some.
    brings: Option<Arc<Bundle>>,
    held: Arc<Mutex<Option<Held>>>,
}

/// A provider in its folder.
struct Held {
    folder: PathBuf,
    /// Whoever has this lock is the owner.
    _owner: File,
    running: Option<Started>,
}

struct Started {
    provider: OidcProvider,
    realms: usize,
    /// When the last realm went.
    idle_since: Instant,
    /// Why it is not the version that this program brings.
    remark: Option<String>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Where a realm is, and what its user should know of the provider.
pub(super) struct Place {
    pub(super) socket: PathBuf,
    pub(super) version: String,
    /// Why it is not the version that this program brings.
    pub(super) remark: Option<String>,
}

impl Warm {
    /// Nothing runs yet. `majors`: whether a new major version may be taken over from the one that was in use.
    pub fn new(majors: bool) -> Self {
        Self { majors, ..Self::default() }
    }

    fn bundle(&self) -> Result<Arc<Bundle>, String> {
        match &self.brings {
            Some(bundle) => Ok(Arc::clone(bundle)),
            None => Bundle::brought().map(Arc::new).map_err(|error| error.to_string()),
        }
    }

    /// Makes a realm, in a provider that is started where none runs. `folder` is the same for all runs of a runner.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(super) async fn realm(&self, folder: &Path, id: &str, realm: &Realm) -> Result<Place, String> {
        let mut held = self.held.lock().await;
        let owned = own(&mut held, folder)?;
        let bundle = self.bundle()?;
        // At most: end a dead one, try the newer one, go back.
        for _ in 0..4 {
            match decide(&owned.seen(true, self.majors, &bundle.version).await) {
                Action::Nothing | Action::Use => break,
                Action::Stop => owned.stop().await?,
                Action::Start { version, because } => {
                    owned.start(&version, &bundle).await.map_err(|error| error.to_string())?;
                    if let Some(started) = &mut owned.running {
                        started.remark = because.map(|because| because.words(&version));
                    }
                }
                Action::Upgrade { from, to } => match owned.start(&to, &bundle).await {
                    Ok(()) => owned.settle(&from, &to)?,
                    Err(error) => {
                        tracing::warn!(
                            from,
                            to,
                            "the newer provider does not work, the one before is used: {error}"
                        );
                        owned.write("refused", &to)?;
                    }
                },
            }
        }
        let started = owned.running.as_mut().ok_or("no provider runs")?;
        started.provider.make(id, realm).await.map_err(|error| error.to_string())?;
        started.realms += 1;
        let version = started.provider.version().to_owned();
        let (socket, remark) = (started.provider.socket().to_owned(), started.remark.clone());
        Ok(Place { socket, version, remark })
    }

    /// Removes a realm: what happened in it. The provider is ended when nobody needs it for a while.
    ///
    /// # Errors
    /// Why it may still be there, for people.
    pub(super) async fn give_back(&self, id: &str) -> Result<Vec<String>, String> {
        let mut held = self.held.lock().await;
        let started = held.as_mut().and_then(|held| held.running.as_mut()).ok_or("the provider is gone")?;
        started.realms = started.realms.saturating_sub(1);
        started.idle_since = Instant::now();
        let removed = started.provider.remove(id).await.map_err(|error| error.to_string());
        // Nothing happens that would tell that nothing happened.
        let later = Arc::downgrade(&self.held);
        let (majors, brought) = (self.majors, self.bundle()?.version.clone());
        tokio::spawn(async move {
            tokio::time::sleep(IDLE).await;
            let Some(held) = later.upgrade() else { return };
            if let Some(owned) = held.lock().await.as_mut()
                && decide(&owned.seen(false, majors, &brought).await) == Action::Stop
                && let Err(why) = owned.stop().await
            {
                tracing::warn!("the provider that nobody needs cannot be ended: {why}");
            }
        });
        removed
    }
}

fn own<'a>(held: &'a mut MutexGuard<'_, Option<Held>>, folder: &Path) -> Result<&'a mut Held, String> {
    if held.is_none() {
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(folder).map_err(failed)?;
        let owner = File::create(folder.join("owner")).map_err(failed)?;
        owner.try_lock().map_err(|_| {
            format!(
                "{}: another runner keeps its provider there; give each a folder of its own",
                folder.display()
            )
        })?;
        **held = Some(Held { folder: folder.to_owned(), _owner: owner, running: None });
    }
    held.as_mut().ok_or_else(|| "there is no folder for it".to_owned())
}

impl Held {
    async fn seen(&self, needed: bool, majors: bool, brought: &str) -> Seen {
        let running = match &self.running {
            None => None,
            Some(started) => Some(Running {
                version: started.provider.version().to_owned(),
                healthy: started.provider.check().await.is_ok(),
                realms: started.realms,
                idle: started.idle_since.elapsed(),
            }),
        };
        // One that worked and is not there any more cannot be gone back to.
        let good = self.read("good").filter(|good| self.version(good).join(oidc::FILE).is_file());
        let brought = brought.to_owned();
        Seen { needed, running, brought, good, refused: self.read("refused"), majors }
    }

    async fn start(&mut self, version: &str, bundle: &Bundle) -> Result<(), OidcError> {
        let folder = self.version(version);
        if bundle.version == version {
            bundle.unpack(&folder)?;
        }
        let provider = OidcProvider::start(&folder).await?;
        if self.read("good").is_none() {
            // The first one that works.
            let path = self.folder.join("good");
            std::fs::write(&path, version).map_err(|source| OidcError::Folder { path, source })?;
        }
        self.running = Some(Started { provider, realms: 0, idle_since: Instant::now(), remark: None });
        Ok(())
    }

    /// A newer one works: the one before is not needed any more.
    fn settle(&self, from: &str, to: &str) -> Result<(), String> {
        tracing::info!(from, to, "the newer provider works, and is used from now on");
        self.write("good", to)?;
        let before = self.version(from);
        std::fs::remove_dir_all(&before).map_err(|error| format!("{}: {error}", before.display()))
    }

    async fn stop(&mut self) -> Result<(), String> {
        let Some(started) = self.running.take() else { return Ok(()) };
        started.provider.stop().await.map_err(|error| error.to_string())
    }

    fn version(&self, version: &str) -> PathBuf {
        // It is read from files: no path comes of it.
        self.folder.join(version.replace(['/', '\0'], "-"))
    }

    fn read(&self, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.folder.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty() && text != "..")
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Kept {
    fn words(self, version: &str) -> String {
        match self {
            Self::NotHealthy => {
                format!("it is version {version}: the newer one that this program brings did not work")
            }
            Self::Major => format!(
                "it is version {version}: the one that this program brings is of another major version, which is not taken over \
                 without being told (`assay runner --major-upgrades`)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Seen {
        Seen {
            needed: true,
            running: None,
            brought: "9.2.0".to_owned(),
            good: None,
            refused: None,
            majors: false,
        }
    }

    fn running(healthy: bool, realms: usize, idle: Duration) -> Running {
        Running { version: "9.1.0".to_owned(), healthy, realms, idle }
    }

    #[test]
    fn what_is_done_follows_from_what_is_seen() {
        let some = |version: &str| Some(version.to_owned());
        let idle = |needed, running| Seen { needed, running: Some(running), ..nothing() };
        let before = |good: &str| Seen { good: some(good), ..nothing() };
        let start = |version: &str, because| Action::Start { version: version.to_owned(), because };
        let upgrade = |from: &str| Action::Upgrade { from: from.to_owned(), to: "9.2.0".to_owned() };
        let (moment, long) = (Duration::from_secs(1), IDLE);
        for (what, seen, action) in [
            ("nobody needs it", Seen { needed: false, ..nothing() }, Action::Nothing),
            ("the first time", nothing(), start("9.2.0", None)),
            ("it runs", idle(true, running(true, 0, long)), Action::Use),
            ("it runs, for others as well", idle(true, running(true, 3, moment)), Action::Use),
            ("it is dead", idle(true, running(false, 3, moment)), Action::Stop),
            ("it is dead, and nobody minds", idle(false, running(false, 0, moment)), Action::Stop),
            ("it is in use for long", idle(false, running(true, 1, long)), Action::Nothing),
            ("it was needed a moment ago", idle(false, running(true, 0, moment)), Action::Nothing),
            ("nobody needs it for long", idle(false, running(true, 0, long)), Action::Stop),
            ("the same as before", before("9.2.0"), start("9.2.0", None)),
            ("a newer one", before("9.1.0"), upgrade("9.1.0")),
            ("a newer major one", before("8.8.1"), start("8.8.1", Some(Kept::Major))),
            ("an older major one", before("10.0.0"), start("10.0.0", Some(Kept::Major))),
            ("a newer major one, as told", Seen { majors: true, ..before("8.8.1") }, upgrade("8.8.1")),
            (
                "a newer one that did not work",
                Seen { refused: some("9.2.0"), ..before("9.1.0") },
                start("9.1.0", Some(Kept::NotHealthy)),
            ),
            (
                "a newer one after one that did not work",
                Seen { refused: some("9.1.9"), ..before("9.1.0") },
                upgrade("9.1.0"),
            ),
            (
                "the only one there is, although it did not work",
                Seen { refused: some("9.2.0"), ..nothing() },
                start("9.2.0", None),
            ),
        ] {
            assert_eq!(decide(&seen), action, "{what}");
        }
    }

    fn realm() -> Realm {
        let word = || "word".to_owned();
        Realm {
            issuer: "https://sso.app.test/r1".to_owned(),
            origin: "https://app.test".to_owned(),
            client_id: word(),
            client_secret: word(),
            username: word(),
            password: word(),
            name: word(),
            email: word(),
        }
    }

    fn cannot() -> bool {
        Bundle::brought().is_err()
            || assay_process::find_program("node").is_err()
            || !rustix::process::geteuid().is_root()
    }

    #[tokio::test]
    async fn runs_share_one_provider_and_it_has_one_owner() {
        if cannot() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let warm = Warm::default();
        let one = warm.realm(folder.path(), "r1", &realm()).await.unwrap();
        let other = warm.clone().realm(folder.path(), "r2", &realm()).await.unwrap();
        assert_eq!((&one.socket, one.remark), (&other.socket, None));
        let error = Warm::default().realm(folder.path(), "r3", &realm()).await.map(drop).unwrap_err();
        assert!(
            error.ends_with("another runner keeps its provider there; give each a folder of its own"),
            "{error}"
        );
        assert_eq!(warm.give_back("r1").await.unwrap(), Vec::<String>::new());
        let error = warm.give_back("r1").await.unwrap_err();
        assert!(error.contains("there is no such realm"), "{error}");
    }

    #[tokio::test]
    async fn a_newer_one_that_does_not_work_is_not_used_and_not_tried_again() {
        if cannot() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let bundle = Bundle::brought().unwrap();
        let brought = bundle.version.clone();
        // An older one that works: the same program under another name. The newer one is in the way of itself.
        let older = format!("{}.0.0-before", major(&brought));
        bundle.unpack(&folder.path().join(&older)).unwrap();
        std::fs::write(folder.path().join("good"), &older).unwrap();
        std::fs::create_dir(folder.path().join(&brought)).unwrap();
        std::fs::create_dir(folder.path().join(&brought).join(oidc::FILE)).unwrap();

        let warm = Warm::default();
        let place = warm.realm(folder.path(), "r1", &realm()).await.unwrap();
        assert_eq!(place.socket, folder.path().join(&older).join("app.sock"));
        assert!(place.remark.unwrap().contains("did not work"));
        assert_eq!(std::fs::read_to_string(folder.path().join("refused")).unwrap(), brought);
        drop(warm);

        // Another program comes, that works: it is tried, and the older one goes.
        std::fs::remove_file(folder.path().join("refused")).unwrap();
        std::fs::remove_dir_all(folder.path().join(&brought)).unwrap();
        let place = Warm::default().realm(folder.path(), "r1", &realm()).await.unwrap();
        assert_eq!((place.version, place.remark), (brought.clone(), None));
        assert_eq!(std::fs::read_to_string(folder.path().join("good")).unwrap(), brought);
        assert!(!folder.path().join(&older).exists());
    }

    /// The provider as it would be at another version: the program that says that it is that one.
    fn at_version(version: &str) -> Bundle {
        let bundle = Bundle::brought().unwrap();
        let program = String::from_utf8(bundle.program.into_owned()).unwrap();
        assert!(program.contains(&bundle.version), "it says its version");
        let program = program.replace(&bundle.version, version).into_bytes().into();
        Bundle { version: version.to_owned(), program }
    }

    /// One that starts, and cannot make a realm.
    fn sick(version: &str) -> Bundle {
        let bundle = at_version(version);
        let program = String::from_utf8(bundle.program.into_owned()).unwrap();
        let other = program.replace(r"\/realms\/", r"\/rooms\/");
        assert_ne!(program, other, "it has a way to its realms");
        Bundle { version: bundle.version, program: other.into_bytes().into() }
    }

    /// A runner's, as it is after a restart with another build.
    fn bringing(bundle: &Bundle, majors: bool) -> Warm {
        Warm { brings: Some(Arc::new(bundle.clone())), ..Warm::new(majors) }
    }

    /// Whether a realm still says who it is.
    async fn answers(warm: &Warm, id: &str) -> bool {
        let held = warm.held.lock().await;
        let started = held.as_ref().and_then(|held| held.running.as_ref()).expect("it runs");
        started.provider.discover(id, &realm()).await.is_ok()
    }

    #[tokio::test]
    async fn a_newer_version_is_taken_over_when_it_works_and_only_then() {
        if cannot() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let file = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        let (first, newer, bad, major) =
            (at_version("9.1.0"), at_version("9.2.0"), sick("9.3.0"), at_version("10.0.0"));

        // A run is under way in the first version. Another build's runner beside it gets nothing, and disturbs nothing.
        let warm = bringing(&first, false);
        assert_eq!(warm.realm(folder, "r1", &realm()).await.unwrap().version, "9.1.0");
        let error = bringing(&newer, false).realm(folder, "r2", &realm()).await.map(drop).unwrap_err();
        assert!(error.contains("another runner keeps its provider there"), "{error}");
        assert!(answers(&warm, "r1").await, "the run goes on");
        assert_eq!(file("good").as_deref(), Some("9.1.0"));
        warm.give_back("r1").await.unwrap();
        drop(warm);

        // The runner is started anew with a newer one: two runs at once are served by the one that took over.
        let warm = bringing(&newer, false);
        let (realm_1, realm_2) = (realm(), realm());
        let (one, other) =
            tokio::join!(warm.realm(folder, "r1", &realm_1), warm.realm(folder, "r2", &realm_2));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!((one.version.as_str(), one.remark), ("9.2.0", None));
        assert_eq!((other.socket, other.remark), (one.socket, None));
        assert_eq!(file("good").as_deref(), Some("9.2.0"));
        assert!(!folder.join("9.1.0").exists(), "the one before is not needed any more");
        warm.give_back("r1").await.unwrap();
        assert!(answers(&warm, "r2").await, "a run that ends takes nothing from another");
        drop(warm);

        // One that never gets well: the one before serves the same two, and says why it is used.
        let warm = bringing(&bad, false);
        let (one, other) =
            tokio::join!(warm.realm(folder, "r1", &realm_1), warm.realm(folder, "r2", &realm_2));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!((one.version.as_str(), other.version.as_str()), ("9.2.0", "9.2.0"));
        assert_eq!(one.remark, other.remark, "both are told");
        insta::assert_snapshot!(one.remark.unwrap(), @"it is version 9.2.0: the newer one that this program brings did not work");
        assert!(answers(&warm, "r1").await && answers(&warm, "r2").await);
        assert_eq!((file("good").as_deref(), file("refused").as_deref()), (Some("9.2.0"), Some("9.3.0")));
        drop(warm);

        // Another major version is not taken over by itself.
        let warm = bringing(&major, false);
        let place = warm.realm(folder, "r1", &realm()).await.unwrap();
        assert_eq!(place.version, "9.2.0");
        assert!(place.remark.unwrap().contains("of another major version"));
        drop(warm);
        let place = bringing(&major, true).realm(folder, "r1", &realm()).await.unwrap();
        assert_eq!((place.version.as_str(), place.remark), ("10.0.0", None));
        assert_eq!(file("good").as_deref(), Some("10.0.0"));
    }
}
