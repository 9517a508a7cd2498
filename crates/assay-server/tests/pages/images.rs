//! The pages of images: the list, one image's history, what a run of one shows; all of it said by a guest or an image.

use assay_engine::Engine;
use assay_engine::images::{ImageRequest, OnHost};
use assay_model::event::EventBody;
use assay_model::{Finding, Judgement, Micros, RunId, RunResult, Severity, Sha256, StagePlan, Verdict};
use assay_pipelines::image::{ImageSpec, Profile};
use assay_store::{Changes, ImageSeen, Write};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::common::{Story, pass};
use crate::{HOSTILE, Site};

const PROFILE: &str =
    "name = \"NAME\"\n[[phase]]\nname = \"installed\"\nmarker = \"DONE\"\ntimeout = \"60s\"\n";

/// A run of an image, being written. The server's dispatcher runs beside it: each commit ends with an attempt that is
/// open, so that there is nothing for it to do.
struct Test {
    engine: Engine,
    run: RunId,
    number: i64,
    at: Micros,
    stages: Vec<StagePlan>,
    /// The stage that is open.
    index: usize,
}

impl Test {
    async fn begin(engine: &Engine, name: &str) -> Self {
        let profile = Profile::from_toml(&PROFILE.replace("NAME", name)).expect("it reads");
        let spec =
            json!({ "image": format!("/images/{HOSTILE}"), "profile": profile, "folder": "/", "seed": 7 });
        let spec = ImageSpec::of(&spec).expect("plain data");
        let request = ImageRequest { spec, runner: None, muted: Vec::new(), by: "ada".into() };
        let view = engine.test_image(request).await.expect("it is queued");
        let mut test = Self {
            engine: engine.clone(),
            run: view.id,
            number: view.created.number,
            at: view.created_at,
            stages: view.created.stages.clone(),
            index: 0,
        };
        let enrolled = EventBody::Enrolled {
            boot: 1,
            mac: None,
            system_uuid: None,
            agent: "runner".into(),
            clock_skew_us: 0,
            generation: 1,
        };
        let events = vec![EventBody::Admitted { runner: "bench1".into() }, enrolled, test.starts(0)];
        test.then(1, events, Vec::new()).await;
        test
    }

    async fn then(&mut self, seconds: i64, events: Vec<EventBody>, writes: Vec<Write>) {
        self.at = self.at.plus(Micros::seconds(seconds));
        let changes = Changes { events, writes };
        let done = self.engine.store().transact(self.run, self.at, |_| Ok::<_, String>(changes)).await;
        done.expect("may happen");
    }

    async fn keep(&self, content: &[u8]) -> Sha256 {
        let digest = Sha256::of(content);
        let stream = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(content))]);
        self.engine.artifacts().put_stream(stream, 1 << 20, Some(digest)).await.expect("stores");
        digest
    }

    fn starts(&self, index: usize) -> EventBody {
        let stage = self.stages[index].name.clone();
        EventBody::StageStarted { stage, index, attempt: 1, generation: 10 }
    }

    fn judged(&self, index: usize, judgement: Judgement) -> EventBody {
        let StagePlan { name, required, .. } = self.stages[index].clone();
        EventBody::StageJudged { stage: name, index, attempt: 1, required, judgement }
    }

    /// The open stage with its evidence, its files and its verdict; then the next one, or the end.
    async fn stage(&mut self, seconds: i64, evidence: Value, files: &[(&str, &[u8])], judgement: Judgement) {
        let stage = self.stages[self.index].name.clone();
        for (name, content) in files {
            let stored = EventBody::ArtifactStored {
                stage: Some(stage.clone()),
                attempt: 1,
                name: (*name).to_owned(),
                digest: self.keep(content).await,
                bytes: content.len() as u64,
                late: false,
            };
            self.then(0, vec![stored], Vec::new()).await;
        }
        let digest = self.keep(evidence.to_string().as_bytes()).await;
        let received = EventBody::EvidenceReceived { stage, attempt: 1, digest, problem: None, late: false };
        let failed = judgement.verdict == Verdict::Fail;
        let mut events = vec![received, self.judged(self.index, judgement)];
        self.index += 1;
        let last = self.stages.len() - 1;
        match (failed, self.index == last) {
            (true, _) => events.push(EventBody::RunCompleted { result: Some(RunResult::Fail) }),
            (false, false) => events.push(self.starts(self.index)),
            (false, true) => {
                events.extend([self.starts(last), self.judged(last, pass("whole", "files", 1))]);
                events.push(EventBody::RunCompleted { result: Some(RunResult::Pass) });
            }
        }
        self.then(seconds, events, Vec::new()).await;
    }

    /// Stages that have nothing to show, up to this one.
    async fn passes(&mut self, until: &str) {
        while self.index < self.stages.len() - 1 && self.stages[self.index].name != until {
            self.stage(1, json!({}), &[], pass("well", "things", 1)).await;
        }
    }

    async fn is(&mut self, content: &[u8], volume: &str) {
        let seen = ImageSeen {
            digest: Sha256::of(content),
            bytes: content.len() as u64,
            volume: Some(volume.to_owned()),
            whole: true,
        };
        self.then(0, Vec::new(), vec![Write::Image(seen)]).await;
    }
}

