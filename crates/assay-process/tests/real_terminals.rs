//! Real shells on real terminals: that they have one, that they say what they say, and that nothing stays behind.

use std::time::Duration;

use assay_process::{Cmd, Size, Terminal, TerminalKind, TerminalOutput};
use tokio::{io::AsyncReadExt as _, time::timeout};

const SIZE: Size = Size { cols: 80, rows: 24 };
const GRACE: Duration = Duration::from_secs(5);

async fn start(script: &str, kind: TerminalKind) -> Terminal {
    Cmd::new("sh").args(["-c", script]).spawn_terminal(SIZE, kind).await.expect("it starts")
}

/// Everything that is shown, to the end.
async fn shown(output: &mut TerminalOutput) -> String {
    until(output, |_| false).await
}

/// What is shown, until it is `enough`.
async fn until(output: &mut TerminalOutput, enough: impl Fn(&str) -> bool) -> String {
    let (mut seen, mut buffer) = (String::new(), [0; 1024]);
    while !enough(&seen) {
        let count = output.read(&mut buffer).await.expect("the terminal reads");
        if count == 0 {
            break;
        }
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    seen
}

#[tokio::test]
async fn a_command_has_a_controlling_terminal_of_the_size_asked_for() {
    let mut terminal = start("tty -s && stty size < /dev/tty; exit 7", TerminalKind::Interactive).await;
    assert_eq!(shown(&mut terminal.output).await, "24 80\r\n");
    assert_eq!(terminal.process.wait().await.expect("it ends").code(), Some(7));
}

#[tokio::test]
async fn what_is_typed_arrives_and_a_new_size_is_told() {
    let script = "trap 'stty size' WINCH; echo ready; while ! read word; do :; done; echo got $word";
    let mut terminal = start(script, TerminalKind::Interactive).await;
    until(&mut terminal.output, |seen| seen.contains("ready")).await;
    terminal.input.resize(Size { cols: 132, rows: 43 }).expect("it is resized");
    until(&mut terminal.output, |seen| seen.contains("43 132")).await;
    terminal.input.write_all("wört\r".as_bytes()).await.expect("it is typed");
    let rest = shown(&mut terminal.output).await;
    assert!(rest.ends_with("wört\r\ngot wört\r\n"), "echoed, and read: {rest:?}");
    assert!(terminal.process.wait().await.expect("it ends").success());
}

#[tokio::test]
async fn output_comes_out_byte_for_byte_and_there_is_no_input() {
    let mut terminal =
        start("printf 'a\\nb\\r\\n'; cat; tty <&1 >/dev/null && echo still", TerminalKind::Output).await;
    assert_eq!(shown(&mut terminal.output).await, "a\nb\r\nstill\n");
}

#[tokio::test]
async fn jobs_in_groups_of_their_own_end_with_the_session() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = folder.path().join("fifo");
    Cmd::new("mkfifo").arg(&fifo).run_ok().await.expect("a fifo");
    // Monitor mode gives each job a group. This one ignores the hangup, and has the fifo open as long as it lives.
    let job = format!("sh -c \"trap '' HUP; exec sleep 1000\" > {}", fifo.display());
    let script = format!("set -m; {job} & sleep 1000 & wait");
    for dropped in [true, false] {
        let terminal = start(&script, TerminalKind::Interactive).await;
        // Opens once the job has it open.
        let mut job = tokio::fs::File::open(&fifo).await.expect("the fifo opens");
        if dropped {
            drop(terminal.process);
        } else {
            let status = terminal.process.hang_up(GRACE).await.expect("it ends");
            assert!(!status.success());
        }
        let ended = timeout(GRACE, job.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "the job lives on after its session");
    }
}
