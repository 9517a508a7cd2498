//! A stand-in control plane: takes a machine's self-registration over Git and HTTP, and misbehaves on demand.
//!
//! An installer image registers the machine it has installed: it clones the operators' repository, commits one file,
//! pushes a branch and opens a pull request, or it posts to a plain HTTP service. A test has to see what is sent, on a
//! network without internet, and has to see what the image does when the other side is slow, refuses, or takes the
//! push and is never heard of again. [`StandIn`] is that other side: real Git smart HTTP (the real `git http-backend`
//! over a real bare repository), an API in the shape of two forges, and plain registration. Everything that arrives is
//! in its [`Ledger`], everything that goes wrong is a [`Fault`] that was asked for.
//!
//! It does not know what a run is, judges nothing, and is no forge: whatever is not listed below answers 404 in the
//! forge's own words, and is recorded.
//!
//! | what | where |
//! |---|---|
//! | Git (protocol 0 to 2, Basic, Bearer or `token`) | `/OWNER/REPO[.git]/info/refs`, `/git-upload-pack`, `/git-receive-pack` |
//! | GitHub's shape, also below `/api/v3` | `GET /`, `/user`, `/user/emails`, `/repos/O/R`, `/repos/O/R/pulls[/N]`; `POST …/pulls`; `DELETE …/git/refs/heads/BRANCH` |
//! | device flow | `POST /login/device/code`, `POST /login/oauth/access_token` |
//! | Gitea's and Forgejo's shape, below `/api/v1` | `GET /version`, `/user`, `/user/emails`, `/repos/O/R`, `…/pulls[/N]`; `POST …/pulls`; `DELETE …/branches/BRANCH` |
//! | plain registration | `GET`, `POST /v1/nodes`; `PUT`, `DELETE /v1/nodes/NAME`; `POST /v1/nodes/NAME/joined` |
//!
//! HTTP/1.1 only, on TCP and Unix sockets, with or without TLS (a certificate authority of its own, made at the start).
//! Every size, count and time is bounded ([`Limits`]); bytes that are not HTTP are answered 400 and recorded.

mod api;
mod auth;
mod book;
mod config;
mod error;
mod fault;
mod forge;
mod git;
mod kept;
mod ledger;
mod reply;
mod route;
mod serve;
mod socket;
mod standin;
mod state;
mod tls;
mod workspace;

pub use config::{Config, DeviceFlow, Limits, Listen, PushPolicy, Token};
pub use error::{Refusal, StandInError};
pub use fault::{ActiveFault, Certificate, Effect, Fault, FaultId, RouteClass};
pub use git::{Change, Commit, Outcome, Person, Push, PushKind, TreeFile};
pub use ledger::{
    Deleted, Deletion, Event, FaultUse, Join, Ledger, Login, LoginState, Node, Pull, PullState, Registration,
    Request, Trouble, TroubleKind, Who,
};
pub use standin::{Address, Deregistered, Endpoint, MergeKind, Merged, Orphan, StandIn};
