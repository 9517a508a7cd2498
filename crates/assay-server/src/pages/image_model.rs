//! What a run of an image shows beside its stages: pictures, phases, the boot ladder, the network, the disks, the
//! registration. A pure fold of the stages' evidence; whatever is not there yet, or no longer, is left out.

use std::collections::BTreeMap;

use assay_model::view::ArtifactView;
use assay_model::{RunView, StageName, bytes, text};
use assay_pipelines::image::ImageSpec;
use assay_pipelines::image::evidence::{
    Booted, DiskAfter, Identified, Installed, Joined, Noted, Outcome, Prepared, Rebooted, Volume, Watched,
};
use assay_pipelines::image::profile::DiskRole;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::format::duration;

/// Most requests of the control plane's ledger on the page; the file has them all.
const MAX_REQUESTS: usize = 100;
/// Most lines of the network's ledger, of noted lines and of names.
const MAX_LINES: usize = 200;
/// Longest line of a text from evidence, in characters, and most lines of one.
const MAX_TEXT: (usize, usize) = (500, 200);

/// All of it.
#[derive(Default)]
pub(super) struct ImageParts {
    /// What was tested.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) sha256: Option<String>,
    pub(super) film: Vec<Frame>,
    pub(super) machines: Vec<MachineModel>,
    pub(super) disks: Vec<DiskModel>,
    pub(super) egress: Vec<(String, String)>,
    pub(super) join: Option<JoinModel>,
    /// Texts that can be read on a page of their own: name and what it is.
    pub(super) transcripts: Vec<(String, String)>,
    /// What started the machine.
    pub(super) command: Option<String>,
}

/// A picture of the screen.
#[derive(Debug, PartialEq)]
pub(super) struct Frame {
    /// The artifact.
    pub(super) name: String,
    /// Whose screen: `installer`, `installed` …
    pub(super) machine: String,
    /// What it was taken for.
    pub(super) of: String,
    /// When, since the machine was switched on.
    pub(super) at: String,
    pub(super) failure: bool,
}

/// One machine, watched in one stage.
pub(super) struct MachineModel {
    pub(super) title: String,
    pub(super) rungs: Vec<RungModel>,
    pub(super) phases: Vec<PhaseModel>,
    pub(super) noted: Vec<NotedModel>,
    pub(super) names: Vec<String>,
    /// What ended it, where it did not get to where it was to get.
    pub(super) ended: Option<String>,
    pub(super) typed: String,
}

pub(super) struct RungModel {
    pub(super) name: String,
    pub(super) at: String,
    pub(super) line: String,
    pub(super) reached: bool,
}

pub(super) struct PhaseModel {
    pub(super) name: String,
    /// The expression that was waited for.
    pub(super) marker: String,
    pub(super) line: String,
    pub(super) channel: String,
    pub(super) at: String,
    pub(super) took: String,
    pub(super) limit: String,
    /// Of its limit, for a bar.
    pub(super) took_s: f64,
    pub(super) limit_s: f64,
    pub(super) captures: String,
    pub(super) seen: bool,
}

pub(super) struct NotedModel {
    pub(super) at: String,
    pub(super) code: String,
    pub(super) line: String,
    pub(super) meaning: String,
}

/// A disk, before and after.
pub(super) struct DiskModel {
    pub(super) name: String,
    pub(super) bus: String,
    pub(super) expect: &'static str,
    pub(super) before: String,
    pub(super) after: Option<AfterModel>,
}

pub(super) struct AfterModel {
    /// `unchanged`, or how much differs.
    pub(super) change: String,
    pub(super) changed: bool,
    pub(super) table: String,
    pub(super) volumes: Vec<String>,
}

/// The registration as it came over the wire.
pub(super) struct JoinModel {
    pub(super) registrations: Vec<RegistrationModel>,
    pub(super) joins: Vec<String>,
    pub(super) orphans: Vec<String>,
    pub(super) deregistered: Option<String>,
    pub(super) requests: Vec<RequestModel>,
    pub(super) requests_left: usize,
}