/// A machine that says nothing but the hostile text, and never got to where it was to get.
fn watched() -> Value {
    json!({
        "accel": HOSTILE, "stretch": 1.0,
        "outcome": { "how": "failed", "code": "KernelPanic", "line": HOSTILE, "meaning": HOSTILE },
        "rungs": [{ "rung": "kernel", "at_s": 6.0, "line": HOSTILE }],
        "phases": [{
            "name": HOSTILE, "at_s": 2.0, "took_s": 2.0, "limit_s": 60.0, "reacted_ms": 1.0, "line": HOSTILE,
            "channel": HOSTILE, "captures": { HOSTILE: HOSTILE },
        }],
        "noted": [{ "at_s": 3.0, "code": HOSTILE, "line": HOSTILE, "meaning": HOSTILE }],
        "typed": [], "input": 3, "events": [],
        "shots": [{ "at_s": 7.0, "of": HOSTILE, "artifact": "installer-screen-01-failure.png" }],
        "lines": {}, "seconds": 30.0,
        "names": [{ "at_s": 12.0, "by": HOSTILE, "name": HOSTILE, "channel": HOSTILE, "line": HOSTILE }],
    })
}

fn prepared() -> Value {
    json!({
        "bytes": 5 << 20, "sha256": Sha256::of(b"x"), "medium": HOSTILE, "stick_bytes": null, "flash": null,
        "staged": [], "problem": null, "accel": "kvm", "payload_ms": 1,
        "disks": [{ "name": HOSTILE, "bytes": 1 << 20, "content": "0", "holds": HOSTILE }],
    })
}

fn installed() -> Value {
    let volume = json!({
        "number": 1, "label": HOSTILE, "fs": HOSTILE, "fs_label": HOSTILE, "bytes": 9,
        "files": { HOSTILE: { "bytes": 3, "first_line": HOSTILE } },
    });
    let disk = json!({
        "name": HOSTILE, "changed": true, "first_change": 0, "changed_blocks": 1, "written": 4096, "table": HOSTILE,
        "bootable": false, "volumes": [volume], "problem": null,
    });
    json!({
        "watched": watched(), "ended": HOSTILE, "shutdown": HOSTILE, "written": 4096, "disks": [disk],
        "egress": [HOSTILE],
    })
}

fn joined() -> Value {
    json!({
        "ledger": { "requests": [{ "id": 1, "method": HOSTILE, "path": HOSTILE, "status": 500 }] },
        "registrations": [{
            "at": 5.0, "by": HOSTILE, "branch": HOSTILE, "author": HOSTILE, "message": HOSTILE,
            "paths": [[HOSTILE, HOSTILE]], "payload": HOSTILE, "pull_request": true, "schema_problems": [HOSTILE],
            "leaks": [HOSTILE],
        }],
        "joins": [[HOSTILE, 6.0]], "orphans": [HOSTILE], "installed_at": 4.0, "up_at": 5.0,
        "deregistered": { "merged": true, "left": [HOSTILE], "problem": HOSTILE }, "macs": [], "began": "", "ended": "",
    })
}

fn panicked() -> Judgement {
    let finding = Finding::new("KernelPanic", Severity::Critical, HOSTILE, HOSTILE);
    Judgement::from_evidence(vec![], vec![finding], vec![], vec![], HOSTILE)
}

const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\nand so on";

