//! How bad a difference is: documented defaults per field, and the spec's overrides of them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HostSpec;
use crate::{Severity, text};

use FieldSeverity::{Critical, Info, Warning};

/// What a difference in a field counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FieldSeverity {
    /// Fails the stage. A critical field that the machine does not tell keeps the stage from passing.
    Critical,
    /// Reported as something to look at.
    Warning,
    /// Reported.
    Info,
    /// Not compared at all.
    Ignore,
}

impl FieldSeverity {
    /// The severity of a finding about such a field; `None` for one that is ignored.
    pub const fn severity(self) -> Option<Severity> {
        match self {
            Self::Critical => Some(Severity::Critical),
            Self::Warning => Some(Severity::Warning),
            Self::Info => Some(Severity::Info),
            Self::Ignore => None,
        }
    }
}

/// Every field that is compared, with what a difference in it counts as unless the spec says otherwise.
/// A list by itself (`disks`) stands for the presence of what it lists; `unexpected` for what is there unlisted.
pub const DEFAULT_SEVERITIES: [(&str, FieldSeverity); 36] = [
    ("system.manufacturer", Critical),
    ("system.product", Critical),
    ("system.serial", Critical),
    ("system.uuid", Critical),
    ("system.asset_tag", Info),
    ("system.bios_version", Warning),
    ("cpu.model", Critical),
    ("cpu.sockets", Critical),
    ("cpu.cores", Critical),
    ("cpu.threads", Critical),
    ("cpu.microcode", Warning),
    ("memory.total_mib", Critical),
    ("memory.dimms", Critical),
    ("memory.dimms.size_mib", Critical),
    ("memory.dimms.serial", Critical),
    ("memory.dimms.part", Warning),
    ("memory.dimms.manufacturer", Warning),
    ("memory.dimms.unexpected", Warning),
    ("disks", Critical),
    ("disks.serial", Critical),
    ("disks.wwn", Critical),
    ("disks.model", Critical),
    ("disks.min_size_gb", Critical),
    ("disks.size_bytes", Critical),
    ("disks.class", Critical),
    ("disks.firmware", Warning),
    ("disks.unexpected", Warning),
    ("nics", Critical),
    ("nics.driver", Warning),
    ("nics.min_speed_mbps", Critical),
    ("nics.unexpected", Info),
    ("pci", Critical),
    ("gpus", Critical),
    // Sections, which an override may name to cover all below them.
    ("system", Critical),
    ("cpu", Critical),
    ("memory", Critical),
];

/// Other names under which a field may be given in `severity`.
const ALIASES: [(&str, &str); 2] = [("bios.version", "system.bios_version"), ("bios", "system.bios_version")];

/// A field or section, optionally of one part: `memory.dimms`, `disks[AB12].firmware`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct FieldPattern(String);

impl FieldPattern {
    /// As written, aliases resolved.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FieldPattern {
    type Error = String;
    fn try_from(pattern: String) -> Result<Self, String> {
        let pattern = ALIASES
            .iter()
            .find(|(alias, _)| *alias == pattern)
            .map_or(pattern, |(_, field)| (*field).to_owned());
        let plain: Vec<&str> = segments(&pattern).into_iter().map(|segment| segment.name).collect();
        let plain = plain.join(".");
        let known = DEFAULT_SEVERITIES.map(|(field, _)| field);
        if known.contains(&plain.as_str()) {
            return Ok(Self(pattern));
        }
        let hint = crate::text::did_you_mean(&plain, &known);
        Err(format!("`{}` is not a field that is compared{hint}", text::clean(&pattern)))
    }
}

