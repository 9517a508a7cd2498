//! Images that pull requests ask for: a commit asks once, a word lets it go on, a newer commit closes what has not begun.

use assay_model::Sha256;
use assay_store::{ForgeImage, ForgeImageState as State, NewForgeImage, PullKey, Pushed, Store};

use crate::sample::{at, run_id};

const FORGE: &str = "coop";
const REPO: &str = "infra/images";

fn pull() -> PullKey {
    PullKey { forge: FORGE.into(), repo: REPO.into(), pull: 12 }
}

fn asks(run: u128, image: &str, head: &str, state: State) -> NewForgeImage {
    NewForgeImage {
        run: run_id(run),
        pull: 12,
        image: image.into(),
        head: head.into(),
        author: Some("alice\0".into()),
        said: "a push".into(),
        state,
        standing: format!("{head} stands"),
    }
}

async fn push(store: &Store, head: &str, images: Vec<NewForgeImage>, now: i64) {
    let pushed = Pushed { forge: FORGE.into(), repo: REPO.into(), heads: vec![(12, head.into())], images };
    store.forge_pushed(&pushed, at(now)).await.expect("stored");
}

async fn all(store: &Store) -> Vec<ForgeImage> {
    let mut all = store.forge_images_of(&pull(), 9).await.expect("read");
    all.sort_by_key(|image| image.run);
    all
}

async fn states(store: &Store) -> Vec<&'static str> {
    all(store).await.iter().map(|image| image.state.as_str()).collect()
}

pub(crate) async fn a_commit_asks_once_and_a_newer_one_closes_it(store: Store, _url: String) {
    assert_eq!(store.forge_heads(FORGE, REPO).await.expect("read"), []);
    push(&store, "one", vec![asks(1, "node", "one", State::Open), asks(2, "edge", "one", State::Waits)], 1)
        .await;
    let looked_at = store.forge_heads(FORGE, REPO).await.expect("read");
    assert_eq!(looked_at, [(0, String::new()), (12, "one".into())], "the repository, too");
    assert_eq!(states(&store).await, ["open", "waits"]);
    let due = store.forge_images_due(FORGE, at(1), 9).await.expect("read");
    assert_eq!(due.len(), 1, "what waits for a word is not due");
    assert_eq!(due[0].author.as_deref(), Some("alice\u{fffd}"));

    // The medium is not there yet: the pull request is told so once.
    let told = store.forge_pull(&pull()).await.expect("read").expect("it is told");
    assert_eq!((told.subject, told.due_at), (None, Some(at(1))));
    store.forge_image_later(&due[0], "waits", "no medium", false, (at(5), at(2))).await.expect("stored");
    let told = store.forge_pull(&pull()).await.expect("read").expect("it is told");
    assert_eq!(told.due_at, Some(at(2)));
    let due = store.forge_images_due(FORGE, at(5), 9).await.expect("read");
    store.forge_image_later(&due[0], "waits", "no medium", true, (at(7), at(6))).await.expect("stored");
    assert_eq!(store.forge_pull(&pull()).await.expect("read"), Some(told.clone()), "nothing new to tell");
    assert_eq!(all(&store).await[0].attempts, 1);

    // Somebody who may says the word: both are asked for, one of them was already.
    let word = [asks(3, "node", "one", State::Open), asks(4, "edge", "one", State::Open)];
    store.forge_images_asked(&pull(), "one", &word[1..], at(8)).await.expect("stored");
    assert_eq!(states(&store).await, ["open", "open"], "it goes on, and is no second one");

    // What was decided while it was told is not overlooked.
    store.forge_told(&told, Some(77), Sha256::of(b"text"), None, at(9)).await.expect("stored");
    assert_eq!(store.forge_pull(&pull()).await.expect("read").expect("there").due_at, Some(at(8)));

    let first = all(&store).await.remove(0);
    assert!(store.forge_image_answered(&first, State::Run, "", "run 5", at(10)).await.expect("stored"));
    assert!(!store.forge_image_answered(&first, State::Closed, "", "late", at(11)).await.expect("stored"));
    assert_eq!(store.forge_images_running(FORGE).await.expect("read").len(), 1);
    store.forge_image_status(first.run, Some("pending"), false).await.expect("stored");

    // A newer commit: what runs goes on, what has not begun is closed.
    push(&store, "two", vec![asks(5, "node", "two", State::Open)], 12).await;
    push(&store, "two", vec![asks(5, "node", "two", State::Open)], 13).await;
    assert_eq!(states(&store).await, ["run", "closed", "open"]);
    let newest = &store.forge_images_latest(9).await.expect("read")[0];
    assert_eq!((newest.run, newest.heard_at), (run_id(5), at(12)), "once, and as it was first");
    store.forge_image_status(first.run, None, true).await.expect("stored");
    assert_eq!(states(&store).await, ["settled", "closed", "open"]);
    assert_eq!(all(&store).await[0].status.as_deref(), Some("pending"));
}
