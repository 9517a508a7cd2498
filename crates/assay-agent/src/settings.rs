//! What the agent is told before it speaks to anyone: the kernel command line, and where its files are.
//!
//! The command line is written by the control plane's boot script, one for each boot:
//! `assay.url=https://10.77.0.1:8443 assay.token=… assay.fp=sha256:<digest of the server's certificate, DER>`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assay_model::{Clock, Sha256};
use reqwest::Url;

/// Everything that [`crate::Agent::run`] needs to know.
#[derive(Clone)]
pub struct Settings {
    /// The control plane: what to reach and how to know it.
    pub boot: BootSettings,
    /// Where undelivered items are kept so that a crash of the agent loses none. `None` keeps them in this
    /// process only.
    pub spool: Option<PathBuf>,
    /// Where the credential is kept across a crash of the agent; a tmpfs in the live image. `None` keeps it in
    /// this process only.
    pub run_dir: Option<PathBuf>,
    /// The machine's kernel log (`/dev/kmsg`); `None` ships no kernel messages.
    pub kmsg: Option<PathBuf>,
    /// What switches the machine off, program and arguments. Empty: nothing is started.
    pub poweroff: Vec<String>,
    /// The machine's own clock. It may be decades off: it is told to the control plane, and used for nothing.
    pub machine_clock: Arc<dyn Clock>,
    /// Where lines for people go.
    pub console: Arc<dyn Fn(&str) + Send + Sync>,
    /// How patient the agent is.
    pub pacing: Pacing,
    /// How much may wait in the spool.
    pub bounds: Bounds,
}

/// The agent's part of the kernel command line.
#[derive(Clone, PartialEq, Eq)]
pub struct BootSettings {
    /// Where the control plane answers; always https.
    pub url: Url,
    /// The one-time token of this boot.
    pub token: String,
    /// The SHA-256 of the only certificate that is accepted.
    pub fingerprint: Sha256,
}

/// Waiting times. The defaults are the product's; simulations and tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Pacing {
    /// After the first failure; doubles from there.
    pub first_retry: Duration,
    /// The longest pause between two tries.
    pub last_retry: Duration,
    /// How long one second of the protocol (`heartbeat_s`, `sensor_s`, `timeout_s`) lasts.
    pub second: Duration,
    /// The longest that one request may take, a long poll's waiting time not counted.
    pub request: Duration,
    /// How long the control plane may hold a poll open, in seconds.
    pub poll_s: u32,
    /// The pause before a command that is being worked on, or a hold, is asked for again.
    pub again: Duration,
    /// How long log lines are gathered into a chunk.
    pub log_flush: Duration,
    /// How long a machine that is to go off still tries to deliver its spool.
    pub farewell: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            first_retry: Duration::from_millis(200),
            last_retry: Duration::from_secs(5),
            second: Duration::from_secs(1),
            request: Duration::from_secs(20),
            poll_s: 20,
            again: Duration::from_secs(1),
            log_flush: Duration::from_secs(1),
            farewell: Duration::from_mins(1),
        }
    }
}

/// The most that each lane of the spool holds, in bytes. What comes when a lane is full is not kept, is counted,
/// and a log line says so; numbers are given only to what is kept, so they stay without gaps.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Sensor batches: 64 MiB, some weeks of 12 sensors every 5 s.
    pub sensors: u64,
    /// Log chunks: 32 MiB.
    pub logs: u64,
    /// Artifacts: 512 MiB together with results. A result is always kept.
    pub evidence: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { sensors: 64 << 20, logs: 32 << 20, evidence: 512 << 20 }
    }
}

/// The kernel command line does not say what the agent needs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// One of the three is not there.
    #[error(
        "the kernel command line has no `{key}=`; boot this machine through the control plane's boot script"
    )]
    Missing {
        /// Which.
        key: &'static str,
    },
    /// One of the three cannot be used.
    #[error("`{key}` on the kernel command line is not usable: {problem}")]
    Invalid {
        /// Which.
        key: &'static str,
        /// Why, and what it should look like.
        problem: String,
    },
}

