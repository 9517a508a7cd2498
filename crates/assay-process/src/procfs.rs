//! The few facts about processes that only `/proc/PID/stat` tells.
//!
//! A zombie counts as ended here. Signal 0 cannot tell it from a running process, and an init that is slow to
//! reap orphans (or, in a container, never does) would otherwise make every stop look unfinished.

use std::{fs, io};

/// One process as the kernel describes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) group: u32,
    pub(crate) session: u32,
    pub(crate) start_ticks: u64,
    pub(crate) ended: bool,
}

pub(crate) fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat reads: {text}")))
}

/// Whether a process of this group still runs.
pub(crate) fn group_runs(group: u32) -> bool {
    all().any(|(_, stat)| stat.group == group && !stat.ended)
}

/// The processes of a session that still run: the jobs of a shell are groups of their own, and its session holds all.
pub(crate) fn of_session(session: u32) -> Vec<u32> {
    all().filter(|(_, stat)| stat.session == session && !stat.ended).map(|(pid, _)| pid).collect()
}

fn all() -> impl Iterator<Item = (u32, Stat)> {
    let pids = fs::read_dir("/proc").into_iter().flatten();
    pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid).ok()?)))
}

/// The command name in parentheses may hold spaces and parentheses: fields are counted after the last one.
fn parse(text: &str) -> Option<Stat> {
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    let group = fields.nth(1)?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(15)?.parse().ok()?;
    Some(Stat { group, session, start_ticks, ended })
}

#[cfg(test)]
mod tests {
    use super::{Stat, group_runs, parse};

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c)) S 1 77 70 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 100 200";
        assert_eq!(parse(text), Some(Stat { group: 77, session: 70, start_ticks: 4242, ended: false }));
        let zombie = parse("7 (zombie) Z 1 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 9 1").expect("a stat line");
        assert!(zombie.ended);
        assert_eq!(parse("garbage"), None);
    }

    #[test]
    fn our_own_group_runs_and_an_impossible_one_does_not() {
        let own = rustix::process::getpgrp().as_raw_nonzero().get().unsigned_abs();
        assert!(group_runs(own));
        assert!(!group_runs(u32::MAX));
    }
}
