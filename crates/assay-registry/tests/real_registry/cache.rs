//! What comes from upstream, what does not, and whose trouble it is.

use assay_registry::{BringFailure, Fetched, Freshness};

use crate::world::{LAYER, Upstream, bring};

#[tokio::test]
async fn what_was_fetched_once_is_not_fetched_again() {
    let upstream = Upstream::start().await;
    upstream.push("shop/web:1", "first").await;
    let folder = tempfile::tempdir().unwrap();

    let session = upstream.cache(folder.path()).open().await.unwrap();
    let first = bring(&session, "docker.io/shop/web:1").await.unwrap();
    assert!(first.fetched.blob_bytes >= LAYER as u64 && first.fetched.blobs == 2, "{first:?}");
    assert!(first.fetched.manifest_bytes > 0 && first.freshness == Freshness::Asked, "{first:?}");
    assert_eq!(session.fetched(), first.fetched);
    session.close().await;

    // As another command would, another day.
    let session = upstream.cache(folder.path()).open().await.unwrap();
    let again = bring(&session, "docker.io/shop/web:1").await.unwrap();
    assert_eq!(again.digest, first.digest);
    // Whether the tag still means it is the one question.
    assert_eq!(again.fetched, Fetched { requests: 1, ..Fetched::default() });
    let fixed = bring(&session, &again.repository_digest()).await.unwrap();
    assert_eq!((fixed.fetched, fixed.freshness), (Fetched::default(), Freshness::Fixed));
    session.close().await;
}

#[tokio::test]
async fn a_tag_that_was_moved_upstream_has_another_digest() {
    let upstream = Upstream::start().await;
    upstream.push("shop/web:1", "before").await;
    let folder = tempfile::tempdir().unwrap();
    let session = upstream.cache(folder.path()).open().await.unwrap();
    let before = bring(&session, "docker.io/shop/web:1").await.unwrap();
    upstream.push("shop/web:1", "after").await;
    let after = bring(&session, "docker.io/shop/web:1").await.unwrap();
    assert_ne!(before.digest, after.digest);
    // What it meant before is still there under its digest.
    let old = bring(&session, &before.repository_digest()).await.unwrap();
    assert_eq!((old.digest, old.fetched), (before.digest, Fetched::default()));
    session.close().await;
}

#[tokio::test]
async fn an_upstream_that_is_gone_stops_nobody_who_was_there_before() {
    let mut upstream = Upstream::start().await;
    upstream.push("shop/web:1", "kept").await;
    let folder = tempfile::tempdir().unwrap();
    let session = upstream.cache(folder.path()).open().await.unwrap();
    let before = bring(&session, "docker.io/shop/web:1").await.unwrap();
    upstream.go_away().await;

    let kept = bring(&session, "docker.io/shop/web:1").await.unwrap();
    assert_eq!(kept.digest, before.digest);
    let Freshness::NotAsked { why } = &kept.freshness else { panic!("{kept:?}") };
    assert!(why.contains("could not be reached"), "{why}");
    let other = bring(&session, "docker.io/shop/other:1").await.unwrap_err();
    assert_eq!(other.class, BringFailure::Unreachable, "{other}");
    assert!(!other.class.is_of_who_named_it());

    upstream.come_back().await;
    let other = bring(&session, "docker.io/shop/other:1").await.unwrap_err();
    assert_eq!(other.class, BringFailure::NotFound, "{other}");
    assert!(
        other.to_string().starts_with("`docker.io/shop/other:1`: docker.io has no such image"),
        "{other}"
    );
    session.close().await;
}

#[tokio::test]
async fn a_registry_on_this_machine_is_asked_only_by_who_was_told_of_it() {
    let upstream = Upstream::start().await;
    upstream.push("shop/web:1", "inside").await;
    let folder = tempfile::tempdir().unwrap();
    let session = upstream.cache(folder.path()).open().await.unwrap();
    let name = format!("127.0.0.1:{}/shop/web:1", upstream.port);
    let error = bring(&session, &name).await.unwrap_err();
    assert_eq!(error.class, BringFailure::Denied);
    assert!(error.message.contains("only where the runner was told of it"), "{error}");
    assert_eq!(session.fetched(), Fetched::default());
    session.close().await;
}

#[tokio::test]
async fn pruning_lets_go_of_what_was_not_used_for_longest() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let cache = upstream.cache(folder.path());
    let session = cache.open().await.unwrap();
    for name in ["old", "new"] {
        upstream.push(&format!("shop/{name}:1"), name).await;
        bring(&session, &format!("docker.io/shop/{name}:1")).await.unwrap();
    }
    session.close().await;
    let both = cache.bytes();
    assert!(both >= 2 * LAYER as u64, "{both}");

    let gone = cache.prune(both - 1).await.unwrap();
    assert!(gone.iter().any(|name| name == "docker.io/shop/old:1"), "{gone:?}");
    assert!(gone.iter().all(|name| name.contains("/old")), "{gone:?}");
    assert!(cache.bytes() < both - LAYER as u64 / 2, "{} of {both}", cache.bytes());

    let session = cache.open().await.unwrap();
    let new = bring(&session, "docker.io/shop/new:1").await.unwrap();
    assert_eq!(new.fetched.blob_bytes, 0);
    // What went is fetched as if it had never been there.
    let old = bring(&session, "docker.io/shop/old:1").await.unwrap();
    assert!(old.fetched.blob_bytes >= LAYER as u64);
    session.close().await;
}
