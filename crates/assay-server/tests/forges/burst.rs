//! Two hundred comments at once, with repeats, edits and hostile text; the server dies in the middle of it.

use std::collections::BTreeMap;

use assay_model::RunState;
use assay_testkit::forge::Dialect;

use crate::site::{REPO, Site};

/// What begins with the command and is none, or speaks of it and asks for nothing.
const HOSTILE: [&str; 8] = [
    "!testme --stages x`@all`",
    "!testme\u{202e}cancel",
    "> !testme",
    "!testme <img src=x onerror=alert(1)>",
    "!testme\u{0}",
    " !testme cancel",
    "!testme --quick; rm -rf /",
    "@assay-bot !testme",
];

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_comments_give_each_pull_request_one_run_and_one_comment() {
    let mut site = Site::start(Dialect::Forgejo, "").await;
    let mut pulls = BTreeMap::new();
    for n in 0..5 {
        let (pull, head) = site.pull(&format!("work-{n}"), "README.md", &format!("{n}")).await;
        pulls.insert(pull, head);
    }
    let numbers: Vec<u64> = pulls.keys().copied().collect();
    let mut said = Vec::new();
    for round in 0..40 {
        for (place, pull) in numbers.iter().enumerate() {
            let text = match (round + place) % 4 {
                0 => "!testme",
                1 => HOSTILE[(round / 4 + place) % HOSTILE.len()],
                2 => "just talking",
                _ => "!testme\n\nand thank you",
            };
            said.push(site.forge.say(REPO, *pull, if round % 5 == 4 { "mallory" } else { "alice" }, text));
        }
        if round == 20 {
            // All of it so far is heard once this is.
            let (half, _) = site.pull("half", "README.md", "half").await;
            site.say(half, "alice", "!testme");
            site.told(half, "queued").await;
            site.end().await;
            for comment in &said {
                site.forge.edit(REPO, *comment, "!testme cancel");
            }
            site.serve().await;
        }
    }
    assert_eq!(said.len(), 200);
    // What comes after all of it is heard after all of it.
    let (last, _) = site.pull("last", "README.md", "last").await;
    site.say(last, "alice", "!testme");
    site.told(last, "queued").await;
    for (pull, head) in &pulls {
        let told = site.told(*pull, "queued").await;
        assert!(told.contains(head.as_str()), "{told}");
    }
    let runs = site.runs().await;
    let open: Vec<_> = runs.iter().filter(|run| run.state() == RunState::Queued).collect();
    assert_eq!(open.len(), 7, "one each: {:?}", runs.iter().map(|run| run.state()).collect::<Vec<_>>());
}
