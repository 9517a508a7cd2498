//! The stand-in as its owner sees it: start, watch, make things go wrong, do what an operator would do, stop.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Semaphore, broadcast},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ActiveFault, Config, Event, Fault, FaultId, Ledger, Listen, Outcome, PullState, PushKind, Refusal,
    StandInError, TreeFile, Who,
    api::Devices,
    auth::Tokens,
    book::Book,
    config::is_name,
    fault::Faults,
    forge::{NoPull, Wanted},
    git::{Author, Repository},
    kept::Kept,
    serve::{self, Listener},
    state::State,
    tls::Tls,
    workspace::Workspace,
};

/// How long [`StandIn::stop`] lets Git finish what it has begun.
const SETTLE: Duration = Duration::from_secs(3);
/// How long [`StandIn::stop`] waits for connections to be gone once they were told to.
const GONE: Duration = Duration::from_secs(5);

/// A running stand-in. Dropping it ends everything at once; [`StandIn::stop`] also waits until all has ended.
pub struct StandIn {
    pub(crate) state: Arc<State>,
    endpoints: Vec<Endpoint>,
}

/// Where a stand-in is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address, with the port that the kernel chose.
    pub address: Address,
    /// Whether TLS is spoken there.
    pub tls: bool,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// How a branch came into the default branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeKind {
    /// The default branch was moved to it.
    FastForward,
    /// A commit with two parents joins both.
    MergeCommit,
}

/// A pull request that was merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// Its number.
    pub pull: u64,
    /// The default branch's commit after it.
    pub commit: String,
    /// How.
    pub how: MergeKind,
}

/// A node that was taken out of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deregistered {
    /// The branch that took it out.
    pub branch: String,
    /// Its merge.
    pub merged: Merged,
    /// The files that are gone.
    pub removed: Vec<String>,
}

/// A branch that was pushed, was never proposed, and is still there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// The branch.
    pub branch: String,
    /// Where it is now.
    pub commit: String,
    /// The request that pushed it last; `None` where the ledger had no room for it.
    pub request: Option<u64>,
}

impl StandIn {
    /// Makes the repository and the certificates, and listens. Everything it makes is in a folder of its own.
    ///
    /// # Errors
    /// [`StandInError`]: a setting that cannot work, `git` missing, an address that is taken, a folder that cannot be
    /// used.
    pub async fn start(config: Config) -> Result<Self, StandInError> {
        config.check()?;
        let workspace = Workspace::new(config.folder.as_deref())?;
        let repository = Repository::create(&workspace, &config).await?;
        let kept = config.kept.as_deref().map(Kept::new);
        let ledger = kept.as_ref().map(Kept::ledger).transpose()?.unwrap_or_default();
        let last_request = ledger.requests.iter().map(|request| request.id).max().unwrap_or(0);
        let tls = if config.wants_tls() {
            let authority = kept.as_ref().map(Kept::authority).transpose()?;
            Some(Tls::new(&config.tls_names, authority)?)
        } else {
            None
        };
        let faults = Faults::default();
        for fault in &config.faults {
            faults.add(*fault);
        }
        let state = Arc::new(State {
            repository,
            book: Book::new(config.limits.ledger_bytes, ledger),
            tokens: Tokens::new(config.tokens.clone()),
            faults,
            devices: Devices::default(),
            tls,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            connections: Semaphore::new(config.limits.connections.max(1)),
            pushed_bytes: AtomicU64::new(0),
            next_request: AtomicU64::new(last_request),
            sockets: Mutex::default(),
            workspace,
            config,
        });
        let mut endpoints = Vec::new();
        let mut listeners = Vec::new();
        // All listen before any is served, so that a start that fails has served nobody.
        for place in &state.config.listen {
            let (listener, endpoint) = bind(&state, place).await?;
            listeners.push((listener, endpoint.tls));
            endpoints.push(endpoint);
        }
        for (listener, tls) in listeners {
            state.tasks.spawn(serve::listen(Arc::clone(&state), listener, tls));
        }
        Ok(Self { state, endpoints })
    }

    /// Where it listens, in the order of [`Config::listen`].
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// `http://ADDRESS` of the first plain TCP endpoint.
    pub fn url(&self) -> Option<String> {
        self.tcp(false).map(|address| format!("http://{address}"))
    }

    /// `https://ADDRESS` of the first TCP endpoint with TLS.
    pub fn tls_url(&self) -> Option<String> {
        self.tcp(true).map(|address| format!("https://{address}"))
    }

    /// What Git clones below [`StandIn::url`] and [`StandIn::tls_url`]: `/OWNER/REPOSITORY.git`.
    pub fn git_path(&self) -> String {
        format!("/{}/{}.git", self.state.config.owner, self.state.config.repository)
    }

