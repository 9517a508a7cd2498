//! The double's deliveries, as they come over the wire, through our reading, into the memory that polling shares.

use std::collections::BTreeSet;

use assay_forge::hook::{self, Deliveries, Headers, HookError, Told};
use assay_forge::poll::{Action, Budget, PollState};
use assay_forge::{ForgeKind, HookWanted, Limits, Novelty, Secret};
use assay_model::Micros;
use assay_testkit::forge::{Delivery, Dialect, ForgeDouble};

use crate::{BOTH, REPO, client, forge, limits, repo};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn kind(dialect: Dialect) -> ForgeKind {
    match dialect {
        Dialect::Forgejo => ForgeKind::Forgejo,
        Dialect::GitHub => ForgeKind::GitHub,
    }
}

fn headers(dialect: Dialect, delivery: &Delivery) -> Headers {
    Headers::pick(kind(dialect), |name| delivery.header(name).map(str::as_bytes))
}

#[tokio::test]
async fn a_comment_that_a_webhook_brought_is_not_taken_again_by_polling() {
    for dialect in BOTH {
        let forge = forge(dialect).await;
        let client =
            client(&forge, dialect, ForgeDouble::TOKEN, Limits { register_webhooks: true, ..limits() });
        let wanted = HookWanted { url: "https://assay.example/hook".into(), secret: Secret::new(SECRET) };
        client.keep_hook(&repo(), &wanted).await.expect("registered");
        let mut state = PollState::new(Budget::usual(kind(dialect)));
        state.watch(&BTreeSet::from([repo()]), forge.now());
        let mut now = forge.now();
        poll(&mut state, &*client, &mut now).await;

        forge.clock().advance(Micros::seconds(5));
        let id = forge.say(REPO, 1, "alice", "!testme");
        forge.push(REPO, 1, &"c".repeat(40));
        let [said, pushed] = forge.waiting_deliveries().try_into().expect("two deliveries");
        let told = hook::read(&headers(dialect, &said), &said.body, &wanted.secret).expect("signed");
        let Told::Comment { repo: name, comment } = told else { panic!("{told:?}") };
        assert_eq!((comment.id, comment.number, comment.on_pull), (id, 1, true));
        assert!(hook::is_timely(&comment, forge.now()));
        assert_eq!(state.hooked(&name, &comment, now), Some(Novelty::Fresh));
        let told = hook::read(&headers(dialect, &pushed), &pushed.body, &wanted.secret);
        assert_eq!(told, Ok(Told::Pull { repo: repo(), number: 1 }));

        // The same delivery again, with another number: the header is not signed.
        assert_eq!(state.hooked(&name, &comment, now), Some(Novelty::Again));
        let mut deliveries = Deliveries::default();
        let number = headers(dialect, &said).delivery().expect("a number").to_owned();
        assert!(!deliveries.meet(&number, now) && deliveries.meet(&number, now));

        let fresh = poll(&mut state, &*client, &mut now).await;
        assert!(fresh.is_empty(), "{dialect:?}: polling heard it, too: {fresh:?}");
        let other = Secret::new("another secret of some length");
        assert_eq!(hook::read(&headers(dialect, &said), &said.body, &other), Err(HookError::WrongSignature));

        // And the other way round: polling first, the delivery late.
        forge.clock().advance(Micros::seconds(60));
        forge.say(REPO, 1, "alice", "!testme --quick");
        let late = forge.waiting_deliveries().pop().expect("a delivery");
        assert_eq!(poll(&mut state, &*client, &mut now).await, ["!testme --quick"]);
        let Ok(Told::Comment { comment, .. }) =
            hook::read(&headers(dialect, &late), &late.body, &wanted.secret)
        else {
            panic!("a comment")
        };
        assert_eq!(state.hooked(&repo(), &comment, now), Some(Novelty::Again));
        forge.edit(REPO, id, "!testme --extra");
        let edit = forge.waiting_deliveries().pop().expect("a delivery");
        let Ok(Told::Comment { comment, .. }) =
            hook::read(&headers(dialect, &edit), &edit.body, &wanted.secret)
        else {
            panic!("a comment")
        };
        assert_eq!(state.hooked(&repo(), &comment, now), Some(Novelty::Edited));
    }
}

/// Asks once, whenever it is due; the texts of what is fresh.
async fn poll(state: &mut PollState, client: &dyn assay_forge::Forge, now: &mut Micros) -> Vec<String> {
    let (name, since) = loop {
        match state.next(*now, &BTreeSet::new()) {
            Action::Ask { repo, since } => break (repo, since),
            Action::Wait { until } => *now = until,
            Action::Nothing => panic!("nobody to ask"),
        }
    };
    let heard = client.comments(&name, &since).await.expect("heard");
    let news = state.heard(&name, &since, heard, client.meter().rate, *now);
    news.fresh.into_iter().map(|comment| comment.body).collect()
}
