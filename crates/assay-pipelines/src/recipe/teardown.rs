//! The stage `Teardown`: the stack goes, and nothing of it stays. What was seen of secrets, and how often a stack was deployed,
//! is told here as well: both are known only when everything is over.

use assay_model::{Judgement, Severity, StagePlan, Verdict, text};

use super::evidence::{Died, TornDown};
use super::told::{Told, quoted};
use super::{RecipeInput, RecipeStage, by_runner, in_machine, judged, overload_in, overloaded};

/// The longest way to a stack that was left up: two commands with paths, in characters.
const COMMANDS: usize = 1000;

/// What a process ends with that a signal has ended: SIGTERM, SIGKILL.
const ENDED: i64 = 143;
const KILLED: i64 = 137;
/// Most images that are named.
const IMAGES: usize = 10;

/// The end of a stack.
pub(super) struct Teardown;

impl RecipeStage for Teardown {
    fn plan(&self) -> StagePlan {
        by_runner("Teardown", true)
    }

    fn judge(&self, input: &RecipeInput<'_>) -> Judgement {
        judged(self, input, |seen: &TornDown| {
            let mut told = Told::default();
            if seen.kept.is_some() {
                told.unverified.push(
                    "the stack was left up, as asked (--keep): nobody knows what would stay of it".to_owned(),
                );
            } else {
                left(&mut told, seen);
            }
            let clean = seen.leaks.is_empty();
            told.check("secrets", clean, "seen nowhere", if clean { "seen nowhere" } else { "seen" });
            for leak in &seen.leaks {
                told.critical(
                    "SecretLeaked",
                    format!(
                        "the secret {} was seen in the {}",
                        text::clean(&leak.secret),
                        text::clean(&leak.place)
                    ),
                    "Find what prints it. Whoever reads that has the secret; it was made for this run alone.",
                );
            }
            died(&mut told, seen);
            let (deploys, expected) = (seen.deploys, seen.deploys_expected);
            told.check(
                "deployments of a stack",
                deploys == expected,
                expected.to_string(),
                deploys.to_string(),
            );
            if deploys != expected {
                told.critical(
                    "DeployCount",
                    format!("a stack was deployed {deploys} times, and {expected} times were to be expected"),
                    "That is a fault of Assay's: what was tested is not what is said. Please report it with this run's bundle.",
                );
            }
            let judgement =
                told.judgement(|| format!("{} things of the stack taken away, nothing stays", seen.removed));
            let judgement = unless_starved(judgement, seen, input);
            match &seen.kept {
                Some(how) if judgement.verdict == Verdict::Pass => Judgement {
                    message: format!("left up, as asked: {}", text::clean_to(how, COMMANDS)),
                    ..judgement
                },
                _ => judgement,
            }
        })
    }
}

/// What died while nobody waited for it. The hooks of a backup may end services on purpose, and an app may end itself well to be
/// started anew with other settings; neither costs the verdict.
fn died(told: &mut Told, seen: &TornDown) {
    let bad = seen.died.iter().filter(|died| !may_be_meant(died)).count();
    let words = if bad == 0 { "nothing".to_owned() } else { text::plural(bad, "task") };
    told.check("what died while the stack was up", bad == 0, "nothing", words);
    for died in &seen.died {
        let how = match (died.oom_killed, died.exit_code) {
            (true, _) => "killed for its memory".to_owned(),
            (false, Some(code)) => format!("exit code {code}"),
            (false, None) => text::clean(&died.error),
        };
        let message = format!(
            "service {} had come up and died later, by {} ({how}){}",
            text::clean(&died.service),
            text::clean(&died.during),
            quoted(&died.last_words)
        );
        if may_be_meant(died) {
            let next = "If it is meant to (a hook of the backup's, an app that starts itself anew), all is well; otherwise look at its log.";
            told.warning("DiedLater", message, next);
        } else {
            let next = "Look at its log for what it was asked last. Swarm starts it again, so whoever counts replicas sees nothing.";
            told.critical("DiedLater", message, next);
        }
    }
}

/// Nothing is held against a recipe whose tasks were ended from outside in a machine that had nothing left to give: a health check that is
/// not answered in time there is no sign of anything.
fn unless_starved(judgement: Judgement, seen: &TornDown, input: &RecipeInput<'_>) -> Judgement {
    let mut grave = judgement.findings.iter().filter(|finding| finding.severity == Severity::Critical);
    if judgement.verdict != Verdict::Fail
        || !in_machine(input.evidence)
        || !grave.all(|finding| finding.code == "DiedLater")
    {
        return judgement;
    }
    let mut bad = seen.died.iter().filter(|died| !may_be_meant(died));
    let starved = bad.try_fold(None, |_, died| {
        let from_outside = !died.oom_killed && matches!(died.exit_code, Some(ENDED | KILLED));
        let during = input.earlier.iter().filter(|(stage, _)| stage.as_str() == died.during);
        let why = during.filter_map(|(_, evidence)| overload_in(evidence)).next_back();
        why.filter(|_| from_outside).map(Some)
    });
    match starved.flatten() {
        Some(why) => overloaded(judgement, &why),
        None => judgement,
    }
}

fn may_be_meant(died: &Died) -> bool {
    died.during == "Backup" || died.exit_code == Some(0)
}

/// What should have gone and is still there.
pub(super) fn left(told: &mut Told, seen: &TornDown) {
    let left: Vec<&String> = seen.left.iter().chain(&seen.residue).collect();
    let words = if left.is_empty() { "nothing".to_owned() } else { text::plural(left.len(), "thing") };
    told.check("what stays", left.is_empty(), "nothing", words);
    if !seen.images_kept.is_empty() {
        let count = seen.images_kept.len();
        let images: Vec<String> =
            seen.images_kept.iter().take(IMAGES).map(|image| text::clean(image)).collect();
        let more = if count > IMAGES { " …" } else { "" };
        let words = format!("{count}: {}{more}", images.join(", "));
        told.check(
            "images that were brought into the shared swarm",
            true,
            "they stay, for the next run",
            words,
        );
    }
    told.unverified.extend(seen.unclaimed.iter().map(|thing| {
        format!(
            "{} is new in the shared swarm since the run began, and nothing says whose it is; it was left alone",
            text::clean(thing)
        )
    }));
    for thing in &seen.left {
        told.critical(
            "LeftBehind",
            format!("{} is still there after the stack was taken down", text::clean(thing)),
            "Look at what made it: the stack's files, or a container that talks to Docker.",
        );
    }
    for thing in &seen.residue {
        told.critical(
            "RunnerResidue",
            format!("{} is still there after the run was ended", text::clean(thing)),
            "That is a fault of this runner's, not of the recipe; `assay janitor` removes it.",
        );
    }
}
