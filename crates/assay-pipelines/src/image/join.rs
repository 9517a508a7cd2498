//! The stage `Join`: what the machine registered, held to a schema and to the tree that it goes into.
//!
//! Registered is not joined: a payload in a tree says nothing about the machine being a member of anything. Both are
//! looked at, where the profile gives a way to.

use std::collections::{BTreeMap, BTreeSet};

use assay_model::{
    Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict, text,
};
use serde_json::Value;

use super::evidence::{Installed, Joined, Rebooted, Registration};
use super::profile::{InstallExpect, JoinBy, JoinExpect, JoinSpec, Profile};
use super::{ImageInput, ImageSpec, ImageStage, judged, power};

/// What it registered.
pub(crate) struct Join;

impl ImageStage for Join {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from("Join"), owner: Owner::Agent, required: true, timeout_s: 120 }
    }

    fn asked_for(&self, spec: &ImageSpec) -> Result<(), &'static str> {
        if spec.profile.install.expect == InstallExpect::Refused {
            return Err("the installation is to be refused");
        }
        spec.profile
            .join
            .as_ref()
            .map(drop)
            .ok_or("the profile says nothing of where the machine registers ([join])")
    }

    fn judge(&self, input: &ImageInput<'_>) -> Judgement {
        power::refused_before(input)
            .unwrap_or_else(|| judged(self, input, |evidence: &Joined| judge(input, evidence)))
    }
}

#[derive(Default)]
struct Told {
    checks: Vec<Check>,
    findings: Vec<Finding>,
    unverified: Vec<String>,
}

impl Told {
    fn check(&mut self, name: &str, ok: bool, expected: &str, seen: &str) {
        let verdict = if ok { Verdict::Pass } else { Verdict::Fail };
        let (name, expected, seen) = (text::clean(name), text::clean(expected), text::clean(seen));
        self.checks.push(Check { name, verdict, expected, seen });
    }

    fn find(&mut self, code: &str, message: impl AsRef<str>, next: &str) {
        let message = text::clean_to(message.as_ref(), 400);
        self.findings
            .push(Finding::new(code, Severity::Critical, message, next).evidence("control-plane.json"));
    }
}

fn judge(input: &ImageInput<'_>, evidence: &Joined) -> Judgement {
    let Some(join) = &input.profile().join else {
        return Judgement::error("the profile has no [join]");
    };
    let mut told = Told::default();
    match join.expect {
        JoinExpect::Refused => refused(&mut told, join, evidence),
        JoinExpect::Registered => registered(&mut told, input, join, evidence),
    }
    let message = match (told.findings.first(), evidence.registrations.first()) {
        (Some(finding), _) => finding.message.clone(),
        (None, Some(one)) => {
            let joined = if evidence.joins.is_empty() { "" } else { ", and has joined" };
            let path = one.paths.first().map_or("", |(path, _)| path.as_str());
            format!("registered by {} {}{joined}", one.by, text::clean(path)).trim_end().to_owned()
        }
        (None, None) => {
            told.unverified.first().cloned().unwrap_or_else(|| "nothing arrived, as expected".to_owned())
        }
    };
    let coverage = vec![Coverage {
        what: "registrations looked into".to_owned(),
        covered: evidence.registrations.iter().filter(|r| r.payload.is_some()).count() as u64,
        total: evidence.registrations.len().max(1) as u64,
    }];
    Judgement::from_evidence(told.checks, told.findings, coverage, told.unverified, message)
}

/// The control plane was made to refuse: nothing may be left behind.
fn refused(told: &mut Told, join: &JoinSpec, evidence: &Joined) {
    // A machine that never asked was not refused. Wrong certificates are no requests, and are among the faults.
    let proof = if join.faults.is_empty() { "requests" } else { "faults" };
    let asked = evidence.ledger[proof].as_array().is_some_and(|seen| !seen.is_empty());
    if !asked && evidence.registrations.is_empty() && evidence.orphans.is_empty() {
        told.unverified.push(format!("whether it heeds a refusal: the control plane saw no {proof}"));
        return;
    }
    let whole = evidence.registrations.iter().filter(|r| r.by == "http" || r.pull_request).count();
    told.check("registration", whole == 0, "none", &format!("{whole}"));
    if whole > 0 {
        told.find(
            "RegisteredInSpite",
            "the machine is registered although the control plane was made to refuse it",
            "Look at the requests in control-plane.json: which of them went through?",
        );
    }
    orphans(told, evidence);
}

