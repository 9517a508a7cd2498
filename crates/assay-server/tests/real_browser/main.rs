//! The pages in a real browser: what only a browser can show. That a page follows its run without a reload,
//! that a lost connection loses and doubles nothing, that hostile text stays text, that a phone can show it.
//!
//! What the server answers to a request is tested without a browser, in `pages.rs`.

mod browser;
mod cable;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod common;
mod site;

use assay_engine::Engine;
use assay_model::event::{EventBody, RunCreated, Target};
use assay_model::host::order::RunOptions;
use assay_model::{
    Finding, Judgement, Mac, Micros, Owner, Pipeline, RunId, RunResult, RunState, Severity, StageName,
    StagePlan, TargetId,
};
use assay_store::Changes;
use browser::Browser;
use common::{PASSWORD, Story, dimm_missing, pass};
use serde_json::json;
use site::Site;

/// Runs as script if any of it is ever taken for markup.
const HOSTILE: &str =
    "<script>window.pwned=1</script>\"'><img src=x onerror=\"window.pwned=2\"><svg onload=window.pwned=3>";

/// The pages of what is tested again.
const AGAIN: [&str; 5] = ["/schedules", "/schedules/nightly", "/batches", "/batches/1", "/batches/plan"];

/// The page shows the log and the readings of the store: each once, in their order, and nothing else.
async fn same_as_in_the_store(browser: &Browser, site: &Site, run: &Story) {
    let lines = site.log(run.run).await;
    browser.log_lines(lines.len()).await;
    assert_eq!(browser.log().await, lines);
    let readings = site.readings(run.run).await;
    browser.reading_count(readings.len()).await;
    assert_eq!(browser.readings().await, readings);
}

/// A run in the middle of its second stage.
async fn running(engine: &Engine) -> Story {
    let host = Story::host(engine, "node7", 1, "").await;
    let mut run = Story::begin(engine, &host, "standard", 120).await;
    run.boots().await;
    run.stage(0, 1, 12, pass("43 facts read", "sources", 14)).await;
    run.starts(1, 1).await;
    run
}

/// The second stage is judged and the run is held, in one go.
fn fails(engine: &Engine) -> Vec<EventBody> {
    let stage = "SpecValidate".into();
    let judgement = dimm_missing("4012AB9A");
    let judged = EventBody::StageJudged { stage, index: 1, attempt: 1, required: true, judgement };
    vec![judged, EventBody::Held { until: engine.now().plus(Micros::seconds(3600)) }]
}

