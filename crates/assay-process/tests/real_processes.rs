//! Real processes, with the bad habits that this crate exists for.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use assay_process::{Child, Cmd, Detached, Line, ProcessError, Signal, Stream, find_program};
use tokio::io::{AsyncBufReadExt, BufReader};

const GRACE: Duration = Duration::from_secs(5);

fn sh(script: &str) -> Cmd {
    Cmd::new("sh").args(["-c", script])
}

async fn line(child: &mut Child) -> String {
    child.next_line().await.expect("a line before the end").text
}

/// Whether a process is there and not a zombie.
fn runs(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').expect("a stat line").1.starts_with(" Z"))
}

async fn new_fifo(folder: &Path) -> PathBuf {
    let fifo = folder.join("fifo");
    Cmd::new("mkfifo").arg(&fifo).run_ok().await.expect("a fifo");
    fifo
}

/// Opens a fifo to read; returns once somebody has opened it to write.
async fn opened(fifo: PathBuf) -> BufReader<tokio::fs::File> {
    BufReader::new(tokio::fs::File::open(fifo).await.expect("the fifo opens"))
}

#[tokio::test]
async fn a_command_is_run_and_its_output_kept_apart() {
    let output = sh("cat; echo bad >&2; exit 3").stdin("good").run().await.expect("it runs");
    assert_eq!((output.stdout_text().as_ref(), output.stderr_text().as_ref()), ("good", "bad\n"));
    assert_eq!((output.code(), output.success(), output.signal()), (Some(3), false, None));
    assert!(!output.stdout_truncated && !output.stderr_truncated);
}

#[tokio::test]
async fn a_failure_quotes_the_last_words() {
    let error = sh("echo disk on fire >&2; exit 9").run_ok().await.expect_err("it fails");
    assert_eq!(error.to_string(), "`sh` failed with exit code 9; its last words: disk on fire");
    let error = sh("kill -9 $$").run_ok().await.expect_err("it dies");
    assert_eq!(error.to_string(), "`sh` failed with signal 9; its last words: (nothing)");
}

#[tokio::test]
async fn environment_folder_and_locale_are_what_was_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let cmd = sh("echo $LC_ALL $A; pwd").env("A", "b").cwd(folder.path());
    let output = cmd.run_ok().await.expect("it runs");
    let real = folder.path().canonicalize().expect("the folder");
    assert_eq!(output.stdout_text(), format!("C.UTF-8 b\n{}\n", real.display()));
    let output = Cmd::new("env").env_clear().env("LC_ALL", "C").run_ok().await.expect("it runs");
    assert_eq!(output.stdout_text(), "LC_ALL=C\n");
}

#[tokio::test]
async fn a_missing_program_names_its_package() {
    let error = Cmd::new("dnsmasq").env("PATH", "/nonexistent").run().await.expect_err("it is missing");
    assert_eq!(error.to_string(), "`dnsmasq` was not found: install it with `apt-get install dnsmasq-base`");
    let error = Cmd::new("/nonexistent/tool").run().await.expect_err("it is missing");
    assert!(matches!(error, ProcessError::NotFound { .. }), "{error:?}");
    let error = find_program("no-such-tool-at-all").expect_err("it is missing");
    assert!(error.to_string().contains("add its folder to PATH"), "{error}");
    assert!(find_program("sh").expect("sh is everywhere").is_absolute());
}

#[tokio::test]
async fn a_missing_namespace_is_not_blamed_on_the_program() {
    let error = sh("true").netns(Some("assay-no-such-ns")).run().await.expect_err("it is missing");
    assert!(
        matches!(&error, ProcessError::NoNamespace { name, .. } if name == "assay-no-such-ns"),
        "{error:?}"
    );
}

#[tokio::test]
async fn megabytes_on_both_streams_deadlock_nobody_and_are_capped() {
    let script = "head -c 4000000 /dev/zero >&2 & head -c 4000000 /dev/zero; wait; echo end >&2";
    let output = sh(script).stdin(vec![0; 1_000_000]).max_output(100_000).run_ok().await.expect("it ends");
    assert_eq!((output.stdout.len(), output.stderr.len()), (100_000, 100_000));
    assert!(output.stdout_truncated && output.stderr_truncated);
    assert!(output.last_words().ends_with("end"), "the end of stderr is what is kept");
}

#[tokio::test]
async fn a_time_limit_stops_the_grandchildren_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let pid_file = folder.path().join("pid");
    // The shell and its child both ignore SIGTERM; the child's id is written before anything waits.
    let script = format!("trap '' TERM; sleep 1000 & echo $! > {}; echo stuck >&2; wait", pid_file.display());
    let error = sh(&script).timeout(Duration::from_secs(1)).run().await.expect_err("it hangs");
    let text = error.to_string();
    assert_eq!(text, "`sh` did not end within 1s and was stopped; its last words: stuck");
    let grandchild = fs::read_to_string(pid_file).expect("the script wrote it");
    assert!(!runs(grandchild.trim()), "the grandchild survived");
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_removed_and_does_not_hold_it_up() {
    let output = sh("sleep 1000 & echo $!").timeout(GRACE).run_ok().await.expect("it ends with its leader");
    assert!(!runs(output.stdout_text().trim()), "the background process survived");
}

