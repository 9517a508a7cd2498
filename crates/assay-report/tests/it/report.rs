//! `report.html` and `report.json`, read as an operator and a script would.

use crate::common::{self, Story};
use assay_model::journal::StoredEvent;
use assay_model::report::Report;
use assay_report::{Difference, Extras, GreenRun, SigningKey, SinceGreen, html, json};

fn page(story: &Story) -> String {
    let view = story.view();
    html(&view, &Report::of(&view), &common::extras(story))
}

/// The page's words from the verdict to the stages, without markup.
fn top(page: &str) -> String {
    let from = page.find("<header>").expect("a header");
    let to = page.find(" and run</h2>").expect("what it is about");
    let to = page[..to].rfind("<h2>").expect("a heading");
    words(&page[from..to])
}

fn words(markup: &str) -> String {
    let (mut out, mut inside) = (String::new(), false);
    for c in markup.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => out.push(c),
            _ => {}
        }
    }
    out.replace("&#39;", "'").lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_top_of_the_page_says_verdict_gaps_and_next_steps_in_words() {
    let key = SigningKey::generate().expect("random");
    insta::assert_snapshot!(top(&page(&common::passed(&key))), @r#"
    Assay report · run 41
    pve-07
    PASS
    Every required stage passed.
    Not verified
    Network: the runner's link (1 Gb/s) is too slow to judge 25 Gb/s ports
    "#);
    insta::assert_snapshot!(top(&page(&common::held())), @r#"
    Assay report · run 42
    pve-07
    FAIL – HELD
    It failed at SpecValidate. The machine is kept as it is until an operator decides.
    Interim report: the run is held until 2026-03-03 09:02:07 UTC and its verdict is not sealed. What an operator decides may still change it.
    Not verified
    SpecValidate: slot A2: nothing to compare, the slot is empty
    What failed, and what to do
    SpecValidate: 2 critical differences from the expected spec
    DIMM A2critical · SpecValidate · DimmMissing
    slot A2 is empty; a 16 GiB module is expected there
    Power off, seat the module in slot A2, and retry the stage.
    Disk bay 3 (serial S6PNNX0T899999)critical · SpecValidate · DiskSwapped
    bay 3 holds S6PNNX0T899999 where S6PNNX0T812345 is expected
    Put the expected disk back into bay 3, or enter the new serial in the host's spec.
    "#);
    insta::assert_snapshot!(top(&page(&common::overridden(&key))), @r#"
    Assay report · run 42
    pve-07
    PASS – OVERRIDDEN
    An operator accepted the failure of SpecValidate; it was not repaired.
    Overridden: jonas waived SpecValidate: “module is on order, node is needed as a witness only”
    Not verified
    SpecValidate: slot A2: nothing to compare, the slot is empty
    What failed, and what to do
    SpecValidate (failure accepted): 2 critical differences from the expected spec
    DIMM A2critical · SpecValidate · DimmMissing · failure accepted
    slot A2 is empty; a 16 GiB module is expected there
    Power off, seat the module in slot A2, and retry the stage.
    Disk bay 3 (serial S6PNNX0T899999)critical · SpecValidate · DiskSwapped · failure accepted
    bay 3 holds S6PNNX0T899999 where S6PNNX0T812345 is expected
    Put the expected disk back into bay 3, or enter the new serial in the host's spec.
    "#);
    insta::assert_snapshot!(top(&page(&common::cancelled(&key))), @r#"
    Assay report · run 44
    pve-07
    NO RESULT – CANCELLED
    An operator stopped the run. It says nothing for the machine.
    Not verified
    Inventory: never judged
    SpecValidate: never judged
    SMART: never judged
    CPUStress: never judged
    Network: never judged
    "#);
    insta::assert_snapshot!(top(&page(&common::muted(&key))), @r#"
    Assay report · run 45
    pve-07
    PASS – CHECKS MUTED (quick profile only)
    Checks were switched off, so this run can never admit the machine.
    Checks switched off: DimmMissing. This run can never admit the machine.
    Not verified
    checks switched off: DimmMissing
    "#);
    insta::assert_snapshot!(top(&page(&common::left_out(&key))), @r#"
    Assay report · run 46
    pve-07
    PASS – STAGES LEFT OUT
    Stages were left out by request, so this run can never admit the machine.
    Stages left out: Storage. This run can never admit the machine.
    Not verified
    stages left out by request: Storage
    "#);
    insta::assert_snapshot!(top(&page(&common::begun_late(&key))), @r#"
    Assay report · run 47
    pve-07
    PASS – FROM A PHASE
    It was to go on from the phase `welcome`, where an earlier run had kept its machine; only a run from the beginning speaks for the image.
    "#);
}

#[test]
fn the_page_is_complete_in_itself_and_forbids_everything_else() {
    let key = SigningKey::generate().expect("random");
    let story = common::passed(&key);
    let page = page(&story);
    assert!(page.contains("default-src 'none'"));
    // A picture of the film strip is in the page itself.
    let bare = page.replace("<img src=\"data:image/png;base64,", "");
    for fetching in
        ["<script", "<link", "<img", "<iframe", "url(", "@import", "src=", "href=", "http://", "https://"]
    {
        assert!(!bare.contains(fetching), "the page has {fetching}");
    }
    for told in [
        "S452911X2A04217",
        "k10temp/Tctl@pci0000:00",
        "smart-NV1.txt",
        "attempt 1: the agent restarted",
        "assay verify BUNDLE",
        &key.key_id(),
        &story.view().seal.expect("sealed").head.to_string(),
        "never seen red on this runner",
        "Completed: pass",
        "Sealed and signed",
        "0 of 4 ports",
    ] {
        assert!(page.contains(told), "the page lacks {told}");
    }
    assert_eq!(page.matches("<path class=\"line").count(), 4);
}

#[test]
fn findings_stand_with_the_worst_first() {
    let page = page(&common::held());
    let table = &page[page.find("<h2>Findings").expect("findings")..];
    let place = |code: &str| table.find(code).expect(code);
    assert!(place("DimmMissing") < place("DiskSwapped") && place("DiskSwapped") < place("BiosDate"));
}

#[test]
fn text_from_the_machine_stays_text_in_every_field() {
    const HOSTILE: &str = "<script>alert(1)</script>\"'>]]><!--&\u{202e}gpj\u{1b}[2J";
    let key = SigningKey::generate().expect("random");
    let mut seen = 0;
    for story in [
        common::passed(&key),
        common::held(),
        common::overridden(&key),
        common::cancelled(&key),
        common::muted(&key),
    ] {
        // Every string in every event that is free text becomes hostile.
        let mut hostile = Story::begin(1, |_| {});
        hostile.id = story.id;
        hostile.journal.clear();
        for event in &story.journal {
            let mut body: serde_json::Value = serde_json::from_slice(&event.body).expect("JSON");
            seen += poison(&mut body, "", HOSTILE);
            let bytes = serde_json::to_vec(&body).expect("JSON");
            let chained =
                StoredEvent::chain(story.id, event.seq, event.at, event.kind.clone(), bytes, hostile.head());
            hostile.journal.push(chained);
        }
        let mut extras = common::extras(&hostile);
        let mut inventory = serde_json::to_value(extras.inventory.take()).expect("JSON");
        poison(&mut inventory, "", HOSTILE);
        extras.inventory = serde_json::from_value(inventory).expect("still an inventory");
        for series in &mut extras.series {
            // Units keep apart, so that the honest page has as many charts.
            (series.name, series.unit) = (HOSTILE.into(), format!("{HOSTILE}{}", series.unit));
        }
        for red in &mut extras.last_red {
            red.code = HOSTILE.into();
        }
        let view = hostile.view();
        let page = html(&view, &Report::of(&view), &extras);
        for live in ["<script", "]]><!--", "\u{202e}", "\u{1b}", "\"'>"] {
            assert!(!page.contains(live), "{live:?} went through");
        }
        assert!(page.contains("alert(1)"), "the text itself is shown");
        // Nothing opens that the template did not open: the same tags as on the honest page.
        let honest = html(&story.view(), &Report::of(&story.view()), &common::extras(&story));
        assert_eq!(page.matches("<details").count(), honest.matches("<details").count());
        assert_eq!(page.matches("<tr>").count(), honest.matches("<tr>").count());
    }
    assert!(seen > 200, "only {seen} fields were poisoned");
}

/// Replaces free text and leaves what is an enum, a digest or an id.
fn poison(value: &mut serde_json::Value, key: &str, with: &str) -> usize {
    use serde_json::Value;
    const FIXED: [&str; 16] = [
        "verdict",
        "severity",
        "kind",
        "owner",
        "action",
        "digest",
        "host",
        "target",
        "head",
        "result",
        "macs",
        "mac",
        "envelope",
        "transport",
        "reason",
        "pipeline",
    ];
    match value {
        _ if FIXED.contains(&key) && !(key == "kind" && value == "dimm") => 0,
        Value::String(text) => {
            with.clone_into(text);
            1
        }
        Value::Array(items) => items.iter_mut().map(|v| poison(v, key, with)).sum(),
        Value::Object(fields) => fields.iter_mut().map(|(k, v)| poison(v, k, with)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[test]
fn report_json_begins_as_the_contract_says() {
    let key = SigningKey::generate().expect("random");
    let report = Report::of(&common::passed(&key).view());
    let text = json(&report);
    assert!(text.ends_with("}\n"));
    let head: String = text.split_inclusive('\n').take(28).collect();
    insta::assert_snapshot!(head, @r#"
    {
      "format": 1,
      "run": {
        "id": "01955555-0000-7000-8000-000000000029",
        "number": 41,
        "pipeline": "host",
        "profile": "standard",
        "target": "pve-07",
        "state": "Completed",
        "result": "pass",
        "overridden": false,
        "failed_stage": null,
        "started_at": "2026-03-02T09:00:04.000Z",
        "completed_at": "2026-03-02T09:49:46.000Z"
      },
      "stages": [
        {
          "name": "Inventory",
          "verdict": "pass",
          "attempt": 1,
          "seconds": 9.0,
          "coverage": [
            {
              "what": "parts read",
              "covered": 31,
              "total": 31
            }
          ],
    "#);
    let back: Report = serde_json::from_str(&text).expect("reads back");
    assert_eq!(back, report);
}

#[test]
fn a_run_that_never_came_up_says_so() {
    let mut story = Story::begin(46, |_| {});
    story.add(1, assay_model::EventBody::Admitted { runner: "r".into() });
    story.add(600, assay_model::EventBody::BootFailed { message: "no DHCP request was seen".into() });
    story.hold();
    insta::assert_snapshot!(top(&page(&story)), @r#"
    Assay report · run 46
    pve-07
    FAIL – HELD
    It failed at Boot. The machine is kept as it is until an operator decides.
    Interim report: the run is held until 2026-03-03 09:10:01 UTC and its verdict is not sealed. What an operator decides may still change it.
    What failed, and what to do
    Boot: no DHCP request was seen
    "#);
    let view = story.view();
    assert!(html(&view, &Report::of(&view), &Extras::default()).contains("did not come up in time"));
}

#[test]
fn what_changed_since_green_is_a_section_of_a_red_recipe() {
    let key = SigningKey::generate().expect("random");
    let story = common::red_recipe(&key);
    let view = story.view();
    let difference = |aspect: &str, what: &str, values: Option<(&str, &str)>, next: &str| Difference {
        aspect: aspect.to_owned(),
        what: what.to_owned(),
        values: values.map(|(was, is)| (was.to_owned(), is.to_owned())),
        next_step: next.to_owned(),
    };
    let since = SinceGreen {
        green: Some(GreenRun { number: 41, at: "2026-03-02T14:05:09.120000Z".to_owned() }),
        differences: vec![
            difference(
                "images",
                "shop:1",
                Some(("111111111111", "abababababab")),
                "Run the green commit again.",
            ),
            difference(
                "images",
                "db:15",
                Some(("not deployed", "222222222222")),
                "Run the green commit again.",
            ),
            difference("load on the runner", "the runner is <b>overloaded</b>", None, "Run it again later."),
        ],
        unknown: vec!["IPVS, since no daemon was started".to_owned()],
        note: None,
    };
    let shown = |since: SinceGreen, linked| {
        let extras = Extras { since_green: Some(since), linked, ..Extras::default() };
        let page = html(&view, &Report::of(&view), &extras);
        let from = page.find("<h2>What changed since it was green").expect("the section");
        let to = page[from..].find("<h2>Recipe and run</h2>").expect("the next one");
        page[from..from + to].to_owned()
    };
    let page = shown(since.clone(), false);
    assert!(!page.contains("href"), "a file that lies anywhere leads nowhere: {page}");
    insta::assert_snapshot!(words(&page.replace("</t", " </t")), @"
    What changed since it was green
    Last green: run 41, 2026-03-02 14:05:09 UTC. What is not listed here is as it was then, as far as it was compared.
    Kind What differs In the green run In this run Next step
    Images shop:1 111111111111 abababababab Run the green commit again.
    Images db:15 not deployed 222222222222
    Load on the runner the runner is &#60;b&#62;overloaded&#60;/b&#62; Run it again later.
    Not compared: IPVS, since no daemon was started.
    ");
    let linked = shown(since, true);
    assert!(linked.contains(r#"<a href="/runs/41">run 41</a>"#), "{linked}");
    let never = SinceGreen { note: Some("It was never green.".to_owned()), ..SinceGreen::default() };
    insta::assert_snapshot!(words(&shown(never, false)), @"
    What changed since it was green
    It was never green.
    ");
    // A green run, and a machine, have no such section.
    assert!(!self::page(&common::held()).contains("since it was green"));
}
