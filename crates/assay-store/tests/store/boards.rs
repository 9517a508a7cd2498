//! What boards and digests are made of: what recipes' runs came to, and how things stood at a moment.

use assay_model::recipe::RungStatus::{self, Fail, Pass, Skip, Unver};
use assay_model::{Asked, EventBody, Pipeline, RunId, RunResult, TargetId, Verdict};
use assay_store::{Changes, RecipeRef, RecipeSeen, RecipeVersion, Store, Write};
use serde_json::json;

use crate::sample::{admitted, append, at, created, enrolled, finding, judged, run_id, started};

const COMMIT: &str = "abcdef0123456789abcdef0123456789abcdef01";

fn recipe(name: &str) -> TargetId {
    TargetId::named(Pipeline::Recipe, name)
}

/// A run that begins and ends at these seconds; a red one at its second stage.
async fn run(
    store: &Store,
    n: u128,
    name: &str,
    seconds: (i64, i64),
    result: RunResult,
    asked: Asked,
) -> RunId {
    let (id, red) = (run_id(n), result == RunResult::Fail);
    let mut created = created(1);
    created.pipeline = Pipeline::Recipe;
    created.target.id = recipe(name);
    created.target.name = name.into();
    created.holds = false;
    created.muted = if name == "muted" { vec!["A".to_owned()] } else { Vec::new() };
    created.options.asked = asked;
    store.create_run(id, at(seconds.0), created).await.expect("created");
    append(store, id, at(seconds.0), vec![admitted()]).await;
    let (verdict, findings) =
        if red { (Verdict::Fail, vec![finding("broken")]) } else { (Verdict::Pass, Vec::new()) };
    let events = vec![
        enrolled(),
        started(0, 1),
        judged(0, 1, Verdict::Pass, Vec::new()),
        started(1, 1),
        judged(1, 1, verdict, findings),
        EventBody::RunCompleted { result: Some(result) },
    ];
    append(store, id, at(seconds.1), events).await;
    id
}

fn seen(rungs: [RungStatus; 5], version: Option<RecipeVersion>, baseline: bool) -> RecipeSeen {
    let messages = ["one\0", "", "three\nlines", "", "five"].map(str::to_owned).to_vec();
    let code = Some("CrashLoop\0".to_owned());
    let (checks_off, stages_left_out) = (false, true);
    RecipeSeen { rungs: rungs.to_vec(), messages, code, checks_off, stages_left_out, version, baseline }
}

fn version(release: Option<&str>, commit: Option<&str>) -> RecipeVersion {
    let own = |text: Option<&str>| text.map(str::to_owned);
    RecipeVersion { release: own(release), commit: own(commit), changed: false }
}

async fn came_to(store: &Store, id: RunId, seen: RecipeSeen) {
    let results = Some(json!({ "of": id.to_string(), "nul": "\0" }));
    let writes = vec![Write::Recipe { seen: Box::new(seen), results }];
    let changes = Changes { events: Vec::new(), writes };
    store.transact(id, at(900), |_| Ok::<_, String>(changes)).await.expect("committed");
}