impl BootSettings {
    /// Reads a kernel command line. Where a key stands twice, the last one counts, as it does for the kernel.
    ///
    /// # Errors
    /// [`SettingsError`] when one of the three keys is missing or malformed. The token is never repeated.
    pub fn from_cmdline(cmdline: &str) -> Result<Self, SettingsError> {
        let value = |key: &'static str| {
            cmdline
                .split_whitespace()
                .rev()
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
                .filter(|value| !value.is_empty())
                .ok_or(SettingsError::Missing { key })
        };
        let (url, token, fingerprint) = (value("assay.url")?, value("assay.token")?, value("assay.fp")?);
        Ok(Self {
            url: parse_url(url)?,
            token: token.to_owned(),
            fingerprint: parse_fingerprint(fingerprint)?,
        })
    }
}

impl std::fmt::Debug for BootSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BootSettings")
            .field("url", &self.url.as_str())
            .field("token", &"…")
            .field("fingerprint", &self.fingerprint)
            .finish()
    }
}

fn parse_url(text: &str) -> Result<Url, SettingsError> {
    let invalid = |problem: String| SettingsError::Invalid { key: "assay.url", problem };
    let mut url =
        Url::parse(text).map_err(|error| invalid(format!("{error}; expected https://ADDRESS:PORT")))?;
    if url.scheme() != "https" || !url.has_host() {
        return Err(invalid(format!(
            "`{text}` is not an https address; the agent speaks to nobody it cannot verify"
        )));
    }
    // A path without a final slash would lose its last part when joined.
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn parse_fingerprint(text: &str) -> Result<Sha256, SettingsError> {
    let digits = text.strip_prefix("sha256:").unwrap_or_default().replace(':', "");
    digits.parse().map_err(|_| SettingsError::Invalid {
        key: "assay.fp",
        problem: "expected sha256: and the 64 hex digits of the server certificate's digest".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{BootSettings, SettingsError};

    const FP: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn the_three_keys_are_found_among_others() {
        let line = format!(
            "BOOT_IMAGE=/v quiet assay.url=https://10.77.0.1:8443 assay.token=t0k assay.fp={FP} panic=5\n"
        );
        let boot = BootSettings::from_cmdline(&line).expect("complete");
        assert_eq!(boot.url.as_str(), "https://10.77.0.1:8443/");
        assert_eq!(boot.token, "t0k");
        assert_eq!(format!("sha256:{}", boot.fingerprint), FP);
        assert!(!format!("{boot:?}").contains("t0k"), "the token is not for logs");
    }

    #[test]
    fn the_last_word_counts_and_lookalikes_do_not() {
        let line =
            format!("assay.tokens=x assay.token=old assay.token=new assay.url=https://h/a assay.fp={FP}");
        let boot = BootSettings::from_cmdline(&line).expect("complete");
        assert_eq!((boot.token.as_str(), boot.url.join("agent").expect("joins").path()), ("new", "/a/agent"));
    }

    #[test]
    fn what_is_missing_or_unsafe_is_named() {
        let missing = BootSettings::from_cmdline(&format!("assay.url=https://h assay.token= assay.fp={FP}"));
        assert_eq!(missing.expect_err("empty token"), SettingsError::Missing { key: "assay.token" });
        for (line, key) in [
            (format!("assay.url=http://h assay.token=t assay.fp={FP}"), "assay.url"),
            (format!("assay.url=h:8443 assay.token=t assay.fp={FP}"), "assay.url"),
            ("assay.url=https://h assay.token=t assay.fp=sha256:12".to_owned(), "assay.fp"),
            (format!("assay.url=https://h assay.token=t assay.fp={}", &FP[7..]), "assay.fp"),
        ] {
            match BootSettings::from_cmdline(&line) {
                Err(SettingsError::Invalid { key: seen, .. }) => assert_eq!(seen, key, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
