//! Pictures of the comment, and what a hostile text may not do in it: a Markdown parser that is not ours looks.

use assay_model::{Micros, RunResult, Severity, Verdict};
use proptest::prelude::*;
use pulldown_cmark::{Event, Options, Parser, Tag};

use super::*;
use crate::status;

const COMMIT: &str = "3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f";

fn about(stage: Standing) -> About {
    About {
        instance: "main".into(),
        number: 7,
        commit: COMMIT.into(),
        run: Some(RunLink { number: 42, page: Some("https://assay.example/runs/42".into()) }),
        of: String::new(),
        asked_by: Some("alice".parse().expect("a login")),
        asked: "!testme --extra".into(),
        stage,
        at: Micros::seconds(1_795_253_400),
        notes: vec![],
    }
}

fn step(name: &str, verdict: Verdict, seconds: u64, note: &str) -> Step {
    Step { name: name.into(), verdict, seconds: Some(seconds), note: note.into() }
}

fn finished() -> Finished {
    Finished {
        result: Some(RunResult::Fail),
        level: Some((1, 5)),
        is_quick: false,
        is_overridden: false,
        seconds: 130,
        steps: vec![
            step("install", Verdict::Pass, 41, ""),
            step("upgrade", Verdict::Fail, 62, "db crashes"),
            step("backup", Verdict::Skip, 0, "nothing to back up"),
        ],
        findings: vec![Found {
            severity: Severity::Critical,
            code: "CrashLoop".into(),
            part: "db".into(),
            message: "service db has died 3 times: `exit 1`".into(),
            next_step: "read its last lines".into(),
        }],
        more_findings: 2,
        unverified: vec!["restore of volume uploads".into()],
        flagged: vec!["tests/assay.toml".into()],
        since_green: SinceGreen::Changed {
            run: RunLink { number: 40, page: None },
            what: vec!["postgres:16 is another image".into()],
        },
        last_words: "FATAL: data directory\nhas wrong ownership".into(),
        links: vec![("report", "https://assay.example/runs/42/report.html".into())],
        head: Some("9f86d081884c7d65".into()),
    }
}

