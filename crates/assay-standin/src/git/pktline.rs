//! Git's framing (gitprotocol-common), as far as pushes need it: which refs a client asks for, and what it is told.
//!
//! Both directions are read, never written: `git` itself does the talking. What a client sends may be anything.

use std::collections::HashMap;

use super::is_id;

/// One ref that a push asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) old: String,
    pub(super) new: String,
    pub(super) reference: String,
}

/// What a push asks for, read from the beginning of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commands {
    pub(super) commands: Vec<Command>,
    /// Whether the answer comes in bands.
    pub(super) side_band: bool,
}

/// The commands before the first flush; `None` where there is no flush in `bytes`, or they are not what Git sends.
pub(super) fn commands(bytes: &[u8]) -> Option<Commands> {
    let mut found = Commands { commands: Vec::new(), side_band: false };
    for line in Packets(bytes) {
        let Packet::Data(line) = line? else {
            return Some(found);
        };
        let (line, capabilities) = match line.iter().position(|byte| *byte == 0) {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &b""[..]),
        };
        if capabilities.split(|byte| *byte == b' ').any(|word| word.starts_with(b"side-band")) {
            found.side_band = true;
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.starts_with(b"shallow ") {
            continue;
        }
        let text = String::from_utf8_lossy(line);
        let mut words = text.splitn(3, ' ');
        let (old, new, reference) = (words.next()?, words.next()?, words.next()?);
        if !is_id(old) || !is_id(new) {
            return None;
        }
        let (old, new, reference) = (old.to_owned(), new.to_owned(), reference.to_owned());
        found.commands.push(Command { old, new, reference });
    }
    None
}

/// Why refs were refused, from the answer to a push; what cannot be read is left out.
pub(super) fn refusals(answer: &[u8], side_band: bool) -> HashMap<String, String> {
    let report: Vec<u8> = if side_band {
        let bands = Packets(answer).map_while(|packet| packet);
        bands
            .filter_map(|packet| match packet {
                Packet::Data([1, data @ ..]) => Some(data.to_vec()),
                _ => None,
            })
            .flatten()
            .collect()
    } else {
        answer.to_vec()
    };
    let mut refusals = HashMap::new();
    for packet in Packets(&report).map_while(|packet| packet) {
        let Packet::Data(line) = packet else { break };
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned();
        if let Some((reference, reason)) = text.strip_prefix("ng ").and_then(|rest| rest.split_once(' ')) {
            refusals.insert(reference.to_owned(), reason.to_owned());
        }
    }
    refusals
}

enum Packet<'a> {
    Data(&'a [u8]),
    Special,
}

/// Packets one by one; `None` once, and last, where the framing is broken or the bytes end within a packet.
struct Packets<'a>(&'a [u8]);

impl<'a> Iterator for Packets<'a> {
    type Item = Option<Packet<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let length = bytes
            .get(..4)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| usize::from_str_radix(digits, 16).ok());
        match length {
            Some(0..4) => {
                self.0 = &bytes[4..];
                Some(Some(Packet::Special))
            }
            Some(length) if length <= bytes.len() => {
                self.0 = &bytes[length..];
                Some(Some(Packet::Data(&bytes[4..length])))
            }
            _ => Some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Command, commands, refusals};

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn packet(text: &[u8]) -> Vec<u8> {
        [format!("{:04x}", text.len() + 4).as_bytes(), text].concat()
    }

    #[test]
    fn the_refs_of_a_push_are_read_up_to_the_pack() {
        let first = format!("{A} {B} refs/heads/x y\0 report-status side-band-64k agent=git/2");
        let second = format!("{B} {A} refs/heads/z\n");
        let shallow = format!("shallow {A}");
        let mut body =
            [packet(shallow.as_bytes()), packet(first.as_bytes()), packet(second.as_bytes())].concat();
        assert_eq!(commands(&body), None, "there is no flush yet");
        body.extend(b"0000PACK....");
        let found = commands(&body).expect("commands");
        assert!(found.side_band);
        let command = |old: &str, new: &str, reference: &str| Command {
            old: old.into(),
            new: new.into(),
            reference: reference.into(),
        };
        assert_eq!(found.commands, [command(A, B, "refs/heads/x y"), command(B, A, "refs/heads/z")]);
        assert_eq!(commands(b"0000").expect("a probe").commands, []);
        assert_eq!(commands(&[packet(b"hello"), b"0000".to_vec()].concat()), None);
    }

    #[test]
    fn the_reasons_are_found_with_and_without_bands() {
        let report = [
            packet(b"unpack ok\n"),
            packet(b"ok refs/heads/a\n"),
            packet(b"ng refs/heads/main hook declined\n"),
            b"0000".to_vec(),
        ]
        .concat();
        let (one, two) = report.split_at(11);
        let band = |number: u8, bytes: &[u8]| packet(&[&[number], bytes].concat());
        let banded = [band(2, b"error: no"), band(1, one), band(1, two), b"0000".to_vec()].concat();
        for found in [refusals(&report, false), refusals(&banded, true)] {
            assert_eq!(found.len(), 1);
            assert_eq!(found["refs/heads/main"], "hook declined");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), tail in "[0-9a-f]{0,40}") {
            for input in [bytes.clone(), [tail.as_bytes(), &bytes].concat()] {
                let _ = commands(&input);
                let _ = refusals(&input, true);
                let _ = refusals(&input, false);
            }
        }
    }
}