fn orphans(told: &mut Told, evidence: &Joined) {
    let ok = evidence.orphans.is_empty();
    told.check("branches left behind", ok, "none", &evidence.orphans.join(", "));
    if !ok {
        told.find(
            "OrphanBranch",
            format!("pushed and left behind: {}", evidence.orphans.join(", ")),
            "A machine whose request to merge fails must delete the branch that it pushed, or nobody ever does.",
        );
    }
}

fn registered(told: &mut Told, input: &ImageInput<'_>, join: &JoinSpec, evidence: &Joined) {
    let count = evidence.registrations.len();
    told.check("registrations", count == 1, "one", &count.to_string());
    let Some(one) = evidence.registrations.first() else {
        told.find(
            "NotRegistered",
            "nothing arrived at the control plane",
            "Look at the machine's console and at control-plane.json: did it ask, and what was it answered?",
        );
        return;
    };
    if count > 1 {
        told.find(
            "RegisteredTwice",
            format!("the machine registered {count} times"),
            "A retry after a lost answer must find what the first try left there.",
        );
    }
    if let Some(done) = evidence.installed_at {
        let ok = one.at >= done;
        told.check(
            "registered after the installation",
            ok,
            &format!("{done:.1} s or later"),
            &format!("{:.1} s", one.at),
        );
        if !ok {
            told.find(
                "RegisteredTooEarly",
                format!("it registered {:.1} s before its installation was done", done - one.at),
                "If the installation fails now, the tree knows a machine that does not exist.",
            );
        }
    } else {
        told.unverified.push("whether it registered after its installation: the end was not seen".to_owned());
    }
    let seen = name(input);
    let operator = BTreeMap::from([("operator", join.operator.as_str())]);
    let path = filled(&join.path, &operator);
    // Without a name that was seen, the one in its path: the payload has to say the same.
    let host = seen.clone().or_else(|| one.paths.first().and_then(|(at, _)| named_by(&path, at)));
    if seen.is_none() {
        told.unverified.push("whether it registered under its own name: no host name was seen".to_owned());
    }
    let variables: BTreeMap<&str, &str> =
        [("operator", Some(join.operator.as_str())), ("host", host.as_deref())]
            .into_iter()
            .filter_map(|(k, v)| Some((k, v?)))
            .collect();
    if join.by == JoinBy::Git {
        commit(told, join, one, &variables);
        orphans(told, evidence);
    }
    payload(told, input.profile(), join, one, evidence, &variables);
    joined(told, join, evidence, host.as_deref());
    deregistered(told, evidence);
}

/// One commit, one file, in its place.
fn commit(told: &mut Told, join: &JoinSpec, one: &Registration, variables: &BTreeMap<&str, &str>) {
    if one.paths.is_empty() {
        told.check("commit", false, "one file", "no file");
        told.find(
            "EmptyCommit",
            "the pushed commit changes nothing",
            "The payload was not added before the commit; a request to merge it fails, and the machine stays unknown.",
        );
        return;
    }
    let wanted = filled(&join.path, variables);
    let paths: Vec<_> = one.paths.iter().map(|(path, what)| format!("{what} {path}")).collect();
    let ok = matches!(one.paths.as_slice(), [(path, what)] if *path == wanted && what != "D");
    told.check("files of the commit", ok, &wanted, &paths.join(", "));
    if !ok {
        let code = if one.paths.len() > 1 { "OtherFilesTouched" } else { "PayloadMisplaced" };
        told.find(
            code,
            format!("the commit touches {}, and should touch {wanted} alone", paths.join(", ")),
            "A registration that touches anything else changes other people's machines.",
        );
    }
    told.check(
        "request to merge",
        one.pull_request,
        "made",
        if one.pull_request { "made" } else { "not made" },
    );
    if !one.pull_request {
        told.find(
            "NoPullRequest",
            "the branch was pushed, and nobody was asked to merge it",
            "Without a request to merge, the machine stays unknown.",
        );
    }
}

