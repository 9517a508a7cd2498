//! The real `git` as a client.

use std::os::unix::fs::PermissionsExt as _;

use assay_standin::{Commit, Effect, Fault, Outcome, PullState, Push, PushKind, PushPolicy, RouteClass, Who};

use crate::bench::{Http, Machine, PATIENCE, TOKEN, config, stand_in, start, text_of};

const NODE: &str = "maintainers/ada/cluster-nodes/node-1a2b3c/node.yaml";
const BRANCH: &str = "register-node-1a2b3c-20270219T080000Z";

fn shown(commit: &Commit) -> String {
    let mut lines = vec![format!(
        "{} <{}> {} {}",
        commit.author.name, commit.author.email, commit.author.at.0, commit.author.offset
    )];
    lines.push(format!("by {} <{}>", commit.committer.name, commit.committer.email));
    lines.push(commit.message.trim_end().to_owned());
    for file in &commit.files {
        lines.push(format!("{} {} {:?} {}", file.status, file.mode, file.size, file.path));
    }
    lines.join("\n")
}

fn refused(push: &Push) -> &str {
    match &push.outcome {
        Outcome::Refused(reason) => reason,
        Outcome::Applied => "it was applied",
    }
}

#[tokio::test]
async fn a_machine_registers_itself_with_a_commit_and_the_commit_is_seen_whole() {
    let standin = stand_in().await;
    let machine = Machine::cloned(&standin).await;
    machine.git(&["checkout", "--quiet", "-b", BRANCH]).await;
    machine.write(NODE, "kind: ClusterNode\n");
    machine.git(&["add", NODE]).await;
    let message = "feat(node-register): node-1a2b3c self-registers via iter-5.4.1";
    machine.git(&["commit", "--quiet", "--message", message]).await;
    machine.git(&["push", "--set-upstream", "origin", BRANCH]).await;

    let push = standin
        .wait_for(PATIENCE, |ledger| ledger.pushes.first().cloned())
        .await
        .expect("the push is in the ledger");
    assert_eq!(push.reference, format!("refs/heads/{BRANCH}"));
    assert_eq!((push.kind, &push.outcome), (PushKind::Create, &Outcome::Applied));
    assert_eq!(push.by, Who::Token("installer".into()));
    assert_eq!((push.old.as_str(), push.new.clone()), ("0".repeat(40).as_str(), machine.head().await));
    assert_eq!(push.commits.len(), 1, "the clone's own history is not part of the push");
    insta::assert_snapshot!(shown(&push.commits[0]), @"
    Ada <ada@forge.invalid> 1803000001000000 +0100
    by node-1a2b3c <root@node-1a2b3c>
    feat(node-register): node-1a2b3c self-registers via iter-5.4.1
    A 100644 Some(18) maintainers/ada/cluster-nodes/node-1a2b3c/node.yaml
    ");
    let content = standin.read(&push.new, NODE).await.expect("read");
    assert_eq!(content.as_deref(), Some(&b"kind: ClusterNode\n"[..]));
    assert_eq!(standin.read(BRANCH, "no/such/file").await.expect("read"), None);
    assert_eq!(standin.read(BRANCH, "maintainers").await.expect("read"), None, "a folder is no file");

    let ledger = standin.ledger();
    let pushed = ledger.requests.iter().find(|request| request.id == push.request).expect("its request");
    assert_eq!((pushed.route, pushed.status), (RouteClass::GitPush, Some(200)));
    assert!(pushed.bytes_in > 0 && pushed.duration.0 > 0);
    assert!(pushed.user_agent.as_deref().is_some_and(|agent| agent.starts_with("git/")), "{pushed:?}");
    assert!(!text_of(&ledger).contains(TOKEN), "tokens are never recorded");
}

#[tokio::test]
async fn a_wrong_token_gets_nowhere_and_is_not_kept() {
    let standin = stand_in().await;
    let machine = Machine::cloned(&standin).await;
    let wrong = Machine::address(&standin, "some-other-secret");
    let said = Machine::new().try_git(&["clone", &wrong]).await;
    assert!(!said.ok && said.text.contains("Authentication failed"), "{}", said.text);
    machine.git(&["remote", "set-url", "origin", &wrong]).await;
    let said = machine.push_new("register-x", NODE, "x").await;
    assert!(!said.ok && said.text.contains("Authentication failed"), "{}", said.text);

    let ledger = standin.stop().await;
    assert_eq!(ledger.pushes, []);
    assert!(ledger.requests.iter().any(|it| it.who == Who::NotAccepted && it.status == Some(401)));
    assert!(!text_of(&ledger).contains("some-other-secret"));
}

#[tokio::test]
async fn what_a_forge_refuses_is_refused_with_its_reason() {
    let standin = stand_in().await;
    let machine = Machine::cloned(&standin).await;
    let main = standin.tree().await.expect("a tree");

    let said = machine.push_new("main", NODE, "straight to main").await;
    assert!(!said.ok && said.text.contains("GH006: Protected branch update failed"), "{}", said.text);
    let said = machine.try_git(&["push", "origin", "HEAD:refs/pull/1/head"]).await;
    assert!(!said.ok && said.text.contains("only branches and tags can be pushed"), "{}", said.text);
    let said = machine.try_git(&["push", "origin", "--delete", "main"]).await;
    assert!(!said.ok, "{}", said.text);

    assert!(machine.push_new(BRANCH, NODE, "first").await.ok);
    let first = machine.head().await;
    machine.git(&["commit", "--quiet", "--amend", "--message", "another history"]).await;
    let said = machine.try_git(&["push", "--force", "origin", BRANCH]).await;
    assert!(!said.ok && said.text.contains("non-fast-forward"), "{}", said.text);

    let ledger = standin.ledger();
    let outcomes: Vec<String> = ledger
        .pushes
        .iter()
        .map(|push| format!("{:?} {} {}", push.kind, push.reference, refused(push)))
        .collect();
    insta::assert_snapshot!(outcomes.join("\n"), @"
    Update refs/heads/main hook declined
    Create refs/pull/1/head hook declined
    Delete refs/heads/main deletion of the current branch prohibited
    Create refs/heads/register-node-1a2b3c-20270219T080000Z it was applied
    Update refs/heads/register-node-1a2b3c-20270219T080000Z non-fast-forward
    ");
    assert!(ledger.pushes.iter().all(|push| push.outcome == Outcome::Applied || push.commits.is_empty()));
    assert_eq!(standin.tree().await.expect("a tree"), main, "the default branch is as it was");
    let commit = standin.orphans().await.expect("orphans")[0].commit.clone();
    assert_eq!(commit, first, "the branch is where the first push left it");
}

#[tokio::test]
async fn an_empty_commit_is_a_commit_that_changes_nothing() {
    let standin = stand_in().await;
    let machine = Machine::cloned(&standin).await;
    machine.git(&["checkout", "--quiet", "-b", BRANCH]).await;
    machine.git(&["commit", "--quiet", "--allow-empty", "--message", "nothing to see"]).await;
    machine.git(&["push", "origin", BRANCH]).await;
    machine.git(&["push", "origin", "HEAD~1:refs/heads/nothing-new"]).await;

    let ledger = standin.ledger();
    assert_eq!(ledger.pushes[0].commits.len(), 1);
    assert_eq!(ledger.pushes[0].commits[0].files, []);
    assert_eq!(ledger.pushes[1].outcome, Outcome::Applied);
    assert_eq!(ledger.pushes[1].commits, [], "that branch brought no commit of its own");
}

#[tokio::test]
async fn a_branch_that_is_deleted_takes_its_pull_request_with_it() {
    let standin = stand_in().await;
    let machine = Machine::cloned(&standin).await;
    assert!(machine.push_new(BRANCH, NODE, "x").await.ok);
    let pull = format!(r#"{{"title": "t", "head": "{BRANCH}", "base": "main"}}"#);
    let opened = Http::of(&standin).send("POST /repos/fleet/cluster/pulls", pull).await;
    assert_eq!(opened.status, 201);
    machine.git(&["push", "origin", "--delete", BRANCH]).await;

    let ledger = standin.ledger();
    let last = ledger.pushes.last().expect("a push");
    assert_eq!((last.kind, &last.outcome), (PushKind::Delete, &Outcome::Applied));
    assert!(matches!(ledger.pulls[0].state, PullState::Closed { .. }));
    assert_eq!(standin.orphans().await.expect("orphans"), []);
}

#[tokio::test]
async fn pushes_at_the_same_time_are_told_apart() {
    let standin = stand_in().await;
    let machines = futures_of(4, async |_| Machine::cloned(&standin).await).await;
    futures_of(4, async |at| {
        let branch = format!("register-node-{at}");
        let path = format!("maintainers/ada/cluster-nodes/node-{at}/node.yaml");
        let said = machines[at].push_new(&branch, &path, &format!("name: node-{at}\n")).await;
        assert!(said.ok, "{}", said.text);
    })
    .await;
    let mut ledger = standin.ledger();
    ledger.pushes.sort_by(|a, b| a.reference.cmp(&b.reference));
    assert_eq!(ledger.pushes.len(), 4);
    for (at, push) in ledger.pushes.iter().enumerate() {
        assert_eq!(push.outcome, Outcome::Applied);
        assert_eq!(push.commits.len(), 1, "each with its own commit alone");
        let paths: Vec<&str> = push.commits[0].files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [format!("maintainers/ada/cluster-nodes/node-{at}/node.yaml")]);
    }
}

#[tokio::test]
async fn a_commit_that_several_branches_bring_at_once_is_new_once() {
    let standin = stand_in().await;
    let machine = Machine::cloned(&standin).await;
    for at in 0..5 {
        machine.git(&["checkout", "--quiet", "-b", &format!("stacked-{at}")]).await;
        machine.git(&["commit", "--quiet", "--allow-empty", "--message", &at.to_string()]).await;
    }
    futures_of(5, async |at| machine.git(&["push", "origin", &format!("stacked-{at}")]).await).await;
    let pushes = standin.ledger().pushes;
    let mut new: Vec<&str> =
        pushes.iter().flat_map(|push| &push.commits).map(|commit| commit.message.trim_end()).collect();
    new.sort_unstable();
    assert_eq!(new, ["0", "1", "2", "3", "4"], "whichever push was first brought it");
}

#[tokio::test]
async fn of_several_who_ask_for_the_same_pull_request_one_gets_it() {
    let standin = stand_in().await;
    let machine = Machine::cloned(&standin).await;
    assert!(machine.push_new(BRANCH, NODE, "x").await.ok);
    let http = Http::of(&standin);
    let body = format!(r#"{{"title": "t", "head": "{BRANCH}", "base": "main"}}"#);
    let mut statuses =
        futures_of(6, async |_| http.send("POST /repos/fleet/cluster/pulls", body.clone()).await.status)
            .await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 422, 422, 422, 422, 422]);
    assert_eq!(standin.ledger().pulls.len(), 1);
}

/// Runs `count` futures at the same time, in this task.
async fn futures_of<T>(count: usize, make: impl AsyncFn(usize) -> T) -> Vec<T> {
    let mut running: Vec<_> = (0..count).map(|at| Box::pin(make(at))).collect();
    let mut done: Vec<Option<T>> = (0..count).map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in running.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_push_that_is_too_large_for_one_piece_comes_in_chunks() {
    let standin = stand_in().await;
    let machine = Machine::cloned(&standin).await;
    machine.git(&["checkout", "--quiet", "-b", "large"]).await;
    // Compression would make it small again, and a small one is sent whole.
    machine.git(&["config", "core.compression", "0"]).await;
    machine.write("large", vec![b'x'; 3 * 1024 * 1024]);
    machine.git(&["add", "--all"]).await;
    machine.git(&["commit", "--quiet", "--message", "large"]).await;
    // Git asks with an empty push first whether it may; that is no push, and is not struck.
    standin.inject(Fault::once(RouteClass::GitPush, Effect::DropAfterPush)).expect("a fault");
    let said = machine.try_git(&["push", "origin", "large"]).await;
    assert!(!said.ok, "{}", said.text);
    let ledger = standin.ledger();
    assert_eq!((ledger.pushes.len(), ledger.faults.len()), (1, 1));
    assert_eq!(ledger.pushes[0].commits[0].files[0].size, Some(3 * 1024 * 1024));
    let posts: Vec<_> = ledger.requests.iter().filter(|it| it.path.ends_with("/git-receive-pack")).collect();
    let posts: Vec<_> = posts.iter().filter(|it| it.who != Who::Nobody).map(|it| it.bytes_in).collect();
    assert_eq!((posts.len(), posts[0]), (2, 4), "{posts:?}");
    assert!(posts[1] > 3 * 1024 * 1024);
}

#[tokio::test]
async fn a_fetch_that_has_much_to_say_is_compressed_and_understood() {
    let standin = start(config().seed_file(NODE, "x")).await;
    let machine = Machine::cloned(&standin).await;
    for n in 0..60 {
        machine.git(&["commit", "--quiet", "--allow-empty", "--message", &n.to_string()]).await;
    }
    let gone = standin.deregister("ada", "node-1a2b3c").await.expect("the default branch moves on");
    let fetch = machine.command(&["fetch", "origin", "main"]).env("GIT_TRACE_CURL", "1");
    let said = fetch.run_ok().await.expect("fetched");
    let trace = said.stderr_text().to_lowercase();
    assert!(trace.contains("content-encoding: gzip"), "this test is about compressed requests");
    assert_eq!(machine.git(&["rev-parse", "FETCH_HEAD"]).await.trim(), gone.merged.commit);
}

#[tokio::test]
async fn several_commits_of_every_kind_are_described_one_by_one() {
    let standin = stand_in().await;
    let machine = Machine::cloned(&standin).await;
    machine.git(&["checkout", "--quiet", "-b", "many"]).await;
    machine.write("bin/tool with \"quotes\"", b"\x00\xff");
    let tool = machine.tree().join("bin/tool with \"quotes\"");
    std::fs::set_permissions(tool, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    machine.git(&["add", "--all"]).await;
    machine.git(&["commit", "--quiet", "--message", "one"]).await;
    std::os::unix::fs::symlink("/etc/shadow", machine.tree().join("link")).expect("a link");
    machine.git(&["rm", "--quiet", "README.md"]).await;
    machine.git(&["add", "--all"]).await;
    machine.git(&["commit", "--quiet", "--message", "two"]).await;
    machine.git(&["checkout", "--quiet", "-b", "side", "HEAD~1"]).await;
    machine.write("side", "side");
    machine.git(&["add", "--all"]).await;
    machine.git(&["commit", "--quiet", "--message", "three"]).await;
    machine.git(&["checkout", "--quiet", "many"]).await;
    machine.git(&["merge", "--quiet", "--no-ff", "--message", "four", "side"]).await;
    machine.git(&["push", "origin", "many"]).await;

    let push = standin.ledger().pushes.remove(0);
    let mut told: Vec<String> = push
        .commits
        .iter()
        .map(|commit| {
            let files =
                commit.files.iter().map(|it| format!("{} {} {:?} {}", it.status, it.mode, it.size, it.path));
            let files: Vec<String> = files.collect();
            format!("{} ({} parents): {}", commit.message.trim_end(), commit.parents.len(), files.join("; "))
        })
        .collect();
    // The two sides of a merge come in either order.
    told.sort();
    insta::assert_snapshot!(told.join("\n"), @r#"
    four (2 parents): A 100644 Some(4) side
    one (1 parents): A 100755 Some(2) bin/tool with "quotes"
    three (1 parents): A 100644 Some(4) side
    two (1 parents): D 000000 None README.md; A 120000 Some(11) link
    "#);
    let odd = standin.read("many", "bin/tool with \"quotes\"").await.expect("read");
    assert_eq!(odd.as_deref(), Some(&b"\x00\xff"[..]));
    let link = standin.read("many", "link").await.expect("read");
    assert_eq!(link.as_deref(), Some(&b"/etc/shadow"[..]), "a link is its target, and nothing is followed");
}

#[tokio::test]
async fn who_may_push_where_is_a_matter_of_the_policy() {
    let mut open = config();
    open.pushes = PushPolicy { default_branch: true, existing: false };
    let standin = start(open).await;
    let machine = Machine::cloned(&standin).await;
    let said = machine.push_new("main", NODE, "straight to main").await;
    assert!(said.ok, "{}", said.text);
    assert!(machine.push_new(BRANCH, NODE, "new").await.ok);
    let said = machine.push_new(BRANCH, NODE, "again").await;
    assert!(!said.ok && said.text.contains("only new branches can be pushed"), "{}", said.text);
    machine.git(&["push", "origin", "--delete", BRANCH]).await;

    let forge = stand_in().await;
    let machine = Machine::cloned(&forge).await;
    assert!(machine.push_new(BRANCH, NODE, "new").await.ok);
    let said = machine.push_new(BRANCH, NODE, "again").await;
    assert!(said.ok, "as on a forge, a branch may be moved forward: {}", said.text);
    let push = forge.ledger().pushes.remove(1);
    assert_eq!((push.kind, push.commits.len()), (PushKind::Update, 1));
}

#[tokio::test]
async fn a_bearer_is_let_in_and_a_public_repository_is_read_by_anybody() {
    let mut public = config();
    public.public = true;
    for (standin, header) in [
        (stand_in().await, Some(format!("http.extraHeader=Authorization: Bearer {TOKEN}"))),
        (start(public).await, None),
    ] {
        let machine = Machine::new();
        let address = format!("{}{}", standin.url().expect("an address"), standin.git_path());
        let mut args = vec!["clone", "--quiet", &address, "cluster"];
        if let Some(header) = &header {
            args.splice(0..0, ["-c", header.as_str()]);
        }
        machine.git(&args).await;
        assert!(machine.tree().join("README.md").exists());
        let said = machine.push_new(BRANCH, NODE, "x").await;
        assert!(!said.ok, "without the header nobody pushes: {}", said.text);
        let who = standin.look(|ledger| ledger.requests[0].who.clone());
        assert_eq!(who, if header.is_some() { Who::Token("installer".into()) } else { Who::Nobody });
    }
}

#[tokio::test]
async fn a_token_in_a_commit_message_is_noticed_and_not_kept() {
    let standin = stand_in().await;
    let machine = Machine::cloned(&standin).await;
    machine.git(&["commit", "--quiet", "--allow-empty", "--message", &format!("oops {TOKEN}")]).await;
    machine.git(&["push", "origin", "HEAD:refs/heads/oops"]).await;
    let ledger = standin.ledger();
    assert_eq!(ledger.pushes[0].leaks, ["installer"]);
    assert_eq!(ledger.pushes[0].commits[0].message, "oops REDACTED-installer\n");
    assert!(!text_of(&ledger).contains(TOKEN));
}
