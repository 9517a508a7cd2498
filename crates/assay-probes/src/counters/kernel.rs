//! The kernel's messages that are worth a look: what hardware makes it say.
//!
//! A record of `/dev/kmsg` is `priority,number,microseconds,flags;text`. Its number makes "since the last reading"
//! exact, which no file of messages can do.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

use assay_model::host::counters::KernelLog;
use assay_model::text::clean;

use crate::Machine;

/// Lines kept; what is beyond is counted.
const MAX_LINES: usize = 200;
/// Larger than any record (the kernel's limit is 8 KiB with its dictionary).
const BUFFER: usize = 16 << 10;
/// More than any kernel's ring: an end for a log that grows as fast as it is read.
const MAX_RECORDS: usize = 1_000_000;

/// What a message of interest contains, in lower case.
const INTERESTING: [&str; 26] = [
    "[hardware error]",
    "hardware error from",
    "machine check",
    "nvrm: xid",
    "i/o error",
    "medium error",
    "unrecovered read error",
    "failed command",
    "hard resetting link",
    "link is slow to respond",
    "controller is down; will reset",
    "i/o timeout",
    "timeout, aborting",
    "timeout, reset controller",
    "device not ready; aborting",
    "aer: ",
    "pcie bus error",
    "edac ",
    "netdev watchdog",
    "transmit queue",
    "detected hardware unit hang",
    "soft lockup",
    "hard lockup",
    "rcu_sched self-detected stall",
    "kernel bug at",
    "oops: ",
];
/// What contains one of those and says nothing bad.
const HARMLESS: [&str; 10] = [
    "edac mc: ver",
    "edac mc0: giving out",
    "giving out device",
    "edac amd64: node",
    "edac amd64: f",
    "aer: enabled with irq",
    "machine check polling",
    "mce banks",
    "timestamping",
    "_osc: ",
];

/// Reads the log. Without `since`, only where it ends.
pub(super) fn read(machine: &Machine, since: Option<u64>) -> Option<KernelLog> {
    let mut log = KernelLog { last: since.unwrap_or(0), ..KernelLog::default() };
    // O_NONBLOCK: reading beyond the last message would wait for the next one.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(machine.path("dev/kmsg"))
        .ok()?;
    let is_file = file.metadata().ok()?.is_file();
    for_each_record(file, is_file, |record| take(record, since, &mut log))?;
    Some(log)
}

fn for_each_record(mut file: File, is_file: bool, mut each: impl FnMut(&str)) -> Option<()> {
    if is_file {
        // A captured machine's log: all there at once.
        let mut all = Vec::new();
        file.take(16 << 20).read_to_end(&mut all).ok()?;
        String::from_utf8_lossy(&all).lines().for_each(each);
        return Some(());
    }
    let mut buffer = vec![0; BUFFER];
    for _ in 0..MAX_RECORDS {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => each(&String::from_utf8_lossy(&buffer[..count])),
            // Overwritten while it was read: it goes on with the oldest that is left.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return None,
        }
    }
    Some(())
}

fn take(record: &str, since: Option<u64>, log: &mut KernelLog) {
    let Some((prefix, text)) = record.split_once(';') else { return };
    let mut fields = prefix.split(',');
    let priority: Option<u32> = fields.next().and_then(|field| field.parse().ok());
    let number: Option<u64> = fields.next().and_then(|field| field.parse().ok());
    let (Some(priority), Some(number)) = (priority, number) else { return };
    let known = since.is_none_or(|since| number <= since);
    log.last = log.last.max(number);
    // The facility is in the bits above the level: only what the kernel itself says (0) is evidence.
    if known || priority >> 3 != 0 {
        return;
    }
    let text = text.lines().next().unwrap_or_default();
    if !is_interesting(text) {
        return;
    }
    if log.lines.len() < MAX_LINES {
        log.lines.push(clean(text));
    } else {
        log.left_out += 1;
    }
}

fn is_interesting(text: &str) -> bool {
    let lower = text.to_lowercase();
    INTERESTING.iter().any(|word| lower.contains(word)) && !HARMLESS.iter().any(|word| lower.contains(word))
}
