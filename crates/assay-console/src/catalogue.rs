//! The failure catalogue: what machines print when something went wrong, and what to do about it.
//!
//! Where it comes from: the console checks of kola, the test tool of Fedora CoreOS (`mantle/kola/harness.go`), the
//! messages in the sources of Linux, GRUB, SeaBIOS, EDK2, SYSLINUX, dracut, initramfs-tools, systemd, and own
//! captures. The hard part is what must not match. The names of packages and units, command lines and documentation
//! speak of panics and failures all the time, and healthy boots print errors. So patterns are anchored to the
//! beginning of a message wherever the message has one, kernel messages count only from the kernel, and
//! `corpus/` holds, for every pattern, consoles that show it, and for the known mistakes consoles that must not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ladder::Rung;
pub(crate) use crate::ladder::Writer;

mod boot;
mod kernel;
mod programs;

/// Counts up whenever a pattern is added, removed, or means something else.
pub const CATALOGUE_VERSION: u32 = 2;

/// What a failure means for the phase that it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth recording; the machine may get along.
    Suspicious,
    /// The machine stopped because it was given no time. Where it is emulated in software, that is its host's fault, and
    /// nobody knows anything about the machine; where it is not, it means nothing by itself, and what is fatal in the line
    /// is a pattern of its own.
    Starved,
    /// The machine does not come back from it by itself: waiting longer is pointless.
    Fatal,
}

/// A failure that is recognised.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// Its stable name.
    pub code: &'static str,
    /// What it means for the phase.
    pub severity: Severity,
    /// Regular expressions, any of which shows it. `^` is the beginning of the message: after the kernel's stamp, or
    /// after leading spaces.
    pub regexes: &'static [&'static str],
    /// It counts from this rung on.
    pub from: Option<Rung>,
    /// It counts up to this rung.
    pub until: Option<Rung>,
    /// What it means.
    pub meaning: &'static str,
    /// What to do next.
    pub next_step: &'static str,
    /// Where the pattern comes from.
    pub origin: &'static str,
    pub(crate) writer: Writer,
    pub(crate) unfinished: bool,
}

impl Pattern {
    const fn fatal(code: &'static str, writer: Writer, regexes: &'static [&'static str]) -> Self {
        Self {
            code,
            severity: Severity::Fatal,
            regexes,
            from: None,
            until: None,
            meaning: "",
            next_step: "",
            origin: "",
            writer,
            unfinished: false,
        }
    }

    const fn starved(code: &'static str, writer: Writer, regexes: &'static [&'static str]) -> Self {
        Self { severity: Severity::Starved, ..Self::fatal(code, writer, regexes) }
    }

    const fn suspicious(code: &'static str, writer: Writer, regexes: &'static [&'static str]) -> Self {
        Self { severity: Severity::Suspicious, ..Self::fatal(code, writer, regexes) }
    }

    const fn says(self, meaning: &'static str, next_step: &'static str, origin: &'static str) -> Self {
        Self { meaning, next_step, origin, ..self }
    }

    const fn from(self, rung: Rung) -> Self {
        Self { from: Some(rung), ..self }
    }

    const fn until(self, rung: Rung) -> Self {
        Self { until: Some(rung), ..self }
    }

    /// Counts in an unfinished line as well. Its expressions then end with fixed text.
    const fn unfinished(self) -> Self {
        Self { unfinished: true, ..self }
    }

    /// Whether it makes sense on `rung`; before the first rung everything does.
    pub(crate) fn fits(&self, rung: Option<Rung>) -> bool {
        rung.is_none_or(|rung| {
            self.from.is_none_or(|from| rung >= from) && self.until.is_none_or(|until| rung <= until)
        })
    }
}

/// All patterns of the catalogue.
pub fn patterns() -> impl Iterator<Item = &'static Pattern> {
    boot::PATTERNS.iter().chain(kernel::PATTERNS).chain(programs::PATTERNS)
}
