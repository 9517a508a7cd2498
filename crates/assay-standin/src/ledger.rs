//! Everything that has happened: a fold of the stand-in's events.

use std::collections::BTreeMap;

use assay_model::Micros;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{FaultId, MergeKind, Push, RouteClass};

/// What has happened up to now. Tokens are in none of it: text that held one names its label instead.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Every request, in the order in which they were finished.
    pub requests: Vec<Request>,
    /// Every pushed ref, taken or refused.
    pub pushes: Vec<Push>,
    /// Pull requests, number 1 first, as they stand now.
    pub pulls: Vec<Pull>,
    /// Every plain registration that was taken.
    pub registrations: Vec<Registration>,
    /// Every "I have joined".
    pub joins: Vec<Join>,
    /// What was deleted over an API. A branch deleted by a push is among the pushes.
    pub deletions: Vec<Deletion>,
    /// Device flows, as each went on.
    pub logins: Vec<Login>,
    /// Every use of a fault.
    pub faults: Vec<FaultUse>,
    /// Connections that came to no request.
    pub troubles: Vec<Trouble>,
    /// The nodes that are registered over plain HTTP now, by name.
    pub nodes: BTreeMap<String, Node>,
    /// Events that found no room ([`Limits::ledger_bytes`](crate::Limits)). Unless 0, this is not all that happened.
    pub left_out: u64,
}

/// One thing that has happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A request was answered, or came to its end without.
    Request(Request),
    /// A ref was pushed, and taken or refused.
    Push(Push),
    /// A pull request was opened.
    PullOpened(Pull),
    /// A pull request was merged or closed.
    PullEnded {
        /// Which.
        number: u64,
        /// How.
        state: PullState,
    },
    /// A node was registered over plain HTTP.
    Registered(Registration),
    /// A node has said that it has joined.
    Joined(Join),
    /// A branch or a node was deleted over an API.
    Deleted(Deletion),
    /// A device flow went on.
    Login(Login),
    /// A fault struck.
    Fault(FaultUse),
    /// A connection came to no request.
    Trouble(Trouble),
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Nobody: no credential was sent.
    Nobody,
    /// Somebody whose credential is not accepted. It is not kept: it may be a real one, meant for somewhere else.
    NotAccepted,
    /// The owner of the accepted token with this label.
    Token(String),
    /// The stand-in's owner, through its operations.
    Owner,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its number; 1 is the first that was begun.
    pub id: u64,
    /// When it was begun.
    pub at: Micros,
    /// The method.
    pub method: String,
    /// Path and query, at most 1024 bytes.
    pub path: String,
    /// What it was about.
    pub route: RouteClass,
    /// The answer's status; `None` where the connection was closed without one.
    pub status: Option<u16>,
    /// Who asked.
    pub who: Who,
    /// Bytes of its body that arrived.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From the headers to the answer.
    pub duration: Micros,
    /// What the client calls itself, at most 256 bytes.
    pub user_agent: Option<String>,
    /// Whether it came over TLS.
    pub tls: bool,
    /// What else there is to say, where there is: why there is no answer, what was refused.
    pub note: Option<String>,
}

/// A pull request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pull {
    /// Its number, from 1.
    pub number: u64,
    /// When it was opened.
    pub at: Micros,
    /// The request that opened it; 0 for the owner's own.
    pub request: u64,
    /// Its title.
    pub title: String,
    /// Its text.
    pub body: String,
    /// The branch that is to be merged.
    pub head: String,
    /// That branch's commit when it was opened.
    pub head_commit: String,
    /// The branch to merge into.
    pub base: String,
    /// Its page: always `https`, on [`Config::host`](crate::Config).
    pub html_url: String,
    /// Who opened it.
    pub by: Who,
    /// How it stands.
    pub state: PullState,
    /// Labels of tokens that its text held.
    pub leaks: Vec<String>,
}

/// How a pull request stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum PullState {
    /// Nothing was decided.
    Open,
    /// Its branch was deleted.
    Closed {
        /// When.
        at: Micros,
    },
    /// It is in the default branch.
    Merged {
        /// When.
        at: Micros,
        /// The default branch's commit after it.
        commit: String,
        /// How.
        how: MergeKind,
    },
}

/// A plain registration that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// When.
    pub at: Micros,
    /// The request.
    pub request: u64,
    /// The node's name: `metadata.name`, `spec.hostname`, `hostname` or `name`, whichever comes first.
    pub name: String,
    /// Whether a node of that name was there before (only `PUT` may).
    pub replaced: bool,
    /// What was sent, as it was sent.
    pub text: String,
    /// What was sent, read as YAML (of which JSON is a part).
    pub document: Value,
    /// Who sent it.
    pub by: Who,
    /// Labels of tokens that it held.
    pub leaks: Vec<String>,
}