#[tokio::test]
async fn what_a_guest_says_is_text_on_every_page_of_its_image() {
    let site = Site::signed_in().await;
    assert!(site.html("/images").await.contains("No image was tested yet"));
    let mut test = Test::begin(&site.engine, "x").await;
    test.is(b"x", HOSTILE).await;
    test.stage(1, prepared(), &[], pass("read", "files", 1)).await;
    test.passes("Boot").await;
    let booted = json!({ "watched": watched(), "command": HOSTILE });
    test.stage(8, booted, &[], pass("up", "rungs", 1)).await;
    let said = format!("    0.468 {HOSTILE}\nsaid without a time\n");
    let page = format!("{HOSTILE}.png");
    let files: [(&str, &[u8]); 4] = [
        ("installer-serial.txt", said.as_bytes()),
        ("installer-screen-01-failure.png", PICTURE),
        ("installer-screen-02-page.png", b"<script>alert(3)</script>"),
        (&page, PICTURE),
    ];
    test.stage(30, installed(), &files, pass("installed", "phases", 1)).await;
    test.passes("Join").await;
    test.stage(5, joined(), &[], panicked()).await;

    let run = format!("/runs/{}", test.number);
    let transcript = format!("{run}/files/installer-serial.txt");
    for path in [
        "/images",
        "/images/state",
        "/images/x",
        "/runs?kind=image",
        &run,
        &format!("{run}/state"),
        &transcript,
    ] {
        let html = site.html(path).await;
        for markup in ["<script>alert", "<img src=x", "onerror=alert(2)>\""] {
            assert!(!html.contains(markup), "{path}: {html}");
        }
    }
    let html = site.html(&run).await;
    let parts = [
        "/artifacts/installer-screen-01-failure.png",
        "Installation",
        "Registration, as it came over the wire",
        "Disks, before and after",
        "&#60;script&#62;alert",
        "<strong>not seen</strong>",
        "How the machine was started",
    ];
    for part in parts {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!html.contains("Boot script fetched"), "no machine was booted over a network");
    let html = site.html(&transcript).await;
    assert!(html.contains("id=\"L1\" class=\"hit\"") && html.contains("<b>phase &#60;script&#62;"), "{html}");
    assert!(html.contains("0.468</span>") && html.contains("said without a time"), "{html}");

    // A picture is one by its bytes, not by its name.
    let api = format!("/api/v1/runs/{}/artifacts", test.number);
    let header = async |name: &str| {
        let answer = site.get(&format!("{api}/{name}")).await;
        let of = |name| answer.headers()[name].to_str().expect("text").to_owned();
        (of(CONTENT_TYPE), of(CONTENT_DISPOSITION).split(';').next().unwrap_or_default().to_owned())
    };
    let expected = |kind: &str, shown: &str| (kind.to_owned(), shown.to_owned());
    assert_eq!(header("installer-screen-01-failure.png").await, expected("image/png", "inline"));
    let file = expected("text/plain; charset=utf-8", "attachment");
    assert_eq!(header("installer-screen-02-page.png").await, file);
    for path in ["/images/y", "/images/x%2Fy", &format!("{run}/files/no.txt"), &format!("{run}/files/a.png")]
    {
        assert_eq!(site.get(path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    site.stop().await;
}

#[tokio::test]
async fn the_history_of_an_image_says_what_changed_with_it() {
    let site = Site::signed_in().await;
    for (content, seconds) in [(&b"first"[..], 10), (b"first", 10), (b"second", 40)] {
        let mut test = Test::begin(&site.engine, "x").await;
        test.is(content, if content == b"first" { "ONE" } else { "TWO" }).await;
        test.stage(seconds, json!({}), &[], pass("read", "files", 1)).await;
        test.passes("the end").await;
    }
    Test::begin(&site.engine, "other").await;
    let html = site.html("/images").await;
    assert!(html.contains("1 being tested · 1 passed"), "{html}");
    let html = site.html("/images/x").await;
    let parts = [
        "From <a href=\"/runs/2\">run 2</a> to <a href=\"/runs/3\">run 3</a>",
        "volume id: TWO, was ONE",
        "Prepare: slower: 40 s, was 10 s",
        "run 3: passed after 47 s",
    ];
    for part in parts {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert_eq!(html.matches("<strong class=\"small\">new</strong>").count(), 1, "{html}");
    assert_eq!(html.matches("What changed with the image").count(), 1);

    // Page by page, and past the end.
    let page: Value = site.get("/api/v1/images/x?limit=1").await.json().await.expect("JSON");
    assert_eq!((&page["tests"][0]["run"]["number"], &page["next"]), (&json!(3), &json!(3)));
    assert_eq!(page["changes"][0]["from"], 2, "what it is compared with stands on the next page");
    let page: Value = site.get("/api/v1/images/x?before=2").await.json().await.expect("JSON");
    assert_eq!((page["tests"].as_array().map(Vec::len), &page["next"]), (Some(1), &json!(null)));
    assert!(site.html("/images/x?before=2").await.contains("Newest runs"));
    assert_eq!(site.get("/images/x?before=1").await.status(), StatusCode::NOT_FOUND);
    site.stop().await;
}

/// What is installed on a registered machine is a run of that machine: no page says that the machine is an image.
#[tokio::test]
async fn an_installation_on_a_host_stands_with_the_host() {
    let site = Site::signed_in().await;
    let mut host = Story::host(&site.engine, "web-3", 7, "format: 1\ncluster: none\n").await;
    host.power = json!({ "method": "lab", "machine": "web-3" });
    site.engine.store().host_put(&host).await.expect("stored");
    let profile = PROFILE.replace("NAME", "my-image");
    let spec = ImageSpec::of(&json!({
        "image": "/images/my.iso", "profile": Profile::from_toml(&profile).expect("it reads"), "folder": "/", "seed": 7,
    }));
    let request =
        ImageRequest { spec: spec.expect("plain data"), runner: None, muted: Vec::new(), by: "ada".into() };
    let how = OnHost { boot_timeout_s: 600, hold_s: 600, holds: true };
    let run = site.engine.test_image_on(&host, request, how).await.expect("it is queued");
    for page in ["/runs", "/runs?kind=image", &format!("/runs/{}", run.created.number)] {
        let page = site.html(page).await;
        assert!(page.contains("/hosts/web-3") && !page.contains("/images/web-3"), "{page}");
    }
    let images = site.html("/images").await;
    assert!(!images.contains("web-3"), "{images}");
    let page = site.html(&format!("/runs/{}", run.created.number)).await;
    assert!(page.contains("Clearance") && page.contains("Boot script fetched"), "{page}");
}
