//! What changed between two runs of an image: a pure comparison of two folded runs.
//!
//! It says what differs and not why: another image, another profile or another runner may each be the reason, so each of
//! them is named first.

use assay_model::text::plural;
use assay_model::view::StageView;
use assay_model::{RunView, Verdict, bytes};
use assay_store::ImageSeen;
use serde_json::Value;

/// A stage is said to have become slower or faster from this factor on …
const FACTOR: f64 = 1.3;
/// … and from so many seconds on: short stages differ by half from run to run.
const SECONDS: f64 = 5.0;
/// Most checks that are told of one stage.
const MAX_CHECKS: usize = 12;

/// What is different in `after`, one sentence each.
pub fn differences(
    before: (&RunView, Option<&ImageSeen>),
    after: (&RunView, Option<&ImageSeen>),
) -> Vec<String> {
    let mut out = Vec::new();
    if let (Some(old), Some(new)) = (before.1, after.1) {
        image(old, new, &mut out);
    }
    let (before, after) = (before.0, after.0);
    profile(&before.created.spec, &after.created.spec, &mut out);
    if before.runner != after.runner {
        let name = |run: &RunView| run.runner.clone().unwrap_or_else(|| "none".to_owned());
        out.push(format!(
            "runner: {}, was {}; times of different runners do not compare",
            name(after),
            name(before)
        ));
    }
    for stage in &after.stages {
        let Some(old) = before.stages.iter().find(|old| old.plan.name == stage.plan.name) else {
            out.push(format!("{}: was not in the plan", stage.plan.name));
            continue;
        };
        stages(old, stage, &mut out);
    }
    out
}

fn image(old: &ImageSeen, new: &ImageSeen, out: &mut Vec<String>) {
    if old.bytes != new.bytes {
        let (more, by) = if new.bytes > old.bytes {
            ("larger", new.bytes - old.bytes)
        } else {
            ("smaller", old.bytes - new.bytes)
        };
        out.push(format!("size: {}, was {} ({} {more})", bytes(new.bytes), bytes(old.bytes), bytes(by)));
    }
    if let (Some(old), Some(new)) = (&old.volume, &new.volume)
        && old != new
    {
        out.push(format!("volume id: {new}, was {old}"));
    }
}

/// Which sections of the profile are other ones.
fn profile(old: &Value, new: &Value, out: &mut Vec<String>) {
    let section = |spec: &Value, name: &str| spec.pointer(&format!("/profile/{name}")).cloned();
    let keys = |spec: &Value| -> Vec<String> {
        let profile = spec.get("profile").and_then(Value::as_object);
        profile.map(|profile| profile.keys().cloned().collect()).unwrap_or_default()
    };
    let mut names = keys(new);
    names.extend(keys(old));
    names.sort_unstable();
    names.dedup();
    names.retain(|name| section(old, name) != section(new, name));
    if !names.is_empty() {
        out.push(format!("the profile is another one: {}", names.join(", ")));
    }
}

fn stages(old: &StageView, new: &StageView, out: &mut Vec<String>) {
    let name = &new.plan.name;
    let word = |verdict: Option<Verdict>| verdict.map_or("not reached", Verdict::as_str);
    let (was, is) = (old.verdict(), new.verdict());
    if was != is {
        out.push(format!("{name}: {}, was {}", word(is), word(was)));
    }
    if let (Some(Verdict::Pass), Some(Verdict::Pass), Some(before), Some(after)) =
        (was, is, old.seconds(), new.seconds())
        && (after - before).abs() >= SECONDS
    {
        if after >= before * FACTOR {
            out.push(format!("{name}: slower: {after:.0} s, was {before:.0} s"));
        } else if before >= after * FACTOR {
            out.push(format!("{name}: faster: {after:.0} s, was {before:.0} s"));
        }
    }
    let (Some(was), Some(is)) = (old.judgement(), new.judgement()) else { return };
    let mut told = 0;
    for check in &is.checks {
        let known = was.checks.iter().find(|known| known.name == check.name);
        let line = match known {
            None => format!("{name}: new check {}: {}", check.name, check.verdict),
            Some(known) if known.verdict != check.verdict => {
                format!(
                    "{name}: {}: {}, was {} (seen {})",
                    check.name, check.verdict, known.verdict, check.seen
                )
            }
            Some(_) => continue,
        };
        told += 1;
        if told <= MAX_CHECKS {
            out.push(line);
        }
    }
    if told > MAX_CHECKS {
        out.push(format!("{name}: {} more", plural(told - MAX_CHECKS, "check")));
    }
    for gone in
        was.checks.iter().filter(|old| is.checks.iter().all(|new| new.name != old.name)).take(MAX_CHECKS)
    {
        out.push(format!("{name}: check {} is gone; it was {}", gone.name, gone.verdict));
    }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