#[tokio::test]
async fn a_dropped_run_kills_its_group() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = new_fifo(folder.path()).await;
    let script = format!("exec 3> {}; sleep 1000 & echo up >&3; wait", fifo.display());
    let running = tokio::spawn(async move { sh(&script).run().await });
    let mut reader = opened(fifo).await;
    let mut first = String::new();
    reader.read_line(&mut first).await.expect("a line");
    assert_eq!(first, "up\n");
    running.abort();
    assert!(running.await.expect_err("aborted").is_cancelled());
    // A fifo reaches its end exactly when every process that could write to it has gone.
    assert_eq!(reader.read_line(&mut first).await.expect("the end"), 0);
}

#[tokio::test]
async fn a_child_talks_in_lines_and_says_when_it_is_done() {
    let mut child = sh("echo one; echo two >&2; printf three").spawn().await.expect("it starts");
    let mut lines = Vec::new();
    while let Some(line) = child.next_line().await {
        lines.push(line);
    }
    lines.sort_by(|a, b| a.text.cmp(&b.text));
    let of = |stream, text: &str| Line { stream, text: text.to_owned() };
    assert_eq!(lines, [of(Stream::Stdout, "one"), of(Stream::Stdout, "three"), of(Stream::Stderr, "two")]);
    assert!(child.wait().await.expect("it ends").success());
    assert!(child.ended().expect("known now").success());
}

#[tokio::test]
async fn a_child_nobody_listens_to_can_still_end() {
    let mut child = sh("yes | head -n 100000").spawn().await.expect("it starts");
    assert!(child.wait().await.expect("it ends").success());
}

#[tokio::test]
async fn stop_asks_first_and_then_kills_the_whole_group() {
    let mut polite =
        sh("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done").spawn().await.expect("up");
    assert_eq!(line(&mut polite).await, "up");
    assert_eq!(polite.stop(GRACE).await.expect("it stops").code(), Some(7));
    // The whole group was asked, so the shell may first remark that its `sleep` was terminated.
    let mut words = line(&mut polite).await;
    if words == "Terminated" {
        words = line(&mut polite).await;
    }
    assert_eq!(words, "bye");

    let mut stubborn =
        sh("trap '' TERM; sleep 1000 & echo $!; while :; do wait; done").spawn().await.expect("up");
    let grandchild = line(&mut stubborn).await;
    assert!(runs(&grandchild));
    let status = stubborn.stop(Duration::from_millis(100)).await.expect("it is killed");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert!(!runs(&grandchild), "the grandchild survived");
}

#[tokio::test]
async fn a_dropped_child_takes_its_group_with_it() {
    let mut child = sh("sleep 1000 & echo $!; wait").spawn().await.expect("it starts");
    let grandchild = line(&mut child).await;
    let mut lines = child.take_lines().expect("not taken yet");
    assert!(child.take_lines().is_none() && runs(&grandchild));
    drop(child);
    // The pipe closes when the last process that holds it has gone.
    assert_eq!(lines.recv().await, None);
}

#[tokio::test]
async fn a_signal_reaches_the_leader() {
    let mut child =
        sh("trap 'echo again' HUP; echo up; while :; do sleep 0.01; done").spawn().await.expect("up");
    assert_eq!(line(&mut child).await, "up");
    child.signal(Signal::HUP).expect("it is there");
    assert_eq!(line(&mut child).await, "again");
    child.stop(GRACE).await.expect("it stops");
    child.signal(Signal::HUP).expect("too late is not an error");
}

#[tokio::test]
async fn a_detached_process_has_its_own_session_and_is_found_again_by_identity() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let fifo = new_fifo(folder.path()).await;
    let script = format!("echo hello; echo up > {}; exec sleep 1000", fifo.display());
    let found = sh(&script).spawn_detached(&log).await.expect("it starts");
    let session = fs::read_to_string(format!("/proc/{}/stat", found.pid)).expect("it runs");
    let after_name = session.rsplit_once(')').expect("a stat line").1;
    assert_eq!(
        after_name.split_ascii_whitespace().nth(3),
        Some(found.pid.to_string().as_str()),
        "its own session"
    );

    let mut first = String::new();
    opened(fifo).await.read_line(&mut first).await.expect("a line");

    assert!(found.is_alive());
    let another = Detached { start_ticks: found.start_ticks + 1, ..found };
    assert!(
        !another.is_alive() && !another.stop(GRACE).await.expect("nothing to do"),
        "same id, another process"
    );
    assert!(found.is_alive(), "the other process was left alone");
    assert!(found.stop(GRACE).await.expect("it stops") && !found.is_alive());
    assert_eq!(fs::read_to_string(log).expect("the log"), "hello\n");
    assert!(!found.stop(GRACE).await.expect("stopping twice is fine"));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_a_spawn_error() {
    let error = sh("true").cwd("/nonexistent").run().await.expect_err("it cannot start");
    assert!(matches!(error, ProcessError::Spawn { .. }), "{error:?}");
}
