//! A session as a conversation: what is taken once, what ends it, and what is on record.

use std::path::PathBuf;

use assay_api::shell::{ShellExit, TermSize};
use serde_json::json;
use tempfile::TempDir;

use super::*;

struct Bench {
    folder: TempDir,
    start: Instant,
    state: State,
}

impl Bench {
    fn new(is_command: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let start = Instant::now();
        let size = TermSize::default();
        let cast = Cast::create(&folder.path().join("x.cast"), Micros(0), size, &json!({})).expect("created");
        let state = State::new(When { clock: Micros(0), mono: start }, size, is_command, cast);
        Self { folder, start, state }
    }

    fn at(&self, seconds: u64) -> When {
        When { clock: Micros::seconds(seconds as i64), mono: self.start + Duration::from_secs(seconds) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("x.cast")
    }

    /// The transcript without its header.
    fn recorded(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path()).expect("readable");
        text.lines().skip(1).map(str::to_owned).collect()
    }
}

fn over(answer: Result<impl std::fmt::Debug, No>) -> String {
    match answer {
        Err(No::Over(why)) => why,
        other => panic!("not over: {other:?}"),
    }
}

#[test]
fn what_is_said_twice_arrives_once_and_is_recorded_once() {
    let mut bench = Bench::new(false);
    let now = bench.at(1);
    let state = &mut bench.state;
    assert!(state.is_news());
    assert_eq!(state.attach(now, "w1"), Ok(TermSize::default()));
    assert_eq!(state.attach(now, "w1"), Ok(TermSize::default()), "its answer was lost");
    assert_eq!(state.type_in(now, 0, b"ls", None), Ok(2));
    assert_eq!(state.type_in(now, 0, b"ls\r", None), Ok(3), "two of them are known");
    assert!(matches!(state.type_in(now, 9, b"x", None), Err(No::Invalid(_))), "a gap");
    assert!(matches!(state.type_in(now, 3, &vec![0; MAX_BYTES + 1], None), Err(No::Invalid(_))));
    assert_eq!(state.input("w1", 0).expect("typed").0, b"ls\r");
    assert_eq!(state.input("w1", 0).expect("typed").0, b"ls\r", "its answer was lost");
    assert!(!state.has_input(3, TermSize::default()));
    assert_eq!(state.input("w1", 3).expect("none").0, b"");
    assert!(matches!(state.input("w1", 2), Err(No::Invalid(_))), "it said that it had them");

    assert_eq!(state.show(now, "w1", 0, b"a b\r\n", None), Ok(5));
    assert_eq!(state.show(now, "w1", 0, b"a b\r\n", None), Ok(5));
    assert_eq!(state.output(0), Ok((b"a b\r\n".to_vec(), 5, None)));
    assert_eq!(bench.recorded(), [r#"[1.0,"i","ls"]"#, r#"[1.0,"i","\r"]"#, r#"[1.0,"o","a b\r\n"]"#]);
}

#[test]
fn the_end_is_told_with_the_last_bytes_and_only_when_all_is_put_away() {
    let mut bench = Bench::new(true);
    let now = bench.at(2);
    let state = &mut bench.state;
    state.attach(now, "w1").expect("taken");
    let exit = ShellExit { status: Some(3), problem: None };
    assert_eq!(state.show(now, "w1", 0, b"gone", Some(exit)), Ok(4));
    assert!(state.is_over() && !state.is_news());
    assert_eq!(state.output(0), Ok((b"gone".to_vec(), 4, None)));
    assert!(!state.has_output(4));
    state.put_away(true);
    assert!(state.has_output(4) && !state.is_told());
    let end = ShellEnd { status: Some(3), why: "it ended with 3".to_owned(), stored: true };
    assert_eq!(state.output(4), Ok((Vec::new(), 4, Some(end))));
    assert!(state.is_told());
    assert_eq!(over(state.type_in(now, 0, b"x", None)), "the terminal session is over: it ended with 3");
    assert_eq!(bench.recorded(), [r#"[2.0,"o","gone"]"#, r#"[2.0,"m","it ended with 3"]"#]);
}

#[test]
fn another_process_of_the_agent_ends_it_and_a_stranger_is_refused() {
    let mut bench = Bench::new(false);
    let now = bench.at(1);
    let state = &mut bench.state;
    state.attach(now, "w1").expect("taken");
    state.agent_asks(true);
    assert!(!state.is_news(), "it is heard");
    assert!(over(state.show(now, "w2", 0, b"x", None)).contains("does not have the session"));
    assert!(over(state.input("w2", 0)).contains("does not have the session"));
    assert!(!state.is_over());
    state.agent_asks(false);
    assert!(state.is_news(), "whoever asks what to do now is told at once");
    assert!(over(state.attach(now, "w2")).contains("started anew"));
    assert!(state.is_over() && over(state.input("w1", 0)).contains("started anew"));
}

#[test]
fn nobody_there_is_an_end() {
    let mut bench = Bench::new(false);
    let seconds = |bench: &Bench, at: u64| match bench.state.neglected(bench.at(at).mono) {
        Ok(why) => Ok(why),
        Err(next) => Err((next - bench.start).as_secs()),
    };
    assert_eq!(seconds(&bench, 59), Err(60));
    bench.state.operator_asks(bench.at(50));
    assert_eq!(seconds(&bench, 60), Ok("the agent did not take it within a minute"));
    bench.state.attach(bench.at(55), "w1").expect("taken");
    assert_eq!(seconds(&bench, 60), Err(110));
    assert_eq!(seconds(&bench, 110), Ok("the operator's program has not asked for a minute"));
    bench.state.operator_asks(bench.at(890));
    assert_eq!(seconds(&bench, 900), Ok("nothing happened for 15 minutes"));
    bench.state.show(bench.at(890), "w1", 0, b"tick", None).expect("shown");
    assert_eq!(
        seconds(&bench, 900),
        Ok("nothing happened for 15 minutes"),
        "a clock on the screen is nobody"
    );
    bench.state.type_in(bench.at(890), 0, b"q", None).expect("typed");
    assert_eq!(seconds(&bench, 900), Err(950));

    let mut command = Bench::new(true);
    command.state.attach(command.at(0), "w1").expect("taken");
    command.state.show(command.at(800), "w1", 0, b"50 %", None).expect("shown");
    command.state.operator_asks(command.at(895));
    assert_eq!(seconds(&command, 900), Err(955), "a command that talks is at work");
}

#[test]
fn a_flood_stays_on_the_machine() {
    let mut bench = Bench::new(false);
    let now = bench.at(1);
    let state = &mut bench.state;
    state.attach(now, "w1").expect("taken");
    let chunk = vec![b'x'; MAX_BYTES];
    let mut at = 0;
    while state.has_room() {
        at = state.show(now, "w1", at, &chunk, None).expect("taken");
    }
    assert_eq!(at, OUTPUT_ROOM as u64);
    let exit = Some(ShellExit { status: Some(0), problem: None });
    assert_eq!(
        state.show(now, "w1", at, b"rest", exit),
        Ok(at),
        "no room: nothing is taken, not even the end"
    );
    assert!(!state.is_over());
    let (_, next, _) = state.output(0).expect("shown");
    state.output(next).expect("the first piece has arrived");
    assert!(state.has_room());
    let typed = state.type_in(now, 0, &chunk, None).expect("taken");
    assert_eq!(typed, MAX_BYTES as u64);
    for _ in 0..9 {
        let at = state.typed.end();
        state.type_in(now, at, &chunk, None).expect("answered");
    }
    assert_eq!(state.typed.end(), INPUT_ROOM as u64);
}

#[test]
fn a_new_size_is_told_and_nonsense_is_not() {
    let mut bench = Bench::new(false);
    let now = bench.at(1);
    let wide = TermSize { cols: 132, rows: 43 };
    bench.state.attach(now, "w1").expect("taken");
    bench.state.type_in(now, 0, b"", Some(wide)).expect("told");
    assert!(bench.state.has_input(0, TermSize::default()) && !bench.state.has_input(0, wide));
    assert_eq!(bench.state.input("w1", 0), Ok((Vec::new(), wide)));
    for size in [TermSize { cols: 0, rows: 24 }, TermSize { cols: 80, rows: 60_000 }] {
        assert!(matches!(bench.state.type_in(now, 0, b"", Some(size)), Err(No::Invalid(_))));
    }
    assert_eq!(bench.recorded(), [r#"[1.0,"r","132x43"]"#]);
}
