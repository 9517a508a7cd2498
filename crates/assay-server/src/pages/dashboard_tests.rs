//! The dashboard, from answers as the API gives them.

use super::*;

const HOSTILE: &str = "<b>x</b>\"'";

fn run(number: i64, result: Option<RunResult>, rungs: [RungStatus; 5]) -> BoardRun {
    BoardRun {
        run: number,
        state: RunState::Completed,
        result,
        overridden: false,
        whole: true,
        profile: "standard".to_owned(),
        pull_request: None,
        stage: None,
        level: Some(assay_model::recipe::level(rungs)),
        rungs: rungs.to_vec(),
        failed_stage: (result == Some(RunResult::Fail)).then(|| "Upgrade".to_owned()),
        code: (result == Some(RunResult::Fail)).then(|| "CrashLoop".to_owned()),
        version: Some("1.1.0+1.27".to_owned()),
        commit: None,
        asked_at: Micros::seconds(10),
        completed_at: Some(Micros::seconds(20)),
        seconds: Some(10.0 * number as f64),
    }
}

fn good(number: i64) -> BoardRun {
    run(number, Some(RunResult::Pass), [RungStatus::Pass; 5])
}

fn bad(number: i64) -> BoardRun {
    use RungStatus::{Fail, Pass, Unver};
    run(number, Some(RunResult::Fail), [Pass, Fail, Unver, Unver, Pass])
}

fn recipe(name: &str, runs: Vec<BoardRun>) -> BoardRecipe {
    let standing = api::standing(&runs).cloned();
    let green = GreenRun { number: 1, at: "2026-01-02T03:04:05Z".to_owned(), version: HOSTILE.to_owned() };
    BoardRecipe { name: name.to_owned(), standing, last_green: Some(green), runs }
}

fn html(recipes: &[BoardRecipe], wanted: &str) -> String {
    let page = draw(Shell::bare(), recipes, wanted, Micros::seconds(60));
    page.render().expect("it can be drawn")
}

#[test]
fn what_failed_comes_first_then_the_lowest_level() {
    use RungStatus::{Pass, Skip};
    let quick = BoardRun { whole: false, profile: "quick".to_owned(), ..good(1) };
    let recipes = [
        recipe("all", vec![good(3), good(2), bad(1)]),
        recipe("half", vec![run(1, Some(RunResult::Pass), [Pass, Pass, Skip, Skip, Skip])]),
        recipe("quick", vec![quick]),
        recipe("red", vec![bad(2), good(1)]),
        recipe(
            "new",
            vec![BoardRun {
                state: RunState::Queued,
                level: None,
                rungs: Vec::new(),
                completed_at: None,
                ..run(1, None, [Pass; 5])
            }],
        ),
    ];
    let page = draw(Shell::bare(), &recipes, "", Micros::seconds(60));
    let told: Vec<String> = page
        .lines
        .iter()
        .map(|line| {
            let marks: String = line.rungs.iter().map(|rung| rung.mark).collect();
            let badge = &line.badge;
            format!(
                "{} {marks} {:?} {} ({}) [{}]",
                line.name, line.level, badge.word, line.detail, line.trend.short
            )
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"
    red ✓✕??✓ Some(1) Failed (CrashLoop at Upgrade) [5 → 1]
    quick ✓✓✓✓✓ Some(5) Passed in part () []
    new ····· None Queued () []
    half ✓✓––– Some(2) Passed () [steady]
    all ✓✓✓✓✓ Some(5) Passed () [1 → 5]
    ");
    assert_eq!(page.counts, "2 at level 5 · 1 at level 2 · 1 at level 1 · 1 not known");
    let now = page.lines.iter().find(|line| line.name == "new").and_then(|line| line.now);
    assert_eq!(now, Some((1, "queued")));
}

#[test]
fn the_trend_says_in_words_what_it_draws() {
    let quick = BoardRun { whole: false, ..good(4) };
    let trend = Trend::of(&[good(5), quick, bad(3), good(2), good(1)]);
    assert_eq!((trend.width, trend.height), (24, 16));
    assert_eq!(trend.words, "levels, oldest first: 5, 5, 1 (failed), 5");
    assert_eq!(trend.short, "up and down");
    assert_eq!(trend.passed, "M0 16v-16h5v16zM6 16v-16h5v16zM18 16v-16h5v16z");
    assert_eq!(trend.failed, "M12 16v-4h5v4z");
    assert_eq!(Trend::of(&[bad(2), good(1)]).short, "5 → 1");
    assert_eq!(Trend::of(&[]).width, 0);
}

#[test]
fn what_recipes_say_is_text_and_names_are_looked_for() {
    let recipes = [
        recipe("wiki", vec![BoardRun { code: Some(HOSTILE.to_owned()), ..bad(2) }]),
        recipe("blog", vec![good(1)]),
    ];
    let all = html(&recipes, "");
    assert!(!all.contains("<b>x") && all.contains("&#60;b&#62;x"), "{all}");
    assert!(all.contains("aria-label=\"Badge of wiki\"") && all.contains("/badge/recipe/blog.svg"), "{all}");
    let one = html(&recipes, " WI ");
    assert!(one.contains("/recipes/wiki") && !one.contains("/recipes/blog"), "{one}");
    let none = html(&recipes, "\"><script>");
    assert!(none.contains("No recipe is called like that") && !none.contains("<script>"), "{none}");
    assert!(html(&[], "").contains("No recipe was tested yet"));
}

/// Beside what the browser tests hold every page to: every column has a header, every picture words, every field a label.
#[test]
fn everything_that_is_drawn_can_be_read_aloud() {
    let html = html(&[recipe("wiki", vec![good(2), bad(1)])], "");
    let columns = html.matches("<th scope=\"col\">").count();
    let body = html.split("<tbody>").nth(1).expect("a body");
    let row = body.split("</tr>").next().expect("a row");
    assert_eq!(row.matches("<td").count() + row.matches("<th").count(), columns, "{row}");
    // Each mark has its word, and bars and arrow have one together; the badge's icon has its word beside it.
    assert_eq!(row.matches("aria-hidden=\"true\">").count(), row.matches("class=\"hidden\">").count() + 2);
    assert!(row.contains("levels, oldest first: 1 (failed), 5"), "{row}");
    assert_eq!(html.matches("<h1>").count(), 1);
    assert!(html.contains("<label for=\"q\">") && html.contains("<caption class=\"hidden\">"), "{html}");
    assert!(
        !html.contains("src=\"http") && !html.contains("href=\"http"),
        "nothing is loaded from elsewhere"
    );
}
