//! Images in lists and in charts, from answers as the API gives them.

use assay_api::images::ImageStage;
use serde_json::json;

use super::*;

fn test(number: i64, state: RunState, result: Option<RunResult>, seconds: &[(&str, f64)]) -> ImageTest {
    let run = json!({
        "number": number, "id": uuid::Uuid::nil(), "target": "x", "pipeline": "image", "profile": "standard",
        "state": state, "stage": null, "result": result, "overridden": false,
        "failed_stage": (result == Some(RunResult::Fail)).then_some("Install"),
        "created_at": 1_000_000, "started_at": null, "completed_at": null, "sealed": false, "seconds": null,
        "waiting": null, "hold_until": null, "unfinished_business": false,
    });
    let passed = |(name, took): &(&str, f64)| ImageStage {
        name: (*name).to_owned(),
        verdict: Some(Verdict::Pass),
        seconds: Some(*took),
    };
    ImageTest {
        run: serde_json::from_value(run).expect("a summary"),
        image: None,
        checks_off: false,
        stages_left_out: false,
        from_phase: None,
        pull_request: None,
        code: (result == Some(RunResult::Fail)).then(|| "PhaseTimeout".to_owned()),
        step: None,
        seconds: None,
        stages: seconds.iter().map(passed).collect(),
    }
}

fn passed(number: i64, seconds: &[(&str, f64)]) -> ImageTest {
    test(number, RunState::Completed, Some(RunResult::Pass), seconds)
}

fn of(digest: &[u8], mut test: ImageTest) -> ImageTest {
    let sha256 = assay_model::Sha256::of(digest);
    test.image = Some(assay_api::images::ImageFile { sha256, bytes: 5, volume: None });
    test
}

#[test]
fn a_change_that_is_not_taken_yet_is_not_how_the_image_stands() {
    let name = Some("git.example.org/infra/images#7".to_owned());
    let failed = test(5, RunState::Completed, Some(RunResult::Fail), &[]);
    let tests = [ImageTest { pull_request: name, ..failed }, passed(4, &[])];
    let stands = line("x", &tests, Micros::seconds(9)).expect("it was tested");
    assert_eq!((stands.run, stands.badge.tone), (4, "pass"));
    let alone = line("x", &tests[..1], Micros::seconds(9)).expect("it was tested");
    assert_eq!((alone.run, alone.badge.tone), (5, "fail"), "there is nothing else");
    let told = rows(&tests, &[], Micros::seconds(9));
    assert_eq!(told[0].failed, "Install: PhaseTimeout; of pull request git.example.org/infra/images#7");
}

#[test]
fn the_latest_run_counts_and_the_others_are_the_trend() {
    let tests = [
        test(5, RunState::Completed, Some(RunResult::Fail), &[]),
        ImageTest { from_phase: Some("welcome".to_owned()), ..passed(4, &[]) },
        ImageTest { checks_off: true, ..passed(3, &[]) },
        test(2, RunState::Completed, None, &[]),
        passed(1, &[]),
    ];
    let line = line("x", &tests, Micros::seconds(60)).expect("there are runs");
    assert_eq!((line.run, line.badge.tone, line.detail.as_str()), (5, "fail", "PhaseTimeout at Install"));
    let tones: Vec<_> = line.trend.marks.iter().map(|(tone, _)| *tone).collect();
    assert_eq!(tones[0], "pass");
    assert_eq!(tones[2..], ["warn", "warn", "fail"], "without a check or its beginning a pass is not green");
    assert!(line.trend.words.contains("passed, checks off, passed, from a phase"), "{}", line.trend.words);
    assert_eq!(counts(&[line.rank]), "1 failed");
    assert!(super::line("x", &[], Micros(0)).is_none());
}

#[test]
fn a_new_image_is_marked_where_it_came() {
    let tests =
        [of(b"b", passed(4, &[])), passed(3, &[]), of(b"b", passed(2, &[])), of(b"a", passed(1, &[]))];
    let rows = rows(&tests, &[], Micros(0));
    let new: Vec<_> = rows.iter().filter(|row| row.new_image).map(|row| row.number).collect();
    assert_eq!(new, [2], "the third was never read, and the first image is not new");
}

#[test]
fn a_chart_stacks_the_stages_of_finished_runs() {
    let names = ["Boot".to_owned(), "Install".to_owned(), "Tiny".to_owned()];
    let tests = [
        test(3, RunState::Cancelled, None, &[("Boot", 500.0)]),
        passed(2, &[("Boot", 10.0), ("Install", 30.0), ("Tiny", 0.1)]),
        passed(1, &[("Boot", 10.0), ("Install", 10.0)]),
    ];
    let chart = chart(&tests, &names).expect("two came to a verdict");
    let heights: Vec<Vec<i64>> = chart
        .bars
        .iter()
        .map(|bar| bar.parts.iter().map(|part| part.height.round() as i64).collect())
        .collect();
    // Of the longest, 40.1 s on 120 units; oldest first.
    assert_eq!(heights, [vec![30, 30], vec![30, 90]]);
    assert!((chart.bars[1].parts[1].y).abs() < 1.0, "the longest reaches the top");
    assert_eq!(chart.legend, [(0, "Boot".to_owned()), (1, "Install".to_owned())]);
    assert!(chart.words.contains("run 2: passed after 40 s"), "{}", chart.words);
    assert!(super::chart(&tests[..2], &names).is_none(), "one run is no trend");
}

#[test]
fn stages_stand_in_the_pipeline_s_order_whoever_had_them() {
    let tests = [passed(2, &[("Boot", 1.0), ("Newer", 1.0)]), passed(1, &[("Prepare", 1.0), ("Boot", 1.0)])];
    assert_eq!(stages(&tests), ["Prepare", "Boot", "Newer"]);
}