fn finding(message: &str) -> EventBody {
    let finding = Finding::new("RebootUnexpected", Severity::Warning, message, message);
    EventBody::FindingRaised { finding }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_start_sets_a_password_with_which_one_signs_in_and_out() {
    let (site, ()) = Site::start(None, async |_| ()).await;
    let browser = Browser::start().await;
    browser.open(&site, "/").await;
    browser.until("location.pathname === '/setup'").await;
    browser.is_quiet_but_for(&[]).await;

    let code = site.setup_code.clone().expect("nobody can sign in yet");
    let set = async |code: &str, password: &str, again: &str| {
        browser.write("#code", code).await;
        browser.write("#password", password).await;
        browser.write("#again", again).await;
        browser.click("main button").await;
    };
    set(&code, "short", "short").await;
    assert!(browser.get::<bool>("document.querySelector('#password').validity.tooShort").await);
    assert!(
        !browser.get::<bool>("document.querySelector('[role=alert]') !== null").await,
        "nothing was sent"
    );
    set("0000000000000000", PASSWORD, PASSWORD).await;
    browser
        .until("document.querySelector('[role=alert]')?.innerText.startsWith('That is not the setup code')")
        .await;
    set(&code, PASSWORD, "another password").await;
    browser
        .until("document.querySelector('[role=alert]')?.innerText.startsWith('The two passwords differ')")
        .await;
    browser.is_quiet_but_for(&["status of 401", "status of 422"]).await;

    set(&code, PASSWORD, PASSWORD).await;
    browser.until("location.pathname === '/' && document.querySelector('.who')").await;
    assert!(browser.text("main").await.contains("No machine is registered yet"));
    browser.click(".who button").await;
    browser.until("location.pathname === '/login'").await;
    assert!(!browser.get::<bool>("document.querySelector('.who') !== null").await);

    browser.write("#password", "wrong horse battery").await;
    browser.click("main button").await;
    browser.until("document.querySelector('[role=alert]')?.innerText === 'Name or password is wrong.'").await;
    browser.is_quiet_but_for(&["status of 401"]).await;
    browser.open(&site, "/runs").await;
    browser.until("location.pathname === '/login'").await;
    browser.write("#password", PASSWORD).await;
    browser.click("main button").await;
    browser.until("location.pathname === '/runs' && document.querySelector('.who')").await;
    browser.is_quiet_but_for(&[]).await;
    browser.quit().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_page_follows_its_run_and_neither_a_reload_nor_a_lost_connection_loses_anything() {
    let (mut site, run) = Site::start(Some(PASSWORD), running).await;
    run.says(1, &[("agent", "before anyone looked")]).await;
    run.readings(1, 100, 4).await;
    let browser = Browser::start().await;
    browser.sign_in(&site).await;
    browser.open(&site, &format!("/runs/{}", run.number)).await;
    assert!(browser.text("#stage-SpecValidate").await.contains("Running"));
    assert!(!browser.get::<bool>("document.querySelector('.decide') !== null").await);
    browser.get::<bool>("window.sameDocument = true").await;
    same_as_in_the_store(&browser, &site, &run).await;

    run.says(2, &[("smartctl", "first"), ("kernel", "second"), ("smartctl", "first")]).await;
    run.readings(2, 75, 3).await;
    run.says(3, &[("agent", "third")]).await;
    same_as_in_the_store(&browser, &site, &run).await;
    site.now(run.run, fails(&site.engine)).await;
    browser
        .until("document.querySelector('#stage-SpecValidate .badge')?.innerText.trim() === 'Failed'")
        .await;
    browser.until("document.querySelector('.decide')?.innerText.includes('Your decision')").await;
    browser.until("document.title.startsWith('✕ Failed, held')").await;
    assert!(browser.text("#state").await.contains("Reseat the module in DIMM_B1"));
    assert!(browser.get::<bool>("window.sameDocument === true").await, "all of it without a reload");
    run.says(4, &[("agent", "after the verdict")]).await;
    same_as_in_the_store(&browser, &site, &run).await;
    browser.is_quiet_but_for(&[]).await;

    browser.reload().await;
    assert!(browser.get::<bool>("window.sameDocument === undefined").await, "this is another document");
    same_as_in_the_store(&browser, &site, &run).await;
    assert!(browser.text(".decide").await.contains("Your decision"));
    browser.get::<bool>("window.sameDocument = true").await;

    site.cable.pull();
    browser.until("document.querySelector('#offline').hidden === false").await;
    run.says(5, &[("kernel", "while nobody could see it"), ("kernel", "nor this")]).await;
    run.readings(3, 40, 4).await;
    site.now(run.run, vec![finding("It happened in the dark.")]).await;
    site.cable.refused(2).await;
    let before = site.log(run.run).await.len() - 2;
    assert_eq!(browser.log().await.len(), before, "the cable is really out");
    site.cable.plug_in();
    browser.until("document.querySelector('#state').innerText.includes('It happened in the dark.')").await;
    browser.until("document.querySelector('#offline').hidden").await;
    same_as_in_the_store(&browser, &site, &run).await;

    // A tab that is looked away from gives its connection back, and goes on where it was when it is looked at.
    browser.in_front(false).await;
    run.says(6, &[("kernel", "while it was behind another tab")]).await;
    run.readings(4, 18, 2).await;
    browser.in_front(true).await;
    same_as_in_the_store(&browser, &site, &run).await;
    // Whatever came twice would stand before this one.
    run.says(7, &[("agent", "the last line")]).await;
    run.readings(5, 5, 1).await;
    same_as_in_the_store(&browser, &site, &run).await;
    assert!(browser.get::<bool>("window.sameDocument === true").await);
    browser.is_quiet_but_for(&["net::ERR_", "htmx:error: Failed to fetch"]).await;
    browser.quit().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_waived_on_its_page_only_with_a_reason_and_the_run_goes_on() {
    let (site, run) = Site::start(Some(PASSWORD), async |engine| {
        let mut run = running(engine).await;
        run.says(1, &[("agent", "spec compared")]).await;
        // The story's own clock: it ends before the server's begins.
        for event in fails(engine) {
            run.then(1, event).await;
        }
        run
    })
    .await;
    let browser = Browser::start().await;
    browser.sign_in(&site).await;
    browser.open(&site, &format!("/runs/{}", run.number)).await;
    let view = async || site.engine.view(run.run).await.expect("reads");

    browser.get::<bool>("window.sameDocument = true").await;
    browser.click(".decide details:has(#why-waive) summary").await;
    browser.click(".decide details:has(#why-waive) button").await;
    assert!(browser.get::<bool>("document.querySelector('#why-waive').validity.valueMissing").await);
    assert!(browser.get::<bool>("window.sameDocument === true").await, "nothing was sent");
    assert!(view().await.decisions.is_empty());

    // What is being typed outlives news about the run.
    browser.write("#why-waive", "the spare comes on Friday").await;
    site.now(run.run, vec![finding("It happened meanwhile.")]).await;
    browser.until("document.querySelector('#state').innerText.includes('It happened meanwhile.')").await;
    assert_eq!(
        browser.get::<String>("document.querySelector('#why-waive').value").await,
        "the spare comes on Friday"
    );
    browser.is_quiet_but_for(&[]).await;

    browser.write("#why-waive", "   ").await;
    browser.click(".decide details:has(#why-waive) button").await;
    browser.until("document.querySelector('main').innerText.includes('needs a reason')").await;
    assert_eq!((view().await.state(), view().await.decisions.len()), (RunState::FailedHolding, 0));
    browser.is_quiet_but_for(&["status of 422"]).await;

    browser.open(&site, &format!("/runs/{}", run.number)).await;
    browser.click(".decide details:has(#why-waive) summary").await;
    browser.write("#why-waive", "half of it will do till Friday").await;
    browser.click(".decide details:has(#why-waive) button").await;
    browser.until("document.querySelector('#stage-SMART .badge')?.innerText.trim() === 'Running'").await;
    assert!(browser.text("#stage-SpecValidate").await.contains("Waived"));
    assert!(!browser.get::<bool>("document.querySelector('.decide') !== null").await);
    let decisions = browser.text("section[aria-labelledby=decisions-title]").await;
    assert!(decisions.contains("operator waived the failure at SpecValidate"), "{decisions}");
    assert!(decisions.contains("half of it will do till Friday"), "{decisions}");
    let now = view().await;
    assert_eq!((now.state(), now.overridden, now.decisions.len()), (RunState::Running, true, 1));
    let told = &now.decisions[0].decision;
    assert_eq!((told.by.as_str(), told.why.as_str()), ("operator", "half of it will do till Friday"));
    browser.is_quiet_but_for(&[]).await;
    browser.quit().await;
    site.stop().await;
}

/// A held run of a machine that says nothing but hostile things, and another that has never been seen.
async fn hostile(engine: &Engine) -> Story {
    let host = Story::host(engine, "node7", 1, HOSTILE).await;
    let mut run = Story::begin(engine, &host, "standard", 600).await;
    run.boots().await;
    run.file(0, "inventory.json", b"{}").await;
    run.stage(0, 1, 12, pass(HOSTILE, HOSTILE, 2)).await;
    run.stage(1, 1, 2, dimm_missing(HOSTILE)).await;
    run.then(0, finding(HOSTILE)).await;
    run.held().await;
    run.says(1, &[(HOSTILE, HOSTILE), ("kernel", &"x".repeat(600))]).await;
    run.readings(1, 500, 30).await;
    let store = engine.store();
    store.runner_seen("rack7", HOSTILE, Some(HOSTILE), engine.now()).await.expect("stores");
    store.unknown_seen(&[Mac([2, 0, 0, 0, 0, 9])], HOSTILE, engine.now()).await.expect("stores");
    recipe(engine).await;
    schedule(engine).await;
    run
}

/// A recipe with the longest name that is taken, whose run has failed for a hostile reason.
async fn recipe(engine: &Engine) {
    let name = "wiki".repeat(16);
    let stage = StagePlan { name: "Install".into(), owner: Owner::Runner, required: true, timeout_s: 60 };
    let created = RunCreated {
        number: 0,
        pipeline: Pipeline::Recipe,
        profile: "standard".into(),
        target: Target { id: TargetId::named(Pipeline::Recipe, &name), name },
        stages: vec![stage],
        spec: json!({}),
        machine: None,
        macs: Vec::new(),
        power: json!({ "method": "swarm" }),
        holds: false,
        hold_s: 0,
        boot_timeout_s: 0,
        requested_by: HOSTILE.into(),
        harness: "0.1.0".into(),
        muted: Vec::new(),
        options: RunOptions::default(),
    };
    let id = RunId(uuid::Uuid::now_v7());
    engine.store().create_run(id, engine.now(), created).await.expect("creates");
    let install = || StageName::from("Install");
    let found = vec![Finding::new(HOSTILE, Severity::Critical, HOSTILE, HOSTILE)];
    let judgement = Judgement::from_evidence(vec![], found, vec![], vec![], HOSTILE);
    let events = vec![
        EventBody::Admitted { runner: "bench1".into() },
        EventBody::StageStarted { stage: install(), index: 0, attempt: 1, generation: 1 },
        EventBody::StageJudged { stage: install(), index: 0, attempt: 1, required: true, judgement },
        EventBody::RunCompleted { result: Some(RunResult::Fail) },
    ];
    let changes = Changes { events, writes: Vec::new() };
    let done = engine.store().transact(id, engine.now(), |_| Ok::<_, String>(changes)).await;
    done.expect("may happen");
}

/// A schedule that somebody with a strange name ran once: its machine is left out, with the reason.
async fn schedule(engine: &Engine) {
    let again = serde_json::json!({ "what": "hosts" });
    let timing = serde_json::json!({ "cron": "0 3 1 1 *", "zone": "UTC", "catch_up_s": 0, "spread_s": 0 });
    let written = serde_json::json!({ "timing": timing, "again": again, "limits": { "at_most": 1 } });
    let written = serde_json::from_value(written).expect("plain data");
    engine.put_schedule("nightly", &written, HOSTILE, false).await.expect("written");
    let (batch, _) = engine.run_schedule("nightly", HOSTILE).await.expect("begun");
    assert_eq!(batch, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_text_is_shown_as_text_and_no_page_makes_the_browser_complain() {
    let (site, run) = Site::start(Some(PASSWORD), hostile).await;
    let browser = Browser::start().await;
    browser.sign_in(&site).await;
    let on_the_run = format!("/runs/{}", run.number);
    let pages = [
        "/",
        "/runs",
        "/hosts/node7",
        "/hosts/node7/edit",
        "/hosts/new?mac=%3Cscript%3E",
        "/dashboard",
        "/digest",
        "/forges",
        &on_the_run,
    ];
    // The run's page is the last one, and looked at further.
    for path in AGAIN.into_iter().chain(pages) {
        browser.open(&site, path).await;
        assert!(browser.get::<bool>("window.pwned === undefined").await, "{path}");
        browser.is_quiet_but_for(&[]).await;
    }
    same_as_in_the_store(&browser, &site, &run).await;
    assert!(browser.log().await[0].contains(HOSTILE), "the log shows it as it is");
    assert!(browser.text(".findings").await.contains("<script>window.pwned=1</script>"));
    let page = browser.get::<u32>("document.querySelectorAll('#run script, #run img, #run [onload]').length");
    assert_eq!(page.await, 0);
    // The part of the page that is asked for again goes another way into the document.
    site.now(run.run, vec![finding(&format!("again {HOSTILE}"))]).await;
    browser.until("document.querySelector('.findings').innerText.includes('again <script>')").await;
    assert!(browser.get::<bool>("window.pwned === undefined").await);
    browser.is_quiet_but_for(&[]).await;

    // What would have been seen if it had been markup: the policy refuses it, and the browser says so.
    let injected = "(() => {
        const script = document.createElement('script');
        script.textContent = 'window.pwned = 4';
        document.body.append(script);
        console.error('a page said this');
        return window.pwned === undefined;
    })()";
    assert!(browser.get::<bool>(injected).await, "the policy holds");
    let complaints = browser.complaints().await.join("\n");
    assert!(complaints.contains("Content Security Policy"), "{complaints}");
    assert!(complaints.contains("a page said this"), "{complaints}");
    browser.quit().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_shows_every_page_without_scrolling_sideways() {
    let (site, run) = Site::start(Some(PASSWORD), hostile).await;
    let browser = Browser::start().await;
    browser.resize(390, 844).await;
    browser.sign_in(&site).await;
    let on_the_run = format!("/runs/{}", run.number);
    let pages = [
        "/",
        "/images",
        "/runs",
        "/hosts/node7",
        "/hosts/node7/edit",
        "/hosts/new",
        "/dashboard",
        "/digest",
        "/forges",
        on_the_run.as_str(),
    ];
    for path in pages.into_iter().chain(AGAIN) {
        browser.open(&site, path).await;
        if path == on_the_run {
            same_as_in_the_store(&browser, &site, &run).await;
        }
        browser
            .get::<u32>("[...document.querySelectorAll('details')].filter((d) => d.open = true).length")
            .await;
        let (over, what) = browser.overhang().await;
        assert!(over <= 0, "{path} is {over} px too wide: {what:#?}");
    }
    // That this can be seen at all.
    browser.get::<bool>("(document.querySelector('main').style.width = '500px') !== ''").await;
    let (over, what) = browser.overhang().await;
    assert!(over > 0 && what.iter().any(|e| e.starts_with("main")), "{over} {what:?}");
    browser.quit().await;
    site.stop().await;
}