fn payload(
    told: &mut Told,
    profile: &Profile,
    join: &JoinSpec,
    one: &Registration,
    evidence: &Joined,
    variables: &BTreeMap<&str, &str>,
) {
    let Some(text_of) = &one.payload else {
        if !one.paths.is_empty() || join.by == JoinBy::Http {
            told.find("PayloadMissing", "the payload could not be read", "Look at control-plane.json.");
        }
        return;
    };
    let parsed: Value = match yaml(text_of) {
        Ok(value) => value,
        Err(problem) => {
            told.check("payload", false, "YAML", &problem);
            told.find(
                "PayloadUnreadable",
                format!("the payload is not YAML: {problem}"),
                "Values that a machine tells (processor and GPU names) must be quoted when they are put into YAML.",
            );
            return;
        }
    };
    for problem in &one.schema_problems {
        told.check("payload against its schema", false, "fits", problem);
        told.find(
            "PayloadInvalid",
            format!("the payload does not fit its schema: {problem}"),
            "Compare with the schema.",
        );
    }
    if join.schema.is_some() && one.schema_problems.is_empty() {
        told.check("payload against its schema", true, "fits", "fits");
    }
    for (pointer, wanted) in &join.fields {
        if wanted.contains("{host}") && !variables.contains_key("host") {
            told.unverified.push(format!("the payload's {pointer}: no host name was seen"));
            continue;
        }
        let wanted = filled(wanted, variables);
        let seen = parsed.pointer(pointer).map(plain);
        let ok = seen.as_ref() == Some(&wanted);
        told.check(&format!("payload {pointer}"), ok, &wanted, seen.as_deref().unwrap_or("nothing"));
        let seen = seen.map_or_else(|| "nothing".to_owned(), |seen| format!("`{seen}`"));
        if !ok {
            told.find(
                "PayloadFieldWrong",
                format!("the payload says {seen} at {pointer}, and should say `{wanted}`"),
                "Path, name and banner must be one and the same, or the tree describes a machine that is not this one.",
            );
        }
    }
    for pointer in &join.times {
        let seen = parsed.pointer(pointer).map_or_else(|| "nothing".to_owned(), plain);
        let ok = within(&seen, &evidence.began, &evidence.ended);
        told.check(
            &format!("payload {pointer}"),
            ok,
            &format!("{} to {}", evidence.began, evidence.ended),
            &seen,
        );
        if !ok {
            told.find(
                "PayloadTimeWrong",
                format!("the payload says `{seen}` at {pointer}, outside of the run"),
                "Either it was not made by this run, or the machine's clock is wrong.",
            );
        }
    }
    for pointer in &join.macs {
        let seen = parsed.pointer(pointer).map_or_else(|| "nothing".to_owned(), plain).to_lowercase();
        let ok = evidence.macs.iter().any(|mac| mac.to_lowercase() == seen);
        told.check(&format!("payload {pointer}"), ok, &evidence.macs.join(" or "), &seen);
        if !ok {
            told.find(
                "PayloadAddressWrong",
                format!("the payload says `{seen}` at {pointer}, which is none of the machine's addresses"),
                "The hardware address is what tells a machine that registers twice.",
            );
        }
    }
    // What leaked is not always a file that is marked: the stand-in's own token is a secret by itself.
    let marked = profile.medium.files.iter().filter(|file| file.secret).map(|file| &file.path);
    for secret in marked.chain(&one.leaks).collect::<BTreeSet<_>>() {
        let leaked = one.leaks.contains(secret);
        told.check(
            &format!("secret {secret}"),
            !leaked,
            "not in the payload",
            if leaked { "there" } else { "not there" },
        );
        if leaked {
            told.find(
                "SecretInPayload",
                format!("the payload holds the secret {secret}"),
                "Whoever reads the tree has the secret; replace it where it was real.",
            );
        }
    }
}