/// A node has said that it has joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// When.
    pub at: Micros,
    /// The request.
    pub request: u64,
    /// The node's name.
    pub name: String,
    /// Which cluster, where it said so (`cluster_id`, `clusterId` or `cluster`).
    pub cluster_id: Option<String>,
    /// What else it said.
    pub body: Value,
    /// Whether a node of that name was registered over plain HTTP. One that registers with Git is not.
    pub registered: bool,
    /// Who said it.
    pub by: Who,
    /// Labels of tokens that it held.
    pub leaks: Vec<String>,
}

/// Something was deleted over an API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deletion {
    /// When.
    pub at: Micros,
    /// The request.
    pub request: u64,
    /// What.
    pub what: Deleted,
    /// Who did.
    pub by: Who,
}

/// What was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deleted {
    /// A branch, and the commit it pointed to.
    Branch {
        /// Its name.
        branch: String,
        /// Where it was.
        commit: String,
    },
    /// A node.
    Node {
        /// Its name.
        name: String,
    },
}

/// A device flow went on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Login {
    /// When.
    pub at: Micros,
    /// Which device flow, from 1.
    pub number: u64,
    /// How it stands.
    pub state: LoginState,
}

/// How a device flow stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginState {
    /// A code was asked for.
    Begun,
    /// A poll was answered `authorization_pending`.
    Pending,
    /// A poll came too early.
    SlowDown,
    /// A poll was answered with the token of this label.
    Token(String),
    /// A poll was answered `access_denied`.
    Denied,
    /// A poll came after the code had expired.
    Expired,
}

/// A fault struck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultUse {
    /// When.
    pub at: Micros,
    /// Which.
    pub id: FaultId,
    /// What it did.
    pub effect: crate::Effect,
    /// The route that the request was on; `Any` at a handshake.
    pub route: RouteClass,
    /// The request that it struck; 0 at a handshake.
    pub request: u64,
}

/// A connection came to no request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When.
    pub at: Micros,
    /// What.
    pub kind: TroubleKind,
    /// The status that it was answered with, if it was.
    pub answered: Option<u16>,
    /// What the library says.
    pub detail: String,
    /// Whether TLS was spoken there.
    pub tls: bool,
}

/// Why a connection came to no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// What was sent is not HTTP.
    NotHttp,
    /// The request's line or headers are larger than they may be.
    HeadersTooLarge,
    /// The handshake or the headers did not come in time.
    TooSlow,
    /// The client ended the handshake; the detail says why (an unknown authority, a wrong name …).
    TlsRefused,
    /// The client ended the connection without a request: a probe, or a client that did not like the certificate and
    /// says so only to its own user.
    NoRequest,
    /// As many connections as there may be are open.
    TooManyConnections,
}

/// A node that is registered over plain HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// When it was registered first.
    pub registered_at: Micros,
    /// When it was registered last.
    pub updated_at: Micros,
    /// What was sent last.
    pub document: Value,
    /// When it said that it has joined, if it has.
    pub joined_at: Option<Micros>,
    /// Which cluster it said.
    pub cluster_id: Option<String>,
}

impl Ledger {
    pub(crate) fn apply(&mut self, event: &Event) {
        match event.clone() {
            Event::Request(request) => self.requests.push(request),
            Event::Push(push) => self.pushes.push(push),
            Event::PullOpened(pull) => self.pulls.push(pull),
            Event::PullEnded { number, state } => {
                if let Some(pull) = self.pulls.iter_mut().find(|pull| pull.number == number) {
                    pull.state = state;
                }
            }
            Event::Registered(registration) => {
                let Registration { at, name, document, .. } = registration.clone();
                let node = self.nodes.entry(name).or_insert_with(|| Node {
                    registered_at: at,
                    updated_at: at,
                    document: Value::Null,
                    joined_at: None,
                    cluster_id: None,
                });
                node.updated_at = at;
                node.document = document;
                self.registrations.push(registration);
            }
            Event::Joined(join) => {
                if let Some(node) = self.nodes.get_mut(&join.name) {
                    node.joined_at = Some(join.at);
                    node.cluster_id.clone_from(&join.cluster_id);
                }
                self.joins.push(join);
            }
            Event::Deleted(deletion) => {
                if let Deleted::Node { name } = &deletion.what {
                    self.nodes.remove(name);
                }
                self.deletions.push(deletion);
            }
            Event::Login(login) => self.logins.push(login),
            Event::Fault(fault) => self.faults.push(fault),
            Event::Trouble(trouble) => self.troubles.push(trouble),
        }
    }

    /// The open pull request of a branch.
    pub fn open_pull(&self, head: &str) -> Option<&Pull> {
        self.pulls.iter().find(|pull| pull.head == head && pull.state == PullState::Open)
    }
}

impl Who {
    /// Whether the credential was accepted.
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Token(_) | Self::Owner)
    }
}
