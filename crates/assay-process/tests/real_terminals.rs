//! Real shells on real terminals: that they have one, that they say what they say, and that nothing stays behind.

use std::{fs, time::Duration};

use assay_process::{Cmd, Size, Terminal, TerminalKind, TerminalOutput};

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

fn runs(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').expect("a stat line").1.starts_with(" Z"))
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
    // Monitor mode gives each job a group; the first job ignores the hangup.
    let script = "set -m; sh -c \"trap '' HUP; echo job \\$\\$; exec sleep 1000\" & sleep 1000 & wait";
    for dropped in [true, false] {
        let mut terminal = start(script, TerminalKind::Interactive).await;
        let line = |seen: &str| seen.contains("job ") && seen.ends_with('\n');
        let seen = until(&mut terminal.output, line).await;
        let job =
            seen.split_once("job ").expect("the line").1.lines().next().expect("a number").trim().to_owned();
        assert!(runs(&job), "{seen}");
        if dropped {
            drop(terminal.process);
        } else {
            let status = terminal.process.hang_up(GRACE).await.expect("it ends");
            assert!(!status.success());
        }
        // Whoever still had the terminal has ended when it reads as closed.
        shown(&mut terminal.output).await;
        assert!(!runs(&job), "the job ended with its session");
    }
}