pub(super) struct RegistrationModel {
    pub(super) how: String,
    pub(super) message: String,
    pub(super) paths: Vec<String>,
    pub(super) payload: Option<String>,
    pub(super) problems: Vec<String>,
}

pub(super) struct RequestModel {
    pub(super) what: String,
    pub(super) status: String,
    pub(super) bad: bool,
    pub(super) size: String,
}

impl ImageParts {
    pub(super) fn of(run: &RunView, evidence: &[(StageName, Value)]) -> Self {
        let spec = ImageSpec::of(&run.created.spec).ok();
        let told = Told {
            prepared: read(evidence, "Prepare"),
            booted: read(evidence, "Boot"),
            installed: read(evidence, "Install"),
            rebooted: read(evidence, "Reboot"),
            identified: read(evidence, "Identify"),
            joined: read(evidence, "Join"),
        };
        Self {
            facts: facts(spec.as_ref(), &told),
            sha256: told.prepared.as_ref().map(|p| p.sha256.to_string()),
            film: film(&run.artifacts, &told),
            machines: machines(spec.as_ref(), &told),
            disks: disks(spec.as_ref(), &told),
            egress: egress(&told),
            join: told.joined.as_ref().map(join),
            transcripts: transcripts(&run.artifacts),
            command: told.booted.map(|booted| booted.command),
        }
    }
}

/// The evidence as far as it reads.
struct Told {
    prepared: Option<Prepared>,
    booted: Option<Booted>,
    installed: Option<Installed>,
    rebooted: Option<Rebooted>,
    identified: Option<Identified>,
    joined: Option<Joined>,
}

impl Told {
    /// Every machine that was watched, with what it is called.
    fn watched(&self) -> Vec<(String, &'static str, &Watched)> {
        let mut out = Vec::new();
        let mut put = |title: String, stage: &'static str, watched| out.push((title, stage, watched));
        if let Some(booted) = &self.booted {
            put("Boot from the medium".to_owned(), "boot", &booted.watched);
        }
        if let Some(installed) = &self.installed {
            put("Installation".to_owned(), "install", &installed.watched);
        }
        if let Some(rebooted) = &self.rebooted {
            put("Installed system".to_owned(), "reboot", &rebooted.watched);
        }
        if let Some(identified) = &self.identified {
            for (number, other) in (2..).zip(&identified.others) {
                put(format!("Machine {number}: installation"), "install", &other.install);
                if let Some(reboot) = &other.reboot {
                    put(format!("Machine {number}: installed system"), "reboot", reboot);
                }
            }
            if let Some(repaired) = &identified.repaired {
                put("Repair: installation over the first".to_owned(), "install", &repaired.install);
                if let Some(reboot) = &repaired.reboot {
                    put("Repair: installed system".to_owned(), "reboot", reboot);
                }
            }
        }
        out
    }
}

fn read<E: DeserializeOwned>(evidence: &[(StageName, Value)], stage: &str) -> Option<E> {
    let (_, value) = evidence.iter().find(|(name, _)| name == stage)?;
    let mut value = value.clone();
    clean(&mut value);
    serde_json::from_value(value).ok()
}

/// Makes every text safe to show, whoever chose it: nothing repaints, turns the line around or fills the page.
fn clean(value: &mut Value) {
    match value {
        Value::String(said) => {
            let (longest, most) = MAX_TEXT;
            let lines: Vec<_> = said.lines().take(most).map(|line| indented(line, longest)).collect();
            *said = lines.join("\n");
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        _ => {}
    }
}

/// A cleaned line with its indentation: a payload's structure is in it.
fn indented(line: &str, longest: usize) -> String {
    let indent = line.len() - line.trim_start_matches(' ').len();
    format!("{}{}", " ".repeat(indent.min(longest)), text::clean_to(line, longest))
}

fn facts(spec: Option<&ImageSpec>, told: &Told) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if let Some(spec) = spec {
        out.push(("Image", spec.image.display().to_string()));
        let machine = &spec.profile.machine;
        let firmware = serde_json::to_value(machine.firmware).ok();
        let firmware = firmware.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
        out.push((
            "Machine",
            format!("{firmware}, {} processors, {} MiB", machine.cpus, machine.memory.mib()),
        ));
        out.push(("Seed", spec.seed.to_string()));
    }
    if let Some(prepared) = &told.prepared {
        out.push(("Size", bytes(prepared.bytes)));
        out.push(("Medium", prepared.medium.trim().to_owned()));
    }
    let stretch = told.watched().first().map(|(_, _, watched)| watched.stretch);
    if let Some(stretch) = stretch.filter(|stretch| *stretch > 1.0) {
        out.push(("Limits", format!("stretched {stretch:.1} times")));
    }
    out
}

