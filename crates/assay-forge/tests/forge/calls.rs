//! Every call, answered as it should be.

use std::sync::Mutex;

use assay_forge::authors::{Authors, Rules, may_ask};
use assay_forge::status::{CommitStatus, StatusState};
use assay_forge::{HookKept, HookWanted, Limits, Login, Membership, PullState, Resume, Secret, Since};
use assay_model::Micros;
use assay_testkit::forge::{Dialect, ForgeDouble, Scope};

use crate::{BASE, BOTH, HEAD, REPO, bot, client, forge, limits, repo};

fn since(at: Micros) -> Since {
    Since { at, page: 1, etag: None }
}

fn login(name: &str) -> Login {
    name.parse().expect("a login")
}

#[tokio::test]
async fn pull_requests_and_their_files_are_read() {
    for dialect in BOTH {
        let forge = forge(dialect).await;
        let client = bot(&forge, dialect);
        assert_eq!(client.who_am_i().await.expect("known"), login(ForgeDouble::BOT));
        let pull = client.pull(&repo(), 1).await.expect("there");
        assert_eq!((pull.head.as_str(), pull.base.as_str(), pull.state), (HEAD, BASE, PullState::Open));
        assert_eq!(
            (pull.author, pull.is_fork, pull.base_ref.as_str()),
            (Some(login("alice")), false, "main")
        );
        let files = client.changed_files(&repo(), 1).await.expect("there");
        assert_eq!(
            (files.paths, files.is_complete),
            (vec!["abra.sh".to_owned(), "compose.yml".into()], true)
        );

        let many: Vec<String> = (0..230).map(|n| format!("f{n:03}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let number = forge.open_pull(REPO, "bob", HEAD, BASE, &many);
        let files = client.changed_files(&repo(), number).await.expect("there");
        assert_eq!((files.paths.len(), files.is_complete), (230, true));
        let endless: Vec<String> = (0..3100).map(|n| format!("f{n:04}")).collect();
        let endless: Vec<&str> = endless.iter().map(String::as_str).collect();
        let number = forge.open_pull(REPO, "bob", HEAD, BASE, &endless);
        assert!(!client.changed_files(&repo(), number).await.expect("there").is_complete);

        forge.push(REPO, 1, &"c".repeat(40));
        assert_eq!(client.pull(&repo(), 1).await.expect("there").head, "c".repeat(40));
        forge.close(REPO, 1, true);
        assert_eq!(client.pull(&repo(), 1).await.expect("there").state, PullState::Merged);
        forge.close(REPO, number, false);
        assert_eq!(client.pull(&repo(), number).await.expect("there").state, PullState::Closed);
    }
}

#[tokio::test]
async fn comments_are_read_since_a_change_and_over_pages() {
    for dialect in BOTH {
        let forge = forge(dialect).await;
        let client = bot(&forge, dialect);
        let start = forge.now();
        let issue = forge.open_issue(REPO);
        let first = forge.say(REPO, 1, "alice", "!testme");
        let on_issue = forge.say(REPO, issue, "alice", "!testme");
        let ghost = forge.say(REPO, 1, "gone", "hello");
        forge.forget_author(REPO, ghost);
        let heard = client.comments(&repo(), &since(start)).await.expect("heard");
        let comments = heard.comments.expect("new");
        let found: Vec<_> = comments.iter().map(|c| (c.id, c.number, c.on_pull)).collect();
        assert_eq!(found, [(first, 1, true), (on_issue, issue, false), (ghost, 1, true)]);
        assert_eq!(comments[0].author, Some(login("alice")));
        assert_eq!((heard.calls, heard.server_time), (1, Some(forge.now())));

        for n in 0..175 {
            forge.clock().advance(Micros::seconds(n % 2));
            forge.say(REPO, 1, "alice", &format!("comment {n}"));
        }
        forge.edit(REPO, first, "!testme --quick");
        let heard = client.comments(&repo(), &since(start)).await.expect("heard");
        let comments = heard.comments.expect("new");
        let ids: std::collections::BTreeSet<u64> = comments.iter().map(|c| c.id).collect();
        assert_eq!(ids.len(), 178, "{dialect:?}");
        assert!((4..=5).contains(&heard.calls), "{}", heard.calls);
        let later =
            client.comments(&repo(), &since(forge.now().plus(Micros::seconds(1)))).await.expect("heard");
        assert_eq!(later.comments.expect("read").len(), 0);

        // All within one second: no page can begin where the one before ended.
        let moment = forge.now().plus(Micros::seconds(5));
        forge.clock().advance(Micros::seconds(5));
        for n in 0..130 {
            forge.say(REPO, 1, "alice", &format!("burst {n}"));
        }
        let heard = client.comments(&repo(), &since(moment)).await.expect("heard");
        assert_eq!(heard.comments.expect("new").len(), 130);
        assert_eq!(client.comments_of(&repo(), 1).await.expect("all").len(), 177 + 130);

        // A few pages a call, and on from there.
        let few = client_with(&forge, dialect, Limits { pages: 2, ..limits() });
        let (mut at, mut found, mut calls) = (since(start), std::collections::BTreeSet::new(), 0);
        loop {
            let heard = few.comments(&repo(), &at).await.expect("heard");
            found.extend(heard.comments.expect("new").iter().map(|c| c.id));
            calls += heard.calls;
            match heard.more {
                Some(Resume::Page(page)) => at.page = page,
                Some(Resume::Since(time)) => at = since(time),
                None => break,
            }
        }
        assert_eq!(found.len(), 308, "{dialect:?}");
        assert!(calls <= 11, "{calls}");
    }
}

fn client_with(forge: &ForgeDouble, dialect: Dialect, limits: Limits) -> Box<dyn assay_forge::Forge> {
    client(forge, dialect, ForgeDouble::TOKEN, limits)
}

#[tokio::test]
async fn a_forge_with_smaller_pages_is_read_whole() {
    let forge = forge(Dialect::Forgejo).await;
    forge.set_page_limit(30);
    let start = forge.now();
    for n in 0..101 {
        forge.say(REPO, 1, "alice", &format!("comment {n}"));
    }
    let heard = bot(&forge, Dialect::Forgejo).comments(&repo(), &since(start)).await.expect("heard");
    let ids: std::collections::BTreeSet<u64> = heard.comments.expect("new").iter().map(|c| c.id).collect();
    assert_eq!(ids.len(), 101);
}

#[tokio::test]
async fn a_comment_that_is_too_large_hides_no_other() {
    let forge = forge(Dialect::Forgejo).await;
    let client = client_with(&forge, Dialect::Forgejo, Limits { answer: 40_000, ..limits() });
    let start = forge.now();
    for n in 0..70 {
        let body = if n == 33 { "x".repeat(60_000) } else { format!("comment {n}") };
        forge.say(REPO, 1, "alice", &body);
    }
    let heard = client.comments(&repo(), &since(start)).await.expect("heard");
    assert_eq!((heard.comments.expect("new").len(), heard.too_large), (69, 1));
    assert!(heard.calls < 25, "{}", heard.calls);
}

#[tokio::test]
async fn what_is_unchanged_costs_nothing_on_github() {
    let forge = forge(Dialect::GitHub).await;
    forge.grant(100);
    let client = bot(&forge, Dialect::GitHub);
    forge.say(REPO, 1, "alice", "hello");
    let mut at = since(forge.now());
    let heard = client.comments(&repo(), &at).await.expect("heard");
    assert!(heard.comments.is_some());
    at.etag = heard.etag;
    for _ in 0..5 {
        let heard = client.comments(&repo(), &at).await.expect("heard");
        assert_eq!((heard.comments, heard.counted), (None, 0));
    }
    let meter = client.meter();
    assert_eq!((meter.asked, meter.counted), (6, 1));
    assert_eq!(meter.rate.map(|rate| (rate.limit, rate.remaining)), Some((100, 99)));
    forge.say(REPO, 1, "alice", "again");
    assert_eq!(client.comments(&repo(), &at).await.expect("heard").comments.expect("new").len(), 2);
}

#[tokio::test]
async fn members_are_known_to_members_and_public_ones_to_all() {
    for dialect in BOTH {
        let forge = forge(dialect).await;
        let coop = "coop".parse().expect("a name");
        let team = "maintainers".parse().expect("a name");
        let client = bot(&forge, dialect);
        for (who, expected) in
            [("alice", Membership::Member), ("hidden", Membership::Member), ("mallo", Membership::NotMember)]
        {
            assert_eq!(client.membership(&coop, &login(who)).await.expect("known"), expected, "{who}");
        }
        assert_eq!(client.team_membership(&coop, &team, &login("alice")).await, Ok(Membership::Member));
        assert_eq!(client.team_membership(&coop, &team, &login("hidden")).await, Ok(Membership::NotMember));

        forge.add_token("outside", "outsider", &[Scope::ReadOrganization]);
        let outside = crate::client(&forge, dialect, "outside", limits());
        for (who, expected) in
            [("alice", Membership::Member), ("hidden", Membership::NotSeen), ("mallo", Membership::NotSeen)]
        {
            assert_eq!(outside.membership(&coop, &login(who)).await.expect("known"), expected, "{who}");
        }
        let asked = forge.asked().len();
        let (authors, rules) =
            (Mutex::new(Authors::default()), Rules { owners_members: true, ..Rules::default() });
        let now = Micros::seconds(0);
        for _ in 0..5 {
            assert!(may_ask(&*client, &authors, &rules, &repo(), &login("alice"), now).await.expect("known"));
            assert!(
                !may_ask(&*client, &authors, &rules, &repo(), &login("mallo"), now).await.expect("known")
            );
        }
        assert_eq!(forge.asked().len() - asked, 2, "asked once each");
    }
}

#[tokio::test]
async fn statuses_are_set() {
    for dialect in BOTH {
        let forge = forge(dialect).await;
        let client = bot(&forge, dialect);
        for state in [StatusState::Pending, StatusState::Error, StatusState::Failure, StatusState::Success] {
            let status = CommitStatus {
                context: "assay/recipe".into(),
                state,
                description: "x".repeat(140),
                url: Some("https://assay.example/runs/1".into()),
            };
            client.set_status(&repo(), HEAD, &status).await.expect("set");
        }
        let set: Vec<String> = forge.statuses(REPO, HEAD).into_iter().map(|status| status.state).collect();
        assert_eq!(set, ["pending", "error", "failure", "success"]);
    }
}

#[tokio::test]
async fn a_webhook_is_registered_once_and_only_when_asked_for() {
    for dialect in BOTH {
        let forge = forge(dialect).await;
        let wanted = HookWanted {
            url: "https://assay.example/hooks/forge".into(),
            secret: Secret::new("0123456789abcdef0123456789abcdef"),
        };
        let refused = bot(&forge, dialect).keep_hook(&repo(), &wanted).await.expect_err("off by default");
        assert!(refused.to_string().contains("register_webhooks = true"), "{refused}");
        assert!(forge.asked().is_empty());
        let client = client_with(&forge, dialect, Limits { register_webhooks: true, ..limits() });
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.push(client.keep_hook(&repo(), &wanted).await.expect("kept"));
        }
        assert_eq!(kept, [HookKept::Made, HookKept::There, HookKept::There]);
        assert_eq!(forge.hooks(REPO).len(), 1);
        let other = HookWanted { url: "https://assay.example/other".into(), ..wanted };
        assert_eq!(client.keep_hook(&repo(), &other).await, Ok(HookKept::Made));
    }
}