pub(crate) async fn a_recipe_and_what_its_runs_came_to(store: Store, _url: String) {
    assert_eq!(store.recipe_runs(5).await.expect("read"), []);
    crate::sample::create(&store, run_id(90), 9).await;
    let (good, none) = ([Pass; 5], Asked::default);
    let first = run(&store, 1, "wiki", (10, 20), RunResult::Pass, none()).await;
    came_to(&store, first, seen(good, Some(version(Some("1.0.0+1"), Some(COMMIT))), true)).await;
    let second = run(&store, 2, "wiki", (30, 40), RunResult::Fail, none()).await;
    came_to(&store, second, seen([Pass, Skip, Fail, Unver, Pass], None, true)).await;
    // Said again, the later one counts.
    let changed = Some(RecipeVersion { changed: true, ..version(Some("1.1.0+1"), None) });
    came_to(&store, second, seen([Pass, Skip, Fail, Unver, Pass], changed, false)).await;
    let asked = Asked { pull_request: Some("wiki#1".to_owned()), ..none() };
    run(&store, 3, "wiki", (50, 60), RunResult::Pass, asked).await;
    run(&store, 4, "muted", (70, 80), RunResult::Pass, none()).await;

    let all = store.recipe_runs(2).await.expect("read");
    let told: Vec<_> = all
        .iter()
        .map(|row| {
            (
                row.run.number,
                row.run.target.as_str(),
                row.whole,
                row.pull_request.as_deref(),
                row.seen.is_some(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (5, "muted", false, None, false),
            (4, "wiki", true, Some("wiki#1"), false),
            (3, "wiki", true, None, true)
        ]
    );
    let wiki = all[2].seen.as_ref().expect("it was said");
    assert_eq!((wiki.rungs.as_slice(), wiki.baseline), (&[Pass, Skip, Fail, Unver, Pass][..], false));
    assert_eq!(wiki.code.as_deref(), Some("CrashLoop\u{fffd}"), "PostgreSQL takes no NUL");
    assert_eq!(wiki.messages, ["one\u{fffd}", "", "three lines", "", "five"]);
    assert!(wiki.stages_left_out && !wiki.checks_off);
    assert!(wiki.version.as_ref().is_some_and(|version| version.changed && version.commit.is_none()));
    let greens = store.recipe_greens().await.expect("read");
    assert_eq!(greens.iter().map(|row| row.run.number).collect::<Vec<_>>(), [2]);

    let of = async |of| -> Vec<i64> {
        let rows = store.recipe_runs_of(recipe("wiki"), of, 9).await.expect("read");
        rows.into_iter().map(|row| row.run.number).collect()
    };
    assert_eq!(of(None).await, [3, 2], "only what is over");
    assert_eq!(of(Some(RecipeRef::Commit("abcdef0"))).await, [2]);
    assert_eq!(of(Some(RecipeRef::Release("1.0.0+1"))).await, [2]);
    assert_eq!(
        of(Some(RecipeRef::Release("1.1.0+1"))).await,
        Vec::<i64>::new(),
        "with changed files it is none"
    );
    assert_eq!(of(Some(RecipeRef::Commit("bbbbbbb"))).await, Vec::<i64>::new());

    let kept = store.recipe_results(at(0), at(40), 9).await.expect("read");
    assert_eq!(kept, [json!({ "of": first.to_string(), "nul": "\0" })], "what ended before, oldest first");
    assert_eq!(store.recipe_results(at(0), at(99), 1).await.expect("read")[0]["of"], second.to_string());

    // What an older version has sealed has no row yet.
    assert!(store.recipe_runs_without_row(0, 9).await.expect("read").is_empty(), "nothing is sealed");
    for id in [first, run_id(3)] {
        crate::sample::seal(&store, id).await;
    }
    assert_eq!(store.recipe_runs_without_row(0, 9).await.expect("read"), [(4, run_id(3))]);
    store.put_recipe_run(run_id(3), &seen(good, None, false), None).await.expect("stored");
    assert!(store.recipe_runs_without_row(0, 9).await.expect("read").is_empty());
}

pub(crate) async fn a_week_is_told_as_it_stood(store: Store, _url: String) {
    let none = Asked::default;
    run(&store, 1, "wiki", (10, 20), RunResult::Pass, none()).await;
    run(&store, 2, "wiki", (30, 40), RunResult::Fail, none()).await;
    let last = run(&store, 3, "wiki", (50, 60), RunResult::Fail, none()).await;
    let asked = Asked { pull_request: Some("wiki#1".to_owned()), ..none() };
    run(&store, 4, "wiki", (70, 80), RunResult::Pass, asked).await;
    run(&store, 5, "muted", (10, 20), RunResult::Pass, none()).await;
    run(&store, 6, "blog", (10, 90), RunResult::Pass, none()).await;

    let stood = async |second| -> Vec<_> {
        let rows = store.standings(at(second)).await.expect("read");
        rows.into_iter().map(|row| (row.run.target, row.run.number, row.red_since)).collect()
    };
    let wiki = |number, since: Option<(i64, i64)>| {
        ("wiki".to_owned(), number, since.map(|(number, second)| (number, at(second))))
    };
    assert_eq!(stood(20).await, []);
    assert_eq!(stood(21).await, [wiki(1, None)], "what is not of the whole makes nothing green");
    assert_eq!(stood(61).await, [wiki(3, Some((2, 40)))], "since the first of them");
    // A pull request says nothing of the recipe.
    assert_eq!(stood(999).await, [("blog".to_owned(), 6, None), wiki(3, Some((2, 40)))]);

    let ended = store.runs_ended_between(at(40), at(80)).await.expect("read");
    assert_eq!(ended.iter().map(|row| row.run.number).collect::<Vec<_>>(), [2, 3]);
    let ended = store.runs_ended_between(at(0), at(999)).await.expect("read");
    let spared: Vec<_> = ended.iter().map(|row| (row.whole, row.pull_request.is_some())).collect();
    assert_eq!(
        spared,
        [(true, false), (true, false), (true, false), (true, true), (false, false), (true, false)]
    );
    let codes = store.failure_codes(&[run_id(1), last]).await.expect("read");
    assert_eq!((codes.len(), codes[&last].as_str()), (1, "SmartFailing"));
    assert!(store.failure_codes(&[]).await.expect("read").is_empty());

    let going = async |second| store.runs_under_way_at(at(second), 9).await.expect("read");
    assert_eq!(going(10).await, []);
    assert_eq!(going(35).await, [run_id(2), run_id(6)]);
    assert_eq!(going(90).await, [run_id(6)], "it ends in that moment");

    for (second, what) in [(5, "queue paused"), (15, "queue resumed"), (25, "sign-in")] {
        store.audit(at(second), "ada", what, &json!({})).await.expect("written");
    }
    let trail = store.audit_between(at(5), at(25)).await.expect("read");
    assert_eq!(trail.iter().map(|entry| entry.at).collect::<Vec<_>>(), [at(5), at(15)]);
}