/// Registered is not joined.
fn joined(told: &mut Told, join: &JoinSpec, evidence: &Joined, host: Option<&str>) {
    if !join.joins {
        told.unverified
            .push("whether it has joined: the profile gives no way to see it (join.joins)".to_owned());
        return;
    }
    // An installer's word that it has joined is none: nothing is installed yet that could have.
    let done = evidence.installed_at.unwrap_or(0.0);
    let own = |(name, at): &&(String, f64)| host.is_none_or(|host| name == host) && *at >= done;
    let first = evidence.joins.iter().find(own);
    if evidence.up_at.is_none() {
        told.unverified.push("whether it joined in time: nobody saw the installed system come up".to_owned());
    }
    let late = |at: f64| evidence.up_at.map_or(0.0, |up| at - up);
    let limit = join.within.0.as_secs_f64();
    let seen =
        first.map_or_else(|| "never".to_owned(), |(_, at)| format!("{:.1} s after it was up", late(*at)));
    let ok = first.is_some_and(|(_, at)| late(*at) <= limit);
    told.check("joined", ok, &format!("within {}", join.within), &seen);
    if !ok {
        told.find(
            "NotJoined",
            format!("it is registered, and has joined {seen}"),
            "Two machines that each founded their own cluster look registered, too. Look at what the machine does after its first boot.",
        );
    }
}

fn deregistered(told: &mut Told, evidence: &Joined) {
    let Some(out) = &evidence.deregistered else {
        told.unverified.push("de-registration: nothing was there to take out".to_owned());
        return;
    };
    let ok = out.problem.is_none() && out.left.is_empty() && out.merged;
    let seen = match (&out.problem, out.left.as_slice()) {
        (Some(problem), _) => problem.clone(),
        (None, []) => "merged, taken out, nothing left".to_owned(),
        (None, left) => format!("left: {}", left.join(", ")),
    };
    told.check("de-registration", ok, "nothing is left in the tree", &seen);
    if !ok {
        told.find(
            "DeregistrationFailed",
            format!("the registration could not be merged and taken out again: {seen}"),
            "Look whether the branch is based on the tree's newest state.",
        );
    }
}

/// The name that the machine goes by: what it shows, else what its installer announced.
fn name(input: &ImageInput<'_>) -> Option<String> {
    let rebooted: Option<Rebooted> = input.earlier("Reboot");
    let installed: Option<Installed> = input.earlier("Install");
    let shown = rebooted.and_then(|r| r.watched.names.last().map(|seen| seen.name.clone()));
    shown.or_else(|| installed.and_then(|i| i.watched.names.last().map(|seen| seen.name.clone())))
}

/// The host name that makes this path of the template; none when the path does not fit it.
fn named_by(template: &str, path: &str) -> Option<String> {
    /// No host name is longer (RFC 1123).
    const LONGEST: usize = 253;
    let (before, _) = template.split_once("{host}")?;
    let folder = path.strip_prefix(before)?.split('/').next()?;
    let mut names = (1..=folder.len().min(LONGEST)).filter_map(|end| folder.get(..end));
    names.find(|name| template.replace("{host}", name) == path).map(str::to_owned)
}

fn filled(template: &str, variables: &BTreeMap<&str, &str>) -> String {
    variables
        .iter()
        .fold(template.to_owned(), |text, (key, value)| text.replace(&format!("{{{key}}}"), value))
}

/// A scalar as people write it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn yaml(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.without_snippet().to_string())
}

/// Whether a time lies between two others; all RFC 3339. A minute of difference between clocks is none.
fn within(time: &str, from: &str, to: &str) -> bool {
    const CLOCKS: i64 = 60;
    let read = |text: &str| chrono::DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp());
    let (Some(time), Some(from), Some(to)) = (read(time), read(from), read(to)) else { return false };
    (from - CLOCKS..=to + CLOCKS).contains(&time)
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