/// The pictures in the order in which they came; what each was taken for stands in the evidence, which comes later.
fn film(artifacts: &[ArtifactView], told: &Told) -> Vec<Frame> {
    let watched = told.watched();
    let shots: BTreeMap<&str, _> = watched
        .iter()
        .flat_map(|(_, _, watched)| &watched.shots)
        .map(|shot| (shot.artifact.as_str(), shot))
        .collect();
    let mut frames: Vec<Frame> = Vec::new();
    for artifact in artifacts {
        let Some((machine, of)) = pictured(&artifact.name) else { continue };
        let shot = shots.get(artifact.name.as_str());
        let frame = Frame {
            of: shot.map_or(of, |shot| shot.of.clone()),
            at: shot.map_or_else(String::new, |shot| seconds(shot.at_s)),
            failure: artifact.name.contains("failure"),
            machine,
            name: artifact.name.clone(),
        };
        // A further try takes the same picture again; the later one counts, as everywhere.
        match frames.iter_mut().find(|known| known.name == frame.name) {
            Some(known) => *known = frame,
            None => frames.push(frame),
        }
    }
    frames
}

/// `installer-screen-03-partitioned.png`: whose screen, and what for.
fn pictured(name: &str) -> Option<(String, String)> {
    let (machine, rest) = name.strip_suffix(".png")?.split_once("-screen-")?;
    let of = rest.split_once('-').map_or(rest, |(_, of)| of);
    Some((machine.to_owned(), of.to_owned()))
}

fn machines(spec: Option<&ImageSpec>, told: &Told) -> Vec<MachineModel> {
    told.watched().into_iter().map(|(title, stage, watched)| machine(spec, title, stage, watched)).collect()
}

fn machine(spec: Option<&ImageSpec>, title: String, stage: &str, watched: &Watched) -> MachineModel {
    let planned = spec.map_or(&[][..], |spec| &spec.profile.phases);
    let of_stage = |within: &assay_pipelines::image::profile::Within| {
        serde_json::to_value(within).is_ok_and(|word| word == stage)
    };
    let marker = |name: &str| {
        let phase = planned.iter().find(|phase| phase.name == name);
        phase.map_or_else(String::new, |phase| phase.marker.clone())
    };
    let mut phases: Vec<PhaseModel> = watched
        .phases
        .iter()
        .map(|seen| PhaseModel {
            name: seen.name.clone(),
            marker: marker(&seen.name),
            line: seen.line.clone(),
            channel: seen.channel.clone(),
            at: seconds(seen.at_s),
            took: seconds(seen.took_s),
            limit: duration(seen.limit_s),
            took_s: finite(seen.took_s),
            limit_s: finite(seen.limit_s).max(0.001),
            captures: seen.captures.iter().map(|(k, v)| format!("{k} = {v}")).collect::<Vec<_>>().join(", "),
            seen: true,
        })
        .collect();
    for phase in planned.iter().filter(|phase| of_stage(&phase.stage)) {
        if phases.iter().all(|seen| seen.name != phase.name) {
            phases.push(PhaseModel {
                name: phase.name.clone(),
                marker: phase.marker.clone(),
                line: String::new(),
                channel: String::new(),
                at: String::new(),
                took: String::new(),
                limit: duration(phase.timeout.0.as_secs_f64() * finite(watched.stretch)),
                took_s: 0.0,
                limit_s: 1.0,
                captures: String::new(),
                seen: false,
            });
        }
    }
    MachineModel {
        title,
        rungs: rungs(watched),
        phases,
        noted: watched.noted.iter().take(MAX_LINES).map(noted).collect(),
        names: names(watched),
        ended: ended(&watched.outcome),
        typed: if watched.input == 0 {
            "nothing was typed".to_owned()
        } else {
            format!("{} bytes and keys were typed", watched.input)
        },
    }
}

