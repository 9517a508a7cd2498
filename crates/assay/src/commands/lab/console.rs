//! `assay lab console`: what a machine's serial port said, byte for byte.
//!
//! It reads QEMU's log of the port and not the port, so any number may look on and nobody takes it away from
//! whoever types there.

use std::io::{Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::commands::{lab, told_to_stop};

/// How often a followed console is looked at: as often as a person can read.
const EVERY: Duration = Duration::from_millis(200);

pub(super) async fn print(console: &lab::Console) -> Result<()> {
    let lab = console.place.open()?;
    lab.machine(&console.name)?;
    let log = lab.console_log(&console.name)?;
    if !console.follow && !log.exists() {
        bail!("{} has never said anything: was it switched on? (`assay lab power on {0}`)", console.name);
    }
    let mut out = std::io::stdout();
    let mut seen = copy(&log, 0, &mut out)?;
    if !console.follow {
        return Ok(());
    }
    let mut tick = tokio::time::interval(EVERY);
    let stop = told_to_stop();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            _ = tick.tick() => seen = copy(&log, seen, &mut out)?,
            () = &mut stop => return Ok(()),
        }
    }
}

/// Copies what is in the file beyond `from`, and says how far that went. A file that is not there yet is empty;
/// one that has become shorter was begun anew.
fn copy(log: &Path, from: u64, out: &mut impl Write) -> Result<u64> {
    let mut file = match std::fs::File::open(log) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e).with_context(|| log.display().to_string()),
    };
    let length = file.metadata()?.len();
    let from = if length < from { 0 } else { from };
    file.seek(SeekFrom::Start(from))?;
    let mut new = Vec::new();
    file.take(length - from).read_to_end(&mut new)?;
    out.write_all(&new)?;
    out.flush()?;
    Ok(from + new.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_copied_and_a_new_file_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("console.log");
        let mut out = Vec::new();
        assert_eq!(copy(&log, 0, &mut out).expect("not there yet"), 0);
        std::fs::write(&log, "SeaBIOS\r\n").expect("written");
        let seen = copy(&log, 0, &mut out).expect("read");
        assert_eq!(copy(&log, seen, &mut out).expect("nothing new"), seen);
        std::fs::write(&log, "SeaBIOS\r\niPXE\r\n").expect("written");
        let seen = copy(&log, seen, &mut out).expect("read");
        assert_eq!(out, b"SeaBIOS\r\niPXE\r\n");
        std::fs::write(&log, "anew").expect("written");
        assert_eq!(copy(&log, seen, &mut out).expect("read"), 4);
        assert!(out.ends_with(b"anew"));
    }
}
