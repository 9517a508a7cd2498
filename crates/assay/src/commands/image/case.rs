//! One case of a matrix, from its request to a try in the report: what came out, and where its evidence lies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use assay_api::operator::{RunDetail, RunSummary, TestImage};
use assay_model::matrix::{MatrixTry, TryVerdict};
use assay_model::report::Report;
use assay_model::{EventBody, Micros, RunResult, RunState, Severity, Sha256, Verdict, sentence};
use assay_pipelines::image::bench::content_of;
use assay_pipelines::image::profile::Case;
use assay_pipelines::image::{ImageSpec, LAST, Profile, STAGES};
use serde_json::Value;

use crate::client::Client;
use crate::commands::out;
use crate::commands::run::Live;
use crate::ui;

/// What all cases have in common.
pub(super) struct Common {
    pub(super) image: PathBuf,
    /// Its digest, where the runner is on another machine.
    pub(super) sha256: Option<Sha256>,
    /// The folder of the profile.
    pub(super) folder: PathBuf,
    /// The matrix's own folder.
    pub(super) out: PathBuf,
    /// Who runs them; whoever can without it.
    pub(super) runner: Option<String>,
    pub(super) muted: Vec<String>,
    pub(super) seed: Option<u32>,
    /// Whether these are runs of the main branch.
    pub(super) main: bool,
    /// The phase that each begins at, from a snapshot.
    pub(super) from_phase: Option<String>,
    /// How many machines run at once.
    pub(super) jobs: u64,
}

/// A case with the digest of what the image is held to in it.
pub(super) type Held = (Case, Sha256);

/// The digest of what the image is held to in a case: its profile with the files that this names, and whether the run is one
/// of the main branch, or begins at a phase.
pub(super) fn held_to(
    profile: &Profile,
    folder: &Path,
    main: bool,
    from_phase: Option<&str>,
) -> Result<Sha256> {
    let mut all = serde_json::to_vec(profile)?;
    all.push(u8::from(main));
    all.extend_from_slice(from_phase.unwrap_or_default().as_bytes());
    for (place, name) in profile.named_files() {
        let path = folder.join(name);
        let content = content_of(&path).with_context(|| path.display().to_string())?;
        all.extend_from_slice(format!("\n{place}={content}").as_bytes());
    }
    Ok(Sha256::of(&all))
}

/// Where a try's evidence lies, from the matrix's folder.
pub(super) fn folder_of(case: &str, number: u32) -> String {
    format!("cases/{case}/{number}")
}

/// What a case's history goes by.
pub(super) fn target_name(case: &Case) -> String {
    empty(case).target_name()
}

/// A case without its image.
fn empty(case: &Case) -> ImageSpec {
    let (image, folder) = (PathBuf::new(), PathBuf::new());
    ImageSpec {
        image,
        sha256: None,
        profile: case.profile.clone(),
        folder,
        cell: case.cell(),
        on: None,
        main: false,
        from_phase: None,
        seed: 0,
        source: None,
    }
}

/// What chance is drawn from. Where a run begins at a snapshot it is always the same: a snapshot belongs to its seed.
pub(super) fn drawn(seed: Option<u32>, from_phase: Option<&str>) -> u32 {
    let fresh = || if from_phase.is_some() { 0 } else { uuid::Uuid::new_v4().as_fields().0 };
    seed.unwrap_or_else(fresh)
}

/// Queues a case.
pub(super) async fn submit(client: &Client, common: &Common, case: &Case) -> Result<RunSummary> {
    let seed = drawn(common.seed, common.from_phase.as_deref());
    let spec = ImageSpec {
        image: common.image.clone(),
        sha256: common.sha256,
        profile: case.profile.clone(),
        folder: common.folder.clone(),
        cell: case.cell(),
        on: None,
        main: common.main,
        from_phase: common.from_phase.clone(),
        seed,
        source: None,
    };
    let asked = TestImage {
        spec: serde_json::to_value(&spec)?,
        runner: common.runner.clone(),
        muted: common.muted.clone(),
        on: None,
    };
    client.post("/api/v1/images/runs", &asked).await.with_context(|| format!("case {}", case.name))
}

/// Follows a queued run to its sealed verdict, a line for each stage, and fetches its evidence.
pub(super) async fn finish(
    client: &Client,
    common: &Common,
    case: &Case,
    run: &RunSummary,
    number: u32,
) -> Result<(MatrixTry, Report)> {
    let mut live = Live::open(client, run.number).await?;
    let mut began: Option<Micros> = None;
    loop {
        let Some(event) = live.next().await else {
            anyhow::bail!("the run's events ended before its verdict")
        };
        let event = event?;
        if event.kind != "journal" {
            continue;
        }
        let at: Micros = serde_json::from_value(event.data["at"].clone()).unwrap_or_default();
        let body: EventBody = serde_json::from_value(event.data).context("a journal event does not read")?;
        match &body {
            EventBody::StageStarted { .. } => {
                began.get_or_insert(at);
            }
            EventBody::StageJudged { .. } | EventBody::AttemptLost { .. } => {
                let since = at.since(*began.get_or_insert(at)).as_seconds();
                ui::say(&format!("{}  {since:7.1} s  {}", case.name, sentence::of(&body)));
            }
            EventBody::Sealed(_) => break,
            _ => {}
        }
    }
    let folder = folder_of(&case.name, number);
    let path = common.out.join(&folder);
    if path.exists() {
        // What lies there is of another matrix: the numbers of this one's tries go on from those that it knows.
        std::fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
    }
    let detail = out::keep(client, run.number, &path).await?;
    Ok((tried(case, number, folder, &detail, common), detail.report))
}

