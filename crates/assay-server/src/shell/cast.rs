//! A transcript: an asciicast file, version 2, that any player shows again.
//!
//! Every event is in the file before anybody acts on it, so a transcript is whole up to the moment in which the
//! control plane was killed. What was typed is in it as well as what was shown.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use assay_api::shell::TermSize;
use assay_model::Micros;
use serde_json::{Value, json};

/// Largest transcript. A session that fills it ends: what cannot be recorded does not happen.
const MAX: u64 = 64 << 20;

/// A transcript that is being written.
#[derive(Debug)]
pub(crate) struct Cast {
    file: File,
    start: Micros,
    bytes: u64,
    /// Letters of which only a part has come, typed and shown.
    halves: [Vec<u8>; 2],
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the operator.
    Typed,
    /// From the machine.
    Shown,
}

impl Cast {
    /// Begins a transcript in a new file that only the control plane may read.
    pub(crate) fn create(path: &Path, start: Micros, size: TermSize, about: &Value) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut cast = Self { file, start, bytes: 0, halves: Default::default() };
        let mut header = json!({
            "version": 2,
            "width": size.cols,
            "height": size.rows,
            "timestamp": start.0.div_euclid(1_000_000),
        });
        if let (Some(header), Some(about)) = (header.as_object_mut(), about.as_object()) {
            header.extend(about.clone());
        }
        cast.write(&format!("{header}\n"))?;
        Ok(cast)
    }

    /// Records bytes; a letter that is not complete waits for its rest.
    pub(crate) fn bytes(&mut self, now: Micros, way: Way, bytes: &[u8]) -> io::Result<()> {
        let text = take_text(&mut self.halves[way as usize], bytes);
        if text.is_empty() {
            return Ok(());
        }
        self.event(now, way.code(), &text)
    }

    /// Records a new size.
    pub(crate) fn resized(&mut self, now: Micros, size: TermSize) -> io::Result<()> {
        self.event(now, "r", &format!("{}x{}", size.cols, size.rows))
    }

    /// Records the end, and why.
    pub(crate) fn ended(&mut self, now: Micros, why: &str) -> io::Result<()> {
        for way in [Way::Typed, Way::Shown] {
            let half = std::mem::take(&mut self.halves[way as usize]);
            if !half.is_empty() {
                self.write(&self.line(now, way.code(), &String::from_utf8_lossy(&half)))?;
            }
        }
        self.write(&self.line(now, "m", why))
    }

    fn event(&mut self, now: Micros, code: &str, text: &str) -> io::Result<()> {
        let line = self.line(now, code, text);
        if self.bytes + line.len() as u64 > MAX {
            return Err(io::Error::other(format!("it has reached {} MiB", MAX >> 20)));
        }
        self.write(&line)
    }

    fn line(&self, now: Micros, code: &str, text: &str) -> String {
        format!("{}\n", json!([now.since(self.start).as_seconds().max(0.0), code, text]))
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        self.bytes += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }
}

impl Way {
    const fn code(self) -> &'static str {
        match self {
            Self::Typed => "i",
            Self::Shown => "o",
        }
    }
}

/// Ends a transcript that was being written when the control plane was killed; a last line that is torn goes. One that
/// has its end stays as it is.
pub(crate) fn mend(text: &mut Vec<u8>, why: &str) {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    text.truncate(whole);
    let last = text.split(|byte| *byte == b'\n').rfind(|line| line.starts_with(b"["));
    let last = last.and_then(|line| serde_json::from_slice::<Value>(line).ok());
    if last.as_ref().is_some_and(|event| event[1] == "m") {
        return;
    }
    let at = last.and_then(|event| event[0].as_f64()).unwrap_or(0.0);
    text.extend_from_slice(format!("{}\n", json!([at, "m", why])).as_bytes());
}

/// The text of `pending` and `bytes`; what may be the beginning of a letter stays in `pending`.
fn take_text(pending: &mut Vec<u8>, bytes: &[u8]) -> String {
    pending.extend_from_slice(bytes);
    let (mut text, mut from) = (String::new(), 0);
    let done = loop {
        match std::str::from_utf8(&pending[from..]) {
            Ok(rest) => {
                text.push_str(rest);
                break pending.len();
            }
            Err(error) => {
                let good = from + error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&pending[from..good]));
                let Some(bad) = error.error_len() else { break good };
                text.push(char::REPLACEMENT_CHARACTER);
                from = good + bad;
            }
        }
    };
    pending.drain(..done);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_whole_however_the_bytes_are_cut() {
        let mut pending = Vec::new();
        let mut seen = String::new();
        for byte in "grün ☃ 😀".as_bytes() {
            seen.push_str(&take_text(&mut pending, &[*byte]));
        }
        assert_eq!((seen.as_str(), pending.len()), ("grün ☃ 😀", 0));
        assert_eq!(take_text(&mut pending, b"a\xff\xfeb\xe2\x98"), "a\u{fffd}\u{fffd}b");
        assert_eq!(take_text(&mut pending, b"\x83"), "☃");
    }

    #[test]
    fn a_transcript_is_an_asciicast() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.cast");
        let start = Micros(1_795_253_400_500_000);
        let size = TermSize { cols: 100, rows: 30 };
        let mut cast = Cast::create(&path, start, size, &json!({ "title": "web-3" })).expect("created");
        let at = |ms: i64| start.plus(Micros(ms * 1000));
        cast.bytes(at(10), Way::Typed, b"ls\r").expect("written");
        cast.bytes(at(20), Way::Shown, b"\x1b[1mgr\xc3").expect("written");
        cast.resized(at(30), TermSize::default()).expect("written");
        cast.ended(at(1500), "closed").expect("written");
        assert!(Cast::create(&path, start, size, &json!({})).is_err(), "nothing is overwritten");
        let text = std::fs::read_to_string(&path).expect("readable");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"version":2,"width":100,"height":30,"timestamp":1795253400,"title":"web-3"}"#,
                r#"[0.01,"i","ls\r"]"#,
                r#"[0.02,"o","\u001b[1mgr"]"#,
                r#"[0.03,"r","80x24"]"#,
                "[1.5,\"o\",\"\u{fffd}\"]",
                r#"[1.5,"m","closed"]"#,
            ]
        );
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).expect("there"));
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_torn_transcript_is_ended() {
        let mut text = b"{\"version\":2}\n[1.25,\"o\",\"a\"]\n[1.5,\"o\",\"b".to_vec();
        mend(&mut text, "stopped");
        assert_eq!(text, b"{\"version\":2}\n[1.25,\"o\",\"a\"]\n[1.25,\"m\",\"stopped\"]\n");
        let ended = text.clone();
        mend(&mut text, "once more");
        assert_eq!(text, ended, "its end is known");
        let mut nothing = b"{\"ver".to_vec();
        mend(&mut nothing, "stopped");
        assert_eq!(nothing, b"[0.0,\"m\",\"stopped\"]\n");
    }

    #[test]
    fn a_full_transcript_takes_its_end_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cast = Cast::create(&folder.path().join("x"), Micros(0), TermSize::default(), &json!({}))
            .expect("created");
        cast.bytes = MAX;
        let full = cast.bytes(Micros(1), Way::Shown, b"x").expect_err("full");
        assert!(full.to_string().contains("64 MiB"), "{full}");
        cast.ended(Micros(2), "full").expect("the end fits");
    }
}
