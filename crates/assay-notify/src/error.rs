//! Why a delivery did not work, and what follows from it.

use std::net::IpAddr;
use std::time::Duration;

/// What is to become of a notification that a sink did not confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Certainly not delivered; worth another try.
    Later {
        /// How long the receiver asked to be left alone.
        after: Option<Duration>,
    },
    /// Certainly not delivered, and it will not be: somebody has to change something first.
    Never,
    /// It may have been delivered. Only a sink that tells repeats apart may be told again.
    Unclear,
}

/// Why a delivery did not work. Says what to do about it; never shows a secret or a path of an address.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The address is one of our own network.
    #[error(
        "{host} is an internal address ({ip}); set allow_internal = true for this sink if that is meant \
         (--webhook-allow-internal for --webhook)"
    )]
    Internal {
        /// The host.
        host: String,
        /// What it resolves to.
        ip: IpAddr,
    },
    /// The name does not resolve.
    #[error("the name {host} does not resolve: {why}")]
    Unresolved {
        /// The host.
        host: String,
        /// What the resolver says.
        why: String,
    },
    /// No connection came about: nothing was sent.
    #[error("{host} could not be reached: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// What the client says.
        why: String,
    },
    /// The connection broke while it was told: it may have understood.
    #[error("{host} did not answer: {why}")]
    Cut {
        /// The host.
        host: String,
        /// What the client says.
        why: String,
    },
    /// The receiver refused by HTTP.
    #[error("{host} answered {status}{said}{}", hint(*status))]
    Refused {
        /// The host.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of its answer, or nothing.
        said: String,
        /// How long it asks to be left alone.
        after: Option<Duration>,
    },
    /// The mail server refused.
    #[error("{host} refused {what}: {said}")]
    Mail {
        /// The host.
        host: String,
        /// What it refused: the sender, a recipient, the sign-in …
        what: String,
        /// The SMTP code, if there was one.
        code: Option<u16>,
        /// What it said.
        said: String,
    },
    /// The message could not be put together.
    #[error("the message could not be made: {0}")]
    Unmade(String),
}

impl DeliveryError {
    /// What follows.
    pub fn fate(&self) -> Fate {
        match self {
            Self::Cut { .. } => Fate::Unclear,
            Self::Refused { status, after, .. } => match status {
                408 | 425 | 429 | 500..=503 | 505..=599 => Fate::Later { after: *after },
                // A proxy gave up waiting for a receiver that had been told.
                504 => Fate::Unclear,
                _ => Fate::Never,
            },
            Self::Unresolved { .. } | Self::Unreachable { .. } | Self::Mail { code: Some(400..=499), .. } => {
                Fate::Later { after: None }
            }
            Self::Internal { .. } | Self::Mail { .. } | Self::Unmade(_) => Fate::Never,
        }
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        300..=399 => "; redirects are not followed, put the final address into the settings",
        401 | 403 => "; check the sink's secret, token or password",
        404 | 410 => "; check the sink's address",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_means() {
        let fate = |status| {
            DeliveryError::Refused { host: "h".into(), status, said: String::new(), after: None }.fate()
        };
        for later in [408, 425, 429, 500, 502, 503, 599] {
            assert_eq!(fate(later), Fate::Later { after: None }, "{later}");
        }
        for never in [301, 302, 307, 400, 401, 403, 404, 410, 413, 422] {
            assert_eq!(fate(never), Fate::Never, "{never}");
        }
        assert_eq!(fate(504), Fate::Unclear);
    }

    #[test]
    fn what_a_mail_servers_code_means() {
        let fate = |code| {
            DeliveryError::Mail { host: "h".into(), what: "the sender".into(), code, said: "no".into() }
                .fate()
        };
        assert_eq!(fate(Some(451)), Fate::Later { after: None }, "greylisting");
        assert_eq!(fate(Some(550)), Fate::Never);
        assert_eq!(fate(None), Fate::Never);
    }
}