/// A finished run as a try.
pub(super) fn tried(
    case: &Case,
    number: u32,
    folder: String,
    detail: &RunDetail,
    common: &Common,
) -> MatrixTry {
    let report = &detail.report;
    let failed = report.stages.iter().find(|stage| Some(&stage.name) == report.run.failed_stage.as_ref());
    let verdict = match (report.run.state, report.run.result) {
        // A failure that an operator waived is none that we let pass.
        (_, Some(RunResult::Pass)) if report.run.overridden => TryVerdict::Fail,
        (_, Some(RunResult::Pass)) => TryVerdict::Pass,
        (RunState::FailedHolding, _) | (_, Some(RunResult::Fail)) => {
            match failed.and_then(|stage| stage.verdict) {
                Some(Verdict::Unverified) => TryVerdict::Unverified,
                _ => TryVerdict::Fail,
            }
        }
        (_, None) => TryVerdict::NoVerdict,
    };
    // Those of the stage that failed come first; the others are beside it.
    let of_stage = |stage: &Option<assay_model::StageName>| {
        stage.as_ref().is_some_and(|name| failed.is_some_and(|failed| failed.name == name.as_str()))
    };
    let critical = report.findings.iter().filter(|finding| finding.severity == Severity::Critical);
    let (first, others): (Vec<_>, Vec<_>) = critical.partition(|finding| of_stage(&finding.stage));
    let mut known = BTreeSet::new();
    let codes = first.iter().chain(&others).map(|finding| finding.code.clone());
    let codes = codes.filter(|code| known.insert(code.clone())).collect();
    let message = match (failed, verdict) {
        (Some(stage), _) => stage.message.clone(),
        (None, TryVerdict::Pass) => {
            let last = report
                .stages
                .iter()
                .rev()
                .find(|stage| stage.verdict == Some(Verdict::Pass) && stage.name != LAST);
            last.map_or_else(String::new, |stage| format!("{}: {}", stage.name, stage.message))
        }
        (None, _) => report.run.state.to_string(),
    };
    let seconds: f64 = report.stages.iter().filter_map(|stage| stage.seconds).sum();
    MatrixTry {
        number,
        folder,
        run: report.run.id.clone(),
        verdict,
        stage: report.run.failed_stage.clone(),
        codes,
        message: assay_model::text::clean_to(&message, 400),
        next_step: first.first().or(others.first()).map(|finding| finding.next_step.clone()),
        seconds: (seconds > 0.0).then_some(seconds),
        started_at: report.run.started_at.clone(),
        earlier: false,
        until: shortened(case),
        from_phase: common.from_phase.clone(),
        muted: common.muted.clone(),
        unverified: report.unverified.len(),
    }
}

/// The stage after which a case's run stops, where that leaves out any that its profile asks something of.
fn shortened(case: &Case) -> Option<String> {
    let until = case.profile.until.clone()?;
    let spec = ImageSpec { main: true, ..empty(case) };
    let after = STAGES.iter().skip_while(|stage| stage.plan().name.0 != until).skip(1);
    let mut left_out = after.filter(|stage| stage.plan().name.0 != LAST && stage.asked_for(&spec).is_ok());
    left_out.next().is_some().then_some(until)
}

/// The last picture of the screen among a try's files.
pub(super) fn last_picture(out: &Path, one: &MatrixTry) -> Option<Vec<u8>> {
    let folder = out.join(&one.folder);
    let report: Value = serde_json::from_slice(&std::fs::read(folder.join("report.json")).ok()?).ok()?;
    let mut names = report["artifacts"].as_array()?.iter().filter_map(|artifact| artifact["name"].as_str());
    let is_picture = |name: &str| Path::new(name).extension().is_some_and(|kind| kind == "png");
    let last = names.rfind(|name| is_picture(name) && !name.contains('/'))?;
    std::fs::read(folder.join("artifacts").join(last)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "name = \"x\"\n[[phase]]\nname = \"installed\"\nmarker = \"done\"\ntimeout = \"1m\"\n\
                           [join]\nby = \"git\"\ntree = \"tree\"\n";

    #[test]
    fn whatever_an_image_is_held_to_is_in_the_digest() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tree/a/b.yaml");
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(&file, "one").expect("written");
        let mut profile = Profile::from_toml(PROFILE).expect("a profile");
        let digest = |profile: &Profile, main| held_to(profile, folder.path(), main, None).expect("a digest");
        let first = digest(&profile, false);
        assert_eq!(digest(&profile, false), first);
        assert_ne!(digest(&profile, true), first, "a run of the main branch asks more");
        std::fs::write(&file, "two").expect("written");
        let second = digest(&profile, false);
        assert_ne!(second, first, "a file below the folder is another one");
        std::fs::rename(&file, file.with_file_name("c.yaml")).expect("renamed");
        assert_ne!(digest(&profile, false), second, "it has another name");
        profile.until = Some("Boot".to_owned());
        assert_eq!(shortened(&case_of(&profile)), Some("Boot".to_owned()));
        (profile.until, profile.join) = (Some("Reboot".to_owned()), None);
        assert_eq!(shortened(&case_of(&profile)), None, "nothing more was asked for");
        profile.join = Profile::from_toml(PROFILE).expect("a profile").join;
        std::fs::remove_dir_all(folder.path().join("tree")).expect("removed");
        let gone = held_to(&profile, folder.path(), false, None).expect_err("it is gone");
        assert!(format!("{gone:#}").contains("tree"), "{gone:#}");
    }

    fn case_of(profile: &Profile) -> Case {
        profile.cases().expect("one").remove(0)
    }
}
