//! Why a machine could not be switched, worded so that the operator knows what to do.

use std::{io, path::PathBuf, time::Duration};

use assay_process::ProcessError;

use super::PowerState;

/// What keeps a machine from being switched.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// A setting cannot work.
    #[error("power setting `{field}` = `{value}`: {problem}")]
    BadSettings {
        /// The setting.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The runner's file of passwords does not serve.
    #[error("{path}: {problem}", path = path.display())]
    Secrets {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// No answer, or no way there.
    #[error(
        "{bmc} cannot be reached: {said}; check its address, its cable and that its service is switched on"
    )]
    Unreachable {
        /// The BMC.
        bmc: String,
        /// What was seen.
        said: String,
    },
    /// It knows the user not, or the password not.
    #[error("{bmc} refuses user `{user}`: {said}; correct the credential in the runner's bmc-secrets.toml")]
    WrongPassword {
        /// The BMC.
        bmc: String,
        /// Who asked.
        user: String,
        /// What it said.
        said: String,
    },
    /// Its certificate is not the one that was pinned, or nobody vouches for it.
    #[error("{bmc} shows a certificate that is not trusted: {said}")]
    Untrusted {
        /// The BMC.
        bmc: String,
        /// What it showed, and what to do.
        said: String,
    },
    /// It began to answer and did not get done.
    #[error(
        "{bmc} was too slow: {doing}, {said}; raise `timeout_s`, or reset the BMC itself if it stays like this"
    )]
    Slow {
        /// The BMC.
        bmc: String,
        /// What it was asked.
        doing: &'static str,
        /// What was seen.
        said: String,
    },
    /// It understood and said no.
    #[error("{bmc} refuses {doing}: {said}")]
    Refused {
        /// The BMC.
        bmc: String,
        /// What it was asked.
        doing: &'static str,
        /// Its words.
        said: String,
    },
    /// It, or the method, cannot do this at all.
    #[error("{bmc} cannot do this ({doing}): {said}")]
    Unsupported {
        /// The BMC.
        bmc: String,
        /// What it was asked.
        doing: &'static str,
        /// Why not, and what to do.
        said: String,
    },
    /// It took the order, and the machine did not follow.
    #[error(
        "{bmc} took the order, but the machine is still {seen} and not {wanted} after {after:?}; look at the machine, or raise `timeout_s`"
    )]
    NotConfirmed {
        /// The BMC.
        bmc: String,
        /// What was asked for.
        wanted: PowerState,
        /// What it is.
        seen: PowerState,
        /// How long it was watched.
        after: Duration,
    },
    /// Its answer does not read.
    #[error(
        "{bmc} answered {doing} with something unexpected: {said}; update its firmware, or use another method"
    )]
    Garbled {
        /// The BMC.
        bmc: String,
        /// What it was asked.
        doing: &'static str,
        /// What it said.
        said: String,
    },
    /// A packet could not be sent.
    #[error("{doing} failed: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A tool is missing or could not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl PowerError {
    /// The kind in one stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadSettings { .. } => "PowerSettings",
            Self::Secrets { .. } => "BmcSecrets",
            Self::Unreachable { .. } => "BmcUnreachable",
            Self::WrongPassword { .. } => "BmcWrongPassword",
            Self::Untrusted { .. } => "BmcUntrusted",
            Self::Slow { .. } => "BmcSlow",
            Self::Refused { .. } => "BmcRefused",
            Self::Unsupported { .. } => "PowerUnsupported",
            Self::NotConfirmed { .. } => "PowerNotConfirmed",
            Self::Garbled { .. } => "BmcGarbled",
            Self::Io { .. } | Self::Process(_) => "PowerTool",
        }
    }

    /// Whether the same question may be answered a little later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Slow { .. })
    }
}
