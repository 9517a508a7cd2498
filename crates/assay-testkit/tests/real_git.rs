//! Real `git` clones from the forge double and fetches a pull request, over `git http-backend`.

use assay_process::Cmd;
use assay_testkit::forge::{Dialect, ForgeDouble};

async fn git(folder: &std::path::Path, args: &[&str]) -> String {
    let output = Cmd::new("git")
        .args(args.iter().copied())
        .cwd(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .run_ok()
        .await
        .unwrap_or_else(|e| panic!("git {args:?}: {e}"));
    output.stdout_text().trim_end().to_owned()
}

#[tokio::test]
async fn a_pull_request_is_cloned_fetched_and_pushed_to() {
    for dialect in [Dialect::Forgejo, Dialect::GitHub] {
        let forge = ForgeDouble::start(dialect).await;
        let main = forge
            .git_repository("coop/plausible", &[("compose.yml", "version: '3.8'\n"), ("a/b.txt", "b\n")])
            .await;
        let head = forge
            .commit("coop/plausible", "upgrade", Some(&main), &[("compose.yml", "version: '3.9'\n")])
            .await;
        let number = forge.open_git_pull("coop/plausible", "alice", "upgrade").await;

        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("{}/coop/plausible.git", forge.url());
        git(folder.path(), &["clone", "--quiet", &url, "clone"]).await;
        let clone = folder.path().join("clone");
        assert_eq!(git(&clone, &["rev-parse", "HEAD"]).await, main);
        assert_eq!(std::fs::read_to_string(clone.join("a/b.txt")).expect("cloned"), "b\n");
        git(&clone, &["fetch", "--quiet", "--depth=1", "origin", &format!("refs/pull/{number}/head")]).await;
        assert_eq!(git(&clone, &["rev-parse", "FETCH_HEAD"]).await, head);
        assert_eq!(git(&clone, &["show", "FETCH_HEAD:compose.yml"]).await, "version: '3.9'");

        let newer = forge.commit("coop/plausible", "upgrade", Some(&head), &[("c.txt", "c\n")]).await;
        forge.push_git("coop/plausible", number, &newer).await;
        git(&clone, &["fetch", "--quiet", "origin", &format!("refs/pull/{number}/head")]).await;
        assert_eq!(git(&clone, &["rev-parse", "FETCH_HEAD"]).await, newer);
        assert!(forge.count("POST", "/coop/plausible.git/git-upload-pack") >= 3);
    }
}