    /// The certificate of the authority that a client has to trust, as PEM; `None` without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.state.tls.as_ref().map(Tls::ca_pem)
    }

    /// The private folder; gone once the stand-in is.
    pub fn folder(&self) -> &Path {
        self.state.workspace.path()
    }

    /// All that has happened up to now.
    pub fn ledger(&self) -> Ledger {
        self.state.book.with(Clone::clone)
    }

    /// Looks at the ledger without copying it. `look` should be quick: nothing is recorded meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        self.state.book.with(look)
    }

    /// What happens from now on, in the ledger's order. A receiver that falls 1024 events behind is told so
    /// (`Lagged`), and reads the ledger.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.state.book.subscribe()
    }

    /// Waits until `look` finds what it looks for: it is called now, and after each event. No polling.
    ///
    /// # Errors
    /// [`StandInError::Waited`] after `limit`.
    pub async fn wait_for<T>(
        &self,
        limit: Duration,
        look: impl FnMut(&Ledger) -> Option<T>,
    ) -> Result<T, StandInError> {
        self.state.book.wait_for(limit, look).await
    }

    /// Makes something go wrong from now on.
    ///
    /// # Errors
    /// [`StandInError::BadConfig`] for a fault that cannot be.
    pub fn inject(&self, fault: Fault) -> Result<FaultId, StandInError> {
        fault.check()?;
        Ok(self.state.faults.add(fault))
    }

    /// Takes a fault back; false where there is none of that id.
    pub fn heal(&self, id: FaultId) -> bool {
        self.state.faults.remove(id)
    }

    /// Takes all faults back.
    pub fn heal_all(&self) {
        self.state.faults.clear();
    }

    /// The plan of faults, with those that are used up.
    pub fn faults(&self) -> Vec<ActiveFault> {
        self.state.faults.active()
    }

    /// Approves every device that waits; returns how many those are.
    pub fn approve(&self) -> usize {
        self.state.devices.decide(true)
    }

    /// Refuses every device that waits; returns how many those are.
    pub fn deny(&self) -> usize {
        self.state.devices.decide(false)
    }

    /// A file of a branch or commit; `None` where it has no file of that path.
    ///
    /// # Errors
    /// [`StandInError::NoSuchRef`], [`StandInError::TooLarge`], [`StandInError::Git`].
    pub async fn read(&self, reference: &str, path: &str) -> Result<Option<Vec<u8>>, StandInError> {
        self.state.repository.read(reference, path).await
    }

    /// The files of a branch or commit below a folder (all, where that is empty), in Git's order.
    ///
    /// # Errors
    /// [`StandInError::NoSuchRef`], [`StandInError::Git`].
    pub async fn files(&self, reference: &str, under: &str) -> Result<Vec<TreeFile>, StandInError> {
        self.state.repository.files(reference, under).await
    }

    /// The files of the default branch.
    ///
    /// # Errors
    /// [`StandInError::Git`].
    pub async fn tree(&self) -> Result<Vec<TreeFile>, StandInError> {
        self.files(&self.state.repository.default_branch, "").await
    }

    /// Moves the default branch to a commit that the repository has: back to an earlier one, or forth again.
    ///
    /// # Errors
    /// [`StandInError::NoSuchRef`], [`StandInError::Git`].
    pub async fn move_to(&self, commit: &str) -> Result<(), StandInError> {
        let repository = &self.state.repository;
        let _change = repository.change().await;
        repository.move_default(commit).await
    }

    /// Merges the open pull request of `branch` into the default branch: by moving it, or with a commit that joins both.
    ///
    /// # Errors
    /// [`StandInError::Refused`] with the reason; [`StandInError::Git`].
    pub async fn merge(&self, branch: &str) -> Result<Merged, StandInError> {
        let _change = self.state.repository.change().await;
        self.merge_held(branch).await
    }

    /// Takes a node out as the upstream tool does: a branch `deregister/HOST-MICROSECONDS` that removes
    /// `maintainers/MAINTAINER/cluster-nodes/HOST`, a pull request, its merge.
    ///
    /// # Errors
    /// [`StandInError::Refused`] where nothing is registered there; [`StandInError::Git`].
    pub async fn deregister(&self, maintainer: &str, host: &str) -> Result<Deregistered, StandInError> {
        for name in [maintainer, host] {
            if !is_name(name) {
                return Err(Refusal::BadName { name: name.to_owned() }.into());
            }
        }
        let repository = &self.state.repository;
        let _change = repository.change().await;
        let author = Author::of(&self.state.config);
        let folder = format!("maintainers/{maintainer}/cluster-nodes/{host}");
        let branch = format!("deregister/{host}-{}", author.at.0);
        let title = format!("feat(node-deregister): {host}");
        let (_, removed) = repository.remove_below(&folder, &branch, &format!("{title}\n"), &author).await?;
        let wanted = Wanted {
            title,
            body: format!("Removes {folder}."),
            head: branch.clone(),
            base: repository.default_branch.clone(),
        };
        match self.state.open_pull_held(wanted, Who::Owner, 0).await {
            Ok(_) => {}
            Err(NoPull::Failed(error)) => return Err(error),
            Err(other) => {
                let said = format!("{other:?}");
                return Err(StandInError::GitSaid { doing: "proposing a removal", said });
            }
        }
        let merged = self.merge_held(&branch).await?;
        Ok(Deregistered { branch, merged, removed })
    }

    /// Branches that were pushed, have no pull request of any state, and were not deleted, by name.
    ///
    /// # Errors
    /// [`StandInError::Git`].
    pub async fn orphans(&self) -> Result<Vec<Orphan>, StandInError> {
        let repository = &self.state.repository;
        let _change = repository.change().await;
        let refs = repository.refs().await?;
        let branches = refs.into_iter().filter_map(|(name, commit)| {
            name.strip_prefix("refs/heads/").map(|branch| (branch.to_owned(), commit))
        });
        Ok(self.state.book.with(|ledger| {
            let proposed = |branch: &str| ledger.pulls.iter().any(|pull| pull.head == branch);
            branches
                .filter(|(branch, _)| *branch != repository.default_branch && !proposed(branch))
                .map(|(branch, commit)| {
                    let push = ledger.pushes.iter().rev().find(|push| {
                        push.reference.strip_prefix("refs/heads/") == Some(&branch)
                            && push.outcome == Outcome::Applied
                            && push.kind != PushKind::Delete
                    });
                    Orphan { branch, commit, request: push.map(|push| push.request) }
                })
                .collect()
        }))
    }

    /// Ends everything: nothing listens, no connection is open, no process runs and no file is left when it returns.
    /// Git may finish what it has begun, for a few seconds. Returns the ledger.
    pub async fn stop(self) -> Ledger {
        let state = &self.state;
        // Held from here on: a push that was applied is recorded before anything is cut off, and no other begins.
        let _change = timeout(SETTLE, state.repository.change()).await;
        state.repository.settle(SETTLE).await;
        state.stop.cancel();
        state.tasks.close();
        if timeout(GONE, state.tasks.wait()).await.is_err() {
            tracing::warn!("connections of a stopped stand-in are still open");
        }
        state.clean();
        state.book.with(Clone::clone)
    }

    async fn merge_held(&self, branch: &str) -> Result<Merged, StandInError> {
        let repository = &self.state.repository;
        let pull = self.state.book.with(|ledger| {
            let wanted = |pull: &&crate::Pull| {
                pull.head == branch && pull.base == repository.default_branch && pull.state == PullState::Open
            };
            ledger.pulls.iter().find(wanted).map(|pull| (pull.number, pull.title.clone()))
        });
        let (pull, title) = pull.ok_or_else(|| Refusal::NoPull { branch: branch.to_owned() })?;
        let author = Author::of(&self.state.config);
        let (commit, how) = repository.merge(branch, &title, &author).await?;
        let state = PullState::Merged { at: author.at, commit: commit.clone(), how };
        self.state.book.record(Event::PullEnded { number: pull, state });
        Ok(Merged { pull, commit, how })
    }

    fn tcp(&self, tls: bool) -> Option<SocketAddr> {
        self.endpoints.iter().find_map(|endpoint| match endpoint.address {
            Address::Tcp(address) if endpoint.tls == tls => Some(address),
            _ => None,
        })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.state.stop.cancel();
        self.state.tasks.close();
        // A process that is still being killed may write on; what it leaves goes with the last task.
        self.state.clean();
    }
}

impl std::fmt::Debug for StandIn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StandIn")
            .field("endpoints", &self.endpoints)
            .field("config", &self.state.config)
            .finish_non_exhaustive()
    }
}

async fn bind(state: &State, place: &Listen) -> Result<(Listener, Endpoint), StandInError> {
    let tls = matches!(place, Listen::TcpTls(_) | Listen::UnixTls(_));
    match place {
        Listen::Tcp(address) | Listen::TcpTls(address) => {
            let failed = |source| StandInError::Listen { place: address.to_string(), source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let address = Address::Tcp(listener.local_addr().map_err(failed)?);
            Ok((Listener::Tcp(listener), Endpoint { address, tls }))
        }
        Listen::Unix(path) | Listen::UnixTls(path) => {
            let listener = UnixListener::bind(path).map_err(|source| {
                let source = match source.kind() {
                    io::ErrorKind::AddrInUse => io::Error::new(source.kind(), "a file of that name exists"),
                    _ => source,
                };
                StandInError::Listen { place: path.display().to_string(), source }
            })?;
            state.sockets.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
            Ok((Listener::Unix(listener), Endpoint { address: Address::Unix(path.clone()), tls }))
        }
    }
}
