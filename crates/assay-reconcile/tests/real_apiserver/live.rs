//! Waiting for an Argo CD. Its part is played by a script here, on a real API server: what is tested is the waiting.

use std::time::Duration;

use assay_reconcile::{
    Code, Difference, Expectation, LiveApplication, LiveError, Operation, Refresh, Verdict,
};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};

use crate::world::{World, codes, put, resource};

const DEFINITION: &str = include_str!("application-crd.yaml");
const NAME: &str = "cluster-nodes-reconciler";
const MERGED: &str = "8f2c1de0a4b95c7760d1b2a3948576f0e1d2c3b4";
const OLDER: &str = "1111111111111111111111111111111111111111";
const LONG: Duration = Duration::from_mins(1);

fn expectation() -> Expectation {
    Expectation { revision: MERGED.to_owned(), operation: Operation::OfRevision }
}

/// A cluster with an Application whose status is that of an older commit, all green.
async fn cluster() -> (World, LiveApplication) {
    let world = World::with(None).await;
    world.define(DEFINITION).await;
    put(&world.client(), json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}}))
        .await;
    put(&world.client(), json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
        "metadata": {"name": NAME, "namespace": "argocd"}, "spec": {}, "status": status(OLDER, "Healthy", 0),
    }))
    .await;
    let application = LiveApplication::new(world.client(), "argocd", NAME);
    (world, application)
}

fn status(revision: &str, health: &str, minute: u32) -> Value {
    json!({
        "sync": {"status": "Synced", "revision": revision},
        "health": {"status": health},
        "operationState": {"phase": "Succeeded", "startedAt": format!("of {revision}"), "syncResult": {"revision": revision}},
        "reconciledAt": format!("2025-01-01T00:{minute:02}:00Z"),
    })
}

fn applications(client: Client) -> Api<DynamicObject> {
    Api::namespaced_with(client, "argocd", &resource("argoproj.io/v1alpha1", "Application", "applications"))
}

/// Writes a status as Argo CD does, which takes the request for a refresh away with it.
async fn write(client: &Client, status: Value) {
    let patch = json!({"metadata": {"annotations": {"argocd.argoproj.io/refresh": null}}, "status": status});
    applications(client.clone()).patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// Answers each request for a refresh with the next of these statuses.
async fn argo_cd(client: Client, statuses: Vec<Value>) {
    let api = applications(client.clone());
    let mut statuses = statuses.into_iter();
    let mut events = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    while let Some(event) = events.next().await {
        let (WatchEvent::Added(application) | WatchEvent::Modified(application)) = event.unwrap() else {
            continue;
        };
        if application.metadata.annotations.unwrap_or_default().contains_key("argocd.argoproj.io/refresh") {
            let Some(status) = statuses.next() else { return };
            write(&client, status).await;
        }
    }
}

fn equal() -> BoxFuture<'static, Result<(Vec<Difference>, ()), LiveError>> {
    async { Ok((vec![], ())) }.boxed()
}

#[tokio::test]
async fn it_waits_for_the_commit_for_health_and_for_a_second_look() {
    let (world, application) = cluster().await;
    application.refresh(Refresh::Hard).await.unwrap();
    let asked = application.get().await.unwrap().unwrap();
    assert_eq!(asked["metadata"]["annotations"]["argocd.argoproj.io/refresh"], "hard");
    let script = async {
        // The refresh above brings the new commit, still rolling; then it is healthy by itself.
        write(&world.client(), status(MERGED, "Progressing", 1)).await;
        write(&world.client(), status(MERGED, "Healthy", 2)).await;
        argo_cd(world.client(), vec![status(MERGED, "Healthy", 3), status(MERGED, "Healthy", 4)]).await;
        std::future::pending::<()>().await;
    };
    let expectation = expectation();
    let verdict = tokio::select! {
        waited = application.wait(&expectation, LONG, equal) => waited.unwrap().verdict,
        () = script => unreachable!("the script does not end"),
    };
    assert_eq!(verdict, Verdict { ok: true, reasons: vec![] });
}

#[tokio::test]
async fn what_never_comes_right_is_said_when_the_time_is_up() {
    let (world, application) = cluster().await;
    let short = Duration::from_secs(2);
    let verdict = application.wait(&expectation(), short, equal).await.unwrap().verdict;
    assert_eq!(codes(&verdict), [Code::RevisionWrong]);

    // Right, but nobody answers the request for a second look.
    write(&world.client(), status(MERGED, "Healthy", 1)).await;
    let verdict = application.wait(&expectation(), short, equal).await.unwrap().verdict;
    assert_eq!(codes(&verdict), [Code::NotStable]);
    let asked = application.get().await.unwrap().unwrap();
    assert_eq!(asked["metadata"]["annotations"]["argocd.argoproj.io/refresh"], "normal");

    // Deleted while it is waited for.
    applications(world.client()).delete(NAME, &kube::api::DeleteParams::default()).await.unwrap();
    let verdict = application.wait(&expectation(), short, equal).await.unwrap().verdict;
    assert_eq!(codes(&verdict), [Code::ObjectMissing]);
    assert_eq!(application.get().await.unwrap(), None);
    assert!(application.refresh(Refresh::Normal).await.is_err());
}

#[tokio::test]
async fn a_loop_of_syncs_never_comes_right() {
    let (world, application) = cluster().await;
    let looping = |minute| {
        let mut status = status(MERGED, "Healthy", minute);
        status["operationState"]["startedAt"] = json!(format!("minute {minute}"));
        status
    };
    write(&world.client(), looping(1)).await;
    let script = async {
        argo_cd(world.client(), (2..6).map(looping).collect()).await;
        std::future::pending::<()>().await;
    };
    let expectation = expectation();
    let verdict = tokio::select! {
        waited = application.wait(&expectation, Duration::from_secs(4), equal) => waited.unwrap().verdict,
        () = script => unreachable!("the script does not end"),
    };
    assert_eq!(codes(&verdict), [Code::NotStable]);
}

#[tokio::test]
async fn without_argo_cd_it_is_an_error_and_not_a_verdict() {
    let world = World::with(None).await;
    let application = LiveApplication::new(world.client(), "argocd", NAME);
    let error = application.wait(&expectation(), LONG, equal).await.unwrap_err().to_string();
    assert!(error.contains("check the kubeconfig, its rights and that Argo CD is installed"), "{error}");
}

#[tokio::test]
async fn it_takes_an_event_and_no_polling() {
    let (world, application) = cluster().await;
    let looked = std::cell::Cell::new(0);
    let differences = || {
        looked.set(looked.get() + 1);
        equal()
    };
    let verdict =
        application.wait(&expectation(), Duration::from_secs(3), differences).await.unwrap().verdict;
    assert!(!verdict.ok);
    assert_eq!(looked.get(), 1, "nothing changed, so there was nothing to look at again");
    drop(world);
}
