//! The kernel's messages, from `/dev/kmsg`: what a machine says about itself shortly before it dies.
//!
//! A record is `priority,number,microseconds since boot,flags;text`, then lines that begin with a space and hold
//! device names (Documentation/ABI/testing/dev-kmsg). One read gives one record.

use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;

use crate::console::{Console, RawLine};

/// Larger than any record (the kernel's limit is 8 KiB with its dictionary).
const BUFFER: usize = 16 << 10;

/// Ships every message from the oldest that the kernel still has. Ends where the log ends, which the kernel's
/// own never does.
pub(crate) async fn follow(path: &Path, console: &Console) {
    if let Err(error) = read_all(path, console).await {
        console.say(&format!("kernel messages cannot be read from {}: {error}", path.display()));
    }
}

async fn read_all(path: &Path, console: &Console) -> io::Result<()> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if file.metadata()?.is_file() {
        // A captured machine's log: all there at once.
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        ship(&text, console);
        return Ok(());
    }
    // The kernel's log can be waited for as a pipe can. Read with `try_read` only: reading as a stream takes a
    // read that did not fill the buffer for the last one, and here every read ends at the end of a record.
    let source = Receiver::from_file_unchecked(file)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        source.readable().await?;
        match source.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => ship(&String::from_utf8_lossy(&buffer[..count]), console),
            // The kernel overwrote what was to be read next; it goes on with the oldest it has.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                console.note("kernel messages were lost: they came faster than they were read");
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
}

fn ship(records: &str, console: &Console) {
    records.lines().filter_map(parse).for_each(|line| console.ship(line));
}

fn parse(record: &str) -> Option<RawLine> {
    let (prefix, text) = record.split_once(';')?;
    let mut fields = prefix.split(',');
    let _priority: u32 = fields.next()?.parse().ok()?;
    let seq = fields.next()?.parse().ok()?;
    let at = Duration::from_micros(fields.next()?.parse().ok()?);
    Some(RawLine { at, source: "kernel", text: text.to_owned(), kernel_seq: Some(seq) })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::{follow, parse};
    use crate::console::Console;

    #[test]
    fn a_record_has_its_time_and_number_and_a_continuation_is_none() {
        let line = parse("4,339,5140900,-;NET: Registered PF_INET6; 2 of them").expect("a record");
        assert_eq!(line.text, "NET: Registered PF_INET6; 2 of them");
        assert_eq!((line.at, line.kernel_seq), (Duration::from_micros(5_140_900), Some(339)));
        for other in [" SUBSYSTEM=acpi", " DEVICE=+acpi:PNP0A03:00;x", "4,x,1,-;text", "", "no semicolon"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_captured_log_is_shipped_whole() {
        let dir = tempfile::tempdir().expect("folder");
        let file = dir.path().join("kmsg");
        std::fs::write(&file, "6,1,100,-;first\n SUBSYSTEM=pci\n3,2,200,-;second\n").expect("written");
        let (console, mut lines) = Console::new(Arc::new(|_: &str| ()));
        follow(&file, &console).await;
        let texts: Vec<String> = std::iter::from_fn(|| lines.try_recv().ok()).map(|line| line.text).collect();
        assert_eq!(texts, ["first", "second"]);
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_read_is_said_on_the_console() {
        let dir = tempfile::tempdir().expect("folder");
        let (console, mut lines) = Console::new(Arc::new(|_: &str| ()));
        follow(&dir.path().join("kmsg"), &console).await;
        let line = lines.try_recv().expect("one line").text;
        assert!(line.starts_with("kernel messages cannot be read from"), "{line}");
    }

    /// The real log of the kernel that runs this test, where it may be read.
    #[tokio::test]
    async fn the_running_kernels_messages_come_one_after_the_other() {
        let path = Path::new("/dev/kmsg");
        let readable = std::fs::File::open(path).is_ok();
        let (console, mut lines) = Console::new(Arc::new(|_: &str| ()));
        let follower = tokio::spawn(async move { follow(path, &console).await });
        let first = lines.recv().await.expect("a line");
        if readable {
            let second = lines.recv().await.expect("another line");
            assert_eq!((first.source, second.source), ("kernel", "kernel"));
            assert!(first.kernel_seq < second.kernel_seq && first.at <= second.at);
        } else {
            assert!(first.text.starts_with("kernel messages cannot be read from /dev/kmsg"), "{first:?}");
        }
        follower.abort();
    }

    #[tokio::test]
    async fn messages_arrive_as_they_are_written() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("kmsg");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("a pipe");
        // Opened for both, so that the reading side does not see an end before the first message.
        let mut writer = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("opens");
        let (console, mut lines) = Console::new(Arc::new(|_: &str| ()));
        let follower = tokio::spawn(async move { follow(&path, &console).await });
        for number in 1..=2 {
            std::io::Write::write_all(&mut writer, format!("6,{number},7,-;message\n").as_bytes())
                .expect("written");
            assert_eq!(lines.recv().await.expect("a line").kernel_seq, Some(number));
        }
        follower.abort();
    }
}
