//! The kill point: a process that dies at a commit really dies, and leaves a whole journal.

use std::time::Duration;

use assay_model::Sha256;
use assay_process::Cmd;

use crate::sample::{admitted, append, at, create, run_id};

const DATABASE: &str = "ASSAY_TEST_CRASH_DATABASE";
const THIS_TEST: &str = "crash::a_kill_point_kills_and_the_journal_holds";

#[tokio::test]
async fn a_kill_point_kills_and_the_journal_holds() {
    if let Ok(url) = std::env::var(DATABASE) {
        // The child: it must not come to the end of this.
        let store = crate::open(&url).await;
        create(&store, run_id(1), 1).await;
        append(&store, run_id(1), at(1), vec![admitted()]).await;
        panic!("the kill point did not kill");
    }
    for (kill_at, left) in [("before:2", 1), ("after:2", 2)] {
        let folder = tempfile::tempdir().expect("a folder");
        let url = crate::sqlite_url(folder.path());
        let child = Cmd::new(std::env::current_exe().expect("this test"))
            .args([THIS_TEST, "--exact", "--nocapture"])
            .env(DATABASE, &url)
            .env("ASSAY_KILL_AT", kill_at)
            .timeout(Duration::from_mins(1));
        let output = child.run().await.expect("ran");
        assert_eq!(output.signal(), Some(9), "{kill_at}: {}", output.last_words());

        let store = crate::open(&url).await;
        let journal = store.journal(run_id(1)).await.expect("read");
        assert_eq!(journal.len(), left, "{kill_at}");
        assay_model::journal::verify(run_id(1), Sha256::ZERO, &journal).expect("holds together");
        assert_eq!(store.view(run_id(1)).await.expect("read").expect("there").seq, left as i64);
    }
}
