//! Why a forge did not do what it was asked for, and what follows from it. Nothing here shows a token.

use std::fmt;
use std::time::Duration;

use crate::forge::ForgeKind;

/// What a forge was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doing {
    /// Who the token belongs to.
    WhoAmI,
    /// Comments.
    ReadComments,
    /// A pull request.
    ReadPull,
    /// Its changed files.
    ReadFiles,
    /// Members of an organisation.
    ReadMembers,
    /// Members of a team.
    ReadTeam,
    /// A new comment.
    Comment,
    /// Another text in a comment.
    EditComment,
    /// A commit status.
    SetStatus,
    /// Webhooks.
    ReadHooks,
    /// A webhook.
    SetHook,
}

impl Doing {
    /// As in "was asked to …".
    pub const fn words(self) -> &'static str {
        match self {
            Self::WhoAmI => "say whose token this is",
            Self::ReadComments => "list the comments",
            Self::ReadPull => "show the pull request",
            Self::ReadFiles => "list the files of the pull request",
            Self::ReadMembers => "say who belongs to the organisation",
            Self::ReadTeam => "say who belongs to the team",
            Self::Comment => "take a comment",
            Self::EditComment => "take another text for a comment",
            Self::SetStatus => "take a commit status",
            Self::ReadHooks => "list the webhooks",
            Self::SetHook => "take a webhook",
        }
    }

    /// The permission that a token needs for it.
    pub const fn needs(self, kind: ForgeKind) -> &'static str {
        match kind {
            ForgeKind::Forgejo => match self {
                Self::WhoAmI => "read:user",
                Self::ReadComments => "read:issue",
                Self::ReadPull | Self::ReadFiles => "read:repository",
                Self::ReadMembers | Self::ReadTeam => "read:organization",
                Self::Comment | Self::EditComment => "write:issue",
                Self::SetStatus => "write:repository, and its owner the right to write to the repository",
                Self::ReadHooks | Self::SetHook => {
                    "write:repository, and its owner the repository's administration"
                }
            },
            ForgeKind::GitHub => match self {
                Self::WhoAmI => "no permission of its own",
                Self::ReadComments => "Issues: read",
                Self::ReadPull | Self::ReadFiles => "Pull requests: read",
                Self::ReadMembers | Self::ReadTeam => "Members: read",
                Self::Comment | Self::EditComment => "Issues: write",
                Self::SetStatus => "Commit statuses: write",
                Self::ReadHooks | Self::SetHook => "Webhooks: write",
            },
        }
    }

    /// Whether doing it again can make something twice.
    pub const fn changes(self) -> bool {
        matches!(self, Self::Comment | Self::EditComment | Self::SetStatus | Self::SetHook)
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Certainly not done; worth another try, not before this time has gone by.
    Later {
        /// What the forge asks for; `None` leaves it to us.
        after: Option<Duration>,
    },
    /// It may have been done: look before doing it again.
    Look,
    /// Certainly not done, and it will not be: somebody has to change something first.
    Never,
}

