//! A week as a page and as a feed; the feed is read by a library that is not ours.

use assay_model::digest::{Ended, Failure, Input, Standing};
use assay_model::{Micros, Pipeline, RunResult, TargetId};

use super::*;

const HOSTILE: &str = "]]><script>alert(1)</script>&\"'";
const BASE: &str = "http://assay.example:7300/";

fn digest(week: &str, target: Option<&str>) -> Digest {
    let week: Week = week.parse().expect("a week");
    let at = week.start().plus(Micros::seconds(3600));
    let of =
        target.map(|name| ((Pipeline::Recipe, TargetId::named(Pipeline::Recipe, name)), name.to_owned()));
    let ended = of.iter().map(|(key, target)| Ended {
        key: *key,
        target: target.clone(),
        run: 7,
        profile: "standard".to_owned(),
        result: Some(RunResult::Fail),
        broken_off: false,
        whole: true,
        of_pull_request: false,
        started_at: Some(week.start()),
        ended_at: at,
    });
    let after = of.iter().map(|(key, target)| Standing {
        key: *key,
        target: target.clone(),
        run: 7,
        ended_at: at,
        failure: Some(Failure {
            stage: Some("Install".to_owned()),
            code: Some(HOSTILE.to_owned()),
            since_run: 7,
            since: at,
        }),
    });
    Digest::of(Input {
        week,
        to: week.end(),
        ended: ended.collect(),
        before: Vec::new(),
        after: after.collect(),
        drifted: Vec::new(),
        flaky: Vec::new(),
        waiting: Vec::new(),
    })
}

#[test]
fn the_feed_is_an_atom_feed() {
    let digests =
        [digest("2026-W47", Some(HOSTILE)), digest("2026-W46", None), digest("2026-W45", Some("wiki"))];
    let text = atom(&digests, "key1", BASE).render().expect("it can be drawn");
    let feed = atom_syndication::Feed::read_from(text.as_bytes()).expect("an Atom feed");
    // What RFC 4287 wants of every feed and every entry, and once each.
    assert!(feed.id().starts_with("urn:uuid:") && !feed.title().as_str().is_empty());
    assert_eq!(feed.authors().len(), 1);
    assert_eq!(feed.updated().to_rfc3339(), "2026-11-23T00:00:00+00:00");
    let links: Vec<_> = feed.links().iter().map(|link| (link.rel(), link.href())).collect();
    let (own, page) = (format!("{BASE}digest.atom"), format!("{BASE}digest"));
    assert_eq!(links, [("self", own.as_str()), ("alternate", page.as_str())]);
    assert_eq!(feed.base(), Some(BASE));
    assert_eq!(feed.entries().len(), 2, "a week in which nothing was is no news");
    let mut ids = vec![feed.id().to_owned()];
    for entry in feed.entries() {
        ids.push(entry.id().to_owned());
        let content = entry.content().expect("content");
        assert_eq!(content.content_type(), Some("html"));
        let html = content.value().expect("text");
        assert!(
            html.contains("Went red and is still red") && html.contains("<a href=\"/runs/7\">run 7</a>"),
            "{html}"
        );
        assert!(!html.contains("<script"), "{html}");
        assert_eq!(entry.links().len(), 1);
        assert_eq!(entry.summary().map(atom_syndication::Text::as_str), Some("1 run: 1 failed. 1 went red."));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each has an id of its own");
    // Whoever asks again gets the same, and another server's feed is another one.
    assert_eq!(atom(&digests, "key1", BASE).render().expect("drawn"), text);
    assert_ne!(urn("key2"), feed.id());
}

#[test]
fn a_new_servers_feed_is_empty_and_still_one() {
    let text = atom(&[digest("2026-W47", None)], "key1", "/").render().expect("it can be drawn");
    let feed = atom_syndication::Feed::read_from(text.as_bytes()).expect("an Atom feed");
    assert!(feed.entries().is_empty() && feed.updated().to_rfc3339() == "2026-11-23T00:00:00+00:00");
}

#[test]
fn the_page_says_the_same_as_the_markdown() {
    let digest = digest("2026-W47", Some("wiki"));
    let html = draw(Shell::bare(), &digest).render().expect("it can be drawn");
    assert!(html.contains("<h1>Week 2026-W47, 16 to 22 November 2026</h1>"), "{html}");
    assert!(
        html.contains("href=\"/digest?week=2026-W46\"") && html.contains("href=\"/digest?week=2026-W48\""),
        "{html}"
    );
    for section in digest.sections() {
        assert!(html.contains(section.title), "{}", section.title);
        assert!(digest.markdown().contains(section.title), "{}", section.title);
        assert!(!section.items.is_empty() || html.contains(section.none), "{}", section.title);
    }
    assert!(!html.contains("<script>alert") && !html.contains("is not over"), "{html}");
}

#[test]
fn an_address_is_taken_only_where_it_is_one() {
    let base = |host: &str, proto: Option<&str>| {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a header"));
        if let Some(proto) = proto {
            headers.insert("x-forwarded-proto", proto.parse().expect("a header"));
        }
        super::base(&headers)
    };
    assert_eq!(base("assay.example:7300", None), BASE);
    assert_eq!(base("assay.example", Some("https")), "https://assay.example/");
    assert_eq!(base("assay.example", Some("javascript")), "http://assay.example/");
    for wrong in ["a/b", "a?b", "x@y", "", "a b"] {
        assert_eq!(base(wrong, None), "/", "{wrong}");
    }
}