impl From<FieldPattern> for String {
    fn from(pattern: FieldPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for FieldPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HostSpec {
    /// What a difference at this path (`memory.dimms[DIMM_A1].serial`) counts as: the most specific override of
    /// the spec, otherwise the default. A path that nothing covers is critical.
    pub fn severity_of(&self, path: &str) -> FieldSeverity {
        let path = segments(path);
        let overrides = self.severity.iter().map(|(pattern, severity)| (pattern.as_str(), *severity));
        most_specific(&path, overrides)
            .or_else(|| most_specific(&path, DEFAULT_SEVERITIES.into_iter()))
            .unwrap_or(FieldSeverity::Critical)
    }
}

fn most_specific<'p>(
    path: &[Segment<'_>],
    patterns: impl Iterator<Item = (&'p str, FieldSeverity)>,
) -> Option<FieldSeverity> {
    patterns
        .filter_map(|(pattern, severity)| specificity(&segments(pattern), path).map(|rank| (rank, severity)))
        .max_by_key(|(rank, _)| *rank)
        .map(|(_, severity)| severity)
}

/// How closely a pattern fits a path: named parts count before depth. `None` when it does not.
fn specificity(pattern: &[Segment<'_>], path: &[Segment<'_>]) -> Option<(usize, usize)> {
    let fits = pattern.len() <= path.len()
        && pattern
            .iter()
            .zip(path)
            .all(|(want, have)| want.name == have.name && (want.key.is_none() || want.key == have.key));
    let keys = pattern.iter().filter(|segment| segment.key.is_some()).count();
    fits.then_some((keys, pattern.len()))
}

struct Segment<'a> {
    name: &'a str,
    key: Option<&'a str>,
}

/// `disks[A.1].firmware` is `disks` of `A.1`, then `firmware`: dots within brackets belong to the part's name.
fn segments(path: &str) -> Vec<Segment<'_>> {
    let mut found = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let (key, after) = match after.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((key, after)) => (Some(key), after),
            None => (None, after),
        };
        // A bracket that is never closed makes a name that nothing has.
        let (name, after) = if after.starts_with('[') { (rest, "") } else { (name, after) };
        found.push(Segment { name, key });
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(severity: &[(&str, FieldSeverity)]) -> HostSpec {
        let severity = severity
            .iter()
            .map(|(pattern, severity)| {
                (FieldPattern::try_from((*pattern).to_owned()).expect("a field"), *severity)
            })
            .collect();
        HostSpec { severity, ..HostSpec::default() }
    }

    #[test]
    fn defaults_are_as_documented() {
        let spec = HostSpec::default();
        assert_eq!(spec.severity_of("memory.dimms[DIMM_A1]"), Critical);
        assert_eq!(spec.severity_of("memory.dimms[DIMM_A1].part"), Warning);
        assert_eq!(spec.severity_of("system.bios_version"), Warning);
        assert_eq!(spec.severity_of("system.asset_tag"), Info);
        assert_eq!(spec.severity_of("disks.unexpected[X]"), Warning);
        assert_eq!(spec.severity_of("something.new"), Critical);
    }

    #[test]
    fn the_more_specific_override_wins_and_a_section_covers_all_below() {
        let spec = spec(&[
            ("disks", Info),
            ("disks.firmware", FieldSeverity::Ignore),
            ("disks[A.1]", Critical),
            ("bios.version", Critical),
        ]);
        assert_eq!(spec.severity_of("disks[B].model"), Info);
        assert_eq!(spec.severity_of("disks[B].firmware"), FieldSeverity::Ignore);
        assert_eq!(spec.severity_of("disks[A.1].firmware"), Critical, "a named part counts before depth");
        assert_eq!(spec.severity_of("system.bios_version"), Critical, "through its alias");
        assert_eq!(spec.severity_of("nics[x]"), Critical, "untouched");
    }

    #[test]
    fn a_pattern_for_nothing_is_refused_with_the_nearest() {
        let refused = |pattern: &str| FieldPattern::try_from(pattern.to_owned()).expect_err("refused");
        assert_eq!(
            refused("memory.dimm"),
            "`memory.dimm` is not a field that is compared; did you mean `memory.dimms`?"
        );
        assert_eq!(
            refused("disks[A.firmware"),
            "`disks[A.firmware` is not a field that is compared; did you mean `disks.firmware`?"
        );
        assert!(refused("").contains("not a field"));
        assert!(FieldPattern::try_from("disks[AB]".to_owned()).is_ok());
    }
}