/// Why a forge did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// 401.
    #[error(
        "{host} does not accept our token (it was asked to {doing}){said}; make a new token and put it into the settings"
    )]
    Unauthorised {
        /// The forge.
        host: String,
        /// What for.
        doing: Doing,
        /// What it said, with a colon before it; or nothing.
        said: String,
    },
    /// 403.
    #[error("{host} refuses to {doing} of {of}{said}; the token needs {needs}")]
    Forbidden {
        /// The forge.
        host: String,
        /// What for.
        doing: Doing,
        /// Of what: a repository, a pull request, an organisation.
        of: String,
        /// The permission that would help.
        needs: &'static str,
        /// What it said, with a colon before it; or nothing.
        said: String,
    },
    /// 404, 410. Also what a forge answers about something that the token may not see.
    #[error(
        "{host} was asked to {doing} of {of} and finds nothing{said}; check the name, and that the token's owner can see it"
    )]
    NotFound {
        /// The forge.
        host: String,
        /// What for.
        doing: Doing,
        /// Of what.
        of: String,
        /// What it said, with a colon before it; or nothing.
        said: String,
    },
    /// 301, 307, 308: renamed.
    #[error(
        "{of} is somewhere else at {host} now; put its new name into the settings (redirects are not followed)"
    )]
    Moved {
        /// The forge.
        host: String,
        /// What has moved.
        of: String,
    },
    /// 409.
    #[error("{host} cannot {doing} of {of} just now, since something else is at it{said}; it is tried again")]
    Conflict {
        /// The forge.
        host: String,
        /// What for.
        doing: Doing,
        /// Of what.
        of: String,
        /// What it said, with a colon before it; or nothing.
        said: String,
    },
    /// 429, or GitHub's 403 with the same meaning.
    #[error("{host} wants to be left alone for {} s; nothing needs to be done, or raise the limit of the token", after.as_secs())]
    RateLimited {
        /// The forge.
        host: String,
        /// For how long, by the forge's clock.
        after: Duration,
    },
    /// No answer in time. It may have been done.
    #[error(
        "{host} was asked to {doing} and did not answer within {seconds} s; it is looked after, then tried again"
    )]
    Slow {
        /// The forge.
        host: String,
        /// What for.
        doing: Doing,
        /// The limit.
        seconds: u64,
    },
    /// The connection broke before the answer. It may have been done.
    #[error(
        "{host} was asked to {doing}, and the connection broke: {why}; it is looked after, then tried again"
    )]
    Cut {
        /// The forge.
        host: String,
        /// What for.
        doing: Doing,
        /// What the client says.
        why: String,
    },
    /// No connection came about. Nothing was asked.
    #[error("{host} could not be reached: {why}; check the address in the settings and the network")]
    Unreachable {
        /// The forge.
        host: String,
        /// What the client says.
        why: String,
    },
    /// 5xx.
    #[error("{host} was asked to {doing} and is in trouble itself ({status}{said}); it is tried again")]
    Unwell {
        /// The forge.
        host: String,
        /// What for.
        doing: Doing,
        /// The HTTP status.
        status: u16,
        /// What it said, with a colon before it; or nothing.
        said: String,
        /// How long it asks to be left alone.
        after: Option<Duration>,
    },
    /// Any other status of refusal, 422 mostly.
    #[error(
        "{host} does not want to {doing} of {of} ({status}{said}); this is ours to mend, please report it"
    )]
    Refused {
        /// The forge.
        host: String,
        /// What for.
        doing: Doing,
        /// Of what.
        of: String,
        /// The HTTP status.
        status: u16,
        /// What it said, with a colon before it; or nothing.
        said: String,
    },
    /// An answer that is none.
    #[error(
        "{host} was asked to {doing} and answered something else: {why}; check that the address in the settings is a forge's API, and nothing in between answers for it"
    )]
    Unexpected {
        /// The forge.
        host: String,
        /// What for.
        doing: Doing,
        /// What is wrong with it.
        why: String,
    },
    /// Registering webhooks has to be asked for.
    #[error(
        "webhooks are not registered unless the settings say so; set register_webhooks = true, or make the webhook by hand"
    )]
    HooksNotAskedFor,
}

impl ForgeError {
    /// What follows.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Slow { doing, .. } | Self::Cut { doing, .. } if doing.changes() => Advice::Look,
            // A gateway gave up waiting for a forge that had been told.
            Self::Unwell { doing, status: 502 | 504, .. } if doing.changes() => Advice::Look,
            Self::RateLimited { after, .. } => Advice::Later { after: Some(*after) },
            Self::Unwell { after, .. } => Advice::Later { after: *after },
            Self::Slow { .. } | Self::Cut { .. } | Self::Unreachable { .. } | Self::Conflict { .. } => {
                Advice::Later { after: None }
            }
            Self::Unauthorised { .. }
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Moved { .. }
            | Self::Refused { .. }
            | Self::Unexpected { .. }
            | Self::HooksNotAskedFor => Advice::Never,
        }
    }

    /// Whether it speaks of the whole forge, not of one repository.
    pub fn is_of_the_forge(&self) -> bool {
        matches!(
            self,
            Self::Unauthorised { .. }
                | Self::RateLimited { .. }
                | Self::Slow { .. }
                | Self::Cut { .. }
                | Self::Unreachable { .. }
                | Self::Unwell { .. }
        )
    }
}