#[test]
fn queued() {
    let stage = Standing::Queued {
        position: Some(3),
        why: "needs 4096 MiB of mem, 1024 free; behind run 41 (plausible, Upgrade, 2 m 10 s)".into(),
        in_seconds: Some(180),
    };
    insta::assert_snapshot!(render(&about(stage)), @"
    <!-- assay:main:7 -->
    ### ⏳ queued · [run 42](https://assay.example/runs/42)

    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.

    Place 3 in line: `needs 4096 MiB of mem, 1024 free; behind run 41 (plausible, Upgrade, 2 m 10 s)`; begins in about 3 m.

    <sub>Assay, 2026-11-21 09:30 UTC. Commands: `!testme`, `--quick`, `--extra`, `--stages a,b`, `!testme cancel`.</sub>
    ");
}

#[test]
fn running() {
    let stage = Standing::Running {
        stage: "Upgrade".into(),
        place: (3, 8),
        steps: vec![step("Lint", Verdict::Pass, 1, ""), step("Install", Verdict::Pass, 41, "")],
        for_seconds: 75,
    };
    insta::assert_snapshot!(render(&about(stage)), @"
    <!-- assay:main:7 -->
    ### ▶️ running: `Upgrade`, 3 of 8, for 1 m 15 s · [run 42](https://assay.example/runs/42)

    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.

    | | stage | took | |
    |---|---|---:|---|
    | ✅ pass | `Lint` | 1 s |  |
    | ✅ pass | `Install` | 41 s |  |

    <sub>Assay, 2026-11-21 09:30 UTC. Commands: `!testme`, `--quick`, `--extra`, `--stages a,b`, `!testme cancel`.</sub>
    ");
}

#[test]
fn a_verdict() {
    let mut about = about(Standing::Finished(Box::new(finished())));
    about.notes.push("there is no commit status: the token may not set one here".into());
    insta::assert_snapshot!(render(&about), @"
    <!-- assay:main:7 -->
    ### ❌ fail, level 1 of 5, in 2 m 10 s · [run 42](https://assay.example/runs/42)

    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.

    Sealed: `9f86d081884c7d65`

    [report](https://assay.example/runs/42/report.html)

    | | stage | took | |
    |---|---|---:|---|
    | ✅ pass | `install` | 41 s |  |
    | ❌ fail | `upgrade` | 1 m 2 s | `db crashes` |
    | ➖ skip | `backup` | 0 s | `nothing to back up` |

    **This pull request changes what it is tested with**; the trusted ones were taken instead:

    - `tests/assay.toml`

    **Findings:**

    - **critical** `CrashLoop` `db`: `service db has died 3 times: 'exit 1'`
      → `read its last lines`
    - … and 2 more

    **Not verified:**

    - `restore of volume uploads`

    **Changed since green** (run 40):

    - `postgres:16 is another image`

    <details><summary>Last lines</summary>

    ```text
    FATAL: data directory
    has wrong ownership
    ```

    </details>

    _Note:_ `there is no commit status: the token may not set one here`

    <sub>Assay, 2026-11-21 09:30 UTC. Commands: `!testme`, `--quick`, `--extra`, `--stages a,b`, `!testme cancel`.</sub>
    ");
}

#[test]
fn everything_else_in_its_first_lines() {
    let stages = [
        Standing::Superseded { by: "b".repeat(40), run: Some(RunLink { number: 43, page: None }) },
        Standing::Cancelled { by: Some("bob".parse().expect("a login")) },
        Standing::Cancelled { by: None },
        Standing::Refused(Refused::NotAllowed {
            who: "mallo".parse().expect("a login"),
            who_may: "members of coop".into(),
        }),
        Standing::Refused(Refused::NotUnderstood {
            why: "`--quik` means nothing here; did you mean `--quick`?".into(),
        }),
        Standing::Refused(Refused::NotOpen),
        Standing::Refused(Refused::NothingToCancel),
        Standing::Error {
            what: "runner r1 is gone".into(),
            next_step: "see whether r1 is up".into(),
            is_retried: true,
        },
        Standing::Finished(Box::new(Finished {
            result: Some(RunResult::Pass),
            level: Some((5, 5)),
            is_quick: true,
            findings: vec![],
            more_findings: 0,
            steps: vec![],
            flagged: vec![],
            unverified: vec![],
            last_words: String::new(),
            since_green: SinceGreen::NotTold,
            ..finished()
        })),
    ];
    let shown: Vec<String> = stages
        .into_iter()
        .map(|stage| {
            let about = about(stage);
            let status = status::of(&about, "assay/recipe").map_or_else(
                || "-".to_owned(),
                |status| format!("{} {}", status.state.as_str(), status.description),
            );
            let text = render(&about);
            let lines: Vec<&str> =
                text.lines().skip(1).filter(|line| !line.is_empty() && !line.starts_with("<sub>")).collect();
            format!("{}\n[status: {status}]", lines.join("\n"))
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n\n"), @"
    ### ⏭️ superseded by `bbbbbbbbbbbb`, run 43 · [run 42](https://assay.example/runs/42)
    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.
    [status: error superseded by bbbbbbbbbbbb]

    ### ⏹️ cancelled by `bob` · [run 42](https://assay.example/runs/42)
    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.
    [status: error cancelled]

    ### ⏹️ cancelled by an operator · [run 42](https://assay.example/runs/42)
    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.
    [status: error cancelled]

    ### 🚫 not taken up · [run 42](https://assay.example/runs/42)
    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.
    `mallo` may not ask for runs here. Who may: `members of coop`. One of them can say `!testme` instead; this is said once.
    [status: -]

    ### 🚫 not taken up · [run 42](https://assay.example/runs/42)
    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.
    The command was not understood: `'--quik' means nothing here; did you mean '--quick'?`
    Write it as the first line of a new comment.
    [status: -]

    ### 🚫 not taken up · [run 42](https://assay.example/runs/42)
    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.
    The pull request is not open. Open it again, then say `!testme`.
    [status: -]

    ### ℹ️ nothing to cancel · [run 42](https://assay.example/runs/42)
    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.
    Nothing is waiting or running for this pull request.
    [status: -]

    ### ⚠️ error: Assay could not do its work; this says nothing about the change · [run 42](https://assay.example/runs/42)
    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.
    `runner r1 is gone`
    `see whether r1 is up` It is tried again by itself.
    [status: error Assay could not do its work]

    ### ✅ pass, level 5 of 5, quick, in 2 m 10 s · [run 42](https://assay.example/runs/42)
    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.
    A quick run does not gate: not all stages were run.
    Sealed: `9f86d081884c7d65`
    [report](https://assay.example/runs/42/report.html)
    [status: success pass, level 5 of 5, quick; sealed 9f86d081884c7d65]
    ");
}

#[test]
fn ours_is_found_by_author_and_marker() {
    let us: Login = "assay-bot".parse().expect("a login");
    let text = render(&about(Standing::Cancelled { by: None }));
    let mark = marker("main", 7);
    let comment = |id, author: &str, text: &str| {
        let (body, digest) = Comment::text(text);
        let author = Some(author.parse().expect("a login"));
        let at = Micros(0);
        Comment { id, number: 7, on_pull: true, author, body, digest, created_at: at, updated_at: at }
    };
    let all = [
        comment(1, "mallo", &text),
        comment(2, "assay-bot", "another comment"),
        comment(3, "Assay-Bot", &text.replace('\n', "\r\n")),
        comment(
            4,
            "assay-bot",
            &render(&About { instance: "other".into(), ..about(Standing::Cancelled { by: None }) }),
        ),
        comment(5, "assay-bot", &format!("quoted: {text}")),
    ];
    assert_eq!(find_ours(&all, &us, &mark).map(|comment| comment.id), Some(3));
    assert_eq!(find_ours(&all[..2], &us, &mark), None);
}

#[test]
fn too_much_is_left_out_and_the_verdict_is_not() {
    let much = "x".repeat(1000);
    let mut finished = finished();
    finished.findings = vec![finished.findings[0].clone(); 500];
    for found in &mut finished.findings {
        (found.message, found.part, found.next_step) =
            ("\u{1f4a5}".repeat(1000), much.clone(), "\u{1f4a5}".repeat(1000));
    }
    finished.steps = vec![step(&much, Verdict::Fail, 1, &"\u{1f4a5}".repeat(500)); 500];
    finished.last_words = format!("{much}\n").repeat(1000);
    finished.unverified = vec!["\u{1f4a5}".repeat(1000); 1000];
    finished.flagged.clone_from(&finished.unverified);
    finished.since_green =
        SinceGreen::Changed { run: RunLink { number: 1, page: None }, what: finished.unverified.clone() };
    let text = render(&about(Standing::Finished(Box::new(finished))));
    assert!(text.len() <= LONGEST, "{}", text.len());
    for kept in [
        "❌ fail, level 1 of 5",
        COMMIT,
        "Sealed: `9f86d081884c7d65`",
        "[report](",
        "More is left out",
        "Commands:",
    ] {
        assert!(text.contains(kept), "{kept}");
    }
}

/// What a forge makes something of, beyond what CommonMark does.
const ACTIVE: [&str; 12] =
    ["@", "#1", "://", "www.", "<", "!1", ":tada:", "![", "](", "http", "mailto:", "deadbeef"];

fn hostile() -> impl Strategy<Value = String> {
    let pieces = proptest::sample::select(vec![
        "@everyone",
        "#1",
        "!1",
        "<img src=x onerror=alert(1)>",
        "![a](http://x/y.png)",
        "[a](javascript:x)",
        "`",
        "``",
        "```",
        "~~~",
        "\n",
        "\r\n",
        "\n\n",
        "|",
        "\\|",
        "\\",
        "\u{2028}",
        "\u{202e}",
        "\u{200b}",
        "<!--",
        "-->",
        "</details>",
        "$x$",
        "$$",
        "\n# a",
        "\n> a",
        "\n- a",
        "\n    a",
        "\n---\n",
        "http://evil.example",
        "www.evil.example",
        "deadbeef",
        ":tada:",
        "a@b.example",
        "&lt;b&gt;",
        "&#64;all",
        "\0",
        "\t",
        " ",
        "x",
        "\u{1f4a5}",
        "[^1]",
        "[x]: http://y",
    ]);
    proptest::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_from_outside_gets_out_of_code(a in hostile(), b in hostile(), c in any::<String>()) {
        let mut finished = finished();
        finished.findings[0] = Found {
            severity: Severity::Warning, code: a.clone(), part: b.clone(), message: c.clone(), next_step: a.clone(),
        };
        finished.steps = vec![step(&a, Verdict::Fail, 1, &b), step(&c, Verdict::Pass, 1, &a)];
        (finished.unverified, finished.flagged) = (vec![a.clone(), c.clone()], vec![b.clone()]);
        finished.since_green = SinceGreen::Changed { run: RunLink { number: 1, page: Some(a.clone()) }, what: vec![b.clone(), c.clone()] };
        finished.last_words = format!("{a}\n{b}\n{c}");
        finished.links = vec![("report", b.clone())];
        finished.head = Some(c.clone());
        let standings = [
            Standing::Finished(Box::new(finished)),
            Standing::Queued { position: None, why: a.clone(), in_seconds: None },
            Standing::Running { stage: b.clone(), place: (1, 2), steps: vec![step(&a, Verdict::Skip, 1, &c)], for_seconds: 3 },
            Standing::Superseded { by: a.clone(), run: None },
            Standing::Refused(Refused::NotUnderstood { why: c.clone() }),
            Standing::Error { what: a.clone(), next_step: b.clone(), is_retried: false },
        ];
        for standing in standings {
            let mut about = about(standing);
            (about.commit, about.asked, about.notes) = (a.clone(), b.clone(), vec![c.clone()]);
            let text = render(&about);
            prop_assert!(text.len() <= LONGEST);
            let (mut links, mut in_code, mut tables) = (0, false, 0);
            for event in Parser::new_ext(&text, Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_MATH) {
                match event {
                    Event::Start(Tag::Link { dest_url, .. }) => {
                        links += 1;
                        prop_assert!(dest_url.starts_with("https://assay.example/") || dest_url.starts_with("http"), "{dest_url}");
                    }
                    Event::Start(Tag::Image { .. }) => prop_assert!(false, "an image in\n{text}"),
                    Event::Start(Tag::CodeBlock(_)) => in_code = true,
                    Event::End(pulldown_cmark::TagEnd::CodeBlock) => in_code = false,
                    Event::Start(Tag::Table(columns)) => { tables += 1; prop_assert_eq!(columns.len(), 4); }
                    Event::Html(html) | Event::InlineHtml(html) => {
                        let ours = ["<!-- assay:main:7 -->", "<details>", "<summary>", "</summary>", "</details>", "<sub>", "</sub>", "Last lines"];
                        let rest = ours.iter().fold(html.trim().to_owned(), |rest, tag| rest.replace(tag, ""));
                        prop_assert!(rest.trim().is_empty(), "{html:?} in\n{text}");
                    }
                    Event::Text(words) if !in_code => {
                        for active in ACTIVE {
                            prop_assert!(!words.contains(active), "{active} in {words:?} in\n{text}");
                        }
                    }
                    Event::InlineMath(_) | Event::DisplayMath(_) | Event::FootnoteReference(_) => prop_assert!(false, "{text}"),
                    _ => {}
                }
            }
            prop_assert!(links <= 3 && tables <= 1, "{links} links, {tables} tables in\n{text}");
        }
    }
}

#[test]
fn who_asked_is_said_without_a_commit_as_well() {
    let refused = Standing::Refused(Refused::NothingToCancel);
    let text = render(&About { commit: String::new(), asked: String::new(), run: None, ..about(refused) });
    assert!(text.contains("\nAsked by `alice`.\n"), "{text}");
}

#[test]
fn recipes_and_images_stand_in_one_comment_and_each_verdict_is_whole() {
    let of = |of: &str, stage: Standing| About { of: of.into(), ..about(stage) };
    let waits = Standing::Awaits { why: "for its medium: node-3f1c.iso is not there yet".into() };
    let cancelled = Standing::Cancelled { by: None };
    let all = [about(cancelled), About { run: None, ..of("image node", waits) }];
    insta::assert_snapshot!(render_all(&all), @"
    <!-- assay:main:7 -->
    ### ⏹️ cancelled by an operator · [run 42](https://assay.example/runs/42)

    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.

    ### `image node`: ⏸️ waits

    Commit `3f1c2d4e5a6b7c8d9e0f3f1c2d4e5a6b7c8d9e0f`, asked: `!testme --extra` by `alice`.

    `for its medium: node-3f1c.iso is not there yet`

    <sub>Assay, 2026-11-21 09:30 UTC. Commands: `!testme`, `--quick`, `--extra`, `--stages a,b`, `!testme cancel`.</sub>
    ");
    assert_eq!(status::of(&all[1], &status::image_context("node")), None);
    assert_eq!(render_all(&[]), "");

    let mut endless = finished();
    endless.findings =
        vec![
            Found { message: "m".repeat(400), next_step: "n".repeat(400), ..endless.findings[0].clone() };
            25
        ];
    endless.steps = vec![step("stage", Verdict::Fail, 1, &"s".repeat(200)); 40];
    let many: Vec<About> =
        (0..17).map(|n| of(&format!("image {n}"), Standing::Finished(Box::new(endless.clone())))).collect();
    let text = render_all(&many);
    assert!(text.len() < LONGEST, "{}", text.len());
    assert_eq!(text.matches("❌ fail, level 1 of 5").count(), 17);
    assert_eq!(text.matches("Sealed: ").count(), 17);
}
