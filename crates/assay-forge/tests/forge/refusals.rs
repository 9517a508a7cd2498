//! What goes wrong, what it is called, and that a lost answer makes no second comment.

use std::time::Duration;

use assay_forge::put::{self, Put};
use assay_forge::status::{CommitStatus, Permission, StatusState};
use assay_forge::{Advice, Doing, ForgeError, Limits, Login, Name, Since};
use assay_model::Micros;
use assay_testkit::forge::{Dialect, Fault, ForgeDouble, Match, Scope};

use crate::{BOTH, HEAD, REPO, bot, client, forge, limits, repo};

fn status() -> CommitStatus {
    CommitStatus {
        context: "assay".into(),
        state: StatusState::Success,
        description: "pass".into(),
        url: None,
    }
}

#[tokio::test]
async fn each_refusal_has_its_name_and_says_what_to_do() {
    let forge = forge(Dialect::Forgejo).await;
    forge.add_token("reader-token-1234567890", "reader", &[Scope::ReadIssue, Scope::ReadRepository]);
    let reader = client(&forge, Dialect::Forgejo, "reader-token-1234567890", limits());
    let stranger = client(&forge, Dialect::Forgejo, "nobodys-token-1234567890", limits());
    let whole = bot(&forge, Dialect::Forgejo);
    let answer = |status| {
        let body = r#"{"message":"told\u001b[2J to by reader-token-1234567890"}"#.to_owned();
        Fault::Answer { status, headers: vec![], body }
    };
    let mut said = vec![
        stranger.pull(&repo(), 1).await.expect_err("401"),
        reader.create_comment(&repo(), 1, "x").await.expect_err("403"),
        reader
            .membership(&"coop".parse::<Name>().expect("a name"), &"alice".parse().expect("a login"))
            .await
            .expect_err("403"),
        whole.pull(&repo(), 99).await.expect_err("404"),
        whole
            .comments(&"coop/none".parse().expect("a name"), &Since { at: Micros(0), page: 1, etag: None })
            .await
            .expect_err("404"),
    ];
    for code in [301, 409, 422, 500, 503] {
        forge.inject(Match::of("GET", "/pulls/1"), answer(code), 1);
        said.push(reader.pull(&repo(), 1).await.expect_err("told to"));
    }
    forge.inject(Match::any(), Fault::too_many(77), 1);
    said.push(reader.pull(&repo(), 1).await.expect_err("429"));
    forge.inject(
        Match::any(),
        Fault::Answer { status: 200, headers: vec![], body: "<html>sign in</html>".into() },
        1,
    );
    said.push(reader.pull(&repo(), 1).await.expect_err("no JSON"));
    forge.inject(Match::any(), Fault::Cut, 1);
    said.push(reader.create_comment(&repo(), 1, "x").await.expect_err("cut"));
    let lines: Vec<String> = said.iter().map(|error| format!("{error} [{:?}]", error.advice())).collect();
    let all = lines.join("\n");
    assert!(!all.contains("reader-token") && !all.contains('\u{1b}'), "{all}");
    assert!(!format!("{reader:?} {said:?}").contains("reader-token"));
    insta::assert_snapshot!(all, @"
    127.0.0.1 does not accept our token (it was asked to show the pull request): Bad credentials; make a new token and put it into the settings [Never]
    127.0.0.1 refuses to take a comment of coop/plausible#1: token does not have at least one of required scope(s): WriteIssue; the token needs write:issue [Never]
    127.0.0.1 refuses to say who belongs to the organisation of coop: token does not have at least one of required scope(s): ReadOrganization; the token needs read:organization [Never]
    127.0.0.1 was asked to show the pull request of coop/plausible#99 and finds nothing: Not Found; check the name, and that the token's owner can see it [Never]
    127.0.0.1 was asked to list the comments of coop/none and finds nothing: Not Found; check the name, and that the token's owner can see it [Never]
    coop/plausible#1 is somewhere else at 127.0.0.1 now; put its new name into the settings (redirects are not followed) [Never]
    127.0.0.1 cannot show the pull request of coop/plausible#1 just now, since something else is at it: told�[2J to by …; it is tried again [Later { after: None }]
    127.0.0.1 does not want to show the pull request of coop/plausible#1 (422: told�[2J to by …); this is ours to mend, please report it [Never]
    127.0.0.1 was asked to show the pull request and is in trouble itself (500: told�[2J to by …); it is tried again [Later { after: None }]
    127.0.0.1 was asked to show the pull request and is in trouble itself (503: told�[2J to by …); it is tried again [Later { after: None }]
    127.0.0.1 wants to be left alone for 77 s; nothing needs to be done, or raise the limit of the token [Later { after: Some(77s) }]
    127.0.0.1 was asked to show the pull request and answered something else: expected value at line 1 column 1; check that the address in the settings is a forge's API, and nothing in between answers for it [Never]
    127.0.0.1 was asked to take a comment, and the connection broke: connection closed before message completed; it is looked after, then tried again [Look]
    ");
}

#[tokio::test]
async fn github_hides_a_limit_behind_a_403() {
    let forge = forge(Dialect::GitHub).await;
    forge.grant(1);
    let client = bot(&forge, Dialect::GitHub);
    client.pull(&repo(), 1).await.expect("the one that is granted");
    let spent = client.pull(&repo(), 1).await.expect_err("spent");
    let ForgeError::RateLimited { after, .. } = spent else { panic!("{spent}") };
    assert_eq!(after, Duration::from_hours(1));
    forge.clock().advance(Micros::seconds(3600));
    client.pull(&repo(), 1).await.expect("granted anew");
    let headers = vec![("retry-after".to_owned(), "60".to_owned())];
    let body = r#"{"message":"You have exceeded a secondary rate limit"}"#.to_owned();
    forge.inject(Match::any(), Fault::Answer { status: 403, headers, body }, 1);
    forge.clock().advance(Micros::seconds(3600));
    let secondary = client.pull(&repo(), 1).await.expect_err("too fast");
    assert_eq!(secondary.advice(), Advice::Later { after: Some(Duration::from_mins(1)) });
}

#[tokio::test]
async fn a_wrong_clock_does_not_change_for_how_long_to_be_quiet() {
    for dialect in BOTH {
        for skew in [0, -86_400, 86_400] {
            let forge = forge(dialect).await;
            forge.set_skew(Micros::seconds(skew));
            forge.grant(0);
            let spent = bot(&forge, dialect).pull(&repo(), 1).await.expect_err("nothing is granted");
            assert_eq!(
                spent.advice(),
                Advice::Later { after: Some(Duration::from_hours(1)) },
                "{dialect:?} {skew}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_no_success() {
    let forge = forge(Dialect::Forgejo).await;
    let client = bot(&forge, Dialect::Forgejo);
    let id = forge.say(REPO, 1, ForgeDouble::BOT, "ours");
    let page = || Fault::Answer { status: 200, headers: vec![], body: "<html>sign in</html>".into() };
    let elsewhere = || Fault::Answer {
        status: 302,
        headers: vec![("location".into(), "https://elsewhere.example/login".into())],
        body: String::new(),
    };
    forge.inject(Match::of("PATCH", "/comments/"), page(), 1);
    let edit = client.edit_comment(&repo(), id, "new").await.expect_err("a page");
    assert!(matches!(edit, ForgeError::Unexpected { .. }), "{edit}");
    forge.inject(Match::of("PATCH", "/comments/"), elsewhere(), 1);
    let edit = client.edit_comment(&repo(), id, "new").await.expect_err("a way");
    assert!(matches!(edit, ForgeError::Moved { .. }), "{edit}");
    forge.inject(Match::of("POST", "/statuses/"), page(), 1);
    let set = client.set_status(&repo(), HEAD, &status()).await.expect_err("a page");
    assert!(matches!(set, ForgeError::Unexpected { .. }), "{set}");
    assert_eq!(forge.comments(REPO, 1)[0].body, "ours");
    client.edit_comment(&repo(), id, "new").await.expect("edited");
    assert_eq!(forge.comments(REPO, 1)[0].body, "new");
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_told_apart() {
    let forge = forge(Dialect::Forgejo).await;
    let hurried = client(
        &forge,
        Dialect::Forgejo,
        ForgeDouble::TOKEN,
        Limits { timeout: Duration::from_millis(300), ..limits() },
    );
    forge.inject(Match::any(), Fault::Hang, 1);
    let slow = hurried.pull(&repo(), 1).await.expect_err("no answer");
    assert!(matches!(slow, ForgeError::Slow { doing: Doing::ReadPull, .. }), "{slow}");
    assert_eq!(slow.advice(), Advice::Later { after: None }, "reading again does no harm");
    let gone = assay_forge::Forgejo::new("http://127.0.0.1:1", assay_forge::Secret::new("x"), limits())
        .expect("settings");
    let gone = assay_forge::Forge::pull(&gone, &repo(), 1).await.expect_err("nobody");
    assert!(matches!(gone, ForgeError::Unreachable { .. }), "{gone}");
    for bad in ["forge.example", "ftp://forge.example", "https://user:pw@forge.example"] {
        assert!(assay_forge::Forgejo::new(bad, assay_forge::Secret::new("x"), limits()).is_err(), "{bad}");
    }
    assert!(assay_forge::Forgejo::new(&forge.url(), assay_forge::Secret::new("a\nb"), limits()).is_err());
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_comment() {
    let marker = assay_forge::comment::marker("main", 1);
    let body = |text: &str| format!("{marker}\n{text}");
    let us: Login = ForgeDouble::BOT.parse().expect("a login");
    for dialect in BOTH {
        for (fault, expected) in [
            (Fault::CutAfter, Put::Found(0)),
            (Fault::HangAfter, Put::Found(0)),
            (Fault::Cut, Put::Made(0)),
            (Fault::Hang, Put::Made(0)),
            (Fault::status(504), Put::Made(0)),
        ] {
            let forge = forge(dialect).await;
            forge.say(REPO, 1, "mallo", &body("not ours"));
            let short = Limits { timeout: Duration::from_millis(500), ..limits() };
            let client = client(&forge, dialect, ForgeDouble::TOKEN, short);
            forge.inject(Match::of("POST", "/comments"), fault.clone(), 1);
            let put =
                put::comment(&*client, &us, &repo(), 1, None, &marker, &body("queued")).await.expect("put");
            assert_eq!(
                std::mem::discriminant(&put),
                std::mem::discriminant(&expected),
                "{dialect:?} {fault:?}"
            );
            let again =
                put::comment(&*client, &us, &repo(), 1, Some(put.id()), &marker, &body("running")).await;
            assert_eq!(again, Ok(Put::Edited(put.id())));
            // And with nothing remembered, as after a restart before it was written down.
            let found = put::comment(&*client, &us, &repo(), 1, None, &marker, &body("done")).await;
            assert_eq!(found, Ok(Put::Found(put.id())));
            let said: Vec<_> = forge.comments(REPO, 1).into_iter().map(|told| told.body).collect();
            assert_eq!(said, [body("not ours"), body("done")], "{dialect:?} {fault:?}");
            forge.delete(REPO, put.id());
            let anew = put::comment(&*client, &us, &repo(), 1, Some(put.id()), &marker, &body("anew")).await;
            assert!(matches!(anew, Ok(Put::Made(_))), "{anew:?}");
        }
    }
}

#[tokio::test]
async fn a_token_that_may_not_set_statuses_is_found_out_once() {
    let forge = forge(Dialect::Forgejo).await;
    forge.remove_writer(REPO, ForgeDouble::BOT);
    let client = bot(&forge, Dialect::Forgejo);
    let mut permission = Permission::default();
    let now = Micros::seconds(0);
    for _ in 0..4 {
        if permission.may_try(&repo(), now) {
            let outcome = client.set_status(&repo(), HEAD, &status()).await;
            permission.tried(&repo(), &outcome, now);
        }
    }
    assert_eq!(forge.count("POST", "/repos/coop/plausible/statuses"), 1);
    assert!(permission.note(&repo()).is_some());
    client.create_comment(&repo(), 1, "comments are taken all the same").await.expect("made");
}
