//! The driver's error reports (`Xid`) in the kernel's log.
//!
//! A line is `NVRM: Xid (PCI:0000:01:00): 79, pid=…, GPU has fallen off the bus.`; drivers before 2013 leave out `PCI:`.
//! The log is read as `/dev/kmsg` gives it, where each record has a number, so that what is new can be told apart.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

use assay_model::host::gpu::Xid;
use assay_model::text::{clean, clean_to};

use crate::Machine;

/// Larger than any record.
const RECORD: usize = 16 << 10;
/// More than the kernel keeps.
const MOST: usize = 8 << 20;
/// Most reports that are kept.
const MAX_XIDS: usize = 200;
/// Most other complaints that are kept.
const MAX_COMPLAINTS: usize = 10;

/// The log as it was at one moment.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) text: String,
    /// Number of the last record.
    pub(super) last: Option<u64>,
}

/// Reads what the kernel has, without waiting for more.
pub(super) fn read(machine: &Machine) -> io::Result<Log> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = OpenOptions::new().read(true).custom_flags(nonblocking).open(machine.path("dev/kmsg"))?;
    let mut bytes = Vec::new();
    let mut record = vec![0; RECORD];
    while bytes.len() < MOST {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&record[..count]),
            // Records were overwritten while they were read; it goes on with the oldest there is.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let last = text.lines().filter_map(sequence).max();
    Ok(Log { text, last })
}

/// The driver's reports; those with a number above `since` are new.
pub(super) fn xids(text: &str, since: Option<u64>) -> Vec<Xid> {
    let report = |line: &str| {
        let (_, rest) = line.split_once("NVRM: Xid (")?;
        let (address, rest) = rest.split_once("): ")?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(Xid {
            address: clean(address.trim_start_matches("PCI:")).to_ascii_lowercase(),
            number: rest[..digits].parse().ok()?,
            text: clean(rest[digits..].trim_start_matches([',', ' '])),
            // A log without numbers cannot tell; then it counts as new, which is the stricter side.
            during: sequence(line).zip(since).is_none_or(|(number, last)| number > last),
        })
    };
    text.lines().filter_map(report).take(MAX_XIDS).collect()
}

/// Other lines in which the driver says that something failed, and every line of the driver as it stands.
pub(super) fn complaints(text: &str) -> (Vec<String>, Option<Vec<u8>>) {
    let mut lines = Vec::new();
    let mut raw = String::new();
    for line in text.lines().filter(|line| line.contains("NVRM:")) {
        raw.push_str(line);
        raw.push('\n');
        let failed = line.contains("failed") || line.contains("fallen off the bus");
        if failed && !line.contains("Xid") && lines.len() < MAX_COMPLAINTS {
            let said = line.split_once(';').map_or(line, |(_, said)| said);
            lines.push(format!("the kernel's log: {}", clean_to(said, 250)));
        }
    }
    (lines, (!raw.is_empty()).then(|| raw.into_bytes()))
}

/// The number of a record: `6,1042,5140900,-;text`.
fn sequence(line: &str) -> Option<u64> {
    let (prefix, _) = line.split_once(';')?;
    let mut fields = prefix.split(',');
    let _priority: u32 = fields.next()?.parse().ok()?;
    fields.next()?.parse().ok()
}
