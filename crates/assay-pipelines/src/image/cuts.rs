//! Every power cut of one installation: what a machine makes of the disks that each moment leaves.
//!
//! The oracle: a new system that is whole, the old one, or a refusal in plain words. Half a system is red, and one that
//! looks well is the worst of them. Pure; `bench/power_cuts` records and boots.

use std::collections::BTreeMap;

use assay_model::power_cuts::Became;

use super::evidence::{Outcome, Watched};
use super::power::{OLD, REFUSED};
use super::profile::Profile;

/// The files of all volumes: disk, volume and path, with what tells their contents apart.
pub(crate) type Files = BTreeMap<String, String>;

/// What is known of the disks before they are booted.
pub(crate) struct Found<'a> {
    /// Whether the firmware finds code to start on any of them.
    pub(crate) startable: bool,
    /// What the profile wants there and is not.
    pub(crate) missing: Vec<String>,
    /// Files, where they can be read.
    pub(crate) files: &'a Files,
    /// The files as they were at the success marker.
    pub(crate) complete: &'a Files,
    /// Whether this is a moment after the success marker: then files may have changed since.
    pub(crate) after_success: bool,
}

/// What a machine made of its disks: the class, the code and why.
pub(crate) fn judged(profile: &Profile, found: &Found<'_>, watched: &Watched) -> (Became, String, String) {
    let said = |class: Became, code: &str, why: String| (class, code.to_owned(), why);
    match &watched.outcome {
        Outcome::RunnerFault { why } => return said(Became::Unseen, "", why.clone()),
        Outcome::PowerCut => return said(Became::Unseen, "", "its power was cut meanwhile".to_owned()),
        Outcome::Reached => {}
        Outcome::Failed { code, line, .. } if code == OLD => {
            return said(Became::Old, "", super::outcome::line(line));
        }
        Outcome::Failed { code, line, .. } if code == REFUSED || refuses(profile, line) => {
            return said(Became::Refused, "", super::outcome::line(line));
        }
        Outcome::Failed { code, line, .. } if code == "NoBootableDevice" || code == "EfiShell" => {
            return said(Became::Refused, code, super::outcome::line(line));
        }
        _ if !found.startable => {
            return said(
                Became::Refused,
                "",
                "there is nothing on the disks that the firmware could start".to_owned(),
            );
        }
        _ => {
            let finding = super::outcome::outcome(watched);
            let (code, why) = finding.map(|finding| (finding.code, finding.message)).unwrap_or_default();
            return (Became::Broken, code, why);
        }
    }
    let mut lacking = found.missing.clone();
    for (file, content) in found.complete {
        match found.files.get(file) {
            Some(now) if now == content || found.after_success => {}
            Some(_) => lacking.push(format!("{file} (other than it became)")),
            None => lacking.push(file.clone()),
        }
    }
    if lacking.is_empty() {
        let files = found.complete.len();
        return said(Became::New, "", format!("it came up, and all of its {files} files are there"));
    }
    let shown = lacking.iter().take(3).map(|file| assay_model::text::clean_to(file, 80)).collect::<Vec<_>>();
    let more = lacking.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    said(
        Became::Half,
        "HalfInstalled",
        format!("it came up, and there is missing: {}{more}", shown.join(", ")),
    )
}

fn refuses(profile: &Profile, line: &str) -> bool {
    profile.power_cut.refuses.iter().any(|one| regex::Regex::new(one).is_ok_and(|one| one.is_match(line)))
}

/// Whether a BIOS finds code on disks with these first sectors, in its boot order. It starts the first disk that carries
/// the signature, whatever is there, and comes back from none: where that one has no code, nothing was made to be booted.
pub(crate) fn bios_starts(sectors: &[[u8; 512]]) -> bool {
    /// Where a boot sector's code ends and its table begins.
    const CODE: usize = 440;
    let first = sectors.iter().find(|sector| sector[510..] == [0x55, 0xaa]);
    first.is_some_and(|sector| sector[..CODE].iter().any(|byte| *byte != 0))
}

/// Which of so many states are booted when no more than `limit` may be: the first, the last, and evenly between.
pub(crate) fn chosen(states: usize, limit: Option<usize>) -> Vec<usize> {
    match limit {
        Some(limit) if limit < states => match limit {
            0 => Vec::new(),
            1 => vec![states - 1],
            _ => (0..limit).map(|place| place * (states - 1) / (limit - 1)).collect(),
        },
        _ => (0..states).collect(),
    }
}

/// When the log of a disk had grown to this length: `grown` are seconds and lengths, both rising.
pub(crate) fn when(grown: &[(f64, u64)], length: u64) -> f64 {
    let at = grown.partition_point(|(_, seen)| *seen < length);
    grown.get(at).or(grown.last()).map_or(0.0, |(seconds, _)| *seconds)
}

#[cfg(test)]
#[path = "cuts_tests.rs"]
mod tests;
