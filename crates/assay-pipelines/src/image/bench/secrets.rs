//! Secrets that must not be seen: looked for in everything that a machine says, also where a chunk's end cuts them.

use std::collections::BTreeMap;

/// Shorter lines of a secret file are too common to be one.
const SHORTEST: usize = 8;

/// What must not be seen, and what was left over of each channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets {
    known: Vec<(String, Vec<u8>)>,
    rests: BTreeMap<String, Vec<u8>>,
}

impl Secrets {
    /// Adds each line of a secret file.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) {
        let lines =
            content.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| line.len() >= SHORTEST);
        self.known.extend(lines.map(|line| (name.to_owned(), line.to_vec())));
    }

    /// The names of secrets that these bytes complete.
    pub(super) fn seen(&mut self, channel: &str, bytes: &[u8]) -> Vec<String> {
        let Some(longest) = self.known.iter().map(|(_, secret)| secret.len()).max() else {
            return Vec::new();
        };
        let rest = self.rests.entry(channel.to_owned()).or_default();
        rest.extend_from_slice(bytes);
        let found = self.known.iter().filter(|(_, secret)| contains(rest, secret));
        let mut names: Vec<String> = found.map(|(name, _)| name.clone()).collect();
        names.dedup();
        let keep = rest.len().min(longest - 1);
        rest.drain(..rest.len() - keep);
        names
    }

    /// The names of secrets that are in a text.
    pub(super) fn within(&self, text: &[u8]) -> Vec<String> {
        let mut names: Vec<String> = self
            .known
            .iter()
            .filter(|(_, secret)| contains(text, secret))
            .map(|(name, _)| name.clone())
            .collect();
        names.dedup();
        names
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    memchr::memmem::find(text, wanted).is_some()
}

#[cfg(test)]
mod tests {
    use super::Secrets;

    #[test]
    fn a_secret_is_found_however_it_is_cut_and_nothing_else_is() {
        let mut secrets = Secrets::default();
        secrets.add("/token", b"hunter2hunter2\nshort\n");
        assert!(secrets.seen("serial", b"a short word, hunter2").is_empty());
        assert_eq!(secrets.seen("serial", b"hunter2 and more"), ["/token"]);
        assert!(secrets.seen("serial", b"nothing any more").is_empty(), "told once");
        assert!(secrets.seen("screen", b"hunter2").is_empty(), "channels are apart");
        assert_eq!(secrets.within(b"x: hunter2hunter2"), ["/token"]);
    }
}