/// The ladder from the bottom; a rung that was passed without being seen is told apart from one that was seen.
fn rungs(watched: &Watched) -> Vec<RungModel> {
    const LADDER: [&str; 5] = ["firmware", "bootloader", "kernel", "userspace", "login"];
    let seen: Vec<_> = watched.rungs.iter().map(|seen| (seen.rung.to_string(), seen)).collect();
    if seen.is_empty() {
        return Vec::new();
    }
    let rung = |name: &str| {
        let found = seen.iter().find(|(word, _)| word == name).map(|(_, seen)| seen);
        RungModel {
            name: name.to_owned(),
            at: found.map_or_else(String::new, |seen| seconds(seen.at_s)),
            line: found.map_or_else(String::new, |seen| seen.line.clone()),
            reached: found.is_some(),
        }
    };
    LADDER.into_iter().map(rung).collect()
}

fn noted(noted: &Noted) -> NotedModel {
    NotedModel {
        at: seconds(noted.at_s),
        code: noted.code.clone(),
        line: noted.line.clone(),
        meaning: if noted.allowed { "allowed by the profile".to_owned() } else { noted.meaning.clone() },
    }
}

fn names(watched: &Watched) -> Vec<String> {
    let told = watched.names.iter().take(MAX_LINES);
    told.map(|seen| format!("{} ({}, {}, {})", seen.name, seen.by, seen.channel, seconds(seen.at_s)))
        .collect()
}

fn ended(outcome: &Outcome) -> Option<String> {
    Some(match outcome {
        Outcome::Reached => return None,
        Outcome::Failed { code, line, meaning } => format!("{code}: {line} {meaning}"),
        Outcome::Stalled { code, line, seconds: span } => format!("{code} for {}: {line}", seconds(*span)),
        Outcome::TimedOut { waited_for, limit_s, line } => {
            format!("{waited_for} did not come within {}; the last line: {line}", duration(*limit_s))
        }
        Outcome::Ended { code, detail } => format!("{code}: {detail}"),
        Outcome::PowerCut => "its power was cut, as the profile wants it".to_owned(),
        Outcome::RunnerFault { why } => format!("the runner failed: {why}"),
    })
}

fn disks(spec: Option<&ImageSpec>, told: &Told) -> Vec<DiskModel> {
    let after: &[DiskAfter] = told.installed.as_ref().map_or(&[], |installed| &installed.disks);
    let Some(prepared) = &told.prepared else { return Vec::new() };
    let planned = |name: &str| spec?.profile.machine.disks.iter().find(|disk| disk.name == name);
    let one = |before: &assay_pipelines::image::evidence::DiskBefore| DiskModel {
        name: before.name.clone(),
        bus: planned(&before.name)
            .and_then(|disk| serde_json::to_value(disk.bus).ok()?.as_str().map(str::to_owned))
            .unwrap_or_else(|| "virtio".to_owned()),
        expect: match planned(&before.name).map(|disk| disk.expect) {
            Some(DiskRole::Boot) => "boot",
            Some(DiskRole::Data) => "data",
            Some(DiskRole::Untouched) => "untouched",
            _ => "any",
        },
        before: format!("{}, {}", bytes(before.bytes), before.holds),
        after: after.iter().find(|after| after.name == before.name).map(changed),
    };
    prepared.disks.iter().map(one).collect()
}

fn changed(after: &DiskAfter) -> AfterModel {
    let change = match (&after.problem, after.changed) {
        (Some(problem), _) => format!("cannot be read: {problem}"),
        (None, false) => "the same, byte for byte".to_owned(),
        (None, true) => format!(
            "{} differ, {} written",
            bytes(after.changed_blocks.saturating_mul(4096)),
            bytes(after.written)
        ),
    };
    let boots = if after.bootable { ", boots" } else { "" };
    AfterModel {
        change,
        changed: after.changed,
        table: format!("{}{boots}", after.table),
        volumes: after.volumes.iter().map(volume).collect(),
    }
}

fn volume(volume: &Volume) -> String {
    let mut words = match volume.number {
        0 => "whole disk:".to_owned(),
        n => format!("{n}:"),
    };
    for word in [&volume.label, &volume.fs, &volume.fs_label] {
        if !word.is_empty() {
            words.push(' ');
            words.push_str(word);
        }
    }
    let files: Vec<_> = volume
        .files
        .iter()
        .map(|(path, seen)| match seen.bytes {
            Some(n) => format!("{path} ({})", bytes(n)),
            None => format!("{path} is missing"),
        })
        .collect();
    let files = if files.is_empty() { String::new() } else { format!("; {}", files.join(", ")) };
    format!("{words}, {}{files}", bytes(volume.bytes))
}

fn egress(told: &Told) -> Vec<(String, String)> {
    let installed = told.installed.iter().flat_map(|i| &i.egress).map(|line| ("installer", line));
    let rebooted = told.rebooted.iter().flat_map(|r| &r.egress).map(|line| ("installed system", line));
    installed.chain(rebooted).take(MAX_LINES).map(|(who, line)| (who.to_owned(), line.clone())).collect()
}

fn join(joined: &Joined) -> JoinModel {
    let registration = |r: &assay_pipelines::image::evidence::Registration| RegistrationModel {
        how: {
            let asked = if r.pull_request { ", asked to be merged" } else { "" };
            let branch = if r.branch.is_empty() { String::new() } else { format!(", branch {}", r.branch) };
            let author = if r.author.is_empty() { String::new() } else { format!(", by {}", r.author) };
            format!("{} after {}{branch}{author}{asked}", r.by, seconds(r.at))
        },
        message: r.message.clone(),
        paths: r.paths.iter().map(|(path, what)| format!("{what} {path}")).collect(),
        payload: r.payload.clone(),
        problems: {
            let leaks = r.leaks.iter().map(|secret| format!("holds the secret {secret}"));
            r.schema_problems.iter().cloned().chain(leaks).collect()
        },
    };
    let requests = joined.ledger.get("requests").and_then(Value::as_array).cloned().unwrap_or_default();
    JoinModel {
        registrations: joined.registrations.iter().map(registration).collect(),
        joins: joined.joins.iter().map(|(name, at)| format!("{name} after {}", seconds(*at))).collect(),
        orphans: joined.orphans.clone(),
        deregistered: joined.deregistered.as_ref().map(|d| match (&d.problem, d.left.as_slice()) {
            (Some(problem), _) => format!("did not work: {problem}"),
            (None, []) => "merged, taken out again, nothing left".to_owned(),
            (None, left) => format!("left behind: {}", left.join(", ")),
        }),
        requests_left: requests.len().saturating_sub(MAX_REQUESTS),
        requests: requests.iter().take(MAX_REQUESTS).map(request).collect(),
    }
}

fn request(request: &Value) -> RequestModel {
    let text = |key: &str| request.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| request.get(key).and_then(Value::as_u64);
    let status = number("status");
    RequestModel {
        what: format!("{} {}", text("method"), text("path")),
        status: status.map_or_else(|| "no answer".to_owned(), |status| status.to_string()),
        bad: status.is_none_or(|status| status >= 400),
        size: format!(
            "{} in, {} out",
            bytes(number("bytes_in").unwrap_or(0)),
            bytes(number("bytes_out").unwrap_or(0))
        ),
    }
}

fn transcripts(artifacts: &[ArtifactView]) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for artifact in artifacts {
        let name = &artifact.name;
        let text = std::path::Path::new(name).extension().is_some_and(|end| end == "txt");
        if (text || name == "control-plane.json") && out.iter().all(|(known, _)| known != name) {
            out.push((name.clone(), bytes(artifact.bytes)));
        }
    }
    out
}

fn seconds(seconds: f64) -> String {
    duration(finite(seconds))
}

/// A runner's number may be none.
const fn finite(seconds: f64) -> f64 {
    if seconds.is_finite() { seconds } else { 0.0 }
}

#[cfg(test)]
#[path = "image_model_tests.rs"]
mod tests;
